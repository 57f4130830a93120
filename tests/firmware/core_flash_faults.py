"""The spool on flash that fails for a while: directories that cannot be read, files that cannot be written, and all of it."""

import os
import sys
from errno import EIO, ENOENT

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

from core_spool import SIZE, Flash, Unreadable, fill, message, read_all
from sensornode.app import App
from sensornode.spool import HEADER, MAX_MESSAGE, MEMORY, Disk, Spool
from sensornode.state import State


class Failing(Flash):
    """Flash whose directories, or all of it, may fail for a while."""

    def __init__(self, files=()):
        super().__init__(files)
        self.made = {"s"}
        self.bad = ()  # directories that give an error for everything
        self.torn = None  # a listing ends after so many names
        self.dead = False

    def fails(self, path):
        return self.dead or path.rpartition("/")[0] in self.bad or path in self.bad

    def open(self, path, mode):
        if self.fails(path):
            raise OSError(EIO)
        if path.rpartition("/")[0] not in self.made:
            raise OSError(ENOENT)
        return super().open(path, mode)

    def listdir(self, path):
        if self.fails(path):
            raise OSError(EIO)
        if path not in self.made:
            raise OSError(ENOENT)
        for at, name in enumerate(sorted(super().listdir(path))):
            if at == self.torn:
                raise OSError(84)
            yield name

    def remove(self, path):
        if self.fails(path):
            raise OSError(EIO)
        super().remove(path)

    def mkdir(self, path):
        if self.fails(path):
            raise OSError(EIO)
        self.made.add(path)


def overdue(spool):
    """What comes to light late."""
    buffer = bytearray(MAX_MESSAGE)
    found = []
    while True:
        record = spool.overdue(buffer)
        if record is None:
            return found
        assert bytes(buffer[: record[0]]) == message(record[2], record[0])
        found.append(record[2])


def test_a_directory_that_cannot_be_read_is_left_alone_and_another_one_begun():
    flash = Failing()
    fill(Spool("s", 4 * 8192, 4, disk=flash), 1, 4, 4000)
    flash.bad = ("s",)
    spool = Spool("s", 4 * 8192, 4, disk=flash)
    assert spool.last is None
    assert spool.unread
    assert spool.state == "damaged"
    assert spool.damaged == 1
    fill(spool, 65, 68, 4000)
    assert not spool.in_memory
    assert read_all(spool) == [65, 66, 67, 68]
    spool.free(66)
    again = Spool("s", 4 * 8192, 4, disk=flash, lapsed=65)
    assert again.clean  # it knows the newest message
    assert again.last[1] == 68
    assert again.state == "damaged"
    assert read_all(again) == [67, 68]
    # now it can be read: what the gateway was told to be gone is sent, whatever receipts say, and then removed
    flash.bad = ()
    healed = Spool("s", 4 * 8192, 4, disk=flash, lapsed=65)
    assert healed.state == "late"
    assert healed.last[1] == 68
    assert healed.oldest() == 67
    healed.free(68)
    assert not healed.empty
    assert overdue(healed) == [1, 2, 3, 4]
    assert healed.empty
    assert healed.state == "ok"
    assert sorted(flash.files) == ["s1/01000001.seg"]
    fill(healed, 69, 70, 4000)
    assert Spool("s", 4 * 8192, 4, disk=flash).last[1] == 70


def test_a_connection_that_breaks_sends_late_messages_again():
    flash = Failing()
    fill(Spool("s", 4 * 8192, 4, disk=flash), 1, 3)
    spool = Spool("s", 4 * 8192, 4, disk=flash, lapsed=65)
    buffer = bytearray(MAX_MESSAGE)
    assert [spool.overdue(buffer)[2] for _ in range(3)] == [1, 2, 3]
    assert spool.oldest() is None  # an announce changes nothing
    spool.rewind()
    assert overdue(spool) == [1, 2, 3]
    assert not flash.files


