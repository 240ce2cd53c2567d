"""What a handler raises (spec runtime-api 4.5, 4.7)."""

from __future__ import annotations

from typing import Any

from tests.conformance.case import MODERN, Case, function, raises
from tests.scripted_api import event

# So many that the peer's order of paths, a set's, is never that of the stack.
_DEEP = {f"m{i}.py": f"import m{i + 1}\ndef call(): m{i + 1}.call()\n" for i in range(1, 10)}
_TEXTS = [
    "größe, 日本, 😀",
    "one\\ntwo\\r\\nthree\\rfour",
    "\\x00\\x07\\x1b[31m\\x7f\\x80\\x9f\\xa0",
    "\\u2028\\u2029\\ufeff",
    "   leading and trailing   ",
    "\\n",
    'quote \\" and \\\\ backslash',
    "<b>&amp;</b>",
    "%s %d {} {0}",
]


_UNSPEAKABLE = "<exception str\\(\\) failed: {}>"


def _unreportable(message: str, error_type: str) -> dict[str, Any]:
    """The peer's process ends; ours logs and posts this."""
    body = rf'\{{"errorMessage":"{message}","errorType":"{error_type}","requestId":"id-1","stackTrace":\["  File .*"\]\}}'
    stdout = rf"\[ERROR\] {error_type}: {message}\rTraceback \(most recent call last\):\r\xa0\xa0File .*\n"
    return {"posts": (), "differs": ("unreportable-errors",), "ours": {"1 body": body, "stdout": stdout}}


def _ends(name: str, statements: str, setup: str = "", **options: object) -> Case:
    return raises(f"in the handler: {name}", statements, setup, **{"posts": (), **options})


_SHAPES: list[Case] = [
    raises("an exception with a message", "raise ValueError('on purpose')", shows="on purpose"),
    raises("an exception without a message", "raise ValueError"),
    raises("an exception with an empty message", "raise ValueError('')"),
    raises("an exception with a number for a message", "raise ValueError(7)"),
    raises("an exception with None for a message", "raise ValueError(None)"),
    raises("an exception with several arguments", "raise ValueError('a', 2, None)"),
    raises(
        "an exception through the standard library", "import json; json.loads('{')", shows="JSONDecodeError"
    ),
    raises("division by zero", "1 / 0", shows="ZeroDivisionError"),
    raises("a missing key", "{}['größe']"),
    raises("an OSError", "open('/no/such/größe')"),
    raises("an AssertionError", "assert event, 'no event'"),
    raises("a plain Exception", "raise Exception('plain')"),
    raises("StopIteration", "raise StopIteration(1)"),
    raises("a StopIteration from next", "next(iter([]))"),
    raises("a TimeoutError", "raise TimeoutError('late')"),
    raises("a NotImplementedError", "raise NotImplementedError"),
    raises("a Warning", "raise DeprecationWarning('old')"),
    raises("a UnicodeEncodeError", "'\\ud800'.encode()"),
    raises("a RecursionError", "handler(event, context)"),
    raises("a RecursionError of two functions", "f(1)", "def f(x): g(x)\ndef g(x): f(x)\n"),
    raises("a MemoryError", "raise MemoryError"),
    raises("a SyntaxError from eval", "eval('1 +')"),
    raises("a SyntaxError from compile", "compile('größe = = 1', 'tpl ü', 'exec')"),
    raises("an ImportError", "import missing_module"),
    raises("a KeyError with a tuple", "raise KeyError(('a', 'b'))"),
    raises("a subprocess that fails", "import subprocess; subprocess.run(['false'], check=True)"),
    raises("a json error with a document", "import json; json.loads('[1,')"),
    raises("an exception raised again", "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise"),
    raises("an exception in an except clause", "try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['x']"),
    raises("an exception in a finally clause", "try:\n    1 / 0\nfinally:\n    {}['x']"),
    raises(
        "an exception from another one",
        "try:\n    1 / 0\nexcept Exception as e:\n    raise ValueError('outer') from e",
    ),
    raises(
        "an exception from None",
        "try:\n    1 / 0\nexcept Exception:\n    raise ValueError('outer') from None",
    ),
    raises("an exception that is its own cause", "e = ValueError('loop'); e.__cause__ = e; raise e"),
    raises(
        "an ExceptionGroup",
        "raise ExceptionGroup('several', [ValueError('a'), KeyError('b')])",
        python=(3, 11),
    ),
    raises(
        "a nested ExceptionGroup",
        "raise ExceptionGroup('o', [ExceptionGroup('i', [OSError(1, 'x')])])",
        python=(3, 11),
    ),
    raises(
        "an exception with notes", "e = ValueError('noted'); e.add_note('größe'); raise e", python=(3, 11)
    ),
    raises(
        "an exception that another thread raised",
        "from concurrent.futures import ThreadPoolExecutor as T\nT(1).submit(divmod, 1, 0).result()",
    ),
    raises(
        "an exception in asyncio",
        "import asyncio; asyncio.run(f())",
        "async def f(): raise ValueError('async')",
    ),
    raises(
        "an exception group of asyncio tasks",
        "import asyncio; asyncio.run(f())",
        "import asyncio\nasync def f():\n    async with asyncio.TaskGroup() as g:\n        g.create_task(b())\nasync def b(): raise ValueError('task')",
        python=(3, 11),
    ),
    raises(
        "a cancelled task",
        "import asyncio; asyncio.run(f())",
        "import asyncio\nasync def f(): raise asyncio.CancelledError('c')",
        posts=None,
    ),
    raises("an exception with_traceback(None)", "raise ValueError('x').with_traceback(None)"),
    raises(
        "an exception that was made elsewhere",
        "raise E",
        "E = ValueError('made at import')",
        events=(event(), event()),
        posts=("error", "error"),
    ),
    raises(
        "an exception whose traceback is cut",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__ = None\n    raise e",
    ),
    raises("a returned exception cannot be marshalled", "return ValueError('x')"),
]

