"""Bosch BME280: temperature, humidity and pressure (datasheet BST-BME280-DS002, revision 1.6).

node.json: {"driver": "bme280", "scl": 22, "sda": 21, "address": "0x76"}. One measurement in forced mode for each
read, all three without oversampling and without filter, as section 3.5.1 recommends for weather; the part sleeps between.

The compensation is the datasheet's in whole numbers (section 4.2.3), since single-precision floats would cost
the pressure its last digits.
"""

from struct import unpack, unpack_from

from micropython import const

from ._i2c import I2cPart

_ID = const(0xD0)
_RESET = const(0xE0)
_CTRL_HUM = const(0xF2)
_STATUS = const(0xF3)
_CTRL_MEAS = const(0xF4)
_CONFIG = const(0xF5)
_DATA = const(0xF7)

_SKIPPED_20 = const(0x80000)  # what a channel shows that was not measured (section 5.4.7 to 5.4.9)
_SKIPPED_16 = const(0x8000)
_POWER_UP_MS = const(2)  # table 1
_MEASURE_MS = const(10)  # appendix B 9.1: 1.25 + 2.3 + (2.3 + 0.575) + (2.3 + 0.575) = 9.3


class Calibration:
    """The factory's numbers (section 4.2.2), and the compensation with them."""

    def __init__(self, first, second):
        """`first` is 0x88 to 0xA1, `second` 0xE1 to 0xE7."""
        self.t = unpack("<Hhh", first[:6])
        self.p = unpack("<Hhhhhhhhh", first[6:24])
        h2, h3, e4, e5, e6, h6 = unpack("<hBbBbb", second)
        # H4 and H5 are signed, of 12 bits, and share the byte 0xE5
        self.h = (first[25], h2, h3, e4 << 4 | e5 & 0x0F, e6 << 4 | e5 >> 4, h6)

    def fine(self, raw):
        """Temperature in units of 1/5120 degree Celsius, which the other two need."""
        t1, t2, t3 = self.t
        first = ((raw >> 3) - (t1 << 1)) * t2 >> 11
        offset = (raw >> 4) - t1
        return first + ((offset * offset >> 12) * t3 >> 14)

    def pressure(self, raw, fine):
        """Pressure in units of 1/256 Pa, or 0 when it has none."""
        p1, p2, p3, p4, p5, p6, p7, p8, p9 = self.p
        v = fine - 128_000
        second = v * v * p6 + (v * p5 << 17) + (p4 << 35)
        first = (v * v * p3 >> 8) + (v * p2 << 12)
        first = ((1 << 47) + first) * p1 >> 33
        if not first:
            return 0
        p = (((1_048_576 - raw) << 31) - second) * 3125 // first
        first = p9 * (p >> 13) * (p >> 13) >> 25
        second = p8 * p >> 19
        return (p + first + second >> 8) + (p7 << 4)

    def humidity(self, raw, fine):
        """Relative humidity in units of 1/1024 %."""
        h1, h2, h3, h4, h5, h6 = self.h
        v = fine - 76_800
        wet = (raw << 14) - (h4 << 20) - h5 * v + 16_384 >> 15
        slope = ((v * h6 >> 10) * ((v * h3 >> 11) + 32_768) >> 10) + 2_097_152
        v = wet * (slope * h2 + 8192 >> 14)
        v -= ((v >> 15) * (v >> 15) >> 7) * h1 >> 4
        return min(max(v, 0), 419_430_400) >> 12


class Sensor(I2cPart):
    addresses = (0x76, 0x77)
    channels = (("temperature", "Cel"), ("humidity", "%RH"), ("pressure", "hPa"))
    limits = {"temperature": (-40, 85), "humidity": (0, 100), "pressure": (300, 1100)}  # tables 2, 3 and 4

    def __init__(self, options, services):
        super().__init__(options, services)
        self.row.end()
        self._byte = bytearray(1)
        self._data = bytearray(8)
        self._begin = bytes((_CTRL_HUM, 0b001)), bytes((_CTRL_MEAS, 0b001_001_01))
        self._calibration = None

    async def start(self):
        chip = self._peek(_ID)
        if chip != 0x60:
            known = {0x58: ", a BMP280, which has no humidity", 0x61: ", a BME680"}
            raise self.error("chip id is 0x%02x%s; a BME280 says 0x60" % (chip, known.get(chip, "")))
        self.write(bytes((_RESET, 0xB6)))
        await self._wait(_POWER_UP_MS, 0b0001, "still copies its calibration")
        first, second = bytearray(26), bytearray(7)
        self.read_register(0x88, first)
        self.read_register(0xE1, second)
        if first[:6] in (bytes(6), b"\xff" * 6):
            raise self.error("calibration is all 0x%02x" % first[0])
        self._calibration = Calibration(first, second)
        self.write(bytes((_CONFIG, 0)))

    async def measure(self):
        calibration = self._calibration
        assert calibration
        for command in self._begin:  # humidity first: it takes effect with the other (section 5.4.3)
            self.write(command)
        await self._wait(_MEASURE_MS, 0b1000, "still measures")
        data = self._data
        self.read_register(_DATA, data)
        pressure = data[0] << 12 | data[1] << 4 | data[2] >> 4
        temperature = data[3] << 12 | data[4] << 4 | data[5] >> 4
        humidity = unpack_from(">H", data, 6)[0]
        if _SKIPPED_20 in (pressure, temperature) or humidity == _SKIPPED_16:
            raise self.error("has measured nothing: it lost its power, or its settings")
        fine = calibration.fine(temperature)
        return {
            "temperature": (fine * 5 + 128 >> 8) / 100,
            "humidity": (calibration.humidity(humidity, fine) * 100 + 512 >> 10) / 100,
            "pressure": (calibration.pressure(pressure, fine) + 128 >> 8) / 100,
        }

    def _peek(self, register):
        self.read_register(register, self._byte)
        return self._byte[0]

    async def _wait(self, ms, busy, what):
        """Wait until the status has no `busy` bit."""
        for _ in range(6):
            await self.clock.sleep_ms(ms)
            if not self._peek(_STATUS) & busy:
                return
        raise self.error("%s: status 0x%02x after %d ms" % (what, self._byte[0], 6 * ms))
