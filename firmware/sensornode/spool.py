"""Bounded store of signed messages on flash, oldest first, until the gateway has logged them.

The ring is a directory of append-only segment files, `<number, 8 hex digits>.seg`. Append-only, because LittleFS
copies whatever stands behind a changed byte; whole files, because removing one costs a metadata commit and no copy.
A record is (big endian, the CRC covers everything after itself)

    crc32 u32 | length u16 | boot u32 | seq u32 | message

and is appended to a file that is closed at once, so a power cut leaves an unfinished last record and never
a damaged earlier one. Only the gateway's receipt frees records. What was freed is not written down: the gateway says
it again in the receipt that answers every announce, and that saves a flash write per message.

Receipts say nothing of messages below `floor`: while this directory could not be read, the gateway was told that they do not
come, and receipts pass over them. Each of their files holds no others, and is kept until `forget`.
"""

import hashlib
import os
import struct
from binascii import crc32
from errno import EIO

HEADER = 14
MAX_MESSAGE = 4096  # that the gateway takes
SUFFIX = ".seg"


class DamagedError(Exception):
    """Raised when a record is cut short or fails its CRC."""


def _names(path):
    """Names in a directory. MicroPython's listdir never ends where LittleFS cannot read on: it gives empty names."""
    names = []
    for entry in os.ilistdir(path):
        if not entry[0]:
            raise OSError(EIO)
        names.append(entry[0])
    return names


class Disk:
    """The file calls the spool needs; tests put a disk that loses power in its place."""

    @staticmethod
    def open(path, mode):
        return open(path, mode)

    listdir = staticmethod(_names if hasattr(os, "ilistdir") else os.listdir)
    remove = staticmethod(os.remove)
    mkdir = staticmethod(os.mkdir)


class Segment:
    """One file: its number, first sequence number, and where its intact records end (None: not walked yet)."""

    def __init__(self, number, first, size=None):
        self.number = number
        self.first = first
        self.size = size


