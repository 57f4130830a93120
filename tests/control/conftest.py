"""A site's log that a test writes, and sealing as a node does it, with other people's cryptography."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7

from sensorhub.log.entries import Genesis, MessageEntry, NodeEntry, NodeEvent, encode_entry
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.wire import encode_message, public_key_of

T0 = 1_700_000_000
SITE = "lab"
SITE_KEY = PrivateKey(b"\x15" * 32)


class Written:
    """A log below a data directory, and its reader."""

    def __init__(self, data_dir: Path) -> None:
        signer = NoteSigner.generate("lab.gw/sensorhub")
        self.log = Log.open(data_dir / "log", origin="lab.gw/sensorhub", signer=signer, checkpoint_interval=0)
        self.log.append(encode_entry(Genesis(SITE, "gw", signer.public_key)))
        self.log.commit()
        self.reader = LogReader(data_dir / "log")
        self._seq = 0

    def key(self, node: str) -> PrivateKey:
        return PrivateKey(hashlib.sha256(node.encode()).digest())

    def event(self, node: str, what: NodeEvent = NodeEvent.ENROL) -> int:
        index = self.log.append(
            encode_entry(NodeEntry(T0 * 1000, what, node, "camera", public_key_of(self.key(node))))
        )
        self.log.commit()
        return index

    def message(self, node: str, *records: tuple[str, Any, float], site: str = SITE) -> int:
        self._seq += 1
        raw = encode_message(
            self.key(node),
            site=site,
            node=node,
            boot=1,
            seq=self._seq,
            prev=bytes(32),
            tq=2,
            uptime=self._seq,
            base_time=T0,
            records=list(records),
        )
        index = self.log.append(encode_entry(MessageEntry(T0 * 1000, raw)))
        self.log.commit()
        return index

    def close(self) -> None:
        self.reader.close()
        self.log.close()


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path)
    yield made
    made.close()


def seal(pixels: bytes, width: int, height: int, key: PrivateKey = SITE_KEY) -> bytes:
    """A sealed picture after firmware/CAMERA.md."""
    once = PrivateKey()
    point = key.public_key.multiply(once.secret).format(compressed=False)
    public = once.public_key.format(compressed=False)[1:]
    salt = public + key.public_key.format(compressed=False)[1:]
    secret = HKDF(SHA256(), 80, salt, b"sensorhub snapshot/1").derive(point[1:33])
    pad = PKCS7(128).padder()
    text = pad.update(width.to_bytes(2, "big") + height.to_bytes(2, "big") + pixels) + pad.finalize()
    cipher = Cipher(algorithms.AES(secret[:32]), modes.CBC(secret[64:80])).encryptor()
    sealed = (
        b"SHSEAL\x00\x01" + public + hashlib.sha256(pixels).digest() + cipher.update(text) + cipher.finalize()
    )
    return sealed + hmac.digest(secret[32:64], sealed, "sha256")


@pytest.fixture
def sealed() -> Any:
    """The function `seal`."""
    return seal


@pytest.fixture
def site_key() -> PrivateKey:
    return SITE_KEY
