"""The answer device-signed: one message, the key that signed it, and how the log came to know that key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sensorhub.log.entries import (
    EntryError,
    Genesis,
    MessageEntry,
    NodeEntry,
    NodeEvent,
    clone_pair,
    decode_entry,
)
from sensorhub.log.note import Checkpoint
from sensorhub.verify.answers import DEVICE_SIGNED, Answer, Check, State, conclude
from sensorhub.verify.keyring import Keyring
from sensorhub.verify.proof import Proven
from sensorhub.verify.trust import check_inclusion, kind_in_words
from sensorhub.wire import (
    Message,
    Signed,
    WireError,
    decode_announce,
    kid,
    parse_pack,
    parse_signed,
    verify,
)

RESTS_ON = (
    "the private key being in that node only, which no file can show",
    "the log answer, for who the key belongs to",
    "the prover having left out no node entry that concerns this key",
)


@dataclass(frozen=True, slots=True)
class Told:
    """A message entry, as far as it can be read.

    Attributes:
        received_ms: when the gateway received it, Unix ms.
        signed: envelope and header.
        message: the whole message, None when the pack cannot be read.
        failure: why not.
    """

    received_ms: int
    signed: Signed
    message: Message | None
    failure: str = ""


def read_message(entry: bytes) -> Told | str:
    """Reads a message entry; a string says why it is none."""
    try:
        decoded = decode_entry(entry)
    except EntryError as error:
        return f"entry: {error}"
    if not isinstance(decoded, MessageEntry):
        return f"the entry is no message but {kind_in_words(decoded)}: no device signs those"
    try:
        signed = parse_signed(decoded.message)
    except WireError as error:
        return f"message: {error}"
    if signed.seq == 0:
        return "message: seq 0 belongs to an announce"
    try:
        pack = parse_pack(signed.payload, tq=signed.tq)
    except WireError as error:
        return Told(decoded.received_ms, signed, None, f"message: {error}")
    return Told(decoded.received_ms, signed, Message(signed, pack))


def check_device_signed(
    entry: Proven,
    told: Told | str,
    node: Proven | None,
    events: Sequence[Proven],
    genesis: Genesis | None,
    checkpoint: Checkpoint | None,
) -> Answer:
    """Whether the node that the message names signed it, with a key in force at that point of the log."""
    if isinstance(told, str):
        return Answer(DEVICE_SIGNED, State.NO, told, (), (Check("message", False, told),))
    checks = [
        Check("message", told.message is not None, told.failure or "a signed message with SenML readings")
    ]
    if node is None:
        checks.append(
            Check("key-enrolled", False, f"the file has no node entry for key {told.signed.kid.hex()}")
        )
        return conclude(DEVICE_SIGNED, checks, summary="", rests_on=RESTS_ON)
    decoded = _node_entry(node)
    if isinstance(decoded, str):
        checks.append(Check("key-enrolled", False, decoded))
    else:
        checks.extend(_check_key(told, decoded, genesis))
    checks.append(
        check_inclusion("enrolment-in-tree", "the enrolment", node.entry, node.index, node.path, checkpoint)
    )
    checks.extend(_check_events(events, checkpoint))
    if not isinstance(decoded, str):
        checks.append(_check_in_force(entry.index, told.signed, node, decoded, events))
        summary = f"signed by node {decoded.node}, key {told.signed.kid.hex()}, boot {told.signed.boot}, message {told.signed.seq}"
    else:
        summary = ""
    return conclude(DEVICE_SIGNED, checks, summary=summary, rests_on=RESTS_ON)


def check_enrolment(node: NodeEntry, site: str) -> str | None:
    """Why the evidence in an enrolment or rotation does not show the key; None when it does."""
    try:
        announce = decode_announce(node.evidence, site=site, node=node.node)
    except (WireError, ValueError) as error:  # ValueError: the log holds a name that no node can have
        return f"the announce in the enrolment of {node.node}: {error}"
    if announce.public_key != node.public_key:
        return f"the announce in the enrolment of {node.node} is of another key"
    return None


def _node_entry(proven: Proven) -> NodeEntry | str:
    try:
        decoded = decode_entry(proven.entry)
    except EntryError as error:
        return f"node entry: {error}"
    if not isinstance(decoded, NodeEntry):
        return f"the node entry is {kind_in_words(decoded)}"
    return decoded


def _check_key(told: Told, node: NodeEntry, genesis: Genesis | None) -> Iterable[Check]:
    signed = told.signed
    if node.event not in (NodeEvent.ENROL, NodeEvent.ROTATE):
        yield Check("key-enrolled", False, f"the node entry reports {node.event!r}, which brings no key")
        return
    found = kid(node.public_key)
    same = found == signed.kid
    text = f"key {found.hex()} of node {node.node}"
    yield Check(
        "key-enrolled",
        same,
        text if same else f"the node entry is of {text}, the message of {signed.kid.hex()}",
    )
    good = verify(signed, node.public_key)
    yield Check("signature", good, f"signature {'of' if good else 'is not of'} key {found.hex()}")
    if told.message is not None:
        pack = told.message.pack
        names = pack.node == node.node and (genesis is None or pack.site == genesis.site)
        site = "" if genesis is None else f" at {genesis.site}"
        text = f"the message names {pack.site}/{pack.node}, the log {node.node}{site}"
        yield Check("name", names, text)
    if genesis is not None:
        failure = check_enrolment(node, genesis.site)
        yield Check("announce", failure is None, failure or "the node announced this key itself")


def _check_events(events: Sequence[Proven], checkpoint: Checkpoint | None) -> Iterable[Check]:
    for position, event in enumerate(events):
        what = f"node event {position}"
        decoded = _node_entry(event)
        if isinstance(decoded, str):
            yield Check(f"event-{position}", False, f"{what}: {decoded}")
        else:
            yield check_inclusion(f"event-{position}", what, event.entry, event.index, event.path, checkpoint)


def _check_in_force(
    index: int, signed: Signed, node: Proven, enrolment: NodeEntry, events: Sequence[Proven]
) -> Check:
    name = "key-in-force"
    entries = {node.index: enrolment}
    for event in events:
        decoded = _node_entry(event)
        if not isinstance(decoded, str):
            entries.setdefault(event.index, decoded)
    keyring = Keyring()
    refused = {position: keyring.apply(position, entry) for position, entry in sorted(entries.items())}
    if refused[node.index] is not None:
        return Check(
            name, False, f"the enrolment at entry {node.index} does not count: {refused[node.index]}"
        )
    key = keyring.at(signed.kid, index)
    if isinstance(key, str):
        return Check(name, False, key)
    text = f"enrolled at entry {key.enrolled}, not ended before entry {index} as far as the file tells"
    return Check(name, True, text)


def warnings_of(entries: Iterable[tuple[int, NodeEntry]], keys: Mapping[bytes, Iterable[int]]) -> list[str]:
    """Clones and revocations that touch messages signed by some keys.

    Args:
        entries: node entries with their log index.
        keys: for each public key (64 bytes) the log indices of its messages in question.

    Returns:
        One sentence for each revocation or clone, in log order.
    """
    found = []
    for index, entry in sorted(entries, key=lambda pair: pair[0]):
        if entry.public_key not in keys:
            continue
        who = f"key {kid(entry.public_key).hex()} of node {entry.node}"
        if entry.event == NodeEvent.REVOKE:
            found.append(f"{who} was revoked at entry {index}")
        elif entry.event == NodeEvent.CLONE:
            pair = clone_pair(entry)
            touched = sorted(set(keys[entry.public_key]) & set(pair or ()))
            where = f"entries {pair[0]} and {pair[1]}" if pair else "two entries"
            this = f", entry {touched[0]} among them" if touched else ""
            found.append(
                f"{who} signed two different messages of one number, {where}{this} (clone, entry {index})"
            )
    return found
