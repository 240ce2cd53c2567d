"""Handlers whose module cannot be imported, or only just (spec runtime-api 4.3, 4.4)."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from tests.conformance.case import MODERN, Case, broken, function, source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.case import Source

_OK = "def handler(event, context): return 'ok'\n"


def _zip(files: Mapping[str, str]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, text in files.items():
            zipped.writestr(zipfile.ZipInfo(name), text)
    return archive.getvalue()


def _raised(name: str, statement: str, setup: str = "", **options: object) -> Case:
    """A module whose top level raises, with a frame or two."""
    text = f"{source(setup)}\ndef fail():\n    {statement}\n\nfail()\n{_OK}"
    return broken(f"raised at import: {name}", text, **options)


def _ends(name: str, statement: str, **options: object) -> Case:
    """A module that ends the process while it is imported: nothing is reported."""
    return broken(f"at import: {name}", f"{statement}\n{_OK}", **{"posts": (), **options})


def _works(name: str, files: dict[str, Source], **options: object) -> Case:
    return Case(name, files, **{"shows": "ok", **options})  # type: ignore[arg-type]


_MISSING: list[Case] = [
    broken("the module is missing", {}, shows="No module named 'app'"),
    broken("a module of the module is missing", "import missing_dependency", shows="'missing_dependency'"),
    broken("a module two imports away is missing", {"app.py": "import b\n", "b.py": "import c_missing\n"}),
    broken("a submodule is missing", "import json.missing"),
    broken("a submodule of what is no package", "import this_is.missing", shows="this_is"),
    broken("a submodule of a module that is no package", {"app.py": "import b.c\n", "b.py": ""}),
    broken("a name is missing in a module", "from os import no_such_name", shows="cannot import name"),
    broken("a name is missing in a module of one's own", {"app.py": "from b import x\n", "b.py": ""}),
    broken("an ImportError without a text", "raise ImportError"),
    broken("an ImportError of one's own", "raise ImportError('größe', 7)", shows="größe"),
    broken("an ImportError with name and path", "raise ImportError('x', name='n', path='/p')"),
    broken("a ModuleNotFoundError of one's own", "raise ModuleNotFoundError('on purpose')"),
    broken("a class derived from ImportError", "class Odd(ImportError): pass\nraise Odd('odd')"),
    broken(
        "an ImportError whose text cannot be had",
        "class Odd(ImportError):\n    def __str__(self): raise ValueError('no text')\nraise Odd\n",
        posts=None,
    ),
    broken("a relative import in a module that is in no package", "from . import b", shows="relative import"),
    broken("a relative import beyond the top", {"app/__init__.py": "from .. import b\n"}),
    broken("modules that import each other", {"app.py": "import b\nx = 1\n", "b.py": "from app import x\n"}),
    broken("a module that is None in sys.modules", "import sys\nsys.modules['b'] = None\nimport b\n"),
    broken(
        "a native module that is none", {"app.py": "import native\n", "native.so": b"\x7fELF\x02\x01\x01"}
    ),
    broken("a native module that is empty", {"app.py": "import native\n", "native.so": b""}),
    broken("a native module that is text", {"app.py": "import native\n", "native.abi3.so": b"not one"}),
    broken(
        "a native module for another platform",
        {"app.py": "import native\n", "native.cpython-37m-darwin.so": b"\xcf\xfa\xed\xfe"},
    ),
    broken("bytecode of another Python", {"app.pyc": b"\x00\x00\x00\x00" * 4}, shows="bad magic number"),
    broken("bytecode that ends too soon", {"app.pyc": b""}),
    broken("the handler's module is a folder of data", {"app/data.txt": "x"}, posts=("init/error",)),
    broken("__getattr__ of the module refuses", "def __getattr__(name): raise AttributeError(name)"),
    broken("__getattr__ of the module raises something else", "def __getattr__(name): raise KeyError(name)"),
    broken("the module replaces itself by None", "import sys\nsys.modules[__name__] = None\n", posts=None),
    broken("the module removes itself", "import sys\ndel sys.modules[__name__]\n", posts=None),
    broken("the module deletes its handler", f"{_OK}del handler\n", shows="missing on module"),
    broken(
        "a module in a broken zip",
        {"lib.zip": b"PK not", "app.py": "import sys\nsys.path.insert(0, 'lib.zip')\nimport zipped\n"},
    ),
]

_RAISED: list[Case] = [
    _raised("an exception with a text", "raise ValueError('on purpose')"),
    _raised("an exception without a text", "raise RuntimeError"),
    _raised("division by zero", "1 / 0"),
    _raised("a text that is not ASCII", "raise RuntimeError('größer als 日本 😀')"),
    _raised(
        "a text that is Latin-1, where the peer talks UTF-8",
        "raise RuntimeError('größer')",
        environment=MODERN,
        differs=("init-error-latin-1",),
    ),
    _raised(
        "a text beyond Latin-1, where the peer talks UTF-8",
        "raise RuntimeError('größer als 日本 😀')",
        environment=MODERN,
        posts=(),
        differs=("init-error-lost",),
    ),
    _raised("a text of several lines", "raise RuntimeError('one\\ntwo\\r\\nthree\\x00\\x1b')"),
    _raised("an exception from an exception", "raise ValueError('outer') from KeyError('inner')"),
    _raised("an exception in a handler of one", "\n    try:\n        1 / 0\n    except Exception: {}['x']"),
    _raised(
        "an exception whose class says something else",
        "raise Odd",
        "class Odd(Exception):\n    def __str__(self): return 'odd ü'",
    ),
    _raised("an AttributeError", "import os; os.no_such"),
    _raised("a NameError", "no_such_name"),
    _raised("an AssertionError", "assert 1 == 2, 'unequal'"),
    _raised("a RecursionError", "fail()"),
    _raised("an UnicodeDecodeError", "b'\\xff'.decode()"),
    _raised("an OSError", "open('/no/such/file')"),
    _raised("a SyntaxError from eval", "eval('1 +')"),
    _raised("a SyntaxError without a place", "raise SyntaxError"),
    _raised("a SyntaxError of one's own", "raise SyntaxError('mine', ('f.py', 3, 1, 'text ü'))"),
    _raised(
        "an ExceptionGroup",
        "raise ExceptionGroup('several', [ValueError('a'), KeyError('b')])",
        python=(3, 11),
    ),
    _raised(
        "an exception with notes", "e = ValueError('noted'); e.add_note('a note'); raise e", python=(3, 11)
    ),
    _raised("StopIteration", "raise StopIteration('x')"),
    broken(
        "raised at import: through three files",
        {"app.py": "import b\n", "b.py": "import c\n", "c.py": "x = 1\nx.no_such\n"},
        shows="c.py",
    ),
    broken(
        "raised at import: in a package",
        {"pkg/__init__.py": "", "pkg/mod.py": "1 / 0\n"},
        handler="pkg.mod.x",
    ),
    broken(
        "raised at import: in a package's own file",
        {"pkg/__init__.py": "1 / 0\n", "pkg/mod.py": _OK},
        handler="pkg/mod.x",
    ),
    broken("raised at import: in a class's body", "class A:\n    x = 1 / 0\n"),
    broken(
        "raised at import: in a decorator", "def d(f): raise ValueError('d')\n@d\ndef handler(e, c): pass\n"
    ),
    broken(
        "raised at import: in a file called bootstrap.py",
        {"app.py": "import bootstrap\n", "bootstrap.py": "1 / 0\n"},
    ),
    broken(
        "raised at import: in a folder called bootstrap.py",
        {
            "app.py": "import sys\nsys.path.insert(0, 'bootstrap.py')\nimport b\n",
            "bootstrap.py/b.py": "1 / 0\n",
        },
    ),
    broken(
        "raised at import: of the handler itself, called bootstrap.py",
        {"bootstrap.py": "1 / 0\n"},
        handler="bootstrap.h",
    ),
    broken("raised at import: in exec", "exec('1 / 0')\n"),
    broken(
        "raised at import: in code with a name of its own",
        "exec(compile('x = 1\\n1 / 0', 'größe.tpl', 'exec'))\n",
    ),
    broken(
        "raised at import: after output", "print('before')\nimport sys\nsys.stderr.write('err\\n')\n1 / 0\n"
    ),
    broken("raised at import: after a log record", "import logging\nlogging.error('before')\n1 / 0\n"),
    broken(
        "raised at import: with the working directory gone",
        "import os, shutil\nshutil.rmtree(os.getcwd())\n1 / 0\n",
    ),
    broken(
        "raised at import: with standard output closed", "import sys\nsys.stdout.close()\n1 / 0\n", posts=None
    ),
    broken(
        "raised at import: with standard output None", "import sys\nsys.stdout = None\n1 / 0\n", posts=None
    ),
    broken(
        "raised at import: the source line is long",
        "x = [" + ", ".join(map(str, range(3000))) + "][1 / 0]\n",
    ),
]

_ENDS: list[Case] = [
    _ends("sys.exit()", "import sys; sys.exit()"),
    _ends("sys.exit(0)", "import sys; sys.exit(0)"),
    _ends("sys.exit(3)", "import sys; sys.exit(3)"),
    _ends("sys.exit(True)", "import sys; sys.exit(True)"),
    _ends("sys.exit(256)", "import sys; sys.exit(256)"),
    _ends("sys.exit(-1)", "import sys; sys.exit(-1)"),
    _ends("sys.exit with a text", "import sys; sys.exit('good bye ü')"),
    _ends("sys.exit with a tuple", "import sys; sys.exit((1, 2))"),
    _ends("exit(4)", "exit(4)"),
    _ends("quit()", "quit()"),
    _ends("os._exit(5)", "import os; os._exit(5)"),
    _ends("os.abort()", "import os; os.abort()"),
    _ends("SIGKILL", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    _ends("KeyboardInterrupt", "raise KeyboardInterrupt"),
    _ends("GeneratorExit", "raise GeneratorExit('x')"),
    _ends("a BaseException of one's own", "class Odd(BaseException): pass\nraise Odd('odd')"),
    _ends(
        "sys.exit with handlers registered",
        "import atexit, sys; atexit.register(print, 'at exit'); sys.exit(3)",
    ),
    _ends(
        "a thread that goes on, then sys.exit",
        "import sys, threading; threading.Thread(target=print, args=('t',)).start(); sys.exit(2)",
    ),
    _ends(
        "exec of another program",
        "import os, sys; os.execv('/bin/sh', ['sh', '-c', 'echo replaced; exit 9'])",
    ),
]

_WORKS: list[Case] = [
    _works("a package holds the handler", {"pkg/__init__.py": _OK}, handler="pkg.handler"),
    _works("a folder without __init__.py is a package", {"pkg/mod.py": _OK}, handler="pkg.mod.handler"),
    _works(
        "relative imports in a package",
        {"pkg/a.py": "from .b import handler\n", "pkg/b.py": _OK},
        handler="pkg.a.handler",
    ),
    _works(
        "__getattr__ of the module makes the handler",
        {"app.py": "def __getattr__(name): return lambda e, c: ['ok', name]\n"},
    ),
    _works(
        "the module replaces itself",
        {
            "app.py": "import sys\nclass M:\n    def handler(self, e, c): return 'ok'\nsys.modules[__name__] = M()\n"
        },
    ),
    _works(
        "a module on a zip in sys.path",
        {
            "lib.zip": _zip({"zipped.py": _OK}),
            "app.py": "import sys\nsys.path.insert(0, 'lib.zip')\nfrom zipped import handler\n",
        },
    ),
    _works(
        "a zip on PYTHONPATH",
        {"lib.zip": _zip({"zipped.py": _OK}), "app.py": "from zipped import handler\n"},
        environment={"PYTHONPATH": "{task}/lib.zip"},
    ),
    _works(
        "a failing import that is caught",
        {"app.py": f"try:\n    import missing\nexcept ImportError as e:\n    print(e)\n{_OK}"},
    ),
    _works(
        "a module that shadows the standard library",
        {"queue.py": "x = 1\n", "app.py": f"import queue\nprint(queue.x)\n{_OK}"},
    ),
    _works("a module called test", {"test.py": _OK}, handler="test.handler"),
    _works(
        "modules that import each other late",
        {"app.py": f"import b\n{_OK}", "b.py": "import app\ndef f(): return app.handler\n"},
    ),
    _works("a handler that another module defines", {"app.py": "from b import handler\n", "b.py": _OK}),
    _works(
        "a handler from the standard library",
        {"app.py": ""},
        handler="json.dumps",
        posts=("error",),
        shows=None,
    ),
    _works(
        "an importer of one's own",
        {
            "app.py": """
