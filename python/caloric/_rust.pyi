"""What Rust exports to Python."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, final

from typing_extensions import Self

from caloric.context import LambdaContext

__version__: str

# ---- endpoint ------------------------------------------------------------------------------------------------------
# Present only where the crate is built with its feature `endpoint`, which is the default and which the layer's wheel
# leaves out.

@final
class ExecutionEnvironment:
    """The server side of one execution environment: the Runtime API on a port of its own, and its life cycle.

    It does not know what to start. Somebody waits with `wait_for_start` and calls `start_process`;
    `caloric.local.process.supervise` does that. The environment then watches the process, kills it when a time limit
    passes, and asks for a new one when the next invocation needs it. Invocations are run one at a time, in the order
    in which they were given. All environments of a process are served by one thread.

    With `max_concurrency` it is an environment of Lambda Managed Instances (spec runtime-api 6.5): it wants its process
    at once, the runtime's workers may hold up to so many `/next` open, and their answers come in any order. An
    invocation ends with its answer. A time limit ends it for its caller and leaves the code running; the end of the
    main process fails everything that runs. What finds no free worker waits, where AWS routes it elsewhere.

    The rules are those of the platform (spec runtime-api 1 and 7): an invocation ends when the runtime has answered
    *and* polled `/next` again, and its time limit covers both.

    An init that fails, or takes longer than `init_timeout_ms`, is no invocation's error: the whole init is run again
    within the first invocation, under its time limit. So is the init after a timeout or a crash. What fails then is the
    invocation (spec extensions-telemetry 3.1 and 3.3). With `snap_start` or `max_concurrency` nothing is run again.

    With `snap_start` the runtime may ask for `/restore/next` when it is initialised, which is where Lambda takes a
    snapshot. There is one process here and no snapshot: it waits until the first invocation comes, is told that it was
    restored, and is served when it has run its hooks and polls `/next` (spec runtime-api 1.8 and 5.2).

    Arguments: `timeout_ms` is the function's time limit, `init_timeout_ms` that of the Init phase (10 s, with
    `snap_start` and `max_concurrency` at least 130 s), `restore_timeout_ms` that of a restore with its hooks;
    `memory_size_mb` its memory: processes that use more are killed, and the invocation fails with `Runtime.OutOfMemory`
    (with `max_concurrency` it is only reported); `port` 0 takes a free one; `log_fd` is a descriptor to which the
    function's output (see `open_log_pipe`) and the platform's START, END and REPORT lines are written, -1 for nowhere.
    It is written to from the endpoint's thread, so a pipe must be read by somebody who does not wait for this
    environment meanwhile. With `whole_lines` the descriptor gets whole lines only, because others write to it, too.
    `keep_log` keeps the whole log of each invocation for its result. `freeze` stops the process and all it started
    while there is nothing to do, from 5 ms after it asked for the next invocation until there is one (spec
    extensions-telemetry 3.5); with `max_concurrency` nothing is ever stopped. `freezer` is what stops them:
    `cgroup-v2`, `cgroup-v1`, `signals`, or `auto`, the first of these that can be used; by default what the variable
    `CALORIC_FREEZER` says, and else `auto`. `extensions` are the names of external extensions: they are started and
    registered before the runtime (see `caloric.local.extensions`); None switches extensions off, internal ones too.
    `handler` is what extensions are told; `json_logs` says that the function's log format is JSON, which telemetry
    shows. `clock` is what the environment's time limits go by, and the durations in its reports. `record_telemetry`
    keeps what happens for `take_telemetry`.

    Without `limits` the time limits and the memory are only what the function is told, so that a debugger can be used.
    `by_hand` says that somebody else starts the runtime: none is asked for, invocations wait until there is one, and it
    may come and go. It is gone when its last connection is closed; a runtime that asks for an event then is a new one,
    and an invocation that was not answered has failed with `Runtime.ExitError`.

    Raises `OSError` if the address cannot be listened on; the message names it. `ValueError` for a `max_concurrency`
    of 0, for both `max_concurrency` and `snap_start` or `by_hand`, for extensions and `by_hand`, for more
    extensions than a function can have or two of one name, and for a `freezer` that is not known or cannot be used
    here.
    """

    def __new__(
        cls,
        *,
        function_name: str = "test_function",
        function_version: str = "$LATEST",
        region: str = "us-east-1",
        account_id: str = "012345678912",
        memory_size_mb: int = 128,
        timeout_ms: int = 3000,
        init_timeout_ms: int | None = None,
        snap_start: bool = False,
        restore_timeout_ms: int = 10_000,
        max_concurrency: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        log_fd: int = -1,
        whole_lines: bool = False,
        keep_log: bool = False,
        freeze: bool = True,
        freezer: str | None = None,
        limits: bool = True,
        by_hand: bool = False,
        handler: str = "",
        json_logs: bool = False,
        extensions: Sequence[str] | None = [],
        clock: VirtualClock | None = None,
        record_telemetry: bool = False,
    ) -> Self: ...
    @property
    def address(self) -> str:
        """`host:port` of the Runtime API: the value of `AWS_LAMBDA_RUNTIME_API`."""

    @property
    def freezer(self) -> str:
        """What stops the processes between invocations: `cgroup-v2`, `cgroup-v1`, `signals`, or `off`."""

    @property
    def function_arn(self) -> str:
        """The function's ARN, unqualified."""

    @property
    def function_name(self) -> str:
        """The function's name."""

    @property
    def function_version(self) -> str:
        """`$LATEST` or a number."""

    @property
    def region(self) -> str:
        """The region in the function's ARN."""

    @property
    def memory_size_mb(self) -> int:
        """The configured memory, in MB."""

    @property
    def snap_start(self) -> bool:
        """Whether the runtime can be restored as from a snapshot."""

    @property
    def max_concurrency(self) -> int | None:
        """How many invocations run at the same time; None for an on-demand environment, which runs one."""

    @property
    def closed(self) -> bool:
        """Whether the environment was closed."""

    @property
    def clock(self) -> VirtualClock | None:
        """The virtual clock it was made with."""

    @property
    def clock_file(self) -> str | None:
        """The file in which its processes find how many nanoseconds its virtual clock was put forward: the value of
        CALORIC_CLOCK, for Caloric's own runtime. None without a virtual clock.

        It is made when it is first asked for; from then on the runtime is sent its deadlines in the clock's time, too.
        Raises `OSError` if it cannot be made and `RuntimeError` if the environment is closed.
        """

    def wait_for_start(self, timeout_s: float | None = None) -> bool:
        """Wait until a runtime process is wanted, without holding the GIL.

        `True` hands the request over: report with `start_process` or `start_failed`. `False` means that the time
        has passed or the environment is closed (`closed` tells which).
        """

    def start_process(
        self,
        program: str,
        arguments: Sequence[str],
        variables: dict[str, str],
        *,
        cwd: str | None = None,
        stdin: int | None = None,
        output_fd: int | None = None,
        own_process_group: bool = True,
    ) -> int:
        """Start the environment's runtime and return its pid.

        `program` is the file to execute, `arguments` its arguments, the first of which is its name, and `variables`
        its whole environment. `stdin` is a descriptor, by default `/dev/null`; `output_fd` that of stdout and stderr,
        by default this process's own. With `own_process_group` the process leads a group of its own.

        Between the two processes is a small third one, the reaper. All that the program starts, however it detaches
        itself, is killed when the program ends, when the environment kills it, and when this process ends, be it by
        SIGKILL; in that last case `temporary_folder` is removed too.

        Raises `OSError` if the program cannot be started, and `RuntimeError` if the environment is closed or has a
        running process; nothing is left of it then.
        """

    def wait_for_extension_launch(self) -> str | None:
        """Wait until an external extension is to be launched, and return its name; `None` when the environment closes.

        All of them are launched at the beginning of an init, before any has registered. A name hands the request over:
        call `start_extension`, and `extension_start_failed` if that raises `OSError`.
        """

    def start_extension(
        self,
        name: str,
        program: str,
        arguments: Sequence[str],
        variables: dict[str, str],
        *,
        cwd: str | None = None,
    ) -> None:
        """Start the extension called `name`, in a process group of its own. Its output is its log.

        The environment ends it (spec extensions-telemetry 3.4); like the runtime it outlives neither the environment
        nor this process.

        Raises `OSError` if it cannot be started, and `RuntimeError` if it is not wanted any more.
        """

    def extension_start_failed(self, name: str, message: str, *, permission_denied: bool = False) -> None:
        """Say that the extension called `name` cannot be started: init fails with `Extension.LaunchError`."""

    def start_failed(self, message: str) -> None:
        """Say that the wanted process cannot be started: the invocation fails with `Runtime.InvalidEntrypoint`."""

    def invoke(
        self,
        event: bytes,
        *,
        content_type: str = "application/json",
        request_id: str | None = None,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
        timeout_ms: int | None = None,
    ) -> InvokeResult:
        """Run one invocation and return it when it is finished: the runtime polled again, or its process ended.

        `client_context` and `cognito_identity` are JSON texts; `request_id` and `trace_id` are made up unless given;
        `timeout_ms` overrides the environment's. The event's bytes are handed on unread. A function that fails is a
        result, not an exception. The GIL is released meanwhile, and a signal handler that raises ends the wait within
        50 ms; the invocation itself goes on then.

        Raises `RuntimeError` if the environment is closed and `ValueError` for a value that cannot be sent.
        """

    def submit(
        self,
        event: bytes,
        callback: Callable[[InvokeResult], object],
        *,
        content_type: str = "application/json",
        request_id: str | None = None,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        """Queue one invocation and call `callback` with it when it is finished.

        The call is made on the endpoint's thread, or on the thread whose call ended the invocation (`close`,
        `start_failed`); all environments wait for it, so it must be short. What it raises goes to
        `sys.unraisablehook`. Arguments and exceptions are those of `invoke`.
        """

    def invoke_with_response_stream(
        self,
        event: bytes,
        *,
        content_type: str = "application/json",
        request_id: str | None = None,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
        timeout_ms: int | None = None,
        callback: Callable[[InvokeResult], object] | None = None,
    ) -> InvokeStream:
        """Queue one invocation and return its response, to be read while it is made.

        Arguments and exceptions are those of `invoke`. `callback` is called as with `submit` when it is finished,
        whether somebody reads or not.
        """

    def measure_cycles(self, event: bytes, count: int) -> list[int]:
        """Queue `count` invocations at once and return the times between consecutive deliveries, in nanoseconds.

        For benchmarks: no log lines are written and no memory is looked at on the way. The first delivery may
        include a cold start and ends no interval, so the list has `count` - 1 items.

        Raises `RuntimeError` with the error document if an invocation fails.
        """

    def wait_until_handed_out(self, count: int = 1, *, timeout_s: float | None = None) -> bool:
        """Wait until the runtime has at least `count` invocations that it has not answered: their time limits run, and
        a virtual clock that is advanced now is advanced while they run. Without holding the GIL.

        `False` means that the time has passed, by the machine's clock, or the environment is closed.
        """

    def open_log_pipe(self) -> int:
        """Return a descriptor for the function's stdout and stderr: the write end of a pipe that the endpoint reads.

        What comes through it is forwarded to `log_fd` unchanged and kept for the log tail. The descriptor is
        close-on-exec and the caller's to close; whoever starts the process duplicates it to 1 and 2.
        """

    @property
    def temporary_folder(self) -> str:
        """The environment's own folder for temporary files, as `/tmp` is on AWS.

        It is made when this is first read, in the folder that this process uses for the like. A new process after a
        timeout or a crash finds what the last one left there; `close` removes it.

        Raises `OSError` if it cannot be made and `RuntimeError` if the environment is closed.
        """

    @property
    def layers_folder(self) -> str:
        """The folder in which the environment's layers are unpacked, in place of `/opt`; otherwise as the above."""

    def pause_timeout(self) -> None:
        """Suspend the time limit of the current invocation, or of the init under way, until it ends.

        For debuggers. A runtime reaches it as `POST /_caloric/debugger` on its own port.
        """

    def take_telemetry(self) -> list[str]:
        """Return what happened since the last call, one JSON document each; with `record_telemetry`, otherwise nothing.

        They are the events of the Telemetry API in its newest schema, whether or not anybody subscribed, and two types
        of our own: `caloric.extensionEvent`, whose record has the `name` of an extension and the `event` it was handed,
        and `caloric.shutdown`, whose record has the `reason`. The last 100 000 are kept. With `max_concurrency` there
        are none.
        """

    def process_ids(self) -> list[int]:
        """Return the pids of the runtime, of the extensions, and of all they have started. Ours are not among them."""

    def close(self, *, reason: str = "spindown") -> None:
        """Kill the process, fail the invocations that wait, stop listening. Idempotent.

        The process gets SIGKILL without a warning, as in Lambda where no extension is registered (spec runtime-api
        7.6). Extensions are told `reason`, which is `spindown`, `timeout` or `failure`. Returns when all are reaped.

        Raises `ValueError` for another reason.
        """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_args: object) -> None: ...

