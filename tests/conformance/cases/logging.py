"""Log records in both formats, on standard output and in frames, and logging that user code configured (spec
runtime-api 4.8 to 4.11).
"""

from __future__ import annotations

from typing import Any

from tests.conformance.case import MODERN, Case, broken, example, raises
from tests.scripted_api import event

_JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
_DEBUG = {"AWS_LAMBDA_LOG_LEVEL": "DEBUG"}
_WITH_IDS = (
    event(1, "id-1", Lambda_Runtime_Aws_Tenant_Id="tenant"),
    event(2, "id-2"),
)
_EACH_LEVEL = """
for level in ("debug", "info", "warning", "error", "critical"):
    getattr(logging, level)("as %s", level)
"""


def _logs(name: str, statements: str, setup: str = "", **options: Any) -> Case:
    """A handler that logs, and returns nothing or what it has seen."""
    return raises(name, statements, f"import logging, sys\n{setup}", **{"posts": ("response",), **options})


# What is logged, by name: each in text and in JSON.
_RECORDS = {
    "a message": "logging.warning('plain')",
    "a message in two lines": "logging.warning('one\\ntwo\\r\\nthree\\u2028four')",
    "a message that is not ASCII": "logging.error('größer als 日本 😀')",
    "a message with quotes and control characters": "logging.error('\"quoted\" \\\\ \\t \\x00 \\x1b \\x7f')",
    "an empty message": "logging.warning('')",
    "arguments": "logging.warning('%s and %d and %r', 'a', 2, None)",
    "a mapping as the only argument": "logging.warning('%(k)s', {'k': 'v'})",
    "a dict as the message": "logging.warning({'a': [1, {'b': None}], 2: 'ü'})",
    "a dict as the message, with arguments": "logging.warning({'a': 1}, {})",
    "an object as the message": "logging.warning(ValueError('an object'))",
    "None as the message": "logging.warning(None)",
    "a list as the message": "logging.warning(['a', 1])",
    "a number of arguments that does not fit": "logging.warning('%s %s', 'one')",
    "an argument of the wrong type": "logging.warning('%d', 'no number')",
    "an argument whose str() fails": "logging.warning('%s', type('Odd', (), {'__str__': lambda self: 1 / 0})())",
    "extra": "logging.warning('x', extra={'user': 'ü', 'n': 1, 'f': 1.50, 'none': None, 'list': [1, (2, 3)]})",
    "extra that is not serialisable": "logging.warning('x', extra={'o': {1, 1}, 'b': b'b', 'e': ValueError('e'), "
    "'t': type})",
    "extra with a Decimal, a date, an enum and a named tuple": "import decimal, datetime, enum, collections\n"
    "Colour = enum.Enum('Colour', 'RED'); Point = collections.namedtuple('Point', 'x y')\n"
    "logging.warning('x', extra={'d': decimal.Decimal('1.10'), 't': datetime.date(2026, 1, 2), 'c': Colour.RED,\n"
    "    'p': Point(1, 2), 'i': enum.IntEnum('I', 'ONE').ONE})",
    "extra with NaN, infinities and huge numbers": "logging.warning('x', extra={'n': float('nan'), "
    "'i': -float('inf'), 'h': 10**40, 'e': 1e22})",
    "extra with the names of fields": "logging.warning('x', extra={'timestamp': 1, 'level': 2, 'logger': 3, "
    "'requestId': 4, 'errorType': 5, 'errorMessage': 6, 'stackTrace': 7, 'location': 8, 'tenantId': 9})",
    "extra with the name of an attribute": "logging.warning('x', extra={'message': 1})",
    "extra with keys that are no names": "logging.warning('x', extra={'a b': 1, '': 2, 'ü': 3})",
    "extra with a key that is no text": "logging.warning('x', extra={1: 'one', None: 'none', 2.5: 'float'})",
    "extra with a key that JSON has no form for": "logging.warning('x', extra={'d': {(1, 2): 3}})",
    "extra that contains itself": "d = {}; d['d'] = [d]; logging.warning('x', extra=d)",
    "exc_info=True": "try: 1 / 0\nexcept Exception: logging.warning('x', exc_info=True); logging.warning('next')",
    "logging.exception": "try: {}['ü']\nexcept Exception: logging.exception('failed: %s', 1)",
    "exc_info is an exception": "logging.warning('x', exc_info=ValueError('never raised'))",
    "exc_info is a tuple": "try: int('x')\nexcept ValueError: logging.warning('x', exc_info=sys.exc_info())",
    "exc_info=False": "logging.warning('x', exc_info=False); logging.warning('y', exc_info=None)",
    "exc_info of a chain": "try:\n    try: 1 / 0\n    except Exception as e: raise KeyError('k') from e\n"
    "except Exception: logging.exception('x')",
    "an exception with an empty message": "try: raise ValueError\nexcept ValueError: logging.exception('x')",
    "stack_info": "logging.warning('x', stack_info=False)",
    "a level of its own": "logging.addLevelName(35, 'NOTICE'); logging.log(35, 'a'); logging.log(45, 'b')",
    "levels beyond the names": "logging.log(60, 'a'); logging.log(1000, 'b'); logging.getLogger().setLevel(1)\n"
    "logging.log(5, 'c'); logging.log(1, 'd')",
    "a level that was renamed": "logging.addLevelName(30, 'achtung'); logging.warning('x')",
    "a logger with a name": "logging.getLogger('a.b').error('x'); logging.getLogger('ü').error('y')",
    "a LoggerAdapter": "logging.LoggerAdapter(logging.getLogger('a'), {'k': 'v'}).error('x')",
    "stacklevel": "def f(): logging.error('x', stacklevel=2, exc_info=ValueError('v'))\nf()",
    "Logger.handle with a record made by hand": "r = logging.makeLogRecord({'msg': 'made', 'levelno': 30, "
    "'levelname': 'WARNING'})\nlogging.getLogger().handle(r)",
    "context.log": "context.log('a'); context.log('b\\n'); context.log(7); context.log({'c': 'ü'})",
    "print beside records": "print('printed ü'); logging.warning('x'); print('a', 'b', sep='-', end='!\\n')",
}
# What fails, with the peer in the caller's face too, in one of the formats or both.
_REFUSED = (
    "a dict as the message, with arguments",
    "a number of arguments that does not fit",
    "an argument of the wrong type",
    "an argument whose str() fails",
    "extra with the name of an attribute",
    "extra with a key that JSON has no form for",
    "extra that contains itself",
)
for _name in _REFUSED:
    _tried = "".join(f"    {line}\n" for line in _RECORDS[_name].splitlines())
    _RECORDS[_name] = f"try:\n{_tried}except Exception as error: return [type(error).__name__, str(error)]"


