"""How much of the firmware its own tests execute, line by line, measured under CPython.

    python -m pytest -s tests/firmware/test_coverage.py

prints the table. MicroPython has no line tracing; the same files and tests run under it, see test_device.py.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from node_harness import FIRMWARE, Broker, Gateway, Node

WANTED = 90  # per cent of the statements
# What only means something on a board, and what stands for the board.
HARDWARE = {
    "main.py": "what the chip runs after a reset; ends by resetting it",
    "sensornode/board.py": "calls of `machine`, `network` and `esp32`, one line each; core_board.py has what can go wrong there",
    "sim/*": "the fakes of those modules: no part of a node",
}
# Loops over pixels take minutes under a tracer. These tests are left out here, since they only give the same lines more frames,
PICTURES = (
    "test_people_and_cars_are_counted",
    "test_nothing_moves_in_an_empty_street",
    "test_a_new_scene_is_learned_before_it_is_judged",
)
# and in this file the loops are not traced; driver_camera_scene.py has them.
UNTRACED = {"driver_camera.py": "sensornode/vision/pixels.py"}


def test_most_of_what_needs_no_hardware_is_executed(
    device: Any, broker: Broker, gateway: Gateway, tmp_path: Path, pytestconfig: Any
) -> None:
    from_here = pytestconfig.pluginmanager.get_plugin("conftest") or sys.modules[type(device).__module__]

    def settings(*omit: str) -> Path:
        file = tmp_path / f"coverage-{len(omit)}.ini"
        left_out = "".join(f"    {FIRMWARE}/{name}\n" for name in (*HARDWARE, *omit))
        file.write_text(
            f"[run]\nparallel = true\ndata_file = {tmp_path / 'lines'}\nsource = {FIRMWARE}\nomit =\n{left_out}"
        )
        return file

    def python(*omit: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "coverage", "run", "--rcfile", str(settings(*omit)))

    tests: dict[Path, list[str]] = {}
    for file, name in from_here.device_tests():
        if name not in PICTURES:
            tests.setdefault(file, []).append(name)

    def run(file: Path) -> None:
        folder = tmp_path / file.stem
        folder.mkdir()
        omit = (UNTRACED[file.name],) if file.name in UNTRACED else ()
        measured = type(device)(device.micropython, python(*omit))
        measured.run(
            file, tests[file], "cpython", folder, timeout=600
        )  # whether they pass is test_device.py's question

    (tmp_path / "node").mkdir()
    measured = type(device)(device.micropython, python())
    node = Node(
        tmp_path / "node",
        broker.port,
        lambda *arguments: measured.command("cpython", *arguments),
        measured.environ("cpython"),
    )
    node.configure()
    node.start()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, tests))
    assert node.wait() == 0, node.output

    def coverage(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *arguments, "--rcfile", str(settings())],
            cwd=FIRMWARE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    coverage("combine", "--quiet")
    table = coverage("report", "--show-missing", "--skip-covered")
    print(table)
    share = int(coverage("report", "--format=total"))
    assert share >= WANTED, (
        f"{share} % of the firmware is executed by its tests; {WANTED} % are wanted\n{table}"
    )
