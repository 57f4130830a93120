"""Which key was in force at which point of a log: the rules of enrolment, applied to node entries.

The same rules stand in the registry of the running gateway; the verifier has its own copy because it imports
nothing of that, and a test holds the two against each other. In short: the first entry to claim a key or a
name keeps it, a rotation ends the key before it, a revocation ends the key it names, and an entry that cannot
be true changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sensorhub.log.entries import NodeEntry, NodeEvent
from sensorhub.wire import kid as kid_of

NEVER = None
"""Index at which a key that is still good was ended."""


@dataclass(slots=True)
class Key:
    """One key.

    Attributes:
        public_key: 64 bytes x then y.
        node: name of the node.
        enrolled: log index of the entry that brought it.
        ended: log index of the entry that revoked or replaced it; None while it is good.
    """

    public_key: bytes
    node: str
    enrolled: int
    ended: int | None = NEVER


class Keyring:
    """Keys as of the node entries applied so far, which must come in log order."""

    def __init__(self) -> None:
        self.keys: dict[bytes, Key] = {}
        """By key id (8 bytes)."""
        self._current: dict[str, bytes | None] = {}

    def apply(self, index: int, entry: NodeEntry) -> str | None:
        """Takes in one node entry; returns why it changes nothing about any key, None when it does."""
        kid = kid_of(entry.public_key)
        known = self.keys.get(kid)
        enrolled = entry.node in self._current
        if entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE):
            if known is not None:
                return f"key {kid.hex()} was already enrolled at entry {known.enrolled}"
            current = self._current.get(entry.node)
            if entry.event == NodeEvent.ENROL and current is not None:
                return f"node {entry.node} was already enrolled at entry {self.keys[current].enrolled}"
            if entry.event == NodeEvent.ROTATE and not enrolled:
                return f"node {entry.node} had no key to replace"
            if current is not None:
                self.keys[current].ended = index
            self.keys[kid] = Key(entry.public_key, entry.node, index)
            self._current[entry.node] = kid
            return None
        if entry.event != NodeEvent.REVOKE:
            return f"{entry.event} ends no key and brings none"
        if known is None or known.node != entry.node or known.ended is not None:
            return f"node {entry.node} has no such key in force or it was ended before"
        known.ended = index
        if self._current.get(entry.node) == kid:
            self._current[entry.node] = None
        return None

    def at(self, kid: bytes, index: int) -> Key | str:
        """The key `kid` if it was in force for a message at log index `index`; else why not."""
        key = self.keys.get(kid)
        if key is None:
            return f"key {kid.hex()} is not enrolled by any entry given"
        if key.enrolled >= index:
            return f"key {kid.hex()} was enrolled at entry {key.enrolled}, after the message at {index}"
        if key.ended is not None and key.ended < index:
            return f"key {kid.hex()} was ended at entry {key.ended}, before the message at {index}"
        return key
