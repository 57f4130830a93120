"""Under MicroPython: FIRMWARE GENERATED. Reads every sensor of a generated `pins`, with simulated parts on its pins."""

import asyncio
import json
import sys

firmware, generated = sys.argv[1:3]
sys.path[:0] = [firmware, firmware + "/sim", generated]

import pins  # noqa: E402
from devices import Bench, Clock  # noqa: E402
from devices.furnish import furnish  # noqa: E402
from sensornode.bus import Buses  # noqa: E402
from sensornode.sensors import load  # noqa: E402

LONG_ENOUGH = 6  # reads: some parts need time after their start


class Services:
    site_key = None
    signed_sensors = False

    def __init__(self):
        self.clock = Clock()
        self.bench = Bench(self.clock)
        self.buses = Buses(self.bench)
        self.interval = pins.INTERVAL


async def main():
    services = Services()
    furnish(services.bench, pins.SENSORS)
    sensors = [load(dict(row), services) for row in pins.SENSORS]
    seen = {}
    for _ in range(LONG_ENOUGH):
        for row, sensor in zip(pins.SENSORS, sensors):  # noqa: B905 - MicroPython has no strict
            wanted = row.get("channels") or [channel for channel, _ in sensor.channels]
            values = await sensor.read()
            seen.setdefault(row["driver"], {}).update({name: True for name in values if name in wanted})
        await services.clock.sleep_ms(1000 * pins.INTERVAL)
    print(json.dumps({driver: sorted(names) for driver, names in seen.items()}))


asyncio.run(main())
