"""The `context` argument (spec runtime-api 4.12), and the headers that it is made of (1.3)."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.case import MODERN, Case, example, function, headers, returns
from tests.scripted_api import event

_FUNCTION = {
    "AWS_LAMBDA_FUNCTION_NAME": "my-function",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/my-function",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/23/[$LATEST]0123",
}
# The request id, deadline and ARN as text, and everything else that a context holds, with types.
_SHOW = """
    def show(x):
        if hasattr(x, '__slots__'):
            return {name: show(getattr(x, name)) for name in x.__slots__}
        return [type(x).__name__, x]

    def handler(event, context):
        return {name: show(value) for name, value in vars(context).items()}
"""
_CLIENT = {
    "client": {
        "installation_id": "i",
        "app_title": "größe",
        "app_version_name": "1.0",
        "app_version_code": 7,
        "app_package_name": "p",
        "unknown": True,
    },
    "custom": {"k": [1, {"x": None}]},
    "env": {"locale": "de"},
    "services": {"s": 1},
}


def _shows(name: str, fields: dict[str, str], **options: Any) -> Case:
    return function(name, _SHOW, **{"events": (event(**fields),), **options})


def _client(name: str, value: object, **options: Any) -> Case:
    text = value if isinstance(value, str) else json.dumps(value)
    return _shows(f"client context: {name}", {"Lambda_Runtime_Client_Context": text}, **options)


def _identity(name: str, value: object, **options: Any) -> Case:
    text = value if isinstance(value, str) else json.dumps(value)
    return _shows(f"Cognito identity: {name}", {"Lambda_Runtime_Cognito_Identity": text}, **options)


def _raw(name: bytes, value: bytes) -> bytes:
    """An event with a header of any bytes."""
    return event(None).replace(b"Content-Type:", name + b": " + value + b"\r\nContent-Type:")


def _looks(name: str, expression: str, setup: str = "", **options: Any) -> Case:
    return returns(f"context: {name}", expression, setup, **{"environment": _FUNCTION, **options})


_COPY = "import copy, pickle\ndef v(c): return {k: repr(x) for k, x in vars(c).items()}"
_BAD_JSON = [
    "{",
    "not JSON",
    "1 2",
    "'a'",
    '{"a":}',
    "NaN",
    "[1,]",
    '"unclosed',
    "{}{}",
    "\\u0000",
    "tru",
    "Infinity",
    "-Infinity",
]
_HEADERS: list[Case] = [
    _shows("every attribute, with nothing but an id", {}),
    _shows("every attribute of a configured function", {}, environment=_FUNCTION),
    _shows("no ARN", {"Lambda_Runtime_Invoked_Function_Arn": ""}),
    _shows("no deadline", {"Lambda_Runtime_Deadline_Ms": ""}),
    _shows("a deadline that is past", {"Lambda_Runtime_Deadline_Ms": "1"}),
    _shows(
        "a deadline of 0",
        {"Lambda_Runtime_Deadline_Ms": "0"},
        posts=(),
        differs=("crashes",),
        ours={"1 body": r'\{"aws_request_id".*"_epoch_deadline_time_in_ms":\["int",0\]\}'},
    ),
    _shows(
        "a deadline that is no number",
        {"Lambda_Runtime_Deadline_Ms": "soon"},
        posts=(),
        differs=("crashes",),
        ours={"1 body": r'\{"aws_request_id".*"_epoch_deadline_time_in_ms":\["int",0\]\}'},
    ),
    _shows("an id that is no UUID", {"Lambda_Runtime_Aws_Request_Id": "any.thing-7"}),
    _shows("a header with blanks around", {"Lambda_Runtime_Invoked_Function_Arn": "  arn:x  "}),
    _shows(
        "names of headers in lower case",
        {},
        events=(event(None).replace(b"Lambda-Runtime-", b"lambda-runtime-"),),
    ),
    _shows(
        "names of headers in capitals",
        {},
        events=(event(None).replace(b"Lambda-Runtime-", b"LAMBDA-RUNTIME-"),),
    ),
    _shows("headers that nobody knows", {"X_Other": "1", "Lambda_Runtime_Unknown": "2"}),
    _shows(
        "empty headers",
        {},
        events=(
            event(None).replace(
                b"Content-Type:",
                b"Lambda-Runtime-Client-Context: \r\nLambda-Runtime-Cognito-Identity: \r\nLambda-Runtime-Trace-Id: \r\nLambda-Runtime-Aws-Tenant-Id: \r\nContent-Type:",
            ),
        ),
    ),
    _shows("headers without a blank", {}, events=(event(None).replace(b"Id: id-1", b"Id:id-1"),)),
    _client("complete", _CLIENT),
    _client("empty", {}),
    _client("null", "null"),
    _client("a client that is null", {"client": None, "custom": None, "env": None}),
    _client("custom only", {"custom": {"a": 1}}),
    _client("an empty client", {"client": {}}),
    _client("custom of any type", {"custom": [1, 2], "env": "text"}),
    _client("numbers", {"custom": {"big": 2**70, "float": 1.50, "exp": 1e22}}),
    _client("unicode as escapes", {"custom": {"größe": "日本 😀"}}),
    _client("unicode as UTF-8", json.dumps({"custom": {"größe": "日本 😀"}}, ensure_ascii=False), posts=None),
    _client(
        "unicode as UTF-8, in 3.12+ mode",
        json.dumps({"custom": {"größe": "ü"}}, ensure_ascii=False),
        posts=None,
        environment=MODERN,
    ),
    _client("half a surrogate pair", '{"custom": {"a": "\\ud800"}}'),
    _client("names twice", '{"custom": {"a": 1}, "custom": {"a": 2}}'),
    _client("nested", '{"custom": ' + "[" * 100 + "]" * 100 + "}"),
    _client("NaN inside", '{"custom": NaN}', posts=None),
    _client("Infinity inside", '{"custom": [Infinity, -Infinity]}', posts=None),
    *(
        _client(f"not an object, {example(value)}", value, posts=None)
        for value in ("1", "0", "true", "false", '"text"', '""', "[]", "[1]", '["w3c"]')
    ),
    *(_client(f"no JSON, {example(value)}", value, posts=None) for value in _BAD_JSON),
    _client("client is no object", {"client": [1]}, posts=None),
    _client("client is a text", {"client": "x"}, posts=None),
    _client("client is 0", {"client": 0}, posts=None),
    _client(
        "Latin-1",
        "",
        events=(_raw(b"Lambda-Runtime-Client-Context", b'{"custom": "\xfc"}'),),
        posts=(),
        differs=("crashes",),
        ours={"1 body": '\\{"aws_request_id".*"custom":\\["str","(\ufffd|\\\\\\\\ufffd)"\\].*\\}'},
    ),
    _client(
        "with w3c", {"custom": {}, "w3c": {"traceparent": "00-x", "tracestate": "a=b", "baggage": "c=d"}}
    ),
    _identity("complete", {"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool"}),
    _identity("empty", {}),
    _identity("null", "null"),
    _identity("half of it", {"cognitoIdentityId": "id"}),
    _identity("more than is known", {"cognitoIdentityId": "id", "other": 1}),
    _identity("snake case", {"cognito_identity_id": "id"}),
    _identity("of other types", {"cognitoIdentityId": 7, "cognitoIdentityPoolId": ["x"]}),
    _identity("unicode", {"cognitoIdentityId": "größe"}),
    *(
        _identity(f"not an object, {example(value)}", value, posts=None)
        for value in ("1", "0", '"text"', "[]", "true")
    ),
    *(_identity(f"no JSON, {example(value)}", value, posts=None) for value in ("{", "not JSON", "NaN")),
    _shows(
        "both broken: the client context is named",
        {"Lambda_Runtime_Client_Context": "{", "Lambda_Runtime_Cognito_Identity": "{"},
        posts=("error",),
    ),
    function(
        "a broken context and a broken event: the context is named",
        _SHOW,
        events=(event(b"{", Lambda_Runtime_Client_Context="["),),
        posts=("error",),
    ),
]
_W3C: list[Case] = [
    headers(
        f"context.w3c() of {name}",
        "return [context.w3c(), repr(context.client_context)]",
        {"Lambda_Runtime_Client_Context": json.dumps({"w3c": value, "custom": 1})},
        posts=None,
    )
    for name, value in {
        "all three": {"traceparent": "00-a", "tracestate": "a=b", "baggage": "c=d"},
        "one and others": {"traceparent": "00-a", "other": "x"},
        "values that are no text": {"traceparent": 1, "tracestate": None, "baggage": ["x"]},
        "empty texts": {"traceparent": "", "baggage": ""},
        "an empty object": {},
        "null": None,
        "a text": "00-a",
        "a list": ["traceparent"],
    }.items()
]
_OBJECT: list[Case] = [
    _looks("vars()", "{k: type(v).__name__ for k, v in vars(context).items()}"),
    _looks("the order of vars()", "list(vars(context))"),
    _looks("repr", "repr(context)"),
    _looks("str", "str(context)"),
    _looks(
        "repr of all of it",
        "[repr(context), repr(context.client_context), repr(context.identity), repr(context.client_context.client)]",
        events=(
            event(
                Lambda_Runtime_Client_Context=json.dumps(_CLIENT),
                Lambda_Runtime_Cognito_Identity='{"cognitoIdentityId": "i"}',
            ),
        ),
    ),
    _looks("format", "f'{context!s:.20}'"),
    _looks(
        "names of classes", "[type(x).__name__ for x in (context, context.identity, context.client_context)]"
    ),
    _looks(
        "public names in dir()",
        "[n for n in dir(context) if not n.startswith('_')]",
        differs=("context-additions",),
    ),
    _looks(
        "public names of the class",
        "sorted(n for n in dir(type(context)) if not n.startswith('_'))",
        differs=("context-additions",),
    ),
    _looks("bases of its class", "[c.__name__ for c in type(context).__mro__]"),
    _looks("setting an attribute", "setattr(context, 'mine', 7) or [context.mine, 'mine' in vars(context)]"),
    _looks(
        "changing an attribute",
        "setattr(context, 'function_name', 'other') or [context.function_name, repr(context)[:70]]",
    ),
    _looks("deleting an attribute", "delattr(context, 'tenant_id') or hasattr(context, 'tenant_id')"),
    _looks("a missing attribute", "hasattr(context, 'no_such')"),
    _looks(
        "setting an attribute of identity that does not exist",
        "trying(lambda: setattr(context.identity, 'x', 1))",
        "def trying(f):\n    try: return f()\n    except Exception as e: return [type(e).__name__, str(e)]",
    ),
    _looks(
        "setting an attribute of identity",
        "setattr(context.identity, 'cognito_identity_id', 'x') or repr(context.identity)",
    ),
    _looks("__dict__ of identity", "hasattr(context.identity, '__dict__')"),
    _looks(
        "slots",
        "[list(context.identity.__slots__), list(context.client_context.__slots__), list(context.client_context.client.__slots__)]",
        events=(event(Lambda_Runtime_Client_Context='{"client": {}}'),),
    ),
    _looks(
        "copy.copy",
        "[v(copy.copy(context)) == v(context), copy.copy(context).identity is context.identity]",
        _COPY,
    ),
    _looks(
        "copy.deepcopy",
        "[vars(copy.deepcopy(context)).keys() == vars(context).keys(), copy.deepcopy(context).aws_request_id]",
        _COPY,
    ),
    _looks("pickle there and back", "v(pickle.loads(pickle.dumps(context))) == v(context)", _COPY),
    _looks(
        "pickle of a full one",
        "v(pickle.loads(pickle.dumps(context))) == v(context)",
        _COPY,
        events=(event(Lambda_Runtime_Client_Context=json.dumps(_CLIENT)),),
    ),
    _looks("__reduce_ex__ names what it is made of", "sorted(context.__reduce_ex__(2)[2])"),
    _looks("equality", "[context == context, context == copy.copy(context), context != 1]", _COPY),
    _looks("hash", "hash(context) == hash(context) and context in {context}"),
    _looks("weak references", "weakref.ref(context)() is context", "import weakref"),
    _looks(
        "json of vars() with a default", "json.loads(json.dumps(vars(context), default=str))", "import json"
    ),
    _looks("the remaining time", "type(context.get_remaining_time_in_millis()).__name__"),
    _looks(
        "the remaining time before a deadline long past",
        "context.get_remaining_time_in_millis()",
        events=(event(Lambda_Runtime_Deadline_Ms="1000"),),
    ),
    _looks(
        "the remaining time is what is left",
        "-1 <= 4102444800000 - time.time() * 1000 - context.get_remaining_time_in_millis() < 5000",
        "import time",
    ),
    _looks(
        "the remaining time counts down under a patched clock",
        "[context.get_remaining_time_in_millis()]",
        "import time\ntime.time = lambda: 4102444799",
    ),
    _looks("the deadline that tools read", "context._epoch_deadline_time_in_ms"),
    _looks(
        "methods of the class",
        "[callable(context.log), callable(context.w3c), callable(context.get_remaining_time_in_millis)]",
    ),
    _looks(
        "log()",
        "context.log('one') or context.log('two\\n') or context.log(3) or context.log(None) or context.log('größe 日本\\n')",
    ),
    _looks("log() of nothing", "context.log('')"),
    _looks("log() returns nothing", "context.log('x')"),
    _looks("log(msg=…)", "context.log(msg='named\\n')"),
    _looks(
        "log() with logging imported", "context.log('x\\n') or logging.getLogger().name", "import logging"
    ),
    _looks(
        "log() with the root's handlers removed",
        "context.log('x\\n')",
        "import logging\nlogging.getLogger().handlers.clear()",
    ),
    _looks(
        "log() with standard output replaced",
        "context.log('x\\n') or sys.stdout.getvalue()",
        "import io, sys\nsys.stdout = io.StringIO()",
    ),
    _looks(
        "log() on the log descriptor",
        "context.log('one\\n') or context.log('two')",
        telemetry=True,
        posts=None,
    ),
    _looks(
        "a new one for each invocation",
        "seen.append(context) or [len({id(c) for c in seen}), [c.aws_request_id for c in seen]]",
        "seen = []",
        events=(event(request_id="a"), event(request_id="b")),
        posts=("response", "response"),
    ),
    _looks(
        "the environment is read for each invocation",
        "os.environ.update(AWS_LAMBDA_FUNCTION_NAME=f'{context.function_name}!') or context.function_name",
        "import os",
        events=(event(), event()),
        posts=("response", "response"),
    ),
    _looks(
        "variables that are empty",
        "[context.function_name, context.memory_limit_in_mb]",
        environment={"AWS_LAMBDA_FUNCTION_NAME": "", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": ""},
    ),
    _looks(
        "variables with other characters",
        "context.function_name",
        environment={"AWS_LAMBDA_FUNCTION_NAME": "größe 日本"},
    ),
    _looks(
        "variables removed at import",
        "context.function_name",
        "import os\ndel os.environ['AWS_LAMBDA_FUNCTION_NAME']",
    ),
    _looks(
        "a client context without a client",
        "context.client_context.client",
        events=(event(Lambda_Runtime_Client_Context="{}"),),
    ),
]
_TRACE: list[Case] = [
    returns(
        "the trace id is in the environment",
        "os.environ.get('_X_AMZN_TRACE_ID')",
        "import os",
        events=(event(Lambda_Runtime_Trace_Id="Root=1-2;Parent=3;Sampled=1"),),
    ),
    returns(
        "the trace id comes and goes",
        "[os.environ.get('_X_AMZN_TRACE_ID'), os.getenv('_X_AMZN_TRACE_ID'), '_X_AMZN_TRACE_ID' in os.environ]",
        "import os",
        events=(
            event(Lambda_Runtime_Trace_Id="a"),
            event(),
            event(Lambda_Runtime_Trace_Id="b"),
            event(Lambda_Runtime_Trace_Id="b"),
        ),
        posts=("response",) * 4,
    ),
    returns(
        "a trace id of its own in the environment is removed",
        "os.environ.get('_X_AMZN_TRACE_ID')",
        "import os\nos.environ['_X_AMZN_TRACE_ID'] = 'mine'",
    ),
    returns(
        "children see the trace id",
        "subprocess.run('echo $_X_AMZN_TRACE_ID', shell=True, capture_output=True, text=True).stdout",
        "import subprocess",
        events=(event(Lambda_Runtime_Trace_Id="Root=1"), event(), event(Lambda_Runtime_Trace_Id="x")),
        posts=("response",) * 3,
    ),
    returns(
        "the handler changes the trace id",
        "[os.environ.pop('_X_AMZN_TRACE_ID', None), os.environ.setdefault('_X_AMZN_TRACE_ID', 'mine')]",
        "import os",
        events=(event(Lambda_Runtime_Trace_Id="a"), event(Lambda_Runtime_Trace_Id="a"), event()),
        posts=("response",) * 3,
    ),
]
CASES: list[Case] = [*_HEADERS, *_W3C, *_OBJECT, *_TRACE]
