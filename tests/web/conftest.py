"""A gateway's data directory with real readings, made by the real log, wire and store, and served by the real app."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer
from coincurve import PrivateKey

from sensorhub import data
from sensorhub.dataset.heads import identity, read_heads
from sensorhub.dataset.prove import prove
from sensorhub.flags import Flag
from sensorhub.log.entries import Genesis, MessageEntry, NodeEntry, NodeEvent, VerdictEntry, encode_entry
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.status import StatusFile
from sensorhub.store.sqlite import SqliteStore
from sensorhub.verify.proof import format_proof
from sensorhub.web.app import Gateway, make_app, serve
from sensorhub.wire import encode_message, public_key_of

SITE, GATEWAY = "beijing", "rooftop"
ORIGIN = f"{SITE}.{GATEWAY}/sensorhub"
HOUR = 3600
FIRST = 1_481_500_800  # the sample begins on 2016-12-12, 00:00 UTC
GOOD = (190, int(Flag.ISOLATED))
SPIKE = (20, int(Flag.SPIKE | Flag.RANGE))
SPIKE_AT = 40  # hour of the spike that is put into one station's PM2.5


def stations() -> dict[str, list[dict[str, str]]]:
    """Rows of the shipped sample by station, in time order."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in data.rows():
        found.setdefault(row["station"], []).append(row)
    return found


def records(row: dict[str, str]) -> list[tuple[str, float, float]]:
    """What a node measured in an hour; sensors that gave nothing are left out."""
    return [(channel, value, 0.0) for channel, value in data.readings(row).items()]


class Site:
    """One gateway: a log that this writes, a store that follows it, and status files."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log: Log | None = None
        self.store: SqliteStore | None = None
        self.reader = LogReader(data_dir / "log")
        self.gateway = Gateway(data_dir, chain_configured=False)
        self._seq: dict[str, int] = {}
        self._previous: dict[str, bytes] = {}

    def begin(self) -> Site:
        """The log with its genesis entry, and an empty store."""
        signer = NoteSigner.generate(ORIGIN)
        self.log = Log.open(self.data_dir / "log", origin=ORIGIN, signer=signer, checkpoint_interval=0)
        self.log.append(encode_entry(Genesis(SITE, GATEWAY, signer.public_key)))
        self.store = SqliteStore(self.data_dir / "store.sqlite")
        self.settle()
        return self

    def enrol(self, node: str, kind: str = "weather", event: NodeEvent = NodeEvent.ENROL) -> int:
        key = public_key_of(self.key(node))
        return self.log.append(
            encode_entry(NodeEntry(FIRST * 1000, event, node, kind, key, None, "wx4g0", b"announce"))
        )

    def key(self, node: str) -> PrivateKey:
        return PrivateKey(hashlib.sha256(node.encode()).digest())

    def message(self, node: str, base: int, values: Sequence[tuple[str, float, float]]) -> int:
        """Appends a signed message of (channel, value, seconds after base); its log index."""
        seq = self._seq[node] = self._seq.get(node, 0) + 1
        raw = encode_message(
            self.key(node),
            site=SITE,
            node=node,
            boot=1,
            seq=seq,
            prev=self._previous.get(node, bytes(32)),
            tq=2,
            uptime=base - FIRST + 60,
            base_time=base,
            records=values,
        )
        self._previous[node] = hashlib.sha256(raw).digest()
        return self.log.append(encode_entry(MessageEntry(time.time_ns() // 1_000_000, raw)))

    def judge(self, verdicts: dict[int, Sequence[tuple[int, int]]]) -> int:
        listed = tuple((index, tuple(pairs)) for index, pairs in verdicts.items())
        return self.log.append(encode_entry(VerdictEntry(FIRST * 1000, b"", "rules/1", listed)))

    def settle(self) -> None:
        """Commits the log, signs it, and lets the store read it all."""
        self.log.commit()
        self.log.checkpoint()
        while self.store.cursor() < self.reader.size():
            start = self.store.cursor()
            self.store.apply(list(self.reader.entries(start, min(start + 4096, self.reader.size()))))
        self.store.settle()
        self.report("ingest", cursor=self.reader.size(), rate_readings=0.0, connected=True, warnings=[])
        for follower in ("quality", "store"):
            self.report(follower, cursor=self.reader.size(), lag=0, error=None)

    def report(self, process: str, **fields: object) -> None:
        StatusFile(self.data_dir, process).write(fields)

    def replay(self, station: str, hours: int, spike: bool = False) -> None:
        """The first hours of a station, an hour a message, judged; with `spike` one PM2.5 is absurd."""
        node = station.lower()
        self.enrol(node)
        verdicts: dict[int, Sequence[tuple[int, int]]] = {}
        for hour, row in enumerate(stations()[station][:hours]):
            values = records(row)
            marks = [GOOD] * len(values)
            if spike and hour == SPIKE_AT:
                values[0] = ("pm2_5", 985.0, 0.0)
                marks[0] = SPIKE
            if hour % 24 == 23 and len(marks) > 1:
                marks[1] = (230, int(Flag.REGIONAL))
            verdicts[self.message(node, int(row["timestamp"]), values)] = marks
        self.judge(verdicts)

    def minutes(self, station: str, hours: int) -> None:
        """A node that measures each minute: the station's hours with a sensor's scatter between them."""
        node = f"{station.lower()}-minutes"
        self.enrol(node, kind="air")
        rows = stations()[station]
        for hour in range(hours):
            a, b = float(rows[hour]["PM2.5"]), float(rows[hour + 1]["PM2.5"])
            values = [
                ("pm2_5", round(max(1.0, a + (b - a) * m / 60 + 0.06 * a * math.sin(m * m)), 1), m * 60.0)
                for m in range(60)
            ]
            self.judge({self.message(node, int(rows[hour]["timestamp"]), values): [GOOD] * 60})

    def prove(self, index: int) -> bytes:
        """What the gateway's `prove` does."""
        heads = read_heads(self.data_dir / "chain.sqlite", identity(self.reader))
        return format_proof(prove(self.reader, index, heads=heads))

    def app(self):
        return make_app(self.gateway, self.prove)

    def close(self) -> None:
        self.reader.close()
        if self.log is not None:
            self.log.close()
            self.store.close()


