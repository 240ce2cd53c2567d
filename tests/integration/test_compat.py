"""awslambdaric's names under Caloric: who patches them changes what the runtime does (spec runtime-api 4.1).

Each function runs on awslambdaric too, with the same result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.scripted_run import (
    initialize,
    invoke,
    invoke_until_exit,
    peers_initialize,
    peers_invoke,
)
from tests.runtimes import CALORIC, COMMANDS, start
from tests.scripted_api import ACCEPTED, ScriptedApi, event, status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import WriteFunction
    from tests.integration.scripted_run import Run

ANY_WAY = pytest.mark.parametrize("way", COMMANDS)
OUR_WAYS = pytest.mark.parametrize("way", CALORIC)

# What a tool does that wraps the handler and looks at what is posted.
RECORDER = """
    import sys

    seen = []

    def patch():
        from awslambdaric import bootstrap

        original = bootstrap.handle_event_request
        client = bootstrap.LambdaRuntimeClient
        post_result, post_error = client.post_invocation_result, client.post_invocation_error
        original_to_json = bootstrap.to_json

        def handle_event_request(lambda_runtime_client, request_handler, *args, **kwargs):
            seen.append(["request", type(args[1]).__name__, *args[:1], *args[2:8], len(args), sorted(kwargs)])
            wrapped = lambda event, context: request_handler(event, context)
            return original(lambda_runtime_client, wrapped, *args, **kwargs)

        def post_invocation_result(self, *args, **kwargs):
            seen.append(["result", args[0], type(args[1]).__name__, *args[2:]])
            return post_result(self, *args, **kwargs)

        def post_invocation_error(self, *args, **kwargs):
            seen.append(["error", *[type(arg).__name__ for arg in args]])
            return post_error(self, *args, **kwargs)

        def to_json(obj):
            seen.append(["to_json", sorted(obj)])
            return original_to_json(obj)

        bootstrap.handle_event_request = handle_event_request
        client.post_invocation_result = post_invocation_result
        client.post_invocation_error = post_invocation_error
        bootstrap.to_json = to_json

    def handler(event, context):
        if event == "patch":
            patch()
        if event == "raise":
            raise ValueError("boom")
        if event == "set":
            return {1}
        return [event, context.aws_request_id, list(seen)]
