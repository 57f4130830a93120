"""The whole node, as a process of either interpreter, against a real broker and a gateway that sends receipts."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from sensorhub import wire

SITE = "lab"
NODE = "roof-1"
RUN = Path(__file__).resolve().parents[2] / "firmware" / "sim" / "run.py"
ROWS = 42
START = 1_481_500_800
LONG = 60.0  # seconds until a test gives up waiting


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, f"waited {LONG:g} s for {what}"
        time.sleep(0.02)


class Broker:
    """mosquitto with a password file and the product's access list; may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        for user in (NODE, "gateway"):
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, f"{user}-secret"], check=True)
        (folder / "acl").write_text(
            "user gateway\ntopic readwrite sensorhub/#\n\n"
            "pattern write sensorhub/v1/+/%u/announce\npattern write sensorhub/v1/+/%u/data\n"
            "pattern write sensorhub/v1/+/%u/status\npattern read sensorhub/v1/+/%u/#\n"
        )
        (folder / "broker.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
            f"acl_file {folder / 'acl'}\nuser root\nmax_queued_messages 0\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / "broker.log").open("ab")
        self.process = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", self.folder / "broker.conf"], stdout=log, stderr=log
        )
        log.close()

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        until(listens, "the broker")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Gateway:
    """Checks and logs messages in memory, and answers as the real gateway does."""

    def __init__(self, port: int) -> None:
        self.lock = threading.Lock()
        self.keys: dict[bytes, bytes] = {}
        self.announces: list[wire.Announce] = []
        self.log: list[wire.Message] = []
        self.arrived: list[int] = []  # every sequence number that came, repeats too
        self.clones = 0
        self.refused: list[str] = []
        self.status: list[dict[str, Any]] = []
        self.deaf = False  # neither logs nor answers
        self.refuse: set[int] = set()  # sequence numbers to quarantine
        self.settled = 0  # every number up to here is logged
        self._raw: dict[int, bytes] = {}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, "gateway")
        self._client.username_pw_set("gateway", "gateway-secret")
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("sensorhub/v1/#", 1)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()

    def _on_message(self, client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        leaf = message.topic.rpartition("/")[2]
        if self.deaf or leaf == "receipt":
            return
        with self.lock:
            if leaf == "status":
                self.status.append(json.loads(message.payload))
                return
            try:
                if leaf == "announce":
                    announce = wire.decode_announce(message.payload, site=SITE, node=NODE)
                    self.announces.append(announce)
                    self.keys[announce.signed.kid] = announce.public_key
                elif leaf == "data" and not self._data(message.payload):
                    return
            except wire.WireError as error:
                self.refused.append(str(error))
                return
            while self.settled + 1 in self._raw:
                self.settled += 1
            boot = self.log[-1].signed.boot if self.settled else 0
            client.publish(wire.topic(SITE, NODE, "receipt"), wire.encode_receipt(boot, self.settled), qos=1)

    def _data(self, raw: bytes) -> bool:
        message = wire.decode(raw, public_key=self.keys.get, site=SITE, node=NODE, now=time.time())
        seq = message.signed.seq
        self.arrived.append(seq)
        if seq in self.refuse:
            return False
        if seq not in self._raw:
            self._raw[seq] = raw
            self.log.append(message)
        elif self._raw[seq] != raw:
            self.clones += 1
        elif seq > self.settled and not any(self.settled < known < seq for known in self._raw):
            self.settled = seq - 1  # a node sends its oldest first: nothing is left to fill the gap with
        return True

    @property
    def gaps(self) -> int:
        prevs = [bytes(32), *(message.signed.message_hash for message in self.log)]
        return sum(m.signed.prev != prev for m, prev in zip(self.log, prevs, strict=False))

    @property
    def times(self) -> list[int]:
        """Unix seconds of every dated sampling instant, in log order."""
        packs = [message.pack for message in self.log if message.pack.base_time is not None]
        return [int(pack.base_time + t) for pack in packs for t in sorted(set(pack.times))]


class Node:
    """A simulated node: its directory and its process."""

    def __init__(
        self, folder: Path, port: int, command: Callable[..., list[str]], environ: dict[str, str]
    ) -> None:
        self.folder = folder
        self.port = port
        self._command = command
        self._environ = environ
        self.process: subprocess.Popen[bytes] | None = None
        rows = [f"{START + 3600 * n},{n / 10},{1000 + n},{n % 7 or ''}" for n in range(ROWS)]
        heading = "time,temperature Cel,pressure hPa,wind_speed m/s"
        (folder / "replay.csv").write_text("\n".join([heading, *rows]) + "\n")

    def configure(self, **more: Any) -> None:
        sim = {"speed": 400_000, "status": True, "exit_at_end": True} | more.pop("sim", {})
        broker = {
            "host": "127.0.0.1",
            "port": self.port,
            "password": f"{NODE}-secret",
            "retry": 2,
            "receipt": 1,
        }
        config: dict[str, Any] = {
            "site": SITE,
            "node": NODE,
            "kind": "weather",
            "interval": 3600,
            "broker": broker,
            "sensors": [{"driver": "replay", "file": "replay.csv"}],
            "claim": "00112233445566778899aabbccddeeff",
            "spool": {"bytes": 262_144},
            "sim": sim,
        }
        (self.folder / "node.json").write_text(json.dumps(config | more))

    def start(self) -> None:
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                self._command(str(RUN), str(self.folder)), stdout=out, stderr=out, env=self._environ
            )

    def wait(self) -> int:
        assert self.process
        try:
            return self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the node did not end:\n{self.output[-2000:]}")

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.wait()

    @property
    def output(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def status(self) -> dict[str, Any]:
        lines = [line for line in self.output.splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else {}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def gateway(broker: Broker) -> Iterator[Gateway]:
    gateway = Gateway(broker.port)
    yield gateway
    gateway.close()


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_the_client_against_a_real_broker(
    interpreter: str, device: Any, broker: Broker, tmp_path: Path
) -> None:
    file = Path(__file__).with_name("broker_mqtt.py")
    names = [
        line[10:].split("(")[0]
        for line in file.read_text().splitlines()
        if line.startswith("async def test_")
    ]
    results = device.run(file, names, interpreter, tmp_path, {"BROKER_PORT": str(broker.port)})
    assert names
    for result in results.values():
        assert result.passed, result.output


@pytest.fixture(params=["micropython", "cpython"])
def node(request: pytest.FixtureRequest, device: Any, broker: Broker, tmp_path: Path) -> Iterator[Node]:
    def command(*arguments: str) -> list[str]:
        return device.command(request.param, *arguments)

    folder = tmp_path / "node"
    folder.mkdir()
    node = Node(folder, broker.port, command, device.environ(request.param))
    yield node
    if node.process and node.process.poll() is None:
        node.process.kill()
        node.process.wait()


def test_every_row_arrives_once_in_order_and_the_spool_is_freed(node: Node, gateway: Gateway) -> None:
    node.configure()
    node.start()
    assert node.wait() == 0, node.output
    assert gateway.times == [START + 3600 * n for n in range(ROWS)]
    assert [message.signed.seq for message in gateway.log] == list(range(1, ROWS + 1))
    assert gateway.gaps == gateway.clones == 0
    assert not gateway.refused
    first = gateway.log[1]
    assert first.pack.names == ("temperature", "pressure", "wind_speed")
    assert first.pack.values == (pytest.approx(0.1, rel=1e-6), 1001, 1)
    assert gateway.log[0].pack.names == ("temperature", "pressure")  # the missing value is left out
    assert all(message.signed.tq == 2 for message in gateway.log)
    status = node.status
    assert status["receipt"] == status["seq"] == ROWS
    assert status["missed"] == status["dropped"] == status["sensor_errors"] == 0


def test_announce_tells_what_the_node_is(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"exit_at_end": False}, hardware="test board")
    node.start()
    until(lambda: gateway.announces and gateway.log, "an announce and data")
    node.end(signal.SIGTERM)
    announce = gateway.announces[0]
    assert (announce.kind, announce.hardware, announce.firmware) == ("weather", "test board", "0.1.0")
    assert ("wind_speed", "m/s") in announce.channels
    assert announce.claim == bytes.fromhex("00112233445566778899aabbccddeeff")


def test_status_says_online_then_offline_on_purpose_or_by_will(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"exit_at_end": False})
    for number in (signal.SIGTERM, signal.SIGKILL):
        gateway.status.clear()
        node.start()
        until(lambda: [s["state"] for s in gateway.status][-1:] == ["online"], "online")
        assert node.end(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        until(lambda: gateway.status[-1]["state"] == "offline", "offline")


def test_values_do_not_depend_on_the_speed(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"speed": 100_000})
    node.start()
    assert node.wait() == 0
    assert gateway.times == [START + 3600 * n for n in range(ROWS)]
    assert node.status["missed"] == 0


