"""A web server for firmware tests, under both interpreters: one document, and what it does wrong."""

# ruff: noqa: SIM105 - MicroPython has no contextlib and a TimeoutError of its own

import asyncio
import os


class Server:
    """:param document: the bytes it serves; `script` (reader, writer) takes its place where it is given."""

    def __init__(self, document=b"", script=None):
        self.document = document
        self.script = script
        self.asked = []

    async def start(self):
        while True:
            self.port = 20000 + int.from_bytes(os.urandom(2), "big") % 12000
            try:
                self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
                return self
            except OSError:
                pass

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/image"

    async def serve(self, reader, writer):
        try:
            while True:
                line = await reader.readline()
                if line in (b"", b"\r\n"):
                    break
                self.asked.append(line)
            if self.script:
                await self.script(writer)
            else:
                head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(self.document)}\r\n\r\n"
                writer.write(head.encode())
                for at in range(0, len(self.document), 1000):
                    writer.write(self.document[at : at + 1000])
                    await writer.drain()
        except OSError:
            pass
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass

    async def stop(self):
        self.server.close()
        await asyncio.sleep(0)


def member(name, content, kind=b"0", **more):
    """One member of a ustar archive (POSIX.1-1988)."""
    head = bytearray(512)
    head[: len(name)] = name.encode()
    head[100:108] = b"0000644\0"
    head[124:136] = b"%011o\0" % more.get("size", len(content))
    head[156:157] = kind
    head[257:265] = b"ustar\x0000"
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content + bytes(-len(content) % 512)


def archive(files, end=True):
    """A ustar archive of {name: content}."""
    return b"".join(member(name, content) for name, content in files) + bytes(1024 if end else 0)
