"""Names of the flag bits of a verdict. The quality room sets them; a test keeps both tables the same."""

from __future__ import annotations

from typing import Final

FLAG_NAMES: Final = (
    "range",
    "spike",
    "stuck",
    "drift",
    "offset",
    "noise",
    "dropout",
    "replay",
    "isolated",
    "regional event",
    "time suspect",
    "sensor fault",
)
"""Position is the bit: `isolated` means no neighbour to compare with, `regional event` a real one, to keep."""

FULL_SCORE: Final = 255
"""A verdict's score as an integer that means 1.0: trust. 0 means: do not use."""


def flag_names(flags: int) -> list[str]:
    """The names of the set bits; a bit without a name is written `bit <n>`."""
    return [
        FLAG_NAMES[bit] if bit < len(FLAG_NAMES) else f"bit {bit}"
        for bit in range(flags.bit_length())
        if flags >> bit & 1
    ]
