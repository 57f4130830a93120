"""What a node says on its serial console."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import serial

from flashing.exits import Exit, FlashError

BAUD: Final = 115_200
_RESET_S: Final = 0.1


def follow(port: str, *, reset: bool, seconds: float, line: Callable[[str], None]) -> None:
    """Prints what comes until time is up or Ctrl-C.

    The lines DTR and RTS are let go before the port opens, since most boards hang reset and boot mode on them.

    Args:
        port: device or URL.
        reset: start the node anew first.
        seconds: how long; 0 for ever.
        line: gets each line.

    Raises:
        FlashError: the port cannot be opened, or went away.
    """
    try:
        link = serial.serial_for_url(port, baudrate=BAUD, timeout=0.2, do_not_open=True)
        if "://" not in port:
            link.exclusive = True  # two readers would each get half of what is said
        link.dtr = False
        link.rts = False
        link.open()
    except (OSError, ValueError) as error:
        raise FlashError(_why(str(error)), f"{port} cannot be opened: {error}") from None
    ends = time.monotonic() + seconds
    rest = b""
    try:
        if reset:
            link.rts = True
            time.sleep(_RESET_S)
            link.rts = False
        while not seconds or time.monotonic() < ends:
            *whole, rest = (rest + link.read(4096)).split(b"\n")
            for raw in whole:
                line(_printable(raw))
    except (OSError, serial.SerialException) as error:
        raise FlashError(Exit.UNPLUGGED, f"{port} went away: {error}", "Plug it in again.") from None
    finally:
        if rest:
            line(_printable(rest))
        link.close()


def _why(said: str) -> Exit:
    if "exclusively lock" in said or "busy" in said or "Access is denied" in said:
        return Exit.PORT_BUSY
    return Exit.PORT_DENIED if "denied" in said else Exit.NO_PORT


def _printable(raw: bytes) -> str:
    """Text without control characters: a node's words must not steer the terminal."""
    text = raw.decode("utf-8", "replace").rstrip("\r")
    return "".join(letter for letter in text if letter.isprintable() or letter == "\t")
