"""The command line: what it prints, and what it says when it cannot."""

import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from sensorhub import processes
from sensorhub.log.entries import (
    ArtefactEntry,
    Genesis,
    NodeEntry,
    NodeEvent,
    VerdictEntry,
    encode_entry,
)
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.status import StatusFile
from sensorhub.store import SqliteStore


@pytest.fixture
def call(tmp_path):
    def run(*words, environ=None):
        return subprocess.run(
            [sys.executable, "-m", "sensorhub", *words],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "COLUMNS": "120", **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["log", "head"], ["there is no log at data/log", "start the gateway first"]),
        (["log", "show", "1"], ["there is no log"]),
        (["log", "fsck"], ["there is no log"]),
        (["prove", "1"], ["there is no log"]),
        (["export", "out"], ["there is no log"]),
        (["export", "out", "--start", "2016-12-21T08:00", "--end", "1482307201"], ["there is no log"]),
        (["export", "out", "--start", "yesterday"], ["'yesterday' is no time", "ISO 8601", "Unix seconds"]),
        (["export", "out", "--end", "2016-12-21T08:00:00.5"], ["--end", "give a whole one"]),
        (["export", "out", "--start", "2016-12-21", "--end", "1482278400"], ["not before"]),
        (["rebuild", "store"], ["there is no log"]),
        (["nodes", "list"], ["there is no log"]),
        (["status"], ["no process has written a status"]),
        (["run", "everything"], ["no process 'everything'", "ingest, quality, store, control, chain, web"]),
        (["--config", "missing.toml", "settings"], ["missing.toml", "cannot be read"]),
        (["nodes", "add", "Roof"], ["'Roof'", "a-z"]),
        (["nodes", "add", "roof", "--owner", "0x12"], ["owner", "20"]),
        (["nodes", "add", "roof", "--owner", "me"], ["owner", "20"]),
        (["nodes", "add", "roof", "--out", "no/such/place"], ["no/such/place", "No such file"]),
        (["chain", "flag", "3"], ["without a reason", "--reason"]),
        (["chain", "close"], ["cannot be undone", "--yes"]),
        (["chain", "rotate", "new.key"], ["there is no log"]),
        (["chain", "deploy"], ["chain.rpc_url is not set"]),
        (["nodes", "configure", "roof"], ["there is no log"]),
        (["nodes", "update", "roof", "manifest"], ["there is no log"]),
        (["snapshots", "open", "roof"], ["there is no log"]),
        (["release", "trust", "00" * 64], ["no point of secp256k1"]),
        (["release", "sign", ".", "--key", "k", "--url", "http://h/"], ["no application", "__init__.py"]),
        (["release", "sign", "missing", "--key", "k", "--url", "http://h/"], ["missing", "No such file"]),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_one_line_that_says_why(call, words, said):
    done = call(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("sensorhub: ")
    assert done.stderr.count("\n") == 1
    assert all(text in done.stderr for text in said), done.stderr


@pytest.mark.parametrize("name", ["supervisor", *processes.PROCESSES])
def test_nothing_runs_twice_on_one_data_directory(call, tmp_path, name):
    words = ["run"] if name == "supervisor" else ["run", name]
    with processes.only_one(tmp_path / "data", name):
        done = call(*words)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"sensorhub: the {name} process of data runs already: process {os.getpid()} holds data/run/{name}.lock; "
        "end that one first, or set another gateway.data_dir"
    )
    assert not (tmp_path / "data" / "status").exists()
    with processes.only_one(tmp_path / "data", name):
        pass


def test_a_wrong_setting_is_one_line_too(call):
    done = call("settings", environ={"SENSORHUB_WEB_PORT": "http"})
    assert done.returncode == 1
    assert "web.port" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_taken_port_of_the_page_is_said_once(call):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("run", "web", environ={"SENSORHUB_WEB_PORT": str(port)})
    assert done.returncode == 1
    said = (
        f"the page cannot listen on 127.0.0.1:{port}: Address already in use; free the port or set web.port"
    )
    assert done.stderr.splitlines()[-1] == f"sensorhub: {said}"


def test_an_empty_log_has_no_node_and_no_day(call, tmp_path):
    data = tmp_path / "data"
    signer = NoteSigner.generate("home.gateway/sensorhub")
    log = Log.open(data / "log", origin="home.gateway/sensorhub", signer=signer, checkpoint_interval=0)
    log.append(encode_entry(Genesis("home", "gateway", bytes(32))))
    log.commit()
    log.close()
    assert "`sensorhub nodes add NAME`" in call("nodes", "list").stderr
    SqliteStore(data / "store.sqlite").close()
    assert call("quality", "days").stderr == "no reading was stored for that\n"
    assert call("quality", "reviews").stderr == "nobody has said anything of a verdict\n"
    assert call("snapshots", "list").stderr == "no picture is kept\n"
    assert call("chain", "requests").stderr == "the chain process was asked nothing\n"
    assert call("log", "fsck").stderr == ""  # no bar where nobody watches


