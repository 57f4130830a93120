"""The JSON API: what it answers, and how it refuses."""

import asyncio
import gzip
import json
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from yarl import URL

import sensorhub.web
from sensorhub import processes
from sensorhub.channels import BY_NAME
from sensorhub.errors import SensorhubError
from sensorhub.flags import Flag
from sensorhub.store.rebuild import rebuild
from sensorhub.store.sqlite import SqliteStore
from sensorhub.verify.proof import parse_proof
from sensorhub.web.flag_table import MEANINGS

FIRST = 1_481_500_800
HOUR = 3600


async def ask(client, path: str, status: int = 200, headers: Mapping[str, str] | None = None):
    answer = await client.get(path, headers=headers or {})
    body = await answer.read()
    assert answer.status == status, (path, body)
    return json.loads(body) if body else None


class TestAnswers:
    async def test_status_shows_gateway_log_store_followers_and_chain(self, client, beijing):
        status = await ask(client, "/api/v1/status")
        assert status["gateway"] == {
            "site": "beijing",
            "name": "rooftop",
            "origin": "beijing.rooftop/sensorhub",
        }
        size = beijing.reader.size()
        assert status["log"]["size"] == status["log"]["checkpoint_size"] == size
        assert status["log"]["root"] == beijing.reader.root().hex()
        assert status["store"]["nodes"] == 4
        assert status["store"]["judged"] == status["store"]["readings"] == status["store"]["trusted"] + 1
        assert status["followers"]["store"] == {"cursor": size, "lag": 0}
        assert status["flags"]["spike"] == 1
        assert status["chain"]["configured"] is False
        assert status["chain"]["last"] is None

    async def test_channels_are_the_channel_table(self, client):
        channels = await ask(client, "/api/v1/channels")
        assert [c["name"] for c in channels] == list(BY_NAME)
        assert channels[0]["unit"] == "ug/m3"

    async def test_every_flag_is_explained(self, client):
        flags = await ask(client, "/api/v1/flags")
        assert set(MEANINGS) == set(Flag)
        assert [1 << f["bit"] for f in flags] == [int(flag) for flag in Flag]
        assert [f["name"] for f in flags if not f["fault"]] == ["isolated", "regional event"]

    async def test_nodes_are_listed_by_name(self, client):
        nodes = await ask(client, "/api/v1/nodes")
        assert [n["node"] for n in nodes] == ["aotizhongxin", "changping", "dongsi", "dongsi-minutes"]
        assert nodes[0]["last_time"] == FIRST + 119 * HOUR
        assert nodes[0]["kind"] == "weather"
        assert nodes[1]["trusted_share"] == 1.0

    async def test_a_node_is_listed_with_what_it_says_of_itself(self, site, open_client):
        said = {
            "state": "online",
            "fw": "0.1.0",
            "spool": "memory",
            "troubles": ["messages in RAM"],
            "at_ms": 5,
        }
        warning = "aotizhongxin: messages in RAM: a power cut loses readings"
        site.report("control", nodes={"aotizhongxin": said, "stranger": said}, warnings=[warning])
        client = await open_client(site)
        nodes = await ask(client, "/api/v1/nodes")
        assert {node["node"]: node["said"] for node in nodes} == {"aotizhongxin": said}
        assert f"control: {warning}" in (await ask(client, "/api/v1/status"))["warnings"]

    @pytest.mark.parametrize("told", [None, [], {"aotizhongxin": "online"}])
    async def test_a_node_that_said_nothing_is_listed_all_the_same(self, site, open_client, told):
        site.report("control", nodes=told)
        client = await open_client(site)
        assert [node["said"] for node in await ask(client, "/api/v1/nodes")] == [None]

    async def test_latest_has_each_channel_with_score_flags_and_the_message_to_prove(self, client):
        rows = await ask(client, "/api/v1/nodes/changping/latest")
        assert [r["channel"] for r in rows] == sorted(r["channel"] for r in rows)
        pm10 = next(r for r in rows if r["channel"] == "pm10")
        assert pm10["value"] == 149.0
        assert pm10["flag_names"] == ["regional event"]
        assert pm10["score"] == 0.902
        assert isinstance(pm10["message"], int)

    async def test_a_node_that_has_sent_nothing_yet_has_no_latest(self, site, open_client):
        site.enrol("balcony")
        site.settle()
        client = await open_client(site)
        assert await ask(client, "/api/v1/nodes/balcony/latest") == []
        series = await ask(client, "/api/v1/series?node=balcony&channel=pm2_5")
        assert series["time"] == []

    async def test_series_gives_single_readings_with_their_verdicts(self, client):
        start, end = FIRST + 38 * HOUR, FIRST + 42 * HOUR
        series = await ask(client, f"/api/v1/series?node=aotizhongxin&channel=pm2_5&start={start}&end={end}")
        assert series["resolution"] == "raw"
        assert series["time"] == [start + h * HOUR for h in range(4)]
        assert series["value"][2] == 985.0
        assert series["score"][2] < 0.5
        assert series["flags"][2] == int(Flag.SPIKE | Flag.RANGE)

    async def test_a_long_series_comes_in_rollups_with_lowest_and_highest(self, client):
        query = "/api/v1/series?node=dongsi-minutes&channel=pm2_5"
        five = await ask(client, f"{query}&limit=1000")
        assert five["resolution"] == "5m"
        assert five["n"] == [5] * 720
        assert all(
            low <= mean <= high
            for low, mean, high in zip(five["min"], five["mean"], five["max"], strict=True)
        )
        hours = await ask(client, f"{query}&limit=100")
        assert hours["resolution"] == "1h"
        assert hours["n"] == [60] * 60
        assert hours["truncated"] is False
        assert (await ask(client, f"{query}&resolution=raw&limit=10"))["truncated"] is True

    async def test_a_direction_has_steadiness_instead_of_lowest_and_highest(self, client):
        series = await ask(client, "/api/v1/series?node=changping&channel=wind_direction&resolution=1h")
        assert set(series["min"]) == {None}
        assert all(0 <= x <= 1 for x in series["steadiness"])

    async def test_a_known_node_without_the_channel_has_an_empty_series(self, client):
        series = await ask(client, "/api/v1/series?node=changping&channel=co2")
        assert series["time"] == series["value"] == []

    async def test_a_proof_is_the_provers_file_byte_for_byte(self, client, beijing):
        answer = await client.get("/api/v1/proof/7")
        body = await answer.read()
        assert answer.headers["Content-Disposition"] == 'attachment; filename="proof-7.json"'
        assert body == beijing.prove(7)
        assert parse_proof(body).entry.index == 7

    async def test_an_entry_that_no_checkpoint_covers_yet_can_be_asked_for_again(self, site, open_client):
        client = await open_client(site)
        index = site.message("aotizhongxin", FIRST + 99 * HOUR, [("pm2_5", 5.0, 0.0)])
        site.log.commit()
        answer = await client.get(f"/api/v1/proof/{index}")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        site.log.checkpoint()
        assert (await client.get(f"/api/v1/proof/{index}")).status == 200


