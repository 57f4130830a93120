"""The broker that comes with the gateway, for a site that has no MQTT server of its own.

`mosquitto` as a child process when it is installed, otherwise amqtt in a child process of Python. Both
get the same users and the same access rules: a node reads and writes only below its own name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, Literal

import msgspec

from sensorhub import parent
from sensorhub.addresses import authority, dial_host
from sensorhub.errors import SensorhubError
from sensorhub.ingest import access
from sensorhub.ingest.users import CONTROL, GATEWAY, Users

Kind = Literal["auto", "mosquitto", "amqtt"]

CONTROL_FILE: Final = "broker.json"
"""In `run/`, mode 0600: host, port, user and password for the control process, new at each start."""
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0
MAX_INFLIGHT: Final = 2_000
"""Unacknowledged messages on the way to one client; stock is 20, which ties throughput to commit latency."""
MAX_QUEUED_BYTES: Final = 256 * 1024 * 1024
MESSAGE_SIZE_LIMIT: Final = 262_144
AMQTT_WARNING: Final = (
    "mosquitto is not installed, so the slower broker amqtt is used: about 1,800 messages a second at most "
    "and no queue kept on disk; install mosquitto (Debian: apt install mosquitto)"
)


class BrokerError(SensorhubError):
    """Raised when the embedded broker cannot be started."""


def find_mosquitto() -> str | None:
    """Path of the mosquitto program in PATH or the system's sbin directories, or None."""
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), "/usr/sbin", "/usr/local/sbin")))
    return shutil.which("mosquitto", path=path)


def control_account(data_dir: Path) -> tuple[str, int, str, str]:
    """Host, port, user and password of the control process at the embedded broker that started last.

    Raises:
        BrokerError: none has started yet.
    """
    path = data_dir / "run" / CONTROL_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_ControlAccount)
    except (OSError, msgspec.MsgspecError) as error:
        raise BrokerError(
            f"the embedded broker has not started yet: {path} cannot be read: {error}"
        ) from None
    return found.host, found.port, found.user, found.password


class _ControlAccount(msgspec.Struct):
    host: str
    port: int
    user: str
    password: str


