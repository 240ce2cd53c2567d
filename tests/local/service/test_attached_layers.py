"""The layers of a function (spec lambda-service 5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from caloric.local import archives
from caloric.local.service import functions
from caloric.local.service.code import stored_archive
from caloric.local.service.functions import (
    create_function,
    delete_function,
    update_function_code,
    update_function_configuration,
)
from tests.local.service.recording import new, zipped

if TYPE_CHECKING:
    from tests.local.service.recording import Lambda

LAYER = "arn:aws:lambda:eu-west-1:123456789012:layer"


def publish(aws: Lambda, name: str, version: int = 1, content: str = "") -> str:
    source = {"ZipFile": zipped({f"python/{name}.py": content or f"{name} {version}"})}
    with stored_archive(aws.service, source, "layer") as archive, aws.service.store.write() as transaction:
        document = {
            "Digest": archive.digest,
            "CodeSize": archive.size,
            "UnzippedSize": archive.unzipped_size,
        }
        transaction.put("layer_version", name, version, document=document)
    return f"{LAYER}:{name}:{version}"


def test_layers_are_where_the_environments_find_them(aws: Lambda) -> None:
    arns = [publish(aws, "b"), publish(aws, "a", 3)]
    answer = aws.created(Layers=arns)
    assert [layer["Arn"] for layer in answer["Layers"]] == arns
    assert all(layer["CodeSize"] > 0 for layer in answer["Layers"])
    first, second = aws.environments.versions["orders", "$LATEST"].layers
    assert (first / "python/b.py").read_text() == "b 1"
    assert (second / "python/a.py").read_text() == "a 3"
    aws(update_function_configuration, FunctionName="orders", Layers=arns[1:])
    assert [layer["Arn"] for layer in aws.settled()["Layers"]] == arns[1:]
    aws(update_function_configuration, FunctionName="orders", Layers=[])
    assert "Layers" not in aws.settled()
    assert aws.environments.versions["orders", "$LATEST"].layers == ()


def test_a_layer_version_that_is_deleted_stays_with_its_functions(aws: Lambda) -> None:
    arn = publish(aws, "deps")
    aws.created(Layers=[arn])
    aws.created("other")
    with aws.service.store.write() as transaction:
        transaction.delete("layer_version", "deps", 1)
    aws(delete_function, FunctionName="other")
    aws(update_function_configuration, FunctionName="orders", Timeout=9)
    assert aws.settled()["Layers"][0]["Arn"] == arn
    [layer] = aws.environments.versions["orders", "$LATEST"].layers
    aws.service.blobs.collect(aws.service.activation._referenced)
    assert aws.service.blobs.path(layer.name).is_file()


@pytest.mark.parametrize(
    ("arns", "message"),
    [
        ([f"{LAYER}:l{n}:1" for n in range(6)], "Cannot reference more than 5 layers."),
        (
            [f"{LAYER}:deps:1", f"{LAYER}:deps:2"],
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{LAYER}:deps:1 and {LAYER}:deps:2 are versions of the same layer.",
        ),
        (
            [f"{LAYER}:deps:1", f"{LAYER}:deps:1"],
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{LAYER}:deps:1 and {LAYER}:deps:1 are versions of the same layer.",
        ),
        ([f"{LAYER}:deps:9"], f"Layer version {LAYER}:deps:9 does not exist."),
        (
            [f"{LAYER.replace('eu-west-1', 'us-east-1')}:deps:1"],
            "Layers are not in the same region as the function. Layers are expected to be in region eu-west-1.",
        ),
        (
            [f"{LAYER.replace('123456789012', '017000801446')}:deps:1"],
            "Layer version arn:aws:lambda:eu-west-1:017000801446:layer:deps:1 does not exist. It belongs to another "
            "account, and the local Lambda has the layers only that were published to it.",
        ),
    ],
)
def test_what_cannot_be_attached(aws: Lambda, arns: list[str], message: str) -> None:
    publish(aws, "deps", 1)
    publish(aws, "deps", 2)
    error = ("InvalidParameterValueException", message)
    assert aws.refused(create_function, **new(Layers=arns)) == error
    aws.created()
    assert aws.refused(update_function_configuration, FunctionName="orders", Layers=arns) == error


def test_code_and_layers_have_one_limit(aws: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = publish(aws, "deps", content="l" * 600)
    code: dict[str, Any] = {"ZipFile": zipped({"app.py": "c" * 401})}
    monkeypatch.setattr(archives, "MAX_SIZE", 1000)
    monkeypatch.setattr(functions, "MAX_SIZE", 1000)
    error = (
        "InvalidParameterValueException",
        "Function code combined with layers exceeds the maximum allowed size of 1000 bytes. "
        "The actual size is 1001 bytes.",
    )
    assert aws.refused(create_function, **new(Layers=[layer], Code=code)) == error
    aws.created(Code=code)
    assert aws.refused(update_function_configuration, FunctionName="orders", Layers=[layer]) == error
    aws.created("bills", Layers=[layer])
    assert aws.refused(update_function_code, FunctionName="bills", **code) == error
