"""Checks one proof file and gives every answer apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sensorhub.channels import BY_NAME
from sensorhub.flags import FULL_SCORE, flag_names
from sensorhub.log.entries import ArtefactEntry, EntryError, NodeEntry, VerdictEntry, decode_entry
from sensorhub.log.note import Checkpoint, NoteError, open_checkpoint
from sensorhub.verify import canonical
from sensorhub.verify.anchoring import anchor_facts, check_anchored, check_flagged
from sensorhub.verify.answers import (
    ANCHORED,
    DEVICE_SIGNED,
    FLAGGED,
    INTACT,
    JUDGED,
    LOGGED,
    Answer,
    Check,
    Report,
    State,
    conclude,
    unknown,
)
from sensorhub.verify.chain_view import Chain
from sensorhub.verify.devices import Told, check_device_signed, read_message, warnings_of
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.proof import Proof, Proven, parse_proof
from sensorhub.verify.tlog_proof import parse_tlog_proof
from sensorhub.verify.trust import Trust, check_head, check_inclusion, kind_in_words, unsigned_checkpoint

PROOF_ANSWERS = (INTACT, DEVICE_SIGNED, LOGGED, ANCHORED, JUDGED, FLAGGED)
"""Every answer on a proof, in the order shown."""

TLOG_ANSWERS = (INTACT, LOGGED)
"""Every answer on a C2SP tlog-proof."""


def check_proof(data: bytes, *, trust: Trust | None = None, chain: Chain | None = None) -> Report:
    """Everything that can be told from the bytes of a proof file.

    Args:
        data: the file.
        trust: what is pinned beforehand.
        chain: whom to ask about the chain; None for offline.

    Returns:
        A report that always has all of `PROOF_ANSWERS`. Bytes that are no proof give `intact` no, with the
        field named, and leave the others unknown.
    """
    trust = trust or Trust()
    try:
        proof = parse_proof(data)
    except VerifyError as error:
        broken = Answer(INTACT, State.NO, str(error), (), (Check("format", False, str(error)),))
        others = [unknown(name, "the file could not be read") for name in PROOF_ANSWERS[1:]]
        return Report("proof", (broken, *others), {"format": None, "where": error.where})
    head = check_head(
        proof.genesis.entry, proof.genesis.index, proof.log_id, proof.note.encode(), proof.size, trust
    )
    told = read_message(proof.entry.entry)
    logged = _check_logged(proof, head.checkpoint, head.checks, trust)
    anchored = check_anchored(proof.anchor, proof.log_id, head.checkpoint, head.genesis, chain, trust)
    index = proof.entry.index
    flagged = check_flagged(
        _warnings(proof, told),
        proof.anchor,
        proof.log_id,
        chain,
        covers=lambda found: found.start <= index < found.stop,
        limits="the prover having left out no revocation and no clone: only the whole log shows that",
    )
    answers = (
        _check_intact(proof),
        check_device_signed(proof.entry, told, proof.node, proof.events, head.genesis, head.checkpoint),
        logged,
        anchored,
        _check_judged(proof, told, head.checkpoint),
        flagged,
    )
    origin = head.checkpoint.origin if head.checkpoint is not None else "unknown log"
    return Report(f"entry {index} of {origin}", answers, _facts(proof, told, head.checkpoint))


def check_tlog_proof(data: bytes, *, trust: Trust | None = None) -> Report:
    """What a C2SP tlog-proof shows: that an entry is in a log whose key the caller names, and nothing more.

    Args:
        data: the file.
        trust: what is pinned; without a log key the note cannot be checked, since the format carries none.

    Returns:
        A report that always has all of `TLOG_ANSWERS`.
    """
    trust = trust or Trust()
    try:
        proof = parse_tlog_proof(data)
    except VerifyError as error:
        broken = Answer(INTACT, State.NO, str(error), (), (Check("format", False, str(error)),))
        return Report("tlog-proof", (broken, unknown(LOGGED, "the file could not be read")))
    note = proof.checkpoint.encode()
    checkpoint = unsigned_checkpoint(note)
    checks = []
    if trust.log_key is None:
        text = "the file does not name the log's key: give it with --log-key"
        checks.append(Check("note-signature", None, text))
    else:
        try:
            checkpoint = open_checkpoint(note, trust.log_key)
            checks.append(Check("note-signature", True, f"checkpoint note signed by {trust.log_key.name}"))
        except NoteError as error:
            checks.append(Check("note-signature", False, f"checkpoint note: {error}"))
    if trust.log_id is not None:
        text = "the file does not carry the genesis entry, so the log id cannot be told: give --log-key"
        checks.append(Check("log-id-pinned", None, text))
    if proof.extra is None:
        checks.append(Check("entry-in-tree", None, "the file does not carry the entry (line 'extra')"))
    else:
        checks.append(
            check_inclusion("entry-in-tree", "the entry", proof.extra, proof.index, proof.path, checkpoint)
        )
    size = 0 if checkpoint is None else checkpoint.size
    logged = conclude(
        LOGGED,
        checks,
        summary=f"entry {proof.index} of {size}, under a checkpoint that the log's key signed",
        rests_on=(trust.of_log(),),
    )
    text = "a tlog-proof as its format wants it"
    intact = conclude(INTACT, [Check("format", True, text)], summary=text)
    origin = "unknown log" if checkpoint is None else checkpoint.origin
    facts = {"index": proof.index, "size": size, **_other_facts(proof.extra or b"")}
    return Report(f"entry {proof.index} of {origin}", (intact, logged), facts)


def _check_intact(proof: Proof) -> Answer:
    text = (
        "the file is as it was written"
        if proof.digest_holds
        else "the file is not as it was written: its digest does not fit (if all else holds, the change is in tx, "
        "block, a foreign signature line of the note, or the digest itself)"
    )
    check = Check("digest", proof.digest_holds, text)
    rests_on = ("the digest in the file, which tells accidents, not deceit",)
    return conclude(INTACT, [check], summary=text, rests_on=rests_on)


def _check_logged(
    proof: Proof, checkpoint: Checkpoint | None, checks: Iterable[Check], trust: Trust
) -> Answer:
    genesis, entry = proof.genesis, proof.entry
    done = [
        *checks,
        check_inclusion(
            "genesis-in-tree", "the genesis entry", genesis.entry, genesis.index, genesis.path, checkpoint
        ),
        check_inclusion("entry-in-tree", "the entry", entry.entry, entry.index, entry.path, checkpoint),
    ]
    summary = f"entry {entry.index} of {proof.size}, under a checkpoint that the log's key signed"
    return conclude(LOGGED, done, summary=summary, rests_on=(trust.of_log(),))


def _check_judged(proof: Proof, told: Told | str, checkpoint: Checkpoint | None) -> Answer:
    verdict = proof.verdict
    if verdict is None:
        reason = "the file carries no verdict on this entry"
        return Answer(JUDGED, State.NO, reason, (), (Check("verdict-present", False, reason),))
    checks = [Check("verdict-present", True, f"verdict at entry {verdict.index}")]
    decoded = _verdict_entry(verdict)
    if isinstance(decoded, str):
        checks.append(Check("verdict-entry", False, decoded))
        summary = ""
    else:
        pairs = dict(decoded.verdicts).get(proof.entry.index)
        covers = pairs is not None
        text = f"judged by {judge_name(decoded)}"
        checks.append(
            Check(
                "verdict-entry",
                covers,
                text if covers else f"the verdict is not on entry {proof.entry.index}",
            )
        )
        if covers and not isinstance(told, str) and told.message is not None:
            records = len(told.message.pack.names)
            found = len(pairs or ())
            checks.append(
                Check("verdict-records", records == found, f"{found} scores for {records} readings")
            )
        after = verdict.index > proof.entry.index
        checks.append(
            Check("verdict-order", after, f"verdict at {verdict.index}, message at {proof.entry.index}")
        )
        summary = f"{text}: {_scores_text(pairs or ())}"
    checks.append(
        check_inclusion(
            "verdict-in-tree", "the verdict", verdict.entry, verdict.index, verdict.path, checkpoint
        )
    )
    rests_on = (
        "the gateway's judgement; the file shows that it was made and not changed since",
        "the log answer; a later verdict may exist",
    )
    return conclude(JUDGED, checks, summary=summary, rests_on=rests_on)


def judge_name(verdict: VerdictEntry) -> str:
    """Who judged: the rules version, and the model's SHA-256 when one took part."""
    return f"{verdict.rules} with model {verdict.model.hex()}" if verdict.model else verdict.rules


