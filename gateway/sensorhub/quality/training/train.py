"""From tables of clean readings to a model with its card; the same data and seed give the same model."""

from __future__ import annotations

import hashlib
import json
import os
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.errors import SensorhubError
from sensorhub.quality.judge import VERSION, caution, fault_odds, model_odds, witnesses_odds
from sensorhub.quality.model import CLASSES, LOCAL, Model
from sensorhub.quality.training import network
from sensorhub.quality.training.card import card
from sensorhub.quality.training.examples import Examples, build, evidence_of
from sensorhub.quality.training.faults import FAMILIES, inject
from sensorhub.quality.training.grids import Grid, read
from sensorhub.quality.training.measure import average_precision, threshold

#: Share of the days, at the end, that the model never sees and that set its threshold and its numbers.
HELD_BACK: Final = 0.12
#: False alarms a sensor and day at the threshold.
BUDGET: Final = 0.1
#: Between the seeds of two members.
_MEMBER: Final = 1000


@dataclass(frozen=True, slots=True)
class Source:
    """A table to learn from.

    Attributes:
        path: CSV file with node_id, sensor, timestamp, value, lat, lon.
        citation: who made the data, for the card.
        licence: under which terms.
    """

    path: Path
    citation: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train.

    Attributes:
        seed: decides everything that is drawn.
        rounds: how often the largest network is varied and broken; smaller ones more often.
        workers: processes that make the examples, as many as there are cores; how many changes nothing.
        epochs: how often every example is seen.
        members: networks that are trained, each from its own first weights; the model is their mean.
        unlearnt: nodes that others are compared with but that nothing is learnt from: they set the threshold and the numbers
            of the card. A network knows the habits of the nodes it learnt from, so those would promise too few alarms.
        keep: share of the sound readings that become examples.
        leave_out_epochs: epochs of each model of the leave-one-fault-out table; 0 leaves the table out.
    """

    seed: int = 1
    rounds: int = 10
    epochs: int = 8
    members: int = 2
    unlearnt: tuple[str, ...] = ()
    keep: float = 0.1
    leave_out_epochs: int = 1
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(slots=True)
class HeldBack:
    """Held-back days with faults, and what the evidence says of them.

    Attributes:
        examples: every reading (N of them).
        channel: its channel.
        time: float64 (N,), Unix seconds.
        series: int64 (N,), the same number for the same channel of the same node.
        line: float64 (N,), log odds from which on the judge would raise an alarm.
        days: how many sensor days there are without faults.
        scores: by name, float64 (N,).
    """

    examples: Examples
    channel: list[str]
    time: NDArray[np.float64]
    series: NDArray[np.int64]
    line: NDArray[np.float64]
    days: float
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def split(grid: Grid) -> tuple[Grid, Grid]:
    """The days to learn from, and those held back with ten days before them to warm up."""
    cut = int(len(grid.time) * (1 - HELD_BACK))
    warm = int(10 * 86_400 / grid.cadence)
    return grid.between(0, cut), grid.between(max(0, cut - warm), len(grid.time))


def held_back(grids: list[Grid], seed: int, unlearnt: list[tuple[str, ...]] | None = None) -> HeldBack:
    """Evidence on held-back days of all networks, every reading once, with faults at the usual rate.

    Args:
        grids: the days of each, with ten days before them to warm up.
        seed: decides the faults.
        unlearnt: for each, the only nodes that are counted; all where there are none.
    """
    parts, names, times, series, lines, days = [], [], [], [], [], 0.0
    for number, grid in enumerate(grids):
        only = set(unlearnt[number]) if unlearnt else set()
        counted = np.array([not only or node in only for node in grid.nodes])
        faulty = inject(grid, seed + number, days_between=6.0)
        channels = list(grid.values)
        label = np.stack([faulty.label[c] for c in channels], axis=2)
        family = np.stack([faulty.family[c] for c in channels], axis=2)
        count = np.stack([faulty.count[c] for c in channels], axis=2)
        warm = int(10 * 86_400 / grid.cadence)
        for evidence, channel, moment, node in evidence_of(faulty.grid):
            rows = np.flatnonzero(
                count[moment, node, channel] & evidence.known & (moment >= warm) & counted[node]
            )
            at = moment[rows], node[rows], channel[rows]
            mine = label[at]
            parts.append(
                Examples(
                    evidence.window[rows].astype(np.float16),
                    evidence.long[rows].astype(np.float16),
                    evidence.aside[rows].astype(np.float16),
                    mine,
                    family[at],
                    np.ones(rows.size, np.float32),
                    (16 * number + channel[rows]).astype(np.int16),
                    evidence.residual[rows],
                    evidence.support[rows],
                    evidence.moving[rows],
                    evidence.run[rows],
                )
            )
            names += [channels[c] for c in channel[rows]]
            times.append(grid.time[moment[rows]])
            series.append((number * 4096 + node[rows]) * 32 + channel[rows])
            lines.append(caution(evidence)[rows])
            days += np.count_nonzero(sound(mine)) * grid.cadence / 86_400
    time, which, line = (np.concatenate(part) for part in (times, series, lines))
    return HeldBack(Examples.joined(parts), names, time, which, line, days)


def sound(label: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which labels (N,) are of no fault."""
    true: NDArray[np.bool_] = (label == 0) | (label == LOCAL)
    return true


