"""Each answer on a proof, true and untrue, and every single byte."""

import functools
import json
import re
import struct
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.log.entries import MessageEntry, NodeEntry, NodeEvent, decode_entry, encode_entry
from sensorhub.log.note import NoteSigner, NoteVerifier
from sensorhub.verify.answers import ANCHORED, DEVICE_SIGNED, FLAGGED, INTACT, JUDGED, LOGGED, State
from sensorhub.verify.chain_view import ChainUnreachable, FlaggedRange
from sensorhub.verify.check import PROOF_ANSWERS, check_proof
from sensorhub.verify.proof import Proven, format_proof, parse_proof
from sensorhub.verify.render import render
from sensorhub.verify.trust import Trust


@pytest.fixture
def proof(sample):
    return sample.world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)


@pytest.fixture
def chain(worlds, sample):
    return worlds.RecordedChain(sample.world)


def states(report):
    return {answer.name: str(answer.state) for answer in report.answers}


def check(proof, **options):
    return check_proof(format_proof(proof), **options)


ALL_HOLD = {INTACT: "yes", DEVICE_SIGNED: "yes", LOGGED: "yes", ANCHORED: "yes", JUDGED: "yes", FLAGGED: "no"}


def test_a_true_proof_holds_in_every_answer(proof, chain):
    report = check(proof, chain=chain)
    assert states(report) == ALL_HOLD
    assert report.exit_code(PROOF_ANSWERS) == 0
    assert report.failed() == ()
    assert report.facts["node"] == "north"
    assert report.facts["readings"][0] == {
        "channel": "pm2_5",
        "unit": "ug/m3",
        "value": 8.0,
        "time": 1_700_000_000.0,
        "score": 1.0,
        "flags": [],
    }


def test_offline_only_the_chain_is_left_open(proof):
    report = check(proof)
    assert states(report) == {**ALL_HOLD, ANCHORED: "unknown", FLAGGED: "unknown"}
    assert report.exit_code(PROOF_ANSWERS) == 9
    assert report.exit_code((INTACT, DEVICE_SIGNED, LOGGED, JUDGED)) == 0


def test_a_proof_before_its_checkpoint_is_posted_says_so(sample, chain):
    bare = sample.world.proof(sample.message, node=sample.enrolled_north, anchored=False)
    report = check(bare, chain=chain)
    assert states(report) == {**ALL_HOLD, ANCHORED: "no", JUDGED: "no", FLAGGED: "unknown"}
    assert "before its size was anchored" in report[ANCHORED].reason


def test_an_unreachable_chain_leaves_answers_open(proof, chain, monkeypatch):
    def fail(*_):
        raise ChainUnreachable("the RPC server at http://nowhere", "did not answer")

    monkeypatch.setattr(type(chain), "chain_id", fail)
    monkeypatch.setattr(type(chain), "flags", fail)
    report = check(proof, chain=chain)
    assert states(report) == {**ALL_HOLD, ANCHORED: "unknown", FLAGGED: "unknown"}
    assert "nowhere did not answer" in report[ANCHORED].reason.replace(": ", " ")


# what is pinned beforehand


def test_a_pinned_log_must_be_this_one(proof, sample):
    world = sample.world
    assert check(proof, trust=Trust(log_id=world.log_id))[LOGGED].state is State.YES
    assert check(proof, trust=Trust(log_key=world.signer.verifier))[LOGGED].state is State.YES
    assert check(proof, trust=Trust(log_id=bytes(32))).failed() == ("logged.log-id-pinned",)
    other = NoteVerifier("alpha.g1/sensorhub", NoteSigner("x", bytes(32)).public_key)
    assert set(check(proof, trust=Trust(log_key=other)).failed()) == {
        "logged.log-key-pinned",
        "logged.note-signature",
    }


def test_a_pinned_contract_must_be_this_one(proof, worlds, chain):
    assert check(proof, trust=Trust(contract=worlds.CONTRACT, chain_id=31337), chain=chain).failed() == ()
    assert check(proof, trust=Trust(contract=bytes(20)), chain=chain).failed() == (
        "anchored.contract-pinned",
    )
    assert check(proof, trust=Trust(chain_id=1), chain=chain).failed() == ("anchored.chain-pinned",)


