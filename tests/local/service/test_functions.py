"""Functions from creation to deletion, as AWS answers (spec lambda-service 2.1 and 2.2)."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from caloric.local.service.aliases import create_alias
from caloric.local.service.functions import (
    create_function,
    delete_function,
    get_function,
    get_function_configuration,
    list_functions,
    update_function_code,
    update_function_configuration,
)
from caloric.local.service.versions import list_versions_by_function, publish_version
from tests.local.service.recording import ARN, ROLE, Lambda, eventually, new, zipped

if TYPE_CHECKING:
    from pathlib import Path

STALE = (
    "PreconditionFailedException",
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
)
IN_PROGRESS = (
    "ResourceConflictException",
    f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}:orders",
)


def invalid(message: str) -> tuple[str, str]:
    return "InvalidParameterValueException", message


def not_found(arn: str) -> tuple[str, str]:
    return "ResourceNotFoundException", f"Function not found: {arn}"


def hold(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let nothing become ready before the event is set."""
    go_on = threading.Event()
    prepare = aws.service.activation._prepare

    def prepare_later(document: Any) -> Any:
        assert go_on.wait(30)
        return prepare(document)

    monkeypatch.setattr(aws.service.activation, "_prepare", prepare_later)
    return go_on


# ---- creation --------------------------------------------------------------------------------------------------------


def test_a_function_is_pending_and_then_active(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = hold(aws, monkeypatch)
    package = new()["Code"]["ZipFile"]
    answer = aws.create()
    runtime_version = answer["RuntimeVersionConfig"]["RuntimeVersionArn"]
    assert re.fullmatch(r"arn:aws:lambda:eu-west-1::runtime:[0-9a-f]{64}", runtime_version)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", answer["LastModified"])
    uuid.UUID(answer["RevisionId"])
    expected = {
        "FunctionName": "orders",
        "FunctionArn": f"{ARN}:orders",
        "Runtime": "python3.13",
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(package),
        "CodeSha256": base64.b64encode(hashlib.sha256(package).digest()).decode(),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "LastModified": answer["LastModified"],
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": answer["RevisionId"],
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "RuntimeVersionConfig": {"RuntimeVersionArn": runtime_version},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/orders"},
    }
    pending = {
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
    }
    assert answer == expected | pending
    assert aws.environments.versions == {}
    go_on.set()
    ready = aws.settled()
    assert ready["RevisionId"] != answer["RevisionId"]
    assert ready == expected | {
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "RevisionId": ready["RevisionId"],
    }
    function = aws.environments.versions["orders", "$LATEST"]
    assert (function.runtime, function.handler) == ("python3.13", "app.handler")
    assert (function.timeout_s, function.memory_mb, function.ephemeral_storage_mb) == (3, 128, 512)
    assert (function.function_arn, function.log_group) == (f"{ARN}:orders", "/aws/lambda/orders")
    assert (function.code / "app.py").read_text() == "def handler(event, context): return event"


def test_a_function_is_created_by_its_arn(aws: Lambda) -> None:
    assert aws.create(f"{ARN}:orders")["FunctionName"] == "orders"
    assert aws.create("123456789012:function:bills")["FunctionName"] == "bills"
    assert aws.refused(create_function, **new("arn:aws:lambda:us-east-1:123456789012:function:orders")) == (
        "ResourceNotFoundException",
        "Functions from 'us-east-1' are not reachable in this region ('eu-west-1')",
    )
    name, message = aws.refused(create_function, **new("n" * 65))
    assert name == "InvalidParameterValueException"
    assert "length less than or equal to 64" in (message or "")


def test_a_name_is_taken_once(aws: Lambda) -> None:
    aws.create()
    conflict = "ResourceConflictException", "Function already exist: orders"
    assert aws.refused(create_function, **new()) == conflict
    assert aws.refused(create_function, **new(Code={"ZipFile": b"no zip"})) == conflict


def test_what_is_configured_is_kept(aws: Lambda) -> None:
    configured: dict[str, Any] = {
        "Description": "Takes orders",
        "Timeout": 30,
        "MemorySize": 512,
        "EphemeralStorage": {"Size": 1024},
        "Architectures": ["arm64"],
        "Environment": {"Variables": {"STAGE": "test"}},
        "KMSKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1",
        "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:eu-west-1:123456789012:dead"},
        "TracingConfig": {"Mode": "Active"},
        "FileSystemConfigs": [
            {"Arn": "arn:aws:elasticfilesystem:…:access-point/a", "LocalMountPath": "/mnt/a"}
        ],
        "TenancyConfig": {"TenantIsolationMode": "PER_TENANT"},
    }
    answer = aws.created(**configured)
    assert {member: answer[member] for member in configured} == configured
    function = aws.environments.versions["orders", "$LATEST"]
    assert (function.timeout_s, function.memory_mb, function.ephemeral_storage_mb) == (30, 512, 1024)
    assert (function.variables, function.tenant_isolation) == ({"STAGE": "test"}, True)


