"""Bosch BME680 and BME688: temperature, humidity and pressure (datasheet BST-BME680-DS001, revision 1.9).

node.json: {"driver": "bme680", "scl": 22, "sda": 21, "address": "0x77"}. As the BME280: one measurement in forced mode
without oversampling and filter for each read. The gas sensor stays cold: its resistance has no channel, and its
hot plate would draw 12 mA and warm the rest.

The compensation is in whole numbers (section 3.3), see bme280.py.
"""

from struct import unpack

from micropython import const

from ._i2c import I2cPart

_ID = const(0xD0)
_RESET = const(0xE0)
_STATUS = const(0x1D)
_DATA = const(0x1F)  # pressure, temperature, humidity
_CTRL_GAS_0 = const(0x70)
_CTRL_GAS_1 = const(0x71)
_CTRL_HUM = const(0x72)
_CTRL_MEAS = const(0x74)
_CONFIG = const(0x75)

_SKIPPED_20 = const(0x80000)
_SKIPPED_16 = const(0x8000)
_POWER_UP_MS = const(5)
_MEASURE_MS = const(12)  # 3 conversions of 1.963 ms, 9 switches of 0.477 ms, 1.5 ms to wake up


class Calibration:
    """The factory's numbers (section 3.3), and the compensation with them."""

    def __init__(self, first, second):
        """`first` is 0x8A to 0xA0, `second` 0xE1 to 0xEA."""
        t2, t3 = unpack("<hb", first[:3])
        p1, p2, p3 = unpack("<Hhb", first[4:9])
        p4, p5, p7, p6 = unpack("<hhbb", first[10:16])
        p8, p9, p10 = unpack("<hhB", first[18:23])
        self.p = (p1, p2, p3, p4, p5, p6, p7, p8, p9, p10)
        # H1 and H2 are of 12 bits and share the byte 0xE2
        h1 = second[2] << 4 | second[1] & 0x0F
        h2 = second[0] << 4 | second[1] >> 4
        h3, h4, h5, h6, h7, t1 = unpack("<bbbBbH", second[3:10])
        self.h = (h1, h2, h3, h4, h5, h6, h7)
        self.t = (t1, t2, t3)

    def fine(self, raw):
        """Temperature in units of 1/5120 degree Celsius, which the other two need."""
        t1, t2, t3 = self.t
        offset = (raw >> 3) - (t1 << 1)
        half = offset >> 1
        return (offset * t2 >> 11) + ((half * half >> 12) * (t3 << 4) >> 14)

    def pressure(self, raw, fine):
        """Pressure in Pa, or 0 when it has none."""
        p1, p2, p3, p4, p5, p6, p7, p8, p9, p10 = self.p
        v = (fine >> 1) - 64_000
        square = (v >> 2) * (v >> 2)
        second = (square >> 11) * p6 >> 2
        second = (second + (v * p5 << 1) >> 2) + (p4 << 16)
        first = ((square >> 13) * (p3 << 5) >> 3) + (p2 * v >> 1) >> 18
        first = (32_768 + first) * p1 >> 15
        if not first:
            return 0
        # the datasheet divides before or after doubling, as 32 bits allow; here nothing overflows
        p = ((1_048_576 - raw - (second >> 12)) * 3125 << 1) // first
        first = p9 * ((p >> 3) * (p >> 3) >> 13) >> 12
        second = (p >> 2) * p8 >> 13
        third = (p >> 8) * (p >> 8) * (p >> 8) * p10 >> 17
        return p + (first + second + third + (p7 << 7) >> 4)

    def humidity(self, raw, fine):
        """Relative humidity in 1/1000 %."""
        h1, h2, h3, h4, h5, h6, h7 = self.h
        t = fine * 5 + 128 >> 8
        first = raw - (h1 << 4) - (t * h3 // 100 >> 1)
        second = h2 * (t * h4 // 100 + (t * (t * h5 // 100) >> 6) // 100 + 16_384) >> 10
        third = first * second
        fourth = (h6 << 7) + t * h7 // 100 >> 4
        fifth = (third >> 14) * (third >> 14) >> 10
        value = ((third + (fourth * fifth >> 1)) >> 10) * 1000 >> 12
        return min(max(value, 0), 100_000)


class Sensor(I2cPart):
    addresses = (0x76, 0x77)
    channels = (("temperature", "Cel"), ("humidity", "%RH"), ("pressure", "hPa"))
    limits = {"temperature": (-40, 85), "humidity": (0, 100), "pressure": (300, 1100)}  # section 1

    def __init__(self, options, services):
        super().__init__(options, services)
        self.row.end()
        self._byte = bytearray(1)
        self._data = bytearray(8)
        self._begin = bytes((_CTRL_HUM, 0b001)), bytes((_CTRL_MEAS, 0b001_001_01))
        self._calibration = None

    async def start(self):
        self.read_register(_ID, self._byte)
        if self._byte[0] != 0x61:
            raise self.error("chip id is 0x%02x; a BME680 or BME688 says 0x61" % self._byte[0])
        self.write(bytes((_RESET, 0xB6)))
        await self.clock.sleep_ms(_POWER_UP_MS)
        first, second = bytearray(23), bytearray(10)
        self.read_register(0x8A, first)
        self.read_register(0xE1, second)
        if first[:2] in (bytes(2), b"\xff\xff"):
            raise self.error("calibration is all 0x%02x" % first[0])
        self._calibration = Calibration(first, second)
        for register, value in ((_CTRL_GAS_0, 0x08), (_CTRL_GAS_1, 0), (_CONFIG, 0)):
            self.write(bytes((register, value)))

    async def measure(self):
        calibration = self._calibration
        assert calibration
        for command in self._begin:
            self.write(command)
        for _ in range(6):
            await self.clock.sleep_ms(_MEASURE_MS)
            self.read_register(_STATUS, self._byte)
            if self._byte[0] & 0xA0 == 0x80:  # new data, and not measuring
                break
        else:
            raise self.error("has measured nothing: status 0x%02x" % self._byte[0])
        data = self._data
        self.read_register(_DATA, data)
        pressure = data[0] << 12 | data[1] << 4 | data[2] >> 4
        temperature = data[3] << 12 | data[4] << 4 | data[5] >> 4
        humidity = data[6] << 8 | data[7]
        if _SKIPPED_20 in (pressure, temperature) or humidity == _SKIPPED_16:
            raise self.error("has measured nothing: it lost its power, or its settings")
        fine = calibration.fine(temperature)
        return {
            "temperature": (fine * 5 + 128 >> 8) / 100,
            "humidity": (calibration.humidity(humidity, fine) + 5) // 10 / 100,
            "pressure": calibration.pressure(pressure, fine) / 100,
        }
