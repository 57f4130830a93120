"""Sealing a picture: the arithmetic, and what is refused. test_camera_seal.py opens what comes out."""

import asyncio
from binascii import hexlify

from sensornode.ecdsa import SigningKey
from sensornode.secp256k1 import N, finish
from sensornode.vision import seal

SITE = SigningKey(bytes(range(1, 33)))
OTHER = SigningKey(bytes(range(2, 34)))


def times(k, public):
    return finish(seal._times(k, seal._point(public)))


def test_both_sides_agree():
    one = int.from_bytes(SITE.secret, "big")
    two = int.from_bytes(OTHER.secret, "big")
    shared = times(one, OTHER.public)
    assert shared == times(two, SITE.public)
    assert shared == times(N - one, OTHER.public), "the negative point has the same x"
    for k in (3, 4, 5, 1 << 255, N - 2, one * two % N):
        expected = SigningKey((k * two % N).to_bytes(32, "big")).public
        assert times(k, OTHER.public).to_bytes(32, "big") == expected[:32], k


def test_keys_that_are_no_points_are_refused():
    wrong = bytearray(SITE.public)
    wrong[63] ^= 1
    for key in (bytes(64), SITE.public[:63], b"\x04" + SITE.public, bytes(wrong), b"\xff" * 64):
        try:
            seal.seal_now(bytes(4), 2, 2, key)
        except seal.SealError as error:
            assert "site key" in str(error)
        else:
            raise AssertionError(hexlify(key))


def test_a_short_frame_is_refused():
    try:
        seal.seal_now(bytes(5), 2, 2, SITE.public)
    except seal.SealError as error:
        assert "5 bytes" in str(error)
    else:
        raise AssertionError


def test_the_same_picture_never_looks_the_same():
    one = seal.seal_now(bytes(16), 4, 4, SITE.public)
    two = seal.seal_now(bytes(16), 4, 4, SITE.public)
    assert one[:8] == two[:8] == seal.MAGIC
    assert one[8:72] != two[8:72]
    assert one[104:120] != two[104:120]
    assert one[-32:] != two[-32:]


def test_sizes():
    for pixels in (0, 1, 11, 12, 13, 28, 19_200):
        sealed = seal.seal_now(bytes(pixels), pixels, 1, SITE.public)
        assert len(sealed) == seal.sealed_size(pixels)


def test_keys_are_derived_as_rfc_5869_says():
    """Expected bytes from pyca/cryptography."""
    out = seal._derive(bytes(range(32)), bytes(range(128)))
    assert len(out) == 80
    assert hexlify(out[:16]) == b"fa4d426de904450f25d55d0058d98ec3"
    assert hexlify(out[64:]) == b"e15f61e58adb54a20b117221ff803108"


async def test_other_tasks_run_while_sealing():
    turns = [0]

    async def other():
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await seal.seal(bytes(19_200), 160, 120, SITE.public)
    task.cancel()
    assert turns[0] > 300
