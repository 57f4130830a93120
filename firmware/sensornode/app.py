"""The application: sample -> pack -> sign -> spool, beside the link that sends the spool."""

import asyncio
from binascii import hexlify
from hashlib import sha256

from nodeboot import NONE, PARTITION

from . import __version__, board, cose, forget, senml
from .bus import Buses
from .clock import Clock
from .ecdsa import SigningKey
from .inbox import Orders
from .link import Link
from .sensors import load
from .spool import HEADER, Spool
from .state import State
from .wifi import Wifi

READ_S = 10  # a read that takes longer has failed
SYNC_MS = 6 * 3_600_000  # between time synchronisations
SYNC_RETRY_MS = 60_000  # at most; the first tries come sooner
WELL_S = 300  # of good health, after which a start counts as a success
TRIAL_S = 600  # that something on trial has until its first receipt
SAFE_S = 1800  # of safe mode, after which a normal start is tried
AWAKE_S = 45  # that the link of a sleeping node gets at most
HOLD_S = 5  # that the button is held for set-up
QUICK_S = 10  # a node that ran for longer was not switched off to be set up
LEAD_MS = 3000  # that a sleeping node wakes up before its sample
BLIND = 3  # failed starts, after which a spool that cannot be read stops no other
RECORDS = 64  # kept in RAM at most, about what a message holds
# The gateway takes messages of twice this size; but values, pack and message are on the heap at the same time.
MESSAGE = cose.MAX_MESSAGE // 2
OWN_CHANNELS = (("spool_dropped", "count"), ("sensor_errors", "count"))


class Services:
    """What a driver may use.

    Attributes: `clock`, the node's Clock; `interval`, seconds between reads; `buses`, the buses and pins of the
    board; `site_key`, the site's public key (64 bytes) or None; `signed_sensors`, True when the table of sensors
    came by signed configuration.
    """

    def __init__(self, clock, interval, site_key=None, signed_sensors=False):
        self.clock = clock
        self.interval = interval
        self.buses = Buses()
        self.site_key = site_key
        self.signed_sensors = signed_sensors
        self._newest = {}

    def latest(self, channel):
        """The newest value of a channel, whichever sensor gave it; None when it is older than three intervals."""
        value, uptime = self._newest.get(channel, (None, 0))
        fresh = self.clock.uptime_ms() - uptime <= 3000 * self.interval
        return value if fresh else None

    def note(self, values):
        """Remember what a sensor has just given."""
        now = self.clock.uptime_ms()
        for channel, value in values.items():
            self._newest[channel] = value, now


class Source:
    """One row of the sensor table: its driver, loaded again after it failed to load, and the channels it provides."""

    def __init__(self, row):
        self.row = row
        self.name = row["driver"]
        self.sensor = None
        self.channels = []


