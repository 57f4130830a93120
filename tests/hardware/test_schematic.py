"""The carrier's sheet: read back by our own reader, and by KiCad where it is installed."""

import re
import subprocess

import pytest

from hardware_build import schematic
from hardware_build.schema import board_of
from hardware_build.sexpr import Quoted, find, parse, write

needs_kicad = pytest.mark.skipif(not schematic.kicad(), reason="kicad-cli of KiCad 9 is not installed")


@pytest.fixture(scope="module")
def text():
    return schematic.SHEET.read_text()


@pytest.fixture(scope="module")
def netlist(text):
    return schematic.netlist(text)


def test_nothing_is_wrong():
    assert schematic.problems() == []


def test_it_says_that_nobody_has_built_it(text):
    assert "UNTESTED" in text


def test_gpios_are_those_of_both_nodes(nodes, netlist):
    for name in schematic.CARRIES:
        board = board_of(nodes[name])
        for pin in nodes[name].pins:
            assert ("U2", board.where(pin.gpio)) in netlist.nets[pin.name]


def parts_on(netlist, *nets):
    return {ref for net in nets for ref, _ in netlist.nets[net]}


@pytest.mark.parametrize("net", ["wind_speed", "wind_vane", "rain"])
def test_inputs_are_protected(net, netlist, text):
    values = {}
    for symbol in find(parse(text), "symbol"):
        said = {item[1]: item[2] for item in find(symbol, "property")}
        values[said["Reference"]] = said["Value"]
    near = {values[ref] for ref in parts_on(netlist, net) if ref in values}
    assert {"1k", "100n", "BAT54S"} <= near
    cable = {"wind_speed": "SPEED_IN", "wind_vane": "VANE_IN", "rain": "RAIN_IN"}[net]
    far = {values[ref] for ref in parts_on(netlist, cable) if ref in values}
    assert {"SMAJ5.0A", "10k", "1k"} <= far


def test_what_comes_in_passes_fuse_and_transistor(netlist):
    assert ("F1", "1") in netlist.nets["VIN"]
    # drain to the input, source to the circuit: the body diode conducts the right way only
    assert {("F1", "2"), ("Q1", "3")} <= netlist.nets["VFUSED"]
    assert ("Q1", "2") in netlist.nets["VSYS"]
    assert ("Q1", "1") in netlist.nets["REV_GATE"]


def test_the_led_has_its_resistor(netlist):
    [(resistor, _)] = netlist.nets["status_led"] - {("U2", "J3-2")}
    assert resistor.startswith("R")
    assert {ref for ref, _ in netlist.nets["LED_A"]} == {resistor, "D9"}
    # anode to the resistor, cathode to GND
    assert ("D9", "1") in netlist.nets["LED_A"]
    assert ("D9", "2") in netlist.nets["GND"]


def test_boost_makes_five_volts(text):
    top, bottom, reference = 732, 100, 0.595  # TPS61023 datasheet: feedback at 595 mV
    assert '"732k"' in text
    assert reference * (1 + top / bottom) == pytest.approx(5.0, abs=0.1)


def without(text, pattern):
    changed, times = re.subn(pattern, "", text, count=1)
    assert times
    return changed


def test_a_cut_wire_is_noticed(text):
    tree = parse(text)
    wires = find(tree, "wire")
    noticed = 0
    for wire in wires[:8]:
        cut = [item for item in tree if item is not wire]
        noticed += bool(schematic.problems(write(cut)))
    assert noticed >= 6  # some wires only lead to a flag


def test_a_double_reference_is_noticed(text):
    assert "reference R1 is there 2 times" in schematic.problems(
        text.replace('"Reference" "R2"', '"Reference" "R1"')
    )


def test_a_nameless_net_is_noticed(text):
    tree = parse(text)
    unnamed = [
        item for item in tree if not (isinstance(item, list) and item[0] == "label" and item[1] == "FB")
    ]
    assert any("has no name" in said for said in schematic.problems(write(unnamed)))


def test_rubbish_is_refused():
    assert schematic.problems("(kicad_pcb)") == ["the sheet cannot be read: is no KiCad sheet"]
    assert "a bracket" in schematic.problems("(kicad_sch (wire)")[0]


def test_expressions_round_trip():
    tree = ["a", Quoted('say "x" \\ y'), ["b", "1.5", []], Quoted("")]
    assert parse(write(tree)) == tree


@needs_kicad
def test_kicad_finds_nothing_to_complain_about():
    assert schematic.rule_check() == ""


@needs_kicad
def test_kicad_sees_the_same_nets(netlist, tmp_path):
    out = tmp_path / "carrier.net"
    command = [
        schematic.kicad(),
        "sch",
        "export",
        "netlist",
        "--format",
        "kicadsexpr",
        "-o",
        out,
        schematic.SHEET,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    theirs = {}
    for net in find(find(parse(out.read_text()), "nets")[0], "net"):
        name = find(net, "name")[0][1].lstrip("/")
        theirs[name] = frozenset(
            (find(node, "ref")[0][1], find(node, "pin")[0][1]) for node in find(net, "node")
        )
    ours = {
        name: frozenset(pin for pin in pins if not pin[0].startswith("#"))
        for name, pins in netlist.nets.items()
        if not name.startswith("?")
    }
    assert {name: pins for name, pins in theirs.items() if not name.startswith("unconnected-")} == ours
