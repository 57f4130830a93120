"""What the firmware uses of MicroPython's `machine`, for a node that is a process on a computer."""

import os
import sys


class WDT:
    """A watchdog that never bites; `fed` counts."""

    def __init__(self, timeout=5000):
        self.timeout = timeout
        self.fed = 0

    def feed(self):
        self.fed += 1


class RTC:
    """A clock nobody reads: sim/world.py is the time."""

    def datetime(self, fields=None):
        return fields


PWRON_RESET, SOFT_RESET = 1, 5


def reset_cause():
    """Power has come back, unless who starts the process says in SIM_RESET that it was a reset."""
    return SOFT_RESET if os.getenv("SIM_RESET") else PWRON_RESET


def reset():
    sys.exit(3)  # who runs the node starts it again
