"""Sends a question to any API and returns the answer as JSON, page by page."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx
from botocore.exceptions import ClientError
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.access.local_admin import keys_of
from tests.e2e.conftest import iot_client
from tests.e2e.mqtt.devices import Closed, Device
from tests.e2e.yandex.clients import METHODS, Account, Cloud, Refused

if TYPE_CHECKING:
    from tests.old_stores.material import Material
    from thingmint.testing import RunningServer

Json = dict[str, Any]

# The member of an answer with the token of the next page, and the member of the next request for it.
_NEXT = {"nextToken": "nextToken", "nextMarker": "marker", "next_page_token": "page_token", "next_marker": "marker"}


@dataclass(frozen=True)
class Question:
    """``api`` is aws, grpc, rest, native or mqtt; ``who`` is the name of credentials or of a device."""

    api: str
    who: str
    call: str
    given: Json = field(default_factory=dict)


class Asker:
    def __init__(self, server: RunningServer, material: Material) -> None:
        self._server = server
        self._material = material
        self._clients: dict[tuple[str, ...], Any] = {}
        self._bodies: list[Json] = []

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def ask(self, question: Question) -> list[Json]:
        """All pages of the answer. Page tokens are replaced, because they differ each time."""
        answer = getattr(self, f"_{question.api}")
        pages, given = [], dict(question.given)
        while True:
            page = answer(question.who, question.call, given)
            told = page.get("body") or {}
            told = told.get("data") or told
            [token] = [name for name in _NEXT if isinstance(told, dict) and told.get(name)] or [""]
            if token:
                given[_NEXT[token]], told[token] = told[token], "…"
            pages.append(page)
            if not token:
                return pages

    @cached_property
    def _credentials(self) -> Json:
        return self._material.credentials

    def _aws(self, who: str, call: str, given: Json) -> Json:
        """``who`` is NAME@REGION."""
        name, _, region = who.partition("@")
        if ("aws", who) not in self._clients:
            client = iot_client(self._server, region_name=region, **keys_of(self._credentials[name]))
            client.meta.events.register("before-parse.iot", self._heard)
            self._clients["aws", who] = client
        with contextlib.suppress(ClientError):
            self._clients["aws", who]._make_api_call(call, given)
        return self._bodies.pop()

    def _heard(self, response_dict: Json, **_: Any) -> None:
        page = {"status": response_dict["status_code"], "body": json.loads(response_dict["body"] or b"null")}
        if error := response_dict["headers"].get("x-amzn-errortype"):
            page["error"] = error
        self._bodies.append(page)

    def _grpc(self, who: str, call: str, given: Json) -> Json:
        return self._yandex("grpc", who, call, given)

    def _rest(self, who: str, call: str, given: Json) -> Json:
        return self._yandex("rest", who, call, given)

    def _yandex(self, wire: str, who: str, call: str, given: Json) -> Json:
        if ("cloud", who) not in self._clients:
            told = self._credentials[who]
            key = told.get("authorized_key", told)
            self._clients["cloud", who] = Cloud(self._server, Account(key, "", ""))
        cloud: Cloud = self._clients["cloud", who]
        given = dict(given)
        key = given.pop("idempotency-key", None)
        request = json_format.ParseDict(given, GetMessageClass(METHODS[call].input_type)())
        try:
            reply = cloud.wire(wire).call(call, request, key=key)
        except Refused as refused:
            return {"status": refused.code, "body": {"text": refused.text, "violations": refused.violations}}
        return {"status": "OK", "body": json_format.MessageToDict(reply, preserving_proto_field_name=True)}

    def _native(self, who: str, call: str, given: Json) -> Json:
        method, _, path = call.partition(" ")
        if ("native",) not in self._clients:
            self._clients["native",] = httpx.Client(base_url=self._server.http_url, trust_env=False, timeout=20)
        told = self._credentials[who]
        headers = {"authorization": f"Bearer {told['token']}"}
        arguments: Json = {"params": given} if method == "GET" else {"json": given}
        answer = self._clients["native",].request(method, path, headers=headers, **arguments)
        return {"status": answer.status_code, "body": answer.json()}

    def _mqtt(self, who: str, call: str, given: Json) -> Json:
        """Connects to the host name ``call``, then subscribes, publishes and asks as in ``given``."""
        with Device(self._server, self._material.device(who), endpoint=call) as device:
            told: Json = {}
            try:
                told["connect"] = device.connect(given.get("client_id", who)).reason.name
                for topic in given.get("subscribe", ()):
                    told[f"subscribe {topic}"] = [reason.name for reason in device.subscribe(topic)]
                for topic in given.get("publish", ()):
                    told[f"publish {topic}"] = device.publish(topic).name
                for topic, payload in given.get("ask", {}).items():
                    device.subscribe(f"{topic}/accepted", f"{topic}/rejected")
                    device.publish(topic, json.dumps(payload).encode())
                    reply = device.receive()
                    told[f"ask {topic}"] = {reply.topic.rpartition("/")[2]: json.loads(reply.payload)}
            except Closed as closed:
                told["closed"] = closed.reason.name if closed.reason is not None else None
            return {"status": told}
