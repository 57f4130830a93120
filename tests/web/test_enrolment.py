"""Making nodes known over HTTP: who may, what is refused, and that nothing secret is said or written."""

import json
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sensorhub.errors import SensorhubError
from sensorhub.ingest.admission import Admissions
from sensorhub.ingest.users import Users, check_password
from sensorhub.nodes.claims import Claims
from sensorhub.web.app import make_app
from sensorhub.web.enrolment import FAILURES, FORGET_S, LARGEST, Enrolling, Guard

TOKEN = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CLAIM = "00112233445566778899aabbccddeeff"
PASSWORD = "mqtt-secret-word"
SITE_KEY = "ab" * 64
KEYS = {"site": SITE_KEY}
NODE = {"site": "beijing", "node": "w-1", "kind": "weather", "claim": CLAIM, "mqtt_password": PASSWORD}


@pytest.fixture
async def client(site) -> AsyncIterator[TestClient]:
    enrolling = Enrolling(TOKEN, Admissions(site.data_dir), lambda: dict(KEYS))
    async with TestClient(TestServer(make_app(site.gateway, site.prove, enrolling))) as made:
        yield made


async def post(client: TestClient, body: object, headers: object = BEARER) -> tuple[int, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post("/api/v1/nodes", data=data, headers=headers) as answer:
        text = await answer.text()
        assert all(secret not in text for secret in (TOKEN, CLAIM, PASSWORD))
        return answer.status, json.loads(text)


async def test_a_node_is_made_known(client, site):
    owner = "0x" + "12" * 20
    status, made = await post(client, {**NODE, "owner": owner, "place": "wx4g0"})
    assert status == 201
    assert made == {"site": "beijing", "site_key": SITE_KEY, "node": "w-1", "mqtt_user": True}
    claim = Claims(site.data_dir / "claims.json").find("w-1", bytes.fromhex(CLAIM))
    assert (claim.kind, claim.owner_bytes, claim.geohash) == ("weather", bytes.fromhex(owner[2:]), "wx4g0")
    assert check_password(PASSWORD, Users.of(site.data_dir).read()["w-1"])


async def test_a_release_key_that_is_trusted_meanwhile_is_told(client, monkeypatch):
    monkeypatch.setitem(KEYS, "release", "cd" * 64)
    async with client.get("/api/v1/enrolment?node=w-1", headers=BEARER) as answer:
        assert (await answer.json())["release_key"] == "cd" * 64
    assert (await post(client, NODE))[1]["release_key"] == "cd" * 64


async def test_without_a_token_there_is_no_such_endpoint(site):
    async with TestClient(TestServer(make_app(site.gateway, site.prove))) as closed:
        assert (await post(closed, NODE))[0] == 405
        assert (await closed.get("/api/v1/enrolment?node=a")).status == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer wrong"}, 403),
        ({"Authorization": f"Bearer {TOKEN}x"}, 403),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 403),
    ],
)
async def test_who_has_no_token_is_refused(client, site, headers, status):
    assert (await post(client, NODE, headers))[0] == status
    async with client.get("/api/v1/enrolment?node=w-1", headers=headers) as answer:
        assert answer.status == status
    assert not (site.data_dir / "claims.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"site": "elsewhere"},
        {"node": "W 1"},
        {"node": "../w"},
        {"kind": "x" * 65},
        {"kind": "a\nb"},
        {"claim": "00"},
        {"claim": "x" * 32},
        {"claim": CLAIM[:-1]},
        {"owner": "0x12"},
        {"owner": "none"},
        {"place": "x"},
        {"mqtt_password": "short"},
        {"mqtt_password": "with a\nnew line"},
        {"mqtt_password": None},
        {"more": 1},
    ],
)
async def test_what_cannot_be_is_refused_with_a_reason(client, site, change):
    status, said = await post(client, {**NODE, **change})
    assert status == 422
    assert said["error"]
    assert Claims(site.data_dir / "claims.json").waiting() == ()
    assert Users.of(site.data_dir).names() == ()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null"])
async def test_what_is_no_object_is_refused(client, body):
    assert (await post(client, body))[0] == 422


async def test_a_large_body_is_not_read(client):
    assert (await post(client, b"x" * (LARGEST + 1)))[0] == 413


async def test_a_name_is_taken_by_a_user_a_claim_or_a_node_and_may_be_replaced(client, site):
    assert (await post(client, NODE))[0] == 201
    assert (await post(client, NODE))[0] == 409
    assert (await post(client, {**NODE, "node": "aotizhongxin"}))[
        0
    ] == 409  # in the log, without user and claim
    Claims(site.data_dir / "claims.json").add("w-2", "air")
    assert (await post(client, {**NODE, "node": "w-2"}))[0] == 409
    assert (await post(client, {**NODE, "mqtt_password": "another-password", "replace": True}))[0] == 201
    assert check_password("another-password", Users.of(site.data_dir).read()["w-1"])
    for node, taken in (("w-1", True), ("aotizhongxin", True), ("w-9", False)):
        async with client.get(f"/api/v1/enrolment?node={node}", headers=BEARER) as answer:
            assert await answer.json() == {
                "site": "beijing",
                "site_key": SITE_KEY,
                "node": node,
                "taken": taken,
            }


async def test_with_a_broker_of_the_sites_own_no_user_is_made(site):
    enrolling = Enrolling(TOKEN, Admissions(site.data_dir, embedded=False), dict)
    async with TestClient(TestServer(make_app(site.gateway, site.prove, enrolling))) as client:
        status, made = await post(client, {**NODE, "mqtt_password": ""})
        assert (status, made["mqtt_user"]) == (201, False)
    assert Users.of(site.data_dir).names() == ()


async def test_who_guesses_has_to_wait_and_the_right_token_with_it(client):
    wrong = {"Authorization": "Bearer guess"}
    for _ in range(FAILURES):
        assert (await post(client, NODE, wrong))[0] == 403
    async with client.post("/api/v1/nodes", json=NODE, headers=BEARER) as answer:
        assert answer.status == 429
        assert answer.headers["Retry-After"] == "60"


def test_failures_are_forgotten_and_do_not_fill_the_memory():
    class Request:
        def __init__(self, remote: str, token: str) -> None:
            self.remote = remote
            self.headers = {"Authorization": f"Bearer {token}"}

    now = [0.0]
    guard = Guard(TOKEN, clock=lambda: now[0])
    for _ in range(FAILURES):
        assert guard.refuse(Request("a", "x")).status == 403
    assert guard.refuse(Request("a", TOKEN)).status == 429
    assert guard.refuse(Request("b", TOKEN)) is None
    now[0] = FORGET_S
    assert guard.refuse(Request("a", TOKEN)) is None
    for number in range(3000):
        guard.refuse(Request(str(number), "x"))
    assert len(guard._failures) <= 1024


async def test_nothing_secret_is_logged(client, caplog):
    caplog.set_level(logging.DEBUG)
    await post(client, NODE)
    await post(client, {**NODE, "claim": CLAIM[:-1]})
    await post(client, NODE, {"Authorization": "Bearer a-wrong-token-of-somebody"})
    assert "w-1" in caplog.text
    for word in (TOKEN, CLAIM, PASSWORD, "a-wrong-token-of-somebody"):
        assert word not in caplog.text


def test_a_short_token_is_refused(site):
    with pytest.raises(SensorhubError, match="16") as error:
        Enrolling("short", Admissions(site.data_dir), dict)
    assert "short" not in str(error.value)
    assert TOKEN not in repr(Enrolling(TOKEN, Admissions(site.data_dir), dict))
