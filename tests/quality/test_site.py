"""A gateway's own log as something to learn from: what is trusted, what was muted, what people said; and a whole run."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from coincurve import PrivateKey

from sensorhub.errors import SensorhubError
from sensorhub.flags import Flag
from sensorhub.log.entries import ArtefactEntry, NodeEntry, VerdictEntry, decode_entry, encode_entry
from sensorhub.nodes import geohash
from sensorhub.quality import follower as module
from sensorhub.quality.follower import ModelJudging, QualityFollower, RulesFollower
from sensorhub.quality.model import CLASSES, LOCAL, Model, shipped
from sensorhub.quality.reviews import Action, Review, labelled, review
from sensorhub.quality.training import gate as gates
from sensorhub.quality.training import people, promotion
from sensorhub.quality.training.gate import Gate, Measure
from sensorhub.quality.training.site import GATE_DAYS, grid_of, read_site

START = 1_700_000_000 // 3600 * 3600
NODES = ("alder", "birch", "cedar")
#: When birch shows an absurd temperature.
ABSURD = START + 3600 * 100


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)


def fill(house, hours: int) -> None:
    entries = []
    for j, node in enumerate(NODES):
        key = PrivateKey(hashlib.sha256(node.encode()).digest()).public_key.format(compressed=False)[1:]
        place = geohash.encode(39.9 + 0.05 * j, 116.3)
        entries.append(encode_entry(NodeEntry(1, "enrol", node, "weather", key, None, place)))
    rng = np.random.default_rng(4)
    for hour in range(hours):
        common = 15 + 8 * math.sin(hour * 2 * math.pi / 24) + 4 * math.sin(hour / 37)
        for j, node in enumerate(NODES):
            value = common + j + float(rng.normal(0, 0.4))
            value = 85.0 if node == "birch" and hour == 100 else value
            records = [("temperature", round(value, 1), 0), ("battery_voltage", 3.9, 0)]
            entries.append(house.message(node, START + 3600 * hour, records))
    house.append(entries)


def judge(house, *, by_model: bool = False) -> None:
    with house.client() as client:
        follower = (
            QualityFollower(house.reader, client, ModelJudging.load())
            if by_model
            else RulesFollower(house.reader, client)
        )
        while (cursor := follower.cursor()) < house.reader.size():
            follower.apply(list(house.reader.entries(cursor, min(cursor + 1024, house.reader.size()))))


def say(house, node: str, hour: int, action: Action, reason: str, **more) -> None:
    """A person's word on the temperature of a node; entry 0 is the genesis, then come the nodes."""
    message = 1 + len(NODES) + hour * len(NODES) + NODES.index(node)
    with house.client() as client:
        review(house.reader, client, Review(message, 0, action, reason, "Kim", **more))


@pytest.fixture
def month(house):
    """31 days, judged by the rules."""
    fill(house, 24 * 31)
    judge(house)
    return house


def test_the_trusted_readings_of_a_log_become_a_grid(month):
    grid = grid_of(month.reader)
    assert (grid.cadence, grid.nodes, list(grid.values)) == (3600.0, NODES, ["temperature"])
    temperature = grid.values["temperature"]
    assert np.isfinite(temperature).mean() > 0.98
    # what the rules refuted is nothing to learn from
    assert np.isnan(temperature[int((ABSURD - grid.time[0]) / 3600), 1])
    assert np.nanmax(temperature) < 40
    np.testing.assert_allclose(grid.latitude, [39.9, 39.95, 40.0], atol=0.03)


def test_a_log_that_is_too_short_is_named(house):
    with pytest.raises(SensorhubError, match="no readings"):
        grid_of(house.reader)
    fill(house, 24 * 3)
    judge(house)
    with pytest.raises(SensorhubError, match=r"30 days of two nodes.*3 trusted days of 3; let it grow"):
        grid_of(house.reader)


