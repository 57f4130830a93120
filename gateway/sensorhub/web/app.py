"""The aiohttp application: page, JSON API and the public C2SP log endpoints.

Everything here is read-only and reads what the other processes publish: the committed log, the store, the
posts made to the chain and the status files. Nothing it answers has to be believed: the log endpoints and
the proofs are what a stranger checks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from sensorhub import status as status_files
from sensorhub.channels import BY_NAME, CHANNELS
from sensorhub.errors import SensorhubError
from sensorhub.log.entries import Genesis, decode_entry
from sensorhub.log.note import NoteVerifier, open_checkpoint
from sensorhub.log.reader import LogReader
from sensorhub.quality.flags import flag_names
from sensorhub.store.sqlite import SqliteStore

logger = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
FOLLOWERS = ("quality", "store", "chain")
STALE_MS = 15_000  # a process that has not written its status for this long is reported
MAX_POINTS = 5000
STARTING_UP = "the gateway is starting: the log or the store is not there yet"

# the page loads nothing from elsewhere; uPlot sets inline styles on its own elements
CONTENT_POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class UnavailableError(SensorhubError):
    """Raised when a part of the gateway that an answer needs is not there yet."""


class Gateway:
    """What the handlers read; opens log and store when they first exist.

    Args:
        data_dir: the gateway's data directory.
        chain_configured: whether a chain is set, so that the page can tell "none yet" from "none".
    """

    def __init__(self, data_dir: Path, *, chain_configured: bool) -> None:
        self.data_dir = data_dir
        self.chain_configured = chain_configured
        self._log: LogReader | None = None
        self._store: SqliteStore | None = None
        self._genesis: Genesis | None = None

    @property
    def log(self) -> LogReader:
        """The committed log.

        Raises:
            UnavailableError: it has not been begun.
        """
        if self._log is None:
            if not (self.data_dir / "log" / "head").exists():
                raise UnavailableError(STARTING_UP)
            self._log = LogReader(self.data_dir / "log")
        return self._log

    @property
    def store(self) -> SqliteStore:
        """The time series, opened read-only.

        Raises:
            UnavailableError: it has not been begun.
        """
        if self._store is None:
            path = self.data_dir / "store.sqlite"
            if not path.exists():
                raise UnavailableError(STARTING_UP)
            self._store = SqliteStore.open_readonly(path)
        return self._store

    @property
    def genesis(self) -> Genesis:
        """Entry 0 of the log."""
        if self._genesis is None:
            if self.log.size() == 0:
                raise UnavailableError(STARTING_UP)
            entry = decode_entry(self.log.entry(0))
            assert isinstance(entry, Genesis)
            self._genesis = entry
        return self._genesis

    def checkpoint_key(self) -> NoteVerifier:
        """The key that signs the log's checkpoints, as the genesis entry names it."""
        return NoteVerifier(self.origin, self.genesis.note_key)

    @property
    def origin(self) -> str:
        """Origin line of the log's checkpoints."""
        return f"{self.genesis.site}.{self.genesis.gateway}/sensorhub"

    def status(self) -> dict[str, Any]:
        """Everything the head of the page shows; slow parts are the store's counts."""
        genesis = self.genesis
        size = self.log.size()
        processes = status_files.read_all(self.data_dir)
        checkpoint = self.log.checkpoint()
        opened = open_checkpoint(checkpoint, self.checkpoint_key()) if checkpoint else None
        ingest = processes.get("ingest", {})
        chain = processes.get("chain", {})
        return {
            "gateway": {"site": genesis.site, "name": genesis.gateway, "origin": self.origin},
            "log": {
                "size": size,
                "checkpoint_size": opened.size if opened else 0,
                "root": opened.root.hex() if opened else None,
                "key": str(self.checkpoint_key()),
            },
            "ingest": {k: v for k, v in ingest.items() if k not in ("pid", "nodes", "process")},
            "followers": {
                name: {
                    "cursor": processes[name].get("cursor", 0),
                    "lag": max(0, size - processes[name].get("cursor", 0)),
                }
                for name in FOLLOWERS
                if name in processes
            },
            "store": self.store.counts(),
            "flags": self.store.flag_counts(),
            "chain": {
                "configured": self.chain_configured,
                "contract": "0x" + genesis.contract.hex() if genesis.contract else None,
                "chain_id": genesis.chain_id,
                "last": _last_post(chain),
                "gas_mean": chain.get("gas_mean"),
                "posted": chain.get("posted", 0),
            },
            "warnings": list(_warnings(processes)),
            "time_ms": time.time_ns() // 1_000_000,
        }


def _last_post(chain: Mapping[str, Any]) -> dict[str, Any] | None:
    if not chain.get("last_tx"):
        return None
    return {
        "seq": chain.get("last_seq"),
        "size": chain.get("last_size"),
        "tx": chain.get("last_tx"),
        "block": chain.get("last_block"),
        "gas": chain.get("gas_last"),
    }


