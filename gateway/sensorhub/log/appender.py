"""How other processes append to the log: a Unix stream socket beside its only writer.

Each message is a 32-bit big-endian length and CBOR: the request an array of entries (byte strings), the
answer the index of the first of them, or a text that says why none was taken. The answer comes after the
commit. A client that loses the connection before the answer cannot know whether its entries are in the log:
delivery is at least once only if the caller looks there before it repeats.
"""

from __future__ import annotations

import concurrent.futures
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import cbor2

from sensorhub.errors import SensorhubError
from sensorhub.log.entries import ARTEFACT, NODE, VERDICT, EntryError, decode_entry, kind_of
from sensorhub.log.errors import LogError

#: Longest request in bytes and in entries.
MAX_REQUEST: Final = 16 << 20
MAX_ENTRIES: Final = 1 << 14
#: Kinds a client may append. Messages come through the ingest alone, a genesis is written once.
KINDS: Final = frozenset((NODE, VERDICT, ARTEFACT))

_LENGTH: Final = struct.Struct(">I")
#: sun_path has 108 bytes with its closing zero.
_LONGEST_PATH: Final = 107
_CONNECT_PAUSE: Final = 0.05

#: Hands entries to the writer; the future gives the first index once they are committed.
Submit = Callable[[list[bytes]], "concurrent.futures.Future[int]"]


