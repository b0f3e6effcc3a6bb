"""Write the descriptor set of the Yandex API, taken from the installed ``yandexcloud`` SDK.

    python scripts/extract_yandex_descriptors.py            # writes src/thingmint/yandex/contract/descriptors.binpb
    python scripts/extract_yandex_descriptors.py --check    # exit status 1 if the committed file differs

The set has the files of the nine services, the files that they import, and further files that responses need. A file
comes after its dependencies; apart from that, the order depends only on the names. Comments and source positions are
removed.

``google/protobuf/*`` belong to protobuf and change with its releases, so ``--check`` only requires that they exist.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor

__all__ = ["TARGET", "differences", "extract"]

TARGET = Path(__file__).resolve().parent.parent / "src/thingmint/yandex/contract/descriptors.binpb"

SERVICES = (
    "yandex.cloud.endpoint.api_endpoint_service_pb2",
    "yandex.cloud.iam.v1.iam_token_service_pb2",
    "yandex.cloud.iot.broker.v1.broker_data_service_pb2",
    "yandex.cloud.iot.broker.v1.broker_service_pb2",
    "yandex.cloud.iot.devices.v1.device_data_service_pb2",
    "yandex.cloud.iot.devices.v1.device_service_pb2",
    "yandex.cloud.iot.devices.v1.registry_data_service_pb2",
    "yandex.cloud.iot.devices.v1.registry_service_pb2",
    "yandex.cloud.operation.operation_service_pb2",
)
# Named in options or packed into Any, so no file imports them.
EXTRAS = ("google.protobuf.empty_pb2", "google.rpc.error_details_pb2")


def extract() -> FileDescriptorSet:
    """Collect the set. Raises ImportError if the SDK is not installed."""
    files: dict[str, FileDescriptorProto] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name in files:
            return
        for dependency in sorted(file.dependencies, key=lambda d: d.name):
            visit(dependency)
        proto = FileDescriptorProto.FromString(file.serialized_pb)
        proto.ClearField("source_code_info")
        files[file.name] = proto

    for module in SERVICES + EXTRAS:
        visit(importlib.import_module(module).DESCRIPTOR)
    return FileDescriptorSet(file=files.values())


def differences(committed: bytes, extracted: FileDescriptorSet) -> list[str]:
    """Names of the files that are missing, superfluous or changed in the committed set."""
    old = {f.name: f for f in FileDescriptorSet.FromString(committed).file}
    new = {f.name: f for f in extracted.file}
    return sorted(
        name
        for name in old.keys() | new.keys()
        if name not in old or name not in new or (not name.startswith("google/protobuf/") and old[name] != new[name])
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Extract the Yandex API's descriptor set from the SDK.")
    parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    arguments = parser.parse_args()
    extracted = extract()
    if not arguments.check:
        data = extracted.SerializeToString(deterministic=True)
        TARGET.write_bytes(data)
        print(f"{TARGET}: {len(extracted.file)} files, {len(data)} bytes")
        return 0
    changed = differences(TARGET.read_bytes(), extracted)
    for name in changed:
        print(f"{name}: differs", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
