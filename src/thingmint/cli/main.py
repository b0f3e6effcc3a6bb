"""The command `thingmint`, with init and serve."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import orjson
import typer
from rich.console import Console

from thingmint import __version__
from thingmint.admin import AdminError
from thingmint.cli.access import app as access_app
from thingmint.cli.audit import app as audit_app
from thingmint.cli.bulk import app as bulk_app
from thingmint.cli.bundle import bundle, join
from thingmint.cli.certificates import app as certificate_app
from thingmint.cli.console import EXAMPLES as CONSOLE_EXAMPLES
from thingmint.cli.console import open_console
from thingmint.cli.directory import DataDirOption, passphrase_for
from thingmint.cli.fleet import app as fleet_app
from thingmint.cli.importing import app as import_app
from thingmint.cli.provisioning import app as provisioning_app
from thingmint.cli.refusals import app as refusal_app
from thingmint.cli.sessions import app as session_app
from thingmint.cli.status import EXAMPLES as STATUS_EXAMPLES
from thingmint.cli.status import status
from thingmint.cli.store import app as store_app
from thingmint.cli.why import EXAMPLES as WHY_EXAMPLES
from thingmint.cli.why import why
from thingmint.settings import ConfigError, Settings, load
from thingmint.settings.reference import help_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thingmint.instance.layout import DataDirectory
    from thingmint.server import Ready


def _examples(*lines: str) -> str:
    """An epilog with the examples; the \b keeps click from wrapping the lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


app = typer.Typer(
    name="thingmint",
    help="An identity server for IoT devices that you run yourself.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # examples stay on their own lines
    epilog=_examples("thingmint serve --data-dir data", "thingmint init --data-dir data --hostname iot.example.org"),
)
_out = Console(highlight=False, soft_wrap=True)


def _setting(name: str, metavar: str) -> Any:
    """The flag of a setting. Its value stays text, because the settings check it, like variables."""
    return typer.Option(f"--{name.replace('_', '-')}", metavar=metavar, help=help_of(name))


_Store = Annotated[str | None, _setting("store", "URL")]
_Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file (default: thingmint.toml).")
]


# The base class of all errors in a command line. Typer contains its own click, and exports only some of its errors.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def run() -> NoReturn:
    """The console script. An error in the command line or the settings prints one line, and the exit status is 2."""
    try:
        sys.exit(app(prog_name="thingmint", standalone_mode=False) or 0)
    except _UsageError as error:
        message: str = error.format_message()  # type: ignore[attr-defined]
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "thingmint"
        print(f"thingmint: {message.replace('Value error, ', '').rstrip('.')}; see {command} --help", file=sys.stderr)
        sys.exit(2)
    except ConfigError as error:
        print(f"thingmint: {error}", file=sys.stderr)
        sys.exit(2)
    except AdminError as error:
        print(f"thingmint: {error}", file=sys.stderr)
        sys.exit(1)
    except typer.Abort:
        sys.exit(130)


def _version(asked: bool) -> None:
    if asked:
        print(f"thingmint {__version__}")
        raise typer.Exit


app.add_typer(access_app, name="access")
app.add_typer(audit_app, name="audit")
app.add_typer(bulk_app, name="bulk")
app.add_typer(certificate_app, name="certificate")
app.add_typer(import_app, name="import")
app.add_typer(fleet_app, name="fleet")
app.add_typer(provisioning_app, name="provisioning")
app.add_typer(refusal_app, name="refusal")
app.add_typer(session_app, name="session")
app.add_typer(store_app, name="store")
app.command(epilog=_examples("thingmint bundle keys.bundle --data-dir data"))(bundle)
app.command(epilog=_examples(*STATUS_EXAMPLES))(status)
app.command(epilog=_examples(*WHY_EXAMPLES))(why)
app.command("console", epilog=_examples(*CONSOLE_EXAMPLES))(open_console)
app.command(epilog=_examples("thingmint join keys.bundle --data-dir /var/lib/thingmint"))(join)


