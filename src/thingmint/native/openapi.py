"""The native API's OpenAPI 3.1 document, made from the table of endpoints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from thingmint import __version__
from thingmint.native import schemas
from thingmint.native.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from pydantic import BaseModel

    from thingmint.native.declaring import Endpoint


_REF = "#/components/schemas/{model}"


def document() -> dict[str, Any]:
    results: list[tuple[type[BaseModel], Any]] = [(e.result, "serialization") for e in ENDPOINTS if e.result]
    bodies: list[tuple[type[BaseModel], Any]] = [
        (e.body, "validation") for e in ENDPOINTS if e.body is not schemas.NoBody
    ]
    refs, definitions = models_json_schema(results + bodies, ref_template=_REF)
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Thingmint",
            "version": __version__,
            "description": "X.509 identities for devices. The same server has the APIs of AWS IoT and Yandex IoT Core.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**definitions["$defs"], "Error": _ERROR},
        },
    }


_ERROR = {
    "type": "object",
    "required": ["success", "error"],
    "properties": {
        "success": {"const": False},
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {
                    "enum": [
                        "VALIDATION_ERROR",
                        "UNAUTHENTICATED",
                        "PERMISSION_DENIED",
                        "NOT_FOUND",
                        "METHOD_NOT_ALLOWED",
                        "CONFLICT",
                        "RATE_LIMITED",
                        "INTERNAL",
                        "NOT_IMPLEMENTED",
                        "UNAVAILABLE",
                    ]
                },
                "message": {"type": "string"},
            },
        },
    },
}


def _operation(endpoint: Endpoint, refs: Any) -> dict[str, Any]:
    data = refs[endpoint.result, "serialization"] if endpoint.result else {"type": "null"}
    operation: dict[str, Any] = {
        "operationId": endpoint.id or endpoint.operation,
        "summary": endpoint.summary,
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
            "default": _json("Error", {"$ref": _REF.format(model="Error")}),
        },
    }
    if endpoint.body is not schemas.NoBody:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": refs[endpoint.body, "validation"]}},
        }
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    properties = endpoint.query.model_json_schema().get("properties", {})
    in_query = [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
    return in_path + in_query


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
