"""What is configured besides functions, by boto3 through the whole service: in effect, and there after a restart."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.cli.commands import wait_until
from tests.local.conftest import connect
from tests.local.functions import RUNTIME, create, zipped

if TYPE_CHECKING:
    from caloric.local.local_lambda import LocalLambda
    from tests.local.conftest import StartLocalLambda

LAYER = zipped("TEXT = 'from the layer'\n", "python/greeting.py")
USES_LAYER = """
import os
from greeting import TEXT

def handler(event, context):
    return [TEXT, os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]
"""
PUBLISHERS = {"SigningProfileVersionArns": ["arn:aws:signer:us-east-1:012345678912:/signing-profiles/p"]}


def invoke(client: Any, name: str, **options: Any) -> Any:
    """Invoke, and return what the function returned."""
    answer = client.invoke(FunctionName=name, **options)
    assert "FunctionError" not in answer, answer["Payload"].read()
    return json.loads(answer["Payload"].read())


def configure(client: Any) -> None:
    """Set everything that can be set."""
    layer = client.publish_layer_version(
        LayerName="greetings", Content={"ZipFile": LAYER}, CompatibleRuntimes=[RUNTIME]
    )
    client.add_layer_version_permission(
        LayerName="greetings",
        VersionNumber=1,
        StatementId="all",
        Action="lambda:GetLayerVersion",
        Principal="*",
    )
    signing = client.create_code_signing_config(AllowedPublishers=PUBLISHERS, Tags={"a": "b"})
    create(
        client,
        "orders",
        USES_LAYER,
        Layers=[layer["LayerVersionArn"]],
        Tags={"team": "shop"},
        CodeSigningConfigArn=signing["CodeSigningConfig"]["CodeSigningConfigArn"],
    )
    client.publish_version(FunctionName="orders")
    client.create_alias(FunctionName="orders", Name="live", FunctionVersion="1")
    client.put_function_concurrency(FunctionName="orders", ReservedConcurrentExecutions=5)
    client.put_provisioned_concurrency_config(
        FunctionName="orders", Qualifier="live", ProvisionedConcurrentExecutions=1
    )
    client.put_function_recursion_config(FunctionName="orders", RecursiveLoop="Allow")
    client.put_runtime_management_config(FunctionName="orders", UpdateRuntimeOn="FunctionUpdate")
    for qualifier in ({}, {"Qualifier": "live"}):
        which = {"FunctionName": "orders", **qualifier}
        client.add_permission(**which, StatementId="all", Action="lambda:InvokeFunction", Principal="*")
        client.put_function_event_invoke_config(**which, MaximumRetryAttempts=0)
        client.create_function_url_config(**which, AuthType="NONE", Cors={"AllowOrigins": ["*"]})


def shown(client: Any) -> list[Any]:
    """Return all that is shown of it, but for the addresses of this start."""
    orders = {"FunctionName": "orders"}
    live = {**orders, "Qualifier": "live"}
    (signing,) = client.list_code_signing_configs()["CodeSigningConfigs"]
    arn = client.get_function_configuration(**orders)["FunctionArn"]
    answers = [
        client.get_layer_version(LayerName="greetings", VersionNumber=1),
        client.list_layers(),
        client.list_layer_versions(LayerName="greetings"),
        client.get_layer_version_policy(LayerName="greetings", VersionNumber=1),
        client.get_function_code_signing_config(**orders),
        client.list_functions_by_code_signing_config(CodeSigningConfigArn=signing["CodeSigningConfigArn"]),
        client.list_tags(Resource=signing["CodeSigningConfigArn"]),
        client.list_tags(Resource=arn),
        client.get_function(**orders),
        client.get_function_concurrency(**orders),
        client.list_provisioned_concurrency_configs(**orders),
        client.get_function_recursion_config(**orders),
        client.get_runtime_management_config(**orders),
        client.list_function_event_invoke_configs(**orders),
        client.list_function_url_configs(**orders),
        client.get_policy(**orders),
        client.get_policy(**live),
        client.get_account_settings(),
    ]
    for answer in answers:
        del answer["ResponseMetadata"]
    text = json.dumps([signing, *answers], default=str)
    text = re.sub(r"(localhost|127\.0\.0\.1):\d+", "HOST", text)
    document: list[Any] = json.loads(re.sub(r"\?Expires=\d+&Signature=[0-9a-f]+", "", text))
    return document


def until_ready(client: Any) -> None:
    which = {"FunctionName": "orders", "Qualifier": "live"}
    wait_until(
        lambda: client.get_provisioned_concurrency_config(**which)["Status"] == "READY",
        "provisioned concurrency is ready",
    )


def test_all_that_is_configured_is_there_again_after_a_restart(start_local_lambda: StartLocalLambda) -> None:
    first = start_local_lambda()
    client = connect(first.url)
    configure(client)
    until_ready(client)
    before = shown(client)
    client.close()
    first.close()
    client = connect(start_local_lambda().url)
    until_ready(client)
    assert shown(client) == before
    assert invoke(client, "orders", Qualifier="live") == ["from the layer", "provisioned-concurrency"]
    client.close()


def test_nothing_is_left_of_a_deleted_function(client: Any) -> None:
    configure(client)
    client.delete_function(FunctionName="orders")
    create(client, "orders")
    orders = {"FunctionName": "orders"}
    assert client.list_provisioned_concurrency_configs(**orders)["ProvisionedConcurrencyConfigs"] == []
    assert client.list_function_event_invoke_configs(**orders)["FunctionEventInvokeConfigs"] == []
    assert client.list_function_url_configs(**orders)["FunctionUrlConfigs"] == []
    assert client.get_function_recursion_config(**orders)["RecursiveLoop"] == "Terminate"
    assert client.get_runtime_management_config(**orders)["UpdateRuntimeOn"] == "Auto"
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(**orders)
    assert "CodeSigningConfigArn" not in client.get_function_code_signing_config(**orders)
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_policy(**orders)


def test_a_layer_stays_with_the_function_when_it_is_deleted(client: Any) -> None:
    configure(client)
    (layer,) = client.get_function_configuration(FunctionName="orders")["Layers"]
    client.delete_layer_version(LayerName="greetings", VersionNumber=1)
    assert client.get_function_configuration(FunctionName="orders")["Layers"] == [layer]
    assert invoke(client, "orders") == ["from the layer", "on-demand"]
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="does not exist"):
        client.update_function_configuration(FunctionName="orders", Layers=[layer["Arn"]])


def test_layers_and_code_are_downloaded_through_the_service(local_lambda: LocalLambda, client: Any) -> None:
    configure(client)
    layer = client.get_layer_version(LayerName="greetings", VersionNumber=1)["Content"]["Location"]
    code = client.get_function(FunctionName="orders")["Code"]["Location"]
    for location, content in ((layer, LAYER), (code, zipped(USES_LAYER))):
        assert location.startswith(f"{local_lambda.url}/")
        with urllib.request.urlopen(location) as answer:
            assert hashlib.sha256(answer.read()).digest() == hashlib.sha256(content).digest()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(location.partition("?")[0])
