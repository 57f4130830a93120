"""Home Assistant learns of every node from the log: what is published, kept, and taken back."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from coincurve import PrivateKey

from sensorhub.channels import CHANNELS
from sensorhub.control.connection import Account, Connection, Publication
from sensorhub.control.discovery import ATTEMPTS, DiscoveryFollower
from sensorhub.control.errors import ControlError, UnacknowledgedError
from sensorhub.control.home_assistant import discovery
from sensorhub.flags import Flag
from sensorhub.log.entries import (
    REVIEW,
    ArtefactEntry,
    MessageEntry,
    NodeEntry,
    NodeEvent,
    VerdictEntry,
    encode_entry,
)
from sensorhub.log.reader import LogReader
from sensorhub.quality.reviews import Action, Review, review
from sensorhub.wire import encode_message, public_key_of

KEY = PrivateKey(bytes(31) + b"\x09")
T0 = 1_700_000_000
CALM = {"doubts": {}, "muted": {}, "doubted": False}


class Kept:
    """A broker that keeps what is retained."""

    def __init__(self) -> None:
        self.retained: dict[str, Any] = {}
        self.count = 0
        self.away = False
        self.connections = 1
        self.emptied: list[str] = []
        self.refused = ""
        """Beginning of the topics for which it ends the connection."""

    def publish(self, publications: Sequence[Publication]) -> None:
        if self.away:
            raise ControlError("away")
        for publication in publications:
            if self.refused and publication.topic.startswith(self.refused):
                self.connections += 1
                raise UnacknowledgedError("closed")
            self.count += 1
            if not publication.payload:
                self.emptied.append(publication.topic)
            if publication.payload:
                self.retained[publication.topic] = json.loads(publication.payload)
            else:
                self.retained.pop(publication.topic, None)

    def config(self, node: str = "roof") -> Any:
        return self.retained.get(f"homeassistant/device/sensorhub_lab_{node}/config")

    @property
    def sensors(self) -> set[str]:
        """<node>_<channel> of every channel that is shown."""
        return {
            component["unique_id"].removeprefix("sensorhub_lab_")
            for topic, payload in self.retained.items()
            if topic.startswith("homeassistant/")
            for component in payload["components"].values()
            if "state_class" in component
        }

    def state(self, node: str = "roof") -> dict[str, Any] | None:
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
    named: dict[str, Any] = {"prefix": "homeassistant", "reader": LogReader(path / "log")} | more
    return DiscoveryFollower(path / "discovery.json", site="lab", publisher=kept, **named)


def at(second: int) -> str:
    return datetime.fromtimestamp(T0 + second, UTC).isoformat()


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
    assert kept.sensors == {"roof_temperature", "roof_humidity"}
    assert kept.state() == {"temperature": 22.1, "humidity": 40, "time": at(60), **CALM}
    config = kept.config()
    assert config["state_topic"] == "sensorhub/v1/lab/roof/state"
    assert config["availability_topic"] == "sensorhub/v1/lab/roof/status"
    assert config["device"]["model"] == "weather node"
    assert config["origin"]["name"] == "sensorhub"
    sensor = config["components"]["temperature"]
    assert sensor["value_template"] == "{{ value_json['temperature'] }}"
    assert (sensor["unit_of_measurement"], sensor["device_class"]) == ("°C", "temperature")
    assert sensor["default_entity_id"] == "sensor.roof_temperature"
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
    assert kept.state() == {"temperature": 22, "rain": 1, "time": at(600), **CALM}


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
    assert kept.sensors == {"roof_temperature"}


@pytest.mark.parametrize("prefix", ["homeassistant", None])
def test_what_is_to_be_taken_back_survives_a_restart_before_the_broker_is_there(
    tmp_path: Path, prefix: str | None
) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    revoked = event(NodeEvent.REVOKE)
    kept.away = True
    with pytest.raises(ControlError):
        feed(follow, revoked)
    follow.save()
    behind = follower(tmp_path, kept, prefix=prefix, live=False)
    feed(behind, revoked)
    behind.save()
    kept.away = False
    last = follower(tmp_path, kept, prefix=prefix)
    last.tell()
    assert kept.retained == {}
    assert last.status()["known"] == 0


def test_a_restart_goes_on_and_tells_a_broker_that_forgot(tmp_path: Path) -> None:
    follow = follower(tmp_path, Kept())
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1.5, 0)))
    follow.save()
    kept = Kept()
    again = follower(tmp_path, kept)
    assert again.cursor() == 2
    feed(again, message(1, ("humidity", 40, 0), node="other"))
    assert kept.sensors == {"roof_temperature", "other_humidity"}
    assert kept.state() == {"temperature": 1.5, "time": at(0), **CALM}


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
    with pytest.raises(ControlError):
        feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    assert follow.cursor() == 0
    kept.away = False
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    assert kept.sensors == {"roof_temperature"}
    assert kept.state() == {"temperature": 1, "time": at(0), **CALM}


def test_whatever_a_failed_publication_held_is_told_later(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, message(1, ("temperature", 1, 0)))
    kept.away = True
    for _ in range(2):
        with pytest.raises(ControlError):
            feed(follow, message(2, ("humidity", 40, 0)))
    kept.away = False
    feed(follow, message(2, ("humidity", 40, 0)))
    assert kept.sensors == {"roof_temperature", "roof_humidity"}


def test_a_broker_that_was_connected_anew_is_told_everything(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, message(1, ("temperature", 1, 0)))
    kept.retained.clear()
    feed(follow, message(2, ("humidity", 40, 0), node="other"))
    assert kept.sensors == {"other_humidity"}
    kept.connections += 1
    feed(follow, message(3, ("humidity", 41, 9), node="other"))
    assert kept.sensors == {"other_humidity", "roof_temperature"}


@pytest.mark.parametrize("channel", [c for c in CHANNELS if c.kind == "number"], ids=lambda c: c.name)
def test_every_channel_can_be_told(channel: Any) -> None:
    publication = discovery("lab", "roof", "weather", [channel])
    sensor = json.loads(publication.payload)["components"][channel.name]
    assert publication.topic == "homeassistant/device/sensorhub_lab_roof/config"
    assert sensor["unique_id"] == f"sensorhub_lab_roof_{channel.name}"
    assert "Cel" not in sensor.get("unit_of_measurement", "")


#: Home Assistant's sensor classes that are used: units and state classes that it takes for them
#: (developers.home-assistant.io/docs/core/entity/sensor, read in November 2026)
ACCEPTED: dict[str, tuple[set[str], set[str]]] = {
    "pm1": ({"µg/m³"}, {"measurement"}),
    "pm25": ({"µg/m³"}, {"measurement"}),
    "pm10": ({"µg/m³"}, {"measurement"}),
    "sulphur_dioxide": ({"µg/m³"}, {"measurement"}),
    "nitrogen_dioxide": ({"µg/m³"}, {"measurement"}),
    "ozone": ({"µg/m³"}, {"measurement"}),
    "carbon_dioxide": ({"ppm"}, {"measurement"}),
    "temperature": ({"°C", "°F", "K"}, {"measurement"}),
    "humidity": ({"%"}, {"measurement"}),
    "atmospheric_pressure": ({"hPa", "kPa", "Pa", "mbar"}, {"measurement"}),
    "precipitation": ({"mm", "cm", "in"}, {"measurement", "total", "total_increasing"}),
    "wind_speed": ({"m/s", "km/h", "mph"}, {"measurement"}),
    "wind_direction": ({"°"}, {"measurement_angle"}),
    "illuminance": ({"lx"}, {"measurement"}),
    "voltage": ({"V", "mV"}, {"measurement"}),
    "signal_strength": ({"dB", "dBm"}, {"measurement"}),
}


def test_classes_have_the_units_and_state_classes_that_home_assistant_takes() -> None:
    numbers = [channel for channel in CHANNELS if channel.kind == "number"]
    payload = json.loads(discovery("lab", "roof", "weather", numbers).payload)
    for name, component in payload["components"].items():
        assert component["platform"] in ("sensor", "binary_sensor")
        # object_id ended with release 2026.4; an entity id has a domain and no hyphens
        assert re.fullmatch(r"(binary_)?sensor\.[a-z0-9_]+", component["default_entity_id"])
        device_class = component.get("device_class")
        if "state_class" in component and device_class is not None:
            units, states = ACCEPTED[device_class]
            assert component["unit_of_measurement"] in units, name
            assert component["state_class"] in states, name
    assert {component["unique_id"] for component in payload["components"].values()} == {
        f"sensorhub_lab_roof_{name}" for name in payload["components"]
    }


def verdict(index: int, *pairs: tuple[int, int], rules: str = "rules/1") -> bytes:
    return encode_entry(VerdictEntry(T0 * 1000, b"", rules, ((index, pairs),)))


def test_a_later_judge_does_not_overrule_a_person(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, message(1, ("temperature", 99, 0)), verdict(0, (10, Flag.RANGE)))
    feed(follow, verdict(0, (255, 0), rules=REVIEW), verdict(0, (10, Flag.RANGE), rules="judge/2"))
    assert kept.state()["doubts"] == {}  # type: ignore[index]
    feed(follow, verdict(0, (0, Flag.STUCK), rules=REVIEW))
    assert kept.state()["doubts"] == {"temperature": ["stuck"]}  # type: ignore[index]


def test_what_is_not_trusted_is_said_until_a_newer_reading_is(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, message(1, ("temperature", 99, 0), ("humidity", 40, 0)))
    feed(follow, verdict(0, (10, Flag.SPIKE | Flag.RANGE), (255, Flag.ISOLATED)))
    assert kept.state() == {
        "temperature": 99,
        "humidity": 40,
        "time": at(0),
        "doubts": {"temperature": ["range", "spike"]},
        "muted": {},
        "doubted": True,
    }
    feed(follow, message(2, ("temperature", 21, 60)))
    feed(follow, verdict(5, (0, 0)))  # not of any message
    assert kept.state()["doubts"]  # type: ignore[index]
    follow.save()
    feed(follower(tmp_path, kept), message(3, ("temperature", 22, 120)))
    assert kept.state()["doubts"]  # type: ignore[index]
    feed(follow, verdict(2, (255, 0)))
    assert kept.state()["doubts"] == {}  # type: ignore[index]
    feed(follow, verdict(0, (10, Flag.SPIKE), (255, 0)))  # of an older reading
    assert kept.state()["doubts"] == {}  # type: ignore[index]
    feed(follow, verdict(2, (0, Flag.OFFSET), rules=REVIEW))  # a person has corrected it
    assert kept.state()["doubts"] == {"temperature": ["offset"]}  # type: ignore[index]


def test_nobody_is_told_before_the_time_and_all_is_told_then(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept, live=False)
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    assert kept.retained == {}
    assert follow.enrolled("roof")
    follow.tell()
    assert kept.sensors == {"roof_temperature"}
    count = kept.count
    follow.tell()
    assert kept.count == count
    follow.tell(again=True)
    assert kept.count == count + 2


def test_without_home_assistant_nodes_are_known_and_what_was_told_is_taken_back(tmp_path: Path) -> None:
    kept = Kept()
    follow = follower(tmp_path, kept)
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    follow.save()
    off = follower(tmp_path, kept, prefix=None)
    off.tell()
    assert kept.retained == {}
    assert off.enrolled("roof")
    feed(off, message(2, ("temperature", 2, 60)), event(NodeEvent.REVOKE))
    assert kept.retained == {}
    assert not off.enrolled("roof")
    off.save()
    count = kept.count
    follower(tmp_path, kept, prefix=None).tell()
    assert kept.count == count


def prefixes(kept: Kept) -> set[str]:
    """Where nodes are told of."""
    return {name.partition("/device/")[0] for name in kept.retained if "/device/" in name}


def two_nodes(path: Path, kept: Kept, **more: Any) -> DiscoveryFollower:
    follow = follower(path, kept, **more)
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    feed(follow, event(NodeEvent.ENROL, "attic"), message(2, ("humidity", 40, 0), node="attic"))
    return follow


@pytest.mark.parametrize("saved", [True, False])
def test_under_another_prefix_everything_is_told_there_and_nothing_stays_under_the_old_one(
    tmp_path: Path, saved: bool
) -> None:
    kept = Kept()
    follow = two_nodes(tmp_path, kept)
    if saved:
        follow.save()
    assert prefixes(kept) == {"homeassistant"}
    moved = follower(tmp_path, kept, prefix="ha/two", live=False)
    if not saved:  # a process that was killed reads the log again
        assert moved.cursor() == 0
        feed(moved, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
        feed(moved, message(2, ("humidity", 40, 0), node="attic"))
    moved.tell()
    assert prefixes(kept) == {"ha/two"}
    assert len(kept.retained) == 4
    assert {name.partition("/")[0] for name in kept.emptied} == {"homeassistant"}  # states stay as they are
    count = kept.count
    moved.tell()
    assert kept.count == count
    moved.save()
    follower(tmp_path, kept, prefix=None).tell()
    assert kept.retained == {}


def test_what_was_told_is_known_however_a_process_ended(tmp_path: Path) -> None:
    class Ends(Kept):
        def publish(self, publications: Sequence[Publication]) -> None:
            super().publish(publications)
            raise KeyboardInterrupt

    kept = Ends()
    follow = follower(tmp_path, kept)
    with pytest.raises(KeyboardInterrupt):
        feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 1, 0)))
    assert prefixes(kept) == {"homeassistant"}
    broker = Kept()
    broker.retained = kept.retained
    follower(tmp_path, broker, prefix=None).tell()
    assert broker.retained == {}


def test_what_was_told_of_another_log_is_taken_back_too(tmp_path: Path) -> None:
    kept = Kept()
    two_nodes(tmp_path, kept, log_id=b"one").save()
    anew = follower(tmp_path, kept, log_id=b"two", live=False)
    feed(anew, event(NodeEvent.ENROL, "attic"), message(1, ("humidity", 40, 0), node="attic"))
    anew.tell()
    assert kept.sensors == {"attic_humidity"}
    assert kept.state("roof") is None
    assert kept.state("attic") is not None


def test_several_prefixes_of_before_are_all_taken_back(tmp_path: Path) -> None:
    kept = Kept()
    two_nodes(tmp_path, kept).save()
    kept.refused = "homeassistant/"
    second = follower(tmp_path, kept, prefix="second")
    for _ in range(2):
        with pytest.raises(UnacknowledgedError):
            second.tell()
    second.save()
    assert prefixes(kept) == {"homeassistant", "second"}
    kept.refused = ""
    follower(tmp_path, kept, prefix="third").tell()
    assert prefixes(kept) == {"third"}


def test_a_broker_that_ends_the_connection_for_an_old_topic_is_told_everything_else(tmp_path: Path) -> None:
    kept = Kept()
    two_nodes(tmp_path, kept).save()
    kept.refused = "homeassistant/"
    moved = follower(tmp_path, kept, prefix="ha")
    for _ in range(ATTEMPTS - 1):
        with pytest.raises(UnacknowledgedError):
            moved.tell()
        assert not moved.problem
    moved.tell()
    assert "homeassistant/device/sensorhub_lab_attic/config" in moved.problem
    feed(moved, message(3, ("temperature", 2, 60)))
    assert kept.state() == {"temperature": 2, "time": at(60), **CALM}
    feed(moved, event(NodeEvent.REVOKE))
    assert kept.state() is None
    assert prefixes(kept) == {"homeassistant", "ha"}
    moved.save()
    kept.refused = ""
    once_more = follower(tmp_path, kept, prefix="ha")  # it is allowed to now
    once_more.tell()
    assert not once_more.problem
    assert set(kept.retained) == {"ha/device/sensorhub_lab_attic/config", "sensorhub/v1/lab/attic/state"}


@pytest.mark.parametrize("text", ["", "{}", "[]", "x", '{"format": 1}', '{"format": 1, "topics": 5}'])
def test_a_broken_list_of_what_was_told_stops_nothing(tmp_path: Path, text: str) -> None:
    two_nodes(tmp_path, Kept()).save()
    (tmp_path / "discovery.told").write_text(text)
    kept = Kept()
    follower(tmp_path, kept).tell()
    assert len(kept.retained) == 4
    follower(tmp_path, kept, prefix=None).tell()
    assert kept.retained == {}


class Doubted:
    """A log with a node whose temperature and humidity are doubted, followers of it, and what people say of it."""

    def __init__(self, path: Path, written: Any) -> None:
        self.kept = Kept()
        self.now = float(T0)
        self._path = path
        self._written = written
        written.event("roof")
        values = (("temperature", 99.0, 0), ("humidity", 1.0, 0), ("rain", 0.0, 0))
        self._index = written.message("roof", *values)
        self.append([verdict(self._index, (10, Flag.SPIKE), (10, Flag.STUCK), (255, 0))])

    def append(self, entries: Sequence[bytes], /) -> int:
        """Appends to the log as the gateway's socket does."""
        first = self._written.log.append_many(list(entries))
        self._written.log.commit()
        return int(first)

    def follower(self, **more: Any) -> DiscoveryFollower:
        reader = self._written.reader
        follow = follower(self._path, self.kept, reader=reader, now=lambda: self.now, **more)
        self.follow(follow)
        follow.tell()
        return follow

    def follow(self, follow: DiscoveryFollower) -> None:
        size = self._written.reader.size()
        if follow.cursor() < size:
            follow.apply(list(self._written.reader.entries(follow.cursor(), size)))

    def mute(self, record: int, until: int, follow: DiscoveryFollower) -> None:
        said = Review(self._index, record, Action.MUTE, "repair", "Kim", until=until)
        review(self._written.reader, self, said)
        self.follow(follow)


