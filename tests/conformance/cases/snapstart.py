"""SnapStart: hooks, the restore, and what fails around them (spec runtime-api 5)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from tests.conformance.case import NULL, Case, function, source
from tests.scripted_api import ACCEPTED, CLOSE, RESET, event, status

if TYPE_CHECKING:
    from tests.scripted_api import Step

SNAPSTART = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
RESTORED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SERVED: tuple[Step, ...] = (RESTORED, NULL, ACCEPTED)

_HOOK_FRAME = "snapstart-first-frame"
_NO_RESTORE = "snapstart-no-restore"

_PACKAGE = source("""
    import os, sys
    import snapshot_restore_py as package
    from snapshot_restore_py import register_after_restore, register_before_snapshot
""")
_HANDLER = source("""
    seen = []
    def handler(event, context):
        return seen
""")


def restored(name: str, text: str, **options: Any) -> Case:
    """A function that is restored and served; its handler returns `seen`."""
    options = {"steps": SERVED, "environment": SNAPSTART, **options}
    return function(name, _PACKAGE + _HANDLER + source(text), **options)


def hook_fails(when: str, name: str, body: str, setup: str = "", **options: Any) -> Case:
    """A hook with this body, before the snapshot or after the restore, which fails."""
    before = when == "before-snapshot"
    lines = "".join(f"    {line}\n" for line in source(body).splitlines())
    register = "@register_before_snapshot" if before else "@register_after_restore"
    text = f"{_PACKAGE}{_HANDLER}{source(setup)}\n{register}\ndef hook():\n{lines}"
    options = {
        "steps": (ACCEPTED,) if before else (RESTORED, ACCEPTED),
        "environment": SNAPSTART,
        "posts": ("init/error",) if before else ("restore/error",),
        "differs": (_HOOK_FRAME,),
        **options,
    }
    return function(f"{when} hook: {name}", text, **options)


def unrestored(name: str, *steps: Step, **options: Any) -> Case:
    """A function that is ready for its snapshot and gets another answer than 200."""
    text = "register_before_snapshot(print, 'before')\nregister_after_restore(print, 'after')\n"
    options = {"posts": ("init/error",), "differs": (_NO_RESTORE,), "shows": "before", **options}
    return restored(f"restore: {name}", text, steps=(*steps, ACCEPTED), **options)


_RAISED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "an exception with a message": ("raise ValueError('on purpose')", "", {"shows": "on purpose"}),
    "an exception without a message": ("raise RuntimeError", "", {}),
    "an exception beyond Latin-1": ("raise RuntimeError('größer als 日本')", "", {"shows": "größer"}),
    "a message of several lines": ("raise ValueError('one\\ntwo\\r\\nthree')", "", {}),
    "an exception from another": (
        "try: 1 / 0\nexcept ZeroDivisionError as e: raise KeyError('x') from e",
        "",
        {},
    ),
    "sys.exit with a number": ("sys.exit(3)", "", {"shows": "SystemExit"}),
    "sys.exit with zero": ("sys.exit(0)", "", {"shows": "SystemExit"}),
    "sys.exit with text": ("sys.exit('a message')", "", {"shows": "a message"}),
    "sys.exit alone": ("sys.exit()", "", {"shows": "SystemExit"}),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "", {"shows": "KeyboardInterrupt"}),
    "GeneratorExit": ("raise GeneratorExit", "", {}),
    "an own BaseException": ("raise Own('own')", "class Own(BaseException): pass\n", {"shows": "own"}),
    "an own class with an own text": (
        "raise Own()",
        "class Own(Exception):\n    def __str__(self): return 'own text'\n",
        {"shows": "own text"},
    ),
    "an exception group": (
        "raise ExceptionGroup('group', [ValueError(1), KeyError(2)])",
        "",
        {"python": (3, 11)},
    ),
    "through other functions": (
        "outer()",
        "def inner(): {}['key']\ndef outer(): inner()\n",
        {"shows": "in inner"},
    ),
    "os._exit": ("os._exit(9)", "", {"posts": (), "differs": ()}),
}

CASES: list[Case] = [
    # ---- the ordinary course --------------------------------------------------------------------------------------
    restored(
        "hooks run in AWS's order, with their arguments",
        """
        def say(*args, **kwargs):
            print("say", args, sorted(kwargs.items()))
            seen.append([*args, kwargs])

        @register_before_snapshot
        def first(): say("before first")

        register_before_snapshot(say, 1, "two", three=3)

        @register_before_snapshot
        def last(): say("before last")

        @register_after_restore
        def after(): say("after first")

        register_after_restore(say, four=4)
        register_after_restore(say, "after last")
        """,
        shows="after last",
    ),
    restored("no hook is registered", ""),
    function(
        "the package is not imported",
        "def handler(event, context): return 1\n",
        steps=SERVED,
        environment=SNAPSTART,
    ),
    restored(
        "several invocations after one restore",
        "register_after_restore(seen.append, 1)",
        steps=(RESTORED, event(1), ACCEPTED, event(2, "id-2"), ACCEPTED),
        posts=("response", "response"),
    ),
    restored(
        "a decorator returns the function",
        """
        @register_before_snapshot
        @register_after_restore
        def hook(): seen.append("hook")
        seen.append(callable(hook))
        """,
    ),
    restored(
        "a before-snapshot hook registers another one",
        """
        register_before_snapshot(seen.append, "first")
        register_before_snapshot(register_before_snapshot, seen.append, "late")
        """,
    ),
    restored(
        "an after-restore hook registers another one",
        """
        register_after_restore(register_after_restore, seen.append, "late")
        register_after_restore(seen.append, "last")
        """,
    ),
    restored(
        "a before-snapshot hook registers an after-restore hook",
        "register_before_snapshot(register_after_restore, seen.append, 'after')",
    ),
    restored(
        "before-snapshot hooks leave the registry one by one and after-restore hooks stay",
        """
        def count(): seen.append([len(package.get_before_snapshot()), len(package.get_after_restore())])
        register_before_snapshot(count)
        register_before_snapshot(count)
        register_after_restore(count)
        register_after_restore(count)
        """,
    ),
    restored(
        "a before-snapshot hook empties the registries",
        """
        register_before_snapshot(seen.append, "never")
        register_after_restore(seen.append, "never")
        register_before_snapshot(package.get_before_snapshot().clear)
        register_before_snapshot(package.get_after_restore().clear)
        """,
    ),
    restored("a hook returns something", "register_after_restore(lambda: {'ignored': object()})"),
    restored(
        "a hook is a class",
        "class Hook:\n    def __init__(self): seen.append('made')\nregister_after_restore(Hook)",
    ),
    restored(
        "a hook starts a thread",
        """
        import threading
        def run():
            thread = threading.Thread(target=seen.append, args=["thread"])
            thread.start()
            thread.join()
        register_before_snapshot(run)
        register_after_restore(run)
        """,
    ),
    restored(
        "hooks write to both streams",
        """
        def write():
            sys.stdout.write("no line end")
            sys.stderr.write("error output\\n")
        register_before_snapshot(write)
        register_after_restore(write)
        """,
    ),
    restored(
        "records of hooks have no request id",
        """
        import logging
        register_before_snapshot(logging.warning, "before")
        register_after_restore(logging.error, "after")
        """,
        shows="after",
    ),
    restored(
        "records of hooks in JSON and frames",
        """
        import logging
        register_before_snapshot(logging.warning, "before")
        register_after_restore(logging.error, "after")
        """,
        environment={**SNAPSTART, "AWS_LAMBDA_LOG_FORMAT": "JSON"},
        telemetry=True,
    ),
    restored(
        "the context without a log group and stream",
        "def handler(event, context): return [context.log_group_name, context.log_stream_name]",
    ),
    # ---- when it applies ------------------------------------------------------------------------------------------
    *(
        restored(
            f"initialization type {kind!r}",
            "register_before_snapshot(seen.append, 1)\nregister_after_restore(seen.append, 2)",
            steps=None,
            environment={"AWS_LAMBDA_INITIALIZATION_TYPE": kind},
        )
        for kind in ("", "on-demand", "provisioned-concurrency", "SNAP-START", "snap-start ", "snapstart")
    ),
    restored(
        "the function changes the initialization type to another one",
        "os.environ['AWS_LAMBDA_INITIALIZATION_TYPE'] = 'on-demand'",
        steps=None,
    ),
    restored(
        "the function removes the initialization type",
        "del os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']",
        steps=None,
    ),
    restored(
        "the function sets the initialization type",
        "os.environ['AWS_LAMBDA_INITIALIZATION_TYPE'] = 'snap-start'",
        environment={},
    ),
    # ---- the restore ----------------------------------------------------------------------------------------------
    *(
        restored(f"restore: {name}", "register_after_restore(seen.append, 1)", steps=(answer, NULL, ACCEPTED))
        for name, answer in {
            "200 with a body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "200 in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            "200 and a closed connection": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "200 of HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\n", CLOSE),
        }.items()
    ),
    unrestored("202", ACCEPTED),
    unrestored("403", status(403)),
    unrestored("404", status(404)),
    unrestored("500", status(500)),
    unrestored("closed without an answer", CLOSE),
    unrestored("reset", RESET),
    unrestored("closed in the body", (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", CLOSE)),
    unrestored("no HTTP", (b"220 smtp.example ESMTP\r\n", CLOSE)),
    restored(
        "a signal handler runs while the snapshot is waited for",
        """
        import signal
        signal.signal(signal.SIGUSR1, lambda number, frame: print("signal"))
        register_after_restore(print, "after")
        """,
        signals={0: signal.SIGUSR1},
        shows="signal",
    ),
    restored(
        "SIGTERM while the snapshot is waited for",
        "",
        steps=((b"", b""),),
        signals={0: signal.SIGTERM},
        posts=(),
        grace=10,
    ),
    # ---- failures -------------------------------------------------------------------------------------------------
    *(
        hook_fails(when, name, body, setup, **options)
        for when in ("before-snapshot", "after-restore")
        for name, (body, setup, options) in _RAISED.items()
    ),
    *(
        restored(
            f"{when} hook: {name}",
            f"register_{when.replace('-', '_')}({arguments})",
            steps=(ACCEPTED,) if when == "before-snapshot" else (RESTORED, ACCEPTED),
            posts=("init/error",) if when == "before-snapshot" else ("restore/error",),
            differs=(_HOOK_FRAME,),
        )
        for when in ("before-snapshot", "after-restore")
        for name, arguments in {
            "a function of the interpreter that fails": "int, 'no number'",
            "no function": "42",
            "called with the wrong arguments": "handler, 1",
        }.items()
    ),
    *(
        hook_fails(when, "the others do not run", "raise ValueError('no')", setup, shows="ran")
        for when, setup in {
            # The one that runs first.
            "before-snapshot": "register_before_snapshot(print, 'never')\nprint('ran')\n",
            "after-restore": "register_after_restore(print, 'ran')\n",
        }.items()
    ),
    *(
        hook_fails(
            when,
            f"the log {where}",
            "raise ValueError('größe')",
            environment={**SNAPSTART, **level},
            telemetry=telemetry,
        )
        for when in ("before-snapshot", "after-restore")
        for where, level, telemetry in (
            ("in frames", {}, True),
            ("in frames with a level", {"AWS_LAMBDA_LOG_LEVEL": "ERROR"}, True),
            ("with a level", {"AWS_LAMBDA_LOG_LEVEL": "FATAL"}, False),
        )
    ),
    *(
        hook_fails(
            when,
            f"the report is answered with {code}",
            "raise ValueError('no')",
            steps=(*restore, status(code)),
            differs=(_HOOK_FRAME, "snapstart-report-refused"),
        )
        for when, restore in {"before-snapshot": (), "after-restore": (RESTORED,)}.items()
        for code in (400, 403, 404, 500)
    ),
    *(
        hook_fails(
            when,
            "the report is not answered",
            "raise ValueError('no')",
            steps=(*restore, CLOSE),
            differs=(_HOOK_FRAME, "snapstart-report-refused"),
        )
        for when, restore in {"before-snapshot": (), "after-restore": (RESTORED,)}.items()
    ),
    hook_fails(
        "before-snapshot",
        "a tool looks at what is posted",
        "raise ValueError('no')",
        """
        import awslambdaric.lambda_runtime_client
        from awslambdaric.lambda_runtime_client import LambdaRuntimeClient
        original = LambdaRuntimeClient.post_init_error
        def post(self, document, *override):
            print("tool", document["errorType"], override, sys.exc_info()[0])
            return original(self, document, *override)
        LambdaRuntimeClient.post_init_error = post
        """,
        shows="tool ValueError",
    ),
    function(
        "SnapStart: a module that cannot be imported",
        "import missing\n",
        steps=(ACCEPTED,),
        environment=SNAPSTART,
        posts=("init/error",),
    ),
    function(
        "SnapStart: a module that ends the process",
        "import sys\nsys.exit(7)\n",
        steps=(ACCEPTED,),
        environment=SNAPSTART,
        posts=(),
    ),
    # ---- randomness -----------------------------------------------------------------------------------------------
    restored(
        "a seed that was set before the snapshot",
        "import random\nrandom.seed(7)\ndef handler(event, context): return random.random()",
        differs=("snapstart-reseeded",),
    ),
    restored(
        "a seed that is set after the restore",
        "import random\nregister_after_restore(random.seed, 7)\ndef handler(event, context): return random.random()",
    ),
    restored(
        "a generator of the function's own",
        "import random\nown = random.Random(7)\ndef handler(event, context): return own.random()",
    ),
    Case(
        "a module of the function's own named random, with SnapStart",
        {
            "app.py": "import random\ndef handler(event, context): return random.seed.__name__\n",
            "random.py": "def seed(): raise ValueError\n",
        },
        steps=SERVED,
        environment=SNAPSTART,
    ),
]