def test_of_a_listing_that_breaks_what_was_listed_is_sent():
    flash = Failing()
    fill(Spool("s", 4 * 8192, 4, disk=flash), 1, 6, 4000)
    flash.torn = 2
    spool = Spool("s", 4 * 8192, 4, disk=flash)
    assert spool.unread
    assert not spool.clean
    assert spool.last[1] == 4
    assert spool.oldest() == 1
    fill(spool, 65, 65)
    assert "s1/01000000.seg" in flash.files  # and none of the files that are not seen
    assert read_all(spool) == [1, 2, 3, 4, 65]
    flash.torn = None
    again = Spool("s", 4 * 8192, 4, disk=flash, lapsed=65)
    assert again.clean
    assert (again.last[1], again.oldest()) == (65, 65)
    assert overdue(again) == [1, 2, 3, 4, 5, 6]
    assert read_all(again) == [65]


def test_while_flash_takes_nothing_the_newest_messages_are_in_memory():
    flash = Failing()
    told = []
    spool = Spool("s", 4 * 8192, 4, told.append, disk=flash, longest=2048)
    fill(spool, 1, 3)
    flash.dead = True
    assert spool._fits(100)
    for seq in range(4, 12):
        spool.append(1, seq, message(seq, 1000))  # two fill a segment of memory
        assert spool.in_memory
        assert spool.state == "memory"
        assert spool.last[1] == seq
        held = [segment for segment in spool._segments if segment.data is not None]
        assert len(held) <= MEMORY
        assert sum(len(segment.data) for segment in held) <= MEMORY * (HEADER + 2048)
    assert spool.dropped == sum(told) == 4
    assert read_all(spool) == [8, 9, 10, 11]  # three more are where nobody can read them
    spool.free(9)
    spool.rewind()
    assert read_all(spool) == [10, 11]
    flash.dead = False
    fill(spool, 12, 12)
    assert not spool.in_memory
    spool.rewind()
    assert read_all(spool) == [10, 11, 12]
    again = Spool("s", 4 * 8192, 4, disk=flash, longest=2048, lapsed=65)
    assert again.last[1] == 12
    assert overdue(again) == [1, 2, 3, 10, 11, 12]


def test_a_node_whose_flash_is_dead_from_the_start_spools_in_memory():
    flash = Failing()
    flash.dead = True
    spool = Spool("s", SIZE, 2, disk=flash)
    assert spool.last is None
    assert spool.empty
    assert spool.oldest() is None
    spool.clear()
    fill(spool, 1, 3)
    assert spool.in_memory
    assert spool.unread
    assert read_all(spool) == [1, 2, 3]
    assert spool.oldest() == 1
    spool.free(3)
    assert spool.empty
    fill(spool, 4, 4)
    assert read_all(spool) == [4]
    assert not flash.files


def test_an_error_that_passes_while_messages_are_read_costs_nothing():
    flash = Failing()
    spool = Spool("s", 4 * 8192, 4, disk=flash)
    fill(spool, 1, 6, 4000)
    flash.dead = True
    assert read_all(spool) == []
    assert spool.state == "damaged"
    assert spool.empty  # as far as can be told
    flash.dead = False
    fill(spool, 7, 7)  # not into a file that cannot be read
    assert read_all(spool) == [7]
    again = Spool("s", 4 * 8192, 4, disk=flash, lapsed=7)
    assert again.clean
    assert overdue(again) == [1, 2, 3, 4, 5, 6]
    assert read_all(again) == [7]


def test_a_file_that_a_second_start_cannot_read_either_is_removed():
    flash = Unreadable()
    fill(Spool("s", 4 * 8192, 4, disk=flash), 1, 6, 4000)
    flash.bad = (sorted(flash.files)[1],)
    assert Spool("s", 4 * 8192, 4, disk=flash).unread
    assert len(flash.files) == 3
    assert overdue(Spool("s", 4 * 8192, 4, disk=flash, lapsed=7)) == [1, 2, 5, 6]
    assert not Spool("s", 4 * 8192, 4, disk=flash).unread


def test_a_file_in_the_place_of_the_directory_and_strange_names_do_no_harm():
    os.mkdir("strange")
    with open("strange/spool", "w") as file:
        file.write("not a directory")
    spool = Spool("strange/spool", SIZE, 2)
    assert spool.state == "damaged"
    fill(spool, 1, 3)
    assert not spool.in_memory
    for name in ("README", "x.seg", "1.seg", "00000001.seg", "0100000g.seg"):
        with open("strange/spool1/" + name, "w"):
            pass
    again = Spool("strange/spool", SIZE, 2)
    assert again.last[1] == 3
    assert read_all(again) == [1, 2, 3]


