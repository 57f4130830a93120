"""Makes the proof of one log entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sensorhub.dataset.errors import DatasetError
from sensorhub.dataset.heads import SignedHead, choose_head, identity
from sensorhub.dataset.source import EntryIndex, LogSource
from sensorhub.log.entries import (
    NODE,
    VERDICT,
    EntryError,
    MessageEntry,
    NodeEntry,
    NodeEvent,
    VerdictEntry,
    decode_entry,
    kind_of,
    outranks,
)
from sensorhub.verify.proof import MAX_EVENTS, Proof, Proven
from sensorhub.verify.tlog_proof import TlogProof
from sensorhub.wire import WireError, kid, parse_signed


def prove(
    log: LogSource,
    index: int,
    *,
    heads: Sequence[SignedHead] = (),
    known: EntryIndex | None = None,
) -> Proof:
    """The proof of log entry `index`.

    The tree is the newest one on the chain that covers the entry, with the newest verdict in it; when none on
    the chain covers the entry, that of the newest signed checkpoint.

    Args:
        log: the log; a log room's reader.
        index: which entry, usually a message.
        heads: what was posted to the chain (`heads.read_heads`).
        known: finds node entries and verdicts without reading the whole log (`SqliteReader`); one of another log
            is not asked. What it does not cover is read from the log.

    Raises:
        DatasetError: there is no such entry, or nothing signed covers it yet.
    """
    who = identity(log)
    if not 0 <= index < log.size():
        raise DatasetError(f"the log has {log.size()} entries, there is no entry {index}")
    head = choose_head(log, heads, covers=index)
    entry = log.entry(index)
    message = _decoded(entry)
    node: int | None = None
    events: list[int] = []
    verdict: int | None = None
    if isinstance(message, MessageEntry):
        if known is not None and known.log_id() != who.log_id:
            known = None
        node, events = _entries_of_key(log, message, _node_entries(log, head.size, known), head.size)
        verdict = newest_verdict(log, index, head.size, known)

    def proven(position: int) -> Proven:
        return Proven(log.entry(position), position, tuple(log.inclusion(position, head.size)))

    return Proof(
        log_id=who.log_id,
        entry=proven(index),
        size=head.size,
        note=head.note.decode(),
        genesis=proven(0),
        node=None if node is None else proven(node),
        events=tuple(proven(event) for event in events),
        verdict=None if verdict is None else proven(verdict),
        anchor=head.anchor,
    )


def tlog_proof(proof: Proof) -> TlogProof:
    """The part of a proof that any C2SP client understands: inclusion, with the entry as extra data."""
    return TlogProof(proof.entry.index, proof.entry.path, proof.note, proof.entry.entry)


def newest_verdict(log: LogSource, message: int, size: int, known: EntryIndex | None = None) -> int | None:
    """Log index of the verdict in force on a message among the entries below `size`, None when there is none.

    That is the newest one, or the newest by a person where there is one.

    Args:
        log: the log.
        message: log index of the message.
        size: entries to look at.
        known: an index of this very log; it saves reading what it covers when it knows a verdict below `size`.
    """
    found, rules, start = None, None, message + 1
    if known is not None:
        covered = known.covers()  # asked first: entries that it takes in meanwhile are read once more below
        verdict = known.verdict(message)
        if verdict is not None and verdict[0] < size:
            found, start = verdict[0], max(start, covered)
            decoded = _decoded(log.entry(found))
            rules = decoded.rules if isinstance(decoded, VerdictEntry) else None
    for index, entry in log.entries(min(start, size), size):
        if kind_of(entry) == VERDICT:
            decoded = _decoded(entry)
            if (
                isinstance(decoded, VerdictEntry)
                and outranks(decoded.rules, rules)
                and any(judged == message for judged, _ in decoded.verdicts)
            ):
                found, rules = index, decoded.rules
    return found


def _node_entries(log: LogSource, size: int, known: EntryIndex | None) -> list[int]:
    start, found = 0, []
    if known is not None:
        start = min(known.covers(), size)
        found = [index for index in known.node_entries() if index < start]
    return found + [index for index, entry in log.entries(start, size) if kind_of(entry) == NODE]


def _entries_of_key(
    log: LogSource, message: MessageEntry, indices: Iterable[int], size: int
) -> tuple[int | None, list[int]]:
    """The entry that brought the key of a message, and the others about the same node."""
    try:
        wanted = parse_signed(message.message).kid
    except WireError:
        return None, []
    about: dict[str, list[int]] = {}
    enrolled: tuple[int, str] | None = None
    for index in indices:
        if index >= size:
            continue
        entry = _decoded(log.entry(index))
        if not isinstance(entry, NodeEntry):
            continue
        about.setdefault(entry.node, []).append(index)
        brings = entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE)
        if enrolled is None and brings and kid(entry.public_key) == wanted:
            enrolled = (index, entry.node)
    if enrolled is None:
        return None, []
    events = [index for index in about[enrolled[1]] if index != enrolled[0]]
    if len(events) > MAX_EVENTS:
        raise DatasetError(
            f"node {enrolled[1]} has {len(events)} node entries, a proof carries at most {MAX_EVENTS}: "
            "export a dataset instead"
        )
    return enrolled[0], events


def _decoded(entry: bytes) -> object:
    try:
        return decode_entry(entry)
    except EntryError:
        return None
