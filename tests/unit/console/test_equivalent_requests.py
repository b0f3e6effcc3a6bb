"""The code for other clients makes the request that "Try it" makes, for every operation and hostile values."""

from __future__ import annotations

import json
import os
import re
import sys
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qsl, unquote, urlsplit

import botocore.session
from botocore.serialize import create_serializer
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.unit.console.sample_calls import everything, options, shown, text_of, words_of
from thingmint.cli.main import app
from thingmint.console.playground.aws_clients import PAYLOADS
from thingmint.console.playground.given import Given
from thingmint.yandex.contract import load
from thingmint.yandex.operations import OPEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.console.playground.operations import Operation


def test_curl_sends_the_request_of_try_it() -> None:
    asked, scripts = [], []
    for each, values in everything():
        text = text_of(each, values, "curl")
        if text is None or "jq " in text.split("curl")[0]:
            continue
        asked.append((each, values))
        scripts.append(text)
    assert len(asked) > 250
    for (each, values), words in zip(asked, words_of(scripts), strict=True):
        request = Given.of(each, values).request()
        given = options(words)
        address = urlsplit(given[""][0])
        assert _segments(address.path) == _segments(request.path)
        assert sorted(parse_qsl(address.query, keep_blank_values=True)) == sorted(
            parse_qsl(request.query, keep_blank_values=True)
        )
        assert given.get("-X", ["GET"]) == [request.method]
        headers = {name: value for name, _, value in (each.partition(": ") for each in given.get("-H", ()))}
        headers = {name.removesuffix(";"): value for name, value in headers.items()}
        headers.pop("authorization", None)
        assert headers == {name: value.strip() for name, value in request.headers}
        assert json.loads(given.get("--data", ["null"])[0]) == (json.loads(request.body) if request.body else None)


def _segments(path: str) -> list[str]:
    return [unquote(each) for each in path.split("/")]


@cache
def _service() -> Any:
    return botocore.session.get_session().get_service_model("iot")


def _serialized(name: str, arguments: dict[str, Any]) -> tuple[Any, ...]:
    model = _service().operation_model(name)
    made = create_serializer("rest-json", include_validation=False).serialize_to_request(arguments, model)
    headers = {key.lower(): value for key, value in made["headers"].items() if key.lower().startswith("x-")}
    return made["method"], made["url_path"], made["query_string"], headers, made["body"]


def _recorded(text: str, modules: dict[str, Any]) -> None:
    with mock.patch.dict(sys.modules, modules), mock.patch("builtins.print"):
        exec(compile(text, "shown", "exec"), {"__name__": "__main__"})


def test_boto3_sends_the_request_of_try_it() -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Client:
        def __getattr__(self, name: str) -> Any:
            return lambda **arguments: calls.append((name, arguments))

    module = ModuleType("boto3")
    module.client = lambda service, region_name: Client()  # type: ignore[attr-defined]
    for each, values in everything():
        if each.api != "aws" or _has_kept(each, values):
            continue
        text = text_of(each, values, "boto3")
        assert text is not None
        _recorded(text, {"boto3": module})
        name, arguments = calls.pop()
        model = _service().operation_model(each.id)
        assert name == botocore.xform_name(each.id)
        assert arguments.keys() <= model.input_shape.members.keys()
        if each.id in PAYLOADS or {"timestamp", "blob"} & {*_types(model.input_shape)}:
            continue
        request = Given.of(each, values).request()
        method, path, query, headers, body = _serialized(each.id, arguments)
        assert (method, unquote(path)) == (request.method, unquote(request.path))
        assert sorted((key, value) for key, value in _pairs(query)) == sorted(
            parse_qsl(request.query, keep_blank_values=True)
        )
        assert headers == {key: value for key, value in request.headers if key != "content-type"}
        assert json.loads(body or b"{}") == json.loads(request.body or b"{}")


