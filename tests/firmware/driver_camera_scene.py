"""What is seen in a scene: brightness, contrast, sharpness, motion and objects, against streets whose truth is known."""

import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

from array import array
from hashlib import sha256

from camera import Dice, Street, crowd
from camera_scenes import SCENES, Watch, accuracy, finish
from sensornode.vision import pixels
from sensornode.vision.scene import LEARN, Scene, _parts


def describe(*frames, width=160, height=120):
    scene = Scene(width, height)
    for frame in frames:
        finish(scene.look(frame))
    return finish(scene.describe())


def noisy(frame, strength, seed):
    dice = Dice(seed)
    return bytearray([min(255, max(0, value + dice(2 * strength + 1) - strength)) for value in frame])


def test_a_frame_is_reduced_to_the_means_of_squares():
    dice = Dice(1)
    for width, height, factor in ((96, 96, 1), (160, 120, 2), (176, 144, 2), (240, 176, 3), (320, 240, 4)):
        frame = array("b", bytes(width * height))
        for index in range(len(frame)):
            frame[index] = dice(256) - 128
        scene = Scene(width, height)
        assert scene.factor == factor
        finish(scene._reduce(memoryview(frame)))
        for x, y in ((0, 0), (1, 2), (scene.width - 1, scene.height - 1)):
            square = [
                frame[(y * factor + j) * width + x * factor + i] & 255
                for i in range(factor)
                for j in range(factor)
            ]
            mean = sum(square) / factor**2
            assert abs(scene._grid[y * scene.width + x] - mean) <= 0.51, (width, x, y)
        if scene.width * factor == width:
            last = scene.height * factor * width
            assert scene._bright == sum([1 for i in range(last) if frame[i] & 255 >= 250])


def test_brightness_and_contrast_of_plain_frames():
    black = describe(bytes(160 * 120))
    assert (black["luminance"], black["contrast"], black["overexposed"], black["sharpness"]) == (0, 0, 0, 0)
    white = describe(b"\xff" * (160 * 120))
    assert (white["luminance"], white["contrast"], white["overexposed"]) == (1, 0, 1)
    halves = describe((bytes(80) + b"\xff" * 80) * 120)
    assert (halves["luminance"], halves["contrast"], halves["overexposed"]) == (0.5, 1, 0.5)
    assert "motion" not in halves
    assert "objects" not in halves


