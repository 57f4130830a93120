"""Web addresses as a person gives them, taken apart so that no secret in them is ever shown."""

from __future__ import annotations

import base64
import urllib.parse
import urllib.request
from dataclasses import dataclass, field

from sensorhub.addresses import authority
from sensorhub.verify.errors import VerifyError


@dataclass(frozen=True, slots=True)
class Address:
    """An `http` or `https` address.

    Attributes:
        url: without user name and password; path and query may still hold an access key.
        shown: scheme, host and port: what may be told.
        authorization: value of the header that carries user name and password (RFC 7617); empty without.
    """

    url: str = field(repr=False)
    shown: str
    authorization: str = field(repr=False)

    def request(self, path: str = "", **options: object) -> urllib.request.Request:
        """A request for `path` below the address; the password does not follow redirects."""
        request = urllib.request.Request(self.url + path, **options)  # type: ignore[arg-type]  # noqa: S310 - parse
        if self.authorization:
            request.add_unredirected_header("Authorization", self.authorization)
        return request


def parse_address(given: str, option: str) -> Address:
    """Takes an address apart.

    Args:
        given: the address.
        option: what to call it in errors, which do not repeat it.

    Raises:
        VerifyError: it is none, or of another scheme than http and https.
    """
    try:
        parts = urllib.parse.urlsplit(given)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    plain = given.isascii() and given.isprintable() and " " not in given
    if not host or parts.scheme not in ("http", "https") or not plain:
        raise VerifyError(option, "an address that begins with http:// or https:// is needed")
    where = authority(host, port)
    authorization = ""
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    bare = urllib.parse.urlunsplit((parts.scheme, where, parts.path, parts.query, ""))
    return Address(bare, f"{parts.scheme}://{where}", authorization)
