"""The MQTT parser: any way of cutting the stream gives the same packets, hostile bytes give one clear error."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorhub.ingest import packets
from sensorhub.ingest.packets import KEPT_PAYLOAD, Control, Parser, ProtocolError, Publish

published = st.builds(
    lambda topic, payload, mid: (topic, payload, mid),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40),
    st.binary(max_size=300),
    st.integers(1, 65_535),
)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(published, max_size=8), st.lists(st.integers(0, 10_000), max_size=12))
def test_packets_come_out_whole_however_the_stream_is_cut(
    messages: list[tuple[str, bytes, int]], cuts: list[int]
) -> None:
    stream = b"".join(
        packets.publish(topic, payload, mid) + packets.pubacks([mid]) for topic, payload, mid in messages
    )
    parser = Parser()
    found: list[Publish] = []
    controls: list[Control] = []
    for chunk in chunks(stream, cuts):
        some, others = parser.feed(chunk)
        found += some
        controls += others
    assert found == [Publish(topic.encode(), payload, mid, 2) for topic, payload, mid in messages]
    assert controls == [Control(packets.PUBACK, mid.to_bytes(2, "big")) for _, _, mid in messages]


@pytest.mark.parametrize("size", [KEPT_PAYLOAD, KEPT_PAYLOAD + 1, 200_000, 3_000_000])
@pytest.mark.parametrize("step", [1_000, 77_777, 10_000_000])
def test_an_oversized_payload_is_cut_and_the_stream_goes_on(size: int, step: int) -> None:
    stream = packets.publish("a/b", bytes(size), 7) + packets.publish("a/c", b"next", 8)
    parser = Parser()
    found = []
    for start in range(0, len(stream), step):
        found += parser.feed(stream[start : start + step])[0]
        assert len(parser._rest) <= packets.MAX_HEADER + KEPT_PAYLOAD + step
    assert found == [Publish(b"a/b", bytes(min(size, KEPT_PAYLOAD)), 7, 2), Publish(b"a/c", b"next", 8, 2)]


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_hostile_bytes_raise_nothing_but_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    parser = Parser()
    with contextlib.suppress(ProtocolError):
        for chunk in chunks(data, cuts):
            parser.feed(chunk)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 2_000), st.integers(0, 255))
def test_a_flipped_byte_raises_nothing_but_a_protocol_error(payload: bytes, at: int, value: int) -> None:
    stream = bytearray(packets.publish("sensorhub/v1/lab/roof/data", payload, 513) * 3)
    stream[at % len(stream)] = value
    with contextlib.suppress(ProtocolError):
        for publish in Parser().feed(bytes(stream))[0]:
            assert 0 <= publish.mid <= 65_535


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x10\x00", "type 0x10"),
        (b"\xf0\x00", "type 0xf0"),
        (b"\x41\x02\x00\x01", "type 0x41"),
        (b"\x36\x05\x00\x01a\x00\x01", "above the subscribed QoS"),
        (b"\x34\x05\x00\x01a\x00\x01", "above the subscribed QoS"),
        (b"\x32\x05\x00\x01a\x00\x00", "packet identifier 0"),
        (b"\x32\x04\x00\x01a\x00", "ends before its payload"),
        (b"\x30\x03\x00\x02a", "ends before its payload"),
        (b"\x30\x02\x00\x00", "empty topic"),
        (b"\x30\x01\x00", "without a topic"),
        (b"\x30\xff\xff\xff\xff\x7f", "more than four bytes"),
        (b"\xd0\xff\xff\x03", "bytes in a packet"),
    ],
)
def test_what_the_standard_forbids_is_named(data: bytes, what: str) -> None:
    with pytest.raises(ProtocolError, match=what):
        Parser().feed(data)


def test_connect_asks_for_a_persistent_session_as_the_standard_writes_it() -> None:
    packet = packets.connect("gw", "user", "pass", 30)
    assert packet == b"\x10\x1a\x00\x04MQTT\x04\xc0\x00\x1e\x00\x02gw\x00\x04user\x00\x04pass"
    assert packets.connect("gw", None, None, 0) == b"\x10\x0e\x00\x04MQTT\x04\x00\x00\x00\x00\x02gw"
    assert packets.subscribe(1, ["a/+"]) == b"\x82\x08\x00\x01\x00\x03a/+\x01"
