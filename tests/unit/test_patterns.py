"""The regular expressions of the source: each one that can take more than linear time was examined."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import thingmint
from thingmint.aws.contract.scalars import is_superlinear

# Used with match and fullmatch only. Each repetition ends at a character that it excludes, so nothing is read again.
_MATCHED = {
    "access.iam._AUDIENCE",
    "aws.authorization._ARN",
    "console.certificate_filters._COMMON_NAME",
    "console.hosts._HOST",
    "domain.arns._ROLE_ARN",
    "domain.linting.policies._PART",
    "domain.linting.policy_sentences._OWN",
    "domain.linting.templates._STEP",
    "domain.names._REGION",
    "domain.pem._HEADERS",
    "domain.policies.device_keys.KNOWN_KEYS",
    "domain.search_conditions._NUMBER",
    "importing.kinds.aws_definitions._ROLE",
    "services.device_policies._TARGET",
    "services.functions._FUNCTION",
    "services.hooks._ARN",
    "services.password_hashing._ARGON2ID",
    "settings.console._SCOPE",
    "yandex.contract.json_mapping._BASE64",
    "yandex.contract.json_mapping._MASK_PATH",
    "yandex.contract.transcoding._SEGMENT",
    "yandex.contract.transcoding._TEMPLATE_SEGMENT",
    "yandex.contract.validation._RANGE",
}
# Searched for in input. What an unsuccessful attempt has read contains no start of another attempt, or has a limit.
_SEARCHED = {
    "console.pages.certificate._COMMON_NAME",
    "console.playground.writing._TEMPLATE",  # begins at the first character of a run only
    "console.playground.given._MEMBER",  # begins at words only
    "console.playground.secrets._PRIVATE_PEM",
    "console.rendering._LONG_ID",  # begins at words only
    "console.sentences._WORD",  # each word matches
    "domain.linting.positions._TOKEN",  # in JSON: each string has its end
    "domain.pem._BOUNDARY",  # in 65 characters
    "domain.pem._PRIVATE_KEY",
    "domain.templates.policy_documents._MARKED",
    "importing.kinds.aws_definitions._OF_IOT",
    "services.refusals._VARIABLE",
    "store.plain_parameters._NUMBERED",
    "yandex.contract.json_mapping._INDENTATION",
}
# These read what the server itself, its documentation, the contracts or the operator wrote.
_OWN = {
    "aws.contract.scalars._BRACKETS",
    "aws.contract.scalars._OPEN_ENDED",
    "aws.openapi._LINK",
    "console.assets._URL",
    "console.events._WORD",
    "console.playground.openapi_reading._CODE",
    "console.sentences._CLASS",
    "console.playground.schemas._DURATION",
    "domain.server_certificates._PRIVATE_KEY",
    "http.openapi._WORD",
    "store.queries._COMMENT",
    "store.queries._HEADER",
}

_INLINE = {
    (r"\\[a-zA-Z]|\(\?|\.(?![^[]*\])", "yandex/openapi.py"),
    (r"^([A-Z_0-9]+)=.*$", "instance/clients.py"),
    (r"\d+[a-z]+", "cli/asking.py"),
    (r"\$(\d+)", "store/sqlite_transaction.py"),
    (r"--[^\n]*", "store/migrate.py"),
    (r"{(\w+)}", "native/openapi.py"),
    (r"^Statement(\[\d+\])?\.", "domain/linting/policies.py"),
}
"""Given to functions of ``re``. They read what the server or the operator wrote."""


def test_patterns_that_can_take_more_than_linear_time_were_examined() -> None:
    """Two repetitions can share a text in many ways. A search begins again at each character of the text."""
    found = set()
    for module in pkgutil.walk_packages(thingmint.__path__, "thingmint."):
        if module.name.endswith("__main__"):
            continue
        loaded = import_module(module.name)
        source = inspect.getsource(loaded) if loaded.__file__ and loaded.__file__.endswith(".py") else ""
        for name, value in vars(loaded).items():
            if not isinstance(value, re.Pattern) or not re.search(rf"^{name}\b.* = ", source, re.MULTILINE):
                continue
            pattern = value.pattern if isinstance(value.pattern, str) else value.pattern.decode("latin-1")
            is_searched = re.search(rf"\b{name}\.(search|findall|finditer|subn?|split)\b", source) is not None
            if is_superlinear(f"x*{pattern}" if is_searched else pattern):
                found.add(f"{module.name.removeprefix('thingmint.')}.{name}")
    known = _MATCHED | _SEARCHED | _OWN
    assert found - known == set(), "can these take more than linear time? If not, name them in a list above"
    assert known - found == set(), "these are in a list above, and no more in the source"


def test_patterns_inside_of_functions_were_examined() -> None:
    found, source = set(), Path(thingmint.__file__).parent
    for file in source.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            match call:
                case ast.Call(ast.Attribute(ast.Name("re"), name), [ast.Constant(str(pattern)), *_]):
                    is_searched = name in ("search", "findall", "finditer", "sub", "subn", "split")
                    if name != "compile" and is_superlinear(f"x*{pattern}" if is_searched else pattern):
                        found.add((pattern, str(file.relative_to(source))))
    assert found == _INLINE
