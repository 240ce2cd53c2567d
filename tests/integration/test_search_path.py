"""`sys.path` and what else `site` sets up, for both ways in (spec runtime-api 3.6, design section 2)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.scripted_run import PEER, invoke, peers_invoke
from tests.runtimes import BOOTSTRAP, CALORIC, environment
from tests.scripted_api import ACCEPTED, ScriptedApi, event

if TYPE_CHECKING:
    from tests.conftest import WriteFunction

PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
LAYERS = [f"/opt/python/lib/{PYTHON}/site-packages", "/opt/python"]
MANAGED = [path for path in [f"/var/lang/lib/{PYTHON}/site-packages"] if Path(path).exists()]

SHOW_PATH = """
    import os, sys

    def handler(event, context):
        return {"path": sys.path, "PYTHONPATH": os.environ.get("PYTHONPATH")}
"""


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A virtual environment without any package, so without any `.pth` file: an interpreter as images have it."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin/python")


def site_packages(python: str) -> str:
    return str(Path(python).parent.parent / f"lib/{PYTHON}/site-packages")


def standard_library(python: str) -> list[str]:
    """The three entries that the interpreter itself makes."""
    code = "import json, sys; print(json.dumps(sys.path))"
    run = subprocess.run(
        [python, "-S", "-I", "-c", code], capture_output=True, check=True, env=environment("")
    )
    path: list[str] = json.loads(run.stdout)
    assert len(path) == 3
    return path


def fast(python: str, folder: Path, **variables: str) -> Any:
    """What the function returns when the fast way in runs it on `python`."""
    with ScriptedApi([event(), ACCEPTED]) as api:
        command = [python, "-S", str(BOOTSTRAP), "app.handler"]
        with subprocess.Popen(command, cwd=folder, env=environment(api.address, **variables)) as process:
            answer = api.wait_for(2)[1].json()
            process.kill()
    return answer


def test_the_order_is_the_managed_runtimes(bare_python: str, write_function: WriteFunction) -> None:
    folder = write_function(SHOW_PATH)
    answer = fast(bare_python, folder, LAMBDA_RUNTIME_DIR="/var/runtime")
    first = [str(folder), *LAYERS, *MANAGED, "/var/runtime", *standard_library(bare_python)]
    assert answer["path"] == [*first, site_packages(bare_python), str(BOOTSTRAP.parent.parent)]
    assert answer["PYTHONPATH"] == "/var/runtime", "child processes find what the runtime brings"


def test_without_a_runtime_folder_python_path_stays_unset(
    bare_python: str, write_function: WriteFunction
) -> None:
    answer = fast(bare_python, write_function(SHOW_PATH))
    assert "/var/runtime" not in answer["path"]
    assert answer["PYTHONPATH"] is None


def test_the_task_root_is_first_and_the_working_directory_is_not_on_the_path(
    bare_python: str, write_function: WriteFunction, tmp_path: Path
) -> None:
    folder = write_function(SHOW_PATH)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    answer = fast(bare_python, elsewhere, LAMBDA_TASK_ROOT=str(folder))
    assert answer["path"][:3] == [str(folder), *LAYERS]
    assert str(elsewhere) not in answer["path"]
    assert "" not in answer["path"]


def test_a_given_python_path_replaces_the_layers(
    bare_python: str, write_function: WriteFunction, tmp_path: Path
) -> None:
    folder = write_function(SHOW_PATH)
    given = f"{tmp_path}/one:{tmp_path}/two:{folder}"
    answer = fast(bare_python, folder, PYTHONPATH=given, LAMBDA_RUNTIME_DIR="/var/runtime")
    assert answer["path"][:3] == [str(folder), f"{tmp_path}/one", f"{tmp_path}/two"]
    assert answer["path"].count(str(folder)) == 1
    assert not {*LAYERS, "/var/runtime"} & {*answer["path"]}
    assert answer["PYTHONPATH"] == given


def test_python_minus_m_has_the_peers_path(write_function: WriteFunction) -> None:
    folder = write_function(SHOW_PATH)
    ours = invoke("module", folder).results
    assert ours == peers_invoke(folder, event()).results
    assert ours[0]["path"][0] == str(folder)


def test_the_interpreters_own_packages_are_found(write_function: WriteFunction) -> None:
    source = """
        import pytest, boto3

        def handler(event, context):
            return pytest.__file__
    """
    assert invoke("fast", write_function(source)).results == [pytest.__file__]


@pytest.mark.parametrize("way", CALORIC)
def test_pth_files_in_the_task_root_are_honoured_as_in_the_managed_runtime(
    way: str, write_function: WriteFunction
) -> None:
    source = """
        import sys

        def handler(event, context):
            try:
                import in_folder
                found = in_folder.__file__
            except ImportError:
                found = None
            return [found, getattr(sys, "pth_ran", False)]
    """
    folder = write_function(source)
    write_function("", "packages/in_folder.py")
    write_function("packages\nno/such/folder\nimport sys; sys.pth_ran = True\n", "some.pth")
    expected = [str(folder / "packages/in_folder.py"), True] if way == "fast" else [None, False]
    assert invoke(way, folder).results == [expected]


def test_site_is_imported_only_for_a_pth_file_with_code(
    bare_python: str, write_function: WriteFunction
) -> None:
    source = "import sys\nloaded = 'site' in sys.modules\ndef handler(event, context): return loaded\n"
    folder = write_function(source)
    assert fast(bare_python, folder) is False
    write_function("# a comment\nlib\n", "plain.pth")
    assert fast(bare_python, folder) is False
    write_function("import sys\n", "code.pth")
    assert fast(bare_python, folder) is True


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("module", ["sitecustomize", "usercustomize"])
def test_customisation_modules_run_before_the_handler_is_loaded(
    way: str, module: str, write_function: WriteFunction
) -> None:
    source = "import builtins\nseen = builtins.customized\ndef handler(event, context): return seen\n"
    folder = write_function(source)
    write_function(f"import builtins\nbuiltins.customized = {module!r}\n", f"{module}.py")
    # A virtual environment has no user site, and so no usercustomize, where `site` itself decides.
    if way == "module" and module == "usercustomize":
        return
    assert invoke(way, folder, PYTHONPATH=str(folder)).results == [module]


@pytest.mark.parametrize("as_package", [True, False])
def test_a_customisation_in_the_task_root_counts_for_the_fast_way(
    as_package: bool, write_function: WriteFunction
) -> None:
    source = "import builtins\nseen = builtins.customized\ndef handler(event, context): return seen\n"
    folder = write_function(source)
    name = "sitecustomize/__init__.py" if as_package else "sitecustomize.py"
    write_function("import builtins\nbuiltins.customized = 'yes'\n", name)
    assert invoke("fast", folder).results == ["yes"]


@pytest.mark.parametrize("way", [*CALORIC, PEER])
@pytest.mark.parametrize(
    "code",
    ["import no_such_dependency", "raise ValueError('on purpose')", "import sitecustomize.no_such_part"],
)
def test_a_customisation_that_fails_is_told_and_the_function_runs(
    way: str, code: str, write_function: WriteFunction
) -> None:
    folder = write_function("def handler(event, context): return 'ran'\n")
    write_function(code + "\n", "sitecustomize.py")
    run = invoke(way, folder, PYTHONPATH=str(folder))
    assert run.results == ["ran"]
    assert run.stderr.startswith("Error in sitecustomize; set PYTHONVERBOSE for traceback:\n")
    assert run.stderr.count("\n") == 2


@pytest.mark.parametrize("way", CALORIC)
def test_the_builtins_of_site_are_there(way: str, write_function: WriteFunction) -> None:
    source = """
        import builtins

        def handler(event, context):
            try:
                quit("bye")
            except SystemExit as error:
                code = error.code
            names = ("exit", "quit", "copyright", "credits", "license", "help")
            return [code, [callable(getattr(builtins, name)) for name in names], repr(exit), repr(credits)[:10]]
    """
    folder = write_function(source)
    assert invoke(way, folder).results == peers_invoke(folder, event()).results


@pytest.mark.parametrize("way", CALORIC)
def test_children_that_sys_executable_starts_are_ordinary_interpreters(
    way: str, write_function: WriteFunction
) -> None:
    source = """
        import subprocess, sys

        def handler(event, context):
            code = "import pytest, site, sys; print(pytest.__file__, sys.flags.no_site, exit.__class__.__name__)"
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    """
    assert invoke(way, write_function(source)).results == [f"{pytest.__file__} 0 Quitter\n"]


@pytest.mark.parametrize("way", CALORIC)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_and_its_children_are_no_runtimes(
    way: str, method: str, write_function: WriteFunction
) -> None:
    source = """
        import multiprocessing

        def work(pipe, value):
            import os
            pipe.send([value * 2, os.getpid()])
            pipe.close()

        def handler(event, context):
            import os
            methods = multiprocessing.get_context(event)
            ours, theirs = methods.Pipe()
            process = methods.Process(target=work, args=(theirs, 21))
            process.start()
            theirs.close()
            value, pid = ours.recv() if ours.poll(10) else (None, None)
            process.join(5)
            process.kill()
            return [value, pid != os.getpid(), process.exitcode]
    """
    run = invoke(way, write_function(source), event(method, "a"))
    assert run.results == [[42, True, 0]]
    assert run.stderr == ""


@pytest.mark.parametrize("way", CALORIC)
def test_paths_with_other_characters_work(way: str, tmp_path: Path) -> None:
    folder = tmp_path / "größe 日本 mit leer"
    folder.mkdir()
    (folder / "app.py").write_text("def handler(event, context): return __file__\n")
    assert invoke(way, folder, LAMBDA_TASK_ROOT=os.fspath(folder)).results == [str(folder / "app.py")]
