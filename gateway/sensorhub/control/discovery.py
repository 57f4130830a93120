"""A follower of the log that keeps Home Assistant informed (`home_assistant` has the formats).

It remembers the newest value of every channel in one small file beside its cursor, so that a restart neither reads
the whole log again nor forgets a channel. Publications are retained and the same content again does no harm, so the file
may be some seconds old after a crash.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from sensorhub.channels import BY_NAME
from sensorhub.control.home_assistant import PREFIX, Publication, config_topic, discovery, state, state_topic
from sensorhub.errors import SensorhubError
from sensorhub.log.entries import MessageEntry, NodeEntry, NodeEvent, decode_entry
from sensorhub.wire import WireError, parse_pack, parse_signed
from sensorhub.wire.senml import Pack

FORMAT: Final = 1
SAVE_SECONDS: Final = 5.0

_SINGLE_DIGITS: Final = 7
"""Significant decimal digits of binary32, which is what nodes measure in."""


class DiscoveryError(SensorhubError):
    """Raised when the broker does not take a publication."""


class Publisher(Protocol):
    """The way to the broker. `connections` grows whenever it is connected anew: it may have lost what it kept."""

    connections: int

    def publish(self, publications: list[Publication]) -> None:
        """Publish all, retained, and return when the broker has them; raises DiscoveryError when it has not."""
        ...


@dataclass(slots=True)
class _Known:
    """What is known of one node: kind and key by its enrolment; channel: [value, Unix s]."""

    kind: str = ""
    key: str = ""
    values: dict[str, tuple[float, float]] = field(default_factory=dict)


class DiscoveryFollower:
    """Publishes discovery and state of every node of the site whose messages come by.

    Args:
        path: its file, made when missing.
        site: nodes of other sites in the log are passed over.
        publisher: the broker.
        log_id: leaf hash of the genesis entry, when known: with another log's file it begins anew.
        prefix: what Home Assistant has been told to look under.
        clock: seconds that never jump, to space out saving.
    """

    name = "discovery"

    def __init__(
        self,
        path: Path,
        *,
        site: str,
        publisher: Publisher,
        log_id: bytes = b"",
        prefix: str = PREFIX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._site = site
        self._publisher = publisher
        self._log_id = log_id.hex()
        self._prefix = prefix
        self._clock = clock
        self._nodes: dict[str, _Known] = {}
        self._cursor = 0
        self._published = 0
        self._load()
        self._saved = clock()
        self._greeted: int | None = None  # the connection in which everything was told; None: not told

    def cursor(self) -> int:
        """Index of the next entry it needs."""
        return self._cursor

    def apply(self, batch: list[tuple[int, bytes]]) -> None:
        """Takes entries in order and publishes what is new, each node's state at most once.

        Raises:
            DiscoveryError: the broker is away; the same entries may come again.
        """
        out: dict[str, Publication] = {}
        changed: set[str] = set()
        connection = self._publisher.connections
        if self._greeted != connection:
            for name, node in self._nodes.items():
                for channel in node.values:
                    self._add(out, discovery(self._site, name, node.kind, BY_NAME[channel], self._prefix))
                changed.add(name)
        for _, raw in batch:
            entry = decode_entry(raw)
            if isinstance(entry, MessageEntry):
                self._message(entry, out, changed)
            elif isinstance(entry, NodeEntry):
                self._node(entry, out, changed)
        for name in sorted(changed):
            known = self._nodes.get(name)
            if known and known.values:
                values = {channel: value for channel, (value, _) in known.values.items()}
                newest = max(measured for _, measured in known.values.values())
                self._add(out, state(self._site, name, values, newest))
        if out:
            self._greeted = None  # until it is known that all of it arrived
            self._publisher.publish(list(out.values()))
            self._published += len(out)
        self._greeted = connection
        self._cursor = batch[-1][0] + 1
        if self._clock() - self._saved >= SAVE_SECONDS:
            self.save()

    def status(self) -> dict[str, Any]:
        """Nodes known, and publications made since the start."""
        return {"nodes": len(self._nodes), "published": self._published}

    def save(self) -> None:
        """Write the file; also to be called at the end of the process."""
        document = {
            "format": FORMAT,
            "log": self._log_id,
            "site": self._site,
            "cursor": self._cursor,
            "nodes": {name: asdict(known) for name, known in self._nodes.items()},
        }
        temporary = self._path.with_name(self._path.name + ".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(document), encoding="utf-8")
        temporary.replace(self._path)
        self._saved = self._clock()

    def _load(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if (document["format"], document["log"], document["site"]) != (FORMAT, self._log_id, self._site):
                return
            nodes = {
                str(name): _Known(
                    str(known["kind"]),
                    str(known["key"]),
                    {
                        channel: (float(value), float(measured))
                        for channel, (value, measured) in known["values"].items()
                        if channel in BY_NAME
                    },
                )
                for name, known in document["nodes"].items()
            }
            self._cursor = int(document["cursor"])
            self._nodes = nodes

    @staticmethod
    def _add(out: dict[str, Publication], publication: Publication) -> None:
        out[publication.topic] = publication

    def _message(self, entry: MessageEntry, out: dict[str, Publication], changed: set[str]) -> None:
        try:
            signed = parse_signed(entry.message)
            pack = parse_pack(signed.payload, tq=signed.tq)
        except WireError:
            return  # the log takes none such; if it did, others report it
        if pack.site != self._site or pack.base_time is None:
            return
        known = self._nodes.setdefault(pack.node, _Known())
        for channel, value, measured in _numbers(pack):
            before = known.values.get(channel)
            if before is None:
                self._add(out, discovery(self._site, pack.node, known.kind, BY_NAME[channel], self._prefix))
            if before is None or measured >= before[1]:
                known.values[channel] = (value, measured)
                changed.add(pack.node)

    def _node(self, entry: NodeEntry, out: dict[str, Publication], changed: set[str]) -> None:
        known = self._nodes.setdefault(entry.node, _Known())
        key = entry.public_key.hex()
        if entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE):
            known.key = key
            if known.kind != entry.kind:
                known.kind = entry.kind
                for channel in known.values:
                    self._add(
                        out, discovery(self._site, entry.node, known.kind, BY_NAME[channel], self._prefix)
                    )
        elif entry.event == NodeEvent.REVOKE and known.key == key:
            for channel in known.values:
                self._add(out, Publication(config_topic(self._site, entry.node, channel, self._prefix), b""))
            self._add(out, Publication(state_topic(self._site, entry.node), b""))
            del self._nodes[entry.node]
            changed.discard(entry.node)


def _numbers(pack: Pack) -> list[tuple[str, float, float]]:
    """(channel, value, Unix s) of the readings that Home Assistant can show."""
    assert pack.base_time is not None
    found = []
    for name, offset, value in zip(pack.names, pack.times, pack.values, strict=True):
        if not isinstance(value, bytes):
            found.append((name, _short(value), pack.base_time + offset))
    return found


def _short(value: float) -> float:
    """A binary32 in the decimal digits it has: 21.5, not 21.5 and what binary64 adds to it."""
    return value if isinstance(value, int) else float(f"{value:.{_SINGLE_DIGITS}g}")