class Serving:
    """The app in a thread of its own, on a port of its own."""

    def __init__(self, site: Site, port: int = 0) -> None:
        self.site = site
        self._asked = port
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def _run(self) -> None:
        def ready(port: int) -> None:
            self.port = port
            self._ready.set()

        try:
            self._loop.run_until_complete(serve(self.site.app(), "127.0.0.1", self._asked, self._stop, ready))
        except BaseException as error:
            self._error = error
            self._ready.set()
        finally:
            self._loop.close()

    def __enter__(self) -> Serving:
        self._thread.start()
        assert self._ready.wait(90), "the server did not start"
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(90)
        assert not self._thread.is_alive()


def populated(data_dir: Path) -> Site:
    """Three stations over five days, and one of them once more in minutes over two and a half."""
    site = Site(data_dir).begin()
    site.replay("Aotizhongxin", 120, spike=True)
    site.replay("Changping", 120)
    site.replay("Dongsi", 96)
    site.minutes("Dongsi", 60)
    site.settle()
    return site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A small gateway of its own: one station over two days."""
    site = Site(tmp_path / "data").begin()
    site.replay("Aotizhongxin", 48, spike=True)
    site.settle()
    yield site
    site.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Site]:
    """A gateway whose data directory is still empty."""
    (tmp_path / "data").mkdir()
    site = Site(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture(scope="session")
def beijing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The larger gateway that tests only read."""
    site = populated(tmp_path_factory.mktemp("beijing") / "data")
    yield site
    site.close()


@pytest.fixture(scope="session")
def beijing_server(beijing: Site) -> Iterator[Serving]:
    """The larger gateway, served."""
    with Serving(beijing) as server:
        yield server


@pytest.fixture
async def client(beijing_server: Serving):
    """A client of the larger gateway; bodies come as they were sent."""
    async with ClientSession(
        beijing_server.url, auto_decompress=False, headers={"Accept-Encoding": "identity"}
    ) as session:
        yield session


@pytest.fixture
async def open_client():
    """Opens a client of a site's app."""
    clients: list[TestClient] = []

    async def start(site: Site) -> TestClient:
        client = TestClient(
            TestServer(site.app()), auto_decompress=False, headers={"Accept-Encoding": "identity"}
        )
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
def serving():
    """The class that serves a site to a browser."""
    return Serving
