"""The node's configuration, `node.json`. README.md lists every key."""

import json
from binascii import unhexlify

_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"


class ConfigError(Exception):
    """Raised when node.json has a wrong or missing value; the text names file and key, never a secret."""


class _Table:
    """One JSON object of the file: hands out its keys checked, and complains about those nobody asked for."""

    def __init__(self, file, where, data):
        self._file = file
        self._where = where
        if not isinstance(data, dict):
            self.fail("", "an object")
        self._data = dict(data)

    def fail(self, key, wanted):
        where = ".".join(part for part in (self._where, key) if part) or "the whole file"
        raise ConfigError("%s: %s must be %s" % (self._file, where, wanted))

    def take(self, key, kind, default=None):
        """The value of a key; without a default the key must be there."""
        value = self._data.pop(key, default)
        if isinstance(value, bool) and kind is not bool or not isinstance(value, kind):
            self.fail(key, {str: "text", int: "a whole number", bool: "true or false", list: "a list"}[kind])
        return value

    def number(self, key, low, high, default=None):
        value = self.take(key, int, default)
        if not low <= value <= high:
            self.fail(key, "from %d to %d" % (low, high))
        return value

    def text(self, key, shortest, longest, default=None):
        value = self.take(key, str, default)
        if not shortest <= len(value) <= longest:
            self.fail(key, "text of %d to %d characters" % (shortest, longest))
        return value

    def name(self, key):
        value = self.take(key, str)
        if not 0 < len(value) <= 32 or value[0] == "-" or any(letter not in _NAME for letter in value):
            self.fail(key, "1 to 32 characters a-z, 0-9 and -, not starting with -")
        return value

    def table(self, key, default=None):
        value = self._data.pop(key, default)
        return _Table(self._file, ".".join(part for part in (self._where, key) if part), value)

    def optional(self, key):
        return self._data.pop(key, None)

    def end(self):
        for key in self._data:
            self.fail(key, "left out: there is no such setting")


class Config:
    """Checked settings; attributes are named as the keys, those of `broker` with `broker_` before."""

    def __init__(self, data, file="node.json"):
        top = _Table(file, "", data)
        self.site = top.name("site")
        self.node = top.name("node")
        self.kind = top.text("kind", 1, 64)
        self.hardware = top.text("hardware", 0, 64, "")
        self.interval = top.number("interval", 1, 86_400)
        self.publish = top.number("publish", 1, 86_400, self.interval)
        if self.publish % self.interval:
            top.fail("publish", "a multiple of interval")
        claim = top.optional("claim")
        try:
            self.claim = None if claim is None else unhexlify(claim)
            if claim == "":
                raise ValueError
        except (ValueError, TypeError):
            top.fail("claim", "hexadecimal digits")
        broker = top.table("broker")
        self.broker_host = broker.text("host", 1, 253)
        self.broker_port = broker.number("port", 1, 65_535, 1883)
        self.broker_user = broker.take("user", str, self.node)
        self.broker_password = broker.take("password", str, "")
        self.broker_keepalive = broker.number("keepalive", 5, 3600, 60)
        self.broker_retry = broker.number("retry", 1, 3600, 60)
        self.broker_receipt = broker.number("receipt", 1, 600, 10)
        broker.end()
        self.wifi = []
        for index, row in enumerate(top.take("wifi", list, [])):
            network = _Table(file, "wifi[%d]" % index, row)
            self.wifi.append((network.take("ssid", str), network.take("password", str, "")))
            network.end()
        self.sensors = top.take("sensors", list)
        for index, row in enumerate(self.sensors):
            if not isinstance(row, dict) or not isinstance(row.get("driver"), str):
                top.fail("sensors[%d]" % index, "an object that names its driver")
        spool = top.table("spool", {})
        self.spool_bytes = spool.number("bytes", 16_384, 1 << 30, 1 << 20)
        self.spool_segments = spool.number("segments", 2, 256, 32 if self.spool_bytes >= 1 << 18 else 2)
        if self.spool_bytes // self.spool_segments < 8192:
            spool.fail("segments", "at most one for 8192 bytes")
        spool.end()
        self.ntp = top.take("ntp", list, ["pool.ntp.org"])
        self.watchdog = top.number("watchdog", 0, 3600, 0)
        top.optional("sim")  # read by firmware/sim only
        top.end()

    @classmethod
    def load(cls, path):
        """Read and check a file. Raises ConfigError."""
        try:
            with open(path) as file:
                return cls(json.load(file), path)
        except OSError as error:
            raise ConfigError("%s: cannot be read (%s)" % (path, error))
        except ValueError:
            raise ConfigError("%s: is not JSON" % path)
