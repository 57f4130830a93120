"""Making a node known to its gateway: its name, kind, owner and place, and the one-time claim that lets it enrol.

Four ways, chosen by what is at hand:

- `Local`: the gateway's data directory is on this computer.
- `Remote`: its API, with a token.
- `Carried`: a file that is carried to the gateway, authenticated with the token's key, and taken in there by `tools/flash register`.
- `Claimed`: a file that `sensorhub nodes add` has made on the gateway; nothing is left to register.

The claim and the MQTT password are made here, and registered after the board is written: a board that failed leaves nothing behind.
Before that the gateway is asked what would keep it from taking the node (`prepare`), so that no board is written in vain.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Protocol

from flashing.exits import Exit, FlashError
from flashing.node_json import Identity
from flashing.private import write_private
from sensorhub.control.keys import node_keys
from sensorhub.errors import SensorhubError
from sensorhub.ingest.admission import Admissions
from sensorhub.log.entries import Genesis, decode_entry
from sensorhub.log.reader import LogReader
from sensorhub.nodes.claims import CLAIM_BYTES

FORMAT: Final = "sensorhub-enrol/1"
KEYS: Final = ("site", "release")
TIMEOUT_S: Final = 10.0
_MOST: Final = 65_536
_CONTEXT: Final = b"sensorhub enrolment file, version 1"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the gateway is to know before the node's first announce.

    Attributes:
        identity: name, claim and password.
        kind: sort of node.
        owner: account address on the chain (20 bytes), or None.
        place: geohash of five characters, or empty.
        replace: whether it takes the place of a node of this name.
    """

    identity: Identity
    kind: str
    owner: bytes | None = None
    place: str = ""
    replace: bool = False

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
            "replace": self.replace,
        }


class Registrar(Protocol):
    """A way to register."""

    def prepare(self, enrolment: Enrolment) -> Mapping[str, str]:
        """The public keys that the site's nodes obey, `site` and `release` to hexadecimal digits, as far as they are known.

        Raises:
            FlashError: the gateway would not take the node.
        """

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

    def prepare(self, enrolment: Enrolment) -> Mapping[str, str]:
        identity = enrolment.identity
        self.check_site(identity.site)
        try:
            if not enrolment.replace and Admissions(self.data_dir).knows(identity.name):
                raise _taken(identity.name)
            return node_keys(self.data_dir)
        except SensorhubError as error:
            raise FlashError(Exit.CLAIM, str(error), "Correct what the gateway refuses.") from None

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
            Admissions(self.data_dir).admit(
                identity.name,
                enrolment.kind,
                claim=identity.claim or b"",
                password=identity.password,
                owner=enrolment.owner,
                place=enrolment.place,
                replace=enrolment.replace,
            )
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever answers elsewhere must not get the token."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Remote:
    """A gateway behind its API, with the token as bearer: gateway/sensorhub/web/README.md, "Enrolling nodes"."""

    url: str
    token: str = field(repr=False)

    def prepare(self, enrolment: Enrolment) -> Mapping[str, str]:
        identity = enrolment.identity
        said = self._ask("GET", f"/api/v1/enrolment?node={identity.name}", None)
        if said.get("site") != identity.site:
            raise FlashError(
                Exit.CLAIM,
                f"the gateway at {self.url} serves the site {said.get('site')!r}, not {identity.site!r}",
                f"Say --site {said.get('site')}.",
            )
        if said.get("taken") and not enrolment.replace:
            raise _taken(identity.name)
        return {name: str(said[f"{name}_key"]) for name in KEYS if f"{name}_key" in said}

    def register(self, enrolment: Enrolment) -> str:
        said = self._ask("POST", "/api/v1/nodes", enrolment.record())
        if not said.get("mqtt_user", True):
            return f"taken by {self.url}, whose broker is not its own: make the user {enrolment.identity.name} there"
        return f"taken by {self.url}"

    def _ask(self, method: str, path: str, record: Mapping[str, Any] | None) -> dict[str, Any]:
        body = None if record is None else json.dumps(record).encode()
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
            request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310 - http(s), see cli
            opener = urllib.request.build_opener(_NoRedirect)
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                said = json.loads(answer.read(_MOST))
                if not isinstance(said, dict):
                    raise ValueError("no object")
                return said
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, HTTPException) as error:
            raise FlashError(Exit.UNREACHABLE, f"{self.url} does not answer: {error}") from None
        except ValueError:
            # also what a token that cannot be sent amounts to, so its words are not repeated
            raise FlashError(
                Exit.UNREACHABLE,
                f"{self.url} does not answer like a gateway",
                "Correct --gateway or the token.",
            ) from None

    def _refusal(self, error: urllib.error.HTTPError) -> FlashError:
        said = _said(error)
        if error.code in (401, 403):
            return FlashError(Exit.REFUSED, f"{self.url} refuses the token{said}")
        if error.code == 429:
            return FlashError(
                Exit.REFUSED, f"{self.url} answers no more{said}", "Wait a minute, then give the right token."
            )
        if error.code in (404, 405):
            return FlashError(
                Exit.REFUSED,
                f"{self.url} enrols no nodes over its API",
                "Set web.enrol_token_file there, or run sensorhub nodes add NAME there and give its file with --claim.",
            )
        if error.code == 421:
            return FlashError(
                Exit.UNREACHABLE,
                f"{self.url} reaches a gateway that is not called so{said}",
                "Name it with --gateway by its IP address, or as it is called.",
            )
        if 300 <= error.code < 400:
            return FlashError(
                Exit.UNREACHABLE, f"{self.url} is somewhere else now", "Name its new address with --gateway."
            )
        if error.code >= 500:
            return FlashError(
                Exit.UNREACHABLE, f"{self.url} cannot do it now{said}", "Try again in a moment."
            )
        if error.code == 409:
            return FlashError(Exit.NAME_TAKEN, f"{self.url} refuses the node{said}")
        return FlashError(
            Exit.CLAIM, f"{self.url} refuses the node{said}", "Correct what the gateway refuses."
        )


def _taken(name: str) -> FlashError:
    return FlashError(Exit.NAME_TAKEN, f"the gateway has a node {name!r} already, or waits for one")


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return f": {json.loads(error.read(_MOST))['error']}"
    except (ValueError, KeyError, TypeError, OSError):
        return f" ({error.code})"


@dataclass(frozen=True, slots=True)
class Carried:
    """A file for a gateway that cannot be reached from here; it holds the claim and the password, mode 0600."""

    path: Path
    token: str = field(repr=False)

    def prepare(self, enrolment: Enrolment) -> Mapping[str, str]:  # noqa: ARG002
        """Nothing is known of a gateway that is out of reach."""
        return {}

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
        found = Enrolment(
            identity, str(record["kind"]), owner, str(record["place"]), bool(record.get("replace", False))
        )
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
    """A claim that the gateway has made; `identity`, `kind` and `keys` are its content."""

    path: Path
    identity: Identity
    kind: str
    keys: Mapping[str, str] = field(default_factory=dict)

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
            keys = {name: str(record["keys"][name]) for name in KEYS if name in record.get("keys", {})}
            return cls(path, identity, str(record.get("kind", "")), keys)
        except OSError as error:
            raise FlashError(Exit.CLAIM, f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FlashError(Exit.CLAIM, f"{path} is no claim file") from None

    def prepare(self, enrolment: Enrolment) -> Mapping[str, str]:  # noqa: ARG002
        """The gateway has taken the node already."""
        return self.keys

    def register(self, enrolment: Enrolment) -> str:
        """Nothing to do."""
        return f"{enrolment.identity.name} was registered when {self.path} was made"
