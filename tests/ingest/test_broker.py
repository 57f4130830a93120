"""The embedded broker: who may log in, who may read and write what, and when it cannot start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from ingest_parts import Gateway, Node, eventually

from sensorhub.ingest import packets
from sensorhub.ingest.broker import BrokerError, EmbeddedBroker, Kind
from sensorhub.ingest.users import UserError, Users, check_password, hash_password

KINDS: tuple[Kind, ...] = ("mosquitto", "amqtt")
TOP = "sensorhub/v1/lab"


@pytest.fixture(scope="module", params=KINDS)
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[EmbeddedBroker]:
    made = EmbeddedBroker(tmp_path_factory.mktemp("broker"), port=free_port(), kind=request.param)
    for name in ("roof", "cellar", "attic"):
        made.users.add(name, name + "-secret")
    with made:
        yield made


class Client:
    """A plain MQTT client of one user."""

    def __init__(
        self,
        broker: EmbeddedBroker,
        user: str | None,
        password: str | None,
        *,
        client_id: str = "",
        clean: bool = True,
    ) -> None:
        self.connected: list[bool] = []
        self.granted: list[int] = []
        self.received: list[tuple[str, bytes]] = []
        self.subscribed = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean)
        if user is not None:
            self.client.username_pw_set(user, password)
        self.client.on_connect = lambda _c, _u, _f, code, _p: self.connected.append(not code.is_failure)
        self.client.on_message = lambda _c, _u, m: self.received.append((m.topic, m.payload))
        self.client.on_subscribe = self._on_subscribe
        self.client.connect_async(broker.host, broker.port)
        self.client.loop_start()

    def _on_subscribe(
        self, _client: object, _data: object, _mid: int, codes: list[mqtt.ReasonCode], _p: object
    ) -> None:
        self.granted += [code.value for code in codes]
        self.subscribed.set()

    def subscribe(self, topic: str) -> None:
        eventually(lambda: self.connected)
        self.subscribed.clear()
        self.client.subscribe(topic, 1)
        assert self.subscribed.wait(90)

    def publish(self, topic: str, payload: bytes) -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(90)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def clients(broker: EmbeddedBroker) -> Iterator[dict[str, Client]]:
    made = {
        "roof": Client(broker, "roof", "roof-secret"),
        "cellar": Client(broker, "cellar", "cellar-secret"),
        "gateway": Client(broker, broker.username, broker.password),
    }
    yield made
    for client in made.values():
        client.close()


def admits(broker: EmbeddedBroker, user: str | None, password: str | None) -> bool:
    """Whether the broker accepts a connection of this user; False also when it closes it at once."""
    try:
        with socket.create_connection((broker.host, broker.port), 90) as sock:
            sock.sendall(packets.connect("login", user, password, 30))
            # the third byte tells whether a session is resumed (section 3.2.2.2)
            return sock.recv(4)[3:] == b"\x00"
    except OSError:
        return False


def test_only_known_users_log_in(broker: EmbeddedBroker) -> None:
    strangers = [(None, None), ("roof", "wrong"), ("nobody", "roof-secret"), ("roof", None), ("", "")]
    assert [who for who in strangers if admits(broker, *who)] == []
    assert admits(broker, "roof", "roof-secret")


def test_a_node_reads_and_writes_below_its_own_name_only(
    broker: EmbeddedBroker, clients: dict[str, Client]
) -> None:
    roof, cellar, gateway = clients["roof"], clients["cellar"], clients["gateway"]
    gateway.subscribe(f"{TOP}/+/data")
    roof.subscribe(f"{TOP}/roof/receipt")
    for spied in (f"{TOP}/+/receipt", f"{TOP}/cellar/receipt", "sensorhub/#", "#", f"{TOP}/roof/receipt"):
        cellar.subscribe(spied)
    for topic in (f"{TOP}/cellar/data", f"{TOP}/roof/data", f"{TOP}/roof/receipt", "elsewhere"):
        forge(broker, "attic", "attic-secret", topic)
    roof.publish(f"{TOP}/roof/data", b"honest")
    gateway.publish(f"{TOP}/roof/receipt", b"receipt for roof")
    gateway.publish(f"{TOP}/cellar/receipt", b"receipt for cellar")
    eventually(lambda: gateway.received and roof.received and cellar.received)
    # mosquitto ends the connection of who writes where he may not, so the gateway's attempt comes last
    forge(broker, broker.username, broker.password, f"{TOP}/roof/data")
    roof.publish(f"{TOP}/roof/data", b"last")
    eventually(lambda: len(gateway.received) == 2)
    assert gateway.received == [(f"{TOP}/roof/data", b"honest"), (f"{TOP}/roof/data", b"last")]
    assert roof.received == [(f"{TOP}/roof/receipt", b"receipt for roof")]
    assert {topic for topic, _ in cellar.received} == {f"{TOP}/cellar/receipt"}


@pytest.mark.parametrize("clean", [True, False])
def test_no_known_client_id_silences_the_gateway(tmp_path: Path, broker: EmbeddedBroker, clean: bool) -> None:
    gateway = Gateway(tmp_path / "data", broker)
    node = Node("dike")
    ingest = gateway.start(open_enrolment=True)
    try:
        secret = (gateway.data_dir / "keys" / "mqtt-client-id").read_text().strip()
        assert len(secret) == 23
        node.connect(broker)
        node.announce()
        strangers: list[tuple[str | None, str | None]] = [
            ("attic", "attic-secret"), ("attic", "wrong"), (None, None), ("nobody", "")
        ]  # fmt: skip
        for client_id in (
            "gateway",
            "sensorhub-lab-gw1",
            broker.username,
            f"{broker.username}/{secret}",
            "?",
        ):
            for user, password in strangers:
                thief = Client(broker, user, password, client_id=client_id, clean=clean)
                if password == "attic-secret":
                    eventually(lambda thief=thief: thief.connected)
                thief.close()
            node.send()
            eventually(lambda: node.receipts and node.receipts[-1] == (1, node.seq))
        assert ingest.connections == 1
        assert ingest.warnings() == []
    finally:
        node.disconnect()
        gateway.stop()


def test_a_gateway_keeps_its_client_id_and_a_copy_of_it_is_noticed(
    tmp_path: Path, own_broker: EmbeddedBroker
) -> None:
    gateway = Gateway(tmp_path / "data", own_broker)
    ingest = gateway.start()
    file = gateway.data_dir / "keys" / "mqtt-client-id"
    secret = file.read_text().strip()
    assert file.stat().st_mode & 0o077 == 0
    try:
        for _ in range(3):
            before = ingest.connections
            copy = Client(own_broker, own_broker.username, own_broker.password, client_id=secret)
            eventually(lambda before=before: ingest.connections > before)
            copy.close()
        assert any("a copy of this gateway" in warning for warning in ingest.warnings())
        gateway.stop()
        gateway.start()
        assert file.read_text().strip() == secret
    finally:
        gateway.stop()


def forge(broker: EmbeddedBroker, user: str, password: str, topic: str) -> None:
    """Publishes where the user may not; mosquitto then ends the connection, so it is one of its own."""
    client = Client(broker, user, password)
    eventually(lambda: client.connected)
    client.client.publish(topic, b"forged", qos=1).wait_for_publish(5)
    client.close()


def test_users_are_added_and_removed_while_it_runs(broker: EmbeddedBroker) -> None:
    password = Users(broker.users.path).add("attic")
    eventually(lambda: admits(broker, "attic", password))
    Users(broker.users.path).remove("attic")
    eventually(lambda: not admits(broker, "attic", password))


def test_secrets_are_in_no_argument_and_no_open_file(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    words = Path(f"/proc/{broker.pid}/cmdline").read_bytes().decode()
    assert broker.password not in words
    assert "secret" not in words
    for file in (broker.users.path, *(broker.users.path.parents[1] / "run").glob("*")):
        text = file.read_text(errors="replace")
        assert broker.password not in text
        assert "secret" not in text
    assert broker.users.path.stat().st_mode & 0o077 == 0


def test_it_is_started_again_when_it_dies(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    before = broker.restarts
    os.kill(broker.pid, signal.SIGKILL)
    eventually(lambda: broker.restarts == before + 1)
    eventually(lambda: admits(broker, "roof", "roof-secret"))


def test_a_user_who_is_added_while_it_starts_again_is_let_in(
    own_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, passwords = own_broker._launch, []

    def launch_and_add() -> None:
        launch()
        passwords.append(own_broker.users.add("late"))

    monkeypatch.setattr(own_broker, "_launch", launch_and_add)
    assert own_broker.pid is not None
    os.kill(own_broker.pid, signal.SIGKILL)
    eventually(lambda: passwords)
    eventually(lambda: admits(own_broker, "late", passwords[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_a_taken_port_is_named(tmp_path: Path, kind: Kind, host: str, shown: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        place = f"{shown}:{taken.getsockname()[1]}"
        with pytest.raises(BrokerError, match=f"{re.escape(place)} is already used.*mqtt.port"):
            EmbeddedBroker(tmp_path, host=host, port=taken.getsockname()[1], kind=kind).start()


@pytest.mark.parametrize("kind", KINDS)
def test_it_listens_on_an_ipv6_address(tmp_path: Path, kind: Kind) -> None:
    with EmbeddedBroker(tmp_path, host="::1", port=0, kind=kind) as broker:
        broker.users.add("roof", "roof-secret")
        eventually(lambda: admits(broker, "roof", "roof-secret"))


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom sensorhub.ingest.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker(Path(sys.argv[1]), port=0, kind='mosquitto')\nbroker.start()\n"
        "print(broker.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z"
        except FileNotFoundError:
            return True

    eventually(gone)


def test_password_hashes_are_what_mosquitto_writes(tmp_path: Path) -> None:
    # made by mosquitto_passwd 2.0.11 for user roof, password "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(tmp_path / "theirs"), "roof", "secret"], check=True)
    name, hashed = (tmp_path / "theirs").read_text().strip().split(":")
    assert name == "roof"
    assert check_password("secret", hashed)
    assert not check_password("Secret", hashed)
    assert check_password("secret", hash_password("secret"))
    for broken in ("", "$6$1$aaaa$aaaa", "$7$x$aaaa$aaaa", "$7$1$*$aaaa", "secret"):
        assert not check_password("secret", broken)


@pytest.mark.parametrize("name", ["", "Roof", "a b", "-a", "a" * 33, "a+", "#", "a:b", "a\nb"])
def test_a_user_is_named_like_a_node(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        Users(tmp_path / "passwords").add(name)


def test_the_gateway_works_on_amqtt_and_says_that_it_is_slow(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    broker = EmbeddedBroker(tmp_path / "data", port=free_port(), kind="amqtt")
    node = Node("roof")
    with broker:
        gateway = Gateway(tmp_path / "data", broker)
        ingest = gateway.start()
        try:
            node.connect(broker)
            node.announce(gateway.claims.add(node.name))
            eventually(lambda: node.receipts)
            for _ in range(200):
                node.send()
            eventually(lambda: node.receipts[-1] == (1, 200))
            assert gateway.messages() == list(node.sent.values())
        finally:
            node.disconnect()
            gateway.stop()
        assert any("1,800" in warning for warning in broker.warnings)
        assert ingest is not None