class AppendError(LogError):
    """Raised when entries could not be appended, or nobody knows whether they were.

    Attributes:
        uncertain: True when the request was sent but not answered: look in the log before repeating it.
    """

    def __init__(self, text: str, *, uncertain: bool = False) -> None:
        super().__init__(text)
        self.uncertain = uncertain


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The socket's address; a path too long for one is reached through its directory's descriptor."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def _receive(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes.

    Raises:
        ConnectionError: the other side closed first.
    """
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(min(count - len(data), 1 << 20))
        if not chunk:
            raise ConnectionError("the other side closed the connection")
        data += chunk
    return bytes(data)


def _send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(data)) + data)


class AppendServer:
    """Takes entries from other processes for the one that writes the log.

    Args:
        path: socket to make, mode 0600; a dead one left there is replaced.
        submit: called with checked entries from one of the server's threads; must not block. Its future
            gives the index of the first once all are committed, or the exception that prevented it.
        timeout: seconds to wait for a commit before the client is told that the outcome is unknown.
        kinds: entry kinds that clients may append.
    """

    def __init__(
        self, path: Path | str, submit: Submit, *, timeout: float = 30.0, kinds: frozenset[int] = KINDS
    ) -> None:
        self.path = Path(path)
        self._submit = submit
        self._timeout = timeout
        self._kinds = kinds
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._closing = False

    def start(self) -> None:
        """Begins to listen.

        Raises:
            LogError: the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            with _address(self.path) as address:
                listener.bind(address)
            # Nobody can connect between bind and listen, so the mode is never too wide.
            self.path.chmod(0o600)
            listener.listen(16)
        except OSError as error:
            listener.close()
            raise LogError(f"cannot listen on {self.path}: {error.strerror}") from error
        self._listener = listener
        self._thread = threading.Thread(target=self._accept, name="log-append", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends all connections and removes the socket."""
        self._closing = True
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            self.path.unlink(missing_ok=True)
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (self._thread, *connections.values()):
            if thread is not None and thread is not threading.current_thread():
                thread.join(5.0)

    def __enter__(self) -> AppendServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        listener = self._listener
        assert listener is not None
        while not self._closing:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._closing:
                    return
                time.sleep(_CONNECT_PAUSE)  # out of descriptors: those in use will be given back
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="log-append", daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while not self._closing:
                (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
                if length > MAX_REQUEST:
                    _send(connection, cbor2.dumps(f"a request has at most {MAX_REQUEST} bytes, not {length}"))
                    return
                answer = self._answer(_receive(connection, length))
                _send(connection, cbor2.dumps(answer))
        except OSError:
            return  # the client went away; what it sent whole is or will be in the log
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()

    def _answer(self, request: bytes) -> int | str:
        try:
            entries = self._check(request)
        except EntryError as error:
            return str(error)
        try:
            return self._submit(entries).result(self._timeout)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            return f"not committed within {self._timeout:g} s; look in the log before you repeat it"
        except SensorhubError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - what the writer met is an answer, not this thread's end
            return f"{type(error).__name__}: {error}"

    def _check(self, request: bytes) -> list[bytes]:
        try:
            entries = cbor2.loads(request)
        except Exception as error:  # cbor2 lets several exception types through, depending on the bytes
            raise EntryError(f"an append request is CBOR, this is not: {error}") from error
        if type(entries) is not list or not 0 < len(entries) <= MAX_ENTRIES:
            raise EntryError(f"an append request is an array of 1 to {MAX_ENTRIES} entries")
        for position, entry in enumerate(entries):
            if type(entry) is not bytes:
                raise EntryError(f"entry {position} of the request is no byte string")
            if kind_of(entry) not in self._kinds:
                raise EntryError(
                    f"entry {position} of the request is not of a kind that may be appended here"
                )
            try:
                decode_entry(entry)
            except EntryError as error:
                raise EntryError(f"entry {position} of the request: {error}") from error
        return entries


class LogClient:
    """Appends to the log of another process. Threads may share one; their requests take turns.

    Args:
        path: the server's socket. It may come and go: each request connects again when it has to.
        timeout: seconds for one `append`, connecting and commit included.
    """

    def __init__(self, path: Path | str, *, timeout: float = 30.0) -> None:
        self.path = Path(path)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None

    def append(self, entries: Sequence[bytes]) -> int:
        """Appends entries, one after the other without others between them, and waits for their commit.

        Args:
            entries: encoded entries (`encode_entry`) of the kinds that the server takes.

        Returns:
            Log index of the first.

        Raises:
            AppendError: refused or unreachable; with `uncertain` set, look in the log before repeating.
        """
        request = cbor2.dumps(list(entries))
        if len(request) > MAX_REQUEST or not 0 < len(entries) <= MAX_ENTRIES:
            raise AppendError(
                f"one append takes 1 to {MAX_ENTRIES} entries and {MAX_REQUEST} bytes, not {len(entries)} and {len(request)}"
            )
        deadline = time.monotonic() + self._timeout
        with self._lock:
            connection = self._connect(deadline)
            sent = False
            try:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                _send(connection, request)
                sent = True
                (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
                answer = cbor2.loads(_receive(connection, length))
            except (OSError, cbor2.CBORDecodeError) as error:
                self._drop()
                # The server only takes whole requests, so an unfinished one was not appended.
                raise AppendError(
                    f"the log writer at {self.path} did not answer: {error}"
                    + ("; look in the log before you repeat the append" if sent else ""),
                    uncertain=sent,
                ) from error
        if isinstance(answer, int):
            return answer
        text = str(answer)
        raise AppendError(f"the log writer refused: {text}", uncertain="look in the log" in text)

    def close(self) -> None:
        """Ends the connection; a later `append` makes a new one."""
        with self._lock:
            self._drop()

    def __enter__(self) -> LogClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, deadline: float) -> socket.socket:
        connection = self._connection
        if connection is not None:
            # Readable before anything was asked means that the server went away.
            readable, _, _ = select.select([connection], [], [], 0)
            if not readable:
                return connection
            self._drop()
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                with _address(self.path) as address:
                    connection.connect(address)
            except OSError as error:
                connection.close()
                if time.monotonic() + _CONNECT_PAUSE >= deadline:
                    raise AppendError(
                        f"cannot reach the log writer at {self.path}: {error.strerror or error}; is the ingest running?"
                    ) from error
                time.sleep(_CONNECT_PAUSE)
                continue
            self._connection = connection
            return connection
