"""The function that a command line describes, and the execution environments it runs in."""

from __future__ import annotations

import os

from caloric.cli import UserMistake
from caloric.cli.options import check_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from caloric._rust import ExecutionEnvironment
    from caloric.local.layers import MergedLayers
    from caloric.local.process import RuntimeProcess


class Function:
    """Makes environments that are all alike.

    `command` is the runtime's; `settings` are the arguments of `ExecutionEnvironment`, `process` those of `supervise`
    besides. `user` are the function's own variables, and `reserved` what replaces AWS's. `knows_layers` says that the
    runtime looks for layers where `CALORIC_OPT` says; others find them by `PYTHONPATH`.

    `extensions` are the paths of the external ones by their names; None switches all extensions off.

    The layers are unpacked once, for the first environment; the others share them, which on AWS cannot be written to.
    Without `shares_layers`, for environments that do not end together, each has its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        handler: str,
        layers: MergedLayers | None,
        extensions: dict[str, str] | None,
        user: dict[str, str],
        reserved: dict[str, str] | None = None,
        knows_layers: bool,
        settings: dict[str, Any],
        process: dict[str, Any],
        task_root: str | None = None,
        shares_layers: bool = True,
    ) -> None:
        self._command = list(command)
        self._handler = handler
        self._layers = layers
        self._extensions = extensions
        self._user = user
        self._reserved = reserved or {}
        self._knows_layers = knows_layers
        names = None if extensions is None else list(extensions)
        self._settings = {"handler": handler, "extensions": names, **settings}
        self._process = process
        self.task_root = os.getcwd() if task_root is None else task_root
        """The folder with the code."""
        self._shares_layers = shares_layers
        self._opt = ""

    def start_environment(self) -> RuntimeProcess:
        """Make an environment, whose process starts when it is needed. Leaving the process's context closes both.

        Raises `UserMistake` for a program that cannot be found, a layer that turns out to be damaged, a value that
        cannot be sent, an address that is taken, and where there is no room for temporary files.
        """
        from caloric.local.process import supervise

        environment, variables = self.make_environment()
        try:
            check_program(self._command, variables.get("PATH"))
            self._launch_extensions(environment, variables)
            return supervise(environment, self._command, variables, **self._process)
        except BaseException:
            environment.close()
            raise

    def make_environment(self) -> tuple[ExecutionEnvironment, dict[str, str]]:
        """Make an environment without a process, and return it with the variables that its process would have.

        Raises `UserMistake` as `start_environment` does.
        """
        from caloric._rust import ExecutionEnvironment

        try:
            environment = ExecutionEnvironment(**self._settings)
        except (OSError, ValueError) as error:
            raise UserMistake(getattr(error, "strerror", None) or str(error)) from None
        try:
            return environment, self._variables(environment)
        except BaseException:
            environment.close()
            raise

    def serve_by_hand(self) -> tuple[ExecutionEnvironment, dict[str, str]]:
        """Make an environment whose runtime is started by hand, and return it with the variables of its process.

        Raises `UserMistake` as `start_environment` does.
        """
        from caloric._rust import ExecutionEnvironment

        try:
            environment = ExecutionEnvironment(**self._settings, by_hand=True)
        except OSError as error:
            raise UserMistake(
                f"{error.strerror or error}; choose another with --runtime-api-address HOST:PORT"
            ) from None
        except ValueError as error:
            raise UserMistake(str(error)) from None
        try:
            return environment, self._variables(environment)
        except BaseException:
            environment.close()
            raise

    def _variables(self, environment: ExecutionEnvironment) -> dict[str, str]:
        from caloric.local.process import function_environment

        try:
            variables = function_environment(
                environment, handler=self._handler, user=self._user, task_root=self.task_root
            )
            variables.update(self._reserved)
            if self._layers is None:
                return variables
            unpacked = bool(self._opt) and self._shares_layers
            if not unpacked:
                self._opt = environment.layers_folder
        except OSError as error:
            raise UserMistake(f"{error.strerror} (TMPDIR)") from None
        from caloric.local.layers import LayerError, layer_variables

        try:
            if not unpacked:
                self._layers.unpack(self._opt)
        except LayerError as error:
            raise UserMistake(str(error)) from None
        variables.update(layer_variables(self._opt, variables, python_path=not self._knows_layers))
        return variables

    def _launch_extensions(self, environment: ExecutionEnvironment, variables: dict[str, str]) -> None:
        if not self._extensions:
            return
        from caloric.local.extensions import launch_extensions

        paths = {name: os.path.join(self._opt, path) for name, path in self._extensions.items()}
        launch_extensions(environment, paths, variables)
