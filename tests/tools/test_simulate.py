"""tools/simulate against a gateway."""

import json
import re
import signal
import subprocess
import sys

from flash_parts import LONG, ROOT, environ

import simulation
from flashing.registration import Local
from sensorhub.control.keys import node_keys

SIMULATE = ROOT / "tools" / "simulate"


def configure(gateway, node: str) -> subprocess.CompletedProcess:
    """What an operator does, who waits for the node's word."""
    words = ("nodes", "configure", node, "--set", "interval=120", "--set", "publish=120", "--wait", LONG)
    return subprocess.run(
        [sys.executable, "-m", "sensorhub", "--config", gateway.config, *map(str, words)],
        capture_output=True,
        text=True,
    )


def start(home, *words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, SIMULATE, *map(str, words), "--for", f"{LONG:.0f}s"],
        cwd=home,
        env=environ(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def simulate(home, enough, *words) -> str:
    """Lets nodes run until a line of their progress is enough; returns all lines."""
    said = []
    with start(home, *words) as run:
        for line in run.stdout:
            said.append(line)
            if enough(line):
                run.send_signal(signal.SIGTERM)
                break
        said += run.stdout
        errors = run.stderr.read()
    assert run.returncode == 0, "".join(said) + errors
    return "".join(said)


def all_messages(nodes: int, more_than: int):
    """Whether that many nodes are up and have got that many messages through."""

    def enough(line: str) -> bool:
        found = re.match(rf"{nodes} of {nodes} nodes, (\d+) messages", line)
        return found is not None and int(found[1]) > more_than

    return enough


def readings(gateway, node: str) -> list:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{gateway.url}/api/v1/nodes/{node}/latest", timeout=LONG) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return []


def test_fast_nodes_are_logged_and_are_the_same_nodes_next_time(gateway, tmp_path):
    words = (
        "weather",
        "-n",
        3,
        "--site",
        "roof",
        "--gateway-dir",
        gateway.data,
        "--fast",
        "--interval",
        "0.05",
    )
    words += ("--broker", f"127.0.0.1:{gateway.mqtt_port}", "--dir", tmp_path)
    for _ in range(2):
        said = simulate(tmp_path, all_messages(3, 10), *words)
        sent, acknowledged, up = map(
            int, re.search(r"sent (\d+), acknowledged (\d+).* (\d+)$", said.strip()).groups()
        )
        assert up == 3
        assert sent == acknowledged > 10
    gateway.wait(lambda: len(readings(gateway, "sim-weather-3")) == 10, "the readings of ten channels")
    status = gateway.status("ingest")
    assert status["clones"] == 0
    assert not any(status["rejected"].values())


def test_real_firmware_of_any_kind(gateway, micropython, tmp_path):
    kind = "camera"
    simulate(
        tmp_path,
        all_messages(1, 0),
        *(
            kind,
            "--site",
            "roof",
            "--gateway-dir",
            gateway.data,
            "--broker",
            f"127.0.0.1:{gateway.mqtt_port}",
        ),
        *("--dir", tmp_path, "--interval", 60, "--speed", 600),
    )
    gateway.wait(lambda: len(readings(gateway, f"sim-{kind}-1")) >= 6, f"readings of the {kind} node")


def test_nobody_there_is_told(tmp_path):
    run = start(tmp_path, "bench", "--site", "roof", "--broker", "127.0.0.1:1", "--fast")
    said, errors = run.communicate(timeout=LONG)
    assert run.returncode == 60, said + errors
    assert errors.strip().endswith(".")


def reaching(gateway, home) -> tuple:
    return (
        *("--site", "roof", "--gateway-dir", gateway.data),
        *("--broker", f"127.0.0.1:{gateway.mqtt_port}", "--dir", home),
    )


def test_real_firmware_takes_signed_settings(gateway, micropython, tmp_path):
    words = ("bench", "--name", "told", *reaching(gateway, tmp_path), "--speed", 60)
    with start(tmp_path, *words) as run:
        try:
            for line in run.stdout:
                if all_messages(1, 0)(line):
                    break
            done = configure(gateway, "told-1")
        finally:
            run.send_signal(signal.SIGTERM)
        said = run.stdout.read() + run.stderr.read()
    assert done.returncode == 0, done.stdout + done.stderr + said
    assert "is in effect on told-1" in done.stdout
    assert run.returncode == 0, said
    kept = json.loads((tmp_path / "roof" / "told-1" / "node.json").read_text())
    assert kept["keys"]["site"] == node_keys(gateway.data)["site"]


def test_a_node_that_was_begun_without_a_gateway_learns_its_keys(gateway, tmp_path):
    words = ("bench", "--name", "late", *reaching(gateway, tmp_path), "--fast", "--interval", "0.1")
    simulate(tmp_path, all_messages(1, 1), *words)
    kept = tmp_path / "roof" / "late-1" / "identity.json"
    record = json.loads(kept.read_text())
    keys = record.pop("keys")
    kept.write_text(json.dumps(record))
    found = simulation._node(kept.parent, "roof", "late-1", None, Local(gateway.data), "bench")
    assert found.keys == keys == node_keys(gateway.data)


def test_a_fast_node_refuses_orders_at_once_and_each_of_them(gateway, tmp_path):
    words = ("bench", "--name", "load", *reaching(gateway, tmp_path), "--fast", "--interval", "0.1")
    with start(tmp_path, *words) as run:
        try:
            for line in run.stdout:
                if all_messages(1, 1)(line):
                    break
            done = [configure(gateway, "load-1") for _ in range(2)]
        finally:
            run.send_signal(signal.SIGTERM)
        said = run.stdout.read()
    for one in done:
        assert one.returncode == 1, one.stdout
        assert "tools/simulate --fast takes no orders" in " ".join(one.stderr.split())
    sent, acknowledged = map(int, re.search(r"sent (\d+), acknowledged (\d+)", said).groups())
    assert sent == acknowledged
