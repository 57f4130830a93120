"""The tables of the SQLite store, and how its files are opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sensorhub.errors import SensorhubError
from sensorhub.locks import Lock

#: Stored as `user_version`; a store of another version is rebuilt, never migrated.
VERSION: Final = 3

FIVE_MINUTES: Final = 300
HOUR: Final = 3600
DAY: Final = 86_400

#: A message holds at most 256 records (wire.MAX_RECORDS): `id` of the `reading` view is message * RECORDS + record.
RECORDS: Final = 256

_ROLLUP: Final = """
CREATE TABLE rollup_{name} (
    node INTEGER NOT NULL, bucket INTEGER NOT NULL, channel INTEGER NOT NULL,
    n INTEGER NOT NULL, mean REAL, min REAL, max REAL, last REAL NOT NULL, steadiness REAL,
    trusted_n INTEGER NOT NULL, trusted_mean REAL, trusted_steadiness REAL, flags INTEGER NOT NULL,
    judged_n INTEGER NOT NULL, score INTEGER NOT NULL, flag_counts TEXT,
    PRIMARY KEY (node, bucket, channel)
) WITHOUT ROWID;
"""

_TABLES: Final = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE node (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT, owner TEXT, geohash TEXT,
    key BLOB, enrolled INTEGER, revoked INTEGER,
    messages INTEGER NOT NULL DEFAULT 0, readings INTEGER NOT NULL DEFAULT 0,
    judged INTEGER NOT NULL DEFAULT 0, trusted INTEGER NOT NULL DEFAULT 0,
    last_time REAL, last_received INTEGER
);
CREATE TABLE node_entry (entry INTEGER PRIMARY KEY, node INTEGER NOT NULL);
CREATE TABLE channel (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, unit TEXT NOT NULL, style TEXT NOT NULL);
CREATE TABLE layout (id INTEGER PRIMARY KEY, channels TEXT NOT NULL UNIQUE);
CREATE TABLE source (
    node INTEGER NOT NULL, layout INTEGER NOT NULL, span REAL NOT NULL, PRIMARY KEY (node, layout)
) WITHOUT ROWID;
CREATE TABLE message (
    id INTEGER PRIMARY KEY, node INTEGER NOT NULL, layout INTEGER, received INTEGER NOT NULL,
    tq INTEGER NOT NULL, base INTEGER, first REAL, last REAL, dated INTEGER, clone INTEGER, clock REAL,
    times TEXT, "values" TEXT
);
CREATE INDEX message_time ON message (node, layout, last, first);
CREATE INDEX message_undated ON message (clock) WHERE last IS NULL;
CREATE INDEX message_cloned ON message (clone) WHERE clone IS NOT NULL;
CREATE TABLE verdict (message INTEGER PRIMARY KEY, entry INTEGER NOT NULL, scores TEXT NOT NULL, flags TEXT);
CREATE TABLE reviewed (message INTEGER PRIMARY KEY);
CREATE TABLE artefact (entry INTEGER PRIMARY KEY, ms INTEGER NOT NULL, what TEXT NOT NULL, sha256 BLOB NOT NULL, description TEXT NOT NULL);
CREATE TABLE dirty (node INTEGER NOT NULL, bucket INTEGER NOT NULL, PRIMARY KEY (node, bucket)) WITHOUT ROWID;
{_ROLLUP.format(name="5m")}
{_ROLLUP.format(name="1h")}
CREATE VIEW reading AS
SELECT m.id * {RECORDS} + v.key AS id, m.id AS message, v.key AS record, n.name AS node, c.name AS channel,
       m.base + coalesce(json_extract(m.times, '$[' || v.key || ']'), 0) AS t, v.value AS value,
       json_extract(q.scores, '$[' || v.key || ']') AS score,
       CASE WHEN q.message IS NOT NULL THEN coalesce(json_extract(q.flags, '$[' || v.key || ']'), 0) END AS flags
FROM message m, json_each(m."values") v
JOIN node n ON n.id = m.node
JOIN layout l ON l.id = m.layout
JOIN channel c ON c.id = json_extract(l.channels, '$[' || v.key || ']')
LEFT JOIN verdict q ON q.message = m.id
WHERE v.value IS NOT NULL;
"""  # noqa: S608 - numbers and names of this file

#: Every table with what orders it, for whole comparisons of two stores.
CONTENT: Final = {
    "meta": "key",
    "node": "id",
    "node_entry": "entry",
    "channel": "id",
    "layout": "id",
    "source": "node, layout",
    "message": "id",
    "verdict": "message",
    "reviewed": "message",
    "artefact": "entry",
    "dirty": "node, bucket",
    "rollup_5m": "node, bucket, channel",
    "rollup_1h": "node, bucket, channel",
}


class StoreError(SensorhubError):
    """Raised when the store cannot be opened or asked, or what reaches it does not continue it."""


class StoreNotBegunError(StoreError):
    """Raised when there is nothing to read yet: no file, or one in which nothing has been stored."""


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Opens the database file at `path`; as writer it also makes the tables of a new one.

    Raises:
        StoreNotBegunError: it is to be read, and there is nothing in it yet.
        StoreError: not a store, of another version, or not readable.
    """
    mode = "rwc" if write else "ro"
    there = path.exists()
    try:
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=30,
        )
        try:
            version = _version(db)
            if version != VERSION and not (write and version is None):
                raise _refusal(path, version)
            if write:
                # WAL lets other processes read while this one writes; with NORMAL a power cut may lose the last
                # transactions, whole ones, cursor included, and the log brings them back.
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                if version is None:
                    db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {VERSION};COMMIT;")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        # one that comes or goes meanwhile (begun, rebuilt) is not there either
        if not write and not (there and path.exists()):
            raise StoreNotBegunError(
                f"there is no store at {path}: start the gateway with `sensorhub run`, or set gateway.data_dir"
            ) from error
        raise trouble(path, error) from error
    return db


def _version(db: sqlite3.Connection) -> int | None:
    """The version of a store; 0 for a database of something else, None for one with nothing in it."""
    # one statement sees one state of a file whose tables another process may be making
    version, tables = db.execute(
        "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
    ).fetchone()
    return version if version or tables else None


def _refusal(path: Path, version: int | None) -> StoreError:
    if version is None:
        return StoreNotBegunError(
            f"nothing has been stored in {path} yet: `sensorhub run` does it; if that runs, try again in a moment"
        )
    if version == 0:
        return StoreError(
            f"{path} is a database of something else, not a store: move it away, then `sensorhub rebuild store` "
            "makes the store from the log"
        )
    return StoreError(
        f"the store {path} has version {version}, this program needs {VERSION}; "
        "`sensorhub rebuild store` makes it anew from the log"
    )


def trouble(path: Path, error: sqlite3.Error) -> StoreError:
    """What SQLite's `error` with the store at `path` means to a person: it is damaged, or out of reach."""
    # https://sqlite.org/rescode.html: the low byte is the primary result code
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreError(
            f"the store {path} is damaged ({error}); `sensorhub rebuild store` makes it anew from the log"
        )
    return StoreError(
        f"the store {path} cannot be used now ({error}): see that its disk is well and has room, and that this user "
        "may read and write its folder"
    )


def writer_lock(path: Path) -> Lock:
    """Locks the store at `path` for writing, until the lock is released or the process ends.

    Raises:
        StoreError: another process holds it.
    """
    return Lock(
        path.with_name(path.name + ".lock"),
        what=f"the store {path} is being written",
        remedy="stop `sensorhub run` or its store process first",
        error=StoreError,
    )
