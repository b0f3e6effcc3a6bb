"""Which credentials get an IAM token, and which tokens the API accepts; refusals over gRPC and REST."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from yandex.cloud.iam.v1.iam_token_service_pb2 import CreateIamTokenRequest
from yandex.cloud.iot.devices.v1 import device_service_pb2

from tests.e2e.yandex.certificates import certificate
from tests.e2e.yandex.clients import OFFICIAL_AUDIENCE, Refused, nothing_stored
from tests.tables import each_row
from thingmint.access.context import Caller
from thingmint.access.iam import IamTokens
from thingmint.access.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.yandex.clients import Cloud

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def signed_by_hand(cloud: Cloud, algorithm: str, key: bytes | None, **headers: Any) -> str:
    """A JWT that PyJWT refuses to make: without a signature, or with an HMAC by a public key."""
    claims = jwt.decode(cloud.account.jwt(), options={"verify_signature": False})
    parts = [{"typ": "JWT", "alg": algorithm, "kid": cloud.account.key["id"], **headers}, claims]
    signed = ".".join(unpadded(json.dumps(part).encode()) for part in parts)
    signature = hmac.new(key, signed.encode(), hashlib.sha256).digest() if key else b""
    return f"{signed}.{unpadded(signature)}"


def public_key(cloud: Cloud) -> bytes:
    return cloud.account.key["public_key"].encode()


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(cloud: Cloud, algorithm: str = "PS256", key: Any = None, **headers: Any) -> str:
    claims = jwt.decode(cloud.account.jwt(), options={"verify_signature": False})
    headers = {"kid": cloud.account.key["id"], **headers}
    return jwt.encode(claims, key or cloud.account.key["private_key"], algorithm=algorithm, headers=headers)


def foreign_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def altered(token: str, position: int) -> str:
    replacement = "A" if token[position] != "A" else "B"
    return token[:position] + replacement + token[position + 1 :] if position != -1 else token[:-1] + replacement


def signed_with_the_key_in_its_header(cloud: Cloud) -> str:
    key = foreign_key()
    own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return signed(cloud, key=key, jwk=own)


JWTS: dict[str, Callable[[Cloud], str]] = {
    "malformed": lambda _: "x",
    "empty parts": lambda _: "..",
    "not ASCII": lambda _: "é.é.é",
    "header nested deeply": lambda _: unpadded(b'{"kid":' + b"[" * 5000) + ".e30.e30",
    "alg none": lambda cloud: signed_by_hand(cloud, "none", None),
    "alg None": lambda cloud: signed_by_hand(cloud, "None", None),
    "no alg": lambda cloud: signed_by_hand(cloud, "", None),
    "HS256 under the public key": lambda cloud: signed_by_hand(
        cloud, "HS256", cloud.account.key["public_key"].encode()
    ),
    "PS256 that is an HMAC": lambda cloud: signed_by_hand(cloud, "PS256", cloud.account.key["public_key"].encode()),
    "RS256": lambda cloud: signed(cloud, "RS256"),
    "PS384": lambda cloud: signed(cloud, "PS384"),
    "another key": lambda cloud: signed(cloud, key=foreign_key()),
    "another key in the header": signed_with_the_key_in_its_header,
    "critical extension": lambda cloud: signed(cloud, crit=["x"], x=1),
    "altered claims": lambda cloud: altered(cloud.account.jwt(), cloud.account.jwt().index(".") + 20),
    "altered signature": lambda cloud: altered(cloud.account.jwt(), -20),
    "no signature": lambda cloud: cloud.account.jwt().rpartition(".")[0] + ".",
    "unknown kid": lambda cloud: signed(cloud, kid="aje00000000000000000"),
    "no kid": lambda cloud: jwt.encode({}, cloud.account.key["private_key"], algorithm="PS256"),
    "kid with SQL": lambda cloud: signed(cloud, kid="' OR 1=1 --"),
    "expired": lambda cloud: cloud.account.jwt(iat=now() - HOUR, exp=now() - timedelta(minutes=2)),
    "from the future": lambda cloud: cloud.account.jwt(iat=now() + timedelta(minutes=5), exp=now() + HOUR),
    "not valid yet": lambda cloud: cloud.account.jwt(nbf=now() + timedelta(minutes=5)),
    "valid for too long": lambda cloud: cloud.account.jwt(exp=now() + 2 * HOUR),
    "ends before it begins": lambda cloud: cloud.account.jwt(iat=now(), exp=now() - 2 * HOUR),
    "times that are text": lambda cloud: cloud.account.jwt(iat=str(int(now().timestamp()))),
    "no exp": lambda cloud: cloud.account.jwt(exp=None),
    "no iat": lambda cloud: cloud.account.jwt(iat=None),
    "no iss": lambda cloud: cloud.account.jwt(iss=None),
    "no aud": lambda cloud: cloud.account.jwt(None),
    "iss of another service account": lambda cloud: cloud.account.jwt(iss="aje00000000000000000"),
    "iss of the key": lambda cloud: cloud.account.jwt(iss=cloud.account.key["id"]),
    "another audience": lambda cloud: cloud.account.jwt("https://iam.example.org/iam/v1/tokens"),
    "audience without iam": lambda cloud: cloud.account.jwt("https://localhost/iam/v1/tokens"),
    "audience of another path": lambda cloud: cloud.account.jwt("https://iam.localhost/iam/v1/tokens/x"),
    "audience over http": lambda cloud: cloud.account.jwt("http://iam.localhost/iam/v1/tokens"),
    "audience with a user": lambda cloud: cloud.account.jwt("https://iam.localhost@example.org/iam/v1/tokens"),
    "audience in a longer name": lambda cloud: cloud.account.jwt("https://iam.localhost.example.org/iam/v1/tokens"),
    "audience with a newline": lambda cloud: cloud.account.jwt(OFFICIAL_AUDIENCE + "\n"),
    "no audience in the list": lambda cloud: cloud.account.jwt([]),
    "audience that is no text": lambda cloud: cloud.account.jwt([1, {"a": "b"}]),
}


@each_row("make", JWTS)
def test_invalid_jwts_give_no_token(cloud: Cloud, make: Callable[[Cloud], str]) -> None:
    request = CreateIamTokenRequest(jwt=make(cloud))
    told = []
    for wire in (cloud.grpc, cloud.rest):
        with nothing_stored(cloud.server), pytest.raises(Refused) as refused:
            wire.call("IamTokenService/Create", request, token="")
        assert refused.value.code == "UNAUTHENTICATED"
        assert refused.value.http_status in (None, 401)
        told.append(refused.value.text)
    assert told[0] == told[1]
    if len(request.jwt) > 20:
        assert request.jwt not in cloud.server.output.read_text()


@each_row("token", ["x", "tma_", "tma_x", "tma_x_y", "AQAAAA"])
def test_invalid_api_tokens_give_no_token(cloud: Cloud, wire_name: str, token: str) -> None:
    with pytest.raises(Refused) as refused:
        cloud.wire(wire_name).call(
            "IamTokenService/Create", CreateIamTokenRequest(yandex_passport_oauth_token=token), token=""
        )
    assert refused.value.code == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, ["identity"]),
        ({"jwt": "x" * 8001}, ["jwt"]),
        ({"yandex_passport_oauth_token": "x" * 4001}, ["yandex_passport_oauth_token"]),
    ],
)
def test_malformed_token_requests_are_refused(
    cloud: Cloud, wire_name: str, fields: dict[str, str], named: list[str]
) -> None:
    with pytest.raises(Refused) as refused:
        cloud.wire(wire_name).call("IamTokenService/Create", CreateIamTokenRequest(**fields), token="")
    assert list(refused.value.violations) == named


GOOD_JWTS: dict[str, Callable[[Cloud], str]] = {
    "as the SDK has it": lambda cloud: cloud.account.jwt(
        f"https://iam.{cloud.server.environment('yandex')['THINGMINT_YC_ENDPOINT']}/iam/v1/tokens"
    ),
    "the official audience": lambda cloud: cloud.account.jwt(OFFICIAL_AUDIENCE),
    "a list of audiences": lambda cloud: cloud.account.jwt(["x", OFFICIAL_AUDIENCE]),
    "the endpoint without port": lambda cloud: cloud.account.jwt("https://iam.localhost/iam/v1/tokens"),
    "an address": lambda cloud: cloud.account.jwt("https://iam.127.0.0.1:9443/iam/v1/tokens"),
    "an IPv6 address": lambda cloud: cloud.account.jwt("https://iam.[::1]:9443/iam/v1/tokens"),
    "in capitals": lambda cloud: cloud.account.jwt("https://iam.LOCALHOST:9443/iam/v1/tokens"),
    "further claims": lambda cloud: cloud.account.jwt(sub=cloud.account.key["service_account_id"], jti="x", x=[1]),
    "a clock that is half a minute ahead": lambda cloud: cloud.account.jwt(
        iat=now() + timedelta(seconds=30), exp=now() + HOUR
    ),
    "nbf, and a clock that is half a minute ahead": lambda cloud: cloud.account.jwt(nbf=now() + timedelta(seconds=30)),
    "expired half a minute ago": lambda cloud: cloud.account.jwt(iat=now() - HOUR, exp=now() - timedelta(seconds=30)),
}


@each_row("make", GOOD_JWTS)
def test_valid_jwts_give_a_token(cloud: Cloud, wire_name: str, make: Callable[[Cloud], str]) -> None:
    request = CreateIamTokenRequest(jwt=make(cloud))
    reply = cloud.wire(wire_name).call("IamTokenService/Create", request, token="")
    assert reply.iam_token.startswith("t1.")
    ends = reply.expires_at.ToDatetime(tzinfo=UTC)
    assert now() + 11 * HOUR < ends <= datetime.now(UTC) + 12 * HOUR
    assert cloud.add(cloud.device(), certificate(), token=reply.iam_token).done


class OneCredential:
    """A directory that accepts every token as the same credential."""

    def __init__(self, credential: str) -> None:
        self._credential = credential

    async def authenticate_token(self, token: str) -> Caller:
        del token
        return Caller("0" * 12, ("us-east-1",), "aje0", "x", "arn", self._credential, ())


def token_made(cloud: Cloud, *, at: datetime, vault: Vault | None = None, credential: str | None = None) -> str:
    """The IAM token that the server would have made at the time ``at``; with another ``vault``, another server's."""
    vault = vault or Vault(bytes.fromhex((cloud.server.data_dir / "master.key").read_text()))
    knows_one = cast("Any", OneCredential(credential or cloud.account.key["id"]))
    tokens = IamTokens(knows_one, vault.derive("iam tokens"), lambda: at)
    return asyncio.run(tokens.for_api_token("credential"))[0]