_ODD: list[Case] = [
    *(raises(f"a message `{text}`", f'raise ValueError("{text}")') for text in _TEXTS),
    *(
        raises(
            f"a message `{text}` where the peer talks UTF-8",
            f'raise ValueError("{text}")',
            environment=MODERN,
        )
        for text in _TEXTS[:4]
    ),
    raises(
        "a message of half a surrogate pair",
        "raise ValueError('\\ud800 x \\udfff')",
        **_unreportable("\\\\ud800 x \\\\udfff", "ValueError"),
    ),
    raises("a message of 100 kB", "raise ValueError('x' * 100_000)"),
    raises(
        "a message of 300 kB", "raise ValueError('ä' * 150_000)", differs=("document-cropped", "xray-cropped")
    ),
    raises(
        "a message of 2 MB", "raise ValueError('x' * 2_000_000)", differs=("document-cropped", "xray-cropped")
    ),
    raises(
        "__str__ that raises",
        "raise Odd",
        "class Odd(Exception):\n    def __str__(self): raise KeyError('in str')",
        **_unreportable(_UNSPEAKABLE.format("KeyError"), "Odd"),
    ),
    raises(
        "__str__ that returns no text",
        "raise Odd",
        "class Odd(Exception):\n    def __str__(self): return 7",
        **_unreportable(_UNSPEAKABLE.format("TypeError"), "Odd"),
    ),
    raises(
        "__str__ that returns a kind of text",
        "raise Odd",
        "class S(str): pass\nclass Odd(Exception):\n    def __str__(self): return S('mine')",
    ),
    raises(
        "__str__ that prints",
        "raise Odd",
        "class Odd(Exception):\n    def __str__(self): print('asked'); return 'odd'",
        differs=("asked-once",),
    ),
    raises(
        "__repr__ that raises",
        "raise Odd('x')",
        "class Odd(Exception):\n    def __repr__(self): raise KeyError",
    ),
    raises(
        "an argument whose text cannot be had",
        "raise ValueError(Odd())",
        "class Odd:\n    def __str__(self): raise KeyError('in str')",
        **_unreportable(_UNSPEAKABLE.format("KeyError"), "ValueError"),
    ),
    raises("a class of one's own", "raise Odd('odd')", "class Odd(Exception): pass"),
    raises("a class in a class", "raise Outer.Odd('odd')", "class Outer:\n    class Odd(Exception): pass"),
    raises("a class whose name is not ASCII", "raise Größe('odd')", "class Größe(Exception): pass"),
    raises(
        "a class whose name is empty", "raise Odd('odd')", "class Odd(Exception): pass\nOdd.__name__ = ''"
    ),
    raises(
        "a class whose name is changed",
        "raise Odd('odd')",
        "class Odd(Exception): pass\nOdd.__name__ = 'two words ü'",
    ),
    raises(
        "a class whose name has line ends",
        "raise Odd('odd')",
        "class Odd(Exception): pass\nOdd.__name__ = 'a\\r\\nb: c'",
    ),
    raises(
        "a class with a metaclass",
        "raise Odd('odd')",
        "class M(type):\n    @property\n    def __name__(cls): return 'from the metaclass'\nclass Odd(Exception, metaclass=M): pass",
    ),
    raises("a class made by type()", "raise type('Made', (ValueError,), {})('odd')"),
    raises(
        "a class called as a fault of the runtime",
        "raise type('Runtime.ExitError', (ValueError,), {})('odd')",
    ),
    raises(
        "an exception with __slots__", "raise Odd('odd')", "class Odd(Exception):\n    __slots__ = ('x',)"
    ),
    raises(
        "an exception with a class property that lies",
        "raise Odd('odd')",
        "class Odd(Exception):\n    __class__ = KeyError",
    ),
    raises(
        "an exception that is a str too",
        "raise Odd('odd')",
        "class Odd(Exception):\n    __len__ = lambda self: 0\n    __bool__ = lambda self: False",
    ),
]

