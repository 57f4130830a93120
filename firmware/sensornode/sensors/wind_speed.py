"""A cup anemometer that gives pulses: mean wind speed since the last read, and the strongest gust.

node.json: {"driver": "wind_speed", "pin": 26, "factor": 0.667, "offset": 0, "gust_s": 3}

Speed is `factor` (m/s per Hz, from the anemometer's data sheet) times the frequency, and `offset` m/s more when it
turns. A gust is the highest mean over `gust_s` seconds: 3 s is the World Meteorological Organization's (WMO-No. 8, volume I,
chapter 5). A reed contact bounces, and the hardware counter's filter ends at 12.7 us: give it 10 kOhm and 100 nF, or
"counter": "interrupt", which takes edges at least `gap_ms` (2) apart.
"""

from ._every import Every
from ._part import Part


class Sensor(Part):
    channels = (("wind_speed", "m/s"), ("wind_gust", "m/s"))
    limits = {
        "wind_speed": (0, 110),
        "wind_gust": (0, 120),
    }  # 113 m/s is the strongest gust measured (WMO, 1996)

    def __init__(self, options, services):
        super().__init__(options, services)
        row = self.row
        self._factor = row.number("factor", 0.001, 100)
        self._offset = row.number("offset", 0, 5, 0)
        gust = row.whole("gust_s", 1, 60, 3)
        gap = row.whole("gap_ms", 0, 100, 2)
        self._pulses, self.place = services.buses.pulses(row, gap)
        row.end()
        self._window = gust * 1000
        self._every = Every(self.clock, self._window, self._look)
        now, count = self.clock.uptime_ms(), self._pulses.value()
        self._read = self._looked = now, count
        self._gust = None

    def _speed(self, since):
        """Mean speed since (uptime, count)."""
        elapsed = self.clock.uptime_ms() - since[0]
        count = self._pulses.value() - since[1]
        if not count:
            return 0
        return self._factor * 1000 * count / elapsed + self._offset

    def _look(self):
        if 2 * (self.clock.uptime_ms() - self._looked[0]) < self._window:
            return  # it began anew in the middle of a window
        speed = self._speed(self._looked)
        self._looked = self.clock.uptime_ms(), self._pulses.value()
        if self._gust is None or speed > self._gust:
            self._gust = speed

    async def start(self):
        # what was counted while something was wrong is not wind
        self._read = self._looked = self.clock.uptime_ms(), self._pulses.value()
        self._gust = None
        self._every.keep()

    async def measure(self):
        self._every.keep()
        if self.clock.uptime_ms() - self._read[0] < 1000:
            return {}  # nothing to speak of yet
        speed = self._speed(self._read)
        values = {"wind_speed": speed}
        self._read = self.clock.uptime_ms(), self._pulses.value()
        if self._gust is not None:
            values["wind_gust"] = max(speed, self._gust)
        self._gust = None
        return values

    def close(self):
        self._every.end()
