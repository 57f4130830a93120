"""Appending from other processes."""

from __future__ import annotations

import concurrent.futures
import random
import socket
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time

import cbor2
import pytest

from sensorhub.log import appender
from sensorhub.log.appender import MAX_ENTRIES, MAX_REQUEST, REFUSED, AppendError, AppendServer, LogClient
from sensorhub.log.entries import ArtefactEntry, MessageEntry, VerdictEntry, encode_entry
from sensorhub.log.errors import LogError, LogFullError
from sensorhub.log.reader import LogReader


class Writer:
    """One thread that appends and commits what clients submit, as the ingest does between its messages."""

    def __init__(self, log) -> None:
        self.log = log
        self.executor = concurrent.futures.ThreadPoolExecutor(1)
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()
        self.futures: list[concurrent.futures.Future[int]] = []

    def submit(self, entries: list[bytes]) -> concurrent.futures.Future[int]:
        future = self.executor.submit(self.append, entries)
        self.futures.append(future)
        return future

    def begin(self, entries: list[bytes]) -> concurrent.futures.Future[int]:
        """As `submit`, once the writer has begun with them."""
        future = self.submit(entries)
        assert self.busy.wait(60)
        return future

    def append(self, entries: list[bytes]) -> int:
        self.busy.set()
        self.gate.wait()
        if self.failure:
            raise self.failure
        first = self.log.append_many(entries)
        self.log.commit()
        return first


@pytest.fixture
def writer(open_log):
    writer = Writer(open_log())
    yield writer
    writer.gate.set()
    writer.executor.shutdown()


@pytest.fixture
def server(tmp_path, writer):
    with AppendServer(tmp_path / "run" / "log.sock", writer.submit, timeout=60) as server:
        yield server


@pytest.fixture
def client(server):
    with LogClient(server.path, timeout=60) as client:
        yield client


def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def verdict(index: int) -> bytes:
    return encode_entry(VerdictEntry(1, b"", "rules/1", ((index, ((255, 0),)),)))


def test_entries_arrive_in_order_and_committed(client, server, tmp_path):
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    assert client.append([verdict(0)]) == 0
    assert client.append([verdict(1), verdict(2)]) == 1
    with LogReader(tmp_path / "log") as reader:
        assert [entry for _, entry in reader.entries(0)] == [verdict(0), verdict(1), verdict(2)]


