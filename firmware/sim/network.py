"""What the firmware uses of MicroPython's `network`: a radio that joins at once, on a computer that is online.

Tests take the radio away with `WLAN.air = False`.
"""

STA_IF = 0


class WLAN:
    air = True

    def __init__(self, interface=STA_IF):
        self._active = False

    def active(self, on=None):
        if on is not None:
            self._active = on
        return self._active

    def connect(self, ssid, password=None):
        pass

    def disconnect(self):
        pass

    def isconnected(self):
        return WLAN.air

    def status(self, what):
        return -50
