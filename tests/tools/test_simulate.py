"""tools/simulate against a gateway."""

import re
import subprocess
import sys

from flash_parts import ROOT, environ

SIMULATE = ROOT / "tools" / "simulate"


def simulate(home, *words, timeout=50) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, SIMULATE, *map(str, words)],
        cwd=home,
        env=environ(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def readings(gateway, node: str) -> list:
    import json
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{gateway.url}/api/v1/nodes/{node}/latest", timeout=5) as answer:
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
    words += ("--broker", f"127.0.0.1:{gateway.mqtt_port}", "--dir", tmp_path, "--for", "2s")
    for _ in range(2):
        run = simulate(tmp_path, *words)
        assert run.returncode == 0, run.stdout + run.stderr
        sent, acknowledged, up = map(
            int, re.search(r"sent (\d+), acknowledged (\d+).* (\d+)$", run.stdout.strip()).groups()
        )
        assert up == 3
        assert sent == acknowledged > 10
    gateway.wait(lambda: len(readings(gateway, "sim-weather-3")) == 10, "the readings of ten channels")
    status = gateway._status("ingest")
    assert status["clones"] == 0
    assert not any(status["rejected"].values())


def test_real_firmware_of_any_kind(gateway, micropython, tmp_path):
    kind = "camera"
    run = simulate(
        tmp_path,
        *(
            kind,
            "--site",
            "roof",
            "--gateway-dir",
            gateway.data,
            "--broker",
            f"127.0.0.1:{gateway.mqtt_port}",
        ),
        *("--dir", tmp_path, "--interval", 60, "--speed", 600, "--for", "8s"),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    gateway.wait(lambda: len(readings(gateway, f"sim-{kind}-1")) >= 6, f"readings of the {kind} node")


def test_nobody_there_is_told(tmp_path):
    run = simulate(tmp_path, "bench", "--site", "roof", "--broker", "127.0.0.1:1", "--fast", "--for", "3s")
    assert run.returncode == 60, run.stdout + run.stderr
    assert run.stderr.strip().endswith(".")
