"""Making a node known to its gateway: its name, kind, owner and place, and the one-time claim that lets it enrol.

Four ways, chosen by what is at hand:

- `Local`: the gateway's data directory is on this computer.
- `Remote`: its API, with a token.
- `Carried`: a file that is carried to the gateway, authenticated with the token's key, and taken in there by `tools/flash register`.
- `Claimed`: a file that `sensorhub nodes add` has made on the gateway; nothing is left to register.

The claim and the MQTT password are made here, and registered after the board is written: a board that failed leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from flashing.exits import Exit, FlashError
from flashing.node_json import Identity
from flashing.private import write_private
from sensorhub.errors import SensorhubError
from sensorhub.ingest.users import Users
from sensorhub.log.entries import Genesis, decode_entry
from sensorhub.log.reader import LogReader
from sensorhub.nodes.claims import CLAIM_BYTES, Claims

FORMAT: Final = "sensorhub-enrol/1"
TIMEOUT_S: Final = 10.0
_CONTEXT: Final = b"sensorhub enrolment file, version 1"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the gateway is to know before the node's first announce.

    Attributes:
        identity: name, claim and password.
        kind: sort of node.
        owner: account address on the chain (20 bytes), or None.
        place: geohash of five characters, or empty.
    """

    identity: Identity
    kind: str
    owner: bytes | None = None
    place: str = ""

    def record(self) -> dict[str, Any]:
        """As JSON; holds the claim and the password."""
        return {
            "site": self.identity.site,
            "node": self.identity.name,
            "kind": self.kind,
            "owner": "0x" + self.owner.hex() if self.owner is not None else None,
            "place": self.place,
            "claim": (self.identity.claim or b"").hex(),
            "mqtt_password": self.identity.password,
        }


class Registrar(Protocol):
    """A way to register."""

    def register(self, enrolment: Enrolment) -> str:
        """Registers; returns a line for people. Raises FlashError."""


def new_identity(site: str, name: str, password: str = "") -> Identity:
    """A name with a fresh claim, and a fresh password when none is given."""
    return Identity(
        site,
        name,
        secrets.token_bytes(CLAIM_BYTES),
        user=name,
        password=password or secrets.token_urlsafe(16),
    )


def check_names(site: str, name: str) -> None:
    """Raises FlashError when a name cannot be one."""
    from sensorhub.wire import NAME_PATTERN

    for what, value in (("site", site), ("name", name)):
        if NAME_PATTERN.fullmatch(value) is None:
            raise FlashError(
                Exit.SETTINGS,
                f"--{what} {value!r} is no name",
                "Use 1 to 32 of a-z, 0-9 and '-', not '-' first.",
            )


def parse_owner(text: str) -> bytes | None:
    """An account address, or None for an empty text. Raises FlashError."""
    if not text:
        return None
    try:
        owner = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        owner = b""
    if len(owner) != 20:
        raise FlashError(
            Exit.SETTINGS, f"{text!r} is no account address", "Give 0x and 40 hexadecimal digits."
        )
    return owner


@dataclass(frozen=True, slots=True)
class Local:
    """A gateway whose data directory is here."""

    data_dir: Path

    def check_site(self, site: str) -> None:
        """Raises FlashError when the gateway serves another site."""
        if not self.data_dir.is_dir():
            raise FlashError(
                Exit.CLAIM, f"there is no data directory {self.data_dir}", "Correct --gateway-dir."
            )
        served = site_of(self.data_dir)
        if served and served != site:
            raise FlashError(
                Exit.CLAIM,
                f"the gateway at {self.data_dir} serves the site {served!r}, not {site!r}",
                f"Say --site {served}.",
            )

    def register(self, enrolment: Enrolment) -> str:
        identity = enrolment.identity
        try:
            Claims(self.data_dir / "claims.json").add(
                identity.name, enrolment.kind, identity.claim, enrolment.owner, enrolment.place
            )
            Users.of(self.data_dir).add(identity.name, identity.password)
        except SensorhubError as error:
            raise FlashError(Exit.CLAIM, str(error), "Correct what the gateway refuses.") from None
        return f"claim and MQTT user in {self.data_dir}"


def site_of(data_dir: Path) -> str:
    """Site of the log in a data directory; empty when it has not begun."""
    with LogReader(data_dir / "log") as log:
        if log.size() == 0:
            return ""
        first = decode_entry(log.entry(0))
    return first.site if isinstance(first, Genesis) else ""


