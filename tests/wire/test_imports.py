"""The room stays light: the verifier and every process import it."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_wire_brings_in_nothing_heavy() -> None:
    code = "import sys, sensorhub.wire; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    rooms = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, sensorhub.wire; print(*(n for n in sys.modules if n.startswith('sensorhub.')))",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"paho", "web3", "numpy", "sqlite3", "aiohttp", "asyncio", "pyarrow", "typer", "rich"} & set(
        loaded
    )
    assert {name for name in rooms if not name.startswith("sensorhub.wire")} == {
        "sensorhub.errors",
        "sensorhub.channels",
    }
