"""Acts that another process asks the poster for."""

import importlib.util
import sys
import time
from pathlib import Path

import coincurve
import pytest

from sensorhub.chain import digest
from sensorhub.chain.errors import ChainError, ForkError
from sensorhub.chain.requests import FOR_EVER, ask_close, ask_flag, ask_rotate, read_requests

_spec = importlib.util.spec_from_file_location("poster_tests", Path(__file__).with_name("test_poster.py"))
poster_tests = sys.modules.setdefault("poster_tests", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(poster_tests)
make_site = poster_tests.make_site
settle = poster_tests.settle


@pytest.fixture
def site(make_site, chain):
    return make_site(chain)


def flags(site):
    events = site.chain.contract._contract.events.Flagged.get_logs(from_block=0)
    named = [event["args"] for event in events if bytes(event["args"]["logId"]) == site.log_id]
    return [(one["fromSize"], one["toSize"], one["reason"]) for one in named]


def states(site):
    return [str(one.state) for one in read_requests(site.path / "chain.sqlite")]


def test_flags_are_made_between_checkpoints_and_once(site):
    file = site.path / "chain.sqlite"
    site.grow(5)
    assert read_requests(file) == []
    assert ask_flag(file, 2, 4, "pump broken") == 1
    settle(site.poster())
    site.grow(3)
    assert ask_flag(file, 3, FOR_EVER, "key stolen") == 2
    assert ask_flag(file, 2, 4, "pump broken") == 1
    for _ in range(3):
        settle(site.poster())
    assert flags(site) == [(2, 4, "pump broken"), (3, FOR_EVER, "key stolen")]
    assert states(site) == ["done", "done"]
    assert [one.size for one in site.on_chain()] == [6, 9]
    assert site.posters[0].status()["requests"] == 0
    assert all(one.tx and one.block for one in read_requests(file))


def test_an_act_is_final_after_enough_blocks_and_comes_back_after_a_reorganisation(site):
    poster = site.poster(confirmations=3)
    settle(poster)
    snapshot = site.chain.snapshot()
    ask_flag(site.path / "chain.sqlite", 0, 1, "rain")
    settle(poster)
    assert states(site) == ["mined"]
    site.chain.revert(snapshot)
    assert flags(site) == []
    settle(poster)
    assert flags(site) == [(0, 1, "rain")]
    site.chain.mine(3)
    settle(site.poster(confirmations=3))
    assert states(site) == ["done"]
    assert flags(site) == [(0, 1, "rain")]


def test_a_poster_that_died_before_it_sent_sends_the_same(site, monkeypatch):
    settle(site.poster())
    ask_flag(site.path / "chain.sqlite", 0, 1, "rain")
    poster = site.poster()
    monkeypatch.setattr(poster._contract, "send", lambda raw: (_ for _ in ()).throw(ChainError("gone")))
    with pytest.raises(ChainError, match="gone"):
        poster.step()
    monkeypatch.undo()
    [before] = read_requests(site.path / "chain.sqlite")
    assert (before.state, before.block) == ("sent", None)
    settle(site.poster())
    [after] = read_requests(site.path / "chain.sqlite")
    assert (after.state, after.tx) == ("done", before.tx)
    assert flags(site) == [(0, 1, "rain")]


def proof_of(site, successor):
    """The address of a key that shall sign from now on, and its word that somebody holds it."""
    contract, address = site.chain.contract, digest.address(successor.public_key)
    hashed = digest.rotate_hash(site.log_id, contract.head(site.log_id).nonce, address)
    return address, digest.sign(digest.typed_digest(hashed, site.chain.chain_id, contract.address), successor)


def steps(poster):
    """Steps until an error ends it."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        poster.step()
        time.sleep(0.02)


def test_a_log_is_handed_over_with_the_new_keys_proof(site):
    settle(site.poster())
    successor, file = coincurve.PrivateKey(), site.path / "chain.sqlite"
    address, proof = proof_of(site, successor)
    ask_rotate(file, address, bytes([proof[0] ^ 1]) + proof[1:])
    ask_rotate(file, address, proof)
    poster = site.poster()
    with pytest.raises(ForkError, match="handed over"):
        steps(poster)
    assert states(site) == ["refused", "done"]
    assert read_requests(file)[0].error == "wrong signature"
    site.chain.fund(address)
    site.grow(2)
    settle(site.poster(key=successor))
    assert [one.size for one in site.on_chain()] == [1, 3]


def test_a_log_that_is_handed_over_while_the_poster_looks_is_recorded_as_done(site, monkeypatch):
    settle(site.poster())
    contract, file = site.chain.contract, site.path / "chain.sqlite"
    ask_rotate(file, *proof_of(site, coincurve.PrivateKey()))
    poster, deadline = site.poster(), time.monotonic() + 90
    poster.step()
    while contract.head(site.log_id).signer == site.address:
        assert time.monotonic() < deadline
    answers, receipt = [None], contract.receipt
    monkeypatch.setattr(contract, "receipt", lambda tx: answers.pop() if answers else receipt(tx))
    with pytest.raises(ForkError, match="handed over"):
        poster.step()
    assert answers == []
    assert states(site) == ["done"]


def test_a_log_is_closed_and_can_still_be_flagged(site):
    settle(site.poster())
    file = site.path / "chain.sqlite"
    ask_close(file)
    ask_flag(file, 0, 1, "after the end")
    poster = site.poster()
    with pytest.raises(ForkError, match="closed"):
        steps(poster)
    assert site.chain.contract.head(site.log_id).closed
    assert flags(site) == [(0, 1, "after the end")]
    assert states(site) == ["done", "done"]


def test_what_cannot_be_asked_for_says_so(tmp_path):
    file = tmp_path / "chain.sqlite"
    for start, stop in ((3, 3), (-1, 2), (4, 3), (2**63, FOR_EVER), (0, 2**63)):
        with pytest.raises(ChainError, match="no range"):
            ask_flag(file, start, stop, "x")
    with pytest.raises(ChainError, match="at most 256 bytes"):
        ask_flag(file, 0, 1, "é" * 129)
    with pytest.raises(ChainError, match="20 bytes"):
        ask_rotate(file, b"", b"")


def test_what_is_refused_because_the_contract_went_on_meanwhile_is_asked_again(site, monkeypatch):
    settle(site.poster())
    contract, file = site.chain.contract, site.path / "chain.sqlite"
    head = contract.head
    stale = head(site.log_id)
    ask_close(file)
    ask_flag(file, 0, 1, "after the end")
    poster = site.poster()
    deadline = time.monotonic() + 90
    poster.step()
    while not head(site.log_id).closed:
        assert time.monotonic() < deadline
    answers = [stale]
    monkeypatch.setattr(contract, "head", lambda log_id: answers.pop() if answers else head(log_id))
    poster.step()
    assert answers == []
    assert states(site)[1] == "asked"
    with pytest.raises(ForkError, match="closed"):
        steps(poster)
    assert states(site) == ["done", "done"]
    assert flags(site) == [(0, 1, "after the end")]