_PLACES: list[Case] = [
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
    raises("an exception in a lambda", "(lambda: 1 / 0)()"),
    raises("an exception in a comprehension", "[1 / x for x in (1, 0)]"),
    raises("an exception in a generator", "list(1 / x for x in (1, 0))"),
    raises("an exception in a callback of sorted", "sorted([1, 2], key=lambda x: x / 0)"),
    raises("an exception in eval", "eval('1 / 0')"),
    raises("an exception in exec", "exec('x = 1\\n1 / 0')"),
    raises(
        "an exception in code with a name of its own", "exec(compile('\\n\\n1 / 0', 'größe.tpl', 'exec'))"
    ),
    raises("an exception in code named as a file", "exec(compile('1 / 0', 'app.py', 'exec'))"),
    raises(
        "an exception in code whose source is in linecache",
        "import linecache\nlinecache.cache['<gen>'] = (5, None, ['1 / 0\\n'], '<gen>')\nexec(compile('1 / 0', '<gen>', 'exec'))",
    ),
    raises("an exception in code with an empty name", "exec(compile('1 / 0', '', 'exec'))"),
    raises(
        "an exception in a property",
        "Odd().x",
        "class Odd:\n    @property\n    def x(self): raise ValueError('property')",
    ),
    raises(
        "an exception in a constructor",
        "Odd()",
        "class Odd:\n    def __init__(self): raise ValueError('init')",
    ),
    raises(
        "an exception in a decorator's wrapper",
        "f()",
        "import functools\ndef d(f):\n    @functools.wraps(f)\n    def w(): return f()\n    return w\n@d\ndef f(): raise ValueError('inner')",
    ),
    raises(
        "an exception in a context manager's exit",
        "with Odd(): pass",
        "class Odd:\n    def __enter__(self): pass\n    def __exit__(self, *x): raise ValueError('exit')",
    ),
    raises("an exception over several source lines", "raise ValueError(\n    'one '\n    'two'\n)"),
    raises("an exception on a line with tabs", "if True:\n\traise ValueError('tab')"),
    raises("an exception on a line that is not ASCII", "größe = {}['日本']  # 😀"),
    raises("an exception on a long line", f"x = [{', '.join(map(str, range(500)))}][1000]"),
    raises("an exception on a line with two statements", "x = 1; y = 0; x / y"),
    raises(
        "an exception in a function named by letters that are not ASCII",
        "größe()",
        "def größe(): raise ValueError('x')",
    ),
    raises(
        "an exception in a deep but not endless recursion",
        "f(50)",
        "def f(n): return f(n - 1) if n else 1 / 0",
    ),
    raises("an exception through C code", "functools.reduce(lambda a, b: a / b, [1, 0])", "import functools"),
    Case(
        "an exception in a folder that is not ASCII",
        {"größe/日本.py": "def handler(e, c): 1 / 0\n"},
        "größe/日本.handler",
        posts=("error",),
    ),
    Case(
        "an exception in a file with a blank in its name",
        {"my app.py": "def handler(e, c): 1 / 0\n"},
        "my app.handler",
        posts=("error",),
    ),
    Case(
        "an exception in a file called bootstrap.py",
        {"bootstrap.py": "def handler(e, c): 1 / 0\n"},
        "bootstrap.handler",
        posts=("error",),
    ),
    Case(
        "an exception under a file called bootstrap.py",
        {"bootstrap.py": "import b\ndef handler(e, c): b.f()\n", "b.py": "def f(): 1 / 0\n"},
        "bootstrap.handler",
        posts=("error",),
        differs=("bootstrap-file",),
    ),
    Case(
        "an exception in bootstrap.py under another file",
        {
            "app.py": "import bootstrap\ndef handler(e, c): bootstrap.f()\n",
            "bootstrap.py": "def f(): 1 / 0\n",
        },
        posts=("error",),
    ),
    Case(
        "an exception whose source file is gone",
        {"app.py": "import os\ndef handler(e, c):\n    os.remove(__file__)\n    1 / 0\n"},
        posts=("error",),
    ),
    Case(
        "an exception whose source file has changed",
        {"app.py": "def handler(e, c):\n    open(__file__, 'w').write('# new\\n' * 9)\n    1 / 0\n"},
        posts=("error",),
    ),
    Case(
        "an exception with the working directory gone",
        {"app.py": "import os, shutil\ndef handler(e, c):\n    shutil.rmtree(os.getcwd())\n    1 / 0\n"},
        **_unreportable("division by zero", "ZeroDivisionError"),
    ),
    Case(
        "an exception in another working directory",
        {"app.py": "import os\ndef handler(e, c):\n    os.chdir('/')\n    1 / 0\n"},
        posts=("error",),
    ),
    Case("a handler that takes no arguments", {"app.py": "def handler(): pass\n"}, posts=("error",)),
    Case("a handler that takes one argument", {"app.py": "def handler(event): pass\n"}, posts=("error",)),
    Case(
        "a handler that takes three arguments", {"app.py": "def handler(a, b, c): pass\n"}, posts=("error",)
    ),
    Case(
        "a handler that takes keywords only",
        {"app.py": "def handler(*, event, context): pass\n"},
        posts=("error",),
    ),
    Case("a handler that is a number", {"app.py": "handler = 7\n"}, posts=("error",)),
    Case("a handler that is None", {"app.py": "handler = None\n"}, posts=("error",)),
    Case(
        "a handler that is a class",
        {"app.py": "class handler:\n    def __init__(self, e, c): raise ValueError('init')\n"},
        posts=("error",),
    ),
    Case(
        "a handler that is an object with __call__",
        {"app.py": "class A:\n    def __call__(self, e, c): 1 / 0\nhandler = A()\n"},
        posts=("error",),
    ),
    Case("a handler that is a builtin", {"app.py": "handler = len\n"}, posts=("error",)),
    Case(
        "a handler that is a partial",
        {"app.py": "import functools\nhandler = functools.partial(divmod, 1)\n"},
        posts=("error",),
    ),
    Case(
        "a handler in C that raises",
        {"app.py": "import operator\nhandler = operator.truediv\n"},
        posts=("error",),
    ),
    function(
        "an exception, then a result, then an exception",
        "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return n if n == 2 else 1 / 0\n",
        events=(event(),) * 3,
        posts=("error", "response", "error"),
    ),
    raises("an exception after output", "print('out')\nprint('err', file=sys.stderr)\n1 / 0", "import sys"),
    raises("an exception after output without a line end", "print('out', end='')\n1 / 0"),
    raises(
        "an exception with standard output closed",
        "import sys; sys.stdout.close(); 1 / 0",
        **{**_unreportable("division by zero", "ZeroDivisionError"), "shows": None},
    ),
    raises(
        "an exception with standard output replaced",
        "import io, sys; sys.stdout = io.StringIO(); 1 / 0",
        posts=("error",),
    ),
    raises(
        "an exception while an X-Ray id is set",
        "1 / 0",
        events=(event(Lambda_Runtime_Trace_Id="Root=1-x;Sampled=1"),),
    ),
    raises("an exception in context.get_remaining_time_in_millis", "context.get_remaining_time_in_millis(1)"),
    raises("an exception from a missing attribute of the context", "context.no_such"),
    raises(
        "an exception from context.log",
        "context.log(Odd())",
        "class Odd:\n    def __str__(self): raise ValueError('no text')",
    ),
    raises("an exception from context.log without an argument", "context.log()"),
    raises(
        "an exception with sys.tracebacklimit",
        "import sys; sys.tracebacklimit = 0; f()",
        "def f(): g()\ndef g(): 1 / 0",
    ),
    raises("an exception with sys.excepthook replaced", "import sys; sys.excepthook = print; 1 / 0"),
    raises(
        "an exception with traceback.format_list replaced",
        "import traceback; traceback.format_list = lambda x: ['mine']; 1 / 0",
        posts=None,
    ),
]

