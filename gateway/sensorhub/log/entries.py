"""What a log entry says: five kinds of deterministic CBOR arrays, each led by its kind (README.md).

Decoding is strict: an entry has exactly one encoding (RFC 8949, 4.2), and `decode_entry` accepts no other.
The bytes of a message stay as the node sent them; only the wire room looks into those.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import cbor2

from sensorhub.errors import SensorhubError

#: Entry bundles carry a 16-bit length, so no entry is longer.
MAX_ENTRY: Final = 0xFFFF

#: The version of these formats that a genesis entry names.
FORMAT: Final = 1

GENESIS: Final = 1
MESSAGE: Final = 2
NODE: Final = 3
VERDICT: Final = 4
ARTEFACT: Final = 5
KINDS: Final = frozenset((GENESIS, MESSAGE, NODE, VERDICT, ARTEFACT))

#: What verdict entries name as rules when a person corrected a verdict.
REVIEW: Final = "review/1"

_MAX_INT: Final = (1 << 63) - 1


class EntryError(SensorhubError):
    """Raised when bytes are not a log entry, or a value cannot become one."""


class NodeEvent(StrEnum):
    """What a node entry reports; `clone` names two messages with one (boot, seq) and different bytes."""

    ENROL = "enrol"
    ROTATE = "rotate"
    REVOKE = "revoke"
    MOVE = "move"
    CLONE = "clone"


_EVENTS: Final = frozenset(event.value for event in NodeEvent)


@dataclass(frozen=True, slots=True)
class Genesis:
    """Entry 0: whose log this is. Its leaf hash is the log's id.

    Attributes:
        site: site name of the topics.
        gateway: name of the gateway in the site.
        note_key: Ed25519 public key (32 bytes) that signs the log's checkpoints.
        chain_id: EIP-155 id of the chain that anchors the log; 0 when none does.
        contract: address (20 bytes) of the contract there, if any.
        format: version of the formats in this log.
    """

    site: str
    gateway: str
    note_key: bytes
    chain_id: int = 0
    contract: bytes | None = None
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class MessageEntry:
    """One signed message of a node, byte for byte, and when the gateway received it (Unix ms)."""

    received_ms: int
    message: bytes


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A change in the registry of nodes.

    Attributes:
        ms: when, Unix ms.
        event: one of `NodeEvent`.
        node: name of the node in its site.
        kind: what the node is (as announced).
        public_key: the key that is enrolled, revoked or cloned: 64 bytes x||y.
        owner: EVM address (20 bytes) to reward, if known.
        geohash: coarse place, at most 5 characters; empty when unknown.
        evidence: what shows it: the announce message at enrolment, CBOR [first, second] for a clone.
    """

    ms: int
    event: str
    node: str
    kind: str
    public_key: bytes
    owner: bytes | None = None
    geohash: str = ""
    evidence: bytes = b""


def clone_pair(entry: NodeEntry) -> tuple[int, int] | None:
    """The log indices of the two messages that the evidence of a clone names; None when it names none."""
    try:
        value = cbor2.loads(entry.evidence)
    except Exception:  # noqa: BLE001 - cbor2 raises many kinds for bytes from outside
        return None
    if type(value) is list and len(value) == 2 and all(type(v) is int and 0 <= v <= _MAX_INT for v in value):
        return value[0], value[1]
    return None


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    """How readings were judged.

    Attributes:
        ms: when, Unix ms.
        model: SHA-256 of the model that took part; empty when only rules did.
        rules: version of the rules, such as `rules/1`.
        verdicts: for each judged message its log index and, in record order, (score 0-255, flag bits).
    """

    ms: int
    model: bytes
    rules: str
    verdicts: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


def outranks(rules: str, known: str | None) -> bool:
    """Whether a later verdict of `rules` on a message takes the place of one of `known` (None for none).

    The newest verdict is in force, but a person's word yields only to another person's.
    """
    return known != REVIEW or rules == REVIEW


@dataclass(frozen=True, slots=True)
class ArtefactEntry:
    """The fingerprint of something outside of the log that was used or made: a model, a dataset, a report."""

    ms: int
    what: str
    sha256: bytes
    description: str = ""


Entry = Genesis | MessageEntry | NodeEntry | VerdictEntry | ArtefactEntry


def encode_entry(entry: Entry) -> bytes:
    """The one encoding of an entry.

    Raises:
        EntryError: a field has the wrong type, length or range, or the entry is longer than `MAX_ENTRY` bytes.
    """
    match entry:
        case MessageEntry():
            array: list[Any] = [MESSAGE, entry.received_ms, entry.message]
        case VerdictEntry():
            array = [VERDICT, entry.ms, entry.model, entry.rules, entry.verdicts]
        case NodeEntry():
            array = [
                NODE,
                entry.ms,
                str(entry.event),
                entry.node,
                entry.kind,
                entry.public_key,
                entry.owner,
                entry.geohash,
                entry.evidence,
            ]
        case ArtefactEntry():
            array = [ARTEFACT, entry.ms, entry.what, entry.sha256, entry.description]
        case Genesis():
            array = [
                GENESIS,
                entry.format,
                entry.site,
                entry.gateway,
                entry.note_key,
                entry.chain_id,
                entry.contract,
            ]
        case _:
            raise EntryError(f"{type(entry).__name__} is not a kind of log entry")
    _check(entry)
    data = cbor2.dumps(array)
    if len(data) > MAX_ENTRY:
        raise EntryError(
            f"a log entry has at most {MAX_ENTRY} bytes, this {type(entry).__name__} has {len(data)}"
        )
    return data


