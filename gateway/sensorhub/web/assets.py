"""The page's files, read once when the process starts.

Names are looked up in a table of what is there, so no path can lead out of the folder; an upgrade under a
running gateway never mixes old files with new ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from sensorhub.web.answers import WORTH_PACKING, pack, send, tag_of
from sensorhub.web.parameters import UnknownError, shown

STATIC: Final = Path(__file__).with_name("static")

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class _Asset:
    body: bytes
    packed: bytes | None
    content_type: str
    tag: str


class Assets:
    """Serves the files of a folder.

    Args:
        root: the folder; files of types that a page does not need are left out.
    """

    def __init__(self, root: Path = STATIC) -> None:
        self._assets: dict[str, _Asset] = {}
        for path in sorted(root.rglob("*")):
            content_type = _TYPES.get(path.suffix)
            if content_type is None or not path.is_file():
                continue
            body = path.read_bytes()
            packed = pack(body) if len(body) >= WORTH_PACKING else None
            self._assets[path.relative_to(root).as_posix()] = _Asset(body, packed, content_type, tag_of(body))

    async def page(self, request: web.Request) -> web.Response:
        """The page itself."""
        return self._send(request, "index.html")

    async def file(self, request: web.Request) -> web.Response:
        """A file of the page."""
        return self._send(request, request.match_info["path"])

    def _send(self, request: web.Request, name: str) -> web.Response:
        asset = self._assets.get(name)
        if asset is None:
            raise UnknownError(f"the page has no file {shown(name)}")
        return send(request, asset.body, asset.packed, content_type=asset.content_type, tag=asset.tag)
