"""Lifecycle hooks in a real runtime: when they run, with what, and what becomes of what they raise."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.runtimes import CALORIC, environment, start
from tests.scripted_api import ACCEPTED, CLOSE, HANG, ScriptedApi, event, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from tests.conftest import WriteFunction
    from tests.scripted_api import Request, Step

PATIENCE = 20
REGISTERED = (
    b"HTTP/1.1 200 OK\r\nLambda-Extension-Identifier: 0f1e2d3c-4b5a-4978-8a6b-5c4d3e2f1a0b\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
EXTENSION = "/2020-01-01/extension/"
NEXT = "GET /2018-06-01/runtime/invocation/next"
every_way = pytest.mark.parametrize("way", CALORIC)

# What a function says goes through one write each, so that nothing of it is lost or mixed up.
PREAMBLE = """
    import asyncio, os, signal, sys, threading, time
    from caloric import lifecycle
    from caloric.lifecycle import *

    def say(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


class Api(ScriptedApi):
    """Answers the Extensions API by itself; the script is for what the runtime asks."""

    registration: Step = REGISTERED
    poll: Step = HANG

    def __post_init__(self) -> None:
        self._asked = 0
        super().__post_init__()

    def step(self, index: int, request: Request) -> Step:
        if request.path == EXTENSION + "register":
            return self.registration
        if request.path.startswith(EXTENSION):
            return self.poll
        step = super().step(self._asked, request)
        self._asked += 1
        return step

    @property
    def asked(self) -> list[str]:
        """What the runtime asked."""
        return [f"{r.method} {r.path}" for r in self.requests if not r.path.startswith(EXTENSION)]

    def wait_until_asked(self, count: int) -> None:
        """Wait until so many requests of the runtime came, however many of the extension came among them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, PATIENCE), self.asked

    @property
    def of_extension(self) -> list[Request]:
        """What the extension asked."""
        return [request for request in self.requests if request.path.startswith(EXTENSION)]

    @property
    def answers(self) -> list[Any]:
        """The documents that the runtime posted."""
        return [r.json() for r in self.requests if r.method == "POST" and not r.path.startswith(EXTENSION)]


class Function:
    """A function that was started, and what it says."""

    def __init__(self, api: Api, process: subprocess.Popen[bytes]) -> None:
        self.api = api
        self.process = process
        self.out: list[str] = []
        self.err = ""
        self._came = threading.Condition()
        self._readers = [
            threading.Thread(target=read, daemon=True) for read in (self._read_out, self._read_err)
        ]
        for reader in self._readers:
            reader.start()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._came:
                # A record of several lines has them apart by carriage returns.
                self.out.append(line.decode().rstrip("\n"))
                self._came.notify_all()

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._came:
                self.err += line.decode()
                self._came.notify_all()

    def wait_for_error(self, text: str) -> None:
        """Wait until the runtime has complained so."""
        with self._came:
            assert self._came.wait_for(lambda: text in self.err, PATIENCE), self.err

    def wait_for(self, line: str) -> None:
        """Wait until the function has said it."""
        with self._came:
            assert self._came.wait_for(lambda: line in self.out, PATIENCE), self.out

    def terminate(self) -> int:
        """Send SIGTERM, and return how the process ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> int:
        """Wait for the end of the process, and return how it ended."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.end()


@pytest.fixture
def run(write_function: WriteFunction) -> Any:
    """Return a function that starts a source against scripted answers, behind `PREAMBLE`."""
    running: list[Function] = []
    apis: list[Api] = []

    def begin(
        source: str,
        *steps: Step,
        way: str = "fast",
        registration: Step = REGISTERED,
        poll: Step = HANG,
        api: type[Api] = Api,
        **variables: str,
    ) -> Function:
        folder = write_function(dedent(PREAMBLE) + dedent(source))
        served = api([*steps])
        apis.append(served)
        served.registration, served.poll = registration, poll
        running.append(Function(served, start(way, "app.handler", folder, served.address, **variables)))
        return running[-1]

    yield begin
    for function in running:
        function.close()
    for api in apis:
        api.__exit__()


def invoked(function: Function, count: int = 1) -> None:
    """Wait until the runtime asks for the invocation behind `count` of them."""
    function.api.wait_until_asked(2 * count + 1)


# ---- on_init -------------------------------------------------------------------------------------------------------


@every_way
def test_on_init_runs_in_order_after_the_import_and_before_the_first_next(way: str, run: Any) -> None:
    function = run(
        """
        @on_init
        def first():
            say("first", "handler" in globals())
            @on_init
            def added():
                say("added")

        @on_init
        async def second():
            await asyncio.sleep(0)
            say("second")

        say("imported")
        def handler(event, context):
            say("handler")
        """,
        event(),
        ACCEPTED,
        way=way,
    )
    function.wait_for("handler")
    assert function.out == ["imported", "first True", "second", "added", "handler"]


def test_nothing_is_asked_before_on_init_is_over(run: Any) -> None:
    function = run(
        """
        @on_init
        def waits():
            say("init")
            sys.stdin.read()
            os._exit(0)

        def handler(event, context): pass
        """
    )
    assert function.end() == 0
    assert function.out == ["init"]
    assert function.api.requests == []


@every_way
def test_what_on_init_raises_is_reported_as_an_error_of_the_module_is(way: str, run: Any) -> None:
    function = run(
        """
        @on_init
        def broken():
            raise ValueError("on purpose")

        @on_init
        def behind():
            say("behind")

        def handler(event, context): pass
        """,
        ACCEPTED,
        way=way,
    )
    assert function.end() == 1
    assert function.api.asked == ["POST /2018-06-01/runtime/init/error"]
    document = function.api.answers[0]
    assert (document["errorType"], document["errorMessage"]) == ("ValueError", "on purpose")
    assert len(document["stackTrace"]) == 1
    assert "in broken" in document["stackTrace"][0]
    assert "behind" not in function.out


@pytest.mark.parametrize(
    ("raised", "code"), [("SystemExit(3)", 3), ("KeyboardInterrupt", -signal.SIGINT)], ids=["exit", "ctrl-c"]
)
def test_on_init_can_end_the_process_as_the_module_can(raised: str, code: int, run: Any) -> None:
    function = run(
        f"""
        @on_init
        async def ends():
            raise {raised}

        def handler(event, context): pass
        """
    )
    assert function.end() == code
    assert function.api.asked == []


# ---- before_invoke and after_invoke --------------------------------------------------------------------------------

AROUND = """
    @before_invoke
    def before_first(event, context):
        say("before first", event, context.aws_request_id)
        event["added"] = True

    @before_invoke
    async def before_second(event, context):
        await asyncio.sleep(0)
        say("before second")

    @after_invoke
    async def after_first(event, context, result, error):
        await asyncio.sleep(0)
        say("after first", event, context.aws_request_id, result, repr(error))

    @after_invoke
    def after_second(event, context, result, error):
        say("after second")
        if isinstance(result, dict):
            result["changed"] = True

    def handler(event, context):
        say("handler", event)
        if "raise" in event:
            raise ValueError("on purpose")
        return {"object": object} if "odd" in event else b"bytes" if "bytes" in event else {"result": 1}
"""


@every_way
@pytest.mark.parametrize("compat", [False, True], ids=["rust", "python"])
def test_hooks_run_around_the_handler_and_cannot_change_the_answer(way: str, compat: bool, run: Any) -> None:
    # awslambdaric's marshaller in reach of tools is what makes the runtime run its loop in Python.
    imports = "import awslambdaric.lambda_runtime_marshaller\n" if compat else ""
    function = run(
        imports + dedent(AROUND), event({}, "a"), ACCEPTED, event({"bytes": 1}, "b"), ACCEPTED, way=way
    )
    invoked(function, 2)
    posted = [request.body for request in function.api.requests if request.call == "response"]
    assert posted == [b'{"result":1}', b"bytes"] or (compat and posted == [b'{"result": 1}', b"bytes"])
    function.wait_for("after first {'bytes': 1, 'added': True} b b'bytes' None")
    assert function.out == [
        "before first {} a",
        "before second",
        "handler {'added': True}",
        "after second",
        "after first {'added': True} a {'result': 1, 'changed': True} None",
        "before first {'bytes': 1} b",
        "before second",
        "handler {'bytes': 1, 'added': True}",
        "after second",
        "after first {'bytes': 1, 'added': True} b b'bytes' None",
    ]


@pytest.mark.parametrize("compat", [False, True], ids=["rust", "python"])
def test_after_invoke_is_told_why_there_is_no_result(compat: bool, run: Any) -> None:
    imports = "import awslambdaric.lambda_runtime_marshaller\n" if compat else ""
    function = run(
        imports + dedent(AROUND), event({"raise": 1}, "a"), ACCEPTED, event({"odd": 1}, "b"), ACCEPTED
    )
    invoked(function, 2)
    function.close()
    raised, odd = function.api.answers
    assert (raised["errorType"], raised["errorMessage"]) == ("ValueError", "on purpose")
    assert "in handler" in raised["stackTrace"][0]
    assert odd["errorType"] == "Runtime.MarshalError"
    told = [line for line in function.out if line.startswith("after first")]
    assert told[0] == "after first {'raise': 1, 'added': True} a None ValueError('on purpose')"
    assert told[1].startswith("after first {'odd': 1, 'added': True} b None ")
    assert "not JSON serializable" in told[1]
    # The error is in the log before hooks run.
    assert function.out.index(told[0]) > [
        line.startswith("[ERROR] ValueError") for line in function.out
    ].index(True)


@pytest.mark.parametrize("compat", [False, True], ids=["rust", "python"])
def test_what_before_invoke_raises_is_the_invocations_error(compat: bool, run: Any) -> None:
    imports = "import awslambdaric.lambda_runtime_marshaller\n" if compat else ""
    function = run(
        imports
        + dedent(
            """
            @before_invoke
            async def broken(event, context):
                await asyncio.sleep(0)
                raise LookupError("on purpose")

            @before_invoke
            def behind(event, context):
                say("behind")

            @after_invoke
            def after(event, context, result, error):
                say("after", result, repr(error))

            def handler(event, context):
                say("handler")
            """
        ),
        event({}, "a"),
        ACCEPTED,
    )
    invoked(function)
    (document,) = function.api.answers
    assert (document["errorType"], document["errorMessage"]) == ("LookupError", "on purpose")
    assert len(document["stackTrace"]) == 1, "no frames of ours or of asyncio"
    assert "in broken" in document["stackTrace"][0]
    function.wait_for("after None LookupError('on purpose')")
    assert not {"behind", "handler"} & set(function.out)


@pytest.mark.parametrize("compat", [False, True], ids=["rust", "python"])
@pytest.mark.parametrize("raised", ["ValueError('on purpose')", "asyncio.CancelledError('on purpose')"])
@pytest.mark.parametrize("log_format", ["Text", "JSON"])
def test_what_after_invoke_raises_is_logged_and_the_answer_stays(
    compat: bool, raised: str, log_format: str, run: Any
) -> None:
    imports = "import awslambdaric.lambda_runtime_marshaller\n" if compat else ""
    function = run(
        imports
        + dedent(
            f"""
            @after_invoke
            def behind(event, context, result, error):
                say("behind")

            @after_invoke
            def broken(event, context, result, error):
                raise {raised}

            def handler(event, context):
                return "answer"
            """
        ),
        event({}, "id-a"),
        ACCEPTED,
        AWS_LAMBDA_LOG_FORMAT=log_format,
    )
    invoked(function)
    assert function.api.answers == ["answer"]
    function.close()
    assert "behind" in function.out
    logged = "\n".join(function.out)
    assert "on purpose" in logged
    assert "in broken" in logged
    if log_format == "JSON":
        record = json.loads(function.out[0])
        assert (record["level"], record["requestId"]) == ("ERROR", "id-a")


@pytest.mark.parametrize("compat", [False, True], ids=["rust", "python"])
@pytest.mark.parametrize(
    ("raised", "code"), [("SystemExit(3)", 3), ("KeyboardInterrupt", -signal.SIGINT)], ids=["exit", "ctrl-c"]
)
@pytest.mark.parametrize("fails", [False, True], ids=["result", "error"])
def test_after_invoke_can_end_the_process_once_the_answer_is_sent(
    compat: bool, raised: str, code: int, fails: bool, run: Any
) -> None:
    imports = "import awslambdaric.lambda_runtime_marshaller\n" if compat else ""
    function = run(
        imports
        + dedent(
            f"""
            @after_invoke
            def ends(event, context, result, error):
                raise {raised}

            def handler(event, context):
                if {fails}:
                    raise ValueError("on purpose")
                return "answer"
            """
        ),
        event({}, "a"),
        ACCEPTED,
    )
    assert function.end() == code
    (answer,) = function.api.answers
    assert answer["errorType"] == "ValueError" if fails else answer == "answer"
    assert len(function.api.asked) == 2, "no further invocation is asked for"


@pytest.mark.parametrize("compat", [False, True], ids=["rust", "python"])
def test_no_hook_runs_for_an_event_that_cannot_be_read(compat: bool, run: Any) -> None:
    imports = "import awslambdaric.lambda_runtime_marshaller\n" if compat else ""
    function = run(imports + dedent(AROUND), event(b"{"), ACCEPTED, event({}, "b"), ACCEPTED)
    invoked(function, 2)
    function.close()
    assert function.api.answers[0]["errorType"] == "Runtime.UnmarshalError"
    assert [line for line in function.out if line.startswith("before first")] == ["before first {} b"]
    assert len([line for line in function.out if line.startswith("after")]) == 2


@pytest.mark.parametrize("compat", [False, True], ids=["rust", "python"])
def test_system_exit_in_before_invoke_or_the_handler_ends_the_process_at_once(compat: bool, run: Any) -> None:
    imports = "import awslambdaric.lambda_runtime_marshaller\n" if compat else ""
    source = """
        @before_invoke
        def ends(event, context):
            raise SystemExit(5)

        @after_invoke
        def after(event, context, result, error):
            say("after")

        def handler(event, context): pass
        """
    function = run(imports + dedent(source), event())
    assert function.end() == 5
    assert function.api.answers == []
    assert "after" not in function.out


def test_hooks_registered_in_an_invocation_run_from_the_next_one_on(run: Any) -> None:
    function = run(
        """
        def handler(event, context):
            if event == 1:
                before_invoke(lambda event, context: say("before", event))
                after_invoke(lambda event, context, result, error: say("after", event))
                on_init(lambda: say("init"))
        """,
        event(1, "a"),
        ACCEPTED,
        event(2, "b"),
        ACCEPTED,
    )
    invoked(function, 2)
    function.wait_for("after 2")
    assert function.out == ["after 1", "before 2", "after 2"]
    function.close()
    assert "on_init: handler.<locals>.<lambda> does not run, initialization is over" in function.err


def test_the_invocation_in_which_the_loop_changes_hands_has_its_hooks(run: Any) -> None:
    function = run(
        """
        @before_invoke
        def before(event, context): say("before", event)

        @after_invoke
        def after(event, context, result, error): say("after", event, context.aws_request_id, result)

        def handler(event, context):
            import awslambdaric.lambda_runtime_marshaller
            return event + 1
        """,
        event(1, "a"),
        ACCEPTED,
        event(2, "b"),
        ACCEPTED,
    )
    invoked(function, 2)
    function.wait_for("after 2 b 3")
    assert function.out == ["before 1", "after 1 a 2", "before 2", "after 2 b 3"]


def test_async_hooks_share_the_main_threads_event_loop_with_the_handler(run: Any) -> None:
    function = run(
        """
        loops = []

        @on_init
        async def begin():
            loops.append(asyncio.get_running_loop())

        @before_invoke
        async def before(event, context):
            loops.append(asyncio.get_running_loop())

        def handler(event, context):
            if event == 1:
                async def running(): loops.append(asyncio.get_running_loop())
                asyncio.get_event_loop().run_until_complete(running())
            else:
                asyncio.run(asyncio.sleep(0))
            return [len(loops), len(set(map(id, loops)))]
        """,
        *(event(1, "a"), ACCEPTED, event(2, "b"), ACCEPTED, event(3, "c"), ACCEPTED),
    )
    invoked(function, 3)
    assert function.api.answers == [[3, 1], [4, 1], [5, 1]]


# ---- on_shutdown ---------------------------------------------------------------------------------------------------

SHUTDOWN = """
    @on_shutdown
    def first():
        say("first", 0 < remaining_shutdown_ms() <= 450, threading.current_thread() is threading.main_thread())

    @on_shutdown
    async def last():
        await asyncio.sleep(0)
        say("last")
"""
IDLE = "def handler(event, context): return event\n"


@every_way
def test_an_internal_extension_is_registered_for_no_event_before_the_first_next(way: str, run: Any) -> None:
    function = run(dedent(SHUTDOWN) + IDLE, way=way)
    function.api.wait_for(3)
    first = function.api.requests[0]
    assert (first.method, first.path) == ("POST", EXTENSION + "register")
    assert first.headers["lambda-extension-name"] == "caloric-lifecycle-hooks"
    assert first.headers["user-agent"].startswith("caloric-python/")
    assert first.json() == {"events": []}
    assert sorted(request.call for request in function.api.requests[1:]) == ["next", "next"]
    assert function.api.of_extension[1].headers["lambda-extension-identifier"].startswith("0f1e2d3c")


def test_without_on_shutdown_nothing_is_registered_and_sigterm_is_left_alone(run: Any) -> None:
    function = run(dedent(AROUND), event({}), ACCEPTED)
    invoked(function)
    assert function.api.of_extension == []
    assert function.terminate() == -signal.SIGTERM


@every_way
def test_hooks_run_while_the_next_invocation_is_waited_for(way: str, run: Any) -> None:
    function = run(dedent(SHUTDOWN) + IDLE, event(), ACCEPTED, way=way)
    invoked(function)
    assert function.terminate() == 0
    assert function.out == ["last", "first True True"]
    assert function.err == ""


@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(60)",
        "while True: pass",
        "threading.Event().wait(60)",
        "asyncio.run(asyncio.sleep(60))",
        "asyncio.new_event_loop().run_until_complete(asyncio.sleep(60))",
    ],
    ids=["sleep", "busy", "lock", "asyncio", "loop"],
)
@pytest.mark.parametrize("threads", [0, 4])
def test_hooks_run_above_a_handler_that_goes_no_further(work: str, threads: int, run: Any) -> None:
    function = run(
        dedent(SHUTDOWN)
        + dedent(
            f"""
            for _ in range({threads}):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

            def handler(event, context):
                say("working")
                try:
                    {work}
                except BaseException as error:
                    say("the handler saw", repr(error))
                finally:
                    say("the handler went on")
            """
        ),
        event(),
    )
    function.wait_for("working")
    assert function.terminate() == 0
    assert function.out == ["working", "last", "first True True"]


def test_a_signal_that_meets_another_thread_reaches_the_main_thread_at_once(run: Any) -> None:
    function = run(
        dedent(SHUTDOWN)
        + dedent(
            """
            def handler(event, context):
                # To this thread and no other, as the kernel may choose.
                threading.Thread(target=lambda: (time.sleep(0.05), signal.pthread_kill(
                    threading.get_ident(), signal.SIGTERM), time.sleep(60)), daemon=True).start()
                time.sleep(60)
            """
        ),
        event(),
    )
    # Without a helping hand the main thread would sleep on: longer than the test waits.
    assert function.end() == 0
    assert function.out == ["last", "first True True"]


def test_hooks_run_once_however_often_the_signal_comes(run: Any) -> None:
    function = run(
        """
        @on_shutdown
        def again():
            say("hook")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)
            say("still")

        def handler(event, context): pass
        """
    )
    function.api.wait_for(3)
    assert function.terminate() == 0
    assert function.out == ["hook", "still"]


@pytest.mark.parametrize(
    "raised",
    ["ValueError('on purpose')", "SystemExit('on purpose')", "KeyboardInterrupt('on purpose')"],
    ids=["error", "exit", "ctrl-c"],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_a_shutdown_hook_raises_is_logged_and_the_others_run(raised: str, kind: str, run: Any) -> None:
    function = run(
        dedent(SHUTDOWN)
        + dedent(
            f"""
            @on_shutdown
            {kind} broken():
                raise {raised}
            """
        )
        + IDLE
    )
    function.api.wait_for(3)
    assert function.terminate() == 0
    assert function.out[-2:] == ["last", "first True True"]
    assert "on purpose" in "\n".join(function.out[:-2])


@every_way
def test_a_hook_that_takes_too_long_is_abandoned(way: str, run: Any) -> None:
    function = run(
        """
        @on_shutdown
        def behind(): say("behind")

        @on_shutdown
        def hangs():
            say("hangs")
            while True:
                try:
                    time.sleep(60)
                finally:
                    continue

        def handler(event, context): pass
        """,
        way=way,
    )
    function.api.wait_for(3)
    assert function.terminate() == 0
    assert function.out == ["hangs"]
    assert "450 ms after SIGTERM an on_shutdown hook still runs; the process ends now" in function.err


def test_a_hook_that_holds_the_interpreter_in_c_is_abandoned_too(run: Any) -> None:
    function = run(
        """
        @on_shutdown
        def hangs():
            # A regular expression that takes years, and holds the GIL.
            import re
            re.match("(a*)*b", "a" * 60)

        def handler(event, context): pass
        """
    )
    function.api.wait_for(3)
    assert function.terminate() == 0
    assert "the process ends now" in function.err


EARLIER = """
    def earlier(number, frame):
        say("earlier", number == signal.SIGTERM)
        raise SystemExit(9)
