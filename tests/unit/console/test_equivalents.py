"""The code for other clients makes the request that "Try it" makes, for every operation and hostile values."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qsl, unquote, urlsplit

import botocore.session
import pytest
from botocore.serialize import create_serializer
from google.protobuf.json_format import MessageToDict, ParseDict

from thingmint.cli.main import app
from thingmint.console.playground.aws_clients import PAYLOADS
from thingmint.console.playground.catalogue import Catalogue, Operation
from thingmint.console.playground.equivalents import equivalents
from thingmint.console.playground.given import Given
from thingmint.console.playground.shown_code import Addresses, Equivalents
from thingmint.console.playground.terraform import RESOURCES
from thingmint.server.contracts import CONTRACTS
from thingmint.yandex.contract import load
from thingmint.yandex.operations import OPEN

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESSES = Addresses("localhost:8443", "localhost:9443", "localhost", 8883, "123456789012", "us-east-1")
HOSTILE = (
    *("<script>alert(1)</script>", "it's", 'a "quoted" text', "$(id)", "`id`", "${x}", "%{x}", "-x", "\\", "a\nb"),
    *("file:///etc/passwd", "Ж", "\u202e", "\x1b[31m", " ", "a/b?c#d&e=f", "a:b", "..", "\\(env)", "!!", "*"),
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PRIVATE_KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----\n"


@cache
def catalogue() -> Catalogue:
    return Catalogue.of({api: make() for api, make in CONTRACTS.items()})


def operation(api: str, id: str) -> Operation:
    return catalogue().find(api, id)


def shown(asked: Operation, values: dict[str, Any], addresses: Addresses = ADDRESSES) -> Equivalents:
    return equivalents(asked, values, addresses, catalogue().schemas[asked.api].resolved)


def text_of(asked: Operation, values: dict[str, Any], client: str) -> str | None:
    found = {each.id: each.text for each in shown(asked, values).clients}
    return found.get(client)


def code(api: str, id: str, client: str, **values: Any) -> str:
    text = text_of(operation(api, id), values, client)
    assert text is not None
    return text


class _Values:
    """Values for the fields of operations: each text is the next one of ``texts``."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self._texts = texts
        self._number = 0

    def of(self, asked: Operation) -> dict[str, Any]:
        resolve = catalogue().schemas[asked.api].resolved
        return {each.name: self._value(each.schema, resolve, 0) for each in asked.fields}

    def _text(self) -> str:
        self._number += 1
        return self._texts[self._number % len(self._texts)]

    def _value(self, schema: dict[str, Any], resolve: Any, depth: int) -> Any:
        schema = resolve(schema)
        kind = schema.get("type")
        if "enum" in schema:
            return schema["enum"][-1]
        if kind == "array":
            return [self._value(schema.get("items", {}), resolve, depth + 1) for _ in range(2)] if depth < 4 else []
        if kind == "object" or "properties" in schema:
            if depth > 3:
                return {}
            members = {
                name: self._value(each, resolve, depth + 1) for name, each in schema.get("properties", {}).items()
            }
            others = schema.get("additionalProperties")
            return members | (
                {self._text(): self._value(others, resolve, depth + 1)} if isinstance(others, dict) else {}
            )
        if kind in ("integer", "number"):
            return max(schema.get("minimum", 1), 1)
        if kind == "boolean":
            return self._number % 2 == 0
        if schema.get("contentEncoding") == "base64":
            return "aGVsbG8="
        return self._text()


def everything(texts: tuple[str, ...] = HOSTILE) -> Iterator[tuple[Operation, dict[str, Any]]]:
    values = _Values(texts)
    for api in CONTRACTS:
        for each in catalogue().operations(api):
            yield each, values.of(each)


def words_of(scripts: list[str]) -> list[list[str]]:
    """The words of the first command of each script, as bash reads them, without a pipe."""
    marked = "\n".join(f"words {script}\nprintf '\\1\\0'" for script in scripts)
    run = f"words() {{ printf '%s\\0' \"$@\"; }}\n{marked}"
    env = {"PATH": os.environ["PATH"], "TOKEN": "TOKEN", "IAM_TOKEN": "IAM_TOKEN"}
    read = subprocess.run(["bash"], input=run.encode(), capture_output=True, check=True, env=env).stdout.decode()
    return [words.split("\0")[:-1] for words in read.split("\1\0")[:-1]]


def options(words: list[str]) -> dict[str, list[str]]:
    """The values by option, and those without an option under an empty name."""
    found: dict[str, list[str]] = {"": []}
    alone = {"--fail-with-body", "--tlsv1.2", "--path-as-is"}
    rest = iter(words[1:])
    for word in rest:
        if word in alone:
            continue
        name = word if word.startswith("-") else ""
        found.setdefault(name, []).append(next(rest) if name else word)
    return found


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


