"""A bad month: every part with random faults, one after the other and at once."""

import random

from assembly import Node, settle
from devices.furnish import furnish
from sensornode.sensors._part import SensorError

ROWS = (
    {"driver": "bme280", "scl": 22, "sda": 21},
    {"driver": "bme680", "scl": 22, "sda": 21},
    {"driver": "sht4x", "scl": 22, "sda": 21},
    {"driver": "tmp105", "scl": 22, "sda": 21},
    {"driver": "tmp105", "scl": 22, "sda": 21, "part": "lm75"},
    {"driver": "bh1750", "scl": 22, "sda": 21},
    {"driver": "sps30", "scl": 22, "sda": 21},
    {"driver": "sen55", "scl": 22, "sda": 21},
    {"driver": "scd4x", "scl": 22, "sda": 21},
    {"driver": "sgp41", "scl": 22, "sda": 21},
    {"driver": "pms5003", "tx": 17, "rx": 16},
)
CHECKED = ("sht4x", "sps30", "sen55", "scd4x", "sgp41", "pms5003")  # whose answers have check bytes


def harm(node, part, driver):
    """One random fault."""
    kind = random.getrandbits(8) % 5
    if kind == 0:
        part.plugged = False
    elif kind == 1:
        part.power_up()
    elif driver == "pms5003":
        part.noise = bytes([random.getrandbits(8) for _ in range(random.getrandbits(5))])
        part.cut = [1 + random.getrandbits(4)] * (kind - 2)
        part.wrong = random.getrandbits(1)
    elif kind == 2:
        node.bench.bus(node.bench.signal(22), node.bench.signal(21)).jam(random.getrandbits(4))
    elif driver in CHECKED:
        part.good = random.getrandbits(2)
        part.flip = random.getrandbits(2)


def heal(node, part, driver):
    node.bench.bus(node.bench.signal(22), node.bench.signal(21)).jam(0)
    if not part.plugged:
        part.plugged = True
        part.power_up()
    if driver == "pms5003":
        part.noise, part.cut, part.wrong = b"", [], 0
    else:
        part.good = part.flip = 0


async def test_values_are_right_or_there_are_none_and_every_part_comes_back():
    for row in ROWS:
        driver = row["driver"]
        node = Node(interval=60)
        [part] = furnish(node.bench, [row])
        sensor = node.sensor(**row)
        right = {}
        for _ in range(3):
            right = await sensor.read() or right
            await node.clock.sleep_ms(60_000)
        assert right, driver
        failures = 0
        for _ in range(60):
            harm(node, part, driver)
            for _ in range(random.getrandbits(2)):
                try:
                    values = await sensor.read()
                    assert not values or values == right, (driver, values)
                except SensorError:
                    failures += 1
                await node.clock.sleep_ms(60_000)
            heal(node, part, driver)
            values = {}
            for _ in range(3):
                try:
                    values = await sensor.read()
                except SensorError:
                    failures += 1
                await node.clock.sleep_ms(60_000)
            assert values == right, driver
        assert failures, driver
        assert node.bench.longest_ms < 20, driver
        sensor.close()
    await settle()
