"""What must outlive power loss: the private key, the boot counter, and numbers that are never used twice.

Sequence numbers are reserved in NVS in blocks, before the first of a block is used, so a message costs no NVS
write. After a reset the numbering goes on
  * behind the newest message of the spool when the spool is whole: every message is spooled before it is sent, so
    whatever was numbered higher never left the node;
  * behind the reserved block otherwise: up to a block of numbers is left out, none comes twice. One number more is, so that
    a spool that comes to light again later never looks like one that ends right before the newest block;
  * behind `floor` in any case, which is the first number of the last start that could not read its spool. From then on receipts may
    pass over what lies there, as the gateway was told that it does not come.
`prev` goes on from the newest intact message of the spool. Was that message not the last one sent (the spool was
erased, or its newest record rotted), then the gateway finds a broken chain and reports a gap, as it should.
"""

import os

BLOCK = 64
GROUP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1, SEC 2, 2.4.1


class State:
    """Persistent state in NVS.

    :param nvs: `board.Nvs`, or anything with its five methods.
    :param random: returns that many random bytes; called only to make the key on the first boot.

    Attributes: `secret` (the private key, 32 bytes: never print it), `fresh` (this is the key's first boot),
    `boot`, `prev` (SHA-256 of the last message, 32 zero bytes for none), `dropped` (messages lost to a full spool
    over the node's life), `floor` (see above, 0 for none).
    """

    def __init__(self, nvs, random=os.urandom):
        self._nvs = nvs
        self.secret = nvs.get_blob("key", 32)
        if self.secret is None:
            self.secret = _new_secret(random)
            nvs.set_blob("key", self.secret)
        self.boot = nvs.get_int("boot", 0) + 1
        self.fresh = self.boot == 1
        nvs.set_int("boot", self.boot)
        nvs.commit()
        self.dropped = nvs.get_int("dropped", 0)
        self.floor = nvs.get_int("floor", 0)
        self._limit = nvs.get_int("seq", 1)  # the first number that is not reserved
        self._next = self._limit
        self.prev = bytes(32)

    def resume(self, last, clean, blind=False):
        """Go on behind the spool: `last` and `clean` as the spool found them; `blind`: what lies on flash could not be read."""
        if last:
            _, seq, self.prev = last
            if seq >= self.floor and (clean and seq >= self._limit - BLOCK - 1 or seq >= self._limit):
                self._next = seq + 1
                return
        self._next = max(self.floor, self._limit + (blind or not clean))
        if blind and self.floor != self._next:
            self.floor = self._next
            self._nvs.set_int("floor", self.floor)
            self._nvs.commit()  # before the gateway is told

    @property
    def next(self):
        """The next sequence number."""
        return self._next

    def take_seq(self):
        """The next sequence number, reserved before it is returned."""
        if self._next >= self._limit:
            limit = self._next + BLOCK
            self._nvs.set_int("seq", limit)
            self._nvs.commit()
            self._limit = limit
        seq = self._next
        self._next += 1
        return seq

    def count_dropped(self, messages):
        """Add to the count of lost messages, durably."""
        self.dropped += messages
        self._nvs.set_int("dropped", self.dropped)
        self._nvs.commit()


def _new_secret(random):
    while True:
        secret = random(32)
        if 0 < int.from_bytes(secret, "big") < GROUP_ORDER:
            return secret
