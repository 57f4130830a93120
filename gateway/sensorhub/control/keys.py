"""The two keys that nodes obey: the site's, for configuration and pictures, and the release key, for updates.

They are secp256k1 keys like those of the nodes, so that a node needs one kind of arithmetic. A node knows only the
public halves (`keys.site`, `keys.release` of its node.json); whoever has a secret half can configure the site's nodes,
or put firmware on every node that trusts it. The release key belongs on another machine than the gateway.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Final

from coincurve import PrivateKey, PublicKey

from sensorhub.errors import SensorhubError
from sensorhub.wire import public_key_of

SITE_KEY: Final = "keys/site.key"
"""In the data directory: the site's secret key, made on first use."""
RELEASE_KEY: Final = "keys/release.pub"
"""In the data directory: the public release key that the site's nodes are given, 128 hexadecimal digits."""

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_PUBLIC_HEX: Final = re.compile(r"[0-9a-f]{128}")


class ControlKeyError(SensorhubError):
    """Raised when a key file cannot be read or made."""


def load_key(path: Path) -> PrivateKey:
    """Reads a key: 64 hexadecimal digits in a file that only its owner can read.

    Raises:
        ControlKeyError: the file is missing, unreadable, open to others, or holds no key.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ControlKeyError(f"key file {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ControlKeyError(f"key file {path} can be read by others; run: chmod 600 {path}")
    if not _HEX.fullmatch(text):
        raise ControlKeyError(f"key file {path} must hold 64 hexadecimal digits")
    try:
        return PrivateKey(bytes.fromhex(text))
    except ValueError as error:
        raise ControlKeyError(f"key file {path} holds a number that is no secp256k1 key") from error


def load_or_create_key(path: Path) -> PrivateKey:
    """Reads a key, or makes a random one in a new file of mode 0600, durable before this returns.

    Raises:
        ControlKeyError: see `load_key`; or the file cannot be written.
    """
    if path.exists():
        return load_key(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(PrivateKey().to_hex().rjust(64, "0") + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename, never replaces a key somebody else made meanwhile
        temporary.unlink()
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ControlKeyError(f"key file {path} cannot be made: {error.strerror}") from error
    return load_key(path)


def parse_public_key(text: str) -> bytes:
    """A public key of a node or of one of the two, 64 bytes x, y, from 128 hexadecimal digits.

    Raises:
        ControlKeyError: it is none.
    """
    if not _PUBLIC_HEX.fullmatch(text.strip()):
        raise ControlKeyError("a public key is 128 hexadecimal digits: x, then y")
    public = bytes.fromhex(text)
    try:
        PublicKey(b"\x04" + public)
    except ValueError as error:
        raise ControlKeyError("this public key is no point of secp256k1") from error
    return public


def release_key(data_dir: Path) -> bytes | None:
    """The public release key that the gateway knows, or None.

    Raises:
        ControlKeyError: its file is unreadable or holds no key.
    """
    path = data_dir / RELEASE_KEY
    try:
        return parse_public_key(path.read_text(encoding="ascii", errors="replace"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ControlKeyError(f"key file {path} cannot be read: {error.strerror}") from error


def trust_release_key(data_dir: Path, public: bytes) -> Path:
    """Has the gateway give this public release key to nodes, and take manifests of it; returns its file.

    Raises:
        ControlKeyError: the file cannot be written.
    """
    path = data_dir / RELEASE_KEY
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(public.hex() + "\n", encoding="ascii")
        temporary.replace(path)
    except OSError as error:
        raise ControlKeyError(f"key file {path} cannot be written: {error.strerror}") from error
    return path


def node_keys(data_dir: Path) -> dict[str, str]:
    """What goes into a node's `keys`: `site`, its key made on first use, and `release` when the gateway knows one.

    Raises:
        ControlKeyError: a key file is unreadable or holds no key.
    """
    keys = {"site": public_key_of(load_or_create_key(data_dir / SITE_KEY)).hex()}
    release = release_key(data_dir)
    return keys if release is None else keys | {"release": release.hex()}
