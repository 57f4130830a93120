"""The demo: devnet, gateway and twelve nodes under MicroPython; at the end, proofs for all to see.

Everything is the product itself, started the way a user would start it: this file only lays out a directory,
starts processes, shows what the gateway's API says, and calls `sensorhub prove`, `sensorhub export` and
`tools/verify`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fleet import ROOT, Fleet, micropython, node_config, stations
from sensorhub.chain.devnet import Devnet, running
from sensorhub.chain.digest import address
from sensorhub.chain.key import load_or_create
from sensorhub.errors import SensorhubError
from sensorhub.ingest.users import Users
from sensorhub.nodes.claims import Claims
from sensorhub.nodes.geohash import encode as geohash
from sensorhub.processes import stop_on_signal
from sensorhub.store import SqliteReader

SITE: Final = "beijing"
ATTRIBUTION: Final = (
    "Chen, S. (2017). Beijing Multi-Site Air Quality. UCI Machine Learning Repository. doi:10.24432/C5RK5G. "
    "Replayed through the sensorhub demo, which signed and judged the readings."
)
MARKER: Final = ".sensorhub-demo"
REFRESH_S: Final = 0.5
LINE_S: Final = 5.0  # without a terminal: a line this often
START_TIMEOUT_S: Final = 300.0
CATCH_UP_TIMEOUT_S: Final = 300.0
CHAIN_INTERVAL_S: Final = 5.0
BLOCK_S: Final = 1.0
PAGE_PORT: Final = 8080


class DemoError(Exception):
    """Raised when the demo cannot go on; the text says what to do."""


@dataclass(slots=True)
class Picture:
    """What is shown: the newest answers of the API, and what the demo itself is doing."""

    url: str
    speed: float
    ends: float | None
    began: float = field(default_factory=time.monotonic)
    status: dict[str, Any] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    doing: str = "starting"

    def refresh(self) -> None:
        """Asks the API again; keeps what it had when there is no answer."""
        with contextlib.suppress(OSError, ValueError):
            self.status = _get(self.url + "api/v1/status")
            self.nodes = _get(self.url + "api/v1/nodes")

    def line(self) -> str:
        """The picture in one line."""
        s = self.status
        if not s:
            return self.doing
        post = s["chain"]["last"]
        anchored = f"checkpoint #{post['seq']} covers {post['size']:,}" if post else "no checkpoint yet"
        return (
            f"{s['store']['nodes']} nodes, {s['store']['readings']:,} readings "
            f"({s['ingest'].get('rate_readings') or 0:,.0f}/s), log {s['log']['size']:,}, {anchored}"
        )

    def render(self) -> RenderableType:
        """The picture for a terminal."""
        left = ""
        if self.ends is not None:
            left = f" · {max(0, self.ends - time.monotonic()):.0f} s left"
        head = Text.assemble(
            ("sensorhub", "bold"),
            f" · {self.speed:g}x real time{left} · page ",
            (self.url, "underline cyan"),
            f" · {self.doing}",
        )
        if not self.status:
            return head
        return Group(head, "", self._nodes(), "", self._facts())

    def _nodes(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title, justify in (
            ("node", "left"),
            ("time there (UTC)", "left"),
            ("messages", "right"),
            ("readings", "right"),
            ("trusted", "left"),
        ):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for node in self.nodes:
            when = node["last_time"]
            share = node["trusted_share"]
            shown = "-" if when is None else datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M")
            table.add_row(
                node["node"],
                shown,
                f"{node['messages']:,}",
                f"{node['readings']:,}",
                "-"
                if share is None
                else Text("█" * round(share * 20), "green" if share > 0.9 else "yellow") + f" {share:.1%}",
            )
        return table

    def _facts(self) -> Panel:
        s = self.status
        grid = Table.grid(padding=(0, 3, 0, 0))
        grid.add_column(style="dim")
        grid.add_column()
        grid.add_row(
            "readings", f"{s['store']['readings']:,} · {s['ingest'].get('rate_readings') or 0:,.0f} a second"
        )
        grid.add_row("log", f"{s['log']['size']:,} entries · root {(s['log']['root'] or '-')[:16]}…")
        flags = ", ".join(f"{name} {count:,}" for name, count in s["flags"].items()) or "no flags"
        grid.add_row(
            "verdicts", f"{s['store']['judged']:,} judged, {s['store']['trusted']:,} trusted · {flags}"
        )
        post = s["chain"]["last"]
        grid.add_row(
            "chain",
            f"checkpoint #{post['seq']} covers {post['size']:,} entries · block {post['block']} · {post['gas']:,} gas"
            if post
            else "no checkpoint yet",
        )
        grid.add_row("behind", ", ".join(f"{name} {f['lag']:,}" for name, f in s["followers"].items()))
        rejected = s["ingest"].get("rejected") or {}
        if any(rejected.values()):
            grid.add_row(
                "rejected", ", ".join(f"{name} {count:,}" for name, count in rejected.items() if count)
            )
        for warning in s["warnings"]:
            grid.add_row("warning", Text(warning, "yellow"))
        return Panel(grid, border_style="dim", expand=False)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 our own loopback page
        return json.load(answer)


def _free_port(wanted: int = 0) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 60s, 5m or 1h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


def prepare(home: Path) -> Path:
    """An empty directory for this run; only what an earlier demo made is removed."""
    if home.exists():
        if any(home.iterdir()) and not (home / MARKER).exists():
            raise DemoError(f"{home} is not empty and not from a demo: name another with --dir")
        shutil.rmtree(home)
    (home / "data" / "keys").mkdir(parents=True, mode=0o700)
    (home / MARKER).touch()
    return home


def configure(home: Path, devnet: Devnet, mqtt_port: int, page_port: int) -> Path:
    """Writes the gateway's settings file."""
    config = home / "sensorhub.toml"
    config.write_text(
        f"""\
[gateway]
site = "{SITE}"
name = "demo"
data_dir = "{home / "data"}"

[mqtt]
port = {mqtt_port}

[store]
raw_days = 0
five_minute_days = 0

[chain]
rpc_url = "{devnet.url}"
chain_id = {devnet.chain_id}
contract = "{devnet.contract}"
interval_s = {CHAIN_INTERVAL_S}
confirmations = 1

[web]
port = {page_port}
"""
    )
    return config


