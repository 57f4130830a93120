"""The poster against real chains: what it posts, and what it survives."""

import contextlib
import http.server
import itertools
import json
import multiprocessing
import random
import shutil
import signal
import threading
import time
import urllib.request
from pathlib import Path

import coincurve
import pytest

from sensorhub.chain import digest
from sensorhub.chain.contract import GatewayLogContract, connect
from sensorhub.chain.devchain import DEV_KEY
from sensorhub.chain.errors import (
    ChainError,
    FeeError,
    ForkError,
    MissingContractError,
    RefusedError,
    UnreachableError,
)
from sensorhub.chain.poster import Poster
from sensorhub.chain.records import Records
from sensorhub.log.entries import ArtefactEntry, Genesis, encode_entry
from sensorhub.log.log import Log
from sensorhub.log.note import NoteSigner
from sensorhub.log.reader import LogReader
from sensorhub.status import StatusFile, read_all

RELAY = coincurve.PrivateKey(DEV_KEY)
ORIGIN = "site.gateway/sensorhub"
FIRST_MS = 1_763_855_000_000


def other_contract(chain):
    """A contract that is no GatewayLog: its code stops at once."""
    returns_stop = bytes.fromhex("60015f8160095f39f300")
    web3 = chain.web3
    signed = web3.eth.account.sign_transaction(
        {
            "data": returns_stop,
            "value": 0,
            "gas": 100_000,
            "nonce": chain.nonce(),
            "chainId": chain.chain_id,
            "maxFeePerGas": chain.fees().most,
            "maxPriorityFeePerGas": chain.fees().tip,
        },
        RELAY.secret,
    )
    receipt = web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(signed.raw_transaction))
    return GatewayLogContract(web3, bytes.fromhex(receipt["contractAddress"][2:]))


class Site:
    """A gateway's data directory with a real log, and a poster that is stepped by hand."""

    def __init__(self, path, chain, *, key=None, genesis=None):
        self.path = path
        self.chain = chain
        self.key = key or coincurve.PrivateKey()
        self.note_key = NoteSigner.generate(ORIGIN)
        self.log = Log.open(path / "log", origin=ORIGIN, signer=self.note_key)
        self.log.append(encode_entry(genesis or self.genesis()))
        self.log.commit()
        self.log.checkpoint()
        self.reader = LogReader(path / "log")
        self.log_id = self.reader.leaf(0)
        self.posters = []

    def genesis(self, **changes):
        named = {"chain_id": self.chain.chain_id, "contract": self.chain.contract.address, **changes}
        return Genesis("site", "gateway", self.note_key.public_key, **named)

    @property
    def address(self):
        return digest.address(self.key.public_key)

    def grow(self, count):
        """Appends entries, each a second after the one before, and signs the log's checkpoint."""
        for index in range(self.log.size, self.log.size + count):
            self.log.append(
                encode_entry(ArtefactEntry(FIRST_MS + 1000 * index, "dataset", bytes(32), str(index)))
            )
        self.log.commit()
        self.log.checkpoint()

    def poster(self, *, contract=None, reader=None, path=None, **options):
        """A poster as if its process had just started; posts whenever the log grew."""
        for old in self.posters:
            old.close()
        made = Poster(
            reader or self.reader,
            contract or self.chain.contract,
            options.pop("key", self.key),
            path or self.path / "chain.sqlite",
            **{"interval_s": 1e-6, "confirmations": 0, **options},
        )
        self.posters = [made]
        return made

    def on_chain(self):
        """Checkpoints of the log in the contract's events, oldest first."""
        return [event.checkpoint for event in reversed(list(self.chain.contract.history(self.log_id)))]

    def recorded(self):
        records = self.posters[0]._records
        rows = records._anchored_all("ORDER BY seq")
        return [row.signed.checkpoint for row in rows]

    def close(self):
        for one in self.posters:
            one.close()
        self.reader.close()
        self.log.close()


