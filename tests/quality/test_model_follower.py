"""The follower with neighbours and the packaged model, on a real log."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from coincurve import PrivateKey

from sensorhub.errors import SensorhubError
from sensorhub.flags import FULL_SCORE, Flag
from sensorhub.log.entries import NodeEntry, VerdictEntry, decode_entry, encode_entry
from sensorhub.nodes import geohash
from sensorhub.quality import follower as module
from sensorhub.quality.explain import document, explain, picture
from sensorhub.quality.follower import ModelJudging, QualityFollower, RulesFollower
from sensorhub.quality.judge import VERSION
from sensorhub.quality.model import Model, shipped
from sensorhub.quality.rules import VERSION as RULES

START = 1_700_000_000 // 3600 * 3600
PLACES = {
    "alder": (39.90, 116.30),
    "birch": (39.92, 116.35),
    "cedar": (39.95, 116.28),
    "dogwood": (39.99, 116.36),
}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(shipped())


def enrol(house, node: str, place: tuple[float, float]) -> bytes:
    key = PrivateKey(hashlib.sha256(node.encode()).digest()).public_key.format(compressed=False)[1:]
    return encode_entry(NodeEntry(1, "enrol", node, "weather", key, None, geohash.encode(*place)))


def fill(house, hours: int, *, start: int = 0, fault_from: int = 10**6) -> None:
    entries = [enrol(house, n, p) for n, p in PLACES.items() if n != "dogwood"] if start == 0 else []
    for hour in range(start, start + hours):
        common = 15 + 8 * math.sin(hour * 2 * math.pi / 24) + 4 * math.sin(hour / 37)
        if hour == 30:
            entries.append(enrol(house, "dogwood", PLACES["dogwood"]))
        for j, node in enumerate(PLACES):
            if node == "dogwood" and hour < 30:
                continue
            wobble = 0.4 * math.sin(hour * 1.7 + 5 * j) + 0.2 * math.sin(hour * 11.3 + j)
            value = common + 1.5 * j + wobble + 14 * (node == "birch" and hour >= fault_from)
            entries.append(
                house.message(
                    node,
                    START + 3600 * hour,
                    [
                        ("temperature", round(value, 1), 0),
                        ("humidity", round(80 - 2 * common + wobble, 1), 0),
                    ],
                )
            )
    house.append(entries)


def judge_all(house, model, *, snapshot=None, batch=1024, upto=10**9) -> QualityFollower:
    with house.client() as client:
        follower = QualityFollower(house.reader, client, ModelJudging(model), snapshot=snapshot)
        while (cursor := follower.cursor()) < min(house.reader.size(), upto):
            follower.apply(list(house.reader.entries(cursor, min(cursor + batch, house.reader.size()))))
    return follower


def verdicts(house, rules: str = VERSION) -> list[tuple[bytes, int, tuple[tuple[int, int], ...]]]:
    found = []
    for _, entry in house.reader.entries(0):
        decoded = decode_entry(entry)
        if isinstance(decoded, VerdictEntry) and decoded.rules == rules:
            found += [(decoded.model, *verdict) for verdict in decoded.verdicts]
    return found


def test_every_message_gets_one_verdict_that_names_the_model(house, model):
    fill(house, 60)
    follower = judge_all(house, model)
    found = verdicts(house)
    assert [index for _, index, _ in found] == [i for i, e in house.reader.entries(0) if e[1] == 2]
    assert {m for m, *_ in found} == {model.sha256}
    status = follower.status()
    assert status["model"] == model.sha256.hex()
    assert status["model_error"] is None
    assert status["judged"] == sum(len(pairs) for *_, pairs in found)


def test_restarts_and_batches_change_no_verdict(house, make_house, model, tmp_path):
    reference = make_house("reference")
    for each in (house, reference):
        fill(each, 50, fault_from=40)
    judge_all(reference, model)
    for upto, kept in ((3, True), (40, True), (90, False), (131, True), (150, True)):
        snapshot = tmp_path / "state" if kept else None
        judge_all(house, model, batch=7, upto=upto, snapshot=snapshot).close()
    judge_all(house, model, batch=64, snapshot=tmp_path / "state")
    assert verdicts(house) == verdicts(reference)


def test_a_model_that_is_not_there_is_told_and_verdicts_name_none(house):
    fill(house, 20)
    with house.client() as client:
        follower = QualityFollower(house.reader, client, ModelJudging(None, "its hash is another"))
        follower.apply(list(house.reader.entries(0)))
    assert {m for m, *_ in verdicts(house)} == {b""}
    assert follower.status()["model_error"] == "its hash is another"


@pytest.mark.parametrize("damage", ["another hash", "cut short", "no hash", "no file", "not a model"])
def test_a_wrong_model_is_refused_at_the_start_and_judging_goes_on(house, tmp_path, damage):
    data = shipped().path.read_bytes()
    expected = found = hashlib.sha256(data).hexdigest()
    path = tmp_path / "site.tflite"
    match damage:
        case "another hash":
            expected = hashlib.sha256(b"another").hexdigest()
        case "cut short":
            data = data[:-100]
            found = hashlib.sha256(data).hexdigest()
        case "not a model":
            data = b"something else"
            expected = found = hashlib.sha256(data).hexdigest()
    if damage != "no file":
        path.write_bytes(data)
    judging = ModelJudging.load(str(path), "" if damage == "no hash" else expected)
    fill(house, 20)
    with house.client() as client:
        follower = QualityFollower(house.reader, client, judging)
        follower.apply(list(house.reader.entries(0)))
    status = follower.status()
    assert status["model"] is None
    assert str(path) in status["model_error"]
    if expected != found:
        assert expected in status["model_error"]
        assert found in status["model_error"]
    assert {m for m, *_ in verdicts(house)} == {b""}
    assert status["judged"] == 120


def test_a_model_of_a_file_takes_part_when_it_is_the_one_that_was_named(house, tmp_path, model):
    path = tmp_path / "site.tflite"
    path.write_bytes(shipped().path.read_bytes())
    fill(house, 5)
    with house.client() as client:
        follower = QualityFollower(house.reader, client, ModelJudging.load(str(path), model.sha256.hex()))
        follower.apply(list(house.reader.entries(0)))
    assert follower.status()["model"] == model.sha256.hex()
    assert {m for m, *_ in verdicts(house)} == {model.sha256}


def test_it_goes_on_where_another_model_stopped(house, model):
    fill(house, 20)
    judge_all(house, None)
    fill(house, 10, start=20)
    judge_all(house, model)
    found = verdicts(house)
    assert [index for _, index, _ in found] == [i for i, e in house.reader.entries(0) if e[1] == 2]
    assert [m for m, *_ in found] == [b""] * 60 + [model.sha256] * 30


def test_it_and_the_rules_do_not_take_each_others_verdicts_for_their_own(house, model):
    fill(house, 20)
    with house.client() as client:
        rules = RulesFollower(house.reader, client)
        rules.apply(list(house.reader.entries(0)))
    judge_all(house, model)
    assert len(verdicts(house)) == len(verdicts(house, RULES)) == 60


def test_nodes_without_a_place_are_compared_as_if_near(house, model):
    fill(house, 60)
    judge_all(house, model)
    last = [flags for *_, pairs in verdicts(house)[-8:] for _, flags in pairs]
    assert not any(flags & Flag.ISOLATED for flags in last)


def test_explain_tells_what_the_log_says_and_why(house, model):
    fill(house, 240, fault_from=216)
    judge_all(house, model)
    told = explain(house.reader, "birch", "temperature", START + 3600 * 225 + 100, model=model)
    assert told.time == START + 3600 * 225
    assert told.logged is not None
    assert round(told.score * FULL_SCORE) == told.logged.score
    assert told.logged.judge == VERSION
    assert told.score < 0.5
    assert told.expected is not None
    assert abs(told.value - told.expected) > 8
    assert sum(told.chances.values()) == pytest.approx(1)
    assert {n.node for n in told.neighbours} == {"alder", "cedar", "dogwood"}
    assert any("neighbours" in sentence for sentence in told.words)
    assert len(told.history) == 49
    drawn = picture(told)
    assert drawn.startswith("<svg")
    assert drawn.count("<polyline") == 3
    for name in ("alder", "cedar", "dogwood", "clean", "drift"):
        assert f">{name}</text>" in drawn


def test_explain_from_some_days_before_says_the_same_in_words(house, model):
    fill(house, 24 * 30, fault_from=24 * 29)
    judge_all(house, model)
    time = START + 3600 * (24 * 29 + 9)
    whole = explain(house.reader, "birch", "temperature", time, model=model, days=math.inf)
    short = explain(house.reader, "birch", "temperature", time, model=model)
    verdict = whole.logged.entry
    known = explain(
        house.reader, "birch", "temperature", time, model=model, message=whole.message, verdict=verdict
    )
    assert known == short
    assert short.logged == whole.logged
    assert round(whole.score * FULL_SCORE) == whole.logged.score
    assert short.flags == whole.flags
    assert short.expected == pytest.approx(whole.expected, abs=0.3)
    assert short.score == pytest.approx(whole.score, abs=0.1)
    assert len(short.history) == len(whole.history) == 49
    assert json.loads(json.dumps(document(short)))["logged"]["flag_names"] == list(whole.flags)


def test_explain_names_what_the_log_does_not_have(house, model):
    fill(house, 5)
    with pytest.raises(SensorhubError, match="elm"):
        explain(house.reader, "elm", "temperature", START, model=model)
