"""Nodes that are not there: any number, of any kind, against any broker.

Two ways. `real` runs the firmware itself, each node under its own MicroPython interpreter, and costs about 6 MB and 4 ms a message
and node. `fast` makes and signs messages in CPython, for load: the wire is the same, the node's care is not (it has no spool, and
forgets what was under way when it is killed).

A node's directory keeps its key, so that it is the same node next time.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import re
import secrets
import ssl
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from coincurve import PrivateKey
from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion

from flashing import settings as flash_settings
from flashing.cli import main as run_main
from flashing.exits import Exit, FlashError
from flashing.node_json import Identity
from flashing.private import write_private
from flashing.registration import (
    Claimed,
    Enrolment,
    Local,
    Registrar,
    Remote,
    check_names,
    new_identity,
)
from flashing.settings import Broker
from fleet import Fleet, micropython, node_config
from sensorhub.channels import BY_NAME
from sensorhub.processes import stop_on_signal
from sensorhub.wire import decode_receipt, encode_announce, encode_message, topic

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "weather": (
        "temperature",
        "humidity",
        "pressure",
        "illuminance",
        "wind_speed",
        "wind_gust",
        "wind_direction",
        "rain",
        "battery_voltage",
        "solar_voltage",
    ),
    "air": ("pm1", "pm2_5", "pm10", "co2", "voc_raw", "nox_raw", "temperature", "humidity", "pressure"),
    "camera": ("luminance", "contrast", "sharpness", "overexposed", "motion", "objects"),
    "bench": ("temperature",),
}
#: channel -> mean, daily swing, noise; one made-up town for all nodes
WEATHER: Final[Mapping[str, tuple[float, float, float]]] = {
    "temperature": (14, 6, 0.2),
    "humidity": (60, -18, 1),
    "pressure": (1013, 1, 0.1),
    "illuminance": (9000, 9000, 200),
    "wind_speed": (3, 1.5, 0.6),
    "wind_gust": (5, 2, 1),
    "wind_direction": (220, 30, 15),
    "rain": (0, 0, 0),
    "battery_voltage": (3.9, 0.15, 0.01),
    "solar_voltage": (3, 3, 0.1),
    "pm1": (6, -2, 0.6),
    "pm2_5": (10, -3, 1),
    "pm10": (17, -5, 1.5),
    "co2": (440, -15, 4),
    "voc_raw": (30_000, 400, 60),
    "nox_raw": (15_000, 200, 40),
    "luminance": (0.45, 0.4, 0.01),
    "contrast": (0.3, 0.2, 0.01),
    "sharpness": (0.4, 0.1, 0.02),
    "overexposed": (0.02, 0.02, 0.002),
    "motion": (0.05, 0.04, 0.02),
    "objects": (2, 2, 1),
}
ORDERS: Final = ("config", "update")
"""Topics of a node that take signed orders (firmware/README.md)."""
DAY_S: Final = 86_400
RESERVED: Final = 1000
WINDOW: Final = 50
ROWS: Final = 20_000
QUICKLY_S: Final = 3_600.0
"""How long nodes run whose time is faster than ours, unless it is said."""
TAIL: Final = 4_096
LONGEST: Final = 4 << 20
"""Bytes of a node's log; then it begins anew."""
ANSWER_S: Final = 15.0
RESET: Final = 3
"""Exit status of a node that wants to start again, to take a signed order for one (firmware/sim/run.py)."""
LAST_S: Final = 10.0
"""How long the end waits for what the broker has not acknowledged and the gateway not logged yet."""
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h)?")


def value(channel: str, when: float, dice: random.Random) -> float:
    """A believable value of a channel at a time (Unix seconds)."""
    mean, swing, noise = WEATHER[channel]
    found = mean + swing * math.sin(2 * math.pi * (when / DAY_S - 0.375)) + dice.gauss(0, noise)
    about = BY_NAME[channel]
    if channel == "wind_direction":
        return round(found % 360, 1)
    low, high = max(about.low, 0.0 if mean >= 0 and channel != "temperature" else about.low), about.high
    return round(min(max(found, low), high), max(about.decimals, 1))