@final
class VirtualClock:
    """A clock for tests of time limits, for one environment or several (the argument `clock` of
    `ExecutionEnvironment`).

    It goes as the machine's clock does and can be put forward at one stroke, so that nobody has to wait for a time
    limit, and nothing can hang on a clock that stands still. By it go

    - the time limits of init, invocation and restore, and the graces of the Shutdown phase;
    - durations in results, in REPORT and the like, and the times of telemetry's events;
    - `get_remaining_time_in_millis` of Caloric's own runtime, if its variables are those of
      `caloric.local.process.function_environment`.

    The machine's clock stays what it was: for `time.time()` in the function, `Lambda-Runtime-Deadline-Ms` and with it
    every other runtime, the deadlines in extensions' events, and timers of the function's own. So it does for what the
    environment does with real processes: freezing, looking at their memory, waiting for the end of a killed one,
    sending telemetry.
    """

    def __new__(cls) -> Self: ...
    def advance(self, seconds: float) -> None:
        """Put the clock forward. Time limits that have run out by then have taken effect when this returns: the
        invocations have failed and their processes have been told to end, or were killed.

        It is one jump: what follows from a time limit, such as the grace that extensions have or a new init, has its
        own time from then on. Who waits for an invocation with a callback may be called on this thread.

        Raises `ValueError` for a time that is negative or no number, and when the clock would be a hundred years
        ahead; `OSError` if an environment's process cannot be told.
        """

    @property
    def advanced(self) -> float:
        """By how many seconds it was put forward in all."""

    @property
    def elapsed(self) -> float:
        """Seconds since it was made, as it shows them: real ones, and those it was put forward."""

