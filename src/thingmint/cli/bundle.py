"""`thingmint bundle` and `thingmint join`: copying an instance's keys to another host."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from thingmint.cli.directory import DataDirOption, held, settings_for
from thingmint.settings import ConfigError

PassphraseFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with the bundle's passphrase (default: ask for it).")
]
_LEAST = 8  # bytes


def bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle to write; it must not exist.")],
    data_dir: DataDirOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write an instance's keys into one encrypted file, for `thingmint join` on another host."""
    from thingmint.instance.bundle import pack
    from thingmint.instance.create import exists
    from thingmint.instance.layout import DataDirectory, write_private

    directory = DataDirectory(settings_for(data_dir).data_dir.absolute())
    if not exists(directory):
        raise ConfigError("data-dir", f"{directory.root} holds no instance")
    if file.exists():
        raise ConfigError("bundle", f"{file} exists already")
    write_private(file.absolute(), pack(directory, _passphrase(passphrase_file, twice=True)))
    print(f"{file} holds the instance's keys, encrypted. On the other host: thingmint join {file.name} --data-dir D")


def join(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle that `thingmint bundle` wrote.")],
    data_dir: DataDirOption = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a data directory from another host's keys, to serve the same PostgreSQL database."""
    from thingmint.instance.bundle import BundleError, read_bundle, unpack
    from thingmint.instance.bundle import join as join_directory
    from thingmint.instance.create import exists
    from thingmint.instance.layout import DirectoryInUse

    directory, hold = held(settings_for(data_dir))
    try:
        files = unpack(read_bundle(file), _passphrase(passphrase_file, twice=False))
        with hold:
            if exists(directory):
                raise ConfigError("data-dir", f"{directory.root} holds an instance already")
            join_directory(directory, files)
    except BundleError as error:
        raise ConfigError("bundle", f"{file} {error}") from None
    except DirectoryInUse:
        raise ConfigError("data-dir", f"{directory.root} is in use") from None
    print(f"{directory.root} has the instance's keys. Next: thingmint serve with the same THINGMINT_STORE_FILE.")


def _passphrase(file: Path | None, *, twice: bool) -> bytes:
    if file is not None:
        try:
            given = file.read_bytes().strip()
        except OSError as error:
            raise ConfigError("passphrase-file", f"cannot be read: {error.strerror}") from None
    elif sys.stdin.isatty():
        given = getpass.getpass("Passphrase of the bundle: ").encode()
        if twice and getpass.getpass("Again: ").encode() != given:
            raise ConfigError("passphrase", "was different the second time")
    else:
        raise ConfigError("passphrase-file", "is needed, as there is no terminal for entering a passphrase")
    if len(given) < _LEAST:
        raise ConfigError("passphrase", f"must have at least {_LEAST} characters")
    return given
