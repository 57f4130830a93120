"""A tipping bucket with a reed contact: rain since the last read.

node.json: {"driver": "rain", "pin": 27, "mm": 0.2794, "debounce_ms": 250}

`mm` is the rain of one tip. The contact closes once a tip, for some 100 ms, and bounces when it closes and when it
opens. Edges are counted by the pulse counter (or an interrupt), so none is lost while the processor is busy; a look at the
count 20 times a second makes tips of them: edges count as the same tip until there has been none for `debounce_ms`.
Tips are kept until a read tells them. Those since the last read are lost when the node restarts.
"""

from micropython import const

from ._every import Every
from ._part import Part

_LOOK_MS = const(50)
_MOST = 31.2  # mm in a minute: the most ever measured (WMO, Unionville 1956)


class Sensor(Part):
    channels = (("rain", "mm"),)

    def __init__(self, options, services):
        super().__init__(options, services)
        row = self.row
        self._mm = row.number("mm", 0.01, 10)
        self._debounce = row.whole("debounce_ms", 0, 2000, 250)
        self._pulses, self.place = services.buses.pulses(row)
        row.end()
        self.limits = {"rain": (0, _MOST)}
        self.tips = 0  # since the start
        self._told = 0
        self._edges = self._pulses.value()
        self._last = self._since = self.clock.uptime_ms()
        self._closed = False
        self._every = Every(self.clock, _LOOK_MS, self._look)

    def _look(self):
        edges = self._pulses.value()
        now = self.clock.uptime_ms()
        if edges != self._edges:
            self._edges = edges
            self._last = now
            if not self._closed:
                self._closed = True
                self.tips += 1
        elif self._closed and now - self._last >= self._debounce:
            self._closed = False

    async def measure(self):
        self._every.keep()
        self._look()
        now = self.clock.uptime_ms()
        tips = self.tips - self._told
        self._told = self.tips
        minutes = max(1, (now - self._since) / 60_000)
        self._since = now
        self.limits["rain"] = (0, _MOST * minutes)
        return {"rain": tips * self._mm}

    def close(self):
        self._every.end()
