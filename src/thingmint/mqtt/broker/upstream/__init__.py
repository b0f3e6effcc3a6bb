"""An existing MQTT broker or cluster behind the gateway."""

from thingmint.mqtt.broker.upstream.broker import Upstream, UpstreamBroker, UpstreamUsage
from thingmint.mqtt.broker.upstream.names import RABBITMQ, STANDARD
from thingmint.mqtt.broker.upstream.target import Login, Target, tls_context

__all__ = ["RABBITMQ", "STANDARD", "Login", "Target", "Upstream", "UpstreamBroker", "UpstreamUsage", "tls_context"]
