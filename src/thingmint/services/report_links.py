"""Signed links to the files of bulk registration's reports. A link is valid for an hour and needs no credentials."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, cast

PREFIX: Final = "/thing-registration-reports/"
"""The beginning of each link's path."""
ReportKind = Literal["ERRORS", "RESULTS"]

_VALID_FOR = timedelta(hours=1)
_PATH = re.compile(rf"{PREFIX}([0-9a-f-]{{36}})/(ERRORS|RESULTS)/(0|[1-9][0-9]{{0,8}})", re.ASCII)
_QUERY = re.compile(r"Expires=([1-9][0-9]{0,11})&Signature=([0-9a-f]{64})", re.ASCII)


class ReportFile(NamedTuple):
    """A file of a report. ``number`` is from 0."""

    task: str
    kind: ReportKind
    number: int


class ReportLinks:
    """Makes links with ``key``, and opens them. ``url`` is their beginning. Without it, they have ``port``."""

    def __init__(self, key: bytes, url: str | None = None) -> None:
        self.port = 443
        self._key = key
        self._url = url

    def link(self, host: str, file: ReportFile, now: datetime) -> str:
        path = f"{PREFIX}{file.task}/{file.kind}/{file.number}"
        expires = int((now + _VALID_FOR).timestamp())
        beginning = self._url or f"https://{f'[{host}]' if ':' in host else host}:{self.port}"
        return f"{beginning}{path}?Expires={expires}&Signature={self._signature(path, expires)}"

    def open(self, path: str, query: str, now: datetime) -> ReportFile | None:
        """Return the file that a link names; None unless it has a signature of this instance and is valid still."""
        named, signed = _PATH.fullmatch(path), _QUERY.fullmatch(query)
        if named is None or signed is None:
            return None
        expires = int(signed[1])
        if not hmac.compare_digest(signed[2], self._signature(path, expires)) or expires < now.timestamp():
            return None
        return ReportFile(named[1], cast("ReportKind", named[2]), int(named[3]))

    def _signature(self, path: str, expires: int) -> str:
        return hmac.new(self._key, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
