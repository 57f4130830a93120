"""A data message from bytes to readings: the fixed order of checks, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coincurve import PrivateKey

from sensorhub.wire import senml
from sensorhub.wire.cose import Signed, parse_signed, sign, verify
from sensorhub.wire.reasons import Reason, WireError
from sensorhub.wire.senml import Pack, parse_pack
from sensorhub.wire.topics import base_name

FUTURE_TOLERANCE: float = 60.0
"""Seconds by which a synchronised node's clock may be ahead of the gateway's."""


@dataclass(frozen=True, slots=True)
class Message:
    """A checked data message."""

    signed: Signed
    pack: Pack


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one channel.

    Attributes:
        node: who measured.
        channel: what, a name of the channel table.
        time: when, Unix seconds.
        value: in the channel's unit.
        message: log index of the message that carried it.
        record: position within that message, from 0.
    """

    node: str
    channel: str
    time: float
    value: float
    message: int
    record: int


def decode(
    raw: bytes,
    *,
    public_key: Callable[[bytes], bytes | None],
    site: str,
    node: str,
    now: float,
    future_tolerance: float = FUTURE_TOLERANCE,
) -> Message:
    """Check a data message through the whole order of reasons.

    Args:
        raw: the bytes of the MQTT payload.
        public_key: gives the public key (64 bytes, x then y) for a kid, or None when unknown or revoked.
        site: site of the topic it came by.
        node: node of the topic it came by.
        now: Unix seconds.
        future_tolerance: seconds by which a record may lie ahead of `now` when tq is 2 or 3.

    Raises:
        WireError: the message is refused, with the first reason that applies.
    """
    signed = parse_signed(raw)
    if signed.seq == 0:
        raise WireError(Reason.NOT_COSE, "a data message counts from seq 1")
    key = public_key(signed.kid)
    if key is None:
        raise WireError(Reason.UNKNOWN_KID, f"no key {signed.kid.hex()} is enrolled, or it was revoked")
    if not verify(signed, key):
        raise WireError(Reason.BAD_SIGNATURE, f"not signed by key {signed.kid.hex()}")
    return Message(
        signed, decode_pack(signed, site=site, node=node, now=now, future_tolerance=future_tolerance)
    )


def decode_pack(
    signed: Signed, *, site: str, node: str, now: float, future_tolerance: float = FUTURE_TOLERANCE
) -> Pack:
    """Do the part of `decode` that follows the signature check: name, SenML, channels, numbers, time.

    Raises:
        WireError: name mismatch, not SenML, unknown channel, not finite, or future.
    """
    tq = signed.tq
    try:
        pack = parse_pack(signed.payload, tq=tq)
    except WireError:
        # The name is looked at before the rest of the pack, so a fault of both kinds is a name mismatch.
        _check_name(signed.payload, site, node)
        raise
    if pack.node != node or pack.site != site:
        _check_name(signed.payload, site, node)
    if tq >= 2 and pack.base_time is not None:
        ahead = pack.base_time + max(pack.times) - now
        if ahead > future_tolerance:
            raise WireError(Reason.FUTURE, f"{ahead:.0f} s ahead of the gateway's clock")
    return pack


def _check_name(payload: bytes, site: str, node: str) -> None:
    """Raise a name mismatch when the payload has a base name and it is not the topic's."""
    first = senml.decode_array(payload)[:1]
    name = first[0].get(senml.BASE_NAME) if first and isinstance(first[0], dict) else None
    if isinstance(name, str) and name != base_name(site, node):
        raise WireError(Reason.NAME_MISMATCH, f"the message names {name[:96]!r}, the topic {site}/{node}")


def encode_message(
    key: PrivateKey,
    *,
    site: str,
    node: str,
    boot: int,
    seq: int,
    prev: bytes,
    tq: int,
    uptime: int,
    base_time: int | None,
    records: Sequence[tuple[str, float | int | bytes, float]],
) -> bytes:
    """Make a signed data message of records (channel, value, seconds after the base time).

    Raises:
        ValueError: a header field or name that is not permitted.
        WireError: the message would be refused, with its reason.
    """
    if seq < 1:
        raise ValueError(f"seq is {seq}; data messages count from 1")
    if (base_time is None) != (tq == 0):
        raise ValueError("a base time is given exactly when tq is 1 to 3")
    payload = senml.encode_pack(site=site, node=node, base_time=base_time, records=records)
    return sign(key, payload, boot=boot, seq=seq, prev=prev, tq=tq, uptime=uptime)
