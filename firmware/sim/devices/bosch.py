"""BME280 (BST-BME280-DS002) and BME680 (BST-BME680-DS001)."""

from .part import RegisterPart

# T1 to T3 and P1 to P9 of the example in the BMP280's datasheet (BST-BMP280-DS001, section 3.12); the humidity's are a real part's
BME280_T = (27504, 26435, -1000)
BME280_P = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
BME280_H = (75, 370, 0, 313, 50, 30)


def _put(registers, at, value, size):
    value &= (1 << 8 * size) - 1
    for index in range(size):
        registers[at + index] = value >> 8 * index & 0xFF


class BME280(RegisterPart):
    """Raw values are `pressure`, `temperature` (20 bits) and `humidity` (16 bits)."""

    address = 0x76
    chip = 0x60

    def __init__(self, address=None, t=BME280_T, p=BME280_P, h=BME280_H):
        super().__init__(address)
        self.t, self.p, self.h = t, p, h
        self.temperature = 519_888
        self.pressure = 415_148
        self.humidity = 30_000
        self.slow = 1  # times the time a measurement takes
        self._done = None

    def power_up(self):
        registers = self.registers
        registers[:] = bytes(256)
        registers[0xD0] = self.chip
        for index, value in enumerate(self.t + self.p):
            _put(registers, 0x88 + 2 * index, value, 2)
        h1, h2, h3, h4, h5, h6 = self.h
        registers[0xA1] = h1
        _put(registers, 0xE1, h2, 2)
        registers[0xE3] = h3
        registers[0xE4] = h4 >> 4 & 0xFF
        registers[0xE5] = h4 & 0x0F | (h5 & 0x0F) << 4
        registers[0xE6] = h5 >> 4 & 0xFF
        _put(registers, 0xE7, h6, 1)
        registers[0xF7:0xFF] = b"\x80\x00\x00\x80\x00\x00\x80\x00"
        self._ctrl_hum = 0  # written, but not yet in effect
        self._done = None
        self._ready = self.now() + 2

    def store(self, register, value):
        if register == 0xE0 and value == 0xB6:
            self.power_up()
        elif register == 0xF2:
            self.registers[0xF2] = value
        elif register == 0xF4:
            self._ctrl_hum = self.registers[0xF2]
            self.registers[0xF4] = value
            if value & 3 in (1, 2):
                conversions = [value >> 5, value >> 2 & 7, self._ctrl_hum & 7]
                ms = 1.25 + sum([2.3 * (1 << n - 1) + 0.575 for n in conversions if n])
                self._done = self.now() + ms * self.slow
        elif register == 0xF5:
            self.registers[0xF5] = value

    def load(self, register):
        registers = self.registers
        if register == 0xF3:
            return (self.now() < self._ready) | (self._done is not None and self.now() < self._done) << 3
        if self._done is not None and self.now() >= self._done:
            self._done = None
            control = registers[0xF4]
            registers[0xF4] = control & 0xFC
            for at, raw, skip in (
                (0xF7, self.pressure, control >> 2 & 7),
                (0xFA, self.temperature, control >> 5),
            ):
                raw = raw << 4 if skip else 0x800000
                registers[at : at + 3] = bytes((raw >> 16, raw >> 8 & 0xFF, raw & 0xFF))
            raw = self.humidity if self._ctrl_hum & 7 else 0x8000
            registers[0xFD:0xFF] = bytes((raw >> 8, raw & 0xFF))
        return registers[register]


class BME680(RegisterPart):
    address = 0x77
    chip = 0x61
    # of a real part
    p = (36_069, -10_313, 88, 6847, -10, 30, 47, -1118, -3066, 30)
    h = (717, 1017, 0, 45, 20, 120, -100)
    t = (26_025, 26_278, 3)

    def __init__(self, address=None):
        super().__init__(address)
        self.temperature = 488_000
        self.pressure = 340_000
        self.humidity = 22_000
        self._done = None

    def power_up(self):
        registers = self.registers
        registers[:] = bytes(256)
        registers[0xD0] = self.chip
        t1, t2, t3 = self.t
        p1, p2, p3, p4, p5, p6, p7, p8, p9, p10 = self.p
        h1, h2, h3, h4, h5, h6, h7 = self.h
        places = (
            (0xE9, t1, 2),
            (0x8A, t2, 2),
            (0x8C, t3, 1),
            (0x8E, p1, 2),
            (0x90, p2, 2),
            (0x92, p3, 1),
            (0x94, p4, 2),
            (0x96, p5, 2),
            (0x99, p6, 1),
            (0x98, p7, 1),
            (0x9C, p8, 2),
            (0x9E, p9, 2),
            (0xA0, p10, 1),
            (0xE4, h3, 1),
            (0xE5, h4, 1),
            (0xE6, h5, 1),
            (0xE7, h6, 1),
            (0xE8, h7, 1),
        )
        for at, value, size in places:
            _put(registers, at, value, size)
        registers[0xE1] = h2 >> 4
        registers[0xE2] = (h2 & 0x0F) << 4 | h1 & 0x0F
        registers[0xE3] = h1 >> 4
        registers[0x1F:0x27] = b"\x80\x00\x00\x80\x00\x00\x80\x00"
        self._done = None

    def store(self, register, value):
        if register == 0xE0 and value == 0xB6:
            self.power_up()
            return
        self.registers[register] = value
        if register == 0x74 and value & 3 == 1:
            self._done = self.now() + 10.8
            self.registers[0x1D] = 0x20

    def load(self, register):
        registers = self.registers
        if self._done is not None and self.now() >= self._done:
            self._done = None
            registers[0x1D] = 0x80
            registers[0x74] &= 0xFC
            for at, raw in ((0x1F, self.pressure << 4), (0x22, self.temperature << 4)):
                registers[at : at + 3] = bytes((raw >> 16, raw >> 8 & 0xFF, raw & 0xFF))
            registers[0x25:0x27] = bytes((self.humidity >> 8, self.humidity & 0xFF))
        return registers[register]