class Spool:
    """The ring.

    :param path: directory of the segment files, made when missing.
    :param size: bytes on flash at most, all segments together.
    :param segments: number of files; a full ring gives up one of them at a time.
    :param on_drop: called with the number of messages before they are given up.
    :param disk: the file calls, of flash by default.
    :param longest: bytes of the longest message; a longer one on flash counts as damaged.
    :param floor: the lowest number that receipts speak of.

    Attributes: `last` is (boot, seq, SHA-256) of the newest intact record or None; `clean` is False when the newest
    file ended in a damaged record at mount time; `freed` is the highest sequence number that is receipted or passed over;
    `dropped` counts messages given up since mount; `damaged` counts damaged records met since mount.

    Raises OSError when the directory can neither be read nor made.
    """

    def __init__(self, path, size, segments=16, on_drop=None, disk=Disk, longest=MAX_MESSAGE, floor=0):
        self._segment_size = size // segments
        if self._segment_size < HEADER + longest or segments < 2:
            raise ValueError("a spool of %d bytes cannot be split into %d segments" % (size, segments))
        self._path = path
        self._limit = segments
        self._on_drop = on_drop
        self._disk = disk
        self.longest = longest
        self._floor = floor
        self._head = bytearray(HEADER)
        self._segments = []
        self._number = -1  # of the newest file, also of one that can neither be read nor removed
        self._sealed = False  # the newest file takes no more records
        self.last = None
        self.clean = True
        self.freed = 0
        self.dropped = 0
        self.damaged = 0
        self._mount()
        self.rewind()

    def append(self, boot, seq, message):
        """Keep one signed message and return its SHA-256.

        Raises ValueError when it is too long, OSError when flash takes no writes.
        """
        length = len(message)
        if length > self.longest:
            raise ValueError("message of %d bytes is longer than %d" % (length, self.longest))
        head = self._head
        struct.pack_into(">IHII", head, 0, 0, length, boot, seq)
        struct.pack_into(">I", head, 0, crc32(message, crc32(memoryview(head)[4:])))
        head = bytes(head)  # what is given up in between is read through the same buffer
        segments = self._segments
        if not segments or self._sealed or segments[-1].size + HEADER + length > self._segment_size:
            self._open_segment(seq)
        try:
            self._write(head, message)
        except OSError:
            # flash is fuller than the ring was promised: give up the oldest file and try once more
            if len(segments) < 2:
                raise
            self._drop_oldest()
            self._open_segment(seq)
            self._write(head, message)
        digest = hashlib.sha256(message).digest()
        self.last = (boot, seq, digest)
        return digest

    def next(self, into, file=None):
        """Read the oldest message that is neither freed nor passed over nor read since `rewind`.

        :param into: buffer of at least `longest` bytes.
        :param file: read all that this one, which was passed over, holds instead.
        :returns: (length, boot, seq), or None when there is none.
        """
        into = memoryview(into)
        late = file is not None
        number, offset = self._cursors[late]
        for segment in self._segments:
            if segment.number < number or (segment.number != file if late else segment.first < self._floor):
                continue
            if segment.number > number:
                number, offset = segment.number, 0
            if segment.size is not None and offset >= segment.size:
                continue
            try:
                with self._disk.open(self._name(segment), "rb") as file:
                    file.seek(offset)
                    while True:
                        length, boot, seq = self._read(file, into)
                        if not length:
                            break
                        offset += HEADER + length
                        if late or seq > self.freed:
                            self._cursors[late] = (number, offset)
                            return length, boot, seq
            except (DamagedError, OSError):
                self.damaged += 1
                self._sealed = self._sealed or segment is self._segments[-1]
                segment.size = offset
        self._cursors[late] = (number, offset)
        return None

    def oldest(self):
        """Sequence number of the oldest message that is neither freed nor passed over and can be read, or None; reading goes
        on where it was."""
        cursors = self._cursors
        self.rewind()
        record = self.next(bytearray(self.longest))
        self._cursors = cursors
        return record[2] if record else None

    def rewind(self):
        """Read again from the oldest message that is not freed."""
        self._cursors = [(0, 0), (0, 0)]  # (file, offset), the second in what was passed over

    def free(self, seq):
        """Take a receipt: everything up to `seq` is in the gateway's log. One for more than was kept is ignored."""
        if self.last is None or seq > self.last[1]:
            return
        self.freed = max(self.freed, seq)
        # the newest file stays even when freed: after a reset it tells the last sequence number and hash
        while (
            len(self._segments) > 1 and self._segments[1].first - 1 <= self.freed and self.passed_over is None
        ):
            self._forget_oldest()

    @property
    def passed_over(self):
        """Number of the oldest file when receipts have passed over what it holds, else None."""
        oldest = self._segments[0] if self._segments else None
        return oldest.number if oldest and oldest.first < self._floor else None

    def forget(self, file):
        """Remove the oldest file, unless it was given up meanwhile: what it holds is in the gateway's log."""
        if self.passed_over == file:
            self._forget_oldest()

    @property
    def empty(self):
        """True when every message is receipted, those aside that receipts have passed over."""
        return self.last is None or self.last[1] <= self.freed

    def clear(self):
        """Remove everything, as for a node that got a new key."""
        while self._segments:
            self._forget_oldest()
        self.last = None
        self.clean = True
        self._sealed = False

    def _mount(self):
        try:
            names = self._disk.listdir(self._path)
        except OSError:
            self._disk.mkdir(self._path)
            return
        numbers = sorted(int(name[:8], 16) for name in names if name.endswith(SUFFIX))
        self._number = numbers[-1] if numbers else -1
        view = memoryview(bytearray(self.longest))
        for number in reversed(numbers):
            segment = Segment(number, None)
            try:
                with self._disk.open(self._name(segment), "rb") as file:
                    if self.last is None:
                        self._walk(file, segment, view)
                    else:
                        segment.first = self._read(file, view)[2] or None
            except DamagedError:
                self.damaged += 1
            except OSError:  # the file system itself cannot read it: a node must start all the same
                self.damaged += 1
                self.clean = self.clean and self.last is not None
                segment.first = None
            if segment.first is None:
                try:
                    self._disk.remove(self._name(segment))
                except OSError:
                    pass
            else:
                self._segments.insert(0, segment)
        if self._segments:
            self.freed = max(self._segments[0].first, self._floor) - 1
        if self.last and self.last[1] < self._floor:
            self._sealed = True

    def _walk(self, file, segment, view):
        """Find the newest intact record of the newest file that has one."""
        segment.size = 0
        try:
            while True:
                length, boot, seq = self._read(file, view)
                if not length:
                    return
                segment.first = segment.first or seq
                segment.size += HEADER + length
                self.last = (boot, seq, hashlib.sha256(view[:length]).digest())
        except DamagedError:
            self.clean = False
            self._sealed = True  # nothing may follow a torn record: readers stop there
            raise

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

    def _write(self, head, message):
        newest = self._segments[-1]
        try:
            with self._disk.open(self._name(newest), "ab") as file:
                if file.write(head) + file.write(message) != HEADER + len(message):
                    raise OSError("short write to " + self._name(newest))
        except OSError:
            self._sealed = True
            raise
        newest.size += HEADER + len(message)

    def _open_segment(self, seq):
        segments = self._segments
        self._number += 1
        if segments and segments[-1].size == 0:
            segments.pop()  # its first write failed; the number is not used again, the next mount removes the file
        if len(segments) >= self._limit:
            self._drop_oldest()
        segments.append(Segment(self._number, seq, 0))
        self._sealed = False

    def _drop_oldest(self):
        lost = self._unreceipted(self._segments[0])
        if lost:
            self.dropped += lost
            if self._on_drop:
                self._on_drop(lost)  # first, so that a power cut here counts them twice rather than never
        self._forget_oldest()
        if self._segments:
            self.freed = max(self.freed, self._segments[0].first - 1)

    def _forget_oldest(self):
        segment = self._segments.pop(0)
        self._disk.remove(self._name(segment))

    def _unreceipted(self, segment):
        """Count the records of a file that no receipt covers, reading their headers only."""
        count = offset = 0
        try:
            with self._disk.open(self._name(segment), "rb") as file:
                while segment.size is None or offset < segment.size:
                    if file.readinto(self._head) != HEADER:
                        break
                    _, length, _, seq = struct.unpack(">IHII", self._head)
                    if not 0 < length <= self.longest:
                        break
                    count += seq > self.freed or seq < self._floor
                    offset += HEADER + length
                    file.seek(offset)
        except OSError:
            pass  # what cannot be read cannot be counted, and must not keep newer messages out
        return count

    def _name(self, segment):
        return "%s/%08x%s" % (self._path, segment.number, SUFFIX)
