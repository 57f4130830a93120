"""`sensorhub-header/1`: a block header with one receipt, so that anchoring can be checked without a network.

Whoever believes the block's hash (from an explorer, a light client, a newspaper) needs to believe nothing
else: the header has that hash, the receipt lies in the header's receipts trie, and the event in the receipt
is the contract's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_hash.auto import keccak

from sensorhub.chain.untrusted import quantity
from sensorhub.verify import canonical, trie
from sensorhub.verify.canonical import Members, to_base64
from sensorhub.verify.chain_view import (
    ChainUnreachable,
    ContractHead,
    EventLog,
    FlaggedRange,
    Posted,
    Receipt,
)
from sensorhub.verify.errors import VerifyError

FORMAT: Final = "sensorhub-header/1"
RECEIPTS_ROOT: Final = 5
"""Position of the receipts root in a block header (Yellow Paper, section 4.4)."""
NUMBER: Final = 8
"""Position of the block number."""
HEADER_FIELDS: Final = (
    ("parentHash", False),
    ("sha3Uncles", False),
    ("miner", False),
    ("stateRoot", False),
    ("transactionsRoot", False),
    ("receiptsRoot", False),
    ("logsBloom", False),
    ("difficulty", True),
    ("number", True),
    ("gasLimit", True),
    ("gasUsed", True),
    ("timestamp", True),
    ("extraData", False),
    ("mixHash", False),
    ("nonce", False),
    ("baseFeePerGas", True),
    ("withdrawalsRoot", False),
    ("blobGasUsed", True),
    ("excessBlobGas", True),
    ("parentBeaconBlockRoot", False),
    ("requestsHash", False),
)
"""JSON-RPC names of the header fields in order, and whether each is a number; later ones came with later forks."""
FIRST_OPTIONAL: Final = 15
"""Header fields from here on may be missing, the last ones first."""
LEFT_OUT: Final = {
    "withdrawalsRoot": (keccak(trie.EMPTY),),
    "blobGasUsed": (b"",),
    "excessBlobGas": (b"",),
    "parentBeaconBlockRoot": (bytes(32), keccak(trie.EMPTY)),
    "requestsHash": (hashlib.sha256(b"").digest(),),
}
"""What these fields may be when a server does not tell them (no withdrawals, blobs or requests; py-evm puts the
empty trie's root where others put zeros). The block's hash decides."""


@dataclass(frozen=True, slots=True)
class SavedHeader:
    """A header with one receipt of its block.

    Attributes:
        chain_id: EIP-155 id of the chain; the header itself does not hold it.
        header: RLP of the block header.
        index: position of the transaction in the block.
        path: nodes of the receipts trie, from the root down to the receipt.
    """

    chain_id: int
    header: bytes
    index: int
    path: tuple[bytes, ...]

    @property
    def block_hash(self) -> bytes:
        """Keccak-256 of the header, 32 bytes."""
        return keccak(self.header)


def format_saved_header(saved: SavedHeader) -> bytes:
    """The canonical file of a saved header."""
    members = {
        "format": FORMAT,
        "chainId": saved.chain_id,
        "blockHash": canonical.to_hex(saved.block_hash),
        "header": to_base64(saved.header),
        "index": saved.index,
        "path": [to_base64(node) for node in saved.path],
    }
    return canonical.dump(canonical.seal(members))


def parse_saved_header(data: bytes) -> SavedHeader:
    """Reads a saved header.

    Raises:
        VerifyError: not exactly the format, or the digest or the block hash does not fit.
    """
    value = canonical.load(data)
    members = Members(value)
    canonical.check_format(members, FORMAT)
    chain_id = members.uint("chainId")
    block_hash = members.read("blockHash", canonical.bytes32)
    header = members.read("header", canonical.base64_bytes)
    index = members.uint("index")
    path = members.array("path", canonical.base64_bytes)
    members.read(canonical.DIGEST, canonical.sha256_hex)
    members.done()
    saved = SavedHeader(chain_id, header, index, path)
    if saved.block_hash != block_hash:
        raise VerifyError(
            "header", f"has the hash 0x{saved.block_hash.hex()}, the file says 0x{block_hash.hex()}"
        )
    if not canonical.digest_holds(value):
        raise VerifyError(canonical.DIGEST, "does not fit: the file is not as it was written")
    return saved


class SavedChain:
    """A chain as far as one saved header tells: one receipt, nothing of the contract's state or flags.

    Anybody can make a header, with whatever receipt in it. So without a hash to believe it tells nothing.

    Args:
        saved: the header and receipt.
        trusted_hash: the block hash that the caller believes; None when there is none.

    Raises:
        VerifyError: another block than the trusted one, or the receipt is not in the block.
    """

    def __init__(self, saved: SavedHeader, trusted_hash: bytes | None = None) -> None:
        if trusted_hash is not None and saved.block_hash != trusted_hash:
            raise VerifyError(
                "header", f"is of block 0x{saved.block_hash.hex()}, you named 0x{trusted_hash.hex()}"
            )
        self._saved = saved
        self._receipt = read_receipt(saved)
        self._pinned = trusted_hash is not None
        named = " that you named" if self._pinned else ""
        self.name = f"the hash 0x{saved.block_hash.hex()} of block {self._receipt.block}{named}"

    def chain_id(self) -> int:
        """The chain id that the file names."""
        self._vouched()
        return self._saved.chain_id

    def receipt(self, tx: bytes) -> Receipt | None:  # noqa: ARG002 - receipts do not hold their transaction's hash
        """The saved receipt, whatever the transaction: the event in it is what counts."""
        self._vouched()
        return self._receipt

    def _vouched(self) -> None:
        if not self._pinned:
            raise ChainUnreachable(
                "saved header",
                f"anybody can make one: give --block-hash 0x{self._saved.block_hash.hex()} once a source you "
                f"trust names it as the hash of block {self._receipt.block}",
            )

    def head(self, contract: bytes, log_id: bytes) -> ContractHead | None:  # noqa: ARG002
        """Nothing: a header does not tell the contract's state."""
        return None

    def posts(self, contract: bytes, log_id: bytes) -> tuple[Posted, ...]:  # noqa: ARG002
        """Nothing that would be complete."""
        raise ChainUnreachable("saved header", f"tells one block only, not all of log {log_id.hex()[:8]}")

    def flags(self, contract: bytes, log_id: bytes) -> tuple[FlaggedRange, ...]:  # noqa: ARG002
        """Nothing: flags come later than the block, and need the whole chain."""
        raise ChainUnreachable(
            "saved header", f"tells one block only, not the flags of log {log_id.hex()[:8]}"
        )


def read_receipt(saved: SavedHeader) -> Receipt:
    """The receipt that a saved header proves.

    Raises:
        VerifyError: it proves none.
    """
    header = trie.decode(saved.header)
    if not isinstance(header, list) or len(header) < FIRST_OPTIONAL:
        raise VerifyError("header", "is no block header")
    root, number = header[RECEIPTS_ROOT], header[NUMBER]
    if not isinstance(root, bytes) or len(root) != 32 or not isinstance(number, bytes) or len(number) > 8:
        raise VerifyError("header", "is no block header")
    value = trie.prove(root, trie.encode(trie.integer(saved.index)), saved.path)
    # EIP-2718: a type byte before the list, except for the oldest transactions
    receipt = trie.decode(value[1:] if value[0] < 0x80 else value)
    if not isinstance(receipt, list) or len(receipt) != 4 or not isinstance(receipt[3], list):
        raise VerifyError("receipt", "is no receipt of four fields")
    events = tuple(_event(item) for item in receipt[3])
    return Receipt(int.from_bytes(number, "big"), receipt[0] == b"\x01", events)


def _event(item: trie.Item) -> EventLog:
    if isinstance(item, list) and len(item) == 3:
        address, topics, data = item
        if isinstance(address, bytes) and isinstance(topics, list) and isinstance(data, bytes):
            names = tuple(topic for topic in topics if isinstance(topic, bytes))
            if len(names) == len(topics):
                return EventLog(address, names, data)
    raise VerifyError("receipt", "holds something that is no event")


def make_saved_header(
    chain_id: int, block: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]], index: int
) -> SavedHeader:
    """Makes a saved header from what JSON-RPC tells of a block.

    Args:
        chain_id: `eth_chainId`.
        block: `eth_getBlockByNumber`.
        receipts: of all transactions of the block, in order.
        index: position of the transaction to prove.

    Raises:
        VerifyError: the answers do not have the hashes that they claim.
    """
    header = _header(block)
    values = {
        trie.encode(trie.integer(position)): _receipt(receipt) for position, receipt in enumerate(receipts)
    }
    root, path = trie.build(values, trie.encode(trie.integer(index)))
    saved = SavedHeader(chain_id, header, index, tuple(path))
    if canonical.to_hex(root) != block.get("receiptsRoot"):
        raise VerifyError("block", "the server's receipts do not have the root that the header names")
    return saved


