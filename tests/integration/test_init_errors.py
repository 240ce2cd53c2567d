"""Handler strings, and what is said when the handler cannot be loaded (spec runtime-api 4.2 to 4.4)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scripted_run import initialize, invoke, peers_initialize
from tests.runtimes import CALORIC, start
from tests.scripted_api import ScriptedApi, status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteFunction

pytestmark = pytest.mark.parametrize("way", CALORIC)

FILES = {
    "app.py": """
        def handler(event, context): return "app"
        class Klass:
            @staticmethod
            def method(event, context): return "method"
        value = 7
    """,
    "pkg/__init__.py": 'def handler(event, context): return "pkg"',
    "pkg/mod.py": 'def handler(event, context): return "pkg.mod"',
    "pkg/sub/deep.py": 'def handler(event, context): return "pkg.sub.deep"',
    "lambda.py": 'def handler(event, context): return "lambda"',
    "with-dash.py": 'def handler(event, context): return "with-dash"',
    "münchen.py": 'def größe(event, context): return "münchen"',
    "bad_syntax.py": "def handler(:\n    pass\n",
    "bad_indent.py": "if True:\npass\n",
    "bad_bytes.py": 'x = "\\x00"\n',
    "imports_bad_syntax.py": "import bad_syntax\n",
    "needs_missing.py": "import missing_dependency\n",
    "needs_missing_name.py": "from os import no_such_name\n",
    "raises_import_error.py": 'raise ImportError("on purpose: ü")\n',
    "raises.py": 'def fail():\n    raise ValueError("on purpose")\n\nfail()\n',
    "divides.py": "1 / 0\n",
    "raises_attribute_error.py": "import os\nos.no_such\n",
    "raises_unicode.py": 'raise RuntimeError("größer als 日本 😀")\n',
    "raises_empty.py": "raise RuntimeError\n",
    "recurses.py": "def f(): f()\nf()\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from textwrap import dedent

    root = tmp_path_factory.mktemp("task")
    for name, source in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source).lstrip(), encoding="utf-8")
    (root / "null_byte.py").write_bytes(b"x = '\x00'\n")
    return root


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        ("app.handler", "app"),
        ("pkg.handler", "pkg"),
        ("pkg.mod.handler", "pkg.mod"),
        ("pkg/mod.handler", "pkg.mod"),
        ("pkg/sub/deep.handler", "pkg.sub.deep"),
        ("pkg.sub/deep.handler", "pkg.sub.deep"),
        ("lambda.handler", "lambda"),
        ("with-dash.handler", "with-dash"),
        ("münchen.größe", "münchen"),
    ],
)
def test_handler_strings_that_name_a_function(way: str, folder: Path, handler: str, result: str) -> None:
    assert invoke(way, folder, handler=handler).results == [result]


def test_a_module_of_the_standard_library_is_allowed(way: str, write_function: WriteFunction) -> None:
    # json.dumps(event, context) fails, for dumps takes one positional argument; it was found and called, though.
    (document,) = invoke(way, write_function(""), handler="json.dumps").results
    assert document["errorType"] == "TypeError"
    assert document["errorMessage"].startswith("dumps() takes 1 positional argument but 2 were given")


def test_the_handler_may_come_from_the_environment(way: str, folder: Path) -> None:
    import subprocess

    from tests.runtimes import COMMANDS, environment
    from tests.scripted_api import ACCEPTED, event

    with ScriptedApi([event(), ACCEPTED]) as api:
        env = environment(api.address, _HANDLER="pkg/mod.handler")
        with subprocess.Popen(COMMANDS[way], cwd=folder, env=env) as process:
            answer = api.wait_for(2)[1].json()
            process.kill()
    assert answer == "pkg.mod"


def comparable(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what depends on the depth of the stack: the frame of importlib, which we do not load."""
    trace = [entry for entry in document["stackTrace"] if "/importlib/__init__.py" not in entry]
    trace = [re.sub(r"repeated \d+ more times", "repeated", entry) for entry in trace]
    return {**document, "stackTrace": trace}


