"""Neighbours, past and siblings: what they say, and that nothing of it depends on how the log is cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.quality.air import drier
from sensorhub.quality.evidence import _NODE, _STEPPED, ASIDE, Evidence, Rows, Witnesses

HOUR = 3600.0
PLACES = {
    "alder": (39.90, 116.30),
    "birch": (39.92, 116.33),
    "cedar": (39.95, 116.28),
    "dogwood": (39.91, 116.36),
}


class Network:
    """Rows of some nodes, message by message."""

    def __init__(self, nodes=tuple(PLACES)) -> None:
        self.nodes = nodes
        self.pairs: list[tuple[str, str]] = []
        self.rows: list[tuple[int, float, float, int]] = []
        self.group = 0

    def say(self, node: str, time: float, **values: float) -> None:
        for channel, value in values.items():
            if (node, channel) not in self.pairs:
                self.pairs.append((node, channel))
            self.rows.append((self.pairs.index((node, channel)), time, value, self.group))
        self.group += 1

    def all(self) -> Rows:
        s, t, v, g = zip(*self.rows, strict=True)
        return Rows(np.array(s), np.array(t, float), np.array(v, float), np.array(g))

    def ends(self) -> list[int]:
        """Where a message ends: a batch holds whole messages."""
        groups = [row[3] for row in self.rows]
        return [i for i in range(1, len(groups)) if groups[i] != groups[i - 1]]

    def mask(self, node: str, channel: str) -> np.ndarray:
        return self.all().series == self.pairs.index((node, channel))

    def evidence(self, cuts=(), reload=(), places=PLACES) -> Evidence:
        witnesses = Witnesses()
        for node in self.nodes:
            if node in places:
                witnesses.place(node, *places[node])
        rows = self.all()
        parts = []
        bounds = [0, *sorted(cuts), rows.series.size]
        for number, (a, b) in enumerate(itertools.pairwise(bounds)):
            if number in reload:
                arrays, rest = witnesses.dump()
                witnesses = Witnesses.load({k: v.copy() for k, v in arrays.items()}, rest)
            part = Rows(rows.series[a:b], rows.time[a:b], rows.value[a:b], rows.group[a:b])
            # a batch knows of the series of its own messages and of those before
            upto = int(rows.series[:b].max()) + 1 if b else 0
            parts.append(witnesses.take(part, self.pairs[:upto]))
        return Evidence(*(np.concatenate([getattr(p, n) for p in parts]) for n in Evidence.__slots__))


def weather(
    hours: int, *, wrong=lambda node, hour, value: value, nodes=tuple(PLACES), every: float = HOUR
) -> Network:
    """Nodes that stand a few degrees apart in the same weather."""
    rng = np.random.default_rng(5)
    network = Network(nodes)
    for k in range(int(hours * HOUR / every)):
        hour = k * every / HOUR
        common = 15 + 8 * np.sin(hour * 2 * np.pi / 24) + 4 * np.sin(hour / 37)
        for j, node in enumerate(nodes):
            value = common + 1.5 * j + rng.normal(0, 0.2)
            network.say(
                node,
                1.7e9 + k * every,
                temperature=round(float(wrong(node, hour, value)), 1),
                humidity=round(float(80 - 2 * common + rng.normal(0, 0.8)), 1),
            )
    return network


def same(a: Evidence, b: Evidence) -> None:
    for name in Evidence.__slots__:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_a_constant_difference_between_nodes_is_learnt():
    found = weather(120).evidence()
    late = np.arange(found.known.size) > found.known.size // 2
    assert found.known.all()
    assert np.median(np.abs(found.residual[late])) < 1.5
    assert np.quantile(np.abs(found.residual[late]), 0.99) < 6


@pytest.mark.parametrize("size", [5.0, -5.0])
def test_a_node_that_leaves_its_neighbours_stands_out_and_they_do_not(size):
    network = weather(160, wrong=lambda n, h, v: v + size * (n == "birch" and h >= 140))
    found = network.evidence()
    during = network.all().time >= 1.7e9 + 140 * HOUR
    assert (np.sign(size) * found.residual[network.mask("birch", "temperature") & during] > 2.5).all()
    for node in ("alder", "cedar", "dogwood"):
        assert np.median(np.abs(found.residual[network.mask(node, "temperature") & during])) < 2


def test_what_all_nodes_see_is_an_event_and_no_residual():
    network = weather(160, wrong=lambda n, h, v: v - 20 * (150 <= h < 155))
    found = network.evidence()
    # the first message of the event stands alone until the neighbours have spoken
    rows = network.mask("alder", "temperature") & (network.all().time >= 1.7e9 + 152 * HOUR)
    rows &= network.all().time < 1.7e9 + 155 * HOUR
    assert (np.abs(found.residual[rows]) < 4).all()
    assert (found.regional[rows] < -2).all()


def test_a_node_by_itself_has_no_support():
    found = weather(60, nodes=("alder",)).evidence()
    assert found.known.all()
    assert (found.support == 0).all()
    assert (found.residual == 0).all()


def test_a_neighbour_far_away_counts_less_and_one_beyond_reach_not_at_all():
    network = weather(72, nodes=("alder", "birch"))
    supports = [
        np.median(network.evidence(places={"alder": (40.0, 116.0), "birch": (40.0 + d, 116.0)}).support[-20:])
        for d in (0.02, 0.3, 2.0)
    ]
    assert supports[0] > supports[1] > supports[2] == 0


def test_a_channel_without_a_profile_is_left_to_the_rules():
    network = Network(("alder",))
    network.say("alder", 1.7e9, battery_voltage=3.9, temperature=20.0)
    assert network.evidence().known.tolist() == [False, True]


def test_out_of_order_readings_change_nothing():
    network = weather(60)
    expected = network.evidence()
    network.rows.insert(300, (0, 1.7e9 + 3 * HOUR, -40.0, network.rows[299][3]))
    found = network.evidence()
    assert not found.known[300]
    np.testing.assert_array_equal(np.delete(found.residual, 300), expected.residual)


def test_a_node_that_comes_back_is_compared_with_what_was_said_at_the_time():
    network = weather(200)
    late = [r for r in network.rows if network.pairs[r[0]][0] == "cedar" and r[1] >= 1.7e9 + 150 * HOUR]
    network.rows = [r for r in network.rows if r not in late]
    for number, time, value, _ in late:
        network.rows.append(
            (number, time, value + 6 * (network.pairs[number][1] == "temperature"), network.group)
        )
        network.group += 1
    found = network.evidence()
    rows = network.mask("cedar", "temperature") & (network.all().group >= network.group - len(late))
    assert np.count_nonzero(rows) == 50
    assert np.median(found.residual[rows]) > 5
    assert (found.support[rows] > 0).mean() > 0.9


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_how_the_log_is_cut_and_where_it_stops_changes_nothing(data):
    network = weather(12, every=1200.0)
    # another node joins, one says a channel twice, one is silent for a while
    network.say("elm", network.rows[-1][1] + 60, temperature=3.0, pressure=1000.0)
    for k in range(40):
        at = 1.7e9 + 12 * HOUR + 900.0 * k
        for node in ("alder", "birch", "cedar") if 10 < k < 30 else ("alder", "birch", "dogwood", "elm"):
            network.say(node, at + 5.0 * (k % 3 == 1), temperature=10.0 + k % 7, humidity=50.0 + k % 3)
        network.rows.append((0, at + 300, 11.0, network.group))
        network.rows.append((0, at + 600, 11.5, network.group))
        network.group += 1
    cuts = sorted(data.draw(st.lists(st.sampled_from(network.ends()), max_size=5)))
    reload = data.draw(st.sets(st.integers(0, 5)))
    same(network.evidence(cuts, reload), network.evidence())


def test_message_by_message_and_at_once_is_the_same():
    network = weather(20, every=1200.0)
    same(network.evidence(network.ends(), {100}), network.evidence())


def test_no_row_depends_on_those_after_it():
    network = weather(60)
    whole = network.evidence()
    network.rows = network.rows[:302]
    part = network.evidence()
    for name in Evidence.__slots__:
        np.testing.assert_array_equal(getattr(whole, name)[:302], getattr(part, name))


def test_numbers_aside_are_filled_and_finite():
    found = weather(60).evidence()
    assert np.isfinite(found.aside).all()
    assert np.isfinite(found.window).all()
    assert np.isfinite(found.long).all()
    assert found.aside.shape[1] == ASIDE
    varied = found.aside.std(axis=0) > 0
    # dead values, zeros, gaps, constants of the channel and of this regular network may stay the same
    assert np.count_nonzero(varied) >= ASIDE - 8


DEAD, RISES = 8, 42


def test_a_dead_sensors_value_counts_only_where_it_is_out_of_place():
    """0.0 is what a dead thermometer says, and a true temperature in winter."""
    network = Network()
    rng = np.random.default_rng(4)
    for hour in range(100):
        for j, node in enumerate(PLACES):
            value = (
                0.0 if node == "cedar" and hour > 90 else (0.2 if hour > 60 else 12.0) + rng.normal(0, 0.1)
            )
            if node == "birch" and hour in (30, 31):
                value = 0.0
            network.say(node, 1.7e9 + hour * HOUR + j, temperature=round(float(value), 1))
    dead = network.evidence().aside[:, DEAD] > 0
    hours = (network.all().time - 1.7e9) // HOUR
    birch, cedar = network.mask("birch", "temperature"), network.mask("cedar", "temperature")
    assert dead[birch & np.isin(hours, (30, 31))].all()
    assert np.count_nonzero(dead) == 2
    assert not dead[cedar & (hours > 90)].any()


def test_a_series_is_known_by_how_often_it_rose_above_its_neighbours():
    network = weather(240, wrong=lambda n, h, v: v + 12 * (n == "birch" and h >= 100 and int(h) % 10 < 2))
    found = network.evidence()
    rises = np.expm1(found.aside[:, RISES])
    last = {node: rises[network.mask(node, "temperature")][-1] for node in PLACES}
    assert 5 < last["birch"] <= 15
    assert max(last[node] for node in PLACES if node != "birch") < 3
    # a reading's own rise is not among those that went before
    birch = network.mask("birch", "temperature")
    first = np.flatnonzero(birch & (network.all().time >= 1.7e9 + 100 * HOUR))[0]
    assert rises[first] < 1


def _vapour(network: Network, node: str, channel: str, since: float) -> np.ndarray:
    """Size of the dew point's residual in the numbers aside."""
    rows = network.mask(node, channel) & (network.all().time >= 1.7e9 + since * HOUR)
    return np.abs(network.evidence().aside[rows, 52])


