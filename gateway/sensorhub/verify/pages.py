"""Looks at the pages of a Parquet file before anything decodes them.

A few bytes of zstd unfold to gigabytes, and the sizes in a Parquet footer are whatever its writer said. What a
decoder allocates for a page stands in the page's own header, so these are read here: Thrift compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md), struct `PageHeader` of
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from sensorhub.verify.errors import VerifyError

MAX_PAGES: Final = 1_000_000
"""Most pages of one file."""
HEADER_BYTES: Final = 64 * 1024
"""Bytes looked at for one page header; it may hold the smallest and largest value of its page."""

_UNCOMPRESSED, _COMPRESSED = 2, 3
_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY = (1, 2), 3, (4, 5, 6), 7, 8
_LISTS, _STRUCT = (9, 10), 12
_MAX_NESTING: Final = 4


class _CutOffError(Exception):
    """Raised when a header ends before its end, or holds what no page header does."""


def check_pages(
    file: BinaryIO, where: str, ranges: list[tuple[str, int, int]], most: Callable[[str], int]
) -> None:
    """Checks that no page unfolds to more than it may.

    Args:
        file: the Parquet file.
        where: its name, for errors.
        ranges: (column, first byte, bytes) of each column chunk, in file order.
        most: bytes that a page of a column may have when decompressed.

    Raises:
        VerifyError: one does; or chunks overlap, or a page header cannot be read.
    """
    pages, end = 0, 0
    for column, start, length in ranges:
        if start < end or length < 0:
            raise VerifyError(where, f"not readable as Parquet: column {column} lies over another one")
        end = start + length
        at = start
        while at < end:
            pages += 1
            if pages > MAX_PAGES:
                raise VerifyError(where, f"has more than {MAX_PAGES} pages")
            file.seek(at)
            head = file.read(min(HEADER_BYTES, end - at))
            try:
                size, fields = _struct(head, 0, 0)
            except (_CutOffError, IndexError):
                raise VerifyError(where, f"not readable as Parquet: no page header at byte {at}") from None
            unfolded, packed = fields.get(_UNCOMPRESSED, -1), fields.get(_COMPRESSED, -1)
            if unfolded < 0 or packed < 0 or at + size + packed > end:
                raise VerifyError(where, f"not readable as Parquet: no page header at byte {at}")
            if unfolded > most(column):
                raise VerifyError(
                    where,
                    f"a page of column {column} unfolds to {unfolded} bytes; at most {most(column)} are read",
                )
            at += size + packed


def _struct(data: bytes, at: int, depth: int) -> tuple[int, dict[int, int]]:
    """Where a struct ends, and its integer fields."""
    if depth > _MAX_NESTING:
        raise _CutOffError
    fields: dict[int, int] = {}
    field = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return at, fields
        kind, step = head & 15, head >> 4
        if step:
            field += step
        else:
            value, at = _varint(data, at)
            field = value >> 1 ^ -(value & 1)
        if kind in _INTEGERS:
            value, at = _varint(data, at)
            fields[field] = value >> 1 ^ -(value & 1)
        elif kind not in _BOOLEANS:  # a boolean field is in its head
            at = _skip(data, at, kind, depth)


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where a value that nobody needs ends."""
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)[0]
    if kind == _BYTE:
        return at + 1
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        length, at = _varint(data, at)
        return at + length
    if kind in _INTEGERS:
        return _varint(data, at)[1]
    if kind in _LISTS:
        head = data[at]
        count, at = head >> 4, at + 1
        if count == 15:
            count, at = _varint(data, at)
        if count > len(data):
            raise _CutOffError
        for _ in range(count):
            at = at + 1 if head & 15 in _BOOLEANS else _skip(data, at, head & 15, depth + 1)
        return at
    raise _CutOffError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _CutOffError
