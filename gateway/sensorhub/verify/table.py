"""Rows as Parquet, and the comparison of rows. Loads pyarrow, which nothing else in the room does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sensorhub.verify.errors import VerifyError
from sensorhub.verify.manifest import DATA, METADATA_KEY
from sensorhub.verify.rows import COLUMNS, Rows

CHUNK_ROWS: Final = 65_536
"""Rows that are compared, and written as one row group, at a time."""
MAX_DIFFERENCES: Final = 20
"""Differences that are told one by one; the rest is counted."""

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
    """Columns as an Arrow batch."""
    arrays = [pa.array(rows.columns[field.name], type=field.type) for field in target]
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
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow
            differences = _schema_differences(found, target)
            if any(text.startswith("column") for text in differences):
                return 0, differences
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
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VerifyError(DATA, f"not readable as Parquet: {first}") from error


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
        theirs = found.column(name).combine_chunks()
        if isinstance(theirs, pa.ChunkedArray):
            theirs = (
                pa.concat_arrays(theirs.chunks)
                if theirs.num_chunks
                else pa.array([], expected.column(name).type)
            )
        ours = expected.column(name).slice(0, have)
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


def _plain(scalar: Any) -> str:
    value = scalar.as_py() if not pa.types.is_timestamp(scalar.type) else scalar
    return str(value) if not isinstance(value, float | str) else repr(value)
