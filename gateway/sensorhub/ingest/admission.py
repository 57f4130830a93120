"""Making a node known before it announces itself: a one-time claim and an MQTT user, written together.

Any process may do so: both files are changed under a file lock and replaced whole, and the ingest process and its broker
look at them anew when they change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sensorhub.errors import SensorhubError
from sensorhub.ingest.users import Users
from sensorhub.nodes.claims import Claims

KIND_MOST: Final = 64
PASSWORD_LEAST: Final = 12
PASSWORD_MOST: Final = 128


class AdmissionError(SensorhubError):
    """Raised when a node cannot be made known; says what is wrong with it."""


class Admissions:
    """The claims and MQTT users of a gateway.

    Args:
        data_dir: the gateway's data directory.
        embedded: whether its broker is the embedded one, whose users are here.
    """

    def __init__(self, data_dir: Path, *, embedded: bool = True) -> None:
        self._claims = Claims(data_dir / "claims.json")
        self._users = Users.of(data_dir) if embedded else None

    @property
    def makes_users(self) -> bool:
        """Whether an MQTT user is made too."""
        return self._users is not None

    def knows(self, node: str) -> bool:
        """Whether a claim waits for this name, or a user has it."""
        has_user = self._users is not None and node in self._users.names()
        return has_user or any(claim.node == node for claim in self._claims.waiting())

    def admit(
        self,
        node: str,
        kind: str,
        *,
        claim: bytes,
        password: str,
        owner: bytes | None = None,
        place: str = "",
        replace: bool = False,
    ) -> None:
        """Makes claim and user, or neither.

        Args:
            node: name of the node.
            kind: sort of node, at most 64 characters; empty to take what the node says of itself.
            claim: 16 bytes that it will show once.
            password: MQTT password, 12 to 128 printable ASCII characters; not used with a broker of the site's own.
            owner: account address on the chain (20 bytes), or None.
            place: geohash of five characters, or empty.
            replace: also when the name is known; a former password or waiting claim ends with this, a former key with the node's announce.

        Raises:
            AdmissionError: the name is known, or something of it is not allowed.
            SensorhubError: name, owner, place or claim are malformed, or a file cannot be written.
        """
        if len(kind) > KIND_MOST or not kind.isprintable():
            raise AdmissionError(f"the kind of {node!r} must be at most {KIND_MOST} printable characters")
        if self._users is not None and not (
            PASSWORD_LEAST <= len(password) <= PASSWORD_MOST and password.isascii() and password.isprintable()
        ):
            raise AdmissionError(
                f"the MQTT password of {node!r} must have {PASSWORD_LEAST} to {PASSWORD_MOST} printable ASCII characters"
            )
        if not replace and self.knows(node):
            raise AdmissionError(f"there is a node {node!r} already: choose another name, or replace it")
        self._claims.add(node, kind, claim, owner, place, replace=replace)
        if self._users is not None:
            try:
                self._users.add(node, password)
            except SensorhubError:
                self._claims.redeem(node, claim)
                raise
