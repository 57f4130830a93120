"""A node as a process: the application of firmware/, unchanged, on fakes of the board's modules.

    micropython firmware/sim/run.py DIR        (or python3)

DIR holds node.json; the process works in it and keeps there flash/ (the file system), nvs-*.json (NVS) and
time (the simulated clock). The application is that of firmware/, or that of flash/app_a and flash/app_b where they are
there, chosen as on the board. The key "sim" of node.json, all of it optional:

    speed         seconds of node time in a second (3600); the environment's SIM_SPEED goes before it
    start         Unix seconds of the beginning (the first row of the first replayed file)
    rtc           true: the date survives the end of the process (false)
    unset         seconds of node time for which no time server answers (0)
    status        true: a line of JSON about the node on standard output, once a second and at the end (false)
    exit_at_end   true: end when every replayed row is sampled and receipted (false)
    date          seconds that a time server has before TLS goes on without (20)
    trial         seconds that something on trial has until its first receipt (600); `well`, `safe` and `awake`: see app.py

SIGTERM and SIGINT end it cleanly: the node says goodbye to its broker. Exit status 3 is a reset: who started the process
should start it again. Anything else is a power cut.
"""

import asyncio
import json
import os
import sys

FIRMWARE = (__file__.rpartition("/")[0] or ".") + "/.."


def first_time(config):
    """Time of the first row of the first replayed file."""
    for row in config.sensors:
        if row["driver"] == "replay":
            with open(row["file"]) as file:
                file.readline()
                return int(file.readline().split(",")[0]) + int(row.get("shift", 0))
    return 0


class Signals:
    """SIGTERM and SIGINT, held back and asked for."""

    def __init__(self):
        self._caught = False
        try:
            import ffi
        except ImportError:  # CPython
            import signal

            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._catch)
            self._pending = None
            return
        libc = ffi.open("libc.so.6")
        self._pending = libc.func("i", "sigpending", "P")
        self._set = bytearray(128)  # sigset_t: signal n is bit n - 1
        self._set[0] = 1 << (2 - 1)
        self._set[1] = 1 << (15 - 9)
        libc.func("i", "sigprocmask", "iPP")(0, self._set, None)

    def _catch(self, number, frame):
        self._caught = True

    def came(self):
        if self._pending:
            self._pending(self._set)
            self._caught = bool(self._set[0] & 1 << 1 or self._set[1] & 1 << 6)
        return self._caught


async def simulate(directory):
    """Run one node until a signal or, if so configured, the end of the recording."""
    os.chdir(directory)
    try:
        os.mkdir("flash")
    except OSError:
        pass
    flash = os.getcwd() + "/flash"
    import nodeboot

    life = nodeboot.start(flash)
    from sensornode import app as application
    from sensornode import board, link
    from sensornode.orders import load
    from world import World

    with open("node.json") as file:
        options = json.load(file).get("sim", {})
    config = load("node.json", flash, life, board.credentials())
    application.TRIAL_S = options.get("trial", application.TRIAL_S)
    link.DATE_S = options.get("date", link.DATE_S)
    application.WELL_S = options.get("well", application.WELL_S)
    application.AWAKE_S = options.get("awake", application.AWAKE_S)
    application.SAFE_S = options.get("safe", application.SAFE_S)
    speed = float((os.getenv("SIM_SPEED") or "") or options.get("speed", 3600))
    start = options.get("start")
    world = World(
        first_time(config) if start is None else start,
        speed,
        "time",
        unset=options.get("unset", 0),
        held=options.get("rtc", False),
    )
    signals = Signals()
    import machine
    from devices.furnish import furnish

    app = application.App(config, world, flash, life)
    machine.bench.clock = app.clock
    furnish(machine.bench, config.sensors)
    world.sleepers = app.sleepers
    turning = asyncio.create_task(world.turn())
    running = asyncio.create_task(app.run())
    beats = 0
    while not running.done() and not signals.came():
        await asyncio.sleep(0.25)
        beats += 1
        if options.get("status") and beats % 4 == 0:
            report(app, world)
        replays = [source.sensor for source in app.sources if source.name == "replay" and source.sensor]
        at_end = replays and all(replay.done for replay in replays)
        if options.get("exit_at_end") and at_end and world.asleep and app.idle:
            break
    turning.cancel()
    try:
        if running.done():
            await running  # raises what ended the application
        await app.stop()
        running.cancel()
    finally:
        if options.get("status"):
            report(app, world)
    if app.sleep_ms:
        world.skip(app.sleep_ms)
    if app.ending:
        machine.reset()


def report(app, world):
    status = app.status()
    status["time"] = world.now
    print(json.dumps(status))
    flush = getattr(sys.stdout, "flush", None)
    if flush:
        flush()


if __name__ == "__main__":
    # absolute, since the process changes into DIR
    if not FIRMWARE.startswith("/"):
        FIRMWARE = os.getcwd() + "/" + FIRMWARE
    sys.path[:0] = [FIRMWARE + "/sim", FIRMWARE]
    if sys.implementation.name != "micropython":
        sys.path.append(FIRMWARE + "/sim/cpython")
    asyncio.run(simulate(sys.argv[1]))
