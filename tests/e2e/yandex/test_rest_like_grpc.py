"""Every method answers and refuses over REST as over gRPC. The requests are generated from the descriptors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from yandex.cloud.iot.broker.v1 import broker_pb2, broker_service_pb2

from tests.e2e.access.local_admin import LocalAdmin
from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import METHODS, PASSWORD, Account, Cloud, Refused, done, http_rule, refused_over_rest
from tests.e2e.yandex.generated_requests import Json, cases
from tests.e2e.yandex.test_all_methods import is_served
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thingmint.testing import RunningServer

SAMPLES: Json = {
    "device_id": "<device>",
    "registry_id": "<registry>",
    "broker_id": "<broker>",
    "folder_id": "<folder>",
    "operation_id": "<operation>",
    "api_endpoint_id": "iot-devices",
    "device_name": "device-1",
    "registry_name": "registry-1",
    "fingerprint": "0" * 64,
    "password_id": "are00000000000000000",
    "password": PASSWORD,
    "certificate_data": certificate(),
    "topic": "$devices/<device>/events",
    "data": "AAAA",
}
NOT_IN_BASE = {"DeviceService/List": {"folder_id"}, "DeviceService/Create": {"password"}}
COMPARED = [method for method in METHODS if http_rule(method) is not None and is_served(method)]
# What differs in any two answers, and says nothing about how they were made.
_IDS = re.compile(r"\b(?:are|aje|b1g)[0-9a-v]{17}\b")
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")
_ADDRESSES = re.compile(r"localhost:\d+")
_TOKENS = re.compile(r'("(?:nextPageToken|iamToken)": )"[^"]+"')


@dataclass
class Side:
    """An account that one kind of client uses. All accounts have the same things, under other ids."""

    cloud: Cloud
    kind: str  # grpc, or the spelling of names over REST: camel or snake
    ids: dict[str, str] = field(default_factory=dict)

    def renew(self) -> None:
        cloud = self.cloud
        self.ids["registry"] = cloud.registry()
        self.ids["device"] = cloud.device(self.ids["registry"], name="device-1")
        request = broker_service_pb2.CreateBrokerRequest(folder_id=cloud.folder)
        operation = cloud.grpc.call("BrokerService/Create", request)
        self.ids |= {"broker": done(operation, broker_pb2.Broker).id, "operation": operation.id, "folder": cloud.folder}

    def answer(self, method: str, fields: Json) -> str:
        """The answer, or the refusal, without ids and times."""
        given: Json = json.loads(self._filled(json.dumps(fields)))
        mask = given.pop("update_mask", None)
        message: Any = json_format.ParseDict(given, GetMessageClass(METHODS[method].input_type)())
        try:
            send = self._over_grpc if self.kind == "grpc" else self._over_rest
            answer = send(method, message, mask)
        except Refused as refused:
            if "update_mask" in refused.violations:  # REST reads it as text, gRPC as a list
                return f"{refused.code} {sorted(refused.violations)}"
            if refused.violations:
                return self._plain(f"{refused.code} {sorted(refused.violations.items())}")
            return self._plain(f"{refused.code} {refused.text}")
        return self._plain(json_format.MessageToJson(answer, sort_keys=True))

    def _over_grpc(self, method: str, message: Any, mask: str | None) -> Any:
        if mask:
            message.update_mask.paths.extend(mask.split(","))
        return self.cloud.grpc.call(method, message)

    def _over_rest(self, method: str, message: Any, mask: str | None) -> Any:
        rule = http_rule(method)
        assert rule is not None
        kind, template, in_body = rule
        fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
        if mask is not None:
            fields["update_mask"] = _camel(mask) if self.kind == "camel" else mask
        url = re.sub(r"\{(\w+)\}", lambda match: quote(str(fields.pop(match[1])), safe=""), template)
        if self.kind == "camel":
            names = {each.name: each.json_name for each in message.DESCRIPTOR.fields}
            fields = {names[name]: value for name, value in fields.items()}
        token = {"authorization": f"Bearer {self.cloud.token}"}
        if in_body:
            answer = self.cloud.http.request(kind, url, json=fields, headers=token)
        else:
            answer = self.cloud.http.request(kind, f"{url}?{urlencode(fields)}" if fields else url, headers=token)
        if answer.status_code != 200:
            raise refused_over_rest(answer)
        return json_format.ParseDict(answer.json(), GetMessageClass(METHODS[method].output_type)())

    def _filled(self, text: str) -> str:
        for name, id in self.ids.items():
            text = text.replace(f"<{name}>", id)
        return text

    def _plain(self, text: str) -> str:
        for name, id in self.ids.items():
            text = text.replace(id, f"<{name}>")
        text = _ADDRESSES.sub("localhost:<port>", text)
        return _TOKENS.sub(r"\1<token>", _TIMES.sub("<time>", _IDS.sub("<id>", text)))


def _camel(mask: str) -> str:
    return re.sub("_([a-z])", lambda match: match[1].upper(), mask)


@pytest.fixture(scope="module")
def sides() -> Iterator[list[Side]]:
    """On a separate server, because these requests create and delete much."""
    with running_server(arguments=["--log-format=json"]) as server:
        sides = [Side(_account(server, kind), kind) for kind in ("grpc", "camel", "snake")]
        yield sides
        for side in sides:
            side.cloud.close()
        log = server.output.read_text(errors="replace")
        assert "Traceback" not in log


def _account(server: RunningServer, name: str) -> Cloud:
    made = LocalAdmin(server).ask("account.create", name=name)
    return Cloud(server, Account(made["authorized_key"], made["folder"], made["token"]))


@pytest.mark.parametrize("method", COMPARED)
def test_the_same_request_has_the_same_answer(sides: list[Side], method: str) -> None:
    request = METHODS[method].input_type
    sampled = [each.name for each in request.fields if each.name not in NOT_IN_BASE.get(method, set())]
    base = {name: SAMPLES[name] for name in sampled if name in SAMPLES}
    in_path = set(re.findall(r"\{(\w+)\}", (http_rule(method) or ("", ""))[1]))
    for side in sides:
        side.renew()
    different = {}
    outcomes = set()
    for name, fields in cases(request, base):
        if any(fields.get(each, "") in ("", ".", "..") for each in in_path):
            continue  # over REST it is another path
        answers = {side.kind: side.answer(method, fields) for side in sides}
        outcomes.add(answers["grpc"].partition(" ")[0])
        if len(set(answers.values())) > 1:
            different[name] = answers
    assert not different
    assert outcomes != {"INVALID_ARGUMENT"}, "some request is valid"


@pytest.mark.parametrize("method", [method for method in METHODS if http_rule(method) is None and is_served(method)])
def test_methods_without_rest_answer_or_refuse_every_request(sides: list[Side], method: str) -> None:
    request = METHODS[method].input_type
    samples = {**SAMPLES, "name": "export-1", "database": "d", "stream": "s", "service_account_id": "aje0"}
    samples |= {"data_stream_export_id": "are00000000000000000", "mqtt_topic_filter": "$devices/<device>/events"}
    base = {each.name: samples[each.name] for each in request.fields if each.name in samples}
    sides[0].renew()
    answers = {name: sides[0].answer(method, fields) for name, fields in cases(request, base)}
    refusals = {answer.partition(" ")[0] for answer in answers.values() if not answer.startswith("{")}
    assert refusals <= {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"}, answers
