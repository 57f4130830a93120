"""The gateway's own MQTT client against a real mosquitto: TLS, back-pressure, redelivery, refusals."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ingest_parts import Gateway, Node, eventually, let_read, listens

from sensorhub.ingest.broker import EmbeddedBroker, find_mosquitto
from sensorhub.ingest.packets import Publish
from sensorhub.ingest.subscriber import Endpoint, Subscriber


class Received:
    """A subscriber in a thread that keeps what it is given."""

    def __init__(self, endpoint: Endpoint, *filters: str, limit: int = 8_192) -> None:
        self.messages: list[tuple[Publish, int]] = []
        self._lock = threading.Lock()
        self.subscriber = Subscriber(endpoint, filters, self._deliver, limit=limit)
        self.thread = threading.Thread(target=self.subscriber.run)
        self.thread.start()

    def _deliver(self, messages: list[Publish], epoch: int) -> None:
        with self._lock:
            self.messages += [(message, epoch) for message in messages]

    def settle(self, count: int | None = None) -> list[bytes]:
        """Acknowledges the oldest messages, or all that are there; their payloads."""
        with self._lock:
            taken = self.messages[:count]
            del self.messages[:count]
        for message, epoch in taken:
            self.subscriber.settle([message.mid], 1, epoch)
        return [message.payload for message, _ in taken]

    def close(self) -> None:
        self.subscriber.stop()
        self.thread.join(90)
        assert not self.thread.is_alive()
        self.subscriber.close()


def endpoint(broker: EmbeddedBroker, client_id: str, **changes: object) -> Endpoint:
    fields: dict[str, object] = {
        "host": broker.host, "port": broker.port, "client_id": client_id, "username": broker.username,
        "password": broker.password,
    }  # fmt: skip
    return Endpoint(**{**fields, **changes})  # type: ignore[arg-type]


def certificate(directory: Path) -> None:
    """A self-signed certificate for 127.0.0.1 with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture
def secure_port(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[int]:
    """A mosquitto that speaks TLS only."""
    certificate(tmp_path)
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\ncertfile {tmp_path}/cert.pem\nkeyfile {tmp_path}/key.pem\n"
        "max_inflight_messages 1000\nmax_queued_messages 0\nuser root\n"
    )
    program = find_mosquitto()
    assert program is not None
    with subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL) as process:
        eventually(lambda: listens(port))
        yield port
        process.terminate()