"""


def test_an_earlier_handler_of_sigterm_is_called_behind_the_hooks(run: Any) -> None:
    source = "\nsignal.signal(signal.SIGTERM, earlier)\n"
    function = run(dedent(EARLIER) + source + dedent(SHUTDOWN) + IDLE)
    function.api.wait_for(3)
    assert function.terminate() == 0
    assert function.out == ["last", "first True True", "earlier True"]


@pytest.mark.parametrize("compat", [False, True], ids=["rust", "python"])
def test_a_handler_that_is_set_in_an_invocation_is_called_behind_the_hooks(compat: bool, run: Any) -> None:
    imports = "\nimport awslambdaric.lambda_runtime_marshaller\n" if compat else "\n"
    function = run(
        dedent(EARLIER)
        + imports
        + dedent(SHUTDOWN)
        + dedent(
            """
            def handler(event, context):
                signal.signal(signal.SIGTERM, earlier)
            """
        ),
        event(),
        ACCEPTED,
    )
    invoked(function)
    if compat:
        # The loop in Python looks at it before it asks.
        assert function.api.asked[-1] == NEXT
    assert function.terminate() == 0
    assert function.out == ["last", "first True True", "earlier True"]


def test_a_handler_of_an_event_loop_is_called_behind_the_hooks(run: Any) -> None:
    function = run(
        dedent(
            """
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            loop.add_signal_handler(signal.SIGTERM, lambda: say("loop's"))
            on_shutdown(lambda: say("hook"))
            """
        )
        + IDLE
    )
    function.api.wait_for(3)
    assert function.terminate() == 0
    assert function.out == ["hook", "loop's"]


def test_exit_functions_run_and_buffers_are_flushed(run: Any) -> None:
    function = run(
        """
        import atexit, logging, logging.handlers

        atexit.register(lambda: say("atexit"))
        target = logging.StreamHandler(sys.stdout)
        logging.getLogger("kept").addHandler(logging.handlers.MemoryHandler(100, target=target))
        logging.getLogger("kept").propagate = False

        @on_shutdown
        def hook():
            logging.getLogger("kept").warning("kept until now")
            sys.__stdout__.write("no newline yet")

        def handler(event, context): pass
        """
    )
    function.api.wait_for(3)
    assert function.terminate() == 0
    said = "\n".join(function.out)
    assert "atexit" in said
    assert "kept until now" in said
    assert "no newline yet" in said


@pytest.mark.parametrize("earlier", [True, False])
def test_a_forked_child_runs_no_hooks(earlier: bool, run: Any) -> None:
    function = run(
        dedent(EARLIER)
        + ("\nsignal.signal(signal.SIGTERM, earlier)\n" if earlier else "\n")
        + dedent(SHUTDOWN)
        + dedent(
            """
            def handler(event, context):
                pid = os.fork()
                if pid == 0:
                    try:
                        os.kill(os.getpid(), signal.SIGTERM)
                        time.sleep(60)
                    except SystemExit as error:
                        os._exit(error.code)
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            """
        ),
        event(),
        ACCEPTED,
    )
    invoked(function)
    function.close()
    assert function.api.answers == [9 if earlier else -signal.SIGTERM]
    assert function.out == (["earlier True"] if earlier else [])


def test_remaining_shutdown_ms_is_for_the_shutdown(run: Any) -> None:
    function = run("def handler(event, context): return remaining_shutdown_ms()", event(), ACCEPTED)
    invoked(function)
    assert function.api.answers[0]["errorType"] == "RuntimeError"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(404), ""),
        (status(403, "Extension.TooManyExtensions"), "was refused: 403"),
        (status(500), "the Runtime API failed: 500"),
        (CLOSE, "the connection was closed without an answer"),
    ],
    ids=["404", "403", "500", "close"],
)
def test_a_function_works_where_no_extension_can_be_registered(answer: Step, said: str, run: Any) -> None:
    function = run(dedent(SHUTDOWN) + IDLE, event("e"), ACCEPTED, registration=answer)
    invoked(function)
    assert function.api.answers == ["e"]
    assert function.terminate() == 0, "the signal may come all the same, from whoever started it"
    assert function.out == ["last", "first True True"]
    if said:
        assert "caloric: on_shutdown hooks run only if Lambda sends SIGTERM all the same: " in function.err
        assert said in function.err
    else:
        assert function.err == ""


def test_a_hook_that_comes_late_runs_and_says_that_lambda_may_not_send_the_signal(run: Any) -> None:
    function = run(
        dedent(
            """
            def handler(event, context):
                @on_shutdown
                def late(): say("late")
            """
        ),
        event(),
        ACCEPTED,
        registration=status(403, "Extension.RegistrationClosed"),
    )
    invoked(function)
    assert function.terminate() == 0
    assert function.out == ["late"]
    assert "Extension.RegistrationClosed" in function.err


def test_a_poll_that_ends_is_told_and_the_function_goes_on(run: Any) -> None:
    ended = status(403, "Extension.InvalidExtensionState")
    answer = threading.Event()
    function = run(dedent(SHUTDOWN) + IDLE, (answer, event("e")), ACCEPTED, poll=ended)
    function.wait_for_error("without its internal extension this process may be killed")
    answer.set()
    invoked(function)
    assert function.api.answers == ["e"]
    assert "GET /extension/event/next was refused: 403" in function.err
    assert function.terminate() == 0
    assert function.out == ["last", "first True True"]


def test_an_event_that_nobody_asked_for_is_answered_with_the_next_poll(run: Any) -> None:
    document = b'{"eventType":"INVOKE"}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(document)}\r\n\r\n".encode()
    hold = threading.Event()
    polls: Iterator[Step] = iter([head + document, (hold, CLOSE)])

    class Once(Api):
        def step(self, index: int, request: Request) -> Step:
            return (
                next(polls, HANG)
                if request.path == EXTENSION + "event/next"
                else super().step(index, request)
            )

    function = run(dedent(SHUTDOWN) + IDLE, api=Once)
    # Registration, two polls, and the runtime's own.
    function.api.wait_for(4)
    assert [request.call for request in function.api.of_extension] == ["register", "next", "next"]
    hold.set()


# ---- snapshots -----------------------------------------------------------------------------------------------------

RESTORED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SNAPSTART = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
SNAPSHOT = """
    from snapshot_restore_py import register_after_restore, register_before_snapshot

    @before_snapshot
    def before_first(): say("before first"); {before}

    @before_snapshot
    async def before_last(): say("before last")

    register_before_snapshot(lambda: say("before, AWS's"))

    @after_restore
    async def after_first(): say("after first"); {after}

    @after_restore
    def after_last(): say("after last")

    register_after_restore(lambda: say("after, AWS's"))
    on_init(lambda: say("init"))

    def handler(event, context): say("handler")
