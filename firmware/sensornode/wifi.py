"""Station interface that joins the best of several networks."""

import asyncio

from .aside import aside
from .ticks import ticks_diff, ticks_ms

JOIN_MS = 15_000
MINUTE_MS = 60_000
LONGEST = 6  # a network that fails again and again goes behind the others for at most 2**6 minutes


def leave(wlan):
    """Break off whatever the radio is joining; some complain when there is nothing to break off."""
    try:
        wlan.disconnect()
    except (OSError, RuntimeError):
        pass


class Network:
    """One row of `wifi` in node.json, and how it did."""

    def __init__(self, ssid, password):
        self.ssid = ssid
        self.password = password
        self.failures = 0
        self.failed = 0  # ticks

    def failing(self, now):
        pause = MINUTE_MS << min(self.failures, LONGEST)
        return self.failures > 0 and ticks_diff(now, self.failed) < pause


class Wifi:
    """Joins networks.

    :param wlan: `network.WLAN` of the station interface.
    :param networks: [(ssid, password), ...], no password for an open network.

    Attributes: `joined`, the ssid of the network the node is in, "" for none or unknown.
    """

    def __init__(self, wlan, networks):
        self._wlan = wlan
        self._networks = [Network(ssid, password) for ssid, password in networks]
        self.joined = ""

    @property
    def connected(self):
        return self._wlan.isconnected()

    @property
    def patience(self):
        """Seconds that `join` may take."""
        return 10 + len(self._networks) * JOIN_MS // 1000

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
        self.joined = ""
        why = ""
        for net in await self._order():
            try:
                leave(wlan)
                wlan.connect(net.ssid, net.password or None)
                if await self._let_in():
                    net.failures = 0
                    self.joined = net.ssid
                    return
            except (OSError, RuntimeError) as error:
                why = ": %s" % error  # the radio does not even try
            net.failures = min(net.failures + 1, LONGEST)
            net.failed = ticks_ms()
        raise OSError("no Wi-Fi network lets the node in" + why)

    async def _let_in(self):
        begun = ticks_ms()
        while True:
            # asked before the look, so that there is one however late it is
            late = ticks_diff(ticks_ms(), begun) >= JOIN_MS
            if self._wlan.isconnected():
                return True
            if late:
                return False
            await asyncio.sleep(0.1)

    async def reset(self):
        """Switch the radio off; `join` switches it on."""
        try:
            self._wlan.active(False)
        except (OSError, RuntimeError):
            pass  # it is what does not work; in the end the node starts again
        await asyncio.sleep(0.5)

    async def _order(self):
        """Strongest first; those that are not heard, which may be hidden, after them; those that fail last."""
        if len(self._networks) < 2:
            return self._networks
        heard = {}
        try:
            for found in await aside(self._wlan.scan):
                ssid = bytes(found[0])
                heard[ssid] = max(found[3], heard.get(ssid, -1000))
        except (OSError, RuntimeError):
            pass
        now = ticks_ms()
        # the place in the list decides between equals: MicroPython's sort does not keep their order
        ranks = [
            (net.failing(now), -heard.get(net.ssid.encode(), -1000), place)
            for place, net in enumerate(self._networks)
        ]
        return [self._networks[place] for _, _, place in sorted(ranks)]
