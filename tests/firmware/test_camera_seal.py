"""Pictures sealed by both interpreters, opened with other people's cryptography; damaged ones stay closed."""

from __future__ import annotations

import subprocess
from typing import Any

import coincurve
import pytest

from sensorhub.control.snapshots import SnapshotError, open_snapshot

SITE = coincurve.PrivateKey(bytes(range(1, 33)))
PROGRAM = """
from binascii import hexlify
from array import array
from sensornode.vision.seal import seal_now
key = bytes.fromhex("%s")
for width, height in ((1, 1), (3, 4), (160, 120)):
    frame = array("b", bytes(width * height))
    for i in range(len(frame)):
        frame[i] = (i * i + 5 * i) %% 251 - 125
    print(width, height, hexlify(seal_now(memoryview(frame), width, height, key)).decode())
"""


@pytest.fixture(scope="module", params=["micropython", "cpython"])
def sealed(request: pytest.FixtureRequest, device: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("seal")
    program = folder / "seal.py"
    program.write_text(PROGRAM % SITE.public_key.format(compressed=False)[1:].hex())
    done = subprocess.run(
        device.command(request.param, str(program)),
        env=device.environ(request.param),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_the_site_opens_them(sealed: Any) -> None:
    assert len(sealed) == 3
    for width, height, text in sealed:
        snapshot = open_snapshot(bytes.fromhex(text), SITE)
        count = int(width) * int(height)
        assert (snapshot.width, snapshot.height) == (int(width), int(height))
        assert snapshot.pixels == bytes(((i * i + 5 * i) % 251 - 125) % 256 for i in range(count))


def test_nobody_else_opens_them(sealed: Any) -> None:
    with pytest.raises(SnapshotError, match="another key"):
        open_snapshot(bytes.fromhex(sealed[1][2]), coincurve.PrivateKey(bytes(range(2, 34))))


def test_a_changed_bit_anywhere_is_noticed(sealed: Any) -> None:
    whole = bytes.fromhex(sealed[1][2])
    for index in range(len(whole)):
        damaged = bytearray(whole)
        damaged[index] ^= 1 << index % 8
        with pytest.raises(SnapshotError, match="damaged|format|public key"):
            open_snapshot(bytes(damaged), SITE)
    for length in (0, 8, 103, len(whole) - 1):
        with pytest.raises(SnapshotError, match="damaged|format"):
            open_snapshot(whole[:length], SITE)
