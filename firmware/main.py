"""What the board runs after a reset."""

import asyncio
import time

import machine
from sensornode.app import App
from sensornode.config import Config


def main():
    app = App(Config.load("node.json"))
    asyncio.run(app.run())


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print("%s: %s; starting again in 10 s" % (type(error).__name__, error))
        time.sleep(10)
        machine.reset()