def _pairs(query: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in query.items():
        for each in value if isinstance(value, list) else [value]:
            yield name, str(each)


def _types(shape: Any, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    if shape.name in seen:
        return
    seen |= {shape.name}
    yield shape.type_name
    for each in (
        *getattr(shape, "members", {}).values(),
        getattr(shape, "member", None),
        getattr(shape, "value", None),
    ):
        if each is not None:
            yield from _types(each, seen)


def _has_kept(asked: Operation, values: dict[str, Any]) -> bool:
    found = shown(asked, values)
    return bool(found.files or found.secrets)


def test_members_have_the_names_of_the_model() -> None:
    """With every field given, all members of the model are there."""
    for each, values in everything(("x",)):
        if each.api != "aws" or shown(each, values).secrets:
            continue
        text = text_of(each, values, "aws")
        assert text is not None
        members = _service().operation_model(each.id).input_shape.members
        given = {word[2:].removeprefix("no-") for word in re.findall(r"--[a-z0-9-]+", text)} - {"region", "paginate"}
        assert given == {botocore.xform_name(name, "-") for name in members}, each.id


def test_every_yandex_client_sends_the_same_message() -> None:
    methods = {each.path: each for each in load().methods.values()}
    sent: list[tuple[str, Any, Any]] = []

    class Sdk:
        def __init__(self, **arguments: Any) -> None:
            pass

        def client(self, stub: Any) -> Any:
            class Channel:
                def unary_unary(self, path: str, **_: Any) -> Any:
                    return lambda request, metadata=(): sent.append((path, request, metadata))

            return stub(Channel())

        def wait_operation_and_get_result(self, _: Any, response: Any, metadata: Any) -> Any:
            return SimpleNamespace(response=(response, metadata))

    module = ModuleType("yandexcloud")
    module.SDK = Sdk  # type: ignore[attr-defined]
    names = iter(range(10**6))
    scripts, messages = [], []
    for each, made in everything(("x y", "it's", "${x}", "Ж", '"')):
        if each.api != "yandex":
            continue
        fixed = {"Idempotency-Key": f"{next(names)}", "updateMask": "topicAliases,name"}
        values = _one_of_each(each, {key: fixed.get(key, value) for key, value in made.items()})
        text = text_of(each, values, "yandexcloud")
        assert text is not None
        with (
            mock.patch.dict(os.environ, dict.fromkeys(("IAM_TOKEN", *shown(each, values).secrets), "S")),
            mock.patch("pathlib.Path.read_bytes", return_value=b""),
        ):
            _recorded(text, {"yandexcloud": module})
        path, request, metadata = sent.pop()
        assert path == each.grpc
        expected = methods[path].request_class()
        secrets = {name.lower().replace("_", ""): "S" for name in shown(each, values).secrets}
        fields = {key: secrets.get(key.lower(), value) for key, value in values.items() if key != "Idempotency-Key"}
        ParseDict(fields, expected)
        assert request.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
        has_key = each.field("Idempotency-Key") is not None
        assert list(metadata) == ([("idempotency-key", values["Idempotency-Key"])] if has_key else [])
        if not shown(each, values).secrets:
            scripts.append(text_of(each, values, "grpcurl") or "")
            messages.append((each, expected))
    assert len(scripts) > 40
    for (each, message), words in zip(messages, words_of(scripts), strict=True):
        given = options(words)
        assert given[""] == ["localhost:9443", (each.grpc or "")[1:]]
        sent_by_grpcurl = json.loads(given.get("-d", ["{}"])[0])
        if "updateMask" in sent_by_grpcurl:  # which grpcurl reads as any other message
            sent_by_grpcurl["updateMask"] = ",".join(map(_camel, sent_by_grpcurl["updateMask"]["paths"]))
        read = ParseDict(sent_by_grpcurl, type(message)())
        assert MessageToDict(read) == MessageToDict(message)
        assert ("authorization: Bearer IAM_TOKEN" in given.get("-H", ())) == (each.grpc not in OPEN)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda each: each[1].upper(), name)


def _one_of_each(asked: Operation, values: dict[str, Any]) -> dict[str, Any]:
    """Of alternatives, a message has one."""
    if asked.id == "IamTokenService.Create":
        return {"jwt": values["jwt"]}
    if asked.id == "DeviceService.List":
        return {key: value for key, value in values.items() if key != "registryId"}
    if "logOptions" in values:
        values["logOptions"].pop("folderId")
    return values


def test_the_thingmint_command_takes_what_is_shown() -> None:
    import typer.main

    command = typer.main.get_command(app)
    asked, scripts = [], []
    for each, made in everything(("x", "it's", "-x", "a b", "$(id)")):
        if each.api != "native":
            continue
        values = {key: value for key, value in made.items() if key != "account"}
        text = text_of(each, values, "thingmint")
        if text is None:
            assert not (each.path or "").startswith("/v1/access/")
            continue
        asked.append((each, values))
        scripts.append(text.rpartition("|\n")[2].strip())
    assert len(asked) > 45
    for (each, values), words in zip(asked, words_of(scripts), strict=True):
        context, found, arguments = (
            command.make_context("thingmint", words[1:], resilient_parsing=False),
            command,
            words[1:],
        )
        while isinstance(found, typer.core.TyperGroup):
            name, inner, arguments = found.resolve_command(context, arguments)
            assert inner is not None
            found, context = inner, inner.make_context(name, list(arguments), parent=context)
            arguments = [*context._protected_args, *context.args] if isinstance(found, typer.core.TyperGroup) else []
        parsed = {key.rstrip("_"): value for key, value in context.params.items() if value not in (None, False)}
        if "account" in parsed:
            assert parsed["account"] == "123456789012"
        for key, value in values.items():
            if key in parsed and parsed[key] != "-":
                assert str(parsed[key]) == str(value), (each.id, key)
