"""Five-minute and hourly summaries: pure functions of the readings in a bucket.

A summary does not depend on the order in which readings came. Means are of exact sums (`math.fsum` rounds
once), `last` is the reading with the greatest (time, message, record). Directions are averaged on the
circle: mean is the angle of the mean vector, steadiness its length (1 = one direction, 0 = all round).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sensorhub.flags import TRUSTED

# Below this length of the mean vector (rounding of sine and cosine) no direction is left.
_NO_DIRECTION: Final = 1e-9
_PAIRS: Final = msgspec.json.Decoder(list[tuple[int, int]])


class Summary(NamedTuple):
    """One channel of one node in one bucket; the columns of a rollup table after its key.

    `score` is the sum of the scores (0 to 255) of the `judged_n` judged readings, `flag_counts` JSON: how many of them
    carry each flag, `[[bit, readings], ..]`, None for none.
    """

    n: int
    mean: float | None
    min: float | None
    max: float | None
    last: float
    steadiness: float | None
    trusted_n: int
    trusted_mean: float | None
    trusted_steadiness: float | None
    flags: int
    judged_n: int
    score: int
    flag_counts: str | None


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of one node, one element each.

    Attributes:
        channel: int64, id of the channel.
        time: float64, Unix seconds.
        id: int64, message * RECORDS + record.
        value: float64.
        score: int16, 0 to 255, or -1 when the reading is not judged or not to be trusted whatever its score.
        flags: int64, flag bits.
    """

    channel: NDArray[np.int64]
    time: NDArray[np.float64]
    id: NDArray[np.int64]
    value: NDArray[np.float64]
    score: NDArray[np.int16]
    flags: NDArray[np.int64]


def _circular(degrees: Sequence[float], weights: Sequence[float]) -> tuple[float | None, float]:
    total = math.fsum(weights)
    east = math.fsum(w * math.sin(math.radians(d)) for d, w in zip(degrees, weights, strict=True)) / total
    north = math.fsum(w * math.cos(math.radians(d)) for d, w in zip(degrees, weights, strict=True)) / total
    length = math.hypot(east, north)
    if length < _NO_DIRECTION:
        return None, 0.0
    return math.degrees(math.atan2(east, north)) % 360.0, min(length, 1.0)


def _mean(values: Sequence[float], *, direction: bool) -> tuple[float | None, float | None]:
    if not values:
        return None, None
    if direction:
        if len(values) == 1:
            return values[0] % 360.0, 1.0
        return _circular(values, [1.0] * len(values))
    return _divide(values, len(values)), None


def _divide(terms: Sequence[float], total: int) -> float:
    try:
        return math.fsum(terms) / total
    except OverflowError:
        # a sum beyond the largest double: an absurd reading must not stop the store
        return math.fsum(term / total for term in terms)


def _counts(each: Mapping[int, int]) -> str | None:
    return msgspec.json.encode(sorted(each.items())).decode() if each else None


