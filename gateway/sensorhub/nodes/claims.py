"""One-time claims: the secret that lets one new node enrol under one name.

The file keeps only the SHA-256 of a claim, so reading it does not let anyone enrol. It is shared by the
command line, which adds claims, and the ingest process, which spends them: every change is made under a
file lock and replaces the file atomically.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from sensorhub.errors import SensorhubError
from sensorhub.nodes import geohash as geohashes
from sensorhub.wire import NAME_PATTERN

CLAIM_BYTES: Final = 16


class ClaimError(SensorhubError):
    """Raised when a claim cannot be made or its file cannot be used."""


class Claim(msgspec.Struct, frozen=True):
    """One claim that waits for its node.

    Attributes:
        node: name the node will have.
        kind: sort of node, empty to take what the node says of itself.
        sha256: hex SHA-256 of the claim.
        owner: hex account address (40 digits) that will own the data, or None.
        geohash: five characters, or empty.
        created_ms: Unix milliseconds.
    """

    node: str
    kind: str
    sha256: str
    owner: str | None
    geohash: str
    created_ms: int

    @property
    def owner_bytes(self) -> bytes | None:
        """The owner's 20-byte address, or None."""
        return bytes.fromhex(self.owner) if self.owner is not None else None


class Claims:
    """The claims file of a gateway.

    Args:
        path: `claims.json` in the data directory; made at the first `add`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(
        self,
        node: str,
        kind: str = "",
        claim: bytes | None = None,
        owner: bytes | None = None,
        geohash: str = "",
        *,
        replace: bool = False,
    ) -> bytes:
        """Makes a claim for a node name and returns its bytes, which are kept nowhere.

        A name may have several claims; each works once. With `replace`, those that wait end.

        Raises:
            ClaimError: bad name, owner or geohash, or the file cannot be written.
        """
        if NAME_PATTERN.fullmatch(node) is None:
            raise ClaimError(f"node name {node!r}: use 1 to 32 of a-z, 0-9 and '-', not starting with '-'")
        if owner is not None and len(owner) != 20:
            raise ClaimError(f"the owner of {node!r} has {len(owner)} bytes; an account address has 20")
        if geohash and not geohashes.is_valid(geohash):
            raise ClaimError(
                f"geohash {geohash!r} of {node!r} must have exactly {geohashes.PRECISION} characters"
            )
        if claim is None:
            claim = secrets.token_bytes(CLAIM_BYTES)
        elif len(claim) != CLAIM_BYTES:
            raise ClaimError(f"the claim for {node!r} has {len(claim)} bytes, not {CLAIM_BYTES}")
        made = Claim(
            node=node,
            kind=kind,
            sha256=hashlib.sha256(claim).hexdigest(),
            owner=owner.hex() if owner is not None else None,
            geohash=geohash,
            created_ms=time.time_ns() // 1_000_000,
        )
        with self._locked():
            kept = [waiting for waiting in self._read() if not (replace and waiting.node == node)]
            self._write([*kept, made])
        return claim

    def find(self, node: str, claim: bytes) -> Claim | None:
        """The waiting claim for this node that matches, left in place; None when there is none."""
        digest = hashlib.sha256(claim).hexdigest()
        for waiting in self._read():
            if waiting.node == node and hmac.compare_digest(waiting.sha256, digest):
                return waiting
        return None

    def redeem(self, node: str, claim: bytes) -> Claim | None:
        """Spends a claim: takes it out of the file and returns it; None when it is not there."""
        digest = hashlib.sha256(claim).hexdigest()
        with self._locked():
            claims = self._read()
            for position, waiting in enumerate(claims):
                if waiting.node == node and hmac.compare_digest(waiting.sha256, digest):
                    del claims[position]
                    self._write(claims)
                    return waiting
        return None

    def waiting(self) -> tuple[Claim, ...]:
        """All claims not yet spent."""
        return tuple(self._read())

    def _read(self) -> list[Claim]:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=list[Claim])
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ClaimError(f"{self.path} is damaged ({error}); move it away and make new claims") from error

    def _write(self, claims: list[Claim]) -> None:
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(claims), indent=1))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ClaimError(f"cannot write {self.path}: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_suffix(".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ClaimError(f"cannot lock {lock}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