REFUSED = [
    ("series?channel=pm2_5", "node", None),
    ("series?node=&channel=pm2_5", "node", ""),
    ("series?node=Dongsi&channel=pm2_5", "node", "Dongsi"),
    (f"series?node={'n' * 4000}&channel=pm2_5", "node", None),
    ("series?node=../etc&channel=pm2_5", "node", "../etc"),
    ("series?node=%00&channel=pm2_5", "node", "\x00"),
    ("series?node=dongsi", "channel", None),
    ("series?node=dongsi&channel=pm3", "channel", "pm3"),
    ("series?node=dongsi&channel=frame_sha256", "channel", "frame_sha256"),
    ("series?node=dongsi&channel=pm10&resolution=1s", "resolution", "1s"),
    ("series?node=dongsi&channel=pm10&strat=3", "strat", "3"),
    ("series?node=dongsi&channel=pm10&end=3&end=4", "end", "3, 4"),
    ("series?node=dongsi&channel=pm10&limit=0", "limit", "0"),
    ("series?node=dongsi&channel=pm10&limit=50001", "limit", "50001"),
    ("series?node=dongsi&channel=pm10&limit=-1", "limit", "-1"),
    ("series?node=dongsi&channel=pm10&limit=%D9%A3", "limit", "٣"),
    *(
        (f"series?node=dongsi&channel=pm10&start={text}", "start", text)
        for text in (
            "nan",
            "inf",
            "-inf",
            "1e308",
            "-1e308",
            "1e999",
            "0x10",
            "1_000",
            "yesterday",
            "",
            "2016-02-30",
            "2016-12-21T08",
            "9" * 40,
        )
    ),
    # a + in a URL is a blank
    ("series?node=dongsi&channel=pm10&end=2016-12-12T08:00+08:00", "end", "2016-12-12T08:00 08:00"),
    ("quality?start=tomorrow", "start", "tomorrow"),
    ("explain?node=dongsi&channel=pm10&time=noon", "time", "noon"),
    ("explain?node=dongsi&channel=pm10", "time", None),
    ("proof/x", "index", "x"),
    ("proof/-1", "index", "-1"),
    (f"proof/{'9' * 19}", "index", "9" * 19),
    ("proof/%D9%A3", "index", "٣"),
    ("nodes/UP/latest", "node", "UP"),
    ("nodes/%2e%2e%2fx/latest", "node", "../x"),
    ("nodes?node=dongsi", "node", "dongsi"),
    ("status?verbose=1", "verbose", "1"),
]


