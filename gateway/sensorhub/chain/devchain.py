"""A development chain in memory: py-evm (set up by eth-tester) behind JSON-RPC methods.

Executes transactions and answers the methods that a client, the poster and a verifier ask for; `devnet` serves
it over HTTP. Blocks are kept in their JSON form, so looking up stays fast however long the chain gets.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import coincurve
import rlp  # type: ignore[import-untyped]
from eth._utils.address import generate_contract_address
from eth.exceptions import PyEVMError
from eth.vm.spoof import SpoofTransaction
from eth_account import Account
from eth_hash.auto import keccak
from eth_tester import PyEVMBackend
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

from sensorhub.chain import digest
from sensorhub.chain.artifact import gateway_log
from sensorhub.chain.errors import ChainError

# py-evm raises the limit far beyond what the C stack holds when somebody sends deeply nested JSON. It does so for
# contracts that call each other a thousand levels deep, which nobody needs here.
sys.setrecursionlimit(3000)

DEV_CHAIN_ID: Final = 1337
DEV_KEY: Final = keccak(b"sensorhub development key: worthless on every real chain")
"""Private key of the funded account. WARNING: public; never use it on a chain where money is worth something."""
DEV_ADDRESS: Final = digest.address(coincurve.PrivateKey(DEV_KEY).public_key)


def _first_contract(deployer: bytes) -> bytes:
    # keccak256(rlp([deployer, 0])): the address of the first contract of an account
    return keccak(b"\xd6\x94" + deployer + b"\x80")[12:]


DEV_CONTRACT: Final = _first_contract(DEV_ADDRESS)
"""Where the devnet deploys `GatewayLog` when it starts: the same address every time."""

FUNDS: Final = 10**24
"""Wei in the development account and in each account given to `DevChain`."""
GAS_LIMIT: Final = 30_000_000
TIP: Final = 10**9

REVERTED: Final = 3
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
REJECTED: Final = -32000

Json = Any


class RpcError(Exception):
    """Raised inside a method to answer with a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class DevChain:
    """The chain itself: executes transactions, one block for each, and answers JSON-RPC methods.

    Args:
        funded: 20-byte addresses that start with `FUNDS` wei, besides the development account.
        deploy: whether `GatewayLog` is put at `DEV_CONTRACT` in block 1.
        mine_each: a block for every transaction at once; otherwise `mine` makes blocks.
    """

    def __init__(
        self,
        *,
        funded: Sequence[bytes] = (),
        deploy: bool = True,
        mine_each: bool = True,
        chain_id: int = DEV_CHAIN_ID,
    ) -> None:
        account = {"balance": FUNDS, "nonce": 0, "code": b"", "storage": {}}
        genesis = {address: dict(account) for address in (DEV_ADDRESS, *funded)}
        self._backend = PyEVMBackend(
            genesis_parameters=PyEVMBackend.generate_genesis_params({"gas_limit": GAS_LIMIT}),
            genesis_state=genesis,
        )
        # eth-tester makes a class of its own for each chain, and has no argument for the id.
        type(self._backend.chain).chain_id = chain_id
        self.chain_id = chain_id
        self._blocks: list[dict[str, Json]] = []
        self._by_hash: dict[str, int] = {}
        self._transactions: dict[str, dict[str, Json]] = {}
        self._receipts: dict[str, dict[str, Json]] = {}
        self._pending: list[bytes] = []
        self._mine_each = True
        self._record(self._backend.chain.get_canonical_block_by_number(0))
        if deploy:
            self._deploy()
        self._mine_each = mine_each
        self._methods: Mapping[str, Callable[..., Json]] = {
            "web3_clientVersion": lambda: "sensorhub-devnet/py-evm",
            "net_version": lambda: str(self.chain_id),
            "net_listening": lambda: True,
            "eth_chainId": lambda: hex(self.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_blockNumber": lambda: self._blocks[-1]["number"],
            "eth_gasPrice": lambda: hex(self._base_fee() + TIP),
            "eth_maxPriorityFeePerGas": lambda: hex(TIP),
            "eth_feeHistory": self._fee_history,
            "eth_getBalance": lambda address, block="latest": hex(
                self._state(block).get_balance(_data(address, 20))
            ),
            "eth_getCode": lambda address, block="latest": _hex(
                self._state(block).get_code(_data(address, 20))
            ),
            "eth_getStorageAt": self._storage,
            "eth_getTransactionCount": self._nonce,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getTransactionByHash": lambda tx: self._transactions.get(_normal(tx)),
            "eth_getTransactionReceipt": lambda tx: self._receipts.get(_normal(tx)),
            "eth_getLogs": self._logs,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send,
            "evm_mine": self._evm_mine,
            "evm_setAutomine": self._automine,
            "evm_snapshot": lambda: self._blocks[-1]["number"],
            "evm_revert": self._revert,
        }

    def answer(self, request: Json) -> dict[str, Json]:
        """The JSON-RPC response to one request object; errors are answers too, never exceptions."""
        number = request.get("id") if isinstance(request, dict) else None
        try:
            if not isinstance(request, dict) or not isinstance(request.get("method"), str):
                raise RpcError(INVALID_REQUEST, "not a JSON-RPC request")
            method = self._methods.get(request["method"])
            if method is None:
                raise RpcError(
                    METHOD_NOT_FOUND, f"the development chain has no method {request['method'][:64]}"
                )
            params = request.get("params", [])
            if not isinstance(params, list):
                raise RpcError(INVALID_PARAMS, "params must be a list")
            try:
                result = method(*params)
            except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
                raise RpcError(INVALID_PARAMS, f"{request['method']}: {error}") from error
        except RpcError as error:
            failure: dict[str, Json] = {"code": error.code, "message": str(error)}
            if error.data is not None:
                failure["data"] = error.data
            return {"jsonrpc": "2.0", "id": number, "error": failure}
        return {"jsonrpc": "2.0", "id": number, "result": result}

    def mine(self) -> None:
        """Makes one block of the transactions that wait, or an empty one."""
        self._clock()
        self._backend.mine_blocks(1)
        self._pending.clear()
        chain = self._backend.chain
        self._record(chain.get_canonical_block_by_number(chain.get_block().number - 1))

    def _deploy(self) -> None:
        signed = Account.sign_transaction(
            {
                "type": 2,
                "chainId": self.chain_id,
                "nonce": 0,
                "gas": 5_000_000,
                "maxFeePerGas": 100 * TIP,
                "maxPriorityFeePerGas": TIP,
                "value": 0,
                "data": gateway_log().bytecode,
            },
            DEV_KEY,
        )
        receipt = self._receipts[self._send(_hex(bytes(signed.raw_transaction)))]
        if receipt["status"] != "0x1" or receipt["contractAddress"] != _hex(DEV_CONTRACT):
            raise ChainError("the development chain could not deploy GatewayLog: please report this")

    def _clock(self) -> None:
        # py-evm stamps the next block when the one before is made; a block should carry its own time.
        chain = self._backend.chain
        parent = chain.get_canonical_block_header_by_number(chain.header.block_number - 1)
        chain.header = chain.header.copy(timestamp=max(parent.timestamp + 1, int(time.time())))

    def _send(self, raw: str) -> str:
        if not self._pending:
            self._clock()
        try:
            tx: bytes = self._backend.send_raw_transaction(_data(raw))
        except (ValidationError, PyEVMError, RLPException) as error:
            raise RpcError(REJECTED, f"transaction rejected: {error}") from error
        self._pending.append(tx)
        if self._mine_each:
            self.mine()
        return _hex(tx)

    def _evm_mine(self, *_: Json) -> str:
        self.mine()
        return "0x0"

    def _automine(self, each: bool) -> None:
        self._mine_each = each

    def _revert(self, snapshot: str) -> bool:
        number = int(snapshot, 16)
        self._backend.revert_to_snapshot(bytes.fromhex(self._blocks[number]["hash"][2:]))
        self._pending.clear()
        for block in self._blocks[number + 1 :]:
            del self._by_hash[block["hash"]]
            for tx in block["transactions"]:
                del self._transactions[tx], self._receipts[tx]
        del self._blocks[number + 1 :]
        return True

    def _record(self, block: Any) -> None:
        """Keeps a mined block in the shape that JSON-RPC gives it: looking up is then a dictionary's work."""
        header = block.header
        number, block_hash = hex(header.block_number), _hex(header.hash)
        logs_before, gas_before = 0, 0
        for index, (tx, receipt) in enumerate(
            zip(block.transactions, block.get_receipts(self._backend.chain.chaindb), strict=True)
        ):
            place = {"blockHash": block_hash, "blockNumber": number, "transactionIndex": hex(index)}
            tx_hash = _hex(tx.hash)
            to = _hex(tx.to) if tx.to else None
            kind = getattr(tx, "type_id", None) or 0
            price = (
                tx.gas_price
                if kind < 2
                else min(tx.max_fee_per_gas, header.base_fee_per_gas + tx.max_priority_fee_per_gas)
            )
            fields: dict[str, Json] = {
                "hash": tx_hash,
                "from": _hex(tx.sender),
                "to": to,
                "input": _hex(tx.data),
                "nonce": hex(tx.nonce),
                "gas": hex(tx.gas),
                "value": hex(tx.value),
                "type": hex(kind),
                "chainId": hex(self.chain_id),
                "gasPrice": hex(price),
                "r": hex(tx.r),
                "s": hex(tx.s),
                "v": hex(tx.y_parity if kind else tx.v),
                **place,
            }
            if kind >= 2:
                fields["maxFeePerGas"] = hex(tx.max_fee_per_gas)
                fields["maxPriorityFeePerGas"] = hex(tx.max_priority_fee_per_gas)
            self._transactions[tx_hash] = fields
            self._receipts[tx_hash] = {
                "transactionHash": tx_hash,
                "from": fields["from"],
                "to": to,
                "contractAddress": None if to else _hex(generate_contract_address(tx.sender, tx.nonce)),
                "status": hex(int.from_bytes(receipt.state_root, "big")),
                "type": hex(kind),
                "gasUsed": hex(receipt.gas_used - gas_before),
                "cumulativeGasUsed": hex(receipt.gas_used),
                "effectiveGasPrice": hex(price),
                "logsBloom": _hex(receipt.bloom.to_bytes(256, "big")),
                "logs": [
                    {
                        "address": _hex(entry.address),
                        "topics": [_hex(topic.to_bytes(32, "big")) for topic in entry.topics],
                        "data": _hex(entry.data),
                        "logIndex": hex(logs_before + position),
                        "transactionHash": tx_hash,
                        "removed": False,
                        **place,
                    }
                    for position, entry in enumerate(receipt.logs)
                ],
                **place,
            }
            logs_before += len(receipt.logs)
            gas_before = receipt.gas_used
        self._by_hash[block_hash] = len(self._blocks)
        self._blocks.append(
            {
                "number": number,
                "hash": block_hash,
                "parentHash": _hex(header.parent_hash),
                "sha3Uncles": _hex(header.uncles_hash),
                "miner": _hex(header.coinbase),
                "stateRoot": _hex(header.state_root),
                "transactionsRoot": _hex(header.transaction_root),
                "receiptsRoot": _hex(header.receipt_root),
                "logsBloom": _hex(header.bloom.to_bytes(256, "big")),
                "difficulty": hex(header.difficulty),
                "gasLimit": hex(header.gas_limit),
                "gasUsed": hex(header.gas_used),
                "timestamp": hex(header.timestamp),
                "extraData": _hex(header.extra_data),
                "mixHash": _hex(header.mix_hash),
                "nonce": _hex(header.nonce),
                "baseFeePerGas": hex(header.base_fee_per_gas),
                "withdrawalsRoot": _hex(header.withdrawals_root),
                "blobGasUsed": hex(header.blob_gas_used),
                "excessBlobGas": hex(header.excess_blob_gas),
                "parentBeaconBlockRoot": _hex(header.parent_beacon_block_root),
                "requestsHash": _hex(header.requests_hash),
                "withdrawals": [],
                "size": hex(len(rlp.encode(block))),
                "transactions": [_hex(tx.hash) for tx in block.transactions],
                "uncles": [],
            }
        )

    def _height(self, block: Json) -> int:
        latest = len(self._blocks) - 1
        if block in ("latest", "safe", "finalized", "pending"):
            return latest
        if block == "earliest":
            return 0
        number = int(block, 16)
        if not 0 <= number <= latest:
            raise RpcError(REJECTED, f"block {number} does not exist; the newest is {latest}")
        return number

    def _vm(self, block: Json) -> Any:
        header = self._backend.chain.get_canonical_block_header_by_number(self._height(block))
        return self._backend.chain.get_vm(header)

    def _state(self, block: Json) -> Any:
        return self._vm(block).state

    def _storage(self, address: str, slot: str, block: Json = "latest") -> str:
        value: int = self._state(block).get_storage(_data(address, 20), int(slot, 16))
        return _hex(value.to_bytes(32, "big"))

    def _nonce(self, address: str, block: Json = "latest") -> str:
        if block == "pending":
            return hex(self._backend.chain.get_vm().state.get_nonce(_data(address, 20)))
        return hex(self._state(block).get_nonce(_data(address, 20)))

    def _base_fee(self) -> int:
        fee: int = self._backend.chain.header.base_fee_per_gas
        return fee

    def _fee_history(
        self, count: str | int, newest: Json = "latest", percentiles: Sequence[float] = ()
    ) -> Json:
        last = self._height(newest)
        first = max(0, last + 1 - max(1, min(1024, int(count, 16) if isinstance(count, str) else count)))
        blocks = self._blocks[first : last + 1]
        following = (
            self._blocks[last + 1]["baseFeePerGas"] if last + 1 < len(self._blocks) else hex(self._base_fee())
        )
        history: dict[str, Json] = {
            "oldestBlock": hex(first),
            "baseFeePerGas": [*(block["baseFeePerGas"] for block in blocks), following],
            "gasUsedRatio": [int(block["gasUsed"], 16) / int(block["gasLimit"], 16) for block in blocks],
        }
        if percentiles:
            history["reward"] = [self._rewards(block, len(percentiles)) for block in blocks]
        return history

    def _rewards(self, block: Mapping[str, Json], count: int) -> list[str]:
        # At most a few transactions are in a block here, so every percentile is the lowest tip paid.
        base = int(block["baseFeePerGas"], 16)
        tips = [int(self._receipts[tx]["effectiveGasPrice"], 16) - base for tx in block["transactions"]]
        return [hex(min(tips, default=0))] * count

    def _with_transactions(self, block: Mapping[str, Json], full: bool) -> Json:
        if not full:
            return block
        return {**block, "transactions": [self._transactions[tx] for tx in block["transactions"]]}

    def _block_by_number(self, block: Json, full: bool = False) -> Json:
        try:
            return self._with_transactions(self._blocks[self._height(block)], full)
        except RpcError:
            return None

    def _block_by_hash(self, block: str, full: bool = False) -> Json:
        height = self._by_hash.get(_normal(block))
        return None if height is None else self._with_transactions(self._blocks[height], full)

    def _logs(self, query: Mapping[str, Json]) -> Json:
        if "blockHash" in query:
            height = self._by_hash.get(_normal(query["blockHash"]))
            blocks = [] if height is None else [self._blocks[height]]
        else:
            latest = len(self._blocks) - 1
            first, last = query.get("fromBlock", "latest"), query.get("toBlock", "latest")
            start = self._height(first) if not str(first).startswith("0x") else int(first, 16)
            stop = self._height(last) if not str(last).startswith("0x") else min(latest, int(last, 16))
            blocks = self._blocks[start : stop + 1]
        wanted = query.get("address")
        addresses = (
            None
            if wanted is None
            else {_normal(one) for one in ([wanted] if isinstance(wanted, str) else wanted)}
        )
        topics = query.get("topics") or []
        return [
            event
            for block in blocks
            for tx in block["transactions"]
            for event in self._receipts[tx]["logs"]
            if (addresses is None or event["address"] in addresses) and _matches(event["topics"], topics)
        ]

    def _execute(self, call: Mapping[str, Json], block: Json, gas: int) -> tuple[Any, Any]:
        """Executes a call in a block after `block` and throws its effects away; gas costs nothing here."""
        sender = _data(call["from"], 20) if call.get("from") else bytes(20)
        data = call.get("input", call.get("data"))
        with self._vm(block).in_costless_state() as state:
            unsigned = self._backend.chain.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
                chain_id=self.chain_id,
                nonce=state.get_nonce(sender),
                max_priority_fee_per_gas=0,
                max_fee_per_gas=0,
                gas=gas,
                to=_data(call["to"], 20) if call.get("to") else b"",
                value=int(call["value"], 16) if call.get("value") else 0,
                data=_data(data) if data else b"",
                access_list=(),
            )
            try:
                return state.apply_transaction(SpoofTransaction(unsigned, from_=sender)), unsigned
            except ValidationError as error:
                raise RpcError(REJECTED, f"call rejected: {error}") from error

    def _call(self, call: Mapping[str, Json], block: Json = "latest", *_: Json) -> str:
        computation, _unsigned = self._execute(call, block, int(call.get("gas", hex(GAS_LIMIT)), 16))
        if computation.is_error:
            raise _reverted(computation)
        return _hex(computation.output)

    def _estimate(self, call: Mapping[str, Json], _block: Json = "latest", *_: Json) -> str:
        computation, unsigned = self._execute(call, "latest", GAS_LIMIT)
        if computation.is_error:
            raise _reverted(computation)
        # What was used, or the EIP-7623 floor for call data; an eighth more for what inner calls hold back.
        used: int = unsigned.intrinsic_gas + computation.get_gas_used()
        zeros = unsigned.data.count(0)
        floor = 21_000 + 10 * (zeros + 4 * (len(unsigned.data) - zeros))
        return hex(max(used + used // 8, floor))


def _reverted(computation: Any) -> RpcError:
    output: bytes = computation.output
    if not output:
        return RpcError(REJECTED, f"execution failed: {type(computation.error).__name__}")
    message = "execution reverted"
    if output[:4] == b"\x08\xc3y\xa0" and len(output) >= 68:
        length = int.from_bytes(output[36:68], "big")
        message += ": " + output[68 : 68 + length].decode("utf-8", "replace")
    return RpcError(REVERTED, message, _hex(output))


def _matches(topics: Sequence[str], wanted: Sequence[Json]) -> bool:
    if len(wanted) > len(topics):
        return False
    for topic, want in zip(topics, wanted, strict=False):
        if want is not None and topic not in {
            _normal(one) for one in ([want] if isinstance(want, str) else want)
        }:
            return False
    return True


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()


def _normal(text: str) -> str:
    return text.lower()


def _data(text: str, length: int | None = None) -> bytes:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError("data must be a string of hex digits after 0x")
    data = bytes.fromhex(text[2:])
    if length is not None and len(data) != length:
        raise ValueError(f"{length} bytes expected, not {len(data)}")
    return data
