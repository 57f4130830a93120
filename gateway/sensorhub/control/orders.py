"""Orders: what a node carries out because of who signed it (the maps are in README.md).

An order is a COSE_Sign1 message with ES256K. Its content type stands in the protected header, so a configuration never
passes as an update, whatever the keys.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from coincurve import PrivateKey

from sensorhub.errors import SensorhubError
from sensorhub.wire import PublicKeyCache, cbor, kid, public_key_of, sig_structure
from sensorhub.wire.keys import sign_digest
from sensorhub.wire.topics import NAME_PATTERN

CONFIG_TYPE: Final = "application/sensorhub-config+cbor"
UPDATE_TYPE: Final = "application/sensorhub-update+cbor"
MAX_ORDER_BYTES: Final = 2048
"""Whole message; what a node's receive buffer has room for."""
MAX_NUMBER: Final = 2**31 - 1
MAX_EXPIRY: Final = 2**36
"""Unix seconds, the year 4147; milliseconds of our days are above it."""
FORMS: Final = frozenset({"files", "app"})
REMOTE: Final = frozenset({"interval", "publish", "sensors", "ntp", "sleep", "broker"})
"""What a signed configuration may set; the firmware has the same list."""
REMOTE_BROKER: Final = frozenset({"host", "port", "keepalive", "retry", "receipt"})
_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "interval": (1, 86_400),
    "publish": (1, 86_400),
    "broker.port": (1, 65_535),
    "broker.keepalive": (5, 3_600),
    "broker.retry": (1, 3_600),
    "broker.receipt": (1, 600),
}
MAX_HOST: Final = 253

_ALGORITHM, _CONTENT_TYPE, _KID = 1, 3, 4
_ES256K: Final = -47
_VERSION: Final = re.compile(r"(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})")
_keys: Final = PublicKeyCache()


class OrderError(SensorhubError):
    """Raised when an order cannot be made, or bytes are not an order of this key."""


@dataclass(frozen=True, slots=True)
class Order:
    """A checked order.

    Attributes:
        content_type: `CONFIG_TYPE` or `UPDATE_TYPE`.
        content: the payload's map by its integer keys.
    """

    content_type: str
    content: Mapping[int, Any]


def address(site: str | None, node: str | None) -> str:
    """Name of who an order is for: one node, all of a site (`node` None), or every node (both None).

    Raises:
        OrderError: a name is not permitted, or a node is named without its site.
    """
    if site is None and node is not None:
        raise OrderError("an order for one node needs the node's site")
    for name in (site, node):
        if name is not None and not NAME_PATTERN.fullmatch(name):
            raise OrderError(f"{name!r} is no site or node name: a-z, 0-9 and -, at most 32 characters")
    return f"urn:dev:sensorhub:{site or '*'}:{node or '*'}:"


def check_settings(settings: Mapping[str, Any]) -> None:
    """Looks at remote settings as a node will, as far as that goes without the rest of its node.json.

    Raises:
        OrderError: one cannot be set remotely, or has a value that no node takes; names it.
    """
    for name, value in settings.items():
        if name not in REMOTE:
            raise OrderError(
                f"setting {name!r} cannot be set remotely; possible: {', '.join(sorted(REMOTE))}"
            )
        _check_setting(name, value)
    interval, publish = settings.get("interval"), settings.get("publish")
    if interval is not None and publish is not None and publish % interval:
        raise OrderError(f"publish {publish} must be a multiple of interval {interval}")


def _check_setting(name: str, value: Any) -> None:
    if name in _RANGES:
        low, high = _RANGES[name]
        if type(value) is not int or not low <= value <= high:
            raise OrderError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    elif name == "broker":
        if not isinstance(value, Mapping) or not REMOTE_BROKER.issuperset(value):
            raise OrderError(f"of broker only these can be set remotely: {', '.join(sorted(REMOTE_BROKER))}")
        for key, part in value.items():
            _check_setting(f"broker.{key}", part)
    elif name == "broker.host":
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_HOST:
            raise OrderError(f"broker.host must be text of 1 to {MAX_HOST} characters, not {value!r}")
    elif name == "sleep":
        if type(value) is not bool:
            raise OrderError(f"sleep must be true or false, not {value!r}")
    elif name == "ntp":
        if not isinstance(value, list) or not all(isinstance(host, str) for host in value):
            raise OrderError(f"ntp must be a list of host names, not {value!r}")
    elif not isinstance(value, list) or not all(
        isinstance(row, Mapping) and isinstance(row.get("driver"), str) for row in value
    ):
        raise OrderError("sensors must be a list of objects, each with the name of its driver")


def change_settings(
    settings: Mapping[str, Any], assignments: Iterable[str], unset: Iterable[str]
) -> dict[str, Any]:
    """Remote settings with some of them changed.

    Args:
        settings: those before.
        assignments: `key=value`, the key with a point for a part of broker, the value as JSON, or text.
        unset: keys that go back to what the node's own file says.

    Raises:
        OrderError: not of this form, or `check_settings` refuses the result.
    """
    changed: dict[str, Any] = json.loads(json.dumps(settings))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise OrderError(f"{assignment!r} is not of the form key=value, such as interval=60")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        section, point, name = key.partition(".")
        if point:
            table = changed.setdefault(section, {})
            if not isinstance(table, dict):
                raise OrderError(f"{section} has no part {name}")
            table[name] = value
        else:
            changed[key] = value
    for key in unset:
        section, point, name = key.partition(".")
        table = changed.get(section, {}) if point else changed
        if not isinstance(table, dict) or (name if point else key) not in table:
            raise OrderError(f"{key} is not set remotely")
        del table[name if point else key]
        if point and not table:
            del changed[section]
    check_settings(changed)
    return changed


