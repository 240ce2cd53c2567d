"""Start the runtime process of an execution environment whenever one is wanted.

Nothing else than `os` and `_thread` is imported here: `caloric invoke` would pay for it before it does anything.
"""

from __future__ import annotations

import _thread
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from caloric._rust import ExecutionEnvironment

__all__ = [
    "CannotStartError",
    "RuntimeProcess",
    "find_program",
    "function_environment",
    "log_stream_name",
    "supervise",
]


class CannotStartError(Exception):
    """The command cannot be started; the message says why."""


def find_program(program: str, search_path: str, cwd: str | None = None) -> str:
    """Return the file to execute for `program`, looked up in `search_path` (a PATH) as a shell would, seen from `cwd`.

    Raises `CannotStartError` when there is none, or it cannot be executed.
    """
    if cwd is not None and not os.path.isdir(cwd):
        raise CannotStartError(f"the working directory {cwd!r} does not exist")
    if os.sep in program:
        candidates, where = [program], ""
    else:
        folders = search_path.split(os.pathsep)
        candidates, where = [os.path.join(folder or ".", program) for folder in folders], " on PATH"
    if cwd is not None:
        candidates = [os.path.join(os.path.abspath(cwd), candidate) for candidate in candidates]
    existing = [candidate for candidate in candidates if os.path.isfile(candidate)]
    for candidate in existing:
        if os.access(candidate, os.X_OK):
            return candidate
    if existing:
        raise CannotStartError(f"the runtime program {existing[0]!r} is not executable")
    if os.sep in program and os.path.isdir(candidates[0]):
        raise CannotStartError(f"the runtime program {program!r} is a directory")
    raise CannotStartError(f"the runtime program {program!r} was not found{where}")


class RuntimeProcess:
    """Keeps an execution environment supplied with a runtime process, from a daemon thread.

    `command` is the program and its arguments; `env` the whole environment of the process (see
    `function_environment`). Output goes to `output_fd`, stdout and stderr alike: by default to the environment's log
    pipe, so that it appears in the log and the log tail; `-1` leaves the descriptors of this process in place.
    `stdin` is a descriptor, by default `/dev/null`. `cwd` is the working directory. With `own_process_group` the
    process leads a group of its own; a terminal's Ctrl-C then reaches this process only. Without it, a debugger in the
    function can use the terminal.

    Nothing the process starts outlives it, the environment, or this process (see
    `caloric._rust.ExecutionEnvironment.start_process`). Closing the environment ends the thread.
    """

    def __init__(
        self,
        environment: ExecutionEnvironment,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str | None = None,
        stdin: int | None = None,
        output_fd: int | None = None,
        own_process_group: bool = True,
    ) -> None:
        if not command:
            raise ValueError("the runtime's command is empty")
        self.environment = environment
        self.command = list(command)
        self.env = dict(env)
        self.cwd = cwd
        self.stdin = stdin
        self.own_process_group = own_process_group
        self.pid: int | None = None
        """Pid of the process that was started last."""
        self._owns_output = output_fd is None
        self._output_fd = environment.open_log_pipe() if output_fd is None else output_fd
        self._running = _thread.allocate_lock()
        self._running.acquire()
        _thread.start_new_thread(self._supervise, ())

    def _supervise(self) -> None:
        try:
            while self.environment.wait_for_start():
                self._start()
        finally:
            if self._owns_output:
                os.close(self._output_fd)
            self._running.release()

    def _start(self) -> None:
        try:
            self.pid = self._spawn()
        except OSError as error:
            self.environment.start_failed(error.strerror or str(error))
        except CannotStartError as error:
            self.environment.start_failed(str(error))
        except RuntimeError:
            # Closed meanwhile: nobody waits for the process.
            pass

    def _spawn(self) -> int:
        program = find_program(self.command[0], self.env.get("PATH", os.defpath), self.cwd)
        return self.environment.start_process(
            program,
            self.command,
            self.env,
            cwd=self.cwd,
            stdin=self.stdin,
            output_fd=None if self._output_fd < 0 else self._output_fd,
            own_process_group=self.own_process_group,
        )

    def join(self, timeout_s: float = -1) -> bool:
        """Wait until the thread has ended, which it does when the environment is closed; `False` if it has not."""
        ended = self._running.acquire(timeout=timeout_s)
        if ended:
            self._running.release()
        return ended

    def __enter__(self) -> RuntimeProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.environment.close()
        self.join(3)


