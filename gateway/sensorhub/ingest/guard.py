"""What has been logged of each key: duplicates, reused sequence numbers, broken links, and how far a receipt goes.

Memory per key is bounded and yet no old duplicate slips through: exact hashes are kept of the newest
sequence numbers only, for everything older the log itself is searched, guided by a short table of where in
the log which numbers stand. The state is a projection of the log, and of what nodes say when they announce
themselves, which they do again and again: a snapshot only saves time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

WINDOW: Final = 256
"""Newest sequence numbers per key whose hashes are in memory (10 KB a key)."""
MAX_SPANS: Final = 256
"""Separate runs of sequence numbers remembered per key; of lower ones only the log knows."""
MAX_BLOCKS: Final = 256
"""Entries of the table of log positions per key; beyond it neighbours are joined."""
BLOCK: Final = 64
"""Messages one entry of that table covers at first."""
HASH: Final = 32
NO_PREVIOUS: Final = bytes(HASH)


@dataclass(frozen=True, slots=True)
class Logged:
    """A logged message of the key and number that was asked for."""

    index: int
    message_hash: bytes


Search = Callable[[bytes, int, list[tuple[int, int]]], list[Logged]]
"""(kid, seq, ranges of log indices, last included) to all logged messages of that key and number."""


class Verdict(NamedTuple):
    """What a message is: new, a duplicate, or evidence of a cloned key.

    Attributes:
        duplicate: the very same bytes are logged already.
        first: log index of another message with this number and other bytes, or None.
    """

    duplicate: bool
    first: int | None


NEW: Final = Verdict(False, None)
DUPLICATE: Final = Verdict(True, None)


class KeyState:
    """What is known of one key.

    Attributes:
        top: highest sequence number logged; 0 when none is.
        boot: boot number of the message that carried it.
        last_ms: when the newest message was received, Unix milliseconds.
        messages: messages logged.
        gaps: messages whose `prev` did not join the message logged before them.
        lost: numbers that the node gave up before any message of theirs arrived.
        contiguous: (boot, seq) of the receipt. Every number up to seq is in the log, was refused for good, or
            was given up by the node itself.
    """

    # Of settled numbers, those up to `contiguous` are of no more interest. Then comes a blurred stretch up to
    # `_blurred`, empty as a rule, of which only the log knows what it holds; above it the runs are exact.
    __slots__ = (
        "_block",
        "_blocks",
        "_blurred",
        "_boots",
        "_ends",
        "_hashes",
        "_seqs",
        "_starts",
        "boot",
        "contiguous",
        "gaps",
        "last_ms",
        "lost",
        "messages",
        "top",
    )

    def __init__(self) -> None:
        self.top = 0
        self.boot = 0
        self.last_ms = 0
        self.messages = 0
        self.gaps = 0
        self.lost = 0
        self.contiguous = (0, 0)
        self._blurred = 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._boots: list[int] = []
        self._seqs = array("Q", bytes(8 * WINDOW))
        self._hashes = bytearray(HASH * WINDOW)
        # flat quadruples: lowest and highest number, first and last log index, in log order
        self._blocks = array("Q")
        self._block = [BLOCK, 0]

    @property
    def missing(self) -> int:
        """Sequence numbers below `top` that are known to be neither logged nor given up."""
        ends = (self._blurred, *self._ends)
        return sum(start - end - 1 for start, end in zip(self._starts, ends, strict=False))

    def judge(
        self, seq: int, message_hash: bytes, search: Callable[[list[tuple[int, int]]], list[Logged]]
    ) -> Verdict:
        """Whether a message is new. `search` looks into the given ranges of the log, for its rare use."""
        if not self._settled(seq):
            return NEW
        slot = seq % WINDOW
        if self._seqs[slot] == seq and self._hashes[slot * HASH : slot * HASH + HASH] == message_hash:
            return DUPLICATE
        found = search(self._ranges(seq))
        if any(logged.message_hash == message_hash for logged in found):
            return DUPLICATE
        return Verdict(False, found[0].index) if found else NEW

    def record(self, index: int, boot: int, seq: int, prev: bytes, message_hash: bytes, ms: int) -> None:
        """Takes in a message that stands in the log at `index`."""
        if seq > self.top:
            slot = (seq - 1) % WINDOW
            if seq == 1:
                linked = prev == NO_PREVIOUS
            else:
                linked = (
                    self._seqs[slot] == seq - 1 and self._hashes[slot * HASH : slot * HASH + HASH] == prev
                )
            self.gaps += not linked
            self.top, self.boot = seq, boot
        elif seq > 1:
            slot = (seq - 1) % WINDOW
            if self._seqs[slot] == seq - 1 and self._hashes[slot * HASH : slot * HASH + HASH] != prev:
                self.gaps += 1
        self.messages += 1
        self.last_ms = ms
        slot = seq % WINDOW
        # of two messages with one number the first stays: later ones are judged against the log
        if self._seqs[slot] < seq:
            self._seqs[slot] = seq
            self._hashes[slot * HASH : slot * HASH + HASH] = message_hash
        self.settle(seq, boot)
        self._place(index, seq)

    def settle(self, seq: int, boot: int) -> None:
        """Counts a number as done: it is logged, or refused for good although rightly signed."""
        if seq == self.contiguous[1] + 1:
            self._advance(boot, seq)
            return
        if seq <= self._blurred:
            return
        starts, ends, boots = self._starts, self._ends, self._boots
        run = bisect_right(starts, seq) - 1
        if run >= 0 and seq <= ends[run]:
            return
        joins_next = run + 1 < len(starts) and starts[run + 1] == seq + 1
        if run >= 0 and seq == ends[run] + 1:
            ends[run], boots[run] = seq, boot
            if joins_next:
                ends[run], boots[run] = ends.pop(run + 1), boots.pop(run + 1)
                del starts[run + 1]
        elif joins_next:
            starts[run + 1] = seq
        else:
            starts.insert(run + 1, seq)
            ends.insert(run + 1, seq)
            boots.insert(run + 1, boot)
            if len(starts) > MAX_SPANS:
                # Nothing may be joined over a hole, or a receipt would cover what is not in the log.
                self._blurred = ends[0]
                del starts[0], ends[0], boots[0]

    def give_up_before(self, oldest: int, boot: int) -> None:
        """Takes the node's word that it holds no message before number `oldest` any more."""
        floor = oldest - 1
        if floor <= self.contiguous[1]:
            return
        if floor > self._blurred:
            run = bisect_right(self._ends, floor)
            known = sum(self._ends[:run]) - sum(self._starts[:run]) + run
            if run < len(self._starts) and self._starts[run] <= floor:
                known += floor - self._starts[run] + 1
            self.lost += floor - self._blurred - known
            if run and self._ends[run - 1] == floor:
                boot = self._boots[run - 1]
            del self._starts[:run], self._ends[:run], self._boots[:run]
        self._advance(boot, floor)

    def _advance(self, boot: int, seq: int) -> None:
        """Everything up to `seq` is settled, and with it the run that follows at once."""
        self._blurred = max(self._blurred, seq)
        if seq == self._blurred and self._starts and self._starts[0] <= seq + 1:
            seq, boot = self._ends.pop(0), self._boots.pop(0)
            del self._starts[0]
            self._blurred = seq
        self.contiguous = boot, seq

    def dump(self) -> list[Any]:
        """The state as plain values."""
        return [
            [self.top, self.boot, self.last_ms, self.messages, self.gaps, self.lost],
            [*self.contiguous, self._blurred],
            [self._starts, self._ends, self._boots],
            [self._seqs.tobytes(), bytes(self._hashes)],
            [self._blocks.tobytes(), self._block],
        ]

    @classmethod
    def load(cls, state: list[list[Any]]) -> KeyState:
        """The state that `dump` described; ValueError, TypeError when it is none."""
        made = cls()
        counters, done, spans, window, blocks = state
        made.top, made.boot, made.last_ms, made.messages, made.gaps, made.lost = map(int, counters)
        boot, seq, made._blurred = map(int, done)
        made.contiguous = boot, seq
        made._starts, made._ends, made._boots = (list(map(int, column)) for column in spans)
        made._seqs = array("Q", window[0])
        made._hashes = bytearray(window[1])
        made._blocks = array("Q", blocks[0])
        made._block = list(map(int, blocks[1]))
        if len(made._seqs) != WINDOW or len(made._hashes) != WINDOW * HASH:
            raise ValueError("the window has another size")
        return made

    def _settled(self, seq: int) -> bool:
        """Whether a message of this number may be in the log."""
        if seq <= self._blurred:
            return True
        run = bisect_right(self._starts, seq) - 1
        return run >= 0 and seq <= self._ends[run]

    def _place(self, index: int, seq: int) -> None:
        blocks, (size, held) = self._blocks, self._block
        if blocks and held < size:
            blocks[-4] = min(blocks[-4], seq)
            blocks[-3] = max(blocks[-3], seq)
            blocks[-1] = index
            self._block[1] += 1
            return
        if len(blocks) >= 4 * MAX_BLOCKS:
            joined = array("Q")
            for at in range(0, len(blocks), 8):
                low, high, first, _ = blocks[at : at + 4]
                low2, high2, _, last2 = blocks[at + 4 : at + 8]
                joined.extend((min(low, low2), max(high, high2), first, last2))
            self._blocks = blocks = joined
            self._block[0] = size * 2
        blocks.extend((seq, seq, index, index))
        self._block[1] = 1

    def _ranges(self, seq: int) -> list[tuple[int, int]]:
        blocks = self._blocks
        return [
            (blocks[at + 2], blocks[at + 3])
            for at in range(0, len(blocks), 4)
            if blocks[at] <= seq <= blocks[at + 1]
        ]


