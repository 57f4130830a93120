"""What the firmware's own image processing says of a computed street under every sort of trouble: JSON on stdout.

    python tests/quality/camera_looks.py

{condition: [luminance, contrast, sharpness, overexposed, motion or null]}, and "light": the same for levels of light.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROJECT = Path(__file__).parents[2]
os.environ["PROJECT"] = str(PROJECT)
for folder in ("firmware/sim/cpython", "firmware", "firmware/sim", "tests/firmware"):
    sys.path.insert(0, str(PROJECT / folder))

WIDTH, HEIGHT = 160, 120
LIGHTS = (0.01, 0.05, 0.1, 0.3, 1.0)
Picture = NDArray[np.float64]


def blurred(x: Picture, deviation: float) -> Picture:
    reach = int(3 * deviation) + 1
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    weights /= weights.sum()
    for axis in (0, 1):
        x = np.apply_along_axis(
            lambda line: np.convolve(np.pad(line, reach, mode="edge"), weights, "valid"), axis, x
        )
    return x


def fog(x: Picture, density: float) -> Picture:
    """What is far, at the top of the picture, fades into grey (Koschmieder 1924)."""
    through = np.exp(-density * np.linspace(1, 0, HEIGHT))[:, None]
    return through * x + (1 - through) * 200


CONDITIONS: dict[str, Callable[[Picture], Picture]] = {
    "covered": lambda x: 0 * x + 6,
    "paper": lambda x: 0 * x + 190,
    "dew 1": lambda x: 0.85 * blurred(x, 0.8) + 0.15 * 170,
    "dew 2": lambda x: 0.7 * blurred(x, 1.5) + 0.3 * 170,
    "dew 3": lambda x: 0.5 * blurred(x, 3) + 0.5 * 170,
    "haze": lambda x: fog(x, 1),
    "dense fog": lambda x: fog(x, 4),
    "sun in the lens": lambda x: 2.6 * x,
    "turned to the houses": lambda x: np.repeat(x[:30], 4, axis=0),
    "turned to a wall": lambda x: np.kron(x[60:75, 60:80], np.ones((8, 8))),
    "infrared": lambda x: (x * 37 + 90) % 140 + 40,
}


def look(street: object, change: Callable[[Picture], Picture]) -> list[float | None]:
    from camera_scenes import finish
    from sensornode.vision.scene import Scene

    rng = np.random.default_rng(1)
    scene, raw, values = Scene(WIDTH, HEIGHT), bytearray(WIDTH * HEIGHT), {}
    for read in range(5):
        scene.begin()
        for frame in range(3):
            street.render(10_000 * read + 230 * frame, WIDTH, HEIGHT, raw)
            seen = change(np.frombuffer(bytes(raw), np.uint8).astype(float).reshape(HEIGHT, WIDTH))
            seen = np.clip(seen + rng.normal(0, 2, seen.shape), 0, 255).astype(np.uint8)
            finish(scene.look(bytearray(seen.tobytes())))
        values = finish(scene.describe())
    return [values.get(name) for name in ("luminance", "contrast", "sharpness", "overexposed", "motion")]


def main() -> None:
    from camera import Street, crowd

    street = Street(crowd(3, seed=3))
    told: dict[str, object] = {name: look(street, change) for name, change in CONDITIONS.items()}
    told["light"] = [[light, *look(street, lambda x, light=light: light * x)] for light in LIGHTS]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
