"""A command's data directory and settings."""

from __future__ import annotations

import contextlib
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thingmint.settings import ConfigError, Settings, load
from thingmint.settings.reference import help_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from thingmint.instance.layout import DataDirectory


DataDirOption = Annotated[Path | None, typer.Option("--data-dir", metavar="D", help=help_of("data_dir"))]


def settings_for(data_dir: Path | None) -> Settings:
    return load({"data_dir": data_dir})


def check_exists(path: Path | None) -> None:
    """Raises ConfigError if a path is given and is not there."""
    if path is not None and not path.exists():
        raise ConfigError("data-dir", f"there is no {path}: choose another --data-dir, or run thingmint init first")


def held(settings: Settings) -> tuple[DataDirectory, AbstractContextManager[None]]:
    """The directory, and a context manager that locks it. Entering it raises DirectoryInUse and ConfigError."""
    from thingmint.instance.layout import DataDirectory, DirectoryUnusable

    directory = DataDirectory(settings.data_dir.absolute())

    @contextlib.contextmanager
    def hold() -> Iterator[None]:
        try:
            with directory.hold():
                yield
        except DirectoryUnusable as error:
            raise ConfigError("data-dir", str(error)) from None

    return directory, hold()


def passphrase_for(settings: Settings) -> bytes | None:
    """The CA keys' passphrase: from the settings, or entered at a terminal."""
    if (given := settings.passphrase()) is not None:
        return given
    return getpass.getpass("Passphrase of the CA keys: ").encode() if sys.stdin.isatty() else None
