"""What people say of verdicts: confirm, correct or mute, each with a reason, each an entry of the log.

A review is an artefact entry named `review` whose description is JSON and whose hash is that of the description.
A correction is followed by a verdict entry of `review/1` for its message, which is the one in force from then on;
records of that message that nobody corrected keep the verdict they had.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import cbor2

from sensorhub.errors import SensorhubError
from sensorhub.flags import FULL_SCORE
from sensorhub.log.entries import (
    ARTEFACT,
    REVIEW,
    VERDICT,
    ArtefactEntry,
    VerdictEntry,
    encode_entry,
    kind_of,
    outranks,
)
from sensorhub.log.reader import LogReader
from sensorhub.quality.columns import read_messages
from sensorhub.quality.follower import Appender

WHAT: Final = "review"
#: Longest reason and name, in characters: a log entry is not a diary.
LONGEST: Final = 500
#: Unix second before which a mute ends, in the year 4147: what shows times takes no number of any size.
LATEST: Final = 2**36


class Action(StrEnum):
    """What is said of a verdict."""

    CONFIRM = "confirm"
    """It is right."""
    CORRECT = "correct"
    """It is wrong: the reading is sound, or is not."""
    MUTE = "mute"
    """It is known: no alarm for this series until a time."""


@dataclass(frozen=True, slots=True)
class Review:
    """What somebody says of the verdict on one reading.

    Attributes:
        message: log index of the message.
        record: position of the reading in it.
        action: what is said.
        reason: why, in words.
        by: who says so.
        sound: with a correction, whether the reading is sound.
        until: with a mute, the Unix second at which it ends.
    """

    message: int
    record: int
    action: Action
    reason: str
    by: str
    sound: bool | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A reading that a person has judged: an example to train with.

    Attributes:
        node: the reading's node.
        channel: its channel.
        time: its time, Unix seconds.
        value: its value.
        sound: what the person holds it to be.
        reason: why, in the person's words.
        flags: those of the verdict in force, which a correction to faulty and a confirmation leave as they were.
    """

    node: str
    channel: str
    time: float
    value: float
    sound: bool
    reason: str
    flags: int = 0


def review(reader: LogReader, log: Appender, said: Review) -> int:
    """Appends a review, and the verdict that follows from a correction.

    Returns:
        Log index of the review.

    Raises:
        SensorhubError: there is no such reading, the reason or the name is missing or too long, or what the
            action needs is missing.
        AppendError: the log could not be written.
    """
    for name, text in (("a reason", said.reason), ("a name", said.by)):
        if not text.strip() or len(text) > LONGEST or not _is_unicode(text):
            raise SensorhubError(f"a review needs {name} of 1 to {LONGEST} characters, in UTF-8")
    if (said.action is Action.CORRECT) != (said.sound is not None):
        raise SensorhubError("a correction, and nothing else, says whether the reading is sound")
    if (said.action is Action.MUTE) != (said.until is not None):
        raise SensorhubError("a mute, and nothing else, says until when")
    if said.until is not None and not 0 <= said.until < LATEST:
        raise SensorhubError(f"a mute cannot end at {said.until}: Unix seconds are wanted")
    count = _records(reader, said.message)
    if not 0 <= said.record < count:
        raise SensorhubError(f"entry {said.message} of the log holds {count} readings, none at {said.record}")
    verdicts = _verdicts(reader, said.message, count)
    if verdicts is None:
        raise SensorhubError(f"message {said.message} is not judged yet; wait until it is")
    ms = time.time_ns() // 1_000_000
    fields: dict[str, Any] = {n: getattr(said, n) for n in Review.__slots__ if getattr(said, n) is not None}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    entries = [encode_entry(ArtefactEntry(ms, WHAT, hashlib.sha256(text.encode()).digest(), text))]
    if said.sound is not None:
        flags = 0 if said.sound else verdicts[said.record][1]
        verdicts[said.record] = (FULL_SCORE if said.sound else 0, flags)
        told = ((said.message, tuple(verdicts)),)
        entries.append(encode_entry(VerdictEntry(ms, b"", REVIEW, told)))
    return log.append(entries)


@dataclass(frozen=True, slots=True)
class Said:
    """A review as the log holds it, with the reading that it is about.

    Attributes:
        entry: log index of the review.
        ms: when it was written, Unix ms.
        review: what was said.
        node: the reading's node.
        channel: its channel.
        time: its time, Unix seconds.
        value: its value.
    """

    entry: int
    ms: int
    review: Review
    node: str
    channel: str
    time: float
    value: float


def reviews(reader: LogReader, start: int = 0) -> Iterator[tuple[int, int, Review]]:
    """All reviews of a log from an index on: (log index, Unix ms, review).

    Artefacts that call themselves reviews and are none are passed over.
    """
    for index, entry in reader.entries(start):
        if kind_of(entry) == ARTEFACT:
            _, ms, what, sha256, text = cbor2.loads(entry)
            said = _parsed(sha256, text) if what == WHAT else None
            if said is not None:
                yield index, ms, said


