"""SHT4x, SPS30, SEN5x, SCD4x and SGP41: check bytes, formulas, states, faults."""

import random

from assembly import Node, fails, near, settle
from devices.part import check_byte
from devices.sensirion import SGP41, SPS30, SCD4x, SEN5x, SHT4x
from sensornode.sensors._sensirion import crc8

EVERY = (
    ("sht4x", SHT4x),
    ("sps30", SPS30),
    ("sen55", SEN5x),
    ("scd4x", SCD4x),
    ("sgp41", SGP41),
)


async def warm(node, sensor):
    """Read until there are values."""
    for _ in range(60):
        values = await sensor.read()
        if values:
            return values
        await node.clock.sleep_ms(1000)
    raise AssertionError("no values after a minute")


def test_check_bytes_of_the_datasheets():
    assert crc8(b"\xbe\xef", 0, 2) == 0x92
    assert crc8(b"\x80\x00", 0, 2) == 0xA2  # SGP41: 50 %
    assert crc8(b"\x66\x66", 0, 2) == 0x93  # SGP41: 25 degrees
    assert crc8(b"\x00\x00", 0, 2) == 0x81
    assert crc8(b"\xff\xff", 0, 2) == 0xAC
    for word, crc in (
        (0x03DB, 0x42),
        (0x01E0, 0xB4),
        (0x0001, 0xB0),
        (0x7FCE, 0x7B),
    ):  # SCD4x, section 3.6 and 3.7
        assert crc8(bytes((word >> 8, word & 0xFF)), 0, 2) == crc
    assert crc8(b"..\xbe\xef..", 2, 4) == 0x92
    for _ in range(200):
        word = random.getrandbits(16)
        assert crc8(bytes((word >> 8, word & 0xFF)), 0, 2) == check_byte(word)


def test_a_check_byte_finds_every_single_turned_bit():
    data = bytearray(b"\x12\x34")
    right = crc8(data, 0, 2)
    for bit in range(16):
        data[bit >> 3] ^= 1 << (bit & 7)
        assert crc8(data, 0, 2) != right
        data[bit >> 3] ^= 1 << (bit & 7)


async def test_every_part_gives_the_channels_it_promises():
    for driver, kind in EVERY:
        node = Node()
        sensor = node.i2c(driver, kind())
        values = await warm(node, sensor)
        assert sorted(values) == sorted([name for name, _ in sensor.channels]), driver
        assert node.bench.longest_ms < 20, driver
        sensor.close()
    await settle()


async def test_every_part_notices_a_damaged_answer_and_recovers():
    for driver, kind in EVERY:
        node = Node()
        part = kind()
        sensor = node.i2c(driver, part)
        before = await warm(node, sensor)
        await node.clock.sleep_ms(5000)
        part.flip = 1
        await fails(sensor, driver, "check byte", "i2c 0")
        await node.clock.sleep_ms(5000)
        assert await warm(node, sensor) == before, driver
        sensor.close()
    await settle()


async def test_every_part_that_is_unplugged_comes_back():
    for driver, kind in EVERY:
        node = Node()
        part = kind()
        sensor = node.i2c(driver, part)
        before = await warm(node, sensor)
        part.plugged = False
        await fails(sensor, "no answer")
        await node.clock.sleep_ms(60_000)
        await fails(sensor, "no answer")
        part.plugged = True
        part.power_up()
        await node.clock.sleep_ms(60_000)
        assert await warm(node, sensor) == before, driver
        sensor.close()
    await settle()


async def test_every_part_goes_on_after_a_brown_out_between_reads():
    for driver, kind in EVERY:
        node = Node()
        part = kind()
        sensor = node.i2c(driver, part)
        before = await warm(node, sensor)
        part.power_up()
        failures = 0
        for _ in range(10):
            await node.clock.sleep_ms(60_000)
            try:
                if await sensor.read() == before:
                    break
            except OSError:
                failures += 1
        else:
            raise AssertionError(driver)
        assert failures <= 1, driver
        sensor.close()
    await settle()


async def test_a_node_that_restarts_finds_the_parts_as_it_left_them():
    for driver, kind in EVERY:
        node = Node()
        part = kind()
        await warm(node, node.i2c(driver, part))
        again = Node()
        again.clock._ms = node.clock.uptime_ms()
        part.clock = again.clock
        sensor = again.sensor(driver, scl=22, sda=21)
        again.bench.bus(again.bench.signal(22), again.bench.signal(21)).parts.append(part)
        assert await warm(again, sensor), driver
        sensor.close()
        await node.clock.sleep_ms(20_000)
    await settle()


async def test_a_damaged_answer_names_the_word():
    node = Node()
    part = SHT4x()
    sensor = node.i2c("sht4x", part)
    part.flip = 1
    await fails(sensor, "word 0 of the answer to 0x0089", "0b12", "check byte")


