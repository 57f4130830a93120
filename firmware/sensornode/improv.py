"""Improv Wi-Fi over serial (improv-wifi.com/serial, version 1): a plugged-in node is given its network by a web page.

A packet is IMPROV, version, type, length, data, and the sum of all of that modulo 256.
"""

HEADER = b"IMPROV\x01"
STATE, ERROR, COMMAND, RESULT = 1, 2, 3, 4
READY, PROVISIONING, PROVISIONED = 2, 3, 4
NO_ERROR, INVALID, UNKNOWN, CANNOT_CONNECT = 0, 1, 2, 3
SET_WIFI, GET_STATE, GET_INFO, GET_NETWORKS = 1, 2, 3, 4
INTERRUPT = 3  # Ctrl-C, when it is not part of a packet


def packet(kind, data):
    """One packet, with the line feed that makes it stand apart in a log."""
    out = HEADER + bytes((kind, len(data))) + data
    return out + bytes((sum(out) & 0xFF, 10))


def result(command, *texts):
    """The answer to a command: its number and texts, each with its length before it."""
    data = b"".join(bytes((len(text),)) + text for text in [text.encode()[:80] for text in texts])
    return packet(RESULT, bytes((command, len(data))) + data)


class Decoder:
    """Finds packets in a stream of bytes that may hold anything else."""

    def __init__(self):
        self._data = bytearray()

    def feed(self, byte):
        """Take one byte; returns (type, data) when it ends a good packet, and None else."""
        data = self._data
        data.append(byte)
        size = len(data)
        if size <= len(HEADER):
            if data[-1] != HEADER[size - 1]:
                self._data = bytearray(b"I" if byte == HEADER[0] else b"")
            return None
        if size < len(HEADER) + 2 or size < len(HEADER) + 3 + data[len(HEADER) + 1]:
            return None
        self._data = bytearray()
        if sum(data[:-1]) & 0xFF != data[-1]:
            return None
        return data[len(HEADER)], bytes(data[len(HEADER) + 2 : -1])

    @property
    def idle(self):
        """True between packets."""
        return not self._data


class Improv:
    """The node's side of the conversation.

    :param write: called with the bytes of each answer.
    :param connect: async function (ssid, password) that saves them and returns "" once they work, or why they do not.
    :param scan: async function that returns [(ssid, dBm, secured), ...].
    :param info: texts: firmware, its version, chip, name of the node.

    Attributes: `state`.
    """

    def __init__(self, write, connect, scan, info):
        self._write = write
        self._connect = connect
        self._scan = scan
        self._info = info
        self._decoder = Decoder()
        self.state = READY

    async def feed(self, data):
        """Take bytes from the serial line. Raises KeyboardInterrupt for a Ctrl-C outside of packets."""
        for byte in data:
            if byte == INTERRUPT and self._decoder.idle:
                raise KeyboardInterrupt
            found = self._decoder.feed(byte)
            if found and found[0] == COMMAND:
                await self._command(found[1])

    async def _command(self, data):
        if len(data) < 2 or len(data) != 2 + data[1]:
            self._error(INVALID)
            return
        command = data[0]
        if command == SET_WIFI:
            await self._set_wifi(data[2:])
        elif command == GET_STATE:
            self._tell(self.state)
        elif command == GET_INFO:
            self._write(result(command, *self._info))
        elif command == GET_NETWORKS:
            for ssid, level, secured in await self._scan():
                self._write(result(command, ssid, str(level), "YES" if secured else "NO"))
            self._write(result(command))
        else:
            self._error(UNKNOWN)

    async def _set_wifi(self, data):
        try:
            ssid, data = _text(data)
            password, data = _text(data)
            if data or not ssid:
                raise ValueError
        except (ValueError, IndexError):
            self._error(INVALID)
            return
        self._error(NO_ERROR)
        self._tell(PROVISIONING)
        if await self._connect(ssid, password):
            self._tell(READY)
            self._error(CANNOT_CONNECT)
            return
        self._tell(PROVISIONED)
        self._write(result(SET_WIFI))

    def _tell(self, state):
        self.state = state
        self._write(packet(STATE, bytes((state,))))

    def _error(self, code):
        self._write(packet(ERROR, bytes((code,))))


def _text(data):
    """The text that data begins with, and the rest. ValueError or IndexError when it is cut off or no UTF-8."""
    end = 1 + data[0]
    if end > len(data):
        raise ValueError
    return str(data[1:end], "utf-8"), data[end:]
