"""Checks a dataset directory: every row derived again from the signed messages, every answer apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sensorhub.log.entries import (
    EntryError,
    MessageEntry,
    NodeEntry,
    NodeEvent,
    VerdictEntry,
    decode_entry,
    outranks,
)
from sensorhub.log.merkle import ProofError, leaf_hashes, root_from_multiproof
from sensorhub.verify import canonical
from sensorhub.verify.anchoring import anchor_facts, check_anchored, check_flagged
from sensorhub.verify.answers import (
    ANCHORED,
    DEVICE_SIGNED,
    FLAGGED,
    INTACT,
    JUDGED,
    LOGGED,
    ROWS,
    Answer,
    Check,
    Report,
    State,
    conclude,
    unknown,
)
from sensorhub.verify.chain_view import Chain, FlaggedRange
from sensorhub.verify.check import judge_name
from sensorhub.verify.devices import check_enrolment, warnings_of
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.files import check_files
from sensorhub.verify.keyring import Keyring
from sensorhub.verify.manifest import (
    DATA,
    ENTRIES,
    MANIFEST,
    MULTIPROOF,
    NOTE,
    Manifest,
    parse_entries,
    parse_manifest,
    parse_multiproof,
    provenance,
)
from sensorhub.verify.rows import Epochs, Judgement, Logged, Rows, derive, wanted_records
from sensorhub.verify.trust import GENESIS_INDEX, Head, Trust, check_head
from sensorhub.wire import Message, WireError, parse_pack, parse_signed, verify

DATASET_ANSWERS: Final = (INTACT, ROWS, DEVICE_SIGNED, LOGGED, ANCHORED, JUDGED, FLAGGED)
"""Every answer on a dataset, in the order shown."""
NAMED: Final = 10
"""Failures of one kind that are named; the rest is counted."""
BATCH: Final = 256
"""Messages that one thread checks at a time."""

Progress = Callable[[str, int, int], None]
"""Called with (what is done, how much, of how much)."""


@dataclass(slots=True)
class Evidence:
    """The log entries of a dataset, told apart.

    Attributes:
        leaves: all entries with their index.
        messages: in log order.
        nodes: node entries in log order.
        judgements: the verdict in force on each message: a person's, else the newest.
        epochs: when boots began.
        bad: entries that cannot be read, in words.
    """

    leaves: list[tuple[int, bytes]]
    messages: list[Logged] = field(default_factory=list)
    nodes: list[tuple[int, NodeEntry]] = field(default_factory=list)
    judgements: dict[int, Judgement] = field(default_factory=dict)
    epochs: Epochs = field(default_factory=Epochs)
    bad: list[str] = field(default_factory=list)


def check_dataset(
    directory: Path,
    *,
    trust: Trust | None = None,
    chain: Chain | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Report:
    """Everything that can be told of a dataset directory.

    Args:
        directory: where `manifest.json` lies.
        trust: what is pinned beforehand.
        chain: whom to ask about the chain; None for offline.
        progress: told what is being done.
        threads: threads for signatures; as many as there are cores by default.

    Returns:
        A report that always has all of `DATASET_ANSWERS`.

    Raises:
        VerifyError: there is no manifest to read.
    """
    trust = trust or Trust()
    tell = progress or (lambda _what, _done, _total: None)
    try:
        data = (directory / MANIFEST).read_bytes()
    except OSError as error:
        raise VerifyError(str(directory / MANIFEST), f"cannot be read: {error.strerror or error}") from error
    try:
        manifest = parse_manifest(data)
    except VerifyError as error:
        text = f"{MANIFEST}: {error}"
        broken = Answer(INTACT, State.NO, text, (), (Check("manifest", False, text),))
        return Report(
            "dataset",
            (broken, *(unknown(name, f"{MANIFEST} could not be read") for name in DATASET_ANSWERS[1:])),
        )
    tell("checking files", 0, 1)
    intact = check_files(directory, manifest)
    try:
        leaves = parse_entries((directory / ENTRIES).read_bytes())
        hashes = parse_multiproof((directory / MULTIPROOF).read_bytes())
        note = (directory / NOTE).read_bytes()
    except (OSError, VerifyError) as error:
        text = str(error)
        others = [
            unknown(name, text)
            if name in (ANCHORED, FLAGGED)
            else Answer(name, State.NO, text, (), (Check("evidence", False, text),))
            for name in DATASET_ANSWERS[1:]
        ]
        return Report(manifest.about.title, (intact, *others), _facts(manifest))
    evidence = read_evidence(leaves, tell)
    head = _head(manifest, leaves, note, trust)
    used = _used(evidence, manifest)
    flagged = check_flagged(
        warnings_of(evidence.nodes, _keys_in_use(evidence, used)),
        manifest.anchor,
        manifest.log_id,
        chain,
        covers=lambda found: _covers(found, used),
        limits="the exporter having left out no revocation and no clone: only the whole log shows that",
    )
    site = None if head.genesis is None else head.genesis.site
    answers = (
        intact,
        _check_rows(directory, manifest, evidence, used),
        _check_devices(evidence, site, threads or os.cpu_count() or 1, tell),
        _check_logged(manifest, leaves, hashes, head, trust),
        check_anchored(manifest.anchor, manifest.log_id, head.checkpoint, head.genesis, chain, trust),
        _check_judged(evidence, used),
        flagged,
    )
    return Report(manifest.about.title, answers, _facts(manifest))


def read_evidence(leaves: Sequence[tuple[int, bytes]], tell: Progress) -> Evidence:
    """Decodes the entries of a dataset; what cannot be read is named, not fatal."""
    evidence = Evidence(list(leaves))
    for position, (index, entry) in enumerate(leaves):
        if position % 4096 == 0:
            tell("reading evidence", position, len(leaves))
        try:
            decoded = decode_entry(entry)
            if isinstance(decoded, MessageEntry):
                signed = parse_signed(decoded.message)
                logged = Logged(
                    index, decoded.received_ms, Message(signed, parse_pack(signed.payload, tq=signed.tq))
                )
                evidence.messages.append(logged)
                evidence.epochs.feed(index, logged.message)
            elif isinstance(decoded, NodeEntry):
                evidence.nodes.append((index, decoded))
            elif isinstance(decoded, VerdictEntry):
                judge = judge_name(decoded)
                for message, pairs in decoded.verdicts:
                    known = evidence.judgements.get(message)
                    if outranks(judge, None if known is None else known.judge):
                        evidence.judgements[message] = Judgement(index, judge, pairs)
        except (EntryError, WireError) as error:
            evidence.bad.append(f"entry {index}: {error}")
    return evidence


def _head(manifest: Manifest, leaves: Sequence[tuple[int, bytes]], note: bytes, trust: Trust) -> Head:
    index, entry = leaves[0] if leaves else (GENESIS_INDEX, b"")
    return check_head(entry, index, manifest.log_id, note, manifest.size, trust)


def _check_logged(
    manifest: Manifest, leaves: Sequence[tuple[int, bytes]], hashes: Sequence[bytes], head: Head, trust: Trust
) -> Answer:
    checks = list(head.checks)
    checkpoint = head.checkpoint
    if checkpoint is None:
        checks.append(Check("note-readable", False, f"{NOTE} is no checkpoint"))
    else:
        same = (manifest.origin, manifest.root) == (checkpoint.origin, checkpoint.root)
        text = "the manifest names the origin and root of the note"
        checks.append(Check("manifest-log", same, text if same else f"not true that {text}"))
        size = checkpoint.size
        indices = [index for index, _ in leaves]
        try:
            root = root_from_multiproof(
                dict(zip(indices, leaf_hashes(entry for _, entry in leaves), strict=True)), size, hashes
            )
            same = root == checkpoint.root
            text = f"all {len(leaves)} entries of evidence are in the tree of {size}"
            failed = "the entries of evidence and the multiproof do not lead to the root of the note"
            checks.append(Check("entries-in-tree", same, text if same else failed))
        except ProofError as error:
            checks.append(Check("entries-in-tree", False, str(error)))
    summary = f"{len(leaves)} entries, under a checkpoint of {manifest.size} that the log's key signed"
    return conclude(LOGGED, checks, summary=summary, rests_on=(trust.of_log(),))


def _check_devices(evidence: Evidence, site: str | None, threads: int, tell: Progress) -> Answer:
    checks: list[Check] = []
    keyring = Keyring()
    failures = list(evidence.bad)
    for index, entry in evidence.nodes:
        keyring.apply(index, entry)
        if site is not None and entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE):
            failure = check_enrolment(entry, site)
            if failure is not None:
                failures.append(f"entry {index}: {failure}")
    checks.append(
        _counted("evidence", failures, f"{len(evidence.nodes)} node entries, each key announced by its node")
    )
    bad: list[str] = []
    names: list[str] = []
    done = 0

    def check_batch(batch: Sequence[Logged]) -> tuple[int, list[str], list[str]]:
        wrong, misnamed = [], []
        for logged in batch:
            signed, pack = logged.message.signed, logged.message.pack
            key = keyring.at(signed.kid, logged.index)
            if isinstance(key, str):
                wrong.append(f"entry {logged.index}: {key}")
                continue
            if signed.seq == 0 or not verify(signed, key.public_key):
                wrong.append(f"entry {logged.index}: not signed by key {signed.kid.hex()} of node {key.node}")
            if pack.node != key.node or (site is not None and pack.site != site):
                misnamed.append(
                    f"entry {logged.index}: names {pack.site}/{pack.node}, the key is of {key.node}"
                )
        return len(batch), wrong, misnamed

    total = len(evidence.messages)
    with ThreadPoolExecutor(threads) as pool:
        for count, wrong, misnamed in pool.map(check_batch, _batches(evidence.messages, BATCH)):
            bad += wrong
            names += misnamed
            done += count
            tell("checking signatures", done, total)
    checks.append(_counted("signatures", bad, f"{total} messages signed by enrolled keys in force"))
    checks.append(_counted("names", names, "every message names the node of its key"))
    rests_on = (
        "the private keys being in the nodes only, which no file can show",
        "the log answer, for who the keys belong to",
        "the exporter having left out no node entry that concerns these keys",
    )
    return conclude(
        DEVICE_SIGNED, checks, summary=f"{total} messages, every signature checked", rests_on=rests_on
    )


def _batches(items: Iterable[Logged], size: int) -> Iterable[list[Logged]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _counted(name: str, failures: Sequence[str], text: str) -> Check:
    if not failures:
        return Check(name, True, text)
    more = f" (and {len(failures) - NAMED} more)" if len(failures) > NAMED else ""
    return Check(name, False, "; ".join(failures[:NAMED]) + more)


def _used(evidence: Evidence, manifest: Manifest) -> list[int]:
    """Log indices of the messages that give at least one row."""
    used = []
    for logged in evidence.messages:
        judgement = evidence.judgements.get(logged.index)
        judged = judgement is not None and len(judgement.pairs) == len(logged.message.pack.names)
        base_time = evidence.epochs.base_time(logged.message)
        if wanted_records(logged, base_time, judged, manifest.selection):
            used.append(logged.index)
    return used


def _keys_in_use(evidence: Evidence, used: Sequence[int]) -> dict[bytes, list[int]]:
    kids: dict[bytes, list[int]] = {}
    wanted = set(used)
    for logged in evidence.messages:
        if logged.index in wanted:
            kids.setdefault(logged.message.signed.kid, []).append(logged.index)
    keyring = Keyring()
    for index, entry in evidence.nodes:
        keyring.apply(index, entry)
    return {keyring.keys[kid].public_key: found for kid, found in kids.items() if kid in keyring.keys}


def _covers(found: FlaggedRange, used: Sequence[int]) -> bool:
    return any(found.start <= index < found.stop for index in used)


def _check_judged(evidence: Evidence, used: Sequence[int]) -> Answer:
    missing = []
    lengths = {logged.index: len(logged.message.pack.names) for logged in evidence.messages}
    judges = set()
    for index in used:
        judgement = evidence.judgements.get(index)
        if judgement is None:
            missing.append(f"message {index} has no verdict")
        elif len(judgement.pairs) != lengths[index]:
            missing.append(f"message {index} has {len(judgement.pairs)} scores for {lengths[index]} readings")
        else:
            judges.add(judgement.judge)
    checks = [
        Check("rows-present", bool(used), f"{len(used)} messages give rows"),
        _counted(
            "verdicts",
            missing,
            f"all {len(used)} messages were judged by {', '.join(sorted(judges)) or 'nobody'}",
        ),
    ]
    rests_on = (
        "the gateway's judgement; the evidence shows that it was made and not changed since",
        "the log answer; a later verdict may exist",
    )
    return conclude(JUDGED, checks, summary=checks[-1].text, rests_on=rests_on)


def _check_rows(directory: Path, manifest: Manifest, evidence: Evidence, used: Sequence[int]) -> Answer:
    from sensorhub.verify.table import CHUNK_ROWS, compare

    derived: Iterable[Rows] = derive(
        evidence.messages, evidence.judgements.get, evidence.epochs, manifest.selection, chunk=CHUNK_ROWS
    )
    try:
        rows, differences = compare(directory / DATA, derived, provenance(manifest))
    except VerifyError as error:
        return Answer(ROWS, State.NO, str(error), (), (Check("readable", False, str(error)),))
    checks = [_counted("values", differences, f"{rows} rows follow from the evidence, value by value")]
    wanted = set(used)
    nodes = {logged.message.pack.node for logged in evidence.messages if logged.index in wanted}
    counts = (rows, len(used), len(nodes), len(evidence.leaves))
    claimed = manifest.counts
    same = counts == (claimed.rows, claimed.messages, claimed.nodes, claimed.entries)
    text = f"{rows} rows, {len(used)} messages, {len(nodes)} nodes, {len(evidence.leaves)} entries"
    if differences:
        checks.append(Check("counts", None, "not counted, the rows differ"))
    else:
        checks.append(Check("counts", same, text if same else f"the manifest counts otherwise than {text}"))
    rests_on = (
        "device-signed and logged, for the evidence itself",
        "no message having been left out, which only the whole log shows",
    )
    return conclude(ROWS, checks, summary=checks[0].text, rests_on=rests_on)


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "logId": canonical.to_hex(manifest.log_id),
        "origin": manifest.origin,
        "size": manifest.size,
        "licence": manifest.about.licence,
        "attribution": manifest.about.attribution,
        "selection": manifest.selection.as_json(),
        "counts": {
            "rows": manifest.counts.rows,
            "messages": manifest.counts.messages,
            "nodes": manifest.counts.nodes,
            "entries": manifest.counts.entries,
        },
        "chain": anchor_facts(manifest.anchor),
    }
