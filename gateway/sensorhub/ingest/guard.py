"""What has been logged of each key: duplicates, reused sequence numbers, broken links, and how far a receipt goes.

Memory per key is bounded and yet no old duplicate slips through: exact hashes are kept of the newest
sequence numbers only, for everything older the log itself is searched, guided by a short table of where in
the log which numbers stand. The state is a projection of the log: a snapshot only saves time.
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
"""Separate runs of sequence numbers remembered per key; beyond it the two lowest are joined."""
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
    """

    __slots__ = (
        "_block",
        "_blocks",
        "_ends",
        "_hashes",
        "_seqs",
        "_starts",
        "boot",
        "boots",
        "gaps",
        "last_ms",
        "messages",
        "top",
    )

    def __init__(self) -> None:
        self.top = 0
        self.boot = 0
        self.last_ms = 0
        self.messages = 0
        self.gaps = 0
        # settled numbers as runs [start, end]; a run may cover numbers that were given up (see `settle`)
        self._starts: list[int] = [0]
        self._ends: list[int] = [0]
        self.boots: list[int] = [0]
        self._seqs = array("Q", bytes(8 * WINDOW))
        self._hashes = bytearray(HASH * WINDOW)
        # flat quadruples: lowest and highest number, first and last log index, in log order
        self._blocks = array("Q")
        self._block = [BLOCK, 0]

    @property
    def contiguous(self) -> tuple[int, int]:
        """(boot, seq) of the receipt: every number up to seq is settled; (0, 0) when 1 is not."""
        return self.boots[0], self._ends[0]

    @property
    def missing(self) -> int:
        """Sequence numbers below `top` that are neither logged nor given up."""
        return sum(start - end - 1 for start, end in zip(self._starts[1:], self._ends, strict=False))

    def judge(
        self, seq: int, message_hash: bytes, search: Callable[[list[tuple[int, int]]], list[Logged]]
    ) -> Verdict:
        """Whether a message is new. `search` looks into the given ranges of the log, for its rare use."""
        if seq > self._ends[-1] or not self._settled(seq):
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
        starts, ends = self._starts, self._ends
        if seq == ends[-1] + 1:
            ends[-1] = seq
            self.boots[-1] = boot
            return
        if seq > ends[-1]:
            starts.append(seq)
            ends.append(seq)
            self.boots.append(boot)
            if len(starts) > MAX_SPANS:
                self._join(0)
            return
        run = bisect_right(starts, seq) - 1
        if seq <= ends[run]:
            return
        if seq == ends[run] + 1:
            ends[run] = seq
            self.boots[run] = boot
            if starts[run + 1] == seq + 1:
                self._join(run)
        elif starts[run + 1] == seq + 1:
            starts[run + 1] = seq
        else:
            starts.insert(run + 1, seq)
            ends.insert(run + 1, seq)
            self.boots.insert(run + 1, boot)
            if len(starts) > MAX_SPANS:
                self._join(0)

    def give_up_before(self, seq: int) -> bool:
        """Closes the lowest gap if `seq` is the first number after it; says whether it did.

        A node sends again from its oldest unreceipted message on. If that is the first one after a gap, the
        node has nothing left to fill the gap with, and waiting for it would hold up receipts for ever.
        """
        if len(self._starts) > 1 and self._starts[1] == seq:
            self._join(0)
            return True
        return False

    def dump(self) -> list[Any]:
        """The state as plain values."""
        return [
            [self.top, self.boot, self.last_ms, self.messages, self.gaps],
            [self._starts, self._ends, self.boots],
            [self._seqs.tobytes(), bytes(self._hashes)],
            [self._blocks.tobytes(), self._block],
        ]

    @classmethod
    def load(cls, state: list[list[Any]]) -> KeyState:
        """The state that `dump` described; ValueError, TypeError when it is none."""
        made = cls()
        counters, spans, window, blocks = state
        made.top, made.boot, made.last_ms, made.messages, made.gaps = map(int, counters)
        made._starts, made._ends, made.boots = (list(map(int, column)) for column in spans)
        made._seqs = array("Q", window[0])
        made._hashes = bytearray(window[1])
        made._blocks = array("Q", blocks[0])
        made._block = list(map(int, blocks[1]))
        if len(made._seqs) != WINDOW or len(made._hashes) != WINDOW * HASH:
            raise ValueError("the window has another size")
        return made

    def _settled(self, seq: int) -> bool:
        run = bisect_right(self._starts, seq) - 1
        return run >= 0 and seq <= self._ends[run]

    def _join(self, run: int) -> None:
        self._ends[run] = self._ends.pop(run + 1)
        self.boots[run] = self.boots.pop(run + 1)
        del self._starts[run + 1]

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
        """Counts the number of a message as done that is refused for good although rightly signed."""
        state = self._keys.get(kid)
        if state is None:
            state = self._keys[kid] = KeyState()
        state.settle(seq, boot)

    def give_up_before(self, kid: bytes, seq: int) -> bool:
        """See `KeyState.give_up_before`."""
        state = self._keys.get(kid)
        return state is not None and state.give_up_before(seq)

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
