"""The way to the gateway: Wi-Fi, broker, announce, and the spool sent until it is receipted.

There is one path: `run` joins a network, connects, announces, sends, and whatever fails anywhere ends the
connection and begins again after a jittered wait that doubles from one second up to `broker.retry`. When there is no
sign of life from the network for long, the radio is switched off and on, and in the end the node starts again.

Messages leave the spool in order, at most WINDOW of them unreceipted. When receipts stay away the node sends
no data again before the gateway has answered an announce: a gateway that is down costs one small message
now and then, not the spool over and over.

What receipts passed over while the spool could not be read is sent too, file by file, before what is newer. They say nothing of
it; but broker and gateway keep the order, so a file has arrived when a receipt covers a message that was never sent before it.
"""

import asyncio
import json
import os
from errno import ECONNREFUSED, ECONNRESET

from . import cose
from .mqtt import Client, MqttError
from .ticks import ticks_add, ticks_diff, ticks_ms

WINDOW = 16
ASK_MOST_S = 60  # longest wait for the receipt that answers an announce
STALLS = 3
RADIO = 5  # attempts without a sign of life until the radio is switched off and on
RESTART = 40  # and until the node starts again
DATE_S = 20  # that a time server has, before TLS goes on without knowing the date
SHOWS = 3  # connections that may break while one picture is sent, until it is given up
MARGIN_S = 150  # that a step may take longer than it should before the link counts as stuck


