"""Entries of other processes: verdicts, node entries and artefacts that came through the socket, into the log or refused.

Whoever asked is told the index once all its entries are on disk, or that none of them is in the log, or, when nobody
knows what the disk holds, that it has to look. Only the committer's thread works here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from sensorhub.errors import SensorhubError
from sensorhub.log.appender import AppendError
from sensorhub.log.entries import GENESIS, MESSAGE, NODE, NodeEntry, decode_entry, kind_of
from sensorhub.log.errors import LogError, LogUnsyncedError
from sensorhub.log.log import Log
from sensorhub.nodes.registry import Registry


class RefusedEntryError(SensorhubError):
    """Raised when another process asks to append an entry that may not stand in the log."""


class Submission(NamedTuple):
    """Entries another process wants appended.

    Attributes:
        entries: encoded log entries.
        first: gives the log index of the first once all are on disk.
    """

    entries: Sequence[bytes]
    first: Future[int]


class Appends:
    """Appends submissions to the log.

    Args:
        log: open for writing, with nothing uncommitted when `take` is called.
        registry: says which node entries would change something, and takes in those that were appended.
        commit: commits, and keeps trying while the disk does not take it.
    """

    def __init__(self, log: Log, registry: Registry, commit: Callable[[], None]) -> None:
        self._log = log
        self._registry = registry
        self._commit = commit

    def take(self, submissions: Sequence[Submission]) -> None:
        """Appends what other processes asked for, unless they gave up in between.

        Raises:
            LogUnsyncedError: nobody knows what the disk holds; whoever asked was told so.
        """
        taken: list[tuple[Future[int], int]] = []
        for submission in submissions:
            if not submission.first.set_running_or_notify_cancel():
                continue
            try:
                node_entries = self._admit(submission.entries)
                first = self._log.append_many(submission.entries)
            except SensorhubError as error:
                submission.first.set_exception(error)
                continue
            taken.append((submission.first, first))
            # what is asked for next may depend on it
            if node_entries and self._conclude(taken):
                for offset, entry in node_entries:
                    self._registry.apply(first + offset, entry)
            if node_entries:
                taken = []
        self._conclude(taken)

    def _conclude(self, taken: Sequence[tuple[Future[int], int]]) -> bool:
        """Commits what other processes asked for, or takes it all back; says which."""
        if not taken:
            return True
        try:
            try:
                self._log.commit()
            except LogUnsyncedError:
                raise
            except LogError as error:
                if self._log.committed == taken[0][1]:
                    # a request that waits for the disk would still be appended after its client asked again
                    self._log.rollback()
                    for future, _ in taken:
                        future.set_exception(error)
                    return False
                self._commit()
        except BaseException as error:
            for future, _ in taken:
                future.set_exception(
                    AppendError(f"{error}; look in the log before you repeat it", uncertain=True)
                )
            raise
        for future, first in taken:
            future.set_result(first)
        return True

    def _admit(self, entries: Sequence[bytes]) -> list[tuple[int, NodeEntry]]:
        node_entries = []
        for offset, entry in enumerate(entries):
            kind = kind_of(entry)
            if kind in (MESSAGE, GENESIS):
                raise RefusedEntryError("messages come by MQTT only, and a log has one genesis entry")
            if kind == NODE:
                decoded = decode_entry(entry)
                assert isinstance(decoded, NodeEntry)
                if (refusal := self._registry.refusal(decoded)) is not None:
                    raise RefusedEntryError(refusal)
                node_entries.append((offset, decoded))
        return node_entries


def refuse(submissions: Sequence[Submission]) -> None:
    """Answers those that nobody has begun with."""
    for submission in submissions:
        future = submission.first
        if not (future.done() or future.running()) and future.set_running_or_notify_cancel():
            future.set_exception(SensorhubError("the gateway is stopping; append again when it runs"))
