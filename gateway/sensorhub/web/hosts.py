"""Which names this gateway answers to, so that no web site can reach it through a visitor's browser.

A site may let its own name point to 127.0.0.1 or to the gateway's address after its page has loaded (DNS rebinding);
the browser then takes both for one origin and lets the page read what the gateway answers. The request still carries
the site's name in `Host` (RFC 9110, section 7.2), so a name that nobody gave this gateway is answered with 421
(section 15.5.20). An address cannot be rebound: a page that has one in its own URL came from there.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final

from aiohttp import hdrs, web

from sensorhub.web.answers import Handler, refusal
from sensorhub.web.parameters import shown

#: `uri-host [":" port]` of RFC 9110, section 7.2, without percent-encoding, which no name of a host has.
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?", re.ASCII)
_ORIGIN: Final = re.compile(r"https?://(.+)", re.ASCII)
#: Methods that change nothing (RFC 9110, section 9.2.1) and that this application answers.
_SAFE: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


def own_names(hostname: str) -> frozenset[str]:
    """What others call a machine of this name: the name itself, its first label, and that in the `.local` of mDNS."""
    name = _plain(hostname)
    label = name.partition(".")[0]
    return frozenset({name, label, f"{label}.local"}) if label else frozenset()


class Hosts:
    """Looks at `Host`, and at `Origin` where something may change, before anything else does.

    Args:
        names: names that the gateway answers to beside addresses, `localhost` and the machine's own; exact, in any case,
            with any port.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._given = frozenset(name for name in map(_plain, names) if not _is_safe(name))
        self._names = self._given | own_names(socket.gethostname())

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Lets only those requests through that are meant for this gateway."""
        hosts = request.headers.getall(hdrs.HOST, [])
        try:
            # of the request's target when that is a whole URL: then it counts, and not the header (RFC 9112, section 3.2.2)
            name = _plain(request.url.host or "")
        except ValueError:
            name = ""
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]) or not name:
            return refusal(400, "one Host header with a name or an address is needed (RFC 9112, section 3.2)")
        if not self._answers_to(name):
            # which names would do is not said: whoever asks may be the site that must not know
            return refusal(
                421,
                f"this gateway does not answer to the name {shown(name)!r}: ask it by its IP address or by its host name, "
                "or list the name in its setting web.hosts (SENSORHUB_WEB_HOSTS) and start it again",
            )
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and request.method not in _SAFE and not self._may_change(origin, hosts[0]):
            return refusal(
                403, f"pages of {shown(origin)} may change nothing here; only the gateway's own may"
            )
        return await handler(request)

    def _answers_to(self, name: str) -> bool:
        return name in self._names or _is_safe(name)

    def _may_change(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` is the gateway's own; browsers say so with each request that is no plain reading.

        A proxy may put a `Host` of its own into requests, so names that were given are taken too.
        """
        told = _ORIGIN.fullmatch(origin)
        found = told and _HOST.fullmatch(told[1])
        return bool(told and found and (told[1].lower() == host.lower() or _plain(found[1]) in self._given))


def _plain(name: str) -> str:
    """A name as it is compared: a dot at its end says only that it is complete (RFC 1034, section 3.1)."""
    return name.lower().removesuffix(".")


def _is_safe(name: str) -> bool:
    """Whether no name server decides where it points to: an address, or `localhost` (RFC 6761, section 6.3)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return True
