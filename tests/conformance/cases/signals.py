"""Signals and exit codes (spec runtime-api 4.13, 4.15)."""

from __future__ import annotations

import signal

from tests.conformance.case import MODERN, Case, broken, example, function, raises
from tests.scripted_api import event

_TERM = int(signal.SIGTERM)
_INT = int(signal.SIGINT)
_HANDLER = """
import os, signal, sys

def on_signal(number, frame):
    print("got", signal.Signals(number).name, "in", frame.f_code.co_name if frame else None)
    {then}

signal.signal(signal.SIGTERM, on_signal)
"""
# The signal comes from the function itself, so that it does in the middle of the handler.
_IN_HANDLER = "os.kill(os.getpid(), signal.{name}); import time; time.sleep(0.01); print('went on')"

_ENDS_AT_IMPORT = [
    "sys.exit(7)",
    "sys.exit()",
    "sys.exit('words')",
    "sys.exit(None)",
    "raise SystemExit(3)",
    "os._exit(9)",
]
_ENDS = [
    *_ENDS_AT_IMPORT,
    "sys.exit(True)",
    "sys.exit(256 + 4)",
    "sys.exit(-1)",
    "os.kill(os.getpid(), 9)",
    "os.abort()",
]

CASES: list[Case] = [
    *(
        function(
            f"the module ends the process: {example(ends)}", f"import os, sys\n{ends}\n", posts=(), events=()
        )
        for ends in _ENDS_AT_IMPORT
    ),
    *(
        raises(f"the handler ends the process: {example(ends)}", ends, "import os, sys", posts=())
        for ends in _ENDS
    ),
    *(
        raises(
            f"the second invocation ends the process, {how}",
            "if event == 2: sys.exit(5)\nreturn event",
            "import sys",
            events=(event(1, "a"), event(2, "b")),
            posts=("response",),
            environment=environment,
        )
        for how, environment in (("in old mode", {}), ("in 3.12+ mode", MODERN))
    ),
    broken("an init error ends with 1", "raise ValueError('x')"),
    *(
        raises(
            f"{name} in the handler, {what}",
            _IN_HANDLER.format(name=name),
            _HANDLER.format(then=then) if name == "SIGTERM" and then is not None else "import os, signal",
            posts=posts,
        )
        for name, what, then, posts in (
            ("SIGTERM", "which goes on", "pass", ("response",)),
            ("SIGTERM", "which ends", "sys.exit(3)", ()),
            ("SIGTERM", "which fails", "raise ValueError('from the signal')", ("error",)),
            ("SIGTERM", "without a handler for it", None, ()),
            ("SIGUSR1", "without a handler for it", None, ()),
            ("SIGKILL", "which nobody handles", None, ()),
        )
    ),
    function(
        "SIGTERM while the function waits, without a handler for it",
        "def handler(event, context): pass\n",
        signals={2: _TERM},
        grace=20,
    ),
    # Not here: a handler that ends the process while it waits. On CPython 3.13, and by chance on others, the peer then waits
    # for its polling thread, until the next event. What we do is in tests/integration/test_signals.py.
    function(
        "SIGTERM while the function waits, with a handler that returns",
        _HANDLER.format(then="pass").replace(' "in", frame.f_code.co_name if frame else None', "")
        + "\ndef handler(event, context): pass\n",
        environment=MODERN,
        signals={2: _TERM},
        grace=1,
    ),
    function(
        "an ignored SIGTERM while the function waits",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndef handler(event, context): pass\n",
        signals={2: _TERM},
        grace=0.5,
    ),
    raises(
        "KeyboardInterrupt in the handler",
        "raise KeyboardInterrupt",
        posts=(),
        masks={r"(?s)\ATraceback .*\n(?=KeyboardInterrupt\n)": ""},
    ),
    raises(
        "an exception that is no Exception in the handler",
        "raise Own('on purpose')",
        "class Own(BaseException): pass",
        posts=(),
        masks={r"(?s)\ATraceback .*\n(?=\w*\.?Own: )": ""},
    ),
]
