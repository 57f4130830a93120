"""From the boot code to the running application."""

import asyncio

from . import board, forget, running
from .app import App


def main(life, root="", path="node.json"):
    """Run the node until it wants to start again, then reset. A node that knows no network, or is asked to, sets itself up
    first."""
    config = _load(path, root, life)
    ready = bool(config and config.wifi)
    if config and ready and not _asked(config.button_pin):
        app = App(config, directory=root, life=life, path=path)
        running.append(app)
        forget("orders", "config", "button")
        asyncio.run(app.run())
        if app.sleep_ms:
            board.deep_sleep(app.sleep_ms)
    else:
        from .setup import run

        asyncio.run(run(path, 600 if ready else 0))
    board.reset()


def _load(path, root, life):
    from .config import ConfigError
    from .orders import load

    try:
        return load(path, root, life, board.credentials())
    except ConfigError as error:
        print(error)
        return None


def _asked(pin):
    from .button import asked

    return asked(board.Nvs(), board.powered(), pin)
