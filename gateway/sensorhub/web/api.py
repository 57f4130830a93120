"""The JSON API; README.md beside this file is its reference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, Generic, TypeVar

from aiohttp import web

from sensorhub.channels import CHANNELS
from sensorhub.flags import flag_names
from sensorhub.store.reader import SqliteReader
from sensorhub.times import EARLIEST, LATEST
from sensorhub.web.answers import answer, answer_document
from sensorhub.web.flag_table import flag_table
from sensorhub.web.gateway import SERIES, Gateway, UnavailableError
from sensorhub.web.parameters import Query, UnknownError, node_name, whole
from sensorhub.web.quality_api import muted_now
from sensorhub.web.summary import summarise

RESOLUTIONS: Final = ("auto", "raw", "5m", "1h")
#: Rows of a series when the client does not say, and at most: five and a half years of hours.
DEFAULT_LIMIT: Final = 5_000
MOST_ROWS: Final = 50_000
#: Seconds for which an answer that all clients poll is shared among them.
SHARED_FOR: Final = 0.5
#: Proofs made at a time, and waiting: a proof reads the log from its entry on.
_PROVING: Final = 2
_QUEUED: Final = 32

T = TypeVar("T")


class _Shared(Generic[T]):
    """One answer for all who ask at about the same time, so that many open pages cost no more than one."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._made = float("-inf")
        self._value: T | None = None

    async def get(self) -> T:
        async with self._lock:
            if self._value is None or time.monotonic() - self._made > SHARED_FOR:
                self._value = await asyncio.to_thread(self._make)
                self._made = time.monotonic()
            return self._value


class Api:
    """The handlers; each reads in a worker thread, so that a slow question never holds up another answer.

    Args:
        gateway: what is read.
        prove: makes the proof file of one log entry; SensorhubError when it cannot.
    """

    def __init__(self, gateway: Gateway, prove: Callable[[int], bytes]) -> None:
        self._gateway = gateway
        self._prove = prove
        self._status = _Shared(lambda: summarise(gateway))
        self._nodes = _Shared(gateway.nodes)
        self._muted = _Shared(lambda: muted_now(gateway))
        self._proving = asyncio.Semaphore(_PROVING)
        self._queued = 0

    async def status(self, request: web.Request) -> web.Response:
        """The gateway at a glance."""
        Query(request, ())
        return await answer(request, await self._status.get())

    async def channels(self, request: web.Request) -> web.Response:
        """The channel table."""
        Query(request, ())
        return await answer(
            request, [{**asdict(channel), "projections": sorted(channel.projections)} for channel in CHANNELS]
        )

    async def flags(self, request: web.Request) -> web.Response:
        """What the bits of a verdict mean."""
        Query(request, ())
        return await answer(request, flag_table())

    async def nodes(self, request: web.Request) -> web.Response:
        """Every node."""
        Query(request, ())
        return await answer(request, await self._nodes.get())

    async def latest(self, request: web.Request) -> web.Response:
        """The newest reading of each channel of a node."""
        Query(request, ())
        node = node_name("node", request.match_info["node"])

        def ask(store: SqliteReader) -> list[dict[str, Any]]:
            rows = store.latest(node)
            if not rows:
                _must_know(store, node)
            return rows

        rows = await asyncio.to_thread(self._gateway.ask, ask)
        until = {each["channel"]: each["until"] for each in await self._muted.get() if each["node"] == node}
        return await answer(
            request,
            [
                {**row, "flag_names": flag_names(row["flags"] or 0), "muted_until": until.get(row["channel"])}
                for row in rows
            ],
        )

    async def series(self, request: web.Request) -> web.Response:
        """One channel of one node as columns."""
        query = Query(request, ("node", "channel", "start", "end", "resolution", "limit"))
        node = query.node("node")
        channel = query.choice("channel", SERIES)
        resolution = query.choice("resolution", RESOLUTIONS, "auto")
        start, end = query.time("start", EARLIEST), query.time("end", LATEST)
        limit = query.whole("limit", DEFAULT_LIMIT, 1, MOST_ROWS)

        def ask(store: SqliteReader) -> dict[str, Any]:
            columns = store.series(node, channel, start, end, resolution, limit)
            if not columns["time"]:
                _must_know(store, node)
            return columns

        return await answer(request, await asyncio.to_thread(self._gateway.ask, ask))

    async def proof(self, request: web.Request) -> web.Response:
        """The proof of one log entry, as a file to keep."""
        Query(request, ())
        index = whole("index", request.match_info["index"], 0, 10**18 - 1)
        if self._queued >= _QUEUED:
            raise UnavailableError("too many proofs are being made: try again shortly")
        self._queued += 1
        try:
            async with self._proving:
                proof = await asyncio.to_thread(self._proven, index)
        finally:
            self._queued -= 1
        headers = {"Content-Disposition": f'attachment; filename="proof-{index}.json"'}
        return await answer_document(request, proof, headers)

    def _proven(self, index: int) -> bytes:
        size = self._gateway.log.size()
        if index >= size:
            raise UnknownError(f"the log has no entry {index}, its entries are 0 to {size - 1}")
        signed = self._gateway.signed()
        if signed is None or index >= signed.size:
            raise UnavailableError(f"no checkpoint covers entry {index} yet: try again in a second")
        return self._prove(index)


def _must_know(store: SqliteReader, node: str) -> None:
    if all(known["node"] != node for known in store.nodes()):
        raise UnknownError(f"there is no node {node!r}; /api/v1/nodes lists them")
