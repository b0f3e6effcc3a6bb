"""docs/metrics.md has the metrics of a running server: name, type, labels and meaning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.documents import names_in, page, plain, sections, tables

if TYPE_CHECKING:
    from thingmint.testing import RunningServer

SECTIONS = sections(page("metrics"))
LABELS = {names_in(row["label"])[0] for row in tables(SECTIONS["Labels"])[0]}
ROWS = [row for title, text in SECTIONS.items() if title != "Labels" for table in tables(text) for row in table]


def documented(row: dict[str, str]) -> tuple[str, str, frozenset[str]]:
    """Name, type and labels."""
    [name] = re.findall(r"^`(\w+)(?:\{.*\})?`$", row["metric"])
    return name, row["type"], frozenset(re.findall(r"\w+", row["metric"].partition("{")[2]))


def test_the_page_has_what_the_server_exposes(server: RunningServer) -> None:
    httpx.get(f"{server.http_url}/healthz")  # so that requests are counted
    exposed, meanings = {}, {}
    for family in text_string_to_metric_families(httpx.get(f"{server.http_url}/metrics").text):
        if family.name.startswith("thingmint_") and not family.name.endswith("_created"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
            exposed[name] = (family.type, labels)
            meanings[name] = family.documentation
    # A counter with labels has no sample before it first counts.
    exposed["thingmint_connections_refused_total"] = ("counter", frozenset({"listener", "reason"}))
    exposed["thingmint_hook_calls_total"] = ("counter", frozenset({"function", "use", "outcome"}))
    exposed["thingmint_hook_calls_running"] = ("gauge", frozenset({"function"}))
    found = {name: (type, labels) for name, type, labels in map(documented, ROWS)}
    assert found == exposed
    for row in ROWS:
        assert plain(row["meaning"]).startswith(meanings[documented(row)[0]]), row["metric"]


def test_each_label_is_explained() -> None:
    assert {label for row in ROWS for label in documented(row)[2]} == LABELS


def test_each_metric_has_a_unit() -> None:
    assert all(row["unit"] for row in ROWS)