def sign_config(
    key: PrivateKey,
    *,
    site: str,
    node: str | None,
    version: int,
    settings: Mapping[str, Any],
    firmware: str = "0.0.0",
    expires: int | None = None,
) -> bytes:
    """Signs a configuration: the complete set of remote settings, in place of every earlier one.

    Args:
        key: the site's key.
        site: name of the site.
        node: name of the node, or None for all of the site.
        version: 1 to 2**31 - 1; nodes take higher ones only.
        settings: keys of node.json that may be set remotely (`REMOTE`), as JSON would hold them; empty for none.
        firmware: lowest firmware version that understands it.
        expires: Unix seconds after which a node that knows the time does not begin it any more; None for never. One that
            is in effect stays in effect.

    Raises:
        OrderError: a setting is not for remote use, a value is out of range, or the message is too long.
    """
    check_settings(settings)
    content = {
        0: address(site, node),
        1: _number(version, "version"),
        2: _version(firmware),
        3: settings,
        4: _expiry(expires),
    }
    return _sign(key, CONFIG_TYPE, content)


def sign_update(
    key: PrivateKey,
    *,
    site: str | None,
    node: str | None,
    sequence: int,
    version: str,
    minimum: str,
    form: str,
    image: bytes,
    url: str,
    board: str | None = None,
    expires: int | None = None,
) -> bytes:
    """Signs the manifest of an application image.

    Args:
        key: the release key.
        site: name of the site, or None for every site.
        node: name of the node, or None for all.
        sequence: 1 to 2**31 - 1; nodes take higher ones only.
        version: the image's version, "1.2.3".
        minimum: once the image has proved itself, the node takes nothing below this version any more.
        form: "files" (ustar archive of the directory `sensornode`) or "app" (ESP32 application image).
        image: the image itself; the manifest holds its size and SHA-256.
        url: where nodes fetch it, http or https.
        board: beginning of the name of the hardware it is for, or None for any.
        expires: as for a configuration.

    Raises:
        OrderError: a value is out of range, or the message is too long.
    """
    if form not in FORMS:
        raise OrderError(f"form {form!r} must be 'files' or 'app'")
    if form == "app" and not board:
        raise OrderError("an application image runs on one kind of board only: name it")
    if _triple(version) < _triple(minimum):
        raise OrderError(f"version {version} is below the minimum {minimum} that it sets itself")
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not url.isascii()
        or not url.isprintable()
    ):
        raise OrderError(f"url {url!r} must be http:// or https:// and ASCII")
    if " " in url:
        raise OrderError(f"url {url!r} must not hold spaces")
    content = {
        0: address(site, node),
        1: _number(sequence, "sequence"),
        2: _version(version),
        3: _version(minimum),
        4: form,
        5: _number(len(image), "size of the image"),
        6: hashlib.sha256(image).digest(),
        7: url,
        8: board,
        9: _expiry(expires),
    }
    return _sign(key, UPDATE_TYPE, content)


def open_order(raw: bytes, public_key: bytes) -> Order:
    """Checks an order as a node does: form, key, signature.

    Raises:
        OrderError: it is not an order signed by this key.
    """
    try:
        if raw[:1] != b"\xd2":
            raise ValueError("not a COSE_Sign1 message")
        match cbor.decode(raw[1:]):
            case [bytes(protected), {**unprotected}, bytes(payload), bytes(signature)] if not unprotected:
                header = cbor.decode(protected)
                content = cbor.decode(payload)
            case _:
                raise ValueError("not a COSE_Sign1 message")
    except ValueError as error:
        raise OrderError(f"this is not an order: {error}") from error
    content_type = header.get(_CONTENT_TYPE) if isinstance(header, dict) else None
    if content_type not in (CONFIG_TYPE, UPDATE_TYPE) or protected != _header(public_key, content_type):
        raise OrderError("this order has another key, algorithm or content type")
    if not isinstance(content, dict):
        raise OrderError("this is not an order")
    digest = hashlib.sha256(sig_structure(protected, payload)).digest()
    if not _keys.verify(public_key, digest, signature):
        raise OrderError("the signature of this order is wrong")
    return Order(content_type, content)


def _header(public_key: bytes, content_type: str) -> bytes:
    return cbor.encode({_ALGORITHM: _ES256K, _CONTENT_TYPE: content_type, _KID: kid(public_key)})


def _sign(key: PrivateKey, content_type: str, content: Mapping[int, Any]) -> bytes:
    try:
        payload = cbor.encode(dict(content))
    except (ValueError, TypeError, OverflowError) as error:
        raise OrderError(f"a setting has a value that nodes cannot read: {error}") from error
    protected = _header(public_key_of(key), content_type)
    digest = hashlib.sha256(sig_structure(protected, payload)).digest()
    raw = b"\xd2" + cbor.encode([protected, {}, payload, sign_digest(key, digest)])
    if len(raw) > MAX_ORDER_BYTES:
        raise OrderError(f"the order has {len(raw)} bytes; nodes take at most {MAX_ORDER_BYTES}")
    return raw


def _number(value: int, what: str) -> int:
    if not 1 <= value <= MAX_NUMBER:
        raise OrderError(f"{what} {value} must be from 1 to {MAX_NUMBER}")
    return value


def _expiry(value: int | None) -> int | None:
    if value is not None and not 0 < value < MAX_EXPIRY:
        raise OrderError(f"an order cannot expire at {value}: Unix seconds are wanted")
    return value


def _triple(text: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(text)
    numbers = tuple(int(part) for part in match.groups()) if match else ()
    if not numbers or max(numbers) > 1023:
        raise OrderError(f"version {text!r} must be three numbers up to 1023, such as 1.2.3")
    return numbers


def _version(text: str) -> str:
    _triple(text)
    return text
