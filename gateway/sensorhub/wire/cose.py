"""The signed message: COSE_Sign1 (RFC 9052, section 4.2) with ES256K (RFC 8812) and one fixed header profile.

Acceptance is by pattern: one regular expression describes every byte of the header that is not free, which
is both faster and stricter than decoding and then comparing. What the pattern does not match is decoded
slowly, by rules, which finds the reason (and also accepts the rare valid forms the pattern leaves out).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from coincurve import PrivateKey

from sensorhub.wire import cbor
from sensorhub.wire.keys import KID_BYTES, SIGNATURE_BYTES, PublicKeyCache, kid, public_key_of, sign_digest
from sensorhub.wire.reasons import Reason, WireError

MAX_MESSAGE_BYTES: Final = 4096
MAX_COUNTER: Final = 2**53 - 1
"""Largest boot, seq and uptime: what JSON, SQLite and a float64 all hold exactly."""

ALGORITHM_ES256K: Final = -47
LABEL_ALGORITHM: Final = 1
LABEL_KID: Final = 4
LABEL_SEQUENCE: Final = -65537
LABEL_PREVIOUS: Final = -65538
LABEL_TIME: Final = -65539
NO_PREVIOUS: Final = bytes(32)

_TAG_SIGN1: Final = b"\xd2"
_SIGNATURE1: Final = b"\x84\x6aSignature1"

# A shortest-form unsigned integer below 2**32; larger ones take the slow way.
_UINT: Final = rb"[\x00-\x17]|\x18[\x18-\xff]|\x19[\x01-\xff].|\x1a(?!\x00\x00).{4}"
_ENVELOPE: Final = re.compile(
    rb"\xd2\x84\x58(.)\xa5\x01\x38\x2e\x04\x48(.{8})"
    rb"\x3a\x00\x01\x00\x00\x82(" + _UINT + rb")(" + _UINT + rb")"
    rb"\x3a\x00\x01\x00\x01\x58\x20(.{32})"
    rb"\x3a\x00\x01\x00\x02\x82([\x00-\x03])(" + _UINT + rb")"
    rb"\xa0([\x40-\x57]|\x58[\x18-\xff]|\x59[\x01-\x10].)",
    re.DOTALL,
)
_keys: Final = PublicKeyCache()


@dataclass(frozen=True, slots=True)
class Signed:
    """A message whose structure and header are in order; its signature is not yet checked.

    Attributes:
        raw: the whole message as it came.
        protected: the encoded protected header.
        payload: the signed content.
        signature: 64 bytes, r then s.
        kid: first 8 bytes of the SHA-256 of the sender's public key.
        boot: how often the node had started.
        seq: number of the message within the life of the key; 0 for an announce.
        prev: SHA-256 of the whole previous message, or 32 zero bytes.
        tq: time quality, 0 uptime only, 1 held over, 2 NTP within 24 h, 3 GNSS.
        uptime: seconds since boot at the base time.
    """

    raw: bytes
    protected: bytes
    payload: bytes
    signature: bytes
    kid: bytes
    boot: int
    seq: int
    prev: bytes
    tq: int
    uptime: int

    @property
    def digest(self) -> bytes:
        """SHA-256 of the Sig_structure with empty external data; computed at each access."""
        # The two byte strings stand in `raw` just as the Sig_structure wants them, heads included.
        end = 4 + len(self.protected)
        raw = self.raw
        return hashlib.sha256(b"%b%b\x40%b" % (_SIGNATURE1, raw[2:end], raw[end + 1 : -66])).digest()

    @property
    def message_hash(self) -> bytes:
        """SHA-256 of the whole message: what the next message carries as `prev`; computed at each access."""
        return hashlib.sha256(self.raw).digest()


def sig_structure(protected: bytes, payload: bytes) -> bytes:
    """Return the bytes that are hashed and signed (RFC 9052, section 4.4), external data empty."""
    return b"%b%b\x40%b" % (_SIGNATURE1, cbor.encode_bytes(protected), cbor.encode_bytes(payload))


def parse_signed(raw: bytes) -> Signed:
    """Read the envelope and the header of a message; the signature is not checked.

    Raises:
        WireError: too large, not CBOR, not COSE, or wrong algorithm.
    """
    size = len(raw)
    if size > MAX_MESSAGE_BYTES:
        raise WireError(Reason.TOO_LARGE, f"{size} bytes, at most {MAX_MESSAGE_BYTES} are permitted")
    match = _ENVELOPE.match(raw)
    if match is not None:
        length, key_id, boot, seq, prev, tq, uptime, head = match.groups()
        start = match.end()
        header_end = match.end(7)
        end = start + (head[0] - 0x40 if len(head) == 1 else int.from_bytes(head[1:], "big"))
        if length[0] == header_end - 4 and end + 66 == size and raw[end : end + 2] == b"\x58\x40":
            return Signed(
                raw,
                raw[4:header_end],
                raw[start:end],
                raw[end + 2 :],
                key_id,
                boot[0] if len(boot) == 1 else int.from_bytes(boot[1:], "big"),
                seq[0] if len(seq) == 1 else int.from_bytes(seq[1:], "big"),
                prev,
                tq[0],
                uptime[0] if len(uptime) == 1 else int.from_bytes(uptime[1:], "big"),
            )
    return parse_signed_by_rules(raw)


def parse_signed_by_rules(raw: bytes) -> Signed:
    """Do what `parse_signed` does by decoding, one rule after the other: slower, complete, and tells why.

    Raises:
        WireError: too large, not CBOR, not COSE, or wrong algorithm.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise WireError(Reason.TOO_LARGE, f"{len(raw)} bytes, at most {MAX_MESSAGE_BYTES} are permitted")
    if not cbor.well_formed(raw):
        raise WireError(Reason.NOT_CBOR, "not one well-formed CBOR item")
    if raw[:1] != _TAG_SIGN1:
        raise WireError(Reason.NOT_COSE, "does not start with tag 18 (COSE_Sign1)")
    parts = _deterministic(raw[1:], "the message")
    if type(parts) is not list or len(parts) != 4:
        raise WireError(Reason.NOT_COSE, "not an array of four")
    protected, unprotected, payload, signature = parts
    if type(protected) is not bytes or type(payload) is not bytes or type(signature) is not bytes:
        raise WireError(Reason.NOT_COSE, "header, payload and signature must be byte strings")
    if type(unprotected) is not dict or unprotected:
        raise WireError(Reason.NOT_COSE, "the unprotected header must be an empty map")
    header = _deterministic(protected, "the protected header")
    if type(header) is not dict:
        raise WireError(Reason.NOT_COSE, "the protected header is not a map")
    # The algorithm comes before the rest of the profile: what the rest should be depends on it.
    if type(header.get(LABEL_ALGORITHM)) is not int or header[LABEL_ALGORITHM] != ALGORITHM_ES256K:
        raise WireError(Reason.WRONG_ALGORITHM, "the algorithm must be ES256K (-47)")
    labels = (LABEL_ALGORITHM, LABEL_KID, LABEL_SEQUENCE, LABEL_PREVIOUS, LABEL_TIME)
    if tuple(header) != labels:
        raise WireError(Reason.NOT_COSE, f"header labels must be {', '.join(map(str, labels))}")
    key_id, prev = header[LABEL_KID], header[LABEL_PREVIOUS]
    if type(key_id) is not bytes or len(key_id) != KID_BYTES:
        raise WireError(Reason.NOT_COSE, f"kid must be {KID_BYTES} bytes")
    boot, seq = _counters(header[LABEL_SEQUENCE], "[boot, seq]")
    if type(prev) is not bytes or len(prev) != len(NO_PREVIOUS):
        raise WireError(Reason.NOT_COSE, "prev must be 32 bytes")
    tq, uptime = _counters(header[LABEL_TIME], "[tq, uptime]")
    if tq > 3:
        raise WireError(Reason.NOT_COSE, "time quality must be 0 to 3")
    if len(signature) != SIGNATURE_BYTES:
        raise WireError(Reason.NOT_COSE, f"the signature must be {SIGNATURE_BYTES} bytes")
    return Signed(raw, protected, payload, signature, key_id, boot, seq, prev, tq, uptime)