def supervise(
    environment: ExecutionEnvironment,
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str | None = None,
    stdin: int | None = None,
    output_fd: int | None = None,
    own_process_group: bool = True,
) -> RuntimeProcess:
    """Keep `environment` supplied with a runtime process from now on; see `RuntimeProcess` for the arguments."""
    return RuntimeProcess(
        environment,
        command,
        env,
        cwd=cwd,
        stdin=stdin,
        output_fd=output_fd,
        own_process_group=own_process_group,
    )


def function_environment(
    environment: ExecutionEnvironment,
    *,
    handler: str = "",
    task_root: str | None = None,
    base: Mapping[str, str] | None = None,
    user: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment variables of a function's process (spec runtime-api 3.1 and 3.2).

    Three layers, later ones winning: `base`, by default this process's own environment; what AWS sets and a user may
    override, filled in only where `base` has nothing; `user`, the function's configured variables; and last what AWS
    reserves. Values come from `environment`; `task_root` is the function's folder, by default the current one.

    TMPDIR is the environment's own folder, since there is one `/tmp` for all of this machine.

    Credentials and the region's default pass through from `base`: a local function talks to whatever its developer
    talks to. A trace id does not, nor do AWS_LAMBDA_MAX_CONCURRENCY and the _LAMBDA_TELEMETRY_LOG_FD… variables, which
    would switch the runtime into modes this environment does not serve; one with `max_concurrency` sets the first.
    Where `environment` has a virtual clock, CALORIC_CLOCK tells Caloric's own runtime where to read it.

    Where `environment` has SnapStart, the initialization type says so, and there is no log group and no log stream.
    """
    variables = dict(os.environ if base is None else base)
    for name in (
        "_X_AMZN_TRACE_ID",
        "AWS_LAMBDA_MAX_CONCURRENCY",
        "_LAMBDA_TELEMETRY_LOG_FD",
        "_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET",
        "CALORIC_CLOCK",
        "CALORIC_DEBUG",
    ):
        variables.pop(name, None)
    for name, value in (
        ("LANG", "en_US.UTF-8"),
        ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
    ):
        variables.setdefault(name, value)
    # The developer's time zone must not leak in: code that passes here would fail in Lambda.
    variables["TZ"] = ":UTC"
    variables["TMPDIR"] = environment.temporary_folder
    if environment.max_concurrency is not None:
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
    variables.update(user or {})
    name = environment.function_name
    variables.update(
        {
            "AWS_LAMBDA_RUNTIME_API": environment.address,
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": environment.function_version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(environment.memory_size_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": log_stream_name(environment.function_version),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start" if environment.snap_start else "on-demand",
            **_managed(environment),
            "AWS_REGION": environment.region,
            "AWS_DEFAULT_REGION": environment.region,
            "LAMBDA_TASK_ROOT": os.getcwd() if task_root is None else task_root,
            "LAMBDA_RUNTIME_DIR": variables.get("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        }
    )
    if environment.snap_start:
        # Each restored copy has a stream of its own, which the snapshot cannot know.
        del variables["AWS_LAMBDA_LOG_GROUP_NAME"], variables["AWS_LAMBDA_LOG_STREAM_NAME"]
    if handler:
        variables["_HANDLER"] = handler
    clock_file = environment.clock_file
    if clock_file is not None:
        variables["CALORIC_CLOCK"] = clock_file
    return variables


def _managed(environment: ExecutionEnvironment) -> dict[str, str]:
    """Return what is reserved on Lambda Managed Instances (spec runtime-api 6.1)."""
    if environment.max_concurrency is None:
        return {}
    return {
        "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
        "AWS_LAMBDA_MAX_CONCURRENCY": str(environment.max_concurrency),
    }


def log_stream_name(version: str, shared_by: str | None = None) -> str:
    """Return a stream's name as AWS forms it: date, version, 32 random hex digits.

    In a log group that functions share, it begins with the name of the function `shared_by` (spec lambda-service 2.9).
    """
    import time

    year, month, day = time.gmtime()[:3]
    number = os.urandom(16).hex()
    end = f"[{version}]{number}" if shared_by is None else f"{shared_by}[{version}][{number}]"
    return f"{year}/{month:02}/{day:02}/{end}"
