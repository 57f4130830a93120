"""Remote settings: the gateway signs what a node takes, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorhub.control.orders import OrderError, change_settings, check_settings

FIRMWARE = Path(__file__).parents[2] / "firmware" / "sensornode" / "config.py"
FILE = {
    "site": "lab",
    "node": "roof",
    "kind": "weather",
    "interval": 1,
    "publish": 1,
    "broker": {"host": "h"},
}


def firmware() -> Any:
    spec = importlib.util.spec_from_file_location("node_config", FIRMWARE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


CONFIG = firmware()

numbers = st.integers(-2, 90_000) | st.sampled_from([1, 5, 600, 3600, 3601, 65_535, 65_536, 86_400, 86_401])
odd = st.none() | st.booleans() | st.floats(0, 10) | st.text(max_size=3) | st.just([]) | st.just({})
any_of = st.one_of(numbers, odd)
rows = st.lists(
    st.dictionaries(st.sampled_from(["driver", "pin"]), st.text(max_size=2) | numbers) | odd, max_size=2
)
settings = st.fixed_dictionaries(
    {},
    optional={
        "interval": any_of,
        "publish": any_of,
        "sleep": any_of,
        "ntp": st.lists(st.text(max_size=3) | numbers, max_size=2) | odd,
        "sensors": rows | odd,
        "wifi": odd,
        "broker": st.fixed_dictionaries(
            {},
            optional={
                "host": st.text(max_size=3) | st.just("h" * 254) | odd,
                "port": any_of,
                "keepalive": any_of,
                "retry": any_of,
                "receipt": any_of,
                "password": odd,
            },
        )
        | odd,
    },
)


@given(settings)
def test_the_gateway_signs_what_the_firmware_takes(chosen: dict[str, Any]) -> None:
    try:
        data = CONFIG.overlay({**FILE, "sensors": []}, chosen)
        if "interval" in chosen and "publish" not in chosen:
            data.pop("publish")  # whether the file's own is a multiple the gateway cannot know
        CONFIG.check(data)
    except CONFIG.ConfigError:
        taken = False
    else:
        taken = True
    try:
        check_settings(chosen)
    except OrderError:
        assert not taken, chosen
    else:
        assert taken, chosen


def test_settings_are_changed_one_by_one() -> None:
    first = change_settings({}, ["interval=60", "broker.host=10.0.0.1", "broker.retry=5", "sleep=true"], [])
    assert first == {"interval": 60, "broker": {"host": "10.0.0.1", "retry": 5}, "sleep": True}
    assert change_settings(first, ['ntp=["a.example"]'], ["sleep", "broker.host"]) == {
        "interval": 60,
        "broker": {"retry": 5},
        "ntp": ["a.example"],
    }
    assert change_settings(first, [], ["broker.host", "broker.retry", "interval", "sleep"]) == {}
    assert first["sleep"] is True


@pytest.mark.parametrize(
    ("assign", "unset", "said"),
    [
        ("interval", "", "key=value"),
        ("interval=0", "", "interval must be a whole number from 1 to 86400, not 0"),
        ("interval=1.5", "", "1.5"),
        ("intervall=5", "", "'intervall' cannot be set remotely; possible: broker, interval"),
        ("broker.password=x", "", "of broker only these"),
        ("broker.port=0", "", "broker.port must be a whole number from 1 to 65535"),
        ("broker=x", "", "of broker only these"),
        ("interval.x=1", "", "interval has no part x"),
        ("publish=90", "", "publish 90 must be a multiple of interval 60"),
        ("sensors=bme280", "", "sensors must be a list of objects"),
        ("", "sleep", "sleep is not set remotely"),
        ("", "broker.port", "broker.port is not set remotely"),
    ],
)
def test_what_is_wrong_is_named(assign: str, unset: str, said: str) -> None:
    with pytest.raises(OrderError) as caught:
        change_settings({"interval": 60}, [assign] if assign else [], [unset] if unset else [])
    assert said in str(caught.value)
