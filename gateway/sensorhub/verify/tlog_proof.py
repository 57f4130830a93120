"""C2SP `tlog-proof` text: one inclusion proof that any transparency-log client can check.

Format: https://c2sp.org/tlog-proof. It says only **logged**: no node key, no verdict, no chain. This
project puts the entry itself into the `extra` line, so that a file is enough; the format leaves the
content of that line to the application.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from sensorhub.verify.canonical import MAX_FILE_BYTES, MAX_INTEGER
from sensorhub.verify.errors import VerifyError

HEADER: Final = "c2sp.org/tlog-proof@v1"
SUFFIX: Final = ".tlog-proof"
"""File name ending that the specification asks for."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A C2SP tlog-proof.

    Attributes:
        index: zero-based index of the entry.
        path: inclusion proof, 32 bytes each, from the leaf's sibling upwards.
        checkpoint: signed note, verbatim, ending in a line feed.
        extra: opaque bytes; here the entry. None when the line is left out.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None


def format_tlog_proof(proof: TlogProof) -> bytes:
    """The text of a tlog-proof."""
    lines = [HEADER]
    if proof.extra is not None:
        lines.append(f"extra {_encode(proof.extra)}")
    lines.append(f"index {proof.index}")
    lines += [_encode(item) for item in proof.path]
    return ("\n".join(lines) + "\n\n" + proof.checkpoint).encode()


def parse_tlog_proof(data: bytes) -> TlogProof:
    """Reads a tlog-proof.

    Raises:
        VerifyError: not exactly the format; names the line.
    """
    if len(data) > MAX_FILE_BYTES:
        raise VerifyError("", f"{len(data)} bytes; the largest file that is read has {MAX_FILE_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise VerifyError("", f"byte {error.start} is not UTF-8") from error
    head, blank, checkpoint = text.partition("\n\n")
    if not blank:
        raise VerifyError("", "no empty line between the proof and the checkpoint")
    lines = head.split("\n")
    if lines[0] != HEADER:
        raise VerifyError("line 1", f"not {HEADER!r}")
    at = 1
    extra = None
    if at < len(lines) and lines[at].startswith("extra "):
        extra = _decode(lines[at].removeprefix("extra "), at + 1)
        at += 1
    if at >= len(lines) or not lines[at].startswith("index "):
        raise VerifyError(f"line {at + 1}", "'index <number>' expected")
    digits = lines[at].removeprefix("index ")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > len(str(MAX_INTEGER)):
        raise VerifyError(f"line {at + 1}", "the index is not a decimal number")
    if str(int(digits)) != digits:
        raise VerifyError(f"line {at + 1}", "the index has leading zeroes")
    path = []
    for number, line in enumerate(lines[at + 1 :], start=at + 2):
        item = _decode(line, number)
        if len(item) != 32:
            raise VerifyError(f"line {number}", f"{len(item)} bytes, a SHA-256 hash has 32")
        path.append(item)
    return TlogProof(int(digits), tuple(path), checkpoint, extra)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str, line: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise VerifyError(f"line {line}", f"not base64: {error}") from error
    if _encode(data) != text:
        raise VerifyError(f"line {line}", "not canonical base64")
    return data
