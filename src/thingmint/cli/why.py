"""`thingmint why`: explains what a device may do, and whether it may connect at all."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from thingmint.cli.directory import DataDirOption, settings_for
from thingmint.cli.tables import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thingmint.settings import Settings

Topics = list[str] | None

EXAMPLES = (
    "thingmint why lamp-7 --publish lamps/lamp-7/state",
    "thingmint why lamp-7 --publish lamps/lamp-7/state --retain --subscribe 'lamps/lamp-7/+'",
    "thingmint why lamp-7.pem --client-id lamp-7 --connect --will lamps/lamp-7/gone --address 192.0.2.7",
    "thingmint why arn:aws:iot:us-east-1:123456789012:cert/4f06... --receive commands/all --output json",
    "thingmint why are1234567890abcdefg --publish '$me/device/events'",
    "thingmint why 'gateway#are1234567890abcdefg' --receive '$me/device/commands'",
)


def why(
    device: Annotated[
        str,
        typer.Argument(
            metavar="CLIENT_ID|CERTIFICATE",
            help="A client id, which is also looked for as the name of a thing and as the id of a Yandex device, "
            "registry or broker; CLIENT_ID#ID for one of these; or a certificate: a PEM file, its ARN, or its SHA-256 "
            "fingerprint.",
        ),
    ],
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask whether it may connect. This is always told.")
    ] = False,
    publish: Annotated[Topics, typer.Option(metavar="TOPIC", help="Ask for publishing; repeatable.")] = None,
    retain: Annotated[bool, typer.Option("--retain", help="The published messages are to be retained.")] = False,
    subscribe: Annotated[Topics, typer.Option(metavar="FILTER", help="Ask for subscribing; repeatable.")] = None,
    receive: Annotated[Topics, typer.Option(metavar="TOPIC", help="Ask for receiving; repeatable.")] = None,
    client_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The client id (default: the given one, or the certificate's only thing)."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="IP", help="The device's address (default: that of its connection, or none).")
    ] = None,
    host_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The host name that it connects to (default: as its connection, or none)."),
    ] = None,
    will: Annotated[str | None, typer.Option(metavar="TOPIC", help="The topic of its will (default: no will).")] = None,
    persistent: Annotated[bool, typer.Option("--persistent", help="It asks for a session that persists.")] = False,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="Look in this account only (default: all accounts).")
    ] = None,
    region: Annotated[str | None, typer.Option(metavar="R", help="Look in this region only (default: all).")] = None,
    data_dir: DataDirOption = None,
    output: Annotated[Literal["table", "json"], typer.Option(help="A text for people, or JSON for scripts.")] = "table",
) -> None:
    """Explain what a device may do: the decision, the policy statement or Yandex rule behind it, and what to do.

    The decisions are those of the MQTT gateway. Works with a running server or a stopped one, and changes nothing.
    """
    del connect  # the answer always has it
    if retain and not publish:
        raise typer.BadParameter("--retain needs --publish TOPIC")
    if address is not None:
        _check_address(address)
    if will is not None and will not in (publish or ()):
        publish = [*(publish or ()), will]
    questions = [
        *(("Publish", topic, retain) for topic in publish or ()),
        *(("Subscribe", filter, False) for filter in subscribe or ()),
        *(("Receive", topic, False) for topic in receive or ()),
    ]
    for text in (device, client_id, host_name, *(name for _, name, _ in questions)):
        _check_text(text or "")
    given = {
        "subject": _subject(device),
        "client_id": client_id,
        "address": address,
        "host_name": host_name.lower().removesuffix(".") if host_name is not None else None,
        "will_topic": will,
        "persistent": persistent,
    }
    reports = asyncio.run(_ask(settings_for(data_dir), account=account, region=region, questions=questions, **given))
    if output == "json":
        print(orjson.dumps(reports, option=orjson.OPT_INDENT_2).decode())
        return
    out = console()
    for number, report in enumerate(reports):
        if number:
            out.print()
        for line in _lines(report):
            out.print(line, markup=False)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("an argument is not UTF-8") from None


def _check_address(address: str) -> None:
    try:
        ip_address(address)
    except ValueError:
        raise typer.BadParameter(f"--address must be an IP address, not {address!r}") from None


def _subject(text: str) -> str:
    """The text itself; for a file with a certificate, its fingerprint."""
    from thingmint.domain.certificates import parse_certificate
    from thingmint.domain.errors import Invalid
    from thingmint.domain.keys import OWN_KEYS

    if not text or "\0" in text:
        raise typer.BadParameter("CLIENT_ID|CERTIFICATE must not be empty")
    path = Path(text)
    try:
        if not path.is_file():
            if path.suffix in (".pem", ".crt", ".cer") or text.startswith(("/", "./", "../")):
                raise typer.BadParameter(f"there is no file {text}")
            return text
        pem = path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        raise typer.BadParameter(f"{text} cannot be read as a PEM file") from None
    if "-----BEGIN" not in pem:
        return text  # a file whose name is a client id
    try:
        return parse_certificate(pem, text, OWN_KEYS)[0].fingerprint
    except Invalid as error:
        raise typer.BadParameter(str(error)) from None


async def _ask(settings: Settings, **given: Any) -> list[dict[str, Any]]:
    from thingmint.cli.reaching import reach

    async with reach(settings) as local:
        reports: list[dict[str, Any]] = await local.call("why", **given)
        return reports


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield from _who(report)
    connection = report["connection"]
    yield ""
    yield f"connecting: {'allowed' if connection['allowed'] else 'REFUSED'}"
    yield f"  why: {connection['why']}"
    yield from _advice(connection["advice"])
    for answer in report["answers"]:
        yield ""
        yield from _by_policy(answer) if report["rules"] == "aws" else _by_topic_rule(answer)


def _who(report: Mapping[str, Any]) -> Iterator[str]:
    owner = report["owner"]
    client_id = report["client_id"]
    if client_id is not None and report["client_id_is_guessed"]:
        client_id = f"{client_id} (the name of its thing)"
    shown = {
        "account": f"{report['account']}, {report['region']}" if report["account"] else "none",
        "certificate": report["certificate"],
        "status": report["status"],
        "valid until": report["not_after"],
        "client id": client_id or "not known: --client-id ID",
        "thing": report["thing"] or ("none" if owner is None else None),
        "yandex": f"{owner['kind']} {owner['id']}" if owner is not None else None,
        "registry": owner["registry"] if owner is not None and owner["kind"] == "device" else None,
        "host name": report["host_name"],
        "address": report["address"],
        "found by": report["found_by"],
    }
    for name, value in shown.items():
        if value is not None:
            yield f"{name + ':':<13} {value}"


def _by_policy(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"{answer['action']} on {answer['resource']}: {_decision(answer)}"
    statement = answer["statement"]
    if answer["decision"] != "ALLOWED":
        yield f"  why: {answer['why']}"
    if statement is not None:
        name = statement["sid"] or statement["number"]
        kind = "decided by" if statement["decides"] else "came closest"
        yield f"  {kind}: statement {name} of policy {statement['policy']}"
        for target in statement["attached_to"]:
            yield f"    attached to {target}"
        written = statement["text"]
        yield f"    {written if isinstance(written, str) else orjson.dumps(written).decode()}"
        for key, value in statement["values"].items():
            shown = "has no value" if value is None else f"= {value if isinstance(value, str) else ', '.join(value)}"
            yield f"    {key} {shown}"
        if statement["lacks"]:
            yield f"    but {statement['lacks']}"
    if answer["missing"]:
        yield f"  without a value: {', '.join(answer['missing'])}"
    yield from _advice(answer["advice"])


def _by_topic_rule(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"{answer['action']} {answer['name']}: {_decision(answer)}"
    yield f"  why: {answer['why']}"
    for topic in answer["topics"]:
        yield f"  topic: {topic}"
    yield from _advice(answer["advice"])


def _decision(answer: Mapping[str, Any]) -> str:
    return {"ALLOWED": "allowed", "EXPLICIT_DENY": "DENIED by a policy"}.get(answer["decision"], "NOT ALLOWED")


def _advice(advice: Sequence[str]) -> Iterator[str]:
    for each in advice:
        yield f"  what to do: {each}"
