"""Proofs made from a log, and how the tree to prove against is chosen."""

import pytest

from sensorhub.dataset.errors import DatasetError
from sensorhub.dataset.heads import SignedHead
from sensorhub.dataset.prove import newest_verdict, prove, tlog_proof
from sensorhub.log.entries import REVIEW, NodeEvent
from sensorhub.store import SqliteStore
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


def test_a_persons_verdict_is_not_overruled_by_a_later_judge(sample):
    world = sample.world
    said = world.judge(sample.message, scores=(255, 0), rules=REVIEW)
    before = world.size()
    world.judge(sample.message, scores=(100, 4), rules="rules/2")
    assert newest_verdict(world, sample.message, world.size()) == said
    assert newest_verdict(world, sample.message, before) == said
    again = world.judge(sample.message, scores=(0, 4), rules=REVIEW)
    assert newest_verdict(world, sample.message, world.size()) == again


def test_everything_about_the_node_goes_along(sample, worlds, tmp_path):
    world = sample.world
    replacement = worlds.Device("north", worlds.secret("north 2"), boot=2)
    rotated = world.enrol(replacement, NodeEvent.ROTATE)
    message = world.send(replacement, worlds.readings(7), time=worlds.START + 900)
    revoked = world.revoke(replacement)
    with store_of(world, tmp_path) as store:
        proofs = [prove(world, message), prove(world, message, known=store)]
    for proof in proofs:
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


def store_of(world, path, *, upto=None):
    store = SqliteStore(path / "store.sqlite", raw_days=0, five_minute_days=0)
    store.apply([(index, world.entry(index)) for index in range(upto or world.size())])
    return store


class Counting:
    """A log that counts the entries read in a row."""

    def __init__(self, world):
        self.world, self.read = world, 0

    def __getattr__(self, name):
        return getattr(self.world, name)

    def entries(self, start, stop=None):
        for entry in self.world.entries(start, stop):
            self.read += 1
            yield entry


def test_a_store_saves_reading_the_log_and_changes_no_proof(sample, tmp_path):
    world = sample.world
    found = heads(world, 12, world.size())
    for upto in range(1, world.size() + 1):
        with store_of(world, tmp_path / str(upto), upto=upto) as store:
            for index in range(world.size()):
                log = Counting(world)
                assert prove(log, index, heads=found, known=store) == prove(world, index, heads=found)
                if upto == world.size() and index == sample.message:
                    assert log.read == 0


def test_a_newer_verdict_than_the_tree_has_is_not_taken_from_the_store(sample, tmp_path):
    world = sample.world
    size = world.size()
    found = heads(world, size)
    world.judge(sample.message, scores=(100, 4), rules="rules/2")
    with store_of(world, tmp_path) as store:
        assert prove(world, sample.message, heads=found, known=store).verdict.index == sample.verdict


def test_a_store_of_another_log_is_not_asked(sample, worlds, tmp_path):
    other = worlds.World(None)
    with store_of(other, tmp_path) as store:
        assert prove(sample.world, sample.message, known=store) == prove(sample.world, sample.message)