def _header(block: Mapping[str, Any]) -> bytes:
    """RLP of the header that has the block's hash."""
    candidates: list[list[trie.Item]] = [[]]
    for position, (name, number) in enumerate(HEADER_FIELDS):
        value = block.get(name)
        if value is not None:
            told = trie.integer(quantity(value)) if number else bytes.fromhex(value[2:])
            candidates = [[*fields, told] for fields in candidates]
        elif position < FIRST_OPTIONAL:
            raise VerifyError("block", f"the server does not tell {name}")
        else:
            # the header may end before this field, or go on with what the server left out
            candidates += [[*fields, guess] for fields in candidates for guess in LEFT_OUT.get(name, ())]
    for fields in candidates:
        header = trie.encode(fields)
        if canonical.to_hex(keccak(header)) == block.get("hash"):
            return header
    raise VerifyError("block", "the server's header fields do not have the hash that it names")


def _receipt(receipt: Mapping[str, Any]) -> bytes:
    logs: list[trie.Item] = [
        [
            bytes.fromhex(event["address"][2:]),
            [bytes.fromhex(topic[2:]) for topic in event["topics"]],
            bytes.fromhex(event["data"][2:]),
        ]
        for event in receipt["logs"]
    ]
    body = trie.encode(
        [
            trie.integer(quantity(receipt["status"])),
            trie.integer(quantity(receipt["cumulativeGasUsed"])),
            bytes.fromhex(receipt["logsBloom"][2:]),
            logs,
        ]
    )
    kind = quantity(receipt.get("type", "0x0"))
    return bytes((kind,)) + body if kind else body