def test_tls_carries_a_flood(secure_port: int, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    received = Received(Endpoint("127.0.0.1", secure_port, "tls", tls=context), "a/+")
    try:
        eventually(lambda: received.subscriber.subscribed)
        sender = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        sender.tls_set_context(context)
        sender.max_inflight_messages_set(500)
        sender.connect("127.0.0.1", secure_port)
        sender.loop_start()
        expected = [b"%d " % number * 300 for number in range(2_000)]
        for payload in expected:
            sender.publish("a/b", payload, qos=1)
        found: list[bytes] = []

        def drained() -> bool:
            found.extend(received.settle())
            return len(found) >= len(expected)

        eventually(drained)
        assert found == expected
        assert received.subscriber.publish("a/c", b"down")
        sender.disconnect()
        sender.loop_stop()
    finally:
        received.close()


def test_an_untrusted_certificate_is_named(secure_port: int) -> None:
    received = Received(Endpoint("127.0.0.1", secure_port, "tls", tls=ssl.create_default_context()), "a/+")
    try:
        eventually(lambda: "is not trusted" in str(received.subscriber.error))
    finally:
        received.close()


def test_the_socket_is_not_read_beyond_the_limit(shared_broker: EmbeddedBroker, node: Node) -> None:
    received = Received(endpoint(shared_broker, "slow"), "sensorhub/v1/lab/+/data", limit=100)
    try:
        eventually(lambda: received.subscriber.subscribed)
        payloads = [b"%d " % number * 700 for number in range(3_000)]
        for payload in payloads:
            node.publish("data", payload)
        eventually(lambda: len(received.messages) >= 100)
        time.sleep(0.5)
        held = len(received.messages)
        assert held < 1_000
        found: list[bytes] = []

        def drained() -> bool:
            found.extend(received.settle())
            return len(found) >= len(payloads)

        eventually(drained)
        assert found == payloads
    finally:
        received.close()


def test_what_is_not_acknowledged_comes_again_marked_as_such(
    shared_broker: EmbeddedBroker, node: Node
) -> None:
    first = Received(endpoint(shared_broker, "again"), "sensorhub/v1/lab/+/data")
    eventually(lambda: first.subscriber.subscribed)
    for number in range(10):
        node.publish("data", b"%d" % number)
    eventually(lambda: len(first.messages) == 10)
    first.settle(4)
    first.close()  # says what was acknowledged before it goes
    let_read(shared_broker)
    second = Received(endpoint(shared_broker, "again"), "sensorhub/v1/lab/+/data")
    try:
        eventually(lambda: len(second.messages) == 6)
        assert [message.payload for message, _ in second.messages] == [b"%d" % n for n in range(4, 10)]
        assert all(message.flags & 8 for message, _ in second.messages), "DUP"
    finally:
        second.close()


@pytest.mark.parametrize(
    ("changes", "filters", "what"),
    [
        (
            {"password": "wrong"},
            ["sensorhub/v1/lab/+/data"],
            "refused the user name or password|does not let",
        ),
        ({"port": 1}, ["sensorhub/v1/lab/+/data"], "cannot reach the broker at 127.0.0.1:1"),
    ],
)
def test_a_refusal_is_named_and_tried_again(
    shared_broker: EmbeddedBroker, changes: dict[str, object], filters: list[str], what: str
) -> None:
    received = Received(endpoint(shared_broker, "refused", **changes), *filters)
    try:
        error = eventually(lambda: received.subscriber.error)
        assert re.search(what, error)
        assert "wrong" not in error
    finally:
        received.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x02\x00\x05",
        b"\x20\x02\x00\x00\x10\x00",
        bytes(5_000),
    ],
)
def test_a_server_that_is_no_broker_does_no_harm(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                connection.recv(4_096)
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        received = Received(Endpoint("127.0.0.1", server.getsockname()[1], "x"), "a/+")
        try:
            eventually(lambda: received.subscriber.error)
            thread.join(90)
            assert not thread.is_alive(), "it connects again"
            assert received.messages == []
        finally:
            received.close()


def test_dropped_messages_are_noticed_on_a_stock_broker(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """mosquitto counts what it drops; the gateway reads that count."""
    port = free_port()
    config = tmp_path / "stock.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nsys_interval 1\nuser root\n")
    program = find_mosquitto()
    assert program is not None
    process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
    broker = EmbeddedBroker(tmp_path / "unused", port=port)
    gateway = Gateway(tmp_path / "data", broker)
    gateway.data_dir.mkdir()
    try:
        eventually(lambda: listens(port))
        gateway.start()
        sender = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        sender.max_inflight_messages_set(100)
        sender.connect("127.0.0.1", port)
        sender.loop_start()
        eventually(sender.is_connected)
        ingest = gateway.ingest
        assert ingest is not None
        eventually(lambda: ingest._dropped is not None)
        gateway.stop()
        for _ in range(1_500):
            sender.publish("sensorhub/v1/lab/roof/data", b"x", qos=1)
        eventually(lambda: not sender._out_messages)
        time.sleep(1.1)
        again = gateway.start()
        # dropped while the gateway was away is said as soon as the count grows again
        blocker = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="away", clean_session=False)
        subscribed = threading.Event()
        blocker.on_subscribe = lambda *_: subscribed.set()
        blocker.connect("127.0.0.1", port)
        blocker.loop_start()
        eventually(blocker.is_connected)
        blocker.subscribe("b", 1)
        assert subscribed.wait(90)
        blocker.disconnect()
        blocker.loop_stop()
        eventually(lambda: again._dropped is not None)
        for _ in range(1_500):
            sender.publish("b", b"x", qos=1)
        eventually(lambda: any("max_queued_messages" in w for w in again.warnings()))
        sender.disconnect()
        sender.loop_stop()
    finally:
        gateway.stop()
        process.terminate()
        process.wait()
