"""The board: the only module that touches `machine`, `network` and `esp32`."""

import asyncio
import os
import sys
import time

import esp32
import machine
import network

from . import sntp
from .ticks import ticks_diff, ticks_ms

_EPOCH = 946_684_800 if time.gmtime(0)[0] == 2000 else 0  # the ESP32 counts from 2000
_PLAUSIBLE = 1_735_689_600  # 2025: a clock that shows less was never set
_JOIN_MS = 15_000


def hardware():
    """What the board calls itself."""
    return getattr(sys.implementation, "_machine", sys.platform)[:64]


def random_bytes(count):
    """Random bytes for a key. The radio must be on: without it the ESP32's generator is only pseudo-random
    (ESP32 Technical Reference Manual, section 'Random Number Generator')."""
    network.WLAN(network.STA_IF).active(True)
    return os.urandom(count)


class Nvs:
    """The node's namespace in non-volatile storage."""

    def __init__(self, namespace="sensornode"):
        self._nvs = esp32.NVS(namespace)

    def get_int(self, key, default):
        try:
            return self._nvs.get_i32(key)
        except OSError:
            return default

    def set_int(self, key, value):
        self._nvs.set_i32(key, value)

    def get_blob(self, key, length):
        """The blob, or None when there is none of this length."""
        blob = bytearray(length)
        try:
            return bytes(blob) if self._nvs.get_blob(key, blob) == length else None
        except OSError:
            return None

    def set_blob(self, key, value):
        self._nvs.set_blob(key, value)

    def commit(self):
        self._nvs.commit()


class Wifi:
    """Station interface that joins the first of several networks that lets it in."""

    def __init__(self, networks):
        self._networks = networks
        self._wlan = network.WLAN(network.STA_IF)

    @property
    def connected(self):
        return self._wlan.isconnected()

    def rssi(self):
        """Signal strength in dBm, or None."""
        try:
            return self._wlan.status("rssi")
        except (OSError, ValueError, RuntimeError):
            return None

    async def join(self):
        """Be connected. Raises OSError when no network lets the node in."""
        wlan = self._wlan
        wlan.active(True)
        if wlan.isconnected():
            return
        for ssid, password in self._networks:
            wlan.disconnect()
            wlan.connect(ssid, password or None)
            begun = ticks_ms()
            while ticks_diff(ticks_ms(), begun) < _JOIN_MS:
                if wlan.isconnected():
                    return
                await asyncio.sleep(0.1)
        raise OSError("no Wi-Fi network lets the node in")


class Watchdog:
    """Hardware watchdog; with 0 seconds there is none."""

    def __init__(self, seconds):
        self._wdt = machine.WDT(timeout=seconds * 1000) if seconds else None

    def feed(self):
        if self._wdt:
            self._wdt.feed()


class TimeSource:
    """Ticks of the chip, a real-time clock that survives resets but not power cuts, and NTP servers."""

    ticks_ms = staticmethod(ticks_ms)
    ticks_diff = staticmethod(ticks_diff)

    def __init__(self, servers):
        self._servers = servers

    async def sleep_ms(self, ms):
        await asyncio.sleep(ms / 1000)

    def held_ms(self):
        seconds = int(time.time()) + _EPOCH
        return seconds * 1000 if seconds > _PLAUSIBLE else None

    async def unix_ms(self):
        """Ask the servers in turn, and set the real-time clock. Raises OSError."""
        if not network.WLAN(network.STA_IF).isconnected():
            raise OSError("no network")
        error = OSError("no time server is configured")
        for host in self._servers:
            try:
                unix = await sntp.unix_ms(host)
            except OSError as failure:
                error = failure
                continue
            year, month, day, hour, minute, second, weekday, _ = time.gmtime(unix // 1000 - _EPOCH)[:8]
            machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))
            return unix
        raise error