class TestRefusals:
    @pytest.mark.parametrize(("path", "parameter", "value"), REFUSED, ids=[r[0][:60] for r in REFUSED])
    async def test_a_wrong_parameter_is_named_with_what_is_allowed(self, client, path, parameter, value):
        refusal = await ask(client, f"/api/v1/{path}", 400)
        assert refusal["parameter"] == parameter
        assert refusal["allowed"]
        if value is not None:
            assert refusal["value"] == value
            assert parameter in refusal["error"]
        assert len(json.dumps(refusal)) < 1500

    @pytest.mark.parametrize(
        "start", ["0", "-5", "1481500800.5", "1.4815008e9", "-62135596800", "253402300800"]
    )
    async def test_times_of_the_years_1_to_9999_are_fine(self, client, start):
        await ask(client, f"/api/v1/series?node=dongsi&channel=pm10&start={start}")

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            ("2016-12-12T02:00", "2016-12-12T04:00:00Z"),
            ("2016-12-12T10:00%2B08:00", "2016-12-11T20:00:00.000-08:00"),
            ("2016-12-12%2002:00", str(FIRST + 4 * HOUR)),
        ],
    )
    async def test_times_in_iso_8601_mean_the_same_as_unix_seconds(self, client, start, end):
        query = "/api/v1/series?node=dongsi&channel=pm10"
        unix = await ask(client, f"{query}&start={FIRST + 2 * HOUR}&end={FIRST + 4 * HOUR}")
        assert unix["time"] == [FIRST + 2 * HOUR, FIRST + 3 * HOUR]
        assert await ask(client, f"{query}&start={start}&end={end}") == unix
        days = await ask(client, "/api/v1/quality?start=2016-12-13&end=2016-12-14")
        assert {day["day"] for day in days["days"]} == {"2016-12-13"}

    async def test_a_time_that_is_none_says_how_to_write_one(self, client):
        refusal = await ask(
            client, "/api/v1/series?node=dongsi&channel=pm10&start=2016-12-12T08:00+08:00", 400
        )
        assert refusal["error"].startswith(
            "start is '2016-12-12T08:00 08:00'; allowed is a time of the years 1 to 9999: "
        )
        assert "2016-12-21T16:00+08:00" in refusal["allowed"]
        assert "Unix seconds, such as 1482307200" in refusal["allowed"]
        assert refusal["allowed"].endswith("in a URL, + is written %2B")

    async def test_an_end_before_the_start_is_an_empty_range(self, client):
        series = await ask(
            client, f"/api/v1/series?node=dongsi&channel=pm10&start={FIRST + HOUR}&end={FIRST}"
        )
        assert series["time"] == []

    @pytest.mark.parametrize(
        "path",
        [
            "nodes/nobody/latest",
            "series?node=nobody&channel=pm10",
            "proof/999999",
            "nothing",
            "nodes/dongsi",
            "nodes/a%2Fb%2Fc",
        ],
    )
    async def test_what_does_not_exist_is_not_found(self, client, path):
        assert "error" in await ask(client, f"/api/v1/{path}", 404)

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
    @pytest.mark.parametrize("path", ["/", "/api/v1/status", "/log/checkpoint", "/static/page.js"])
    async def test_everything_is_only_read(self, client, method, path):
        answer = await client.request(method, path)
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET,HEAD"
        assert "error" in json.loads(await answer.read())

    async def test_a_bug_is_an_answer_too(self, site, open_client, caplog):
        site.prove = lambda _index: 1 / 0
        client = await open_client(site)
        refusal = await ask(client, "/api/v1/proof/1", 500)
        assert "ZeroDivisionError" not in refusal["error"]
        assert "ZeroDivisionError" in caplog.text

    async def test_a_proof_that_cannot_be_made_says_why(self, site, open_client):
        def prove(_index):
            raise SensorhubError("node balcony has too many entries: export a dataset instead")

        site.prove = prove
        client = await open_client(site)
        assert "export a dataset" in (await ask(client, "/api/v1/proof/1", 422))["error"]


