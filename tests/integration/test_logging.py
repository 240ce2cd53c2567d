"""Text logs, beside awslambdaric (spec runtime-api 4.8, 4.11)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.integration.scripted_run import PEER, invoke, invoke_until_exit, peers_invoke
from tests.runtimes import CALORIC
from tests.scripted_api import event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteFunction
    from tests.integration.scripted_run import Run

pytestmark = pytest.mark.parametrize("way", CALORIC)

IMPORTED_FIRST = """
    import logging
    logging.warning("at import")

    def handler(event, context):
        logging.warning("in the handler: %s", event)
"""
IMPORTED_LATE = """
    def handler(event, context):
        import logging
        logging.warning("in the handler: %s", event)
"""


def runs(way: str, folder: Path, *events: bytes, **variables: str) -> tuple[Run, Run]:
    """Ours and the peer's, which agree about everything they write and post."""
    ours, peers = (invoke(who, folder, *events, **variables) for who in (way, PEER))
    assert ours.masked_stdout == peers.masked_stdout
    assert ours.results == peers.results
    return ours, peers


@pytest.mark.parametrize("source", [IMPORTED_FIRST, IMPORTED_LATE], ids=["before", "after"])
def test_records_are_formatted_whenever_logging_was_imported(
    way: str, write_function: WriteFunction, source: str
) -> None:
    ours, _ = runs(way, write_function(source), event("ü", "a"), event(2, "b"))
    lines = ours.masked_stdout.splitlines()
    assert lines[-2:] == [
        "[WARNING]\t<time>\ta\tin the handler: ü",
        "[WARNING]\t<time>\tb\tin the handler: 2",
    ]
    # Before the first invocation there is no id.
    assert lines[:-2] == (["[WARNING]\t<time>\t\tat import"] if source == IMPORTED_FIRST else [])
    assert re.match(r"\[WARNING\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t", ours.stdout)


def test_records_are_formatted_when_logging_was_there_before_the_runtime(
    way: str, write_function: WriteFunction
) -> None:
    folder = write_function(IMPORTED_LATE)
    write_function("import logging\n", "sitecustomize.py")
    run = invoke(way, folder, event(1, "a"), PYTHONPATH=str(folder))
    assert run.masked_stdout == "[WARNING]\t<time>\ta\tin the handler: 1\n"


def test_times_are_utc_for_every_formatter(way: str, write_function: WriteFunction) -> None:
    source = """
        import logging, time

        def handler(event, context):
            record = logging.LogRecord("n", 30, "p", 1, "m", (), None)
            return logging.Formatter().formatTime(record, "%H") == time.strftime("%H", time.gmtime(record.created))
    """
    run = invoke(way, write_function(source), TZ="Asia/Kathmandu")
    assert run.results == [True]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("", "WEC"),
        ("TRACE", "DIWEC"),
        ("trace", "WEC"),
        ("DEBUG", "DIWEC"),
        ("debug", "DIWEC"),
        ("Info", "IWEC"),
        ("WARN", "WEC"),
        ("ERROR", "EC"),
        ("FATAL", "C"),
        ("CRITICAL", "C"),
        ("verbose", "WEC"),
        ("10", "WEC"),
    ],
)
def test_the_level_comes_from_the_environment(
    way: str, write_function: WriteFunction, level: str, shown: str
) -> None:
    source = """
        import logging

        def handler(event, context):
            for name in ("debug", "info", "warning", "error", "critical"):
                getattr(logging, name)("x")
    """
    ours, _ = runs(way, write_function(source), AWS_LAMBDA_LOG_LEVEL=level)
    assert [line[1] for line in ours.stdout.splitlines()] == list(shown)


