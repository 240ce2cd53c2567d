"""What makes functions ready, and keeps the environments at what the store says.

Operations tell the environments of a change inside the transaction that writes it, so that they hear of changes in the
order in which these are made. What takes time, after a creation or an update, goes on here on a thread of its own, and
is taken up again at the next start if the service ends before.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloric.local.archives import ArchiveError
from caloric.local.environments.interface import FunctionVersion
from caloric.local.service.concurrency import restore_concurrency
from caloric.local.service.names import LATEST, function_arn
from caloric.local.service.states import fail, is_unfinished, succeed
from caloric.local.state.errors import StateError
from caloric.local.state.packages import Packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from caloric.local.service.service import LambdaService

__all__ = ["Activation", "function_version", "running", "weights"]

_LOG = logging.getLogger("caloric.local.service")

_NO_IMAGES = "The local Lambda does not run container images yet. Create the function from a zip file or from a folder."


class Activation:
    """Makes what the documents of `service` say happen. Safe for threads."""

    def __init__(self, service: LambdaService) -> None:
        self._service = service
        self.packages = Packages(service.blobs.folder.parent / "packages", service.blobs)
        # Two: what takes long, such as unpacking a large layer again, holds up one of them only.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="activation")
        self._collection_waits = False

    def start(self) -> None:
        """Publish what can be invoked, and go on with what was left unfinished. Once, before anything else runs."""
        service = self._service
        with service.store.read() as transaction:
            versions = transaction.scan("version")
            layer_versions = transaction.scan("layer_version")
            aliases = transaction.scan("alias")
        digests = _referenced([*versions, *layer_versions])
        # Nothing runs yet and nothing is added.
        self.packages.collect(digests)
        service.blobs.collect(lambda: digests)
        unpacked = self.packages.digests()
        waiting: set[str] = set()
        for (name, version), document in versions:
            runs = running(document)
            if runs is not None:
                if unpacked.issuperset(_digests(runs)):
                    service.environments.publish(function_version(service, name, version, runs))
                else:
                    waiting.add(name)
            if is_unfinished(document):
                waiting.add(name)
        for (name, alias), document in aliases:
            service.environments.route(name, alias, weights(document))
        restore_concurrency(service)
        for name in sorted(waiting):
            self.begin(name)

    def begin(self, name: str) -> None:
        """Make the function's versions ready, as far as they are not; returns at once."""
        self._submit(self._activate, name)

    def collect(self) -> None:
        """Remove the zip files that nothing refers to any more, soon."""
        if not self._collection_waits:
            self._collection_waits = True
            self._submit(self._collect)

    def close(self) -> None:
        """Finish what is being done; what waits is done after the next start."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _submit(self, function: Any, *arguments: object) -> None:
        try:
            self._threads.submit(self._logged, function, *arguments)
        except RuntimeError:
            # After `close`: the documents say what is left to do.
            _LOG.debug("closed before %s", function.__name__)

    def _logged(self, function: Any, *arguments: object) -> None:
        try:
            function(*arguments)
        except StateError as error:
            _LOG.error("%s", error)
        except Exception:
            _LOG.exception("%s failed", function.__name__)

    def _activate(self, name: str) -> None:
        with self._service.store.read() as transaction:
            versions = transaction.scan("version", name)
        for (_, version), document in versions:
            runs = running(document)
            if is_unfinished(document):
                self._finish(name, version, document)
            elif runs is not None and not self.packages.digests().issuperset(_digests(runs)):
                self._restore(name, version, document, runs)

    def _finish(self, name: str, version: int, seen: Mapping[str, Any]) -> None:
        """End the creation or update that `seen` has begun, with success or not."""
        problem = self._prepare(seen)
        service = self._service
        with service.store.write() as transaction:
            document = transaction.get("version", name, version)
            # Deleted, or changed again: whoever did that has begun what follows.
            if document is None or document["Change"] != seen["Change"] or not is_unfinished(document):
                return
            if problem is None:
                problem = self._publish(name, version, document)
            if problem is None:
                document.pop("Running", None)
                succeed(document)
                if version and document["SnapStart"]["ApplyOn"] != "None":
                    document["SnapStart"]["OptimizationStatus"] = "On"
            else:
                fail(document, *problem)
            transaction.put("version", name, version, document=document)

    def _restore(self, name: str, version: int, seen: Mapping[str, Any], runs: Mapping[str, Any]) -> None:
        """Unpack again what was, and is gone."""
        problem = self._prepare(runs)
        service = self._service
        with service.store.write() as transaction:
            document = transaction.get("version", name, version)
            if document is None or document["Change"] != seen["Change"]:
                return
            if problem is None:
                problem = self._publish(name, version, runs)
            if problem is not None:
                _LOG.error("%s cannot be run: %s", function_arn(service, name), problem[0])
                fail(document, *problem)
                transaction.put("version", name, version, document=document)

    def _publish(self, name: str, version: int, document: Mapping[str, Any]) -> tuple[str, str] | None:
        """Let the version be invoked; return the reason and its code where that failed."""
        service = self._service
        try:
            service.environments.publish(function_version(service, name, version, document))
        except Exception as error:
            # A fault of ours, which leaves one function unusable and not pending for ever.
            _LOG.exception("%s cannot be published", function_arn(service, name))
            return f"The function cannot be published: {error}", "InternalError"
        return None

    def _prepare(self, document: Mapping[str, Any]) -> tuple[str, str] | None:
        """Unpack what is not; return the reason and its code where the version cannot be run."""
        if "ImageUri" in document["Code"]:
            return _NO_IMAGES, "InvalidImage"
        try:
            for digest in _digests(document):
                self.packages.unpack(digest)
        except ArchiveError as error:
            return (
                f"The code or a layer cannot be unpacked: {error.archive} {error.problem}.",
                "InvalidZipFileException",
            )
        except OSError as error:
            return f"The code or a layer cannot be unpacked: {error}.", "InternalError"
        return None

    def _collect(self) -> None:
        self._collection_waits = False
        self._service.blobs.collect(self._referenced)

    def _referenced(self) -> set[str]:
        with self._service.store.read() as transaction:
            return _referenced([*transaction.scan("version"), *transaction.scan("layer_version")])


def running(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the document that invocations of a version run on now, if it can be invoked."""
    if document["State"] != "Active":
        return None
    if document["LastUpdateStatus"] == "Successful":
        return document
    before: Mapping[str, Any] | None = document.get("Running")
    return before


