"""Time that passes when everybody sleeps."""

import asyncio

_TURNS = 3  # of the event loop for which nobody may wake up before time passes: others may be on their way to sleep


class Clock:
    """What a driver uses of `sensornode.clock.Clock`, in simulated time: the soonest sleeper makes time pass."""

    def __init__(self, ms=0):
        self._ms = ms
        self._sleepers = []

    def uptime_ms(self):
        return self._ms

    def unix_ms(self, uptime_ms):
        return 1_700_000_000_000 + uptime_ms

    async def sleep_ms(self, ms):
        until = self._ms + ms
        self._sleepers.append(until)
        turns = 0
        try:
            while self._ms < until:
                await asyncio.sleep(0)
                turns = turns + 1 if min(self._sleepers) == until else 0
                if turns >= _TURNS and self._ms < until:
                    self._ms = until
        finally:
            self._sleepers.remove(until)
