"""How readings were judged: by node and day, and what people said of it; README.md beside this file is the reference."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from sensorhub.quality.reviews import Said, mutes
from sensorhub.store.reader import SqliteReader
from sensorhub.times import EARLIEST, LATEST
from sensorhub.web.answers import answer
from sensorhub.web.gateway import SERIES, Gateway
from sensorhub.web.parameters import Query, UnknownError

#: Rows of an answer when the client does not say, and at most: a year of a hundred nodes.
DEFAULT_LIMIT: Final = 5_000
MOST_ROWS: Final = 50_000


class QualityApi:
    """The handlers.

    Args:
        gateway: what is read.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def days(self, request: web.Request) -> web.Response:
        """Readings, scores and flags by node and day."""
        query = Query(request, ("node", "channel", "start", "end", "limit"))
        node = query.node("node") if query.has("node") else None
        channel = query.choice("channel", SERIES) if query.has("channel") else None
        start, end = query.time("start", EARLIEST), query.time("end", LATEST)
        limit = query.whole("limit", DEFAULT_LIMIT, 1, MOST_ROWS)

        def ask(store: SqliteReader) -> list[dict[str, Any]]:
            rows = store.days(node, start, end, channel, limit + 1)
            if not rows and node is not None and all(known["node"] != node for known in store.nodes()):
                raise UnknownError(f"there is no node {node!r}; /api/v1/nodes lists them")
            return rows

        rows = await asyncio.to_thread(self._gateway.ask, ask)
        days = [
            {**row, "day": datetime.fromtimestamp(row["time"], UTC).date().isoformat()}
            for row in rows[:limit]
        ]
        return await answer(request, {"days": days, "truncated": len(rows) > limit})

    async def reviews(self, request: web.Request) -> web.Response:
        """What people said of verdicts, the newest first."""
        query = Query(request, ("node", "limit"))
        node = query.node("node") if query.has("node") else None
        limit = query.whole("limit", DEFAULT_LIMIT, 1, MOST_ROWS)
        return await answer(request, await asyncio.to_thread(self._reviews, node, limit))

    def _reviews(self, node: str | None, limit: int) -> list[dict[str, Any]]:
        found = [_told(each) for each in reversed(self._gateway.said()) if node in (None, each.node)]
        return found[:limit]


def _told(each: Said) -> dict[str, Any]:
    said = each.review
    return {
        "entry": each.entry,
        "time_ms": each.ms,
        "node": each.node,
        "channel": each.channel,
        "time": each.time,
        "value": each.value,
        "message": said.message,
        "record": said.record,
        "action": said.action.value,
        "sound": said.sound,
        "until": said.until,
        "reason": said.reason,
        "by": said.by,
    }


def muted_now(gateway: Gateway) -> list[dict[str, Any]]:
    """Series that a person muted and that still are: node, channel, until (Unix s), reason, by."""
    return [
        {
            "node": node,
            "channel": channel,
            "until": each.review.until,
            "reason": each.review.reason,
            "by": each.review.by,
        }
        for (node, channel), each in sorted(mutes(gateway.said(), time.time()).items())
    ]