class TestStartingAndChanging:
    PATHS = (
        "/api/v1/status",
        "/api/v1/nodes",
        "/api/v1/nodes/dongsi/latest",
        "/api/v1/series?node=dongsi&channel=pm10",
        "/api/v1/proof/0",
        "/log/checkpoint",
        "/log/tile/0/000.p/1",
    )

    async def test_a_gateway_that_starts_answers_503_and_then_recovers(self, empty, open_client):
        client = await open_client(empty)
        for path in self.PATHS:
            answer = await client.get(path)
            assert answer.status == 503, path
            assert answer.headers["Retry-After"] == "1"
            assert "starting" in json.loads(await answer.read())["error"]
        assert (await client.get("/healthz")).status == 200
        assert (await client.get("/")).status == 200
        empty.begin()
        empty.replay("Dongsi", 3)
        empty.settle()
        for path in self.PATHS:
            assert (await client.get(path)).status == 200, path

    async def test_a_store_whose_tables_are_not_made_yet_is_starting(self, site, open_client):
        site.store.close()
        for file in site.data_dir.glob("store.sqlite*"):
            file.unlink()
        (site.data_dir / "store.sqlite").touch()
        client = await open_client(site)
        assert "starting" in (await ask(client, "/api/v1/nodes", 503))["error"]
        rebuild(site.reader, site.data_dir / "store.sqlite")
        assert await ask(client, "/api/v1/nodes")

    async def test_a_store_that_is_not_ready_does_not_hide_the_log(self, site, open_client):
        site.store.close()
        path = site.data_dir / "store.sqlite"
        for file in site.data_dir.glob("store.sqlite*"):
            file.unlink()
        sqlite3.connect(path).execute("CREATE TABLE other (x)").connection.close()
        client = await open_client(site)
        refusal = await ask(client, "/api/v1/nodes", 503)
        assert "rebuild store" in refusal["error"]
        assert (await client.get("/log/checkpoint")).status == 200

    def test_a_proof_needs_no_store(self, site):
        index = site.message("aotizhongxin", FIRST + 70 * HOUR, [("pm2_5", 7.5, 0.0)])
        site.settle()
        proof = processes.prove(site.data_dir, index)
        site.store.close()
        path = site.data_dir / "store.sqlite"
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        assert processes.prove(site.data_dir, index) == proof
        path.unlink()
        assert processes.prove(site.data_dir, index) == proof

    async def test_a_rebuilt_store_is_taken_up_while_serving(self, site, open_client):
        client = await open_client(site)
        before = await ask(client, "/api/v1/nodes/aotizhongxin/latest")
        site.store.close()
        rebuild(site.reader, site.data_dir / "store.sqlite")
        assert await ask(client, "/api/v1/nodes/aotizhongxin/latest") == before
        site.store = SqliteStore(site.data_dir / "store.sqlite")
        index = site.message("aotizhongxin", FIRST + 60 * HOUR, [("pm2_5", 7.5, 0.0)])
        site.settle()
        latest = await ask(client, "/api/v1/nodes/aotizhongxin/latest")
        assert next(r for r in latest if r["channel"] == "pm2_5")["message"] == index

    async def test_silent_and_failing_processes_are_warned_of(self, site, open_client):
        site.report("quality", cursor=3, updated_ms=1)
        site.report("store", cursor=3, error="disk full")
        site.report("ingest", warnings=["the broker drops above 1,000 messages"])
        site.report("chain", error="of a time when there was a chain")
        client = await open_client(site)
        status = await ask(client, "/api/v1/status")
        assert any(w.startswith("quality: no sign of life") for w in status["warnings"])
        assert "store: disk full" in status["warnings"]
        assert "ingest: the broker drops above 1,000 messages" in status["warnings"]
        assert not any(w.startswith("chain") for w in status["warnings"])
        assert status["followers"]["quality"]["lag"] == site.reader.size() - 3

    async def test_the_newest_post_on_the_chain_is_shown(self, site, open_client):
        site.gateway.chain_configured = True
        site.report(
            "chain",
            cursor=50,
            last_seq=3,
            last_size=50,
            last_tx="0x" + "ab" * 32,
            last_block=1234,
            gas_last=61_000,
            gas_mean=62_500,
            posted=3,
            contract="0x" + "11" * 20,
            chain_id=31337,
            error=None,
        )
        client = await open_client(site)
        chain = (await ask(client, "/api/v1/status"))["chain"]
        assert chain["last"] == {"seq": 3, "size": 50, "tx": "0x" + "ab" * 32, "block": 1234, "gas": 61_000}
        assert (chain["posted"], chain["gas_mean"], chain["chain_id"]) == (3, 62_500, 31337)
        assert chain["contract"] == "0x" + "11" * 20

    async def test_a_damaged_checkpoint_is_warned_of_and_not_believed(self, site, open_client):
        (site.data_dir / "log" / "checkpoint").write_bytes(b"nonsense\n")
        client = await open_client(site)
        status = await ask(client, "/api/v1/status")
        assert status["log"]["root"] is None
        assert any("checkpoint" in w for w in status["warnings"])

    async def test_new_readings_show_within_a_moment(self, site, open_client):
        client = await open_client(site)
        before = (await ask(client, "/api/v1/status"))["store"]["readings"]
        site.message("aotizhongxin", FIRST + 60 * HOUR, [("pm2_5", 7.5, 0.0)])
        site.settle()
        deadline = time.monotonic() + 90
        while (await ask(client, "/api/v1/status"))["store"]["readings"] != before + 1:
            assert time.monotonic() < deadline, "the new reading never showed"
            await asyncio.sleep(0.05)


