"""`caloric._rust.InvocationSlots`: connections that threads talk on, for an event loop (spec runtime-api 6)."""

from __future__ import annotations

import contextlib
import select
import threading
from typing import TYPE_CHECKING, Any

from caloric._rust import InvocationSlots, RuntimeClient, SlotInvocation
from caloric.context import LambdaContext
from tests.scripted_api import ACCEPTED, HANG, ScriptedApi, event, status

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20.0


@contextlib.contextmanager
def slots_of(api: ScriptedApi, count: int = 1) -> Iterator[InvocationSlots]:
    slots = RuntimeClient(api.address, "test").slots(count=count)
    slots.start()
    try:
        yield slots
    finally:
        slots.stop()


def happened(slots: InvocationSlots) -> list[SlotInvocation | int | str]:
    """Wait until something has happened."""
    assert select.select([slots], [], [], PATIENCE)[0], "nothing happened"
    return slots.take()


def came(slots: InvocationSlots) -> SlotInvocation:
    (invocation,) = happened(slots)
    assert isinstance(invocation, SlotInvocation)
    return invocation


def test_an_invocation_is_answered_and_another_one_asked_for_in_one_write() -> None:
    with ScriptedApi([event({"n": 1}, "a"), ACCEPTED, event({"n": 2}, "b"), ACCEPTED, HANG]) as api:
        with slots_of(api) as slots:
            invocation = came(slots)
            assert (invocation.aws_request_id, invocation.tenant_id) == ("a", None)
            context, given, fault = invocation.arguments(context_class=LambdaContext)
            assert isinstance(context, LambdaContext)
            assert (context.aws_request_id, given, fault) == ("a", {"n": 1}, None)
            invocation.post_response(body=b"1", content_type="application/json", then_next=True)
            # It is over: nothing is said about the next one.
            invocation.post_error(body=b"{}", error_type="late", xray_cause="", then_next=True)
            invocation.next()
            assert not invocation.send_chunk(chunk=b"late")
            second = came(slots)
            assert second.arguments(LambdaContext)[1] == {"n": 2}
            second.post_error(body=b"{}", error_type="E", xray_cause="", then_next=False)
            second.tell(number=7)
            assert happened(slots) == [7]
            second.next()
            api.wait_for(5)
        assert api.calls() == ["next", "response", "next", "error", "next"]


def test_nothing_to_take_is_nothing() -> None:
    with ScriptedApi([HANG]) as api, slots_of(api) as slots:
        api.wait_for(1)
        assert not select.select([slots], [], [], 0)[0]
        assert slots.take() == []


def test_a_stream_is_sent_by_the_slot_and_waited_for_by_other_threads_only() -> None:
    piece = b"x" * 100_000
    accept = threading.Event()
    with ScriptedApi([event({}, "a"), (accept, ACCEPTED), HANG]) as api, slots_of(api) as slots:
        invocation = came(slots)
        invocation.arguments(LambdaContext)
        invocation.begin_stream(request_id="a", content_type="text/plain", invocation_id=None)
        assert invocation.send_chunk(chunk=piece)
        sent: list[Any] = []
        thread = threading.Thread(target=lambda: sent.append(invocation.send_chunk(piece)))
        thread.start()
        thread.join(PATIENCE)
        assert sent == [True]
        invocation.end_stream(error_type=None, document="")
        accept.set()
        invocation.tell(1)
        assert happened(slots) == [1]
        assert invocation.on_its_way == 0
        invocation.next()
        answer = api.wait_for(3)[1]
        assert answer.body == piece * 2


def test_a_stop_takes_back_what_was_asked_for() -> None:
    with ScriptedApi([HANG, HANG]) as api:
        with slots_of(api, 2) as slots:
            api.wait_for(2)
            slots.stop()
            slots.flush(timeout_s=PATIENCE)
            assert slots.take() == []
        assert api.calls() == ["next", "next"]


def test_a_slot_that_gives_up_says_why() -> None:
    with ScriptedApi([status(500, "InternalServerError")] * 5) as api, slots_of(api) as slots:
        (reason,) = happened(slots)
        assert isinstance(reason, str)
        assert "500" in reason