@pytest.mark.parametrize(
    ("handler", "error_type"),
    [
        ("app", "Runtime.MalformedHandlerName"),
        ("ümlaut", "Runtime.MalformedHandlerName"),
        (".app", "ValueError"),
        ("..app", "TypeError"),
        ("/pkg/mod.handler", "TypeError"),
        ("./app.handler", "TypeError"),
        ("sys.exit", "Runtime.BuiltInModuleConflict"),
        ("time.time", "Runtime.BuiltInModuleConflict"),
        ("sys.path.append", "Runtime.BuiltInModuleConflict"),
        ("sys/foo.handler", "Runtime.ImportModuleError"),
        ("app.Klass.method", "Runtime.ImportModuleError"),
        ("app.", "Runtime.HandlerNotFound"),
        ("app.missing", "Runtime.HandlerNotFound"),
        ("pkg/mod.missing", "Runtime.HandlerNotFound"),
        ("missing.handler", "Runtime.ImportModuleError"),
        ("pkg/missing.handler", "Runtime.ImportModuleError"),
        ("missing/mod.handler", "Runtime.ImportModuleError"),
        ("needs_missing.handler", "Runtime.ImportModuleError"),
        ("needs_missing_name.handler", "Runtime.ImportModuleError"),
        ("raises_import_error.handler", "Runtime.ImportModuleError"),
        ("bad_syntax.handler", "Runtime.UserCodeSyntaxError"),
        ("bad_indent.handler", "Runtime.UserCodeSyntaxError"),
        ("imports_bad_syntax.handler", "Runtime.UserCodeSyntaxError"),
        ("null_byte.handler", None),
        ("raises.handler", "ValueError"),
        ("divides.handler", "ZeroDivisionError"),
        ("raises_attribute_error.handler", "AttributeError"),
        ("raises_unicode.handler", "RuntimeError"),
        ("raises_empty.handler", "RuntimeError"),
        ("recurses.handler", "RecursionError"),
    ],
)
def test_the_document_is_the_peers(way: str, folder: Path, handler: str, error_type: str | None) -> None:
    run, peer = initialize(way, folder, handler), peers_initialize(folder, handler)
    (post,), (peers_post,) = run.posts, peer.posts
    assert comparable(post.json()) == comparable(peers_post.json())
    assert list(post.json()) == list(peers_post.json())
    if error_type is not None:
        assert post.json()["errorType"] == error_type
    assert post.path == "/2018-06-01/runtime/init/error"
    name = "lambda-runtime-function-error-type"
    assert post.headers[name] == peers_post.headers[name] == post.json()["errorType"]
    assert run.exit_status == peer.exit_status == 1
    assert run.stderr == peer.stderr == ""


@pytest.mark.parametrize("handler", ["missing.handler", "bad_syntax.handler", "raises.handler"])
def test_the_error_is_logged_as_the_peer_logs_it(way: str, folder: Path, handler: str) -> None:
    def lines(stdout: str) -> tuple[str, str]:
        advice, _, error = stdout.partition("\r\n")
        frames = [
            f for f in error.split("\r") if "importlib/__init__.py" not in f and "import_module" not in f
        ]
        return advice, "\r".join(f for f in frames if "_gcd_import(name[level:]" not in f)

    advice, error = lines(initialize(way, folder, handler).masked_stdout)
    _, peers_error = lines(peers_initialize(folder, handler).masked_stdout)
    assert advice.startswith("[WARNING]\t<time>\t\tLAMBDA_WARNING: Unhandled exception.")
    assert "https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html" in advice
    assert error == peers_error
    assert error.startswith("[ERROR] ")
    assert error.endswith("\n")


@pytest.mark.parametrize("version", ["", "AWS_Lambda_python3.12"])
def test_the_document_is_utf8_in_every_mode(way: str, folder: Path, version: str) -> None:
    # The peer sends Latin-1 in its newer mode, or nothing at all (spec 4.4).
    (post,) = initialize(way, folder, "raises_unicode.handler", AWS_EXECUTION_ENV=version).posts
    assert json.loads(post.body.decode("utf-8"))["errorMessage"] == "größer als 日本 😀"


@pytest.mark.parametrize(
    ("source", "exit_status"),
    [
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit(0)", 0),
        ("import sys; sys.exit('a message')", 1),
        ("raise KeyboardInterrupt", -2),
        ("class Mine(BaseException): pass\nraise Mine('on purpose')", 1),
        ("import os; os._exit(9)", 9),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_what_is_no_exception_ends_the_process_unreported(
    way: str, write_function: WriteFunction, source: str, exit_status: int
) -> None:
    run = initialize(way, write_function(source))
    assert run.posts == []
    assert run.exit_status == exit_status
    assert ("on purpose" in run.stderr) == ("on purpose" in source)
    assert ("a message\n" in run.stderr) == ("a message" in source)


@pytest.mark.parametrize("refusal", [403, 413, 500])
def test_an_error_that_is_not_accepted_ends_the_process_with_one_clear_line(
    way: str, folder: Path, refusal: int
) -> None:
    with (
        ScriptedApi([status(refusal)]) as api,
        start(way, "missing.handler", folder, api.address) as process,
    ):
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert api.calls() == ["error"]
    assert f"{refusal}" in err.decode()
    assert err.count(b"\n") == 1
    assert b"Unable to import module 'missing'" in out


def test_a_huge_message_is_cropped(way: str, write_function: WriteFunction) -> None:
    (post,) = initialize(way, write_function("raise ValueError('m' * 3_000_000)")).posts
    document = post.json()
    assert len(post.body) < 256 * 1024
    assert document["errorMessage"].startswith("mmmm")
    assert document["errorType"] == "ValueError"


@pytest.mark.parametrize("name", ["surrogate", "str_fails"])
def test_an_error_that_cannot_be_written_is_reported_all_the_same(
    way: str, write_function: WriteFunction, name: str
) -> None:
    source = {
        "surrogate": "raise ValueError('\\ud800')",
        "str_fails": "class Odd(Exception):\n    def __str__(self): raise KeyError('x')\nraise Odd",
    }[name]
    folder = write_function("")
    (folder / "app.py").write_text(source)
    (post,) = initialize(way, folder).posts
    assert post.json()["errorType"] == {"surrogate": "ValueError", "str_fails": "Odd"}[name]
