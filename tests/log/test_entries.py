"""Log entries: one encoding each, and nothing else is accepted."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.errors import SensorhubError
from sensorhub.log.entries import (
    MAX_ENTRY,
    ArtefactEntry,
    EntryError,
    Genesis,
    MessageEntry,
    NodeEntry,
    NodeEvent,
    VerdictEntry,
    decode_entry,
    encode_entry,
    kind_of,
)

whole = st.integers(0, 2**63 - 1)
text = st.text(max_size=20)
entries = st.one_of(
    st.builds(
        Genesis,
        text,
        text,
        st.binary(min_size=32, max_size=32),
        whole,
        st.none() | st.binary(min_size=20, max_size=20),
    ),
    st.builds(MessageEntry, whole, st.binary(max_size=300)),
    st.builds(
        NodeEntry,
        whole,
        st.sampled_from([event.value for event in NodeEvent]),
        text,
        text,
        st.binary(min_size=64, max_size=64),
        st.none() | st.binary(min_size=20, max_size=20),
        st.text("0123456789bcdefghjkmnpqrstuvwxyz", max_size=5),
        st.binary(max_size=50),
    ),
    st.builds(
        VerdictEntry,
        whole,
        st.sampled_from([b"", b"m" * 32]),
        text,
        st.lists(
            st.tuples(whole, st.lists(st.tuples(st.integers(0, 255), whole), max_size=5).map(tuple)),
            max_size=5,
        ).map(tuple),
    ),
    st.builds(ArtefactEntry, whole, text, st.binary(min_size=32, max_size=32), text),
)


@settings(max_examples=300, deadline=None)
@given(entries)
def test_round_trip(entry):
    data = encode_entry(entry)
    assert decode_entry(data) == entry
    assert cbor2.dumps(cbor2.loads(data), canonical=True) == data
    assert kind_of(data) == data[1] == cbor2.loads(data)[0]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_an_entry_error(data):
    try:
        entry = decode_entry(data)
    except EntryError:
        return
    assert encode_entry(entry) == data


@settings(max_examples=300, deadline=None)
@given(entries, st.data())
def test_changed_bytes_are_another_entry_or_none(entry, data):
    encoded = bytearray(encode_entry(entry))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        other = decode_entry(bytes(encoded))
    except EntryError:
        return
    assert other != entry


def test_exact_bytes():
    assert encode_entry(MessageEntry(1000, b"\xd2")).hex() == "83021903e841d2"
    assert encode_entry(VerdictEntry(1, b"", "rules/1", ((5, ((255, 0), (3, 256))),))).hex() == (
        "850401406772756c65732f3181820582" + "8218ff00" + "8203190100"
    )
    genesis = Genesis("bj", "gw", b"k" * 32, 31337, b"c" * 20)
    assert cbor2.loads(encode_entry(genesis)) == [1, 1, "bj", "gw", b"k" * 32, 31337, b"c" * 20]
    node = NodeEntry(7, NodeEvent.ENROL, "n1", "air", b"p" * 64, None, "wx4g0", b"e")
    assert cbor2.loads(encode_entry(node)) == [3, 7, "enrol", "n1", "air", b"p" * 64, None, "wx4g0", b"e"]
    artefact = ArtefactEntry(7, "rules", b"h" * 32, "rules/1")
    assert cbor2.loads(encode_entry(artefact)) == [5, 7, "rules", b"h" * 32, "rules/1"]


@pytest.mark.parametrize(
    "array",
    [
        [],
        {},
        [0],
        [6, 1],
        [True, 1, b""],
        [2, 1],
        [2, 1, b"", 0],
        [2, -1, b""],
        [2, 1.0, b""],
        [2, True, b""],
        [2, 2**63, b""],
        [2, 1, "text"],
        [1, 2, "s", "g", b"k" * 32, 1, None],
        [1, 1, "s", "g", b"k" * 31, 1, None],
        [1, 1, "s", "g", b"k" * 32, 1, b"short"],
        [3, 1, "invent", "n", "k", b"p" * 64, None, "", b""],
        [3, 1, ["enrol"], "n", "k", b"p" * 64, None, "", b""],
        [3, 1, "enrol", "n", "k", b"p" * 63, None, "", b""],
        [3, 1, "enrol", "n", "k", b"p" * 64, None, "toolong", b""],
        [4, 1, b"m", "rules/1", []],
        [4, 1, b"", "rules/1", [[1, [[256, 0]]]]],
        [4, 1, b"", "rules/1", [[1, [[1, -1]]]]],
        [4, 1, b"", "rules/1", [[1, [[1]]]]],
        [4, 1, b"", "rules/1", [[1, [["a", 1]]]]],
        [4, 1, b"", "rules/1", 5],
        [5, 1, "what", b"h" * 31, ""],
    ],
)
def test_refused(array):
    with pytest.raises(EntryError):
        decode_entry(cbor2.dumps(array))


def test_other_encodings_are_refused():
    good = encode_entry(MessageEntry(1000, b"abc"))
    indefinite = b"\x9f" + good[1:] + b"\xff"
    long_int = good.replace(bytes.fromhex("1903e8"), bytes.fromhex("1a000003e8"))
    for bad in (indefinite, long_int, good + b"\x00", good[:-1], b"\xd9\xd9\xf7" + good):
        with pytest.raises(EntryError):
            decode_entry(bad)


def test_length_limit():
    longest = encode_entry(MessageEntry(1, b"x" * (MAX_ENTRY - 6)))
    assert len(longest) <= MAX_ENTRY
    with pytest.raises(EntryError, match="at most 65535"):
        encode_entry(MessageEntry(1, b"x" * MAX_ENTRY))
    with pytest.raises(EntryError, match="at most 65535"):
        decode_entry(bytes(MAX_ENTRY + 1))
    assert issubclass(EntryError, SensorhubError)


def test_what_is_not_an_entry_has_no_kind():
    assert [kind_of(data) for data in (b"", b"\x82", b"\xa1\x02\x00", b"\x83\x09\x00", b"\x83\x18\x02")] == [
        0
    ] * 5
