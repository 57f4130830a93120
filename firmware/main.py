"""What the board runs after a reset. See nodeboot.py for which application that is."""

import time

import machine
import nodeboot


def main():
    life = nodeboot.start()
    if life.trial != nodeboot.NONE:
        # a new application may hang before it gets to its own watchdog
        machine.WDT(timeout=120_000)
    try:
        from sensornode.node import main
    except Exception as error:
        if nodeboot.failed(life):
            print("%s: %s; the other application starts" % (type(error).__name__, error))
            machine.reset()
        raise
    main(life)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print("%s: %s; starting again in 10 s" % (type(error).__name__, error))
        time.sleep(10)
        machine.reset()
    except KeyboardInterrupt:
        # the prompt is next: what a person asks for there is the state of the node
        from sensornode import show as help  # noqa: F401