@app.callback(invoke_without_command=True)
def thingmint(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """An identity server for IoT devices that you run yourself."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@app.command(
    epilog=_examples(
        "thingmint init --data-dir data",
        "thingmint init --data-dir data --hostname iot.example.org --region eu-central-1",
        "THINGMINT_CA_PASSPHRASE_FILE=/run/secrets/ca thingmint init --data-dir /var/lib/thingmint",
    )
)
def init(
    data_dir: DataDirOption = None,
    store: _Store = None,
    hostname: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name or address by which clients reach the server; repeatable. Clients are given the first one "
            "(default: localhost, 127.0.0.1, ::1); see thingmint access hostname.",
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="R",
            help="A region for which AWS clients sign; repeatable. The first is the home region (default: us-east-1).",
        ),
    ] = None,
    account_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="The number of the first account. With your account number at AWS, ARNs stay valid (default: a new "
            "number).",
        ),
    ] = None,
    ca_key: Annotated[str | None, _setting("ca_key", "p256|rsa2048")] = None,
    output: Annotated[
        Literal["table", "json"], typer.Option(help="A table for people, or JSON for scripts.")
    ] = "table",
    config: _Config = None,
) -> None:
    """Make a data directory: two roots, a database, credentials. In an existing one, add host names and regions."""
    from thingmint.instance.create import check_account_id, check_hostname, check_region
    from thingmint.instance.layout import DataDirectory, DirectoryInUse, DirectoryUnusable

    settings = load({"data_dir": data_dir, "store": store, "ca_key": ca_key}, config)
    hostnames = [check_hostname(name) for name in hostname or ()]
    regions = [check_region(name) for name in region or ()]
    account = check_account_id(account_id) if account_id is not None else None
    directory = DataDirectory(settings.data_dir.absolute())
    try:
        with directory.hold():
            result = asyncio.run(_init(directory, settings, hostnames, regions, account))
    except DirectoryUnusable as error:
        raise ConfigError("data-dir", str(error)) from None
    except DirectoryInUse:
        from thingmint import admin

        if account is not None:
            _check_first(account, admin.call(directory.admin_socket, "access", name="account.list", given={})[0]["id"])
        added = admin.call(directory.admin_socket, "extend", new_hostnames=hostnames, new_regions=regions)
        result = {"created": False, **added}
    _report_init(directory, result, output, config)


@app.command(
    epilog=_examples(
        "thingmint serve --data-dir data",
        "thingmint serve --data-dir data --host 0.0.0.0 --api-port 443 --log-format json",
        "thingmint serve --data-dir scratch --api-port 0 --http-port 0 --grpc-port 0 --mqtt-port 0 --dev",
    )
)
def serve(
    data_dir: DataDirOption = None,
    store: _Store = None,
    host: Annotated[str | None, _setting("host", "ADDRESS")] = None,
    api_port: Annotated[str | None, _setting("api_port", "PORT")] = None,
    http_port: Annotated[str | None, _setting("http_port", "PORT")] = None,
    grpc_port: Annotated[str | None, _setting("grpc_port", "PORT")] = None,
    mqtt_port: Annotated[str | None, _setting("mqtt_port", "PORT")] = None,
    credentials_port: Annotated[str | None, _setting("credentials_port", "PORT")] = None,
    key_pool: Annotated[str | None, _setting("key_pool", "N")] = None,
    log_format: Annotated[str | None, _setting("log_format", "console|json")] = None,
    limits: Annotated[str | None, _setting("limits", "generous|aws|none")] = None,
    dev: Annotated[bool | None, typer.Option("--dev", help=help_of("dev"))] = None,
    config: _Config = None,
) -> None:
    """Serve the APIs and the MQTT gateway. Make the data directory first if it is empty. Ctrl-C stops the server."""
    from thingmint import logs
    from thingmint.domain.names import is_loopback
    from thingmint.instance.layout import DataDirectory, DirectoryInUse, DirectoryUnusable

    flags = {
        "data_dir": data_dir,
        "store": store,
        "host": host,
        "api_port": api_port,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "mqtt_port": mqtt_port,
        "credentials_port": credentials_port,
        "key_pool": key_pool,
        "log_format": log_format,
        "limits": limits,
        "dev": dev,
    }
    settings = load(flags, config)
    if settings.dev and not is_loopback(settings.host):
        reason = f"allows requests without credentials, so it needs a loopback --host, not {settings.host}"
        raise ConfigError("dev", reason)
    logs.configure(settings.log_format)
    directory = DataDirectory(settings.data_dir.absolute())
    try:
        with directory.hold():
            _serve(directory, settings, lambda: load(flags, config))
    except DirectoryUnusable as error:
        raise ConfigError("data-dir", str(error)) from None
    except DirectoryInUse:
        raise ConfigError("data-dir", f"{directory.root} is in use by another thingmint process") from None


async def _init(
    directory: DataDirectory,
    settings: Settings,
    hostnames: Sequence[str],
    regions: Sequence[str],
    account: str | None = None,
) -> dict[str, Any]:
    from thingmint.access.administration.accounts import extend_instance, list_accounts
    from thingmint.domain.errors import DomainError
    from thingmint.instance.clients import move_endpoints, update_endpoints
    from thingmint.instance.create import DEFAULT_REGION, create, exists, open_store
    from thingmint.instance.key_files import is_encrypted
    from thingmint.services.certificates import utc_now
    from thingmint.services.hostnames import DEFAULT_HOSTNAMES, list_hostnames

    if not exists(directory):
        await create(
            directory,
            # The default names follow the given ones, because tools on this machine use them.
            hostnames=[*hostnames, *DEFAULT_HOSTNAMES],
            regions=regions or [DEFAULT_REGION],
            root_key=settings.ca_key,
            passphrase=settings.passphrase(),
            master_keys=settings.master_keys(),
            now=utc_now(),
            database=settings.database(),
            account=account,
        )
        name = (*hostnames, *DEFAULT_HOSTNAMES)[0]
        update_endpoints(directory, name, api_port=settings.api_port, grpc_port=settings.grpc_port)
        return {"created": True}
    if settings.passphrase() and not is_encrypted(directory):
        raise ConfigError("ca-passphrase", f"the keys in {directory.root} were made without one, and stay unencrypted")
    store = await open_store(directory, settings.database())
    try:
        now = utc_now()
        if account is not None:
            _check_first(account, (await store.read(list_accounts))[0].id)
        added = await store.write(lambda tx: extend_instance(tx, hostnames, regions, now))
        move_endpoints(directory, (await store.read(list_hostnames))[0])
        return {"created": False, "hostnames": added[0], "regions": added[1]}
    except DomainError as error:
        raise AdminError(str(error)) from None
    finally:
        await store.close()


def _check_first(account: str, first: str) -> None:
    """Raises ConfigError if the numbers differ: the number of an existing account is never changed."""
    if account != first:
        add = f"to add one: thingmint access account create NAME --id {account}"
        raise ConfigError("account-id", f"the first account of this instance is {first}; {add}")


def _serve(directory: DataDirectory, settings: Settings, reread: Callable[[], Settings]) -> None:
    import uvloop

    # gRPC's own log reports every handshake that a client aborts. It reads this variable when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from thingmint.instance.create import Instance, exists
    from thingmint.server import serve as serve_instance

    if not exists(directory):
        asyncio.run(_init(directory, settings, (), ()))
    passphrase = functools.cache(lambda: passphrase_for(settings))

    def on_ready(ready: Ready) -> None:
        if settings.log_format == "console":
            with contextlib.suppress(OSError):  # a full disk must not end the server
                _print_welcome(directory, ready, dev=settings.dev)

    async def serve() -> None:
        keys, database, reserve = settings.master_keys(), settings.database(), settings.disk_reserve_bytes
        instance = await Instance.open(directory, passphrase, keys, database, reserve)
        try:
            is_watched = settings.log_format == "console" and sys.stdout.isatty()
            await serve_instance(instance, settings, on_ready, reread, sign_in_link=is_watched)
        finally:
            await instance.store.close()

    try:
        uvloop.run(serve())
    finally:
        _drop_unwritten_output()


def _drop_unwritten_output() -> None:
    """Drops output that a full disk refused: at exit Python would try to write it again, and end with status 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _report_init(directory: DataDirectory, result: Mapping[str, Any], output: str, config: Path | None) -> None:
    if output == "json":
        document = {"data_dir": str(directory.root), "hostnames": [], "regions": [], **result}
        _out.print(orjson.dumps(document).decode())
        return
    if result["created"]:
        _out.print(f"Made a new instance in {directory.root}")
        _out.print(f"  {directory.ca}  the root that clients trust")
        _out.print(f"  {directory.device_ca}  the root that signs device certificates")
        _out.print(f"  {directory.aws_env}  for AWS clients: set -a; . {directory.aws_env}; set +a")
        _out.print(f"  {directory.yandex_env}, yandex-sa.json  for clients of Yandex Cloud's API")
        _out.print(f"  {directory.token}  for the native API: Authorization: Bearer <token>")
        same = f"--config {config} " if config is not None else ""
        _out.print(f"Next: thingmint serve {same}--data-dir {directory.root}")
        return
    _out.print(f"{directory.root} holds an instance already: no key and no credential was changed.")
    for noun in ("hostnames", "regions"):
        if result[noun]:
            _out.print(f"Added {noun}: {', '.join(result[noun])}")


def _print_welcome(directory: DataDirectory, ready: Ready, *, dev: bool) -> None:
    from thingmint.domain.names import authority_of

    api = f"https://{authority_of(ready.hostname, ready.ports['api'])}"
    http = f"http://127.0.0.1:{ready.ports['http']}"
    authorization = "" if dev else f' -H "authorization: Bearer $(cat {directory.token})"'
    certificates = "".join(f"\n{line}," for line in ready.certificates)
    console = f"  the console, in a browser {ready.console}\n" if ready.console is not None else ""
    if console and not dev:
        console += f"{'':28}to sign in later: thingmint console --data-dir {directory.root}\n"
    if certificates:
        certificates += f"\nnot {directory.ca}. AWS_CA_BUNDLE and the like in clients/ stay as you set them.\n"
    _out.print(f"""
Thingmint listens on {authority_of(ready.host, ready.ports["api"])} with HTTPS, on port {ready.ports["grpc"]} with gRPC,
on port {ready.ports["mqtt"]} with MQTT for devices,
and on 127.0.0.1:{ready.ports["http"]} with plain HTTP, always for this machine only.

  boto3, aws, Terraform     set -a; . {directory.aws_env}; set +a
                            aws iot create-keys-and-certificate --set-as-active
  yandexcloud               set -a; . {directory.yandex_env}; set +a
                            the service account's key is {directory.yandex_service_account}
  curl                      curl -X POST{authorization} {http}/keys-and-certificate
  the native API's schema   {api}/openapi.json   (trust {directory.ca})
{console}{certificates}
Ctrl-C stops it; the data stays in {directory.root}.
""")
