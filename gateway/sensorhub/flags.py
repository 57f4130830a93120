"""The flag bits of a verdict, and what counts as trusted."""

from __future__ import annotations

from enum import IntFlag
from typing import Final


class Flag(IntFlag):
    """Why a reading is doubted, or what else there is to know of it (bits of a verdict entry)."""

    RANGE = 1 << 0
    """The value lies outside of what the quantity can be."""
    SPIKE = 1 << 1
    """It left its neighbours in time faster than the quantity can change."""
    STUCK = 1 << 2
    """It stayed exactly the same for longer than is believable."""
    DRIFT = 1 << 3
    """It moves away from what its neighbours see, slowly."""
    OFFSET = 1 << 4
    """It stands apart from what its neighbours see."""
    NOISE = 1 << 5
    """It scatters more than the quantity does."""
    DROPOUT = 1 << 6
    """It ends a gap in which the series was silent."""
    REPLAY = 1 << 7
    """It repeats an earlier stretch of the same series."""
    ISOLATED = 1 << 8
    """There was no neighbour to compare with."""
    REGIONAL = 1 << 9
    """Neighbours saw the same: unusual, but real."""
    TIME = 1 << 10
    """Its time is not to be relied on."""
    SENSOR = 1 << 11
    """The node itself reported a fault of the sensor."""
    BLOCKED = 1 << 12
    """Something is before the camera."""
    FOGGED = 1 << 13
    """The camera's lens is fogged, dirty or out of focus."""
    MOVED = 1 << 14
    """The camera looks elsewhere since at most a day."""
    OVEREXPOSED = 1 << 15
    """Much of the picture is white."""


FULL_SCORE: Final = 255
"""A verdict's score as an integer that means 1.0: trust. 0 means: do not use."""

TRUSTED: Final = 128
"""Smallest stored score that counts as trusted: 0.5 of 1.0."""

_NAMES: Final = {
    Flag.RANGE: "range",
    Flag.SPIKE: "spike",
    Flag.STUCK: "stuck",
    Flag.DRIFT: "drift",
    Flag.OFFSET: "offset",
    Flag.NOISE: "noise",
    Flag.DROPOUT: "dropout",
    Flag.REPLAY: "replay",
    Flag.ISOLATED: "isolated",
    Flag.REGIONAL: "regional event",
    Flag.TIME: "time suspect",
    Flag.SENSOR: "sensor fault",
    Flag.BLOCKED: "blocked",
    Flag.FOGGED: "fogged",
    Flag.MOVED: "moved",
    Flag.OVEREXPOSED: "over-exposed",
}


def flag_names(flags: int) -> list[str]:
    """The names of the bits set in `flags`, lowest bit first; a bit without a name is `bit <number>`."""
    return [_NAMES.get(Flag(1 << bit), f"bit {bit}") for bit in range(flags.bit_length()) if flags >> bit & 1]
