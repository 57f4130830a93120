"""SenML packs (RFC 8428) in CBOR, filled record by record to the size a message can carry."""

from . import cbor

# COSE_Sign1 takes 167 bytes: tag and array 2, header at most 95, empty map 1, head of the payload 3, signature 66.
MAX_PAYLOAD = 4096 - 167
MAX_RECORDS = 256  # the gateway takes no more

_FINITE = 3.4028e38  # binary32 ends just above


def base_name(site, node):
    """Base name of a node's records, a device URN (RFC 9039)."""
    return "urn:dev:sensorhub:" + site + ":" + node + ":"


class Pack:
    """A pack of one or more sampling intervals.

    :param name: base name.
    :param time: base time in whole Unix seconds, or None when the clock is not set; record times then count
        from the uptime in the message's header.
    :param limit: bytes that `encode` may give; a smaller one saves memory.
    """

    def __init__(self, name, time=None, limit=MAX_PAYLOAD):
        self.count = 0
        self._limit = limit
        self._time = time
        self._name = name
        self._body = bytearray()

    def add(self, records, time=0):
        """Add the records of one interval, all or none; False when the pack is full.

        :param records: [(channel, unit, value), ...]; unit is None for a value of bytes.
        :param time: seconds after the base time, less than 2**28.

        Raises ValueError when a number is not finite.
        """
        part = bytearray()
        count = self.count
        for channel, unit, value in records:
            self._record(part, count, channel, unit, value, time)
            count += 1
        if count > MAX_RECORDS or 3 + len(self._body) + len(part) > self._limit:
            return False
        self._body.extend(part)
        self.count = count
        return True

    def _record(self, out, index, channel, unit, value, time):
        data = isinstance(value, (bytes, bytearray, memoryview))
        if not data and not -_FINITE < value < _FINITE:
            raise ValueError(channel + " is not finite")
        first = index == 0
        dated = first and self._time is not None
        pairs = (2 if data else 3) + (1 if time else 0) + (1 if first else 0) + (1 if dated else 0)
        cbor.head(out, 5, pairs)
        out.append(0)  # n
        cbor.write(out, channel)
        if not data:
            out.append(1)  # u
            cbor.write(out, unit)
            out.append(2)  # v
            cbor.write(out, value)
        if time:
            out.append(6)  # t
            cbor.write(out, time)
        if data:
            out.append(8)  # vd
            cbor.write(out, value)
        if first:
            out.append(0x21)  # bn
            cbor.write(out, self._name)
            if dated:
                out.append(0x22)  # bt
                cbor.write(out, self._time)

    def encode(self):
        """The pack as CBOR; there must be a record in it."""
        out = bytearray()
        cbor.head(out, 4, self.count)
        out.extend(self._body)
        return out
