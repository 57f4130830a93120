"""Claims work once, for their own name only, and are nowhere to be read."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from sensorhub.nodes.claims import ClaimError, Claims


def test_a_claim_is_spent_once(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims.json")
    claim = claims.add("roof", "weather", owner=b"\x01" * 20, geohash="u33db")
    assert claims.find("roof", claim) is not None
    spent = claims.redeem("roof", claim)
    assert spent is not None
    assert (spent.kind, spent.owner_bytes, spent.geohash) == ("weather", b"\x01" * 20, "u33db")
    assert claims.redeem("roof", claim) is None
    assert claims.find("roof", claim) is None


def test_a_claim_is_for_one_name(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims.json")
    claim = claims.add("roof")
    assert claims.redeem("cellar", claim) is None
    assert claims.redeem("roof", bytes(16)) is None
    assert [waiting.node for waiting in claims.waiting()] == ["roof"]


def test_the_file_does_not_hold_the_claim(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims.json")
    claim = claims.add("roof")
    text = (tmp_path / "claims.json").read_text()
    assert claim.hex() not in text
    assert (tmp_path / "claims.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"node": "Roof"},
        {"node": ""},
        {"node": "roof", "owner": b"short"},
        {"node": "roof", "geohash": "u33"},
        {"node": "roof", "geohash": "u33da"},
        {"node": "roof", "claim": b"short"},
    ],
)
def test_bad_fields_are_named(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(ClaimError):
        Claims(tmp_path / "claims.json").add(**fields)  # type: ignore[arg-type]
    assert Claims(tmp_path / "claims.json").waiting() == ()


def test_a_damaged_file_is_named_not_emptied(tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    path.write_text('[{"node": 7}]')
    with pytest.raises(ClaimError, match=r"claims\.json is damaged"):
        Claims(path).add("roof")
    assert path.read_text() == '[{"node": 7}]'


def _add(path: Path, name: str) -> None:
    for _ in range(20):
        Claims(path).add(name)


def test_processes_may_add_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(path, f"node-{n}")) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(Claims(path).waiting()) == 40
