"""One GET over HTTP/1.0 (RFC 1945), in pieces: small enough for a node, with an end to every wait.

1.0, because then the answer is never chunked and ends with the connection.
"""

import asyncio

from micropython import const

from .aside import address

_REDIRECTS = const(3)
_LINE = const(1024)


class HttpError(OSError):
    """Raised when the server's answer is none or not the document."""


def split(url):
    """(secure, host, port, path) of an http or https URL. Raises ValueError."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise ValueError("url must begin with http:// or https://")
    place, slash, path = rest.partition("/")
    host, _, port = place.partition(":")
    secure = scheme == "https"
    return secure, host, int(port or (443 if secure else 80)), slash + path or "/"


class Download:
    """A document that is being fetched.

    :param tls: SSL context for https, or None: then https is refused rather than left unchecked.
    :param timeout: seconds without a byte.

    Attributes: `length` as the server says it, or None.
    """

    def __init__(self, tls=None, timeout=20):
        self._tls = tls
        self._timeout = timeout
        self._writer = None
        self.length = None

    async def open(self, url):
        """Ask for a document, and follow redirections to it. Raises OSError, asyncio.TimeoutError or ValueError."""
        for _ in range(_REDIRECTS + 1):
            status, location = await self._ask(url)
            if status == 200:
                return
            await self.close()
            if status not in (301, 302, 303, 307, 308) or "://" not in location:
                raise HttpError("server answers %d" % status)
            url = location
        raise HttpError("too many redirections")

    async def _ask(self, url):
        secure, host, port, path = split(url)
        options = {}
        if secure:
            if not self._tls:
                raise HttpError("https needs broker.ca")
            options = {"ssl": self._tls, "server_hostname": host}
        opening = asyncio.open_connection(await address(host, port), port, **options)
        self._reader, self._writer = await asyncio.wait_for(opening, self._timeout)
        head = "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: sensornode\r\nConnection: close\r\n\r\n" % (
            path,
            host,
        )
        try:
            self._writer.write(head.encode())
            await asyncio.wait_for(self._writer.drain(), self._timeout)
        except ValueError as error:  # how MicroPython's TLS refuses a certificate
            raise HttpError(str(error).strip())
        words = (await self._line()).split(None, 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise HttpError("no HTTP server")
        location = ""
        self.length = None
        for _ in range(64):
            line = await self._line()
            if not line:
                return int(words[1]), location
            name, _, value = line.partition(":")
            name = name.lower()
            if name == "content-length" and value.strip().isdigit():
                self.length = int(value)
            elif name == "location":
                location = value.strip()
        raise HttpError("no end of the header")

    async def _line(self):
        line = await asyncio.wait_for(self._reader.readline(), self._timeout)
        if not line or len(line) > _LINE:
            raise HttpError("no HTTP header")
        return "".join(chr(byte) for byte in line).strip()

    async def read(self, most):
        """Up to `most` bytes of the document, b"" at its end."""
        return await asyncio.wait_for(self._reader.read(most), self._timeout)

    async def close(self):
        writer, self._writer = self._writer, None
        if writer:
            writer.close()
            try:
                await asyncio.wait_for(writer.wait_closed(), self._timeout)
            except (OSError, asyncio.TimeoutError):
                pass
