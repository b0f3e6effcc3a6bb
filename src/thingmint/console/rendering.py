"""Jinja templates, and how pages write numbers, times and ids. Everything in a template is escaped."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from thingmint.console.assets import paths
from thingmint.console.sentences import capital
from thingmint.domain.status import Status

_SHOWN_DIGITS = 12
_WORD = re.compile(r"[a-z]+[ ,]")
_LONG_ID = re.compile(r"\b([0-9a-f]{40,})\b")
_STATUSES: dict[Status, tuple[str, str]] = {
    Status.ACTIVE: ("ok", "Active"),
    Status.INACTIVE: ("mute", "Inactive"),
    Status.REVOKED: ("bad", "Revoked"),
    Status.PENDING_TRANSFER: ("warn", "Pending transfer"),
    Status.PENDING_ACTIVATION: ("warn", "Pending activation"),
    Status.REGISTER_INACTIVE: ("mute", "Register inactive"),
}
_SOON = timedelta(days=30)
_CA_ENDS = (("bad", 90), ("warn", 180))  # days
_YEAR = 365.25 * 86400
_SIGN = r"[=+\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}]"
_BREAK = r"\t\r\n\x0b\x0c\x85\u2028\u2029"  # line ends, and the tab
_FORMULA = re.compile(rf"[{_BREAK}]|[\x00-\x20\s\ufeff\u200b]*{_SIGN}")
_FORMULA_INSIDE = re.compile(rf"([;{_BREAK}][ \"']{{0,8}})(?={_SIGN})")
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def render(template: str, **values: Any) -> str:
    return _templates.get_template(template).render(values)


def shortened(id: str) -> str:
    """The beginning of a long id."""
    return id if len(id) <= _SHOWN_DIGITS + 1 else f"{id[:_SHOWN_DIGITS]}\N{HORIZONTAL ELLIPSIS}"


def brief(text: str, most: int = 40) -> str:
    """A text in which long ids are short, and which is cut if it is longer than that."""
    short = _LONG_ID.sub(lambda match: shortened(match[1]), text)
    return short if len(short) <= most else f"{short[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def grouped(number: int) -> str:
    """A number with thousands separators."""
    return f"{number:,}"


def span(length: timedelta) -> str:
    """A time span in its largest unit: 2 y, 3 d, 2 h, 5 min, 12 s."""
    seconds = int(abs(length).total_seconds())
    if seconds >= 2 * _YEAR:
        return f"{int(seconds / _YEAR)} y"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size:,} {unit}"
    return f"{seconds} s"


def seconds(number: float) -> str:
    """A number of seconds in its largest unit."""
    return span(timedelta(seconds=number))


def relative(moment: datetime, now: datetime) -> str:
    """``2 min ago`` or ``in 3 d``."""
    if abs(moment - now) < timedelta(seconds=1):
        return "now"
    return f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"


def exact(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def when(moment: datetime | None, now: datetime, never: str = "never") -> Markup | str:
    """A <time> element: relative for reading, exact as its title."""
    if moment is None:
        return never
    iso = moment.astimezone(UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso, exact(moment), relative(moment, now))


def status_words(status: Status) -> tuple[str, str]:
    """The kind of pill of a certificate's status, and its words."""
    return _STATUSES[Status(status)]


def ending(moment: datetime, now: datetime) -> str:
    """The class of an end: soon, or passed."""
    if moment <= now:
        return "bad-text"
    return "warn-text" if moment - now < _SOON else ""


def ca_mark(moment: datetime, now: datetime) -> tuple[str, str] | None:
    """The kind and the words of a mark at the end of a CA, if it is near: devices have to get the next CA before."""
    if moment <= now:
        return "bad", "Ended"
    near = next(((kind, days) for kind, days in _CA_ENDS if moment - now < timedelta(days=days)), None)
    return None if near is None else (near[0], f"Within {near[1]} days")


def harmless(text: str) -> str:
    """A text that a spreadsheet does not take for a formula, also if it separates cells at semicolons or tabs."""
    kept = _FORMULA_INSIDE.sub(r"\1'", text)
    return f"'{kept}" if _FORMULA.match(text) else kept


def query_of(**fields: Any) -> str:
    """A query string without empty fields, with its question mark."""
    kept = {name: value for name, value in fields.items() if value not in (None, "")}
    return f"?{urlencode(kept, doseq=True)}" if kept else ""


def inline(text: str) -> Markup:
    """A text in which what stands in backticks is code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(each) if n % 2 else escape(each) for n, each in enumerate(parts)
    )


def reason(text: str) -> Markup:
    """A text, such as the reason of a refusal, in which long ids are short, with the whole id as their title."""
    parts = _LONG_ID.split(text)
    return Markup("").join(
        Markup('<span class="mono" title="{}">{}</span>').format(each, shortened(each)) if n % 2 else escape(each)
        for n, each in enumerate(parts)
    )


def sentence(text: str) -> Markup:
    """``reason`` with a capital letter, unless the text begins with a name, such as an action or a client id."""
    return reason(capital(text) if _WORD.match(text) else text)


def prose(text: str) -> Markup:
    """The paragraphs of a description."""
    return Markup("").join(Markup("<p>{}</p>").format(inline(each)) for each in text.split("\n\n"))


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
    )
    made.filters |= {"short": shortened, "number": grouped, "exact": exact, "span": span, "seconds": seconds}
    made.filters |= {"inline": inline, "prose": prose, "reason": reason, "sentence": sentence, "brief": brief}
    made.globals |= {
        "asset": paths(),
        "when": when,
        "status_words": status_words,
        "query_of": query_of,
        "ending": ending,
        "ca_mark": ca_mark,
    }
    return made


_templates = _environment()
