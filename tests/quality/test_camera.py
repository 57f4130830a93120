"""Verdicts on cameras, from days of looks whose values come from the firmware's own image processing."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorhub.flags import FULL_SCORE, TRUSTED, Flag
from sensorhub.quality.columns import columns_of
from sensorhub.quality.judge import Judge
from sensorhub.quality.rules import Rules

START = 1_700_006_400  # 2023-11-15, 00:00 UTC
MINUTES = 20
DAY = 86_400
CAMERA = Flag.BLOCKED | Flag.FOGGED | Flag.MOVED | Flag.OVEREXPOSED | Flag.STUCK | Flag.REPLAY
NAMES = ("luminance", "contrast", "sharpness", "overexposed", "motion")


@pytest.fixture(scope="session")
def looks() -> dict:
    """Values of the firmware's image processing, by condition."""
    script = Path(__file__).with_name("camera_looks.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Watch:
    """Cameras and other sensors over days; a look every 20 minutes."""

    def __init__(self, looks: dict, sender) -> None:
        self.looks = looks
        self.sender = sender
        self._rng = np.random.default_rng(5)
        self._lost: dict[str, int] = {}
        self._last: dict[str, str] = {}
        self._frames = 0

    def light(self, time: int) -> float:
        """The sun is up from 6 to 18 o'clock."""
        return max(0.01, math.sin((time % DAY / DAY - 0.25) * 2 * math.pi))

    def values(self, time: int, condition: str) -> list[float | None]:
        levels = np.array([row[0] for row in self.looks["light"]])
        rows = np.array([[x or 0 for x in row[1:]] for row in self.looks["light"]])
        light = min(1.0, 3 * self.light(time))  # exposure follows the light
        usual = [float(np.interp(light, levels, rows[:, k])) for k in range(5)]
        if condition == "clear":
            return usual
        if condition == "overcast":
            return [0.9 * usual[0], 0.65 * usual[1], 0.95 * usual[2], 0.0, usual[4]]
        told = list(self.looks[condition])
        if light < 0.3 and condition not in ("covered", "infrared"):
            # what is dark stays dark behind a fogged lens as well
            told[:2] = [told[0] * light, told[1] * light]
        return told

    def look(
        self, node: str, time: int, condition: str = "clear", *, frame: bytes | None = None, boot: int = 1
    ) -> int:
        values = self.values(time, condition)
        scene = condition if condition in ("infrared",) or condition.startswith("turned") else "street"
        if scene != self._last.get(node, scene):
            self._lost[node] = 4
        self._last[node] = scene
        if self._lost.get(node, 0):
            self._lost[node] -= 1
            values[4] = None
        self._frames += 1
        records = [
            (name, round(float(value * (1 + self._rng.normal(0, 0.01))) * 2048) / 2048, 0.0)
            for name, value in zip(NAMES, values, strict=True)
            if value is not None
        ]
        if values[4] is not None:
            records.append(("objects", float(self._rng.integers(0, 4)), 0.0))
        records.append(("frame_sha256", frame or hashlib.sha256(b"%d" % self._frames).digest(), 0.0))
        index = self.sender.send(node, time, records)
        message = self.sender.messages[index][1]
        self.sender.messages[index] = (index, replace(message, signed=replace(message.signed, boot=boot)))
        return index

    def days(self, first: int, last: int, condition: str = "clear", node: str = "eye", **also) -> list[int]:
        """Looks from the start of one day to that of another, with other records of other nodes beside them."""
        found = []
        for time in range(START + first * DAY, START + last * DAY, 60 * MINUTES):
            found.append(self.look(node, time, condition))
            for other, channel, value in also.get("beside", ()):
                self.sender.send(other, time + 1, [(channel, value(time) if callable(value) else value, 0.0)])
        return found

    def hours(
        self, day: int, first: int, last: int, condition: str = "clear", node: str = "eye", **also
    ) -> list[int]:
        start = START + day * DAY
        times = range(start + first * 3600, start + last * 3600, 60 * MINUTES)
        return [self.look(node, time, condition, **also) for time in times]


@pytest.fixture
def watch(looks, sender) -> Watch:
    return Watch(looks, sender)


def judge(
    watch: Watch, places: dict[str, tuple[float, float]] | None = None
) -> dict[int, list[tuple[int, int]]]:
    """(score, flags) of each record of each message."""
    rules = Rules()
    for node, place in (places or {}).items():
        rules.place(node, *place)
    columns = columns_of(watch.sender.messages, rules.numbers)
    judged = rules.judge(columns)
    pairs = list(zip(judged.score.tolist(), judged.flags.tolist(), strict=True))
    ends = np.cumsum(columns.count).tolist()
    return {
        index: pairs[end - count : end]
        for index, end, count in zip(columns.index.tolist(), ends, columns.count.tolist(), strict=True)
    }


def flags(found: dict, messages: list[int]) -> list[int]:
    """Flags of the first record of messages, those of cameras only."""
    return [found[i][0][1] & int(CAMERA | Flag.REGIONAL) for i in messages]


def test_a_sound_camera_is_not_doubted_by_day_or_night(watch):
    mine = watch.days(0, 3) + watch.days(3, 4, "overcast") + watch.days(4, 5)
    found = judge(watch)
    assert not any(flags(found, mine))
    assert all(found[i][0][0] >= TRUSTED for i in mine[12:])


def test_a_cover_shows_by_day_at_once_and_by_night_in_the_morning(watch):
    watch.days(0, 3)
    by_day = watch.hours(3, 11, 13, "covered")
    watch.hours(3, 13, 20)
    night = watch.hours(3, 21, 24, "covered")
    morning = watch.hours(4, 8, 10, "covered")
    found = judge(watch)
    assert flags(found, by_day) == [Flag.BLOCKED] * 6
    assert not any(flags(found, night))
    assert flags(found, morning) == [Flag.BLOCKED] * 6
    assert all(score < 0.1 * FULL_SCORE for score, _ in found[by_day[0]])


def test_paper_before_the_lens_is_a_picture_of_nothing(watch):
    watch.days(0, 2)
    mine = watch.hours(2, 10, 14, "paper")
    assert flags(judge(watch), mine) == [Flag.BLOCKED] * 12


def test_dew_on_the_lens_is_fogged_after_three_looks_and_gone_when_it_dries(watch):
    watch.days(0, 2)
    watch.hours(2, 0, 8)
    dew = watch.hours(2, 8, 9, "dew 1") + watch.hours(2, 9, 12, "dew 2") + watch.hours(2, 12, 13, "dew 3")
    dry = watch.hours(2, 13, 17)
    found = judge(watch)
    told = flags(found, dew)
    assert not any(told[:5])
    assert told[5:] == [Flag.FOGGED] * (len(dew) - 5)
    assert all(score < TRUSTED for score, _ in found[dew[-1]])
    assert not any(flags(found, dry))


def test_fog_that_two_cameras_see_is_weather(watch):
    for node in ("eye", "other"):
        watch.days(0, 2, node=node)
    watch.sender.messages.sort(key=lambda item: item[1].pack.base_time)
    both = []
    for hour in range(24):
        sort = "clear" if not 8 <= hour < 13 else "haze" if hour in (8, 12) else "dense fog"
        for node in ("eye", "other"):
            both += watch.hours(2, hour, hour + 1, sort, node=node)
    order = {id(m): k for k, (_, m) in enumerate(watch.sender.messages)}
    assert len(order) == len(watch.sender.messages)
    found = judge(watch)
    told = flags(found, both)
    assert not any(f & Flag.FOGGED for f in told)
    assert sum(f == Flag.REGIONAL for f in told) > 15


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ((), Flag.FOGGED),
        ((("roof", "humidity", 99.0),), Flag.REGIONAL),
        ((("roof", "humidity", 70.0),), Flag.FOGGED),
        (
            (("roof", "pm2_5", lambda time: 180.0 if time >= START + 3 * DAY + 8 * 3600 else 15.0),),
            Flag.REGIONAL,
        ),
    ],
    ids=["alone", "saturated air", "dry air", "smoke"],
)
def test_what_the_air_says_settles_whether_it_is_the_lens(watch, beside, expected):
    watch.days(0, 3, beside=beside)
    mine = []
    for time in range(START + 3 * DAY, START + 4 * DAY, 60 * MINUTES):
        hour = time % DAY // 3600
        mine.append(watch.look("eye", time, "dense fog" if 9 <= hour < 14 else "clear"))
        for other, channel, value in beside:
            watch.sender.send(other, time + 1, [(channel, value(time) if callable(value) else value, 0.0)])
    told = flags(judge(watch), mine)
    assert told[27 + 3 : 42] == [expected] * 12
    assert not any(told[42:])


