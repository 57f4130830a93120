"""What is in the repository is what node.toml makes, and it says what it should."""

import csv
import hashlib
import io
import re
import shutil

import msgspec
import pytest
import yaml

from hardware_build import build, command, picture, schema, tables, wiring
from hardware_build.command import main
from hardware_build.schema import HARDWARE, ROOT


def test_nothing_is_stale():
    assert build.stale() == []


def test_texts_come_out_the_same_every_time():
    assert build.texts() == build.texts()


def test_a_changed_source_makes_its_files_stale(monkeypatch):
    made = build.texts()
    made[build.enclosure.BOARDS_SCAD] += "// changed"
    monkeypatch.setattr(build, "texts", lambda: made)
    found = build.stale()
    assert "enclosure/boards.scad is stale" in found
    assert "enclosure/stl/box_body.stl is stale: its source has changed" in found


def test_a_battery_of_another_size_makes_pictures_stale(monkeypatch, nodes):
    weather = nodes["weather"]
    parts = [
        msgspec.structs.replace(part, body_mm=(70, 54, 18)) if part.ref == "BT1" else part
        for part in weather.parts
    ]
    monkeypatch.setattr(
        build, "nodes", lambda: {**nodes, "weather": msgspec.structs.replace(weather, parts=parts)}
    )
    assert "enclosure/png/assembly_box.png is stale: its source has changed" in build.stale()


def test_an_edited_file_is_found(tmp_path, monkeypatch):
    name = "enclosure/stl/box_lid.stl"
    copy = build.manifest()
    copy[name] = {**copy[name], "sha256": hashlib.sha256(b"other").hexdigest()}
    monkeypatch.setattr(build, "manifest", lambda: copy)
    assert f"{name} is not the file that was made" in build.stale()


def test_bill_of_materials(node):
    rows = list(csv.DictReader(io.StringIO((HARDWARE / node.name / "generated" / "bom.csv").read_text())))
    parts, sums = [row for row in rows if row["ref"]], [row for row in rows if not row["ref"]]
    assert [row["ref"] for row in parts] == [part.ref for part in node.parts]
    needed = (
        "what",
        "maker",
        "mpn",
        "mpn_from",
        "quantity",
        "supplier_1",
        "supplier_2",
        "price",
        "currency",
        "price_kind",
        "dated",
    )
    for row in parts:
        assert all(row[key] for key in needed), row
    for row in sums:
        for amount in tables.AMOUNTS:
            total = sum(float(part[f"for_{amount}"]) for part in parts if part["currency"] == row["currency"])
            assert float(row[f"for_{amount}"]) == pytest.approx(total, abs=0.01)
    assert float(sums[0]["for_10"]) <= 10 * float(sums[0]["for_1"]) + 0.01


def test_connector_table_names_every_pin(node, board):
    rows = list(
        csv.DictReader(io.StringIO((HARDWARE / node.name / "generated" / "connectors.csv").read_text()))
    )
    for pin in node.pins:
        [place] = {row["from"] for row in rows if row["name"] == pin.name}
        assert place == board.where(pin.gpio)
        assert {row["gpio_or_rail"] for row in rows if row["name"] == pin.name} == {f"GPIO{pin.gpio}"}


def test_wiring_diagram_is_black_and_white(node):
    svg = (HARDWARE / node.name / "generated" / "wiring.svg").read_text()
    colours = set(re.findall(r'(?:stroke|fill)="([^"]+)"', svg))
    assert colours <= {"black", "white", "none", "#000000", "#ffffff", "transparent"}, colours


def test_wiring_diagram_shows_every_wire(node):
    told = yaml.safe_load((HARDWARE / node.name / "generated" / "wiring.yml").read_text())
    labels = [label for cable in told["cables"].values() for label in cable["wirelabels"]]
    assert len(labels) == sum(len(part.wires) for part in node.parts)
    svg = (HARDWARE / node.name / "generated" / "wiring.svg").read_text()
    for pin in node.pins:
        assert f"GPIO{pin.gpio}" in svg
        assert pin.name in svg


