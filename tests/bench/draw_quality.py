"""Draws how well scores tell faults from the rest: precision-recall, ROC, and a heatmap of channel by fault.

    python tests/bench/draw_quality.py SCORES.npz FOLDER [--suffix NAME] [--best SCORER]

SCORES.npz holds for each reading `label` (text: clean, or a fault), `channel` (text) and, under the name of each scorer, its score; more is
more likely faulty. Any other array of that length is a scorer. Every pair of channel and fault weighs the same; precision is at 2 % faulty readings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorhub.quality.benchmark import weighted_curve
from sensorhub.quality.charts import curves, heatmap
from sensorhub.quality.training.measure import average_precision

ORDER = ("spike", "stuck", "drift", "offset", "noise", "dropout", "replay")


def weights(label: NDArray, channel: NDArray) -> NDArray[np.float64]:
    """1 over how many readings share a reading's channel and label; sound ones weigh by channel."""
    _, pair, count = np.unique(
        np.char.add(np.char.add(channel, "\0"), label), return_inverse=True, return_counts=True
    )
    return 1.0 / count[pair]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--suffix", default="", help="goes into file names and titles")
    parser.add_argument("--best", default="", help="scorer of the heatmap; the first one")
    options = parser.parse_args()
    with np.load(options.scores, allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in saved.files}
    label, channel = arrays.pop("label").astype(str), arrays.pop("channel").astype(str)
    known = (label == "clean") | np.isin(label, ORDER)
    scorers = {
        name: np.nan_to_num(array.astype(np.float64))[known]
        for name, array in arrays.items()
        if array.shape == label.shape
    }
    label, channel = label[known], channel[known]
    weight, faulty = weights(label, channel), label != "clean"
    told = {name: weighted_curve(score, faulty, weight) for name, score in scorers.items()}
    best = scorers[options.best or next(iter(scorers))]
    cells = {}
    for c in np.unique(channel).tolist():
        clean = best[(channel == c) & ~faulty]
        for kind in ORDER:
            fault = best[(channel == c) & (label == kind)]
            if fault.size:
                cells[c, kind] = average_precision(fault, clean, np.ones(clean.size))
    suffix = f"-{options.suffix.replace(' ', '-')}" if options.suffix else ""
    more = f", {options.suffix}" if options.suffix else ""
    options.folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "precision-recall": curves(
            f"Precision and recall{more}",
            "recall",
            "precision at 2 % faulty readings",
            [(name, recall.tolist(), precision.tolist()) for name, (recall, precision, _) in told.items()],
            steps=True,
        ),
        "roc": curves(
            f"Receiver operating characteristic{more}",
            "share of sound readings above the threshold",
            "recall",
            [(name, false.tolist(), recall.tolist()) for name, (recall, _, false) in told.items()],
            least=1e-4,
        ),
        "heatmap": heatmap(
            f"Average precision by channel and fault{more}", sorted({c for c, _ in cells}), ORDER, cells
        ),
    }
    for name, drawn in pictures.items():
        path = options.folder / f"{name}{suffix}.svg"
        path.write_text(drawn, encoding="utf-8")
        print(f"{path}: {len(drawn):,} bytes")


if __name__ == "__main__":
    main()