def test_clear_cameras_nearby_outweigh_damp_air(watch):
    nodes = ("eye", "north", "south")
    mine = []
    for time in range(START, START + 4 * DAY, 60 * MINUTES):
        foggy = time >= START + 3 * DAY + 9 * 3600
        for node in nodes:
            index = watch.look(node, time, "dew 2" if foggy and node == "eye" else "clear")
            if foggy and node == "eye" and time < START + 3 * DAY + 15 * 3600:
                mine.append(index)
        watch.sender.send("roof", time + 1, [("humidity", 98.0, 0.0)])
    near = {node: (47.07, 15.40 + 0.01 * k) for k, node in enumerate((*nodes, "roof"))}
    assert set(flags(judge(watch, near), mine)[3:]) == {Flag.FOGGED}
    far = {**near, "north": (48.2, 16.4), "south": (46.0, 14.5)}
    assert set(flags(judge(watch, far), mine)[3:]) == {Flag.REGIONAL}


@pytest.mark.parametrize("scene", ["turned to the houses", "turned to a wall"])
def test_a_camera_that_is_turned_is_told_for_a_day(watch, scene):
    watch.days(0, 3)
    watch.hours(3, 0, 10)
    turned = watch.hours(3, 10, 24, scene)
    later = watch.days(4, 6, scene)
    found = judge(watch)
    told = flags(found, turned)
    # four looks until the node knows its scene again, four more to be sure
    assert not any(told[:7])
    assert set(told[8:]) == {Flag.MOVED}
    assert Flag.MOVED in flags(found, later[: 12 * 3])
    assert not any(flags(found, later[14 * 3 :]))


