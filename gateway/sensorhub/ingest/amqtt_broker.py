"""amqtt with the embedded broker's users and access rules: `python -m sensorhub.ingest.amqtt_broker <config>`.

The config is JSON: host, port, passwords (path of the password file), grants (the table of `access`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqtt.broker
import msgspec
from amqtt.broker import Broker
from amqtt.contexts import Action, BaseContext
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from sensorhub.ingest.access import Grant, permitted
from sensorhub.ingest.users import Users, check_password

MODULE = "sensorhub.ingest.amqtt_broker"


class OwnSessions(BrokerProtocolHandler):  # type: ignore[misc]
    """Gives each user sessions of his own, whatever client id he sends.

    amqtt ends the session that has a new connection's client id before it looks at the password, so anybody
    who reaches the port could end the gateway's. Here the password is looked at first.
    """

    users: Users

    @classmethod
    async def init_from_connect(cls, *arguments: Any, **named: Any) -> Any:
        """The handler and session of a connection that has just sent its CONNECT."""
        handler, session = await super().init_from_connect(*arguments, **named)
        hashed = None
        with contextlib.suppress(OSError):
            hashed = cls.users.read().get(session.username or "")
        known = hashed is not None and check_password(session.password or "", hashed)
        if known and session.client_id:
            session.client_id = f"{session.username}/{session.client_id}"
        else:
            # the plugin below refuses a stranger all the same; until then it needs an id that nobody has
            session.client_id = f"?{secrets.token_hex(16)}"
        return handler, session


class PasswordFile(BaseAuthPlugin):  # type: ignore[misc]  # amqtt has no types
    """Admits the users of the password file, read again when it changes."""

    @dataclass
    class Config:
        """Where the file is."""

        path: str = ""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._users = Users(Path(self.config.path))
        self._stamp = 0
        self._hashes: dict[str, str] = {}

    async def authenticate(self, *, session: Session) -> bool | None:
        """Whether the session's user name and password are in the file."""
        with contextlib.suppress(OSError):
            stamp = self._users.path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._hashes, self._stamp = self._users.read(), stamp
        hashed = self._hashes.get(session.username or "")
        return hashed is not None and check_password(session.password or "", hashed)


class OwnTopics(BaseTopicPlugin):  # type: ignore[misc]
    """Asks the table of `access`."""

    @dataclass
    class Config:
        """The table, a row [user, writes, topic] each."""

        grants: list[Any] = field(default_factory=list)

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._grants = [Grant(*row) for row in self.config.grants]

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        """Whether the session's user may publish to, subscribe to or receive from a topic."""
        if session is None or not session.username or not topic:
            return False
        return permitted(self._grants, session.username, topic, writes=action == Action.PUBLISH)


class ConfigFile(msgspec.Struct):
    """What the broker is told by the gateway."""

    host: str
    port: int
    passwords: str
    grants: list[tuple[str, bool, str]]


def settings(config: ConfigFile) -> dict[str, object]:
    """amqtt's configuration."""
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"{config.host}:{config.port}"}},
        "plugins": {
            f"{MODULE}.PasswordFile": {"path": config.passwords},
            f"{MODULE}.OwnTopics": {"grants": [list(row) for row in config.grants]},
        },
    }


async def serve(config: Path) -> None:
    """Runs the broker until SIGTERM or SIGINT."""
    fields = msgspec.json.decode(config.read_bytes(), type=ConfigFile)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    OwnSessions.users = Users(Path(fields.passwords))
    amqtt.broker.BrokerProtocolHandler = OwnSessions
    broker = Broker(settings(fields), loop=loop)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(serve(Path(sys.argv[1])))
