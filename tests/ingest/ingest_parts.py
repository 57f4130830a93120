"""A real broker, a real gateway and nodes that speak MQTT through paho, an independent client."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import pytest
from coincurve import PrivateKey

from sensorhub import wire
from sensorhub.ingest import packets
from sensorhub.ingest.broker import EmbeddedBroker
from sensorhub.ingest.service import Ingest
from sensorhub.ingest.subscriber import Endpoint
from sensorhub.log.entries import Entry, MessageEntry, NodeEntry, decode_entry
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.nodes.claims import Claims
from sensorhub.status import StatusFile

SITE = "lab"
GATEWAY = "gw1"
PASSWORDS: dict[tuple[Path, str], str] = {}
"""Of (password file, user): made once, since the broker needs up to a second to learn a new one."""
CHANNELS = (("temperature", "Cel"), ("pressure", "hPa"))


def eventually(condition: Callable[[], Any], *, seconds: float = 90.0) -> Any:
    """The first true value of `condition`; fails when there is none in a generous time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {seconds} s")
        time.sleep(0.01)
    return value


class Node:
    """A node: key, sequence, chain of hashes, and everything it sent and was receipted."""

    def __init__(self, name: str, number: int = 1, site: str = SITE) -> None:
        self.name = name
        self.site = site
        self.key = PrivateKey(bytes([number]) * 32)
        self.public_key = self.key.public_key.format(compressed=False)[1:]
        self.kid = wire.kid(self.public_key)
        self.boot = 1
        self.seq = 0
        self.prev = bytes(32)
        self.sent: dict[int, bytes] = {}
        self.receipts: list[tuple[int, int]] = []
        self.client: mqtt.Client | None = None

    def message(self, value: float = 20.5, *, seq: int | None = None, base_time: int | None = None) -> bytes:
        """The next signed message of two readings; remembered, and the chain moves on."""
        self.seq = self.seq + 1 if seq is None else seq
        raw = wire.encode_message(
            self.key,
            site=self.site,
            node=self.name,
            boot=self.boot,
            seq=self.seq,
            prev=self.prev,
            tq=2,
            uptime=self.seq,
            base_time=int(time.time()) if base_time is None else base_time,
            records=[("temperature", value, 0), ("pressure", 1013, 0)],
        )
        self.prev = wire.parse_signed(raw).message_hash
        self.sent[self.seq] = raw
        return raw

    def announcement(self, claim: bytes | None = None, *, oldest: int = 1) -> bytes:
        return wire.encode_announce(
            self.key,
            site=self.site,
            node=self.name,
            boot=self.boot,
            tq=0,
            uptime=1,
            kind="weather",
            hardware="bench",
            firmware="1.0",
            channels=CHANNELS,
            claim=claim,
            oldest=oldest,
        )

    def connect(self, broker: EmbeddedBroker, *, user: str | None = None, clean: bool = True) -> None:
        user = user or self.name
        password = PASSWORDS.get((broker.users.path, user)) or broker.users.add(user)
        PASSWORDS[broker.users.path, user] = password
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=f"node-{self.name}", clean_session=clean
        )
        self.client.username_pw_set(user, password)
        subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe(
            wire.topic(self.site, self.name, "receipt"), qos=1
        )
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda _c, _u, m: self.receipts.append(wire.decode_receipt(m.payload))
        self.client.reconnect_delay_set(1, 1)
        # the broker reads a new user within a second
        deadline = time.monotonic() + 90
        self.client.connect_async(broker.host, broker.port)
        self.client.loop_start()
        while not subscribed.wait(0.05):
            assert time.monotonic() < deadline, "the node cannot log in"

    def publish(self, leaf: str, payload: bytes, *, topic: str | None = None) -> mqtt.MQTTMessageInfo:
        assert self.client is not None
        return self.client.publish(topic or wire.topic(self.site, self.name, leaf), payload, qos=1)

    def announce(self, claim: bytes | None = None, *, oldest: int = 1) -> None:
        self.publish("announce", self.announcement(claim, oldest=oldest)).wait_for_publish(90)

    def send(self, raw: bytes | None = None) -> bytes:
        raw = self.message() if raw is None else raw
        self.publish("data", raw)
        return raw

    def disconnect(self) -> None:
        if self.client is not None:
            self.client.disconnect()
            self.client.loop_stop()
            self.client = None