def test_a_log_that_names_no_contract_is_anchored_where_the_file_says(worlds):
    sample = worlds.sample(contract=None)
    proof = sample.world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)
    report = check(proof, chain=worlds.RecordedChain(sample.world))
    assert states(report) == ALL_HOLD
    assert "give --contract to pin it" in report[ANCHORED].rests_on[0]


# what can be untrue, and only that is named; the digest is always made anew, as a liar would


def lies(sample):
    """(name, proof, the checks that fail)."""
    world, true = sample.world, sample.world.proof
    proof = true(sample.message, node=sample.enrolled_north, verdict=sample.verdict)
    message = decode_entry(proof.entry.entry)
    forged = bytearray(message.message)
    forged[-1] ^= 1
    node = decode_entry(proof.node.entry)

    def entry(data):
        return replace(proof, entry=replace(proof.entry, entry=data))

    def at_node(data):
        return replace(proof, node=replace(proof.node, entry=data))

    def anchor(**changes):
        return replace(
            proof, anchor=replace(proof.anchor, checkpoint=replace(proof.anchor.checkpoint, **changes))
        )

    yield (
        "received at another time",
        entry(encode_entry(replace(message, received_ms=message.received_ms + 1))),
        {"logged.entry-in-tree"},
    )
    yield (
        "signature of nobody",
        entry(encode_entry(MessageEntry(message.received_ms, bytes(forged)))),
        {"logged.entry-in-tree", "device-signed.signature"},
    )
    yield "another index", replace(proof, entry=replace(proof.entry, index=4)), {"logged.entry-in-tree"}
    yield (
        "another size",
        replace(proof, size=13),
        {"logged.note-size"},
    )
    yield (
        "a hash of the path",
        replace(proof, entry=replace(proof.entry, path=(bytes(32), *proof.entry.path[1:]))),
        {"logged.entry-in-tree"},
    )
    yield (
        "a shorter path",
        replace(proof, entry=replace(proof.entry, path=proof.entry.path[:-1])),
        {"logged.entry-in-tree"},
    )
    yield (
        "another log id",
        replace(proof, log_id=bytes(32)),
        {
            "logged.log-id",
            "anchored.anchor-signature",
            "anchored.event",
            "anchored.contract-head",
        },
    )
    yield (
        "no enrolment",
        replace(proof, node=None),
        {"device-signed.key-enrolled"},
    )
    yield (
        "the enrolment of another node",
        replace(proof, node=world.proven(sample.enrolled_south, proof.size)),
        {
            "device-signed.key-enrolled",
            "device-signed.signature",
            "device-signed.name",
            "device-signed.key-in-force",
        },
    )
    yield (
        "another owner",
        at_node(encode_entry(replace(node, owner=bytes(20)))),
        {"device-signed.enrolment-in-tree"},
    )
    yield (
        "another name for the key",
        at_node(encode_entry(replace(node, node="south"))),
        {"device-signed.name", "device-signed.announce", "device-signed.enrolment-in-tree"},
    )
    yield (
        "an enrolment without the node's word",
        at_node(encode_entry(replace(node, evidence=b""))),
        {"device-signed.announce", "device-signed.enrolment-in-tree"},
    )
    yield (
        "a revocation as enrolment",
        at_node(encode_entry(replace(node, event=NodeEvent.REVOKE))),
        {
            "device-signed.key-enrolled",
            "device-signed.enrolment-in-tree",
            "device-signed.key-in-force",
            "flagged.evidence",
        },
    )
    yield (
        "a verdict on other messages",
        replace(proof, verdict=world.proven(sample.verdict + 2, proof.size)),
        {"judged.verdict-entry"},
    )
    yield (
        "a better score",
        replace(
            proof,
            verdict=replace(
                proof.verdict, entry=proof.verdict.entry.replace(b"\x18\xff\x00", b"\x18\xfe\x00", 1)
            ),
        ),
        {"judged.verdict-in-tree"},
    )
    yield (
        "an entry that is no verdict",
        replace(proof, verdict=world.proven(sample.enrolled_south, proof.size)),
        {"judged.verdict-entry"},
    )
    yield (
        "another root on the chain",
        anchor(root=bytes(32)),
        {
            "anchored.anchor-tree",
            "anchored.anchor-signature",
            "anchored.event",
        },
    )
    yield "another seq", anchor(seq=2), {"anchored.anchor-signature", "anchored.event"}
    yield "another time span", anchor(end=5), {"anchored.anchor-signature", "anchored.event"}
    yield "another gateway", anchor(gateway=bytes(20)), {"anchored.anchor-signature"}
    yield "a broken chain signature", anchor(signature=bytes(65)), {"anchored.anchor-signature"}
    yield (
        "another chain",
        replace(proof, anchor=replace(proof.anchor, chain_id=1)),
        {
            "anchored.anchor-contract",
            "anchored.anchor-signature",
            "anchored.chain-id",
        },
    )
    yield (
        "another contract",
        replace(proof, anchor=replace(proof.anchor, contract=bytes(20))),
        {
            "anchored.anchor-contract",
            "anchored.anchor-signature",
            "anchored.event",
            "anchored.contract-head",
        },
    )
    yield (
        "another transaction",
        replace(proof, anchor=replace(proof.anchor, tx=bytes(32))),
        {"anchored.transaction"},
    )
    yield "another block", replace(proof, anchor=replace(proof.anchor, block=7)), {"anchored.block"}
    yield (
        "no transaction",
        replace(proof, anchor=replace(proof.anchor, tx=None, block=None)),
        {"anchored.transaction"},
    )
    yield (
        "a note of nobody",
        replace(proof, note=proof.note.replace("— alpha", "— beta")),
        {"logged.note-signature"},
    )
    yield "no note", replace(proof, note="nothing"), {"logged.note-signature"}
    yield (
        "a genesis entry at another place",
        replace(proof, genesis=replace(proof.genesis, index=1)),
        {"logged.genesis-entry", "logged.genesis-in-tree"},
    )
    yield (
        "another genesis entry",
        replace(proof, genesis=replace(proof.genesis, entry=proof.genesis.entry.replace(b"bg1", b"bg2"))),
        {"logged.log-id", "logged.note-signature", "logged.note-origin", "logged.genesis-in-tree"},
    )