@pytest.mark.skipif(not shutil.which("dot"), reason="GraphViz is not installed")
def test_wiring_diagram_is_drawn_again(node, board):
    drawn = wiring.drawing(wiring.description(node, board))
    known = (HARDWARE / node.name / "generated" / "wiring.svg").read_text()
    words = re.compile(r"<text[^>]*>([^<]*)</text>")
    assert sorted(words.findall(drawn)) == sorted(words.findall(known))


@pytest.mark.parametrize(
    "page", [HARDWARE / "README.md", *sorted(HARDWARE.glob("*/README.md"))], ids=lambda p: p.parent.name
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_tables_of_the_page_are_whole(node):
    text = (HARDWARE / node.name / "README.md").read_text()
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1, table


def test_the_page_says_who_answers_on_the_bus(node):
    text = (HARDWARE / node.name / "README.md").read_text()
    assert "## First start" in text
    there = sorted(
        sensor.address for part in node.parts for sensor in part.sensors if sensor.address is not None
    )
    assert (f"    {[hex(address) for address in there]}\n" in text) == bool(there)


def test_every_view_shows_pieces_that_exist():
    for name, made in picture.VIEWS.items():
        for piece in made.pieces:
            assert (build.STL / f"{piece}.stl").exists()
        assert (build.PNG / f"{name}.png").exists()


def test_the_page_shows_the_state_as_the_firmware_does():
    source = (ROOT / "firmware" / "sensornode" / "app.py").read_text()
    body = source[source.index("def status(self)") :]
    keys = re.findall(r'^            "(\w+)":', body[: body.index("}")], re.MULTILINE)
    text = (HARDWARE / "README.md").read_text()
    block = text[text.index("sensornode.show()\n") :].split("\n\n")[0].splitlines()[1:]
    assert sorted(keys) == [line.split()[0] for line in block]
    for line in block:
        name = line.split()[0]
        assert line.strip() == f"{name:14} {line.strip()[len(name) :].strip()}".strip()


@pytest.mark.parametrize(
    "said",
    [
        "no network",
        "starting again in 10 s",
        "no answer (",
        "scl and sda are missing: no earlier row describes",
    ],
)
def test_messages_on_the_page_are_the_firmwares(said):
    assert said in (HARDWARE / "README.md").read_text()
    files = [*(ROOT / "firmware").glob("*.py"), *(ROOT / "firmware" / "sensornode").rglob("*.py")]
    assert any(said in path.read_text() for path in files)


def test_command_reckons_power(capsys):
    assert main(["power", "weather", "--latitude", "60"]) == 0
    assert "panel" in capsys.readouterr().out
    assert main(["power", "kite"]) == 1
    assert "there are air, bench, camera, weather" in capsys.readouterr().err
    assert main(["power", "weather", "--latitude", "80"]) == 1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('driver = "tmp105"', 'driver = "tmp1055"', "bench: U2, driver tmp1055: firmware/sensornode/sensors/tmp1055.py"),
        ("gpio = 23", "gpio = 21", "bench: pin GPIO21 is there 2 times"),
        ("enclosure = []", 'enclosure = ["hat"]', "bench: mounting.enclosure names 'hat'"),
    ],
)  # fmt: skip
def test_nothing_is_made_of_a_node_that_is_wrong(monkeypatch, capsys, tmp_path, nodes, before, after, said):
    folder = tmp_path / "bench"
    folder.mkdir()
    text = (HARDWARE / "bench" / "node.toml").read_text()
    assert before in text
    (folder / "node.toml").write_text(text.replace(before, after))
    spoilt = {**nodes, "bench": schema.load_node(folder / "node.toml")}
    monkeypatch.setattr(command, "nodes", lambda: spoilt)
    monkeypatch.setattr(build, "build", lambda *_, **__: pytest.fail("something was made"))
    assert main(["check"]) == 1
    assert said in capsys.readouterr().out
    assert main(["build"]) == 1
    assert f"nothing was made:\n{said}" in capsys.readouterr().err
