"""The load on the MQTT gateway: one process that acts as many devices, over TLS 1.3 and MQTT 3.1.1.

Run as a module, it reads one order from each line of standard input and writes one result in a line, as ``load.py``
does. What the devices do are the conversations of a Swarm.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.mqtt_packets import connect_packet, puback_for, publish_packet, subscribe_packet, topic_and_payload
from benchmarks.mqtt_swarm import CLOSED, HEARD, READY, Device, Identity, LoadFailed, Swarm

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__: list[str] = []

_INDEX = 6  # digits of a publisher's index at the beginning of a message


def letting_in(device: Device) -> Generator[None, bytes, None]:
    """Connects over TCP and TLS, sends CONNECT and waits for CONNACK."""
    device.open()
    if (yield) != READY:
        raise LoadFailed(f"device {device.number}: no handshake")
    device.send(connect_packet(device.client_id, device.identity.user_name, device.identity.password))
    answer = yield
    if answer[:1] != b"\x20" or answer[3]:
        raise LoadFailed(f"device {device.number}: CONNECT was answered with {answer!r}")


def leaving(device: Device) -> Generator[None, bytes, None]:
    device.end()
    while (yield) != CLOSED:
        pass


def visiting(device: Device) -> Generator[None, bytes, None]:
    while device.swarm.goes_on():
        began = time.perf_counter()
        yield from letting_in(device)
        device.swarm.done(began)
        yield from leaving(device)
        device.identity = device.swarm.next_identity()


def staying(device: Device) -> Generator[None, bytes, None]:
    yield from letting_in(device)


def subscribing(device: Device, filter: str) -> Generator[None, bytes, None]:
    device.send(subscribe_packet(1, filter))
    answer = yield
    if answer[:1] != b"\x90" or answer[-1] != 1:
        raise LoadFailed(f"SUBSCRIBE was answered with {answer!r}")


def publishing(
    device: Device, topic: str, payload: bytes, *, echo: bool = False, heard: bool = False
) -> Generator[None, bytes, None]:
    """Publishes one message at a time: waits for its PUBACK, and until it is delivered back or heard."""
    swarm, id = device.swarm, 0
    while swarm.goes_on():
        id = id % 65_535 + 1
        acknowledged, delivered = False, not (echo or heard)
        began = time.perf_counter()
        device.send(publish_packet(topic, payload, id))
        while not (acknowledged and delivered):
            answer = yield
            if answer[:1] == b"\x40" and int.from_bytes(answer[2:4], "big") == id:
                acknowledged = True
            elif echo and answer[:1] == b"\x32":
                device.send(puback_for(answer))
                delivered = True
            elif heard and answer == HEARD:
                delivered = True
            else:
                raise LoadFailed(f"PUBLISH was answered with {answer!r}")
        swarm.done(began)


def hearing(device: Device, publishers: Sequence[Device]) -> Generator[None, bytes, None]:
    """Receives the publishers' messages, and resumes each publisher. Never ends."""
    while True:
        answer = yield
        if answer[:1] != b"\x32":
            raise LoadFailed(f"a subscriber got {answer!r}")
        device.send(puback_for(answer))
        _, payload = topic_and_payload(answer)
        device.swarm.resume(publishers[int(payload[:_INDEX])], HEARD)


def waiting(device: Device, moments: dict[int, float]) -> Generator[None, bytes, None]:
    """Waits until the server closes the connection."""
    while (yield) != CLOSED:
        pass
    moments[device.number] = time.perf_counter()


def provisioning(device: Device, order: dict[str, Any], folder: Path) -> Generator[None, bytes, None]:
    """Fleet provisioning: connects with the claim certificate, gets its own certificate, and connects with that."""
    swarm, claim = device.swarm, device.identity
    own = folder / f"{device.number}.pem"
    create = f"$aws/certificates/create{'' if order['csr'] is None else '-from-csr'}/json"
    register = f"$aws/provisioning-templates/{order['template']}/provision/json"
    request = {} if order["csr"] is None else {"certificateSigningRequest": order["csr"]}
    while swarm.goes_on():
        began = time.perf_counter()
        device.identity = claim
        device.client_id = f"claim-{device.number}"
        yield from letting_in(device)
        device.send(subscribe_packet(1, *(f"{topic}/{end}" for topic in (create, register) for end in _ENDS)))
        if (yield)[:1] != b"\x90":
            raise LoadFailed("SUBSCRIBE was refused")
        made = yield from _asking(device, create, request)
        serial = f"{order['prefix']}-{next(swarm.serials)}"
        asked = {
            "certificateOwnershipToken": made["certificateOwnershipToken"],
            "parameters": {"SerialNumber": serial},
        }
        device.client_id = (yield from _asking(device, register, asked))["thingName"]
        yield from leaving(device)
        own.write_text(made["certificatePem"] + made.get("privateKey", order["key"]))
        device.identity = Identity(str(own))
        yield from letting_in(device)
        swarm.done(began)
        yield from leaving(device)
    own.unlink(missing_ok=True)


