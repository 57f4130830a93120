"""BME280 and BME680: compensation against the datasheets' formulas in floating point, protocol, faults."""

import random

from assembly import I2C, Node, fails, near, refused
from devices.bosch import BME280, BME280_H, BME280_P, BME280_T, BME680
from sensornode.sensors import bme280, bme680


def float_bme280(raw_t, raw_p, raw_h, t=BME280_T, p=BME280_P, h=BME280_H):
    """(fine, degrees, Pa, %) by the formulas of BST-BME280-DS002, appendix A, section 8.1."""
    fine = (raw_t / 16384 - t[0] / 1024) * t[1] + (raw_t / 131072 - t[0] / 8192) ** 2 * t[2]
    v1 = fine / 2 - 64000
    v2 = v1 * v1 * p[5] / 32768
    v2 = (v2 + v1 * p[4] * 2) / 4 + p[3] * 65536
    v1 = (p[2] * v1 * v1 / 524288 + p[1] * v1) / 524288
    v1 = (1 + v1 / 32768) * p[0]
    pressure = (1048576 - raw_p - v2 / 4096) * 6250 / v1
    pressure += (p[8] * pressure * pressure / 2147483648 + pressure * p[7] / 32768 + p[6]) / 16
    x = fine - 76800
    x = (raw_h - (h[3] * 64 + h[4] / 16384 * x)) * (
        h[1] / 65536 * (1 + h[5] / 67108864 * x * (1 + h[2] / 67108864 * x))
    )
    x *= 1 - h[0] * x / 524288
    return fine, fine / 5120, pressure, min(max(x, 0), 100)


def float_bme680(raw_t, raw_p, raw_h, t=BME680.t, p=BME680.p, h=BME680.h):
    """(fine, degrees, Pa, %) by the formulas of BST-BME680-DS001, section 3.3."""
    fine = (raw_t / 16384 - t[0] / 1024) * t[1] + (raw_t / 131072 - t[0] / 8192) ** 2 * t[2] * 16
    degrees = fine / 5120
    v1 = fine / 2 - 64000
    v2 = v1 * v1 * p[5] / 131072 + v1 * p[4] * 2
    v2 = v2 / 4 + p[3] * 65536
    v1 = (p[2] * v1 * v1 / 16384 + p[1] * v1) / 524288
    v1 = (1 + v1 / 32768) * p[0]
    x = (1048576 - raw_p - v2 / 4096) * 6250 / v1
    x += (p[8] * x * x / 2147483648 + x * p[7] / 32768 + (x / 256) ** 3 * p[9] / 131072 + p[6] * 128) / 16
    v1 = raw_h - (h[0] * 16 + h[2] / 2 * degrees)
    v2 = v1 * (h[1] / 262144 * (1 + h[3] / 16384 * degrees + h[4] / 1048576 * degrees * degrees))
    humidity = v2 + (h[5] / 16384 + h[6] / 2097152 * degrees) * v2 * v2
    return fine, degrees, x, min(max(humidity, 0), 100)


def calibration(**numbers):
    """A driver's calibration, read from a fake part's registers."""
    part = BME280(**numbers)
    part.clock = Node().clock
    part.power_up()
    return bme280.Calibration(part.registers[0x88:0xA2], part.registers[0xE1:0xE8])


def test_the_datasheets_example_is_worked_out():
    numbers = calibration()
    fine = numbers.fine(519_888)
    assert fine == 128_422  # BST-BMP280-DS001, section 3.12
    assert fine * 5 + 128 >> 8 == 2508
    # the figure shows 25767236, which is the floating-point result; the formula in 64-bit integers gives 3/256 Pa less
    assert numbers.pressure(415_148, fine) == 25_767_233


def test_bme280_agrees_with_the_formulas_in_floating_point():
    rolled = random.getrandbits
    numbers = calibration()
    for _ in range(300):
        raw_t, raw_p, raw_h = 400_000 + rolled(18), 250_000 + rolled(18), 15_000 + rolled(15)
        fine, _, pascals, percent = float_bme280(raw_t, raw_p, raw_h)
        got = numbers.fine(raw_t)
        near(got, fine, 16)  # the low bits that the whole numbers drop: 0.003 degrees
        near(numbers.pressure(raw_p, got) / 256, pascals, 1)
        near(numbers.humidity(raw_h, got) / 1024, percent, 0.02)


def test_numbers_of_the_calibration_keep_their_signs():
    h = (255, -370, 255, -2048, -1, -128)
    numbers = calibration(h=h)
    assert numbers.h == h
    assert numbers.t + numbers.p == BME280_T + BME280_P
    h = (0, 32_767, 0, 2047, 2047, 127)
    assert calibration(h=h).h == h


def test_a_pressure_without_calibration_is_none_and_no_division_by_zero():
    numbers = calibration(p=(0,) * 9)
    assert numbers.pressure(415_148, 128_422) == 0


def test_bme680_agrees_with_the_formulas_in_floating_point():
    part = BME680()
    part.clock = Node().clock
    part.power_up()
    numbers = bme680.Calibration(part.registers[0x8A:0xA1], part.registers[0xE1:0xEB])
    assert (numbers.t, numbers.p, numbers.h) == (BME680.t, BME680.p, BME680.h)
    rolled = random.getrandbits
    for _ in range(300):
        raw_t, raw_p, raw_h = 400_000 + rolled(17), 250_000 + rolled(17), 15_000 + rolled(13)
        fine, _, pascals, percent = float_bme680(raw_t, raw_p, raw_h)
        got = numbers.fine(raw_t)
        near(got, fine, 16)
        near(numbers.pressure(raw_p, got), pascals, 15)
        near(numbers.humidity(raw_h, got) / 1000, percent, 0.1)


