"""Becomes another program that dies with its parent.

Run as a script, without site packages: `python -I -S _child.py <parent pid> <program> <argument>...`.
A pre-exec function in the parent would do the same, but is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Sets the parent-death signal and executes the program."""
    parent, program, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent is already gone")
    os.execv(program, [program, *arguments])  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
