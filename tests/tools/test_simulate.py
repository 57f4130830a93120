"""tools/simulate against a gateway."""

import re
import signal
import subprocess
import sys

from flash_parts import LONG, ROOT, environ

SIMULATE = ROOT / "tools" / "simulate"


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
    import json
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
