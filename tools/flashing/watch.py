"""Seeing a node arrive: its signed announce, then its first logged reading.

Three ways, each of which believes only what it can check:

- `LogWatch` reads the log of a gateway on this computer.
- `ApiWatch` reads the public log that a gateway elsewhere serves.
- `BrokerWatch` listens at the broker as the node itself may (its user reads only below its own name), checks the announce's
  signature, and takes the gateway's receipt as the word that a reading is logged.
"""

from __future__ import annotations

import ssl
import threading
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from flashing.exits import Exit, FlashError
from flashing.node_json import Identity
from flashing.settings import Broker
from sensorhub.channels import BY_NAME
from sensorhub.log.entries import MessageEntry, NodeEntry, NodeEvent, decode_entry
from sensorhub.log.merkle import TILE_WIDTH
from sensorhub.log.note import Checkpoint, NoteError
from sensorhub.log.reader import LogReader
from sensorhub.log.tiles import ENTRIES, TilePath, parse_bundle
from sensorhub.wire import (
    Pack,
    WireError,
    decode_announce,
    decode_pack,
    decode_receipt,
    kid,
    parse_pack,
    parse_signed,
    topic,
    verify,
)

POLL_S: Final = 0.25
COUNTERS: Final = frozenset({"rssi", "sensor_errors", "spool_dropped"})
"""What a node counts of itself: no reading of a sensor."""
REQUEST_S: Final = 5.0
NEVER_S: Final = 86_400
REFUSED_S: Final = 10.0
"""A broker takes a while to read its password file again."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What has been seen of a node so far.

    Attributes:
        key_id: hex key id, once the node has announced itself.
        reading: its first logged reading in words.
        index: log index of the message with that reading, where it can be told.
        failing: what it said instead of a reading: that its sensors fail.
    """

    key_id: str = ""
    reading: str = ""
    index: int | None = None
    failing: str = ""

    def with_pack(self, key_id: str, pack: Pack, index: int | None) -> Sight:
        """The sight after a logged message."""
        if COUNTERS.issuperset(pack.names):
            return replace(self, key_id=key_id, failing=in_words(pack))
        return replace(self, key_id=key_id, reading=in_words(pack), index=index)


class Watch(Protocol):
    """A way to see a node arrive."""

    def look(self) -> Sight:
        """What has been seen up to now. Raises FlashError when it cannot look."""

    def close(self) -> None:
        """Lets go of what it holds."""


