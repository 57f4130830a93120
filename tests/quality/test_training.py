"""Training: the faults that are put in, what is measured, and a whole run on a small table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sensorhub.errors import SensorhubError
from sensorhub.quality.model import CLASSES, LOCAL, Model, ModelFile
from sensorhub.quality.training import faults, measure
from sensorhub.quality.training.events import (
    as_flat,
    blended,
    coarser,
    far_apart,
    local_events,
    of_one_place,
    other_yards,
)
from sensorhub.quality.training.examples import beside, build, evidence_of, examples_of
from sensorhub.quality.training.faults import BETWEEN, FAMILIES, inject
from sensorhub.quality.training.grids import Grid, read


def grid(hours: int = 24 * 30, nodes: int = 4) -> Grid:
    rng = np.random.default_rng(0)
    time = 1.7e9 // 3600 * 3600 + 3600.0 * np.arange(hours)
    base = 15 + 8 * np.sin(2 * np.pi * time / 86400) + np.cumsum(rng.normal(0, 0.3, hours))
    dust = np.exp(3 + np.cumsum(rng.normal(0, 0.1, hours)) * 0.3)
    there = rng.normal(0, 1, (2, hours, nodes))
    return Grid(
        time,
        3600.0,
        tuple(f"n{j}" for j in range(nodes)),
        39.9 + 0.02 * np.arange(nodes),
        np.full(nodes, 116.3),
        {
            "temperature": np.round(base[:, None] + 0.3 * there[0] + np.arange(nodes), 1),
            "pm2_5": np.round(dust[:, None] * np.exp(0.1 * there[1]), 1),
        },
    )


def write(path, g: Grid) -> None:
    lines = ["node_id,sensor,timestamp,value,lat,lon"]
    for channel, values in g.values.items():
        for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True):
            lines.append(
                f"{g.nodes[j]},{channel},{int(g.time[i])},{values[i, j]},{g.latitude[j]},{g.longitude[j]}"
            )
    path.write_text("\n".join(lines))


def test_faults_follow_from_the_seed_and_are_where_the_labels_say():
    clean = grid(24 * 120)
    a, b = inject(clean, 4), inject(clean, 4)
    kinds = set()
    for channel, values in clean.values.items():
        np.testing.assert_array_equal(a.grid.values[channel], b.grid.values[channel])
        changed = a.grid.values[channel] != values
        faulty = a.label[channel] > 0
        stuck = a.label[channel] == CLASSES.index("stuck")
        assert (changed | stuck)[faulty].all()
        sound = (a.label[channel] == 0) & a.count[channel]
        # a dead sensor's value is counted as sound only where it is the truth
        assert (np.abs(a.grid.values[channel] - values)[sound] < 5).all()
        kinds |= set(np.unique(a.label[channel]).tolist())
        assert 0.03 < faulty.mean() < 0.5
    assert kinds == set(range(LOCAL))
    assert (inject(clean, 5).label["pm2_5"] != a.label["pm2_5"]).any()


def test_local_events_are_true_of_their_node_and_not_of_the_others():
    clean = grid(24 * 60)
    with_events, local = local_events(clean, np.random.default_rng(1))
    assert (with_events.values["temperature"] == clean.values["temperature"]).all()
    more = with_events.values["pm2_5"] - clean.values["pm2_5"]
    assert (more[local["pm2_5"] & ~of_one_place(clean)["pm2_5"]] >= 11.9).all()
    # several small ones may add up
    assert (np.abs(more[~local["pm2_5"]]) <= 36).all()
    assert 0.001 < local["pm2_5"].mean() < 0.2
    # the nodes differ in how much they have of them
    shares = np.sort((more > 12).mean(axis=0))
    assert shares[-1] > 3 * shares[0]
    same, _ = local_events(clean, np.random.default_rng(1))
    np.testing.assert_array_equal(same.values["pm2_5"], with_events.values["pm2_5"])


def test_faults_come_on_top_of_local_events():
    clean = grid(24 * 60)
    found = inject(clean, 7, events=True)
    labels = np.unique(found.label["pm2_5"])
    assert set(labels.tolist()) >= {0, CLASSES.index("offset"), LOCAL}
    assert not (found.family["pm2_5"][found.label["pm2_5"] == LOCAL] > 0).any()


def test_what_lies_between_dead_readings_is_sound():
    clean = grid(24 * 200)
    found = inject(clean, 3)
    for channel, values in clean.values.items():
        between = found.family[channel] == BETWEEN
        assert between.any()
        assert (found.label[channel][between] == 0).all()
        np.testing.assert_allclose(found.grid.values[channel][between], values[between], atol=4)


def test_other_networks_made_of_one_keep_its_shape_and_hold_no_faults():
    clean = grid(24 * 40)
    for made in (
        vary(clean, np.random.default_rng(2)) for vary in (other_yards, far_apart, blended, coarser)
    ):
        assert made.nodes == clean.nodes
        for channel, values in made.values.items():
            assert values.shape == clean.values[channel].shape
            assert np.isfinite(values).mean() > 0.9
    stretched = far_apart(clean, np.random.default_rng(2)).latitude
    assert np.ptp(stretched) > 1.9 * np.ptp(clean.latitude)


def test_blended_nodes_lie_between_nodes_or_a_little_outside():
    clean = grid(24 * 40)
    clean.values["temperature"][100:200, 1] = np.nan
    made = blended(clean, np.random.default_rng(5))
    for channel, values in made.values.items():
        changed = [
            j
            for j in range(4)
            if not np.array_equal(values[:, j], clean.values[channel][:, j], equal_nan=True)
        ]
        assert 1 <= len(changed) <= 4
        wide = np.nanmax(clean.values[channel], axis=1) - np.nanmin(clean.values[channel], axis=1)
        off = np.abs(values - clean.values[channel]) <= wide[:, None] + 3.1
        assert off[np.isfinite(values)].all()


def _stands(values: np.ndarray) -> np.ndarray:
    """Where a value is that of the moment before."""
    return values[1:] == values[:-1]


@pytest.mark.parametrize("vary", [other_yards, blended])
def test_a_sensor_that_stands_still_does_so_in_every_variation(vary):
    clean = grid(24 * 40)
    for values in clean.values.values():
        values[:, 2] = np.repeat(values[::6, 2], 6)  # a new value every six hours
        values[200:220, 2] = np.nan
    made = vary(clean, np.random.default_rng(3))
    for channel, values in clean.values.items():
        still = _stands(values[:, 2])
        assert still.mean() > 0.7
        assert _stands(made.values[channel][:, 2])[still].all()
        assert np.array_equal(np.isnan(made.values[channel][:, 2]), np.isnan(values[:, 2]))


def test_flat_runs_end_at_gaps():
    old = np.array([[1.0], [1.0], [np.nan], [1.0], [1.0], [2.0]])
    new = np.array([[3.0], [4.0], [np.nan], [5.0], [6.0], [7.0]])
    np.testing.assert_array_equal(as_flat(new, old), [[3.0], [3.0], [np.nan], [5.0], [5.0], [7.0]])


def test_coarser_sensors_stand_still_for_longer_and_are_off_by_half_a_step():
    clean = grid(24 * 40)
    made = coarser(clean, np.random.default_rng(1))
    changed = 0
    for channel, step in (("temperature", 0.5), ("pm2_5", 1.0)):
        for j in range(4):
            before, after = clean.values[channel][:, j], made.values[channel][:, j]
            assert np.abs(after - before).max() <= step / 2 + 0.06
            if not np.array_equal(before, after):
                changed += 1
                assert _stands(after).mean() > _stands(before).mean()
    assert 1 <= changed <= 7


def test_sun_on_a_box_warms_its_air_and_dries_it():
    clean = grid(24 * 40)
    clean.values["humidity"] = np.round(90 - 1.5 * clean.values["temperature"], 1)
    rng = np.random.default_rng(8)
    found = [other_yards(clean, rng) for _ in range(4)]
    warmer = np.concatenate([(m.values["temperature"] - clean.values["temperature"]).ravel() for m in found])
    drier = np.concatenate([(m.values["humidity"] - clean.values["humidity"]).ravel() for m in found])
    assert warmer.max() > 2
    assert drier[warmer > 2].mean() < -3


@pytest.mark.parametrize("name", CLASSES[1:LOCAL])
def test_a_class_can_be_left_out(name):
    labels = inject(grid(24 * 120), 4, without=name).label.values()
    assert not any((label == CLASSES.index(name)).any() for label in labels)


def test_every_family_changes_readings():
    rng = np.random.default_rng(1)
    x = 20 + np.cumsum(rng.normal(0, 1, 60))
    for family in FAMILIES:
        profile = faults.profiles.BY_CHANNEL["temperature"]
        assert np.abs(family.shape(rng, x.copy(), profile, 3600.0) - x).max() > 0.5, family.name


def test_networks_beside_each_other_do_not_see_each_other():
    clean = grid(24 * 12)
    parts = [inject(clean, seed) for seed in (1, 2, 3)]
    apart = [np.concatenate([e.residual for e, *_ in evidence_of(p.grid)]) for p in parts]
    found = list(evidence_of(beside(parts).grid))
    residual = np.concatenate([e.residual for e, *_ in found])
    node = np.concatenate([node for *_, node in found])
    for k, alone in enumerate(apart):
        np.testing.assert_array_equal(residual[node // 4 == k], alone)


def test_examples_stand_for_all_rows():
    faulty = inject(grid(24 * 40), 2)
    found = examples_of(faulty, 0, np.random.default_rng(0), keep=0.2)
    countable = sum(int((faulty.count[c] & (faulty.label[c] == 0)).sum()) for c in faulty.label)
    assert found.weight[found.label == 0].sum() == pytest.approx(countable, rel=0.1)
    assert np.isfinite(found.window.astype(float)).all()


def test_average_precision_of_perfect_useless_and_tied_scores():
    one, zero, weight = np.ones(10), np.zeros(90), np.ones(90)
    assert measure.average_precision(one, zero, weight) == pytest.approx(1)
    assert measure.average_precision(zero[:10], zero, weight) == pytest.approx(measure.PREVALENCE)
    assert measure.average_precision(zero[:10], np.ones(90), weight) == pytest.approx(measure.PREVALENCE)


def test_the_threshold_keeps_the_budget_of_alarms():
    rng = np.random.default_rng(0)
    scores = [(np.arange(2400) * 3600.0, rng.normal(0, 1, 2400)) for _ in range(5)]
    limit = measure.threshold(scores, 500.0, 0.1)
    alarms = sum(measure.episodes(t[s >= limit], 3600.0) for t, s in scores)
    assert 20 < alarms <= 50


def test_a_table_becomes_a_grid_and_a_bad_one_is_named(tmp_path):
    clean = grid(48)
    clean.values["pm2_5"][3, 1] = np.nan
    write(tmp_path / "table.csv", clean)
    found = read(tmp_path / "table.csv")
    assert (found.cadence, found.nodes) == (3600.0, clean.nodes)
    for channel, values in clean.values.items():
        np.testing.assert_allclose(found.values[channel], values)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SensorhubError, match=r"bad\.csv"):
        read(tmp_path / "bad.csv")


def test_a_small_training_run_gives_a_model_that_loads(tmp_path):
    pytest.importorskip("tensorflow")
    from sensorhub.quality.training.train import Plan, Source, train

    write(tmp_path / "table.csv", grid(24 * 40))
    plan = Plan(seed=3, rounds=1, epochs=1, unlearnt=("n2",), keep=0.2, leave_out_epochs=0, workers=1)
    source = Source(tmp_path / "table.csv", "Made up (2024)", "CC0")
    told: list[str] = []
    facts = train([source], tmp_path / "model", plan, tell=told.append)
    card = json.loads((tmp_path / "model" / "anomaly.json").read_text())
    assert card["sha256"] == facts["sha256"]
    assert "Made up (2024)" in (tmp_path / "model" / "anomaly.md").read_text()
    model = Model.load(ModelFile(tmp_path / "model" / "anomaly.tflite", card["sha256"]))
    assert model.sha256.hex() == card["sha256"]
    assert told
    text = (tmp_path / "model" / "anomaly.md").read_text()
    assert "Unlearnt: n2." in text
    # all days of one node of four, less the ten at the start
    assert 0.6 * 2 * 24 * 30 < card["held_back"]["readings"] <= 2 * 24 * 30
    for names, message in (("n2", "nx"), "nx"), (("n0", "n1", "n2", "n3"), "all nodes of"):
        with pytest.raises(SensorhubError, match=message):
            train([source], tmp_path / "other", replace(plan, unlearnt=names))


def test_the_mean_of_two_networks_is_one_with_their_mean_logits():
    pytest.importorskip("tensorflow")
    from sensorhub.quality.training import network

    examples = build([grid(24 * 14)], 1, rounds=1, keep=0.2)
    parts = [network.fit(examples, seed=seed, epochs=1) for seed in (1, 2)]
    inputs = [getattr(examples, name)[:50].astype(np.float32) for name in ("window", "long", "aside")]
    apart = [one.predict(inputs, verbose=0) for one in parts]
    assert np.abs(apart[0] - apart[1]).max() > 0.01
    whole = network.together(parts)
    np.testing.assert_allclose(whole.predict(inputs, verbose=0), np.mean(apart, axis=0), atol=1e-4)
    assert network.together(parts[:1]) is parts[0]
    found = Model(network.convert(whole, examples, 1)).logits(*inputs)
    assert np.corrcoef(found.ravel(), np.mean(apart, axis=0).ravel())[0, 1] > 0.98


def test_what_is_left_unlearnt_becomes_no_example():
    whole = build([grid(24 * 20)], 1, rounds=2, keep=0.3)
    less = build([grid(24 * 20)], 1, unlearnt=[("n0", "n3")], rounds=2, keep=0.3)
    assert 0.35 * whole.label.size < less.label.size < 0.65 * whole.label.size


def test_without_tensorflow_training_says_what_to_install(monkeypatch):
    from sensorhub.quality.training import network

    monkeypatch.setattr(
        network.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name))
    )
    with pytest.raises(SensorhubError, match="sensorhub\\[train\\]"):
        network.tensorflow()


def test_build_varies_and_joins_networks():
    examples = build([grid(24 * 20)], 1, rounds=5, keep=0.3)
    assert examples.label.size > 500
    assert set(np.unique(examples.label)) > {0, LOCAL}
    shared = build([grid(24 * 20)], 1, rounds=5, keep=0.3, workers=2)
    for name in ("window", "label", "weight"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(examples, name))
