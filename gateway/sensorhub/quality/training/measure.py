"""How well scores tell faults from the rest."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Share of faulty readings to which precision is brought, so that tables of different days compare.
PREVALENCE: Final = 0.02


def average_precision(
    fault: NDArray[np.float64], clean: NDArray[np.float64], weight: NDArray[np.float64]
) -> float:
    """Average precision of scores, faults being `PREVALENCE` of all; equal scores count together.

    Args:
        fault: scores of faulty readings.
        clean: scores of sound ones.
        weight: of the sound ones.
    """
    if not fault.size or not clean.size:
        return float("nan")
    score = np.r_[fault, clean]
    positive = np.r_[np.full(fault.size, PREVALENCE / fault.size), np.zeros(clean.size)]
    every = positive + np.r_[np.zeros(fault.size), (1 - PREVALENCE) * weight / weight.sum()]
    order = np.argsort(-score, kind="stable")
    hit, all_ = np.cumsum(positive[order]), np.cumsum(every[order])
    last = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    recall = hit[last] / PREVALENCE
    return float(np.sum(np.diff(np.r_[0.0, recall]) * hit[last] / all_[last]))


def episodes(time: NDArray[np.float64], gap: float) -> int:
    """Alarms at sorted times, those at most `gap` seconds apart being one."""
    return 0 if not time.size else 1 + int(np.count_nonzero(np.diff(time) > gap))


def threshold(
    scores: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    days: float,
    budget: float,
    gap: float = 3600.0,
) -> float:
    """The lowest score from which on sound series give at most `budget` alarms a day.

    Args:
        scores: (time, score) of the sound readings of each series, in order of time.
        days: days that all series have together.
        budget: alarms a series and day.
        gap: alarms closer than this are one, in seconds.
    """
    pool = np.concatenate([s for _, s in scores])
    best = float(pool.max()) + 1e-9
    for candidate in np.unique(np.quantile(pool, 1 - np.geomspace(2e-5, 0.2, 60)))[::-1].tolist():
        alarms = sum(episodes(t[s >= candidate], gap) for t, s in scores)
        if alarms / days > budget:
            break
        best = float(candidate)
    return best
