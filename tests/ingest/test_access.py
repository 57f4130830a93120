"""Who may write and read what, asked of real brokers: every user tries every topic."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from ingest_parts import eventually, listens

from sensorhub.ingest import packets
from sensorhub.ingest.access import acl, grants, permitted
from sensorhub.ingest.broker import EmbeddedBroker, Kind, find_mosquitto
from sensorhub.ingest.users import CONTROL, GATEWAY, HOME, hash_password

ROOM = "sensorhub/v1/lab/roof"
OTHER = "cellar"
NODE = "roof"
#: topic: who may write it, who may read it
TOPICS: Mapping[str, tuple[set[str], set[str]]] = {
    f"{ROOM}/announce": ({NODE}, {GATEWAY}),
    f"{ROOM}/data": ({NODE}, {GATEWAY}),
    f"{ROOM}/status": ({NODE}, {GATEWAY, CONTROL, HOME}),
    f"{ROOM}/snapshot": ({NODE}, {GATEWAY, CONTROL}),
    f"{ROOM}/receipt": ({GATEWAY}, {GATEWAY, NODE}),
    f"{ROOM}/config": ({CONTROL}, {GATEWAY, NODE}),
    f"{ROOM}/update": ({CONTROL}, {GATEWAY, NODE}),
    f"{ROOM}/state": ({CONTROL}, {GATEWAY, HOME}),
    f"{ROOM}/other": (set(), {GATEWAY}),
    "homeassistant/device/sensorhub_lab_roof/config": ({CONTROL}, {HOME}),
    "homeassistant/status": ({CONTROL, HOME}, {CONTROL, HOME}),
    "homeassistant": ({CONTROL}, {HOME}),
    "sensorhub/v1": (set(), {GATEWAY}),
    "elsewhere": (set(), set()),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A broker, and the name and password there of each user of the table."""

    port: int
    users: Mapping[str, tuple[str, str]]


