"""Run the firmware's tests under the interpreters that matter: MicroPython and CPython.

A firmware test file is a `codec_*.py`, `crypto_*.py`, `core_*.py` or `driver_*.py` beside this file. It is imported by both
interpreters, so it holds plain functions `test_*` (or `async def`) with plain asserts and imports nothing that
MicroPython lacks. `test_device.py` shows every (file, test, interpreter) as one pytest test.

In the process of a test file
  * `firmware/` and this folder are on the import path, and on CPython also `firmware/sim/cpython/` (what MicroPython has built in);
  * the working directory is an empty temporary one;
  * the environment names PROJECT (the root of the project), VECTORS (the test vectors) and INTERPRETER.

A file may name pytest fixtures it needs by a literal `FIXTURES = ("broker",)`: each gives a mapping that is added
to the environment. Tests that steer a node from outside use the fixture `device` directly.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
FIRMWARE = PROJECT / "firmware"
INTERPRETERS = ("micropython", "cpython")
PATTERNS = ("codec_*.py", "crypto_*.py", "core_*.py", "driver_*.py")
TIMEOUT = 600.0  # of a file that takes seconds, for a test that hangs

sys.path.append(str(HERE))  # tests of whole nodes share node_harness.py


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of one test function in one interpreter."""

    name: str
    passed: bool
    milliseconds: int
    output: str


class Device:
    """Starts firmware code in a child process of either interpreter; `python` is the command that stands for CPython."""

    def __init__(self, micropython: Path, python: Sequence[str] = (sys.executable,)) -> None:
        self.micropython = micropython
        self.python = python

    def command(self, interpreter: str, *arguments: str) -> list[str]:
        if interpreter == "micropython":
            return [str(self.micropython), *arguments]
        return [*self.python, *arguments]

    def environ(self, interpreter: str, extra: Mapping[str, str] = {}) -> dict[str, str]:
        paths = [str(FIRMWARE), str(HERE)]
        environ = dict(os.environ)
        environ.update(PROJECT=str(PROJECT), VECTORS=str(HERE.parent / "vectors"), INTERPRETER=interpreter)
        if interpreter == "micropython":
            environ["MICROPYPATH"] = ":".join([*paths, ".frozen"])
        else:
            environ["PYTHONPATH"] = os.pathsep.join([*paths, str(FIRMWARE / "sim" / "cpython")])
            environ["PYTHONDONTWRITEBYTECODE"] = "1"
        return environ | dict(extra)

    def run(
        self,
        file: Path,
        names: Iterable[str],
        interpreter: str,
        folder: Path,
        extra: Mapping[str, str] = {},
        timeout: float = TIMEOUT,
    ) -> dict[str, Result]:
        """Run the named tests of a file in one process, in `folder`; every name has a result."""
        names = list(names)
        command = self.command(interpreter, str(HERE / "run.py"), str(file), *names)
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=self.environ(interpreter, extra),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
            )
            output, end = done.stdout, f"the process ended with status {done.returncode}"
        except subprocess.TimeoutExpired as error:
            output, end = error.stdout or b"", f"the process did not end in {timeout:g} s and was killed"
        return _results(names, output.decode(errors="replace"), end)


def _results(names: Sequence[str], text: str, end: str) -> dict[str, Result]:
    results: dict[str, Result] = {}
    output: list[str] = []
    running = ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "@run":
            running, output = rest, []
        elif word in ("@pass", "@fail"):
            name, _, milliseconds = rest.partition(" ")
            results[name] = Result(name, word == "@pass", int(milliseconds), "\n".join(output))
            running, output = "", []
        else:
            output.append(line)
    for name in names:
        if name not in results:
            said = output if running in ("", name) else [f"not run: {running} did not return"]
            results[name] = Result(name, False, 0, "\n".join([*said, end]))
    return results


def device_tests() -> list[tuple[Path, str]]:
    """Every (file, test name) of the firmware test files, in file order."""
    return [
        (file, node.name)
        for file in sorted(path for pattern in PATTERNS for path in HERE.glob(pattern))
        for node in ast.parse(file.read_text(encoding="utf-8"), str(file)).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def fixtures_of(file: Path) -> tuple[str, ...]:
    """The names in a test file's literal `FIXTURES = (...)`."""
    for node in ast.parse(file.read_text(encoding="utf-8"), str(file)).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["FIXTURES"]:
            return tuple(ast.literal_eval(node.value))
    return ()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device_test" in metafunc.fixturenames:
        cases = [(file, name, interpreter) for interpreter in INTERPRETERS for file, name in device_tests()]
        ids = [f"{file.name}::{name}-{interpreter}" for file, name, interpreter in cases]
        metafunc.parametrize("device_test", cases, ids=ids)


@pytest.fixture(scope="session")
def micropython() -> Path:
    """The MicroPython interpreter; fetched by tools/micropython when it is not there."""
    done = subprocess.run([PROJECT / "tools" / "micropython", "--path"], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def device(micropython: Path) -> Device:
    return Device(micropython)


@pytest.fixture(scope="session")
def device_results() -> dict[tuple[Path, str], dict[str, Result]]:
    return {}


@pytest.fixture
def device_result(
    request: pytest.FixtureRequest,
    device: Device,
    device_results: dict[tuple[Path, str], dict[str, Result]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path, str, str], Result]:
    """Result of one firmware test; the first one asked of a file runs all selected tests of that file."""

    def result(file: Path, name: str, interpreter: str) -> Result:
        if (file, interpreter) not in device_results:
            extra: dict[str, str] = {}
            for fixture in fixtures_of(file):
                extra.update(request.getfixturevalue(fixture))
            cases = [getattr(item, "callspec", None) for item in request.session.items]
            chosen: list[Any] = [
                case.params["device_test"] for case in cases if case and "device_test" in case.params
            ]
            selected = [test for path, test, system in chosen if path == file and system == interpreter]
            folder = tmp_path_factory.mktemp(file.stem)
            device_results[file, interpreter] = device.run(file, selected, interpreter, folder, extra)
        return device_results[file, interpreter][name]

    return result


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Any]:
    """mosquitto for one test; `node_harness.Broker`."""
    from node_harness import Broker

    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.close()


@pytest.fixture
def gateway(broker: Any) -> Iterator[Any]:
    """`node_harness.Gateway` at that broker."""
    from node_harness import Gateway

    gateway = Gateway(broker.port)
    yield gateway
    gateway.close()


@pytest.fixture(params=INTERPRETERS)
def node(request: pytest.FixtureRequest, device: Device, broker: Any, tmp_path: Path) -> Iterator[Any]:
    """`node_harness.Node`, not started, in each interpreter."""
    from node_harness import Node

    def command(*arguments: str) -> list[str]:
        return device.command(request.param, *arguments)

    folder = tmp_path / "node"
    folder.mkdir()
    node = Node(folder, broker.port, command, device.environ(request.param))
    yield node
    node.stop()


@pytest.fixture
def web_server() -> Iterator[Any]:
    """`node_harness.WebServer`."""
    from node_harness import WebServer

    server = WebServer()
    yield server
    server.close()