def test_an_empty_environment_is_kept_and_none_is_not_made_up(aws: Lambda) -> None:
    assert aws.create(Environment={})["Environment"] == {"Variables": {}}
    assert "Environment" not in aws.create("bills")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"Runtime": None},
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ),
        (
            {"Runtime": "python3.7"},
            "The runtime parameter of python3.7 is no longer supported for creating or updating AWS Lambda functions. "
            "We recommend you use a supported runtime while creating or updating functions.",
        ),
        (
            {"Environment": {"Variables": {"AWS_REGION": "x", "OK": "1", "_HANDLER": "y"}}},
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            "Reserved keys used in this request: AWS_REGION, _HANDLER",
        ),
        (
            {"Environment": {"Variables": {"SMALL": "ok", "LARGE": "x" * 4096}}},
            "Lambda was unable to configure your environment variables because the environment variables you have "
            'provided exceeded the 4KB limit. String measured: {"SMALL":"ok","LARGE":"' + "x" * 4096 + '"}',
        ),
        (
            {"LoggingConfig": {"ApplicationLogLevel": "DEBUG"}},
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change '
            'the LogFormat to "JSON" and try again.',
        ),
        (
            {"SnapStart": {"ApplyOn": "PublishedVersions"}, "Runtime": "python3.11"},
            "python3.11 is not supported for SnapStart enabled functions.",
        ),
        ({"Code": {}}, "Please provide a source for function code."),
        (
            {"Code": {"ImageUri": "a/b:c"}},
            "Please don't provide ImageUri when updating a function with packageType Zip.",
        ),
        (
            {"PackageType": "Image"},
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.",
        ),
        (
            {"PackageType": "Image", "Runtime": None, "Handler": None},
            "Please provide ImageUri when updating a function with packageType Image.",
        ),
        ({"DurableConfig": {"ExecutionTimeout": 1}}, "DurableConfig is not supported by the local Lambda."),
    ],
)
def test_what_a_function_cannot_be_created_with(aws: Lambda, members: dict[str, Any], message: str) -> None:
    request = {member: value for member, value in new(**members).items() if value is not None}
    assert aws.refused(create_function, **request) == invalid(message)
    assert aws(list_functions) == {"Functions": []}


def test_an_unknown_runtime_is_refused_with_those_there_are(aws: Lambda) -> None:
    name, message = aws.refused(create_function, **new(Runtime="PYTHON3.9"))
    assert name == "InvalidParameterValueException"
    assert re.fullmatch(
        r"Value PYTHON3\.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
        r"\[.*python3\.13.*provided\.al2023\] or be a valid ARN",
        message or "",
    )


def test_4096_bytes_of_environment_variables_are_allowed(aws: Lambda) -> None:
    value = "x" * (4096 - len('{"V":""}') - 2)
    variables = {"V": value + "é"}
    assert aws.create(Environment={"Variables": variables})["Environment"] == {"Variables": variables}


