"""Rows as Parquet, and the comparison of rows. Loads pyarrow, which nothing else in the room does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sensorhub.chain.untrusted import shown
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.manifest import DATA, METADATA_KEY
from sensorhub.verify.pages import check_pages
from sensorhub.verify.rows import COLUMNS, Rows

CHUNK_ROWS: Final = 65_536
"""Rows that are compared, and written as one row group, at a time."""
MAX_DIFFERENCES: Final = 20
"""Differences that are told one by one; the rest is counted."""

MAX_PAGE_BYTES: Final = 4 << 20
"""Bytes that one page may have when decompressed; the writer here makes pages of about one MiB."""
MAX_DATA_PAGE_BYTES: Final = 128 << 20
"""The same for the column `data`, whose values may have 64 kB each: the writer looks at a page's size only every
1,024 values."""
MAX_VALUE: Final = 120
"""Characters of a value that a difference repeats."""
SLACK_BYTES: Final = 1 << 20
"""Bytes by which the text of a column may be longer than what the evidence gives, before it is unfolded."""
_THRIFT_LIMIT: Final = 16 << 20

_TYPES: Final = {
    "node": pa.string(),
    "channel": pa.string(),
    "unit": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "value": pa.float64(),
    "data": pa.binary(),
    "score": pa.float32(),
    "flags": pa.uint32(),
    "judge": pa.string(),
    "time_quality": pa.uint8(),
    "received": pa.timestamp("ms", tz="UTC"),
    "message": pa.uint64(),
    "record": pa.uint16(),
    "boot": pa.uint64(),
    "seq": pa.uint64(),
    "kid": pa.string(),
    "verdict": pa.uint64(),
}
_NULLABLE: Final = frozenset({"time", "value", "data", "score", "flags", "judge", "verdict"})


def schema(provenance: bytes) -> pa.Schema:
    """The one schema of `data.parquet`, with the provenance in its metadata."""
    fields = [pa.field(name, _TYPES[name], nullable=name in _NULLABLE) for name in COLUMNS]
    return pa.schema(fields, metadata={METADATA_KEY: provenance})


def batch(rows: Rows, target: pa.Schema) -> pa.RecordBatch:
    """Columns as an Arrow batch.

    Raises:
        VerifyError: a number does not fit its column, such as a time 300,000 years ahead.
    """
    arrays = []
    for field in target:
        try:
            arrays.append(pa.array(rows.columns[field.name], type=field.type))
        except (OverflowError, pa.ArrowInvalid) as error:
            raise VerifyError(DATA, f"column {field.name} cannot hold what the evidence gives") from error
    return pa.RecordBatch.from_arrays(arrays, schema=target)


class Writer:
    """Writes `data.parquet`: zstd, one row group for each batch."""

    def __init__(self, path: Path, target: pa.Schema) -> None:
        self._schema = target
        self._file = pq.ParquetWriter(path, target, compression="zstd")

    def write(self, rows: Rows) -> None:
        """Adds rows."""
        self._file.write_batch(batch(rows, self._schema))

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def compare(path: Path, derived: Iterable[Rows], provenance: bytes) -> tuple[int, list[str]]:
    """Holds a file against the rows that the evidence gives, one by one.

    Returns:
        (number of rows that the evidence gives, differences in words, at most MAX_DIFFERENCES and one).

    Raises:
        VerifyError: the file cannot be read as Parquet.
    """
    target = schema(provenance)
    try:
        with _open(path) as file:
            _check_pages(path, file.metadata)
            differences = _schema_differences(file.schema_arrow, target)
        if any(text.startswith("column") for text in differences):
            return 0, differences
        # Texts stay dictionaries until their length is known: one long text may stand in all rows.
        with _open(path, read_dictionary=[name for name, kind in _TYPES.items() if _is_text(kind)]) as file:
            # the types are the same; the derived rows take the file's own metadata so that only values count
            reader = _Slices(file)
            total = 0
            for rows in derived:
                expected = batch(rows, target)
                _compare_batch(reader.take(len(rows)), expected, total, differences)
                total += len(rows)
                if len(differences) > MAX_DIFFERENCES:
                    break
            else:
                rest = file.metadata.num_rows - total
                if rest > 0:
                    differences.append(f"row {total} and {rest - 1} more follow from no evidence")
            return total, differences
    except (pa.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:
        first = shown(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise VerifyError(DATA, f"not readable as Parquet: {first}") from error


def _open(path: Path, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(
        path,
        read_dictionary=read_dictionary,
        thrift_string_size_limit=_THRIFT_LIMIT,
        thrift_container_size_limit=_THRIFT_LIMIT,
    )


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.binary())


def _check_pages(path: Path, metadata: pq.FileMetaData) -> None:
    ranges = []
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for position in range(columns.num_columns):
            chunk = columns.column(position)
            if chunk.num_values <= 0:
                continue  # Arrow reads no page of it
            start, first = chunk.data_page_offset, chunk.dictionary_page_offset
            if first is not None and 0 < first < start:
                start = first
            ranges.append((chunk.path_in_schema, start, chunk.total_compressed_size))
    with path.open("rb") as file:
        check_pages(
            file, DATA, ranges, lambda name: MAX_DATA_PAGE_BYTES if name == "data" else MAX_PAGE_BYTES
        )


def _schema_differences(found: pa.Schema, target: pa.Schema) -> list[str]:
    differences = []
    if found.names != target.names:
        differences.append(f"columns are {', '.join(found.names)}, not {', '.join(target.names)}")
        return differences
    differences += [
        f"column {name} is {found.field(name).type}, not {target.field(name).type}"
        for name in target.names
        if found.field(name) != target.field(name)
    ]
    if (found.metadata or {}).get(METADATA_KEY) != (target.metadata or {})[METADATA_KEY]:
        differences.append("the provenance in the schema metadata is not that of the manifest")
    return differences


class _Slices:
    """Reads a Parquet file front to back in pieces of any length."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._batches = file.iter_batches(batch_size=CHUNK_ROWS)
        self._left: pa.Table | None = None

    def take(self, count: int) -> pa.Table | None:
        """The next `count` rows, fewer at the end, None when there are none."""
        parts = [] if self._left is None else [self._left]
        have = sum(part.num_rows for part in parts)
        while have < count:
            following = next(self._batches, None)
            if following is None:
                break
            parts.append(pa.Table.from_batches([following]))
            have += following.num_rows
        if not parts:
            return None
        table = pa.concat_tables(parts)
        self._left = table.slice(count) if table.num_rows > count else None
        return table.slice(0, count)