def test_a_lie_is_named_and_nothing_else(worlds):
    sample = worlds.sample()
    chain = worlds.RecordedChain(sample.world)
    for name, proof, failing in lies(sample):
        report = check(proof, chain=chain)
        assert set(report.failed()) == failing, name
        assert report[INTACT].state is State.YES, name
        answers = {check.partition(".")[0] for check in failing}
        for answer in report.answers:
            assert answer.refuted == (answer.name in answers), f"{name}: {answer}"


# keys that come and go


def test_a_message_after_the_end_of_its_key_is_not_device_signed(worlds):
    sample = worlds.sample()
    world = sample.world
    revoked = world.revoke(sample.north)
    late = world.send(sample.north, worlds.readings(7), time=worlds.START + 900)
    report = check(world.proof(late, node=sample.enrolled_north, events=[revoked]))
    assert report.failed()[0] == "device-signed.key-in-force"
    assert f"ended at entry {revoked}" in report[DEVICE_SIGNED].reason
    early = check(world.proof(sample.message, node=sample.enrolled_north, events=[revoked]))
    assert early[DEVICE_SIGNED].state is State.YES
    assert early[FLAGGED].state is State.YES
    assert f"revoked at entry {revoked}" in early[FLAGGED].reason


def test_a_rotated_key_needs_the_key_before_it(worlds):
    sample = worlds.sample()
    world = sample.world
    replacement = worlds.Device("north", worlds.secret("north 2"), boot=2)
    rotated = world.enrol(replacement, NodeEvent.ROTATE)
    message = world.send(replacement, worlds.readings(7), time=worlds.START + 900)
    whole = check(world.proof(message, node=rotated, events=[sample.enrolled_north]))
    assert whole[DEVICE_SIGNED].state is State.YES
    without = check(world.proof(message, node=rotated))
    assert without.failed()[:1] == ("device-signed.key-in-force",)
    old = world.send(sample.north, worlds.readings(8), time=worlds.START + 901)
    report = check(world.proof(old, node=sample.enrolled_north, events=[rotated]))
    assert f"ended at entry {rotated}" in report[DEVICE_SIGNED].reason


def test_a_cloned_key_is_flagged(worlds):
    sample = worlds.sample()
    world = sample.world
    again = worlds.Device("north", sample.north.key)
    twin = world.send(again, worlds.readings(50), time=worlds.START)
    clone = world.clone(sample.north, sample.message, twin)
    report = check(world.proof(sample.message, node=sample.enrolled_north, events=[clone]))
    assert report[DEVICE_SIGNED].state is State.YES
    assert report[FLAGGED].state is State.YES
    assert f"entry {sample.message} among them" in report[FLAGGED].reason


