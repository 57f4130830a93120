"""Making nodes known over HTTP: the one part of this room that changes something, and only for who has the token.

There is no such endpoint unless the gateway has a token. Token, claims and passwords are in no answer and no log.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Protocol

import msgspec
from aiohttp import hdrs, web

from sensorhub.errors import SensorhubError
from sensorhub.web.answers import answer, refusal
from sensorhub.web.gateway import Gateway
from sensorhub.web.parameters import Query

logger = logging.getLogger(__name__)

TOKEN_LEAST: Final = 16
LARGEST: Final = 4096
BODY_S: Final = 10.0
FAILURES: Final = 10
"""Wrong tokens that one address may show in `FORGET_S`; then it has to wait, and its tokens are not looked at."""
FORGET_S: Final = 60.0
_ADDRESSES: Final = 1024

_Hex = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]*$")]


class Admissions(Protocol):
    """Where nodes are made known."""

    @property
    def makes_users(self) -> bool:
        """Whether an MQTT user is made too."""

    def knows(self, node: str) -> bool:
        """Whether the name is waited for already."""

    def admit(
        self,
        node: str,
        kind: str,
        *,
        claim: bytes,
        password: str,
        owner: bytes | None,
        place: str,
        replace: bool,
    ) -> None:
        """Makes the node known. Raises SensorhubError when something of it is not allowed."""


@dataclass(frozen=True, slots=True)
class Enrolling:
    """What `Enrolment` needs.

    Attributes:
        token: what a client has to show, at least 16 characters.
        admissions: where nodes are made known.
        keys: gives the public keys that the site's nodes obey, by name (`site`, `release`), 128 hexadecimal digits each;
            asked each time, because a release key may be trusted while this runs. Raises SensorhubError when it cannot.
    """

    token: str = field(repr=False)
    admissions: Admissions
    keys: Callable[[], Mapping[str, str]]

    def __post_init__(self) -> None:
        if len(self.token) < TOKEN_LEAST or not self.token.isascii() or not self.token.isprintable():
            raise SensorhubError(
                f"web.enrol_token must have at least {TOKEN_LEAST} printable ASCII characters; make one with: "
                "openssl rand -hex 16"
            )


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON object of a request."""

    site: str
    node: str
    kind: str
    claim: _Hex
    mqtt_password: str = ""
    owner: str | None = None
    place: str = ""
    replace: bool = False


class Guard:
    """Looks at tokens, and no more at those of an address that has shown too many wrong ones.

    Args:
        token: the right one.
        clock: monotonic seconds.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        # digests have one length, so comparing them tells nothing of the token's
        self._digest = hashlib.sha256(token.encode()).digest()
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def refuse(self, request: web.Request) -> web.Response | None:
        """The answer to who may not; None for who may."""
        address, now = request.remote or "", self._clock()
        recent = [when for when in self._failures.get(address, ()) if now - when < FORGET_S]
        if len(recent) >= FAILURES:
            response = refusal(429, "too many wrong tokens: wait a minute")
            response.headers[hdrs.RETRY_AFTER] = str(int(FORGET_S))
            return response
        scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not shown:
            response = refusal(401, "a token is needed: Authorization: Bearer TOKEN")
            response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
            return response
        digest = hashlib.sha256(shown.strip().encode("utf-8", "surrogateescape")).digest()
        if hmac.compare_digest(digest, self._digest):
            return None
        self._failures[address] = [*recent, now]
        self._failures.move_to_end(address)
        while len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)
        logger.warning("enrolment over HTTP: a wrong token from %s", address)
        return refusal(403, "this is not the token")


class Enrolment:
    """The handlers.

    Args:
        gateway: what is known of site and nodes.
        enrolling: token, and where nodes are made known.
    """

    def __init__(self, gateway: Gateway, enrolling: Enrolling) -> None:
        self._gateway = gateway
        self._admissions = enrolling.admissions
        self._keys = enrolling.keys
        self._guard = Guard(enrolling.token)
        self._adding = asyncio.Lock()

    async def look(self, request: web.Request) -> web.Response:
        """What a tool wants to know before it writes to a board: the site, the keys its nodes obey, whether a name is taken."""
        refused = self._guard.refuse(request)
        if refused is not None:
            return refused
        node = Query(request, ("node",)).node("node")
        taken = await asyncio.to_thread(self._taken, node)
        site = await asyncio.to_thread(self._site)
        return await answer(request, {**site, "node": node, "taken": taken})

    async def add(self, request: web.Request) -> web.Response:
        """Makes a node known."""
        refused = self._guard.refuse(request)
        if refused is not None:
            return refused
        Query(request, ())
        try:
            async with asyncio.timeout(BODY_S):
                raw = await _limited(request)
        except TimeoutError:
            return refusal(408, f"the body did not arrive within {BODY_S:.0f} s")
        if raw is None:
            return refusal(413, f"the body may have {LARGEST} bytes at most")
        try:
            body = msgspec.json.decode(raw, type=_Body)
            claim = bytes.fromhex(body.claim)
            owner = None if not body.owner else bytes.fromhex(body.owner.removeprefix("0x"))
        except msgspec.MsgspecError as error:
            return refusal(422, f"the body is not as it should be: {error}")  # names fields, quotes no value
        except ValueError:
            return refusal(422, "claim and owner are hexadecimal digits, two for each byte")
        site = self._gateway.genesis.site
        if body.site != site:
            return refusal(422, f"this is the gateway of the site {site!r}")
        told = await asyncio.to_thread(self._site)
        async with self._adding:
            if not body.replace and await asyncio.to_thread(self._taken, body.node):
                return refusal(
                    409, f"there is a node {body.node!r} already: choose another name, or replace it"
                )
            await asyncio.to_thread(
                lambda: self._admissions.admit(
                    body.node,
                    body.kind,
                    claim=claim,
                    password=body.mqtt_password,
                    owner=owner,
                    place=body.place,
                    replace=body.replace,
                )
            )
        logger.info("node %s (%s) made known over HTTP from %s", body.node, body.kind, request.remote)
        made = {**told, "node": body.node, "mqtt_user": self._admissions.makes_users}
        return web.Response(
            body=msgspec.json.encode(made),
            status=201,
            content_type="application/json",
            headers={hdrs.CACHE_CONTROL: "no-store"},
        )

    def _site(self) -> dict[str, Any]:
        keys = {f"{name}_key": key for name, key in self._keys().items()}
        return {"site": self._gateway.genesis.site, **keys}

    def _taken(self, node: str) -> bool:
        if self._admissions.knows(node):
            return True
        known = self._gateway.ask(lambda store: store.nodes())
        return any(row["node"] == node and not row["revoked"] for row in known)


async def _limited(request: web.Request) -> bytes | None:
    """The body, or None when it is too large."""
    raw = b""
    while chunk := await request.content.read(LARGEST + 1 - len(raw)):
        raw += chunk
        if len(raw) > LARGEST:
            return None
    return raw
