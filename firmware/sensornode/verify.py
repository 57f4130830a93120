"""Check of ECDSA signatures over secp256k1 (ES256K), for what others sign: configuration and updates.

A check takes u1 G + u2 Q in one pass over both scalars (Shamir's trick) in joint sparse form (Solinas, "Low-weight
binary representations for pairs of integers", 2001): 256 doublings and about 128 additions out of four points. Nothing here is
secret, so time may depend on everything.

The additions of secp256k1.py come to z = 0, and stay there, where two points with the same x meet. A
signature made so that this happens is refused; an honest one meets it once in 2**240.
"""

import asyncio

from micropython import const

from .secp256k1 import N, P, add, double, finish, inverse

GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
GY = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8
_DIGITS = const(257)


class VerifyingKey:
    """A public key.

    :param public: x || y, 64 bytes. Raises ValueError when that is no point of the curve.
    """

    def __init__(self, public):
        x = int.from_bytes(public[:32], "big")
        y = int.from_bytes(public[32:], "big")
        if len(public) != 64 or x >= P or y >= P or (y * y - x * x * x - 7) % P or x == GX:
            raise ValueError("a public key is the 64 bytes x, y of a point of secp256k1")
        self.public = bytes(public)
        self._x = x
        self._y = y

    async def verify(self, digest, signature):
        """True when `signature` (r || s, low s) is this key's for a 32-byte digest; other tasks run between the steps."""
        steps = self._verify(digest, signature)
        try:
            while True:
                next(steps)
                await asyncio.sleep(0)
        except StopIteration as end:
            return end.value

    def verify_now(self, digest, signature):
        """As `verify`, without a pause."""
        return finish(self._verify(digest, signature))

    def _verify(self, digest, signature):
        r = int.from_bytes(signature[:32], "big")
        s = int.from_bytes(signature[32:], "big")
        if len(signature) != 64 or len(digest) != 32 or not 0 < r < N or not 0 < s <= N >> 1:
            return False
        w = yield from inverse(s, N)
        u1 = int.from_bytes(digest, "big") * w % N
        u2 = r * w % N
        digits = _joint_sparse(u1.to_bytes(34, "little"), u2.to_bytes(34, "little"))
        yield
        # the points that are added: G, Q, Q + G, Q - G; the digit pair (d1, d2) and its negative share one
        x, y = self._x, self._y
        slope = yield from inverse((x - GX) % P, P)
        points = {
            (1, 0): (GX, GY),
            (0, 1): (x, y),
            (1, 1): _sum(x, y, GY, slope),
            (-1, 1): _sum(x, y, -GY, slope),
        }
        x = y = z = 0
        for at in range(_DIGITS - 1, -1, -1):
            d1 = (digits[at] & 3) - 1
            d2 = (digits[at] >> 2) - 1
            if z:
                x, y, z = double(x, y, z)
            if d1 or d2:
                point = points.get((d1, d2))
                if point:
                    x2, y2 = point
                else:
                    x2, y2 = points[-d1, -d2]
                    y2 = P - y2
                if not z:
                    x, y, z = x2, y2, 1
                else:
                    x, y, z = add(x, y, z, x2, y2)
                    if not z:
                        return False
            yield
        zz = z * z % P
        # the affine x modulo N is r: x is r, or r + N where that is below P
        return bool(z) and (r * zz % P == x or r + N < P and (r + N) * zz % P == x)


def _sum(x, y, gy, slope):
    """Affine (x, y) + (GX, gy), `slope` being 1 / (x - GX)."""
    m = (y - gy) * slope % P
    x3 = (m * m - x - GX) % P
    return x3, (m * (GX - x3) - gy) % P


def _joint_sparse(one, two):
    """Digit pairs of two scalars (little-endian bytes), lowest first: d1 + 1 in bits 0 and 1, d2 + 1 in bits 2 and 3."""
    digits = bytearray(_DIGITS)
    carry1 = carry2 = 0
    for at in range(_DIGITS):
        i = at >> 3
        shift = at & 7
        low1 = ((one[i] | one[i + 1] << 8) >> shift) + carry1 & 7
        low2 = ((two[i] | two[i + 1] << 8) >> shift) + carry2 & 7
        d1 = _digit(low1, low2)
        d2 = _digit(low2, low1)
        # what is left after the digit: (carry + bit - digit) / 2
        carry1 = (carry1 + (one[i] >> shift & 1) - d1) // 2
        carry2 = (carry2 + (two[i] >> shift & 1) - d2) // 2
        digits[at] = d1 + 1 | (d2 + 1) << 2
    return digits


def _digit(low, other):
    """The digit for a scalar whose lowest three bits are `low` beside one whose lowest are `other`."""
    if not low & 1:
        return 0
    digit = 2 - (low & 3)
    return -digit if low in (3, 5) and other & 3 == 2 else digit
