"""The ``yandex.cloud`` field options, compiled once into functions that check a request message.

Every rule applies to empty values too: the contract's patterns have an empty alternative where an empty value is
allowed. Only the members of a oneof that are not set are skipped. ``length`` counts the characters of a string and the
bytes of a bytes field.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from thingmint.domain.errors import DomainError
from thingmint.yandex.contract.descriptors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.descriptor import Descriptor, OneofDescriptor

    from thingmint.yandex.contract.descriptors import Descriptors


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """``field`` is a path of proto field names; a map's keys and values are ``labels.key`` and ``labels.value``."""

    field: str
    description: str


class InvalidRequest(DomainError):
    """A request breaks rules of the contract; ``violations`` has all of them."""

    def __init__(self, violations: Iterable[FieldViolation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in self.violations))


Validator: TypeAlias = Callable[[Any], list[FieldViolation]]
_Test: TypeAlias = Callable[[Any], bool]
_Rule: TypeAlias = tuple[_Test, FieldViolation]
_Check: TypeAlias = Callable[[Any, list[FieldViolation]], None]

# The contract describes a fingerprint as a SHA-256, which has 64 hexadecimal digits, but limits it to 50 characters.
_RELAXED_LENGTH = {("fingerprint", "<=50"): "<=64"}

_INTEGERS = {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64}
_SIZED = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
_COMPARISON = re.compile(r"(<=|>=|<|>)(-?\d+)")
_RANGE = re.compile(r"(-?\d+)-(-?\d+)")
_NUMBER = re.compile(r"-?\d+")


def bounds(spec: str) -> tuple[int | None, int | None]:
    """The least and the greatest number that ``compile_bounds(spec)`` accepts, None if there is no limit."""
    if match := _COMPARISON.fullmatch(spec):
        operator, limit = match[1], int(match[2])
        if operator[0] == "<":
            return None, limit if operator == "<=" else limit - 1
        return limit if operator == ">=" else limit + 1, None
    numbers = [
        int(number)
        for part in spec.split(",")
        if (match := _RANGE.fullmatch(part) or _NUMBER.fullmatch(part))
        for number in (match.groups() or (match[0],))
    ]
    return min(numbers), max(numbers)


def length_of(field: str, spec: str) -> str:
    """The limits of a field's length that apply, of those that the contract names."""
    return _RELAXED_LENGTH.get((field, spec), spec)


def compile_bounds(spec: str) -> Callable[[int], bool]:
    """A test for ``<=N``, ``>=N``, ``<N``, ``>N``, ``A-B`` (inclusive), ``N``, or a list of the last two.

    Raises ContractError.
    """
    if match := _COMPARISON.fullmatch(spec):
        operator, limit = match[1], int(match[2])
        if operator == "<=":
            return lambda n: n <= limit
        if operator == ">=":
            return lambda n: n >= limit
        if operator == "<":
            return lambda n: n < limit
        return lambda n: n > limit
    ranges: list[tuple[int, int]] = []
    for part in spec.split(","):
        if match := _RANGE.fullmatch(part):
            ranges.append((int(match[1]), int(match[2])))
        elif _NUMBER.fullmatch(part):
            ranges.append((int(part), int(part)))
        else:
            raise ContractError(f"cannot read the bounds {spec}")
    if len(ranges) == 1:
        low, high = ranges[0]
        return lambda n: low <= n <= high
    return lambda n: any(low <= n <= high for low, high in ranges)


def compile_validator(descriptors: Descriptors, message: Descriptor) -> Validator:
    """A function that lists the violations in a message of this type. Raises ContractError for an unsupported rule."""
    checks = _checks(descriptors, message, "", (message.full_name,))

    def validate(request: Any) -> list[FieldViolation]:
        violations: list[FieldViolation] = []
        for check in checks:
            check(request, violations)
        return violations

    return validate


def _checks(descriptors: Descriptors, message: Descriptor, prefix: str, within: tuple[str, ...]) -> tuple[_Check, ...]:
    checks = [_field_check(descriptors, field, prefix, within) for field in message.fields]
    checks += [_oneof_check(descriptors, oneof, prefix) for oneof in message.oneofs]
    return tuple(check for check in checks if check is not None)


def _oneof_check(descriptors: Descriptors, oneof: OneofDescriptor, prefix: str) -> _Check | None:
    if not descriptors.option(oneof, "yandex.cloud.exactly_one"):
        return None
    name = oneof.name
    members = ", ".join(field.name for field in oneof.fields)
    violation = FieldViolation(prefix + name, f"Exactly one of the fields must be specified: {members}")

    def check(message: Any, violations: list[FieldViolation]) -> None:
        if message.WhichOneof(name) is None:
            violations.append(violation)

    return check


def _field_check(
    descriptors: Descriptors, field: FieldDescriptor, prefix: str, within: tuple[str, ...]
) -> _Check | None:
    path = prefix + field.name
    required = FieldViolation(path, "Field is required") if descriptors.option(field, "yandex.cloud.required") else None
    for unsupported in ("unique", "bytes"):
        if descriptors.option(field, f"yandex.cloud.{unsupported}") is not None:
            raise ContractError(f"no rule for {unsupported} of {field.full_name}")
    if field.message_type is not None and not descriptors.is_map(field):
        return _message_check(descriptors, field, path, required, within)
    sizes = _size_rules(descriptors, field, path)
    rules: list[_Rule] = []
    if descriptors.is_map(field):
        rules = _map_rules(descriptors, field, path)
    elif field.is_repeated:
        if _value_rules(descriptors, field, field, path):
            raise ContractError(f"no rule for the elements of {field.full_name}")
    else:
        rules = _value_rules(descriptors, field, field, path)
        if sizes:
            raise ContractError(f"{field.full_name} has a size but is not repeated")
    if required is None and not sizes and not rules:
        return None
    return _scalar_check(field, required, sizes, rules)


