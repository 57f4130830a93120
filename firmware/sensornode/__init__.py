"""Firmware of a sensorhub node."""

import sys

__version__ = "0.1.0"

running = []  # the application, for `show`


def show():
    """Print the state of the node: on the prompt, `sensornode.show()` or `help()`. It holds no secret."""
    if not running:
        print("no application is running")
    for app in running:
        for name, value in sorted(app.status().items()):
            print("%-14s %s" % (name, value))


def forget(*names):
    """Let go of modules of this package that are needed only now and then: on a board their code lies on the heap.

    It is free once nothing else refers to it; the next import loads them again.
    """
    package = sys.modules[__name__]
    for name in names:
        # one that failed half way through its import may be in the list of modules without being in the package
        if sys.modules.pop(__name__ + "." + name, None) and hasattr(package, name):
            delattr(package, name)
