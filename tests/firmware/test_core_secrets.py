"""Everything a node says - console, prompt, status, messages - searched for its secrets in every encoding."""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import signal
import subprocess
import threading
import time
import tty
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from node_harness import LONG, NODE, SITE, Broker, Gateway, Node, until

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
WIFI = ["wifi pässword & 1", "n0t-the-right-one"]
CLAIM = bytes.fromhex("8899aabbccddeeff0011223344556677")
BROKER_PASSWORD = f"{NODE}-secret"

# main.py as after a reset, in a directory of its own, with the prompt behind it
PROGRAM = """
import os, sys
sys.path[:0] = [FIRMWARE + "/sim", FIRMWARE]
import network
import sensornode.node

network.WLAN.networks = {"home": (-60, WIFI, False)}
start = sensornode.node.main
sensornode.node.main = lambda life: start(life, os.getcwd())
with open(FIRMWARE + "/main.py") as file:
    source = file.read()
exec(source)
"""


def forms(secret: bytes) -> set[bytes]:
    """A secret as it might be printed: as it is, hexadecimal, base64, escaped, as numbers, backwards."""
    found: set[bytes] = set()
    for data in (secret, secret[::-1]):
        found |= {data, data.hex().encode(), data.hex().upper().encode(), data.hex(" ").encode()}
        for shift in range(3):  # base64 of something that has it within
            for code in (base64.b64encode, base64.urlsafe_b64encode):
                whole = code(bytes(shift) + data + bytes(2)).rstrip(b"=")
                found.add(whole[4 * (shift > 0) + 2 : (shift + len(data)) * 4 // 3 - 1])
        found.add(repr(data)[2:-1].encode())
        found.add("".join(f"\\x{byte:02x}" for byte in data).encode())
        for separator in (", ", ",", " "):
            found.add(separator.join(map(str, data)).encode())
            found.add(separator.join(map(hex, data)).encode())
        found |= {str(int.from_bytes(data, "big")).encode(), f"{int.from_bytes(data, 'big'):x}".encode()}
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return found
    found |= {json.dumps(text)[1:-1].encode(), urllib.parse.quote(text).encode(), text.encode("utf-16-le")}
    return found | {urllib.parse.quote_plus(text).encode(), ascii(text)[1:-1].encode()}


def parts(secret: bytes) -> set[bytes]:
    """Forms of a secret, and of half of it."""
    half = len(secret) // 2
    return forms(secret) | (forms(secret[:half]) | forms(secret[half:]) if half >= 8 else set())


def secrets_of(folder: Path) -> dict[str, bytes]:
    """The node's secrets by what they are."""
    named = {"claim": CLAIM, "broker": BROKER_PASSWORD.encode()}
    named |= {f"Wi-Fi {number}": password.encode() for number, password in enumerate(WIFI)}
    nvs = folder / "nvs-sensornode.json"
    if nvs.exists():
        named["private key"] = bytes.fromhex(json.loads(nvs.read_text())["key"])
    return named


def assert_none(said: bytes, folder: Path, *without: str) -> None:
    for name, secret in secrets_of(folder).items():
        if name not in without:
            for form in parts(secret):
                assert len(form) < 5 or form not in said, f"the {name}, as {form!r}"


class Listener:
    """Hears every message at the broker."""

    def __init__(self, port: int) -> None:
        self.heard: list[bytes] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, "listener")
        self._client.username_pw_set("gateway", "gateway-secret")
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_message = lambda _, __, message: self.heard.append(
            message.topic.encode() + b" " + message.payload
        )
        hears = threading.Event()
        self._client.on_subscribe = lambda *_: hears.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert hears.wait(LONG)

    def close(self) -> None:
        self._client.disconnect()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    listener = Listener(broker.port)
    yield listener
    listener.close()


def configure(node: Node, **more: Any) -> None:
    wifi = [{"ssid": "home", "password": WIFI[0]}, {"ssid": "other", "password": WIFI[1]}]
    node.configure(**({"wifi": wifi, "claim": CLAIM.hex()} | more))


def test_the_search_finds_what_it_looks_for() -> None:
    secret = bytes(range(100, 132))
    for said in (
        b"key " + secret.hex().encode(),
        repr(secret).encode(),
        repr(list(secret)).encode(),
        base64.b64encode(b"x" + secret),
        base64.b64encode(b"xy" + secret + b"z"),
        base64.b64encode(secret[:16]),
        str(int.from_bytes(secret, "big")).encode(),
        secret[::-1].hex().encode(),
    ):
        assert any(form in said for form in parts(secret)), said


def test_a_whole_life_says_no_secret(node: Node, gateway: Gateway, listener: Listener) -> None:
    configure(node)
    node.start()
    assert node.wait() == 0
    assert gateway.log
    until(lambda: len(listener.heard) > len(gateway.log), "the messages")
    assert_none(node.output.encode(), node.folder)
    # the claim is what the announce is for
    assert_none(b"\n".join(listener.heard), node.folder, "claim")
    announces = [heard for heard in listener.heard if b"/announce " in heard]
    assert_none(b"\n".join(set(listener.heard) - set(announces)), node.folder)


@pytest.mark.parametrize(
    "more",
    [
        {"broker": {"host": "127.0.0.1", "port": 1, "password": BROKER_PASSWORD, "retry": 1}},
        {"broker": {"host": "127.0.0.1", "port": "1883", "password": BROKER_PASSWORD}},
        {"broker": {"host": "127.0.0.1", "pasword": BROKER_PASSWORD}},
        {"broker": BROKER_PASSWORD},
        {"broker": {"host": "127.0.0.1", "password": [BROKER_PASSWORD]}},
        {"wifi": {"ssid": "home", "password": WIFI[0]}},
        {"wifi": [{"ssid": 1, "password": WIFI[0]}]},
        {"wifi": [{"ssid": "home", "password": WIFI[0], "key": WIFI[1]}]},
        {"wifi": [WIFI[0]]},
        {"claim": CLAIM.hex() + "x"},
        {"sensors": [{"driver": "replay", "file": "missing", "password": WIFI[1]}]},
    ],
)
def test_what_is_wrong_is_said_without_it(more: dict[str, Any], node: Node, broker: Broker) -> None:
    configure(node, **more)
    node.start()
    end = time.monotonic() + LONG
    while node.process and node.process.poll() is None and '"last_error": "' not in node.output:
        assert time.monotonic() < end
        time.sleep(0.1)
    if node.process and node.process.poll() is None:
        time.sleep(1)
        node.end(signal.SIGTERM)
    assert node.output
    assert_none(node.output.encode(), node.folder)


def test_the_prompt_shows_the_state_and_no_secret(
    device: Any, broker: Broker, gateway: Gateway, tmp_path: Path
) -> None:
    settings = {
        "site": SITE,
        "node": NODE,
        "kind": "weather",
        "interval": 1,
        "broker": {"host": "127.0.0.1", "port": broker.port, "password": BROKER_PASSWORD},
        "wifi": [{"ssid": "other", "password": WIFI[1]}, {"ssid": "home", "password": WIFI[0]}],
        "sensors": [{"driver": "tmp105", "scl": 22, "sda": 21}],
        "ntp": [],
        "spool": {"bytes": 65536},
        "claim": CLAIM.hex(),
        "button": {"pin": -1},
    }
    (tmp_path / "node.json").write_text(json.dumps(settings))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("FIRMWARE", repr(str(FIRMWARE))).replace("WIFI", repr(WIFI[0])))
    line, far = pty.openpty()
    tty.setraw(far)
    process = subprocess.Popen(
        device.command("micropython", "-i", str(program)),
        cwd=tmp_path,
        env=device.environ("micropython"),
        stdin=far,
        stdout=far,
        stderr=far,
    )
    os.close(far)
    said = b""

    def listen(wanted: bytes) -> None:
        nonlocal said
        end = time.monotonic() + LONG
        while wanted not in said:
            if select.select([line], [], [], 0.2)[0]:
                said += os.read(line, 4096)
            assert time.monotonic() < end, said.decode(errors="replace")

    def listening(prompts: int) -> bool:
        nonlocal said
        if select.select([line], [], [], 0.1)[0]:
            said += os.read(line, 4096)
        return said.count(b">>> ") >= prompts

    try:
        until(lambda: gateway.announces, "the announce")
        process.send_signal(signal.SIGINT)
        listen(b">>> ")
        # the prompt drops what is typed while it is busy
        for number, entry in enumerate(
            (
                "help()",
                "import sensornode",
                "sensornode.show()",
                "sensornode.running",
                "sensornode.running[0].state",
                "sensornode.running[0].config",
                "sensornode.running[0].key",
                "sensornode.running[0].status()",
            )
        ):
            os.write(line, f"{entry}\r".encode())
            listen(entry.encode())
            until(lambda wanted=number + 2: listening(wanted), "the prompt")
    finally:
        process.kill()
        process.wait()
        os.close(line)
    text = said.decode(errors="replace")
    for name in ("time_quality", "firmware", "last_error", "receipt", "online"):
        assert name in text
    assert "<App object" in text
    assert "<State object" in text
    assert_none(said, tmp_path)
