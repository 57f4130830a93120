"""The control process: orders out, pictures in, and what Home Assistant and the commands want to know of nodes."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sensorhub.control.connection import Account, Connection, Handler, Publication
from sensorhub.control.discovery import DiscoveryFollower
from sensorhub.control.home_assistant import BIRTH
from sensorhub.control.outbox import Outbox
from sensorhub.control.snapshots import SnapshotBox, SnapshotError
from sensorhub.control.troubles import advice, troubles
from sensorhub.errors import SensorhubError
from sensorhub.log.follower import StatusSink
from sensorhub.log.follower import run as follow
from sensorhub.log.reader import LogReader
from sensorhub.wire import split_topic, topic
from sensorhub.wire.topics import PREFIX as TOPICS

logger = logging.getLogger(__name__)

STATE_FILE: Final = "control.state"
ORDERS: Final = "orders"
SNAPSHOTS: Final = "snapshots"
MAX_STATUS_BYTES: Final = 1024
MAX_NAMES: Final = 10_000
POLL_S: Final = 0.25
STOP_S: Final = 15.0
PRUNE_S: Final = 3600.0
DISK_PAUSE_S: Final = 30.0
_BATCH: Final = 1024
_TEXT: Final = 200
#: What a node says of itself in its status message: field to its type
_SAID: Final = {
    "state": str,
    "fw": str,
    "boot": int,
    "config": int,
    "safe": bool,
    "trial": bool,
    "refused": str,
    "spool": str,
}


class Control:
    """Wires the room's parts; itself the follower that the log is fed to.

    Args:
        data_dir: the gateway's data directory.
        site: name of the site.
        reader: the committed log.
        locate: where the broker is and as whom to log in; SensorhubError when it is not known yet.
        client_id: of the connection, known to nobody else.
        tls: context of a connection that is to be encrypted.
        home_prefix: Home Assistant's discovery prefix; None when it is told nothing.
        snapshot_days: days that a picture is kept.
        snapshot_bytes: most bytes of pictures of one node.
    """

    name = "control"

    def __init__(
        self,
        *,
        data_dir: Path,
        site: str,
        reader: LogReader,
        locate: Callable[[], Account],
        client_id: str,
        tls: ssl.SSLContext | None = None,
        home_prefix: str | None = None,
        snapshot_days: int = 30,
        snapshot_bytes: int = 200_000_000,
    ) -> None:
        self._site = site
        self._reader = reader
        self._outbox = Outbox(data_dir / ORDERS)
        self._box = SnapshotBox(data_dir / SNAPSHOTS, days=snapshot_days, node_bytes=snapshot_bytes)
        handlers: dict[str, Handler] = {
            f"{TOPICS}/{site}/+/status": self._node_says,
            f"{TOPICS}/{site}/+/snapshot": self._picture,
        }
        if home_prefix is not None:
            handlers[f"{home_prefix}/{BIRTH}"] = self._home_says
        self._connection = Connection(locate, client_id=client_id, handlers=handlers, tls=tls)
        self._follower = DiscoveryFollower(
            data_dir / STATE_FILE,
            site=site,
            publisher=self._connection,
            reader=reader,
            log_id=reader.leaf(0),
            prefix=home_prefix,
            live=False,
        )
        self._said: dict[str, dict[str, Any]] = {}
        self._home_started = threading.Event()
        self._orders: dict[tuple[str, str], bytes] = {}  # what this connection was told
        self._orders_in = 0  # the connection that was told
        self._pictures = 0
        self._refused = 0
        self._problem = ""
        self._disk_problem = ""
        self._again = 0.0  # when pictures that the disk did not take are asked for again

    def run(self, stop: threading.Event, status: StatusSink | None = None) -> None:
        """Serves until `stop` is set."""
        self._catch_up(stop)
        self._connection.start(stop)
        tending = threading.Thread(target=self._tend, args=(stop,), name="tend", daemon=True)
        tending.start()
        try:
            follow(self, self._reader, stop=stop, status=status)
        finally:
            stop.set()
            tending.join(STOP_S)
            self._connection.close()
            self._follower.save()

    def cursor(self) -> int:
        """Index of the next entry it needs."""
        return self._follower.cursor()

    def apply(self, batch: list[tuple[int, bytes]]) -> None:
        """Takes entries of the log; raises ControlError when the broker is away."""
        self._follower.apply(batch)

    def status(self) -> dict[str, Any]:
        """What it is doing, and what each node last said of itself (`nodes`)."""
        problems = (self._connection.problem, self._problem, self._disk_problem, self._follower.problem)
        # a new node says that it is there before it is enrolled, and does not say it again
        nodes = {
            name: {**said, "troubles": troubles(said)}
            for name, said in self._said.copy().items()
            if self._follower.enrolled(name)
        }
        return {
            "connected": not self._connection.problem,
            "address": self._connection.place,
            "nodes": nodes,
            "orders": len(self._orders),
            "pictures": self._pictures,
            "pictures_refused": self._refused,
            "warnings": [*filter(None, problems), *advice(nodes)],
            **self._follower.status(),
        }

    def _catch_up(self, stop: threading.Event) -> None:
        """Learns from the log who is enrolled before anything comes in, and tells nobody yet."""
        size = self._reader.size()
        while not stop.is_set() and (cursor := self._follower.cursor()) < size:
            self._follower.apply(list(self._reader.entries(cursor, min(size, cursor + _BATCH))))

    def _tend(self, stop: threading.Event) -> None:
        pruned = -PRUNE_S
        while not stop.wait(POLL_S):
            try:
                if time.monotonic() - pruned >= PRUNE_S:
                    pruned = time.monotonic()
                    self._box.prune()
                if self._disk_problem and time.monotonic() >= self._again:
                    self._disk_problem = ""
                    self._connection.renew()
                if not self._connection.problem:
                    self._send_orders()
                    again = self._home_started.is_set()
                    self._home_started.clear()
                    self._follower.tell(again=again)
                self._problem = ""
            except (SensorhubError, OSError) as error:
                self._problem = str(error)

    def _send_orders(self) -> None:
        connection = self._connection.connections
        if self._orders_in != connection:
            self._orders.clear()
        for node, leaf, content in self._outbox:
            order = content if self._follower.enrolled(node) else b""
            if self._orders.get((node, leaf)) == order:
                continue
            self._connection.publish([Publication(topic(self._site, node, leaf), order)])
            if order:
                self._orders[node, leaf] = order
            else:
                self._orders.pop((node, leaf), None)
                if self._outbox.get(node, leaf) == content:
                    self._outbox.remove(node, leaf)
        self._orders_in = connection

    def _node_says(self, name: str, payload: bytes) -> bool:
        found = split_topic(name)
        if found is None or len(payload) > MAX_STATUS_BYTES:
            return True
        if found[1] not in self._said and len(self._said) >= MAX_NAMES:
            return True
        with contextlib.suppress(ValueError, RecursionError):
            fields = json.loads(payload)
            if isinstance(fields, dict):
                self._said[found[1]] = {
                    key: _printable(fields[key]) if kind is str else fields[key]
                    for key, kind in _SAID.items()
                    if type(fields.get(key)) is kind
                } | {"at_ms": time.time_ns() // 1_000_000}
        return True

    def _home_says(self, _name: str, payload: bytes) -> bool:
        if payload == b"online":
            self._home_started.set()
        return True

    def _picture(self, name: str, payload: bytes) -> bool:
        found = split_topic(name)
        if found is None:
            return True
        if not self._follower.enrolled(found[1]):
            self._refused += 1
            return True
        try:
            self._box.put(found[1], payload)
        except SnapshotError:
            self._refused += 1
        except OSError as error:
            self._again = time.monotonic() + DISK_PAUSE_S
            self._disk_problem = (
                f"a picture of {found[1]} cannot be kept: {error.strerror}; it waits at the broker"
            )
            return False
        else:
            self._pictures += 1
        return True


def _printable(text: str) -> str:
    """The beginning of what a node says, for terminals: a node commands none of them."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_TEXT])
