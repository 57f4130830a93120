"""Killed, cut off or out of disk at any moment: no receipted message is lost, none is logged twice."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ingest_parts import Gateway, Node, Process, eventually, forget_session, signer

from sensorhub.ingest.broker import EmbeddedBroker
from sensorhub.log.entries import NodeEntry, encode_entry
from sensorhub.log.fsck import fsck
from sensorhub.log.log import Log

KILLS = 8


class Publisher:
    """A node that keeps sending and, like the firmware, sends again what was not receipted."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for _ in range(20):
                self.node.send()
            self._stop.wait(0.02)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def all_receipted(self) -> bool:
        """Whether the last message is; sends the unreceipted ones again, oldest first, when no receipt comes any more."""
        done = max((seq for _, seq in self.node.receipts), default=0)
        if done == self.node.seq:
            return True
        if done == self._done:
            for seq, raw in list(self.node.sent.items()):
                if seq > done:
                    self.node.send(raw)
        self._done = done
        time.sleep(0.5)
        return False


@pytest.mark.parametrize("seed", [1])
def test_sigkill_at_random_moments(gateway: Gateway, node: Node, seed: int) -> None:
    dice = random.Random(seed)
    process = Process(gateway)
    process.wait_connected()
    node.announce(gateway.claims.add(node.name))
    eventually(lambda: node.receipts)
    publisher = Publisher(node)
    for _ in range(KILLS):
        time.sleep(dice.uniform(0.0, 0.35))
        process.kill()
        process = Process(gateway)
        if dice.random() < 0.7:
            process.wait_connected()
    publisher.stop()
    process.wait_connected()
    eventually(publisher.all_receipted, seconds=240)
    process.end()
    messages = gateway.messages()
    assert len(messages) == len(set(messages))
    assert set(messages) == set(node.sent.values())
    assert fsck(gateway.data_dir / "log").ok


def test_a_snapshot_makes_no_difference(gateway: Gateway, enrolled: Node) -> None:
    for seq in (1, 2, 3, 5, 6, 9):
        enrolled.send(enrolled.message(seq=seq))
    enrolled.send(enrolled.message(30.0, seq=5))
    eventually(lambda: gateway.fields()["messages"] == 7)
    gateway.stop()
    state = gateway.data_dir / "ingest.state"
    seen = []
    for spoil in (
        None,
        lambda: state.unlink(),
        lambda: state.write_bytes(state.read_bytes()[:-9] + bytes(9)),
    ):
        if spoil is not None:
            spoil()
        gateway.start()
        fields = gateway.fields()
        seen.append(
            (
                fields["nodes"]["roof"]["seq"],
                fields["gaps"],
                fields["clones"],
                fields["nodes"]["roof"]["missing"],
            )
        )
        gateway.stop()
    assert seen == [(9, 2, 1, 3)] * 3


def test_receipts_go_on_after_a_sigkill_whatever_the_node_has_lost(gateway: Gateway, node: Node) -> None:
    process = Process(gateway)
    process.wait_connected()
    node.announce(gateway.claims.add(node.name))
    eventually(lambda: node.receipts)
    for _ in range(4):
        node.send()
    eventually(lambda: node.receipts[-1] == (1, 4))
    # refused for good, and a power cut that leaves the rest of the reserved numbers out
    stranger = Node("dike")
    stranger.seq, stranger.prev = node.seq, node.prev
    node.send(stranger.message())
    eventually(lambda: node.receipts[-1] == (1, 5))
    node.boot = 2
    node.send(node.message(seq=65))
    node.send()
    node.announce(oldest=65)
    eventually(lambda: node.receipts[-1] == (2, 66))
    for again in range(2):
        process.kill()
        (gateway.data_dir / "ingest.state").unlink(missing_ok=True)
        if again:
            (gateway.data_dir / "ingest.index").unlink()
        process = Process(gateway)
        process.wait_connected()
        done = node.seq
        node.receipts.clear()
        node.send()
        node.send()
        # without the node's word the gateway knows of the log only
        eventually(lambda: node.receipts and node.receipts[-1] == (1, 4))
        node.announce(oldest=done + 1)
        eventually(lambda: node.receipts[-1] == (2, node.seq))
    process.end()
    assert len(gateway.messages()) == 10
    assert [seq for seq in node.sent if node.sent[seq] not in gateway.messages()] == []


