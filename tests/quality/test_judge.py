"""Rules, neighbours and the packaged model together, and what happens when the model is not there."""

from __future__ import annotations

import hashlib
import itertools
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sensorhub import data
from sensorhub.flags import TRUSTED, Flag
from sensorhub.quality import judge as module
from sensorhub.quality import profiles
from sensorhub.quality.columns import columns_of
from sensorhub.quality.judge import Bar, Judge, caution, model_odds
from sensorhub.quality.model import CLASSES, INPUTS, LOCAL, Model, ModelError, ModelFile, shipped
from sensorhub.quality.rules import HELD_OVER, WRONG_TIME

STEP = 3600
START = 1_700_000_000 // STEP * STEP
PLACES = {
    "alder": (39.90, 116.30),
    "birch": (39.92, 116.33),
    "cedar": (39.95, 116.28),
    "dogwood": (39.91, 116.36),
}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(shipped())


def weather(sender, hours: int, *, wrong=lambda node, hour, value: value, nodes=tuple(PLACES)):
    """Hourly messages of nodes in the same weather, a few degrees apart."""
    rng = np.random.default_rng(3)
    # no two days are alike, or each would look like a replay of the one before
    front = np.cumsum(np.random.default_rng(8).normal(0, 0.8, hours))
    for hour in range(hours):
        common = 15 + 8 * np.sin(hour * 2 * np.pi / 24) + front[hour]
        for j, node in enumerate(nodes):
            value = wrong(node, hour, common + 1.5 * j + rng.normal(0, 0.3))
            humidity = 80 - 2 * common + rng.normal(0, 0.8)
            sender.send(
                node,
                START + hour * STEP,
                [("temperature", round(value, 1), 0.0), ("humidity", round(humidity, 1), 0.0)],
            )
    return sender.messages


def judged(messages, model, *, cuts=(), reload=(), places=PLACES):
    judge = Judge(model)
    scores, flags = [], []
    bounds = [0, *cuts, len(messages)]
    for number, (a, b) in enumerate(itertools.pairwise(bounds)):
        if number == 0:
            for node, place in places.items():
                judge.place(node, *place)
        if number in reload:
            arrays, rest = judge.dump()
            judge = Judge(model)
            judge.restore({k: v.copy() for k, v in arrays.items()}, rest)
        found = judge.judge(columns_of(messages[a:b], judge.rules.numbers))
        scores.append(found.judged.score)
        flags.append(found.judged.flags)
    return np.concatenate(scores), np.concatenate(flags)


def of(messages, node, channel, hours) -> np.ndarray:
    """Positions of the records of a node and channel in some hours."""
    places = []
    position = 0
    for _, message in messages:
        for name in message.pack.names:
            if (
                message.pack.node == node
                and name == channel
                and (message.pack.base_time - START) // STEP in hours
            ):
                places.append(position)
            position += 1
    return np.array(places)


