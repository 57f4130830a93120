"""What the camera announces, before the gateway's own channel table."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from sensorhub.channels import BY_NAME
from sensorhub.wire import decode_announce

PROGRAM = """
import asyncio
from binascii import hexlify
from sensornode import cose, senml
from sensornode.ecdsa import SigningKey
from sensornode.sensors.camera import Sensor

class Services:
    clock = None

key = SigningKey(bytes(range(1, 33)))
sensor = Sensor({"driver": "camera", "zones": [3, 3]}, Services)
known = NAMES
pairs = [pair for pair in sensor.channels if pair[0] in known]
name = senml.base_name("site", "cam")
print(len(sensor.channels), [pair[0] for pair in sensor.channels if pair[0] not in known])
print(hexlify(asyncio.run(cose.announce(key, 1, 0, 5, name, "camera", "board", "1", pairs))).decode())
"""


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_the_gateway_takes_what_the_camera_announces(device: Any, tmp_path: Any, interpreter: str) -> None:
    program = tmp_path / "announce.py"
    program.write_text(PROGRAM.replace("NAMES", repr(sorted(BY_NAME))))
    done = subprocess.run(
        device.command(interpreter, str(program)),
        env=device.environ(interpreter),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts, raw = done.stdout.splitlines()
    announce = decode_announce(bytes.fromhex(raw), site="site", node="cam")
    names = {name for name, _ in announce.channels}
    assert names >= {"luminance", "contrast", "sharpness", "motion", "objects", "frame_sha256"}
    assert counts.startswith("16 ")
