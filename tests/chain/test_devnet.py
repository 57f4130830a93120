"""The development chain: JSON-RPC as clients and a verifier with nothing but urllib use it."""

import json
import subprocess
import sys
import time
import urllib.request

import coincurve
import pytest

from sensorhub.chain import devnet, digest
from sensorhub.chain.contract import GatewayLogContract, connect
from sensorhub.chain.devchain import DEV_ADDRESS, DEV_CHAIN_ID, DEV_CONTRACT, DEV_KEY, FUNDS
from sensorhub.chain.errors import ChainError, RefusedError

OTHER = coincurve.PrivateKey(b"\x21" * 32)


@pytest.fixture(scope="module")
def running():
    with devnet.running(funded=[digest.address(OTHER.public_key)]) as started:
        yield started


def post(url, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=90) as response:
        return json.loads(response.read())


def call(running, method, *params):
    return post(running.url, {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})


def hexed(data):
    return "0x" + data.hex()


def test_says_where_it_is_and_what_is_on_it(running):
    assert running.url.startswith("http://127.0.0.1:")
    assert (running.chain_id, running.contract) == (DEV_CHAIN_ID, hexed(DEV_CONTRACT))
    assert call(running, "eth_chainId") == {"jsonrpc": "2.0", "id": 7, "result": hex(DEV_CHAIN_ID)}
    assert call(running, "net_version")["result"] == str(DEV_CHAIN_ID)
    assert len(call(running, "eth_getCode", hexed(DEV_CONTRACT), "latest")["result"]) > 10_000
    assert GatewayLogContract(connect(running.url), DEV_CONTRACT).check() == DEV_CHAIN_ID


def test_gives_money_to_whom_it_was_told(running):
    balance = call(running, "eth_getBalance", hexed(digest.address(OTHER.public_key)), "latest")["result"]
    assert int(balance, 16) == FUNDS
    assert int(call(running, "eth_getBalance", hexed(DEV_ADDRESS), "latest")["result"], 16) < FUNDS


def test_the_chain_knows_its_transactions_by_hash(running):
    block = call(running, "eth_getBlockByNumber", "0x1", True)["result"]
    [deployment] = block["transactions"]
    receipt = call(running, "eth_getTransactionReceipt", deployment["hash"])["result"]
    assert receipt["contractAddress"] == running.contract
    assert receipt["status"] == "0x1"
    assert receipt["blockHash"] == block["hash"]
    assert call(running, "eth_getBlockByHash", block["hash"])["result"]["transactions"] == [
        deployment["hash"]
    ]
    assert call(running, "eth_getTransactionByHash", deployment["hash"])["result"] == deployment
    assert call(running, "eth_getTransactionReceipt", "0x" + "11" * 32)["result"] is None
    assert call(running, "eth_getBlockByNumber", "0xffff")["result"] is None


def test_fee_history_has_one_base_fee_more_than_blocks_and_is_in_order(running):
    history = call(running, "eth_feeHistory", "0x2", "latest", [50])["result"]
    assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1 == len(history["reward"]) + 1
    newest = call(running, "eth_getBlockByNumber", "latest")["result"]
    assert history["baseFeePerGas"][-2] == newest["baseFeePerGas"]


def test_a_batch_is_answered_in_order(running):
    requests = [{"jsonrpc": "2.0", "id": number, "method": "eth_chainId"} for number in range(5)]
    assert [answer["id"] for answer in post(running.url, requests)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"not json", -32700),
        (b"[" * 100_000, -32700),
        (7, -32600),
        ({"id": 1}, -32600),
        ({"id": 1, "method": "eth_mining"}, -32601),
        ({"id": 1, "method": "eth_call", "params": {"to": 1}}, -32602),
        ({"id": 1, "method": "eth_getBalance", "params": ["nobody", "latest"]}, -32602),
        ({"id": 1, "method": "eth_getBalance", "params": ["0x00", "latest"]}, -32602),
        ({"id": 1, "method": "eth_getBalance", "params": ["0x" + "00" * 20, "0xffff"]}, -32000),
        ({"id": 1, "method": "eth_sendRawTransaction", "params": ["0x1234"]}, -32000),
        ({"id": 1, "method": "eth_getLogs", "params": [7]}, -32602),
    ],
)
def test_what_makes_no_sense_gets_an_error_and_nothing_breaks(running, body, code):
    assert post(running.url, body)["error"]["code"] == code
    assert call(running, "eth_blockNumber")["result"].startswith("0x")


