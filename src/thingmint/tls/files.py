"""The files of server certificates that settings name: read at start, and again when they change."""

from __future__ import annotations

import asyncio
import math
import stat
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from thingmint.domain.errors import Invalid
from thingmint.domain.server_certificates import PlacedCertificate, read_server_certificate
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from thingmint.settings import Settings
    from thingmint.settings.tables import ServerCertificateSettings
    from thingmint.tls.listener import ListenerTLS

_POLL_EVERY = 2.0  # seconds
_RETRY_AFTER = timedelta(minutes=1)  # for files that did not change: a certificate may become valid
_WARN_AT = (21, 7, 1, 0)  # days before the end
_DAY = 86400.0  # seconds
_OTHERS = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP  # a group may read a key: many systems have one for that

_log = structlog.get_logger("thingmint.tls")

_State = tuple[tuple[int, ...] | None, ...]


@dataclass(slots=True)
class _Source:
    """The files of one setting, and what is known of them.

    ``state`` is that of the files that ``placed`` was read from, or that were refused last.
    """

    settings: ServerCertificateSettings
    placed: PlacedCertificate
    state: _State
    changing: _State | None = None
    refused: str | None = None
    tried_at: datetime | None = None
    warned: tuple[datetime, int] | None = None


Prepared = dict[str, _Source]
"""Certificates that were read and checked, and are not shown yet."""


class ServerCertificateFiles:
    """Shows the certificates of the settings, and follows their files.

    Files that cannot be used, such as a certificate whose key is not replaced yet, leave the old certificate in force.
    """

    def __init__(self, tls: ListenerTLS, clock: Callable[[], datetime]) -> None:
        self._tls = tls
        self._clock = clock
        self._sources: Prepared = {}

    def prepare(self, settings: Settings) -> Prepared:
        """Reads the files of settings that are new or changed. Raises ConfigError."""
        prepared: Prepared = {}
        for name, each in settings.server_certificates_in_force().items():
            known = self._sources.get(name)
            try:
                prepared[name] = known if known is not None and known.settings == each else self._read(name, each)
            except Invalid as error:
                raise ConfigError(name, str(error)) from None
        try:
            self._tls.check([each.placed for each in prepared.values()])
        except Invalid as error:
            raise ConfigError(error.field, error.reason) from None
        return prepared

    def use(self, prepared: Prepared) -> None:
        for name, each in prepared.items():
            if self._sources.get(name) is not each:
                self._note(each)
        if prepared or self._sources:
            self._tls.place([each.placed for each in prepared.values()])
        self._sources = prepared
        self._warn_of_ends()

    def describe(self) -> list[str]:
        """A line for each certificate: where it is shown, and what its clients have to trust."""
        lines = []
        for source in self._sources.values():
            placed = source.placed
            where = ", ".join(sorted(placed.listeners)) + (f" as {', '.join(placed.names)}" if placed.names else "")
            lines.append(f"{placed.setting}: clients of {where} have to trust {placed.certificate.root}")
        return lines

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_POLL_EVERY)
            self.follow()

    def follow(self, *, at_once: bool = False) -> None:
        """Reads the files that have changed, when they have not changed any more since the last call.

        With ``at_once`` it reads all files now.
        """
        for source in self._sources.values():
            if at_once:
                source.refused = None  # to be logged again
            elif not self._is_due(source):
                continue
            source.changing, source.tried_at = None, self._clock()
            self._replace(source)
        self._warn_of_ends()

    def _is_due(self, source: _Source) -> bool:
        state = _state(source.settings)
        if state == source.state:
            source.changing = None
            waited = source.tried_at is None or self._clock() - source.tried_at >= _RETRY_AFTER
            return source.refused is not None and waited
        if state != source.changing:
            source.changing = state
            return False
        return True

    def _replace(self, source: _Source) -> None:
        name = source.placed.setting
        source.state = _state(source.settings)  # first: a change while it reads is then seen by the next call
        try:
            new = self._read(name, source.settings)
            if _is_same(new.placed, source.placed):
                source.refused = None
                return
            placed = [new.placed if each is source else each.placed for each in self._sources.values()]
            self._tls.check(placed)
            self._tls.place(placed)
        except (Invalid, OSError) as error:
            why = str(error)
            if why != source.refused:
                ends = source.placed.certificate.not_after.isoformat()
                _log.error("server_certificate_not_replaced", setting=name, why=why, shown_until=ends)
            source.refused = why
            return
        source.placed, source.refused = new.placed, None
        self._note(source)

    def _read(self, name: str, settings: ServerCertificateSettings) -> _Source:
        """Raises Invalid."""
        state = _state(settings)
        certificates, key = _content("certificate", settings.certificate), _content("key", settings.key)
        try:
            certificate = read_server_certificate(certificates, key, self._clock())
        except Invalid as error:
            raise Invalid(str(getattr(settings, error.field)), error.reason) from None
        uncovered = [each for each in settings.names if not certificate.covers(each)]
        if uncovered and settings.check_names:
            covered = ", ".join(certificate.names) or "no name: it has no subjectAltName"
            reason = f"is not for {', '.join(uncovered)}; it is for {covered}"
            raise Invalid(str(settings.certificate), reason)
        listeners = frozenset(settings.listeners)
        return _Source(settings, PlacedCertificate(name, certificate, listeners, tuple(settings.names)), state)

    def _note(self, source: _Source) -> None:
        placed, settings = source.placed, source.settings
        _log.info(
            "server_certificate_loaded",
            setting=placed.setting,
            names=placed.certificate.names,
            root=placed.certificate.root,
            ends=placed.certificate.not_after.isoformat(),
        )
        if _is_open_to_others(settings.key):
            advice = "remove the permissions of others, and find out who may have read it"
            _log.warning("server_key_open_to_others", path=str(settings.key), advice=advice)

    def _warn_of_ends(self) -> None:
        """Warns once at each number of days."""
        now = self._clock()
        for source in self._sources.values():
            end = source.placed.certificate.not_after
            left = (end - now).total_seconds() / _DAY
            reached = min((days for days in _WARN_AT if left <= days), default=None)
            if reached is None or source.warned == (end, reached):
                continue
            source.warned = (end, reached)
            name, names = source.placed.setting, source.placed.certificate.names
            if reached == 0:
                _log.error("server_certificate_expired", setting=name, names=names, ended=end.isoformat())
            else:
                days = math.ceil(left)
                _log.warning("server_certificate_expires", setting=name, names=names, ends=end.isoformat(), days=days)


def _content(noun: str, path: Path) -> bytes:
    """Raises Invalid."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(str(path), f"cannot be read ({error.strerror}); it must hold the {noun} in PEM") from None


def _state(settings: ServerCertificateSettings) -> _State:
    """Changes when a file is written or replaced, also behind a symbolic link."""
    return tuple(map(_state_of, (settings.certificate, settings.key)))


def _state_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def _is_same(one: PlacedCertificate, other: PlacedCertificate) -> bool:
    return one.certificate.chain_pem == other.certificate.chain_pem
