"""One typed settings tree: `sensorhub.toml`, then the environment, then secret files.

Every field is declared once, with its title, help and default; `sensorhub settings` prints this table and
a test holds `gateway/SETTINGS.md` against it. An environment variable is named `SENSORHUB_<SECTION>_<FIELD>`
(`SENSORHUB_MQTT_HOST`) and wins over the file. A secret is never written into the file: it comes from
the environment or from the file named by `<field>_file`.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import typing
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sensorhub.addresses import authority
from sensorhub.errors import SensorhubError

ENVIRONMENT_PREFIX = "SENSORHUB_"
DEFAULT_FILE = Path("sensorhub.toml")


class SettingsError(SensorhubError):
    """Raised when a setting is unknown or its value is not allowed.

    Attributes:
        key: `section.field`; empty when the whole file is wrong.
        source: the file or environment variable that holds it.
    """

    def __init__(self, key: str, source: str, problem: str) -> None:
        super().__init__(
            f"setting {key} in {source}: {problem}" if key else f"settings file {source}: {problem}"
        )
        self.key = key
        self.source = source


Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", examples=["roof"])]
Port = Annotated[int, Meta(ge=0, le=65_535)]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$")]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file."""


class Gateway(_Section, frozen=True):
    """Who this gateway is and where it keeps its data."""

    site: Annotated[
        Name,
        Meta(
            title="Site",
            description="Name of the site; second level of every MQTT topic. Letters a-z, digits and hyphens.",
        ),
    ] = "home"
    name: Annotated[
        Name,
        Meta(
            title="Gateway name",
            description="Name of this gateway; with the site it makes the origin line of the log.",
        ),
    ] = "gateway"
    data_dir: Annotated[
        str,
        Meta(
            title="Data directory",
            description="Log, keys, store and status files live below it. Relative to the working directory.",
        ),
    ] = "data"


