"""secp256k1 signatures over 32-byte digests (ES256K of RFC 8812), straight through libsecp256k1.

coincurve's public verification takes DER and parses the key at each call; a gateway sees the same few
keys all day, so parsed keys are kept and the library is called on the 64-byte form directly.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any, Final

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

KID_BYTES: Final = 8
PUBLIC_KEY_BYTES: Final = 64
SIGNATURE_BYTES: Final = 64

_context: Final = GLOBAL_CONTEXT.ctx
_new: Final = ffi.new
_parse_signature: Final = lib.secp256k1_ecdsa_signature_parse_compact
_parse_key: Final = lib.secp256k1_ec_pubkey_parse
_verify: Final = lib.secp256k1_ecdsa_verify
_SIGNATURE: Final = ffi.typeof("secp256k1_ecdsa_signature *")
_PUBLIC_KEY: Final = ffi.typeof("secp256k1_pubkey *")


def kid(public_key: bytes) -> bytes:
    """Return the key identifier of a public key (64 bytes, x then y): the first 8 bytes of its SHA-256."""
    return hashlib.sha256(public_key).digest()[:KID_BYTES]


def public_key_of(key: PrivateKey) -> bytes:
    """Return the public key of `key` as 64 bytes, x then y, big endian."""
    return key.public_key.format(compressed=False)[1:]


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """Sign a 32-byte digest: 64 bytes r then s, low s, RFC 6979 nonce, so the same on every run."""
    return key.sign_recoverable(digest, hasher=None)[:SIGNATURE_BYTES]


class PublicKeyCache:
    """Parsed public keys, oldest dropped first, for repeated verification by any number of threads.

    Args:
        limit: how many parsed keys are kept; one takes about 300 bytes.
    """

    __slots__ = ("_keys", "_limit", "_lock")

    def __init__(self, limit: int = 16_384) -> None:
        self._keys: dict[bytes, Any] = {}
        self._limit = limit
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def _parse(self, public_key: bytes) -> Any | None:
        if len(public_key) != PUBLIC_KEY_BYTES:
            return None
        parsed = _new(_PUBLIC_KEY)
        # 0x04: uncompressed point (SEC 1, section 2.3.3); the call checks that it is on the curve
        if not _parse_key(_context, parsed, b"\x04" + public_key, 65):
            return None
        with self._lock:
            while len(self._keys) >= self._limit:
                del self._keys[next(iter(self._keys))]
            self._keys[bytes(public_key)] = parsed
        return parsed

    def verify(self, public_key: bytes, digest: bytes, signature: bytes) -> bool:
        """Check a 64-byte signature over a 32-byte digest.

        False also for a key that is no curve point, for r or s out of range, and for a high s: the library
        accepts the low form only, so one message has one valid signature by a given nonce. The GIL is
        released while the library works.
        """
        parsed = self._keys.get(public_key)
        if parsed is None:
            parsed = self._parse(public_key)
            if parsed is None:
                return False
        if len(signature) != SIGNATURE_BYTES or len(digest) != 32:
            return False
        handle = _new(_SIGNATURE)
        return bool(
            _parse_signature(_context, handle, signature) and _verify(_context, handle, digest, parsed)
        )