class Guard:
    """The states of all keys.

    Args:
        search: looks for messages of a key and number in ranges of the log.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._keys: dict[bytes, KeyState] = {}

    def __iter__(self) -> Iterator[tuple[bytes, KeyState]]:
        return iter(tuple(self._keys.items()))

    def key(self, kid: bytes) -> KeyState | None:
        """The state of a key, or None when nothing of it was logged or settled."""
        return self._keys.get(kid)

    def judge(self, kid: bytes, seq: int, message_hash: bytes) -> Verdict:
        """Whether a rightly signed message is new, a duplicate or evidence of a clone."""
        state = self._keys.get(kid)
        if state is None:
            return NEW
        return state.judge(seq, message_hash, lambda ranges: self._search(kid, seq, ranges))

    def record(
        self, index: int, kid: bytes, boot: int, seq: int, prev: bytes, message_hash: bytes, ms: int
    ) -> None:
        """Takes in a message that stands in the log at `index`."""
        state = self._keys.get(kid)
        if state is None:
            state = self._keys[kid] = KeyState()
        state.record(index, boot, seq, prev, message_hash, ms)

    def settle(self, kid: bytes, boot: int, seq: int) -> None:
        """Counts the number of a message as done that is in the log, or refused for good although rightly signed."""
        state = self._keys.get(kid)
        if state is None:
            state = self._keys[kid] = KeyState()
        state.settle(seq, boot)

    def give_up_before(self, kid: bytes, boot: int, oldest: int) -> None:
        """Takes the node's word that it holds no message before number `oldest` any more."""
        if oldest > 1:
            self._keys.setdefault(kid, KeyState()).give_up_before(oldest, boot)

    def receipt(self, kid: bytes) -> tuple[int, int]:
        """(boot, seq) that the node with this key may free its spool up to; (0, 0) for nothing."""
        state = self._keys.get(kid)
        return state.contiguous if state is not None else (0, 0)

    def dump(self) -> list[Any]:
        """All states as plain values."""
        return [[kid, state.dump()] for kid, state in self._keys.items()]

    def load(self, states: list[tuple[bytes, list[list[Any]]]]) -> None:
        """Replaces all states by those that `dump` described."""
        self._keys = {kid: KeyState.load(state) for kid, state in states}
