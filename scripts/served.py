"""Write the tables of served operations in README.md, docs/aws.md and docs/served.md, from the code's declarations.

With --check it only says which of the files differ.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from aws_page import aws_by_noun, sections
from thingmint.access.administration import COMMANDS
from thingmint.aws.contract import load_contract as load_aws_contract
from thingmint.aws.contract import load_data_contract
from thingmint.aws.operations import DATA_OPERATIONS
from thingmint.aws.operations import OPERATIONS as AWS_OPERATIONS
from thingmint.aws.sts import SERVED as STS_OPERATIONS
from thingmint.native.endpoints import ENDPOINTS
from thingmint.yandex.contract import load as load_yandex_contract
from thingmint.yandex.operations import SERVED as YANDEX_SERVED

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- served: written by `make served` -->\n"
END = "<!-- served: end -->\n"

# The gateway declares no operations. What it serves is described in docs/devices.md.
_MQTT = (
    "MQTT 3.1.1 and 5 over TLS (8883)",
    "AWS IoT's device policies, fleet provisioning, JIT registration; Yandex's topics, aliases, passwords; QoS 0 and 1",
)
_OPERATORS = (
    "`GET /healthz`, `/readyz`, `/metrics` (Prometheus); `thingmint access`, `audit`, `fleet`, `import`, `store`"
)
_COMMANDS = (
    "Each is also `POST /v1/access/NOUN/VERB` of the native API, for the caller's own account. These concern all "
    "accounts, and are commands only: {local}."
)
_WIDTH = 120


def main(arguments: list[str]) -> int:
    check = arguments == ["--check"]
    if arguments and not check:
        print(__doc__)
        return 2
    differ = []
    pages = (("README.md", short()), ("docs/aws.md", aws()), ("docs/served.md", long()))
    for path, tables in ((ROOT / name, tables) for name, tables in pages):
        text = path.read_text()
        wanted = replaced(text, tables)
        if text != wanted:
            differ.append(path.relative_to(ROOT))
            if not check:
                path.write_text(wanted)
    for name in differ:
        print(f"{name} does not match the code: run `make served`" if check else f"wrote {name}")
    return 1 if check and differ else 0


def replaced(text: str, tables: str) -> str:
    """The text with the tables between the two marks."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text has no {BEGIN.strip()} with {END.strip()} behind it")
    return f"{head}{BEGIN}\n{tables}\n{END}{tail}"


def short() -> str:
    """The README's table: a row for each API."""
    aws, yandex = aws_by_noun(), yandex_by_service()
    of_aws, of_yandex = len(load_aws_contract().operations), len(load_yandex_contract().methods)
    of_data, served = len(load_data_contract().operations), len(YANDEX_SERVED)
    nouns = ", ".join(f"{noun} ({len(names)})" for noun, names in aws.items())
    services = ", ".join(
        f"{service.rpartition('.')[2]} ({len(names)} of {len(names) + len(missing)})"
        for service, (names, missing) in yandex.items()
        if names
    )
    return table(
        ("API", "served"),
        [
            (
                "AWS IoT and STS, signed with SigV4 (8443)",
                (
                    f"{len(AWS_OPERATIONS)} of {of_aws} operations: {nouns}; of the data plane "
                    f"{len(DATA_OPERATIONS)} of {of_data}. Others answer NotImplementedException. "
                    f"STS: {', '.join(STS_OPERATIONS)}; credential provider (`credentials_port`)"
                ),
            ),
            (
                "Yandex IoT Core, gRPC (9443) and REST (8443)",
                f"all {of_yandex} methods: {services}"
                if served == of_yandex
                else f"{served} of {of_yandex} methods: {services}",
            ),
            _MQTT,
            (
                "native REST, bearer token (8443; 8080 on this machine)",
                f"{len(ENDPOINTS)} requests: certificates, audit records, users and policies",
            ),
            ("for operators", _OPERATORS),
        ],
    )


def aws() -> str:
    """The tables of docs/aws.md."""
    parts = []
    for heading, text, head, rows in sections():
        parts += [heading, wrapped(text), table(head, rows) if rows else ""]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def long() -> str:
    """The tables of docs/served.md: every operation by its name, apart from those of AWS."""
    yandex = yandex_by_service()
    native = [
        (f"`{endpoint.method} {endpoint.path}`", endpoint.summary)
        for endpoint in ENDPOINTS
        if not endpoint.path.startswith("/v1/access/")
    ]
    commands = [(f"`{command.noun} {command.verb}`", command.summary) for command in COMMANDS.values()]
    local = [f"`{command.noun} {command.verb}`" for command in COMMANDS.values() if command.instance_wide]
    parts = [
        "## Yandex IoT Core",
        table(
            ("service", "served", "not served: UNIMPLEMENTED (501)"),
            [(f"`{service}`", ", ".join(served), ", ".join(missing)) for service, (served, missing) in yandex.items()],
        ),
        "## The native API",
        table(("request", "what it does"), native),
        "## Commands of `thingmint access`",
        wrapped(_COMMANDS.format(local=", ".join(local))),
        table(("command", "what it does"), commands),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def yandex_by_service() -> dict[str, tuple[list[str], list[str]]]:
    """The methods that are served and those that are not, by service."""
    by_service: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for path, method in load_yandex_contract().methods.items():
        served, missing = by_service[method.service.removeprefix("yandex.cloud.")]
        (served if path in YANDEX_SERVED else missing).append(method.name)
    return dict(sorted(by_service.items()))


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" if cells[0] != "---" else "|---" * len(head) + "|\n" for cells in lines)


def wrapped(text: str) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
