"""A small log with everything in it, made of the real parts and the same on every run.

Two nodes at site `alpha`; one has a key that is replaced later, the other begins without a clock. The tests of
the verifier and of datasets, and `make.py` beside this file, build what they need from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import cbor2
from coincurve import PrivateKey

from sensorhub.chain.digest import NO_PREV, ChainCheckpoint, address, digest, sign
from sensorhub.channels import BY_NAME
from sensorhub.log.entries import (
    ArtefactEntry,
    Genesis,
    MessageEntry,
    NodeEntry,
    NodeEvent,
    VerdictEntry,
    encode_entry,
)
from sensorhub.log.merkle import Tree, leaf_hash
from sensorhub.log.note import Checkpoint, NoteSigner, sign_note
from sensorhub.verify.chain_view import POSTED, ContractHead, EventLog, FlaggedRange, Posted, Receipt, posted
from sensorhub.verify.proof import Anchor, Proof, Proven, SignedCheckpoint
from sensorhub.wire import encode_announce, encode_message, public_key_of

SITE = "alpha"
GATEWAY = "g1"
ORIGIN = f"{SITE}.{GATEWAY}/sensorhub"
CHAIN_ID = 31337
CONTRACT = bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3")
START = 1_700_000_000
CHANNELS = ("pm2_5", "temperature", "wind_speed")
RULES = "rules/1"


def secret(name: str) -> PrivateKey:
    """A key that everybody can make: for tests only."""
    return PrivateKey(hashlib.sha256(f"sensorhub test key {name}".encode()).digest())


@dataclass
class Device:
    """A node that signs: name, key and where its chain of messages stands."""

    name: str
    key: PrivateKey
    boot: int = 1
    seq: int = 0
    prev: bytes = bytes(32)

    @property
    def public_key(self) -> bytes:
        return public_key_of(self.key)

    def announce(self) -> bytes:
        return encode_announce(
            self.key,
            site=SITE,
            node=self.name,
            boot=self.boot,
            tq=0,
            uptime=3,
            kind="air",
            hardware="esp32",
            firmware="1.0.0",
            channels=[(name, BY_NAME[name].unit) for name in CHANNELS],
            claim=None,
            oldest=1,
        )

    def message(self, records, *, time=None, uptime=60, tq=2) -> bytes:
        self.seq += 1
        raw = encode_message(
            self.key,
            site=SITE,
            node=self.name,
            boot=self.boot,
            seq=self.seq,
            prev=self.prev,
            tq=tq if time is not None else 0,
            uptime=uptime,
            base_time=time,
            records=records,
        )
        self.prev = hashlib.sha256(raw).digest()
        return raw


@dataclass
class World:
    """A log in memory that can be read like one on disk."""

    contract: bytes | None = CONTRACT
    chain_id: int = CHAIN_ID
    entries_: list[bytes] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)

    def __post_init__(self) -> None:
        self.signer = NoteSigner(ORIGIN, hashlib.sha256(b"sensorhub test note key").digest())
        self.gateway = secret("gateway")
        chain_id = self.chain_id if self.contract else 0
        self.append(Genesis(SITE, GATEWAY, self.signer.public_key, chain_id, self.contract))
        self.anchors: dict[int, Anchor] = {}

    # building

    def append(self, entry) -> int:
        data = entry if isinstance(entry, bytes) else encode_entry(entry)
        self.entries_.append(data)
        return self.tree.append(data)

    @property
    def now(self) -> int:
        """Received time for the next entry, Unix ms."""
        return START * 1000 + len(self.entries_)

    def enrol(self, device: Device, event: str = NodeEvent.ENROL) -> int:
        return self.append(
            NodeEntry(
                self.now, event, device.name, "air", device.public_key, None, "wx4g0", device.announce()
            )
        )

    def revoke(self, device: Device) -> int:
        return self.append(NodeEntry(self.now, NodeEvent.REVOKE, device.name, "air", device.public_key))

    def clone(self, device: Device, first: int, second: int) -> int:
        evidence = cbor2.dumps([first, second])
        return self.append(
            NodeEntry(self.now, NodeEvent.CLONE, device.name, "air", device.public_key, None, "", evidence)
        )

    def send(self, device: Device, records, **options) -> int:
        return self.append(MessageEntry(self.now, device.message(records, **options)))

    def judge(self, *messages: int, scores=(255, 0), model: bytes = b"", rules: str = RULES) -> int:
        """A verdict with the same (score, flags) for each reading of some messages of len(CHANNELS) records."""
        verdicts = tuple((index, (tuple(scores),) * len(CHANNELS)) for index in messages)
        return self.append(VerdictEntry(self.now, model, rules, verdicts))

    def artefact(self, what: str, sha256: bytes) -> int:
        return self.append(ArtefactEntry(self.now, what, sha256, "made in a test"))

    # reading, as a log reader does

    def size(self) -> int:
        return len(self.entries_)

    def entry(self, index: int) -> bytes:
        return self.entries_[index]

    def entries(self, start: int, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        stop = len(self.entries_) if stop is None else stop
        return iter(list(enumerate(self.entries_))[start:stop])

    def root(self, size: int) -> bytes:
        return self.tree.root(size)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        return self.tree.inclusion(index, size)

    def hash_of(self, level: int, index: int) -> bytes:
        return self.tree.hash_of(level, index)

    def checkpoint(self) -> bytes:
        return self.note(self.size())

    def note(self, size: int) -> bytes:
        return sign_note(Checkpoint(ORIGIN, size, self.root(size)).format(), self.signer)

    @property
    def log_id(self) -> bytes:
        return leaf_hash(self.entries_[0])

    def anchor(self, size: int | None = None) -> Anchor:
        """Signs the next chain checkpoint; as if it had been mined."""
        size = self.size() if size is None else size
        last = max(self.anchors.values(), key=lambda anchor: anchor.checkpoint.seq, default=None)
        seq = 1 if last is None else last.checkpoint.seq + 1
        prev = NO_PREV if last is None else self._struct(last.checkpoint).struct_hash()
        covered = 0 if last is None else last.checkpoint.size
        checkpoint = ChainCheckpoint(
            self.log_id, seq, size, self.root(size), prev, START * 1000 + covered, START * 1000 + size - 1
        )
        signature = sign(digest(checkpoint, CHAIN_ID, CONTRACT), self.gateway)
        signed = SignedCheckpoint(
            seq,
            size,
            checkpoint.root,
            prev,
            checkpoint.start,
            checkpoint.end,
            address(self.gateway.public_key),
            signature,
        )
        anchor = Anchor(CHAIN_ID, CONTRACT, signed, hashlib.sha256(signature).digest(), 100 + seq)
        self.anchors[size] = anchor
        return anchor

    def _struct(self, signed: SignedCheckpoint) -> ChainCheckpoint:
        return ChainCheckpoint(
            self.log_id, signed.seq, signed.size, signed.root, signed.prev, signed.start, signed.end
        )

    # proving by hand, apart from the code that does so in the product

    def proven(self, index: int, size: int) -> Proven:
        return Proven(self.entries_[index], index, tuple(self.inclusion(index, size)))

    def proof(self, index: int, *, size=None, node=None, events=(), verdict=None, anchored=True) -> Proof:
        size = self.size() if size is None else size
        return Proof(
            log_id=self.log_id,
            entry=self.proven(index, size),
            size=size,
            note=self.note(size).decode(),
            genesis=self.proven(0, size),
            node=None if node is None else self.proven(node, size),
            events=tuple(self.proven(event, size) for event in events),
            verdict=None if verdict is None else self.proven(verdict, size),
            anchor=(self.anchors.get(size) or self.anchor(size)) if anchored else None,
        )


@dataclass
class RecordedChain:
    """What a chain would answer about the anchors of a world, for tests that need wrong answers."""

    world: World
    name: str = "a recorded chain"
    flagged: tuple[FlaggedRange, ...] = ()
    id: int = CHAIN_ID

    def chain_id(self) -> int:
        return self.id

    def receipt(self, tx: bytes) -> Receipt | None:
        for anchor in self.world.anchors.values():
            if anchor.tx == tx:
                signed = anchor.checkpoint
                words = [signed.size, signed.root, signed.prev, signed.start, signed.end]
                data = b"".join(w if isinstance(w, bytes) else w.to_bytes(32, "big") for w in words)
                topics = (POSTED, self.world.log_id, signed.seq.to_bytes(32, "big"))
                return Receipt(anchor.block or 0, True, (EventLog(CONTRACT, topics, data),))
        return None

    def posts(self, contract: bytes, log_id: bytes) -> tuple[Posted, ...]:
        if contract != CONTRACT or log_id != self.world.log_id:
            return ()
        found = []
        for anchor in self.world.anchors.values():
            found += posted(self.receipt(anchor.tx).events, contract)
        return tuple(sorted(found, key=lambda post: post.seq))

    def head(self, contract: bytes, log_id: bytes) -> ContractHead:
        posts = self.posts(contract, log_id)
        if not posts:
            return ContractHead(bytes(32), bytes(20))
        return ContractHead(posts[-1].struct_hash(), address(self.world.gateway.public_key))

    def flags(self, contract: bytes, log_id: bytes) -> tuple[FlaggedRange, ...]:
        return self.flagged if contract == CONTRACT and log_id == self.world.log_id else ()


@dataclass
class Sample:
    """A world with a story; the attributes are log indices."""

    world: World
    north: Device
    south: Device
    enrolled_north: int
    enrolled_south: int
    message: int
    verdict: int
    clockless: int
    synced: int
    unjudged: int


def readings(step: int) -> list[tuple[str, float, float]]:
    return [("pm2_5", 8 + step, 0), ("temperature", 4.5 + step / 2, 0), ("wind_speed", 1.25, 10)]


def sample(contract: bytes | None = CONTRACT, chain_id: int = CHAIN_ID) -> Sample:
    """Sixteen or so entries: two enrolments, messages of both nodes, verdicts, a message without a clock."""
    world = World(contract, chain_id)
    north, south = Device("north", secret("north")), Device("south", secret("south"))
    enrolled_north = world.enrol(north)
    enrolled_south = world.enrol(south)
    message = world.send(north, readings(0), time=START)
    clockless = world.send(south, readings(1), uptime=30)
    synced = world.send(south, readings(2), time=START + 60, uptime=90)
    others = [world.send(north, readings(step), time=START + 60 * step) for step in range(1, 5)]
    verdict = world.judge(message, clockless, synced, *others, scores=(255, 0))
    suspect = world.send(north, readings(90), time=START + 600)
    world.judge(suspect, scores=(13, 0b10))
    unjudged = world.send(south, readings(3), time=START + 660, uptime=690)
    return Sample(
        world,
        north,
        south,
        enrolled_north,
        enrolled_south,
        message,
        verdict,
        clockless,
        synced,
        unjudged,
    )
