"""TMP105 (SLLS648D), LM75 and BH1750 (Rohm, revision D)."""

from .part import Part


class TMP105(Part):
    """`celsius` is what it measures. With `single` False it is an LM75 of `bits`: no one-shot, no resolution bits."""

    address = 0x48

    def __init__(self, address=None, bits=12, single=True):
        super().__init__(address)
        self.celsius = 21.5
        self.bits = bits
        self.single = single

    def power_up(self):
        self._pointer = 0
        self._configuration = 0
        self._word = 0
        self._done = None

    def receive(self, data):
        self._pointer = data[0] & 3
        if len(data) > 1 and self._pointer == 1:
            value = data[1] if self.single else data[1] & 0x1F
            self._configuration = value & 0x7F
            if value & 0x81 == 0x81:
                self._done = self.now() + (320 >> 3 - (value >> 5 & 3))

    def send(self, count):
        if self._pointer == 1:
            return bytes((self._configuration,)) * count
        bits = 9 + (self._configuration >> 5 & 3) if self.single else self.bits
        if self._done is not None and self.now() >= self._done or not self._configuration & 1:
            self._done = None
            self._word = int(self.celsius * (1 << bits - 8) // 1) << 16 - bits & 0xFFFF
        return bytes((self._word >> 8, self._word & 0xFF))[:count]


class BH1750(Part):
    """`lux` is the light on it."""

    address = 0x23

    def __init__(self, address=None):
        super().__init__(address)
        self.lux = 100.0

    def power_up(self):
        self._on = False
        self._window = 69
        self._count = 0
        self._done = None

    def receive(self, data):
        code = data[0]
        if code == 0x01:
            self._on = True
        elif code >> 3 == 0b01000:
            self._window = self._window & 0x1F | (code & 7) << 5
        elif code >> 5 == 0b011:
            self._window = self._window & 0xE0 | code & 0x1F
        elif code in (0x20, 0x21) and self._on:
            self._mode = code
            self._done = self.now() + 180 * self._window / 69
        else:
            self.nack()

    def send(self, count):
        if self._done is not None and self.now() >= self._done:
            self._done = None
            self._on = False
            scale = 1.2 * self._window / 69 * (2 if self._mode == 0x21 else 1)
            self._count = min(int(self.lux * scale + 0.5), 0xFFFF)
        return bytes((self._count >> 8, self._count & 0xFF))[:count]
