"""Parts as they answer on the wire: register maps, commands, check bytes, conversion times, and what can go wrong with them.

A `Bench` stands for the module `machine`: parts are plugged into it, and drivers find its `Pin`, `I2C`, `UART`, `ADC` and `Counter`.
Parts live by the time of a clock with `uptime_ms()`; `Clock` is one that a test can let run.
"""

from .bench import Bench
from .time import Clock

__all__ = ["Bench", "Clock"]