@final
class InvokeResult:
    """A finished invocation."""

    @property
    def request_id(self) -> str:
        """The invocation's id."""

    @property
    def payload(self) -> bytes:
        """What the caller gets: the bytes the runtime posted, or the platform's error document."""

    @property
    def content_type(self) -> str:
        """The type the runtime gave, or `application/json`."""

    @property
    def function_error(self) -> str | None:
        """`"Unhandled"` if `payload` is an error document: the value of `X-Amz-Function-Error`."""

    @property
    def error_type(self) -> str | None:
        """`errorType` of the error document, or what the platform logs where there is none."""

    @property
    def status(self) -> str:
        """`"success"`, `"error"` or `"timeout"`.

        Not always what `payload` says: a runtime may time out or die after a good answer, which its caller keeps.
        """

    @property
    def executed_version(self) -> str:
        """The function version that ran."""

    @property
    def service_error(self) -> tuple[int, str, str] | None:
        """Why the invocation was never run: status, name and message of an error of the service.

        Only where a `FunctionPool` had no environment made for it (`WantedEnvironment.give_up`), or was closed.
        """

    @property
    def log_tail(self) -> bytes:
        """The last 4096 bytes of the invocation's log, platform lines and, on a cold start, init included."""

    @property
    def log(self) -> bytes:
        """The whole log of the invocation where the environment has `keep_log`, else empty."""

    @property
    def extension_log(self) -> bytes:
        """What external extensions printed meanwhile, `[name]` before each line; empty without `keep_log`."""

    @property
    def init_duration_ms(self) -> float | None:
        """Init Duration: from the request for a process to its first `/next`, or `/restore/next`.

        First invocation after an Init phase only. An init within the invocation is part of `duration_ms` instead.
        """

    @property
    def restore_duration_ms(self) -> float | None:
        """Restore Duration: from the restore to the first `/next`. With SnapStart, first invocation only."""

    @property
    def duration_ms(self) -> float:
        """From the delivery of the event until the runtime polled again, timed out or ended.

        Where init was run within the invocation, from its beginning.
        """

    @property
    def billed_duration_ms(self) -> int:
        """Init and duration together, rounded up (spec extensions-telemetry 3.7).

        With SnapStart it is restore and duration, each rounded up; the init belongs to the snapshot.
        """

    @property
    def response_latency_ms(self) -> float:
        """From the delivery of the event until the answer was posted."""

    @property
    def max_memory_used_mb(self) -> int:
        """The most that the process and all it started have used together so far, in MB (docs/configuration.md)."""

    @property
    def phases(self) -> dict[str, float]:
        """Milliseconds of each part that took place.

        `queued_ms` (behind other invocations), `failed_init_ms` (waiting for an Init phase that failed, until nothing
        of its processes was left), `process_start_ms` (from the request for a process until its pid was told),
        `runtime_init_ms` (until its first `/next` or `/restore/next`, or until an init within the invocation failed),
        `restore_ms` (from the restore until the first `/next`), `response_ms` (from the event's delivery until the
        answer was posted), `after_response_ms` (until the runtime polled again), `extensions_ms` (until the extensions
        that work on the invocation polled again). `duration_ms` contains the last three, and process start and runtime
        init where `init_duration_ms` is None.
        """

