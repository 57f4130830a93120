"""The gateway's account on the chain: one secp256k1 key in one file."""

from __future__ import annotations

import os
from pathlib import Path

import coincurve

from sensorhub.chain.errors import ChainError


def load(path: Path) -> coincurve.PrivateKey:
    """Reads a private key: 64 hex digits, with or without 0x, and nothing else.

    Raises:
        ChainError: the file is missing, readable by others, or holds no key. The text never shows the key.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise ChainError(f"cannot read the chain key {path}: {error}") from error
    if mode & 0o077:
        raise ChainError(f"the chain key {path} can be read by other users: chmod 600 {path}")
    try:
        return coincurve.PrivateKey(bytes.fromhex(text.removeprefix("0x").rjust(64, "-")))
    except ValueError:
        raise ChainError(f"{path} does not hold a private key of 64 hex digits") from None


def load_or_create(path: Path) -> coincurve.PrivateKey:
    """Reads the key, or makes a random one in a new file of mode 0600, durable before this returns.

    Raises:
        ChainError: as `load`, or the file cannot be written.
    """
    if path.exists():
        return load(path)
    key = coincurve.PrivateKey()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.to_hex().rjust(64, "0") + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link and not a rename: when two processes make the key at once, the first one's stays.
            os.link(temporary, path)
        except FileExistsError:
            return load(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ChainError(f"cannot write the chain key {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return key
