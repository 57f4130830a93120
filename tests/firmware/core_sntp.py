"""Time from a server: a good answer, a bad one, and none."""

import asyncio
import os
import socket

from sensornode import sntp

SECOND = 3_900_000_000  # since 1900, in 2023
LOOK = 40  # milliseconds that pass at each look at the ticks, however long it takes


def answer(seconds=SECOND, fraction=0x80000000, first=0x24, stratum=2):
    packet = bytearray(48)
    packet[0] = first
    packet[1] = stratum
    packet[40:44] = seconds.to_bytes(4, "big")
    packet[44:48] = fraction.to_bytes(4, "big")
    return bytes(packet)


async def ask(reply):
    """What the client makes of a server's reply; None is a silent server."""
    while True:
        port = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            server.bind(socket.getaddrinfo("127.0.0.1", port, 0, socket.SOCK_DGRAM)[0][-1])
            break
        except OSError:
            server.close()
    server.setblocking(False)

    async def serve():
        while True:
            try:
                query, client = server.recvfrom(64)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            assert len(query) == 48
            assert query[0] == 0x23
            if reply is not None:
                server.sendto(reply, client)

    now = [0]

    def ticks():
        now[0] += LOOK
        return now[0]

    serving = asyncio.create_task(serve())
    before, sntp.ticks_ms = sntp.ticks_ms, ticks
    try:
        return await sntp.unix_ms("127.0.0.1", port, 300)
    finally:
        sntp.ticks_ms = before
        serving.cancel()
        server.close()


async def test_the_server_tells_the_time():
    told = await ask(answer())
    assert told == (SECOND - 2_208_988_800) * 1000 + 500 + LOOK // 2


async def test_the_second_era_begins_in_2036():
    told = await ask(answer(seconds=100))
    assert told // 1000 == 2**32 + 100 - 2_208_988_800


async def test_a_server_that_is_not_synchronised_or_no_server_is_not_believed():
    for reply in (answer(stratum=0), answer(stratum=16), answer(first=0xE4), answer(first=0x23), b"short"):
        try:
            await ask(reply)
        except OSError as error:
            assert "not synchronised" in str(error)
        else:
            raise AssertionError("believed it")


async def test_a_silent_server_is_given_up():
    try:
        await ask(None)
    except OSError as error:
        assert "127.0.0.1" in str(error)
    else:
        raise AssertionError("somebody answered")
