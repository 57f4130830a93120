"""How a run ends: exit codes, what each means, and the one exception that leads to them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple


class Exit(IntEnum):
    """Exit codes of `tools/flash` and `tools/simulate`."""

    OK = 0
    BUG = 1
    USAGE = 2
    NO_PORT = 10
    PORT_BUSY = 11
    PORT_DENIED = 12
    NO_ANSWER = 13
    WRONG_CHIP = 14
    SMALL_FLASH = 15
    NO_PSRAM = 16
    NO_FIRMWARE = 20
    FIRMWARE_HASH = 21
    FIRMWARE_UNFIT = 22
    OCCUPIED = 30
    BACKUP = 31
    SETTINGS = 40
    HARDWARE = 41
    BUILD = 42
    NO_ROOM = 43
    WRITE = 50
    VERIFY = 51
    UNPLUGGED = 52
    UNREACHABLE = 60
    REFUSED = 61
    CLAIM = 62
    NAME_TAKEN = 63
    NO_ANNOUNCE = 70
    NO_READING = 71
    UNHEALTHY = 80
    UNFINISHED = 81
    MISSING_PART = 90
    INTERRUPTED = 130
    TERMINATED = 143


class Meaning(NamedTuple):
    """What an exit code says.

    Attributes:
        what: what has happened.
        remedy: one sentence on what to do, where the failure itself knows no better one.
    """

    what: str
    remedy: str


TABLE: Final[Mapping[Exit, Meaning]] = {
    Exit.OK: Meaning("everything held", "Nothing to do."),
    Exit.BUG: Meaning("the tool itself failed", "Run it again with --verbose and report what it prints."),
    Exit.USAGE: Meaning("the command line is wrong", "Look at tools/flash --help."),
    Exit.NO_PORT: Meaning(
        "no serial port, or several and none chosen",
        "Plug the board in with a cable that carries data, or name the port with --port.",
    ),
    Exit.PORT_BUSY: Meaning(
        "another program has the port open", "Close the serial monitor that uses the port and try again."
    ),
    Exit.PORT_DENIED: Meaning(
        "no permission to open the port", "Run tools/flash doctor; it says how this system grants access."
    ),
    Exit.NO_ANSWER: Meaning(
        "the port opens but no bootloader answers",
        "Hold BOOT, press EN, let go of BOOT and try again; tools/flash doctor says more.",
    ),
    Exit.WRONG_CHIP: Meaning(
        "the board has another chip than node.toml says", "Plug in the board that node.toml names."
    ),
    Exit.SMALL_FLASH: Meaning(
        "the board has less flash than node.toml says", "Plug in the board that node.toml names."
    ),
    Exit.NO_PSRAM: Meaning(
        "the kind needs PSRAM and the board has none", "Plug in the board that node.toml names."
    ),
    Exit.NO_FIRMWARE: Meaning(
        "no MicroPython image",
        "Name one with --firmware FILE and --sha256, or pin it in tools/firmware.toml.",
    ),
    Exit.FIRMWARE_HASH: Meaning(
        "the MicroPython image is not the one that was asked for",
        "Download the image again, and check where the expected SHA-256 comes from.",
    ),
    Exit.FIRMWARE_UNFIT: Meaning(
        "the image is for another chip, or is no complete image",
        "Take the .bin of the board's page on micropython.org, not the .app-bin.",
    ),
    Exit.OCCUPIED: Meaning(
        "the board is a node already",
        "Say --keep to renew its software or --erase to make a new node of it.",
    ),
    Exit.BACKUP: Meaning(
        "what is on the board could not be saved",
        "Name a writable directory with --backup-dir, or say --no-backup.",
    ),
    Exit.SETTINGS: Meaning(
        "a setting is missing or wrong", "Give the setting in the settings file or the environment."
    ),
    Exit.HARDWARE: Meaning("node.toml is missing or wrong", "Mend the node.toml that is named."),
    Exit.BUILD: Meaning("the application cannot be compiled", "Mend the file of firmware/ that is named."),
    Exit.NO_ROOM: Meaning(
        "the application does not fit into the board's file system", "Use a board with more flash."
    ),
    Exit.WRITE: Meaning("writing failed", "Try again with --baud 115200 and a short cable."),
    Exit.VERIFY: Meaning(
        "what was written reads back differently",
        "Try again with --baud 115200; if it stays, the flash chip or the supply is bad.",
    ),
    Exit.UNPLUGGED: Meaning(
        "the board went away while it was written",
        "Plug it in again and start again: nothing is registered yet.",
    ),
    Exit.UNREACHABLE: Meaning(
        "the gateway does not answer", "Start the gateway, or correct --gateway, and try again."
    ),
    Exit.REFUSED: Meaning(
        "the gateway refuses the token", "Give the gateway's token in FLASH_GATEWAY_TOKEN."
    ),
    Exit.CLAIM: Meaning(
        "the claim cannot be used or made", "Make a new claim with sensorhub nodes add NAME."
    ),
    Exit.NAME_TAKEN: Meaning(
        "the gateway has a node of this name",
        "Choose another --name, or say --erase to put this board in its place.",
    ),
    Exit.NO_ANNOUNCE: Meaning(
        "the board is written but its node has not announced itself in time",
        "Look at what the node says with tools/flash logs; to flash it anew say --erase.",
    ),
    Exit.NO_READING: Meaning(
        "the node announced itself but no reading of it was logged in time",
        "Look at what the node says with tools/flash logs; is its sensor wired?",
    ),
    Exit.UNHEALTHY: Meaning("doctor found something", "Do what doctor says."),
    Exit.UNFINISHED: Meaning(
        "some boards of the batch are not done", "Run the same command again: it goes on where it ended."
    ),
    Exit.MISSING_PART: Meaning(
        "a Python package or program is missing", "Run tools/setup tools, or here: pip install -e '.[tools]'."
    ),
    Exit.INTERRUPTED: Meaning("interrupted (SIGINT)", "Start again."),
    Exit.TERMINATED: Meaning("terminated (SIGTERM)", "Start again."),
}


class FlashError(Exception):
    """Raised when a step cannot be done. str() says what was tried and why it failed; holds no secret.

    Attributes:
        code: the exit code.
        remedy: one sentence on what to do.
    """

    def __init__(self, code: Exit, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.remedy = remedy or TABLE[code].remedy


def document() -> str:
    """The table of exit codes in Markdown, as tools/README.md shows it."""
    lines = ["| code | name | what has happened | what to do |", "|---|---|---|---|"]
    for code, (what, remedy) in TABLE.items():
        lines.append(f"| {code.value} | `{code.name.lower().replace('_', '-')}` | {what} | {remedy} |")
    return "\n".join(lines)
