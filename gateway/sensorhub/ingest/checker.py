"""The checks that need no order: topic, envelope, signature, content. Run by several threads at once."""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cbor2 import dumps

from sensorhub.ingest.packets import Publish
from sensorhub.log.entries import MESSAGE
from sensorhub.nodes.registry import Registry
from sensorhub.wire import (
    MAX_MESSAGE_BYTES,
    Announce,
    Reason,
    WireError,
    decode,
    decode_announce,
    parse_signed,
    split_topic,
)

_LOG: Final = logging.getLogger(__name__)

SLICE: Final = 32
"""Messages a thread takes at a time."""
TOPICS_KEPT: Final = 16_384

AFTER_SIGNATURE: Final = frozenset(
    (Reason.NAME_MISMATCH, Reason.NOT_SENML, Reason.UNKNOWN_CHANNEL, Reason.NOT_FINITE, Reason.FUTURE)
)


class Accepted(NamedTuple):
    """A data message that passed every check.

    Attributes:
        entry: the encoded log entry.
        message_hash: SHA-256 of the message.
        readings: how many it carries.
    """

    kid: bytes
    boot: int
    seq: int
    prev: bytes
    message_hash: bytes
    readings: int
    entry: bytes


class Rejected(NamedTuple):
    """A message that failed one.

    Attributes:
        reason: the first reason that applies.
        detail: what was found.
        version: of the registry that was asked.
        settles: (kid, boot, seq) when the node itself signed it and it will be refused for ever.
    """

    reason: Reason
    detail: str
    version: int
    settles: tuple[bytes, int, int] | None


class Announced(NamedTuple):
    """An announce that is rightly signed by the key it presents; whether that key may enrol is not decided."""

    node: str
    announce: Announce


class Status(NamedTuple):
    """A status message of a node, or of the broker when there is no node; its content is not looked at."""

    node: str


Checked = Accepted | Rejected | Announced | Status


@dataclass(slots=True)
class Batch:
    """Messages of one read from the socket, in order of arrival, and what came of their checks.

    Attributes:
        messages: as received.
        epoch: connection they came through.
        received_ms: Unix milliseconds.
        checked: one for each message, valid once `done` is set.
    """

    messages: list[Publish]
    epoch: int
    received_ms: int
    checked: list[Checked | None]
    done: threading.Event = field(default_factory=threading.Event)
    left: int = 0


class Checker:
    """A pool of threads that check batches.

    libsecp256k1 runs without the interpreter lock, so threads share the work of several cores although
    they are threads of Python; the README has the numbers.

    Args:
        site: the gateway's site.
        registry: keys by kid; read by all threads, written by the committer.
        future_tolerance: seconds a synchronised clock may be ahead.
        threads: how many.
    """

    def __init__(self, site: str, registry: Registry, *, future_tolerance: float, threads: int) -> None:
        self._site = site
        self._registry = registry
        self._tolerance = future_tolerance
        self._work: queue.SimpleQueue[tuple[Batch, int, int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._topics: dict[bytes, tuple[str, str, str] | None] = {}
        self._threads = [
            threading.Thread(target=self._run, name=f"check-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads after the work that waits."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, messages: list[Publish], epoch: int) -> Batch:
        """Hands a batch to the threads; its `done` is set when all messages are checked."""
        count = len(messages)
        batch = Batch(messages, epoch, time.time_ns() // 1_000_000, [None] * count)
        starts = range(0, count, SLICE)
        batch.left = len(starts)
        for start in starts:
            self._work.put((batch, start, min(start + SLICE, count)))
        return batch

    def check(self, message: Publish, received_ms: int) -> Checked:
        """Checks one message; never raises."""
        try:
            return self._check(message, received_ms)
        except Exception as error:  # noqa: BLE001 - one message must not stop all others, nor come again for ever
            _LOG.exception("checking a message failed; it goes to the quarantine")
            detail = f"{type(error).__name__} while checking it: a fault of this program, please report it"
            return Rejected(Reason.NOT_SENML, detail, 0, None)

    def _check(self, message: Publish, received_ms: int) -> Checked:
        if message.topic.startswith(b"$"):
            return Status("")
        parts = self._parts(message.topic)
        registry = self._registry
        version = registry.version
        if parts is None or parts[0] != self._site:
            if len(message.payload) > MAX_MESSAGE_BYTES:
                detail = f"more than {MAX_MESSAGE_BYTES} bytes, and the topic names no node of this site"
                return Rejected(Reason.TOO_LARGE, detail, version, None)
            topic = message.topic[:128].decode("utf-8", "replace")
            return Rejected(
                Reason.NAME_MISMATCH, f"topic {topic!r} names no node of this site", version, None
            )
        _, node, leaf = parts
        raw = message.payload
        if leaf == "announce":
            try:
                return Announced(node, decode_announce(raw, site=self._site, node=node))
            except WireError as error:
                return Rejected(error.reason, error.detail, version, None)
        if leaf != "data":
            return Status(node)
        try:
            decoded = decode(
                raw,
                public_key=registry.public_key,
                site=self._site,
                node=node,
                now=received_ms / 1000,
                future_tolerance=self._tolerance,
            )
        except WireError as error:
            return self._reject(error, raw, node, version)
        signed = decoded.signed
        key = registry.key(signed.kid)
        if key is None or key.node != node:
            return Rejected(
                Reason.NAME_MISMATCH, f"signed by a key that is not of node {node!r}", version, None
            )
        return Accepted(
            signed.kid,
            signed.boot,
            signed.seq,
            signed.prev,
            hashlib.sha256(raw).digest(),
            len(decoded.pack.names),
            # what encode_entry makes of a MessageEntry, without its checks of what is known here
            dumps((MESSAGE, received_ms, raw)),
        )

    def _reject(self, error: WireError, raw: bytes, node: str, version: int) -> Rejected:
        reason = error.reason
        if reason not in AFTER_SIGNATURE:
            return Rejected(reason, error.detail, version, None)
        signed = parse_signed(raw)
        key = self._registry.key(signed.kid)
        if key is None or key.node != node:
            return Rejected(
                Reason.NAME_MISMATCH, f"signed by a key that is not of node {node!r}", version, None
            )
        # a message from the future becomes good with time, or when the gateway's own clock is put right
        settles = None if reason is Reason.FUTURE else (signed.kid, signed.boot, signed.seq)
        return Rejected(reason, error.detail, version, settles)

    def _parts(self, topic: bytes) -> tuple[str, str, str] | None:
        try:
            return self._topics[topic]
        except KeyError:
            pass
        try:
            parts = split_topic(topic.decode())
        except UnicodeDecodeError:
            parts = None
        if len(self._topics) >= TOPICS_KEPT:
            self._topics.clear()
        self._topics[topic] = parts
        return parts

    def _run(self) -> None:
        check: Callable[[Publish, int], Checked] = self.check
        while (work := self._work.get()) is not None:
            batch, start, stop = work
            messages, checked, received_ms = batch.messages, batch.checked, batch.received_ms
            for position in range(start, stop):
                checked[position] = check(messages[position], received_ms)
            with self._lock:
                batch.left -= 1
                last = batch.left == 0
            if last:
                batch.done.set()
