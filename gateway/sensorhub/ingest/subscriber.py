"""The gateway's connection to the broker: one socket, one thread, large reads, acknowledgement by the caller.

Why not paho-mqtt here: it reads each packet with several `recv` calls and keeps per-message state, which
costs more than checking the signature (README, "Why an own receive path").
"""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sensorhub.addresses import authority
from sensorhub.errors import SensorhubError
from sensorhub.ingest import packets
from sensorhub.ingest.packets import Control, Parser, ProtocolError, Publish

RECEIVE_BYTES: Final = 262_144
FEW: Final = 32
"""A read that held fewer messages than this waits once for more: at low rates wake-ups are the cost."""
COALESCE_SECONDS: Final = 0.01
CONNECT_SECONDS: Final = 10.0
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 15.0
MAX_UNACKNOWLEDGED: Final = 1_024
"""Own publishes that may wait for the broker's acknowledgement."""
LOSSES: Final = 3
LOSS_SECONDS: Final = 60.0
"""So many connections lost in this time are no accident."""


class LostError(SensorhubError):
    """Raised when the broker closed the connection, refused it or does not answer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and as whom to connect.

    Attributes:
        host: broker's name or address.
        port: TCP port.
        client_id: fixed, so that the broker keeps the session and its queue; the service sets its own.
        username: MQTT user, or None.
        password: its password, or None; kept out of every text.
        tls: context for TLS, or None for plain TCP.
        keepalive: seconds.
    """

    host: str
    port: int
    client_id: str = ""
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    keepalive: int = 30

    def __str__(self) -> str:
        return authority(self.host, self.port)

    def __repr__(self) -> str:
        return f"Endpoint({self}, user={self.username!r})"


