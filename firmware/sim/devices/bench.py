"""The fake of `machine`: pins with levels and voltages, I2C buses and UARTs with parts on them."""

import errno


class Bench:
    """A board on a bench.

    :param clock: has `uptime_ms()`.
    :param counter: whether the port has `machine.Counter`.

    `longest_ms` is the longest time a transfer held up the processor.
    """

    def __init__(self, clock, counter=True):
        self.clock = clock
        self.longest_ms = 0
        self._signals = {}
        self._buses = {}
        self._serial = {}
        bench = self

        class Pin(_Pin):
            def __init__(self, number, *arguments, **more):
                super().__init__(bench.signal(number), *arguments, **more)

        class I2C(_I2C):
            def __init__(self, number, scl, sda, freq, timeout):
                super().__init__(bench, bench.bus(scl.signal, sda.signal), freq)

        class UART(_UART):
            def __init__(self, number, baudrate, tx, rx):
                super().__init__(bench, number, baudrate)

        self.Pin, self.I2C, self.UART, self.ADC = Pin, I2C, UART, _ADC
        if counter:
            self.Counter = _Counter

    def signal(self, number):
        """What pin `number` is connected to."""
        if number not in self._signals:
            self._signals[number] = Signal(number)
        return self._signals[number]

    def bus(self, scl, sda):
        key = scl.number, sda.number
        if key not in self._buses:
            self._buses[key] = Wires(scl, sda)
        return self._buses[key]

    def plug(self, part, scl=22, sda=21):
        """Put a part on an I2C bus; gives the part."""
        part.clock = self.clock
        part.power_up()
        self.bus(self.signal(scl), self.signal(sda)).parts.append(part)
        return part

    def serial(self, part, number=1):
        """Put a part on a UART; gives the part."""
        part.clock = self.clock
        part.power_up()
        self._serial[number] = part
        return part

    def serial_part(self, number):
        return self._serial.get(number)

    def took(self, milliseconds):
        self.longest_ms = max(self.longest_ms, milliseconds)


class Signal:
    """One wire: a level, a voltage, and who watches it."""

    def __init__(self, number):
        self.number = number
        self.level = 1
        self.microvolts = 0
        self.rises = 0  # edges since ever
        self.falls = 0
        self.held = None  # function: who else pulls the wire down
        self.watchers = []

    def drive(self, level):
        if level != self.level:
            self.level = level
            if level:
                self.rises += 1
            else:
                self.falls += 1
                for watcher in self.watchers:
                    watcher()

    def pulse(self, times=1):
        """Close a contact to ground and open it, `times` times."""
        for _ in range(times):
            self.drive(0)
            self.drive(1)


class _Pin:
    IN, OUT, OPEN_DRAIN = 1, 3, 7
    PULL_UP, PULL_DOWN = 2, 1
    IRQ_RISING, IRQ_FALLING = 1, 2

    def __init__(self, signal, mode=-1, pull=-1, value=None):
        self.signal = signal
        self.levels = []  # what it was set to
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is None:
            return 0 if self.signal.held and self.signal.held() else self.signal.level
        self.levels.append(int(level))
        self.signal.drive(int(level))
        return None

    def irq(self, handler, trigger):
        assert trigger == self.IRQ_FALLING
        self.signal.watchers.append(lambda: handler(self))


class _Counter:
    RISING, FALLING = 1, 2

    def __init__(self, number, source, edge=RISING, filter_ns=0):
        assert 0 <= filter_ns <= 12_787
        self._signal = source.signal
        self._falling = edge == self.FALLING
        self._zero = self._edges()

    def _edges(self):
        return self._signal.falls if self._falling else self._signal.rises

    def value(self):
        return self._edges() - self._zero


class _ADC:
    """12 bits at 11 dB, as an ESP32: saturated from 3.1 V on."""

    ATTN_11DB = 3
    FULL = 3_100_000

    def __init__(self, pin, atten):
        assert atten == self.ATTN_11DB
        self._signal = pin.signal

    def read_uv(self):
        return min(self._signal.microvolts, self.FULL) // 1000 * 1000

    def read_u16(self):
        return min(self._signal.microvolts * 65_535 // self.FULL, 65_535)


class Wires:
    """An I2C bus and the parts on it.

    `stuck`: that many clocks a part still holds the data line down, as after a reset in the middle of a byte.
    """

    def __init__(self, scl, sda):
        self.parts = []
        self.stuck = 0
        self._rises = 0
        self._scl = scl
        sda.held = self._held

    def jam(self, clocks):
        self.stuck = clocks
        self._rises = self._scl.rises

    def _held(self):
        return self._scl.rises - self._rises < self.stuck

    def part(self, address, hertz):
        if self._held():
            raise OSError(errno.ETIMEDOUT, "ETIMEDOUT")
        for part in self.parts:
            if part.address == address and part.plugged and hertz <= part.hertz:
                return part
        raise OSError(errno.ENODEV, "ENODEV")


class _I2C:
    def __init__(self, bench, wires, hertz):
        self._bench = bench
        self._wires = wires
        self._hertz = hertz

    def _took(self, count):
        self._bench.took(9000 * (count + 1) / self._hertz)

    def writeto(self, address, data):
        part = self._wires.part(address, self._hertz)
        self._took(len(data))
        part.write(bytes(data))

    def readfrom_into(self, address, into):
        part = self._wires.part(address, self._hertz)
        self._took(len(into))
        into[:] = part.answer(len(into))

    def readfrom_mem_into(self, address, register, into):
        self.writeto(address, bytes((register,)))
        self.readfrom_into(address, into)


class _UART:
    def __init__(self, bench, number, baudrate):
        self._bench = bench
        self._number = number
        self._baudrate = baudrate

    def _part(self):
        part = self._bench.serial_part(self._number)
        return part if part and part.plugged and part.baudrate == self._baudrate else None

    def write(self, data):
        part = self._part()
        if part:
            part.hear(bytes(data))
        return len(data)

    def any(self):
        part = self._part()
        return len(part.waiting()) if part else 0

    def readinto(self, into):
        part = self._part()
        if not part or not part.waiting():
            return None
        said = part.take(len(into))
        into[: len(said)] = said
        return len(said)
