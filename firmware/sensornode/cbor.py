"""Deterministic CBOR (RFC 8949, section 4.2) of integers, floats, strings, arrays, maps, booleans and null.

A float is rounded to binary32, which is all an ESP32 computes with, and takes binary16 when that is exact.
"""

import struct

from micropython import const

_MAX_DEPTH = const(8)


def head(out, major, argument):
    """Append the head of an item: major type 0 to 7 and its argument, in the shortest form."""
    major <<= 5
    if argument < 24:
        out.append(major | argument)
        return
    info = 24
    while argument >> (8 << (info - 24)):
        info += 1
    if info > 27:
        raise ValueError("CBOR integers have 64 bits")
    out.append(major | info)
    out.extend(argument.to_bytes(1 << (info - 24), "big"))


def write(out, value):
    """Append the encoding of a value to a bytearray. TypeError for a type that has none here."""
    if value is None:
        out.append(0xF6)
    elif value is True:
        out.append(0xF5)
    elif value is False:
        out.append(0xF4)
    elif isinstance(value, int):
        if value < 0:
            head(out, 1, -1 - value)
        else:
            head(out, 0, value)
    elif isinstance(value, float):
        _write_float(out, value)
    elif isinstance(value, str):
        value = value.encode()
        head(out, 3, len(value))
        out.extend(value)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        head(out, 2, len(value))
        out.extend(value)
    elif isinstance(value, (list, tuple)):
        head(out, 4, len(value))
        for item in value:
            write(out, item)
    elif isinstance(value, dict):
        head(out, 5, len(value))
        for key, item in sorted((encode(key), item) for key, item in value.items()):
            out.extend(key)
            write(out, item)
    else:
        raise TypeError("no CBOR for " + str(type(value)))


def encode(value):
    """Encoding of a value as bytes."""
    out = bytearray()
    write(out, value)
    return bytes(out)


def _write_float(out, value):
    single = struct.pack(">f", value)
    high, low = struct.unpack(">HH", single)
    sign = high & 0x8000
    exponent = (high >> 7 & 255) - 127
    fraction = (high & 127) << 16 | low
    lost = 13  # fraction bits that binary16 has not
    if exponent == 128:
        half = 0x7E00 if fraction else sign | 0x7C00
        fraction = 0
    elif exponent == -127:
        half = sign
    elif exponent < -14:  # subnormal in binary16
        lost = min(-1 - exponent, 24)
        fraction |= 1 << 23
        half = sign | fraction >> lost
    else:
        half = sign | exponent + 15 << 10 | fraction >> 13
    if exponent == 128 or exponent <= 15 and not fraction & (1 << lost) - 1:
        out.append(0xF9)
        out.append(half >> 8)
        out.append(half & 255)
    else:
        out.append(0xFA)
        out.extend(single)


class _Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        start = self.at
        self.at += count
        if self.at > len(self.data):
            raise ValueError("CBOR cut off")
        return bytes(self.data[start : self.at])

    def item(self, depth):
        initial = self.take(1)[0]
        major = initial >> 5
        info = initial & 31
        if major == 7:
            return self.simple(info)
        argument = info
        if info > 27:
            raise ValueError("CBOR of indefinite length")
        if info > 23:
            argument = int.from_bytes(self.take(1 << (info - 24)), "big")
            if argument < 24 or info > 24 and not argument >> (4 << (info - 24)):
                raise ValueError("CBOR longer than needed")
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self.take(argument)
        if major == 3:
            return str(self.take(argument), "utf-8")
        if depth == _MAX_DEPTH:
            raise ValueError("CBOR nested too deep")
        if major == 4:
            items = []
            for _ in range(argument):
                items.append(self.item(depth + 1))
            return items
        if major == 5:
            return self.map(argument, depth + 1)
        raise ValueError("CBOR tag not known")

    def map(self, count, depth):
        result = {}
        before = b""
        for _ in range(count):
            start = self.at
            key = self.item(depth)
            encoded = bytes(self.data[start : self.at])
            if encoded <= before or not isinstance(key, (int, str, bytes)):
                raise ValueError("CBOR map keys not in order")
            before = encoded
            result[key] = self.item(depth)
        return result

    def simple(self, info):
        if 20 <= info <= 22:
            return (False, True, None)[info - 20]
        if info == 25:
            (bits,) = struct.unpack(">H", self.take(2))
            sign = -1.0 if bits & 0x8000 else 1.0
            exponent = bits >> 10 & 31
            fraction = bits & 1023
            if exponent == 31:
                return float("nan") if fraction else sign * float("inf")
            return sign * (fraction | 1024 if exponent else fraction) * 2.0 ** ((exponent or 1) - 25)
        if info == 26:
            value = struct.unpack(">f", self.take(4))[0]
            if len(encode(value)) < 5:
                raise ValueError("CBOR longer than needed")
            return value
        if info == 27:
            raw = self.take(8)
            exponent = (raw[0] & 127) << 4 | raw[1] >> 4
            # By its bits, as a node may have no binary64: binary32 has 29 fraction bits and 3 exponent bits less.
            if not (raw[4] & 31 or raw[5] or raw[6] or raw[7]) and (
                897 <= exponent < 1151 or exponent in (0, 2047)
            ):
                raise ValueError("CBOR longer than needed")
            return struct.unpack(">d", raw)[0]
        raise ValueError("CBOR simple value not known")


def decode(data):
    """The value that fills `data` (a bytes-like object).

    Raises ValueError when that is not one item, not deterministic, or of a type this module does not encode.
    A binary64 is rounded where the interpreter's floats are shorter.
    """
    reader = _Reader(data)
    value = reader.item(0)
    if reader.at != len(data):
        raise ValueError("CBOR followed by more")
    return value
