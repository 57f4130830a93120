"""What `hardware/<kind>/node.toml` says about a node, as far as flashing needs it.

The file is the single source of board, pins, buses and sensors; it is read as data, and what flashing does not need is passed
over.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flashing.application import ROOT
from flashing.exits import Exit, FlashError
from flashing.partitions import CHIPS

FOLDER: Final = ROOT / "hardware"
I2C_HERTZ: Final = 100_000
"""What the firmware takes when a row says nothing (firmware/sensornode/bus.py)."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One kind of node.

    Attributes:
        kind: weather, air, camera, bench ...
        board: the board and its revision, as the node announces it.
        chip: esp32, esp32s3 ...
        flash_bytes: flash that the board has.
        psram_bytes: PSRAM that the board has, 0 for none.
        firmware: MicroPython's name of the board.
        firmware_from: where the image is to be had, for people; empty when it is that of micropython.org.
        led: the setting `led` of node.json, or None.
        vfs: offset and size of the file system that the maker counts on, or None.
        interval: seconds between samples.
        publish: seconds between messages.
        sensors: the sensor table of node.json.
        pins: source of the module `pins`, or None where it has not been made (`tools/hardware build`).
    """

    kind: str
    board: str
    chip: str
    flash_bytes: int
    psram_bytes: int
    firmware: str
    firmware_from: str
    led: Mapping[str, Any] | None
    vfs: tuple[int, int] | None
    interval: int
    publish: int
    sensors: tuple[Mapping[str, Any], ...]
    pins: Path | None


def kinds(folder: Path = FOLDER) -> list[str]:
    """Kinds that there is hardware for, by name."""
    return sorted(path.parent.name for path in folder.glob("*/node.toml"))


def load(kind: str, folder: Path = FOLDER) -> Hardware:
    """The hardware of a kind.

    Raises:
        FlashError: there is no such kind, or its file is wrong.
    """
    path = folder / kind / "node.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FlashError(
            Exit.HARDWARE,
            f"there is no hardware for {kind!r}; there is {', '.join(kinds(folder)) or 'none'}",
            "Name one of these kinds.",
        ) from None
    except (OSError, ValueError) as error:
        raise FlashError(Exit.HARDWARE, f"{path} cannot be read: {error}") from None
    try:
        return _hardware(kind, data, folder)
    except KeyError as error:
        raise FlashError(Exit.HARDWARE, f"{path}: {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise FlashError(Exit.HARDWARE, f"{path}: {error}") from None


def _hardware(kind: str, data: Mapping[str, Any], folder: Path) -> Hardware:
    node, flash = data["node"], data["flash"]
    chip = str(flash["chip"])
    if chip not in CHIPS:
        raise ValueError(f"flash.chip is {chip!r}; known are {', '.join(CHIPS)}")
    pins = {pin["name"]: int(pin["gpio"]) for pin in data.get("pins", ())}
    buses = {bus["name"]: bus for bus in data.get("buses", ())}
    interval = int(node["interval_s"])
    rows = [_row(sensor, pins, buses) for part in data.get("parts", ()) for sensor in part.get("sensors", ())]
    pins_file = folder / kind / "generated" / "pins.py"
    vfs = (int(flash["vfs_offset"]), int(flash["vfs_bytes"])) if "vfs_offset" in flash else None
    return Hardware(
        kind=str(node.get("kind", kind)),
        board=_board(str(node.get("board", "")), folder)[:64],
        chip=chip,
        flash_bytes=int(flash["flash_bytes"]),
        psram_bytes=int(flash.get("psram_bytes", 0)),
        firmware=str(flash["firmware"]),
        firmware_from=str(flash.get("firmware_from", "")),
        led=_led(data["led"]) if "led" in data else None,
        vfs=vfs,
        interval=interval,
        publish=int(node.get("publish_s", interval)),
        sensors=tuple(rows),
        pins=pins_file if pins_file.exists() else None,
    )


def _board(name: str, folder: Path) -> str:
    """The board in its maker's words; its own name where nothing describes it."""
    try:
        about = tomllib.loads((folder / "boards" / f"{name}.toml").read_text(encoding="utf-8"))
        return f"{about['maker']} {about['name']}"
    except (OSError, ValueError, KeyError):
        return name


def _led(led: Mapping[str, Any]) -> dict[str, Any]:
    return {"pin": int(led["gpio"]), "low": bool(led.get("low", False))}


def _row(
    sensor: Mapping[str, Any], pins: Mapping[str, int], buses: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """One row of the sensor table, every row with the pins of its bus: rows may then be reordered.

    The module `pins` has the same rows; a test compares them.
    """
    row: dict[str, Any] = {"driver": str(sensor["driver"])}
    if "bus" in sensor:
        bus = buses[sensor["bus"]]
        if bus["kind"] == "i2c":
            if int(bus["number"]):
                row["bus"] = int(bus["number"])
            row |= {"scl": pins[bus["scl"]], "sda": pins[bus["sda"]]}
            if int(bus.get("hertz", I2C_HERTZ)) != I2C_HERTZ:
                row["hertz"] = int(bus["hertz"])
        elif bus["kind"] == "uart":
            row |= {"uart": int(bus["number"]), "tx": pins[bus["tx"]], "rx": pins[bus["rx"]]}
        else:
            raise ValueError(f"the bus {sensor['bus']!r} is of the unknown kind {bus['kind']!r}")
    if "address" in sensor:
        row["address"] = f"0x{int(sensor['address']):02x}"
    if "pin" in sensor:
        row["pin"] = pins[sensor["pin"]]
    return {**row, **sensor.get("options", {})}
