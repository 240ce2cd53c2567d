"""Several invocations at once as tasks on one event loop: Managed Instances with an `async` handler.

The Runtime API (spec runtime-api 6) is talked to in Rust, by a thread for each slot (`caloric._rust.InvocationSlots`),
so that the loop never waits for it. Imported only there.
"""

from __future__ import annotations

import asyncio
import sys
from _thread import start_new_thread
from itertools import count as count_from
from posix import getpid, kill
from signal import SIGTERM, set_wakeup_fd
from socket import socketpair
from time import sleep
from typing import TYPE_CHECKING, Any

from caloric import concurrency
from caloric.answers import streams, warn_of_result
from caloric.asynchronous import CancelledError, fresh_context
from caloric.context import LambdaContext, time
from caloric.error_report import log_aside, report_exception, report_fault
from caloric.errors import MarshalError, RuntimeApiError
from caloric.event_loop import the_loop
from caloric.responses import HttpResponse, encode_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from typing import NoReturn

    from caloric._rust import RuntimeClient, SlotInvocation
    from caloric.error_report import ErrorReport
    from caloric.streaming import ResponseStream

__all__ = ["has_missed_shutdown", "serve", "shut_down_on_loop"]

# An async iterator waits while more of its stream, in bytes, is on its way to the platform.
_ON_ITS_WAY = 64 * 1024
# How long answers that are on their way may take when the process ends, in seconds.
_LAST_ANSWERS_S = 1.0
# How long the task that runs when SIGTERM comes may keep the loop from running the `on_shutdown` hooks, in seconds.
_LOOP_IS_FREE_S = 0.1

_tasks: _Tasks | None = None


def serve(client: RuntimeClient, handler: Callable[[Any, Any], Any], count: int) -> NoReturn:
    """Serve up to `count` invocations at once until the process ends.

    Raises `RuntimeApiError` when the Runtime API is gone for all of them. What is no `Exception` (`SystemExit`) from a
    handler is raised when the other invocations are through, and from elsewhere on the loop at once.
    """
    global _tasks
    concurrency.begin(client)
    _tasks = _Tasks(client, handler, count)
    _tasks.run()


def shut_down_on_loop(leave: Callable[[], object]) -> bool:
    """Have the `on_shutdown` hooks run on the loop, where other tasks go on meanwhile, and `leave` called then. For the
    handler of SIGTERM, which comes again where a task does not give the loop back soon (`has_missed_shutdown`).

    False, and nothing is done, where no loop runs.
    """
    if _tasks is None or not _tasks.loop.is_running():
        return False
    _tasks.loop.call_soon_threadsafe(_tasks.shut_down, leave)
    # Not with `threading`, whose locks may be held by what the signal interrupted.
    start_new_thread(_come_again, ())
    return True


def has_missed_shutdown() -> bool:
    """Whether the loop has not got to it. It will not any more."""
    if _tasks is None or _tasks.shutting_down:
        return False
    _tasks.shutting_down = True
    return True


def _come_again() -> None:
    sleep(_LOOP_IS_FREE_S)
    if _tasks is not None and not _tasks.shutting_down:
        kill(getpid(), SIGTERM)


