"""Recorded readings as a sensor: at each sampling instant the newest row that is less than an interval old.

The file is text. The first line names the columns, `time` and then `channel unit` each, comma-separated; every other
line is Unix seconds, ascending, and one value per column, empty when the recording has none:

    time,temperature Cel,pressure hPa
    1481500800,1.5,1019
    1481504400,,1018.7

node.json: {"driver": "replay", "file": PATH, "shift": SECONDS}. `shift` (default 0) is added to the times of the file.
Rows are read one at a time, so a file may be longer than the heap. While the node has no date, each
read gives the next row.
"""


class Sensor:
    def __init__(self, options, services):
        self._clock = services.clock
        self._interval = services.interval
        self._shift = int(options.get("shift", 0))
        self._file = open(options["file"])
        columns = self._file.readline().strip().split(",")
        if columns[0] != "time" or len(columns) < 2:
            raise ValueError(options["file"] + " has no heading 'time,channel unit,...'")
        self.channels = tuple(tuple(column.split(" ")) for column in columns[1:])
        if any(len(pair) != 2 for pair in self.channels):
            raise ValueError(options["file"] + " has a column that is not 'channel unit'")
        self._row = None
        self._advance()

    @property
    def done(self):
        """True when every row is behind."""
        return self._row is None

    async def read(self):
        unix = self._clock.unix_ms(self._clock.uptime_ms())
        row = self._row
        if unix is None:
            if row:
                self._advance()
        else:
            now = (unix + 500) // 1000
            row = None
            while self._row and self._row[0] <= now:
                row = self._row
                self._advance()
            if row and now - row[0] >= self._interval:
                row = None
        if not row:
            return {}
        return {channel: _number(text) for (channel, _), text in zip(self.channels, row[1]) if text}

    def _advance(self):
        line = self._file.readline().strip()
        if line:
            time, *values = line.split(",")
            self._row = (int(time) + self._shift, values)
        else:
            self._row = None
            self._file.close()


def _number(text):
    value = float(text)
    return int(value) if value == int(value) else value
