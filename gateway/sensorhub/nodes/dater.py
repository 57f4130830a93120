"""Dates for messages of nodes that had no clock yet.

A message with time quality 0 counts its records from the node's uptime. The first message of the same
boot that carries a base time tells when that boot began (base time minus uptime), and with it every
clockless message of the boot gets its date, those before it and those after. Without such a message
there is no date: nothing is guessed from the time of arrival.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

import cbor2

from sensorhub.wire import Message

MAX_BOOTS: Final = 64
"""Boots remembered per key; a clockless message of an older boot stays undated."""
MAX_WAITING: Final = 65_536
"""Undated messages remembered per boot; beyond it the oldest stay undated for good."""


class _Boot:
    __slots__ = ("epoch", "waiting")

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.waiting: deque[tuple[int, int]] = deque(maxlen=MAX_WAITING)


class Dater:
    """Dates clockless messages, fed with every message in log order.

    What it says depends only on the order of the log, so a rebuilt projection gets the same dates.
    """

    def __init__(self) -> None:
        self._keys: dict[bytes, OrderedDict[int, _Boot]] = {}

    def feed(self, index: int, message: Message) -> list[tuple[int, int]]:
        """Takes in the message at log index `index`.

        Returns:
            (log index, offset) of every clockless message that this one dates, itself included; offset
            is in Unix seconds and stands for the missing base time: a record's time is offset + its t.
        """
        signed, base_time = message.signed, message.pack.base_time
        boots = self._keys.setdefault(signed.kid, OrderedDict())
        boot = boots.get(signed.boot)
        if boot is None:
            boot = boots[signed.boot] = _Boot()
            if len(boots) > MAX_BOOTS:
                boots.popitem(last=False)
        if base_time is None:
            if boot.epoch is not None:
                return [(index, boot.epoch + signed.uptime)]
            boot.waiting.append((index, signed.uptime))
            return []
        if boot.epoch is not None:
            return []
        boot.epoch = base_time - signed.uptime
        dated = [(waiting, boot.epoch + uptime) for waiting, uptime in boot.waiting]
        boot.waiting.clear()
        return dated

    def dump(self) -> bytes:
        """The whole state as bytes, for a projection that resumes from its cursor."""
        return cbor2.dumps(
            [
                [
                    kid,
                    [[number, boot.epoch, [list(w) for w in boot.waiting]] for number, boot in boots.items()],
                ]
                for kid, boots in self._keys.items()
            ]
        )

    @classmethod
    def load(cls, state: bytes) -> Dater:
        """The dater that `dump` described."""
        dater = cls()
        for kid, boots in cbor2.loads(state):
            known = dater._keys.setdefault(kid, OrderedDict())
            for number, epoch, waiting in boots:
                boot = known[number] = _Boot()
                boot.epoch = epoch
                boot.waiting.extend((index, uptime) for index, uptime in waiting)
        return dater
