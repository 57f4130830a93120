"""What the firmware gets from node.toml: rows of its sensor table, and the module `pins`."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Final

from .schema import DRIVERS, Board, Node, Sensor

LINE: Final = 110
"""The project's line length: the module comes out as the formatter would have it."""


def row(node: Node, sensor: Sensor) -> dict[str, Any]:
    """The row of node.json's `sensors` for a sensor."""
    made: dict[str, Any] = {"driver": sensor.driver}
    if sensor.bus:
        bus = node.bus(sensor.bus)
        if bus.kind == "i2c":
            if bus.number:
                made["bus"] = bus.number
            made["scl"], made["sda"] = node.pin(bus.scl).gpio, node.pin(bus.sda).gpio
            if bus.hertz != 100_000:
                made["hertz"] = bus.hertz
        else:
            made["uart"] = bus.number
            made["tx"], made["rx"] = node.pin(bus.tx).gpio, node.pin(bus.rx).gpio
    if sensor.address is not None:
        made["address"] = f"0x{sensor.address:02x}"
    if sensor.pin:
        made["pin"] = node.pin(sensor.pin).gpio
    return {**made, **sensor.options}


def sensor_rows(node: Node) -> list[dict[str, Any]]:
    """The whole table, in the order of the parts."""
    return [row(node, sensor) for part in node.parts for sensor in part.sensors]


def pins_module(node: Node, board: Board) -> str:
    """Source of the module `pins`, for MicroPython and CPython alike."""
    lines = [
        f'"""The {node.node.title.lower()} on {board.maker} {board.name}. Made by tools/hardware from node.toml: change that."""',
        "",
        f"NODE = {_text(node.name)}",
        f"KIND = {_text(node.node.kind)}",
        f"BOARD = {_text(board.maker + ' ' + board.name)}",
        f"INTERVAL = {node.node.interval_s}  # seconds",
        f"PUBLISH = {node.node.publish_s}  # seconds",
        "",
    ]
    for pin in node.pins:
        place = board.where(pin.gpio)
        lines.append(f"{pin.name.upper()} = {pin.gpio}  # {place}{', ' + pin.note if pin.note else ''}")
    if node.pins:
        lines.append("")
    if node.led:
        lines += [
            f'LED = {{"pin": {node.led.gpio}, "low": {node.led.low}}}  # `led` in node.json: {node.led.what}',
            "",
        ]
    rows = sensor_rows(node)
    lines.append("# rows for `sensors` in node.json")
    single = f"SENSORS = ({_literal(rows[0])},)" if len(rows) == 1 else ""
    if single and len(single) <= LINE:
        return "\n".join([*lines, single]) + "\n"
    lines.append("SENSORS = (")
    for made in rows:
        line = f"    {_literal(made)},"
        items = [f"        {_text(key)}: {_literal(item)}," for key, item in made.items()]
        lines += [line] if len(line) <= LINE else ["    {", *items, "    },"]
    lines.append(")")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)


def driver_file(driver: str, drivers: Path = DRIVERS) -> Path:
    """Where the firmware's driver is."""
    return drivers / f"{driver}.py"


def driver_addresses(driver: str, drivers: Path = DRIVERS) -> tuple[int, ...]:
    """I2C addresses the driver accepts, read from its source; empty when it names none."""
    for item in ast.walk(ast.parse(driver_file(driver, drivers).read_text(encoding="utf-8"))):
        named = isinstance(item, ast.Assign) and [getattr(target, "id", "") for target in item.targets]
        if named == ["addresses"] and isinstance(item, ast.Assign):
            return tuple(ast.literal_eval(item.value))
    return ()


def driver_channels(driver: str, drivers: Path = DRIVERS) -> tuple[str, ...]:
    """Channels the driver offers, read from its source; empty when they depend on its row."""
    for item in ast.walk(ast.parse(driver_file(driver, drivers).read_text(encoding="utf-8"))):
        if not isinstance(item, ast.Assign):
            continue
        # of the class, or of the object where some of them depend on the row
        names = [getattr(target, "id", getattr(target, "attr", "")) for target in item.targets]
        if names == ["channels"] and isinstance(item.value, ast.Tuple):
            try:
                return tuple(name for name, _ in ast.literal_eval(item.value))
            except ValueError:
                continue
    return ()