class App:
    """One node.

    :param config: the checked `Config`.
    :param time_source: see `clock.Clock`; the board's own by default.
    :param directory: where the spool, application slots and remote configuration live.
    :param life: the record of `nodeboot`; without it nothing is on trial and no order is taken.
    :param path: the file `config` was read from.

    Attributes for `status` and tests: `sensor_errors` (failed reads since boot), `missed` (sampling instants
    that passed while the node was busy), `last_error`, `ending` (why the node wants to start again), `in_memory` (messages
    are not on flash, as the spool's directory cannot be used).
    """

    def __init__(self, config, time_source=None, directory="", life=None, path="node.json"):
        self.config = config
        self.clock = Clock(time_source or board.TimeSource(config.ntp, config.broker_host))
        nvs = board.Nvs()
        self.state = State(nvs, board.random_bytes)
        self.life = life
        self.last_error = ""
        self.in_memory = False
        self.spool = self._open_spool(directory)
        if self.state.fresh:
            self.spool.clear()  # whatever is there was signed by another key
        self.state.resume(self.spool.last, self.spool.clean, self.in_memory)
        self.key = self._signing_key(nvs)
        self.safe = life is not None and life.safe
        self._directory = directory
        from .orders import version_number

        self._version = version_number(__version__)
        if life and life.trial == PARTITION and life.version != self._version:
            life.give_up()  # the bootloader went back to this one
        self._tls = None
        if config.broker_ca:
            from .secure import context

            self._tls = context(config.broker_ca)
        self.orders = None
        if life and (config.keys_site or config.keys_release):
            self.orders = Orders(
                config,
                path,
                directory,
                life,
                self._version,
                self._answered,
                self.restart,
                self._update,
                self._now,
                lambda reason: self.link.tell("refused", reason),
            )
        self._wifi = Wifi(board.station(), config.wifi)
        self.link = Link(
            config,
            self._wifi,
            self.spool,
            self._announce,
            self._about(),
            # stable, so that the node takes over its own broken connection, and known to nobody who could end it;
            # 22 letters and digits are what every broker takes (MQTT 3.1.1, section 3.1.3.1)
            hexlify(sha256(b"client id of " + self.state.secret).digest()[:11]).decode(),
            tls=self._tls,
            dated=lambda: self.clock.quality > 0,
            stand_in=board.stand_in_date,
            on_order=self.orders.take if self.orders else None,
            restart=self.restart,
            pictures=self._picture,
            published=self.state.next - 1,
        )
        # main.py has started one, with 120 s, for an application on trial
        self.watchdog = board.Watchdog(config.watchdog or (120 if life and life.trial != NONE else 0))
        self._sends = not config.sleep or self.safe or self._sends_now()
        self.sources = [] if self.safe else [Source(row) for row in config.sensors]
        self.sensor_errors = 0
        self.missed = 0
        self.ending = ""
        self.sleep_ms = 0  # for how long the node wants to sleep when `run` has ended
        self._ended = asyncio.Event()
        self._services = Services(self.clock, config.interval, config.keys_site, config.signed_sensors)
        self._base_name = senml.base_name(config.site, config.node)
        self._samples = []  # (slot, records), not packed yet
        self._unkept = None  # number of the message that is being signed and is not in the spool yet
        self._slot = 0
        self._told = {}  # own channels: last value reported
        self._tasks = []
        for source in self.sources:
            self._load(source)

    async def run(self):
        """Run until the node wants to start again; raises what should never fail and has failed."""
        failures = []

        async def guard(work):
            try:
                await work
            except Exception as error:
                failures.append(error)
            self._ended.set()

        # time first: a clock that can be set at once is set before the first sample
        if not self.config.sleep or self.safe:
            works = [self._keep_time(), self._sample_for_ever(), self.link.run(), self._supervise()]
        elif self._sends:
            works = [self._keep_time(), self._sample_and_sleep(True), self.link.run(), self._supervise()]
        else:
            works = [self._sample_and_sleep(False), self._supervise()]
        if self.orders:
            works.append(self.orders.run())
        if self.config.led_pin >= 0:
            from .led import show

            light = board.led(self.config.led_pin, self.config.led_low)
            works.append(show(light, self._stage))
        self._tasks = [asyncio.create_task(guard(work)) for work in works]
        try:
            await self._ended.wait()
        finally:
            await self.stop()
        if failures:
            raise failures[0]
        await self._publish()

    def restart(self, reason):
        """Have the node start again; what was sampled is kept."""
        self.ending = reason
        self._ended.set()

    async def stop(self):
        """End the tasks and say goodbye to the broker."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for source in self.sources:
            close = getattr(source.sensor, "close", None)
            if close:
                close()  # heaters and fans off, background tasks ended
        await asyncio.sleep(0)
        await self.link.stop()

    def status(self):
        """State of the node, for people; holds no secret."""
        last = self.spool.last
        return {
            "node": self.config.node,
            "boot": self.state.boot,
            "uptime": self.clock.uptime_ms() // 1000,
            "time_quality": self.clock.quality,
            "online": self.link.online,
            "connects": self.link.connects,
            "seq": last[1] if last else 0,
            "receipt": self.spool.freed,
            "dropped": self.state.dropped,
            "damaged": self.spool.damaged,
            "spool": "memory" if self.in_memory else "flash",
            "sensor_errors": self.sensor_errors,
            "missed": self.missed,
            "last_error": self.last_error or str(self.link.error or ""),
            "firmware": __version__,
            "safe": self.safe,
            "trial": self.life is not None and self.life.on_trial,
            "config": self._config_version(),
            "refused": self.orders.refused if self.orders else "",
            "link": self.link.stage,
        }

    @property
    def sleepers(self):
        """How many tasks live by the node's clock, for those who simulate it."""
        return 2 if self._sends else 1

    @property
    def idle(self):
        """True when everything sampled is packed and every message is receipted."""
        return not self._samples and self.spool.empty

    def _config_version(self):
        return (self.life.config_trial or self.life.config) if self.life else 0

    def _stage(self):
        """Name of the LED's pattern."""
        if self.safe:
            return "safe"
        stage = self.link.stage
        return "undated" if stage == "online" and not self.clock.quality else stage

    def _about(self):
        about = {
            "fw": __version__,
            "boot": self.state.boot,
            "config": self._config_version(),
            "safe": self.safe,
        }
        if self.in_memory:
            about["spool"] = "memory"
        return about

    async def _keep_time(self):
        wait = 0
        while True:
            try:
                await self.clock.sync()
                wait = SYNC_MS
                self.link.wake()  # a certificate that was checked without the date is checked again
                if self.last_error.startswith("time: "):
                    self.last_error = ""
            except Exception as error:  # whatever a time server does, the node goes on
                self.last_error = "time: %s" % error
                if wait == SYNC_MS or not self._wifi.connected:
                    wait = 1000  # TLS waits for the date once there is a network, and not for long
                else:
                    wait = min(SYNC_RETRY_MS, 2 * wait + 1000)
            await self.clock.sleep_ms(wait)

    @property
    def healthy(self):
        """True while sampling keeps its schedule and the link moves, connected or not."""
        patience = 3000 * self.config.interval + 60_000
        sampling = self.safe or self.clock.uptime_ms() - self._slot < patience
        return sampling and self.link.healthy

    async def _supervise(self):
        """Feed the watchdog, confirm what is on trial or give it up, and leave safe mode. Real time, once a second."""
        life = self.life
        pressed = board.button(self.config.button_pin) if self.config.button_pin >= 0 else bool
        held = HOLD_S  # until it was seen released: what is always low is no button
        seconds = noted = 0
        confirmed = False
        while True:
            if self.healthy:
                self.watchdog.feed()
            held = held + 1 if pressed() else 0
            if held == HOLD_S or seconds == QUICK_S:
                from .button import STARTS, note

                note(board.Nvs(), STARTS if held == HOLD_S else 0)
                forget("button")
                if held == HOLD_S:
                    self.restart("the button was held: set-up is next")
            now = self._now()
            if self._tls and self.link.online and now and seconds >= noted:
                # the broker's certificate is valid on this date: a time server that lies about years is found out
                board.remember_date(now)
                noted = seconds + 3600
            if life is None:
                pass
            elif not confirmed and self.link.online:
                confirmed = True
                self._well(life, True)
            elif not confirmed and life.on_trial and seconds >= TRIAL_S:
                life.give_up()
                self.restart("no receipt with what was on trial")
            elif self.safe and seconds >= SAFE_S:
                life.leave_safe_mode()
                self.restart("safe mode is over")
            elif seconds == WELL_S and self.healthy and not self.safe:
                self._well(life, False)
            await asyncio.sleep(1)
            seconds += 1

    @staticmethod
    def _well(life, confirmed):
        """The node does what it should, confirmed by a receipt or not."""
        if confirmed and life.trial == PARTITION:
            # first: the record must not hold an image for good that the bootloader takes back
            board.confirm_partition()
        life.well(confirmed)

    def _now(self):
        """Unix seconds, or None while no time server has told them within a day."""
        unix = self.clock.unix_ms(self.clock.uptime_ms())
        return unix // 1000 if unix is not None and self.clock.quality == 2 else None

    async def _answered(self):
        """Return when the gateway has answered and nothing is on trial any more."""
        while not self.link.online or self.life and self.life.on_trial:
            await asyncio.sleep(0.5)

    async def _update(self, order):
        from .updates import install

        await install(order, self.life, self._directory, self._tls, board)
        self.restart("update")

    async def _sample_for_ever(self):
        while self.safe:
            await self.clock.sleep_ms(60_000)
        interval = 1000 * self.config.interval
        every = self.config.publish // self.config.interval
        slots = 0
        slot = self.clock.first_slot(interval)
        while True:
            await self.clock.sleep_until(slot)
            self._slot = slot
            records = await self._read_all()
            if records:
                self._samples.append((slot, records))
            slots += 1
            if slots >= every or sum(len(taken) for _, taken in self._samples) >= RECORDS:
                slots = 0
                await self._publish()
            slot = self.clock.next_slot(slot, interval)
            behind = (self.clock.uptime_ms() - slot) // interval
            if behind > 0:
                self.missed += behind
                slot += behind * interval

    def _sends_now(self):
        """Whether a sleeping node has the radio on this time: every `publish` seconds, while it has no date, and when what is
        not sent at once is lost."""
        unix = self.clock.unix_ms(self.clock.uptime_ms() + LEAD_MS)
        if unix is None or self.in_memory or self.life and self.life.on_trial:
            return True
        every = self.config.publish // self.config.interval
        return (unix // 1000 + self.config.interval // 2) // self.config.interval % every == 0

    async def _sample_and_sleep(self, sends):
        """One sample, some time for the link to send it, and deep sleep until shortly before the next."""
        interval = 1000 * self.config.interval
        slot = self.clock.first_slot(interval)
        now = self.clock.uptime_ms()
        if (
            slot - now > interval // 2
        ):  # woken up late, or at any time at all: rather now than an interval later
            slot = now
        await self.clock.sleep_until(slot)
        self._slot = slot
        self._samples.append((slot, await self._read_all()))
        if not self._samples[-1][1]:
            self._samples.clear()
        await self._publish()
        ticks = AWAKE_S * 10 if sends else 0
        while ticks and not (
            self.link.online
            and self.spool.empty
            and not self.link.picture
            and not (self.orders and self.orders.busy)
        ):
            ticks -= 1
            await asyncio.sleep(0.1)
        if self.life:
            self._well(self.life, self.link.online)
        if not self.ending:
            now = self.clock.uptime_ms()
            self.sleep_ms = max(1000, self.clock.next_slot(now, interval) - LEAD_MS - now)
            self.restart("sleep")

    async def _read_all(self):
        parts = await asyncio.gather(*[self._read(source) for source in self.sources])
        records = [record for part in parts for record in part]
        own = (self.state.dropped, self.sensor_errors)
        for (channel, unit), value in zip(OWN_CHANNELS, own):
            if value != self._told.get(channel, 0):
                self._told[channel] = value
                records.append((channel, unit, value))
        return records

    async def _read(self, source):
        """Records of one sensor. Whatever its driver does wrong stays here."""
        sensor = source.sensor or self._load(source)
        if not sensor:
            return ()
        try:
            values = await asyncio.wait_for(sensor.read(), READ_S)
            records = [(name, unit, values[name]) for name, unit in source.channels if name in values]
            senml.Pack("").add(records)  # refuses what is not a finite number
            self._services.note(values)
            return records
        except Exception as error:
            self._blame(source, error)
            return ()

    def _picture(self):
        """The newest sealed picture of a sensor that makes some (CAMERA.md), each once; None for none."""
        for source in self.sources:
            take = getattr(source.sensor, "take_sealed", None)
            sealed = take and take()
            if sealed:
                return sealed
        return None

    def _load(self, source):
        try:
            sensor = source.sensor = load(source.row, self._services)
        except Exception as error:  # a row may be wrong in ways its driver did not think of
            self._blame(source, error)
            return None
        wanted = source.row.get("channels")
        taken = [name for other in self.sources for name, _ in other.channels]
        source.channels = [
            pair for pair in sensor.channels if pair[0] not in taken and (not wanted or pair[0] in wanted)
        ]
        return sensor

    def _blame(self, source, error):
        self.sensor_errors += 1
        self.last_error = "sensor %s: %s: %s" % (source.name, type(error).__name__, error)

    async def _publish(self):
        """Pack, sign and spool what was sampled, in as few messages as it fits."""
        samples = self._samples
        while samples:
            first = samples[0][0]
            unix = self.clock.unix_ms(first)
            pack = senml.Pack(
                self._base_name, None if unix is None else (unix + 500) // 1000, senml.MAX_PAYLOAD - MESSAGE
            )
            while samples and pack.add(samples[0][1], (samples[0][0] - first + 500) // 1000):
                samples.pop(0)
            if not pack.count:  # the values of one instant are more than a message holds
                slot, records = samples[0]
                half = len(records) // 2
                if not half:  # and no message would hold this one
                    self.sensor_errors += 1
                    self.last_error = "value of %s is too long" % records[0][0]
                    samples.pop(0)
                    continue
                samples[:1] = [(slot, records[:half]), (slot, records[half:])]
                continue
            quality = 0 if unix is None else self.clock.quality
            await self._keep(quality, (first + 500) // 1000, pack.encode())

    async def _keep(self, quality, uptime, payload):
        state = self.state
        seq = self._unkept = state.take_seq()
        message = await cose.data(self.key, state.boot, seq, state.prev, quality, uptime, payload)
        try:
            state.prev = self.spool.append(state.boot, seq, message)
        except OSError as error:
            self.last_error = "spool: %s" % error
            state.count_dropped(1)
            return
        finally:
            self._unkept = None
        self.link.wake()

    def _open_spool(self, directory):
        """The spool on flash. When starting again does not help its directory, a small one in memory, so that the node measures and
        sends all the same."""
        count = self.state.count_dropped
        try:
            return Spool(
                directory + "/spool",
                self.config.spool_bytes,
                self.config.spool_segments,
                count,
                longest=MESSAGE,
                floor=self.state.floor,
            )
        except OSError as error:
            # a node that sleeps would start again at every sample
            if self.life and self.life.failures < BLIND and not self.config.sleep:
                raise
            self.last_error = "spool: %s" % error
        from .ram import Ram

        self.in_memory = True
        files = Ram()
        return Spool("", 2 * (HEADER + MESSAGE), 2, count, files, MESSAGE)  # pyright: ignore[reportArgumentType]  has its calls

    def _signing_key(self, nvs):
        """The node's key; the public half, which takes long to compute, is kept with a mark of whose it is."""
        secret = self.state.secret
        mark = sha256(b"public of " + secret).digest()[:8]
        kept = nvs.get_blob("public", 72)
        if kept and kept[:8] == mark:
            return SigningKey(secret, kept[8:])
        key = SigningKey(secret)
        nvs.set_blob("public", mark + key.public)
        nvs.commit()
        return key

    async def _announce(self):
        channels = [pair for source in self.sources for pair in source.channels]
        channels.extend(OWN_CHANNELS)
        return await cose.announce(
            self.key,
            self.state.boot,
            self.clock.quality,
            self.clock.uptime_ms() // 1000,
            self._base_name,
            self.config.kind,
            self.config.hardware or board.hardware(),
            __version__,
            channels,
            self.config.claim,
            self.spool.oldest() or self._unkept or self.state.next,
        )
