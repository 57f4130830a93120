"""Home Assistant learns of every node from the log: what is published, kept, and taken back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from coincurve import PrivateKey

from sensorhub.channels import CHANNELS
from sensorhub.control.discovery import DiscoveryError, DiscoveryFollower
from sensorhub.control.home_assistant import Publication, discovery
from sensorhub.control.publisher import MqttPublisher
from sensorhub.log.entries import ArtefactEntry, MessageEntry, NodeEntry, NodeEvent, encode_entry
from sensorhub.wire import encode_message, public_key_of

KEY = PrivateKey(bytes(31) + b"\x09")
T0 = 1_700_000_000


class Kept:
    """A broker that keeps what is retained."""

    def __init__(self) -> None:
        self.retained: dict[str, Any] = {}
        self.count = 0
        self.away = False
        self.connections = 1

    def publish(self, publications: list[Publication]) -> None:
        if self.away:
            raise DiscoveryError("away")
        for publication in publications:
            self.count += 1
            if publication.payload:
                self.retained[publication.topic] = json.loads(publication.payload)
            else:
                self.retained.pop(publication.topic, None)

    @property
    def sensors(self) -> set[str]:
        return {topic.split("/")[2] for topic in self.retained if topic.startswith("homeassistant/")}

    def state(self, node: str = "roof") -> dict[str, float] | None:
        return self.retained.get(f"sensorhub/v1/lab/{node}/state")


def message(seq: int, *records: tuple[str, float, float], node: str = "roof", **more: Any) -> bytes:
    values: dict[str, Any] = {"site": "lab", "tq": 2, "base_time": T0} | more
    raw = encode_message(
        KEY, node=node, boot=1, seq=seq, prev=bytes(32), uptime=5, records=list(records), **values
    )
    return encode_entry(MessageEntry(T0 * 1000, raw))


def event(what: NodeEvent, node: str = "roof", kind: str = "weather", key: PrivateKey = KEY) -> bytes:
    return encode_entry(NodeEntry(T0 * 1000, what, node, kind, public_key_of(key)))


def follower(path: Path, kept: Kept, **more: Any) -> DiscoveryFollower:
    return DiscoveryFollower(path / "discovery.json", site="lab", publisher=kept, **more)


def feed(follow: DiscoveryFollower, *entries: bytes) -> None:
    start = follow.cursor()
    follow.apply([(start + n, entry) for n, entry in enumerate(entries)])


def test_every_channel_is_a_sensor_and_the_state_has_the_newest_values(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(
        follow,
        event(NodeEvent.ENROL),
        message(1, ("temperature", 21.3, 0), ("humidity", 40, 0)),
        message(2, ("temperature", 22.1, 60)),
        encode_entry(ArtefactEntry(T0, "model", bytes(32))),
    )
    assert kept.sensors == {"lab_roof_temperature", "lab_roof_humidity"}
    assert kept.state() == {"temperature": 22.1, "humidity": 40, "time": T0 + 60}
    config = kept.retained["homeassistant/sensor/lab_roof_temperature/config"]
    assert config["state_topic"] == "sensorhub/v1/lab/roof/state"
    assert config["value_template"] == "{{ value_json['temperature'] }}"
    assert (config["unit_of_measurement"], config["device_class"]) == ("°C", "temperature")
    assert config["device"]["model"] == "weather node"
    assert follow.cursor() == 4


def test_a_batch_costs_one_state_of_a_node(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, *(message(n, ("temperature", n, n)) for n in range(1, 100)))
    assert kept.count == 2
    feed(follow, message(100, ("temperature", 5, 200)))
    assert kept.count == 3


def test_what_comes_late_does_not_replace_what_is_newer(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, message(2, ("temperature", 22, 600)), message(1, ("temperature", 11, 0), ("rain", 1, 0)))
    assert kept.state() == {"temperature": 22, "rain": 1, "time": T0 + 600}


def test_readings_without_a_date_another_site_and_data_channels_are_not_shown(tmp_path: Path) -> None:
    kept = Kept()
    feed(
        follower(tmp_path, kept),
        message(1, ("temperature", 1, 0), tq=0, base_time=None),
        message(2, ("temperature", 1, 0), site="other"),
        message(3, ("frame_sha256", b"x" * 32, 0)),  # type: ignore[arg-type]
    )
    assert kept.retained == {}


def test_a_revoked_node_disappears_and_an_old_key_of_a_rotated_one_changes_nothing(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    other = PrivateKey(bytes(31) + b"\x0a")
    feed(
        follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)), event(NodeEvent.ROTATE, key=other)
    )
    feed(follow, event(NodeEvent.REVOKE))
    assert kept.sensors
    feed(follow, event(NodeEvent.REVOKE, key=other))
    assert kept.retained == {}
    feed(follow, event(NodeEvent.ENROL), message(2, ("temperature", 1, 0)))
    assert kept.sensors == {"lab_roof_temperature"}


def test_a_restart_goes_on_and_tells_a_broker_that_forgot(tmp_path: Path) -> None:
    follow = follower(tmp_path, Kept())
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1.5, 0)))
    follow.save()
    kept = Kept()
    again = follower(tmp_path, kept)
    assert again.cursor() == 2
    feed(again, message(1, ("humidity", 40, 0), node="other"))
    assert kept.sensors == {"lab_roof_temperature", "lab_other_humidity"}
    assert kept.state() == {"temperature": 1.5, "time": T0}


def test_the_file_of_another_log_or_a_broken_one_is_not_believed(tmp_path: Path) -> None:
    follow = follower(tmp_path, Kept(), log_id=b"one")
    feed(follow, message(1, ("temperature", 1.5, 0)))
    follow.save()
    assert follower(tmp_path, Kept(), log_id=b"two").cursor() == 0
    assert follower(tmp_path, Kept(), log_id=b"one").cursor() == 1
    path = tmp_path / "discovery.json"
    good = path.read_text()
    for text in ("", "{}", "[]", good[:-3], good.replace("nodes", "nods"), good.replace("1.5", '"x"')):
        path.write_text(text)
        assert follower(tmp_path, Kept(), log_id=b"one").cursor() == 0


def test_a_broker_that_is_away_costs_nothing(tmp_path: Path) -> None:
    kept = Kept()
    kept.away = True
    follow = follower(tmp_path, kept)
    with pytest.raises(DiscoveryError):
        feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    assert follow.cursor() == 0
    kept.away = False
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    assert kept.sensors == {"lab_roof_temperature"}
    assert kept.state() == {"temperature": 1, "time": T0}


def test_whatever_a_failed_publication_held_is_told_later(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, message(1, ("temperature", 1, 0)))
    kept.away = True
    for _ in range(2):
        with pytest.raises(DiscoveryError):
            feed(follow, message(2, ("humidity", 40, 0)))
    kept.away = False
    feed(follow, message(2, ("humidity", 40, 0)))
    assert kept.sensors == {"lab_roof_temperature", "lab_roof_humidity"}


def test_a_broker_that_was_connected_anew_is_told_everything(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, message(1, ("temperature", 1, 0)))
    kept.retained.clear()
    feed(follow, message(2, ("humidity", 40, 0), node="other"))
    assert kept.sensors == {"lab_other_humidity"}
    kept.connections += 1
    feed(follow, message(3, ("humidity", 41, 9), node="other"))
    assert kept.sensors == {"lab_other_humidity", "lab_roof_temperature"}


@pytest.mark.parametrize("channel", [c for c in CHANNELS if c.kind == "number"], ids=lambda c: c.name)
def test_every_channel_can_be_told(channel: Any) -> None:
    publication = discovery("lab", "roof", "weather", channel)
    payload = json.loads(publication.payload)
    assert publication.topic == f"homeassistant/sensor/lab_roof_{channel.name}/config"
    assert payload["unique_id"].endswith(channel.name)
    assert "Cel" not in payload.get("unit_of_measurement", "")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (tmp_path / "conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", tmp_path / "conf"], stderr=subprocess.DEVNULL)
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield port
    process.kill()
    process.wait()


def test_a_real_broker_keeps_it(mosquitto: int, tmp_path: Path) -> None:
    publisher = MqttPublisher("127.0.0.1", mosquitto)
    follow = DiscoveryFollower(tmp_path / "d.json", site="lab", publisher=publisher)
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 21.5, 0)))
    publisher.close()
    got: dict[str, bytes] = {}
    both = threading.Event()

    def on_message(client: paho.Client, _: object, received: paho.MQTTMessage) -> None:
        got[received.topic] = received.payload
        if len(got) == 2:
            both.set()

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "home")
    client.on_connect = lambda client, *_: client.subscribe("#", 1)
    client.on_message = on_message
    client.connect("127.0.0.1", mosquitto)
    client.loop_start()
    assert both.wait(30), got
    client.disconnect()
    client.loop_stop()
    assert json.loads(got["sensorhub/v1/lab/roof/state"]) == {"temperature": 21.5, "time": T0}


def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorhub.control.publisher.TIMEOUT_SECONDS", 0.3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        publisher = MqttPublisher("127.0.0.1", port)
        with pytest.raises(DiscoveryError, match=f"127.0.0.1:{port}"):
            publisher.publish([Publication("t", b"x")])
        publisher.close()
    assert os.getpid()
