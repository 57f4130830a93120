"""Plantower PMS5003: particulate matter (data manual, series PMS5003, V2.3).

node.json: {"driver": "pms5003", "uart": 1, "tx": 17, "rx": 16, "sleep": true}. `tx` is the node's pin, to the sensor's RX.

The sensor is asked for each measurement (passive mode). With `sleep` (default: true) and 2 minutes or more between
reads, fan and laser rest between and start 35 s before the next read, since the sensor needs 30 s for steady
values ("Circuit attentions"): while it warms up there are no values. They are those "under atmospheric environment".
"""

import asyncio

from micropython import const

from ._part import Part

_BAUD = const(9600)
_FRAME = const(32)  # appendix I: 0x42 0x4D, length 28, 13 words, sum
_WARM_MS = const(30_000)
_EARLY_MS = const(35_000)
_REST_MS = const(120_000)  # a shorter interval is not worth the start
_ANSWER_MS = const(1500)
_POLL_MS = const(10)

_MODE = const(0xE1)  # appendix II
_READ = const(0xE2)
_SLEEP = const(0xE4)


class Sensor(Part):
    channels = (("pm1", "ug/m3"), ("pm2_5", "ug/m3"), ("pm10", "ug/m3"))
    # the effective range ends at 500 and the greatest value is "1000 or more" (page 2)
    limits = {"pm1": (0, 2000), "pm2_5": (0, 2000), "pm10": (0, 5000)}

    def __init__(self, options, services):
        super().__init__(options, services)
        self._interval = 1000 * services.interval
        self._rests = self.row.flag("sleep", True) and self._interval >= _REST_MS
        self._uart, self.place = services.buses.uart(self.row, _BAUD)
        self.row.end()
        self._buffer = bytearray(_FRAME)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._came = 0  # bytes since the last request
        self._damaged = 0  # frames since the last request
        self._awake = None  # uptime of waking up, or None when it sleeps
        self._waking = None  # the task

    async def start(self):
        self._wake()

    def _wake(self):
        self._send(_SLEEP, 1)
        self._awake = self.clock.uptime_ms()

    def _send(self, command, data):
        frame = bytearray((0x42, 0x4D, command, 0, data, 0, 0))
        total = sum(frame)
        frame[5] = total >> 8
        frame[6] = total & 0xFF
        self._uart.write(frame)

    async def measure(self):
        if self._awake is None and (self._waking is None or self._waking.done()):
            self._wake()
        if self._awake is None or self.clock.uptime_ms() - self._awake < _WARM_MS:
            return {}
        self._send(_MODE, 0)  # each time: after a brown-out it sends unasked
        await self.clock.sleep_ms(50)
        self._drop()
        self._send(_READ, 0)
        await self._receive(self.clock.uptime_ms() + _ANSWER_MS)
        frame = self._buffer
        values = {}
        for index, (channel, _) in enumerate(self.channels):
            at = 10 + 2 * index  # data 4 to 6
            values[channel] = frame[at] << 8 | frame[at + 1]
        if self._rests:
            self._send(_SLEEP, 0)
            self._awake = None
            self._waking = asyncio.create_task(self._wake_in_time())
        return values

    async def _wake_in_time(self):
        await self.clock.sleep_ms(self._interval - _EARLY_MS)
        self._wake()

    def _drop(self):
        while self._uart.any():
            self._uart.readinto(self._view)
        self._have = self._came = self._damaged = 0

    async def _receive(self, until):
        """Wait for a whole and undamaged frame in the buffer."""
        while not self._frame():
            if self.clock.uptime_ms() >= until:
                text = "no measurement: %d bytes and %d damaged frames in %d ms"
                raise self.error(text % (self._came, self._damaged, _ANSWER_MS))
            await self.clock.sleep_ms(_POLL_MS)

    def _frame(self):
        buffer = self._buffer
        while True:
            count = 0
            if self._uart.any():
                count = self._uart.readinto(self._view[self._have :]) or 0
                self._have += count
                self._came += count
            self._align(0)
            if self._have == _FRAME:
                if sum(self._view[:30]) == buffer[30] << 8 | buffer[31]:
                    self._have = 0
                    return True
                self._damaged += 1
                self._align(1)
            elif not count:
                return False

    def _align(self, start):
        """Let go of what is before the next possible beginning of a frame, from `start` on."""
        buffer, have = self._buffer, self._have
        while start < have and not (
            buffer[start] == 0x42
            and (start + 1 >= have or buffer[start + 1] == 0x4D)
            and (start + 2 >= have or buffer[start + 2] == 0)
            and (start + 3 >= have or buffer[start + 3] == 28)
        ):
            start += 1
        if start:
            buffer[: have - start] = buffer[start:have]
            self._have = have - start

    def close(self):
        """Let fan and laser rest."""
        if self._waking:
            self._waking.cancel()
            self._waking = None
        self._send(_SLEEP, 0)
        self._awake = None
