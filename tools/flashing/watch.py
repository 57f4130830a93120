"""Seeing a node arrive: its signed announce, then its first logged reading.

Three ways, each of which believes only what it can check:

- `LogWatch` reads the log of a gateway on this computer.
- `ApiWatch` asks a gateway's API, and takes the key from the proof of the first message.
- `BrokerWatch` listens at the broker as the node itself may (its user reads only below its own name), checks the announce's
  signature, and takes the gateway's receipt as the word that a reading is logged.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from flashing.exits import Exit, FlashError
from flashing.node_json import Identity
from flashing.settings import Broker
from sensorhub.channels import BY_NAME
from sensorhub.log.entries import MessageEntry, NodeEntry, NodeEvent, decode_entry
from sensorhub.log.reader import LogReader
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


class LogWatch:
    """The log of a gateway on this computer, from its present end on."""

    def __init__(self, data_dir: Path, site: str, node: str) -> None:
        self._reader = LogReader(data_dir / "log")
        self._next = self._reader.size()
        self._site, self._node = site, node
        self._sight = Sight()

    def look(self) -> Sight:
        size = self._reader.size()
        for index, raw in self._reader.entries(self._next, size) if size > self._next else ():
            entry = decode_entry(raw)
            sight = self._sight
            if isinstance(entry, NodeEntry):
                if entry.node == self._node and entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE):
                    self._sight = Sight(kid(entry.public_key).hex(), "", None)
            elif isinstance(entry, MessageEntry) and not sight.reading:
                signed = parse_signed(entry.message)
                pack = parse_pack(signed.payload, tq=signed.tq)
                if (pack.site, pack.node) == (self._site, self._node):
                    self._sight = sight.with_pack(signed.kid.hex(), pack, index)
        self._next = size
        return self._sight

    def close(self) -> None:
        self._reader.close()


class ApiWatch:
    """A gateway's API; messages that it knew before do not count."""

    def __init__(self, url: str, node: str) -> None:
        self._url, self._node = url, node
        self._before = self._newest()[0]
        self._sight = Sight()

    def look(self) -> Sight:
        if self._sight.reading:
            return self._sight
        index, _rows = self._newest()
        if index <= self._before:
            return self._sight
        try:
            proof = self._get(f"/api/v1/proof/{index}")
            entry = decode_entry(base64.b64decode(proof["entry"]))
        except urllib.error.HTTPError:
            return self._sight  # not covered by a checkpoint yet
        except (ValueError, KeyError, TypeError):
            raise FlashError(Exit.UNREACHABLE, f"{self._url} answers with something else") from None
        if isinstance(entry, MessageEntry):
            signed = parse_signed(entry.message)
            pack = parse_pack(signed.payload, tq=signed.tq)
            self._before = index
            if pack.node == self._node:
                self._sight = self._sight.with_pack(signed.kid.hex(), pack, index)
        return self._sight

    def close(self) -> None:
        """Holds nothing."""

    def _newest(self) -> tuple[int, list[dict[str, Any]]]:
        """Log index of the newest message of the node, -1 for none."""
        try:
            rows: list[dict[str, Any]] = self._get(f"/api/v1/nodes/{self._node}/latest")
        except urllib.error.HTTPError as error:
            if error.code in (404, 503):
                return -1, []
            raise FlashError(Exit.UNREACHABLE, f"{self._url} answers with {error.code}") from None
        return max((int(row["message"]) for row in rows), default=-1), rows

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self._url + path, timeout=REQUEST_S) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, OSError) as error:
            raise FlashError(Exit.UNREACHABLE, f"{self._url} does not answer: {error}") from None
        except ValueError:
            raise FlashError(
                Exit.UNREACHABLE,
                f"{self._url} is no gateway: it does not answer in JSON",
                "Correct --gateway.",
            ) from None


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
                leaves = ("announce", "data", "receipt")
                client.subscribe([(topic(self._site, self._node, leaf), 1) for leaf in leaves])

        def arrived(_client: Client, _userdata: Any, message: MQTTMessage) -> None:
            with self._lock:
                self._take(message.topic.rpartition("/")[2], bytes(message.payload))

        self._client.on_connect = connected
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