def _warmed(network: Network, node: str, since: float, more: float, *, humidity: bool) -> None:
    """Warms a node; its air is drier then, or its humidity stays and only the thermometer is wrong."""
    damp = network.pairs.index((node, "humidity"))
    warm = network.pairs.index((node, "temperature"))
    at = {t: i for i, (s, t, _, _) in enumerate(network.rows) if s == warm}
    for i, (s, t, v, group) in enumerate(network.rows):
        if s == damp and t >= 1.7e9 + since * HOUR:
            _, _, before, same_group = network.rows[at[t]]
            network.rows[at[t]] = (warm, t, before + more, same_group)
            if humidity:
                dry = drier(np.array([v]), np.array([before]), np.array([more]))[0]
                network.rows[i] = (damp, t, round(float(dry), 1), group)


def test_a_box_in_the_sun_holds_the_same_vapour_and_a_broken_thermometer_does_not():
    heated, broken = weather(160), weather(160)
    _warmed(heated, "birch", 140, 5.0, humidity=True)
    _warmed(broken, "birch", 140, 5.0, humidity=False)
    for channel in ("temperature", "humidity"):
        alike, apart = (_vapour(network, "birch", channel, 141) for network in (heated, broken))
        assert np.median(alike) < 1.6
        assert np.median(apart) > 2.5
        assert np.median(alike) < np.median(apart) - 1


