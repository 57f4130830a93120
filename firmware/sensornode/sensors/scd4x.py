"""Sensirion SCD40, SCD41, SCD43: carbon dioxide, temperature, humidity (datasheet SCD4x, version 1.3).

node.json: {"driver": "scd4x", "scl": 22, "sda": 21, "low_power": false, "altitude": 50}

It measures all the time, every 5 s, or every 30 s with `low_power`. Air pressure goes into the result: the driver
passes on what another sensor of the node measures, else `altitude` (m above the sea) stands for it. Put a better
thermometer before it in the table: its own temperature is corrected for 4 degrees of self-heating (section 3.6.1), which
depend on the case.

Automatic self-calibration (ASC) is left as it is, and the factory switches it on. It takes the lowest value of a week for fresh
air of 400 ppm (section 3.7): outdoors that is some 25 ppm less than the truth of today. The self-test takes 10 s and is left out.
"""

from micropython import const

from ._sensirion import SensirionPart

_START = const(0x21B1)  # table 9
_START_LOW_POWER = const(0x21AC)
_STOP = const(0x3F86)
_READY = const(0xE4B8)
_VALUES = const(0xEC05)
_SERIAL = const(0x3682)
_ALTITUDE = const(0x2427)
_PRESSURE = const(0xE000)


class Sensor(SensirionPart):
    addresses = (0x62,)
    channels = (("co2", "ppm"), ("temperature", "Cel"), ("humidity", "%RH"))
    limits = {"co2": (1, 40_000), "temperature": (-20, 70), "humidity": (0, 100)}  # tables 1 to 3

    def __init__(self, options, services):
        super().__init__(options, services)
        low_power = self.row.flag("low_power", False)
        self._altitude = self.row.whole("altitude", 0, 3000, 0)
        self.row.end()
        self._start = _START_LOW_POWER if low_power else _START
        self._late = 75_000 if low_power else 12_500  # two measurements and a half
        self._fresh = 0
        self._pressure = 0

    async def start(self):
        await self.command(_STOP, 500)  # hardly anything else is heard while it measures (section 3.5.3)
        await self.command(_SERIAL, 1, 3)
        if not any(self.words):
            raise self.error("serial number is 0")
        await self.command(_ALTITUDE, 1, 0, (self._altitude,))
        await self.command(self._start, 1)
        self._pressure = 0
        self._fresh = self.clock.uptime_ms()

    async def measure(self):
        await self._compensate()
        await self.command(_READY, 1, 1)
        if not self.words[0] & 0x07FF:  # section 3.8.2
            if self.clock.uptime_ms() - self._fresh > self._late:
                raise self.error("has measured nothing for %d s: it lost its power" % (self._late // 1000))
            return {}
        await self.command(_VALUES, 1, 3)
        self._fresh = self.clock.uptime_ms()
        co2, temperature, humidity = self.words
        return {
            "co2": co2,
            "temperature": (17_500 * temperature // 65_535 - 4500) / 100,
            "humidity": 10_000 * humidity // 65_535 / 100,
        }

    async def _compensate(self):
        pressure = self.latest("pressure")
        if pressure is None or not 700 <= pressure <= 1200:  # section 3.6.5
            return
        hectopascals = int(pressure + 0.5)
        if hectopascals != self._pressure:
            await self.command(_PRESSURE, 1, 0, (hectopascals,))
            self._pressure = hectopascals
