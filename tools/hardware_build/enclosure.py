"""Enclosures: OpenSCAD renders them; what makes a piece printable and fitting is checked on the mesh itself."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import trimesh
from numpy.typing import NDArray

from .errors import HardwareError
from .schema import HARDWARE, Board, Node, load_board

BED_MM: Final = 220.0
THINNEST_MM: Final = 1.2
"""Three lines of a 0.4 mm nozzle."""
OVERHANG_DEG: Final = 45.0
"""From the vertical: what leans more needs support."""
BRIDGE_MM: Final = 9.0
"""A gap that any printer spans in the air between two sides."""
LEDGE_MM: Final = 1.0
"""How far a layer may stick out with nothing beyond."""
SMALL_MM2: Final = 0.5
OPPOSITE: Final = 0.9
MODULE_WIDTH: Final = 18.0
MODULE_HEIGHT: Final = 3.2
"""ESP32-WROOM-32E datasheet, physical dimensions: 18 x 25.5 x 3.1 mm."""
RENDER_S: Final = 300
SCAD: Final = HARDWARE / "enclosure" / "enclosure.scad"
BOARDS_SCAD: Final = HARDWARE / "enclosure" / "boards.scad"
SCAD_BOARDS: Final = {"devkitc": "esp32-devkitc-v4", "esp32cam": "ai-thinker-esp32-cam"}

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Piece:
    """A printed piece.

    Attributes:
        name: the value of `part` in enclosure.scad, and the name of its files.
        what: what it is.
        lies: how it lies on the bed.
        amount: how many a node needs.
    """

    name: str
    what: str
    lies: str
    amount: int = 1


PIECES: Final = (
    Piece("screen_roof", "roof of the radiation screen", "upside down, top on the bed"),
    Piece("screen_plate", "plate of the radiation screen", "upside down, ring on the bed, skirt rising", 8),
    Piece(
        "screen_base_weather",
        "floor of the screen with a mast for the sensor boards",
        "as in use, floor on the bed",
    ),
    Piece(
        "screen_base_air",
        "floor of the screen with the particulate sensor's seat and ducts",
        "as in use, floor on the bed",
    ),
    Piece("screen_arm", "arm between screen and pole", "on its side"),
    Piece("box_body", "box for board, charger and battery", "back wall on the bed, opening up"),
    Piece("box_lid", "its lid with a lip", "outside on the bed"),
    Piece("pole_mount", "plate to pole or wall", "wall side up"),
    Piece("camera_body", "box for the camera board", "front wall on the bed, opening up"),
    Piece("camera_lid", "its lid with pads for the board", "outside on the bed"),
    Piece("camera_hood", "hood against sun and rain", "standing on its front edge"),
)
BY_NAME: Final = {piece.name: piece for piece in PIECES}


def boards_scad() -> str:
    """boards.scad: the boards' drawings as OpenSCAD reads them."""
    lines = [
        "// Made by tools/hardware from boards/*.toml: change those.",
        "// width, length, thickness, overhang, top, below",
    ]
    for name, file in SCAD_BOARDS.items():
        o = load_board(HARDWARE / "boards" / f"{file}.toml").outline
        values = (o.width, o.length, o.thickness, o.overhang, o.top, o.below)
        lines.append(f"{name} = [{', '.join(f'{value:g}' for value in values)}];")
    return "\n".join(lines) + "\n"


def openscad() -> str:
    """The program. Raises HardwareError when it is not there."""
    found = shutil.which("openscad")
    if not found:
        raise HardwareError("rendering the enclosures needs OpenSCAD: apt install openscad")
    return found


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=RENDER_S, check=False)
    if done.returncode:
        raise HardwareError(f"{' '.join(command)}: " + " ".join(done.stderr.strip().splitlines()[-2:]))


