"""Client of contract `GatewayLog`: web3 for the RPC, eth-account for transactions.

Every method raises `ChainError` (or a kind of it) and nothing else when the chain does not do as asked. An RPC
URL may hold an access key, so errors name its host only.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import coincurve
from eth_abi.exceptions import DecodingError
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import URI, ChecksumAddress
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    BadFunctionCallOutput,
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.types import EventData, RPCEndpoint, RPCResponse, TxParams, Wei

from sensorhub.addresses import authority
from sensorhub.chain import digest
from sensorhub.chain.artifact import gateway_log
from sensorhub.chain.digest import ChainCheckpoint
from sensorhub.chain.errors import (
    ChainError,
    FeeError,
    MissingContractError,
    RefusedError,
    UnreachableError,
)
from sensorhub.chain.untrusted import UntrustedError, load_json, shown

GWEI: Final = 10**9
TIMEOUT_S: Final = 20.0
"""How long one RPC answer may take."""
DEFAULT_TIP: Final = GWEI
"""Priority fee per gas when the chain's recent blocks tell nothing."""
FEE_BLOCKS: Final = 10
"""Blocks whose priority fees are looked at."""
OPEN_GAS: Final = 250_000
"""Gas limit of `open` where the node cannot estimate it: it refuses `open` in the block of `reserve`."""
LOG_WINDOW: Final = 5_000
"""Blocks asked for in one `eth_getLogs`; public servers refuse wider ranges."""
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Largest RPC answer that is read."""
UINT64: Final = 64
UINT256: Final = 256
SQLITE_BITS: Final = 63
"""Bits of the largest number that fits where posts are recorded."""
RECURSION_LIMIT: Final = 1000
"""CPython's own."""

# py_ecc, which web3 brings along, raises the limit to 100,000: deep enough to overflow the C stack. Only py-evm,
# which the development chain runs in a process of its own, needs more than the usual.
if "eth" not in sys.modules:
    sys.setrecursionlimit(RECURSION_LIMIT)


class BoundedProvider(HTTPProvider):
    """JSON-RPC over HTTP that looks at the size and nesting of an answer before it is decoded."""

    def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:  # noqa: ARG002 - web3's signature
        options = dict(self.get_request_kwargs())
        deadline = time.monotonic() + options["timeout"]
        response: Any = self._request_session_manager.get_response_from_post_request(
            cast(URI, self.endpoint_uri), data=request_data, **{**options, "stream": True}
        )
        with contextlib.closing(response):
            response.raise_for_status()
            return _read(response, deadline)

    @staticmethod
    def decode_rpc_response(raw_response: bytes) -> RPCResponse:
        """The answer as an object.

        Raises:
            UntrustedError: it is none, or too large or too deep.
        """
        answer = load_json(raw_response, most_bytes=MAX_ANSWER_BYTES)
        if not isinstance(answer, dict):
            raise UntrustedError("no JSON object")
        return cast(RPCResponse, answer)


