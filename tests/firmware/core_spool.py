"""The spool: order, receipts, a full ring, and power cut at every byte."""

import io
import os

from sensornode.ram import Ram
from sensornode.spool import HEADER, MAX_MESSAGE, Spool

SIZE = 2 * 8192


class Flash:
    """Files in memory. What changes them is written down, so that a test can stop at every byte of it."""

    def __init__(self, files=()):
        self.files = dict(files)
        self.full = False
        self.changes = []  # (path, bytes appended or None for removed, what was promised before)
        self.promised = None

    def open(self, path, mode):
        if mode == "rb":
            if path not in self.files:
                raise OSError(2)
            return io.BytesIO(self.files[path])
        if path not in self.files:
            self.append(path, b"")
        return Writer(self, path)

    def append(self, path, data):
        self.files[path] = self.files.get(path, b"") + bytes(data)
        self.changes.append((path, bytes(data), self.promised))

    def listdir(self, path):
        return [name[len(path) + 1 :] for name in self.files]

    def remove(self, path):
        if path not in self.files:
            raise OSError(2)
        del self.files[path]
        self.changes.append((path, None, self.promised))

    def mkdir(self, path):
        pass


class Writer:
    def __init__(self, flash, path):
        self.flash = flash
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def write(self, data):
        if self.flash.full:
            self.flash.append(self.path, data[:3])
            raise OSError(28)
        self.flash.append(self.path, data)
        return len(data)


def message(seq, length=100):
    return bytes((seq * 7 + n) & 0xFF for n in range(length))


def read_all(spool):
    buffer = bytearray(MAX_MESSAGE)
    found = []
    while True:
        record = spool.next(buffer)
        if record is None:
            return found
        length, _, seq = record
        assert bytes(buffer[:length]) == message(seq, length)
        found.append(seq)


def fill(spool, first, last, length=100):
    for seq in range(first, last + 1):
        spool.append(1, seq, message(seq, length))


def test_messages_come_back_in_order_after_a_restart_too():
    os.mkdir("order")
    spool = Spool("order/spool", SIZE, 2)
    assert spool.last is None
    assert spool.empty
    assert read_all(spool) == []
    fill(spool, 1, 20)
    assert read_all(spool) == list(range(1, 21))
    assert read_all(spool) == []
    spool.rewind()
    assert read_all(spool) == list(range(1, 21))
    again = Spool("order/spool", SIZE, 2)
    assert again.clean
    assert again.last == spool.last
    assert again.last[:2] == (1, 20)
    assert read_all(again) == list(range(1, 21))
    fill(again, 21, 22)
    assert read_all(again) == [21, 22]


def test_a_receipt_frees_everything_up_to_it():
    flash = Flash()
    spool = Spool("s", 4 * 8192, 4, disk=flash)
    fill(spool, 1, 6, 4000)  # two a file
    spool.free(3)
    assert len(flash.files) == 2
    assert read_all(spool) == [4, 5, 6]
    spool.free(2)  # an old receipt changes nothing
    spool.free(7)  # nor one for a message that never was
    spool.rewind()
    assert read_all(spool) == [4, 5, 6]
    assert not spool.empty
    spool.free(6)
    spool.rewind()
    assert read_all(spool) == []
    assert spool.empty
    again = Spool("s", 4 * 8192, 4, disk=flash)
    assert again.last[1] == 6  # kept to go on counting from
    fill(again, 7, 8, 4000)
    again.free(6)
    assert read_all(again) == [7, 8]


def test_reading_goes_on_where_it_was_when_older_files_go():
    spool = Spool("s", 4 * 8192, 4, disk=Flash())
    fill(spool, 1, 5, 4000)
    buffer = bytearray(MAX_MESSAGE)
    assert [spool.next(buffer)[2] for _ in range(3)] == [1, 2, 3]
    spool.free(2)
    assert read_all(spool) == [4, 5]


