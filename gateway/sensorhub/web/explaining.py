"""Why a reading was judged as it was: made from the log by a child process, one at a time, within a time limit."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from sensorhub.errors import SensorhubError
from sensorhub.store.reader import SqliteReader
from sensorhub.web.answers import answer_document, send, tag_of
from sensorhub.web.gateway import LOG, SERIES, Gateway, UnavailableError
from sensorhub.web.parameters import Query, UnknownError

#: Seconds that an explanation may take, and how many may wait for their turn.
MOST_SECONDS: Final = 60
_QUEUED: Final = 4
#: Explanations that are kept: going back and forth between two readings costs nothing.
_KEPT: Final = 64
#: Seconds around the asked time within which the reading must lie.
_NEAR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Judge:
    """With what readings are judged anew.

    Attributes:
        model: file of the model; empty for the packaged one.
        sha256: its hash in hex.
    """

    model: str = ""
    sha256: str = ""


class Explaining:
    """The handlers.

    Args:
        gateway: what is read.
        judge: with what readings are judged anew.
    """

    def __init__(self, gateway: Gateway, judge: Judge) -> None:
        self._gateway = gateway
        self._judge = judge
        self._turn = asyncio.Semaphore(1)
        self._queued = 0
        self._kept: OrderedDict[tuple[str, str, int, int, int], bytes] = OrderedDict()

    async def words(self, request: web.Request) -> web.Response:
        """The evidence on one reading, as JSON."""
        told = json.loads(await self._told(Query(request, ("node", "channel", "time"))))
        del told["picture"]
        return await answer_document(request, msgspec.json.encode(told))

    async def picture(self, request: web.Request) -> web.Response:
        """The same as a picture."""
        told = json.loads(await self._told(Query(request, ("node", "channel", "time"))))
        body = told["picture"].encode()
        return send(request, body, None, content_type="image/svg+xml", tag=tag_of(body))

    async def _told(self, query: Query) -> bytes:
        node, channel = query.node("node"), query.choice("channel", SERIES)
        time = query.time("time")

        def ask(store: SqliteReader) -> tuple[dict[str, Any] | None, int]:
            found = store.locate(node, channel, time)
            if found is None or abs(found["time"] - time) > _NEAR:
                return None, -1
            verdict = store.verdict(found["message"])
            return found, -1 if verdict is None else verdict[0]

        found, verdict = await asyncio.to_thread(self._gateway.ask, ask)
        if found is None:
            raise UnknownError(f"the store has no {channel} of {node!r} within an hour of that time")
        key = (node, channel, found["message"], found["record"], verdict)
        if key not in self._kept:
            if self._queued >= _QUEUED:
                raise UnavailableError("too many readings are being explained: try again shortly")
            self._queued += 1
            try:
                async with self._turn:
                    if key not in self._kept:
                        self._kept[key] = await self._made(
                            node, channel, found["time"], found["message"], verdict
                        )
            finally:
                self._queued -= 1
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    async def _made(self, node: str, channel: str, time: float, message: int, verdict: int) -> bytes:
        log: Path = self._gateway.data_dir / LOG
        words = (log, node, channel, repr(time), message, verdict, self._judge.model, self._judge.sha256)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sensorhub.quality.explaining",
            *map(str, words),
            str(MOST_SECONDS),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, complaint = await asyncio.wait_for(child.communicate(), MOST_SECONDS)
        except TimeoutError:
            raise UnavailableError(
                f"judging again up to that reading takes longer than {MOST_SECONDS} s; "
                f"on the gateway, `sensorhub quality explain {node} {channel} {time:.0f}` has no limit"
            ) from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise SensorhubError(
                lines[-1] if lines else "explaining it failed; the process ended without a word"
            )
        return out
