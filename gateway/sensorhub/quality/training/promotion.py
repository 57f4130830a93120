"""From a gateway's own log to a model in its data directory: the table to learn from, and putting a better model to use."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sensorhub.flags import TRUSTED
from sensorhub.log.entries import ArtefactEntry, NodeEntry, decode_entry, encode_entry
from sensorhub.log.reader import LogReader
from sensorhub.nodes import geohash
from sensorhub.nodes.registry import NODE_ENTRY_PREFIX, Registry
from sensorhub.quality.columns import columns_of, read_messages
from sensorhub.quality.judge import Judge
from sensorhub.quality.model import Model, ModelFile
from sensorhub.quality.reviews import labelled
from sensorhub.quality.training.grids import COLUMNS, Grid
from sensorhub.quality.training.site import Gate, gate, grid_of

#: How an artefact entry names a model that was put to use.
WHAT: Final = "model"
_BATCH: Final = 2048


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of a new model.

    Attributes:
        gate: how it and the one in use did on held-back days of the site.
        labels: readings of the log that people judged.
        agreed: with how many of them the model in use agrees, and the new one.
        kept: where the new one is kept; None when it was not better.
        sha256: its hash in hex.
    """

    gate: Gate
    labels: int
    agreed: tuple[int, int]
    kept: Path | None
    sha256: str


def write_table(grid: Grid, path: Path) -> int:
    """Writes a grid as a CSV file that training reads; returns how many readings it has."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        for channel, values in grid.values.items():
            for j, node in enumerate(grid.nodes):
                latitude, longitude = float(grid.latitude[j]), float(grid.longitude[j])
                place = f"{latitude!r},{longitude!r}" if latitude == latitude else ","
                for at, value in zip(grid.time.tolist(), values[:, j].tolist(), strict=True):
                    if value == value:
                        file.write(f"{node},{channel},{at!r},{value!r},{place}\n")
                        count += 1
    return count


def write_site(reader: LogReader, path: Path) -> int:
    """Writes the trusted readings of a log as a table; what people corrected counts as they said.

    Raises:
        SensorhubError: there are too few.
    """
    return write_table(grid_of(reader), path)


def promote(reader: LogReader, new: ModelFile, old: ModelFile, folder: Path) -> Promotion:
    """Copies a model and its card into a folder when it beats the one in use on held-back days of the site.

    It must also agree with people on no fewer of the readings that they judged.

    Args:
        reader: the log of the site.
        new: what training wrote, its card (.json, .md) beside it.
        old: the model in use.
        folder: made when it is not there.

    Raises:
        SensorhubError: the log has too few readings, or a model is not what its hash says.
    """
    models = Model.load(old), Model.load(new)
    found = gate(*models, grid_of(reader))
    said = {key: label.sound for key, label in labelled(reader).items()}
    before, after = (agreement(reader, model, said) for model in models)
    if not found.promoted or after < before:
        return Promotion(found, len(said), (before, after), None, new.sha256)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{new.sha256[:16]}.tflite"
    source = Path(str(new.path))
    for suffix in (".tflite", ".json", ".md"):
        shutil.copyfile(source.with_suffix(suffix), kept.with_suffix(suffix))
    return Promotion(found, len(said), (before, after), kept, new.sha256)


def agreement(reader: LogReader, model: Model | None, said: Mapping[tuple[int, int], bool]) -> int:
    """On how many readings a judge agrees with people, when it judges the log from its first entry on.

    Args:
        reader: the log.
        model: the model that takes part.
        said: by message and place in it, whether people hold the reading to be sound.
    """
    if not said:
        return 0
    judge, registry, agreed = Judge(model), Registry(), 0
    run: list[tuple[int, bytes]] = []

    def judged() -> int:
        messages = read_messages(run)
        run.clear()
        if not messages:
            return 0
        columns = columns_of(messages, judge.rules.numbers)
        trusted = judge.judge(columns).judged.score >= TRUSTED
        first = dict(
            zip(columns.index.tolist(), (np.cumsum(columns.count) - columns.count).tolist(), strict=True)
        )
        mine = [(first[m] + r, sound) for (m, r), sound in said.items() if m in first]
        return sum(bool(trusted[row]) == sound for row, sound in mine)

    for index, entry in reader.entries(0, max(message for message, _ in said) + 1):
        if entry.startswith(NODE_ENTRY_PREFIX):
            decoded = decode_entry(entry)
            if isinstance(decoded, NodeEntry) and registry.apply(index, decoded):
                agreed += judged()
                key = registry.current(decoded.node)
                if key is not None and geohash.is_valid(key.geohash):
                    judge.place(decoded.node, *geohash.decode(key.geohash))
            continue
        run.append((index, entry))
        if len(run) >= _BATCH:
            agreed += judged()
    return agreed + judged()


def record(promotion: Promotion, append: Callable[[list[bytes]], int]) -> int:
    """Writes the hash of a new model, and what it beat, into the log; returns the index of the entry."""
    name = "" if promotion.kept is None else promotion.kept.name
    fields = {
        "file": name,
        "old": promotion.gate.old,
        "new": promotion.gate.new,
        "labels": promotion.labels,
        "agreed": promotion.agreed,
    }
    text = json.dumps(fields, sort_keys=True)
    now = time.time_ns() // 1_000_000
    return append([encode_entry(ArtefactEntry(now, WHAT, bytes.fromhex(promotion.sha256), text))])
