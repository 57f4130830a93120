"""Clockless messages get the date that the same boot proves, or none."""

from __future__ import annotations

from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sensorhub import wire
from sensorhub.nodes import dater as daters
from sensorhub.nodes.dater import Dater

KEYS = {number: PrivateKey(bytes([number]) * 32) for number in (1, 2)}
BASE = 1_700_000_000


def message(
    uptime: int, *, boot: int = 1, synced: bool = False, key: int = 1, base: int = BASE
) -> wire.Message:
    raw = wire.encode_message(
        KEYS[key], site="lab", node="roof", boot=boot, seq=1, prev=bytes(32), tq=2 if synced else 0,
        uptime=uptime, base_time=base if synced else None, records=[("temperature", 20, 0)],
    )  # fmt: skip
    signed = wire.parse_signed(raw)
    return wire.Message(signed, wire.parse_pack(signed.payload, tq=signed.tq))


def test_the_first_synced_message_dates_what_came_before_and_after() -> None:
    dater = Dater()
    assert dater.feed(1, message(5)) == []
    assert dater.feed(2, message(15)) == []
    assert dater.feed(3, message(100, synced=True)) == [(1, BASE - 95), (2, BASE - 85)]
    assert dater.feed(4, message(50)) == [(4, BASE - 50)]


def test_later_synced_messages_do_not_change_what_was_said() -> None:
    dater = Dater()
    dater.feed(1, message(100, synced=True))
    assert dater.feed(2, message(200, synced=True, base=BASE + 107)) == []
    assert dater.feed(3, message(200)) == [(3, BASE + 100)]


def test_another_boot_or_another_key_proves_nothing() -> None:
    dater = Dater()
    dater.feed(1, message(5))
    assert dater.feed(2, message(100, boot=2, synced=True)) == []
    assert dater.feed(3, message(100, key=2, synced=True)) == []
    assert dater.feed(4, message(6)) == []


def test_memory_is_bounded() -> None:
    dater = Dater()
    tq0 = message(5)
    for index in range(daters.MAX_WAITING + 10):
        dater.feed(index, tq0)
    dated = dater.feed(-1, message(100, synced=True))
    assert len(dated) == daters.MAX_WAITING
    assert dated[0][0] == 10
    for boot in range(2, daters.MAX_BOOTS + 5):
        dater.feed(boot, message(5, boot=boot))
    assert dater.feed(-2, message(6)) == [], "the oldest boot is forgotten"


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 500), st.booleans()), max_size=40),
    st.integers(0, 40),
)
def test_a_dater_that_was_saved_and_loaded_says_the_same(
    steps: list[tuple[int, int, bool]], cut: int
) -> None:
    whole, resumed = Dater(), Dater()
    for index, (boot, uptime, synced) in enumerate(steps):
        if index == cut:
            resumed = Dater.load(resumed.dump())
        fed = message(uptime, boot=boot, synced=synced)
        assert whole.feed(index, fed) == resumed.feed(index, fed)
