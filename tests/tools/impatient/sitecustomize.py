"""Python runs this at its start when the folder is on PYTHONPATH: it takes the pauses out of pyserial's client for RFC 2217.

That client waits 50 ms up to four times for each change of its timeout, which esptool changes twice a command: 15 s until a
chip has said its name. Nothing else of it changes.
"""

import time
import types

import serial.rfc2217


def _sleep(seconds: float) -> None:
    time.sleep(min(seconds, 0.001))


serial.rfc2217.time = types.SimpleNamespace(sleep=_sleep, time=time.time, monotonic=time.monotonic)
