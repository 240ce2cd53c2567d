"""Which environments there are: a pool for each published version, supplied as invocations ask for environments.

Invocations never come through here on their hot path: the Rust front hands them to a pool, and the pool asks for an
environment where it has none free. What is decided here is what a pool's environments are made of, when a pool takes
another one's place, and how many are started ahead.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from caloric._rust import EnvironmentSupply, FunctionPool
from caloric.local.environments.interface import NotPublishedError, ProvisionedEnvironments
from caloric.local.environments.maker import CannotMakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from caloric._rust import InvokeResult, ServiceFront, WantedEnvironment
    from caloric.local.code_watch import CodeWatch
    from caloric.local.environments.interface import FunctionVersion
    from caloric.local.environments.maker import EnvironmentMaker, RunningEnvironment

__all__ = ["IDLE_S", "LocalEnvironments"]

IDLE_S = 600.0
"""An environment that nobody has used for so long ends. AWS's time is not documented (spec lambda-service 7.2)."""

INIT_FAILURE = "FUNCTION_ERROR_INIT_FAILURE"
"""AWS's reason why provisioned concurrency is not ready (spec lambda-service 7.4)."""

_SUPPLIERS = 4
"""So many environments are made at the same time: merging layers takes its time, and others are not to wait for it."""

_LOOK_S = 0.25
"""So often log streams are looked after while there are environments."""

_COUNTED = ("cold_starts", "warm_starts", "throttled", "failures")


@dataclass(eq=False)
class _Published:
    """A version of a function as it may be invoked now."""

    function: FunctionVersion
    pool: FunctionPool
    subject: list[_Published]
    """What the pool hands back with its requests: this. Emptied at its end, when the two are to forget each other."""
    watch: CodeWatch | None = None
    provisioned: int = 0
    kept: int = 0
    environments: set[RunningEnvironment] = field(default_factory=set)


