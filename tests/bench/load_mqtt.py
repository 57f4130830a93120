"""A load generator that costs little: raw sockets, QoS 1, many packets in one write.

Run as `python load_mqtt.py <file>`; the file is JSON: host, port, users [[name, password], ...], topic (with
`{}` for the name), messages (path of a file of framed messages: node number 16 bit, length 16 bit, bytes),
rate (messages a second, 0 for as fast as the broker takes them), receipts (whether to wait for them). Prints JSON: seconds, cpu_seconds, and with receipts the latency in milliseconds at p50 and p99.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
import time
from pathlib import Path

WINDOW = 2_000
CHUNK = 64


def field(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def packet(kind: int, body: bytes) -> bytes:
    length, head = len(body), bytearray((kind,))
    while True:
        length, byte = length >> 7, length & 0x7F
        head.append(byte | 0x80 if length else byte)
        if not length:
            return bytes(head) + body


class Connection:
    """One node's connection: sends its messages in order, counts acknowledgements, reads receipts."""

    def __init__(
        self, host: str, port: int, user: str, password: str, topic: str, wants_receipts: bool
    ) -> None:
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = field(b"MQTT") + bytes((4, 0xC2)) + (60).to_bytes(2, "big")
        body += field(f"load-{user}".encode()) + field(user.encode()) + field(password.encode())
        self.sock.sendall(packet(0x10, body))
        answer = self.sock.recv(4)
        if answer[3:] != b"\0":
            raise SystemExit(f"the broker refused {user}: {answer.hex()}")
        if wants_receipts:
            receipt = topic.removesuffix("data") + "receipt"
            self.sock.sendall(packet(0x82, b"\0\1" + field(receipt.encode()) + b"\0"))
            self.sock.recv(5)
        self.topic = field(topic.encode())
        self.packets: list[bytes] = []
        self.sent = self.acknowledged = self.receipted = 0
        self.times: list[float] = []
        self.latencies: list[float] = []
        self.rest = b""

    def add(self, payload: bytes) -> None:
        mid = len(self.packets) % 65_535 + 1
        self.packets.append(packet(0x32, self.topic + mid.to_bytes(2, "big") + payload))

    def send(self, count: int) -> int:
        count = min(count, WINDOW - (self.sent - self.acknowledged), len(self.packets) - self.sent)
        if count > 0:
            self.sock.sendall(b"".join(self.packets[self.sent : self.sent + count]))
            self.times.extend([time.monotonic()] * count)
            self.sent += count
        return max(count, 0)

    def read(self) -> None:
        data = self.rest + self.sock.recv(65_536)
        at = 0
        while len(data) - at >= 2 and len(data) - at >= 2 + data[at + 1]:
            if data[at] == 0x40:
                self.acknowledged += 1
            elif data[at] & 0xF0 == 0x30:
                seq = receipt_seq(data[at + 4 + len(self.topic) - 2 + 3 : at + 2 + data[at + 1]])
                now = time.monotonic()
                self.latencies += [now - sent for sent in self.times[self.receipted : seq]]
                self.receipted = max(seq, self.receipted)
            at += 2 + data[at + 1]
        self.rest = data[at:]


def receipt_seq(payload: bytes) -> int:
    """The second number of CBOR [boot, seq], boot below 24."""
    info = payload[2] & 31
    return info if info < 24 else int.from_bytes(payload[3 : 3 + (1 << (info - 24))], "big")


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    wants_receipts = plan["receipts"]
    connections = [
        Connection(plan["host"], plan["port"], user, password, plan["topic"].format(user), wants_receipts)
        for user, password in plan["users"]
    ]
    data = Path(plan["messages"]).read_bytes()
    at = 0
    order = []
    while at < len(data):
        node, length = struct.unpack_from(">HH", data, at)
        connections[node].add(data[at + 4 : at + 4 + length])
        order.append(node)
        at += 4 + length
    print("ready", flush=True)
    sys.stdin.readline()
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.sock, selectors.EVENT_READ, connection)
    began, cpu = time.monotonic(), time.process_time()
    total, sent, rate = len(order), 0, plan["rate"]
    while True:
        if rate:
            due = min(int((time.monotonic() - began) * rate) + 1, total)
            while sent < due and connections[order[sent]].send(1):
                sent += 1
        elif sent < total:
            sent += sum(connection.send(CHUNK) for connection in connections)
        for key, _ in selector.select(0.001 if rate else 0 if sent < total else 1):
            key.data.read()
        if sent >= total and all(
            c.receipted >= len(c.packets) if wants_receipts else c.acknowledged == c.sent for c in connections
        ):
            break
    result = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu}
    if wants_receipts:
        times = sorted(latency for connection in connections for latency in connection.latencies)
        result["p50_ms"] = times[len(times) // 2] * 1000
        result["p99_ms"] = times[len(times) * 99 // 100] * 1000
    print(json.dumps(result))


if __name__ == "__main__":
    main()
