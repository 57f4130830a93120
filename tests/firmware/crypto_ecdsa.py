"""Signatures against the shared vectors, and signing beside other work."""

import asyncio
import gc
from binascii import hexlify, unhexlify
from hashlib import sha256

from sensornode.ecdsa import SigningKey, hmac_sha256, nonces
from sensornode.secp256k1 import N
from vectors import load


def test_hmac_sha256():
    # RFC 4231, test cases 1 and 2
    assert hexlify(hmac_sha256(b"\x0b" * 20, b"Hi There")).startswith(b"b0344c61d8db38535ca8afceaf0bf12b")
    assert hexlify(hmac_sha256(b"Jefe", b"what do ya want for nothing?")).startswith(
        b"5bdcc146bf60754e6a042426"
    )


def test_the_nonce_of_rfc_6979():
    secret = bytes(31) + b"\x01"
    first = next(nonces(secret, sha256(b"Satoshi Nakamoto").digest()))
    assert first == 0x8F8A276C19F4149656B280621E358CCE24F5F52542772691EE69063B74F15D15


def test_the_next_nonce_differs():
    source = nonces(bytes(31) + b"\x01", sha256(b"").digest())
    drawn = [next(source) for _ in range(4)]
    assert len(set(drawn)) == 4
    assert all(0 < nonce < N for nonce in drawn)


def test_signatures_and_public_keys_of_the_vectors():
    keys = {}
    for vector in load("signatures.json")["vectors"]:
        secret = vector["private_key"]
        if secret not in keys:
            keys[secret] = SigningKey(unhexlify(secret))
        key = keys[secret]
        assert hexlify(key.public).decode() == vector["public_key"], vector
        signature = key.sign_now(unhexlify(vector["digest"]))
        assert hexlify(signature).decode() == vector["signature"], vector


async def test_other_tasks_run_between_the_steps():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    key = SigningKey(bytes(31) + b"\x01")
    digest = sha256(b"Satoshi Nakamoto").digest()
    task = asyncio.create_task(other())
    signature = await key.sign(digest)
    task.cancel()
    assert turns >= 64, turns
    assert signature == key.sign_now(digest)


async def test_signatures_made_at_the_same_time_do_not_mix():
    vectors = load("signatures.json")["vectors"][-4:]
    signing = [SigningKey(unhexlify(v["private_key"])).sign(unhexlify(v["digest"])) for v in vectors]
    signatures = await asyncio.gather(*signing)
    assert [hexlify(s).decode() for s in signatures] == [v["signature"] for v in vectors]


def test_a_generated_key_signs():
    keys = [SigningKey.generate() for _ in range(2)]
    assert keys[0].secret != keys[1].secret
    for key in keys:
        assert len(key.secret) == 32
        assert key.public == SigningKey(key.secret).public
        assert len(key.sign_now(bytes(32))) == 64


def test_a_secret_out_of_range_is_refused():
    for secret in (bytes(32), N.to_bytes(32, "big"), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33):
        try:
            SigningKey(secret)
        except ValueError as error:
            assert secret.hex() not in str(error)
        else:
            raise AssertionError(secret)


def test_a_key_does_not_show_its_secret():
    secret = sha256(b"a secret").digest()
    for text in (repr(SigningKey(secret)), str(SigningKey(secret))):
        assert repr(secret) not in text
        for start in range(29):  # of fewer digits the address of the object may have the same
            assert hexlify(secret[start : start + 4]).decode() not in text


def test_signing_takes_less_than_8_kilobytes_of_heap():
    if not hasattr(gc, "mem_alloc"):
        return
    key = SigningKey(bytes(31) + b"\x01")
    gc.collect()
    before = gc.mem_alloc()
    peak = 0
    for _ in key._sign(bytes(32)):
        gc.collect()
        peak = max(peak, gc.mem_alloc() - before)
    assert 500 < peak < 8192, peak


async def test_a_cancelled_signature_can_be_made_again():
    key = SigningKey(bytes(31) + b"\x01")
    digest = sha256(b"Satoshi Nakamoto").digest()
    task = asyncio.create_task(key.sign(digest))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("not cancelled")
    assert await key.sign(digest) == key.sign_now(digest)
