"""Resource policies of functions, versions and aliases (spec lambda-service 2.5)."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from caloric.local.service.policies import add_permission, get_policy, remove_permission
from tests.local.service.harness import ARN, Harness

FUNCTION = f"{ARN}:function:orders"
GRANT = {
    "FunctionName": "orders",
    "StatementId": "s3",
    "Action": "lambda:InvokeFunction",
    "Principal": "s3.amazonaws.com",
}
NOT_THERE = ("ResourceNotFoundException", "The resource you requested does not exist.")
STALE = (
    "PreconditionFailedException",
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetPolicy API to retrieve the latest Revision Id",
)


@pytest.fixture
def lambda_(lambda_: Harness) -> Harness:
    lambda_.function("orders", versions=2, live="1")
    return lambda_


def revision(lambda_: Harness, table: str = "version", *key: str | int) -> str:
    with lambda_.service.store.read() as transaction:
        document = transaction.get(table, *(key or ("orders", 0)))
    assert document is not None
    value: str = document["RevisionId"]
    return value


def statements(lambda_: Harness, **which: str) -> list[Any]:
    policy = json.loads(lambda_(get_policy, FunctionName="orders", **which)["Policy"])
    assert {key: policy[key] for key in ("Version", "Id")} == {"Version": "2012-10-17", "Id": "default"}
    found: list[Any] = policy["Statement"]
    return found


def test_a_permission_becomes_a_statement_of_the_policy(lambda_: Harness) -> None:
    answer = lambda_(add_permission, **GRANT, SourceArn="arn:aws:s3:::photos", SourceAccount="123456789012")
    statement = {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": FUNCTION,
        "Condition": {
            "StringEquals": {"AWS:SourceAccount": "123456789012"},
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::photos"},
        },
    }
    assert json.loads(answer["Statement"]) == statement
    assert statements(lambda_) == [statement]


@pytest.mark.parametrize(
    ("member", "value", "condition"),
    [
        ("SourceArn", "arn:aws:s3:::b", {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}),
        ("SourceAccount", "210987654321", {"StringEquals": {"AWS:SourceAccount": "210987654321"}}),
        ("PrincipalOrgID", "o-1234567890", {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}),
        ("EventSourceToken", "amzn1.ask", {"StringEquals": {"lambda:EventSourceToken": "amzn1.ask"}}),
        ("FunctionUrlAuthType", "NONE", {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}),
        ("InvokedViaFunctionUrl", True, {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
    ],
)
def test_each_member_becomes_its_condition(
    lambda_: Harness, member: str, value: object, condition: dict[str, object]
) -> None:
    grant = GRANT | {"Action": "lambda:InvokeFunctionUrl", "Principal": "*"}
    answer = lambda_(add_permission, **grant, **{member: value})
    assert json.loads(answer["Statement"])["Condition"] == condition


def test_without_conditions_there_is_no_such_member(lambda_: Harness) -> None:
    assert "Condition" not in json.loads(lambda_(add_permission, **GRANT)["Statement"])


@pytest.mark.parametrize(
    ("principal", "shown"),
    [
        ("*", "*"),
        ("lambda.amazonaws.com", {"Service": "lambda.amazonaws.com"}),
        ("alexa-appkit.amazon.com", {"Service": "alexa-appkit.amazon.com"}),
        ("210987654321", {"AWS": "arn:aws:iam::210987654321:root"}),
        ("arn:aws:iam::210987654321:role/r", {"AWS": "arn:aws:iam::210987654321:role/r"}),
    ],
)
def test_principals(lambda_: Harness, principal: str, shown: object) -> None:
    answer = lambda_(add_permission, **GRANT | {"Principal": principal})
    assert json.loads(answer["Statement"])["Principal"] == shown


@pytest.mark.parametrize("principal", ["invalid.nonaws.com", "alice", "12345", "arn:aws:s3:::bucket"])
def test_principals_that_are_none(lambda_: Harness, principal: str) -> None:
    assert lambda_.refused(add_permission, **GRANT | {"Principal": principal}) == (
        "InvalidParameterValueException",
        "The provided principal was invalid. Please check the principal and try again.",
    )


def test_the_auth_type_is_about_urls_only(lambda_: Harness) -> None:
    assert lambda_.refused(add_permission, **GRANT, FunctionUrlAuthType="NONE")[0] == (
        "InvalidParameterValueException"
    )


@pytest.mark.parametrize("qualifier", ["1", "live"])
def test_each_qualifier_has_its_own_policy(lambda_: Harness, qualifier: str) -> None:
    lambda_(add_permission, **GRANT)
    assert lambda_.refused(get_policy, FunctionName="orders", Qualifier=qualifier) == NOT_THERE
    lambda_(add_permission, **GRANT | {"StatementId": "other"}, Qualifier=qualifier)
    (statement,) = statements(lambda_, Qualifier=qualifier)
    assert (statement["Sid"], statement["Resource"]) == ("other", f"{FUNCTION}:{qualifier}")
    assert [statement["Sid"] for statement in statements(lambda_)] == ["s3"]


def test_the_qualifier_may_be_part_of_the_name(lambda_: Harness) -> None:
    lambda_(add_permission, **GRANT | {"FunctionName": f"{FUNCTION}:live"})
    assert [statement["Resource"] for statement in statements(lambda_, Qualifier="live")] == [
        f"{FUNCTION}:live"
    ]
    assert lambda_.refused(add_permission, **GRANT | {"FunctionName": "orders:1"}, Qualifier="live") == (
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


def test_latest_has_no_policy_of_its_own(lambda_: Harness) -> None:
    assert lambda_.refused(add_permission, **GRANT, Qualifier="$LATEST") == (
        "InvalidParameterValueException",
        "We currently do not support adding policies for $LATEST.",
    )


def test_what_does_not_exist_gets_no_permission(lambda_: Harness) -> None:
    for qualifier, message in (
        ("gone", f"Cannot find alias arn: {FUNCTION}:gone"),
        ("42", f"Function not found: {FUNCTION}:42"),
        ("01", f"Function not found: {FUNCTION}:01"),
        ("with-$-inside", f"Function not found: {FUNCTION}:with-$-inside"),
        ("9" * 100, f"Function not found: {FUNCTION}:{'9' * 100}"),
    ):
        expected = ("ResourceNotFoundException", message)
        assert lambda_.refused(add_permission, **GRANT, Qualifier=qualifier) == expected
    assert lambda_.refused(add_permission, **GRANT | {"FunctionName": "nope"}) == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}:function:nope",
    )


def test_a_statement_id_is_given_once(lambda_: Harness) -> None:
    lambda_(add_permission, **GRANT)
    assert lambda_.refused(add_permission, **GRANT) == (
        "ResourceConflictException",
        "The statement id (s3) provided already exists. "
        "Please provide a new statement id, or remove the existing statement.",
    )


def test_permissions_are_removed_one_by_one_and_the_policy_with_the_last(lambda_: Harness) -> None:
    for sid in ("a", "b"):
        lambda_(add_permission, **GRANT | {"StatementId": sid})
    assert lambda_(remove_permission, FunctionName="orders", StatementId="a") == {}
    assert [statement["Sid"] for statement in statements(lambda_)] == ["b"]
    assert lambda_.refused(remove_permission, FunctionName="orders", StatementId="a") == (
        "ResourceNotFoundException",
        "Statement a is not found in resource policy.",
    )
    lambda_(remove_permission, FunctionName="orders", StatementId="b")
    assert lambda_.refused(get_policy, FunctionName="orders") == NOT_THERE


def test_removing_where_there_is_nothing(lambda_: Harness) -> None:
    for name, qualifier, message in (
        ("orders", None, "No policy is associated with the given resource."),
        ("nope", None, f"No policy found for: {ARN}:function:nope"),
        ("orders", "gone", f"Cannot find alias arn: {FUNCTION}:gone"),
    ):
        refusal = lambda_.refused(remove_permission, FunctionName=name, StatementId="s3", Qualifier=qualifier)
        assert refusal == ("ResourceNotFoundException", message)


@pytest.mark.parametrize("name", ["orders", "nope", "orders:gone", "orders:42"])
def test_no_policy_to_show(lambda_: Harness, name: str) -> None:
    assert lambda_.refused(get_policy, FunctionName=name) == NOT_THERE


@pytest.mark.parametrize(
    ("qualifier", "place"),
    [
        (None, ("version", "orders", 0)),
        ("1", ("version", "orders", 1)),
        ("live", ("alias", "orders", "live")),
    ],
)
def test_the_policy_s_revision_is_that_of_what_it_is_attached_to(
    lambda_: Harness, qualifier: str | None, place: tuple[Any, ...]
) -> None:
    which = {"FunctionName": "orders", "Qualifier": qualifier}
    before = revision(lambda_, *place)
    assert lambda_.refused(add_permission, **GRANT, Qualifier=qualifier, RevisionId="old") == STALE
    lambda_(add_permission, **GRANT, Qualifier=qualifier, RevisionId=before)
    added = revision(lambda_, *place)
    assert added != before
    assert lambda_(get_policy, **which)["RevisionId"] == added
    assert lambda_.refused(remove_permission, **which, StatementId="s3", RevisionId=before) == STALE
    lambda_(remove_permission, **which, StatementId="s3", RevisionId=added)
    assert revision(lambda_, *place) not in (before, added)


def test_of_two_that_saw_the_same_revision_one_wins(lambda_: Harness) -> None:
    seen = revision(lambda_)

    def add(number: int) -> str:
        try:
            lambda_(add_permission, **GRANT | {"StatementId": f"s{number}"}, RevisionId=seen)
        except Exception as error:
            return getattr(error, "name", repr(error))
        return "added"

    with ThreadPoolExecutor(8) as threads:
        outcomes = sorted(threads.map(add, range(8)))
    assert outcomes == ["PreconditionFailedException"] * 7 + ["added"]
    assert len(statements(lambda_)) == 1


def test_statements_added_at_once_are_all_there(lambda_: Harness) -> None:
    names = [f"s{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda sid: lambda_(add_permission, **GRANT | {"StatementId": sid}), names))
    assert sorted(statement["Sid"] for statement in statements(lambda_)) == sorted(names)


def test_a_policy_may_have_20_kb_to_the_byte(lambda_: Harness) -> None:
    longest = GRANT | {"SourceArn": "arn:aws:s3:::" + "x" * 9_900}
    lambda_(add_permission, **longest | {"StatementId": "a"})
    one = len(lambda_(get_policy, FunctionName="orders")["Policy"])
    lambda_(add_permission, **GRANT, SourceArn="arn:aws:s3:::")
    empty = len(lambda_(get_policy, FunctionName="orders")["Policy"])
    assert one < empty < 20_480
    lambda_(remove_permission, FunctionName="orders", StatementId="s3")
    fitting = "arn:aws:s3:::" + "y" * (20_480 - empty)
    assert lambda_.refused(add_permission, **GRANT, SourceArn=fitting + "y") == (
        "PolicyLengthExceededException",
        "The final policy size (20481) is bigger than the limit (20480).",
    )
    lambda_(add_permission, **GRANT, SourceArn=fitting)
    assert len(lambda_(get_policy, FunctionName="orders")["Policy"]) == 20_480


def test_a_policy_has_20_kb_at_most(lambda_: Harness) -> None:
    longest = GRANT | {"SourceArn": "arn:aws:s3:::" + "x" * 9_900}
    for sid in "ab":
        lambda_(add_permission, **longest | {"StatementId": sid})
    before = revision(lambda_)
    name, message = lambda_.refused(add_permission, **longest | {"StatementId": "c"})
    assert name == "PolicyLengthExceededException"
    assert re.fullmatch(r"The final policy size \(\d{5}\) is bigger than the limit \(20480\)\.", str(message))
    assert [statement["Sid"] for statement in statements(lambda_)] == ["a", "b"]
    assert revision(lambda_) == before
