"""What the firmware uses of MicroPython's `machine`, for a node that is a process on a computer."""

import os
import sys

from devices import Bench


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


# sim/run.py gives the bench its clock and plugs in the parts of the node's sensors
bench = Bench(None)
Pin, I2C, UART, ADC, Counter = bench.Pin, bench.I2C, bench.UART, bench.ADC, bench.Counter


PWRON_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 4, 5


def reset_cause():
    """Power has come back, unless who starts the process says in SIM_RESET what it was."""
    return int(os.getenv("SIM_RESET") or PWRON_RESET)


def reset():
    sys.exit(3)  # who runs the node starts it again