def odds(logits: NDArray[np.float32], held: HeldBack) -> NDArray[np.float64]:
    """Log odds as the judge adds them up, without the rules and the bar of each series."""
    return model_odds(held.examples, logits)


def table(examples: Examples, score: NDArray[np.float64], *, families: bool = False) -> dict[str, float]:
    """Average precision of each class (or family), the mean over sources and channels."""
    names = (*(f.name for f in FAMILIES), "replay") if families else CLASSES[1:LOCAL]
    result = {}
    for position, name in enumerate(names):
        if families:
            mine = examples.family == (-1 if name == "replay" else position + 1)
        else:
            mine = examples.label == position + 1
        found = []
        for origin in np.unique(examples.origin):
            here = examples.origin == origin
            fault, clean = here & mine, here & sound(examples.label)
            if np.count_nonzero(fault) >= 3:
                weight = examples.weight[clean].astype(np.float64)
                found.append(average_precision(score[fault], score[clean], weight))
        if found:
            result[name] = float(np.mean(found))
    return result


def float_logits(model: Any, examples: Examples) -> NDArray[np.float32]:
    """Logits (n, 9) of a Keras model for examples."""
    inputs = [getattr(examples, name).astype(np.float32) for name in ("window", "long", "aside")]
    return np.asarray(model.predict(inputs, batch_size=4096, verbose=0), np.float32)


def logits_of(model: Model, examples: Examples) -> NDArray[np.float32]:
    """Logits (n, 8) of a .tflite model for examples."""
    return np.concatenate(
        [
            model.logits(
                *(getattr(examples, n)[a : a + 8192].astype(np.float32) for n in ("window", "long", "aside"))
            )
            for a in range(0, examples.label.size, 8192)
        ]
    )


def alarming(held: HeldBack, logits: NDArray[np.float32]) -> float:
    """The log odds, by model and witnesses, from which on sound sensors give `BUDGET` alarms a day. Logits are (N, 9)."""
    score = fault_odds(logits)
    score += witnesses_odds(held.examples)
    return threshold(sound_series(held, score), held.days, BUDGET)


