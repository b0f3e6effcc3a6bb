"""Code that connects a device under the rules of Yandex IoT Core, for several languages.

It reads ca.pem and, beside itself, device.pem and device.key, or password.txt. None of it has a secret.
"""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING, Literal

from thingmint.console.device_code import Code
from thingmint.domain.names import authority_of

if TYPE_CHECKING:
    from collections.abc import Mapping

SignIn = Literal["certificate", "password"]

_PAHO = """\
# pip install paho-mqtt
import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, reason, properties):
    print("connected:", reason)
    client.publish("$topic", "Hello", qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="$id")
$sign_in
client.on_connect = on_connect
client.connect("$host", $port)
client.loop_forever()
"""
_NODE = """\
// npm install mqtt; save this as device.mjs
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const client = mqtt.connect("mqtts://$authority", {
  clientId: "$id",
  ca: readFileSync("ca.pem"),
$sign_in
});
client.on("connect", () => {
  console.log("connected");
  client.publish("$topic", "Hello", { qos: 1 });
});
client.on("error", (error) => console.error(error.message));
"""
_ESP_IDF = """\
// CMakeLists.txt: idf_component_register(SRCS "main.c" EMBED_TXTFILES $embedded)
#include "mqtt_client.h"

extern const char ca_pem[] asm("_binary_ca_pem_start");
$declared

void start_mqtt(void)  // once the network is up and the clock is set
{
    const esp_mqtt_client_config_t config = {
        .broker.address.uri = "mqtts://$authority",
        .broker.verification.certificate = ca_pem,
        .credentials.client_id = "$id",
$sign_in
        .session.keepalive = 60,
    };
    esp_mqtt_client_handle_t client = esp_mqtt_client_init(&config);
    esp_mqtt_client_start(client);
    esp_mqtt_client_enqueue(client, "$topic", "Hello", 0, 1, 0, true);
}
"""
_ARDUINO = """\
// For an ESP32, with the library PubSubClient. Paste the text of the files.
#include <NetworkClientSecure.h>
#include <PubSubClient.h>

const char $declared;
NetworkClientSecure tls;
PubSubClient mqtt(tls);

void connectMqtt() {  // once the network is up and the clock is set
  tls.setCACert(ca_pem);
$sign_in
}
"""
_MOSQUITTO = """\
mosquitto_pub -h $host -p $port --cafile ca.pem $sign_in \\
  -i $id -q 1 -t '$topic' -m Hello
"""

# What differs between the ways to sign in: the values of the templates, by kind of device.
_BY_CERTIFICATE: Mapping[str, Mapping[str, str]] = {
    "paho": {"sign_in": 'client.tls_set("ca.pem", "device.pem", "device.key")'},
    "node": {"sign_in": '  cert: readFileSync("device.pem"),\n  key: readFileSync("device.key"),'},
    "esp-idf": {
        "embedded": '"ca.pem" "device.pem" "device.key"',
        "declared": 'extern const char device_pem[] asm("_binary_device_pem_start");\n'
        'extern const char device_key[] asm("_binary_device_key_start");',
        "sign_in": "        .credentials.authentication.certificate = device_pem,\n"
        "        .credentials.authentication.key = device_key,",
    },
    "arduino": {
        "declared": 'ca_pem[] = R"(...)", device_pem[] = R"(...)", device_key[] = R"(...)"',
        "sign_in": "  tls.setCertificate(device_pem);\n  tls.setPrivateKey(device_key);\n"
        '  mqtt.setServer("$host", $port);\n  if (mqtt.connect("$id")) mqtt.publish("$topic", "Hello");',
    },
    "mosquitto": {"sign_in": "--cert device.pem --key device.key"},
}
_BY_PASSWORD: Mapping[str, Mapping[str, str]] = {
    "paho": {"sign_in": 'client.tls_set("ca.pem")\nclient.username_pw_set("$id", open("password.txt").read())'},
    "node": {"sign_in": '  username: "$id",\n  password: readFileSync("password.txt", "utf8"),'},
    "esp-idf": {
        "embedded": '"ca.pem" "password.txt"',
        "declared": 'extern const char password_txt[] asm("_binary_password_txt_start");',
        "sign_in": '        .credentials.username = "$id",\n'
        "        .credentials.authentication.password = password_txt,",
    },
    "arduino": {
        "declared": 'ca_pem[] = R"(...)", password[] = "..."',
        "sign_in": '  mqtt.setServer("$host", $port);\n'
        '  if (mqtt.connect("$id", "$id", password)) mqtt.publish("$topic", "Hello");',
    },
    "mosquitto": {"sign_in": '-u $id -P "$$(cat password.txt)"'},
}
_SIGN_IN: Mapping[SignIn, Mapping[str, Mapping[str, str]]] = {
    "certificate": _BY_CERTIFICATE,
    "password": _BY_PASSWORD,
}
_KINDS = (
    ("paho", "Python with paho-mqtt", _PAHO),
    ("node", "Node.js", _NODE),
    ("esp-idf", "ESP-IDF", _ESP_IDF),
    ("arduino", "Arduino (ESP32)", _ARDUINO),
    ("mosquitto", "mosquitto_pub", _MOSQUITTO),
)


def yandex_code_for(device: str, host: str, port: int, sign_in: SignIn) -> list[Code]:
    """The code for each kind of device. An id has no character that is special in any of the languages."""
    values = {
        "id": device,
        "topic": events_topic(device),
        "host": host,
        "port": str(port),
        "authority": authority_of(host, port),
    }
    codes = []
    for id, title, text in _KINDS:
        own = {name: Template(each).substitute(values) for name, each in _SIGN_IN[sign_in][id].items()}
        codes.append(Code(id, title, Template(text).substitute(values, **own)))
    return codes


def events_topic(device: str) -> str:
    return f"$devices/{device}/events"
