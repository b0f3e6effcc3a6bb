"""The certificates of the instance's listeners: its own ones, and those that settings name."""

from thingmint.tls.files import ServerCertificateFiles
from thingmint.tls.listener import ListenerTLS

__all__ = ["ListenerTLS", "ServerCertificateFiles"]
