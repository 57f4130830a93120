"""node.toml and boards/*.toml as typed values; every wrong value is named with file, key, value and what is allowed."""

from __future__ import annotations

import enum
import re
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from .errors import HardwareError

ROOT: Final = Path(__file__).resolve().parents[2]
HARDWARE: Final = ROOT / "hardware"
DRIVERS: Final = ROOT / "firmware" / "sensornode" / "sensors"

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Meta(min_length=1)]
Gpio = Annotated[int, Meta(ge=0, le=48)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]


class Role(enum.StrEnum):
    """What a node uses a pin for."""

    I2C_SCL = "i2c_scl"
    I2C_SDA = "i2c_sda"
    UART_TX = "uart_tx"
    UART_RX = "uart_rx"
    ADC = "adc"
    PULSE = "pulse"
    INPUT = "input"
    OUTPUT = "output"


OUTPUTS: Final = frozenset({Role.I2C_SCL, Role.I2C_SDA, Role.UART_TX, Role.OUTPUT})


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class About(_Strict, frozen=True, kw_only=True):
    """What the node is."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    kind: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    title: Text
    summary: Text
    board: Annotated[str, Meta(pattern=r"^[a-z0-9-]+$")]
    built: Literal["untested", "built"]  # untested: nobody has wired one up yet
    interval_s: Annotated[int, Meta(ge=1, le=86_400)]
    publish_s: Annotated[int, Meta(ge=1, le=86_400)]
    wifi: bool = True


class Flash(_Strict, frozen=True, kw_only=True):
    """What the flash tool must find on the chip and write to it. Sizes and offsets in bytes."""

    chip: Literal["esp32", "esp32s3"]
    module: Text
    flash_bytes: Annotated[int, Meta(ge=1 << 20)]
    psram_bytes: Annotated[int, Meta(ge=0)]
    firmware: Text  # board name of the MicroPython image
    firmware_from: str = ""  # where it comes from, when it is not one of MicroPython's own
    vfs_offset: Annotated[int, Meta(ge=0)]
    vfs_bytes: Annotated[int, Meta(ge=1 << 16)]
    ota_slots: bool


class Pin(_Strict, frozen=True, kw_only=True):
    """A GPIO that something is wired to."""

    name: Name
    gpio: Gpio
    role: Role
    note: str = ""


class Bus(_Strict, frozen=True, kw_only=True):
    """An I2C bus or a UART; `scl`, `sda`, `tx`, `rx` are names of pins."""

    name: Name
    kind: Literal["i2c", "uart"]
    number: Annotated[int, Meta(ge=0, le=2)]
    scl: str = ""
    sda: str = ""
    tx: str = ""
    rx: str = ""
    hertz: Annotated[int, Meta(ge=10_000, le=400_000)] = 100_000
    pullup_ohm: NotNegative = 0  # to the supply, beside those on the parts' own boards; 0: none
    capacitance_pf: Positive = 100.0  # of cables and parts together


class Rail(_Strict, frozen=True, kw_only=True):
    """A supply. `source` names the rail it is made from, empty for what comes in."""

    name: Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Z0-9_]*$")]
    volts: Positive
    kind: Literal["input", "linear", "switching", "switch"]
    what: Text
    limit_ma: Positive
    where: Text  # where the limit is written
    source: str = ""
    efficiency: Share = 1.0
    quiescent_ma: NotNegative = 0
    switch: str = ""  # name of the pin that switches it; empty: always on
    switch_default: Literal["", "on", "off"] = ""


class Current(_Strict, frozen=True, kw_only=True):
    """What a part draws in one state. Exactly one of `seconds_per_interval`, `seconds_per_publish`, `share`, `rest`."""

    state: Text
    typical_ma: NotNegative
    peak_ma: NotNegative = 0
    seconds_per_interval: NotNegative = 0
    seconds_per_publish: NotNegative = 0
    share: Annotated[float, Meta(ge=0, le=1)] = 0
    rest: bool = False  # all the time that no other state takes
    source: Literal["measured", "datasheet", "recalled", "estimate"]
    """`datasheet`: read there, on the page that `where` names. `recalled`: a data sheet's figure as we remember it,
    which nobody has looked up again. `estimate`: ours."""
    where: Text


class Sensor(_Strict, frozen=True, kw_only=True):
    """The row of the firmware's sensor table. `options` go into it as they are."""

    driver: Name
    bus: str = ""
    address: Annotated[int, Meta(ge=0x08, le=0x77)] | None = None
    pin: str = ""
    options: dict[str, Any] = {}


class Wire(_Strict, frozen=True, kw_only=True):
    """A connection: the part's own pin, and where it goes: a pin's name, a rail or GND."""

    pin: Text
    to: Text
    note: str = ""


