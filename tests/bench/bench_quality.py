"""How fast readings are judged: columns alone, and from log entries to encoded verdict entries.

    python tests/bench/bench_quality.py

Prints CPU microseconds per reading and readings per second and core for networks of several sizes (readings
come as one message of ten channels each), and the memory of 1,000 nodes with 8 channels.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from bench_store import CHANNELS, messages
from coincurve import PrivateKey

from sensorhub.log.entries import MessageEntry, encode_entry
from sensorhub.quality.columns import Columns, columns_of, read_messages
from sensorhub.quality.follower import _entries, _per_message
from sensorhub.quality.judge import Judge
from sensorhub.quality.model import Model, shipped
from sensorhub.quality.rules import Rules
from sensorhub.wire import encode_message

BATCH = 1024
CAMERA = ("luminance", "contrast", "sharpness", "overexposed", "motion", "objects")
COMPARED = ("pm2_5", "pm10", "no2", "o3", "temperature", "humidity", "pressure", "pm1")


def network(
    nodes: int, channels: int, turns: int, rules: Rules, names: tuple[str, ...] = CHANNELS
) -> list[Columns]:
    """Batches of random walks that give every rule something to compare."""
    rng = np.random.default_rng(1)
    names = names[:channels]
    kids = [hashlib.sha256(b"%d" % n).digest()[:8] for n in range(nodes)]
    series = [rules.numbers.of(f"node-{n}", names)[0] for n in range(nodes)]
    values = np.round(20 + np.cumsum(rng.normal(0, 0.3, (turns, nodes, channels)), axis=0) % 20, 2)
    order = [(turn, node) for turn in range(turns) for node in range(nodes)]
    batches = []
    for first in range(0, len(order), BATCH):
        part = order[first : first + BATCH]
        base = np.array([1.7e9 + 60 * turn for turn, _ in part])
        count = np.full(len(part), channels)
        batches.append(
            Columns(
                index=np.arange(first, first + len(part)),
                count=count,
                kid=tuple(kids[node] for _, node in part),
                boot=np.ones(len(part), dtype=np.int64),
                seq=np.array([turn + 1 for turn, _ in part]),
                tq=np.full(len(part), 2),
                base=base,
                series=np.array([s for _, node in part for s in series[node]]),
                time=np.repeat(base, count),
                value=np.concatenate([values[turn, node] for turn, node in part]),
            )
        )
    return batches


def main() -> None:
    print("rules alone              us/reading  readings/s/core")
    for nodes, channels, turns in ((1, 10, 4000), (12, 10, 1500), (1000, 8, 60)):
        rules = Rules()
        batches = network(nodes, channels, turns, rules)
        readings = nodes * channels * turns
        started = time.process_time()
        for batch in batches:
            rules.judge(batch)
        took = time.process_time() - started
        print(
            f"{nodes:5} nodes x {channels:2} channels  {took / readings * 1e6:10.2f}  {readings / took:15,.0f}"
        )
    size = sum(array.nbytes for array in rules._state.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"memory of 1,000 nodes x 8 channels: {size / 2**20:.0f} MB of state at most, peak of this process {peak:.0f} MB"
    )

    print("rules with cameras, 6 channels each")
    for nodes, turns in ((1, 2000), (100, 200)):
        rules = Rules()
        batches = network(nodes, len(CAMERA), turns, rules, CAMERA)
        batches = [replace(b, value=b.value % 0.9) for b in batches]
        readings = nodes * len(CAMERA) * turns
        started = time.process_time()
        for batch in batches:
            rules.judge(batch)
        took = time.process_time() - started
        print(f"{nodes:5} cameras                {took / readings * 1e6:10.2f}  {readings / took:15,.0f}")

    print("rules, neighbours and model  us/reading  readings/s/core")
    model = Model.load(shipped())
    for nodes, channels, turns in ((12, 8, 900), (1000, 8, 60)):
        judge = Judge(model)
        for n in range(nodes):
            judge.place(f"node-{n}", 39.9 + 0.3 * (n % 31) / 31, 116.3 + 0.3 * (n % 37) / 37)
        batches = network(nodes, channels, turns, judge.rules, COMPARED)
        warm = len(batches) // 3
        for batch in batches[:warm]:
            judge.judge(batch)
        readings = sum(batch.value.size for batch in batches[warm:])
        started = time.process_time()
        for batch in batches[warm:]:
            judge.judge(batch)
        took = time.process_time() - started
        print(
            f"{nodes:5} nodes x {channels:2} channels  {took / readings * 1e6:10.2f}  {readings / took:15,.0f}"
        )
    arrays, _ = judge.dump()
    size = sum(array.nbytes for array in arrays.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"memory of 1,000 nodes x 8 channels: {size / 2**20:.0f} MB of state, peak of this process {peak:.0f} MB"
    )

    print("log entries to verdict entries, rules, 12 nodes")
    for per in (1, 10, 60):
        entries = list(enumerate(messages(10_000 // max(1, per // 10), per, 12, 60)))
        rules = Rules()
        started = time.process_time()
        for first in range(0, len(entries), BATCH):
            columns = columns_of(read_messages(entries[first : first + BATCH]), rules.numbers)
            judged = rules.judge(columns)
            _entries(_per_message(columns.index, columns.count, judged.score, judged.flags))
        took = time.process_time() - started
        readings = len(entries) * per
        print(f"{per:5} readings a message    {took / readings * 1e6:10.2f}  {readings / took:15,.0f}")

    print("log entries to verdict entries, rules, neighbours and model, 200 nodes x 8 channels")
    entries = list(enumerate(compared(200, 60)))
    judge = Judge(model)
    took, readings = 0.0, 0
    for first in range(0, len(entries), BATCH):
        started = time.process_time()
        columns = columns_of(read_messages(entries[first : first + BATCH]), judge.rules.numbers)
        judged = judge.judge(columns).judged
        _entries(_per_message(columns.index, columns.count, judged.score, judged.flags), judge.model)
        if first >= len(entries) // 3:
            took += time.process_time() - started
            readings += columns.value.size
    print(f"    8 readings a message    {took / readings * 1e6:10.2f}  {readings / took:15,.0f}")


def compared(nodes: int, turns: int) -> Iterator[bytes]:
    """Message entries of eight channels each, node after node, once a minute."""
    rng = np.random.default_rng(2)
    level = rng.uniform(10, 40, (nodes, len(COMPARED)))
    keys = [PrivateKey(hashlib.sha256(b"%d" % n).digest()) for n in range(nodes)]
    for turn in range(turns):
        level += rng.normal(0, 0.1, level.shape)
        for n in range(nodes):
            base = 1_700_000_000 + 60 * turn
            raw = encode_message(
                keys[n],
                site="lab",
                node=f"node-{n}",
                boot=1,
                seq=turn + 1,
                prev=bytes(32),
                tq=2,
                uptime=0,
                base_time=base,
                records=[(c, round(float(v), 1), 0) for c, v in zip(COMPARED, level[n], strict=True)],
            )
            yield encode_entry(MessageEntry(base * 1000, raw))


if __name__ == "__main__":
    main()