class TestUnderLoad:
    async def test_many_ask_while_the_store_is_rebuilt_again_and_again(self, site, open_client):
        client = await open_client(site)
        site.store.close()
        path = site.data_dir / "store.sqlite"
        paths = [
            "/api/v1/status",
            "/api/v1/nodes",
            "/api/v1/nodes/aotizhongxin/latest",
            "/api/v1/series?node=aotizhongxin&channel=pm10",
            "/api/v1/series?node=aotizhongxin&channel=pm10&resolution=1h",
            "/log/tile/0/000.p/9",
        ]
        expected = {path: await ask(client, path) for path in paths[1:5]}

        async def visit(turn: int) -> None:
            for path in paths[turn % 6 :] + paths[: turn % 6]:
                answer = await client.get(path)
                body = await answer.read()
                assert answer.status == 200, (path, body)
                if path in expected:
                    assert json.loads(body) == expected[path]

        for _ in range(4):
            await asyncio.gather(asyncio.to_thread(rebuild, site.reader, path), *map(visit, range(12)))
        site.store = SqliteStore(path)

    async def test_more_proofs_than_can_wait_are_told_to_come_back(self, site, open_client):
        released = threading.Event()
        real = site.prove

        def slow(index: int) -> bytes:
            released.wait(240)
            return real(index)

        site.prove = slow
        client = await open_client(site)
        asked = [asyncio.create_task(client.get(f"/api/v1/proof/{index}")) for index in range(40)]
        done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status for task in done} == {503}
        assert (await client.get("/api/v1/nodes")).status == 200, "other questions do not wait for proofs"
        released.set()
        statuses = sorted([task.result().status for task in done] + [(await task).status for task in waiting])
        assert statuses == [200] * 32 + [503] * 8


def test_the_readme_describes_every_endpoint_and_status(site):
    readme = (Path(sensorhub.web.__file__).parent / "README.md").read_text()
    for route in site.app().router.resources():
        path = route.canonical
        assert f"`{path}`" in readme or path in ("/static/{path}", "/"), path
    for status in (400, 404, 405, 422, 500, 503):
        assert f"\n| {status} |" in readme


class TestRawRequests:
    """What no well-behaved client sends."""

    @pytest.mark.parametrize(
        "request_line",
        [
            b"BREW / HTTP/1.1",
            b"GET /log/tile/../../../keys/note.key HTTP/1.1",
            b"GET /static/../../app.py HTTP/1.1",
            b"GET /../../../../etc/passwd HTTP/1.1",
            b"GET //etc/passwd HTTP/1.1",
            b"GET http://other.example/api/v1/none HTTP/1.1",
            b"GET /api/v1/nodes/\xff\xfe/latest HTTP/1.1",
            b"GET /api/v1/series?node=\xff\xfe&channel=pm10 HTTP/1.1",
            b"GET /api/v1/series?%ff=%fe HTTP/1.1",
            b"GET /api/v1/proof/%ff HTTP/1.1",
            b"GET /" + b"a" * 20_000 + b" HTTP/1.1",
            b"GET / HTTP/9.9",
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"",
        ],
    )
    async def test_is_refused_and_the_gateway_goes_on(self, client, beijing_server, request_line):
        reader, writer = await asyncio.open_connection("127.0.0.1", beijing_server.port)
        writer.write(request_line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 90)
        writer.close()
        assert answer[9:10] == b"4", answer[:200]
        assert b"PRIVATE+KEY" not in answer
        assert b"root:" not in answer
        assert (await client.get("/healthz")).status == 200