@pytest.fixture
def doubted(tmp_path: Path, written: Any) -> Doubted:
    return Doubted(tmp_path, written)


def told(kept: Kept) -> tuple[set[str], dict[str, str], bool]:
    """Channels with doubts, mutes, and whether the binary sensor is on, of the node."""
    found = kept.state()
    assert found is not None
    return set(found["doubts"]), found["muted"], found["doubted"]


def test_muted_series_do_not_make_a_node_doubted_until_the_mute_is_over(doubted: Doubted) -> None:
    kept = doubted.kept
    follow = doubted.follower()
    both = {"temperature", "humidity"}
    assert told(kept) == (both, {}, True)
    doubted.mute(0, T0 + 500, follow)
    assert told(kept) == (both, {"temperature": at(500)}, True)  # the other one is not muted
    doubted.mute(1, T0 + 900, follow)
    doubted.mute(2, T0 + 900, follow)
    muted = {"temperature": at(500), "humidity": at(900), "rain": at(900)}
    assert told(kept) == (both, muted, False)
    state = kept.state()
    assert state is not None
    assert state["doubts"] == {"temperature": ["spike"], "humidity": ["stuck"]}
    count = kept.count
    doubted.now = T0 + 499.0
    follow.tell()
    assert kept.count == count
    doubted.now = T0 + 500.0
    follow.tell()
    assert told(kept) == (both, {"humidity": at(900), "rain": at(900)}, True)
    assert kept.count == count + 1


