"""What people said of readings: examples to learn from, and how far a judge agrees with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.flags import TRUSTED, Flag
from sensorhub.log.entries import NodeEntry, decode_entry
from sensorhub.log.reader import LogReader
from sensorhub.nodes import geohash
from sensorhub.nodes.registry import NODE_ENTRY_PREFIX, Registry
from sensorhub.quality.columns import columns_of, read_messages
from sensorhub.quality.evidence import Evidence
from sensorhub.quality.judge import Judge
from sensorhub.quality.model import CLASSES, LOCAL, Model
from sensorhub.quality.reviews import Label
from sensorhub.quality.training.examples import Examples
from sensorhub.quality.training.site import Progress, silently

#: How often a reviewed reading stands among the examples: its weight alone is capped (`network.MOST_WEIGHT`).
REPEATED: Final = 10
_BATCH: Final = 2048
#: For each fault, the flag that names it in a verdict, and words that name it in a reason.
_NAMES: Final = {
    "spike": (Flag.SPIKE, r"spik(es?|y|ing)"),
    "stuck": (Flag.STUCK, r"stuck|frozen|stands? still"),
    "drift": (Flag.DRIFT, r"drift(s|ed|ing)?"),
    "offset": (Flag.OFFSET, r"offsets?"),
    "noise": (Flag.NOISE, r"noise|noisy"),
    "dropout": (Flag.DROPOUT, r"dropouts?|dead"),
    "replay": (Flag.REPLAY, r"replay(s|ed)?"),
}

#: A message and the place in it.
Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a judge holds of a reading that a person judged.

    Attributes:
        trusted: it trusts the reading.
        evidence: what it found about it, one row; None when it compared it with nothing.
        logits: float32 (1, 9) of `CLASSES`; None with that, or when the model failed.
    """

    trusted: bool
    evidence: Evidence | None
    logits: NDArray[np.float32] | None


def hear(
    reader: LogReader, model: Model, labels: Mapping[Key, Label], progress: Progress = silently
) -> dict[Key, Heard]:
    """What a judge says of the readings that people judged, when it judges the log from its first entry on.

    Args:
        reader: the log.
        model: the model that takes part.
        labels: what people said, by message and place in it.
        progress: is told how far the log is judged.
    """
    judge, registry = Judge(model), Registry()
    wanted: dict[int, list[int]] = {}
    for message, record in labels:
        wanted.setdefault(message, []).append(record)
    found: dict[Key, Heard] = {}
    run: list[tuple[int, bytes]] = []

    def judge_run() -> None:
        columns = columns_of(read_messages(run), judge.rules.numbers)
        run.clear()
        if not columns.index.size:
            return
        findings = judge.judge(columns)
        first = np.cumsum(columns.count) - columns.count
        for message, start in zip(columns.index.tolist(), first.tolist(), strict=True):
            for record in wanted.get(message, ()):
                at = np.flatnonzero(findings.compared == start + record)
                found[message, record] = Heard(
                    bool(findings.judged.score[start + record] >= TRUSTED),
                    findings.evidence.of(at) if at.size else None,
                    findings.logits[at] if at.size and findings.logits is not None else None,
                )

    end = max(wanted, default=-1) + 1
    for index, entry in reader.entries(0, end):
        if entry.startswith(NODE_ENTRY_PREFIX):
            decoded = decode_entry(entry)
            if isinstance(decoded, NodeEntry) and registry.apply(index, decoded):
                judge_run()
                key = registry.current(decoded.node)
                if key is not None and geohash.is_valid(key.geohash):
                    judge.place(decoded.node, *geohash.decode(key.geohash))
            continue
        run.append((index, entry))
        if len(run) >= _BATCH:
            progress("judging what people reviewed", index, end)
            judge_run()
    judge_run()
    return found


def class_of(label: Label, logits: NDArray[np.float32]) -> int:
    """Number of the class that a person's word makes a reading an example of.

    A fault is the one that the reason names, else those that the verdict's flags name, else any; of several, the one that the
    model in use holds likeliest. What is sound is clean or a local event, whichever that model holds likelier: people do
    not say which.

    Args:
        label: what was said.
        logits: float32 (1, 9) of the model in use.
    """
    if label.sound:
        return LOCAL if logits[0, LOCAL] > logits[0, 0] else 0
    named = [name for name, (_, words) in _NAMES.items() if re.search(rf"\b({words})\b", label.reason, re.I)]
    if len(named) != 1:
        named = [name for name, (flag, _) in _NAMES.items() if label.flags & flag] or list(_NAMES)
    return max(map(CLASSES.index, named), key=lambda number: float(logits[0, number]))


def examples_of(
    heard: Mapping[Key, Heard], labels: Mapping[Key, Label], origins: Mapping[str, int]
) -> list[Examples]:
    """Readings that people judged as examples, each `REPEATED` times; those that were compared with nothing teach nothing.

    Args:
        heard: what the model in use holds of them.
        labels: what people said.
        origins: number of the origin by channel; one of its own lets their words weigh as much as all the rest of it.
    """
    found = []
    for key, label in labels.items():
        row, logits = heard[key].evidence, heard[key].logits
        if row is None or logits is None or label.channel not in origins:
            continue
        one = Examples(
            row.window.astype(np.float16),
            row.long.astype(np.float16),
            row.aside.astype(np.float16),
            np.array([class_of(label, logits)], np.int8),
            np.zeros(1, np.int8),
            np.ones(1, np.float32),
            np.array([origins[label.channel]], np.int16),
            row.residual,
            row.support,
            row.moving,
            row.run,
        )
        found += [one] * REPEATED
    return found
