"""What the LED says, in patterns of (milliseconds on, milliseconds off, ...), repeated. README.md has the table."""

import asyncio

_GAP = 1500


def _blinks(count):
    return (120, 200) * (count - 1) + (120, _GAP)


PATTERNS = {
    "setup": (1000, 1000),
    "safe": (100, 100),
    "joining": _blinks(1),
    "dating": _blinks(2),
    "connecting": _blinks(3),
    "waiting": _blinks(3),
    "announcing": _blinks(4),
    "online": (30, 5000),
    "undated": (30, 400, 30, 5000),
}


async def show(light, stage):
    """Drive a LED for ever.

    :param light: called with True for on and False for off.
    :param stage: function that names the pattern.
    """
    on = True
    try:
        while True:
            name = stage()
            for ms in PATTERNS.get(name, PATTERNS["online"]):
                light(on)
                on = not on
                await asyncio.sleep(ms / 1000)
                if stage() != name:
                    break
            on = True
    finally:
        light(False)
