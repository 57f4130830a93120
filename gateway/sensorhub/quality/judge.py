"""Rules, neighbours and model together: one score and the flags of a reading (README.md gives the formula)."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sensorhub.flags import FULL_SCORE, Flag
from sensorhub.quality import rules as rules_module
from sensorhub.quality.camera import HAZE_ODDS
from sensorhub.quality.columns import Columns
from sensorhub.quality.evidence import Evidence, Rows, Witnesses
from sensorhub.quality.model import CLASSES, LOCAL, Model
from sensorhub.quality.profiles import CAUTION
from sensorhub.quality.rules import WEIGHTS, Judged, Rules, rounds

_LOG: Final = logging.getLogger(__name__)

#: The version that verdict entries name. Whatever changes a verdict, but not the model, changes this.
VERSION: Final = f"{rules_module.VERSION}+evidence/6"

#: Weight of the residual beside the model: ln(1 + |residual|) times this is added to the model's log odds.
RESIDUAL: Final = 0.7
#: Log odds that faults need over a local event before they are called faults: throwing away what is true is the worse mistake.
LOCAL_MORE: Final = 2.5
#: A flat run counts as stuck once it is this many times as long as the series' usual longest; before, its log odds are less
#: by STILL for each e-fold that is missing, two at most.
LONG_RUN: Final = 2.0
STILL: Final = 2.0
#: What stands apart, whether by a fault or a local event, gets about these log odds at least: trusted, but less than the rest.
UNCLEAR: Final = -1.5
_UNCLEAR_SLOPE: Final = 0.04
_UNCLEAR_MOST: Final = 10.0
#: A series' usual log odds are followed: they rise by this much a day while the odds are above, and fall by the rest of 1 below.
USUAL: Final = 0.7
#: Where a series begins, from where on its usual odds count, and how much of them counts.
USUAL_START: Final = -4.0
USUAL_ZERO: Final = -6.0
USUAL_LEAST: Final = -10.0
USUAL_SHARE: Final = 0.3
#: Odds above this are an alarm, not what is usual; and no reading stands for more seconds than this.
_ALARMING: Final = 1.0
_LONGEST: Final = 7200.0
#: What is taken off the log odds where few are near enough to contradict, and added where many are, beside one good
#: neighbour: FAR · (NEAR / (support + NEAR) - NEAR / (1 + NEAR)).
FAR: Final = 4.0
NEAR: Final = 1.0
#: What is taken off while the neighbourhood itself moves, when sound nodes differ more: MOVING · ln(1 + how far it moved).
MOVING: Final = 2.0
#: Series that speak every HOURLY seconds or less often have fewer occasions for a false alarm: what a profile's caution is less
#: there, and between the two cadences by a part.
EASE: Final = 2.5
HOURLY: Final = 3000.0
_OFTEN: Final = 1200.0
#: Without a model: log odds of a fault are ALONE_SLOPE · ln(1 + |residual|) - ALONE_START.
ALONE_SLOPE: Final = 4.0
ALONE_START: Final = 7.5
#: Log odds that the rules add.
RULES: Final[Mapping[Flag, float]] = {Flag.RANGE: 12.0, Flag.REPLAY: 3.0, Flag.STUCK: 2.0, Flag.SPIKE: 2.0}

#: Support below which a reading has no neighbour to be compared with.
ISOLATED: Final = 0.1
#: Hours of history after which biases are known well enough to corroborate anything.
SETTLED: Final = 6
ENOUGH_HOURS: Final = 48
#: Scores of readings that nobody can corroborate lie between these.
UNCORROBORATED: Final = (0.4, 0.6)
#: The consensus of the neighbours is this far from its usual value: an event.
REGIONAL: Final = 3.0
#: Seconds after which a model that does not answer is given up.
STALL: Final = 20.0
#: A reading with a held-over clock is compared when it is not ahead of the network by more than this, in seconds.
AHEAD: Final = 600.0

_STUCK: Final = CLASSES.index("stuck")
_CLASS_FLAGS: Final = (
    0,
    *(
        int(f)
        for f in (Flag.SPIKE, Flag.STUCK, Flag.DRIFT, Flag.OFFSET, Flag.NOISE, Flag.DROPOUT, Flag.REPLAY)
    ),
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found about the records of a batch, in its order.

    Attributes:
        judged: scores and flags.
        compared: int64 (M,), records that the neighbours and the model looked at.
        evidence: what was found about those.
        logits: float32 (M, 9) of `CLASSES`, or None when no model took part.
        suspicion: float64 (M,), log odds that the reading is faulty, over the bar of its series.
    """

    judged: Judged
    compared: NDArray[np.int64]
    evidence: Evidence
    logits: NDArray[np.float32] | None
    suspicion: NDArray[np.float64]


