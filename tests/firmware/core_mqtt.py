"""The MQTT client against a broker that does everything a broker must not do."""

# ruff: noqa: SIM105, UP041 - MicroPython has no contextlib and a TimeoutError of its own

import asyncio
import os

from sensornode.mqtt import PIECE, Client, MqttError

ACCEPTED = b"\x20\x02\x00\x00"
PUBLISHED = b"\x32\x06\x00\x01t\x00\x09x"


class Broker:
    """Listens on a free port of the loopback and plays one script for each connection.

    A script is an async function of (packets, writer): `packets()` is the client's next packet as
    (first byte, body), or None when the client has gone.
    """

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.seen = []
        self.ended = asyncio.Event()

    async def start(self):
        while True:
            self.port = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
            try:
                self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
                return self
            except OSError:
                pass

    async def serve(self, reader, writer):
        async def exactly(count):
            data = b""
            while len(data) < count:
                more = await reader.read(count - len(data))
                if not more:
                    raise EOFError
                data += more
            return data

        async def packets():
            try:
                first = (await exactly(1))[0]
                length = shift = 0
                while True:
                    digit = (await exactly(1))[0]
                    length |= (digit & 0x7F) << shift
                    shift += 7
                    if not digit & 0x80:
                        break
                body = await exactly(length)
            except (EOFError, OSError):
                return None
            self.seen.append((first, body))
            return first, body

        try:
            await self.scripts.pop(0)(packets, writer)
        except OSError:
            pass
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass
        self.ended.set()

    async def stop(self):
        self.server.close()
        await asyncio.sleep(0)


async def say(writer, data):
    writer.write(data)
    await writer.drain()


def accept(then):
    """A script that accepts the client before it goes on as `then`."""

    async def script(packets, writer):
        assert (await packets())[0] == 0x10
        await say(writer, ACCEPTED)
        await then(packets, writer)

    return script


async def until_gone(packets, writer=None):
    while await packets():
        pass


PATIENT = 20  # seconds: what must not run out in a test runs out on no machine, however busy


async def session(script, use, **options):
    """Connect to a broker that plays the script, `use` the client, and return what it was told."""
    broker = await Broker(script).start()
    got = []
    options.setdefault("timeout", PATIENT)
    client = Client(
        "127.0.0.1",
        broker.port,
        "me",
        on_message=lambda topic, data: got.append((topic, bytes(data))),
        **options,
    )
    try:
        await asyncio.wait_for(use(client, broker), 100)
    finally:
        await client.close()
        await broker.stop()
    return got


async def refused(script, **options):
    """The error of a connect that must fail."""
    said = []

    async def use(client, broker):
        try:
            await client.connect()
        except (MqttError, OSError, asyncio.TimeoutError) as error:
            said.append(error)
            return
        raise AssertionError("connected")

    await session(script, use, **options)
    return said[0]


async def connected(client, timeout):
    """Connect, and only then be as impatient as that: what the test lets run out is not the connecting."""
    await client.connect()
    client._timeout = timeout


async def broken(script, before=None, timeout=PATIENT, **options):
    """The error that ends a connection that stood; the timeout is that of the connection."""
    said = []

    async def use(client, broker):
        await connected(client, timeout)
        if before:
            await before(client)
        await client.down.wait()
        said.append(client.error)

    await session(accept(script), use, **options)
    return str(said[0])


def saying(data, then=until_gone):
    async def script(packets, writer):
        await say(writer, data)
        await then(packets, writer)

    return script


async def test_connect_packet_is_what_the_standard_says():
    async def use(client, broker):
        await client.connect()
        assert broker.seen[0] == (
            0x10,
            b"\x00\x04MQTT\x04\xee\x00\x1e\x00\x02me\x00\x01w\x00\x03bye\x00\x01u\x00\x02pw",
        )

    await session(accept(until_gone), use, user="u", password="pw", will=("w", b"bye"), keepalive=30)


async def test_publications_subscriptions_and_acknowledgements_on_the_wire():
    async def script(packets, writer):
        await packets()
        await say(writer, b"\x90\x04\x00\x01\x01\x01")
        for _ in range(4):
            await packets()

    async def use(client, broker):
        await client.connect()
        await client.subscribe("a/b", "c")
        await client.publish("t", b"zero")
        await client.publish("t", memoryview(b"one"), 1, True)
        await client.publish("t", b"x" * 200, 1)
        await client.close(polite=True)
        await broker.ended.wait()
        assert broker.seen[1:] == [
            (0x82, b"\x00\x01\x00\x03a/b\x01\x00\x01c\x01"),
            (0x30, b"\x00\x01tzero"),
            (0x33, b"\x00\x01t\x00\x02one"),
            (0x32, b"\x00\x01t\x00\x03" + b"x" * 200),
            (0xE0, b""),
        ]

    await session(accept(script), use)


