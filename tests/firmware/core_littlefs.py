"""The spool on a real LittleFS v2, on a block device that loses power at every single write.

Only MicroPython brings LittleFS; on CPython there is nothing to test here.
"""

# ruff: noqa: SIM105 - MicroPython has no contextlib and a TimeoutError of its own

import os

from sensornode.spool import MAX_MESSAGE, Spool

BLOCK = 512
BLOCKS = 96


EIO = 5


class Flash:
    """RAM that is no longer written after `power` program and erase operations; the last program reaches it by half."""

    def __init__(self, data=None):
        self.data = bytearray(data or BLOCK * BLOCKS)
        self.power = None
        self.bad = ()  # blocks that cannot be read

    def spend(self):
        if self.power:
            self.power -= 1
        return self.power

    def readblocks(self, block, buffer, offset=0):
        if block in self.bad:
            return -EIO
        at = block * BLOCK + offset
        buffer[:] = memoryview(self.data)[at : at + len(buffer)]
        return 0

    def writeblocks(self, block, buffer, offset=0):
        if self.power == 0:
            return -EIO
        length = len(buffer) // 2 if self.spend() == 0 else len(buffer)
        at = block * BLOCK + offset
        self.data[at : at + length] = memoryview(buffer)[:length]
        return -EIO if length < len(buffer) else 0

    def ioctl(self, operation, argument):
        if operation == 4:
            return BLOCKS
        if operation == 5:
            return BLOCK
        if operation == 6:  # erase
            if self.power == 0:
                return -EIO
            self.spend()
        return 0


def message(seq):
    return bytes((seq * 31 + n) & 0xFF for n in range(300 + 700 * (seq % 3)))


def play(flash, kept):
    os.mount(os.VfsLfs2(flash, progsize=64, readsize=64, lookahead=32), "/flash")
    spool = Spool("/flash/spool", 2 * 8192, 2)
    for seq in range(1, 31):
        spool.append(1, seq, message(seq))
        kept[0] = seq
        if seq in (5, 20):
            spool.free(seq - 1)


def check(data, kept):
    flash = Flash(data)
    os.mount(os.VfsLfs2(flash, progsize=64, readsize=64, lookahead=32), "/flash")
    spool = Spool("/flash/spool", 2 * 8192, 2)
    last = spool.last[1] if spool.last else 0
    assert kept <= last <= kept + 1, (kept, last)
    found = read_all(spool)
    assert found == list(range(found[0], last + 1)) if found else not kept
    spool.append(2, last + 1, message(last + 1))
    assert read_all(spool) == [last + 1]
    os.umount("/flash")


def read_all(spool):
    buffer = bytearray(MAX_MESSAGE)
    found = []
    while True:
        record = spool.next(buffer)
        if record is None:
            return found
        assert bytes(buffer[: record[0]]) == message(record[2])
        found.append(record[2])


def test_power_cut_at_every_write_of_the_flash_keeps_every_message():
    if not hasattr(os, "VfsLfs2"):
        return
    empty = Flash()
    os.VfsLfs2.mkfs(empty, progsize=64, readsize=64, lookahead=32)
    power = 1
    while True:
        flash = Flash(empty.data)
        flash.power = power
        kept = [0]
        try:
            play(flash, kept)
        except OSError:
            pass
        os.umount("/flash")
        check(flash.data, kept[0])
        if flash.power:
            assert power > 200
            assert kept[0] == 30
            return
        power += 1


def test_a_directory_that_littlefs_cannot_read_is_an_error_and_loses_nothing():
    """At its beginning LittleFS opens no directory; further on MicroPython's listing would never end."""
    if not hasattr(os, "VfsLfs2"):
        return
    for files in (3, 30):
        flash = Flash()
        os.VfsLfs2.mkfs(flash, progsize=64, readsize=64, lookahead=32)
        os.mount(os.VfsLfs2(flash, progsize=64, readsize=64, lookahead=32), "/flash")
        spool = Spool("/flash/spool", 40 * 300, 40, longest=256)
        for seq in range(1, files + 1):
            spool.append(1, seq, message(seq)[:250])
        os.umount("/flash")
        name = b"%08x.seg" % (files - 1)
        os.mount(os.VfsLfs2(flash, progsize=64, readsize=64, lookahead=32), "/flash")
        flash.bad = [at for at in range(BLOCKS) if name in bytes(flash.data[at * BLOCK : (at + 1) * BLOCK])]
        assert flash.bad
        try:
            Spool("/flash/spool", 40 * 300, 40, longest=256)
        except OSError:
            pass
        else:
            raise AssertionError("read it")
        flash.bad = ()
        again = Spool("/flash/spool", 40 * 300, 40, longest=256)
        assert again.clean
        assert again.last[1] == files
        assert again.oldest() == 1
        os.umount("/flash")
