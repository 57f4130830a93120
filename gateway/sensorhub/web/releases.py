"""Images of the nodes' firmware below `/releases/`, for nodes that a signed manifest sends here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from aiohttp import web

from sensorhub.web.parameters import UnknownError, shown

FOLDER: Final = "releases"
"""In the data directory; `sensorhub nodes update --image` puts images there."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Releases:
    """The handler.

    Args:
        data_dir: the gateway's data directory.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    async def image(self, request: web.Request) -> web.StreamResponse:
        """One image as it is: what a node fetches must have the length and hash that were signed."""
        name = request.match_info["name"]
        path = self._folder / name
        if not _NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
            raise UnknownError(f"there is no release {shown(name)}")
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})
