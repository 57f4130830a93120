"""The registry is what the log's node entries say, and nothing an entry cannot truly say changes it."""

from __future__ import annotations

from pathlib import Path

import cbor2
import pytest

from sensorhub import wire
from sensorhub.log.entries import Genesis, NodeEntry, encode_entry
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.nodes.registry import Registry

FIRST, SECOND, THIRD = (bytes([n]) * 64 for n in (1, 2, 3))
OWNER = b"\x0a" * 20


def entry(event: str, node: str = "roof", key: bytes = FIRST, **fields: object) -> NodeEntry:
    return NodeEntry(1, event, node, "weather", key, **fields)  # type: ignore[arg-type]


def registry(*entries: NodeEntry) -> Registry:
    made = Registry()
    for index, each in enumerate(entries, 1):
        made.apply(index, each)
    return made


def test_enrolment_makes_a_key_known() -> None:
    made = registry(entry("enrol", owner=OWNER, geohash="u33db"))
    key = made.key(wire.kid(FIRST))
    assert key is not None
    assert (key.node, key.kind, key.owner, key.geohash, key.enrolled_index, key.revoked_index) == (
        "roof", "weather", OWNER, "u33db", 1, None,
    )  # fmt: skip
    assert made.public_key(wire.kid(FIRST)) == FIRST
    assert made.current("roof") == key
    assert made.public_key(b"unknown!") is None


def test_rotation_replaces_the_key_and_keeps_owner_and_place() -> None:
    made = registry(entry("enrol", owner=OWNER, geohash="u33db"), entry("rotate", key=SECOND))
    old, new = made.key(wire.kid(FIRST)), made.key(wire.kid(SECOND))
    assert old is not None
    assert new is not None
    assert old.revoked_index == 2
    assert made.public_key(wire.kid(FIRST)) is None
    assert (new.owner, new.geohash, new.enrolled_index) == (OWNER, "u33db", 2)
    node = made.node("roof")
    assert node is not None
    assert node.kids == [old.kid, new.kid]


def test_a_revoked_node_may_be_enrolled_anew_with_another_key_only() -> None:
    made = registry(entry("enrol"), entry("revoke"))
    assert made.current("roof") is None
    assert "already enrolled" in (made.refusal(entry("enrol")) or "")
    assert made.apply(3, entry("enrol", key=SECOND))
    assert made.public_key(wire.kid(SECOND)) == SECOND


def test_moving_changes_place_and_owner() -> None:
    made = registry(entry("enrol", geohash="u33db"), entry("move", geohash="wx4g0", owner=OWNER))
    key = made.current("roof")
    assert key is not None
    assert (key.geohash, key.owner) == ("wx4g0", OWNER)


def test_clones_are_remembered_with_their_evidence() -> None:
    made = registry(entry("enrol"), entry("clone", evidence=cbor2.dumps([5, 9])))
    node = made.node("roof")
    assert node is not None
    assert node.clones == [(5, 9)]


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (entry("enrol", key=SECOND), "replace its key with a rotation"),
        (entry("enrol", node="cellar"), "already enrolled for node 'roof'"),
        (entry("rotate", node="cellar", key=SECOND), "not enrolled"),
        (entry("rotate"), "already enrolled"),
        (entry("revoke", key=SECOND), "not one of node"),
        (entry("revoke", node="cellar"), "not enrolled"),
        (entry("move", node="cellar"), "not enrolled"),
        (entry("clone", key=SECOND), "not one of node"),
        (entry("clone", evidence=b"\x82\x01"), "names two entries"),
        (entry("clone", evidence=cbor2.dumps([1, 2, 3])), "names two entries"),
        (entry("clone", evidence=cbor2.dumps([1, 2**63])), "names two entries"),
        (entry("enrol", node="cellar", key=b"short"), "5 bytes"),
        (entry("paint"), "not one of enrol"),
    ],
)
def test_entries_that_cannot_be_true_change_nothing(refused: NodeEntry, why: str) -> None:
    made = registry(entry("enrol"))
    version = made.version
    assert why in (made.refusal(refused) or "")
    assert not made.apply(2, refused)
    assert (made.version, made.indices) == (version, [1])
    assert made.public_key(wire.kid(FIRST)) == FIRST


def test_replaying_a_log_gives_the_same_registry(tmp_path: Path) -> None:
    signer = NoteSigner("lab.gw/sensorhub", bytes(32))
    log = Log.open(tmp_path / "log", origin="lab.gw/sensorhub", signer=signer)
    log.append(encode_entry(Genesis("lab", "gw", signer.public_key)))
    entries = [
        entry("enrol"),
        entry("enrol", "cellar", SECOND),
        entry("rotate", key=THIRD),
        entry("revoke", "cellar", SECOND),
    ]
    for each in entries:
        log.append(encode_entry(each))
    log.commit()
    log.close()
    with LogReader(tmp_path / "log") as reader:
        assert list(Registry.replay(reader).keys()) == list(registry(*entries).keys())
        early = Registry.replay(reader, upto=3)
        assert early.public_key(wire.kid(FIRST)) == FIRST
