"""Orders and Home Assistant with everything real: commands, gateway, broker, and the firmware under MicroPython."""

import json
import os
import stat
import sys
import threading
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from coincurve import PrivateKey

from sensorhub.control import sign_config
from sensorhub.control.outbox import Outbox
from sensorhub.log.entries import MessageEntry, decode_entry
from sensorhub.log.reader import LogReader
from sensorhub.wire import parse_pack, parse_signed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "firmware"))

from node_harness import START, Node, application

SITE = "beijing"
NODE = "roof-1"


@pytest.fixture
def controlled(gateway):
    """A gateway that tells Home Assistant, and trusts a release key."""
    with gateway.config.open("a") as file:
        file.write("[home_assistant]\nenabled = true\n")
    key = ok(gateway.call("release", "keygen", gateway.home / "release.key")).stdout.strip()
    assert stat.S_IMODE((gateway.home / "release.key").stat().st_mode) == 0o600
    ok(gateway.call("release", "trust", key))
    return gateway


@pytest.fixture
def node(controlled, interpreter, tmp_path):
    """An enrolled node of the first version, which its board starts again whenever it ends."""
    ok(controlled.call("nodes", "add", NODE, "--out", tmp_path / "claim.json"))
    claim = json.loads((tmp_path / "claim.json").read_text())
    folder = tmp_path / "node"
    folder.mkdir()
    application(folder / "flash" / "app_a", "0.1.0")
    made = Node(folder, controlled.mqtt_port, lambda *words: [str(interpreter), *words], dict(os.environ))
    rows = [f"{START + 3600 * n},{n % 30},1000" for n in range(5000)]
    (folder / "replay.csv").write_text("\n".join(["time,temperature Cel,pressure hPa", *rows]) + "\n")
    made.configure(
        site=SITE,
        claim=claim["claim"],
        keys=claim["keys"],
        broker={
            "host": "127.0.0.1",
            "port": controlled.mqtt_port,
            "password": claim["mqtt_password"],
            "retry": 2,
            "receipt": 1,
        },
        sim={"speed": 1200, "exit_at_end": False, "trial": 10},
    )
    controlled.start()
    made.stay()
    controlled.wait(lambda: made.status.get("online"), "the node")
    controlled.wait(lambda: said(controlled).get("state") == "online", "its word")
    yield made
    made.stop()