def decode_entry(data: bytes) -> Entry:
    """The entry that `data` encodes.

    Raises:
        EntryError: not one of the five kinds, a wrong field, or not the deterministic encoding.
    """
    if len(data) > MAX_ENTRY:
        raise EntryError(f"a log entry has at most {MAX_ENTRY} bytes, this has {len(data)}")
    try:
        array = cbor2.loads(data)
    except (
        Exception
    ) as error:  # cbor2 lets ValueError, OverflowError and others through, depending on the bytes
        raise EntryError(f"a log entry is CBOR, this is not: {error}") from error
    if type(array) is not list or not array:
        raise EntryError("a log entry is a CBOR array that begins with its kind")
    entry = _build(array)
    if encode_entry(entry) != data:
        raise EntryError("a log entry has one deterministic encoding (RFC 8949, 4.2), this is another")
    return entry


def kind_of(data: bytes) -> int:
    """The kind of an entry that is already in the log, without decoding it; 0 when it is none.

    Every entry is an array of at most 23 elements (one head byte) whose first is a small integer.
    """
    if len(data) >= 2 and data[0] & 0xE0 == 0x80 and data[1] in KINDS:
        return data[1]
    return 0


def _build(array: list[Any]) -> Entry:
    kind = array[0]
    if type(kind) is not int or kind not in KINDS:
        raise EntryError(f"{kind!r} is not a kind of log entry (1 to 5)")
    fields = array[1:]
    try:
        if kind == MESSAGE:
            received_ms, message = fields
            return MessageEntry(received_ms, message)
        if kind == VERDICT:
            ms, model, rules, verdicts = fields
            judged = tuple(
                (index, tuple((score, flags) for score, flags in pairs)) for index, pairs in verdicts
            )
            return VerdictEntry(ms, model, rules, judged)
        if kind == NODE:
            ms, event, node, node_kind, public_key, owner, geohash, evidence = fields
            return NodeEntry(ms, event, node, node_kind, public_key, owner, geohash, evidence)
        if kind == ARTEFACT:
            ms, what, sha256, description = fields
            return ArtefactEntry(ms, what, sha256, description)
        format_, site, gateway, note_key, chain_id, contract = fields
        return Genesis(site, gateway, note_key, chain_id, contract, format_)
    except (TypeError, ValueError) as error:
        raise EntryError(f"a log entry of kind {kind} has other fields: {error}") from error


def _check(entry: Entry) -> None:
    match entry:
        case MessageEntry():
            _whole("received ms", entry.received_ms)
            _octets("message", entry.message)
        case VerdictEntry():
            _whole("ms", entry.ms)
            _octets("model", entry.model, 0, 32)
            _text("rules", entry.rules)
            if not isinstance(entry.verdicts, tuple):
                raise EntryError("verdicts must be a tuple")
            for index, pairs in entry.verdicts:
                _whole("message index", index)
                for score, flags in pairs:
                    # Written out because there are thousands of these in an entry.
                    if type(score) is not int or not 0 <= score <= 255:
                        raise EntryError(f"a score is a whole number from 0 to 255, not {score!r}")
                    if type(flags) is not int or not 0 <= flags <= _MAX_INT:
                        _whole("flags", flags)
        case NodeEntry():
            _whole("ms", entry.ms)
            _text("event", entry.event)
            if entry.event not in _EVENTS:
                raise EntryError(f"{entry.event!r} is not a node event ({', '.join(sorted(_EVENTS))})")
            _text("node", entry.node)
            _text("kind", entry.kind)
            _octets("public key", entry.public_key, 64)
            if entry.owner is not None:
                _octets("owner", entry.owner, 20)
            _text("geohash", entry.geohash)
            if len(entry.geohash) > 5:
                raise EntryError(
                    f"a geohash has at most 5 characters, so that no home is named: {entry.geohash!r}"
                )
            _octets("evidence", entry.evidence)
        case ArtefactEntry():
            _whole("ms", entry.ms)
            _text("what", entry.what)
            _octets("sha256", entry.sha256, 32)
            _text("description", entry.description)
        case Genesis():
            if type(entry.format) is not int or entry.format != FORMAT:
                raise EntryError(f"this program reads log format {FORMAT}, the log says {entry.format!r}")
            _text("site", entry.site)
            _text("gateway", entry.gateway)
            _octets("note key", entry.note_key, 32)
            _whole("chain id", entry.chain_id)
            if entry.contract is not None:
                _octets("contract", entry.contract, 20)


def _whole(name: str, value: object) -> None:
    # Flags arrive as IntFlag members, so subclasses of int are fine; bool, which is one too, is not.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_INT:
        raise EntryError(f"{name} is a whole number from 0 to 2**63 - 1, not {value!r}")


def _octets(name: str, value: object, *lengths: int) -> None:
    if type(value) is not bytes:
        raise EntryError(f"{name} is a byte string, not {type(value).__name__}")
    if lengths and len(value) not in lengths:
        raise EntryError(f"{name} has {' or '.join(map(str, lengths))} bytes, not {len(value)}")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise EntryError(f"{name} is text, not {type(value).__name__}")