"""


def test_hooks_run_around_the_snapshot_inside_those_of_awss_package(run: Any) -> None:
    source = dedent(SNAPSHOT).format(before="", after="")
    function = run(source, RESTORED, event(), ACCEPTED, **SNAPSTART)
    function.wait_for("handler")
    assert function.out == [
        "init",
        "before last",
        "before first",
        "before, AWS's",
        "after, AWS's",
        "after first",
        "after last",
        "handler",
    ]
    assert function.api.asked[:2] == ["GET /2018-06-01/runtime/restore/next", NEXT]


@pytest.mark.parametrize("raised", ["ValueError", "SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_that_fails_around_the_snapshot_ends_the_process(raised: str, when: str, run: Any) -> None:
    source = dedent(SNAPSHOT).format(**{"before": "", "after": "", when: f"raise {raised}('on purpose')"})
    steps = [ACCEPTED] if when == "before" else [RESTORED, ACCEPTED]
    function = run(source, *steps, **SNAPSTART)
    assert function.end() == (64 if when == "before" else 65)
    call = "init" if when == "before" else "restore"
    assert function.api.asked[-1] == f"POST /2018-06-01/runtime/{call}/error"
    assert function.api.answers[-1]["errorType"] == raised
    posted = function.api.requests[-1].headers["lambda-runtime-function-error-type"]
    assert posted == ("Runtime.BeforeSnapshotError" if when == "before" else "Runtime.AfterRestoreError")


def test_the_extension_is_registered_before_the_snapshot_and_its_hooks_work_while_it_is_waited_for(
    run: Any,
) -> None:
    function = run(dedent(SHUTDOWN) + IDLE, **SNAPSTART)
    function.api.wait_for(3)
    assert function.api.requests[0].path == EXTENSION + "register"
    assert function.api.asked == ["GET /2018-06-01/runtime/restore/next"]
    assert function.terminate() == 0
    assert function.out == ["last", "first True True"]


# ---- where Caloric is not the runtime ------------------------------------------------------------------------------


def test_under_awslambdaric_the_decorators_do_nothing(run: Any) -> None:
    function = run(
        dedent(AROUND) + dedent(SHUTDOWN) + "\non_init(lambda: say('init'))\n",
        event({}),
        ACCEPTED,
        way="awslambdaric",
    )
    invoked(function)
    function.close()
    assert function.api.answers == [{"result": 1}]
    assert function.api.of_extension == []
    assert function.out == ["handler {}"]


def test_importing_the_hooks_loads_nothing_else(tmp_path: Path) -> None:
    code = """
