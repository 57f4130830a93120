"""Which application starts, and what is on trial: one record in NVS, so that every change is whole or not at all.

This file and main.py lie outside the two application directories and are never replaced over the air. An
application lives in `app_a` or `app_b`; without either, `sensornode` is looked for where Python finds it.

Something new - an application, a configuration - is first on trial. The first receipt of the gateway confirms
it. When the node starts TRIES times without one, or the application gives up, the former one comes back. Every start
counts as failed until a receipt comes or the node has run well for some minutes.

A confirmed application whose files are not what was installed, or that fails again and again, safe mode included, gives way
to the other one (slots.py).
"""

import struct
import sys

import esp32
import machine

SLOTS = ("app_a", "app_b")
PARTITION = 2  # on trial is the image in an OTA partition: the bootloader chooses, and falls back by itself
NONE = 255
TRIES = 3  # starts that something on trial gets, and trials that one order gets
SAFE_AFTER = 5  # failed starts until safe mode
LEAVE_AFTER = 10  # and until the other application gets its turn: safe mode fails too
RENEWED = "reflashed"  # file by which tools/flash says that the software was renewed by cable

_FORMAT = ">7B7I"
_VERSION = 1


class Nvs:
    """The node's namespace in non-volatile storage."""

    def __init__(self, namespace="sensornode"):
        self._nvs = esp32.NVS(namespace)

    def get_int(self, key, default):
        try:
            return self._nvs.get_i32(key)
        except OSError:
            return default

    def set_int(self, key, value):
        self._nvs.set_i32(key, value)

    def get_blob(self, key, length):
        """The blob, or None when there is none of this length."""
        blob = bytearray(length)
        try:
            return bytes(blob) if self._nvs.get_blob(key, blob) == length else None
        except OSError:
            return None

    def set_blob(self, key, value):
        self._nvs.set_blob(key, value)

    def commit(self):
        self._nvs.commit()


class Life:
    """The record.

    Attributes: `failures`, failed starts since the node was last well, this one included; `slot`, the confirmed application (0 or
    1), `trial` the one on trial or NONE; `update`, the highest sequence number of an update that was begun, and
    `update_tries`, how often (TRIES when it is confirmed); `version` and `minimum`, the version on trial and the lowest
    that may ever be installed, `next_minimum` what that becomes by confirmation; `config`, the confirmed configuration,
    `config_trial` that on trial (0 for none), `config_seen` the highest ever begun, and `config_tries`, how often.
    """

    def __init__(self, nvs):
        self._nvs = nvs
        blob = nvs.get_blob("life", struct.calcsize(_FORMAT))
        if not blob or blob[0] != _VERSION:
            blob = struct.pack(_FORMAT, _VERSION, 0, 0, NONE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self._set(struct.unpack(_FORMAT, blob))
        self._kept = blob

    def _set(self, fields):
        (
            _, self.failures, self.slot, self.trial, self.update_tries, self.config_tries, _,
            self.update, self.version, self.minimum, self.next_minimum,
            self.config, self.config_trial, self.config_seen,
        ) = fields  # fmt: skip

    def save(self):
        """Make it durable: one NVS entry, which the chip replaces whole or not at all."""
        blob = struct.pack(
            _FORMAT, _VERSION, self.failures, self.slot, self.trial, self.update_tries, self.config_tries, 0,
            self.update, self.version, self.minimum, self.next_minimum,
            self.config, self.config_trial, self.config_seen,
        )  # fmt: skip
        if blob != self._kept:
            self._nvs.set_blob("life", blob)
            self._nvs.commit()
            self._kept = blob

    @property
    def active(self):
        """The slot that starts."""
        return self.slot if self.trial in (NONE, PARTITION) else self.trial

    @property
    def on_trial(self):
        return self.trial != NONE or self.config_trial != 0

    @property
    def safe(self):
        """True when starts have failed so often that only link and updates should run."""
        return self.failures > SAFE_AFTER

    def start(self, powered=False):
        """Count a start; give up what is on trial when it had its starts. `powered`: the power has come back, or deep sleep is over."""
        if self.on_trial and self.failures >= TRIES:
            self._give_up()
        if self.on_trial or not powered:
            self.failures = min(self.failures + 1, 250)
        self.save()

    def well(self, confirmed):
        """The node does what it should; `confirmed` by a receipt of the gateway. True when a trial is passed."""
        passed = confirmed and self.on_trial
        if not confirmed and self.on_trial:
            return False
        if self.trial != NONE:
            if self.trial != PARTITION:
                self.slot = self.trial
            self.trial = NONE
            self.update_tries = TRIES
            self.minimum = max(self.minimum, self.next_minimum)
        if self.config_trial:
            self.config = self.config_trial
            self.config_trial = 0
            self.config_tries = TRIES
        self.failures = 0
        self.save()
        return passed

    def give_up(self):
        """End a trial that has failed; what was there before starts next time."""
        self._give_up()
        self.save()

    def _give_up(self):
        # a configuration never begins while an application is on trial, nor the other way round
        self.trial = NONE
        self.config_trial = 0
        self.failures = 0

    def leave_safe_mode(self):
        """Let the next start be a normal one; when that fails too, safe mode comes back."""
        self.failures = min(self.failures, SAFE_AFTER - 1)
        self.save()

    def takes_update(self, sequence):
        """True when an update of this number is new, or was begun and failed fewer than TRIES times."""
        return sequence > self.update or sequence == self.update and self.update_tries < TRIES

    def takes_config(self, version):
        return version > self.config_seen or version == self.config_seen and self.config_tries < TRIES

    def begin_update(self, sequence, trial, version, minimum):
        """Start another application next time, on trial."""
        self.update_tries = 1 + (self.update_tries if sequence == self.update else 0)
        self.update = sequence
        self.trial = trial
        self.version = version
        self.next_minimum = minimum
        self.failures = 0
        self.save()

    def begin_config(self, version):
        """Start with another configuration next time, on trial."""
        self.config_tries = 1 + (self.config_tries if version == self.config_seen else 0)
        self.config_seen = self.config_trial = version
        self.failures = 0
        self.save()


def start(root="", nvs=None):
    """Count this start, put the application's directory on the import path, and return the record."""
    import os

    life = Life(nvs or Nvs())
    try:
        # removed first: one that stays where it is must not make every start the first
        os.remove(root + "/" + RENEWED)
        life.failures = 0
    except OSError:
        pass  # as a rule there is none
    cause = machine.reset_cause()
    life.start(cause in (machine.PWRON_RESET, machine.DEEPSLEEP_RESET))
    if cause != machine.DEEPSLEEP_RESET:  # a node that sleeps looks at its flash when it is switched on
        import slots

        if life.failures > LEAVE_AFTER:
            slots.leave(life, root)
        slots.check(life, root)
        del sys.modules["slots"]
    path = root + "/" + SLOTS[life.active]
    try:
        os.stat(path + "/sensornode")
        sys.path.insert(0, path)
    except OSError:
        pass  # not laid out in slots, or the application is part of the image
    return life


def failed(life):
    """The application cannot be loaded. True when another one starts next: what is on trial is given up.

    What is confirmed has loaded before, and `start` looks whether its files are right: what is in the way may pass, such as
    too little memory in one piece. As after any other failed start it gives way when LEAVE_AFTER of them came in a row.
    """
    if life.trial in (NONE, PARTITION):
        return False
    life.give_up()
    return True
