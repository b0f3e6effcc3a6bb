"""The playground: a list of all operations of the APIs, and a page for each."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.access.authorization import extent_of
from thingmint.console.page import action, page, url
from thingmint.console.playground.catalogue import APIS, Catalogue, catalogue_of, title_of
from thingmint.console.playground.diagrams import operation_diagram, types_of
from thingmint.console.playground.equivalents import equivalents
from thingmint.console.playground.given import Given
from thingmint.console.playground.pickers import pickers_of
from thingmint.console.playground.shapes import sample_of, tree_of
from thingmint.console.playground.shown_code import ROOT, Addresses
from thingmint.domain.names import authority_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from thingmint.access.authorization import Extent
    from thingmint.console.page import Call
    from thingmint.console.playground.operations import Operation
    from thingmint.http.messages import Answer

_MAX_FOUND = 100
_OPEN_GROUPS = 3  # so many groups show their operations without a click
_SERVED = (("", "All"), ("yes", "Served"), ("no", "Not served"))
_DOCUMENTS = {"aws": "/openapi/aws.json", "yandex": "/openapi/yandex.json", "native": "/openapi.json"}
_UNSERVED = {"aws": "NotImplementedException", "yandex": "UNIMPLEMENTED", "native": "NOT_IMPLEMENTED"}
_PAIRS = {
    ("aws", "RegisterCertificateWithoutCA"): "certificatePem",
    ("native", "AddCertificate"): "certificate_pem",
    ("yandex", "AddCertificate"): "certificateData",
}
"""The fields that accept a certificate which the browser has made, by the names of operations."""
_EXTENTS: Mapping[Extent, tuple[str, str]] = {
    "all": ("ok", "Your policies allow it for all resources."),
    "some": ("warn", "Your policies allow it for some resources, or under conditions."),
    "none": ("bad", "Your policies do not allow it: calls are refused."),
}


class _Group(NamedTuple):
    title: str
    operations: list[Operation]

    @property
    def served(self) -> int:
        return sum(each.is_served for each in self.operations)

    @property
    def counts(self) -> str:
        """How many operations there are, and how many of them are served."""
        number, served = len(self.operations), self.served
        said = "all served" if served == number else f"{served} served" if served else "none served"
        return (
            f"{number} {'operation' if number == 1 else 'operations'}, {said if number > 1 or not served else 'served'}"
        )


@page("/playground", "DescribeApi")
async def playground(call: Call) -> Answer:
    """All operations in groups; with words to search for, those that have them, the best first."""
    catalogue = await catalogue_of(call.parts.contracts)
    words = call.query.text("q")
    api = call.query.choice("api", APIS)
    tags = {f"{known}/{tag}": title_of(tag) for known in APIS for tag in catalogue.tags(known)}
    tag = call.query.choice("tag", tags)
    served = call.query.choice("served", ("yes", "no"))
    if tag and api and not tag.startswith(f"{api}/"):
        tag = ""  # that of the API which was chosen before
    found = catalogue.search(
        words,
        api or tag.partition("/")[0] or None,
        tag.partition("/")[2] or None,
        {"yes": True, "no": False}.get(served),
    )
    groups = [] if words else list(_grouped(found))
    return call.render(
        "playground.html",
        fields={"q": words, "api": api, "tag": tag, "served": served},
        is_filtered=bool(words or api or tag or served),
        total=len(found),
        served=sum(each.is_served for each in found),
        groups=groups,
        is_open=sum(len(each) for _, each in groups) <= _OPEN_GROUPS,
        found=found[:_MAX_FOUND] if words else [],
        apis=APIS,
        tags={known: [(key, title) for key, title in tags.items() if key.startswith(f"{known}/")] for known in APIS},
        served_choices=_SERVED,
        title_of=title_of,
        documents=_DOCUMENTS,
        command="\n".join(_document_command(call, each) for each in APIS),
    )


@page("/playground/{api}/{id}", "DescribeApi")
async def operation(call: Call) -> Answer:
    """The query may have values for the form, or the number of an example whose values it gets."""
    catalogue = await catalogue_of(call.parts.contracts)
    found = catalogue.find(call.path["api"], call.path["id"])
    number = call.query.number("example")
    if number is not None and 1 <= number <= len(found.examples):
        given = Given.of(found, found.examples[number - 1].request)
    else:
        given = Given.parse(found, call.query, catalogue.schemas[found.api].resolved)
    return call.render("playground_operation.html", **await page_values(call, catalogue, given))


@action("/playground/{api}/{id}/code", "DescribeApi", entry="/playground", is_recorded=False)
async def code(call: Call) -> Answer:
    """The same page with the code of what is typed into its form so far. It calls no operation."""
    catalogue = await catalogue_of(call.parts.contracts)
    found = catalogue.find(call.path["api"], call.path["id"])
    given = Given.parse(found, call.form, catalogue.schemas[found.api].resolved)
    return call.render("playground_operation.html", **await page_values(call, catalogue, given))


async def page_values(call: Call, catalogue: Catalogue, given: Given) -> dict[str, Any]:
    """What the template of an operation's page needs. ``values`` and ``wrong`` are of its form, by names of fields."""
    operation = given.operation
    schemas = catalogue.schemas[operation.api]
    types = types_of(operation.answer)
    asked = None if operation.api == "yandex" else call.scope
    return {
        "operation": operation,
        "api_title": APIS[operation.api],
        "tag": (title_of(operation.tag), url("/playground", tag=f"{operation.api}/{operation.tag}")),
        "address": url(f"/playground/{operation.api}/{operation.id}"),
        "unserved": _UNSERVED[operation.api],
        "permissions": [(each, *_EXTENTS[extent_of(call.context, each, asked)]) for each in operation.permissions],
        "trees": {each.name: tree_of(schemas, each.schema) for each in operation.fields if each.place == "body"},
        "samples": {
            each.name: _json(sample_of(schemas, each.schema))
            for each in operation.fields
            if each.is_long and not each.is_text
        },
        "answer": tree_of(schemas, operation.answer) if operation.answer is not None else (),
        "diagram": operation_diagram(metadata=types[0], response=types[1]) if types is not None else None,
        "examples": [
            (each.title, _json(each.request), "" if each.answer is None else _json(each.answer), each.status)
            for each in operation.examples
        ],
        "values": given.texts,
        "wrong": given.errors,
        "command": _document_command(call, operation.api),
        "codes": equivalents(operation, given.values, _addresses(call, operation.api), schemas.resolved),
        "pickers": await pickers_of(call, given),
        "pair": _PAIRS.get((operation.api, operation.id.rpartition(".")[2]), ""),
    }


