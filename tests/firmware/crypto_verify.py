"""Verification against the shared vectors, against the node's own signatures, and of what is no signature."""

import asyncio
import gc
import os
from binascii import unhexlify

from sensornode.ecdsa import SigningKey
from sensornode.secp256k1 import N, P
from sensornode.verify import GX, VerifyingKey, _joint_sparse
from vectors import load

G = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


def test_the_vectors_are_good_and_a_changed_bit_is_not():
    checked = 0
    keys = {}
    for vector in load("signatures.json")["vectors"]:
        public = vector["public_key"]
        if public.startswith(G):
            continue
        key = keys[public] = keys.get(public) or VerifyingKey(unhexlify(public))
        digest = unhexlify(vector["digest"])
        signature = unhexlify(vector["signature"])
        assert key.verify_now(digest, signature), vector
        checked += 1
        if checked > 4:
            continue
        for at in (0, 31, 32, 63):
            changed = bytearray(signature)
            changed[at] ^= 1
            assert not key.verify_now(digest, bytes(changed))
        changed = bytearray(digest)
        changed[17] ^= 4
        assert not key.verify_now(bytes(changed), signature)
    assert checked > 10


async def test_what_the_node_signs_verifies_and_only_with_its_key():
    keys = [SigningKey.generate() for _ in range(2)]
    for _ in range(3):
        digest = os.urandom(32)
        signature = keys[0].sign_now(digest)
        assert await VerifyingKey(keys[0].public).verify(digest, signature)
        assert not await VerifyingKey(keys[1].public).verify(digest, signature)


def test_numbers_out_of_range_and_a_high_s_are_refused():
    signer = SigningKey(bytes(31) + b"\x07")
    key = VerifyingKey(signer.public)
    digest = bytes(32)
    good = signer.sign_now(digest)
    r, s = good[:32], good[32:]
    high = (N - int.from_bytes(s, "big")).to_bytes(32, "big")
    for bad in (
        b"",
        good[:63],
        good + b"\0",
        r + high,
        bytes(32) + s,
        r + bytes(32),
        N.to_bytes(32, "big") + s,
        r + N.to_bytes(32, "big"),
        b"\xff" * 64,
    ):
        assert not key.verify_now(digest, bad)
    assert not key.verify_now(digest[:31], good)
    assert key.verify_now(digest, good)


def test_a_signature_made_to_let_points_meet_is_refused():
    # Q = 4 G, u1 = 4, u2 = 1: on the way 4 G meets Q. By the book the sum is 8 G, whose x is r.
    four, eight = (SigningKey(bytes(31) + bytes((n,))).public for n in (4, 8))
    s = int.from_bytes(eight[:32], "big")
    assert s <= N >> 1
    digest = (4 * s % N).to_bytes(32, "big")
    assert not VerifyingKey(four).verify_now(digest, eight[:32] + eight[:32])


def test_what_is_no_point_is_no_key():
    good = SigningKey(bytes(31) + b"\x07").public
    off = bytearray(good)
    off[63] ^= 1
    high = P.to_bytes(32, "big") + good[32:]
    for bad in (
        b"",
        good[:63],
        good + b"\0",
        bytes(off),
        high,
        GX.to_bytes(32, "big") + good[32:],
        bytes(64),
    ):
        try:
            VerifyingKey(bad)
        except ValueError:
            continue
        raise AssertionError("took it")


def test_joint_digits_stand_for_their_scalars():
    for _ in range(40):
        one, two = (int.from_bytes(os.urandom(32), "big") % N for _ in range(2))
        for a, b in ((one, two), (one, one), (one, 0), (0, two), (N - 1, N - 2)):
            digits = _joint_sparse(a.to_bytes(34, "little"), b.to_bytes(34, "little"))
            sums = [0, 0]
            for digit in reversed(digits):
                sums = [2 * sums[0] + (digit & 3) - 1, 2 * sums[1] + (digit >> 2) - 1]
            assert sums == [a, b]


async def test_other_tasks_run_between_the_steps():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    signer = SigningKey(bytes(31) + b"\x07")
    task = asyncio.create_task(other())
    assert await VerifyingKey(signer.public).verify(bytes(32), signer.sign_now(bytes(32)))
    task.cancel()
    assert turns > 200


def test_verifying_takes_less_than_8_kilobytes_of_heap():
    if not hasattr(gc, "mem_alloc"):
        return
    signer = SigningKey(bytes(31) + b"\x07")
    key, signature = VerifyingKey(signer.public), signer.sign_now(bytes(32))
    gc.collect()
    before = gc.mem_alloc()
    peak = 0
    for _ in key._verify(bytes(32), signature):
        gc.collect()
        peak = max(peak, gc.mem_alloc() - before)
    assert 500 < peak < 8192, peak
