"""Measure the way from the broker to the committed log and the store: `python tests/bench/bench_ingest.py`.

Everything runs on this machine: mosquitto as the gateway starts it, the ingest in a process of its own, the
store follower in another, and a load generator that sends messages signed beforehand by twelve nodes. Every
signature is checked. CPU seconds are those of the ingest and the store process, user and system.

`--receive` compares receiving alone, paho-mqtt against the gateway's subscriber; `--check` the checks alone, in
threads and in processes; `--threads` repeats the flood with 1, 2 and 4 checking threads.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from coincurve import PrivateKey

from sensorhub import wire
from sensorhub.ingest.broker import EmbeddedBroker
from sensorhub.ingest.checker import Checker
from sensorhub.ingest.packets import Publish
from sensorhub.ingest.subscriber import Endpoint, Subscriber
from sensorhub.log.appender import LogClient
from sensorhub.log.entries import NodeEntry, encode_entry
from sensorhub.log.reader import LogReader
from sensorhub.nodes.registry import Registry

HERE = Path(__file__).parent
SERVE = HERE.parent / "ingest" / "serve.py"
SITE = "bench"
NODES = 12
TOPICS = f"sensorhub/v1/{SITE}/+/data"
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
NAMES = ("pm2_5", "pm10", "so2", "no2", "co", "o3", "temperature", "dew_point", "pressure", "rain")
TICK = os.sysconf("SC_CLK_TCK")
STORE = """
import signal, sys, threading
from pathlib import Path
from sensorhub.log.follower import run
from sensorhub.log.reader import LogReader
from sensorhub.nodes.registry import Registry
from sensorhub.store import SqliteStore
data_dir = Path(sys.argv[1])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop.set).start())
store = SqliteStore(data_dir / "store.sqlite")
thread = threading.Thread(target=run, args=(store, LogReader(data_dir / "log")), kwargs={"stop": stop})
thread.start()
while not stop.wait(0.05):
    Path(sys.argv[2]).write_text(str(store.cursor()))
