"""The node's configuration, `node.json`. README.md lists every key.

What is loaded on a board lies on the heap. This module is needed for moments only, so nothing that stays refers to it: a
`Config` has no methods.
"""

import json
from binascii import hexlify, unhexlify

_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"

# What a signed configuration may set. Never names, keys, passwords and networks: whoever holds the site's key for a
# day must not be able to keep the node for good, and secrets do not travel in retained messages.
REMOTE = ("interval", "publish", "sensors", "ntp", "sleep")
REMOTE_BROKER = ("host", "port", "keepalive", "retry", "receipt")


_PINS = ("pin", "scl", "sda", "tx", "rx")


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
        value = str(self.take(key, str))
        if not 0 < len(value) <= 32 or value[0] == "-" or any(letter not in _NAME for letter in value):
            self.fail(key, "1 to 32 characters a-z, 0-9 and -, not starting with -")
        return value

    def key(self, key):
        """A public key, 128 hexadecimal digits, or None when it is left out."""
        value = self.take(key, str, "")
        try:
            public = unhexlify(value)
        except ValueError:
            public = b"?"
        if len(public) not in (0, 64):
            self.fail(key, "128 hexadecimal digits")
        return public or None

    def table(self, key, default=None):
        value = self._data.pop(key, default)
        return _Table(self._file, ".".join(part for part in (self._where, key) if part), value)

    def optional(self, key):
        return self._data.pop(key, None)

    def end(self):
        for key in self._data:
            self.fail(key, "left out: there is no such setting")


class Config:
    """Checked settings, see `check`; attributes are named as the keys, those of `broker` with `broker_` before."""

    signed_sensors = False  # True when the table of sensors came by signed configuration

    site: str
    node: str
    kind: str
    hardware: str
    interval: int
    publish: int
    claim: "bytes | None"
    broker_host: str
    broker_ca: str
    broker_port: int
    broker_user: str
    broker_password: str
    broker_keepalive: int
    broker_retry: int
    broker_receipt: int
    wifi: "list[tuple[str, str]]"
    sensors: "list[dict]"
    spool_bytes: int
    spool_segments: int
    ntp: "list[str]"
    watchdog: int
    sleep: bool
    keys_site: "bytes | None"
    keys_release: "bytes | None"
    led_pin: int
    led_low: bool
    button_pin: int


def check(data, file="node.json"):
    """The `Config` of the content of node.json. Raises ConfigError."""
    config = Config()
    top = _Table(file, "", data)
    config.site = top.name("site")
    config.node = top.name("node")
    config.kind = top.text("kind", 1, 64)
    config.hardware = top.text("hardware", 0, 64, "")
    config.interval = top.number("interval", 1, 86_400)
    config.publish = top.number("publish", 1, 86_400, config.interval)
    if config.publish % config.interval:
        top.fail("publish", "a multiple of interval")
    claim = top.optional("claim")
    try:
        config.claim = None if claim is None else unhexlify(claim)
        if claim == "":
            raise ValueError
    except (ValueError, TypeError):
        top.fail("claim", "hexadecimal digits")
    broker = top.table("broker")
    config.broker_host = broker.text("host", 1, 253)
    config.broker_ca = broker.take("ca", str, "")
    config.broker_port = broker.number("port", 1, 65_535, 8883 if config.broker_ca else 1883)
    config.broker_user = broker.take("user", str, config.node)
    config.broker_password = broker.take("password", str, "")
    config.broker_keepalive = broker.number("keepalive", 5, 3600, 60)
    config.broker_retry = broker.number("retry", 1, 3600, 60)
    config.broker_receipt = broker.number("receipt", 1, 600, 10)
    broker.end()
    config.wifi = []
    for index, row in enumerate(top.take("wifi", list, [])):
        network = _Table(file, "wifi[%d]" % index, row)
        config.wifi.append((network.take("ssid", str), network.take("password", str, "")))
        network.end()
    config.sensors = top.take("sensors", list)
    for index, row in enumerate(config.sensors):
        if not isinstance(row, dict) or not isinstance(row.get("driver"), str):
            top.fail("sensors[%d]" % index, "an object that names its driver")
    spool = top.table("spool", {})
    config.spool_bytes = spool.number("bytes", 16_384, 1 << 30, 1 << 20)
    config.spool_segments = spool.number("segments", 2, 256, 32 if config.spool_bytes >= 1 << 18 else 2)
    if config.spool_bytes // config.spool_segments < 8192:
        spool.fail("segments", "at most one for 8192 bytes")
    spool.end()
    config.ntp = top.take("ntp", list, ["pool.ntp.org"])
    if not all(isinstance(host, str) for host in config.ntp):
        top.fail("ntp", "a list of texts")
    config.watchdog = top.number("watchdog", 0, 3600, 120)
    config.sleep = top.take("sleep", bool, False)
    keys = top.table("keys", {})
    config.keys_site = keys.key("site")
    config.keys_release = keys.key("release")
    keys.end()
    led = top.table("led", {})
    config.led_pin = led.number("pin", -1, 48, -1)
    config.led_low = led.take("low", bool, False)
    led.end()
    button = top.table("button", {})
    config.button_pin = button.number("pin", -1, 48, _boot_button(config.sensors, config.led_pin))
    button.end()
    top.optional("sim")  # read by firmware/sim only
    top.end()
    return config


