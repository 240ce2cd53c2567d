"""The worker processes of Lambda Managed Instances (spec runtime-api 6).

One environment serves several invocations at once there. As with awslambdaric each is served by a process of its own,
so that a handler written for one invocation at a time keeps its module globals, its environment variables and its
`_X_AMZN_TRACE_ID` to itself. An `async` handler is written for several at once: one worker serves all of them
(`caloric.tasks`), and so it does with threads (`caloric.threads`). The process that Lambda started forks the workers,
replaces those that end, passes signals on, and serves nothing itself. Imported only where `AWS_LAMBDA_MAX_CONCURRENCY`
is set.
"""

# The C modules: every worker would have what `signal` and `select` import.
import _signal  # type: ignore[import-not-found]
import posix
import select
import sys
from posix import environ
from time import monotonic

from caloric import runtime
from caloric._rust import concurrency, end_with_parent, prefork_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from caloric._rust import RuntimeClient

__all__ = ["in_workers", "serve"]

# A worker that ends is replaced so often within the window, later each time; one that outlived the window begins anew.
# More is no accident: without a bound, a fault that ends every worker would cost forks and imports for ever, and Lambda
# would never learn that the environment is unusable.
_RESTARTS = 3
_WINDOW_S = 60.0
_FIRST_DELAY_S = 0.1

_SIGCHLD, _SIGINT, _SIGTERM = 17, 2, 15
# What a worker writes into the pipe of signals when its handler is loaded, and has `on_shutdown` hooks: no signals have
# these numbers. The others are for a worker that serves all invocations.
_LOADED, _LOADED_WITH_HOOKS = 0, 255
_LOADED_FOR_ALL, _LOADED_FOR_ALL_WITH_HOOKS = 254, 253

# How this worker serves, and how many invocations at once are asked for.
_way = "process"
_count = 0


def in_workers(load: "Callable[[str], Any]") -> "Callable[[str], Any]":
    """Return a function that loads a handler as `load` does, in as many worker processes as Lambda asks for.

    It returns in the workers only, in each of them after the `on_init` hooks. The process that calls it becomes their
    supervisor: when the last worker has ended for good it ends too, by `SystemExit` or by the signal that ended them.
    One worker starts first: only when it has loaded the handler is it known whether there is to be another one. With
    `CALORIC_PREFORK_IMPORT=1` the handler is loaded before the workers are forked, and what `load` raises is raised
    once, here.

    Raises `SystemExit` at once: 1 when `AWS_LAMBDA_MAX_CONCURRENCY` is no number or `CALORIC_CONCURRENCY` none of its
    values, 0 when no worker is asked for.
    """
    global _count
    _count = count = _worker_count()
    asked = _concurrency()
    _announce(count)

    def load_in_worker(name: str) -> "Any":
        global _way
        supervisor = _Supervisor(count)
        if prefork_import():
            handler = load(name)
            _warn_of_threads()
            supervisor.become_worker()
        else:
            supervisor.become_worker()
            handler = load(name)
        lifecycle = sys.modules.get("caloric.lifecycle")
        shutdown_hooks = lifecycle is not None and lifecycle.begin()
        _way = _way_for(handler, asked)
        supervisor.tell_loaded(shutdown_hooks, for_all=_way != "process")
        return handler

    return load_in_worker


def serve(client: "RuntimeClient", handler: "Any") -> None:
    """Serve invocations until the process ends, where this worker serves all of them; else return."""
    if _way == "task":
        from caloric import tasks

        tasks.serve(client, handler, _count)
    if _way == "thread":
        from caloric import threads

        threads.serve(client, handler, _count)


def _worker_count() -> int:
    value = environ[b"AWS_LAMBDA_MAX_CONCURRENCY"].decode(errors="replace")
    try:
        count = int(value)
    except ValueError:
        _say(
            f"AWS_LAMBDA_MAX_CONCURRENCY is {value!r} and not a whole number: on Lambda Managed Instances it is the "
            "number of worker processes, anywhere else it must not be set"
        )
        raise SystemExit(1) from None
    if count < 1:
        raise SystemExit(0)
    return count


def _concurrency() -> str | None:
    try:
        return concurrency()
    except ValueError as error:
        _say(str(error))
        raise SystemExit(1) from None


def _way_for(handler: "Any", asked: str | None) -> str:
    """How to serve with `handler`, where `asked` is what `CALORIC_CONCURRENCY` says: "process", "task" or "thread"."""
    if asked == "process":
        return asked
    if runtime.looks_asynchronous(handler):
        way = "task"
    else:
        # Threads of an interpreter with a GIL would share one core.
        is_gil_enabled = getattr(sys, "_is_gil_enabled", None)
        way = asked or ("process" if is_gil_enabled is None or is_gil_enabled() else "thread")
    if way != "process" and runtime.HOOKABLE in sys.modules:
        # What it replaces is called for one invocation at a time.
        _say("a tool has patched the runtime, so that worker processes serve, and neither tasks nor threads")
        return "process"
    return way


