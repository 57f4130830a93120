"""What comes from outside, made harmless: JSON of bounded size and depth, numbers, and text that a terminal may show.

Pure and light, so that the verifier may import it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any, Final

MAX_DEPTH: Final = 32
"""Deepest nesting of JSON that is read; an RPC answer nests five deep, a traced one a few more."""
MAX_SHOWN: Final = 300
"""Characters of foreign text that an error repeats."""

_TOKEN: Final = re.compile(r'"(?:[^"\\]+|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""A string, also one that never ends, or a bracket. Possessive: no input makes it go back."""
_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that are escaped: control and format (bidi among them) characters, surrogates, private use,
separators of lines and paragraphs."""


class UntrustedError(ValueError):
    """Raised when bytes from outside are not what they should be; the text says how, and repeats none of them."""


def depth(text: str, *, most: int = MAX_DEPTH) -> int:
    """Deepest nesting of brackets outside of strings, without recursion; stops one above `most`."""
    now = deepest = 0
    for token in _TOKEN.finditer(text):
        bracket = token.group() if token.end() - token.start() == 1 else ""
        if bracket in ("[", "{"):
            now += 1
            deepest = max(deepest, now)
            if deepest > most:
                break
        elif bracket in ("]", "}"):
            now -= 1
    return deepest


def load_json(data: bytes, *, most_bytes: int, most_depth: int = MAX_DEPTH) -> Any:
    """Decodes JSON (UTF-8) after looking at its size and nesting, which a decoder pays for with its stack.

    Raises:
        UntrustedError: too large, too deep, or no JSON.
    """
    if len(data) > most_bytes:
        raise UntrustedError(f"more than {most_bytes} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise UntrustedError("no JSON") from None
    if depth(text, most=most_depth) > most_depth:
        raise UntrustedError(f"JSON nested deeper than {most_depth} levels")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # ValueError: also an integer of thousands of digits
        raise UntrustedError("no JSON") from None


def _no_constant(name: str) -> Any:
    raise UntrustedError(f"{name} is no JSON")


def quantity(value: Any) -> int:
    """A number as JSON-RPC writes it: 0x and at most 64 hex digits, no sign, no underscore.

    Leading zeros are let through: some servers pad.

    Raises:
        UntrustedError: anything else.
    """
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise UntrustedError("no hex number")
    return int(value, 16)


def printable(text: str) -> str:
    """The text with everything escaped that could move a cursor, change colours, or reorder what is read."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char) in _UNSAFE else char for char in text)


def shown(text: object, most: int = MAX_SHOWN) -> str:
    """Foreign text for an error message: printable, and cut."""
    whole = str(text)
    return printable(whole[:most]) + (" ..." if len(whole) > most else "")


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