def test_muted_days_are_nothing_to_learn_from_and_nothing_to_measure(month):
    until = START + 3600 * 24 * 30
    say(month, "cedar", 24 * 15, Action.MUTE, "on the roof", until=until)
    site = read_site(month.reader)
    muted = (site.grid.time >= START + 3600 * 24 * 15) & (site.grid.time < until)
    assert muted.sum() == 24 * 15
    assert np.isnan(site.sound().values["temperature"][muted, 2]).all()
    assert np.isfinite(site.sound().values["temperature"][muted, 0]).mean() > 0.95
    assert np.isfinite(site.sound().values["temperature"][~muted, 2]).mean() > 0.95
    held, counts = site.held_back()
    assert np.isfinite(held.values["temperature"]).all()
    assert not counts["temperature"][held.time < until, 2].any()
    assert counts["temperature"][held.time >= until, 2].all()


def test_the_last_days_are_held_back_behind_days_to_warm_up(month):
    site = read_site(month.reader)
    held, counts = site.held_back()
    assert len(site.grid.time) - site.cut == 24 * GATE_DAYS
    assert site.learn().time[-1] < site.cut_time
    assert counts["temperature"].any(axis=1).sum() == 24 * GATE_DAYS
    assert held.time[0] == site.cut_time - 10 * 86_400
    np.testing.assert_array_equal(held.time[counts["temperature"].any(axis=1)], site.grid.time[site.cut :])


def test_a_persons_word_is_what_is_trusted(month):
    say(month, "birch", 100, Action.CORRECT, "a sauna", sound=True)
    say(month, "alder", 200, Action.CORRECT, "a spider", sound=False)
    say(month, "alder", 24 * 31 - 5, Action.CORRECT, "a spider", sound=False)
    # a later verdict of a judge, or one of another length, does not count any more
    message = 1 + len(NODES) + 200 * len(NODES)
    for pairs in (((255, 0), (255, 0)), ((255, 0),)):
        month.append([encode_entry(VerdictEntry(5, b"", "rules/9", ((message, pairs),)))])
    site = read_site(month.reader)
    temperature = site.sound().values["temperature"]
    at = [int((START + 3600 * hour - site.grid.time[0]) / 3600) for hour in (100, 200, 24 * 31 - 5)]
    assert temperature[at[0], 1] == 85.0
    assert np.isnan(temperature[at[1], 0])
    assert not site.held_back()[1]["temperature"][at[2] - len(site.grid.time), 0]


def test_a_corrected_reading_becomes_a_positive_of_the_class_that_it_was_called(month):
    for hour, reason in ((300, "it was stuck"), (310, "Drifting since May"), (320, "a spider in the box")):
        say(month, "alder", hour, Action.CORRECT, reason, sound=False)
    say(month, "cedar", 330, Action.CORRECT, "as it was", sound=True)
    labels = labelled(month.reader)
    heard = people.hear(month.reader, Model.load(shipped()), labels)
    assert list(heard) == list(labels)
    assert all(each.trusted for each in heard.values())
    found = people.examples_of(heard, labels, {"temperature": 16})
    assert len(found) == 4 * people.REPEATED
    by_reading = [int(one.label[0]) for one in found[:: people.REPEATED]]
    assert by_reading[:2] == [CLASSES.index("stuck"), CLASSES.index("drift")]
    assert 0 < by_reading[2] < LOCAL
    assert by_reading[3] in (0, LOCAL)
    assert found[0].window.shape == (1, 32, 8)
    assert found[0].origin[0] == 16
    assert people.examples_of(heard, labels, {"pm2_5": 16}) == []


def test_the_class_is_the_one_of_the_reason_else_of_the_flags_else_the_likeliest(month):
    say(month, "alder", 300, Action.CORRECT, "a spider", sound=False)
    label = next(iter(labelled(month.reader).values()))
    logits = np.zeros((1, len(CLASSES)), np.float32)
    logits[0, CLASSES.index("replay")] = 3
    logits[0, CLASSES.index("noise")] = 1

    def name(**changes) -> str:
        return CLASSES[people.class_of(replace(label, **changes), logits)]

    assert name() == "replay"
    assert name(reason="noisy") == "noise"
    assert name(flags=int(Flag.DROPOUT | Flag.REGIONAL)) == "dropout"
    assert name(flags=int(Flag.DROPOUT | Flag.NOISE)) == "noise"
    # a reason that names two says neither
    assert name(reason="stuck, or a drift", flags=int(Flag.OFFSET)) == "offset"
    assert name(sound=True, reason="stuck") == "clean"
    logits[0, LOCAL] = 1
    assert name(sound=True) == "local event"


