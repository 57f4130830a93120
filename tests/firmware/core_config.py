"""node.json: what is accepted, and what a wrong value says."""

import json

from sensornode.config import ConfigError, check, complete, load, overlay

GOOD = {
    "site": "lab",
    "node": "roof-1",
    "kind": "weather",
    "interval": 60,
    "broker": {"host": "10.0.0.1", "password": "pssst"},
    "wifi": [{"ssid": "open"}, {"ssid": "home", "password": "pssst"}],
    "sensors": [{"driver": "replay", "file": "x"}],
}


def config(**changes):
    data = json.loads(json.dumps(GOOD))
    data.update(changes)
    return check(data)


def refusal(**changes):
    try:
        config(**changes)
    except ConfigError as error:
        text = str(error)
        assert text.startswith("node.json: "), text
        assert "pssst" not in text
        return text
    raise AssertionError(f"accepted {changes!r}")


def test_defaults():
    good = config()
    assert good.publish == 60
    assert good.broker_port == 1883
    assert good.broker_user == "roof-1"
    assert good.broker_keepalive == 60
    assert good.claim is None
    assert good.watchdog == 120
    assert good.spool_bytes == 1 << 20
    assert good.spool_segments == 32
    assert good.wifi == [("open", ""), ("home", "pssst")]
    assert config(claim="00ff").claim == b"\x00\xff"


def test_a_wrong_value_names_its_key_and_what_is_allowed():
    assert "site must be" in refusal(site="Lab")
    assert "node must be" in refusal(node="-x")
    assert "node must be" in refusal(node="a" * 33)
    assert "interval must be from 1 to 86400" in refusal(interval=0)
    assert "interval must be a whole number" in refusal(interval="60")
    assert "interval must be a whole number" in refusal(interval=True)
    assert "publish must be a multiple of interval" in refusal(publish=90)
    assert "claim must be hexadecimal digits" in refusal(claim="xyz")
    assert "claim must be hexadecimal digits" in refusal(claim="")
    assert "broker.port must be from 1 to 65535" in refusal(broker={"host": "h", "port": 0})
    assert "broker.host must be text" in refusal(broker={})
    assert "broker must be an object" in refusal(broker=None)
    assert "wifi[1].ssid must be text" in refusal(wifi=[{"ssid": "a"}, {"password": "pssst"}])
    assert "sensors[0] must be an object" in refusal(sensors=[3])
    assert "spool.segments must be" in refusal(spool={"bytes": 16384, "segments": 4})
    assert "kind must be text" in refusal(kind="")


def test_an_unknown_key_is_refused():
    assert "intervall must be left out" in refusal(intervall=5)
    assert "broker.pasword must be left out" in refusal(broker={"host": "h", "pasword": "pssst"})


def test_a_file_that_is_missing_or_no_json_is_named():
    for text in (None, "{"):
        if text:
            with open("broken.json", "w") as file:
                file.write(text)
        try:
            load("broken.json")
        except ConfigError as error:
            assert str(error).startswith("broken.json: ")
        else:
            raise AssertionError("loaded")


def test_tls_and_keys():
    secure = config(broker={"host": "h", "ca": "ca.pem"}, keys={"site": "ab" * 64})
    assert secure.broker_ca == "ca.pem"
    assert secure.broker_port == 8883
    assert secure.keys_site == b"\xab" * 64
    assert secure.keys_release is None
    assert config().broker_ca == ""
    for key in ("ab", "x" * 128, "ab" * 65):
        assert "keys.site must be 128 hexadecimal digits" in refusal(keys={"site": key})
    assert "ntp must be a list of texts" in refusal(ntp=[3])


def test_remote_settings_replace_those_that_may_be_set_and_no_other():
    data = json.loads(json.dumps(GOOD))
    merged = overlay(data, {"interval": 5, "broker": {"host": "other"}, "sensors": [], "publish": 10})
    assert data == GOOD
    changed = check(merged)
    assert (changed.interval, changed.publish, changed.sensors) == (5, 10, [])
    assert (changed.broker_host, changed.broker_password) == ("other", "pssst")
    for settings in (
        {"site": "x"},
        {"wifi": []},
        {"keys": {}},
        {"claim": "00"},
        {"watchdog": 0},
        {"broker": 5},
        {"broker": {"ca": ""}},
        {"broker": {"password": "pssst"}},
    ):
        try:
            overlay(data, settings)
        except ConfigError as error:
            assert "must not set" in str(error)
            assert "pssst" not in str(error)
        else:
            raise AssertionError(f"took {settings!r}")


def test_credentials_of_nvs_are_taken_where_the_file_has_none():
    bare = {key: value for key, value in GOOD.items() if key != "wifi"}
    bare["broker"] = {"host": "10.0.0.1"}
    credentials = {
        "wifi": b'[{"ssid": "roof", "password": "pssst"}]',
        "mqtt": b'{"user": "roof-1", "password": "more pssst"}',
        "claim": b"\x00\xff",
    }
    taken = check(complete(bare, credentials))
    assert taken.wifi == [("roof", "pssst")]
    assert (taken.broker_user, taken.broker_password) == ("roof-1", "more pssst")
    assert taken.claim == b"\x00\xff"
    assert bare["broker"] == {"host": "10.0.0.1"}
    file = check(complete(dict(GOOD, claim="01"), credentials))
    assert file.wifi == [("open", ""), ("home", "pssst")]
    assert file.broker_password == "pssst"
    assert file.claim == b"\x01"
    assert check(complete(dict(GOOD, wifi=[]), credentials)).wifi == []
    # set up anew as another node, with the login of that one
    other = check(complete(dict(bare, node="shed-1", broker={"host": "h", "password": "new"}), credentials))
    assert (other.broker_user, other.broker_password) == ("shed-1", "new")
    assert complete(bare, {}) == bare
    assert complete([], credentials) == []


def test_damaged_credentials_are_named_and_not_shown():
    bare = {key: value for key, value in GOOD.items() if key != "wifi"}
    for damaged in ({"wifi": b'[{"ssid": "pssst'}, {"mqtt": b"pssst"}, {"mqtt": b"5"}):
        try:
            complete(bare, damaged)
        except ConfigError as error:
            assert "pssst" not in str(error)
        else:
            raise AssertionError(f"took {damaged!r}")
