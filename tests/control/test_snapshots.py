"""Sealed pictures: what is kept, how much, what opens, and the signed record they belong to."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from sensorhub.control import snapshots
from sensorhub.control.snapshots import SnapshotBox, SnapshotError, find_record, open_snapshot

PIXELS = bytes(range(12))
DAY = 86_400


def box(path: Path, *, days: int = 30, node_bytes: int = 1000, now: float = 1_700_000_000) -> SnapshotBox:
    return SnapshotBox(path / "snapshots", days=days, node_bytes=node_bytes, clock=lambda: now)


def test_what_was_sealed_is_opened_with_the_sites_key_alone(sealed: Any, site_key: PrivateKey) -> None:
    raw = sealed(PIXELS, 4, 3)
    picture = open_snapshot(raw, site_key)
    assert (picture.width, picture.height, picture.pixels) == (4, 3, PIXELS)
    assert picture.digest == hashlib.sha256(PIXELS).digest()
    with pytest.raises(SnapshotError, match="another key"):
        open_snapshot(raw, PrivateKey(b"\x16" * 32))
    with pytest.raises(SnapshotError, match="not the one whose hash"):
        open_snapshot(sealed(PIXELS, 4, 4), site_key)


def test_a_picture_becomes_a_png(sealed: Any, site_key: PrivateKey) -> None:
    png = open_snapshot(sealed(PIXELS, 4, 3), site_key).png()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert png[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(kind + data))
        chunks[kind] = data
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert chunks[b"IHDR"] == struct.pack(">IIBBBBB", 4, 3, 8, 0, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == b"".join(b"\0" + PIXELS[n : n + 4] for n in (0, 4, 8))


def test_a_picture_is_kept_once_and_what_is_none_is_not(sealed: Any, tmp_path: Path) -> None:
    kept = box(tmp_path)
    raw = sealed(PIXELS, 4, 3)
    path = kept.put("roof", raw)
    assert path is not None
    assert path.read_bytes() == raw
    assert path.parent.stat().st_mode & 0o077 == 0
    assert kept.put("roof", raw) is None
    assert kept.put("attic", raw) is not None
    for wrong in (b"", raw[:-1], b"x" + raw[1:], raw[:8] + bytes(snapshots.MAX_SEALED)):
        with pytest.raises(SnapshotError):
            kept.put("roof", wrong)
    assert kept.nodes() == ["attic", "roof"]
    assert [found.digest for found in kept.of("roof")] == [hashlib.sha256(PIXELS).digest()]


def test_the_oldest_go_when_space_number_or_days_are_used_up(
    sealed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [sealed(bytes([n]) * 12, 4, 3) for n in range(6)]
    room = 3 * len(pictures[0]) + 10
    for n, raw in enumerate(pictures[:5]):
        box(tmp_path, node_bytes=room, now=n * DAY).put("roof", raw)
    left = [kept.received_ms // 1000 // DAY for kept in box(tmp_path).of("roof")]
    assert left == [2, 3, 4]
    box(tmp_path, days=2, node_bytes=room, now=5.5 * DAY).prune()
    assert [kept.received_ms // 1000 // DAY for kept in box(tmp_path).of("roof")] == [4]
    box(tmp_path, days=0, node_bytes=room, now=4000 * DAY).prune()
    assert len(list(box(tmp_path).of("roof"))) == 1
    monkeypatch.setattr(snapshots, "MAX_FILES", 1)
    box(tmp_path, now=6 * DAY).put("roof", pictures[5])
    assert [kept.received_ms // 1000 // DAY for kept in box(tmp_path).of("roof")] == [6]
    assert box(tmp_path, node_bytes=0).put("roof", pictures[0]) is None


def test_the_signed_record_is_found_and_nobody_elses(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_CHUNK", 4)
    digest = hashlib.sha256(PIXELS).digest()
    other = hashlib.sha256(b"other").digest()
    written.event("roof")
    written.message("attic", ("frame_sha256", digest, 0))
    index = written.message("roof", ("luminance", 0.5, 0), ("frame_sha256", digest, 60))
    for _ in range(10):
        written.message("roof", ("frame_sha256", other, 0))
    written.message("roof", ("frame_sha256", digest, 0), site="elsewhere")
    record = find_record(written.reader, "lab", "roof", digest)
    assert record is not None
    assert (record.index, record.time) == (index, 1_700_000_060)
    assert find_record(written.reader, "lab", "cellar", digest) is None
    assert find_record(written.reader, "lab", "roof", bytes(32)) is None
