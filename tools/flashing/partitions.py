"""Where things lie in the flash: the partition table inside a MicroPython image or read from a board.

Format: ESP-IDF Programming Guide, "Partition Tables": entries of 32 bytes from 0x8000 on, each with the magic 0xAA 0x50,
type, subtype, offset, size, a label of 16 bytes and flags; an entry with 0xEB 0xEB holds an MD5, 0xFF ends the table.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flashing.exits import Exit, FlashError

TABLE_OFFSET: Final = 0x8000
TABLE_BYTES: Final = 0xC00
TABLE_MOSTLY: Final = 0x100
"""Most tables are shorter, and reading takes its time."""
BLOCK: Final = 4096
_ENTRY: Final = struct.Struct("<2sBBII16sI")
_MAGIC: Final = b"\xaa\x50"
_MD5: Final = b"\xeb\xeb"
_HEADER: Final = 0xE9

#: chip -> chip id of the image header, and where its bootloader begins (esptool, "Firmware Image Format").
CHIPS: Final[Mapping[str, tuple[int, int]]] = {
    "esp32": (0, 0x1000),
    "esp32s2": (2, 0x1000),
    "esp32c3": (5, 0),
    "esp32s3": (9, 0),
    "esp32c6": (13, 0),
}


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: label, type (0 application, 1 data), subtype, offset and size in bytes."""

    label: str
    type: int
    subtype: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Layout:
    """The flash of a board with a certain image.

    Attributes:
        partitions: as the table has them, with `vfs` added where the image leaves that to the start.
    """

    partitions: tuple[Partition, ...]

    def find(self, label: str) -> Partition:
        """The partition of this label.

        Raises:
            FlashError: there is none.
        """
        for partition in self.partitions:
            if partition.label == label:
                return partition
        raise FlashError(Exit.FIRMWARE_UNFIT, f"the image's partition table has no partition {label!r}")

    @property
    def slots(self) -> int:
        """How many OTA slots there are; 0 without over-the-air partitions."""
        return sum(1 for part in self.partitions if part.type == 0 and 0x10 <= part.subtype < 0x20)


def parse_table(data: bytes) -> tuple[Partition, ...]:
    """The entries of a partition table; empty when there is none.

    Raises:
        ValueError: it begins like a table and is damaged.
    """
    found = []
    for start in range(0, min(len(data), TABLE_BYTES) - _ENTRY.size + 1, _ENTRY.size):
        magic, kind, subtype, offset, size, label, _flags = _ENTRY.unpack_from(data, start)
        if magic == _MD5:
            if data[start + 16 : start + 32] != hashlib.md5(data[:start], usedforsecurity=False).digest():
                raise ValueError("the MD5 of the partition table is wrong")
            break
        if magic != _MAGIC:
            break
        name = label.split(b"\0")[0].decode("ascii", "replace")
        found.append(Partition(name, kind, subtype, offset, size))
    return tuple(found)


def is_whole(data: bytes) -> bool:
    """Whether the end of the table is within these bytes."""
    starts = range(0, len(data) - _ENTRY.size + 1, _ENTRY.size)
    return len(data) >= TABLE_BYTES or any(data[start : start + 2] != _MAGIC for start in starts)


def layout_of(image: bytes, chip: str, flash_bytes: int) -> Layout:
    """The layout that a complete image brings to a board with this much flash.

    MicroPython from 1.26 on has tables without `vfs`: there the file system is what is left of the flash.

    Raises:
        FlashError: the image is none, is for another chip, or does not fit.
    """
    chip_id, origin = CHIPS[chip]
    if len(image) < 24 or image[0] != _HEADER:
        raise FlashError(Exit.FIRMWARE_UNFIT, "the MicroPython file is no image for an ESP32")
    found_id = struct.unpack_from("<H", image, 12)[0]
    if found_id != chip_id:
        names = [name for name, (number, _) in CHIPS.items() if number == found_id]
        other = names[0] if names else f"a chip with the number {found_id}"
        raise FlashError(Exit.FIRMWARE_UNFIT, f"the MicroPython image is for {other}, the node has {chip}")
    try:
        table = parse_table(image[TABLE_OFFSET - origin : TABLE_OFFSET - origin + TABLE_BYTES])
    except ValueError as error:
        raise FlashError(Exit.FIRMWARE_UNFIT, f"the MicroPython image is damaged: {error}") from None
    if not table:
        raise FlashError(Exit.FIRMWARE_UNFIT, "the MicroPython image has no partition table")
    if not any(part.label == "vfs" for part in table):
        end = max(part.end for part in table)
        table = (*table, Partition("vfs", 1, 0x81, end, flash_bytes - end))
    last = max(table, key=lambda part: part.end)
    if last.end > flash_bytes or last.size < 16 * BLOCK:
        raise FlashError(
            Exit.FIRMWARE_UNFIT,
            f"the MicroPython image needs {last.end / 2**20:g} MB of flash, the node has {flash_bytes / 2**20:g} MB",
        )
    return Layout(table)
