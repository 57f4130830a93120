"""Deterministic CBOR (RFC 8949, section 4.2), and nothing that is not deterministic.

General decoders accept what this wire format forbids: repeated map keys, keys in any order, lengths written
longer than needed, indefinite lengths, shared references. A message that has two encodings has two hashes,
so the decoder here accepts one encoding of each value only. Input is told apart in two steps, because they
are different faults: `well_formed` (is it CBOR at all) and `decode` (is it the one permitted encoding).
"""

from __future__ import annotations

import struct
from typing import Final

MAX_DEPTH: Final = 8
"""Levels of nesting that `decode` follows; the formats of this project need four."""

_HALF: Final = struct.Struct(">e")
_SINGLE: Final = struct.Struct(">f")
_DOUBLE: Final = struct.Struct(">d")

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)


class NotDeterministicError(ValueError):
    """Raised when CBOR is not in its one deterministic encoding, or holds a type that the profile lacks."""


def head(major: int, argument: int) -> bytes:
    """Return the initial bytes of an item: `major` type 0 to 7, `argument` 0 to 2**64 - 1, shortest form."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    if argument < 0x100:
        return bytes((major << 5 | 24, argument))
    if argument < 0x1_0000:
        return struct.pack(">BH", major << 5 | 25, argument)
    if argument < 0x1_0000_0000:
        return struct.pack(">BI", major << 5 | 26, argument)
    return struct.pack(">BQ", major << 5 | 27, argument)


def encode_float(value: float) -> bytes:
    """Encode a float in the shortest of binary16, binary32 and binary64 that keeps its value."""
    if value != value:
        return b"\xf9\x7e\x00"
    try:
        half = _HALF.pack(value)
        if _HALF.unpack(half)[0] == value:
            return b"\xf9" + half
    except OverflowError:
        pass
    try:
        single = _SINGLE.pack(value)
        if _SINGLE.unpack(single)[0] == value:
            return b"\xfa" + single
    except OverflowError:
        pass
    return b"\xfb" + _DOUBLE.pack(value)


def encode_int(value: int) -> bytes:
    """Encode an integer from -2**64 to 2**64 - 1; ValueError beyond."""
    if not -(1 << 64) <= value < 1 << 64:
        raise ValueError(f"{value} does not fit in a CBOR integer")
    return head(_UNSIGNED, value) if value >= 0 else head(_NEGATIVE, -1 - value)


def encode_bytes(value: bytes) -> bytes:
    """Encode a byte string."""
    return head(_BYTES, len(value)) + value


def encode_text(value: str) -> bytes:
    """Encode a text string (UTF-8)."""
    raw = value.encode()
    return head(_TEXT, len(raw)) + raw


def encode(value: object) -> bytes:
    """Encode None, bool, int, float, bytes, str, list, tuple or dict; TypeError or ValueError for the rest."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return encode_int(value)
    if isinstance(value, float):
        return encode_float(value)
    if isinstance(value, bytes):
        return encode_bytes(value)
    if isinstance(value, str):
        return encode_text(value)
    if isinstance(value, (list, tuple)):
        return head(_ARRAY, len(value)) + b"".join(map(encode, value))
    if isinstance(value, dict):
        pairs = sorted((encode(key), encode(item)) for key, item in value.items())
        return head(_MAP, len(pairs)) + b"".join(key + item for key, item in pairs)
    raise TypeError(f"{type(value).__name__} has no place in deterministic CBOR here")


def well_formed(data: bytes) -> bool:
    """Tell whether `data` is exactly one well-formed CBOR item (RFC 8949, appendix C), with nothing after it.

    Iterative, so no nesting depth can exhaust the stack; time is linear in the length.
    """
    # One entry per open level: items still to come, or a negative marker for an indefinite-length level.
    array, key, item, byte_chunks, text_chunks = -1, -2, -3, -4, -5
    levels = [1]
    position, end = 0, len(data)
    while levels:
        level = levels[-1]
        if level == 0:
            levels.pop()
            continue
        if position >= end:
            return False
        initial = data[position]
        position += 1
        if initial == 0xFF:
            if level >= 0 or level == item:
                return False
            levels.pop()
            continue
        major, info = initial >> 5, initial & 31
        if level > 0:
            levels[-1] = level - 1
        elif level == key:
            levels[-1] = item
        elif level == item:
            levels[-1] = key
        elif level in (byte_chunks, text_chunks) and (
            major != (_BYTES if level == byte_chunks else _TEXT) or info == 31
        ):
            return False
        if info < 24:
            argument = info
        elif info < 28:
            size = 1 << (info - 24)
            if position + size > end:
                return False
            argument = int.from_bytes(data[position : position + size], "big")
            position += size
        elif info == 31 and major in (_BYTES, _TEXT, _ARRAY, _MAP):
            levels.append({_BYTES: byte_chunks, _TEXT: text_chunks, _ARRAY: array, _MAP: key}[major])
            continue
        else:
            return False
        if major in (_BYTES, _TEXT):
            position += argument
            if position > end:
                return False
        elif major == _ARRAY:
            levels.append(argument)
        elif major == _MAP:
            levels.append(2 * argument)
        elif major == _TAG:
            levels.append(1)
        elif major == _SIMPLE and info == 24 and argument < 32:
            return False
    return position == end


