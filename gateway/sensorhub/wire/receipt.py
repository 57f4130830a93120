"""The receipt: how far a node's messages are in the gateway's log. A node frees its spool on this only."""

from __future__ import annotations

from sensorhub.wire import cbor
from sensorhub.wire.cose import MAX_COUNTER
from sensorhub.wire.reasons import Reason, WireError


def encode_receipt(boot: int, seq: int) -> bytes:
    """Encode `[boot, seq]`: everything of this key up to `seq` is logged; [0, 0] when nothing is.

    Raises:
        ValueError: a number below 0 or above 2**53 - 1.
    """
    for value in (boot, seq):
        if not 0 <= value <= MAX_COUNTER:
            raise ValueError(f"{value} must be 0 to 2**53 - 1")
    return b"\x82" + cbor.encode_int(boot) + cbor.encode_int(seq)


def decode_receipt(payload: bytes) -> tuple[int, int]:
    """Decode a receipt to (boot, seq).

    Raises:
        WireError: reason `not-cbor`, for anything else.
    """
    try:
        value = cbor.decode(payload)
    except cbor.NotDeterministicError as error:
        raise WireError(Reason.NOT_CBOR, f"not a receipt: {error}") from None
    if type(value) is list and len(value) == 2:
        boot, seq = value
        if type(boot) is int and type(seq) is int and 0 <= boot <= MAX_COUNTER and 0 <= seq <= MAX_COUNTER:
            return boot, seq
    raise WireError(Reason.NOT_CBOR, "not a receipt: must be [boot, seq]")
