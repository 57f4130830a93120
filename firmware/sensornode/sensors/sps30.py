"""Sensirion SPS30: particulate matter (datasheet 1.0, D1, March 2020).

node.json: {"driver": "sps30", "scl": 22, "sda": 21}. It measures all the time, once a second, and cleans its fan by
itself every week (section 4.2), if it is not switched off before. The first 30 s after a start have no values (table 1: start-up time).
The pin SEL must be tied to ground: it makes the interface I2C (section 3). 5 V, and at most 100 kHz.
"""

from struct import unpack_from

from micropython import const

from ._sensirion import SensirionPart

_START = const(0x0010)  # section 6.3
_FLOATS = const(0x0300)
_READY = const(0x0202)
_VALUES = const(0x0300)
_PRODUCT = const(0xD002)
_VERSION = const(0xD100)
_STATUS = const(0xD206)
_RESET = const(0xD304)
_WARM_MS = const(30_000)
_LATE_MS = const(
    8500
)  # it measures each second, but not in the 10 s in which it cleans its fan; a read may take 10 s

# Only a warning: in great cold or heat the fan takes longer to get there, and starting it again would not help.
_SPEED = const(21)
_SPEED_MS = const(300_000)

_FAULTS = (
    (_SPEED, "the fan turns too fast or too slowly"),
    (5, "the laser's current is wrong"),
    (4, "the fan stands still"),
)


class Sensor(SensirionPart):
    addresses = (0x69,)
    channels = (("pm1", "ug/m3"), ("pm2_5", "ug/m3"), ("pm4", "ug/m3"), ("pm10", "ug/m3"))
    # 0 to 1000 are specified (table 1); it goes on above
    limits = {"pm1": (0, 2000), "pm2_5": (0, 2000), "pm4": (0, 3000), "pm10": (0, 5000)}
    most = 8

    def __init__(self, options, services):
        super().__init__(options, services)
        self.row.end()
        self._since = 0
        self._tells = False  # whether the firmware has a status register
        self._bytes = bytearray(16)

    async def start(self):
        await self.command(_PRODUCT, 1, 4)
        product = self.text(4)
        if product != "00080000":  # section 6.3
            raise self.error("product type is %r; an SPS30 says '00080000'" % product)
        await self.command(_RESET, 100)  # idle, whatever it did before
        await self.command(_VERSION, 1, 1)
        self._tells = self.words[0] >= 0x0202  # section 6.3: since 2.2
        await self.command(_START, 20, 0, (_FLOATS,))
        self._since = self.clock.uptime_ms()

    async def measure(self):
        running = self.clock.uptime_ms() - self._since
        if running < _WARM_MS:
            return {}
        if self._tells:
            await self.command(_STATUS, 1, 2)
            status = self.words[0] << 16 | self.words[1]
            if status == 1 << _SPEED and running < _SPEED_MS:
                return {}
            for bit, what in _FAULTS:  # section 4.4
                if status >> bit & 1:
                    raise self.error("%s (status 0x%08x)" % (what, status))
        await self._ready()
        await self.command(_VALUES, 1, 8)
        for index in range(8):
            word = self.words[index]
            self._bytes[2 * index] = word >> 8
            self._bytes[2 * index + 1] = word & 0xFF
        values = unpack_from(">ffff", self._bytes)
        return {channel: value for (channel, _), value in zip(self.channels, values)}

    async def _ready(self):
        late = self.clock.uptime_ms() + _LATE_MS
        while True:
            await self.command(_READY, 1, 1)
            if self.words[0] & 0xFF:
                return
            if self.clock.uptime_ms() >= late:
                raise self.error("has measured nothing for %d ms: it lost its power" % _LATE_MS)
            await self.clock.sleep_ms(100)
