"""Thingmint: the identity half of an IoT cloud, on your own machines."""

__version__ = "0.2.0.dev0"