# What user code does to logging.
_CONFIGURED = {
    "basicConfig": "logging.basicConfig(level=10, format='mine: %(message)s'); logging.info('x')",
    "basicConfig with force": "logging.basicConfig(force=True, stream=sys.stdout, format='mine: %(message)s')\n"
    "logging.warning('x'); context.log('y')",
    "dictConfig": """
        import logging.config
        logging.config.dictConfig({'version': 1, 'handlers': {'h': {'class': 'logging.StreamHandler',
            'stream': 'ext://sys.stdout', 'formatter': 'f'}}, 'root': {'handlers': ['h'], 'level': 'INFO'},
            'formatters': {'f': {'format': 'mine %(name)s %(message)s'}}})
        logging.info('x'); context.log('y')
    """,
    "dictConfig, incremental": "import logging.config\nlogging.config.dictConfig({'version': 1, 'incremental': True, "
    "'root': {'level': 'DEBUG'}})\nlogging.debug('x')",
    "dictConfig that keeps loggers": """
        import logging.config
        early = logging.getLogger('early')
        logging.config.dictConfig({'version': 1, 'disable_existing_loggers': False,
            'loggers': {'a': {'level': 'DEBUG'}}})
        early.error('x'); logging.getLogger('a').debug('y')
    """,
    "fileConfig": """
        import io, logging.config
        logging.config.fileConfig(io.StringIO('''[loggers]
        keys=root
        [handlers]
        keys=h
        [formatters]
        keys=f
        [logger_root]
        level=DEBUG
        handlers=h
        [handler_h]
        class=StreamHandler
        formatter=f
        args=(sys.stdout,)
        [formatter_f]
        format=mine %(levelname)s %(message)s
        '''.replace('        ', '')))
        logging.debug('x')
    """,
    "the root's handlers are cleared": "logging.getLogger().handlers.clear(); logging.warning('x'); context.log('y')",
    "the root's handler is removed": "logging.getLogger().removeHandler(logging.getLogger().handlers[0])\n"
    "logging.getLogger('a').error('x'); context.log('y')",
    "another formatter for our handler": "logging.getLogger().handlers[0].setFormatter(\n"
    "    logging.Formatter('%(aws_request_id)s %(tenant_id)s %(levelname)s %(message)s'))\n"
    "logging.warning('x'); logging.error('y')",
    "no formatter for our handler": "logging.getLogger().handlers[0].setFormatter(None); logging.warning('x')",
    "a formatter with another style": "logging.getLogger().handlers[0].setFormatter(\n"
    "    logging.Formatter('{aws_request_id} {message}\\n', style='{'))\nlogging.warning('x')",
    "a JSON formatter of one's own": """
        import json
        class Own(logging.Formatter):
            def format(self, record):
                return json.dumps({'own': record.getMessage(), 'id': record.aws_request_id}) + '\\n'
        logging.getLogger().handlers[0].setFormatter(Own())
        logging.warning('x')
    """,
    "another converter": "import time; logging.Formatter.converter = lambda *a: time.gmtime(0)\n"
    "logging.getLogger().handlers[0].formatter.datefmt = '%Y'; logging.warning('x')",
    "another date format": "logging.getLogger().handlers[0].formatter.datefmt = 'then'; logging.warning('x')",
    "a second handler with our attributes": "h = logging.StreamHandler(sys.stdout)\n"
    "h.setFormatter(logging.Formatter('second %(aws_request_id)s %(levelname)s %(levelno)d %(message)s'))\n"
    "logging.getLogger().addHandler(h); logging.log(35, 'x')",
    "a second handler before ours": "h = logging.StreamHandler(sys.stdout)\n"
    "h.setFormatter(logging.Formatter('first %(asctime)s %(message)s', '%Y'))\n"
    "logging.getLogger().handlers.insert(0, h); logging.warning('x')",
    "a second handler without our filter": "h = logging.StreamHandler(sys.stdout)\n"
    "h.setFormatter(logging.Formatter('%(aws_request_id)s %(message)s'))\nlogger = logging.getLogger('a')\n"
    "logger.addHandler(h); logger.error('x')",
    "our formatter on another handler": "h = logging.StreamHandler(sys.stdout)\n"
    "h.setFormatter(logging.getLogger().handlers[0].formatter)\nlogger = logging.getLogger('a'); logger.addHandler(h)\n"
    "logger.propagate = False; logger.error('x', extra={'aws_request_id': 'given'})",
    "no propagation": "a = logging.getLogger('a'); a.propagate = False; a.error('x')\n"
    "logging.getLogger('a.b').error('y')",
    "a filter of a handler": "logging.getLogger().handlers[0].addFilter(lambda r: 'x' in r.getMessage())\n"
    "logging.warning('x'); logging.warning('y')",
    "a filter that replaces the message": "def f(r): r.msg = 'hidden'; r.args = (); return True\n"
    "logging.getLogger().addFilter(f); logging.warning('secret %s', 1)",
    "the handler's level": "logging.getLogger().handlers[0].setLevel('ERROR')\n"
    "logging.warning('x'); logging.error('y')",
    "captured warnings": "import warnings; logging.captureWarnings(True); warnings.simplefilter('always')\n"
    "warnings.warn('x', stacklevel=1)",
    "warnings that are not captured": "import warnings; warnings.simplefilter('always'); warnings.warn('x')",
    "raiseExceptions off": "logging.raiseExceptions = False\ntry: logging.warning('%d', 'x')\n"
    "except Exception as e: return type(e).__name__",
    "a Logger class of one's own": """
        class Own(logging.Logger):
            def makeRecord(self, *args, **kwargs):
                record = super().makeRecord(*args, **kwargs)
                record.made_by = 'own'
                return record
        logging.setLoggerClass(Own)
        logging.getLogger('own').error('x')
    """,
    "a record factory": "old = logging.getLogRecordFactory()\ndef make(*a, **k):\n"
    "    r = old(*a, **k); r.factory = 'f'; return r\nlogging.setLogRecordFactory(make); logging.error('x')",
    "logging disabled": "logging.disable(logging.ERROR); logging.error('x'); logging.critical('y')",
    "a QueueHandler": "import queue, logging.handlers\nq = queue.Queue()\nlogger = logging.getLogger('q')\n"
    "logger.propagate = False; logger.addHandler(logging.handlers.QueueHandler(q)); logger.error('x %s', 1)\n"
    "logging.getLogger().handle(q.get())",
    "a MemoryHandler in front of ours": "import logging.handlers\n"
    "h = logging.handlers.MemoryHandler(10, target=logging.getLogger().handlers[0])\nlogger = logging.getLogger('m')\n"
    "logger.propagate = False; logger.addHandler(h); logger.error('x'); h.flush()",
    "logging reloaded": "import importlib; importlib.reload(logging); logging.warning('x')",
    "logging.shutdown": "logging.shutdown(); logging.warning('x')",
    "what the root looks like": "root = logging.getLogger(); h = root.handlers[0]\n"
    "return [root.level, len(root.handlers), type(h).__name__, h.level, type(h.formatter).__name__, len(h.filters),\n"
    "    hasattr(h, 'log_sink'), hasattr(h.log_sink, 'log'), h.formatter._fmt, h.formatter.datefmt, h.name,\n"
    "    hasattr(h, 'terminator'), type(h.log_sink).__name__]",
    "what a record looks like": "seen = []\nlogging.getLogger().handlers[0].addFilter(lambda r: seen.append(\n"
    "    sorted(k for k in vars(r) if k != 'taskName')) or True)\nlogging.warning('x'); return seen",
    "the sink used by itself": "sink = logging.getLogger().handlers[0].log_sink\nsink.log('by itself\\n')\n"
    "sink.log_error(['one', 'two'])",
    "a handler of our class": "kind = type(logging.getLogger().handlers[0])\n"
    "h = kind(logging.getLogger().handlers[0].log_sink)\nlogging.getLogger('k').addHandler(h)\n"
    "logging.getLogger('k').propagate = False; logging.getLogger('k').error('x')",
}