@final
class EnvironmentPool:
    """Several execution environments of one function, each of which runs one invocation at a time.

    An invocation is run by the free environment that was used last. Where none is free another one is wanted, as long
    as there are fewer than `limit`; then invocations wait, in the order in which they came. The environments are kept
    until the pool is closed, or until they are replaced. What one of them suffers (a crash, a time limit, a slow init)
    concerns the invocation that it runs, and no other.

    `first` is there from the beginning; whoever makes the others asks `wait_until_wanted`. One on Managed Instances
    stays alone. From now on the pool closes them.
    """

    def __new__(cls, first: ExecutionEnvironment, *, limit: int) -> Self: ...
    def wait_until_wanted(self) -> int | None:
        """Wait until another environment is wanted, and return the generation that wants it.

        None when the pool is closed. The generation says how often the environments were replaced. Who gets one makes
        an environment like the first of that generation, and calls `add`, or `give_up`. For a thread of its own:
        signals are not looked after.
        """

    def add(self, environment: ExecutionEnvironment, *, generation: int) -> bool:
        """Take in an environment that `generation` wanted.

        `False` if that was replaced meanwhile. Raises `RuntimeError` if the pool is closed. In both cases the
        environment is the caller's to close.
        """

    def give_up(self, *, generation: int) -> None:
        """Say that the environment that `generation` wanted cannot be made: it will want no other.

        Those that are there must do, until they are replaced.
        """

    def replace(self, environment: ExecutionEnvironment) -> None:
        """Have what waits, and what comes, run by `environment` and by others like it, which will be wanted.

        For a function whose code or configuration has changed. The environments that were there end as soon as they
        have finished what they run, with the Shutdown phase; those that are idle or in their Init phase end now. No
        invocation is lost, and nothing is waited for here.

        Raises `RuntimeError` if the pool is closed; the environment is the caller's to close then.
        """

    def submit(
        self,
        event: bytes,
        callback: Callable[[InvokeResult], object],
        *,
        content_type: str = "application/json",
        request_id: str | None = None,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        """Run one invocation and call `callback` when it is finished: see `ExecutionEnvironment.submit`."""

    def __len__(self) -> int:
        """How many environments there are, without those that were replaced."""

    def close(self) -> None:
        """Close all environments at the same time: see `ExecutionEnvironment.close`. Idempotent."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_args: object) -> None: ...

@final
class InvokeStream:
    """The response of an invocation, piece by piece: an iterator over bytes.

    A function whose response is not streamed gives no piece: `result()` has it. Whoever stops reading slows the
    function down; one that is given up altogether (no reference is left) runs on, and the rest of its response is lost.
    """

    @property
    def content_type(self) -> str | None:
        """The type that the runtime declared: None before the first piece, and where the response is not streamed."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> bytes:
        """Wait for the next piece. The GIL is released; a signal handler that raises ends the wait."""

    def result(self) -> InvokeResult:
        """Skip what has not been read and return the finished invocation.

        Its `payload` is empty where the response was streamed; where a stream ended with an error, its document.
        """

@final
class HttpFront:
    """The invoke path of the Lambda service on a port: `POST /2015-03-31/functions/{name}/invocations`.

    Any name reaches the one function of the environment, or of the pool. boto3 and curl can use it: invocation types,
    log tail, client context, trace and tenant ids are understood, function errors are marked as the service marks them
    (spec lambda-service 1). Invocations are run one at a time in the order of their arrival, or as many at once as
    there are environments in the pool, or as the environment has `max_concurrency`; the others wait.

    With `invoke_mode` it is a function URL instead, and every path is the function's: a request becomes an event of
    payload format 2.0, the result an HTTP response (spec lambda-service 4.3 to 4.7). `BUFFERED` waits for the whole
    result, `RESPONSE_STREAM` sends it while it comes.

    Raises `OSError` if the address cannot be listened on; the message names it. `ValueError` for another mode.
    """

    def __new__(
        cls,
        environment: ExecutionEnvironment | EnvironmentPool,
        *,
        host: str = "0.0.0.0",
        port: int = 8080,
        invoke_mode: str | None = None,
    ) -> Self: ...
    @property
    def address(self) -> str:
        """`host:port` it listens on."""

    def close(self) -> None:
        """Stop listening and drop every connection. Idempotent. The environment stays as it is."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_args: object) -> None: ...

@final
class EnvironmentSupply:
    """What pools ask for: one queue of wanted environments for any number of `FunctionPool`s.

    One thread, or several, call `next_wanted` in a loop and make what is wanted.
    """

    def __new__(cls) -> Self: ...
    def next_wanted(self, timeout_s: float | None = None) -> WantedEnvironment | None:
        """Wait, without holding the GIL, until a pool wants another environment, and take the request.

        `None` when the time has passed or the supply is closed (`closed` tells which). Signals are looked after only in
        the main thread.
        """

    @property
    def closed(self) -> bool:
        """Whether the supply was closed."""

    def close(self) -> None:
        """Let `next_wanted` return `None` from now on, everywhere. Idempotent. The pools stay as they are."""

@final
class WantedEnvironment:
    """A pool's request for one environment. It is answered once, with `add` or `give_up`; one that is forgotten (no
    reference is left) is given up.
    """

    @property
    def subject(self) -> Any:
        """What the pool was made with as `subject`."""

    @property
    def function_name(self) -> str:
        """The pool's function."""

    @property
    def function_version(self) -> str:
        """The pool's version."""

    @property
    def tenant_id(self) -> str | None:
        """The tenant it is for; None where the function has no tenant isolation."""

    @property
    def ahead(self) -> bool:
        """Whether it is made ahead of invocations: for provisioned concurrency, or to keep the minimum."""

    @property
    def provisioned(self) -> bool:
        """Whether it is made for provisioned concurrency."""

    @property
    def still_wanted(self) -> bool:
        """Whether the pool can still use it. Another one may have become free meanwhile; then nothing need be made,
        and the request can be given up.
        """

    def add(self, environment: ExecutionEnvironment) -> None:
        """Hand over the environment, at once: its Init phase may be ahead of it. From now on the pool closes it.

        The Python object may be kept or not, as its supervisor likes. Raises `RuntimeError` if the pool has ended
        meanwhile, and the environment is the caller's to close then; or if the request was answered before.
        """

    def give_up(self, message: str, *, error_type: str = "ServiceException", status: int = 500) -> None:
        """Say that it cannot be made, and why. One waiting invocation is answered with this error of the service
        (`error_type` is its name in the API model, `status` its HTTP status); the next one asks anew.

        What is wanted ahead of invocations is not asked for again before `provision` or `keep` is called, or another
        environment was made; `FunctionPool.counts` has the number of failures and `last_failure` the text.
        """

