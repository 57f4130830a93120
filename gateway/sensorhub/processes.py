"""The gateway's processes: each one wired from the settings, run until it is told to stop.

Rooms take plain values; this is the one place that hands settings to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sensorhub.addresses import authority, dial_host, listens_everywhere
from sensorhub.errors import SensorhubError
from sensorhub.locks import Lock
from sensorhub.settings import Settings, secret
from sensorhub.status import StatusFile

logger = logging.getLogger(__name__)

PROCESSES: Final = ("ingest", "quality", "store", "control", "chain", "web")
POLL_S: Final = 0.25


def enabled(settings: Settings) -> list[str]:
    """The processes that these settings ask for, in starting order."""
    wanted = {
        "ingest": True,
        "quality": settings.quality.enabled,
        "store": True,
        "control": True,
        "chain": bool(settings.chain.rpc_url),
        "web": settings.web.enabled,
    }
    return [name for name in PROCESSES if wanted[name]]


def run(name: str, settings: Settings, environ: Mapping[str, str]) -> None:
    """Runs one process until SIGTERM or SIGINT.

    Raises:
        SensorhubError: it cannot start; says what to do.
    """
    make_data_dir(settings.data_dir)
    runners: dict[str, Callable[[Settings, Mapping[str, str], threading.Event], None]] = {
        "ingest": _ingest,
        "quality": _quality,
        "store": _store,
        "control": _control,
        "chain": _chain,
        "web": _web,
    }
    with only_one(settings.data_dir, name), stop_on_signal() as stop:
        runners[name](settings, environ, stop)


@contextmanager
def only_one(data_dir: Path, name: str) -> Iterator[None]:
    """Keeps a second process of this name from the same data directory; the lock goes with the process.

    Two judges would both write their verdicts into the log, two control processes take the connection from each other.

    Raises:
        SensorhubError: there is one already.
    """
    path = data_dir / "run" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with Lock(
        path,
        what=f"the {name} process of {data_dir} runs",
        remedy="end that one first, or set another gateway.data_dir",
    ):
        yield


def make_data_dir(path: Path) -> None:
    """Makes the data directory, for this user alone."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)


def _warn_of_open_directory(path: Path) -> None:
    if path.stat().st_mode & 0o007:
        logger.warning(
            "the data directory %s can be read by every user of this machine: chmod o= %s", path, path
        )


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def told(_number: int, _frame: FrameType | None) -> None:
        # in a thread of its own: here it would wait for a lock that whom it interrupts may hold, in `wait` or another `set`
        threading.Thread(target=stop.set, daemon=True).start()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def call_when(event: threading.Event, action: Callable[[], None]) -> None:
    """Calls `action` once `event` is set, from a thread of its own."""

    def wait() -> None:
        event.wait()
        action()

    threading.Thread(target=wait, daemon=True).start()


def origin(settings: Settings) -> str:
    """Origin line of the log's checkpoints."""
    return f"{settings.gateway.site}.{settings.gateway.name}/sensorhub"


def note_signer(settings: Settings) -> Any:
    """The key that signs checkpoints: `keys/note.key` in the data directory, made on first use."""
    from sensorhub.log.note import NoteSigner

    path = settings.data_dir / "keys" / "note.key"
    if path.exists():
        return NoteSigner.load(path)
    if (settings.data_dir / "log" / "head").exists():
        raise SensorhubError(f"{path} is missing but the log has begun: restore the key from your backup")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    signer = NoteSigner.generate(origin(settings))
    signer.save(path)
    return signer


def chain_key_path(settings: Settings) -> Path:
    """Where the gateway's account on the chain is kept."""
    return (
        Path(settings.chain.key_file) if settings.chain.key_file else settings.data_dir / "keys" / "chain.key"
    )


def _ingest(settings: Settings, environ: Mapping[str, str], stop: threading.Event) -> None:
    from sensorhub.ingest.broker import EmbeddedBroker
    from sensorhub.ingest.service import Ingest
    from sensorhub.ingest.subscriber import Endpoint

    _warn_of_open_directory(settings.data_dir)  # here, since every gateway has this process once
    mqtt = settings.mqtt
    broker = endpoint = None
    if mqtt.embedded == "off":
        endpoint = Endpoint(
            mqtt.host,
            mqtt.port,
            username=mqtt.username,
            password=secret(settings, "mqtt.password", environ),
            tls=_tls(mqtt.ca_file) if mqtt.tls else None,
            keepalive=mqtt.keepalive_s,
        )
    else:
        broker = EmbeddedBroker(
            settings.data_dir,
            host=mqtt.host,
            port=mqtt.port,
            kind=mqtt.embedded,
            home_prefix=settings.home_assistant.prefix,
        )
    contract = settings.chain.contract
    service = Ingest(
        data_dir=settings.data_dir,
        site=settings.gateway.site,
        gateway=settings.gateway.name,
        signer=note_signer(settings),
        endpoint=endpoint,
        broker=broker,
        chain_id=settings.chain.chain_id,
        contract=bytes.fromhex(contract.removeprefix("0x")) if contract else None,
        open_enrolment=settings.ingest.open_enrolment,
        future_tolerance=settings.ingest.future_tolerance_s,
        quarantine_bytes=settings.ingest.quarantine_bytes,
        verify_threads=settings.ingest.verify_threads,
        status=StatusFile(settings.data_dir, "ingest"),
    )
    call_when(stop, service.stop)
    service.run()


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SensorhubError(f"mqtt.ca_file {ca_file}: not a readable PEM certificate: {error}") from None


