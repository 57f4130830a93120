"""The control process at a real broker: orders out, pictures in, and what happens when one of the two is away."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho
import pytest
import typer

from sensorhub.cli.control import NOT_YET, _send
from sensorhub.control.acknowledgement import RefusedError
from sensorhub.control.connection import Account, Connection
from sensorhub.control.outbox import Outbox
from sensorhub.control.service import Control
from sensorhub.control.snapshots import SnapshotBox
from sensorhub.control.troubles import advice
from sensorhub.ingest.broker import EmbeddedBroker, control_account
from sensorhub.ingest.users import HOME
from sensorhub.log.entries import NodeEvent
from sensorhub.status import StatusFile

PASSWORD = "a node's password"


def eventually(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, f"waited 90 s for {what}"
        time.sleep(0.02)


class Sink:
    """A status file in memory."""

    def __init__(self) -> None:
        self.fields: Mapping[str, Any] = {}

    def write(self, fields: Mapping[str, Any], /) -> None:
        self.fields = dict(fields)


class Running:
    """A control process, as a thread."""

    def __init__(self, data_dir: Path, reader: Any, home_prefix: str | None = "homeassistant") -> None:
        self.status = Sink()
        self._stop = threading.Event()
        control = Control(
            data_dir=data_dir,
            site="lab",
            reader=reader,
            locate=lambda: Account(*control_account(data_dir)),
            client_id="control-of-a-test",
            home_prefix=home_prefix,
        )
        self._thread = threading.Thread(target=control.run, args=(self._stop, self.status), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        eventually(lambda: self.status.fields.get("connected"), "the connection")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive()


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(
    request: pytest.FixtureRequest, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[EmbeddedBroker]:
    made = EmbeddedBroker(tmp_path, port=free_port(), kind=request.param)
    for node in ("roof", "attic"):
        made.users.add(node, PASSWORD)
    with made:
        yield made


@pytest.fixture
def run(tmp_path: Path, written: Any, broker: EmbeddedBroker) -> Iterator[Callable[[], Running]]:
    made: list[Running] = []

    def start() -> Running:
        made.append(Running(tmp_path, written.reader))
        made[-1].wait()
        return made[-1]

    yield start
    for running in made:
        running.stop()


class Node:
    """A node's connection, and the orders it got."""

    def __init__(self, broker: EmbeddedBroker, name: str) -> None:
        self.name = name
        self.orders: list[tuple[str, bytes]] = []
        self.port = broker.port
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(name, PASSWORD)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe(
            [(f"sensorhub/v1/lab/{name}/{leaf}", 1) for leaf in ("config", "update")]
        )
        self.client.on_message = lambda _client, _data, message: self.orders.append(
            (message.topic.rpartition("/")[2], message.payload)
        )
        self.connect()

    def connect(self) -> None:
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        eventually(self.client.is_connected, "the node's connection")

    def publish(self, leaf: str, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(f"sensorhub/v1/lab/{self.name}/{leaf}", payload, 1, retain).wait_for_publish(90)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def nodes(broker: EmbeddedBroker) -> Iterator[dict[str, Node]]:
    made = {name: Node(broker, name) for name in ("roof", "attic")}
    yield made
    for node in made.values():
        node.close()


def test_orders_reach_enrolled_nodes_and_are_there_again_after_the_broker_forgot(
    tmp_path: Path, written: Any, run: Callable[[], Running], broker: EmbeddedBroker, nodes: dict[str, Node]
) -> None:
    written.event("roof")
    outbox = Outbox(tmp_path / "orders")
    outbox.put("roof", "config", b"first")
    running = run()
    roof = nodes["roof"]
    eventually(lambda: ("config", b"first") in roof.orders, "the order left before")
    outbox.put("roof", "config", b"second")
    outbox.put("roof", "update", b"image")
    outbox.put("attic", "config", b"not enrolled")
    eventually(lambda: {("config", b"second"), ("update", b"image")} <= set(roof.orders), "both")
    eventually(lambda: not outbox.get("attic", "config"), "the end of an order for nobody")
    assert not any(order for _leaf, order in nodes["attic"].orders)

    roof.orders.clear()
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # what it had not written yet is lost
    eventually(lambda: {("config", b"second"), ("update", b"image")} <= set(roof.orders), "both again")
    roof.orders.clear()
    written.event("roof", NodeEvent.REVOKE)
    eventually(lambda: running.status.fields["nodes"] == {} and not list(outbox), "the end of its orders")


def test_pictures_of_enrolled_nodes_are_kept_also_those_that_came_meanwhile(
    tmp_path: Path, written: Any, run: Callable[[], Running], nodes: dict[str, Node], sealed: Any
) -> None:
    written.event("roof")
    box = SnapshotBox(tmp_path / "snapshots", days=0, node_bytes=10**6)
    first = run()
    pictures = [sealed(bytes([n]) * 12, 4, 3) for n in range(3)]
    nodes["attic"].publish("snapshot", pictures[2])
    nodes["roof"].publish("snapshot", b"no picture")
    nodes["roof"].publish("snapshot", pictures[0])
    eventually(lambda: len(list(box.of("roof"))) == 1, "the picture")
    eventually(lambda: first.status.fields["pictures_refused"] == 2, "two refusals")
    assert box.nodes() == ["roof"]
    first.stop()
    nodes["roof"].close()
    nodes["roof"].connect()  # whom the broker lets in now came after the other one had left
    nodes["roof"].publish("snapshot", pictures[1])
    run()
    eventually(lambda: len(list(box.of("roof"))) == 2, "the picture that came meanwhile")
    assert [kept.path.read_bytes() for kept in box.of("roof")] == pictures[:2]


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)  # amqtt sends nothing again
def test_a_disk_that_takes_nothing_leaves_the_picture_at_the_broker(
    tmp_path: Path,
    written: Any,
    run: Callable[[], Running],
    nodes: dict[str, Node],
    sealed: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sensorhub.control.service.DISK_PAUSE_S", 2.0)
    written.event("roof")
    (tmp_path / "snapshots").write_text("in the way")
    running = run()
    nodes["roof"].publish("snapshot", sealed(bytes(12), 4, 3))
    eventually(
        lambda: any("waits at the broker" in text for text in running.status.fields["warnings"]), "a warning"
    )
    (tmp_path / "snapshots").unlink()
    box = SnapshotBox(tmp_path / "snapshots", days=0, node_bytes=10**6)
    eventually(lambda: len(list(box.of("roof"))) == 1, "the picture, come again")


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
@pytest.mark.parametrize("gone", [True, False])
def test_it_ends_though_the_broker_does_not_answer(
    written: Any,
    run: Callable[[], Running],
    broker: EmbeddedBroker,
    monkeypatch: pytest.MonkeyPatch,
    gone: bool,
) -> None:
    monkeypatch.setattr("sensorhub.control.connection.TIMEOUT_S", 3600.0)
    written.event("roof")
    written.message("roof", ("temperature", 0.0, 0))
    running = run()
    eventually(lambda: running.status.fields["published"], "a publication")
    pid = broker.pid
    assert pid is not None
    if gone:
        broker.stop()
    else:
        os.kill(pid, signal.SIGSTOP)
    try:
        begun = threading.Event()
        publish = Connection.publish

        def told(connection: Connection, publications: Any) -> None:
            begun.set()
            publish(connection, publications)

        monkeypatch.setattr(Connection, "publish", told)
        written.message("roof", ("temperature", 1.0, 0))
        assert begun.wait(90)
        running.stop()
        assert running.status.fields["cursor"] < written.reader.size()
    finally:
        if not gone:
            os.kill(pid, signal.SIGCONT)


def retained_at(broker: EmbeddedBroker, prefix: str) -> set[str]:
    """Topics that hold something for Home Assistant, which looks under `prefix`."""
    found: set[str] = set()
    told = threading.Event()

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        found.add(message.topic)

    password = broker.users.add(HOME)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set(HOME, password)
    client.reconnect_delay_set(1, 1)  # the broker reads new passwords once a second
    client.on_connect = lambda client, *_: client.subscribe(
        [(f"{prefix}/#", 1), ("sensorhub/v1/+/+/state", 1)]
    )
    client.on_message = on_message
    # what is retained comes before what is published after the subscription was granted
    client.on_subscribe = lambda client, *_: client.publish(f"{prefix}/status", "offline", 1)
    client.message_callback_add(f"{prefix}/status", lambda *_: told.set())
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert told.wait(90)
    client.disconnect()
    client.loop_stop()
    return found


def published(running: Running, number: int) -> bool:
    return bool(running.status.fields["published"] == number)


@pytest.mark.parametrize(
    ("before", "after"), [("homeassistant", "ha/two"), ("a/b/c/d", "homeassistant"), ("ha", None)]
)
def test_after_a_change_of_the_prefix_the_broker_keeps_nothing_under_the_old_one(
    tmp_path: Path, written: Any, free_port: Callable[[], int], before: str, after: str | None
) -> None:
    def broker(prefix: str | None) -> EmbeddedBroker:
        return EmbeddedBroker(
            tmp_path, port=free_port(), kind="mosquitto", home_prefix=prefix or "homeassistant"
        )

    config, state = "device/sensorhub_lab_roof/config", "sensorhub/v1/lab/roof/state"
    written.event("roof")
    written.message("roof", ("temperature", 21.5, 0))
    for prefix, publications in ((before, 2), (after, 2 if after is None else 3)):
        with broker(prefix):
            running = Running(tmp_path, written.reader, prefix)
            running.wait()
            eventually(partial(published, running, publications), "what is told, and what is taken back")
            running.stop()
            assert running.status.fields["warnings"] == []
    with broker(before) as first:
        assert retained_at(first, before) == (set() if after is None else {state})
    if after is not None:
        with broker(after) as second:
            assert retained_at(second, after) == {f"{after}/{config}", state}


def test_what_a_node_says_is_told_once_it_is_enrolled(
    written: Any, run: Callable[[], Running], nodes: dict[str, Node]
) -> None:
    said = {"state": "online", "fw": "0.1.0", "boot": 3, "config": 7, "safe": False, "rssi": -60, "x": [1]}
    nodes["roof"].publish("status", json.dumps(said).encode(), retain=True)
    nodes["attic"].publish("status", b"\xff{")
    running = run()
    assert running.status.fields["nodes"] == {}
    written.event("roof")
    eventually(lambda: "roof" in running.status.fields["nodes"], "its word")
    told = running.status.fields["nodes"]["roof"]
    assert told.pop("at_ms") > 0
    assert told == {"state": "online", "fw": "0.1.0", "boot": 3, "config": 7, "safe": False, "troubles": []}


def test_a_node_in_trouble_is_warned_of_until_it_says_otherwise(
    written: Any, run: Callable[[], Running], nodes: dict[str, Node]
) -> None:
    def warned(*beginnings: str) -> bool:
        warnings = running.status.fields["warnings"]
        return len(warnings) == len(beginnings) and all(map(str.startswith, warnings, beginnings))

    written.event("roof")
    written.event("attic")
    running = run()
    nodes["roof"].publish("status", b'{"state": "online", "safe": false, "spool": "memory"}', retain=True)
    eventually(lambda: warned("roof: messages in RAM: "), "the warning")
    (warning,) = running.status.fields["warnings"]
    assert "a power cut" in warning, "what it means"
    assert "Start the node again" in warning, "what to do"
    assert "tools/flash --erase" in warning
    told = running.status.fields["nodes"]["roof"]
    assert (told["spool"], told["troubles"]) == ("memory", ["messages in RAM"])

    nodes["attic"].publish("status", b'{"state": "offline", "safe": true, "spool": "memory"}', retain=True)
    eventually(lambda: warned("attic, roof: messages in RAM: ", "attic: safe mode: "), "one for each kind")
    nodes["roof"].publish("status", b'{"state": "online", "safe": false}', retain=True)
    eventually(lambda: warned("attic: messages in RAM: ", "attic: safe mode: "), "the end of the roof's")
    written.event("attic", NodeEvent.REVOKE)
    eventually(warned, "no warning of a node that is not obeyed any more")


def test_a_warning_names_a_few_nodes_of_many() -> None:
    said = {f"node-{number}": {"spool": "memory"} for number in range(7)}
    (warning,) = advice({**said, "well": {"spool": "flash"}})
    assert warning.startswith("node-0, node-1, node-2, node-3, node-4 and 2 more: messages in RAM: ")


def test_what_a_node_says_is_no_word_to_a_terminal(
    written: Any, run: Callable[[], Running], nodes: dict[str, Node]
) -> None:
    written.event("roof")
    running = run()
    said = b'{"state": "on\\u001b[2Jline", "fw": "1\\ud800", "refused": "config: \\u202ea\\n"}'
    nodes["roof"].publish("status", said)
    eventually(lambda: "roof" in running.status.fields["nodes"], "its word")
    told = running.status.fields["nodes"]["roof"]
    del told["at_ms"]
    assert told == {
        "state": "on\ufffd[2Jline",
        "fw": "1\ufffd",
        "refused": "config: \ufffda\ufffd",
        "troubles": [],
    }


def test_waiting_shows_what_a_node_says_as_it_is(tmp_path: Path) -> None:
    StatusFile(tmp_path, "control").write({"nodes": {"roof": {"state": "[/b]", "fw": "[red]", "at_ms": 1}}})
    values: Any = SimpleNamespace(data_dir=tmp_path)
    with pytest.raises(typer.Exit) as ended:
        _send(values, "roof", "config", b"order", "configuration 7", lambda _said: False, 0.1)
    assert ended.value.exit_code == NOT_YET


@pytest.mark.parametrize(("again", "code"), [("config: old words", NOT_YET), ("config: new words", None)])
def test_a_refusal_that_is_only_repeated_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str, code: int | None
) -> None:
    status = StatusFile(tmp_path, "control")
    status.write({"nodes": {"roof": {"state": "online", "refused": "config: old words", "at_ms": 1}}})
    put = Outbox.put

    def left(outbox: Outbox, *order: Any) -> None:
        put(outbox, *order)
        at_ms = time.time_ns() // 1_000_000
        status.write({"nodes": {"roof": {"state": "online", "refused": again, "at_ms": at_ms}}})

    monkeypatch.setattr(Outbox, "put", left)
    values: Any = SimpleNamespace(data_dir=tmp_path)
    with pytest.raises(typer.Exit if code else RefusedError):
        _send(values, "roof", "config", b"order", "configuration 7", lambda _said: False, 0.1)
    assert Outbox(tmp_path / "orders").get("roof", "config") == (b"order" if code else b"")
