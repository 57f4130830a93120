"""MQTT users of the embedded broker: a password file in mosquitto's own format, written without mosquitto.

Format of a line: `name:$7$<iterations>$<salt, base64>$<hash, base64>` with PBKDF2-HMAC-SHA512, a salt of
12 bytes and a hash of 64 (mosquitto-passwd(1), since 2.0). Passwords appear in no argument list and no log.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sensorhub.errors import SensorhubError
from sensorhub.wire import NAME_PATTERN

GATEWAY: Final = "_gateway"
"""The user of the gateway's intake; the underscore keeps it out of the space of node names."""
CONTROL: Final = "_control"
"""The user of the gateway's control process."""
HOME: Final = "_home"
"""Home Assistant's user."""
RESERVED: Final = frozenset({GATEWAY, CONTROL, HOME})
ITERATIONS: Final = 1_000
"""Passwords made here carry 128 bits, so stretching adds nothing; a check blocks the broker for 0.5 ms."""
SALT_BYTES: Final = 12
PASSWORD_BYTES: Final = 16


class UserError(SensorhubError):
    """Raised when a broker user cannot be made or the password file cannot be used."""


def hash_password(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """The `$7$` hash of a password; a fresh salt when none is given."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"$7${iterations}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def check_password(password: str, hashed: str) -> bool:
    """Whether `hashed` is the `$7$` hash of `password`; False for a malformed hash."""
    try:
        empty, scheme, iterations, salt, digest = hashed.split("$")
        if empty or scheme != "7":
            return False
        expected = base64.b64decode(digest, validate=True)
        found = hashlib.pbkdf2_hmac(
            "sha512", password.encode(), base64.b64decode(salt, validate=True), int(iterations)
        )
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(found, expected)


class Users:
    """The password file; safe to change from several processes.

    The embedded broker looks at the file's time once a second and has the broker read it again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, data_dir: Path) -> Users:
        """The users of the embedded broker of a gateway's data directory."""
        return cls(data_dir / "broker" / "passwords")

    def names(self) -> tuple[str, ...]:
        """Names of all node users, sorted."""
        return tuple(sorted(name for name in self.read() if name not in RESERVED))

    def add(self, name: str, password: str | None = None) -> str:
        """Adds or replaces a user; returns the password, a random one when none is given.

        Raises:
            UserError: the name is no node name, or the file cannot be written.
        """
        if name not in RESERVED and NAME_PATTERN.fullmatch(name) is None:
            raise UserError(f"user name {name!r}: use 1 to 32 of a-z, 0-9 and '-', not starting with '-'")
        if password is None:
            password = secrets.token_urlsafe(PASSWORD_BYTES)
        hashed = hash_password(password)
        self._change(lambda users: users.__setitem__(name, hashed))
        return password

    def remove(self, name: str) -> None:
        """Removes a user; one that is not there is no error."""
        self._change(lambda users: users.pop(name, None))

    def read(self) -> dict[str, str]:
        """Name to hash; empty when there is no file yet."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def _change(self, change: Callable[[dict[str, str]], object]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            users = self.read()
            change(users)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(f"{name}:{hashed}\n" for name, hashed in sorted(users.items()))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        finally:
            os.close(lock)
