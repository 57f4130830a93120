"""Updates of the application over the air: fetched, written beside the running one, read back, hashed, and only
then named as what starts next, on trial. Nothing here touches what runs.

Two forms of image. "files" is a ustar archive (POSIX.1-1988) of what an application directory holds, for the file-level
slots `app_a` and `app_b`. "app" is an ESP32 application image for boards whose partition table has OTA slots;
there the bootloader starts the new one once and goes back by itself unless it is confirmed.
"""

import asyncio
import hashlib
import os
from binascii import hexlify

from nodeboot import PARTITION, SLOTS

from . import __version__
from .http import Download, HttpError
from .orders import version_number

CHUNK = 2048
BLOCK = 512  # of an archive
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."


class Disk:
    """The file calls of an update; tests put a disk that loses power in its place."""

    @staticmethod
    def open(path, mode):
        return open(path, mode)

    listdir = staticmethod(os.listdir)
    remove = staticmethod(os.remove)
    rmdir = staticmethod(os.rmdir)
    mkdir = staticmethod(os.mkdir)

    @staticmethod
    def is_dir(path):
        return bool(os.stat(path)[0] & 0x4000)


class FileSlot:
    """The application directory that does not run, filled from a ustar archive as it comes in.

    :param path: the directory, replaced whole.

    Attributes: `members`, (path, SHA-256) of every file that is in.
    """

    def __init__(self, path, disk=Disk):
        self._path = path
        self._disk = disk
        self._head = bytearray()
        self._left = 0  # content bytes of the current member that are still to come
        self._padding = 0
        self._open = None, hashlib.sha256(), ""  # the member that is coming in: file, hash, path
        self._ended = False
        self.members = []
        _remove(disk, path)
        disk.mkdir(path)
        disk.mkdir(path + "/sensornode")

    def write(self, data):
        """Take the next bytes of the archive. Raises ValueError when it is none, OSError when flash takes no more."""
        data = memoryview(data)
        while len(data):
            if self._left:
                part = data[: self._left]
                self._take(part)
                self._left -= len(part)
                if not self._left:
                    self._end_member()
            elif self._padding:
                part = data[: self._padding]
                self._padding -= len(part)
            else:
                part = data[: BLOCK - len(self._head)]
                self._head.extend(part)
                if len(self._head) == BLOCK:
                    self._begin_member(bytes(self._head))
                    self._head = bytearray()
            data = data[len(part) :]

    def _take(self, part):
        file, state, _ = self._open
        if not file or file.write(part) != len(part):
            raise OSError("flash is full")
        state.update(part)

    def _begin_member(self, head):
        if self._ended or not any(head):
            self._ended = True
            if any(head):
                raise ValueError("archive goes on after its end")
            return
        total = 256 + sum(head[:148]) + sum(head[156:])
        if head[257:262] != b"ustar" or _octal(head[148:156]) != total:
            raise ValueError("not a ustar archive")
        name = str(head[:100].rstrip(b"\0"), "ascii")
        while name.startswith("./"):
            name = name[2:]
        size = _octal(head[124:136])
        kind = head[156:157]
        parts = name.rstrip("/").split("/")
        if kind == b"5" and not size and (not name or parts[0] == "sensornode" and _plain(parts)):
            return  # directories are made as their files come
        if kind not in (b"0", b"\0") or head[345] or not _plain(parts):
            raise ValueError("archive holds what does not belong in an application")
        if parts[0] != "sensornode" or not 2 <= len(parts) <= 4:
            raise ValueError("archive must hold the directory sensornode only")
        directory = self._path + "/sensornode"
        for part in parts[1:-1]:
            directory += "/" + part
            try:
                self._disk.mkdir(directory)
            except OSError:
                pass  # is there; if not, the file cannot be opened
        path = directory + "/" + parts[-1]
        if any(path == member for member, _ in self.members):
            raise ValueError("archive holds a file twice")
        self._open = self._disk.open(path, "wb"), hashlib.sha256(), path
        self._left = size
        self._padding = -size % BLOCK
        if not size:
            self._end_member()

    def _end_member(self):
        file, state, path = self._open
        if file:
            file.close()
        self._open = None, state, path
        self.members.append((path, state.digest()))

    def close(self):
        """Let go of an archive that is not complete."""
        file, state, path = self._open
        self._open = None, state, path
        if file:
            file.close()

    async def check(self):
        """Read everything back from flash. Raises ValueError when the archive is not complete or flash differs."""
        if not self._ended or self._left:
            raise ValueError("archive is cut off")
        names = [path[len(self._path) + 1 :].rpartition(".")[0] for path, _ in self.members]
        if "sensornode/node" not in names or "sensornode/__init__" not in names:
            raise ValueError("archive holds no application")
        buffer = bytearray(CHUNK)
        for path, digest in self.members:
            if await _digest(self._disk, path, buffer) != digest:
                raise ValueError(path + " was not written as it came")


