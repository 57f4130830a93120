"""What the parts have in common, and the faults that any of them can have."""

import errno


class Part:
    """A part on an I2C bus.

    Faults: `plugged` False takes it off the bus; `flip` lets that many of the next answers come with a bit turned over,
    after `good` that are right.
    `power_up()` is what a brown-out comes to.
    """

    address = 0
    hertz = 400_000

    def __init__(self, address=None):
        if address is not None:
            self.address = address
        self.clock = None
        self.plugged = True
        self.flip = 0
        self.good = 0
        self.heard = []  # what was written last

    def power_up(self):
        """Back to how it leaves the power-up."""

    def now(self):
        return self.clock.uptime_ms()

    def nack(self):
        raise OSError(errno.ENODEV, "ENODEV")

    def write(self, data):
        self.heard.append(data)
        if len(self.heard) > 200:
            self.heard = self.heard[100:]
        self.receive(data)

    def receive(self, data):
        """Take a transfer; `nack()` refuses it."""

    def answer(self, count):
        said = bytearray(self.send(count))
        if self.good:
            self.good -= 1
        elif self.flip:
            self.flip -= 1
            said[0] ^= 0x04
        return said

    def send(self, count):
        """Give `count` bytes; `nack()` refuses."""
        raise NotImplementedError


class RegisterPart(Part):
    """A part with registers of a byte behind a pointer that moves on."""

    def __init__(self, address=None):
        super().__init__(address)
        self.registers = bytearray(256)
        self._pointer = 0

    def receive(self, data):
        self._pointer = data[0]
        for index in range(1, len(data), 2):  # Bosch: register and value in turn
            self.store(data[index - 1], data[index])

    def store(self, register, value):
        self.registers[register] = value

    def load(self, register):
        return self.registers[register]

    def send(self, count):
        said = bytes([self.load((self._pointer + index) & 0xFF) for index in range(count)])
        self._pointer = (self._pointer + count) & 0xFF
        return said


# the check byte of 0xBEEF is 0x92; worked out bit by bit as in the datasheets, apart from the drivers' own
def check_byte(word):
    crc = 0xFF
    for byte in (word >> 8, word & 0xFF):
        crc ^= byte
        for _ in range(8):
            crc <<= 1
            if crc & 0x100:
                crc = (crc ^ 0x31) & 0xFF
    return crc


def checked(words):
    """Words as they go over the wire."""
    said = bytearray()
    for word in words:
        said.extend(bytes((word >> 8, word & 0xFF, check_byte(word))))
    return bytes(said)


class CommandPart(Part):
    """A part of Sensirion: commands, an answer after the time the command takes, and no hearing until then."""

    def __init__(self, address=None):
        super().__init__(address)
        self._busy_until = 0
        self._words = None

    def power_up(self):
        self._busy_until = 0
        self._words = None

    def receive(self, data):
        if self.now() < self._busy_until:
            self.nack()
        code = data[0] << 8 | data[1]
        arguments = []
        for at in range(2, len(data), 3):
            word = data[at] << 8 | data[at + 1]
            if data[at + 2] != check_byte(word):
                self.nack()
            arguments.append(word)
        self._words = None
        took = self.obey(code, arguments)
        if took is None:
            self.nack()
        milliseconds, self._words = took
        self._busy_until = self.now() + milliseconds

    def obey(self, code, arguments):
        """(milliseconds, words of the answer), or None for a command it does not have or does not take now."""

    def send(self, count):
        if self._words is None or self.now() < self._busy_until:
            self.nack()
        said = checked(self._words)
        return said[:count] + b"\xff" * (count - len(said))
