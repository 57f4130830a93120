"""What the drivers of real parts have in common."""


class SensorError(OSError):
    """Raised when a part does not answer, answers damaged, or says what cannot be.

    Attributes: `sensor` (driver), `place` (bus, pins and address), `what`.
    """

    def __init__(self, sensor, place, what):
        super().__init__("%s at %s: %s" % (sensor, place, what))
        self.sensor = sensor
        self.place = place
        self.what = what


class Row:
    """One row of the sensor table: hands out its keys checked, and complains about those nobody asked for.

    All methods raise ValueError, which names the key. A default of None means that the key must be there.
    """

    def __init__(self, options):
        self.options = options
        self._left = dict(options)
        self.driver = self._left.pop("driver")
        self._left.pop("channels", None)  # the application's: which channels to take

    def fail(self, key, wanted):
        raise ValueError("%s must be %s" % (key, wanted))

    def take(self, key, default=None):
        value = self._left.pop(key, default)
        if value is None:
            raise ValueError("%s is missing" % key)
        return value

    def number(self, key, low, high, default=None):
        value = self.take(key, default)
        wrong = isinstance(value, bool) or not isinstance(value, (int, float))
        if wrong or value != default and not low <= value <= high:
            self.fail(key, "a number from %s to %s" % (low, high))
        return value

    def whole(self, key, low, high, default=None):
        value = self.number(key, low, high, default)
        if not isinstance(value, int):
            self.fail(key, "a whole number")
        return value

    def flag(self, key, default):
        value = self.take(key, default)
        if not isinstance(value, bool):
            self.fail(key, "true or false")
        return value

    def choice(self, key, choices, default=None):
        value = self.take(key, default)
        if value not in choices:
            self.fail(key, "one of " + ", ".join([str(choice) for choice in choices]))
        return value

    def address(self, possible):
        """An I2C address as a number or as text, "0x76"; the first possible one when the row has none."""
        value = self._left.pop("address", possible[0])
        if isinstance(value, str):
            try:
                value = int(value, 16)
            except ValueError:
                pass
        if value not in possible:
            self.fail("address", "one of " + ", ".join(["0x%02x" % address for address in possible]))
        return value

    def end(self):
        for key in self._left:
            raise ValueError("%s has no meaning for %s" % (key, self.driver))


class Part:
    """A part that is started before its first measurement, and again after whatever went wrong: it may have lost its
    settings together with its power.

    A driver has `channels`, `limits` {channel: (low, high)}: what the part can say at all, `async start()`, which probes
    and configures the part, and `async measure()`, which gives {channel: value}. Both raise OSError; `self.error(what)`
    makes one that names part and place.
    """

    channels: "tuple[tuple[str, str], ...]" = ()
    limits: "dict[str, tuple[float, float]]" = {}

    def __init__(self, options, services):
        self.row = Row(options)
        self.services = services
        self.clock = services.clock
        self.place = "its pins"
        self._started = False

    def error(self, what):
        return SensorError(self.row.driver, self.place, what)

    async def start(self):
        """Probe and configure the part."""

    async def measure(self):
        """Values of the channels that have one."""
        return {}

    async def read(self):
        """{channel: value}. Raises SensorError."""
        try:
            if not self._started:
                await self.start()
                self._started = True
            values = await self.measure()
            for channel, _ in self.channels:
                if channel not in values:
                    continue
                low, high = self.limits[channel]
                if not low <= values[channel] <= high:  # also when it is not a number
                    text = "%s is %s; it can be %s to %s" % (channel, values[channel], low, high)
                    raise self.error(text)
            return values
        except SensorError:
            self._started = False
            raise
        except OSError as error:
            self._started = False
            raise self.error("no answer (%s)" % error)

    def latest(self, channel):
        """The newest value that any sensor of the node gave for a channel, or None."""
        ask = getattr(self.services, "latest", None)
        return ask(channel) if ask else None

    def close(self):
        """Leave the part as one wants to find it, and end what runs beside the reads."""
