"""Names and ARNs (spec lambda-service 0.2)."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from caloric.local.service import names
from caloric.local.service.errors import ServiceError
from caloric.local.service.names import FunctionReference, LayerReference, function_reference


@dataclass(frozen=True)
class Home:
    region: str = "eu-west-1"
    account: str = "123456789012"


HOME = Home()
NAMES = st.from_regex(r"\A[a-zA-Z0-9_-]{1,64}\Z")
QUALIFIERS = st.none() | st.just("$LATEST") | st.from_regex(r"\A[a-zA-Z0-9_-]{1,128}\Z")


def refused(function_name: str, qualifier: str | None = None) -> tuple[str, str | None]:
    with pytest.raises(ServiceError) as raised:
        function_reference(HOME, function_name, qualifier)
    return raised.value.name, raised.value.message


@given(name=NAMES, qualifier=QUALIFIERS, form=st.integers(0, 3))
def test_every_form_of_a_name_leads_to_the_same_function(name: str, qualifier: str | None, form: int) -> None:
    # As AWS's own pattern has it, `function:live` is the function `live`.
    assume(name != "function")
    suffix = "" if qualifier is None else f":{qualifier}"
    forms = [
        f"{name}{suffix}",
        f"function:{name}{suffix}",
        f"123456789012:function:{name}{suffix}",
        names.function_arn(HOME, name, qualifier),
    ]
    # Twelve digits and a colon are an account.
    assume(form or not (qualifier and len(name) == 12 and name.isdigit()))
    assert function_reference(HOME, forms[form]) == FunctionReference(name, qualifier)
    assert function_reference(HOME, forms[form], qualifier) == FunctionReference(name, qualifier)


@given(name=NAMES, qualifier=QUALIFIERS)
def test_an_arn_is_read_as_it_was_put_together(name: str, qualifier: str | None) -> None:
    arn = names.function_arn(HOME, name, qualifier)
    assert names.function_reference_of_arn(HOME, arn) == FunctionReference(name, qualifier)


OUTCOMES = {
    "accepted",
    "ValidationException",
    "InvalidParameterValueException",
    "ResourceNotFoundException",
    "AccessDeniedException",
}


@given(st.text())
def test_any_text_is_a_name_or_refused_as_one(text: str) -> None:
    try:
        outcome = "accepted" if function_reference(HOME, text).name else "accepted wrongly"
    except ServiceError as error:
        outcome = error.name
    assert outcome in OUTCOMES


def test_a_qualifier_may_be_given_beside_the_name() -> None:
    assert function_reference(HOME, "orders", "live") == FunctionReference("orders", "live")


def test_the_patterns_in_the_errors_are_the_model_s() -> None:
    [path] = Path(botocore.__file__).parent.glob("data/lambda/2015-03-31/service-2.json*")
    shapes: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))["shapes"]
    assert refused("or ders") == (
        "ValidationException",
        "1 validation error detected: Value 'or ders' at 'functionName' failed to satisfy constraint: Member must "
        f"satisfy regular expression pattern: {shapes['NamespacedFunctionName']['pattern']}",
    )
    with pytest.raises(ServiceError) as raised:
        names.layer_reference("deps:1")
    assert (raised.value.message or "").endswith(f"pattern: {shapes['LayerVersionArn']['pattern']}")
    with pytest.raises(ServiceError) as raised:
        names.layer_name(HOME, "no:layer")
    assert (raised.value.message or "").endswith(f"pattern: {shapes['LayerName']['pattern']}")


def test_a_new_name_has_64_characters_at_most() -> None:
    assert names.new_function_name(HOME, "123456789012:function:" + "n" * 64) == "n" * 64
    with pytest.raises(ServiceError) as raised:
        names.new_function_name(HOME, "n" * 65)
    assert (raised.value.name, raised.value.message) == (
        "InvalidParameterValueException",
        f"1 validation error detected: Value '{'n' * 65}' at 'functionName' failed to satisfy constraint: "
        "Member must have length less than or equal to 64",
    )
    # Elsewhere there is just no such function.
    assert function_reference(HOME, "n" * 65).name == "n" * 65


def test_another_region_is_not_reachable() -> None:
    assert refused("arn:aws:lambda:us-east-1:123456789012:function:orders") == (
        "ResourceNotFoundException",
        "Functions from 'us-east-1' are not reachable in this region ('eu-west-1')",
    )


def test_another_account_is_denied_without_a_word() -> None:
    assert refused("arn:aws:lambda:eu-west-1:999999999999:function:orders") == ("AccessDeniedException", None)
    assert refused("999999999999:function:orders") == ("AccessDeniedException", None)


def test_the_region_is_checked_before_the_account() -> None:
    name, _ = refused("arn:aws:lambda:us-east-1:999999999999:function:orders")
    assert name == "ResourceNotFoundException"


def test_two_qualifiers_must_be_equal() -> None:
    assert function_reference(HOME, "orders:live", "live").qualifier == "live"
    assert refused("orders:live", "1") == (
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.",
    )


@pytest.mark.parametrize("digit", ["٣", "３"])
def test_digits_are_those_of_ascii(digit: str) -> None:
    assert refused(f"{digit * 12}:function:orders")[0] == "ValidationException"
    assert not names.is_version(digit)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_a_region_is_in_a_partition(region: str, expected: str) -> None:
    home = Home(region)
    arn = names.function_arn(home, "orders", "$LATEST")
    assert arn == f"arn:{expected}:lambda:{region}:123456789012:function:orders:$LATEST"
    assert function_reference(home, arn) == FunctionReference("orders", "$LATEST")


@pytest.mark.parametrize(
    "arn",
    [
        "orders",
        "123456789012:function:orders",
        "arn:aws:lambda:us-east-1:123456789012:function:orders",
        "arn:aws:lambda:eu-west-1:999999999999:function:orders",
        "arn:aws:lambda:eu-west-1:123456789012:layer:orders",
        "arn:aws:sqs:eu-west-1:123456789012:orders",
    ],
)
def test_what_is_not_the_arn_of_a_function_here(arn: str) -> None:
    assert names.function_reference_of_arn(HOME, arn) is None


@given(name=st.from_regex(r"\A[a-zA-Z0-9_-]{1,140}\Z"), version=st.integers(0, 10**9))
def test_a_layer_version_s_arn_is_read_as_it_was_put_together(name: str, version: int) -> None:
    arn = names.layer_version_arn(HOME, name, version)
    assert names.layer_reference(arn) == LayerReference("eu-west-1", "123456789012", name, version)
    assert names.layer_name(HOME, name) == names.layer_name(HOME, names.layer_arn(HOME, name)) == name


def test_another_account_s_layers_cannot_be_named() -> None:
    with pytest.raises(ServiceError) as raised:
        names.layer_name(HOME, "arn:aws:lambda:eu-west-1:999999999999:layer:deps")
    assert (raised.value.name, raised.value.message) == ("AccessDeniedException", None)


@pytest.mark.parametrize(
    ("qualifier", "version", "alias"),
    [("$LATEST", False, False), ("7", True, False), ("live", False, True), ("7a", False, True)],
)
def test_what_a_qualifier_is(qualifier: str, version: bool, alias: bool) -> None:
    assert (names.is_version(qualifier), names.is_alias(qualifier)) == (version, alias)


def test_arns_of_what_is_beside_functions() -> None:
    assert names.code_signing_config_arn(HOME, "csc-0123456789abcdefg") == (
        "arn:aws:lambda:eu-west-1:123456789012:code-signing-config:csc-0123456789abcdefg"
    )
    assert names.runtime_version_arn(HOME, "ab" * 32) == f"arn:aws:lambda:eu-west-1::runtime:{'ab' * 32}"
