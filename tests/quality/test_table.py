"""Scoring a table outside of a log."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from sensorhub.errors import SensorhubError
from sensorhub.quality.model import Model, shipped
from sensorhub.quality.table import odds_of, score_file

START = 1_700_000_000 // 3600 * 3600


def table(hours: int = 24 * 12, shuffle: bool = False) -> list[tuple[str, str, int, float, float, float]]:
    rng = np.random.default_rng(2)
    rows = []
    for hour in range(hours):
        common = 15 + 8 * np.sin(hour * 2 * np.pi / 24)
        for j in range(5):
            value = common + j + rng.normal(0, 0.3) + 12 * (j == 2 and hour >= hours - 12)
            rows.append(
                (f"n{j}", "temperature", START + 3600 * hour, round(float(value), 1), 39.9 + 0.02 * j, 116.3)
            )
    if shuffle:
        rng.shuffle(rows)
    return rows


def columns(rows):
    node, sensor, time, value, lat, lon = zip(*rows, strict=True)
    return (
        np.array(node, object),
        np.array(sensor, object),
        np.array(time, float),
        np.array(value, float),
        np.array(lat, float),
        np.array(lon, float),
    )


@pytest.mark.parametrize("with_model", [True, False])
def test_faulty_rows_score_above_all_sound_ones(with_model):
    rows = table()
    odds = odds_of(*columns(rows), model=Model.load(shipped()) if with_model else None)
    faulty = np.array([r[0] == "n2" and r[2] >= START + 3600 * (24 * 12 - 12) for r in rows])
    late = np.array([r[2] >= START + 3600 * 24 * 5 for r in rows])
    assert np.median(odds[faulty]) > np.quantile(odds[~faulty & late], 0.99)


def test_smoke_at_one_node_is_let_through_and_an_offset_is_not():
    """Puffs that rise within ten minutes and fade, and a level that jumps and keeps all of the usual unrest."""
    rng = np.random.default_rng(6)
    steps = 6 * 24 * 12
    common = np.zeros(steps)
    for k in range(1, steps):
        common[k] = 0.99 * common[k - 1] + rng.normal(0, 0.05)
    value = 9 * np.exp(common[:, None] + rng.normal(0, 0.06, (steps, 5)))
    puffs = np.zeros(steps, bool)
    for start in range(steps - 600, steps - 150, 73):
        course = rng.uniform(50, 110) * np.exp(-np.arange(9) / rng.uniform(1.5, 3)) * rng.uniform(0.8, 1.2, 9)
        value[start : start + 9, 2] += course
        puffs[start : start + 9] = course > 16
    value[-100:, 3] += 45
    rows = [
        (f"n{j}", "pm2_5", START + 600 * k, round(float(value[k, j]), 1), 39.9 + 0.01 * j, 116.3)
        for k in range(steps)
        for j in range(5)
    ]
    odds = odds_of(*columns(rows), model=Model.load(shipped())).reshape(steps, 5)
    # the first steps of the first puffs cannot be told from spikes
    assert (odds[puffs, 2] < 0).mean() > 0.6
    assert (odds[-90:, 3] > 0).mean() > 0.6


def test_the_order_of_rows_does_not_matter():
    rows, mixed = table(60), table(60, shuffle=True)
    a = dict(zip([(r[0], r[2]) for r in rows], odds_of(*columns(rows), model=None), strict=True))
    b = dict(zip([(str(r[0]), int(r[2])) for r in mixed], odds_of(*columns(mixed), model=None), strict=True))
    assert a == b


def test_no_score_changes_when_later_rows_are_cut_off():
    rows = table(100)
    model = Model.load(shipped())
    whole = odds_of(*columns(rows), model=model)
    np.testing.assert_array_equal(odds_of(*columns(rows[:300]), model=model), whole[:300])


def test_a_file_gets_a_score_for_each_line(tmp_path):
    rows = table(50)
    with (tmp_path / "in.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["node_id", "sensor", "timestamp", "value", "lat", "lon"])
        writer.writerows(rows)
    assert score_file(tmp_path / "in.csv", tmp_path / "out.csv", model=Model.load(shipped())) == len(rows)
    lines = (tmp_path / "out.csv").read_text().split()
    assert lines[0] == "score"
    scores = [float(x) for x in lines[1:]]
    assert len(scores) == len(rows)
    assert all(0 <= s <= 1 for s in scores)


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "in.csv").write_text("node_id,value\na,1\n")
    with pytest.raises(SensorhubError, match=r"in\.csv"):
        score_file(tmp_path / "in.csv", tmp_path / "out.csv", model=None)
    (tmp_path / "in.csv").write_text("node_id,sensor,timestamp,value,lat,lon\na,charm,1,1,1,1\n")
    with pytest.raises(SensorhubError, match="charm"):
        score_file(tmp_path / "in.csv", tmp_path / "out.csv", model=None)


def test_a_time_that_is_no_unix_second_is_named(tmp_path):
    source = tmp_path / "in.csv"
    for time in ("1700000000000", "1e300", "-1e300"):
        source.write_text(
            "node_id,sensor,timestamp,value,lat,lon\n"
            f"a,temperature,1700000000,20,,\na,temperature,{time},20,,\n"
        )
        with pytest.raises(SensorhubError, match=r"row 2 has the timestamp .* divide milliseconds"):
            score_file(source, tmp_path / "out.csv", model=None)


def test_scores_never_take_the_place_of_the_table(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("node_id,sensor,timestamp,value,lat,lon\na,temperature,1700000000,20,,\n")
    with pytest.raises(SensorhubError, match="name another file"):
        score_file(source, source, model=None)
    assert "temperature" in source.read_text()
