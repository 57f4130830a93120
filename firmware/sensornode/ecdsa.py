"""ECDSA signatures over secp256k1 (ES256K, RFC 8812) with the deterministic nonce of RFC 6979."""

import asyncio
from hashlib import sha256

from .secp256k1 import N, finish, inverse, multiply, random_scalar


def hmac_sha256(key, message):
    """HMAC of RFC 2104 for keys of at most 64 bytes."""
    key = key + bytes(64 - len(key))
    inner = sha256(bytes(b ^ 0x36 for b in key))
    inner.update(message)
    outer = sha256(bytes(b ^ 0x5C for b in key))
    outer.update(inner.digest())
    return outer.digest()


def nonces(secret, digest):
    """Nonces for a 32-byte secret and a 32-byte digest, in the order of RFC 6979, section 3.2."""
    seed = secret + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    key = bytes(32)
    v = b"\x01" * 32
    for mark in b"\x00", b"\x01":
        key = hmac_sha256(key, v + mark + seed)
        v = hmac_sha256(key, v)
    while True:
        v = hmac_sha256(key, v)
        nonce = int.from_bytes(v, "big")
        if 0 < nonce < N:
            yield nonce
        key = hmac_sha256(key, v + b"\x00")
        v = hmac_sha256(key, v)


class SigningKey:
    """A secret key and its public key.

    :param secret: 32 bytes, a number from 1 to N - 1.
    :param public: the public key x || y, 64 bytes, when it is known; otherwise it is computed.
    """

    def __init__(self, secret, public=None):
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < N:
            raise ValueError("a secret key is 32 bytes, above 0 and below the group order")
        self.secret = secret
        self.public = public or _point(finish(multiply(int.from_bytes(secret, "big"))))

    @classmethod
    def generate(cls):
        """New random key. On an ESP32 start the radio first: without it os.urandom is not random enough."""
        return cls(random_scalar().to_bytes(32, "big"))

    async def sign(self, digest):
        """Signature r || s, 64 bytes, low s, of a 32-byte digest; other tasks run between the steps."""
        steps = self._sign(digest)
        try:
            while True:
                next(steps)
                await asyncio.sleep(0)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()  # a cancelled signature leaves no file open

    def sign_now(self, digest):
        """As `sign`, without a pause."""
        return finish(self._sign(digest))

    def _sign(self, digest):
        z = int.from_bytes(digest, "big")
        for k in nonces(self.secret, digest):
            r = (yield from multiply(k))[0] % N
            # (z + r d) / k with every secret multiplied by a random number, as big-integer times tell sizes.
            mask = random_scalar()
            d = int.from_bytes(self.secret, "big") * mask % N
            w = yield from inverse(k * mask % N, N)
            s = w * (z * mask + r * d) % N
            if r and s:
                return _point((r, min(s, N - s)))


def _point(pair):
    return pair[0].to_bytes(32, "big") + pair[1].to_bytes(32, "big")