class _Tasks:
    """The tasks, and the slots that their invocations come from."""

    def __init__(self, client: RuntimeClient, handler: Callable[[Any, Any], Any], count: int) -> None:
        self.loop = the_loop()
        self._handler = handler
        self._slots = client.slots(count)
        self._slots_left = count
        self._running: dict[asyncio.Task[None], SlotInvocation] = {}
        # Who waits until what was said of an invocation has been heard.
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._numbers = count_from()
        self._ending: BaseException | None = None
        self._out_of_time = False
        self.shutting_down = False
        self._last_task: asyncio.Task[None] | None = None

    def run(self) -> NoReturn:
        self.loop.add_reader(self._slots.fileno(), self._take)
        self._let_signals_wake_the_loop()
        self._slots.start()
        try:
            # User code may stop the loop, which is nobody's end.
            while self._ending is None or (self._running and not self._out_of_time):
                self.loop.run_forever()
        finally:
            self._slots.flush(_LAST_ANSWERS_S)
        if self._out_of_time:
            # A thread of one that is stuck would be waited for.
            concurrency.leave(self._ending)
        raise self._ending

    def _let_signals_wake_the_loop(self) -> None:
        """Without this a signal that comes in the instant before the loop waits is noticed when something else happens.

        A loop with signal handlers of its own (`add_signal_handler`, uvloop) does it itself, and may undo this.
        """
        reader, writer = socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        self.loop.add_reader(reader, reader.recv, 4096)

    def _take(self) -> None:
        for happening in self._slots.take():
            if isinstance(happening, int):
                waiting = self._waiting.pop(happening)
                if not waiting.done():
                    waiting.set_result(None)
            elif isinstance(happening, str):
                self._slots_left -= 1
                _say(f"{happening}; {self._slots_left} invocations at once are still possible")
                if self._slots_left == 0:
                    self._end(RuntimeApiError(happening))
            else:
                fresh_context().run(self._begin, happening)

    def _begin(self, invocation: SlotInvocation) -> None:
        concurrency.ids.set((invocation.aws_request_id, invocation.tenant_id, invocation.trace_id))
        task = self.loop.create_task(self._serve(invocation))
        self._running[task] = invocation
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        invocation = self._running.pop(task)
        if task.cancelled():
            # Before it began, by user code that cancels whatever there is.
            report = report_exception(CancelledError("the handler was cancelled"), invocation.aws_request_id)
            invocation.post_error(report.body, report.error_type, report.xray_cause, then_next=True)
        else:
            error = task.exception()
            if error is not None:
                self._end(error)
        if self._ending is not None and not self._running:
            self.loop.stop()

    def _end(self, error: BaseException) -> None:
        """Take no more invocations, and raise `error` when those that run are through, or their time is up."""
        if self._ending is not None:
            return
        self._ending = error
        self._slots.stop()
        ended_by = asyncio.current_task()
        others = (invocation for task, invocation in self._running.items() if task is not ended_by)
        deadlines_ms = [invocation.deadline_ms for invocation in others]
        if deadlines_ms:
            self.loop.call_later(max(0.0, max(deadlines_ms) / 1000 - time()), self._give_up)
        elif not self._running:
            self.loop.stop()

    def _give_up(self) -> None:
        self._out_of_time = True
        self.loop.stop()

    # ---- one invocation --------------------------------------------------------------------------------------------

    async def _serve(self, invocation: SlotInvocation) -> None:
        try:
            await self._answer(invocation)
        except asyncio.CancelledError:
            # By user code that cancels whatever there is. The answer is on its way.
            pass
        except BaseException as error:
            # Of what is done after the response, or our own. Not for the loop, which would leave the others where they
            # are.
            self._end(error)
        finally:
            invocation.next()
        shutdown = sys.modules.get("caloric.shutdown")
        if shutdown is not None:
            # User code may have set another handler for SIGTERM.
            shutdown.watch_again()

    async def _answer(self, invocation: SlotInvocation) -> None:
        """Call the handler and answer the invocation, and do what the handler wants to be done after that."""
        request_id = invocation.aws_request_id
        context: LambdaContext | None = None
        event: Any = None
        result: Any = None
        error: BaseException | None = None
        report: ErrorReport | None = None
        stream: ResponseStream | None = None
        has_event = False
        body, content_type = b"", "application/json"
        try:
            context, event, fault = invocation.arguments(LambdaContext)
            if context is not None:
                concurrency.note_context(context, invocation)
            has_event = fault is None
            if fault is not None:
                error = fault[2]
                report = report_fault(*fault[:2], request_id)
            else:
                result = await self._call(event, context)
                stream = getattr(context, "_stream", None)
                if stream is not None:
                    if result is not None:
                        warn_of_result(request_id)
                elif streams(result):
                    from caloric.streaming import ResponseStream

                    response = result if isinstance(result, HttpResponse) else None
                    stream = ResponseStream(
                        invocation, request_id, invocation.invocation_id, response=response
                    )
                    await self._send(stream, result if response is None else response.body, invocation)
                elif isinstance(result, bytes):
                    body, content_type = result, "application/unknown"
                else:
                    body = encode_result(result.payload() if isinstance(result, HttpResponse) else result)
        except MarshalError as failure:
            error, report = failure, report_fault("Runtime.MarshalError", str(failure), request_id)
        except Exception as failure:
            error, report = failure, report_exception(failure, request_id)
        except asyncio.CancelledError:
            error = CancelledError("the handler was cancelled")
            report = report_exception(error, request_id)
        except BaseException as failure:
            # Not for the loop, which would leave the other tasks where they are.
            self._end(failure)
            message = f"the handler has ended its process: {failure!r}"
            report = report_fault("Runtime.ExitError", message, request_id)
            has_event = False
        stream = stream or getattr(context, "_stream", None)
        if has_event:
            ending = await _after_invoke(
                event, context, None if error is not None else result, error, request_id
            )
            if ending is not None:
                self._end(ending)
        # A large result must not stay in memory while something is done after it.
        del event, result, error
        then_next = not getattr(context, "_after_response", None)
        if stream is not None and (report is None or stream.begun):
            stream.end(report)
        elif report is not None:
            invocation.post_error(report.body, report.error_type, report.xray_cause, then_next=then_next)
        else:
            invocation.post_response(body, content_type, then_next=then_next)
        del body
        if not then_next and context is not None and self._ending is None:
            await self._heard(invocation)
            await _work_after(context)

    async def _call(self, event: Any, context: LambdaContext | None) -> Any:
        lifecycle = sys.modules.get("caloric.lifecycle")
        if lifecycle is not None:
            for hook in lifecycle._before_invoke:
                await _settled(hook(event, context))
        return await _settled(self._handler(event, context))

    async def _send(self, stream: ResponseStream, items: Any, invocation: SlotInvocation) -> None:
        """Send what `items` yields. Raises what it raises, and `caloric.MarshalError`."""
        from caloric.streaming import send_async_items

        if not hasattr(type(items), "__aiter__"):
            items = _one_by_one(items)

        async def room() -> None:
            if invocation.on_its_way > _ON_ITS_WAY:
                await self._heard(invocation)

        await send_async_items(stream, items, room)

    async def _heard(self, invocation: SlotInvocation) -> None:
        """Wait until the platform has heard what was said of an invocation so far."""
        number = next(self._numbers)
        waiting = self._waiting[number] = self.loop.create_future()
        invocation.tell(number)
        await waiting

    # ---- the end of the environment --------------------------------------------------------------------------------

    def shut_down(self, leave: Callable[[], object]) -> None:
        if not self.shutting_down:
            self.shutting_down = True
            self._slots.stop()
            self._last_task = self.loop.create_task(_shut_down(leave))


