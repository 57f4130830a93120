"""Enrolment, receipts, duplicates, clones, gaps: what the gateway does with what nodes send."""

from __future__ import annotations

import threading
import time

import cbor2
import msgspec
import pytest
from ingest_parts import SITE, Gateway, Node, eventually, signer

from sensorhub import wire
from sensorhub.errors import SensorhubError
from sensorhub.ingest.broker import EmbeddedBroker
from sensorhub.ingest.quarantine import read as read_quarantine
from sensorhub.ingest.service import Ingest
from sensorhub.log.appender import AppendError, LogClient
from sensorhub.log.entries import ArtefactEntry, Genesis, MessageEntry, NodeEntry, encode_entry


def rejected(gateway: Gateway) -> dict[str, int]:
    found: dict[str, int] = gateway.fields()["rejected"]
    return found


def test_a_new_log_begins_with_a_genesis_entry(gateway: Gateway) -> None:
    gateway.start(chain_id=31337, contract=bytes(20))
    (genesis,) = gateway.entries()
    assert genesis == Genesis(SITE, "gw1", signer().public_key, 31337, bytes(20))


def test_a_claim_enrols_a_node_once(gateway: Gateway, node: Node) -> None:
    gateway.start()
    claim = gateway.claims.add(node.name, "weather", owner=b"\x07" * 20, geohash="u33db")
    node.announce(claim)
    eventually(lambda: node.receipts == [(0, 0)])
    (entry,) = gateway.node_entries("enrol")
    assert (entry.node, entry.kind, entry.owner, entry.geohash) == ("roof", "weather", b"\x07" * 20, "u33db")
    assert entry.public_key == node.public_key
    assert cbor2.loads(cbor2.loads(entry.evidence).value[2])[6] == claim
    eventually(lambda: gateway.claims.waiting() == ())


def test_without_a_claim_a_node_is_refused_and_quarantined(gateway: Gateway, node: Node) -> None:
    gateway.start()
    node.announce()
    node.announce(bytes(16))
    eventually(lambda: rejected(gateway) == {"unknown-kid": 2})
    assert gateway.node_entries("enrol") == []
    # they are counted before they are kept
    eventually(lambda: len(list(read_quarantine(gateway.data_dir / "quarantine"))) == 2)
    kept = list(read_quarantine(gateway.data_dir / "quarantine"))
    assert [refused.payload for refused in kept] == [node.announcement(), node.announcement(bytes(16))]
    assert "no valid claim" in kept[0].detail


def test_open_enrolment_takes_a_node_without_a_claim(gateway: Gateway, node: Node) -> None:
    gateway.start(open_enrolment=True)
    node.announce()
    eventually(lambda: node.receipts == [(0, 0)])


def test_a_second_key_needs_a_claim_and_then_replaces_the_first(gateway: Gateway, enrolled: Node) -> None:
    other = Node("roof", number=2)
    other.client = enrolled.client
    other.announce()
    eventually(lambda: rejected(gateway) == {"unknown-kid": 1})
    other.announce(gateway.claims.add("roof"))
    eventually(lambda: gateway.node_entries("rotate"))
    eventually(lambda: enrolled.receipts == [(0, 0)])
    enrolled.send()
    eventually(lambda: rejected(gateway) == {"unknown-kid": 2})
    other.send()
    eventually(lambda: (1, 1) in enrolled.receipts)
    assert gateway.messages() == [other.sent[1]]


def test_open_enrolment_does_not_let_a_second_key_take_a_name(gateway: Gateway, node: Node) -> None:
    gateway.start(open_enrolment=True)
    node.announce()
    eventually(lambda: node.receipts)
    thief = Node("roof", number=2)
    thief.client = node.client
    thief.announce()
    eventually(lambda: rejected(gateway) == {"unknown-kid": 1})
    assert len(gateway.node_entries("enrol")) == 1


def test_messages_are_logged_byte_for_byte_and_receipted(gateway: Gateway, enrolled: Node) -> None:
    for _ in range(20):
        enrolled.send()
    eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 20))
    assert gateway.messages() == list(enrolled.sent.values())
    fields = gateway.fields()
    assert (fields["messages"], fields["readings"], fields["gaps"]) == (20, 40, 0)
    assert fields["nodes"]["roof"]["seq"] == 20


def test_data_that_follows_its_announce_at_once_is_not_lost(gateway: Gateway, node: Node) -> None:
    gateway.start()
    node.publish("announce", node.announcement(gateway.claims.add(node.name)))
    for _ in range(5):
        node.send()
    eventually(lambda: node.receipts and node.receipts[-1] == (1, 5))
    assert rejected(gateway) == {}


def test_an_announce_is_answered_with_how_far_the_log_is(gateway: Gateway, enrolled: Node) -> None:
    for _ in range(3):
        enrolled.send()
    eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 3))
    enrolled.receipts.clear()
    enrolled.announce()
    eventually(lambda: enrolled.receipts == [(1, 3)])


