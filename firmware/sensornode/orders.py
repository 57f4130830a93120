"""What others sign for the node: configuration by the site's key, updates by the release key. README.md has the maps.

Each comes retained on a topic of the node and again at every connect, is at most MAX_ORDER bytes, and is checked
in full before anything of it counts: signature, name, number, content. What is wrong in any way changes nothing but
`refused`. Orders are looked at only while the gateway answers, so nothing new begins before the last has passed.
"""

import asyncio
import os
from binascii import crc32

from . import cbor, cose
from .config import Config, ConfigError

CONFIG = "application/sensorhub-config+cbor"
UPDATE = "application/sensorhub-update+cbor"
MAX_ORDER = 2048
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
    plain = Config.load(path, None, credentials)
    settings = stored(root, life, plain.site, plain.node)
    if settings is None:
        return plain
    try:
        return Config.load(path, settings, credentials)
    except (ConfigError, TypeError):
        return plain


class Orders:
    """Takes orders from the link and carries them out.

    :param config: the node's `Config`; `path` its file, `root` the directory of the flash.
    :param life: the record of `nodeboot`.
    :param firmware: the running version, as a number.
    :param ready: async function that returns when the gateway has answered.
    :param restart: called with a reason when the node has to start again.
    :param update: async function (order) that installs an update, or raises OSError or ValueError.
    :param now: function that gives the Unix time in seconds, or None while the clock is not synchronised.

    Attributes: `refused` (why the last order counted for nothing), `handled` (orders looked at).
    """

    def __init__(self, config, path, root, life, firmware, ready, restart, update, now):
        self._config = config
        self._path = path
        self._root = root
        self._life = life
        self._firmware = firmware
        self._ready = ready
        self._restart = restart
        self._update = update
        self._now = now
        self._waiting = {}
        self._wake = asyncio.Event()
        self._keys = {}
        self._handling = False
        self.refused = ""
        self.handled = 0

    @property
    def busy(self):
        """True while an order waits or is carried out."""
        return bool(self._waiting) or self._handling

    def take(self, leaf, payload):
        """An order has come; the newest on a topic replaces the one before."""
        if 0 < len(payload) <= MAX_ORDER:
            self._waiting[leaf] = bytes(payload)
            self._wake.set()

    async def run(self):
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._ready()
            for leaf in ("config", "update"):
                message = self._waiting.pop(leaf, None)
                if message and not self._life.on_trial:
                    await self._handle(leaf, message)

    async def _handle(self, leaf, message):
        self._handling = True
        try:
            if leaf == "config":
                payload = await self._open(message, self._config.keys_site, CONFIG)
                self._configure(ConfigOrder(payload, self._config.site, self._config.node), payload)
            else:
                payload = await self._open(message, self._config.keys_release, UPDATE)
                await self._install(UpdateOrder(payload, self._config.site, self._config.node))
        except Exception as error:
            # whatever it is that an order breaks, the node goes on as before
            self.refused = "%s: %s" % (leaf, error or type(error).__name__)
        finally:
            self._handling = False
        self.handled += 1

    async def _open(self, message, public, content_type):
        if not public:
            raise ValueError("no key is configured")
        key = self._keys.get(content_type)
        if not key:
            from .verify import VerifyingKey

            key = self._keys[content_type] = VerifyingKey(public)
        return await cose.open_order(key, message, content_type)

    def _in_time(self, order):
        """Refuse an order that was withheld for too long; a node that does not know the time cannot tell."""
        now = self._now()
        if now is not None and order.expires is not None and now > order.expires:
            raise ValueError("has expired")

    def _configure(self, order, payload):
        life = self._life
        if not life.takes_config(order.version):
            return  # the one in effect, come again, or older
        self._in_time(order)
        if order.firmware > self._firmware:
            raise ValueError("needs newer firmware")
        Config.load(self._path, order.settings)
        name = "%s/%s%d" % (self._root, _PREFIX, order.version)
        with open(name, "wb") as file:
            file.write(crc32(payload).to_bytes(4, "big") + payload)
        _read(self._root, order.version, self._config.site, self._config.node)
        life.begin_config(order.version)
        self.clean()
        self._restart("configuration %d" % order.version)

    async def _install(self, order):
        life = self._life
        if not life.takes_update(order.sequence):
            return
        self._in_time(order)
        if order.version < life.minimum:
            raise ValueError("below the minimum version")
        if order.version == self._firmware:
            return
        await self._update(order)

    def clean(self):
        """Remove files of configurations that are neither in effect nor on trial."""
        keep = [_PREFIX + str(version) for version in (self._life.config, self._life.config_trial)]
        for name in os.listdir(self._root or "/"):
            if name.startswith(_PREFIX) and name not in keep:
                os.remove(self._root + "/" + name)
