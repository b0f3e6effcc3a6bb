"""The native API's OpenAPI 3.1 document, made from the table of endpoints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from thingmint import __version__
from thingmint.http.openapi import Examples, permissions
from thingmint.native import schemas
from thingmint.native.descriptions import CONFLICTS, FIELDS, OPERATIONS, UNSUPPORTED, WITHOUT_RESOURCE
from thingmint.native.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from thingmint.native.declaring import Endpoint


_REF = "#/components/{kind}/{model}"

_TAGS = {
    "certificates": "Certificates of devices.",
    "fleet": "Sessions of devices, what devices were refused, imports, and the health of the server.",
    "provisioning": "Dry runs and claims of provisioning templates.",
    "audit": "The records of what was done and refused.",
    "access": "Accounts, users, service accounts, roles, their credentials and policies.",
}
_FLEET = frozenset({"health", "import-findings", "imports", "refusal-counts", "refusals", "session", "sessions"})

_ERRORS = {
    "400": ("VALIDATION_ERROR", "A parameter or the body is wrong. The message names it."),
    "401": ("UNAUTHENTICATED", "There is no token, or the server does not accept it."),
    "403": ("PERMISSION_DENIED", "No policy allows this to the token's owner."),
    "404": ("NOT_FOUND", "There is no such resource in this account and region."),
    "405": ("METHOD_NOT_ALLOWED", "The path does not take that method."),
    "409": ("CONFLICT", "It exists already, its status or its use does not allow this, or a quota is reached."),
    "429": (
        "RATE_LIMITED",
        "The account makes too many calls. `Retry-After` has the seconds to wait.",
    ),
    "500": ("INTERNAL", "The server failed. Its log has the details under the id in the message."),
    "501": ("NOT_IMPLEMENTED", "The server's configuration does not allow this."),
    "503": ("UNAVAILABLE", "The store cannot be reached, or cannot write changes now."),
}
"""The code and the description of each error by its status."""
_OF_EVERY_CALL = ("400", "401", "403", "429", "500", "503")


def document() -> dict[str, Any]:
    """Return the document. ``format`` names the rules that JSON Schema cannot express, such as "csr"."""
    results: list[tuple[type[BaseModel], Any]] = [(e.result, "serialization") for e in ENDPOINTS if e.result]
    bodies: list[tuple[type[BaseModel], Any]] = [
        (e.body, "validation") for e in ENDPOINTS if e.body is not schemas.NoBody
    ]
    refs, definitions = models_json_schema(results + bodies, ref_template=_ref("schemas", "{model}"))
    for model in definitions["$defs"].values():
        model["properties"] = {name: _described(name, each) for name, each in model.get("properties", {}).items()}
    errors = {code: _json(f"- `{code}`: {text}", _error(code)) for code, text in _ERRORS.values()}
    examples = Examples("thingmint.native")
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation = _operation(endpoint, refs)
        examples.embed(operation, errors)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Thingmint",
            "version": __version__,
            "description": "X.509 identities for devices. The same server has the APIs of AWS IoT and Yandex IoT Core.",
        },
        "servers": [{"url": "/", "description": "The server that answered with this document."}],
        "security": [{"token": []}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `thingmint access token create`, or the one in `clients/token`.",
                }
            },
            "responses": errors,
            "schemas": definitions["$defs"],
        },
    }


def _ref(kind: str, model: str) -> str:
    return _REF.replace("{kind}", kind).replace("{model}", model)


def _error(code: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["success", "error"],
        "properties": {
            "success": {"const": False},
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"const": code}, "message": {"type": "string"}},
            },
        },
    }


def _operation(endpoint: Endpoint, refs: Any) -> dict[str, Any]:
    id = endpoint.id or endpoint.operation
    data = refs[endpoint.result, "serialization"] if endpoint.result else {"type": "null"}
    operation: dict[str, Any] = {
        "operationId": id,
        "summary": endpoint.summary,
        "description": OPERATIONS.get(id, f"{endpoint.summary}."),
        "tags": [_tag(endpoint)],
        **permissions(endpoint.actions, one_of=endpoint.one_of),
        "parameters": _parameters(endpoint),
        "responses": {
            "200": _json(
                "Done",
                {
                    "type": "object",
                    "required": ["success", "data"],
                    "properties": {"success": {"const": True}, "data": data},
                },
            ),
            **{status: {"$ref": _ref("responses", _ERRORS[status][0])} for status in _statuses(endpoint)},
        },
    }
    if endpoint.body is not schemas.NoBody:
        operation["requestBody"] = {
            "required": not _takes_nothing(endpoint.body),
            "content": {"application/json": {"schema": refs[endpoint.body, "validation"]}},
        }
    return operation


def _takes_nothing(body: type[BaseModel]) -> bool:
    """True if a request without a body is valid: the server reads it as an empty object."""
    try:
        body.model_validate({})
    except ValidationError:
        return False
    return True


def _tag(endpoint: Endpoint) -> str:
    noun = endpoint.path.removeprefix("/v1/").split("/")[0]
    return noun if noun in _TAGS else "fleet" if noun in _FLEET else "certificates"


def _statuses(endpoint: Endpoint) -> list[str]:
    """The statuses of the errors with which the endpoint can answer."""
    id = endpoint.id or endpoint.operation
    more = {"404": id not in WITHOUT_RESOURCE, "409": id in CONFLICTS, "501": id in UNSUPPORTED}
    return sorted((*_OF_EVERY_CALL, *(status for status, possible in more.items() if possible)))


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, **_split(schemas.IN_PATH[name])}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    schema = endpoint.query.model_json_schema()
    in_query = [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            **_split(_described(name, _without_null(given))),
        }
        for name, given in schema.get("properties", {}).items()
    ]
    return in_path + in_query


def _described(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field, with the description by its name if it has none of its own."""
    return {"description": FIELDS[name], **schema} if name in FIELDS else schema


def _split(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter has its description beside its schema."""
    description = {"description": schema["description"]} if "description" in schema else {}
    return {**description, "schema": {name: value for name, value in schema.items() if name != "description"}}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an optional parameter: a query has no null, a parameter is absent."""
    branches: list[dict[str, Any]] = [branch for branch in schema.get("anyOf", ()) if branch != {"type": "null"}]
    if len(branches) != 1:
        return schema
    return {name: value for name, value in schema.items() if name not in ("anyOf", "default")} | branches[0]


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
