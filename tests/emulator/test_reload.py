"""`caloric emulate --reload`: saved code runs, and what ran before is neither lost nor cut off."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from argparse import Namespace
from typing import TYPE_CHECKING

import pytest

from caloric.cli import UserMistake
from caloric.cli.reload import check_reload
from caloric.local.code_watch import CodeWatch, is_code
from tests.emulator.emulators import CALORIC, PATIENCE, Reloaded, wait_until_gone
from tests.runtimes import environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeExtension, WriteFunction

# With a gate it waits for it, and says so; `text` is what is changed.
SOURCE = """
    import os, time

    def handler(event, context):
        gate = event.get("gate") or event.get("rawQueryString")
        if gate:
            print("waits at", gate, flush=True)
            while not os.path.exists(gate):
                time.sleep(0.002)
        return {"text": "%s", "pid": os.getpid()}
"""
STREAM = """
    import os, time

    def handler(event, context):
        yield b"%s "
        while not os.path.exists(event["rawQueryString"]):
            time.sleep(0.002)
        yield b"end"
"""


@pytest.mark.parametrize(
    "options", [(), ("--concurrency", "3"), ("--max-concurrency", "2"), ("--snapstart",)]
)
def test_an_invocation_after_a_save_runs_the_new_code(
    options: tuple[str, ...], write_function: WriteFunction
) -> None:
    with Reloaded(write_function(SOURCE % "one"), *options) as emulator:
        first = emulator.invoke({}).json()
        assert first["text"] == "one"
        assert emulator.invoke({}).json()["text"] == "one"
        for text in ("two", "three"):
            said = emulator.wait_for_reload(lambda text=text: write_function(SOURCE % text))  # type: ignore[misc]
            assert said == "reloaded: app.py changed"
            answers = [emulator.invoke({}).json() for _ in range(2)]
            assert [answer["text"] for answer in answers] == [text] * 2
        wait_until_gone(first["pid"])
        # That it ran changes nothing.
        assert len(emulator.reloads) == 2


def test_a_page_shows_the_new_code(write_function: WriteFunction) -> None:
    with Reloaded(write_function(SOURCE % "one"), "--http") as emulator:
        assert emulator.call(method="GET", path="/").json()["text"] == "one"
        emulator.wait_for_reload(lambda: write_function(SOURCE % "two"))
        assert emulator.call(method="GET", path="/").json()["text"] == "two"


def test_what_runs_finishes_on_the_old_code_and_its_environment_shuts_down_then(
    write_function: WriteFunction, make_extension: MakeExtension, tmp_path: Path
) -> None:
    gate, journal = tmp_path / "gate", tmp_path / "journal"
    extension = make_extension("watcher", "events")
    with Reloaded(
        write_function(SOURCE % "old"), "--extension", str(extension), variables={"JOURNAL": str(journal)}
    ) as emulator:
        old = emulator.start_invoking({"gate": str(gate)})
        emulator.wait_for_log(lambda log: "waits at" in log)
        emulator.wait_for_reload(lambda: write_function(SOURCE % "new"))
        # The new environment does not wait for the old one.
        new = emulator.invoke({}).json()
        assert new["text"] == "new"
        assert not old.done()
        assert '"SHUTDOWN"' not in journal.read_text(encoding="utf-8")
        gate.touch()
        answer = old.result(PATIENCE).json()
        assert answer["text"] == "old"
        wait_until_gone(answer["pid"])
        deadline = time.monotonic() + PATIENCE
        while "SHUTDOWN" not in journal.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline, "the old environment's extension was not told"
            time.sleep(0.005)
        assert emulator.invoke({}).json() == new


@pytest.mark.parametrize("options", [(), ("--concurrency", "2"), ("--max-concurrency", "2")])
def test_what_waits_is_run_by_the_new_code_and_nothing_is_lost(
    options: tuple[str, ...], write_function: WriteFunction, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    at_once = 2 if options else 1
    with Reloaded(write_function(SOURCE % "old"), *options) as emulator:
        running = [emulator.start_invoking({"gate": str(gate)}) for _ in range(at_once)]
        emulator.wait_for_log(lambda log: log.count("waits at") == at_once)
        waiting = [emulator.start_invoking({}) for _ in range(5)]
        # They have arrived when a later one has been refused.
        assert emulator.call(method="GET").status == 405
        emulator.wait_for_reload(lambda: write_function(SOURCE % "new"))
        texts = [future.result(PATIENCE).json()["text"] for future in waiting]
        assert texts == ["new"] * 5
        assert not any(future.done() for future in running)
        gate.touch()
        assert [future.result(PATIENCE).json()["text"] for future in running] == ["old"] * at_once


def test_a_stream_ends_on_the_old_code(write_function: WriteFunction, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Reloaded(write_function(STREAM % "old"), "--http", "--stream") as emulator:
        connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=PATIENCE)
        connection.request("GET", f"/?{gate}")
        response = connection.getresponse()
        assert response.read(4) == b"old "
        emulator.wait_for_reload(lambda: write_function(STREAM % "new"))
        gate.touch()
        assert response.read() == b"end"
        connection.close()
        assert emulator.call(method="GET", path=f"/?{gate}").body == b"new end"


def test_work_after_the_response_is_finished_first(write_function: WriteFunction, tmp_path: Path) -> None:
    gate, done = tmp_path / "gate", tmp_path / "done"
    source = f"""
        import os, time

        def work():
            while not os.path.exists({str(gate)!r}):
                time.sleep(0.002)
            open({str(done)!r}, "w").close()

        def handler(event, context):
            context.after_response(work)
            return os.getpid()
    """
    with Reloaded(write_function(source)) as emulator:
        pid = emulator.invoke({}).json()
        emulator.wait_for_reload(lambda: write_function(SOURCE % "new"))
        assert emulator.invoke({}).json()["text"] == "new"
        gate.touch()
        wait_until_gone(pid)
        assert done.exists()


def test_a_mistake_is_answered_and_the_next_save_recovers(write_function: WriteFunction) -> None:
    with Reloaded(write_function(SOURCE % "one")) as emulator:
        assert emulator.invoke({}).json()["text"] == "one"
        emulator.wait_for_reload(lambda: write_function("def handler(event, context:\n"))
        answer = emulator.invoke({})
        assert answer.headers["X-Amz-Function-Error"] == "Unhandled"
        assert answer.json()["errorType"] == "Runtime.UserCodeSyntaxError"
        emulator.wait_for_reload(lambda: write_function(SOURCE % "two"))
        assert emulator.invoke({}).json()["text"] == "two"


def test_an_init_that_hangs_ends_with_the_next_save(write_function: WriteFunction) -> None:
    hangs = "import time\nprint('hangs', flush=True)\ntime.sleep(3600)\n"
    with Reloaded(write_function(SOURCE % "one")) as emulator:
        emulator.wait_for_reload(lambda: write_function(hangs))
        waiting = emulator.start_invoking({})
        emulator.wait_for_log(lambda log: "hangs" in log)
        emulator.wait_for_reload(lambda: write_function(SOURCE % "two"))
        assert waiting.result(PATIENCE).json()["text"] == "two"


def test_many_saves_are_one_reload_that_names_what_counts(write_function: WriteFunction) -> None:
    folder = write_function(SOURCE % "one")

    def save() -> None:
        # However slowly they are written, they are seen at once.
        os.kill(emulator.process.pid, signal.SIGSTOP)
        for name in ("__pycache__/app.pyc", ".git/index", ".venv/lib/a.py", "env/lib/b.py", ".app.py.swp"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        for number in range(20):
            (folder / f"module{number:02}.py").touch()
        temporary = folder / "app.py.x7"
        temporary.write_text((folder / "app.py").read_text().replace("one", "two"))
        temporary.replace(folder / "app.py")
        os.kill(emulator.process.pid, signal.SIGCONT)

    (folder / "env").mkdir()
    (folder / "env" / "pyvenv.cfg").touch()
    with Reloaded(folder) as emulator:
        assert emulator.invoke({}).json()["text"] == "one"
        assert emulator.wait_for_reload(save) == "reloaded: app.py and 20 others changed"
        assert emulator.invoke({}).json()["text"] == "two"
        assert len(emulator.reloads) == 1


def test_environments_keep_their_layers_while_others_are_replaced(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    source = """
        import os, time

        def handler(event, context):
            print("waits", flush=True)
            while not os.path.exists(event):
                time.sleep(0.002)
            # Not before: the old environment's folder must still be there.
            import from_layer
            return from_layer.TEXT
    """
    layer, gate = tmp_path / "layer" / "python", tmp_path / "gate"
    layer.mkdir(parents=True)
    (layer / "from_layer.py").write_text("TEXT = 'first'\n")
    folder = write_function(source)
    options = ["--layer", str(layer.parent), "--concurrency", "2"]
    with Reloaded(folder, *options) as emulator:
        running = [emulator.start_invoking(str(gate)) for _ in range(2)]
        emulator.wait_for_log(lambda log: log.count("waits") == 2)
        (layer / "from_layer.py").write_text("TEXT = 'second'\n")
        emulator.wait_for_reload(lambda: (folder / "other.py").touch())
        gate.touch()
        assert [future.result(PATIENCE).json() for future in running] == ["first"] * 2
        assert emulator.invoke(str(gate)).json() == "second"


def test_where_the_function_cannot_be_made_anew_it_goes_on(
    write_function: WriteFunction, tmp_path: Path
) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    folder = write_function(SOURCE % "one")
    with Reloaded(folder, "--layer", str(layer)) as emulator:
        pid = emulator.invoke({}).json()["pid"]
        layer.rmdir()
        (folder / "other.py").touch()
        emulator.wait_for_log(lambda log: "other.py changed, and the function goes on as it was: " in log)
        assert emulator.invoke({}).json()["pid"] == pid
        layer.mkdir()
        emulator.wait_for_reload(lambda: write_function(SOURCE % "two"))
        assert emulator.invoke({}).json()["text"] == "two"


def test_the_folder_may_be_removed_and_made_again(write_function: WriteFunction, tmp_path: Path) -> None:
    folder = write_function(SOURCE % "one")
    with Reloaded(tmp_path, variables={"LAMBDA_TASK_ROOT": str(folder)}) as emulator:

        def rebuild() -> None:
            folder.rename(tmp_path / "before")
            write_function(SOURCE % "two")

        emulator.wait_for_reload(rebuild)
        emulator.wait_for_reload(lambda: write_function(SOURCE % "three"))


@pytest.mark.parametrize(
    ("options", "variables", "sentence"),
    [
        (["--only-api", "app.handler"], {}, "--reload and --only-api exclude each other"),
        (["--debug", "--", "true"], {}, "--reload and --debug exclude each other"),
        (
            ["--runtime-api-address", "127.0.0.1:0", "--", "true"],
            {},
            "--reload and --runtime-api-address exclude each other",
        ),
        (["--", "true"], {"LAMBDA_TASK_ROOT": "/no/such/folder"}, "the folder '/no/such/folder'"),
        (["--", "true"], {"LAMBDA_TASK_ROOT": "/"}, "--reload would watch the whole machine"),
    ],
)
def test_what_cannot_be_reloaded_is_refused(
    options: list[str], variables: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    run = subprocess.run(
        [CALORIC, "emulate", "--reload", "--port", "0", *options],
        cwd=tmp_path,
        env=environment("", **variables),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 2
    assert sentence in run.stderr
    assert run.stderr.count("\n") == 1


def test_the_package_it_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UserMistake, match=r"pip install 'caloric\[local\]'"):
        check_reload(Namespace(only_api=False, debug=None, runtime_api_address=None))


# ---- the watch itself ----------------------------------------------------------------------------------------------


def test_what_is_code(tmp_path: Path) -> None:
    # What the folder itself is called does not matter.
    root = tmp_path / ".venv" / "node_modules"
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "pyvenv.cfg").touch()
    (root / "data").mkdir()
    (root / "data" / "state.db").touch()
    code = ["app.py", "page.html", "a/b/data.json", "lib/native.so", "venv.py", ".env"]
    others = [
        *("__pycache__/app.cpython-312.pyc", "a/__pycache__/x", "app.pyc", ".git/HEAD", ".venv/x.py"),
        *("mine", "mine/lib/x.py", "app.py~", ".app.py.swp", ".app.py.swx", "4913", ".#app.py", "#app.py#"),
        *("app.py.tmp", ".pytest_cache/v", "a/.mypy_cache/x", "app.py___jb_tmp___"),
        "data/logs/stream.log",
    ]
    assert [path for path in code if not is_code(str(root / path), str(root))] == []
    assert [path for path in others if is_code(str(root / path), str(root))] == []


def test_saves_that_follow_each_other_are_told_once(tmp_path: Path) -> None:
    told: list[list[str]] = []
    with CodeWatch(str(tmp_path), told.append):
        pauses, last = 0, time.monotonic()
        for number in range(40):
            (tmp_path / f"{number % 2}.py").write_text(json.dumps(number))
            time.sleep(0.01)
            now = time.monotonic()
            # On a busy machine this loop may stand still; that is the end of a burst.
            pauses += now - last > 0.05
            last = now
        deadline = last + PATIENCE
        while not told or time.monotonic() < last + 0.3:
            assert time.monotonic() < deadline, "no save was told"
            time.sleep(0.01)
    assert len(told) <= 1 + pauses
    assert {name for names in told for name in names} == {"0.py", "1.py"}


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot be watched"):
        CodeWatch(str(tmp_path / "none"), print)
