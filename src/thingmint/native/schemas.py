"""The models of the native API's requests and answers, from which the OpenAPI document is made."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, RootModel

from thingmint.access.audit_records import UNREADABLE
from thingmint.domain.errors import Invalid
from thingmint.domain.validation import flaw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.keys import KeyPair
    from thingmint.services.accounts import AccountSettings
    from thingmint.services.ca_certificates import CaState
    from thingmint.services.certificates import RegisteredCertificate, Registration
    from thingmint.services.pages import Page


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_rfc3339(value: object) -> object:
    """pydantic alone takes Unix times, and dates without a time, which OpenAPI's format date-time does not have."""
    if isinstance(value, str) and not _RFC3339.fullmatch(value):
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z")
    return value


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
GivenTime = Annotated[AwareDatetime, BeforeValidator(_is_rfc3339)]
Time = Annotated[datetime, PlainSerializer(_rfc3339)]
NO_NUL = r"^[^\x00]*$"  # the engines' text has no U+0000
SettableStatus = Literal["ACTIVE", "INACTIVE", "REVOKED"]


IN_PATH: Mapping[str, Mapping[str, str]] = {
    "id": {
        "type": "string",
        "pattern": "^[0-9A-Fa-f]{64}$",
        "description": "The certificate's id: the SHA-256 of its DER in hexadecimal digits.",
    }
}
"""The schemas of the parameters in paths."""


class Input(BaseModel):
    """The parameters of a query, or a body."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def marker_of(list_name: str) -> Any:
    description = "`next_marker` of the page before. No other list's marker is accepted."
    return Field(None, max_length=1024, json_schema_extra={"format": f"marker-of-{list_name}"}, description=description)


class NoBody(Input):
    """Nothing, or an empty object."""


class NoQuery(Input):
    """No parameters."""


class IssueQuery(Input):
    set_as_active: Literal["true", "false"] = Field("false", alias="setAsActive")


class ListQuery(Input):
    page_size: int = Field(25, ge=1, le=250)
    marker: str | None = marker_of("certificates")
    order: Literal["ascending", "descending"] = "descending"


class AuditQuery(Input):
    """`since` is inclusive, `until` exclusive."""

    page_size: int = Field(25, ge=1, le=250)
    marker: str | None = marker_of("audit")
    since: GivenTime | None = None
    until: GivenTime | None = None
    event: str | None = Field(None, max_length=128, pattern=NO_NUL)
    principal: str | None = Field(None, max_length=256, pattern=NO_NUL, description="An ARN.")
    outcome: Literal["success", "refused"] | None = None
    resource: str | None = Field(
        None,
        max_length=2048,
        pattern=NO_NUL,
        description="A resource that was authorized or changed, usually an ARN.",
    )
    about: str | None = Field(
        None,
        max_length=2048,
        pattern=NO_NUL,
        description="A principal or resource, usually an ARN: the records in which it acted, or which changed it.",
    )
    client_id: str | None = Field(None, max_length=256, pattern=NO_NUL, description="The MQTT client id of a device.")
    certificate: str | None = Field(
        None, pattern="^[0-9A-Fa-f]{64}$", description="The id of a certificate that acted or was changed."
    )


Csr = Annotated[
    str,
    Field(min_length=1, max_length=65536, json_schema_extra={"format": "csr"}, description="A PKCS#10 request in PEM."),
]
CertificatePem = Annotated[
    str,
    Field(
        min_length=1, max_length=65536, json_schema_extra={"format": "certificate"}, description="A certificate in PEM."
    ),
]


class NewCertificate(Input):
    """Either `csr`, to issue a certificate, or `certificate_pem`, to register an existing one."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {
                    "required": ["csr"],
                    "properties": {
                        "csr": {"type": "string"},
                        "certificate_pem": {"type": "null"},
                        "status": {"enum": ["ACTIVE", "INACTIVE"]},
                    },
                },
                {
                    "required": ["certificate_pem"],
                    "properties": {"csr": {"type": "null"}, "certificate_pem": {"type": "string"}},
                },
            ]
        }
    )

    csr: Csr | None = None
    certificate_pem: CertificatePem | None = None
    status: SettableStatus = "INACTIVE"

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> NewCertificate:
        if (self.csr is None) == (self.certificate_pem is None):
            raise ValueError("exactly one of csr and certificate_pem must be given")
        if self.csr is not None and self.status == "REVOKED":
            raise ValueError("a certificate cannot be issued as REVOKED")
        return self


class ChangeStatus(Input):
    status: SettableStatus


