"""What others sign for the node: configuration by the site's key, updates by the release key. README.md has the maps.

Here is what an order may say, and the configuration that was kept; inbox.py takes orders from the link. What is loaded on a
board lies on the heap, and this module is needed for moments only: nothing that stays refers to it.
"""

import os
from binascii import crc32

from . import cbor
from .inbox import MAX_ORDER

CONFIG = "application/sensorhub-config+cbor"
UPDATE = "application/sensorhub-update+cbor"
_MOST = (1 << 31) - 1
_PREFIX = "config-"


def version_number(text):
    """A version "1.2.3", three numbers below 1024, as one that can be compared. Raises ValueError."""
    parts = text.split(".")
    number = 0
    for part in parts:
        if (
            not part
            or any(letter not in "0123456789" for letter in part)
            or len(part) > 4
            or int(part) > 1023
        ):
            raise ValueError("version " + text)
        number = number << 10 | int(part)
    if len(parts) != 3:
        raise ValueError("version " + text)
    return number


def _fields(payload, kinds):
    """The values of a map that has exactly the keys 0, 1, 2 ... and values of these types."""
    content = cbor.decode(payload)
    if not isinstance(content, dict) or sorted(map(repr, content)) != sorted(map(repr, range(len(kinds)))):
        raise ValueError("not the fields of this order")
    values = []
    for key, kind in enumerate(kinds):
        value = content[key]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ValueError("field %d has the wrong type" % key)
        values.append(value)
    return values


def _addressed(name, site, node, all_sites):
    names = ["urn:dev:sensorhub:%s:%s:" % (site, who) for who in (node, "*")]
    if all_sites:
        names.append("urn:dev:sensorhub:*:*:")
    if name not in names:
        raise ValueError("for another node")


def _number(value):
    if not 0 < value <= _MOST:
        raise ValueError("number out of range")
    return value


_TIME = int, type(None)  # Unix seconds or none


class ConfigOrder:
    """A configuration: version, the firmware it needs at least (as a number), settings, and the Unix time until which it may
    begin (None for ever). ValueError when it is none."""

    def __init__(self, payload, site, node):
        name, version, firmware, settings, self.expires = _fields(payload, (str, int, str, dict, _TIME))
        _addressed(name, site, node, False)
        self.version = _number(version)
        self.firmware = version_number(firmware)
        self.settings = settings
        if not all(isinstance(key, str) for key in settings):
            raise ValueError("settings have names")


class UpdateOrder:
    """A manifest of an application image. ValueError when it is none.

    Attributes: `sequence`, `version` and `minimum` (as numbers), `form` ("files" or "app"), `size`, `sha256`, `url`,
    `board` (None for any), `expires` (Unix time until which it may begin, None for ever).
    """

    def __init__(self, payload, site, node):
        kinds = (str, int, str, str, str, int, bytes, str, (str, type(None)), _TIME)
        name, sequence, version, minimum, form, size, sha256, url, board, self.expires = _fields(
            payload, kinds
        )
        _addressed(name, site, node, True)
        self.sequence = _number(sequence)
        self.version = version_number(version)
        self.minimum = version_number(minimum)
        self.form = form
        self.size = _number(size)
        self.sha256 = sha256
        self.url = url
        self.board = board
        if form not in ("files", "app") or len(sha256) != 32 or self.version < self.minimum:
            raise ValueError("manifest is not consistent")
        if not url.startswith(("http://", "https://")) or any(not " " < letter < "\x7f" for letter in url):
            raise ValueError("url is none")


def stored(root, life, site, node):
    """Settings of the configuration in effect, or None: what cannot be read does not count."""
    version = life.config_trial or life.config
    if not version:
        return None
    try:
        return _read(root, version, site, node).settings
    except (OSError, ValueError):
        return None


def _read(root, version, site, node):
    with open("%s/%s%d" % (root, _PREFIX, version), "rb") as file:
        data = file.read(MAX_ORDER + 5)
    if crc32(data[4:]) != int.from_bytes(data[:4], "big"):
        raise ValueError("damaged")
    order = ConfigOrder(data[4:], site, node)
    if order.version != version:
        raise ValueError("another version")
    return order


def load(path, root, life, credentials={}):
    """The node's `Config` with the remote configuration in effect. Raises ConfigError when node.json itself is wrong."""
    from .config import ConfigError
    from .config import load as load_file

    plain = load_file(path, None, credentials)
    settings = stored(root, life, plain.site, plain.node)
    if settings is None:
        return plain
    try:
        return load_file(path, settings, credentials)
    except (ConfigError, TypeError):
        return plain


def keep(path, root, order, payload, site, node):
    """Write a configuration to flash, when it makes one together with node.json. ValueError, ConfigError or OSError when not."""
    from .config import load as load_file

    load_file(path, order.settings)
    with open("%s/%s%d" % (root, _PREFIX, order.version), "wb") as file:
        file.write(crc32(payload).to_bytes(4, "big") + payload)
    _read(root, order.version, site, node)


def clean(root, life):
    """Remove files of configurations that are neither in effect nor on trial."""
    keep = [_PREFIX + str(version) for version in (life.config, life.config_trial)]
    for name in os.listdir(root or "/"):
        if name.startswith(_PREFIX) and name not in keep:
            os.remove(root + "/" + name)
