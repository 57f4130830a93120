"""What the poster keeps: checkpoints in the contract, and those signed but not yet seen there (chain.sqlite).

A checkpoint is written here before it is sent, and its transaction before that is sent; so after a crash the
poster finds what it may have sent, and never signs two checkpoints for one place in the chain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensorhub.chain import requests
from sensorhub.chain.digest import ChainCheckpoint
from sensorhub.chain.errors import ChainError
from sensorhub.chain.requests import Request, RequestState
from sensorhub.locks import Lock

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS identity (
    one INTEGER PRIMARY KEY CHECK (one = 1), chain_id INTEGER NOT NULL, contract BLOB NOT NULL, log_id BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS post (
    seq INTEGER PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, prev BLOB NOT NULL,
    start INTEGER NOT NULL, "end" INTEGER NOT NULL, signature BLOB NOT NULL, note BLOB NOT NULL,
    tx BLOB NOT NULL, block INTEGER NOT NULL, gas INTEGER NOT NULL,
    hash BLOB NOT NULL UNIQUE, made_ms INTEGER NOT NULL, confirmed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS post_unconfirmed ON post (seq) WHERE confirmed = 0;
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, prev BLOB NOT NULL,
    start INTEGER NOT NULL, "end" INTEGER NOT NULL, signature BLOB NOT NULL, note BLOB NOT NULL,
    hash BLOB NOT NULL UNIQUE, made_ms INTEGER NOT NULL,
    tx BLOB, raw BLOB, nonce INTEGER, max_fee INTEGER, tip INTEGER, sent_ms INTEGER
);
"""
_SIGNED: Final = 'seq, size, root, prev, start, "end", signature, note, hash, made_ms'


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed checkpoint and the log's own note of the same tree.

    Attributes:
        checkpoint: what was signed.
        signature: 65 bytes; empty when it was found on the chain and could not be read there.
        note: the signed note of that size; empty when the records were lost and made anew from the chain.
        made_ms: when it was signed, Unix ms.
    """

    checkpoint: ChainCheckpoint
    signature: bytes
    note: bytes
    made_ms: int


@dataclass(frozen=True, slots=True)
class InFlight:
    """The transaction that may carry a checkpoint; fees in wei per gas."""

    tx: bytes
    raw: bytes
    nonce: int
    max_fee: int
    tip: int
    sent_ms: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A checkpoint that is not known to be in the contract."""

    signed: Signed
    flight: InFlight | None


@dataclass(frozen=True, slots=True)
class Anchored:
    """A checkpoint in the contract: its transaction, block and gas."""

    signed: Signed
    tx: bytes
    block: int
    gas: int
    confirmed: bool


