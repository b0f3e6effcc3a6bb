"""The published contract of the Yandex API: its methods, their requests and responses.

:func:`load` compiles the descriptors once. Serving a valid request reads no descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from thingmint.yandex.contract.answers import OperationFactory, OperationTypes, StatusFactory
from thingmint.yandex.contract.descriptors import ContractError, Descriptors
from thingmint.yandex.contract.json_mapping import JsonWriter
from thingmint.yandex.contract.transcoding import RequestReader, Router, parse_template
from thingmint.yandex.contract.validation import InvalidRequest, compile_validator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

    from thingmint.yandex.contract.validation import Validator


# The descriptors have GET for this method; Yandex Cloud's API design guide has POST.
_FURTHER_BINDINGS = {"/yandex.cloud.operation.OperationService/Cancel": ("POST", "/operations/{operation_id}:cancel")}


@dataclass(frozen=True, slots=True)
class HttpBinding:
    """One rule of ``google.api.http``; ``body`` is "*" or empty."""

    http_method: str
    template: str
    body: str


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One of the contract's 54 methods. ``path`` is gRPC's, ``service`` the full name of its service.

    ``label`` is its name in policies and in the audit log, such as DeviceService.Get.
    """

    path: str
    service: str
    name: str
    label: str
    request_class: type[Message]
    response_class: type[Message]
    bindings: tuple[HttpBinding, ...]
    operation: OperationTypes | None
    validator: Validator
    reader: RequestReader

    def request_from_http(self, bindings: Mapping[str, str], query: bytes, body: bytes) -> Message:
        """The request, not validated yet; ``bindings`` come from :meth:`Contract.match`. Raises Invalid.

        Of a method without an HTTP binding, ``body`` is the whole message.
        """
        return self.reader.read(bindings, query, body)

    def validate(self, request: Message) -> None:
        """Raises InvalidRequest with all violations."""
        violations = self.validator(request)
        if violations:
            raise InvalidRequest(violations)


class Contract:
    """``methods`` are by gRPC path, ``messages`` (classes) by full name. ``roots`` are the paths' first segments."""

    def __init__(self, descriptors: Descriptors) -> None:
        self.pool = descriptors.pool
        self.messages: Mapping[str, type[Message]] = MappingProxyType(dict(descriptors.messages))
        self.operations = OperationFactory(descriptors)
        self.statuses = StatusFactory(descriptors)
        self._writer = JsonWriter(descriptors)
        self._router: Router[Method] = Router()
        methods = [_method(descriptors, method) for service in descriptors.services for method in service.methods]
        for method in methods:
            for binding in method.bindings:
                self._router.add(binding.http_method, parse_template(binding.template), method)
        self.methods: Mapping[str, Method] = MappingProxyType({method.path: method for method in methods})
        self.roots: frozenset[bytes] = self._router.roots

    def match(self, http_method: str, raw_path: bytes) -> tuple[Method, dict[str, str]] | None:
        """The method and its path variables, or None. ``raw_path`` is as the client sent it, without the query."""
        return self._router.match(http_method, raw_path)

    def response_to_json(self, message: Message) -> bytes:
        return self._writer.write(message)

    def status_to_json(self, status: Message) -> bytes:
        """The body of an HTTP error: only the Status."""
        return self._writer.write(status)


@cache
def load() -> Contract:
    """The contract that comes with this package, built on the first call (a few milliseconds)."""
    return Contract(Descriptors.load())


def _method(descriptors: Descriptors, method: MethodDescriptor) -> Method:
    assert method.containing_service is not None
    service = method.containing_service.full_name
    path = f"/{service}/{method.name}"
    if method.client_streaming or method.server_streaming:
        raise ContractError(f"{path} is streaming")
    bindings = tuple(_bindings(descriptors, method, path))
    if len({(b.body, parse_template(b.template).variables) for b in bindings}) > 1:
        raise ContractError(f"the bindings of {path} differ in variables or body")
    variables = parse_template(bindings[0].template).variables if bindings else ()
    whole_body = not bindings or bindings[0].body == "*"
    return Method(
        path=path,
        service=service,
        name=method.name,
        label=f"{method.containing_service.name}.{method.name}",
        request_class=descriptors.messages[method.input_type.full_name],
        response_class=descriptors.messages[method.output_type.full_name],
        bindings=bindings,
        operation=_operation_types(descriptors, method),
        validator=compile_validator(descriptors, method.input_type),
        reader=RequestReader(descriptors, method.input_type, variables, whole_body=whole_body),
    )


def _bindings(descriptors: Descriptors, method: MethodDescriptor, path: str) -> Iterator[HttpBinding]:
    rule: Any = descriptors.option(method, "google.api.http")
    if rule is None:
        return
    for each in (rule, *rule.additional_bindings):
        kind = each.WhichOneof("pattern")
        if kind not in {"get", "put", "post", "delete", "patch"} or each.body not in {"", "*"} or each.response_body:
            raise ContractError(f"cannot route {path}")
        yield HttpBinding(kind.upper(), getattr(each, kind), each.body)
    if path in _FURTHER_BINDINGS:
        http_method, template = _FURTHER_BINDINGS[path]
        yield HttpBinding(http_method, template, "")


def _operation_types(descriptors: Descriptors, method: MethodDescriptor) -> OperationTypes | None:
    option: Any = descriptors.option(method, "yandex.cloud.api.operation")
    if option is None:
        return None
    assert method.containing_service is not None
    package = method.containing_service.file.package
    return OperationTypes(
        metadata_class=descriptors.resolve(option.metadata, package),
        response_class=descriptors.resolve(option.response, package),
    )