def _verdict_entry(proven: Proven) -> VerdictEntry | str:
    try:
        decoded = decode_entry(proven.entry)
    except EntryError as error:
        return f"verdict entry: {error}"
    return decoded if isinstance(decoded, VerdictEntry) else f"the verdict entry is {kind_in_words(decoded)}"


def _scores_text(pairs: Iterable[tuple[int, int]]) -> str:
    scores = [score / FULL_SCORE for score, _ in pairs]
    flags = 0
    for _, bits in pairs:
        flags |= bits
    if not scores:
        return "no readings"
    spread = (
        f"score {min(scores):.2f}"
        if min(scores) == max(scores)
        else f"scores {min(scores):.2f} to {max(scores):.2f}"
    )
    return f"{spread}, flags {', '.join(flag_names(flags)) or 'none'}"


def _warnings(proof: Proof, told: Told | str) -> list[str]:
    if isinstance(told, str):
        return []
    entries = []
    for event in (*proof.events, *([] if proof.node is None else [proof.node])):
        try:
            decoded = decode_entry(event.entry)
        except EntryError:
            continue
        if isinstance(decoded, NodeEntry):
            entries.append((event.index, decoded))
    if proof.node is None:
        return []
    own = dict(entries).get(proof.node.index)
    return [] if own is None else warnings_of(entries, {own.public_key: [proof.entry.index]})