def function_version(
    service: LambdaService, name: str, version: int, document: Mapping[str, Any]
) -> FunctionVersion:
    """Return what the environments need to know of a version whose code and layers are unpacked."""
    packages, code, log = service.activation.packages, document["Code"], document["LoggingConfig"]
    return FunctionVersion(
        function_name=name,
        version=str(version) if version else LATEST,
        function_arn=function_arn(service, name),
        runtime=document["Runtime"],
        handler=document["Handler"],
        code=Path(code["Folder"]) if "Folder" in code else packages.path(code["Digest"]),
        timeout_s=document["Timeout"],
        memory_mb=document["MemorySize"],
        ephemeral_storage_mb=document["EphemeralStorage"]["Size"],
        layers=tuple(packages.path(digest) for digest in document["LayerDigests"]),
        variables=document.get("Environment", {}).get("Variables", {}),
        log_format=log["LogFormat"],
        application_log_level=log.get("ApplicationLogLevel"),
        system_log_level=log.get("SystemLogLevel"),
        log_group=log["LogGroup"],
        tenant_isolation="TenancyConfig" in document,
        watched="Folder" in code,
    )


def weights(alias: Mapping[str, Any]) -> dict[str, float]:
    """Return the versions that an alias's document leads to, with the share of each; they add up to 1."""
    additional: dict[str, float] = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    return {alias["FunctionVersion"]: 1 - sum(additional.values()), **additional}


def _referenced(documents: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> set[str]:
    """Return the digests of all zip files that documents of versions and layer versions refer to."""
    digests: set[str] = set()
    for _, document in documents:
        digests.update(_digests(document))
        digests.update(_digests(document["Running"]) if "Running" in document else ())
    return digests


def _digests(document: Mapping[str, Any]) -> Iterator[str]:
    yield from document.get("LayerDigests", ())
    digest = document.get("Digest") or document.get("Code", {}).get("Digest")
    if digest is not None:
        yield digest
