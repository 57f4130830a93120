"""Canonical JSON: one text for one value, so that no byte of a file is free to change.

The form is what `JSON.stringify(value, null, 2)` of ECMAScript gives, followed by one line feed, with the
members in the order of the format's table. Python's `json.dumps(indent=2, ensure_ascii=False)` writes the
same for the types allowed here: objects, arrays, strings, integers up to 2**53 - 1, true, false and null.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from sensorhub.chain.untrusted import depth
from sensorhub.verify.errors import VerifyError

MAX_INTEGER: Final = 2**53 - 1
"""Largest integer that every JSON reader keeps exact (RFC 8259, section 6)."""
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""Largest proof or manifest that is read: about 60 entries of the largest size with their paths."""
MAX_DEPTH: Final = 8
"""Deepest nesting that is read; no format of this project needs more than five."""
DIGEST: Final = "digest"
"""Last member of a sealed object: SHA-256 (hex) of the canonical text of the object without it."""

T = TypeVar("T")


def dump(value: Any) -> bytes:
    """The canonical text of a value, UTF-8 with a final line feed."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def seal(members: dict[str, Any]) -> dict[str, Any]:
    """The same object with its digest as last member.

    The digest tells an accident (a flipped bit, a truncated copy) from a whole file. It is no signature:
    whoever changes a file on purpose can write a new one.
    """
    body = {key: value for key, value in members.items() if key != DIGEST}
    return {**body, DIGEST: hashlib.sha256(dump(body)).hexdigest()}


def load(data: bytes) -> dict[str, Any]:
    """Reads canonical JSON whose top is an object.

    Raises:
        VerifyError: not UTF-8, not JSON, a repeated member, a float or an integer above MAX_INTEGER,
            nested too deep, too large, or not in canonical form (naming the first differing byte).
    """
    if len(data) > MAX_FILE_BYTES:
        raise VerifyError("", f"{len(data)} bytes; the largest file that is read has {MAX_FILE_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise VerifyError("", f"byte {error.start} is not UTF-8") from error
    if depth(text, most=MAX_DEPTH) > MAX_DEPTH:
        raise VerifyError("", f"nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            text, object_pairs_hook=_members, parse_float=_refuse_number, parse_constant=_refuse_number
        )
    except json.JSONDecodeError as error:
        raise VerifyError(
            "", f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except ValueError as error:  # an integer with thousands of digits
        raise VerifyError("", f"not a number that fits: {error}") from error
    if not isinstance(value, dict):
        raise VerifyError("", "the top is not a JSON object")
    again = _dump_checked(value)
    if again != data:
        offset = next(
            (i for i, (a, b) in enumerate(zip(again, data, strict=False)) if a != b),
            min(len(again), len(data)),
        )
        line = data.count(b"\n", 0, offset) + 1
        raise VerifyError("", f"not in canonical form from byte {offset} (line {line}) on")
    return value


def _dump_checked(value: Any) -> bytes:
    try:
        return dump(value)
    except UnicodeEncodeError as error:  # a lone surrogate written as \ud800
        raise VerifyError("", "a string holds half of a surrogate pair") from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise VerifyError(key, "the member is written twice")
        members[key] = value
    return members


def _refuse_number(text: str) -> NoReturn:
    raise VerifyError("", f"{text} is not an integer")


class Members:
    """The members of one JSON object, read strictly: each exactly once, none left over.

    Args:
        value: what `load` gave.
        where: path of the object for messages, empty for the top.

    Raises:
        VerifyError: from every method, naming the member.
    """

    def __init__(self, value: Any, where: str = "") -> None:
        if not isinstance(value, dict):
            raise VerifyError(where, "not a JSON object")
        self._left = dict(value)
        self._misplaced: str | None = None
        self.where = where

    def at(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def raw(self, name: str) -> Any:
        """A member as it is; members are asked for in the order of the format."""
        if name not in self._left:
            raise VerifyError(self.at(name), "the member is missing")
        if next(iter(self._left)) != name and self._misplaced is None:
            self._misplaced = name
        return self._left.pop(name)

    def done(self) -> None:
        """Refuses members that nobody asked for, or in another order."""
        for name in self._left:
            raise VerifyError(self.at(name), "not a member of this format")
        if self._misplaced is not None:
            raise VerifyError(self.at(self._misplaced), "not in its place: the order of the members is fixed")

    def optional(self, name: str, read: Callable[[Any, str], T]) -> T | None:
        """A member that may be null (but not missing)."""
        value = self.raw(name)
        return None if value is None else read(value, self.at(name))

    def array(self, name: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
        value = self.raw(name)
        if not isinstance(value, list):
            raise VerifyError(self.at(name), "not a JSON array")
        return tuple(read(item, f"{self.at(name)}[{position}]") for position, item in enumerate(value))

    def read(self, name: str, read: Callable[[Any, str], T]) -> T:
        return read(self.raw(name), self.at(name))

    def text(self, name: str) -> str:
        return self.read(name, text)

    def uint(self, name: str) -> int:
        return self.read(name, uint)


def text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise VerifyError(where, "not a string")
    return value


def uint(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
        raise VerifyError(where, f"not an integer from 0 to {MAX_INTEGER}")
    return value


def integer(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
        raise VerifyError(where, f"not an integer of at most {MAX_INTEGER} either way")
    return value


def boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise VerifyError(where, "not true or false")
    return value


def names(value: Any, where: str) -> tuple[str, ...]:
    """An array of different strings in ascending order."""
    if not isinstance(value, list):
        raise VerifyError(where, "not a JSON array")
    found = tuple(text(item, f"{where}[{position}]") for position, item in enumerate(value))
    if list(found) != sorted(set(found)):
        raise VerifyError(where, "not in ascending order, or a name twice")
    return found


def base64_bytes(value: Any, where: str) -> bytes:
    """Standard base64 with padding (RFC 4648, section 4), unused bits zero."""
    try:
        data = base64.b64decode(text(value, where), validate=True)
    except (binascii.Error, ValueError) as error:
        raise VerifyError(where, f"not base64: {error}") from error
    if base64.b64encode(data).decode() != value:
        raise VerifyError(where, "not canonical base64")
    return data


def hash_base64(value: Any, where: str) -> bytes:
    """A SHA-256 hash in base64."""
    data = base64_bytes(value, where)
    if len(data) != hashlib.sha256().digest_size:
        raise VerifyError(where, f"{len(data)} bytes, a SHA-256 hash has 32")
    return data


def hex_bytes(length: int, *, prefix: str = "0x") -> Callable[[Any, str], bytes]:
    """Reader of lower-case hex of exactly `length` bytes, after `prefix`."""

    def read(value: Any, where: str) -> bytes:
        digits = text(value, where).removeprefix(prefix)
        if len(digits) != 2 * length or prefix + digits != value or set(digits) - set("0123456789abcdef"):
            raise VerifyError(where, f"not {prefix}{'..' if prefix else ''} lower-case hex of {length} bytes")
        return bytes.fromhex(digits)

    return read


address = hex_bytes(20)
bytes32 = hex_bytes(32)
sha256_hex = hex_bytes(32, prefix="")


def check_format(members: Members, expected: str) -> None:
    """Reads the member `format`.

    Raises:
        VerifyError: another format or version.
    """
    found = members.text("format")
    if found != expected:
        raise VerifyError("format", f"{found!r}; this verifier reads {expected!r}")


def digest_holds(value: dict[str, Any]) -> bool:
    """Whether the digest of a sealed object fits its other members."""
    return bool(seal(value)[DIGEST] == value.get(DIGEST))


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def to_hex(data: bytes) -> str:
    return "0x" + data.hex()
