"""TLS with real certificates and a real broker, under both interpreters."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from node_harness import LONG, held_port

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Authority:
    """A CA with an EC key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 30 * DAY)
            .not_valid_after(NOW + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
            )
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    def issue(self, folder: Path, file: str, start: dt.datetime, end: dt.datetime) -> None:
        """A certificate for `localhost`, and its key, as files of mosquitto."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ip_address("10.9.8.7"))]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        (folder / f"{file}.crt").write_bytes(certificate.public_bytes(PEM))
        (folder / f"{file}.key").write_bytes(
            key.private_bytes(
                PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )


@pytest.fixture(scope="module")
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """mosquitto with three listeners; the environment of `broker_tls.py`."""
    folder = tmp_path_factory.mktemp("tls")
    authority, other = Authority.make("the site's CA"), Authority.make("another CA")
    authority.issue(folder, "good", NOW - DAY, NOW + DAY)
    authority.issue(folder, "expired", NOW - 9 * DAY, NOW - DAY)
    ca, alien = (each.certificate.public_bytes(PEM) for each in (authority, other))
    (folder / "ca.pem").write_bytes(ca)
    (folder / "other.pem").write_bytes(alien)
    (folder / "both.pem").write_bytes(alien + ca)
    (folder / "ca.der").write_bytes(authority.certificate.public_bytes(serialization.Encoding.DER))
    (folder / "empty").write_bytes(b"")
    (folder / "junk").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    holders = {name: held_port() for name in ("GOOD", "EXPIRED", "PLAIN")}
    ports = {name: holder.getsockname()[1] for name, holder in holders.items()}
    lines = ["per_listener_settings false", "allow_anonymous true", "user root"]
    for name, port in ports.items():
        lines.append(f"listener {port} 127.0.0.1")
        if name != "PLAIN":
            lines += [f"certfile {folder}/{name.lower()}.crt", f"keyfile {folder}/{name.lower()}.key"]
    (folder / "broker.conf").write_text("\n".join(lines) + "\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", folder / "broker.conf"], stdout=log, stderr=log
        )
    try:
        for port in ports.values():
            end = time.monotonic() + LONG
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.02)
        yield {"TLS_FILES": str(folder)} | {f"TLS_{name}": str(port) for name, port in ports.items()}
    finally:
        process.kill()
        process.wait()
        for holder in holders.values():
            holder.close()


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_the_client_over_tls(
    interpreter: str, device: Any, secure_broker: dict[str, str], tmp_path: Path
) -> None:
    file = Path(__file__).with_name("broker_tls.py")
    names = [
        line.removeprefix("async ")[4:].split("(")[0]
        for line in file.read_text().splitlines()
        if line.startswith(("async def test_", "def test_"))
    ]
    assert len(names) > 5
    results = device.run(file, names, interpreter, tmp_path, secure_broker)
    for result in results.values():
        assert result.passed, f"{result.name}\n{result.output}"


class TlsNode:
    """A node that talks TLS to one of the broker's listeners, as a process."""

    def __init__(
        self,
        interpreter: str,
        device: Any,
        broker: dict[str, str],
        folder: Path,
        ca: str,
        port: str,
        **sim: Any,
    ) -> None:
        self.folder = folder
        (folder / "replay.csv").write_text("time,temperature Cel\n1481500800,1\n1481504400,2\n")
        node = {
            "site": "lab",
            "node": "n",
            "kind": "weather",
            "interval": 60,
            "broker": {
                "host": "localhost",
                "port": int(broker[port]),
                "ca": f"{broker['TLS_FILES']}/{ca}",
                "retry": 1,
            },
            "sensors": [{"driver": "replay", "file": "replay.csv"}],
            "spool": {"bytes": 65536},
            "sim": {"speed": 60, "status": True} | sim,
        }
        (folder / "node.json").write_text(json.dumps(node))
        run = Path(__file__).resolve().parents[2] / "firmware" / "sim" / "run.py"
        with (folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                device.command(interpreter, str(run), str(folder)),
                env=device.environ(interpreter),
                stdout=out,
                stderr=out,
            )

    @property
    def statuses(self) -> list[dict[str, Any]]:
        lines = (self.folder / "out").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for a status, and end the node."""
        end = time.monotonic() + LONG
        while not any(map(condition, self.statuses)):
            assert self.process.poll() is None, (self.folder / "out").read_text()
            assert time.monotonic() < end, (self.folder / "out").read_text()[-3000:]
            time.sleep(0.1)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def tls_node(device: Any, secure_broker: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., TlsNode]]:
    nodes: list[TlsNode] = []

    def start(interpreter: str, ca: str = "ca.pem", port: str = "TLS_GOOD", **sim: Any) -> TlsNode:
        nodes.append(TlsNode(interpreter, device, secure_broker, tmp_path, ca, port, **sim))
        return nodes[-1]

    yield start
    for node in nodes:
        node.end()


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
@pytest.mark.parametrize(("ca", "stage"), [("ca.pem", "announcing"), ("other.pem", "waiting")])
def test_a_node_waits_for_the_time_and_then_talks_tls(
    ca: str, stage: str, interpreter: str, tls_node: Callable[..., TlsNode]
) -> None:
    node = tls_node(interpreter, ca, unset=60)
    node.until(lambda status: bool(status["link"] == stage))
    for status in node.statuses:
        assert status["link"] not in ("connecting", "announcing") or status["time_quality"] == 2
        assert stage == "announcing" or status["connects"] == 0


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_without_a_time_server_it_talks_tls_undated_and_checks_again_when_one_answers(
    interpreter: str, tls_node: Callable[..., TlsNode]
) -> None:
    node = tls_node(interpreter, unset=600, date=1)  # it answers after 10 s, and is waited for for one
    node.until(lambda status: bool(status["link"] == "announcing"))
    links = [status["link"] for status in node.statuses]
    assert all(status["time_quality"] == 0 for status in node.statuses[: links.index("announcing") + 1])
    node.until(lambda status: bool(status["time_quality"] == 2 and status["connects"] == 2))
    assert any("date is known" in status["last_error"] for status in node.statuses)


class Crossing:
    """A TCP port that leads to one place the first time, and to another ever after."""

    def __init__(self, first: int, then: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._ways = [first, then]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._ways[0]))
                self._ways = self._ways[-1:]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_a_certificate_that_has_expired_by_the_true_date_is_left_when_that_is_known(
    interpreter: str, tls_node: Callable[..., TlsNode], secure_broker: dict[str, str]
) -> None:
    """The simulated node has the computer's clock from the start; so what is accepted undated has another certificate than what is
    looked at when the date is known."""
    crossing = Crossing(int(secure_broker["TLS_GOOD"]), int(secure_broker["TLS_EXPIRED"]))
    secure_broker["TLS_CROSSING"] = str(crossing.port)
    try:
        node = tls_node(interpreter, "ca.pem", "TLS_CROSSING", unset=600, date=1)
        node.until(lambda status: bool(status["link"] == "announcing"))
        node.until(lambda status: bool(status["time_quality"] == 2 and status["link"] == "waiting"))
        node.until(
            lambda status: bool(status["time_quality"] == 2 and "expired" in status["last_error"].lower())
        )
        assert all(status["connects"] <= 1 for status in node.statuses)
    finally:
        crossing.close()


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
@pytest.mark.parametrize(("ca", "port"), [("other.pem", "TLS_GOOD"), ("ca.pem", "TLS_EXPIRED")])
def test_an_undated_node_is_no_less_strict(
    ca: str, port: str, interpreter: str, tls_node: Callable[..., TlsNode]
) -> None:
    """The simulated node has the computer's clock, which is past the end of the expired certificate."""
    node = tls_node(interpreter, ca, port, unset=1_000_000, date=1)
    node.until(lambda status: bool(status["link"] == "waiting"))
    assert all(status["connects"] == 0 and not status["online"] for status in node.statuses)
