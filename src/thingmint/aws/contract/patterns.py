r"""The service model's patterns: Java's regular expressions, matched in full, as Python predicates.

What the IoT model uses of the dialect: ASCII ``\w \d \s \S``, ``\p{...}`` classes, ``\x20``, and a ``.`` that stops at
all of Java's line terminators. A construct that is not known here raises ValueError when the model is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

Predicate = Callable[[str], object]
"""Truthy for a text that the pattern matches in full."""

# Category Z (separators); a test compares it with unicodedata.
_SEPARATORS: Final = "\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WITHOUT_SEPARATORS: Final = dict.fromkeys(
    (0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
)
_CLASSES: Final = {
    "Graph": "!-~",
    "Upper": "A-Z",
    "Digit": "0-9",
    "Cntrl": r"\x00-\x1f\x7f",
    "Z": _SEPARATORS,
}
_TOKEN: Final = re.compile(
    r"""
      (?P<property>\\p\{(?P<name>\w+)\})
    | (?P<escape>\\(?:[wdsSnrt]|x[0-9A-Fa-f]{2}|[^0-9A-Za-z]))
    | (?P<char>[^\\])
    """,
    re.VERBOSE | re.DOTALL,
)
_ANY: Final = "[^\\n\\r\x85\u2028\u2029]"
_OPEN_ENDED: Final = re.compile(r"[*+]|\{[0-9]+,\}")
_BRACKETS: Final = re.compile(r"\[(?:\\.|[^\]\\])*\]|\\.")


def compile_pattern(pattern: str) -> Predicate | None:
    """None for a pattern that every text matches."""
    if pattern == r"[\s\S]*":
        return None
    if pattern == r"[^\p{C}]*":
        return _has_no_other
    if pattern == r"[^\p{C}]+":
        return lambda text: bool(text) and _has_no_other(text)
    source, flags = _translate(pattern)
    return re.compile(source, flags).fullmatch


def is_superlinear(pattern: str) -> bool:
    """Whether failing to match may cost more than linear time, so that the text's length needs a bound."""
    return len(_OPEN_ENDED.findall(_BRACKETS.sub("x", pattern))) > 1


def _has_no_other(text: str) -> bool:
    # str.isprintable is "neither category C nor Z, except the space": what is left of C once Z is taken out.
    return text.isprintable() or text.translate(_WITHOUT_SEPARATORS).isprintable()


def _translate(pattern: str) -> tuple[str, re.RegexFlag]:
    out: list[str] = []
    flags = re.ASCII
    inside = False
    position = 0
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None:
            raise ValueError(f"unknown construct at {position} of the pattern {pattern}")
        position = token.end()
        text = token[0]
        if token["property"]:
            if token["name"] in ("L", "N"):
                flags = re.UNICODE
            out.append(_property(token["name"], pattern, inside=inside))
        elif token["escape"]:
            out.append(text)
        elif inside:
            if text == "[" or pattern.startswith("&&", token.start()):
                raise ValueError(f"set operations are not known: {pattern}")
            inside = text != "]"
            out.append(text)
        elif text == ".":
            out.append(_ANY)
        else:
            following = pattern[position : position + 1]
            if (text == "(" and following == "?") or (text == ")" and following in ("*", "+", "{")):
                raise ValueError(f"group extensions and repeated groups are not known: {pattern}")
            inside = text == "["
            out.append(text)
    return "".join(out), flags


def _property(name: str, pattern: str, *, inside: bool) -> str:
    if name in ("L", "N"):
        # Together with the underscore these two are exactly Python's Unicode \w, which spares a table of 700 ranges.
        letters_numbers = inside and all(part in pattern for part in (r"\p{L}", r"\p{N}", "_"))
        if not letters_numbers or re.search(r"\\[wdsS]", pattern) or pattern.count("[") != 1:
            raise ValueError(f"\\p{{{name}}} alone is not known: {pattern}")
        return r"\w"
    if name not in _CLASSES:
        raise ValueError(f"\\p{{{name}}} is not known: {pattern}")
    return _CLASSES[name] if inside else f"[{_CLASSES[name]}]"
