"""Orders that the gateway signs are orders that a node takes, in both interpreters."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from sensorhub.control import sign_config, sign_update
from sensorhub.control.orders import REMOTE, REMOTE_BROKER
from sensorhub.wire import public_key_of
from sensorhub.wire.keys import sign_digest

KEY = PrivateKey(hashlib.sha256(b"the key of a site").digest())

PROGRAM = """
import asyncio
from sensornode import cose, orders, config
from sensornode.verify import VerifyingKey

key = VerifyingKey(bytes.fromhex({public!r}))


def opened(message, content_type):
    return asyncio.run(cose.open_order(key, bytes.fromhex(message), content_type))


order = orders.ConfigOrder(opened({config!r}, orders.CONFIG), "lab", "n")
print(order.version, order.firmware == orders.version_number("0.1.0"), order.settings == {settings!r}, order.expires)
order = orders.UpdateOrder(opened({update!r}, orders.UPDATE), "lab", "n")
print(order.sequence, order.form, order.size, order.sha256.hex(), order.url, order.board, order.expires)
print(sorted(config.REMOTE), sorted(config.REMOTE_BROKER))
for digest, signature in {signatures!r}:
    print(key.verify_now(bytes.fromhex(digest), bytes.fromhex(signature)))
"""


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_what_the_gateway_signs_the_node_takes(interpreter: str, device: Any, tmp_path: Path) -> None:
    settings = {
        "interval": 5,
        "sensors": [{"driver": "bme280", "address": 118, "offset": -0.5, "on": True, "x": None}],
        "broker": {"host": "10.0.0.1"},
    }
    image = b"an image"
    digests = [hashlib.sha256(bytes([n])).digest() for n in range(30)]
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.format(
            public=public_key_of(KEY).hex(),
            config=sign_config(
                KEY,
                site="lab",
                node=None,
                version=7,
                settings=settings,
                firmware="0.1.0",
                expires=1_800_000_000,
            ).hex(),
            update=sign_update(
                KEY,
                site=None,
                node=None,
                sequence=4,
                version="0.2.0",
                minimum="0.1.0",
                form="app",
                image=image,
                url="https://h/x",
                board="ESP32",
                expires=1_800_000_001,
            ).hex(),
            settings=settings,
            signatures=[(digest.hex(), sign_digest(KEY, digest).hex()) for digest in digests],
        )
    )
    done = subprocess.run(
        device.command(interpreter, str(program)),
        env=device.environ(interpreter),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "7 True True 1800000000"
    assert lines[1] == f"4 app 8 {hashlib.sha256(image).hexdigest()} https://h/x ESP32 1800000001"
    assert lines[2] == f"{sorted(REMOTE - {'broker'})} {sorted(REMOTE_BROKER)}"
    assert lines[3:] == ["True"] * 30