def settle(poster, *, seconds=90.0):
    """Steps until the poster has nothing to do."""
    deadline = time.monotonic() + seconds
    while True:
        delay = poster.step()
        if poster.status()["state"] in ("idle", "waiting for the log"):
            return
        assert time.monotonic() < deadline
        time.sleep(min(delay, 0.02))


@pytest.fixture
def make_site(tmp_path):
    made = []

    def make(chain, name="gateway", *, money=True, **options):
        site = Site(tmp_path / name, chain, **options)
        if money:
            chain.fund(site.address)
        made.append(site)
        return site

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site, chain):
    return make_site(chain)


def test_opens_the_log_and_posts_what_it_holds(site):
    site.grow(9)
    poster = site.poster()
    settle(poster)
    [checkpoint] = site.on_chain()
    assert (checkpoint.seq, checkpoint.size, checkpoint.root) == (1, 10, site.reader.root(10))
    assert (checkpoint.prev, checkpoint.start, checkpoint.end) == (bytes(32), 0, FIRST_MS + 9000)
    assert site.recorded() == [checkpoint]
    record = poster._records.newest()
    assert record.signed.note == site.reader.checkpoint()
    assert (
        digest.recover(
            digest.digest(checkpoint, site.chain.chain_id, site.chain.contract.address),
            record.signed.signature,
        )
        == site.address
    )
    receipt = site.chain.contract.receipt(record.tx)
    assert (record.block, record.gas) == (receipt.block, receipt.gas)


def test_each_checkpoint_follows_the_one_before(site):
    poster = site.poster()
    for count in (0, 1, 5, 300):
        site.grow(count)
        settle(poster)
    first, *others = site.on_chain()
    assert [first.size, *(one.size for one in others)] == [1, 2, 7, 307]
    assert [one.start for one in others] == [FIRST_MS + 1000 * index for index in (1, 2, 7)]
    assert [one.end for one in others] == [FIRST_MS + 1000 * index for index in (1, 6, 306)]
    assert site.recorded() == [first, *others]


def test_posts_nothing_when_the_log_did_not_grow(site):
    settle(site.poster())
    nonce = site.chain.contract.nonce(site.address)
    for _ in range(3):
        settle(site.poster())
    assert site.chain.contract.nonce(site.address) == nonce
    assert len(site.on_chain()) == 1


def test_what_was_mined_while_it_looked_is_not_sent_again(site, monkeypatch):
    """Of a log that was reserved or opened between two looks at the chain."""
    contract = site.chain.contract
    head, nonce = contract.head, contract.nonce
    before = head(site.log_id)
    site.poster().step()
    wait_for(lambda: nonce(site.address) == 1)
    poster, stale = site.poster(), [0]
    monkeypatch.setattr(contract, "nonce", lambda of: stale.pop() if stale else nonce(of))
    assert poster.step() == 0.0
    assert stale == []
    poster.step()
    wait_for(lambda: head(site.log_id).opened)
    stale.append(before)
    monkeypatch.setattr(contract, "head", lambda of: stale.pop() if stale else head(of))
    assert poster.step() == 0.0
    assert stale == []
    settle(poster)
    assert nonce(site.address) == 3  # reserve, open and a post
    assert len(site.on_chain()) == 1


def test_waits_for_the_interval_also_after_a_restart(site):
    now = [FIRST_MS]
    options = {"interval_s": 60, "clock": lambda: now[0]}
    settle(site.poster(**options))
    site.grow(3)
    now[0] += 59_000
    settle(site.poster(**options))
    assert len(site.on_chain()) == 1
    now[0] += 1_000
    settle(site.poster(**options))
    assert len(site.on_chain()) == 2


def test_an_empty_log_is_waited_for(tmp_path, chain):
    poster = Poster(LogReader(tmp_path / "log"), chain.contract, RELAY, tmp_path / "chain.sqlite")
    assert poster.step() > 0
    assert poster.status()["state"] == "waiting for the log"
    assert (poster.cursor(), poster.status()["lag"]) == (0, 0)
    poster.close()


