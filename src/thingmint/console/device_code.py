"""Code that connects a device, for several languages. It reads ca.pem, device.pem and device.key beside itself."""

from __future__ import annotations

from string import Template
from typing import NamedTuple

from thingmint.domain.names import authority_of

_PAHO = """\
# pip install paho-mqtt
import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, reason, properties):
    print("connected:", reason)
    client.publish("$topic", "Hello", qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="$name", protocol=mqtt.MQTTv5)
client.tls_set("ca.pem", "device.pem", "device.key")
client.on_connect = on_connect
client.connect("$host", $port)
client.loop_forever()
"""
_AWS_SDK = """\
# pip install awsiotsdk
from awscrt import mqtt
from awsiot import mqtt_connection_builder

connection = mqtt_connection_builder.mtls_from_path(
    endpoint="$host",
    port=$port,
    ca_filepath="ca.pem",
    cert_filepath="device.pem",
    pri_key_filepath="device.key",
    client_id="$name",
    clean_session=True,
    keep_alive_secs=60,
)
connection.connect().result()
print("connected")
connection.publish("$topic", "Hello", mqtt.QoS.AT_LEAST_ONCE)[0].result()
input("Press Enter to disconnect")
connection.disconnect().result()
"""
_NODE = """\
// npm install mqtt; save this as device.mjs
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const client = mqtt.connect("mqtts://$authority", {
  clientId: "$name",
  ca: readFileSync("ca.pem"),
  cert: readFileSync("device.pem"),
  key: readFileSync("device.key"),
  protocolVersion: 5,
});
client.on("connect", () => {
  console.log("connected");
  client.publish("$topic", "Hello", { qos: 1 });
});
client.on("error", (error) => console.error(error.message));
"""
_ESP_IDF = """\
// CMakeLists.txt: idf_component_register(SRCS "main.c" EMBED_TXTFILES "ca.pem" "device.pem" "device.key")
#include "mqtt_client.h"

extern const char ca_pem[] asm("_binary_ca_pem_start");
extern const char device_pem[] asm("_binary_device_pem_start");
extern const char device_key[] asm("_binary_device_key_start");

void start_mqtt(void)  // once the network is up and the clock is set
{
    const esp_mqtt_client_config_t config = {
        .broker.address.uri = "mqtts://$authority",
        .broker.verification.certificate = ca_pem,
        .credentials.client_id = "$name",
        .credentials.authentication.certificate = device_pem,
        .credentials.authentication.key = device_key,
        .session.keepalive = 60,
    };
    esp_mqtt_client_handle_t client = esp_mqtt_client_init(&config);
    esp_mqtt_client_start(client);
    esp_mqtt_client_enqueue(client, "$topic", "Hello", 0, 1, 0, true);
}
"""
_ARDUINO = """\
// For an ESP32, with the library PubSubClient. Paste the text of the three files.
#include <NetworkClientSecure.h>
#include <PubSubClient.h>

const char ca_pem[] = R"(...)", device_pem[] = R"(...)", device_key[] = R"(...)";
NetworkClientSecure tls;
PubSubClient mqtt(tls);

void connectMqtt() {  // once the network is up and the clock is set
  tls.setCACert(ca_pem);
  tls.setCertificate(device_pem);
  tls.setPrivateKey(device_key);
  mqtt.setServer("$host", $port);
  if (mqtt.connect("$name")) mqtt.publish("$topic", "Hello");
}
"""
_MOSQUITTO = """\
mosquitto_pub -h $host -p $port --cafile ca.pem --cert device.pem --key device.key \\
  -i $name -q 1 -t $topic -m Hello
"""
_KINDS = (
    ("paho", "Python with paho-mqtt", _PAHO),
    ("awsiotsdk", "Python with awsiotsdk", _AWS_SDK),
    ("node", "Node.js", _NODE),
    ("esp-idf", "ESP-IDF", _ESP_IDF),
    ("arduino", "Arduino (ESP32)", _ARDUINO),
    ("mosquitto", "mosquitto_pub", _MOSQUITTO),
)


class Code(NamedTuple):
    """``id`` is for the page's elements, ``title`` for people."""

    id: str
    title: str
    text: str


def code_for(thing: str, host: str, port: int) -> list[Code]:
    """The code for each kind of device. A thing's name has no character that is special in any of the languages."""
    values = {
        "name": thing,
        "topic": topic_of(thing),
        "host": host,
        "port": str(port),
        "authority": authority_of(host, port),
    }
    return [Code(id, title, Template(text).substitute(values)) for id, title, text in _KINDS]


def topic_of(thing: str) -> str:
    return f"devices/{thing}/hello"
