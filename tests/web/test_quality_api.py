"""How readings were judged, what people said of it, and why: over the API."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sensorhub.log.entries import ArtefactEntry, encode_entry
from sensorhub.quality.reviews import Action, Review, review
from sensorhub.store import rebuild
from sensorhub.web import explaining
from sensorhub.web.app import Gateway, make_app

DAY = 86_400
FIRST = 1_481_500_800
NODE = "aotizhongxin"


@pytest.fixture
async def client(site):
    async with TestClient(TestServer(site.app())) as client:
        yield client


class Writer:
    """Appends to the site's log as the gateway's socket does."""

    def __init__(self, site) -> None:
        self._log = site.log

    def append(self, entries):
        first = self._log.append_many(list(entries))
        self._log.commit()
        return first


async def get(client, path: str, status: int = 200):
    async with client.get(path) as response:
        body = await response.json()
        assert response.status == status, body
        return body


async def spike(client) -> tuple[int, int, float]:
    """Message, record and time of the one absurd reading."""
    series = await get(client, f"/api/v1/series?node={NODE}&channel=pm2_5&resolution=raw")
    at = series["value"].index(985.0)
    return series["message"][at], series["record"][at], series["time"][at]


def say(site, *args, **kwargs) -> None:
    review(site.reader, Writer(site), Review(*args, **kwargs))
    site.settle()


async def test_quality_is_told_by_node_and_day_with_its_reasons(client):
    told = await get(client, f"/api/v1/quality?node={NODE}")
    assert [day["day"] for day in told["days"]] == ["2016-12-12", "2016-12-13"]
    assert not told["truncated"]
    first, second = told["days"]
    assert first["time"] == FIRST
    assert first["judged"] == first["readings"] > 200
    assert first["trusted_share"] == 1.0
    assert first["flags"] == {"isolated": first["judged"] - 1, "regional event": 1}
    assert second["flags"]["spike"] == second["flags"]["range"] == 1
    assert second["trusted"] == second["judged"] - 1
    assert 0.7 < second["mean_score"] < 0.75


async def test_quality_can_be_asked_of_a_channel_and_a_time(client):
    one = await get(client, f"/api/v1/quality?channel=pm2_5&start={FIRST + DAY + 5}&end={FIRST + DAY + 6}")
    assert [(day["node"], day["day"], day["readings"]) for day in one["days"]] == [(NODE, "2016-12-13", 24)]
    assert (await get(client, "/api/v1/quality?limit=1"))["truncated"]
    assert (await get(client, f"/api/v1/quality?node={NODE}&start={FIRST + 9 * DAY}"))["days"] == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("node=none-such", 404),
        ("node=", 400),
        ("channel=frame_sha256", 400),
        ("start=tomorrow", 400),
        ("limit=0", 400),
        ("day=1", 400),
    ],
)
async def test_wrong_questions_about_quality_are_refused(client, query, status):
    assert "error" in await get(client, f"/api/v1/quality?{query}", status)


async def test_quality_is_the_same_after_a_rebuild(client, site):
    before = await get(client, "/api/v1/quality")
    site.store.close()
    rebuild(site.reader, site.data_dir / "store.sqlite")
    assert await get(client, "/api/v1/quality") == before


async def test_a_correction_shows_in_the_day_and_among_the_reviews(client, site):
    message, record, at = await spike(client)
    say(site, message, record, Action.CORRECT, "fireworks beside the node", "Kim", sound=True)
    told = (await get(client, f"/api/v1/quality?node={NODE}"))["days"][1]
    assert told["trusted"] == told["judged"]
    assert "spike" not in told["flags"]
    (one,) = await get(client, "/api/v1/reviews")
    assert (one["node"], one["channel"], one["time"], one["value"]) == (NODE, "pm2_5", at, 985.0)
    assert (one["action"], one["sound"], one["by"]) == ("correct", True, "Kim")
    assert one["reason"] == "fireworks beside the node"
    assert await get(client, "/api/v1/reviews?node=dongsi") == []


async def test_a_muted_series_is_told_until_its_time(client, site):
    message, record, _ = await spike(client)
    until = int(time.time()) + 5000
    say(site, message, record, Action.MUTE, "repair on Friday", "Kim", until=until)
    status = await get(client, "/api/v1/status")
    assert status["muted"] == [
        {"node": NODE, "channel": "pm2_5", "until": until, "reason": "repair on Friday", "by": "Kim"}
    ]
    rows = {row["channel"]: row for row in await get(client, f"/api/v1/nodes/{NODE}/latest")}
    assert rows["pm2_5"]["muted_until"] == until
    assert rows["pm10"]["muted_until"] is None
    await asyncio.sleep(0.6)
    say(site, message, record, Action.MUTE, "repaired", "Kim", until=int(time.time()) - 1)
    assert (await get(client, "/api/v1/status"))["muted"] == []


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"action":"confirm"}',
        '{"action":"mute","by":"x","message":"1","reason":"x","record":0,"until":9}',
        '{"action":"mute","by":"x","message":1,"reason":"x","record":-1,"until":9}',
        '{"action":"confirm","by":"x","message":99999999,"reason":"x","record":0}',
        '{"action":"confirm","by":"x","message":2,"reason":"x","record":250}',
        '{"action":"confirm","by":["x"],"message":2,"reason":"x","record":0}',
        '{"action":"confirm","by":"x","message":0,"reason":"x","record":0}',
        "[" * 60_000,
        '{"action":"mute","by":"x","message":2,"reason":"\\ud800","record":0,"until":2000000000}',
        '{"action":"mute","by":"x","message":2,"reason":"x","record":0,"until":1000000000000000000000000}',
    ],
)
async def test_artefacts_that_only_call_themselves_reviews_stop_nothing(client, site, text):
    Writer(site).append(
        [encode_entry(ArtefactEntry(1, "review", hashlib.sha256(text.encode()).digest(), text))]
    )
    site.settle()
    assert await get(client, "/api/v1/reviews") == []
    assert (await get(client, "/api/v1/status"))["muted"] == []


async def test_the_status_names_judge_and_model_and_warns_when_it_takes_no_part(client, site):
    site.report("quality", cursor=1, judge="rules/2+evidence/1", model="ab" * 32, model_error=None)
    status = await get(client, "/api/v1/status")
    assert status["quality"] == {"judge": "rules/2+evidence/1", "model": "ab" * 32, "model_error": None}
    assert not any("model" in warning for warning in status["warnings"])
    await asyncio.sleep(0.6)
    site.report("quality", cursor=1, judge="rules/2+evidence/1", model=None, model_error="it did not answer")
    status = await get(client, "/api/v1/status")
    assert status["quality"]["model"] is None
    assert [w for w in status["warnings"] if "it did not answer" in w and w.startswith("quality: ")]


async def test_a_reading_is_explained_in_words_and_as_a_picture(client):
    message, record, at = await spike(client)
    query = f"node={NODE}&channel=pm2_5&time={at + 600}"
    told = await get(client, f"/api/v1/explain?{query}")
    assert (told["node"], told["channel"], told["message"], told["record"]) == (
        NODE,
        "pm2_5",
        message,
        record,
    )
    assert (told["time"], told["value"], told["unit"]) == (at, 985.0, "ug/m3")
    assert told["logged"]["flag_names"] == ["range", "spike"]
    assert told["logged"]["score"] == pytest.approx(20 / 255)
    assert told["expected"] is None
    assert told["history"]["value"][-1] == 985.0
    assert any("neighbour" in sentence for sentence in told["words"])
    assert "picture" not in told
    async with client.get(f"/api/v1/explain.svg?{query}") as response:
        assert response.status == 200
        assert response.content_type == "image/svg+xml"
        assert (await response.text()).startswith("<svg")
        tag = response.headers["ETag"]
    async with client.get(f"/api/v1/explain.svg?{query}", headers={"If-None-Match": tag}) as response:
        assert response.status == 304


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"node={NODE}&channel=pm2_5", 400),
        (f"node={NODE}&time=1", 400),
        (f"node={NODE}&channel=frame_sha256&time=1", 400),
        (f"node={NODE}&channel=pm2_5&time=1", 404),
        (f"node=none-such&channel=pm2_5&time={FIRST}", 404),
    ],
)
async def test_what_cannot_be_explained_is_named(client, query, status):
    assert "error" in await get(client, f"/api/v1/explain?{query}", status)


async def test_an_explanation_that_takes_too_long_is_ended(client, monkeypatch):
    monkeypatch.setattr(explaining, "MOST_SECONDS", 0)
    told = await get(client, f"/api/v1/explain?node={NODE}&channel=pm2_5&time={FIRST}", 503)
    assert "sensorhub quality explain" in told["error"]


async def test_one_is_made_at_a_time_and_few_wait(client, monkeypatch):
    running, most, gate = 0, 0, asyncio.Event()

    async def made(self, *args):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return json.dumps({"picture": "", "asked": str(args)}).encode()

    monkeypatch.setattr(explaining.Explaining, "_made", made)
    paths = [f"/api/v1/explain?node={NODE}&channel=pm2_5&time={FIRST + 3600 * k}" for k in range(8)]

    async def status(path):
        async with client.get(path) as response:
            return response.status

    asked = [asyncio.create_task(status(path)) for path in paths]
    while sum(task.done() for task in asked) < 4:  # the others are refused at once
        await asyncio.sleep(0.01)
    gate.set()
    found = await asyncio.gather(*asked)
    assert most == 1
    assert sorted(found) == [200] * 4 + [503] * 4
    assert await status(paths[found.index(200)]) == 200


async def test_a_model_that_is_refused_is_not_asked(site, tmp_path):
    file = tmp_path / "wrong.tflite"
    file.write_bytes(b"wrong")
    app = make_app(
        Gateway(site.data_dir, chain_configured=False),
        site.prove,
        judge=explaining.Judge(str(file), "0" * 64),
    )
    async with TestClient(TestServer(app)) as client:
        told = await get(client, f"/api/v1/explain?node={NODE}&channel=pm2_5&time={FIRST}")
    assert told["chances"] == {}