class Link:
    """Connection of one node.

    :param config: the node's `Config`.
    :param wifi: `board.Wifi`, or anything with `join` and `rssi`.
    :param announcement: async function that returns the signed announce of this moment.
    :param client_id: for the broker; a secret, since whoever names it ends the connection.
    :param about: what the status message says besides the state: {"fw": ..., "boot": ...}.
    :param tls: SSL context, or None for a connection in the clear.
    :param dated: function that tells whether the clock has a date, by which TLS judges a certificate.
    :param stand_in: function that sets the system's clock to a date that is past for certain, when there is no other.
    :param on_order: called with the leaf ("config", "update") and the payload of an order; without it none is asked for.
    :param restart: called with a reason when starting again is all that is left.
    :param pictures: function that gives the newest sealed picture once, and None when there is none.
    :param published: the highest sequence number that an earlier start may have sent.

    Attributes: `online` (the gateway has answered in this connection), `error` (why the last one ended),
    `connects`, `receipt` (highest sequence number receipted in this boot), `stage` (for the LED and for people), `picture`
    (the sealed picture that the broker has not acknowledged yet).
    """

    def __init__(
        self, config, wifi, spool, announcement, about, client_id, *, tls=None, dated=None, stand_in=None,
        on_order=None, restart=None, pictures=None, published=0,
    ):  # fmt: skip
        self._wifi = wifi
        self._spool = spool
        self._announcement = announcement
        self._about = about
        self._retry = config.broker_retry
        self._patience = config.broker_receipt
        self._topic = "sensorhub/v1/%s/%s/" % (config.site, config.node)
        self._message = memoryview(bytearray(spool.longest))
        self._wake = asyncio.Event()
        self._farewell = "asleep" if config.sleep else "offline"
        self._news = False  # what is said of the node has changed in this connection
        self._answered = False
        self._dated = dated if tls else None
        self._stand_in = stand_in
        self._wait_ms = 1000 * DATE_S  # for the date, in all
        self._undated = False  # this connection's certificate was checked without it
        self._on_order = on_order
        self._restart = restart
        self._pictures = pictures or (lambda: None)
        self._published = published
        self.picture = None
        self._shown = 0  # number of its packet in this connection
        self._shows = 0  # how often it was begun
        self._due = ticks_ms()
        self._client = Client(
            config.broker_host,
            config.broker_port,
            client_id,
            user=config.broker_user,
            password=config.broker_password,
            keepalive=config.broker_keepalive,
            will=(self._topic + "status", self._status("offline")),
            on_message=self._on_message,
            on_down=self._wake.set,
            ssl=tls,
            room_in=2304 if on_order else 512,
        )
        self.online = False
        self.error = None
        self.connects = 0
        self.receipt = 0
        self.stage = "joining"
        self._beat(0)

    @property
    def healthy(self):
        """False when the link has not moved for longer than the step it is in may take."""
        return ticks_diff(self._due, ticks_ms()) > 0

    def _beat(self, seconds):
        """The next sign of life comes within so many seconds."""
        self._due = ticks_add(ticks_ms(), int(1000 * (seconds + MARGIN_S)))

    def wake(self):
        """Tell the link that the spool has grown."""
        self._wake.set()

    def tell(self, key, value):
        """Say something more of the node in its status, soon and from now on."""
        self._about[key] = value
        self._news = True
        self._wake.set()

    async def run(self):
        wait = 1
        lost = 0  # attempts in a row without a sign of life from the network
        while True:
            try:
                self.stage = "joining"
                self._beat(self._wifi.patience)
                await self._wifi.join()
                self.stage = "dating"
                await self._date()
                self.stage = "connecting"
                self._beat(0)
                lost += 1
                await self._client.connect()
                lost = 0
                self.connects += 1
                self.stage = "announcing"
                await self._session()
            except (OSError, MqttError, asyncio.TimeoutError, RuntimeError) as error:
                # a RuntimeError is how the radio says what it has no name for, such as too little memory
                if self.stage == "joining":
                    lost += 1
                elif getattr(error, "errno", 0) in (ECONNREFUSED, ECONNRESET) or isinstance(error, MqttError):
                    lost = 0  # somebody has answered
                self.error = str(error) or type(error).__name__
            await self._client.close()
            if self.online:
                wait = 1
            self.online = False
            self.stage = "waiting"
            pause = wait * (128 + os.urandom(1)[0]) / 256  # half to one and a half times
            self._beat(pause)
            await asyncio.sleep(pause)
            wait = min(2 * wait, self._retry)
            if lost and lost % RADIO == 0:
                await self._wifi.reset()
            if lost >= RESTART and self._restart:
                self._restart("no network")
                lost = 0

    async def _date(self):
        """Wait for the date. When none comes, a certificate is checked with a date that is past for certain: one that had
        expired by then is refused, one that has expired since is not before a time server answers."""
        while self._dated and not self._dated():
            if self._wait_ms <= 0 and self._stand_in:
                self._stand_in()
                self._undated = True
                return
            self._wait_ms -= 200
            self._beat(1)
            await asyncio.sleep(0.2)
        self._undated = False

    async def stop(self):
        """Say that the node goes offline, or to sleep, on purpose, and close; `run` must have been cancelled."""
        if not self._client.down.is_set():
            try:
                await self._client.publish(self._topic + "status", self._status(self._farewell), 1, True)
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
        elif self._on_order:
            self._on_order(str(topic[topic.rfind(b"/") + 1 :], "utf-8"), payload)

    async def _session(self):
        client = self._client
        await client.publish(self._topic + "status", self._status("online"), 1, True)
        leaves = ("receipt", "config", "update") if self._on_order else ("receipt",)
        await client.subscribe(*[self._topic + leaf for leaf in leaves])
        await self._ask()
        self.online = True
        self.stage = "online"
        self._spool.rewind()
        self._shown = 0
        sent = []  # sequence numbers that wait for a receipt
        stalls = 0
        moved = ticks_ms()
        late = None  # the file that was sent although receipts have passed over it
        proof = 0  # a receipt above this shows that it has arrived
        while True:
            if late is not None and self.receipt > proof:
                self._spool.forget(late)
                late = None
            if late is None:
                late = self._spool.passed_over
                if late is not None:
                    await self._send_late(late)
                    proof = self._published
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
                    self._beat(0)
                    self._published = max(self._published, seq)  # first: it may arrive even when this fails
                    await client.publish(self._topic + "data", self._message[:length], 1)
                    sent.append(seq)
                    self._take_receipt()
                    continue
            await self._show()
            if self._news:
                self._news = False
                await client.publish(self._topic + "status", self._status("online"), 1, True)
            waited = ticks_diff(ticks_ms(), moved) / 1000
            look = 1 if self.picture else self._patience
            if not sent:
                await self._pause(look)
            elif waited < self._patience:
                await self._pause(min(look, self._patience - waited))
            else:
                await self._ask()
                stalls += 1
                sent.clear()
                # What the gateway does not receipt is sent again, oldest first. That it has nothing older to wait for
                # it knows from the announce. A window that stays unreceipted is passed over now and then, so that one
                # message that is refused for now cannot hold up those behind it for ever.
                if stalls % STALLS:
                    self._spool.rewind()

    async def _send_late(self, file):
        """Send all that a file holds, as fast as the broker takes it."""
        while True:
            record = self._spool.next(self._message, file)
            if not record:
                return
            self._beat(0)
            await self._client.publish(self._topic + "data", self._message[: record[0]], 1)
            while len(self._client.unacked) >= WINDOW:
                await self._pause(0.1)

    async def _show(self):
        """Send the newest sealed picture, behind the readings that wait, and let it go when the broker has it.

        It is nowhere but in RAM: pictures are too large for the spool, and the readings tell what was to be seen.
        """
        if self._shown and self._shown not in self._client.unacked or self._shows >= SHOWS:
            self.picture = None
            self._shown = self._shows = 0
        if not self._shown:
            newer = self._pictures()
            if newer:
                self.picture = newer
                self._shows = 0
            if self.picture:
                self._shows += 1
                self._beat(len(self.picture) // 200)
                self._shown = await self._client.publish(self._topic + "snapshot", self.picture, 1)

    async def _ask(self):
        """Announce the node until the gateway answers with a receipt.

        Each announce is a new one: what the node still holds, and with it what the gateway may stop waiting for, changes.
        """
        self._answered = False
        wait = self._patience
        while not self._answered:
            await self._client.publish(self._topic + "announce", await self._announcement(), 1)
            begun = ticks_ms()
            while not self._answered:
                left = wait - ticks_diff(ticks_ms(), begun) / 1000
                if left <= 0:
                    break
                await self._pause(left)
            wait = min(2 * wait, max(self._patience, ASK_MOST_S))

    async def _pause(self, seconds):
        """Wait for news: a receipt, a new message, the end of the connection; or until time is up."""
        self._beat(seconds)
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except asyncio.TimeoutError:
            pass
        self._wake.clear()
        if self._client.down.is_set():
            raise self._client.error or MqttError("connection closed")
        if self._undated and self._dated and self._dated():
            raise MqttError("the date is known now: connecting again, to check the certificate with it")
        self._take_receipt()

    def _take_receipt(self):
        if self.receipt > self._spool.freed:
            self._spool.free(self.receipt)
