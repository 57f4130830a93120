"""A compiled application becomes a release, and MicroPython runs it."""

import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECRET = "16" * 32


def test_it_is_compiled_signed_and_imported(tmp_path):
    words = [sys.executable, ROOT / "tools" / "flash", "application", tmp_path / "build", "--chip", "esp32s3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "does not exist yet" in again.stdout + again.stderr
    key = tmp_path / "release.key"
    key.write_text(SECRET)
    key.chmod(0o600)
    words = [sys.executable, "-m", "sensorhub", "release", "sign", tmp_path / "build", "--key", key]
    words += ["--url", "http://h/", "--out", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (image,) = tmp_path.glob("*.tar")
    with tarfile.open(image) as archive:
        names = set(archive.getnames())
        for name in names:
            path = tmp_path / "node" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.extractfile(name).read())
    assert {"sensornode/__init__.py", "sensornode/node.mpy", "sensornode/sensors/bme280.mpy"} <= names
    assert [name for name in names if name.endswith(".py")] == ["sensornode/__init__.py"]
    micropython = subprocess.run(
        [ROOT / "tools" / "micropython", "--path"], capture_output=True, text=True, check=True
    ).stdout.strip()
    program = "import sensornode, sensornode.config, sensornode.cose; print(sensornode.__version__)"
    done = subprocess.run(
        [micropython, "-c", program], cwd=tmp_path / "node", capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() in image.name, done.stderr