_ENDS = ("accepted", "rejected")


def _asking(device: Device, topic: str, request: Any) -> Generator[None, bytes, dict[str, Any]]:
    device.send(publish_packet(topic, json.dumps(request).encode(), 7))
    acknowledged = False
    reply: tuple[str, bytes] | None = None
    while reply is None or not acknowledged:
        answer = yield
        if answer[:1] == b"\x40":
            acknowledged = True
        elif answer and answer[0] & 0xF0 == 0x30:
            if answer[0] & 0x06:
                device.send(puback_for(answer))
            reply = topic_and_payload(answer)
        else:
            raise LoadFailed(f"{topic} was answered with {answer!r}")
    if not reply[0].endswith("/accepted"):
        raise LoadFailed(f"{reply[0]}: {reply[1].decode(errors='replace')}")
    result: dict[str, Any] = json.loads(reply[1])
    return result


def _publish(swarm: Swarm, *, topic: str, bytes: int, echo: bool, hearer: dict[str, Any] | None, **_: Any) -> None:
    """Publishes from all devices that stayed. ``hearer`` is a further one, which receives all messages."""
    topics = [topic.format(device.client_id) for device in swarm.devices]
    if echo:
        for device, own in zip(swarm.devices, topics, strict=True):
            swarm.start(device, subscribing(device, own))
        swarm.run()
    if hearer is not None:
        ears = Device(swarm, 0, Identity(*hearer["identity"]))
        ears.client_id = "hearer"
        swarm.start(ears, staying(ears))
        swarm.run()
        swarm.start(ears, subscribing(ears, hearer["filter"]))
        swarm.run()
        ears.conversation = hearing(ears, swarm.devices)
        next(ears.conversation)
    for index, (device, own) in enumerate(zip(swarm.devices, topics, strict=True)):
        payload = f"{index:0{_INDEX}}".encode().ljust(bytes, b"x")
        swarm.start(device, publishing(device, own, payload, echo=echo, heard=hearer is not None))
    swarm.run()
    if hearer is not None:
        swarm.start(ears, leaving(ears))
        swarm.run()


def _serve(swarm: Swarm, order: dict[str, Any]) -> dict[str, Any]:
    cpu, start = time.process_time(), time.perf_counter()
    swarm.latencies = []
    swarm.deadline = start + order.get("seconds", 0.0)
    swarm.left = order.get("count", sys.maxsize)
    devices: Sequence[Device] = swarm.devices
    further: dict[str, Any] = {}
    kind = order["order"]
    if kind == "visit":
        for _ in range(order["devices"]):
            device = swarm.new_device()
            swarm.start(device, visiting(device))
        swarm.run()
    elif kind == "stay":
        wanted = iter(range(order["devices"]))
        fresh: list[Device] = []

        def more() -> bool:
            if next(wanted, None) is None:
                return False
            fresh.append(swarm.new_device())
            swarm.start(fresh[-1], staying(fresh[-1]))
            return True

        swarm.run(more, at_once=64)
        swarm.devices += fresh
        further = {"identities": [device.identity.certificate for device in fresh]}
    elif kind == "publish":
        _publish(swarm, **order)
    elif kind == "wait":
        moments: dict[int, float] = {}
        for device in devices:
            swarm.start(device, waiting(device, moments))
        print(json.dumps({"waiting": len(devices)}), flush=True)
        swarm.run()
        further = {"moments": [moments[device.number] for device in devices]}
        swarm.devices = []
    elif kind == "provision":
        for _ in range(order["devices"]):
            device = swarm.new_device()
            swarm.start(device, provisioning(device, order, Path(order["folder"])))
        swarm.run()
    else:
        raise ValueError(kind)
    swarm.latencies.sort()
    return {
        "answered": len(swarm.latencies),
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "latencies": swarm.latencies,
        **further,
    }


def _main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    swarm = Swarm(json.loads(sys.stdin.readline()))
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(_serve(swarm, json.loads(line))), flush=True)


if __name__ == "__main__":
    try:
        _main()
    except (LoadFailed, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
