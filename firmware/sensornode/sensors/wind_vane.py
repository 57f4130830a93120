"""A wind vane that changes a resistance: mean direction since the last read, where the wind comes from.

node.json, for the vane with 8 reed contacts that most kits have (Argent 80422; the table below is its data sheet's):

    {"driver": "wind_vane", "pin": 35, "pullup": 10000, "supply": 3300, "offset": 0}

and for any other a table of its own: `ohms` [[degrees, ohms], ...] against `pullup` (ohms to `supply`, mV), or
`millivolts` [[degrees, mV], ...] as measured. With "between": true the vane is a potentiometer, and directions between
two rows of the table are believed too. `offset` degrees are added: what the vane shows when it points north, negated.

The direction is looked at every 3 s; the mean is that of unit vectors, so that 350 and 10 degrees make 0 and not 180.
When the looks cancel out there is no direction.
"""

import math

from micropython import const

from ._every import Every
from ._part import Part

_LOOK_MS = const(3000)
_ARGENT = (
    (0, 33_000),
    (22.5, 6570),
    (45, 8200),
    (67.5, 891),
    (90, 1000),
    (112.5, 688),
    (135, 2200),
    (157.5, 1410),
    (180, 3900),
    (202.5, 3140),
    (225, 16_000),
    (247.5, 14_120),
    (270, 120_000),
    (292.5, 42_120),
    (315, 64_900),
    (337.5, 21_880),
)


class Sensor(Part):
    channels = (("wind_direction", "deg"),)
    limits = {"wind_direction": (0, 360)}

    def __init__(self, options, services):
        super().__init__(options, services)
        row = self.row
        supply = row.number("supply", 100, 5000, 3300)
        pullup = row.number("pullup", 100, 1_000_000, 10_000)
        self._between = row.flag("between", False)
        self._offset = row.number("offset", -360, 360, 0)
        measured = row.take("millivolts", ())
        table = row.take("ohms", () if measured else _ARGENT)
        if measured and table:
            raise ValueError("ohms and millivolts cannot both be there")
        try:
            voltages = [(mv, degrees) for degrees, mv in measured]
            voltages += [(supply * ohms / (pullup + ohms), degrees) for degrees, ohms in table]
            voltages.sort()
            self._table = [(int(1000 * mv), degrees % 360) for mv, degrees in voltages]
        except (TypeError, ValueError):
            row.fail("ohms" if table else "millivolts", "a list of [degrees, value]")
        if len(self._table) < 2:
            row.fail("ohms", "two rows at least")
        self._top = int(1000 * supply)
        self._adc, self.place = services.buses.adc(row)
        row.end()
        self._every = Every(self.clock, _LOOK_MS, self._look)
        self._forget()

    def _forget(self):
        self._east = self._north = 0
        self._looks = 0
        self._failure = None

    def degrees(self, microvolts):
        """Direction of a voltage. Raises SensorError when no direction has it."""
        table = self._table
        low, high = table[0][0], table[-1][0]
        # beyond half of what the last rows leave to ground and supply the vane is not connected
        if 2 * microvolts < low or 2 * microvolts > high + max(self._top, high):
            text = "%d mV is no direction (%d to %d mV): a broken or shorted cable"
            raise self.error(text % (microvolts // 1000, low // 1000, high // 1000))
        above = 0
        while above < len(table) and table[above][0] < microvolts:
            above += 1
        above = min(max(above, 1), len(table) - 1)
        (v1, d1), (v2, d2) = table[above - 1], table[above]
        if not self._between:
            return d1 if microvolts - v1 < v2 - microvolts else d2
        share = min(max((microvolts - v1) / (v2 - v1), 0), 1)
        turn = (d2 - d1 + 180) % 360 - 180  # the shorter way round
        return (d1 + share * turn) % 360

    def _look(self):
        try:
            angle = math.radians(self.degrees(self._adc.microvolts()))
        except OSError as error:
            self._failure = error
            return
        self._east += math.sin(angle)
        self._north += math.cos(angle)
        self._looks += 1

    async def measure(self):
        self._every.keep()
        if not self._looks:
            self._look()
        east, north, looks, failure = self._east, self._north, self._looks, self._failure
        self._forget()
        if not looks:
            raise failure or self.error("was not looked at")
        if math.sqrt(east * east + north * north) < looks / 20:
            return {}
        degrees = math.degrees(math.atan2(east, north)) + self._offset
        return {"wind_direction": int(degrees % 360 + 0.5) % 360}

    def close(self):
        self._every.end()