class Mqtt(_Section, frozen=True):
    """The broker that the nodes publish to."""

    embedded: Annotated[
        Literal["auto", "mosquitto", "amqtt", "off"],
        Meta(
            title="Embedded broker",
            description="`auto` starts mosquitto when it is installed and amqtt otherwise; `off` uses the broker at host and port.",
        ),
    ] = "auto"
    host: Annotated[
        str,
        Meta(
            title="Host",
            description="Address the embedded broker listens on, or of the broker to use.",
            min_length=1,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        Port,
        Meta(
            title="Port", description="TCP port of the broker; 0 lets the embedded broker choose a free one."
        ),
    ] = 1883
    username: Annotated[
        str, Meta(title="User name", description="The gateway's own MQTT user.", min_length=1)
    ] = "gateway"
    password_file: Annotated[
        str,
        Meta(
            title="Password file",
            description="File that holds the gateway's MQTT password (or set SENSORHUB_MQTT_PASSWORD). Not needed with an embedded broker.",
        ),
    ] = ""
    tls: Annotated[
        bool, Meta(title="TLS", description="Connect with TLS and verify certificate and host name.")
    ] = False
    ca_file: Annotated[
        str,
        Meta(
            title="CA file",
            description="PEM file with the CA that signed the broker's certificate; empty means the system's.",
        ),
    ] = ""
    keepalive_s: Annotated[
        int, Meta(title="Keepalive", description="MQTT keepalive in seconds.", ge=5, le=3600)
    ] = 30


class Ingest(_Section, frozen=True):
    """How messages are taken in."""

    open_enrolment: Annotated[
        bool,
        Meta(
            title="Open enrolment",
            description="Enrol any node that announces itself, without a one-time claim. For the lab and the demo only.",
        ),
    ] = False
    future_tolerance_s: Annotated[
        float,
        Meta(
            title="Future tolerance",
            description="A reading further ahead of the gateway's clock is rejected, in seconds.",
            ge=0,
            le=86_400,
        ),
    ] = 60.0
    quarantine_bytes: Annotated[
        int,
        Meta(
            title="Quarantine size",
            description="Rejected messages are kept up to this many bytes, newest first.",
            ge=0,
        ),
    ] = 16_000_000
    verify_threads: Annotated[
        int,
        Meta(
            title="Verify threads",
            description="Threads that check signatures; 0 means one per core, at most 4.",
            ge=0,
            le=64,
        ),
    ] = 0


class Store(_Section, frozen=True):
    """The SQLite time series."""

    raw_days: Annotated[
        int, Meta(title="Raw readings", description="Days of single readings to keep; 0 keeps all.", ge=0)
    ] = 90
    five_minute_days: Annotated[
        int,
        Meta(title="5-minute rollups", description="Days of 5-minute rollups to keep; 0 keeps all.", ge=0),
    ] = 730
    hourly_days: Annotated[
        int, Meta(title="Hourly rollups", description="Days of hourly rollups to keep; 0 keeps all.", ge=0)
    ] = 0


class Quality(_Section, frozen=True):
    """How readings are judged."""

    enabled: Annotated[
        bool, Meta(title="Judge readings", description="Append verdict entries to the log.")
    ] = True
    judge: Annotated[
        Literal["rules", "model"],
        Meta(
            title="Judge",
            description="`model` compares each series with its neighbours and its own past, with the shipped network; `rules` looks at each series alone, for small machines.",
        ),
    ] = "model"
    model: Annotated[
        str,
        Meta(
            title="Model file",
            description="A .tflite file that `sensorhub train` made, for the judge `model`; empty takes the packaged one.",
        ),
    ] = ""
    model_sha256: Annotated[
        str,
        Meta(
            title="Model hash",
            description="SHA-256 of `quality.model` in hex. A file with another hash is refused, and neighbours and rules judge alone.",
            pattern=r"^([0-9a-f]{64})?$",
        ),
    ] = ""


class Chain(_Section, frozen=True):
    """Where the log is anchored."""

    rpc_url: Annotated[
        str,
        Meta(
            title="RPC URL",
            description="JSON-RPC endpoint of an EVM chain; empty switches anchoring off. An URL with a key in it belongs in SENSORHUB_CHAIN_RPC_URL.",
        ),
    ] = ""
    contract: Annotated[
        str,
        Meta(
            title="Contract",
            description="Address of the GatewayLog contract; must be known before the log is begun.",
            pattern=r"^(0x[0-9a-fA-F]{40})?$",
        ),
    ] = ""
    chain_id: Annotated[
        int, Meta(title="Chain id", description="EIP-155 chain id that the contract lives on.", ge=0)
    ] = 0
    key_file: Annotated[
        str,
        Meta(
            title="Key file",
            description="File with the gateway's private key in hex; empty means keys/chain.key in the data directory, made on first use.",
        ),
    ] = ""
    interval_s: Annotated[
        float,
        Meta(
            title="Interval", description="Seconds between checkpoints on the chain, if the log grew.", gt=0
        ),
    ] = 3600.0
    confirmations: Annotated[
        int,
        Meta(
            title="Confirmations",
            description="Blocks on top of a checkpoint before it counts as final.",
            ge=0,
            le=1000,
        ),
    ] = 3
    max_fee_gwei: Annotated[
        float, Meta(title="Highest fee", description="Never pay more than this per gas, in gwei.", gt=0)
    ] = 100.0


class Web(_Section, frozen=True):
    """The page and the API."""

    enabled: Annotated[
        bool,
        Meta(title="Serve the page", description="Serve the page, the API and the public log endpoints."),
    ] = True
    host: Annotated[
        str,
        Meta(
            title="Host",
            description="Address to listen on. The default is reachable from this machine only.",
            min_length=1,
        ),
    ] = "127.0.0.1"
    port: Annotated[Port, Meta(title="Port", description="TCP port; 0 chooses a free one.")] = 8080
    hosts: Annotated[
        tuple[HostName, ...],
        Meta(
            title="Names",
            description="Names that the page and the API answer to, without port, beside IP addresses, localhost, this machine's host name and `web.host`: those of a reverse proxy, of your DNS, of a container. Other names get 421.",
        ),
    ] = ()
    enrol_token_file: Annotated[
        str,
        Meta(
            title="Enrolment token file",
            description="File with the secret that whoever adds nodes over HTTP must show (or set SENSORHUB_WEB_ENROL_TOKEN). Neither set: no nodes are added over HTTP.",
        ),
    ] = ""


class HomeAssistant(_Section, frozen=True):
    """What Home Assistant is told over MQTT."""

    enabled: Annotated[
        bool,
        Meta(
            title="Discovery",
            description="Publish every node and its newest values for Home Assistant. Its MQTT user is made by `sensorhub home-assistant user`.",
        ),
    ] = False
    prefix: Annotated[
        str,
        Meta(
            title="Discovery prefix",
            description="First levels of the discovery topics, as set in Home Assistant.",
            pattern=r"^(?!sensorhub(/|$))[A-Za-z0-9_-]{1,32}(/[A-Za-z0-9_-]{1,32}){0,3}$",
        ),
    ] = "homeassistant"


class Snapshots(_Section, frozen=True):
    """Sealed pictures that cameras send when ordered to."""

    days: Annotated[
        int, Meta(title="Days", description="Days that a picture is kept; 0 keeps all that fit.", ge=0)
    ] = 30
    node_bytes: Annotated[
        int,
        Meta(
            title="Space of a node",
            description="Bytes kept of one node, newest first; 0 keeps none.",
            ge=0,
        ),
    ] = 200_000_000


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a gateway, every one with a default."""

    gateway: Gateway = Gateway()
    mqtt: Mqtt = Mqtt()
    ingest: Ingest = Ingest()
    store: Store = Store()
    quality: Quality = Quality()
    chain: Chain = Chain()
    web: Web = Web()
    home_assistant: HomeAssistant = HomeAssistant()
    snapshots: Snapshots = Snapshots()

    @property
    def data_dir(self) -> Path:
        """The data directory as a path."""
        return Path(self.gateway.data_dir)


# Secrets live outside the tree, so that printing settings can never print one.
SECRETS: Mapping[str, str] = {
    "mqtt.password": "mqtt.password_file",
    "web.enrol_token": "web.enrol_token_file",
}

# An RPC URL often carries an access key in its path, query or user name.
MAY_HOLD_SECRETS = frozenset({"chain.rpc_url"})


def without_secrets(url: str) -> str:
    """An URL with nothing but scheme, host and port."""
    parts = urllib.parse.urlsplit(url)
    hidden = "/..." if parts.path.strip("/") or parts.query or parts.username else ""
    return f"{parts.scheme}://{authority(parts.hostname or '', parts.port)}{hidden}"


@dataclass(frozen=True, slots=True)
class Field:
    """One setting as the documentation shows it."""

    key: str
    title: str
    help: str
    default: Any
    allowed: str

    @property
    def environment(self) -> str:
        """Name of its environment variable."""
        return _variable(self.key)


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def fields() -> Iterator[Field]:
    """Every setting, in file order."""
    for section, kind in typing.get_type_hints(Settings).items():
        defaults = kind()
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            base, meta = _unwrap(hint)
            yield Field(
                f"{section}.{name}",
                meta["title"],
                meta["description"],
                getattr(defaults, name),
                _allowed(base, meta),
            )


def _unwrap(hint: Any) -> tuple[Any, dict[str, Any]]:
    """Strips Annotated layers; later (outer) limits win."""
    layers: list[Meta] = []
    while typing.get_origin(hint) is Annotated:
        layers = [m for m in hint.__metadata__ if isinstance(m, Meta)] + layers
        hint = hint.__origin__
    merged: dict[str, Any] = {}
    for meta in layers:
        for attribute in ("title", "description", "ge", "gt", "le", "lt", "pattern", "min_length"):
            value = getattr(meta, attribute)
            if value is not None:
                merged.setdefault(attribute, value)
    return hint, merged


def _is_list(base: Any) -> bool:
    return typing.get_origin(base) is tuple


def _allowed(base: Any, meta: Mapping[str, Any]) -> str:
    if _is_list(base):
        return f"a list, with commas between in the environment; each {_allowed(*_unwrap(typing.get_args(base)[0]))}"
    if typing.get_origin(base) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in typing.get_args(base))
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    words = [kinds[base]]
    signs = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    words += [f"{sign} {meta[limit]}" for limit, sign in signs.items() if limit in meta]
    if "pattern" in meta:
        words.append(f"matching {meta['pattern']}")
    if "min_length" in meta:
        words.append("not empty")
    return ", ".join(words)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings.

    Args:
        path: the TOML file; None reads `sensorhub.toml` in the working directory where there is one.
        environ: the environment; None or empty means no overrides.

    Raises:
        SettingsError: a key is unknown or a value is not allowed; names key, value, source and what is allowed.
    """
    known = {field.key: field for field in fields()}
    tree: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for key, value, source in (*_from_file(path, known), *_from_environment(environ or {}, known)):
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = value
        sources[key] = source
    sections: dict[str, Any] = {}
    for section, kind in typing.get_type_hints(Settings).items():
        values: dict[str, Any] = {}
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            key = f"{section}.{name}"
            if key not in sources:
                continue
            raw = tree[section][name]
            from_environment = sources[key].startswith(ENVIRONMENT_PREFIX)
            if from_environment and _is_list(_unwrap(hint)[0]):
                raw = [part.strip() for part in raw.split(",") if part.strip()]
            try:
                values[name] = msgspec.convert(raw, hint, strict=not from_environment)
            except msgspec.ValidationError:
                raise SettingsError(
                    key, sources[key], f"{raw!r} is not allowed; it must be {known[key].allowed}"
                ) from None
        sections[section] = kind(**values)
    return Settings(**sections)


def _from_file(path: Path | None, known: Mapping[str, Field]) -> Iterator[tuple[str, Any, str]]:
    if path is None:
        if not DEFAULT_FILE.exists():
            return
        path = DEFAULT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            "(all)",
            str(path),
            f"cannot be read: {error.strerror}; check the path and its permissions",
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError("", str(path), f"not UTF-8 text: {error}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError("", str(path), f"not valid TOML: {error}") from None
    sections = sorted({key.split(".")[0] for key in known})
    for section, table in document.items():
        if section not in sections or not isinstance(table, dict):
            raise SettingsError(
                section, str(path), f"there is no table [{section}]; {_nearest(section, sections)}"
            )
        for name, value in table.items():
            key = f"{section}.{name}"
            if key in SECRETS:
                raise SettingsError(
                    key,
                    str(path),
                    f"a secret does not belong in this file; use {SECRETS[key]} or the environment variable {_variable(key)}",
                )
            if key not in known:
                raise SettingsError(
                    key, str(path), f"there is no such setting; {_nearest(key, sorted(known))}"
                )
            yield key, value, str(path)


def _from_environment(
    environ: Mapping[str, str], known: Mapping[str, Field]
) -> Iterator[tuple[str, Any, str]]:
    variables = {field.environment: key for key, field in known.items()}
    secrets = {_variable(key) for key in SECRETS}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in secrets:
            continue
        if variable not in variables:
            raise SettingsError(
                variable,
                "the environment",
                f"there is no such setting; {_nearest(variable, sorted(variables))}",
            )
        yield variables[variable], value, variable


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {close[0]}?" if close else "known are " + ", ".join(choices)


def secret(settings: Settings, key: str, environ: Mapping[str, str]) -> str | None:
    """The secret `key` (`mqtt.password`) from the environment or from its file; None when neither is set.

    Raises:
        SettingsError: the file is named but cannot be read, or is empty.
    """
    variable = _variable(key)
    if environ.get(variable):
        return environ[variable]
    file_key = SECRETS[key]
    section, name = file_key.split(".")
    path = getattr(getattr(settings, section), name)
    if not path:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(file_key, path, f"the file cannot be read: {error}") from None
    if not text:
        raise SettingsError(file_key, path, "the file is empty")
    return text


def document() -> str:
    """The settings reference as Markdown, one table a section."""
    lines = [
        "# Settings",
        "",
        "Written by `sensorhub settings --markdown`; a test keeps it true. Order of precedence: environment, file, default.",
    ]
    hints = typing.get_type_hints(Settings)
    section = ""
    for field in fields():
        name, leaf = field.key.split(".")
        if name != section:
            section = name
            lines += [
                "",
                f"## [{name}]",
                "",
                hints[name].__doc__ or "",
                "",
                "| key | environment | default | allowed | what |",
                "|---|---|---|---|---|",
            ]
        default = json.dumps(field.default)  # which is how TOML writes them too
        lines.append(
            f"| `{leaf}` | `{field.environment}` | `{default}` | {field.allowed.replace('|', chr(92) + '|')} | {field.help} |"
        )
    lines += [
        "",
        "Secrets, never in the file: "
        + ", ".join(f"`{_variable(key)}` (or the file named by `{file}`)" for key, file in SECRETS.items())
        + ".",
        "",
    ]
    return "\n".join(lines)
