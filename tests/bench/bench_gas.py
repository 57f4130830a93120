"""Gas of every call of GatewayLog: python tests/bench/bench_gas.py [--write] [--anvil URL]

Prints the table of gateway/contracts/GAS.md, measured on the development chain; --write renews the file. Keys
and roots are fixed, so that the numbers are the same every time; --anvil measures on an anvil instead (start it
with `anvil --chain-id 1337`), which gives the same numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import coincurve
from eth_account import Account
from eth_hash.auto import keccak
from web3 import Web3

from sensorhub.chain import digest
from sensorhub.chain.artifact import gateway_log
from sensorhub.chain.digest import ChainCheckpoint

TABLE = Path(__file__).parents[2] / "gateway" / "contracts" / "GAS.md"
KEY = coincurve.PrivateKey(hashlib.sha256(b"bench signer").digest())
NEXT_KEY = coincurve.PrivateKey(hashlib.sha256(b"bench next signer").digest())
SENDER = coincurve.PrivateKey(keccak(b"sensorhub development key: worthless on every real chain"))
START_MS = 1_763_855_000_000
TARGET = 65_000

GROWTH = [
    (1_000, 2_000),
    (1_000_000, 1_005_000),
    (1_048_577, 1_049_297),
    (1_234_567, 1_235_287),
    (9_876_543, 9_877_263),
    (10_000_000, 10_005_000),
    (12_345_678, 12_350_678),
    (100_000_000, 100_005_000),
]
"""Old and new sizes: 720 entries are what 12 nodes send in an hour at one message a minute."""
DECADES = (10**4, 10**5, 10**6, 10**7)
"""For each, the mean over logs of this size up to ten times as many entries, at sizes without a pattern."""
PER_DECADE = 8


@dataclass(frozen=True)
class Row:
    """One measured call."""

    what: str
    path: int | None
    gas: int


class UniformTree:
    """RFC 9162 over leaves that are all the same, so that any size costs nothing; gas does not depend on it."""

    def __init__(self) -> None:
        self._of_width = cache(self._width)

    def root(self, size: int) -> bytes:
        return self._of_width(size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        return self._subproof(old, new, True) if old else []

    def _width(self, width: int) -> bytes:
        if width == 1:
            return hashlib.sha256(b"bench leaf").digest()
        left = _split(width)
        return hashlib.sha256(b"\x01" + self._of_width(left) + self._of_width(width - left)).digest()

    def _subproof(self, old: int, width: int, whole: bool) -> list[bytes]:
        if old == width:
            return [] if whole else [self._of_width(width)]
        left = _split(width)
        if old <= left:
            return [*self._subproof(old, left, whole), self._of_width(width - left)]
        return [*self._subproof(old - left, width - left, False), self._of_width(left)]


def _split(width: int) -> int:
    return 1 << (width - 1).bit_length() - 1


def _sizes(decade: int) -> list[int]:
    digests = [
        hashlib.sha256(b"bench size %d %d" % (decade, number)).digest() for number in range(PER_DECADE)
    ]
    return [decade + int.from_bytes(one[:8], "big") % (9 * decade) for one in digests]


class Bench:
    """Sends transactions one after the other and reads what they used."""

    def __init__(self, rpc: Callable[[str, list[Any]], Any], chain_id: int) -> None:
        self._rpc = rpc
        self._nonce = int(
            rpc("eth_getTransactionCount", ["0x" + digest.address(SENDER.public_key).hex(), "latest"]), 16
        )
        self._chain_id = chain_id
        self._codec = Web3().eth.contract(abi=gateway_log().abi)
        self.tree = UniformTree()
        deployed = self.send(None, gateway_log().bytecode)
        self.deploy_gas = int(deployed["gasUsed"], 16)
        self.contract = bytes.fromhex(deployed["contractAddress"][2:])
        self._logs = 0

    def send(self, to: bytes | None, data: bytes) -> dict[str, Any]:
        transaction = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": self._nonce,
            "gas": 5_000_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "value": 0,
            "data": data,
        }
        if to is not None:
            transaction["to"] = Web3.to_checksum_address(to)
        signed = Account.sign_transaction(transaction, SENDER.secret)
        tx = self._rpc("eth_sendRawTransaction", ["0x" + signed.raw_transaction.hex()])
        while (receipt := self._rpc("eth_getTransactionReceipt", [tx])) is None:
            time.sleep(0.01)
        self._nonce += 1
        assert int(receipt["status"], 16) == 1, "a measured call failed"
        return dict(receipt)

    def call(self, name: str, *arguments: Any) -> int:
        data = bytes.fromhex(self._codec.encode_abi(name, arguments)[2:])
        return int(self.send(self.contract, data)["gasUsed"], 16)

    def sign(self, struct_hash: bytes, key: coincurve.PrivateKey = KEY) -> tuple[bytes, bytes]:
        return digest.compact(
            digest.sign(digest.typed_digest(struct_hash, self._chain_id, self.contract), key)
        )

    def open(self) -> tuple[bytes, int, int]:
        self._logs += 1
        log_id, salt = (
            hashlib.sha256(b"bench log %d" % self._logs).digest(),
            hashlib.sha256(b"bench salt").digest(),
        )
        signer = digest.address(KEY.public_key)
        reserved = self.call("reserve", digest.commitment(log_id, signer, digest.NO_OWNER, salt))
        opened = self.call(
            "open",
            log_id,
            signer,
            digest.NO_OWNER,
            salt,
            *self.sign(digest.open_hash(log_id, signer, digest.NO_OWNER)),
        )
        return log_id, reserved, opened

    def post(self, head: ChainCheckpoint, size: int) -> tuple[ChainCheckpoint, Row]:
        following = ChainCheckpoint(
            head.log_id,
            head.seq + 1,
            size,
            self.tree.root(size),
            head.struct_hash() if head.seq else digest.NO_PREV,
            START_MS + head.size,
            START_MS + size,
        )
        path = self.tree.consistency(head.size, size)
        gas = self.call(
            "post",
            (head.log_id, head.seq, head.size, head.root, head.prev, head.start, head.end),
            (size, following.root, following.start, following.end),
            path,
            *self.sign(following.struct_hash()),
        )
        return following, Row(f"post {head.size:,} → {size:,}", len(path), gas)

    def grow(self, sizes: Sequence[int]) -> list[Row]:
        log_id, *_ = self.open()
        head = ChainCheckpoint(log_id, 0, 0, bytes(32), bytes(32), 0, 0)
        rows = []
        for size in sizes:
            head, row = self.post(head, size)
            rows.append(row)
        return rows


def measure(rpc: Callable[[str, list[Any]], Any] | None = None, chain_id: int = 1337) -> list[Row]:
    """Every row of the table; on a development chain inside this process unless an RPC is given."""
    if rpc is None:
        from sensorhub.chain.devchain import DevChain

        chain = DevChain(deploy=False)

        def answer(method: str, params: list[Any]) -> Any:
            return chain.answer({"id": 1, "method": method, "params": params})["result"]

        rpc = answer
    bench = Bench(rpc, chain_id)
    rows = [Row("deploy", None, bench.deploy_gas)]
    log_id, reserved, opened = bench.open()
    rows += [Row("reserve", None, reserved), Row("open", None, opened)]
    first = bench.grow([1, 2])
    rows += [Row("post, the first of a log", first[0].path, first[0].gas)]
    rows += [bench.grow([old // 2, old, new])[2] for old, new in GROWTH]
    for decade in DECADES:
        posts = [bench.grow([size // 2, size, size + 720])[2] for size in _sizes(decade)]
        mean = round(sum(row.gas for row in posts) / len(posts))
        length = round(sum(row.path or 0 for row in posts) / len(posts))
        most = max(posts, key=lambda row: row.gas)
        rows.append(
            Row(
                f"mean of {len(posts)} posts of 720 entries, log of {decade:,} to {10 * decade:,}",
                length,
                mean,
            )
        )
        rows.append(Row("the dearest of them", most.path, most.gas))
    signer = digest.address(NEXT_KEY.public_key)
    hashed = digest.flag_hash(log_id, 0, 10, 20, "sensor was rained on")
    rows.append(
        Row("flag", None, bench.call("flag", log_id, 10, 20, "sensor was rained on", *bench.sign(hashed)))
    )
    hashed = digest.rotate_hash(log_id, 1, signer)
    rows.append(
        Row(
            "rotate",
            None,
            bench.call("rotate", log_id, signer, *bench.sign(hashed, NEXT_KEY), *bench.sign(hashed)),
        )
    )
    hashed = digest.close_hash(log_id, 2)
    rows.append(Row("close", None, bench.call("close", log_id, *bench.sign(hashed, NEXT_KEY))))
    return rows


def _missed(rows: Sequence[Row]) -> list[str]:
    """Which posts cost more than the target, in words."""
    dear = [row for row in rows if row.path is not None and row.gas > TARGET]
    if not dear:
        return ["No post measured here misses the target."]
    return [
        f"**{len(dear)} of the posts below miss the target**, by up to {max(row.gas for row in dear) - TARGET:,}; they",
        "are marked. What a post costs grows with the set bits of the old size, so how often the target is missed grows",
        "with the log; README.md beside this file says why.",
    ]


def render(rows: Sequence[Row]) -> str:
    """The table as gateway/contracts/GAS.md has it."""
    lines = [
        "# Gas of GatewayLog",
        "",
        f"Written by `python tests/bench/bench_gas.py --write` ({gateway_log().compiler}, py-evm, Prague rules); a test",
        "measures again and compares. `path` is the length of the consistency proof in hashes. Every post is",
        f"relayed: sender and signer are different accounts. The target is {TARGET:,} for a post.",
        "",
        *_missed(rows),
        "",
        "| call | path | gas |",
        "|---|---:|---:|",
    ]
    for row in rows:
        path = "" if row.path is None else str(row.path)
        missed = f" (+{row.gas - TARGET:,})" if row.path is not None and row.gas > TARGET else ""
        lines.append(f"| {row.what} | {path} | {row.gas:,}{missed} |")
    return "\n".join(lines) + "\n"


def rpc_over_http(url: str) -> Callable[[str, list[Any]], Any]:
    """Calls methods of an anvil, after giving the sending account money there."""
    from sensorhub.chain.contract import connect

    provider = connect(url).provider
    provider.make_request("anvil_setBalance", ["0x" + digest.address(SENDER.public_key).hex(), hex(10**24)])  # type: ignore[arg-type]

    def answer(method: str, params: list[Any]) -> Any:
        return provider.make_request(method, params)["result"]  # type: ignore[arg-type]

    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the gas of GatewayLog.")
    parser.add_argument("--write", action="store_true", help=f"renew {TABLE.name}")
    parser.add_argument("--anvil", metavar="URL", help="measure on this anvil")
    options = parser.parse_args()
    if options.anvil:
        answer = rpc_over_http(options.anvil)
        rows = measure(answer, int(answer("eth_chainId", []), 16))
    else:
        rows = measure()
    text = render(rows)
    print(text, end="")
    if options.write:
        TABLE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
