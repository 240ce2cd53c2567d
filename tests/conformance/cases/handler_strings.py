"""Handler strings (spec runtime-api 4.2)."""

from __future__ import annotations

from tests.conformance.case import Case, broken, example

_FILES = {
    "app.py": "def handler(event, context): return 'app'\n"
    "value = 7\n"
    "class Klass:\n    def method(self, context): return 'm'\n",
    "pkg/__init__.py": "def handler(event, context): return 'pkg'\n",
    "pkg/mod.py": "def handler(event, context): return 'pkg.mod'\n",
    "pkg/sub/deep.py": "def handler(event, context): return 'pkg.sub.deep'\n",
    "lambda.py": "def handler(event, context): return 'lambda'\n",
    "with-dash.py": "def handler(event, context): return 'with-dash'\n",
    "with space.py": "def handler(event, context): return 'with space'\n",
    "münchen.py": "def größe(event, context): return 'größe'\n",
}
_GOOD = [
    "app.handler",
    "pkg.handler",
    "pkg.mod.handler",
    "pkg/mod.handler",
    "pkg/sub/deep.handler",
    "pkg.sub/deep.handler",
    "pkg/sub.deep.handler",
    "lambda.handler",
    "with-dash.handler",
    "with space.handler",
    "münchen.größe",
]
_BAD = [
    "app",
    "",
    ".",
    "..",
    ".app",
    "app.",
    "app.missing",
    "app.Klass.method",
    "app.value.x",
    "missing.handler",
    "pkg.missing.handler",
    "pkg/missing.handler",
    "app/handler.x",
    "/pkg/mod.h",
    "./app.handler",
    "../app.handler",
    "pkg//mod.handler",
    "pkg/.handler",
    "pkg..mod.handler",
    "app.py.handler",
    " app.handler",
    "app .handler",
    "app. handler",
    "app:handler",
    "sys.exit",
    "time.time",
    "builtins.len",
    "sys/foo.x",
    "sys.foo.x",
    "posix/x.y",
    "_frozen_importlib.x",
    "ünbekannt.größe",
    "app.größe",
    "app.__missing__",
    "zlib.nothing",
]
# What ends before it can report anything, or reports nothing.
CASES: list[Case] = [
    *(Case(f"the handler {example(handler)} is found", _FILES, handler) for handler in _GOOD),
    *(broken(f"the handler {example(handler)} is refused", _FILES, handler=handler) for handler in _BAD),
]
