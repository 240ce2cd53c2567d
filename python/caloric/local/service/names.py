"""Names and ARNs: how they are put together, and what a caller's `FunctionName` and `Qualifier` mean.

Nothing here looks anything up. The rules are those of spec lambda-service 0.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from caloric.local.service.errors import ServiceError

__all__ = [
    "LATEST",
    "FunctionReference",
    "Home",
    "LayerReference",
    "code_signing_config_arn",
    "function_arn",
    "function_reference",
    "function_reference_of_arn",
    "is_alias",
    "is_version",
    "layer_arn",
    "layer_name",
    "layer_reference",
    "layer_version_arn",
    "new_function_name",
    "partition",
    "runtime_version_arn",
]

LATEST = "$LATEST"
"""The version that can be changed."""

MAX_NAME = 64
"""So many characters a function's name may have. The model's limits are those of an ARN."""

_PARTITIONS = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}

_REGION = r"(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}"

_FUNCTION_PATTERN = (
    rf"(arn:(aws[a-zA-Z-]*)?:lambda:)?({_REGION}:)?(\d{{12}}:)?(function:)?([a-zA-Z0-9-_\.]+)"
    r"(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
"""The model's, of the shape NamespacedFunctionName; its text is part of an error."""

_LAYER_VERSION_PATTERN = (
    rf"((arn:(aws[a-zA-Z-]*)?:lambda:{_REGION}:\d{{12}}:layer:[a-zA-Z0-9-_]+:[0-9]+)"
    r"|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+))"
)
"""The model's, of the shape LayerVersionArn."""

_LAYER_NAME_PATTERN = rf"(arn:(aws[a-zA-Z-]*)?:lambda:{_REGION}:\d{{12}}:layer:[a-zA-Z0-9-_]+)|[a-zA-Z0-9-_]+"
"""The model's, of the shape LayerName."""

# The same with names for the groups; ASCII, for `\d` is more than 0 to 9 otherwise.
_FUNCTION = re.compile(
    rf"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?(?:(?P<region>{_REGION}):)?(?:(?P<account>\d{{12}}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9_.-]+)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9_-]+))?",
    re.ASCII,
)
_LAYER = re.compile(
    rf"arn:(?:aws[a-zA-Z-]*)?:lambda:(?P<region>{_REGION}):(?P<account>\d{{12}}):layer:(?P<name>[a-zA-Z0-9_-]+)"
    r"(?::(?P<version>[0-9]+))?",
    re.ASCII,
)
_LAYER_NAME = re.compile(r"[a-zA-Z0-9_-]+")


class Home(Protocol):
    """Where the service is; `LambdaService` is one."""

    @property
    def region(self) -> str:
        """Such as `eu-west-1`."""

    @property
    def account(self) -> str:
        """Twelve digits."""


@dataclass(frozen=True)
class FunctionReference:
    """A function of this service, which may not exist, and the qualifier it was asked for with."""

    name: str
    qualifier: str | None = None
    """A version, `$LATEST` or an alias; `None` where none was given."""


@dataclass(frozen=True)
class LayerReference:
    """A layer version that some account published in some region."""

    region: str
    account: str
    name: str
    version: int


@cache
def partition(region: str) -> str:
    """Return the partition that `region` is in, such as `aws` or `aws-cn`."""
    return next((name for prefix, name in _PARTITIONS.items() if region.startswith(prefix)), "aws")


def function_arn(home: Home, name: str, qualifier: str | None = None) -> str:
    """Return the function's ARN, unqualified without a qualifier."""
    suffix = "" if qualifier is None else f":{qualifier}"
    return f"arn:{partition(home.region)}:lambda:{home.region}:{home.account}:function:{name}{suffix}"


def layer_arn(home: Home, name: str) -> str:
    """Return the ARN of the layer without a version."""
    return f"arn:{partition(home.region)}:lambda:{home.region}:{home.account}:layer:{name}"


def layer_version_arn(home: Home, name: str, version: int) -> str:
    """Return the ARN of one version of the layer."""
    return f"{layer_arn(home, name)}:{version}"


