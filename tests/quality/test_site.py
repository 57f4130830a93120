"""Learning from the gateway's own log, and the gate a new model has to pass."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from coincurve import PrivateKey

from sensorhub.errors import SensorhubError
from sensorhub.log.entries import NodeEntry, encode_entry
from sensorhub.nodes import geohash
from sensorhub.quality import follower as module
from sensorhub.quality.follower import RulesFollower
from sensorhub.quality.model import CLASSES, Model, shipped
from sensorhub.quality.training.site import gate, grid_of

START = 1_700_000_000 // 3600 * 3600
NODES = ("alder", "birch", "cedar")


def fill(house, hours: int) -> None:
    entries = []
    for j, node in enumerate(NODES):
        key = PrivateKey(hashlib.sha256(node.encode()).digest()).public_key.format(compressed=False)[1:]
        place = geohash.encode(39.9 + 0.05 * j, 116.3)
        entries.append(encode_entry(NodeEntry(1, "enrol", node, "weather", key, None, place)))
    rng = np.random.default_rng(4)
    for hour in range(hours):
        for j, node in enumerate(NODES):
            value = 15 + 8 * math.sin(hour * 2 * math.pi / 24) + j + float(rng.normal(0, 0.4))
            value = 85.0 if node == "birch" and hour == 100 else value
            records = [("temperature", round(value, 1), 0), ("battery_voltage", 3.9, 0)]
            entries.append(house.message(node, START + 3600 * hour, records))
    house.append(entries)


def judge(house) -> None:
    with house.client() as client:
        follower = RulesFollower(house.reader, client)
        while (cursor := follower.cursor()) < house.reader.size():
            follower.apply(list(house.reader.entries(cursor, min(cursor + 1024, house.reader.size()))))


def test_the_trusted_readings_of_a_log_become_a_grid(house, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    fill(house, 24 * 31)
    judge(house)
    grid = grid_of(house.reader)
    assert (grid.cadence, grid.nodes, list(grid.values)) == (3600.0, NODES, ["temperature"])
    temperature = grid.values["temperature"]
    assert np.isfinite(temperature).mean() > 0.98
    # what the rules refuted is nothing to learn from
    at = int((START + 3600 * 100 - grid.time[0]) / 3600)
    assert np.isnan(temperature[at, 1])
    assert np.nanmax(temperature) < 40
    np.testing.assert_allclose(grid.latitude, [39.9, 39.95, 40.0], atol=0.03)


def test_a_log_that_is_too_short_is_named(house, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with pytest.raises(SensorhubError, match="no readings"):
        grid_of(house.reader)
    fill(house, 24 * 3)
    judge(house)
    with pytest.raises(SensorhubError, match="30 days"):
        grid_of(house.reader)


class Guess:
    """A model that knows nothing."""

    sha256 = bytes(32)

    def logits(self, *inputs):
        rng = np.random.default_rng(1)
        return rng.normal(0, 3, (len(inputs[0]), len(CLASSES))).astype(np.float32)


def test_only_a_better_model_passes_the_gate():
    rng = np.random.default_rng(0)
    from sensorhub.quality.training.grids import Grid

    hours = 24 * 300
    time = START + 3600.0 * np.arange(hours)
    base = 15 + 8 * np.sin(2 * np.pi * time / 86400) + 3 * np.sin(time / 4e5)
    values = np.round(base[:, None] + np.arange(4) + rng.normal(0, 0.3, (hours, 4)), 1)
    site = Grid(
        time,
        3600.0,
        ("a", "b", "c", "d"),
        39.9 + 0.02 * np.arange(4),
        np.full(4, 116.3),
        {"temperature": values},
    )
    model = Model.load(shipped())
    better = gate(Guess(), model, site)
    assert better.promoted
    assert np.mean(list(better.new.values())) > np.mean(list(better.old.values())) + 0.1
    assert not gate(model, Guess(), site).promoted
    assert not gate(model, model, site).promoted