def test_a_post_is_final_after_enough_blocks(site):
    poster = site.poster(confirmations=3)
    settle(poster)
    assert poster.status()["last_confirmed"] is False
    site.chain.mine(3)
    settle(poster)
    assert poster.status()["last_confirmed"] is True


def test_status_says_how_far_the_chain_is(site):
    site.grow(4)
    poster = site.poster()
    settle(poster)
    site.grow(2)
    status = poster.status()
    newest = poster._records.newest()
    assert status["cursor"] == status["last_size"] == 5
    assert (status["posted"], status["last_seq"], status["lag"], status["error"]) == (1, 1, 2, None)
    assert status["last_tx"] == "0x" + newest.tx.hex()
    assert status["gas_last"] == status["gas_mean"] == newest.gas > 21_000


def test_every_status_field_is_documented(site):
    readme = (Path(__file__).parents[2] / "gateway/sensorhub/chain/README.md").read_text()
    assert [name for name in site.poster().status() if f"`{name}`" not in readme] == []


class TestFees:
    @pytest.fixture
    def base(self, chain):
        """The base fee, which stays while no block comes."""
        chain.rpc("evm_setAutomine", False)
        chain.mine()  # whatever an earlier test has left
        yield chain.web3.eth.get_block("latest")["baseFeePerGas"]
        chain.rpc("evm_setAutomine", True)

    def test_leave_room_for_the_base_fee_to_double(self, chain, base):
        fees = chain.contract.fees(1000)
        assert fees.most == 2 * base + fees.tip
        assert fees.tip > 0

    def test_never_exceed_the_limit(self, chain, base):
        limit = (base + 1) / 1e9
        fees = chain.contract.fees(limit)
        assert max(fees.most, fees.tip) <= limit * 1e9
        assert chain.contract.fees(limit, raised=3.0).most <= limit * 1e9
        with pytest.raises(FeeError):
            chain.contract.fees((base - 1) / 1e9)

    def test_take_the_middle_of_what_others_paid_in_any_order(self, chain, proxied):
        """eth-tester lists blocks newest first; a server without the method is no obstacle either."""
        _proxy, contract = proxied
        tips = [[3], [0], [9], [1], [5]]
        for order in (tips, tips[::-1], sorted(tips)):
            contract.web3.eth.fee_history = lambda *_, order=order: {"reward": order}
            assert contract.fees(1000).tip == 4
        contract.web3.eth.fee_history = lambda *_: {"reward": []}
        assert contract.fees(1000).tip == 10**9


class TestRelay:
    def test_a_checkpoint_that_another_brought_is_recorded_with_his_transaction(self, site):
        poster = site.poster()
        settle(poster)
        site.grow(3)
        signed = poster._next()
        poster._records.add(signed)
        newest = poster._records.newest().signed.checkpoint
        chain = site.chain
        prepared = chain.contract.prepare_post(
            RELAY,
            newest,
            signed.checkpoint,
            site.reader.consistency(1, 4),
            signed.signature,
            nonce=chain.nonce(),
            fees=chain.fees(),
        )
        receipt = chain.send(prepared)
        nonce = chain.contract.nonce(site.address)
        settle(poster)
        assert poster._records.newest().tx == receipt.tx
        assert site.recorded() == site.on_chain()
        assert chain.contract.nonce(site.address) == nonce


