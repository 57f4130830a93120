"""A part on an I2C bus."""

from ._part import Part


class I2cPart(Part):
    """A part with an address. `addresses` are those it can have, the usual one first."""

    addresses = ()

    def __init__(self, options, services):
        super().__init__(options, services)
        self._address = self.row.address(self.addresses)
        self._bus = services.buses.i2c(self.row)
        self.place = "0x%02x on %s" % (self._address, self._bus)

    def write(self, data):
        self._bus.write(self._address, data)

    def read_into(self, into):
        self._bus.read_into(self._address, into)

    def read_register(self, register, into):
        self._bus.read_register(self._address, register, into)
