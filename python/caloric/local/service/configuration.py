"""What a function is configured with: checked, with AWS's defaults, and as the answers show it.

A document of the store's table `version` has the members of the API's FunctionConfiguration, but `FunctionName`,
`FunctionArn` and `Version`, which are in its key, and of our own:

- `Code`: `{"Digest": ...}` of a zip file among the blobs, `{"Folder": ...}` for a folder served in place or
  `{"ImageUri": ...}`.
- `UnzippedSize`: of the code, in bytes, where it is a zip file.
- `LayersUnzippedSize`: of the layers together.
- `LayerDigests`: where the content of `Layers` is, in their order. It outlives the layer versions.
- `Change`: what was begun last has an id, so that it ends once.
- `Running`: the document as it is invoked while an update is in progress, and after one that failed.
- `Published`: of a version, the fingerprint of what `$LATEST` was when it was published.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from caloric.local.service.errors import ServiceError
from caloric.local.service.names import LATEST, function_arn, runtime_version_arn
from caloric.local.service.states import STATE_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caloric.local.service.names import Home
    from caloric.local.service.operations import Members

__all__ = ["configure", "described", "fingerprint", "listed"]

RUNTIMES = tuple(
    "nodejs18.x nodejs20.x nodejs22.x nodejs24.x nodejs26.x "
    "python3.8 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14 python3.15 "
    "java8.al2 java11 java17 java21 java25 java8.al2023 java11.al2023 java17.al2023 "
    "dotnet6 dotnet8 dotnet10 ruby3.2 ruby3.3 ruby3.4 ruby4.0 provided.al2 provided.al2023".split()
)
"""What functions may be created with (spec lambda-service 2.1). The API model has more, which AWS refuses."""

DEPRECATED_RUNTIMES = frozenset(
    "nodejs nodejs4.3 nodejs4.3-edge nodejs6.10 nodejs8.10 nodejs10.x nodejs12.x nodejs14.x nodejs16.x java8 "
    "python2.7 python3.6 python3.7 dotnetcore1.0 dotnetcore2.0 dotnetcore2.1 dotnetcore3.1 go1.x ruby2.5 ruby2.7 "
    "provided".split()
)

SNAPSTART_RUNTIMES = re.compile(r"java(11|17|21|25)(\.al2023)?|python3\.(1[2-9])|dotnet(8|10)")

MAX_VARIABLES = 4096
"""So many bytes environment variables may have together as JSON."""

RESERVED_VARIABLES = frozenset(
    "_HANDLER _X_AMZN_TRACE_ID AWS_DEFAULT_REGION AWS_REGION AWS_EXECUTION_ENV AWS_LAMBDA_FUNCTION_NAME "
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE "
    "AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME AWS_ACCESS_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY "
    "AWS_SESSION_TOKEN AWS_LAMBDA_RUNTIME_API LAMBDA_TASK_ROOT LAMBDA_RUNTIME_DIR".split()
)
"""What the service sets itself (spec lambda-service 2.6)."""

_DEFAULTS: dict[str, Any] = {
    "Description": "",
    "Timeout": 3,
    "MemorySize": 128,
    "EphemeralStorage": {"Size": 512},
    "Architectures": ["x86_64"],
    "PackageType": "Zip",
    "TracingConfig": {"Mode": "PassThrough"},
    "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
}

_PLAIN = frozenset(
    "Role Handler Description Timeout MemorySize EphemeralStorage PackageType Architectures TenancyConfig".split()
)
"""Members that are kept as they are given."""

_NOT_HERE = ("CapacityProviderConfig", "DurableConfig", "PublishTo", "RuntimeConfig", "AcceleratorConfig")
"""What would make another kind of function, which there is not here: silently leaving it out would mislead."""

_OWN = frozenset("Code UnzippedSize LayerDigests LayersUnzippedSize Change Running Published".split())
"""Members of a document that the API does not show."""

_VOLATILE = STATE_MEMBERS | {"RevisionId", "LastModified", "UnzippedSize", "Change", "Running", "Published"}
"""What does not make a new version."""


def configure(home: Home, name: str, current: Mapping[str, Any] | None, request: Members) -> dict[str, Any]:
    """Return the document of `$LATEST` of the function `name` after `request`, whose members take those of `current`.

    Without `current` the function is new, and AWS's defaults hold. Members that are not configuration are not looked
    at, nor are code (`code`) and layers (`attached_layers`).

    Raises:
        ServiceError: `InvalidParameterValueException`.
    """
    for member in _NOT_HERE:
        if request.get(member):
            raise _invalid(f"{member} is not supported by the local Lambda.")
    configuration = {**_DEFAULTS, **(current or {})}
    configuration.update((member, request[member]) for member in _PLAIN if member in request)
    if current is None:
        _check_package(configuration, request)
    if "Runtime" in request:
        configuration["Runtime"] = runtime = _runtime(request["Runtime"])
        configuration["RuntimeVersionConfig"] = {"RuntimeVersionArn": _runtime_version(home, runtime)}
    if "Environment" in request:
        configuration["Environment"] = {"Variables": _variables(request["Environment"].get("Variables", {}))}
    if "VpcConfig" in request:
        configuration["VpcConfig"] = _vpc(request["VpcConfig"])
    if "SnapStart" in request:
        apply_on = request["SnapStart"].get("ApplyOn", "None")
        configuration["SnapStart"] = {"ApplyOn": apply_on, "OptimizationStatus": "Off"}
    if "TracingConfig" in request:
        configuration["TracingConfig"] = {"Mode": request["TracingConfig"].get("Mode", "PassThrough")}
    if "LoggingConfig" in request or current is None:
        given = request.get("LoggingConfig", {})
        configuration["LoggingConfig"] = _logging(name, configuration.get("LoggingConfig", {}), given)
    # What an empty value removes.
    _set(configuration, request, "KMSKeyArn", request.get("KMSKeyArn"))
    _set(configuration, request, "FileSystemConfigs", request.get("FileSystemConfigs"))
    target = request.get("DeadLetterConfig", {}).get("TargetArn")
    _set(configuration, request, "DeadLetterConfig", {"TargetArn": target} if target else None)
    if "ImageConfig" in request:
        image = {member: value for member, value in request["ImageConfig"].items() if value}
        configuration.pop("ImageConfigResponse", None)
        if image:
            configuration["ImageConfigResponse"] = {"ImageConfig": image}
    _check_snapstart(configuration)
    return configuration


def described(
    home: Home, name: str, version: int, document: Mapping[str, Any], qualifier: str | None
) -> dict[str, Any]:
    """Return the API's FunctionConfiguration of a version. `qualifier` is the one it was asked for with, if any."""
    return {
        **{member: value for member, value in document.items() if member not in _OWN},
        "FunctionName": name,
        "FunctionArn": function_arn(home, name, qualifier),
        "Version": str(version) if version else LATEST,
    }


