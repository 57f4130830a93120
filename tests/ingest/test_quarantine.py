"""The quarantine keeps the newest messages within its bound."""

from __future__ import annotations

from pathlib import Path

from sensorhub.ingest.quarantine import Quarantine, Refused, read


def refused(number: int, size: int = 100) -> Refused:
    return Refused(
        number, "not-cbor", "why", "sensorhub/v1/lab/roof/data", number.to_bytes(4, "big") * (size // 4)
    )


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", 100_000)
    messages = [refused(number) for number in range(5)]
    for message in messages:
        quarantine.put(message)
    quarantine.flush()
    assert list(read(tmp_path / "q")) == messages
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "q").iterdir())


def test_the_oldest_go_when_the_bound_is_reached(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", 20_000)
    for number in range(1_000):
        quarantine.put(refused(number))
        if number % 7 == 0:
            quarantine.flush()
    quarantine.flush()
    kept = [message.ms for message in read(tmp_path / "q")]
    assert kept == list(range(kept[0], 1_000))
    size = sum(file.stat().st_size for file in (tmp_path / "q").iterdir())
    assert 15_000 < size <= 20_000


def test_it_goes_on_after_a_restart_and_a_torn_line(tmp_path: Path) -> None:
    first = Quarantine(tmp_path / "q", 20_000)
    for number in range(200):
        first.put(refused(number))
    first.flush()
    newest = max((tmp_path / "q").iterdir())
    newest.write_bytes(newest.read_bytes()[:-20])
    second = Quarantine(tmp_path / "q", 20_000)
    for number in range(200, 300):
        second.put(refused(number))
    second.flush()
    kept = [message.ms for message in read(tmp_path / "q")]
    assert kept[-1] == 299
    assert kept == sorted(kept)
    assert sum(file.stat().st_size for file in (tmp_path / "q").iterdir()) <= 20_000


def test_a_bound_of_zero_keeps_nothing(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", 0)
    quarantine.put(refused(1))
    quarantine.flush()
    assert list(read(tmp_path / "q")) == []