async def test_publications_arrive_however_they_are_cut():
    stream = b"\x30\x05\x00\x01tq0\x32\x07\x00\x01t\x12\x34q1\x30\x03\x00\x01e\x3a\x07\x00\x01t\x12\x35q1"

    async def script(packets, writer):
        for size in (1, 2, 3, 5, 100):
            for at in range(0, len(stream), size):
                await say(writer, stream[at : at + size])
                await asyncio.sleep(0.002)
        for _ in range(10):
            await packets()
        await say(writer, b"")

    async def use(client, broker):
        await client.connect()
        await broker.ended.wait()
        assert broker.seen[1:] == [(0x40, b"\x12\x34"), (0x40, b"\x12\x35")] * 5

    got = await session(accept(script), use)
    assert got == [(b"t", b"q0"), (b"t", b"q1"), (b"e", b""), (b"t", b"q1")] * 5


async def test_a_publication_that_does_not_fit_is_skipped_and_acknowledged():
    big = b"\x00\x01t\x00\x09" + b"x" * 3000
    stream = b"\x32" + bytes((len(big) & 0x7F | 0x80, len(big) >> 7)) + big + b"\x30\x04\x00\x01tx"

    async def script(packets, writer):
        for at in range(0, len(stream), 400):
            await say(writer, stream[at : at + 400])
            await asyncio.sleep(0.002)
        assert await packets() == (0x40, b"\x00\x09")

    async def use(client, broker):
        await client.connect()
        await broker.ended.wait()
        assert client.dropped == 1

    assert await session(accept(script), use, room_in=256) == [(b"t", b"x")]


async def test_a_refusal_says_why():
    for code, word in (
        (1, "version"),
        (2, "identifier"),
        (3, "unavailable"),
        (4, "password"),
        (5, "authorised"),
        (77, "77"),
    ):

        async def script(packets, writer, code=code):
            await packets()
            await say(writer, bytes((0x20, 2, 0, code)))

        assert word in str(await refused(script))


async def test_whatever_comes_instead_of_a_connack_is_an_error():
    for answer in (
        b"",
        b"\x20",
        b"\x20\x02\x00",
        b"\x20\x03\x00\x00\x00",
        b"\x90\x03\x00\x01\x00",
        b"\xff" * 9,
        b"HTTP/1.1 400",
    ):

        async def script(packets, writer, answer=answer):
            await packets()
            await say(writer, answer)

        await refused(script)


async def test_silence_instead_of_a_connack_ends_in_time():
    assert isinstance(await refused(until_gone, timeout=0.5), asyncio.TimeoutError)


async def test_nobody_listens():
    broker = await Broker().start()
    await broker.stop()
    client = Client("127.0.0.1", broker.port, "me", timeout=PATIENT)
    try:
        await client.connect()
    except (OSError, MqttError):
        return
    raise AssertionError("connected")


async def test_a_breach_of_the_protocol_ends_the_connection():
    for data, word in (
        (ACCEPTED, "0x20"),  # a second CONNACK
        (b"\x30\xff\xff\xff\xff\x01", "remaining length"),
        (b"\x30\x01\x00", "malformed"),
        (b"\x30\x05\x00\x09abc", "malformed"),  # a topic longer than the packet
        (b"\x32\x04\x00\x01a\x00", "malformed"),  # no room for the packet identifier
        (b"\x34\x06\x00\x01a\x00\x01x", "malformed"),  # QoS 2
        (b"\x36\x06\x00\x01a\x00\x01x", "malformed"),  # QoS 3
        (b"\x40\x03\x00\x01\x00", "0x40"),
        (b"\xd0\x01\x00", "0xd0"),
        (b"\x10\x00", "0x10"),
        (b"\x00\x00", "0x00"),
        (b"\xf0\x00", "0xf0"),
        (b"\x90\xff\xff\x7f" + b"\x00" * 2000, "0x90"),
    ):
        error = await broken(saying(data))
        assert word in error, (data[:8], error)


async def test_the_end_of_the_connection_is_noticed():
    async def go(packets, writer):
        pass

    assert "closed" in await broken(go)


async def test_a_packet_that_stops_half_way_ends_the_connection():
    for data in (b"\x30", b"\x30\x80", b"\x30\x05\x00\x01t", b"\x30\xd0\x0f\x00\x01t" + b"x" * 1200):
        assert "within a packet" in await broken(saying(data), timeout=0.5)


async def test_a_packet_that_trickles_ends_the_connection():
    async def trickle(packets, writer):
        for byte in b"\x30\x7f" + bytes(125):
            await say(writer, bytes((byte,)))
            await asyncio.sleep(0.2)

    assert "within a packet" in await broken(trickle, timeout=0.5)