def test_one_message_carries_a_whole_publish_interval(node: Node, gateway: Gateway) -> None:
    node.configure(publish=6 * 3600)
    node.start()
    assert node.wait() == 0
    assert len(gateway.log) == ROWS // 6
    assert gateway.times == [START + 3600 * n for n in range(ROWS)]


def test_readings_before_the_first_sync_carry_uptime(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"unset": 2 * 3600})
    node.start()
    assert node.wait() == 0
    undated = [message for message in gateway.log if message.signed.tq == 0]
    assert undated
    assert all(message.pack.base_time is None for message in undated)
    synced = next(message for message in gateway.log if message.signed.tq == 2)
    boot = synced.pack.base_time - synced.signed.uptime
    assert [boot + message.signed.uptime for message in undated] == [
        START + 3600 * n for n in range(len(undated))
    ]
    assert gateway.times == [START + 3600 * n for n in range(len(undated), ROWS)]


def test_nothing_is_lost_while_the_broker_is_away(node: Node, broker: Broker, gateway: Gateway) -> None:
    node.configure(sim={"speed": 72_000})
    node.start()
    until(lambda: len(gateway.log) > 5, "the first messages")
    broker.stop()
    time.sleep(0.5)
    broker.start()
    assert node.wait() == 0
    assert gateway.times == [START + 3600 * n for n in range(ROWS)]
    assert gateway.gaps == gateway.clones == 0
    assert node.status["connects"] > 1


