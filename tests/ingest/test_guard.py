"""The guard against a model that remembers everything."""

from __future__ import annotations

import hashlib

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.ingest import guard as guards
from sensorhub.ingest.guard import Guard, KeyState, Logged

KID = b"12345678"
actions = st.lists(
    st.tuples(st.one_of(st.integers(1, 40), st.integers(1, 2_000), st.just(2**53 - 1)), st.integers(0, 2)),
    max_size=120,
)


class Log:
    """What was logged, and a guard over it."""

    def __init__(self) -> None:
        self.entries: list[tuple[bytes, int, bytes]] = []
        self.searches = 0
        self.guard = Guard(self.search)

    def search(self, kid: bytes, seq: int, ranges: list[tuple[int, int]]) -> list[Logged]:
        self.searches += 1
        return [
            Logged(index, entry[2])
            for first, last in ranges
            for index, entry in enumerate(self.entries[first : last + 1], first)
            if entry[:2] == (kid, seq)
        ]

    def offer(self, kid: bytes, seq: int, content: bytes) -> str:
        digest = hashlib.sha256(content).digest()
        verdict = self.guard.judge(kid, seq, digest)
        if verdict.duplicate:
            return "duplicate"
        self.guard.record(len(self.entries), kid, 1, seq, bytes(32), digest, 0)
        self.entries.append((kid, seq, digest))
        return "new" if verdict.first is None else f"clone of {verdict.first}"


def expected(seen: dict[int, list[tuple[bytes, int]]], seq: int, content: bytes, index: int) -> str:
    known = seen.setdefault(seq, [])
    if any(other == content for other, _ in known):
        return "duplicate"
    known.append((content, index))
    return "new" if len(known) == 1 else f"clone of {known[0][1]}"


@settings(deadline=None)
@given(actions, st.sampled_from([(4, 4, 4, 2), (256, 256, 256, 64)]))
def test_duplicates_and_clones_are_told_apart_exactly(
    steps: list[tuple[int, int]], bounds: tuple[int, int, int, int]
) -> None:
    before = guards.WINDOW, guards.MAX_SPANS, guards.MAX_BLOCKS, guards.BLOCK
    guards.WINDOW, guards.MAX_SPANS, guards.MAX_BLOCKS, guards.BLOCK = bounds  # type: ignore[misc]
    try:
        log, seen = Log(), dict[int, list[tuple[bytes, int]]]()
        for step, (seq, variant) in enumerate(steps):
            content = b"%d %d" % (seq, variant)
            index = len(log.entries)
            assert log.offer(KID, seq, content) == expected(seen, seq, content, index)
            if step % 10 == 9:
                restored = Guard(log.search)
                restored.load(cbor2.loads(cbor2.dumps(log.guard.dump())))
                log.guard = restored
            state = log.guard.key(KID)
            if state is not None:
                _, done = state.contiguous
                assert all(number in seen for number in range(1, done + 1))
                if bounds[1] == 256:
                    assert done + 1 not in seen
                    assert state.missing == state.top - len(seen)
    finally:
        guards.WINDOW, guards.MAX_SPANS, guards.MAX_BLOCKS, guards.BLOCK = before  # type: ignore[misc]


@pytest.mark.parametrize(
    "seqs",
    [
        [1 + 2 * number for number in range(40_000)],
        [number if number % 3 else 2**40 + number for number in range(1, 1_500)],
        [2**53 - 1 - number for number in range(3_000)],
    ],
)
def test_memory_per_key_is_bounded_whatever_a_node_sends(seqs: list[int]) -> None:
    log = Log()
    for seq in seqs:
        assert log.offer(KID, seq, b"%d" % seq) == "new"
    state = log.guard.key(KID)
    assert state is not None
    assert len(cbor2.dumps(state.dump())) < 32_000


def test_the_log_is_searched_for_old_numbers_only() -> None:
    log = Log()
    for seq in range(1, 5_001):
        log.offer(KID, seq, b"%d" % seq)
    assert log.offer(KID, 5_000, b"5000") == "duplicate"
    assert log.searches == 0
    assert log.offer(KID, 17, b"17") == "duplicate"
    assert log.searches == 1


