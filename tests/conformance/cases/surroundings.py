"""What a function finds around it: the process, the interpreter, its modules and streams (design section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conformance.case import Case, function, raises, returns, source
from tests.scripted_api import event

if TYPE_CHECKING:
    from tests.conformance.case import Source

_LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "f",
    "LAMBDA_TASK_ROOT": "{task}",
    "AWS_REGION": "eu-west-1",
    "TZ": ":UTC",
    "_HANDLER": "app.handler",
}


def _looks(name: str, expression: str, setup: str = "", **options: Any) -> Case:
    return returns(name, expression, setup, **options)


def _runs(name: str, statements: str, setup: str = "", **options: Any) -> Case:
    return raises(name, statements, setup, **{"posts": ("response",), **options})


def _files(name: str, files: dict[str, Source], **options: Any) -> Case:
    return Case(
        name,
        {path: source(text) if isinstance(text, str) else text for path, text in files.items()},
        **options,
    )


_PROCESS: list[Case] = [
    _looks("os.environ", "sorted(os.environ.items())", "import os", environment=_LAMBDA),
    _looks(
        "os.environ in its order",
        "[n for n in os.environ if n.startswith('A')]",
        "import os",
        environment=_LAMBDA,
    ),
    _looks("the environment at import", "E", "import os\nE = sorted(os.environ)", environment=_LAMBDA),
    _looks(
        "the environment that children see",
        "subprocess.run(['/usr/bin/env'], capture_output=True, text=True).stdout.split('\\n')[:-1].sort() or sorted(subprocess.run(['/usr/bin/env'], capture_output=True, text=True).stdout.split('\\n'))",
        "import subprocess",
        environment=_LAMBDA,
    ),
    _looks(
        "the environment with a log descriptor", "sorted(os.environ)", "import os", telemetry=True, posts=None
    ),
    _looks(
        "a variable set at import",
        "[os.environ['MINE'], os.getenv('MINE')]",
        "import os\nos.environ['MINE'] = 'ü'",
    ),
    _looks(
        "a variable that is not UTF-8",
        "os.environb[b'ODD'].hex()",
        "import os",
        environment={"ODD": "\udcff"},
    ),
    _looks("the working directory", "os.getcwd()", "import os"),
    _looks("sys.argv without its first", "sys.argv[1:]", "import sys"),
    _looks("the length of sys.argv", "len(sys.argv)", "import sys"),
    _looks("the user and the group", "[os.getuid(), os.getgid(), oct(os.umask(0o22))]", "import os"),
    _looks("the process leads its session", "[os.getpid() == os.getsid(0), os.getppid() > 1]", "import os"),
    _looks("standard input is empty", "sys.stdin.read()", "import sys"),
    _looks("standard input", "sys.stdin.read()", "import sys", stdin=b"given \xc3\xbc\n"),
    _looks("open descriptors", "sorted(f for f in os.listdir('/proc/self/fd') if int(f) < 3)", "import os"),
    _looks(
        "the resource limits",
        "[resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)]",
        "import resource",
    ),
    _looks("the name of the process", "open('/proc/self/comm').read()"),
    _looks("niceness", "os.nice(0)", "import os"),
    _looks("alive threads", "[t.name for t in threading.enumerate()]", "import threading"),
    _looks(
        "the current thread",
        "[threading.current_thread() is threading.main_thread(), threading.current_thread().name, threading.current_thread().daemon]",
        "import threading",
    ),
    _looks(
        "the thread in which the module was imported",
        "T == threading.get_ident()",
        "import threading\nT = threading.get_ident()",
    ),
    _looks("threads of the kernel", "len(os.listdir('/proc/self/task'))", "import os"),
]
_SIGNALS = ("SIGINT", "SIGTERM", "SIGPIPE", "SIGHUP", "SIGCHLD", "SIGUSR1", "SIGALRM", "SIGXFSZ", "SIGSEGV")
_INTERPRETER: list[Case] = [
    *(
        _looks(
            f"what {name} does",
            f"[str(signal.getsignal(signal.{name})).split(' at ')[0], signal.{name} in signal.pthread_sigmask(signal.SIG_BLOCK, [])]",
            "import signal",
        )
        for name in _SIGNALS
    ),
    _looks("the wakeup descriptor", "signal.set_wakeup_fd(-1)", "import signal"),
    _looks("timers", "[signal.getitimer(signal.ITIMER_REAL), signal.alarm(0)]", "import signal"),
    _runs(
        "SIGALRM in a handler",
        "signal.signal(signal.SIGALRM, lambda *a: seen.append('alarm'))\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\nsignal.pause()\nreturn seen",
        "import signal\nseen = []",
    ),
    _runs(
        "a time limit of one's own by SIGALRM",
        "def late(*a): raise TimeoutError('late')\nsignal.signal(signal.SIGALRM, late)\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(10)",
        "import signal, time",
        posts=("error",),
    ),
    _looks(
        "sys.flags",
        "{n: getattr(sys.flags, n) for n in dir(sys.flags) if n[0] != '_' and n not in ('count', 'index', 'n_fields', 'n_sequence_fields', 'n_unnamed_fields', 'no_site')}",
        "import sys",
    ),
    _looks("the flag no_site", "sys.flags.no_site", "import sys", differs=("no-site",)),
    _looks("sys.warnoptions and xoptions", "[sys.warnoptions, sys._xoptions]", "import sys"),
    _looks(
        "the interpreter",
        "[sys.executable, sys.prefix, sys.exec_prefix, sys.base_prefix, sys.version, sys.implementation.name]",
        "import sys",
    ),
    _looks("sys.orig_argv ends with the handler", "sys.orig_argv[-1]", "import sys"),
    _looks(
        "encodings",
        "[sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()]",
        "import sys",
    ),
    _looks(
        "the locale", "[locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False)]", "import locale"
    ),
    _looks(
        "the locale where LANG is not set",
        "[locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False)]",
        "import locale",
        environment={"LANG": ""},
    ),
    _looks(
        "limits of the interpreter",
        "[sys.getrecursionlimit(), sys.getswitchinterval(), sys.getdlopenflags()]",
        "import sys",
    ),
    _looks("limits on integers", "sys.get_int_max_str_digits()", "import sys", python=(3, 11)),
    _looks("garbage collection is on", "gc.isenabled()", "import gc"),
    _looks("its thresholds in the handler", "gc.get_threshold()", "import gc"),
    _looks(
        "its thresholds after the function set them",
        "gc.get_threshold()",
        "import gc\ngc.set_threshold(5000, 7, 7)",
    ),
    _looks("it stays off where the function turned it off", "gc.isenabled()", "import gc\ngc.disable()"),
    _looks("garbage is collected", "gc.collect() >= 0 and gc.garbage", "import gc"),
    _looks("debug flags of it", "[gc.get_debug(), len(gc.callbacks)]", "import gc"),
    _looks("faulthandler", "faulthandler.is_enabled()", "import faulthandler"),
    _looks(
        "faulthandler where it is asked for",
        "faulthandler.is_enabled()",
        "import faulthandler",
        environment={"PYTHONFAULTHANDLER": "1"},
    ),
    _looks(
        "hooks of the interpreter",
        "[sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.unraisablehook is sys.__unraisablehook__, sys.breakpointhook is sys.__breakpointhook__]",
        "import sys",
    ),
    _looks("tracing and profiling", "[sys.gettrace(), sys.getprofile()]", "import sys"),
    _looks(
        "the stack below the handler",
        "len(inspect.stack()) < 10 and inspect.stack()[0].function",
        "import inspect",
    ),
    _looks("sys.exc_info in the handler", "[x is None for x in sys.exc_info()]", "import sys"),
    _looks(
        "sys.exc_info after an error",
        "n.append(1) or ([x is None for x in sys.exc_info()] if len(n) > 1 else 1 / 0)",
        "import sys\nn = []",
        events=(event(), event()),
        posts=("error", "response"),
    ),
    _looks(
        "sys.last_value after an error",
        "n.append(1) or (hasattr(sys, 'last_value') if len(n) > 1 else 1 / 0)",
        "import sys\nn = []",
        events=(event(), event()),
        posts=("error", "response"),
    ),
    _files(
        "bytecode is written beside the source",
        {
            "app.py": "import os, sys\nimport b\ndef handler(e, c): return [sys.dont_write_bytecode, os.listdir('__pycache__') == [os.path.basename(x) for x in sorted(os.listdir('__pycache__'))], len(os.listdir('__pycache__'))]\n",
            "b.py": "",
        },
    ),
    _files(
        "no bytecode where it is not wanted",
        {
            "app.py": "import os, sys\nimport b\ndef handler(e, c): return [sys.dont_write_bytecode, os.path.exists('__pycache__')]\n",
            "b.py": "",
        },
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ),
    _looks("asserts", "__debug__", environment={"PYTHONOPTIMIZE": "1"}),
    _looks("hash randomisation", "hash('größe')", environment={"PYTHONHASHSEED": "7"}),
    _looks(
        "development mode",
        "[sys.flags.dev_mode, len(warnings.filters) > 3]",
        "import sys, warnings",
        environment={"PYTHONDEVMODE": "1"},
        posts=None,
    ),
    _looks("audit hooks may be added", "sys.addaudithook(lambda *a: None)", "import sys"),
]
_MODULES: list[Case] = [
    _looks(
        "the handler's module",
        "[__name__, __file__, __package__, __spec__.name, __spec__.origin, type(__loader__).__name__, __doc__]",
    ),
    _looks(
        "the handler's module in sys.modules", "sys.modules['app'] is sys.modules[__name__]", "import sys"
    ),
    _files(
        "the module of a handler in a package",
        {
            "pkg/mod.py": "def handler(e, c): return [__name__, __package__, __file__, handler.__module__, handler.__qualname__]\n"
        },
        handler="pkg/mod.handler",
    ),
    _looks("the name of __main__", "sys.modules['__main__'].__name__", "import sys"),
    _looks("an import of __main__", "type(__import__('__main__')).__name__"),
    _looks("globals of a handler", "sorted(n for n in globals() if n.startswith('__'))"),
    _looks("the path begins with the task root", "sys.path[0]", "import sys"),
    _looks("the path in the module", "P[0]", "import sys\nP = [*sys.path]"),
    _looks("the whole path", "sys.path", "import sys", differs=("search-path",)),
    _looks(
        "the whole path with PYTHONPATH", "sys.path", "import sys", environment={"PYTHONPATH": "/one:/two"}
    ),
    _looks(
        "PYTHONPATH is before the standard library",
        "sys.path.index('/one') < sys.path.index(sys.path[[p.endswith('lib-dynload') for p in sys.path].index(True)])",
        "import sys",
        environment={"PYTHONPATH": "/one"},
    ),
    _looks(
        "finders",
        "[getattr(f, '__name__', type(f).__name__) for f in sys.meta_path if not type(f).__name__.startswith(('_Import', '_Logging', 'DistutilsMetaFinder', 'ScriptMaker'))]",
        "import sys",
    ),
    _looks("path hooks", "len(sys.path_hooks)", "import sys"),
    _looks("sys.modules may be looked through", "all(type(n) is str for n in sys.modules)", "import sys"),
    _looks(
        "importing what the runtime may have loaded",
        "[json.dumps(1), logging.root.name, os.sep]",
        "import json, logging, os",
    ),
    _looks(
        "site", "[site.ENABLE_USER_SITE, bool(site.getsitepackages())]", "import site", differs=("no-site",)
    ),
    _looks(
        "builtins of site",
        "sorted(n for n in ('exit', 'quit', 'help', 'copyright', 'credits', 'license') if hasattr(builtins, n))",
        "import builtins",
    ),
    *(
        _looks(f"repr of {name}", f"repr({name})[:40]")
        for name in ("exit", "quit", "help", "copyright", "license", "credits")
    ),
    *(_looks(f"str of {name}", f"str({name})[:40]") for name in ("exit", "copyright")),
    _runs("copyright()", "copyright()"),
    _runs("help of a function", "help(handler)"),
    _looks("exit has the attribute name", "[exit.name, exit.eof]"),
    _looks("isinstance of exit", "[type(exit).__name__, callable(exit)]", differs=("no-site",)),
    _looks("_ and __builtins__", "[hasattr(builtins, '_'), type(__builtins__).__name__]", "import builtins"),
    _files(
        "sitecustomize in the task root",
        {
            "sitecustomize.py": "print('sitecustomize runs', flush=True)\nimport sys\nsys.mine = 7\n",
            "app.py": "import sys\ndef handler(e, c): return getattr(sys, 'mine', None)\n",
        },
        differs=("search-path",),
    ),
    _files(
        "sitecustomize on PYTHONPATH",
        {
            "lib/sitecustomize.py": "print('sitecustomize runs', flush=True)\nimport sys\nsys.mine = 7\n",
            "app.py": "import sys\ndef handler(e, c): return sys.mine\n",
        },
        environment={"PYTHONPATH": "{task}/lib"},
        shows="sitecustomize runs",
    ),
    _files(
        "usercustomize on PYTHONPATH",
        {
            "lib/usercustomize.py": "print('usercustomize runs', flush=True)\n",
            "app.py": "def handler(e, c): return 1\n",
        },
        environment={"PYTHONPATH": "{task}/lib"},
        differs=("search-path",),
    ),
    _files(
        "sitecustomize that fails",
        {"lib/sitecustomize.py": "1 / 0\n", "app.py": "def handler(e, c): return 1\n"},
        environment={"PYTHONPATH": "{task}/lib"},
    ),
    _files(
        "sitecustomize that is a package",
        {
            "lib/sitecustomize/__init__.py": "print('runs', flush=True)\n",
            "app.py": "def handler(e, c): return 1\n",
        },
        environment={"PYTHONPATH": "{task}/lib"},
        shows="runs",
    ),
    _files(
        "a .pth file in the task root",
        {
            "x.pth": "lib\n",
            "lib/inside.py": "x = 7\n",
            "app.py": "try:\n    import inside\n    found = inside.x\nexcept ImportError: found = None\ndef handler(e, c): return found\n",
        },
        differs=("search-path",),
    ),
    _files(
        "a .pth file on PYTHONPATH is not read",
        {
            "lib/x.pth": "more\n",
            "lib/more/inside.py": "",
            "app.py": "try:\n    import inside\n    found = True\nexcept ImportError: found = False\ndef handler(e, c): return found\n",
        },
        environment={"PYTHONPATH": "{task}/lib"},
    ),
    _looks("packages of the interpreter", "pytest.__name__", "import pytest"),
    _looks("metadata of packages", "metadata.version('awslambdaric')", "from importlib import metadata"),
    _looks(
        "boto3 loads and makes a client",
        "boto3.client('s3', region_name='eu-west-1').meta.region_name",
        "import boto3",
    ),
    _looks("pkgutil walks the task root", "[m.name for m in pkgutil.iter_modules(['.'])]", "import pkgutil"),
    _looks("__import__ of a name in a text", "__import__('json').dumps([1])"),
    _looks("runpy", "runpy.run_path('other.py')['x']", "import runpy\nopen('other.py', 'w').write('x = 7')"),
    _looks("the type of functions and modules", "[type(handler).__name__, type(sys).__name__]", "import sys"),
]
_STREAMS: list[Case] = [
    _looks(
        "attributes of standard output",
        "[sys.stdout.encoding, sys.stdout.errors, sys.stdout.line_buffering, sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.closed, sys.stdout.writable(), sys.stdout.newlines, sys.stdout.name, sys.stdout.mode]",
        "import sys",
    ),
    _looks(
        "attributes of standard error",
        "[sys.stderr.encoding, sys.stderr.errors, sys.stderr.line_buffering, sys.stderr.isatty(), sys.stderr.fileno()]",
        "import sys",
    ),
    _looks(
        "encoding by PYTHONIOENCODING",
        "[sys.stdout.encoding, sys.stdout.errors]",
        "import sys",
        environment={"PYTHONIOENCODING": "latin-1:replace"},
    ),
    _looks(
        "encoding under another locale",
        "[sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors]",
        "import sys",
        environment={"LANG": "C"},
    ),
    _looks(
        "sys.stdout is not sys.__stdout__",
        "[sys.stdout is sys.__stdout__, sys.stdout.stream is sys.__stdout__]",
        "import sys",
    ),
    _looks(
        "the type of standard output",
        "[type(sys.stdout).__name__.strip('_'), hasattr(sys.stdout, 'buffer'), hasattr(sys.stdout, 'reconfigure')]",
        "import sys",
    ),
    _looks("write returns nothing", "[sys.stdout.write('x\\n'), sys.stderr.write('y\\n')]", "import sys"),
    _runs(
        "print in several ways",
        "print('a', 'b', sep='-', end='!\\n')\nprint()\nprint('größe 日本 😀')\nprint('x', file=sys.stderr)\nprint('flushed', flush=True)\nprint(1, None, [2])",
        "import sys",
    ),
    _runs(
        "writes past the wrapper",
        "os.write(1, b'one\\n')\nsys.stdout.buffer.write(b'two\\n')\nsys.stdout.buffer.flush()\nprint('three')\nsys.__stdout__.write('four\\n')\nsys.__stdout__.flush()\nprint('five')",
        "import os, sys",
    ),
    _runs(
        "writes that are not flushed",
        "sys.stdout.buffer.write(b'late')\nsys.__stdout__.write('later')",
        "import sys",
    ),
    _runs(
        "writelines",
        "sys.stdout.writelines(['a\\n', 'b\\n'])\nsys.stderr.writelines(iter(['c\\n']))",
        "import sys",
    ),
    _runs(
        "a with statement over standard output",
        "with sys.stdout as s:\n    s.write('x\\n')\nprint('y')",
        "import sys",
    ),
    _runs(
        "contextlib.redirect_stdout",
        "f = io.StringIO()\nwith contextlib.redirect_stdout(f):\n    print('caught')\nprint('free')\nreturn f.getvalue()",
        "import contextlib, io",
    ),
    _runs(
        "standard output replaced at import",
        "print('mine')\nreturn sys.stdout.getvalue()",
        "import io, sys\nsys.stdout = io.StringIO()",
    ),
    _runs(
        "standard output reconfigured",
        "sys.stdout.reconfigure(encoding='ascii', errors='backslashreplace')\nprint('größe')",
        "import sys",
    ),
    _runs(
        "a character that the stream cannot write",
        "print('größe')",
        environment={"PYTHONIOENCODING": "ascii"},
        posts=(),
        differs=("unreportable-errors",),
        ours={
            "1 body": r'\{"errorMessage":"\'ascii\' codec can\'t encode .*","errorType":"UnicodeEncodeError".*\}',
            "stdout": r"\[ERROR\] UnicodeEncodeError: 'ascii' codec can't encode .*",
        },
    ),
    _runs("half a surrogate pair is printed", "print('\\ud800')", posts=("error",)),
    _runs("a write of what is no text", "sys.stdout.write(b'x')", "import sys", posts=("error",)),
    _runs("a megabyte of output", "print('x' * 1_000_000)"),
    _runs(
        "output at import and in the handler",
        "print('handler')",
        "print('import')\nimport sys\nprint('error', file=sys.stderr)",
    ),
    _runs(
        "output of threads",
        "ts = [threading.Thread(target=print, args=(f't{i}',)) for i in range(3)]\nfor t in ts: t.start(); t.join()",
        "import threading",
    ),
    _runs(
        "output of a child",
        "subprocess.run(['sh', '-c', 'echo out; echo err >&2'])\nprint('parent')",
        "import subprocess",
    ),
    _runs(
        "output of a child through the stream",
        "subprocess.run(['echo', 'x'], stdout=sys.stdout)",
        "import subprocess, sys",
    ),
    _runs(
        "pprint, warnings and traceback write where they should",
        "pprint.pprint({'a': 1})\nwarnings.warn('careful', stacklevel=1)\ntry: 1 / 0\nexcept ZeroDivisionError: traceback.print_exc()",
        "import pprint, traceback, warnings",
    ),
    _runs("input() at the end of input", "input('question? ')", posts=("error",)),
    _runs("input() of a line", "return input('question? ')", stdin=b"answer\n"),
    _runs("copying standard output", "copy.copy(sys.stdout)", "import copy, sys", posts=None),
]
_WARNINGS: list[Case] = [
    _looks("filters of warnings", "[[str(x) for x in f[:3]] for f in warnings.filters]", "import warnings"),
    _runs("a warning in the handler", "warnings.warn('careful ü')", "import warnings"),
    _runs(
        "a warning in the handler, twice",
        "warnings.warn('careful')",
        "import warnings",
        events=(event(), event()),
        posts=("response", "response"),
    ),
    _runs("a warning at import", "pass", "import warnings\nwarnings.warn('at import')"),
    _runs(
        "a DeprecationWarning in the handler", "warnings.warn('old', DeprecationWarning)", "import warnings"
    ),
    _runs(
        "a DeprecationWarning at import", "pass", "import warnings\nwarnings.warn('old', DeprecationWarning)"
    ),
    _runs(
        "warnings as errors",
        "warnings.warn('careful')",
        "import warnings\nwarnings.simplefilter('error')",
        posts=("error",),
    ),
    _runs(
        "warnings asked for",
        "warnings.warn('old', DeprecationWarning)",
        "import warnings",
        environment={"PYTHONWARNINGS": "always"},
    ),
    _runs("a warning laid at the caller's door", "warnings.warn('caller', stacklevel=2)", "import warnings"),
    _runs(
        "warnings into logging",
        "warnings.warn('careful')",
        "import logging, warnings\nlogging.captureWarnings(True)",
    ),
    _runs("a ResourceWarning asked for", "open('/dev/null')", environment={"PYTHONWARNINGS": "always"}),
    _runs(
        "an exception in __del__", "Odd()", "class Odd:\n    def __del__(self): raise ValueError('in del')"
    ),
    _runs(
        "an exception in a thread",
        "t = threading.Thread(target=divmod, args=(1, 0)); t.start(); t.join()",
        "import threading",
    ),
    _runs(
        "unraisablehook of one's own",
        "Odd()",
        "import sys\nsys.unraisablehook = lambda u: print('caught', type(u.exc_value).__name__)\nclass Odd:\n    def __del__(self): raise ValueError('in del')",
    ),
    _runs(
        "a garbage collector callback",
        "gc.collect()",
        "import gc\ngc.callbacks.append(lambda phase, info: None)",
    ),
]
_CHILDREN: list[Case] = [
    _looks(
        "a child interpreter",
        "subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True).stdout",
        "import subprocess, sys",
    ),
    _looks(
        "a child interpreter finds the function's modules",
        "subprocess.run([sys.executable, '-c', 'import app; print(app.__file__)'], capture_output=True, text=True).stdout",
        "import subprocess, sys",
    ),
    _looks(
        "a child interpreter finds installed packages",
        "subprocess.run([sys.executable, '-c', 'import pytest, simplejson; print(1)'], capture_output=True, text=True).stdout",
        "import subprocess, sys",
    ),
    _looks(
        "a child interpreter with -m",
        "subprocess.run([sys.executable, '-m', 'json.tool'], input='[1]', capture_output=True, text=True).stdout",
        "import subprocess, sys",
    ),
    _looks(
        "flags that children are given",
        "[f for f in subprocess._args_from_interpreter_flags() if f != '-S']",
        "import subprocess",
    ),
    _looks(
        "multiprocessing by fork",
        "work('fork')",
        "import multiprocessing\ndef work(how):\n    context = multiprocessing.get_context(how)\n    queue = context.Queue()\n    p = context.Process(target=queue.put, args=(7,))\n    p.start()\n    got = queue.get()\n    p.join()\n    return [got, p.exitcode]",
        masks={"DeprecationWarning": "DeprecationWarning"},
    ),
    _looks(
        "multiprocessing by spawn",
        "work('spawn')",
        "import multiprocessing, os\ndef child(conn): conn.send([__name__, os.path.basename(__file__)])\ndef work(how):\n    context = multiprocessing.get_context(how)\n    a, b = context.Pipe()\n    p = context.Process(target=child, args=(b,))\n    p.start()\n    got = a.recv()\n    p.join()\n    return [got, p.exitcode]",
    ),
    _looks(
        "multiprocessing by forkserver",
        "work()",
        "import multiprocessing\ndef child(conn): conn.send(__name__)\ndef work():\n    context = multiprocessing.get_context('forkserver')\n    a, b = context.Pipe()\n    p = context.Process(target=child, args=(b,))\n    p.start()\n    got = a.recv()\n    p.join()\n    return [got, p.exitcode]",
    ),
    _looks(
        "how multiprocessing starts children", "multiprocessing.get_start_method()", "import multiprocessing"
    ),
    _looks(
        "concurrent.futures with processes",
        "list(work())",
        "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing\ndef double(x): return 2 * x\ndef work():\n    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:\n        return list(pool.map(double, [1, 2]))",
    ),
    _looks(
        "concurrent.futures with threads",
        "work()",
        "from concurrent.futures import ThreadPoolExecutor\ndef work():\n    with ThreadPoolExecutor(2) as pool:\n        return list(pool.map(abs, [-1, 2]))",
    ),
    _runs(
        "os.fork with _exit",
        "pid = os.fork()\nif pid == 0: os._exit(7)\nreturn os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
        "import os, warnings\nwarnings.simplefilter('ignore')",
    ),
    _runs(
        "os.fork whose child prints and leaves by sys.exit",
        "pid = os.fork()\nif pid == 0:\n    print('child')\n    sys.exit(7)\nreturn os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
        "import os, sys, warnings\nwarnings.simplefilter('ignore')",
    ),
    _runs(
        "os.fork whose child replaces itself",
        "pid = os.fork()\nif pid == 0: os.execv('/bin/echo', ['echo', 'child'])\nreturn os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
        "import os, warnings\nwarnings.simplefilter('ignore')",
    ),
    _runs("os.system", "return os.system('exit 3')", "import os"),
    _runs(
        "a child that is left behind",
        "subprocess.Popen(['sleep', '30'])\nreturn 1",
        "import subprocess\nimport warnings\nwarnings.simplefilter('ignore')",
    ),
    _runs(
        "a daemon thread that goes on",
        "threading.Thread(target=e.wait, daemon=True).start()\nreturn threading.active_count()",
        "import threading\ne = threading.Event()",
        events=(event(), event()),
        posts=("response", "response"),
    ),
    _runs(
        "a thread that goes on between invocations",
        "if not t.is_alive(): t.start()\ne.set()\nt.join()\nreturn seen",
        "import threading\ne = threading.Event()\nseen = []\nt = threading.Thread(target=lambda: e.wait() and seen.append('done'))",
    ),
    function(
        "atexit is not run while the process lives",
        "import atexit\natexit.register(print, 'at exit')\ndef handler(e, c): return 1\n",
    ),
    function(
        "an event loop kept between invocations",
        "import asyncio\nloop = asyncio.new_event_loop()\nasync def f(x):\n    await asyncio.sleep(0)\n    return x\ndef handler(e, c): return loop.run_until_complete(f(e))\n",
        events=(event(1), event(2)),
        posts=("response", "response"),
    ),
    function(
        "asyncio.run in the handler",
        "import asyncio\nasync def f(): return 1\ndef handler(e, c): return asyncio.run(f())\n",
        events=(event(), event()),
        posts=("response", "response"),
    ),
    function(
        "globals live between invocations",
        "n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return n\n",
        events=(event(),) * 3,
        posts=("response",) * 3,
    ),
    function(
        "a contextvar set in one invocation",
        "import contextvars\nv = contextvars.ContextVar('v', default=0)\ndef handler(e, c):\n    v.set(v.get() + 1)\n    return v.get()\n",
        events=(event(),) * 3,
        posts=("response",) * 3,
    ),
    function(
        "a thread-local lives between invocations",
        "import threading\nl = threading.local()\ndef handler(e, c):\n    l.n = getattr(l, 'n', 0) + 1\n    return l.n\n",
        events=(event(),) * 2,
        posts=("response",) * 2,
    ),
    function(
        "the decimal context lives between invocations",
        "import decimal\ndef handler(e, c):\n    decimal.getcontext().prec -= 1\n    return decimal.getcontext().prec\n",
        events=(event(),) * 2,
        posts=("response",) * 2,
    ),
    function(
        "the event is freed before the next invocation",
        "import weakref\nclass D(dict): pass\nr = None\ndef handler(e, c):\n    global r\n    d = D()\n    gone = r is None or r() is None\n    r = weakref.ref(d)\n    return gone\n",
        events=(event(),) * 2,
        posts=("response",) * 2,
    ),
    function(
        "the result is freed before the next invocation",
        "import weakref\nclass D(dict): pass\nr = None\ndef handler(e, c):\n    global r\n    gone = r is None or r() is None\n    d = D(a=1)\n    r = weakref.ref(d)\n    return [gone, d]\n",
        events=(event(),) * 2,
        posts=("response",) * 2,
    ),
    function(
        "a file written in one invocation",
        "def handler(e, c):\n    with open('state', 'a+') as f:\n        f.write('x')\n        f.seek(0)\n        return f.read()\n",
        events=(event(),) * 2,
        posts=("response",) * 2,
    ),
    function(
        "os.chdir lives between invocations",
        "import os\ndef handler(e, c):\n    before = os.getcwd()\n    os.chdir('/')\n    return before\n",
        events=(event(),) * 2,
        posts=("response",) * 2,
    ),
]
CASES: list[Case] = [*_PROCESS, *_INTERPRETER, *_MODULES, *_STREAMS, *_WARNINGS, *_CHILDREN]
