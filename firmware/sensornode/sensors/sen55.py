"""Sensirion SEN55, SEN54, SEN50: particulate matter, temperature, humidity, raw ticks of VOC and NOx (datasheet SEN5x, version 2).

node.json: {"driver": "sen55", "scl": 22, "sda": 21}. It measures all the time, once a second. The first 30 s after a start
have no values. What a SEN54 or SEN50 lacks is left out. The indices it works out by itself are not used: the gateway
makes them from the ticks. 5 V, at most 100 kHz.
"""

from micropython import const

from ._sensirion import SensirionPart

_START = const(0x0021)
_READY = const(0x0202)
_VALUES = const(0x03C4)
_RAW = const(0x03D2)  # application note "Read RHT, VOC and NOx raw signals"
_PRODUCT = const(0xD014)
_STATUS = const(0xD206)
_RESET = const(0xD304)
_WARM_MS = const(30_000)
_LATE_MS = const(3000)

# Only a warning: in great cold or heat the fan takes longer to get there, and starting it again would not help.
_SPEED = const(21)
_SPEED_MS = const(300_000)
_CLEANING = const(19)  # for 10 s, once a week

_FAULTS = (
    (_SPEED, "the fan turns too fast or too slowly"),
    (7, "the gas sensor fails"),
    (6, "the humidity sensor fails"),
    (5, "the laser fails"),
    (4, "the fan stands still"),
)


class Sensor(SensirionPart):
    addresses = (0x69,)
    channels = (
        ("pm1", "ug/m3"),
        ("pm2_5", "ug/m3"),
        ("pm4", "ug/m3"),
        ("pm10", "ug/m3"),
        ("temperature", "Cel"),
        ("humidity", "%RH"),
        ("voc_raw", "count"),
        ("nox_raw", "count"),
    )
    limits = {
        "pm1": (0, 2000),
        "pm2_5": (0, 2000),
        "pm4": (0, 3000),
        "pm10": (0, 5000),
        "temperature": (-40, 85),
        "humidity": (0, 100),
        "voc_raw": (1, 65_534),
        "nox_raw": (1, 65_534),
    }
    most = 16

    def __init__(self, options, services):
        super().__init__(options, services)
        self.row.end()
        self._since = 0

    async def start(self):
        await self.command(_PRODUCT, 50, 16)
        product = self.text(16)
        if not product.startswith("SEN5"):
            raise self.error("product name is %r; this driver is for SEN50, SEN54 and SEN55" % product)
        await self.command(_RESET, 200)  # idle, whatever it did before
        await self.command(_START, 50)
        self._since = self.clock.uptime_ms()

    async def measure(self):
        running = self.clock.uptime_ms() - self._since
        if running < _WARM_MS:
            return {}
        await self.command(_STATUS, 20, 2)
        status = self.words[0] << 16 | self.words[1]
        if status == 1 << _SPEED and running < _SPEED_MS or status == 1 << _CLEANING:
            return {}
        for bit, what in _FAULTS:
            if status >> bit & 1:
                raise self.error("%s (status 0x%08x)" % (what, status))
        await self._ready()
        await self.command(_VALUES, 20, 6)
        values = {}
        words = self.words
        for index in range(4):
            if words[index] != 0xFFFF:  # unknown
                values[self.channels[index][0]] = words[index] / 10
        if words[4] != 0x7FFF:
            values["humidity"] = _signed(words[4]) / 100
        if words[5] != 0x7FFF:
            values["temperature"] = _signed(words[5]) / 200
        if len(values) > 4:  # a SEN50 has no more, and no raw signals
            await self.command(_RAW, 20, 4)
            if words[2] != 0xFFFF:
                values["voc_raw"] = words[2]
            if words[3] != 0xFFFF:
                values["nox_raw"] = words[3]
        return values

    async def _ready(self):
        late = self.clock.uptime_ms() + _LATE_MS
        while True:
            await self.command(_READY, 20, 1)
            if self.words[0] & 0xFF:
                return
            if self.clock.uptime_ms() >= late:
                raise self.error("has measured nothing for %d ms: it lost its power" % _LATE_MS)
            await self.clock.sleep_ms(100)


def _signed(word):
    return (word ^ 0x8000) - 0x8000
