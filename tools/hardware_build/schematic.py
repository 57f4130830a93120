"""The carrier's schematic: drawn here, written as KiCad 9 files, and checked by reading them back.

Coordinates are in units of 2.54 mm, y downward as on a KiCad sheet. The carrier serves weather and air: which GPIO a net
goes to comes from their node.toml files.
"""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import tempfile
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .errors import HardwareError
from .schema import HARDWARE, board_of, nodes
from .sexpr import Node, Quoted, find, parse, value, write

FOLDER: Final = HARDWARE / "carrier"
SHEET: Final = FOLDER / "carrier.kicad_sch"
SYMBOLS: Final = FOLDER / "sensorhub.kicad_sym"
SVG: Final = FOLDER / "carrier.svg"
LIBRARY: Final = "sensorhub"
GRID: Final = 2.54
KICAD_S: Final = 300
CARRIES: Final = ("weather", "air")
EXTRA: Final = {"pm_enable": 25}
"""Nets of the carrier that no node's dev-board wiring has: what switches the particulate sensor's supply."""
_SPACE: Final = uuid.UUID("6c1f9f0e-6a3b-5d55-9b52-9c3d9a1e7c41")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PinShape:
    """A pin of a symbol: where it ends (y upward), and the direction from there to the body in degrees."""

    number: str
    name: str
    kind: str
    x: float
    y: float
    angle: int
    length: float = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """A symbol: pins, and what is drawn (`rect x1 y1 x2 y2`, `line x1 y1 x2 y2 ...`, `circle x y r`)."""

    name: str
    prefix: str
    pins: tuple[PinShape, ...]
    art: tuple[tuple[str, tuple[float, ...]], ...]
    names_shown: bool = False
    numbers_shown: bool = False
    power: bool = False
    ref_at: Point = (1, 0.6)
    value_at: Point = (1, -0.6)


def _two(
    name: str,
    prefix: str,
    *art: tuple[str, tuple[float, ...]],
    ref_at: Point = (1, 0.6),
    value_at: Point = (1, -0.6),
) -> Shape:
    pins = PinShape("1", "1", "passive", 0, 2, 270), PinShape("2", "2", "passive", 0, -2, 90)
    return Shape(name, prefix, pins, art, ref_at=ref_at, value_at=value_at)


def _box(
    name: str,
    prefix: str,
    left: list[tuple[str, str, str]],
    right: list[tuple[str, str, str]],
    width: float,
    length: float = 1,
) -> Shape:
    """A box with pins on both sides, downward from the top: (number, name, kind), an empty number leaves a gap."""
    rows = max(len(left), len(right))
    pins = []
    for side, column in ((-1, left), (1, right)):
        for index, (number, label, kind) in enumerate(column):
            if number:
                x = side * (width / 2 + length)
                pins.append(PinShape(number, label, kind, x, -index, 0 if side < 0 else 180, length))
    art = ("rect", (-width / 2, 1, width / 2, -rows))
    return Shape(
        name, prefix, tuple(pins), (art,), True, ref_at=(-width / 2, 1.6), value_at=(-width / 2, -rows - 0.7)
    )


def _connector(count: int, names: tuple[str, ...] = ()) -> Shape:
    left = [(str(n + 1), names[n] if names else str(n + 1), "passive") for n in range(count)]
    tag = "_".join(names).replace("+", "P") if names else str(count)
    return _box(f"CONN_{tag}", "J", [], left, 4)


def _mosfet(name: str, upper: str, lower: str) -> Shape:
    """Enhancement transistor: gate, broken channel, arrow to the channel (N) or from it (P), source at `S`."""
    numbers = {"G": "1", "S": "2", "D": "3"}
    pins = (
        PinShape("1", "G", "input", -2, 0, 0),
        PinShape(numbers[upper], upper, "passive", 1, 2, 270),
        PinShape(numbers[lower], lower, "passive", 1, -2, 90),
    )
    source = 0.7 if upper == "S" else -0.7
    tip, tail = (-0.05, 0.35) if name == "NMOS" else (0.6, 0.2)
    art: tuple[tuple[str, tuple[float, ...]], ...] = (
        ("line", (-1, 0, -0.4, 0)),
        ("line", (-0.4, 0.7, -0.4, -0.7)),
        *(("line", (-0.1, y + 0.25, -0.1, y - 0.25)) for y in (0.7, 0, -0.7)),
        ("line", (-0.1, 0.7, 1, 0.7, 1, 1)),
        ("line", (-0.1, -0.7, 1, -0.7, 1, -1)),
        ("line", (-0.1, 0, 1, 0, 1, source)),
        ("line", (tail, 0.18, tip, 0, tail, -0.18)),
        ("circle", (0.3, 0, 1.3)),
    )
    return Shape(name, "Q", pins, art, numbers_shown=True, ref_at=(1.9, 0.6), value_at=(1.9, -0.6))


def _coil() -> tuple[float, ...]:
    """Four half circles from (0, 1) to (0, -1), bulging to the right."""
    points: list[float] = []
    for bow in range(4):
        for step in range(9 if bow == 3 else 8):
            angle = math.pi * step / 8
            points += [0.35 * math.sin(angle), 0.75 - 0.5 * bow + 0.25 * math.cos(angle)]
    return tuple(round(number, 3) for number in points)


def _power(name: str) -> Shape:
    art: tuple[tuple[str, tuple[float, ...]], ...]
    if name == "GND":
        art = (
            ("line", (0, 0, 0, -0.5)),
            ("line", (-0.5, -0.5, 0.5, -0.5)),
            ("line", (-0.3, -0.75, 0.3, -0.75)),
            ("line", (-0.1, -1, 0.1, -1)),
        )
        return Shape(
            name,
            "#PWR",
            (PinShape("1", name, "power_in", 0, 0, 270, 0),),
            art,
            power=True,
            value_at=(0, -1.6),
        )
    art = (("line", (0, 0, 0, 0.6)), ("line", (-0.4, 0.6, 0.4, 0.6)))
    return Shape(
        name, "#PWR", (PinShape("1", name, "power_in", 0, 0, 90, 0),), art, power=True, value_at=(0, 1.2)
    )


