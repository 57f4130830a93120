"""The answers anchored and flagged: what a chain says of a checkpoint and of ranges of entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sensorhub.chain.digest import ChainCheckpoint, SignatureError, digest, recover
from sensorhub.log.entries import Genesis
from sensorhub.log.note import Checkpoint
from sensorhub.verify.answers import ANCHORED, FLAGGED, Answer, Check, State, conclude
from sensorhub.verify.canonical import to_hex
from sensorhub.verify.chain_view import Chain, ChainUnreachable, FlaggedRange, Posted, posted
from sensorhub.verify.proof import Anchor
from sensorhub.verify.trust import Trust

NOT_ASKED = "not checked: no chain was asked (give --rpc or --header)"

NAMED_FLAGS: Final = 10
"""Flags of the contract that are told one by one; the rest is counted."""


def anchor_facts(anchor: Anchor | None) -> dict[str, Any] | None:
    """What a file says of the chain, for the facts of a report."""
    if anchor is None:
        return None
    return {
        "chainId": anchor.chain_id,
        "contract": to_hex(anchor.contract),
        "seq": anchor.checkpoint.seq,
        "tx": None if anchor.tx is None else to_hex(anchor.tx),
        "block": anchor.block,
    }


def check_anchored(
    anchor: Anchor | None,
    log_id: bytes,
    checkpoint: Checkpoint | None,
    genesis: Genesis | None,
    chain: Chain | None,
    trust: Trust,
) -> Answer:
    """Whether the chain carries the checkpoint of the note.

    Args:
        anchor: what the file says of the chain.
        log_id: the log.
        checkpoint: the note's content.
        genesis: entry 0, which may name chain and contract.
        chain: whom to ask; None leaves the answer unknown unless the file contradicts itself.
        trust: what is pinned.
    """
    if anchor is None:
        reason = "no checkpoint on a chain belongs to this file: it was made before its size was anchored"
        return Answer(ANCHORED, State.NO, reason, (), (Check("anchor-present", False, reason),))
    signed = anchor.checkpoint
    checks = [Check("anchor-present", True, f"checkpoint {signed.seq} of {signed.size} entries")]
    if checkpoint is None:
        checks.append(Check("anchor-tree", None, "there is no readable note to compare the checkpoint with"))
    else:
        same = (signed.size, signed.root) == (checkpoint.size, checkpoint.root)
        text = "the chain checkpoint has the size and root of the note"
        checks.append(Check("anchor-tree", same, text if same else f"not true that {text}"))
    checks.append(_check_contract(anchor, genesis))
    checks.extend(_check_pinned(anchor, trust))
    checks.append(_check_signature(anchor, log_id))
    rests_on = [_contract_source(anchor, genesis, trust)]
    if chain is None:
        checks.append(Check("chain", None, NOT_ASKED))
    else:
        rests_on.append(f"{chain.name}, which is believed")
        checks.extend(_ask_chain(anchor, log_id, chain))
    summary = f"checkpoint {signed.seq} is in block {anchor.block} of chain {anchor.chain_id}"
    return conclude(ANCHORED, checks, summary=summary, rests_on=rests_on)


def _check_contract(anchor: Anchor, genesis: Genesis | None) -> Check:
    name = "anchor-contract"
    if genesis is None:
        return Check(name, None, "there is no genesis entry to compare the contract with")
    if genesis.contract is None:
        return Check(name, True, "the genesis entry names no contract; the file's own is used")
    same = (genesis.chain_id, genesis.contract) == (anchor.chain_id, anchor.contract)
    text = f"chain {genesis.chain_id}, contract 0x{genesis.contract.hex()}"
    if same:
        return Check(name, True, f"the genesis entry names {text}")
    found = f"chain {anchor.chain_id}, contract 0x{anchor.contract.hex()}"
    return Check(name, False, f"the file names {found}, the genesis entry {text}")


def _check_pinned(anchor: Anchor, trust: Trust) -> Iterable[Check]:
    if trust.contract is not None:
        same = trust.contract == anchor.contract
        text = (
            "it is the contract you named"
            if same
            else f"0x{anchor.contract.hex()} is not the contract you named"
        )
        yield Check("contract-pinned", same, text)
    if trust.chain_id is not None:
        same = trust.chain_id == anchor.chain_id
        text = "it is the chain you named" if same else f"{anchor.chain_id} is not the chain you named"
        yield Check("chain-pinned", same, text)


def _check_signature(anchor: Anchor, log_id: bytes) -> Check:
    name, signed = "anchor-signature", anchor.checkpoint
    try:
        claimed = ChainCheckpoint(
            log_id, signed.seq, signed.size, signed.root, signed.prev, signed.start, signed.end
        )
        signer = recover(digest(claimed, anchor.chain_id, anchor.contract), signed.signature)
    except (SignatureError, ValueError) as error:
        return Check(name, False, f"chain checkpoint: {error}")
    if signer != signed.gateway:
        return Check(name, False, f"the chain checkpoint is not signed by 0x{signed.gateway.hex()}")
    return Check(name, True, f"chain checkpoint signed by 0x{signer.hex()}")


def _contract_source(anchor: Anchor, genesis: Genesis | None, trust: Trust) -> str:
    if trust.contract is not None:
        return "the contract you named"
    if genesis is not None and genesis.contract is not None:
        return "the contract that the genesis entry names, and its code"
    return f"the contract that the file names (0x{anchor.contract.hex()}), and its code: give --contract to pin it"


def _ask_chain(anchor: Anchor, log_id: bytes, chain: Chain) -> Iterable[Check]:
    signed = anchor.checkpoint
    try:
        chain_id = chain.chain_id()
        text = f"chain id {chain_id}"
        if chain_id != anchor.chain_id:
            yield Check("chain-id", False, f"{chain.name} serves chain {chain_id}, not {anchor.chain_id}")
            return
        yield Check("chain-id", True, text)
        if anchor.tx is None:
            yield Check(
                "transaction", False, "the file names no transaction: it was made before the post was mined"
            )
            return
        receipt = chain.receipt(anchor.tx)
        if receipt is None:
            yield Check("transaction", False, f"the chain knows no transaction 0x{anchor.tx.hex()}")
            return
        if not receipt.succeeded:
            yield Check("transaction", False, f"transaction 0x{anchor.tx.hex()} failed")
            return
        yield Check("transaction", True, f"transaction 0x{anchor.tx.hex()} succeeded")
        same = receipt.block == anchor.block
        yield Check(
            "block", same, f"mined in block {receipt.block}" + ("" if same else f", not {anchor.block}")
        )
        wanted = Posted(log_id, signed.seq, signed.size, signed.root, signed.prev, signed.start, signed.end)
        there = wanted in posted(receipt.events, anchor.contract)
        text = "posts exactly this checkpoint to the contract"
        yield Check(
            "event", there, f"the transaction {text}" if there else f"the transaction does not: it {text}"
        )
        head = chain.head(anchor.contract, log_id)
        if head is None:
            return
        newest = head.hash == wanted.struct_hash()
        text = "it is the newest checkpoint of the log" if newest else "the log has a newer checkpoint by now"
        yield Check("contract-head", head.known, text if head.known else "the contract does not know the log")
    except ChainUnreachable as error:
        yield Check("chain", None, f"not checked: {error}")


def check_flagged(
    evidence: Sequence[str],
    anchor: Anchor | None,
    log_id: bytes,
    chain: Chain | None,
    *,
    covers: Callable[[FlaggedRange], bool],
    limits: str,
) -> Answer:
    """Whether something says not to rely on these entries. Here NO is the good answer.

    Args:
        evidence: revocations and clones found in the file itself, in words.
        anchor: says which contract to ask.
        log_id: the log.
        chain: whom to ask.
        covers: whether a flagged range meets the entries in question.
        limits: what a NO cannot exclude, in words.
    """
    reasons = list(evidence)
    checks = [Check("evidence", False, text) for text in reasons]
    if not reasons:
        checks.append(Check("evidence", True, "the file carries no revocation and no clone"))
    rests_on = [limits]
    if chain is None or anchor is None:
        why = NOT_ASKED if chain is None else "not checked: the file names no contract"
        checks.append(Check("chain-flags", None, why))
    else:
        try:
            ranges = [found for found in chain.flags(anchor.contract, log_id) if covers(found)]
            for found in ranges[:NAMED_FLAGS]:
                reason = f"the contract flags entries {found.start} to {found.stop - 1}: {found.reason!r}"
                reasons.append(reason)
                checks.append(Check("chain-flags", False, reason))
            if len(ranges) > NAMED_FLAGS:
                reasons.append(f"{len(ranges) - NAMED_FLAGS} more flags")
            if not ranges:
                checks.append(Check("chain-flags", True, "the contract flags none of these entries"))
            rests_on.append(f"{chain.name}, which is believed")
        except ChainUnreachable as error:
            checks.append(Check("chain-flags", None, f"not checked: {error}"))
    if reasons:
        return Answer(FLAGGED, State.YES, "; ".join(reasons), tuple(rests_on), tuple(checks))
    pending = [check.text for check in checks if check.passed is None]
    if pending:
        return Answer(FLAGGED, State.UNKNOWN, pending[0], tuple(rests_on), tuple(checks))
    return Answer(FLAGGED, State.NO, "no flag, revocation or clone is known", tuple(rests_on), tuple(checks))