@pytest.mark.parametrize(
    ("runtime", "optimised"), [("python3.12", "On"), ("java21", "On"), ("dotnet8", "On")]
)
def test_snapstart_makes_versions_ready_in_their_time(aws: Lambda, runtime: str, optimised: str) -> None:
    latest = aws.created(Runtime=runtime, SnapStart={"ApplyOn": "PublishedVersions"})
    assert latest["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    version = aws(publish_version, FunctionName="orders")
    assert (version["State"], version["SnapStart"]["OptimizationStatus"]) == ("Pending", "Off")
    ready = aws.settled(qualifier="1")
    assert (ready["State"], ready["SnapStart"]["OptimizationStatus"]) == ("Active", optimised)
    assert ("orders", "1") in aws.environments.versions


def test_json_logs_have_levels(aws: Lambda) -> None:
    logging = {"LogFormat": "JSON", "SystemLogLevel": "WARN", "LogGroup": "shared"}
    answer = aws.created(LoggingConfig=logging)
    assert answer["LoggingConfig"] == {**logging, "ApplicationLogLevel": "INFO"}
    function = aws.environments.versions["orders", "$LATEST"]
    assert (function.log_format, function.application_log_level) == ("JSON", "INFO")
    assert (function.system_log_level, function.log_group) == ("WARN", "shared")


def test_subnets_are_in_a_made_up_vpc(aws: Lambda) -> None:
    vpc = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    answer = aws.created(VpcConfig=vpc)["VpcConfig"]
    assert re.fullmatch("vpc-[0-9a-f]{17}", answer.pop("VpcId"))
    assert answer == {**vpc, "Ipv6AllowedForDualStack": False}
    empty: dict[str, list[str]] = {"SubnetIds": [], "SecurityGroupIds": []}
    aws(update_function_configuration, FunctionName="orders", VpcConfig=empty)
    assert aws.settled()["VpcConfig"] == {**empty, "VpcId": "", "Ipv6AllowedForDualStack": False}


def test_an_image_is_stored_and_says_why_it_does_not_run(aws: Lambda) -> None:
    image = {
        "FunctionName": "orders",
        "Role": ROLE,
        "PackageType": "Image",
        "Code": {"ImageUri": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/orders:1"},
        "ImageConfig": {"Command": ["app.handler"], "EntryPoint": []},
    }
    assert aws(create_function, **image)["State"] == "Pending"
    answer = aws.settled()
    assert (answer["State"], answer["StateReasonCode"]) == ("Failed", "InvalidImage")
    assert "does not run container images yet" in answer["StateReason"]
    assert answer["ImageConfigResponse"] == {"ImageConfig": {"Command": ["app.handler"]}}
    assert "Runtime" not in answer
    code = aws(get_function, FunctionName="orders")["Code"]
    assert (code["RepositoryType"], code["ImageUri"]) == ("ECR", image["Code"]["ImageUri"])  # type: ignore[index]
    assert aws.environments.versions == {}
    name, _ = aws.refused(publish_version, FunctionName="orders")
    assert name == "ResourceConflictException"


# ---- looking ---------------------------------------------------------------------------------------------------------


def test_a_function_is_found_by_every_form_of_its_name(aws: Lambda) -> None:
    ready = aws.created(Tags={"team": "a"})
    for name in ("orders", "123456789012:function:orders", f"{ARN}:orders"):
        answer = aws(get_function, FunctionName=name)
        assert answer["Configuration"] == ready
        assert answer["Tags"] == {"team": "a"}
        assert answer["Code"]["RepositoryType"] == "S3"
        assert answer["Code"]["Location"].startswith("http://127.0.0.1:9001/_caloric/blobs/")
        assert "Concurrency" not in answer
    qualified = ready | {"FunctionArn": f"{ARN}:orders:$LATEST"}
    assert aws(get_function_configuration, FunctionName="orders:$LATEST") == qualified
    assert aws(get_function_configuration, FunctionName="orders", Qualifier="$LATEST") == qualified


@pytest.mark.parametrize("operation", [get_function, get_function_configuration])
def test_what_is_not_there(aws: Lambda, operation: Any) -> None:
    assert aws.refused(operation, FunctionName="orders") == not_found(f"{ARN}:orders")
    assert aws.refused(operation, FunctionName="orders:live") == not_found(f"{ARN}:orders:live")
    aws.create()
    for qualifier in ("1221", "live", "0", "01", "9" * 30, "$latest"):
        error = aws.refused(operation, FunctionName="orders", Qualifier=qualifier)
        assert error == not_found(f"{ARN}:orders:{qualifier}")


def test_functions_are_listed_by_page(aws: Lambda) -> None:
    for number in range(7):
        aws.create(f"f{number}", Publish=number == 2)
    first = aws(list_functions, MaxItems=3)
    assert [function["FunctionName"] for function in first["Functions"]] == ["f0", "f1", "f2"]
    second = aws(list_functions, MaxItems=10, Marker=first["NextMarker"])
    assert [function["FunctionName"] for function in second["Functions"]] == ["f3", "f4", "f5", "f6"]
    assert "NextMarker" not in second
    listed = first["Functions"][2]
    assert (listed["Version"], listed["FunctionArn"]) == ("$LATEST", f"{ARN}:f2")
    hidden = {"State", "StateReason", "LastUpdateStatus", "RuntimeVersionConfig", "Code", "Change"}
    assert not hidden & listed.keys()
    every = aws(list_functions, FunctionVersion="ALL")["Functions"]
    assert [function["FunctionArn"] for function in every if function["FunctionName"] in ("f2", "f3")] == [
        f"{ARN}:f2:$LATEST",
        f"{ARN}:f2:1",
        f"{ARN}:f3:$LATEST",
    ]


def test_a_page_has_50_functions(aws: Lambda) -> None:
    for number in range(51):
        aws.create(f"f{number:02}")
    first = aws(list_functions, MaxItems=10_000)
    assert len(first["Functions"]) == 50
    assert len(aws(list_functions, Marker=first["NextMarker"])["Functions"]) == 1


# ---- updates ---------------------------------------------------------------------------------------------------------


def test_an_update_replaces_what_it_names(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    before = aws.created(Description="a", Environment={"Variables": {"A": "1", "B": "2"}}, Timeout=5)
    running = aws.environments.versions["orders", "$LATEST"]
    go_on = hold(aws, monkeypatch)
    answer = aws(update_function_configuration, FunctionName="orders", Environment={"Variables": {"A": "3"}})
    assert answer == before | {
        "Environment": {"Variables": {"A": "3"}},
        "LastModified": answer["LastModified"],
        "RevisionId": answer["RevisionId"],
        "LastUpdateStatus": "InProgress",
        "LastUpdateStatusReason": "The function is being created.",
        "LastUpdateStatusReasonCode": "Creating",
    }
    # What is invoked meanwhile is what was before.
    assert aws.environments.versions["orders", "$LATEST"] == running
    assert aws.refused(update_function_configuration, FunctionName="orders", Timeout=6) == IN_PROGRESS
    assert aws.refused(update_function_code, FunctionName="orders", ZipFile=b"x") == IN_PROGRESS
    assert aws.refused(publish_version, FunctionName="orders") == IN_PROGRESS
    go_on.set()
    ready = aws.settled()
    assert (ready["State"], ready["LastUpdateStatus"]) == ("Active", "Successful")
    assert len({before["RevisionId"], answer["RevisionId"], ready["RevisionId"]}) == 3
    assert aws.environments.versions["orders", "$LATEST"].variables == {"A": "3"}


def test_a_pending_function_cannot_be_updated(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = hold(aws, monkeypatch)
    aws.create()
    pending = (
        "ResourceConflictException",
        "The operation cannot be performed at this time. "
        "The function is currently in the following state: Pending",
    )
    assert aws.refused(update_function_code, FunctionName="orders", ZipFile=zipped({"a": "b"})) == pending
    assert aws.refused(update_function_configuration, FunctionName="orders", Timeout=6) == pending
    assert aws.refused(publish_version, FunctionName="orders") == pending
    go_on.set()
    aws.settled()


def test_an_update_that_changes_nothing_is_one(aws: Lambda) -> None:
    before = aws.created(Description="a")
    answer = aws(update_function_configuration, FunctionName="orders", Description="a")
    assert answer["LastUpdateStatus"] == "InProgress"
    assert answer["RevisionId"] != before["RevisionId"]
    assert aws.settled()["LastUpdateStatus"] == "Successful"


def test_what_an_empty_value_removes(aws: Lambda) -> None:
    members = ("KMSKeyArn", "DeadLetterConfig", "FileSystemConfigs")
    aws.created(
        KMSKeyArn="arn:aws:kms:eu-west-1:123456789012:key/1",
        DeadLetterConfig={"TargetArn": "arn:aws:sqs:eu-west-1:123456789012:dead"},
        FileSystemConfigs=[{"Arn": "a", "LocalMountPath": "/mnt/a"}],
    )
    answer = aws(
        update_function_configuration,
        FunctionName="orders",
        KMSKeyArn="",
        DeadLetterConfig={"TargetArn": ""},
        FileSystemConfigs=[],
    )
    assert not answer.keys() & set(members)


def test_logging_is_changed_by_member(aws: Lambda) -> None:
    aws.created()
    steps: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"LogGroup": "shared"}, {"LogFormat": "Text", "LogGroup": "shared"}),
        (
            {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"},
            {
                "LogFormat": "JSON",
                "ApplicationLogLevel": "DEBUG",
                "SystemLogLevel": "INFO",
                "LogGroup": "shared",
            },
        ),
        ({"LogFormat": "Text"}, {"LogFormat": "Text", "LogGroup": "shared"}),
    ]
    for given, expected in steps:
        aws(update_function_configuration, FunctionName="orders", LoggingConfig=given)
        assert aws.settled()["LoggingConfig"] == expected


def test_a_stale_revision_is_refused(aws: Lambda) -> None:
    stale = aws.create()["RevisionId"]
    latest = aws.settled()["RevisionId"]
    code = zipped({"app.py": "2"})
    assert aws.refused(update_function_configuration, FunctionName="orders", RevisionId=stale) == STALE
    assert aws.refused(update_function_code, FunctionName="orders", ZipFile=code, RevisionId=stale) == STALE
    assert aws.refused(publish_version, FunctionName="orders", RevisionId=stale) == STALE
    aws(update_function_code, FunctionName="orders", ZipFile=code, RevisionId=latest)


def test_new_code_is_published_and_the_old_removed(aws: Lambda) -> None:
    before = aws.created()
    old = aws.environments.versions["orders", "$LATEST"].code
    code = zipped({"app.py": "new"})
    answer = aws(update_function_code, FunctionName="orders", ZipFile=code, Architectures=["arm64"])
    assert answer["CodeSha256"] == base64.b64encode(hashlib.sha256(code).digest()).decode()
    assert (answer["CodeSize"], answer["Architectures"]) == (len(code), ["arm64"])
    assert aws.settled()["CodeSha256"] != before["CodeSha256"]
    path = aws.environments.versions["orders", "$LATEST"].code
    assert (path / "app.py").read_text() == "new"
    # What still runs there may still read it.
    assert old.is_dir()


def test_a_dry_run_changes_nothing(aws: Lambda) -> None:
    before = aws.created()
    code = zipped({"app.py": "new"})
    answer = aws(update_function_code, FunctionName="orders", ZipFile=code, DryRun=True)
    assert answer["CodeSha256"] != before["CodeSha256"]
    assert answer["CodeSize"] == len(code)
    assert aws(get_function_configuration, FunctionName="orders") == before
    wrong = aws.refused(update_function_code, FunctionName="orders", ZipFile=b"no zip", DryRun=True)
    assert wrong[0] == "InvalidParameterValueException"


def test_new_code_can_be_published_at_once(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.created()
    go_on = hold(aws, monkeypatch)
    answer = aws(update_function_code, FunctionName="orders", ZipFile=zipped({"app.py": "2"}), Publish=True)
    assert (answer["Version"], answer["FunctionArn"]) == ("1", f"{ARN}:orders:1")
    assert (answer["State"], answer["StateReasonCode"]) == ("Pending", "Creating")
    assert "LastUpdateStatus" not in answer
    latest = aws(get_function_configuration, FunctionName="orders")
    assert (latest["State"], latest["LastUpdateStatus"]) == ("Active", "InProgress")
    go_on.set()
    version = aws.settled(qualifier="1")
    assert (version["State"], version["LastUpdateStatus"]) == ("Active", "Successful")
    assert (aws.environments.versions["orders", "1"].code / "app.py").read_text() == "2"


def test_code_must_be_given(aws: Lambda) -> None:
    aws.created()
    error = aws.refused(update_function_code, FunctionName="orders", Architectures=["arm64"])
    assert error == invalid("Please provide a source for function code.")


@pytest.mark.parametrize("operation", [update_function_configuration, update_function_code, publish_version])
def test_what_is_not_there_is_not_changed(aws: Lambda, operation: Any) -> None:
    assert aws.refused(operation, FunctionName="orders", ZipFile=b"") == not_found(f"{ARN}:orders")


def test_a_failed_update_leaves_what_runs(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.created(Timeout=5)
    running = aws.environments.versions["orders", "$LATEST"]

    def fail(digest: str) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(aws.service.activation.packages, "unpack", fail)
        aws(update_function_configuration, FunctionName="orders", Timeout=6)
        failed = aws.settled()
    assert (failed["State"], failed["LastUpdateStatus"]) == ("Active", "Failed")
    assert failed["LastUpdateStatusReasonCode"] == "InternalError"
    assert "No space left on device" in failed["LastUpdateStatusReason"]
    assert aws.environments.versions["orders", "$LATEST"] == running
    name, message = aws.refused(publish_version, FunctionName="orders")
    assert name == "ResourceConflictException"
    assert "No space left on device" in (message or "")
    aws(update_function_configuration, FunctionName="orders", MemorySize=256)
    assert aws.settled()["LastUpdateStatus"] == "Successful"
    function = aws.environments.versions["orders", "$LATEST"]
    assert (function.timeout_s, function.memory_mb) == (6, 256)


def test_environments_that_fail_leave_nothing_pending(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(function: object) -> None:
        raise RuntimeError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(aws.environments, "publish", publish)
        failed = aws.created()
    assert (failed["State"], failed["StateReasonCode"]) == ("Failed", "InternalError")
    assert "no room" in failed["StateReason"]
    aws(update_function_configuration, FunctionName="orders", Timeout=6)
    assert aws.settled()["State"] == "Active"


# ---- deletion --------------------------------------------------------------------------------------------------------


def test_a_deleted_function_leaves_nothing(aws: Lambda) -> None:
    aws.created(Publish=True)
    aws.created("other", Code={"ZipFile": zipped({"app.py": "other"})})
    aws(create_alias, FunctionName="orders", Name="live", FunctionVersion="1")
    with aws.service.store.write() as transaction:
        for arn in (f"{ARN}:orders", f"{ARN}:orders:1", f"{ARN}:orders:live", f"{ARN}:other"):
            transaction.put("policy", arn, document={})
    digest = aws.environments.versions["orders", "$LATEST"].code.name
    assert aws(delete_function, FunctionName="orders") == {}
    with aws.service.store.read() as transaction:
        assert transaction.keys("policy") == [(f"{ARN}:other",)]
        assert transaction.keys("alias") == []
        assert transaction.keys("version") == [("other", 0)]
    assert [key for key in aws.environments.versions if key[0] == "orders"] == []
    assert aws.environments.routes == {}
    assert aws.refused(get_function, FunctionName="orders") == not_found(f"{ARN}:orders")
    assert aws.refused(delete_function, FunctionName="orders") == not_found(f"{ARN}:orders")
    eventually(lambda: not aws.service.blobs.path(digest).exists())
    assert len(list(aws.service.blobs.folder.iterdir())) == 1


def test_numbers_go_on_after_a_deletion(aws: Lambda) -> None:
    assert aws.create(Publish=True)["Version"] == "1"
    aws(delete_function, FunctionName="orders")
    assert aws.create(Publish=True)["Version"] == "2"


def test_a_version_is_deleted_alone(aws: Lambda) -> None:
    aws.created(Publish=True)
    aws(create_alias, FunctionName="orders", Name="live", FunctionVersion="1")
    aws.settled(qualifier="1")
    assert aws.refused(delete_function, FunctionName="orders", Qualifier="1") == (
        "ResourceConflictException",
        "Unable to delete version because the following aliases reference it: [live]",
    )
    aws(update_function_configuration, FunctionName="orders", Timeout=9)
    aws.settled()
    aws(publish_version, FunctionName="orders")
    aws(delete_function, FunctionName="orders:2")
    assert set(aws.environments.versions) == {("orders", "$LATEST"), ("orders", "1")}
    versions = aws(list_versions_by_function, FunctionName="orders")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]
    assert aws.refused(delete_function, FunctionName="orders", Qualifier="2") == not_found(f"{ARN}:orders")


def test_what_cannot_be_deleted(aws: Lambda) -> None:
    latest = invalid("$LATEST version cannot be deleted without deleting the function.")
    alias = invalid("Deletion of aliases is not currently supported.")
    assert aws.refused(delete_function, FunctionName="orders:$LATEST") == latest
    assert aws.refused(delete_function, FunctionName="orders", Qualifier="live") == alias
    assert aws.refused(delete_function, FunctionName="orders", Qualifier="$latest") == not_found(
        f"{ARN}:orders"
    )


# ---- several at once, and a restart ----------------------------------------------------------------------------------


def together(count: int, work: Any) -> list[Any]:
    results: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = work(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_of_several_creates_a_function(aws: Lambda) -> None:
    results = together(8, lambda number: aws(create_function, **new(Description=str(number))))
    created = [result for result in results if isinstance(result, dict)]
    assert len(created) == 1
    assert aws.settled()["Description"] == created[0]["Description"]


def test_many_functions_at_once(aws: Lambda) -> None:
    def work(number: int) -> list[str]:
        name = f"f{number}"
        aws.created(name, Code={"ZipFile": zipped({"app.py": f"code {number % 3}"})})
        for timeout in range(4, 10):
            aws(update_function_configuration, FunctionName=name, Timeout=timeout)
            aws.settled(name)
        versions = []
        for description in "abc":
            aws(update_function_configuration, FunctionName=name, Description=description)
            aws.settled(name)
            versions.append(aws(publish_version, FunctionName=name)["Version"])
        return versions

    assert together(8, work) == [["1", "2", "3"]] * 8
    for number in range(8):
        function = aws.environments.versions[f"f{number}", "$LATEST"]
        assert function.timeout_s == 9
        assert (function.code / "app.py").read_text() == f"code {number % 3}"


def test_one_of_several_versions_is_made(aws: Lambda) -> None:
    aws.created()
    results = together(8, lambda _: aws(publish_version, FunctionName="orders"))
    assert {result["Version"] for result in results} == {"1"}


def test_deletions_spare_code_that_is_being_given(aws: Lambda) -> None:
    code = {"ZipFile": zipped({"app.py": "shared"})}

    def work(number: int) -> None:
        for _ in range(10):
            aws.created(f"f{number}", Code=code)
            assert (aws.environments.versions[f"f{number}", "$LATEST"].code / "app.py").is_file()
            aws(delete_function, FunctionName=f"f{number}")

    assert together(4, work) == [None] * 4
    aws.created(Code=code)
    with aws.service.store.read() as transaction:
        document = transaction.get("version", "orders", 0)
    assert document is not None
    assert aws.service.blobs.path(document["Code"]["Digest"]).is_file()


def test_a_restart_publishes_everything_again(tmp_path: Path) -> None:
    first = Lambda(tmp_path)
    first.created(Publish=True, Environment={"Variables": {"A": "1"}})
    first.settled(qualifier="1")
    first(create_alias, FunctionName="orders", Name="live", FunctionVersion="1")
    configuration = first(get_function_configuration, FunctionName="orders")
    first.close()
    second = Lambda(tmp_path)
    assert second.environments.versions == first.environments.versions
    assert second.environments.routes == first.environments.routes == {("orders", "live"): {"1": 1}}
    assert second(get_function_configuration, FunctionName="orders") == configuration
    second.close()


def test_a_restart_goes_on_with_what_was_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Lambda(tmp_path)
    first.created("updated")
    monkeypatch.setattr(first.service.activation, "begin", lambda name: None)
    first.create("created", Publish=True)
    first(update_function_configuration, FunctionName="updated", Timeout=9)
    first.close()
    second = Lambda(tmp_path)
    assert second.settled("created")["State"] == "Active"
    assert second.settled("created", "1")["State"] == "Active"
    assert second.settled("updated")["LastUpdateStatus"] == "Successful"
    assert second.environments.versions["updated", "$LATEST"].timeout_s == 9
    assert ("created", "1") in second.environments.versions
    second.close()


def test_a_restart_unpacks_what_is_gone(tmp_path: Path) -> None:
    first = Lambda(tmp_path)
    first.created()
    package = first.environments.versions["orders", "$LATEST"].code
    first.close()
    package.rename(tmp_path / "elsewhere")
    second = Lambda(tmp_path)
    eventually(lambda: ("orders", "$LATEST") in second.environments.versions)
    assert (second.environments.versions["orders", "$LATEST"].code / "app.py").is_file()
    second.close()


def test_a_restart_says_when_code_is_lost(tmp_path: Path) -> None:
    first = Lambda(tmp_path)
    first.created()
    package = first.environments.versions["orders", "$LATEST"].code
    first.close()
    package.rename(tmp_path / "elsewhere")
    (tmp_path / "blobs" / package.name).unlink()
    second = Lambda(tmp_path)

    def lookup() -> dict[str, Any]:
        return second(get_function_configuration, FunctionName="orders")

    eventually(lambda: lookup()["LastUpdateStatus"] == "Failed")
    answer = lookup()
    assert answer["State"] == "Active"
    assert "No such file" in answer["LastUpdateStatusReason"]
    assert second.environments.versions == {}
    second.close()
