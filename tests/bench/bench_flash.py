"""Measure what tools/flash needs beside the wire: `python tests/bench/bench_flash.py`.

Images of every kind, and whole runs against a mock of the chip's boot loader (package esp32-mock-bootloader) with a gateway's
data directory: there the wire takes what esptool and the mock take, and the rest is the tool.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "gateway"), str(ROOT / "tests" / "tools")]

from flash_parts import Board, Tool, micropython_image  # noqa: E402

from flashing import application, hardware, littlefs_image, node_json, nvs_image  # noqa: E402
from flashing.registration import new_identity  # noqa: E402
from flashing.settings import Broker  # noqa: E402

VFS_BYTES = 2 << 20
NVS_BYTES = 0x6000
RUNS = 3


def image(kind: str) -> tuple[float, int, int]:
    """Seconds to make both images of a kind, files in it, and bytes of them."""
    began = time.perf_counter()
    made = hardware.load(kind)
    pins = {} if made.pins is None else {"pins.py": made.pins}
    files = application.compile_all(application.ARCHITECTURES[made.chip], more=pins)
    size = sum(map(len, files.values()))
    identity = new_identity("roof", "bench-1")
    secrets = node_json.credentials(identity, ("roof", "a password"))
    files[node_json.FILE] = node_json.compose(
        made,
        identity,
        Broker("hub", 1883),
        secrets,
        interval=made.interval,
        publish=made.interval,
        spool=node_json.spool_bytes(VFS_BYTES, size),
    )
    littlefs_image.build(files, VFS_BYTES)
    nvs_image.build({nvs_image.CREDENTIALS: secrets}, NVS_BYTES)
    return time.perf_counter() - began, len(files), size


def main() -> None:
    print("| kind | files | application | images |\n|---|---|---|---|")
    for kind in hardware.kinds():
        seconds, files, size = min(image(kind) for _ in range(RUNS))
        print(f"| {kind} | {files} | {size / 1024:.0f} kB | {seconds:.2f} s |")
    with tempfile.TemporaryDirectory(prefix="bench-flash-") as directory:
        home = Path(directory)
        path = home / "micropython.bin"
        path.write_bytes(micropython_image(size=1_600_000))
        board, tool = Board(home), Tool(home)
        try:
            began = time.perf_counter()
            run = tool.node(board.url(), path)
            whole = time.perf_counter() - began
        finally:
            board.stop()
    met = re.search(r"esptool ([\d.]+) s", run.stdout)
    if run.returncode or met is None:
        sys.exit(run.stdout + run.stderr)
    wire = float(met[1])
    print(
        f"\nA whole run: {whole:.1f} s, of it esptool {wire:.1f} s, all else {whole - wire:.1f} s (limit 10 s)"
    )


if __name__ == "__main__":
    main()