class TestReorganisation:
    def test_vanished_checkpoints_are_posted_again_unchanged(self, site):
        settle(site.poster())
        snapshot = site.chain.snapshot()
        for count in (3, 4, 5):
            site.grow(count)
            settle(site.poster())
        before = site.recorded()
        site.chain.revert(snapshot)
        assert len(site.on_chain()) == 1
        settle(site.poster())
        assert site.recorded() == site.on_chain() == before

    def test_the_opening_may_vanish_too(self, site):
        snapshot = site.chain.snapshot()
        settle(site.poster())
        site.grow(3)
        settle(site.poster())
        before = site.recorded()
        site.chain.revert(snapshot)
        assert not site.chain.contract.head(site.log_id).opened
        settle(site.poster())
        assert site.recorded() == site.on_chain() == before

    def test_a_checkpoint_in_another_block_is_recorded_there(self, site):
        settle(site.poster())
        site.grow(3)
        snapshot = site.chain.snapshot()
        poster = site.poster(confirmations=100)
        poster.step()
        raw = poster._records.outgoing().flight.raw
        settle(poster)
        newest = poster._records.newest()
        site.chain.revert(snapshot)
        site.chain.mine(4)
        site.chain.contract.send(raw)
        settle(poster)
        moved = poster._records.newest()
        assert moved.signed == newest.signed
        assert moved.block == newest.block + 4
        assert site.chain.contract.receipt(moved.tx).block == moved.block
        assert site.recorded() == site.on_chain()


class TestLostRecords:
    def test_are_made_anew_from_the_chain(self, site):
        for count in (0, 3, 4):
            site.grow(count)
            settle(site.poster())
        before = site.posters[0]._records._anchored_all("ORDER BY seq")
        site.posters.pop().close()
        for file in site.path.glob("chain.sqlite*"):
            file.unlink()
        poster = site.poster()
        settle(poster)
        after = poster._records._anchored_all("ORDER BY seq")
        kept = [(row.signed.checkpoint, row.signed.signature, row.tx, row.block, row.gas) for row in before]
        assert [
            (row.signed.checkpoint, row.signed.signature, row.tx, row.block, row.gas) for row in after
        ] == kept
        site.grow(5)
        settle(poster)
        assert [one.seq for one in site.on_chain()] == [1, 2, 3, 4]

    def test_of_an_older_copy_are_completed(self, site):
        settle(site.poster())
        site.posters.pop().close()
        shutil.copy(site.path / "chain.sqlite", site.path / "old.sqlite")
        for count in (3, 4):
            site.grow(count)
            settle(site.poster())
        site.posters.pop().close()
        settle(site.poster(path=site.path / "old.sqlite"))
        assert site.recorded() == site.on_chain()
        assert len(site.recorded()) == 3


class TestDanger:
    """Whatever could end in two stories of one log stops the poster before it sends anything."""

    def stops(self, site, poster, match):
        nonce = site.chain.contract.nonce(site.address)
        for _ in range(2):
            with pytest.raises(ForkError, match=match):
                poster.step()
        assert site.chain.contract.nonce(site.address) == nonce

    def test_a_log_that_is_behind_the_chain(self, site):
        site.grow(3)
        site.log.checkpoint()
        shutil.copytree(site.path / "log", site.path / "backup")
        settle(site.poster())
        site.grow(5)
        settle(site.poster())
        old = LogReader(site.path / "backup")
        self.stops(site, site.poster(reader=old), "old copy of the log was restored")
        self.stops(
            site, site.poster(reader=old, path=site.path / "new.sqlite"), "old copy of the log was restored"
        )

    def test_a_log_with_other_entries(self, site, make_site):
        site.grow(5)
        settle(site.poster())
        twin = make_site(site.chain, "twin", key=site.key, genesis=site.genesis(), money=False)
        assert twin.log_id == site.log_id
        for index in range(1, 9):
            twin.log.append(encode_entry(ArtefactEntry(index, "model", bytes(32), "something else")))
        twin.log.commit()
        twin.log.checkpoint()
        self.stops(twin, twin.poster(), "other entries at the same places")

    def test_a_log_that_another_key_holds(self, site):
        settle(site.poster())
        other = coincurve.PrivateKey()
        self.stops(site, site.poster(key=other), "lets 0x" + site.address.hex())

    def test_a_log_that_was_closed(self, site):
        settle(site.poster())
        contract, chain = site.chain.contract, site.chain
        hashed = digest.typed_digest(digest.close_hash(site.log_id, 0), chain.chain_id, contract.address)
        prepared = contract.prepare_close(
            RELAY,
            site.log_id,
            signature=digest.sign(hashed, site.key),
            nonce=chain.nonce(),
            fees=chain.fees(),
        )
        chain.send(prepared)
        site.grow(3)
        self.stops(site, site.poster(), "closed")

    def test_a_log_that_was_begun_for_another_contract(self, make_site, chain):
        site = make_site(chain)
        other = make_site(chain, "other", genesis=site.genesis(contract=b"\x01" * 20))
        self.stops(other, other.poster(), "begun for contract 0x0101")


