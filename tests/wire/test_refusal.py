"""Any bytes get a message or a WireError, and the two ways of accepting agree."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import cbor2
import pytest
from coincurve import PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sensorhub.channels import CHANNELS
from sensorhub.wire import (
    Pack,
    Reason,
    Signed,
    WireError,
    cbor,
    decode,
    decode_announce,
    decode_pack,
    decode_receipt,
    encode_message,
    kid,
    parse_pack,
    parse_signed,
    public_key_of,
    verify,
)
from sensorhub.wire.cose import parse_signed_by_rules, sign
from sensorhub.wire.senml import _parse_by_pattern, parse_pack_by_rules

FOLDER = Path(__file__).parents[1] / "vectors"
KEY = PrivateKey(hashlib.sha256(b"refusal").digest())
PUBLIC = public_key_of(KEY)
KEYS = {kid(PUBLIC): PUBLIC}
NOW = 1_700_000_000


def all_messages() -> list[bytes]:
    return [
        bytes.fromhex(vector["message"])
        for name in ("messages", "announces", "invalid")
        for vector in json.loads((FOLDER / f"{name}.json").read_text())["vectors"]
        if len(vector["message"]) < 3000
    ]


MESSAGES = all_messages()


@st.composite
def damaged(draw: st.DrawFn, source: list[bytes]) -> bytes:
    """Return a message with a few bytes changed, dropped, added, repeated or taken from another one."""
    data = bytearray(draw(st.sampled_from(source)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from("changedropaddcopyjoinflip"))
        if kind in "chan" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif kind in "drop":
            del data[at : at + draw(st.integers(1, 9))]
        elif kind in "ad":
            data[at:at] = draw(st.binary(min_size=1, max_size=9))
        elif kind in "cy":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        elif kind in "ji":
            data[at:] = draw(st.sampled_from(source))[at:]
        elif at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


def outcome(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the result, or the reason of the WireError; any other exception is the test's failure."""
    try:
        return function(*args, **kwargs)
    except WireError as error:
        assert isinstance(error.reason, Reason)
        assert error.detail
        return error.reason


@settings(max_examples=600, deadline=None)
@given(st.binary(max_size=200) | damaged(MESSAGES))
@example(b"")
@example(b"\xd2\x84")
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    outcome(decode, raw, public_key=KEYS.get, site="beijing", node="aotizhongxin", now=NOW)
    outcome(decode_announce, raw, site="beijing", node="aotizhongxin")
    outcome(decode_receipt, raw)
    signed = outcome(parse_signed, raw)
    assert signed == outcome(parse_signed_by_rules, raw)
    if isinstance(signed, Signed):
        assert signed.raw == raw
        # strict means that the parts give back the whole, byte for byte
        parts = cbor2.loads(raw)
        assert cbor2.dumps(parts, canonical=True) == raw
        assert (
            signed.digest
            == hashlib.sha256(cbor2.dumps(["Signature1", signed.protected, b"", signed.payload])).digest()
        )
        header = cbor2.loads(signed.protected)
        assert cbor2.dumps(header, canonical=True) == signed.protected
        assert isinstance(verify(signed, PUBLIC), bool)


PAYLOADS = [
    signed.payload
    for signed in (outcome(parse_signed, raw) for raw in MESSAGES)
    if isinstance(signed, Signed) and signed.seq
]


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=100) | damaged(PAYLOADS) | st.sampled_from(PAYLOADS), st.integers(0, 3))
def test_any_payload_is_parsed_or_refused(payload: bytes, tq: int) -> None:
    pack = outcome(parse_pack, payload, tq=tq)
    assert same(pack, outcome(parse_pack_by_rules, payload, tq=tq))
    if isinstance(pack, Pack):
        assert cbor.encode(cbor2.loads(payload)) == payload
        assert len(pack.names) == len(pack.times) == len(pack.values) == len(cbor2.loads(payload))


def same(one: Any, two: Any) -> bool:
    """Compare two packs or reasons so that 0.0 and -0.0, or 1 and 1.0, are different."""
    return repr(one) == repr(two)


NUMBERS = [channel for channel in CHANNELS if channel.kind == "number"]
numbers = (
    st.integers(-(2**53) + 1, 2**53 - 1)
    | st.integers(-300, 300)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.floats(allow_nan=False, allow_infinity=False)
)
offsets = (
    st.just(0)
    | st.integers(-(2**28) + 1, 2**28 - 1)
    | st.floats(-65504.0, 65504.0, width=16)
    | st.floats(-(2.0**27), 2.0**27, width=32)
)
records = st.lists(
    st.tuples(st.sampled_from(NUMBERS).map(lambda channel: channel.name), numbers, offsets)
    | st.tuples(st.just("frame_sha256"), st.binary(max_size=36), offsets),
    min_size=1,
    max_size=70,
)
counters = st.integers(0, 2**53 - 1) | st.integers(0, 300)
names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)


