"""Connects the gateway to an existing MQTT broker or cluster."""

from thingmint.mqtt.broker.upstream.broker import Upstream, UpstreamBroker, UpstreamUsage
from thingmint.mqtt.broker.upstream.names import RABBITMQ, STANDARD
from thingmint.mqtt.broker.upstream.target import Login, Target, tls_context

__all__ = ["RABBITMQ", "STANDARD", "Login", "Target", "Upstream", "UpstreamBroker", "UpstreamUsage", "tls_context"]