def decode(data: bytes) -> object:
    """Decode one deterministically encoded item that fills `data`.

    Returns None, bool, int, float, bytes, str, list or dict. A NaN or an infinity is returned whatever its
    width: what refuses it should be the rule about finite numbers, which says more.

    Raises:
        NotDeterministicError: `data` is anything else, well formed or not.
    """
    try:
        value, position = _decode_item(data, 0, 0)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise NotDeterministicError(f"broken item: {error}") from None
    if position != len(data):
        raise NotDeterministicError(f"{len(data) - position} bytes after the item")
    return value


def _decode_item(data: bytes, position: int, depth: int) -> tuple[object, int]:
    initial = data[position]
    major = initial >> 5
    if major == _SIMPLE:
        return _decode_simple(data, position)
    argument, position = _decode_argument(data, position)
    if major == _UNSIGNED:
        return argument, position
    if major == _NEGATIVE:
        return -1 - argument, position
    if major in (_BYTES, _TEXT):
        end = position + argument
        if end > len(data):
            raise NotDeterministicError("a string runs past the end")
        raw = data[position:end]
        return (raw if major == _BYTES else raw.decode()), end
    if depth >= MAX_DEPTH:
        raise NotDeterministicError(f"nested deeper than {MAX_DEPTH} levels")
    if major == _ARRAY:
        items = []
        # Bounded by the data, not by the claimed count: each item takes a byte or raises IndexError.
        for _ in range(argument):
            value, position = _decode_item(data, position, depth + 1)
            items.append(value)
        return items, position
    if major == _MAP:
        return _decode_map(data, position, argument, depth)
    raise NotDeterministicError(f"unexpected tag {argument}")


def _decode_map(data: bytes, position: int, count: int, depth: int) -> tuple[object, int]:
    result: dict[int | str | bytes, object] = {}
    previous = b""
    for _ in range(count):
        start = position
        key, position = _decode_item(data, position, depth + 1)
        if type(key) not in (int, str, bytes):
            raise NotDeterministicError("a map key is neither integer nor string")
        assert isinstance(key, (int, str, bytes))
        encoded = data[start:position]
        # Strictly ascending, so a repeated key is refused too (RFC 8949, section 4.2.1).
        if encoded <= previous:
            raise NotDeterministicError("map keys out of order or repeated")
        previous = encoded
        result[key], position = _decode_item(data, position, depth + 1)
    return result, position


def _decode_argument(data: bytes, position: int) -> tuple[int, int]:
    info = data[position] & 31
    position += 1
    if info < 24:
        return info, position
    if info > 27:
        raise NotDeterministicError("indefinite length or reserved length")
    size = 1 << (info - 24)
    if position + size > len(data):
        raise NotDeterministicError("cut off within a length")
    argument = int.from_bytes(data[position : position + size], "big")
    if argument < (24, 0x100, 0x1_0000, 0x1_0000_0000)[info - 24]:
        raise NotDeterministicError("a length or integer is longer than needed")
    return argument, position + size


def _decode_simple(data: bytes, position: int) -> tuple[object, int]:
    initial = data[position]
    position += 1
    if initial == 0xF4:
        return False, position
    if initial == 0xF5:
        return True, position
    if initial == 0xF6:
        return None, position
    if initial not in (0xF9, 0xFA, 0xFB):
        raise NotDeterministicError(f"unexpected simple value 0x{initial:02x}")
    layout = (_HALF, _SINGLE, _DOUBLE)[initial - 0xF9]
    value: float
    (value,) = layout.unpack_from(data, position)
    end = position + layout.size
    # value - value is 0.0 for a finite number and NaN for the others.
    if value - value == 0.0 and len(encode_float(value)) != layout.size + 1:
        raise NotDeterministicError("a float is wider than needed")
    return value, end
