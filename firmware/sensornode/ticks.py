"""Millisecond ticks that wrap: MicroPython's `time.ticks_*`, and the same three functions for CPython."""

try:
    from time import ticks_add, ticks_diff, ticks_ms  # pyright: ignore[reportAssignmentType]  two kinds of function
except ImportError:
    import time

    _HALF = 1 << 29  # the ESP32 counts modulo 2**30; CPython wraps at the same place

    def ticks_ms():
        now = time.monotonic_ns()  # pyright: ignore[reportAttributeAccessIssue]  CPython has it
        return (now // 1_000_000) & (2 * _HALF - 1)

    def ticks_add(ticks, delta):
        return (ticks + delta) & (2 * _HALF - 1)

    def ticks_diff(end, start):
        return ((end - start + _HALF) & (2 * _HALF - 1)) - _HALF
