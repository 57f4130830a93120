"""Retained publications to an MQTT broker, confirmed before the call returns."""

from __future__ import annotations

import ssl
import threading
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from sensorhub.control.discovery import DiscoveryError
from sensorhub.control.home_assistant import Publication

TIMEOUT_SECONDS: Final = 10.0


class MqttPublisher:
    """A client of the broker that publishes with QoS 1, retained.

    Args:
        host: the broker; `port`, `username` and `password` likewise.
        tls: context of a connection that is to be encrypted.
        client_id: unique at the broker.

    Attributes:
        connections: how often the broker has accepted this client.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        client_id: str = "sensorhub-discovery",
    ) -> None:
        self._place = f"{host}:{port}"
        self._reason = "no answer"
        self._up = threading.Event()
        self.connections = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id)
        if username:
            self._client.username_pw_set(username, password)
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.reconnect_delay_set(1, 30)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_async(host, port, keepalive=60)
        self._client.loop_start()

    def publish(self, publications: list[Publication]) -> None:
        """Publishes all and waits until the broker has them.

        Raises:
            DiscoveryError: it has not, within 10 s.
        """
        if not self._up.wait(TIMEOUT_SECONDS):
            raise DiscoveryError(f"the broker at {self._place} cannot be reached: {self._reason}")
        try:
            sent = [self._client.publish(p.topic, p.payload, qos=1, retain=True) for p in publications]
            for info in sent:
                info.wait_for_publish(TIMEOUT_SECONDS)
                if not info.is_published():
                    raise DiscoveryError(f"the broker at {self._place} acknowledges nothing")
        except (ValueError, RuntimeError) as error:
            raise DiscoveryError(f"the broker at {self._place} takes no publication: {error}") from error

    def close(self) -> None:
        """Says goodbye."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, *arguments: object) -> None:
        reason = arguments[3]
        if getattr(reason, "is_failure", False):
            self._reason = str(reason)
        else:
            self.connections += 1
            self._up.set()

    def _on_disconnect(self, *arguments: object) -> None:
        self._up.clear()
        self._reason = str(arguments[3])
