"""Writes values as text of other languages: JSON, jq, Python, HCL and words of a shell. Each reads back as it was."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_WIDTH: Final = 100
_SURROGATES: Final = range(0xD800, 0xE000)
_BASIC_PLANE: Final = 0xFFFF
_IMPORTS: Final = {
    "FromEnvironment": "import os",
    "Base64": "from base64 import b64decode",
    "FromFile": "from pathlib import Path",
}
# What would begin a template of HCL. Without the first part, each character of a long run would be a beginning.
_TEMPLATE: Final = re.compile(r"(?<![$%])[$%]++(?={)")


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """Stands for a secret: the code reads it from the environment."""

    name: str


@dataclass(frozen=True, slots=True)
class FromFile:
    """Stands for the text of a file."""

    name: str


@dataclass(frozen=True, slots=True)
class Base64:
    """Bytes, as JSON has them."""

    text: str


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a language writes values. ``other`` writes those that are none of JSON's."""

    text: Callable[[str], str]
    other: Callable[[Any], str]
    key: Callable[[str], str]
    true: str = "true"
    false: str = "false"
    null: str = "null"
    relation: str = ": "
    padding: str = ""  # inside of the braces of an object on one line
    ends_with_comma: bool = False
    between: str = ","  # the lines of an object


def written(value: Any, dialect: Dialect, indent: int = 0, width: int = _WIDTH) -> str:
    """The value in one line if it is at most ``width`` long, else indented. ``indent`` is that of its first line."""
    return _written(value, dialect, indent, width, {})


def _written(value: Any, dialect: Dialect, indent: int, width: int, flats: dict[int, str]) -> str:
    """``flats`` has what was written of the members in one line, so that each is written so once."""
    flat = _flat(value, dialect, flats)
    if len(flat) + indent <= width or not isinstance(value, dict | list) or not value:
        return flat
    inner = " " * (indent + (4 if dialect.ends_with_comma else 2))
    if isinstance(value, dict):
        opening, closing, between = "{", "}", dialect.between
        pairs = [(dialect.key(name), _written(each, dialect, len(inner), width, flats)) for name, each in value.items()]
        lines = [
            f"{inner}{name}{dialect.relation}{text}" for name, text in (aligned(pairs) if dialect is HCL else pairs)
        ]
    else:
        opening, closing, between = "[", "]", ","
        lines = [f"{inner}{_written(each, dialect, len(inner), width, flats)}" for each in value]
    last = "," if dialect.ends_with_comma else ""
    return f"{opening}\n" + f"{between}\n".join(lines) + f"{last}\n{' ' * indent}{closing}"


