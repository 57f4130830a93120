"""Node time: seconds since boot that never jump, and what is known of Unix time.

All arithmetic is in whole milliseconds or seconds: the ESP32's floats are single precision and lose the second
in a Unix time.
"""

DAY_MS = 86_400_000


class Clock:
    """Time of the node, read from a time source.

    A source has `ticks_ms()` and `ticks_diff(end, start)` (ticks may wrap, as long as the clock is read twice per
    period), `async sleep_ms(ms)`, `held_ms()` (Unix milliseconds that survived a reset, or None) and
    `async unix_ms()` (asks a time server; raises OSError). `board.TimeSource` is the real one.
    """

    def __init__(self, source):
        self._source = source
        self._ticks = source.ticks_ms()
        self._uptime = 0
        self._start = source.held_ms()  # Unix ms at boot, once known
        self._synced = None  # uptime of the last synchronisation

    def uptime_ms(self):
        """Milliseconds since boot."""
        ticks = self._source.ticks_ms()
        self._uptime += self._source.ticks_diff(ticks, self._ticks)
        self._ticks = ticks
        return self._uptime

    def unix_ms(self, uptime_ms):
        """Unix milliseconds of an uptime, or None while the clock has no date."""
        return None if self._start is None else self._start + uptime_ms

    @property
    def quality(self):
        """Time quality of the wire format: 0 uptime only, 1 held over, 2 synchronised within 24 h."""
        if self._start is None:
            return 0
        if self._synced is None or self.uptime_ms() - self._synced > DAY_MS:
            return 1
        return 2

    async def sync(self):
        """Ask the time server once. Raises OSError when it does not answer."""
        unix = await self._source.unix_ms()
        self._synced = self.uptime_ms()
        self._start = unix - self._synced

    async def sleep_ms(self, ms):
        await self._source.sleep_ms(ms)

    async def sleep_until(self, uptime_ms):
        while True:
            left = uptime_ms - self.uptime_ms()
            if left <= 0:
                return
            await self._source.sleep_ms(left)

    def first_slot(self, interval_ms):
        """The first sampling instant that is not past, as uptime."""
        return self.next_slot(self.uptime_ms() - interval_ms // 2 - 1, interval_ms)

    def next_slot(self, slot_ms, interval_ms):
        """The sampling instant after `slot_ms`, both as uptime.

        Instants fall on whole multiples of the interval in Unix time once the clock has a date, so that nodes
        sample together. `slot_ms` counts as the instant it is nearest to: a correction by a few milliseconds neither
        repeats nor skips one.
        """
        start = self._start or 0
        nearest = (start + slot_ms + interval_ms // 2) // interval_ms
        return (nearest + 1) * interval_ms - start