def test_vapour_is_known_only_where_both_channels_have_neighbours():
    network = Network(("alder", "birch"))
    for k in range(60):
        network.say("alder", 1.7e9 + k * HOUR, temperature=10.0 + k % 5, humidity=60.0)
        network.say("birch", 1.7e9 + k * HOUR, temperature=11.0 + k % 5)
    found = network.evidence()
    assert (found.aside[:, 52:56] == 0).all()


def test_the_span_of_a_run_is_what_the_neighbours_moved_since():
    network = weather(160, wrong=lambda n, h, v: 17.0 if n == "birch" and h >= 140 else v)
    stuck = network.mask("birch", "temperature") & (network.all().time >= 1.7e9 + 150 * HOUR)
    sound = network.mask("cedar", "temperature") & (network.all().time >= 1.7e9 + 150 * HOUR)
    found = network.evidence()
    assert (found.aside[stuck, 50] > np.log1p(4 * 5)).all()
    assert np.median(found.aside[sound, 50]) < np.log1p(4 * 2)


def test_a_neighbour_without_a_place_has_no_distance():
    network = weather(30)
    witnesses = Witnesses()
    for node in ("alder", "birch", "cedar"):
        witnesses.place(node, *PLACES[node])
    witnesses.take(network.all(), network.pairs)
    told = witnesses.neighbours(network.pairs.index(("alder", "temperature")))
    away = {n.node: n.distance for n in told}
    assert away["dogwood"] is None
    assert 0 < away["birch"] < 5