def listed(
    home: Home, name: str, version: int, document: Mapping[str, Any], qualifier: str | None
) -> dict[str, Any]:
    """Return the FunctionConfiguration as lists have it: without its state and the runtime's version."""
    members = described(home, name, version, document, qualifier)
    return {
        member: value
        for member, value in members.items()
        if member not in STATE_MEMBERS and member != "RuntimeVersionConfig"
    }


def fingerprint(document: Mapping[str, Any]) -> str:
    """Return what is the same for two states of `$LATEST` that make the same version."""
    members = {member: value for member, value in document.items() if member not in _VOLATILE}
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()


def _set(configuration: dict[str, Any], request: Members, member: str, value: object) -> None:
    if member not in request:
        return
    configuration.pop(member, None)
    if value:
        configuration[member] = value


def _check_package(configuration: Mapping[str, Any], request: Members) -> None:
    if configuration["PackageType"] == "Zip":
        if not (request.get("Runtime") and request.get("Handler")):
            raise _invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        if request.get("ImageConfig"):
            raise _invalid("Please don't provide ImageConfig when the intended function PackageType is Zip.")
    elif any(request.get(member) for member in ("Runtime", "Handler", "Layers")):
        raise _invalid(
            "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
        )


def _runtime(runtime: str) -> str:
    if runtime in DEPRECATED_RUNTIMES:
        raise _invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
            "functions. We recommend you use a supported runtime while creating or updating functions."
        )
    if runtime not in RUNTIMES:
        raise _invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(RUNTIMES)}] or be a valid ARN"
        )
    return runtime


def _runtime_version(home: Home, runtime: str) -> str:
    """AWS's digests are of runtimes that are not here; two functions have the same if their runtime is."""
    return runtime_version_arn(home, hashlib.sha256(runtime.encode()).hexdigest())


def _variables(variables: Mapping[str, str]) -> Mapping[str, str]:
    problem = (
        "Lambda was unable to configure your environment variables "
        "because the environment variables you have provided"
    )
    if reserved := [name for name in variables if name in RESERVED_VARIABLES]:
        raise _invalid(
            f"{problem} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > MAX_VARIABLES:
        raise _invalid(f"{problem} exceeded the 4KB limit. String measured: {measured}")
    return variables


def _vpc(given: Mapping[str, Any]) -> dict[str, Any]:
    subnets, groups = given.get("SubnetIds", []), given.get("SecurityGroupIds", [])
    # There is no VPC to look the subnets up in: the same subnets are always in the same made-up one.
    vpc = "vpc-" + hashlib.sha256(",".join(sorted(subnets)).encode()).hexdigest()[:17] if subnets else ""
    return {
        "SubnetIds": subnets,
        "SecurityGroupIds": groups,
        "VpcId": vpc,
        "Ipv6AllowedForDualStack": bool(given.get("Ipv6AllowedForDualStack")),
    }


def _logging(name: str, current: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Members that are not given stay, but the levels, which there are with JSON only (spec lambda-service 2.9)."""
    merged = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}", **current, **given}
    levels = ("ApplicationLogLevel", "SystemLogLevel")
    if merged["LogFormat"] == "JSON":
        return {**dict.fromkeys(levels, "INFO"), **merged}
    if any(given.get(level) for level in levels):
        raise _invalid(
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change '
            'the LogFormat to "JSON" and try again.'
        )
    return {member: value for member, value in merged.items() if member not in levels}


def _check_snapstart(configuration: Mapping[str, Any]) -> None:
    if configuration["SnapStart"]["ApplyOn"] == "None":
        return
    runtime = configuration.get("Runtime", "Image")
    if not SNAPSTART_RUNTIMES.fullmatch(runtime):
        raise _invalid(f"{runtime} is not supported for SnapStart enabled functions.")
    if configuration["EphemeralStorage"]["Size"] > 512 or configuration.get("FileSystemConfigs"):
        raise _invalid(
            "SnapStart is not supported for functions with file systems or with more than 512 MB of ephemeral storage."
        )


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message)
