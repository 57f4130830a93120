"""Signed heads of a log to prove against: the ones on the chain, and the newest note."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sensorhub.chain.digest import ChainCheckpoint, digest, recover
from sensorhub.dataset.errors import DatasetError
from sensorhub.dataset.source import LogSource
from sensorhub.log.entries import EntryError, Genesis, decode_entry
from sensorhub.log.merkle import leaf_hash
from sensorhub.verify.proof import Anchor, SignedCheckpoint
from sensorhub.verify.trust import unsigned_checkpoint

_COLUMNS = 'seq, size, root, prev, start, "end", signature, note, tx, block, made_ms'


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A tree size with a signed note, and where that size stands on the chain.

    Attributes:
        size: number of entries covered.
        note: signed checkpoint note, verbatim.
        anchor: the chain checkpoint of this size; None when it was not posted.
        made_ms: when that checkpoint was signed, Unix ms; None where it is not known.
    """

    size: int
    note: bytes
    anchor: Anchor | None
    made_ms: int | None = None


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Entry 0 and what follows from it."""

    entry: bytes
    genesis: Genesis
    log_id: bytes


def identity(log: LogSource) -> LogIdentity:
    """Whose log this is.

    Raises:
        DatasetError: the log is empty or does not begin with a genesis entry.
    """
    if log.size() == 0:
        raise DatasetError("the log is empty: start the gateway and let it receive something first")
    entry = log.entry(0)
    try:
        genesis = decode_entry(entry)
    except EntryError as error:
        raise DatasetError(f"entry 0 of the log cannot be read: {error}; run `sensorhub log fsck`") from error
    if not isinstance(genesis, Genesis):
        raise DatasetError("entry 0 of the log is no genesis entry; run `sensorhub log fsck`")
    return LogIdentity(entry, genesis, leaf_hash(entry))


def read_heads(path: Path | None, who: LogIdentity) -> list[SignedHead]:
    """The heads of a log that were posted and mined, ascending by size.

    Posts that the poster found on the chain after it lost its records have no note of their size and are left
    out: nothing can be proven against those.

    Args:
        path: `chain.sqlite` of the gateway; None or a missing file gives no heads.
        who: the log.

    Raises:
        DatasetError: the file is no such database, or belongs to another log.
    """
    if path is None or not path.exists():
        return []
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        try:
            identity = connection.execute("SELECT chain_id, contract, log_id FROM identity").fetchone()
            rows = connection.execute(f"SELECT {_COLUMNS} FROM post ORDER BY size").fetchall()  # noqa: S608
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DatasetError(f"cannot read the posts in {path}: {error}") from error
    if identity is None:
        return []
    chain_id, contract, log_id = identity
    if log_id != who.log_id:
        raise DatasetError(
            f"{path} records the posts of log {log_id.hex()}, not of {who.log_id.hex()}: move it away"
        )
    return [_head(row, who, chain_id, contract) for row in rows if row[6] and row[7]]


def _head(row: Sequence[Any], who: LogIdentity, chain_id: int, contract: bytes) -> SignedHead:
    seq, size, root, prev, start, end, signature, note, tx, block, made_ms = row
    checkpoint = ChainCheckpoint(who.log_id, seq, size, root, prev, start, end)
    gateway = recover(digest(checkpoint, chain_id, contract), signature)
    signed = SignedCheckpoint(seq, size, root, prev, start, end, gateway, signature)
    return SignedHead(size, note, Anchor(chain_id, contract, signed, tx, block), made_ms)


def newest_note(log: LogSource) -> SignedHead:
    """The newest signed checkpoint, which no chain carries (yet).

    Raises:
        DatasetError: the log has not signed any, or it cannot be read.
    """
    note = log.checkpoint()
    if note is None:
        raise DatasetError("the log has no signed checkpoint yet: wait a second and try again")
    checkpoint = unsigned_checkpoint(note)
    if checkpoint is None:
        raise DatasetError("the log's checkpoint cannot be read; run `sensorhub log fsck`")
    return SignedHead(checkpoint.size, note, None)


def choose_head(log: LogSource, heads: Sequence[SignedHead], *, covers: int) -> SignedHead:
    """The newest anchored head that covers entry `covers`, otherwise the newest note.

    Raises:
        DatasetError: nothing signed covers the entry.
    """
    anchored = [head for head in heads if head.size > covers]
    if anchored:
        return anchored[-1]
    head = newest_note(log)
    if head.size <= covers:
        raise DatasetError(
            f"entry {covers} is newer than the newest signed checkpoint ({head.size} entries): try again shortly"
        )
    return head