def wait_for_log(settings: Settings, stop: threading.Event) -> Any:
    """The committed log, once ingest has begun it; None when told to stop first."""
    from sensorhub.log.reader import LogReader

    path = settings.data_dir / "log"
    while not stop.is_set():
        if (path / "head").exists():
            reader = LogReader(path)
            if reader.wait(0, POLL_S, stop):
                return reader
            reader.close()
        else:
            stop.wait(POLL_S)
    return None


def _follow(name: str, settings: Settings, stop: threading.Event, make: Callable[[Any], Any]) -> None:
    """Runs a follower; `make` gets the log's reader."""
    from sensorhub.log.follower import run as follow

    reader = wait_for_log(settings, stop)
    if reader is None:
        return
    follower = make(reader)
    try:
        follow(follower, reader, stop=stop, status=StatusFile(settings.data_dir, name))
    finally:
        close = getattr(follower, "close", None)
        if close is not None:
            close()
        reader.close()


def _store(settings: Settings, _environ: Mapping[str, str], stop: threading.Event) -> None:
    from sensorhub.store import SqliteStore

    days = settings.store
    _follow(
        "store",
        settings,
        stop,
        lambda _reader: SqliteStore(
            settings.data_dir / "store.sqlite",
            raw_days=days.raw_days,
            five_minute_days=days.five_minute_days,
            hourly_days=days.hourly_days,
        ),
    )


def _quality(settings: Settings, _environ: Mapping[str, str], stop: threading.Event) -> None:
    from sensorhub.log.appender import LogClient
    from sensorhub.quality.follower import ModelJudging, QualityFollower, RulesFollower

    snapshot = settings.data_dir / "quality.state"
    quality = settings.quality
    by_model = quality.judge == "model"
    client = LogClient(settings.data_dir / "run" / "log.sock", stop=stop)
    try:
        _follow(
            "quality",
            settings,
            stop,
            lambda reader: (
                QualityFollower(
                    reader,
                    client,
                    ModelJudging.load(quality.model, quality.model_sha256),
                    snapshot=snapshot,
                )
                if by_model
                else RulesFollower(reader, client, snapshot=snapshot)
            ),
        )
    finally:
        client.close()


def _control(settings: Settings, environ: Mapping[str, str], stop: threading.Event) -> None:
    from sensorhub.control.service import Control
    from sensorhub.ingest.client_id import kept_client_id

    reader = wait_for_log(settings, stop)
    if reader is None:
        return
    mqtt, home, snapshots = settings.mqtt, settings.home_assistant, settings.snapshots
    control = Control(
        data_dir=settings.data_dir,
        site=settings.gateway.site,
        reader=reader,
        locate=lambda: _broker_account(settings, environ),
        client_id=kept_client_id(settings.data_dir / "keys" / "mqtt-control-client-id"),
        tls=_tls(mqtt.ca_file) if mqtt.tls and mqtt.embedded == "off" else None,
        home_prefix=home.prefix if home.enabled else None,
        snapshot_days=snapshots.days,
        snapshot_bytes=snapshots.node_bytes,
    )
    try:
        control.run(stop, StatusFile(settings.data_dir, "control"))
    finally:
        reader.close()


def _broker_account(settings: Settings, environ: Mapping[str, str]) -> Any:
    """Where the control process finds the broker; SensorhubError while an embedded one has not started."""
    from sensorhub.control.connection import Account

    mqtt = settings.mqtt
    if mqtt.embedded == "off":
        return Account(mqtt.host, mqtt.port, mqtt.username, secret(settings, "mqtt.password", environ) or "")
    from sensorhub.ingest.broker import control_account

    return Account(*control_account(settings.data_dir))


