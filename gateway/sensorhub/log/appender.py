"""How other processes append to the log: a Unix stream socket beside its only writer.

Each message is a 32-bit big-endian length and CBOR. The request is `[milliseconds the client waits, [entry, ..]]`,
entries being byte strings; the answer `[status, value]`:

    0 appended   index of the first entry; all are committed
    1 refused    a text that says why; none is or will be in the log
    2 unknown    a text; they may or may not be in the log

A request that the writer has not begun when its client's time is over, or when its client is gone, is withdrawn, so
that nothing is appended behind the back of a client that asks again. A client that loses the connection before
the answer cannot know either: it looks in the log before it repeats.
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
#: Seconds between two looks whether a client that waits is still there.
_LOOK: Final = 0.25
#: The share of its time that a client lets the server wait, so that the answer arrives before it gives up.
_SHARE: Final = 0.8
APPENDED, REFUSED, UNKNOWN = 0, 1, 2
_MAX_INT: Final = 2**63 - 1

#: Hands entries to the writer; the future gives the first index once they are committed. The writer asks
#: `set_running_or_notify_cancel` before it begins, and leaves out what was cancelled. An exception means that none
#: is in the log, but for an `AppendError` with `uncertain` set.
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


def _gone(connection: socket.socket) -> bool:
    """Whether the other side has closed; it says nothing while it waits for an answer."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _is_verdict(data: bytes) -> bool:
    """Whether `decode_entry` would take this for a verdict, at a third of its cost: there is one pair a reading."""
    try:
        array = cbor2.loads(data)
        kind, ms, model, rules, verdicts = array
        if kind != VERDICT or cbor2.dumps(array) != data:
            return False
        if type(ms) is not int or not 0 <= ms <= _MAX_INT or type(rules) is not str:
            return False
        if type(model) is not bytes or len(model) not in (0, 32):
            return False
        for index, pairs in verdicts:
            if type(index) is not int or not 0 <= index <= _MAX_INT:
                return False
            for score, flags in pairs:
                if type(score) is not int or not 0 <= score <= 255:
                    return False
                if type(flags) is not int or not 0 <= flags <= _MAX_INT:
                    return False
    except Exception:  # noqa: BLE001 - the slow way names what is wrong
        return False
    return True


class AppendServer:
    """Takes entries from other processes for the one that writes the log.

    Args:
        path: socket to make, mode 0600; a dead one left there is replaced.
        submit: called with checked entries from one of the server's threads; must not block. Its future
            gives the index of the first once all are committed, or the exception that prevented it.
        timeout: seconds to wait at most for the writer to begin and to commit.
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
                    text = f"a request has at most {MAX_REQUEST} bytes, not {length}"
                    _send(connection, cbor2.dumps((REFUSED, text)))
                    return
                answer = self._answer(_receive(connection, length), connection)
                _send(connection, cbor2.dumps(answer))
        except OSError:
            return  # the client went away; what it sent whole is or will be in the log
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()

    def _answer(self, request: bytes, connection: socket.socket) -> tuple[int, int | str]:
        try:
            patience, entries = self._check(request)
        except EntryError as error:
            return REFUSED, str(error)
        future = self._submit(entries)
        deadline = time.monotonic() + min(self._timeout, patience)
        while not future.done():
            left = deadline - time.monotonic()
            if left > 0 and not self._closing and not _gone(connection):
                concurrent.futures.wait((future,), min(left, _LOOK))
            elif future.cancel():
                return REFUSED, "the log writer did not get to it in time; nothing was appended"
            elif future.done():
                break
            else:
                return UNKNOWN, "not committed in time; look in the log before you repeat it"
        try:
            return APPENDED, future.result()
        except AppendError as error:
            return UNKNOWN if error.uncertain else REFUSED, str(error)
        except SensorhubError as error:
            return REFUSED, str(error)
        except concurrent.futures.CancelledError:
            return REFUSED, "the log writer ended; nothing was appended"
        except Exception as error:  # noqa: BLE001 - what the writer met is an answer, not this thread's end
            return REFUSED, f"{type(error).__name__}: {error}"

    def _check(self, request: bytes) -> tuple[float, list[bytes]]:
        """Seconds the client waits, and its entries."""
        try:
            content = cbor2.loads(request)
        except Exception as error:  # cbor2 lets several exception types through, depending on the bytes
            raise EntryError(f"an append request is CBOR, this is not: {error}") from error
        if type(content) is not list or len(content) != 2 or type(content[0]) is not int:
            raise EntryError("an append request is an array of milliseconds and entries")
        patience, entries = content
        if type(entries) is not list or not 0 < len(entries) <= MAX_ENTRIES:
            raise EntryError(f"an append request holds an array of 1 to {MAX_ENTRIES} entries")
        for position, entry in enumerate(entries):
            if type(entry) is not bytes:
                raise EntryError(f"entry {position} of the request is no byte string")
            if kind_of(entry) not in self._kinds:
                raise EntryError(
                    f"entry {position} of the request is not of a kind that may be appended here"
                )
            if _is_verdict(entry):
                continue
            try:
                decode_entry(entry)
            except EntryError as error:
                raise EntryError(f"entry {position} of the request: {error}") from error
        return patience / 1000, entries


class LogClient:
    """Appends to the log of another process. Threads may share one; their requests take turns.

    Args:
        path: the server's socket. It may come and go: each request connects again when it has to.
        timeout: seconds for one `append`, connecting and commit included.
        stop: once it is set, a server that is not there is not waited for.
    """

    def __init__(
        self, path: Path | str, *, timeout: float = 30.0, stop: threading.Event | None = None
    ) -> None:
        self.path = Path(path)
        self._timeout = timeout
        self._stop = threading.Event() if stop is None else stop
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
        size = sum(map(len, entries))
        if size > MAX_REQUEST - (1 << 17) or not 0 < len(entries) <= MAX_ENTRIES:
            raise AppendError(
                f"one append takes 1 to {MAX_ENTRIES} entries and {MAX_REQUEST - (1 << 17)} bytes, "
                f"not {len(entries)} and {size}"
            )
        deadline = time.monotonic() + self._timeout
        with self._lock:
            connection = self._connect(deadline)
            sent = False
            try:
                left = max(deadline - time.monotonic(), 0.001)
                connection.settimeout(left)
                _send(connection, cbor2.dumps((int(_SHARE * 1000 * left), list(entries))))
                sent = True
                (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
                answer = cbor2.loads(_receive(connection, length))
                status, value = answer
            except (OSError, ValueError, TypeError, cbor2.CBORError) as error:
                self._drop()
                # The server only takes whole requests, so an unfinished one was not appended.
                raise AppendError(
                    f"the log writer at {self.path} did not answer: {error}"
                    + ("; look in the log before you repeat the append" if sent else ""),
                    uncertain=sent,
                ) from error
        if status == APPENDED and type(value) is int:
            return value
        what = "refused" if status == REFUSED else "does not know the outcome"
        raise AppendError(f"the log writer {what}: {value}", uncertain=status != REFUSED)

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
                if time.monotonic() + _CONNECT_PAUSE >= deadline or self._stop.wait(_CONNECT_PAUSE):
                    raise AppendError(
                        f"cannot reach the log writer at {self.path}: {error.strerror or error}; is the ingest running?"
                    ) from error
                continue
            self._connection = connection
            return connection