def test_sharpness_sinks_with_blur_and_contrast_with_fog():
    street = Street(noise=0)
    sharp = bytearray(160 * 120)
    street.render(0, 160, 120, sharp)
    blurred = bytearray(sharp)
    for y in range(4, 116):
        for x in range(4, 156):
            i = y * 160 + x
            blurred[i] = sum([sharp[i + k] + sharp[i + 160 * k] for k in range(-4, 5)]) // 18
    foggy = bytes([170 + (value - 128) // 5 for value in sharp])
    blocked = bytes([12] * len(sharp))
    seen = {}
    for name, frame in (("sharp", sharp), ("blurred", blurred), ("foggy", foggy), ("blocked", blocked)):
        seen[name] = describe(noisy(frame, 3, 1), noisy(frame, 3, 2))
    assert seen["blurred"]["sharpness"] < 0.7 * seen["sharp"]["sharpness"]
    assert abs(seen["foggy"]["sharpness"] - seen["sharp"]["sharpness"]) < 0.25 * seen["sharp"]["sharpness"]
    assert seen["foggy"]["contrast"] < 0.3 * seen["sharp"]["contrast"]
    assert seen["blocked"]["contrast"] < 0.02
    assert seen["blocked"]["sharpness"] < 0.02, "noise is not sharpness"


def test_nothing_moves_in_an_empty_street():
    for name in SCENES:
        if "empty" in name:
            watch = Watch(SCENES[name]())
            for _ in range(7):
                values = watch.read()[0]
            assert (values["objects"], values["motion"]) == (0, 0), (name, values)


def test_people_and_cars_are_counted():
    limits = {
        "exposure jumps, 4 people": (0.8, 1, 0.002),
        "low contrast (25 grey values)": (0.8, 1, 0.002),
        "waving trees, 4 people": (0.5, 0.9, 0.003),
        "night, 4 people": (0.5, 0.9, 0.004),
        "3 people, 3 cars": (0.4, 0.8, 0.004),
    }
    for name, (exact, near, motion) in limits.items():
        found = accuracy(SCENES[name](), 14)
        assert found["exact"] >= exact, (name, found)
        assert found["within 1"] >= near, (name, found)
        assert found["motion error"] <= motion, (name, found)


def test_what_stands_still_is_no_object():
    car = (300, -150, 300, 200, 100, 200, 60_000, 61_500)  # comes after a minute, and stays
    watch = Watch(Street([car], noise=2))
    watch.now = 0
    while watch.now < 60_000:
        watch.read()
    watch.now = 60_700
    assert watch.read()[0]["objects"] == 1
    for _ in range(3):
        values, truth, share = watch.read()
        assert (values["objects"], values["motion"]) == (0, 0) == (truth, share)


def test_a_new_scene_is_learned_before_it_is_judged():
    watch = Watch(Street(crowd(3, seed=6), infrared=100_000))
    judged = ["objects" in watch.read()[0] for _ in range(20)]
    learning = LEARN // 3
    assert judged == [False] * learning + [True] * (10 - learning) + [False] * learning + [True] * (
        10 - learning
    ), judged


def test_motion_belongs_to_its_zone():
    walker = (500, 620, 100, 60, 90, 220, 60_000, 1 << 30)  # from the middle to the right, in the lower half
    watch = Watch(Street([walker], noise=1), columns=2, rows=2)
    while watch.now < 50_000:
        watch.read()
    for now in (60_000, 61_000, 62_000):
        watch.now = now
        values = watch.read()[0]
        assert values["zones"][:3] == [0, 0, 0], values
        assert values["zones"][3] > 0.005, values
        assert abs(values["zones"][3] / 4 - values["motion"]) < 0.001


def test_zones_are_the_whole_picture():
    for length, count in ((60, 1), (60, 2), (80, 3), (58, 4), (96, 9)):
        parts = _parts(length, count)
        assert parts[0][0] == 0
        assert parts[-1][1] == length
        for part, (start, stop) in enumerate(parts):
            assert all(i * count // length == part for i in range(start, stop))


def test_labels_are_those_of_a_flood():
    dice = Dice(5)
    width, height = 31, 23
    for density in (2, 3, 5, 9):
        mask = bytearray(width * height)
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                mask[y * width + x] = dice(density) == 0
        most = width * height // 4 + width + height
        labels = array("H", bytes(2 * len(mask)))
        parents, areas, changes = [array("H", bytes(2 * most)) for _ in range(3)]
        used = 0
        for top, bottom in ((1, 7), (7, 8), (8, height - 1)):
            used = pixels.label(mask, labels, parents, width, top, bottom, used)
        pixels.settle(parents, areas, changes, used)
        pixels.measure(bytes([3] * len(mask)), mask, labels, parents, areas, changes, 0, len(mask))
        found = sorted([areas[i] for i in range(1, used + 1) if areas[i]])
        assert list(areas) == list(changes)
        assert found == sorted(flood(mask, width)), density


def flood(mask, width):
    """Sizes of the connected parts, by another method."""
    left = {i for i in range(len(mask)) if mask[i]}
    sizes = []
    while left:
        todo = [left.pop()]
        size = 0
        while todo:
            i = todo.pop()
            size += 1
            for k in (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1):
                if i + k in left:
                    left.remove(i + k)
                    todo.append(i + k)
        sizes.append(size)
    return sizes


def test_every_interpreter_sees_the_same():
    """The machine code, and the plain Python that CPython runs of the same source."""
    watch = Watch(SCENES["exposure jumps, 4 people"]())
    for _ in range(8):
        watch.read()
    scene = watch.scene
    digest = sha256()
    for buffer in (scene._grid, scene._before, scene._mask, scene._clean):
        digest.update(buffer)
    for words in (scene._background, scene._deviation, scene._labels):
        digest.update(bytes([word >> 8 for word in words]))
        digest.update(bytes([word & 255 for word in words]))
    found = digest.digest().hex()[:16]
    assert found == "f7b203e5ecc19b5e", found


def test_other_tasks_get_their_turn():
    """No step handles more than some rows: at most 1600 pixels of the grid, or 8192 of the frame."""
    scene = Scene(320, 240)
    frame = bytes(320 * 240)
    steps = [sum([1 for _ in scene.look(frame)]) for _ in range(LEARN + 2)]
    assert steps[0] >= 320 * 240 // 8192 + 3
    assert steps[-1] >= steps[0] + 18
