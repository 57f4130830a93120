"""What the page and the API read: the committed log, the store and the status files of one gateway."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from sensorhub import status as status_files
from sensorhub.channels import CHANNELS
from sensorhub.channels import STORE as STORED
from sensorhub.errors import SensorhubError
from sensorhub.log.entries import Genesis, decode_entry
from sensorhub.log.note import Checkpoint, NoteVerifier, open_checkpoint
from sensorhub.log.reader import LogReader
from sensorhub.quality.reviews import WHAT as REVIEWS
from sensorhub.quality.reviews import Said, said_in
from sensorhub.store.reader import SqliteReader
from sensorhub.store.schema import StoreError, StoreNotBegunError

LOG: Final = "log"
STORE: Final = "store.sqlite"
#: Channels that the store keeps as numbers.
SERIES: Final = tuple(c.name for c in CHANNELS if c.kind == "number" and STORED in c.projections)

T = TypeVar("T")


class UnavailableError(SensorhubError):
    """Raised when a part of the gateway that an answer needs is not there (yet); asking again may help."""


class Gateway:
    """A gateway's data directory, opened for reading part by part as each comes into being.

    Threads may share it. Nothing here writes.

    Args:
        data_dir: the gateway's data directory.
        chain_configured: whether a chain is set, so that the page can tell "none yet" from "none".
    """

    def __init__(self, data_dir: Path, *, chain_configured: bool) -> None:
        self.data_dir = data_dir
        self.chain_configured = chain_configured
        self._opening = threading.Lock()
        self._log: LogReader | None = None
        self._store: SqliteReader | None = None
        self._genesis: Genesis | None = None
        self._reviewing = threading.Lock()
        self._said: list[Said] = []
        self._said_upto = 0

    def close(self) -> None:
        """Lets go of log and store; they are opened again when asked for."""
        with self._opening:
            if self._log is not None:
                self._log.close()
            if self._store is not None:
                self._store.close()
            self._log = self._store = None

    @property
    def log(self) -> LogReader:
        """The committed log.

        Raises:
            UnavailableError: it has not been begun.
        """
        with self._opening:
            if self._log is None:
                reader = LogReader(self.data_dir / LOG)
                if reader.size() == 0:
                    reader.close()
                    raise UnavailableError("the gateway is starting, its log has not been begun")
                self._log = reader
            return self._log

    @property
    def genesis(self) -> Genesis:
        """Entry 0 of the log.

        Raises:
            UnavailableError: the log has not been begun.
            SensorhubError: it does not begin with a genesis entry.
        """
        if self._genesis is None:
            entry = decode_entry(self.log.entry(0))
            if not isinstance(entry, Genesis):
                raise SensorhubError("entry 0 of the log is no genesis entry: run `sensorhub log fsck`")
            self._genesis = entry
        return self._genesis

    @property
    def origin(self) -> str:
        """Origin line of the log's checkpoints."""
        return f"{self.genesis.site}.{self.genesis.gateway}/sensorhub"

    @property
    def note_key(self) -> NoteVerifier:
        """The key that signs the log's checkpoints, as the genesis entry names it."""
        return NoteVerifier(self.origin, self.genesis.note_key)

    def signed(self) -> Checkpoint | None:
        """The newest checkpoint, its signature checked; None before the first.

        Raises:
            NoteError: it is malformed, or not signed by the key of the genesis entry.
        """
        note = self.log.checkpoint()
        return None if note is None else open_checkpoint(note, self.note_key, origin=self.origin)

    def ask(self, question: Callable[[SqliteReader], T]) -> T:
        """What the store answers.

        Raises:
            UnavailableError: it has not been begun, is of another version, or its disk fails.
        """
        try:
            return question(self._opened_store())
        except StoreNotBegunError as error:
            raise UnavailableError("the gateway is starting, its store has not been begun") from error
        except StoreError as error:
            raise UnavailableError(f"the store cannot answer now: {error}") from error

    def said(self) -> list[Said]:
        """What people said of verdicts, as far as the store has followed the log; oldest first.

        Raises:
            UnavailableError: as `ask`.
        """
        with self._reviewing:
            new = self.ask(lambda store: store.artefacts(REVIEWS, self._said_upto))
            if new:
                self._said += said_in(self.log, new)
                self._said_upto = new[-1][0] + 1
            return list(self._said)

    def _opened_store(self) -> SqliteReader:
        with self._opening:
            if self._store is None:
                self._store = SqliteReader(self.data_dir / STORE)
            return self._store

    def nodes(self) -> list[dict[str, Any]]:
        """Every node as the store knows it, with what it last said of itself (`said`, None for nothing).

        Raises:
            UnavailableError: as `ask`.
        """
        said = status_files.said_by_nodes(self.data_dir)
        return [{**node, "said": said.get(node["node"])} for node in self.ask(lambda store: store.nodes())]

    def processes(self) -> dict[str, dict[str, Any]]:
        """What each process of the gateway says of itself, by its name."""
        return status_files.read_all(self.data_dir)
