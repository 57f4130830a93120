"""Set-up as a whole: the node's own start without a network, used over HTTP, DNS and a serial line as people and browsers do."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import socket
import subprocess
import time
import tty
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from node_harness import LONG, RESET, held_port, until

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
PROGRAM = """
import os, sys
sys.path[:0] = [FIRMWARE + "/sim", FIRMWARE]
import network, nodeboot
from sensornode import setup, wifi
from sensornode.node import main

setup.WEB, setup.NAMES = PORTS
wifi.JOIN_MS = 300
network.WLAN.networks = {"home": (-60, "geheim & co", False), "cafe": (-50, None, False)}
main(nodeboot.start(os.getcwd()), os.getcwd())
"""
CLAIM = "00112233445566778899aabbccddeeff"


class Board:
    """A node that knows no network, and what people have in their hands."""

    def __init__(
        self,
        command: Callable[..., list[str]],
        environ: dict[str, str],
        folder: Path,
        configuration: dict[str, Any],
    ) -> None:
        self.folder = folder
        if configuration:
            (folder / "node.json").write_text(json.dumps(configuration))
        self._holder = held_port()
        web = self._holder.getsockname()[1]
        self.ports = web, 10_000 + web % 10_000  # names: below what the system gives to others
        program = folder / "program.py"
        text = PROGRAM.replace("FIRMWARE", repr(str(FIRMWARE))).replace("PORTS", repr(self.ports))
        program.write_text(text)
        self.line, far = pty.openpty()
        tty.setraw(far)
        with (folder / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                command(str(program)), cwd=folder, env=environ, stdin=far, stdout=far, stderr=errors
            )
        os.close(far)
        self.said = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}/"

    def listen(self, wanted: bytes) -> None:
        """Read the serial line until it has said something."""
        end = time.monotonic() + LONG
        while wanted not in self.said:
            ready = select.select([self.line], [], [], 0.2)[0]
            if ready:
                self.said += os.read(self.line, 4096)
            assert time.monotonic() < end, self.said + (self.folder / "errors").read_bytes()

    def get(self, path: str = "") -> str:
        with urllib.request.urlopen(self.url + path, timeout=LONG) as answer:
            return str(answer.read().decode())

    def post(self, **fields: str) -> str:
        body = urllib.parse.urlencode({key.replace("__", "."): value for key, value in fields.items()})
        with urllib.request.urlopen(self.url, body.encode(), timeout=LONG) as answer:
            return str(answer.read().decode())

    def address_of(self, name: str) -> str:
        labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
        query = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0" + labels + b"\0\0\x01\0\x01"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(LONG)
            asker.sendto(query, ("127.0.0.1", self.ports[1]))
            answer = asker.recv(512)
        assert answer[:2] == query[:2]
        assert answer[6:8] == b"\0\x01"
        return socket.inet_ntoa(answer[-4:])

    def improv(self, kind: int, data: bytes) -> None:
        packet = b"IMPROV\x01" + bytes((kind, len(data))) + data
        os.write(self.line, packet + bytes((sum(packet) & 0xFF, 10)))

    def command(self, number: int, *texts: str) -> None:
        data = b"".join(bytes((len(text.encode()),)) + text.encode() for text in texts)
        self.improv(3, bytes((number, len(data))) + data)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.line)
        self._holder.close()


@pytest.fixture
def start_board(device: Any, tmp_path: Path) -> Iterator[Callable[..., Board]]:
    """Starts a board under MicroPython, with what is in node.json."""
    boards: list[Board] = []

    def start(**configuration: Any) -> Board:
        def command(*more: str) -> list[str]:
            return device.command("micropython", *more)

        boards.append(Board(command, device.environ("micropython"), tmp_path, configuration))
        boards[-1].listen(b"sensorhub-bbcc")  # the access point's name, when page and names are there
        return boards[-1]

    yield start
    for board in boards:
        board.end()


def test_from_the_open_page_to_a_node_that_starts_again(start_board: Callable[..., Board]) -> None:
    board = start_board()
    assert board.address_of("connectivitycheck.example.com") == "192.168.4.1"
    page = board.get()
    assert "Set up this node" in page
    assert re.findall(r"<option value='(\w+)'>", page) == ["cafe", "home"]

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    with pytest.raises(urllib.error.HTTPError) as asked:
        urllib.request.build_opener(Stay).open(board.url + "generate_204", timeout=LONG)
    assert asked.value.code == 302
    assert asked.value.headers["Location"] == "http://192.168.4.1/"
    asked.value.close()

    fields = {
        "site": "lab",
        "node": "roof",
        "kind": "weather",
        "broker__host": "10.0.0.1",
        "broker__port": "1883",
        "broker__password": "pass%word=ö",
        "claim": CLAIM,
        "now": "1800000000",
    }
    said = board.post(ssid="home", wifi="wrong", **fields)
    assert "did not let the node in" in said
    assert not (board.folder / "node.json").exists()
    assert board.process.poll() is None
    assert "Saved" in board.post(ssid="home", wifi="geheim & co", **fields)
    assert board.process.wait(LONG) == RESET
    kept = json.loads((board.folder / "node.json").read_text())
    assert kept["wifi"] == [{"ssid": "home", "password": "geheim & co"}]
    assert kept["broker"] == {"host": "10.0.0.1", "port": 1883, "password": "pass%word=ö"}
    assert (kept["site"], kept["node"], kept["claim"]) == ("lab", "roof", CLAIM)
    assert json.loads((board.folder / "nvs-sensornode.json").read_text())["date"] == 30_000_000
    assert b"geheim" not in board.said
    assert not (board.folder / "errors").read_bytes()


def test_improv_over_the_serial_line(start_board: Callable[..., Board]) -> None:
    board = start_board(site="lab", node="roof", broker={"host": "10.0.0.1"})
    board.command(2)
    board.listen(b"IMPROV\x01\x01\x01\x02")  # ready
    board.command(3)
    board.listen(b"\x09sensorhub")
    board.command(4)
    board.listen(b"\x04cafe\x03-50\x02NO")
    board.listen(b"\x04home\x03-60\x03YES")
    board.command(1, "home", "wrong")
    board.listen(b"IMPROV\x01\x02\x01\x03")  # cannot connect
    board.command(1, "home", "geheim & co")
    board.listen(b"IMPROV\x01\x01\x01\x04")  # provisioned
    assert board.process.wait(LONG) == RESET
    kept = json.loads((board.folder / "node.json").read_text())
    assert kept["wifi"] == [{"ssid": "home", "password": "geheim & co"}]
    assert b"geheim" not in board.said
    assert not (board.folder / "errors").read_bytes()


def test_ctrl_c_on_the_serial_line_leads_to_the_prompt(start_board: Callable[..., Board]) -> None:
    board = start_board()
    os.write(board.line, b"\x03")
    until(lambda: board.process.poll() is not None, "the end")
    assert b"KeyboardInterrupt" in (board.folder / "errors").read_bytes() + board.said


def test_the_portal_serves_several_people_at_once_and_survives_rubbish(
    start_board: Callable[..., Board],
) -> None:
    board = start_board()
    held = [socket.create_connection(("127.0.0.1", board.ports[0])) for _ in range(5)]
    for number, connection in enumerate(held):
        connection.sendall((b"GET /", b"\0\xff\r\n\r\n", b"POST / HTTP/1.1\r\n", b"", b"\r\n")[number])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for length in (0, 1, 12, 200, 500):
            asker.sendto(os.urandom(length), ("127.0.0.1", board.ports[1]))
    assert "Set up this node" in board.get()
    assert board.address_of("a.b") == "192.168.4.1"
    for connection in held:
        connection.close()
    assert "Set up this node" in board.get()