@pytest.mark.parametrize("wrong", ["replay", "stuck"])
def test_what_repeats_itself_or_stands_still_is_no_witness(wrong):
    days = 9
    network = weather(24 * days, every=1800.0)
    told = {(s, t): v for s, t, v, _ in network.rows}
    start = 1.7e9 + (24 * days - 12) * HOUR
    own = network.pairs.index(("birch", "temperature")), network.pairs.index(("birch", "humidity"))
    for i, (s, t, _, group) in enumerate(network.rows):
        if s in own and t >= start:
            earlier = told[s, t - 5 * 24 * HOUR] if wrong == "replay" else told[s, start]
            network.rows[i] = (s, t, earlier, group)
    witnesses = Witnesses()
    for node, place in PLACES.items():
        witnesses.place(node, *place)
    witnesses.take(network.all(), network.pairs)
    trust = {n.node: n.trust for n in witnesses.neighbours(network.pairs.index(("alder", "temperature")))}
    assert trust["birch"] < 0.3
    assert min(trust["cedar"], trust["dogwood"]) > 0.6


def every_minute(hours: float, *, every: int = 1) -> Network:
    """Nodes that speak every minute, all in the same moment; `every` leaves out all but one message in so many."""
    rng = np.random.default_rng(4)
    network = Network()
    for k in range(int(60 * hours)):
        common = 12 + 4 * np.sin(k / 229)
        told = common + np.arange(4) + rng.normal(0, 0.1, 4), 60 - 3 * common + rng.normal(0, 0.5, 4)
        if k % every:
            continue
        for node, warm, damp in zip(PLACES, *np.round(told, 1), strict=True):
            network.say(node, 1_700_000_400.0 + 60 * k, temperature=float(warm), humidity=float(damp))
    # a table: what is said in one moment sees each other
    network.rows = [(s, t, v, int(t)) for s, t, v, _ in network.rows]
    return network


def test_readings_between_two_steps_leave_nothing_of_themselves():
    fast, slow = (every_minute(14, every=every) for every in (1, 10))
    told = fast.evidence()
    of_steps = fast.all().time % 600 == 0
    judged = slow.evidence()
    for name in Evidence.__slots__:
        np.testing.assert_array_equal(getattr(told, name)[of_steps], getattr(judged, name), err_msg=name)

    def learnt(network: Network) -> dict[str, np.ndarray]:
        witnesses = Witnesses()
        rows = network.all()
        upto = rows.time <= rows.time.max() - rows.time.max() % 600
        witnesses.take(Rows(*(getattr(rows, n)[upto] for n in Rows.__slots__)), network.pairs)
        return witnesses.dump()[0]

    more, less = learnt(fast), learnt(slow)
    lasting = {"past", "residuals", "slots", "hours", "ring", "long", "bias", "trust", "middle", "scale"}
    for name in [*(f"series.{n}" for n in lasting | set(_STEPPED)), *(f"node.{n}" for n in _NODE)]:
        np.testing.assert_array_equal(more[name], less[name], err_msg=name)


