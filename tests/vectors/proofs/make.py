"""Writes the corpus of proofs: `python tests/vectors/proofs/make.py [folder]`.

`valid/` and `invalid/` hold proof files (and a C2SP tlog-proof), `expected.json` what every verifier must say
of each without asking a chain: the state of each answer, declared here by hand. `valid` are true files, also
such that a cautious reader would not want (a revoked key); in `invalid` something does not hold. The same
bytes on every run; all keys are derived from public words.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import world as worlds

from sensorhub.dataset.prove import tlog_proof
from sensorhub.log.entries import MessageEntry, NodeEvent, decode_entry, encode_entry
from sensorhub.verify import canonical
from sensorhub.verify.proof import Proof, format_proof
from sensorhub.verify.tlog_proof import format_tlog_proof

VALID, INVALID, EXPECTED = "valid", "invalid", "expected.json"


SOUND = {
    "intact": "yes",
    "device-signed": "yes",
    "logged": "yes",
    "anchored": "unknown",
    "judged": "yes",
    "flagged": "unknown",
}
"""What holds of a true proof when no chain is asked."""
NOT_THE_FORMAT = {**dict.fromkeys(SOUND, "unknown"), "intact": "no"}
"""What is said of bytes that are no proof file."""
OTHERWISE: dict[str, dict[str, str]] = {
    "not-judged": {"judged": "no"},
    "not-anchored": {"anchored": "no"},
    "log-of-one-entry": {"device-signed": "no", "anchored": "no", "judged": "no"},
    "artefact": {"device-signed": "no", "anchored": "no", "judged": "no"},
    "revoked-afterwards": {"flagged": "yes"},
    "cloned-key": {"flagged": "yes"},
    "a-flipped-digest": {"intact": "no"},
    "a-flipped-transaction": {"intact": "no"},
    "forged-signature": {"device-signed": "no", "logged": "no"},
    "high-s": {"device-signed": "no", "logged": "no"},
    "received-at-another-time": {"logged": "no"},
    "another-value": {"device-signed": "no", "logged": "no"},
    "another-index": {"logged": "no"},
    "another-size": {"logged": "no"},
    "a-shorter-path": {"logged": "no"},
    "a-longer-path": {"logged": "no"},
    "another-hash-in-the-path": {"logged": "no"},
    "another-log-id": {"logged": "no", "anchored": "no"},
    "a-note-of-another-key": {"logged": "no"},
    "a-note-with-another-root": {"device-signed": "no", "logged": "no", "anchored": "no", "judged": "no"},
    "no-note": {"device-signed": "unknown", "logged": "no", "judged": "unknown"},
    "no-enrolment": {"device-signed": "no"},
    "the-enrolment-of-another-node": {"device-signed": "no"},
    "an-enrolment-that-is-not-logged": {"device-signed": "no"},
    "a-better-score": {"judged": "no"},
    "a-verdict-on-another-message": {"judged": "no"},
    "a-checkpoint-of-another-root": {"anchored": "no"},
    "a-checkpoint-signed-by-another": {"anchored": "no"},
    "another-contract": {"anchored": "no"},
    "another-chain": {"anchored": "no"},
    "after-the-revocation": {"device-signed": "no", "judged": "no", "flagged": "yes"},
    "a-rotation-of-nothing": {"device-signed": "no", "judged": "no"},
}
"""Where a file is not sound, declared by hand: the answers that are not as in SOUND."""


def valid() -> Iterator[tuple[str, bytes]]:
    sample = worlds.sample()
    world = sample.world
    judged = world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)
    yield "judged-and-anchored", format_proof(judged)
    yield (
        "without-a-clock",
        format_proof(world.proof(sample.clockless, node=sample.enrolled_south, verdict=sample.verdict)),
    )
    yield (
        "suspect",
        format_proof(world.proof(sample.verdict + 1, node=sample.enrolled_north, verdict=sample.verdict + 2)),
    )
    yield "not-judged", format_proof(world.proof(sample.unjudged, node=sample.enrolled_south))
    yield (
        "not-anchored",
        format_proof(
            world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict, anchored=False)
        ),
    )
    signed = world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)
    yield (
        "signed-but-not-mined",
        format_proof(replace(signed, anchor=replace(signed.anchor, tx=None, block=None))),
    )
    bare = worlds.sample(contract=None)
    yield (
        "genesis-without-contract",
        format_proof(bare.world.proof(bare.message, node=bare.enrolled_north, verdict=bare.verdict)),
    )
    lone = worlds.World()
    yield "log-of-one-entry", format_proof(lone.proof(0, anchored=False))
    artefact = world.artefact("dataset", bytes(range(32)))
    yield "artefact", format_proof(world.proof(artefact, anchored=False))
    again = worlds.sample()
    revoked = again.world.revoke(again.north)
    yield (
        "revoked-afterwards",
        format_proof(
            again.world.proof(
                again.message, node=again.enrolled_north, events=[revoked], verdict=again.verdict
            )
        ),
    )
    replacement = worlds.Device("south", worlds.secret("south 2"), boot=2)
    rotated = again.world.enrol(replacement, NodeEvent.ROTATE)
    message = again.world.send(replacement, worlds.readings(1), time=worlds.START + 900)
    verdict = again.world.judge(message)
    yield (
        "rotated",
        format_proof(
            again.world.proof(message, node=rotated, events=[again.enrolled_south], verdict=verdict)
        ),
    )
    twin = worlds.Device("north", again.north.key)
    second = again.world.send(twin, worlds.readings(50), time=worlds.START)
    clone = again.world.clone(again.north, again.message, second)
    yield (
        "cloned-key",
        format_proof(
            again.world.proof(again.message, node=again.enrolled_north, events=[clone], verdict=again.verdict)
        ),
    )
    yield "long-log", format_proof(_long())


def _long() -> Proof:
    sample = worlds.sample()
    for _ in range(1000):
        sample.world.artefact("report", bytes(32))
    return sample.world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)


def invalid() -> Iterator[tuple[str, bytes]]:
    sample = worlds.sample()
    world = sample.world
    proof = world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)
    good = format_proof(proof)
    members = json.loads(good)

    def changed(**fields: object) -> bytes:
        return canonical.dump(canonical.seal({**members, **fields}))

    # not the format
    yield "another-format", changed(format="sensorhub-proof/2")
    yield "an-unknown-member", changed(extra=1)
    yield (
        "a-missing-member",
        canonical.dump(canonical.seal({key: value for key, value in members.items() if key != "node"})),
    )
    yield "another-order", canonical.dump(canonical.seal(dict(sorted(members.items()))))
    yield "spaces", good + b" "
    yield "on-one-line", json.dumps(members).encode()
    yield "an-escaped-letter", good.replace(b'"sensorhub-proof/1"', b'"sensorhub-proof\\/1"')
    yield "a-member-twice", good.replace(b'  "index"', b'  "size": 14,\n  "index"', 1)
    yield "a-number-as-text", changed(index=str(members["index"]))
    yield "a-fraction", good.replace(b'"index": 3,', b'"index": 3.0,')
    yield "a-negative-index", changed(index=-3)
    yield "base64-without-padding", changed(entry=members["entry"].rstrip("="))
    yield "base64-with-spare-bits", changed(path=[members["path"][0][:-2] + "R=", *members["path"][1:]])
    yield "upper-case-hex", changed(logId=members["logId"].upper().replace("0X", "0x"))
    yield "a-short-hash", changed(path=[canonical.to_base64(bytes(31)), *members["path"][1:]])
    yield "a-chain-without-checkpoint", changed(checkpoint=None)
    yield "a-transaction-without-block", changed(block=None)
    yield "cut-off", good[: len(good) // 2]
    yield "empty", b""
    # damaged
    digest = members["digest"]
    flipped = digest[:-1] + ("1" if digest.endswith("0") else "0")
    yield "a-flipped-digest", good.replace(digest.encode(), flipped.encode())
    yield "a-flipped-transaction", good.replace(members["tx"][2:12].encode(), b"0000000000")
    # untrue, with a digest that fits
    message = decode_entry(proof.entry.entry)
    assert isinstance(message, MessageEntry)
    forged = bytearray(message.message)
    forged[-1] ^= 1
    yield "forged-signature", _entry(proof, encode_entry(MessageEntry(message.received_ms, bytes(forged))))
    high = bytearray(message.message)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high[-32:] = (order - int.from_bytes(high[-32:], "big")).to_bytes(32, "big")
    yield "high-s", _entry(proof, encode_entry(MessageEntry(message.received_ms, bytes(high))))
    yield (
        "received-at-another-time",
        _entry(proof, encode_entry(MessageEntry(message.received_ms + 1, message.message))),
    )
    yield "another-value", _entry(proof, proof.entry.entry.replace(b"\x02\x08", b"\x02\x09", 1))
    yield "another-index", format_proof(replace(proof, entry=replace(proof.entry, index=4)))
    yield "another-size", format_proof(replace(proof, size=13))
    yield (
        "a-shorter-path",
        format_proof(replace(proof, entry=replace(proof.entry, path=proof.entry.path[:-1]))),
    )
    yield (
        "a-longer-path",
        format_proof(replace(proof, entry=replace(proof.entry, path=(*proof.entry.path, bytes(32))))),
    )
    yield (
        "another-hash-in-the-path",
        format_proof(replace(proof, entry=replace(proof.entry, path=(bytes(32), *proof.entry.path[1:])))),
    )
    yield "another-log-id", format_proof(replace(proof, log_id=bytes(32)))
    yield (
        "a-note-of-another-key",
        format_proof(replace(proof, note=proof.note.replace("— alpha.g1", "— alpha.g2"))),
    )
    yield "a-note-with-another-root", format_proof(replace(proof, note=_other_root(proof.note)))
    yield "no-note", format_proof(replace(proof, note=""))
    yield "no-enrolment", format_proof(replace(proof, node=None))
    yield (
        "the-enrolment-of-another-node",
        format_proof(replace(proof, node=world.proven(sample.enrolled_south, proof.size))),
    )
    node = decode_entry(world.entry(sample.enrolled_north))
    yield (
        "an-enrolment-that-is-not-logged",
        format_proof(
            replace(
                proof,
                node=replace(world.proven(1, proof.size), entry=encode_entry(replace(node, geohash="u0000"))),
            )
        ),
    )
    yield "a-better-score", format_proof(_judged(proof, b"\x18\xff\x00", b"\x18\xfe\x00"))
    yield (
        "a-verdict-on-another-message",
        format_proof(replace(proof, verdict=world.proven(sample.verdict + 2, proof.size))),
    )
    anchor = proof.anchor
    assert anchor is not None
    yield (
        "a-checkpoint-of-another-root",
        format_proof(
            replace(proof, anchor=replace(anchor, checkpoint=replace(anchor.checkpoint, root=bytes(32))))
        ),
    )
    yield (
        "a-checkpoint-signed-by-another",
        format_proof(
            replace(proof, anchor=replace(anchor, checkpoint=replace(anchor.checkpoint, gateway=bytes(20))))
        ),
    )
    yield "another-contract", format_proof(replace(proof, anchor=replace(anchor, contract=bytes(20))))
    yield "another-chain", format_proof(replace(proof, anchor=replace(anchor, chain_id=1)))
    late = worlds.sample()
    revoked = late.world.revoke(late.north)
    after = late.world.send(late.north, worlds.readings(7), time=worlds.START + 900)
    yield (
        "after-the-revocation",
        format_proof(late.world.proof(after, node=late.enrolled_north, events=[revoked])),
    )
    replacement = worlds.Device("north", worlds.secret("north 2"), boot=2)
    rotated = late.world.enrol(replacement, NodeEvent.ROTATE)
    taken = late.world.send(replacement, worlds.readings(7), time=worlds.START + 901)
    yield "a-rotation-of-nothing", format_proof(late.world.proof(taken, node=rotated))


def _entry(proof: Proof, entry: bytes) -> bytes:
    return format_proof(replace(proof, entry=replace(proof.entry, entry=entry)))


def _judged(proof: Proof, old: bytes, new: bytes) -> Proof:
    verdict = proof.verdict
    assert verdict is not None
    return replace(proof, verdict=replace(verdict, entry=verdict.entry.replace(old, new, 1)))


def _other_root(note: str) -> str:
    lines = note.split("\n")
    lines[2] = canonical.to_base64(bytes(32))
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Writes the whole corpus below `folder`."""
    for part in (VALID, INVALID):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    expected: dict[str, dict[str, str]] = {}
    for part, made in ((VALID, valid()), (INVALID, invalid())):
        for name, data in made:
            file = f"{part}/{name}.proof.json"
            (folder / file).write_bytes(data)
            broken = part == INVALID and name not in OTHERWISE
            expected[file] = NOT_THE_FORMAT if broken else {**SOUND, **OTHERWISE.get(name, {})}
    sample = worlds.sample()
    text = format_tlog_proof(tlog_proof(sample.world.proof(sample.message)))
    (folder / VALID / "judged-and-anchored.tlog-proof").write_bytes(text)
    (folder / EXPECTED).write_text(
        json.dumps(
            {
                "logKey": sample.world.signer.verifier_key,
                "logId": canonical.to_hex(sample.world.log_id),
                "proofs": expected,
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
