"""Callers of the three APIs: signed with SigV4, with a bearer token over HTTP, and over gRPC."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from recording.recorder import Answer
from thingmint.yandex.contract import load
from thingmint.yandex.contract.answers import HTTP_STATUS, Code

if TYPE_CHECKING:
    import httpx

    from recording.recorder import Clock, Prepared

AGENT = "examples"


@dataclass(frozen=True)
class SignedCaller:
    """A caller of the AWS API."""

    http: httpx.Client
    clock: Clock
    access_key_id: str
    secret: str
    region: str = "us-east-1"

    def send(self, request: Prepared) -> Answer:
        assert request.method is not None
        body = b"" if request.body is None else json.dumps(request.body).encode()
        address = f"{self.http.base_url}".rstrip("/") + request.target
        headers = {"host": self.http.base_url.netloc.decode(), "content-type": "application/json", **request.headers}
        unsigned = AWSRequest(method=request.method, url=address, data=body, headers=headers)
        now = self.clock.now.replace(tzinfo=None, microsecond=0)  # without a zone, as botocore's signer expects
        with mock.patch("botocore.auth.get_current_datetime", return_value=now):
            SigV4Auth(Credentials(self.access_key_id, self.secret), "iot", self.region).add_auth(unsigned)
        headers = {**dict(unsigned.headers.items()), "user-agent": AGENT}
        answer = self.http.request(request.method, address, content=body, headers=headers)
        return Answer(answer.status_code, _body(answer), answer.headers.get("x-amzn-errortype"))


@dataclass(frozen=True)
class BearerCaller:
    """A caller of the native API, or of the Yandex API with an IAM token, over HTTP or else over gRPC."""

    http: httpx.Client
    token: str
    channel: grpc.Channel | None = None

    def send(self, request: Prepared) -> Answer:
        headers = (
            {"authorization": f"Bearer {self.token}", "user-agent": AGENT} if self.token else {"user-agent": AGENT}
        )
        if request.method is not None:
            read = self.http.request(request.method, request.target, json=request.body, headers=headers)
            return Answer(read.status_code, _body(read))
        assert self.channel is not None
        contract = load()
        method = contract.methods[request.target]
        message = method.request_from_http({}, b"", json.dumps(request.body).encode())
        call: Any = self.channel.unary_unary(request.target)
        try:
            answer = call(
                message.SerializeToString(), metadata=[("authorization", headers["authorization"])], timeout=20
            )
        except grpc.RpcError as error:
            refused: Any = error
            return Answer(HTTP_STATUS[Code(refused.code().value[0])], {"message": refused.details()})
        return Answer(200, json.loads(contract.response_to_json(method.response_class.FromString(answer))))


def _body(answer: httpx.Response) -> Any:
    return answer.json() if answer.content else None
