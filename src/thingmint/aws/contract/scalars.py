r"""Scalar input shapes: from a JSON value, or the text of a label, parameter or header, to a checked Python value.

Patterns are Java regular expressions and must match the whole text. The IoT model uses these parts of the dialect:
ASCII ``\w \d \s \S``, ``\p{...}`` classes, ``\x20``, and a ``.`` that stops at all of Java's line terminators. Any
other construct raises ValueError when the model is compiled.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import inf, isfinite
from typing import Any, Final

from thingmint.aws.contract.violations import Violations, broken, violation

Predicate = Callable[[str], object]
"""Truthy for a text that the pattern matches in full."""

# Category Z (separators); a test compares it with unicodedata.
_SEPARATORS: Final = "\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_WITHOUT_SEPARATORS: Final = dict.fromkeys(
    (0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
)
CLASSES: Final = {
    "Graph": "!-~",
    "Upper": "A-Z",
    "Digit": "0-9",
    "Cntrl": r"\x00-\x1f\x7f",
    "Z": _SEPARATORS,
}
TOKEN: Final = re.compile(
    r"""
      (?P<property>\\p\{(?P<name>\w+)\})
    | (?P<escape>\\(?:[wdsSnrt]|x[0-9A-Fa-f]{2}|[^0-9A-Za-z]))
    | (?P<char>[^\\])
    """,
    re.VERBOSE | re.DOTALL,
)
ANY: Final = "[^\\n\\r\x85\u2028\u2029]"
_OPEN_ENDED: Final = re.compile(r"[*+]|\{[0-9]+,\}")
_BRACKETS: Final = re.compile(r"\[(?:\\.|[^\]\\])*\]|\\.")


def compile_pattern(pattern: str) -> Predicate | None:
    """The predicate of a pattern; None if every text matches it."""
    if pattern == r"[\s\S]*":
        return None
    if pattern == r"[^\p{C}]*":
        return _has_no_other
    if pattern == r"[^\p{C}]+":
        return lambda text: bool(text) and _has_no_other(text)
    source, flags = _translate(pattern)
    return re.compile(source, flags).fullmatch


def is_superlinear(pattern: str) -> bool:
    """True if a failing match can take more than linear time: the length of the text then needs a limit."""
    return len(_OPEN_ENDED.findall(_BRACKETS.sub("x", pattern))) > 1


def _has_no_other(text: str) -> bool:
    # str.isprintable() is False for text with characters of categories C and Z (except the space). With all of Z
    # removed, only category C is left to make it False.
    return text.isprintable() or text.translate(_WITHOUT_SEPARATORS).isprintable()


def _translate(pattern: str) -> tuple[str, re.RegexFlag]:
    out: list[str] = []
    flags = re.ASCII
    inside = False
    position = 0
    while position < len(pattern):
        token = TOKEN.match(pattern, position)
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
                raise ValueError(f"set operations are not supported: {pattern}")
            inside = text != "]"
            out.append(text)
        elif text == ".":
            out.append(ANY)
        else:
            following = pattern[position : position + 1]
            if (text == "(" and following == "?") or (text == ")" and following in ("*", "+", "{")):
                raise ValueError(f"group extensions and repeated groups are not supported: {pattern}")
            inside = text == "["
            out.append(text)
    return "".join(out), flags


def _property(name: str, pattern: str, *, inside: bool) -> str:
    if name in ("L", "N"):
        # \p{L}, \p{N} and the underscore together are exactly Python's Unicode \w. Any other use needs 700 ranges.
        letters_numbers = inside and all(part in pattern for part in (r"\p{L}", r"\p{N}", "_"))
        if not letters_numbers or re.search(r"\\[wdsS]", pattern) or pattern.count("[") != 1:
            raise ValueError(f"\\p{{{name}}} alone is not supported: {pattern}")
        return r"\w"
    if name not in CLASSES:
        raise ValueError(f"\\p{{{name}}} is not supported: {pattern}")
    return CLASSES[name] if inside else f"[{CLASSES[name]}]"


Decoder = Callable[[Any], Any]
Shape = Mapping[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")
_ISO_8601: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)
_BITS: Final = {"integer": 31, "long": 63}
_NUMBERS: Final = frozenset({"integer", "long", "float", "double"})
_MOST_NAMED = 12  # values of an enum that an error message lists
SUPERLINEAR_LENGTH = 256  # characters; the service documents no limit for these
_MATCHED_LENGTH = 4096  # characters; of a longer text that is too long, only this is told


def all_rules(shape: Shape) -> str | None:
    """AWS's text for all constraints of an item of a list or a map; None if the item is not a scalar."""
    if shape["type"] in ("structure", "list", "map"):
        return None
    rules = []
    if "enum" in shape:
        rules.append(_enum_rule(shape["enum"]))
    else:
        kind = "value" if shape["type"] in _NUMBERS else "length"
        if "max" in shape:
            rules.append(f"Member must have {kind} less than or equal to {shape['max']}")
        if "max" in shape or "min" in shape:
            rules.append(f"Member must have {kind} greater than or equal to {shape.get('min', 0)}")
        if "pattern" in shape:
            rules.append(f"Member must satisfy regular expression pattern: {shape['pattern']}")
    return ", ".join(rules)


def _enum_rule(values: Sequence[str]) -> str:
    return f"Member must satisfy enum value set: [{', '.join(values)}]"