def summarise(columns: Columns, seconds: int, directions: frozenset[int]) -> dict[tuple[int, int], Summary]:
    """Summaries by (start of the bucket, channel id) of readings in any order.

    Args:
        columns: the readings, of one node.
        seconds: length of a bucket.
        directions: ids of the channels that are directions in degrees.
    """
    if columns.value.size == 0:
        return {}
    bucket = np.floor(columns.time / seconds).astype(np.int64) * seconds
    order = np.lexsort((columns.id, columns.time, columns.channel, bucket))
    bucket, channel = bucket[order], columns.channel[order]
    value, score, flags = columns.value[order], columns.score[order], columns.flags[order]
    starts = np.flatnonzero(np.r_[True, (bucket[1:] != bucket[:-1]) | (channel[1:] != channel[:-1])])
    ends = np.r_[starts[1:], value.size]
    trusted = score >= TRUSTED
    lows = np.minimum.reduceat(value, starts).tolist()
    highs = np.maximum.reduceat(value, starts).tolist()
    union = np.bitwise_or.reduceat(flags, starts).tolist()
    trusted_n = np.add.reduceat(trusted.astype(np.int64), starts).tolist()
    known = score >= 0
    judged_n = np.add.reduceat(known.astype(np.int64), starts).tolist()
    scores = np.add.reduceat(np.where(known, score, 0).astype(np.int64), starts).tolist()
    marked: dict[int, dict[int, int]] = {}
    for bit in range(int(np.bitwise_or.reduce(flags)).bit_length()):
        often = np.add.reduceat(known & (flags >> bit & 1 != 0), starts, dtype=np.int64)
        for i in np.flatnonzero(often).tolist():
            marked.setdefault(i, {})[bit] = int(often[i])
    lasts = value[ends - 1].tolist()
    buckets, channels = bucket[starts].tolist(), channel[starts].tolist()
    values, believed = value.tolist(), trusted.tolist()
    found: dict[tuple[int, int], Summary] = {}
    for i, (a, b) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        direction = channels[i] in directions
        part = values[a:b]
        mean, steadiness = _mean(part, direction=direction)
        if trusted_n[i] == b - a:
            good_mean, good_steadiness = mean, steadiness
        elif not trusted_n[i]:
            good_mean = good_steadiness = None
        else:
            good = [v for v, ok in zip(part, believed[a:b], strict=True) if ok]
            good_mean, good_steadiness = _mean(good, direction=direction)
        found[buckets[i], channels[i]] = Summary(
            b - a,
            mean,
            None if direction else lows[i],
            None if direction else highs[i],
            lasts[i],
            steadiness,
            trusted_n[i],
            good_mean,
            good_steadiness,
            union[i],
            judged_n[i],
            scores[i],
            _counts(marked.get(i, {})),
        )
    return found


def _weighted(
    parts: Sequence[tuple[int, float | None, float | None]], *, direction: bool
) -> tuple[float | None, float | None]:
    counted = [(n, mean, steadiness) for n, mean, steadiness in parts if n]
    if not counted:
        return None, None
    total = sum(n for n, _, _ in counted)
    if not direction:
        means = [(n, mean) for n, mean, _ in counted if mean is not None]
        terms = [n * mean for n, mean in means]
        if all(map(math.isfinite, terms)):
            return _divide(terms, total), None
        return math.fsum(n / total * mean for n, mean in means), None
    known = [(mean, n * (steadiness or 0.0)) for n, mean, steadiness in counted if mean is not None]
    if not known:
        return None, 0.0
    mean, length = _circular([d for d, _ in known], [w for _, w in known])
    # _circular divides by the weights given; the readings without a direction count in the length too
    return mean, length * math.fsum(w for _, w in known) / total


def combine(parts: Sequence[Summary], *, direction: bool) -> Summary:
    """The summary of a longer bucket out of those of its parts, which come in time order and are not empty."""
    if len(parts) == 1:
        return parts[0]
    mean, steadiness = _weighted([(p.n, p.mean, p.steadiness) for p in parts], direction=direction)
    good_mean, good_steadiness = _weighted(
        [(p.trusted_n, p.trusted_mean, p.trusted_steadiness) for p in parts], direction=direction
    )
    flags = 0
    counts: Counter[int] = Counter()
    for part in parts:
        flags |= part.flags
        if part.flag_counts is not None:
            counts.update(dict(_PAIRS.decode(part.flag_counts)))
    return Summary(
        sum(p.n for p in parts),
        mean,
        min((p.min for p in parts if p.min is not None), default=None),
        max((p.max for p in parts if p.max is not None), default=None),
        parts[-1].last,
        steadiness,
        sum(p.trusted_n for p in parts),
        good_mean,
        good_steadiness,
        flags,
        sum(p.judged_n for p in parts),
        sum(p.score for p in parts),
        _counts(counts),
    )
