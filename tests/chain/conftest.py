"""The chains that the tests run on, real ones in child processes, and a naive tree to check the contract against."""

import contextlib
import functools
import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import coincurve
import pytest

from sensorhub.chain import devnet, digest
from sensorhub.chain.contract import GWEI, Fees, GatewayLogContract, connect
from sensorhub.chain.devchain import DEV_CONTRACT, DEV_KEY
from sensorhub.chain.digest import ChainCheckpoint

HERE = Path(__file__).parent
RELAY = coincurve.PrivateKey(DEV_KEY)
NOW = 1_763_855_000_000


def anvil_binary() -> Path:
    """The binary that npm brought for this machine."""
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform, sys.platform)
    machine = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine(), platform.machine()
    )
    path = HERE / "node_modules" / "@foundry-rs" / f"anvil-{system}-{machine}" / "bin" / "anvil"
    if not path.is_file():
        pytest.fail(f"anvil is missing ({path}): run `make setup`")
    return path


@contextlib.contextmanager
def anvil(*options: str):
    """A fresh anvil on a free port; gives its URL."""
    argv = [str(anvil_binary()), *options]
    # It logs every request: into a file, since a pipe that nobody reads would stop it.
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, text=True) as process,
    ):
        try:
            while not (
                found := re.search(
                    r"^Listening on (\S+)\n", os.pread(log.fileno(), 1 << 16, 0).decode(), re.M
                )
            ):
                assert process.poll() is None, (
                    "anvil did not start: " + os.pread(log.fileno(), 4096, 0).decode()
                )
                time.sleep(0.02)
            yield "http://" + found[1]
        finally:
            process.kill()