class Subscriber:
    """Keeps a persistent session with the broker alive and hands over what it delivers.

    Args:
        endpoint: the broker.
        filters: topic filters, subscribed at QoS 1 after each connect; the first `required` of them must
            be granted.
        deliver: called in the network thread with each batch and the number of the connection it came
            through. It must not block.
        limit: messages that may be delivered and not yet settled; beyond it the socket is not read, and
            the broker queues.
        required: how many of the filters the gateway cannot do without.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        filters: Sequence[str],
        deliver: Callable[[list[Publish], int], None],
        *,
        limit: int = 2_048,
        required: int | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.filters = tuple(filters)
        self.required = len(self.filters) if required is None else required
        self.connected = False
        self.subscribed = False
        self.connections = 0
        self.losses: deque[float] = deque(maxlen=LOSSES)
        self.error: str | None = None
        self._deliver = deliver
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()
        self._outgoing: list[bytes] = []
        self._signalled = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._stop = threading.Event()
        self._unacknowledged: dict[int, bytes] = {}
        self._next_mid = 1
        self._epoch = 0

    def run(self) -> None:
        """Connects, and reconnects with growing pauses, until `stop`."""
        backoff = FIRST_BACKOFF
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._session()
            except (OSError, SensorhubError) as error:
                self.error = self._explain(error)
            finally:
                self.connected = self.subscribed = False
            if time.monotonic() - began > LAST_BACKOFF:
                backoff = FIRST_BACKOFF
            # jitter keeps gateways that lost the same broker from returning in step
            if self._stop.wait(backoff * random.uniform(0.5, 1.0)):  # noqa: S311 - no secret
                break
            backoff = min(backoff * 2, LAST_BACKOFF)

    @property
    def unsteady(self) -> bool:
        """Whether the connection was established and lost again and again within the last minute."""
        losses = self.losses
        return len(losses) == LOSSES and time.monotonic() - losses[0] < LOSS_SECONDS

    def pause(self) -> None:
        """Reads no more from the broker; acknowledgements and publishes still go out."""
        self._limit = 0
        self._wake()

    def stop(self) -> None:
        """Ends `run`; may be called from any thread, more than once."""
        self._stop.set()
        self._wake()

    def close(self) -> None:
        """Frees the wake-up sockets; call after `run` has returned."""
        self._wake_read.close()
        self._wake_write.close()

    def settle(self, mids: Sequence[int], count: int, epoch: int) -> None:
        """Acknowledges deliveries of connection `epoch` and frees room for `count` more messages.

        After a reconnect the broker delivers unacknowledged messages again, so late acknowledgements of an
        earlier connection are dropped.
        """
        with self._lock:
            self._held -= count
            if mids and epoch == self._epoch and self.connected:
                self._outgoing.append(packets.pubacks(mids))
        self._wake()

    def publish(self, topic: str, payload: bytes) -> bool:
        """Queues a QoS 1 publish; False when not connected or too many wait for the broker."""
        with self._lock:
            if not self.connected or len(self._unacknowledged) >= MAX_UNACKNOWLEDGED:
                return False
            while self._next_mid in self._unacknowledged:
                self._next_mid = self._next_mid % 65_535 + 1
            mid = self._next_mid
            self._next_mid = mid % 65_535 + 1
            packet = packets.publish(topic, payload, mid)
            self._unacknowledged[mid] = packet
            self._outgoing.append(packet)
        self._wake()
        return True

    def _wake(self) -> None:
        if not self._signalled:
            self._signalled = True
            # full or closed: the thread is about to wake up anyhow
            with contextlib.suppress(OSError):
                self._wake_write.send(b"\0")

    def _explain(self, error: Exception) -> str:
        where = str(self.endpoint)
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate of the broker at {where} is not trusted: {error.verify_message}"
        if isinstance(error, TimeoutError):
            return f"the broker at {where} does not answer"
        if isinstance(error, OSError):
            return f"cannot reach the broker at {where}: {error.strerror or error}"
        return f"broker at {where}: {error}"

    def _session(self) -> None:
        sock = self._connect()
        try:
            with self._lock:
                self._epoch += 1
                self._outgoing.clear()
                self._outgoing.extend(packets.redelivered(p) for p in self._unacknowledged.values())
                self.connected = True
                self.connections += 1
            self.error = None
            self._pump(sock)
        finally:
            self.connected = False
            if not self._stop.is_set():
                self.losses.append(time.monotonic())
            sock.close()

    def _connect(self) -> socket.socket:
        endpoint = self.endpoint
        raw = socket.create_connection((endpoint.host, endpoint.port), timeout=CONNECT_SECONDS)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = endpoint.tls.wrap_socket(raw, server_hostname=endpoint.host) if endpoint.tls else raw
        except BaseException:
            raw.close()
            raise
        try:
            self._shake_hands(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def _shake_hands(self, sock: socket.socket) -> None:
        """CONNECT, CONNACK, SUBSCRIBE; SUBACK is awaited in the pump, where messages may precede it."""
        endpoint = self.endpoint
        sock.sendall(
            packets.connect(endpoint.client_id, endpoint.username, endpoint.password, endpoint.keepalive)
        )
        # CONNACK is four bytes long; reading no further leaves the first messages in the socket
        answer = b""
        while len(answer) < 4:
            piece = sock.recv(4 - len(answer))
            if not piece:
                raise LostError("it closed the connection instead of answering; is it an MQTT broker?")
            answer += piece
        if answer[0] != packets.CONNACK or answer[1] != 2 or answer[2] > 1:
            raise ProtocolError("it did not answer CONNECT with CONNACK; is it an MQTT broker?")
        if answer[3]:
            reason = packets.REFUSALS.get(answer[3], f"the broker refused with code {answer[3]}")
            raise LostError(f"{reason} (user {endpoint.username!r}): check mqtt.username and its password")
        sock.sendall(packets.subscribe(65_535, self.filters))
        sock.setblocking(False)

    def _pump(self, sock: socket.socket) -> None:
        parser = Parser()
        secured = sock if isinstance(sock, ssl.SSLSocket) else None
        keepalive = self.endpoint.keepalive or 30
        sent = heard = time.monotonic()
        unsent = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ)
            interest = selectors.EVENT_READ
            while not self._stop.is_set():
                with self._lock:
                    reading = self._held < self._limit
                    if self._outgoing:
                        unsent += b"".join(self._outgoing)
                        self._outgoing.clear()
                if unsent:
                    unsent = self._send(sock, unsent)
                    sent = time.monotonic()
                wanted = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if unsent else 0)
                if wanted != interest:
                    if not interest:
                        selector.register(sock, wanted)
                    elif not wanted:
                        selector.unregister(sock)
                    else:
                        selector.modify(sock, wanted)
                    interest = wanted
                # what TLS holds decoded does not wake the selector
                held = reading and secured is not None and secured.pending() > 0
                ready = {key.fileobj: events for key, events in selector.select(0 if held else keepalive / 4)}
                now = time.monotonic()
                if self._wake_read in ready:
                    self._signalled = False
                    with contextlib.suppress(BlockingIOError):
                        self._wake_read.recv(4096)
                if held or ready.get(sock, 0) & selectors.EVENT_READ:
                    self._read(sock, parser)
                    heard = now
                elif reading and now - heard > 1.5 * keepalive:
                    raise LostError(f"silent for {now - heard:.0f} s")
                elif not reading:
                    heard = now
                if now - sent >= keepalive / 2:
                    unsent += packets.PING
            with self._lock:  # what was settled up to now need not come again
                unsent += b"".join(self._outgoing)
                self._outgoing.clear()
            with contextlib.suppress(OSError):
                self._send(sock, unsent + packets.GOODBYE)

    def _read(self, sock: socket.socket, parser: Parser) -> None:
        published, controls = parser.feed(self._receive(sock))
        if len(published) < FEW and published:
            time.sleep(COALESCE_SECONDS)
            more = self._receive(sock)
            if more:
                extra, answers = parser.feed(more)
                published += extra
                controls += answers
        for control in controls:
            self._control(control)
        if published:
            with self._lock:
                self._held += len(published)
            self._deliver(published, self._epoch)

    @staticmethod
    def _receive(sock: socket.socket) -> bytes:
        """What the socket holds, about RECEIVE_BYTES at most; empty when there is nothing to read right now."""
        parts: list[bytes] = []
        size = 0
        # TLS hands out one record at a time, and a broker puts each packet in one of its own
        secured = isinstance(sock, ssl.SSLSocket)
        try:
            while True:
                chunk = sock.recv(RECEIVE_BYTES)
                if not chunk and not parts:
                    raise LostError("it closed the connection")
                if not secured:
                    return chunk
                parts.append(chunk)
                size += len(chunk)
                if not chunk or size >= RECEIVE_BYTES:
                    break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return b"".join(parts)

    @staticmethod
    def _send(sock: socket.socket, data: bytes) -> bytes:
        try:
            return data[sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return data

    def _control(self, control: Control) -> None:
        kind, body = control
        if kind == packets.PUBACK:
            if len(body) != 2:
                raise ProtocolError("the broker sent a PUBACK of the wrong length")
            with self._lock:
                self._unacknowledged.pop(body[0] << 8 | body[1], None)
        elif kind == packets.SUBACK:
            if len(body) != 2 + len(self.filters):
                raise ProtocolError("the broker sent a SUBACK of the wrong length")
            for position, granted in enumerate(body[2 : 2 + self.required]):
                if granted > 1:
                    raise LostError(
                        f"it does not let user {self.endpoint.username!r} read {self.filters[position]}; "
                        "check the broker's access list"
                    )
            self.subscribed = True
        elif kind == packets.CONNACK:
            raise ProtocolError("the broker sent a second CONNACK")