class AppPartition:
    """The OTA partition that does not run.

    :param partition: `esp32.Partition`; `size` and `sha256` of the image.
    """

    BLOCK = 4096

    def __init__(self, partition, size, sha256):
        if size > partition.info()[3]:
            raise ValueError("image is larger than the partition")
        self._partition = partition
        self._size = size
        self._sha256 = sha256
        self._buffer = bytearray(self.BLOCK)
        self._fill = 0
        self._block = 0

    def write(self, data):
        data = memoryview(data)
        while len(data):
            part = data[: self.BLOCK - self._fill]
            self._buffer[self._fill : self._fill + len(part)] = part
            self._fill += len(part)
            data = data[len(part) :]
            if self._fill == self.BLOCK:
                self._flush()

    def _flush(self):
        self._partition.writeblocks(self._block, self._buffer)
        self._block += 1
        self._fill = 0

    def close(self):
        pass

    async def check(self):
        """Read the image back. Raises ValueError when flash differs from what was signed."""
        if self._fill:
            self._buffer[self._fill :] = b"\xff" * (self.BLOCK - self._fill)
            self._flush()
        state = hashlib.sha256()
        left = self._size
        for block in range(self._block):
            self._partition.readblocks(block, self._buffer)
            part = memoryview(self._buffer)[: min(left, self.BLOCK)]
            state.update(part)
            left -= len(part)
            await asyncio.sleep(0)
        if left or state.digest() != self._sha256:
            raise ValueError("partition was not written as it came")


async def fetch(order, target, tls=None, timeout=20):
    """Fetch the image of an `orders.UpdateOrder` into a target, and check its size and hash.

    Raises OSError, asyncio.TimeoutError or ValueError; the target is then worth nothing.
    """
    download = Download(tls, timeout)
    state = hashlib.sha256()
    got = 0
    try:
        await download.open(order.url)
        if download.length not in (None, order.size):
            raise HttpError("image has %d bytes, not %d" % (download.length, order.size))
        while True:
            data = await download.read(CHUNK)
            if not data:
                break
            got += len(data)
            if got > order.size:
                raise HttpError("image is longer than it should be")
            state.update(data)
            target.write(data)
            await asyncio.sleep(0)
        if got != order.size or state.digest() != order.sha256:
            raise ValueError("image is not the one that was signed")
        await target.check()
    finally:
        target.close()
        await download.close()


async def install(order, life, root, tls, board, disk=Disk):
    """Install an update and put it on trial. Raises OSError, asyncio.TimeoutError or ValueError, and then nothing has changed.

    :param board: the module `board`, or anything with `hardware` and `next_partition`.
    """
    if order.board and not board.hardware().startswith(order.board):
        raise ValueError("image is for another board")
    if order.form == "files":
        slot = 1 - life.active
        target = FileSlot(root + "/" + SLOTS[slot], disk)
        await fetch(order, target, tls)
        _seal(disk, root + "/" + SLOTS[slot], order.version, target.members)
        await _seal_running(disk, root + "/" + SLOTS[life.active])
        life.begin_update(order.sequence, slot, order.version, order.minimum)
    else:
        partition = board.next_partition()
        if not partition:
            raise ValueError("the partition table has no OTA slots")
        if _lies_in_files(disk, root + "/" + SLOTS[life.active]):
            raise ValueError("the application lies in files, which go before those of an image")
        await fetch(order, AppPartition(partition, order.size, order.sha256), tls)
        # first the record: a boot slot without one would start the new image without counting it
        life.begin_update(order.sequence, PARTITION, order.version, order.minimum)
        try:
            board.boot_from(partition)
        except OSError:
            life.give_up()
            raise


SEAL = "whole"  # what slots.py reads; the format stands there


def _seal(disk, path, version, members):
    """Write down what a slot holds, for slots.py: members as (path, SHA-256)."""
    text = b"1 %d\n" % version
    for name, digest in members:
        text += hexlify(digest) + b" " + name[len(path) + 1 :].encode() + b"\n"
    file = disk.open(path + "/" + SEAL, "wb")
    try:
        file.write(text + hexlify(hashlib.sha256(text).digest()))
    finally:
        file.close()


async def _seal_running(disk, path):
    """Have the running application, to which the node may have to come back, written down too."""
    try:
        if SEAL not in disk.listdir(path):
            members = []
            buffer = bytearray(CHUNK)
            for name in _files(disk, path):
                members.append((name, await _digest(disk, name, buffer)))
            _seal(disk, path, version_number(__version__), members)
    except OSError:
        pass  # it runs from somewhere else, or flash is full: then there is no way back, as before


def _files(disk, path):
    for name in disk.listdir(path):
        name = path + "/" + name
        if not disk.is_dir(name):
            yield name
        elif not name.endswith("__pycache__"):
            yield from _files(disk, name)


async def _digest(disk, path, buffer):
    state = hashlib.sha256()
    with disk.open(path, "rb") as file:
        while True:
            got = file.readinto(buffer)
            if not got:
                return state.digest()
            state.update(memoryview(buffer)[:got])
            await asyncio.sleep(0)


def _lies_in_files(disk, path):
    try:
        return disk.is_dir(path + "/sensornode")
    except OSError:
        return False


def _octal(field):
    try:
        return int(str(field.rstrip(b"\0 "), "ascii") or "0", 8)
    except ValueError:
        raise ValueError("not a ustar archive")


def _plain(parts):
    return all(part and part[0] != "." and all(letter in _LETTERS for letter in part) for part in parts)


def _remove(disk, path):
    """Remove a file or a directory with all that is in it, if it is there."""
    try:
        directory = disk.is_dir(path)
    except OSError:
        return
    if not directory:
        disk.remove(path)
        return
    for name in disk.listdir(path):
        _remove(disk, path + "/" + name)
    disk.rmdir(path)
