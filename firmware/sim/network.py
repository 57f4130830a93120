"""What the firmware uses of MicroPython's `network`: a radio on a computer that is online.

Without `WLAN.networks` every network lets the node in at once. Tests take the radio away with `WLAN.air = False`, or
say what there is: `WLAN.networks = {ssid: (rssi, password or None, hidden)}`; `WLAN.calls` tells what was asked.
"""

STA_IF = 0
AP_IF = 1
AUTH_OPEN = 0


class WLAN:
    air = True
    networks = None
    calls = []
    IF_STA = STA_IF
    IF_AP = AP_IF

    def __init__(self, interface=STA_IF):
        self._interface = interface
        self._active = False
        self._joined = None
        self._config = {"mac": b"\x02\x00\x00\xaa\xbb\xcc"}

    def active(self, on=None):
        if on is not None:
            WLAN.calls.append(("active", on))
            self._active = on
            if not on:
                self._joined = None
        return self._active

    def config(self, *names, **values):
        self._config.update(values)
        return self._config[names[0]] if names else None

    def ifconfig(self, fields=None):
        return ("192.168.4.1", "255.255.255.0", "192.168.4.1", "192.168.4.1")

    def scan(self):
        """(ssid, bssid, channel, rssi, security, hidden) of each network in the air."""
        networks = WLAN.networks or {}
        return [
            (b"" if hidden else ssid.encode(), bytes(6), 1, rssi, 3 if password else 0, hidden)
            for ssid, (rssi, password, hidden) in networks.items()
        ]

    def connect(self, ssid, password=None):
        WLAN.calls.append(("connect", ssid))
        known = (WLAN.networks or {}).get(ssid)
        self._joined = ssid if known and known[1] == password else None

    def disconnect(self):
        self._joined = None

    def isconnected(self):
        return WLAN.air and (WLAN.networks is None or self._joined in WLAN.networks)

    def status(self, what=None):
        return -50 if what == "rssi" else 1010