def test_entries_that_are_no_messages_are_shown_in_words(call, tmp_path):
    signer = NoteSigner.generate("home.gateway/sensorhub")
    path = tmp_path / "data" / "log"
    log = Log.open(path, origin="home.gateway/sensorhub", signer=signer, checkpoint_interval=0)
    for entry in (
        Genesis("home", "gateway", bytes(32)),
        NodeEntry(1_700_000_000_000, NodeEvent.ENROL, "roof", "weather", bytes(64), evidence=b"\x01" * 500),
        VerdictEntry(1_700_000_000_000, b"", "rules/2", ((7, ((255, 0), (51, 3))),)),
        ArtefactEntry(1_700_000_000_000, "model", bytes(32), "better"),
    ):
        log.append(encode_entry(entry))
    log.commit()
    log.close()
    said = [call("log", "show", str(index)).stdout.splitlines() for index in range(4)]
    assert said[0][:3] == ["genesis: whose log this is", "  site = home", "  gateway = gateway"]
    assert "  time = 2023-11-14T22:13:20.000+00:00" in said[1]
    assert "  event = enrol" in said[1]
    assert f"  evidence = {'01' * 16}… (500 bytes)" in said[1]
    assert not any("owner" in line or "geohash" in line for line in said[1])
    assert said[2][-3:] == [
        "  message 7, score and flags of each record:",
        "    1.00",
        "    0.20  range, spike",
    ]
    assert "  description = better" in said[3]


def test_status_says_what_each_process_does_or_what_is_wrong_with_it(call, tmp_path):
    def write(process, **fields):
        StatusFile(tmp_path / "data", process).write(fields)

    rates = {"rate_messages": 2.0, "rate_readings": 20.0}
    write("ingest", cursor=7, broker="mosquitto", address="[::1]:1883", warnings=[], **rates)
    write("store", cursor=7, error=None, readings=1234, nodes=3)
    write("quality", cursor=7, judge="rules/2", error="no [space] left")
    write("supervisor", children={"web": {"pid": 1, "restarts": 0}, "store": {"pid": 2, "restarts": 3}})
    write("chain", cursor=7, posted=1, lag=12, error=None)
    write("web", url="http://127.0.0.1:8080/", updated_ms=1)
    said = {line.split()[0]: line for line in call("status").stdout.splitlines()}
    assert "mosquitto broker at [::1]:1883, 2 messages/s, 20 readings/s" in said["ingest"]
    assert "1,234 readings of 3 nodes" in said["store"]
    assert "no [space] left" in said["quality"]
    assert "started again: store 3 times" in said["supervisor"]
    assert "12 entries not anchored yet; posts so far: 1" in said["chain"]
    assert "no sign of life" in said["web"]


def test_settings_show_values_and_no_secret(call):
    done = call("settings", environ={"SENSORHUB_WEB_PORT": "1234", "SENSORHUB_MQTT_PASSWORD": "hunter2"})
    assert "web.port = 1234" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


def test_a_new_node_gets_a_claim_and_a_password_in_a_private_file(call, tmp_path):
    done = call("nodes", "add", "roof", "--kind", "air", "--place", "wx4g0")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "roof.claim.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    record = json.loads(path.read_text())
    assert record["node"] == "roof"
    assert len(bytes.fromhex(record["claim"])) == 16
    assert record["claim"] not in done.stdout
    assert record["mqtt_password"] not in done.stdout
    kept = (tmp_path / "data" / "claims.json").read_text() + (tmp_path / "data/broker/passwords").read_text()
    assert record["claim"] not in kept
    assert record["mqtt_password"] not in kept
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_the_account_of_the_chain_lies_in_a_private_directory(call, tmp_path):
    assert call("chain", "address").stdout.startswith("0x")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_node_that_has_a_password_keeps_it_unless_asked(call, tmp_path):
    assert call("nodes", "add", "roof").returncode == 0
    kept = (tmp_path / "data/broker/passwords").read_text()
    again = call("nodes", "add", "roof", "--out", "second.json")
    assert again.returncode == 1
    assert "--replace" in again.stderr
    assert (tmp_path / "data/broker/passwords").read_text() == kept
    assert not (tmp_path / "second.json").exists()
    assert call("nodes", "add", "roof", "--out", "second.json", "--replace").returncode == 0
    assert (tmp_path / "data/broker/passwords").read_text() != kept


@pytest.mark.parametrize(
    ("host", "written", "said"),
    [
        ("127.0.0.1", "127.0.0.1", "only this machine"),
        ("0.0.0.0", "127.0.0.1", "from another one"),
        ("::", "::1", "from another one"),
        ("192.168.1.10", "192.168.1.10", ""),
    ],
)
def test_home_assistant_gets_a_host_to_connect_to(call, tmp_path, host, written, said):
    done = call("home-assistant", "user", environ={"SENSORHUB_MQTT_HOST": host})
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "home-assistant.json").read_text())["host"] == written
    assert said in done.stderr


def test_a_file_that_is_there_is_not_written_over(call, tmp_path):
    (tmp_path / "roof.claim.json").write_text("mine")
    done = call("nodes", "add", "roof")
    assert done.returncode == 1
    assert "roof.claim.json" in done.stderr
    assert (tmp_path / "roof.claim.json").read_text() == "mine"
    assert not (tmp_path / "data" / "claims.json").exists()


def test_the_key_in_an_rpc_url_is_not_printed(call):
    url = "https://user:secret@rpc.example:8545/v3/0123456789abcdef"
    done = call("settings", environ={"SENSORHUB_CHAIN_RPC_URL": url})
    assert 'chain.rpc_url = "https://rpc.example:8545/..."' in done.stdout
    assert "secret" not in done.stdout
    assert "0123456789abcdef" not in done.stdout
    done = call("settings", environ={"SENSORHUB_CHAIN_RPC_URL": "http://[::1]:8545"})
    assert 'chain.rpc_url = "http://[::1]:8545"' in done.stdout