def test_the_oldest_message_is_told_and_reading_goes_on_where_it_was():
    flash = Flash()
    spool = Spool("s", 4 * 8192, 4, disk=flash)
    assert spool.oldest() is None
    fill(spool, 3, 6, 4000)  # two a file
    fill(spool, 65, 66, 4000)
    buffer = bytearray(MAX_MESSAGE)
    assert [spool.next(buffer)[2] for _ in range(2)] == [3, 4]
    assert spool.oldest() == 3
    spool.free(3)
    assert spool.oldest() == 4
    assert spool.next(buffer)[2] == 5
    spool.free(6)
    assert spool.oldest() == 65
    assert read_all(spool) == [65, 66]
    again = Spool("s", 4 * 8192, 4, disk=flash)
    assert again.oldest() <= 65  # never more than what is gone
    spool.free(66)
    assert spool.oldest() is None
    flash.files.clear()
    assert spool.oldest() is None


def late(spool):
    """Numbers of what the oldest file that was passed over holds."""
    buffer = bytearray(MAX_MESSAGE)
    found = []
    while True:
        record = spool.next(buffer, spool.passed_over)
        if record is None:
            return found
        found.append(record[2])


def test_a_receipt_frees_nothing_below_the_floor():
    flash = Flash()
    fill(Spool("s", 8 * 8192, 8, disk=flash), 1, 5, 4000)  # two a file
    spool = Spool("s", 8 * 8192, 8, disk=flash, floor=70)
    assert spool.last[1] == 5
    assert spool.empty
    assert read_all(spool) == []
    assert spool.oldest() is None
    spool.free(75)
    fill(spool, 80, 82, 4000)  # in files of their own
    spool.free(75)
    spool.free(80)
    assert len(flash.files) == 5
    assert spool.oldest() == 81
    assert read_all(spool) == [81, 82]
    assert late(spool) == [1, 2]
    assert late(spool) == []
    spool.rewind()
    assert late(spool) == [1, 2]
    again = Spool("s", 8 * 8192, 8, disk=flash, floor=70)  # the power was cut
    assert read_all(again) == [80, 81, 82]
    assert late(again) == [1, 2]
    first = spool.passed_over
    spool.forget(first)
    spool.forget(first)  # once only
    assert late(spool) == [3, 4]
    spool.forget(spool.passed_over)
    assert late(spool) == [5]
    spool.forget(spool.passed_over)
    assert spool.passed_over is None
    assert len(flash.files) == 2
    spool.free(82)
    assert spool.empty
    assert len(flash.files) == 1
    assert Spool("s", 8 * 8192, 8, disk=flash, floor=70).passed_over is None


def test_a_second_floor_lies_above_all_that_was_kept():
    flash = Flash()
    fill(Spool("s", 8 * 8192, 8, disk=flash), 1, 2, 4000)
    fill(Spool("s", 8 * 8192, 8, disk=flash, floor=70), 80, 80, 100)
    spool = Spool("s", 8 * 8192, 8, disk=flash, floor=200)
    fill(spool, 200, 200, 100)
    spool.free(200)
    assert late(spool) == [1, 2]
    spool.forget(spool.passed_over)
    assert late(spool) == [80]
    spool.forget(spool.passed_over)
    assert spool.passed_over is None
    assert len(flash.files) == 1


def test_a_full_ring_counts_what_was_passed_over_and_not_sent_once():
    flash = Flash()
    told = []
    fill(Spool("s", 4 * 8192, 4, disk=flash), 1, 5, 4000)
    spool = Spool("s", 4 * 8192, 4, told.append, disk=flash, floor=70)
    fill(spool, 80, 81, 4000)
    spool.free(80)
    assert told == []
    sent = spool.passed_over
    fill(spool, 82, 82, 4000)
    assert told == [2]  # the first file; both were not receipted
    spool.forget(sent)
    assert late(spool) == [3, 4]
    spool.forget(spool.passed_over)
    fill(spool, 83, 90, 4000)
    assert told == [2, 1, 1, 2]  # 5; 81, as 80 was receipted; 82 and 83
    assert spool.dropped == 6
    assert spool.passed_over is None


