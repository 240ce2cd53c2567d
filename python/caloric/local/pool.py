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
    """Up to `limit` environments of one function, made as they are needed and kept until the end or until `replace`.

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
        while (generation := self.pool.wait_until_wanted()) is not None:
            try:
                process = self._start()
            except Exception as error:
                self.pool.give_up(generation=generation)
                self._report(error)
                continue
            try:
                added = self.pool.add(process.environment, generation=generation)
            except RuntimeError:
                # Closed meanwhile.
                added = False
            if added:
                self._processes.append(process)
            else:
                process.environment.close()

    def replace(self, start: Callable[[], RuntimeProcess]) -> None:
        """Have invocations that wait, and all that come, run by environments that `start` makes: the code has changed.

        Those that were there finish what they run and end (see `EnvironmentPool.replace`). Nothing is waited for.

        Raises what `start` raises for the first environment; then all is as it was. `RuntimeError` after `close`.
        """
        process = start()
        # One that is made for the old generation meanwhile is not taken in.
        self._start = start
        try:
            self.pool.replace(process.environment)
        except BaseException:
            process.environment.close()
            raise
        self._processes.append(process)
        for ended in [other for other in self._processes if other.join(0)]:
            self._processes.remove(ended)

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
