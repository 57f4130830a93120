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


class Pin:
    """A pin that remembers what it was set to."""

    IN, OUT = 0, 1

    def __init__(self, number, mode=-1):
        self.number = number
        self.levels = []

    def value(self, level=None):
        if level is not None:
            self.levels.append(int(level))
        return self.levels[-1] if self.levels else 0


PWRON_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 4, 5


def reset_cause():
    """Power has come back, unless who starts the process says in SIM_RESET what it was."""
    return int(os.getenv("SIM_RESET") or PWRON_RESET)


def reset():
    sys.exit(3)  # who runs the node starts it again
