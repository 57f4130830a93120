"""The way back to set-up for whoever stands before the node: a button held for 5 s, or without one the power
switched on five times in a row, each time for less than 10 s. Key, numbers and spool are kept.
"""

import asyncio

HOLD_S = 5
LOOK_S = 0.2
STARTS = 5  # power-ons in a row; also what the note in NVS says when the button was held
QUICK_S = 10  # a node that ran for longer was not switched off to be set up

_NOTE = "setup"


def asked(nvs, powered, pin):
    """At a start: whether somebody wants to set the node up. `powered`: the power has come; `pin`: of the button, -1 for none."""
    count = nvs.get_int(_NOTE, 0)
    wanted = count >= STARTS
    following = count + 1 if powered and pin < 0 and not wanted else 0
    if following >= STARTS:
        wanted, following = True, 0
    _note(nvs, following)
    return wanted


def _note(nvs, count):
    if nvs.get_int(_NOTE, 0) != count:
        nvs.set_int(_NOTE, count)
        nvs.commit()


async def watch(nvs, pressed, restart):
    """Wait for the button, for ever.

    :param pressed: function that tells whether it is held; None without a button.
    :param restart: called with a reason when it was held for long enough.
    """
    if not pressed:
        await asyncio.sleep(QUICK_S)
        _note(nvs, 0)
        while True:
            await asyncio.sleep(3600)
    held = HOLD_S  # until it was seen released: what is always low is no button
    while True:
        if not pressed():
            held = 0
        elif held < HOLD_S:
            held += LOOK_S
            if held >= HOLD_S:
                _note(nvs, STARTS)
                restart("the button was held: set-up is next")
        await asyncio.sleep(LOOK_S)
