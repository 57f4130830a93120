"""The announce: how a node presents its key, itself and its claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from coincurve import PrivateKey

from sensorhub.channels import BY_NAME
from sensorhub.wire import cbor
from sensorhub.wire.cose import NO_PREVIOUS, Signed, parse_signed, sign, verify
from sensorhub.wire.keys import PUBLIC_KEY_BYTES, kid, public_key_of
from sensorhub.wire.reasons import Reason, WireError
from sensorhub.wire.topics import base_name

NAME, PUBLIC_KEY, KIND, HARDWARE, FIRMWARE, CHANNELS, CLAIM, OLDEST = range(8)

MAX_TEXT: Final = 64
MAX_CLAIM_BYTES: Final = 64
MAX_NUMBER: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Announce:
    """What a node says of itself, signed by the key it presents.

    Attributes:
        signed: the message; seq 0, outside the chain of data messages.
        public_key: 64 bytes, x then y.
        kind: what sort of node it is.
        hardware: board and revision.
        firmware: version.
        channels: (channel, unit) of everything it measures.
        claim: one-time secret that entitles to enrolment, or None.
        oldest: number of the oldest data message that the node still holds, or of its next one when it holds
            none. Whatever is before it and did not arrive yet, the node can never send again.
    """

    signed: Signed
    public_key: bytes
    kind: str
    hardware: str
    firmware: str
    channels: tuple[tuple[str, str], ...]
    claim: bytes | None
    oldest: int


def _refuse(detail: str) -> NoReturn:
    raise WireError(Reason.NOT_SENML, detail)


def decode_announce(raw: bytes, *, site: str, node: str) -> Announce:
    """Check an announce that came by the topic of `site` and `node`: header, own signature, name, content.

    The same reasons in the same order as for data; a payload that is no announce counts as `not-senml`.

    Raises:
        WireError: the announce is refused, with the first reason that applies.
    """
    signed = parse_signed(raw)
    if signed.seq != 0 or signed.prev != NO_PREVIOUS:
        raise WireError(Reason.NOT_COSE, "an announce has seq 0 and an all-zero prev")
    try:
        content = cbor.decode(signed.payload)
    except cbor.NotDeterministicError as error:
        _refuse(f"the payload is not deterministic CBOR: {error}")
    if type(content) is not dict:
        _refuse("the payload is not a map")
    public_key = content.get(PUBLIC_KEY)
    # Nothing can be checked without the key, so its absence is found before a signature is looked at.
    if type(public_key) is not bytes or len(public_key) != PUBLIC_KEY_BYTES:
        _refuse(f"the public key must be {PUBLIC_KEY_BYTES} bytes, x then y")
    if kid(public_key) != signed.kid:
        raise WireError(Reason.UNKNOWN_KID, f"kid {signed.kid.hex()} is not that of the key presented")
    if not verify(signed, public_key):
        raise WireError(Reason.BAD_SIGNATURE, "not signed by the key presented")
    name = content.get(NAME)
    if isinstance(name, str) and name != base_name(site, node):
        raise WireError(Reason.NAME_MISMATCH, f"the announce names {name[:96]!r}, the topic {site}/{node}")
    if tuple(content) != (NAME, PUBLIC_KEY, KIND, HARDWARE, FIRMWARE, CHANNELS, CLAIM, OLDEST):
        _refuse("the map must have the keys 0 to 7")
    if type(name) is not str:
        _refuse("the name is not text")
    claim = content[CLAIM]
    if claim is not None and (type(claim) is not bytes or not 1 <= len(claim) <= MAX_CLAIM_BYTES):
        _refuse(f"the claim must be null or 1 to {MAX_CLAIM_BYTES} bytes")
    oldest = content[OLDEST]
    if type(oldest) is not int or not 1 <= oldest <= MAX_NUMBER:
        _refuse("the oldest number held must be an integer from 1 to 2**53 - 1")
    return Announce(
        signed,
        public_key,
        _text(content[KIND], "kind"),
        _text(content[HARDWARE], "hardware"),
        _text(content[FIRMWARE], "firmware"),
        _channels(content[CHANNELS]),
        claim,
        oldest,
    )


def _text(value: object, what: str) -> str:
    if type(value) is not str or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        _refuse(f"{what} must be 1 to {MAX_TEXT} printable characters")
    return value


def _channels(value: object) -> tuple[tuple[str, str], ...]:
    if type(value) is not list:
        _refuse("channels is not an array")
    pairs: list[tuple[str, str]] = []
    for item in value:
        if type(item) is not list or len(item) != 2 or type(item[0]) is not str or type(item[1]) is not str:
            _refuse("a channel is not an array of name and unit")
        pairs.append((item[0], item[1]))
    if len({name for name, _ in pairs}) != len(pairs):
        _refuse("a channel is named twice")
    for name, unit in pairs:
        channel = BY_NAME.get(name)
        if channel is None:
            raise WireError(Reason.UNKNOWN_CHANNEL, f"no channel {name[:64]!r}")
        if channel.unit != unit:
            raise WireError(Reason.UNKNOWN_CHANNEL, f"{name} is in {channel.unit!r}, not {unit[:64]!r}")
    return tuple(pairs)


def encode_announce(
    key: PrivateKey,
    *,
    site: str,
    node: str,
    boot: int,
    tq: int,
    uptime: int,
    kind: str,
    hardware: str,
    firmware: str,
    channels: Sequence[tuple[str, str]],
    claim: bytes | None,
    oldest: int,
) -> bytes:
    """Make the signed announce of the node that holds `key`; see `Announce` for the arguments.

    Raises:
        ValueError: a header field or name that is not permitted.
        WireError: the announce would be refused, with its reason.
    """
    content = {
        NAME: base_name(site, node),
        PUBLIC_KEY: public_key_of(key),
        KIND: kind,
        HARDWARE: hardware,
        FIRMWARE: firmware,
        CHANNELS: [list(pair) for pair in channels],
        CLAIM: claim,
        OLDEST: oldest,
    }
    raw = sign(key, cbor.encode(content), boot=boot, seq=0, prev=NO_PREVIOUS, tq=tq, uptime=uptime)
    decode_announce(raw, site=site, node=node)
    return raw
