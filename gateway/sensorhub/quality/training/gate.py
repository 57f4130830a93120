"""The gate: what a new model and the one in use would have done on a site's held-back days, and whether the new one may take over.

Both are judged as a gateway judges, at its own line of an alarm (`benchmark.at_own_line`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sensorhub.quality import table as tables
from sensorhub.quality.benchmark import (
    BUDGET,
    DAYS_BETWEEN,
    FAULTS,
    Case,
    Count,
    at_own_line,
    by_class,
    case_of,
    precision_by,
)
from sensorhub.quality.model import LOCAL, Model
from sensorhub.quality.reviews import Label
from sensorhub.quality.training.events import of_one_place
from sensorhub.quality.training.faults import Faulty, inject
from sensorhub.quality.training.people import Key
from sensorhub.quality.training.site import Marks, Progress, Site, silently

#: How often faults and local events are put into the days, each time others.
DRAWS: Final = 6
#: A gain is beyond chance at this many of its standard errors: by Student's t, 95 % for six draws. A loss counts sooner, since the
#: model in use has the benefit of the doubt.
CHANCE: Final = 2.5
DOUBT: Final = 1.5
#: From which difference on a measure is better or worse, beside chance: mean average precision, that of one fault, and shares
#: and alarms a sensor and day.
MEAN_MATTERS: Final = 0.005
FAULT_MATTERS: Final = 0.05
MATTERS: Final = 0.01

MEAN: Final = "average precision"
FOUND: Final = "faults found"
LOCAL_FLAGGED: Final = "local events flagged"
ALARMS: Final = "alarms a sensor and day"
AGREED: Final = "agreement with people"

Outcome = Literal["better", "same", "worse"]


@dataclass(frozen=True, slots=True)
class Measure:
    """What two models are compared by.

    Attributes:
        name: what was measured.
        old: its value with the model in use.
        new: with the new one.
        outcome: what the new one is in it, chance left aside.
    """

    name: str
    old: float
    new: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Gate:
    """How two models did on the held-back days of a site."""

    measures: tuple[Measure, ...]

    @property
    def promoted(self) -> bool:
        """The new model is better in something and worse in nothing."""
        return bool(self._those("better")) and not self._those("worse")

    @property
    def why(self) -> str:
        """The same in words."""
        better, worse = (
            ", ".join(f"{m.name} {m.new:.3f}, in use {m.old:.3f}" for m in self._those(kind))
            for kind in ("better", "worse")
        )
        gain = f"better beyond chance in {better}" if better else "better beyond chance in nothing"
        return f"{gain}; worse in {worse or 'nothing'}"

    @property
    def precision(self) -> dict[str, float]:
        """Average precision of the new model by fault."""
        names = {f"{MEAN} of {name}": name for name in FAULTS}
        return {names[m.name]: m.new for m in self.measures if m.name in names}

    def _those(self, outcome: str) -> list[Measure]:
        return [m for m in self.measures if m.outcome == outcome]


def compare(
    old: Model,
    new: Model,
    site: Site,
    trusted: tuple[Mapping[Key, bool], Mapping[Key, bool]] = ({}, {}),
    *,
    seed: int = 1,
    progress: Progress = silently,
) -> Gate:
    """What two models do on the held-back days of a site.

    Alarms are counted on the days as they came. The rest is measured with faults and local events put into these days, several
    times; there, readings that one of the two doubts as they came are not counted, since nobody knows what they are.

    Args:
        old: the model in use.
        new: the other.
        site: what the log holds.
        trusted: of the readings that people judged, by message and place in it, whether the one and the other trusts them.
        seed: decides the faults.
        progress: is told how much is done.
    """
    held, counts = site.held_back()
    local = of_one_place(held)
    nothing = {c: np.zeros(v.shape, np.int8) for c, v in held.values.items()}
    as_came = Faulty(
        held, {c: np.where(v, np.int8(LOCAL), np.int8(0)) for c, v in local.items()}, nothing, counts
    )
    case = case_of(as_came, "held-back days")
    steps = 2 * (1 + DRAWS)
    odds = []
    for number, model in enumerate((old, new)):
        progress("comparing", number, steps)
        odds.append(_odds(case, model))
    before, after = ([at_own_line(*day) for day in _days(case, score)] for score in odds)
    rates = [
        Count(*(sum(getattr(day, f.name) for day in days) for f in fields(Count))).rate
        for days in (before, after)
    ]
    fewer = [a.rate - b.rate for a, b in zip(before, after, strict=True)]
    doubted = _marked(held.values, (odds[0] >= 0) | (odds[1] >= 0))
    told: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for draw in range(DRAWS):
        case = case_of(_with_faults(site, doubted, 1000 * seed + draw), "held-back days with faults")
        for number, model in enumerate((old, new)):
            progress("comparing", 2 * (1 + draw) + number, steps)
            told[number].append(_measured(case, _odds(case, model)))
    progress("comparing", steps, steps)
    alarms = Measure(ALARMS, rates[0], rates[1], _outcome(fewer, MATTERS))
    caught = _by_draw(FOUND, told, MATTERS)
    if caught.outcome == "worse" and alarms.outcome == "better" and alarms.old > BUDGET:
        # who cries wolf all day is right at times
        caught = replace(caught, outcome="same")
    found = [
        _by_draw(MEAN, told, MEAN_MATTERS),
        *(_only_worse(_by_draw(f"{MEAN} of {name}", told, FAULT_MATTERS)) for name in FAULTS),
        caught,
        _by_draw(LOCAL_FLAGGED, told, MATTERS, sign=-1),
        alarms,
        _agreement(site.labels, trusted, site.cut_time),
    ]
    return Gate(tuple(m for m in found if np.isfinite(m.old)))


def _odds(case: Case, model: Model) -> NDArray[np.float64]:
    return tables.odds_of(
        case.node, case.channel, case.time, case.value, case.latitude, case.longitude, model=model
    )


def _days(
    case: Case, score: NDArray[np.float64]
) -> Iterator[tuple[Case, NDArray[np.float64], NDArray[np.bool_]]]:
    """Each day that counts, as `at_own_line` takes it."""
    day = np.floor(case.time / 86_400)
    for each in np.unique(day[case.counted]).tolist():
        rows = day == each
        one = replace(
            case, **{f.name: getattr(case, f.name)[rows] for f in fields(Case) if f.name != "title"}
        )
        yield one, score[rows], one.counted


def _marked(values: Mapping[str, NDArray[np.float64]], marks: NDArray[np.bool_]) -> Marks:
    """Marks (n,) of the readings of a case on the grid that it was made of: channel to bool (T, N)."""
    cube = np.isfinite(np.stack(list(values.values()), axis=2))
    cube[cube] = marks  # in the order in which `case_of` takes them
    return {c: cube[:, :, k] for k, c in enumerate(values)}


def _with_faults(site: Site, doubted: Marks, seed: int) -> Faulty:
    held, counts = site.held_back()
    faulty = inject(held, seed, days_between=DAYS_BETWEEN, events=True)
    count = {}
    for c, sure in faulty.count.items():
        fault = (faulty.label[c] > 0) & (faulty.label[c] != LOCAL)
        count[c] = sure & counts[c] & (fault | ~doubted[c])
    return replace(faulty, count=count)


def _measured(case: Case, score: NDArray[np.float64]) -> dict[str, float]:
    """What is measured in a draw, by name."""
    precision = by_class(precision_by(case, score, case.counted))
    found = at_own_line(case, score, case.counted)
    return {
        MEAN: float(np.mean(list(precision.values()))) if precision else float("nan"),
        **{f"{MEAN} of {name}": value for name, value in precision.items()},
        FOUND: found.recall,
        LOCAL_FLAGGED: found.local,
    }


def _by_draw(
    name: str,
    told: tuple[Sequence[dict[str, float]], Sequence[dict[str, float]]],
    matters: float,
    sign: int = 1,
) -> Measure:
    """A measure that was taken in draws, of those that have it; NaN where none has. `sign` -1 where less is better."""
    pairs = np.array([(a.get(name, np.nan), b.get(name, np.nan)) for a, b in zip(*told, strict=True)])
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if not pairs.size:
        return Measure(name, float("nan"), float("nan"), "same")
    old, new = pairs.mean(axis=0).tolist()
    return Measure(name, old, new, _outcome((sign * (pairs[:, 1] - pairs[:, 0])).tolist(), matters))


def _only_worse(measure: Measure) -> Measure:
    # of seven faults one is easily better by chance; what is gained shows in their mean
    return replace(measure, outcome="same") if measure.outcome == "better" else measure


def _outcome(gains: Sequence[float], matters: float) -> Outcome:
    """What gains in several draws, or days, say: better or worse when their mean matters and is hardly chance."""
    if len(gains) < 2:
        return "same"
    mean, error = float(np.mean(gains)), float(np.std(gains, ddof=1)) / np.sqrt(len(gains))
    if mean >= matters and mean > CHANCE * error:
        return "better"
    return "worse" if mean <= -matters and -mean > DOUBT * error else "same"


def _agreement(
    labels: Mapping[Key, Label], trusted: tuple[Mapping[Key, bool], Mapping[Key, bool]], cut: float
) -> Measure:
    """Share of the readings that people judged on which a model agrees with them; NaN without any.

    Worse is a model that agrees on fewer of all of them; better one that agrees on more of those that training did not see.
    """
    keys = [key for key in labels if all(key in each for each in trusted)]
    agrees = np.array([[each[k] == labels[k].sound for k in keys] for each in trusted], np.int64)
    gains = agrees[1] - agrees[0]
    unseen = gains[np.array([labels[k].time >= cut for k in keys], np.bool_)]
    outcome: Outcome = "same"
    if gains.sum() < 0:
        outcome = "worse"
    elif unseen.sum() > CHANCE * np.sqrt(np.count_nonzero(unseen)):
        outcome = "better"
    old, new = agrees.mean(axis=1).tolist() if keys else (float("nan"), float("nan"))
    return Measure(AGREED, old, new, outcome)


def document(gate: Gate) -> dict[str, Any]:
    """A gate's result as JSON values, for the card and the log."""
    return {
        "promoted": gate.promoted,
        "why": gate.why,
        "measures": [
            {"name": m.name, "old": round(m.old, 4), "new": round(m.new, 4), "outcome": m.outcome}
            for m in gate.measures
        ],
    }
