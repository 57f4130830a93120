"""Reviews: what people say of verdicts is in the log, and in force."""

from __future__ import annotations

import pytest

from sensorhub.errors import SensorhubError
from sensorhub.flags import Flag
from sensorhub.log.entries import REVIEW, VerdictEntry, decode_entry, encode_entry
from sensorhub.quality import follower as module
from sensorhub.quality.follower import RulesFollower
from sensorhub.quality.reviews import (
    Action,
    Label,
    Review,
    all_said,
    labels,
    muted,
    review,
    reviews,
    silences,
)

BASE = 1_700_000_000


@pytest.fixture
def judged(house, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    house.append(
        [
            house.message("alder", BASE + 60 * i, [("temperature", 20.5, 0), ("humidity", 50, 0)])
            for i in range(9)
        ]
    )
    house.append([house.message("alder", BASE + 600, [("temperature", 90, 0), ("humidity", 51, 0)])])
    with house.client() as client:
        RulesFollower(house.reader, client).apply(list(house.reader.entries(0)))
    return house


def say(house, *args, **kwargs) -> int:
    with house.client() as client:
        return review(house.reader, client, Review(*args, **kwargs))


def in_force(house, message: int):
    found = None
    for _, entry in house.reader.entries(0):
        decoded = decode_entry(entry)
        if isinstance(decoded, VerdictEntry):
            found = {i: (decoded.rules, v) for i, v in decoded.verdicts}.get(message, found)
    return found


def test_a_correction_changes_the_verdict_of_that_reading_only(judged):
    before = in_force(judged, 10)
    index = say(judged, 10, 0, Action.CORRECT, "sauna", "Kim", sound=True)
    rules, verdicts = in_force(judged, 10)
    assert rules == REVIEW
    assert verdicts == ((255, 0), before[1][1])
    assert [(i, r.action, r.reason, r.by) for i, _, r in reviews(judged.reader)] == [
        (index, "correct", "sauna", "Kim")
    ]


def test_a_later_judge_does_not_overrule_a_person(judged):
    say(judged, 10, 0, Action.CORRECT, "sauna", "Kim", sound=True)
    judged.append([encode_entry(VerdictEntry(1, b"", "rules/9", ((10, ((3, 1), (200, 0))),)))])
    say(judged, 10, 1, Action.CORRECT, "steam", "Ada", sound=False)
    rules, verdicts = in_force(judged, 10)
    assert rules == REVIEW
    assert [score for score, _ in verdicts] == [255, 0]
    assert [label.sound for label in labels(judged.reader)] == [True, False]


def test_a_confirmation_leaves_the_verdict(judged):
    before = in_force(judged, 10)
    say(judged, 10, 0, Action.CONFIRM, "the cable is cut", "Kim")
    assert in_force(judged, 10) == before


def test_what_people_judged_becomes_labels_and_the_last_word_counts(judged):
    say(judged, 10, 0, Action.CONFIRM, "broken", "Kim")
    say(judged, 3, 1, Action.CORRECT, "fogged", "Kim", sound=False)
    say(judged, 3, 1, Action.CORRECT, "no, it was fog", "Ada", sound=True)
    assert labels(judged.reader) == [
        Label("alder", "humidity", BASE + 120, 50.0, True, "no, it was fog"),
        Label("alder", "temperature", BASE + 600, 90.0, False, "broken", int(Flag.RANGE)),
    ]


def test_a_mute_ends_at_its_time(judged):
    say(judged, 10, 0, Action.MUTE, "repair on Friday", "Kim", until=BASE + 5000)
    assert muted(judged.reader, BASE + 4999) == {("alder", "temperature"): BASE + 5000}
    assert muted(judged.reader, BASE + 5000) == {}


def test_a_series_was_silent_from_the_reading_named_to_the_end_of_the_mute_or_the_next_one(judged):
    say(judged, 3, 0, Action.MUTE, "repair on Friday", "Kim", until=BASE + 5000)
    say(judged, 6, 1, Action.MUTE, "wet", "Kim", until=BASE + 400)
    say(judged, 9, 0, Action.MUTE, "repaired", "Ada", until=BASE)
    assert silences(all_said(judged.reader)) == {
        ("alder", "temperature"): [(BASE + 120, BASE + 480), (BASE + 480, BASE)],
        ("alder", "humidity"): [(BASE + 300, BASE + 400)],
    }


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((10, 2, Action.CONFIRM, "x", "Kim"), "none at 2"),
        ((99, 0, Action.CONFIRM, "x", "Kim"), "no entry 99"),
        ((0, 0, Action.CONFIRM, "x", "Kim"), "no message"),
        ((10, 0, Action.CONFIRM, " ", "Kim"), "reason"),
        ((10, 0, Action.CONFIRM, "x", ""), "name"),
        ((10, 0, Action.CORRECT, "x", "Kim"), "sound"),
        ((10, 0, Action.MUTE, "x", "Kim"), "until"),
        ((10, 0, Action.MUTE, "x", "Kim", None, 10**12), "Unix seconds"),
        ((10, 0, Action.CONFIRM, "\udcff", "Kim"), "reason"),
    ],
)
def test_what_cannot_be_reviewed_is_refused_and_nothing_is_written(judged, said, why):
    size = judged.reader.size()
    with pytest.raises(SensorhubError, match=why):
        say(judged, *said)
    assert judged.reader.size() == size


def test_a_verdict_that_is_not_on_the_message_is_not_in_force(judged):
    say(judged, 10, 1, Action.CONFIRM, "dry indeed", "Kim")
    before = labels(judged.reader)
    judged.append([encode_entry(VerdictEntry(1, b"", "rules/9", ((10, ((3, 1),)),)))])
    assert labels(judged.reader) == before
    say(judged, 10, 1, Action.CONFIRM, "still", "Kim")


def test_an_unjudged_message_cannot_be_reviewed(judged):
    index = judged.append([judged.message("alder", BASE + 700, [("temperature", 20, 0)])])
    with pytest.raises(SensorhubError, match="not judged"):
        say(judged, index, 0, Action.CONFIRM, "x", "Kim")
