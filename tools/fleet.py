"""Nodes without hardware: the real firmware, each under its own MicroPython interpreter."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sensorhub import data
from sensorhub.channels import BY_NAME
from sensorhub.parent import end_with_parent

ROOT: Final = Path(__file__).resolve().parents[1]
SIMULATOR: Final = ROOT / "firmware" / "sim" / "run.py"
HOUR_S: Final = 3600
STOP_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Station:
    """One station of the sample.

    Attributes:
        name: node name, lower case.
        latitude: degrees north.
        longitude: degrees east.
        rows: lines of a replay file, heading first.
    """

    name: str
    latitude: float
    longitude: float
    rows: list[str]


def stations() -> list[Station]:
    """The twelve real stations of the shipped sample, as replay files (firmware/sensornode/sensors/replay.py)."""
    channels = data.CHANNELS.values()
    heading = ",".join(["time", *(f"{channel} {BY_NAME[channel].unit}" for channel in channels)])
    found = {name: Station(name.lower(), *place, [heading]) for name, place in data.places().items()}
    for row in data.rows():
        values = data.readings(row)
        fields = [f"{values[channel]:.10g}" if channel in values else "" for channel in channels]
        found[row["station"]].rows.append(",".join([row["timestamp"], *fields]))
    return list(found.values())


def micropython() -> Path:
    """The interpreter, fetched if need be.

    Raises:
        RuntimeError: it cannot be had; the text says why.
    """
    done = subprocess.run(
        [ROOT / "tools" / "micropython", "--path"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return Path(done.stdout.strip())


@dataclass(slots=True)
class Fleet:
    """Simulated nodes, one directory and one process each.

    Attributes:
        root: directory that holds the nodes' directories; a node's flash and NVS survive in it.
        speed: seconds of node time in a second.
    """

    root: Path
    speed: float
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def add(self, node: str, config: Mapping[str, Any], replay: list[str], **sim: Any) -> None:
        """Lays out a node's directory: node.json (mode 0600, it holds the password) and the recording."""
        home = self.root / node
        home.mkdir(parents=True, exist_ok=True)
        (home / "replay.csv").write_text("\n".join(replay) + "\n")
        descriptor = os.open(home / "node.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({**config, "sim": {"speed": self.speed, **sim}}, file, indent=1)

    def start(self, node: str, interpreter: Path) -> None:
        """Powers a node up."""
        home = self.root / node
        with (home / "node.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [interpreter, SIMULATOR, home],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509 the demo starts nodes from one thread
            )

    def ended(self) -> Iterator[tuple[str, int]]:
        """Nodes whose process has ended by itself, with the exit code."""
        for node, process in self.processes.items():
            code = process.poll()
            if code is not None:
                yield node, code

    def stop(self) -> None:
        """Powers all nodes down, cleanly where they answer."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def node_config(
    *, site: str, node: str, kind: str, claim: str, host: str, port: int, password: str
) -> dict[str, Any]:
    """node.json of a node that replays a recording with one row an hour."""
    return {
        "site": site,
        "node": node,
        "kind": kind,
        "hardware": "replay",
        "interval": HOUR_S,
        "publish": HOUR_S,
        "claim": claim,
        "broker": {"host": host, "port": port, "user": node, "password": password},
        "sensors": [{"driver": "replay", "file": "replay.csv"}],
    }
