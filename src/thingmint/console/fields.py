"""The fields of a query or a form."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Collection

_MAX_FIELDS = 1000
_MAX_VALUE = 65_536  # characters


class Fields:
    """Fields in the order in which the browser sent them."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    @classmethod
    def parse(cls, content: bytes) -> Fields:
        """Raises Invalid."""
        try:
            pairs = parse_qsl(
                content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
            )
        except ValueError:
            raise Invalid("form", f"must be percent-encoded UTF-8, of at most {_MAX_FIELDS} fields") from None
        for name, value in pairs:
            if "\0" in value or "\0" in name or len(value) > _MAX_VALUE:
                raise Invalid("form", f"must have no zero byte, and values of at most {_MAX_VALUE} characters")
        return cls(pairs)

    def text(self, name: str, most: int = 256) -> str:
        """The first value without white space around it; empty if there is none. Raises Invalid if it is too long."""
        value = next((value for known, value in self.pairs if known == name), "").strip()
        if len(value) > most:
            raise Invalid(name, f"must have at most {most} characters")
        return value

    def exact(self, name: str) -> str:
        """The first value as it was sent, with its white space. Raises Invalid if there is none."""
        value = next(iter(self.all(name)), "")
        if not value:
            raise Invalid(name, "is missing")
        return value

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.pairs if known == name]

    def choice(self, name: str, choices: Collection[str], default: str = "") -> str:
        """One of the choices, or the default if the field is missing or empty. Raises Invalid for another value."""
        value = self.text(name) or default
        if value != default and value not in choices:
            raise Invalid(name, f"must be one of {', '.join(filter(None, choices))}")
        return value

    def number(self, name: str) -> int | None:
        """A number of digits, also with thousands separators; None if the field is missing. Raises Invalid."""
        value = self.text(name, most=32).replace(",", "").replace("\N{NO-BREAK SPACE}", "").replace(" ", "")
        if not value:
            return None
        if not (value.isascii() and value.isdigit()):
            raise Invalid(name, "must be a number")
        return int(value)
