"""IAM tokens, with a fixed clock: for which credentials they are issued, for how long, and for which server."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit.vectors import FakeClock
from thingmint.access.context import Caller, Outcome, RequestContext
from thingmint.access.iam import METADATA, IamTokens
from thingmint.domain.errors import NotFound, Unauthenticated
from thingmint.domain.keys import generate_authorized_key

if TYPE_CHECKING:
    from collections.abc import Awaitable

NOW = datetime(2026, 11, 21, 6, 0, 0, 123_456, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
OFFICIAL = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
ACCOUNT, KEY_ID, USER = "aje0service0account0", "aje0authorized0key00", "aje0user0000000000000"
WORKER = "aje0worker0000000000"
HOSTS = ["api.things.test", "localhost", "127.0.0.1", "::1"]
PRIVATE, PUBLIC = generate_authorized_key()


class Directory:
    """One service account with a key, one without, and one user with an API token."""

    def __init__(self) -> None:
        self.service_accounts = {ACCOUNT, WORKER}
        self.principals = {KEY_ID: ACCOUNT, "1": USER}
        self.revoked: dict[str, int] = {}
        self.noted: list[str] = []

    async def find_authorized_key(self, id: str) -> tuple[str, str]:
        if id != KEY_ID:
            raise Unauthenticated("unknown", "no such key")
        return ACCOUNT, PUBLIC

    async def owner(self, id: str) -> Caller:
        return caller(ACCOUNT, id)

    def used(self, id: str) -> None:
        self.noted.append(id)

    async def authenticate_token(self, token: str) -> Caller:
        if token != "tma_1_x":
            raise Unauthenticated("unknown", "no such token")
        return caller(USER, "1")

    async def bearer_of_iam_token(self, id: str, credential: str) -> Caller:
        if id in self.revoked or credential not in self.principals:
            raise Unauthenticated("unknown", "gone")
        return caller(self.principals[credential], credential)

    async def service_account(self, id: str) -> Caller | None:
        return caller(id, "") if id in self.service_accounts else None

    async def check_not_revoked(self, id: str) -> None:
        if id in self.revoked:
            raise Unauthenticated("unknown", "gone")

    async def revoke_iam_token(self, id: str, expires_at: int, context: RequestContext, outcome: Outcome) -> None:
        del context, outcome
        self.revoked[id] = expires_at


def caller(principal: str, credential: str) -> Caller:
    return Caller("1" * 12, ("us-east-1",), principal, "x", f"arn:{principal}", credential, ())


class Tokens(IamTokens):
    """IamTokens with a clock and a directory for tests."""

    def __init__(self, key: bytes = b"k" * 32) -> None:
        self.clock = FakeClock(NOW)
        self.directory = Directory()
        super().__init__(cast("Any", self.directory), key, self.clock)


def encode(audience: Any = OFFICIAL, **changes: Any) -> str:
    claims = {"iss": ACCOUNT, "aud": audience, "iat": SECONDS, "exp": SECONDS + 3600, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    key: Any = load_pem_private_key(PRIVATE.encode(), None)
    return jwt.encode(claims, key, algorithm="PS256", headers={"kid": KEY_ID})


async def exchange(tokens: IamTokens, encoded: str) -> tuple[str, datetime]:
    new = await tokens.for_jwt(encoded, HOSTS)
    assert new.caller.credential == KEY_ID
    return new.token, new.ends


async def revoke(tokens: IamTokens, token: str) -> Outcome:
    outcome = Outcome()
    await tokens.revoke(token, RequestContext(now=NOW), outcome)
    return outcome


async def flaw_of(call: Awaitable[object]) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await call
    return refused.value.flaw


async def test_a_token_names_its_principal_and_credential() -> None:
    tokens = Tokens()
    token, ends = await exchange(tokens, encode())
    assert token.startswith("t1.")
    assert token.count(".") == 2
    assert ends == (NOW + timedelta(hours=12)).replace(microsecond=0)
    found = await tokens.authenticate(token)
    assert (found.principal, found.credential) == (ACCOUNT, KEY_ID)
    token, _, by = await tokens.for_api_token("tma_1_x")
    assert by.principal == USER
    found = await tokens.authenticate(token)
    assert (found.principal, found.credential) == (USER, "1")


async def test_use_of_a_key_is_noted_after_verification() -> None:
    tokens = Tokens()
    await flaw_of(exchange(tokens, encode(iss="another")))
    assert tokens.directory.noted == []
    await exchange(tokens, encode())
    assert tokens.directory.noted == [KEY_ID]


async def test_a_wrong_api_token_is_refused() -> None:
    assert await flaw_of(Tokens().for_api_token("tma_1_y")) == "unknown"


@pytest.mark.parametrize(
    ("later", "flaw"),
    [
        (timedelta(0), None),
        (timedelta(hours=11, minutes=59, seconds=59), None),
        (timedelta(hours=12), "expired"),
        (timedelta(days=365), "expired"),
        (timedelta(hours=-1), None),
    ],
)
async def test_a_token_is_valid_for_twelve_hours(later: timedelta, flaw: str | None) -> None:
    tokens = Tokens()
    token, ends = await exchange(tokens, encode())
    tokens.clock.now += later
    assert (tokens.clock.now >= ends) == (flaw is not None)
    if flaw is None:
        assert (await tokens.authenticate(token)).principal == ACCOUNT
    else:
        assert await flaw_of(tokens.authenticate(token)) == flaw


async def test_a_token_of_a_deleted_principal_is_refused() -> None:
    tokens = Tokens()
    token, _ = await exchange(tokens, encode())
    del tokens.directory.principals[KEY_ID]
    assert await flaw_of(tokens.authenticate(token)) == "unknown"


async def test_a_revoked_token_is_refused() -> None:
    tokens = Tokens()
    (token, ends), (other, _) = await exchange(tokens, encode()), await exchange(tokens, encode())
    assert token != other
    revoked_by = (await revoke(tokens, token)).caller
    assert revoked_by is not None
    assert revoked_by.principal == ACCOUNT
    assert list(tokens.directory.revoked.values()) == [int(ends.timestamp())]
    assert await flaw_of(tokens.authenticate(token)) == "unknown"
    assert await flaw_of(revoke(tokens, token)) == "unknown"
    assert (await tokens.authenticate(other)).principal == ACCOUNT


@pytest.mark.parametrize("later", [None, timedelta(hours=12)])
async def test_only_a_valid_token_can_be_revoked(later: timedelta | None) -> None:
    tokens = Tokens()
    token, _ = await exchange(tokens if later else Tokens(b"other" * 6), encode())
    tokens.clock.now += later or timedelta(0)
    assert await flaw_of(revoke(tokens, token)) == ("expired" if later else "unknown")
    assert not tokens.directory.revoked


async def test_a_token_of_another_instance_is_refused() -> None:
    token, _ = await exchange(Tokens(b"other" * 6), encode())
    assert await flaw_of(Tokens().authenticate(token)) == "unknown"


async def test_a_token_with_one_changed_character_is_refused() -> None:
    tokens = Tokens()
    token, _, _ = await tokens.for_jwt(encode(), HOSTS)
    changed = {token[:length] for length in range(len(token))}
    for position in range(len(token)):
        changed |= {token[:position] + other + token[position + 1 :] for other in ("A", "B", ".", "é")}
    await tokens.authenticate(token)
    for each in changed - {token}:
        with pytest.raises(Unauthenticated):
            await tokens.authenticate(each)


async def test_claims_with_the_signature_of_another_token_are_refused() -> None:
    tokens = Tokens()
    mine, _ = await exchange(tokens, encode())
    theirs, _, _ = await tokens.for_api_token("tma_1_x")
    _, claims, _ = mine.split(".")
    _, _, signature = theirs.split(".")
    assert await flaw_of(tokens.authenticate(f"t1.{claims}.{signature}")) == "unknown"
    later = orjson.dumps(["0" * 16, KEY_ID, SECONDS * 2])
    forged = base64.urlsafe_b64encode(later).rstrip(b"=").decode()
    assert await flaw_of(tokens.authenticate(f"t1.{forged}.{mine.rpartition('.')[2]}")) == "unknown"


TIMES: dict[str, tuple[dict[str, Any], str | None]] = {
    "now": ({}, None),
    "an hour at most": ({"exp": SECONDS + 3601}, "wrong"),
    "ended within the leeway": ({"iat": SECONDS - 3600, "exp": SECONDS - 59}, None),
    "ended before the leeway": ({"iat": SECONDS - 3600, "exp": SECONDS - 60}, "expired"),
    "begins within the leeway": ({"iat": SECONDS + 60}, None),
    "begins after the leeway": ({"iat": SECONDS + 61}, "wrong"),
    "not before, within the leeway": ({"nbf": SECONDS + 60}, None),
    "not before, after the leeway": ({"nbf": SECONDS + 61}, "wrong"),
    "not before that is text": ({"nbf": str(SECONDS)}, "malformed"),
    "a lifetime of decades": ({"iat": 0}, "wrong"),
    "before 1970": ({"iat": -3600, "exp": 0}, "expired"),
    "exp beyond the last year": ({"exp": 10**30}, "wrong"),
    "text": ({"iat": str(SECONDS)}, "malformed"),
    "a fraction": ({"exp": SECONDS + 0.5}, "malformed"),
    "a list": ({"exp": [SECONDS]}, "malformed"),
    "no exp": ({"exp": None}, "wrong"),
    "no iat": ({"iat": None}, "wrong"),
    "no iss": ({"iss": None}, "wrong"),
    "the key as iss": ({"iss": KEY_ID}, "wrong"),
    "the user as iss": ({"iss": USER}, "wrong"),
}


@pytest.mark.parametrize("case", TIMES)
async def test_wrong_claims_of_a_jwt_are_refused(case: str) -> None:
    changes, flaw = TIMES[case]
    if flaw is None:
        assert await exchange(Tokens(), encode(**changes))
    else:
        assert await flaw_of(exchange(Tokens(), encode(**changes))) == flaw


AUDIENCES: list[tuple[Any, bool]] = [
    (OFFICIAL, True),
    ("https://iam.api.things.test/iam/v1/tokens", True),
    ("https://iam.api.things.test:9443/iam/v1/tokens", True),
    ("https://iam.API.Things.Test:9443/iam/v1/tokens", True),
    ("https://iam.127.0.0.1:1/iam/v1/tokens", True),
    ("https://iam.[::1]:65535/iam/v1/tokens", True),
    ([OFFICIAL, "x"], True),
    (["x", 1, None, "https://iam.localhost/iam/v1/tokens"], True),
    ("https://iam.things.test/iam/v1/tokens", False),
    ("https://iam.x.api.things.test/iam/v1/tokens", False),
    ("https://iam.api.things.test.evil.test/iam/v1/tokens", False),
    ("https://iam.evil.test/https://iam.api.things.test/iam/v1/tokens", False),
    ("https://iam.api.things.test:123456/iam/v1/tokens", False),
    ("https://iam.api.things.test:/iam/v1/tokens", False),
    ("https://iam.api.things.test/iam/v1/tokens/", False),
    ("https://iam.api.things.test/iam/v1/tokens\n", False),
    ("http://iam.api.things.test/iam/v1/tokens", False),
    ("https://api.things.test/iam/v1/tokens", False),
    ("https://iam./iam/v1/tokens", False),
    ("https://iam.[]/iam/v1/tokens", False),
    ("", False),
    ([], False),
    ({}, False),
    (1, False),
]


@pytest.mark.parametrize(("audience", "ours"), AUDIENCES)
async def test_only_audiences_of_this_server_are_accepted(audience: Any, ours: bool) -> None:
    if ours:
        assert await exchange(Tokens(), encode(audience))
    else:
        assert await flaw_of(exchange(Tokens(), encode(audience))) == "wrong"


@pytest.mark.parametrize("encoded", ["", ".", "..", "x.y.z", "é.é.é", "e30.e30.e30", "W10.e30.e30", "bnVsbA.e30."])
async def test_malformed_jwts_are_refused(encoded: str) -> None:
    assert await flaw_of(exchange(Tokens(), encoded)) in ("malformed", "unknown")


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "PS512", "RS512"])
async def test_algorithms_other_than_ps256_are_refused(algorithm: str) -> None:
    claims = {"iss": ACCOUNT, "aud": OFFICIAL, "iat": SECONDS, "exp": SECONDS + 3600}
    encoded = jwt.encode(claims, PRIVATE, algorithm=algorithm, headers={"kid": KEY_ID})
    assert await flaw_of(exchange(Tokens(), encoded)) == "wrong"


async def test_a_jwt_signed_by_another_key_is_refused() -> None:
    other, _ = generate_authorized_key()
    claims = {"iss": ACCOUNT, "aud": OFFICIAL, "iat": SECONDS, "exp": SECONDS + 3600}
    encoded = jwt.encode(claims, other, algorithm="PS256", headers={"kid": KEY_ID})
    assert await flaw_of(exchange(Tokens(), encoded)) == "wrong"
    encoded = jwt.encode(claims, PRIVATE, algorithm="PS256", headers={"kid": "aje1"})
    assert await flaw_of(exchange(Tokens(), encoded)) == "unknown"


async def test_nbf_is_compared_with_the_instances_clock() -> None:
    tokens = Tokens()
    tokens.clock.now = NOW + timedelta(days=10_000)
    seconds = int(tokens.clock.now.timestamp())
    await exchange(tokens, encode(iat=seconds, nbf=seconds, exp=seconds + 3600))


async def test_a_token_to_act_as_a_service_account_ends_with_both() -> None:
    tokens = Tokens()
    made = await tokens.for_service_account(caller(USER, "1"), WORKER)
    assert made.ends == (NOW + timedelta(hours=12)).replace(microsecond=0)
    acting = await tokens.authenticate(made.token)
    assert (acting.principal, acting.credential, acting.until) == (WORKER, "1", made.ends)
    tokens.directory.service_accounts.discard(WORKER)
    assert await flaw_of(tokens.authenticate(made.token)) == "unknown"
    tokens.directory.service_accounts.add(WORKER)
    await tokens.authenticate(made.token)
    del tokens.directory.principals["1"]
    assert await flaw_of(tokens.authenticate(made.token)) == "unknown"


async def test_a_token_that_was_made_with_such_a_token_ends_with_it() -> None:
    tokens = Tokens()
    first = await tokens.for_service_account(caller(USER, "1"), WORKER)
    tokens.clock.now = NOW + timedelta(hours=11)
    second = await tokens.for_service_account(await tokens.authenticate(first.token), ACCOUNT)
    assert second.ends == first.ends
    metadata = await tokens.for_metadata(WORKER)
    third = await tokens.for_service_account(await tokens.authenticate(metadata.token), WORKER)
    assert third.ends == metadata.ends == (NOW + timedelta(hours=12)).replace(microsecond=0)


async def test_service_accounts_of_other_accounts_and_unknown_ones_get_no_token() -> None:
    tokens = Tokens()
    other = replace(caller(USER, "1"), account="2" * 12)
    for by, id in ((other, WORKER), (caller(USER, "1"), "aje0unknown000000000")):
        with pytest.raises(NotFound):
            await tokens.for_service_account(by, id)
    with pytest.raises(NotFound):
        await tokens.for_metadata("aje0unknown000000000")


async def test_a_token_of_the_metadata_service_ends_with_the_service_account() -> None:
    tokens = Tokens()
    made = await tokens.for_metadata(WORKER)
    assert made.ends == (NOW + timedelta(hours=1)).replace(microsecond=0)
    acting = await tokens.authenticate(made.token)
    assert (acting.principal, acting.credential) == (WORKER, METADATA)
    await revoke(tokens, made.token)
    assert await flaw_of(tokens.authenticate(made.token)) == "unknown"
    made = await tokens.for_metadata(WORKER)
    tokens.directory.service_accounts.discard(WORKER)
    assert await flaw_of(tokens.authenticate(made.token)) == "unknown"
