"""The part of MQTT 3.1.1 (OASIS standard, 29 October 2014) that a subscriber needs, as pure functions.

The parser takes whatever `recv` returned, which holds many small packets under load, and walks it once;
that is where the cost of a general client goes (see the README for numbers). It is strict: a server that
sends what the standard forbids raises `ProtocolError`, and the connection ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sensorhub.errors import SensorhubError

MAX_REMAINING: Final = 268_435_455
"""Largest remaining length the standard can express (section 2.2.3)."""
KEPT_PAYLOAD: Final = 8_192
"""Bytes kept of a payload; longer ones are cut, which leaves them too large for every message of ours."""
MAX_HEADER: Final = 2 + 65_535 + 2
"""Topic length, topic and packet identifier of a PUBLISH."""

CONNECT, CONNACK, PUBLISH, PUBACK = 0x10, 0x20, 0x30, 0x40
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 0x82, 0x90, 0xC0, 0xD0, 0xE0

PING: Final = bytes((PINGREQ, 0))
GOODBYE: Final = bytes((DISCONNECT, 0))

REFUSALS: Final = {
    1: "the broker does not speak MQTT 3.1.1",
    2: "the broker refused the client identifier",
    3: "the broker says it is unavailable",
    4: "the broker refused the user name or password",
    5: "the broker does not let this user connect",
}
"""CONNACK return codes (section 3.2.2.3)."""


class ProtocolError(SensorhubError):
    """Raised when the broker sent bytes that MQTT 3.1.1 does not allow."""


class Publish(NamedTuple):
    """A PUBLISH packet.

    Attributes:
        topic: topic name, UTF-8 bytes as received.
        payload: at most `KEPT_PAYLOAD` bytes of it.
        mid: packet identifier, 0 at QoS 0.
        flags: lower four bits of the first byte: DUP 8, QoS 6, RETAIN 1.
    """

    topic: bytes
    payload: bytes
    mid: int
    flags: int

    @property
    def retained(self) -> bool:
        """Whether the broker sent it because it kept it, not because it was just published."""
        return bool(self.flags & 1)


class Control(NamedTuple):
    """Any other packet: its type (first byte) and body."""

    kind: int
    body: bytes


class Parser:
    """Cuts a byte stream into packets; holds no more than one incomplete packet of bounded size."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0
        self._cut: Publish | None = None

    def feed(self, chunk: bytes) -> tuple[list[Publish], list[Control]]:
        """Takes in the next bytes of the stream and returns the packets they complete, in order of arrival.

        Raises:
            ProtocolError: the bytes are no MQTT 3.1.1 that a server may send to a subscriber at QoS 1.
        """
        published: list[Publish] = []
        controls: list[Control] = []
        if self._skip:
            taken = min(self._skip, len(chunk))
            self._skip -= taken
            chunk = chunk[taken:]
            if self._skip == 0 and self._cut is not None:
                published.append(self._cut)
                self._cut = None
        data = self._rest + chunk if self._rest else chunk
        position, end = 0, len(data)
        while end - position >= 2:
            first = data[position]
            length = data[position + 1]
            body = position + 2
            if length & 0x80:
                length &= 0x7F
                shift = 7
                while True:
                    if shift > 21:
                        raise ProtocolError("the broker sent a remaining length of more than four bytes")
                    if body >= end:
                        body = -1
                        break
                    byte = data[body]
                    body += 1
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if not byte & 0x80:
                        break
                if body < 0:
                    break
            stop = body + length
            kind = first & 0xF0
            if kind == PUBLISH:
                if stop > end and length <= KEPT_PAYLOAD:
                    break
                if stop > end and end - body < MAX_HEADER + KEPT_PAYLOAD:
                    break
                packet = self._publish(data, first, body, min(stop, end), stop)
                if stop > end:
                    # only the start of an oversized payload is of use, the rest is not worth memory
                    self._cut, self._skip = packet, stop - end
                    position = end
                    break
                published.append(packet)
            else:
                if kind not in (CONNACK, PUBACK, SUBACK, PINGRESP) or first & 0x0F:
                    raise ProtocolError(f"the broker sent a packet of type 0x{first:02x}, which it may not")
                if length > 1024:
                    raise ProtocolError(f"the broker sent {length} bytes in a packet of type 0x{first:02x}")
                if stop > end:
                    break
                controls.append(Control(first, data[body:stop]))
            position = stop
        self._rest = data[position:]
        return published, controls

    @staticmethod
    def _publish(data: bytes, first: int, body: int, available: int, stop: int) -> Publish:
        name = body + 2
        if name > stop:
            raise ProtocolError("the broker sent a PUBLISH without a topic")
        payload = name + (data[body] << 8 | data[body + 1])
        topic = data[name:payload]
        flags = first & 0x0F
        mid = 0
        if flags & 6:
            if flags & 6 != 2:
                raise ProtocolError("the broker sent a PUBLISH above the subscribed QoS 1")
            payload += 2
            if payload > stop:
                raise ProtocolError("the broker sent a PUBLISH that ends before its payload")
            mid = data[payload - 2] << 8 | data[payload - 1]
            if mid == 0:
                raise ProtocolError("the broker sent packet identifier 0")
        elif payload > stop:
            raise ProtocolError("the broker sent a PUBLISH that ends before its payload")
        if not topic:
            raise ProtocolError("the broker sent a PUBLISH with an empty topic")
        if available - payload > KEPT_PAYLOAD:
            available = payload + KEPT_PAYLOAD
        return Publish(topic, data[payload:available], mid, flags)


def _remaining(length: int) -> bytes:
    out = bytearray()
    while True:
        length, byte = length >> 7, length & 0x7F
        out.append(byte | 0x80 if length else byte)
        if not length:
            return bytes(out)


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def connect(client_id: str, username: str | None, password: str | None, keepalive: int) -> bytes:
    """CONNECT that asks for a persistent session (section 3.1); keepalive in seconds, 0 for none."""
    flags = 0
    body = _field(client_id.encode())
    if username is not None:
        flags |= 0x80
        body += _field(username.encode())
        if password is not None:
            flags |= 0x40
            body += _field(password.encode())
    body = _field(b"MQTT") + bytes((4, flags)) + keepalive.to_bytes(2, "big") + body
    return bytes((CONNECT,)) + _remaining(len(body)) + body


def subscribe(mid: int, filters: Sequence[str]) -> bytes:
    """SUBSCRIBE to topic filters at QoS 1 (section 3.8)."""
    body = mid.to_bytes(2, "big") + b"".join(_field(topic.encode()) + b"\x01" for topic in filters)
    return bytes((SUBSCRIBE,)) + _remaining(len(body)) + body


def publish(topic: str, payload: bytes, mid: int) -> bytes:
    """PUBLISH at QoS 1 (section 3.3)."""
    body = _field(topic.encode()) + mid.to_bytes(2, "big") + payload
    return bytes((PUBLISH | 2,)) + _remaining(len(body)) + body


def redelivered(packet: bytes) -> bytes:
    """The same PUBLISH with the DUP flag set."""
    return bytes((packet[0] | 8,)) + packet[1:]


def pubacks(mids: Iterable[int]) -> bytes:
    """One PUBACK for each packet identifier, in one piece (section 3.4)."""
    return b"".join([b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids])
