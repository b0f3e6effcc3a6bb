"""What is wrong with an operation's input: where, and in which words of this server and of AWS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from thingmint.domain.errors import Invalid

_MOST_TOLD: Final = 20
"""AWS tells all violations. A body could have thousands."""


class Part(NamedTuple):
    """A step of the path to a value: as this server writes it, such as ``.Key`` and ``[0]``, and as AWS does."""

    ours: str
    awss: str


def member_part(wire: str, member: str) -> Part:
    """AWS begins the names of members in lower case, and takes those of its model."""
    return Part(f".{wire}", f".{member[:1].lower()}{member[1:]}")


@dataclass(slots=True)
class Violation:
    """``path`` grows from the inside out. AWS's path leaves out the last ``hidden`` steps.

    ``constraint`` is AWS's sentence for a constraint of the model; None for input that is not of the shape's type.
    """

    reason: str
    path: list[Part]
    constraint: str | None = None
    hidden: int = 0

    @property
    def field(self) -> str:
        return "".join(part.ours for part in reversed(self.path)).removeprefix(".")

    @property
    def text(self) -> str:
        """AWS also quotes the value, which an answer of this server never does."""
        place = "".join(part.awss for part in reversed(self.path[self.hidden :])).removeprefix(".")
        return f"Value at '{place}' failed to satisfy constraint: {self.constraint}"


class Violations(Exception):
    """A value violates constraints of its shape: all that ``found`` has; or its type is wrong: then that is told alone.

    AWS reads the input before it checks constraints, so a wrong type anywhere hides all violations.
    """

    def __init__(self, *found: Violation) -> None:
        super().__init__(found[0].reason)
        self.found = list(found)

    @property
    def field(self) -> str:
        return self.found[0].field

    @property
    def reason(self) -> str:
        return self.found[0].reason

    def within(self, part: Part, before: Violations | None) -> Violations:
        """Add the step ``part`` to all paths, then do as ``after`` does."""
        for each in self.found:
            each.path.append(part)
        return self.after(before)

    def after(self, before: Violations | None) -> Violations:
        """Return these violations together with those ``before``. Raises itself for a wrong type, or at the limit."""
        if self.found[0].constraint is None or before is None:
            together = self
        else:
            together = before
            known = {each.text for each in before.found}  # many items of a list can violate one rule of it
            before.found += [each for each in self.found if each.text not in known]
        if together.found[0].constraint is None or len(together.found) >= _MOST_TOLD:
            raise together
        return together

    def of_container(self, noun: str, rules: str | None) -> Violations:
        """Return the violations of an item of a list or a map. AWS names the list or map for a scalar, and all rules.

        ``rules`` is None for an item that is not a scalar.
        """
        if rules is not None and self.found[0].constraint is not None:
            return violation(self.reason, constraint=f"{noun} must satisfy constraint: [{rules}]", hidden=1)
        return self

    def error(self) -> Invalid:
        if self.found[0].constraint is None:
            return Invalid(self.field, self.reason)
        return ConstraintsViolated(self.field, self.reason, [each.text for each in self.found[:_MOST_TOLD]])


class ConstraintsViolated(Invalid):
    """Constraints of the model are violated. The text is AWS's; field and reason are those of the first."""

    def __init__(self, field: str, reason: str, texts: list[str]) -> None:
        super().__init__(field, reason)
        count = f"{len(texts)} validation error{'s' if len(texts) > 1 else ''} detected"
        self._text = f"{count}: {'; '.join(texts)}"

    def __str__(self) -> str:
        return self._text


def violation(reason: str, *path: Part, constraint: str | None = None, hidden: int = 0) -> Violations:
    return Violations(Violation(reason, list(path), constraint, hidden))


def missing(*path: Part) -> Violations:
    return violation("is required", *path, constraint="Member must not be null")


def broken(rule: str) -> Violations:
    """The violation of a rule that AWS words as this server does, such as ``must have value …``."""
    return violation(rule, constraint=f"Member {rule}")
