"""Bounded store of signed messages on flash, oldest first, until the gateway has logged them.

The ring is a directory of append-only segment files, `<number, 8 hex digits>.seg`. Append-only, because LittleFS
copies whatever stands behind a changed byte; whole files, because removing one costs a metadata commit and no copy.
A record is (big endian, the CRC covers everything after itself)

    crc32 u32 | length u16 | boot u32 | seq u32 | message

and is appended to a file that is closed at once, so a power cut leaves an unfinished last record and never
a damaged earlier one. Only the gateway's receipt frees records. What was freed is not written down: the gateway says
it again in the receipt that answers every announce, and that saves a flash write per message.

Flash that fails stops no node. What cannot be read is left where it is, perhaps the next start can read it. When a directory
takes no more files the next one is begun (`spool`, `spool1` ...; the upper bits of a file's number say which), and when none
does, the newest messages are kept in memory until flash takes files again.
"""

import hashlib
import io
import os
import struct
from binascii import crc32
from errno import EIO, ENOENT

from micropython import const

HEADER = 14
MAX_MESSAGE = 4096  # that the gateway takes
SUFFIX = ".seg"
MEMORY = 2  # segments in memory at most, each of the longest message's size
_DIRECTORIES = const(4)
_SHIFT = const(24)  # of a file's number: above it stands the directory
_TRIES = const(3)  # that reading gets
_ENOSPC = const(28)  # not in MicroPython's errno
_START = (-1, 0)  # before all files


class DamagedError(Exception):
    """Raised when a record is cut short or fails its CRC."""


def _names(path):
    for entry in os.ilistdir(path):
        if not entry[0]:
            raise OSError(EIO)  # without an end MicroPython gives these, where LittleFS cannot read on
        yield entry[0]


class Disk:
    """The file calls the spool needs; tests put a disk that loses power in its place."""

    @staticmethod
    def open(path, mode):
        return open(path, mode)

    listdir = staticmethod(_names if hasattr(os, "ilistdir") else os.listdir)
    remove = staticmethod(os.remove)
    mkdir = staticmethod(os.mkdir)


class Segment:
    """One file: its number, first sequence number, and where its intact records end (None: not walked yet). `data` is
    its content while it is in memory only."""

    def __init__(self, number, first, size=None, data=None):
        self.number = number
        self.first = first
        self.size = size
        self.data = data