def test_a_full_ring_gives_up_the_oldest_and_counts_what_no_receipt_covers():
    flash = Flash()
    told = []
    spool = Spool("s", 4 * 8192, 4, told.append, disk=flash)
    fill(spool, 1, 8, 4000)
    spool.free(1)
    fill(spool, 9, 9, 4000)
    assert spool.dropped == 1
    assert told == [1]
    assert sum(len(data) for data in flash.files.values()) <= 4 * 8192
    assert read_all(spool) == list(range(3, 10))
    fill(spool, 10, 20, 4000)
    spool.rewind()
    found = read_all(spool)
    assert found == list(range(found[0], 21))
    assert spool.dropped == sum(told) == found[0] - 2
    again = Spool("s", 4 * 8192, 4, disk=flash)
    assert read_all(again) == found


def test_the_largest_message_fits_and_a_larger_one_is_refused():
    spool = Spool("s", SIZE, 2, disk=Flash())
    spool.append(1, 1, message(1, MAX_MESSAGE))
    assert read_all(spool) == [1]
    try:
        spool.append(1, 2, bytes(MAX_MESSAGE + 1))
    except ValueError:
        return
    raise AssertionError("took it")


def test_power_cut_at_every_byte_loses_at_most_the_message_being_written():
    flash = Flash()
    spool = Spool("s", SIZE, 2, disk=flash)
    lengths = (40, 3000, 40, 40)
    for seq in range(1, 25):
        flash.promised = (seq - 1, spool.freed)
        spool.append(1, seq, message(seq, lengths[seq % 4]))
        if seq in (2, 3, 20):
            flash.promised = (seq, seq - 1)
            spool.free(seq - 1)
    assert spool.dropped
    cuts = 0
    files = {}
    for path, data, (returned, freed) in flash.changes:
        before = files.get(path, b"")
        if data is None:
            del files[path]
            check(files, returned, freed, True)
            continue
        for cut in range(len(data) + 1):
            files[path] = before + data[:cut]
            check(files, returned, freed, cut % 64 in (0, 1, 13, 14, 15) or cut == len(data))
            cuts += 1
    assert cuts > 18000


def check(files, returned, freed, thorough):
    """Mount what the power cut left: every message whose append returned is there, and at most the next one."""
    flash = Flash(files)
    spool = Spool("s", SIZE, 2, disk=flash)
    last = spool.last[1] if spool.last else 0
    assert returned <= last <= returned + 1
    if not thorough:
        return
    found = read_all(spool)
    if found:
        assert found == list(range(found[0], last + 1))
        assert found[0] <= max(freed + 1, returned - 2)  # a full ring keeps its newer file
    # whatever the damage, the next message is kept, and read behind the others
    spool.append(2, last + 1, message(last + 1))
    spool.rewind()
    assert read_all(spool)[-1] == last + 1
    again = Spool("s", SIZE, 2, disk=flash)
    assert again.clean
    assert again.last[:2] == (2, last + 1)


def test_a_torn_record_is_dropped_and_the_earlier_ones_kept():
    flash = Flash()
    fill(Spool("s", SIZE, 2, disk=flash), 1, 5)
    name, whole = next(iter(flash.files.items()))
    record = HEADER + 100
    for cut in range(len(whole) - record + 1, len(whole)):
        flash.files = {name: whole[:cut]}
        spool = Spool("s", SIZE, 2, disk=flash)
        assert not spool.clean
        assert spool.last[1] == 4
        assert read_all(spool) == [1, 2, 3, 4]


