"""Set-up: the portal's page and names, Improv over serial, and that only what works is kept."""

import asyncio
import json
import os
import socket
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

import network
from sensornode import improv, led, setup, wifi
from sensornode.config import check
from sensornode.improv import Decoder, Improv, packet, result
from sensornode.setup import Portal, Setup, form, name_answer, name_server

GOOD = {
    "site": "lab",
    "node": "roof",
    "kind": "weather",
    "interval": 60,
    "broker": {"host": "10.0.0.1", "password": "pssst"},
    "sensors": [{"driver": "sht4x"}],
}
COUNT = [0]


def fresh(data=None, **air):
    """A node without a network, what is in the air around it, and the path of its node.json."""
    COUNT[0] += 1
    path = f"{os.getcwd()}/node-{COUNT[0]}.json"
    if data is not None:
        with open(path, "w") as file:
            file.write(data if isinstance(data, str) else json.dumps(data))
    wifi.JOIN_MS = 30
    network.WLAN.networks = air or {"home": (-60, "secret", False), "cafe": (-50, None, False)}
    return Setup(path, network.WLAN()), path


def kept(path):
    try:
        with open(path) as file:
            return json.load(file)
    except OSError:
        return None


async def request(portal, text, body=b""):
    """The answer to one request: head and body."""
    while True:
        port = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
        try:
            server = await asyncio.start_server(portal.serve, "127.0.0.1", port)
            break
        except OSError:
            pass
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode() + body)
    await writer.drain()
    answer = b""
    while True:
        try:
            more = await asyncio.wait_for(reader.read(4096), 60)
        except OSError:
            break
        if not more:
            break
        answer += more
    writer.close()
    server.close()
    await asyncio.sleep(0)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body.decode()


def post(**fields):
    parts = []
    for name, value in fields.items():
        quoted = "".join(
            letter
            if letter.isalpha() or letter.isdigit()
            else "".join(f"%{byte:02X}" for byte in letter.encode())
            for letter in value
        )
        parts.append(name.replace("__", ".") + "=" + quoted)
    body = "&".join(parts).encode()
    return f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n", body


