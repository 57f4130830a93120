"""Locks that one process at a time holds: taken at once or not at all, given back at the latest when the process ends.

The lock is flock(2) on a file that stays; who has it open holds the lock, so a killed process leaves none behind, and
a program that it started has none either (descriptors are closed on exec). The file says the holder's process id.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sensorhub.errors import SensorhubError

_WIDTH: Final = 16


class Lock:
    """An exclusive lock on the file at `path`, held from here to `release`.

    Args:
        path: the lock's file, made when missing; its directory is there. Only its owner may open it: who can read a
            file can lock it.
        what: what is going on, for the error, such as "the log X is being written".
        remedy: what to do when another process holds it.
        error: what to raise then.

    Raises:
        SensorhubError: as `error`, another holder has it: says what, who, where and the remedy. Nothing was changed.
        OSError: the file cannot be opened.
    """

    __slots__ = ("_descriptor", "_holder", "path")

    def __init__(
        self, path: Path, *, what: str, remedy: str, error: type[SensorhubError] = SensorhubError
    ) -> None:
        self.path = path
        self._holder = os.getpid()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = os.pread(descriptor, _WIDTH, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            process = f"process {said}" if said.isdecimal() else "a process that has not said its id"
            raise error(f"{what} already: {process} holds {path}; {remedy}") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._say(str(self._holder))

    def _say(self, text: str) -> None:
        # Always as many bytes, in place, so that a full disk keeps nobody from a lock that was there before. Where there
        # is no room even for the first ones, the lock holds all the same.
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, f"{text:<{_WIDTH - 1}}\n".encode(), 0)

    def release(self) -> None:
        """Lets the next one have it; does nothing the second time.

        In a fork of the holder it closes the fork's copy only: the lock stays with the holder.
        """
        if self._descriptor < 0:
            return
        if os.getpid() == self._holder:
            self._say("")
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