class TestTransport:
    async def test_long_answers_are_compressed_for_those_who_take_it(self, client):
        path = "/api/v1/series?node=dongsi-minutes&channel=pm2_5"
        plain = await (await client.get(path, headers={"Accept-Encoding": "identity"})).read()
        answer = await client.get(path, headers={"Accept-Encoding": "br, gzip;q=0.8"})
        packed = await answer.read()
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert gzip.decompress(packed) == plain
        assert len(packed) * 4 < len(plain)
        refused = await client.get(path, headers={"Accept-Encoding": "gzip;q=0, identity"})
        assert "Content-Encoding" not in refused.headers

    async def test_short_answers_are_not(self, client):
        answer = await client.get("/api/v1/nodes/dongsi-minutes/latest", headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in answer.headers

    async def test_an_unchanged_answer_is_not_sent_again(self, client):
        for path in ("/api/v1/nodes/dongsi/latest", "/log/checkpoint", "/static/page.js", "/"):
            first = await client.get(path)
            tag = first.headers["ETag"]
            again = await client.get(path, headers={"If-None-Match": f'"other", {tag}'})
            assert again.status == 304, path
            assert await again.read() == b""
            assert again.headers["ETag"] == tag
            assert again.headers["Cache-Control"] == "no-cache"
            assert (await client.get(path, headers={"If-None-Match": '"other"'})).status == 200

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/healthz",
            "/api/v1/nodes",
            "/api/v1/series?node=dongsi&channel=pm10",
            "/api/v1/proof/3",
            "/log/checkpoint",
            "/log/tile/0/000",
            "/static/page.css",
            "/api/v1/nodes/nobody/latest",
        ],
    )
    async def test_head_is_get_without_the_body(self, client, path):
        get, head = await client.get(path), await client.head(path)
        assert head.status == get.status
        assert await head.read() == b""
        for name in ("Content-Type", "Content-Length", "ETag"):
            assert head.headers.get(name) == get.headers.get(name)

    @pytest.mark.parametrize(
        "path", ["/", "/api/v1/nodes", "/api/v1/none", "/log/checkpoint", "/static/page.js", "/healthz"]
    )
    async def test_every_answer_keeps_the_page_to_itself(self, client, path):
        headers = (await client.get(path)).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Server"] == "sensorhub"
        assert "Access-Control-Allow-Origin" not in headers


class TestFiles:
    async def test_the_page_and_all_it_names_are_there_and_from_here(self, client):
        page = (await (await client.get("/")).read()).decode()
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "https://" not in page
        for name in ("icon.svg", "page.css", "page.js", "chart.js", "tables.js", "format.js", "dom.js"):
            assert (await client.get(f"/static/{name}")).status == 200
        script = await client.get("/static/page.js")
        assert script.content_type == "text/javascript"

    async def test_the_chart_library_is_served_compressed(self, client):
        answer = await client.get("/static/vendor/uPlot.esm.js", headers={"Accept-Encoding": "gzip"})
        assert answer.status == 200, "run `npm ci && npm run vendor` in gateway/sensorhub/web"
        assert int(answer.headers["Content-Length"]) < 50_000

    @pytest.mark.parametrize(
        "path",
        [
            "../app.py",
            "%2e%2e/app.py",
            "..%2fapp.py",
            "%2e%2e%2f%2e%2e%2fchannels.py",
            "//etc/passwd",
            "%2fetc%2fpasswd",
            "vendor",
            "vendor/",
            "%00",
            "page.js%00.html",
            "x" * 5000,
            "%ff%fe",
            "..\\app.py",
        ],
    )
    async def test_nothing_else_is(self, client, path):
        answer = await client.get(URL(f"/static/{path}", encoded=True))
        assert answer.status == 404
        assert len(await answer.read()) < 400
