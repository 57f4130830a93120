"""Sensirion SHT40, SHT41, SHT45: temperature and humidity (datasheet SHT4x, version 6.6).

node.json: {"driver": "sht4x", "scl": 22, "sda": 21, "address": "0x44"}. One measurement of high precision for each
read; the part idles between. The heater is not used.
"""

from micropython import const

from ._sensirion import SensirionPart

_MEASURE = const(0xFD)  # high precision
_MEASURE_MS = const(9)  # at most 8.3
_SERIAL = const(0x89)


class Sensor(SensirionPart):
    addresses = (0x44, 0x45, 0x46)
    channels = (("temperature", "Cel"), ("humidity", "%RH"))
    limits = {"temperature": (-40, 125), "humidity": (0, 100)}
    most = 2

    def __init__(self, options, services):
        super().__init__(options, services)
        self.row.end()

    async def start(self):
        await self.order(_SERIAL, 1, 2)
        if self.words[0] == self.words[1] == 0:
            raise self.error("serial number is 0")

    async def measure(self):
        await self.order(_MEASURE, _MEASURE_MS, 2)
        temperature, humidity = self.words
        if temperature == humidity == 0x8000:
            raise self.error("both words are 0x8000, as from a part that static electricity has damaged")
        # "Conversion of signal output"; in units of 1/1000, in whole numbers
        celsius = 175_000 * temperature // 65_535 - 45_000
        percent = 125_000 * humidity // 65_535 - 6000
        # the formula goes beyond 0 and 100 on purpose; what is beyond is 0 or 100
        return {"temperature": celsius / 1000, "humidity": min(max(percent, 0), 100_000) / 1000}

    async def order(self, code, wait, count):
        """As `command`, with the one-byte commands of this family."""
        self.write(bytes((code,)))
        await self.clock.sleep_ms(wait)
        self.receive(code, count)
