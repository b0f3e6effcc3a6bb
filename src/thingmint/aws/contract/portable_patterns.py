r"""Translates the model's patterns, which are Java's, to regular expressions that Python and ECMAScript read alike.

ECMAScript is strict with the flag ``u``, which JSON Schema wants: only syntax characters can be escaped. Python's
``\w``, ``\d`` and ``\s`` have all of Unicode, Java's only ASCII.
"""

from __future__ import annotations

import re
from typing import Final

from thingmint.aws.contract.scalars import ANY, CLASSES, TOKEN
from thingmint.http.openapi import whole

ANY_TEXT: Final = whole(r"[^\x00]*")
"""The pattern of texts without a pattern: the server accepts no NUL in any text."""

_ASCII: Final = {"w": "A-Za-z0-9_", "d": "0-9", "s": r"\t\n\x0b\f\r\x20"}
_SYNTAX: Final = frozenset("^$\\.*+?()[]{}|/")


def portable(pattern: str) -> str | None:
    """The translated pattern, which refuses NUL too; None if it names a class of Unicode, which Python does not know.

    Raises ValueError for a construct that cannot be translated.
    """
    if pattern == r"[\s\S]*":
        return ANY_TEXT
    if re.search(r"\\p\{[CLN]\}", pattern):
        return None
    out: list[str] = []
    inside = False
    position = 0
    while position < len(pattern):
        token = TOKEN.match(pattern, position)
        if token is None:
            raise ValueError(f"unknown construct at {position} of the pattern {pattern}")
        position = token.end()
        text = token[0]
        if token["property"]:
            out.append(CLASSES[token["name"]] if inside else f"[{CLASSES[token['name']]}]")
        elif token["escape"]:
            out.append(_escape(text, pattern, inside=inside))
        elif inside:
            inside = text != "]"
            out.append(text)
        elif text == ".":
            out.append(ANY.replace("[^", r"[^\x00", 1))
        elif text == "[":
            inside = True
            out.append(text)
            if pattern.startswith("^", position):
                position += 1
                out.append(r"^\x00")
                if pattern.startswith("-", position):
                    raise ValueError(f"a dash first in a negated class is not supported: {pattern}")
        else:
            out.append(text)
    return whole("".join(out))


def _escape(text: str, pattern: str, *, inside: bool) -> str:
    character = text[1]
    if character in _ASCII:
        return _ASCII[character] if inside else f"[{_ASCII[character]}]"
    if character == "S":
        if inside:
            raise ValueError(f"\\S in a class is not supported: {pattern}")
        return rf"[^\x00{_ASCII['s']}]"
    is_dash = inside and character == "-"
    return text if character.isalnum() or character in _SYNTAX or is_dash else character
