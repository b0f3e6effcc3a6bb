"""The input models of the administrator's commands.

The OpenAPI document of the native API is made from them. So a model has every rule that does not need the store, and a
rule that no pattern can express has a ``format`` of its own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from thingmint.domain.durations import parse_duration
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.names import ACCOUNT_ID, NAME, NAMED_POLICY, POLICY_NAME, PRINCIPAL, REGION
from thingmint.domain.policies.managed import RESOURCE, ROLES, SERVICE_ACCOUNT_RESOURCE, TOKEN_CREATOR
from thingmint.services.accounts import SETTINGS

if TYPE_CHECKING:
    from pydantic.config import JsonDict, JsonValue

MAX_REGIONS = 50  # of an account

PrincipalKind = Literal["user", "role", "service-account"]

_ARN = "arn:aws:iam::"
_NO_NUL = r"^[^\x00]*$"  # the engines' text has no U+0000
_USER: JsonDict = {"pattern": rf"^(user/|{_ARN}[0-9]{{12}}:user/)?{NAME}$"}
_NOT_ROLE: JsonDict = {"pattern": rf"^((user|service-account)/|{_ARN}[0-9]{{12}}:(user|service-account)/)?{NAME}$"}
_AWS_KEY: JsonDict = {
    "required": ["access_key_id", "secret_access_key"],
    "properties": {
        "access_key_id": {"type": "string"},
        "secret_access_key": {"type": "string"},
        "principal": _USER,
    },
}
_NEW_KEY: JsonDict = {"properties": {"access_key_id": {"type": "null"}, "secret_access_key": {"type": "null"}}}
_ON_RESOURCE: list[JsonValue] = [
    {"properties": {"resource": {"const": "*"}}},
    {
        "properties": {
            "policy": {"enum": [f"yandex/{role}" for role in ROLES if role != TOKEN_CREATOR]},
            "resource": {"pattern": f"^({RESOURCE})$"},
        }
    },
    {
        "properties": {
            "policy": {"const": f"yandex/{TOKEN_CREATOR}"},
            "resource": {"pattern": f"^({SERVICE_ACCOUNT_RESOURCE})$"},
        }
    },
]


def _duration_text(value: object) -> object:
    if not isinstance(value, str | timedelta):
        raise ValueError("must be a duration such as 90d, 12h, 30m or 45s, as text")  # noqa: TRY004 - pydantic's way
    return parse_duration(value)


def _between(shortest: str, longest: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "type": "string",
            "format": f"duration-{shortest}-{longest}",
            "description": f"Seconds, or a number with one of the units s, m, h and d: {shortest} to {longest}.",
            "examples": [longest],
        }
    )


Duration = Annotated[timedelta, BeforeValidator(_duration_text)]
SessionPolicy = Annotated[str, Field(max_length=32768, json_schema_extra={"format": "session-policy"})]
RegionName = Annotated[str, Field(max_length=63, pattern=f"^{REGION}$")]


class Input(BaseModel):
    """``AUDITED`` are the fields that the audit record shows: no secrets and no documents.

    ``KINDS`` are the kinds of principals that the command can be about.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    AUDITED: ClassVar[tuple[str, ...]] = ()
    KINDS: ClassVar[tuple[PrincipalKind, ...]] = ("user", "role", "service-account")

    @property
    def kind(self) -> PrincipalKind:
        """The kind of principal that the command is about, for event names that depend on it."""
        return "user"


class InAccount(Input):
    """Without ``account``, the API uses the caller's account and the command line the first account."""

    account: str = Field("", pattern=r"^([0-9]{12})?$")