def render(name: str, out: Path) -> None:
    """Write the binary STL of a piece. Raises HardwareError."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / f"{name}.stl"
        _run([openscad(), "-q", "-D", f'part="{name}"', "-o", str(text), str(SCAD)])
        mesh = load(text)
    mesh.export(out, file_type="stl")


def load(path: Path) -> trimesh.Trimesh:
    """The mesh of an STL file, its equal corners joined."""
    mesh: Any = trimesh.load(path, force="mesh")
    mesh.merge_vertices()
    if not isinstance(mesh, trimesh.Trimesh):
        raise HardwareError(f"{path}: is no mesh")
    return mesh


def overhangs(mesh: trimesh.Trimesh) -> list[tuple[float, Floats]]:
    """Faces that would hang in the air: (width of the gap in mm, centre) of each patch of them.

    A face hangs when it leans more than OVERHANG_DEG from the vertical and does not lie on the bed. A patch no wider than
    BRIDGE_MM is spanned when a wall comes up to it on both sides; one that nothing holds at its far side may stick out LEDGE_MM.
    """
    normals = np.asarray(mesh.face_normals)
    centres = np.asarray(mesh.triangles_center)
    highest = np.asarray(mesh.triangles)[:, :, 2].max(axis=1)
    limit = -math.sin(math.radians(OVERHANG_DEG + 1))
    hanging = (normals[:, 2] < limit) & (highest > mesh.bounds[0][2] + 0.05) & (mesh.area_faces > 1e-6)
    pairs = np.asarray(mesh.face_adjacency)
    edges = np.asarray(mesh.face_adjacency_edges)
    inside = hanging[pairs].all(axis=1)
    groups = trimesh.graph.connected_components(pairs[inside], nodes=np.flatnonzero(hanging), min_len=1)
    rim = hanging[pairs].sum(axis=1) == 1
    within = np.where(hanging[pairs[rim, 0]], pairs[rim, 0], pairs[rim, 1])
    beside = np.where(hanging[pairs[rim, 0]], pairs[rim, 1], pairs[rim, 0])
    ends = np.asarray(mesh.vertices)[edges[rim]]
    # a wall comes up to the edge when the face beside it reaches down from there
    held = centres[beside, 2] < ends[:, :, 2].mean(axis=1) - 1e-6
    found = []
    for group in groups:
        points = np.asarray(mesh.triangles)[group].reshape(-1, 3)[:, :2]
        walls = ends[held & np.isin(within, group)].reshape(-1, 3)[:, :2]
        width = _narrowest(points)
        if width > BRIDGE_MM or (width > LEDGE_MM and not _spans(points, walls)):
            found.append((width, np.asarray(centres[group].mean(axis=0))))
    return found


def _directions() -> Floats:
    angles = np.radians(np.arange(0, 180, 3))
    return np.asarray(np.stack([np.cos(angles), np.sin(angles)]))


def _narrowest(points: Floats) -> float:
    """Smallest width of points in a plane, over all directions."""
    along = points @ _directions()
    return float((along.max(axis=0) - along.min(axis=0)).min())


def _spans(points: Floats, walls: Floats) -> bool:
    """Whether walls stand at both ends of the points, in some direction in which those are no farther apart than a bridge."""
    if not len(walls):
        return False
    along, stand = points @ _directions(), walls @ _directions()
    low, high = along.min(axis=0), along.max(axis=0)
    both = (stand.min(axis=0) < low + LEDGE_MM) & (stand.max(axis=0) > high - LEDGE_MM)
    return bool((both & (high - low <= BRIDGE_MM)).any())


def thickness(mesh: trimesh.Trimesh, samples: int = 3000) -> Floats:
    """Wall thickness in mm: how far a ray goes inward until it comes out through a face that looks the other way.

    Rays start at points spread over the surface and in the middle of every face of half a square millimetre or more, so
    that a thin place is met even when it is small. A face that is not opposite within 26 degrees is an edge, no wall.
    """
    spread, on = trimesh.sample.sample_surface(mesh, samples, seed=1)
    large = np.flatnonzero(np.asarray(mesh.area_faces) > SMALL_MM2)
    points = np.concatenate([spread, np.asarray(mesh.triangles_center)[large]])
    normals = np.asarray(mesh.face_normals)
    inward = -normals[np.concatenate([on, large])]
    starts = points + inward * 1e-3
    hits, rays, faces = mesh.ray.intersects_location(starts, inward, multiple_hits=True)
    distance = np.linalg.norm(hits - starts[rays], axis=1)
    order = np.lexsort((distance, rays))
    order = order[distance[order] > 1e-4]
    _, first = np.unique(rays[order], return_index=True)
    nearest = order[first]
    opposite = np.einsum("ij,ij->i", normals[faces[nearest]], inward[rays[nearest]]) > OPPOSITE
    return np.asarray(distance[nearest][opposite])


def problems(mesh: trimesh.Trimesh) -> list[str]:
    """Why a piece cannot be printed as it lies, one sentence each."""
    found = []
    if not mesh.is_watertight:
        found.append("is not watertight")
    if mesh.volume <= 0:
        found.append("is inside out")
    if mesh.body_count != 1:
        found.append(f"is {mesh.body_count} bodies and not one")
    size = np.asarray(mesh.extents)
    if size.max() > BED_MM:
        found.append(f"measures {size.round(1).tolist()} mm; the bed {BED_MM:.0f}")
    if abs(float(mesh.bounds[0][2])) > 0.01:
        found.append(f"does not lie on the bed: lowest point at {mesh.bounds[0][2]:.2f} mm")
    for width, centre in overhangs(mesh):
        found.append(f"needs support at {centre.round(1).tolist()}: hangs {width:.1f} mm wide in the air")
    thin = float(thickness(mesh).min(initial=np.inf))
    if thin < THINNEST_MM:
        found.append(f"has walls of {thin:.2f} mm; {THINNEST_MM} at least")
    return found


def board_body(board: Board, at: Sequence[float], standing: str = "up") -> trimesh.Trimesh:
    """What a board takes up, at `at` (x, y, z of its lower corner): itself, its parts, its pins, its antenna.

    `standing`: `up` when its parts look up, `down` when they look at the bed.
    """
    o = board.outline
    up = 1 if standing == "up" else -1
    middle = o.thickness / 2
    plate = trimesh.creation.box((o.width, o.length, o.thickness))
    plate.apply_translation((o.width / 2, o.length / 2, middle))
    # parts keep 2 mm from the pins and 4 mm from the short edges, where the ledges are
    parts = trimesh.creation.box((o.row_spacing - 2.54 - 4, o.length - 8, o.top))
    parts.apply_translation((o.width / 2, o.length / 2, middle + up * (o.thickness + o.top) / 2))
    pieces = [plate, parts]
    if o.overhang:  # the module lies on the board, its antenna reaches over the edge
        antenna = trimesh.creation.box((MODULE_WIDTH, o.overhang, MODULE_HEIGHT))
        antenna.apply_translation(
            (o.width / 2, o.length + o.overhang / 2, middle + up * (o.thickness + MODULE_HEIGHT) / 2)
        )
        pieces.append(antenna)
    for side in (-1, 1):
        row = trimesh.creation.box((2.54, o.length - 2 * o.first_pin_y, o.below))
        row.apply_translation(
            (o.width / 2 + side * o.row_spacing / 2, o.length / 2, middle - up * (o.thickness + o.below) / 2)
        )
        pieces.append(row)
    body: Any = trimesh.util.concatenate(pieces)
    body.apply_translation(at)
    assert isinstance(body, trimesh.Trimesh)
    return body


def clash(mesh: trimesh.Trimesh, body: trimesh.Trimesh) -> float:
    """Volume in mm3 that a piece and a board would share; 0 when the board fits."""
    shared = 0.0
    for item in body.split(only_watertight=True):
        common: Any = trimesh.boolean.intersection([mesh, item], engine="manifold")
        shared += 0.0 if common.is_empty else abs(float(common.volume))
    return shared


@dataclass(frozen=True, slots=True)
class Stowed:
    """Where a part of the bill of materials lies in a piece.

    Attributes:
        piece: the piece it lies in.
        node, ref: the part; its `body_mm` is what it takes up, as it lies.
        at: lower corner, in the piece as it lies.
        pile: how many lie on each other.
    """

    piece: str
    node: str
    ref: str
    at: tuple[float, float, float]
    pile: int = 1


STOWED: Final = (
    Stowed("box_body", "weather", "BT1", (56.0, 47.4, 2.45), 3),
    Stowed("box_body", "weather", "U6", (139.0, 64.0, 8.5)),
    Stowed("box_body", "weather", "A1", (138.0, 17.0, 8.5)),
    Stowed("box_body", "weather", "U7", (54.0, 18.0, 8.5)),
    Stowed("box_body", "air", "A1", (138.0, 17.0, 8.5)),
    Stowed("screen_base_air", "air", "U6", (-25.0, 1.0, 8.05)),
)


def stowed_body(item: Stowed, every: Mapping[str, Node]) -> trimesh.Trimesh:
    """What a stowed part takes up. Raises HardwareError when node.toml does not say how large it is."""
    size = every[item.node].part(item.ref).body_mm
    if size is None:
        raise HardwareError(f"{item.node}/node.toml: {item.ref} has no body_mm, and has to fit {item.piece}")
    length, width, height = size
    body: Any = trimesh.creation.box((length, width, height * item.pile))
    body.apply_translation(np.add(item.at, (length / 2, width / 2, height * item.pile / 2)))
    assert isinstance(body, trimesh.Trimesh)
    return body


def misfits(every: Mapping[str, Node], pieces: Mapping[str, trimesh.Trimesh]) -> list[str]:
    """What does not fit where it is to lie: into its piece, under the lid, beside the others and the board."""
    found = []
    for node in every:
        inside: dict[str, list[tuple[str, trimesh.Trimesh]]] = defaultdict(list)
        if node in {item.node for item in STOWED}:
            for name, board, at, standing in FITS:
                if every[node].node.board == board:
                    body = board_body(load_board(HARDWARE / "boards" / f"{board}.toml"), at, standing)
                    inside[name].append((board, body))
        for item in STOWED:
            if item.node != node:
                continue
            body = stowed_body(item, every)
            mesh = pieces[item.piece]
            if clash(mesh, body) > 0.1:
                found.append(f"{node} {item.ref} cuts into {item.piece}")
            if item.piece == "box_body" and body.bounds[1][2] > mesh.bounds[1][2] - LIP_MM:
                found.append(f"{node} {item.ref} reaches into the lid of {item.piece}")
            found += [
                f"{node} {item.ref} and {other} are in the same place in {item.piece}"
                for other, there in inside[item.piece]
                if clash(body, there) > 0.1
            ]
            inside[item.piece].append((item.ref, body))
    return found


LIP_MM: Final = 3.5
"""The lid's lip reaches 3 mm into the box."""
FITS: Final = (
    # piece, board, lower corner of the board in the piece as it lies, where its parts look
    ("box_body", "esp32-devkitc-v4", (14.4, 24.4, 22.4), "up"),
    ("camera_body", "ai-thinker-esp32-cam", (12.9, 13.15, 16.4), "down"),
)
"""Boards and the pieces that hold them; the corners are those of `board_at` and `cam_board_at` in enclosure.scad."""