@settings(max_examples=200, deadline=None)
@given(
    records=records, site=names, node=names, boot=counters, seq=counters, uptime=counters, prev=st.binary(min_size=32, max_size=32),
    tq=st.integers(0, 3), base_time=st.integers(2**29, 2**36 - 1),
)  # fmt: skip
def test_what_we_encode_we_decode(
    records: Any, site: str, node: str, tq: int, base_time: int, **header: Any
) -> None:
    header["seq"] += 1 if header["seq"] == 0 else 0
    given_time = base_time if tq else None
    raw = encode_message(
        KEY, site=site, node=node, tq=tq, base_time=given_time, records=records[:60], **header
    )
    message = decode(raw, public_key=KEYS.get, site=site, node=node, now=2.0**37)
    assert message.signed == parse_signed_by_rules(raw)
    assert (message.signed.boot, message.signed.seq, message.signed.uptime) == (
        header["boot"],
        header["seq"],
        header["uptime"],
    )
    pack = message.pack
    assert same(pack, parse_pack_by_rules(message.signed.payload, tq=tq))
    assert (pack.site, pack.node, pack.base_time) == (site, node, given_time)
    assert list(zip(pack.names, pack.values, pack.times, strict=True)) == records[:60]
    assert cbor.encode(cbor2.loads(message.signed.payload)) == message.signed.payload


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_single_floats_are_accepted_in_their_shortest_form_only(bits: int, as_time: bool) -> None:
    number = b"\xfa" + bits.to_bytes(4, "big")
    record = b"\x00\x64rain\x01\x62mm\x02" + (b"\x00\x06" + number if as_time else number)
    payload = b"\x81" + (b"\xa5" if as_time else b"\xa4") + record + b"\x21\x78\x18urn:dev:sensorhub:ab:cd:"
    fast = _parse_by_pattern(payload, 0)
    slow = outcome(parse_pack_by_rules, payload, tq=0)
    assert fast is None or same(fast, slow)
    assert same(outcome(parse_pack, payload, tq=0), slow)


def test_a_float_that_a_shorter_one_holds_is_refused() -> None:
    """Both as a value and as a time, for a spread of the floats that binary16 or binary32 hold exactly."""
    for bits in range(1, 0x7C00, 37):
        (value,) = struct.unpack(">e", bits.to_bytes(2, "big"))
        (single,) = struct.unpack(">f", struct.pack(">f", value + 2.0**-9))
        wider = (">f", value), (">d", value), (">d", single)
        for layout, number in wider:
            wide = (b"\xfa" if layout == ">f" else b"\xfb") + struct.pack(layout, number)
            for head in (b"\xa4\x00\x64rain\x01\x62mm\x02", b"\xa5\x00\x64rain\x01\x62mm\x02\x00\x06"):
                tail = b"\x21" + cbor.encode("urn:dev:sensorhub:ab:cd:")
                assert outcome(parse_pack, b"\x81" + head + wide + tail, tq=0) is Reason.NOT_SENML
                shortest = b"\x81" + head + cbor.encode(number) + tail
                assert isinstance(outcome(parse_pack, shortest, tq=0), Pack)


def test_no_byte_of_a_message_may_change(vectors: Any) -> None:
    """At every byte: the two ways agree on a spread of values, and no flipped bit or cut is accepted."""
    vector = vectors("messages")["vectors"][0]
    raw, public = bytes.fromhex(vector["message"]), bytes.fromhex(vector["public_key"])
    accepted: dict[str, Any] = {
        "public_key": lambda _: public, "site": vector["site"], "node": vector["node"], "now": NOW,
    }  # fmt: skip
    assert outcome(decode, raw, **accepted).signed.raw == raw
    for at in range(len(raw)):
        for value in range(at % 5, 256, 5):
            changed = raw[:at] + bytes([value]) + raw[at + 1 :]
            signed = outcome(parse_signed, changed)
            assert signed == outcome(parse_signed_by_rules, changed)
            if isinstance(signed, Signed) and 78 < at < 189:
                assert same(
                    outcome(parse_pack, signed.payload, tq=2),
                    outcome(parse_pack_by_rules, signed.payload, tq=2),
                )
        for bit in range(8):
            changed = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
            assert isinstance(outcome(decode, changed, **accepted), Reason)
        for cut in (raw[:at], raw[:at] + raw[at + 1 :], raw[:at] + raw[at : at + 1] + raw[at:]):
            if cut != raw:
                assert isinstance(outcome(decode, cut, **accepted), Reason)


