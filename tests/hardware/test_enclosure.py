"""The printed pieces on their own meshes."""

import math
import re
import shutil

import msgspec
import numpy as np
import pytest
import trimesh

from hardware_build import build, enclosure
from hardware_build.errors import HardwareError
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


@pytest.fixture(scope="module")
def pieces():
    return {name: enclosure.load(build.STL / f"{name}.stl") for name in NAMES}


def test_everything_lies_in_its_place(nodes, pieces):
    assert enclosure.misfits(nodes, pieces) == []


@pytest.mark.parametrize(
    ("name", "ref", "size", "why"),
    [
        ("weather", "BT1", (69, 54, 25), "weather BT1 reaches into the lid of box_body"),
        ("weather", "BT1", (90, 54, 18), "weather U6 and BT1 are in the same place in box_body"),
        ("weather", "A1", (60, 44, 14), "weather A1 cuts into box_body"),
        ("air", "U6", (54, 21, 38), "air U6 cuts into screen_base_air"),
    ],
)
def test_a_part_that_grows_is_noticed(nodes, pieces, name, ref, size, why):
    replace = msgspec.structs.replace
    parts = [replace(part, body_mm=size) if part.ref == ref else part for part in nodes[name].parts]
    found = enclosure.misfits({**nodes, name: replace(nodes[name], parts=parts)}, pieces)
    assert why in found, found


def test_a_part_without_size_is_refused(nodes, pieces):
    replace = msgspec.structs.replace
    parts = [replace(part, body_mm=None) for part in nodes["weather"].parts]
    with pytest.raises(HardwareError, match="weather/node.toml: BT1 has no body_mm"):
        enclosure.misfits({"weather": replace(nodes["weather"], parts=parts)}, pieces)


@pytest.mark.parametrize("name", ["weather", "air", "camera"])
def test_there_is_filament_for_all_of_it(name, nodes, pieces):
    grams = sum(
        pieces[piece].volume / 1000 * 1.07 * enclosure.BY_NAME[piece].amount  # ASA: 1.07 g/cm3
        for piece in nodes[name].mounting.enclosure
    )
    assert nodes[name].part("M3").quantity * 1000 >= grams


def test_glands_have_a_hole_each(nodes):
    source = enclosure.SCAD.read_text()
    holes = len(re.search(r"// glands in the lower wall.*\n\s+for \(x = \[([^]]*)\]", source)[1].split(","))
    assert nodes["weather"].part("M2").quantity == holes
    assert nodes["air"].part("M2").quantity + nodes["air"].part("M8").quantity == holes


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


def test_a_short_ledge_is_no_bridge():
    post = trimesh.creation.box((20, 20, 20))
    post.apply_translation((0, 0, 10))
    for reach, wanted in ((0.8, 0), (5, 1)):
        ledge = trimesh.creation.box((20 + reach, 10, 4))
        ledge.apply_translation((reach / 2, 0, 16))
        found = enclosure.problems(trimesh.boolean.union([post, ledge], engine="manifold"))
        assert sum("needs support" in text for text in found) == wanted, found


def test_one_thin_place_in_a_thick_piece_is_noticed():
    block = trimesh.creation.box((100, 100, 10))
    block.apply_translation((0, 0, 5))
    hole = trimesh.creation.cylinder(radius=2, height=30)
    for distance, wanted in ((5, []), (2.6, ["has walls of 0.6"])):
        moved = hole.copy()
        moved.apply_translation((50 - distance, 0, 5))
        found = enclosure.problems(trimesh.boolean.difference([block, moved], engine="manifold"))
        assert len(found) == len(wanted), found
        assert all(text.startswith(word) for word, text in zip(wanted, found, strict=True)), found


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


@pytest.mark.skipif(not shutil.which("openscad"), reason="OpenSCAD is not installed")
@pytest.mark.parametrize(
    ("piece", "before", "after", "why"),
    [
        ("camera_hood", "t = 2.4;", "t = 0.8;", "has walls of 0.80 mm"),
        ("screen_arm", "arm_hole = 10;", "arm_hole = 12;", "has walls of 0.8"),
        ("pole_mount", "translate([-w / 2, -l / 2, 0]) cube([w, l, 5])", "translate([-w / 2, -l / 2, 9]) cube([w, l, 5])", "needs support"),
        ("camera_lid", "cam_outline(wall, lid_h);", "cam_outline(wall, lid_h, 0.1); translate([0, 0, -3]) cube(1);", "is 2 bodies"),
    ],
)  # fmt: skip
def test_a_spoilt_design_is_noticed(tmp_path, monkeypatch, piece, before, after, why):
    text = enclosure.SCAD.read_text()
    assert before in text
    (tmp_path / "enclosure.scad").write_text(text.replace(before, after))
    (tmp_path / "boards.scad").write_text(enclosure.BOARDS_SCAD.read_text())
    monkeypatch.setattr(enclosure, "SCAD", tmp_path / "enclosure.scad")
    out = tmp_path / "spoilt.stl"
    enclosure.render(piece, out)
    found = enclosure.problems(enclosure.load(out))
    assert any(why in text for text in found), found


@pytest.mark.skipif(not shutil.which("openscad"), reason="OpenSCAD is not installed")
def test_a_moved_cradle_no_longer_fits_its_board(tmp_path, monkeypatch):
    text = enclosure.SCAD.read_text()
    (tmp_path / "enclosure.scad").write_text(text.replace("board_at = [12, 22]", "board_at = [13, 22]"))
    (tmp_path / "boards.scad").write_text(enclosure.BOARDS_SCAD.read_text())
    monkeypatch.setattr(enclosure, "SCAD", tmp_path / "enclosure.scad")
    enclosure.render("box_body", tmp_path / "box.stl")
    [(_, board, at, standing)] = [fit for fit in enclosure.FITS if fit[0] == "box_body"]
    body = enclosure.board_body(load_board(HARDWARE / "boards" / f"{board}.toml"), at, standing)
    assert enclosure.clash(enclosure.load(tmp_path / "box.stl"), body) > 0.5