_MASKS = {
    # Behind a date of one's own.
    r"(1970|then)\.\d{3}Z": r"\1.<ms>Z",
    # The runtimes' own frames in what logging prints about its own errors.
    r'  File "(<frozen runpy>|[^"]*/runpy\.py|[^"]*/(awslambdaric|caloric)/)[^\n]*\n(    [^\n]*\n)*': "",
}

_LEVELS = [
    "",
    "TRACE",
    "trace",
    "Trace",
    "DEBUG",
    "debug",
    "INFO",
    "Info",
    "WARN",
    "WARNING",
    "warning",
    "ERROR",
    "FATAL",
    "CRITICAL",
    "NOTSET",
    "verbose",
    "10",
    " INFO",
]
_UNLOADABLE: dict[str, str | dict[str, str | bytes]] = {
    "raises": "raise ValueError('größe')\n",
    "cannot import another": "import nothing_like_this\n",
    "is missing": {"other.py": ""},
    "has a syntax error": "def handler(:\n",
}
_FORMATS = ["", "JSON", "json", "Json", "Text", "XML", " JSON"]

_CONCURRENT = """
import threading

def work(n):
    logging.warning("from thread %d", n)
    print("printed by", n)
"""

CASES: list[Case] = [
    *(_logs(f"log {name}, in text", code) for name, code in _RECORDS.items()),
    *(_logs(f"log {name}, in JSON", code, environment=_JSON) for name, code in _RECORDS.items()),
    *(
        _logs(f"log {name}, in {kind} frames", _RECORDS[name], environment=environment, telemetry=True)
        for kind, environment in {"text": {}, "JSON": _JSON}.items()
        for name in (
            "a message in two lines",
            "a message that is not ASCII",
            "exc_info=True",
            "extra",
            "levels beyond the names",
            "context.log",
            "print beside records",
        )
    ),
    _logs("log exc_info=True without an exception, in text", "logging.warning('x', exc_info=True)"),
    _logs(
        "log exc_info=True without an exception, in JSON",
        """
        try: logging.warning('x', exc_info=True)
        except Exception as error: return type(error).__name__
        return 'logged'
        """,
        environment=_JSON,
        differs=("json-no-exception",),
    ),
    *(_logs(f"user code: {name}", code, masks=_MASKS) for name, code in _CONFIGURED.items()),
    *(
        _logs(f"user code, in JSON frames: {name}", code, environment=_JSON, telemetry=True, masks=_MASKS)
        for name, code in _CONFIGURED.items()
    ),
    *(
        _logs(
            f"the level {example(level)}",
            _EACH_LEVEL,
            environment={"AWS_LAMBDA_LOG_LEVEL": level},
            telemetry=True,
        )
        for level in _LEVELS
    ),
    *(
        _logs(f"the format {example(name)}", _EACH_LEVEL, environment={"AWS_LAMBDA_LOG_FORMAT": name})
        for name in _FORMATS
    ),
    _logs("a level in JSON", _EACH_LEVEL, environment=_JSON | _DEBUG),
    _logs("a level in JSON frames", _EACH_LEVEL, environment=_JSON | _DEBUG, telemetry=True),
    _logs("a level without frames", _EACH_LEVEL, environment=_DEBUG),
    _logs("frames without a level", _EACH_LEVEL, telemetry=True),
    *(
        Case(
            f"request and tenant ids, {where}",
            {
                "app.py": "import logging\nlogging.warning('at import')\n"
                "def handler(event, context): logging.warning('%s', event)\n"
            },
            events=_WITH_IDS,
            posts=("response", "response"),
            environment=environment,
            telemetry=telemetry,
        )
        for where, environment, telemetry in (
            ("in text", {}, False),
            ("in JSON", _JSON, False),
            ("in JSON frames", _JSON, True),
        )
    ),
    *(
        Case(
            f"logging is {when}, {where}",
            files,
            environment=environment,
            telemetry=telemetry,
            events=(event(1, "a"), event(2, "b")),
            posts=("response", "response"),
        )
        for where, environment, telemetry in (("in text", {}, False), ("in JSON frames", _JSON, True))
        for when, files in {
            "imported in the handler": {
                "app.py": "def handler(event, context):\n    context.log('first\\n')\n"
                "    import logging\n    logging.warning('x')\n    context.log('second\\n')\n"
            },
            "imported by another module": {
                "app.py": "import other\ndef handler(event, context): other.log()\n",
                "other.py": "import logging\nlog = lambda: logging.getLogger(__name__).error('x')\n",
            },
            "imported in a thread": {
                "app.py": "import threading\ndef work():\n    import logging\n    logging.error('x')\n"
                "def handler(event, context):\n    t = threading.Thread(target=work); t.start(); t.join()\n"
            },
            "never imported": {"app.py": "def handler(event, context): context.log('x ü'); print('y')\n"},
            "imported with another environment": {
                "app.py": "import os\nos.environ['AWS_LAMBDA_LOG_LEVEL'] = 'DEBUG'\n"
                "os.environ['AWS_LAMBDA_LOG_FORMAT'] = 'Text'\nimport logging\n"
                "def handler(event, context):\n    logging.debug('x'); logging.error('y')\n"
            },
        }.items()
    ),
    _logs(
        "threads that log one after the other",
        "for n in range(3):\n    t = threading.Thread(target=work, args=(n,)); t.start(); t.join()",
        _CONCURRENT,
    ),
    _logs(
        "writes of a child process",
        "import subprocess\nprint('before'); subprocess.run(['echo', 'child'])\nprint('after')\n"
        "code = 'import os; print(os.environ.get(\"_LAMBDA_TELEMETRY_LOG_FD\"))'\n"
        "subprocess.run([sys.executable, '-S', '-c', code])",
        telemetry=True,
    ),
    _logs(
        "an error in text frames",
        "logging.error('x'); raise ValueError('größe\\ntwo')",
        telemetry=True,
        posts=("error",),
    ),
    _logs(
        "an error in JSON frames",
        "logging.error('x'); raise ValueError('größe\\ntwo')",
        telemetry=True,
        environment=_JSON,
        posts=("error",),
    ),
    _logs(
        "an error in JSON where the peer writes UTF-8",
        "raise ValueError('größe \\u2028')",
        environment=_JSON | MODERN,
        posts=("error",),
    ),
    _logs("an error in JSON", "raise ValueError('größe')", environment=_JSON, posts=("error",)),
    _logs(
        "an error with a cause, in JSON",
        "try: 1 / 0\nexcept Exception as e: raise KeyError('k') from e",
        environment=_JSON,
        posts=("error",),
    ),
    _logs(
        "an error with a cause, in text",
        "try: 1 / 0\nexcept Exception as e: raise KeyError('k') from e",
        posts=("error",),
    ),
    _logs(
        "an error while another is handled, in frames",
        "try: 1 / 0\nexcept Exception: raise KeyError('k')",
        telemetry=True,
        posts=("error",),
    ),
    _logs(
        "an error whose context is suppressed",
        "try: 1 / 0\nexcept Exception: raise KeyError('k') from None",
        posts=("error",),
    ),
    _logs(
        "an error with notes",
        "e = ValueError('x'); e.add_note('one'); e.add_note('two\\nlines'); raise e",
        posts=("error",),
        python=(3, 11),
    ),
    _logs(
        "an error with notes, in JSON",
        "e = ValueError('x'); e.add_note('one'); raise e",
        posts=("error",),
        python=(3, 11),
        environment=_JSON,
    ),
    _logs(
        "an exception group, in text",
        "raise ExceptionGroup('g', [ValueError('a'), ExceptionGroup('h', [KeyError('b')])])",
        posts=("error",),
        python=(3, 11),
    ),
    _logs(
        "an exception group, in JSON frames",
        "raise ExceptionGroup('g', [ValueError('a'), KeyError('b')])",
        posts=("error",),
        python=(3, 11),
        environment=_JSON,
        telemetry=True,
    ),
    _logs(
        "errors that cause each other",
        "a, b = ValueError('a'), ValueError('b')\na.__cause__ = b; b.__cause__ = a\nraise a",
        posts=("error",),
    ),
    _logs(
        "an error after logging was set up by user code",
        "logging.basicConfig(force=True); raise ValueError('x')",
        posts=("error",),
    ),
    _logs(
        "an error after the log handler was removed",
        "logging.getLogger().handlers.clear(); raise ValueError('x')",
        posts=("error",),
    ),
    _logs(
        "an error where stdout was replaced",
        "import io; sys.stdout = io.StringIO(); raise ValueError('x')",
        posts=("error",),
    ),
    *(
        broken(f"a module that {what}, {where}", files, environment=environment, telemetry=telemetry)
        for where, environment, telemetry in (
            ("in JSON", _JSON, False),
            ("in text frames", {}, True),
            ("in JSON frames", _JSON, True),
            ("with level ERROR", {"AWS_LAMBDA_LOG_LEVEL": "ERROR"}, False),
        )
        for what, files in _UNLOADABLE.items()
    ),
]