class Records:
    """The poster's database; one process at a time.

    Args:
        path: `chain.sqlite` in the data directory; other processes may read it.

    Raises:
        ChainError: another poster uses it, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log_id = bytes(32)
        lock: Lock | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = lock = Lock(
                path.with_name(path.name + ".lock"),
                what=f"checkpoints are being posted from {path}",
                remedy="stop `sensorhub run` or its chain process first",
                error=ChainError,
            )
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA + requests.SCHEMA)
        except (OSError, sqlite3.Error) as error:
            if lock is not None:
                lock.release()
            raise ChainError(f"cannot open the record of posts {path}: {error}") from error

    def close(self) -> None:
        """Lets the next process in."""
        self._db.close()
        self._lock.release()

    def identify(self, chain_id: int, contract: bytes, log_id: bytes) -> None:
        """Binds new records to a log, contract and chain.

        Raises:
            ChainError: the records belong to others.
        """
        wanted = (chain_id, contract, log_id)
        self._db.execute("INSERT OR IGNORE INTO identity VALUES (1, ?, ?, ?)", wanted)
        found = self._db.execute("SELECT chain_id, contract, log_id FROM identity").fetchone()
        if tuple(found) != wanted:
            raise ChainError(
                f"{self.path} records the posts of log {found[2].hex()[:16]}... to contract 0x{found[1].hex()} on chain "
                f"{found[0]}, not of log {log_id.hex()[:16]}... to 0x{contract.hex()} on chain {chain_id}: correct the "
                "settings, or move the file away when you mean to begin anew"
            )
        self._log_id = log_id

    def newest(self) -> Anchored | None:
        """The last checkpoint known to be in the contract."""
        return self._anchored("ORDER BY seq DESC LIMIT 1")

    def unconfirmed(self) -> list[Anchored]:
        """Checkpoints in the contract that are not final yet, oldest first."""
        return self._anchored_all("WHERE confirmed = 0 ORDER BY seq")

    def seq_of(self, struct_hash: bytes) -> int | None:
        """The number of the checkpoint with this struct hash, in the contract or not."""
        row = self._db.execute(
            "SELECT seq FROM post WHERE hash = ?1 UNION SELECT seq FROM outbox WHERE hash = ?1",
            (struct_hash,),
        ).fetchone()
        return None if row is None else row[0]

    def outgoing(self) -> Outgoing | None:
        """The next checkpoint to bring into the contract."""
        found = self._outgoing("ORDER BY seq LIMIT 1", ())
        return found[0] if found else None

    def outgoing_until(self, seq: int) -> list[Outgoing]:
        """The checkpoints up to `seq` that are not yet recorded as posted, oldest first."""
        return self._outgoing("WHERE seq <= ? ORDER BY seq", (seq,))

    def last_made_ms(self) -> int | None:
        """When the newest checkpoint was signed, Unix ms."""
        row = self._db.execute(
            "SELECT max(made_ms) FROM (SELECT made_ms FROM post UNION ALL SELECT made_ms FROM outbox)"
        ).fetchone()
        return None if row is None else row[0]

    def gas(self) -> tuple[int, float | None]:
        """How many posts there are and the mean gas of those whose gas is known."""
        count, mean = self._db.execute("SELECT count(*), avg(nullif(gas, 0)) FROM post").fetchone()
        return count, mean

    def add(self, signed: Signed) -> None:
        """Keeps a new signed checkpoint, durable before this returns."""
        self._db.execute(
            f"INSERT INTO outbox ({_SIGNED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            _columns(signed),
        )

    def attach(self, seq: int, flight: InFlight | None) -> None:
        """Notes the transaction that is about to carry a checkpoint; None when it can never be mined."""
        self._db.execute(
            "UPDATE outbox SET tx = ?, raw = ?, nonce = ?, max_fee = ?, tip = ?, sent_ms = ? WHERE seq = ?",
            (flight.tx, flight.raw, flight.nonce, flight.max_fee, flight.tip, flight.sent_ms, seq)
            if flight
            else (None,) * 6 + (seq,),
        )

    def record(self, anchored: Sequence[Anchored], *, replace: bool = False) -> None:
        """Moves checkpoints into the table of posts, all or none.

        Args:
            anchored: consecutive checkpoints, oldest first.
            replace: they come from the chain and push aside whatever is recorded from the first one on.
        """
        with self._transaction():
            if replace:
                first = anchored[0].signed.checkpoint.seq
                self._db.execute("DELETE FROM post WHERE seq >= ?", (first,))
                self._db.execute("DELETE FROM outbox WHERE seq >= ?", (first,))
            for one in anchored:
                self._db.execute("DELETE FROM outbox WHERE seq = ?", (one.signed.checkpoint.seq,))
                self._db.execute(
                    f"INSERT INTO post ({_SIGNED}, tx, block, gas, confirmed) "  # noqa: S608
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*_columns(one.signed), one.tx, one.block, one.gas, one.confirmed),
                )

    def move(self, seq: int, tx: bytes, block: int, gas: int) -> None:
        """A reorganisation put a checkpoint into another block or transaction."""
        self._db.execute("UPDATE post SET tx = ?, block = ?, gas = ? WHERE seq = ?", (tx, block, gas, seq))

    def confirm(self, seq: int) -> None:
        """Marks a checkpoint as final."""
        self._db.execute("UPDATE post SET confirmed = 1 WHERE seq = ?", (seq,))

    def withdraw(self, seq: int) -> int:
        """Takes the checkpoints after `seq`, which vanished from the chain, back into the outbox; how many."""
        with self._transaction():
            moved = self._db.execute(
                f"INSERT INTO outbox ({_SIGNED}) SELECT {_SIGNED} FROM post WHERE seq > ?",  # noqa: S608
                (seq,),
            ).rowcount
            self._db.execute("DELETE FROM post WHERE seq > ?", (seq,))
        return moved

    def requests(self) -> list[tuple[Request, InFlight | None]]:
        """Requests that are not done, oldest first, with the transaction that may carry each."""
        rows = self._db.execute(
            f"SELECT {requests.COLUMNS}, tx, raw, nonce, max_fee, tip, sent_ms FROM request"  # noqa: S608
            " WHERE state IN ('asked', 'sent', 'mined') ORDER BY id"
        )
        width = requests.COLUMNS.count(",") + 1
        return [
            (requests.request_of(row[:width]), None if row[width] is None else InFlight(*row[width:]))
            for row in rows
        ]

    def carry(self, number: int, flight: InFlight | None) -> None:
        """Notes the transaction that is about to carry a request; None when it can never be mined."""
        self._db.execute(
            "UPDATE request SET tx = ?, raw = ?, nonce = ?, max_fee = ?, tip = ?, sent_ms = ?, block = NULL,"
            " state = ? WHERE id = ?",
            (flight.tx, flight.raw, flight.nonce, flight.max_fee, flight.tip, flight.sent_ms, "sent", number)
            if flight
            else (*(None,) * 6, "asked", number),
        )

    def conclude(
        self, number: int, state: RequestState, *, block: int | None = None, error: str | None = None
    ) -> None:
        """Notes what became of a request."""
        self._db.execute(
            "UPDATE request SET state = ?, block = ?, error = ? WHERE id = ?", (state, block, error, number)
        )

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def _anchored(self, clause: str) -> Anchored | None:
        found = self._anchored_all(clause)
        return found[0] if found else None

    def _anchored_all(self, clause: str) -> list[Anchored]:
        rows = self._db.execute(f"SELECT {_SIGNED}, tx, block, gas, confirmed FROM post {clause}")  # noqa: S608
        return [Anchored(self._signed(row), row[10], row[11], row[12], bool(row[13])) for row in rows]

    def _outgoing(self, clause: str, values: Sequence[int]) -> list[Outgoing]:
        rows = self._db.execute(
            f"SELECT {_SIGNED}, tx, raw, nonce, max_fee, tip, sent_ms FROM outbox {clause}",  # noqa: S608
            values,
        )
        return [Outgoing(self._signed(row), None if row[10] is None else InFlight(*row[10:])) for row in rows]

    def _signed(self, row: Sequence[object]) -> Signed:
        seq, size, root, prev, start, end, signature, note, _hash, made_ms = row[:10]
        checkpoint = ChainCheckpoint(self._log_id, seq, size, root, prev, start, end)  # type: ignore[arg-type]
        return Signed(checkpoint, signature, note, made_ms)  # type: ignore[arg-type]


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _columns(signed: Signed) -> tuple[object, ...]:
    one = signed.checkpoint
    return (
        one.seq,
        one.size,
        one.root,
        one.prev,
        one.start,
        one.end,
        signed.signature,
        signed.note,
        one.struct_hash(),
        signed.made_ms,
    )