# Each is code for a handler; what it writes must be what it writes with the peer.
LOGGING_CODE = {
    "several lines": "logging.warning('a\\nb\\r\\nc')",
    "arguments": "logging.warning('%s and %d', 'a', 2); logging.warning('%(k)s', {'k': 'v'})",
    "no text": "logging.warning({'a': 1}); logging.warning(None); logging.warning('')",
    "unicode": "logging.warning('日本 😀')",
    "own level": "logging.addLevelName(35, 'NOTICE'); logging.log(35, 'x'); logging.log(45, 'y')",
    "exception": "try: 1 / 0\n    except Exception: logging.exception('failed'); logging.warning('next')",
    "exc_info": "logging.warning('x', exc_info=ValueError('given'))",
    "stack_info": "logging.warning('x', stack_info=False)",
    "named logger": "logging.getLogger('a.b').error('x')",
    "extra": "logging.warning('x', extra={'user': 'u'})",
    "level of the root": "logging.getLogger().setLevel('INFO'); logging.info('x'); logging.debug('y')",
    "level of a logger": "logging.getLogger('a').setLevel(10); logging.getLogger('a').debug('x')",
    "disabled": "logging.disable(logging.ERROR); logging.error('x'); logging.critical('y')",
    "basicConfig": "logging.basicConfig(level=10, format='mine: %(message)s'); logging.warning('x'); logging.info('y')",
    "basicConfig(force)": "logging.basicConfig(force=True, stream=sys.stdout, format='mine: %(message)s')\n"
    "    logging.warning('x')",
    "own formatter": "formatter = logging.Formatter('%(aws_request_id)s %(message)s')\n"
    "    logging.getLogger().handlers[0].setFormatter(formatter)\n"
    "    logging.warning('x'); logging.warning('y')",
    "own handler": "logging.getLogger().addHandler(logging.StreamHandler(sys.stdout)); logging.warning('x')",
    "handler removed": "logging.getLogger().handlers.clear(); logging.getLogger().addHandler(logging.NullHandler())\n"
    "    logging.warning('x'); context.log('still')",
    "no propagation": "logging.getLogger('a').propagate = False; logging.getLogger('a').error('x')",
    "filter": "logging.getLogger().handlers[0].addFilter(lambda r: 'x' in r.getMessage())\n"
    "    logging.warning('x'); logging.warning('y')",
    "dictConfig": "import logging.config; logging.config.dictConfig({'version': 1, 'handlers': {'h': {'class': "
    "'logging.StreamHandler', 'stream': 'ext://sys.stdout'}}, 'root': {'handlers': ['h'], 'level': 'INFO'}})\n"
    "    logging.info('x')",
    "warnings": "logging.captureWarnings(True); import warnings; warnings.warn('x')",
    "wrong arguments": "try: logging.warning('%d', 'no number')\n    except TypeError as error: return str(error)",
    "one handler": "return [len(logging.getLogger().handlers), type(logging.getLogger().handlers[0]).__name__]",
    "record attributes": "seen = []; logging.getLogger().handlers[0].addFilter(lambda r: seen.append(\n"
    "        [r.aws_request_id, r.tenant_id]) or True); logging.warning('x'); return seen",
    "lastResort": "return logging.getLogger('nobody').hasHandlers()",
    "context.log": "context.log('a'); context.log('b\\n'); context.log(7); context.log({'c': 1}); context.log('ü')",
    "print": "print('a', 'b', sep='-'); print(); print('ü 日本', end='')",
    "stdout": "n = sys.stdout.write('a'); sys.stdout.writelines(['b', 'c']); sys.stdout.flush(); return n",
    "stream attributes": "return [sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.fileno(), sys.stderr.fileno(),"
    " sys.stdout.closed, sys.stdout.name, sys.stdout.writable()]",
    "with stdout": "from contextlib import redirect_stdout\n    import io\n    s = io.StringIO()\n"
    "    with redirect_stdout(s): print('x'); logging.warning('y')\n    return len(s.getvalue())",
    "stdout.buffer": "sys.stdout.buffer.write(b'x\\n'); sys.stdout.buffer.flush()",
}