async def test_sht4x_follows_the_formulas():
    node = Node()
    part = SHT4x()
    sensor = node.i2c("sht4x", part)
    for celsius, percent in ((-39.9, 3.0), (0.0, 50.0), (21.37, 40.12), (124.5, 99.9)):
        part.celsius, part.percent = celsius, percent
        values = await sensor.read()
        near(values["temperature"], celsius, 0.003)
        near(values["humidity"], percent, 0.003)
    part.celsius = 20
    part.percent = -5.5
    assert (await sensor.read())["humidity"] == 0
    part.percent = 118
    assert (await sensor.read())["humidity"] == 100
    part.celsius = 130
    await fails(sensor, "temperature is 130", "it can be -40 to 125")
    part.celsius, part.percent = 42.501, 56.501
    await fails(sensor, "0x8000")
    part.celsius, part.serial = 20, (0, 0)
    await fails(sensor, "serial number")


async def test_sht4x_at_another_address():
    node = Node()
    node.i2c("sht4x", SHT4x(0x45), address="0x45")
    sensor = node.sensor("sht4x", address="0x45")
    assert "0x45" in sensor.place
    await sensor.read()


async def test_sps30_tells_mass_after_it_has_warmed_up():
    node = Node()
    part = SPS30()
    sensor = node.i2c("sps30", part)
    assert await sensor.read() == {}
    assert part.measuring
    await node.clock.sleep_ms(29_000)
    assert await sensor.read() == {}
    await node.clock.sleep_ms(1000)
    assert await sensor.read() == {"pm1": 1.5, "pm2_5": 3.25, "pm4": 4.0, "pm10": 4.5}
    assert len([data for data in part.heard if data[:2] == b"\x00\x10"]) == 1


async def test_sps30_waits_for_the_next_measurement_when_it_is_read_often():
    node = Node(interval=1)
    part = SPS30()
    sensor = node.i2c("sps30", part)
    await warm(node, sensor)
    for n in range(5):
        part.mass = [n, n, n, n]
        assert (await sensor.read())["pm1"] == n


async def test_sps30_says_what_is_wrong_with_it():
    node = Node()
    part = SPS30()
    sensor = node.i2c("sps30", part)
    await warm(node, sensor)
    for bit, word in ((4, "stands still"), (5, "laser")):
        part.status = 1 << bit
        await fails(sensor, word, "status 0x")
        await sensor.read()  # starts it again
        await node.clock.sleep_ms(31_000)
    part.status = 0
    part.mass = [float("nan"), 1, 1, 1]
    await fails(sensor, "pm1")
    part.product = "00010000"
    await fails(sensor, "'00010000'")


async def test_a_fan_that_is_slow_in_the_cold_has_five_minutes():
    for driver, kind in (("sps30", SPS30), ("sen55", SEN5x)):
        node = Node()
        part = kind()
        sensor = node.i2c(driver, part)
        await sensor.read()
        part.status = 1 << 21
        for _ in range(4):
            await node.clock.sleep_ms(60_000)
            assert await sensor.read() == {}
        part.status = 0
        assert await sensor.read()
        await node.clock.sleep_ms(60_000)
        part.status = 1 << 21
        await fails(sensor, "too fast", "status 0x")


async def test_a_fan_that_is_cleaned_is_left_alone():
    node = Node()
    part = SEN5x()
    sensor = node.i2c("sen55", part)
    await warm(node, sensor)
    part.status = 1 << 19
    assert await sensor.read() == {}
    part.status = 0
    assert await sensor.read()


async def test_sps30_with_old_firmware_has_no_status():
    node = Node()
    part = SPS30()
    part.version = 0x0100
    sensor = node.i2c("sps30", part)
    assert await warm(node, sensor)


async def test_parts_for_100_khz_do_not_hear_a_faster_bus():
    node = Node()
    node.bench.plug(SPS30())
    await fails(node.sensor("sps30", scl=22, sda=21, hertz=400_000), "no answer")


async def test_sen55_tells_everything():
    node = Node()
    part = SEN5x()
    sensor = node.i2c("sen55", part)
    values = await warm(node, sensor)
    wanted = {
        "pm1": 1.5,
        "pm2_5": 3.2,
        "pm4": 4.0,
        "pm10": 4.5,
        "humidity": 45.67,
        "temperature": 21.5,
        "voc_raw": 30_000,
        "nox_raw": 15_000,
    }
    for channel in wanted:
        near(values[channel], wanted[channel], 1e-5)
    part.values[5] = -2001 & 0xFFFF
    await node.clock.sleep_ms(1000)
    near((await sensor.read())["temperature"], -10.005, 1e-5)


async def test_sen55_leaves_out_what_it_does_not_know():
    node = Node()
    part = SEN5x()
    part.raw[3] = 0xFFFF  # NOx, in the first seconds
    sensor = node.i2c("sen55", part)
    values = await warm(node, sensor)
    assert "nox_raw" not in values
    assert values["voc_raw"] == 30_000
    part = SEN5x("SEN50")
    part.values[4:8] = [0x7FFF] * 4
    node = Node()
    assert sorted(await warm(node, node.i2c("sen55", part))) == ["pm1", "pm10", "pm2_5", "pm4"]


