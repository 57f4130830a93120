"""`sensorhub-proof/1`: the file that proves one log entry, as a value, read and written.

Reading is strict and says nothing of truth: `check.check_proof` does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sensorhub.verify import canonical
from sensorhub.verify.canonical import Members, to_base64, to_hex
from sensorhub.verify.errors import VerifyError

FORMAT: Final = "sensorhub-proof/1"
SUFFIX: Final = ".proof.json"
"""File name ending that the gateway gives to proofs."""
MAX_EVENTS: Final = 256
"""Most node events one proof may carry."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A log entry with its place in the tree.

    Attributes:
        entry: the whole entry.
        index: its position in the log.
        path: inclusion proof (RFC 9162, section 2.1.3), 32 bytes each, from the leaf's sibling upwards,
            for the tree size of the proof.
    """

    entry: bytes
    index: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """What the gateway signed for the chain (EIP-712 `Checkpoint` without the log id).

    Attributes:
        seq: number of the checkpoint, from 1.
        size: tree size.
        root: tree root, 32 bytes.
        prev: struct hash of the checkpoint before, 32 bytes, zero for the first.
        start: received time of the first entry newly covered, Unix ms.
        end: received time of the last entry covered, Unix ms.
        gateway: address that signed, 20 bytes.
        signature: 65 bytes r, s, v.
    """

    seq: int
    size: int
    root: bytes
    prev: bytes
    start: int
    end: int
    gateway: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a checkpoint stands on the chain.

    Attributes:
        chain_id: EIP-155 chain id of the domain.
        contract: address of GatewayLog, 20 bytes.
        checkpoint: what was signed.
        tx: hash of the transaction that posted it, 32 bytes; None when it is signed but not mined.
        block: number of the block that holds it; None like `tx`.
    """

    chain_id: int
    contract: bytes
    checkpoint: SignedCheckpoint
    tx: bytes | None
    block: int | None


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof file.

    Attributes:
        log_id: leaf hash of the genesis entry, 32 bytes.
        entry: the proven entry.
        size: tree size for which every path holds.
        note: signed checkpoint note of that size, verbatim.
        genesis: entry 0.
        node: the entry that enrolled the key that signed the message; None when `entry` is no message.
        events: other entries about that node (rotate, revoke, move, clone) known to the prover.
        verdict: the newest verdict entry on the message within the size; None when there is none.
        anchor: the chain checkpoint of that size; None when that size was not posted.
        digest_holds: whether the file's own digest fits (always true for a proof just made).
    """

    log_id: bytes
    entry: Proven
    size: int
    note: str
    genesis: Proven
    node: Proven | None
    events: tuple[Proven, ...]
    verdict: Proven | None
    anchor: Anchor | None
    digest_holds: bool = True


def format_proof(proof: Proof) -> bytes:
    """The canonical file of a proof."""
    anchor = proof.anchor
    members: dict[str, Any] = {
        "format": FORMAT,
        **anchor_head(anchor),
        "logId": to_hex(proof.log_id),
        "entry": to_base64(proof.entry.entry),
        "index": proof.entry.index,
        "size": proof.size,
        "path": [to_base64(item) for item in proof.entry.path],
        "checkpoint": None if anchor is None else _checkpoint_members(anchor.checkpoint),
        "note": proof.note,
        "genesis": _proven_members(proof.genesis),
        "node": None if proof.node is None else _proven_members(proof.node),
        "events": [_proven_members(event) for event in proof.events],
        "verdict": None if proof.verdict is None else _proven_members(proof.verdict),
        **anchor_tail(anchor),
    }
    return canonical.dump(canonical.seal(members))


def parse_proof(data: bytes) -> Proof:
    """Reads a proof file.

    Raises:
        VerifyError: anything that is not exactly the format; names the member.
    """
    value = canonical.load(data)
    members = Members(value)
    canonical.check_format(members, FORMAT)
    chain_id, contract = read_anchor_head(members)
    log_id = members.read("logId", canonical.bytes32)
    entry = members.read("entry", canonical.base64_bytes)
    index = members.uint("index")
    size = members.uint("size")
    path = members.array("path", canonical.hash_base64)
    checkpoint = members.optional("checkpoint", _checkpoint)
    note = members.text("note")
    genesis = members.read("genesis", _proven)
    node = members.optional("node", _proven)
    events = members.array("events", _proven)
    verdict = members.optional("verdict", _proven)
    tx = members.optional("tx", canonical.bytes32)
    block = members.optional("block", canonical.uint)
    members.read(canonical.DIGEST, canonical.sha256_hex)
    members.done()
    if len(events) > MAX_EVENTS:
        raise VerifyError("events", f"{len(events)} entries; at most {MAX_EVENTS} are read")
    return Proof(
        log_id=log_id,
        entry=Proven(entry, index, path),
        size=size,
        note=note,
        genesis=genesis,
        node=node,
        events=events,
        verdict=verdict,
        anchor=join_anchor(chain_id, contract, checkpoint, tx, block),
        digest_holds=canonical.digest_holds(value),
    )


def anchor_head(anchor: Anchor | None) -> dict[str, Any]:
    """The members `chainId` and `contract`."""
    return {
        "chainId": None if anchor is None else anchor.chain_id,
        "contract": None if anchor is None else to_hex(anchor.contract),
    }


def anchor_tail(anchor: Anchor | None) -> dict[str, Any]:
    """The members `tx` and `block`."""
    return {
        "tx": None if anchor is None or anchor.tx is None else to_hex(anchor.tx),
        "block": None if anchor is None else anchor.block,
    }


def read_anchor_head(members: Members) -> tuple[int | None, bytes | None]:
    return members.optional("chainId", canonical.uint), members.optional("contract", canonical.address)


def join_anchor(
    chain_id: int | None,
    contract: bytes | None,
    checkpoint: SignedCheckpoint | None,
    tx: bytes | None,
    block: int | None,
) -> Anchor | None:
    """One anchor from its five members, which are all null or all there (tx and block as a pair).

    Raises:
        VerifyError: some are there and some are not.
    """
    for name, missing in (("chainId", chain_id is None), ("contract", contract is None)):
        if missing != (checkpoint is None):
            raise VerifyError(name, "null goes with a null checkpoint, a value with a value")
    if checkpoint is None and tx is not None:
        raise VerifyError("tx", "there is no checkpoint that it could have posted")
    if (tx is None) != (block is None):
        raise VerifyError("block", "tx and block are given together or not at all")
    if checkpoint is None or chain_id is None or contract is None:
        return None
    return Anchor(chain_id, contract, checkpoint, tx, block)


def anchor_members(anchor: Anchor) -> dict[str, Any]:
    """An anchor as one object, the way manifests hold it."""
    return {
        **anchor_head(anchor),
        "checkpoint": _checkpoint_members(anchor.checkpoint),
        **anchor_tail(anchor),
    }


def read_anchor(value: Any, where: str) -> Anchor:
    """Reads what `anchor_members` wrote.

    Raises:
        VerifyError: not exactly that.
    """
    members = Members(value, where)
    chain_id, contract = read_anchor_head(members)
    checkpoint = members.read("checkpoint", _checkpoint)
    tx = members.optional("tx", canonical.bytes32)
    block = members.optional("block", canonical.uint)
    members.done()
    anchor = join_anchor(chain_id, contract, checkpoint, tx, block)
    if anchor is None:
        raise VerifyError(where, "an anchor needs chainId, contract and checkpoint")
    return anchor


def _checkpoint_members(checkpoint: SignedCheckpoint) -> dict[str, Any]:
    return {
        "seq": checkpoint.seq,
        "size": checkpoint.size,
        "root": to_hex(checkpoint.root),
        "prev": to_hex(checkpoint.prev),
        "start": checkpoint.start,
        "end": checkpoint.end,
        "gateway": to_hex(checkpoint.gateway),
        "signature": to_hex(checkpoint.signature),
    }


def _checkpoint(value: Any, where: str) -> SignedCheckpoint:
    members = Members(value, where)
    checkpoint = SignedCheckpoint(
        seq=members.uint("seq"),
        size=members.uint("size"),
        root=members.read("root", canonical.bytes32),
        prev=members.read("prev", canonical.bytes32),
        start=members.uint("start"),
        end=members.uint("end"),
        gateway=members.read("gateway", canonical.address),
        signature=members.read("signature", canonical.hex_bytes(65)),
    )
    members.done()
    return checkpoint


def _proven_members(proven: Proven) -> dict[str, Any]:
    return {
        "entry": to_base64(proven.entry),
        "index": proven.index,
        "path": [to_base64(item) for item in proven.path],
    }


def _proven(value: Any, where: str) -> Proven:
    members = Members(value, where)
    proven = Proven(
        entry=members.read("entry", canonical.base64_bytes),
        index=members.uint("index"),
        path=members.array("path", canonical.hash_base64),
    )
    members.done()
    return proven