@final
class FunctionPool:
    """The execution environments of one version of a function, which come and go with its invocations.

    It starts empty. An invocation is run by the free environment that was used last, provisioned ones before others;
    where none is free, another one is wanted of `supply`, and the invocation waits for that or for whichever becomes
    free first. Each environment runs one invocation at a time. One that has not been used for `idle_s` seconds is
    closed, but for the minimum and those that are provisioned. With `tenant_isolation` each invocation names its
    tenant, and none gets an environment that another tenant has used.

    How many invocations run at once is limited by the account and by reservations once the pool is published
    (`ServiceFront.publish`), and by nothing before.

    `subject` is handed back with each `WantedEnvironment`: what is needed to make one. `function_version` is what
    invocations say they were executed by; `region` and `account_id` are those of the function's ARN.
    """

    def __new__(
        cls,
        supply: EnvironmentSupply,
        subject: object,
        *,
        function_name: str,
        function_version: str = "$LATEST",
        region: str = "us-east-1",
        account_id: str = "012345678912",
        tenant_isolation: bool = False,
        idle_s: float = 600.0,
    ) -> Self: ...
    @property
    def function_name(self) -> str:
        """The function's name."""

    @property
    def function_version(self) -> str:
        """`$LATEST` or a number."""

    @property
    def idle_s(self) -> float:
        """After how many seconds without use an environment is closed."""

    def set_idle_time(self, seconds: float) -> None:
        """Change `idle_s`, for those that are idle now, too. Raises `ValueError` for what is no time."""

    def provision(self, count: int) -> None:
        """Have `count` environments started ahead, beside those that invocations cause: provisioned concurrency.

        They are never idle for too long, are replaced when they are lost, and count against the account's and the
        function's concurrency whether they run or not (spec lambda-service 7.1 and 7.4). Fewer than before: idle ones
        are closed, busy ones when they have finished. Raises `ValueError` with `tenant_isolation`.
        """

    def keep(self, count: int) -> None:
        """Keep at least `count` environments, provisioned ones aside: they are started ahead and do not grow too old.

        They count against nothing while they are idle. Raises `ValueError` with `tenant_isolation`.
        """

    def submit(
        self,
        event: bytes,
        callback: Callable[[InvokeResult], object],
        *,
        request_id: str | None = None,
        client_context: str | None = None,
        cognito_identity: str | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
        invoked_function_arn: str | None = None,
    ) -> str | None:
        """Run one invocation and call `callback` when it is finished, on the endpoint's thread: it must be short.

        Returns None if it is taken, else the `Reason` of the `TooManyRequestsException` for which it is not (spec
        lambda-service 1.5), and `callback` is not called. `invoked_function_arn` is the unqualified one unless given.
        An invocation for which no environment could be made has a result with `service_error`.

        Raises `RuntimeError` if the pool is retired, and `ValueError` for a value that cannot be sent, without a tenant
        where they are isolated, and with one where they are not.
        """

    def retire(self) -> None:
        """Take no more invocations. Those that run or wait come to their end, as this version of the code; each
        environment is closed as soon as there is nothing for it to do. Idempotent.

        `ServiceFront.publish` and `withdraw` do this to the pool that they replace or take away.
        """

    @property
    def retired(self) -> bool:
        """Whether it takes no more invocations."""

    @property
    def ended(self) -> bool:
        """Whether it is retired or closed, and has no environment and no invocation any more."""

    def wait_until_ended(self, timeout_s: float | None = None) -> bool:
        """Wait until it has `ended`, without holding the GIL. `False` when the time has passed."""

    def counts(self) -> dict[str, int]:
        """Figures, taken at one moment: cheap enough to be asked every second for every function.

        `init` (environments that are starting or initialising), `busy` and `idle`, which together are all environments;
        `frozen`, those of the idle ones whose processes are stopped; `provisioned`, those of all that are for
        provisioned concurrency, and of them `provisioned_ready`, those that have initialised, and `provisioned_failed`,
        those whose last init failed; `waiting`, invocations without an environment; `cold_starts` and `warm_starts`,
        invocations that were or were not their environment's first (a provisioned environment's first is warm);
        `throttled`, invocations refused for the sake of concurrency; `failures`, requests that were given up.
        """

    @property
    def last_failure(self) -> str | None:
        """The message that the last request was given up with; None after one that was answered with an environment."""

    def close(self) -> None:
        """Close all environments at the same time, failing what they run and what waits, and wait for their processes
        to be gone: see `ExecutionEnvironment.close`. Idempotent.
        """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_args: object) -> None: ...