async def test_sen55_says_what_is_wrong_with_it():
    node = Node()
    part = SEN5x()
    sensor = node.i2c("sen55", part)
    await warm(node, sensor)
    part.status = 1 << 7
    await fails(sensor, "gas sensor")
    part.product = "SPS6x"
    await fails(sensor, "'SPS6x'")


async def test_scd4x_measures_every_5_seconds():
    node = Node(interval=2)
    part = SCD4x()
    sensor = node.i2c("scd4x", part, altitude=230)
    assert await sensor.read() == {}
    assert part.altitude == 230
    told = 0
    for _ in range(20):
        await node.clock.sleep_ms(2000)
        values = await sensor.read()
        if values:
            told += 1
            assert values["co2"] == 612
            near(values["temperature"], 25, 0.01)
            near(values["humidity"], 37, 0.01)
    assert 7 <= told <= 9
    assert len([data for data in part.heard if data[:2] == b"\x3f\x86"]) == 1  # never stopped again


async def test_scd4x_takes_the_pressure_of_another_sensor():
    node = Node()
    part = SCD4x()
    sensor = node.i2c("scd4x", part)
    await warm(node, sensor)
    assert part.pressure is None
    node.values["pressure"] = 987.3
    await sensor.read()
    assert part.pressure == 987
    assert b"\xe0\x00\x03\xdb\x42" in part.heard  # the example of section 3.6.5
    orders = len(part.heard)
    await sensor.read()
    assert len(part.heard) - orders <= 2  # it is told once
    node.values["pressure"] = 20  # nonsense is not passed on
    await sensor.read()
    assert part.pressure == 987
    node.values["pressure"] = 990
    part.power_up()
    await node.clock.sleep_ms(60_000)
    await fails(sensor, "lost its power")
    await warm(node, sensor)
    assert part.pressure == 990


async def test_scd4x_in_low_power():
    node = Node()
    part = SCD4x()
    sensor = node.i2c("scd4x", part, low_power=True)
    await sensor.read()
    assert part.period == 30_000
    await node.clock.sleep_ms(20_000)
    assert await sensor.read() == {}
    await node.clock.sleep_ms(11_000)
    assert await sensor.read()


async def test_scd4x_that_shows_nothing_is_a_fault():
    node = Node()
    part = SCD4x()
    part.co2 = 0
    sensor = node.i2c("scd4x", part)
    assert await sensor.read() == {}
    await node.clock.sleep_ms(6000)
    await fails(sensor, "co2 is 0")


async def test_sgp41_is_conditioned_for_less_than_10_seconds():
    node = Node()
    part = SGP41()
    sensor = node.i2c("sgp41", part)
    for _ in range(9):
        assert await sensor.read() == {}
        await node.clock.sleep_ms(1000)
    await node.clock.sleep_ms(1000)
    assert await sensor.read() == {"voc_raw": 31_000, "nox_raw": 16_000}
    assert 9000 < part.conditioned_ms < 10_000
    sensor.close()
    assert not part.heated


async def test_sgp41_is_not_left_in_conditioning_when_nobody_reads():
    node = Node(interval=3600)
    part = SGP41()
    sensor = node.i2c("sgp41", part)
    assert await sensor.read() == {}
    await node.clock.sleep_ms(3_600_000)
    assert 9000 < part.conditioned_ms < 10_000
    part.conditioned_ms = 0
    assert await sensor.read()
    part.plugged = False
    await fails(sensor, "no answer")
    part.plugged = True
    part.good, part.flip = (
        2,
        2,
    )  # the answer to the start of the conditioning is damaged, and the one that ends it
    await fails(sensor, "0x2612")
    await node.clock.sleep_ms(60_000)
    assert 9000 < part.conditioned_ms < 10_000
    sensor.close()
    await settle()


async def test_sgp41_is_told_humidity_and_temperature_of_other_sensors():
    node = Node()
    part = SGP41()
    sensor = node.i2c("sgp41", part)
    node.values["humidity"], node.values["temperature"] = 80, 5  # the conditioning is not told
    await warm(node, sensor)
    node.values.clear()
    await sensor.read()
    assert part.air == [0x8000, 0x6666]  # 50 % and 25 degrees
    node.values["humidity"], node.values["temperature"] = 100.0, 130
    await sensor.read()
    assert part.air == [0xFFFF, 0xFFFF]
    node.values["humidity"], node.values["temperature"] = 0, -45
    await sensor.read()
    assert part.air == [0, 0]
    node.values["humidity"], node.values["temperature"] = 40.04, float("nan")
    await sensor.read()
    assert part.air == [26_214, 0x6666]
    sensor.close()


async def test_sgp41_that_fails_its_self_test_says_so():
    for word in (0xD401, 0xD402, 0xD403, 0x4B00):
        part = SGP41()
        part.test = word
        await fails(Node().i2c("sgp41", part), "self-test", f"0x{word:04x}")