async def _shut_down(leave: Callable[[], object]) -> None:
    from caloric import lifecycle

    try:
        while lifecycle._on_shutdown:
            try:
                await _settled(lifecycle._on_shutdown.pop()())
            except BaseException as error:
                lifecycle.log(error, "")
    finally:
        leave()


async def _after_invoke(
    event: Any, context: Any, result: Any, error: BaseException | None, request_id: str
) -> BaseException | None:
    """Run the `after_invoke` hooks. Returns what is to end the process, if anything."""
    lifecycle = sys.modules.get("caloric.lifecycle")
    if lifecycle is None:
        return None
    for hook in reversed(lifecycle._after_invoke):
        try:
            await _settled(hook(event, context, result, error))
        except (SystemExit, KeyboardInterrupt) as ending:
            return ending
        except BaseException as failure:
            lifecycle.log(failure, request_id)
    return None


async def _work_after(context: LambdaContext) -> None:
    """Do what the handler wants to be done after its response, and what is added meanwhile."""
    work = context.__dict__["_after_response"]
    while work:
        function, args, kwargs = work.pop(0)
        try:
            await _settled(function(*args, **kwargs))
        except Exception as error:
            log_aside(error, context.aws_request_id)


async def _settled(outcome: Any) -> Any:
    """What there is when `outcome` has been waited for, where it is something to await."""
    return await outcome if hasattr(type(outcome), "__await__") else outcome


async def _one_by_one(items: Iterable[Any]) -> AsyncIterator[Any]:
    """What a plain iterator yields, with a turn for the other tasks after each item."""
    iterator = iter(items)
    try:
        for item in iterator:
            yield item
            await asyncio.sleep(0)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _say(message: str) -> None:
    sys.stderr.write(f"caloric: {message}\n")
