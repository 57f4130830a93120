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
        if spool.in_memory:
            return  # the power is gone
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
        except OSError:  # not even mounted
            pass
        os.umount("/flash")
        check(flash.data, kept[0])
        if flash.power:
            assert power > 200
            assert kept[0] == 30
            return
        power += 1


def test_a_directory_that_littlefs_cannot_read_costs_no_message():
    """While a block of the spool's directory fails, LittleFS writes nothing at all; with more than one block it lists names
    without an end."""
    if hasattr(os, "VfsLfs2"):
        assert break_directory(3) == 0
        assert break_directory(30) > 0


def break_directory(files):
    """Fail the newest block of a directory for a while. How many of the files could be listed meanwhile."""
    flash = Flash()
    os.VfsLfs2.mkfs(flash, progsize=64, readsize=64, lookahead=32)

    def mount(lapsed=0):
        os.mount(os.VfsLfs2(flash, progsize=64, readsize=64, lookahead=32), "/flash")
        return Spool("/flash/spool", 40 * 300, 40, longest=256, lapsed=lapsed)

    def append(spool, first, last):
        for seq in range(first, last + 1):
            spool.append(1, seq, message(seq)[:250])

    def read(call):
        buffer = bytearray(256)
        found = []
        while True:
            record = call(buffer)
            if record is None:
                return found
            assert bytes(buffer[:250]) == message(record[2])[:250]
            found.append(record[2])

    append(mount(), 1, files)
    os.umount("/flash")
    os.mount(os.VfsLfs2(flash, progsize=64, readsize=64, lookahead=32), "/flash")
    name = b"%08x.seg" % (files - 1)
    flash.bad = [at for at in range(BLOCKS) if name in bytes(flash.data[at * BLOCK : (at + 1) * BLOCK])]
    assert flash.bad
    spool = Spool("/flash/spool", 40 * 300, 40, longest=256)
    assert spool.unread
    listed = read(spool.next)
    assert listed == list(range(1, len(listed) + 1))
    append(spool, 65, 68)
    assert spool.in_memory
    assert read(spool.next) == [67, 68]  # no more fit
    flash.bad = ()
    append(spool, 69, 70)
    assert not spool.in_memory
    os.umount("/flash")
    again = mount(65)
    assert again.last[1] == 70
    assert read(again.next) == [67, 68, 69, 70]
    assert read(again.overdue) == list(range(1, files + 1))
    os.umount("/flash")
    return len(listed)