async def test_bme280_measures():
    node = Node()
    part = BME280()
    sensor = node.i2c("bme280", part)
    values = await sensor.read()
    near(values["temperature"], 25.08, 1e-4)
    near(values["pressure"], 1006.53, 1e-3)
    near(values["humidity"], float_bme280(519_888, 415_148, 30_000)[3], 0.02)
    assert sorted(values) == sorted([name for name, _ in sensor.channels])
    assert part.registers[0xF4] & 3 == 0  # asleep again
    assert node.bench.longest_ms < 5
    assert node.clock.uptime_ms() < 30


async def test_bme280_waits_for_a_slow_measurement_and_gives_up_on_a_dead_one():
    node = Node()
    part = BME280()
    sensor = node.i2c("bme280", part)
    part.slow = 3
    await sensor.read()
    part.slow = 1000
    await fails(sensor, "still measures", "status 0x08")
    part.slow = 1
    await node.clock.sleep_ms(10_000)
    await sensor.read()


async def test_another_chip_is_named():
    for chip, word in ((0x58, "BMP280"), (0x61, "BME680"), (0xFF, "0xff")):
        part = BME280()
        part.chip = chip
        text = await fails(Node().i2c("bme280", part), "bme280", "0x76", "i2c 0 (scl 22, sda 21)", word)
        assert f"0x{chip:02x}" in text
    part = BME680()
    part.chip = 0x60
    await fails(Node().i2c("bme680", part, address="0x77"), "0x77", "0x60")


async def test_a_part_that_is_unplugged_comes_back():
    for driver, part in (("bme280", BME280()), ("bme680", BME680(0x76))):
        node = Node()
        sensor = node.i2c(driver, part, address="0x76")
        before = await sensor.read()
        part.plugged = False
        await fails(sensor, "no answer", "0x76")
        await fails(sensor, "no answer")
        part.power_up()
        part.plugged = True
        assert await sensor.read() == before


async def test_a_brown_out_between_two_reads_changes_nothing():
    for driver, part in (("bme280", BME280()), ("bme680", BME680(0x76))):
        node = Node()
        sensor = node.i2c(driver, part)
        before = await sensor.read()
        part.power_up()
        await node.clock.sleep_ms(60_000)
        assert await sensor.read() == before


async def test_a_part_exchanged_for_another_is_calibrated_anew_after_an_error():
    node = Node()
    old, new = BME280(), BME280(t=(27_000, 26_435, -1000))
    sensor = node.i2c("bme280", old)
    first = await sensor.read()
    old.plugged = False
    await fails(sensor)
    node.bench.plug(new)
    assert (await sensor.read())["temperature"] != first["temperature"]


async def test_values_outside_the_parts_range_are_refused():
    for raw, word in ((1_000_000, "temperature"), (0xFFFF0, "temperature")):
        part = BME280()
        part.temperature = raw
        await fails(Node().i2c("bme280", part), word, "it can be -40 to 85")
    part = BME280()
    part.pressure = 0
    await fails(Node().i2c("bme280", part), "pressure")


async def test_a_measurement_that_was_not_made_is_no_value():
    part = BME280()
    part.temperature = 0x80000
    await fails(Node().i2c("bme280", part), "has measured nothing")
    part = BME280()
    part.humidity = 0x8000
    await fails(Node().i2c("bme280", part), "has measured nothing")


async def test_a_blank_calibration_is_an_error():
    class Blank(BME280):
        def power_up(self):
            super().power_up()
            self.registers[0x88:0xA2] = bytes(26)

    await fails(Node().i2c("bme280", Blank()), "calibration")


async def test_bme680_measures_and_leaves_the_gas_sensor_cold():
    node = Node()
    part = BME680()
    sensor = node.i2c("bme680", part, address=0x77)
    values = await sensor.read()
    _, degrees, pascals, percent = float_bme680(488_000, 340_000, 22_000)
    near(values["temperature"], degrees, 0.02)
    near(values["pressure"], pascals / 100, 0.1)
    near(values["humidity"], percent, 0.15)
    assert part.registers[0x71] == 0
    assert part.registers[0x70] & 0x08
    assert node.bench.longest_ms < 5


def test_rows_that_make_no_sense_are_refused():
    node = Node()
    refused(lambda: node.sensor("bme280", scl=22, sda=21, address=0x40), "address", "0x76, 0x77")
    refused(lambda: node.sensor("bme280", scl=22, sda=21, adress=118), "adress")
    refused(lambda: node.sensor("bme280", scl=22, sda=20), "otherwise")
    refused(lambda: node.sensor("bme280", bus=1), "scl and sda")
    refused(lambda: node.sensor("bme280", scl="22", sda=21), "scl")
    assert node.sensor("bme280", scl=22, sda=21).place == node.sensor("bme280", **I2C).place


async def test_two_parts_share_a_bus_and_a_row_may_leave_out_its_pins():
    node = Node()
    low = node.i2c("bme280", BME280())
    node.bench.plug(BME280(0x77))
    high = node.sensor("bme280", address="0x77")
    assert (await low.read()) == (await high.read())


async def test_a_bus_that_is_held_down_is_freed():
    node = Node()
    sensor = node.i2c("bme280", BME280())
    first = await sensor.read()
    node.bench.bus(node.bench.signal(22), node.bench.signal(21)).jam(7)
    await fails(sensor, "no answer")
    assert await sensor.read() == first
    node.bench.bus(node.bench.signal(22), node.bench.signal(21)).jam(10_000)
    for _ in range(3):
        await fails(sensor, "no answer")
