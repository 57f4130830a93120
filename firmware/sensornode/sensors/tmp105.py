"""Temperature sensors with the LM75's registers: TI TMP105 (datasheet SLLS648D), TMP75, TMP175, TMP275; LM75, LM75A, LM75B.

node.json: {"driver": "tmp105", "scl": 22, "sda": 21, "address": "0x48", "part": "tmp105"}

`part` is tmp105 (the TMP family: 12 bits, one measurement for each read, shut down between), lm75a (LM75A and LM75B:
11 bits) or lm75 (9 bits); the LM75 have no one-shot and measure all the time.
"""

from micropython import const

from ._i2c import I2cPart

_TEMPERATURE = const(0)  # table 2: pointer addresses
_CONFIGURATION = const(1)
_ONE_SHOT = const(0b1110_0001)  # OS, 12 bits (R1, R0), shut down
_ONE_SHOT_MASK = const(0b0111_1111)  # OS reads as zero
_CONVERSION_MS = const(320)  # at most, for 12 bits; 220 is typical
_BITS = {"tmp105": 12, "lm75a": 11, "lm75": 9}


class Sensor(I2cPart):
    addresses = (0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F)
    channels = (("temperature", "Cel"),)
    limits = {"temperature": (-55, 128)}

    def __init__(self, options, services):
        super().__init__(options, services)
        part = self.row.choice("part", ("tmp105", "lm75a", "lm75"), "tmp105")
        self.row.end()
        self._single = part == "tmp105"
        self._unused = 16 - _BITS[part]
        self._byte = bytearray(1)
        self._word = bytearray(2)

    async def start(self):
        if not self._single:
            self.read_register(_CONFIGURATION, self._byte)
            if self._byte[0] & 0b1110_0000:
                raise self.error("configuration is 0x%02x; an LM75 has three zeros there" % self._byte[0])
            self.write(bytes((_CONFIGURATION, 0)))
            await self.clock.sleep_ms(_CONVERSION_MS)

    async def measure(self):
        if self._single:
            # written each time: after a brown-out it measures all the time, with 9 bits
            self.write(bytes((_CONFIGURATION, _ONE_SHOT)))
            await self.clock.sleep_ms(_CONVERSION_MS)
            self.read_register(_CONFIGURATION, self._byte)
            if (self._byte[0] ^ _ONE_SHOT) & _ONE_SHOT_MASK:
                text = "configuration is 0x%02x after 0x%02x was written; no TMP105, or it lost its power"
                raise self.error(text % (self._byte[0], _ONE_SHOT))
        self.read_register(_TEMPERATURE, self._word)
        steps = ((self._word[0] << 8 | self._word[1]) ^ 0x8000) - 0x8000 >> self._unused
        return {"temperature": steps / (1 << 8 - self._unused)}
