"""The models of the endpoints that tell about a fleet."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from thingmint.domain.status import Status
from thingmint.native.schemas import NO_NUL, CertificateSummary, GivenTime, Input, Time, marker_of
from thingmint.services.certificate_search import CertificateFilter
from thingmint.store.table import from_micros

if TYPE_CHECKING:
    from thingmint.services import certificate_counts, health
    from thingmint.services.certificate_search import FoundCertificate
    from thingmint.services.live_sessions import LiveSession
    from thingmint.services.pages import Page
    from thingmint.services.refusals import RefusalGroup


class Paged(Input):
    page_size: int = Field(25, ge=1, le=250)
    marker: str | None


class CountsQuery(Input):
    weeks: int = Field(26, ge=1, le=1000, description="How many weeks, from the current one on.")
    days: int = Field(30, ge=1, le=1000, description="How many days, up to today.")


class ExpiryWeek(BaseModel):
    begins: date = Field(description="A Monday.")
    by_status: dict[str, int]


class AddedOnDay(BaseModel):
    day: date
    by_origin: dict[str, int] = Field(
        description="`keys` and `csr`: issued for a key pair made here, or for a CSR. `registered`: issued elsewhere."
    )


class CertificateCounts(BaseModel):
    """Days and weeks are in UTC. `expired` and `expiring` count ACTIVE certificates only."""

    total: int
    by_status: dict[str, int]
    expired: int = Field(description="Ended before today.")
    expiring: dict[int, int] = Field(description="End within so many days: 7, 30 and 90.")
    weeks: list[ExpiryWeek]
    added: list[AddedOnDay] = Field(description="Added on each day, also those that were deleted since.")

    @classmethod
    def of(cls, counts: certificate_counts.CertificateCounts) -> CertificateCounts:
        return cls(
            total=counts.total,
            by_status=dict(counts.by_status),
            expired=counts.expired,
            expiring=dict(counts.expiring),
            weeks=[ExpiryWeek(begins=week.begins, by_status=dict(week.by_status)) for week in counts.weeks],
            added=[AddedOnDay(day=day, by_origin=dict(origins)) for day, origins in counts.added],
        )


class SearchQuery(Paged):
    """All that is given must be so. At most one of `id_prefix`, `serial`, `subject`, `subject_prefix`, `thing` and
    `device` is allowed."""

    marker: str | None = marker_of("search")
    order: Literal["ascending", "descending"] = "descending"
    status: (
        Literal["ACTIVE", "INACTIVE", "REVOKED", "PENDING_TRANSFER", "REGISTER_INACTIVE", "PENDING_ACTIVATION"] | None
    ) = None
    ca: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="The id of the CA certificate.")
    ends_from: GivenTime | None = None
    ends_before: GivenTime | None = None
    seen_from: GivenTime | None = None
    seen_before: GivenTime | None = None
    never_seen: bool = Field(False, description="No device has connected with it.")
    without_policy: bool = Field(False, description="No device policy is attached to it.")
    without_thing: bool = Field(False, description="It is attached to no thing.")
    id_prefix: str | None = Field(None, pattern="^[0-9A-Fa-f]{4,64}$", description="The first digits of its id.")
    serial: str | None = Field(
        None, max_length=64, pattern=NO_NUL, description="Its serial number in hexadecimal digits."
    )
    subject: str | None = Field(
        None,
        max_length=256,
        pattern=NO_NUL,
        description="The last common name in its subject, whatever the case of the letters.",
    )
    subject_prefix: str | None = Field(
        None, max_length=256, pattern=NO_NUL, description="The beginning of that common name. Sorts by it."
    )
    thing: str | None = Field(
        None, max_length=128, pattern=NO_NUL, description="The name of a thing that it is attached to."
    )
    device: str | None = Field(
        None,
        max_length=50,
        pattern=NO_NUL,
        description="The id of a Yandex device, registry or broker that it is bound to.",
    )

    def filter(self) -> CertificateFilter:
        status = Status(self.status) if self.status is not None else None
        return CertificateFilter(**self.model_dump(exclude={"page_size", "marker", "order", "status"}), status=status)


class FindQuery(Input):
    text: str = Field(
        min_length=1,
        max_length=256,
        pattern=NO_NUL,
        description="The beginning of an id (four digits or more), an ARN, a serial number (hexadecimal or decimal), "
        "the beginning of a common name (whatever the case of its letters), the beginning of a thing's name, or the id "
        "or name of a Yandex device, registry or broker.",
    )
    limit: int = Field(25, ge=1, le=100, description="How many certificates of each kind.")


class Owner(BaseModel):
    kind: Literal["device", "registry", "broker"]
    id: str


class Seen(BaseModel):
    """Connections and their ends are stored within seconds. `seen_at` is the later of the two times, or a time at most
    an hour ago at which a device was connected."""

    client_id: str
    address: str = Field(description="Empty if it is not known.")
    connected_at: Time | None
    disconnected_at: Time | None
    seen_at: Time


class SearchedCertificate(CertificateSummary):
    not_before: Time
    not_after: Time
    serial: str | None = Field(description="In hexadecimal digits. Null if it cannot be read.")
    common_name: str | None = Field(description="The last one in the subject.")
    thing: str | None = Field(description="The first of its things by name.")
    owner: Owner | None = Field(description="What it is bound to in Yandex IoT Core.")
    last_seen: Seen | None = Field(description="Null if no device has connected with it.")
    found_by: Literal["id", "serial", "subject", "thing", "device"] | None = None

    @classmethod
    def of_found(cls, found: FoundCertificate, by: str | None = None) -> SearchedCertificate:
        seen = found.last_seen
        return cls.model_validate(
            {
                **dict(CertificateSummary.of(found.registration)),
                "not_before": found.certificate.not_before,
                "not_after": found.certificate.not_after,
                "serial": found.serial,
                "common_name": found.common_name,
                "thing": found.thing,
                "owner": dict(zip(("kind", "id"), found.owner, strict=True)) if found.owner is not None else None,
                "last_seen": seen._asdict() if seen is not None else None,
                "found_by": by,
            }
        )


class SearchedPage(BaseModel):
    """A page may have fewer certificates than requested, or none, though there is a next page."""

    certificates: list[SearchedCertificate]
    next_marker: str | None

    @classmethod
    def of(cls, page: Page[FoundCertificate]) -> SearchedPage:
        found = [SearchedCertificate.of_found(each) for each in page.items]
        return cls(certificates=found, next_marker=page.next_token)


class FoundCertificates(BaseModel):
    certificates: list[SearchedCertificate]


class RefusalsQuery(Paged):
    marker: str | None = marker_of("refusals")
    certificate: str | None = Field(
        None, pattern="^[0-9a-f]{4,64}$", description="The id of the device's certificate, or its first digits."
    )
    client_id: str | None = Field(None, max_length=256, pattern=NO_NUL, description="The last MQTT client id.")
    since: GivenTime | None = Field(None, description="Refused at that time or later.")


class Refusal(BaseModel):
    """Refusals of one certificate, or without a certificate of one client id, for the same action, resource and
    reason. Texts are empty if they are not known, or differ within the group."""

    id: int
    certificate: str
    client_id: str = Field(description="The last one.")
    action: str = Field(description="As in a policy, such as `iot:Publish`; for Yandex devices without the prefix.")
    resource: str = Field(description="An ARN or a topic; `*` for further resources of a device that tries many.")
    reason: str
    count: int
    first_at: Time
    last_at: Time
    address: str = Field(description="The last one.")
    closest: list[str] = Field(description="The policy statements that came closest to allowing it.")


class RefusalPage(BaseModel):
    refusals: list[Refusal]
    next_marker: str | None

    @classmethod
    def of(cls, page: Page[RefusalGroup]) -> RefusalPage:
        found = [Refusal(**{name: getattr(each, name) for name in Refusal.model_fields}) for each in page.items]
        return cls(refusals=found, next_marker=page.next_token)


class RefusalCountsQuery(Input):
    minutes: int = Field(60, ge=5, le=10_080, description="In the last minutes, up to 7 days.")


class RefusalCounts(BaseModel):
    """Counted by periods of five minutes: the first one may have begun a little earlier."""

    total: int
    by_reason: dict[str, int] = Field(description="Without the ids and times in reasons; the most frequent first.")


class SessionsQuery(Paged):
    """All that is given must be so."""

    marker: str | None = marker_of("sessions")
    order: Literal["ascending", "descending"] = Field("descending", description="By the time of connection.")
    client_id: str | None = Field(None, max_length=256, pattern=NO_NUL)
    owner: str | None = Field(None, max_length=50, pattern=NO_NUL, description="The Yandex device, registry or broker.")
    certificate: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    thing: str | None = Field(None, max_length=128, pattern=NO_NUL)
    address: str | None = Field(None, max_length=64, pattern=NO_NUL)
    text: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        pattern=NO_NUL,
        description="Part of the client id, thing, owner or address, or the beginning of the certificate's id.",
    )


class SessionName(Input):
    client_id: str = Field(min_length=1, max_length=256, pattern=NO_NUL)
    owner: str | None = Field(None, max_length=50, pattern=NO_NUL, description="The Yandex device, registry or broker.")


class EndSession(SessionName):
    clean_session: bool = Field(False, description="End the session too, also of a client that is not connected.")
    prevent_will: bool = Field(False, description="Do not publish the will.")


class Session(BaseModel):
    """`received` and `sent` are messages since the client connected, as seen from the server."""

    client_id: str
    owner: str | None = Field(description="The Yandex device, registry or broker.")
    certificate: str = Field(description="Empty for a device that has a password.")
    thing: str | None
    address: str = Field(description="Empty if it is not known.")
    port: int
    protocol: str
    connected_at: Time
    idle: float = Field(description="Seconds since its last packet.")
    keep_alive: int = Field(description="Seconds.")
    expiry: int = Field(description="Seconds that the session outlives the connection.")
    subscriptions: int
    queued: int | None = Field(description="Messages that wait for it. Null with a broker of yours.")
    received: int
    sent: int
    process: str = Field(description="Empty if there is only one.")

    @classmethod
    def of(cls, session: LiveSession) -> Session:
        values = {name: getattr(session, name) for name in Session.model_fields}
        return cls(**{**values, "connected_at": from_micros(session.connected_at)})


class SessionDetails(Session):
    filters: list[str]

    @classmethod
    def of(cls, session: LiveSession) -> SessionDetails:
        return cls(**dict(Session.of(session)), filters=list(session.filters))


class SessionList(BaseModel):
    """`missing` are processes that did not tell their sessions in time."""

    sessions: list[Session]
    missing: list[str]
    next_marker: str | None


class SessionEnded(BaseModel):
    was_connected: bool


class HealthCheck(BaseModel):
    name: str
    state: Literal["ok", "unknown", "warning", "error"]
    message: str
    facts: dict[str, Time | int | str | None]


class Health(BaseModel):
    """`state` is that of the worst check; checks that are unknown do not count."""

    state: Literal["ok", "unknown", "warning", "error"]
    version: str
    checked_at: Time
    checks: list[HealthCheck]

    @classmethod
    def of(cls, found: health.Health) -> Health:
        names = HealthCheck.model_fields
        checks = [HealthCheck(**{name: getattr(each, name) for name in names}) for each in found.checks]
        return cls(state=found.state, version=found.version, checked_at=found.checked_at, checks=checks)
