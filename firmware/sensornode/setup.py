"""Set-up of a node that knows no network: an open access point with one page, and Improv over the serial line.

Both try the network before they keep it, write node.json, and let the node start again. Whoever is near can set up a
node that has no network yet; one that has a network never opens an access point.
"""

import asyncio
import json
import os
import sys

from . import __version__, board, improv
from .aside import aside
from .config import ConfigError, check
from .wifi import Wifi, leave

HOST = "192.168.4.1"
WEB, NAMES = 80, 53  # ports
_MOST = 2048  # bytes of a form
# (key, what the page calls it, whether what is set may be shown)
_FIELDS = (
    ("site", "Site", True),
    ("node", "Name of this node", True),
    ("kind", "Kind of node", True),
    ("broker.host", "Gateway (MQTT broker)", True),
    ("broker.port", "Port", True),
    ("broker.password", "Password at the broker", False),
    ("claim", "One-time claim", False),
)
_PAGE = """<!doctype html><meta name=viewport content="width=device-width"><title>sensorhub</title>
<style>body{font:1em sans-serif;max-width:24em;margin:2em auto;padding:0 1em}input{width:100%%;padding:.4em;margin:.2em 0 1em;\
box-sizing:border-box}b{color:#b00}</style><h1>Set up this node</h1><p><b>%s</b><form method=post>
<label>Wi-Fi network<input name=ssid list=heard required maxlength=32></label><datalist id=heard>%s</datalist>
<label>Wi-Fi password<input name=wifi type=password maxlength=63></label>%s<input name=now type=hidden>
<input type=submit value=Save></form><script>document.forms[0].now.value=Math.floor(Date.now()/1000)</script>"""
_DONE = "<!doctype html><title>sensorhub</title><h1>Saved</h1><p>The node is in the network and starts again."


class Setup:
    """What both ways of set-up share.

    :param path: node.json, which may be missing or hold anything.
    :param wlan: `network.WLAN` of the station interface.

    Attributes: `done`, an event.
    """

    def __init__(self, path, wlan):
        self._path = path
        self._wlan = wlan
        self._busy = asyncio.Lock()
        self.done = asyncio.Event()
        try:
            with open(path) as file:
                data = json.load(file)
        except (OSError, ValueError):
            data = None
        self.data = data if isinstance(data, dict) else {}
        self.data.setdefault("interval", 60)
        self.data.setdefault("sensors", [])
        self.data.setdefault("kind", "weather")

    async def idle(self):
        """Return when no network is being tried."""
        async with self._busy:
            pass

    def value(self, key):
        """What is set for a dotted key, as text."""
        value = self.data
        for part in key.split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        return str(value)

    async def networks(self):
        """[(ssid, dBm, secured), ...], strongest first."""
        self._wlan.active(True)
        heard = {}
        try:
            for found in await aside(self._wlan.scan):
                ssid = str(bytes(found[0]), "utf-8")
                if ssid and found[3] > heard.get(ssid, (-1000,))[0]:
                    heard[ssid] = (found[3], found[4] != 0)
        except (OSError, RuntimeError, ValueError):
            pass
        return [(ssid, level, secured) for level, ssid, secured in _strongest(heard)]

    async def submit(self, ssid, password, fields=()):
        """Check, try the network, keep everything. Returns "" when it is kept, or why it is not."""
        data = json.loads(json.dumps(self.data))
        for key, text in fields:
            if text:
                table = data
                *tables, name = key.split(".")
                for part in tables:
                    table = table.setdefault(part, {})
                table[name] = int(text) if name == "port" and text.isdigit() else text
        others = [row for row in data.get("wifi", ()) if isinstance(row, dict) and row.get("ssid") != ssid]
        data["wifi"] = [{"ssid": ssid, "password": password}] + others
        try:
            check(data, "node.json")
        except (ConfigError, TypeError, AttributeError) as error:
            return str(error)
        async with self._busy:
            try:
                leave(self._wlan)
                await Wifi(self._wlan, ((ssid, password),)).join()
            except OSError:
                return "the network did not let the node in: wrong password, or too far away?"
            with open(self._path + ".new", "w") as file:
                json.dump(data, file)
            os.rename(self._path + ".new", self._path)
        self.done.set()
        return ""


class Portal:
    """The access point's page, and a name server that leads everywhere to it."""

    def __init__(self, setup, host=HOST):
        self._setup = setup
        self._host = host

    async def serve(self, reader, writer):
        """One request."""
        try:
            await asyncio.wait_for(self._answer(reader, writer), 60)
        except (OSError, asyncio.TimeoutError, ValueError, EOFError):
            pass
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass

    async def _answer(self, reader, writer):
        method, path, _ = (await _line(reader)).split(" ", 2)
        length = 0
        while True:
            line = await _line(reader)
            if not line:
                break
            if line.lower().startswith("content-length:"):
                length = int(line[15:])
        if method == "POST" and path == "/" and length <= _MOST:
            fields = form(await reader.readexactly(length))
            ssid, password = fields.pop("ssid", ""), fields.pop("wifi", "")
            known = [(key, fields[key]) for key, _, _ in _FIELDS if key in fields]
            error = await self._setup.submit(ssid, password, known) if ssid else "a network is missing"
            if not error:
                board.remember_date(
                    _unix(fields.get("now", ""))
                )  # for certificates, should no time server answer
            await _send(writer, await self._page(error) if error else _DONE)
        elif path == "/":
            await _send(writer, await self._page(""))
        else:  # what telephones and computers ask to see whether there is a portal
            writer.write(
                (
                    "HTTP/1.0 302 Found\r\nLocation: http://%s/\r\nContent-Length: 0\r\n\r\n" % self._host
                ).encode()
            )
            await writer.drain()

    async def _page(self, error):
        heard = "".join("<option value='%s'>" % escape(ssid) for ssid, _, _ in await self._setup.networks())
        fields = ""
        for key, label, shown in _FIELDS:
            value = escape(self._setup.value(key)) if shown else ""
            kind = "text" if shown else "password"
            fields += "<label>%s<input name='%s' type=%s value='%s'></label>" % (label, key, kind, value)
        return _PAGE % (escape(error), heard, fields)