@pytest.fixture(scope="module")
def logging_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    for number, code in enumerate(LOGGING_CODE.values()):
        source = f"import logging, sys\n\ndef handler(event, context):\n    {code}\n"
        (folder / f"code_{number}.py").write_text(source, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", LOGGING_CODE)
def test_logging_code_does_what_it_does_with_the_peer(way: str, logging_code: Path, name: str) -> None:
    handler = f"code_{list(LOGGING_CODE).index(name)}.handler"
    ours = invoke(way, logging_code, event(None, "a"), handler=handler)
    peers = peers_invoke(logging_code, event(None, "a"), handler=handler)
    assert (ours.masked_stdout, ours.stderr, ours.results) == (
        peers.masked_stdout,
        peers.stderr,
        peers.results,
    )
    assert ours.posts[0].call == "response"


def test_nothing_is_held_back(way: str, write_function: WriteFunction) -> None:
    # os._exit flushes nothing: what is there was written at once.
    source = """
        import os, sys

        def handler(event, context):
            sys.stdout.write("no line end")
            print("err", end="", file=sys.stderr)
            os._exit(0)
    """
    run = invoke_until_exit(way, write_function(source), event())
    assert (run.stdout, run.stderr) == ("no line end", "err")


def test_lines_of_several_threads_are_whole(way: str, write_function: WriteFunction) -> None:
    source = """
        import logging, sys, threading

        def work(n):
            for _ in range(100):
                print("print", n, str(n) * 50, sep=",")
                logging.warning("%s", str(n) * 50)
                print("several\\nlines", n, sep="-")
                sys.stdout.writelines(["list,", str(n) * 50, "\\n"])

        def handler(event, context):
            sys.setswitchinterval(1e-5)
            threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
    """
    run = invoke(way, write_function(source), event(None, "a"))
    expected = []
    for n in range(6):
        own = [f"print,{n},{str(n) * 50}", f"[WARNING]\t<time>\ta\t{str(n) * 50}"]
        expected += [*own, "several", f"lines-{n}", f"list,{str(n) * 50}"] * 100
    assert sorted(run.masked_stdout.splitlines()) == sorted(expected)


def test_a_line_without_an_end_holds_nobody_up(way: str, write_function: WriteFunction) -> None:
    # The thread with the line waits for the other one, which writes two hundred lines. Were each of them to wait for
    # the line's end for a quarter of a second, this would take 50 seconds.
    source = """
        import sys, threading

        def work():
            for n in range(200):
                print("line", n)
                main_may_go_on.release()

        main_may_go_on = threading.Semaphore(0)

        def handler(event, context):
            thread = threading.Thread(target=work)
            thread.start()
            for n in range(200):
                sys.stdout.write(".")
                main_may_go_on.acquire()
            thread.join()
            print("end")
    """
    run = invoke(way, write_function(source), event(None, "a"))
    assert run.stdout.count(".") == 200
    text = run.stdout.replace(".", "")
    assert text.splitlines() == [*(f"line {n}" for n in range(200)), "end"]


def test_a_print_that_waits_for_another_threads_print_is_not_waited_for(
    way: str, write_function: WriteFunction
) -> None:
    source = """
        import threading

        class Odd:
            def __str__(self):
                thread = threading.Thread(target=print, args=("from the", "thread"))
                thread.start()
                thread.join()
                return "odd"

        def handler(event, context):
            print("begin", Odd(), "end")
            print("next", "line")
    """
    run = invoke(way, write_function(source), event(None, "a"))
    assert run.stdout == "begin from the thread\nodd end\nnext line\n"


def test_a_fork_in_the_middle_of_a_line_can_print(way: str, write_function: WriteFunction) -> None:
    source = """
        import os, sys, threading

        def handler(event, context):
            written, go_on = threading.Event(), threading.Event()

            class Slow:
                def __str__(self):
                    written.set()
                    go_on.wait()
                    return "slow"

            thread = threading.Thread(target=lambda: print("begin,", Slow()))
            thread.start()
            written.wait()
            pid = os.fork()
            if not pid:
                print("from", "the child")
                os._exit(0)
            os.waitpid(pid, 0)
            go_on.set()
            thread.join()
    """
    run = invoke(way, write_function(source), event(None, "a"))
    assert run.stdout == "begin, from the child\nslow\n"


def test_a_runtime_without_logging_does_not_load_it(way: str, write_function: WriteFunction) -> None:
    source = """
        import sys

        def handler(event, context):
            context.log("text\\n")
            return "logging" in sys.modules
    """
    run = invoke(way, write_function(source))
    assert (run.results, run.stdout) == ([False], "text\n")
