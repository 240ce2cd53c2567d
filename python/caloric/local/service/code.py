"""Where the code of functions comes from: uploaded zip files, objects in S3, folders served in place, image URIs.

A zip file is checked and unpacked before it is accepted, so that what is stored can be run. Who made it is unknown: see
`caloric.local.archives`. Layers come the same ways, but folders.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloric.local.archives import (
    MAX_SIZE,
    ArchiveError,
    MergedArchives,
    NotAnArchiveError,
    TooLargeError,
)
from caloric.local.service.downloads import download_location
from caloric.local.service.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

__all__ = [
    "HOT_RELOAD",
    "MAX_ZIPPED",
    "Archive",
    "Code",
    "code_location",
    "code_sha256",
    "given_code",
    "snapshot_of_folder",
    "stored_archive",
]

HOT_RELOAD = "hot-reload"
"""The S3 bucket that is none: its keys are absolute paths of folders on this machine, which are served in place."""

MAX_ZIPPED = 52_428_800
"""So many bytes a zip file may have that is uploaded through the API (spec lambda-service 0.6)."""


@dataclass(frozen=True)
class Archive:
    """A zip file that was accepted, and is stored and unpacked."""

    digest: str
    """By which `Blobs` and `Packages` know it."""
    size: int
    """In bytes, zipped: the API's `CodeSize`."""
    unzipped_size: int


@dataclass(frozen=True)
class Code:
    """What a function is to run."""

    document: dict[str, Any]
    """The member `Code` of its document (`configuration`)."""
    members: dict[str, Any]
    """The other members of the document that follow from it."""


def code_sha256(digest: str) -> str:
    """Return the API's `CodeSha256` of the content that `Blobs` know by `digest`."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


@contextmanager
def given_code(service: LambdaService, source: Members, package_type: str) -> Iterator[Code]:
    """Take the code that `source` has or refers to: `Code` of CreateFunction, or the request of UpdateFunctionCode.

    Inside the block nothing removes it; the document that refers to it is written there.

    Raises:
        ServiceError: `InvalidParameterValueException` for an image where a zip file is wanted or the other way round,
            and for a folder that is not there; what `stored_archive` raises.
    """
    key = {"SourceKMSKeyArn": source["SourceKMSKeyArn"]} if source.get("SourceKMSKeyArn") else {}
    if package_type == "Image":
        if not source.get("ImageUri"):
            raise _invalid("Please provide ImageUri when updating a function with packageType Image.")
        # AWS's is the digest of the image, which nobody has looked up here.
        digest = hashlib.sha256(source["ImageUri"].encode()).hexdigest()
        yield Code({"ImageUri": source["ImageUri"]}, {"CodeSha256": digest, "CodeSize": 0})
    elif source.get("ImageUri"):
        raise _invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
    elif source.get("S3Bucket") == HOT_RELOAD and source.get("ZipFile") is None:
        folder = _folder(source.get("S3Key", ""))
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()
        yield Code({"Folder": folder}, {"CodeSha256": code_sha256(digest), "CodeSize": 0})
    else:
        with stored_archive(service, source, "function") as archive:
            yield Code({"Digest": archive.digest, **key}, _archive_members(archive))


@contextmanager
def stored_archive(service: LambdaService, source: Members, subject: str) -> Iterator[Archive]:
    """Take the zip file that `source` has or refers to, check it, and keep it with its contents unpacked.

    `source` is `Content` of PublishLayerVersion, or has the same members of CreateFunction and UpdateFunctionCode:
    `ZipFile`, or `S3Bucket`, `S3Key` and perhaps `S3ObjectVersion`. `subject` is named where neither is given. Inside
    the block nothing removes it; the document that refers to it is written there.

    Raises:
        ServiceError: `InvalidParameterValueException` for no source or two, an object of S3 that cannot be had, and
            what is no zip file, is damaged, unsafe or too large unzipped; `RequestEntityTooLargeException` for an
            upload of more than `MAX_ZIPPED` bytes (texts: spec lambda-service 2.2).
    """
    content = _content(service, source, subject)
    try:
        with _stored(service, content) as archive:
            yield archive
    except ServiceError:
        # Here or inside the block: no document refers to it.
        service.activation.collect()
        raise


@contextmanager
def snapshot_of_folder(service: LambdaService, folder: str) -> Iterator[Code]:
    """Keep what is in a folder served in place as a zip file, for a version, which never changes.

    The same contents make the same file. What Python keeps in `__pycache__` is left out.

    Raises:
        ServiceError: `InvalidParameterValueException` when the folder is not there or cannot be a package.
    """
    with _stored(service, _zipped(_folder(folder))) as archive:
        yield Code({"Digest": archive.digest}, _archive_members(archive))


def code_location(service: LambdaService, code: Mapping[str, Any]) -> dict[str, Any]:
    """Return the API's FunctionCodeLocation of the member `Code` of a document."""
    if "ImageUri" in code:
        return {"RepositoryType": "ECR", "ImageUri": code["ImageUri"], "ResolvedImageUri": code["ImageUri"]}
    if "Folder" in code:
        return {"RepositoryType": "S3", "Location": Path(code["Folder"]).as_uri()}
    location = {"RepositoryType": "S3", "Location": download_location(service, code["Digest"])}
    if "SourceKMSKeyArn" in code:
        location["SourceKMSKeyArn"] = code["SourceKMSKeyArn"]
    return location


