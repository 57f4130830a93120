"""The way back to set-up for whoever stands before the node: a button held for 5 s, or without one the power
switched on five times in a row, each time for less than 10 s. Key, numbers and spool are kept.

The application looks at the button itself (`app.App`); this is loaded when there is something to note.
"""

STARTS = 5  # power-ons in a row; also what the note in NVS says when the button was held

_NOTE = "setup"


def asked(nvs, powered, pin):
    """At a start: whether somebody wants to set the node up. `powered`: the power has come; `pin`: of the button, -1 for none."""
    count = nvs.get_int(_NOTE, 0)
    wanted = count >= STARTS
    following = count + 1 if powered and pin < 0 and not wanted else 0
    if following >= STARTS:
        wanted, following = True, 0
    note(nvs, following)
    return wanted


def note(nvs, count):
    """Write down how often the power has come in a row; STARTS opens set-up at the next start."""
    if nvs.get_int(_NOTE, 0) != count:
        nvs.set_int(_NOTE, count)
        nvs.commit()
