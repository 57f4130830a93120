"""PMS5003, after its data manual (V2.3)."""


class PMS5003:
    """`values` are the 13 words of a frame.

    Faults: `plugged`; `noise` comes before the next frame; `cut` bytes of the next frames are missing at the end, `wrong`
    of the next frames have a wrong sum; `deaf` hears no command.
    """

    baudrate = 9600

    def __init__(self):
        self.values = [5, 12, 14, 4, 10, 11, 900, 250, 40, 6, 2, 1, 0x9700]
        self.plugged = True
        self.deaf = False
        self.noise = b""
        self.cut = []
        self.wrong = 0
        self.clock = None
        self.heard = []

    def power_up(self):
        self.awake = True
        self.active = True
        self.fan_since = self.clock.uptime_ms()
        self._next = self.clock.uptime_ms() + 1000
        self._out = bytearray()
        self._later = []  # (when, bytes)

    def hear(self, data):
        self.heard.append(data)
        if len(self.heard) > 200:
            self.heard = self.heard[100:]
        if self.deaf or len(data) != 7 or data[:2] != b"\x42\x4d" or sum(data[:5]) != data[5] << 8 | data[6]:
            return
        command, value = data[2], data[4]
        now = self.clock.uptime_ms()
        if command == 0xE4:
            if value and not self.awake:
                self.power_up()
            elif not value:
                self.awake = False
                self._later = []
        elif not self.awake:
            pass
        elif command == 0xE1:
            self.active = bool(value)
            # it says that it heard, as 8 bytes that look like the beginning of a frame
            self._later.append((now + 5, b"\x42\x4d\x00\x04\xe1\x00\x01\x74"))
        elif command == 0xE2 and not self.active:
            self._later.append((now + 40, self.frame()))

    def frame(self):
        frame = bytearray(b"\x42\x4d\x00\x1c")
        for value in self.values:
            frame.extend(bytes((value >> 8, value & 0xFF)))
        total = sum(frame)
        if self.wrong:
            self.wrong -= 1
            total ^= 0x10
        frame.extend(bytes((total >> 8, total & 0xFF)))
        noise, self.noise = self.noise, b""
        if self.cut:
            frame = frame[: -self.cut.pop(0)]
        return noise + bytes(frame)

    def waiting(self):
        """The bytes that came."""
        now = self.clock.uptime_ms()
        while self.awake and self.active and now >= self._next:
            self._later.append((self._next, self.frame()))
            self._next += 1000
        self._later.sort()
        while self._later and self._later[0][0] <= now:
            self._out.extend(self._later.pop(0)[1])
        return self._out

    def take(self, count):
        said = self._out[:count]
        self._out = self._out[count:]
        return said