def _archive_members(archive: Archive) -> dict[str, Any]:
    return {
        "CodeSha256": code_sha256(archive.digest),
        "CodeSize": archive.size,
        "UnzippedSize": archive.unzipped_size,
    }


@contextmanager
def _stored(service: LambdaService, content: bytes) -> Iterator[Archive]:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise _not_unzipped()
    with service.blobs.adding(content) as digest:
        path = str(service.blobs.path(digest))
        try:
            merged = MergedArchives([path])
            merged.close()
            if not merged.root.members:
                raise _invalid("Uploaded file must be a non-empty zip")
            service.activation.packages.unpack(digest)
        except TooLargeError as error:
            if error.limit.startswith(str(MAX_SIZE)):
                raise _invalid(f"Unzipped size must be smaller than {MAX_SIZE} bytes") from None
            raise _invalid(f"The uploaded file has more than {error.limit}.") from None
        except NotAnArchiveError:
            raise _not_unzipped() from None
        except ArchiveError as error:
            raise _invalid(f"{_NOT_UNZIPPED} It {error.problem}.") from None
        yield Archive(digest, len(content), merged.size)


_NOT_UNZIPPED = "Could not unzip uploaded file. Please check your file, then try to upload again."


def _not_unzipped() -> ServiceError:
    return _invalid(_NOT_UNZIPPED)


def _content(service: LambdaService, source: Members, subject: str) -> bytes:
    in_s3 = source.get("S3Bucket") is not None or source.get("S3Key") is not None
    content: bytes | None = source.get("ZipFile")
    if content is None and not in_s3:
        raise _invalid(f"Please provide a source for {subject} code.")
    if content is None:
        return _of_s3(service, source)
    if in_s3:
        raise _invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
    if not content:
        raise _invalid("Uploaded file must be a non-empty zip")
    if len(content) >= MAX_ZIPPED:
        raise ServiceError(
            "RequestEntityTooLargeException", f"Zipped size must be smaller than {MAX_ZIPPED} bytes"
        )
    return content


def _of_s3(service: LambdaService, source: Members) -> bytes:
    """Read an object through `service.s3_endpoint`, or from where botocore is configured for."""
    # It costs a fifth of a second to import, and little code comes from S3.
    import botocore.config
    import botocore.exceptions
    import botocore.session

    if not (source.get("S3Bucket") and source.get("S3Key")):
        raise _invalid("Please provide both S3Bucket and S3Key.")
    place = {"Bucket": source["S3Bucket"], "Key": source["S3Key"]}
    if source.get("S3ObjectVersion"):
        place["VersionId"] = source["S3ObjectVersion"]
    options: dict[str, Any] = {"region_name": service.region}
    if service.s3_endpoint is not None:
        # A bucket's name as part of the host's does not resolve at most endpoints that are not AWS's.
        options["endpoint_url"] = service.s3_endpoint
        options["config"] = botocore.config.Config(s3={"addressing_style": "path"})
    try:
        answer = botocore.session.get_session().create_client("s3", **options).get_object(**place)
        with answer["Body"] as body:
            # Whatever it says about its length: one byte more than is allowed tells it apart.
            content: bytes = body.read(MAX_SIZE + 1)
    except botocore.exceptions.ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        raise _invalid(
            f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        ) from None
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError) as error:
        raise _invalid(f"Error occurred while GetObject. {error}") from None
    if len(content) > MAX_SIZE:
        raise _invalid(f"Unzipped size must be smaller than {MAX_SIZE} bytes")
    return content


def _folder(path: str) -> str:
    if not (os.path.isabs(path) and os.path.isdir(path)):
        raise _invalid(
            f"S3Bucket '{HOT_RELOAD}' serves the code from the folder on this machine that S3Key names, and "
            f"'{path}' is not the absolute path of an existing folder."
        )
    return os.path.normpath(path)


def _zipped(folder: str) -> bytes:
    file = io.BytesIO()
    try:
        # Looks at all of it first: what is too large, or no file, folder or link.
        merged = MergedArchives([folder])
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for entry in sorted(merged.entries()):
                if "__pycache__" in entry.path.split("/"):
                    continue
                directory = entry.kind == stat.S_IFDIR
                member = zipfile.ZipInfo(entry.path + "/" * directory)
                member.create_system = 3
                member.external_attr = (entry.kind | entry.permissions) << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                if directory:
                    content = b""
                elif entry.kind == stat.S_IFLNK:
                    content = os.fsencode(entry.link)
                else:
                    content = Path(folder, entry.path).read_bytes()
                archive.writestr(member, content)
    except TooLargeError as error:
        raise _invalid(f"'{folder}' cannot be published: it has more than {error.limit}.") from None
    except ArchiveError as error:
        raise _invalid(f"'{folder}' cannot be published: it {error.problem}.") from None
    except OSError as error:
        raise _invalid(f"'{folder}' cannot be published: {error.filename}: {error.strerror}.") from None
    return file.getvalue()


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message)