class TestTrouble:
    def test_records_of_another_contract_are_not_mixed_in(self, site):
        settle(site.poster())
        others = Records(site.path / "other.sqlite")
        others.identify(1, b"\x01" * 20, site.log_id)
        others.close()
        with pytest.raises(ChainError, match=r"0x0101.*move the file away"):
            site.poster(path=site.path / "other.sqlite").step()

    def test_two_posters_do_not_share_records(self, site):
        site.poster()
        with pytest.raises(ChainError, match="posted from .* already"):
            Records(site.path / "chain.sqlite")

    def test_no_money(self, make_site, chain):
        site = make_site(chain, money=False)
        with pytest.raises(
            RefusedError, match="0x" + site.address.hex() + " cannot pay.*chain address"
        ) as said:
            settle(site.poster())
        assert "b'" not in str(said.value)

    def test_a_chain_that_is_too_dear_is_waited_for(self, site):
        poster = site.poster(max_fee_gwei=1e-9)
        with pytest.raises(FeeError, match="max_fee_gwei"):
            poster.step()
        assert site.chain.contract.nonce(site.address) == 0

    def test_no_contract_at_the_address(self, site):
        nothing = GatewayLogContract(site.chain.web3, b"\x01" * 20)
        with pytest.raises(MissingContractError, match=r"no contract at 0x0101.*restarted is empty"):
            nothing.check()

    def test_another_contract_at_the_address(self, chain):
        with pytest.raises(MissingContractError, match="is not a GatewayLog"):
            other_contract(chain).check()

    def test_nobody_listens(self, site, free_port):
        contract = GatewayLogContract(
            connect(f"http://user:secret@127.0.0.1:{free_port()}/key"), site.chain.contract.address
        )
        with pytest.raises(UnreachableError, match="is the chain running") as caught:
            site.poster(contract=contract).step()
        assert "secret" not in str(caught.value)
        assert "key" not in str(caught.value)


class Proxy:
    """Stands between the poster and the chain, as a network would, and fails when told to.

    Attributes:
        fails: says of each JSON-RPC method called: `pass`; `drop`: hang up before the request reaches the
            chain; `mute`: hand the request over and hang up instead of answering.
        failed: how many requests failed.
    """

    def __init__(self, url):
        self.fails = lambda _method: "pass"
        self.failed = 0
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fate = proxy.fails(json.loads(body)["method"])
                proxy.failed += fate != "pass"
                if fate == "drop":
                    self.close_connection = True
                    return
                request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
                answer = urllib.request.urlopen(request, timeout=90).read()
                if fate == "mute":
                    self.close_connection = True
                    return
                # In one write: two small ones would wait for the other side's delayed acknowledgement.
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
                self.wfile.write(head.encode() + answer)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def proxied(site):
    """The site's contract seen through a proxy."""
    proxy = Proxy(site.chain.url)
    yield proxy, GatewayLogContract(connect(proxy.url, timeout=90), site.chain.contract.address)
    proxy.close()


