"""MQTT 3.1.1 client for asyncio: QoS 0 and 1, last will, keepalive.

Sections cited are those of the OASIS standard of 29 October 2014. A connection lives from `connect` to the first
thing that goes wrong; then `down` is set, `error` says why, and the owner connects again. Nothing is kept from one
connection to the next (clean session): what must not be lost is the owner's business.

Every wait has an end. Connecting, subscribing and every write are limited by `timeout`; the monitor ends a
connection whose broker stops within a packet, answers no ping or acknowledges nothing.
"""

import asyncio

from .aside import address
from .ticks import ticks_diff, ticks_ms

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
PINGREQ, PINGRESP, DISCONNECT = 0xC0, 0xD0, 0xE0
PIECE = 2048  # bytes of a payload that are written at once
_REFUSED = ("protocol version", "client identifier", "unavailable", "user name or password", "not authorised")


class MqttError(Exception):
    """Raised when the broker refuses, breaks the protocol, goes away or falls silent."""


class Client:
    """One client of one broker.

    :param user: user name, "" for none; `password` likewise.
    :param will: (topic, payload), which the broker publishes retained with QoS 1 when the connection breaks.
    :param on_message: called with topic (bytes) and payload (memoryview, valid during the call only).
    :param on_down: called when a connection that stood ends.
    :param ssl: an SSL context for `asyncio.open_connection`, or None; `timeout` is in seconds.
    :param room_in: bytes for an incoming packet, a longer one is acknowledged and dropped."""

    def __init__(
        self, host, port, client_id, *, user="", password="", keepalive=60, will=None, on_message=None, on_down=None,
        ssl=None, timeout=10, room_in=1024,
    ):  # fmt: skip
        self.host, self.port = host, port
        self._identity = client_id, user, password
        self._keepalive, self._timeout = keepalive, timeout
        self._will, self._on_message, self._on_down = will, on_message, on_down
        self._tls = {"ssl": ssl, "server_hostname": host} if ssl else {}
        self._rx = memoryview(bytearray(room_in))
        self._lock = asyncio.Lock()
        self._writer = self.error = None
        self._tasks, self.unacked = (), set()
        self.dropped = 0  # incoming publications that did not fit
        self.down = asyncio.Event()
        self.down.set()

    async def connect(self):
        """Open a connection. Raises MqttError, OSError or asyncio.TimeoutError."""
        await self.close()
        self.error = None
        self._start = self._end = self._id = 0
        self.unacked = set()
        self._granted = b""
        self._answered = asyncio.Event()
        self._begun = self._pinged = None  # since when a packet comes in, and a ping waits
        self._sent = self._acked = ticks_ms()
        opening = asyncio.open_connection(await address(self.host, self.port), self.port, **self._tls)
        self._reader, self._writer = await asyncio.wait_for(opening, self._timeout)
        self.down.clear()
        if hasattr(self._writer, "transport"):  # CPython: drain() must wait; 0 never ends it over TLS
            self._writer.transport.set_write_buffer_limits(1, 0)
        try:
            await self._introduce()
            await asyncio.wait_for(self._accepted(), self._timeout)
        except BaseException as error:
            await self.close()
            # a ValueError is a refused certificate in MicroPython's TLS
            raise MqttError(str(error).strip()) if isinstance(error, ValueError) else error
        self._tasks = tuple(
            asyncio.create_task(self._guard(work)) for work in (self._receive(), self._monitor())
        )

    async def publish(self, topic, payload, qos=0, retain=False):
        """Send a publication (section 3.3). The monitor waits for its acknowledgement; until then its number, which is
        returned, is in `unacked`."""
        number = self._next_id() if qos else 0
        if qos:
            if not self.unacked:
                self._acked = ticks_ms()
            self.unacked.add(number)
        await self._send(PUBLISH | qos << 1 | retain, topic, *((number, payload) if qos else (payload,)))
        return number

    async def subscribe(self, *topics):
        """Subscribe with QoS 1 and wait for the grant (sections 3.8, 3.9). Raises MqttError when one is refused."""
        self._answered.clear()
        fields = []
        for topic in topics:
            fields += (topic, b"\x01")
        await self._send(SUBSCRIBE, self._next_id(), *fields)
        await asyncio.wait_for(self._answered.wait(), self._timeout)
        if self.error:
            raise self.error
        if len(self._granted) != len(topics) or max(self._granted) > 1:
            raise MqttError("broker refused a subscription")

    async def close(self, polite=False):
        """End the connection; `polite` says goodbye first, so that the broker drops the will (section 3.14)."""
        if polite and not self.down.is_set():
            try:
                await self._send(DISCONNECT)
            except (MqttError, OSError, asyncio.TimeoutError):
                pass
        self.down.set()
        writer, self._writer = self._writer, None
        tasks, self._tasks = self._tasks, ()
        for task in tasks:
            task.cancel()
        if writer:
            await asyncio.sleep(0)  # let the cancelled tasks take their hands off the socket
            writer.close()
            try:
                await asyncio.wait_for(writer.wait_closed(), self._timeout)
            except (OSError, asyncio.TimeoutError):
                pass

    async def _introduce(self):
        client_id, user, password = self._identity
        flags = 0x02  # clean session, section 3.1.2.4
        fields = [client_id]
        if self._will:
            topic, payload = self._will
            flags |= 0x2C
            fields += (topic, len(payload), payload)
        for text, flag in ((user, 0x80), (password, 0x40)):
            if text:
                flags |= flag
                fields.append(text)
        # protocol name and level, sections 3.1.2.1 and 3.1.2.2
        await self._send(CONNECT, "MQTT", bytes((4, flags)), self._keepalive, *fields)

    async def _accepted(self):
        first, body, end, _ = await self._packet()
        self._begun = None
        if first != CONNACK or end - body != 2:
            raise MqttError("expected CONNACK, got 0x%02x" % first)
        code = self._rx[body + 1]
        if code:  # section 3.2.2.3
            raise MqttError("refused: " + (_REFUSED[code - 1] if code < 6 else str(code)))

    def _number(self, at):
        return self._rx[at] << 8 | self._rx[at + 1]

    def _next_id(self):
        self._id = self._id % 0xFFFF + 1  # never 0, section 2.3.1
        return self._id

    async def _send(self, first, *fields):
        """Write one packet. A field is a number (two bytes), a str (its length before it) or bytes (as they are)."""
        parts = []
        for field in fields:
            if isinstance(field, str):
                field = field.encode()
                parts.append(len(field).to_bytes(2, "big"))
            elif isinstance(field, int):
                field = field.to_bytes(2, "big")
            parts.append(field)
        length = sum(len(part) for part in parts)
        # a long payload goes out from where it is, in pieces: for a copy the heap may have no room
        body = parts.pop() if parts and len(parts[-1]) > 512 else b""
        packet = bytearray((first,))
        while length > 0x7F:  # remaining length, section 2.2.3
            packet.append(length & 0x7F | 0x80)
            length >>= 7
        packet.append(length)
        for part in parts:
            packet.extend(part)
        async with self._lock:
            writer = self._writer
            if self.down.is_set() or not writer:
                raise self.error or MqttError("not connected")
            body = memoryview(body)
            for at in range(-PIECE, len(body), PIECE):
                writer.write(packet if at < 0 else body[at : at + PIECE])
                # before more is written: the stream copies what the socket does not take at once, and mbedTLS takes what it
                # could not send only once more, and as it was
                await asyncio.wait_for(writer.drain(), self._timeout)
                self._sent = ticks_ms()
            if len(body) > 2 * PIECE:
                self._acked = self._sent  # what takes long to send is acknowledged late

    async def _fill(self, count):
        """Have `count` unread bytes in the buffer."""
        if self._start + count > len(self._rx):
            unread = self._end - self._start
            self._rx[:unread] = self._rx[self._start : self._end]
            self._start = 0
            self._end = unread
        while self._end - self._start < count:
            self._end += await self._read(self._rx[self._end :])

    async def _read(self, into):
        if hasattr(self._reader, "readinto"):
            got = await self._reader.readinto(into)
            if got is None:
                return 0  # a TLS record without application data
        else:  # CPython's streams have no readinto
            data = await self._reader.read(len(into))
            got = len(data)
            into[:got] = data
        if not got:
            raise MqttError("broker closed the connection")
        return got

    async def _packet(self):
        """Read one packet: first byte, start and end of its body in the buffer, bytes of it that found no room."""
        await self._fill(1)
        self._begun = ticks_ms()
        length = shift = 0
        size = 1
        while True:
            await self._fill(size + 1)
            digit = self._rx[self._start + size]
            size += 1
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                break
            if size > 4:
                raise MqttError("malformed remaining length")  # section 2.2.3
        left = max(0, size + length - len(self._rx))
        await self._fill(size + length - left)
        first = self._rx[self._start]
        body = self._start + size
        self._start = body + length - left
        return first, body, self._start, left

    async def _receive(self):
        while True:
            first, body, end, left = await self._packet()
            if first & 0xF0 == PUBLISH:
                await self._publication(first, body, end, left)
            elif first == PUBACK and end - body == 2:
                self.unacked.discard(self._number(body))
                self._acked = ticks_ms()
            elif first == PINGRESP and end == body:
                self._pinged = None
            elif first == SUBACK and end - body > 2 and not left:
                self._granted = bytes(self._rx[body + 2 : end])
                self._answered.set()
            else:
                # also a second CONNACK (section 3.2): a breach of the protocol ends the connection (section 4.8)
                raise MqttError("unexpected packet 0x%02x of %d bytes" % (first, end - body + left))
            self._begun = None

    async def _publication(self, first, body, end, left):
        qos = first >> 1 & 3
        at = body + 2 + (self._number(body) if end - body > 1 else 0)
        if qos > 1 or at + 2 * qos > end:
            raise MqttError("malformed publication")  # QoS 2 was never asked for
        packet_id = self._number(at) if qos else 0
        if left:
            self.dropped += 1
            self._start = self._end = 0
            while left:
                left -= await self._read(self._rx[: min(left, len(self._rx))])
        elif self._on_message:
            self._on_message(bytes(self._rx[body + 2 : at]), self._rx[at + 2 * qos : end])
        self._begun = None
        if qos:
            await self._send(PUBACK, packet_id)

    async def _monitor(self):
        limit = self._timeout * 1000
        while True:
            await asyncio.sleep(self._timeout / 10)
            now = ticks_ms()
            if self._lock.locked():
                continue  # a long packet is on its way, and each piece of it has its own limit
            if self._begun is not None and ticks_diff(now, self._begun) > limit:
                raise MqttError("broker stopped within a packet")
            if self.unacked and ticks_diff(now, self._acked) > 3 * limit:
                raise MqttError("broker acknowledges nothing")
            if self._pinged is not None and ticks_diff(now, self._pinged) > limit:
                raise MqttError("broker does not answer a ping")
            # sent with a quarter of the time to spare, section 3.1.2.10
            if self._pinged is None and ticks_diff(now, self._sent) > self._keepalive * 750:
                self._pinged = now
                await self._send(PINGREQ)

    async def _guard(self, work):
        """Run a task of the connection; whatever ends it ends the connection."""
        try:
            await work
        except asyncio.TimeoutError:
            self.error = self.error or MqttError("broker takes no data")
        except (MqttError, OSError, ValueError) as error:
            self.error = self.error or error
        self.down.set()
        self._answered.set()
        if self._on_down:
            self._on_down()