async def test_a_ping_keeps_the_connection_and_silence_ends_it():
    async def script(packets, writer):
        for _ in range(2):
            assert await packets() == (0xC0, b"")
            await say(writer, b"\xd0\x00")
        await until_gone(packets)

    assert "ping" in await broken(script, timeout=0.5, keepalive=1)


async def test_publications_that_nobody_acknowledges_end_the_connection():
    async def before(client):
        await client.publish("t", b"x", 1)

    assert "acknowledges nothing" in await broken(until_gone, before, keepalive=60, timeout=0.3)


async def test_a_broker_that_takes_no_data_ends_the_write_in_time():
    async def deaf(packets, writer):
        await asyncio.sleep(1000)  # longer than the test takes on a busy computer

    async def use(client, broker):
        await connected(client, 0.5)
        try:
            for _ in range(4000):
                await client.publish("t", bytes(4000), 1)
        except (asyncio.TimeoutError, MqttError):
            return
        raise AssertionError("16 MB went nowhere")

    await session(accept(deaf), use)


async def test_a_refused_subscription_is_an_error():
    async def script(packets, writer):
        await packets()
        await say(writer, b"\x90\x04\x00\x01\x01\x80")
        await until_gone(packets)

    async def use(client, broker):
        await client.connect()
        try:
            await client.subscribe("a", "b")
        except MqttError as error:
            assert "subscription" in str(error)
            return
        raise AssertionError("granted")

    await session(accept(script), use)


async def test_a_subscription_without_an_answer_ends_in_time():
    async def use(client, broker):
        await connected(client, 0.5)
        try:
            await client.subscribe("a")
        except asyncio.TimeoutError:
            return
        raise AssertionError("granted")

    await session(accept(until_gone), use)


async def test_the_same_client_connects_again_after_every_failure():
    broker = Broker()
    for _ in range(3):
        broker.scripts += [saying(b"\x20\x02\x00\x03"), accept(saying(ACCEPTED)), accept(until_gone)]
    await broker.start()
    downs = []
    client = Client(
        "127.0.0.1", broker.port, "me", timeout=PATIENT, on_down=lambda: downs.append(client.error)
    )
    for _ in range(3):
        try:
            await client.connect()
            raise AssertionError("accepted")
        except MqttError:
            pass
        await client.connect()
        await client.down.wait()
        await client.connect()
        await client.publish("t", b"x")
        await client.close()
        try:
            await client.publish("t", b"x")
            raise AssertionError("published")
        except MqttError:
            pass
    assert len(downs) == 3
    await broker.stop()


async def test_a_long_publication_goes_out_in_pieces_and_nothing_gets_between_them():
    picture = bytes(range(256)) * 300
    pieces = []

    async def use(client, broker):
        await client.connect()
        write = client._writer.write

        def note(part):
            pieces.append(len(part))
            write(part)

        client._writer.write = note
        turns = [0]

        async def others():
            while True:
                turns[0] += 1
                await asyncio.sleep(0)

        busy = asyncio.create_task(others())
        sending = asyncio.create_task(client.publish("t", picture, 1))
        await asyncio.sleep(0)
        await client.publish("u", b"x", 1)
        number = await sending
        busy.cancel()
        assert turns[0] >= len(picture) // PIECE  # the others have their turns meanwhile
        assert number in client.unacked
        while len(broker.seen) < 3:
            await asyncio.sleep(0.01)

    seen = []

    async def remember(packets, writer):
        while True:
            packet = await packets()
            if not packet:
                break
            seen.append(packet)

    await session(accept(remember), use)
    assert max(pieces) <= PIECE
    assert [first for first, _ in seen] == [0x32, 0x32]
    assert seen[0][1] == b"\0\1t\0\1" + picture
    assert seen[1][1] == b"\0\1u\0\2x"


async def test_a_broker_that_takes_a_long_publication_slowly_is_not_taken_for_dead():
    picture = bytes(400_000)  # more than the buffers of the system take

    async def slow(packets, writer):
        await asyncio.sleep(1.2)  # longer than a ping or a packet may take
        await say(writer, PUBLISHED)
        number = (await packets())[1][3:5]
        await say(writer, b"\x40\x02" + number)
        await until_gone(packets)

    async def use(client, broker):
        await client.connect()
        number = await client.publish("t", picture, 1)
        while number in client.unacked:
            assert not client.down.is_set(), client.error
            await asyncio.sleep(0.01)

    assert await session(accept(slow), use, timeout=6, keepalive=1) == [(b"t", b"x")]


async def test_a_broker_that_stops_taking_it_ends_the_connection():
    async def stuck(packets, writer):
        await asyncio.sleep(1000)

    async def use(client, broker):
        await connected(client, 0.5)
        picture = bytes(200_000)
        try:
            for _ in range(50):  # more than the buffers of the system take
                await client.publish("t", picture, 1)
        except (MqttError, OSError, asyncio.TimeoutError):
            return
        raise AssertionError("sent")

    await session(accept(stuck), use)
