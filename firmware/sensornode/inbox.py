"""Takes signed orders from the link and carries them out; orders.py says what they may hold.

Each comes retained on a topic of the node and again at every connect, is at most MAX_ORDER bytes, and is checked
in full before anything of it counts: signature, name, number, content. What is wrong in any way changes nothing but
`refused`. Orders are looked at only while the gateway answers, so nothing new begins before the last has passed.

This much stays on the heap. What an order needs is loaded for it, and let go of afterwards.
"""

import asyncio

from . import cose, forget

MAX_ORDER = 2048
TOLD = 100  # characters of a reason


class Orders:
    """The orders of one node.

    :param config: the node's `Config`; `path` its file, `root` the directory of the flash.
    :param life: the record of `nodeboot`.
    :param firmware: the running version, as a number.
    :param ready: async function that returns when the gateway has answered.
    :param restart: called with a reason when the node has to start again.
    :param update: async function (order) that installs an update, or raises OSError or ValueError.
    :param now: function that gives the Unix time in seconds, or None while the clock is not synchronised.
    :param tell: called with the reason when an order counts for nothing.

    Attributes: `refused` (why the last order counted for nothing), `handled` (orders looked at).
    """

    def __init__(self, config, path, root, life, firmware, ready, restart, update, now, tell=None):
        self._config = config
        self._path = path
        self._root = root
        self._life = life
        self._firmware = firmware
        self._ready = ready
        self._restart = restart
        self._update = update
        self._now = now
        self._tell = tell
        self._waiting = {}
        self._wake = asyncio.Event()
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
        config = self._config
        try:
            if leaf == "config":
                payload = await self._open(message, config.keys_site, leaf)
                from .orders import ConfigOrder

                self._configure(ConfigOrder(payload, config.site, config.node), payload)
            else:
                payload = await self._open(message, config.keys_release, leaf)
                from .orders import UpdateOrder

                await self._install(UpdateOrder(payload, config.site, config.node))
        except Exception as error:
            # whatever it is that an order breaks, the node goes on as before
            self.refused = ("%s: %s" % (leaf, error or type(error).__name__))[:TOLD]
            if self._tell:
                self._tell(self.refused)
        finally:
            self._handling = False
            forget("verify", "orders", "config", "updates", "http")
        self.handled += 1

    async def _open(self, message, public, leaf):
        if not public:
            raise ValueError("no key is configured")
        from .verify import VerifyingKey

        payload = await cose.open_order(VerifyingKey(public), message, "application/sensorhub-%s+cbor" % leaf)
        forget("verify")
        return payload

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
        from .orders import clean, keep

        keep(self._path, self._root, order, payload, self._config.site, self._config.node)
        life.begin_config(order.version)
        self._restart("configuration %d" % order.version)
        clean(self._root, life)

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
