"""The ingest process: wires subscriber, checker, committer and append server, and says how it goes."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sensorhub.addresses import authority
from sensorhub.errors import SensorhubError
from sensorhub.ingest.broker import EmbeddedBroker
from sensorhub.ingest.checker import Checker
from sensorhub.ingest.client_id import kept_client_id
from sensorhub.ingest.committer import Committer
from sensorhub.ingest.packets import Publish
from sensorhub.ingest.quarantine import Quarantine
from sensorhub.ingest.subscriber import LOSSES, Endpoint, Subscriber
from sensorhub.log.appender import AppendServer
from sensorhub.log.entries import Genesis
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.status import StatusFile

_LOG: Final = logging.getLogger(__name__)

LEAVES: Final = ("data", "announce", "status")
CLIENT_ID: Final = "keys/mqtt-client-id"
DROPPED: Final = "$SYS/broker/publish/messages/dropped"
"""Where mosquitto tells how many messages it dropped (mosquitto(8), broker status)."""
MAX_THREADS: Final = 4
STATUS_SECONDS: Final = 1.0
RATE_SECONDS: Final = 10
STOP_SECONDS: Final = 10.0
GC_THRESHOLD: Final = 50_000


class Ingest:
    """The gateway's intake, and the only writer of its log.

    Args:
        data_dir: the gateway's data directory.
        site: site of the topics.
        gateway: name of the gateway in the site.
        signer: Ed25519 key of the log's checkpoints.
        endpoint: the broker; None with an embedded one. Its client id is not used: the data directory has one.
        broker: an embedded broker to start and stop along with this.
        chain_id: EIP-155 id that goes into the genesis entry of a new log; 0 for none.
        contract: address of the anchoring contract (20 bytes) for the genesis entry, or None.
        open_enrolment: enrol any node that announces itself (lab and demo).
        future_tolerance: seconds by which a synchronised node's clock may be ahead.
        quarantine_bytes: bound of the quarantine directory.
        verify_threads: threads that check signatures; 0 for one per core, at most 4.
        commit_interval: seconds between commits under load.
        commit_entries: entries that make a commit go ahead sooner.
        status: where to say how it goes, once a second.

    Raises:
        SensorhubError: neither endpoint nor broker is given.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        site: str,
        gateway: str,
        signer: NoteSigner,
        endpoint: Endpoint | None = None,
        broker: EmbeddedBroker | None = None,
        chain_id: int = 0,
        contract: bytes | None = None,
        open_enrolment: bool = False,
        future_tolerance: float = 60.0,
        quarantine_bytes: int = 16_000_000,
        verify_threads: int = 0,
        commit_interval: float = 0.01,
        commit_entries: int = 4_096,
        status: StatusFile | None = None,
    ) -> None:
        if endpoint is None and broker is None:
            raise SensorhubError("ingest needs a broker: set mqtt.host or let mqtt.embedded start one")
        self._data_dir = data_dir
        self._site = site
        self._gateway = gateway
        self._signer = signer
        self._endpoint = endpoint
        self._broker = broker
        self._genesis = Genesis(site, gateway, signer.public_key, chain_id, contract)
        self._open_enrolment = open_enrolment
        self._future_tolerance = future_tolerance
        self._quarantine_bytes = quarantine_bytes
        self._threads = verify_threads or min(os.cpu_count() or 1, MAX_THREADS)
        self._commit_interval = commit_interval
        self._commit_entries = commit_entries
        self._status = status
        self._stop = threading.Event()
        self._started = threading.Event()
        self._subscriber: Subscriber | None = None
        self._checker: Checker | None = None
        self._committer: Committer | None = None
        self._rates: deque[tuple[float, int, int]] = deque(maxlen=RATE_SECONDS + 1)
        self._dropped: tuple[int, int] | None = None

    def wait_started(self, timeout: float) -> bool:
        """Waits until the service is subscribed and takes appends; False after `timeout` seconds."""
        return self._started.wait(timeout)

    def stop(self) -> None:
        """Ends `run` soon; from any thread, but not from a signal handler, which may interrupt who holds the lock."""
        self._stop.set()

    def run(self) -> None:
        """Serves until `stop`.

        Raises:
            SensorhubError: the log cannot be opened, belongs to another site, or the broker cannot start.
        """
        with contextlib.ExitStack() as stack:
            log = Log.open(
                self._data_dir / "log",
                origin=f"{self._site}.{self._gateway}/sensorhub",
                signer=self._signer,
            )
            stack.callback(self._close, log)
            reader = LogReader(self._data_dir / "log")
            stack.callback(reader.close)
            if self._broker is not None:
                host, port = self._broker.start()
                _LOG.info("broker %s at %s", self._broker.kind, authority(host, port))
                stack.callback(self._broker.stop)
            self._serve(log, reader, stack)

    def _close(self, log: Log) -> None:
        broken = self._committer is not None and self._committer.failure is not None
        # a disk that failed may fail again; what is to be said is why the process ends
        with contextlib.suppress(SensorhubError) if broken else contextlib.nullcontext():
            log.close()

    def _serve(self, log: Log, reader: LogReader, stack: contextlib.ExitStack) -> None:
        subscriber = self._subscriber = Subscriber(
            self._address(),
            [*(f"sensorhub/v1/{self._site}/+/{leaf}" for leaf in LEAVES), DROPPED],
            self._deliver,
            required=len(LEAVES),
        )
        committer = self._committer = Committer(
            log=log,
            reader=reader,
            data_dir=self._data_dir,
            site=self._site,
            open_enrolment=self._open_enrolment,
            quarantine=Quarantine(self._data_dir / "quarantine", self._quarantine_bytes),
            settle=subscriber.settle,
            publish=subscriber.publish,
            commit_interval=self._commit_interval,
            commit_entries=self._commit_entries,
        )
        committer.open(self._genesis)
        checker = self._checker = Checker(
            self._site,
            committer.registry,
            future_tolerance=self._future_tolerance,
            threads=self._threads,
        )
        committer.attach(checker)
        # what is loaded by now lives as long as the process; the collector need not look at it again
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        checker.start()
        stack.callback(checker.stop)
        commits = threading.Thread(target=committer.run, name="commit", daemon=True)
        commits.start()
        (self._data_dir / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
        server = AppendServer(self._data_dir / "run" / "log.sock", committer.submit)
        server.start()
        network = threading.Thread(target=subscriber.run, name="mqtt", daemon=True)
        network.start()
        try:
            self._watch(subscriber, commits)
        finally:
            server.close()
            subscriber.pause()
            committer.stop()
            commits.join(STOP_SECONDS)
            subscriber.stop()
            network.join(STOP_SECONDS)
            subscriber.close()
            self._write_status()

    def _address(self) -> Endpoint:
        client_id = kept_client_id(self._data_dir / CLIENT_ID)
        broker = self._broker
        if broker is None:
            assert self._endpoint is not None
            return replace(self._endpoint, client_id=client_id)
        return Endpoint(
            broker.dial_host,
            broker.port,
            client_id=client_id,
            username=broker.username,
            password=broker.password,
        )

    def _watch(self, subscriber: Subscriber, commits: threading.Thread) -> None:
        while not self._stop.is_set():
            if not commits.is_alive():
                committer = self._committer
                if committer is not None and committer.failure is not None:
                    raise SensorhubError(
                        f"the disk failed: {committer.failure}. Nothing that was acknowledged is in doubt; this "
                        "process ends, and the next start finds out what the disk holds"
                    )
                raise SensorhubError("the committer ended by itself; the traceback above says why")
            self._write_status()
            if subscriber.subscribed:
                self._started.set()
            self._stop.wait(STATUS_SECONDS if self._started.is_set() else 0.02)

    def _deliver(self, messages: list[Publish], epoch: int) -> None:
        """Takes a batch from the network thread."""
        checker, committer = self._checker, self._committer
        assert checker is not None
        assert committer is not None
        for message in messages:
            if message.topic.startswith(b"$SYS"):
                self._note_dropped(message.payload)
        committer.put(checker.submit(messages, epoch))

    def _note_dropped(self, payload: bytes) -> None:
        with contextlib.suppress(ValueError):
            count = int(payload)
            first = self._dropped[0] if self._dropped is not None and count >= self._dropped[1] else count
            self._dropped = (first, count)

    @property
    def connections(self) -> int:
        """How often the broker has accepted the gateway's connection."""
        return self._subscriber.connections if self._subscriber is not None else 0

    def warnings(self) -> list[str]:
        """What a person should know or do, most urgent first."""
        found: list[str] = []
        committer, subscriber = self._committer, self._subscriber
        if committer is None or subscriber is None:
            return found
        if committer.problem:
            found.append(f"messages wait unacknowledged: {committer.problem}")
        if not (subscriber.connected or self._stop.is_set()):
            found.append(subscriber.error or "not connected to the broker yet")
        if subscriber.unsteady:
            found.append(
                f"the broker at {subscriber.endpoint} ended the connection {LOSSES} times within a minute: perhaps a copy "
                f"of this gateway uses its client id too ({self._data_dir / CLIENT_ID}); end it, or delete that file "
                "and start this one again"
            )
        found.extend(
            f"node {node.name}: {len(node.clones)} sequence numbers were used twice with different content, "
            "so its key is in two devices: revoke it and enrol the node anew"
            for node in committer.registry.nodes()
            if node.clones
        )
        if self._dropped is not None and self._dropped[1] > self._dropped[0]:
            found.append(
                f"the broker dropped {self._dropped[1] - self._dropped[0]} messages: raise its "
                "max_queued_messages and max_inflight_messages (stock mosquitto keeps only 1,000); nodes send again"
            )
        if self._broker is not None:
            found.extend(self._broker.warnings)
            if self._broker.restarts:
                found.append(f"the embedded broker was started again {self._broker.restarts} times")
        found.extend(
            problem
            for problem in (
                committer.claims.problem,
                committer.quarantine_problem,
                committer.index_problem,
                committer.log.problem,
            )
            if problem
        )
        return found

    def fields(self) -> dict[str, Any]:
        """The status fields (README, "Status")."""
        committer = self._committer
        if committer is None:
            return {}
        nodes: dict[str, dict[str, Any]] = {}
        clones = gaps = 0
        for node in committer.registry.nodes():
            said: dict[str, Any] = {"boot": 0, "seq": 0, "last_ms": 0, "gaps": 0, "missing": 0, "lost": 0}
            for kid in node.kids:
                key = committer.guard.key(kid)
                if key is not None:
                    gaps += key.gaps
                    said["gaps"] += key.gaps
                    said["lost"] += key.lost
                    if kid == node.current or node.current is None:
                        said |= {
                            "boot": key.boot,
                            "seq": key.top,
                            "last_ms": key.last_ms,
                            "missing": key.missing,
                        }
            clones += len(node.clones)
            said["clones"] = len(node.clones)
            nodes[node.name] = said | committer.states.get(node.name, {})
        rate_messages, rate_readings = self._rate(committer)
        return {
            "cursor": committer.log.committed,
            "log_size": committer.log.committed,
            "messages": committer.messages,
            "readings": committer.readings,
            "duplicates": committer.duplicates,
            "clones": clones,
            "gaps": gaps,
            "rejected": {reason.value: count for reason, count in sorted(committer.refused.items())},
            "nodes": nodes,
            "rate_messages": rate_messages,
            "rate_readings": rate_readings,
            "connected": self._subscriber is not None and self._subscriber.connected,
            "broker": self._broker.kind if self._broker is not None else "external",
            "address": str(self._subscriber.endpoint) if self._subscriber is not None else "",
            "warnings": self.warnings(),
        }

    def _rate(self, committer: Committer) -> tuple[float, float]:
        now = time.monotonic()
        if not self._rates or now - self._rates[-1][0] >= STATUS_SECONDS / 2:
            self._rates.append((now, committer.messages, committer.readings))
        first, last = self._rates[0], self._rates[-1]
        span = last[0] - first[0]
        if span <= 0:
            return 0.0, 0.0
        return round((last[1] - first[1]) / span, 1), round((last[2] - first[2]) / span, 1)

    def _write_status(self) -> None:
        if self._status is not None:
            self._status.write(self.fields())
