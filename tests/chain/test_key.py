"""The key file of the gateway's account."""

import multiprocessing

import coincurve
import pytest

from sensorhub.chain import key
from sensorhub.chain.errors import ChainError


def test_is_made_once_and_read_again(tmp_path):
    path = tmp_path / "keys" / "chain.key"
    made = key.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert key.load_or_create(path) == made
    assert key.load(path) == made
    assert [file.name for file in path.parent.iterdir()] == ["chain.key"]


@pytest.mark.parametrize("prefix", ["", "0x"])
def test_takes_hex_with_or_without_0x(tmp_path, prefix):
    path = tmp_path / "chain.key"
    path.write_text(prefix + "00" * 31 + "07\n")
    path.chmod(0o600)
    assert key.load(path) == coincurve.PrivateKey(b"\x07".rjust(32, b"\0"))


@pytest.mark.parametrize("text", ["", "00" * 32, "ff" * 32, "07", "12" * 33, "zz" * 32, "é"])
def test_refuses_what_is_no_key_without_showing_it(tmp_path, text):
    path = tmp_path / "chain.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ChainError, match=r"chain\.key") as caught:
        key.load(path)
    told = str(caught.value).replace(str(path), "")  # the folder's name may hold these digits by chance
    assert not text or text not in told


def test_refuses_a_key_that_others_can_read(tmp_path):
    path = tmp_path / "chain.key"
    key.load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(ChainError, match="chmod 600"):
        key.load(path)


def test_says_which_file_is_missing(tmp_path):
    with pytest.raises(ChainError, match="nothing.key"):
        key.load(tmp_path / "nothing.key")


def test_two_processes_that_make_it_at_once_get_the_same(tmp_path):
    path = tmp_path / "chain.key"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        made = pool.map(hexed, [path] * 8)
    assert len(set(made)) == 1


def hexed(path):
    return key.load_or_create(path).to_hex()
