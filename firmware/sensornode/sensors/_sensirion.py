"""Sensirion's protocol on I2C: 16-bit commands, then words of 16 bits with a check byte each.

The SHT3x-DIS datasheet (version 5) has it in sections 4.3 to 4.12, the SPS30 datasheet (version 1.0) in section 6; the others alike.
"""

from ._i2c import I2cPart


def crc8(data, start, end):
    """Check byte of data[start:end]: polynomial 0x31, initial value 0xFF (SHT3x-DIS, table 20)."""
    crc = 0xFF
    for index in range(start, end):
        crc ^= data[index]
        for _ in range(8):
            crc = crc << 1 ^ 0x131 if crc & 0x80 else crc << 1
    return crc


class SensirionPart(I2cPart):
    """A part that takes commands. `most` is the number of words in its longest answer.

    `words` holds the words of the last answer.
    """

    most = 3

    def __init__(self, options, services):
        super().__init__(options, services)
        self.words = [0] * self.most
        self._answer = memoryview(bytearray(3 * self.most))
        self._request = memoryview(bytearray(8))

    async def command(self, code, wait, count=0, arguments=()):
        """Send a command, wait `wait` ms for it to be carried out, and read `count` words of answer."""
        request = self._request
        request[0] = code >> 8
        request[1] = code & 0xFF
        at = 2
        for word in arguments:
            request[at] = word >> 8
            request[at + 1] = word & 0xFF
            request[at + 2] = crc8(request, at, at + 2)
            at += 3
        self.write(request[:at])
        await self.clock.sleep_ms(wait)
        if count:
            self.receive(code, count)

    def receive(self, code, count):
        """Read an answer into `words`, checked."""
        answer = self._answer[: 3 * count]
        self.read_into(answer)
        for index in range(count):
            at = 3 * index
            if crc8(answer, at, at + 2) != answer[at + 2]:
                text = "word %d of the answer to 0x%04x is %02x%02x with check byte %02x; it should be %02x"
                got = (index, code, answer[at], answer[at + 1], answer[at + 2], crc8(answer, at, at + 2))
                raise self.error(text % got)
            self.words[index] = answer[at] << 8 | answer[at + 1]

    def text(self, count):
        """The first `count` words as ASCII text that ends with a zero byte."""
        text = ""
        for word in self.words[:count]:
            for letter in (word >> 8, word & 0xFF):
                if not letter:
                    return text
                text += chr(letter) if 32 <= letter < 127 else "?"
        return text
