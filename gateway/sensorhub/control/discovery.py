"""The follower of the log that knows the site's nodes and keeps Home Assistant informed (`home_assistant` has the formats).

It remembers who is enrolled, the newest value of every channel and what is muted in one small file beside its cursor, so
that a restart neither reads the whole log again nor forgets a channel. Publications are retained and the same content
again does no harm, so the file may be some seconds old after a crash.

What the broker may still keep is in a second file, which the log could not give back: it is written before anything is
published, so that whatever is no longer wanted is taken back, be it years and another prefix later.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from sensorhub.channels import BY_NAME
from sensorhub.control.connection import Publication
from sensorhub.control.errors import UnacknowledgedError
from sensorhub.control.home_assistant import config_topic, discovery, state
from sensorhub.flags import TRUSTED, flag_names
from sensorhub.log.entries import (
    ARTEFACT,
    MESSAGE,
    NODE,
    VERDICT,
    ArtefactEntry,
    MessageEntry,
    NodeEntry,
    NodeEvent,
    VerdictEntry,
    decode_entry,
    kind_of,
    outranks,
)
from sensorhub.log.reader import LogReader
from sensorhub.wire import WireError, parse_pack, parse_signed, topic
from sensorhub.wire.senml import Pack

FORMAT: Final = 4
TOLD_FORMAT: Final = 1
SAVE_SECONDS: Final = 5.0
MAX_RECENT: Final = 4096
"""Newest messages whose verdicts, first or corrected, are looked at."""
ATTEMPTS: Final = 3
"""A broker that does not let the gateway write to a topic of before may end the connection instead of saying so; then
what it has is left there after so many, rather than that nothing else is told."""

_SINGLE_DIGITS: Final = 7
"""Significant decimal digits of binary32, which is what nodes measure in."""


class Publisher(Protocol):
    """The way to the broker. `connections` grows whenever it is connected anew: it may have lost what it kept."""

    connections: int

    def publish(self, publications: Sequence[Publication]) -> None:
        """Publish all, retained, and return when the broker has them.

        Raises ControlError when it has not, UnacknowledgedError when it was there and does not say that it has.
        """
        ...


@dataclass(slots=True)
class _Known:
    """What is known of one node.

    Attributes:
        kind: by its enrolment.
        key: its key in force, hexadecimal; empty when it is not enrolled.
        values: channel to [value, Unix s].
        doubts: channel to [Unix s, names of the flags] of its newest judged reading that is not trusted.
        judged: channel to Unix s of its newest judged reading.
    """

    kind: str = ""
    key: str = ""
    values: dict[str, tuple[float, float]] = field(default_factory=dict)
    doubts: dict[str, list[str]] = field(default_factory=dict)
    judged: dict[str, float] = field(default_factory=dict)


class DiscoveryFollower:
    """Knows the site's nodes, and publishes discovery and state of every node whose messages come by.

    Args:
        path: its file, made when missing; beside it, ending in `.told`, which topics the broker may keep.
        site: nodes of other sites in the log are passed over.
        publisher: the broker.
        reader: the log, to look up which reading somebody speaks of.
        log_id: leaf hash of the genesis entry, when known: with another log's file it begins anew.
        prefix: what Home Assistant has been told to look under; None tells it nothing. What was told under another one,
            or before None, is taken back.
        live: whether publishing may begin; until `tell` is called otherwise.
        clock: seconds that never jump, to space out saving.
        now: Unix seconds, by which mutes end.
    """

    name = "control"

    def __init__(
        self,
        path: Path,
        *,
        site: str,
        publisher: Publisher,
        reader: LogReader,
        log_id: bytes = b"",
        prefix: str | None,
        live: bool = True,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._told_path = path.with_suffix(".told")
        self._site = site
        self._publisher = publisher
        self._reader = reader
        self._log_id = log_id.hex()
        self._prefix = prefix
        self._live = live
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._nodes: dict[str, _Known] = {}
        self._cursor = 0
        self._published = 0
        self._greeted: int | None = None  # the connection in which everything was told; None: not told
        self._described: set[str] = set()  # nodes whose discovery is to be published,
        self._changed: set[str] = set()  # whose state is
        self._told: set[str] = set()  # topics that the broker may keep,
        self._fewer = False  # some of which may have become too many,
        self._unacknowledged = 0  # times that it did not say it has let go of them,
        self._left: set[str] = set()  # and those that are left to it for that
        # node to channel to the Unix second at which its mute ends: all, and those in force when it was last told
        self._mutes: dict[str, dict[str, int]] = {}
        self._muted: dict[str, dict[str, int]] = {}
        self._recent: dict[int, tuple[str, list[tuple[str, float]]]] = {}
        self._ranks: dict[int, str] = {}  # of those that are judged, whose verdict is in force
        self._load()
        self._saved = clock()

    def cursor(self) -> int:
        """Index of the next entry it needs."""
        return self._cursor

    def enrolled(self, node: str) -> bool:
        """Whether a key of this node is in force."""
        known = self._nodes.get(node)
        return known is not None and bool(known.key)

    def apply(self, batch: list[tuple[int, bytes]]) -> None:
        """Takes entries in order and publishes what is new, each node's state at most once.

        Raises:
            ControlError: the broker is away; the same entries may come again.
        """
        with self._lock:
            for index, raw in batch:
                self._take(index, raw)
            self._tell()
            self._cursor = batch[-1][0] + 1
            if self._clock() - self._saved >= SAVE_SECONDS:
                self.save()

    def tell(self, *, again: bool = False) -> None:
        """Publishes what has not been told in this connection; with `again` everything.

        Raises:
            ControlError: the broker is away.
        """
        with self._lock:
            self._live = True
            if again:
                self._greeted = None
            self._tell()

    def status(self) -> dict[str, Any]:
        """Nodes known, and publications made since the start."""
        return {"known": len(self._nodes), "published": self._published}

    @property
    def problem(self) -> str:
        """What a person has to do, or nothing."""
        if not self._left:
            return ""
        return (
            f"what Home Assistant was told before stays at the broker, as in {min(self._left)}: let the gateway write there "
            "and start it again"
        )

    def save(self) -> None:
        """Write the file; also to be called at the end of the process."""
        document = {
            "format": FORMAT,
            "log": self._log_id,
            "site": self._site,
            "cursor": self._cursor,
            "nodes": {name: asdict(known) for name, known in self._nodes.items()},
            "mutes": self._mutes,
        }
        _write(self._path, document)
        self._saved = self._clock()

    def _load(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(self._told_path.read_text(encoding="utf-8"))
            if document["format"] == TOLD_FORMAT:
                self._told = {str(name) for name in document["topics"]}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if (document["format"], document["log"], document["site"]) != (FORMAT, self._log_id, self._site):
                return
            nodes = {str(name): _known(fields) for name, fields in document["nodes"].items()}
            mutes = {
                str(name): {str(channel): int(until) for channel, until in ends.items()}
                for name, ends in document["mutes"].items()
            }
            self._cursor = int(document["cursor"])
            self._nodes, self._mutes = nodes, mutes
            if self._prefix is None:  # they are not followed, and would be old when it is switched on again
                for known in nodes.values():
                    known.values, known.doubts, known.judged = {}, {}, {}

    def _take(self, index: int, raw: bytes) -> None:
        kind = kind_of(raw)
        if kind == NODE:
            entry = decode_entry(raw)
            assert isinstance(entry, NodeEntry)
            self._node(entry)
        elif kind == ARTEFACT:
            entry = decode_entry(raw)
            assert isinstance(entry, ArtefactEntry)
            self._artefact(index, entry)
        elif self._prefix is not None and kind == MESSAGE:
            entry = decode_entry(raw)
            assert isinstance(entry, MessageEntry)
            self._message(index, entry)
        elif self._prefix is not None and kind == VERDICT:
            entry = decode_entry(raw)
            assert isinstance(entry, VerdictEntry)
            self._verdict(entry)

    def _message(self, index: int, entry: MessageEntry) -> None:
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
                self._described.add(pack.node)
            if before is None or measured >= before[1]:
                known.values[channel] = (value, measured)
                self._changed.add(pack.node)
        records = [(name, pack.base_time + t) for name, t in zip(pack.names, pack.times, strict=True)]
        self._recent[index] = (pack.node, records)
        if len(self._recent) > MAX_RECENT:
            oldest = next(iter(self._recent))
            del self._recent[oldest]
            self._ranks.pop(oldest, None)

    def _verdict(self, entry: VerdictEntry) -> None:
        for index, pairs in entry.verdicts:
            node, records = self._recent.get(index, ("", []))
            known = self._nodes.get(node)
            if known is None or len(records) != len(pairs):
                continue
            if not outranks(entry.rules, self._ranks.get(index)):
                continue
            self._ranks[index] = entry.rules
            for (channel, measured), (score, flags) in zip(records, pairs, strict=True):
                if channel not in known.values or measured < known.judged.get(channel, measured):
                    continue
                known.judged[channel] = measured
                doubts = flag_names(flags) if score < TRUSTED else None
                if doubts != known.doubts.get(channel):
                    self._changed.add(node)
                if doubts is None:
                    known.doubts.pop(channel, None)
                else:
                    known.doubts[channel] = doubts

    def _artefact(self, index: int, entry: ArtefactEntry) -> None:
        # only where somebody says something of verdicts does this process need what it takes to read that: numpy
        from sensorhub.quality.reviews import WHAT, Action, said_in

        if entry.what != WHAT:
            return
        for said in said_in(self._reader, [(index, entry.ms, entry.sha256, entry.description)]):
            if said.review.action is Action.MUTE:
                self._mutes.setdefault(said.node, {})[said.channel] = said.review.until or 0

    def _node(self, entry: NodeEntry) -> None:
        key = entry.public_key.hex()
        if entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE):
            known = self._nodes.setdefault(entry.node, _Known())
            known.key = key
            if known.kind != entry.kind:
                known.kind = entry.kind
                self._described.add(entry.node)
        elif entry.event == NodeEvent.REVOKE:
            revoked = self._nodes.get(entry.node)
            if revoked is None or revoked.key != key:
                return
            self._fewer = True
            del self._nodes[entry.node]

    def _wanted(self) -> set[str]:
        """Topics that shall hold something."""
        if self._prefix is None:
            return set()
        nodes = [node for node, known in self._nodes.items() if known.values]
        return {config_topic(self._site, node, self._prefix) for node in nodes} | {
            topic(self._site, node, "state") for node in nodes
        }

    def _muted_now(self) -> dict[str, dict[str, int]]:
        """Mutes in force, by node and channel."""
        now = self._now()
        found = {
            node: {channel: until for channel, until in mutes.items() if until > now}
            for node, mutes in self._mutes.items()
        }
        return {node: mutes for node, mutes in found.items() if mutes}

    def _tell(self) -> None:
        if not self._live:
            return
        connection = self._publisher.connections
        muted = self._muted_now()
        if muted != self._muted:
            self._changed |= {
                node for node in muted.keys() | self._muted.keys() if muted.get(node) != self._muted.get(node)
            }
        described, changed = self._described, self._changed
        if self._greeted != connection:
            described = changed = set(self._nodes)
            self._fewer = True
        out: dict[str, bytes] = {}
        for name in sorted(described | changed if self._prefix is not None else ()):
            known = self._nodes.get(name)
            if known is None or not known.values:
                continue
            found = []
            if name in described:
                channels = [BY_NAME[channel] for channel in known.values]
                found.append(discovery(self._site, name, known.kind, channels, self._prefix or ""))
            if name in changed:
                values = {channel: value for channel, (value, _) in known.values.items()}
                newest = max(measured for _, measured in known.values.values())
                quiet = {
                    channel: until for channel, until in muted.get(name, {}).items() if channel in values
                }
                found.append(state(self._site, name, values, known.doubts, quiet, newest))
            out.update((publication.topic, publication.payload) for publication in found)
        self._publish(out)
        self._described, self._changed, self._muted = set(), set(), muted
        if self._fewer:
            self._take_back(self._told - self._wanted() - self._left)
        self._fewer = False
        self._greeted = connection

    def _take_back(self, topics: set[str]) -> None:
        try:
            self._publish(dict.fromkeys(sorted(topics), b""))
        except UnacknowledgedError:
            self._unacknowledged += 1
            if self._unacknowledged < ATTEMPTS:
                raise
            self._left = self._left | topics  # a new one: `problem` reads it in another thread
            self._unacknowledged = 0

    def _publish(self, out: Mapping[str, bytes]) -> None:
        if not out:
            return
        kept = {name for name, payload in out.items() if payload}
        self._remember(self._told | kept)
        self._publisher.publish([Publication(*item) for item in out.items()])
        self._published += len(out)
        self._remember((self._told | kept) - (out.keys() - kept))

    def _remember(self, told: set[str]) -> None:
        """Writes down what the broker may keep, when it is something else than before."""
        if told != self._told:
            _write(self._told_path, {"format": TOLD_FORMAT, "topics": sorted(told)})
            self._told = told


def _write(path: Path, document: Mapping[str, Any]) -> None:
    temporary = path.with_name(path.name + ".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(document), encoding="utf-8")
    temporary.replace(path)


def _known(fields: dict[str, Any]) -> _Known:
    """What the file says of a node; raises TypeError, ValueError or KeyError when it says something else."""
    values = {
        channel: (float(value), float(measured))
        for channel, (value, measured) in fields["values"].items()
        if channel in BY_NAME
    }
    return _Known(
        str(fields["kind"]),
        str(fields["key"]),
        values,
        {channel: [str(flag) for flag in flags] for channel, flags in fields["doubts"].items()},
        {channel: float(measured) for channel, measured in fields["judged"].items()},
    )


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