def test_an_index_that_does_not_fit_its_snapshot_is_made_anew(gateway: Gateway, enrolled: Node) -> None:
    for _ in range(400):
        enrolled.send()
    eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 400))
    gateway.stop()
    index = gateway.data_dir / "ingest.index"
    whole = index.read_bytes()
    for spoilt in (whole[:-8], b"", whole[:8] + bytes(32) + whole[40:], whole + bytes(800)):
        index.write_bytes(spoilt)
        gateway.start()
        enrolled.send(enrolled.sent[3])
        eventually(lambda: gateway.fields()["duplicates"] == 1)
        gateway.stop()
        assert index.read_bytes() == whole
    index.unlink()
    index.mkdir()
    gateway.start()
    enrolled.send(enrolled.sent[3])
    eventually(lambda: gateway.fields()["duplicates"] == 1)
    assert any("ingest.index" in warning for warning in gateway.fields()["warnings"])
    assert len(gateway.messages()) == 400


def test_a_clone_entry_that_a_crash_cut_off_is_made_up_for(gateway: Gateway, enrolled: Node) -> None:
    enrolled.send(enrolled.message(20.0))
    enrolled.send(enrolled.message(30.0, seq=1))
    eventually(lambda: gateway.fields()["clones"] == 1)
    gateway.stop()
    # the log as it would be had the power failed between the two records
    (gateway.data_dir / "ingest.state").unlink()
    entries = gateway.entries()
    shutil.rmtree(gateway.data_dir / "log")

    log = Log.open(gateway.data_dir / "log", origin="lab.gw1/sensorhub", signer=signer())
    log.append_many([encode_entry(entry) for entry in entries[:-1]])
    log.commit()
    log.close()
    gateway.start()
    assert gateway.fields()["clones"] == 1
    lost = entries[-1]
    assert isinstance(lost, NodeEntry)
    assert [entry.evidence for entry in gateway.node_entries("clone")] == [lost.evidence]


def test_the_broker_may_restart(tmp_path: Path, own_broker: EmbeddedBroker) -> None:
    gateway = Gateway(tmp_path / "data", own_broker)
    gateway.data_dir.mkdir()
    node = Node("roof")
    gateway.start()
    try:
        node.connect(own_broker)
        node.announce(gateway.claims.add(node.name))
        eventually(lambda: node.receipts)
        for _ in range(50):
            node.send()
        assert own_broker.pid is not None
        os.kill(own_broker.pid, 9)
        for _ in range(50):
            node.send()
        eventually(lambda: own_broker.restarts == 1)
        publisher = Publisher(node)
        publisher.stop()
        eventually(publisher.all_receipted, seconds=240)
        # in another order where the broker died with messages that it had acknowledged and not handed on
        assert sorted(gateway.messages()) == sorted(node.sent.values())
    finally:
        node.disconnect()
        gateway.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB, where the machine lets us mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_said_and_waited_out(
    small_disk: Path, shared_broker: EmbeddedBroker, node: Node
) -> None:
    gateway = Gateway(small_disk / "data", shared_broker)
    gateway.data_dir.mkdir()
    gateway.start()
    try:
        node.announce(gateway.claims.add(node.name))
        eventually(lambda: node.receipts)
        node.send()
        eventually(lambda: node.receipts[-1] == (1, 1))
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(65_536))
        for _ in range(3_000):
            node.send()
        assert gateway.ingest is not None
        ingest = gateway.ingest
        eventually(lambda: any("wait unacknowledged" in w for w in ingest.warnings()))
        stuck = node.receipts[-1]
        assert stuck[1] < 3_001
        ballast.unlink()
        eventually(lambda: node.receipts[-1] == (1, 3_001))
        assert not any("wait unacknowledged" in w for w in ingest.warnings())
        assert gateway.messages() == list(node.sent.values())
    finally:
        gateway.stop()
        forget_session(gateway)
