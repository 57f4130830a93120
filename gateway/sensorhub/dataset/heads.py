"""Signed heads of a log to prove against: the ones on the chain, and the newest note."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sensorhub.chain.digest import ChainCheckpoint, digest, recover
from sensorhub.dataset.errors import DatasetError
from sensorhub.dataset.source import LogSource
from sensorhub.log.entries import EntryError, Genesis, decode_entry
from sensorhub.log.merkle import leaf_hash
from sensorhub.verify.proof import Anchor, SignedCheckpoint
from sensorhub.verify.trust import unsigned_checkpoint

_COLUMNS = 'seq, size, root, prev, start, "end", signature, note, tx, block'


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A tree size with a signed note, and where that size stands on the chain.

    Attributes:
        size: number of entries covered.
        note: signed checkpoint note, verbatim.
        anchor: the chain checkpoint of this size; None when it was not posted.
    """

    size: int
    note: bytes
    anchor: Anchor | None


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


def read_heads(
    path: Path | None, who: LogIdentity, *, chain_id: int | None = None, contract: bytes | None = None
) -> list[SignedHead]:
    """The heads that were posted and mined, ascending by size.

    Args:
        path: `chain.sqlite` of the gateway; None or a missing file gives no heads.
        who: the log.
        chain_id, contract: where they were posted, for a log whose genesis entry does not say.

    Raises:
        DatasetError: the file is no such database.
    """
    chain_id = who.genesis.chain_id if who.genesis.contract is not None else chain_id
    contract = who.genesis.contract if who.genesis.contract is not None else contract
    if path is None or not path.exists() or contract is None or chain_id is None:
        return []
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM post WHERE tx IS NOT NULL AND block IS NOT NULL ORDER BY size"  # noqa: S608
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DatasetError(f"cannot read the posts in {path}: {error}") from error
    return [_head(row, who, chain_id, contract) for row in rows]


def _head(row: Sequence[object], who: LogIdentity, chain_id: int, contract: bytes) -> SignedHead:
    seq, size, root, prev, start, end, signature, note, tx, block = row
    root, prev, signature, tx = (_blob(value) for value in (root, prev, signature, tx))
    numbers = [int(value) for value in (seq, size, start, end, block) if isinstance(value, int)]
    seq, size, start, end, block = numbers
    checkpoint = ChainCheckpoint(who.log_id, seq, size, root, prev, start, end)
    gateway = recover(digest(checkpoint, chain_id, contract), signature)
    signed = SignedCheckpoint(seq, size, root, prev, start, end, gateway, signature)
    text = note.encode() if isinstance(note, str) else _blob(note)
    return SignedHead(size, text, Anchor(chain_id, contract, signed, tx, block))


def _blob(value: object) -> bytes:
    """A hash or signature as stored: a blob, or hex text."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    raise DatasetError(f"a post holds {value!r} where bytes should be")


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
