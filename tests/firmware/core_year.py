"""A year of a whole application: ticks that wrap every 12 days, and a time server whose clock jumps."""

import asyncio

import core_app
from sensornode import cbor
from sensornode.app import App

INTERVAL = 3 * 3600
WRONG = (0, 2600, -2600, 1, -1800, -1, 2700)  # seconds; from one to the next less than half an interval
WRAPS = 29  # of 2**30 ms in a year


async def test_a_year_of_wrapping_ticks_and_jumping_dates_repeats_and_skips_nothing():
    plain = core_app.node("steady", interval=INTERVAL)
    world = core_app.World(core_app.START, 1_000_000_000)
    asked = 0

    async def told():
        """Wrong otherwise each time; silent for two days now and then, longer than a date counts as synchronised."""
        nonlocal asked
        if world.now // 86_400 % 120 < 2:
            raise OSError("no answer")
        asked += 1
        return (world.now + WRONG[asked % len(WRONG)]) * 1000

    world.unix_ms = told
    app = App(plain.config, world, ".")
    count = uptime = number = 0
    qualities = set()

    async def keep(quality, now, payload):
        """One sample: the next instant, and told as that, although the date may have been corrected since it was set."""
        nonlocal count, uptime, number
        date = cbor.decode(payload)[0].get(-3)
        before, number = number, (date + INTERVAL // 2) // INTERVAL
        assert not count or number == before + 1, (count, date)
        assert not count or INTERVAL // 2 < now - uptime < INTERVAL * 3 // 2, (count, now - uptime)
        count += 1
        uptime = now
        qualities.add(quality)

    app._keep = keep
    turning = asyncio.create_task(world.turn())
    running = asyncio.create_task(app.run())
    ticks = world.ticks_ms()
    wraps = 0
    while world.now < core_app.START + 366 * 86_400:
        if running.done():
            await running
        await asyncio.sleep(0)
        before, ticks = ticks, world.ticks_ms()
        wraps += ticks < before
    turning.cancel()
    await app.stop()
    running.cancel()
    await asyncio.sleep(0)
    assert wraps >= WRAPS
    assert app.missed == app.sensor_errors == 0
    assert count >= 365 * 8
    assert qualities == {1, 2}
