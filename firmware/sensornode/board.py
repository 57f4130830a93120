"""The board: with nodeboot.py and main.py the only modules that touch `machine`, `network` and `esp32`."""

import asyncio
import os
import sys
import time

import esp32
import machine
import network
from nodeboot import Nvs  # noqa: F401 - a part of the board, kept where the boot code can use it

from . import sntp
from .ticks import ticks_diff, ticks_ms

_EPOCH = 946_684_800 if time.gmtime(0)[0] == 2000 else 0  # the ESP32 counts from 2000
_PLAUSIBLE = 1_735_689_600  # 2025: a clock that shows less was never set


def hardware():
    """What the board calls itself."""
    return getattr(sys.implementation, "_machine", sys.platform)[:64]


def random_bytes(count):
    """Random bytes for a key. The radio must be on: without it the ESP32's generator is only pseudo-random
    (ESP32 Technical Reference Manual, section 'Random Number Generator')."""
    network.WLAN(network.STA_IF).active(True)
    return os.urandom(count)


def credentials():
    """What the tool that flashed the node has put into NVS beside node.json: name to bytes, those of `wifi`, `mqtt` and
    `claim` that are there. `config.complete` says what they hold."""
    nvs = esp32.NVS("credentials")
    found = {}
    for name in ("wifi", "mqtt", "claim"):
        blob = bytearray(1024)
        try:
            length = nvs.get_blob(name, blob)
        except OSError:
            continue
        found[name] = bytes(blob[:length])
    return found


def station():
    """The Wi-Fi interface that joins networks."""
    return network.WLAN(network.STA_IF)


def access_point(prefix):
    """Open an access point without a password; returns its name, which ends in that of the radio."""
    wlan = network.WLAN(network.AP_IF)
    wlan.active(True)
    mac = wlan.config("mac")
    name = "%s-%02x%02x" % (prefix, mac[-2], mac[-1])
    wlan.config(ssid=name, security=0)
    return name


def led(pin, low):
    """Function that switches the LED at a pin on and off; `low`: it lights when the pin is low."""
    out = machine.Pin(pin, machine.Pin.OUT)
    return lambda on: out.value(on != low)


def reset():
    """Start again at once."""
    machine.reset()


def deep_sleep(ms):
    """Switch everything off but the clock, and start again after so many milliseconds."""
    station().active(False)
    machine.deepsleep(ms)


def next_partition():
    """The OTA partition that does not run, or None when the table has no OTA slots."""
    running = esp32.Partition(esp32.Partition.RUNNING)  # pyright: ignore[reportArgumentType]  the stub is wrong: an int
    if not running.info()[4].startswith("ota_"):
        return None
    try:
        return running.get_next_update()
    except OSError:
        return None


def boot_from(partition):
    """Start from a partition next time. Raises OSError when the bootloader does not take it."""
    partition.set_boot()
    if esp32.Partition(esp32.Partition.BOOT).info()[4] != partition.info()[4]:  # pyright: ignore[reportArgumentType]  the stub is wrong: an int
        raise OSError("the image was refused")


def confirm_partition():
    """Tell the bootloader that the running image is good; without OTA slots there is nothing to tell."""
    try:
        esp32.Partition.mark_app_valid_cancel_rollback()
    except OSError:
        pass


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