def _chain(settings: Settings, _environ: Mapping[str, str], stop: threading.Event) -> None:
    from sensorhub.chain.contract import GatewayLogContract, connect
    from sensorhub.chain.key import load_or_create
    from sensorhub.chain.poster import Poster

    chain = settings.chain
    if not chain.contract:
        raise SensorhubError(
            "chain.rpc_url is set but chain.contract is not: deploy it with `sensorhub chain deploy`"
        )
    key = load_or_create(chain_key_path(settings))
    reader = wait_for_log(settings, stop)
    if reader is None:
        return
    contract = GatewayLogContract(connect(chain.rpc_url), bytes.fromhex(chain.contract.removeprefix("0x")))
    poster = Poster(
        reader,
        contract,
        key,
        settings.data_dir / "chain.sqlite",
        interval_s=chain.interval_s,
        confirmations=chain.confirmations,
        max_fee_gwei=chain.max_fee_gwei,
    )
    try:
        poster.run(stop, StatusFile(settings.data_dir, "chain"))
    finally:
        poster.close()
        reader.close()


def prove(data_dir: Path, index: int, *, tlog: bool = False) -> bytes:
    """The proof document of one log entry, in its canonical form.

    Args:
        data_dir: the gateway's data directory.
        index: the entry.
        tlog: write it as a C2SP tlog-proof, which says that the entry is logged and no more.

    Raises:
        SensorhubError: there is no such entry, or nothing signed covers it yet.
    """
    from sensorhub.dataset.heads import identity, read_heads
    from sensorhub.dataset.prove import prove as prove_entry
    from sensorhub.dataset.prove import tlog_proof
    from sensorhub.log.reader import LogReader
    from sensorhub.store import SqliteReader, StoreError
    from sensorhub.verify.proof import format_proof
    from sensorhub.verify.tlog_proof import format_tlog_proof

    with contextlib.ExitStack() as stack:
        log = stack.enter_context(contextlib.closing(LogReader(data_dir / "log")))
        known = None
        # the store only makes it quick: without one, or with a bad one, the log itself is read
        with contextlib.suppress(StoreError):
            known = stack.enter_context(contextlib.closing(SqliteReader(data_dir / "store.sqlite")))
        heads = read_heads(data_dir / "chain.sqlite", identity(log))
        try:
            proof = prove_entry(log, index, heads=heads, known=known)
        except StoreError:
            proof = prove_entry(log, index, heads=heads)
        return format_tlog_proof(tlog_proof(proof)) if tlog else format_proof(proof)


def _enrolling(settings: Settings, environ: Mapping[str, str]) -> Any:
    """What the page's process needs to make nodes known; None without a token."""
    from sensorhub.control.keys import node_keys
    from sensorhub.ingest.admission import Admissions
    from sensorhub.web.enrolment import Enrolling

    token = secret(settings, "web.enrol_token", environ)
    if not token:
        return None
    node_keys(settings.data_dir)  # a key that cannot be used is said at the start
    return Enrolling(
        token,
        Admissions(settings.data_dir, embedded=settings.mqtt.embedded != "off"),
        lambda: node_keys(settings.data_dir),
    )


def _web(settings: Settings, environ: Mapping[str, str], stop: threading.Event) -> None:
    from sensorhub.web.app import Gateway, make_app, serve
    from sensorhub.web.explaining import Judge

    status = StatusFile(settings.data_dir, "web")
    gateway = Gateway(settings.data_dir, chain_configured=bool(settings.chain.rpc_url))
    app = make_app(
        gateway,
        lambda index: prove(settings.data_dir, index),
        _enrolling(settings, environ),
        Judge(settings.quality.model, settings.quality.model_sha256),
        (settings.web.host, *settings.web.hosts),
    )

    async def main() -> None:
        done = asyncio.Event()
        url = ""

        def ready(port: int) -> None:
            nonlocal url
            host = settings.web.host
            url = f"http://{authority(dial_host(host), port)}/"
            status.write({"url": url})
            also = ", and at every other address of this machine" if listens_everywhere(host) else ""
            logger.info("page and API at %s%s", url, also)

        serving = asyncio.create_task(serve(app, settings.web.host, settings.web.port, done, ready))
        written = time.monotonic()
        while not stop.is_set() and not serving.done():
            await asyncio.sleep(POLL_S)
            if url and time.monotonic() - written > 1:
                written = time.monotonic()
                status.write({"url": url})
        done.set()
        await serving

    asyncio.run(main())


def commands(settings: Settings, config: Path | None) -> dict[str, list[str]]:
    """The argument list of each process that the supervisor keeps running."""
    base = [sys.executable, "-m", "sensorhub"] + (["--config", os.fspath(config)] if config else [])
    return {name: [*base, "run", name] for name in enabled(settings)}
