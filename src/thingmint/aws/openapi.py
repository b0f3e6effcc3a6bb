"""The OpenAPI 3.1 document of AWS IoT's control plane: all operations of the model, and which of them are served."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from thingmint import __version__
from thingmint.aws import operations
from thingmint.aws.authorization import ROLES
from thingmint.aws.contract import load_model
from thingmint.aws.contract.portable_patterns import ANY_TEXT, portable
from thingmint.aws.contract.scalars import SUPERLINEAR_LENGTH, is_superlinear
from thingmint.aws.descriptions import DEFAULTS, ERRORS, FIELDS
from thingmint.aws.descriptions import OPERATIONS as DESCRIPTIONS
from thingmint.aws.error_meanings import MEANINGS
from thingmint.aws.errors import COMMON_STATUS
from thingmint.http.openapi import Examples, Responses, permissions, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.aws.contract.scalars import Shape


_SCHEMAS: Final = "#/components/schemas/"
_TAGS: Final = (
    ("Jobs", "Job|AssociateTargets"),
    ("Commands", "Command"),
    ("Streams and updates", "Stream|OTAUpdate"),
    ("Software packages", "Package|Sbom"),
    ("Rules", "TopicRule"),
    (
        "Device Defender",
        "Audit|SecurityProfile|Mitigation|Violation|CustomMetric|Dimension|BehaviorModel|ListMetricValues",
    ),
    ("Fleet indexing", "Index|Indices|Statistics|Percentiles|Cardinality|Aggregation|FleetMetric|Connectivity"),
    ("Authorizers", "Authorizer"),
    ("Domain configurations", "DomainConfiguration"),
    ("Logging", "Logging"),
    ("Encryption", "EncryptionConfiguration"),
    ("Events", "EventConfiguration"),
    ("Endpoint", "Endpoint"),
    ("Tags", "[Tt]agResource|TagsForResource"),
    ("Provisioning", "Provisioning|RegistrationTask|RegisterThing$"),
    ("CA certificates", "CACertificate|CertificatesByCA|RegistrationCode"),
    ("Certificate providers", "CertificateProvider"),
    ("Policies", "Polic|TestAuthorization"),
    ("Certificates", "Certificate"),
    ("Role aliases", "RoleAlias"),
    ("Billing groups", "BillingGroup"),
    ("Thing groups", "ThingGroup"),
    ("Thing types", "ThingType"),
    ("Things", "Thing"),
)
"""The first pattern found in an operation's name gives its tag."""

_OF_EVERY_CALL: Final = frozenset(COMMON_STATUS) - {"UnknownOperationException", "NotImplementedException"} | {
    "InternalFailureException",
    "InvalidRequestException",
    "ServiceUnavailableException",
    "ThrottlingException",
}
_FORMATS: Final = {"integer": "int32", "long": "int64"}
_BITS: Final = {"integer": 31, "long": 63}
_IN: Final = {"uri": "path", "querystring": "query", "header": "header"}
_LINK: Final = re.compile(r"\[([^]]+)\]\([^)]+\)")  # to a page of docs/
_TEXT_OF_LINK: Final = r"\1"
_PLAIN_ERROR: Final = "ErrorWithMessage"


