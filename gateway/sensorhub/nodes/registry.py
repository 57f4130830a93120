"""The registry of nodes and their keys: a projection of the log's node entries, nothing else.

The same entries in the same order always give the same registry, in this process and in an auditor's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from sensorhub.log.entries import NodeEntry, clone_pair, decode_entry
from sensorhub.wire import kid as kid_of

if TYPE_CHECKING:
    from sensorhub.log.reader import LogReader

ENROL: Final = "enrol"
ROTATE: Final = "rotate"
REVOKE: Final = "revoke"
MOVE: Final = "move"
CLONE: Final = "clone"
EVENTS: Final = (ENROL, ROTATE, REVOKE, MOVE, CLONE)

NODE_ENTRY_PREFIX: Final = b"\x89\x03"
"""First bytes of every node entry: a CBOR array of nine whose first element is 3."""


@dataclass(frozen=True, slots=True)
class NodeKey:
    """One key a node has or had.

    Attributes:
        kid: first 8 bytes of SHA-256(public_key).
        node: name of the node.
        kind: what sort of node it is, as enrolled.
        public_key: 64 bytes x || y on secp256k1.
        owner: 20-byte account address that is credited for the data, or None.
        geohash: five characters, or empty when the place is not told.
        enrolled_index: log index of the entry that enrolled the key.
        revoked_index: log index of the entry that ended it, or None while it is good.
    """

    kid: bytes
    node: str
    kind: str
    public_key: bytes
    owner: bytes | None
    geohash: str
    enrolled_index: int
    revoked_index: int | None = None


@dataclass(slots=True)
class Node:
    """What the log says of one node now.

    Attributes:
        name: node name.
        kids: every key id it ever had, oldest first.
        current: key id in force, or None when it was revoked and not replaced.
        clones: (log index of the first, log index of the second) message of every reused sequence number.
    """

    name: str
    kids: list[bytes] = field(default_factory=list)
    current: bytes | None = None
    clones: list[tuple[int, int]] = field(default_factory=list)


class Registry:
    """Nodes and keys as of the entries applied so far."""

    def __init__(self) -> None:
        self._keys: dict[bytes, NodeKey] = {}
        self._nodes: dict[str, Node] = {}
        self.version = 0
        """Grows with every entry that changed something."""
        self.indices: list[int] = []
        """Log indices of the entries that changed something, in order."""

    def key(self, kid: bytes) -> NodeKey | None:
        """The key with this id, good or revoked; None when it was never enrolled."""
        return self._keys.get(kid)

    def public_key(self, kid: bytes) -> bytes | None:
        """The 64-byte public key of a key that is enrolled and not revoked, else None."""
        found = self._keys.get(kid)
        return found.public_key if found is not None and found.revoked_index is None else None

    def node(self, name: str) -> Node | None:
        """The node of this name, or None."""
        return self._nodes.get(name)

    def current(self, name: str) -> NodeKey | None:
        """The key in force of a node, or None."""
        found = self._nodes.get(name)
        return self._keys[found.current] if found is not None and found.current is not None else None

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in the order they were enrolled."""
        return tuple(self._nodes.values())

    def keys(self) -> Iterator[NodeKey]:
        """All keys ever enrolled, in the order they were."""
        return iter(tuple(self._keys.values()))

    def refusal(self, entry: NodeEntry) -> str | None:
        """Why `entry` would change nothing, in words for the person who asked for it; None when it would."""
        event, node = entry.event, self._nodes.get(entry.node)
        if event not in EVENTS:
            return f"{event!r} is not one of {', '.join(EVENTS)}"
        if event in (ENROL, ROTATE):
            if len(entry.public_key) != 64:
                return f"the public key of {entry.node!r} has {len(entry.public_key)} bytes, not 64"
            known = self._keys.get(kid_of(entry.public_key))
            if known is not None:
                return f"key {known.kid.hex()} is already enrolled for node {known.node!r}"
            if event == ENROL and node is not None and node.current is not None:
                return f"node {entry.node!r} is already enrolled; replace its key with a rotation"
            if event == ROTATE and node is None:
                return f"node {entry.node!r} is not enrolled, so there is no key to rotate"
            return None
        if node is None:
            return f"node {entry.node!r} is not enrolled"
        key = self._keys.get(kid_of(entry.public_key)) if len(entry.public_key) == 64 else None
        if event == MOVE:
            return None if node.current is not None else f"node {entry.node!r} has no key in force"
        if key is None or key.node != entry.node:
            return f"that public key is not one of node {entry.node!r}"
        if event == REVOKE and key.revoked_index is not None:
            return f"key {key.kid.hex()} of node {entry.node!r} is already revoked"
        if event == CLONE and entry.evidence and clone_pair(entry) is None:
            return "the evidence of a clone names two entries of the log"
        return None

    def apply(self, index: int, entry: NodeEntry) -> bool:
        """Takes in the node entry at log index `index`; says whether it changed anything.

        Entries that cannot be true (see `refusal`) change nothing: the first entry to claim a key or a
        name keeps it, so a later entry cannot take over an enrolled name without a rotation.
        """
        if self.refusal(entry) is not None:
            return False
        if entry.event in (ENROL, ROTATE):
            self._enrol(index, entry)
        elif entry.event == MOVE:
            self._move(entry)
        elif entry.event == REVOKE:
            kid = kid_of(entry.public_key)
            self._end(kid, index)
        else:
            self._nodes[entry.node].clones.append(clone_pair(entry) or (index, index))
        self.version += 1
        self.indices.append(index)
        return True

    @classmethod
    def replay(cls, reader: LogReader, upto: int | None = None) -> Registry:
        """The registry of a log's first `upto` entries (all committed ones by default)."""
        registry = cls()
        for index, entry in reader.entries(0, upto):
            if entry.startswith(NODE_ENTRY_PREFIX):
                decoded = decode_entry(entry)
                if isinstance(decoded, NodeEntry):
                    registry.apply(index, decoded)
        return registry

    def _enrol(self, index: int, entry: NodeEntry) -> None:
        node = self._nodes.setdefault(entry.node, Node(entry.node))
        if node.current is not None:
            self._end(node.current, index)
        kid = kid_of(entry.public_key)
        previous = self._keys[node.kids[-1]] if node.kids else None
        self._keys[kid] = NodeKey(
            kid=kid,
            node=entry.node,
            kind=entry.kind,
            public_key=entry.public_key,
            # a rotation replaces the key, not the owner and the place, unless it names new ones
            owner=entry.owner if entry.owner is not None or previous is None else previous.owner,
            geohash=entry.geohash or (previous.geohash if previous is not None else ""),
            enrolled_index=index,
        )
        node.kids.append(kid)
        node.current = kid

    def _move(self, entry: NodeEntry) -> None:
        kid = self._nodes[entry.node].current
        assert kid is not None
        key = self._keys[kid]
        owner = entry.owner if entry.owner is not None else key.owner
        self._keys[kid] = replace(key, geohash=entry.geohash or key.geohash, owner=owner)

    def _end(self, kid: bytes, index: int) -> None:
        key = self._keys[kid]
        self._keys[kid] = replace(key, revoked_index=index)
        node = self._nodes[key.node]
        if node.current == kid:
            node.current = None