class LocalEnvironments:
    """The `Environments` of a service on this machine.

    `front` is told what may be invoked; `maker` makes environments. `region` and `account` are the service's. `idle_s`
    is how long an environment is kept that nobody uses. `close` ends all.
    """

    def __init__(
        self,
        front: ServiceFront,
        maker: EnvironmentMaker,
        *,
        region: str,
        account: str,
        idle_s: float = IDLE_S,
    ) -> None:
        self._front = front
        self._maker = maker
        self._region = region
        self._account = account
        self._idle_s = idle_s
        self._lock = threading.RLock()
        self._closed = False
        self._versions: dict[str, dict[str, _Published]] = {}
        self._draining: list[_Published] = []
        self._totals: dict[tuple[str, str], Counter[str]] = {}
        self._aliases: dict[str, dict[str, dict[str, float]]] = {}
        self._provisions: dict[str, dict[str, int]] = {}
        self._minimums: dict[tuple[str, str], int] = {}
        self._live: set[RunningEnvironment] = set()
        self._supply = EnvironmentSupply()
        self._changed = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._make_wanted, name=f"environments {number}", daemon=True)
            for number in range(_SUPPLIERS)
        ]
        self._threads.append(threading.Thread(target=self._look_after, name="log streams", daemon=True))
        for thread in self._threads:
            thread.start()

    # ---- what the service asks for ---------------------------------------------------------------------------------

    def publish(self, function: FunctionVersion) -> None:
        """Let invocations of this function and version run on `function` from now on. See `Environments.publish`."""
        name, version = function.function_name, function.version
        ended: CodeWatch | None = None
        with self._lock:
            if self._closed:
                return
            before = self._versions.get(name, {}).get(version)
            if before is not None and before.function == function:
                return
            watch: CodeWatch | None = None
            if before is not None and before.watch is not None:
                if function.watched and before.function.code == function.code:
                    watch = before.watch
                else:
                    ended = before.watch
                before.watch = None
            new = self._replace(function)
            new.watch = watch or self._watch(function)
        if ended is not None:
            # Without the lock: it waits for a call that may wait for the lock.
            ended.close()
        if before is not None and before.function.layers != function.layers:
            self._forget_layers()

    def withdraw(self, function_name: str, version: str | None = None) -> None:
        """Let this version be invoked no more, or the whole function. See `Environments.withdraw`."""
        with self._lock:
            versions = self._versions.get(function_name, {})
            gone = [version] if version is not None else list(versions)
            ended = []
            for number in gone:
                published = versions.pop(number, None)
                if published is not None:
                    ended.append(published)
                    self._draining.append(published)
                self._minimums.pop((function_name, number), None)
            if version is None:
                self._versions.pop(function_name, None)
                self._aliases.pop(function_name, None)
                self._provisions.pop(function_name, None)
            self._front.withdraw(function_name, version)
            for published in ended:
                # Also where the front did not know of it.
                published.pool.retire()
            if version is not None:
                self._provisions.get(function_name, {}).pop(version, None)
                self._balance(function_name)
            self._changed.notify_all()
        for published in ended:
            if published.watch is not None:
                published.watch.close()
        if any(published.function.layers for published in ended):
            self._forget_layers()

    def route(self, function_name: str, alias: str, weights: Mapping[str, float] | None) -> None:
        """Let `alias` lead to versions by weight; `None` removes it. See `Environments.route`."""
        with self._lock:
            aliases = self._aliases.setdefault(function_name, {})
            if weights is None:
                aliases.pop(alias, None)
            else:
                aliases[alias] = dict(weights)
            self._front.route(function_name, alias, weights)
            # Provisioned concurrency moves along.
            self._balance(function_name)

    def reserve(self, function_name: str, concurrency: int | None) -> None:
        """Reserve so many environments of the account's for this function. See `Environments.reserve`."""
        self._front.reserve(function_name, concurrency)

    def provision(self, function_name: str, qualifier: str, environments: int) -> None:
        """Keep so many environments of this version or alias started; 0 for none. See `Environments.provision`."""
        with self._lock:
            provisions = self._provisions.setdefault(function_name, {})
            if environments:
                provisions[qualifier] = environments
            else:
                provisions.pop(qualifier, None)
            self._balance(function_name, anew=True)

    def provisioned(self, function_name: str, qualifier: str) -> ProvisionedEnvironments:
        """Return how far the environments are that `provision` asked for; none where it did not."""
        with self._lock:
            requested = self._provisions.get(function_name, {}).get(qualifier, 0)
            shares = self._shares(function_name, qualifier, requested)
            versions = self._versions.get(function_name, {})
            pools = [
                (versions[version].pool, share) for version, share in shares.items() if version in versions
            ]
        allocated = available = 0
        failure: str | None = None
        for pool, share in pools:
            counts = pool.counts()
            allocated += min(share, counts["provisioned"])
            available += min(share, counts["provisioned_ready"])
            if counts["provisioned_failed"]:
                failure = INIT_FAILURE
            elif counts["provisioned"] < share:
                failure = failure or pool.last_failure
        return ProvisionedEnvironments(allocated, available, failure)

    def keep(self, function_name: str, version: str, environments: int) -> None:
        """Have at least so many environments of this version at any time, provisioned ones aside; 0 for none.

        Unlike provisioned ones they count against no concurrency while they are idle. A setting of the local service,
        which AWS does not have.
        """
        with self._lock:
            if environments:
                self._minimums[function_name, version] = environments
            else:
                self._minimums.pop((function_name, version), None)
            published = self._versions.get(function_name, {}).get(version)
            if published is not None:
                self._start_ahead(published)

    def submit(
        self,
        function_name: str,
        qualifier: str | None,
        event: bytes,
        callback: Callable[[InvokeResult], object],
        *,
        request_id: str | None = None,
        client_context: str | None = None,
        trace_id: str | None = None,
        tenant_id: str | None = None,
    ) -> str | None:
        """Run one invocation: for callers behind the service, such as the asynchronous queue.

        `qualifier` is a version or an alias, `None` for `$LATEST`. Returns `None` if it is taken: `callback` is called
        when it is finished, on a thread that must not be held up. An invocation that no environment could be made for
        has a result with `service_error`. Otherwise it returns the `Reason` of the `TooManyRequestsException` for which
        it was not taken.

        Raises `NotPublishedError` for what is not published, and `ValueError` for a value that cannot be sent, a
        missing tenant id, or one that the function has no use for.
        """
        while True:
            with self._lock:
                published = self._pick(function_name, qualifier)
            arn = published.function.function_arn
            try:
                return published.pool.submit(
                    event,
                    callback,
                    request_id=request_id,
                    client_context=client_context,
                    trace_id=trace_id,
                    tenant_id=tenant_id,
                    invoked_function_arn=arn if qualifier is None else f"{arn}:{qualifier}",
                )
            except RuntimeError:
                # Another one has taken its place between the two steps.
                if not published.pool.retired:
                    raise

    def _pick(self, function_name: str, qualifier: str | None) -> _Published:
        version = qualifier or "$LATEST"
        weights = self._aliases.get(function_name, {}).get(version)
        if weights is not None:
            import random

            (version,) = random.choices(list(weights), list(weights.values()))
        published = self._versions.get(function_name, {}).get(version)
        if published is None or self._closed:
            raise NotPublishedError(f"{function_name}:{qualifier or '$LATEST'}")
        return published

    # ---- pools -----------------------------------------------------------------------------------------------------

    def _replace(self, function: FunctionVersion) -> _Published:
        """Publish a new pool for `function`; the one before comes to its end. With the lock."""
        name, version = function.function_name, function.version
        subject: list[_Published] = []
        pool = FunctionPool(
            self._supply,
            subject,
            function_name=name,
            function_version=version,
            region=self._region,
            account_id=self._account,
            tenant_isolation=function.tenant_isolation,
            idle_s=self._idle_s,
        )
        new = _Published(function, pool, subject)
        subject.append(new)
        versions = self._versions.setdefault(name, {})
        before = versions.get(version)
        if before is not None:
            self._draining.append(before)
        versions[version] = new
        self._front.publish(name, version, pool)
        self._balance(name)
        self._start_ahead(new)
        self._changed.notify_all()
        return new

    def _watch(self, function: FunctionVersion) -> CodeWatch | None:
        if not function.watched:
            return None

        def changed(_paths: object = None) -> None:
            self._reload(function.function_name, function.version)

        from caloric.local.code_watch import CodeWatch

        return CodeWatch(str(function.code), changed, gone=changed, wait=False)

    def _reload(self, function_name: str, version: str) -> None:
        """What was saved is what the next invocation runs, in a new environment."""
        with self._lock:
            before = self._versions.get(function_name, {}).get(version)
            if before is None or self._closed or not before.function.watched:
                return
            new = self._replace(before.function)
            new.watch, before.watch = before.watch, None

    def _balance(self, function_name: str, *, anew: bool = False) -> None:
        """Have each version's pool keep what is provisioned of it, by itself or by aliases. With the lock.

        With `anew`, those that could not be started are asked for once more.
        """
        wanted: Counter[str] = Counter()
        for qualifier, count in self._provisions.get(function_name, {}).items():
            wanted.update(self._shares(function_name, qualifier, count))
        for version, published in self._versions.get(function_name, {}).items():
            if published.function.tenant_isolation:
                # Whose would they be?
                continue
            if published.provisioned != wanted[version] or (anew and wanted[version]):
                published.provisioned = wanted[version]
                published.pool.provision(wanted[version])

    def _shares(self, function_name: str, qualifier: str, count: int) -> dict[str, int]:
        """Return how many environments of each version `count` are, for a version or an alias by its weights."""
        weights = self._aliases.get(function_name, {}).get(qualifier)
        if weights is None:
            return {qualifier: count}
        shares: dict[str, int] = {}
        left = count
        # The smaller part is rounded up: a version that is tried out gets at least one.
        for version, weight in sorted(weights.items(), key=lambda item: item[1]):
            share = min(left, math.ceil(count * weight - 1e-9))
            shares[version] = share
            left -= share
        return shares

    def _start_ahead(self, published: _Published) -> None:
        function = published.function
        kept = self._minimums.get((function.function_name, function.version), 0)
        if kept != published.kept and not function.tenant_isolation:
            published.kept = kept
            published.pool.keep(kept)

    def _forget_layers(self) -> None:
        """Remove what is merged of layers that nothing uses any more. One that is gone too soon is merged again."""

        def in_use() -> Iterator[Any]:
            with self._lock:
                for published in (*self._all_published(), *self._draining):
                    yield published.function.layers

        with suppress(OSError):
            self._maker.layers.prune(in_use)

    def _all_published(self) -> list[_Published]:
        return [published for versions in self._versions.values() for published in versions.values()]

    # ---- threads ---------------------------------------------------------------------------------------------------

    def _make_wanted(self) -> None:
        while True:
            # Nothing of the last one is held while the next is waited for.
            wanted = None
            wanted = self._supply.next_wanted()
            if wanted is None:
                return
            try:
                self._make(wanted)
            except CannotMakeError as error:
                wanted.give_up(str(error), error_type=error.error_type, status=error.status)
            except Exception as error:
                # A mistake of ours costs one invocation, and the thread goes on.
                wanted.give_up(f"the environment cannot be made: {error!r}")
                threading.excepthook(
                    threading.ExceptHookArgs(
                        (type(error), error, error.__traceback__, threading.current_thread())
                    )
                )

    def _make(self, wanted: WantedEnvironment) -> None:
        (published,) = wanted.subject
        # One that an invocation asked for is made even if that has found another: as on AWS, a cold start that has
        # begun goes on, and to give it up could cost the invocation that comes at this moment.
        if wanted.ahead and not wanted.still_wanted:
            wanted.give_up(published.pool.last_failure or "it is not needed any more")
            return

        def ended(running: RunningEnvironment) -> None:
            with self._lock:
                published.environments.discard(running)

        running = self._maker.make(
            published.function, ahead=wanted.ahead, provisioned=wanted.provisioned, on_end=ended
        )
        with self._lock:
            self._live.add(running)
            published.environments.add(running)
            self._changed.notify_all()
        try:
            wanted.add(running.environment)
        except RuntimeError:
            # The pool has come to its end meanwhile.
            running.environment.close()

    def _look_after(self) -> None:
        """Keep log streams up to date and small, and let go of what has ended."""
        while True:
            with self._lock:
                if self._closed:
                    return
                if not self._live and not self._draining:
                    self._changed.wait()
                    continue
                live = list(self._live)
            self._look(live)
            with self._lock:
                if not self._closed:
                    self._changed.wait_for(lambda: self._closed, _LOOK_S)

    def _look(self, live: list[RunningEnvironment], *, at_once: bool = False) -> None:
        for running in live:
            running.write_log()
        self._maker.logs.look_after()
        gone = {running for running in live if running.let_go(at_once=at_once)}
        with self._lock:
            self._live -= gone
            ended = [published for published in self._draining if published.pool.ended]
            for published in ended:
                self._draining.remove(published)
                self._count(published)
                published.subject.clear()

    def _count(self, published: _Published) -> None:
        """Keep the figures of a pool that has come to its end."""
        function = published.function
        if function.function_name not in self._versions:
            # Deleted: one that is made anew begins anew.
            self._totals.pop((function.function_name, function.version), None)
            return
        counts = published.pool.counts()
        totals = self._totals.setdefault((function.function_name, function.version), Counter())
        totals.update({name: counts[name] for name in _COUNTED})

    # ---- what is there ---------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what runs, as a JSON document: for `caloric local status`.

        `functions` is a list, one member for each published version, by name: `function`, `version`, `runtime`,
        `environments` (`init`, `busy`, `idle`, `frozen`, `provisioned`, `draining`), `waiting` invocations,
        `coldStarts`, `warmStarts` and `throttled` since the service was started, `memoryMB`, `lastFailure`, and
        `logStreams` of its environments. `totals` adds up, `sandbox` is its name.
        """
        with self._lock:
            published = self._all_published()
            drained: dict[tuple[str, str], list[_Published]] = {}
            for old in self._draining:
                drained.setdefault((old.function.function_name, old.function.version), []).append(old)
            rows = [
                (
                    each,
                    drained.get((each.function.function_name, each.function.version), []),
                    Counter(self._totals.get((each.function.function_name, each.function.version), {})),
                    sorted(each.environments, key=lambda running: running.started),
                )
                for each in published
            ]
        functions = [_status(*row) for row in rows]
        functions.sort(key=lambda row: (row["function"], row["version"]))
        return {
            "functions": functions,
            "totals": {
                "environments": sum(
                    row["environments"][state] for row in functions for state in ("init", "busy", "idle")
                ),
                "coldStarts": sum(row["coldStarts"] for row in functions),
                "warmStarts": sum(row["warmStarts"] for row in functions),
                "memoryMB": round(sum(row["memoryMB"] for row in functions), 1),
            },
            "sandbox": self._maker.sandbox.name,
        }

    # ---- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all environments at the same time, and wait until nothing of them is left. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            published = [*self._all_published(), *self._draining]
            self._changed.notify_all()
        for each in published:
            if each.watch is not None:
                each.watch.close()
        self._supply.close()
        closing = [threading.Thread(target=each.pool.close) for each in published]
        for thread in closing:
            thread.start()
        for thread in (*closing, *self._threads):
            thread.join()
        with self._lock:
            live = list(self._live)
        for running in live:
            running.environment.close()
            running.ended.wait(10)
        self._look(live, at_once=True)

    def __enter__(self) -> LocalEnvironments:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _status(
    published: _Published,
    draining: list[_Published],
    totals: Counter[str],
    environments: list[RunningEnvironment],
) -> dict[str, Any]:
    function, pool = published.function, published.pool
    counts = pool.counts()
    leaving = 0
    for old in draining:
        figures = old.pool.counts()
        totals.update({name: figures[name] for name in _COUNTED})
        leaving += figures["init"] + figures["busy"] + figures["idle"]
    totals.update({name: counts[name] for name in _COUNTED})
    return {
        "function": function.function_name,
        "version": function.version,
        "runtime": function.runtime,
        "environments": {
            **{name: counts[name] for name in ("init", "busy", "idle", "frozen", "provisioned")},
            "draining": leaving,
        },
        "waiting": counts["waiting"],
        "coldStarts": totals["cold_starts"],
        "warmStarts": totals["warm_starts"],
        "throttled": totals["throttled"],
        "memoryMB": round(sum(running.memory_mb() for running in environments), 1),
        "lastFailure": pool.last_failure,
        "logStreams": [running.stream.name for running in environments],
    }