def _scalar_check(
    field: FieldDescriptor, required: FieldViolation | None, sizes: Sequence[_Rule], rules: Sequence[_Rule]
) -> _Check:
    """A check of the rules. ``rules`` are checked only within ``sizes``: on a map they take time for each entry."""
    get = attrgetter(field.name)
    optional_member = field.name if field.containing_oneof is not None else None

    def check(message: Any, violations: list[FieldViolation]) -> None:
        value = get(message)
        if required is not None and not value:
            violations.append(required)
            return
        if optional_member is not None and not message.HasField(optional_member):
            return
        broken = [violation for holds, violation in sizes if not holds(value)]
        violations += broken or [violation for holds, violation in rules if not holds(value)]

    return check


def _message_check(
    descriptors: Descriptors,
    field: FieldDescriptor,
    path: str,
    required: FieldViolation | None,
    within: tuple[str, ...],
) -> _Check | None:
    message = field.message_type
    assert message is not None
    if message.full_name in within:
        raise ContractError(f"no rule for the recursive {field.full_name}")
    inner: tuple[_Check, ...] = ()
    if message.file.package != "google.protobuf":
        inner = _checks(descriptors, message, f"{path}.", (*within, message.full_name))
    sizes = _size_rules(descriptors, field, path)
    if (field.is_repeated and inner) or (sizes and not field.is_repeated):
        raise ContractError(f"no rule for the options in or on {field.full_name}")
    if required is None and not inner and not sizes:
        return None
    if field.is_repeated:
        return _scalar_check(field, required, sizes, ())
    name = field.name

    def check(parent: Any, violations: list[FieldViolation]) -> None:
        if parent.HasField(name):
            value = getattr(parent, name)
            for each in inner:
                each(value, violations)
        elif required is not None:
            violations.append(required)

    return check


def _map_rules(descriptors: Descriptors, field: FieldDescriptor, path: str) -> list[_Rule]:
    """The rules of a map with string keys. ``pattern``, ``length`` and ``value`` of the field apply to its values."""
    assert field.message_type is not None
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    rules: list[_Rule] = []
    spec = descriptors.option(field, "yandex.cloud.map_key")
    if spec is not None:
        if key.type != FieldDescriptor.TYPE_STRING or spec.value:
            raise ContractError(f"no rule for the keys of {field.full_name}")
        key_rules = [
            *([_pattern_rule(spec.pattern, f"{path}.key")] if spec.pattern else ()),
            *([_length_rule(spec.length, f"{path}.key")] if spec.length else ()),
        ]
        rules += [(_every_key(holds), violation) for holds, violation in key_rules]
    rules += [
        (_every_value(holds), violation)
        for holds, violation in _value_rules(descriptors, field, value, f"{path}.value")
    ]
    return rules


def _every_key(holds: _Test) -> _Test:
    return lambda mapping: all(map(holds, mapping))


def _every_value(holds: _Test) -> _Test:
    return lambda mapping: all(map(holds, mapping.values()))


def _size_rules(descriptors: Descriptors, field: FieldDescriptor, path: str) -> list[_Rule]:
    spec = descriptors.option(field, "yandex.cloud.size")
    if spec is None:
        return []
    within = compile_bounds(spec)
    return [(lambda items: within(len(items)), FieldViolation(path, f"Field size must be {spec}"))]


def _value_rules(descriptors: Descriptors, declared: FieldDescriptor, field: FieldDescriptor, path: str) -> list[_Rule]:
    """The rules that ``declared`` has for a value of ``field``: the same field, or the value field of its map entry."""
    rules: list[_Rule] = []
    if field.enum_type is not None:
        names = {value.number: value.name for value in field.enum_type.values}  # gRPC lets other numbers pass
        rules.append((names.__contains__, FieldViolation(path, f"must be one of {', '.join(names.values())}")))
    pattern = descriptors.option(declared, "yandex.cloud.pattern")
    if pattern is not None:
        if field.type != FieldDescriptor.TYPE_STRING:
            raise ContractError(f"{declared.full_name} has a pattern but is no string")
        rules.append(_pattern_rule(pattern, path))
    length = descriptors.option(declared, "yandex.cloud.length")
    if length is not None:
        if field.type not in _SIZED:
            raise ContractError(f"{declared.full_name} has a length but is neither string nor bytes")
        rules.append(_length_rule(length_of(declared.name, length), path))
    value = descriptors.option(declared, "yandex.cloud.value")
    if value is not None:
        if field.type not in _INTEGERS:
            raise ContractError(f"{declared.full_name} has a value range but is no integer")
        rules.append((compile_bounds(value), FieldViolation(path, f"Field value must be {value}")))
    return rules


def _pattern_rule(pattern: str, path: str) -> _Rule:
    matches = re.compile(pattern).fullmatch
    return (
        lambda value: matches(value) is not None,
        FieldViolation(path, f"Field does not match the pattern /{pattern}/"),
    )


def _length_rule(spec: str, path: str) -> _Rule:
    within = compile_bounds(spec)
    return (lambda value: within(len(value)), FieldViolation(path, f"Field length must be {spec}"))
