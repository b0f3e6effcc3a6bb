"""Gives a server's clients less time. Python imports this first where PYTHONPATH names this folder."""

import os
from typing import Any

from thingmint.http import listener, messages, protocol
from thingmint.mqtt.protocol.connection import ServerConnection
from thingmint.mqtt.tls.listener import TlsListener
from thingmint.yandex import grpc, relay


def _set_default(kind: Any, name: str, value: float) -> None:
    kind.__init__.__kwdefaults__[name] = value


_head, _body, _handshake, _connect = map(float, os.environ["IMPATIENT"].split())

for _module in (protocol, listener):
    vars(_module)["HEAD_TIMEOUT"] = _head
messages._BODY_TIMEOUT = _body
relay.HANDSHAKE_TIMEOUT = _handshake
grpc.ANSWER_TIMEOUT = _body
_set_default(TlsListener, "handshake_timeout", _handshake)
_set_default(ServerConnection, "connect_timeout", _connect)
