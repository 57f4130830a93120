"""The signed messages of a node, and those signed for it: COSE_Sign1 (RFC 9052, section 4.2) with ES256K (RFC 8812)."""

from hashlib import sha256

from . import cbor

MAX_MESSAGE = 4096  # bytes, whole
NO_PREVIOUS = bytes(32)  # prev of the first message of a key, and of every announce

_TAG = b"\xd2\x84"  # tag 18, array of 4
_SIGNATURE1 = b"\x84\x6aSignature1"
# Header labels in deterministic order: algorithm ES256K, kid, [boot, seq], prev, [tq, uptime].
_ALGORITHM_KID = b"\xa5\x01\x38\x2e\x04\x48"
_SEQUENCE = b"\x3a\x00\x01\x00\x00\x82"
_PREVIOUS = b"\x3a\x00\x01\x00\x01\x58\x20"
_TIME = b"\x3a\x00\x01\x00\x02\x82"


def kid(public):
    """Key identifier of a 64-byte public key: the first 8 bytes of its SHA-256."""
    return sha256(public).digest()[:8]


def message_hash(message):
    """SHA-256 of a whole message: the `prev` of the next one."""
    return sha256(message).digest()


def header(public, boot, seq, prev, tq, uptime):
    """Protected header of a message.

    :param prev: `message_hash` of the message before, or NO_PREVIOUS.
    :param tq: time quality: 0 uptime only, 1 held over, 2 NTP within 24 h, 3 GNSS.
    :param uptime: whole seconds since boot at the pack's base time.
    """
    out = bytearray(_ALGORITHM_KID)
    out.extend(kid(public))
    out.extend(_SEQUENCE)
    cbor.head(out, 0, boot)
    cbor.head(out, 0, seq)
    out.extend(_PREVIOUS)
    out.extend(prev)
    out.extend(_TIME)
    cbor.head(out, 0, tq)
    cbor.head(out, 0, uptime)
    return out


def digest(protected, payload):
    """SHA-256 of the Sig_structure (RFC 9052, section 4.4) with empty external data."""
    out = bytearray(_SIGNATURE1)
    cbor.write(out, protected)
    out.append(0x40)
    cbor.head(out, 2, len(payload))
    state = sha256(out)
    state.update(payload)
    return state.digest()


async def sign1(key, protected, payload):
    """The COSE_Sign1 of a header and a payload, signed by an `ecdsa.SigningKey`; ValueError when too long."""
    signature = await key.sign(digest(protected, payload))
    out = bytearray(_TAG)
    cbor.write(out, protected)
    out.append(0xA0)
    cbor.write(out, payload)
    cbor.write(out, signature)
    if len(out) > MAX_MESSAGE:
        raise ValueError("message of %d bytes" % len(out))
    return out


async def data(key, boot, seq, prev, tq, uptime, payload):
    """Data message of a SenML payload; seq counts from 1 over the life of the key. See `header`."""
    return await sign1(key, header(key.public, boot, seq, prev, tq, uptime), payload)


async def announce(
    key, boot, tq, uptime, base_name, kind, hardware, firmware, channels, claim=None, oldest=1
):
    """Announce of a node, which is outside the chain of data messages.

    :param base_name: see `senml.base_name`.
    :param channels: [(channel, unit), ...] of everything the node measures.
    :param claim: the one-time claim that enrols the node, or None.
    :param oldest: number of the oldest data message that can still be sent: the gateway stops waiting for any before it.
    """
    content = {
        0: base_name,
        1: key.public,
        2: kind,
        3: hardware,
        4: firmware,
        5: channels,
        6: claim,
        7: oldest,
    }
    return await sign1(key, header(key.public, boot, 0, NO_PREVIOUS, tq, uptime), cbor.encode(content))


def order_header(public, content_type):
    """Protected header of what is signed for a node: algorithm, content type (label 3), kid, and nothing else."""
    out = bytearray(b"\xa3\x01\x38\x2e\x03")
    cbor.write(out, content_type)
    out.extend(b"\x04\x48")
    out.extend(kid(public))
    return bytes(out)


async def open_order(key, message, content_type):
    """Payload of a message that the owner of a `verify.VerifyingKey` signed as being of this content type.

    Raises ValueError for anything else, however it is broken. The content type is under the signature, so one
    key's configuration never passes as its update.
    """
    if bytes(message[:1]) != _TAG[:1]:
        raise ValueError("not a COSE_Sign1 message")
    parts = cbor.decode(message[1:])
    if not isinstance(parts, list) or len(parts) != 4 or parts[1] != {} or not isinstance(parts[1], dict):
        raise ValueError("not a COSE_Sign1 message")
    protected, _, payload, signature = parts
    for part in (protected, payload, signature):
        if not isinstance(part, bytes):
            raise ValueError("not a COSE_Sign1 message")
    if protected != order_header(key.public, content_type):
        raise ValueError("another key, algorithm or content type")
    if not await key.verify(digest(protected, payload), signature):
        raise ValueError("bad signature")
    return payload


def receipt(payload):
    """(boot, seq) of a receipt: everything of this key up to seq is logged. ValueError when it is none."""
    pair = cbor.decode(payload)
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("not a receipt")
    for number in pair:
        if isinstance(number, bool) or not isinstance(number, int) or number >> 53:
            raise ValueError("not a receipt")
    return pair[0], pair[1]
