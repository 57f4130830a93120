"""From a gateway's own log to a model in its data directory: the table to learn from, and putting a better model to use."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sensorhub.log.entries import ArtefactEntry, encode_entry
from sensorhub.log.reader import LogReader
from sensorhub.quality.model import Model, ModelFile
from sensorhub.quality.training.grids import COLUMNS, Grid
from sensorhub.quality.training.site import Gate, gate, grid_of

#: How an artefact entry names a model that was put to use.
WHAT = "model"


@dataclass(frozen=True, slots=True)
class Promotion:
    """What became of a new model.

    Attributes:
        gate: how it and the one in use did on held-back days of the site.
        kept: where the new one is kept; None when it was not better.
        sha256: its hash in hex.
    """

    gate: Gate
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

    Args:
        reader: the log of the site.
        new: what training wrote, its card (.json, .md) beside it.
        old: the model in use.
        folder: made when it is not there.

    Raises:
        SensorhubError: the log has too few readings, or a model is not what its hash says.
    """
    found = gate(Model.load(old), Model.load(new), grid_of(reader))
    if not found.promoted:
        return Promotion(found, None, new.sha256)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{new.sha256[:16]}.tflite"
    source = Path(str(new.path))
    for suffix in (".tflite", ".json", ".md"):
        shutil.copyfile(source.with_suffix(suffix), kept.with_suffix(suffix))
    return Promotion(found, kept, new.sha256)


def record(promotion: Promotion, append: Callable[[list[bytes]], int]) -> int:
    """Writes the hash of a new model, and what it beat, into the log; returns the index of the entry."""
    name = "" if promotion.kept is None else promotion.kept.name
    text = json.dumps({"file": name, "old": promotion.gate.old, "new": promotion.gate.new}, sort_keys=True)
    now = time.time_ns() // 1_000_000
    return append([encode_entry(ArtefactEntry(now, WHAT, bytes.fromhex(promotion.sha256), text))])
