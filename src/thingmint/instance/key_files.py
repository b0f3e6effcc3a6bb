"""Reading the private keys of a data directory, which a passphrase may encrypt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from thingmint.settings import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from thingmint.instance.layout import DataDirectory


def is_encrypted(directory: DataDirectory) -> bool:
    """True if the roots' keys are encrypted under a passphrase."""
    return b"ENCRYPTED" in directory.ca_key.read_bytes()


def load_key(path: Path, passphrase: Callable[[], bytes | None]) -> PrivateKeyTypes:
    """The key in the file. Calls ``passphrase`` only if the key is encrypted. Raises ConfigError."""
    try:
        encoded = path.read_bytes()
        secret = passphrase() if b"ENCRYPTED" in encoded else None
        return load_pem_private_key(encoded, secret)
    except OSError as error:
        raise ConfigError("data-dir", f"{path} cannot be read: {error.strerror}") from None
    except TypeError:
        raise ConfigError(
            "ca-passphrase", f"{path} is encrypted: set THINGMINT_CA_PASSPHRASE or THINGMINT_CA_PASSPHRASE_FILE"
        ) from None
    except ValueError:
        if b"ENCRYPTED" not in encoded:
            raise ConfigError("data-dir", f"{path} does not hold a private key") from None
        raise ConfigError("ca-passphrase", f"does not open {path}") from None