def test_of_several_mutes_the_newest_counts(doubted: Doubted) -> None:
    follow = doubted.follower()
    for second in (10, 999, 5):
        for record in (0, 1):
            doubted.mute(record, T0 + second, follow)
        assert told(doubted.kept)[1:] == ({"temperature": at(second), "humidity": at(second)}, False)
    doubted.mute(1, T0, follow)  # it is over: nobody mutes it any more
    assert told(doubted.kept)[1:] == ({"temperature": at(5)}, True)


@pytest.mark.parametrize("prefix", ["homeassistant", None])
def test_mutes_are_known_after_a_restart_also_those_said_while_it_was_off(
    doubted: Doubted, prefix: str | None
) -> None:
    kept = doubted.kept
    follow = doubted.follower()
    doubted.mute(0, T0 + 500, follow)
    follow.save()
    meanwhile = doubted.follower(prefix=prefix)
    doubted.mute(1, T0 + 500, meanwhile)
    meanwhile.save()
    kept.connections += 1
    again = doubted.follower()
    if prefix is None:  # values of before are old: it begins with the next ones
        assert kept.retained == {}
        feed(again, message(9, ("humidity", 1, 0)))
        assert told(kept) == (set(), {"humidity": at(500)}, False)
    else:
        muted = {"temperature": at(500), "humidity": at(500)}
        assert told(kept) == ({"temperature", "humidity"}, muted, False)


