"""The gate that a site's new model has to pass, with models that are truly better, worse, or the same."""

from __future__ import annotations

import numpy as np
import pytest

from sensorhub.quality.model import CLASSES, LOCAL, Model, shipped
from sensorhub.quality.reviews import Label
from sensorhub.quality.training import gate as gates
from sensorhub.quality.training.gate import compare
from sensorhub.quality.training.grids import Grid
from sensorhub.quality.training.site import Site

START = 1_700_000_000 // 3600 * 3600


class Altered:
    """The shipped model with its logits changed."""

    sha256 = bytes(32)

    def __init__(self, change) -> None:
        self._model = Model.load(shipped())
        self._change = change

    def logits(self, *inputs):
        logits = self._model.logits(*inputs)
        self._change(logits, np.random.default_rng(1))
        return logits


def forgetful(logits, rng) -> None:
    """Half of what it knows is drowned in noise."""
    logits += rng.normal(0, 4, logits.shape).astype(np.float32)


def nervous(logits, rng) -> None:
    """Takes a reading in a hundred for a fault, whatever it is."""
    logits[rng.random(len(logits)) < 0.01, 4] += 40


def blind_to_smoke(logits, _) -> None:
    """Takes local events for faults."""
    logits[:, 4] = np.maximum(logits[:, 4], logits[:, LOCAL])
    logits[:, LOCAL] = -20


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    monkeypatch.setattr(gates, "DRAWS", 4)


@pytest.fixture(scope="module")
def site() -> Site:
    """35 days of five nodes, hourly: temperature and particles."""
    rng = np.random.default_rng(0)
    hours, nodes = 24 * 35, 5
    time = START + 3600.0 * np.arange(hours)
    base = 15 + 8 * np.sin(2 * np.pi * time / 86400) + 3 * np.sin(time / 4e5)
    dust = np.exp(3 + 0.5 * np.sin(time / 2e5) + np.cumsum(rng.normal(0, 0.05, hours)))
    there = rng.normal(0, 1, (2, hours, nodes))
    values = {
        "temperature": np.round(base[:, None] + np.arange(nodes) + 0.3 * there[0], 1),
        "pm2_5": np.round(dust[:, None] * np.exp(0.1 * there[1]), 1),
    }
    grid = Grid(time, 3600.0, tuple("abcde"), 39.9 + 0.02 * np.arange(nodes), np.full(nodes, 116.3), values)
    every = {c: np.ones(v.shape, np.bool_) for c, v in values.items()}
    return Site(grid, every, {c: ~v for c, v in every.items()}, {}, hours - 24 * 12)


def outcomes(gate) -> dict[str, str]:
    return {m.name: m.outcome for m in gate.measures}


def test_the_same_model_is_refused(site):
    model = Model.load(shipped())
    found = compare(model, model, site)
    assert set(outcomes(found).values()) == {"same"}
    assert not found.promoted
    assert found.why == "better beyond chance in nothing; worse in nothing"
    assert gates.AGREED not in outcomes(found)
    assert found.precision.keys() <= set(CLASSES)


def test_a_truly_better_model_is_promoted_and_a_worse_one_refused(site):
    model, worse = Model.load(shipped()), Altered(forgetful)
    up = compare(worse, model, site)
    assert up.promoted
    assert outcomes(up)[gates.MEAN] == "better"
    assert gates.MEAN in up.why
    down = compare(model, worse, site)
    assert not down.promoted
    assert outcomes(down)[gates.MEAN] == "worse"
    by_name = {m.name: m for m in down.measures}
    assert by_name[gates.MEAN].new < by_name[gates.MEAN].old - 0.05


def test_a_model_with_more_alarms_is_refused(site):
    found = compare(Model.load(shipped()), Altered(nervous), site)
    assert outcomes(found)[gates.ALARMS] == "worse"
    assert not found.promoted
    assert gates.ALARMS in found.why.partition("worse in")[2]


def test_a_model_that_flags_local_events_is_refused(site):
    found = compare(Model.load(shipped()), Altered(blind_to_smoke), site)
    assert outcomes(found)[gates.LOCAL_FLAGGED] == "worse"
    assert not found.promoted


def labels(site: Site, sound: list[bool], hours_from_cut: int) -> dict[tuple[int, int], Label]:
    time = site.cut_time + 3600 * hours_from_cut
    return {
        (k, 0): Label("a", "temperature", time + 3600 * k, 20.0, each, "x") for k, each in enumerate(sound)
    }


@pytest.mark.parametrize(
    ("old", "new", "hours", "outcome"),
    [
        ([True] * 8, [False] * 8, 0, "better"),
        ([True] * 8, [False] * 8, -50, "same"),  # training saw these: no proof
        ([True] * 8, [False] * 3 + [True] * 5, 0, "same"),  # may be chance
        ([False] * 8, [False] * 7 + [True], 0, "worse"),
        ([False] * 8, [False] * 7 + [True], -50, "worse"),
    ],
)
def test_people_are_agreed_with_no_less(site, old, new, hours, outcome):
    said = labels(site, [False] * 8, hours)
    trusted = tuple(dict(zip(said, each, strict=True)) for each in (old, new))
    found = gates._agreement(said, trusted, site.cut_time)
    assert found.outcome == outcome
    assert (found.old, found.new) == (old.count(False) / 8, new.count(False) / 8)


def test_differences_have_to_matter_and_to_be_beyond_chance():
    assert gates._outcome([0.02, 0.03, 0.02, 0.03], 0.01) == "better"
    assert gates._outcome([-0.02, -0.03, -0.02, -0.03], 0.01) == "worse"
    assert gates._outcome([0.002, 0.003, 0.002, 0.003], 0.01) == "same"
    assert gates._outcome([0.3, -0.2, 0.3, -0.2, 0.1], 0.01) == "same"
    assert gates._outcome([0.5], 0.01) == "same"
    # the model in use has the benefit of the doubt
    assert gates._outcome([0.1, 0.0, 0.1, 0.0], 0.01) == "same"
    assert gates._outcome([-0.1, 0.0, -0.1, 0.0], 0.01) == "worse"