def sound_series(
    held: HeldBack, score: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Times and scores of the sound readings of each series, of scores (N,)."""
    true = sound(held.examples.label)
    result = []
    for number in np.unique(held.series[true]):
        rows = true & (held.series == number)
        result.append((held.time[rows], score[rows]))
    return result


def train(
    sources: list[Source], output: Path, plan: Plan, *, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Trains a model and writes anomaly.tflite, anomaly.json (the card, for programs) and anomaly.md into `output`.

    Args:
        sources: what to learn from.
        output: folder, made when it is not there.
        plan: how.
        tell: is told what is going on, a line at a time.

    Returns:
        The card.

    Raises:
        SensorhubError: a table cannot be read, or TensorFlow is not installed.
    """
    started = clock.monotonic()
    tf = network.tensorflow()
    grids = [read(source.path) for source in sources]
    unlearnt = _unlearnt(plan.unlearnt, sources, grids)
    parts = [split(grid) for grid in grids]
    examples = build(
        [learn for learn, _ in parts],
        plan.seed,
        unlearnt=unlearnt,
        rounds=plan.rounds,
        keep=plan.keep,
        workers=plan.workers,
    )
    tell(f"{examples.label.size:,} examples after {clock.monotonic() - started:.0f} s")
    members = []
    for number in range(plan.members):

        def told(epoch: int, loss: float, member: int = number + 1) -> None:
            passed = clock.monotonic() - started
            tell(f"network {member} of {plan.members}, epoch {epoch}: loss {loss:.4f}, {passed:.0f} s")

        members.append(
            network.fit(examples, seed=plan.seed + _MEMBER * number, epochs=plan.epochs, progress=told)
        )
    model = network.together(members)
    # what nothing was learnt from may be looked at whole
    backs = [grid if names else back for grid, names, (_, back) in zip(grids, unlearnt, parts, strict=True)]
    held = held_back(backs, 10_000 + plan.seed, unlearnt)
    # the model's own zero becomes the threshold at which sound sensors give BUDGET alarms a day by it and its witnesses; the judge
    # adds a bar and a caution to that
    network.shift(model, alarming(held, float_logits(model, held.examples)))
    data = network.convert(model, examples, plan.seed)
    loaded = Model(data)
    score = odds(float_logits(model, held.examples), held)
    int8 = odds(logits_of(loaded, held.examples), held)
    alone = np.log1p(np.abs(held.examples.residual.astype(np.float64)))
    measured = {
        "int8": table(held.examples, int8),
        "float": table(held.examples, score),
        "residual": table(held.examples, alone),
        "families": table(held.examples, int8, families=True),
    }
    local = held.examples.label == LOCAL
    flagged = {
        "readings": int(local.sum()),
        "flagged": float((int8[local] >= 0).mean()) if local.any() else 0.0,
    }
    result: dict[str, Any] = {
        "name": "anomaly",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "judge": VERSION,
        "tensorflow": tf.__version__,
        "plan": {name: getattr(plan, name) for name in Plan.__slots__ if name != "workers"},
        "examples": int(examples.label.size),
        "sources": [
            {
                **facts_of(source, grid),
                "sha256": hashlib.sha256(source.path.read_bytes()).hexdigest(),
                "unlearnt": list(names),
            }
            for source, grid, names in zip(sources, grids, unlearnt, strict=True)
        ],
        "held_back": {
            "share": HELD_BACK,
            "readings": int(held.examples.label.size),
            "local": flagged,
            **measured,
        },
        "leave_one_out": {},
        "seconds": round(clock.monotonic() - started),
    }
    write(output, data, result, card(result))
    for name in CLASSES[1:LOCAL] if plan.leave_out_epochs else ():
        other = network.fit(_without(examples, name), seed=plan.seed, epochs=plan.leave_out_epochs)
        logits = float_logits(other, held.examples)
        row = {
            "network": table(held.examples, fault_odds(logits))[name],
            "network and residual": table(held.examples, odds(logits, held))[name],
            "trained with it": measured["int8"][name],
        }
        result["leave_one_out"][name] = row
        result["seconds"] = round(clock.monotonic() - started)
        tell(f"without {name}: {row}, {result['seconds']} s")
        write(output, data, result, card(result))
    return result


def facts_of(source: Source, grid: Grid) -> dict[str, Any]:
    """What a card tells of a source and its readings."""
    return {
        "citation": source.citation or source.path.name,
        "licence": source.licence,
        "nodes": len(grid.nodes),
        "channels": sorted(grid.values),
        "cadence_s": grid.cadence,
        "from": float(grid.time[0]),
        "to": float(grid.time[-1]),
    }


def _unlearnt(names: tuple[str, ...], sources: list[Source], grids: list[Grid]) -> list[tuple[str, ...]]:
    """The names by source."""
    missing = set(names) - {node for grid in grids for node in grid.nodes}
    if missing:
        raise SensorhubError(f"no source has a node {', '.join(sorted(missing))} to leave unlearnt")
    found = [tuple(node for node in grid.nodes if node in names) for grid in grids]
    for source, grid, mine in zip(sources, grids, found, strict=True):
        if mine == grid.nodes:
            raise SensorhubError(
                f"all nodes of {source.path} are to be left unlearnt: leave the table out instead"
            )
    return found


def write(output: Path, data: bytes, facts: dict[str, Any], text: str) -> None:
    """Writes a model and its card, for programs and in words, into a folder that is made when it is not there."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "anomaly.tflite").write_bytes(data)
    (output / "anomaly.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    (output / "anomaly.md").write_text(text, encoding="utf-8")


def _without(examples: Examples, name: str) -> Examples:
    rows = examples.label != CLASSES.index(name)
    return replace(examples, **{field: getattr(examples, field)[rows] for field in Examples.__slots__})