def recording(kind: str, start: int, interval: int, rows: int, seed: str) -> list[str]:
    """Lines of a replay file (firmware/sensornode/sensors/replay.py); the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - values, not secrets
    channels = KINDS[kind]
    lines = [",".join(["time", *(f"{name} {BY_NAME[name].unit}" for name in channels)])]
    for number in range(rows):
        when = start + number * interval
        lines.append(",".join([str(when), *(f"{value(name, when, dice):g}" for name in channels)]))
    return lines


def refusal(leaf: str, order: bytes) -> bytes:
    """What a fast node says of itself when an order comes: it takes none. Names the order, so that it differs from that of the last."""
    digest = hashlib.sha256(order).hexdigest()[:8]
    return json.dumps({"refused": f"{leaf}: tools/simulate --fast takes no orders ({digest})"}).encode()


@dataclass(slots=True)
class Memory:
    """What a fast node keeps: its key, and numbers that are never used twice."""

    home: Path
    key: PrivateKey = field(repr=False)
    boot: int
    seq: int
    limit: int

    @classmethod
    def load(cls, home: Path) -> Memory:
        """The node of a directory, made when there is none; every load is a boot."""
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            secret = (home / "key").read_bytes()
            kept = json.loads((home / "numbers.json").read_text())
        except FileNotFoundError:
            secret, kept = PrivateKey(secrets.token_bytes(32)).secret, {"boot": 0, "seq": 1}
            write_private(home / "key", secret)
        memory = cls(home, PrivateKey(secret), int(kept["boot"]) + 1, int(kept["seq"]), int(kept["seq"]))
        memory.save(memory.limit)
        return memory

    def take_seq(self) -> int:
        """The next number, reserved before it is used."""
        if self.seq >= self.limit:
            self.limit = self.seq + RESERVED
            self.save(self.limit)
        self.seq += 1
        return self.seq - 1

    def save(self, limit: int) -> None:
        """Writes the numbers down; `limit` is the first that is free after a crash."""
        write_private(self.home / "numbers.json", json.dumps({"boot": self.boot, "seq": limit}).encode())


class FastNode(threading.Thread):
    """A node in CPython: a thread and a connection.

    Attributes:
        sent, acknowledged: messages to and from the broker.
        receipt: highest sequence number of this boot that the gateway has logged.
        trouble: why it does not send, for people.
    """

    def __init__(
        self,
        memory: Memory,
        identity: Identity,
        broker: Broker,
        kind: str,
        *,
        period: float,
        records: int,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=identity.name, daemon=True)
        self._memory, self._identity, self._broker, self._kind = memory, identity, broker, kind
        self._period, self._records, self._stop_all = period, records, stop
        self._began = time.time()
        self._dice = random.Random(identity.name)  # noqa: S311 - values, not secrets
        self._answered = threading.Event()
        self._room = threading.Semaphore(WINDOW)
        self._words: set[int] = set()  # messages under way that are no data
        self.sent = self.acknowledged = self.receipt = 0
        self.trouble = "not connected yet"

    def run(self) -> None:
        client = self._client()
        try:
            client.connect(self._broker.host, self._broker.port, keepalive=60)
        except OSError as error:
            self.trouble = f"{self._broker.host}:{self._broker.port}: {error}"
            return
        client.loop_start()
        try:
            announces: list[MQTTMessageInfo] = []
            while not self._answered.wait(0.2 if self.sent else 1.0) and not self._stop_all.is_set():
                announces.append(client.publish(self._topic("announce"), self._announce(), 1))
                self.sent += 1
                self._answered.wait(ANSWER_S)
            if self._answered.is_set():  # from here on only data is counted
                for announce in announces:
                    with contextlib.suppress(RuntimeError, ValueError):
                        announce.wait_for_publish(LAST_S)
            self.sent = self.acknowledged = 0
            self._send(client)
        finally:
            client.disconnect()
            client.loop_stop()
            self._memory.save(self._memory.seq)

    def _client(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"{self._identity.site}-{self._identity.name}")
        client.username_pw_set(self._identity.user or self._identity.name, self._identity.password or None)
        client.max_inflight_messages_set(WINDOW)
        if self._broker.ca:
            context = ssl.create_default_context()
            context.load_verify_locations(cadata=self._broker.ca.decode())
            client.tls_set_context(context)

        def connected(client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            self.trouble = f"the broker refuses: {reason}" if reason.is_failure else "no receipt yet"
            if not reason.is_failure:
                client.subscribe([(self._topic(leaf), 1) for leaf in ("receipt", *ORDERS)])

        def arrived(client: Client, _data: Any, message: MQTTMessage) -> None:
            leaf = message.topic.rpartition("/")[2]
            if leaf in ORDERS:
                if message.payload:
                    self._words.add(
                        client.publish(self._topic("status"), refusal(leaf, bytes(message.payload)), 1).mid
                    )
                return
            try:
                boot, seq = decode_receipt(bytes(message.payload))
            except ValueError:
                return
            self.trouble = ""
            if boot == self._memory.boot:
                self.receipt = max(self.receipt, seq)
            self._answered.set()

        def published(_client: Client, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
            if mid in self._words:
                self._words.remove(mid)
                return
            self.acknowledged += 1
            self._room.release()

        client.on_connect = connected
        client.on_message = arrived
        client.on_publish = published
        return client

    def _send(self, client: Client) -> None:
        prev = bytes(32)
        due = time.monotonic() + self._dice.random() * self._period
        last: MQTTMessageInfo | None = None
        while not self._stop_all.wait(max(0.0, due - time.monotonic())):
            if not self._room.acquire(timeout=1):
                continue
            message = self._message(prev)
            prev = message.message_hash
            last = client.publish(self._topic("data"), message.raw, 1)
            self.sent += 1
            due = max(due + self._period, time.monotonic() - 1)
        if last is not None:
            try:
                last.wait_for_publish(LAST_S)
            except (RuntimeError, ValueError):
                self.trouble = "the connection broke at the end"
            end = time.monotonic() + LAST_S
            while self.receipt < self._memory.seq - 1 and time.monotonic() < end:
                time.sleep(0.02)

    def _message(self, prev: bytes) -> Any:
        from sensorhub.wire import parse_signed

        now = time.time()
        base = int(now)
        names = KINDS[self._kind]
        records = [
            (
                names[number % len(names)],
                value(names[number % len(names)], now, self._dice),
                -(number // len(names)),
            )
            for number in range(self._records or len(names))
        ]
        raw = encode_message(
            self._memory.key,
            site=self._identity.site,
            node=self._identity.name,
            boot=self._memory.boot,
            seq=self._memory.take_seq(),
            prev=prev,
            tq=2,
            uptime=int(now - self._began),
            base_time=base,
            records=records,
        )
        return parse_signed(raw)

    def _announce(self) -> bytes:
        return encode_announce(
            self._memory.key,
            site=self._identity.site,
            node=self._identity.name,
            boot=self._memory.boot,
            tq=2,
            uptime=int(time.time() - self._began),
            kind=self._kind,
            hardware="simulated",
            firmware="simulate",
            channels=[(name, BY_NAME[name].unit) for name in KINDS[self._kind]],
            claim=self._identity.claim,
            oldest=self._memory.seq,
        )

    def _topic(self, leaf: str) -> str:
        return topic(self._identity.site, self._identity.name, leaf)


def seconds(text: str) -> float:
    """Seconds of `90`, `90s`, `5min`, `2h`."""
    met = _DURATION.fullmatch(text)
    if met is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90s, 5min or 2h")
    return float(met[1]) * {"h": 3600, "m": 60, "min": 60}.get(met[2] or "s", 1)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="simulate",
        description="Simulated nodes against any broker. Secrets: see tools/README.md, as for tools/flash.",
    )
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("-n", "--nodes", type=int, default=1, help="how many (default 1)")
    parser.add_argument("--site", required=True)
    parser.add_argument("--name", default="", help="names are NAME-1, NAME-2 ... (default sim-KIND)")
    parser.add_argument("--fast", action="store_true", help="a load generator in CPython, not the firmware")
    parser.add_argument("--interval", type=float, default=60, help="seconds of node time between messages")
    parser.add_argument(
        "--speed", type=float, default=1, help="real firmware: seconds of node time in a second"
    )
    parser.add_argument(
        "--start",
        type=int,
        default=0,
        help="real firmware: Unix seconds of the beginning (so that it ends now)",
    )
    parser.add_argument("--records", type=int, default=0, help="fast: values a message (one of each channel)")
    parser.add_argument(
        "--for", dest="duration", type=seconds, default=0.0, help="end after this time: 90s, 5min"
    )
    parser.add_argument("--broker", default="", help="HOST[:PORT] (of the gateway at --gateway-dir)")
    parser.add_argument("--ca", default="", help="CA certificate of a broker with TLS")
    parser.add_argument("--gateway", default="", help="URL of the gateway")
    parser.add_argument("--gateway-dir", default="", help="data directory of a gateway on this computer")
    parser.add_argument("--claims", type=Path, help="directory with NAME.claim.json of `sensorhub nodes add`")
    parser.add_argument("--dir", type=Path, default=Path("simulated"), help="where the nodes' state is kept")
    parser.add_argument("--settings", type=Path, help="settings file (flash.toml here)")
    chosen = parser.parse_args(argv)
    if not 1 <= chosen.nodes <= 10_000:
        parser.error("--nodes must be from 1 to 10000")
    if chosen.interval <= 0 or chosen.speed <= 0:
        parser.error("--interval and --speed must be more than 0")
    return chosen


@dataclass(frozen=True, slots=True)
class Simulated:
    """Who a node is, and the public keys that it obeys (`keys` of node.json; none without a gateway that tells them)."""

    identity: Identity
    keys: Mapping[str, str]


def _node(
    home: Path, site: str, name: str, claims: Path | None, registrar: Registrar | None, kind: str
) -> Simulated:
    """The node of a directory, registered at its first start; name, password and keys are kept for the next."""
    kept = home / "identity.json"
    keys: Mapping[str, str] = {}
    if kept.exists():
        found = json.loads(kept.read_text())
        if found["site"] == site:
            identity = Identity(site, name, bytes.fromhex(found["claim"]), name, found["mqtt_password"])
            keys = found.get("keys") or {}
            if not keys and registrar is not None:  # its first start was without a gateway that told them
                keys = registrar.prepare(Enrolment(identity, kind, replace=True))
            return Simulated(identity, keys)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if claims is not None:
        claimed = Claimed.load(claims / f"{name}.claim.json")
        identity, keys = claimed.identity, claimed.keys
    else:
        identity = new_identity(site, name)
        if registrar is not None:
            keys = _register(registrar, Enrolment(identity, kind))
    write_private(kept, json.dumps({**Enrolment(identity, kind).record(), "keys": dict(keys)}).encode())
    return Simulated(identity, keys)


def _register(registrar: Registrar, enrolment: Enrolment) -> Mapping[str, str]:
    try:
        keys = registrar.prepare(enrolment)
    except FlashError as error:
        if error.code is not Exit.NAME_TAKEN:
            raise
        raise FlashError(
            error.code,
            str(error),
            "Choose other names with --name, or say --dir where these nodes' state is.",
        ) from None
    registrar.register(enrolment)
    return keys


def _registrar(sources: flash_settings.Sources, site: str) -> Registrar | None:
    """Where nodes are registered; None when that is not said, for a gateway with open enrolment."""
    directory, url = sources.find("gateway.dir"), sources.find("gateway.url")
    if directory:
        local = Local(Path(directory))
        local.check_site(site)
        return local
    if url:
        return Remote(url.rstrip("/"), sources.need("gateway.token"))
    return None


def run(argv: Sequence[str] | None = None) -> None:
    """Runs until the time is over, or SIGINT or SIGTERM.

    Raises:
        FlashError: it cannot begin, or no node got through.
    """
    wanted = arguments(argv)
    prefix = wanted.name or f"sim-{wanted.kind}"
    names = [f"{prefix}-{number}" for number in range(1, wanted.nodes + 1)]
    check_names(wanted.site, names[-1])
    given = {
        "broker.host": wanted.broker,
        "broker.ca": wanted.ca,
        "gateway.url": wanted.gateway,
        "gateway.dir": wanted.gateway_dir,
    }
    sources = flash_settings.Sources(given, os.environ, flash_settings.load_file(wanted.settings, Path.cwd()))
    directory = sources.find("gateway.dir")
    broker = flash_settings.broker(sources, flash_settings.local_broker(Path(directory)) if directory else "")
    registrar = None if wanted.claims is not None else _registrar(sources, wanted.site)
    homes = {name: wanted.dir / wanted.site / name for name in names}
    simulated = [
        _node(homes[name], wanted.site, name, wanted.claims, registrar, wanted.kind) for name in names
    ]
    with stop_on_signal() as stop:
        (_fast if wanted.fast else _real)(wanted, simulated, broker, stop)


def _fast(
    wanted: argparse.Namespace, simulated: list[Simulated], broker: Broker, stop: threading.Event
) -> None:
    nodes = [
        FastNode(
            Memory.load(wanted.dir / wanted.site / one.identity.name),
            one.identity,
            broker,
            wanted.kind,
            period=wanted.interval,
            records=wanted.records,
            stop=stop,
        )
        for one in simulated
    ]
    for node in nodes:
        node.start()
    began = last = time.monotonic()
    before = 0
    while not stop.wait(1.0) and any(node.is_alive() for node in nodes):
        now = time.monotonic()
        done = sum(node.acknowledged for node in nodes)
        up = sum(not node.trouble for node in nodes)
        print(
            f"{up} of {len(nodes)} nodes, {done} messages, {(done - before) / (now - last):.0f}/s", flush=True
        )
        before, last = done, now
        if wanted.duration and now - began >= wanted.duration:
            break
    stop.set()
    for node in nodes:
        node.join(3 * LAST_S)
    troubles = {node.trouble for node in nodes if node.trouble}
    print(
        f"sent {sum(node.sent for node in nodes)}, acknowledged {sum(node.acknowledged for node in nodes)}, "
        f"nodes with receipts {sum(node.receipt > 0 for node in nodes)}"
    )
    if all(node.trouble for node in nodes):
        raise FlashError(Exit.UNREACHABLE, f"no node got through: {min(troubles)}")


def _real(
    wanted: argparse.Namespace, simulated: list[Simulated], broker: Broker, stop: threading.Event
) -> None:
    if broker.ca:
        raise FlashError(
            Exit.SETTINGS, "simulated firmware has no file for --ca", "Use --fast, or a broker without TLS."
        )
    try:
        interpreter = micropython()
    except RuntimeError as error:
        raise FlashError(Exit.MISSING_PART, str(error), "Install MicroPython 1.23 or newer.") from None
    interval = max(1, round(wanted.interval))
    duration = wanted.duration or (QUICKLY_S if wanted.speed > 1 else 0.0)
    start = wanted.start or beginning(time.time(), wanted.speed, duration)
    rows_needed = max(ROWS, math.ceil(duration * wanted.speed / interval) + 2)
    fleet = Fleet(wanted.dir / wanted.site, wanted.speed)
    for one in simulated:
        identity = one.identity
        config = node_config(
            site=identity.site,
            node=identity.name,
            kind=wanted.kind,
            claim=(identity.claim or b"").hex(),
            host=broker.host,
            port=broker.port,
            password=identity.password,
        )
        config |= {"interval": interval, "publish": interval, "hardware": "simulated", "keys": dict(one.keys)}
        rows = recording(wanted.kind, start - start % interval, interval, rows_needed, identity.name)
        fleet.add(identity.name, config, rows, start=start, status=True)
        fleet.start(identity.name, interpreter)
    print(f"{len(simulated)} nodes started; their words are in {fleet.root}/NAME/node.log", flush=True)
    if wanted.speed > 1:
        print(
            f"their time begins {time.strftime('%Y-%m-%d %H:%M', time.gmtime(start))} UTC and ends in {duration:g} s",
            flush=True,
        )
    began = last = time.monotonic()
    before = 0
    found: list[Mapping[str, Any]] = []
    try:
        while not stop.wait(1.0):
            for name, code in tuple(fleet.ended()):
                if code == RESET:
                    fleet.start(name, interpreter)
                    continue
                raise FlashError(
                    Exit.BUG, f"node {name} ended with {code}", f"Look at {fleet.root / name / 'node.log'}."
                )
            now = time.monotonic()
            found = [last_status(fleet.root / one.identity.name / "node.log") for one in simulated]
            up, done = (
                sum(bool(said.get("online")) for said in found),
                sum(said.get("receipt", 0) for said in found),
            )
            print(
                f"{up} of {len(found)} nodes, {done} messages logged, {(done - before) / (now - last):.0f}/s",
                flush=True,
            )
            before, last = done, now
            if duration and now - began >= duration:
                break
    finally:
        fleet.stop()
    if not any(said.get("receipt") for said in found):
        why = next((said["last_error"] for said in found if said.get("last_error")), "no answer yet")
        raise FlashError(Exit.UNREACHABLE, f"no node got through: {why}")


def beginning(now: float, speed: float, duration: float) -> int:
    """Unix seconds at which node time has to begin so that it does not get ahead of the gateway's, which takes nothing from the
    future."""
    return int(now - max(0.0, speed - 1) * duration)


def last_status(log: Path) -> Mapping[str, Any]:
    """What a simulated node last said of itself (firmware/sim/run.py); empty when it has not. Keeps its log small."""
    try:
        with log.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")[:-1]
            if size > LONGEST:
                file.truncate(0)
    except OSError:
        return {}
    for line in reversed(lines):
        if line.startswith(b"{"):
            try:
                return dict(json.loads(line))
            except ValueError:
                continue
    return {}


def main() -> int:
    """Entry point; exit codes as those of tools/flash."""
    return run_main(run, "tools/simulate")


if __name__ == "__main__":
    sys.exit(main())
