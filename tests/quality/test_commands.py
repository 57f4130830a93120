"""`sensorhub quality` and `sensorhub train` as people call them, on a real log with its append socket."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from sensorhub.log.entries import REVIEW, VerdictEntry, decode_entry
from sensorhub.quality import follower as module
from sensorhub.quality.follower import RulesFollower
from sensorhub.quality.model import shipped
from sensorhub.status import StatusFile
from sensorhub.store import SqliteStore

START = 1_700_006_400
NODES = ("alder", "birch", "cedar")

MUTE = [
    "quality",
    "review",
    "mute",
    "cedar",
    "temperature",
    "2099-01-01",
    "--by",
    "Ada",
    "--reason",
    "on the roof",
]


@pytest.fixture
def site(house, monkeypatch):
    """Three days of three nodes, judged by the rules and stored; one temperature is absurd."""
    monkeypatch.setattr(module, "PAUSE", 0.0)
    entries = []
    for hour in range(72):
        # warmer by the day: days alike would be a replay
        common = 12 + 0.12 * hour + 6 * math.sin(hour / 24 * 2 * math.pi)
        for j, node in enumerate(NODES):
            value = common + j + 0.3 * math.sin(3 * hour + j) + 60 * (node == "birch" and hour == 60)
            entries.append(house.message(node, START + 3600 * hour, [("temperature", round(value, 1), 0)]))
    house.append(entries)
    with house.client() as client:
        RulesFollower(house.reader, client).apply(list(house.reader.entries(0)))
    data = house.path.parent
    (data / "run").mkdir()
    (data / "run" / "log.sock").symlink_to(house.socket)
    follow(house)
    return house


def follow(house) -> None:
    with SqliteStore(house.path.parent / "store.sqlite") as store:
        while store.cursor() < house.reader.size():
            store.apply(list(house.reader.entries(store.cursor())))


@pytest.fixture
def call(tmp_path):
    def run(*words, code: int = 0, data: Path | None = None):
        done = subprocess.run(
            [sys.executable, "-m", "sensorhub", *map(str, words)],
            cwd=tmp_path,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(tmp_path),
                "COLUMNS": "160",
                "SENSORHUB_GATEWAY_DATA_DIR": str(data or tmp_path / "data"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def table(path: Path, hours: int = 240, fault: tuple[int, int] = (200, 220), *, label: bool = False) -> Path:
    rng = np.random.default_rng(3)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["node_id", "sensor", "timestamp", "value", "lat", "lon", *(["label"] if label else [])])
        for hour in range(hours):
            common = 15 + 8 * math.sin(hour / 24 * 2 * math.pi)
            for j in range(5):
                bad = j == 2 and fault[0] <= hour < fault[1]
                value = common + j + rng.normal(0, 0.3) + 12 * bad
                row = [f"n{j}", "temperature", START + 3600 * hour, round(value, 1), 47 + 0.01 * j, 15.4]
                out.writerow(row + ([("offset" if bad else "clean")] if label else []))
    return path


def test_score_gives_a_line_for_each_line(call, tmp_path):
    source = table(tmp_path / "in.csv")
    rows = list(csv.DictReader(source.open()))
    call("quality", "score", source, tmp_path / "out.csv")
    scores = [float(row["score"]) for row in csv.DictReader((tmp_path / "out.csv").open())]
    assert len(scores) == len(rows)
    assert all(0 <= score <= 1 for score in scores)
    bad = [
        s
        for s, r in zip(scores, rows, strict=True)
        if r["node_id"] == "n2"
        and float(r["timestamp"]) >= START + 3600 * 202
        and float(r["timestamp"]) < START + 3600 * 220
    ]
    good = [s for s, r in zip(scores, rows, strict=True) if r["node_id"] == "n4"]
    assert np.median(bad) > 0.5 > np.median(good)


def test_score_with_another_model_or_none(call, tmp_path):
    source = table(tmp_path / "in.csv", 100, (90, 95))
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(shipped().path.read_bytes())
    call("quality", "score", source, tmp_path / "a.csv")
    call("quality", "score", source, tmp_path / "b.csv", "--model", copy)
    call("quality", "score", source, tmp_path / "c.csv", "--no-model")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert (tmp_path / "a.csv").read_text() != (tmp_path / "c.csv").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["score", "none.csv", "out.csv"], "none.csv"),
        (["score", "bad.csv", "out.csv"], "no table with the columns"),
        (["score", "odd.csv", "out.csv"], "'salinity'|salinity"),
        (["score", "in.csv", "out.csv", "--model", "in.csv"], "in.csv cannot be run"),
        (["score", "in.csv", "out.csv", "--model", "none.tflite"], "none.tflite cannot be read"),
        (["explain", "alder", "temperature", "yesterday"], "'yesterday' is no time"),
        (["explain", "alder", "temperature", "inf"], "'inf' is no time"),
        (["explain", "alder", "temperature", "5"], "there is no log"),
        (["review", "confirm", "alder", "temperature", "5"], "give --reason"),
        (["review", "confirm", "alder", "temperature", "5", "--reason", "x"], "there is no log"),
        (["days"], "there is no store"),
        (["bench", "none.csv"], "none.csv"),
        (["bench", "in.csv", "--log"], "not both"),
        (["bench", "--log"], "there is no log"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_one_line(call, tmp_path, words, said):
    table(tmp_path / "in.csv", 5)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "odd.csv").write_text("node_id,sensor,timestamp,value,lat,lon\nn,salinity,1,2,3,4\n")
    done = call("quality", *words, code=1)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO: Created TensorFlow")]
    assert len(lines) == 1, done.stderr
    assert any(part in lines[0] for part in said.split("|"))


def test_explain_says_why_in_words_and_as_a_picture(call, site, tmp_path):
    when = datetime.fromtimestamp(START + 60 * 3600, UTC).strftime("%Y-%m-%dT%H:%M")
    done = call("quality", "explain", "birch", "temperature", when, "-o", tmp_path / "why.svg")
    assert "record 0" in done.stdout
    assert "From its neighbours" in done.stdout
    assert "The log's verdict by rules/2" in done.stdout
    assert "range" in done.stdout
    root = ET.parse(tmp_path / "why.svg").getroot()
    assert root.tag.endswith("svg")
    told = json.loads(
        call("quality", "explain", "birch", "temperature", START + 60 * 3600, "--json", "--whole").stdout
    )
    assert told["value"] > 60
    assert {n["node"] for n in told["neighbours"]} == {"alder", "cedar"}
    done = call("quality", "explain", "birch", "temperature", START - 86_400, code=1)
    assert "within an hour" in done.stderr


def test_a_person_corrects_confirms_and_mutes(call, site):
    at = START + 60 * 3600
    done = call(
        "quality",
        "review",
        "correct",
        "birch",
        "temperature",
        at,
        "sound",
        "--reason",
        "sauna",
        "--by",
        "Kim",
    )
    assert "written to entry" in done.stdout
    index = int(done.stdout.split()[-1])
    assert decode_entry(site.reader.entry(index)).what == "review"
    verdict = decode_entry(site.reader.entry(index + 1))
    assert isinstance(verdict, VerdictEntry)
    assert verdict.rules == REVIEW
    call(
        "quality", "review", "confirm", "alder", "temperature", START, "--reason", "as it was", "--by", "Ada"
    )
    call(*MUTE)
    listed = call("quality", "reviews").stdout
    assert "correct sound, by Kim: sauna" in listed
    assert "mute until 2099-01-01 00:00, by Ada: on the roof" in listed
    assert "birch" not in call("quality", "reviews", "--node", "cedar").stdout
    follow(site)
    days = call("quality", "days", "--node", "birch").stdout
    assert "range" not in days
    assert "2023-11-17" in days


def test_a_review_without_a_store_or_a_gateway(call, site):
    (site.path.parent / "store.sqlite").unlink()
    call("quality", "review", "mute", "cedar", "temperature", "2099-01-01", "--reason", "x")
    site.server.close()
    done = call("quality", "review", "confirm", "alder", "temperature", START, "--reason", "x", code=1)
    assert "running" in done.stderr


def test_days_show_the_reasons(call, site):
    shown = call("quality", "days", "--start", START + 2 * 86_400).stdout
    assert "range 1" in shown
    assert "95.8%" in shown
    assert len([line for line in shown.splitlines() if "2023-11-17" in line]) == 3


def test_the_model_is_shown_with_its_card(call, tmp_path):
    shown = call("quality", "model").stdout
    assert hashlib.sha256(shipped().path.read_bytes()).hexdigest() in shown
    assert "replay" in shown
    lone = tmp_path / "lone.tflite"
    lone.write_bytes(shipped().path.read_bytes())
    assert "no card" in call("quality", "model", "--model", lone).stdout
    card = json.loads(Path(str(shipped().path)).with_suffix(".json").read_text())
    lone.with_suffix(".json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    assert "another model" in call("quality", "model", "--model", lone, code=1).stderr


def test_bench_measures_a_table_with_labels(call, tmp_path):
    source = table(tmp_path / "in.csv", 24 * 30, (24 * 25, 24 * 26), label=True)
    told = json.loads(call("quality", "bench", source, "--json", "--pictures", tmp_path / "drawn").stdout)
    assert told["faulty"] == 24
    assert [judge["judge"] for judge in told["judges"]] == [
        "rules",
        "rules and neighbours",
        "rules, neighbours and model",
    ]
    assert told["judges"][1]["precision"]["offset"] > 0.5
    assert told["judges"][2]["recall"] == 1.0
    assert told["judges"][2]["speed"] > 0
    for name in ("precision-recall.svg", "roc.svg", "heatmap.svg"):
        assert ET.parse(tmp_path / "drawn" / name).getroot().tag.endswith("svg")
    wrong = source.read_text().replace("offset", "sulky")
    (tmp_path / "wrong.csv").write_text(wrong)
    assert "'sulky'" in call("quality", "bench", tmp_path / "wrong.csv", code=1).stderr


def test_bench_on_the_packaged_sample_shows_that_neighbours_and_model_help(call):
    shown = call("quality", "bench").stdout
    means = [float(line.split("|")[2]) for line in shown.splitlines() if line.startswith("| rules")]
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"judge": "rules/2", "model": None, "model_error": None}, "rules/2"),
        ({"judge": "rules/2+evidence/1", "model": "ab" * 32}, "rules/2+evidence/1 with model abababababab"),
        (
            {"judge": "rules/2+evidence/1", "model": None, "model_error": "it did not answer within 20 s"},
            "without the model: it did not answer within 20 s",
        ),
    ],
)
def test_status_says_with_what_is_judged(call, tmp_path, fields, said):
    StatusFile(tmp_path / "data", "quality").write({"cursor": 7, **fields})
    assert said in call("status").stdout


def test_status_lists_what_is_muted(call, site):
    call(*MUTE)
    follow(site)
    StatusFile(site.path.parent, "quality").write({"cursor": 7})
    assert "cedar temperature muted until 2099-01-01 00:00 by Ada: on the roof" in call("status").stdout


def test_training_without_tensorflow_says_what_to_install(call, tmp_path):
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("TensorFlow is installed")
    done = call("train", table(tmp_path / "in.csv"), code=1)
    assert "pip install 'sensorhub[train]'" in done.stderr
