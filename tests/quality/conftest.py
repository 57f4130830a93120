"""Messages to judge, real station data, and a real log with its append socket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from coincurve import PrivateKey

from sensorhub import data
from sensorhub.log.appender import AppendServer, LogClient
from sensorhub.log.entries import Genesis, MessageEntry, encode_entry
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.wire import Message, Pack, Signed, encode_message

Records = Sequence[tuple[str, float | bytes, float]]


class Sender:
    """Makes messages as the wire hands them out, without the cost of a signature."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, Message]] = []
        self._seq: dict[str, int] = {}

    def send(
        self, node: str, base: int | None, records: Records, *, tq: int = 2, seq: int | None = None
    ) -> int:
        self._seq[node] = self._seq.get(node, 0) + 1 if seq is None else seq
        names, values, times = zip(*records, strict=True)
        kid = hashlib.sha256(node.encode()).digest()[:8]
        tq = 0 if base is None else tq
        signed = Signed(b"", b"", b"", b"", kid, 1, self._seq[node], bytes(32), tq, 0)
        index = len(self.messages)
        self.messages.append((index, Message(signed, Pack("lab", node, base, names, times, values))))
        return index

    def series(self, channel: str, readings: Sequence[tuple[float, float]], *, node: str = "alder") -> None:
        """One message for each (seconds, value)."""
        for seconds, value in readings:
            self.send(node, 1_700_000_000 + int(seconds), [(channel, value, seconds - int(seconds))])


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture(scope="session")
def make_sender() -> type[Sender]:
    return Sender


@pytest.fixture(scope="session")
def stations() -> list[tuple[int, str, list[tuple[str, float, float]]]]:
    """Hourly messages (time, node, records) of twelve real stations over four weeks."""
    hours = [(int(row["timestamp"]), row["station"].lower(), data.readings(row)) for row in data.rows()]
    return [
        (at, node, [(name, value, 0.0) for name, value in read.items()]) for at, node, read in hours if read
    ]


class LogHouse:
    """A log with its one writer thread, and the socket by which other processes append."""

    def __init__(self, path: Path) -> None:
        self.path = path / "log"
        self.socket = path / "log.sock"
        signer = NoteSigner.generate("lab.gateway/sensorhub")
        self._thread = ThreadPoolExecutor(1)
        self._log = Log.open(self.path, origin="lab.gateway/sensorhub", signer=signer, checkpoint_interval=0)
        self.append([encode_entry(Genesis("lab", "gateway", bytes(32)))])
        self.server = AppendServer(self.socket, self._submit)
        self.server.start()
        self.reader = LogReader(self.path)
        self._seq: dict[str, int] = {}

    def _submit(self, entries: list[bytes]) -> Future[int]:
        return self._thread.submit(self._append, entries)

    def _append(self, entries: list[bytes]) -> int:
        first = self._log.append_many(entries)
        self._log.commit()
        return first

    def append(self, entries: list[bytes]) -> int:
        return self._submit(entries).result()

    def client(self) -> LogClient:
        return LogClient(self.socket)

    def message(self, node: str, base: int, records: Records) -> bytes:
        """An encoded message entry, to be appended."""
        seq = self._seq[node] = self._seq.get(node, 0) + 1
        raw = encode_message(
            PrivateKey(hashlib.sha256(node.encode()).digest()),
            site="lab",
            node=node,
            boot=1,
            seq=seq,
            prev=bytes(32),
            tq=2,
            uptime=0,
            base_time=base,
            records=records,
        )
        return encode_entry(MessageEntry(base * 1000, raw))

    def close(self) -> None:
        self.server.close()
        self._thread.submit(self._log.close).result()
        self._thread.shutdown()
        self.reader.close()


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[[str], LogHouse]]:
    houses: list[LogHouse] = []

    def make(name: str = "data") -> LogHouse:
        (tmp_path / name).mkdir()
        houses.append(LogHouse(tmp_path / name))
        return houses[-1]

    yield make
    for house in houses:
        house.close()


@pytest.fixture
def house(make_house: Callable[[str], LogHouse]) -> LogHouse:
    return make_house("data")
