"""The filters of the list of certificates, as fields of its form."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from thingmint.console.rendering import status_words
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import Invalid
from thingmint.domain.status import Status
from thingmint.services.certificate_counts import WEEKS, monday_of
from thingmint.services.certificate_finding import common_name_in
from thingmint.services.certificate_search import CertificateFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.console.fields import Fields

Choices = list[tuple[str, str]]

_COMMON_NAME = re.compile(r"\s*CN\s*=", re.IGNORECASE)
_OLDEST_LIST = timedelta(days=1)

STATUSES: Choices = [("", "Any"), *((status.value, status_words(status)[1]) for status in Status)]
ENDS: Choices = [
    ("", "Any time"),
    ("past", "Has ended"),
    ("7", "In 7 days"),
    ("30", "In 30 days"),
    ("90", "In 90 days"),
    ("weeks", f"In these {WEEKS} weeks"),
    ("later", "Later than 90 days"),
]
SEEN: Choices = [
    ("", "Any time"),
    ("day", "In the last day"),
    ("not-7", "Over 7 days ago"),
    ("not-30", "Over 30 days ago"),
    ("not-90", "Over 90 days ago"),
    ("never", "Never"),
]
WITHOUT: Choices = [("", "Show all"), ("policy", "Without a policy"), ("thing", "Without a thing")]
_LATER = 90  # days
NAMES = ("q", "status", "ends", "seen", "without", "ca")


def read_fields(query: Fields) -> dict[str, str]:
    """The filters as they were sent. Raises Invalid for a value that the form does not have."""
    fields = {"q": query.text("q")}
    for name, choices in (("status", STATUSES), ("ends", ENDS), ("seen", SEEN), ("without", WITHOUT)):
        fields[name] = query.choice(name, [value for value, _ in choices])
    ca = query.text("ca")
    fields["ca"] = parse_fingerprint(ca, "ca") if ca else ""
    return fields


def filter_of(fields: Mapping[str, str], now: datetime) -> CertificateFilter:
    """The filter for the search. Of the text ``q`` it has a common name such as ``CN=pump``, and nothing else.

    All pages of a list need the same ``now``, as the token of the next page belongs to one filter.
    """
    wanted: dict[str, Any] = {"ca": fields["ca"] or None}
    if _COMMON_NAME.match(fields["q"]):
        wanted["subject_prefix"] = common_name_in(fields["q"])
    if fields["status"]:
        wanted["status"] = Status(fields["status"])
    match fields["ends"]:
        case "past":
            wanted["ends_before"] = now
        case "later":
            wanted["ends_from"] = now + timedelta(days=_LATER)
        case "":
            pass
        case "weeks":
            first = monday_of(now)
            wanted |= {"ends_from": first, "ends_before": first + timedelta(weeks=WEEKS)}
        case days:
            wanted |= {"ends_from": now, "ends_before": now + timedelta(days=int(days))}
    match fields["seen"].partition("-"):
        case ("never", _, _):
            wanted["never_seen"] = True
        case ("day", _, _):
            wanted["seen_from"] = now - timedelta(days=1)
        case ("not", _, days):
            wanted["seen_before"] = now - timedelta(days=int(days))
    wanted["without_policy"] = fields["without"] == "policy"
    wanted["without_thing"] = fields["without"] == "thing"
    return CertificateFilter(**wanted)


def time_of_list(fields: Fields, now: datetime) -> datetime:
    """The time by which a list's filters are understood, that of its first page. Raises Invalid.

    It has whole seconds, as the field ``at`` has it: another time would make another filter.
    """
    seconds = fields.number("at")
    if seconds is None:
        return now.replace(microsecond=0)
    if not 0 <= now.timestamp() - seconds <= _OLDEST_LIST.total_seconds():
        raise Invalid("at", "is of a list that is too old; open the list again")
    return datetime.fromtimestamp(seconds, UTC)