def _read(response: Any, deadline: float) -> bytes:
    body = bytearray()
    for part in response.iter_content(1 << 16):
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise UntrustedError(f"more than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise UntrustedError("an answer that takes too long")
    return bytes(body)


def _whole(value: Any, bits: int) -> int:
    """A number from a server that libraries hand on as they find it.

    Raises:
        UntrustedError: no number from 0 to 2**bits - 1.
    """
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise UntrustedError(f"no whole number of {bits} bits")
    return value


def connect(rpc_url: str, *, timeout: float = TIMEOUT_S) -> Web3:
    """A web3 over HTTP that never retries by itself: whoever calls knows better what may be repeated."""
    if urllib.parse.urlsplit(rpc_url).scheme not in ("http", "https"):
        raise ChainError("the RPC URL of the chain must begin with http:// or https://")
    web3 = Web3(
        BoundedProvider(rpc_url, request_kwargs={"timeout": timeout}, exception_retry_configuration=None)
    )
    # These ask for the chain id before nearly every call, which doubles the requests. Addresses here are no
    # names, and a transaction for another chain is refused by the node, since its signature covers the id.
    web3.middleware_onion.remove("validation")
    web3.middleware_onion.remove("ens_name_to_address")
    return web3


@dataclass(frozen=True, slots=True)
class Head:
    """A log as the contract holds it.

    Attributes:
        hash: struct hash of the newest checkpoint, 32 zero bytes before the first.
        signer: 20-byte address that signs checkpoints; zero when the log was never opened.
        owner: 20-byte address that may rotate, close and flag; zero for none.
        nonce: counts rotations, closing and flags; part of what is signed for the next.
        closed: whether the log takes no more checkpoints.
    """

    hash: bytes
    signer: bytes
    owner: bytes
    nonce: int
    closed: bool

    @property
    def opened(self) -> bool:
        """Whether the log exists in the contract."""
        return self.signer != bytes(20)

    @property
    def empty(self) -> bool:
        """Whether no checkpoint was posted yet."""
        return self.hash == digest.NO_PREV


@dataclass(frozen=True, slots=True)
class Posted:
    """One `Posted` event: the checkpoint, its transaction (32 bytes) and block."""

    checkpoint: ChainCheckpoint
    tx: bytes
    block: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction."""

    tx: bytes
    block: int
    gas: int
    succeeded: bool


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559 fees in wei per gas."""

    most: int
    tip: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A signed transaction that may be sent, and sent again: its hash, its bytes, its nonce and its fees."""

    tx: bytes
    raw: bytes
    nonce: int
    fees: Fees


_CONFUSED: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, DecodingError)
"""What web3 and eth-abi throw when an answer has another form than they expect."""


class GatewayLogContract:
    """The contract at one address.

    Args:
        web3: connection to the chain.
        address: 20 bytes.
    """

    def __init__(self, web3: Web3, address: bytes) -> None:
        self.web3 = web3
        self.address = address
        self._server = _server(web3)
        self._chain_id: int | None = None
        self._contract = web3.eth.contract(address=_checksum(address), abi=gateway_log().abi)

    @classmethod
    def deploy(
        cls, web3: Web3, key: coincurve.PrivateKey, *, max_fee_gwei: float = 100.0, timeout: float = 120.0
    ) -> GatewayLogContract:
        """Deploys the shipped contract from an account and waits until it is in a block.

        Raises:
            ChainError: the account cannot pay, the chain did not take it in time, or asks for a higher fee.
        """
        probe = cls(web3, bytes(20))
        fees = probe.fees(max_fee_gwei)
        deployment = web3.eth.contract(abi=gateway_log().abi, bytecode=gateway_log().bytecode)
        account = _account(key)
        payer = digest.address(key.public_key)
        try:
            with probe._asking("deploying GatewayLog"):
                call = deployment.constructor()
                gas = call.estimate_gas({"from": account.address})
                parameters = call.build_transaction(probe._parameters(account, probe.nonce(payer), gas, fees))
                prepared = probe._signed(account, parameters, fees)
                probe.send(prepared.raw)
                receipt = web3.eth.wait_for_transaction_receipt(
                    HexBytes(prepared.tx), timeout=timeout, poll_latency=0.2
                )
        except RefusedError as error:
            raise (cannot_pay(error, payer, probe.chain_id()) or error) from error
        address = receipt["contractAddress"]
        if receipt["status"] != 1 or address is None:
            raise RefusedError("the chain refused to deploy GatewayLog", "deployment failed")
        return cls(web3, bytes.fromhex(address[2:]))

    def chain_id(self) -> int:
        """EIP-155 id of the chain that answers."""
        with self._asking("asking for the chain id"):
            self._chain_id = _whole(self.web3.eth.chain_id, SQLITE_BITS)
        return self._chain_id

    def block_number(self) -> int:
        """Number of the newest block."""
        with self._asking("asking for the newest block"):
            return _whole(self.web3.eth.block_number, SQLITE_BITS)

    def check(self) -> int:
        """Makes sure that a GatewayLog for this chain answers at the address, and gives the chain id.

        Raises:
            MissingContractError: there is no contract, or another one.
        """
        chain_id = self.chain_id()
        where = f"0x{self.address.hex()} on chain {chain_id} at {self._server}"
        with self._asking("looking for the contract"):
            if not self.web3.eth.get_code(_checksum(self.address)):
                raise MissingContractError(
                    f"there is no contract at {where}. A development chain that was restarted is empty: start it with "
                    "`sensorhub devnet`, which deploys the contract again; otherwise check the address and the RPC URL"
                )
            try:
                separator = self._contract.functions.DOMAIN_SEPARATOR().call()
            except (ContractLogicError, BadFunctionCallOutput):
                separator = b""
        if separator != digest.domain_separator(chain_id, self.address):
            raise MissingContractError(
                f"the contract at {where} is not a GatewayLog: check the address and the RPC URL"
            )
        return chain_id

    def head(self, log_id: bytes) -> Head:
        """The head of a log; a zero signer when the contract does not know it."""
        with self._asking("asking for the head of the log"):
            hashed, signer, owner, nonce, closed = self._contract.functions.head(log_id).call()
            return Head(hashed, _raw(signer), _raw(owner), nonce, closed)

    def reserved(self, commitment: bytes) -> bool:
        """Whether a commitment to open a log is in a block."""
        with self._asking("asking for the reservation of the log"):
            return cast(int, self._contract.functions.reservations(commitment).call()) != 0

    def posts(
        self, log_id: bytes, first_block: int, last_block: int, *, seq: int | None = None
    ) -> list[Posted]:
        """The checkpoints of a log posted in a range of blocks, oldest first; only one `seq` when given."""
        filters: dict[str, Any] = {"logId": log_id}
        if seq is not None:
            filters["seq"] = seq
        with self._asking(f"asking for the events of blocks {first_block} to {last_block}"):
            events: Sequence[EventData] = self._contract.events.Posted.get_logs(
                from_block=first_block, to_block=last_block, argument_filters=filters
            )
            return [_posted(event) for event in events]

    def history(
        self, log_id: bytes, *, seq: int | None = None, depth: int | None = None, window: int = LOG_WINDOW
    ) -> Iterator[Posted]:
        """The checkpoints of a log, newest first, read in windows of blocks.

        Args:
            log_id: the log.
            seq: only this one.
            depth: how many blocks to go back at most; all when None.
            window: blocks asked for at once.
        """
        last = self.block_number()
        lowest = 0 if depth is None else max(0, last - depth)
        while last >= lowest:
            first = max(lowest, last - window + 1)
            yield from reversed(self.posts(log_id, first, last, seq=seq))
            last = first - 1

    def signature(self, posted: Posted) -> bytes | None:
        """The 65-byte signature in the call data of a post; None when another contract made the call."""
        with self._asking(f"asking for transaction 0x{posted.tx.hex()}"):
            data = self.web3.eth.get_transaction(HexBytes(posted.tx))["input"]
            try:
                call, arguments = self._contract.decode_function_input(data)
            except (Web3Exception, DecodingError, ValueError):
                return None
        if call.fn_name != "post" or bytes(arguments["head"]["logId"]) != posted.checkpoint.log_id:
            return None
        return digest.expand(bytes(arguments["r"]), bytes(arguments["vs"]))

    def receipt(self, tx: bytes) -> Receipt | None:
        """The receipt of a transaction; None while it is in no block."""
        with self._asking(f"asking for the receipt of 0x{tx.hex()}"):
            try:
                receipt = self.web3.eth.get_transaction_receipt(HexBytes(tx))
            except TransactionNotFound:
                return None
            block, gas = (_whole(receipt[name], SQLITE_BITS) for name in ("blockNumber", "gasUsed"))
            return Receipt(tx, block, gas, receipt["status"] == 1)

    def nonce(self, address: bytes) -> int:
        """Transactions of an account that are in blocks: the nonce of its next one."""
        with self._asking("asking for the account's nonce"):
            return _whole(self.web3.eth.get_transaction_count(_checksum(address), "latest"), SQLITE_BITS)

    def balance(self, address: bytes) -> int:
        """Money of an account, in wei."""
        with self._asking("asking for the account's balance"):
            return _whole(self.web3.eth.get_balance(_checksum(address)), UINT256)

    def fees(self, max_fee_gwei: float, *, raised: float = 1.0) -> Fees:
        """Fees for a transaction that should be mined soon.

        The base fee may double before it fails; the tip is the median of what recent blocks paid, whatever
        order the server lists them in.

        Args:
            max_fee_gwei: never more than this per gas, base fee and tip together.
            raised: factor on both, to replace a transaction that was not mined.

        Raises:
            FeeError: the base fee alone is above the limit.
        """
        limit = int(max_fee_gwei * GWEI)
        with self._asking("asking for the fees"):
            base = self.web3.eth.get_block("latest").get("baseFeePerGas")
            if base is None:
                raise ChainError(
                    f"the chain at {self._server} has no EIP-1559 fees (London); it cannot be used"
                )
            base = Wei(_whole(base, UINT64))
            tip = _whole(self._recent_tip(), UINT64)
        if base > limit:
            raise FeeError(
                f"the chain's base fee is {base / GWEI:.3f} gwei and chain.max_fee_gwei allows {max_fee_gwei:g}: "
                "waiting until it falls"
            )
        tip = min(int(tip * raised) + (raised > 1), limit)
        return Fees(min(limit, int((2 * base + tip) * max(raised, 1.0))), tip)

    def _recent_tip(self) -> int:
        try:
            history = self.web3.eth.fee_history(FEE_BLOCKS, "latest", [50.0])
        except (Web3RPCError, LookupError, TypeError, ValueError, AttributeError):
            return DEFAULT_TIP  # a server without eth_feeHistory still takes transactions
        paid = [row[0] for row in history.get("reward") or [] if row and row[0] > 0]
        return int(statistics.median(paid)) if paid else DEFAULT_TIP

    def prepare_reserve(
        self, key: coincurve.PrivateKey, commitment: bytes, *, nonce: int, fees: Fees
    ) -> Prepared:
        """Signs the transaction that reserves a log."""
        return self._prepare(key, self._contract.functions.reserve(commitment), nonce, fees)

    def prepare_open(
        self,
        key: coincurve.PrivateKey,
        log_id: bytes,
        *,
        signer: bytes,
        owner: bytes,
        salt: bytes,
        signature: bytes,
        nonce: int,
        fees: Fees,
    ) -> Prepared:
        """Signs the transaction that opens a reserved log. `signature` is the signer's, of the Open struct."""
        call = self._contract.functions.open(
            log_id, _checksum(signer), _checksum(owner), salt, *digest.compact(signature)
        )
        return self._prepare(key, call, nonce, fees, gas_unknown=OPEN_GAS)

    def prepare_post(
        self,
        key: coincurve.PrivateKey,
        head: ChainCheckpoint | None,
        checkpoint: ChainCheckpoint,
        path: Sequence[bytes],
        signature: bytes,
        *,
        nonce: int,
        fees: Fees,
    ) -> Prepared:
        """Signs the transaction that posts a checkpoint; any key may relay it.

        Args:
            key: pays for the transaction.
            head: the newest checkpoint in the contract, None before the first.
            checkpoint: the one that follows.
            path: consistency proof between their sizes.
            signature: the log signer's over the checkpoint, 65 bytes.

        Raises:
            RefusedError: the contract would refuse it; `reason` says why.
        """
        return self._prepare(key, self._post(head, checkpoint, path, signature), nonce, fees)

    def _post(
        self,
        head: ChainCheckpoint | None,
        checkpoint: ChainCheckpoint,
        path: Sequence[bytes],
        signature: bytes,
    ) -> Any:
        before = head or ChainCheckpoint(checkpoint.log_id, 0, 0, bytes(32), bytes(32), 0, 0)
        return self._contract.functions.post(
            (before.log_id, before.seq, before.size, before.root, before.prev, before.start, before.end),
            (checkpoint.size, checkpoint.root, checkpoint.start, checkpoint.end),
            list(path),
            *digest.compact(signature),
        )

    def prepare_rotate(
        self,
        key: coincurve.PrivateKey,
        log_id: bytes,
        signer: bytes,
        *,
        proof: bytes,
        signature: bytes,
        nonce: int,
        fees: Fees,
    ) -> Prepared:
        """Signs the transaction that hands a log to `signer`: `proof` by the new key, `signature` by the present."""
        call = self._contract.functions.rotate(
            log_id, _checksum(signer), *digest.compact(proof), *_compact_or_zero(signature)
        )
        return self._prepare(key, call, nonce, fees)

    def prepare_close(
        self, key: coincurve.PrivateKey, log_id: bytes, *, signature: bytes, nonce: int, fees: Fees
    ) -> Prepared:
        """Signs the transaction that ends a log; the signature is empty when `key` is the owner's."""
        return self._prepare(
            key, self._contract.functions.close(log_id, *_compact_or_zero(signature)), nonce, fees
        )

    def prepare_flag(
        self,
        key: coincurve.PrivateKey,
        log_id: bytes,
        start: int,
        stop: int,
        reason: str,
        *,
        signature: bytes,
        nonce: int,
        fees: Fees,
    ) -> Prepared:
        """Signs the transaction that flags start <= index < stop; an empty signature when `key` is the owner's."""
        call = self._contract.functions.flag(log_id, start, stop, reason, *_compact_or_zero(signature))
        return self._prepare(key, call, nonce, fees)

    def send(self, raw: bytes) -> None:
        """Hands a signed transaction to the chain; handing it over again is no error.

        Raises:
            RefusedError: the node does not take it: too little money, a used nonce, too low a fee.
            UnreachableError: no answer. The transaction may have arrived all the same.
        """
        with self._asking("sending the transaction"):
            try:
                self.web3.eth.send_raw_transaction(HexBytes(raw))
            except Web3RPCError as error:
                reason = _rpc_message(error)
                if "already known" in reason.lower() or "already imported" in reason.lower():
                    return
                raise RefusedError(f"{self._server} refused the transaction: {reason}", reason) from error

    def _prepare(
        self, key: coincurve.PrivateKey, call: Any, nonce: int, fees: Fees, *, gas_unknown: int | None = None
    ) -> Prepared:
        account = _account(key)
        with self._asking(f"preparing {call.fn_name}"):
            try:
                # A quarter more than the estimate: what a relay in between may add is far less.
                gas = _whole(call.estimate_gas({"from": account.address}), SQLITE_BITS) * 5 // 4
            except ContractLogicError as error:
                if gas_unknown is None or "this block" not in _revert_reason(error):
                    raise
                gas = gas_unknown
            parameters = call.build_transaction(self._parameters(account, nonce, gas, fees))
            return self._signed(account, parameters, fees)

    def _parameters(self, account: LocalAccount, nonce: int, gas: int, fees: Fees) -> TxParams:
        return {
            "from": account.address,
            "nonce": cast(Any, nonce),
            "gas": gas,
            "maxFeePerGas": Wei(fees.most),
            "maxPriorityFeePerGas": Wei(min(fees.tip, fees.most)),
            "chainId": self._chain_id or self.chain_id(),
        }

    def _signed(self, account: LocalAccount, parameters: TxParams, fees: Fees) -> Prepared:
        signed = account.sign_transaction(cast(Any, parameters))
        return Prepared(bytes(signed.hash), bytes(signed.raw_transaction), int(parameters["nonce"]), fees)

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except ChainError:
            raise
        except ContractLogicError as error:
            reason = _revert_reason(error)
            raise RefusedError(f"{what}: the contract refuses: {reason}", reason) from error
        except Web3RPCError as error:
            reason = _rpc_message(error)
            raise RefusedError(f"{what}: {self._server} answered: {reason}", reason) from error
        except UntrustedError as error:
            raise UnreachableError(f"{what}: {self._server} answered {error}") from error
        except (RequestException, Web3Exception, OSError, *_CONFUSED) as error:
            # The text of a connection error may hold the whole URL, and with it an access key.
            raise UnreachableError(
                f"{what}: no usable answer from {self._server} ({type(error).__name__}): is the chain running?"
            ) from None


def cannot_pay(error: RefusedError, account: bytes, chain_id: int) -> RefusedError | None:
    """What to tell people of a refusal for want of money; None when it has another reason.

    The servers' own words for it differ, and some name the account in raw bytes.
    """
    reason = error.reason.lower()
    if not any(word in reason for word in ("insufficient", "balance", "funds", "afford")):
        return None
    return RefusedError(
        f"the account 0x{account.hex()} cannot pay for the transaction: it has no money, or too little, on chain {chain_id}. "
        "Send it some (`sensorhub chain address` names it)",
        error.reason,
    )


def _server(web3: Web3) -> str:
    uri = getattr(web3.provider, "endpoint_uri", None)
    if not uri:
        return type(web3.provider).__name__
    parts = urllib.parse.urlsplit(str(uri))
    return f"{parts.scheme}://{authority(parts.hostname or '', parts.port)}"


def _account(key: coincurve.PrivateKey) -> LocalAccount:
    return cast(LocalAccount, Account.from_key(key.secret))


def _checksum(address: bytes) -> ChecksumAddress:
    return Web3.to_checksum_address("0x" + address.hex())


def _posted(event: EventData) -> Posted:
    named = event["args"]
    checkpoint = ChainCheckpoint(
        named["logId"],
        named["seq"],
        named["size"],
        named["root"],
        named["prev"],
        named["start"],
        named["end"],
    )
    tx = bytes(event["transactionHash"])
    if len(tx) != 32:
        raise UntrustedError("an event of no transaction")
    return Posted(checkpoint, tx, _whole(event["blockNumber"], SQLITE_BITS))


def _raw(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def _compact_or_zero(signature: bytes) -> tuple[bytes, bytes]:
    return digest.compact(signature) if signature else (bytes(32), bytes(32))


def _revert_reason(error: ContractLogicError) -> str:
    text = shown(error.message or error)
    return text.removeprefix("execution reverted: ").removeprefix("execution reverted")


def _rpc_message(error: Web3RPCError) -> str:
    response = error.rpc_response or {}
    message = response.get("error", {})
    if isinstance(message, dict) and "message" in message:
        return shown(message["message"])
    return shown(error.message or error)
