"""SenML packs in CBOR (RFC 8428, section 6), in the one shape this project sends.

As with the envelope, the usual packs are accepted by pattern and everything else is decoded by rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from cbor2 import loads

from sensorhub.channels import BY_NAME, CHANNELS
from sensorhub.wire import cbor
from sensorhub.wire.reasons import Reason, WireError
from sensorhub.wire.topics import base_name, split_base_name

NAME, UNIT, VALUE, TIME, DATA, BASE_NAME, BASE_TIME = 0, 1, 2, 6, 8, -2, -3

MAX_RECORDS: Final = 256
MAX_INTEGER: Final = 2**53 - 1
"""Largest magnitude of an integer value: readings are float64 from here on, and none may change."""
MIN_BASE_TIME: Final = 2**29
MAX_BASE_TIME: Final = 2**36 - 1
"""Base times run from 1987 to 4147: far from what SenML reads as relative, and dates every library can write."""
MAX_OFFSET: Final = 2**28 - 1
"""Largest magnitude of a record time; RFC 8428, section 4.5.3 reads 2**28 and more as absolute."""


@dataclass(frozen=True, slots=True)
class Pack:
    """The readings of one message, as columns of equal length.

    Attributes:
        site: site of the base name.
        node: node of the base name.
        base_time: Unix seconds, or None when the node did not know the time (tq 0).
        names: channel of each record.
        times: seconds after `base_time`, or after the message's `uptime` when `base_time` is None.
        values: float64 of a number channel, bytes of a data channel.
    """

    site: str
    node: str
    base_time: int | None
    names: tuple[str, ...]
    times: tuple[float, ...]
    values: tuple[float | bytes, ...]


# A number in its one permitted form, as far as a pattern can tell: binary32 and binary64 whose last bits show
# that no shorter float would do, integers below 2**32. The rest of the valid numbers takes the slow way.
_NUMBER: Final = (
    rb"\xf9[\x00-\x7b\x80-\xfb]."
    rb"|\xfa[^\x7f\xff].(?:.[^\x00]|[^\x00\x20\x40\x60\x80\xa0\xc0\xe0]\x00)"
    rb"|[\x00-\x17\x20-\x37]|[\x18\x38][\x18-\xff]|[\x19\x39][\x01-\xff].|[\x1a\x3a](?!\x00\x00).{4}"
    rb"|\xfb[^\x7f\xff].{6}[^\x00]"
)
# name and unit with their heads, from key 0 to key 2; what it really says is looked up whole
_NAME_UNIT: Final = rb"[^\x00-\x1f]+\x01[^\x00-\x1f]+"
_FIRST: Final = re.compile(
    rb"([\x81-\x97]|\x98[\x18-\xff])([\xa4-\xa6])\x00(" + _NAME_UNIT + rb")\x02(" + _NUMBER + rb")"
    rb"(?:\x06("
    + _NUMBER
    + rb"))?\x21((?:[\x60-\x77]|\x78[\x18-\xff])[a-z0-9:-]+)(?:\x22\x1a([\x20-\xff].{3}))?",
    re.DOTALL,
)
_RECORD: Final = re.compile(
    rb"(?:(\xa4)|\xa3)\x00(" + _NAME_UNIT + rb")\x02(" + _NUMBER + rb")(?(1)\x06(" + _NUMBER + rb"))",
    re.DOTALL,
)
_CHANNEL_OF: Final = {
    cbor.encode_text(channel.name) + b"\x01" + cbor.encode_text(channel.unit): channel.name
    for channel in CHANNELS
    if channel.kind == "number"
}


def parse_pack(payload: bytes, *, tq: int) -> Pack:
    """Read a SenML pack. `tq` is the time quality of the header: a base time is there when it is 1 to 3.

    Raises:
        WireError: not SenML, unknown channel or unit, or not finite.
    """
    return _parse_by_pattern(payload, tq) or parse_pack_by_rules(payload, tq=tq)


def _parse_by_pattern(payload: bytes, tq: int) -> Pack | None:
    match = _FIRST.match(payload)
    if match is None:
        return None
    count_head, map_head, name_unit, value, time, name, base_time = match.groups()
    owner = _base_names.get(name) or _learn_base_name(name)
    if owner is None or (base_time is None) != (tq == 0):
        return None
    if map_head[0] - 0xA4 != (time is not None) + (base_time is not None):
        return None
    start = match.end()
    count = count_head[-1] if len(count_head) == 2 else count_head[0] - 0x80
    rows = _RECORD.findall(payload, start)
    if len(rows) != count - 1:
        return None
    seconds: tuple[float, ...]
    try:
        names = [_CHANNEL_OF[name_unit]]
        if rows:
            _, name_units, values, offsets = zip(*rows, strict=True)
            numbers = b"".join(values)
            # findall skips what does not match; the lengths show that it skipped nothing.
            used = 3 * len(rows) + len(b"".join(name_units)) + len(numbers)
            timed = len(rows) - offsets.count(b"")
            if timed:
                used += timed + len(b"".join(offsets))
            if used != len(payload) - start:
                return None
            names += [_CHANNEL_OF[item] for item in name_units]
            numbers = value + numbers
            if timed or time:
                seconds = (_offsets[time or b""], *[_offsets[item] for item in offsets])
            else:
                seconds = (0.0,) * count
        elif start == len(payload):
            numbers = value
            seconds = (_offsets[time or b""],)
        else:
            return None
    except KeyError:
        return None
    return Pack(
        owner[0],
        owner[1],
        None if base_time is None else int.from_bytes(base_time, "big"),
        tuple(names),
        seconds,
        tuple(map(float, loads(count_head + numbers))),
    )


class _Offsets(dict[bytes, float]):
    """Encoded record times seen before, with their values: a node sends the same few over and over.

    An empty encoding is a time left out, 0. KeyError for a time that must not be written so.
    """

    _KEPT: Final = 4096

    def __missing__(self, encoded: bytes) -> float:
        value = float(loads(encoded)) if encoded else 0.0
        if encoded and (value == 0.0 or abs(value) > MAX_OFFSET):
            raise KeyError(encoded)
        if len(self) >= self._KEPT:
            self.clear()
        self[encoded] = value
        return value


_offsets: Final = _Offsets()
_base_names: Final[dict[bytes, tuple[str, str]]] = {}
_BASE_NAMES_KEPT: Final = 16_384


def _learn_base_name(encoded: bytes) -> tuple[str, str] | None:
    try:
        text = cbor.decode(encoded)
    except cbor.NotDeterministicError:
        return None
    owner = split_base_name(text) if isinstance(text, str) else None
    if owner is not None:
        if len(_base_names) >= _BASE_NAMES_KEPT:
            _base_names.clear()
        _base_names[encoded] = owner
    return owner


def _refuse(detail: str) -> NoReturn:
    raise WireError(Reason.NOT_SENML, detail)


def decode_array(payload: bytes) -> list[object]:
    """Return the array of records, undecided what they are worth; WireError (not SenML) otherwise."""
    try:
        records = cbor.decode(payload)
    except cbor.NotDeterministicError as error:
        _refuse(f"the payload is not deterministic CBOR: {error}")
    if type(records) is not list:
        _refuse("the payload is not an array")
    return records


def parse_pack_by_rules(payload: bytes, *, tq: int) -> Pack:
    """Do what `parse_pack` does by decoding, one rule after the other: slower, complete, and tells why.

    Raises:
        WireError: not SenML, unknown channel or unit, or not finite.
    """
    records = decode_array(payload)
    if not 1 <= len(records) <= MAX_RECORDS:
        _refuse(f"{len(records)} records, must be 1 to {MAX_RECORDS}")
    first = records[0]
    if type(first) is not dict:
        _refuse("record 0 is not a map")
    name = first.pop(BASE_NAME, None)
    owner = split_base_name(name) if type(name) is str else None
    if owner is None:
        _refuse("record 0 has no base name urn:dev:sensorhub:<site>:<node>:")
    if tq == 0 and BASE_TIME in first:
        _refuse("a base time with time quality 0")
    base_time = first.pop(BASE_TIME, None)
    if tq != 0 and (type(base_time) is not int or not MIN_BASE_TIME <= base_time <= MAX_BASE_TIME):
        _refuse(f"the base time must be whole seconds from {MIN_BASE_TIME} to {MAX_BASE_TIME}")
    rows = [_structure(index, record) for index, record in enumerate(records)]
    for index, (channel_name, unit, value, _) in enumerate(rows):
        channel = BY_NAME.get(channel_name)
        if channel is None:
            raise WireError(Reason.UNKNOWN_CHANNEL, f"record {index}: no channel {channel_name[:64]!r}")
        if isinstance(value, bytes) != (channel.kind == "data"):
            raise WireError(Reason.UNKNOWN_CHANNEL, f"record {index}: {channel.name} takes a {channel.kind}")
        if unit is not None and unit != channel.unit:
            raise WireError(
                Reason.UNKNOWN_CHANNEL,
                f"record {index}: {channel.name} is in {channel.unit!r}, not {unit[:64]!r}",
            )
    for index, (_, _, value, time) in enumerate(rows):
        if value != value or time != time or value in _INFINITE or time in _INFINITE:
            raise WireError(Reason.NOT_FINITE, f"record {index} holds a NaN or an infinity")
    return Pack(
        owner[0],
        owner[1],
        base_time,
        tuple(row[0] for row in rows),
        tuple(row[3] for row in rows),
        tuple(row[2] for row in rows),
    )


_INFINITE: Final = (float("inf"), float("-inf"))
_NUMBER_KEYS: Final = ((NAME, UNIT, VALUE), (NAME, UNIT, VALUE, TIME))
_DATA_KEYS: Final = ((NAME, DATA), (NAME, TIME, DATA))


def _structure(index: int, record: object) -> tuple[str, str | None, float | bytes, float]:
    """Return (name, unit or None for data, value, time) of a record whose types are in order."""
    if type(record) is not dict:
        _refuse(f"record {index} is not a map")
    keys = tuple(record)
    if keys not in _NUMBER_KEYS and keys not in _DATA_KEYS:
        _refuse(f"record {index} must have name, unit and value, or name and data, and may have a time")
    name = record[NAME]
    if type(name) is not str:
        _refuse(f"record {index}: the name is not text")
    time = record.get(TIME, 0)
    if TIME in record and (type(time) not in (int, float) or time == 0):
        _refuse(f"record {index}: the time is not a number, or is 0 and so must be left out")
    assert isinstance(time, (int, float))
    # A NaN or an infinity passes here, to be refused as such; so does nothing else beyond the limit.
    if abs(time) > MAX_OFFSET and abs(time) != float("inf"):
        _refuse(f"record {index}: the time is beyond {MAX_OFFSET} s")
    if keys in _DATA_KEYS:
        data = record[DATA]
        if type(data) is not bytes:
            _refuse(f"record {index}: the data value is not a byte string")
        return name, None, data, float(time)
    unit, value = record[UNIT], record[VALUE]
    if type(unit) is not str:
        _refuse(f"record {index}: the unit is not text")
    if type(value) is int:
        if abs(value) > MAX_INTEGER:
            _refuse(f"record {index}: the integer is beyond 2**53 - 1")
        value = float(value)
    elif type(value) is not float:
        _refuse(f"record {index}: the value is not a number")
    return name, unit, value, float(time)


def encode_pack(
    *,
    site: str,
    node: str,
    base_time: int | None,
    records: Sequence[tuple[str, float | int | bytes, float]],
) -> bytes:
    """Encode records of (channel, value, seconds after the base time); units come from the channel table.

    Integers stay integers and floats stay floats; a float takes the shortest width that keeps its value.

    Raises:
        ValueError: a site or node name that is not permitted.
        WireError: the result would be refused by `parse_pack`, with its reason.
    """
    out = [cbor.head(4, len(records))]
    for index, (name, value, time) in enumerate(records):
        channel = BY_NAME.get(name)
        if channel is None:
            raise WireError(Reason.UNKNOWN_CHANNEL, f"record {index}: no channel {name!r}")
        pairs = 2 + (channel.kind == "number") + (time != 0)
        if index == 0:
            pairs += 1 + (base_time is not None)
        out.append(cbor.head(5, pairs))
        out.append(b"\x00" + cbor.encode_text(name))
        offset = b"\x06" + cbor.encode(time) if time != 0 else b""
        if channel.kind == "data":
            out.append(offset + b"\x08" + cbor.encode(value))
        else:
            out.append(b"\x01" + cbor.encode_text(channel.unit) + b"\x02" + cbor.encode(value) + offset)
        if index == 0:
            out.append(b"\x21" + cbor.encode_text(base_name(site, node)))
            if base_time is not None:
                out.append(b"\x22" + cbor.encode_int(base_time))
    payload = b"".join(out)
    parse_pack(payload, tq=0 if base_time is None else 1)
    return payload
