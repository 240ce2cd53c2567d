"""Layers, their versions and their permissions (spec lambda-service 5.1)."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from caloric.local.service.code import MAX_ZIPPED
from caloric.local.service.layers import (
    add_layer_version_permission,
    delete_layer_version,
    get_layer_version,
    get_layer_version_by_arn,
    get_layer_version_policy,
    list_layer_versions,
    list_layers,
    publish_layer_version,
    remove_layer_version_permission,
)
from tests.local.service.harness import ARN, Harness, zipped
from tests.local.service.recording import eventually

ZIP = zipped({"python/greeting.py": "TEXT = 'hello'\n"})
NOT_THERE = ("ResourceNotFoundException", "The resource you requested does not exist.")
NOT_UNZIPPED = "Could not unzip uploaded file. Please check your file, then try to upload again."


def publish(lambda_: Harness, name: str = "deps", content: bytes = ZIP, **members: Any) -> dict[str, Any]:
    return lambda_(publish_layer_version, LayerName=name, Content={"ZipFile": content}, **members)


# ---- versions --------------------------------------------------------------------------------------------------------


def test_the_first_version_of_a_layer(lambda_: Harness) -> None:
    answer = publish(
        lambda_,
        Description="what we need",
        CompatibleRuntimes=["python3.12"],
        CompatibleArchitectures=["x86_64"],
        LicenseInfo="MIT",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", answer.pop("CreatedDate"))
    assert answer["Content"].pop("Location").startswith("http://127.0.0.1:9001/")
    assert answer == {
        "Content": {
            "CodeSha256": base64.b64encode(hashlib.sha256(ZIP).digest()).decode(),
            "CodeSize": len(ZIP),
        },
        "LayerArn": f"{ARN}:layer:deps",
        "LayerVersionArn": f"{ARN}:layer:deps:1",
        "Version": 1,
        "Description": "what we need",
        "CompatibleRuntimes": ["python3.12"],
        "CompatibleArchitectures": ["x86_64"],
        "LicenseInfo": "MIT",
    }


def test_what_was_not_said_of_a_version_is_left_out(lambda_: Harness) -> None:
    answer = publish(lambda_)
    assert answer["Description"] == ""
    assert not {"CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"} & set(answer)


def test_a_layer_may_be_named_by_its_arn(lambda_: Harness) -> None:
    publish(lambda_, f"{ARN}:layer:deps")
    assert lambda_(get_layer_version, LayerName="deps", VersionNumber=1)["Version"] == 1


def test_get_answers_like_publish_by_name_and_by_arn(lambda_: Harness) -> None:
    published = publish(lambda_, LicenseInfo="MIT")
    by_name = lambda_(get_layer_version, LayerName="deps", VersionNumber=1)
    by_arn = lambda_(get_layer_version_by_arn, Arn=published["LayerVersionArn"])
    for answer in (published, by_name, by_arn):
        del answer["Content"]["Location"]
    assert by_name == by_arn == published


def test_the_same_content_makes_a_new_version(lambda_: Harness) -> None:
    assert [publish(lambda_)["Version"], publish(lambda_)["Version"]] == [1, 2]


def test_numbers_of_deleted_versions_are_not_given_again(lambda_: Harness) -> None:
    for version in (publish(lambda_)["Version"], publish(lambda_)["Version"]):
        assert lambda_(delete_layer_version, LayerName="deps", VersionNumber=version) == {}
    assert lambda_(list_layer_versions, LayerName="deps") == {"LayerVersions": []}
    assert publish(lambda_)["Version"] == 3


def test_a_deleted_version_is_gone_and_may_be_deleted_again(lambda_: Harness) -> None:
    publish(lambda_)
    for _ in range(2):
        assert lambda_(delete_layer_version, LayerName="deps", VersionNumber=1) == {}
    assert lambda_.refused(get_layer_version, LayerName="deps", VersionNumber=1) == NOT_THERE
    assert lambda_(delete_layer_version, LayerName="unknown", VersionNumber=1) == {}


def test_versions_published_at_once_get_different_numbers(lambda_: Harness) -> None:
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda _: publish(lambda_)["Version"], range(24)))
    assert sorted(numbers) == list(range(1, 25))


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("operation", [get_layer_version, delete_layer_version, get_layer_version_policy])
def test_version_numbers_begin_with_1(lambda_: Harness, operation: Any, number: int) -> None:
    assert lambda_.refused(operation, LayerName="deps", VersionNumber=number) == (
        "InvalidParameterValueException",
        "Layer Version Cannot be less than 1",
    )


def test_a_version_that_does_not_exist(lambda_: Harness) -> None:
    assert lambda_.refused(get_layer_version, LayerName="deps", VersionNumber=1) == NOT_THERE
    publish(lambda_)
    assert lambda_.refused(get_layer_version, LayerName="deps", VersionNumber=2) == NOT_THERE
    assert lambda_.refused(get_layer_version_by_arn, Arn=f"{ARN}:layer:deps:2") == NOT_THERE


def test_the_arn_must_be_one_of_a_version(lambda_: Harness) -> None:
    name, message = lambda_.refused(get_layer_version_by_arn, Arn=f"{ARN}:layer:deps")
    assert name == "ValidationException"
    assert message is not None
    assert message.startswith(
        f"1 validation error detected: Value '{ARN}:layer:deps' at 'arn' failed to satisfy constraint: "
    )


def test_a_layer_of_another_account_is_not_ours_to_show(lambda_: Harness) -> None:
    arn = "arn:aws:lambda:eu-west-1:210987654321:layer:deps:1"
    assert lambda_.refused(get_layer_version_by_arn, Arn=arn) == ("AccessDeniedException", None)


# ---- lists -----------------------------------------------------------------------------------------------------------


def test_versions_are_listed_newest_first_without_content(lambda_: Harness) -> None:
    published = [publish(lambda_), publish(lambda_, LicenseInfo="MIT")]
    for version in published:
        del version["Content"], version["LayerArn"]
    assert lambda_(list_layer_versions, LayerName="deps") == {"LayerVersions": published[::-1]}


def test_versions_are_listed_page_by_page(lambda_: Harness) -> None:
    for _ in range(5):
        publish(lambda_)
    seen: list[list[int]] = []
    marker: dict[str, str] = {}
    while True:
        answer = lambda_(list_layer_versions, LayerName="deps", MaxItems=2, **marker)
        seen.append([version["Version"] for version in answer["LayerVersions"]])
        if "NextMarker" not in answer:
            break
        marker = {"Marker": answer["NextMarker"]}
    assert seen == [[5, 4], [3, 2], [1]]


def test_layers_are_listed_with_their_latest_version(lambda_: Harness) -> None:
    publish(lambda_, "b")
    publish(lambda_, "a")
    latest = publish(lambda_, "a")
    del latest["Content"], latest["LayerArn"]
    layers = lambda_(list_layers)["Layers"]
    assert [layer["LayerName"] for layer in layers] == ["a", "b"]
    assert layers[0] == {
        "LayerName": "a",
        "LayerArn": f"{ARN}:layer:a",
        "LatestMatchingVersion": latest,
    }


def test_layers_are_listed_page_by_page(lambda_: Harness) -> None:
    for name in "cab":
        publish(lambda_, name)
    first = lambda_(list_layers, MaxItems=2)
    assert [layer["LayerName"] for layer in first["Layers"]] == ["a", "b"]
    second = lambda_(list_layers, MaxItems=2, Marker=first["NextMarker"])
    assert [layer["LayerName"] for layer in second["Layers"]] == ["c"]
    assert "NextMarker" not in second


def test_lists_leave_out_what_does_not_fit(lambda_: Harness) -> None:
    publish(lambda_, "deps", CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["arm64"])
    publish(lambda_, "deps", CompatibleRuntimes=["python3.13"], CompatibleArchitectures=["x86_64"])
    publish(lambda_, "any")

    def latest(**wanted: str) -> dict[str, int]:
        return {
            layer["LayerName"]: layer["LatestMatchingVersion"]["Version"]
            for layer in lambda_(list_layers, **wanted)["Layers"]
        }

    assert latest() == {"any": 1, "deps": 2}
    assert latest(CompatibleRuntime="python3.12") == {"deps": 1}
    assert latest(CompatibleArchitecture="x86_64") == {"deps": 2}
    assert latest(CompatibleRuntime="python3.12", CompatibleArchitecture="x86_64") == {}
    versions = lambda_(list_layer_versions, LayerName="deps", CompatibleRuntime="python3.12")
    assert [version["Version"] for version in versions["LayerVersions"]] == [1]


# ---- content ---------------------------------------------------------------------------------------------------------


def test_the_content_can_be_downloaded_where_it_says(lambda_: Harness) -> None:
    location = publish(lambda_)["Content"]["Location"]
    answer = lambda_.download(location)
    assert (answer.status_code, answer.content) == (200, ZIP)
    assert answer.headers["content-type"] == "application/zip"
    assert lambda_.download(location.replace("Signature=", "Signature=0")).status_code == 403
    assert lambda_.download(re.sub(r"Expires=\d+", "Expires=99999999999", location)).status_code == 403
    assert lambda_.download(location.split("?")[0]).status_code == 403


def test_an_address_expires(lambda_: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    location = publish(lambda_)["Content"]["Location"]
    later = time.time() + 601
    monkeypatch.setattr(time, "time", lambda: later)
    assert lambda_.download(location).status_code == 403


def test_an_address_is_for_one_content(lambda_: Harness) -> None:
    other = zipped({"other": ""})
    publish(lambda_, content=other)
    location = publish(lambda_)["Content"]["Location"]
    moved = location.replace(hashlib.sha256(ZIP).hexdigest(), hashlib.sha256(other).hexdigest())
    assert moved != location
    assert lambda_.download(moved).status_code == 403


def damaged(archive: bytes) -> bytes:
    at = archive.index(b"python/greeting.py") + len("python/greeting.py")
    return archive[:at] + b"\xff\xff\xff" + archive[at + 3 :]


def with_mode(mode: int, name: str, content: str = "") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"PK nonsense", id="no zip"),
        pytest.param(ZIP[:-10], id="cut off"),
        pytest.param(damaged(ZIP), id="damaged"),
        pytest.param(zipped({"../evil": ""}), id="leads out"),
        pytest.param(zipped({"/etc/evil": ""}), id="absolute"),
        pytest.param(with_mode(0o120777, "link", "../../outside"), id="link out"),
        pytest.param(with_mode(0o020666, "device"), id="device"),
    ],
)
def test_what_cannot_be_unpacked_safely_is_refused_and_not_kept(lambda_: Harness, content: bytes) -> None:
    name, message = lambda_.refused(publish_layer_version, LayerName="deps", Content={"ZipFile": content})
    assert name == "InvalidParameterValueException"
    assert str(message).startswith(NOT_UNZIPPED)
    assert lambda_(list_layers) == {"Layers": []}
    assert not list(lambda_.service.activation.packages.path("").iterdir())
    eventually(lambda: not list(lambda_.service.blobs.path("").iterdir()))
    assert publish(lambda_)["Version"] == 1


@pytest.mark.parametrize("content", [b"", zipped({})], ids=["no bytes", "no files"])
def test_an_empty_archive_is_refused(lambda_: Harness, content: bytes) -> None:
    assert lambda_.refused(publish_layer_version, LayerName="deps", Content={"ZipFile": content}) == (
        "InvalidParameterValueException",
        "Uploaded file must be a non-empty zip",
    )


def test_an_archive_that_is_too_large_unzipped_is_refused_before_it_is_unpacked(lambda_: Harness) -> None:
    # The directory says so; there is no need to make 250 MB.
    content = bytearray(zipped({"large": "x"}))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 262_144_001)
    assert lambda_.refused(publish_layer_version, LayerName="deps", Content={"ZipFile": bytes(content)}) == (
        "InvalidParameterValueException",
        "Unzipped size must be smaller than 262144000 bytes",
    )


def test_an_upload_may_have_50_mb(lambda_: Harness) -> None:
    content = ZIP + bytes(MAX_ZIPPED - len(ZIP))
    assert lambda_.refused(publish_layer_version, LayerName="deps", Content={"ZipFile": content}) == (
        "RequestEntityTooLargeException",
        "Zipped size must be smaller than 52428800 bytes",
    )


def test_there_must_be_content(lambda_: Harness) -> None:
    assert lambda_.refused(publish_layer_version, LayerName="deps", Content={})[0] == (
        "InvalidParameterValueException"
    )


# ---- permissions -----------------------------------------------------------------------------------------------------

VERSION = {"LayerName": "deps", "VersionNumber": 1}
GRANT = {**VERSION, "StatementId": "all", "Action": "lambda:GetLayerVersion", "Principal": "*"}
STALE = (
    "PreconditionFailedException",
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetLayerPolicy API to retrieve the latest Revision Id",
)
NO_POLICY = ("ResourceNotFoundException", "No policy is associated with the given resource.")


def test_a_permission_becomes_a_statement(lambda_: Harness) -> None:
    publish(lambda_)
    answer = lambda_(add_layer_version_permission, **GRANT)
    statement = {
        "Sid": "all",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:GetLayerVersion",
        "Resource": f"{ARN}:layer:deps:1",
    }
    assert json.loads(answer["Statement"]) == statement
    policy = lambda_(get_layer_version_policy, **VERSION)
    assert policy["RevisionId"] == answer["RevisionId"]
    assert json.loads(policy["Policy"]) == {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": [statement],
    }


@pytest.mark.parametrize(
    ("principal", "shown"),
    [
        ("210987654321", {"AWS": "arn:aws:iam::210987654321:root"}),
        ("arn:aws:iam::210987654321:root", {"AWS": "arn:aws:iam::210987654321:root"}),
        ("*", "*"),
    ],
)
def test_principals_of_layers(lambda_: Harness, principal: str, shown: object) -> None:
    publish(lambda_)
    answer = lambda_(add_layer_version_permission, **GRANT | {"Principal": principal})
    assert json.loads(answer["Statement"])["Principal"] == shown


def test_a_permission_for_an_organization(lambda_: Harness) -> None:
    publish(lambda_)
    answer = lambda_(add_layer_version_permission, **GRANT, OrganizationId="o-1234567890")
    assert json.loads(answer["Statement"])["Condition"] == {
        "StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}
    }


def test_permissions_are_removed_one_by_one_and_the_policy_with_the_last(lambda_: Harness) -> None:
    publish(lambda_)
    for sid in ("a", "b"):
        lambda_(add_layer_version_permission, **GRANT | {"StatementId": sid})
    before = lambda_(get_layer_version_policy, **VERSION)["RevisionId"]
    assert lambda_(remove_layer_version_permission, **VERSION, StatementId="a", RevisionId=before) == {}
    policy = lambda_(get_layer_version_policy, **VERSION)
    assert [statement["Sid"] for statement in json.loads(policy["Policy"])["Statement"]] == ["b"]
    assert policy["RevisionId"] != before
    lambda_(remove_layer_version_permission, **VERSION, StatementId="b")
    assert lambda_.refused(get_layer_version_policy, **VERSION) == NO_POLICY


def test_errors_of_permissions(lambda_: Harness) -> None:
    publish(lambda_)
    assert lambda_.refused(get_layer_version_policy, **VERSION) == NO_POLICY
    assert lambda_.refused(remove_layer_version_permission, **VERSION, StatementId="all") == NO_POLICY
    assert lambda_.refused(add_layer_version_permission, **GRANT, RevisionId="old") == STALE
    lambda_(add_layer_version_permission, **GRANT)
    assert lambda_.refused(add_layer_version_permission, **GRANT) == (
        "ResourceConflictException",
        "The statement id (all) provided already exists. "
        "Please provide a new statement id, or remove the existing statement.",
    )
    other = GRANT | {"StatementId": "other"}
    assert lambda_.refused(add_layer_version_permission, **other, RevisionId="old") == STALE
    assert (
        lambda_.refused(remove_layer_version_permission, **VERSION, StatementId="all", RevisionId="old")
        == STALE
    )
    assert lambda_.refused(remove_layer_version_permission, **VERSION, StatementId="other") == (
        "ResourceNotFoundException",
        "Statement other is not found in resource policy.",
    )


def test_permissions_of_a_version_that_does_not_exist(lambda_: Harness) -> None:
    missing = ("ResourceNotFoundException", f"Layer version {ARN}:layer:deps:1 does not exist.")
    assert lambda_.refused(add_layer_version_permission, **GRANT) == missing
    assert lambda_.refused(get_layer_version_policy, **VERSION) == missing
    assert lambda_.refused(remove_layer_version_permission, **VERSION, StatementId="all") == missing


def test_a_policy_has_20_kb_at_most(lambda_: Harness) -> None:
    publish(lambda_)
    added = 0
    while True:
        long = GRANT | {"StatementId": f"{added:0100}"}
        try:
            lambda_(add_layer_version_permission, **long)
        except Exception:
            break
        added += 1
    size = len(lambda_(get_layer_version_policy, **VERSION)["Policy"])
    name, message = lambda_.refused(add_layer_version_permission, **long)
    assert name == "PolicyLengthExceededException"
    assert message is not None
    assert re.fullmatch(r"The final policy size \(\d+\) is bigger than the limit \(20480\)\.", message)
    assert 20_000 < size <= 20_480
    # What was refused is not there.
    assert len(lambda_(get_layer_version_policy, **VERSION)["Policy"]) == size


def test_statements_added_at_once_are_all_there(lambda_: Harness) -> None:
    publish(lambda_)
    names = [f"s{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda sid: lambda_(add_layer_version_permission, **GRANT | {"StatementId": sid}), names
            )
        )
    statements = json.loads(lambda_(get_layer_version_policy, **VERSION)["Policy"])["Statement"]
    assert sorted(statement["Sid"] for statement in statements) == sorted(names)


def test_the_policy_goes_with_its_version(lambda_: Harness) -> None:
    publish(lambda_)
    lambda_(add_layer_version_permission, **GRANT)
    lambda_(delete_layer_version, **VERSION)
    with lambda_.service.store.read() as transaction:
        assert transaction.scan("policy") == []
