"""A node's sensors on a bench of fake parts, for the tests `driver_*.py`.

It comes first among their imports: it puts the fakes on the import path.
"""

import asyncio
import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

from devices import Bench, Clock
from sensornode.bus import Buses
from sensornode.sensors import DriverError, load
from sensornode.sensors._part import SensorError

I2C = {"scl": 22, "sda": 21}


class Node:
    """What `sensornode.app.Services` is to a driver, and the bench under it."""

    def __init__(self, interval=60, counter=True):
        self.clock = Clock()
        self.bench = Bench(self.clock, counter)
        self.interval = interval
        self.buses = Buses(self.bench)
        self.values = {}

    def latest(self, channel):
        return self.values.get(channel)

    def sensor(self, driver, **options):
        """The sensor of a row, made as the application makes it."""
        return load(dict(options, driver=driver), self)

    def i2c(self, driver, plugged, **options):
        """A sensor with its part on the usual bus."""
        self.bench.plug(plugged)
        options.update(I2C)
        return self.sensor(driver, **options)


async def fails(sensor, *words):
    """The text of the SensorError that a read ends with; it has all the words in it."""
    try:
        values = await sensor.read()
    except SensorError as error:
        for word in words:
            assert word in str(error), (word, str(error))
        assert error.sensor == sensor.row.driver
        assert error.place in str(error)
        return str(error)
    raise AssertionError(f"it read {values}")


def refused(make, *words):
    """The driver refuses the row, and says why."""
    try:
        make()
    except DriverError as error:
        found = str(error)
    else:
        raise AssertionError("it was taken")
    for word in words:
        assert word in found, (word, found)


def near(value, wanted, tolerance):
    assert abs(value - wanted) <= tolerance, (value, wanted)


async def settle():
    """Let tasks that were cancelled end."""
    for _ in range(3):
        await asyncio.sleep(0)
