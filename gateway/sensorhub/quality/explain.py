"""Why a reading was judged as it was: the evidence in words, in numbers, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import cbor2
import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME
from sensorhub.errors import SensorhubError
from sensorhub.flags import FULL_SCORE, flag_names
from sensorhub.log.entries import NODE, VERDICT, NodeEntry, decode_entry, kind_of
from sensorhub.log.reader import LogReader
from sensorhub.nodes import geohash
from sensorhub.nodes.registry import Registry
from sensorhub.quality.columns import columns_of, read_messages
from sensorhub.quality.evidence import Neighbour
from sensorhub.quality.judge import Findings, Judge
from sensorhub.quality.model import CLASSES, Model

#: Readings before the explained one that the picture shows at most, and their span in seconds.
HISTORY: Final = 600
SPAN: Final = 48 * 3600.0
_BATCH: Final = 2048


@dataclass(frozen=True, slots=True)
class Explanation:
    """The evidence on one reading.

    Attributes:
        node: name of the node.
        channel: name of the channel.
        time: Unix seconds.
        value: in the channel's unit.
        message: log index of its message.
        score: 0 to 1, as judged anew now.
        flags: names of the flags.
        logged: (log index of the entry, score 0 to 255, flags) of the verdict in the log, the last one; None without.
        expected: what the neighbours let expect, or None.
        residual: distance from that in usual deviations, or None.
        support: how many good neighbours that rests on.
        chances: probability of each class of the model; empty when no model took part.
        neighbours: what each of them let expect.
        history: (time, value, expected) of the readings before, oldest first.
        words: sentences that say all of this.
    """

    node: str
    channel: str
    time: float
    value: float
    message: int
    score: float
    flags: tuple[str, ...]
    logged: tuple[int, int, int] | None
    expected: float | None
    residual: float | None
    support: float
    chances: dict[str, float]
    neighbours: tuple[Neighbour, ...]
    history: tuple[tuple[float, float, float | None], ...]
    words: tuple[str, ...]


def explain(reader: LogReader, node: str, channel: str, time: float, *, model: Model | None) -> Explanation:
    """The evidence on the reading of a node and channel that is nearest to a time.

    The log is judged again from its beginning to that reading, so this takes as long as that does.

    Args:
        reader: the log.
        node: name of the node.
        channel: name of the channel.
        time: Unix seconds.
        model: the model to ask; None asks none.

    Raises:
        SensorhubError: the log has no dated number of that node and channel within an hour of that time.
    """
    message, verdict = _find(reader, node, channel, time)
    judge, registry = Judge(model), Registry()
    history: list[tuple[float, float, float | None]] = []
    run: list[tuple[int, bytes]] = []
    for index, entry in reader.entries(0, message + 1):
        if kind_of(entry) == NODE:
            decoded = decode_entry(entry)
            if isinstance(decoded, NodeEntry) and registry.apply(index, decoded):
                _judged(judge, run, node, channel, history)
                run = []
                key = registry.current(decoded.node)
                if key is not None and geohash.is_valid(key.geohash):
                    judge.place(decoded.node, *geohash.decode(key.geohash))
            continue
        if index == message:
            break
        run.append((index, entry))
        if len(run) >= _BATCH:
            _judged(judge, run, node, channel, history)
            run = []
    _judged(judge, run, node, channel, history)
    last = _judged(judge, [(message, entry)], node, channel, history)
    assert last is not None
    found, columns = last
    number = judge.rules.numbers.pairs.index((node, channel))
    rows = np.flatnonzero((columns.series == number) & np.isfinite(columns.value))
    row = int(rows[np.argmin(np.abs(columns.time[rows] - time))])
    return _told(judge, found, columns, row, message, verdict, history)


def _find(reader: LogReader, node: str, channel: str, time: float) -> tuple[int, tuple[int, bytes] | None]:
    """Log index of the message with the nearest reading, and the last verdict entry on it."""
    best, nearest = -1, 3600.0
    verdicts: dict[int, tuple[int, bytes]] = {}
    needle = f":{node}:".encode()
    for index, entry in reader.entries(0):
        if kind_of(entry) == VERDICT:
            if best >= 0 and any(item[0] == best for item in cbor2.loads(entry)[4]):
                verdicts[best] = (index, entry)
            continue
        if needle not in entry:
            continue
        for _, message in read_messages([(index, entry)]):
            pack = message.pack
            if pack.node != node or pack.base_time is None or channel not in pack.names:
                continue
            for name, offset, value in zip(pack.names, pack.times, pack.values, strict=True):
                apart = abs(pack.base_time + offset - time)
                if name == channel and isinstance(value, (int, float)) and apart < nearest:
                    best, nearest = index, apart
    if best < 0:
        raise SensorhubError(
            f"the log has no {channel} of node {node!r} within an hour of that time; "
            "name a node, channel and time (Unix seconds or ISO 8601) that it has"
        )
    return best, verdicts.get(best)


def _judged(
    judge: Judge,
    entries: Sequence[tuple[int, bytes]],
    node: str,
    channel: str,
    history: list[tuple[float, float, float | None]],
) -> tuple[Findings, Any] | None:
    messages = read_messages(entries)
    if not messages:
        return None
    columns = columns_of(messages, judge.rules.numbers)
    found = judge.judge(columns)
    if (node, channel) in judge.rules.numbers.pairs:
        mine = columns.series[found.compared] == judge.rules.numbers.pairs.index((node, channel))
        for row, expected, support in zip(
            found.compared[mine], found.evidence.expected[mine], found.evidence.support[mine], strict=True
        ):
            told = float(expected) if support > 0 else None
            history.append((float(columns.time[row]), float(columns.value[row]), told))
        del history[:-HISTORY]
    return found, columns


def _told(
    judge: Judge,
    found: Findings,
    columns: Any,
    row: int,
    message: int,
    verdict: tuple[int, bytes] | None,
    history: list[tuple[float, float, float | None]],
) -> Explanation:
    node, channel = judge.rules.numbers.pairs[int(columns.series[row])]
    flags = int(found.judged.flags[row])
    places = np.flatnonzero(found.compared == row)
    expected = residual = None
    support, chances = 0.0, {}
    neighbours: tuple[Neighbour, ...] = ()
    if places.size:
        k = int(places[0])
        support = float(found.evidence.support[k])
        if support > 0:
            expected, residual = float(found.evidence.expected[k]), float(found.evidence.residual[k])
        if found.logits is not None:
            chances = dict(zip(CLASSES, _softmax(found.logits[k]), strict=True))
        neighbours = judge.witnesses.neighbours(int(columns.series[row]))
    logged = None
    if verdict is not None:
        record = row - int(np.sum(columns.count[: int(np.searchsorted(columns.index, message))]))
        for index, pairs in cbor2.loads(verdict[1])[4]:
            if index == message:
                logged = (verdict[0], int(pairs[record][0]), int(pairs[record][1]))
    time, value = float(columns.time[row]), float(columns.value[row])
    result = Explanation(
        node,
        channel,
        time,
        value,
        message,
        float(found.judged.score[row]) / FULL_SCORE,
        tuple(flag_names(flags)),
        logged,
        expected,
        residual,
        support,
        chances,
        neighbours,
        tuple(h for h in history if time - SPAN <= h[0] <= time),
        (),
    )
    return _with_words(result)


def _softmax(logits: NDArray[np.float32]) -> list[float]:
    powers = np.exp(logits.astype(np.float64) - float(logits.max()))
    return [float(p) for p in powers / powers.sum()]


def _with_words(e: Explanation) -> Explanation:
    channel = BY_NAME[e.channel]
    digits, unit = channel.decimals, channel.unit
    words = [f"{channel.title} of {e.node} was {e.value:.{digits}f} {unit}; its score is {e.score:.2f}."]
    if e.flags:
        words.append(f"Flags: {', '.join(e.flags)}.")
    if e.expected is None or e.residual is None:
        words.append("There was no neighbour to compare it with, so it is neither confirmed nor refuted.")
    else:
        size = abs(e.residual)
        how = "as usual" if size < 2 else "further than usual" if size < 5 else "far beyond the usual"
        words.append(
            f"From its neighbours {e.expected:.{digits}f} {unit} was to be expected, with what they usually differ by taken off; "
            f"the difference is {size:.1f} times its usual size, {how}."
        )
        told = [
            f"{n.node} ({n.distance:.1f} km, trust {n.trust:.2f}) {n.expected:.{digits}f}"
            for n in e.neighbours
            if n.expected is not None
        ]
        words.append(f"Each of them lets expect: {'; '.join(told)}.")
    if e.chances:
        named = sorted(e.chances.items(), key=lambda item: -item[1])[:3]
        words.append("The model takes it for " + ", ".join(f"{name} ({p:.0%})" for name, p in named) + ".")
    if e.logged is not None:
        words.append(
            f"The log's verdict (entry {e.logged[0]}) is {e.logged[1] / FULL_SCORE:.2f}"
            + (f" with the flags {', '.join(flag_names(e.logged[2]))}." if e.logged[2] else " without flags.")
        )
    values = {name: getattr(e, name) for name in Explanation.__slots__}
    return Explanation(**{**values, "words": tuple(words)})


def picture(e: Explanation, *, width: int = 720, height: int = 280) -> str:
    """The readings before, what the neighbours let expect, and the reading itself, as SVG."""
    points = list(e.history) or [(e.time, e.value, e.expected)]
    first, last = points[0][0], max(e.time, points[0][0] + 1)
    levels = [v for _, v, _ in points] + [x for *_, x in points if x is not None]
    low, high = min(levels), max(levels)
    margin = 0.08 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def at(time: float, level: float) -> str:
        x = 50 + (width - 70) * (time - first) / (last - first)
        y = 20 + (height - 50) * (high - level) / (high - low)
        return f"{x:.1f},{y:.1f}"

    own = " ".join(at(t, v) for t, v, _ in points)
    expected = " ".join(at(t, x) for t, _, x in points if x is not None)
    cx, cy = at(e.time, e.value).split(",")
    unit = escape(BY_NAME[e.channel].unit)
    hours = (last - first) / 3600
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" font-size="12">'
        f"<title>{escape(' '.join(e.words))}</title>"
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="4" y="24">{high:.4g}</text><text x="4" y="{height - 32}">{low:.4g} {unit}</text>'
        f'<text x="50" y="{height - 8}">{hours:.0f} h before</text>'
        f'<text x="{width - 20}" y="{height - 8}" text-anchor="end">{escape(e.node)} {escape(e.channel)}</text>'
        f'<polyline points="{expected}" fill="none" stroke="#e08a00" stroke-width="1.5" stroke-dasharray="5 3"/>'
        f'<polyline points="{own}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>'
        f'<circle cx="{cx}" cy="{cy}" r="4" fill="#c02020"/>'
        f'<text x="{width - 20}" y="16" text-anchor="end" fill="#555">solid: the node; dashed: its neighbours let expect</text>'
        "</svg>"
    )
