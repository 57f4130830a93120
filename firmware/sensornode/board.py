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
_PLAUSIBLE = 1_735_689_600  # 2025, before this firmware was written: who shows less does not know the date
_LATEST = 3_000_000_000  # 2065: more seconds from 2000 on than a small integer holds end gmtime with an OverflowError
_DAY_MINUTES = 1440


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


def button(pin):
    """Function that tells whether a button between a pin and ground is held."""
    line = machine.Pin(pin, machine.Pin.IN, machine.Pin.PULL_UP)
    return lambda: not line.value()


def powered():
    """True when the power has just come; on an ESP32 also after its reset button."""
    return machine.reset_cause() == machine.PWRON_RESET


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


def _now():
    return int(time.time()) + _EPOCH


def _set_clock(seconds):
    year, month, day, hour, minute, second, weekday, _ = time.gmtime(seconds - _EPOCH)[:8]
    machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))


def remember_date(seconds):
    """Note a Unix time that is known to be past, once a day at most."""
    nvs = Nvs()
    minutes = seconds // 60
    if _PLAUSIBLE < seconds < _LATEST and abs(minutes - nvs.get_int("date", 0)) >= _DAY_MINUTES:
        nvs.set_int("date", minutes)
        nvs.commit()


def stand_in_date():
    """Set the system's clock, by which TLS judges certificates, to the latest date that is known to be past.

    Readings are not dated by it: as long as no time server has answered, `TimeSource.held_ms` passes it over, after a reset too.
    """
    nvs = Nvs()
    seconds = max(_PLAUSIBLE, 60 * nvs.get_int("date", 0))
    if _now() < seconds:
        if not nvs.get_int("undated", 0):
            nvs.set_int("undated", 1)
            nvs.commit()
        _set_clock(seconds)


class TimeSource:
    """Ticks of the chip, a real-time clock that survives resets but not power cuts, and NTP servers.

    :param servers: those of node.json, asked in turn; none are asked when it names none.
    :param broker: the broker's host. It and the network's gateway are asked last: they often know the time where the
        way to the internet is closed.
    """

    ticks_ms = staticmethod(ticks_ms)
    ticks_diff = staticmethod(ticks_diff)

    def __init__(self, servers, broker=""):
        self._servers = servers
        self._broker = broker

    async def sleep_ms(self, ms):
        await asyncio.sleep(ms / 1000)

    def held_ms(self):
        seconds = _now()
        return seconds * 1000 if seconds > _PLAUSIBLE and not Nvs().get_int("undated", 0) else None

    async def unix_ms(self):
        """Ask the servers in turn, and set the real-time clock. Raises OSError."""
        wlan = station()
        if not wlan.isconnected():
            raise OSError("no network")
        if not self._servers:
            raise OSError("no time server is configured")
        error = None
        for host in self._servers + [self._broker, wlan.ifconfig()[2]]:
            try:
                unix = await sntp.unix_ms(host)
                if not _PLAUSIBLE <= unix // 1000 < _LATEST:
                    raise OSError("time server " + host + " tells a date before 2025 or after 2064")
            except (OSError, IndexError, ValueError) as failure:  # also a lookup that finds nothing
                error = error or failure
                continue
            _set_clock(unix // 1000)
            nvs = Nvs()
            if nvs.get_int("undated", 0):
                nvs.set_int("undated", 0)
                nvs.commit()
            return unix
        raise OSError(str(error))
