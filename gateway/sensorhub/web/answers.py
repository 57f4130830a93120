"""How answers are made: JSON, compressed where it pays, with an ETag; errors as JSON; headers of every answer."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import ETag, hdrs, web

from sensorhub.errors import SensorhubError
from sensorhub.log.errors import LogDamagedError
from sensorhub.web.gateway import UnavailableError
from sensorhub.web.parameters import ParameterError, UnknownError, shown

logger = logging.getLogger(__name__)

#: Bytes from which compression is worth its time; below it an answer fits into one packet anyway.
WORTH_PACKING: Final = 1400
#: Bytes from which it is done in a thread, so that other answers do not wait for it.
_LONG: Final = 32_768
_LEVEL: Final = 5
#: Seconds after which a client may ask again for what is not there yet.
RETRY_AFTER: Final = 1

HEADERS: Final = {
    # The page loads nothing from anywhere else, runs no inline script or style, and is framed by nobody.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "sensorhub",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def packs(request: web.Request) -> bool:
    """Whether the client takes gzip."""
    for part in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            weight = quality.strip().removeprefix("q=").rstrip("0").rstrip(".")
            return not (quality.strip() and weight == "")
    return False


def pack(body: bytes) -> bytes:
    """`body` as gzip, the same bytes each time."""
    return gzip.compress(body, _LEVEL, mtime=0)


def tag_of(body: bytes) -> str:
    """The ETag of a body: any change of it changes the tag."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def unchanged(request: web.Request, tag: str) -> bool:
    """Whether the client already has what has this tag."""
    known = request.if_none_match
    return known is not None and any(each.value in (tag, "*") for each in known)


def send(
    request: web.Request,
    body: bytes,
    packed: bytes | None,
    *,
    content_type: str,
    tag: str,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A body that the client keeps and asks about again: 304 when it has it already.

    Args:
        packed: the same as gzip; None when that does not pay.
    """
    if unchanged(request, tag):
        response = web.Response(status=304)
    elif packed is not None and packs(request):
        response = web.Response(body=packed, headers={hdrs.CONTENT_ENCODING: "gzip"})
    else:
        response = web.Response(body=body)
    if response.status == 200:
        response.headers[hdrs.CONTENT_TYPE] = content_type
    response.headers.update(headers or {})
    response.headers[hdrs.CACHE_CONTROL] = "no-cache"
    response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    response.etag = ETag(tag, is_weak=True)
    return response


async def answer(request: web.Request, body: Any) -> web.Response:
    """`body` as JSON; what is not a finite number becomes null, which JSON has and NaN it has not."""
    return await answer_document(request, msgspec.json.encode(body))


async def answer_document(
    request: web.Request, document: bytes, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON document, byte for byte as it is given."""
    packed = None
    if len(document) >= WORTH_PACKING and packs(request):
        packed = pack(document) if len(document) < _LONG else await asyncio.to_thread(pack, document)
    return send(
        request, document, packed, content_type="application/json", tag=tag_of(document), headers=headers
    )


def refusal(status: int, text: str, **more: Any) -> web.Response:
    """An error as JSON, `{"error": text, ...}`; never kept by caches."""
    response = web.Response(
        body=msgspec.json.encode({"error": text, **more}), status=status, content_type="application/json"
    )
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    if status == 503:
        response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER)
    return response


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever a handler raises into an answer that says why."""
    try:
        return await handler(request)
    except ParameterError as error:
        return refusal(400, str(error), parameter=error.parameter, value=error.value, allowed=error.allowed)
    except UnknownError as error:
        return refusal(404, str(error))
    except UnavailableError as error:
        return refusal(503, str(error))
    except LogDamagedError as error:
        logger.error("%s", error)
        return refusal(500, str(error))
    except SensorhubError as error:
        return refusal(422, str(error))
    except web.HTTPException as error:
        return _plain(request, error)
    except Exception:
        logger.exception("%s %s failed", request.method, shown(request.path))
        return refusal(500, "this should not have happened; the gateway's log says more")


def _plain(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals: no such path, no such method, a request too large."""
    if error.status == 404:
        return refusal(
            404, f"there is nothing at {shown(request.path)}; the page is at /, the API at /api/v1/"
        )
    response = refusal(error.status, error.reason)
    if isinstance(error, web.HTTPMethodNotAllowed):
        response = refusal(405, f"{shown(error.method)} is not possible: everything here is only read")
        response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    return response


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: puts `HEADERS` on every answer."""
    response.headers.update(HEADERS)
