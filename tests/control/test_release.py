"""Releases: what is packed and signed, and what a gateway checks before it hands one out."""

from __future__ import annotations

import http.server
import tarfile
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from coincurve import PrivateKey

from sensorhub.control import sign_config, sign_update
from sensorhub.control.keys import (
    ControlKeyError,
    node_keys,
    parse_public_key,
    release_key,
    trust_release_key,
)
from sensorhub.control.orders import OrderError
from sensorhub.control.release import (
    Manifest,
    ReleaseError,
    fetch_image,
    keep_image,
    pack,
    read_image,
    read_manifest,
)
from sensorhub.wire import public_key_of

KEY = PrivateKey(b"\x16" * 32)
PUBLIC = public_key_of(KEY)
FIRMWARE = Path(__file__).parents[2] / "firmware"


def manifest(
    image: bytes, url: str = "http://gateway/releases/sensornode-1.2.3.tar", **more: str | None
) -> Manifest:
    named: dict[str, str | None] = {"site": None, "node": None} | more
    raw = sign_update(
        KEY,
        site=named["site"],
        node=named["node"],
        sequence=5,
        version="1.2.3",
        minimum="1.0.0",
        form="files",
        image=image,
        url=url,
    )
    return read_manifest(raw, PUBLIC)


def test_an_application_is_packed_the_same_each_time_and_says_its_version() -> None:
    image, version = read_image(FIRMWARE)
    assert version is not None
    assert image == pack(FIRMWARE / "sensornode")
    with tarfile.open(fileobj=BytesIO(image)) as archive:
        names = archive.getnames()
    assert "sensornode/__init__.py" in names
    assert "sensornode/sensors/bme280.py" in names
    assert not any(name.endswith((".md", ".pyc")) or "__pycache__" in name for name in names)


@pytest.mark.parametrize("name", ["a b.py", "ü.py", "a/b/c/d.py", ".hidden"])
def test_what_nodes_would_not_take_is_not_packed(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReleaseError, match="no application"):
        pack(tmp_path)
    (tmp_path / "__init__.py").touch()
    pack(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ReleaseError, match="nodes take names"):
        pack(tmp_path)


def test_a_manifest_is_read_with_the_release_key_only() -> None:
    found = manifest(b"image")
    assert (found.version, found.size, found.image_name) == ("1.2.3", 5, "sensornode-1.2.3.tar")
    with pytest.raises(OrderError):
        read_manifest(found.raw, public_key_of(PrivateKey(b"\x17" * 32)))
    with pytest.raises(OrderError, match="configuration"):
        read_manifest(sign_config(KEY, site="lab", node=None, version=1, settings={}), PUBLIC)


def test_whom_it_is_for() -> None:
    assert manifest(b"x").is_for("lab", "roof")
    assert manifest(b"x", site="lab").is_for("lab", "roof")
    assert not manifest(b"x", site="lab").is_for("home", "roof")
    assert manifest(b"x", site="lab", node="roof").is_for("lab", "roof")
    assert not manifest(b"x", site="lab", node="roof").is_for("lab", "attic")


def test_only_the_signed_image_is_kept_and_under_a_plain_name(tmp_path: Path) -> None:
    path = keep_image(tmp_path, manifest(b"image"), b"image")
    assert path == tmp_path / "releases" / "sensornode-1.2.3.tar"
    assert path.read_bytes() == b"image"
    with pytest.raises(ReleaseError, match="SHA-256"):
        keep_image(tmp_path, manifest(b"image"), b"other")
    for url in ("http://h/", "http://h/a/..", "http://h/.x", "http://h/%2e%2e"):
        with pytest.raises(ReleaseError, match="name of a file"):
            keep_image(tmp_path, manifest(b"image", url), b"image")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            # as the page's process does when the URL has a name that it was not given
            if self.path == "/misdirected":
                self.send_error(421)
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_an_image_is_fetched_as_a_node_does(server: str, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"image")
    fetch_image(manifest(b"image", f"{server}/image"))
    with pytest.raises(ReleaseError, match="SHA-256"):
        fetch_image(manifest(b"another", f"{server}/image"))
    with pytest.raises(ReleaseError, match="would not find.*404"):
        fetch_image(manifest(b"image", f"{server}/nothing"))
    with pytest.raises(ReleaseError, match="would not find.*421.*web.hosts"):
        fetch_image(manifest(b"image", f"{server}/misdirected"))
    with pytest.raises(ReleaseError, match="would not find"):
        fetch_image(manifest(b"image", "http://127.0.0.1:1/image"))


def test_the_keys_of_a_node(tmp_path: Path) -> None:
    first = node_keys(tmp_path)
    assert set(first) == {"site"}
    assert release_key(tmp_path) is None
    trust_release_key(tmp_path, PUBLIC)
    assert node_keys(tmp_path) == {"site": first["site"], "release": PUBLIC.hex()}
    (tmp_path / "keys" / "release.pub").write_text("x")
    with pytest.raises(ControlKeyError):
        node_keys(tmp_path)
    for wrong in ("", "00" * 64, PUBLIC.hex()[:-2], "zz" * 64):
        with pytest.raises(ControlKeyError):
            parse_public_key(wrong)
