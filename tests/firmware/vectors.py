"""The test vectors that gateway and firmware share, for firmware tests."""

import json
import os
from binascii import unhexlify


def load(name):
    """The content of one file of tests/vectors."""
    with open(os.getenv("VECTORS") + "/" + name) as file:
        return json.load(file)


def plain(value):
    """A Python value from its JSON form, where bytes are {"hex": ...} and maps {"map": [[key, value], ...]}."""
    if isinstance(value, dict):
        if "hex" in value:
            return unhexlify(value["hex"])
        return {plain(key): plain(item) for key, item in value["map"]}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
