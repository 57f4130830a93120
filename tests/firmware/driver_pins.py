"""Rain, wind and voltages: counters and analogue inputs."""

import random

from assembly import Node, fails, near, refused, settle
from sensornode.sensors import wind_vane

KINDS = (True, False)  # with and without a hardware counter


def pulses(node, pin, hertz, seconds):
    """Let a contact close at a frequency for a time."""

    async def run():
        for _ in range(int(hertz * seconds)):
            node.bench.signal(pin).pulse()
            await node.clock.sleep_ms(1000 / hertz)

    return run()


async def tip(node, pin, bounces=6):
    """A bucket tips: the reed bounces for 5 ms when it closes and for 5 ms when it opens."""
    signal = node.bench.signal(pin)
    for _ in range(bounces):
        signal.pulse()
        await node.clock.sleep_ms(random.getrandbits(8) / 256)
    signal.drive(0)
    await node.clock.sleep_ms(80)
    for _ in range(bounces):
        signal.pulse()
        await node.clock.sleep_ms(random.getrandbits(8) / 256)
    signal.drive(1)


async def test_a_tip_counts_once_however_it_bounces():
    for counter in KINDS:
        node = Node(counter=counter)
        sensor = node.sensor("rain", pin=27, mm=0.25)
        assert await sensor.read() == {"rain": 0}
        for tips in (1, 0, 3, 7, 0, 2):
            for _ in range(tips):
                await tip(node, 27, bounces=random.getrandbits(4))
                await node.clock.sleep_ms(1400 + random.getrandbits(6))  # 650 mm/h
            await node.clock.sleep_ms(20_000)
            near((await sensor.read())["rain"], 0.25 * tips, 1e-6)
        assert sensor.tips == 13
        sensor.close()
    await settle()


async def test_tips_are_kept_while_nobody_reads_and_told_once():
    node = Node()
    sensor = node.sensor("rain", pin=27, mm=0.2794)
    await sensor.read()
    for _ in range(50):
        await tip(node, 27)
        await node.clock.sleep_ms(5000)
    near((await sensor.read())["rain"], 50 * 0.2794, 1e-4)
    assert await sensor.read() == {"rain": 0}
    sensor.close()
    await settle()


async def test_a_tip_just_before_a_read_is_in_it_and_not_in_the_next():
    node = Node()
    sensor = node.sensor("rain", pin=27, mm=1)
    await sensor.read()
    await node.clock.sleep_ms(1017)
    node.bench.signal(27).pulse(3)
    assert await sensor.read() == {"rain": 1}
    node.bench.signal(27).pulse(3)  # it opens
    await node.clock.sleep_ms(1000)
    assert await sensor.read() == {"rain": 0}
    sensor.close()
    await settle()


async def test_more_rain_than_can_fall_is_a_broken_gauge():
    node = Node()
    sensor = node.sensor("rain", pin=27, mm=5)
    await sensor.read()
    for _ in range(10):
        await tip(node, 27)
        await node.clock.sleep_ms(1000)
    await fails(sensor, "rain is 50", "pin 27")
    await node.clock.sleep_ms(1000)
    assert await sensor.read() == {"rain": 0}
    sensor.close()
    await settle()


async def test_the_task_that_counts_tips_is_started_again():
    node = Node()
    sensor = node.sensor("rain", pin=27, mm=1)
    await sensor.read()
    sensor.close()
    await settle()
    await sensor.read()
    for _ in range(2):
        await tip(node, 27)
        await node.clock.sleep_ms(1000)
    assert await sensor.read() == {"rain": 2}
    sensor.close()
    await settle()


async def test_wind_is_the_mean_and_the_gust_its_strongest_3_seconds():
    for counter in KINDS:
        node = Node(counter=counter)
        sensor = node.sensor("wind_speed", pin=26, factor=0.5, gap_ms=0)
        assert await sensor.read() == {}
        await pulses(node, 26, 4, 30)
        await pulses(node, 26, 20, 6)
        await pulses(node, 26, 4, 24)
        values = await sensor.read()
        near(values["wind_speed"], 0.5 * (4 * 54 + 20 * 6) / 60, 0.05)
        near(values["wind_gust"], 10, 0.4)
        await node.clock.sleep_ms(60_000)
        values = await sensor.read()
        assert values["wind_speed"] == 0
        assert values["wind_gust"] < 2  # what was left of the last window
        sensor.close()
    await settle()


