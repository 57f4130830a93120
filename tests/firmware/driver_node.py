"""The application with a table full of sensors, on simulated time and fake parts."""

import asyncio
import json
import os

from assembly import Buses, load
from devices import Bench
from devices.furnish import furnish
from sensornode.app import App
from sensornode.config import check
from world import World

START = 1_481_500_800


def table():
    """The rows of SENSORS.md."""
    with open(os.getenv("PROJECT") + "/firmware/SENSORS.md") as file:
        return json.loads(file.read().split("```json")[1].split("```")[0])["sensors"]


class Roof:
    """A node, its parts, and what its sensors gave."""

    def __init__(self, rows):
        import sensornode.app

        self.bench = Bench(None)
        buses = Buses(self.bench)
        self.given = {}  # channel: how often
        self.world = World(
            START, 300
        )  # slow enough for the node to keep up beside what sleeps in the background

        def put(row, services):
            services.buses = buses
            return load(row, services)

        ours, sensornode.app.load = sensornode.app.load, put
        data = {"site": "lab", "node": "roof", "kind": "weather", "interval": 30, "watchdog": 0}
        data.update(broker={"host": "127.0.0.1", "port": 1}, sensors=rows, spool={"bytes": 65536})
        self.app = App(check(data), self.world, ".")
        sensornode.app.load = ours
        self.bench.clock = self.app.clock
        self.parts = [part for part in furnish(self.bench, rows) if part]
        for source in self.app.sources:
            assert source.sensor, source.name
            source.sensor.read = self._listening(source.sensor.read)

    def _listening(self, read):
        async def heard():
            values = await read()
            for channel in values:
                self.given[channel] = self.given.get(channel, 0) + 1
            return values

        return heard

    def gave(self, channels, times=1):
        """All of these channels came that often."""
        return all(self.given.get(channel, 0) >= times for channel in channels)

    async def live(self, *steps):
        """Run through steps of (condition to wait for, what to do then)."""
        tasks = [asyncio.create_task(self.world.turn()), asyncio.create_task(self.app.run())]
        for condition, change in steps:
            turns = 0
            while not condition():
                turns += 1
                assert turns < 60_000, (self.given, self.app.last_error)
                assert not tasks[1].done()
                await asyncio.sleep(0.005)
            change()
        for source in self.app.sources:
            source.sensor.close()
        tasks[0].cancel()
        await self.app.stop()
        tasks[1].cancel()
        await asyncio.sleep(0)


async def test_every_sensor_of_the_table_gives_its_channels_without_an_error():
    roof = Roof(table())
    promised = [name for source in roof.app.sources for name, _ in source.channels]
    assert len(promised) > 12
    await roof.live((lambda: roof.gave(promised), lambda: None))
    assert roof.app.sensor_errors == 0, roof.app.last_error


async def test_parts_that_are_unplugged_are_missed_and_come_back():
    roof = Roof([row for row in table() if row["driver"] not in ("rain", "pms5003", "sgp41")])
    channels = ("temperature", "pressure", "illuminance", "co2")
    before = {}

    def unplug():
        for part in roof.parts:
            part.plugged = False

    def plug():
        before.update(roof.given)
        for part in roof.parts:
            part.plugged = True
            part.power_up()

    await roof.live(
        (lambda: roof.gave(channels), unplug),
        (lambda: roof.app.sensor_errors > 2 * len(roof.parts), plug),
        (lambda: all(roof.given[channel] > before[channel] for channel in channels), lambda: None),
    )
    assert roof.given["wind_direction"] > before["wind_direction"]  # pins do not care


async def test_who_goes_to_sleep_for_less_while_time_is_about_to_pass_wakes_up_first():
    world = World(START, 10_000, sleepers=1)
    order = []

    async def sleeper(ms, delay):
        await asyncio.sleep(delay)
        await world.sleep_ms(ms)
        order.append(ms)

    turning = asyncio.create_task(world.turn())
    await asyncio.gather(sleeper(1_000_000, 0), sleeper(10, 0.02), sleeper(5000, 0.02))
    turning.cancel()
    assert order == [10, 5000, 1_000_000]
