"""Tables of clean readings as grids, and variations of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorhub.errors import SensorhubError
from sensorhub.quality.table import ALIASES

COLUMNS = ("node_id", "sensor", "timestamp", "value", "lat", "lon")


@dataclass(frozen=True, slots=True)
class Grid:
    """Readings of a network at one cadence.

    Attributes:
        time: float64 (T,), Unix seconds, evenly spaced.
        cadence: seconds between two of them.
        nodes: names of the N nodes.
        latitude: float64 (N,), degrees.
        longitude: float64 (N,), degrees.
        values: channel to float64 (T, N), NaN where nothing was read.
    """

    time: NDArray[np.float64]
    cadence: float
    nodes: tuple[str, ...]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    values: dict[str, NDArray[np.float64]]

    def only(self, nodes: list[int]) -> Grid:
        """The grid of some nodes."""
        return replace(
            self,
            nodes=tuple(self.nodes[j] for j in nodes),
            latitude=self.latitude[nodes],
            longitude=self.longitude[nodes],
            values={c: v[:, nodes] for c, v in self.values.items()},
        )

    def every(self, n: int) -> Grid:
        """The grid with only every n-th moment."""
        return replace(
            self,
            time=self.time[::n],
            cadence=self.cadence * n,
            values={c: v[::n] for c, v in self.values.items()},
        )

    def between(self, start: int, stop: int) -> Grid:
        """The moments start to stop - 1."""
        return replace(
            self, time=self.time[start:stop], values={c: v[start:stop] for c, v in self.values.items()}
        )


def read(path: Path) -> Grid:
    """A CSV file (also .gz) with the columns node_id, sensor, timestamp, value, lat, lon as a grid.

    The cadence is the most frequent interval of a series; readings are put to the moment before them.

    Raises:
        SensorhubError: the file cannot be read or lacks a column.
    """
    from pyarrow import ArrowInvalid, csv, string

    try:
        table = csv.read_csv(
            path, convert_options=csv.ConvertOptions(column_types={"node_id": string(), "sensor": string()})
        )
        columns = {name: table.column(name).to_numpy() for name in COLUMNS}
    except (OSError, KeyError, ArrowInvalid) as error:
        raise SensorhubError(f"{path} is no table with the columns {', '.join(COLUMNS)}: {error}") from error
    nodes, node = np.unique(columns["node_id"].astype(str), return_inverse=True)
    sensors, sensor = np.unique(columns["sensor"].astype(str), return_inverse=True)
    time = columns["timestamp"].astype(np.float64)
    one = np.sort(time[(node == node[0]) & (sensor == sensor[0])])
    intervals, counts = np.unique(np.diff(one), return_counts=True)
    cadence = float(intervals[np.argmax(counts)])
    start = np.floor(time.min() / cadence) * cadence
    place = np.floor((time - start) / cadence).astype(np.intp)
    values = {}
    for k, name in enumerate(sensors.tolist()):
        mine = sensor == k
        grid = np.full((int(place.max()) + 1, nodes.size), np.nan)
        grid[place[mine], node[mine]] = columns["value"].astype(np.float64)[mine]
        values[ALIASES.get(name, name)] = grid
    _, first = np.unique(node, return_index=True)
    return Grid(
        start + cadence * np.arange(int(place.max()) + 1),
        cadence,
        tuple(nodes.tolist()),
        columns["lat"].astype(np.float64)[first],
        columns["lon"].astype(np.float64)[first],
        values,
    )