class TestNetwork:
    def test_a_network_that_fails_all_the_time_costs_time_only(self, site, proxied):
        """Every tenth request is lost, or its answer is, from opening the log to the third checkpoint."""
        proxy, contract = proxied
        poster = site.poster(contract=contract)
        chance = random.Random(7)
        proxy.fails = lambda _method: chance.choice(["drop", "mute", *["pass"] * 18])
        for count in (2, 3, 4):
            site.grow(count)
            deadline = time.monotonic() + 180
            while poster.cursor() < site.log.committed:
                with contextlib.suppress(UnreachableError):
                    poster.step()
                assert time.monotonic() < deadline
        assert proxy.failed > 2
        assert [one.seq for one in site.on_chain()] == [1, 2, 3]
        assert site.recorded() == site.on_chain()
        assert site.chain.contract.nonce(site.address) == 5  # reserve, open and three posts

    @pytest.mark.parametrize("failure", ["drop", "mute"])
    def test_a_transaction_is_sent_again_but_never_twice(self, site, proxied, failure):
        proxy, contract = proxied
        poster = site.poster(contract=contract)
        settle(poster)
        site.grow(3)
        proxy.fails = lambda method: failure if method == "eth_sendRawTransaction" else "pass"
        with pytest.raises(UnreachableError):
            poster.step()
        flight = poster._records.outgoing().flight
        proxy.fails = lambda _method: "pass"
        settle(poster)
        assert poster._records.newest().tx == flight.tx
        assert site.chain.contract.nonce(site.address) == 4

    def test_a_transaction_whose_answer_was_lost_with_the_process_is_found_again(self, site, proxied):
        proxy, contract = proxied
        settle(site.poster(contract=contract))
        site.grow(3)
        proxy.fails = lambda method: "mute" if method == "eth_sendRawTransaction" else "pass"
        with pytest.raises(UnreachableError):
            site.poster(contract=contract).step()
        proxy.fails = lambda _method: "pass"
        wait_for(lambda: len(site.on_chain()) == 2)  # taken is not yet mined
        nonce = site.chain.contract.nonce(site.address)
        settle(site.poster(contract=contract))
        assert site.chain.contract.nonce(site.address) == nonce
        assert site.recorded() == site.on_chain()
        assert len(site.on_chain()) == 2

    def test_the_loop_goes_on_while_the_chain_is_down(self, site, proxied):
        proxy, contract = proxied
        proxy.fails = lambda _method: "drop"
        stop = threading.Event()
        poster = site.poster(contract=contract)
        loop = threading.Thread(target=poster.run, args=(stop, StatusFile(site.path, "chain")))
        loop.start()
        try:
            wait_for(lambda: read_all(site.path).get("chain", {}).get("failures", 0) >= 1)
            status = read_all(site.path)["chain"]
            assert status["state"] == "retrying"
            assert "is the chain running" in status["error"]
            site.grow(3)
            proxy.fails = lambda _method: "pass"
            wait_for(lambda: read_all(site.path)["chain"]["cursor"] == 4)
            wait_for(lambda: read_all(site.path)["chain"]["error"] is None)
        finally:
            stop.set()
            loop.join(90)
        assert not loop.is_alive()


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestRestart:
    @pytest.mark.parametrize("kind", ["eth-tester", "anvil"])
    def test_a_chain_begun_anew_gets_every_checkpoint_again(self, start_chain, make_site, free_port, kind):
        key = coincurve.PrivateKey()
        funded, port = [digest.address(key.public_key)], free_port()
        with start_chain(kind, port=port, funded=funded) as chain:
            site = make_site(chain, key=key, money=False)
            for count in (0, 3, 4):
                site.grow(count)
                settle(site.poster())
            poster = site.posters[0]
            before = poster._records._anchored_all("ORDER BY seq")
        with pytest.raises(UnreachableError):
            poster.step()
        with start_chain(kind, port=port, funded=funded):
            settle(poster)
            after = poster._records._anchored_all("ORDER BY seq")
            assert [row.signed for row in after] == [row.signed for row in before]
            assert site.recorded() == site.on_chain()

    def test_killing_the_poster_at_any_moment_posts_nothing_twice(self, site, proxied):
        """At its first, second, third ... request: before the chain has it, and before the poster has the answer."""
        proxy, _contract = proxied
        chain = site.chain
        first_block = chain.contract.block_number() + 1
        for place in range(1, 17):
            for fate in ("drop", "mute"):
                site.grow(1)
                child = multiprocessing.get_context("fork").Process(target=post_on, args=(site, proxy.url))
                requests, started = itertools.count(1), threading.Event()

                def kill(_method, child=child, requests=requests, started=started, place=place, fate=fate):
                    if next(requests) < place:
                        return "pass"
                    started.wait(90)  # it may ask before `start` has returned here
                    child.kill()
                    return fate

                proxy.fails = kill
                child.start()
                started.set()
                child.join(90)
                assert child.exitcode == -signal.SIGKILL
        settle(site.poster())
        posted = site.on_chain()
        assert len(posted) >= 3
        assert [one.seq for one in posted] == list(range(1, len(posted) + 1))
        assert posted[-1].size == site.log.committed
        assert site.recorded() == posted
        sent = [
            tx
            for number in range(first_block, chain.contract.block_number() + 1)
            for tx in chain.web3.eth.get_block(number, True)["transactions"]
            if bytes.fromhex(tx["from"][2:]) == site.address
        ]
        assert all(chain.contract.receipt(bytes(tx["hash"])).succeeded for tx in sent)
        # A reservation is remembered by the contract only, so a crash at the start may repeat that one.
        assert len(posted) + 2 <= len(sent) <= len(posted) + 3


