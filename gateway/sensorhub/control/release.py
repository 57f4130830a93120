"""Releases of the node's application: packed and signed on one machine, handed out by another.

The manifest is the signed update order itself (`orders.sign_update`), so the machine that hands it out can neither change it
nor make another one.
"""

from __future__ import annotations

import ast
import hashlib
import io
import os
import re
import secrets
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sensorhub.control.orders import UPDATE_TYPE, OrderError, address, open_order
from sensorhub.errors import SensorhubError

PACKAGE: Final = "sensornode"
RELEASES: Final = "releases"
"""In the data directory: images that the page's process serves under `/releases/`."""
IMAGE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MAX_IMAGE: Final = 8 << 20
FETCH_TIMEOUT_S: Final = 20.0
_LEFT_OUT: Final = frozenset({".md", ".pyc", ".pyi"})
_PART: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


class ReleaseError(SensorhubError):
    """Raised when an image cannot be packed, or image and manifest do not belong together."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest.

    Attributes:
        raw: the signed order.
        audience: whom it is for, `urn:dev:sensorhub:<site>:<node>:` with `*` for any.
        version: of the image.
        size: of the image, bytes.
        sha256: of the image.
        url: where nodes fetch it.
        expires: Unix seconds until which a node begins it; None for ever.
    """

    raw: bytes
    audience: str
    version: str
    size: int
    sha256: bytes
    url: str
    expires: int | None

    @property
    def image_name(self) -> str:
        """Last part of the URL's path."""
        return urlsplit(self.url).path.rpartition("/")[2]

    def is_for(self, site: str, node: str) -> bool:
        """Whether this node takes it."""
        return self.audience in (address(None, None), address(site, None), address(site, node))

    def check_image(self, image: bytes) -> None:
        """Raises ReleaseError when this is not the image that was signed."""
        if len(image) != self.size or hashlib.sha256(image).digest() != self.sha256:
            raise ReleaseError(
                f"this image has {len(image)} bytes and SHA-256 {hashlib.sha256(image).hexdigest()}; "
                f"the manifest is for {self.size} bytes and {self.sha256.hex()}"
            )


def read_manifest(raw: bytes, release_key: bytes) -> Manifest:
    """Checks a manifest as a node does.

    Raises:
        OrderError: it is no update order signed by this key.
    """
    order = open_order(raw, release_key)
    content: Mapping[int, Any] = order.content
    if order.content_type != UPDATE_TYPE:
        raise OrderError("this is a configuration, not the manifest of an update")
    return Manifest(raw, content[0], content[2], content[5], content[6], content[7], content.get(9))


def read_image(source: Path) -> tuple[bytes, str | None]:
    """An image and the version it says it has (None when it does not say).

    Args:
        source: a directory that is or holds `sensornode`, which is packed; or a file, taken as it is.

    Raises:
        ReleaseError: there is no application there.
    """
    try:
        if source.is_dir():
            package = source if source.name == PACKAGE else source / PACKAGE
            return pack(package), _version(package / "__init__.py")
        return source.read_bytes(), None
    except OSError as error:
        raise ReleaseError(f"{error.filename or source} cannot be read: {error.strerror}") from error


def pack(package: Path) -> bytes:
    """The ustar archive of an application directory; the same bytes for the same files.

    Raises:
        ReleaseError: it holds no application, or a name that nodes do not take.
        OSError: a file cannot be read.
    """
    if not any((package / f"__init__{ending}").exists() for ending in (".py", ".mpy")):
        raise ReleaseError(f"{package} is no application: it has no __init__.py")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(package.rglob("*")):
            if not path.is_file() or path.suffix in _LEFT_OUT or "__pycache__" in path.parts:
                continue
            parts = (PACKAGE, *path.relative_to(package).parts)
            if len(parts) > 4 or not all(map(_PART.fullmatch, parts)):
                raise ReleaseError(
                    f"{path}: nodes take names of letters, digits and _-. at most three levels deep"
                )
            member = tarfile.TarInfo("/".join(parts))
            content = path.read_bytes()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def keep_image(data_dir: Path, manifest: Manifest, image: bytes) -> Path:
    """Puts an image where the page's process serves it.

    Raises:
        ReleaseError: it is not the manifest's, or its URL has no name that can be served.
    """
    manifest.check_image(image)
    if not IMAGE_NAME.fullmatch(manifest.image_name):
        raise ReleaseError(f"the URL {manifest.url} does not end with the name of a file")
    path = data_dir / RELEASES / manifest.image_name
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(image)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ReleaseError(f"{path} cannot be written: {error.strerror}") from error
    return path


def fetch_image(manifest: Manifest) -> None:
    """Fetches the image as a node will.

    Raises:
        ReleaseError: it is not there, or another one.
    """
    try:
        # http or https only: sign_update and every node see to it
        with urllib.request.urlopen(manifest.url, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310
            image = answer.read(MAX_IMAGE + 1)
    except urllib.error.HTTPError as error:
        remedy = (
            "; list the name of that URL in web.hosts" if error.code == HTTPStatus.MISDIRECTED_REQUEST else ""
        )
        raise ReleaseError(f"nodes would not find the image: {manifest.url}: {error}{remedy}") from error
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ReleaseError(f"nodes would not find the image: {manifest.url}: {reason}") from error
    manifest.check_image(image)


def _version(init: Path) -> str | None:
    try:
        tree = ast.parse(init.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return None
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__":
            return str(ast.literal_eval(statement.value))
    return None


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that must not exist yet.

    Raises:
        OSError: it exists, or cannot be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        file.write(content)