class Witnessed(Protocol):
    """What the neighbours say of rows (n of them), as in `Evidence`."""

    @property
    def residual(self) -> NDArray[np.float32]:
        """Distance from the consensus."""
        ...

    @property
    def support(self) -> NDArray[np.float32]:
        """How many good neighbours that has."""
        ...

    @property
    def moving(self) -> NDArray[np.float32]:
        """How far it moved lately."""
        ...

    @property
    def run(self) -> NDArray[np.float32]:
        """Length of the flat run, in the usual lengths of this series."""
        ...


class Cautioned(Protocol):
    """Of which kind rows are (n of them), as in `Evidence`."""

    @property
    def profile(self) -> NDArray[np.int64]:
        """Number of the channel's profile."""
        ...

    @property
    def cadence(self) -> NDArray[np.float32]:
        """Seconds between two readings."""
        ...


def suspicion(
    found: Witnessed, logits: NDArray[np.float32] | None, rule_flags: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Log odds (n,) that readings are faulty, from neighbours, model and rules, before a series' own bar and caution."""
    if logits is None:
        odds = ALONE_SLOPE * np.log1p(np.abs(found.residual.astype(np.float64))) - ALONE_START
    else:
        odds = model_odds(found, logits)
    return odds + rules_odds(rule_flags)


def rules_odds(flags: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the rules' flags (n,) add to the log odds."""
    odds = np.zeros(flags.size)
    for flag, more in RULES.items():
        odds += np.where(flags & int(flag), more, 0.0)
    return odds


def model_odds(found: Witnessed, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log odds (n,) that readings are faulty, from model and neighbours.

    A reading is faulty when it stands apart, which the neighbours bear witness of, and when that is no local event,
    of which they say nothing.
    """
    exact = logits.astype(np.float64)
    missing = np.log(LONG_RUN) - np.log(np.maximum(found.run.astype(np.float64), 1e-3))
    exact[:, _STUCK] -= STILL * np.clip(missing, 0.0, 2.0)
    fault, clean, local = _any_fault(exact), exact[:, 0], exact[:, LOCAL]
    apart = np.logaddexp(fault, local) - clean + witnesses_odds(found)
    odds = -np.logaddexp(-apart, -(fault - local - LOCAL_MORE))
    over = np.clip(apart - UNCLEAR, 0.0, _UNCLEAR_MOST)
    result: NDArray[np.float64] = np.maximum(odds, np.minimum(apart, UNCLEAR) + _UNCLEAR_SLOPE * over)
    return result


def witnesses_odds(found: Witnessed) -> NDArray[np.float64]:
    """What the neighbours add to the log odds (n,): the residual's share, less where they are far or moving."""
    apart = RESIDUAL * np.log1p(np.abs(found.residual.astype(np.float64)))
    apart -= MOVING * np.log1p(found.moving.astype(np.float64))
    return apart - FAR * (NEAR / (found.support.astype(np.float64) + NEAR) - NEAR / (1.0 + NEAR))


def fault_odds(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """ln(p(any fault) / p(clean or local event)) of logits (n, 9)."""
    exact = logits.astype(np.float64)
    return _any_fault(exact) - np.logaddexp(exact[:, 0], exact[:, LOCAL])


def _any_fault(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logit of all faults together."""
    faults = logits[:, 1:LOCAL]
    top: NDArray[np.float64] = faults.max(axis=1)
    # added class by class: a sum along an axis may be ordered by how many rows there are
    total = np.zeros(len(logits))
    for k in range(faults.shape[1]):
        total += np.exp(faults[:, k] - top)
    return top + np.log(total)


def caution(found: Cautioned) -> NDArray[np.float64]:
    """What is taken off the log odds (n,) so that 0 is where an alarm is worth what it costs.

    Alarms are counted by day, and a series that speaks more often has more occasions for one; channels differ in how often
    sound sensors do what no neighbour does.
    """
    slow = np.log(np.maximum(found.cadence.astype(np.float64), _OFTEN) / _OFTEN) / np.log(HOURLY / _OFTEN)
    result: NDArray[np.float64] = CAUTION[found.profile] - EASE * np.minimum(slow, 1.0)
    return result


class Bar:
    """What log odds each series usually has: nodes differ in how far they stand apart, and each has its own bar.

    The level of a series is a quantile of its odds over the last weeks, followed step by step (USUAL of the time they are
    below); odds that are an alarm are not usual.
    """

    def __init__(self) -> None:
        self._level = np.zeros(0)
        self._time = np.zeros(0)

    def over(
        self,
        found: Evidence,
        logits: NDArray[np.float32] | None,
        rule_flags: NDArray[np.int64],
        series: NDArray[np.int64],
        time: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Log odds (n,) of readings in log order above the bar of their series: over 0 is an alarm.

        Args:
            found: what neighbours and past say.
            logits: float32 (n, 9) of `CLASSES`; without them there is no bar but the rules' own.
            rule_flags: int64 (n,).
            series: int64 (n,), number of the series.
            time: float64 (n,), Unix seconds, rising in each series.
        """
        odds = suspicion(found, logits, rule_flags)
        return odds if logits is None else odds - self.take(series, time, odds) - caution(found)

    def take(
        self, series: NDArray[np.int64], time: NDArray[np.float64], odds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What to take off the log odds (n,) of readings in log order; each sees the readings before it.

        Args:
            series: int64 (n,), number of the series.
            time: float64 (n,), Unix seconds, rising in each series.
            odds: float64 (n,).
        """
        if not odds.size:
            return np.zeros(0)
        more = int(series.max()) + 1 - self._level.size
        if more > 0:
            self._level = np.concatenate((self._level, np.full(more, USUAL_START)))
            self._time = np.concatenate((self._time, np.full(more, np.inf)))
        less = np.empty(odds.size)
        for rows in rounds(series):
            s, t, x = series[rows], time[rows], odds[rows]
            level = self._level[s]
            less[rows] = USUAL_SHARE * (np.maximum(level, USUAL_LEAST) - USUAL_ZERO)
            days = np.clip(t - self._time[s], 0.0, _LONGEST) / 86_400.0
            moved = np.where(x > level, USUAL, USUAL - 1.0) * days
            self._level[s] = np.where(x < _ALARMING, level + moved, level)
            self._time[s] = t
        return less

    def dump(self) -> dict[str, NDArray[Any]]:
        """All that is remembered."""
        return {"level": self._level, "time": self._time}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes the memory that `dump` gave."""
        self._level, self._time = arrays["level"].copy(), arrays["time"].copy()


class Judge:
    """Rules, witnesses and model, with all they remember. Feed it every message of a log, in order, once.

    What rules and witnesses remember does not depend on the model. What odds are usual does: memory that was dumped with
    another model is not taken back.

    Args:
        model: None judges by rules and residual.
        on_failure: is told why when the model fails; it then takes no further part.
    """

    def __init__(self, model: Model | None, *, on_failure: Callable[[str], None] | None = None) -> None:
        self.rules = Rules()
        self.witnesses = Witnesses()
        self._bar = Bar()
        self._runner = None if model is None else _Runner(model)
        self._on_failure = on_failure
        self._clock = -np.inf

    @property
    def model(self) -> bytes:
        """SHA-256 of the model that takes part; empty when none does."""
        return b"" if self._runner is None else self._runner.sha256

    def judge(self, batch: Columns) -> Findings:
        """Judges the records of a batch whose series come from `rules.numbers`, and takes them in."""
        judged = self.rules.judge(batch)
        rows = self._comparable(batch)
        group = np.repeat(batch.index, batch.count)[rows]
        evidence = self.witnesses.take(
            Rows(batch.series[rows], batch.time[rows], batch.value[rows], group), self.rules.numbers.pairs
        )
        known = np.flatnonzero(evidence.known)
        compared = rows[known]
        evidence = evidence.of(known)
        logits = self._logits(evidence)
        odds = self._bar.over(
            evidence, logits, judged.flags[compared], batch.series[compared], batch.time[compared]
        )
        # particles that stand above their neighbours are believed where a camera sees the haze
        odds -= HAZE_ODDS * judged.haze[compared] * (evidence.residual > 0)
        score, flags = self._fused(judged, compared, evidence, logits, odds)
        return Findings(replace(judged, score=score, flags=flags), compared, evidence, logits, odds)

    def place(self, node: str, latitude: float, longitude: float) -> None:
        """Tells where a node is, in degrees, at this place of the log."""
        self.rules.place(node, latitude, longitude)
        self.witnesses.place(node, latitude, longitude)

    def _comparable(self, batch: Columns) -> NDArray[np.int64]:
        """Records whose time can be relied on."""
        latest = batch.newest()
        sure = batch.tq >= 2
        clock = np.maximum.accumulate(np.r_[self._clock, np.where(sure, latest, -np.inf)])
        self._clock = float(clock[-1])
        good = sure | ((batch.tq == 1) & (latest <= clock[1:] + AHEAD))
        return np.flatnonzero(
            np.repeat(good, batch.count) & np.isfinite(batch.time) & np.isfinite(batch.value)
        )

    def _logits(self, evidence: Evidence) -> NDArray[np.float32] | None:
        if self._runner is None:
            return None
        try:
            return self._runner.logits(evidence.window, evidence.long, evidence.aside)
        except _ModelFailedError as error:
            _LOG.error("the model is given up, rules and neighbours judge alone: %s", error)
            self._runner = None
            if self._on_failure is not None:
                self._on_failure(str(error))
            return None

    def _fused(
        self,
        judged: Judged,
        compared: NDArray[np.int64],
        evidence: Evidence,
        logits: NDArray[np.float32] | None,
        odds: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        score, flags = judged.score.copy(), judged.flags.copy()
        if not compared.size:
            return score, flags
        rule_flags = flags[compared]
        trust = 1.0 / (1.0 + np.exp(np.clip(odds, -40, 40)))
        alone = (evidence.support < ISOLATED) | (evidence.hours < SETTLED)
        support = evidence.support.astype(np.float64)
        proof = np.minimum(evidence.hours / ENOUGH_HOURS, 1.0) * support / (support + 0.15)
        # what nobody could have contradicted is not believed in full
        low, high = UNCORROBORATED
        together = trust * (high + (1.0 - high) * proof)
        by_itself = low + (high - low) * trust
        result = np.where(alone, by_itself, together)
        for flag in (Flag.RANGE, Flag.REPLAY, Flag.STUCK, Flag.SPIKE):
            hit = (rule_flags & int(flag)) != 0
            result = np.where(hit, np.minimum(result, WEIGHTS[flag]), result)
        result = result * judged.time[compared]
        faulty = trust < 0.5
        named = rule_flags | np.where(alone, int(Flag.ISOLATED), 0)
        if logits is not None:
            most = np.argmax(logits[:, 1:LOCAL], axis=1)
            named |= np.where(faulty & ~alone, np.array(_CLASS_FLAGS)[most + 1], 0)
        else:
            named |= np.where(faulty & ~alone, int(Flag.OFFSET), 0)
        event = (np.abs(evidence.regional) > REGIONAL) & ~faulty & ~alone
        named |= np.where(event, int(Flag.REGIONAL), 0)
        score[compared] = np.floor(FULL_SCORE * result + 0.5).astype(np.uint8)
        flags[compared] = named
        return score, flags

    # -- memory

    def dump(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """All that is remembered: arrays by name, and the rest as JSON values. `load` takes it back."""
        arrays, rest = self.rules.dump()
        more, others = self.witnesses.dump()
        rest = {
            **rest,
            "witnesses": others,
            "judge_clock": None if np.isinf(self._clock) else self._clock,
            "model": self.model.hex(),
        }
        for room, found in (("witnesses", more), ("usual", self._bar.dump())):
            arrays = {**arrays, **{f"{room}.{name}": array for name, array in found.items()}}
        return arrays, rest

    def restore(self, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> None:
        """Takes the memory that `dump` gave; the model stays.

        Raises:
            ValueError: it was dumped with another model, or after the model had failed.
        """
        if arrays["usual.level"].size and rest["model"] != self.model.hex():
            raise ValueError("it was remembered with another model")

        def of(room: str) -> dict[str, NDArray[Any]]:
            return {n.removeprefix(room): arrays[n] for n in arrays if n.startswith(room)}

        rules = Rules.load(arrays, rest)
        witnesses = Witnesses.load(of("witnesses."), rest["witnesses"])
        clock = rest["judge_clock"]
        self._bar.load(of("usual."))
        self.rules, self.witnesses = rules, witnesses
        self._clock = -np.inf if clock is None else float(clock)


class _ModelFailedError(Exception):
    """Raised when a model raised, did not answer in time, or answered with what is no number."""


class _Runner:
    """Runs a model in a thread of its own, so that one that never returns stops nobody else."""

    def __init__(self, model: Model) -> None:
        self.sha256 = model.sha256
        self._model = model
        self._asked: queue.SimpleQueue[tuple[NDArray[np.float32], ...]] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[NDArray[np.float32] | Exception] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def logits(self, *inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="model", daemon=True)
            self._thread.start()
        self._asked.put(inputs)
        try:
            answer = self._answered.get(timeout=STALL)
        except queue.Empty:
            raise _ModelFailedError(f"it did not answer within {STALL:g} s") from None
        if isinstance(answer, Exception):
            raise _ModelFailedError(str(answer) or type(answer).__name__) from answer
        if answer.shape != (len(inputs[0]), len(CLASSES)) or not np.isfinite(answer).all():
            raise _ModelFailedError("its answer is not a number for each class")
        return answer

    def _serve(self) -> None:
        while True:
            inputs = self._asked.get()
            try:
                self._answered.put(self._model.logits(*inputs))
            except Exception as error:  # noqa: BLE001 - whatever a model throws ends its part, not the process
                self._answered.put(error)
