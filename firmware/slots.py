"""Whether an application is still what was installed, and which one to start when it is not.

Read at a start only and forgotten again, so that it costs a running node no memory; like nodeboot.py never replaced over the air.
The file `whole` in an application's directory says what was installed there. Lines of text:

    1 VERSION                   as a number, see orders.version_number
    SHA-256 PATH                of every file, hexadecimal; path within the directory
    SHA-256                     of all lines before

It is written when an update begins, for the new application and for the running one that it replaces.
"""

import os
from binascii import hexlify
from hashlib import sha256

from nodeboot import NONE, PARTITION, SLOTS

SEAL = "whole"


class RottenError(Exception):
    """Raised when an application is not what was installed; names the file."""


def installed(path):
    """Version of the application in a directory, all files read and compared; None when nobody has written down what was
    installed. Raises RottenError, also when there is none."""
    try:
        os.stat(path + "/sensornode")
    except OSError:
        raise RottenError(path)
    try:
        with open(path + "/" + SEAL, "rb") as file:
            *lines, end = file.read().split(b"\n")
        if hexlify(sha256(b"\n".join(lines) + b"\n").digest()) != end or lines[0][:2] != b"1 ":
            return None
    except (OSError, ValueError):
        return None  # perhaps never finished: no reason to doubt the application
    buffer = bytearray(2048)
    for line in lines[1:]:
        name = path + "/" + str(line[65:], "utf-8")
        if (
            _digest(name, buffer) != line[:64] and _digest(name, buffer) != line[:64]
        ):  # flash may misread once
            raise RottenError(name)
    return int(lines[0][2:])


def _digest(name, buffer):
    state = sha256()
    try:
        with open(name, "rb") as file:
            while True:
                got = file.readinto(buffer)
                if not got:
                    break
                state.update(memoryview(buffer)[:got])
    except OSError:
        return b""
    return hexlify(state.digest())


def check(life, root):
    """Before a start: leave an application that has rotted, when there is another."""
    if life.trial == PARTITION:
        return
    if not life.active:
        try:
            os.stat(root + "/" + SLOTS[0])
        except OSError:
            return  # part of the image or elsewhere: when it cannot be loaded, main.py finds out
    try:
        installed(root + "/" + SLOTS[life.active])
    except RottenError as error:
        if leave(life, root):
            print("%s has rotted: the other application starts" % error)
            check(life, root)


def leave(life, root):
    """Start the other application from now on: a trial ends; a confirmed one gives way to what was there before, if that is
    whole and not below the minimum version. False when there is none."""
    if life.trial == PARTITION:
        return False
    if life.trial == NONE:
        other = 1 - life.slot
        try:
            version = installed(root + "/" + SLOTS[other])
        except RottenError:
            return False
        # what nobody has written down may be a download that was cut off, or one that nobody has signed
        if version is None or version < life.minimum:
            return False
        life.slot = other
    life.give_up()
    return True
