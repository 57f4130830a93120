"""The site's side of a sealed picture, after firmware/CAMERA.md, with other people's cryptography. For CPython."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import sha256

from coincurve import PrivateKey, PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.padding import PKCS7


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A picture: `pixels` are width * height grey bytes, `digest` their SHA-256 as in the channel `frame_sha256`."""

    width: int
    height: int
    pixels: bytes
    digest: bytes


def open_snapshot(sealed: bytes, site_key: PrivateKey) -> Snapshot:
    """Open a sealed picture with the site's secret key. Raises ValueError when it is not whole or not for this key."""
    if len(sealed) < 8 + 64 + 32 + 16 + 32 or sealed[:8] != b"SHSEAL\x00\x01":
        raise ValueError("this is no sealed picture of format 1")
    one_time, body, tag = sealed[8:72], sealed[104:-32], sealed[-32:]
    point = PublicKey(b"\x04" + one_time).multiply(site_key.secret).format(compressed=False)
    salt = one_time + site_key.public_key.format(compressed=False)[1:]
    secret = HKDF(SHA256(), 80, salt, b"sensorhub snapshot/1").derive(point[1:33])
    if not hmac.compare_digest(hmac.digest(secret[32:64], sealed[:-32], "sha256"), tag):
        raise ValueError("the picture is damaged, or sealed to another key")
    steps = Cipher(algorithms.AES(secret[:32]), modes.CBC(secret[64:80])).decryptor()
    unpad = PKCS7(128).unpadder()
    text = unpad.update(steps.update(body) + steps.finalize()) + unpad.finalize()
    width, height = int.from_bytes(text[:2], "big"), int.from_bytes(text[2:4], "big")
    pixels = text[4:]
    if len(pixels) != width * height or sha256(pixels).digest() != sealed[72:104]:
        raise ValueError("the picture is not the one whose hash is beside it")
    return Snapshot(width, height, pixels, sealed[72:104])
