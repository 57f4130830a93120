"""The buses and pins that sensors hang on: made from the rows of node.json, each once, and shared.

Beside `board` this is the only module that touches `machine`. There is no lock: a transfer is one call that does not
yield, so two sensors on a bus cannot cut into each other, and one that waits for its result leaves the bus free.
"""

import errno

from micropython import const

from .ticks import ticks_diff, ticks_ms

I2C_HZ = 100_000  # SPS30, SEN5x and SCD4x go no faster, and long cables neither
_I2C_TIMEOUT_US = const(10_000)  # of a clock held low: longer would hold up the other tasks
_FILTER_NS = const(12_700)  # the pulse counter's glitch filter ends at 1023 cycles of 80 MHz
_SAMPLES = const(16)


class Buses:
    """Hands out buses and pins.

    :param machine: the module `machine`, or what stands for it in a test.
    """

    def __init__(self, machine=None):
        if machine is None:
            import machine
        self._machine = machine
        self._made = {}
        self._counters = 0

    def i2c(self, row):
        """The I2C bus of a row of the sensor table: `bus` (number, 0), `scl` and `sda` (pins).

        A row without pins is on the bus that an earlier row described. Raises ValueError.
        """
        number = row.whole("bus", 0, 1, 0)
        pins = row.whole("scl", 0, 48, -1), row.whole("sda", 0, 48, -1)
        hertz = row.whole("hertz", 10_000, 400_000, 0)
        made = self._made.get(("i2c", number))
        if made:
            if pins != (-1, -1) and pins != made.pins or hertz not in (0, made.hertz):
                raise ValueError("another row describes %s otherwise" % made)
            return made
        if -1 in pins:
            raise ValueError("scl and sda are missing: no earlier row describes i2c %d" % number)
        made = self._made["i2c", number] = I2cBus(self._machine, number, pins, hertz or I2C_HZ)
        return made

    def uart(self, row, baudrate):
        """The UART of a row: `uart` (number), `tx` and `rx` (pins). Raises ValueError."""
        number = row.whole("uart", 1, 2, 1)
        tx, rx = row.whole("tx", 0, 48), row.whole("rx", 0, 48)
        place = "uart %d (tx %d, rx %d)" % (number, tx, rx)
        make = self._machine.UART
        return self._once("uart", number, row, lambda: make(number, baudrate=baudrate, tx=tx, rx=rx)), place

    def adc(self, row):
        """The analogue input of a row: `pin`. Raises ValueError."""
        pin = row.whole("pin", 0, 48)
        return self._once("pin", pin, row, lambda: Adc(self._machine, pin)), "pin %d" % pin

    def pulses(self, row, gap=0):
        """The counter of a row: `pin`, `pull` (true: the chip's own pull-up) and `counter` (auto, hardware, interrupt).

        It has `value()`, and counts falling edges; an interrupt only those `gap` ms apart. Raises ValueError.
        """
        pin = row.whole("pin", 0, 48)
        pull = row.flag("pull", True)
        kind = row.choice("counter", ("auto", "hardware", "interrupt"), "auto")
        if kind == "hardware" and not hasattr(self._machine, "Counter"):
            raise ValueError("this MicroPython has no machine.Counter; leave out counter, or say interrupt")
        make = self._pulses
        return self._once("pin", pin, row, lambda: make(pin, pull, kind, gap)), "pin %d" % pin

    def _pulses(self, pin, pull, kind, gap):
        machine = self._machine
        source = (
            machine.Pin(pin, machine.Pin.IN, machine.Pin.PULL_UP)
            if pull
            else machine.Pin(pin, machine.Pin.IN)
        )
        counter = getattr(machine, "Counter", None)  # MicroPython 1.26 and newer
        if not counter or kind == "interrupt":
            return InterruptCounter(source, machine.Pin.IRQ_FALLING, gap)
        made = counter(self._counters, source, edge=counter.FALLING, filter_ns=_FILTER_NS)
        self._counters += 1
        return made

    def _once(self, what, number, row, make):
        # a row whose driver refused it is loaded again, and finds what it made before
        options, made = self._made.get((what, number), (row.options, None))
        if options is not row.options:
            raise ValueError("%s %d belongs to another row" % (what, number))
        if made is None:
            made = make()
            self._made[what, number] = options, made
        return made


class I2cBus:
    """An I2C bus that frees itself when a part holds it down."""

    def __init__(self, machine, number, pins, hertz):
        self.pins = pins
        self.hertz = hertz
        self.recoveries = 0
        self._machine = machine
        self._number = number
        self._open()

    def __str__(self):
        return "i2c %d (scl %d, sda %d)" % (self._number, self.pins[0], self.pins[1])

    def _open(self):
        pin = self._machine.Pin
        self._i2c = self._machine.I2C(
            self._number,
            scl=pin(self.pins[0]),
            sda=pin(self.pins[1]),
            freq=self.hertz,
            timeout=_I2C_TIMEOUT_US,
        )

    def write(self, address, data):
        """Send bytes. Raises OSError."""
        try:
            self._i2c.writeto(address, data)
        except OSError as error:
            self._failed(error)

    def read_into(self, address, into):
        """Fill a buffer. Raises OSError."""
        try:
            self._i2c.readfrom_into(address, into)
        except OSError as error:
            self._failed(error)

    def read_register(self, address, register, into):
        """Fill a buffer from a register on, without letting go of the bus between. Raises OSError."""
        try:
            self._i2c.readfrom_mem_into(address, register, into)
        except OSError as error:
            self._failed(error)

    def _failed(self, error):
        if error.errno == errno.ETIMEDOUT:
            self._recover()
        raise error

    def _recover(self):
        """Give a part that was cut off in the middle of a byte the clocks to end it (UM10204, section 3.1.16).

        No waits between the edges: a call takes longer than the 5 us of half a clock.
        """
        self.recoveries += 1
        pin = self._machine.Pin
        scl = pin(self.pins[0], pin.OPEN_DRAIN, value=1)
        sda = pin(self.pins[1], pin.OPEN_DRAIN, value=1)
        for _ in range(9):
            if sda.value():
                break
            scl.value(0)
            scl.value(1)
        sda.value(0)
        sda.value(1)
        self._open()


class Adc:
    """An analogue input, read in the chip's own calibration."""

    def __init__(self, machine, pin):
        self._adc = machine.ADC(machine.Pin(pin), atten=machine.ADC.ATTN_11DB)
        self._samples = [0] * _SAMPLES

    def microvolts(self):
        """Mean of the middle half of 16 samples. Raises OSError when the input is beyond what the ADC can show."""
        if self._adc.read_u16() >= 65_535:
            raise OSError("the voltage is beyond the ADC's range")
        samples = self._samples
        for index in range(_SAMPLES):
            samples[index] = self._adc.read_uv()
        samples.sort()
        return sum(samples[_SAMPLES // 4 : -_SAMPLES // 4]) // (_SAMPLES // 2)


class InterruptCounter:
    """Falling edges, counted by an interrupt where the port has no hardware counter.

    An edge within `gap` ms of the last one counted is a contact that bounces.
    """

    def __init__(self, pin, trigger, gap):
        self._count = 0
        self._gap = gap
        self._last = ticks_ms() - 2 * gap
        self._pin = pin  # the handler goes when the pin is collected
        pin.irq(handler=self._edge, trigger=trigger)

    def _edge(self, pin):
        now = ticks_ms()
        if not 0 <= ticks_diff(now, self._last) < self._gap:
            self._last = now
            self._count += 1

    def value(self):
        return self._count