class CertificateSummary(BaseModel):
    id: str = Field(description="The SHA-256 of the certificate's DER in lower-case hex.")
    arn: str
    status: str
    created_at: Time
    modified_at: Time

    @classmethod
    def of(cls, registration: Registration) -> CertificateSummary:
        return cls(
            id=registration.fingerprint,
            arn=registration.arn,
            status=registration.status,
            created_at=registration.created_at,
            modified_at=registration.modified_at,
        )


class CaOfCertificate(BaseModel):
    """The CA certificate that a certificate was registered under, and whether it decides if devices can connect."""

    id: str
    status: str = Field(description="`ACTIVE`, `INACTIVE`, or `DELETED`.")
    not_before: Time | None
    not_after: Time | None
    gates_devices: bool = Field(description="The account's switch `ca_status_gates_devices`.")

    @classmethod
    def of(cls, id: str, state: CaState | None, settings: AccountSettings) -> CaOfCertificate:
        gates = settings.ca_status_gates_devices
        if state is None:
            return cls(id=id, status="DELETED", not_before=None, not_after=None, gates_devices=gates)
        status, not_before, not_after = state
        return cls(id=id, status=status.value, not_before=not_before, not_after=not_after, gates_devices=gates)


class Certificate(CertificateSummary):
    certificate_pem: str
    not_before: Time
    not_after: Time
    mode: Literal["DEFAULT", "SNI_ONLY"]
    ca: CaOfCertificate | None = Field(description="Null if it was registered without a CA certificate.")
    cannot_connect: str | None = Field(
        description="The reason why no device can connect with it, whatever its status; or null."
    )

    @classmethod
    def of_registered(
        cls, registered: RegisteredCertificate, ca: CaOfCertificate | None = None, *, cannot_connect: str | None
    ) -> Certificate:
        certificate = registered.certificate
        return cls(
            **dict(CertificateSummary.of(registered.registration)),
            certificate_pem=certificate.pem,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            mode=registered.registration.mode,
            ca=ca,
            cannot_connect=cannot_connect,
        )


class IssuedKeys(BaseModel):
    """Only this answer has the private key: the server does not keep it."""

    id: str
    created_at: Time
    arn: str
    status: str
    certificate_pem: str
    public_key: str
    private_key: str

    @classmethod
    def of(cls, registered: RegisteredCertificate, keys: KeyPair | None) -> IssuedKeys:
        registration = registered.registration
        assert keys is not None, "it was made with keys"
        return cls(
            id=registration.fingerprint,
            created_at=registration.created_at,
            arn=registration.arn,
            status=registration.status,
            certificate_pem=registered.certificate.pem,
            public_key=keys.public_pem,
            private_key=keys.private_pem,
        )


class CertificatePage(BaseModel):
    certificates: list[CertificateSummary]
    next_marker: str | None

    @classmethod
    def of(cls, page: Page[Registration]) -> CertificatePage:
        return cls(certificates=[CertificateSummary.of(item) for item in page.items], next_marker=page.next_token)


class AuditRecord(BaseModel):
    """docs/audit.md describes the fields. A damaged record has only the event "not readable"."""

    time: str | None = None
    source: str | None = None
    event: str
    account: str | None = None
    principal: str | None = None
    credential: str | None = None
    address: str | None = None
    agent: str | None = None
    resource: str | None = None
    resources: list[str] | None = None
    parameters: dict[str, str] | None = None
    outcome: str | None = None
    error: str | None = None
    reason: str | None = None
    closest: list[str] | None = None
    transfer: dict[str, str] | None = None
    client_id: str | None = None
    since: str | None = None
    count: int | None = None
    addresses: list[str] | None = None
    request: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> AuditRecord:
        try:
            return cls.model_validate({**record, "client_id": record.get("clientId")})
        except pydantic.ValidationError:
            return cls.model_validate(UNREADABLE)


class AuditPage(BaseModel):
    """A page may have fewer records than requested, or none, though there is a next page."""

    records: list[AuditRecord]
    next_marker: str | None

    @classmethod
    def of(cls, page: Page[dict[str, Any]]) -> AuditPage:
        return cls(records=[AuditRecord.of(record) for record in page.items], next_marker=page.next_token)


class Result(RootModel[Any]):
    """The command's answer: an object, or a list of objects."""


_LONGEST_NAME = 64
M = TypeVar("M", bound=BaseModel)


def checked(model: type[M], values: object) -> M:
    """``values`` as ``model``. Raises Invalid for the first wrong value, without quoting it."""
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "request"
        if first["type"] == "extra_forbidden":
            shown = "".join(c if c.isprintable() else "?" for c in field[:_LONGEST_NAME])
            raise Invalid("request", f"has an unknown parameter: {shown}") from None
        raise Invalid(field, flaw(first)) from None
