"""A picture that only the site can open: ECDH with a key of its own on secp256k1, HKDF-SHA256, AES-256-CBC, HMAC-SHA256.

Encrypted first, then authenticated, all from what a stock MicroPython has. The hash of the frame inside is the channel
`frame_sha256` of the record that the node signed at the same instant: the record says who took the picture and when, this only
keeps it secret. CAMERA.md has the format.
"""

import asyncio
from hashlib import sha256

from cryptolib import aes
from micropython import const

from ..ecdsa import hmac_sha256
from ..secp256k1 import N, P, add, double, finish, inverse, multiply, random_scalar

MAGIC = b"SHSEAL\x00\x01"
HEAD = 8 + 64 + 32  # magic, key of this picture, SHA-256 of the frame
TAG = 32
_INFO = b"sensorhub snapshot/1"
_CBC = const(2)
_PIECE = const(2048)  # bytes between two yields, a multiple of the block


class SealError(ValueError):
    """Raised when a picture cannot be sealed to the key given."""


async def seal(frame, width, height, site_key):
    """The frame as sealed bytes; other tasks run between the steps.

    :param frame: width * height bytes, grey.
    :param site_key: public key x || y, 64 bytes. Raises SealError when that is no point of the curve.
    """
    steps = _seal(frame, width, height, site_key)
    try:
        while True:
            next(steps)
            await asyncio.sleep(0)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()


def seal_now(frame, width, height, site_key):
    """As `seal`, without a pause."""
    return finish(_seal(frame, width, height, site_key))


def sealed_size(pixels):
    """Bytes of a sealed frame of that many pixels."""
    return HEAD + (4 + pixels) // 16 * 16 + 16 + TAG


def _seal(frame, width, height, site_key):
    frame = memoryview(frame)
    size = len(frame)
    if size != width * height:
        raise SealError("the frame has %d bytes, not %d times %d" % (size, width, height))
    point = _point(site_key)
    one_time, shared = yield from _agree(point)
    secret = _derive(shared, one_time + bytes(site_key))
    cipher = aes(secret[:32], _CBC, secret[64:80])

    out = bytearray(sealed_size(size))
    view = memoryview(out)
    out[:8] = MAGIC
    out[8:72] = one_time
    digest = sha256()
    for start in range(0, size, _PIECE):
        digest.update(frame[start : start + _PIECE])
        yield
    out[72:HEAD] = digest.digest()

    # the text is width, height (16 bits each), pixels, padding of PKCS #7: put where its ciphertext goes
    end = len(out) - TAG
    out[HEAD : HEAD + 4] = bytes((width >> 8, width & 255, height >> 8, height & 255))
    at = HEAD + 4
    for start in range(0, size, _PIECE):
        piece = frame[start : start + _PIECE]
        view[at : at + len(piece)] = bytes(piece)  # bytes: the camera's view may be of signed ones
        at += len(piece)
        yield
    padding = end - at
    for index in range(at, end):
        out[index] = padding
    for start in range(HEAD, end, _PIECE):
        piece = view[start : min(start + _PIECE, end)]
        cipher.encrypt(piece, piece)
        yield

    # HMAC of RFC 2104 in pieces: the message is longer than one block of heap ought to be
    key = secret[32:64] + bytes(32)
    inner = sha256(bytes(b ^ 0x36 for b in key))
    for start in range(0, end, _PIECE):
        inner.update(view[start : min(start + _PIECE, end)])
        yield
    outer = sha256(bytes(b ^ 0x5C for b in key))
    outer.update(inner.digest())
    out[end:] = outer.digest()
    return out


def _point(public):
    x = int.from_bytes(public[:32], "big")
    y = int.from_bytes(public[32:], "big")
    if len(public) != 64 or x >= P or y >= P or (y * y - x * x * x - 7) % P:
        raise SealError("a site key is the 64 bytes x, y of a point of secp256k1")
    return x, y


def _agree(point):
    """Steps to (public key of a new key, x of its product with a point)."""
    while True:
        k = random_scalar()
        x, y = yield from multiply(k)
        shared = yield from _times(k, point)
        if shared is not None:
            return x.to_bytes(32, "big") + y.to_bytes(32, "big"), shared.to_bytes(32, "big")


def _times(k, point):
    """Steps to the x of k times a point, or None where the additions met the same x twice (once in 2**250).

    Digits are +1 and -1 only, so every bit costs one doubling and one addition whatever k is. An odd number of 257 bits is
    the sum of +-2**i; the order of the group is odd, so that k or k plus the order is odd.
    """
    x2, y2 = point
    if not k & 1:
        k += N
    half = (k + (1 << 257) - 1 >> 1).to_bytes(33, "big")  # bit i set: +2**i, clear: -2**i
    z = random_scalar()  # of the point's Jacobian forms a random one
    zz = z * z % P
    x, y = x2 * zz % P, y2 * zz * z % P
    for i in range(255, -1, -1):
        x, y, z = double(x, y, z)
        sign = half[32 - (i >> 3)] >> (i & 7) & 1
        x, y, z = add(x, y, z, x2, (P - y2, y2)[sign])
        yield
    if not z:
        return None
    z = yield from inverse(z, P)
    return x * (z * z % P) % P


def _derive(secret, salt):
    """80 bytes by HKDF-SHA256 (RFC 5869): key of the cipher, key of the tag, first block."""
    salt = sha256(
        salt
    ).digest()  # hmac_sha256 takes keys of up to 64 bytes, and longer ones are hashed (RFC 2104)
    key = hmac_sha256(salt, secret)
    out = block = b""
    for count in range(1, 4):
        block = hmac_sha256(key, block + _INFO + bytes((count,)))
        out += block
    return out[:80]
