"""Checks a whole log: rebuilds the tree from its entries and holds every file against it.

Two files tell each leaf: the entry in its bundle (or the journal) and its hash in a tile of level 0. When
they disagree, the level above, or at last the signed root, tells which of the two was changed.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

from sensorhub.log.entries import (
    MESSAGE,
    NODE,
    EntryError,
    Genesis,
    MessageEntry,
    NodeEntry,
    decode_entry,
    kind_of,
)
from sensorhub.log.merkle import HASH_SIZE, TILE_WIDTH, Frontier, leaf_hash, leaf_hashes, perfect_root
from sensorhub.verify.anchoring import NOT_ASKED
from sensorhub.verify.answers import (
    ANCHORED,
    DEVICE_SIGNED,
    INTACT,
    LOGGED,
    Answer,
    Check,
    Report,
    State,
    conclude,
    unknown,
)
from sensorhub.verify.chain_view import Chain, ChainUnreachable, ContractHead, Posted
from sensorhub.verify.dataset import BATCH, NAMED, Progress
from sensorhub.verify.devices import check_enrolment
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.keyring import Keyring
from sensorhub.verify.log_files import CHECKPOINT, LogFiles, hashes_of, parse_bundle, tile_path
from sensorhub.verify.trust import Trust, check_head, unsigned_checkpoint
from sensorhub.wire import WireError, parse_signed, verify

LOG_ANSWERS: Final = (INTACT, LOGGED, DEVICE_SIGNED, ANCHORED)
"""Every answer on a log, in the order shown."""
MAX_UNDECIDED: Final = 8
"""Tiles that contradict their bundle and have no full tile above: up to here every choice is tried on the root."""


@dataclass(slots=True)
class _Walk:
    """What the pass over a log found.

    Attributes:
        damaged: file name and what is wrong with it.
        doubts: position in `roots` of tiles whose bundle says otherwise, with both roots and file names.
        roots: root of each full tile of level 0.
        tail: leaf hashes of the last, partial tile.
        genesis: entry 0, empty when it cannot be read.
        roots_at: root of the log at the sizes asked for.
        messages: number of messages.
        wrong: messages and keys that are not as they should be, in words.
        gaps: files without which the entries are not complete.
    """

    damaged: list[tuple[str, str]] = field(default_factory=list)
    doubts: list[_Doubt] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)
    tail: list[bytes] = field(default_factory=list)
    genesis: bytes = b""
    roots_at: dict[int, bytes] = field(default_factory=dict)
    messages: int = 0
    wrong: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Doubt:
    """A bundle and a tile of level 0 that disagree; `index` counts tiles."""

    index: int
    bundle: str
    tile: str
    from_entries: list[bytes]
    from_tile: list[bytes]


def check_log(
    files: LogFiles,
    *,
    trust: Trust | None = None,
    chain: Chain | None = None,
    signatures: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Report:
    """Everything that can be told of a log by reading all of it.

    Args:
        files: where its files are.
        trust: what is pinned beforehand.
        chain: whom to ask for the contract's head, which must be an earlier state of this very log.
        signatures: whether to check the signature of every message too.
        progress: told what is being done.
        threads: threads for signatures; as many as there are cores by default.

    Returns:
        A report that always has all of `LOG_ANSWERS`.

    Raises:
        VerifyError: there is no checkpoint, or a file cannot be read at all.
    """
    trust = trust or Trust()
    note = files.read(CHECKPOINT)
    if note is None:
        raise VerifyError(f"{files.name}/{CHECKPOINT}", "there is no signed checkpoint: is this a log?")
    checkpoint = unsigned_checkpoint(note)
    if checkpoint is None or checkpoint.size == 0:
        text = f"{CHECKPOINT} is no checkpoint of a log with entries"
        broken = Answer(INTACT, State.NO, text, (), (Check(CHECKPOINT, False, text),))
        return Report(files.name, (broken, *(unknown(name, text) for name in LOG_ANSWERS[1:])))
    size = checkpoint.size
    genesis = _genesis(files, size)
    if (genesis is not None or trust.log_key) and not _signed(genesis or b"", note, size, trust):
        text = f"{CHECKPOINT}: not signed by the log's key"
        broken = Answer(INTACT, State.NO, text, (), (Check(CHECKPOINT, False, text),))
        others = [
            unknown(name, "there is no signed root to hold the files against") for name in LOG_ANSWERS[1:]
        ]
        return Report(files.name, (broken, *others), {"size": size, "damaged": [CHECKPOINT]})
    told = _contract(genesis, chain, trust)
    sizes = [] if isinstance(told, str) else sorted(post.size for post in told.posts)
    walk = _Walk()
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        _walk(files, size, walk, sizes, pool if signatures else None, progress)
    root, decided = _settle(walk, checkpoint.root)
    log_id = leaf_hash(walk.genesis)
    head = check_head(walk.genesis, 0, log_id, note, size, trust)
    reached = root == checkpoint.root
    intact = [Check(name, False, f"{name}: {problem}") for name, problem in walk.damaged]
    intact += [
        Check(
            f"{doubt.bundle} or {doubt.tile}", False, f"{doubt.bundle} and {doubt.tile} contradict each other"
        )
        for doubt in ([] if decided else walk.doubts)
    ]
    count = -(-size // TILE_WIDTH)
    if not intact:
        intact.append(Check("files", True, f"checkpoint, {count} bundles and every hash tile agree"))
    logged = [*head.checks]
    text = f"the {size} entries lead to the root that the checkpoint signs"
    failed = f"the {size} entries lead to another root than the checkpoint signs"
    if walk.gaps:
        logged.append(
            Check("root", None if root is None else reached, f"not all entries are there: {walk.gaps[0]}")
        )
    else:
        logged.append(Check("root", reached, text if reached else failed))
    answers = (
        conclude(INTACT, intact, summary=intact[0].text, rests_on=("the log answer",)),
        conclude(LOGGED, logged, summary=text, rests_on=(trust.of_log(),)),
        _devices(walk, signatures),
        _anchored(walk, told, chain),
    )
    return Report(files.name, answers, _facts(walk, size, log_id, checkpoint.origin))


def _facts(walk: _Walk, size: int, log_id: bytes, origin: str) -> dict[str, Any]:
    return {
        "origin": origin,
        "logId": "0x" + log_id.hex(),
        "size": size,
        "messages": walk.messages,
        "damaged": [name for name, _ in walk.damaged],
    }


def _walk(
    files: LogFiles,
    size: int,
    walk: _Walk,
    sizes: Sequence[int],
    pool: ThreadPoolExecutor | None,
    progress: Progress | None,
) -> None:
    frontier = Frontier()
    audit = _Audit(walk, pool)
    known = 0
    for index in range(-(-size // TILE_WIDTH)):
        start = index * TILE_WIDTH
        width = min(TILE_WIDTH, size - start)
        if progress is not None:
            progress("reading the log", start, size)
        entries = _entries(files, walk, start, width)
        stored = _stored(files, walk, 0, index, width)
        hashes = _leaves(files, walk, index, width, entries, stored, size)
        if entries is not None:
            if index == 0:
                walk.genesis = entries[0]
            audit.feed(start, entries)
        if hashes is None:
            return
        for wanted in sizes[bisect_right(sizes, known) : bisect_right(sizes, known + width)]:
            early = Frontier(frontier.rows)
            early.extend(known, hashes[: wanted - known])
            walk.roots_at[wanted] = early.root()
        for level, number, tile in frontier.extend(known, hashes):
            if level > 0:
                _compare(files, walk, level, number, tile)
        known += width
        if width == TILE_WIDTH:
            walk.roots.append(perfect_root(hashes))
        else:
            walk.tail = hashes
    for level, row in enumerate(frontier.rows):
        if level > 0 and row:
            _compare(files, walk, level, size >> (8 * (level + 1)), b"".join(row))
    audit.finish()


def _entries(files: LogFiles, walk: _Walk, start: int, width: int) -> list[bytes] | None:
    """The entries of one bundle, from the journal when there is one, else from the bundle's file."""
    path = tile_path(None, start // TILE_WIDTH, width)
    journal = files.journal(start, start + width)
    data = files.read(path)
    if data is None and width < TILE_WIDTH and files.partial:
        full = files.read(tile_path(None, start // TILE_WIDTH))
        found = None if full is None else parse_bundle(full, TILE_WIDTH)
        if isinstance(found, list):
            return found[:width]
    found = None if data is None else parse_bundle(data, width)
    if isinstance(found, str):
        walk.damaged.append((path, found))
    if journal is not None:
        name, entries = journal
        if len(entries) == width:
            if isinstance(found, list) and found != entries:
                walk.damaged.append((path, "is not what the journal holds"))
            return entries
        walk.damaged.append((name, f"entry {start + len(entries)} cannot be read"))
    elif data is None:
        walk.damaged.append((path, "missing"))
    return found if isinstance(found, list) else None


def _stored(files: LogFiles, walk: _Walk, level: int, index: int, width: int) -> list[bytes] | None:
    """The hashes of a tile's file; None when it is missing or of the wrong length."""
    path = tile_path(level, index, width)
    data = files.read(path)
    if data is None and width < TILE_WIDTH:
        full = files.read(tile_path(level, index))
        data = None if full is None else full[: width * HASH_SIZE]
    if data is None:
        journaled = files.journal(index << (8 * (level + 1)), (index << (8 * (level + 1))) + 1) is not None
        if not journaled and (width == TILE_WIDTH or files.partial):
            walk.damaged.append((path, "missing"))
        return None
    if len(data) != width * HASH_SIZE:
        walk.damaged.append((path, f"{len(data)} bytes instead of {width * HASH_SIZE}"))
        return None
    return hashes_of(data)


def _leaves(
    files: LogFiles,
    walk: _Walk,
    index: int,
    width: int,
    entries: Sequence[bytes] | None,
    stored: list[bytes] | None,
    size: int,
) -> list[bytes] | None:
    """The leaf hashes to go on with: the ones that the level above confirms, when the two sources differ."""
    bundle, tile = tile_path(None, index, width), tile_path(0, index, width)
    ours = None if entries is None else leaf_hashes(entries)
    if ours is None or stored is None or ours == stored:
        if ours is None and stored is None:
            walk.gaps.append(f"neither {bundle} nor {tile} can be read")
        elif ours is None:
            walk.gaps.append(f"{bundle} cannot be read")
        return ours if ours is not None else stored
    above = _above(files, index, size) if width == TILE_WIDTH else None
    changed = next(i for i, (a, b) in enumerate(zip(ours, stored, strict=True)) if a != b)
    if above is not None and perfect_root(ours) == above:
        walk.damaged.append((tile, f"hash {changed} is not that of entry {index * TILE_WIDTH + changed}"))
        return ours
    if above is not None and perfect_root(stored) == above:
        walk.damaged.append(
            (_source(files, index, bundle), f"entry {index * TILE_WIDTH + changed} was changed")
        )
        return stored
    walk.doubts.append(_Doubt(index, _source(files, index, bundle), tile, ours, stored))
    return ours


def _above(files: LogFiles, index: int, size: int) -> bytes | None:
    """The root of full tile `index` of level 0, as the tile of level 1 has it; None when there is none."""
    number, at = divmod(index, TILE_WIDTH)
    width = min(TILE_WIDTH, size // TILE_WIDTH - number * TILE_WIDTH)
    for path in (tile_path(1, number, width), tile_path(1, number)):
        parent = files.read(path)
        if parent is not None and len(parent) >= width * HASH_SIZE:
            return parent[at * HASH_SIZE : (at + 1) * HASH_SIZE]
    return None


def _source(files: LogFiles, index: int, bundle: str) -> str:
    journal = files.journal(index * TILE_WIDTH, index * TILE_WIDTH + 1)
    return bundle if journal is None else journal[0]


def _compare(files: LogFiles, walk: _Walk, level: int, index: int, tile: bytes) -> None:
    width = len(tile) // HASH_SIZE
    stored = _stored(files, walk, level, index, width)
    if stored is None:
        return
    ours = hashes_of(tile)
    if stored != ours:
        at = next(i for i, (a, b) in enumerate(zip(ours, stored, strict=True)) if a != b)
        walk.damaged.append((tile_path(level, index, width), f"hash {at} is not that of the tile below"))


def _settle(walk: _Walk, signed_root: bytes) -> tuple[bytes | None, bool]:
    """The root of the log, choosing between entries and tiles in doubt so that the signed root is reached.

    Returns:
        (root, whether every doubt is decided). The decided ones are added to the damaged files.
    """
    if walk.gaps and walk.gaps[0].startswith("neither"):
        return None, False
    choices = product((False, True), repeat=len(walk.doubts)) if len(walk.doubts) <= MAX_UNDECIDED else ()
    for choice in choices:
        roots, tail = list(walk.roots), walk.tail
        for doubt, use_tile in zip(walk.doubts, choice, strict=True):
            hashes = doubt.from_tile if use_tile else doubt.from_entries
            if len(hashes) == TILE_WIDTH:
                roots[doubt.index] = perfect_root(hashes)
            else:
                tail = hashes
        root = _root(roots, tail)
        if root == signed_root or not walk.doubts:
            for doubt, use_tile in zip(walk.doubts, choice, strict=True):
                at = next(
                    i
                    for i, (a, b) in enumerate(zip(doubt.from_entries, doubt.from_tile, strict=True))
                    if a != b
                )
                entry = doubt.index * TILE_WIDTH + at
                if use_tile:
                    walk.damaged.append((doubt.bundle, f"entry {entry} was changed"))
                else:
                    walk.damaged.append((doubt.tile, f"hash {at} is not that of entry {entry}"))
            return root, True
    return _root(walk.roots, walk.tail), False


def _root(tile_roots: Sequence[bytes], tail: Sequence[bytes]) -> bytes:
    frontier = Frontier([tail])
    if tile_roots:
        above = Frontier()
        above.extend(0, tile_roots)
        frontier = Frontier([tail, *above.rows])
    return frontier.root()


class _Audit:
    """Follows the entries in order: who is enrolled, and with signatures asked for, who signed what."""

    def __init__(self, walk: _Walk, pool: ThreadPoolExecutor | None) -> None:
        self._walk = walk
        self._pool = pool
        self._keyring = Keyring()
        self._site: str | None = None
        self._jobs: list[Any] = []
        self._batch: list[tuple[int, Any, bytes]] = []

    def feed(self, start: int, entries: Sequence[bytes]) -> None:
        for index, entry in enumerate(entries, start):
            kind = kind_of(entry)
            if kind == MESSAGE:
                self._walk.messages += 1
            if self._pool is None:
                continue
            if kind in (MESSAGE, NODE) or index == 0:
                self._audit(index, entry)
        self._flush(BATCH)

    def _audit(self, index: int, entry: bytes) -> None:
        try:
            decoded = decode_entry(entry)
            if isinstance(decoded, Genesis) and index == 0:
                self._site = decoded.site
            elif isinstance(decoded, NodeEntry):
                self._keyring.apply(index, decoded)
                if decoded.event in ("enrol", "rotate") and self._site is not None:
                    failure = check_enrolment(decoded, self._site)
                    if failure is not None:
                        self._walk.wrong.append(f"entry {index}: {failure}")
            elif isinstance(decoded, MessageEntry):
                signed = parse_signed(decoded.message)
                key = self._keyring.at(signed.kid, index)
                if isinstance(key, str):
                    self._walk.wrong.append(f"entry {index}: {key}")
                else:
                    self._batch.append((index, signed, key.public_key))
        except (EntryError, WireError) as error:
            self._walk.wrong.append(f"entry {index}: {error}")

    def _flush(self, least: int) -> None:
        if self._pool is not None and len(self._batch) >= least and self._batch:
            self._jobs.append(self._pool.submit(_check_batch, self._batch))
            self._batch = []
        if len(self._jobs) > 64:
            self._walk.wrong += self._jobs.pop(0).result()

    def finish(self) -> None:
        self._flush(1)
        for job in self._jobs:
            self._walk.wrong += job.result()


def _check_batch(batch: Sequence[tuple[int, Any, bytes]]) -> list[str]:
    return [
        f"entry {index}: not signed by key {signed.kid.hex()}"
        for index, signed, public_key in batch
        if not verify(signed, public_key)
    ]


def _devices(walk: _Walk, signatures: bool) -> Answer:
    if not signatures:
        return unknown(DEVICE_SIGNED, "not checked: give --signatures to check every message")
    text = f"{walk.messages} messages signed by enrolled keys in force"
    if not walk.wrong:
        return conclude(
            DEVICE_SIGNED, [Check("signatures", True, text)], summary=text, rests_on=("the log answer",)
        )
    more = f" (and {len(walk.wrong) - NAMED} more)" if len(walk.wrong) > NAMED else ""
    failed = "; ".join(walk.wrong[:NAMED]) + more
    return conclude(
        DEVICE_SIGNED, [Check("signatures", False, failed)], summary="", rests_on=("the log answer",)
    )


def _genesis(files: LogFiles, size: int) -> bytes | None:
    """Entry 0 when it can be read and no tile contradicts it: damage to it is found on the walk.

    Does without the size as far as it can, because nobody has signed that yet.
    """
    width = min(TILE_WIDTH, size)
    journal = files.journal(0, 1)
    if journal is not None and journal[1]:
        entry = journal[1][0]
    else:
        bundle = _first(files, None, width)
        if len(bundle) < 2:
            return None
        entry = bundle[2 : 2 + int.from_bytes(bundle[:2], "big")]
    stored = _first(files, 0, width)[:HASH_SIZE]
    return None if stored and stored != leaf_hash(entry) else entry


def _first(files: LogFiles, level: int | None, width: int) -> bytes:
    """The first tile of a level, whole or of some width; empty when there is none."""
    return files.read(tile_path(level, 0, width)) or files.read(tile_path(level, 0)) or b""


def _signed(genesis: bytes, note: bytes, size: int, trust: Trust) -> bool:
    """Whether the checkpoint carries the signature of the log's key, or of the one that was given."""
    head = check_head(genesis, 0, leaf_hash(genesis), note, size, trust)
    return all(check.passed for check in head.checks if check.name == "note-signature")


@dataclass(frozen=True, slots=True)
class _Contract:
    """What the contract tells of a log: its state, and every checkpoint it took, oldest first."""

    head: ContractHead
    posts: tuple[Posted, ...]


def _contract(entry: bytes | None, chain: Chain | None, trust: Trust) -> _Contract | str:
    """What the contract that the genesis entry (or the caller) names tells; else why it is not asked."""
    if chain is None:
        return NOT_ASKED
    try:
        genesis = decode_entry(entry or b"")
    except EntryError as error:
        return f"not checked: the genesis entry cannot be read: {error}"
    if not isinstance(genesis, Genesis):
        return "not checked: the log does not begin with a genesis entry"
    contract = trust.contract or genesis.contract
    chain_id = trust.chain_id if trust.chain_id is not None else genesis.chain_id
    if contract is None:
        return "not checked: the genesis entry names no contract (give --contract and --chain-id)"
    try:
        serves = chain.chain_id()
        if serves != chain_id:
            return f"not checked: {chain.name} serves chain {serves}, the log is on chain {chain_id}"
        log_id = leaf_hash(entry or b"")
        head, posts = chain.head(contract, log_id), chain.posts(contract, log_id)
    except ChainUnreachable as error:
        return f"not checked: {error}"
    return "not checked: the contract's state is not told" if head is None else _Contract(head, posts)


def _anchored(walk: _Walk, told: _Contract | str, chain: Chain | None) -> Answer:
    if isinstance(told, str):
        return unknown(ANCHORED, told)
    checks = []
    if not told.head.known or not told.posts:
        checks.append(Check("contract-posts", False, "the contract has no checkpoint of this log"))
    else:
        newest = told.posts[-1].struct_hash() == told.head.hash
        text = f"the contract's head is checkpoint {told.posts[-1].seq}"
        checks.append(Check("contract-head", newest, text if newest else "the head is none of the events"))
    for post in told.posts:
        root = walk.roots_at.get(post.size)
        if root is None:
            failure = (
                f"checkpoint {post.seq} covers {post.size} entries, this log has fewer or cannot be read"
            )
        elif root != post.root:
            failure = f"checkpoint {post.seq} has another root at {post.size} entries: history was rewritten"
        else:
            continue
        checks.append(Check(f"checkpoint-{post.seq}", False, failure))
    rests_on = (
        "the contract that the genesis entry or you named, and its code",
        f"{chain.name if chain else ''}, which is believed",
    )
    summary = f"all {len(told.posts)} checkpoints in the contract are states of this log"
    return conclude(ANCHORED, checks, summary=summary, rests_on=rests_on)