def aligned(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of names and values with their names filled up, as `terraform fmt` aligns lines that follow another."""
    found: list[tuple[str, str]] = []
    for is_long, group in groupby(pairs, lambda pair: "\n" in pair[1]):
        several = list(group)
        width = 0 if is_long else max(len(name) for name, _ in several)
        found += [(f"{name:{width}}", text) for name, text in several]
    return found


def _flat(value: Any, dialect: Dialect, flats: dict[int, str]) -> str:
    if isinstance(value, dict | list):
        if id(value) not in flats:
            flats[id(value)] = _flat_members(value, dialect, flats)
        return flats[id(value)]
    if value is None or isinstance(value, bool):
        return {None: dialect.null, True: dialect.true, False: dialect.false}[value]
    if isinstance(value, str):
        return dialect.text(value)
    if isinstance(value, int | float):
        return json.dumps(value)
    return dialect.other(value)


def _flat_members(value: dict[str, Any] | list[Any], dialect: Dialect, flats: dict[int, str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flat(each, dialect, flats) for each in value)}]"
    each = (f"{dialect.key(name)}{dialect.relation}{_flat(given, dialect, flats)}" for name, given in value.items())
    pairs = ", ".join(each)
    return f"{{{dialect.padding}{pairs}{dialect.padding}}}" if pairs else "{}"


def _json_text(text: str) -> str:
    """A JSON string. Characters that a page would not show, or a browser change, are escaped."""
    written = json.dumps(text, ensure_ascii=False)
    return written if written.isprintable() else "".join(map(_json_character, written))


def _json_character(character: str) -> str:
    if character.isprintable():
        return character
    return json.dumps(character)[1:-1]


def _in_json(value: Any) -> str:
    if isinstance(value, Base64):
        return _json_text(value.text)
    raise TypeError("JSON cannot read files or the environment")


def _in_jq(value: Any) -> str:
    if isinstance(value, FromEnvironment):
        return f"env.{value.name}"
    if isinstance(value, FromFile):
        return f"${jq_variable(value.name)}"
    return _in_json(value)


def jq_variable(file: str) -> str:
    return re.sub(r"\W", "_", file.partition(".")[0])


def _in_python(value: Any) -> str:
    if isinstance(value, FromEnvironment):
        return f"os.environ[{python_text(value.name)}]"
    if isinstance(value, FromFile):
        return f"Path({python_text(value.name)}).read_text()"
    if isinstance(value, Base64):
        return f"b64decode({python_text(value.text)})"
    raise TypeError(f"Python code cannot have a {type(value).__name__}")


def python_text(text: str) -> str:
    """A Python string, in double quotes unless it has such. Characters that are not printable are escaped."""
    quote = "'" if '"' in text and "'" not in text else '"'
    if text.isprintable():
        return f"{quote}{text.replace(chr(92), chr(92) * 2).replace(quote, chr(92) + quote)}{quote}"
    return f"{quote}{''.join(_python_character(each, quote) for each in text)}{quote}"


def _python_character(character: str, quote: str) -> str:
    if character in (quote, "\\"):
        return f"\\{character}"
    return character if character.isprintable() else repr(character)[1:-1]


def _hcl_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not text.isprintable():
        escaped = "".join(map(_hcl_character, text))
    return f'"{_TEMPLATE.sub(_without_template, escaped)}"'


def _hcl_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    if ord(character) in _SURROGATES:
        character = "\ufffd"
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    code = ord(character)
    return short or (f"\\u{code:04x}" if code <= _BASIC_PLANE else f"\\U{code:08x}")


def _without_template(match: re.Match[str]) -> str:
    """``${`` begins an expression; ``$${`` is that text. Of longer runs HCL's reading differs, so they are escaped."""
    run = match[0]
    return run * 2 if len(run) == 1 else "".join(f"\\u{ord(each):04x}" for each in run)


def _hcl_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) and name not in _HCL_WORDS else _hcl_text(name)


def _in_hcl(value: Any) -> str:
    if isinstance(value, FromEnvironment):
        return f"var.{value.name.lower()}"
    if isinstance(value, FromFile):
        return f"file({_hcl_text(value.name)})"
    if isinstance(value, Base64):
        return _hcl_text(value.text)
    if isinstance(value, AsJson):
        return f"jsonencode({written(value.value, HCL, 2)})"
    raise TypeError(f"HCL cannot have a {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class AsJson:
    """A text of HCL that is the JSON of a value."""

    value: Any


_HCL_WORDS: Final = frozenset({"true", "false", "null", "for", "if"})

JSON: Final = Dialect(_json_text, _in_json, _json_text)
JQ: Final = Dialect(_json_text, _in_jq, _json_text)
PYTHON: Final = Dialect(python_text, _in_python, python_text, "True", "False", "None", ends_with_comma=True)
HCL: Final = Dialect(_hcl_text, _in_hcl, _hcl_key, relation=" = ", padding=" ", between="")


def shell_word(text: str) -> str:
    """One word of a shell's command. A text with control characters is written as bash and zsh read it."""
    if text.replace("\n", "").isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_shell_character, text)) + "'"


def _shell_character(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    if ord(character) in _SURROGATES:
        character = "\ufffd"  # no program can be given it
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def shell_option(option: str, value: str) -> str:
    """An option with its value. With an equals sign if the value would be read as an option itself."""
    return f"{option}{'=' if value.startswith('-') else ' '}{shell_word(value)}"


def can_be_argument(text: str) -> bool:
    return "\0" not in text


def shell_command(words: Sequence[str], before: str | None = None) -> str:
    """A command of words that are quoted already, on one line if it is short. An option stands beside its value.

    The command ``before`` writes what this one reads.
    """
    pipe, indent = ("", 2) if before is None else (f"{before} |\n  ", 4)
    line = " ".join(words)
    if len(line) <= _WIDTH and "\n" not in line:
        return pipe + line
    return pipe + f" \\\n{' ' * indent}".join(words)


def reads_from(value: Any) -> set[str]:
    """The names of the classes of what stands for secrets, files and bytes in a value."""
    return {type(each).__name__ for each in leaves(value)} & {"FromEnvironment", "FromFile", "Base64"}


def leaves(value: Any) -> Iterable[Any]:
    """The values in lists and objects."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def json_command(value: Any) -> tuple[str | None, str]:
    """A command that prints the JSON of a value with secrets and files, or None, and else the JSON as a word."""
    if not {"FromEnvironment", "FromFile"} & reads_from(value):
        return None, shell_word(written(value, JSON))
    files = dict.fromkeys(each.name for each in leaves(value) if isinstance(each, FromFile))
    words = ["jq --null-input", *(f"--rawfile {jq_variable(name)} {shell_word(name)}" for name in files)]
    return shell_command([*words, shell_word(written(value, JQ))]), ""


def python_call(function: str, arguments: Mapping[str, Any], positional: Sequence[str] = ()) -> str:
    """A call with keyword arguments. ``positional`` are written already."""
    pairs = [*positional, *(f"{name}={written(each, PYTHON, 0, _WIDTH)}" for name, each in arguments.items())]
    line = f"{function}({', '.join(pairs)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    inner = [*positional, *(f"{name}={written(each, PYTHON, 4)}" for name, each in arguments.items())]
    return f"{function}(\n" + "".join(f"    {each},\n" for each in inner) + ")"


def python_imports(values: Any) -> list[str]:
    """The lines that import what the values are read with."""
    needed = reads_from(values)
    return [line for name, line in _IMPORTS.items() if name in needed]