@pytest.fixture(scope="module", params=["mosquitto", "amqtt", "acl file"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("access")
    if request.param == "acl file":
        yield from external(folder, free_port())
        return
    kind: Kind = request.param
    broker = EmbeddedBroker(folder, port=free_port(), kind=kind)
    users = {name: (name, broker.users.add(name)) for name in (NODE, OTHER, HOME)}
    with broker:
        # a password that is replaced while it runs is known to it a moment later, so these come last
        yield Place(
            broker.port,
            users
            | {
                GATEWAY: (GATEWAY, broker.password),
                CONTROL: (CONTROL, broker.control_password),
            },
        )


def external(folder: Path, port: int) -> Iterator[Place]:
    """mosquitto as the gateway's owner runs it, with the access list that is shipped for that."""
    acl_file = Path(__file__).parents[2] / "gateway" / "mosquitto" / "acl"
    (folder / "acl").write_text(acl_file.read_text())
    names = {GATEWAY: "gateway", CONTROL: "gateway", HOME: "home", NODE: NODE, OTHER: OTHER}
    (folder / "passwords").write_text(
        "".join(f"{name}:{hash_password('secret')}\n" for name in sorted(set(names.values())))
    )
    (folder / "conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {folder / 'passwords'}\n"
        f"acl_file {folder / 'acl'}\nuser root\n"
    )
    for file in folder.iterdir():
        file.chmod(0o600)
    program = find_mosquitto()
    assert program is not None
    process = subprocess.Popen([program, "-c", folder / "conf"], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port))
        yield Place(port, {user: (name, "secret") for user, name in names.items()})
    finally:
        process.kill()
        process.wait()


class Reader:
    """A client that has asked for every topic of the table."""

    def __init__(self, port: int, name: str, password: str) -> None:
        self.got: set[tuple[str, bytes]] = set()
        self.asked = threading.Semaphore(0)
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(name, password)
        self.client.on_connect = lambda client, *_: [client.subscribe(topic, 1) for topic in TOPICS]
        self.client.on_subscribe = lambda *_: self.asked.release()
        self.client.on_message = lambda _client, _data, message: self.got.add(
            (message.topic, message.payload)
        )
        self.client.connect_async("127.0.0.1", port)
        self.client.loop_start()

    def wait(self) -> None:
        for _ in TOPICS:
            assert self.asked.acquire(timeout=90)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def write(port: int, name: str, password: str, topic: str, payload: bytes) -> None:
    """Publishes once and waits until the broker has looked at it, or has ended the connection for it."""
    with socket.create_connection(("127.0.0.1", port), 90) as connection:
        connection.sendall(packets.connect(f"w{time.monotonic_ns()}", name, password, 60))
        assert connection.recv(4) == b"\x20\x02\x00\x00"
        encoded = topic.encode()
        body = len(encoded).to_bytes(2, "big") + encoded + payload
        connection.sendall(bytes([0x30, len(body)]) + body + b"\xc0\x00")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(2) in (b"\xd0\x00", b"")


def test_each_user_writes_and_reads_what_is_granted_and_nothing_else(place: Place) -> None:
    readers = {user: Reader(place.port, *place.users[user]) for user in place.users}
    try:
        for reader in readers.values():
            reader.wait()
        for user, (name, password) in place.users.items():
            for topic in TOPICS:
                write(place.port, name, password, topic, user.encode())
        # what a user may read of what others may write; users that share a name share what they may
        same = {
            user: {other for other in place.users if place.users[other] == place.users[user]}
            for user in place.users
        }
        expected = {
            reader: {
                (topic, who.encode())
                for topic, (may_write, may_read) in TOPICS.items()
                if may_read & same[reader]
                for writer in may_write
                for who in same[writer]
            }
            for reader in readers
        }
        eventually(lambda: all(readers[user].got >= expected[user] for user in readers))
        # anything else would have come before the last message of the last writer
        assert {user: reader.got for user, reader in readers.items()} == expected
    finally:
        for reader in readers.values():
            reader.close()


def test_the_table_says_the_same() -> None:
    table = grants()
    for topic, (may_write, may_read) in TOPICS.items():
        for user in (GATEWAY, CONTROL, HOME, NODE, OTHER):
            assert permitted(table, user, topic, writes=True) == (user in may_write), (user, topic)
            assert permitted(table, user, topic, writes=False) == (user in may_read), (user, topic)


@pytest.mark.parametrize(
    ("user", "asked", "granted"),
    [
        (NODE, "#", False),
        (NODE, "sensorhub/v1/lab/+/receipt", False),
        (NODE, "sensorhub/v1/+/roof/receipt", True),
        (NODE, "sensorhub/v1/lab/roof/#", False),
        (NODE, "sensorhub/v1/lab/%u/receipt", False),
        (GATEWAY, "sensorhub/v1/#", True),
        (GATEWAY, "sensorhub/#", False),
        (GATEWAY, "$SYS/broker/load/+", True),
        (HOME, "homeassistant/#", True),
        (HOME, "+/#", False),
        (HOME, "sensorhub/v1/+/+/state", True),
        (HOME, "sensorhub/v1/+/+/+", False),
    ],
)
def test_a_filter_is_granted_when_all_it_matches_is(user: str, asked: str, granted: bool) -> None:
    assert permitted(grants(), user, asked, writes=False) == granted
    assert not permitted(grants(), user, asked, writes=True)


def test_another_prefix_of_home_assistant() -> None:
    table = grants("ha/test")
    assert permitted(table, CONTROL, "ha/test/device/x/config", writes=True)
    for prefix in ("homeassistant", "a/b/c/d"):  # which was told before: it is taken back
        assert permitted(table, CONTROL, f"{prefix}/device/x/config", writes=True)
        assert not permitted(table, CONTROL, f"{prefix}/device/x/config", writes=False)
        assert not permitted(table, CONTROL, f"{prefix}/status", writes=True)
        assert not permitted(table, CONTROL, f"{prefix}/device/x/state", writes=True)
        assert not permitted(table, HOME, f"{prefix}/device/x/config", writes=True)
    assert not permitted(table, HOME, "ha/other", writes=False)
    assert "user _home\ntopic read ha/test/#\n" in acl(table)
