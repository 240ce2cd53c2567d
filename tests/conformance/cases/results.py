"""What a handler returns, as it is posted (spec runtime-api 4.6)."""

from __future__ import annotations

import re

from tests.conformance.case import MODERN, NULL, Case, example, fails, function, returns
from tests.scripted_api import ACCEPTED, event, status


def streams(name: str, expression: str, setup: str, body: str, content_type: str) -> Case:
    """A handler whose result the peer cannot send, and Caloric streams."""
    ours = {"1 body": re.escape(body), "1 header content-type": re.escape(content_type)}
    return fails(name, expression, setup, differs=("streams",), ours=ours)


_VALUES = [
    "None",
    "True",
    "False",
    "0",
    "-7",
    "2**63",
    "-2**63 - 1",
    "2**64 + 1",
    "10**300 + 7",
    "0.0",
    "-0.0",
    "0.1",
    "1e22",
    "1e16",
    "123456789012345680.0",
    "1e-5",
    "0.0001",
    "1.5e-300",
    "5e-324",
    "1.7976931348623157e308",
    "2.0",
    "float('nan')",
    "float('inf')",
    "[-float('inf')]",
    "1e400",
    "''",
    "'plain'",
    "()",
    "(1, (2, 3))",
    "[]",
    "{}",
    "{'a': [1, {'b': [None, True, {'c': {}}]}], 'd': [[[]]]}",
    "{str(n): n for n in range(100, 0, -1)}",
    "b''",
    "b'\\x00\\xff not JSON'",
    "b'{\"a\": 1}'",
    "[[[]] * 3] * 3",
    "{'a': 1, 'b': 2} | {'a': 3}",
    "[b'x', b'gr\\xc3\\xb6\\xc3\\x9fe']",
    "'x' * 5_000_000",
    "b'x' * 5_000_000",
    "['ä' * 100] * 1000",
    "list(range(20_000))",
]
_TEXTS = [
    "grüße, 日本, עברית, e\\u0301",
    "\\U0001F600\\U0001D49E",
    "quote \\\" backslash \\\\ slash / apostrophe '",
    "\\n\\r\\t\\b\\f\\v\\x00\\x1b\\x1f",
    "\\x7f\\x80\\x9f\\xa0\\xad",
    "\\u2028\\u2029\\ufeff\\ufffe\\uffff",
    "</script><!-- & -->",
]
_KEYS = [
    "1",
    "-1",
    "2**70",
    "1.5",
    "1e22",
    "float('nan')",
    "float('inf')",
    "-float('inf')",
    "True",
    "False",
    "None",
    "''",
    "'ü'",
    "'\\n'",
    "IntEnum('E', 'A').A",
    "Decimal('1.10')",
    "b'x'",
]
_BAD_KEYS = ["(1, 2)", "frozenset()", "object", "1j", "print"]
_DECIMALS = [
    "0",
    "-0",
    "0.0",
    "1.10",
    "1E+2",
    "1e-7",
    "0E-10",
    "-1.5",
    "1" + "0" * 40,
    "0." + "0" * 30 + "1",
    "NaN",
    "-NaN",
    "sNaN",
    "NaN123",
    "Infinity",
    "-Infinity",
]
_OTHER = [
    "{1, 2}",
    "frozenset()",
    "object()",
    "1j",
    "bytearray(b'x')",
    "memoryview(b'x')",
    "range(3)",
    "print",
    "handler",
    "type",
    "{}.keys()",
    "{}.items()",
    "...",
    "NotImplemented",
    "slice(1)",
    "context",
    "ValueError('x')",
    "{'a': {'b': {1}}}",
    "re.compile('x')",
    "Fraction(1, 3)",
    "deque([1])",
    "ModuleType('m')",
    "Path('/x')",
    "UserDict(a=1)",
]
_IMPORTS = """
    import re
    from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
    from dataclasses import dataclass
    from decimal import Decimal
    from enum import Enum, Flag, IntEnum, IntFlag
    from fractions import Fraction
    from pathlib import PurePosixPath as Path
    from types import MappingProxyType, ModuleType, SimpleNamespace
"""
# With orjson in the same environment, some of what awslambdaric refuses is a result under Caloric.
_COLOR = "from enum import Enum\nclass Color(Enum):\n    RED = 'r'"
_DATA = "from dataclasses import dataclass\n@dataclass\nclass Data:\n    a: int\n    b: str"
_WITH_ORJSON = [
    ("datetime.datetime(2026, 11, 23, 19, 56)", "import datetime", '"2026-11-23T19:56:00"'),
    ("datetime.date(2026, 11, 23)", "import datetime", '"2026-11-23"'),
    ("datetime.time(19, 56, 1, 2)", "import datetime", '"19:56:01.000002"'),
    ("uuid.UUID(int=7)", "import uuid", '"00000000-0000-0000-0000-000000000007"'),
    ("Data(1, 'x')", _DATA, '{"a":1,"b":"x"}'),
    ("Color.RED", _COLOR, '"r"'),
    ("[Bits.A | Bits.B]", "from enum import Flag\nclass Bits(Flag):\n    A = 1\n    B = 2", "[3]"),
    ("numpy.arange(3)", "import numpy", "[0,1,2]"),
    ("numpy.bool_(True)", "import numpy", "true"),
]
_ONES_OWN: list[Case] = [
    returns(
        "a named tuple",
        "P(1, [P(2, None)])",
        "from collections import namedtuple\nP = namedtuple('P', 'x y')",
    ),
    returns(
        "a typing.NamedTuple",
        "P()",
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int = 1\n    größe: str = 'ü'",
    ),
    returns(
        "a named tuple whose _asdict lies",
        "P(1)",
        "from collections import namedtuple\nclass P(namedtuple('P', 'x')):\n    def _asdict(self): return {'y': 2}",
    ),
    returns("an object with _asdict", "Odd()", "class Odd:\n    def _asdict(self): return {'as': 'dict'}"),
    fails("_asdict that returns no dict", "Odd()", "class Odd:\n    def _asdict(self): return [1]"),
    fails("_asdict that raises", "Odd()", "class Odd:\n    def _asdict(self): raise KeyError('in _asdict')"),
    returns("a class with _asdict", "Odd", "class Odd:\n    def _asdict(self): return {}", posts=None),
    returns("a list with _asdict", "Odd([1])", "class Odd(list):\n    def _asdict(self): return {'a': 1}"),
    returns("a dict with _asdict", "Odd(b=2)", "class Odd(dict):\n    def _asdict(self): return {'a': 1}"),
    returns("an _asdict that is no method", "Odd()", "class Odd:\n    _asdict = 7", posts=None),
    returns("a tuple of a class of one's own", "Odd((1, 2))", "class Odd(tuple): pass"),
    returns("a list of a class of one's own", "Odd([1, 2])", "class Odd(list): pass"),
    returns(
        "a list that iterates otherwise",
        "Odd([1, 2])",
        "class Odd(list):\n    def __iter__(self): return iter('ab')",
    ),
    returns(
        "a list that says it is empty",
        "Odd([1, 2])",
        "class Odd(list):\n    def __bool__(self): return False\n    def __len__(self): return 0",
    ),
    fails(
        "a list whose iteration raises",
        "Odd([1])",
        "class Odd(list):\n    def __iter__(self): raise ValueError('in iter')",
    ),
    returns("a dict of a class of one's own", "Odd(a=1)", "class Odd(dict): pass"),
    returns(
        "a dict with items() of its own",
        "Odd(a=1)",
        "class Odd(dict):\n    def items(self): return [('b', 2)]",
    ),
    returns(
        "a dict with __iter__ of its own",
        "Odd(a=1)",
        "class Odd(dict):\n    def __iter__(self): return iter('xy')",
    ),
    returns(
        "a dict with __getitem__ of its own",
        "Odd(a=1)",
        "class Odd(dict):\n    def __getitem__(self, key): return 'got'",
    ),
    returns("a dict that says it is empty", "Odd(a=1)", "class Odd(dict):\n    def __len__(self): return 0"),
    returns("a dict that is false", "Odd(a=1)", "class Odd(dict):\n    def __bool__(self): return False"),
    fails(
        "a dict whose items() raises",
        "Odd(a=1)",
        "class Odd(dict):\n    def items(self): raise ValueError('in items')",
    ),
    returns(
        "a dict that changes while it is written",
        "Odd(a=1)",
        "class Odd(dict):\n    def items(self):\n        self['z'] = 1\n        return super().items()",
        posts=None,
    ),
    returns(
        "an OrderedDict in its order",
        "d",
        "from collections import OrderedDict\nd = OrderedDict(a=1, b=2)\nd.move_to_end('a')",
    ),
    returns("a defaultdict", "d", "from collections import defaultdict\nd = defaultdict(list, a=[1])"),
    returns("a Counter", "Counter('hello')", "from collections import Counter"),
    fails("a MappingProxyType", "MappingProxyType({})", _IMPORTS),
    fails("a SimpleNamespace", "SimpleNamespace(a=1)", _IMPORTS),
    returns(
        "a text of a class of one's own",
        "Odd('x')",
        "class Odd(str):\n    def __str__(self): return 'lies'\n    def __repr__(self): return 'lies'",
    ),
    returns(
        "an integer of a class of one's own",
        "Odd(7)",
        "class Odd(int):\n    def __str__(self): return 'lies'\n    def __repr__(self): return 'lies'\n    def __int__(self): return 8",
    ),
    returns(
        "a float of a class of one's own",
        "Odd(1.5)",
        "class Odd(float):\n    def __str__(self): return 'lies'\n    def __repr__(self): return 'lies'\n    def __float__(self): return 8.0",
    ),
    returns("a bytes of a class of one's own", "Odd(b'x')", "class Odd(bytes): pass"),
    returns(
        "a Decimal of a class of one's own",
        "Odd('1.10')",
        "from decimal import Decimal\nclass Odd(Decimal): pass",
    ),
    returns(
        "a Decimal whose text lies",
        "Odd('1.10')",
        "from decimal import Decimal\nclass Odd(Decimal):\n    def __str__(self): return '7'",
    ),
    returns("an IntEnum", "[E.A, {E.A: E.A}]", "from enum import IntEnum\nclass E(IntEnum):\n    A = 3"),
    returns("an IntFlag", "[F.A | F.B]", "from enum import IntFlag\nclass F(IntFlag):\n    A = 1\n    B = 2"),
    returns(
        "a StrEnum",
        "[E.A, {E.A: 1}]",
        "from enum import StrEnum\nclass E(StrEnum):\n    A = 'größe'",
        python=(3, 11),
    ),
    returns(
        "a str that is an Enum", "[E.A, {E.A: 1}]", "from enum import Enum\nclass E(str, Enum):\n    A = 'a'"
    ),
    returns("a float that is an Enum", "[E.A]", "from enum import Enum\nclass E(float, Enum):\n    A = 1.5"),
    returns("numpy.float64, which is a float", "numpy.float64(1.5)", "import numpy"),
    returns("simplejson's RawJSON", "RawJSON('[1,  2.50]')", "from simplejson import RawJSON"),
    returns("an object with for_json", "Odd()", "class Odd:\n    def for_json(self): return 1", posts=None),
    returns("an object with __json__", "Odd()", "class Odd:\n    def __json__(self): return '1'", posts=None),
    returns("the event itself, changed", "event.update(b=event['a']) or event", events=(event({"a": [1]}),)),
    returns("a name twice by its type", "{1: 'a', '1': 'b', 1.0: 'c', True: 'd'}"),
    returns(
        "a name that is a kind of text",
        "{Odd('k'): 1}",
        "class Odd(str):\n    def __str__(self): return 'lies'",
    ),
    returns("None as a name beside its text", "{None: 1, 'null': 2}"),
]
_LIMITS: list[Case] = [
    fails("a list in itself", "x", "x = []\nx.append(x)", shows="Circular reference"),
    fails("a dict in itself", "x", "x = {}\nx['x'] = [x]"),
    fails(
        "an _asdict that returns itself",
        "x",
        "class Odd:\n    def _asdict(self): return {'x': self}\nx = Odd()",
    ),
    fails("bytes in a list that are not UTF-8", "[b'\\xff']"),
    returns("the same list twice", "[x, x, {'x': x}]", "x = [1]"),
    returns("lists 200 deep", "x", "x = []\nfor _ in range(200): x = [x]"),
    returns("dicts 200 deep", "x", "x = {}\nfor _ in range(200): x = {'a': x}"),
    fails("lists 100 000 deep", "x", "x = []\nfor _ in range(100_000): x = [x]", differs=("nesting-depth",)),
    returns("an integer too long to be written", "10**5000", python=(3, 11), posts=None),
    function(
        "a response that is too large",
        "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return n\n",
        steps=(event(), status(413, "RequestEntityTooLarge"), event(), ACCEPTED),
        posts=None,
        differs=("refused-answers",),
    ),
    fails(
        "a coroutine",
        "coro()",
        "async def coro(): return {'a': 1}",
        differs=("awaits",),
        ours={"1 body": r'\{"a":1\}'},
    ),
    streams("an async generator", "agen()", "async def agen(): yield 1", "1\n", "application/x-ndjson"),
    streams("a generator of a function", "gen()", "def gen(): yield 'a'", "a", "text/plain; charset=utf-8"),
    streams("an iterator", "map(str, (1, 2))", "", "12", "text/plain; charset=utf-8"),
    Case(
        "an async handler",
        {"app.py": "async def handler(event, context): return 1\n"},
        posts=("error",),
        shows="coroutine is not JSON serializable",
        differs=("awaits",),
        ours={"1 body": "1"},
    ),
    Case(
        "a generator as a handler",
        {"app.py": "def handler(event, context): yield b'1'\n"},
        posts=("error",),
        shows="generator is not JSON serializable",
        differs=("streams",),
        ours={"1 body": "1", "1 header content-type": "application/octet-stream"},
    ),
    Case(
        "a class as a handler",
        {"app.py": "class handler:\n    def __init__(self, e, c): pass\n"},
        posts=("error",),
    ),
    Case("no return at all", {"app.py": "def handler(event, context): pass\n"}),
    Case("a lambda as a handler", {"app.py": "handler = lambda e, c: 'λ'\n"}),
    Case(
        "a method as a handler", {"app.py": "class A:\n    def m(self, e, c): return 'm'\nhandler = A().m\n"}
    ),
    Case(
        "a static method in a class",
        {"app.py": "class A:\n    @staticmethod\n    def m(e, c): return 'm'\nhandler = A.m\n"},
    ),
    Case(
        "a cached function as a handler",
        {"app.py": "import functools\n@functools.wraps(len)\ndef handler(e, c): return handler.__name__\n"},
    ),
    Case(
        "fifty results of one process",
        {
            "app.py": "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return {'n': n, 'id': c.aws_request_id}\n"
        },
        events=tuple(event(request_id=f"id-{n}") for n in range(50)),
        posts=("response",) * 50,
    ),
    Case(
        "large and small results in turn",
        {"app.py": "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return 'x' * (10 ** (n % 7))\n"},
        events=(NULL,) * 14,
        posts=("response",) * 14,
    ),
]
_LOST = "fails to be posted by awslambdaric in 3.12+ mode"
CASES: list[Case] = [
    *(returns(f"the result {example(value)}", value) for value in _VALUES),
    *(returns(f"the text {example(text)}", f'"{text}"') for text in _TEXTS),
    *(
        returns(f"the text {example(text)} where the peer writes UTF-8", f'"{text}"', environment=MODERN)
        for text in _TEXTS
    ),
    *(returns(f"the name {example(key)}", f"{{{key}: 1}}", _IMPORTS, posts=None) for key in _KEYS),
    *(fails(f"no name: {example(key)}", f"{{{key}: 1}}") for key in _BAD_KEYS),
    *(
        returns(f"Decimal {example(number)}", f"Decimal('{number}')", "from decimal import Decimal")
        for number in _DECIMALS
    ),
    *(fails(f"no JSON: {example(value)}", value, _IMPORTS) for value in _OTHER),
    *(
        fails(
            f"orjson knows {example(value)}",
            value,
            setup,
            differs=("orjson",),
            ours={"1 body": re.escape(expected)},
        )
        for value, setup, expected in _WITH_ORJSON
    ),
    fails("orjson's types are no names", "{Color.RED: 1}", _COLOR, shows="keys must be"),
    *_ONES_OWN,
    *_LIMITS,
    returns("names outside ASCII", "{'schlüssel 🔑': 'wert', '': 'empty'}"),
    returns("a text of half a surrogate pair", "['\\ud800', '\\udfff x', '\\udc00\\ud800']"),
    returns("halves of a surrogate pair that fit", "'\\ud83d\\ude00'"),
    returns(
        f"half a surrogate pair {_LOST}",
        "'\\ud800'",
        environment=MODERN,
        posts=(),
        differs=("lone-surrogates",),
        ours={"1 body": r'"\\ud800"'},
    ),
]