def test_the_usual_messages_take_the_fast_way(vectors: Any) -> None:
    for vector in vectors("messages")["vectors"]:
        payload = bytes.fromhex(vector["payload"])
        usual = all(not isinstance(value, dict) for _, value, _ in vector["records"])
        if (
            usual
            and len(vector["records"]) < 256
            and "edges" not in vector["name"]
            and "70000.0" not in str(vector["records"])
        ):
            assert _parse_by_pattern(payload, vector["tq"]) is not None, vector["name"]


def test_the_limit_on_future_times() -> None:
    def at(base_time: int, offset: float, tq: int) -> Any:
        raw = encode_message(
            KEY, site="a", node="b", boot=1, seq=1, prev=bytes(32), tq=tq, uptime=5,
            base_time=base_time if tq else None, records=[("rain", 0, 0), ("rain", 1, offset), ("rain", 2, -9)],
        )  # fmt: skip
        return outcome(decode, raw, public_key=KEYS.get, site="a", node="b", now=NOW + 0.25)

    assert at(NOW + 60, 0.25, 2) is not Reason.FUTURE
    assert at(NOW + 60, 0.5, 2) is Reason.FUTURE
    assert at(NOW, 61, 3) is Reason.FUTURE
    assert at(NOW + 9999, 0, 1) is not Reason.FUTURE
    assert at(0, 99999, 0) is not Reason.FUTURE
    raw = encode_message(
        KEY, site="a", node="b", boot=1, seq=1, prev=bytes(32), tq=2, uptime=5, base_time=NOW + 300, records=[("rain", 0, 0)]
    )  # fmt: skip
    assert outcome(decode, raw, public_key=KEYS.get, site="a", node="b", now=NOW) is Reason.FUTURE
    decode(raw, public_key=KEYS.get, site="a", node="b", now=NOW, future_tolerance=300)
    assert decode_pack(parse_signed(raw), site="a", node="b", now=NOW, future_tolerance=300).names == (
        "rain",
    )


def test_what_cannot_be_sent_is_refused_when_it_is_encoded() -> None:
    good: dict[str, Any] = {
        "site": "a", "node": "b", "boot": 1, "seq": 1, "prev": bytes(32), "tq": 2, "uptime": 5, "base_time": NOW,
        "records": [("rain", 0, 0)],
    }  # fmt: skip
    for change in (
        {"site": "A"}, {"node": ""}, {"node": "b\n"}, {"boot": -1}, {"seq": 0}, {"seq": 2**53}, {"prev": b""}, {"tq": 4},
        {"tq": 0}, {"base_time": None}, {"uptime": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must|exactly|count from"):
            encode_message(KEY, **(good | change))
    for change, reason in (
        ({"records": []}, Reason.NOT_SENML),
        ({"records": [("magic", 1, 0)]}, Reason.UNKNOWN_CHANNEL),
        ({"records": [("rain", float("nan"), 0)]}, Reason.NOT_FINITE),
        ({"records": [("rain", 1, float("inf"))]}, Reason.NOT_FINITE),
        ({"records": [("rain", True, 0)]}, Reason.NOT_SENML),
        ({"records": [("rain", 2**53, 0)]}, Reason.NOT_SENML),
        ({"records": [("rain", b"1", 0)]}, Reason.NOT_SENML),
        ({"records": [("frame_sha256", 1, 0)]}, Reason.NOT_SENML),
        ({"records": [("rain", 1, 2**28)]}, Reason.NOT_SENML),
        ({"records": [("rain", 1, 0)] * 257}, Reason.NOT_SENML),
        ({"base_time": 1000}, Reason.NOT_SENML),
        ({"records": [("wind_direction", 0.1, 1)] * 120}, Reason.TOO_LARGE),
    ):  # fmt: skip
        assert outcome(encode_message, KEY, **(good | change)) is reason, change


def test_an_error_tells_and_survives_a_process_border() -> None:
    with pytest.raises(WireError) as caught:
        parse_signed(b"\x00")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.reason, str(error)) == (Reason.NOT_COSE, str(caught.value))
    assert str(error).startswith("not-cose: ")


def test_details_do_not_echo_long_input() -> None:
    for name in ("x" * 3000, "\x1b[2J" * 600):
        record = {0: name, 1: "Cel", 2: 1, -2: "urn:dev:sensorhub:a:b:", -3: NOW}
        raw = sign(KEY, cbor.encode([record]), boot=1, seq=1, prev=bytes(32), tq=2, uptime=0)
        with pytest.raises(WireError) as caught:
            decode(raw, public_key=KEYS.get, site="a", node="b", now=NOW)
        assert caught.value.reason is Reason.UNKNOWN_CHANNEL
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()
