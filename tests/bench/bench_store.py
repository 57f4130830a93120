"""What the store costs: from log entries to committed rows, decoding included.

    python tests/bench/bench_store.py [--messages 20000] [--interval 10] [--nodes 12]

Prints CPU microseconds per reading for messages of 1, 10 and 60 readings, of which the verdicts, and what a
month-long chart takes. Nodes send every `--interval` seconds (60 readings a message are six samples of ten
channels). Signatures are not checked here: that is done before the log.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time
from pathlib import Path

import cbor2
from coincurve import PrivateKey

from sensorhub.log.entries import MessageEntry, VerdictEntry, encode_entry
from sensorhub.store import SqliteStore
from sensorhub.wire import encode_message, parse_pack, parse_signed

CHANNELS = (
    "temperature", "humidity", "pressure", "pm2_5", "pm10", "no2", "o3", "co", "wind_speed", "wind_direction"
)  # fmt: skip
START = 1_700_006_400
BATCH = 1024


def messages(count: int, per: int, nodes: int, interval: int) -> list[bytes]:
    """Encoded message entries, in order; values are floats of 32 bits and whole numbers, as nodes send."""
    keys = [PrivateKey(hashlib.sha256(b"%d" % n).digest()) for n in range(nodes)]
    entries = []
    for i in range(count):
        node, turn = i % nodes, i // nodes
        records = []
        for k in range(per):
            value = (i * 37 + k * 101) % 1000
            offset = k // len(CHANNELS) * (interval // 6 or 1)
            records.append((CHANNELS[k % len(CHANNELS)], value if k % 3 else value / 8 + 0.5, offset))
        base = START + turn * interval
        raw = encode_message(
            keys[node], site="lab", node=f"node-{node:03}", boot=1, seq=turn + 1, prev=bytes(32), tq=2,
            uptime=turn * interval, base_time=base, records=records,
        )  # fmt: skip
        entries.append(encode_entry(MessageEntry(base * 1000, raw)))
    return entries


def with_verdicts(entries: list[bytes], per: int) -> list[bytes]:
    """The entries as a gateway's log holds them: verdicts follow 500 messages later at most."""
    log: list[bytes] = []
    waiting: list[int] = []
    pairs = ((191, 0),) * per
    most = max(1, min(500, 9000 // per))
    for entry in entries:
        waiting.append(len(log))
        log.append(entry)
        if len(waiting) == most:
            log.append(encode_entry(VerdictEntry(1, b"", "rules/1", tuple((i, pairs) for i in waiting))))
            waiting.clear()
    return log


def cpu(store: SqliteStore, log: list[bytes]) -> float:
    """CPU seconds to take in a log and to bring all rollups up to date."""
    indexed = list(enumerate(log))
    started = time.process_time()
    for first in range(0, len(indexed), BATCH):
        store.apply(indexed[first : first + BATCH])
    store.settle()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--interval", type=int, default=10)
    options = parser.parse_args()
    print(f"{options.nodes} nodes, a message every {options.interval} s of each")
    print("readings/message  us/reading  with verdicts  of which decoding  bytes/reading  CPU-s/100,000")
    for per in (1, 10, 60):
        count = max(options.messages // max(1, per // 10), 1)
        entries = messages(count, per, options.nodes, options.interval)
        log = with_verdicts(entries, per)
        readings = count * per
        started = time.process_time()
        for entry in entries:
            signed = parse_signed(cbor2.loads(entry)[2])
            parse_pack(signed.payload, tq=signed.tq)
        decoding = time.process_time() - started
        with tempfile.TemporaryDirectory() as folder:
            with SqliteStore(Path(folder, "a")) as store:
                plain = cpu(store, entries)
            with SqliteStore(Path(folder, "b")) as store:
                judged = cpu(store, log)
            size = Path(folder, "b").stat().st_size
        print(
            f"{per:16}  {plain / readings * 1e6:10.2f}  {judged / readings * 1e6:13.2f}"
            f"  {decoding / readings * 1e6:17.2f}  {size / readings:13.1f}  {judged / readings * 1e5:13.3f}"
        )
    print(
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB, the made log included"
    )

    with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder, "month")) as store:
        minutes = 30 * 24 * 60
        entries = messages(minutes, 10, 1, 60)
        cpu(store, entries)
        for resolution in ("raw", "5m", "1h", "auto"):
            started = time.perf_counter()
            found = store.series(
                "node-000",
                "temperature",
                START,
                START + 60 * minutes,
                resolution,
                limit=10**6 if resolution != "auto" else 5000,
            )
            took = time.perf_counter() - started
            print(
                f"a month of one channel at one a minute, {resolution}: {len(found['time'])} rows"
                f" ({found['resolution']}) in {took * 1e3:.1f} ms"
            )


if __name__ == "__main__":
    main()
