"""The way to the gateway: Wi-Fi, broker, announce, and the spool sent until it is receipted.

There is one path: `run` joins a network, connects, announces, sends, and whatever fails anywhere ends the
connection and begins again after a jittered wait that doubles from one second up to `broker.retry`.

Messages leave the spool in order, at most WINDOW of them unreceipted. When receipts stay away the node sends
no data again before the gateway has answered an announce: a gateway that is down costs one small message
now and then, not the spool over and over.
"""

import asyncio
import json
import os

from . import cose
from .mqtt import Client, MqttError
from .ticks import ticks_diff, ticks_ms

WINDOW = 16
ASK_MOST_S = 60  # longest wait for the receipt that answers an announce
STALLS = 3


class Link:
    """Connection of one node.

    :param config: the node's `Config`.
    :param wifi: `board.Wifi`, or anything with `join` and `rssi`.
    :param announcement: async function that returns the signed announce.
    :param about: what the status message says besides the state: {"fw": ..., "boot": ...}.

    Attributes: `online` (the gateway has answered in this connection), `error` (why the last one ended),
    `connects`, `receipt` (highest sequence number receipted in this boot).
    """

    def __init__(self, config, wifi, spool, announcement, about):
        self._wifi = wifi
        self._spool = spool
        self._announcement = announcement
        self._about = about
        self._retry = config.broker_retry
        self._patience = config.broker_receipt
        self._topic = "sensorhub/v1/%s/%s/" % (config.site, config.node)
        self._message = memoryview(bytearray(cose.MAX_MESSAGE))
        self._wake = asyncio.Event()
        self._answered = False
        self._client = Client(
            config.broker_host,
            config.broker_port,
            config.site + "-" + config.node,
            user=config.broker_user,
            password=config.broker_password,
            keepalive=config.broker_keepalive,
            will=(self._topic + "status", self._status("offline")),
            on_message=self._on_message,
            on_down=self._wake.set,
        )
        self.online = False
        self.error = None
        self.connects = 0
        self.receipt = 0

    def wake(self):
        """Tell the link that the spool has grown."""
        self._wake.set()

    async def run(self):
        wait = 1
        while True:
            try:
                await self._wifi.join()
                await self._client.connect()
                self.connects += 1
                await self._session()
            except (OSError, MqttError, asyncio.TimeoutError) as error:
                self.error = error
            await self._client.close()
            if self.online:
                wait = 1
            self.online = False
            await asyncio.sleep(wait * (128 + os.urandom(1)[0]) / 256)  # half to one and a half times
            wait = min(2 * wait, self._retry)

    async def stop(self):
        """Say that the node goes offline on purpose, and close; `run` must have been cancelled."""
        if not self._client.down.is_set():
            try:
                await self._client.publish(self._topic + "status", self._status("offline"), 1, True)
            except (OSError, MqttError, asyncio.TimeoutError):
                pass
        await self._client.close(polite=True)

    def _status(self, state):
        status = {"state": state, "rssi": self._wifi.rssi() if state == "online" else None}
        status.update(self._about)
        return json.dumps(status).encode()

    def _on_message(self, topic, payload):
        if topic.endswith(b"/receipt"):
            try:
                _, seq = cose.receipt(payload)
            except ValueError:
                return
            self.receipt = max(self.receipt, seq)
            self._answered = True
            self._wake.set()

    async def _session(self):
        client = self._client
        await client.publish(self._topic + "status", self._status("online"), 1, True)
        await client.subscribe(self._topic + "receipt", self._topic + "config", self._topic + "update")
        announcement = await self._announcement()
        await self._ask(announcement)
        self.online = True
        self._spool.rewind()
        sent = []  # sequence numbers that wait for a receipt
        stalls = 0
        moved = ticks_ms()
        while True:
            if sent and sent[0] <= self._spool.freed:
                sent = [seq for seq in sent if seq > self._spool.freed]
                stalls = 0
                moved = ticks_ms()
            if len(sent) < WINDOW:
                record = self._spool.next(self._message)
                if record:
                    length, _, seq = record
                    if not sent:
                        moved = ticks_ms()
                    await client.publish(self._topic + "data", self._message[:length], 1)
                    sent.append(seq)
                    self._take_receipt()
                    continue
            waited = ticks_diff(ticks_ms(), moved) / 1000
            if not sent:
                await self._pause(self._patience)
            elif waited < self._patience:
                await self._pause(self._patience - waited)
            else:
                await self._ask(announcement)
                stalls += 1
                sent.clear()
                # What the gateway does not receipt is sent again, oldest first: so it learns that there is nothing
                # older to wait for. A window that stays unreceipted is passed over now and then, so that one
                # message that is refused cannot hold up those behind it for ever.
                if stalls % STALLS:
                    self._spool.rewind()

    async def _ask(self, announcement):
        """Announce the node until the gateway answers with a receipt."""
        self._answered = False
        wait = self._patience
        while not self._answered:
            await self._client.publish(self._topic + "announce", announcement, 1)
            begun = ticks_ms()
            while not self._answered:
                left = wait - ticks_diff(ticks_ms(), begun) / 1000
                if left <= 0:
                    break
                await self._pause(left)
            wait = min(2 * wait, max(self._patience, ASK_MOST_S))

    async def _pause(self, seconds):
        """Wait for news: a receipt, a new message, the end of the connection; or until time is up."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except asyncio.TimeoutError:
            pass
        self._wake.clear()
        if self._client.down.is_set():
            raise self._client.error or MqttError("connection closed")
        self._take_receipt()

    def _take_receipt(self):
        if self.receipt > self._spool.freed:
            self._spool.free(self.receipt)
