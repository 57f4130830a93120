"""Multiples of the secp256k1 generator (SEC 2, section 2.4.1), made for signing on a microcontroller.

The multiplication is a fixed-base comb whose table sits in the file comb.bin and is read one point at a time.
A scalar is written with digits +1 and -1 only, so no digit is zero and every multiplication is the same 64
mixed additions and 3 doublings. README.md tells how, what it costs, and what it does and does not hide.

Long computations are generators: they yield between steps, so that a caller can let other work go on, and
return their result. `finish` runs one through.
"""

import os

P = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F  # the field
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # the order of the generator

TABLE = __file__.rpartition("/")[0] + "/comb.bin"
BLOCKS = 8  # of 8 teeth each, 4 bits apart: 8 * 8 * 4 = 256 digits
SPACING = 4
POINTS = 128  # a block keeps the points whose highest tooth is +1; the others are their negatives

# A detour of any dense scalar, here SHA-256 of "sensornode comb offset": start there, and go back at the end.
# Without it the two shares of a very small scalar cancel out half way.
_DETOUR = 0x439563EE939C95A840E7D54B3E8D28118E8027DEBE9078BAD7B8FBE1AD15B2DF
_BACK_X = 0x58113B37BE0800FF2B2B9FE08303C68C3BCCA53626DE3FFC8F4779ABBF2B49F2
_BACK_Y = 0x8CE70F93902B0102D5620A7044998376E73E67825F9A034FC6260AEF93DAC2A2
_HALF = (N + 1) // 2  # 1/2 mod N
_SHIFT = (2**256 - 1 + _DETOUR * _HALF) % N


def finish(steps):
    """Run a generator to its end without a pause and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def random_scalar():
    """Uniformly random number from 1 to N - 1."""
    while True:
        number = int.from_bytes(os.urandom(32), "big")
        if 0 < number < N:
            return number


def inverse(x, modulus):
    """Inverse of x, 0 < x < modulus, for a prime modulus. The time depends on x: never give it a bare secret."""
    a, b, u, v = x, modulus, 1, 0
    while a:
        for _ in range(16):
            if a:
                q = b // a
                a, b = b - q * a, a
                u, v = v - q * u, u
        yield
    return v % modulus


def add(x1, y1, z1, x2, y2):
    """Jacobian (x1, y1, z1) plus affine (x2, y2); z is 0, and stays 0, when the two have the same x."""
    zz = z1 * z1 % P
    h = x2 * zz - x1
    r = y2 * (z1 * zz % P) - y1
    h %= P
    r %= P
    hh = h * h % P
    hhh = h * hh % P
    v = x1 * hh % P
    x3 = (r * r - hhh - v - v) % P
    return x3, (r * (v - x3) - y1 * hhh) % P, z1 * h % P


def double(x, y, z):
    """Twice the Jacobian point (x, y, z)."""
    yy = y * y % P
    d = 4 * x * yy % P
    e = 3 * x * x % P
    x3 = (e * e - d - d) % P
    return x3, (e * (d - x3) - 8 * yy * yy) % P, 2 * y * z % P


def _digit(share, block, offset):
    # Bits offset, offset + 4, ... offset + 28 of the block's 4 bytes, highest first.
    digit = 0
    for i in range(28 - 4 * block, 32 - 4 * block):
        byte = share[i] >> offset
        digit = digit << 2 | byte >> 3 & 2 | byte & 1
    return digit


def multiply(k):
    """Steps to k times the generator, 0 < k < N; the result is the affine (x, y).

    Two values of k never come to a result, -detour and -2 detour; a random k is one of them once in 2**255.

    Raises ValueError when the result is not on the curve: comb.bin is damaged or the processor erred.
    """
    point = None
    while point is None:
        point = yield from _multiply(k)
    x, y = point
    if (y * y - x * x * x - 7) % P:
        raise ValueError(TABLE + " is damaged")
    return point


def _multiply(k):
    # Two random shares of k and the detour, each v standing for the sum of +-2**i, which is 2 v - (2**256 - 1).
    v = random_scalar()
    shares = ((k * _HALF + _SHIFT - v) % N).to_bytes(32, "big"), v.to_bytes(32, "big")
    x = y = z = 0
    row = bytearray(64)
    first = memoryview(row)[:32]
    second = memoryview(row)[32:]
    table = open(TABLE, "rb")
    try:
        for i in range(2 * BLOCKS * SPACING):
            block = i % BLOCKS
            digit = _digit(shares[i // BLOCKS % 2], block, SPACING - 1 - i // (2 * BLOCKS))
            negative = 1 - (digit >> 7)
            table.seek(64 * (POINTS * block + (digit ^ 255 * negative) % POINTS))
            table.readinto(row)
            x2 = int.from_bytes(first, "big")
            y2 = int.from_bytes(second, "big")
            y2 = (y2, P - y2)[negative]
            if i:
                if i % (2 * BLOCKS) == 0:
                    x, y, z = double(x, y, z)
                x, y, z = add(x, y, z, x2, y2)
            else:
                # A random one of the point's Jacobian forms: all later x, y and z differ each time.
                z = random_scalar()
                zz = z * z % P
                x, y = x2 * zz % P, y2 * zz * z % P
            yield
    finally:
        table.close()
    x, y, z = add(x, y, z, _BACK_X, _BACK_Y)
    if z == 0:
        return None  # two equal x met in an addition: a chance of about 2**-60, and other shares will do
    z = yield from inverse(z, P)
    zz = z * z % P
    return x * zz % P, y * zz * z % P
