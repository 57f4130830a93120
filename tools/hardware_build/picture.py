"""Pictures of printed pieces: a small renderer, so that they come out the same everywhere and need no graphics card."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image

from .enclosure import STOWED, board_body, load, stowed_body
from .schema import HARDWARE, load_board, nodes

Floats = NDArray[np.float64]
SIZE: Final = (900, 675)
OVERSAMPLE: Final = 2
SHARP_DEG: Final = 28.0
"""Edges that turn by more are drawn."""
MARGIN: Final = 0.06
LIGHT: Final = np.array([-0.35, 0.75, 0.6])
"""From the left, above and before, as seen."""
PAPER: Final = 255
FAR: Final = -1e9
STL: Final = HARDWARE / "enclosure" / "stl"


@dataclass(frozen=True, slots=True)
class Thing:
    """A mesh in the scene; `grey` from 0 (black) to 1 (white) is how bright it is in full light."""

    mesh: trimesh.Trimesh
    grey: float = 0.95


def view(azimuth: float, elevation: float) -> Floats:
    """Rotation that looks from a direction in degrees: 0 from the front (-y), turning to the right, from above."""
    a, e = math.radians(azimuth), math.radians(elevation)
    turn = np.array([[math.cos(a), math.sin(a), 0], [-math.sin(a), math.cos(a), 0], [0, 0, 1]])
    tip = np.array([[1, 0, 0], [0, math.sin(e), math.cos(e)], [0, -math.cos(e), math.sin(e)]])
    return np.asarray(tip @ turn)


def draw(things: Sequence[Thing], rotation: Floats, out: Path) -> None:
    """Write a PNG: parallel projection, flat shading, black edges where a surface bends or ends."""
    width, height = (side * OVERSAMPLE for side in SIZE)
    turned = [(np.asarray(thing.mesh.vertices) @ rotation.T, thing) for thing in things]
    points = np.concatenate([vertices for vertices, _ in turned])
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    scale = (1 - 2 * MARGIN) * min(width / (high[0] - low[0]), height / (high[1] - low[1]))
    middle = (low + high) / 2
    depth = np.full((height, width), FAR)
    shade = np.full((height, width), float(PAPER))
    owner = np.full((height, width), -1, dtype=np.int64)
    above = LIGHT if rotation[2][2] >= 0 else LIGHT * (1, -1, 1)  # what is seen from below is lit from below
    light = rotation.T @ (above / np.linalg.norm(LIGHT))
    offset = 0
    for vertices, thing in turned:
        screen = np.empty_like(vertices)
        screen[:, 0] = (vertices[:, 0] - middle[0]) * scale + width / 2
        screen[:, 1] = height / 2 - (vertices[:, 1] - middle[1]) * scale
        screen[:, 2] = vertices[:, 2] * scale
        normals = np.asarray(thing.mesh.face_normals)
        bright = thing.grey * (0.4 + 0.6 * np.clip(normals @ light, 0, 1)) * PAPER
        patches = _patches(thing.mesh) + offset
        facing = normals @ rotation[2] > 1e-9
        for face in np.flatnonzero(facing):
            _fill(screen[thing.mesh.faces[face]], bright[face], patches[face], depth, shade, owner)
        offset = int(patches.max()) + 1
    step = 3.0 * OVERSAMPLE
    lines = np.zeros((height, width), dtype=bool)
    for axis in (0, 1):
        near = _shift(owner, axis) != owner
        jump = np.abs(_shift(depth, axis) - depth) > step
        lines |= near | jump
    shade[lines] = 0
    small = shade.reshape(SIZE[1], OVERSAMPLE, SIZE[0], OVERSAMPLE).mean(axis=(1, 3))
    image = Image.fromarray(small.round().astype(np.uint8), mode=None)
    # 32 greys are enough for shaded plastic, and make the file a third as large
    image.quantize(32, dither=Image.Dither.NONE).save(out, optimize=True)


def _shift(values: NDArray[Any], axis: int) -> NDArray[Any]:
    moved = np.roll(values, 1, axis=axis)
    if axis == 0:
        moved[0] = values[0]
    else:
        moved[:, 0] = values[:, 0]
    return moved


def _patches(mesh: trimesh.Trimesh) -> NDArray[np.int64]:
    """A number for each face, the same for faces that join without a sharp edge."""
    smooth = np.asarray(mesh.face_adjacency)[np.asarray(mesh.face_adjacency_angles) < math.radians(SHARP_DEG)]
    graph: Any = trimesh.graph
    labels = graph.connected_component_labels(smooth, node_count=len(mesh.faces))
    return np.asarray(labels, dtype=np.int64)


def _fill(
    corners: Floats, bright: float, patch: int, depth: Floats, shade: Floats, owner: NDArray[np.int64]
) -> None:
    height, width = depth.shape
    left, top = np.maximum(np.floor(corners[:, :2].min(axis=0)).astype(int), 0)
    right, bottom = np.ceil(corners[:, :2].max(axis=0)).astype(int) + 1
    right, bottom = min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = corners
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if abs(area) < 1e-9:
        return
    xs = np.arange(left, right) + 0.5
    ys = (np.arange(top, bottom) + 0.5)[:, None]
    first = ((x1 - xs) * (y2 - ys) - (x2 - xs) * (y1 - ys)) / area
    second = ((x2 - xs) * (y0 - ys) - (x0 - xs) * (y2 - ys)) / area
    third = 1 - first - second
    z = first * z0 + second * z1 + third * z2
    part = (slice(top, bottom), slice(left, right))
    seen = (first >= -1e-6) & (second >= -1e-6) & (third >= -1e-6) & (z > depth[part])
    depth[part][seen] = z[seen]
    shade[part][seen] = bright
    owner[part][seen] = patch


def placed(
    mesh: trimesh.Trimesh, *, turn: Sequence[tuple[float, str]] = (), at: Sequence[float] = (0, 0, 0)
) -> trimesh.Trimesh:
    """A copy that is turned (degrees, axis) in order and then moved."""
    copy = mesh.copy()
    rotation: Any = trimesh.transformations.rotation_matrix
    axes = {"x": (1, 0, 0), "y": (0, 1, 0), "z": (0, 0, 1)}
    for degrees, axis in turn:
        copy.apply_transform(rotation(math.radians(degrees), axes[axis]))
    copy.apply_translation(at)
    return copy


PITCH: Final = 15.0
FLOOR: Final = 4.0
PLATES: Final = 8
CUT_Y: Final = 11.5


def _stl(name: str) -> trimesh.Trimesh:
    return load(STL / f"{name}.stl")


def _screen(base: str, shown: int = PLATES) -> list[Thing]:
    plate = _stl("screen_plate")
    things = [Thing(_stl(base), 0.8)]
    things += [
        Thing(placed(plate, turn=[(180, "x")], at=(0, 0, FLOOR + PITCH * (index + 1))))
        for index in range(shown)
    ]
    top = FLOOR + PITCH * (PLATES + 1)
    things.append(
        Thing(placed(_stl("screen_roof"), turn=[(180, "x")], at=(0, 0, top if shown == PLATES else top + 30)))
    )
    rod = trimesh.creation.cylinder(radius=2, height=top - 4)
    things += [
        Thing(placed(rod, at=(44 * math.cos(angle), 44 * math.sin(angle), top / 2)), 0.5)
        for angle in np.radians([90, 210, 330])
    ]
    arm = placed(_stl("screen_arm"), turn=[(90, "x"), (90, "z"), (180, "y")], at=(0, 0, 0))
    low, high = arm.bounds
    # its holes lie 10 mm from its end, the tongue's 68 mm from the middle of the screen
    arm.apply_translation((-(low[0] + high[0]) / 2, -58 - high[1], -high[2]))
    return [*things, Thing(arm, 0.6)]


def _board(file: str, at: Sequence[float], standing: str = "up") -> Thing:
    return Thing(board_body(load_board(HARDWARE / "boards" / f"{file}.toml"), at, standing), 0.45)


def _stowed(piece: str, node: str) -> list[Thing]:
    every = nodes()
    return [
        Thing(stowed_body(item, every), 0.65) for item in STOWED if (item.piece, item.node) == (piece, node)
    ]


def _box(node: str) -> list[Thing]:
    body, lid = _stl("box_body"), _stl("box_lid")
    beside = placed(lid, at=(0, body.bounds[1][1] + 25, 0))
    board = _board("esp32-devkitc-v4", (14.4, 24.4, 22.4))
    return [Thing(body, 0.9), Thing(beside), board, *_stowed("box_body", node)]


def _section() -> list[Thing]:
    """The screen for air, cut open through the middle of the particulate sensor."""
    behind = trimesh.creation.box((400, 200, 600))
    behind.apply_translation((0, CUT_Y + 100, 0))
    things = [*_screen("screen_base_air"), *_stowed("screen_base_air", "air")]
    cut = []
    for thing in things:
        rest: Any = trimesh.boolean.intersection([thing.mesh, behind], engine="manifold")
        if not rest.is_empty:
            cut.append(Thing(rest, thing.grey))
    return cut


def _pole() -> list[Thing]:
    """Box, mount and a pole of 48 mm, upright."""
    mount, box = _stl("pole_mount"), _stl("box_body")
    low, high = box.bounds
    box = placed(box, turn=[(180, "y")], at=((low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, 0))
    lid = _stl("box_lid")
    below = placed(lid, at=(-lid.extents[0] / 2, -lid.extents[1] / 2, -high[2] - 4))
    pole = trimesh.creation.cylinder(radius=24, height=260)
    # lies in the groove, whose sides lean 52.6 degrees and meet 5 mm above the plate
    pole = placed(pole, turn=[(90, "x")], at=(0, 0, 5 + 24 / math.sin(math.radians(52.6))))
    things = [Thing(box, 0.9), Thing(below, 0.95), Thing(mount, 0.7), Thing(pole, 0.5)]
    return [Thing(placed(thing.mesh, turn=[(90, "x")]), thing.grey) for thing in things]


def _camera() -> list[Thing]:
    body = _stl("camera_body")
    lid = placed(_stl("camera_lid"), turn=[(180, "y")], at=(52.8, 0, 46.4 + 4 + 30))
    hood = placed(_stl("camera_hood"), at=(26.4, 33.4, -34 - 14))
    things = [Thing(body, 0.85), Thing(lid, 0.95), Thing(hood, 0.6)]
    return [Thing(placed(thing.mesh, turn=[(90, "x")]), thing.grey) for thing in things]


@dataclass(frozen=True, slots=True)
class View:
    """A picture of things put together: what is in it, from where, and what it says."""

    scene: Callable[[], list[Thing]]
    azimuth: float
    elevation: float
    pieces: tuple[str, ...]
    says: str
    node: str = ""  # the only one it is true of


_SCREEN: Final = ("screen_roof", "screen_plate", "screen_arm")
VIEWS: Final[dict[str, View]] = {
    "assembly_weather": View(
        lambda: _screen("screen_base_weather"),
        35,
        18,
        (*_SCREEN, "screen_base_weather"),
        "the radiation screen on its arm",
    ),
    "assembly_weather_inside": View(
        lambda: _screen("screen_base_weather", 2),
        35,
        28,
        (*_SCREEN, "screen_base_weather"),
        "the screen with six plates taken out: mast for the sensor boards",
    ),
    "assembly_air_inside": View(
        lambda: _screen("screen_base_air", 2),
        145,
        38,
        (*_SCREEN, "screen_base_air"),
        "the screen with six plates taken out: seat of the particulate sensor and mast",
    ),
    "assembly_air_below": View(
        lambda: _screen("screen_base_air"),
        150,
        -50,
        (*_SCREEN, "screen_base_air"),
        "from below: the two ducts of the particulate sensor, and the vents",
    ),
    "assembly_air_section": View(
        _section,
        0,
        12,
        (*_SCREEN, "screen_base_air"),
        "cut open through the particulate sensor: it stands over its two ducts, the rib between them keeps what it blows out from"
        " what it takes in; the air of the screen itself passes between the plates",
    ),
    "assembly_box": View(
        lambda: _box("weather"),
        25,
        48,
        ("box_body", "box_lid"),
        "box and lid: the board in its cradle, three batteries under their straps, charger, prototype board and boost converter",
        "weather",
    ),
    "assembly_box_air": View(
        lambda: _box("air"),
        25,
        48,
        ("box_body", "box_lid"),
        "box and lid: the board in its cradle, and the prototype board",
        "air",
    ),
    "assembly_pole": View(
        _pole,
        125,
        -22,
        ("box_body", "box_lid", "pole_mount"),
        "the box at a pole of 48 mm: glands down; hose clamps go through the slots of the mount",
    ),
    "assembly_camera": View(
        _camera,
        205,
        14,
        ("camera_body", "camera_lid", "camera_hood"),
        "camera box with its hood before and its lid behind",
    ),
}


def draw_piece(name: str, out: Path) -> None:
    """PNG of one piece as it lies on the bed."""
    draw([Thing(_stl(name))], view(30, 38), out)


def draw_view(name: str, out: Path) -> None:
    """PNG of a view."""
    made = VIEWS[name]
    draw(made.scene(), view(made.azimuth, made.elevation), out)