def post_on(site, url):
    """What the child process runs: a poster with connections of its own."""
    contract = GatewayLogContract(connect(url), site.chain.contract.address)
    poster = Poster(
        LogReader(site.path / "log"),
        contract,
        site.key,
        site.path / "chain.sqlite",
        interval_s=1e-6,
        confirmations=0,
    )
    while True:
        poster.step()


class TestStuckTransaction:
    """On anvil, which keeps a pool of transactions as public chains do."""

    @pytest.fixture
    def held(self, start_chain, make_site):
        with start_chain("anvil") as chain:
            site = make_site(chain)
            settle(site.poster())
            chain.rpc("evm_setAutomine", False)
            yield site

    def test_is_waited_for(self, held):
        held.grow(3)
        poster = held.poster()
        for _ in range(4):
            poster.step()
        assert poster.status()["state"] == "posting"
        assert len(held.chain.rpc("txpool_content")["pending"]) == 1
        held.chain.mine()
        settle(poster)
        assert held.recorded() == held.on_chain()

    def test_is_replaced_at_a_higher_fee_and_the_same_nonce(self, held):
        held.grow(3)
        poster = held.poster(replace_after_s=0)
        poster.step()
        first = poster._records.outgoing().flight
        poster.step()
        second = poster._records.outgoing().flight
        assert second.tx != first.tx
        assert second.nonce == first.nonce
        assert second.max_fee >= first.max_fee * 1.1
        assert second.tip >= first.tip * 1.1
        held.chain.mine()
        settle(poster)
        assert poster._records.newest().tx == second.tx
        assert held.chain.contract.nonce(held.address) == 4
        assert held.recorded() == held.on_chain()

    def test_stays_when_the_limit_allows_no_higher_fee(self, held):
        held.grow(3)
        most = held.chain.contract.fees(1000).most / 1e9
        poster = held.poster(replace_after_s=0, max_fee_gwei=most)
        poster.step()
        first = poster._records.outgoing().flight
        for _ in range(3):
            poster.step()
        assert poster._records.outgoing().flight == first
        held.chain.mine()
        settle(poster)
        assert poster._records.newest().tx == first.tx

    def test_that_the_pool_forgot_is_sent_again(self, held):
        held.grow(3)
        poster = held.poster()
        poster.step()
        flight = poster._records.outgoing().flight
        held.chain.rpc("anvil_dropTransaction", "0x" + flight.tx.hex())
        again = held.poster()
        again.step()
        assert again._records.outgoing().flight.tx == flight.tx
        held.chain.mine()
        settle(again)
        assert again._records.newest().tx == flight.tx
