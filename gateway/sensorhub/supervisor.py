"""Keeps the gateway's processes running.

Each room that runs for long is a process of its own: one that crashes or is killed takes nothing else with
it, and is started again with growing pauses. The log makes this safe, since every follower goes on from its
own cursor.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sensorhub.parent import end_with_parent

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0  # a process that ran this long starts again without a pause
STOP_TIMEOUT_S = 20.0
POLL_S = 0.2
STATUS_S = 1.0


@dataclass(slots=True)
class _Child:
    name: str
    argv: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = FIRST_PAUSE_S
    due: float = 0.0
    restarts: int = 0


class Supervisor:
    """Starts commands, starts them again when they end, and stops them together.

    Args:
        commands: name and argument list of each process, in starting order.
        on_status: called with the status mapping about once a second, and whenever a process started or ended.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        on_status: Callable[[Mapping[str, object]], None] | None = None,
    ) -> None:
        self._children = [_Child(name, argv) for name, argv in commands.items()]
        self._on_status = on_status or (lambda _status: None)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Asks `run` to end; from any thread, but not from a signal handler, which may interrupt who holds the lock."""
        self._stop.set()

    def status(self) -> dict[str, object]:
        """Process id (None when down) and number of restarts of each process."""
        return {
            "children": {
                child.name: {
                    "pid": process.pid if (process := child.process) else None,
                    "restarts": child.restarts,
                }
                for child in self._children
            }
        }

    def run(self) -> None:
        """Runs until `stop`; returns after every child has ended."""
        try:
            told = 0.0
            while not self._stop.is_set():
                if self._tend() or time.monotonic() - told >= STATUS_S:
                    told = time.monotonic()
                    self._on_status(self.status())
                self._stop.wait(POLL_S)
        finally:
            self._end()

    def _tend(self) -> bool:
        changed = False
        now = time.monotonic()
        for child in self._children:
            if child.process is not None:
                code = child.process.poll()
                if code is None:
                    continue
                changed = True
                child.process = None
                child.restarts += 1
                child.pause = (
                    FIRST_PAUSE_S if now - child.started > STEADY_S else min(child.pause * 2, LONGEST_PAUSE_S)
                )
                child.due = now + child.pause
                logger.warning(
                    "%s ended with %s; starting it again in %.1f s", child.name, _cause(code), child.pause
                )
            elif now >= child.due:
                changed = True
                child.process = subprocess.Popen(child.argv, preexec_fn=end_with_parent)  # noqa: PLW1509 one thread here
                child.started = now
                logger.info("%s started, pid %d", child.name, child.process.pid)
        return changed

    def _end(self) -> None:
        running = [child for child in self._children if child.process is not None]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("%s did not stop within %.0f s and is killed", child.name, STOP_TIMEOUT_S)
                child.process.kill()
                child.process.wait()
            child.process = None
        self._on_status(self.status())


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