"""


def with_the_peer(way: str, folder: Path, *events: bytes) -> tuple[Run, Run]:
    """What Caloric does, and what awslambdaric does."""
    return invoke(way, folder, *events), peers_invoke(folder, *events)


@OUR_WAYS
def test_functions_that_are_patched_at_import_are_called_with_the_peers_arguments(
    way: str, write_function: WriteFunction
) -> None:
    events = [
        event("first", "id-1", Lambda_Runtime_Invocation_Id="attempt-1", Lambda_Runtime_Aws_Tenant_Id="blue"),
        event("raise", "id-2", Lambda_Runtime_Client_Context='{"custom": {"a": 1}}'),
        event("set", "id-3", Lambda_Runtime_Cognito_Identity='{"cognitoIdentityId": "me"}'),
        event(b"text", "id-4", Content_Type="text/plain"),
        event("last", "id-5"),
    ]
    ours, peers = with_the_peer(way, write_function(RECORDER + "\n    patch()\n"), *events)
    kinds = [kind for kind, *_ in ours.results[-1][2]]
    good, bad = ["request", "result"], ["request", "to_json", "to_json", "error"]
    assert kinds == [*good, *bad, *bad, *good, "request"]
    assert ours.results == peers.results
    assert ours.masked_stdout == peers.masked_stdout
    assert [post.path for post in ours.posts] == [post.path for post in peers.posts]
    attempts = [post.headers.get("lambda-runtime-invocation-id") for post in ours.posts]
    assert attempts == ["attempt-1", None, None, None, None]


@OUR_WAYS
@pytest.mark.parametrize("second", ["raise", "set", "again"])
def test_a_patch_during_an_invocation_is_in_effect_when_its_answer_is_posted(
    way: str, second: str, write_function: WriteFunction
) -> None:
    events = [event("before", "id-1"), event("patch", "id-2"), event(second, "id-3"), event("last", "id-4")]
    ours, peers = with_the_peer(way, write_function(RECORDER), *events)
    assert ours.results[-1][2][0][:2] == ["result", "id-2"]
    assert ours.results == peers.results
    assert ours.masked_stdout == peers.masked_stdout


@ANY_WAY
def test_an_error_in_the_invocation_that_patches_is_reported_by_the_patch(
    way: str, write_function: WriteFunction
) -> None:
    source = """
        def handler(event, context):
            from awslambdaric.bootstrap import LambdaRuntimeClient

            original = LambdaRuntimeClient.post_invocation_error

            def post(self, invoke_id, document, xray, *rest):
                return original(self, invoke_id, document.replace("boom", "patched"), xray, *rest)

            LambdaRuntimeClient.post_invocation_error = post
            raise ValueError("boom")
    """
    run = invoke(way, write_function(source))
    assert run.results[0]["errorMessage"] == "patched"
    (frame,) = run.results[0]["stackTrace"]
    assert "in handler" in frame


@ANY_WAY
def test_a_marshaller_of_the_functions_own_decodes_and_encodes(
    way: str, write_function: WriteFunction
) -> None:
    source = """
        from awslambdaric.lambda_runtime_client import BaseLambdaRuntimeClient

        class Marshaller:
            def unmarshal_request(self, request, content_type="application/json"):
                return [request.decode(), content_type]

            def marshal_response(self, response):
                return "<" + "|".join(response) + ">", "text/xml"

        BaseLambdaRuntimeClient.marshaller = Marshaller()

        def handler(event, context):
            return event
    """
    run = invoke(way, write_function(source), event(b"{}", Content_Type="application/cbor"))
    assert run.posts[0].body == b"<{}|application/cbor>"
    assert run.posts[0].headers["content-type"] == "text/xml"


ENCODERS = {
    "patched": """
        original = Encoder.default
        Encoder.default = lambda self, o: sorted(o) if isinstance(o, set) else original(self, o)
    """,
    "subclass": """
        class Mine(Encoder):
            def default(self, o):
                return sorted(o) if isinstance(o, set) else super().default(o)

        LambdaMarshaller.marshal_response = lambda self, o: (Mine().encode(o), "application/json")
    """,
}


@ANY_WAY
@pytest.mark.parametrize("how", ENCODERS)
def test_an_encoder_that_knows_more_types_is_asked(way: str, how: str, write_function: WriteFunction) -> None:
    source = f"""
        from awslambdaric.lambda_runtime_marshaller import Encoder, LambdaMarshaller
        {ENCODERS[how]}
        def handler(event, context):
            return {{"a": [{{2, 1}}, None]}}
    """
    assert invoke(way, write_function(source)).results == [{"a": [[1, 2], None]}]


@OUR_WAYS
def test_what_a_patched_encoder_refuses_too_is_a_marshal_error(
    way: str, write_function: WriteFunction
) -> None:
    source = f"""
        from awslambdaric.lambda_runtime_marshaller import Encoder
        {ENCODERS["patched"]}
        def handler(event, context):
            return object()
    """
    ours, peers = with_the_peer(way, write_function(source))
    assert ours.results[0]["errorType"] == "Runtime.MarshalError"
    assert ours.results == peers.results


@ANY_WAY
def test_names_that_functions_import_are_there(way: str, write_function: WriteFunction) -> None:
    source = """
        import json, logging
        from awslambdaric.lambda_context import LambdaContext, ClientContext, Client, CognitoIdentity
        from awslambdaric.lambda_runtime_exception import FaultException
        from awslambdaric.lambda_runtime_log_utils import JsonFormatter
        from awslambdaric.lambda_runtime_marshaller import Encoder, LambdaMarshaller, to_json
        from awslambdaric import bootstrap

        def handler(event, context):
            try:
                bootstrap._get_handler("app.no_such")
            except FaultException as error:
                fault = [error.exception_type, error.msg]
            record = logging.makeLogRecord({})
            bootstrap.LambdaLoggerFilter().filter(record)
            return [
                isinstance(context, LambdaContext),
                bootstrap._get_handler("app.handler") is handler,
                fault,
                record.aws_request_id,
                bootstrap._GLOBAL_AWS_REQUEST_ID,
                json.loads(to_json({"a": (1, None)})),
                any(isinstance(h, bootstrap.LambdaLoggerHandler) for h in logging.getLogger().handlers),
            ]
    """
    fault = ["Runtime.HandlerNotFound", "Handler 'no_such' missing on module 'app'"]
    run = invoke(way, write_function(source))
    assert run.results == [[True, True, fault, "id-1", "id-1", {"a": [1, None]}, True]]


@OUR_WAYS
def test_the_names_are_ours_where_awslambdaric_is_installed_too(
    way: str, write_function: WriteFunction
) -> None:
    source = """
        import __main__, importlib.metadata, importlib.util, sys
        spec = importlib.util.find_spec("awslambdaric")
        early = "awslambdaric" in sys.modules
        import awslambdaric.bootstrap

        def handler(event, context):
            from awslambdaric import lambda_context
            return [
                early, spec.origin, awslambdaric.bootstrap.__file__, __main__.bootstrap is awslambdaric.bootstrap,
                hasattr(__main__, "awslambdaricmain"), importlib.metadata.version("awslambdaric"),
            ]
    """
    early, origin, path, same, older, version = invoke(way, write_function(source)).results[0]
    assert (early, same, older) == (False, True, False)
    assert origin.endswith("caloric/compat/awslambdaric/__init__.py")
    assert path.endswith("caloric/compat/awslambdaric/bootstrap.py")
    assert version == "4.2.2"


@OUR_WAYS
def test_nothing_of_it_is_imported_without_such_a_tool(way: str, write_function: WriteFunction) -> None:
    source = """
        import json, logging, sys
        from awslambdaric.lambda_context import LambdaContext

        def handler(event, context: LambdaContext):
            return sorted(m for m in sys.modules if "compat" in m or "awslambdaric" in m or "error_report" in m)
    """
    plain = source.replace("from awslambdaric.lambda_context import LambdaContext", "LambdaContext = object")
    assert invoke(way, write_function(plain)).results == [[]]
    # A name for annotations brings its module and leaves the loop in Rust.
    names = ["awslambdaric", "awslambdaric.lambda_context", "caloric.compat"]
    assert invoke(way, write_function(source)).results == [names]


@OUR_WAYS
def test_an_initialization_error_is_posted_by_the_patch(way: str, write_function: WriteFunction) -> None:
    source = """
        import sys
        from awslambdaric.bootstrap import LambdaRuntimeClient

        original = LambdaRuntimeClient.post_init_error

        def post_init_error(self, error_result, *rest):
            print("seen", error_result["errorType"], sys.exc_info()[0])
            return original(self, error_result, *rest)

        LambdaRuntimeClient.post_init_error = post_init_error
        raise RuntimeError("no good")
    """
    folder = write_function(source)
    ours, peers = initialize(way, folder), peers_initialize(folder, "app.handler")
    assert "seen RuntimeError None\n" in ours.stdout
    assert "seen RuntimeError None\n" in peers.stdout
    (document,) = ours.results
    assert document["errorType"] == "RuntimeError"
    assert document["errorMessage"] == "no good"
    assert ours.posts[0].headers["lambda-runtime-function-error-type"] == "RuntimeError"
    assert ours.exit_status == peers.exit_status == 1


@OUR_WAYS
def test_answers_that_are_refused_do_not_end_the_function(way: str, write_function: WriteFunction) -> None:
    source = """
        import os, awslambdaric.bootstrap

        def handler(event, context):
            return [event, os.environ.get("_X_AMZN_TRACE_ID"), context.client_context]
    """
    steps = [
        event(1, "id-1", Lambda_Runtime_Trace_Id="Root=1"),
        status(410),
        event(2, "id-2"),
        ACCEPTED,
    ]
    with (
        ScriptedApi([*steps]) as api,
        start(way, "app.handler", write_function(source), api.address) as process,
    ):
        requests = api.wait_for(5)
        process.kill()
        _, stderr = process.communicate()
    assert [request.call for request in requests] == ["next", "response", "next", "response", "next"]
    assert [request.json() for request in requests if request.method == "POST"] == [
        [1, "Root=1", None],
        [2, None, None],
    ]
    assert b"the answer to id-1 was not accepted: 410" in stderr


@ANY_WAY
@pytest.mark.parametrize("log_format", ["TEXT", "JSON"])
def test_errors_and_records_are_logged_as_without_the_names(
    way: str, log_format: str, write_function: WriteFunction
) -> None:
    source = """
        import logging
        {touch}

        def handler(event, context):
            logging.warning("careful")
            context.log("plain\\n")
            return [][event]
    """
    with_names = write_function(source.format(touch="import awslambdaric.bootstrap"), "with_names.py")
    without = write_function(source.format(touch=""), "without.py")
    ours = invoke(way, with_names, event(3), handler="with_names.handler", AWS_LAMBDA_LOG_FORMAT=log_format)
    other = invoke(way, without, event(3), handler="without.handler", AWS_LAMBDA_LOG_FORMAT=log_format)
    assert "careful" in ours.stdout
    assert "list index out of range" in ours.stdout
    assert ours.masked_stdout.replace("with_names", "without") == other.masked_stdout
    assert ours.posts[0].body.replace(b"with_names", b"without") == other.posts[0].body


@OUR_WAYS
def test_large_errors_are_cropped_as_without_the_names(way: str, write_function: WriteFunction) -> None:
    source = """
        {touch}

        def handler(event, context):
            raise ValueError("é" * 300_000)
    """
    with_names = write_function(source.format(touch="import awslambdaric.bootstrap"), "with_names.py")
    without = write_function(source.format(touch=""), "without.py")
    ours = invoke(way, with_names, handler="with_names.handler").posts[0]
    other = invoke(way, without, handler="without.handler").posts[0]
    assert ours.body.replace(b"with_names", b"without") == other.body
    for name in ("lambda-runtime-function-xray-error-cause", "lambda-runtime-function-error-type"):
        assert ours.headers[name].replace("with_names", "without") == other.headers[name]


@OUR_WAYS
def test_what_a_customisation_module_imported_before_is_replaced(
    way: str, write_function: WriteFunction
) -> None:
    """`sitecustomize` runs before the runtime, so what it gets is the installed package."""
    write_function("import awslambdaric.bootstrap\nearly = awslambdaric.bootstrap\n", "sitecustomize.py")
    source = """
        import sys
        import sitecustomize
        import __main__
        from awslambdaric.lambda_runtime_client import BaseLambdaRuntimeClient

        class Marshaller(type(BaseLambdaRuntimeClient.marshaller)):
            def marshal_response(self, response):
                return '"patched"', "application/json"

        BaseLambdaRuntimeClient.marshaller = Marshaller()

        def handler(event, context):
            print(sitecustomize.early.__file__, __main__.bootstrap.__file__, sep="\\n")
    """
    folder = write_function(source)
    run = invoke(way, folder, PYTHONPATH=str(folder))
    assert run.results == ["patched"]
    installed, ours = run.stdout.splitlines()
    assert installed.endswith("site-packages/awslambdaric/bootstrap.py")
    assert ours.endswith("caloric/compat/awslambdaric/bootstrap.py")


WITH_NAMES = """
    import os, signal
    import awslambdaric.bootstrap

    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(7))

    def handler(event, context):
        return event
"""


@OUR_WAYS
def test_signal_handlers_run_while_it_waits(way: str, write_function: WriteFunction) -> None:
    folder = write_function(WITH_NAMES)
    with ScriptedApi([event(1), ACCEPTED]) as api, start(way, "app.handler", folder, api.address) as process:
        api.wait_for(3)
        process.terminate()
        assert process.wait(20) == 7


@OUR_WAYS
def test_a_runtime_api_that_fails_ends_the_process_with_a_line(
    way: str, write_function: WriteFunction
) -> None:
    run = invoke_until_exit(way, write_function(WITH_NAMES), event(1), status(500))
    assert run.exit_status == 1
    assert run.stderr.startswith("caloric: ")
    assert run.stderr.count("\n") == 1