def test_an_event_that_is_not_in_the_log_is_named(proof, sample):
    event = sample.world.proven(sample.enrolled_south, proof.size)
    moved = replace(event, entry=encode_entry(replace(decode_entry(event.entry), owner=bytes(20))))
    report = check(replace(proof, events=(event, moved)))
    assert report.failed() == ("device-signed.event-1",)
    wrong = sample.world.proven(sample.message, proof.size)
    assert check(replace(proof, events=(wrong,))).failed() == ("device-signed.event-0",)


def test_flags_of_the_contract_count_where_they_cover(proof, chain):
    chain.flagged = (FlaggedRange(0, 3, "early"), FlaggedRange(4, 9, "late"))
    assert check(proof, chain=chain)[FLAGGED].state is State.NO
    chain.flagged = (FlaggedRange(3, 4, "the pump was broken"),)
    report = check(proof, chain=chain)
    assert report[FLAGGED].state is State.YES
    assert "the pump was broken" in report[FLAGGED].reason
    assert report.exit_code(PROOF_ANSWERS) == 8


def test_a_suspect_reading_is_judged_with_its_reasons(sample):
    report = check(
        sample.world.proof(sample.verdict + 1, node=sample.enrolled_north, verdict=sample.verdict + 2)
    )
    assert report[JUDGED].state is State.YES
    assert "score 0.05, flags spike" in report[JUDGED].reason


def test_entries_of_other_kinds_are_logged_and_not_device_signed(sample):
    artefact = sample.world.artefact("dataset", bytes(32))
    report = check(sample.world.proof(artefact))
    assert report[LOGGED].state is State.YES
    assert report[DEVICE_SIGNED].state is State.NO
    assert report.facts["artefact"]["what"] == "dataset"


# every byte


EXPECTED = {
    "format": {"intact.format"},
    "logId": {"intact.digest", "logged.log-id", "anchored.anchor-signature"},
    "chainId": {"anchored.anchor-contract", "anchored.anchor-signature", "anchored.chain-id"},
    "contract": {
        "anchored.anchor-contract",
        "anchored.anchor-signature",
        "anchored.event",
        "anchored.contract-head",
    },
    "entry": {"logged.entry-in-tree"},
    "index": {"logged.entry-in-tree"},
    "size": {"logged.note-size"},
    "path": {"logged.entry-in-tree"},
    "checkpoint": {"anchored.anchor-signature"},
    "note": {"logged.note-signature"},
    "genesis": {"logged.genesis-in-tree"},
    "node": {"device-signed.enrolment-in-tree"},
    "events": {"device-signed.event-0"},
    "verdict": {"judged.verdict-in-tree"},
    "tx": {"anchored.transaction"},
    "block": {"anchored.block"},
    "digest": set(),
}
"""For each member: what a change of its value must at least name besides the digest (or the format)."""
WHOLE = {"device-signed", "logged", "judged", "anchored", "flagged"}
TOUCHES = {
    "logId": {"logged", "anchored"},
    "chainId": {"anchored"},
    "contract": {"anchored", "flagged"},
    "entry": {"logged", "device-signed", "judged", "flagged"},
    "index": {"logged", "device-signed", "judged", "flagged"},
    "size": {"logged"},
    "path": {"logged"},
    "checkpoint": {"anchored"},
    "note": {"logged", "device-signed", "judged", "anchored"},
    "genesis": {"logged", "device-signed", "anchored"},
    "node": {"device-signed", "flagged"},
    "events": {"device-signed", "flagged"},
    "verdict": {"judged"},
    "tx": {"anchored"},
    "block": {"anchored"},
    "digest": set(),
}
"""For each member: the answers that may be affected when only its value changes."""


def member_at(data, offset):
    """The top-level member to which a byte of a canonical file belongs, None for the braces."""
    found = None
    position = 0
    for line in data.split(b"\n"):
        match = re.match(rb'  "(\w+)":', line)
        if match:
            found = match[1].decode()
        if offset <= position + len(line):
            return None if line in (b"{", b"}", b"") else found
        position += len(line) + 1
    return found


