"""Published versions (spec lambda-service 2.13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloric.local.service.functions import (
    get_function,
    get_function_configuration,
    update_function_code,
    update_function_configuration,
)
from caloric.local.service.versions import list_versions_by_function, publish_version
from tests.local.service.recording import ARN, zipped

if TYPE_CHECKING:
    from tests.local.service.recording import Lambda


def update(aws: Lambda, **members: object) -> None:
    aws(update_function_configuration, FunctionName="orders", **members)
    aws.settled()


def test_a_version_is_what_latest_was(aws: Lambda) -> None:
    aws.created(Description="latest", Timeout=4)
    before = aws(get_function_configuration, FunctionName="orders")
    version = aws(publish_version, FunctionName="orders", Description="first")
    assert version == before | {
        "FunctionArn": f"{ARN}:orders:1",
        "Version": "1",
        "Description": "first",
        "RevisionId": version["RevisionId"],
    }
    latest = aws(get_function_configuration, FunctionName="orders")
    # Publishing changes this much of $LATEST, as on AWS.
    assert latest == before | {"RevisionId": latest["RevisionId"]}
    assert len({before["RevisionId"], version["RevisionId"], latest["RevisionId"]}) == 3
    update(aws, Timeout=9)
    assert aws(get_function, FunctionName="orders:1")["Configuration"] == version
    assert aws.environments.versions["orders", "1"].timeout_s == 4


def test_what_has_not_changed_makes_no_version(aws: Lambda) -> None:
    aws.created()
    first = aws(publish_version, FunctionName="orders", Description="first")
    assert aws(publish_version, FunctionName="orders") == first
    update(aws, Description="other")
    assert aws(publish_version, FunctionName="orders")["Version"] == "2"
    # Back to what version 1 was: still a change since the last one.
    update(aws, Description="")
    assert aws(publish_version, FunctionName="orders")["Version"] == "3"
    aws(update_function_code, FunctionName="orders", ZipFile=zipped({"app.py": "new"}))
    aws.settled()
    assert aws(publish_version, FunctionName="orders")["Version"] == "4"


def test_a_version_made_at_creation_is_the_last_one(aws: Lambda) -> None:
    answer = aws.create(Publish=True)
    assert (answer["Version"], answer["FunctionArn"]) == ("1", f"{ARN}:orders")
    assert answer["State"] == "Pending"
    aws.settled()
    version = aws.settled(qualifier="1")
    assert aws(publish_version, FunctionName="orders") == version


def test_the_code_must_be_the_one_that_is_meant(aws: Lambda) -> None:
    current = aws.created()["CodeSha256"]
    assert aws.refused(publish_version, FunctionName="orders", CodeSha256="x") == (
        "InvalidParameterValueException",
        f"CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ({current}). "
        "Please try again with the CodeSHA256 in $LATEST.",
    )
    assert aws(publish_version, FunctionName="orders", CodeSha256=current)["Version"] == "1"


def test_versions_are_listed_by_number_after_latest(aws: Lambda) -> None:
    aws.created()
    for number in range(12):
        update(aws, Description=str(number))
        aws(publish_version, FunctionName="orders")
    first = aws(list_versions_by_function, FunctionName="orders", MaxItems=11)
    numbers = [version["Version"] for version in first["Versions"]]
    assert numbers == ["$LATEST", *map(str, range(1, 11))]
    assert first["Versions"][0]["FunctionArn"] == f"{ARN}:orders:$LATEST"
    assert first["Versions"][10]["FunctionArn"] == f"{ARN}:orders:10"
    assert "State" not in first["Versions"][1]
    second = aws(list_versions_by_function, FunctionName="orders", Marker=first["NextMarker"])
    assert [version["Version"] for version in second["Versions"]] == ["11", "12"]
    assert "NextMarker" not in second
    assert aws.refused(list_versions_by_function, FunctionName="bills") == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}:bills",
    )
