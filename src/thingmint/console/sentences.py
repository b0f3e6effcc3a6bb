"""Errors as sentences for people: each names what it is about, and has no code and no regular expression."""

from __future__ import annotations

import re

from thingmint.domain import errors

_PATTERN = re.compile(r"must satisfy regular expression pattern: (.*?)\.?")
_CLASS = re.compile(r"\^?\[((?:\\.|[^\]\\])+)\](?:\{(\d+),(\d+)\}|[+*])?\$?")
_RANGES = {"a-z": "letters", "A-Z": "letters", "0-9": "digits", r"\d": "digits"}
_PART = re.compile(r"[a-z]-[a-z]|[A-Z]-[A-Z]|\d-\d|\\?.", re.DOTALL)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_SUBJECTS = {
    "at": "time of the list",
    "ca": "issuer",
    "q": "search text",
    "page": "address of the next page",
    "new_status": "new status",
    "verb": "change",
}
"""Fields whose names are no words."""


def sentence_of(error: errors.DomainError, label: str = "") -> str:
    """The sentence for an error. ``label`` is that of the field of the form, if the error is about one."""
    match error:
        case errors.Invalid() if not (error.reason[:1].isupper() or str(error) == error.reason):
            text = f"{label or _subject(error.field)} {_plain(error.reason)}"
        case errors.NotFound():
            text = f"The {error.kind} {error.id} does not exist" if error.id else f"The {error.kind} is missing"
        case errors.AlreadyExists() if error.reason is None:
            text = f"The {error.kind} {error.id} already exists"
        case errors.Disallowed() if error.reason.startswith("it "):
            text = f"The {error.kind} {error.id} {error.reason.removeprefix('it ')}"
        case errors.VersionConflict():
            text = f"The {error}"
        case errors.Denied():
            text = str(error) if str(error)[:1].isupper() else f"The caller {error}"
        case errors.Unavailable():
            text = re.sub(r"\b([Tt])he store\b", r"\1he database", str(error))  # as the overview calls it
        case _:
            text = str(getattr(error, "reason", error) or error)
    return ended(capital(text))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _subject(field: str) -> str:
    """The name of a field in words; a path in a document as it is."""
    if field in _SUBJECTS:
        return f"The {_SUBJECTS[field]}"
    if not _NAME.fullmatch(field):
        return capital(field)
    words = [word if word.isupper() and len(word) > 1 else word.lower() for word in _WORD.findall(field)]
    return f"The {' '.join(words)}"


def _plain(reason: str) -> str:
    """The reason with the characters that are allowed in place of a regular expression."""
    match = _PATTERN.fullmatch(reason)
    if match is None:
        return reason
    known = _CLASS.fullmatch(match[1])
    if known is None:
        return "has characters that are not allowed here"
    parts = _PART.findall(known[1])
    kinds = list(dict.fromkeys(_RANGES[part] for part in parts if part in _RANGES))
    others = "".join(part.removeprefix("\\") for part in parts if part not in _RANGES)
    words = " or ".join(filter(None, [", ".join(kinds), f"any of {others}" if others else ""]))
    return f"must have {known[2]} to {known[3]} characters: {words}" if known[2] else f"may have only {words}"
