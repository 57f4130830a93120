"""What the verifier asks of a chain, and how the bytes of contract `GatewayLog` read.

Nothing here talks to a network: `rpc.RpcChain` does, and a test may hand in a chain of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from eth_hash.auto import keccak

from sensorhub.chain.digest import ChainCheckpoint
from sensorhub.verify.errors import VerifyError

WORD: Final = 32
"""Bytes of one ABI word."""
POSTED: Final = keccak(b"Posted(bytes32,uint64,uint64,bytes32,bytes32,uint64,uint64)")
"""Topic 0 of the event of one post; logId and seq are indexed."""
FLAGGED: Final = keccak(b"Flagged(bytes32,uint64,uint64,string)")
"""Topic 0 of the event of one flag; logId is indexed."""
MAX_REASON: Final = 256
"""Longest reason of a flag, in bytes; GatewayLog takes no longer one."""
HEAD_SELECTOR: Final = keccak(b"head(bytes32)")[:4]
"""Selector of the view that gives what the contract keeps of a log."""


@dataclass(frozen=True, slots=True)
class EventLog:
    """One event of a receipt: emitter (20 bytes), topics (32 bytes each), data."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the chain says of one transaction that was mined."""

    block: int
    succeeded: bool
    events: tuple[EventLog, ...]


Posted = ChainCheckpoint
"""One checkpoint as the contract's event tells it: all that the gateway signed."""


@dataclass(frozen=True, slots=True)
class FlaggedRange:
    """Entries `start <= index < stop` that the contract flags, and the reason for people."""

    start: int
    stop: int
    reason: str


@dataclass(frozen=True, slots=True)
class ContractHead:
    """What the contract keeps of a log.

    Attributes:
        hash: struct hash of the newest checkpoint, 32 zero bytes before the first.
        signer: whose signature a checkpoint needs, 20 bytes; zero when the contract does not know the log.
    """

    hash: bytes
    signer: bytes

    @property
    def known(self) -> bool:
        return any(self.signer)


class Chain(Protocol):
    """A chain as the verifier sees it. Every method may raise `ChainUnreachable`."""

    name: str
    """What the answers rest on, as `the RPC server at ...`."""

    def chain_id(self) -> int: ...

    def receipt(self, tx: bytes) -> Receipt | None: ...

    def head(self, contract: bytes, log_id: bytes) -> ContractHead | None:
        """None when this view cannot tell the contract's state."""
        ...

    def posts(self, contract: bytes, log_id: bytes) -> tuple[Posted, ...]: ...

    def flags(self, contract: bytes, log_id: bytes) -> tuple[FlaggedRange, ...]: ...


class ChainUnreachable(VerifyError):  # noqa: N818 - it names a state, not a fault of the input
    """Raised when a chain gave no answer; what depends on it stays unknown."""


def posted(events: Iterable[EventLog], contract: bytes) -> list[Posted]:
    """The checkpoints that a receipt's events post to `contract`."""
    found = []
    for event in events:
        if event.address == contract and len(event.topics) == 3 and event.topics[0] == POSTED:
            words = _words(event.data, 5)
            seq, size, start, end = (_uint64(word) for word in (event.topics[2], words[0], *words[3:]))
            found.append(Posted(_word(event.topics[1]), seq, size, words[1], words[2], start, end))
    return found


def flagged(events: Iterable[EventLog], contract: bytes, log_id: bytes) -> tuple[FlaggedRange, ...]:
    """The ranges that these events of `contract` flag in one log."""
    found = []
    for event in events:
        if event.address != contract or tuple(event.topics) != (FLAGGED, log_id):
            continue
        first, after, place = _words(event.data, 3)
        start, stop, offset = _uint64(first), _uint64(after), _uint(place)
        length = _uint(event.data[offset : offset + WORD])
        reason = event.data[offset + WORD : offset + WORD + length]
        if len(reason) != length or length > MAX_REASON:
            raise ChainUnreachable("Flagged event", f"has no reason of at most {MAX_REASON} bytes")
        found.append(FlaggedRange(start, stop, reason.decode("utf-8", "replace")))
    return tuple(found)


def contract_head(returned: bytes) -> ContractHead:
    """Reads what `head(bytes32)` returns: hash, signer, owner, nonce, closed."""
    hashed, signer, *_ = _words(returned, 5)
    return ContractHead(hashed, signer[12:])


def _words(data: bytes, count: int) -> Sequence[bytes]:
    if len(data) < count * WORD:
        raise ChainUnreachable(
            "contract", f"answered {len(data)} bytes where GatewayLog gives {count * WORD}"
        )
    return [data[at : at + WORD] for at in range(0, count * WORD, WORD)]


def _word(word: bytes) -> bytes:
    if len(word) != WORD:
        raise ChainUnreachable("event", f"has a topic of {len(word)} bytes")
    return word


def _uint64(word: bytes) -> int:
    value = _uint(word)
    if value >> 64:
        raise ChainUnreachable("event", f"has {value} where GatewayLog has a uint64")
    return value


def _uint(word: bytes) -> int:
    return int.from_bytes(word, "big")