@dataclass(frozen=True, slots=True)
class Remote:
    """A gateway behind its API: POST /api/v1/nodes with the token as bearer.

    The body is what `Enrolment.record` gives; 201 says that it was taken, 401 and 403 that the token is not, 409 and 422 that
    the gateway refuses, with the reason under `error`.
    """

    url: str
    token: str = field(repr=False)

    def register(self, enrolment: Enrolment) -> str:
        body = json.dumps(enrolment.record()).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked where the URL comes in
            f"{self.url}/api/v1/nodes", body, headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
                return f"taken by {self.url}"
        except urllib.error.HTTPError as error:
            said = _said(error)
            if error.code in (401, 403):
                raise FlashError(Exit.REFUSED, f"{self.url} refuses the token{said}") from None
            if error.code in (404, 405):
                raise FlashError(
                    Exit.REFUSED,
                    f"{self.url} enrols no nodes over its API",
                    "Run sensorhub nodes add NAME on the gateway and give the file with --claim.",
                ) from None
            raise FlashError(
                Exit.CLAIM, f"{self.url} refuses the node{said}", "Correct what the gateway refuses."
            ) from None
        except (urllib.error.URLError, OSError) as error:
            raise FlashError(Exit.UNREACHABLE, f"{self.url} does not answer: {error}") from None


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return f": {json.loads(error.read(65_536))['error']}"
    except (ValueError, KeyError, TypeError, OSError):
        return f" ({error.code})"


@dataclass(frozen=True, slots=True)
class Carried:
    """A file for a gateway that cannot be reached from here; it holds the claim and the password, mode 0600."""

    path: Path
    token: str = field(repr=False)

    def register(self, enrolment: Enrolment) -> str:
        record = {"format": FORMAT, **enrolment.record()}
        record["mac"] = _mac(record, self.token)
        try:
            write_private(self.path, json.dumps(record, indent=1).encode())
        except OSError as error:
            raise FlashError(Exit.SETTINGS, f"{self.path} cannot be written: {error.strerror}") from None
        return f"{self.path} to carry to the gateway: tools/flash register {self.path.name}"


def take_in(path: Path, token: str) -> Enrolment:
    """An enrolment that was carried here, its authenticity checked.

    Raises:
        FlashError: it cannot be read, is no such file, or another token made it.
    """
    try:
        record = json.loads(path.read_bytes())
        mac = str(record.pop("mac"))
        if record["format"] != FORMAT:
            raise ValueError(record["format"])
        owner = parse_owner(record["owner"] or "")
        claim = bytes.fromhex(record["claim"])
        identity = Identity(
            str(record["site"]), str(record["node"]), claim, str(record["node"]), str(record["mqtt_password"])
        )
        found = Enrolment(identity, str(record["kind"]), owner, str(record["place"]))
    except OSError as error:
        raise FlashError(Exit.CLAIM, f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FlashError(Exit.CLAIM, f"{path} is no enrolment file") from None
    if not hmac.compare_digest(mac, _mac(record, token)):
        raise FlashError(Exit.REFUSED, f"{path} was not made with this gateway's token, or was changed")
    check_names(identity.site, identity.name)
    return found


def _mac(record: dict[str, Any], token: str) -> str:
    key = hmac.digest(token.encode(), _CONTEXT, "sha256")
    text = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(key, text, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that the gateway has made; `identity` and `kind` are its content."""

    path: Path
    identity: Identity
    kind: str

    @classmethod
    def load(cls, path: Path) -> Claimed:
        """The file that `sensorhub nodes add` has written.

        Raises:
            FlashError: it cannot be read, or is none.
        """
        try:
            record = json.loads(path.read_bytes())
            name = str(record["node"])
            identity = Identity(
                str(record["site"]),
                name,
                bytes.fromhex(record["claim"]),
                str(record.get("mqtt_user", name)),
                str(record.get("mqtt_password", "")),
            )
            return cls(path, identity, str(record.get("kind", "")))
        except OSError as error:
            raise FlashError(Exit.CLAIM, f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FlashError(Exit.CLAIM, f"{path} is no claim file") from None

    def register(self, enrolment: Enrolment) -> str:
        """Nothing to do."""
        return f"{enrolment.identity.name} was registered when {self.path} was made"
