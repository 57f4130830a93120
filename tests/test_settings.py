"""The settings tree: precedence, errors that name everything, and documents that stay true."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorhub import settings
from sensorhub.settings import SettingsError, load, secret

GATEWAY = Path(__file__).parents[1] / "gateway"


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "sensorhub.toml"
        path.write_text(text)
        return path

    return write


def test_every_setting_has_a_default_title_and_help():
    found = list(settings.fields())
    assert len(found) > 20
    assert all(field.title and field.help.endswith(".") for field in found)
    assert load(None, {}) == settings.Settings()


def test_the_reference_names_every_setting_and_is_up_to_date():
    text = (GATEWAY / "SETTINGS.md").read_text()
    assert text == settings.document(), "run: sensorhub settings --markdown > gateway/SETTINGS.md"
    assert all(f"`{field.environment}`" in text for field in settings.fields())


def test_the_environment_wins_over_the_file(toml):
    path = toml('[gateway]\nsite = "roof"\n[mqtt]\nport = 1999\n')
    loaded = load(path, {"SENSORHUB_MQTT_PORT": "2000", "SENSORHUB_MQTT_TLS": "true", "PATH": "/bin"})
    assert (loaded.gateway.site, loaded.mqtt.port, loaded.mqtt.tls) == ("roof", 2000, True)


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("[mqtt]\nport = 99999\n", "mqtt.port", ["99999", "at most 65535"]),
        ('[mqtt]\nport = "1883"\n', "mqtt.port", ["'1883'", "a whole number"]),
        ("[mqtt]\nprot = 1\n", "mqtt.prot", ["no such setting", "did you mean mqtt.port"]),
        ("[mqt]\nport = 1\n", "mqt", ["no table [mqt]", "did you mean mqtt"]),
        ('[mqtt]\nembedded = "emqx"\n', "mqtt.embedded", ["'emqx'", '"mosquitto"', '"off"']),
        ('[gateway]\nsite = "My Roof"\n', "gateway.site", ["'My Roof'", "[a-z0-9]"]),
        (
            '[mqtt]\npassword = "hunter2"\n',
            "mqtt.password",
            ["SENSORHUB_MQTT_PASSWORD", "mqtt.password_file"],
        ),
        ("[chain]\ninterval_s = 0\n", "chain.interval_s", ["0", "more than 0"]),
        ("port = \n", "", ["not valid TOML", "line 1"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_file_and_what_is_allowed(toml, text, key, words):
    path = toml(text)
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    message = str(caught.value)
    assert caught.value.key == key
    assert str(path) in message
    assert all(word in message for word in words), message
    assert "hunter2" not in message


def test_a_wrong_variable_is_named():
    with pytest.raises(SettingsError, match="SENSORHUB_WEB_PROT.*did you mean SENSORHUB_WEB_PORT"):
        load(None, {"SENSORHUB_WEB_PROT": "1"})
    with pytest.raises(SettingsError, match=r"web.port in SENSORHUB_WEB_PORT: 'http' is not allowed"):
        load(None, {"SENSORHUB_WEB_PORT": "http"})


def test_a_list_is_one_in_the_file_and_has_commas_in_the_environment(toml):
    path = toml('[web]\nhosts = ["sensors.example", "Grafana"]\n')
    assert load(path, {}).web.hosts == ("sensors.example", "Grafana")
    assert load(path, {"SENSORHUB_WEB_HOSTS": " a.example,b-2 ,"}).web.hosts == ("a.example", "b-2")
    assert load(path, {"SENSORHUB_WEB_HOSTS": ""}).web.hosts == ()


@pytest.mark.parametrize("value", ['"sensors.example"', '["*"]', '["h:80"]', '["http://h/"]', "[1]", '[""]'])
def test_a_list_of_names_takes_nothing_else(toml, value):
    with pytest.raises(SettingsError, match=r"web\.hosts in .*is not allowed; it must be a list"):
        load(toml(f"[web]\nhosts = {value}\n"), {})


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere\.toml.*cannot be read"):
        load(tmp_path / "nowhere.toml", {})


def test_secrets_come_from_the_environment_or_a_file(tmp_path, toml):
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    loaded = load(toml(f'[mqtt]\npassword_file = "{path}"\n'), {})
    assert secret(loaded, "mqtt.password", {}) == "correct horse"
    assert secret(loaded, "mqtt.password", {"SENSORHUB_MQTT_PASSWORD": "battery"}) == "battery"
    assert secret(settings.Settings(), "mqtt.password", {}) is None
    assert "correct horse" not in repr(loaded)
    path.write_text("\n")
    with pytest.raises(SettingsError, match="empty"):
        secret(loaded, "mqtt.password", {})


@given(st.dictionaries(st.sampled_from([f.environment for f in settings.fields()]), st.text(max_size=12)))
def test_any_environment_gives_settings_or_a_settings_error(environ):
    try:
        loaded = load(None, environ)
    except SettingsError as error:
        assert any(variable in str(error) for variable in environ)
    else:
        assert isinstance(loaded, settings.Settings)