def test_whatever_calls_itself_a_review_mutes_nothing(doubted: Doubted) -> None:
    follow = doubted.follower()
    said = json.dumps(
        {"message": 10**9, "record": 0, "action": "mute", "reason": "", "by": "", "until": T0 + 9}
    )
    for text in (said, "{}", "[]", "x", ""):
        right = hashlib.sha256(text.encode()).digest()
        doubted.append([encode_entry(ArtefactEntry(T0, "review", right, text))])
        doubted.append([encode_entry(ArtefactEntry(T0, "review", bytes(32), text))])
        doubted.append([encode_entry(ArtefactEntry(T0, "model", right, text))])
    doubted.follow(follow)
    assert told(doubted.kept)[1:] == ({}, True)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def mosquitto(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[int]:
    port = free_port()
    (tmp_path / "conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", tmp_path / "conf"], stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listens)
        yield port
    finally:
        process.kill()
        process.wait()


def connection(port: int) -> Connection:
    made = Connection(lambda: Account("127.0.0.1", port), client_id="control", handlers={})
    made.start()
    return made


def test_a_real_broker_keeps_it(mosquitto: int, tmp_path: Path) -> None:
    publisher = connection(mosquitto)
    follow = DiscoveryFollower(
        tmp_path / "d.json",
        site="lab",
        publisher=publisher,
        reader=LogReader(tmp_path / "log"),
        prefix="homeassistant",
        live=False,
    )
    feed(follow, event(NodeEvent.ENROL), message(1, ("temperature", 21.5, 0)))
    follow.tell()
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
    assert both.wait(90), got
    client.disconnect()
    client.loop_stop()
    assert json.loads(got["sensorhub/v1/lab/roof/state"]) == {
        "temperature": 21.5,
        "time": at(0),
        **CALM,
    }


def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorhub.control.connection.TIMEOUT_S", 0.3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        publisher = connection(port)
        until(lambda: publisher.place.endswith(str(port)))
        with pytest.raises(ControlError, match=f"127.0.0.1:{port}"):
            publisher.publish([Publication("t", b"x")])
        publisher.close()


def test_what_a_broker_ends_the_connection_for_is_not_sent_again(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    conf = f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_packet_size 400\n"
    (tmp_path / "conf").write_text(conf)
    process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", tmp_path / "conf"], stderr=subprocess.DEVNULL)
    publisher = connection(port)
    try:
        until(lambda: publisher.connections)
        with pytest.raises(UnacknowledgedError, match="large"):
            publisher.publish([Publication("small", b"x"), Publication("large", bytes(1000))])
        publisher.publish([Publication("small", b"y")])
        assert publisher.connections == 2
    finally:
        publisher.close()
        process.kill()
        process.wait()