def _boot_button(rows, led):
    """Pin 0, the button BOOT of most boards, or -1 where it is not free: cameras often have their clock there."""
    for row in rows:
        if row["driver"] == "camera" or any(row.get(name) == 0 for name in _PINS):
            return -1
    return 0 if led else -1


def load(path, settings=None, credentials={}):
    """Read and check a file, with the settings of a signed configuration in place of its own, and credentials from NVS
    where it has none. Raises ConfigError."""
    try:
        with open(path) as file:
            data = json.load(file)
    except OSError as error:
        raise ConfigError("%s: cannot be read (%s)" % (path, error))
    except ValueError:
        raise ConfigError("%s: is not JSON" % path)
    data = complete(data, credentials)
    config = check(overlay(data, settings) if settings else data, path)
    config.signed_sensors = bool(settings) and "sensors" in settings
    return config


def complete(data, credentials):
    """The content of node.json with what NVS holds of the secrets: `wifi`, the JSON of the file's list; `mqtt`, JSON with
    `user` and `password`; `claim`, its bytes. What the file has goes before it, the login as one. Raises ConfigError for damaged JSON."""
    if not isinstance(data, dict):
        return data
    data = dict(data)
    try:
        if "wifi" in credentials and "wifi" not in data:
            data["wifi"] = json.loads(credentials["wifi"])
        broker = data.get("broker")
        if "mqtt" in credentials and isinstance(broker, dict):
            login = json.loads(credentials["mqtt"])
            login = {key: login[key] for key in ("user", "password") if key in login}
            if "user" not in broker and "password" not in broker:  # another password is another user's
                login.update(broker)
                data["broker"] = login
    except (ValueError, TypeError):
        raise ConfigError("NVS: the credentials are damaged")
    if "claim" in credentials and "claim" not in data:
        data["claim"] = hexlify(credentials["claim"]).decode()
    return data


def overlay(data, settings):
    """The content of node.json with remote settings in it. Raises ConfigError for one that may not be set remotely."""
    data = dict(data)
    for key, value in settings.items():
        if key == "broker" and isinstance(value, dict):
            broker = dict(data.get("broker", {}))
            for name in value:
                if name not in REMOTE_BROKER:
                    raise ConfigError("a signed configuration must not set broker.%s" % name)
            broker.update(value)
            data["broker"] = broker
        elif key in REMOTE:
            data[key] = value
        else:
            raise ConfigError("a signed configuration must not set %s" % key)
    return data
