"""What can go wrong with a log on disk."""

from __future__ import annotations

import errno
from typing import Final

from sensorhub.errors import SensorhubError

_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class LogError(SensorhubError):
    """Raised when the log cannot do what was asked; base of the errors below."""


class LogFullError(LogError):
    """Raised by a commit for which the disk had no room.

    Nothing was acknowledged and the entries still wait: free space and commit again, or roll back.
    """


class LogUnsyncedError(LogError):
    """Raised by a commit whose sync failed, and by every one after it.

    Nobody knows which of the newest bytes the disk holds, and asking again would not tell: the kernel reports a
    failure once. Only opening the log again finds out, so end the process that writes it and start it anew.
    """


class LogDamagedError(LogError):
    """Raised when a file of the log does not hold what was committed. The text names the file."""


class LogLockedError(LogError):
    """Raised when another process already writes the log. The text names it."""


class NotInLogError(LogError, IndexError):
    """Raised when an entry, tile or tree size is asked for that the log does not have (yet)."""


def disk_error(text: str, error: OSError) -> LogError:
    """What to raise when the system refused `text`: `LogFullError` when it lacked room, else `LogError`."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in _FULL:
        return LogFullError(f"{text}: {error.strerror}{where}; free space on that disk, then try again")
    return LogError(f"{text}: {error.strerror}{where}")
