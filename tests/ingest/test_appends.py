"""What other processes append while the disk is full or fails: once, or not at all, and never unsaid."""

from __future__ import annotations

import os
import threading

import pytest
from ingest_parts import Gateway, Node, eventually

from sensorhub.errors import SensorhubError
from sensorhub.log import appender, journal
from sensorhub.log.appender import AppendError, LogClient
from sensorhub.log.entries import VerdictEntry, encode_entry
from sensorhub.log.errors import LogFullError


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While set, the journal takes nothing."""
    event = threading.Event()
    append = journal.SegmentWriter.append

    def limited(segment: journal.SegmentWriter, data: bytes) -> None:
        if event.is_set():
            raise LogFullError("no room")
        append(segment, data)

    monkeypatch.setattr(journal.SegmentWriter, "append", limited)
    return event


def verdict(message: int) -> bytes:
    return encode_entry(VerdictEntry(1, b"", "rules/1", ((message, ((255, 0),)),)))


def test_a_full_disk_refuses_at_once_and_appends_nothing_later(
    gateway: Gateway, enrolled: Node, full: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LogClient(gateway.data_dir / "run" / "log.sock", timeout=90) as client:
        full.set()
        for _ in range(3):
            with pytest.raises(AppendError, match="no room") as caught:
                client.append([verdict(0)])
            assert not caught.value.uncertain
        # now the writer itself waits for room, with a message in its hands
        enrolled.send()
        eventually(lambda: any("no room" in warning for warning in gateway.fields()["warnings"]))
        with monkeypatch.context() as patch:
            patch.setattr(appender, "_SHARE", 0.01)  # its time is over long before it gives up itself
            with pytest.raises(AppendError, match="nothing was appended") as caught:
                client.append([verdict(0)])
        assert not caught.value.uncertain
        full.clear()
        eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 1))
        assert client.append([verdict(1)]) == 3
    assert len(gateway.entries()) == 4


def test_a_failed_sync_ends_the_process_and_the_next_start_loses_nothing(
    gateway: Gateway, enrolled: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolled.send()
    eventually(lambda: enrolled.receipts and enrolled.receipts[-1] == (1, 1))
    real = os.fdatasync
    failures = []

    def fail_once(descriptor: int) -> None:
        if not failures and threading.current_thread().name == "commit":
            failures.append(descriptor)
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(journal.os, "fdatasync", fail_once)
    enrolled.send()
    assert gateway.thread is not None
    gateway.thread.join(90)
    assert not gateway.thread.is_alive()
    assert isinstance(gateway.failure, SensorhubError)
    assert "Input/output error" in str(gateway.failure)
    assert "next start" in str(gateway.failure)
    assert enrolled.receipts[-1] == (1, 1)
    gateway.failure = gateway.thread = gateway.ingest = None
    gateway.start()
    enrolled.send()
    eventually(lambda: enrolled.receipts[-1] == (1, 3))
    assert gateway.messages() == list(enrolled.sent.values())


def test_an_append_during_a_failed_sync_is_uncertain(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.start()
    with LogClient(gateway.data_dir / "run" / "log.sock") as client:
        assert client.append([verdict(0)]) == 1

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(journal.os, "fdatasync", fail)
            with pytest.raises(AppendError) as caught:
                client.append([verdict(0)])
            assert caught.value.uncertain
            assert gateway.thread is not None
            gateway.thread.join(90)
        assert isinstance(gateway.failure, SensorhubError)
        gateway.failure = gateway.thread = gateway.ingest = None
        # every whole record the disk holds counts, so now the log tells
        gateway.start()
        assert len(gateway.entries()) == 3