@dataclass
class Chain:
    """A running chain with the contract on it."""

    name: str
    url: str
    contract: GatewayLogContract

    @property
    def web3(self):
        return self.contract.web3

    @functools.cached_property
    def chain_id(self) -> int:
        return self.contract.chain_id()

    def fees(self):
        """Enough for any chain here; `GatewayLogContract.fees` has tests of its own."""
        return Fees(most=100 * GWEI, tip=GWEI)

    def nonce(self) -> int:
        return self.contract.nonce(digest.address(RELAY.public_key))

    def send(self, prepared):
        """Sends a transaction and waits for its receipt."""
        self.contract.send(prepared.raw)
        deadline = time.monotonic() + 90
        while (receipt := self.contract.receipt(prepared.tx)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return receipt

    def rpc(self, method: str, *params):
        return self.web3.provider.make_request(method, list(params))["result"]

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.rpc("evm_mine")

    def snapshot(self) -> str:
        return self.rpc("evm_snapshot")

    def revert(self, snapshot: str) -> None:
        assert self.rpc("evm_revert", snapshot) is True

    def fund(self, address: bytes, wei: int = 10**20) -> None:
        """Sends money from the relay account."""
        from eth_account import Account
        from web3 import Web3

        fees = self.fees()
        signed = Account.sign_transaction(
            {
                "to": Web3.to_checksum_address("0x" + address.hex()),
                "value": wei,
                "gas": 21_000,
                "nonce": self.nonce(),
                "chainId": self.chain_id,
                "maxFeePerGas": fees.most,
                "maxPriorityFeePerGas": fees.tip,
            },
            RELAY.secret,
        )
        self.web3.eth.wait_for_transaction_receipt(
            self.web3.eth.send_raw_transaction(signed.raw_transaction), poll_latency=0.01
        )


@contextlib.contextmanager
def chain_of(kind: str, **options):
    """A chain of either kind, with GatewayLog deployed by the relay account."""
    if kind == "eth-tester":
        with devnet.running(**options) as running:
            yield Chain(kind, running.url, GatewayLogContract(connect(running.url), DEV_CONTRACT))
        return
    with anvil("--port", str(options.get("port", 0)), "--chain-id", "31337") as url:
        web3 = connect(url)
        for address in (digest.address(RELAY.public_key), *options.get("funded", ())):
            web3.provider.make_request("anvil_setBalance", ["0x" + address.hex(), hex(10**24)])
        yield Chain(kind, url, GatewayLogContract.deploy(web3, RELAY))


@pytest.fixture(scope="session", params=["eth-tester", "anvil"])
def chain(request):
    """One chain for the whole session; every test uses logs of its own."""
    with chain_of(request.param) as running:
        yield running


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(width: int) -> int:
    return 1 << (width - 1).bit_length() - 1


class NaiveTree:
    """RFC 9162 section 2.1 word for word, over leaf hashes in memory."""

    def __init__(self, leaves):
        self.leaves = list(leaves)

    def _root(self, start, end):
        if end - start == 1:
            return self.leaves[start]
        middle = start + split(end - start)
        return node(self._root(start, middle), self._root(middle, end))

    def root(self, size):
        return self._root(0, size) if size else hashlib.sha256(b"").digest()

    def consistency(self, old, new):
        return self._subproof(old, 0, new, True) if 0 < old < new else []

    def _subproof(self, old, start, end, whole):
        width = end - start
        if old == width:
            return [] if whole else [self._root(start, end)]
        middle = split(width)
        if old <= middle:
            return [*self._subproof(old, start, start + middle, whole), self._root(start + middle, end)]
        rest = self._subproof(old - middle, start + middle, end, False)
        return [*rest, self._root(start, start + middle)]


class UniformTree(NaiveTree):
    """A tree whose leaves are all the same: any size costs nothing."""

    def __init__(self, leaf=b"\x5a" * 32):
        self.leaf = leaf
        self._of_width = functools.cache(self._width)

    def _width(self, width):
        if width == 1:
            return self.leaf
        return node(self._of_width(split(width)), self._of_width(width - split(width)))

    def _root(self, start, end):
        return self._of_width(end - start)


@dataclass
class Gateway:
    """Someone who keeps a log and a signing key; the relay account pays."""

    chain: Chain
    tree: NaiveTree
    key: coincurve.PrivateKey = field(default_factory=coincurve.PrivateKey)
    log_id: bytes = field(default_factory=lambda: os.urandom(32))
    owner: bytes = digest.NO_OWNER
    head: ChainCheckpoint | None = None

    @property
    def address(self) -> bytes:
        return digest.address(self.key.public_key)

    def sign(self, struct_hash, *, key=None, chain_id=None, contract=None):
        """Signs a struct hash, in another domain or with another key when told so."""
        chain = self.chain
        hashed = digest.typed_digest(
            struct_hash, chain_id or chain.chain_id, contract or chain.contract.address
        )
        return digest.sign(hashed, key or self.key)

    def reserve(self, salt=b"\x07" * 32, *, signer=None, owner=None):
        chain = self.chain
        commitment = digest.commitment(
            self.log_id, signer or self.address, self.owner if owner is None else owner, salt
        )
        prepared = chain.contract.prepare_reserve(RELAY, commitment, nonce=chain.nonce(), fees=chain.fees())
        receipt = chain.send(prepared)
        # anvil estimates in the newest block, where `open` would still be refused.
        chain.mine()
        return receipt

    def prepare_open(self, salt=b"\x07" * 32, *, signer=None, owner=None, signature=None):
        signer, owner = signer or self.address, self.owner if owner is None else owner
        return self.chain.contract.prepare_open(
            RELAY,
            self.log_id,
            signer=signer,
            owner=owner,
            salt=salt,
            signature=signature or self.sign(digest.open_hash(self.log_id, signer, owner)),
            nonce=self.chain.nonce(),
            fees=self.chain.fees(),
        )

    def open(self):
        """Reserves and opens the log; both receipts."""
        return self.reserve(), self.chain.send(self.prepare_open())

    def next(self, size, **changes) -> ChainCheckpoint:
        """The checkpoint that properly follows the head, with fields changed when told so."""
        following = ChainCheckpoint(
            self.log_id,
            self.head.seq + 1 if self.head else 1,
            size,
            self.tree.root(size),
            self.head.struct_hash() if self.head else digest.NO_PREV,
            NOW,
            NOW + 60_000,
        )
        return replace(following, **changes)

    def path(self, size):
        return self.tree.consistency(self.head.size if self.head else 0, size)

    def prepare(self, checkpoint, path=None, *, head=None, signature=None):
        """A signed post; raises RefusedError when the contract would refuse it."""
        return self.chain.contract.prepare_post(
            RELAY,
            head or self.head,
            checkpoint,
            self.path(checkpoint.size) if path is None else path,
            signature or self.sign(checkpoint.struct_hash()),
            nonce=self.chain.nonce(),
            fees=self.chain.fees(),
        )

    def post(self, size):
        """Posts the checkpoint of `size` entries; its receipt."""
        checkpoint = self.next(size)
        receipt = self.chain.send(self.prepare(checkpoint))
        assert receipt.succeeded
        self.head = checkpoint
        return receipt


@pytest.fixture
def gateway(chain):
    """A gateway whose log of up to 300 different entries is open and empty on the chain."""
    leaves = [hashlib.sha256(b"\x00" + number.to_bytes(4, "big")).digest() for number in range(300)]
    keeper = Gateway(chain, NaiveTree(leaves))
    keeper.open()
    return keeper


@pytest.fixture
def make_gateway(chain):
    """Makes gateways with other trees, keys or owners, not opened."""

    def make(tree=None, **options):
        return Gateway(chain, tree or UniformTree(), **options)

    return make


@pytest.fixture
def start_chain():
    """Starts chains by hand: a context manager that takes the kind."""
    return chain_of


@pytest.fixture(scope="session")
def start_anvil():
    """Starts a bare anvil: a context manager that takes its options and gives its URL."""
    return anvil


@pytest.fixture(scope="session")
def uniform_tree():
    return UniformTree


@pytest.fixture(scope="session")
def naive_tree():
    return NaiveTree