def _announce(count: int) -> None:
    """Log the peer's record about its workers where the level asks for DEBUG, and be done with the log descriptor.

    The descriptor is for this process: workers write to standard output or to Lambda's socket, without frames.
    """
    descriptor, runtime.log_descriptor = runtime.log_descriptor, None
    if runtime.log_level.upper() in (b"DEBUG", b"TRACE"):
        from caloric.logs import log_once

        event = "runtime_worker_pool_initializing"
        record = {"event": event, "workerCount": count, "executionEnvironmentMaxConcurrency": count}
        log_once(record, descriptor)
    if descriptor is not None:
        posix.close(descriptor)


def _warn_of_threads() -> None:
    threads = len(posix.listdir("/proc/self/task")) - 1
    if threads:
        _say(
            f"CALORIC_PREFORK_IMPORT=1, and importing the handler has started threads ({threads}): they do not exist "
            "in the workers, which may wait for them for ever"
        )


class _Worker:
    """One of the workers, through all its restarts."""

    def __init__(self) -> None:
        self.pid = 0
        self.started = 0.0
        self.restarts = 0
        self.due: float | None = None
        """When it is to be started; None while it runs, and when it is not to be, or not yet."""

    def schedule(self) -> float | None:
        """Have it started again; return after how many seconds, or None if it has been too often."""
        now = monotonic()
        if now - self.started > _WINDOW_S:
            self.restarts = 0
        if self.restarts == _RESTARTS:
            return None
        delay: float = _FIRST_DELAY_S * 2**self.restarts
        self.restarts += 1
        self.due = now + delay
        return delay