class Named(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("name",)

    name: str = Field(pattern=f"^{NAME}$")


class NamedPolicy(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("name",)

    name: str = Field(pattern=NAMED_POLICY)


class AccountSetting(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("name", "value")

    name: Literal[*SETTINGS]  # type: ignore[valid-type]
    value: Literal["true", "false"]


class Region(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("name",)

    name: RegionName


class Hostname(Input):
    AUDITED: ClassVar[tuple[str, ...]] = ("name",)

    name: str = Field(max_length=255)


class NewHostname(Hostname):
    """Without ``account`` the name is of all accounts."""

    AUDITED: ClassVar[tuple[str, ...]] = ("name", "account", "api", "region")

    account: str | None = Field(None, pattern=ACCOUNT_ID)
    api: Literal["aws", "yandex"] | None = None
    region: str | None = Field(None, max_length=32)


class NewAccountInput(Input):
    """``id`` is an account number from AWS, to keep existing ARNs valid."""

    AUDITED: ClassVar[tuple[str, ...]] = ("name", "id")

    name: str = Field(pattern=f"^{NAME}$")
    id: str | None = Field(None, pattern=ACCOUNT_ID)
    region: list[RegionName] = Field(default_factory=lambda: ["us-east-1"], min_length=1, max_length=MAX_REGIONS)


class NoInput(Input):
    pass


class NewRole(Named):
    trust_policy: str = Field(max_length=32768, json_schema_extra={"format": "trust-policy"})
    max_session_duration: Annotated[Duration, _between("1h", "12h")] = timedelta(hours=1)


class TrustPolicy(Named):
    trust_policy: str = Field(max_length=32768, json_schema_extra={"format": "trust-policy"})


class Principal(InAccount):
    """``principal`` is KIND/NAME, such as user/alice, or its ARN; a bare name is a user's."""

    AUDITED: ClassVar[tuple[str, ...]] = ("principal",)

    principal: str = Field(pattern=PRINCIPAL, examples=["user/alice"])

    @property
    def kind(self) -> PrincipalKind:
        return self._parts[1]

    @property
    def parsed(self) -> tuple[PrincipalKind, str]:
        """Kind and name. Raises NotFound for the ARN of another account's principal."""
        account, kind, name = self._parts
        if account not in ("", self.account):
            raise NotFound(kind, name)
        return kind, name

    @property
    def _parts(self) -> tuple[str, PrincipalKind, str]:
        account, _, short = self.principal.removeprefix(_ARN).rpartition(":")
        kind, _, name = short.rpartition("/")
        match kind or "user":
            case "user":
                return account, "user", name
            case "role":
                return account, "role", name
            case "service-account":
                return account, "service-account", name
        raise Invalid("principal", "must be user/NAME, role/NAME or service-account/NAME")


class NewKey(Principal):
    """``access_key_id`` and ``secret_access_key`` import an existing access key of a user."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [_NEW_KEY, _AWS_KEY]})
    AUDITED: ClassVar[tuple[str, ...]] = ("principal", "access_key_id")
    KINDS: ClassVar[tuple[PrincipalKind, ...]] = ("user", "service-account")

    principal: str = Field(pattern=PRINCIPAL, json_schema_extra=_NOT_ROLE, examples=["user/alice"])
    access_key_id: str | None = Field(None, pattern="^AKIA[0-9A-Z]{16}$")
    secret_access_key: str | None = Field(
        None, pattern="^[0-9A-Za-z/+]{40}$", repr=False, json_schema_extra={"x-sensitive": True}
    )


class Credential(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("id",)
    KINDS: ClassVar[tuple[PrincipalKind, ...]] = ("user", "service-account")

    id: str = Field(max_length=64, pattern=_NO_NUL)

    @property
    def kind(self) -> PrincipalKind:
        # Ids of access keys and sessions begin as AWS's do. Any other id is an authorized key's.
        return "user" if self.id.startswith(("AKIA", "ASIA")) else "service-account"


class TokenPolicy(Credential):
    policy: SessionPolicy


class NewToken(Principal):
    principal: str = Field(pattern=PRINCIPAL, json_schema_extra=_USER, examples=["user/alice"])
    policy: SessionPolicy | None = None
    lifetime: Annotated[Duration, _between("1s", "3650d")] | None = None
    description: str = Field("", max_length=256, pattern=_NO_NUL)


class NewSessionInput(Principal):
    AUDITED: ClassVar[tuple[str, ...]] = ("principal", "duration")

    duration: Annotated[Duration, _between("1m", "36h")] = timedelta(hours=1)
    policy: SessionPolicy | None = None


class PolicyDocument(Named):
    name: str = Field(pattern=f"^{POLICY_NAME}$")
    document: str = Field(max_length=32768, json_schema_extra={"format": "identity-policy"})


class Attachment(Principal):
    """Only a policy yandex/ROLE takes a resource."""

    model_config = ConfigDict(json_schema_extra={"anyOf": _ON_RESOURCE})
    AUDITED: ClassVar[tuple[str, ...]] = ("principal", "policy", "resource")

    policy: str = Field(pattern=NAMED_POLICY)
    resource: str = Field("*", max_length=256, pattern=_NO_NUL)
