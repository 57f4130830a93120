"""Measure the wire on this machine: `python tests/bench/bench_wire.py`.

Prints microseconds per message (the best of several rounds) for what a gateway does with one: read envelope
and header, check the signature, read the pack; at 1, 10 and 60 records, and with 1 and 2 threads.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from coincurve import PrivateKey

from sensorhub.wire import (
    Signed,
    decode,
    encode_message,
    kid,
    parse_pack,
    parse_signed,
    public_key_of,
    verify,
)
from sensorhub.wire.cose import parse_signed_by_rules
from sensorhub.wire.senml import parse_pack_by_rules

Item = TypeVar("Item")

NODES = 12
MESSAGES = 600
ROUNDS = 5
NAMES = ("pm2_5", "pm10", "so2", "no2", "co", "o3", "temperature", "dew_point", "pressure", "rain")
NOW = 1_700_000_000


def messages(records: int) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Return signed messages of several nodes, with values and times as sensors have them, and the keys."""
    keys = [PrivateKey(hashlib.sha256(b"bench %d" % number).digest()) for number in range(NODES)]
    made = []
    for index in range(MESSAGES):
        rows: list[tuple[str, float | int | bytes, float]] = []
        for record in range(records):
            value = struct.unpack(">f", struct.pack(">f", (index * 7 + record * 13) % 977 / 10))[0]
            rows.append((NAMES[record % 10], value if record % 3 else round(value), record // 10 * 10))
        made.append(
            encode_message(
                keys[index % NODES], site="bench", node=f"node-{index % NODES}", boot=1, seq=1 + index // NODES, prev=bytes(32),
                tq=2, uptime=index, base_time=NOW - 60, records=rows,
            )
        )  # fmt: skip
    return made, {kid(public_key_of(key)): public_key_of(key) for key in keys}


def best(work: Callable[[Item], object], items: Sequence[Item], threads: int = 1) -> float:
    """Return microseconds of wall time per item in the fastest round."""
    times = []
    chunks = [items[start::threads] for start in range(threads)]

    def run(chunk: Sequence[Item]) -> None:
        for item in chunk:
            work(item)

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            if threads == 1:
                run(items)
            else:
                list(pool.map(run, chunks))
            times.append(time.perf_counter() - started)
    return min(times) / len(items) * 1e6


def main() -> None:
    columns = (1, 10, 60)
    rows: dict[str, list[float]] = {}
    for records in columns:
        raws, keys = messages(records)
        signed = [parse_signed(raw) for raw in raws]
        nodes = {raw: f"node-{index % NODES}" for index, raw in enumerate(raws)}

        def check(item: Signed, keys: dict[bytes, bytes] = keys) -> bool:
            return verify(item, keys[item.kid])

        def whole(raw: bytes, keys: dict[bytes, bytes] = keys, nodes: dict[bytes, str] = nodes) -> object:
            return decode(raw, public_key=keys.get, site="bench", node=nodes[raw], now=NOW)

        measured = {
            "bytes per message": sum(map(len, raws)) / len(raws),
            "envelope and header": best(parse_signed, raws),
            "  by rules": best(parse_signed_by_rules, raws[:100]),
            "pack": best(lambda item: parse_pack(item.payload, tq=2), signed),
            "  pack by rules": best(lambda item: parse_pack_by_rules(item.payload, tq=2), signed[:100]),
            "digest": best(lambda item: item.digest, signed),
            "digest and signature": best(check, signed),
            "  checked on 2 threads": best(check, signed, threads=2),
            "decode, everything": best(whole, raws),
            "  decoded on 2 threads": best(whole, raws, threads=2),
        }
        for name, value in measured.items():
            rows.setdefault(name, []).append(value)
    print(f"{'us per message':<26}" + "".join(f"{f'{records} records':>12}" for records in columns))
    for name, values in rows.items():
        print(f"{name:<26}" + "".join(f"{value:12.2f}" for value in values))


if __name__ == "__main__":
    main()