class _Supervisor:
    """Starts the workers, and stays until they have ended."""

    def __init__(self, count: int) -> None:
        self._workers = [_Worker() for _ in range(count)]
        self._workers[0].due = 0.0
        self._any_loaded = False
        self._has_registered = False
        self._stopped_by = 0
        # Exit codes, negative for signals: of all workers since they were told to stop, else of the last one.
        self._codes: list[int] = []

    def become_worker(self) -> None:
        """Return in each worker when it has been started, and nowhere else."""
        self._watch_signals()
        while True:
            now = monotonic()
            for worker in self._workers:
                if worker.due is not None and worker.due <= now and self._fork(worker):
                    return
            self._wait()
            self._reap()
            if not any(worker.pid or worker.due is not None for worker in self._workers):
                self._end()

    # ---- in a worker -----------------------------------------------------------------------------------------------

    def tell_loaded(self, shutdown_hooks: bool, *, for_all: bool) -> None:
        """Tell the supervisor that this worker's handler is loaded, and whether it serves all invocations.

        With `shutdown_hooks` return when it has registered an extension, of which there is one for all workers: that is
        to happen before any of them asks for an invocation.
        """
        alone, with_siblings = (
            (_LOADED_FOR_ALL_WITH_HOOKS, _LOADED_WITH_HOOKS) if shutdown_hooks else (_LOADED_FOR_ALL, _LOADED)
        )
        posix.write(self._pipe[1], bytes([alone if for_all else with_siblings]))
        posix.close(self._pipe[1])
        if shutdown_hooks:
            # Nothing is ever written: it ends when the supervisor closes its end.
            posix.read(self._registered[0], 1)
        posix.close(self._registered[0])

    def _stop_watching_signals(self) -> None:
        _signal.set_wakeup_fd(self._original_wakeup)
        posix.close(self._pipe[0])
        if not self._has_registered:
            posix.close(self._registered[1])
        for number, action in self._original.items():
            if number == _SIGINT and action is _signal.default_int_handler:
                # Ctrl-C in a terminal reaches every process: as many tracebacks would say nothing.
                action = _signal.SIG_DFL
            # None is an action that was not set from Python, and cannot be.
            _signal.signal(number, _signal.SIG_DFL if action is None else action)

    # ---- in the supervisor -----------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        # Python's C handler writes each number into the pipe, whichever thread the signal meets: a module that is
        # imported before the fork may have started some.
        self._pipe = posix.pipe()
        for end in self._pipe:
            posix.set_blocking(end, False)
        self._registered = posix.pipe()
        self._original_wakeup = _signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        signals = (_SIGCHLD, _SIGINT, _SIGTERM)
        self._original = {number: _signal.signal(number, _do_nothing) for number in signals}

    def _fork(self, worker: _Worker) -> bool:
        """Start a worker. True in the new process."""
        parent = posix.getpid()
        # What comes before the new process has its own actions back would be told to the supervisor.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, self._original)
        try:
            pid = posix.fork()
            if pid == 0:
                end_with_parent(parent)
                self._stop_watching_signals()
        except OSError as error:
            worker.due = None
            worker.started = monotonic()
            if not any(other.pid for other in self._workers) or worker.schedule() is None:
                raise
            _say(f"a worker could not be started: {error.strerror}")
            return False
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        if pid == 0:
            _use_log_socket()
            return True
        worker.pid, worker.started, worker.due = pid, monotonic(), None
        return False

    def _wait(self) -> None:
        """Wait for a signal, or until a worker is due."""
        due = min((worker.due for worker in self._workers if worker.due is not None), default=None)
        poll = select.poll()
        poll.register(self._pipe[0], select.POLLIN)
        # Rounded up: a worker that is not quite due yet would be asked for again and again.
        poll.poll(None if due is None else max(0, (due - monotonic()) * 1000 + 1))
        self._read_pipe()

    def _read_pipe(self) -> None:
        try:
            numbers = posix.read(self._pipe[0], 4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (_SIGINT, _SIGTERM):
                self._stop(number)
            elif number in (_LOADED, _LOADED_WITH_HOOKS, _LOADED_FOR_ALL, _LOADED_FOR_ALL_WITH_HOOKS):
                if not self._any_loaded:
                    self._any_loaded = True
                    if number in (_LOADED, _LOADED_WITH_HOOKS) and not self._stopped_by:
                        self._start_the_others()
                if number in (_LOADED_WITH_HOOKS, _LOADED_FOR_ALL_WITH_HOOKS) and not self._has_registered:
                    self._register_extension()

    def _start_the_others(self) -> None:
        for worker in self._workers:
            if worker.pid or worker.due is not None:
                continue
            if worker.started:
                # It failed to load what another one could.
                worker.schedule()
            else:
                worker.due = 0.0

    def _register_extension(self) -> None:
        from caloric.shutdown import register_extension

        register_extension(runtime.client)  # type: ignore[arg-type]
        self._has_registered = True
        posix.close(self._registered[1])

    def _stop(self, number: int) -> None:
        """Pass the signal on. What ends from now on is not replaced."""
        if not self._stopped_by:
            self._codes.clear()
        self._stopped_by = number
        for worker in self._workers:
            worker.due = None
            if worker.pid:
                # Not reaped yet, so the pid is nobody else's.
                posix.kill(worker.pid, number)

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            try:
                pid, status = posix.waitpid(worker.pid, posix.WNOHANG)
            except ChildProcessError:
                # The module that was imported before the fork had SIGCHLD ignored.
                pid, status = worker.pid, 0
            if pid:
                worker.pid = 0
                self._ended(worker, pid, posix.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, pid: int, code: int) -> None:
        # What it has written into the pipe is there by now.
        self._read_pipe()
        if self._stopped_by:
            self._codes.append(code)
            return
        self._codes = [code]
        if not self._any_loaded:
            # It has reported its failure. Another one may fare better; an environment none of whose workers can load
            # the handler is over.
            for other in self._workers:
                if not other.started:
                    other.due = 0.0
                    break
            return
        delay = worker.schedule()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code}"
        if delay is None:
            _say(
                f"worker {pid} {how}, the {_RESTARTS + 1}th end within {_WINDOW_S:.0f} s: it is not replaced"
            )
        else:
            _say(f"worker {pid} {how}; another one starts in {delay * 1000:.0f} ms")

    def _end(self) -> "NoReturn":
        """End as the workers did: never with 0 unless they were told to stop, since an environment is lost."""
        if not self._stopped_by:
            code = self._codes[0]
            # A signal as shells write it.
            raise SystemExit(128 - code if code < 0 else code or 1)
        if self._codes and min(self._codes) >= 0:
            raise SystemExit(max(self._codes))
        _signal.signal(self._stopped_by, _signal.SIG_DFL)
        posix.kill(posix.getpid(), self._stopped_by)
        raise SystemExit(128 + self._stopped_by)


def _use_log_socket() -> None:
    """Send what this worker writes to Lambda's log socket, if there is one: one connection for each stream."""
    path = environ.get(b"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET")
    if not path:
        return
    import _socket

    try:
        for stream in (1, 2):
            connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            connection.connect(path)
            posix.dup2(connection.fileno(), stream)
            connection.close()
    except OSError as error:
        _say(f"the log goes to standard output, the log socket cannot be used: {error.strerror}")


def _do_nothing(_number: int, _frame: object) -> None:
    """Set for signals that the pipe tells of."""


def _say(message: str) -> None:
    sys.stderr.write(f"caloric: {message}\n")
