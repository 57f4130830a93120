"""Signing of configurations and updates, and what is refused before it reaches a node."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import cbor2
import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sensorhub.control import (
    ControlKeyError,
    OrderError,
    load_or_create_key,
    open_order,
    sign_config,
    sign_update,
)
from sensorhub.control.keys import load_key
from sensorhub.control.orders import CONFIG_TYPE, MAX_ORDER_BYTES, UPDATE_TYPE
from sensorhub.wire import public_key_of

KEY = PrivateKey(bytes(31) + b"\x15")
PUBLIC = public_key_of(KEY)


def config(**more: Any) -> bytes:
    values: dict[str, Any] = {"site": "lab", "node": "roof", "version": 3, "settings": {"interval": 5}}
    return sign_config(KEY, **(values | more))


def update(**more: Any) -> bytes:
    values: dict[str, Any] = {
        "site": "lab",
        "node": None,
        "sequence": 9,
        "version": "1.2.3",
        "minimum": "1.0.0",
        "form": "files",
        "image": b"image",
        "url": "http://gateway:8080/firmware/1.2.3.tar",
    }
    return sign_update(KEY, **(values | more))


def test_the_maps_are_those_of_the_readme() -> None:
    order = open_order(config(), PUBLIC)
    assert order.content_type == CONFIG_TYPE
    assert order.content == {0: "urn:dev:sensorhub:lab:roof:", 1: 3, 2: "0.0.0", 3: {"interval": 5}, 4: None}
    order = open_order(update(), PUBLIC)
    assert order.content_type == UPDATE_TYPE
    assert order.content == {
        0: "urn:dev:sensorhub:lab:*:",
        1: 9,
        2: "1.2.3",
        3: "1.0.0",
        4: "files",
        5: 5,
        6: hashlib.sha256(b"image").digest(),
        7: "http://gateway:8080/firmware/1.2.3.tar",
        8: None,
        9: None,
    }
    assert open_order(config(expires=1_800_000_000), PUBLIC).content[4] == 1_800_000_000
    assert open_order(update(expires=1_800_000_000), PUBLIC).content[9] == 1_800_000_000


def test_an_order_is_plain_cose_for_others_too() -> None:
    tagged = cbor2.loads(config())
    assert tagged.tag == 18
    protected, unprotected, _, signature = tagged.value
    assert cbor2.loads(protected) == {1: -47, 3: CONFIG_TYPE, 4: hashlib.sha256(PUBLIC).digest()[:8]}
    assert unprotected == {}
    assert len(signature) == 64


@pytest.mark.parametrize(
    "more",
    [
        {"site": "Lab"},
        {"node": "*"},
        {"version": 0},
        {"version": 2**31},
        {"firmware": "1.2"},
        {"settings": {"wifi": []}},
        {"settings": {"keys": {}}},
        {"settings": {"broker": {"password": "x"}}},
        {"settings": {"broker": "x"}},
        {"settings": {"ntp": ["x" * 2000]}},
        {"settings": {"sensors": [object()]}},
        {"expires": 0},
        {"expires": 1_800_000_000_000},
    ],
)
def test_a_configuration_that_no_node_would_take_is_not_signed(more: dict[str, Any]) -> None:
    with pytest.raises(OrderError):
        config(**more)


@pytest.mark.parametrize(
    "more",
    [
        {"site": None, "node": "roof"},
        {"sequence": 0},
        {"version": "1.2.1024"},
        {"version": "01.2.3"},
        {"minimum": "1.2.4"},
        {"form": "zip"},
        {"form": "app"},
        {"image": b""},
        {"url": "ftp://h/x"},
        {"url": "http://h/a b"},
        {"url": "http://"},
        {"expires": -1},
    ],
)
def test_a_manifest_that_no_node_would_take_is_not_signed(more: dict[str, Any]) -> None:
    with pytest.raises(OrderError):
        update(**more)


def test_for_every_node_of_every_site() -> None:
    assert open_order(update(site=None), PUBLIC).content[0] == "urn:dev:sensorhub:*:*:"


@given(st.data())
def test_a_changed_order_is_refused(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from([config(), update()])))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(OrderError):
        open_order(bytes(raw), PUBLIC)


@given(st.binary(max_size=300))
def test_what_is_no_order_is_refused(raw: bytes) -> None:
    with pytest.raises(OrderError):
        open_order(raw, PUBLIC)


def test_another_key_is_refused() -> None:
    with pytest.raises(OrderError):
        open_order(config(), public_key_of(PrivateKey(bytes(31) + b"\x16")))


def test_no_order_is_longer_than_a_node_takes() -> None:
    raw = config(settings={"ntp": ["x" * 200] * 8})
    assert len(raw) <= MAX_ORDER_BYTES


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "site.key"
    key = load_or_create_key(path)
    assert load_or_create_key(path).secret == key.secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["site.key"]
    path.chmod(0o640)
    with pytest.raises(ControlKeyError, match="chmod 600"):
        load_key(path)
    path.chmod(0o600)
    for text in ("", "xyz", "00" * 32, "ff" * 32, "00" * 31):
        path.write_text(text)
        with pytest.raises(ControlKeyError) as caught:
            load_key(path)
        assert not text or text not in str(caught.value)


def test_a_key_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ControlKeyError, match=r"site\.key"):
        load_or_create_key(tmp_path / "file" / "site.key")
    assert os.listdir(tmp_path) == ["file"]