def ok(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def said(gateway):
    """What the node says of itself, as the control process has heard it."""
    return gateway.status("control").get("nodes", {}).get(NODE, {})


def times(gateway):
    """Base times of the node's logged messages."""
    with LogReader(gateway.data / "log") as reader:
        entries = [decode_entry(raw) for _index, raw in reader.entries(0)]
    signed = [parse_signed(entry.message) for entry in entries if isinstance(entry, MessageEntry)]
    return [parse_pack(message.payload, tq=message.tq).base_time for message in signed]


def test_a_node_is_configured_and_only_by_the_sites_key(controlled, node):
    gateway = controlled
    gateway.wait(lambda: times(gateway), "the first reading")
    shown = ok(gateway.call("nodes", "configure", NODE, "--set", "interval=7200", "--dry-run"))
    assert json.loads(shown.stdout)["settings"] == {"interval": 7200}
    wrong = gateway.call("nodes", "configure", NODE, "--set", "interval=0")
    assert wrong.returncode == 1
    assert "interval must be a whole number from 1 to 86400" in wrong.stderr

    done = ok(gateway.call("nodes", "configure", NODE, "--set", "interval=7200", "--set", "publish=7200"))
    assert f"is in effect on {NODE}" in done.stdout
    first = Outbox(gateway.data / "orders").get(NODE, "config")
    gateway.wait(
        lambda: len(found := times(gateway)) > 2 and found[-1] - found[-2] == 7200, "readings further apart"
    )
    ok(gateway.call("nodes", "configure", NODE, "--set", "broker.retry=3"))
    assert json.loads(ok(gateway.call("nodes", "configure", NODE)).stdout) == {
        "interval": 7200,
        "publish": 7200,
        "broker": {"retry": 3},
    }
    version = said(gateway)["config"]
    refused = gateway.call("nodes", "configure", NODE, "--set", "interval=3600", "--firmware", "9.0.0")
    assert refused.returncode == 1, (refused.stderr, node.status, said(gateway))
    assert f"{NODE} refuses the order: needs newer firmware" in refused.stderr
    assert json.loads(ok(gateway.call("nodes", "configure", NODE)).stdout)["interval"] == 7200

    # not signed, by another key, for another node, and one from before
    outbox = Outbox(gateway.data / "orders")
    settings = {"site": SITE, "node": NODE, "version": version + 1000, "settings": {"interval": 60}}
    site_key = PrivateKey.from_hex((gateway.data / "keys" / "site.key").read_text().strip())
    for order, reason in (
        (b"\xd2" + bytes(100), ""),
        (sign_config(PrivateKey(b"\x07" * 32), **settings), ""),
        (sign_config(site_key, **settings | {"node": "other"}), "another node"),
    ):
        before = node.status["refused"]
        outbox.put(NODE, "config", order)
        gateway.wait(lambda before=before: node.status["refused"] not in ("", before), "the refusal")
        assert reason in node.status["refused"]
        # the gateway hears of it a moment later
        gateway.wait(lambda: said(gateway)["refused"] == node.status["refused"], "the refusal at the gateway")
    outbox.put(NODE, "config", first)
    gateway.wait(lambda: gateway.status("control")["orders"] == 1, "the old order")
    ok(gateway.call("nodes", "configure", NODE, "--file", empty(gateway)))
    assert said(gateway)["config"] > version
    gateway.wait(lambda: not node.status["trial"], "its confirmation")
    assert json.loads(ok(gateway.call("nodes", "configure", NODE)).stdout) == {}


def empty(gateway):
    path = gateway.home / "empty.json"
    path.write_text("{}")
    return path


def test_a_release_is_signed_served_installed_and_confirmed(controlled, node, tmp_path):
    gateway = controlled
    application(tmp_path / "new", "0.2.0")
    words = ["release", "sign", tmp_path / "new", "--out", tmp_path]
    words += ["--url", f"http://127.0.0.1:{gateway.web_port}/releases/", "--minimum", "0.1.0"]
    ok(gateway.call(*words, "--key", gateway.home / "release.key"))
    image = tmp_path / "sensornode-0.2.0.tar"
    manifest = tmp_path / "sensornode-0.2.0.tar.manifest"

    missing = gateway.call("nodes", "update", NODE, manifest)
    assert missing.returncode == 1
    assert "nodes would not find the image" in missing.stderr
    other = gateway.call("nodes", "update", NODE, manifest, "--image", manifest)
    assert "this image has" in other.stderr
    ok(gateway.call("release", "keygen", tmp_path / "other.key"))
    (tmp_path / "forged").mkdir()
    ok(gateway.call(*words[:-6], "--out", tmp_path / "forged", *words[-4:], "--key", tmp_path / "other.key"))
    forged = gateway.call("nodes", "update", NODE, tmp_path / "forged" / manifest.name, "--image", image)
    assert forged.returncode == 1
    assert "another key" in forged.stderr

    done = ok(gateway.call("nodes", "update", NODE, manifest, "--image", image))
    assert f"version 0.2.0 is in effect on {NODE}" in done.stdout
    gateway.wait(lambda: node.status["firmware"] == "0.2.0" and not node.status["trial"], "the first receipt")


def test_home_assistant_finds_a_node_and_loses_a_revoked_one(controlled, node, tmp_path):
    gateway = controlled
    ok(gateway.call("home-assistant", "user", "--out", tmp_path / "home.json"))
    assert stat.S_IMODE((tmp_path / "home.json").stat().st_mode) == 0o600
    account = json.loads((tmp_path / "home.json").read_text())
    retained: dict[str, bytes] = {}
    told = threading.Event()

    def on_message(_client, _data, message):
        retained[message.topic] = message.payload
        told.set()

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set(account["username"], account["password"])
    client.reconnect_delay_set(1, 1)  # the broker reads new passwords once a second
    client.on_connect = lambda client, *_: client.subscribe(
        [("homeassistant/#", 1), ("sensorhub/v1/+/+/state", 1), ("sensorhub/v1/+/+/status", 1)]
    )
    client.on_message = on_message
    client.connect_async(account["host"], account["port"])
    client.loop_start()
    try:
        config = f"homeassistant/device/sensorhub_{SITE}_{NODE}/config"
        state, status = (f"sensorhub/v1/{SITE}/{NODE}/{leaf}" for leaf in ("state", "status"))
        gateway.wait(lambda: {config, state, status} <= set(retained), "what Home Assistant reads")
        found = json.loads(retained[config])
        assert {"temperature", "pressure"} <= set(found["components"])
        assert found["state_topic"] == state
        assert found["availability_topic"] == status
        assert set(json.loads(retained[state])) >= {"temperature", "pressure", "time", "doubts"}
        assert json.loads(retained[status])["state"] == "online"

        # its birth message has everything told again
        del retained[config]
        client.publish("homeassistant/status", "online", qos=1).wait_for_publish(90)
        gateway.wait(lambda: config in retained, "discovery told again")

        ok(gateway.call("nodes", "revoke", NODE))
        gateway.wait(lambda: retained[config] == b"" and retained[state] == b"", "the node to disappear")
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_picture_is_ordered_kept_opened_and_found_in_the_log(controlled, node, tmp_path):
    gateway = controlled
    camera = {"driver": "camera", "size": "QQVGA", "frames": 2, "snapshot_s": 7200}
    (tmp_path / "settings.json").write_text(json.dumps({"sensors": [camera]}))
    ok(gateway.call("nodes", "configure", NODE, "--file", tmp_path / "settings.json"))
    gateway.wait(lambda: len(ok(gateway.call("snapshots", "list")).stdout.splitlines()) > 1, "two pictures")
    listed = ok(gateway.call("snapshots", "list", NODE)).stdout.splitlines()
    digest = listed[0].split()[2]
    path = tmp_path / "picture.png"

    def open_it():
        return gateway.call("snapshots", "open", NODE, digest, "--out", path)

    # the picture may be there before its reading
    gateway.wait(lambda: open_it().returncode == 0 or path.unlink(missing_ok=True), "its record")
    assert path.read_bytes().startswith(b"\x89PNG")
    path.unlink()
    done = ok(open_it())
    assert "160 x 120" in done.stdout
    assert f"seen by {NODE}" in done.stdout
    assert "signed record in log entry" in done.stdout
    assert open_it().returncode == 1  # nothing is written over
    other = gateway.home / "other.key"
    ok(gateway.call("release", "keygen", other))
    assert "another key" in gateway.call("snapshots", "open", NODE, "--key", other, "--out", "x.png").stderr


def test_the_gateway_says_where_its_broker_and_its_page_are(gateway):
    gateway.start()
    expected = (
        f"broker mosquitto at 127.0.0.1:{gateway.mqtt_port}\n",
        f"page and API at http://127.0.0.1:{gateway.web_port}/\n",
    )
    gateway.wait(lambda: all(text in gateway.said() for text in expected), "the words")
    again = gateway.call("run")
    assert again.returncode == 1
    assert "runs already" in again.stderr
