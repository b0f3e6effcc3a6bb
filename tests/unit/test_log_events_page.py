"""docs/log-events.md has each event that the code logs, with its level and its fields, and no other."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.documents import names_in, page, sections, tables

SOURCE = Path(__file__).resolve().parents[2] / "src" / "thingmint"
SECTIONS = sections(page("log-events"))
ROWS = [row for text in SECTIONS.values() for table in tables(text) for row in table if "event" in row]

_LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error", "critical": "error"}
# Methods that log what they are given, with their level and their own fields (mqtt/connection_log.py says which).
_DEVICE = {"account", "certificate", "client"}
_HELPERS = {
    "note": ("info", {"source", "reason", "more"}),
    "_warn": ("warning", {"topic", "client_id", *_DEVICE}),
    "_refuse": ("info", {"source", "reason", "more"}),
}
_EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass
class Event:
    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    open: bool = False  # a call has fields that only a running server knows


def logged() -> dict[str, Event]:
    found: dict[str, Event] = defaultdict(Event)
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=func, args=[ast.Constant(value=str() as name), *_]) if _EVENT.fullmatch(name):
                    _add(found, func, name, node.keywords)
    return found


def _add(found: dict[str, Event], func: ast.expr, name: str, keywords: list[ast.keyword]) -> None:
    called = ast.unparse(func)
    owner, _, method = called.rpartition(".")
    if method in _LEVELS and owner.lower().endswith(("log", "logger")):
        levels = {_LEVELS[method]}
    elif called == "log":  # a name for one of two methods, by how the request ended
        levels = {"info", "warning"}
    elif method in _HELPERS and (method != "note" or owner.endswith("refusals")) and "_" in name:
        level, fields = _HELPERS[method]
        levels = {level}
        found[name].fields |= fields
    else:
        return
    event = found[name]
    event.levels |= levels
    event.fields |= {keyword.arg for keyword in keywords if keyword.arg not in (None, "exc_info")}
    event.open |= any(keyword.arg is None for keyword in keywords)


def test_each_event_is_on_the_page_and_no_other() -> None:
    assert sorted(names_in(row["event"])[0] for row in ROWS) == sorted(logged())


def test_levels() -> None:
    found = {name: event.levels for name, event in logged().items()}
    assert {names_in(row["event"])[0]: set(row["level"].split(", ")) for row in ROWS} == found
    assert {names_in(row["level"])[0] for row in tables(SECTIONS["Levels"])[0]} == set(_LEVELS.values())


def test_fields() -> None:
    events = logged()
    for row in ROWS:
        event, documented = events[names_in(row["event"])[0]], set(names_in(row["fields"]))
        assert documented >= event.fields, row["event"]
        assert event.open or documented - {"total"} == event.fields, row["event"]


def test_fields_of_requests() -> None:
    [row] = [row for row in ROWS if row["event"] == "`request`"]
    assert [names_in(each["field"])[0] for each in tables(SECTIONS["Fields of request"])[0]] == names_in(row["fields"])


def test_the_example_is_json_with_documented_events() -> None:
    lines = page("log-events").partition("```text\n")[2].partition("```")[0].splitlines()
    known = {names_in(row["event"])[0]: names_in(row["fields"]) for row in ROWS}
    for line in map(json.loads, lines):
        fields = set(line) - {"event", "level", "timestamp"}
        assert fields >= set(known[line["event"]])
        assert fields == set(known[line["event"]]) or line["event"] == "ready"


def test_each_row_says_when_and_what_to_do() -> None:
    assert all(row["when"] and row["what to do"] for row in ROWS)
