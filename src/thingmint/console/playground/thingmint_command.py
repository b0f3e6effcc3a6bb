"""The same call with the `thingmint` command, for the operations of the native API that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thingmint.console.playground.curl import in_address
from thingmint.console.playground.shown_code import Equivalent
from thingmint.console.playground.writing import (
    FromEnvironment,
    FromFile,
    can_be_argument,
    shell_command,
    shell_option,
    shell_word,
)

if TYPE_CHECKING:
    from thingmint.console.playground.held_values import HeldValues
    from thingmint.console.playground.operations import Operation

_OF_MACHINE: Final = "Run it on the server's machine, in the directory with `data`. "
_PAGES: Final = {"page_size": "limit"}
_COMMANDS: Final[dict[str, tuple[str, str | None, tuple[str, ...]]]] = {
    "CountCertificates": ("certificate counts", None, ("weeks", "days")),
    "ListCertificates": ("certificate list", None, ("order", "page_size")),
    "SearchCertificates": (
        "certificate list",
        None,
        (
            *("order", "page_size", "status", "ca", "ends_from", "ends_before", "seen_from", "seen_before"),
            *("never_seen", "without_policy", "without_thing"),
            *("id_prefix", "serial", "subject", "subject_prefix", "thing", "device"),
        ),
    ),
    "FindCertificates": ("certificate find", "text", ()),
    "ListRefusals": ("refusal list", None, ("certificate", "client_id", "since", "page_size")),
    "CountRefusals": ("refusal counts", None, ("minutes",)),
    "ListSessions": ("session list", None, ("text", "thing", "owner", "certificate", "address", "page_size")),
    "GetSession": ("session show", "client_id", ("owner",)),
    "EndSession": ("session kick", "client_id", ("owner", "clean_session", "prevent_will")),
    "ListAudit": (
        "audit list",
        None,
        ("event", "outcome", "resource", "client_id", "certificate", "principal", "about", "page_size"),
    ),
}
"""By operation: the command, the field that is its argument, and the fields that have an option."""

_WITHOUT_REGION: Final = ("ListAudit",)
_ACCESS: Final = "/v1/access/"
_ARGUMENTS: Final = ("name", "principal", "id", "value")
_DOCUMENTS: Final = ("document", "trust_policy")
_SECRET: Final = "secret_access_key"  # noqa: S105 - a field's name


def thingmint(operation: Operation, given: HeldValues, account: str, region: str) -> Equivalent | None:
    """None if the command has no such operation, or a value cannot be in a command."""
    texts = [each for each in given.values.values() if isinstance(each, str)]
    if operation.api != "native" or not all(map(can_be_argument, texts)):
        return None
    if operation.id == "GetHealth":
        return Equivalent("thingmint", "thingmint", "thingmint status", _OF_MACHINE)
    if operation.id in _COMMANDS:
        return _command(operation, given, account, region)
    if (operation.path or "").startswith(_ACCESS):
        return _access(operation, given, account)
    return None


def _command(operation: Operation, given: HeldValues, account: str, region: str) -> Equivalent:
    name, argument, options = _COMMANDS[operation.id]
    words = [f"thingmint {name}", f"--account {shell_word(account)}"]
    if operation.id not in _WITHOUT_REGION:
        words.append(f"--region {shell_word(region)}")
    words += [_option(_PAGES.get(each, each), given.values[each]) for each in options if each in given.values]
    if argument is not None:
        words.append(f"-- {shell_word(in_address(given.values[argument]))}")
    left = sorted(given.values.keys() - {*options, argument})
    note = f"The command has no option for {', '.join(left)}." if left else ""
    return Equivalent("thingmint", "thingmint", shell_command([each for each in words if each]), _OF_MACHINE + note)


def _access(operation: Operation, given: HeldValues, account: str) -> Equivalent:
    noun, verb = (operation.path or "").removeprefix(_ACCESS).split("/")
    is_session = noun == "session"
    words = ["thingmint access session" if is_session else f"thingmint access {noun} {verb}"]
    arguments = []
    before = None
    if "account" not in given.values:
        words.append(f"--account {shell_word(account)}")
    for each in operation.fields:
        if (value := given.values.get(each.name)) is None:
            continue
        if each.name in _ARGUMENTS and each.required and not is_session:
            arguments.append(shell_word(in_address(value)))
        elif each.name in (*_DOCUMENTS, _SECRET) or (each.name == "policy" and verb == "create"):
            before = _printed(value)
            words.append(f"--{_dashed(each.name)}{'-file' if each.name == _SECRET else ''} -")
        else:
            words.append(_option(each.name, value))
    if arguments:
        words.append(f"-- {' '.join(arguments)}")
    return Equivalent("thingmint", "thingmint", shell_command(words, before), _OF_MACHINE)


def _option(name: str, value: Any) -> str:
    option = f"--{_dashed(name)}"
    if isinstance(value, bool):
        return option if value else ""
    return shell_option(option, in_address(value))


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _printed(value: Any) -> str:
    """A command that prints the text. The shell's own printf shows it to no other program."""
    if isinstance(value, FromEnvironment):
        return f'printf %s "${value.name}"'
    if isinstance(value, FromFile):
        return f"cat {shell_word(value.name)}"
    return f"printf %s {shell_word(str(value))}"