def assert_named(data, changed, offset, chain):
    report = check_proof(changed, chain=chain)
    failed = set(report.failed())
    assert failed & {"intact.digest", "intact.format"}, f"byte {offset} is not protected"
    assert report.exit_code(PROOF_ANSWERS) == 3
    if "intact.format" in failed:
        return
    member = member_at(data, offset)
    assert json.loads(data)[member] != json.loads(changed)[member]
    assert EXPECTED[member] <= failed, f"byte {offset} of {member}: {failed}"
    other = {answer.name for answer in report.answers if answer.refuted} - TOUCHES[member] - {INTACT}
    assert not other, f"byte {offset} of {member} is blamed on {other}"


@functools.cache
def example(worlds):
    sample = worlds.sample()
    moved = sample.world.append(
        NodeEntry(sample.world.now, NodeEvent.MOVE, "north", "air", sample.north.public_key, None, "wx4g1")
    )
    proof = sample.world.proof(
        sample.message, node=sample.enrolled_north, verdict=sample.verdict, events=[moved]
    )
    return format_proof(proof), worlds.RecordedChain(sample.world)


def test_no_byte_of_a_proof_can_change_unnoticed(worlds):
    data, chain = example(worlds)
    assert states(check_proof(data, chain=chain)) == ALL_HOLD
    for offset in range(len(data)):
        changed = bytearray(data)
        changed[offset] ^= 0x01 if offset % 2 else 0x20
        assert_named(data, bytes(changed), offset, chain)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_byte_may_take_any_other_value(worlds, data):
    original, chain = example(worlds)
    offset = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != original[offset]))
    changed = original[:offset] + bytes([value]) + original[offset + 1 :]
    assert_named(original, changed, offset, chain)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_part_can_be_missing_or_added(worlds, data):
    original, chain = example(worlds)
    start = data.draw(st.integers(0, len(original)))
    stop = data.draw(st.integers(start, len(original)))
    inserted = data.draw(st.binary(max_size=4))
    changed = original[:start] + inserted + original[stop:]
    if changed != original:
        assert check_proof(changed, chain=chain).exit_code(PROOF_ANSWERS) == 3


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data):
    assert check_proof(data).exit_code(PROOF_ANSWERS) == 3


CBOR = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 9), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.binary(max_size=80) | st.builds(
    lambda kind, rest: cbor2.dumps([kind, *rest]), st.integers(0, 6), st.lists(CBOR, max_size=9)
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_entries_in_a_whole_file_are_answered(worlds, data):
    original, chain = example(worlds)
    proof = parse_proof(original)
    part = data.draw(st.sampled_from(["entry", "genesis", "node", "verdict", "events"]))
    entry = Proven(data.draw(ENTRIES), data.draw(st.integers(0, 20)), proof.entry.path)
    changed = replace(proof, **{part: (entry,) if part == "events" else entry})
    assert check(changed, chain=chain).exit_code(PROOF_ANSWERS) != 0


def test_another_kind_of_entry_is_named_in_words(sample):
    world = sample.world
    reasons = {
        index: check(world.proof(index))[DEVICE_SIGNED].reason
        for index in (0, sample.enrolled_north, sample.verdict)
    }
    assert reasons[0].startswith("the entry is no message but a genesis entry")
    assert reasons[sample.enrolled_north].startswith("the entry is no message but a node entry")
    assert reasons[sample.verdict] == "the entry is no message but a verdict: no device signs those"
    true = world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)
    swapped = check(replace(true, node=true.verdict, verdict=true.node))
    assert "the node entry is a verdict" in swapped[DEVICE_SIGNED].reason
    assert "the verdict entry is a node entry" in swapped[JUDGED].reason


def test_a_value_of_single_precision_is_shown_with_the_channels_decimals(worlds):
    sample = worlds.sample()
    device = worlds.Device("north", sample.north.key, boot=9, seq=50)
    single = struct.unpack("f", struct.pack("f", 11.3))[0]
    index = sample.world.send(device, [("pm2_5", single, 0), ("illuminance", 1200.0, 0)], time=1_700_000_000)
    report = check(sample.world.proof(index, node=sample.enrolled_north))
    assert report.facts["readings"][0]["value"] == single != 11.3
    text = render(report)
    assert "pm2_5            11.3 µg/m³\n" in text
    assert "illuminance      1,200 lx\n" in text
