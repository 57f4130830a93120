"""The published vectors: up to date, and what our own code makes and reads."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from sensorhub.wire import (
    Reason,
    WireError,
    cbor,
    decode,
    decode_announce,
    decode_receipt,
    encode_announce,
    encode_message,
    encode_receipt,
    kid,
    parse_pack,
    parse_signed,
    sig_structure,
    verify,
)
from sensorhub.wire.keys import PublicKeyCache, sign_digest

FOLDER = Path(__file__).parents[1] / "vectors"


def test_the_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, FOLDER / "make.py", tmp_path], check=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == [
        "announces.json",
        "cbor.json",
        "invalid.json",
        "messages.json",
        "receipts.json",
        "signatures.json",
    ]
    for name in made:
        assert (FOLDER / name).read_bytes() == (tmp_path / name).read_bytes(), f"{name} is stale: run make.py"


def test_cbor_items(vectors: Any, from_json: Any) -> None:
    for vector in vectors("cbor")["valid"]:
        value = from_json(vector["value"])
        encoded = bytes.fromhex(vector["hex"])
        assert cbor.encode(value) == encoded, vector
        assert repr(cbor.decode(encoded)) == repr(value) or isinstance(value, dict), vector
        assert cbor.decode(encoded) == value, vector
        assert cbor.well_formed(encoded)


def test_cbor_items_that_are_refused(vectors: Any) -> None:
    for vector in vectors("cbor")["invalid"]:
        data = bytes.fromhex(vector["hex"])
        assert cbor.well_formed(data) is vector["well_formed"], vector
        with pytest.raises(cbor.NotDeterministicError):
            cbor.decode(data)


def test_messages(vectors: Any, from_json: Any) -> None:
    for vector in vectors("messages")["vectors"]:
        key = PrivateKey(bytes.fromhex(vector["private_key"]))
        records = [(name, from_json(value), time) for name, value, time in vector["records"]]
        raw = encode_message(
            key,
            records=records,
            prev=bytes.fromhex(vector["prev"]),
            **{name: vector[name] for name in ("site", "node", "boot", "seq", "tq", "uptime", "base_time")},
        )
        assert raw.hex() == vector["message"], vector["name"]

        public = bytes.fromhex(vector["public_key"])
        message = decode(
            raw, public_key={kid(public): public}.get, site=vector["site"], node=vector["node"], now=1.8e9
        )
        signed, pack = message.signed, message.pack
        assert (signed.boot, signed.seq, signed.tq, signed.uptime) == (
            vector["boot"],
            vector["seq"],
            vector["tq"],
            vector["uptime"],
        )
        assert signed.kid.hex() == vector["kid"]
        assert signed.prev.hex() == vector["prev"]
        assert signed.protected.hex() == vector["protected"]
        assert signed.payload.hex() == vector["payload"]
        assert signed.signature.hex() == vector["signature"]
        assert sig_structure(signed.protected, signed.payload).hex() == vector["sig_structure"]
        assert signed.digest.hex() == vector["digest"]
        assert signed.message_hash == hashlib.sha256(raw).digest()
        assert (pack.site, pack.node, pack.base_time) == (vector["site"], vector["node"], vector["base_time"])
        assert list(zip(pack.names, pack.values, pack.times, strict=True)) == records
        assert all(type(time) is float for time in pack.times)
        assert all(type(value) in (float, bytes) for value in pack.values)


def test_the_messages_cover_the_limits(vectors: Any) -> None:
    listed = vectors("messages")["vectors"]
    assert max(len(vector["message"]) // 2 for vector in listed) == 4096
    assert max(len(vector["records"]) for vector in listed) == 256
    assert {vector["tq"] for vector in listed} == {0, 1, 2, 3}
    chain = [vector for vector in listed if vector["node"] == "chain"]
    for earlier, later in itertools.pairwise(chain):
        assert later["prev"] == hashlib.sha256(bytes.fromhex(earlier["message"])).hexdigest()
    assert len(chain) == 3


def test_announces(vectors: Any) -> None:
    for vector in vectors("announces")["vectors"]:
        claim = None if vector["claim"] is None else bytes.fromhex(vector["claim"])
        channels = [tuple(pair) for pair in vector["channels"]]
        said = {name: vector[name] for name in ("kind", "hardware", "firmware")}
        raw = encode_announce(
            PrivateKey(bytes.fromhex(vector["private_key"])),
            channels=channels,
            claim=claim,
            **{name: vector[name] for name in ("site", "node", "boot", "tq", "uptime", "oldest")},
            **said,
        )
        assert raw.hex() == vector["message"]
        announce = decode_announce(raw, site=vector["site"], node=vector["node"])
        assert announce.public_key.hex() == vector["public_key"]
        assert {"kind": announce.kind, "hardware": announce.hardware, "firmware": announce.firmware} == said
        assert (list(announce.channels), announce.claim) == (channels, claim)
        assert announce.oldest == vector["oldest"]
        assert (announce.signed.boot, announce.signed.tq, announce.signed.uptime) == (
            vector["boot"],
            vector["tq"],
            vector["uptime"],
        )


def test_receipts(vectors: Any) -> None:
    for vector in vectors("receipts")["valid"]:
        assert encode_receipt(vector["boot"], vector["seq"]).hex() == vector["hex"]
        assert decode_receipt(bytes.fromhex(vector["hex"])) == (vector["boot"], vector["seq"])
    for vector in vectors("receipts")["invalid"]:
        with pytest.raises(WireError) as caught:
            decode_receipt(bytes.fromhex(vector["hex"]))
        assert caught.value.reason is Reason.NOT_CBOR, vector


def test_signatures(vectors: Any) -> None:
    keys = PublicKeyCache()
    for vector in vectors("signatures")["vectors"]:
        digest = bytes.fromhex(vector["digest"])
        signature = sign_digest(PrivateKey(bytes.fromhex(vector["private_key"])), digest)
        assert signature.hex() == vector["signature"]
        assert keys.verify(bytes.fromhex(vector["public_key"]), digest, signature)


def refuse(vector: dict[str, Any], given: dict[str, Any]) -> WireError:
    keys = {kid(bytes.fromhex(key)): bytes.fromhex(key) for key in given["keys"]}
    raw = bytes.fromhex(vector["message"])
    with pytest.raises(WireError) as caught:
        if vector["leaf"] == "announce":
            decode_announce(raw, site=given["site"], node=given["node"])
        else:
            decode(raw, public_key=keys.get, site=given["site"], node=given["node"], now=given["now"])
    return caught.value


def test_refused_messages_name_the_first_reason(vectors: Any) -> None:
    given = vectors("invalid")
    for vector in given["vectors"]:
        error = refuse(vector, given)
        assert error.reason == vector["reason"], (vector["what"], str(error))
        assert str(error) == f"{vector['reason']}: {error.detail}"


def test_every_reason_has_several_vectors(vectors: Any) -> None:
    counted = Counter(vector["reason"] for vector in vectors("invalid")["vectors"])
    assert set(counted) == {reason.value for reason in Reason}
    assert min(counted.values()) >= 4


def test_refused_messages_are_refused_by_the_parsers_alone(vectors: Any) -> None:
    """What fails before the signature fails in parse_signed; what fails in the pack, in parse_pack."""
    given = vectors("invalid")
    header = [Reason.TOO_LARGE, Reason.NOT_CBOR, Reason.NOT_COSE, Reason.WRONG_ALGORITHM]
    for vector in given["vectors"]:
        raw = bytes.fromhex(vector["message"])
        reason = Reason(vector["reason"])
        if vector["leaf"] == "announce" or "seq 0" in vector["what"]:
            continue
        if reason in header:
            with pytest.raises(WireError) as caught:
                parse_signed(raw)
            assert caught.value.reason is reason
            continue
        signed = parse_signed(raw)
        if reason not in (Reason.UNKNOWN_KID, Reason.BAD_SIGNATURE):
            assert verify(signed, bytes.fromhex(given["keys"][0]))
        if reason in (Reason.NOT_SENML, Reason.UNKNOWN_CHANNEL, Reason.NOT_FINITE):
            with pytest.raises(WireError) as caught:
                parse_pack(signed.payload, tq=signed.tq)
            assert caught.value.reason is reason