def test_a_flipped_byte_anywhere_is_noticed():
    flash = Flash()
    fill(Spool("s", SIZE, 2, disk=flash), 1, 3)
    name, whole = next(iter(flash.files.items()))
    record = HEADER + 100
    for at in range(0, len(whole), 5):
        broken = bytearray(whole)
        broken[at] ^= 0x10
        flash.files = {name: bytes(broken)}
        spool = Spool("s", SIZE, 2, disk=flash)
        assert not spool.clean
        assert spool.damaged
        assert read_all(spool) == list(range(1, at // record + 1))
        spool.append(1, 9, message(9))
        assert read_all(spool) == [9]


def test_damage_in_an_older_file_costs_that_file_only():
    flash = Flash()
    fill(Spool("s", 4 * 8192, 4, disk=flash), 1, 6, 4000)
    name = sorted(flash.files)[1]
    broken = bytearray(flash.files[name])
    broken[HEADER + 4000 + HEADER + 7] ^= 1  # the second record of the second file
    flash.files[name] = bytes(broken)
    spool = Spool("s", 4 * 8192, 4, disk=flash)
    assert spool.clean
    assert read_all(spool) == [1, 2, 3, 5, 6]
    assert spool.damaged == 1
    assert read_all(spool) == []
    assert spool.damaged == 1


class Unreadable(Flash):
    """Flash whose file system reports an error for some files."""

    bad = ()
    stuck = False  # they cannot be removed either

    def open(self, path, mode):
        if path in self.bad:
            raise OSError(5)
        return super().open(path, mode)

    def remove(self, path):
        if self.stuck and path in self.bad:
            raise OSError(5)
        super().remove(path)
        self.bad = ()


def test_a_file_that_cannot_be_read_at_all_costs_that_file_only():
    for stuck in (False, True):
        for lost in range(3):
            flash = Unreadable()
            fill(Spool("s", 4 * 8192, 4, disk=flash), 1, 6, 4000)
            flash.bad = (sorted(flash.files)[lost],)
            flash.stuck = stuck
            spool = Spool("s", 4 * 8192, 4, disk=flash)
            assert spool.damaged == 1
            assert spool.clean == (lost < 2)  # the newest told the last number
            left = [seq for seq in range(1, 7) if (seq - 1) // 2 != lost]
            found = read_all(spool)
            assert found == left, (stuck, lost, found)
            for seq in range(11, 13):
                spool.append(1, seq, message(seq, 4000))
                left.append(seq)
            spool.rewind()
            found = read_all(spool)
            assert found == left, (stuck, lost, found)


def test_a_file_that_cannot_be_read_does_not_keep_newer_messages_out():
    flash = Unreadable()
    spool = Spool("s", 4 * 8192, 4, disk=flash)
    fill(spool, 1, 8, 4000)
    flash.bad = (sorted(flash.files)[0],)
    fill(spool, 9, 10, 4000)
    assert spool.last[1] == 10


def test_flash_that_is_fuller_than_promised_costs_the_oldest_file():
    flash = Flash()
    spool = Spool("s", 4 * 8192, 4, disk=flash)
    fill(spool, 1, 4, 4000)
    spool.append(1, 5, message(5, 4000))
    flash.full = True
    try:
        spool.append(1, 6, message(6))
    except OSError:
        pass
    else:
        raise AssertionError("took it")
    flash.full = False
    spool.append(1, 7, message(7))
    spool.rewind()
    found = read_all(spool)
    assert found[-2:] == [5, 7]
    assert spool.dropped
    again = Spool("s", 4 * 8192, 4, disk=flash)
    assert read_all(again) == found


def test_clear_removes_every_file():
    flash = Flash()
    spool = Spool("s", SIZE, 2, disk=flash)
    fill(spool, 1, 3, 4000)
    spool.clear()
    assert not flash.files
    assert spool.last is None
    assert read_all(spool) == []
    fill(spool, 1, 1)
    assert read_all(spool) == [1]


def test_a_spool_in_memory_holds_the_newest_messages_and_counts_what_it_gives_up():
    lost = []
    spool = Spool("", 2 * (HEADER + 1000), 2, lost.append, Ram(), 1000)
    assert spool.last is None
    assert spool.empty
    fill(spool, 1, 4, 450)
    assert read_all(spool) == [1, 2, 3, 4]
    fill(spool, 5, 5, 1000)
    assert lost == [2]
    spool.rewind()
    assert read_all(spool) == [3, 4, 5]
    assert spool.oldest() == 3
    spool.free(5)
    assert spool.empty
    fill(spool, 6, 205, 100)
    spool.rewind()
    found = read_all(spool)
    assert found == list(range(found[0], 206))
    assert sum(lost) == 2 + found[0] - 6
    spool.clear()
    fill(spool, 206, 206, 100)
    assert read_all(spool) == [206]