def test_a_duplicate_is_receipted_counted_and_dropped(gateway: Gateway, enrolled: Node) -> None:
    raw = enrolled.send()
    eventually(lambda: enrolled.receipts == [(1, 1)])
    enrolled.send(raw)
    eventually(lambda: enrolled.receipts == [(1, 1), (1, 1)])
    assert gateway.messages() == [raw]
    assert gateway.fields()["duplicates"] == 1


def test_old_duplicates_are_found_in_the_log(gateway: Gateway, enrolled: Node) -> None:
    for _ in range(700):
        enrolled.send()
    eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 700))
    for seq in (1, 2, 300, 5):
        enrolled.send(enrolled.sent[seq])
    eventually(lambda: gateway.fields()["duplicates"] == 4)
    gateway.stop()
    gateway.start()
    for seq in (1, 699, 300):
        enrolled.send(enrolled.sent[seq])
    eventually(lambda: gateway.fields()["duplicates"] == 3)
    assert len(gateway.messages()) == 700


def test_a_reused_number_is_kept_and_shown_as_a_clone(gateway: Gateway, enrolled: Node) -> None:
    first = enrolled.send(enrolled.message(20.0))
    second = enrolled.send(enrolled.message(30.0, seq=1))
    eventually(lambda: gateway.fields()["clones"] == 1)
    enrolled.send(second)
    enrolled.send(first)
    eventually(lambda: gateway.fields()["duplicates"] == 2)
    assert gateway.messages() == [first, second]
    (entry,) = gateway.node_entries("clone")
    positions = [i for i, e in enumerate(gateway.entries()) if isinstance(e, MessageEntry)]
    assert cbor2.loads(entry.evidence) == positions
    assert any("roof" in w and "twice" in w for w in gateway.fields()["warnings"])


def test_an_old_number_reused_is_a_clone_too(gateway: Gateway, enrolled: Node) -> None:
    for _ in range(400):
        enrolled.send()
    forged = enrolled.send(enrolled.message(30.0, seq=3))
    eventually(lambda: gateway.fields()["clones"] == 1)
    gateway.stop()
    gateway.start()
    enrolled.send(forged)
    eventually(lambda: gateway.fields()["duplicates"] == 1)
    assert len(gateway.messages()) == 401
    assert gateway.fields()["clones"] == 1


def test_a_gap_is_stored_reported_and_holds_the_receipt(gateway: Gateway, enrolled: Node) -> None:
    messages = [enrolled.message() for _ in range(5)]
    for raw in (messages[0], messages[3], messages[4]):
        enrolled.send(raw)
    eventually(lambda: gateway.fields()["messages"] == 3)
    eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 1))
    fields = gateway.fields()
    assert fields["gaps"] == 1
    assert fields["nodes"]["roof"]["missing"] == 2
    enrolled.send(messages[1])
    enrolled.send(messages[2])
    eventually(lambda: enrolled.receipts[-1] == (1, 5))
    assert gateway.fields()["nodes"]["roof"]["missing"] == 0


def test_what_a_node_says_it_lost_is_not_waited_for(gateway: Gateway, enrolled: Node) -> None:
    messages = [enrolled.message() for _ in range(5)]
    for raw in (messages[0], messages[3], messages[4]):
        enrolled.send(raw)
    eventually(lambda: gateway.fields()["messages"] == 3)
    for raw in messages[3:]:
        enrolled.send(raw)
    eventually(lambda: gateway.fields()["duplicates"] == 2)
    enrolled.announce(oldest=3)
    eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 2))
    enrolled.announce(oldest=1)
    enrolled.announce(oldest=4)
    eventually(lambda: enrolled.receipts[-1] == (1, 5))
    assert gateway.fields()["nodes"]["roof"]["lost"] == 2
    assert gateway.fields()["nodes"]["roof"]["missing"] == 0
    enrolled.send(messages[2])
    eventually(lambda: len(gateway.messages()) == 4)
    assert [wire.parse_signed(raw).seq for raw in gateway.messages()] == [1, 4, 5, 3]


def test_no_repetition_makes_a_receipt_cover_what_is_not_logged(gateway: Gateway, enrolled: Node) -> None:
    enrolled.send()
    early = enrolled.message(base_time=int(time.time()) + 3_600)
    later = [enrolled.message() for _ in range(3)]
    for _ in range(3):
        for raw in (early, later[0], later[2]):
            enrolled.send(raw)
        enrolled.announce(oldest=2)
    eventually(lambda: gateway.fields()["duplicates"] == 4)
    enrolled.send(later[0])
    eventually(lambda: gateway.fields()["duplicates"] == 5 and enrolled.receipts)
    assert set(enrolled.receipts) == {(1, 1)}
    enrolled.announce(oldest=3)
    eventually(lambda: enrolled.receipts[-1] == (1, 3))
    enrolled.send(later[1])
    eventually(lambda: enrolled.receipts[-1] == (1, 5))