def add_nodes(home: Path, fleet: Fleet, mqtt_port: int) -> list[str]:
    """Gives each station a claim, an MQTT user and a directory; returns the node names."""
    claims, users = Claims(home / "data" / "claims.json"), Users.of(home / "data")
    names = []
    for station in stations():
        claim = claims.add(station.name, "air", geohash=geohash(station.latitude, station.longitude))
        config = node_config(
            site=SITE,
            node=station.name,
            kind="air",
            claim=claim.hex(),
            host="127.0.0.1",
            port=mqtt_port,
            password=users.add(station.name),
        )
        fleet.add(station.name, config, station.rows)
        names.append(station.name)
    return names


class Demo:
    """One run of the demo."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.console = Console()
        self.home: Path = options.dir.resolve()
        self.stop = threading.Event()

    def run(self) -> int:
        """Runs it; returns the exit code."""
        with contextlib.ExitStack() as stack:
            self.stop = stack.enter_context(stop_on_signal())
            interpreter = micropython()
            prepare(self.home)
            key = load_or_create(self.home / "data" / "keys" / "chain.key")
            devnet = stack.enter_context(running(funded=[address(key.public_key)], block_time=BLOCK_S))
            mqtt_port, page_port = _free_port(), _free_port(PAGE_PORT)
            config = configure(self.home, devnet, mqtt_port, page_port)
            fleet = Fleet(self.home / "nodes", self.options.speed)
            names = add_nodes(self.home, fleet, mqtt_port)
            gateway = self._gateway(config)
            stack.callback(_end, gateway)
            url = f"http://127.0.0.1:{page_port}/"
            self._wait_for(url, gateway)
            stack.callback(fleet.stop)
            for name in names:
                fleet.start(name, interpreter)
            ends = None if self.options.duration is None else time.monotonic() + self.options.duration
            picture = Picture(url, self.options.speed, ends)
            self._watch(picture, fleet, gateway)
            if self.options.duration is None or self.stop.is_set():
                self.console.print("stopped; what was made is in", str(self.home))
                return 0
            fleet.stop()
            return self._prove(config, devnet, picture)

    def _gateway(self, config: Path) -> subprocess.Popen[bytes]:
        with (self.home / "gateway.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "sensorhub", "--config", config, "run"], stdout=log, stderr=log
            )

    def _wait_for(self, url: str, gateway: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and not self.stop.is_set():
            if gateway.poll() is not None:
                raise DemoError(f"the gateway ended: see {self.home / 'gateway.log'}")
            with contextlib.suppress(OSError, ValueError):
                if _get(url + "api/v1/status")["ingest"].get("connected"):
                    return
            time.sleep(0.2)
        if not self.stop.is_set():
            raise DemoError(
                f"the gateway did not come up within {START_TIMEOUT_S:.0f} s: see {self.home / 'gateway.log'}"
            )

    def _watch(self, picture: Picture, fleet: Fleet, gateway: subprocess.Popen[bytes]) -> None:
        def over() -> bool:
            if gateway.poll() is not None:
                raise DemoError(f"the gateway ended: see {self.home / 'gateway.log'}")
            for node, code in fleet.ended():
                raise DemoError(
                    f"node {node} ended with code {code}: see {self.home / 'nodes' / node / 'node.log'}"
                )
            return self.stop.is_set() or (picture.ends is not None and time.monotonic() >= picture.ends)

        picture.doing = "Ctrl-C to end"
        if self.console.is_terminal:
            with Live(picture.render(), console=self.console, auto_refresh=False) as live:
                while not over():
                    picture.refresh()
                    live.update(picture.render(), refresh=True)
                    self.stop.wait(REFRESH_S)
            return
        while not over():
            picture.refresh()
            print(f"{time.monotonic() - picture.began:4.0f} s  {picture.line()}", flush=True)
            self.stop.wait(
                min(LINE_S, max(0.1, (picture.ends or time.monotonic() + LINE_S) - time.monotonic()))
            )

    def _prove(self, config: Path, devnet: Devnet, picture: Picture) -> int:
        """Proof of a random reading and a dataset of the whole run, both checked by the separate verifier."""
        self.console.rule("what can be verified")
        with self.console.status("waiting until everything is judged, stored and anchored"):
            self._settle(picture)
        self.console.print(picture.line())
        with contextlib.closing(SqliteReader(self.home / "data" / "store.sqlite")) as store:
            anchored = picture.status["chain"]["last"]["size"]
            messages = [i for i in store.messages(None, None, -1e18, 1e18) if i < anchored]
        if not messages:
            raise DemoError("no node got a reading through in that time: say a longer one with --for")
        index = random.SystemRandom().choice(messages)
        proof, dataset = self.home / "proof.json", self.home / "dataset"
        # who checks says which log is meant: its key comes from the gateway's page, not from the file
        against = ["--rpc", devnet.url, "--log-key", picture.status["log"]["key"]]
        steps: list[tuple[str, Sequence[str | Path]]] = [
            (f"a random reading: log entry {index}", _sensorhub(config, "log", "show", str(index))),
            ("its proof", _sensorhub(config, "prove", str(index), "--out", proof)),
            ("the proof, checked", [ROOT / "tools" / "verify", "proof", proof, *against]),
            (
                "the run as a dataset",
                _sensorhub(config, "export", dataset, "--licence", "CC-BY-4.0", "--attribution", ATTRIBUTION),
            ),
            ("the dataset, checked", [ROOT / "tools" / "verify", "dataset", dataset, *against]),
        ]
        good = True
        for title, argv in steps:
            began = time.monotonic()
            done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
            good &= done.returncode == 0
            mark = "[green]✓[/]" if done.returncode == 0 else f"[red]✗ exit code {done.returncode}[/]"
            self.console.print(f"\n{mark} [bold]{title}[/] [dim]{time.monotonic() - began:.1f} s[/]")
            said = done.stdout + (done.stderr if done.returncode else "")
            self.console.print(Text(said.strip()), soft_wrap=True)
            if done.returncode:
                break
        self.console.rule("all answers hold" if good else "NOT verified")
        return 0 if good else 1

    def _settle(self, picture: Picture) -> None:
        """Waits until every follower has read the whole log and the chain covers it."""
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        while time.monotonic() < deadline and not self.stop.is_set():
            picture.refresh()
            status = picture.status
            size, post = status["log"]["size"], status["chain"]["last"]
            if (
                post
                and post["size"] == size
                and all(status["followers"][name]["lag"] == 0 for name in ("quality", "store"))
            ):
                return
            time.sleep(REFRESH_S)
        raise DemoError(f"not everything was judged, stored and anchored in time: {picture.line()}")


def _sensorhub(config: Path, *words: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "sensorhub", "--config", config, *words]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit code 0 only if every check held."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument(
        "--for", dest="duration", type=_seconds, metavar="60s", help="end by itself, then verify"
    )
    parser.add_argument(
        "--speed", type=float, default=3600, help="seconds of node time in a second (default 3600)"
    )
    parser.add_argument("--dir", type=Path, default=ROOT / "demo", help="where to keep everything")
    try:
        return Demo(parser.parse_args(argv)).run()
    except (DemoError, SensorhubError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