def test_a_restart_and_passing_clouds_move_nothing(watch):
    watch.days(0, 3)
    watch.hours(3, 0, 10)
    mine = watch.hours(3, 10, 12, boot=2)
    watch._lost["eye"] = 4
    mine += watch.hours(3, 12, 16, "overcast", boot=2) + watch.hours(3, 16, 18, boot=2)
    assert not any(flags(judge(watch), mine))


def test_the_infrared_filter_is_no_move_once_a_night_is_known(watch):
    times = range(START, START + 4 * DAY, 60 * MINUTES)
    mine = [watch.look("eye", time, "infrared" if watch.light(time) < 0.05 else "clear") for time in times]
    assert not any(flags(judge(watch), mine))


def test_the_same_frame_again_is_frozen_but_black_is_black(watch):
    watch.days(0, 1)
    held = hashlib.sha256(b"held").digest()
    first = watch.hours(1, 10, 11, frame=held)
    found = judge(watch)
    assert flags(found, first) == [0, Flag.STUCK, Flag.STUCK]
    assert all(score < 0.2 * FULL_SCORE for score, _ in found[first[1]])
    black = [("luminance", 0.0, 0), ("contrast", 0.0, 0), ("sharpness", 0, 0), ("frame_sha256", held, 0)]
    dark = [watch.sender.send("eye", START + DAY + 80_000 + 600 * k, black) for k in range(3)]
    assert not any(flags(judge(watch), dark))


def test_a_frame_from_before_is_a_replay(watch):
    old = hashlib.sha256(b"old").digest()
    watch.days(0, 1)
    watch.hours(1, 8, 9)
    watch.look("eye", START + DAY + 9 * 3600, frame=old)
    watch.hours(1, 10, 12)
    again = watch.look("eye", START + DAY + 12 * 3600, frame=old)
    assert flags(judge(watch), [again]) == [Flag.REPLAY]


def test_too_much_light_is_told_without_any_history(watch):
    first = watch.look("eye", START + 43_200, "sun in the lens")
    assert flags(judge(watch), [first]) == [Flag.OVEREXPOSED]


def test_nothing_is_claimed_on_the_first_day(watch):
    mine = watch.hours(0, 8, 12) + watch.hours(0, 12, 16, "dew 3") + watch.hours(0, 16, 17, "covered")
    assert not any(flags(judge(watch), mine))


def test_looks_out_of_order_or_without_a_clock_leave_the_memory_alone(watch):
    watch.days(0, 2)
    late = watch.hours(1, 3, 4, "dew 3")
    undated = watch.sender.send(
        "eye", None, [("luminance", 0.5, 0), ("contrast", 0.0, 0), ("sharpness", 0, 0)]
    )
    after = watch.hours(2, 10, 12)
    found = judge(watch)
    assert not any(flags(found, [*late, undated, *after]))