class Spool:
    """The ring.

    :param path: directory of the segment files, made when missing.
    :param size: bytes on flash at most, all segments together.
    :param segments: number of files; a full ring gives up one of them at a time.
    :param on_drop: called with the number of messages before they are given up.
    :param longest: bytes of the longest message; a longer one on flash counts as damaged.
    :param lapsed: the gateway was told that nothing below this number would come, since flash could not be read; 0 for nothing.

    Attributes: `last` is (boot, seq, SHA-256) of the newest intact record or None; `clean` is False when that may not be the
    newest message, as its file ended in a damaged record at mount time or something newer cannot be read; `freed` is the
    highest sequence number that is receipted; `dropped` counts messages given up since mount; `damaged` counts damaged
    records, files and directories met since mount; `unread` counts those that cannot be read at all, but perhaps another time;
    `in_memory` is True while flash takes no messages.
    """

    def __init__(self, path, size, segments=16, on_drop=None, disk=Disk, longest=MAX_MESSAGE, lapsed=0):
        self._segment_size = size // segments
        if self._segment_size < HEADER + longest or segments < 2:
            raise ValueError("a spool of %d bytes cannot be split into %d segments" % (size, segments))
        self._path = path
        self._limit = segments
        self._on_drop = on_drop
        self._disk = disk
        self.longest = longest
        self._head = bytearray(HEADER)
        self._segments = []
        self._late = []  # files that came to light below `lapsed`
        self._late_at = 0  # what was read of the first of them
        self._number = -1  # of the newest file, also of one that can neither be read nor removed
        self._place = -1  # the highest directory that is there
        self._sealed = False  # the newest file takes no more records
        self.last = None
        self.clean = True
        self.unread = 0
        self.in_memory = False
        self.freed = 0
        self.dropped = 0
        self.damaged = 0
        self._cursor = _START  # number of a file, and what was read of it
        self._mount(lapsed)

    def append(self, boot, seq, message):
        """Keep one signed message, in memory when flash does not take it, and return its SHA-256.

        Raises ValueError when it is too long.
        """
        length = len(message)
        if length > self.longest:
            raise ValueError("message of %d bytes is longer than %d" % (length, self.longest))
        head = self._head
        struct.pack_into(">IHII", head, 0, 0, length, boot, seq)
        struct.pack_into(">I", head, 0, crc32(message, crc32(memoryview(head)[4:])))
        head = bytes(head)  # what is given up in between is read through the same buffer
        if not self._fits(length) and self.in_memory:
            self._save()
        if not self._fits(length):
            self._open_segment(seq)
        try:
            self._write(head, message)
        except OSError as error:
            self._write_elsewhere(error, seq, head, message)
        digest = hashlib.sha256(message).digest()
        self.last = (boot, seq, digest)
        return digest

    def next(self, into):
        """Read the oldest message that is neither freed nor read since `rewind`.

        :param into: buffer of at least `longest` bytes.
        :returns: (length, boot, seq), or None when there is none.
        """
        into = memoryview(into)
        number, offset = self._cursor
        for segment in self._segments:
            if segment.number < number:
                continue
            if segment.number > number:
                number, offset = segment.number, 0
            try:
                length, boot, seq, offset = self._find(segment, offset, self.freed, into)
            except DamagedError:
                self._sealed = self._sealed or segment is self._segments[-1]
                continue
            except OSError:
                # it stays where it is; nothing that is newer may be written into an older file
                self._sealed = self._sealed or segment is self._segments[-1]
                self._segments.remove(segment)
                if not self._segments and self.last:
                    self.freed = self.last[1]
                return self.next(into)
            if length:
                self._cursor = (number, offset)
                return length, boot, seq
        self._cursor = (number, offset)
        return None

    def overdue(self, into):
        """Read the next message that came to light after the gateway was told it would not come; else as `next`.

        Receipts do not tell of these. To be called when the broker has acknowledged everything before: then a file that is
        read to its end is removed.
        """
        into = memoryview(into)
        while self._late:
            try:
                length, boot, seq, self._late_at = self._find(self._late[0], self._late_at, 0, into)
                if length:
                    return length, boot, seq
                self._remove(self._late[0])
            except DamagedError:
                self._remove(self._late[0])
            except OSError:
                pass
            self._late.pop(0)
            self._late_at = 0
        return None

    def oldest(self):
        """Sequence number of the oldest message that is not freed and can be read, or None; reading goes on where it was."""
        cursor = self._cursor
        self._cursor = _START
        record = self.next(bytearray(self.longest))
        self._cursor = cursor
        return record[2] if record else None

    def rewind(self):
        """Read again from the oldest message that is not freed."""
        self._cursor = _START
        self._late_at = 0

    def free(self, seq):
        """Take a receipt: everything up to `seq` is in the gateway's log. One for more than was kept is ignored."""
        if self.last is None or seq > self.last[1]:
            return
        self.freed = max(self.freed, seq)
        # the newest file stays even when freed: after a reset it tells the last sequence number and hash
        while len(self._segments) > 1 and self._segments[1].first - 1 <= self.freed:
            self._remove(self._segments.pop(0))

    @property
    def empty(self):
        """True when every message is receipted."""
        return not self._late and (self.last is None or self.last[1] <= self.freed)

    @property
    def state(self):
        """In a word: "memory" while flash takes no messages, "damaged" when not all of it can be read, "late" while there are
        messages for `overdue`, or "ok"."""
        return "memory" if self.in_memory else "damaged" if self.unread else "late" if self._late else "ok"

    def clear(self):
        """Remove everything, as for a node that got a new key."""
        for segment in self._segments + self._late:
            self._remove(segment)
        self._segments.clear()
        self._late.clear()
        self.last = None
        self.clean = True
        self._sealed = False

    def _mount(self, lapsed):
        numbers = set()
        for place in range(_DIRECTORIES):
            if not self._list(place, numbers):
                # what is written from now on may not meet a file that nobody sees
                self._number = (place + 1 << _SHIFT) - 1
                self.damaged += 1
                self.unread += 1
        numbers = sorted(numbers)
        if numbers:
            self.clean = numbers[-1] > self._number
            self._number = max(self._number, numbers[-1])
        view = memoryview(bytearray(self.longest))
        for number in reversed(numbers):
            segment = Segment(number, None)
            newest = self.last is None
            try:
                self._look(segment, view)
            except (DamagedError, OSError) as error:
                self.damaged += 1
                self.clean = self.clean and not newest
                if isinstance(error, OSError):
                    self.unread += 1
                    if not lapsed:
                        continue  # perhaps the next start can read it
                    segment.first = None
            if segment.first is None:
                self._remove(segment)
            else:
                (self._late if segment.first < lapsed else self._segments).insert(0, segment)
        if self._segments:
            self.freed = self._segments[0].first - 1
        elif self.last:
            self.freed = self.last[1]
        # nothing may follow a torn record, where readers stop, nor stand in an older file than one that cannot be read
        self._sealed = not self.clean

    def _list(self, place, numbers):
        """Take in the numbers of a directory's files. False when there may be more than could be read."""
        for _ in range(_TRIES):
            try:
                for name in self._disk.listdir(self._folder(place)):
                    try:
                        number = int(name[:8], 16)
                    except ValueError:
                        continue
                    if number >> _SHIFT == place and name == "%08x" % number + SUFFIX:
                        numbers.add(number)
                self._place = place
                return True
            except OSError as error:
                if error.args[:1] == (ENOENT,):
                    return True
        return False

    def _look(self, segment, view):
        """Find a file's first number, and in the newest file that has one the newest intact record. Raises DamagedError, OSError."""
        walk = self.last is None
        for left in range(_TRIES - 1, -1, -1):
            try:
                with self._open(segment) as file:
                    if not walk:
                        segment.first = self._read(file, view)[2] or None
                        return
                    segment.first = self.last = None
                    segment.size = 0
                    while True:
                        length, boot, seq = self._read(file, view)
                        if not length:
                            return
                        segment.first = segment.first or seq
                        segment.size += HEADER + length
                        self.last = (boot, seq, hashlib.sha256(view[:length]).digest())
            except DamagedError:
                if not left:
                    raise
            except OSError:
                if walk:
                    self.last = None
                if not left:
                    raise

    def _find(self, segment, offset, above, into):
        """(length, boot, seq, offset behind it) of a file's first record from an offset on with a number above another; a
        length of 0 when there is none. Raises DamagedError, and OSError when the file cannot be read, which `unread` counts."""
        for left in range(_TRIES - 1, -1, -1):
            if segment.size is not None and offset >= segment.size:
                break
            try:
                with self._open(segment) as file:
                    file.seek(offset)
                    while True:
                        length, boot, seq = self._read(file, into)
                        if not length:
                            return 0, 0, 0, offset
                        offset += HEADER + length
                        if seq > above:
                            return length, boot, seq, offset
            except (DamagedError, OSError) as error:
                if left:
                    continue
                self.damaged += 1
                if isinstance(error, OSError):
                    self.unread += 1
                else:
                    segment.size = offset
                raise
        return 0, 0, 0, offset

    def _read(self, file, into):
        """Read the next record's message into `into`; (0, 0, 0) at the end of the file."""
        head = self._head
        got = file.readinto(head)
        if not got:
            return 0, 0, 0
        if got < HEADER:
            raise DamagedError
        crc, length, boot, seq = struct.unpack(">IHII", head)
        if not 0 < length <= self.longest or file.readinto(into[:length]) != length:
            raise DamagedError
        if crc32(into[:length], crc32(memoryview(head)[4:])) != crc:
            raise DamagedError
        return length, boot, seq

    def _fits(self, length):
        newest = self._segments[-1] if self._segments and not self._sealed else None
        if newest is None or newest.size is None:
            return False
        room = self._segment_size if newest.data is None else HEADER + self.longest
        return newest.size + HEADER + length <= room

    def _write(self, head, message):
        newest = self._segments[-1]
        if newest.data is not None:
            newest.data.extend(head)
            newest.data.extend(message)
        else:
            try:
                self._append(newest, head, message)
            except OSError:
                self._sealed = True
                raise
        newest.size += HEADER + len(message)

    def _append(self, segment, *parts):
        place = segment.number >> _SHIFT
        if place >= _DIRECTORIES:
            raise OSError(EIO)
        if place > self._place:
            self._disk.mkdir(self._folder(place))
            self._place = place
        with self._disk.open(self._name(segment), "ab") as file:
            for part in parts:
                if file.write(part) != len(part):
                    raise OSError(_ENOSPC)

    def _write_elsewhere(self, error, seq, head, message):
        """Keep a message that flash has refused: in the place of the oldest file, in another directory, or in memory."""
        # flash that is fuller than the ring was promised: give up the oldest file and try once more
        full = error.args[:1] == (_ENOSPC,)
        if full:
            ways = len(self._segments) + len(self._late) > 1
        else:
            ways = _DIRECTORIES - 1 - (self._number >> _SHIFT)
        while True:
            if ways <= 0:
                self.in_memory = True
            elif full:
                self._drop(self._late or self._segments, 0)
            else:
                self._number |= (1 << _SHIFT) - 1
            ways -= 1
            try:
                self._open_segment(seq)
                self._write(head, message)
                return
            except OSError:
                pass

    def _save(self):
        """Write what is in memory to flash, if it takes files again."""
        held = [segment for segment in self._segments if segment.data is not None]
        for segment in held:
            self._number += 1
            if self._cursor[0] == segment.number:
                self._cursor = (self._number, self._cursor[1])
            segment.number = self._number
        for segment in held:
            try:
                self._append(segment, segment.data)
            except OSError:
                self._remove(segment)
                return
            segment.data = None
        self.in_memory = False

    def _open_segment(self, seq):
        segments = self._segments
        self._number += 1
        if segments and segments[-1].size == 0:
            segments.pop()  # its first write failed; the number is not used again, the next mount removes the file
        data = None
        if self.in_memory:
            data = bytearray()
            held = sum(segment.data is not None for segment in segments)
            if held >= MEMORY:
                self._drop(segments, -held)
        else:
            while len(segments) + len(self._late) >= self._limit:
                self._drop(self._late or segments, 0)
        segments.append(Segment(self._number, seq, 0, data))
        self._sealed = False

    def _drop(self, segments, at):
        lost = self._unreceipted(segments[at], 0 if segments is self._late else self.freed)
        if lost:
            self.dropped += lost
            if self._on_drop:
                self._on_drop(lost)  # first, so that a power cut here counts them twice rather than never
        self._remove(segments.pop(at))
        if segments is self._late:
            self._late_at = 0
        elif segments and not at:
            self.freed = max(self.freed, segments[0].first - 1)

    def _unreceipted(self, segment, above):
        """Count the records of a file that no receipt covers, reading their headers only."""
        count = offset = 0
        try:
            with self._open(segment) as file:
                while segment.size is None or offset < segment.size:
                    if file.readinto(self._head) != HEADER:
                        break
                    _, length, _, seq = struct.unpack(">IHII", self._head)
                    if not 0 < length <= self.longest:
                        break
                    count += seq > above
                    offset += HEADER + length
                    file.seek(offset)
        except OSError:
            pass  # what cannot be read cannot be counted, and must not keep newer messages out
        return count

    def _open(self, segment) -> "io.FileIO":
        if segment.data is not None:
            return io.BytesIO(segment.data)  # pyright: ignore[reportReturnType]  as good as one
        return self._disk.open(self._name(segment), "rb")

    def _remove(self, segment):
        try:
            self._disk.remove(self._name(segment))
        except OSError:
            pass  # it was in memory only, or the next mount meets it again

    def _folder(self, place):
        return self._path + str(place) if place else self._path

    def _name(self, segment):
        return "%s/%08x%s" % (self._folder(segment.number >> _SHIFT), segment.number, SUFFIX)
