"""From a gateway's own log to a model in its data directory: learning on from the one in use, and putting a better one to use."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.log.entries import ArtefactEntry, encode_entry
from sensorhub.log.reader import LogReader
from sensorhub.quality.judge import VERSION
from sensorhub.quality.model import Model, ModelFile
from sensorhub.quality.training import gate as gates
from sensorhub.quality.training import network, people
from sensorhub.quality.training.card import site_card
from sensorhub.quality.training.examples import Examples, build
from sensorhub.quality.training.gate import Gate
from sensorhub.quality.training.grids import Grid, read
from sensorhub.quality.training.measure import episodes
from sensorhub.quality.training.people import Heard, Key
from sensorhub.quality.training.site import DAY, WARM_DAYS, Progress, Site, read_site, silently
from sensorhub.quality.training.train import (
    Plan,
    Source,
    alarming,
    facts_of,
    float_logits,
    held_back,
    logits_of,
    odds,
    sound_series,
    split,
    write,
)

#: How an artefact entry names a model that was put to use.
WHAT: Final = "model"
#: Learning rate and epochs of a network that goes on from another: enough to move, too little to forget what that knows.
RATE: Final = 2e-4
EPOCHS: Final = 3
#: Readings of all variations together, about; more of a large site's would not fit into memory.
MOST_READINGS: Final = 4_000_000
#: Log odds by which the new model's line is raised at most.
MOST_SHIFT: Final = 6.0
#: Days behind the warm-up by which the new model's line of an alarm is set.
LINE_DAYS: Final = 20


@dataclass(frozen=True, slots=True)
class Result:
    """A model for a site, and what became of it.

    Attributes:
        gate: how it and the one in use did on held-back days.
        sha256: its hash in hex.
        kept: where it was put to use from; None when it was refused.
    """

    gate: Gate
    sha256: str
    kept: Path | None


def train_site(
    reader: LogReader,
    old: ModelFile,
    output: Path,
    folder: Path,
    plan: Plan,
    *,
    tables: list[Source] | None = None,
    fresh: bool = False,
    tell: Callable[[str], None] = print,
    progress: Progress = silently,
) -> Result:
    """Trains a model for a site from its log, and keeps it when it passes the gate.

    Training goes on from the model in use, with faults put into the trusted readings, and with what people said of readings. Days
    at the end of the log are held back for the gate.

    Args:
        reader: the log.
        old: the model in use.
        output: folder for anomaly.tflite and its card, made when it is not there.
        folder: where a model that passes is copied to, likewise.
        plan: how; its rounds are fewer where the log is long, its members count for a fresh model.
        tables: what to learn from beside the log.
        fresh: begins with other weights than those of the model in use.
        tell: is told what was done, a line at a time.
        progress: is told how far a step is.

    Raises:
        SensorhubError: the log has too few readings, the model in use is not what its hash says or nothing can go on from it, a
            table cannot be read, or TensorFlow is not installed.
    """
    started = time.monotonic()

    def said(line: str) -> None:
        tell(f"{line}, {time.monotonic() - started:.0f} s")

    in_use = Model.load(old)
    starts = [None] * plan.members if fresh else [network.rebuilt(old)]
    site = read_site(reader, progress)
    said(_described(site))
    heard = people.hear(reader, in_use, site.labels, progress)
    sources = tables or []
    grids = [site.learn(), *(split(read(source.path))[0] for source in sources)]
    examples = _examples(site, grids, heard, plan, progress)
    said(f"{examples.label.size:,} examples")
    model = _learnt(examples, starts, plan, said, progress)
    _set_line(model, in_use, site, plan.seed)
    data = network.convert(model, examples, plan.seed)
    new = Model(data)
    again = people.hear(reader, new, site.labels, progress)
    trusted = tuple({key: each.trusted for key, each in told.items()} for told in (heard, again))
    found = gates.compare(in_use, new, site, (trusted[0], trusted[1]), seed=plan.seed, progress=progress)
    said("compared with the model in use")
    log = Source(reader.path, "trusted readings of this gateway's own log", "not published")
    facts = {
        "name": "anomaly",
        "sha256": new.sha256.hex(),
        "bytes": len(data),
        "judge": VERSION,
        "start": None if fresh else old.sha256,
        "plan": {name: getattr(plan, name) for name in ("seed", "rounds", "epochs", "members", "keep")},
        "examples": int(examples.label.size),
        "people": len(site.labels),
        "sources": [facts_of(s, g) for s, g in zip([log, *sources], grids, strict=True)],
        "held_back": {"from": site.cut_time, "int8": found.precision},
        "gate": gates.document(found),
        "seconds": round(time.monotonic() - started),
    }
    write(output, data, facts, site_card(facts))
    kept = _kept(output, folder, new.sha256.hex()) if found.promoted else None
    return Result(found, new.sha256.hex(), kept)


def record(result: Result, append: Callable[[list[bytes]], int]) -> int:
    """Writes the hash of a model that was put to use, and what it beat, into the log; returns the index of the entry."""
    name = "" if result.kept is None else result.kept.name
    text = json.dumps({"file": name, **gates.document(result.gate)}, sort_keys=True)
    now = time.time_ns() // 1_000_000
    return append([encode_entry(ArtefactEntry(now, WHAT, bytes.fromhex(result.sha256), text))])


def _described(site: Site) -> str:
    readings = sum(int(np.isfinite(v).sum()) for v in site.grid.values.values())
    sound = sum(int(np.isfinite(v).sum()) for v in site.sound().values.values())
    days, held = (
        moments * site.grid.cadence / DAY for moments in (len(site.grid.time), len(site.grid.time) - site.cut)
    )
    return (
        f"{readings:,} readings of {len(site.grid.nodes)} nodes in {days:.0f} days, {sound / readings:.1%} trusted and not muted; "
        f"the last {held:.0f} days are held back; people judged {len(site.labels):,}"
    )


def _examples(
    site: Site, grids: list[Grid], heard: Mapping[Key, Heard], plan: Plan, progress: Progress
) -> Examples:
    """Examples from the days that are not held back, and from what people said of their readings."""
    progress("putting in faults", 0, 1)
    size = max(sum(int(np.isfinite(v).sum()) for v in grid.values.values()) for grid in grids)
    rounds = max(1, min(plan.rounds, MOST_READINGS // size))
    keep = plan.keep * min(1.0, MOST_READINGS / size)
    made = build(grids, plan.seed, rounds=rounds, keep=keep, workers=plan.workers)
    seen = {k: label for k, label in site.labels.items() if label.time < site.cut_time and k in heard}
    origins = {channel: 16 * len(grids) + k for k, channel in enumerate(site.grid.values)}
    return Examples.joined([made, *people.examples_of(heard, seen, origins)])


def _learnt(
    examples: Examples, starts: list[Any], plan: Plan, said: Callable[[str], None], progress: Progress
) -> Any:
    """A Keras model that goes on from others, or begins where one is None; their mean."""
    members = []
    for number, start in enumerate(starts):

        def epoch(done: int, loss: float) -> None:
            progress("learning", done, plan.epochs)
            said(f"epoch {done} of {plan.epochs}: loss {loss:.4f}")

        progress("learning", 0, plan.epochs)
        rate = {} if start is None else {"start": start, "rate": RATE}
        members.append(
            network.fit(examples, seed=plan.seed + number, epochs=plan.epochs, progress=epoch, **rate)
        )
    return network.together(members)


def _set_line(model: Any, in_use: Model, site: Site, seed: int) -> None:
    """Lets a Keras model raise no more alarms than the one in use, on the newest days that training saw, with other faults in them.

    That is so at the threshold that training sets itself, and at the judge's line.
    """
    learn = site.learn()
    newest = int((WARM_DAYS + LINE_DAYS) * DAY / learn.cadence)
    held = held_back([learn.between(max(0, site.cut - newest), site.cut)], 10_000 + seed)
    mine, theirs = float_logits(model, held.examples), logits_of(in_use, held.examples)

    def alarms(logits: NDArray[np.float32], shift: float = 0.0) -> int:
        shifted = logits.copy()
        shifted[:, 0] += shift
        score = odds(shifted, held) - held.line
        return sum(episodes(t[s >= 0], 2 * learn.cadence) for t, s in sound_series(held, score))

    least = alarming(held, mine) - alarming(held, theirs)
    allowed = alarms(theirs)
    steps = np.arange(0.0, MOST_SHIFT, 0.1) + least
    network.shift(model, next((s for s in steps.tolist() if alarms(mine, s) <= allowed), float(steps[-1])))


def _kept(output: Path, folder: Path, sha256: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{sha256[:16]}.tflite"
    for suffix in (".tflite", ".json", ".md"):
        shutil.copyfile(output / f"anomaly{suffix}", kept.with_suffix(suffix))
    return kept
