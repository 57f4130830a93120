"""Firmware images: served as they are to a node's plain HTTP/1.0, and nothing else of the data directory."""

import socket

import pytest

IMAGE = bytes(range(256)) * 40


@pytest.fixture
def server(empty, serving):
    folder = empty.data_dir / "releases"
    folder.mkdir()
    (folder / "sensornode-0.2.0.tar").write_bytes(IMAGE)
    (folder / ".hidden").write_bytes(b"x")
    (folder / "folder").mkdir()
    (empty.data_dir / "keys").mkdir()
    (empty.data_dir / "keys" / "site.key").write_text("secret")
    (folder / "elsewhere.tar").symlink_to(empty.data_dir / "keys" / "site.key")
    with serving(empty) as made:
        yield made


def ask(port: int, path: str) -> tuple[bytes, bytes]:
    """Head and body of an answer to what a node sends (firmware/sensornode/http.py)."""
    with socket.create_connection(("127.0.0.1", port), 90) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def test_an_image_comes_whole_with_its_length_and_uncompressed(server):
    head, body = ask(server.port, "/releases/sensornode-0.2.0.tar")
    assert head.split()[1] == b"200"
    assert f"content-length: {len(IMAGE)}".encode() in head.lower()
    assert b"encoding" not in head.lower()
    assert body == IMAGE


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        ".hidden",
        "folder",
        "",
        "../keys/site.key",
        "..%2fkeys%2fsite.key",
        "%2e%2e/keys/site.key",
        "a/b",
        "elsewhere.tar",
    ],
)
def test_nothing_else_is_served(server, path):
    head, body = ask(server.port, f"/releases/{path}")
    assert head.split()[1] == b"404"
    assert b"secret" not in body