def test_a_listing_that_never_ends_is_ended():
    """As MicroPython's is where LittleFS cannot read on."""
    if not hasattr(os, "ilistdir"):
        return
    import sensornode.spool as module

    class Os:
        @staticmethod
        def ilistdir(path):
            yield "00000001.seg", 0x8000, 0, 1
            while True:
                yield "", 0x8000, 0, 0

    before, module.os = module.os, Os
    try:
        names = []
        try:
            names.extend(name for name in Disk.listdir("s"))  # as far as it comes
        except OSError:
            pass
        else:
            raise AssertionError("all is well")
        assert names == ["00000001.seg"]
    finally:
        module.os = before


class Nvs:
    """NVS that works."""

    def __init__(self):
        self.values = {}

    def get_int(self, key, default):
        return self.values.get(key, default)

    def set_int(self, key, value):
        self.values[key] = value

    set_blob = set_int

    def get_blob(self, key, length):
        return self.values.get(key)

    def commit(self):
        pass


class Chance:
    """The same numbers in every interpreter."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 8) % limit


class Node:
    """What of the application minds the spool."""

    def __init__(self, spool, state):
        self.spool = spool
        self.state = state
        self.link = self
        self._unread = 0
        self._spool_told = "ok"
        App._mind_spool(self)

    def tell(self, key, value):
        assert (key, value) == ("spool", self.spool.state)


def live(flash, nvs, chance, sent, lost, taken, steps, healthy=False):
    """One boot of a node as in app.py: numbers, spools, sends, and takes receipts of a gateway that believes announces.

    :returns: what was in memory only, and is gone.
    """
    state = State(nvs)
    spool = Spool("s", 64 * 8192, 64, disk=flash, lapsed=state.lapsed)
    state.resume(spool.last, spool.clean)
    node = Node(spool, state)
    buffer = bytearray(MAX_MESSAGE)
    memory, gone = set(), set()
    for _ in range(steps):
        what = chance.below(10 if healthy else 12)
        if what < 5:
            seq = state.take_seq()
            assert seq not in taken, seq
            taken.add(seq)
            spool.append(state.boot, seq, message(seq, 1500))
            if spool.in_memory:
                memory.add(seq)
                first = next(segment.first for segment in spool._segments if segment.data is not None)
                gone.update([number for number in memory if number < first])
            else:
                memory.clear()
            App._mind_spool(node)
        elif what < 9:
            record = spool.next(buffer) or spool.overdue(buffer)
            if record:
                assert bytes(buffer[: record[0]]) == message(record[2], 1500)
                sent.add(record[2])
        elif what == 9:
            oldest = spool.oldest() or state.next
            App._mind_spool(node)
            lost[0] = max(lost[0], oldest - 1)
            receipt = 0
            while receipt + 1 in sent or receipt < lost[0]:
                receipt += 1
            spool.free(receipt)
            spool.rewind()
        elif what == 10:
            flash.dead = chance.below(3) == 0
        else:
            flash.bad = ("s",) if chance.below(3) == 0 else ()
    return gone | memory


def test_whatever_flash_does_for_a_while_no_number_comes_twice_and_what_it_kept_is_sent():
    for seed in range(40):
        chance = Chance(seed)
        flash = Failing()
        nvs = Nvs()
        nvs.values["key"] = b"k" * 32
        sent, taken, lost = set(), set(), [0]
        gone = set()
        for _ in range(8):
            gone.update(live(flash, nvs, chance, sent, lost, taken, chance.below(60)))
        flash.dead, flash.bad = False, ()
        for _ in range(2):
            live(flash, nvs, chance, sent, lost, taken, 100, True)
        state = State(nvs)
        spool = Spool("s", 64 * 8192, 64, disk=flash, lapsed=state.lapsed)
        sent.update(read_all(spool))
        sent.update(overdue(spool))
        missing = [seq for seq in taken if seq not in sent and seq not in gone]
        assert not missing, (seed, missing)
