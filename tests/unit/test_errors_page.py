"""docs/errors.md has each error code that the code can answer, with its status, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.documents import names_in, page, sections, tables
from thingmint.aws.contract.model import load_contract, load_data_contract
from thingmint.aws.credential_provider import CODES as PROVIDER_CODES
from thingmint.aws.errors import COMMON_STATUS
from thingmint.aws.sts import STATUS as STS_STATUS
from thingmint.mqtt.payloads import Rejection
from thingmint.mqtt.protocol.reasons import Reason
from thingmint.mqtt.protocol.wire import ALLOWED, PacketType
from thingmint.native.errors import Problem
from thingmint.yandex.contract.answers import HTTP_STATUS, Code

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).resolve().parents[2] / "src" / "thingmint"
SECTIONS = sections(page("errors"))

# What only connections to an external broker answer; devices see what the gateway makes of it.
_TOWARDS_A_BROKER = {"client.py", "publisher.py"}
_OF_THE_MODEL = "error_meanings.py"  # it also has codes of operations that are not served
# Where an instance is opened, and what reads the settings for it.
_AT_START = [
    "cli/main.py",
    "instance",
    "server",
    "tls",
    *(f"settings/{name}.py" for name in ("loading", "settings", "values")),
]


def rows(section: str) -> list[dict[str, str]]:
    return tables(SECTIONS[section])[0]


def trees(*where: str) -> Iterator[ast.Module]:
    for each in where:
        path = SOURCE / each
        for file in [path] if path.suffix else sorted(path.rglob("*.py")):
            if file.name != _OF_THE_MODEL:
                yield ast.parse(file.read_text("utf-8"))


def texts(*where: str) -> set[str]:
    """All constant texts, also those inside of f-strings and those that are bytes."""
    return {
        node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        for tree in trees(*where)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    }


def attributes(owner: str, *where: str) -> set[str]:
    """The names of ``owner``'s members that the code uses."""
    return {
        node.attr
        for tree in trees(*where)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == owner and node.attr.isupper()
    }


def test_codes_of_the_aws_api() -> None:
    used = {text for text in texts("aws", "http", "native") if re.fullmatch(r"[A-Z][A-Za-z]+Exception", text)}
    status = {
        **COMMON_STATUS,
        **load_data_contract().error_status,
        **load_contract().error_status,
        "InternalFailureException": 500,
    }
    documented = {names_in(row["code"])[0]: int(row["HTTP"]) for row in rows("AWS API")}
    assert documented == {code: status[code] for code in used}
    assert list(documented) == sorted(documented)


def test_codes_of_sts() -> None:
    assert {names_in(row["code"])[0]: int(row["HTTP"]) for row in rows("STS")} == STS_STATUS
    assert texts("aws/sts.py", "aws/query_protocol.py") >= set(STS_STATUS)


def test_types_of_the_credential_provider() -> None:
    documented = {(int(row["HTTP"]), names_in(row["type"])[0]) for row in rows("Credential provider")}
    assert documented == {*PROVIDER_CODES.items(), (404, "UnknownOperationException")}
    sources = texts("aws/credential_provider.py", "access/device_credentials.py", "access/throttle.py")
    assert {row["message"] for row in rows("Credential provider")} - {"any other"} <= sources


def test_codes_of_the_yandex_api() -> None:
    used = attributes("Code", "yandex/errors.py") | attributes("grpc.StatusCode", "yandex")
    documented = {names_in(row["code"])[0]: (int(row["number"]), int(row["HTTP"])) for row in rows("Yandex API")}
    assert documented == {name: (Code[name].value, HTTP_STATUS[Code[name]]) for name in used}


def test_codes_of_the_native_api() -> None:
    used = {("INTERNAL", 500)}  # http/front.py
    for tree in trees("native"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == Problem.__name__:
                status, code, *_ = (ast.literal_eval(argument) for argument in node.args[:2])
                used.add((code, status))
    assert {(names_in(row["code"])[0], int(row["HTTP"])) for row in rows("Native API")} == used


def test_reason_codes_of_mqtt() -> None:
    files = [
        f"mqtt/{file.relative_to(SOURCE / 'mqtt')}"
        for file in (SOURCE / "mqtt").rglob("*.py")
        if file.name not in _TOWARDS_A_BROKER | {"reasons.py"} and "upstream/connection.py" not in str(file)
    ]
    used = {Reason[name] for name in attributes("Reason", *files)}
    told = {reason for reason in used if reason.failed or reason.name.startswith("NO_")}
    told -= {Reason.BANNED, Reason.CONNECTION_RATE_EXCEEDED, Reason.BAD_USER_NAME_OR_PASSWORD}  # of 3.1.1's table only
    documented = {}
    for row in rows("Reason codes of MQTT 5"):
        reason = Reason(int(row["code"], 16))
        documented[reason] = row["in"].split(", ")
        assert names_in(row["name"]) == [reason.name]
        assert all(reason in ALLOWED[PacketType[packet]] for packet in documented[reason]), row
    assert set(documented) == told
    assert list(documented) == sorted(documented)


def test_codes_of_fleet_provisioning() -> None:
    used = set()
    for tree in trees("mqtt/payloads.py"):
        for node in ast.walk(tree):
            pair: list[ast.expr] = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) == Rejection.__name__:
                pair = node.args[:2]
            elif isinstance(node, ast.Dict):
                pair = [each for value in node.values if isinstance(value, ast.Tuple) for each in value.elts]
            if all(isinstance(each, ast.Constant) for each in pair):
                values = [ast.literal_eval(each) for each in pair]
                used |= set(zip(values[1::2], values[::2], strict=True))
    assert {(names_in(row["code"])[0], int(row["status"])) for row in rows("Fleet provisioning")} == used


def test_exit_statuses() -> None:
    used = {0}
    for tree in trees("cli"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "typer.Exit"):
                used |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}  # type: ignore[misc]
    assert {int(row["status"]) for row in rows("Exit status")} == used


def test_messages_at_start_are_those_of_the_code() -> None:
    known = texts("cli", "instance", "server", "settings", "store", "domain", "tls")
    for row in rows("The server does not start"):
        # What the server fills in, and where it joins two texts.
        for piece in re.split(r"…|; |UTC|\((?:Address|Permission).*\)", row["message"]):
            assert any(piece.strip(" ,") in text for text in known), row["message"]


def test_each_message_at_start_is_on_the_page() -> None:
    documented = " ".join(row["message"] for row in rows("The server does not start"))
    for tree in trees(*_AT_START):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("ConfigError", "DirectoryUnusable"):
                continue
            message = node.args[-1]
            parts = message.values if isinstance(message, ast.JoinedStr) else [message]
            constant = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
            longest = max(constant, key=len, default="").strip(" :;,(")
            assert longest in documented or longest.partition(": ")[0] in documented, longest


@pytest.mark.parametrize("section", [name for name, text in SECTIONS.items() if tables(text)])
def test_each_row_says_when_and_what_to_do(section: str) -> None:
    for row in rows(section):
        if row.get("name") != "accepted" and row.get("status", "") not in ("0", "1", "2", "130"):
            assert all(row.values()), row
