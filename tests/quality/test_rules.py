"""Each rule, on readings made to try it, and on real ones with faults put in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.flags import TRUSTED, Flag, flag_names
from sensorhub.quality.columns import SeriesNumbers, columns_of
from sensorhub.quality.rules import CADENCE_READINGS, CEILING, ENOUGH, Judged, Rules

MINUTE, HOUR, DAY = 60, 3600, 86_400
NOT_BY_RULES = Flag.DRIFT | Flag.OFFSET | Flag.NOISE | Flag.ISOLATED | Flag.REGIONAL | Flag.SENSOR


def judge(messages, rules: Rules | None = None) -> Judged:
    rules = rules or Rules()
    return rules.judge(columns_of(messages, rules.numbers))


def flagged(judged: Judged, flag: Flag) -> list[int]:
    return np.flatnonzero(judged.flags & flag).tolist()


def wobble(n: int, *, step: float = MINUTE) -> list[tuple[float, float]]:
    """Readings that give no rule a reason."""
    return [(step * i, 20 + 3 * math.sin(i / 7) + 0.01 * (i * 7919 % 97)) for i in range(n)]


def test_flag_names_cover_every_bit():
    assert flag_names(0) == []
    assert flag_names((1 << 17) - 1) == [*(flag_names(int(f))[0] for f in Flag), "bit 16"]
    assert flag_names(Flag.RANGE | Flag.TIME) == ["range", "time suspect"]


def test_good_readings_earn_trust_with_history_and_no_more_than_rules_can_give(sender):
    sender.series("temperature", wobble(60))
    judged = judge(sender.messages)
    assert not judged.flags.any()
    assert (judged.score[:4] < TRUSTED).all()
    assert (judged.score[4:] >= TRUSTED).all()
    assert (np.diff(judged.score.astype(int)) >= 0).all()
    assert judged.score[ENOUGH:].tolist() == [math.floor(255 * CEILING + 0.5)] * (60 - ENOUGH)


def test_a_value_outside_of_what_can_be_has_no_score(sender):
    readings = wobble(40)
    readings[20] = (readings[20][0], 85.0)
    sender.series("temperature", readings)
    judged = judge(sender.messages)
    assert flagged(judged, Flag.RANGE) == [20]
    assert judged.score[20] == 0
    assert flagged(judged, Flag.SPIKE) == []  # it is no level for the readings after it


def test_the_limits_of_a_range_belong_to_it(sender):
    sender.series(
        "humidity", [(0, 0.0), (600, 30.0), (1200, 60.0), (1800, 90.0), (2400, 100.0), (3000, 100.1)]
    )
    assert flagged(judge(sender.messages), Flag.RANGE) == [5]


def test_a_spike_is_flagged_and_the_return_is_not(sender):
    readings = wobble(60)
    readings[30] = (readings[30][0], 45.0)
    sender.series("temperature", readings)
    assert flagged(judge(sender.messages), Flag.SPIKE) == [30]


def test_a_new_level_is_believed_at_the_third_reading(sender):
    sender.series("temperature", [(t, v + (15 if i >= 30 else 0)) for i, (t, v) in enumerate(wobble(60))])
    assert flagged(judge(sender.messages), Flag.SPIKE) == [30, 31]


def test_spikes_that_disagree_with_each_other_make_no_level(sender):
    readings = wobble(60)
    for i in range(30, 40):
        readings[i] = (readings[i][0], 50.0 if i % 2 else -20.0)
    sender.series("temperature", readings)
    assert flagged(judge(sender.messages), Flag.SPIKE) == list(range(30, 40))


def test_steps_may_grow_with_the_root_of_the_interval(sender):
    # 8 degrees in 10 minutes are allowed, so 16 in 40
    sender.series("temperature", [(0, 10), (2400, 25.9), (4800, 10)])
    sender.series("temperature", [(0, 10), (2400, 26.1), (4800, 10)], node="birch")
    assert flagged(judge(sender.messages), Flag.SPIKE) == [4]


def test_nothing_is_said_of_steps_over_a_long_silence(sender):
    sender.series("temperature", [(0, 0.0), (7 * HOUR, 50.0)])
    assert flagged(judge(sender.messages), Flag.SPIKE) == []


def test_a_value_that_stays_exactly_the_same_is_stuck_after_its_time(sender):
    # temperature may persist for 12 hours
    readings = [(10 * MINUTE * i, 21.3) for i in range(100)]
    sender.series("temperature", readings)
    judged = judge(sender.messages)
    assert flagged(judged, Flag.STUCK) == list(range(73, 100))
    assert (judged.score[73:] < TRUSTED).all()


def test_rain_may_stay_zero(sender):
    sender.series("rain", [(HOUR * i, 0.0) for i in range(500)])
    assert not judge(sender.messages).flags.any()


def test_equal_readings_on_both_sides_of_a_silence_are_not_stuck(sender):
    early = [(10 * MINUTE * i, 20 + i % 5 / 10) for i in range(20)]
    late = [(2 * DAY + 10 * MINUTE * i, early[-1][1]) for i in range(10)]
    sender.series("temperature", early + late)
    judged = judge(sender.messages)
    assert flagged(judged, Flag.STUCK) == []
    assert flagged(judged, Flag.DROPOUT) == [20]


def test_a_gap_is_measured_by_the_series_own_cadence(sender):
    times = [MINUTE * i for i in range(30) if i not in (12, 20, 21, 22)]
    sender.series("temperature", [(t, 20 + i % 7 / 10) for i, t in enumerate(times)])
    sender.series("temperature", [(HOUR * i, 20 + i % 7 / 10) for i in range(30)], node="hourly")
    judged = judge(sender.messages)
    assert flagged(judged, Flag.DROPOUT) == [times.index(23 * MINUTE)]
    assert judged.score[times.index(23 * MINUTE)] >= TRUSTED  # the gap is the fault, not the reading after it


def test_a_changed_cadence_is_learnt(sender):
    times = [MINUTE * i for i in range(30)] + [30 * MINUTE + 10 * MINUTE * i for i in range(40)]
    sender.series("temperature", [(t, 20 + i % 7 / 10) for i, t in enumerate(times)])
    gaps = flagged(judge(sender.messages), Flag.DROPOUT)
    assert 31 in gaps
    assert max(gaps) < 50


def test_no_gap_is_claimed_before_the_cadence_is_known(sender):
    sender.series("temperature", [(t, 20.0 + t % 3) for t in (0, 60, 120, 9999, 30_000)][:CADENCE_READINGS])
    assert flagged(judge(sender.messages), Flag.DROPOUT) == []


def test_a_repeated_stretch_is_a_replay(sender):
    past = [20 + 5 * math.sin(i * i) for i in range(300)]
    sender.series("temperature", [(HOUR * i, v) for i, v in enumerate(past + past[100:140])])
    judged = judge(sender.messages)
    assert flagged(judged, Flag.REPLAY) == list(range(307, 340))
    assert (judged.score[307:] < TRUSTED).all()


def test_constants_and_two_values_in_turn_are_no_replay(sender):
    sender.series("rain", [(HOUR * i, 0.0) for i in range(400)])
    sender.series("wind_direction", [(HOUR * i, 22.5 * (i % 2)) for i in range(400)])
    sender.series("wind_speed", [(HOUR * i, float(i // 3 % 5)) for i in range(400)])
    assert flagged(judge(sender.messages), Flag.REPLAY) == []


def test_other_series_and_other_nodes_may_say_the_same(sender):
    past = [(HOUR * i, 20 + 5 * math.sin(i * i)) for i in range(50)]
    sender.series("temperature", past)
    sender.series("dew_point", [(t, v) for t, v in past])
    sender.series("temperature", past, node="birch")
    assert flagged(judge(sender.messages), Flag.REPLAY) == []


def test_without_a_clock_only_the_value_itself_is_judged(sender):
    sender.series("temperature", wobble(30))
    sender.send("alder", None, [("temperature", 21.0, 0.0), ("temperature", 99.0, 1.0)])
    judged = judge(sender.messages)
    assert flagged(judged, Flag.TIME) == [30, 31]
    assert flagged(judged, Flag.RANGE) == [31]
    assert judged.score[30] < TRUSTED


def test_a_held_over_clock_is_named_and_costs_little(sender):
    sender.series("temperature", wobble(30))
    sender.send("alder", 1_700_000_000 + 31 * MINUTE, [("temperature", 20.0, 0.0)], tq=1)
    judged = judge(sender.messages)
    assert flagged(judged, Flag.TIME) == [30]
    assert TRUSTED <= judged.score[30] < judged.score[29]


def test_a_base_time_that_runs_backwards_is_suspect(sender):
    base = 1_700_000_000
    for seq, seconds in ((1, 0), (2, 60), (3, 30), (4, 90)):
        sender.send("alder", base + seconds, [("rain", 0.0, 0.0)], seq=seq)
    assert flagged(judge(sender.messages), Flag.TIME) == [2]


def test_messages_that_arrive_late_but_in_their_place_are_not_suspect(sender):
    base = 1_700_000_000
    for seq, seconds in ((1, 0), (4, 180), (2, 60), (3, 120), (5, 240)):
        sender.send("alder", base + seconds, [("rain", 0.0, 0.0)], seq=seq)
    judged = judge(sender.messages)
    assert flagged(judged, Flag.TIME) == []
    assert judged.score[2] < judged.score[4]  # nothing to compare them with


def test_data_later_than_any_spool_is_suspect(sender):
    base = 1_700_000_000
    sender.send("alder", base, [("rain", 0.0, 0.0)])
    sender.send("birch", base - 31 * DAY, [("rain", 0.0, 0.0)])
    sender.send("cedar", base - 29 * DAY, [("rain", 0.0, 0.0)])
    assert flagged(judge(sender.messages), Flag.TIME) == [1]


def test_data_records_get_a_verdict_that_claims_nothing(sender):
    for i in range(30):
        sender.send(
            "eye", 1_700_000_000 + 60 * i, [("luminance", 0.5, 0.0), ("frame_sha256", bytes(32), 0.0)]
        )
    judged = judge(sender.messages)
    assert judged.score[-2] >= TRUSTED > judged.score[-1]


def test_rules_never_speak_for_neighbours(stations, sender):
    for time, node, records in stations[:2000]:
        sender.send(node, time, records)
    assert not (judge(sender.messages).flags & int(NOT_BY_RULES)).any()


def test_real_stations_are_rarely_flagged(stations, sender):
    for time, node, records in stations:
        sender.send(node, time, records)
    judged = judge(sender.messages)
    share = {f: np.count_nonzero(judged.flags & int(f)) / judged.flags.size for f in Flag}
    assert np.count_nonzero(judged.flags) / judged.flags.size < 0.005
    assert share[Flag.REPLAY] < 0.0001
    assert share[Flag.SPIKE] < 0.001
    assert np.count_nonzero(judged.score >= TRUSTED) / judged.score.size > 0.985


FAULTS = {
    "range": (Flag.RANGE, "temperature", lambda v: [85.0] * len(v)),
    "spike": (Flag.SPIKE, "temperature", lambda v: [x + (30 if i % 5 == 2 else 0) for i, x in enumerate(v)]),
    "stuck": (Flag.STUCK, "temperature", lambda v: [v[0]] * len(v)),
    "replay": (Flag.REPLAY, "pm2_5", None),
    "dropout": (Flag.DROPOUT, "temperature", None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_put_into_real_data_is_caught(fault, stations, sender):
    flag, channel, change = FAULTS[fault]
    nodes = sorted({node for _, node, _ in stations})
    start, hours = 400, 48
    truth = {n: [(t, {c: v for c, v, _ in r}) for t, node, r in stations if node == n] for n in nodes}
    caught = 0
    for node in nodes:
        rows = [dict(r) for _, r in truth[node]]
        times = [t for t, _ in truth[node]]
        segment = range(start, start + hours)
        if fault == "replay":
            for i in segment:
                rows[i] = dict(rows[i - 168])
        elif fault == "dropout":
            for i in segment:
                rows[i] = {}
        else:
            new = change([rows[i].get(channel, 0.0) for i in segment])
            for i, value in zip(segment, new, strict=True):
                rows[i][channel] = value
        positions = []
        begin = sum(len(m.pack.names) for _, m in sender.messages)
        for i, (time, row) in enumerate(zip(times, rows, strict=True)):
            if row:
                if channel in row and start <= i <= start + hours:
                    positions.append(begin + list(row).index(channel))
                begin += len(row)
                sender.send(node, time, [(c, v, 0.0) for c, v in row.items()])
        rules = Rules()
        judged = rules.judge(columns_of(sender.messages, rules.numbers))
        caught += bool((judged.flags[positions] & int(flag)).any())
        sender.messages.clear()
    assert caught >= 11


def verdicts(messages, cuts: list[int], reload: set[int]) -> list[tuple[int, int]]:
    rules, found = Rules(), []
    for number, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(messages)], strict=True)):
        if number in reload:
            arrays, rest = rules.dump()
            rules = Rules.load({k: v.copy() for k, v in arrays.items()}, rest)
        judged = rules.judge(columns_of(messages[a:b], rules.numbers))
        found += zip(judged.score.tolist(), judged.flags.tolist(), strict=True)
    return found


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_how_the_log_is_cut_and_where_it_stops_changes_no_verdict(make_sender, data):
    steps = st.sampled_from([0, 1, 60, 60, 60, 60, 600, 4000, 90_000, -60])
    values = st.sampled_from([0.0, 1.0, 2.5, 20.0, 20.5, 21.0, 50.0, 99.0, 2.0**-30])
    message = st.tuples(
        st.sampled_from(["alder", "birch"]),
        steps,
        st.lists(
            st.tuples(st.sampled_from(["temperature", "rain"]), values, st.sampled_from([0.0, 10.0])),
            min_size=1,
            max_size=3,
        ),
        st.sampled_from([0, 1, 2, 2, 2]),
    )
    sender = make_sender()
    clock = 1_700_000_000
    for node, step, records, tq in data.draw(st.lists(message, min_size=1, max_size=60)):
        clock += step
        sender.send(node, clock if tq else None, records, tq=tq)
    messages = sender.messages
    cuts = sorted(data.draw(st.lists(st.integers(0, len(messages)), max_size=6)))
    reload = data.draw(st.sets(st.integers(0, 7)))
    assert verdicts(messages, cuts, reload) == verdicts(messages, [], set())


def test_real_data_judged_one_by_one_and_at_once_is_the_same(stations, sender):
    for time, node, records in stations[:600]:
        sender.send(node, time, records)
    messages = sender.messages
    assert verdicts(messages, list(range(1, len(messages))), {100, 333}) == verdicts(messages, [], set())


def test_no_reading_is_judged_by_those_after_it(stations, sender):
    for time, node, records in stations[:1200]:
        sender.send(node, time, records)
    part = verdicts(sender.messages[:700], [], set())
    assert verdicts(sender.messages, [], set())[: len(part)] == part


def test_series_are_numbered_in_the_order_of_the_log():
    numbers = SeriesNumbers()
    assert numbers.of("b", ("rain", "temperature")) == ([0, 1], True)
    assert numbers.of("a", ("temperature", "frame_sha256", "temperature")) == ([2, 3, 2], False)
    assert numbers.of("b", ("temperature",)) == ([1], True)
