"""The options and variables of AWS's emulator that are about the emulator itself and its runtime's environment."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from caloric.cli import UserMistake, aws_emulator
from caloric.cli.options import Parser
from tests.emulator.emulators import CALORIC, Emulator, script
from tests.emulator.rows import shows
from tests.parts import rie
from tests.ports import free_port
from tests.runtimes import environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.emulator.emulators import Kind

ENVIRONMENT = (
    "while True:\n    rid, _ = take()\n    respond(rid, [dict(os.environ), os.getcwd(), sys.argv])\n"
)


def seen(kind: Kind, folder: Path, *arguments: str, options: Any = (), **variables: str) -> dict[str, str]:
    """The environment variables of a runtime."""
    command = [*script(folder, ENVIRONMENT), *arguments]
    with Emulator(kind, folder, command, options=options, variables=variables) as emulator:
        environ, cwd, _ = emulator.invoke().json()
    assert cwd == str(folder)
    found: dict[str, str] = environ
    return found


@shows("`--runtime-api-address`")
def test_the_runtime_api_listens_where_it_is_told_to(kind: Kind, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    environ = seen(kind, tmp_path, options=("--runtime-api-address", address))
    assert environ["AWS_LAMBDA_RUNTIME_API"] == address


@shows("`--log-level`, `LOG_LEVEL`")
@pytest.mark.parametrize("level", ["error", "WARNING", "info", "trace"])
def test_the_log_level_is_about_the_emulators_own_lines(kind: Kind, tmp_path: Path, level: str) -> None:
    command = script(tmp_path, ENVIRONMENT)
    own = "(rapid)" if kind == "aws" else "caloric emulate:"
    for options, variables in (
        (["--log-level", level], {}),
        ([], {"LOG_LEVEL": level}),
        (["--log-level", level], {"LOG_LEVEL": "panic"}),
    ):
        with Emulator(kind, tmp_path, command, options=options, variables=variables) as emulator:
            assert emulator.invoke().json()[0].get("LOG_LEVEL") == variables.get("LOG_LEVEL")
            log = emulator.wait_for_log(lambda log: "START RequestId" in log)
        assert (own in log) == (level in ("info", "trace"))


@shows("an option's value that is none")
@pytest.mark.parametrize(
    "options",
    [
        ["--log-level", "loud"],
        ["--runtime-api-address", "nowhere"],
        ["--runtime-interface-emulator-address", "nowhere"],
    ],
)
def test_a_value_that_is_none_ends_the_command_with_a_reason(
    kind: Kind, tmp_path: Path, options: list[str]
) -> None:
    program = [str(rie())] if kind == "aws" else [CALORIC, "emulate"]
    run = subprocess.run(
        [*program, *options, "true"],
        cwd=tmp_path,
        env=environment(""),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode != 0
    output = run.stdout + run.stderr
    assert options[0].lstrip("-").replace("-", " ") in output.replace("-", " ")
    assert options[1] in output


@shows("`AWS_LAMBDA_FUNCTION_HANDLER`, `_HANDLER`", "the handler, where no variable names it")
def test_the_handler_is_the_variables_or_the_last_argument(kind: Kind, tmp_path: Path) -> None:
    assert seen(kind, tmp_path, "app.handler")["_HANDLER"] == "app.handler"
    assert seen(kind, tmp_path, "app.handler", _HANDLER="other.one")["_HANDLER"] == "other.one"
    both = {"AWS_LAMBDA_FUNCTION_HANDLER": "my.one", "_HANDLER": "other.one"}
    assert seen(kind, tmp_path, "app.handler", **both)["_HANDLER"] == "my.one"


@shows("`AWS_LAMBDA_LOG_GROUP_NAME`, `AWS_LAMBDA_LOG_STREAM_NAME`")
def test_the_names_of_the_log_are_handed_on(kind: Kind, tmp_path: Path) -> None:
    names = {"AWS_LAMBDA_LOG_GROUP_NAME": "/my/group", "AWS_LAMBDA_LOG_STREAM_NAME": "my-stream"}
    assert names.items() <= seen(kind, tmp_path, **names).items()


def test_without_them_the_log_has_names_of_the_services_form(kind: Kind, tmp_path: Path) -> None:
    environ = seen(kind, tmp_path, AWS_LAMBDA_FUNCTION_NAME="orders")
    group = environ["AWS_LAMBDA_LOG_GROUP_NAME"]
    assert group == ("/aws/lambda/Functions" if kind == "aws" else "/aws/lambda/orders")
    assert environ["AWS_LAMBDA_LOG_STREAM_NAME"].endswith("$LATEST") == (kind == "aws")


@shows("`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`", "`AWS_REGION`")
def test_credentials_and_region_are_handed_on(kind: Kind, tmp_path: Path) -> None:
    given = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_SESSION_TOKEN": "not-a-token",
        "AWS_REGION": "eu-central-1",
    }
    assert given.items() <= seen(kind, tmp_path, **given).items()


def test_credentials_that_are_not_there_are_not_there(kind: Kind, tmp_path: Path) -> None:
    assert seen(kind, tmp_path).get("AWS_ACCESS_KEY_ID") == ("" if kind == "aws" else None)


@shows("`LAMBDA_TASK_ROOT`")
def test_the_task_root_is_handed_on(kind: Kind, tmp_path: Path) -> None:
    assert seen(kind, tmp_path, LAMBDA_TASK_ROOT="/function")["LAMBDA_TASK_ROOT"] == "/function"


def test_with_init_caching_there_are_routes_for_the_restore(kind: Kind, tmp_path: Path) -> None:
    source = (
        "status, _, _ = call('GET', '/runtime/restore/next')\nrid, _ = take()\nrespond(rid, status)\ntake()\n"
    )
    command = script(tmp_path, source)
    with Emulator(kind, tmp_path, command) as emulator:
        assert emulator.invoke().json() == 404
    if kind == "caloric":
        # After AWS's emulator has restored the runtime no event comes.
        with Emulator(kind, tmp_path, command, options=["--enable-init-caching"]) as emulator:
            assert emulator.invoke().json() == 200


# ---- ours alone ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (":9000", ("0.0.0.0", 9000)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert aws_emulator.address(text) == address


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:99999", "::1:80", "host:-1", "host:٣"])
def test_anything_else_is_no_address(text: str) -> None:
    import argparse

    with pytest.raises(argparse.ArgumentTypeError, match="HOST:PORT"):
        aws_emulator.address(text)


@pytest.mark.parametrize(
    ("argv", "own", "command"),
    [
        ("--port 0 -- python -m x --port 1", "--port 0", "python -m x --port 1"),
        ("--port 0 python -m x --port 1", "--port 0", "python -m x --port 1"),
        ("--port=0 --no-freeze x", "--port=0 --no-freeze", "x"),
        (
            "x --log-level debug y --runtime-api-address=a:1",
            "--log-level debug --runtime-api-address=a:1",
            "x y",
        ),
        ("x -- --log-level debug", "", "x -- --log-level debug"),
        ("--port", "--port", ""),
        ("--unknown x", "--unknown", "x"),
        ("", "", ""),
    ],
)
def test_the_command_begins_where_the_options_end(argv: str, own: str, command: str) -> None:
    parser = Parser("emulate", "", "")
    parser.add_argument("--port")
    parser.add_argument("--no-freeze", action="store_true")
    aws_emulator.add_aws_options(parser)
    assert aws_emulator.split(parser, argv.split()) == (own.split(), command.split())


def test_a_variable_that_is_no_level_is_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "10")
    assert not aws_emulator.is_quiet(None)
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    assert aws_emulator.is_quiet(None)
    assert not aws_emulator.is_quiet("info")


def test_without_command_and_bootstrap_the_places_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_emulator, "BOOTSTRAPS", ("/no/bootstrap", "/nor/here"))
    with pytest.raises(UserMistake, match=r"after --, .*there is no /no/bootstrap, /nor/here either"):
        aws_emulator.find_bootstrap()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"AWS_REGION": "EU Central"}, "the variable AWS_REGION: 'EU Central' is no region"),
        ({"AWS_ACCOUNT_ID": "12"}, "the variable AWS_ACCOUNT_ID: '12' is not 12 digits"),
        ({"AWS_LAMBDA_FUNCTION_VERSION": "a\x01"}, "function_version holds control characters"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "a\x01"}, "function_name holds control characters"),
    ],
)
def test_a_variable_that_cannot_be_is_a_mistake_that_names_it(
    tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    command = [CALORIC, "emulate", "--port", "0", "--", "true"]
    env = environment("", **variables)
    run = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 2
    assert sentence in run.stderr


def test_two_ways_to_say_where_to_listen_are_one_too_many(tmp_path: Path) -> None:
    command = [CALORIC, "emulate", "--port", "0", "--runtime-interface-emulator-address", ":0", "true"]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment(""), capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 2
    assert "names host and port; leave out --host and --port" in run.stderr


def test_region_and_account_are_in_the_arn(tmp_path: Path) -> None:
    source = "_, headers, _ = call('GET', '/runtime/invocation/next')\n" + (
        "respond(headers['Lambda-Runtime-Aws-Request-Id'], headers['Lambda-Runtime-Invoked-Function-Arn'])\ntake()\n"
    )
    variables = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCOUNT_ID": "123412341234"}
    with Emulator("caloric", tmp_path, script(tmp_path, source), variables=variables) as emulator:
        arn = emulator.invoke().json()
    assert arn == "arn:aws:lambda:eu-west-1:123412341234:function:test_function"
    run = subprocess.run(
        [CALORIC, "invoke", "app.handler"],
        cwd=tmp_path,
        env=environment("", AWS_REGION="eu-west-1"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert json.loads(run.stdout)["errorType"] == "Runtime.ImportModuleError"
