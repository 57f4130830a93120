"""Time from an NTP server (SNTP, RFC 4330) without blocking the scheduler."""

import asyncio
import socket

from .aside import aside
from .ticks import ticks_diff, ticks_ms

_FROM_1900 = 2_208_988_800  # seconds from 1900 to 1970
_SPAN = 1 << 32  # an NTP era in seconds; the second one begins in 2036


async def unix_ms(host, port=123, timeout_ms=2000):
    """Unix milliseconds told by a server, half the round trip added. Raises OSError when it tells none."""
    found = await aside(socket.getaddrinfo, host, port, 0, socket.SOCK_DGRAM)
    address = found[0][-1]
    query = bytearray(48)
    query[0] = 0x23  # version 4, client
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        asked = ticks_ms()
        udp.sendto(query, address)
        while True:
            await asyncio.sleep(0.02)
            waited = ticks_diff(ticks_ms(), asked)
            try:
                answer = udp.recv(64)
                break
            except OSError:
                if waited > timeout_ms:
                    raise OSError("no answer from time server " + host)
    finally:
        udp.close()
    # mode server, a stratum that is synchronised, and not the alarm of leap indicator 3
    if len(answer) < 48 or answer[0] & 7 != 4 or not 0 < answer[1] < 16 or answer[0] >> 6 == 3:
        raise OSError("time server " + host + " is not synchronised")
    seconds = int.from_bytes(answer[40:44], "big") - _FROM_1900
    if seconds < 0:
        seconds += _SPAN
    return seconds * 1000 + (int.from_bytes(answer[44:48], "big") * 1000 >> 32) + waited // 2
