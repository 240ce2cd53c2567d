"""`--layer`: what a function finds of its layers, under Caloric and under other runtimes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtimes import environment as variables_for

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

CALORIC = str(Path(sysconfig.get_path("scripts")) / "caloric")
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
FUNCTION = """
    import subprocess, sys
    import mine, shared, versioned, from_pth

    def handler(event, context):
        tool = subprocess.run(["layer-tool"], stdout=subprocess.PIPE).stdout.decode()
        return [mine.value, shared.value, versioned.value, tool]
"""


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    """A folder and a zip file: packages, a program, an extension."""
    first, second = tmp_path / "first", tmp_path / "second.zip"
    for name, text in {
        "python/shared.py": "value = 'of the first'",
        "python/mine.py": "value = 'of a layer'",
        "python/beside/from_pth.py": "",
        "python/beside.pth": "beside",
    }.items():
        file = first / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with zipfile.ZipFile(second, "w") as archive:
        archive.writestr("python/shared.py", "value = 'of the second'")
        archive.writestr(f"python/lib/{PYTHON}/site-packages/versioned.py", "value = 'versioned'")
        tool = zipfile.ZipInfo("bin/layer-tool")
        tool.external_attr = 0o100755 << 16
        archive.writestr(tool, "#!/bin/sh\nprintf tool")
    return ["--layer", str(first), "--layer", str(second)]


def run(*command: str, folder: Path, machines: Path) -> tuple[Any, list[str]]:
    machines.mkdir()
    variables = {**variables_for(""), "TMPDIR": str(machines)}
    del variables["AWS_LAMBDA_RUNTIME_API"]
    done = subprocess.run([CALORIC, *command], cwd=folder, env=variables, capture_output=True, timeout=50)
    assert not os.listdir(machines), "nothing is left of them"
    return json.loads(done.stdout or b"null"), done.stderr.decode().splitlines()


def test_a_function_finds_what_is_in_its_layers(
    write_function: WriteFunction, layers: list[str], tmp_path: Path
) -> None:
    folder = write_function(FUNCTION)
    (folder / "mine.py").write_text("value = 'of the function'")
    result, log = run("invoke", "app.handler", *layers, folder=folder, machines=tmp_path / "tmp")
    assert result == ["of the function", "of the second", "versioned", "tool"]
    assert [line.split(" ")[0] for line in log] == ["START", "END", "REPORT"]


def test_another_runtime_finds_them_too(
    write_function: WriteFunction, layers: list[str], tmp_path: Path
) -> None:
    # It knows nothing of `.pth` files in layers where the managed runtime's start script does not run.
    folder = write_function(FUNCTION.replace(", from_pth", ""))
    command = f"{sys.executable} -m awslambdaric app.handler"
    result, _ = run(
        "invoke", "app.handler", *layers, "--runtime", command, folder=folder, machines=tmp_path / "tmp"
    )
    assert result == ["of a layer", "of the second", "versioned", "tool"]


WATCHER = f"""#!{sys.executable} -IS
import os
from http.client import HTTPConnection

api = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
name = {{"Lambda-Extension-Name": os.path.basename(__file__)}}
api.request("POST", "/2020-01-01/extension/register", b'{{"events": ["INVOKE"]}}', name)
answer = api.getresponse()
identifier = {{"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}}
answer.read()
while True:
    api.request("GET", "/2020-01-01/extension/event/next", headers=identifier)
    print("watched", api.getresponse().read()[:21].decode(), flush=True)
"""


def test_extensions_in_a_layer_are_started(write_function: WriteFunction, tmp_path: Path) -> None:
    extension = tmp_path / "layer/extensions/watcher"
    extension.parent.mkdir(parents=True)
    extension.write_text(WATCHER)
    extension.chmod(0o755)
    command = ["invoke", "app.handler", "--layer", str(tmp_path / "layer")]
    folder = write_function("def handler(event, context): return 1")
    result, log = run(*command, folder=folder, machines=tmp_path / "tmp")
    assert result == 1
    assert any(line.startswith("[watcher] watched") and "INVOKE" in line for line in log)


def test_a_layer_can_switch_all_extensions_off(write_function: WriteFunction, tmp_path: Path) -> None:
    extension = tmp_path / "layer/extensions/watcher"
    extension.parent.mkdir(parents=True)
    extension.write_text(WATCHER)
    extension.chmod(0o755)
    (tmp_path / "layer/disable-extensions-jwigqn8j").touch()
    folder = write_function("""
        import os
        from http.client import HTTPConnection

        def handler(event, context):
            answers = []
            for method, path in (
                ("POST", "/2020-01-01/extension/register"),
                ("GET", "/2020-01-01/extension/event/next"),
                ("POST", "/2020-01-01/extension/init/error"),
                ("PUT", "/2022-07-01/telemetry"),
                ("PUT", "/2020-08-15/logs"),
            ):
                api = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
                api.request(method, path, "{}", {"Lambda-Extension-Name": "internal"})
                answer = api.getresponse()
                answers.append([answer.status, answer.read().decode()])
            return answers
    """)
    command = ["invoke", "app.handler", "--layer", str(tmp_path / "layer"), "--extension", str(extension)]
    result, log = run(*command, folder=folder, machines=tmp_path / "tmp")
    assert result == [[404, ""]] * 5
    assert [line.split(" ")[0] for line in log] == ["START", "END", "REPORT"]


def test_an_extension_that_cannot_be_executed_is_a_mistake(tmp_path: Path) -> None:
    extension = tmp_path / "layer/extensions/watcher"
    extension.parent.mkdir(parents=True)
    extension.write_text("")
    command = ["invoke", "app.handler", "--layer", str(tmp_path / "layer")]
    _, log = run(*command, folder=tmp_path, machines=tmp_path / "tmp")
    assert log == ["caloric invoke: the extension 'watcher' of a layer is not executable"]


def test_the_runtime_itself_may_be_in_a_layer(tmp_path: Path) -> None:
    layer = tmp_path / "layer/bin/my-runtime"
    layer.parent.mkdir(parents=True)
    layer.write_text("#!/bin/sh\nexit 7\n")
    layer.chmod(0o755)
    error, _ = run(
        "invoke",
        "app.handler",
        "--layer",
        str(tmp_path / "layer"),
        "--runtime",
        "my-runtime",
        folder=tmp_path,
        machines=tmp_path / "tmp",
    )
    assert "exit status 7" in error["errorMessage"]


def test_a_module_in_the_wrong_place_of_a_layer_is_named(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "misplaced.py").write_text("")
    folder = write_function("import misplaced\ndef handler(event, context): pass")
    result, log = run(
        "invoke", "app.handler", "--layer", str(layer), folder=folder, machines=tmp_path / "tmp"
    )
    assert result["errorType"] == "Runtime.ImportModuleError"
    assert any("the layer's zip must hold a folder python" in line for line in log)


@pytest.mark.parametrize("command", [["invoke", "app.handler"], ["emulate", "--port", "0"]])
def test_a_layer_that_cannot_be_used_is_a_mistake(command: list[str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../x", "")
    end = ["--", "true"] if command[0] == "emulate" else []
    _, log = run(*command, "--layer", "bad.zip", *end, folder=tmp_path, machines=tmp_path / "tmp")
    assert log == [f"caloric {command[0]}: the layer 'bad.zip' has the path '../x', which leads outside"]