def document() -> dict[str, Any]:
    """Return the document. ``x-pattern`` is a Java pattern with classes that ECMAScript and Python do not share."""
    model = load_model()
    writer = _Writer(model)
    paths: dict[str, Any] = {}
    used = set()
    examples = Examples("thingmint.aws")
    for name, spec in model["operations"].items():
        operation = writer.operation(name, spec)
        examples.embed(operation, writer.responses.written)
        used.update(operation["tags"])
        path = spec["http"]["requestUri"].replace("+}", "}")
        paths.setdefault(path, {})[spec["http"]["method"].lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AWS IoT's control plane, as Thingmint serves it",
            "version": __version__,
            "description": (
                "All operations of botocore's model of `iot`. Those with `x-thingmint-served: false` check the "
                "caller's credentials, then answer NotImplementedException (501)."
            ),
        },
        "servers": [{"url": "/", "description": "The server that answered with this document."}],
        "security": [{"sigv4": []}],
        "tags": [
            {"name": tag, "description": f"Operations on {tag[0].lower()}{tag[1:]}." if tag[1].islower() else tag}
            for tag in sorted(used)
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "sigv4": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": (
                        "AWS Signature Version 4 with an access key of this server, for the service `iot`. Temporary "
                        "credentials also need the header `X-Amz-Security-Token`."
                    ),
                    "x-amazon-apigateway-authtype": "awsSigv4",
                }
            },
            "headers": {
                "x-amzn-requestid": {
                    "description": "The id of the request, as in the audit log.",
                    "schema": {"type": "string"},
                }
            },
            "responses": dict(sorted(writer.responses.written.items())),
            "schemas": dict(sorted(writer.schemas.items())),
        },
    }


def tag_of(operation: str) -> str:
    """The tag of an operation."""
    return next((tag for tag, pattern in _TAGS if re.search(pattern, operation)), "Others")


