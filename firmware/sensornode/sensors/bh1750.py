"""Rohm BH1750FVI: illuminance (datasheet 2011.11, revision D).

node.json: {"driver": "bh1750", "scl": 22, "sda": 21, "address": "0x23", "factor": 1.0}

One measurement for each read, with the shortest window first, so that sunlight fits (up to 121 klx); when it is dark a
second one with the longest (steps of 0.11 lx). `factor` is what a dome or window before the sensor takes away: what
comes out is multiplied by it. The part has neither an identity nor a check byte.
"""

from micropython import const

from ._i2c import I2cPart

_POWER_ON = const(0x01)  # page 5
_ONCE_HIGH = const(0x20)  # one measurement in steps of 1 lx, then power down
_ONCE_HIGH_2 = const(0x21)  # in steps of 0.5 lx
_WINDOW_HIGH = const(0x40)  # page 11: upper 3 and lower 5 bits of the window register
_WINDOW_LOW = const(0x60)
_NORMAL = const(69)
_BRIGHT = const(31)
_DARK = const(254)
_MEASURE_MS = const(180)  # page 2: at most, with the normal window
_DIM = const(
    500
)  # counts of the short window below which the long one does not overflow: 500 * 254 * 2 / 31 = 8194


class Sensor(I2cPart):
    addresses = (0x23, 0x5C)
    channels = (("illuminance", "lx"),)

    def __init__(self, options, services):
        super().__init__(options, services)
        self._factor = self.row.number("factor", 0.1, 100, 1)
        self.row.end()
        self.limits = {"illuminance": (0, 122_000 * self._factor)}
        self._word = bytearray(2)

    async def measure(self):
        count = await self._count(_BRIGHT, _ONCE_HIGH)
        if count == 0xFFFF:
            raise self.error("is blinded: 0xffff, more than 121 klx")
        lux = count * _NORMAL / (1.2 * _BRIGHT)  # page 11
        if count < _DIM:
            count = await self._count(_DARK, _ONCE_HIGH_2)
            lux = count * _NORMAL / (2.4 * _DARK)
        return {"illuminance": lux * self._factor}

    async def _count(self, window, mode):
        for command in (_POWER_ON, _WINDOW_HIGH | window >> 5, _WINDOW_LOW | window & 0x1F, mode):
            self.write(bytes((command,)))
        await self.clock.sleep_ms(_MEASURE_MS * window // _NORMAL + 1)
        self.read_into(self._word)
        return self._word[0] << 8 | self._word[1]
