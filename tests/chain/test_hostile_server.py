"""An RPC server may answer anything: the poster says what is wrong, tries again later, and lives."""

import http.server
import json
import subprocess
import sys
import threading

import coincurve
import pytest

from sensorhub.chain.contract import GatewayLogContract, connect
from sensorhub.chain.errors import ChainError, UnreachableError
from sensorhub.chain.poster import Poster
from sensorhub.log.entries import Genesis, encode_entry
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader

CONTRACT = bytes(range(20))
GOOD = {
    "eth_chainId": "0x1",
    "eth_getCode": "0x60",
    "eth_call": "0x" + "00" * 160,
    "eth_getTransactionCount": "0x0",
    "eth_blockNumber": "0x10",
    "eth_getBlockByNumber": {"number": "0x10", "baseFeePerGas": "0x7"},
    "eth_feeHistory": {"baseFeePerGas": ["0x1", "0x1"], "reward": [["0x1"]], "oldestBlock": "0x1"},
    "eth_estimateGas": "0x5208",
    "eth_getLogs": [],
    "eth_getTransactionReceipt": None,
}
VALUES = [
    None,
    True,
    -1,
    10**400,
    1.5,
    "",
    "0x",
    "0xzz",
    "x" * 50,
    "0x" + "ff" * 100,
    [],
    {},
    [[]],
    [{}],
    {"a": 1},
]
BODIES = [
    b"",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"jsonrpc":"2.0","id":1,"result":NaN}',
    b'{"jsonrpc":"2.0","id":1,"error":5}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":"x"}}',
    b'{"jsonrpc":"2.0","id":1,"error":{"message":["\\u001b[2J"]}}',
]


@pytest.fixture(scope="module")
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answers = {**GOOD, **self.server.wrong}
            answer = answers.get(request["method"], answers.get("*"))
            if not isinstance(answer, bytes):
                answer = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.wrong = {}
        running.url = f"http://user:SECRET@127.0.0.1:{running.server_port}/SECRET?k=SECRET"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    path = tmp_path_factory.mktemp("log")
    signer = NoteSigner("lab.g/sensorhub", bytes(range(32)))
    with Log.open(path, origin="lab.g/sensorhub", signer=signer) as log:
        log.append(encode_entry(Genesis("lab", "g", signer.public_key, 1, CONTRACT)))
        log.commit()
    return LogReader(path)


@pytest.mark.parametrize("method", sorted(GOOD))
def test_a_wrong_answer_is_a_chain_error_and_nothing_else(server, reader, method, tmp_path):
    contract = GatewayLogContract(connect(server.url), CONTRACT)
    for number, answer in enumerate([*VALUES, *BODIES]):
        server.wrong = {method: answer}
        poster = Poster(reader, contract, coincurve.PrivateKey(b"\5" * 32), tmp_path / f"{number}.sqlite")
        try:
            poster.step()
        except ChainError as error:
            assert "SECRET" not in str(error)
            assert str(error).isprintable()
        finally:
            poster.close()


@pytest.mark.parametrize("chain_id", [None, -1, 2**64, 1.5, True, [], "0x" + "f" * 64])
def test_a_chain_id_that_is_none_is_refused(server, chain_id):
    server.wrong = {"eth_chainId": chain_id}
    with pytest.raises(UnreachableError):
        GatewayLogContract(connect(server.url), CONTRACT).chain_id()


def test_an_answer_that_is_too_large_is_not_read_to_its_end(server):
    server.wrong = {"eth_chainId": b" " * (16 * 1024 * 1024 + 1)}
    with pytest.raises(UnreachableError, match="answered more than 16777216 bytes"):
        GatewayLogContract(connect(server.url), CONTRACT).chain_id()


def test_the_chain_process_keeps_the_usual_recursion_limit():
    code = "import sys, sensorhub.chain.poster; print(sys.getrecursionlimit())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "1000"
