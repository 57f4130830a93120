"""A process that is told to stop does, whatever the signal interrupts."""

import subprocess
import sys

import pytest

# the lock of the event is held in `wait` and in `set`, for some microseconds of Python
PROGRAM = """
import signal
from sensorhub.processes import stop_on_signal

with stop_on_signal() as stop:
    with stop._cond:
        signal.raise_signal(signal.{signal})
        signal.raise_signal(signal.{signal})
    print(stop.wait(60))
"""


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_signal_may_come_while_the_event_is_looked_at_or_set(signal):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(signal=signal)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "True\n", done.stderr
