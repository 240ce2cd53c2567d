"""Where code comes from, and what is refused before it does harm."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloric.local import archives
from caloric.local.service import code as code_module
from caloric.local.service.errors import ServiceError
from caloric.local.service.functions import (
    create_function,
    get_function,
    get_function_configuration,
    list_functions,
    update_function_code,
)
from caloric.local.service.layers import list_layers, publish_layer_version
from caloric.local.service.versions import publish_version
from tests.local.service.recording import Lambda, new, zipped
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


def refused(aws: Lambda, **code: Any) -> str:
    """Return why a function cannot be created with this code, nor get it."""
    name, message = aws.refused(create_function, **new("refused", Code=code))
    if not aws(list_functions)["Functions"]:
        aws.created("before")
    before = aws(get_function_configuration, FunctionName="before")
    assert aws.refused(update_function_code, FunctionName="before", **code) == (name, message)
    assert aws(get_function_configuration, FunctionName="before") == before
    assert name == "InvalidParameterValueException"
    return message or ""


def member(name: str, mode: int = 0o644, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (2021, 5, 4, 3, 2, 2))
    info.create_system = 3
    info.external_attr = (kind | mode) << 16
    return info


def task(aws: Lambda, name: str = "orders", version: str = "$LATEST") -> Path:
    return aws.environments.versions[name, version].code


# ---- zip files -------------------------------------------------------------------------------------------------------


def test_files_keep_whether_they_can_be_run_and_cannot_be_written(aws: Lambda) -> None:
    package = zipped(
        {
            member("bootstrap", 0o755): "#!/bin/sh",
            member("lib/data", 0o600): "data",
            member("lib/link", 0o777, stat.S_IFLNK): "data",
        }
    )
    aws.created(Code={"ZipFile": package})
    folder = task(aws)
    modes = {
        path: stat.S_IMODE((folder / path).stat().st_mode) for path in ("", "bootstrap", "lib", "lib/data")
    }
    assert modes == {"": 0o555, "bootstrap": 0o555, "lib": 0o555, "lib/data": 0o444}
    assert os.readlink(folder / "lib/link") == "data"
    assert (folder / "lib/link").read_text() == "data"


def test_the_same_code_is_kept_once(aws: Lambda) -> None:
    for name in ("a", "b"):
        aws.created(name)
    assert task(aws, "a") == task(aws, "b")
    assert len(list(aws.service.blobs.folder.iterdir())) == 1


@pytest.mark.parametrize("content", [b"no zip", b"PK\x03\x04" + b"\0" * 100])
def test_what_is_no_zip_file(aws: Lambda, content: bytes) -> None:
    assert refused(aws, ZipFile=content) == NO_ZIP


@pytest.mark.parametrize("content", [b"", zipped({})])
def test_what_is_empty(aws: Lambda, content: bytes) -> None:
    assert refused(aws, ZipFile=content) == "Uploaded file must be a non-empty zip"


@pytest.mark.parametrize(
    ("info", "content", "why"),
    [
        (member("../outside"), "x", "It has the path '../outside', which leads outside."),
        (member("/etc/passwd"), "x", "It has the path '/etc/passwd', which leads outside."),
        (member("a/../../b"), "x", "It has the path 'a/../../b', which leads outside."),
        (
            member("link", 0o777, stat.S_IFLNK),
            "/etc/passwd",
            "It has the link 'link' to '/etc/passwd', which leads outside.",
        ),
        (
            member("a/link", 0o777, stat.S_IFLNK),
            "../../x",
            "It has the link 'a/link' to '../../x', which leads outside.",
        ),
        (member("device", 0o666, stat.S_IFCHR), "", "It has 'device', which is no file, folder or link."),
    ],
)
def test_what_would_lead_outside(aws: Lambda, info: zipfile.ZipInfo, content: str, why: str) -> None:
    assert refused(aws, ZipFile=zipped({"app.py": "x", info: content})) == f"{NO_ZIP} {why}"
    outside = {path.name for path in aws.folder.iterdir()}
    assert outside == {"lock", "state.db", "state.db-wal", "state.db-shm", "blobs", "packages"}
    assert all(len(path.name) == 64 for path in (aws.folder / "packages").iterdir())


def test_nothing_is_written_through_a_link(aws: Lambda, tmp_path: Path) -> None:
    package = zipped({member("link", 0o777, stat.S_IFLNK): str(tmp_path), "link/file": "x"})
    # The folder takes the link's place.
    aws.created(Code={"ZipFile": package})
    assert (task(aws) / "link/file").read_text() == "x"
    assert not (task(aws) / "link").is_symlink()
    assert not (tmp_path / "file").exists()


def test_a_damaged_file_is_refused(aws: Lambda) -> None:
    package = bytearray(zipped({"app.py": os.urandom(5000)}))
    package[1000] ^= 0xFF
    assert refused(aws, ZipFile=bytes(package)).startswith(f"{NO_ZIP} It is damaged: app.py: ")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_files_with_one_name_the_last_counts(aws: Lambda) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("app.py", "first")
        archive.writestr("app.py", "second")
    aws.created(Code={"ZipFile": file.getvalue()})
    assert (task(aws) / "app.py").read_text() == "second"


def test_what_is_too_large(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped({"zeros": b"\0" * 100_000})
    assert len(bomb) < 1000
    for module in (archives, code_module):
        monkeypatch.setattr(module, "MAX_SIZE", 99_999)
    assert refused(aws, ZipFile=bomb) == "Unzipped size must be smaller than 99999 bytes"
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
    many = zipped({f"f{number}": "" for number in range(4)})
    assert refused(aws, ZipFile=many) == "The uploaded file has more than 3 files."


def test_a_bomb_that_lies_about_its_size_gets_no_further_than_that(
    aws: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = zipped({"zeros": b"\0" * 1_000_000}).replace(
        (1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    )
    assert refused(aws, ZipFile=bomb).startswith(NO_ZIP)
    assert not any(path.stat().st_size > 1000 for path in (aws.folder / "packages").rglob("zeros"))


def test_an_upload_has_50_mb_at_most(aws: Lambda) -> None:
    code = {"ZipFile": b"\0" * 52_428_800}
    assert aws.refused(create_function, **new(Code=code)) == (
        "RequestEntityTooLargeException",
        "Zipped size must be smaller than 52428800 bytes",
    )


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_is_changed_anywhere_does_no_harm(aws: Lambda, data: st.DataObject) -> None:
    package = bytearray(
        zipped({"app.py": "x = 1\n" * 20, "a/b": "b", member("c", 0o777, stat.S_IFLNK): "a/b"})
    )
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(package) - 1))
        package[position] = data.draw(st.integers(0, 255))
    if not aws(list_functions)["Functions"]:
        aws.created()
    before = {path.name for path in aws.folder.iterdir()}
    try:
        aws(update_function_code, FunctionName="orders", ZipFile=bytes(package), DryRun=True)
        outcome = "accepted"
    except ServiceError as error:
        outcome = error.name
    assert outcome in ("accepted", "InvalidParameterValueException")
    assert {path.name for path in aws.folder.iterdir()} == before


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my function"
    folder.mkdir()
    (folder / "app.py").write_text("first")
    return folder


def in_place(folder: Path) -> dict[str, str]:
    return {"S3Bucket": "hot-reload", "S3Key": str(folder)}


def test_a_folder_is_served_in_place(aws: Lambda, folder: Path) -> None:
    answer = aws.created(Code=in_place(folder))
    assert (answer["State"], answer["CodeSize"]) == ("Active", 0)
    function = aws.environments.versions["orders", "$LATEST"]
    assert (function.code, function.watched) == (folder, True)
    location = aws(get_function, FunctionName="orders")["Code"]
    assert location == {"RepositoryType": "S3", "Location": folder.as_uri()}
    assert list(aws.service.blobs.folder.iterdir()) == []
    aws(update_function_code, FunctionName="orders", ZipFile=zipped({"app.py": "zip"}))
    aws.settled()
    assert not aws.environments.versions["orders", "$LATEST"].watched
    aws(update_function_code, FunctionName="orders", **in_place(folder))
    aws.settled()
    assert task(aws) == folder


@pytest.mark.parametrize("path", ["relative", "/does/not/exist", "{}/app.py", ""])
def test_only_an_absolute_folder_is_served(aws: Lambda, folder: Path, path: str) -> None:
    path = path.format(folder)
    assert refused(aws, S3Bucket="hot-reload", S3Key=path) == (
        "S3Bucket 'hot-reload' serves the code from the folder on this machine that S3Key names, and "
        f"'{path}' is not the absolute path of an existing folder."
    )


def test_a_version_of_a_folder_does_not_change_with_it(aws: Lambda, folder: Path) -> None:
    (folder / "run").write_text("#!/bin/sh")
    (folder / "run").chmod(0o755)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("app.py")
    aws.created(Code=in_place(folder))
    first = aws(publish_version, FunctionName="orders")
    assert first["CodeSize"] > 0
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/app.cpython-313.pyc").write_bytes(b"")
    assert aws(publish_version, FunctionName="orders")["Version"] == "1"
    (folder / "app.py").write_text("second")
    assert aws(publish_version, FunctionName="orders")["Version"] == "2"
    version = task(aws, version="1")
    assert (version / "app.py").read_text() == (version / "link").read_text() == "first"
    assert os.access(version / "run", os.X_OK)
    assert (version / "empty").is_dir()
    assert not aws.environments.versions["orders", "1"].watched
    assert (task(aws, version="2") / "app.py").read_text() == "second"
    assert aws(get_function, FunctionName="orders:1")["Code"]["Location"].startswith("http://")


def test_a_folder_that_cannot_be_a_package_has_no_version(aws: Lambda, folder: Path) -> None:
    aws.created(Code=in_place(folder))
    (folder / "link").symlink_to("/etc/passwd")
    name, message = aws.refused(publish_version, FunctionName="orders")
    assert name == "InvalidParameterValueException"
    assert "'link' to '/etc/passwd', which leads outside" in (message or "")
    (folder / "link").unlink()
    (folder / "app.py").unlink()
    folder.rmdir()
    _, message = aws.refused(publish_version, FunctionName="orders")
    assert "is not the absolute path of an existing folder" in (message or "")


# ---- S3 --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, Any]]:
    """An endpoint of S3 and a client for it, with the bucket `code`."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 50
        while True:
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="eu-west-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        client.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
        yield endpoint, client
        client.close()
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def with_s3(tmp_path: Path, s3: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    """The service, reading from that endpoint."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    service = Lambda(tmp_path / "data", s3_endpoint=s3[0])
    yield service
    service.close()


def test_code_is_read_from_s3(with_s3: Lambda, s3: tuple[str, Any]) -> None:
    _, client = s3
    first = client.put_object(Bucket="code", Key="a/orders.zip", Body=zipped({"app.py": "first"}))
    client.put_object(Bucket="code", Key="a/orders.zip", Body=zipped({"app.py": "second"}))
    place = {"S3Bucket": "code", "S3Key": "a/orders.zip"}
    with_s3.created(Code=place)
    assert (task(with_s3) / "app.py").read_text() == "second"
    version = {"S3ObjectVersion": first["VersionId"]}
    with_s3(update_function_code, FunctionName="orders", **place, **version)
    with_s3.settled()
    assert (task(with_s3) / "app.py").read_text() == "first"


def test_a_layer_is_read_from_s3(with_s3: Lambda, s3: tuple[str, Any]) -> None:
    content = zipped({"python/greeting.py": "TEXT = 'hello'"})
    s3[1].put_object(Bucket="code", Key="layer.zip", Body=content)
    place = {"S3Bucket": "code", "S3Key": "layer.zip"}
    layer = with_s3(publish_layer_version, LayerName="deps", Content=place)
    assert layer["Content"]["CodeSize"] == len(content)
    assert with_s3.refused(publish_layer_version, LayerName="deps", Content=place | {"S3Key": "x"}) == (
        "InvalidParameterValueException",
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. "
        "S3 Error Message: The specified key does not exist.",
    )
    (listed,) = with_s3(list_layers)["Layers"]
    assert listed["LatestMatchingVersion"]["Version"] == 1


def test_what_s3_does_not_have(with_s3: Lambda, s3: tuple[str, Any]) -> None:
    s3[1].put_object(Bucket="code", Key="text", Body=b"no zip")
    assert refused(with_s3, S3Bucket="no-such-bucket", S3Key="x") == (
        "Error occurred while GetObject. S3 Error Code: NoSuchBucket. "
        "S3 Error Message: The specified bucket does not exist"
    )
    assert refused(with_s3, S3Bucket="code", S3Key="x") == (
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. "
        "S3 Error Message: The specified key does not exist."
    )
    assert refused(with_s3, S3Bucket="code", S3Key="text") == NO_ZIP
    assert refused(with_s3, S3Bucket="code") == "Please provide both S3Bucket and S3Key."
    both = {"S3Bucket": "code", "S3Key": "x", "ZipFile": b"x"}
    assert refused(with_s3, **both) == (
        "Please do not provide other FunctionCode parameters when providing a ZipFile."
    )


def test_an_object_in_s3_is_not_read_beyond_the_limit(
    with_s3: Lambda, s3: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3[1].put_object(Bucket="code", Key="large", Body=zipped({"x": os.urandom(2000)}))
    monkeypatch.setattr(code_module, "MAX_SIZE", 1000)
    assert refused(with_s3, S3Bucket="code", S3Key="large") == "Unzipped size must be smaller than 1000 bytes"


def test_an_endpoint_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    endpoint = f"http://127.0.0.1:{free_port()}"
    aws = Lambda(tmp_path / "data", s3_endpoint=endpoint)
    message = refused(aws, S3Bucket="code", S3Key="x")
    assert message.startswith("Error occurred while GetObject. Could not connect to the endpoint URL: ")
    assert endpoint in message
    aws.close()
