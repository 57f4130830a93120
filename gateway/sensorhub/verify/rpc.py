"""A chain seen through one Ethereum JSON-RPC server: the only module of the room that uses the network.

Whoever names a server believes it; the answers say so.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final

from sensorhub.chain.untrusted import UntrustedError, load_json, quantity, shown
from sensorhub.verify.address import parse_address
from sensorhub.verify.chain_view import (
    FLAGGED,
    HEAD_SELECTOR,
    POSTED,
    ChainUnreachable,
    ContractHead,
    EventLog,
    FlaggedRange,
    Posted,
    Receipt,
    contract_head,
    flagged,
    posted,
)
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.saved_header import SavedHeader, make_saved_header

TIMEOUT_S: Final = 20.0
"""How long one answer may take."""
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Largest answer that is read."""
MAX_TRANSACTIONS: Final = 10_000
"""Most transactions of a block whose receipts are fetched."""
FIRST_BLOCK: Final = "0x0"
"""Events are looked for from here on: a flag may be older than the checkpoint of a proof."""


class RpcChain:
    """A chain behind an `http` or `https` JSON-RPC URL.

    Args:
        url: address of the server; user name, password and query (which often hold an access key) are
            used but never shown.
        timeout: seconds for one answer.

    Raises:
        ChainUnreachable: the URL is of another kind; later, from each method, no answer or a wrong one.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT_S) -> None:
        try:
            self._address = parse_address(url, "--rpc")
        except VerifyError as error:
            raise ChainUnreachable(error.where, error.problem) from None
        self._timeout = timeout
        self._calls = 0
        self.name = f"the RPC server at {self._address.shown}"

    def chain_id(self) -> int:
        """EIP-155 id of the chain."""
        return self._quantity(self._call("eth_chainId"))

    def receipt(self, tx: bytes) -> Receipt | None:
        """The receipt of a transaction that is in a block, None when the chain does not know it."""
        found = self._call("eth_getTransactionReceipt", "0x" + tx.hex())
        if found is None:
            return None
        receipt = self._object(found)
        if self._bytes(receipt.get("transactionHash")) != tx:
            raise self._wrong("another transaction's receipt")
        return Receipt(
            block=self._quantity(receipt.get("blockNumber")),
            succeeded=self._quantity(receipt.get("status")) == 1,
            events=self._events(receipt.get("logs")),
        )

    def head(self, contract: bytes, log_id: bytes) -> ContractHead:
        """What the contract keeps of a log."""
        call = {"to": "0x" + contract.hex(), "data": "0x" + (HEAD_SELECTOR + log_id).hex()}
        return contract_head(self._bytes(self._call("eth_call", call, "latest")))

    def posts(self, contract: bytes, log_id: bytes) -> tuple[Posted, ...]:
        """Every checkpoint of the log that the contract has taken, oldest first."""
        events = self._events(self._call("eth_getLogs", self._query(contract, POSTED, log_id)))
        found = [post for post in posted(events, contract) if post.log_id == log_id]
        return tuple(sorted(found, key=lambda post: post.seq))

    def flags(self, contract: bytes, log_id: bytes) -> tuple[FlaggedRange, ...]:
        """Every range of the log that the contract flags."""
        events = self._events(self._call("eth_getLogs", self._query(contract, FLAGGED, log_id)))
        return flagged(events, contract, log_id)

    @staticmethod
    def _query(contract: bytes, event: bytes, log_id: bytes) -> dict[str, Any]:
        return {
            "fromBlock": FIRST_BLOCK,
            "toBlock": "latest",
            "address": "0x" + contract.hex(),
            "topics": ["0x" + event.hex(), "0x" + log_id.hex()],
        }

    def saved_header(self, tx: bytes) -> SavedHeader:
        """Everything needed to check a transaction's receipt later without a network.

        Raises:
            ChainUnreachable: the server does not know the transaction, or tells too little of its block.
        """
        receipt = self._object(self._call("eth_getTransactionReceipt", "0x" + tx.hex()))
        number = receipt.get("blockNumber")
        block = self._object(self._call("eth_getBlockByNumber", number, False))
        transactions = block.get("transactions")
        if not isinstance(transactions, list) or len(transactions) > MAX_TRANSACTIONS:
            raise self._wrong("no list of transactions")
        receipts = [self._object(self._call("eth_getTransactionReceipt", one)) for one in transactions]
        try:
            index = self._quantity(receipt.get("transactionIndex"))
            return make_saved_header(self.chain_id(), block, receipts, index)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise self._wrong(f"a block or receipt that lacks something: {error}") from error

    def _call(self, method: str, *params: Any) -> Any:
        self._calls += 1
        body = json.dumps(
            {"jsonrpc": "2.0", "id": self._calls, "method": method, "params": list(params)}
        ).encode()
        request = self._address.request(
            data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310 - scheme checked
                answer = response.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            raise ChainUnreachable(self.name, f"answered {error.code} to {method}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise ChainUnreachable(self.name, f"did not answer {method}: {shown(reason)}") from None
        try:
            decoded = load_json(answer, most_bytes=MAX_ANSWER_BYTES)
        except UntrustedError as error:
            raise self._wrong(str(error)) from error
        if not isinstance(decoded, dict) or decoded.get("error") is not None or "result" not in decoded:
            refusal = decoded.get("error") if isinstance(decoded, dict) else None
            said = refusal.get("message") if isinstance(refusal, dict) else refusal
            raise ChainUnreachable(self.name, f"refused {method}: {shown(said)}")
        return decoded["result"]

    def _events(self, value: Any) -> tuple[EventLog, ...]:
        if not isinstance(value, list):
            raise self._wrong("no list of events")
        events = []
        for item in value:
            event = self._object(item)
            topics = event.get("topics")
            if not isinstance(topics, list):
                raise self._wrong("an event without topics")
            events.append(
                EventLog(
                    address=self._bytes(event.get("address")),
                    topics=tuple(self._bytes(topic) for topic in topics),
                    data=self._bytes(event.get("data")),
                )
            )
        return tuple(events)

    def _object(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong("no JSON object")
        return value

    def _bytes(self, value: Any) -> bytes:
        if not isinstance(value, str) or not value.startswith("0x"):
            raise self._wrong("no hex data")
        try:
            return bytes.fromhex(value[2:])
        except ValueError as error:
            raise self._wrong("no hex data") from error

    def _quantity(self, value: Any) -> int:
        try:
            return quantity(value)
        except UntrustedError as error:
            raise self._wrong(str(error)) from error

    def _wrong(self, what: str) -> ChainUnreachable:
        return ChainUnreachable(self.name, f"answered {what}")