@final
class ServiceFront:
    """The Lambda service on a port: invocations of published functions, and Python's control plane behind it.

    A synchronous or streaming invoke (`POST /2015-03-31/functions/{name}/invocations`,
    `POST /2021-11-15/functions/{name}/response-streaming-invocations`) of a published version or alias is run by its
    pool without Python. The name may have any form of spec lambda-service 0.2, percent-encoded or not.

    Everything else goes to `backend`, a Unix socket on which an HTTP/1.1 server listens: every other path and method,
    `Event` and `DryRun`, and names, versions and aliases that are not published, or are of another account or region.
    Requests and answers are streamed both ways; who goes away cancels theirs. A backend that cannot be
    reached, or dies, makes 502 with a `ServiceException` that names it.

    Where the backend's answer to a synchronous or streaming invoke has the header `X-Caloric-Invoke: run`, the front
    looks the function up again and runs the invocation itself; so the backend can check a request, or finish publishing
    a function, without having to know how invocations are answered. What the front then still cannot find is answered
    with 404.
    With `hot_path=False` the backend is asked about every invoke in this way (for `--require-auth`).

    Requests must name this machine: their `Host` is `localhost`, a name below it, a loopback address, `host`, or
    one of `allowed_hosts` (names without port), else 421. A request that a browser sends on behalf of another
    origin (`Origin`, `Sec-Fetch-Site`) is refused with 403, preflights too. So no web page can read or call, under
    whatever name it reaches this port. The peer's address, and the `Host` that was asked for, are handed to the backend
    as `X-Forwarded-For` and `Host`.

    Invocations that run at once are limited as on AWS (spec lambda-service 7.1 and 7.3): `concurrency` for the account,
    and what functions have reserved of it. One too many is refused at once with 429 and the `Reason` of AWS.

    Raises `OSError` if the address cannot be listened on; the message names it. `ValueError` for a `backend` or a
    region that cannot be.
    """

    def __new__(
        cls,
        backend: str,
        *,
        host: str = "127.0.0.1",
        port: int = 9001,
        region: str = "us-east-1",
        account_id: str = "012345678912",
        concurrency: int = 1000,
        allowed_hosts: Sequence[str] = ...,
        hot_path: bool = True,
    ) -> Self: ...
    @property
    def address(self) -> str:
        """`host:port` it listens on."""

    def publish(self, function_name: str, version: str, pool: FunctionPool) -> None:
        """Let invocations of this version run in `pool` from now on. `version` is `$LATEST` or a number.

        The pool that was published before in its place is retired. No invocation is lost or refused in between. Raises
        `ValueError` if the pool is another function's or version's, and `RuntimeError` if it is retired.
        """

    def withdraw(self, function_name: str, version: str | None = None) -> None:
        """Invoke this version no more, or the whole function with its aliases and its reservation.

        The pools are retired. What was never published is no error.
        """

    def route(self, function_name: str, alias: str, weights: Mapping[str, float] | None) -> None:
        """Let `alias` lead to these versions, each with its share of invocations; `None` removes it.

        The versions need not be published yet. Raises `ValueError` for no versions, weights below 0, and all of 0.
        """

    def reserve(self, function_name: str, concurrency: int | None) -> None:
        """Reserve so much of the account's concurrency for this function's versions together, which can have no more;
        0 refuses all, `None` gives it back. May come before anything is published. Raises `ValueError` below 0.
        """

    def concurrency(self) -> dict[str, int]:
        """`limit` (the account's), `reserved` (all reservations), `provisioned` (outside of reservations), and
        `running`: invocations that run now, in all functions.
        """

    def function_concurrency(self, function_name: str) -> dict[str, int | None]:
        """`reserved` (None without a reservation), `provisioned` and `running` of one function."""

    def close(self) -> None:
        """Stop listening and drop every connection. Idempotent. The pools stay as they are."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_args: object) -> None: ...

# ---- codec ---------------------------------------------------------------------------------------------------------

def decode_json(data: bytes) -> Any:
    """Return the object that a JSON document describes, by the rules that events are read with.

    `data` is UTF-8, with or without a byte order mark. Integers are exact whatever their size, numbers with a point or
    an exponent are floats, of equal keys the last wins, half surrogate pairs stay as they are. `NaN`, `Infinity` and
    UTF-16 are refused, as with the peer (spec runtime-api 4.6).

    Raises `json.JSONDecodeError`, with line and column; `UnicodeDecodeError`; `ValueError` for an integer of more
    digits than `sys.get_int_max_str_digits()`; `RecursionError` for more nesting than Python's limit. The text is what
    follows `Unable to unmarshal input: `.
    """

def encode_json(value: object, *, default: Callable[[Any], object] | None = None) -> bytes:
    """Return `value` as compact JSON in UTF-8, by the rules that results are written with.

    They are those of the peer (spec runtime-api 4.6): dict keys may be str, int, float, bool or None, whatever has
    `_asdict()` is an object, `Decimal` is a bare number with all its digits, bytes inside are text, NaN and the
    infinities are written by their names. Lone surrogates are escaped. Where `orjson` is installed, dataclasses,
    enums and what else it knows (datetime, UUID, numpy) are written too; what is inside follows the rules above. With
    `default`, that is called for a value of any such type instead, and what it returns is written.

    Raises `TypeError` for a value or key that has no form in JSON, `ValueError` for a container that contains itself
    or an integer of more digits than `sys.get_int_max_str_digits()`, `RecursionError` for more than 10 000 levels of
    nesting, `RuntimeError` for a dict that changes while it is written, and what `_asdict` and the like raise. The
    text is what follows `Unable to marshal response: `.
    """

def encode_log_record(fields: dict[str, Any]) -> str:
    """Return a log record's fields as one line of JSON, its line end included.

    The rules are those of `json.dumps(fields, ensure_ascii=False, default=str)`, which are the peer's for log records
    (spec runtime-api 4.10), but for white space, and lone surrogates, which are escaped.

    Raises `TypeError` for a key that has no form in JSON, `ValueError` for a container that contains itself or an
    integer of more digits than `sys.get_int_max_str_digits()`, `RecursionError` for more than 10 000 levels of nesting,
    and what `str()` of a value raises.
    """

# ---- runtime -------------------------------------------------------------------------------------------------------

@final
class RuntimeClient:
    """A connection to the Runtime API, made when it is first needed, and the loop over it.

    `address` is `host:port`; `user_agent` names the runtime in the platform's telemetry, its first word counts.
    `worker` says that other processes serve the same environment (spec runtime-api 6.2): it asks for an invocation up
    to five times, an answer that cannot be posted is a warning, and it is no failure when a sibling was quicker to
    report that initialisation failed.
    """

    def __new__(cls, address: str, user_agent: str, *, worker: bool = False) -> Self: ...
    def sibling(self) -> RuntimeClient:
        """Return another client of the same runtime, with its own connection and the same hooks, for another thread."""

    def slots(self, count: int) -> InvocationSlots:
        """Return so many connections for an event loop, in whose thread this is called. Raises `OSError`."""

    def use_context(
        self,
        ids: ContextVar[tuple[str, str | None, str | None]],
        note_context: Callable[[LambdaContext, RuntimeClient], object],
    ) -> None:
        """Several invocations are served at once: keep request id, tenant id and trace id in `ids`, and not in the
        environment, and call `note_context` with each context. For this client and its siblings. Raises `OSError`.
        """

    def stop(self) -> None:
        """After `use_context`: let neither this client nor a sibling ask for another invocation, and have `run` raise
        `caloric.errors.RuntimeApiError` where it waits for one.
        """

    @property
    def aws_request_id(self) -> str | None:
        """Id of the invocation at hand, or of the last one; None before the first. With `use_context`, of the
        invocation in whose context this is asked.
        """

    @property
    def deadline_ms(self) -> int | None:
        """When the invocation at hand times out, in milliseconds of Unix time; None while there is none."""

    @property
    def invocation_id(self) -> str | None:
        """What belongs to its answer beside the request id; None where the platform names no such thing."""

    @property
    def tenant_id(self) -> str | None:
        """Its tenant id."""

    def post_initialization_error(self, error_type: str, body: bytes) -> None:
        """Report that initialisation failed.

        `error_type` is AWS's `Category.Reason`, `body` the error document. Raises `caloric.errors.RuntimeApiError`
        when that was not accepted.
        """

    def restore_next(self) -> None:
        """Wait as long as it takes until this process is to serve, on a connection of its own (spec runtime-api 5).

        With SnapStart the snapshot is taken meanwhile, and the call returns in every copy that is restored from it.
        Signal handlers run. Raises `caloric.errors.RuntimeApiError` when the restore does not come.
        """

    def post_restore_error(self, error_type: str, body: bytes) -> None:
        """Report that a hook failed after the restore; otherwise as `post_initialization_error`."""

    def run(
        self, handler: Callable[..., object]
    ) -> tuple[str, str | None, object, Exception | None, tuple[Any, LambdaContext] | None]:
        """Serve invocations with `handler` until the process ends, until `hand_over` was called, or until the handler
        returns what is not simply encoded: an iterator, something to await, a `caloric.HttpResponse`.

        Returns the invocation that still has to be answered then: its request id, its invocation id, what the handler
        returned, or None and what it raised, and the event and context it was called with. `caloric.answers.answer`
        answers it.

        Raises `caloric.errors.RuntimeApiError` when the Runtime API is gone or failed, or whatever is no `Exception`
        (`SystemExit`, `KeyboardInterrupt`) from the handler or a signal handler. To be called in the main thread, where
        Python runs signal handlers.
        """

    def hand_over(self) -> None:
        """Let `run` return after the handler call that is under way, or the next one."""

    def begin_stream(self, request_id: str, content_type: str, invocation_id: str | None = None) -> None:
        """Begin to stream an invocation's response (spec runtime-api 2). Nothing is sent before the first piece, so
        that an error can be posted instead.

        This and the other methods about the stream may be called while `run` calls the handler.
        """

    def send_chunk(self, chunk: bytes) -> bool:
        """Send a piece of the stream in one write, the first one with the head, and an empty one not at all.

        Waits, without the GIL, while the connection is full. Returns `False` when the platform has answered already, or
        closed: it wants no more. Raises what a signal handler raises, which breaks the stream off, and
        `caloric.errors.RuntimeApiError` when nothing can be connected to.
        """

    def end_stream(self, error_type: str | None = None, document: str = "") -> None:
        """End the stream and wait until the platform has accepted it. That it has not is told on stderr.

        With an `error_type`, the function failed on the way: `document` is the error document in base64. Both together
        are to be below 3.5 kB (spec runtime-api 2.2). Raises `caloric.errors.RuntimeApiError` when the Runtime API
        failed.
        """

    def abandon_stream(self) -> None:
        """Break the stream off: its caller sees a truncated response. One of which nothing was sent is forgotten."""

    def request_next(self) -> None:
        """Ask for the next invocation and return at once; `next_invocation` returns it.

        Raises `caloric.errors.RuntimeApiError` when the Runtime API cannot be reached.
        """

    def set_hooks(
        self,
        *,
        before_invoke: Callable[[Any, LambdaContext], object] | None = None,
        after_invoke: Callable[[Any, LambdaContext, Any, Exception | None, str], BaseException | None]
        | None = None,
        keep_sigterm: Callable[[], object] | None = None,
    ) -> None:
        """Have `run` call these in each invocation from now on. What is None stays as it is.

        `before_invoke(event, context)` is called before the handler; what it raises is the invocation's error.
        `after_invoke(event, context, result, error, request_id)` is called when the answer is made and not sent yet,
        unless there is no event; `run` raises what it returns when the answer has been posted. `keep_sigterm()` is
        called after the handler where another one than `watch_sigterm`'s handles SIGTERM.
        """

    def register_extension(self, name: str) -> bool:
        """Register an internal extension for no event, and keep its poll open in a thread of its own, which takes
        neither the GIL nor a signal (spec extensions-telemetry 1.8).

        False where the platform has no Extensions API. Raises `caloric.errors.RuntimeApiError` when it refuses, as it
        does after the first `/next`, or the conversation fails, and `OSError` if no thread can be started.
        """

    def next_invocation(self) -> dict[str, Any]:
        """Return the next invocation, waiting as long as it takes, and make it the one that `_X_AMZN_TRACE_ID`,
        `aws_request_id` and `tenant_id` are about.

        The keys are `invoke_id`, `invocation_id`, `invoked_function_arn`, `deadline_time_in_ms` (Unix time, 0 without
        one), `x_amzn_trace_id`, `client_context` and `cognito_identity` (JSON text), `tenant_id`, `content_type` and
        `event_body` (bytes). What was not sent is None, an ARN is empty then.

        Raises `caloric.errors.RuntimeApiError` when the Runtime API is gone or failed.
        """

    def post_invocation_response(
        self, request_id: str, body: bytes, content_type: str, invocation_id: str | None = None
    ) -> None:
        """Post an invocation's result.

        An answer that is refused as too late or too large is told on stderr. Raises `caloric.errors.RuntimeApiError`
        when the Runtime API is gone or failed.
        """

    def post_invocation_error(
        self,
        request_id: str,
        body: bytes,
        error_type: str,
        xray_cause: str,
        invocation_id: str | None = None,
    ) -> None:
        """Post an invocation's error.

        `body` is the error document, `error_type` AWS's `Category.Reason` or a class name, `xray_cause` ASCII JSON on
        one line, or empty. Otherwise as `post_invocation_response`.
        """

# ---- extensions ----------------------------------------------------------------------------------------------------

@final
class ExtensionClient:
    """An external extension's conversation with the platform: what `caloric.extension` is made of.

    One thread waits for events and others receive telemetry; neither takes the GIL. The thread that calls `wait` meets
    both. For the main thread of a process that is an extension: the thread that waits ends with the process.

    `address` is `host:port`; `user_agent` names the extension in the platform's telemetry. Raises `OSError` where no
    descriptor is free. Its methods raise `RuntimeApiError` when the platform refuses a call, answers nonsense, or is
    gone, and what a signal handler raises; `RuntimeError` for calls in the wrong order.
    """

    def __new__(cls, address: str, user_agent: str) -> Self: ...
    def register(self, name: str, events: list[str]) -> dict[str, str | None]:
        """Register for `events` (`INVOKE`, `SHUTDOWN`) and return what the platform says of the function.

        That is `function_name`, `function_version`, `handler`, and `account_id`, None where the platform does not tell.
        """

    def listen(self, host: str, preferred_port: int) -> int:
        """Receive telemetry over HTTP on `host`, an IP address, and return the port: another one if that is taken.

        Batches are accepted as they come, 4 MiB of them at most until `wait` has returned them: then a batch waits for
        2 s and is refused with 503. Raises `OSError` if the address cannot be listened on.
        """

    def subscribe(self, subscription: object) -> str | None:
        """Subscribe to telemetry (spec extensions-telemetry 2.1), and return None.

        Where the platform has none and says so with 202 or 404, return its words.
        """

    def poll(self) -> None:
        """Say that the last event is done with and ask for the next one, without waiting for it."""

    def wait(self, timeout_s: float | None = None) -> tuple[str, Any] | None:
        """Wait for what comes first, without holding the GIL; None when the time has passed.

        `("event", document)` is the event that `poll` asked for, and comes before telemetry; `("telemetry", records)`
        is a batch, a list of dicts; `("refused", reason)` is a request that was none, or a batch without records.
        """

    @property
    def waiting(self) -> int:
        """How many batches `wait` would return at once."""

    def init_error(self, error_type: str, body: bytes) -> None:
        """Report a failure before the first `poll`, with `Extension.` and a reason, and an error document."""

    def exit_error(self, error_type: str, body: bytes) -> None:
        """Report a later failure, also while `poll` is waiting."""

# ---- workers -------------------------------------------------------------------------------------------------------
def watch_sigterm() -> None:
    """Note when SIGTERM comes, and have it interrupt the main thread whichever thread it meets.

    To be called in the main thread, after a Python handler was set for it; without one nothing happens. A handler that
    is set later ends it. Raises `OSError` if the system refuses.
    """

def begin_shutdown(budget_ms: int) -> None:
    """Have the process end with status 0 so many milliseconds after SIGTERM came, whatever runs then: a thread does it
    that needs no GIL. A line on stderr says so. Raises `OSError` if that thread cannot be started.
    """

def remaining_shutdown_ms() -> int | None:
    """How many milliseconds are left of that, 0 when they are over. None before `begin_shutdown`."""

@final
class InvocationSlots:
    """Connections to the Runtime API, each with a thread that waits on it without the GIL. See `RuntimeClient.slots`.

    Several invocations are served at once by one event loop, which never waits for the Runtime API: what is said of an
    invocation is said by its slot's thread. A slot asks for an invocation up to five times before it gives up, and an
    answer that cannot be posted is a line on stderr (spec runtime-api 6.2).
    """

    def fileno(self) -> int:
        """Return the descriptor that can be read while `take` has something to return."""

    def start(self) -> None:
        """Begin to ask for invocations. Raises `OSError` if a thread cannot be started."""

    def take(self) -> list[SlotInvocation | int | str]:
        """Return what has happened since the last call: an invocation that came, the number of a `SlotInvocation.tell`,
        or why a slot has given up.
        """

    def stop(self) -> None:
        """Ask for no more invocations, and take back what was asked for already, for which it waits up to 100 ms."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was ordered has been said, so many seconds at most."""

