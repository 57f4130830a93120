"""The control process's connection to the broker: confirmed publications out, what nodes and Home Assistant say in.

The session is persistent, so that a picture that comes while this process is down waits at the broker.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from sensorhub.addresses import authority
from sensorhub.control.errors import ControlError, UnacknowledgedError
from sensorhub.errors import SensorhubError

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
LOOK_S: Final = 0.2
KEEPALIVE_S: Final = 60
MAX_INFLIGHT: Final = 100

Handler = Callable[[str, bytes], bool]
"""Takes topic and payload; False keeps the message at the broker until the next connection."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One retained MQTT message; an empty payload takes an earlier one back."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Account:
    """Where the broker is, and as whom to log in."""

    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)


class Connection:
    """One client of the broker, which connects again for ever.

    Args:
        locate: the account; asked at each attempt, because an embedded broker that starts again has new ones. Raises
            SensorhubError when there is none yet.
        client_id: known to nobody else, and the same at each start.
        handlers: topic filter to who takes its messages, in the network thread.
        tls: context of a connection that is to be encrypted.

    Attributes:
        connections: how often the broker has accepted this client.
    """

    def __init__(
        self,
        locate: Callable[[], Account],
        *,
        client_id: str,
        handlers: Mapping[str, Handler],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._locate = locate
        self._handlers = dict(handlers)
        self._place = "the broker"
        self._reason = "no attempt yet"
        self._up = threading.Event()
        self._stop = threading.Event()
        self._ending = self._stop
        self.connections = 0
        self._client_id = client_id
        self._tls = tls
        self._client = self._made()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def problem(self) -> str:
        """Why there is no connection; empty while there is one."""
        return "" if self._up.is_set() else f"{self._place} cannot be reached: {self._reason}"

    @property
    def place(self) -> str:
        """`host:port` of the broker, once it is known."""
        return self._place

    def start(self, ending: threading.Event | None = None) -> None:
        """Begins to connect; once `ending` is set, nobody waits for the broker any more."""
        self._ending = ending or self._stop
        self._thread.start()

    def close(self) -> None:
        """Says goodbye; the session stays."""
        self._stop.set()
        self._client.disconnect()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_S)

    def renew(self) -> None:
        """Connects anew, so that what was not settled comes again."""
        self._client.disconnect()

    def _made(self) -> paho.Client:
        made = paho.Client(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            clean_session=False,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if self._tls is not None:
            made.tls_set_context(self._tls)
        made.max_inflight_messages_set(MAX_INFLIGHT)
        made.on_connect = self._on_connect
        made.on_disconnect = self._on_disconnect
        made.on_message = self._on_message
        return made

    def publish(self, publications: Sequence[Publication]) -> None:
        """Publishes all, retained, and returns when the broker has them.

        Raises:
            ControlError: it has not, within 10 s or before the end.
            UnacknowledgedError: likewise, but it was there: it ended the connection, or does not say that it has them.
        """
        if not self._wait(self._up.wait, self._up.is_set):
            raise ControlError(self.problem)
        client, connection = self._client, self.connections

        def settled(info: paho.MQTTMessageInfo) -> bool:
            return info.is_published() or not self._up.is_set() or self.connections != connection

        try:
            sent = [client.publish(p.topic, p.payload, qos=1, retain=True) for p in publications]
            for info, publication in zip(sent, publications, strict=True):
                self._wait(info.wait_for_publish, partial(settled, info))
                if not info.is_published():
                    raise UnacknowledgedError(
                        f"{self._place} does not acknowledge {publication.topic}: perhaps its access list does not let "
                        "the gateway write there"
                    )
        except (ValueError, RuntimeError) as error:
            raise ControlError(f"{self._place} takes no publication: {error}") from error

    def _wait(self, wait: Callable[[float], object], done: Callable[[], bool]) -> bool:
        """Whether it is done within 10 s; looks up now and then, because the process may be told to end."""
        end = time.monotonic() + TIMEOUT_S
        while not done() and not self._ending.is_set() and time.monotonic() < end:
            wait(LOOK_S)
        return done()

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stop.is_set():
            before = self.connections
            try:
                account = self._locate()
                self._place = authority(account.host, account.port)
                # a client of before would send again what this broker may have ended the connection for
                self._client = self._made()
                self._client.username_pw_set(account.username or None, account.password or None)
                self._client.connect(account.host, account.port, KEEPALIVE_S)
                if not self._stop.is_set():
                    self._client.loop_forever()
            except (OSError, ValueError, SensorhubError) as error:
                self._reason = str(error)
            self._up.clear()
            pause = FIRST_PAUSE_S if self.connections > before else min(2 * pause, LONGEST_PAUSE_S)
            self._stop.wait(pause)

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            self._reason = str(reason)
            return
        for topic in self._handlers:
            client.subscribe(topic, 1)
        self.connections += 1
        self._up.set()

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: object,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        if self._up.is_set():
            self._reason = str(reason)
        self._up.clear()

    def _on_message(self, client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        settled = True
        for pattern, handler in self._handlers.items():
            if paho.topic_matches_sub(pattern, message.topic):
                try:
                    settled = handler(message.topic, bytes(message.payload))
                except Exception:
                    logger.exception("a message of %s was not taken", message.topic)
        if settled and client.ack(message.mid, message.qos) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            logger.debug("the acknowledgement of %s is lost; it comes again", message.topic)