class _Writer:
    """Writes operations. ``schemas`` collects the shapes that they refer to."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        shapes = self._shapes = model["shapes"]
        self._deviations = _deviations()
        self._of_served = _reached(model, operations.OPERATIONS)
        self.schemas: dict[str, Any] = {_PLAIN_ERROR: _object({"message": {"type": "string"}}, ["message"])}
        self.responses = Responses()
        of_model = {name: each["error"]["httpStatusCode"] for name, each in shapes.items() if each.get("exception")}
        self._error_status = {**COMMON_STATUS, **of_model}

    def operation(self, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        given = self._shapes[spec["input"]["shape"]]
        written: dict[str, Any] = {
            "operationId": name,
            "summary": words(name),
            "tags": [tag_of(name)],
            "x-thingmint-served": name in operations.OPERATIONS,
            **permissions([f"iot:{name}", *(["iam:PassRole"] if name in ROLES else [])]),
            "parameters": self._parameters(name, given, spec["http"]["requestUri"]),
        }
        texts = [DESCRIPTIONS[name]] if name in DESCRIPTIONS else []
        if deviation := self._deviations.get(name):
            texts.append(f"Differs from AWS: {_LINK.sub(_TEXT_OF_LINK, deviation)}")
        if texts:
            written["description"] = "\n\n".join(texts)
        if spec.get("deprecated"):
            written["deprecated"] = True
        if (body := self._body(name, given, spec["input"]["shape"])) is not None:
            written["requestBody"] = body
        written["responses"] = {"200": self._answer(name, spec), **self._errors(name, spec)}
        return written

    def _parameters(self, operation: str, shape: Shape, uri: str) -> list[dict[str, Any]]:
        required = shape.get("required", ())
        found = []
        for member, reference in shape["members"].items():
            if (place := _IN.get(reference.get("location", ""))) is None:
                continue
            name = reference.get("locationName", member)
            schema = self.schema(reference["shape"]) | _default(operation, member)
            parameter: dict[str, Any] = {
                "name": name,
                "in": place,
                "required": place == "path" or member in required,
                "description": _description(operation, member) or f"{words(member)}.",
                "schema": schema,
            }
            if place == "path" and schema.get("type") == "string" and "enum" not in schema:
                parameter["schema"] = schema | {"minLength": max(1, schema.get("minLength", 0))}
            if f"{{{name}+}}" in uri:
                parameter["description"] += " Takes all remaining segments of the path, with their slashes."
                parameter["x-greedy"] = True
            if reference.get("deprecated"):
                parameter["deprecated"] = True
            found.append(parameter)
        return found

    def _body(self, operation: str, shape: Shape, name: str) -> dict[str, Any] | None:
        members = {member: each for member, each in shape["members"].items() if "location" not in each}
        if not members:
            return None
        required = [member for member in shape.get("required", ()) if member in members]
        if "payload" in shape:
            schema, kind = self._payload(members[shape["payload"]]["shape"])
        else:
            self.schemas[name] = self._structure(members, required, operation, is_input=True)
            schema, kind = {"$ref": f"{_SCHEMAS}{name}"}, "application/json"
        return {"required": bool(required), "content": {kind: {"schema": schema}}}

    def _payload(self, name: str) -> tuple[dict[str, Any], str]:
        """The schema and the media type of a member that is the whole body."""
        if self._shapes[name]["type"] == "blob":
            return {}, "application/octet-stream"
        return self.schema(name), "application/json"

    def _answer(self, operation: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "description": "Done.",
            "headers": {"x-amzn-requestid": {"$ref": "#/components/headers/x-amzn-requestid"}},
        }
        if "output" in spec:
            shape = self._shapes[spec["output"]["shape"]]
            members = {member: each for member, each in shape["members"].items() if "location" not in each}
            if "payload" in shape:
                schema, kind = self._payload(members[shape["payload"]]["shape"])
            else:
                name = spec["output"]["shape"]
                required = [member for member in shape.get("required", ()) if member in members]
                self.schemas[name] = self._structure(members, required, operation)
                schema, kind = {"$ref": f"{_SCHEMAS}{name}"}, "application/json"
            answer["content"] = {kind: {"schema": schema}}
        return answer

    def _errors(self, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The errors by status: those of the model and of this server, and those that every call can have."""
        codes = {error["shape"] for error in spec["errors"]} | {*ERRORS.get(name, ())} | _OF_EVERY_CALL
        if name not in operations.OPERATIONS:
            codes.add("NotImplementedException")
        by_status: dict[str, list[str]] = {}
        for code in sorted(codes):
            by_status.setdefault(str(self._error_status[code]), []).append(code)
        return {status: self.responses.refer(status, self._error(by_status[status])) for status in sorted(by_status)}

    def _error(self, codes: list[str]) -> dict[str, Any]:
        schemas = []
        for code in codes:
            members = self._shapes[code]["members"] if code in self._shapes else {}
            schema = self.schema(code) if members.keys() > {"message"} else {"$ref": f"{_SCHEMAS}{_PLAIN_ERROR}"}
            if schema not in schemas:
                schemas.append(schema)
        return {
            "description": "\n".join(f"- `{code}`: {MEANINGS[code]}" for code in codes),
            "headers": {
                "x-amzn-errortype": {
                    "description": "The code.",
                    "required": True,
                    "schema": {"type": "string", "enum": codes},
                }
            },
            "content": {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}},
        }

    def schema(self, name: str) -> dict[str, Any]:
        """The schema of the shape ``name``: a reference, if it is not a scalar."""
        shape = self._shapes[name]
        if shape["type"] not in ("structure", "list", "map"):
            return _scalar(shape)
        if name not in self.schemas:
            self.schemas[name] = {}  # the shape may be recursive
            self.schemas[name] = self._container(name, shape)
        return {"$ref": f"{_SCHEMAS}{name}"}

    def _container(self, name: str, shape: Shape) -> dict[str, Any]:
        if shape["type"] == "structure":
            operation = "" if name in self._of_served else None
            return self._structure(shape["members"], shape.get("required", ()), operation)
        if shape["type"] == "list":
            limits = _limits(shape, "minItems", "maxItems")
            return {"type": "array", "items": self.schema(shape["member"]["shape"]), **limits}
        return {
            "type": "object",
            "propertyNames": self.schema(shape["key"]["shape"]),
            "additionalProperties": self.schema(shape["value"]["shape"]),
            **_limits(shape, "minProperties", "maxProperties"),
        }

    def _structure(
        self, members: Mapping[str, Any], required: Any, operation: str | None = None, *, is_input: bool = False
    ) -> dict[str, Any]:
        """``operation`` is the name of the one that the structure belongs to, empty if it belongs to several served."""
        properties = {}
        wires = {member: reference.get("locationName", member) for member, reference in members.items()}
        for member, reference in members.items():
            schema = self.schema(reference["shape"])
            if operation is not None and (text := _description(operation, member)):
                schema = schema | {"description": " ".join([text, *filter(None, [schema.get("description")])])}
            if operation is not None and is_input:
                schema = schema | _default(operation, member)
            properties[wires[member]] = schema | {"deprecated": True} if reference.get("deprecated") else schema
        return _object(properties, [wires[member] for member in required])


