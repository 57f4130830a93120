"""What the camera's image processing costs, and how wrong it is on streets with known truth.

    python tests/firmware/bench_camera.py [READS]

Times and memory come from the MicroPython that tools/micropython finds: a computer, no ESP32. "Plain" is the same code without
the machine-code emitter. The errors are those of READS readings (60) of 3 frames for every scene of camera_scenes.py.
"""

import os
import sys


class Times:
    """What functions took, in microseconds."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.spent = {}
        self.longest = 0

    def of(self, name, function):
        """The function, timed."""
        import time

        def call(*arguments):
            start = time.ticks_us()
            result = function(*arguments)
            took = time.ticks_diff(time.ticks_us(), start)
            self.spent[name] = self.spent.get(name, 0) + took
            self.longest = max(self.longest, took)
            return result

        return call


def processing():
    """Print time and memory for each stage; runs in MicroPython."""
    import gc
    import time

    from sensornode.vision import pixels

    emitted = {name: getattr(pixels, name) for name in dir(pixels)}
    with open(pixels.__file__) as file:
        text = file.read()
    plain = {}
    exec(text.replace("@micropython.viper\n", ""), plain)

    import camera_scenes
    from camera_scenes import SCENES, Watch, finish

    stages = (
        "reduce",
        "moments",
        "roughness",
        "differences",
        "fit",
        "follow",
        "classify",
        "vote",
        "label",
        "settle",
    )
    stages += ("measure", "keep", "learn")
    for width, height in ((160, 120), (240, 176), (320, 240)):
        for kind, functions in (("viper", emitted), ("plain", plain)):
            times = Times()
            for name in stages:
                setattr(pixels, name, times.of(name, functions[name]))
            watch = Watch(SCENES["exposure jumps, 4 people"](), width, height)
            watch.scene = scene = None
            gc.collect()
            before = gc.mem_alloc()
            scene = camera_scenes.Scene(width, height)
            gc.collect()
            held = gc.mem_alloc() - before
            watch.scene = scene
            for _ in range(4):
                watch.read()
            times.clear()
            reads = 20 if kind == "viper" else 3
            whole = 0
            heap = 0
            for _ in range(reads):
                scene.begin()
                for _ in range(3):
                    watch.street.render(watch.now, width, height, watch.frame)
                    watch.now += 230
                    gc.collect()
                    before = gc.mem_alloc()
                    start = time.ticks_us()
                    finish(scene.look(watch.frame))
                    whole += time.ticks_diff(time.ticks_us(), start)
                    heap = max(heap, gc.mem_alloc() - before)
                start = time.ticks_us()
                finish(scene.describe())
                whole += time.ticks_diff(time.ticks_us(), start)
            frames = 3 * reads
            title = "{} x {}, grid {} x {}, {}"
            print(title.format(width, height, scene.width, scene.height, kind))
            for name in stages:
                print(f"    {name:12} {times.spent.get(name, 0) / 1000 / frames:8.3f} ms a frame")
            text = "    {:12} {:8.3f} ms a frame, the longest step {:.3f} ms"
            print(text.format("all", whole / 1000 / frames, times.longest / 1000))
            print(f"    heap: {held} bytes held, {heap} passed through a frame")
    for name in stages:
        setattr(pixels, name, emitted[name])


def sealing():
    """Print what a sealed picture costs; runs in MicroPython."""
    import gc
    import time

    from sensornode.ecdsa import SigningKey
    from sensornode.vision import seal

    key = SigningKey(bytes(range(1, 33))).public
    for width, height in ((160, 120), (320, 240)):
        frame = bytearray(width * height)
        gc.collect()
        start = time.ticks_us()
        sealed = seal.seal_now(frame, width, height, key)
        took = time.ticks_diff(time.ticks_us(), start)
        steps = 0
        longest = 0
        work = seal._seal(frame, width, height, key)
        start = time.ticks_us()
        for _ in work:
            longest = max(longest, time.ticks_diff(time.ticks_us(), start))
            steps += 1
            start = time.ticks_us()
        text = "sealing {} x {}: {:.1f} ms in {} steps, the longest {:.2f} ms, {} bytes"
        print(text.format(width, height, took / 1000, steps, longest / 1000, len(sealed)))


def errors(reads):
    """Print the table of errors; runs in MicroPython."""
    from camera_scenes import ROWS, accuracy

    print("| scene | judged | objects exact | within 1 | mean error | bias | motion error | true motion |")
    print("|---|---|---|---|---|---|---|---|")
    for name, street in ROWS:
        a = accuracy(street(), reads)
        print(
            "| {} | {:.0f} % | {:.0f} % | {:.0f} % | {:.2f} | {:+.2f} | {:.4f} | {:.4f} |".format(
                name,
                100 * a["judged"],
                100 * a["exact"],
                100 * a["within 1"],
                a["mean error"],
                a["bias"],
                a["motion error"],
                a["true motion"],
            )
        )


if __name__ == "__main__":
    if sys.implementation.name == "micropython":
        reads = int(sys.argv[1]) if len(sys.argv) > 1 else 60
        errors(reads)
        if not os.getenv("ERRORS_ONLY"):
            processing()
            sealing()
    else:
        import subprocess
        from pathlib import Path

        here = Path(__file__).resolve().parent
        project = here.parent.parent
        paths = ":".join((str(project / "firmware"), str(here), ".frozen"))
        environ = dict(os.environ, PROJECT=str(project), MICROPYPATH=paths)
        command = [str(project / "tools" / "micropython"), "-X", "heapsize=16M", __file__]
        command.extend(sys.argv[1:])
        subprocess.run(command, env=environ, check=True)