async def test_the_page_shows_networks_and_names_and_no_secret():
    data = dict(GOOD)
    data["wifi"] = [{"ssid": "old", "password": "oldsecret"}]
    data["claim"] = "abcd"
    node, _ = fresh(data)
    head, page = await request(Portal(node), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "200" in head
    assert "value='home'" in page
    assert "value='roof'" in page
    for secret in ("pssst", "oldsecret", "abcd"):
        assert secret not in page


async def test_whatever_else_is_asked_leads_to_the_page():
    node, _ = fresh(GOOD)
    for path in ("/generate_204", "/hotspot-detect.html", "/x?y"):
        head, _ = await request(Portal(node), f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert "302" in head
        assert "Location: http://192.168.4.1/" in head


async def test_a_network_that_works_is_kept_with_the_rest():
    node, path = fresh(GOOD)
    _, page = await request(Portal(node), *post(ssid="home", wifi="secret", node="shed", claim=""))
    assert "Saved" in page
    assert node.done.is_set()
    data = kept(path)
    assert data["wifi"] == [{"ssid": "home", "password": "secret"}]
    assert data["node"] == "shed"
    assert data["broker"] == GOOD["broker"]
    assert "claim" not in data
    assert check(data).wifi == [("home", "secret")]


async def test_a_node_without_any_file_is_set_up_whole():
    node, path = fresh()
    fields = {
        "site": "lab",
        "node": "roof",
        "kind": "air",
        "broker__host": "gw.local",
        "broker__port": "1884",
    }
    fields.update(ssid="cafe", wifi="", broker__password="a&b=c %\u00e4", claim="00ff")
    _, page = await request(Portal(node), *post(**fields))
    assert "Saved" in page, page
    config = check(kept(path))
    assert (config.site, config.node, config.kind) == ("lab", "roof", "air")
    assert (config.broker_host, config.broker_port) == ("gw.local", 1884)
    assert config.broker_password == "a&b=c %\u00e4"
    assert config.claim == b"\x00\xff"
    assert config.wifi == [("cafe", "")]


async def test_what_does_not_work_is_not_kept_and_said():
    node, path = fresh(GOOD)
    for fields, word in (
        ({"ssid": "home", "wifi": "wrong"}, "did not let the node in"),
        ({"ssid": "", "wifi": "x"}, "missing"),
        ({"ssid": "home", "wifi": "secret", "node": "No Name"}, "node must be"),
        ({"ssid": "home", "wifi": "secret", "broker__port": "x"}, "broker.port must be"),
    ):
        _, page = await request(Portal(node), *post(**fields))
        assert word in page, (fields, page[:600])
        assert "secret" not in page
        assert kept(path) == GOOD
        assert not node.done.is_set()
    await request(Portal(node), *post(ssid="home", wifi="secret"))
    assert node.done.is_set()


async def test_names_of_networks_and_errors_cannot_be_markup():
    evil = "<script>'\"&"
    node, _ = fresh(GOOD, **{evil: (-50, None, False)})
    _, page = await request(Portal(node), "GET / HTTP/1.1\r\n\r\n")
    assert evil not in page
    assert page.count("<script>") == 1  # the page's own
    assert "&lt;script>&#39;&quot;&amp;" in page


async def test_requests_that_are_none_break_nothing():
    node, path = fresh(GOOD)
    for text in (
        "",
        "\r\n",
        "GET\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n%zz",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n%ff",
        "GET / " + "x" * 5000 + "\r\n\r\n",
    ):
        portal = Portal(node)
        if not text:
            continue
        await request(portal, text)
    assert kept(path) == GOOD
    head, _ = await request(Portal(node), "GET / HTTP/1.1\r\n\r\n")
    assert "200" in head


def test_a_broken_file_is_as_good_as_none():
    for data in ("", "{", "[]", '"x"', '{"wifi": 5}'):
        node, _ = fresh(data)
        assert node.value("site") == ""
        assert node.value("broker.host") == ""
        assert node.value("kind") == "weather"


def test_forms():
    assert form(b"a=1&b=x+y%26%C3%A4&c=&d") == {"a": "1", "b": "x y&\u00e4", "c": "", "d": ""}


QUERY = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\x07example\x03com\0\0\1\0\1"


def test_every_name_is_the_node():
    answer = name_answer(QUERY, "192.168.4.1")
    assert answer[:2] == b"\x12\x34"
    assert answer[2] & 0x80
    assert answer[6:8] == b"\0\1"
    assert answer.endswith(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\xa8\x04\x01")
    other = name_answer(QUERY[:-4] + b"\0\x1c\0\1", "192.168.4.1")  # an IPv6 address
    assert other[6:8] == b"\0\0"
    for n in range(len(QUERY)):
        assert name_answer(QUERY[:n], "192.168.4.1") is None
    for bad in (answer, os.urandom(600), QUERY[:12] + b"\xff" * 40, QUERY[:4] + b"\0\2" + QUERY[6:]):
        assert name_answer(bad, "192.168.4.1") is None
    for _ in range(300):
        name_answer(os.urandom(60), "1.2.3.4")


async def test_the_name_server_answers_on_its_socket():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    while True:
        port = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
        place = socket.getaddrinfo("127.0.0.1", port, 0, socket.SOCK_DGRAM)[0][-1]
        try:
            udp.bind(place)
            break
        except OSError:
            pass
    task = asyncio.create_task(name_server(udp, "192.168.4.1"))
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.setblocking(False)
    asker.sendto(b"junk", place)
    asker.sendto(QUERY, place)
    for _ in range(6000):
        await asyncio.sleep(0.01)
        try:
            answer = asker.recv(512)
            break
        except OSError:
            pass
    task.cancel()
    assert answer == name_answer(QUERY, "192.168.4.1")
    udp.close()
    asker.close()


def packets(data):
    decoder = Decoder()
    return [found for found in (decoder.feed(byte) for byte in data) if found]


def test_packets_are_found_in_whatever_surrounds_them():
    one, two = packet(3, b"\x02\x00"), packet(1, b"")
    expected = [(3, b"\x02\x00"), (1, b"")]
    assert one == b"IMPROV\x01\x03\x02\x02\x00\xe5\n"
    assert packets(one + two) == expected
    assert packets(b"boot log\nIMPRO\nIIMPROV" + b"x" + one + b"noise" + two) == expected
    assert packets(b"IMPROVIMPROV\x02" + one + two) == expected
    assert packets(b"I" + one) == expected[:1]
    for at in range(len(one) - 1):
        changed = bytearray(one)
        changed[at] ^= 1
        assert packets(changed) == []
    assert packets(packet(4, bytes(255))) == [(4, bytes(255))]
    packets(os.urandom(3000))


class Talk:
    """A conversation with a node; the answers as packets."""

    def __init__(self):
        self.node, self.path = fresh(GOOD)
        self.said = b""
        self.improv = Improv(
            self.write, self.node.submit, self.node.networks, ("sensorhub", "1", "ESP32", "roof")
        )

    def write(self, data):
        self.said += data

    async def say(self, *data):
        self.said = b""
        for part in data:
            await self.improv.feed(part)
        return packets(self.said)


def command(number, data=b""):
    return packet(3, bytes((number, len(data))) + data)


def wifi_command(ssid, password):
    return command(1, bytes((len(ssid),)) + ssid + bytes((len(password),)) + password)


async def test_improv_sets_the_network_and_tells_each_step():
    talk = Talk()
    assert await talk.say(command(2)) == [(1, b"\x02")]
    assert await talk.say(command(3)) == [(4, b"\x03\x17\x09sensorhub\x011\x05ESP32\x04roof")]
    assert await talk.say(command(4)) == [
        (4, b"\x04\x0c\x04cafe\x03-50\x02NO"),
        (4, b"\x04\x0d\x04home\x03-60\x03YES"),
        (4, b"\x04\x00"),
    ]
    whole = wifi_command(b"home", b"secret")
    said = await talk.say(*[whole[n : n + 1] for n in range(len(whole))])
    assert said == [(2, b"\0"), (1, b"\x03"), (1, b"\x04"), (4, b"\x01\x00")]
    assert kept(talk.path)["wifi"] == [{"ssid": "home", "password": "secret"}]
    assert talk.node.done.is_set()


async def test_improv_says_when_the_network_does_not_let_the_node_in():
    talk = Talk()
    assert await talk.say(wifi_command(b"home", b"wrong")) == [
        (2, b"\0"),
        (1, b"\x03"),
        (1, b"\x02"),
        (2, b"\x03"),
    ]
    assert kept(talk.path) == GOOD
    assert b"wrong" not in talk.said


async def test_improv_refuses_what_is_no_command():
    talk = Talk()
    assert await talk.say(command(9)) == [(2, b"\x02")]
    for data in (
        b"",
        b"\x01",
        b"\x01\x05abc",
        b"\x01\x00",
        b"\x01\x02\x00\x00",
        b"\x01\x03\x01\xff\x00",
        b"\x01\x04\x01a\x00b",
    ):
        assert await talk.say(packet(3, data)) == [(2, b"\x01")], data
    assert await talk.say(packet(1, b"\x02"), packet(4, b"\x01\x00"), b"noise") == []


async def test_ctrl_c_gets_through_and_one_within_a_packet_does_not():
    talk = Talk()
    await talk.say(command(3))  # holds the byte 3 twice
    try:
        await talk.say(b"\x03")
    except KeyboardInterrupt:
        return
    raise AssertionError("not interrupted")


def test_results_are_texts_with_their_length():
    assert packets(result(1)) == [(4, b"\x01\x00")]
    assert packets(result(4, "a", "\u00e4")) == [(4, b"\x04\x05\x01a\x02\xc3\xa4")]
    assert improv.INVALID == 1


async def test_each_stage_has_a_pattern_of_its_own():
    lit = []
    stage = ["joining"]
    original = asyncio.sleep

    async def sleep(seconds):
        lit.append(seconds)
        if len(lit) == 7:
            stage[0] = "announcing"
        await original(0)

    switched = []
    asyncio.sleep = sleep
    try:
        task = asyncio.create_task(led.show(switched.append, lambda: stage[0]))
        while len(lit) < 16:
            await original(0)
        task.cancel()
        await original(0)
    finally:
        asyncio.sleep = original
    assert lit[:2] == [0.12, 1.5]
    assert lit[8:16] == [0.12, 0.2, 0.12, 0.2, 0.12, 0.2, 0.12, 1.5] or lit[7:15] == [
        0.12, 0.2, 0.12, 0.2, 0.12, 0.2, 0.12, 1.5,
    ]  # fmt: skip
    assert switched[:4] == [True, False, True, False]
    assert switched[-1] is False
    assert len(set(led.PATTERNS.values())) == len(led.PATTERNS) - 1  # connecting and waiting look the same
    for pattern in led.PATTERNS.values():
        assert len(pattern) % 2 == 0
    assert setup.HOST == "192.168.4.1"
