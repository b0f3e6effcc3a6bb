"""Makes the web console, and the links that sign in to it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509

from thingmint.access.audit_chain import Checkpoint, read_checkpoints
from thingmint.access.audit_records import AuditRecords
from thingmint.access.audit_verification import AuditVerification
from thingmint.access.console_sessions import LINK_LIFETIME, ConsoleSessions
from thingmint.console.app import ConsoleApi
from thingmint.console.hosts import AllowedHosts
from thingmint.console.oidc import OpenIdConnect
from thingmint.console.own_certificates import OwnCertificate
from thingmint.console.page import DeviceAccess, Parts, ServerAddresses, url
from thingmint.console.sign_in import LINK_PATH, SignInPages
from thingmint.console.updates import Updates
from thingmint.domain.errors import Unavailable, Unsupported
from thingmint.domain.names import authority_of
from thingmint.instance.audit_key import read_audit_keys
from thingmint.instance.key_files import is_encrypted
from thingmint.server.contracts import CONTRACTS
from thingmint.server.policy_actions import vocabulary_of
from thingmint.services.certificates import utc_now
from thingmint.services.health import RecentHealth
from thingmint.services.imports import list_imports
from thingmint.services.page_tokens import PageTokens
from thingmint.services.registration_tasks import running_tasks
from thingmint.settings.console import ConsoleSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thingmint.access.audit_keys import AuditKeys
    from thingmint.domain.server_certificates import ServerCertificate
    from thingmint.http.invoking import Invoker
    from thingmint.instance.layout import DataDirectory
    from thingmint.server.core import Core
    from thingmint.server.served_names import ServedNames
    from thingmint.services.change import Environment
    from thingmint.store.engine import Store
    from thingmint.tls import ListenerTLS


LinkCommand = Callable[..., Awaitable[dict[str, object]]]
_HEALTH = 5.0  # seconds for which the report on the health of the server counts
_IMPORTS = 20
_ROOT_USE = "Signs the certificates of the listeners. Clients and devices trust it"
_LISTENERS = {"api": "HTTPS", "grpc": "gRPC", "mqtt": "MQTT"}


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    api: ConsoleApi
    sessions: ConsoleSessions
    updates: Updates
    verification: AuditVerification


def console_of(core: Core, ports: Mapping[str, int], invoke: Invoker) -> ConsoleParts | None:
    """None if the settings turn the console off. Raises ConfigError."""
    instance, access, settings, environment = core.instance, core.access, core.settings, core.environment
    tls, names = core.certificates.tls, core.certificates.names
    given = settings.console or ConsoleSettings()
    if not given.enabled:
        return None
    sessions = ConsoleSessions(
        access.store, access.directory, instance.vault, utc_now, idle=given.idle, lifetime=given.lifetime
    )
    further = frozenset(given.host_names)

    def allowed() -> frozenset[str]:
        return tls.api_names() | further | {name.lower() for name in names.all()}

    root = instance.directory.ca.read_text("ascii")

    def addresses() -> ServerAddresses:
        name = names.hostnames[0]
        own_root = tls.shows_own("api", name) and tls.shows_own("grpc", name)
        return ServerAddresses(name, ports["api"], ports["grpc"], own_root)

    updates = Updates(sessions, partial(progress_of_tasks, instance.store))
    core.live.follow(updates.changed)
    core.storage.feed.follow(updates.published)
    material = partial(_material, instance.directory)
    verification = AuditVerification(instance.store, material, core.reports.trail, utc_now)
    parts = Parts(
        environment=environment,
        administration=access.administration,
        audit=AuditRecords(access.store, PageTokens(instance.vault.derive("audit markers"))),
        sessions=sessions,
        health=RecentHealth(core.health, _HEALTH),
        connected=core.live.count,
        updates=updates,
        devices=DeviceAccess(
            ports["mqtt"], lambda name: root if tls.shows_own("mqtt", name) else None, names.yandex_host
        ),
        explain=lambda asked, scope: core.explain(asked, [scope], is_limited=True),
        contracts=CONTRACTS,
        addresses=addresses,
        verification=verification,
        policy_vocabulary=vocabulary_of,
        own_certificates=partial(
            _own_certificates, environment, root, tls, is_encrypted=is_encrypted(instance.directory)
        ),
        invoke=invoke,
    )
    oidc = OpenIdConnect(given.oidc.provider(), utc_now) if given.oidc is not None else None
    pages = SignInPages(sessions, oidc)
    api = ConsoleApi(
        sessions,
        pages,
        access.directory,
        access.throttle,
        access.store,
        parts,
        AllowedHosts(allowed),
        dev=settings.dev,
    )
    return ConsoleParts(api, sessions, updates, verification)


def _material(directory: DataDirectory) -> tuple[AuditKeys, list[Checkpoint]]:
    """What verifies the audit log: the public keys, and the checkpoints in the data directory."""
    path = directory.audit_checkpoints
    return read_audit_keys(directory), list(read_checkpoints(path)) if path.exists() else []


async def console_address(
    console: ConsoleParts | None, link: LinkCommand, ports: Mapping[str, int], *, has_link: bool
) -> str | None:
    """The console's address on this machine; with ``has_link`` one that signs the first administrator in."""
    if console is None:
        return None
    if has_link:
        with contextlib.suppress(Unavailable):  # a full disk, with which the server starts nevertheless
            return str((await link())["local"])
    return f"http://127.0.0.1:{ports['http']}{url('/')}"