import sys, types
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'virtual':
            from importlib.machinery import ModuleSpec
            return ModuleSpec(name, Loader)
class Loader:
    @staticmethod
    def create_module(spec): return None
    @staticmethod
    def exec_module(module): module.handler = lambda e, c: 'ok'
sys.meta_path.insert(0, Finder)
from virtual import handler
"""
        },
    ),
    _works(
        "importlib.reload of the handler's module",
        {
            "app.py": "import importlib, sys\nn = 0\ndef handler(e, c):\n    import app\n    importlib.reload(app)\n    return 'ok'\n"
        },
    ),
    _works(
        "importlib.metadata and resources",
        {
            "app.py": "from importlib import metadata, resources\ndef handler(e, c): return ['ok', metadata.version('boto3') > '1']\n"
        },
    ),
    _works(
        "a module of the task root whose name needs quotes",
        {"my-app v1.py": _OK},
        handler="my-app v1.handler",
    ),
]

_SYNTAX: list[Case] = [
    broken("a syntax error", "def handler(:\n    pass\n", shows="Runtime.UserCodeSyntaxError"),
    broken("an indentation error", "if True:\npass\n"),
    broken("an unindent that fits nothing", "if True:\n        a = 1\n    b = 2\n"),
    broken("tabs and blanks mixed", "if True:\n        a = 1\n\tb = 2\n"),
    broken("an unclosed bracket", "x = [1, 2\n\ny = 3\n"),
    broken("an unclosed text", "x = 'abc\ny = 3\n"),
    broken("an unclosed text of several lines", "x = '''abc\ny = 3\n"),
    broken("a bracket that closes another", "x = (1]\n"),
    broken("return outside a function", "return 1\n"),
    broken("await outside a function", "await x\n"),
    broken("print as a statement", "print 'hello'\n"),
    broken("a future that does not exist", "from __future__ import braces\n"),
    broken("a future that comes late", "x = 1\nfrom __future__ import annotations\n"),
    broken("a syntax error outside ASCII", "größe = = 'ü 日本 😀'\n", shows="größe"),
    broken("a syntax error with a letter that is none", "x = 1\u00a0+ 2\n"),
    broken("a syntax error with curly quotes", "print(\u201chello\u201d)\n"),
    broken("a syntax error without a line end", "x ="),
    broken("a syntax error in a very long line", "x = [" + "1, " * 5000 + "= ]\n"),
    broken("a syntax error in an imported module", {"app.py": "import b\n", "b.py": "def (\n"}, shows="b.py"),
    broken(
        "a syntax error in a package's own file",
        {"pkg/__init__.py": "def (\n", "pkg/mod.py": _OK},
        handler="pkg.mod.h",
    ),
    broken("a syntax error in a folder outside ASCII", {"größe/b.py": "def (\n"}, handler="größe/b.h"),
    broken("a file that is not UTF-8", {"app.py": b"x = '\xff\xfe'\n"}),
    broken("a comment that is not UTF-8", {"app.py": b"# \xe4\nx = 1\n"}),
    broken("a file of NUL bytes", {"app.py": b"x = 1\n\x00\x00y = 2\n"}),
    broken("a coding that is unknown", {"app.py": b"# coding: klingon\nx = 1\n"}),
    broken("a coding that does not fit its mark", {"app.py": b"\xef\xbb\xbf# coding: latin-1\nx = 1\n"}),
    broken("a file in UTF-16", {"app.py": "x = 1\n".encode("utf-16")}),
    broken("a number that is too long", f"x = {'9' * 5000}\n", python=(3, 11)),
    broken("nesting that is too deep", f"x = {'(' * 300}{')' * 300}\n"),
    broken("a star expression alone", "x = *y\n"),
    broken("an assignment to a call", "f() = 1\n"),
    broken("a duplicate argument", "def f(a, a): pass\n"),
    broken("nonlocal at the top", "nonlocal x\n"),
    broken("match with a bad pattern", "match 1:\n    case x, x: pass\n"),
    broken("except* with except", "try: pass\nexcept ValueError: pass\nexcept* KeyError: pass\n"),
    function(
        "a file in Latin-1 that says so",
        b"# coding: latin-1\ndef handler(e, c): return 'gr\xf6\xdfe'\n",
        shows="größe",
    ),
    function("a file with a byte order mark", b"\xef\xbb\xbfdef handler(e, c): return 'ok'\n", shows="ok"),
    function("a file with line ends of Windows", b"def handler(e, c):\r\n    return 'ok'\r\n", shows="ok"),
    function("a file with line ends of old Macs", b"def handler(e, c):\r    return 'ok'\r", shows="ok"),
    function(
        "a warning of the compiler", "x = 1 is 1\ny = '\\d'\ndef handler(e, c): return 'ok'\n", shows="ok"
    ),
]

CASES: list[Case] = [*_MISSING, *_RAISED, *_ENDS, *_WORKS, *_SYNTAX]
