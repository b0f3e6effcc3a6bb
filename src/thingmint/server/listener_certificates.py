"""The certificates that the listeners show, and the host names that they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thingmint.domain.certificate_profiles import listener_profile
from thingmint.domain.tls_profiles import TLS_PROFILES
from thingmint.server.served_names import ServedNames
from thingmint.services.certificates import utc_now
from thingmint.tls import ListenerTLS, ServerCertificateFiles

if TYPE_CHECKING:
    from thingmint.instance.create import Instance
    from thingmint.settings import Settings


@dataclass(frozen=True, slots=True)
class ListenerCertificates:
    """``tls`` shows the server's own certificate, and those of ``files``, which settings name."""

    tls: ListenerTLS
    names: ServedNames
    files: ServerCertificateFiles

    @classmethod
    async def load(cls, instance: Instance, settings: Settings) -> ListenerCertificates:
        """Reads the names, issues a certificate for them, and reads the files. Raises ConfigError and Unavailable."""
        tls = ListenerTLS(
            instance.listener_authority(listener_profile(settings.listener_certificate_lifetime)),
            instance.directory.root,
            utc_now,
            TLS_PROFILES[settings.tls_profiles().api],
        )
        names = ServedNames(instance.store, instance.directory, tls, settings)
        await names.load()
        files = ServerCertificateFiles(tls, utc_now)
        files.use(files.prepare(settings))
        return cls(tls, names, files)
