"""Why a connection ended, in AWS's words, from the reason code that the client gets or would get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thingmint.mqtt.protocol.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.services.messages import DisconnectReason


_ENDINGS: Mapping[Reason, DisconnectReason] = {
    Reason.NOT_AUTHORIZED: "AUTH_ERROR",
    Reason.BAD_USER_NAME_OR_PASSWORD: "AUTH_ERROR",
    Reason.KEEP_ALIVE_TIMEOUT: "MQTT_KEEP_ALIVE_TIMEOUT",
    Reason.SESSION_TAKEN_OVER: "DUPLICATE_CLIENTID",
    Reason.ADMINISTRATIVE_ACTION: "API_INITIATED_DISCONNECT",
    Reason.SERVER_SHUTTING_DOWN: "SERVER_INITIATED_DISCONNECT",
    Reason.QUOTA_EXCEEDED: "THROTTLED",
    Reason.UNSPECIFIED_ERROR: "SERVER_ERROR",
    Reason.IMPLEMENTATION_SPECIFIC_ERROR: "SERVER_ERROR",
    Reason.SERVER_UNAVAILABLE: "SERVER_ERROR",
    Reason.SERVER_BUSY: "SERVER_ERROR",
}


def ending_of(reason: Reason) -> DisconnectReason:
    """Returns AWS's word for an end by the server. The other codes are for errors of the client."""
    return _ENDINGS.get(reason, "CLIENT_ERROR")
