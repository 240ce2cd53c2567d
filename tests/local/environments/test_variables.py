"""Whose credentials a function gets, and that they are shown nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from caloric.local.environments.variables import MADE_UP, Credentials, CredentialsSource, HiddenVariables

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "secret of the environment"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    aws = tmp_path / ".aws"
    aws.mkdir()
    (aws / "credentials").write_text(
        "[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key = 100%s%(x)\n"
        "[work]\naws_access_key_id = AKWORK\naws_secret_access_key = s\naws_session_token = t\n"
    )
    (aws / "config").write_text(
        "[default]\nregion = eu-west-1\n"
        "[profile config-only]\naws_access_key_id = AKCONFIG\naws_secret_access_key = s\n"
        "[profile region-only]\nregion = eu-west-1\n"
        "[profile program]\ncredential_process = echo "
        '\'{"Version": 1, "AccessKeyId": "AKPROGRAM", "SecretAccessKey": "s", "SessionToken": "t"}\'\n'
        "[profile broken]\ncredential_process = false\n"
    )
    return tmp_path


def current(home: Path, **variables: str) -> Credentials:
    return CredentialsSource({"HOME": str(home), **variables}).current()


def test_those_in_the_environment_are_passed_through(home: Path) -> None:
    assert current(home, **ENVIRONMENT).access_key_id == "AKENV"
    with_token = current(home, **ENVIRONMENT, AWS_SESSION_TOKEN="token")
    assert with_token.variables()["AWS_SESSION_TOKEN"] == "token"
    assert "AWS_SESSION_TOKEN" not in current(home, **ENVIRONMENT).variables()


def test_those_of_the_profile_are_read_from_its_file(home: Path) -> None:
    assert current(home) == Credentials("AKDEFAULT", "100%s%(x)")
    assert current(home, AWS_PROFILE="work") == Credentials("AKWORK", "s", "t")
    assert current(home, AWS_PROFILE="config-only").access_key_id == "AKCONFIG"
    assert current(home, AWS_PROFILE="work", **ENVIRONMENT).access_key_id == "AKWORK"
    assert current(home, AWS_SHARED_CREDENTIALS_FILE="/nowhere") == MADE_UP


def test_a_profile_with_a_program_is_asked_through_botocore(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / ".aws" / "config"))
    found = current(home, AWS_PROFILE="program", AWS_CONFIG_FILE=str(home / ".aws" / "config"))
    assert found == Credentials("AKPROGRAM", "s", "t")


def test_without_any_they_are_made_up(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / ".aws" / "config"))
    assert current(tmp_path / "nobody") == MADE_UP
    assert current(home, AWS_PROFILE="region-only") == MADE_UP
    assert current(home, AWS_PROFILE="broken") == MADE_UP
    (home / ".aws" / "credentials").write_text("no ini file")
    (home / ".aws" / "config").unlink()
    assert current(home) == MADE_UP


def test_secrets_do_not_show() -> None:
    credentials = Credentials("AK", "very secret", "very secret token")
    assert "very secret" not in repr(credentials)
    variables = HiddenVariables(PASSWORD="very secret", TABLE="t")
    assert repr(variables) == str(variables) == "<variables PASSWORD, TABLE>"