def test_clients_in_other_processes(server, tmp_path):
    program = f"""
        import sys
        from sensorhub.log.appender import LogClient
        from sensorhub.log.entries import ArtefactEntry, encode_entry
        client = LogClient({str(server.path)!r})
        for number in range(20):
            entries = [encode_entry(ArtefactEntry(number, sys.argv[1], bytes(32), str(part))) for part in range(5)]
            print(client.append(entries))
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), name], stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b", "c")
    ]
    firsts = []
    for child in children:
        output, _ = child.communicate(timeout=120)
        assert child.returncode == 0
        firsts += map(int, output.split())
    assert sorted(firsts) == list(range(0, 300, 5))
    with LogReader(tmp_path / "log") as reader:
        whats = [cbor2.loads(entry)[2:5:2] for _, entry in reader.entries(0)]
    for start in range(0, 300, 5):
        assert [what for what, _ in whats[start : start + 5]] == [whats[start][0]] * 5
        assert [part for _, part in whats[start : start + 5]] == list("01234")


def test_a_threaded_client(client):
    firsts = []
    threads = [
        threading.Thread(target=lambda: firsts.extend(client.append([verdict(1)]) for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(firsts) == list(range(80))


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (encode_entry(MessageEntry(1, b"x")), "not of a kind that may be appended"),
        (b"", "not of a kind"),
        (b"\x83\x04\x00", "CBOR"),
        (cbor2.dumps([4, 1, b"", "rules/1", [[1, [[999, 0]]]]]), "score"),
        (cbor2.dumps([4, 1, b"", "rules/1", [[1, [[True, 0]]]]]), "score"),
        (cbor2.dumps([4, 1, b"", "rules/1", [[1, [[1, -1]]]]]), "flags"),
        (cbor2.dumps([4, 1, b"", "rules/1", [[1.0, [[1, 1]]]]]), "index"),
        (cbor2.dumps([4, -1, b"", "rules/1", [[1, [[1, 1]]]]]), "ms"),
        (cbor2.dumps([4, 1, b"m", "rules/1", [[1, [[1, 1]]]]]), "model"),
        (cbor2.dumps([4, 1, b"", 1, [[1, [[1, 1]]]]]), "rules"),
        (cbor2.dumps([4, 1, b"", "rules/1", [[1, [[1, 1, 1]]]]]), "fields"),
        (b"\x85\x04\x18\x01\x40\x67rules/1\x80", "deterministic"),
        (verdict(1) + b"\0", "deterministic"),
        ("text", "no byte string"),
    ],
)
def test_entries_that_are_refused(client, writer, entry, text):
    with pytest.raises(AppendError, match=text) as caught:
        client.append([verdict(0), entry])
    assert not caught.value.uncertain
    assert writer.log.size == 0
    assert client.append([verdict(0)]) == 0


def test_requests_that_are_refused(client, server):
    for entries in ([], [b"x"] * (MAX_ENTRIES + 1), [bytes(60_000)] * (MAX_REQUEST // 60_000 + 1)):
        with pytest.raises(AppendError, match="one append takes"):
            client.append(entries)

    def ask(request: bytes) -> object:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(server.path))
            raw.sendall(request)
            (length,) = struct.unpack(">I", raw.recv(4, socket.MSG_WAITALL))
            return cbor2.loads(raw.recv(length, socket.MSG_WAITALL))

    wrong = (
        {},
        [],
        [verdict(0)],
        [1000, []],
        ["1", [verdict(0)]],
        [1000, [verdict(0)], 1],
        [1000, {1: verdict(0)}],
    )
    for body in (b"\xff", b"", *map(cbor2.dumps, wrong), random.Random(1).randbytes(50)):
        status, text = ask(struct.pack(">I", len(body)) + body)
        assert status == REFUSED
        assert "an append request" in text
    status, text = ask(struct.pack(">I", MAX_REQUEST + 1))
    assert status == REFUSED
    assert "at most" in text
    assert client.append([verdict(0)]) == 0


def test_the_writers_error_reaches_the_client(client, writer):
    writer.failure = LogFullError("no room; free space")
    with pytest.raises(AppendError, match="no room; free space") as caught:
        client.append([verdict(0)])
    assert not caught.value.uncertain
    writer.failure = RuntimeError("surprise")
    with pytest.raises(AppendError, match="RuntimeError: surprise"):
        client.append([verdict(0)])
    writer.failure = None
    assert client.append([verdict(0)]) == 0


def test_a_commit_that_takes_too_long_is_uncertain(tmp_path, writer):
    writer.gate.clear()
    with (
        AppendServer(tmp_path / "s", writer.begin, timeout=0.05) as server,
        LogClient(server.path) as client,
    ):
        with pytest.raises(AppendError, match="look in the log") as caught:
            client.append([verdict(0)])
        assert caught.value.uncertain
        writer.gate.set()
    with LogReader(tmp_path / "log") as reader:
        assert reader.wait(0, 60)
        assert reader.entry(0) == verdict(0)


def test_a_client_that_gives_up_waiting_is_uncertain(tmp_path, writer):
    def late(entries: list[bytes]) -> concurrent.futures.Future[int]:
        future = writer.submit(entries)
        concurrent.futures.wait((future,), 60)
        return future

    writer.gate.clear()
    with AppendServer(tmp_path / "s", late) as server, LogClient(server.path, timeout=0.5) as client:
        with pytest.raises(AppendError, match="timed out; look in the log") as caught:
            client.append([verdict(0)])
        assert caught.value.uncertain
        assert writer.busy.wait(60)
        writer.gate.set()
        client._timeout = 60.0
        # The late answer to the first request is not taken for that of the second.
        assert LogClient(server.path, timeout=60).append([verdict(1)]) == 1
        assert client.append([verdict(2)]) == 2


def test_what_the_writer_has_not_begun_is_withdrawn_when_time_is_over(server, writer, tmp_path, monkeypatch):
    writer.gate.clear()
    with LogClient(server.path, timeout=60) as patient, LogClient(server.path, timeout=60) as hurried:
        first = threading.Thread(target=patient.append, args=([verdict(0)],))
        first.start()
        assert writer.busy.wait(60)
        monkeypatch.setattr(appender, "_SHARE", 0.005)  # so that the answer is there long before it gives up
        with pytest.raises(AppendError, match="nothing was appended") as caught:
            hurried.append([verdict(1)])
        assert not caught.value.uncertain
        # nor what a client asked for that went away
        away = socket.socket(socket.AF_UNIX)
        away.connect(str(server.path))
        request = cbor2.dumps([60_000, [verdict(2)]])
        away.sendall(struct.pack(">I", len(request)) + request)
        away.close()
        until(lambda: len(writer.futures) == 3 and writer.futures[2].cancelled())
        monkeypatch.undo()
        writer.gate.set()
        first.join()
        assert patient.append([verdict(3)]) == 1
    with LogReader(tmp_path / "log") as reader:
        assert [entry for _, entry in reader.entries(0)] == [verdict(0), verdict(3)]


def test_the_writer_says_itself_when_it_does_not_know(client, writer):
    writer.failure = AppendError("the sync failed", uncertain=True)
    with pytest.raises(AppendError, match="the sync failed") as caught:
        client.append([verdict(0)])
    assert caught.value.uncertain
    writer.failure = AppendError("look in the log for the reason")
    with pytest.raises(AppendError, match="refused") as caught:
        client.append([verdict(0)])
    assert not caught.value.uncertain


def test_a_client_connects_again_when_the_server_was_away(tmp_path, writer):
    path = tmp_path / "log.sock"
    with LogClient(path, timeout=0.1) as client:
        with pytest.raises(AppendError, match="is the ingest running") as caught:
            client.append([verdict(0)])
        assert not caught.value.uncertain
    with LogClient(path, timeout=60) as client:
        for index in range(3):
            with AppendServer(path, writer.submit):
                assert client.append([verdict(index)]) == index
            assert not path.exists()
        path.touch()  # a dead one
        later = AppendServer(path, writer.submit)
        threading.Timer(0.2, later.start).start()
        assert client.append([verdict(3)]) == 3
        later.close()


def test_a_server_that_ends_in_between_leaves_the_client_uncertain(tmp_path, writer):
    writer.gate.clear()
    server = AppendServer(tmp_path / "log.sock", writer.submit)
    server.start()
    ending = threading.Thread(target=lambda: (writer.busy.wait(60), server.close()))
    ending.start()
    with LogClient(server.path, timeout=60) as client, pytest.raises(AppendError) as caught:
        client.append([verdict(0)])
    assert caught.value.uncertain
    ending.join()


def test_long_paths(tmp_path, writer):
    path = tmp_path / ("d" * 100) / ("e" * 100) / "log.sock"
    with AppendServer(path, writer.submit), LogClient(path) as client:
        assert client.append([verdict(0)]) == 0
    with pytest.raises(LogError, match="cannot listen"):
        AppendServer(tmp_path / "log" / "head" / "x", writer.submit).start()


def test_artefacts_may_be_appended(client):
    assert client.append([encode_entry(ArtefactEntry(1, "rules", bytes(32), "rules/1"))]) == 0


def test_a_client_that_shall_stop_waits_for_no_server(tmp_path):
    stop = threading.Event()
    client = LogClient(tmp_path / "gone.sock", timeout=3600.0, stop=stop)
    found = []

    def ask():
        with pytest.raises(AppendError, match="cannot reach") as caught:
            client.append([b"x"])
        found.append(caught.value.uncertain)

    thread = threading.Thread(target=ask)
    thread.start()
    stop.set()
    thread.join(300)
    assert found == [False]
