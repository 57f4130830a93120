"""The deterministic CBOR codec against cbor2, and against anything at all."""

from __future__ import annotations

import io
import struct
from typing import Any

import cbor2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sensorhub.wire import cbor

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.floats(allow_nan=False, width=16)
    | st.floats(allow_nan=False, width=32)
    | st.binary(max_size=300)
    | st.text(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=30)
        | st.dictionaries(st.integers(-(2**64), 2**64 - 1) | st.text(max_size=30), inner, max_size=30)
    ),
    max_leaves=30,
)


def shape(value: Any) -> str:
    """Return a text in which 1, 1.0, True and -0.0 differ and map order does not matter."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{key!r}:{shape(item)}" for key, item in value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(shape, value)) + "]"
    return repr(value)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(values)
def test_whatever_is_encoded_comes_back(value: Any) -> None:
    encoded = cbor.encode(value)
    assert cbor.well_formed(encoded)
    assert shape(cbor2.loads(encoded)) == shape(value)
    if depth(value) <= cbor.MAX_DEPTH:
        assert shape(cbor.decode(encoded)) == shape(value)


@given(scalars)
def test_scalars_are_encoded_as_cbor2_does_canonically(value: Any) -> None:
    # cbor2 5.9 leaves halves of 32,768 and more in binary32
    assume(not (type(value) is float and 32768 <= abs(value) <= 65504))
    assert cbor.encode(value) == cbor2.dumps(value, canonical=True)


def test_every_half_float_stays_one() -> None:
    for bits in range(0x10000):
        encoded = b"\xf9" + bits.to_bytes(2, "big")
        (value,) = struct.unpack(">e", encoded[1:])
        if value - value == 0.0:
            assert cbor.encode_float(value) == encoded
            assert cbor.decode(encoded) == value
            wider = b"\xfa" + struct.pack(">f", value)
            with pytest.raises(cbor.NotDeterministicError):
                cbor.decode(wider)


@given(st.binary(max_size=60) | st.lists(st.sampled_from(range(0x40, 0x100, 7)), max_size=40).map(bytes))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    """One value has one encoding: what decodes, encodes to the same bytes (NaN apart, which keeps its width)."""
    try:
        value = cbor.decode(data)
    except cbor.NotDeterministicError:
        return
    assert cbor.well_formed(data)
    if b"nan" not in repr(value).encode() and b"inf" not in repr(value).encode():
        assert cbor.encode(value) == data


@given(st.binary(max_size=40))
def test_well_formed_agrees_with_cbor2(data: bytes) -> None:
    """cbor2 also refuses well-formed items that mean nothing, so it may refuse more, never less."""
    stream = io.BytesIO(data)
    try:
        cbor2.load(stream)
        read = stream.read() == b"" and data != b""
    except Exception:
        return
    if read and not cbor.well_formed(data):
        # cbor2 lets a two-byte simple value below 32 and a lone break pass; RFC 8949, sections 3.2.1 and 3.3 do not
        assert b"\xf8" in data or b"\xff" in data


@pytest.mark.parametrize(
    "opener", [b"\x81", b"\x9f", b"\xa1\x00", b"\xbf\x00", b"\xc1", b"\xd8\x1c", b"\x5f", b"\x7f"]
)
def test_no_depth_exhausts_the_stack(opener: bytes) -> None:
    data = opener * 5000
    assert not cbor.well_formed(data)
    with pytest.raises(cbor.NotDeterministicError):
        cbor.decode(data)
    with pytest.raises(cbor.NotDeterministicError):
        cbor.decode(data + b"\x00")


def test_what_cannot_be_encoded() -> None:
    for value in (2**64, -(2**64) - 1, [2**64]):
        with pytest.raises(ValueError, match="does not fit"):
            cbor.encode(value)
    with pytest.raises(TypeError):
        cbor.encode({1, 2})