@pytest.mark.parametrize("spread", [0.0, 20.0, 59.0])
def test_every_reading_of_a_ten_minute_node_is_a_step(spread):
    times = 1.7e9 + 600 * np.arange(500) + np.random.default_rng(6).uniform(-spread / 2, spread / 2, 500)
    network = Network()
    for time in np.delete(times, slice(200, 260)):
        network.say("alder", float(time), temperature=10.0)
    witnesses = Witnesses()
    witnesses.take(network.all(), network.pairs)
    assert witnesses.dump()[0]["series.seen"].tolist() == [440]


@pytest.mark.parametrize("cadence", [10.0, 45.0, 60.0, 120.0, 300.0, 420.0])
def test_a_node_that_speaks_more_often_steps_about_every_ten_minutes(cadence):
    network = Network()
    for k in range(600):
        network.say("alder", 1.7e9 + 17 + cadence * k, temperature=10.0)
    witnesses = Witnesses()
    witnesses.take(network.all(), network.pairs)
    assert witnesses.dump()[0]["series.seen"][0] == pytest.approx(cadence, rel=0.1, abs=1)


def spoken_every_minute() -> Network:
    """Nodes that speak one after the other every minute: one sends five readings in a message, one comes back after half an hour,
    one has messages swapped on their way and says some twice."""
    network = every_minute(5)
    channels, said = dict(enumerate(network.pairs)), {}
    for s, t, v, _ in network.rows:
        node, channel = channels[s]
        said.setdefault((t, node), {})[channel] = v
    sends = []
    for k, ((t, node), values) in enumerate(said.items()):
        arrives = t + 9 * k % 50
        if node == "birch":
            arrives = t + 300 - t % 300
        elif node == "cedar" and 1_700_010_000 <= t < 1_700_011_800:
            arrives = 1_700_011_800 + t % 600
        elif node == "dogwood" and k % 7 == 0:
            arrives += 130
        sends.append((arrives, t, node, values))
    network = Network()
    group = {}
    for arrives, t, node, values in sorted(sends, key=lambda sent: sent[:3]):
        network.say(node, t, **values)
        if node == "birch":
            network.rows[-2:] = [(*row[:3], group.setdefault(arrives, row[3])) for row in network.rows[-2:]]
    return network


def test_how_a_log_of_fast_nodes_is_cut_and_where_it_stops_changes_nothing():
    network = spoken_every_minute()
    whole = network.evidence()
    assert not whole.known.all()  # out of order
    for size in (1, 7):
        cuts = network.ends()[size - 1 :: size]
        same(network.evidence(cuts, set(range(5, len(cuts), 97))), whole)


def test_no_row_of_fast_nodes_depends_on_those_after_it():
    network = spoken_every_minute()
    whole = network.evidence()
    for stop in network.ends()[300:1100:200]:
        part = spoken_every_minute()
        part.rows = part.rows[:stop]
        found = part.evidence()
        for name in Evidence.__slots__:
            np.testing.assert_array_equal(getattr(whole, name)[:stop], getattr(found, name), err_msg=name)


def test_a_fast_node_that_comes_back_is_compared_with_what_was_said_at_the_time():
    network = every_minute(14)
    rows, start = network.all(), 1_700_000_400.0 + 10 * HOUR
    mine = network.mask("cedar", "temperature") & (rows.time >= start)
    late = [i for i in np.flatnonzero(mine) if rows.time[i] < start + 2 * HOUR]
    kept = [row for i, row in enumerate(network.rows) if not mine[i]]
    network.rows = [*kept, *((s, t, v + 6, 2 * int(t)) for s, t, v, _ in (network.rows[i] for i in late))]
    found = network.evidence()
    assert found.known[-len(late) :].all()
    assert (found.support[-len(late) :] > 0).all()
    assert np.median(found.residual[-len(late) :]) > 5
