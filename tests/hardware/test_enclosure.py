"""The printed pieces on their own meshes."""

import math
import re
import shutil

import numpy as np
import pytest
import trimesh

from hardware_build import build, enclosure
from hardware_build.schema import HARDWARE, load_board

NAMES = [piece.name for piece in enclosure.PIECES]


@pytest.fixture(params=NAMES)
def piece(request):
    return enclosure.load(build.STL / f"{request.param}.stl")


def test_can_be_printed_as_it_lies(piece):
    assert enclosure.problems(piece) == []


def test_files_are_small():
    for name in NAMES:
        assert (build.STL / f"{name}.stl").stat().st_size < 300_000


def test_every_piece_is_used(nodes):
    used = {name for node in nodes.values() for name in node.mounting.enclosure}
    assert used == set(NAMES)


@pytest.mark.parametrize(("name", "board", "at", "standing"), enclosure.FITS)
def test_board_fits_its_box_and_is_held(name, board, at, standing):
    mesh = enclosure.load(build.STL / f"{name}.stl")
    there = load_board(HARDWARE / "boards" / f"{board}.toml")
    assert enclosure.clash(mesh, enclosure.board_body(there, at, standing)) < 0.1
    for move in ((0, 0, -1), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)):
        moved = np.add(at, move)
        assert enclosure.clash(mesh, enclosure.board_body(there, moved, standing)) > 0.5, move


def test_lids_close_their_boxes():
    for body, lid in (("box_body", "box_lid"), ("camera_body", "camera_lid")):
        below, above = (enclosure.load(build.STL / f"{name}.stl") for name in (body, lid))
        assert above.extents[0] == pytest.approx(_outer(below)[0], abs=0.05)
        # turned over and put on, the lip goes into the box and touches nothing
        turned = above.copy()
        turned.apply_transform(trimesh.transformations.rotation_matrix(math.pi, (1, 0, 0)))
        width = above.bounds[0][1] + above.bounds[1][1]
        turned.apply_translation((0, width, below.bounds[1][2] + 4 + 0.05))
        common = trimesh.boolean.intersection([below, turned], engine="manifold")
        assert common.is_empty or common.volume < 0.5, (body, common.volume)


def _outer(mesh):
    """Extents of a box's rim, without ears."""
    top = mesh.vertices[mesh.vertices[:, 2] > mesh.bounds[1][2] - 0.01]
    return top.max(axis=0) - top.min(axis=0)


def test_plates_shade_each_other():
    # the skirts overlap, so that no level ray reaches the sensors
    source = enclosure.SCAD.read_text()
    size = {
        name: float(re.search(rf"^{name} = ([0-9.]+);", source, re.MULTILINE)[1])
        for name in ("ring_r", "rim_r", "pitch")
    }
    assert size["rim_r"] - size["ring_r"] > size["pitch"]


def test_particulate_sensor_has_an_air_path():
    mesh = enclosure.load(build.STL / "screen_base_air.stl")
    # straight down through the two ducts there is nothing, and between them there is the rib
    starts = np.array([[-13.0, 11.5, 60], [13.0, 11.5, 60], [0.0, 11.5, 60]])
    blocked = mesh.ray.intersects_any(starts, np.tile([0.0, 0, -1], (3, 1)))
    assert blocked.tolist() == [False, False, True]


def test_support_is_noticed():
    post, roof = trimesh.creation.box((10, 10, 20)), trimesh.creation.box((60, 60, 3))
    post.apply_translation((0, 0, 10))
    roof.apply_translation((0, 0, 21))
    table = trimesh.boolean.union([post, roof], engine="manifold")
    assert any("needs support" in text for text in enclosure.problems(table))
    turned = table.copy()
    turned.apply_transform(trimesh.transformations.rotation_matrix(math.pi, (1, 0, 0)))
    turned.apply_translation((0, 0, -turned.bounds[0][2]))
    assert enclosure.problems(turned) == []


def test_short_bridges_are_allowed():
    block = trimesh.creation.box((30, 30, 20))
    block.apply_translation((0, 0, 10))
    for width, wanted in ((6, []), (14, ["needs support"])):
        slot = trimesh.creation.box((width, 40, 10))
        slot.apply_translation((0, 0, 9))
        made = trimesh.boolean.difference([block, slot], engine="manifold")
        found = enclosure.problems(made)
        assert len(found) == len(wanted)
        assert all(word in text for word, text in zip(wanted, found, strict=True))


def test_thin_walls_holes_and_size_are_noticed():
    thin = trimesh.creation.box((50, 0.8, 30))
    thin.apply_translation((0, 0, 15))
    assert any("walls of 0.80 mm" in text for text in enclosure.problems(thin))
    large = trimesh.creation.box((230, 10, 10))
    large.apply_translation((0, 0, 5))
    assert any("the bed 220" in text for text in enclosure.problems(large))
    torn = trimesh.creation.box((10, 10, 10))
    torn.apply_translation((0, 0, 5))
    torn.update_faces(np.arange(len(torn.faces)) > 0)
    assert any("not watertight" in text for text in enclosure.problems(torn))
    floating = trimesh.creation.box((10, 10, 10))
    assert any("does not lie on the bed" in text for text in enclosure.problems(floating))


@pytest.mark.skipif(not shutil.which("openscad"), reason="OpenSCAD is not installed")
def test_openscad_makes_the_same_piece(tmp_path):
    out = tmp_path / "camera_hood.stl"
    enclosure.render("camera_hood", out)
    new, old = enclosure.load(out), enclosure.load(build.STL / "camera_hood.stl")
    assert new.volume == pytest.approx(old.volume, rel=1e-4)
    assert new.extents == pytest.approx(old.extents, abs=1e-3)