def _shapes() -> dict[str, Shape]:
    body = ("rect", (-0.4, 1, 0.4, -1))
    diode = (("line", (-0.5, -0.4, 0.5, -0.4, 0, 0.5, -0.5, -0.4)), ("line", (-0.5, 0.5, 0.5, 0.5)))
    made = [
        _two("R", "R", body),
        _two("C", "C", ("line", (-0.8, 0.2, 0.8, 0.2)), ("line", (-0.8, -0.2, 0.8, -0.2)), ("line", (0, 1, 0, 0.2)), ("line", (0, -1, 0, -0.2))),
        _two("L", "L", ("line", _coil())),
        _two("FUSE", "F", body, ("line", (0, 1, 0, -1))),
        # pin 1 is the cathode
        _two("TVS", "D", *diode, ("line", (-0.5, 0.5, -0.5, 0.2)), ("line", (0.5, 0.5, 0.5, 0.8)), ("line", (0, 1, 0, 0.5)), ("line", (0, -1, 0, -0.4))),
        _two("LED", "D", ("line", (-0.5, 0.4, 0.5, 0.4, 0, -0.5, -0.5, 0.4)), ("line", (-0.5, -0.5, 0.5, -0.5)), ("line", (0, 1, 0, 0.4)), ("line", (0, -1, 0, -0.5)), ("line", (0.6, 0, 1, 0.4)), ("line", (0.6, -0.4, 1, 0)), ("line", (0.8, 0.4, 1, 0.4, 1, 0.2)), ("line", (0.8, 0, 1, 0, 1, -0.2)), value_at=(1.4, -0.6), ref_at=(1.4, 0.6)),
        _mosfet("PMOS", "S", "D"),
        _mosfet("NMOS", "D", "S"),
        Shape(
            "BAT54S", "D",
            (PinShape("1", "A", "passive", 0, -3, 90), PinShape("2", "K", "passive", 0, 3, 270), PinShape("3", "AK", "passive", -2, 0, 0)),
            (
                ("line", (-0.5, 0.8, 0.5, 0.8, 0, 1.6, -0.5, 0.8)), ("line", (-0.5, 1.6, 0.5, 1.6)), ("line", (0, 2, 0, 1.6)),
                ("line", (-0.5, -1.6, 0.5, -1.6, 0, -0.8, -0.5, -1.6)), ("line", (-0.5, -0.8, 0.5, -0.8)), ("line", (0, -2, 0, -1.6)),
                ("line", (0, 0.8, 0, -0.8)), ("line", (-1, 0, 0, 0)),
            ),
        ),
        Shape(
            "ESD2", "D",
            (PinShape("1", "1", "passive", -1, 2, 270), PinShape("2", "2", "passive", 1, 2, 270), PinShape("3", "GND", "passive", 0, -2, 90)),
            (("rect", (-1.6, 1, 1.6, -1)), ("line", (-1, 0.4, -1, -0.4, 1, -0.4, 1, 0.4)), ("line", (0, -0.4, 0, -1))),
            ref_at=(2, 0.6), value_at=(2, -0.6),
        ),
        _box(
            "TPS61023", "U",
            [("3", "VIN", "power_in"), ("2", "EN", "input"), ("", "", ""), ("4", "GND", "power_in")],
            [("5", "SW", "passive"), ("6", "VOUT", "power_out"), ("", "", ""), ("1", "FB", "input")],
            8,
        ),
        _connector(2, ("VIN", "GND")),
        _connector(3, ("BATT", "SOLAR", "GND")),
        _connector(4, ("GND", "3V3", "SDA", "SCL")),
        _connector(4, ("VANE", "SPEED", "GND", "GND ")),
        _connector(4, ("NC", "RAIN", "GND", "NC ")),
        _connector(4, ("5V", "GND", "SDA", "SCL")),
        _connector(8, ("VCC", "GND", "SET", "RX", "TX", "RESET", "NC", "NC ")),
        _power("GND"), _power("+3V3"), _power("+5V"),
        Shape("PWR_FLAG", "#FLG", (PinShape("1", "pwr", "power_out", 0, 0, 90, 0),), (("line", (0, 0, 0, 0.5, -0.4, 0.75, 0, 1, 0.4, 0.75, 0, 0.5)),), power=True, value_at=(0, 1.5)),
    ]  # fmt: skip
    board = board_of(nodes()["weather"])
    columns: list[list[tuple[str, str, str]]] = []
    for header in board.headers:
        column = []
        for index, net in enumerate(header.pins):
            kind = {"3V3": "power_out", "5V": "power_in", "GND": "power_in"}.get(
                net, "passive" if net.startswith("GPIO") else "input"
            )
            column.append((f"{header.name}-{index + 1}", net, kind))
        columns.append(column)
    made.append(_box("DEVKITC", "U", columns[0], columns[1], 16, 2))
    return {shape.name: shape for shape in made}