class Gateway:
    """An ingest in a thread, on a broker that outlives it."""

    def __init__(self, data_dir: Path, broker: EmbeddedBroker, site: str = SITE) -> None:
        self.data_dir = data_dir
        self.site = site
        self.broker = broker
        self.claims = Claims(data_dir / "claims.json")
        self.ingest: Ingest | None = None
        self.thread: threading.Thread | None = None
        self.failure: BaseException | None = None

    def endpoint(self) -> Endpoint:
        broker = self.broker
        return Endpoint(broker.host, broker.port, "gateway", broker.username, broker.password)

    def start(self, **options: Any) -> Ingest:
        ingest = self.ingest = Ingest(
            data_dir=self.data_dir,
            site=self.site,
            gateway=GATEWAY,
            signer=signer(self.site),
            endpoint=self.endpoint(),
            status=StatusFile(self.data_dir, "ingest"),
            **options,
        )

        def run() -> None:
            try:
                ingest.run()
            except BaseException as error:
                self.failure = error

        self.thread = threading.Thread(target=run)
        self.thread.start()
        eventually(lambda: ingest.wait_started(0.01) or self.failure)
        if self.failure is not None:
            raise self.failure
        return ingest

    def stop(self) -> None:
        if self.ingest is not None and self.thread is not None:
            self.ingest.stop()
            self.thread.join(90)
            assert not self.thread.is_alive()
            self.ingest = self.thread = None
            let_read(self.broker)

    def fields(self) -> dict[str, Any]:
        assert self.ingest is not None
        return self.ingest.fields()

    def entries(self) -> list[Entry]:
        with LogReader(self.data_dir / "log") as reader:
            return [decode_entry(entry) for _, entry in reader.entries(0)]

    def messages(self) -> list[bytes]:
        return [entry.message for entry in self.entries() if isinstance(entry, MessageEntry)]

    def node_entries(self, event: str) -> list[NodeEntry]:
        return [e for e in self.entries() if isinstance(e, NodeEntry) and e.event == event]


class Process:
    """An ingest in a process of its own, to be killed."""

    def __init__(self, gateway: Gateway, **options: Any) -> None:
        broker = gateway.broker
        self.gateway = gateway
        settings = {
            "data_dir": str(gateway.data_dir),
            "site": SITE,
            "gateway": GATEWAY,
            "host": broker.host,
            "port": broker.port,
            "username": broker.username,
            "password": broker.password,
            "options": options,
        }
        self.popen = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("serve.py"))], stdin=subprocess.PIPE
        )
        assert self.popen.stdin is not None
        self.popen.stdin.write(msgspec.json.encode(settings))
        self.popen.stdin.close()

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            fields = msgspec.json.decode((self.gateway.data_dir / "status" / "ingest.json").read_bytes())
            if fields["pid"] == self.popen.pid:
                return dict(fields)
        return {}

    def wait_connected(self) -> None:
        eventually(lambda: self.status().get("connected"))

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def end(self) -> None:
        self.popen.terminate()
        assert self.popen.wait(90) == 0


def signer(site: str = SITE) -> NoteSigner:
    return NoteSigner(f"{site}.{GATEWAY}/sensorhub", bytes(range(32)))


def listens(port: int) -> bool:
    """Whether a server accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10):
        return True
    return False


def let_read(broker: EmbeddedBroker) -> None:
    """Returns when a broker that runs has read what clients sent before they left.

    It reads a packet of each at a time, and who comes back under his old name ends the reading of the old connection.
    """
    account = (broker.username, broker.password)
    with contextlib.suppress(OSError), socket.create_connection((broker.host, broker.port), 90) as connection:
        connection.sendall(packets.connect(f"look-{time.monotonic_ns()}", *account, 60))
        if connection.recv(4)[3:] != b"\x00":
            return
        for _ in range(50):
            connection.sendall(packets.PING)
            connection.recv(2)
        connection.sendall(packets.GOODBYE)


def forget_session(gateway: Gateway) -> None:
    """Ends a stopped gateway's persistent session, so that the broker does not queue for it."""
    broker = gateway.broker
    client_id = (gateway.data_dir / "keys" / "mqtt-client-id").read_text().strip()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True)
    client.username_pw_set(broker.username, broker.password)
    client.connect(broker.host, broker.port)
    client.loop_start()
    eventually(client.is_connected)
    client.disconnect()
    client.loop_stop()
