"""Streets with known truth, and how wrong the camera's values are on them. For both interpreters."""

import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

from camera import Street, crowd
from sensornode.vision.scene import LEARN, Scene

WIDTH, HEIGHT = 160, 120
FRAMES = 3
GAP_MS = 230  # 150 and what a frame takes
INTERVAL_MS = 10_000


def steps_of_light(now):
    """The exposure jumps, also within a burst, by up to three times."""
    return (1.0, 0.6, 0.85, 0.45, 1.15)[now // 2900 % 5]


def dusk(now):
    return max(0.12, 1.0 - now / 400_000)


def parked(count):
    """Cars that come one after the other and stay, between people who go on."""
    cars = [
        (225 + 170 * i, -150, 300, 150, 60, 190, 150_000 + 60_000 * i, 152_000 + 60_000 * i)
        for i in range(count)
    ]
    return crowd(2, seed=5) + cars


ROWS = (  # in the order of the table: MicroPython's dicts have none
    ("empty street", lambda: Street(noise=2)),
    ("1 person", lambda: Street(crowd(1, seed=2))),
    ("4 people", lambda: Street(crowd(4, seed=3))),
    ("3 people, 3 cars", lambda: Street(crowd(6, seed=4, cars=True))),
    ("low contrast (25 grey values)", lambda: Street(crowd(4, seed=3, contrast=25))),
    ("exposure jumps, empty", lambda: Street(light=steps_of_light)),
    ("exposure jumps, 4 people", lambda: Street(crowd(4, seed=3), light=steps_of_light)),
    ("dusk, 4 people", lambda: Street(crowd(4, seed=3), light=dusk, noise=3)),
    ("clouds, 4 people", lambda: Street(crowd(4, seed=3), cloud=True)),
    ("waving trees, empty", lambda: Street(trees=True)),
    ("waving trees, 4 people", lambda: Street(crowd(4, seed=3), trees=True)),
    ("40 sun glints, empty", lambda: Street(glints=40)),
    ("40 sun glints, 4 people", lambda: Street(crowd(4, seed=3), glints=40)),
    ("night (light 0.2, noise 6), empty", lambda: Street(light=lambda now: 0.2, noise=6)),
    ("night, 4 people", lambda: Street(crowd(4, seed=3, contrast=100), light=lambda now: 0.2, noise=6)),
    ("camera trembles by 1 pixel, empty", lambda: Street(shake=1)),
    ("camera trembles, 4 people", lambda: Street(crowd(4, seed=3), shake=1)),
    ("3 cars come and park, 2 people", lambda: Street(parked(3))),
    ("infrared filter goes at half time", lambda: Street(crowd(3, seed=6), infrared=300_000)),
)
SCENES = dict(ROWS)


def finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class Watch:
    """A scene that is looked at, read by read, and the truth beside it."""

    def __init__(self, street, width=WIDTH, height=HEIGHT, **options):
        self.street = street
        self.scene = Scene(width, height, **options)
        self.size = width, height
        self.frame = bytearray(width * height)
        self.now = 0

    def read(self, frames=FRAMES):
        """(values, true number of moving objects, true moving share)."""
        self.scene.begin()
        least = self.scene.factor * self.scene.factor * 6
        objects = []
        share = 0
        for index in range(frames):
            self.street.render(self.now, *self.size, self.frame)
            finish(self.scene.look(self.frame))
            moving = [(x1 - x0) * (y1 - y0) for _, x0, y0, x1, y1, speed in self.street.truth if speed]
            if index:
                objects.append(sum([area >= least for area in moving]))
                share += sum(moving)
            self.now += GAP_MS
        self.now += INTERVAL_MS - frames * GAP_MS
        values = finish(self.scene.describe())
        return (
            values,
            sorted(objects)[len(objects) // 2],
            share / (len(objects) * self.size[0] * self.size[1]),
        )


def accuracy(street, reads):
    """How wrong objects and motion are over some reads: a mapping of numbers."""
    watch = Watch(street)
    judged = exact = near = wrong = bias = 0
    motion = 0.0
    truth = 0.0
    for index in range(reads):
        values, objects, share = watch.read()
        if index < LEARN // FRAMES:
            assert "objects" not in values
        if "objects" not in values:
            continue
        judged += 1
        error = values["objects"] - objects
        exact += error == 0
        near += -1 <= error <= 1
        wrong += abs(error)
        bias += error
        motion += abs(values["motion"] - share)
        truth += share
    count = max(1, judged)
    return {
        "judged": judged / reads,
        "exact": exact / count,
        "within 1": near / count,
        "mean error": wrong / count,
        "bias": bias / count,
        "motion error": motion / count,
        "true motion": truth / count,
    }
