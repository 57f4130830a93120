"""What ships beside the signing code, checked against its sources and an independent implementation."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import coincurve
import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
COMB = PROJECT / "firmware" / "sensornode" / "comb.bin"


def script(name: str) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(name, str(PROJECT / "tools" / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_comb_file_is_the_generated_one(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROJECT / "tools" / "comb", tmp_path / "comb.bin"], check=True)
    assert (tmp_path / "comb.bin").read_bytes() == COMB.read_bytes()
    assert COMB.stat().st_size == 64 * 1024


@pytest.mark.parametrize("block", range(8))
@pytest.mark.parametrize("row", [0, 1, 64, 85, 127])
def test_comb_rows_are_the_multiples_their_layout_says(block: int, row: int) -> None:
    scalar = 1 << 28
    for tooth in range(7):
        scalar += 1 << 4 * tooth if row >> tooth & 1 else -(1 << 4 * tooth)
    point = coincurve.PrivateKey.from_int(scalar << 32 * block).public_key.format(compressed=False)[1:]
    start = 64 * (128 * block + row)
    assert COMB.read_bytes()[start : start + 64] == point


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_signatures_of_new_keys_verify(device: Any, tmp_path: Path, interpreter: str) -> None:
    program = tmp_path / "sign.py"
    program.write_text(
        "from hashlib import sha256\n"
        "from binascii import hexlify\n"
        "from sensornode.ecdsa import SigningKey\n"
        "for i in range(40):\n"
        "    key = SigningKey.generate()\n"
        "    digest = sha256(b'%d' % i).digest()\n"
        "    for part in key.secret, key.public, digest, key.sign_now(digest):\n"
        "        print(hexlify(part).decode(), end=' ')\n"
        "    print()\n"
    )
    done = subprocess.run(
        device.command(interpreter, str(program)),
        env=device.environ(interpreter),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 40
    half = coincurve.utils.GROUP_ORDER_INT // 2
    for line in lines:
        secret, public, digest, signature = map(bytes.fromhex, line.split())
        key = coincurve.PrivateKey(secret)
        assert key.public_key.format(compressed=False)[1:] == public
        recoverable = key.sign_recoverable(digest, hasher=None)
        assert signature == recoverable[:64]
        assert int.from_bytes(signature[32:], "big") <= half


def test_signing_fits_a_small_heap(device: Any) -> None:
    program = "from sensornode.ecdsa import SigningKey; SigningKey(bytes(31) + b'1').sign_now(bytes(32)); print('signed')"
    done = subprocess.run(
        device.command("micropython", "-X", "heapsize=48k", "-c", program),
        env=device.environ("micropython"),
        capture_output=True,
        text=True,
    )
    assert done.stdout == "signed\n", done.stdout + done.stderr


DEB822 = """\
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
# a comment
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian.gpg] http://lines.example/debian bookworm main contrib # note
deb-src http://lines.example/debian bookworm main
deb http://plain.example/debian stable main
deb [signed-by=/etc/apt/keyrings/other.gpg] http://third.example/apt stable stable
"""


def test_the_mirror_and_its_key_come_from_the_apt_sources(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d" / "other.sources.disabled").write_text(DEB822.replace("mirror", "disabled"))
    block = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----"
    assert script("micropython").sources(tmp_path) == [
        {"uris": "http://lines.example/debian", "signed-by": "/usr/share/keyrings/debian.gpg"},
        {"uris": "http://plain.example/debian"},
        {"uris": "http://mirror.example/debian", "signed-by": "\n " + block},
    ]


def test_a_wrong_interpreter_is_refused_with_a_remedy() -> None:
    environ = {**os.environ, "MICROPYTHON": "/bin/true"}
    done = subprocess.run(
        [PROJECT / "tools" / "micropython", "--path"], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "/bin/true" in done.stderr
    assert "remedy" in done.stderr


def test_the_interpreter_is_new_enough(micropython: Path) -> None:
    found = script("micropython").version(micropython)
    assert found is not None
    assert found >= (1, 23)


def test_firmware_tests_name_the_units_of_the_channel_table() -> None:
    from sensorhub.channels import BY_NAME

    source = (PROJECT / "tests" / "firmware" / "codec_cose.py").read_text()
    units = eval(source[source.index("UNITS = ") + 8 :].split("}\n")[0] + "}")
    assert units == {name: BY_NAME[name].unit or None for name in units}
