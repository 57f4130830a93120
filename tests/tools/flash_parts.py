"""Parts of the tests of tools/flash."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import serial.rfc2217
import serial.urlhandler.protocol_socket

from flashing import nvs_image
from flashing.settings import local_broker

ROOT = Path(__file__).resolve().parents[2]
FLASH = ROOT / "tools" / "flash"
WIFI_PASSWORD = "correct-horse-battery"
LONG = 300.0  # seconds until a test gives up waiting; a busy machine may need many of them
TABLE = (
    ("nvs", 1, 2, 0x9000, 0x6000),
    ("phy_init", 1, 1, 0xF000, 0x1000),
    ("factory", 0, 0, 0x10000, 0x1F0000),
)
VFS = ("vfs", 1, 0x81, 0x200000, 0x200000)


def micropython_image(
    chip_id: int = 0, origin: int = 0x1000, rows=(*TABLE, VFS), size: int = 300_000
) -> bytes:
    """A file in the form of a complete MicroPython image: a header, a partition table with MD5, an application."""
    image = bytearray(b"\xff" * (0x10000 - origin)) + bytes(size) + hashlib.sha256(b"app").digest() * 1000
    image[0] = 0xE9
    struct.pack_into("<H", image, 12, chip_id)
    table = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, subtype, offset, length, label.encode(), 0)
        for label, kind, subtype, offset, length in rows
    )
    table += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(table).digest()
    image[0x8000 - origin : 0x8000 - origin + len(table)] = table
    return bytes(image)


def environ(home: Path, **more: str) -> dict:
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SENSORHUB_", "FLASH_", "ESPTOOL_"))
    }
    return {
        **kept,
        "HOME": str(home),
        "FLASH_WIFI_SSID": "roof",
        "FLASH_WIFI_PASSWORD": WIFI_PASSWORD,
        **more,
    }


def starting(micropython: Path, flash: bytes, home: Path) -> list:
    """The command that starts a node from the partitions `vfs` and `nvs` of a flash of 4 MB."""
    offset, size = TABLE[0][3:]
    values = nvs_image.parse(flash[offset : offset + size])
    image, nvs = home / "vfs.bin", home / "nvs.json"
    image.write_bytes(flash[VFS[3] : VFS[3] + VFS[4]])
    known = {
        name: {key: value if isinstance(value, int) else value.hex() for key, value in space.items()}
        for name, space in values.items()
    }
    nvs.write_text(json.dumps(known))
    boot = Path(__file__).parent / "boot.py"
    return [micropython, "-X", "heapsize=32M", boot, image, nvs, ROOT / "firmware" / "sim"]


class Tool:
    """Runs tools/flash as a person would, with a home of its own, where esptool is told to be patient with a busy board."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "esptool.cfg").write_text("[esptool]\ntimeout = 30\n")

    def __call__(self, *words: object, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(FLASH), *map(str, words)],
            cwd=self.home,
            env=environ(self.home, **more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONG,
        )

    def start(self, *words: object, **more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(FLASH), *map(str, words)],
            cwd=self.home,
            env=environ(self.home, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def inside(self, monkeypatch, capsys, *words: object, **more: str) -> subprocess.CompletedProcess:
        """The same in this process: for what ends before a child is started."""
        from flashing import cli

        monkeypatch.setattr(sys, "argv", ["flash", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115 - ends with the test
        monkeypatch.chdir(self.home)
        for name in [name for name in os.environ if name.startswith(("SENSORHUB_", "FLASH_"))]:
            monkeypatch.delenv(name)
        for name, value in environ(self.home, **more).items():
            monkeypatch.setenv(name, value)
        before = signal.getsignal(signal.SIGTERM)
        try:
            code = cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    def node(self, board_url: str, image: Path, *words: object, **more: str) -> subprocess.CompletedProcess:
        """Flashes a bench node that nobody waits for."""
        return self(*bench(board_url, image, self.claim()), "--no-wait", *words, **more)

    def claim(self) -> Path:
        path = self.home / "bench-01.claim.json"
        record = {
            "site": "roof",
            "node": "bench-01",
            "kind": "bench",
            "claim": "00112233445566778899aabbccddeeff",
        }
        record |= {"mqtt_user": "bench-01", "mqtt_password": "mqtt-secret-word"}
        path.write_text(json.dumps(record))
        return path


def bench(board_url: str, image: Path, claim: Path) -> tuple:
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    names = ("bench", "--site", "roof", "--name", "bench-01", "--broker", "192.0.2.1", "--claim", claim)
    return (*names, "--port", board_url, "--firmware", image, "--sha256", digest)


class Line(threading.Thread):
    """A serial line between tool and board, as a TCP port, that a test may cut or disturb.

    `on_answer` gets what the board answers and gives what the tool shall get; None cuts the line.
    """

    def __init__(self, port: int, on_answer=lambda data, sent: data) -> None:
        super().__init__(daemon=True)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._board = port
        self._on_answer = on_answer
        self.sent = 0  # bytes from the tool
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                tool, _ = self._server.accept()
                board = socket.create_connection(("127.0.0.1", self._board))
                threading.Thread(target=self._up, args=(tool, board), daemon=True).start()
                threading.Thread(target=self._down, args=(tool, board), daemon=True).start()

    def _up(self, tool, board) -> None:
        with contextlib.suppress(OSError):
            while data := tool.recv(4096):
                self.sent += len(data)
                board.sendall(data)
        self._end(tool, board)

    def _down(self, tool, board) -> None:
        with contextlib.suppress(OSError):
            while data := board.recv(4096):
                data = self._on_answer(data, self.sent)
                if data is None:
                    self._server.close()
                    break
                tool.sendall(data)
        self._end(tool, board)

    def _end(self, *ends) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Board:
    """A mock of a chip's boot loader as a process, at a port that it chooses.

    The mock gives up after 50 ms without an acknowledgement of what it is read for, and 3 s after the last write, which a busy
    computer does not keep.
    """

    PATIENT = """
import os, signal, sys
import esp32_mock_bootloader.server as server
from esp32_mock_bootloader.cli import main

stream = server.perform_read_flash_stream


def patient_stream(board, *arguments):
    board.set_timeout(60)
    try:
        stream(board, *arguments)
    finally:
        board.set_timeout(server._CLIENT_RECV_TIMEOUT)


server.perform_read_flash_stream = patient_stream
server._FLASH_END_IDLE_SEC = 600.0


def dump(*_):
    with open(os.environ["DUMP"] + ".new", "wb") as file:
        file.write(server.get_flash_image().data)
    os.rename(os.environ["DUMP"] + ".new", os.environ["DUMP"])


signal.signal(signal.SIGUSR1, dump)
with open(os.environ["LOAD"], "rb") as file:
    loaded = file.read()
server.get_flash_image().data[: len(loaded)] = loaded
sys.exit(main(sys.argv[1:]))
"""

    def __init__(self, home: Path, *words: str, flash: bytes = b"") -> None:
        self.dump = home / "flash.dump"
        loaded = home / "flash.loaded"
        loaded.write_bytes(flash)
        command = [
            sys.executable,
            "-c",
            self.PATIENT,
            "run",
            "--chip",
            "esp32",
            "--port",
            "0",
            *words,
        ]
        self.process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "DUMP": str(self.dump),
                "LOAD": str(loaded),
                "ESP32_MOCK_BOOTLOADER_STATE_DIR": str(home / "mock"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.first = self.process.stdout.readline().strip()
        self.port = 0 if "--pty" in words else int(self.first.rpartition(":")[2])

    def url(self) -> str:
        return f"socket://127.0.0.1:{self.port}"

    def flash(self) -> bytes:
        """All of its 4 MB."""
        self.dump.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + LONG
        while not self.dump.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.dump.read_bytes()[: 4 << 20]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Rfc2217(threading.Thread):
    """A serial server after RFC 2217 in front of a board; its lines RTS and DTR are those of a usual board: EN and IO0.

    Args:
        port: TCP port of the mock.
        on_start: called when the board comes out of reset with IO0 high, as it does after it was written.
        fastest: speed; it refuses what is more.
    """

    def __init__(self, port: int, on_start=lambda: None, *, fastest: int = 921_600) -> None:
        super().__init__(daemon=True)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._board = port
        self._on_start = on_start
        self._fastest = fastest
        self.starts = 0
        self.speeds: set[int] = set()
        self.url = f"rfc2217://127.0.0.1:{self._server.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                tool, _ = self._server.accept()
                tool.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(OSError, serial.SerialException):
                    self._serve(tool)
                tool.close()

    def _serve(self, tool: socket.socket) -> None:
        line = _Lines(f"socket://127.0.0.1:{self._board}", self)
        line.timeout = 0.02
        lock = threading.Lock()

        def write(data: bytes) -> None:
            with lock:
                tool.sendall(data)

        manager = serial.rfc2217.PortManager(line, type("Connection", (), {"write": staticmethod(write)}))
        ended = threading.Event()

        def down() -> None:
            with contextlib.suppress(OSError, serial.SerialException):
                while not ended.is_set():
                    if data := line.read(4096):
                        write(b"".join(manager.escape(data)))

        pump = threading.Thread(target=down, daemon=True)
        pump.start()
        try:
            while data := tool.recv(4096):
                line.write(b"".join(manager.filter(data)))
        finally:
            ended.set()
            pump.join(5)
            line.close()

    def lines(self, rts: bool, dtr: bool, was: bool) -> None:
        if was and not rts and not dtr:
            self.starts += 1
            self._on_start()

    def speed(self, baud: int) -> int:
        self.speeds.add(baud)
        return min(baud, self._fastest)


class _Lines(serial.urlhandler.protocol_socket.Serial):
    """The mock's line, which has no RTS and DTR and no speed of its own."""

    def __init__(self, url: str, server: Rfc2217) -> None:
        self._server_of = server
        self._rts_now = self._dtr_now = False
        super().__init__(url)

    @property
    def rts(self) -> bool:
        return self._rts_now

    @rts.setter
    def rts(self, value: bool) -> None:
        was, self._rts_now = self._rts_now, bool(value)
        self._server_of.lines(self._rts_now, self._dtr_now, was)

    @property
    def dtr(self) -> bool:
        return self._dtr_now

    @dtr.setter
    def dtr(self, value: bool) -> None:
        self._dtr_now = bool(value)

    @property
    def baudrate(self) -> int:
        return self._speed_now

    @baudrate.setter
    def baudrate(self, value: int) -> None:
        self._speed_now = self._server_of.speed(value)


class Gateway:
    """`sensorhub run` in a process group of its own, at ports that it chooses. Nodes may be enrolled over its API with `TOKEN`."""

    TOKEN = "a-token-for-tests-0123456789"

    def __init__(self, home: Path) -> None:
        self.home, self.data = home, home / "data"
        self.config = home / "sensorhub.toml"
        self.config.write_text(
            f'[gateway]\nsite = "roof"\ndata_dir = "{self.data}"\n[mqtt]\nport = 0\n[web]\nport = 0\n'
        )
        with (home / "gateway.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sensorhub", "--config", str(self.config), "run"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "SENSORHUB_WEB_ENROL_TOKEN": self.TOKEN},
            )
        try:
            self.wait(
                lambda: local_broker(self.data) and self.status("web").get("url") and self.status("store"),
                "its start",
            )
        except BaseException:
            self.stop()
            raise
        self.mqtt_port = int(local_broker(self.data).rpartition(":")[2])
        self.url = self.status("web")["url"].rstrip("/")

    def status(self, process: str) -> dict:
        try:
            return json.loads((self.data / "status" / f"{process}.json").read_text())
        except (OSError, ValueError):
            return {}

    def wait(self, ready, what: str, seconds: float = LONG) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ready():
                return
            assert self.process.poll() is None, (self.home / "gateway.log").read_text()
            time.sleep(0.1)
        pytest.fail(
            f"{what} did not happen within {seconds} s:\n{(self.home / 'gateway.log').read_text()[-4000:]}"
        )

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(LONG)
