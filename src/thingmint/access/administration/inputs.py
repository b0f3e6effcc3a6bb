"""The input models of the administrator's commands."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from thingmint.domain.durations import parse_duration
from thingmint.domain.errors import Invalid

ACCOUNT_ID = r"^[0-9]{12}$"
MAX_REGIONS = 50  # of an account

PrincipalKind = Literal["user", "role", "service-account"]

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


class Input(BaseModel):
    """``AUDITED`` are the fields that the audit record shows: no secrets and no documents."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    AUDITED: ClassVar[tuple[str, ...]] = ()

    @property
    def kind(self) -> PrincipalKind:
        """The kind of principal that the command is about, for event names that depend on it."""
        return "user"


class InAccount(Input):
    """Without ``account``, the API uses the caller's account and the command line the first account."""

    account: str = Field("", pattern=r"^(\d{12})?$")


class Named(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("name",)

    name: str = Field(max_length=128)


class AccountSetting(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("name", "value")

    name: str = Field(max_length=64)
    value: str = Field(max_length=8)


class Region(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("name",)

    name: str = Field(max_length=32)


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

    name: str = Field(max_length=64)
    id: str | None = Field(None, pattern=ACCOUNT_ID)
    region: list[str] = Field(default_factory=lambda: ["us-east-1"], min_length=1, max_length=MAX_REGIONS)


class NoInput(Input):
    pass


class NewRole(Named):
    trust_policy: str = Field(max_length=32768)
    max_session_duration: Duration = timedelta(hours=1)


class Principal(InAccount):
    """``principal`` is kind/name, such as user/alice; a bare name is a user's."""

    AUDITED: ClassVar[tuple[str, ...]] = ("principal",)

    principal: str = Field(max_length=128)

    @property
    def kind(self) -> PrincipalKind:
        return self.parsed[0]

    @property
    def parsed(self) -> tuple[PrincipalKind, str]:
        kind, separator, name = self.principal.rpartition("/")
        match kind if separator else "user":
            case "user":
                return "user", name
            case "role":
                return "role", name
            case "service-account":
                return "service-account", name
        raise Invalid("principal", "must be user/NAME, role/NAME or service-account/NAME")


class NewKey(Principal):
    """``access_key_id`` and ``secret_access_key`` import an existing access key."""

    AUDITED: ClassVar[tuple[str, ...]] = ("principal", "access_key_id")

    access_key_id: str | None = Field(None, max_length=128)
    secret_access_key: str | None = Field(None, max_length=256, repr=False)


class Credential(InAccount):
    AUDITED: ClassVar[tuple[str, ...]] = ("id",)

    id: str = Field(max_length=64)

    @property
    def kind(self) -> PrincipalKind:
        # Ids of access keys and sessions begin as AWS's do. Any other id is an authorized key's.
        return "user" if self.id.startswith(("AKIA", "ASIA")) else "service-account"


class NewToken(Principal):
    policy: str | None = Field(None, max_length=32768)
    lifetime: Duration | None = None
    description: str = Field("", max_length=256)


class NewSessionInput(Principal):
    AUDITED: ClassVar[tuple[str, ...]] = ("principal", "duration")

    duration: Duration = timedelta(hours=1)
    policy: str | None = Field(None, max_length=32768)


class PolicyDocument(Named):
    document: str = Field(max_length=32768)


class Attachment(Principal):
    AUDITED: ClassVar[tuple[str, ...]] = ("principal", "policy", "resource")

    policy: str = Field(max_length=128)
    resource: str = Field("*", max_length=256)