def _compare_batch(
    found: pa.Table | None, expected: pa.RecordBatch, first: int, differences: list[str]
) -> None:
    have = 0 if found is None else found.num_rows
    for name in expected.schema.names:
        if found is None:
            break
        ours = expected.column(name).slice(0, have)
        theirs = _unfolded(found.column(name), ours, name)
        if theirs.equals(ours):
            continue
        for position, (their, our) in enumerate(zip(theirs, ours, strict=True)):
            if not their.equals(our):
                if len(differences) <= MAX_DIFFERENCES:
                    differences.append(
                        f"row {first + position}, {name}: {_plain(their)}, the evidence gives {_plain(our)}"
                    )
                else:
                    return
    if have < expected.num_rows:
        differences.append(f"row {first + have} and all that should follow are missing")


def _unfolded(column: pa.ChunkedArray, ours: pa.Array, name: str) -> pa.Array:
    """A column of the file as one plain array.

    Raises:
        VerifyError: it would take far more memory than what it is compared with.
    """
    if _is_text(ours.type):
        size = sum(
            pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
            for chunk in column.chunks
        )
        mine = pc.sum(pc.binary_length(ours)).as_py() or 0
        if size > mine + SLACK_BYTES:
            raise VerifyError(
                DATA, f"column {name} holds {size} bytes in {len(column)} rows, the evidence gives {mine}"
            )
        chunks = [chunk.dictionary_decode() for chunk in column.chunks]
    else:
        chunks = column.chunks
    return pa.concat_arrays(chunks) if chunks else pa.array([], ours.type)


def _plain(scalar: Any) -> str:
    """A value of the file or the evidence in words; it may be one that Python has no form for."""
    try:
        if pa.types.is_timestamp(scalar.type):
            return str(scalar)
        value = scalar.as_py()
    except (OverflowError, ValueError):  # beyond the year 9999; or bytes that are no text
        if pa.types.is_timestamp(scalar.type):
            return f"{scalar.value} {scalar.type.unit} after 1970"
        value = scalar.as_buffer().to_pybytes()
    return shown(value if value is None or isinstance(value, int) else repr(value), MAX_VALUE)
