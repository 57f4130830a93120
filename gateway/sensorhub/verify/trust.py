"""What a verifier is told to believe beforehand, and what the log's head shows on top of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sensorhub.errors import SensorhubError
from sensorhub.log.entries import (
    ArtefactEntry,
    Entry,
    EntryError,
    Genesis,
    MessageEntry,
    NodeEntry,
    VerdictEntry,
    decode_entry,
)
from sensorhub.log.merkle import ProofError, leaf_hash, verify_inclusion
from sensorhub.log.note import Checkpoint, NoteError, NoteVerifier, open_checkpoint
from sensorhub.verify.answers import Check

GENESIS_INDEX: Final = 0
"""Position of the entry that names the log."""
_KINDS: Final[Mapping[type[Entry], str]] = {
    Genesis: "a genesis entry (whose log this is)",
    MessageEntry: "a message",
    NodeEntry: "a node entry (what happened to a node)",
    VerdictEntry: "a verdict",
    ArtefactEntry: "a fingerprint of something outside of the log",
}


@dataclass(frozen=True, slots=True)
class Trust:
    """Facts that come from somewhere else than the file to verify. None: not pinned.

    Attributes:
        log_id: leaf hash of the genesis entry of the log one means, 32 bytes.
        log_key: verifier key of the log's checkpoints (`name+id+key`).
        chain_id: EIP-155 id of the chain one means.
        contract: address of the `GatewayLog` one means, 20 bytes.
    """

    log_id: bytes | None = None
    log_key: NoteVerifier | None = None
    chain_id: int | None = None
    contract: bytes | None = None

    def pinned(self) -> str:
        """What says which log one means, in words; empty when nothing does."""
        if self.log_id is not None and self.log_key is not None:
            return "the log id and the log key you gave"
        if self.log_id is not None:
            return "the log id you gave (its genesis entry names the key)"
        return "" if self.log_key is None else "the log key you gave"

    def of_log(self) -> str:
        """What the answers on the log rest on, in words."""
        return self.pinned() or "the log id in the file: give --log-id or --log-key to say which log you mean"


def origin_of(genesis: Genesis) -> str:
    """The origin line of the log's checkpoints, also the name of its key."""
    return f"{genesis.site}.{genesis.gateway}/sensorhub"


@dataclass(frozen=True, slots=True)
class Head:
    """A log's head as found in a file.

    Attributes:
        genesis: entry 0, None when it is no genesis entry.
        checkpoint: what the note says, whether signed well or not; None when it says nothing.
        checks: what was looked at.
    """

    genesis: Genesis | None
    checkpoint: Checkpoint | None
    checks: tuple[Check, ...]


def check_head(
    genesis_entry: bytes, genesis_index: int, log_id: bytes, note: bytes, size: int, trust: Trust
) -> Head:
    """Checks whose log it is and what its checkpoint note says; no Merkle path yet.

    Args:
        genesis_entry: entry 0 as the file has it.
        genesis_index: where the file puts it.
        log_id: the log id that the file names.
        note: the signed note.
        size: the tree size that the file names.
        trust: what is pinned.
    """
    checks: list[Check] = []
    genesis = _genesis(genesis_entry, genesis_index, checks)
    own_id = leaf_hash(genesis_entry)
    checks.append(
        Check("log-id", own_id == log_id, f"log id {log_id.hex()} is the leaf hash of the genesis entry")
        if own_id == log_id
        else Check("log-id", False, f"the genesis entry belongs to log {own_id.hex()}, not to {log_id.hex()}")
    )
    if trust.log_id is not None:
        same = own_id == trust.log_id
        text = "it is the log you named" if same else f"it is log {own_id.hex()}, not the one you named"
        checks.append(Check("log-id-pinned", same, text))
    origin = None if genesis is None else origin_of(genesis)
    checkpoint = unsigned_checkpoint(note)
    verifier, failure = _verifier(genesis, trust)
    if trust.log_key is not None and genesis is not None:
        same = trust.log_key.public_key == genesis.note_key and trust.log_key.name == origin
        text = (
            "the genesis entry names the log key you gave"
            if same
            else "the genesis entry names another log key"
        )
        checks.append(Check("log-key-pinned", same, text))
    if verifier is None:
        checks.append(Check("note-signature", None, failure))
    else:
        try:
            checkpoint = open_checkpoint(note, verifier)
            checks.append(Check("note-signature", True, f"checkpoint note signed by {verifier.name}"))
        except NoteError as error:
            checks.append(Check("note-signature", False, f"checkpoint note: {error}"))
    if checkpoint is not None:
        if origin is not None:
            same = checkpoint.origin == origin
            checks.append(
                Check("note-origin", same, f"note of {checkpoint.origin!r}, genesis entry of {origin!r}")
            )
        checks.append(
            Check("note-size", checkpoint.size == size, f"note of {checkpoint.size} entries, file of {size}")
        )
    return Head(genesis, checkpoint, tuple(checks))


def kind_in_words(entry: Entry) -> str:
    """What sort of entry it is, for people, with its article."""
    return _KINDS[type(entry)]


def _genesis(entry: bytes, index: int, checks: list[Check]) -> Genesis | None:
    try:
        genesis = decode_entry(entry)
    except EntryError as error:
        checks.append(Check("genesis-entry", False, f"genesis entry: {error}"))
        return None
    if not isinstance(genesis, Genesis) or index != GENESIS_INDEX:
        text = f"the genesis entry is {kind_in_words(genesis)} at index {index}"
        checks.append(Check("genesis-entry", False, text))
        return None
    checks.append(Check("genesis-entry", True, f"genesis entry of {genesis.site}.{genesis.gateway}"))
    return genesis


def _verifier(genesis: Genesis | None, trust: Trust) -> tuple[NoteVerifier | None, str]:
    if trust.log_key is not None:
        return trust.log_key, ""
    if genesis is None:
        return None, "there is no genesis entry to take the log key from"
    try:
        return NoteVerifier(origin_of(genesis), genesis.note_key), ""
    except NoteError as error:
        return None, f"the genesis entry names no usable key: {error}"


def unsigned_checkpoint(note: bytes) -> Checkpoint | None:
    """What a checkpoint note says, whoever signed it; None when it is no checkpoint."""
    try:
        text = note.decode("utf-8")
        return Checkpoint.parse(text[: text.rfind("\n\n") + 1])
    except (UnicodeDecodeError, NoteError):
        return None


def check_inclusion(
    name: str, what: str, entry: bytes, index: int, path: Sequence[bytes], checkpoint: Checkpoint | None
) -> Check:
    """Whether an entry stands at its index in the tree of the note.

    The note's own size and root are used, signed or not: whether the note is genuine is another check.
    """
    if checkpoint is None:
        return Check(name, None, f"there is no readable checkpoint to look for {what} in")
    try:
        verify_inclusion(leaf_hash(entry), index, checkpoint.size, path, checkpoint.root)
    except (ProofError, SensorhubError) as error:
        return Check(name, False, f"{what} is not proven: {error}")
    return Check(name, True, f"{what} is entry {index} of {checkpoint.size}")
