"""How the shipped judge does in an external benchmark, at the benchmark's own threshold and as it ships.

    python tests/bench/quality_external.py BENCH.py --track pm10min --seed 11 --seed 12

BENCH.py is a module with `TRACKS`, `Case`, `COLS`, `run` and `evaluate`, which puts faults into real readings of nodes that no training saw. Its
`run` takes the lowest threshold that keeps its budget of false alarms on its validation nodes. As it ships, a reading is faulty from even odds on,
whatever the validation nodes are like. Prints a row for each, the mean over the seeds, and for rates the range by seed.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from sensorhub.quality.table import Shipped

SHOWN = (
    "macro_AP",
    "VUS_PR",
    "event_recall",
    "event_F1",
    "FAR_quiet",
    "FAR_regional",
    "local_flagged",
)
EVEN = 0.0


class Once:
    """The shipped judge, which scores a table that it has seen no second time."""

    def __init__(self) -> None:
        self._judge = Shipped()
        self._known: dict[bytes, np.ndarray] = {}

    def score(self, table: pd.DataFrame, context: dict[str, Any]) -> np.ndarray:
        key = pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()
        if key not in self._known:
            self._known[key] = self._judge.score(table, context)
        return self._known[key]


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, found: list[dict[str, float]]) -> str:
    cells = []
    for key in SHOWN:
        values = [one[key] for one in found]
        text = f"{np.mean(values):.3f}"
        if key not in ("macro_AP", "VUS_PR") and len(values) > 1:
            text += f" ({min(values):.2f} to {max(values):.2f})"
        cells.append(text)
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", type=Path, help="the module's file")
    parser.add_argument("--track", required=True)
    parser.add_argument("--seed", type=int, action="append", help="may be repeated; 1")
    options = parser.parse_args()
    bench, judge = module_of(options.benchmark), Once()
    raw = bench.TRACKS[options.track]["load"]()
    tuned, shipped = [], []
    for seed in options.seed or [1]:
        overall, _, _, limits = bench.run(judge, options.track, seed, raw=raw)
        tuned.append(overall)
        case = bench.Case(options.track, "test", seed, raw=raw)
        score = np.nan_to_num(judge.score(case.tab[bench.COLS], case.ctx), nan=0.0)
        shipped.append(bench.evaluate(case, score, dict.fromkeys(limits, EVEN))[0])
        print(f"seed {seed} measured", flush=True)
    print(f"\n| {options.track} | {' | '.join(SHOWN)} |\n|{'---|' * (len(SHOWN) + 1)}")
    print(row("at the benchmark's threshold", tuned))
    print(row("as it ships", shipped))


if __name__ == "__main__":
    main()
