"""Run the tests of one firmware test file, on MicroPython and CPython alike.

    micropython run.py FILE [NAME...]

A test is a top-level function `test_*`, plain or async, that takes no argument and fails by raising.
One line is written before and one after each test; whatever comes between them is the test's own output.

    @run NAME
    @pass NAME MILLISECONDS  |  @fail NAME MILLISECONDS
"""

import asyncio
import gc
import sys
import time

try:
    from time import ticks_ms
except ImportError:

    def ticks_ms():
        return time.monotonic_ns() // 1000000


def run(function):
    result = function()
    if hasattr(result, "send"):
        asyncio.run(result)
        if sys.implementation.name == "micropython":
            asyncio.new_event_loop()  # there is one loop: tasks a test left behind must not run in the next


def print_exception(error):
    if hasattr(sys, "print_exception"):
        sys.print_exception(error, sys.stdout)
    else:
        import traceback

        traceback.print_exc(file=sys.stdout)


def main(path, names):
    folder, _, name = path.rpartition("/")
    sys.path.insert(0, folder)
    module = __import__(name[: -len(".py")])
    for name in names or [name for name in dir(module) if name.startswith("test_")]:
        gc.collect()
        print("@run", name)
        start = ticks_ms()
        try:
            run(getattr(module, name))
            verdict = "@pass"
        except Exception as error:
            print_exception(error)
            verdict = "@fail"
        print(verdict, name, ticks_ms() - start)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