class Part(_Strict, frozen=True, kw_only=True):
    """A line of the bill of materials."""

    ref: Annotated[str, Meta(pattern=r"^[A-Z]+[0-9]+$")]
    what: Text
    maker: Text
    mpn: Text
    mpn_from: Literal["seen", "memory", "standard"]
    """`seen`: a public source names the part with this number. `memory`: look it up before you order. `standard`: any
    maker's part of that standard or size."""
    quantity: Annotated[float, Meta(gt=0)] = 1
    suppliers: Annotated[list[Text], Meta(min_length=2)]
    price: NotNegative  # for one, without tax
    price_100: NotNegative | None = None  # for one, when a hundred are bought
    currency: Literal["USD", "EUR"]
    dated: Annotated[str, Meta(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$")]
    price_kind: Literal["estimate", "quote"]
    rail: str = ""
    pullup_ohm: NotNegative = 0  # on its board, for each I2C line
    connector: str = ""
    chained_to: str = ""  # reference of the part whose second socket it hangs on
    cable: str = ""
    body_mm: tuple[Positive, Positive, Positive] | None = None  # length, width, height; where it has to fit
    currents: list[Current] = []
    sensors: list[Sensor] = []
    wires: list[Wire] = []
    note: str = ""


class Led(_Strict, frozen=True, kw_only=True):
    """The LED that says how the node is: `led` of its node.json."""

    gpio: Gpio
    low: bool = False  # lit when the pin is low
    what: Text


class Battery(_Strict, frozen=True, kw_only=True):
    """One pack as it is bought. `ref`: its line of the bill of materials, empty when the node has none."""

    ref: str
    volts: Positive
    amp_hours: Positive
    usable: Share  # share that may be taken out, in the cold, at the end of its life
    charge_efficiency: Share


class Panel(_Strict, frozen=True, kw_only=True):
    """One solar panel; the number of them is the quantity of the part `ref`, which is empty when the node has none."""

    ref: str
    watts: Positive
    tilt_deg: Annotated[float, Meta(ge=0, le=90)]
    performance_ratio: Share  # heat, dirt, mismatch, charger


class Site(_Strict, frozen=True, kw_only=True):
    """Where it is to work through the worst month."""

    what: Text
    latitude: Annotated[float, Meta(ge=-66, le=66)]
    clearness: Annotated[float, Meta(gt=0.05, lt=0.85)]  # of the worst month
    albedo: Annotated[float, Meta(ge=0, le=0.9)] = 0.2
    autonomy_days: Positive


class Power(_Strict, frozen=True, kw_only=True):
    """Where the power comes from, and what it has to be enough for."""

    supply: Literal["usb", "solar"]
    rail: Text
    note: Text
    site: Site
    battery: Battery
    panel: Panel


class Mounting(_Strict, frozen=True, kw_only=True):
    """How it is put up."""

    height_m: Positive
    where: Text
    enclosure: list[Text]
    notes: list[Text]


class Node(_Strict, frozen=True, kw_only=True):
    """All of a node.toml."""

    node: About
    flash: Flash
    pins: list[Pin]
    buses: list[Bus]
    rails: list[Rail]
    parts: list[Part]
    power: Power
    mounting: Mounting
    led: Led | None = None
    unused: dict[str, str] = {}

    @property
    def name(self) -> str:
        return self.node.name

    def pin(self, name: str) -> Pin:
        """The pin of a name. Raises KeyError."""
        return {pin.name: pin for pin in self.pins}[name]

    def bus(self, name: str) -> Bus:
        """The bus of a name. Raises KeyError."""
        return {bus.name: bus for bus in self.buses}[name]

    def rail(self, name: str) -> Rail:
        """The rail of a name. Raises KeyError."""
        return {rail.name: rail for rail in self.rails}[name]

    def part(self, ref: str) -> Part:
        """The part of a reference. Raises KeyError."""
        return {part.ref: part for part in self.parts}[ref]


class FixedPin(_Strict, frozen=True, kw_only=True):
    """A GPIO that the board itself uses."""

    gpio: Gpio
    why: Text


class Outline(_Strict, frozen=True, kw_only=True):
    """The board's drawing, in mm: the board lies in x (width) and y (length, 0 at the USB or power end)."""

    width: Positive
    length: Positive
    thickness: Positive
    overhang: NotNegative  # of the module's antenna beyond the board, at the far end
    top: Positive  # highest part above the board
    below: Positive  # what sticks out under it: pins
    row_spacing: Positive  # between the two rows of pins
    first_pin_y: NotNegative  # of the row, from the USB end
    holes: list[tuple[float, float, float]]  # x, y, diameter
    drawing: Text


class Header(_Strict, frozen=True, kw_only=True):
    """One row of pins, in order; each is `GPIO<n>` or a net's name."""

    name: Text
    pins: list[Text]


class Board(_Strict, frozen=True, kw_only=True):
    """A boards/*.toml: facts about a board as it is sold."""

    name: Text
    maker: Text
    mpn: Text
    chip: Literal["esp32", "esp32s3"]
    psram: Literal["none", "quad", "octal"]
    url: Text
    fixed: list[FixedPin]
    headers: list[Header]
    outline: Outline
    led: Led | None = None  # the board's own, that a program may use

    def where(self, gpio: int) -> str:
        """Header and position of a GPIO, `J2-8`, or an empty text when it is not on a header."""
        return self.net(f"GPIO{gpio}")

    def net(self, name: str) -> str:
        """First header position of a net, or an empty text."""
        for header in self.headers:
            if name in header.pins:
                return f"{header.name}-{header.pins.index(name) + 1}"
        return ""


T = TypeVar("T", Node, Board)


def load_node(path: Path) -> Node:
    """Read and check the form of a node.toml.

    Raises:
        HardwareError: it cannot be read, or a value is wrong; names file, key, value and what is allowed.
    """
    node = _load(path, Node)
    if node.node.name != path.parent.name:
        raise HardwareError(
            f"{path}: node.name is {node.node.name!r}; allowed: the folder's, {path.parent.name!r}"
        )
    return node


def load_board(path: Path) -> Board:
    """Read and check the form of a boards/*.toml. Raises HardwareError as load_node."""
    return _load(path, Board)


def board_of(node: Node, hardware: Path = HARDWARE) -> Board:
    """The board a node is built on. Raises HardwareError."""
    path = hardware / "boards" / f"{node.node.board}.toml"
    if not path.exists():
        there = ", ".join(sorted(found.stem for found in path.parent.glob("*.toml")))
        raise HardwareError(f"{node.name}/node.toml: node.board is {node.node.board!r}; allowed: {there}")
    return load_board(path)


def nodes(hardware: Path = HARDWARE) -> dict[str, Node]:
    """Every node, by name, in the order of the names."""
    return {path.parent.name: load_node(path) for path in sorted(hardware.glob("*/node.toml"))}


def _load(path: Path, kind: type[T]) -> T:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HardwareError(f"{path}: cannot be read ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise HardwareError(f"{path}: is not TOML: {error}") from None
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise HardwareError(f"{path}: {_explain(str(error), data, kind)}") from None


_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")
_MISSING: Final = re.compile(r"missing required field `([^`]*)`")


def _explain(message: str, data: Mapping[str, Any], kind: type[Any]) -> str:
    where = re.search(r"`\$([^`]*)`$", message)
    keys = re.findall(r"\.([A-Za-z0-9_]+)|\[(\d+|\.\.\.)\]", where[1]) if where else []
    value: Any = data
    shape: Any = kind
    path = ""
    for name, index in keys:
        path += f"[{index}]" if index else f".{name}" if path else name
        if index:
            position = int(index) if index.isdigit() else 0
            value = value[position] if isinstance(value, list) and position < len(value) else value
            shape = _element(shape)
        else:
            value = value.get(name) if isinstance(value, Mapping) else None
            shape = _field(shape, name)
    if found := _UNKNOWN.search(message):
        allowed = ", ".join(field.name for field in msgspec.structs.fields(_plain(shape)))
        return f"{path + '.' if path else ''}{found[1]} is no key; allowed: {allowed}"
    if found := _MISSING.search(message):
        wanted = _allowed(_field(shape, found[1]))
        return f"{path + '.' if path else ''}{found[1]} is missing; allowed: {wanted}"
    return f"{path} is {value!r}; allowed: {_allowed(shape)}"


def _plain(shape: Any) -> Any:
    return get_args(shape)[0] if get_origin(shape) is Annotated else shape


def _element(shape: Any) -> Any:
    inner = get_args(_plain(shape))
    return inner[0] if inner else Any


def _field(shape: Any, name: str) -> Any:
    plain = _plain(shape)
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        for field in msgspec.structs.fields(plain):
            if field.name == name:
                return field.type
    return Any


_WORDS: Final = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _allowed(shape: Any) -> str:
    limits = ""
    if get_origin(shape) is Annotated:
        meta = get_args(shape)[1]
        bounds = [(meta.gt, "more than"), (meta.ge, "at least"), (meta.lt, "less than"), (meta.le, "at most")]
        words = [f"{word} {bound:g}" for bound, word in bounds if bound is not None]
        if meta.pattern:
            words.append(f"of the form {meta.pattern}")
        if meta.min_length:
            words.append(f"{meta.min_length} or more long")
        limits = ", ".join(["", *words])
    plain = _plain(shape)
    origin = get_origin(plain)
    if origin is Literal:
        return ", ".join(repr(choice) for choice in get_args(plain))
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return ", ".join(repr(choice.value) for choice in plain)
    if origin in (Union, types.UnionType):
        return " or ".join(_allowed(part) for part in get_args(plain) if part is not type(None))
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        return "a table with " + ", ".join(field.name for field in msgspec.structs.fields(plain))
    if origin is list:
        return "a list of " + _allowed(get_args(plain)[0]) + limits
    return _WORDS.get(plain, "a table") + limits