class EmbeddedBroker:
    """A broker in a child process that dies with this one and is started again when it dies alone.

    Args:
        data_dir: the gateway's data directory: users and the broker's own store go to `broker/`, generated
            files and its log to `run/`.
        host: address to listen on.
        port: TCP port; 0 chooses a free one.
        kind: `mosquitto`, `amqtt`, or `auto` for the first that is there.
        home_prefix: where Home Assistant's discovery topics begin.

    Attributes:
        users: the password file; nodes' users are added there, at any time and from any process.
        username: the gateway's own user.
        password: its password, new at each start.
        control_password: that of the control process, likewise; it is told by `run/broker.json`.
        warnings: what a person should know about this broker.
        restarts: how often the child was started again.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 1883,
        kind: Kind = "auto",
        home_prefix: str = "homeassistant",
    ) -> None:
        program = find_mosquitto() if kind != "amqtt" else None
        if kind == "mosquitto" and program is None:
            raise BrokerError(
                "mqtt.embedded is 'mosquitto' but that program is not in PATH or /usr/sbin; "
                "install it (Debian: apt install mosquitto) or set mqtt.embedded to 'auto'"
            )
        self.host = host
        self.port = port
        self.kind: Literal["mosquitto", "amqtt"] = "mosquitto" if program else "amqtt"
        self.users = Users.of(data_dir)
        self.username = GATEWAY
        self.password = self.control_password = ""
        self.warnings: tuple[str, ...] = () if program else (AMQTT_WARNING,)
        self.restarts = 0
        self._grants = access.grants(home_prefix)
        self._program = program
        self._store = data_dir / "broker"
        self._run = data_dir / "run"
        self._log = self._run / "broker.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._failure: BrokerError | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running child, or None."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def start(self) -> tuple[str, int]:
        """Starts the child, waits until it accepts connections, returns (host, port).

        Raises:
            BrokerError: the port is taken, the directory cannot be written, or the broker will not run.
        """
        if self._thread is not None:
            raise BrokerError("this embedded broker is already started")
        try:
            for directory in (self._store, self._run):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BrokerError(f"cannot make {error.filename} for the broker: {error.strerror}") from error
        self.port = self._claim_port()
        self.password = self.users.add(GATEWAY)
        self.control_password = self.users.add(CONTROL)
        account = _ControlAccount(self.dial_host, self.port, CONTROL, self.control_password)
        _write_private(self._run / CONTROL_FILE, msgspec.json.encode(account).decode())
        self._stop.clear()
        self._ready.clear()
        self._failure = None
        # Linux ties the parent-death signal to the thread that made the child, so one thread makes them all
        self._thread = threading.Thread(target=self._supervise, name="broker", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure
        return self.host, self.port

    def stop(self) -> None:
        """Ends the child and waits for it; harmless when it is not running."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _claim_port(self) -> int:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise BrokerError(
                        f"{self._where} is already used by another program, perhaps a broker of "
                        "the system; stop it, choose another mqtt.port, or use it with mqtt.embedded = 'off'"
                    ) from error
                raise BrokerError(f"cannot listen on {self._where}: {error.strerror}") from error
            return int(probe.getsockname()[1])

    def _supervise(self) -> None:
        pause = 0.2
        seen = self._stamp()
        try:
            self._launch()
        except (BrokerError, OSError) as error:
            self._failure = error if isinstance(error, BrokerError) else BrokerError(f"broker: {error}")
            self._end()
            return
        finally:
            self._ready.set()
        began = time.monotonic()
        while not self._stop.wait(0.25):
            child = self._child
            if child is None or child.poll() is not None:
                if time.monotonic() - began > 30:
                    pause = 0.2
                if self._stop.wait(pause):
                    break
                pause = min(pause * 2, 10.0)
                self.restarts += 1
                began = time.monotonic()
                seen = self._stamp()  # a user who is added while it starts may have come too late for it
                with contextlib.suppress(BrokerError, OSError):
                    self._launch()
            elif (stamp := self._stamp()) != seen:
                seen = stamp
                if self.kind == "mosquitto":
                    child.send_signal(signal.SIGHUP)
        self._end()

    def _stamp(self) -> tuple[int, int]:
        try:
            stat = self.users.path.stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_ino

    def _launch(self) -> None:
        command = self._mosquitto() if self._program else self._amqtt()
        launcher = str(Path(parent.__file__))
        with self._log.open("wb") as log:
            self._child = self._spawn([sys.executable, "-I", "-S", launcher, str(os.getpid()), *command], log)
        deadline = time.monotonic() + READY_SECONDS
        while not self._stop.is_set():
            if self._child.poll() is not None:
                raise BrokerError(
                    f"the embedded broker {self.kind} ended at once on {self._where}: {self._last_words()}"
                )
            with contextlib.suppress(OSError), socket.create_connection((self.dial_host, self.port), 1):
                return
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the embedded broker {self.kind} does not accept connections on {self._where} "
                    f"after {READY_SECONDS:.0f} s: {self._last_words()}"
                )
            time.sleep(0.02)

    @staticmethod
    def _spawn(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    @property
    def dial_host(self) -> str:
        """Address a client on this machine connects to."""
        return dial_host(self.host)

    @property
    def _where(self) -> str:
        return authority(self.host, self.port)

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else f"it left no message in {self._log}"

    def _mosquitto(self) -> list[str]:
        assert self._program is not None
        acl = self._run / "mosquitto.acl"
        config = self._run / "mosquitto.conf"
        _write_private(acl, access.acl(self._grants))
        lines = [
            "# generated at each start of the gateway; changes here are lost",
            f"listener {self.port} {self.host}",
            "allow_anonymous false",
            f"password_file {self.users.path.absolute()}",
            f"acl_file {acl.absolute()}",
            "persistence true",
            f"persistence_location {self._store.absolute()}/",
            "autosave_interval 300",
            # stock limits (20 in flight, 1,000 queued) drop silently when the gateway is away
            f"max_inflight_messages {MAX_INFLIGHT}",
            "max_queued_messages 0",
            f"max_queued_bytes {MAX_QUEUED_BYTES}",
            f"message_size_limit {MESSAGE_SIZE_LIMIT}",
            "persistent_client_expiration 2m",
            "set_tcp_nodelay true",
            "sys_interval 10",
            "connection_messages false",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
        ]
        if os.geteuid() == 0:
            # as root mosquitto would change to a user of its own, who cannot read these files
            lines.append(f"user {pwd.getpwuid(0).pw_name}")
        _write_private(config, "\n".join(lines) + "\n")
        return [self._program, "-c", str(config.absolute())]

    def _amqtt(self) -> list[str]:
        config = self._run / "amqtt.json"
        fields = {
            "host": self.host,
            "port": self.port,
            "passwords": str(self.users.path.absolute()),
            "grants": self._grants,
        }
        _write_private(config, msgspec.json.encode(fields).decode())
        return [sys.executable, "-m", "sensorhub.ingest.amqtt_broker", str(config.absolute())]


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