def _reached(model: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """The shapes that inputs and outputs of these operations have."""
    found: set[str] = set()
    left = [
        model["operations"][name][side]["shape"]
        for name in names
        for side in ("input", "output")
        if side in model["operations"][name]
    ]
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            shape = model["shapes"][name]
            members = [*shape.get("members", {}).values(), *(shape[key] for key in ("member", "value") if key in shape)]
            left += [each["shape"] for each in members]
    return found


def _description(operation: str, member: str) -> str | None:
    """The description of a member of a served operation, if there is one."""
    if operation and operation not in operations.OPERATIONS:
        return None
    return FIELDS.get(f"{operation}.{member}") or FIELDS.get(member)


def _default(operation: str, member: str) -> dict[str, Any]:
    """The ``default`` of a member of a served operation's input."""
    if operation not in operations.OPERATIONS:
        return {}
    default = DEFAULTS.get(f"{operation}.{member}", DEFAULTS.get(member))
    return {} if default is None else {"default": default}


def _object(properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties)}
    return schema | {"required": required} if required else schema


def _scalar(shape: Shape) -> dict[str, Any]:
    kind = shape["type"]
    if kind == "string":
        return _string(shape)
    if kind == "boolean":
        return {"type": "boolean"}
    if kind in _FORMATS:
        limit = 1 << _BITS[kind]
        low, high = max(shape.get("min", -limit), -limit), min(shape.get("max", limit - 1), limit - 1)
        return {"type": "integer", "format": _FORMATS[kind], "minimum": low, "maximum": high}
    if kind in ("float", "double"):
        return {"type": "number", "format": kind, **_limits(shape, "minimum", "maximum")}
    if kind == "timestamp":
        return {
            "description": "Seconds since 1970 in answers; in requests also a time of ISO 8601.",
            "anyOf": [{"type": "number"}, {"type": "string"}],
        }
    if kind == "blob":
        bounds = {name: -(-length // 3) * 4 for name, length in _limits(shape, "minLength", "maxLength").items()}
        return {"type": "string", "contentEncoding": "base64", **bounds}
    raise ValueError(f"the type {kind} is not supported")


def _string(shape: Shape) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if shape.get("sensitive"):
        schema["x-sensitive"] = True
    if "enum" in shape:
        return schema | {"enum": list(shape["enum"])}
    schema |= _limits(shape, "minLength", "maxLength")
    pattern = shape.get("pattern")
    if pattern is None:
        return schema | {"pattern": ANY_TEXT}
    if "max" not in shape and is_superlinear(pattern):
        schema["maxLength"] = SUPERLINEAR_LENGTH
    translated = portable(pattern)
    return schema | ({"pattern": ANY_TEXT, "x-pattern": pattern} if translated is None else {"pattern": translated})


def _limits(shape: Shape, least: str, most: str) -> dict[str, Any]:
    return {name: shape[key] for name, key in ((least, "min"), (most, "max")) if key in shape}


def _deviations() -> dict[str, str]:
    """How served operations differ from AWS, from the modules that declare them."""
    found: dict[str, str] = {}
    for module in vars(operations).values():
        found |= getattr(module, "DEVIATIONS", {})
    return found