_ENDS: list[Case] = [
    _ends("sys.exit()", "sys.exit()", "import sys"),
    _ends("sys.exit(0)", "sys.exit(0)", "import sys"),
    _ends("sys.exit(3)", "sys.exit(3)", "import sys"),
    _ends("sys.exit(None)", "sys.exit(None)", "import sys"),
    _ends("sys.exit with a text", "sys.exit('good bye ü')", "import sys"),
    _ends("sys.exit with a huge number", "sys.exit(2**40 + 3)", "import sys"),
    _ends("a SystemExit of one's own", "raise Odd(7)", "class Odd(SystemExit): pass"),
    _ends("exit()", "exit()"),
    _ends("quit(6)", "quit(6)"),
    _ends("os._exit(5)", "os._exit(5)", "import os"),
    _ends("os.abort()", "os.abort()", "import os"),
    _ends("KeyboardInterrupt", "raise KeyboardInterrupt"),
    _ends("KeyboardInterrupt with a text", "raise KeyboardInterrupt('x')"),
    _ends("GeneratorExit", "raise GeneratorExit"),
    _ends("a BaseException of one's own", "raise Odd('odd')", "class Odd(BaseException): pass"),
    _ends(
        "a BaseException from an exception",
        "try:\n    1 / 0\nexcept Exception as e:\n    raise Odd('odd') from e",
        "class Odd(BaseException): pass",
    ),
    _ends("a BaseExceptionGroup", "raise BaseExceptionGroup('g', [KeyboardInterrupt()])", python=(3, 11)),
    _ends(
        "sys.exit with a handler of atexit",
        "import atexit; atexit.register(print, 'at exit'); sys.exit(3)",
        "import sys",
    ),
    _ends("sys.exit from a callback", "sorted([1, 2], key=sys.exit)", "import sys"),
    _ends("a signal to itself", "os.kill(os.getpid(), 9)", "import os"),
    _ends("a segmentation fault", "import ctypes; ctypes.string_at(0)"),
    _ends(
        "a BaseException while the result is written",
        "return Odd()",
        "class Odd(dict):\n    def items(self): raise KeyboardInterrupt\n    def __len__(self): return 1",
        posts=None,
    ),
    _ends(
        "a BaseException in _asdict", "return Odd()", "class Odd:\n    def _asdict(self): raise SystemExit(4)"
    ),
    _ends(
        "a second invocation ends it",
        "print('n'); globals().__setitem__('n', n + 1)\nif n == 2: sys.exit(n)",
        "import sys\nn = 0",
        events=(event(), event()),
        posts=("response",),
    ),
    _ends(
        "sys.exit in __str__ of the exception",
        "raise Odd",
        "class Odd(Exception):\n    def __str__(self): raise SystemExit(8)",
    ),
]

CASES: list[Case] = [*_SHAPES, *_ODD, *_PLACES, *_ENDS]