def test_a_judge_is_told_of_what_people_judged_from_the_first_entry_on(month):
    say(month, "birch", 100, Action.CONFIRM, "a lighter")
    say(month, "alder", 300, Action.CORRECT, "x", sound=False)
    labels = labelled(month.reader)
    heard = people.hear(month.reader, Model.load(shipped()), labels)
    # the absurd one is out of range for every judge; nothing speaks against alder but Kim
    assert [labels[key].sound for key in heard] == [False, False]
    assert [each.trusted for each in heard.values()] == [False, True]
    assert people.hear(month.reader, Model.load(shipped()), {}) == {}


def promoted(old: float, new: float, outcome: str) -> Gate:
    return Gate((Measure(gates.MEAN, old, new, outcome),))


def test_a_model_that_was_put_to_use_is_recorded_with_what_it_beat(house, tmp_path):
    result = promotion.Result(promoted(0.8, 0.9, "better"), shipped().sha256, tmp_path / "ab.tflite")
    entry = decode_entry(house.reader.entry(promotion.record(result, house.append)))
    assert isinstance(entry, ArtefactEntry)
    assert (entry.what, entry.sha256.hex()) == ("model", shipped().sha256)
    assert json.loads(entry.description) == {
        "file": "ab.tflite",
        "promoted": True,
        "why": "better beyond chance in average precision 0.900, in use 0.800; worse in nothing",
        "measures": [{"name": gates.MEAN, "old": 0.8, "new": 0.9, "outcome": "better"}],
    }


def train(house, *words: str):
    data = house.path.parent
    (data / "run").mkdir(exist_ok=True)
    if not (data / "run" / "log.sock").exists():
        (data / "run" / "log.sock").symlink_to(house.socket)
    return subprocess.run(
        [sys.executable, "-m", "sensorhub", "train", "--site", "--out", data / "new", *words],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(data),
            "COLUMNS": "160",
            "SENSORHUB_GATEWAY_DATA_DIR": str(data),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_refuses_a_short_log(house):
    pytest.importorskip("tensorflow")
    fill(house, 24 * 3)
    judge(house)
    done = train(house)
    assert done.returncode == 1
    assert "a site model needs 30 days" in done.stderr
    assert "Traceback" not in done.stderr
    assert "--unlearnt is for tables" in train(house, "--unlearnt", "alder").stderr
    assert not (house.path.parent / "new").exists()


def test_a_site_model_is_learnt_from_the_log_compared_and_put_to_use_or_not(house):
    pytest.importorskip("tensorflow")
    fill(house, 24 * 40)
    judge(house, by_model=True)
    say(house, "alder", 300, Action.CORRECT, "it was stuck", sound=False)
    done = train(house, "--rounds", "2", "--epochs", "1")
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "people judged 1" in done.stderr
    new = house.path.parent / "new"
    card = json.loads((new / "anomaly.json").read_text())
    assert card["sha256"] == hashlib.sha256((new / "anomaly.tflite").read_bytes()).hexdigest()
    assert card["start"] == shipped().sha256
    assert card["people"] == 1
    assert {m["name"] for m in card["gate"]["measures"]} >= {
        gates.MEAN,
        gates.ALARMS,
        gates.FOUND,
        gates.AGREED,
    }
    assert card["gate"]["why"] in (new / "anomaly.md").read_text()
    assert card["gate"]["why"] in done.stdout
    kept = house.path.parent / "models" / f"{card['sha256'][:16]}.tflite"
    recorded = [e for _, raw in house.reader.entries(0) if isinstance(e := decode_entry(raw), ArtefactEntry)]
    models = [e.sha256.hex() for e in recorded if e.what == "model"]
    if done.returncode:
        assert "refused, the model in use stays" in done.stdout
        assert not kept.exists()
        assert not models
    else:
        assert f'model_sha256 = "{card["sha256"]}"' in done.stdout
        assert kept.read_bytes() == (new / "anomaly.tflite").read_bytes()
        assert json.loads(kept.with_suffix(".json").read_text()) == card
        assert models == [card["sha256"]]
    shown = subprocess.run(
        [sys.executable, "-m", "sensorhub", "quality", "model", "--model", new / "anomaly.tflite"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "own log" in shown.stdout