thread.join()
"""


@dataclass(frozen=True)
class Fleet:
    """Twelve nodes with their keys."""

    keys: tuple[PrivateKey, ...] = tuple(PrivateKey(bytes([1 + number]) * 32) for number in range(NODES))

    def name(self, number: int) -> str:
        return f"node-{number:02d}"

    def public_key(self, number: int) -> bytes:
        return wire.public_key_of(self.keys[number])


def sign(fleet: Fleet, count: int, readings: int, path: Path) -> None:
    """Writes `count` messages, node after node, each with so many readings."""
    now = int(time.time()) - 7200
    prev = [bytes(32)] * NODES
    with path.open("wb") as file:
        for index in range(count):
            number, seq = index % NODES, 1 + index // NODES
            records: list[tuple[str, float | int | bytes, float]] = [
                (NAMES[r % 10], round((index * 7 + r * 13) % 977 / 4, 2), float(r // 10 * 10))
                for r in range(readings)
            ]
            raw = wire.encode_message(
                fleet.keys[number], site=SITE, node=fleet.name(number), boot=1, seq=seq, prev=prev[number],
                tq=2, uptime=index, base_time=now + seq, records=records,
            )  # fmt: skip
            prev[number] = wire.parse_signed(raw).message_hash
            file.write(struct.pack(">HH", number, len(raw)) + raw)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


@dataclass(frozen=True)
class Result:
    """What one run took."""

    messages: int
    readings: int
    seconds: float
    ingest_cpu: float
    store_cpu: float | None
    broker_cpu: float
    load_cpu: float
    megabytes: float
    p50_ms: float | None
    p99_ms: float | None


def measure(count: int, readings: int, rate: int, threads: int = 0) -> Result:
    """One run on a new gateway; `rate` 0 sends as fast as the broker takes it."""
    fleet = Fleet()
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as directory:
        data_dir = Path(directory)
        broker = EmbeddedBroker(data_dir, port=0, kind="mosquitto")
        users = [[fleet.name(n), broker.users.add(fleet.name(n))] for n in range(NODES)]
        sign(fleet, count, readings, data_dir / "messages")
        with broker:
            ingest = start_ingest(data_dir, broker, threads)
            enrol(data_dir, fleet)
            cursor = data_dir / "store.cursor"
            store = (
                subprocess.Popen([sys.executable, "-c", STORE, str(data_dir), str(cursor)])
                if has_store()
                else None
            )
            load = start_load(data_dir, broker, users, rate)
            if store is not None:
                wait(lambda: cursor.exists() and int(cursor.read_text() or 0) == 1 + NODES)
            assert broker.pid is not None
            pids = [ingest.pid, broker.pid] + ([store.pid] if store else [])
            before = [cpu_seconds(pid) for pid in pids]
            began = time.monotonic()
            go(load)
            with LogReader(data_dir / "log") as reader:
                wait(lambda: reader.size() >= 1 + NODES + count)
            seconds = time.monotonic() - began
            if store is not None:
                wait(lambda: int(cursor.read_text() or 0) >= 1 + NODES + count)
            assert load.stdout is not None
            said = json.loads(load.stdout.readline())
            load.wait()
            spent = [cpu_seconds(pid) - first for pid, first in zip(pids, before, strict=True)]
            megabytes = peak_megabytes(ingest.pid)
            for process in (store, ingest):
                if process is not None:
                    process.send_signal(signal.SIGTERM)
                    process.wait()
        return Result(
            count, count * readings, seconds, spent[0], spent[2] if store else None, spent[1], said["cpu_seconds"],
            megabytes, said.get("p50_ms"), said.get("p99_ms"),
        )  # fmt: skip


def start_load(
    data_dir: Path, broker: EmbeddedBroker, users: list[list[str]], rate: int
) -> subprocess.Popen[str]:
    """The load generator, connected and waiting for `go`."""
    plan = {
        "host": broker.host, "port": broker.port, "users": users, "topic": f"sensorhub/v1/{SITE}/{{}}/data",
        "messages": str(data_dir / "messages"), "rate": rate, "receipts": bool(rate),
    }  # fmt: skip
    (data_dir / "plan.json").write_text(json.dumps(plan))
    load = subprocess.Popen(
        [sys.executable, str(HERE / "load_mqtt.py"), str(data_dir / "plan.json")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert load.stdout is not None
    load.stdout.readline()
    return load


def go(load: subprocess.Popen[str]) -> None:
    assert load.stdin is not None
    load.stdin.write("\n")
    load.stdin.flush()


def has_store() -> bool:
    try:
        import sensorhub.store  # noqa: F401
    except ImportError:
        return False
    return True


def wait(condition: Any) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the gateway did not get there within 300 s")
        time.sleep(0.005)


def start_ingest(data_dir: Path, broker: EmbeddedBroker, threads: int) -> subprocess.Popen[bytes]:
    settings = {
        "data_dir": str(data_dir), "site": SITE, "gateway": "gw", "host": broker.host, "port": broker.port,
        "username": broker.username, "password": broker.password, "options": {"verify_threads": threads},
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, str(SERVE)], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings).encode())
    process.stdin.close()
    status = data_dir / "status" / "ingest.json"
    wait(lambda: status.exists() and json.loads(status.read_text()).get("connected"))
    return process


def enrol(data_dir: Path, fleet: Fleet) -> None:
    with LogClient(data_dir / "run" / "log.sock") as client:
        client.append(
            [
                encode_entry(NodeEntry(1, "enrol", fleet.name(n), "bench", fleet.public_key(n)))
                for n in range(NODES)
            ]
        )


def show(results: list[tuple[str, Result]]) -> None:
    print(
        f"{'':34}{'messages/s':>11}{'readings/s':>12}{'ingest':>8}{'store':>7}{'total':>7}{'broker':>8}{'load':>6}{'RSS MB':>8}"
        f"{'p50 ms':>8}{'p99 ms':>8}"
    )
    print(f"{'':34}{'':23}{'CPU s per 100,000 readings':>36}")
    for name, r in results:
        per = 100_000 / r.readings
        store = "-" if r.store_cpu is None else f"{r.store_cpu * per:.2f}"
        latency = "".join("       -" if ms is None else f"{ms:8.1f}" for ms in (r.p50_ms, r.p99_ms))
        print(
            f"{name:34}{r.messages / r.seconds:11,.0f}{r.readings / r.seconds:12,.0f}{r.ingest_cpu * per:8.2f}{store:>7}"
            f"{(r.ingest_cpu + (r.store_cpu or 0)) * per:7.2f}{r.broker_cpu * per:8.2f}{r.load_cpu * per:6.2f}{r.megabytes:8.1f}{latency}"
        )


class PahoReceiver:
    """paho-mqtt that acknowledges each message as it comes."""

    name = "paho-mqtt"

    def __init__(self, broker: EmbeddedBroker, count: int) -> None:
        self.left, self.done, self.ready = count, threading.Event(), threading.Event()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id="bench", clean_session=False, manual_ack=True
        )
        self.client.username_pw_set(broker.username, broker.password)
        self.client.on_connect = lambda client, *_: client.subscribe(TOPICS, 1)
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = self.receive
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        self.ready.wait(10)

    def receive(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        client.ack(message.mid, 1)
        self.left -= 1
        if self.left == 0:
            self.done.set()

    def close(self) -> None:
        self.client.disconnect()


class OwnReceiver:
    """The gateway's subscriber, acknowledging what each read held."""

    name = "subscriber"

    def __init__(self, broker: EmbeddedBroker, count: int) -> None:
        self.left, self.done = count, threading.Event()
        endpoint = Endpoint(broker.host, broker.port, "bench", broker.username, broker.password)
        self.subscriber = Subscriber(endpoint, [TOPICS], self.receive)
        threading.Thread(target=self.subscriber.run, daemon=True).start()
        wait(lambda: self.subscriber.subscribed)

    def receive(self, messages: list[Publish], epoch: int) -> None:
        self.subscriber.settle([message.mid for message in messages], len(messages), epoch)
        self.left -= len(messages)
        if self.left == 0:
            self.done.set()

    def close(self) -> None:
        self.subscriber.stop()