def wait(
    watch: Watch,
    enough: Callable[[Sight], bool],
    timeout: float,
    tick: Callable[[float], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Sight:
    """Looks until it is enough or time is up; returns the last sight.

    Args:
        watch: where to look.
        enough: says when to stop.
        timeout: seconds.
        tick: told the part of the time that has passed, 0 to 1.
        clock: monotonic seconds.
    """
    began = clock()
    while True:
        sight = watch.look()
        passed = clock() - began
        if enough(sight) or passed >= timeout:
            return sight
        tick(passed / timeout)
        time.sleep(POLL_S)


def in_words(pack: Pack) -> str:
    """The values of a message for people."""
    words = []
    for name, value in zip(pack.names, pack.values, strict=True):
        channel = BY_NAME[name]
        shown = (
            value.hex()[:16] if isinstance(value, bytes) else f"{value:.{channel.decimals}f} {channel.unit}"
        )
        words.append(f"{name} {shown}")
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")


class EntryWatch(ABC):
    """A log from its present end on, wherever it is read from."""

    def __init__(self, site: str, node: str) -> None:
        self._site, self._node = site, node
        self._sight = Sight()
        self._next = self.size()

    @abstractmethod
    def size(self) -> int:
        """Number of entries that can be read; 0 for a log that has not begun."""

    @abstractmethod
    def entries(self, start: int, stop: int) -> Iterable[tuple[int, bytes]]:
        """Those entries with their indices."""

    def look(self) -> Sight:
        """Reads what is new."""
        size = self.size()
        for index, raw in self.entries(self._next, size) if size > self._next else ():
            self._take(index, raw)
            self._next = index + 1
        return self._sight

    def _take(self, index: int, raw: bytes) -> None:
        entry = decode_entry(raw)
        if isinstance(entry, NodeEntry):
            if entry.node == self._node and entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE):
                self._sight = Sight(kid(entry.public_key).hex())
        elif isinstance(entry, MessageEntry) and not self._sight.reading:
            signed = parse_signed(entry.message)
            pack = parse_pack(signed.payload, tq=signed.tq)
            if (pack.site, pack.node) == (self._site, self._node):
                self._sight = self._sight.with_pack(signed.kid.hex(), pack, index)


class LogWatch(EntryWatch):
    """The log of a gateway on this computer."""

    def __init__(self, data_dir: Path, site: str, node: str) -> None:
        self._reader = LogReader(data_dir / "log")
        super().__init__(site, node)

    def size(self) -> int:
        return self._reader.size()

    def entries(self, start: int, stop: int) -> Iterable[tuple[int, bytes]]:
        return self._reader.entries(start, stop)

    def close(self) -> None:
        self._reader.close()


class ApiWatch(EntryWatch):
    """The public log of a gateway elsewhere (C2SP tlog-tiles), up to its newest checkpoint.

    The API's own words on a node would not do: a reading whose time is not known yet is logged, but in no series.
    """

    def __init__(self, url: str, site: str, node: str) -> None:
        self._url = url
        super().__init__(site, node)

    def size(self) -> int:
        try:
            note = self._get("/log/checkpoint").decode()
            return Checkpoint.parse(note.partition("\n\n")[0] + "\n").size
        except urllib.error.HTTPError as error:
            if error.code == 503:  # not begun
                return 0
            raise FlashError(Exit.UNREACHABLE, f"{self._url} answers with {error.code}") from None
        except (ValueError, NoteError):
            raise FlashError(
                Exit.UNREACHABLE, f"{self._url} is no gateway: it has no log", "Correct --gateway."
            ) from None

    def entries(self, start: int, stop: int) -> Iterable[tuple[int, bytes]]:
        for bundle in range(start // TILE_WIDTH, -(-stop // TILE_WIDTH)):
            first = bundle * TILE_WIDTH
            path = TilePath(ENTRIES, bundle, min(TILE_WIDTH, stop - first))
            try:
                found = parse_bundle(self._get(f"/log/{path}"))
            except (urllib.error.HTTPError, ValueError) as error:
                raise FlashError(Exit.UNREACHABLE, f"{self._url} does not give {path}: {error}") from None
            for index, raw in enumerate(found, first):
                if index >= start:
                    yield index, raw

    def close(self) -> None:
        """Holds nothing."""

    def _get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(self._url + path, timeout=REQUEST_S) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, OSError) as error:
            raise FlashError(Exit.UNREACHABLE, f"{self._url} does not answer: {error}") from None


class BrokerWatch:
    """The broker, as the node's own user."""

    def __init__(self, broker: Broker, identity: Identity) -> None:
        from paho.mqtt.client import Client, MQTTMessage
        from paho.mqtt.enums import CallbackAPIVersion

        self._site, self._node = identity.site, identity.name
        self._lock = threading.Lock()
        self._public_key = b""
        self._pack: Pack | None = None
        self._sight = Sight()
        self._refused = ""
        self._refused_since = 0.0
        self._connected = self._taken_over = False
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="")
        self._client.username_pw_set(identity.user or identity.name, identity.password or None)
        if broker.ca:
            context = ssl.create_default_context()
            try:
                context.load_verify_locations(
                    cadata=broker.ca.decode() if broker.ca.startswith(b"-----") else broker.ca
                )
            except (ssl.SSLError, ValueError) as error:
                raise FlashError(Exit.SETTINGS, f"broker.ca is no certificate: {error}") from None
            self._client.tls_set_context(context)

        def connected(client: Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                self._refused_since = self._refused_since or time.monotonic()
                self._refused = str(reason)
            else:
                self._refused_since = 0.0
                self._connected = True
                leaves = ("announce", "data", "receipt")
                client.subscribe([(topic(self._site, self._node, leaf), 1) for leaf in leaves])

        def arrived(_client: Client, _userdata: Any, message: MQTTMessage) -> None:
            with self._lock:
                self._take(message.topic.rpartition("/")[2], bytes(message.payload))

        def disconnected(client: Client, *_: Any) -> None:
            if self._connected:
                # going back would throw the node off its broker, and it us, for ever
                self._taken_over = True
                client.reconnect_delay_set(NEVER_S, NEVER_S)

        self._client.on_connect = connected
        self._client.on_disconnect = disconnected
        self._client.on_message = arrived
        try:
            self._client.connect(broker.host, broker.port, keepalive=30)
        except OSError as error:
            raise FlashError(
                Exit.UNREACHABLE,
                f"the broker {broker.host}:{broker.port} cannot be reached from here: {error}",
                "Say where to look with --gateway URL or --gateway-dir DIR, or start the broker.",
            ) from None
        self._client.loop_start()

    def look(self) -> Sight:
        if self._taken_over:
            raise FlashError(
                Exit.UNREACHABLE,
                "the broker lets a user connect once, and the node has that connection now: it is online, but its "
                "reading cannot be seen from here",
                "Look at the gateway's page, or say where to look with --gateway URL or --gateway-dir DIR.",
            )
        since = self._refused_since
        if since and time.monotonic() - since > REFUSED_S:
            raise FlashError(
                Exit.UNREACHABLE,
                f"the broker refuses the node's user: {self._refused}",
                "Register the node first, or say where to look with --gateway URL.",
            )
        with self._lock:
            return self._sight

    def close(self) -> None:
        self._connected = False
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, leaf: str, payload: bytes) -> None:
        try:
            if leaf == "announce":
                announce = decode_announce(payload, site=self._site, node=self._node)
                self._public_key = announce.public_key
                self._sight = replace(self._sight, key_id=kid(announce.public_key).hex())
            elif leaf == "data" and self._public_key and self._pack is None:
                signed = parse_signed(payload)
                if verify(signed, self._public_key):
                    self._pack = decode_pack(signed, site=self._site, node=self._node, now=time.time())
            elif leaf == "receipt" and self._pack is not None and decode_receipt(payload)[1] > 0:
                self._sight = self._sight.with_pack(self._sight.key_id, self._pack, None)
                if self._sight.failing and not self._sight.reading:
                    self._pack = None  # the next one may be better
        except (WireError, ValueError):
            return  # somebody else's noise; the gateway counts it
