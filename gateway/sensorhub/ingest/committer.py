"""The one writer: puts checked messages into the log in order, commits, then acknowledges and receipts.

Everything that depends on order happens here in one thread: enrolment, duplicates, clones, links. Nothing is
acknowledged before the commit that holds it has returned, so a crash at any point only makes the broker and
the nodes send again, and what they send again is recognised by the guard.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import cbor2
import msgspec

from sensorhub.errors import SensorhubError
from sensorhub.ingest import state
from sensorhub.ingest.appends import Appends, Submission, refuse
from sensorhub.ingest.checker import Accepted, Announced, Batch, Checked, Checker, Rejected
from sensorhub.ingest.guard import Guard, Logged
from sensorhub.ingest.index import MessageIndex
from sensorhub.ingest.packets import Publish
from sensorhub.ingest.quarantine import Quarantine, Refused
from sensorhub.ingest.used_claims import UsedClaims
from sensorhub.log.entries import (
    MESSAGE,
    NODE,
    Genesis,
    NodeEntry,
    NodeEvent,
    decode_entry,
    encode_entry,
    kind_of,
)
from sensorhub.log.errors import LogError, LogUnsyncedError
from sensorhub.log.log import Log
from sensorhub.log.merkle import leaf_hash
from sensorhub.log.reader import LogReader
from sensorhub.nodes.claims import Claims
from sensorhub.nodes.registry import Registry
from sensorhub.wire import (
    Announce,
    Reason,
    encode_receipt,
    parse_signed,
    topic,
)

RECEIPT_SECONDS: Final = 0.03
"""A node gets at most one receipt in this time; the newest says it all."""
SNAPSHOT_SECONDS: Final = 60.0
SNAPSHOT_ENTRIES: Final = 200_000
RETRY_SECONDS: Final = 1.0
MAX_STATUS_BYTES: Final = 1_024


class _StopError(Exception):
    """Raised within the committer when it has to stop while the log cannot be written."""


class Committer:
    """Owner of the log, the registry and the guard.

    Args:
        log: open for writing.
        reader: of the same log.
        data_dir: the gateway's data directory.
        site: site of the topics.
        open_enrolment: enrol unknown nodes without a claim.
        quarantine: where refused messages go.
        settle: acknowledges (packet identifiers, messages, connection) to the broker.
        publish: sends (topic, payload) at QoS 1; False when it cannot now.
        commit_interval: seconds a commit may wait for more messages while they keep coming.
        commit_entries: entries that make it go ahead at once.

    Attributes:
        messages, readings, duplicates, refused: counted since the start of this process.
        problem: why the log cannot be written at the moment, or None.
        claims: those that enrolments used.
        failure: why `run` ended by itself, or None: the log has to be opened again by a new process.
    """

    def __init__(
        self,
        *,
        log: Log,
        reader: LogReader,
        data_dir: Path,
        site: str,
        open_enrolment: bool,
        quarantine: Quarantine,
        settle: Callable[[Sequence[int], int, int], None],
        publish: Callable[[str, bytes], bool],
        commit_interval: float,
        commit_entries: int,
    ) -> None:
        self.log = log
        self.registry = Registry()
        self.guard = Guard(self._search)
        self.claims = UsedClaims(Claims(data_dir / "claims.json"))
        self.messages = 0
        self.readings = 0
        self.duplicates = 0
        self.refused: Counter[Reason] = Counter()
        self.problem: str | None = None
        self.failure: LogError | None = None
        self.quarantine_problem: str | None = None
        self.states: dict[str, dict[str, Any]] = {}
        self._reader = reader
        self._state_path = data_dir / "ingest.state"
        self._index_path = data_dir / "ingest.index"
        self._index: MessageIndex | None = None
        self._site = site
        self._open = open_enrolment
        self._quarantine = quarantine
        self._settle = settle
        self._publish = publish
        self._interval = commit_interval
        self._entries = commit_entries
        self._queue: queue.SimpleQueue[Batch | Submission | None] = queue.SimpleQueue()
        self._appends = Appends(log, self.registry, self._commit)
        self._checker: Checker | None = None
        self._stop = threading.Event()
        self._log_id = b""
        self._pending: dict[str, bytes] = {}
        self._receipted: dict[str, float] = {}
        self._saved_size = 0
        self._saved_time = time.monotonic()
        self._committed_time = 0.0

    def open(self, genesis: Genesis) -> None:
        """Writes the genesis entry of a new log, or rebuilds registry and guard from one that has entries.

        Raises:
            SensorhubError: the log belongs to another site, or cannot be read or written.
        """
        if self.log.size == 0:
            self.log.append(encode_entry(genesis))
            self.log.commit()
        first = self._reader.entry(0)
        found = decode_entry(first)
        if not isinstance(found, Genesis) or found.site != genesis.site:
            raise SensorhubError(
                f"the log {self.log.path} belongs to site {getattr(found, 'site', None)!r}, not to "
                f"{genesis.site!r}: set gateway.site to it or choose another gateway.data_dir"
            )
        self._log_id = leaf_hash(first)
        self._index = MessageIndex(self._index_path, self._log_id)
        self._replay()
        self.claims.recall(self.registry, self._reader, self._site)

    @property
    def index_problem(self) -> str | None:
        """Why old duplicates are looked up slowly, or None."""
        return self._index.problem if self._index is not None else None

    def attach(self, checker: Checker) -> None:
        """Names the checker, which is asked again when a key was enrolled after a message was checked."""
        self._checker = checker

    def put(self, item: Batch | Submission) -> None:
        """Queues a batch or a submission; from any thread."""
        self._queue.put(item)

    def submit(self, entries: Sequence[bytes]) -> Future[int]:
        """Queues entries of another process, which `AppendServer` has checked; from any thread.

        Returns:
            The index of the first once all are committed. A SensorhubError when they were refused, when the disk
            does not take them or the gateway stops: then none is in the log, unless it is an `AppendError` that
            says so. It may be cancelled until the committer begins with it.
        """
        first: Future[int] = Future()
        self.put(Submission(entries, first))
        return first

    def run(self) -> None:
        """Works until `stop`, or until a failed sync leaves nobody knowing what the disk holds."""
        try:
            while self._round():
                pass
            self._save()
        except _StopError:
            pass
        except LogUnsyncedError as error:
            self.failure = error
        finally:
            self._refuse_rest()
            if self._index is not None:
                self._index.close()

    def stop(self) -> None:
        """Ends `run` after what is queued, or at once when the log cannot be written."""
        self._stop.set()
        self._queue.put(None)

    def _round(self) -> bool:
        """One group commit of messages and one of what other processes append; False when it was the last."""
        items, go_on = self._gather()
        submissions = [item for item in items if isinstance(item, Submission)]
        try:
            acknowledgements: list[tuple[list[int], int, int]] = []
            for item in items:
                if isinstance(item, Batch):
                    item.done.wait()
                    acknowledgements.append(self._batch(item))
            if self.log.size > self.log.committed:
                self._commit()
            self._flush_quarantine()
            for mids, count, epoch in acknowledgements:
                self._settle(mids, count, epoch)
            self._appends.take(submissions)
        finally:
            refuse(submissions)
        self.claims.spend()
        self._send_receipts()
        self._save_sometimes()
        return go_on

    def _gather(self) -> tuple[list[Batch | Submission], bool]:
        """What waits, after a short wait for more when a commit has only just been made."""
        items: list[Batch | Submission] = []
        count = 0
        timeout = RECEIPT_SECONDS if self._pending else 1.0
        while True:
            try:
                item = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
            except queue.Empty:
                return items, True
            if item is None:
                return items, False
            items.append(item)
            count += len(item.messages) if isinstance(item, Batch) else len(item.entries)
            if count >= self._entries:
                return items, True
            timeout = self._committed_time + self._interval - time.monotonic()

    def _commit(self) -> None:
        """Commits, and keeps trying while the disk does not take it."""
        while True:
            try:
                self.log.commit()
            except LogUnsyncedError:
                raise
            except LogError as error:
                self.problem = str(error)
                if self._stop.wait(RETRY_SECONDS):
                    raise _StopError from None
            else:
                self.problem = None
                self._committed_time = time.monotonic()
                return

    def _batch(self, batch: Batch) -> tuple[list[int], int, int]:
        mids = []
        for message, checked in zip(batch.messages, batch.checked, strict=True):
            assert checked is not None
            self._take(message, checked, batch.received_ms)
            if message.mid:
                mids.append(message.mid)
        return mids, len(batch.messages), batch.epoch

    def _take(self, message: Publish, checked: Checked, ms: int) -> None:
        if isinstance(checked, Rejected):
            if checked.reason is Reason.UNKNOWN_KID and checked.version != self.registry.version:
                # its announce came in between
                assert self._checker is not None
                checked = self._checker.check(message, ms)
            if isinstance(checked, Rejected):
                self._reject(message, checked.reason, checked.detail, ms)
                if checked.settles is not None:
                    kid, boot, seq = checked.settles
                    self.guard.settle(kid, boot, seq)
                    self._owe_receipt(kid)
                return
        if isinstance(checked, Accepted):
            self._data(message, checked, ms)
        elif isinstance(checked, Announced):
            self._announce(message, checked.node, checked.announce, ms)
        else:
            self._node_status(message, checked.node)

    def _data(self, message: Publish, accepted: Accepted, ms: int) -> None:
        kid, boot, seq, prev, message_hash, readings, entry = accepted
        key = self.registry.key(kid)
        if key is None or key.revoked_index is not None:
            self._reject(message, Reason.UNKNOWN_KID, f"key {kid.hex()} was revoked", ms)
            return
        verdict = self.guard.judge(kid, seq, message_hash)
        if verdict.duplicate:
            self.duplicates += 1
            self.guard.settle(kid, boot, seq)
            self._pending[key.node] = kid
            return
        index = self.log.append(entry)
        self._record(index, kid, boot, seq, prev, message_hash, ms)
        if verdict.first is not None:
            self._note_clone(kid, verdict.first, index, ms)
        self.messages += 1
        self.readings += readings
        self._pending[key.node] = kid

    def _record(
        self, index: int, kid: bytes, boot: int, seq: int, prev: bytes, message_hash: bytes, ms: int
    ) -> None:
        assert self._index is not None
        self.guard.record(index, kid, boot, seq, prev, message_hash, ms)
        self._index.put(index, kid, seq)

    def _note_clone(self, kid: bytes, first: int, second: int, ms: int) -> None:
        key = self.registry.key(kid)
        assert key is not None
        self._add_node_entry(
            NodeEntry(
                ms,
                NodeEvent.CLONE,
                key.node,
                key.kind,
                key.public_key,
                key.owner,
                key.geohash,
                cbor2.dumps([first, second]),
            )
        )

    def _add_node_entry(self, entry: NodeEntry) -> int:
        index = self.log.append(encode_entry(entry))
        self.registry.apply(index, entry)
        return index

    def _announce(self, message: Publish, node: str, announce: Announce, ms: int) -> None:
        kid = announce.signed.kid
        key = self.registry.key(kid)
        if key is None:
            refusal = self._enrol(
                node, announce.public_key, announce.kind, announce.claim, message.payload, ms
            )
            if refusal is not None:
                self._reject(message, Reason.UNKNOWN_KID, refusal, ms)
                return
        elif key.node != node:
            self._reject(message, Reason.NAME_MISMATCH, f"this key is enrolled for node {key.node!r}", ms)
            return
        elif key.revoked_index is not None:
            self._reject(message, Reason.UNKNOWN_KID, f"key {kid.hex()} was revoked", ms)
            return
        self.states.setdefault(node, {})["firmware"] = announce.firmware
        self.guard.give_up_before(kid, announce.signed.boot, announce.oldest)
        self._receipted.pop(node, None)
        self._pending[node] = kid

    def _enrol(
        self, node: str, public_key: bytes, kind: str, claim: bytes | None, evidence: bytes, ms: int
    ) -> str | None:
        """Enrols a key if it may be; otherwise says why not."""
        known = self.registry.node(node) is not None
        grant = self.claims.find(node, claim)
        if grant is None:
            if known:
                return f"another key is enrolled for node {node!r}, and replacing it needs a claim"
            if not self._open:
                return f"node {node!r} is not enrolled and shows no valid claim"
        replaces = self.registry.current(node) is not None
        self._add_node_entry(
            NodeEntry(
                ms,
                NodeEvent.ROTATE if replaces else NodeEvent.ENROL,
                node,
                (grant.kind if grant is not None else "") or kind,
                public_key,
                grant.owner_bytes if grant is not None else None,
                grant.geohash if grant is not None else "",
                evidence,
            )
        )
        if grant is not None and claim is not None:
            self.claims.owe(node, claim)
        return None

    def _node_status(self, message: Publish, node: str) -> None:
        if self.registry.node(node) is None or len(message.payload) > MAX_STATUS_BYTES:
            return
        try:
            fields = msgspec.json.decode(message.payload, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        said = self.states.setdefault(node, {})
        if fields.get("state") in ("online", "offline", "asleep"):
            said["state"] = fields["state"]
        if type(fields.get("rssi")) is int:
            said["rssi"] = fields["rssi"]

    def _reject(self, message: Publish, reason: Reason, detail: str, ms: int) -> None:
        self.refused[reason] += 1
        name = message.topic[:512].decode("utf-8", "replace")
        with self._noting_quarantine():
            self._quarantine.put(Refused(ms, reason.value, detail, name, message.payload))

    def _flush_quarantine(self) -> None:
        with self._noting_quarantine():
            self._quarantine.flush()

    @contextlib.contextmanager
    def _noting_quarantine(self) -> Iterator[None]:
        try:
            yield
            self.quarantine_problem = None
        except OSError as error:
            self.quarantine_problem = (
                f"cannot write to the quarantine {self._quarantine.path}: {error.strerror}"
            )

    def _owe_receipt(self, kid: bytes) -> None:
        key = self.registry.key(kid)
        if key is not None and key.revoked_index is None:
            self._pending[key.node] = kid

    def _send_receipts(self) -> None:
        if not self._pending or self.log.committed < self.log.size:
            return
        now = time.monotonic()
        for node, kid in list(self._pending.items()):
            if now - self._receipted.get(node, 0.0) < RECEIPT_SECONDS:
                continue
            boot, seq = self.guard.receipt(kid)
            if not self._publish(topic(self._site, node, "receipt"), encode_receipt(boot, seq)):
                # not connected: the node asks again with its next announce or message
                return
            self._receipted[node] = now
            del self._pending[node]

    def _search(self, kid: bytes, seq: int, ranges: list[tuple[int, int]]) -> list[Logged]:
        if self.log.size > self.log.committed:
            # readers see committed entries only
            self._commit()
        assert self._index is not None
        found = []
        for index, entry in self._candidates(self._index.find(kid, seq, ranges), ranges):
            if kid in entry and kind_of(entry) == MESSAGE:
                message = cbor2.loads(entry)[2]
                signed = parse_signed(message)
                if signed.kid == kid and signed.seq == seq:
                    found.append(Logged(index, hashlib.sha256(message).digest()))
        return found

    def _candidates(
        self, indices: list[int] | None, ranges: list[tuple[int, int]]
    ) -> Iterator[tuple[int, bytes]]:
        if indices is not None:
            for index in indices:
                yield index, self._reader.entry(index)
        else:
            for first, last in ranges:
                yield from self._reader.entries(first, last + 1)

    def _replay(self) -> None:
        size = self.log.committed
        start = 0
        index_file = self._index
        assert index_file is not None
        snapshot = state.load(self._state_path)
        if (
            snapshot is not None
            and snapshot.log_id == self._log_id
            and snapshot.cursor <= min(size, index_file.covered())
        ):
            with contextlib.suppress(ValueError, TypeError, IndexError):
                self.guard.load(snapshot.guard)
                start = snapshot.cursor
            if start:
                for index in snapshot.node_entries:
                    self._replay_node_entry(index, self._reader.entry(index))
        index_file.begin(start)
        for index, entry in self._reader.entries(start, size):
            kind = kind_of(entry)
            if kind == MESSAGE:
                _, ms, message = cbor2.loads(entry)
                signed = parse_signed(message)
                message_hash = hashlib.sha256(message).digest()
                # the clone entry follows its message, so only the last entry of a crash can lack it
                first = (
                    self.guard.judge(signed.kid, signed.seq, message_hash).first
                    if index == size - 1
                    else None
                )
                self._record(index, signed.kid, signed.boot, signed.seq, signed.prev, message_hash, ms)
                if first is not None:
                    self._note_clone(signed.kid, first, index, ms)
                    self.log.commit()
            elif kind == NODE:
                self._replay_node_entry(index, entry)
        self._saved_size = start

    def _replay_node_entry(self, index: int, entry: bytes) -> None:
        decoded = decode_entry(entry)
        assert isinstance(decoded, NodeEntry)
        self.registry.apply(index, decoded)

    def _save_sometimes(self) -> None:
        grown = self.log.committed - self._saved_size
        if grown >= SNAPSHOT_ENTRIES or (grown and time.monotonic() - self._saved_time >= SNAPSHOT_SECONDS):
            self._save()

    def _save(self) -> None:
        assert self._index is not None
        if self.log.size > self.log.committed:
            self._commit()
        snapshot = state.Snapshot(
            self._log_id, self.log.committed, list(self.registry.indices), self.guard.dump()
        )
        # the snapshot vouches for the index; without either the next start only takes longer
        if self._index.sync(self.log.committed):
            with contextlib.suppress(OSError):
                state.save(self._state_path, snapshot)
        self._saved_size, self._saved_time = self.log.committed, time.monotonic()

    def _refuse_rest(self) -> None:
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return
            if isinstance(item, Submission):
                refuse([item])