def test_an_announce_that_is_presented_again_changes_nothing(gateway: Gateway, enrolled: Node) -> None:
    old = enrolled.announcement(oldest=1)
    for _ in range(3):
        enrolled.send()
    enrolled.announce(oldest=3)
    eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 3))
    enrolled.send(enrolled.message(seq=6))
    enrolled.receipts.clear()
    for _ in range(3):
        enrolled.publish("announce", old)
    enrolled.announce(oldest=3)
    eventually(lambda: enrolled.receipts)
    enrolled.announce(oldest=6)
    eventually(lambda: enrolled.receipts[-1] == (1, 6))
    assert {seq for _, seq in enrolled.receipts} == {3, 6}


def test_more_gaps_than_are_remembered_cost_no_reading(gateway: Gateway, enrolled: Node) -> None:
    messages = [enrolled.message() for _ in range(600)]
    for raw in messages[1::2]:
        enrolled.send(raw)
    eventually(lambda: gateway.fields()["messages"] == 300 and enrolled.receipts)
    assert set(enrolled.receipts) == {(0, 0)}
    for raw in messages:
        enrolled.send(raw)
    eventually(lambda: enrolled.receipts[-1] == (1, 600))
    assert sorted(gateway.messages()) == sorted(messages)


def test_a_broken_link_is_a_gap(gateway: Gateway, enrolled: Node) -> None:
    enrolled.send()
    enrolled.prev = b"\x55" * 32
    enrolled.send()
    eventually(lambda: gateway.fields()["messages"] == 2)
    assert gateway.fields()["gaps"] == 1


def test_a_revoked_key_is_unknown(gateway: Gateway, enrolled: Node) -> None:
    enrolled.send()
    eventually(lambda: gateway.fields()["messages"] == 1)
    with LogClient(gateway.data_dir / "run" / "log.sock") as client:
        entry = NodeEntry(1, "revoke", "roof", "weather", enrolled.public_key)
        index = client.append([encode_entry(entry)])
        assert gateway.entries()[index] == entry
        with pytest.raises(AppendError, match="already revoked"):
            client.append([encode_entry(entry)])
    enrolled.send()
    enrolled.announce()
    eventually(lambda: rejected(gateway) == {"unknown-kid": 2})
    assert len(gateway.messages()) == 1


def test_other_processes_append_through_the_socket(gateway: Gateway) -> None:
    gateway.start()
    entries = [encode_entry(ArtefactEntry(1, "model", bytes([i]) * 32)) for i in range(3)]
    with LogClient(gateway.data_dir / "run" / "log.sock") as client:
        assert client.append(entries) == 1
        with pytest.raises(AppendError, match="kind"):
            client.append([encode_entry(MessageEntry(1, b"x"))])
    assert len(gateway.entries()) == 4


def test_status_names_nodes_and_rates(gateway: Gateway, enrolled: Node) -> None:
    enrolled.publish("status", msgspec.json.encode({"state": "online", "fw": "1.0", "boot": 1, "rssi": -60}))
    enrolled.send()
    eventually(lambda: gateway.fields()["nodes"]["roof"].get("rssi") == -60)

    def written() -> dict[str, object]:
        return dict(msgspec.json.decode((gateway.data_dir / "status" / "ingest.json").read_bytes()))

    # a rate is told from samples of every half second, so it may follow with the next status
    eventually(lambda: written()["messages"] == 1 and written()["rate_messages"] > 0)
    fields = written()
    assert fields["log_size"] == fields["cursor"] == 3
    assert fields["rate_messages"] > 0
    assert fields["nodes"]["roof"]["state"] == "online"


def test_a_log_of_another_site_is_refused(gateway: Gateway) -> None:
    gateway.start()
    gateway.stop()
    ingest = Ingest(
        data_dir=gateway.data_dir, site="other", gateway="gw1", signer=signer(), endpoint=gateway.endpoint()
    )
    with pytest.raises(SensorhubError, match="'lab'|origin|checkpoint"):
        ingest.run()


def test_a_missing_broker_is_waited_for(gateway: Gateway, enrolled: Node, own_broker: EmbeddedBroker) -> None:
    gateway.stop()
    gateway.broker = own_broker
    host, port = own_broker.host, own_broker.port
    own_broker.stop()
    thread = threading.Thread(target=gateway.start)
    thread.start()
    eventually(lambda: gateway.ingest and any("cannot reach" in w for w in gateway.ingest.warnings()))
    assert any(f"{host}:{port}" in w for w in gateway.fields()["warnings"])
    again = EmbeddedBroker(own_broker.users.path.parent.parent, port=port, kind="mosquitto")
    # the gateway keeps the password it was started with
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(again.users), "add", lambda *_: "")
        again.start()
    try:
        thread.join(120)
        assert not thread.is_alive()
        assert gateway.fields()["connected"]
    finally:
        gateway.stop()
        again.stop()
