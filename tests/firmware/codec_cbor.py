"""CBOR against the shared vectors, and what they leave out."""

import struct
from binascii import hexlify, unhexlify

from sensornode import cbor
from vectors import load, plain


def raises(error, function, *arguments):
    try:
        function(*arguments)
    except error:
        return True
    return False


def test_encodes_the_vectors():
    for vector in load("cbor.json")["valid"]:
        if vector["what"] != "double":
            value = plain(vector["value"])
            assert hexlify(cbor.encode(value)).decode() == vector["hex"], vector


def test_decodes_the_vectors():
    for vector in load("cbor.json")["valid"]:
        value = plain(vector["value"])
        decoded = cbor.decode(unhexlify(vector["hex"]))
        assert decoded == value or abs(decoded - value) <= 1e-15 * abs(value), vector
        assert isinstance(decoded, type(value)), vector


def test_refuses_the_invalid_vectors():
    for vector in load("cbor.json")["invalid"]:
        assert raises(ValueError, cbor.decode, unhexlify(vector["hex"])), vector


def test_a_float_is_rounded_to_binary32_first():
    assert hexlify(cbor.encode(23.4)) == b"fa41bb3333"
    assert hexlify(cbor.encode(1.1)) == b"fa3f8ccccd"
    assert hexlify(cbor.encode(1.0000000001)) == b"f93c00"


def test_every_binary16_keeps_its_value_and_its_two_bytes():
    for bits in range(0, 0x10000, 7):
        raw = bytes([0xF9, bits >> 8, bits & 255])
        value = cbor.decode(raw)
        if value == value:
            assert cbor.encode(value) == raw, bits
        else:
            assert cbor.encode(value) == b"\xf9\x7e\x00"


def test_the_neighbours_of_a_binary16_take_binary32():
    for bits in (
        0x38800001,
        0x477FE001,
        0x47800000,
        0x33000000,
        0x33800001,
        0x3F800001,
        0x00000001,
        0x7F7FFFFF,
    ):
        raw = struct.pack(">I", bits)
        assert cbor.encode(struct.unpack(">f", raw)[0]) == b"\xfa" + raw, hex(bits)


def test_negative_zero_and_the_infinities():
    assert cbor.encode(-0.0) == b"\xf9\x80\x00"
    assert cbor.encode(float("inf")) == b"\xf9\x7c\x00"
    assert cbor.encode(float("-inf")) == b"\xf9\xfc\x00"
    assert cbor.decode(b"\xf9\x7c\x00") == float("inf")
    assert cbor.decode(b"\xf9\xfc\x00") == float("-inf")


def test_map_keys_are_sorted_by_their_encoding():
    assert cbor.encode({"b": 1, -1: 2, 300: 3, 2: 4}) == b"\xa4\x02\x04\x19\x01\x2c\x03\x20\x02\x61b\x01"


def test_integers_have_64_bits():
    assert cbor.decode(cbor.encode(2**64 - 1)) == 2**64 - 1
    assert cbor.decode(cbor.encode(-(2**64))) == -(2**64)
    assert raises(ValueError, cbor.encode, 2**64)
    assert raises(ValueError, cbor.encode, -(2**64) - 1)


def test_what_has_no_encoding_is_a_type_error():
    assert raises(TypeError, cbor.encode, object())


def test_any_bytes_like_object_is_a_byte_string():
    for kind in (bytes, bytearray, memoryview):
        assert cbor.encode(kind(b"ab")) == b"\x42ab"
        assert cbor.decode(kind(b"\x42ab")) == b"ab"


def test_cut_or_flipped_input_gives_a_value_or_a_value_error():
    raw = cbor.encode({1: [1, -300, 2.5, b"bytes", "text", None, True], 2: {3: [0.1, 70000]}})
    for end in range(len(raw)):
        assert raises(ValueError, cbor.decode, raw[:end])
    for position in range(len(raw)):
        for bit in range(8):
            damaged = bytearray(raw)
            damaged[position] ^= 1 << bit
            try:
                value = cbor.decode(damaged)
            except ValueError:
                continue
            assert cbor.encode(value) == damaged or raw[position - 1] >> 1 == 0x7D or b"\xfb" in damaged, (
                position
            )
