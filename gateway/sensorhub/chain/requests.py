"""Acts on the contract that other processes ask the poster for: flag entries, hand the log over, close it.

One account has one row of nonces, and the poster counts them; so nobody else sends from it. Whoever wants an act
writes it into `chain.sqlite`, and the poster carries it out between two checkpoints.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sensorhub.chain.errors import ChainError

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS request (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, start INTEGER, stop INTEGER, reason TEXT,
    signer BLOB, proof BLOB, asked_ms INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'asked', error TEXT,
    tx BLOB, raw BLOB, nonce INTEGER, max_fee INTEGER, tip INTEGER, sent_ms INTEGER, block INTEGER
);
CREATE INDEX IF NOT EXISTS request_open ON request (id) WHERE state IN ('asked', 'sent', 'mined');
"""
COLUMNS: Final = "id, kind, start, stop, reason, signer, proof, asked_ms, state, error, tx, block"
MAX_REASON: Final = 256
"""Longest reason of a flag in bytes of UTF-8."""
FOR_EVER: Final = 2**64 - 1
"""`stop` of a flag on all entries from `start` on, also those yet to come."""
_MAX_INDEX: Final = 2**63 - 1


class Act(StrEnum):
    """What can be asked for."""

    FLAG = "flag"
    ROTATE = "rotate"
    CLOSE = "close"


class RequestState(StrEnum):
    """How far a request is: not begun, sent, in a block, in a final block, or refused for good."""

    ASKED = "asked"
    SENT = "sent"
    MINED = "mined"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        id: its number.
        kind: what is asked for.
        start: first entry to flag; None for other acts.
        stop: entry after the last one to flag, FOR_EVER for no end; None for other acts.
        reason: why, for people; empty for other acts.
        signer: address of the new signer, 20 bytes, for a rotation; else empty.
        proof: the new signer's signature (65 bytes) of the rotation; else empty.
        asked_ms: when, Unix ms.
        state: how far it is.
        error: why it was refused; empty otherwise.
        tx: transaction that carries or carried it, 32 bytes, or None.
        block: block of that transaction, or None.
    """

    id: int
    kind: Act
    start: int | None
    stop: int | None
    reason: str
    signer: bytes
    proof: bytes
    asked_ms: int
    state: RequestState
    error: str
    tx: bytes | None
    block: int | None


def ask_flag(path: Path, start: int, stop: int, reason: str) -> int:
    """Asks the poster to flag entries `start <= index < stop` in the contract, for ever.

    Args:
        path: `chain.sqlite` in the data directory; made when missing.
        start: first entry.
        stop: entry after the last; FOR_EVER for all that follow.
        reason: why, for people.

    Returns:
        The number of the request; a request for the very same that is not refused is not made twice.

    Raises:
        ChainError: an empty range, too long a reason, or the file cannot be written.
    """
    if not 0 <= start < stop or start > _MAX_INDEX or (stop > _MAX_INDEX and stop != FOR_EVER):
        raise ChainError(f"entries {start} to {stop} are no range that can be flagged")
    if len(reason.encode()) > MAX_REASON:
        raise ChainError(
            f"the reason of a flag has at most {MAX_REASON} bytes, this one {len(reason.encode())}"
        )
    return _ask(path, Act.FLAG, start, None if stop == FOR_EVER else stop, reason, b"", b"")


def ask_rotate(path: Path, signer: bytes, proof: bytes) -> int:
    """Asks the poster to hand the log to another key. It stops afterwards until that key is configured.

    Args:
        path: `chain.sqlite`.
        signer: address of the new key, 20 bytes.
        proof: the new key's signature of `digest.rotate_hash(log_id, nonce, signer)` as typed data, 65 bytes,
            with the nonce of the log's head in the contract.

    Returns:
        The number of the request.

    Raises:
        ChainError: the file cannot be written, or the lengths are wrong.
    """
    if len(signer) != 20 or len(proof) != 65:
        raise ChainError("a rotation needs an address of 20 bytes and a signature of 65")
    return _ask(path, Act.ROTATE, None, None, "", signer, proof)


def ask_close(path: Path) -> int:
    """Asks the poster to close the log in the contract, for ever; the number of the request.

    Raises:
        ChainError: the file cannot be written.
    """
    return _ask(path, Act.CLOSE, None, None, "", b"", b"")


def read_requests(path: Path) -> list[Request]:
    """Every request there was, oldest first.

    Raises:
        ChainError: the file cannot be read.
    """
    if not path.exists():
        return []
    try:
        db = _open(path)
        try:
            return [request_of(row) for row in db.execute(f"SELECT {COLUMNS} FROM request ORDER BY id")]  # noqa: S608
        finally:
            db.close()
    except sqlite3.Error as error:
        raise ChainError(f"cannot read the requests in {path}: {error}") from error


def request_of(row: Sequence[Any]) -> Request:
    """A request from its COLUMNS."""
    number, kind, start, stop, reason, signer, proof, asked_ms, state, error, tx, block = row
    if kind == Act.FLAG and stop is None:
        stop = FOR_EVER
    return Request(
        number,
        Act(kind),
        start,
        stop,
        reason,
        signer,
        proof,
        asked_ms,
        RequestState(state),
        error or "",
        tx,
        block,
    )


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(SCHEMA)
    return db


def _ask(path: Path, *wanted: object) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = _open(path)
        try:
            db.execute("BEGIN IMMEDIATE")
            same = db.execute(
                "SELECT id FROM request WHERE kind = ? AND start IS ? AND stop IS ? AND reason = ? AND signer = ?"
                " AND proof = ? AND state != 'refused'",
                wanted,
            ).fetchone()
            if same is None:
                same = db.execute(
                    "INSERT INTO request (kind, start, stop, reason, signer, proof, asked_ms)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
                    (*wanted, time.time_ns() // 1_000_000),
                ).fetchone()
            db.execute("COMMIT")
        finally:
            db.close()
    except (sqlite3.Error, OSError) as error:
        raise ChainError(f"cannot write the request into {path}: {error}") from error
    return int(same[0])
