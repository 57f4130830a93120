"""Bad input is counted under its reason, kept in quarantine, acknowledged, and never stops the gateway."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ingest_parts import Gateway, Node, eventually, forget_session

from sensorhub import wire
from sensorhub.ingest.broker import EmbeddedBroker
from sensorhub.ingest.checker import Checker, Rejected
from sensorhub.ingest.packets import Publish
from sensorhub.ingest.quarantine import read as read_quarantine
from sensorhub.log.appender import LogClient
from sensorhub.log.entries import NodeEntry, encode_entry
from sensorhub.nodes.registry import Registry

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "invalid.json").read_text())
FLOOD = 5_000


def expected(raw: bytes, node: Node) -> str | None:
    """The reason of a data message by the pure decoder, or None when it is good."""
    keys = {node.kid: node.public_key}
    try:
        wire.decode(raw, public_key=keys.get, site=node.site, node=node.name, now=time.time())
    except wire.WireError as error:
        return error.reason.value
    return None


def malformed(node: Node, count: int) -> list[tuple[bytes, str]]:
    """Messages of every reason: vectors, messages of a wrong clock or stranger, and mutations of good ones."""
    found = [(raw, reason) for raw, reason in vectors("data") if expected(raw, node) == reason]
    good = node.message()
    stranger = Node(node.name, number=9, site=node.site)
    mismatch = Node("elsewhere", number=1, site=node.site)
    found += [
        (bytes(4097), "too-large"),
        (b"\xff" + good, "not-cbor"),
        (b"\x80", "not-cose"),
        (stranger.message(), "unknown-kid"),
        (mismatch.message(), "name-mismatch"),
        (node.message(base_time=int(time.time()) + 7200), "future"),
    ]
    dice = random.Random(1)
    while len(found) < count:
        raw = bytearray(good)
        for _ in range(dice.choice((1, 1, 1, 3))):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        if dice.random() < 0.2:
            raw = raw[: dice.randrange(len(raw))]
        reason = expected(bytes(raw), node)
        if reason is not None:
            found.append((bytes(raw), reason))
    dice.shuffle(found)
    return found


def vectors(leaf: str) -> list[tuple[bytes, str]]:
    return [(bytes.fromhex(v["message"]), v["reason"]) for v in VECTORS["vectors"] if v["leaf"] == leaf]


@pytest.fixture
def gateway(tmp_path: Path, shared_broker: EmbeddedBroker) -> Any:
    made = Gateway(tmp_path / "data", shared_broker, site=VECTORS["site"])
    made.data_dir.mkdir()
    yield made
    made.stop()
    forget_session(made)


def enrol(gateway: Gateway, node: str, public_keys: list[bytes]) -> None:
    with LogClient(gateway.data_dir / "run" / "log.sock") as client:
        for position, key in enumerate(public_keys):
            event = "rotate" if position else "enrol"
            client.append([encode_entry(NodeEntry(1, event, node, "test", key))])


def test_five_thousand_malformed_messages_are_counted_while_good_ones_pass(
    gateway: Gateway, shared_broker: EmbeddedBroker
) -> None:
    gateway.start(quarantine_bytes=500_000)
    node = Node("mill", number=1, site=gateway.site)
    enrol(gateway, node.name, [node.public_key])
    node.connect(shared_broker)
    try:
        bad = malformed(node, FLOOD)
        node.seq, node.prev = 0, bytes(32)
        good = []
        for position, (raw, _) in enumerate(bad):
            node.publish("data", raw)
            if position % 100 == 0:
                good.append(node.send())
        eventually(lambda: node.receipts and node.receipts[-1] == (1, len(good)), seconds=240)
        eventually(lambda: sum(gateway.fields()["rejected"].values()) == FLOOD)
        assert gateway.fields()["messages"] == len(good)
        counted = Counter(reason for _, reason in bad)
        assert gateway.fields()["rejected"] == dict(counted)
        assert {"too-large", "not-cbor", "not-cose", "unknown-kid", "bad-signature", "future"} <= set(counted)
        assert gateway.messages() == good
    finally:
        node.disconnect()
    # they are counted before they are kept
    kept_last = lambda: list(read_quarantine(gateway.data_dir / "quarantine"))[-1]  # noqa: E731
    eventually(lambda: (kept_last().payload, kept_last().reason) == bad[-1])
    kept = sum(file.stat().st_size for file in (gateway.data_dir / "quarantine").iterdir())
    assert 200_000 < kept <= 500_000
    gateway.stop()
    gateway.start()
    assert gateway.fields()["rejected"] == {}, "everything was acknowledged, so nothing comes again"


def test_every_vector_is_refused_with_its_reason(gateway: Gateway, shared_broker: EmbeddedBroker) -> None:
    gateway.start()
    keys = [bytes.fromhex(key) for key in VECTORS["keys"]]
    enrol(gateway, VECTORS["node"], keys)
    node = Node(VECTORS["node"], site=gateway.site)
    node.connect(shared_broker)
    try:
        # what is in the future at the time of the vectors no longer is
        cases = [case for leaf in ("data", "announce") for case in vectors(leaf) if case[1] != "future"]
        for leaf in ("data", "announce"):
            for raw, reason in vectors(leaf):
                if reason != "future":
                    node.publish(leaf, raw)
        eventually(lambda: sum(gateway.fields()["rejected"].values()) == len(cases))
        assert gateway.fields()["rejected"] == dict(Counter(reason for _, reason in cases))
    finally:
        node.disconnect()
    assert gateway.messages() == []


def test_a_message_by_another_nodes_topic_is_a_name_mismatch(
    gateway: Gateway, shared_broker: EmbeddedBroker
) -> None:
    gateway.start()
    mill, dike = Node("mill", number=1, site=gateway.site), Node("dike", number=2, site=gateway.site)
    enrol(gateway, "mill", [mill.public_key])
    enrol(gateway, "dike", [dike.public_key])
    dike.connect(shared_broker)
    try:
        dike.send(mill.message())
        # dike's key, but the name of the topic it is not enrolled for
        pretender = Node("mill", number=2, site=gateway.site)
        mill.connect(shared_broker)
        mill.publish("data", pretender.message())
        eventually(lambda: gateway.fields()["rejected"] == {"name-mismatch": 2})
    finally:
        dike.disconnect()
        mill.disconnect()


def test_a_message_the_node_signed_but_nobody_will_ever_take_does_not_block_its_spool(
    gateway: Gateway, shared_broker: EmbeddedBroker
) -> None:
    gateway.start()
    node = Node("mill", number=1, site=gateway.site)
    enrol(gateway, "mill", [node.public_key])
    node.connect(shared_broker)
    try:
        node.send()
        odd = Node("dike", number=1, site=gateway.site)
        odd.seq, odd.prev = node.seq, node.prev
        node.send(odd.message())
        node.seq, node.prev = odd.seq, odd.prev
        node.send()
        eventually(lambda: node.receipts and node.receipts[-1] == (1, 3))
        assert gateway.fields()["rejected"] == {"name-mismatch": 1}
        assert gateway.fields()["messages"] == 2
    finally:
        node.disconnect()


def test_too_large_comes_before_a_topic_that_names_no_node() -> None:
    checker = Checker("lab", Registry(), future_tolerance=60, threads=1)
    for topic in (
        b"sensorhub/v1/lab/BAD/data",
        b"sensorhub/v1/other/roof/data",
        b"sensorhub/v1/lab/roof/data",
    ):
        large = checker.check(Publish(topic, bytes(4097), 1, 2), 0)
        assert isinstance(large, Rejected)
        assert large.reason is wire.Reason.TOO_LARGE
    small = checker.check(Publish(b"sensorhub/v1/lab/BAD/data", b"x", 1, 2), 0)
    assert isinstance(small, Rejected)
    assert small.reason is wire.Reason.NAME_MISMATCH
