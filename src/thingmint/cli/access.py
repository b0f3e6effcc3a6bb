"""`thingmint access`, made from the table of commands, so that the command line and the API have the same commands."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import orjson
import typer

from thingmint.access.administration import COMMANDS
from thingmint.cli.directory import DataDirOption, check_exists, held, settings_for
from thingmint.cli.tables import console, print_rows
from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic.fields import FieldInfo

    from thingmint.access.administration import Command
    from thingmint.instance.layout import DataDirectory
    from thingmint.settings import Settings


app = typer.Typer(help="Accounts, users, roles, keys, tokens and policies.", no_args_is_help=False)

Output = Annotated[Literal["table", "json"], typer.Option(help="A table for people, or JSON for scripts.")]

# Fields that are arguments without a flag: they name the object of the command.
_POSITIONAL = ("name", "principal", "id", "value")
# Policy documents are read from files, and so are secrets: other users can see the command line.
_DOCUMENTS = ("document", "trust_policy")
_WITH_POLICY_FILE = ("create", "restrict")  # verbs whose policy is a document, not a name
_SECRET = "secret_access_key"  # noqa: S105 - an input's name


_EXAMPLES = {
    "account.create": "thingmint access account create staging --region eu-central-1",
    "account.set": "thingmint access account set keys_over_mqtt false",
    "hostname.add": "thingmint access hostname add iot.example.org\n"
    "  thingmint access hostname add mqtt.cloud.yandex.net --account 123456789012 --api yandex",
    "hostname.first": "thingmint access hostname first 192.168.1.10",
    "region.add": "thingmint access region add eu-central-1",
    "folder.create": "thingmint access folder create sensors",
    "user.create": "thingmint access user create alice",
    "service-account.create": "thingmint access service-account create importer",
    "role.create": "thingmint access role create provisioner --trust-policy trust.json",
    "key.create": "thingmint access key create user/alice",
    "role.trust": "thingmint access role trust provisioner --trust-policy trust.json",
    "token.restrict": "thingmint access token restrict ID --policy restriction.json",
    "token.create": "thingmint access token create user/alice --lifetime 30d --description ci",
    "policy.put": "thingmint access policy put mint --document mint.json",
    "policy.attach": "thingmint access policy attach user/alice --policy thingmint/ReadOnly",
}


@app.command(epilog="\b\nExample:\n  thingmint access rotate-master-key --data-dir data")
def rotate_master_key(data_dir: DataDirOption = None) -> None:
    """Seal all recoverable secrets under a new master key. Stop the server first."""
    from thingmint.instance.create import reseal, rotate
    from thingmint.instance.layout import DirectoryInUse

    settings = settings_for(data_dir)
    keys = settings.master_keys()
    if keys is not None and len(keys) < 2:
        raise ConfigError(
            "master-key", "is not in the data directory: put the new key before the old one in the setting, then rerun"
        )
    directory, hold = held(settings)
    database = settings.database()
    try:
        with hold:
            count = asyncio.run(rotate(directory, database) if keys is None else reseal(directory, keys, database))
    except DirectoryInUse:
        raise ConfigError("data-dir", f"{directory.root} is in use: stop the server first") from None
    print(f"{count} secrets are sealed under a new master key. Older IAM tokens and page tokens are no longer valid.")


def _add_commands() -> None:
    groups: dict[str, typer.Typer] = {}
    for command in COMMANDS.values():
        if command.noun == "session":  # `access session`: sessions have no other command
            app.command("session", help=command.summary, epilog=_epilog(command))(_function(command, positional=False))
            continue
        if command.noun not in groups:
            groups[command.noun] = typer.Typer(help=_group_help(command.noun))
            app.add_typer(groups[command.noun], name=command.noun)
        groups[command.noun].command(command.verb, help=command.summary, epilog=_epilog(command))(
            _function(command, positional=True)
        )


def _group_help(noun: str) -> str:
    verbs = [command.verb for command in COMMANDS.values() if command.noun == noun]
    return f"{_plural(noun)}: {', '.join(verbs)}."


def _plural(noun: str) -> str:
    words = noun.replace("-", " ").capitalize()
    return f"{words[:-1]}ies" if words.endswith("y") and words != "Key" else f"{words}s"


def _function(command: Command, *, positional: bool) -> Callable[..., None]:
    """A function whose signature typer can read, made from the command's model."""
    fields = command.input.model_fields

    def run(**values: Any) -> None:
        data_dir, output = values.pop("data_dir"), values.pop("output")
        given = {name: value for name, value in values.items() if value not in (None, [])}
        for name in _DOCUMENTS:
            if name in given:
                given[name] = _read(name, given[name])
        if _SECRET in given:
            given[_SECRET] = _read(f"{_SECRET}_file", given[_SECRET]).strip()
        if "policy" in given and command.verb in _WITH_POLICY_FILE:
            given["policy"] = _read("policy", given["policy"])
        _show(_ask(settings_for(data_dir), command.name, given), output)

    parameters = [
        *(
            _parameter(name, field, positional=positional, file=name == "policy" and command.verb in _WITH_POLICY_FILE)
            for name, field in fields.items()
        ),
        _keyword("data_dir", DataDirOption, None),
        _keyword("output", Output, "table"),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(name: str, field: FieldInfo, *, positional: bool, file: bool) -> inspect.Parameter:
    required = field.is_required()
    if name == "region" and get_origin(field.annotation) is list:
        option = typer.Option(help="Repeatable; the first is the home region.")
        return _keyword(name, Annotated[list[str] | None, option], None)
    if positional and name in _POSITIONAL and required:
        return _keyword(name, Annotated[str, typer.Argument()], inspect.Parameter.empty)
    help_text = {
        "account": "The account's 12 digits (default: all accounts)."
        if field.default is None
        else "The account's 12 digits (default: the first account).",
        "api": "Whose rules hold under the name: aws or yandex.",
        "region": "For api aws: one of the account's regions (default: its home region).",
        "principal": "user/NAME, role/NAME or service-account/NAME.",
        "resource": "For a Yandex role: yandex:cloud/ACCOUNT, yandex:folder/ID, yandex:registry/ID or *.",
        "id": "The 12 digits of an account that you have at AWS (default: a new number).",
        "access_key_id": "The id of an AWS access key to import, together with its secret.",
        _SECRET: "A file with the secret of that access key, - for standard input.",
        "duration": "Such as 1h or 30m.",
        "lifetime": "Such as 30d (default: no end).",
    }.get(name, "A file with the document, - for standard input." if name in _DOCUMENTS or file else None)
    option = typer.Option(f"--{name.replace('_', '-')}{'-file' if name == _SECRET else ''}", help=help_text)
    if required:
        return _keyword(name, Annotated[str, option], inspect.Parameter.empty)
    return _keyword(name, Annotated[str | None, option], None)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _epilog(command: Command) -> str | None:
    if command.noun == "session":
        example = "thingmint access session --principal user/alice --duration 1h"
    else:
        example = _EXAMPLES.get(command.name, f"thingmint access {command.noun} {command.verb}{_arguments(command)}")
    return f"\b\nExample:\n  {example}"


def _arguments(command: Command) -> str:
    fields = command.input.model_fields
    words = {"name": "NAME", "principal": "user/NAME", "id": "ID", "policy": "--policy NAME"}
    return "".join(f" {word}" for name, word in words.items() if name in fields and fields[name].is_required())


def _read(name: str, path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(name.replace("_", "-"), f"{path} cannot be read: {why}") from None


def _ask(settings: Settings, name: str, given: Mapping[str, Any]) -> Any:
    """The command's answer. It runs in this process, or in the server that holds the directory."""
    from thingmint import admin
    from thingmint.instance.layout import DirectoryInUse

    directory, hold = held(settings)
    check_exists(directory.root)
    try:
        with hold:
            return asyncio.run(_run_here(directory, settings, name, given))
    except DirectoryInUse:
        return admin.call(directory.admin_socket, "access", name=name, given=dict(given))


async def _run_here(directory: DataDirectory, settings: Settings, name: str, given: Mapping[str, Any]) -> Any:
    from thingmint.access.audit import AuditedStore, AuditLog
    from thingmint.access.local_admin import Administration, as_local_admin
    from thingmint.admin import AdminError
    from thingmint.domain.errors import DomainError
    from thingmint.instance.clients import move_endpoints
    from thingmint.instance.create import check_master_key, exists, open_store, open_vault
    from thingmint.services.certificates import utc_now
    from thingmint.services.hostnames import list_hostnames

    if not exists(directory):
        raise ConfigError("data-dir", f"{directory.root} holds no instance: run thingmint init first")
    vault = open_vault(directory, settings.master_keys())
    store = await open_store(directory, settings.database())
    trail = AuditLog(store, utc_now)
    try:
        await check_master_key(store, vault)
        audited = AuditedStore(store, utc_now)
        administration = Administration(audited, vault, utc_now, settings.quotas_in_force())
        result = await as_local_admin(administration, trail, name, given)
        if name.startswith("hostname."):
            move_endpoints(directory, (await store.read(list_hostnames))[0])
        return result
    except DomainError as error:
        raise AdminError(str(error)) from None
    finally:
        await trail.close()
        await store.close()


def _show(result: Any, output: str) -> None:
    if output == "json":
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
        return
    out = console()
    if isinstance(result, list):
        rows = [["" if value is None else str(value) for value in row.values()] for row in result]
        print_rows(list(result[0]) if result else [], rows, out)
        return
    for name, value in result.items():
        if isinstance(value, dict):
            out.print(f"{name}:")
            out.print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode(), markup=False)
        else:
            out.print(f"{name}: {value}", markup=False)


_add_commands()
