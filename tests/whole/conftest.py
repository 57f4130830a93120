"""A whole gateway and its nodes, as a user would run them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from fleet import Fleet, micropython, node_config, stations  # noqa: E402
from sensorhub.ingest.users import Users  # noqa: E402
from sensorhub.nodes.claims import Claims  # noqa: E402

SITE = "beijing"


class Gateway:
    """`sensorhub run` in a process group of its own, so that it can be killed whole."""

    def __init__(self, home: Path, free_port, toml: str = "") -> None:
        self.home = home
        self.data = home / "data"
        self.mqtt_port, self.web_port = free_port(), free_port()
        self.config = home / "sensorhub.toml"
        self.config.write_text(
            f'[gateway]\nsite = "{SITE}"\nname = "test"\ndata_dir = "{self.data}"\n'
            f"[mqtt]\nport = {self.mqtt_port}\n[web]\nport = {self.web_port}\n[store]\nraw_days = 0\nfive_minute_days = 0\n{toml}"
        )
        self.data.mkdir(parents=True, exist_ok=True)
        self.process = None

    def command(self, *words: object) -> list[str]:
        return [sys.executable, "-m", "sensorhub", "--config", str(self.config), *map(str, words)]

    def call(self, *words: object) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*words), capture_output=True, text=True, check=False)

    def start(self) -> None:
        # what a killed process said of itself is no sign of life of the next one
        for path in (self.data / "status").glob("*.json"):
            path.unlink()
        with (self.home / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run"), stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL to every process of the gateway at once, the broker too."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        self.process.wait(120)

    def said(self) -> str:
        return (self.home / "gateway.log").read_text()[-4000:]

    def status(self, process: str) -> dict:
        try:
            return json.loads((self.data / "status" / f"{process}.json").read_text())
        except (OSError, ValueError):
            return {}

    def wait(self, ready, what: str, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"the gateway ended while waiting for {what}:\n{self.said()}")
            if ready():
                return
            time.sleep(0.1)
        pytest.fail(f"{what} did not happen within {seconds} s:\n{self.said()}")

    def add_node(self, fleet: Fleet, name: str, replay: list[str], **sim: object) -> None:
        claim = Claims(self.data / "claims.json").add(name, "air")
        config = node_config(
            site=SITE,
            node=name,
            kind="air",
            claim=claim.hex(),
            host="127.0.0.1",
            port=self.mqtt_port,
            password=Users.of(self.data).add(name),
        )
        config["broker"]["retry"] = 2
        fleet.add(name, config, replay, **sim)


@pytest.fixture
def gateway(tmp_path, free_port):
    found = Gateway(tmp_path, free_port)
    yield found
    found.stop()


@pytest.fixture
def fleet(tmp_path):
    found = Fleet(tmp_path / "nodes", speed=20_000)
    yield found
    found.stop()


@pytest.fixture(scope="session")
def interpreter():
    return micropython()


@pytest.fixture(scope="session")
def recordings():
    return stations()
