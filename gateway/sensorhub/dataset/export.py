"""Writes a dataset directory: rows, the evidence for every row, and papers for people and machines."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sensorhub.channels import BY_NAME
from sensorhub.dataset.errors import DatasetError
from sensorhub.dataset.heads import LogIdentity, SignedHead, identity, newest_note
from sensorhub.dataset.papers import croissant, datasheet
from sensorhub.dataset.source import LogSource
from sensorhub.log.entries import (
    MESSAGE,
    NODE,
    REVIEW,
    VERDICT,
    ArtefactEntry,
    EntryError,
    MessageEntry,
    VerdictEntry,
    decode_entry,
    encode_entry,
    kind_of,
    outranks,
)
from sensorhub.log.merkle import multiproof, tree_root
from sensorhub.verify.check import judge_name
from sensorhub.verify.files import sha256_file
from sensorhub.verify.manifest import (
    CROISSANT,
    DATA,
    ENTRIES,
    FILES,
    MANIFEST,
    MULTIPROOF,
    NOTE,
    README,
    About,
    Counts,
    Listed,
    Manifest,
    format_entries,
    format_manifest,
    provenance,
)
from sensorhub.verify.rows import Epochs, Judgement, Logged, Selection, derive, wanted_records
from sensorhub.verify.table import CHUNK_ROWS, Writer, schema
from sensorhub.verify.trust import origin_of
from sensorhub.wire import Message, WireError, parse_pack, parse_signed

ARTEFACT_KIND = "dataset"
"""What an artefact entry says of a dataset: its SHA-256 is that of the manifest."""

Progress = Callable[[str, int, int], None]
"""Called with (what is done, how much, of how much)."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A dataset that was written.

    Attributes:
        directory: where it lies.
        manifest: what it says of itself.
        sha256: SHA-256 of `manifest.json`, which stands for the whole dataset.
    """

    directory: Path
    manifest: Manifest
    sha256: bytes

    def enter(self, append: Callable[[Sequence[bytes]], int]) -> int:
        """Makes the dataset itself part of the log: an artefact entry with the manifest's SHA-256.

        Args:
            append: takes entries and gives the index of the first once they are committed, as the log
                room's `LogClient.append` does.

        Returns:
            The index of the entry.
        """
        now = time.time_ns() // 1_000_000
        return append(
            [encode_entry(ArtefactEntry(now, ARTEFACT_KIND, self.sha256, self.manifest.about.title))]
        )


@dataclass(slots=True)
class _Found:
    """What one pass over the log found, by log index."""

    candidates: list[int] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    verdict_of: dict[int, int] = field(default_factory=dict)
    reviewed: dict[int, str] = field(default_factory=dict)
    epochs: Epochs = field(default_factory=Epochs)


def export(
    log: LogSource,
    directory: Path,
    *,
    selection: Selection | None = None,
    about: About,
    heads: Sequence[SignedHead] = (),
    interval_s: float | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Writes the readings of a log that a selection takes, with everything needed to check them.

    The tree is the newest one that the chain carries, or that of the newest signed checkpoint when none is.
    The directory appears whole or not at all.

    Args:
        log: the log; a log room's reader.
        directory: where to write; must not exist.
        selection: what to take; every judged reading by default.
        about: title, licence and so on.
        heads: what was posted to the chain (`heads.read_heads`).
        interval_s: seconds between posts, so that an error can say for how long to wait; None when not known.
        progress: told what is being done.

    Raises:
        DatasetError: the directory exists, the selection names what there is not, or nothing is selected.
    """
    selection = selection or Selection()
    tell = progress or (lambda _what, _done, _total: None)
    _check(directory, selection)
    who = identity(log)
    head = heads[-1] if heads else newest_note(log)
    found = _scan(log, head.size, selection, tell)
    used = _selected(log, found, selection, tell)
    if not used.indices:
        wanted = "judged " if selection.judged else ""
        raise DatasetError(
            f"no {wanted}reading of the {_entries(head.size)} under the newest {'anchored ' if heads else ''}checkpoint fits "
            f"the selection: take a wider one, or wait {_until(log.size(), head, interval_s)}"
        )
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        manifest = _write(log, temporary, who, head, selection, about, found, used, tell)
        data = format_manifest(manifest)
        (temporary / MANIFEST).write_bytes(data)
        _sync(temporary)
        temporary.rename(directory)
    except OSError as error:
        raise DatasetError(f"cannot write the dataset {directory}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(directory, manifest, hashlib.sha256(data).digest())


def _until(size: int, head: SignedHead, interval_s: float | None) -> str:
    """What to wait for when a head of a log that has `size` entries by now covers nothing wanted."""
    if interval_s is None or head.made_ms is None or size <= head.size:
        return "until the readings are judged and anchored"
    left = head.made_ms / 1000 + interval_s - time.time()
    when = f"in {_span(left)}" if left > 0 else "now; `sensorhub status` says how it goes"
    return (
        f"for the next: the log has {_entries(size)} by now, and a checkpoint is posted every {_span(interval_s)} "
        f"(chain.interval_s), the next {when}"
    )


def _entries(count: int) -> str:
    return f"{count} entry" if count == 1 else f"{count} entries"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min"


def _check(directory: Path, selection: Selection) -> None:
    if directory.exists():
        raise DatasetError(
            f"{directory} exists: name a directory that does not, a dataset is never overwritten"
        )
    for name in selection.channels or ():
        if name not in BY_NAME:
            raise DatasetError(f"there is no channel {name!r}; channels are {', '.join(sorted(BY_NAME))}")
    for names in (selection.nodes, selection.channels):
        if names is not None and list(names) != sorted(set(names)):
            raise DatasetError("the names in a selection are given once each, in alphabetical order")


def _scan(log: LogSource, size: int, selection: Selection, tell: Progress) -> _Found:
    found = _Found()
    for index, entry in log.entries(0, size):
        if index % 4096 == 0:
            tell("reading the log", index, size)
        kind = kind_of(entry)
        if kind == MESSAGE:
            logged = _logged(index, entry)
            if logged is None:
                continue
            found.epochs.feed(index, logged.message)
            if selection.nodes is None or logged.message.pack.node in selection.nodes:
                found.candidates.append(index)
        elif kind == NODE:
            found.nodes.append(index)
        elif kind == VERDICT:
            verdict = _verdict(entry)
            if verdict is not None:
                for message, _ in verdict.verdicts:
                    if outranks(verdict.rules, found.reviewed.get(message)):
                        found.verdict_of[message] = index
                        if verdict.rules == REVIEW:
                            found.reviewed[message] = REVIEW
    return found


def _logged(index: int, entry: bytes) -> Logged | None:
    try:
        decoded = decode_entry(entry)
        if not isinstance(decoded, MessageEntry):
            return None
        signed = parse_signed(decoded.message)
        return Logged(index, decoded.received_ms, Message(signed, parse_pack(signed.payload, tq=signed.tq)))
    except (EntryError, WireError):
        return None


def _verdict(entry: bytes) -> VerdictEntry | None:
    try:
        decoded = decode_entry(entry)
    except EntryError:
        return None
    return decoded if isinstance(decoded, VerdictEntry) else None


class _Judgements:
    """The judgement in force on each message, read from the log as it is asked for."""

    def __init__(self, log: LogSource, verdict_of: dict[int, int]) -> None:
        self._log = log
        self._verdict_of = verdict_of
        self._index = -1
        self._judge = ""
        self._pairs: dict[int, tuple[tuple[int, int], ...]] = {}

    def get(self, message: int) -> Judgement | None:
        """The judgement of the message at a log index; None when there is none."""
        index = self._verdict_of.get(message)
        if index is None:
            return None
        if self._index != index:
            verdict = _verdict(self._log.entry(index))
            if verdict is None:
                return None
            self._index, self._judge, self._pairs = index, judge_name(verdict), dict(verdict.verdicts)
        return Judgement(index, self._judge, self._pairs[message])


@dataclass(slots=True)
class _Used:
    """Messages that give at least one row, and what else their rows rest on."""

    indices: list[int] = field(default_factory=list)
    nodes: set[str] = field(default_factory=set)
    evidence: set[int] = field(default_factory=set)


def _selected(log: LogSource, found: _Found, selection: Selection, tell: Progress) -> _Used:
    judgements = _Judgements(log, found.verdict_of)
    used = _Used()
    for position, logged in enumerate(_messages(log, found.candidates)):
        if position % 4096 == 0:
            tell("selecting readings", position, len(found.candidates))
        signed, pack = logged.message.signed, logged.message.pack
        judgement = judgements.get(logged.index)
        judged = judgement is not None and len(judgement.pairs) == len(pack.names)
        if not wanted_records(logged, found.epochs.base_time(logged.message), judged, selection):
            continue
        used.indices.append(logged.index)
        used.nodes.add(pack.node)
        if judgement is not None:
            used.evidence.add(judgement.index)
        source = found.epochs.source.get((signed.kid, signed.boot))
        if pack.base_time is None and source is not None:
            used.evidence.add(source)
    # the genesis entry names the log, and every node entry goes along: who may sign is decided by all of them
    used.evidence.update((0, *found.nodes, *used.indices))
    return used


def _messages(log: LogSource, indices: Iterable[int]) -> Iterator[Logged]:
    for index in indices:
        logged = _logged(index, log.entry(index))
        if logged is not None:
            yield logged


def _write(
    log: LogSource,
    directory: Path,
    who: LogIdentity,
    head: SignedHead,
    selection: Selection,
    about: About,
    found: _Found,
    used: _Used,
    tell: Progress,
) -> Manifest:
    indices = sorted(used.evidence)
    (directory / ENTRIES).parent.mkdir(parents=True)
    with (directory / ENTRIES).open("wb") as file:
        for position, record in enumerate(format_entries((index, log.entry(index)) for index in indices)):
            file.write(record)
            if position % 4096 == 0:
                tell("writing evidence", position, len(indices))
    hashes = multiproof(indices, head.size, log.hash_of)
    (directory / MULTIPROOF).write_bytes(b"".join(hashes))
    (directory / NOTE).write_bytes(head.note)
    manifest = Manifest(
        about=about,
        selection=selection,
        log_id=who.log_id,
        origin=origin_of(who.genesis),
        size=head.size,
        root=tree_root(head.size, log.hash_of),
        counts=Counts(0, len(used.indices), len(used.nodes), len(indices)),
        anchor=head.anchor,
        files=(),
    )
    writer = Writer(directory / DATA, schema(provenance(manifest)))
    rows = 0
    channels: set[str] = set()
    judgements = _Judgements(log, found.verdict_of)
    try:
        for batch in derive(
            _messages(log, used.indices), judgements.get, found.epochs, selection, chunk=CHUNK_ROWS
        ):
            writer.write(batch)
            rows += len(batch)
            channels.update(batch.columns["channel"])
            tell("writing rows", batch.columns["message"][-1], used.indices[-1])
    finally:
        writer.close()
    manifest = replace(manifest, counts=Counts(rows, len(used.indices), len(used.nodes), len(indices)))
    (directory / README).write_text(
        datasheet(manifest, sorted(used.nodes), sorted(channels)), encoding="utf-8"
    )
    data = _listed(directory, DATA)
    (directory / CROISSANT).write_text(croissant(manifest, data), encoding="utf-8")
    return replace(manifest, files=tuple(_listed(directory, path) for path in FILES))


def _listed(directory: Path, path: str) -> Listed:
    size, digest = sha256_file(directory / path)
    return Listed(path, size, digest)


def _sync(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
