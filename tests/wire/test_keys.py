"""Signatures: RFC 6979 and low s against OpenSSL, the key cache, and threads."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coincurve import PrivateKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from sensorhub.wire import PublicKeyCache, kid, public_key_of

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


def test_signatures_are_rfc_6979_with_low_s(vectors: Any) -> None:
    algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True)
    for vector in vectors("signatures")["vectors"]:
        private = int(vector["private_key"], 16)
        der = ec.derive_private_key(private, ec.SECP256K1()).sign(bytes.fromhex(vector["digest"]), algorithm)
        r, s = utils.decode_dss_signature(der)
        expected = r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")
        assert vector["signature"] == expected.hex()


def test_public_keys_and_kids(vectors: Any) -> None:
    for vector in vectors("signatures")["vectors"]:
        numbers = (
            ec.derive_private_key(int(vector["private_key"], 16), ec.SECP256K1())
            .public_key()
            .public_numbers()
        )
        public = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        assert public.hex() == vector["public_key"]
        assert public_key_of(PrivateKey(bytes.fromhex(vector["private_key"]))) == public
        assert kid(public) == hashlib.sha256(public).digest()[:8]


def test_unusable_keys_and_signatures_are_false_not_errors(vectors: Any) -> None:
    vector = vectors("signatures")["vectors"][-1]
    public, digest, signature = (
        bytes.fromhex(vector[name]) for name in ("public_key", "digest", "signature")
    )
    keys = PublicKeyCache()
    assert keys.verify(public, digest, signature)
    for bad in (b"", bytes(64), b"\xff" * 64, public[:63], public + b"\0", public[32:] + public[:32]):
        assert not keys.verify(bad, digest, signature)
    for bad in (b"", signature[:63], signature + b"\0", bytes(64), b"\xff" * 64, signature[:32] + bytes(32)):
        assert not keys.verify(public, digest, bad)
    for bad in (b"", digest[:31], digest + b"\0", bytes(32)):
        assert not keys.verify(public, bad, signature)
    high = signature[:32] + (ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    assert not keys.verify(public, digest, high)
    assert len(keys) == 1


def test_the_cache_stays_within_its_limit(vectors: Any) -> None:
    keys = PublicKeyCache(limit=3)
    listed = vectors("signatures")["vectors"][-50:]
    for vector in listed + listed[:10]:
        assert keys.verify(*(bytes.fromhex(vector[name]) for name in ("public_key", "digest", "signature")))
        assert len(keys) <= 3


def test_threads_may_share_a_cache(vectors: Any) -> None:
    keys = PublicKeyCache(limit=5)
    cases = [
        tuple(bytes.fromhex(vector[name]) for name in ("public_key", "digest", "signature"))
        for vector in vectors("signatures")["vectors"]
    ]

    def check(turn: int) -> bool:
        public, digest, signature = cases[turn % len(cases)]
        other = cases[(turn + 1) % len(cases)]
        right = keys.verify(public, digest, signature)
        wrong = keys.verify(public, other[1], other[2]) and other[0] != public
        return right and not wrong

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(2000)))
