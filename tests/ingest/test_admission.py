"""A claim and a user for a new node: together or not at all, whoever else writes at the same time."""

import multiprocessing
from pathlib import Path

import pytest

from sensorhub.errors import SensorhubError
from sensorhub.ingest.admission import Admissions
from sensorhub.ingest.users import Users, check_password
from sensorhub.nodes.claims import Claims

CLAIM = bytes(range(16))
PASSWORD = "a-password-of-a-node"
WORKERS, NODES = 3, 12


def _admit(data_dir: Path, worker: int) -> None:
    admissions = Admissions(data_dir)
    for number in range(NODES):
        admissions.admit(f"n-{worker}-{number}", "air", claim=CLAIM, password=PASSWORD)


def test_processes_that_admit_while_another_redeems_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_admit, args=(tmp_path, worker)) for worker in range(WORKERS)]
    for worker in workers:
        worker.start()
    claims, redeemed = Claims(tmp_path / "claims.json"), set()
    while any(worker.is_alive() for worker in workers):
        for waiting in claims.waiting()[:2]:
            assert claims.redeem(waiting.node, CLAIM) is not None
            redeemed.add(waiting.node)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    every = {f"n-{worker}-{number}" for worker in range(WORKERS) for number in range(NODES)}
    users = Users.of(tmp_path)
    assert set(users.names()) == every
    assert check_password(PASSWORD, users.read()["n-0-0"])
    assert redeemed | {waiting.node for waiting in claims.waiting()} == every


def test_without_its_user_there_is_no_claim_either(tmp_path):
    (tmp_path / "broker" / "passwords.lock").mkdir(parents=True)  # so that it cannot be locked
    with pytest.raises(SensorhubError):
        Admissions(tmp_path).admit("w-1", "air", claim=CLAIM, password=PASSWORD)
    assert Claims(tmp_path / "claims.json").waiting() == ()


def test_a_name_is_known_by_its_user_or_its_claim(tmp_path):
    admissions = Admissions(tmp_path)
    assert not admissions.knows("w-1")
    admissions.admit("w-1", "air", claim=CLAIM, password=PASSWORD)
    Claims(tmp_path / "claims.json").redeem("w-1", CLAIM)
    assert admissions.knows("w-1")
    with pytest.raises(SensorhubError, match="w-1"):
        admissions.admit("w-1", "air", claim=CLAIM, password=PASSWORD)
    admissions.admit("w-1", "air", claim=CLAIM, password="another-password", replace=True)
    assert check_password("another-password", Users.of(tmp_path).read()["w-1"])
    assert Claims(tmp_path / "claims.json").find("w-1", CLAIM)
    admissions.admit("w-1", "air", claim=bytes(16), password=PASSWORD, replace=True)
    assert (
        Claims(tmp_path / "claims.json").find("w-1", CLAIM) is None
    )  # a claim that was replaced opens nothing
    Claims(tmp_path / "claims.json").add("w-2")
    assert admissions.knows("w-2")
    elsewhere = Admissions(tmp_path, embedded=False)
    elsewhere.admit("w-3", "air", claim=CLAIM, password="")
    assert "w-3" not in Users.of(tmp_path).names()