def _deterministic(data: bytes, what: str) -> object:
    try:
        return cbor.decode(data)
    except cbor.NotDeterministicError as error:
        raise WireError(Reason.NOT_COSE, f"{what} is not deterministic CBOR: {error}") from None


def _counters(value: object, what: str) -> tuple[int, int]:
    if type(value) is list and len(value) == 2:
        first, second = value
        integers = type(first) is int and type(second) is int
        if integers and 0 <= first <= MAX_COUNTER and 0 <= second <= MAX_COUNTER:
            return first, second
    raise WireError(Reason.NOT_COSE, f"{what} must be two integers from 0 to 2**53 - 1")


def verify(signed: Signed, public_key: bytes) -> bool:
    """Check the signature against a public key (64 bytes, x then y). Low s only. Releases the GIL."""
    return _keys.verify(public_key, signed.digest, signed.signature)


def sign(key: PrivateKey, payload: bytes, *, boot: int, seq: int, prev: bytes, tq: int, uptime: int) -> bytes:
    """Sign `payload` and return the whole message, the same bytes on every run.

    Raises:
        ValueError: a header field is out of range.
        WireError: the message would be too large.
    """
    for name, value in (("boot", boot), ("seq", seq), ("uptime", uptime)):
        if not 0 <= value <= MAX_COUNTER:
            raise ValueError(f"{name} is {value}, must be 0 to 2**53 - 1")
    if not 0 <= tq <= 3:
        raise ValueError(f"tq is {tq}, must be 0 to 3")
    if len(prev) != len(NO_PREVIOUS):
        raise ValueError(f"prev has {len(prev)} bytes, must have 32")
    protected = b"\xa5\x01\x38\x2e\x04\x48%b\x3a\x00\x01\x00\x00\x82%b%b\x3a\x00\x01\x00\x01\x58\x20%b" % (
        kid(public_key_of(key)),
        cbor.encode_int(boot),
        cbor.encode_int(seq),
        prev,
    ) + b"\x3a\x00\x01\x00\x02\x82%b%b" % (cbor.encode_int(tq), cbor.encode_int(uptime))
    signature = sign_digest(key, hashlib.sha256(sig_structure(protected, payload)).digest())
    message = b"\xd2\x84%b\xa0%b\x58\x40%b" % (
        cbor.encode_bytes(protected),
        cbor.encode_bytes(payload),
        signature,
    )
    if len(message) > MAX_MESSAGE_BYTES:
        raise WireError(Reason.TOO_LARGE, f"{len(message)} bytes, at most {MAX_MESSAGE_BYTES} are permitted")
    return message