def test_sound_nodes_are_trusted(sender, model):
    scores, flags = judged(weather(sender, 240), model)
    late = scores[len(scores) // 2 :]
    assert (late >= TRUSTED).mean() > 0.98
    assert np.median(late) > 0.8 * 255
    assert not (flags[len(scores) // 2 :] & int(Flag.ISOLATED)).any()


def test_an_offset_that_no_neighbour_shares_is_refuted(sender, model):
    messages = weather(sender, 240, wrong=lambda n, h, v: v + 12 * (n == "birch" and h >= 215))
    scores, flags = judged(messages, model)
    wrong = of(messages, "birch", "temperature", range(216, 240))
    sound = of(messages, "alder", "temperature", range(216, 240))
    assert (scores[wrong] < TRUSTED).mean() > 0.9
    assert (scores[sound] >= TRUSTED).mean() > 0.8
    named = int(Flag.OFFSET | Flag.DRIFT | Flag.SPIKE | Flag.NOISE | Flag.REPLAY | Flag.STUCK | Flag.DROPOUT)
    assert (flags[wrong][scores[wrong] < TRUSTED] & named != 0).all()


def test_a_node_by_itself_is_neither_refuted_nor_confirmed(sender, model):
    scores, flags = judged(weather(sender, 120, nodes=("alder",)), model)
    assert (flags & int(Flag.ISOLATED) != 0).all()
    assert ((scores >= 0.4 * 255 - 1) & (scores <= 0.6 * 255 + 1)).all()


def test_the_first_hours_are_not_corroborated(sender, model):
    scores, flags = judged(weather(sender, 5), model)
    assert (flags & int(Flag.ISOLATED) != 0).all()
    assert (scores <= 0.6 * 255 + 1).all()


def test_a_value_that_cannot_be_scores_nothing_with_or_without_neighbours(sender, model):
    for nodes in (tuple(PLACES), ("alder",)):
        sender.messages.clear()
        messages = weather(
            sender, 60, wrong=lambda n, h, v: 200.0 if h == 50 and n == "alder" else v, nodes=nodes
        )
        scores, flags = judged(messages, model)
        (place,) = of(messages, "alder", "temperature", [50])
        assert scores[place] == 0
        assert flags[place] & int(Flag.RANGE)


@pytest.mark.parametrize("with_model", [True, False])
def test_how_the_log_is_cut_and_where_it_stops_changes_no_verdict(sender, model, with_model):
    messages = weather(sender, 40, wrong=lambda n, h, v: v + 9 * (n == "birch" and h > 30))
    model = model if with_model else None
    whole = judged(messages, model)
    for cuts, reload in (([1, 2, 3, 50, 51, 120], {3, 5}), (list(range(1, len(messages), 7)), {4, 11})):
        parts = judged(messages, model, cuts=cuts, reload=reload)
        np.testing.assert_array_equal(parts[0], whole[0])
        np.testing.assert_array_equal(parts[1], whole[1])


def test_readings_with_a_wrong_clock_are_not_compared_and_move_no_clock(sender, model):
    messages = weather(sender, 60)
    expected = judged(messages, model)[0]
    sender.send("alder", START + 10**8, [("temperature", 20.0, 0.0)], tq=1)
    sender.send("alder", None, [("temperature", 20.0, 0.0)])
    scores, flags = judged(sender.messages, model)
    assert (flags[-2:] & int(Flag.TIME) != 0).all()
    np.testing.assert_array_equal(scores[:-2], expected)


@pytest.mark.parametrize(("doubt", "left"), [("held over", HELD_OVER), ("out of order", WRONG_TIME)])
def test_what_speaks_against_a_time_costs_a_compared_reading_as_much_as_by_the_rules(
    doubt, left, make_sender, model
):
    found = []
    for doubted in (False, True):
        sender, then = make_sender(), START + 60 * STEP
        newest = {message.pack.node: message.pack.values[0] for _, message in weather(sender, 60)}
        sender.send("birch", then, [("temperature", newest["birch"], 0.0)])  # the network's clock
        if doubt == "out of order":
            # the message before, of the same node, is of a later time or of an earlier one
            sender.send("alder", then + (1200 if doubted else -60), [("rain", 0.0, 0.0)])
        held = doubted and doubt == "held over"
        sender.send("alder", then, [("temperature", newest["alder"], 0.0)], tq=1 if held else 2)
        scores, flags = judged(sender.messages, model)
        assert bool(flags[-1] & int(Flag.TIME)) == doubted
        found.append(int(scores[-1]))
    sure, unsure = found
    assert unsure == pytest.approx(left * sure, abs=3)


def test_an_empty_batch_is_judged(model):
    judge = Judge(model)
    assert judge.judge(columns_of([], judge.rules.numbers)).judged.score.size == 0


def test_rows_do_not_depend_on_the_rows_they_are_run_with(model):
    rng = np.random.default_rng(1)
    inputs = [rng.normal(0, 2, (200, *shape)).astype(np.float32) for shape in INPUTS]
    whole = model.logits(*inputs)
    parts = [model.logits(*(x[a : a + 7] for x in inputs)) for a in range(0, 200, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_model_with_another_hash_is_refused_naming_both(tmp_path):
    file = shipped()
    data = bytearray(file.path.read_bytes())
    data[1000] ^= 1
    path = tmp_path / "other.tflite"
    path.write_bytes(data)
    with pytest.raises(ModelError) as refused:
        Model.load(ModelFile(path, file.sha256))
    assert refused.value.expected == file.sha256
    assert refused.value.found == hashlib.sha256(data).hexdigest()
    assert refused.value.expected in str(refused.value)
    assert refused.value.found in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"not a model", bytes(5000)])
def test_bytes_that_are_no_model_are_refused_even_with_the_right_hash(data, tmp_path):
    path = tmp_path / "bad.tflite"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        Model.load(ModelFile(path, hashlib.sha256(data).hexdigest()))


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        Model.load(ModelFile(Path(tmp_path / "nowhere.tflite"), "00"))


class Failing:
    """A model that works for some rows and then does not."""

    def __init__(self, model: Model, how: str) -> None:
        self.sha256 = model.sha256
        self._model = model
        self._how = how
        self.calls = 0
        self.release = threading.Event()

    def logits(self, *inputs):
        self.calls += 1
        if self.calls <= 2:
            return self._model.logits(*inputs)
        if self._how == "raises":
            raise RuntimeError("tensor 7 is gone")
        if self._how == "stalls":
            self.release.wait(60)
        return np.full((len(inputs[0]), 9), np.nan, np.float32)


@pytest.mark.parametrize("how", ["raises", "stalls", "answers nonsense"])
def test_a_model_that_fails_leaves_neighbours_and_rules_to_judge(how, sender, model, monkeypatch):
    messages = weather(sender, 240, wrong=lambda n, h, v: v + 12 * (n == "birch" and h >= 215))
    failing, told = Failing(model, how), []
    judge = Judge(failing, on_failure=told.append)
    for node, place in PLACES.items():
        judge.place(node, *place)
    scores, models = [], []
    for a in range(0, len(messages), 96):
        if failing.calls == 2 and how == "stalls":  # before that a busy machine may take its time
            monkeypatch.setattr(module, "STALL", 0.5)
        found = judge.judge(columns_of(messages[a : a + 96], judge.rules.numbers))
        scores.append(found.judged.score)
        models.append(judge.model)
    failing.release.set()
    assert models == [model.sha256] * 2 + [b""] * (len(models) - 2)
    assert len(told) == 1
    assert failing.calls == 3
    scores = np.concatenate(scores)
    without = judged(messages, None)[0]
    np.testing.assert_array_equal(scores[384:], without[384:])
    wrong = of(messages, "birch", "temperature", range(216, 240))
    assert (scores[wrong] < TRUSTED).mean() > 0.7


def test_real_stations_are_trusted_and_their_smog_is_an_event(stations, sender, model):
    """Four weeks of twelve stations that the model has not seen in these weeks, with two red alerts for smog."""
    for time, node, records in stations:
        sender.send(node, time, records)
    scores, flags = judged(sender.messages, model, places={})
    late = slice(len(scores) // 4, None)
    assert (scores[late] >= TRUSTED).mean() > 0.97
    assert 0.005 < (flags[late] & int(Flag.REGIONAL) != 0).mean() < 0.1


def test_gaps_and_uneven_messages_of_real_stations_change_nothing_by_where_batches_end(
    stations, sender, model
):
    """A neighbour that speaks later in the log must not be seen, nor how often it speaks."""
    for time, node, records in stations:
        sender.send(node, time, records)

    def verdicts(size: int) -> tuple[np.ndarray, np.ndarray]:
        judge = Judge(model)
        for node, place in data.places().items():
            judge.place(node.lower(), *place)
        found = [
            judge.judge(columns_of(sender.messages[a : a + size], judge.rules.numbers)).judged
            for a in range(0, len(sender.messages), size)
        ]
        return np.concatenate([f.score for f in found]), np.concatenate([f.flags for f in found])

    whole, parts = verdicts(4096), verdicts(5)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])


@dataclass
class Told:
    """What neighbours say of some readings."""

    residual: np.ndarray
    support: np.ndarray
    moving: np.ndarray
    run: np.ndarray

    @classmethod
    def of(cls, residual=3.0, support=1.0, moving=0.0, run=5.0):
        wide = np.broadcast_arrays(*(np.atleast_1d(np.float32(x)) for x in (residual, support, moving, run)))
        return cls(*wide)


def logits(**named) -> np.ndarray:
    """One row: 0 for what is not named."""
    found = np.zeros((1, len(CLASSES)), np.float32)
    for name, value in named.items():
        found[0, CLASSES.index(name)] = value
    return found


def rising(told: Told, row: np.ndarray) -> np.ndarray:
    return np.diff(model_odds(told, np.repeat(row, told.residual.size, axis=0)))


def test_a_contradiction_counts_by_how_large_near_and_steady_it_is():
    fault = logits(offset=2, clean=2)
    assert (rising(Told.of(residual=[0, 1, -3, 9]), fault) > 0).all()
    assert (rising(Told.of(support=[0.1, 0.5, 1, 3]), fault) > 0).all()
    assert (rising(Told.of(moving=[0, 0.5, 2, 9]), fault) < 0).all()
    assert (rising(Told.of(run=[0.1, 1, 9]), fault) < 0.3).all()


def test_a_flat_run_is_stuck_only_when_it_is_long_for_its_series():
    stuck = logits(stuck=4, clean=4.2, **{"local event": -6})
    odds = model_odds(Told.of(run=[0.2, 1, 2, 40]), np.repeat(stuck, 4, axis=0))
    assert odds[0] < odds[1] < odds[2] == odds[3]
    assert odds[1] < 0 < odds[2]


def test_what_is_more_likely_a_local_event_than_a_fault_is_no_alarm():
    row = logits(offset=3, clean=-3)
    assert model_odds(Told.of(residual=9), row)[0] > 0
    row[0, LOCAL] = 3
    assert -1.6 < model_odds(Told.of(residual=9), row)[0] < -0.5


def test_each_series_has_its_own_bar():
    usual, hours = Bar(), 24 * 60
    time = START + STEP * np.repeat(np.arange(hours), 3)
    series = np.tile(np.arange(3), hours)
    rng = np.random.default_rng(1)
    # quiet, restless, and quiet with a week of alarms
    odds = np.array([-8.0, -3.0, -8.0])[series] + rng.normal(0, 0.5, series.size)
    alarms = (series == 2) & (time > START + 50 * 86_400)
    odds[alarms] = 9.0
    less = usual.take(series, time, odds).reshape(-1, 3)
    np.testing.assert_array_equal(less[0], module.USUAL_SHARE * (module.USUAL_START - module.USUAL_ZERO))
    quiet, restless, _ = less[24 * 50 - 1]
    assert restless - quiet == pytest.approx(module.USUAL_SHARE * 5, abs=0.5)
    assert less[-1, 2] == less[24 * 50 + 1, 2]


def test_the_bar_of_a_series_does_not_depend_on_where_batches_end():
    rng = np.random.default_rng(2)
    series = rng.integers(0, 7, 900)
    time = START + np.arange(900) * 61.0
    odds = rng.normal(-4, 3, 900)
    whole = Bar()
    told = whole.take(series, time, odds)
    parts, cut = Bar(), [0, 1, 17, 17, 400, 900]
    found = [parts.take(series[a:b], time[a:b], odds[a:b]) for a, b in itertools.pairwise(cut)]
    np.testing.assert_array_equal(np.concatenate(found), told)
    again = Bar()
    again.load({name: array.copy() for name, array in whole.dump().items()})
    np.testing.assert_array_equal(again.take(series, time + 9e5, odds), whole.take(series, time + 9e5, odds))


def test_memory_of_another_model_is_not_taken_back(sender, model):
    messages = weather(sender, 30)
    judge = Judge(model)
    empty = judge.dump()
    judge.judge(columns_of(messages, judge.rules.numbers))
    arrays, rest = judge.dump()
    with pytest.raises(ValueError, match="another model"):
        Judge(None).restore(arrays, rest)
    Judge(None).restore(*empty)
    Judge(model).restore(arrays, rest)


@dataclass
class Kind:
    """Of which kind some readings are."""

    profile: np.ndarray
    cadence: np.ndarray


def test_an_alarm_needs_more_where_there_are_more_occasions_for_a_false_one():
    number = profiles.NUMBER["temperature"]
    kind = Kind(np.full(5, number), np.array([10, 600, 1200, 1800, 3600], np.float32))
    found = caution(kind)
    assert found[0] == found[1] == found[2] == profiles.CAUTION[number]
    assert found[2] > found[3] > found[4]
    assert found[4] == profiles.CAUTION[number] - module.EASE
    assert caution(Kind(np.array([profiles.NUMBER["pressure"]]), kind.cadence[:1]))[0] > found[0]
