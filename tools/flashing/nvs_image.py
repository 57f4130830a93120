"""The NVS partition of a node: made empty or with values, read back, and made fit to be kept.

Format: ESP-IDF Programming Guide, "Non-Volatile Storage Library", section "Internals": pages of 4096 bytes with a header
and a bitmap of 32 bytes each, then 126 entries of 32 bytes; an entry has namespace index, type, span, chunk index, CRC, a key
of 16 bytes and 8 bytes of value.

Images are made by Espressif's own generator. Reading is ours: the generator has no reader.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from esp_idf_nvs_partition_gen import nvs_partition_gen as generator  # type: ignore[import-untyped]

from flashing.partitions import BLOCK

NAMESPACE: Final = "sensornode"
"""Where the firmware keeps its state (firmware/nodeboot.py)."""
PRIVATE_KEY: Final = "key"
DATE: Final = "date"
"""Its latest date that is past for certain, minutes since 1970."""
CREDENTIALS: Final = "credentials"
"""Where it looks for networks, MQTT login and claim (firmware/sensornode/board.py)."""

_ENTRY: Final = 32
_ENTRIES: Final = 126
_FIRST: Final = 2 * _ENTRY
_WRITTEN: Final = 0b10
_PAGE_IN_USE: Final = frozenset((0xFFFF_FFFE, 0xFFFF_FFFC, 0xFFFF_FFF8))  # active, full, freeing
_NUMBERS: Final[Mapping[int, str]] = {
    0x01: "<B", 0x02: "<H", 0x04: "<I", 0x08: "<Q", 0x11: "<b", 0x12: "<h", 0x14: "<i", 0x18: "<q",
}  # fmt: skip
_STRING: Final = 0x21
_BLOB: Final = 0x41
_BLOB_DATA: Final = 0x42
_BLOB_INDEX: Final = 0x48

Value = int | str | bytes


def build(values: Mapping[str, Mapping[str, Value]], size: int) -> bytes:
    """An image of `size` bytes with these values, namespace to key to value; the same bytes for the same values.

    An int becomes an i32, as `esp32.NVS` of MicroPython has no other; bytes become a blob.

    Raises:
        ValueError: a key or namespace is too long, a number too large, or the values do not fit.
    """
    out = io.BytesIO()
    try:
        # the generator wants the size without the page that NVS keeps in reserve
        made: Any = generator.nvs_open(out, size - BLOCK, version=generator.Page.VERSION2)
        with made:
            for namespace in sorted(values):
                made.write_namespace(_checked(namespace))
                for key, value in sorted(values[namespace].items()):
                    if isinstance(value, bytes):
                        made.write_entry(_checked(key), value, "binary")
                    elif isinstance(value, str):
                        made.write_entry(_checked(key), value, "string")
                    else:
                        if not -(1 << 31) <= value < 1 << 31:
                            raise ValueError(f"{key} is no 32-bit number")
                        made.write_entry(_checked(key), value, "i32")
    except (generator.InputError, generator.InsufficientSizeError) as error:
        raise ValueError(str(error)) from None
    return out.getvalue()


def _checked(name: str) -> str:
    if not 0 < len(name) <= 15:
        raise ValueError(f"{name!r} is no NVS name: 1 to 15 characters")
    return name


@dataclass(frozen=True, slots=True)
class _Entry:
    """One written entry: where it lies, and its fields."""

    position: int
    namespace: int
    type: int
    span: int
    chunk: int
    key: str
    data: bytes


def parse(image: bytes) -> dict[str, dict[str, Value]]:
    """All values of an image, by namespace and key. What is damaged is left out, as the chip does."""
    entries = _entries(image)
    names = {entry.data[0]: entry.key for entry in entries if entry.namespace == 0}
    found: dict[str, dict[str, Value]] = {name: {} for name in names.values()}
    chunks = {
        (entry.namespace, entry.key, entry.chunk): _content(image, entry)
        for entry in entries
        if entry.type == _BLOB_DATA
    }
    for entry in entries:
        if entry.namespace not in names:
            continue
        values = found[names[entry.namespace]]
        if entry.type in _NUMBERS:
            values[entry.key] = struct.unpack_from(_NUMBERS[entry.type], entry.data)[0]
        elif entry.type == _STRING:
            values[entry.key] = (_content(image, entry) or b"").rstrip(b"\0").decode("utf-8", "replace")
        elif entry.type == _BLOB:
            values[entry.key] = _content(image, entry) or b""
        elif entry.type == _BLOB_INDEX:
            length, count, first = struct.unpack_from("<IBB", entry.data)
            parts = [chunks.get((entry.namespace, entry.key, first + part)) for part in range(count)]
            blob = b"".join(part for part in parts if part is not None)
            if len(blob) == length:
                values[entry.key] = blob
    return found


def without_private_key(image: bytes) -> bytes:
    """The image with every trace of the node's private key overwritten with zeros; it is for reading, not for a chip.

    The key's page may hold it several times: NVS marks old entries as erased and leaves their bytes. So what is
    overwritten is each data entry whose key is `key`, written or erased, with all of its span.
    """
    cleaned = bytearray(image)
    for page in range(0, len(image) - BLOCK + 1, BLOCK):
        for number in range(_ENTRIES):
            at = page + _FIRST + number * _ENTRY
            kind, span = image[at + 1], image[at + 2]
            name = image[at + 8 : at + 24].split(b"\0")[0]
            if name == PRIVATE_KEY.encode() and kind in (_BLOB, _BLOB_DATA, _BLOB_INDEX) and span != 0xFF:
                end = min(at + max(span, 1) * _ENTRY, page + BLOCK)
                cleaned[at:end] = bytes(end - at)
    return bytes(cleaned)


def holds_node(image: bytes) -> bool:
    """Whether a node's private key is there."""
    return PRIVATE_KEY in parse(image).get(NAMESPACE, {})


def _entries(image: bytes) -> list[_Entry]:
    found = []
    for page in range(0, len(image) - BLOCK + 1, BLOCK):
        state, _number = struct.unpack_from("<II", image, page)
        if state not in _PAGE_IN_USE:
            continue
        bitmap = int.from_bytes(image[page + _ENTRY : page + 2 * _ENTRY], "little")
        number = 0
        while number < _ENTRIES:
            at = page + _FIRST + number * _ENTRY
            raw = image[at : at + _ENTRY]
            namespace, kind, span, chunk, crc = struct.unpack_from("<BBBBI", raw)
            if bitmap >> 2 * number & 3 != _WRITTEN or crc != _crc(raw[:4] + raw[8:]):
                number += 1
                continue
            key = raw[8:24].split(b"\0")[0].decode("ascii", "replace")
            found.append(_Entry(at, namespace, kind, span, chunk, key, raw[24:]))
            number += max(1, span)
    return found


def _content(image: bytes, entry: _Entry) -> bytes | None:
    """What follows an entry of variable length; None when it is damaged."""
    size, _reserved, crc = struct.unpack_from("<HHI", entry.data)
    content = image[entry.position + _ENTRY : entry.position + _ENTRY + size]
    return content if len(content) == size and _crc(content) == crc else None


def _crc(data: bytes) -> int:
    return zlib.crc32(data, 0xFFFF_FFFF)
