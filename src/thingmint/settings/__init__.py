"""Settings: flags first, then THINGMINT_* variables, then thingmint.toml, then the defaults here."""

from thingmint.settings.loading import load
from thingmint.settings.settings import Settings
from thingmint.settings.tables import LISTENERS, BrokerSettings, ConnectionSettings, Listener
from thingmint.settings.values import ConfigError

__all__ = ["LISTENERS", "BrokerSettings", "ConfigError", "ConnectionSettings", "Listener", "Settings", "load"]
