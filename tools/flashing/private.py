"""Files that another program reads or fills and that nobody else sees.

On Linux they live in memory only (memfd_create(2)) and are handed down as an open descriptor, so there is nothing to
leave behind, whatever ends the process. Elsewhere they are files of mode 0600 in a directory of mode 0700 that goes
with the context, SIGTERM included (see `tidy_on_sigterm`).
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from flashing.exits import Exit

IN_MEMORY: Final = hasattr(os, "memfd_create") and Path("/dev/fd").exists()


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """One such file.

    Attributes:
        path: what a child process opens.
        descriptor: what the child has to inherit, or None.
        read: returns what is in it.
    """

    path: str
    descriptor: int | None
    read: Callable[[], bytes]


@contextmanager
def private_file(content: bytes = b"") -> Iterator[PrivateFile]:
    """A private file with this content; gone when the context ends."""
    if not IN_MEMORY:
        with _on_disk(content) as file:
            yield file
        return
    descriptor = os.memfd_create("flash")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield PrivateFile(f"/dev/fd/{descriptor}", descriptor, lambda: _whole(descriptor))
    finally:
        os.close(descriptor)


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


@contextmanager
def _on_disk(content: bytes) -> Iterator[PrivateFile]:
    directory = Path(tempfile.mkdtemp(prefix="flash-"))  # mkdtemp makes it 0700
    try:
        path = directory / "content"
        write_private(path, content)
        yield PrivateFile(os.fspath(path), None, path.read_bytes)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write_private(path: Path, content: bytes) -> None:
    """Writes a file of mode 0600 in place of whatever is there.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def tidy_on_sigterm() -> None:
    """Lets SIGTERM end the process the way an exception does, so that contexts close and files go."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(int(Exit.TERMINATED))

    signal.signal(signal.SIGTERM, leave)
