"""Writes the results: as a table, as docs/benchmarks.md and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.figures import Budget, Cost, Figure
    from benchmarks.profiles import Profile

__all__ = ["as_json", "as_markdown", "as_tables", "disturbance"]

_HEAD = ("what", "measured", "budget", "", "server CPU", "per server core", "client CPU", "p50 / p99", "elsewhere")

_DISTURBED = 0.1
_SHOWN = (0, 1, 2, 3, 4, 8)  # the columns shown on a terminal

_INTRODUCTION = """\
# Benchmarks

`make bench` writes this page; do not edit it. Repeat it on a machine that does nothing else.
`.venv/bin/python scripts/bench.py --help` says how to measure less.

The server is a separate process, started with `--log-format=json`. One client process sends it requests over loopback,
on the same cores. Authentication, authorization, the audit log and the request log are on.

- The requests of the AWS API are made and signed by boto3 before the measurement. DescribeCertificate asks for 64
  certificates in turn.
- The requests of the Yandex API have an IAM token. Each AddCertificate has a new self-signed certificate, ten for each
  device. Get asks for 64 devices in turn. Each client has its own connection, over gRPC and over HTTPS.
- MQTT devices connect to a separate server and, for comparison, to Mosquitto. Both write their usual logs. One process
  acts as all devices. Each device has its own P-256 certificate and uses TLS 1.3 without resumption. Devices that
  connect wait for CONNACK and disconnect, 32 at a time. Devices that publish send 100 bytes at QoS 1 and wait for the
  answer. The two servers are measured in turns, and the ratio is the median of the turns.
- Devices of Yandex IoT Core connect to a separate server too, and are compared with AWS devices on the same server, in
  turns. Each has a certificate, an alias and a password. Thingmint generated most of the passwords; the others were
  chosen by a person, so the first connection of each of these devices costs one Argon2id hash. The server remembers a
  correct password for ten minutes, and the connections after the first one cost no hash. A message that one subscriber
  receives counts when it is acknowledged to the device and received by the subscriber: the registry, or one AWS device
  with a wildcard. A message to `$me/device/state` is acknowledged when it is on disk as the last one of its topic.
- A provisioning is a connection with a claim certificate, two requests, and a connection with the new certificate.
- An import of a fleet is measured as a command, without the time that a command takes to start. Each device has a
  certificate, and every tenth an alias. For comparison, the rows that the import made are inserted into an empty
  database by Python's `sqlite3` alone, in as many durable transactions: the ratio is that time over the import's. The
  rest of the import is reading and checking: it parses each certificate, and looks for everything before it adds it.

In the table, "server CPU" and "client CPU" are the CPU time of one request on each side. "Per server core" is the
number of requests that one CPU-second of the server answers; it depends least on other load. p50 and p99 are latencies
at the client. "Elsewhere" is the share of the machine that other processes used meanwhile: if it is more than a few
percent, rates are too low. Rows that begin with "of that" are single parts of access control, measured in one process:
the CPU time to authenticate, authorize or record one DescribeCertificate.
"""

_HOSTILE, _ENGINES, _CONSOLE = "hostile", "engines", "console"
_BY_MEASURE = {_ENGINES: "call", _HOSTILE: "attack", _CONSOLE: "page"}
"""Cases with a separate table, and the noun for its rows."""
_ON_BOTH = """
## Both engines

A fixed number of requests by the given number of writers, on new servers with empty databases. PostgreSQL runs on the
same cores, on a socket, with its default settings: every answered change is on disk. "Retries" counts the changes that
were run again because they conflicted with another one, including those of the audit sealer and of background jobs. A
ratio compares with the server of another checkout in the same run (`--against`).

"""
_ATTACKS = """
## Under attack

Each attack has a new server, lasts a few seconds and comes from 127.0.0.2. Meanwhile a client at 127.0.0.1 requests
`/healthz` continuously. The table shows its longest wait and the budget for it. The attackers use the same cores, so
the wait includes their CPU time.

"""

_PAGES = """
## Pages of the console

A server on SQLite with 1,000,000 certificates, each attached to a thing and to a policy. 95 % are ACTIVE and 0.1 %
REVOKED, half have connected, and half were signed by one registered CA. One registry has 100,000 devices. One browser
that is signed in asks for each page 100 times over HTTP, one request at a time. The budget of a page is 100 ms. "Server
CPU" is the CPU time of one request; it depends least on other load.

"""

_PROFILES = """
## Why a budget was missed

