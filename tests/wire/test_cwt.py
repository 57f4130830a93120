"""Our COSE against an independent implementation (PyPI `cwt`, over OpenSSL), in both directions."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import cbor2
import pytest
from coincurve import PrivateKey
from cwt import COSE, COSEKey
from cwt.exceptions import VerifyError

from sensorhub.wire import Reason, WireError, decode, kid, parse_signed, public_key_of

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
KEY = PrivateKey(hashlib.sha256(b"cwt interoperation").digest())
PUBLIC = public_key_of(KEY)


def cose_key(key: PrivateKey, *, private: bool) -> Any:
    """Return a COSE_Key (RFC 9052, section 7): EC2, curve secp256k1 (8), ES256K."""
    public = public_key_of(key)
    fields = {1: 2, 2: kid(public), 3: -47, -1: 8, -2: public[:32], -3: public[32:]}
    return COSEKey.new(fields | {-4: key.secret} if private else fields)


@pytest.mark.parametrize("name", ["messages", "announces"])
def test_cwt_verifies_what_we_sign(vectors: Any, name: str) -> None:
    for vector in vectors(name)["vectors"]:
        key = cose_key(PrivateKey(bytes.fromhex(vector["private_key"])), private=False)
        raw = bytes.fromhex(vector["message"])
        protected, unprotected, payload = COSE.new().decode_with_headers(raw, key)
        assert payload.hex() == vector["payload"]
        assert unprotected == {}
        assert protected == {
            1: -47,
            4: bytes.fromhex(vector["kid"]),
            -65537: [vector["boot"], vector["seq"]],
            -65538: bytes.fromhex(vector["prev"]),
            -65539: [vector["tq"], vector["uptime"]],
        }
        with pytest.raises(VerifyError):
            COSE.new().decode(raw[:-1] + bytes([raw[-1] ^ 1]), key)


def test_cbor2_reads_the_payloads_we_write(vectors: Any, from_json: Any) -> None:
    labels = {0: "n", 1: "u", 2: "v", 6: "t", 8: "vd", -2: "bn", -3: "bt"}
    for vector in vectors("messages")["vectors"]:
        records = [
            {labels[key]: value for key, value in item.items()}
            for item in cbor2.loads(bytes.fromhex(vector["payload"]))
        ]
        assert records[0].pop("bn") == f"urn:dev:sensorhub:{vector['site']}:{vector['node']}:"
        assert records[0].pop("bt", None) == vector["base_time"]
        read = [[item["n"], item["vd"] if "vd" in item else item["v"], item.get("t", 0)] for item in records]
        assert read == from_json(vector["records"])


def test_we_verify_what_cwt_signs(vectors: Any) -> None:
    """OpenSSL picks its own nonce and does not lower s: half of its signatures are the permitted half."""
    accepted = refused = 0
    for seq in range(1, 41):
        payload = cbor2.dumps(
            [
                {0: "temperature", 1: "Cel", 2: 20.5 + seq, -2: "urn:dev:sensorhub:graz:roof:", -3: 1_700_000_000},
                {0: "humidity", 1: "%RH", 2: seq, 6: 10},
            ],
            canonical=True,
        )  # fmt: skip
        header = {1: -47, 4: kid(PUBLIC), -65537: [2, seq], -65538: bytes(32), -65539: [2, 99]}
        key = cose_key(KEY, private=True)
        raw = COSE.new(deterministic_header=True).encode_and_sign(payload, key, protected=header)
        given: Any = {
            "public_key": {kid(PUBLIC): PUBLIC}.get,
            "site": "graz",
            "node": "roof",
            "now": time.time(),
        }
        s = int.from_bytes(raw[-32:], "big")
        if s > ORDER // 2:
            with pytest.raises(WireError) as caught:
                decode(raw, **given)
            assert caught.value.reason is Reason.BAD_SIGNATURE
            raw = raw[:-32] + (ORDER - s).to_bytes(32, "big")
            refused += 1
        else:
            accepted += 1
        message = decode(raw, **given)
        assert (message.signed.boot, message.signed.seq) == (2, seq)
        assert message.pack.names == ("temperature", "humidity")
        assert message.pack.values == (20.5 + seq, float(seq))
        assert message.pack.times == (0.0, 10.0)
    assert accepted
    assert refused


def test_header_bytes_are_the_same_as_those_of_cwt(vectors: Any) -> None:
    for vector in vectors("messages")["vectors"]:
        key = cose_key(PrivateKey(bytes.fromhex(vector["private_key"])), private=True)
        signed = parse_signed(bytes.fromhex(vector["message"]))
        theirs = COSE.new(deterministic_header=True).encode_and_sign(
            signed.payload, key, protected=cbor2.loads(signed.protected)
        )
        assert theirs[:-64] == signed.raw[:-64]
