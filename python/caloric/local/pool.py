"""A pool of execution environments, each with its runtime process.

As in `caloric.local.process`, nothing is imported here that `caloric invoke` would have to pay for.
"""

from __future__ import annotations

import _thread

from caloric._rust import EnvironmentPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from caloric.local.process import RuntimeProcess

__all__ = ["SupervisedPool"]


class SupervisedPool:
    """Up to `limit` environments of one function, made as they are needed and kept until the end.

    `start` makes one and returns its process (see `supervise`). It is called here for the first environment, and what
    it raises then is raised here; for the others it is called on a daemon thread, and what it raises is told to
    `report`: the environments that are there must do from then on.
    """

    def __init__(
        self,
        start: Callable[[], RuntimeProcess],
        *,
        limit: int,
        report: Callable[[Exception], None],
    ) -> None:
        self._start = start
        self._report = report
        self._processes = [start()]
        self.pool = EnvironmentPool(self._processes[0].environment, limit=limit)
        """What takes the invocations."""
        if limit > 1:
            _thread.start_new_thread(self._supply, ())

    def _supply(self) -> None:
        while self.pool.wait_until_wanted():
            try:
                process = self._start()
            except Exception as error:
                self.pool.give_up()
                self._report(error)
                continue
            try:
                self.pool.add(process.environment)
            except RuntimeError:
                # Closed meanwhile.
                process.environment.close()
            else:
                self._processes.append(process)

    def close(self) -> None:
        """Close all environments, as `ExecutionEnvironment.close` does it, at the same time. Idempotent."""
        self.pool.close()
        for process in self._processes:
            process.join(3)

    def __enter__(self) -> EnvironmentPool:
        return self.pool

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
