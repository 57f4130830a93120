"""Serial ports: which one a board hangs on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serial.tools import list_ports

from flashing.exits import Exit, FlashError

#: USB vendor and product -> what converts, and whose driver it needs.
BRIDGES: Final[Mapping[tuple[int, int], str]] = {
    (0x10C4, 0xEA60): "CP2102",
    (0x10C4, 0xEA70): "CP2105",
    (0x1A86, 0x7523): "CH340",
    (0x1A86, 0x55D4): "CH9102",
    (0x1A86, 0x55D3): "CH343",
    (0x0403, 0x6001): "FT232R",
    (0x0403, 0x6010): "FT2232",
    (0x0403, 0x6015): "FT231X",
    (0x303A, 0x1001): "USB of the chip itself",
    (0x303A, 0x4001): "USB of the chip itself, MicroPython",
}


@dataclass(frozen=True, slots=True)
class Port:
    """One serial port.

    Attributes:
        name: device or pyserial URL.
        bridge: what converts USB to serial; empty when unknown.
        serial: serial number of the bridge, empty when it has none.
    """

    name: str
    bridge: str = ""
    serial: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.bridge})" if self.bridge else self.name


def boards() -> list[Port]:
    """Ports with a USB bridge that ESP32 boards have, by name."""
    found = []
    for port in list_ports.comports():
        bridge = BRIDGES.get((port.vid, port.pid)) if port.vid is not None else None
        if bridge is not None:
            found.append(Port(port.device, bridge, port.serial_number or ""))
    return sorted(found, key=lambda port: port.name)


def others() -> list[Port]:
    """All other serial ports of this computer."""
    known = {port.name for port in boards()}
    return [Port(port.device) for port in list_ports.comports() if port.device not in known]


def choose(wanted: str, ask: Callable[[Sequence[Port]], Port] | None) -> Port:
    """The port to use.

    Args:
        wanted: device or URL that was asked for; empty to find it.
        ask: lets a person choose among several; None when nobody can be asked.

    Raises:
        FlashError: none, several and nobody to ask, or the device is not there.
    """
    if wanted:
        if "://" not in wanted and os.sep in wanted and not Path(wanted).exists():
            raise FlashError(Exit.NO_PORT, f"there is no {wanted}")
        known = {port.name: port for port in boards()}
        return known.get(wanted, Port(wanted))
    found = boards()
    if not found:
        raise FlashError(Exit.NO_PORT, "no board is plugged in, or its cable carries no data")
    if len(found) == 1:
        return found[0]
    if ask is None:
        names = ", ".join(map(str, found))
        raise FlashError(Exit.NO_PORT, f"several boards are plugged in: {names}", "Choose one with --port.")
    return ask(found)
