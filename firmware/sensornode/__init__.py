"""Firmware of a sensorhub node."""

__version__ = "0.1.0"

running = []  # the application, for `show`


def show():
    """Print the state of the node: on the prompt, `sensornode.show()` or `help()`. It holds no secret."""
    if not running:
        print("no application is running")
    for app in running:
        for name, value in sorted(app.status().items()):
            print("%-14s %s" % (name, value))