BEARERS: dict[str, Callable[[Cloud], str]] = {
    "malformed": lambda _: "x",
    "only the prefix": lambda _: "t1.",
    "no claims": lambda _: "t1..",
    "not ASCII": lambda _: "t1.ÿ.ÿ",
    "expired": lambda cloud: token_made(cloud, at=datetime.now(UTC) - 12 * HOUR - timedelta(seconds=1)),
    "of another instance": lambda cloud: token_made(cloud, at=datetime.now(UTC), vault=Vault(secrets.token_bytes(32))),
    "of an unknown credential": lambda cloud: token_made(
        cloud, at=datetime.now(UTC), credential="aje00000000000000000"
    ),
    "altered claims": lambda cloud: altered(cloud.token, 10),
    "altered signature": lambda cloud: altered(cloud.token, -10),
    "cut off": lambda cloud: cloud.token[:-1],
    "longer": lambda cloud: cloud.token + "A",
    "without signature": lambda cloud: cloud.token.rpartition(".")[0] + ".",
    "a JWT": lambda cloud: cloud.account.jwt(),
    "an API token": lambda cloud: cloud.account.api_token,
}


@each_row("make", BEARERS)
def test_invalid_iam_tokens_are_refused(cloud: Cloud, make: Callable[[Cloud], str]) -> None:
    token, device = make(cloud), cloud.device()
    request = device_service_pb2.AddDeviceCertificateRequest(device_id=device, certificate_data=certificate())
    for wire in (cloud.grpc, cloud.rest):
        if not token.isascii():
            token = token.encode().decode("latin-1") if wire is cloud.rest else "t1.x.x"
        with nothing_stored(cloud.server), pytest.raises(Refused) as refused:
            wire.call("DeviceService/AddCertificate", request, token=token)
        assert refused.value.code == "UNAUTHENTICATED"
        assert refused.value.http_status in (None, 401)
    if len(token) > 20:
        assert token not in cloud.server.output.read_text()


def test_a_token_is_valid_until_it_expires(cloud: Cloud, wire_name: str) -> None:
    """Half a minute before its end the token is accepted. The expired one above is refused."""
    token = token_made(cloud, at=datetime.now(UTC) - 12 * HOUR + timedelta(seconds=30))
    assert cloud.add(cloud.device(), certificate(), wire_name, token=token).done


def test_an_unauthenticated_caller_cannot_learn_what_exists(cloud: Cloud, wire_name: str) -> None:
    """The error is the same for existing and missing devices, and comes before validation."""
    told = set()
    for id in (cloud.device(), "are00000000000000000", "x" * 60):
        with pytest.raises(Refused) as refused:
            cloud.wire(wire_name).call(
                "DeviceService/Get", device_service_pb2.GetDeviceRequest(device_id=id), token="x"
            )
        told.add((refused.value.code, refused.value.text, tuple(refused.value.violations)))
    assert len(told) == 1
