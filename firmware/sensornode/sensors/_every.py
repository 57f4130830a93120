"""Work beside the reads, at a steady pace."""

import asyncio


class Every:
    """Calls a function every `ms` milliseconds of node time, from the first `keep()` on."""

    def __init__(self, clock, ms, function):
        self._clock = clock
        self._ms = ms
        self._function = function
        self._task = None

    def keep(self):
        """Begin, or begin again if something ended it."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def end(self):
        if self._task:
            self._task.cancel()
            self._task = None

    async def _run(self):
        while True:
            await self._clock.sleep_ms(self._ms)
            self._function()
