"""Reads a template's body as JSON, and limits its size and depth."""

from __future__ import annotations

import math
import re
from typing import Any

from thingmint.domain import strict_json
from thingmint.domain.errors import InvalidTemplate

MAX_LENGTH = 10_240  # characters; TemplateBody in AWS IoT's service model
_MAX_DEPTH = 32
_MAX_NAME = 256
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_SHOWABLE = re.compile(r"[A-Za-z0-9_:.-]{1,64}", re.ASCII)


def load_document(text: str) -> dict[str, Any]:
    """Return the JSON object in ``text``. Raises InvalidTemplate."""
    if len(text) > MAX_LENGTH:
        raise InvalidTemplate(f"It must have at most {MAX_LENGTH} characters")
    try:
        document = strict_json.load(text)
    except strict_json.RepeatedName:
        raise InvalidTemplate("It has an element twice in one object") from None
    except ValueError:
        raise InvalidTemplate("It is not JSON") from None
    if not isinstance(document, dict):
        raise InvalidTemplate("It must be a JSON object")
    _check_values(document)
    return document


def is_storable(text: str) -> bool:
    """True if every store and every protocol accepts ``text``. JSON can escape NUL and halves of surrogate pairs."""
    return _UNSTORABLE.search(text) is None


def inside(path: str, key: str) -> str:
    """Return the path of an element. A key with other than simple characters is shown as *: it is the caller's text."""
    return f"{path}.{key if _SHOWABLE.fullmatch(key) else '*'}"


def entries(given: object, path: str) -> dict[str, Any]:
    """Return ``given`` if it is an object whose keys are names. Raises InvalidTemplate."""
    if not isinstance(given, dict):
        raise InvalidTemplate(f"{path} must be an object")
    for key in given:
        name_of(key, path)
    return given


def name_of(given: object, path: str) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= _MAX_NAME or not given.isprintable():
        raise InvalidTemplate(f"{path} must name things in printable text of 1 to {_MAX_NAME} characters")
    return given


def _check_values(document: dict[str, Any]) -> None:
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        items: list[Any] = []
        for container in level:
            items.extend(container if isinstance(container, list) else (*container, *container.values()))
        if not all(map(_is_usable, items)):
            raise InvalidTemplate("It has a character or a number that cannot be stored")
        level = [item for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise InvalidTemplate("It is nested too deeply")


def _is_usable(value: object) -> bool:
    if isinstance(value, str):
        return is_storable(value)
    return not isinstance(value, float) or math.isfinite(value)  # 1e999 reads as infinity
