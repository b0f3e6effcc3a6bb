"""The descriptor set of this repository, compared with the SDK from which it was extracted."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tests.tables import each_row

from thingmint.yandex.contract import load
from thingmint.yandex.contract.answers import Code
from thingmint.yandex.contract.descriptors import ContractError, Descriptors
from thingmint.yandex.contract.validation import FieldViolation

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

SCRIPT = Path(__file__).parents[3] / "scripts/extract_yandex_descriptors.py"
COMMITTED = Path(__file__).parents[3] / "src/thingmint/yandex/contract/descriptors.binpb"
CONTRACT = load()


def sdk_is_installed() -> bool:
    try:
        return importlib.util.find_spec("yandex.cloud.iot") is not None
    except ModuleNotFoundError:
        return False


needs_sdk = pytest.mark.skipif(
    not sdk_is_installed(), reason="yandexcloud, which contains the contract, is not installed"
)


def script() -> Any:
    spec = importlib.util.spec_from_file_location("extract_yandex_descriptors", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_sdk
def test_the_committed_set_is_the_sdks() -> None:
    result = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@needs_sdk
def test_extraction_is_deterministic() -> None:
    module = script()
    first, second = (module.extract().SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_check_names_the_files_that_differ() -> None:
    module = script()
    changed = FileDescriptorSet.FromString(COMMITTED.read_bytes())
    files = {file.name: file for file in changed.file}
    del files["yandex/cloud/iot/devices/v1/device_service.proto"].message_type[0].field[0]
    files["google/protobuf/descriptor.proto"].message_type.add(name="OfALaterRelease")
    changed.file.remove(files["google/rpc/error_details.proto"])
    assert module.differences(COMMITTED.read_bytes(), changed) == [
        "google/rpc/error_details.proto",
        "yandex/cloud/iot/devices/v1/device_service.proto",
    ]


def test_the_set_has_no_comments_and_a_fixed_order() -> None:
    seen: set[str] = set()
    for file in FileDescriptorSet.FromString(COMMITTED.read_bytes()).file:
        assert not file.HasField("source_code_info")
        assert set(file.dependency) <= seen
        seen.add(file.name)


def test_the_contract_loads_without_the_sdk() -> None:
    code = (
        "import sys\n"
        "for name in ('yandex', 'yandexcloud', 'google.rpc', 'google.api', 'grpc'): sys.modules[name] = None\n"
        "from thingmint.yandex.contract import load\n"
        "print(len(load().methods))"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("54\n", "")


OUR_MESSAGES = sorted(
    name
    for name, cls in CONTRACT.messages.items()
    if name.startswith(("yandex.cloud.iot.", "yandex.cloud.iam.", "yandex.cloud.operation.", "yandex.cloud.endpoint."))
    and not cls.DESCRIPTOR.GetOptions().map_entry
)


def sdk_class(name: str) -> Any:
    descriptor = CONTRACT.messages[name].DESCRIPTOR
    module: Any = importlib.import_module(descriptor.file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
    for part in name.removeprefix(f"{descriptor.file.package}.").split("."):
        module = getattr(module, part)
    return module


def fill(message: Any, descriptor: Descriptor, depth: int = 0) -> Any:
    """Set every field of a message; of a oneof, its last member."""
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["ключ"] = "value"
        elif field.message_type is not None:
            target = getattr(message, field.name)
            if depth < 4:
                fill(target.add() if field.is_repeated else target, field.message_type, depth + 1)
        else:
            value = scalar(field)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def scalar(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.type == FieldDescriptor.TYPE_STRING:
        return f"строка {field.number}"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes([field.number, 0, 255])
    return True if field.type == FieldDescriptor.TYPE_BOOL else field.number


@needs_sdk
@each_row("name", OUR_MESSAGES)
def test_messages_of_the_sdk_and_ours_are_interchangeable(name: str) -> None:
    ours: Any = CONTRACT.messages[name]
    theirs = sdk_class(name)
    sent = fill(theirs(), theirs.DESCRIPTOR).SerializeToString(deterministic=True)
    received: Any = ours.FromString(sent)
    assert received == fill(ours(), ours.DESCRIPTOR)
    assert theirs.FromString(received.SerializeToString()).SerializeToString(deterministic=True) == sent
    assert ours.DESCRIPTOR is not theirs.DESCRIPTOR


@needs_sdk
def test_sdk_unpacks_our_details() -> None:
    status_pb2: Any = importlib.import_module("google.rpc.status_pb2")
    error_details_pb2: Any = importlib.import_module("google.rpc.error_details_pb2")
    ours = CONTRACT.statuses.build(
        Code.INVALID_ARGUMENT, "no", violations=[FieldViolation("name", "bad")], request_id="r-1"
    )
    theirs = status_pb2.Status.FromString(ours.SerializeToString())
    bad_request, request_info = error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
    assert theirs.details[0].Unpack(bad_request)
    assert theirs.details[1].Unpack(request_info)
    assert [(v.field, v.description) for v in bad_request.field_violations] == [("name", "bad")]
    assert request_info.request_id == "r-1"


def test_unknown_message_names_raise_contract_errors() -> None:
    with pytest.raises(ContractError, match="no message Nothing"):
        Descriptors.load().resolve("Nothing", "yandex.cloud.iot.devices.v1")