def said_in(reader: LogReader, artefacts: Iterable[tuple[int, int, bytes, str]]) -> Iterator[Said]:
    """Reviews among artefacts named `review`, (log index, Unix ms, SHA-256, description), with their readings.

    Reviews of something that is no dated number are passed over.
    """
    for index, ms, sha256, text in artefacts:
        said = _parsed(sha256, text)
        told = None if said is None else _reading(reader, said)
        if said is not None and told is not None:
            yield Said(index, ms, said, *told)


def mutes(said: Iterable[Said], now: float) -> dict[tuple[str, str], Said]:
    """The mutes in force at a time by (node, channel); of each series the newest mute counts."""
    last: dict[tuple[str, str], Said] = {}
    for each in said:
        if each.review.action is Action.MUTE:
            last[each.node, each.channel] = each
    return {key: each for key, each in last.items() if (each.review.until or 0) > now}


def silences(said: Iterable[Said]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """When each (node, channel) was muted: from the reading that a mute names to its end, or to the next mute of the series."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for each in said:
        if each.review.action is Action.MUTE:
            spans = found.setdefault((each.node, each.channel), [])
            if spans:
                spans[-1] = spans[-1][0], min(spans[-1][1], each.time)
            spans.append((each.time, float(each.review.until or 0)))
    return found


def muted(reader: LogReader, now: float) -> dict[tuple[str, str], int]:
    """(node, channel) of the series that are muted at a time, and until when."""
    found = all_said(reader)
    return {key: each.review.until or 0 for key, each in mutes(found, now).items()}


def labelled(reader: LogReader) -> dict[tuple[int, int], Label]:
    """Readings that people have judged, by message and place in it, in the order of the log; the last word on each."""
    last: dict[tuple[int, int], Said] = {}
    for each in all_said(reader):
        if each.review.action is not Action.MUTE:
            last[each.review.message, each.review.record] = each
    found = {}
    verdicts = dict(in_force(reader, {message: _records(reader, message) for message, _ in last}))
    for (message, record), each in sorted(last.items()):
        said = each.review
        if message in verdicts:
            score, flags = verdicts[message][record]
            sound = said.sound if said.sound is not None else score > FULL_SCORE // 2
            found[message, record] = Label(
                each.node, each.channel, each.time, each.value, sound, said.reason, flags
            )
    return found


def labels(reader: LogReader) -> list[Label]:
    """The same as a list: examples to train and to measure with."""
    return list(labelled(reader).values())


def all_said(reader: LogReader) -> list[Said]:
    """Every review of a log with its reading, oldest first."""
    artefacts = []
    for index, entry in reader.entries(0):
        if kind_of(entry) == ARTEFACT:
            _, ms, what, sha256, text = cbor2.loads(entry)
            if what == WHAT:
                artefacts.append((index, ms, sha256, text))
    return list(said_in(reader, artefacts))


def _parsed(sha256: bytes, text: str) -> Review | None:
    """The review that an artefact's description is, or None: whoever may append may write anything there."""
    if hashlib.sha256(text.encode()).digest() != sha256:
        return None
    try:
        said = Review(**{**(fields := json.loads(text)), "action": Action(fields["action"])})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    numbers = (said.message, said.record, 0 if said.until is None else said.until)
    if any(type(number) is not int or number < 0 for number in numbers) or numbers[2] >= LATEST:
        return None
    words = all(isinstance(text, str) and _is_unicode(text) for text in (said.reason, said.by))
    return said if words and (said.sound is None or type(said.sound) is bool) else None


def _is_unicode(text: str) -> bool:
    """Whether it is more than a Python string: half of a surrogate pair, which JSON can say, is no text."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _records(reader: LogReader, message: int) -> int:
    if not 0 <= message < reader.size():
        raise SensorhubError(f"the log has no entry {message}; it ends at {reader.size() - 1}")
    found = read_messages([(message, reader.entry(message))])
    if not found:
        raise SensorhubError(f"entry {message} of the log is no message")
    return len(found[0][1].pack.names)


def _reading(reader: LogReader, said: Review) -> tuple[str, str, float, float] | None:
    if said.message >= reader.size():
        return None
    for _, message in read_messages([(said.message, reader.entry(said.message))]):
        pack = message.pack
        if said.record >= len(pack.values):
            return None
        value = pack.values[said.record]
        if pack.base_time is not None and not isinstance(value, bytes):
            return pack.node, pack.names[said.record], pack.base_time + pack.times[said.record], float(value)
    return None


def _verdicts(reader: LogReader, message: int, records: int) -> list[tuple[int, int]] | None:
    """The verdict in force on a message of so many records; None when it is not judged."""
    return dict(in_force(reader, {message: records})).get(message)


def in_force(reader: LogReader, records: Mapping[int, int]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Verdicts on messages in the order of the log, (message, (score, flags) of each record): the last of a message is in force.

    That is a person's, else the newest.

    Args:
        reader: the log.
        records: the messages, and how many records each has; verdicts on more or fewer are none.
    """
    persons: set[int] = set()
    for _, entry in reader.entries(min(records)) if records else ():
        if kind_of(entry) == VERDICT:
            _, _, _, rules, verdicts = cbor2.loads(entry)
            for index, pairs in verdicts:
                if records.get(index) == len(pairs) and outranks(rules, REVIEW if index in persons else None):
                    if rules == REVIEW:
                        persons.add(index)
                    yield index, [(int(score), int(flags)) for score, flags in pairs]