def _warnings(processes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    now = time.time_ns() // 1_000_000
    found = []
    for name, record in processes.items():
        age = now - int(record.get("updated_ms", 0))
        if age > STALE_MS and name != "supervisor":
            found.append(f"{name}: no sign of life for {age // 1000} s")
        if record.get("error"):
            found.append(f"{name}: {record['error']}")
        found += [f"{name}: {text}" for text in record.get("warnings", ())]
    return found


def _finite(value: Any) -> Any:
    """JSON has no NaN: what cannot be shown becomes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(body: Any, *, status: int = 200) -> web.Response:
    return web.json_response(
        body, status=status, dumps=lambda x: json.dumps(x, separators=(",", ":"), allow_nan=False)
    )


def _query_time(request: web.Request, name: str) -> float | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise web.HTTPBadRequest(text=f"{name}={text!r} is not a time: give Unix seconds")
    return value


class Api:
    """The handlers; each reads in a worker thread, so that a slow query never holds up another answer."""

    def __init__(self, gateway: Gateway, prove: Callable[[int], dict[str, Any]]) -> None:
        self._gateway = gateway
        self._prove = prove

    async def status(self, _request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(self._gateway.status))

    async def channels(self, _request: web.Request) -> web.Response:
        return _json(
            [{**asdict(channel), "projections": sorted(channel.projections)} for channel in CHANNELS]
        )

    async def nodes(self, _request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(self._gateway.store.nodes))

    async def latest(self, request: web.Request) -> web.Response:
        rows = await asyncio.to_thread(lambda: self._gateway.store.latest(request.match_info["node"]))
        if not rows:
            raise web.HTTPNotFound(
                text=f"there is no node {request.match_info['node']!r} with readings; see /api/v1/nodes"
            )
        return _json(
            [{**row, "value": _finite(row["value"]), "flags": flag_names(row["flags"] or 0)} for row in rows]
        )

    async def series(self, request: web.Request) -> web.Response:
        node, channel = request.query.get("node", ""), request.query.get("channel", "")
        if channel not in BY_NAME:
            raise web.HTTPBadRequest(text=f"there is no channel {channel!r}; see /api/v1/channels")
        resolution = request.query.get("resolution", "auto")
        if resolution not in ("auto", "raw", "5m", "1h"):
            raise web.HTTPBadRequest(text=f"resolution={resolution!r} is not one of auto, raw, 5m, 1h")
        start, end = _query_time(request, "start"), _query_time(request, "end")
        columns = await asyncio.to_thread(
            lambda: self._gateway.store.series(
                node, channel, start, end, resolution=resolution, limit=MAX_POINTS
            )
        )
        return _json(
            {
                name: [_finite(x) for x in column] if isinstance(column, list) else column
                for name, column in columns.items()
            }
        )

    async def proof(self, request: web.Request) -> web.Response:
        index = int(request.match_info["index"])
        if index >= self._gateway.log.size():
            raise web.HTTPNotFound(
                text=f"the log has no entry {index}; its size is {self._gateway.log.size()}"
            )
        return _json(await asyncio.to_thread(self._prove, index))

    async def log_checkpoint(self, _request: web.Request) -> web.Response:
        note = self._gateway.log.checkpoint()
        if note is None:
            raise web.HTTPNotFound(text="no checkpoint has been signed yet")
        return web.Response(
            body=note, content_type="text/plain", charset="utf-8", headers={"Cache-Control": "no-cache"}
        )

    async def log_tile(self, request: web.Request) -> web.Response:
        path = "tile/" + request.match_info["path"]
        tile = await asyncio.to_thread(self._gateway.log.tile, path)
        if tile is None:
            raise web.HTTPNotFound(text=f"the log has no {path}")
        age = "no-cache" if ".p/" in path else "public, max-age=31536000, immutable"
        return web.Response(
            body=tile, content_type="application/octet-stream", headers={"Cache-Control": age}
        )


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns errors into JSON with the reason; sets the headers that keep the page to itself."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = _json({"error": error.text or error.reason}, status=error.status)
    except UnavailableError as error:
        response = _json({"error": str(error)}, status=503)
        response.headers["Retry-After"] = "2"
    except SensorhubError as error:
        response = _json({"error": str(error)}, status=422)
    response.headers["Content-Security-Policy"] = CONTENT_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


async def _page(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _alive(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def make_app(gateway: Gateway, prove: Callable[[int], dict[str, Any]]) -> web.Application:
    """The application.

    Args:
        gateway: what the handlers read.
        prove: makes the proof document of one log entry; SensorhubError when it cannot.
    """
    api = Api(gateway, prove)
    app = web.Application(middlewares=[answer_errors])
    app.add_routes(
        [
            web.get("/", _page),
            web.get("/healthz", _alive),
            web.get("/api/v1/status", api.status),
            web.get("/api/v1/channels", api.channels),
            web.get("/api/v1/nodes", api.nodes),
            web.get("/api/v1/nodes/{node:[a-z0-9][a-z0-9-]*}/latest", api.latest),
            web.get("/api/v1/series", api.series),
            web.get(r"/api/v1/proof/{index:\d{1,18}}", api.proof),
            web.get("/log/checkpoint", api.log_checkpoint),
            web.get("/log/tile/{path:.+}", api.log_tile),
            web.static("/static", STATIC),
        ]
    )
    return app


async def serve(
    app: web.Application, host: str, port: int, stop: asyncio.Event, ready: Callable[[int], None]
) -> None:
    """Serves until `stop` is set.

    Args:
        ready: called with the port once it listens (port 0 chooses a free one).

    Raises:
        SensorhubError: the address cannot be bound.
    """
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            raise SensorhubError(
                f"the page cannot listen on {host}:{port}: {error.strerror}; free the port or set web.port"
            ) from None
        ready(runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()