@dataclass(frozen=True, slots=True)
class Placed:
    """A symbol on the sheet; `turn` in degrees counter-clockwise."""

    shape: Shape
    ref: str
    value: str
    x: float
    y: float
    turn: int = 0
    mirror: bool = False

    def pin(self, number: str) -> Point:
        """Where a pin ends on the sheet."""
        found = next(pin for pin in self.shape.pins if pin.number == number)
        return self.at(found.x, found.y)

    def at(self, x: float, y: float) -> Point:
        """A point of the symbol on the sheet."""
        for _ in range(self.turn // 90):
            x, y = -y, x
        if self.mirror:  # about the vertical axis
            x = -x
        return self.x + x, self.y - y


@dataclass(slots=True)
class Sheet:
    """What is drawn so far."""

    shapes: dict[str, Shape] = field(default_factory=_shapes)
    parts: list[Placed] = field(default_factory=list)
    wires: list[tuple[Point, Point]] = field(default_factory=list)
    labels: list[tuple[str, Point, int]] = field(default_factory=list)
    open_pins: list[Point] = field(default_factory=list)
    frames: list[tuple[Point, Point, str]] = field(default_factory=list)
    notes: list[tuple[Point, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(
        self, name: str, shown: str, x: float, y: float, turn: int = 0, ref: str = "", mirror: bool = False
    ) -> Placed:
        """Place a symbol; the reference counts on unless it is given."""
        shape = self.shapes[name]
        if not ref:
            self.counts[shape.prefix] += 1
            ref = f"{shape.prefix}{self.counts[shape.prefix]}"
            if shape.power:
                ref = f"{shape.prefix}{self.counts[shape.prefix]:03d}"
        made = Placed(shape, ref, shown, x, y, turn, mirror)
        self.parts.append(made)
        return made

    def power(self, name: str, at: Point) -> None:
        """A supply or ground symbol at a point."""
        self.add(name, name, *at)

    def flag(self, at: Point) -> None:
        """Tells the rule check that a net is driven from outside the sheet."""
        self.add("PWR_FLAG", "PWR_FLAG", *at)

    def wire(self, *points: Point) -> None:
        """A wire through points."""
        self.wires += [(a, b) for a, b in itertools.pairwise(points) if a != b]

    def label(self, net: str, at: Point, turn: int = 0) -> None:
        """Name the net at a point: text to the right of it, or with 180 to the left."""
        self.labels.append((net, at, turn))

    def frame(self, x: float, y: float, width: float, height: float, title: str) -> None:
        """A box around a part of the circuit, with its title."""
        self.frames.append(((x, y), (x + width, y + height), title))


def pin_nets() -> dict[str, int]:
    """GPIO of each net of the carrier: the pins of both nodes, and the carrier's own.

    Raises:
        HardwareError: the nodes contradict each other.
    """
    nets: dict[str, int] = {}
    every = nodes()
    for name in CARRIES:
        for pin in every[name].pins:
            if nets.setdefault(pin.name, pin.gpio) != pin.gpio:
                raise HardwareError(
                    f"the carrier serves {' and '.join(CARRIES)}: {pin.name} must be the same GPIO in both"
                )
    nets |= EXTRA
    double = [gpio for gpio, times in Counter(nets.values()).items() if times > 1]
    if double:
        raise HardwareError(
            f"the carrier would use GPIO{double[0]} for two nets: weather and air must not share it"
        )
    return nets


def carrier() -> Sheet:
    """The whole circuit."""
    s = Sheet()
    _supply(s)
    _boost(s)
    _pm(s)
    _i2c(s)
    _level(s)
    _inputs(s)
    _sense(s)
    _board(s)
    return s


def _supply(s: Sheet) -> None:
    s.frame(5, 6, 57, 20, "Supply: fuse, surge, reverse polarity")
    y = 12
    j = s.add("CONN_VIN_GND", "3.5 to 5.5 V", 9, y)
    f = s.add("FUSE", "1.1 A PTC", 19, y, 90)
    s.wire(j.pin("1"), f.pin("1"))
    s.label("VIN", (13, y))
    tvs = s.add("TVS", "SMBJ6.0A", 25, y + 4)
    s.wire(f.pin("2"), (25, y), tvs.pin("1"))
    s.power("GND", tvs.pin("2"))
    # drain to the input, so that the body diode starts it; the gate looks down
    q = s.add("PMOS", "AO3401A", 34, y + 1, 90, mirror=True)
    s.wire((25, y), q.pin("3"))
    s.label("VFUSED", (27, y))
    gate = q.pin("1")
    r = s.add("R", "100k", gate[0], gate[1] + 3)
    s.wire(gate, r.pin("1"))
    s.label("REV_GATE", gate)
    s.power("GND", r.pin("2"))
    out = q.pin("2")
    c = s.add("C", "100u 10V", 46, y + 4)
    s.wire(out, (46, y), c.pin("1"))
    s.power("GND", c.pin("2"))
    s.wire((46, y), (52, y), (56, y))
    s.label("VSYS", (56, y))
    s.flag((52, y))
    g = j.pin("2")
    s.wire(g, (g[0] + 1, g[1]), (g[0] + 1, g[1] + 3))
    s.power("GND", (g[0] + 1, g[1] + 3))
    s.wire((g[0] + 1, g[1] + 3), (g[0] + 4, g[1] + 3))
    s.flag((g[0] + 4, g[1] + 3))


def _boost(s: Sheet) -> None:
    s.frame(64, 6, 48, 20, "5 V boost, for the board and the particulate sensor")
    u = s.add("TPS61023", "TPS61023DRL", 86, 14)
    vin, en, gnd = u.pin("3"), u.pin("2"), u.pin("4")
    sw, vout, fb = u.pin("5"), u.pin("6"), u.pin("1")
    left = 70
    s.wire((67, 10), (left, 10))
    s.label("VSYS", (67, 10), 180)
    c = s.add("C", "10u", left, 16)
    s.wire((left, 10), c.pin("1"))
    s.power("GND", c.pin("2"))
    s.wire((left, 10), (78, 10), (78, vin[1]), vin)
    s.wire((78, vin[1]), (78, en[1]), en)
    coil = s.add("L", "1u 4A", 86, 10, 90)
    s.wire((78, 10), coil.pin("1"))
    s.wire(coil.pin("2"), (93, 10), (93, sw[1]), sw)
    s.label("SW", (93, 10))
    s.wire(gnd, (gnd[0] - 1, gnd[1]), (gnd[0] - 1, gnd[1] + 2))
    s.power("GND", (gnd[0] - 1, gnd[1] + 2))
    s.wire(vout, (97, vout[1]))
    top = s.add("R", "732k", 97, vout[1] + 2)
    low = s.add("R", "100k", 97, vout[1] + 6)
    assert top.pin("1") == (97, vout[1])
    s.wire(fb, (94, fb[1]), (94, vout[1] + 4), (97, vout[1] + 4))
    s.label("FB", (94, vout[1] + 4), 180)
    s.power("GND", low.pin("2"))
    right = 102
    for x in (right, 107):
        c = s.add("C", "22u 10V", x, vout[1] + 2)
        s.power("GND", c.pin("2"))
    s.wire((97, vout[1]), (right, vout[1]), (107, vout[1]))
    s.wire((right, vout[1]), (right, vout[1] - 2))
    s.power("+5V", (right, vout[1] - 2))


def _pm(s: Sheet) -> None:
    s.frame(64, 28, 48, 38, "Particulate sensor PMS5003: switched 5 V, 3.3 V signals")
    x = 84
    q = s.add("PMOS", "AO3401A", x, 36)
    s.power("+5V", q.pin("2"))
    gate = q.pin("1")
    joint = (77, 36)
    r = s.add("R", "100k", joint[0], 34)
    s.wire(gate, joint)
    s.label("PM_GATE", joint)
    s.power("+5V", r.pin("1"))
    n = s.add("NMOS", "2N7002", joint[0] - 1, 40)
    s.wire(joint, n.pin("3"))
    s.power("GND", n.pin("2"))
    # pulled up: on while nobody drives the pin
    pull = s.add("R", "10k", 71, 37)
    s.power("+3V3", pull.pin("1"))
    s.wire(n.pin("1"), (71, 40), (69, 40))
    s.wire(pull.pin("2"), (71, 40))
    s.label("pm_enable", (69, 40), 180)
    out = q.pin("3")
    c = s.add("C", "100u 10V", 88, out[1] + 2)
    s.wire(out, (88, out[1]), (93, out[1]), (96, out[1]))
    s.power("GND", c.pin("2"))
    s.flag((93, out[1]))
    j = s.add("CONN_VCC_GND_SET_RX_TX_RESET_NC_NC ", "PMS5003", 88, 50)
    s.label("V5_PM", (96, out[1]))
    s.wire((96, out[1]), (96, j.pin("1")[1]), j.pin("1"))
    g = j.pin("2")
    s.wire(g, (109, g[1]), (109, g[1] + 1))
    s.power("GND", (109, g[1] + 1))
    for number, net in (("3", "PM_SET"), ("6", "PM_RESET")):
        p = j.pin(number)
        x = 99 if number == "3" else 104
        up = s.add("R", "10k", x, 45)
        s.wire(p, (x, p[1]), up.pin("2"))
        s.label(net, (x, p[1]))
        s.power("+3V3", up.pin("1"))
    for number, net in (("4", "pm_tx"), ("5", "pm_rx")):
        p = j.pin(number)
        r = s.add("R", "1k", 102, p[1] + 4 + (3 if number == "5" else 0), 90)
        y = r.y
        turn = 94.5 if number == "5" else 95.5
        s.wire(p, (turn, p[1]), (turn, y), r.pin("1"))
        s.wire(r.pin("2"), (106, y))
        s.label(net, (106, y))
        s.label(f"{net.upper()}_S", (turn, y))
    for number in ("7", "8"):
        s.open_pins.append(j.pin(number))


def _i2c(s: Sheet) -> None:
    s.frame(
        5, 28, 57, 19, "I2C at 3.3 V: pull-ups (leave out when the sensors' boards have them), ESD, sockets"
    )
    for index, net in enumerate(("i2c_sda", "i2c_scl")):
        x = 10 + 4 * index
        r = s.add("R", "4k7", x, 34)
        s.power("+3V3", r.pin("1"))
        y = 38 + index
        s.wire(r.pin("2"), (x, y), (24 + 2 * index, y))
        s.wire((9, y), (x, y))
        s.label(net, (9, y), 180)
    d = s.add("ESD2", "PESD3V3L2BT", 25, 42)
    s.wire((24, 38), d.pin("1"))
    s.wire((26, 39), d.pin("2"))
    s.power("GND", d.pin("3"))
    for index, x in enumerate((35, 49)):
        j = s.add("CONN_GND_3V3_SDA_SCL", f"Qwiic {index + 1}", x, 36)
        right = x + 8
        s.wire(j.pin("1"), (right, 36), (right, 41))
        s.power("GND", (right, 41))
        s.wire(j.pin("2"), (right + 1, 37), (right + 1, 34))
        s.power("+3V3", (right + 1, 34))
        for number, net in (("3", "i2c_sda"), ("4", "i2c_scl")):
            p = j.pin(number)
            s.wire(p, (p[0] + 1, p[1]))
            s.label(net, (p[0] + 1, p[1]))


def _level(s: Sheet) -> None:
    s.frame(5, 48, 57, 20, "Level shifters: I2C at 5 V, for sensors of 5 V on long cables (SPS30, SEN5x)")
    j = s.add("CONN_5V_GND_SDA_SCL", "5 V I2C", 50, 56)
    for index, (net, far) in enumerate((("i2c_sda", "SDA_5V"), ("i2c_scl", "SCL_5V"))):
        y = 56 + 8 * index
        # source to the 3.3 V side; the gate looks down
        q = s.add("NMOS", "BSS138", 20, y + 1, 90, mirror=True)
        left, right = q.pin("2"), q.pin("3")
        low = s.add("R", "10k", 14, y - 2)
        s.wire((10, left[1]), (14, left[1]), left)
        s.wire((14, left[1]), low.pin("2"))
        s.label(net, (10, left[1]), 180)
        s.power("+3V3", low.pin("1"))
        high = s.add("R", "4k7", 27, y - 2)
        s.wire(right, (27, right[1]), (32, right[1]))
        s.wire((27, right[1]), high.pin("2"))
        s.label(far, (32, right[1]))
        s.power("+5V", high.pin("1"))
        gate = q.pin("1")
        s.wire(gate, (gate[0] + 3, gate[1]), (gate[0] + 3, gate[1] - 1))
        s.power("+3V3", (gate[0] + 3, gate[1] - 1))
        p = j.pin("3" if index == 0 else "4")
        s.wire(p, (p[0] + 1, p[1]))
        s.label(far, (p[0] + 1, p[1]))
    s.wire(j.pin("1"), (58, 56), (58, 54))
    s.power("+5V", (58, 54))
    s.wire(j.pin("2"), (59, 57), (59, 61))
    s.power("GND", (59, 61))


def _inputs(s: Sheet) -> None:
    s.frame(5, 70, 57, 41, "Wind and rain: surge, pull-up, filter, clamp")
    wind = s.add("CONN_VANE_SPEED_GND_GND ", "RJ11 wind", 9, 75)
    rain = s.add("CONN_NC_RAIN_GND_NC ", "RJ11 rain", 9, 84)
    for j, numbers in ((wind, ("3", "4")), (rain, ("3",))):
        last = j.pin(numbers[-1])
        for number in numbers:
            p = j.pin(number)
            s.wire(p, (p[0] + 1, p[1]))
        if len(numbers) > 1:
            s.wire((last[0] + 1, j.pin("3")[1]), (last[0] + 1, last[1]))
        s.wire((last[0] + 1, last[1]), (last[0] + 1, last[1] + 1))
        s.power("GND", (last[0] + 1, last[1] + 1))
    for j, number, net in ((wind, "1", "VANE_IN"), (wind, "2", "SPEED_IN"), (rain, "2", "RAIN_IN")):
        p = j.pin(number)
        s.wire(p, (p[0] + 2, p[1]))
        s.label(net, (p[0] + 2, p[1]))
    s.open_pins += [rain.pin("1"), rain.pin("4")]
    for index, (near, net) in enumerate(
        (("SPEED_IN", "wind_speed"), ("VANE_IN", "wind_vane"), ("RAIN_IN", "rain"))
    ):
        _strip(s, 24, 77 + 12 * index, near, net)


def _strip(s: Sheet, x: float, y: float, near: str, net: str) -> None:
    """Surge diode and pull-up on the cable's side, then 1 kOhm, then capacitor and clamp at the chip's side.

    The pull-up lies before the resistor, so that the vane's divider stays what its table says.
    """
    s.wire((x, y), (x + 4, y), (x + 9, y))
    s.label(near, (x, y), 180)
    d = s.add("TVS", "SMAJ5.0A", x + 4, y + 2)
    s.power("GND", d.pin("2"))
    up = s.add("R", "10k", x + 9, y - 2)
    s.power("+3V3", up.pin("1"))
    r = s.add("R", "1k", x + 14, y, 90)
    s.wire((x + 9, y), r.pin("1"))
    s.wire(r.pin("2"), (x + 20, y))
    c = s.add("C", "100n", x + 20, y + 2)
    s.power("GND", c.pin("2"))
    clamp = s.add("BAT54S", "BAT54S", x + 28, y)
    s.wire((x + 20, y), clamp.pin("3"))
    s.power("+3V3", clamp.pin("2"))
    s.power("GND", clamp.pin("1"))
    s.label(net, (x + 21, y))


def _sense(s: Sheet) -> None:
    s.frame(64, 68, 48, 24, "Battery and panel voltage: at most 2.45 V at the converter")
    j = s.add("CONN_BATT_SOLAR_GND", "sense", 70, 74)
    for number, net in (("1", "BATT_IN"), ("2", "SOLAR_IN")):
        p = j.pin(number)
        s.wire(p, (p[0] + 1, p[1]))
        s.label(net, (p[0] + 1, p[1]))
    g = j.pin("3")
    s.wire(g, (g[0], g[1] + 1))
    s.power("GND", (g[0], g[1] + 1))
    for index, (near, net, ohms) in enumerate(
        (("BATT_IN", "battery", "100k"), ("SOLAR_IN", "solar", "300k"))
    ):
        y = 74 + 10 * index
        x = 86
        r = s.add("R", ohms, x + 3, y, 90)
        s.wire((x, y), r.pin("1"))
        s.label(near, (x, y), 180)
        low = s.add("R", "100k", x + 8, y + 2)
        s.wire(r.pin("2"), (x + 8, y), (x + 13, y), (x + 18, y))
        c = s.add("C", "100n", x + 13, y + 2)
        s.power("GND", low.pin("2"))
        s.power("GND", c.pin("2"))
        s.label(net, (x + 18, y))


def _board(s: Sheet) -> None:
    s.frame(114, 6, 46, 30, "ESP32-DevKitC V4, in sockets")
    u = s.add("DEVKITC", "ESP32-DevKitC-32E", 137, 12)
    by_gpio = {f"GPIO{gpio}": net for net, gpio in pin_nets().items()}
    for pin in u.shape.pins:
        at = u.pin(pin.number)
        out = -1 if at[0] < u.x else 1
        if pin.name in by_gpio:
            s.wire(at, (at[0] + 2 * out, at[1]))
            s.label(by_gpio[pin.name], (at[0] + 2 * out, at[1]), 0 if out > 0 else 180)
        elif pin.name in ("3V3", "5V"):
            end = (at[0] + 3 * out, at[1])
            s.wire(at, end, (end[0], end[1] - 1))
            s.power("+3V3" if pin.name == "3V3" else "+5V", (end[0], end[1] - 1))
        elif pin.name == "GND":
            end = (at[0] + 8 * out, at[1])
            s.wire(at, end)
            s.power("GND", end)
        else:
            s.open_pins.append(at)
    s.frame(114, 38, 46, 12, "How the node is: a red LED")
    at = (122, 44)
    s.label("status_led", at, 180)
    r = s.add("R", "1k", at[0] + 4, at[1], 90)
    s.wire(at, r.pin("1"))
    led = s.add("LED", "red", at[0] + 10, at[1] + 2)
    s.wire(r.pin("2"), led.pin("1"))
    s.label("LED_A", r.pin("2"))
    s.power("GND", led.pin("2"))


# ---------------------------------------------------------------- writing
def _mm(units: float) -> str:
    return f"{round(units * GRID, 4):g}"


def _xy(point: Point) -> list[Node]:
    return [_mm(point[0]), _mm(point[1])]


def _id(*names: object) -> list[Node]:
    return ["uuid", Quoted(str(uuid.uuid5(_SPACE, "/".join(map(str, names)))))]


def _font(size: float = 1.27, *, hide: bool = False, justify: str = "") -> list[Node]:
    made: list[Node] = ["effects", ["font", ["size", f"{size:g}", f"{size:g}"]]]
    if justify:
        made.append(["justify", justify])
    if hide:
        made.append(["hide", "yes"])
    return made


_STROKE: Final[list[Node]] = ["stroke", ["width", "0.2"], ["type", "default"]]
_FILL: Final[list[Node]] = ["fill", ["type", "none"]]


def _symbol(shape: Shape, library: str = "") -> list[Node]:
    name = f"{library}:{shape.name.strip()}" if library else shape.name.strip()
    made: list[Node] = ["symbol", Quoted(name)]
    if shape.power:
        made.append(["power"])
    made += [
        ["pin_numbers", ["hide", "no" if shape.names_shown or shape.numbers_shown else "yes"]],
        ["pin_names", ["offset", "0.6"], ["hide", "no" if shape.names_shown else "yes"]],
        ["exclude_from_sim", "no"],
        ["in_bom", "yes"],
        ["on_board", "yes"],
    ]
    for key, text in (
        ("Reference", shape.prefix),
        ("Value", shape.name.strip()),
        ("Footprint", ""),
        ("Datasheet", ""),
        ("Description", ""),
    ):
        hide = key in ("Footprint", "Datasheet", "Description") or (key == "Reference" and shape.power)
        made.append(["property", Quoted(key), Quoted(text), ["at", "0", "0", "0"], _font(hide=hide)])
    art: list[Node] = ["symbol", Quoted(f"{shape.name.strip()}_0_1")]
    for kind, numbers in shape.art:
        if kind == "rect":
            x1, y1, x2, y2 = numbers
            art.append(["rectangle", ["start", _mm(x1), _mm(y1)], ["end", _mm(x2), _mm(y2)], _STROKE, _FILL])
        elif kind == "circle":
            x, y, radius = numbers
            art.append(["circle", ["center", _mm(x), _mm(y)], ["radius", _mm(radius)], _STROKE, _FILL])
        else:
            points: list[Node] = ["pts"]
            points += [["xy", _mm(x), _mm(y)] for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
            art.append(["polyline", points, _STROKE, _FILL])
    pins: list[Node] = ["symbol", Quoted(f"{shape.name.strip()}_1_1")]
    for pin in shape.pins:
        body: list[Node] = [
            "pin",
            pin.kind,
            "line",
            ["at", _mm(pin.x), _mm(pin.y), str(pin.angle)],
            ["length", _mm(pin.length)],
        ]
        body += [["name", Quoted(pin.name.strip()), _font(1.0)], ["number", Quoted(pin.number), _font(0.9)]]
        pins.append(body)
    return [*made, art, pins, ["embedded_fonts", "no"]]


def _instance(part: Placed) -> list[Node]:
    shape = part.shape
    made: list[Node] = [
        "symbol",
        ["lib_id", Quoted(f"{LIBRARY}:{shape.name.strip()}")],
        ["at", *_xy((part.x, part.y)), str(part.turn)],
    ]
    if part.mirror:
        made.append(["mirror", "y"])
    made += [
        ["unit", "1"],
        ["exclude_from_sim", "no"],
        ["in_bom", "yes"],
        ["on_board", "yes"],
        ["dnp", "no"],
        _id("part", part.ref),
    ]
    level = part.turn in (90, 270) and len(shape.pins) == 2
    ref_at, value_at = part.at(*shape.ref_at), part.at(*shape.value_at)
    if level:
        ref_at, value_at = (part.x, part.y - 1.0), (part.x, part.y + 1.1)
    elif part.turn:
        ref_at, value_at = (part.x - 1.5, part.y - 3.1), (part.x - 1.5, part.y - 2.3)
    justify = "" if shape.power or level else "left"
    # a property turns with its symbol: turn it back
    angle = str(part.turn % 180)
    made += [
        [
            "property",
            Quoted("Reference"),
            Quoted(part.ref),
            ["at", *_xy(ref_at), angle],
            _font(1.1, hide=shape.power, justify=justify),
        ],
        [
            "property",
            Quoted("Value"),
            Quoted(part.value),
            ["at", *_xy(value_at), angle],
            _font(1.1, justify=justify),
        ],
        ["property", Quoted("Footprint"), Quoted(""), ["at", *_xy((part.x, part.y)), "0"], _font(hide=True)],
        ["property", Quoted("Datasheet"), Quoted(""), ["at", *_xy((part.x, part.y)), "0"], _font(hide=True)],
        [
            "property",
            Quoted("Description"),
            Quoted(""),
            ["at", *_xy((part.x, part.y)), "0"],
            _font(hide=True),
        ],
    ]
    made += [["pin", Quoted(pin.number), _id("pin", part.ref, pin.number)] for pin in shape.pins]
    path: list[Node] = [
        "path",
        Quoted("/" + value(_id("sheet"))),
        ["reference", Quoted(part.ref)],
        ["unit", "1"],
    ]
    made.append(["instances", ["project", Quoted("carrier"), path]])
    return made


def _sheet_text(s: Sheet) -> str:
    used = {part.shape.name: part.shape for part in s.parts}
    sheet: list[Node] = [
        "kicad_sch",
        ["version", "20250114"],
        ["generator", Quoted("sensorhub")],
        ["generator_version", Quoted("9.0")],
        _id("sheet"),
        ["paper", Quoted("A3")],
        [
            "title_block",
            ["title", Quoted("Carrier for weather and air node")],
            ["rev", Quoted("A")],
            ["company", Quoted("sensorhub")],
            ["comment", "1", Quoted("UNTESTED: nobody has built this yet")],
            ["comment", "2", Quoted("Licence CERN-OHL-P-2.0. Made by tools/hardware")],
        ],
        ["lib_symbols", *(_symbol(shape, LIBRARY) for _, shape in sorted(used.items()))],
    ]
    for start, end, title in s.frames:
        stroke: list[Node] = ["stroke", ["width", "0.15"], ["type", "dash"]]
        sheet.append(
            ["rectangle", ["start", *_xy(start)], ["end", *_xy(end)], stroke, _FILL, _id("frame", title)]
        )
        sheet.append(
            [
                "text",
                Quoted(title),
                ["exclude_from_sim", "no"],
                ["at", *_xy((start[0] + 0.5, start[1] + 1)), "0"],
                _font(1.6, justify="left"),
                _id("title", title),
            ]
        )
    ends = Counter(point for wire in s.wires for point in wire)
    for part in s.parts:
        ends.update(part.pin(pin.number) for pin in part.shape.pins)
    sheet += [
        [
            "junction",
            ["at", *_xy(point)],
            ["diameter", "0"],
            ["color", "0", "0", "0", "0"],
            _id("junction", point),
        ]
        for point in sorted(point for point, times in ends.items() if times > 2)
    ]
    sheet += [["no_connect", ["at", *_xy(point)], _id("open", point)] for point in s.open_pins]
    for a, b in s.wires:
        sheet.append(
            [
                "wire",
                ["pts", ["xy", *_xy(a)], ["xy", *_xy(b)]],
                ["stroke", ["width", "0"], ["type", "default"]],
                _id("wire", a, b),
            ]
        )
    for net, point, turn in s.labels:
        justify: list[Node] = ["justify", "right" if turn == 180 else "left", "bottom"]
        effects: list[Node] = ["effects", ["font", ["size", "1.27", "1.27"]], justify]
        sheet.append(
            ["label", Quoted(net), ["at", *_xy(point), str(turn)], effects, _id("label", net, point)]
        )
    sheet += [_instance(part) for part in s.parts]
    sheet += [["sheet_instances", ["path", Quoted("/"), ["page", Quoted("1")]]], ["embedded_fonts", "no"]]
    return write(sheet) + "\n"


def _library_text(s: Sheet) -> str:
    used = {part.shape.name: part.shape for part in s.parts}
    whole: list[Node] = [
        "kicad_symbol_lib",
        ["version", "20241209"],
        ["generator", Quoted("sensorhub")],
        ["generator_version", Quoted("9.0")],
    ]
    return write([*whole, *(_symbol(shape) for _, shape in sorted(used.items()))]) + "\n"


def files() -> dict[Path, str]:
    """Every text of the KiCad project."""
    s = carrier()
    table: list[Node] = [
        "lib",
        ["name", Quoted(LIBRARY)],
        ["type", Quoted("KiCad")],
        ["uri", Quoted("${KIPRJMOD}/sensorhub.kicad_sym")],
        ["options", Quoted("")],
        ["descr", Quoted("")],
    ]
    return {
        SHEET: _sheet_text(s),
        SYMBOLS: _library_text(s),
        FOLDER / "sym-lib-table": write(["sym_lib_table", ["version", "7"], table]) + "\n",
        FOLDER
        / "carrier.kicad_pro": '{\n  "meta": {\n    "filename": "carrier.kicad_pro",\n    "version": 3\n  }\n}\n',
    }


# ---------------------------------------------------------------- reading back
@dataclass(frozen=True, slots=True)
class Netlist:
    """What a sheet connects.

    Attributes:
        nets: pins (reference, number) of each net; a net without name is called `?` and a number.
        open: pins marked as not connected.
        refs: references, as often as they are there.
    """

    nets: dict[str, frozenset[tuple[str, str]]]
    open: frozenset[tuple[str, str]]
    refs: tuple[str, ...]


def netlist(text: str) -> Netlist:
    """Read a sheet back: symbols, wires, labels. Raises ValueError when it is no sheet."""
    sheet = parse(text)
    if not isinstance(sheet, list) or sheet[0] != "kicad_sch":
        raise ValueError("is no KiCad sheet")
    shapes = {value(symbol): symbol for symbol in find(find(sheet, "lib_symbols")[0], "symbol")}
    parent: dict[tuple[int, int], tuple[int, int]] = {}

    def root(point: tuple[int, int]) -> tuple[int, int]:
        parent.setdefault(point, point)
        while parent[point] != point:
            point = parent[point]
        return point

    def read(item: list[Node]) -> tuple[int, int]:
        return round(float(value(item, 1)) * 100), round(float(value(item, 2)) * 100)

    wires = []
    for wire in find(sheet, "wire"):
        a, b = (read(point) for point in find(find(wire, "pts")[0], "xy"))
        wires.append((a, b))
        parent[root(a)] = root(b)
    pins: dict[tuple[str, str], tuple[int, int]] = {}
    names: dict[tuple[int, int], set[str]] = defaultdict(set)
    refs = []
    for symbol in find(sheet, "symbol"):
        shape = shapes[value(find(symbol, "lib_id")[0])]
        at = find(symbol, "at")[0]
        x, y, turn = float(value(at, 1)), float(value(at, 2)), int(value(at, 3))
        properties = {value(item): value(item, 2) for item in find(symbol, "property")}
        ref = properties["Reference"]
        refs.append(ref)
        for unit in find(shape, "symbol"):
            for pin in find(unit, "pin"):
                place = find(pin, "at")[0]
                px, py = float(value(place, 1)), float(value(place, 2))
                for _ in range(turn // 90):
                    px, py = -py, px
                if find(symbol, "mirror"):
                    px = -px
                where = round((x + px) * 100), round((y - py) * 100)
                root(where)
                pins[ref, value(find(pin, "number")[0])] = where
                if find(shape, "power") and properties["Value"] != "PWR_FLAG":
                    names[where].add(properties["Value"])
    for label in find(sheet, "label"):
        names[read(find(label, "at")[0])].add(value(label))
    for point in list(names):  # a label may sit in the middle of a wire
        root(point)
        for a, b in wires:
            between = min(a[0], b[0]) <= point[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= point[1] <= max(
                a[1], b[1]
            )
            if between and (a[0] == b[0] == point[0] or a[1] == b[1] == point[1]):
                parent[root(point)] = root(a)
    called: dict[tuple[int, int], str] = {}
    first: dict[str, tuple[int, int]] = {}
    for point, given in names.items():
        for name in given:  # one name is one net, wherever it stands
            if name in first:
                parent[root(point)] = root(first[name])
            first.setdefault(name, point)
    for name, point in first.items():
        called.setdefault(root(point), name)
    nets: dict[str, set[tuple[str, str]]] = defaultdict(set)
    unnamed: dict[tuple[int, int], str] = {}
    for pin_id, where in pins.items():
        top = root(where)
        nets[called.get(top) or unnamed.setdefault(top, f"?{len(unnamed) + 1}")].add(pin_id)
    shut = {read(find(mark, "at")[0]) for mark in find(sheet, "no_connect")}
    return Netlist(
        {name: frozenset(members) for name, members in nets.items()},
        frozenset(pin for pin, where in pins.items() if where in shut),
        tuple(refs),
    )


def problems(text: str | None = None) -> list[str]:
    """What is wrong with the carrier's sheet, one sentence each."""
    try:
        found = netlist(SHEET.read_text(encoding="utf-8") if text is None else text)
    except (OSError, ValueError, IndexError, KeyError) as error:
        return [f"the sheet cannot be read: {error}"]
    said = [
        f"reference {ref} is there {times} times" for ref, times in Counter(found.refs).items() if times > 1
    ]
    for name, members in sorted(found.nets.items()):
        parts = {pin for pin in members if not pin[0].startswith("#")}
        if parts & found.open and len(members) > 1:
            said.append(f"net {name} is connected, and marked as not connected")
        elif len(parts) == 1 and not parts & found.open:
            said.append(f"pin {'.'.join(next(iter(parts)))} is connected to nothing")
        elif name.startswith("?") and len(parts) > 1:
            said.append(f"the net of {', '.join(sorted('.'.join(pin) for pin in parts))} has no name")
    board = board_of(nodes()["weather"])
    for net, gpio in pin_nets().items():
        pin = ("U2", board.where(gpio))
        if pin not in found.nets.get(net, frozenset()):
            said.append(f"net {net} does not reach {pin[1]} (GPIO{gpio})")
    return said


def kicad() -> str | None:
    """kicad-cli, when there is one of KiCad 9."""
    program = shutil.which("kicad-cli")
    if not program:
        return None
    try:
        done = subprocess.run(
            [program, "version"], capture_output=True, text=True, timeout=KICAD_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return program if done.stdout.strip().startswith("9.") else None


def rule_check() -> str:
    """The report of `kicad-cli sch erc`, errors and warnings; empty when it found nothing.

    Raises:
        HardwareError: kicad-cli is not there or fails.
    """
    program = kicad()
    if not program:
        raise HardwareError(
            "the electrical rule check needs kicad-cli of KiCad 9: apt install kicad (Debian 13)"
        )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "erc.rpt"
        command = [
            program,
            "sch",
            "erc",
            "--severity-all",
            "--exit-code-violations",
            "-o",
            str(report),
            str(SHEET),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=KICAD_S, check=False)
        if not report.exists():
            raise HardwareError(f"kicad-cli made no report: {done.stderr.strip()[-300:]}")
        return report.read_text(encoding="utf-8") if done.returncode else ""


def draw(path: Path) -> None:
    """Write the sheet as SVG. Raises HardwareError when kicad-cli is not there or fails."""
    program = kicad()
    if not program:
        raise HardwareError("drawing the schematic needs kicad-cli of KiCad 9: apt install kicad (Debian 13)")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            program,
            "sch",
            "export",
            "svg",
            "--black-and-white",
            "--no-background-color",
            "-o",
            folder,
            str(SHEET),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=KICAD_S, check=False)
        made = list(Path(folder).glob("*.svg"))
        if not made:
            raise HardwareError(f"kicad-cli drew nothing: {done.stderr.strip()[-300:]}")
        path.write_text(made[0].read_text(encoding="utf-8"), encoding="utf-8")
