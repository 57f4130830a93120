"""Parts for tests of whole nodes: a real broker, a gateway that sends receipts, a node as a process, a web server."""

from __future__ import annotations

import http.server
import io
import json
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from sensorhub import wire

SITE = "lab"
NODE = "roof-1"
FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
RUN = FIRMWARE / "sim" / "run.py"
RESET = 3  # exit status of a node that wants to start again
ROWS = 42
START = 1_481_500_800
LONG = 300.0  # seconds until a test gives up waiting; a busy machine may need many of them


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, f"waited {LONG:g} s for {what}"
        time.sleep(0.02)


def held_port() -> socket.socket:
    """A socket that keeps a TCP port of the loopback from everybody but a listener with SO_REUSEADDR, which mosquitto and asyncio
    set: nobody else gets it before that listens, or between two that do. Connections are refused meanwhile."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


class Broker:
    """mosquitto with a password file and the product's access list; may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._holder = held_port()
        self.port = self._holder.getsockname()[1]
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        for user in (NODE, "gateway"):
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, f"{user}-secret"], check=True)
        (folder / "acl").write_text(
            "user gateway\ntopic readwrite sensorhub/#\n\n"
            "pattern write sensorhub/v1/+/%u/announce\npattern write sensorhub/v1/+/%u/data\n"
            "pattern write sensorhub/v1/+/%u/status\npattern write sensorhub/v1/+/%u/snapshot\npattern read sensorhub/v1/+/%u/#\n"
        )
        (folder / "broker.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
            f"acl_file {folder / 'acl'}\nuser root\nmax_queued_messages 0\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / "broker.log").open("ab")
        self.process = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", self.folder / "broker.conf"], stdout=log, stderr=log
        )
        log.close()

        def listens() -> bool:
            assert self.process
            assert self.process.poll() is None, (self.folder / "broker.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        until(listens, "the broker")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.stop()
        self._holder.close()


class Gateway:
    """Checks and logs messages in memory, and answers as the real gateway does."""

    def __init__(self, port: int) -> None:
        self.lock = threading.Lock()
        self.keys: dict[bytes, bytes] = {}
        self.announces: list[wire.Announce] = []
        self.log: list[wire.Message] = []
        self.arrived: list[int] = []  # every sequence number that came, repeats too
        self.clones = 0
        self.refused: list[str] = []
        self.status: list[dict[str, Any]] = []
        self.pictures: list[bytes] = []  # sealed
        self.deaf = False  # neither logs nor answers
        self.refuse: set[int] = set()  # sequence numbers to quarantine
        self.settled = 0  # every number up to here is logged
        self._raw: dict[int, bytes] = {}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, "gateway")
        self._client.username_pw_set("gateway", "gateway-secret")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("sensorhub/v1/#", 1)
        self._client.on_message = self._on_message
        hears = threading.Event()
        self._client.on_subscribe = lambda *_: hears.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert hears.wait(LONG)

    def close(self) -> None:
        self._client.disconnect()

    def order(self, leaf: str, message: bytes) -> None:
        """Publish an order, retained."""
        self._client.publish(wire.topic(SITE, NODE, leaf), message, qos=1, retain=True)

    def _on_message(self, client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        leaf = message.topic.rpartition("/")[2]
        if self.deaf or leaf in ("receipt", "config", "update"):
            return
        with self.lock:
            if leaf == "status":
                self.status.append(json.loads(message.payload))
                return
            if leaf == "snapshot":
                self.pictures.append(message.payload)
                return
            try:
                if leaf == "announce":
                    announce = wire.decode_announce(message.payload, site=SITE, node=NODE)
                    self.announces.append(announce)
                    self.keys[announce.signed.kid] = announce.public_key
                    self.settled = max(self.settled, announce.oldest - 1)  # what is before that is gone
                elif leaf == "data" and not self._data(message.payload):
                    return
            except wire.WireError as error:
                self.refused.append(str(error))
                return
            while self.settled + 1 in self._raw:
                self.settled += 1
            boot = self.log[-1].signed.boot if self.log else 0
            client.publish(wire.topic(SITE, NODE, "receipt"), wire.encode_receipt(boot, self.settled), qos=1)

    def _data(self, raw: bytes) -> bool:
        message = wire.decode(raw, public_key=self.keys.get, site=SITE, node=NODE, now=time.time())
        seq = message.signed.seq
        self.arrived.append(seq)
        if seq in self.refuse:
            return False
        if seq not in self._raw:
            self._raw[seq] = raw
            self.log.append(message)
        elif self._raw[seq] != raw:
            self.clones += 1
        elif seq > self.settled and not any(self.settled < known < seq for known in self._raw):
            self.settled = seq - 1  # a node sends its oldest first: nothing is left to fill the gap with
        return True

    @property
    def gaps(self) -> int:
        prevs = [bytes(32), *(message.signed.message_hash for message in self.log)]
        return sum(m.signed.prev != prev for m, prev in zip(self.log, prevs, strict=False))

    @property
    def times(self) -> list[int]:
        """Unix seconds of every dated sampling instant, in log order."""
        packs = [message.pack for message in self.log if message.pack.base_time is not None]
        return [int(pack.base_time + t) for pack in packs for t in sorted(set(pack.times))]


class Node:
    """A simulated node: its directory and its process."""

    def __init__(
        self, folder: Path, port: int, command: Callable[..., list[str]], environ: dict[str, str]
    ) -> None:
        self.folder = folder
        self.port = port
        self._command = command
        self._environ = environ
        self.process: subprocess.Popen[bytes] | None = None
        self.exits: list[int] = []
        self.reset_cause = 5  # machine.SOFT_RESET
        self._staying = False
        self._board: threading.Thread | None = None
        rows = [f"{START + 3600 * n},{n / 10},{1000 + n},{n % 7 or ''}" for n in range(ROWS)]
        (folder / "out").touch()
        heading = "time,temperature Cel,pressure hPa,wind_speed m/s"
        (folder / "replay.csv").write_text("\n".join([heading, *rows]) + "\n")

    def configure(self, receipt: int = 1, **more: Any) -> None:
        """Write node.json; `receipt` is the node's patience with the gateway in seconds."""
        sim = {"speed": 400_000, "status": True, "exit_at_end": True} | more.pop("sim", {})
        broker = {
            "host": "127.0.0.1",
            "port": self.port,
            "password": f"{NODE}-secret",
            "retry": 2,
            "receipt": receipt,
        }
        config: dict[str, Any] = {
            "site": SITE,
            "node": NODE,
            "kind": "weather",
            "interval": 3600,
            "broker": broker,
            "sensors": [{"driver": "replay", "file": "replay.csv"}],
            "claim": "00112233445566778899aabbccddeeff",
            "spool": {"bytes": 262_144},
            "sim": sim,
        }
        (self.folder / "node.json").write_text(json.dumps(config | more))

    def start(self, **environ: str) -> None:
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                self._command(str(RUN), str(self.folder)), stdout=out, stderr=out, env=self._environ | environ
            )

    def stay(self) -> None:
        """Be the board: whenever the process ends, start it again, as main.py and the watchdog do."""
        self._staying = True

        def run() -> None:
            powered: dict[str, str] = {}
            while self._staying:
                self.start(**powered)
                assert self.process
                self.exits.append(self.process.wait())
                powered = {"SIM_RESET": str(self.reset_cause)}

        self._board = threading.Thread(target=run, daemon=True)
        self._board.start()

    def stop(self) -> None:
        """End the process, and the board with it."""
        self._staying = False
        self._kill()
        while self._board and self._board.is_alive():  # it may have been about to start the next process
            self._board.join(0.05)
            self._kill()

    def _kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wait(self) -> int:
        assert self.process
        try:
            return self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the node did not end:\n{self.output[-2000:]}")

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.wait()

    @property
    def output(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def status(self) -> dict[str, Any]:
        lines = [line for line in self.output.splitlines() if line.startswith("{") and line.endswith("}")]
        return json.loads(lines[-1]) if lines else {}


def application(folder: Path, version: str, changes: Mapping[str, str] = {}) -> None:
    """Put an application of another version into a slot; `changes` are files with other content."""
    shutil.copytree(
        FIRMWARE / "sensornode", folder / "sensornode", ignore=shutil.ignore_patterns("*.md", "__pycache__")
    )
    init = folder / "sensornode" / "__init__.py"
    init.write_text(init.read_text().replace("0.1.0", version))
    for name, content in changes.items():
        (folder / "sensornode" / name).write_text(content)


def image_of(folder: Path) -> bytes:
    """The ustar archive of an application."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(folder / "sensornode", "sensornode")
    return data.getvalue()


class WebServer:
    """Serves documents by their path."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                document = outer.documents.get(self.path)
                self.send_response(200 if document is not None else 404)
                self.send_header("Content-Length", str(len(document or b"")))
                self.end_headers()
                self.wfile.write(document or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