def town(looks, sender) -> Watch:
    """Five days of three cameras, particles and humidity, with one of everything."""
    watch = Watch(looks, sender)
    held = hashlib.sha256(b"held").digest()
    for time in range(START, START + 5 * DAY, 60 * MINUTES):
        day, hour = (time - START) // DAY, time % DAY // 3600
        foggy = day == 2 and 8 <= hour < 13
        watch.look("eye", time, "dense fog" if foggy else "dew 2" if (day, hour // 6) == (3, 1) else "clear")
        blinded = (day, hour) == (3, 15)
        other = "dense fog" if foggy else "sun in the lens" if blinded else "clear"
        watch.look("other", time + 7, "turned to a wall" if day == 4 else other)
        if day > 0:
            sort = "covered" if (day, hour // 4) == (3, 3) else "clear"
            watch.look("third", time + 7, sort, frame=held if (day, hour) == (4, 12) else None)
        watch.sender.send("roof", time + 300, [("humidity", 97.0 if day == 3 and hour < 9 else 60 + hour, 0)])
        watch.sender.send("gate", time - 200, [("pm2_5", 15.0 + 2 * hour + 150 * foggy, 0)])
        watch.sender.send("yard", time - 100, [("pm10", 30.0 + hour, 0)])
    watch.sender.messages = [(k, m) for k, (_, m) in enumerate(watch.sender.messages)]
    return watch


@pytest.fixture(scope="session")
def busy(looks, make_sender):
    return town(looks, make_sender())


def run(watch: Watch, cuts: list[int], restarts: set[int]) -> list[tuple[int, int, float]]:
    rules = Rules()
    places = {"eye": (47.07, 15.43), "other": (47.08, 15.44), "gate": (47.07, 15.42), "roof": (47.2, 15.6)}
    for node, place in places.items():
        rules.place(node, *place)
    told = []
    bounds = [0, *sorted(cuts), len(watch.sender.messages)]
    for k, (start, stop) in enumerate(itertools.pairwise(bounds)):
        if k in restarts:
            arrays, rest = rules.dump()
            rules = Rules.load({n: a.copy() for n, a in arrays.items()}, json.loads(json.dumps(rest)))
        found = rules.judge(columns_of(watch.sender.messages[start:stop], rules.numbers))
        told += zip(found.score.tolist(), found.flags.tolist(), found.haze.tolist(), strict=True)
    return told


@pytest.fixture(scope="session")
def at_once(busy):
    return run(busy, [], set())


def test_a_busy_town_shows_one_of_everything(at_once):
    union = 0
    for _, found, _ in at_once:
        union |= found
    assert union & int(CAMERA) == int(CAMERA & ~Flag.REPLAY)
    assert max(haze for *_, haze in at_once) > 0.9


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_batches_and_restarts_change_nothing_to_the_last_bit(busy, at_once, data):
    size = len(busy.sender.messages)
    cuts = data.draw(st.lists(st.integers(0, size), max_size=25))
    restarts = data.draw(st.sets(st.integers(0, 25), max_size=5))
    assert run(busy, cuts, restarts) == at_once


def test_one_message_at_a_time_is_the_same(busy, at_once):
    assert run(busy, list(range(1, len(busy.sender.messages))), set(range(0, 1500, 97))) == at_once


def test_haze_that_a_camera_sees_lets_a_rise_of_particles_be_believed(watch):
    """The same rise at one node, once in clear air and once in haze."""
    odds = []
    for sort in ("clear", "dense fog"):
        watch.sender.messages.clear()
        for time in range(START, START + 4 * DAY, 60 * MINUTES):
            smoke = time >= START + 3 * DAY + 9 * 3600
            watch.look("eye", time, sort if smoke and watch.light(time) > 0.05 else "clear")
            for k, node in enumerate(("ash", "beech", "cedar")):
                value = 12 + k + 3 * math.sin(time / 9000) + 60 * (smoke and node == "ash")
                watch.sender.send(node, time + k, [("pm2_5", round(value, 1), 0)])
        judge = Judge(None)
        for k, node in enumerate(("eye", "ash", "beech", "cedar")):
            judge.place(node, 47.07, 15.40 + 0.01 * k)
        columns = columns_of(watch.sender.messages, judge.rules.numbers)
        found = judge.judge(columns)
        number = judge.rules.numbers.pairs.index(("ash", "pm2_5"))
        window = (columns.time > START + 3 * DAY + 10 * 3600) & (columns.time < START + 3 * DAY + 14 * 3600)
        rows = np.isin(found.compared, np.flatnonzero((columns.series == number) & window))
        odds.append(float(np.mean(found.suspicion[rows])))
    assert odds[1] < odds[0] - 1.5