def test_a_revert_carries_its_reason_and_data(running):
    selector = digest.keccak(b"close(bytes32,bytes32,bytes32)")[:4]
    request = {"to": running.contract, "data": hexed(selector + bytes(96))}
    for method in ("eth_call", "eth_estimateGas"):
        error = call(running, method, request)["error"]
        assert error["code"] == 3
        assert error["message"] == "execution reverted: unknown log"
        assert error["data"].startswith("0x08c379a0")


def test_a_bad_nonce_is_refused(running):
    contract = GatewayLogContract(connect(running.url), DEV_CONTRACT)
    prepared = contract.prepare_reserve(OTHER, bytes(32), nonce=5, fees=contract.fees(100))
    with pytest.raises(RefusedError, match="nonce"):
        contract.send(prepared.raw)


def test_a_sender_without_money_is_refused(running):
    contract = GatewayLogContract(connect(running.url), DEV_CONTRACT)
    prepared = contract.prepare_reserve(coincurve.PrivateKey(), bytes(32), nonce=0, fees=contract.fees(100))
    with pytest.raises(RefusedError):
        contract.send(prepared.raw)


def test_snapshots_bring_a_state_back(running):
    contract = GatewayLogContract(connect(running.url), DEV_CONTRACT)
    snapshot = call(running, "evm_snapshot")["result"]
    before = call(running, "eth_getBlockByNumber", "latest")["result"]
    prepared = contract.prepare_reserve(
        OTHER,
        b"\x05" * 32,
        nonce=contract.nonce(digest.address(OTHER.public_key)),
        fees=contract.fees(100),
    )
    contract.send(prepared.raw)
    assert contract.reserved(b"\x05" * 32)
    assert call(running, "evm_revert", snapshot)["result"] is True
    assert not contract.reserved(b"\x05" * 32)
    assert contract.receipt(prepared.tx) is None
    assert call(running, "eth_getBlockByNumber", "latest")["result"] == before
    contract.send(prepared.raw)
    assert contract.receipt(prepared.tx).succeeded


def test_logs_are_filtered_by_address_and_topic(running):
    contract = GatewayLogContract(connect(running.url), DEV_CONTRACT)
    address = digest.address(OTHER.public_key)
    for commitment in (b"\x06" * 32, b"\x07" * 32):
        contract.send(
            contract.prepare_reserve(
                OTHER, commitment, nonce=contract.nonce(address), fees=contract.fees(100)
            ).raw
        )
    topic = hexed(digest.keccak(b"Reserved(bytes32)"))

    def found(**query):
        return [
            event["topics"][1]
            for event in call(running, "eth_getLogs", {"fromBlock": "0x0", **query})["result"]
        ]

    one, two = hexed(b"\x06" * 32), hexed(b"\x07" * 32)
    assert found(topics=[topic])[-2:] == [one, two]
    assert found(topics=[None, one]) == [one]
    assert found(topics=[[topic], [one, two]]) == [one, two]
    assert found(address=running.contract, topics=[topic, two]) == [two]
    assert found(address=hexed(bytes(20))) == []
    assert found(topics=[topic, one, two]) == []


def test_blocks_come_by_the_clock_when_asked():
    with devnet.running(block_time=0.2) as slow:
        contract = GatewayLogContract(connect(slow.url), DEV_CONTRACT)
        prepared = contract.prepare_reserve(
            coincurve.PrivateKey(DEV_KEY),
            bytes(32),
            nonce=contract.nonce(DEV_ADDRESS),
            fees=contract.fees(100),
        )
        contract.send(prepared.raw)
        seen = contract.block_number()
        deadline = time.monotonic() + 90
        while contract.receipt(prepared.tx) is None or contract.block_number() < seen + 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_listens_on_loopback_only(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sensorhub.chain.devnet", "--host", "0.0.0.0", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert "loopback" in done.stderr


def test_ends_when_whoever_started_it_is_gone(running):
    code = (
        "import os\n"
        "from sensorhub.chain.devnet import running\n"
        "with running(deploy=False) as chain:\n"
        "    print(chain.process.pid, flush=True)\n"
        "    os._exit(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    pid = int(done.stdout)
    # Its output goes to a pipe of the dead parent; reading its state needs no such thing.
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.02)
    pytest.fail(f"the development chain {pid} outlived its parent")


def test_a_taken_port_is_named(running):
    port = running.url.rpartition(":")[2]
    with pytest.raises(ChainError), devnet.running(port=int(port)):
        pass