@final
class SlotInvocation:
    """An invocation that a slot has received, and what is said to the Runtime API about it: orders that are carried out
    in sequence by the slot's thread. None of them waits, but for `send_chunk` in another thread than the event loop's.
    """

    @property
    def aws_request_id(self) -> str: ...
    @property
    def invocation_id(self) -> str | None: ...
    @property
    def tenant_id(self) -> str | None: ...
    @property
    def trace_id(self) -> str | None: ...
    @property
    def deadline_ms(self) -> int:
        """When it times out, in milliseconds of Unix time; 0 where it did not say."""

    @property
    def on_its_way(self) -> int:
        """Bytes of its stream that have not been sent yet."""

    def arguments(
        self, context_class: type[LambdaContext]
    ) -> tuple[LambdaContext | None, Any, tuple[str, str, Exception] | None]:
        """Return its context and its event, and where one of them cannot be made None in its place, with the error's
        type, message and exception. To be called once, before anything else.
        """

    def post_response(self, body: bytes, content_type: str, *, then_next: bool) -> None:
        """Post its result. `then_next`: that was all, and the slot asks for another invocation."""

    def post_error(self, body: bytes, error_type: str, xray_cause: str, *, then_next: bool) -> None:
        """Post its error; otherwise as `post_response`."""

    def tell(self, number: int) -> None:
        """Have `InvocationSlots.take` return `number` when all that was ordered so far is done."""

    def next(self) -> None:
        """That was all: the slot asks for another invocation. What is ordered later is about nothing."""

    def begin_stream(self, request_id: str, content_type: str, invocation_id: str | None = None) -> None:
        """Begin to stream its response, whose ids are its own anyway. Nothing is sent before the first piece."""

    def send_chunk(self, chunk: bytes) -> bool:
        """Send a piece of the stream. False when the platform wants no more of it.

        In another thread than the event loop's it waits while more than 256 KiB are on their way.
        """

    def end_stream(self, error_type: str | None = None, document: str = ...) -> None:
        """End the stream, as `RuntimeClient.end_stream` does."""

    def abandon_stream(self) -> None:
        """Break the stream off."""

    def hand_over(self) -> None:
        """Do nothing: Python has the invocation already."""

def concurrency() -> str | None:
    """What `CALORIC_CONCURRENCY` asks for: task, thread or process; None where it is not set.

    Raises `ValueError`, in words for the user, where it says anything else.
    """

def prefork_import() -> bool:
    """Whether `CALORIC_PREFORK_IMPORT` asks for the handler's import before the workers are forked."""

def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, whose pid is `parent`, ends, even by SIGKILL.

    Raises `SystemExit` if the parent has ended already.
    """

def wait_readable(descriptor: int) -> None:
    """Wait, without the GIL, until `descriptor` can be read. Signal handlers run meanwhile; none comes too late.

    Raises what a signal handler raises.
    """

def configure_search_path() -> None:
    """Do what the `site` module would have done, for the fast way in (`python -S`).

    Sets `sys.path` in the managed runtime's order (spec runtime-api 3.6), processes `.pth` files where there are any,
    imports `sitecustomize` and `usercustomize` where one is on the path, and adds `exit`, `help` and the like to the
    builtins. `sys.path[0]` must be the folder that holds the `caloric` package, the rest what `python -S` made.
    """