async def test_wind_read_every_second_has_a_gust_every_third():
    node = Node(interval=1)
    sensor = node.sensor("wind_speed", pin=26, factor=1, offset=0.25)
    await sensor.read()
    gusts = 0
    for _ in range(9):
        await pulses(node, 26, 10, 1)
        values = await sensor.read()
        near(values["wind_speed"], 10.25, 0.02)
        gusts += "wind_gust" in values
    assert 2 <= gusts <= 4
    sensor.close()
    await settle()


async def test_wind_that_cannot_be_is_refused_once():
    node = Node()
    sensor = node.sensor("wind_speed", pin=26, factor=1)
    await sensor.read()
    node.bench.signal(26).pulse(20_000)
    await node.clock.sleep_ms(60_000)
    await fails(sensor, "wind_speed is 333", "pin 26")
    assert await sensor.read() == {}
    await pulses(node, 26, 5, 30)
    near((await sensor.read())["wind_speed"], 5, 0.1)
    sensor.close()
    await settle()


async def test_an_interrupt_takes_a_bouncing_contact_once():
    import sensornode.bus

    now = [0]
    ticks, sensornode.bus.ticks_ms = sensornode.bus.ticks_ms, lambda: now[0] & 0x3FFFFFFF
    try:
        node = Node(counter=False)
        counter = node.sensor("wind_speed", pin=26, factor=1, gap_ms=5)._pulses
        for _ in range(100):
            now[0] += 40
            node.bench.signal(26).pulse(3)
            now[0] += 1
            node.bench.signal(26).pulse(3)
        assert counter.value() == 100
        now[0] += 1 << 29  # half a turn of the ticks later
        node.bench.signal(26).pulse()
        assert counter.value() == 101
    finally:
        sensornode.bus.ticks_ms = ticks


def test_rows_of_counters_are_checked():
    refused(lambda: Node(counter=False).sensor("rain", pin=27, mm=1, counter="hardware"), "machine.Counter")
    refused(lambda: Node().sensor("rain", pin=27), "mm is missing")
    refused(lambda: Node().sensor("rain", pin=27, mm=0), "mm", "0.01")
    refused(lambda: Node().sensor("rain", pin=True, mm=1), "pin")
    node = Node()
    row = {"driver": "rain", "pin": 27, "mm": 1, "typo": 1}
    from sensornode.sensors import load

    refused(lambda: load(row, node), "typo")
    del row["typo"]
    load(row, node)  # the same row may have its pin again
    refused(lambda: node.sensor("wind_speed", pin=27, factor=1), "pin 27 belongs to another row")


def vane_millivolts(ohms, pullup=10_000, supply=3300):
    return supply * ohms / (pullup + ohms)


async def test_the_vane_knows_its_16_directions_within_the_ticks_of_its_resistors():
    node = Node()
    sensor = node.sensor("wind_vane", pin=35)
    for degrees, ohms in wind_vane._ARGENT:
        for error in (-0.01, 0, 0.01):  # 1 % resistors
            assert sensor.degrees(1000 * vane_millivolts(ohms * (1 + error))) == degrees
        node.bench.signal(35).microvolts = int(1000 * vane_millivolts(ohms))
        sensor._forget()
        near((await sensor.read())["wind_direction"], degrees, 0.5)
    sensor.close()
    await settle()


async def test_the_mean_direction_goes_the_short_way_round():
    node = Node()
    sensor = node.sensor(
        "wind_vane", pin=35, millivolts=[[0, 500], [90, 1000], [180, 1500], [270, 2000], [350, 2400]]
    )
    signal = node.bench.signal(35)
    signal.microvolts = 2_400_000
    await sensor.read()
    for _ in range(10):  # as often 350 as 0 degrees
        signal.microvolts = 2_400_000
        await node.clock.sleep_ms(3000)
        signal.microvolts = 500_000
        await node.clock.sleep_ms(3000)
    near((await sensor.read())["wind_direction"], 355, 3)
    for _ in range(10):  # from everywhere at once
        for millivolts in (500, 1500):
            signal.microvolts = 1000 * millivolts
            await node.clock.sleep_ms(3000)
    assert await sensor.read() == {}
    sensor.close()
    await settle()


