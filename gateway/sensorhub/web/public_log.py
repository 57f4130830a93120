"""The public log: C2SP tlog-tiles below `/log`, for any client that reads and audits transparency logs."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import hdrs, web

from sensorhub.web.answers import send, tag_of
from sensorhub.web.gateway import Gateway
from sensorhub.web.parameters import UnknownError, shown

#: What a tile's path names never changes, of partial tiles neither (tlog-tiles, "Partial Tiles").
_FOREVER: Final = "public, max-age=31536000, immutable"


class PublicLog:
    """The handlers.

    Args:
        gateway: whose log.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def checkpoint(self, request: web.Request) -> web.Response:
        """The newest signed checkpoint, a note."""
        note = await asyncio.to_thread(self._checkpoint)
        if note is None:
            raise UnknownError(
                "no checkpoint has been signed yet; there is one a second after the first entry"
            )
        return send(request, note, None, content_type="text/plain; charset=utf-8", tag=tag_of(note))

    async def tile(self, request: web.Request) -> web.Response:
        """A tile or an entry bundle, full or partial."""
        path = f"tile/{request.match_info['path']}"
        tile = await asyncio.to_thread(lambda: self._gateway.log.tile(path))
        if tile is None:
            raise UnknownError(
                f"the log has no {shown(path)}: it has not grown that far, or that is no tile's path"
            )
        return web.Response(
            body=tile, content_type="application/octet-stream", headers={hdrs.CACHE_CONTROL: _FOREVER}
        )

    def _checkpoint(self) -> bytes | None:
        return self._gateway.log.checkpoint()
