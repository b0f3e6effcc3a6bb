"""What a device sends over MQTT to get the same, with JSON and with CBOR."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

from thingmint.console.playground.shown_code import Addresses, Equivalent
from thingmint.console.playground.writing import (
    PYTHON,
    Base64,
    FromEnvironment,
    python_imports,
    python_text,
    shell_command,
    shell_word,
    written,
)

if TYPE_CHECKING:
    from thingmint.console.playground.held_values import HeldValues
    from thingmint.console.playground.operations import Operation

_TEMPLATE: Final = "TEMPLATE_NAME"
_TOKEN: Final = "CERTIFICATE_OWNERSHIP_TOKEN"  # noqa: S105 - a variable's name
_TOPICS: Final = {
    "CreateKeysAndCertificate": "$aws/certificates/create",
    "CreateCertificateFromCsr": "$aws/certificates/create-from-csr",
    "RegisterThing": f"$aws/provisioning-templates/{_TEMPLATE}/provision",
}
_FILES: Final = (
    "It reads ca.pem, device.pem and device.key: the server's root, and a certificate whose policy allows these topics."
)
_REGISTER: Final = (
    f" Over MQTT a device names a template in the topic, in place of {_TEMPLATE}, and sends the token that it got with "
    f"its certificate: set the variable {_TOKEN}."
)
_PUBLISHED: Final = {
    "DeviceDataService.Publish": "device",
    "RegistryDataService.Publish": "registry",
    "BrokerDataService.Publish": "client",
}
_PROGRAM: Final = """\
# pip install paho-mqtt{more}
{imports}
import paho.mqtt.client as mqtt

# Answer:  {topic}/accepted
# Refusal: {topic}/rejected
TOPIC = {topic_text}
REQUEST = {request}


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe([(f"{{TOPIC}}/accepted", 1), (f"{{TOPIC}}/rejected", 1)])


def on_subscribe(client, userdata, message_id, reasons, properties):
    client.publish(TOPIC, {format}.dumps(REQUEST), qos=1)


def on_message(client, userdata, message):
    print(message.topic)
    print({format}.loads(message.payload))
    client.disconnect()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.tls_set("ca.pem", "device.pem", "device.key")
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect({host}, {port})
client.loop_forever()"""


def mqtt(operation: Operation, given: HeldValues, addresses: Addresses) -> list[Equivalent]:
    """Empty if devices have no such request."""
    if operation.api == "aws" and operation.id in _TOPICS:
        return [
            _provisioning(operation, given, addresses, "json", "JSON", "json"),
            _provisioning(operation, given, addresses, "cbor", "CBOR", "cbor2"),
        ]
    if operation.api == "yandex" and operation.id in _PUBLISHED:
        return [_publish(given, addresses, _PUBLISHED[operation.id])]
    return []


def _provisioning(
    operation: Operation, given: HeldValues, addresses: Addresses, format: str, title: str, module: str
) -> Equivalent:
    request = _request(operation, given)
    topic = f"{_TOPICS[operation.id]}/{format}"
    standard = [*python_imports(request), *(["import json"] if module == "json" else [])]
    imports = sorted(standard, key=lambda line: (line.startswith("from"), line))
    third_party = ["import cbor2"] if module == "cbor2" else []
    text = _PROGRAM.format(
        more=f" {module}" if third_party else "",
        imports="\n".join([*imports, *([""] if imports else []), *third_party]),
        topic=topic,
        topic_text=python_text(topic),
        request=written(request, PYTHON),
        format=module,
        host=python_text(addresses.mqtt_host),
        port=addresses.mqtt_port,
    )
    note = _FILES + (_REGISTER if operation.id == "RegisterThing" else "")
    return Equivalent(f"mqtt-{format}", f"MQTT, {title}", text, note)


def _request(operation: Operation, given: HeldValues) -> dict[str, Any]:
    if operation.id == "RegisterThing":
        return {"certificateOwnershipToken": FromEnvironment(_TOKEN), "parameters": given.values.get("parameters", {})}
    names = {"certificateSigningRequest"}
    return {name: value for name, value in given.values.items() if name in names}


def _publish(given: HeldValues, addresses: Addresses, sender: str) -> Equivalent:
    """The message as the device, registry or broker's client itself publishes it."""
    words = [
        f"mosquitto_pub -h {shell_word(addresses.mqtt_host)} -p {addresses.mqtt_port} --cafile ca.pem",
        f"--cert {sender}.pem --key {sender}.key",
        f"-q 1 -t {shell_word(str(given.values.get('topic', '')))}",
    ]
    payload = _payload(given.values.get("data"))
    if payload is None:
        data = given.values["data"]
        text = data.text if isinstance(data, Base64) else str(data)
        command = shell_command([*words, "-s"], f"printf %s {shell_word(text)} | base64 --decode")
    else:
        command = shell_command([*words, f"-m {shell_word(payload)}" if payload else "-n"])
    note = f"It reads {sender}.pem and {sender}.key, a certificate of that {sender} and its key."
    return Equivalent("mqtt", "MQTT", command, note)


def _payload(data: Any) -> str | None:
    """The message if it is a text that can be on a command line."""
    if not isinstance(data, Base64):
        return "" if data is None else None
    try:
        text = b64decode(data.text, validate=True).decode()
    except ValueError:  # no Base64, or no UTF-8
        return None
    return text if text.replace("\n", "").isprintable() else None
