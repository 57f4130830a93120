"""Whom the gateway answers: addresses, its own names and those it was given. Nobody rebinds a name to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sensorhub.ingest.admission import Admissions
from sensorhub.web.app import make_app
from sensorhub.web.enrolment import Enrolling
from sensorhub.web.hosts import own_names

TOKEN = "correct-horse-battery-staple"
GIVEN = ("127.0.0.1", "sensors.example", "Grafana_Net")
NODE = {
    "site": "beijing",
    "node": "w-1",
    "kind": "weather",
    "claim": "0f" * 16,
    "mqtt_password": "mqtt-secret-word",
}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """What this machine is called."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Hub-1")


@pytest.fixture
def app(site):
    enrolling = Enrolling(TOKEN, Admissions(site.data_dir), lambda: {"site": "ab" * 64})
    return make_app(site.gateway, site.prove, enrolling, hosts=GIVEN)


@pytest.fixture
async def client(app):
    async with TestClient(TestServer(app)) as made:
        yield made


async def status(client, host: str, path: str = "/api/v1/status") -> int:
    async with client.get(path, headers={"Host": host}) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "192.168.1.10:8080",
        "[::1]:8080",
        "[fd00::12]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LocalHost:1",
        "localhost.:8080",
        "page.localhost:8080",
        "hub-1",
        "HUB-1.local:8080",
        "sensors.example",
        "Sensors.Example.:443",
        "grafana_net:8080",
    ],
)
async def test_addresses_own_names_and_given_ones_are_answered(client, host):
    assert await status(client, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "127.0.0.1.nip.io:8080",
        "localhost.evil.example",
        "notlocalhost",
        "x.sensors.example",
        "sensors.example.evil",
        "hub-1.evil.example",
        "hub-12",
        "beijing",
        "0x7f.1",
        "2130706433",
    ],
)
async def test_any_other_name_is_misdirected(client, host):
    async with client.get("/api/v1/status", headers={"Host": host}) as answer:
        assert answer.status == 421
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Content-Security-Policy" in answer.headers
        said = (await answer.json())["error"]
    name = host.partition(":")[0]
    assert name in said
    assert "web.hosts" in said
    assert "address" in said
    assert "hub-1" not in said.replace(name, "")  # a stranger is not told what would have done
    assert not any(name in said.replace(name, "") for name in GIVEN)


async def test_no_path_and_no_method_is_left_out(client, app):
    paths = sorted(
        {route.resource.canonical for route in app.router.routes() if route.resource is not None}
        | {"/", "/nothing", "/api/v1/nodes/a/latest", "/static/page.js", "/log/tile/entries/000.p/1"}
    )
    assert len(paths) > 20
    for path in paths:
        for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"):
            bearer = {"Host": "evil.example", "Authorization": f"Bearer {TOKEN}"}
            async with client.request(method, path, headers=bearer, json=None) as answer:
                assert answer.status == 421, (method, path)