def test_receipts_stop_at_a_gap_and_go_on_when_it_is_filled_or_the_node_gave_it_up() -> None:
    state = KeyState()
    for boot, seq in ((1, 1), (1, 2), (2, 5), (2, 6), (3, 9)):
        state.record(0, boot, seq, bytes(32), bytes(32), 0)
    assert state.contiguous == (1, 2)
    assert state.missing == 4
    state.settle(3, 1)
    state.give_up_before(3, 4)
    state.give_up_before(1, 4)
    assert state.contiguous == (1, 3)
    state.record(0, 1, 4, bytes(32), bytes(32), 0)
    assert state.contiguous == (2, 6)
    state.give_up_before(8, 4)
    assert state.contiguous == (4, 7)
    assert (state.missing, state.lost) == (1, 1)
    state.give_up_before(9, 4)
    assert state.contiguous == (3, 9)
    assert (state.missing, state.lost) == (0, 2)
    state.give_up_before(100, 5)
    assert state.contiguous == (5, 99)
    assert state.lost == 92
    state.record(0, 5, 100, bytes(32), bytes(32), 0)
    assert state.contiguous == (5, 100)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 60)),
            st.tuples(st.just("again"), st.integers(1, 60)),
            st.tuples(st.just("refused"), st.integers(1, 60)),
            st.tuples(st.just("announce"), st.integers(1, 40)),
        ),
        max_size=150,
    ),
    st.sampled_from([1, 2, 4, 256]),
)
def test_a_receipt_covers_only_what_is_logged_refused_or_given_up(
    steps: list[tuple[str, int]], spans: int
) -> None:
    before, guards.MAX_SPANS = guards.MAX_SPANS, spans  # type: ignore[misc]
    try:
        log = Log()
        settled: set[int] = set()
        floor = reported = 0
        for action, number in steps:
            if action == "announce":
                log.guard.give_up_before(KID, 1, number)
                floor = max(floor, number - 1)
            elif action == "refused":
                if number not in {entry[1] for entry in log.entries}:
                    log.guard.settle(KID, 1, number)
                    settled.add(number)
            else:
                if log.offer(KID, number, b"%d" % number) == "duplicate":
                    log.guard.settle(KID, 1, number)
                settled.add(number)
            _, done = log.guard.receipt(KID)
            assert all(seq in settled for seq in range(floor + 1, done + 1))
            assert done >= max(floor, reported)
            reported = done
            if spans == 256:
                assert done + 1 not in settled
        # a node that sends all it holds again, oldest first, is receipted for it in the end
        for number in range(log.guard.receipt(KID)[1] + 1, 61):
            if log.offer(KID, number, b"%d" % number) == "duplicate":
                log.guard.settle(KID, 1, number)
        assert log.guard.receipt(KID)[1] >= 60
    finally:
        guards.MAX_SPANS = before  # type: ignore[misc]


def test_more_gaps_than_are_remembered_never_let_a_receipt_pass_over_one() -> None:
    log = Log()
    for seq in range(2, 2_000, 2):
        assert log.offer(KID, seq, b"%d" % seq) == "new"
    assert log.guard.receipt(KID) == (0, 0)
    log.offer(KID, 1, b"1")
    assert log.guard.receipt(KID) == (1, 1)
    assert log.offer(KID, 2, b"2") == "duplicate"
    log.guard.settle(KID, 1, 2)
    assert log.guard.receipt(KID) == (1, 2)
    log.guard.give_up_before(KID, 2, 1_501)
    assert log.guard.receipt(KID) == (1, 1_500)
    log.guard.give_up_before(KID, 2, 2_000)
    assert log.guard.receipt(KID)[1] == 1_999
    log.offer(KID, 2_000, b"2000")
    assert log.guard.receipt(KID) == (1, 2_000)


def test_links_are_followed_and_broken_ones_counted() -> None:
    hashes = [hashlib.sha256(b"%d" % number).digest() for number in range(10)]
    state = KeyState()
    state.record(0, 1, 1, bytes(32), hashes[1], 0)
    state.record(1, 1, 2, hashes[1], hashes[2], 0)
    assert state.gaps == 0
    state.record(2, 1, 4, hashes[3], hashes[4], 0)
    assert state.gaps == 1
    state.record(3, 1, 3, hashes[2], hashes[3], 0)
    assert state.gaps == 1
    state.record(4, 1, 5, hashes[9], hashes[5], 0)
    assert state.gaps == 2
