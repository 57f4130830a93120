"""Files in memory for a spool whose directory on flash cannot be used; loaded only then."""

from errno import ENOENT


class Ram:
    """The file calls of `spool.Disk`; everything is gone with the power."""

    def __init__(self):
        self._files = {}  # path: content

    def open(self, path, mode):
        if mode == "ab":
            self._files.setdefault(path, bytearray())
        elif path not in self._files:
            raise OSError(ENOENT)
        return File(self._files[path])

    def listdir(self, path):
        return [name[len(path) + 1 :] for name in self._files]

    def remove(self, path):
        self._files.pop(path, None)

    def mkdir(self, path):
        pass


class File:
    """What the spool uses of an open file: read from the beginning, append at the end."""

    def __init__(self, data):
        self._data = data
        self._at = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def seek(self, offset):
        self._at = offset

    def readinto(self, into):
        part = memoryview(self._data)[self._at : self._at + len(into)]
        into[: len(part)] = part
        self._at += len(part)
        return len(part)

    def write(self, data):
        self._data.extend(data)
        return len(data)
