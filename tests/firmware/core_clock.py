"""Node time: ticks that wrap, slots, quality, jumps of the server's time."""

import asyncio

from sensornode.clock import DAY_MS, Clock

PERIOD = 1 << 30
HOUR = 3_600_000


class Source:
    """A time source whose ticks wrap as the ESP32's; time is what the test says."""

    def __init__(self, ticks=0, held=None):
        self.real = ticks
        self.held = held
        self.server = None

    def ticks_ms(self):
        return self.real % PERIOD

    def ticks_diff(self, end, start):
        return (end - start + PERIOD // 2) % PERIOD - PERIOD // 2

    async def sleep_ms(self, ms):
        self.real += ms

    def held_ms(self):
        return self.held

    async def unix_ms(self):
        if self.server is None:
            raise OSError("no answer")
        return self.server


def test_uptime_goes_on_over_a_year_of_wrapping_ticks():
    source = Source(PERIOD - 5)
    clock = Clock(source)
    for hour in range(366 * 24):
        assert clock.uptime_ms() == hour * HOUR
        source.real += HOUR
    assert source.real > 29 * PERIOD


async def test_quality_says_how_the_time_is_known():
    source = Source()
    clock = Clock(source)
    assert clock.quality == 0
    assert clock.unix_ms(5) is None
    try:
        await clock.sync()
        raise AssertionError("synchronised with nobody")
    except OSError:
        assert clock.quality == 0
    source.real = 7000
    source.server = 1_700_000_000_000
    await clock.sync()
    assert clock.quality == 2
    assert clock.unix_ms(7000) == 1_700_000_000_000
    assert clock.unix_ms(0) == 1_699_999_993_000  # what was sampled before is dated too
    for _ in range(4):
        source.real += DAY_MS // 4
        assert clock.quality == 2
    source.real += 1
    assert clock.quality == 1
    assert Clock(Source(held=1_700_000_000_000)).quality == 1


async def test_slots_fall_on_whole_intervals_of_unix_time():
    source = Source()
    clock = Clock(source)
    source.real = 500
    assert clock.first_slot(60_000) == 60_000  # by uptime, while there is no date
    source.server = 1_700_000_010_500
    await clock.sync()
    first = clock.first_slot(60_000)
    assert clock.unix_ms(first) == 1_700_000_040_000
    second = clock.next_slot(first, 60_000)
    assert second == first + 60_000
    source.real = first
    assert clock.first_slot(60_000) == first  # the instant itself is not past


async def test_a_correction_of_the_time_neither_repeats_nor_skips_a_slot():
    for correction in (-900, -3, 0, 4, 900):
        source = Source()
        clock = Clock(source)
        source.server = 1_700_000_000_000
        await clock.sync()
        slot = clock.first_slot(10_000)
        before = clock.unix_ms(slot)
        source.server = 1_700_000_000_000 + correction
        await clock.sync()
        assert clock.unix_ms(clock.next_slot(slot, 10_000)) == before + 10_000


async def test_sleep_lasts_until_the_uptime_asked_for():
    source = Source()
    clock = Clock(source)

    async def short(ms):
        source.real += min(ms, 100)

    source.sleep_ms = short
    await clock.sleep_until(1050)
    assert clock.uptime_ms() >= 1050
    await clock.sleep_until(10)  # past
    assert source.real < 1200
    await asyncio.sleep(0)