async def test_offset_turns_the_vane():
    node = Node()
    sensor = node.sensor("wind_vane", pin=35, offset=-30)
    node.bench.signal(35).microvolts = int(1000 * vane_millivolts(6570))  # 22.5 degrees
    assert await sensor.read() == {"wind_direction": 353}
    sensor.close()
    await settle()


def test_a_potentiometer_shows_what_is_between():
    node = Node()
    sensor = node.sensor("wind_vane", pin=35, between=True, millivolts=[[10, 300], [180, 1400], [350, 2500]])
    near(sensor.degrees(850_000), 95, 0.5)
    near(sensor.degrees(2_500_000), 350, 0.5)
    near(sensor.degrees(200_000), 10, 0.5)
    wraps = Node().sensor("wind_vane", pin=35, between=True, millivolts=[[340, 300], [20, 700], [200, 2500]])
    assert wraps.degrees(500_000) in (0, 360) or abs(wraps.degrees(500_000) - 360) < 0.01


async def test_a_broken_cable_is_no_direction():
    node = Node()
    sensor = node.sensor("wind_vane", pin=35)
    node.bench.signal(35).microvolts = 3_300_000
    await fails(sensor, "pin 35", "range")
    node.bench.signal(35).microvolts = 10_000
    await fails(sensor, "10 mV is no direction", "cable")
    node.bench.signal(35).microvolts = int(1000 * vane_millivolts(1000))
    assert await sensor.read() == {"wind_direction": 90}
    await node.clock.sleep_ms(9500)
    node.bench.signal(35).microvolts = 0  # a few bad looks do not spoil the rest
    await node.clock.sleep_ms(3000)
    assert await sensor.read() == {"wind_direction": 90}
    sensor.close()
    await settle()


def test_tables_that_make_no_sense_are_refused():
    make = Node().sensor
    refused(lambda: make("wind_vane", pin=35, ohms=[[0, 1]], millivolts=[[0, 1]]), "both")
    refused(lambda: make("wind_vane", pin=35, ohms=[[0, 100]]), "two rows")
    refused(lambda: make("wind_vane", pin=35, ohms=[1, 2]), "ohms must be a list")
    refused(lambda: make("wind_vane", pin=35, millivolts=[[0, "a"], [1, "b"]]), "millivolts")


async def test_voltage_is_that_before_the_divider():
    node = Node()
    battery = node.sensor("voltage", channel="battery_voltage", pin=34, top=100_000, bottom=100_000)
    solar = node.sensor("voltage", channel="solar_voltage", pin=36, top=100_000, bottom=10_000, scale=1.02)
    node.bench.signal(34).microvolts = 1_850_000
    node.bench.signal(36).microvolts = 1_500_000
    near((await battery.read())["battery_voltage"], 3.7, 0.002)
    near((await solar.read())["solar_voltage"], 16.83, 0.01)
    assert battery.channels == (("battery_voltage", "V"),)
    node.bench.signal(34).microvolts = 3_300_000
    await fails(battery, "pin 34", "beyond the ADC's range")
    refused(lambda: node.sensor("voltage", channel="voltage", pin=33, top=1, bottom=1), "battery_voltage")


async def test_noise_and_single_spikes_stay_out_of_a_voltage():
    node = Node()
    sensor = node.sensor("voltage", channel="battery_voltage", pin=34, top=0, bottom=1)
    signal = node.bench.signal(34)
    said = [1000, 1001, 999, 1002, 3000, 998, 1000, 0, 1001, 1000, 999, 1000, 1000, 2500, 1000, 1001]
    signal.microvolts = 1_000_000
    await sensor.read()
    sensor._adc._adc.read_uv = lambda: 1000 * said.pop()
    near((await sensor.read())["battery_voltage"], 1, 0.001)


def test_the_table_has_every_sixteenth_of_the_compass():
    assert sorted([degrees for degrees, _ in wind_vane._ARGENT]) == [22.5 * n for n in range(16)]
