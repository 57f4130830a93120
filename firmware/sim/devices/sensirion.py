"""SHT4x, SPS30, SEN5x, SCD4x and SGP41, after their datasheets."""

from struct import pack, unpack

from .part import CommandPart


def ascii_words(text, count):
    data = text.encode() + bytes(2 * count - len(text))
    return list(unpack(">%dH" % count, data))


class SHT4x(CommandPart):
    address = 0x44

    def __init__(self, address=None):
        super().__init__(address)
        self.celsius = 21.5
        self.percent = 40.0
        self.serial = (0x0F12, 0x3456)

    def receive(self, data):
        if self.now() < self._busy_until:
            self.nack()
        if data == b"\xfd":
            words = [
                int((self.celsius + 45) * 65_535 / 175 + 0.5),
                int((self.percent + 6) * 65_535 / 125 + 0.5),
            ]
            self._words, took = words, 8.3
        elif data == b"\x89":
            self._words, took = self.serial, 0.5
        else:
            self.nack()
        self._busy_until = self.now() + took


class SPS30(CommandPart):
    address = 0x69
    hertz = 100_000

    def __init__(self):
        super().__init__()
        self.mass = [1.5, 3.25, 4.0, 4.5]
        self.status = 0
        self.product = "00080000"
        self.version = 0x0202

    def power_up(self):
        super().power_up()
        self.measuring = False
        self._next = 0

    def obey(self, code, arguments):
        if code == 0xD002:
            return 0, ascii_words(self.product, 4)
        if code == 0xD304:
            self.power_up()
            return 100, None
        if code == 0xD100:
            return 0, [self.version]
        if code == 0xD206 and self.version >= 0x0202:
            return 0, [self.status >> 16, self.status & 0xFFFF]
        if code == 0x0010 and arguments == [0x0300] and not self.measuring:
            self.measuring = True
            self._next = self.now() + 1000
            return 20, None
        if code == 0x0202:
            return 0, [int(self.measuring and self.now() >= self._next)]
        if code == 0x0300 and self.measuring:
            self._next = self.now() + 1000
            data = pack(">10f", *(self.mass + [0.0] * 6))
            return 0, list(unpack(">20H", data))
        return None


class SEN5x(CommandPart):
    """`values` are PM1 to PM10 (0.1 ug/m3), humidity (0.01 %), temperature (1/200 degree), VOC, NOx index (0.1)."""

    address = 0x69
    hertz = 100_000

    def __init__(self, product="SEN55"):
        super().__init__()
        self.product = product
        self.status = 0
        self.values = [15, 32, 40, 45, 4567, 4300, 1000, 10]
        self.raw = [4500, 4400, 30_000, 15_000]

    def power_up(self):
        super().power_up()
        self.measuring = False
        self._next = 0

    def obey(self, code, arguments):
        if code == 0xD014:
            return 50, ascii_words(self.product, 16)
        if code == 0xD304:
            self.power_up()
            return 100, None
        if code == 0xD206:
            return 20, [self.status >> 16, self.status & 0xFFFF]
        if code == 0x0021:
            self.measuring = True
            self._next = self.now() + 1000
            return 50, None
        if code == 0x0202:
            return 20, [int(self.measuring and self.now() >= self._next)]
        if code == 0x03C4 and self.measuring:
            self._next = self.now() + 1000
            return 20, self.values
        if code == 0x03D2 and self.measuring:
            return 20, self.raw
        return None


class SCD4x(CommandPart):
    address = 0x62
    hertz = 400_000

    def __init__(self):
        super().__init__()
        self.co2 = 612
        self.celsius = 25.0
        self.percent = 37.0
        self.serial = (0xF896, 0x9F07, 0x3BBE)

    def power_up(self):
        super().power_up()
        self.period = None
        self.pressure = None
        self.altitude = 0
        self._next = 0

    def obey(self, code, arguments):
        if code == 0x3F86:
            self.period = None
            return 500, None
        if code == 0xE4B8:
            return 1, [0x8006 if self.period and self.now() >= self._next else 0x8000]
        if code == 0xEC05:
            if not self.period or self.now() < self._next:
                return None
            self._next += (self.now() - self._next) // self.period * self.period + self.period
            t = int((self.celsius + 45) * 65_535 / 175 + 0.5)
            return 1, [self.co2, t, int(self.percent * 65_535 / 100 + 0.5)]
        if code == 0xE000 and len(arguments) == 1:
            self.pressure = arguments[0]
            return 1, None
        if self.period:
            return None  # it hears nothing else while it measures
        if code in (0x21B1, 0x21AC):
            self.period = 5000 if code == 0x21B1 else 30_000
            self._next = self.now() + self.period
            return 0, None
        if code == 0x3682:
            return 1, self.serial
        if code == 0x2427 and len(arguments) == 1:
            self.altitude = arguments[0]
            return 1, None
        return None


class SGP41(CommandPart):
    """`conditioned_ms` is how long the NOx pixel was conditioned; more than 10 s would damage it."""

    address = 0x59

    def __init__(self):
        super().__init__()
        self.voc = 31_000
        self.nox = 16_000
        self.test = 0xD400
        self.conditioned_ms = 0
        self.air = None

    def power_up(self):
        super().power_up()
        self.heated = False
        self._conditioning = None

    def _end(self):
        if self._conditioning is not None:
            self.conditioned_ms = max(self.conditioned_ms, self.now() - self._conditioning)
            self._conditioning = None

    def obey(self, code, arguments):
        if code == 0x3682:
            return 0.5, [0, 0x0123, 0x4567]
        if code == 0x280E:
            self._end()
            return 320, [self.test]
        if code == 0x3615:
            self._end()
            self.heated = False
            return 1, None
        if code == 0x2612 and arguments != [0x8000, 0x6666]:
            return None
        if code in (0x2612, 0x2619) and len(arguments) == 2:
            self.air = arguments
            self.heated = True
            if code == 0x2612:
                if self._conditioning is None:
                    self._conditioning = self.now()
                return 50, [self.voc]
            self._end()
            return 50, [self.voc, self.nox]
        return None