def _facts(proof: Proof, told: Told | str, checkpoint: Checkpoint | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "logId": canonical.to_hex(proof.log_id),
        "origin": None if checkpoint is None else checkpoint.origin,
        "index": proof.entry.index,
        "size": proof.size,
        "chain": anchor_facts(proof.anchor),
    }
    if isinstance(told, str):
        return {**facts, **_other_facts(proof.entry.entry)}
    facts.update(
        receivedMs=told.received_ms,
        kid=told.signed.kid.hex(),
        boot=told.signed.boot,
        seq=told.signed.seq,
        timeQuality=told.signed.tq,
    )
    if told.message is not None:
        pack = told.message.pack
        verdicts = _pairs(proof, len(pack.names))
        facts.update(site=pack.site, node=pack.node, readings=[])
        for record, (name, offset, value) in enumerate(zip(pack.names, pack.times, pack.values, strict=True)):
            score, flags = verdicts[record] if verdicts else (None, None)
            facts["readings"].append(
                {
                    "channel": name,
                    "unit": BY_NAME[name].unit,
                    "value": value.hex() if isinstance(value, bytes) else value,
                    "time": None if pack.base_time is None else pack.base_time + offset,
                    "score": None if score is None else round(score / FULL_SCORE, 4),
                    "flags": None if flags is None else flag_names(flags),
                }
            )
    return facts


def _pairs(proof: Proof, records: int) -> tuple[tuple[int, int], ...] | None:
    if proof.verdict is None:
        return None
    decoded = _verdict_entry(proof.verdict)
    if isinstance(decoded, str):
        return None
    pairs = dict(decoded.verdicts).get(proof.entry.index)
    return pairs if pairs is not None and len(pairs) == records else None


def _other_facts(entry: bytes) -> dict[str, Any]:
    try:
        decoded = decode_entry(entry)
    except EntryError:
        return {}
    if isinstance(decoded, ArtefactEntry):
        return {
            "artefact": {
                "what": decoded.what,
                "sha256": decoded.sha256.hex(),
                "description": decoded.description,
                "ms": decoded.ms,
            }
        }
    return {"kind": type(decoded).__name__}