From a separate run, with a sample of the event loop's thread at each tick of CPU time.
"""


def disturbance(figures: Sequence[Figure]) -> str:
    """A warning if other processes used much of the machine, else an empty text."""
    shares = [figure.cost.elsewhere for figure in figures if figure.cost is not None]
    if max(shares, default=0.0) < _DISTURBED:
        return ""
    return (
        f"Other processes used up to {max(shares):.0%} of the machine meanwhile: "
        "rates, latencies and missed budgets mean little. Compare the server's CPU time."
    )


def as_tables(figures: Sequence[Figure]) -> Iterator[Table]:
    """The tables for a terminal, which have fewer columns than the document."""
    if others := [figure for figure in figures if figure.case not in _BY_MEASURE]:
        yield _table(others)
    for case, first in _BY_MEASURE.items():
        if own := [figure for figure in figures if figure.case == case]:
            table = Table(box=box.SIMPLE)
            columns, rows = _by_measure(own)
            for column in (first, *columns):
                table.add_column(column, justify="left" if column == first else "right")
            for name, cells in rows.items():
                table.add_row(name, *(cells.get(column, "") for column in columns))
            yield table


def _table(figures: Sequence[Figure]) -> Table:
    table = Table(box=box.SIMPLE)
    for column in _SHOWN:
        table.add_column(_HEAD[column], justify="left" if column == 0 else "right", no_wrap=column != 0)
    for figure in figures:
        cells = _cells(figure)
        style = {"met": "green", "MISSED": "bold red"}.get(figure.verdict, "none")
        cells[3] = f"[{style}]{cells[3]}[/]"
        table.add_row(*[cells[column] for column in _SHOWN])
    return table


def as_json(machine: Mapping[str, str], figures: Sequence[Figure], profiles: Sequence[Profile]) -> dict[str, Any]:
    """The results as JSON values. Times are in seconds; figures have their own unit."""
    return {
        "machine": dict(machine),
        "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in figures],
        "profiles": [asdict(profile) for profile in profiles],
    }


def as_markdown(machine: Mapping[str, str], figures: Sequence[Figure], profiles: Sequence[Profile]) -> str:
    parts = [_INTRODUCTION, "\n", _rows(("machine", ""), machine.items()), "\n## Figures\n\n"]
    if warning := disturbance(figures):
        parts.append(f"**{warning}**\n\n")
    parts.append(_rows(_HEAD, [_cells(figure) for figure in figures if figure.case not in _BY_MEASURE]))
    if on_both := [figure for figure in figures if figure.case == _ENGINES]:
        parts += [_ON_BOTH, _rows_by_measure(_BY_MEASURE[_ENGINES], on_both)]
    if attacks := [figure for figure in figures if figure.case == _HOSTILE]:
        parts += [_ATTACKS, _rows_by_measure(_BY_MEASURE[_HOSTILE], attacks)]
    if pages := [figure for figure in figures if figure.case == _CONSOLE]:
        parts += [_PAGES, _rows_by_measure(_BY_MEASURE[_CONSOLE], pages)]
    if profiles:
        parts.append(_PROFILES)
    for profile in profiles:
        missed = "; ".join(figure.what for figure in figures if figure.case == profile.case and figure.missed)
        parts.append(
            f"\n### {missed}\n\n"
            f"{profile.per_request * 1e6:.0f} us of the event loop per request, at {profile.rate:.0f} requests/s.\n\n"
        )
        parts.append(_rows(("by file, without callees", "us", ""), _shares(profile.own, profile.per_request)))
        parts.append("\n")
        parts.append(_rows(("by function, with callees", "us", ""), _shares(profile.total, profile.per_request)))
    return "".join(parts)


def _by_measure(figures: Sequence[Figure]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """The columns (measures), and for each row (call or attack) the cell of each column."""
    rows: dict[str, dict[str, str]] = {}
    for figure in figures:
        row, _, what = figure.what.partition(": ")
        rows.setdefault(row, {})[what] = " ".join(_cells(figure)[1:4]).replace("<=", "of").strip()
    return list(dict.fromkeys(what for row in rows.values() for what in row)), rows


def _rows_by_measure(first: str, figures: Sequence[Figure]) -> str:
    columns, rows = _by_measure(figures)
    return _rows((first, *columns), [[name, *(row.get(what, "") for what in columns)] for name, row in rows.items()])


def _shares(times: Sequence[tuple[str, float]], whole: float) -> list[tuple[str, str, str]]:
    return [(f"`{name}`", f"{seconds * 1e6:.0f}", f"{seconds / whole:.0%}") for name, seconds in times]


def _cells(figure: Figure) -> list[str]:
    digits = 0 if figure.value >= 100 else 2
    unit = {"": "", "ratio": "", "/s": "/s"}.get(figure.unit, f" {figure.unit}")
    measured = f"{figure.value:,.{digits}f}{unit}"
    return [figure.what, measured, _budget(figure.budget, unit), figure.verdict, *_cost(figure.cost)]


def _budget(budget: Budget | None, unit: str) -> str:
    if budget is None:
        return ""
    return f"{'<=' if budget.at_most else '>='} {budget.limit:,.{0 if budget.limit >= 2 else 2}f}{unit}"


def _cost(cost: Cost | None) -> list[str]:
    if cost is None:
        return [""] * 5
    return [
        f"{cost.server * 1e6:,.0f} us",
        f"{1 / cost.server:,.0f}/s" if cost.server else "",
        f"{cost.client * 1e6:,.0f} us",
        f"{cost.p50 * 1e3:.2f} / {cost.p99 * 1e3:.2f} ms",
        f"{cost.elsewhere:.0%}",
    ]


def _rows(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
