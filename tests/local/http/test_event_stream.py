from __future__ import annotations

from typing import TYPE_CHECKING

from caloric.local.http import event_stream, model
from tests.local.http.server import serving

if TYPE_CHECKING:
    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

STREAM = model.load().shape("InvokeWithResponseStreamResponseEvent")


def test_messages_are_those_of_the_specification() -> None:
    # Spec lambda-service 1.7.
    assert event_stream.message(STREAM, {"PayloadChunk": {"Payload": b"Hello world "}}).hex() == (
        "000000760000005a980e72ec0b3a6576656e742d7479706507000c5061796c6f61644368756e6b0d3a636f6e74656e742d74797065"
        "0700186170706c69636174696f6e2f6f637465742d73747265616d0d3a6d6573736167652d747970650700056576656e74"
        "48656c6c6f20776f726c642033971fd8"
    )
    assert event_stream.message(STREAM, {"InvokeComplete": {}}).hex() == (
        "00000066000000541f56c8690b3a6576656e742d7479706507000e496e766f6b65436f6d706c6574650d3a636f6e74656e742d7479"
        "70650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b7d7006d467"
    )


def test_boto3_reads_a_stream_event_by_event() -> None:
    events = [
        {"PayloadChunk": {"Payload": b"\x00\xff"}},
        {"PayloadChunk": {"Payload": b""}},
        {"InvokeComplete": {"ErrorCode": "Unhandled", "LogResult": "bG9n"}},
    ]

    def stream(_service: LambdaService, _request: Members) -> Members:
        return {"StatusCode": 200, "ExecutedVersion": "$LATEST", "EventStream": events}

    with serving({"InvokeWithResponseStream": stream}) as server:
        answer = server.client().invoke_with_response_stream(FunctionName="orders", Payload=b"{}")
        assert answer["ExecutedVersion"] == "$LATEST"
        assert list(answer["EventStream"]) == events