def name_answer(query, host):
    """Answer to a DNS query (RFC 1035, section 4.1): the one address for whatever is asked; None for what is no query."""
    if len(query) < 17 or len(query) > 300 or query[2] & 0xF8 or query[4:6] != b"\0\1":
        return None
    end = 12
    while end < len(query) and query[end]:
        end += 1 + query[end]
    end += 5
    if end > len(query):
        return None
    address = bytes(int(part) for part in host.split("."))
    wanted = query[end - 4 : end] == b"\0\1\0\1"  # an address of the internet; of other types there is none
    out = query[:2] + b"\x84\0\0\1" + (b"\0\1" if wanted else b"\0\0") + bytes(4) + query[12:end]
    return out + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + address if wanted else out


async def name_server(udp, host):
    """Answer queries on a bound, non-blocking socket, for ever."""
    while True:
        try:
            query, asker = udp.recvfrom(512)
            answer = name_answer(query, host)
            if answer:
                udp.sendto(answer, asker)
        except OSError:
            await asyncio.sleep(0.05)


def _unix(text):
    """The Unix time that a page tells, 0 when it tells none."""
    return int(text) if text.isdigit() and len(text) == 10 else 0


def form(body):
    """Fields of an application/x-www-form-urlencoded body. ValueError when it is not UTF-8."""
    fields = {}
    for pair in body.split(b"&"):
        name, _, value = pair.partition(b"=")
        fields[_unquote(name)] = _unquote(value)
    return fields


def escape(text):
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), ("'", "&#39;"), ('"', "&quot;")):
        text = text.replace(sign, entity)
    return text


def _unquote(text):
    parts = text.replace(b"+", b" ").split(b"%")
    out = parts[0]
    for part in parts[1:]:
        out += bytes((int(part[:2], 16),)) + part[2:]
    return str(out, "utf-8")


def _strongest(heard):
    ranks = sorted(((-level, ssid, secured) for ssid, (level, secured) in heard.items()))
    return [(-level, ssid, secured) for level, ssid, secured in ranks]


async def _line(reader):
    line = await reader.readline()
    if not line or len(line) > _MOST:
        raise ValueError("no request")
    return str(line, "utf-8").strip()


async def _send(writer, page):
    body = page.encode()
    head = "HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n"
    writer.write((head % len(body)).encode())
    writer.write(body)
    await writer.drain()


async def _serial(setup):
    """Improv on the serial line of the prompt."""
    import micropython

    async def connect(ssid, password):
        return await setup.submit(ssid, password)

    def write(data):
        sys.stdout.buffer.write(data)

    info = ("sensorhub", __version__, board.hardware(), setup.value("node") or "node")
    conversation = improv.Improv(write, connect, setup.networks, info)
    reader = asyncio.StreamReader(sys.stdin.buffer)  # type: ignore - as MicroPython has it
    micropython.kbd_intr(-1)  # a packet may hold the byte of Ctrl-C
    try:
        while True:
            data = await reader.read(1)
            if not data:
                break  # nothing is plugged in
            await conversation.feed(data)
    finally:
        micropython.kbd_intr(3)


async def run(path, seconds=0):
    """Open the access point and wait until somebody has set the node up, for `seconds` at most when that is not 0."""
    import socket

    setup = Setup(path, board.station())
    name = board.access_point("sensorhub")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.bind(socket.getaddrinfo("0.0.0.0", NAMES, 0, socket.SOCK_DGRAM)[0][-1])
    portal = Portal(setup)
    server = await asyncio.start_server(portal.serve, "0.0.0.0", WEB)
    print("set-up: join the Wi-Fi network %s, or use Improv on this line" % name)
    tasks = [asyncio.create_task(name_server(udp, HOST)), asyncio.create_task(_serial(setup))]
    led = setup.data.get("led")
    if isinstance(led, dict) and isinstance(led.get("pin"), int) and led["pin"] >= 0:
        from .led import show

        light = board.led(led["pin"], bool(led.get("low")))
        tasks.append(asyncio.create_task(show(light, lambda: "setup")))
    try:
        await asyncio.wait_for(setup.done.wait(), seconds or None)
        await asyncio.sleep(2)  # the page is still on its way
    except asyncio.TimeoutError:
        await setup.idle()
    for task in tasks:
        task.cancel()
    server.close()
    udp.close()