def _addresses(call: Call, api: str) -> Addresses:
    server, scope, devices = call.parts.addresses(), call.scope, call.parts.devices
    aws_host = call.change.environment.endpoints.get(scope) or server.host
    return Addresses(
        api=authority_of(server.host, server.api_port),
        grpc=authority_of(server.host, server.grpc_port),
        mqtt_host=devices.yandex_host(scope.account) if api == "yandex" else aws_host,
        mqtt_port=devices.port,
        account=scope.account,
        region=scope.region,
        own_root=server.own_root,
        is_home=scope == call.caller.scope(),
    )


def _document_command(call: Call, api: str) -> str:
    addresses = _addresses(call, api)
    root = f" --cacert {ROOT}" if addresses.own_root else ""
    return f"curl{root} {addresses.url}{_DOCUMENTS[api]}"


def _grouped(found: Iterable[Operation]) -> Iterable[tuple[str, list[_Group]]]:
    """The groups of each API, by their tags; those of which nothing is served are the last."""
    for api, operations in groupby(found, key=lambda each: each.api):
        ordered = sorted(operations, key=lambda each: (title_of(each.tag), each.id))
        groups = [_Group(title, list(each)) for title, each in groupby(ordered, key=lambda each: title_of(each.tag))]
        yield api, sorted(groups, key=lambda group: group.served == 0)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
