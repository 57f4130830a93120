"""Simulated time: as fast as wanted, and never ahead of the node.

Node time moves only while every task of the node that lives by it is asleep, and never past the next awakening.
So at any speed a node samples at the same instants; one that cannot keep up makes time go slower and misses
nothing. Time survives the node: it is written down whenever the node goes to sleep, and goes on from there.
"""

import asyncio
import os

from sensornode.ticks import ticks_diff, ticks_ms

_PERIOD = 1 << 30  # of the chip's ticks, in ms: they wrap in the simulation too
_LATE_MS = 1000  # fall further behind the wanted speed than this, and the loss is not made up


class World:
    """A time source for `sensornode.clock.Clock`.

    :param start: Unix seconds at which time begins, when `path` tells of none.
    :param speed: seconds of node time in a second.
    :param path: file that keeps the time, or None.
    :param sleepers: how many tasks of the node live by node time.
    :param unset: seconds from the start of the process for which no time server answers.
    :param held: whether the real-time clock survives the end of the process, as it does resets and deep sleep.
    """

    def __init__(self, start, speed, path=None, sleepers=2, unset=0, held=False):
        self._speed = speed
        self._path = path
        self.sleepers = sleepers
        self._held = held
        self._asleep = []  # (when, event), soonest first
        self._changed = asyncio.Event()
        self._time = start * 1000
        try:
            if path:
                with open(path) as file:
                    self._time = int(file.read())
        except (OSError, ValueError):
            pass
        self._boot = self._time
        self._unset = self._time + unset * 1000

    # -- the time source

    def ticks_ms(self):
        return self._time % _PERIOD

    def ticks_diff(self, end, start):
        return (end - start + _PERIOD // 2) % _PERIOD - _PERIOD // 2

    def held_ms(self):
        return self._time if self._held else None

    async def unix_ms(self):
        if self._time < self._unset:
            raise OSError("no time server yet")
        return self._time

    async def sleep_ms(self, ms):
        when = self._time + ms
        event = asyncio.Event()
        place = 0
        while place < len(self._asleep) and self._asleep[place][0] <= when:
            place += 1
        self._asleep.insert(place, (when, event))
        self._changed.set()
        try:
            await event.wait()
        finally:
            self._asleep = [sleeper for sleeper in self._asleep if sleeper[1] is not event]

    # -- the world

    @property
    def now(self):
        """Unix seconds."""
        return self._time // 1000

    @property
    def asleep(self):
        """True when the node waits for time to pass."""
        return len(self._asleep) >= self.sleepers

    def skip(self, ms):
        """Time passes while the node is in deep sleep."""
        self._time += ms
        self._save()

    async def turn(self):
        """Let time pass, for ever."""
        due = ticks_ms()  # when, in real time, node time should be what it is
        rest = 0.0  # of a millisecond, to be added to it: many steps are shorter than one
        while True:
            if not self.asleep:
                self._changed.clear()
                await self._changed.wait()
                continue
            self._save()
            when, event = self._asleep[0]
            step = (when - self._time) / self._speed
            behind = ticks_diff(ticks_ms(), due)
            if behind > _LATE_MS:
                due = ticks_ms()
                behind = 0
            wait = max(0, rest + step - behind)
            await self._pass(wait)
            if not self._asleep or self._asleep[0][1] is not event:
                continue  # somebody went to sleep for less, or was cancelled
            rest += step
            due += int(rest)
            rest -= int(rest)
            self._time = when
            self._asleep.pop(0)
            event.set()

    async def _pass(self, wait):
        """Let real time pass, until somebody goes to sleep at the most."""
        if wait < 1:
            await asyncio.sleep(0)
            return
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), wait / 1000)
        except asyncio.TimeoutError:
            pass

    def _save(self):
        if self._path:
            with open(self._path + ".new", "w") as file:
                file.write(str(self._time))
            os.rename(self._path + ".new", self._path)
