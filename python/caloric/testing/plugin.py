"""The pytest plugin, which pytest loads by its entry point: fixtures, and the logs in the report of a failing test.

What it stands on is imported when a test asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from caloric._rust import VirtualClock
    from caloric.testing.function import LambdaFunction

__all__ = ["lambda_function", "lambda_functions", "virtual_clock"]

_TASK_ROOT = "lambda_task_root"
# By configuration: the functions that are not closed, of all fixtures.
_open_functions: pytest.StashKey[list[LambdaFunction]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what can be configured."""
    parser.addini(
        _TASK_ROOT,
        "Caloric: the folder with the Lambda function's code, seen from the configuration file (default: the rootdir)",
        default="",
    )


def _task_root(config: pytest.Config) -> str:
    configured = str(config.getini(_TASK_ROOT))
    base = config.rootpath if config.inipath is None else config.inipath.parent
    return str(base / configured) if configured else str(config.rootpath)


class _Factory:
    """What the fixtures give: a function that makes functions under test, and closes them at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._made: list[LambdaFunction] = []
        self._open = config.stash.setdefault(_open_functions, [])

    def __call__(self, handler: str, **options: Any) -> LambdaFunction:
        from caloric.testing.function import LambdaFunction

        if options.get("task_root") is None:
            options["task_root"] = _task_root(self._config)
        function = LambdaFunction(handler, **options)
        self._made.append(function)
        self._open.append(function)
        return function

    def __repr__(self) -> str:
        return f"<makes functions under test, {len(self._made)} so far>"

    def close(self) -> None:
        for function in reversed(self._made):
            function.close()
            self._open.remove(function)


def _factory(config: pytest.Config) -> Iterator[_Factory]:
    factory = _Factory(config)
    try:
        yield factory
    finally:
        factory.close()


@pytest.fixture
def lambda_function(request: pytest.FixtureRequest) -> Iterator[Callable[..., LambdaFunction]]:
    """Make functions under test, `lambda_function("app.handler", …)`, which are closed at the end of the test.

    The arguments are those of `caloric.testing.LambdaFunction`. `task_root` is by default what `lambda_task_root` says
    in pytest's configuration, and without that the rootdir.
    """
    yield from _factory(request.config)


@pytest.fixture(scope="session")
def lambda_functions(request: pytest.FixtureRequest) -> Iterator[Callable[..., LambdaFunction]]:
    """Make functions under test as `lambda_function` does, for fixtures of a wider scope.

    They are closed at the end of the session, unless that was done before.
    """
    yield from _factory(request.config)


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock that a test can put forward, for `lambda_function(…, clock=virtual_clock)`: `virtual_clock.advance(5)`.

    See `caloric._rust.VirtualClock`.
    """
    from caloric._rust import VirtualClock

    return VirtualClock()


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Put what functions wrote in this phase of the test into its report, which shows it when the test fails."""
    for function in item.config.stash.get(_open_functions, ()):
        logs = function._take_logs()
        if logs:
            item.add_report_section(call.when, f"Lambda logs of {function.handler}", logs)
    yield
