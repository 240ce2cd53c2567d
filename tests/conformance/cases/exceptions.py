"""What a handler raises (spec runtime-api 4.5, 4.7)."""

from __future__ import annotations

from tests.conformance.case import Case, raises

# So many that the peer's order of paths, a set's, is never that of the stack.
_DEEP = {f"m{i}.py": f"import m{i + 1}\ndef call(): m{i + 1}.call()\n" for i in range(1, 10)}

CASES: list[Case] = [
    Case(
        "an exception through ten files",
        {
            "app.py": "import m1\ndef handler(event, context): m1.call()\n",
            **_DEEP,
            "m10.py": "def call(): raise OSError(2, 'No such thing', 'größe')\n",
        },
        posts=("error",),
        shows="in call",
    ),
    raises("an exception with a message", "raise ValueError('on purpose')", shows="on purpose"),
    raises("an exception without a message", "raise ValueError"),
    raises(
        "an exception through the standard library", "import json; json.loads('{')", shows="JSONDecodeError"
    ),
    raises("division by zero", "1 / 0", shows="ZeroDivisionError"),
    raises("a missing key", "{}['größe']"),
]