def receive_only(count: int) -> None:
    """Receiving and acknowledging alone: microseconds of CPU per message."""
    for kind in (PahoReceiver, OwnReceiver):
        with tempfile.TemporaryDirectory(prefix="bench-ingest-") as directory:
            data_dir = Path(directory)
            broker = EmbeddedBroker(data_dir, port=0, kind="mosquitto")
            fleet = Fleet()
            users = [[fleet.name(n), broker.users.add(fleet.name(n))] for n in range(NODES)]
            sign(fleet, count, 10, data_dir / "messages")
            with broker:
                load = start_load(data_dir, broker, users, rate=0)
                receiver = kind(broker, count)
                before = time.process_time()
                go(load)
                receiver.done.wait(300)
                spent = time.process_time() - before
                receiver.close()
                load.wait()
        print(f"receive and acknowledge, {kind.name:12} {spent / count * 1e6:6.1f} us CPU per message")


_checker: Checker | None = None


def _check(messages: list[tuple[bytes, bytes, int, int]]) -> list[Any]:
    assert _checker is not None
    now = time.time_ns() // 1_000_000
    return [_checker.check(Publish(*message), now) for message in messages]


def check_only(count: int) -> None:
    """Checking alone, in threads and in processes: microseconds per message of 10 readings."""
    global _checker
    fleet, registry = Fleet(), Registry()
    for n in range(NODES):
        registry.apply(n, NodeEntry(1, "enrol", fleet.name(n), "bench", fleet.public_key(n)))
    _checker = Checker(SITE, registry, future_tolerance=60, threads=0)
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as directory:
        sign(fleet, count, 10, Path(directory) / "messages")
        data = (Path(directory) / "messages").read_bytes()
    messages, at = [], 0
    while at < len(data):
        number, length = struct.unpack_from(">HH", data, at)
        topic = f"sensorhub/v1/{SITE}/{fleet.name(number)}/data".encode()
        messages.append((topic, data[at + 4 : at + 4 + length], 1, 2))
        at += 4 + length
    chunks = [messages[start : start + 64] for start in range(0, count, 64)]
    for name, pool in (("threads", ThreadPoolExecutor), ("processes", ProcessPoolExecutor)):
        for workers in (1, 2):
            before = sum(resource.getrusage(who)[0] + resource.getrusage(who)[1] for who in WHO)
            with pool(workers) as executor:
                list(executor.map(_check, chunks[:2]))
                began = time.monotonic()
                list(executor.map(_check, chunks))
                wall = time.monotonic() - began
            spent = sum(resource.getrusage(who)[0] + resource.getrusage(who)[1] for who in WHO) - before
            print(
                f"{workers} {name:10} {wall / count * 1e6:6.1f} us, {spent / count * 1e6:6.1f} us CPU per message"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=30_000, help="messages of a flood (default 30,000)")
    parser.add_argument("--readings", type=int, nargs="*", default=[1, 10, 60], help="readings per message")
    parser.add_argument("--receive", action="store_true", help="compare receiving alone with paho-mqtt")
    parser.add_argument("--check", action="store_true", help="compare threads and processes for the checks")
    parser.add_argument("--threads", action="store_true", help="repeat with 1, 2 and 4 checking threads")
    options = parser.parse_args()
    if options.receive:
        receive_only(options.messages)
        return
    if options.check:
        check_only(options.messages)
        return
    if options.threads:
        show(
            [
                (f"{threads} threads, 10 readings a message", measure(options.messages, 10, 0, threads))
                for threads in (1, 2, 4)
            ]
        )
        return
    results = [
        (f"flood, {readings} readings a message", measure(options.messages, readings, 0))
        for readings in options.readings
    ]
    results.append(("1,000 messages/s, 10 readings each", measure(5_000, 10, 1_000)))
    show(results)


if __name__ == "__main__":
    main()
