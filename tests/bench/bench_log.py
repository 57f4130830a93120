"""Measure the log: `python tests/bench/bench_log.py [--entries 1000000] [--length 100]`.

Appends entries to a tree in memory, then to a log on disk with group commit, proves one of them and checks
that proof, reads everything back, opens the log again and checks every byte of it. The target beside a rate
is what the project promises for one core; the ratio is measured over target. CPU time is the whole process's,
tile writing included.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sensorhub.log.fsck import fsck
from sensorhub.log.log import Log
from sensorhub.log.merkle import Tree, leaf_hash, verify_inclusion
from sensorhub.log.note import NoteSigner, open_checkpoint
from sensorhub.log.reader import LogReader

ORIGIN = "bench.log/sensorhub"
IN_MEMORY, GROUP_COMMIT = 150_000, 100_000


def report(what: str, count: int, seconds: float, cpu: float, target: int | None = None) -> bool:
    """Prints one line; says whether the target is met, in entries per second of one core."""
    rate = count / max(seconds, cpu)
    ratio = f"{rate / target:6.2f} x of {target:,}" if target else ""
    print(f"{what:<34} {count / seconds:>12,.0f}/s {count / cpu:>12,.0f}/CPU-s  {ratio}")
    return target is None or rate >= target


def in_memory(entries: Sequence[bytes], batch: int) -> tuple[bytes, bool]:
    """Appends to a tree in memory; returns its root."""
    tree = Tree()
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(entries), batch):
        tree.extend(entries[start : start + batch])
    root = tree.root()
    good = report(
        "tree in memory", len(entries), time.perf_counter() - wall, time.process_time() - cpu, IN_MEMORY
    )
    return root, good


def on_disk(path: Path, entries: Sequence[bytes], batch: int, signer: NoteSigner) -> bool:
    """Appends to a log with one commit for each batch."""
    with Log.open(path, origin=ORIGIN, signer=signer) as log:
        slowest = 0.0
        wall, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(entries), batch):
            begin = time.perf_counter()
            log.append_many(entries[start : start + batch])
            log.commit()
            slowest = max(slowest, time.perf_counter() - begin)
        seconds, used = time.perf_counter() - wall, time.process_time() - cpu
        good = report(f"log, {batch} entries a commit", len(entries), seconds, used, GROUP_COMMIT)
        log.settle()
        settled, used = time.perf_counter() - wall, time.process_time() - cpu
        report("  until all tiles are durable", len(entries), settled, used)
        print(f"  slowest commit {1e3 * slowest:.1f} ms")
    return good


def single_commits(path: Path, entries: Sequence[bytes], signer: NoteSigner) -> None:
    """One entry for each commit: what the disk's sync costs."""
    with Log.open(path, origin=ORIGIN, signer=signer) as log:
        times = []
        cpu = time.process_time()
        for entry in entries:
            begin = time.perf_counter()
            log.append(entry)
            log.commit()
            times.append(time.perf_counter() - begin)
        report("log, 1 entry a commit", len(entries), sum(times), time.process_time() - cpu)
        times.sort()
        print(
            f"  median {1e3 * times[len(times) // 2]:.2f} ms, p99 {1e3 * times[len(times) * 99 // 100]:.2f} ms"
        )


def prove(path: Path, entries: Sequence[bytes], root: bytes, signer: NoteSigner) -> None:
    """Proves one entry against the stored checkpoint, cold and warm."""
    index = random.Random(1).randrange(len(entries))
    with LogReader(path) as reader:
        note = reader.checkpoint()
        assert note is not None
        checkpoint = open_checkpoint(note, signer.verifier, origin=ORIGIN)
        assert checkpoint.root == root
        assert checkpoint.size == len(entries)
        for what in ("cold", "warm"):
            begin = time.perf_counter()
            proof = reader.inclusion(index, checkpoint.size)
            proven = time.perf_counter()
            verify_inclusion(leaf_hash(reader.entry(index)), index, checkpoint.size, proof, checkpoint.root)
            verified = time.perf_counter() - proven
            print(
                f"proof of entry {index:,} of {checkpoint.size:,}, {what}: {1e3 * (proven - begin):.2f} ms, "
                f"{len(proof)} hashes, verified in {1e3 * verified:.2f} ms"
            )


def read(path: Path, entries: Sequence[bytes]) -> None:
    """Reads the whole log as a follower does."""
    with LogReader(path) as reader:
        wall, cpu = time.perf_counter(), time.process_time()
        count = sum(1 for _ in reader.entries(0))
        assert count == len(entries)
        report("read by a follower", count, time.perf_counter() - wall, time.process_time() - cpu)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all measurements; 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=1_000_000, help="how many (default %(default)s)")
    parser.add_argument("--length", type=int, default=100, help="bytes of each (default %(default)s)")
    parser.add_argument("--batch", type=int, default=1000, help="entries in a commit (default %(default)s)")
    parser.add_argument("--directory", type=Path, help="where to write (default: the temporary directory)")
    options = parser.parse_args(arguments)

    pool = os.urandom(1 << 20)
    limit = len(pool) - options.length
    starts = (index * 7919 % limit for index in range(options.entries))
    entries = [
        index.to_bytes(8, "big") + pool[start : start + options.length - 8]
        for index, start in enumerate(starts)
    ]
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signer = NoteSigner.generate(ORIGIN)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        path = Path(directory) / "log"
        good = on_disk(path, entries, options.batch, signer)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
        print(f"  memory of the writer above the entries themselves: {grown / 1024:.0f} MB at most")
        root, fast = in_memory(entries, options.batch)
        prove(path, entries, root, signer)
        read(path, entries)
        begin = time.perf_counter()
        Log.open(path, origin=ORIGIN, signer=signer).close()
        print(f"opened again in {1e3 * (time.perf_counter() - begin):.0f} ms")
        wall, cpu = time.perf_counter(), time.process_time()
        found = fsck(path, verifier=signer.verifier)
        assert found.ok, found.damages
        report("fsck", found.size, time.perf_counter() - wall, time.process_time() - cpu)
        single_commits(Path(directory) / "single", entries[:2000], signer)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"{size / len(entries):.0f} bytes on disk for an entry of {options.length}")
    return 0 if good and fast else 1


if __name__ == "__main__":
    sys.exit(main())