import sys
before = set(sys.modules)
import caloric.lifecycle
print(*sorted(set(sys.modules) - before))
"""
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, env=environment(""), cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    assert loaded.stdout.decode().split() == ["caloric", "caloric.lifecycle"]


def test_a_decorator_returns_its_function() -> None:
    from caloric import lifecycle

    for name in lifecycle.__all__:
        if name == "remaining_shutdown_ms":
            continue
        registered = getattr(lifecycle, f"_{name}")
        before = [*registered]

        def function(*_: object) -> None: ...

        assert getattr(lifecycle, name)(function) is function
        registered[:] = before


# ---- workers of Managed Instances ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prefork", ["0", "1"])
def test_hooks_run_in_each_worker_and_the_main_process_registers_one_extension(
    prefork: str, run: Any
) -> None:
    function = run(
        """
        parent = os.getpid() if os.environ["CALORIC_PREFORK_IMPORT"] == "1" else os.getppid()

        @on_init
        def begin(): say("init", os.getpid() != parent)

        @on_shutdown
        def end(): say("end", os.getpid() != parent)

        def handler(event, context): pass
        """,
        AWS_LAMBDA_MAX_CONCURRENCY="2",
        CALORIC_PREFORK_IMPORT=prefork,
    )
    # One registration, its poll, and a poll of each worker.
    requests = function.api.wait_for(4)
    assert [request.call for request in function.api.of_extension] == ["register", "next"]
    registered = [request.path for request in requests].index(EXTENSION + "register")
    assert registered == 0, "before any worker asks for an invocation"
    assert function.terminate() == 0
    assert sorted(function.out) == ["end True", "end True", "init True", "init True"]
    assert function.err == ""


def test_a_worker_whose_on_init_fails_reports_it(run: Any) -> None:
    function = run(
        """
        @on_init
        def begin(): raise ValueError("on purpose")

        def handler(event, context): pass
        """,
        ACCEPTED,
        ACCEPTED,
        AWS_LAMBDA_MAX_CONCURRENCY="2",
    )
    assert function.end() == 1
    assert {answer["errorType"] for answer in function.api.answers} == {"ValueError"}