def ask(port: int, *lines: str) -> int:
    """Status of an answer to a request that is sent as it is; 0 when the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", port), 90) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    return int(answer.split()[1]) if answer else 0


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET / HTTP/1.1"], 400),
        (["GET / HTTP/1.0"], 400),
        (["GET / HTTP/1.0", "Host: 127.0.0.1"], 200),
        (["GET / HTTP/1.1", "Host:"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.1", "Host: evil.example"], 400),
        (["GET / HTTP/1.1", "Host: evil.example", "host: 127.0.0.1"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.1, evil.example"], 400),
        (["GET / HTTP/1.1", "Host: evil.example@127.0.0.1"], 400),
        (["GET / HTTP/1.1", "Host: evil.example#127.0.0.1"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.1:80:80"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.1:port"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.1:99999"], 400),
        (["GET / HTTP/1.1", "Host: ::1"], 400),
        (["GET / HTTP/1.1", "Host: [::1"], 400),
        (["GET / HTTP/1.1", "Host: [::1]evil.example"], 400),
        (["GET / HTTP/1.1", "Host: [1::2::3]"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.1/"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.\xb9"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.1%00"], 400),
        (["GET / HTTP/1.1", "Host: 127.0.0.1", "X-Forwarded-Host: evil.example"], 200),
        (["GET / HTTP/1.1", "Host: evil.example", "X-Forwarded-Host: 127.0.0.1"], 421),
        # a whole URL counts more than the header (RFC 9112, section 3.2.2)
        (["GET http://127.0.0.1/ HTTP/1.1", "Host: 127.0.0.1"], 200),
        (["GET http://evil.example/ HTTP/1.1", "Host: 127.0.0.1"], 421),
        (["GET http://127.0.0.1@evil.example/ HTTP/1.1", "Host: 127.0.0.1"], 421),
    ],
)
def test_what_a_browser_would_not_send_gets_no_further(site, serving, lines, status):
    with serving(site) as server:
        assert ask(server.port, *lines) == status
        assert ask(server.port, "GET /healthz HTTP/1.1", "Host: localhost") == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8080", None, 201),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", 201),
        ("hub-1:8080", "http://HUB-1:8080", 201),
        ("sensors.example", "https://sensors.example", 201),
        ("127.0.0.1:8080", "https://sensors.example", 201),  # what a proxy makes of it
        ("127.0.0.1:8080", "http://127.0.0.1:3000", 403),
        ("127.0.0.1:8080", "http://127.0.0.1", 403),
        ("127.0.0.1:8080", "http://localhost:8080", 403),
        ("127.0.0.1:8080", "http://6.6.6.6:8080", 403),
        ("127.0.0.1:8080", "http://evil.example", 403),
        ("127.0.0.1:8080", "http://evil.example@127.0.0.1:8080", 403),
        ("127.0.0.1:8080", "http://127.0.0.1:8080.evil.example", 403),
        ("127.0.0.1:8080", "null", 403),
        ("127.0.0.1:8080", "file://", 403),
        ("127.0.0.1:8080", "", 403),
    ],
)
async def test_pages_of_others_change_nothing_even_with_the_token(client, site, host, origin, status):
    headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
    if origin is not None:
        headers["Origin"] = origin
    async with client.post("/api/v1/nodes", data=json.dumps(NODE), headers=headers) as answer:
        assert answer.status == status, await answer.text()
    assert (site.data_dir / "claims.json").exists() == (status == 201)
    # reading stays as it is: without CORS
    async with client.get("/api/v1/status", headers=headers) as answer:
        assert answer.status == 200
        assert not any(name.startswith("Access-Control") for name in answer.headers)


@pytest.mark.parametrize(
    ("hostname", "names"),
    [
        ("raspberrypi", {"raspberrypi", "raspberrypi.local"}),
        ("Hub.local", {"hub", "hub.local"}),
        ("hub.lan.example.", {"hub", "hub.local", "hub.lan.example"}),
        ("", set()),
    ],
)
def test_names_of_a_machine(hostname, names):
    assert own_names(hostname) == names


def test_the_page_at_an_ipv6_address_can_be_clicked(tmp_path):
    command = [sys.executable, "-m", "sensorhub", "run", "web"]
    environ = {**os.environ, "SENSORHUB_WEB_HOST": "::1", "SENSORHUB_WEB_PORT": "0"}
    status = tmp_path / "data" / "status" / "web.json"
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 90
            while not status.exists():
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            url = json.loads(status.read_text())["url"]
            assert url.startswith("http://[::1]:")
            with urllib.request.urlopen(f"{url}healthz", timeout=90) as answer:
                assert answer.status == 200
        finally:
            process.terminate()
        assert url in process.stderr.read()


def test_the_settings_reach_the_page(tmp_path, free_port):
    port = free_port()
    (tmp_path / "sensorhub.toml").write_text(
        f'[gateway]\ndata_dir = "data"\n[web]\nhost = "localhost"\nport = {port}\nhosts = ["sensors.example"]\n'
    )
    command = [sys.executable, "-m", "sensorhub", "--config", "sensorhub.toml", "run", "web"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + 90
            answers: list[int] = []
            while not answers:
                assert process.poll() is None, process.stdout.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
                with contextlib.suppress(OSError):
                    asked = ("sensors.example", "other.example", "127.0.0.1")
                    answers = [ask(port, "GET /healthz HTTP/1.1", f"Host: {host}") for host in asked]
            assert answers == [200, 421, 200]
        finally:
            process.terminate()
