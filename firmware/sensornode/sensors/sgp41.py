"""Sensirion SGP41: raw ticks of VOC and NOx (datasheet SGP41, version 1.0).

node.json: {"driver": "sgp41", "scl": 22, "sda": 21}. The gateway makes the indices from the ticks. Humidity and
temperature go into the measurement: the driver passes on what other sensors of the node measure, else 50 % and 25 degrees.

After a start the NOx pixel is conditioned for 10 s, and never longer, which would damage it; meanwhile there are no
values. Then the hot plates stay on between the reads: 3 mA at 3.3 V.
"""

import asyncio

from micropython import const

from ._sensirion import SensirionPart

_CONDITION = const(0x2612)
_MEASURE = const(0x2619)
_SELF_TEST = const(0x280E)
_HEATER_OFF = const(0x3615)
_SERIAL = const(0x3682)
_MEASURE_MS = const(50)
_SELF_TEST_MS = const(320)
_CONDITION_MS = const(9500)  # at most 10 s, and the node may be busy when the time is over


class Sensor(SensirionPart):
    addresses = (0x59,)
    channels = (("voc_raw", "count"), ("nox_raw", "count"))
    limits = {"voc_raw": (1, 65_534), "nox_raw": (1, 65_534)}  # 0 and 65,535 are no ticks

    def __init__(self, options, services):
        super().__init__(options, services)
        self.row.end()
        self._conditioning = None  # the task that ends it

    async def start(self):
        if self._busy():
            return
        await self.command(_SERIAL, 1, 3)
        await self.command(_SELF_TEST, _SELF_TEST_MS, 1)
        if (
            self.words[0] & 0x000F or self.words[0] == 0x4B00
        ):  # a bit for each pixel that failed; the SGP40's word
            raise self.error("self-test failed: 0x%04x" % self.words[0])
        self._conditioning = asyncio.create_task(self._end_conditioning())
        # always for 50 % and 25 degrees: this command compensates nothing
        await self.command(_CONDITION, _MEASURE_MS, 1, (0x8000, 0x6666))

    async def measure(self):
        if self._busy():
            return {}
        await self.command(_MEASURE, _MEASURE_MS, 2, self._air())
        return {"voc_raw": self.words[0], "nox_raw": self.words[1]}

    def _busy(self):
        return self._conditioning is not None and not self._conditioning.done()

    async def _end_conditioning(self):
        await self.clock.sleep_ms(_CONDITION_MS)
        for _ in range(10):  # until it is heard: another command ends the conditioning
            try:
                await self.command(_MEASURE, _MEASURE_MS, 2, self._air())
                return
            except OSError:
                await self.clock.sleep_ms(20)

    def _air(self):
        """Humidity and temperature in the units of the sensor."""
        humidity = self.latest("humidity")
        temperature = self.latest("temperature")
        if humidity is None or not 0 <= humidity <= 100:
            humidity = 50
        if temperature is None or not -45 <= temperature <= 130:
            temperature = 25
        # tenths, so that the products are whole
        rh = (int(humidity * 10 + 0.5) * 65_535 + 500) // 1000
        t = (int((temperature + 45) * 10 + 0.5) * 65_535 + 875) // 1750
        return rh, t

    def close(self):
        """Switch the hot plates off."""
        if self._conditioning:
            self._conditioning.cancel()
            self._conditioning = None
        try:
            self.write(bytes((_HEATER_OFF >> 8, _HEATER_OFF & 0xFF)))
        except OSError:
            pass  # it is not there
