"""Start the external extensions of an execution environment, whenever its Init phase begins.

As in `caloric.local.process`, nothing is imported here that `caloric invoke` would have to pay for.
"""

from __future__ import annotations

import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from caloric._rust import ExecutionEnvironment

__all__ = ["DISABLES_EXTENSIONS", "extension_environment", "launch_extensions"]

DISABLES_EXTENSIONS = "disable-extensions-jwigqn8j"
"""A file of this name in `/opt` switches all extensions off (spec extensions-telemetry 0)."""

_NOT_FOR_EXTENSIONS = frozenset(
    (
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    )
)


def extension_environment(function: Mapping[str, str]) -> dict[str, str]:
    """Return what an external extension sees of the function's environment variables (spec extensions-telemetry 1.7).

    That is all but what AWS keeps from it: the handler, the runtime's folders and logs, X-Ray, and every name that
    begins with an underscore.
    """
    return {
        name: value
        for name, value in function.items()
        if name not in _NOT_FOR_EXTENSIONS and not name.startswith("_")
    }


def launch_extensions(
    environment: ExecutionEnvironment, paths: Mapping[str, str], function: Mapping[str, str]
) -> None:
    """Start the executables `paths` (by extension name) whenever `environment` wants them, from a daemon thread.

    `function` is the environment of the function's process, of which the extensions get their part. The environment
    watches and ends them; closing it ends the thread.

    What starts with `#!/usr/bin/env python3` gets this interpreter, which has Caloric: its folder is the first of PATH.
    """
    variables = extension_environment(function)
    search_path = variables.get("PATH", os.defpath)
    variables["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), search_path))

    def supervise() -> None:
        while (name := environment.wait_for_extension_launch()) is not None:
            _launch(environment, name, paths[name], variables)

    _thread.start_new_thread(supervise, ())


def _launch(environment: ExecutionEnvironment, name: str, path: str, variables: dict[str, str]) -> None:
    try:
        environment.start_extension(name, path, [path], variables)
    except OSError as error:
        # Go's words, which are AWS's.
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        environment.extension_start_failed(
            name, f"fork/exec {path}: {reason}", permission_denied=isinstance(error, PermissionError)
        )
    except RuntimeError:
        # The environment has failed or was closed meanwhile.
        pass
