"""A JSON-RPC server that answers wrongly never makes an answer wrong: it leaves it open."""

import base64
import http.server
import json
import threading

import pytest

from sensorhub.verify.answers import ANCHORED, FLAGGED, State
from sensorhub.verify.chain_view import POSTED, ChainUnreachable, EventLog, posted
from sensorhub.verify.check import check_proof
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.log_files import LogUrl
from sensorhub.verify.proof import format_proof
from sensorhub.verify.rpc import RpcChain


@pytest.fixture
def server():
    """A server whose answer the test sets: bytes, or a function of the request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.headers = dict(self.headers)
            answer = self.server.answer
            body = answer if isinstance(answer, bytes) else json.dumps(answer(request)).encode()
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.status = 200
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "answered no JSON"),
        (b"[" * 5000, "answered JSON nested deeper than 32 levels"),
        (b'{"result": ' + b"[" * 2_000_000 + b"]" * 2_000_000 + b"}", "answered JSON nested deeper than 32"),
        (b'{"result": ' + b'"' * 1_000_001 + b"}", "answered no JSON"),
        (b'{"result": "' + b'\\\\"' * 1_000_000, "answered no JSON"),
        (b'{"result": NaN}', "answered no JSON"),
        (b'{"result": ' + b"9" * 5000 + b"}", "answered no JSON"),
        ('{"result":"0x1"}'.encode("utf-16"), "answered no JSON"),
        (b'{"result": "0x' + b"f" * 15_000_000 + b'"}', "answered no hex number"),
        (b'{"result": "0x1_0"}', "answered no hex number"),
        (b'{"result": "0x-1"}', "answered no hex number"),
        (b'{"result": "0x"}', "answered no hex number"),
        (b'{"error": {"message": "' + b"x" * 100_000 + b'"}}', "refused eth_chainId: x{300} ...$"),
        (b'{"error": {"message": "\\u001b[2J\\u202e"}}', r"refused eth_chainId: \\x1b\[2J\\u202e$"),
        (b"[]", "refused"),
        (b"{}", "refused"),
        (b'{"result": null, "error": {"message": "rate limit"}}', "refused eth_chainId: rate limit"),
        (b'{"result": "abc"}', "answered no hex number"),
        (b'{"result": 5}', "answered no hex number"),
        (b'{"result": "0xzz"}', "answered no hex number"),
        (b"x" * (16 * 1024 * 1024 + 1), "answered more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_answer_is_named(server, answer, problem):
    server.answer = answer
    with pytest.raises(ChainUnreachable, match=problem):
        RpcChain(server.url).chain_id()


def test_what_is_deep_in_a_string_is_not_deep(server):
    server.answer = json.dumps({"result": "0x1", "note": "[" * 100 + '\\"' + "{" * 100}).encode()
    assert RpcChain(server.url).chain_id() == 1


def test_a_user_and_password_in_the_address_are_used_and_not_shown(server):
    server.answer = b'{"result": "0x7"}'
    chain = RpcChain(server.url.replace("//", "//who:p%40ss@"))
    assert chain.chain_id() == 7
    assert base64.b64decode(server.headers["Authorization"].removeprefix("Basic ")) == b"who:p@ss"
    assert "ss" not in chain.name
    assert "p@ss" not in repr(chain._address)


@pytest.mark.parametrize(
    "url", ["http://[", "http://h:99999", "http://h:x", "http:///x", "file:///etc", "http://a b", "\x1b"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ChainUnreachable, match="begins with http"):
        RpcChain(url)
    with pytest.raises(VerifyError, match="begins with http"):
        LogUrl(url)


def test_an_error_of_the_server_is_named(server):
    server.answer, server.status = b"", 429
    with pytest.raises(ChainUnreachable, match="answered 429 to eth_chainId"):
        RpcChain(server.url).chain_id()


@pytest.mark.parametrize(
    "receipt",
    [
        [],
        {},
        {"transactionHash": "0x00", "status": "0x1", "blockNumber": "0x1", "logs": []},
        {"transactionHash": "TX", "status": "0x1", "blockNumber": None, "logs": []},
        {"transactionHash": "TX", "status": "0x1", "blockNumber": "0x1", "logs": {}},
        {"transactionHash": "TX", "status": "0x1", "blockNumber": "0x1", "logs": [5]},
        {"transactionHash": "TX", "status": "0x1", "blockNumber": "0x1", "logs": [{"topics": 1}]},
        {"transactionHash": "TX", "status": "0x1", "blockNumber": "0x1", "logs": [{"topics": ["0x1"]}]},
    ],
)
def test_a_malformed_receipt_leaves_the_answer_open(server, sample, receipt):
    proof = sample.world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)
    text = json.dumps(receipt).replace("TX", "0x" + proof.anchor.tx.hex())

    def answer(request):
        if request["method"] == "eth_chainId":
            return {"result": hex(proof.anchor.chain_id)}
        if request["method"] == "eth_getTransactionReceipt":
            return {"result": json.loads(text)}
        return {"error": {"code": -32601, "message": "no such method"}}

    server.answer = answer
    report = check_proof(format_proof(proof), chain=RpcChain(server.url))
    assert report[ANCHORED].state is State.UNKNOWN
    assert report[FLAGGED].state is State.UNKNOWN
    assert "refused eth_getLogs: no such method" in report[FLAGGED].reason


@pytest.mark.parametrize(
    "event",
    [
        EventLog(bytes(20), (POSTED, bytes(32), b"\xff" * 32), bytes(160)),
        EventLog(bytes(20), (POSTED, bytes(5), bytes(32)), bytes(160)),
        EventLog(bytes(20), (POSTED, bytes(32), bytes(32)), b"\xff" * 160),
        EventLog(bytes(20), (POSTED, bytes(32), bytes(32)), bytes(159)),
    ],
)
def test_an_event_that_the_contract_cannot_have_made_is_refused(event):
    with pytest.raises(ChainUnreachable):
        posted([event], bytes(20))


def test_events_of_others_are_no_posts():
    good = (POSTED, bytes(32), bytes(32))
    assert len(posted([EventLog(bytes(20), good, bytes(160))], bytes(20))) == 1
    assert posted([EventLog(b"x" * 20, good, bytes(160))], bytes(20)) == []
    assert posted([EventLog(bytes(20), (bytes(32), *good[1:]), bytes(160))], bytes(20)) == []
    assert posted([EventLog(bytes(20), good[:2], bytes(160))], bytes(20)) == []