def scalar_decoder(shape: Shape, *, text: bool) -> Decoder:
    """A decoder of the text of a label, parameter or header if ``text``, of a JSON value otherwise.

    Raises ValueError if the type is not supported.
    """
    kind: str = shape["type"]
    if kind == "string":
        return _enum(shape["enum"]) if "enum" in shape else _string(shape)
    if kind == "boolean":
        return _boolean_text if text else _boolean
    if kind in _BITS:
        return _integer(shape, _BITS[kind], text=text)
    if kind in ("float", "double") and not text:
        return _number(shape)
    if kind == "timestamp":
        return _timestamp_text if text else _timestamp
    if kind == "blob" and not text:
        return _blob(shape)
    raise ValueError(f"the type {kind} is not supported {'outside' if text else 'in'} a body")


def length_bounds(shape: Shape) -> Callable[[int], None]:
    """Checks the length of a string in characters, of a blob in bytes, of a list or map in entries."""
    low, high = shape.get("min", 0), shape.get("max", inf)

    def check(length: int) -> None:
        if length < low:
            raise broken(f"must have length greater than or equal to {low}")
        if length > high:
            raise broken(f"must have length less than or equal to {high}")

    return check


def _string(shape: Shape) -> Decoder:
    pattern: str | None = shape.get("pattern")
    low, high = shape.get("min", 0), shape.get("max", inf)
    if pattern is not None and high == inf and is_superlinear(pattern):
        high = SUPERLINEAR_LENGTH
    is_linear = pattern is not None and not is_superlinear(pattern)
    check_length = length_bounds({"min": low, "max": high})
    matches = None if pattern is None else compile_pattern(pattern)

    def decode(value: object) -> str:
        if type(value) is not str:
            raise violation("must be a string")
        if "\0" in value:  # PostgreSQL cannot store it, and no name or document needs it
            raise violation("must not contain the NUL character")
        if low <= len(value) <= high:
            if matches is None or matches(value):
                return value
            raise broken(f"must satisfy regular expression pattern: {pattern}")
        try:
            check_length(len(value))
        except Violations as wrong_length:
            can_match = len(value) < low or (is_linear and len(value) <= _MATCHED_LENGTH)
            if matches is not None and can_match and not matches(value):
                raise broken(f"must satisfy regular expression pattern: {pattern}").after(wrong_length) from None
            raise
        raise AssertionError("a length out of bounds is refused")

    return decode


def _enum(values: list[str]) -> Decoder:
    allowed = frozenset(values)
    named = f"must be one of {', '.join(values)}" if len(values) <= _MOST_NAMED else "is not an allowed value"
    rule = _enum_rule(values)

    def decode(value: object) -> str:
        if type(value) is not str:
            raise violation("must be a string")
        if value not in allowed:
            raise violation(named, constraint=rule)
        return value

    return decode


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise violation("must be true or false")
    return value


def _boolean_text(value: str) -> bool:
    lower = value.lower()
    if lower not in ("true", "false"):
        raise violation("must be true or false")
    return lower == "true"


def _range(shape: Shape) -> Callable[[float], None]:
    low, high = shape.get("min", -inf), shape.get("max", inf)

    def check(value: float) -> None:
        if value < low:
            raise broken(f"must have value greater than or equal to {low}")
        if value > high:
            raise broken(f"must have value less than or equal to {high}")

    return check


def _integer(shape: Shape, bits: int, *, text: bool) -> Decoder:
    limit = 1 << bits
    check_range = _range({"min": max(shape.get("min", -limit), -limit), "max": min(shape.get("max", limit), limit - 1)})

    def decode(value: object) -> int:
        if type(value) is not int:  # not isinstance(): bool is a subclass of int
            raise violation("must be an integer")
        check_range(value)
        return value

    def decode_text(value: str) -> int:
        if not _INTEGER.fullmatch(value):
            raise violation("must be an integer")
        return decode(int(value))

    return decode_text if text else decode


def _number(shape: Shape) -> Decoder:
    check_range = _range(shape)

    def decode(value: object) -> float:
        if type(value) not in (int, float):
            raise violation("must be a number")
        number = float(value)  # type: ignore[arg-type]
        if not isfinite(number):
            raise violation("must be a finite number")
        check_range(number)
        return number

    return decode


def _timestamp(value: object) -> datetime:
    if type(value) is str:
        return _timestamp_text(value)
    if type(value) is int or type(value) is float:
        return _since_epoch(value)
    raise violation("must be a timestamp in epoch seconds or ISO 8601")


def _timestamp_text(value: str) -> datetime:
    if len(value) <= 40 and _DECIMAL.fullmatch(value):
        return _since_epoch(float(value))
    if not _ISO_8601.fullmatch(value):
        raise violation("must be a timestamp in epoch seconds or ISO 8601")
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise violation("must be a timestamp in epoch seconds or ISO 8601") from None


def _since_epoch(seconds: float) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        raise violation("is out of the range of timestamps") from None


def _blob(shape: Shape) -> Decoder:
    check_length = length_bounds(shape)

    def decode(value: object) -> bytes:
        if type(value) is not str:
            raise violation("must be a base64 string")
        try:
            data = binascii.a2b_base64(value, strict_mode=True)
        except ValueError:  # binascii.Error, and str that is not ASCII
            raise violation("must be a base64 string") from None
        check_length(len(data))
        return data

    return decode
