"""Children that die with their parent, even when that is killed.

`end_with_parent` is for a child of this package before exec. In a process with threads a pre-exec function is unsafe;
there this file is run as a script in between, without site packages, and becomes the other program:

    python -I -S parent.py <parent pid> <program> <argument>...
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Asks the kernel for SIGTERM when the parent dies; does nothing where there is no such call."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def main() -> None:
    """Becomes the program of the command line."""
    parent, program, *arguments = sys.argv[1:]
    end_with_parent()
    if os.getppid() != int(parent):
        sys.exit("the parent is already gone")
    os.execv(program, [program, *arguments])  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
