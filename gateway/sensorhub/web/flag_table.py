"""The flags of a verdict for people: what each one says, and whether it speaks against the reading."""

from __future__ import annotations

from typing import Any, Final

from sensorhub.flags import Flag, flag_names

MEANINGS: Final = {
    Flag.RANGE: "the value lies outside of what the quantity can be",
    Flag.SPIKE: "it changed faster than the quantity can",
    Flag.STUCK: "it stayed exactly the same for longer than is believable",
    Flag.DRIFT: "it slowly moves away from what its neighbours see",
    Flag.OFFSET: "it stands apart from what its neighbours see",
    Flag.NOISE: "it scatters more than the quantity does",
    Flag.DROPOUT: "it ends a gap in which nothing came",
    Flag.REPLAY: "it repeats an earlier stretch of the same series",
    Flag.ISOLATED: "there was no neighbour to compare it with",
    Flag.REGIONAL: "neighbours saw the same: unusual, but real",
    Flag.TIME: "its time is not to be relied on",
    Flag.SENSOR: "the node itself reported a fault of its sensor",
    Flag.BLOCKED: "something is before the camera",
    Flag.FOGGED: "the lens is fogged, dirty or out of focus, and it is not the weather",
    Flag.MOVED: "the camera was turned within the last day: it shows another scene",
    Flag.OVEREXPOSED: "much of the picture is white",
}

#: These say something of the surroundings, not that the reading is wrong.
HARMLESS: Final = Flag.ISOLATED | Flag.REGIONAL


def flag_table() -> list[dict[str, Any]]:
    """Each flag: bit (its number), name, meaning, fault (whether it speaks against the reading)."""
    return [
        {
            "bit": flag.bit_length() - 1,
            "name": flag_names(flag)[0],
            "meaning": MEANINGS[flag],
            "fault": not flag & HARMLESS,
        }
        for flag in Flag
    ]
