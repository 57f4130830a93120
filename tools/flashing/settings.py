"""What a node has to be told: networks, broker, gateway. From the command line, the environment, a file, or a prompt.

Secrets come from the environment, a file or a prompt and never from the command line; no `repr` shows them.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from flashing.exits import Exit, FlashError

PREFIX: Final = "FLASH_"
DEFAULT_FILE: Final = "flash.toml"
MQTT_PORT: Final = 1883
MQTTS_PORT: Final = 8883

Prompt = Callable[[str, bool], str]
"""Asks a person: what for, and whether the answer is to be hidden."""


class Setting(NamedTuple):
    """One setting of the file.

    Attributes:
        key: section and name.
        what: what it is, for people.
        secret: whether it has to be kept quiet.
    """

    key: str
    what: str
    secret: bool = False

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.key.replace(".", "_").upper()


SETTINGS: Final = (
    Setting("wifi.ssid", "name of the Wi-Fi network"),
    Setting("wifi.password", "its password; empty for an open network", secret=True),
    Setting("broker.host", "the MQTT broker as the node sees it: HOST or HOST:PORT"),
    Setting("broker.password", "the node's MQTT password; made anew when left out", secret=True),
    Setting("broker.ca", "file with the CA certificate of a broker with TLS"),
    Setting("gateway.url", "the gateway's page"),
    Setting("gateway.token", "the gateway's token for enrolling nodes", secret=True),
    Setting("gateway.dir", "the gateway's data directory, when it is on this computer"),
    Setting(
        "gateway.site_key",
        "public key whose owner may configure the node, 128 hex digits; the gateway says its own",
    ),
    Setting(
        "gateway.release_key",
        "public key whose owner may update the node, 128 hex digits; the gateway says one when it knows it",
    ),
)
_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}


@dataclass(slots=True)
class Sources:
    """Where settings come from, in this order: `given` (command line), the environment, the file, a person.

    Attributes:
        given: values by key; never a secret.
        environ: the environment.
        file: values by key.
        prompt: asks a person; None when nobody is there.
    """

    given: Mapping[str, str]
    environ: Mapping[str, str] = field(repr=False)
    file: Mapping[str, str] = field(repr=False)
    prompt: Prompt | None = None

    def find(self, key: str) -> str | None:
        """The value of a setting, or None when nobody has said it."""
        setting = _BY_KEY[key]
        if self.given.get(key):
            return self.given[key]
        if setting.variable in self.environ:
            return self.environ[setting.variable]
        return self.file.get(key)

    def need(self, key: str) -> str:
        """The value of a setting, asked for when nobody has said it.

        Raises:
            FlashError: nobody has said it and nobody can be asked.
        """
        found = self.find(key)
        if found is not None:
            return found
        setting = _BY_KEY[key]
        if self.prompt is None:
            raise FlashError(
                Exit.SETTINGS,
                f"nobody has said {key}: {setting.what}",
                f"Set {setting.variable}, or {key} in {DEFAULT_FILE}.",
            )
        return self.prompt(setting.what, setting.secret)


def load_file(path: Path | None, here: Path) -> dict[str, str]:
    """The values of a settings file: the one named, or `flash.toml` in the directory `here`, or none.

    `wifi.password_file = "PATH"` takes the value of `wifi.password` from a file; so does every other key.

    Raises:
        FlashError: it cannot be read, has an unknown key, or others may read its secrets.
    """
    if path is None:
        path = here / DEFAULT_FILE
        if not path.exists():
            return {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        open_to_others = path.stat().st_mode & 0o077
    except OSError as error:
        raise FlashError(Exit.SETTINGS, f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        # the parser's own words may quote a line with a secret in it
        raise FlashError(Exit.SETTINGS, f"{path} is not TOML", "Mend the file.") from None
    found = {}
    for section, rows in data.items():
        for name, value in (rows if isinstance(rows, dict) else {"": rows}).items():
            key = f"{section}.{name}".rstrip(".")
            if key in _BY_KEY and isinstance(value, str):
                found[key] = value
                if _BY_KEY[key].secret and open_to_others:
                    raise FlashError(
                        Exit.SETTINGS, f"{path} holds {key} and others may read it", f"Run chmod 600 {path}."
                    )
            elif key.removesuffix("_file") in _BY_KEY and isinstance(value, str):
                found[key.removesuffix("_file")] = _first_line(path.parent / value)
            else:
                known = ", ".join(_BY_KEY)
                raise FlashError(Exit.SETTINGS, f"{path}: there is no setting {key!r}; there are {known}")
    return found


def _first_line(path: Path) -> str:
    try:
        return (path.read_text(encoding="utf-8").splitlines() or [""])[0]
    except (OSError, UnicodeDecodeError) as error:
        raise FlashError(Exit.SETTINGS, f"{path} cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker as the node reaches it.

    Attributes:
        host: name or address.
        port: TCP port.
        ca: CA certificates in PEM or DER; empty for a broker without TLS.
    """

    host: str
    port: int
    ca: bytes = b""


def wifi(sources: Sources) -> tuple[str, str]:
    """Name and password of the Wi-Fi network, the password empty for an open one.

    Raises:
        FlashError: not said, or of a length that no network has (IEEE 802.11, 9.4.2.2 and J.4.1).
    """
    ssid = sources.need("wifi.ssid")
    if sources.find("wifi.password") is None and sources.prompt is None:
        raise FlashError(
            Exit.SETTINGS,
            f"nobody has said the password of the Wi-Fi network {ssid!r}",
            "Set FLASH_WIFI_PASSWORD, or say --open when it has none.",
        )
    password = sources.need("wifi.password")
    if not 0 < len(ssid.encode()) <= 32:
        raise FlashError(
            Exit.SETTINGS,
            f"wifi.ssid has {len(ssid.encode())} bytes",
            "Give the network's name, 1 to 32 bytes.",
        )
    if password and not 8 <= len(password.encode()) <= 63:
        raise FlashError(
            Exit.SETTINGS,
            f"wifi.password has {len(password.encode())} bytes",
            "Give 8 to 63, or none with --open for an open network.",
        )
    return ssid, password


def broker(sources: Sources, fallback: str) -> Broker:
    """The broker's address; `fallback` when nobody has said it.

    Raises:
        FlashError: not said, no address, or its CA file cannot be read.
    """
    said = sources.find("broker.host") or fallback or sources.need("broker.host")
    host, colon, digits = said.rpartition(":")
    if not colon or (said.count(":") > 1 and not host.endswith("]")):
        host, digits = said, ""
    ca = b""
    ca_file = sources.find("broker.ca")
    if ca_file:
        try:
            ca = Path(ca_file).read_bytes()
        except OSError as error:
            raise FlashError(Exit.SETTINGS, f"{ca_file} cannot be read: {error.strerror}") from None
    port = (MQTTS_PORT if ca else MQTT_PORT) if not digits else int(digits) if digits.isdigit() else 0
    if not host or not 0 < port < 65_536:
        raise FlashError(Exit.SETTINGS, f"{said!r} is no broker", "Say HOST or HOST:PORT.")
    return Broker(host.strip("[]"), port, ca)


def local_broker(data_dir: Path) -> str:
    """HOST:PORT of the broker of a gateway on this computer, or nothing when it says none."""
    try:
        status = json.loads((data_dir / "status" / "ingest.json").read_text(encoding="utf-8"))
        address: Any = status["address"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(address).rpartition("@")[2].rpartition("/")[2]
