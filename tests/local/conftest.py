"""Fixtures for the local Lambda."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import boto3
import pytest
from botocore.config import Config

from caloric.local.local_lambda import LocalLambda, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StartLocalLambda(Protocol):
    """The type of the `start_local_lambda` fixture."""

    def __call__(self, **settings: Any) -> LocalLambda: ...


@pytest.fixture
def start_local_lambda(tmp_path: Path) -> Iterator[StartLocalLambda]:
    """Return a function that starts the service in the test's process, on a free port, within milliseconds.

    The data directory is the test's own unless `data` is given: starting twice, with the first one closed, is a
    restart.
    """
    started: list[LocalLambda] = []

    def start(**settings: Any) -> LocalLambda:
        service = LocalLambda(Settings(**{"data": tmp_path / "data", "port": 0, **settings}))
        started.append(service)
        return service

    yield start
    for service in started:
        service.close()


@pytest.fixture
def local_lambda(start_local_lambda: StartLocalLambda) -> LocalLambda:
    """Return a running service."""
    return start_local_lambda()


@pytest.fixture
def client(local_lambda: LocalLambda) -> Iterator[Any]:
    """Return a boto3 client of `local_lambda`, that tries nothing twice."""
    with_boto3 = connect(local_lambda.url)
    yield with_boto3
    with_boto3.close()


def connect(url: str) -> Any:
    """Return a boto3 client for the service at `url`."""
    return boto3.client(
        "lambda",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=32, read_timeout=50),
    )
