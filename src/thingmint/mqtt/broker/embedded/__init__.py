"""A broker inside this process, for provisioning, tests and small fleets."""

from thingmint.mqtt.broker.embedded.broker import EmbeddedBroker

__all__ = ["EmbeddedBroker"]