def test_a_silent_gateway_costs_announces_and_not_the_spool(node: Node, gateway: Gateway) -> None:
    gateway.deaf = True
    node.configure()
    node.start()
    until(lambda: node.status.get("seq") == ROWS, "the end of the recording")
    assert not node.status["online"]
    assert node.status["receipt"] == 0
    gateway.deaf = False
    assert node.wait() == 0  # announces again
    assert gateway.arrived == list(range(1, ROWS + 1))


def test_unreceipted_messages_are_sent_again(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"speed": 72_000})
    node.start()
    until(lambda: len(gateway.log) > 3, "the first messages")
    gateway.deaf = True
    time.sleep(0.5)
    gateway.deaf = False
    assert node.wait() == 0
    assert sorted(message.signed.seq for message in gateway.log) == list(range(1, ROWS + 1))
    assert gateway.clones == 0


def test_a_message_the_gateway_never_takes_does_not_hold_up_the_others(node: Node, gateway: Gateway) -> None:
    gateway.refuse = {3}
    node.configure()
    node.start()
    assert node.wait() == 0
    assert [message.signed.seq for message in gateway.log] == [1, 2, *range(4, ROWS + 1)]


def test_kill_at_random_moments_reuses_no_number_and_loses_nothing_spooled(
    node: Node, gateway: Gateway
) -> None:
    chance = random.Random(1)
    node.configure(sim={"speed": 72_000})
    for _ in range(8):
        node.start()
        time.sleep(chance.uniform(0.1, 0.5))
        if node.process.poll() is not None:
            break
        node.end()
    node.start()
    assert node.wait() == 0
    assert gateway.clones == gateway.gaps == 0
    assert not gateway.refused
    assert sorted(set(gateway.times)) == [START + 3600 * n for n in range(ROWS)]
    boots = [message.signed.boot for message in gateway.log]
    assert boots == sorted(boots)
    assert len({announce.signed.kid for announce in gateway.announces}) == 1


def test_the_output_holds_no_secret(node: Node, gateway: Gateway) -> None:
    node.configure(broker={"host": "127.0.0.1", "port": node.port, "password": "wrong-secret", "retry": 1})
    node.start()
    until(lambda: "not authorised" in node.status.get("last_error", ""), "the refusal")
    node.end(signal.SIGTERM)
    secret = json.loads((node.folder / "nvs-sensornode.json").read_text())["key"]
    assert secret not in node.output
    assert "wrong-secret" not in node.output
