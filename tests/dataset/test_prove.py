"""Proofs made from a log, and how the tree to prove against is chosen."""

import pytest

from sensorhub.dataset.errors import DatasetError
from sensorhub.dataset.heads import SignedHead
from sensorhub.dataset.prove import newest_verdict, prove, tlog_proof
from sensorhub.log.entries import NodeEvent
from sensorhub.verify.check import check_proof
from sensorhub.verify.proof import format_proof, parse_proof


def heads(world, *sizes):
    return [
        SignedHead(size, world.note(size), world.anchors.get(size) or world.anchor(size)) for size in sizes
    ]


def test_a_proof_holds_what_a_proof_by_hand_holds(sample):
    world = sample.world
    proof = prove(world, sample.message, heads=heads(world, world.size()))
    assert proof == world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)
    assert parse_proof(format_proof(proof)) == proof


def test_every_message_of_a_log_can_be_proven(sample, worlds):
    world = sample.world
    chain = worlds.RecordedChain(world)
    found = heads(world, world.size())
    for index in range(world.size()):
        report = check_proof(format_proof(prove(world, index, heads=found)), chain=chain)
        assert report["logged"].holds
        assert report["anchored"].holds
        is_message = index in (sample.message, sample.clockless, sample.synced, *range(6, 10), 11, 13)
        assert report["device-signed"].holds == is_message
        assert report["judged"].holds == (is_message and index != sample.unjudged)


def test_the_newest_anchored_tree_that_covers_the_entry_is_taken(sample):
    world = sample.world
    found = heads(world, 5, 11, 12)
    assert prove(world, sample.message, heads=found).size == 12
    assert prove(world, 11, heads=found).size == 12
    beyond = prove(world, 12, heads=found)
    assert (beyond.size, beyond.anchor) == (world.size(), None)
    assert prove(world, sample.message).anchor is None


def test_an_entry_that_nothing_signed_covers_yet_says_so(sample, monkeypatch):
    world = sample.world
    monkeypatch.setattr(type(world), "checkpoint", lambda self: self.note(5))
    with pytest.raises(DatasetError, match="newer than the newest signed checkpoint"):
        prove(world, 7)
    monkeypatch.setattr(type(world), "checkpoint", lambda self: None)
    with pytest.raises(DatasetError, match="no signed checkpoint yet"):
        prove(world, 7)
    with pytest.raises(DatasetError, match="there is no entry 99"):
        prove(world, 99)


def test_the_newest_verdict_within_the_tree_is_taken(sample):
    world = sample.world
    size = world.size()
    again = world.judge(sample.message, scores=(100, 4), rules="rules/2")
    assert newest_verdict(world, sample.message, size) == sample.verdict
    assert newest_verdict(world, sample.message, world.size()) == again
    assert newest_verdict(world, sample.unjudged, world.size()) is None
    report = check_proof(format_proof(prove(world, sample.message)))
    assert "rules/2: score 0.39, flags stuck" in report["judged"].reason


def test_everything_about_the_node_goes_along(sample, worlds):
    world = sample.world
    replacement = worlds.Device("north", worlds.secret("north 2"), boot=2)
    rotated = world.enrol(replacement, NodeEvent.ROTATE)
    message = world.send(replacement, worlds.readings(7), time=worlds.START + 900)
    revoked = world.revoke(replacement)
    for indices in (None, [sample.enrolled_north, sample.enrolled_south, rotated, revoked, 10**6]):
        proof = prove(world, message, node_entries=indices)
        assert proof.node.index == rotated
        assert [event.index for event in proof.events] == [sample.enrolled_north, revoked]
        report = check_proof(format_proof(proof))
        assert report["device-signed"].holds
        assert str(report["flagged"].state) == "yes"


def test_a_message_of_nobody_has_no_enrolment(sample, worlds):
    stranger = worlds.Device("north", worlds.secret("stranger"))
    index = sample.world.send(stranger, worlds.readings(1), time=worlds.START)
    proof = prove(sample.world, index)
    assert proof.node is None
    assert check_proof(format_proof(proof)).failed()[0] == "device-signed.key-enrolled"


def test_the_tlog_proof_carries_the_entry(sample):
    proof = prove(sample.world, sample.message)
    text = tlog_proof(proof)
    assert (text.index, text.path, text.extra) == (proof.entry.index, proof.entry.path, proof.entry.entry)
    assert text.checkpoint == proof.note