def test_a_header_of_several_lines_has_no_curl() -> None:
    asked = operation("aws", "AttachThingPrincipal")
    assert text_of(asked, {"thingName": "x", "x-amzn-principal": "a\r\nx-evil: 1"}, "curl") is None


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


def test_no_secret_is_in_the_code() -> None:
    for each, values in everything((f"\n{PRIVATE_KEY}",)):
        assert "MHcCAQ" not in repr(shown(each, values)), each.id
    for each, values in everything(("S3cret",)):
        secret = {field.name: "S3cret" for field in each.fields if field.is_secret and field.place != "path"}
        plain = {key: value for key, value in values.items() if isinstance(value, int)}
        assert "S3cret" not in repr(shown(each, plain | secret)), each.id


def test_a_private_key_is_a_file_that_the_page_does_not_show() -> None:
    found = shown(operation("aws", "CreateCertificateFromCsr"), {"certificateSigningRequest": PRIVATE_KEY})
    assert [(each.name, each.text) for each in found.files] == [("request.key", None)]
    assert "file://request.key" in {each.id: each.text for each in found.clients}["aws"]


def test_certificates_are_files() -> None:
    values = {
        "registryId": "r",
        "certificates": [{"certificateData": CERTIFICATE}, {"certificateData": f"{CERTIFICATE}x"}],
    }
    found = shown(operation("yandex", "DeviceService.Create"), values)
    assert [(each.name, each.text) for each in found.files] == [
        ("certificate.pem", CERTIFICATE),
        ("certificate-2.pem", f"{CERTIFICATE}x"),
    ]
    for each in found.clients:
        assert "MIIB" not in each.text
        assert "certificate.pem" in each.text
        assert "certificate-2.pem" in each.text


def test_missing_values_are_words_in_capitals() -> None:
    found = shown(operation("aws", "CreateThing"), {})
    assert found.missing == ("thingName",)
    assert "https://localhost:8443/things/THING_NAME" in found.clients[0].text


def test_the_published_line_of_create_keys_and_certificate() -> None:
    [words] = words_of([code("aws", "CreateKeysAndCertificate", "curl", setAsActive=True)])
    line = " ".join(words)
    assert line.startswith(
        "curl --fail-with-body --tlsv1.2 --cacert data/ca.pem --aws-sigv4 aws:amz:us-east-1:iot --user "
    )
    assert line.endswith(" -X POST https://localhost:8443/keys-and-certificate?setAsActive=true")


def test_the_aws_command_does_not_read_what_a_value_names() -> None:
    text = code("aws", "CreateThing", "aws", thingName="file:///etc/passwd")
    assert '--cli-input-json \'{"thingName": "file:///etc/passwd"}\'' in text
    assert code("aws", "CreateThing", "aws", thingName="-x").endswith("--thing-name=-x")


def test_the_aws_command_asks_for_one_page() -> None:
    assert code("aws", "ListThings", "aws", maxResults=5).endswith("--max-results 5 --no-paginate")


def test_terraform_has_the_resources_of_served_operations() -> None:
    for id, each in RESOURCES.items():
        found = operation("yandex" if "." in id else "aws", id)
        names = {field.name for field in found.fields}
        assert {path.split(".")[0] for path in each.arguments} <= names, id
    assert text_of(operation("aws", "ListThings"), {}, "terraform") is None
    assert text_of(operation("native", "CreateKeysAndCertificate"), {}, "terraform") is None


def test_terraform_names_what_it_has_no_argument_for() -> None:
    values = {"thingName": "x", "attributePayload": {"attributes": {"a b": "${c}"}, "merge": True}}
    [found] = [each for each in shown(operation("aws", "CreateThing"), values).clients if each.id == "terraform"]
    assert 'attributes = { "a b" = "$${c}" }' in found.text
    assert found.note == "The resource has no argument for attributePayload.merge. "


@pytest.mark.parametrize("id", ["CreateKeysAndCertificate", "CreateCertificateFromCsr", "RegisterThing"])
def test_devices_have_the_call_in_json_and_cbor(id: str) -> None:
    found = {each.id: each.text for each in shown(operation("aws", id), {}).clients}
    for format in ("json", "cbor"):
        compile(found[f"mqtt-{format}"], "shown", "exec")
        assert f"/{format}/accepted" in found[f"mqtt-{format}"]
        assert f"/{format}/rejected" in found[f"mqtt-{format}"]


def test_values_that_are_too_long_have_no_code() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    for value in (deep, {"a": "x" * 200_000}, ["x"] * 200_000):
        assert shown(operation("aws", "CreateThing"), {"thingName": "x", "attributePayload": value}).clients == ()


def test_a_server_with_another_certificate_needs_no_root() -> None:
    other = Addresses("iot.example.org:8443", "iot.example.org:9443", "iot.example.org", 8883, "1", "eu-west-1", False)
    for each in (operation("yandex", "DeviceService.List"), operation("aws", "ListThings")):
        found = shown(each, {}, other)
        assert "ca.pem" not in repr(found)