async def progress_of_tasks(store: Store) -> dict[str, list[object]]:
    """How far the running tasks and the newest imports are, by account."""
    found: dict[str, list[object]] = {}
    for task in await store.read(running_tasks):
        found.setdefault(task.scope.account, []).append((task.id, task.status, task.position, task.modified_at))
    for each in await store.read(lambda tx: list_imports(tx, _IMPORTS)):
        found.setdefault(each.account, []).append((each.id, each.modified_at))
    return found


def _own_certificates(
    environment: Environment, root: str, tls: ListenerTLS, *, is_encrypted: bool
) -> Iterator[OwnCertificate]:
    """The CAs, and the certificates that the listeners show, one row for those that are the same.

    ``root`` is that of the listeners, in PEM.
    """
    key = f"In the data directory, {'encrypted under a passphrase' if is_encrypted else 'not encrypted'}"
    uses = {"Issues device certificates": environment.device_ca, "Issues claim certificates": environment.claim_ca}
    if environment.claim_ca.certificate == environment.device_ca.certificate:
        uses = {"Issues device and claim certificates": environment.device_ca}
    signing = {_ROOT_USE: x509.load_pem_x509_certificate(root.encode())}
    signing |= {use: ca.certificate for use, ca in uses.items()}
    for use, made in signing.items():
        begins, ends = made.not_valid_before_utc, made.not_valid_after_utc
        yield OwnCertificate(made.subject.rfc4514_string(), use, key, begins, ends, is_ca=True)
    shown: dict[tuple[str, bool], tuple[list[str], ServerCertificate]] = {}
    for listener, name, certificates in tls.certificates():
        first = min(certificates, key=lambda each: each.not_after)
        where, _ = shown.setdefault((name, tls.shows_own(listener, name)), ([], first))
        where.append(_LISTENERS[listener])
    for (name, is_own), (listeners, first) in shown.items():
        note = "Renewed by the server" if is_own else f"Placed by the settings. Clients trust {first.root}"
        others = "All other names" if len(shown) > 1 else "All names"
        title, use = others if name == "*" else name, ", ".join(listeners)
        yield OwnCertificate(title, use, note, first.certificate.not_valid_before_utc, first.not_after)


def link_command(console: ConsoleParts | None, names: ServedNames, ports: Mapping[str, int]) -> LinkCommand:
    """The local command that makes a link to sign in, for this machine and for others."""

    async def link(account: str | None = None, user: str | None = None) -> dict[str, object]:
        if console is None:
            raise Unsupported("The setting console.enabled turns the console off")
        secret = await console.sessions.new_link(account, user)
        path = url(LINK_PATH, link=secret)
        return {
            "local": f"http://127.0.0.1:{ports['http']}{path}",
            "url": f"https://{authority_of(names.hostnames[0], ports['api'])}{path}",
            "seconds": int(LINK_LIFETIME.total_seconds()),
        }

    return link
