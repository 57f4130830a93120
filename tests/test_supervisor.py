"""The supervisor starts what ends, and ends what it started."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sensorhub import supervisor
from sensorhub.supervisor import Supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
)


def until(ready, seconds=90):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    """Whether a process runs; one that has ended counts as such before whoever adopted it has taken note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def running():
    started = []

    def start(commands):
        told = []
        found = Supervisor(commands, told.append)
        thread = threading.Thread(target=found.run)
        thread.start()
        started.append((found, thread))
        return found, thread, told

    yield start
    for found, thread in started:
        found.stop()
        thread.join(90)


def pid_of(found, name):
    return found.status()["children"][name]["pid"]


def test_a_killed_process_is_started_again(running):
    found, _thread, told = running({"one": SLEEP, "two": SLEEP})
    until(lambda: pid_of(found, "one") and pid_of(found, "two"))
    first, other = pid_of(found, "one"), pid_of(found, "two")
    os.kill(first, signal.SIGKILL)
    until(lambda: pid_of(found, "one") not in (None, first))
    assert pid_of(found, "two") == other
    assert found.status()["children"]["one"]["restarts"] == 1
    assert told[-1]["children"]["two"]["restarts"] == 0


def test_pauses_grow_for_a_process_that_keeps_ending(running, monkeypatch, caplog):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.05)
    found, _thread, _told = running({"bad": [sys.executable, "-c", "raise SystemExit(3)"]})

    def told():
        return [record.args[2] for record in caplog.records if "ended with" in record.msg]

    until(lambda: len(told()) >= 3)
    assert found.status()["children"]["bad"]["restarts"] >= 3
    pauses = told()[:3]
    assert pauses == sorted(pauses)
    assert pauses[2] > pauses[0]
    assert "exit code 3" in caplog.text


def test_stopping_ends_every_process(running):
    found, thread, told = running({"one": SLEEP, "two": SLEEP})
    until(lambda: pid_of(found, "one") and pid_of(found, "two"))
    pids = [pid_of(found, "one"), pid_of(found, "two")]
    found.stop()
    thread.join(90)
    assert not any(alive(pid) for pid in pids)
    assert told[-1] == {"children": {n: {"pid": None, "restarts": 0} for n in ("one", "two")}}


def test_a_process_that_ignores_sigterm_is_killed(running, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(supervisor, "STOP_TIMEOUT_S", 0.5)
    found, thread, _told = running({"deaf": [sys.executable, "-c", STUBBORN, str(tmp_path / "deaf")]})
    until((tmp_path / "deaf").exists)
    pid = pid_of(found, "deaf")
    found.stop()
    thread.join(90)
    assert not alive(pid)
    assert "deaf did not stop" in caplog.text


def test_children_end_when_the_supervisor_is_killed():
    code = (
        "import sys; from sensorhub.supervisor import Supervisor\n"
        f"Supervisor({{'one': {SLEEP!r}}}, lambda s: print(s['children']['one']['pid'], flush=True)).run()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        until(lambda: not alive(pid))
