"""Zip archives as they are uploaded, of layers and of code: where they come from, and what is kept of them.

An archive is unpacked before it is accepted, so that what is stored can be run. Who made it is unknown: nothing of it
is written outside its folder, and it may not be larger unzipped than AWS allows (`caloric.local.archives`).
"""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from caloric.local.archives import MAX_SIZE, ArchiveError, MergedArchives, TooLargeError
from caloric.local.service.errors import ServiceError

if TYPE_CHECKING:
    from caloric.local.service.operations import Members
    from caloric.local.service.service import LambdaService

__all__ = ["MAX_ZIPPED", "Archive", "code_sha256", "store_archive"]

MAX_ZIPPED = 52_428_800
"""So many bytes an archive may have that is uploaded through the API (spec lambda-service 0.6)."""


@dataclass(frozen=True)
class Archive:
    """An archive that was accepted and is stored."""

    digest: str
    """By which `Blobs` know it."""
    size: int
    """In bytes, zipped: the API's `CodeSize`."""
    unzipped_size: int


def code_sha256(digest: str) -> str:
    """Return the API's `CodeSha256` of the archive that `Blobs` know by `digest`."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def store_archive(service: LambdaService, source: Members, subject: str = "layer") -> Archive:
    """Take the archive that `source` has or refers to, check it, and keep it.

    `source` is `Content` of PublishLayerVersion, or has the same members of CreateFunction and UpdateFunctionCode:
    `ZipFile`, or `S3Bucket`, `S3Key` and perhaps `S3ObjectVersion`. `subject` is named where neither is given.

    Raises:
        ServiceError: `InvalidParameterValueException` for no source or two, an object of S3 that cannot be had, and
            what is no zip archive, is damaged, unsafe or too large unzipped; `RequestEntityTooLargeException` for an
            upload of more than `MAX_ZIPPED` bytes (texts: spec lambda-service 2.2).
    """
    content = _content(source, subject)
    with tempfile.TemporaryDirectory(dir=service.blobs.path("").parent, prefix=".new-") as temporary:
        archive, contents = Path(temporary, "archive"), Path(temporary, "contents")
        archive.write_bytes(content)
        contents.mkdir()
        size = _unpack(archive, contents)
        return Archive(service.blobs.add(content), len(content), size)


def _unpack(archive: Path, contents: Path) -> int:
    try:
        merged = MergedArchives([str(archive)])
        merged.unpack(str(contents))
    except TooLargeError:
        raise _refused(f"Unzipped size must be smaller than {MAX_SIZE} bytes") from None
    except ArchiveError:
        raise _refused(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        ) from None
    if not any(contents.iterdir()):
        raise _refused("Uploaded file must be a non-empty zip")
    return merged.size


def _content(source: Members, subject: str) -> bytes:
    in_s3 = source.get("S3Bucket") is not None or source.get("S3Key") is not None
    content: bytes | None = source.get("ZipFile")
    if content is None and not in_s3:
        raise _refused(f"Please provide a source for {subject} code.")
    if content is None:
        return _of_s3(source)
    if in_s3:
        raise _refused("Please do not provide other FunctionCode parameters when providing a ZipFile.")
    if not content:
        raise _refused("Uploaded file must be a non-empty zip")
    if len(content) >= MAX_ZIPPED:
        raise ServiceError(
            "RequestEntityTooLargeException", f"Zipped size must be smaller than {MAX_ZIPPED} bytes"
        )
    return content


def _of_s3(source: Members) -> bytes:
    # It costs a fifth of a second to import, and few archives come from S3.
    import botocore.exceptions
    import botocore.session

    place = {"Bucket": source.get("S3Bucket"), "Key": source.get("S3Key")}
    if source.get("S3ObjectVersion") is not None:
        place["VersionId"] = source["S3ObjectVersion"]
    try:
        client = botocore.session.get_session().create_client("s3")
        answer = client.get_object(**place)
        if answer["ContentLength"] > MAX_SIZE:
            raise _refused(f"Unzipped size must be smaller than {MAX_SIZE} bytes")
        content: bytes = answer["Body"].read()
    except botocore.exceptions.ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        raise _refused(
            f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        ) from None
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError) as error:
        raise _refused(f"Error occurred while GetObject. {error}") from None
    return content


def _refused(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message)