def code_signing_config_arn(home: Home, identifier: str) -> str:
    """Return the ARN of the code signing config with this id: `csc-` and 17 lower-case letters and digits."""
    return (
        f"arn:{partition(home.region)}:lambda:{home.region}:{home.account}:code-signing-config:{identifier}"
    )


def runtime_version_arn(home: Home, digest: str) -> str:
    """Return the ARN of a runtime version, of 64 hexadecimal digits; it belongs to no account."""
    return f"arn:{partition(home.region)}:lambda:{home.region}::runtime:{digest}"


def is_version(qualifier: str) -> bool:
    """Return whether `qualifier` is the number of a published version."""
    return qualifier.isascii() and qualifier.isdigit()


def is_alias(qualifier: str) -> bool:
    """Return whether `qualifier` can only be an alias's name."""
    return qualifier != LATEST and not is_version(qualifier)


def function_reference(home: Home, function_name: str, qualifier: str | None = None) -> FunctionReference:
    """Return what the members `FunctionName`, in any of its forms, and `Qualifier` of a request refer to.

    The forms: `orders`, `orders:live`, `123456789012:function:orders`, the same with `:live`, and ARNs with and without
    a qualifier.

    Raises:
        ServiceError: the first that applies of `ValidationException` for no such form, `ResourceNotFoundException` for
            another region, `AccessDeniedException` for another account, and `InvalidParameterValueException` for two
            different qualifiers.
    """
    match = _FUNCTION.fullmatch(function_name)
    if match is None:
        raise _mismatch(function_name, "functionName", _FUNCTION_PATTERN)
    name, derived = match["name"], match["qualifier"]
    region, account = match["region"], match["account"]
    if region is not None and region != home.region:
        raise ServiceError(
            "ResourceNotFoundException",
            f"Functions from '{region}' are not reachable in this region ('{home.region}')",
        )
    if account is not None and account != home.account:
        raise ServiceError("AccessDeniedException", None)
    if None not in (derived, qualifier) and derived != qualifier:
        raise ServiceError(
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )
    return FunctionReference(name, derived if qualifier is None else qualifier)


def new_function_name(home: Home, function_name: str) -> str:
    """Return the name of the function to create, from any form of the member `FunctionName`.

    Raises:
        ServiceError: as `function_reference` does, and `InvalidParameterValueException` for a name that is too long.
            Of an operation on a function that exists, no name is too long: there is no such function, that is all.
    """
    name = function_reference(home, function_name).name
    if len(name) > MAX_NAME:
        raise ServiceError(
            "InvalidParameterValueException",
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_NAME}",
        )
    return name


def function_reference_of_arn(home: Home, arn: str) -> FunctionReference | None:
    """Return what the full ARN of a function refers to; `None` if it is not the ARN of a function of this service."""
    match = _FUNCTION.fullmatch(arn)
    if match is None:
        return None
    reference = FunctionReference(match["name"], match["qualifier"])
    # Parts that may be left out of a FunctionName may not be left out of an ARN.
    return reference if arn == function_arn(home, reference.name, reference.qualifier) else None


def layer_reference(arn: str, member: str = "layers") -> LayerReference:
    """Return what the ARN of a layer version refers to. `member` is the request's member that has it.

    Raises:
        ServiceError: `ValidationException` when it is no such ARN.
    """
    match = _LAYER.fullmatch(arn)
    if match is None or match["version"] is None:
        raise _mismatch(arn, member, _LAYER_VERSION_PATTERN)
    return LayerReference(match["region"], match["account"], match["name"], int(match["version"]))


def layer_name(home: Home, name: str) -> str:
    """Return the layer's name in the member `LayerName` of a request, which may be an ARN without a version.

    Raises:
        ServiceError: `ValidationException` when it is neither, `AccessDeniedException` for another account's or
            another region's layer.
    """
    if _LAYER_NAME.fullmatch(name):
        return name
    match = _LAYER.fullmatch(name)
    if match is None or match["version"] is not None:
        raise _mismatch(name, "layerName", _LAYER_NAME_PATTERN)
    if (match["region"], match["account"]) != (home.region, home.account):
        raise ServiceError("AccessDeniedException", None)
    return match["name"]


def _mismatch(value: str, member: str, pattern: str) -> ServiceError:
    return ServiceError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {pattern}",
    )
