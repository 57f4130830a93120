"""`make demo FOR=...` does what the README says, to the last verified answer."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_verifies_what_it_made(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "tools" / "demo",
            "--for",
            "20s",
            "--speed",
            "20000",
            "--dir",
            tmp_path / "demo",
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "all answers hold" in said
    assert "12 nodes" in said
    for answer in ("device-signed", "logged", "anchored", "judged", "flagged"):
        assert answer in said
