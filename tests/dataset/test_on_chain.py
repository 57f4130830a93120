"""Proofs and datasets against a real chain: log, poster, development chain, the separate command."""

import json
import subprocess
import sys
import time
from pathlib import Path

import coincurve
import pytest

from sensorhub.chain import devnet, digest
from sensorhub.chain.contract import GatewayLogContract, connect
from sensorhub.chain.devchain import DEV_CHAIN_ID, DEV_CONTRACT, DEV_KEY
from sensorhub.chain.poster import Poster
from sensorhub.dataset.export import export
from sensorhub.dataset.heads import identity, read_heads
from sensorhub.dataset.prove import prove
from sensorhub.log.log import Log
from sensorhub.log.reader import LogReader
from sensorhub.verify.answers import ANCHORED, FLAGGED, State
from sensorhub.verify.chain_view import ChainUnreachable
from sensorhub.verify.check import check_proof
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.log_files import LogDirectory
from sensorhub.verify.manifest import About
from sensorhub.verify.proof import format_proof
from sensorhub.verify.rpc import RpcChain
from sensorhub.verify.saved_header import LEFT_OUT, SavedChain, make_saved_header, parse_saved_header
from sensorhub.verify.whole_log import check_log

TOOL = Path(__file__).parents[2] / "tools" / "verify"
KEY = coincurve.PrivateKey(DEV_KEY)
ABOUT = About("Test air", "Readings of a test.", "The testers", "CC-BY-4.0", "", 1_700_000_000_000)


@pytest.fixture(scope="module")
def site(tmp_path_factory, worlds):
    """A log on disk, posted twice to a running development chain."""
    path = tmp_path_factory.mktemp("gateway")
    sample = worlds.sample(DEV_CONTRACT, DEV_CHAIN_ID)
    world = sample.world
    with devnet.running() as chain:
        contract = GatewayLogContract(connect(chain.url), DEV_CONTRACT)
        log = Log.open(path / "log", origin=world.signer.name, signer=world.signer, checkpoint_interval=0)
        with LogReader(path / "log") as reader:
            poster = Poster(reader, contract, KEY, path / "chain.sqlite", interval_s=1e-6, confirmations=0)
            for entries in (world.entries_[:7], world.entries_[7:]):
                log.append_many(entries)
                log.commit()
                log.checkpoint()
                deadline = time.monotonic() + 120
                while poster.cursor() < reader.size():
                    assert time.monotonic() < deadline, poster.status()
                    poster.step()
                    time.sleep(0.01)
            poster.close()
            yield Site(path, sample, reader, chain.url, contract)
        log.close()


class Site:
    def __init__(self, path, sample, reader, url, contract):
        self.path, self.sample, self.reader, self.url, self.contract = path, sample, reader, url, contract
        self.heads = read_heads(path / "chain.sqlite", identity(reader))


def verify(*arguments):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def test_a_proof_from_the_log_on_disk_is_anchored_on_the_real_chain(site, tmp_path):
    assert [head.size for head in site.heads] == [7, 14]
    for heads in (site.heads, site.heads[:1]):
        proof = prove(site.reader, site.sample.message, heads=heads)
        assert proof.size == heads[-1].size
        report = check_proof(format_proof(proof), chain=RpcChain(site.url))
        assert report["logged"].holds
        assert report["device-signed"].holds
        assert report[ANCHORED].state is State.YES, report[ANCHORED]
        assert report[FLAGGED].state is State.NO
    file = tmp_path / "a.proof.json"
    file.write_bytes(format_proof(prove(site.reader, site.sample.message, heads=site.heads)))
    run = verify("proof", file, "--rpc", site.url)
    assert run.returncode == 0, run.stdout
    assert "All that was asked for holds" in run.stdout


def test_a_dataset_is_verified_by_the_separate_command(site, tmp_path):
    export(site.reader, tmp_path / "d", about=ABOUT, heads=site.heads)
    run = verify("dataset", tmp_path / "d", "--rpc", site.url, "--json")
    assert run.returncode == 0, run.stdout
    answers = json.loads(run.stdout)["answers"]
    assert {name: answer["state"] for name, answer in answers.items()} == {
        "intact": "yes",
        "rows": "yes",
        "device-signed": "yes",
        "logged": "yes",
        "anchored": "yes",
        "judged": "yes",
        "flagged": "no",
    }


def test_the_whole_log_agrees_with_every_checkpoint_in_the_contract(site):
    report = check_log(LogDirectory(site.path), chain=RpcChain(site.url), signatures=True)
    assert report[ANCHORED].reason == "all 2 checkpoints in the contract are states of this log"
    assert report.failed() == ()


def test_a_transaction_or_block_that_is_another_is_named(site):
    chain = RpcChain(site.url)
    data = format_proof(prove(site.reader, site.sample.message, heads=site.heads))
    tx = site.heads[-1].anchor.tx.hex().encode()
    assert check_proof(data.replace(tx, b"00" * 32), chain=chain).failed() == (
        "intact.digest",
        "anchored.transaction",
    )
    earlier = site.heads[0].anchor
    swapped = data.replace(tx, earlier.tx.hex().encode())
    assert {"anchored.block", "anchored.event"} <= set(check_proof(swapped, chain=chain).failed())


def test_another_contract_on_the_same_chain_does_not_know_the_log(site):
    head = RpcChain(site.url).head(DEV_CONTRACT, bytes(32))
    assert not head.known
    with pytest.raises(ChainUnreachable, match="answered 0 bytes where GatewayLog gives"):
        RpcChain(site.url).head(bytes(20), bytes(32))


def test_an_anchor_is_checked_offline_from_a_saved_header(site, tmp_path):
    file, saved = tmp_path / "a.proof.json", tmp_path / "header.json"
    proof = prove(site.reader, site.sample.message, heads=site.heads)
    file.write_bytes(format_proof(proof))
    run = verify("header", file, "--rpc", site.url, "-o", saved)
    assert run.returncode == 0, run.stderr
    block_hash = run.stdout.split("has the hash ")[1].split()[0]
    report = verify("proof", file, "--header", saved, "--block-hash", block_hash)
    assert report.returncode == 0, report.stdout
    assert "that you named, which is believed" in " ".join(report.stdout.split())
    other = verify("proof", file, "--header", saved, "--block-hash", "0x" + "00" * 32)
    assert other.returncode == 2
    assert "you named 0x00" in other.stderr
    unpinned = verify("proof", file, "--header", saved)
    assert unpinned.returncode == 9, unpinned.stdout
    assert f"give --block-hash {block_hash}" in " ".join(unpinned.stdout.split())
    whole = saved.read_bytes()
    for offset in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[offset] ^= 1
        with pytest.raises(VerifyError):
            SavedChain(parse_saved_header(bytes(changed)))
    # a header of another block, though whole, does not hold this event
    earlier = prove(site.reader, site.sample.message, heads=site.heads[:1])
    header = parse_saved_header(whole)
    report = check_proof(format_proof(earlier), chain=SavedChain(header, header.block_hash))
    assert report[ANCHORED].failed() == ("block", "event")
    assert report[FLAGGED].state is State.UNKNOWN


def test_a_header_is_made_whole_when_the_server_leaves_the_newest_fields_out(site):
    tx = "0x" + site.heads[-1].anchor.tx.hex()
    chain = RpcChain(site.url)
    receipt = chain._call("eth_getTransactionReceipt", tx)
    block = chain._call("eth_getBlockByNumber", receipt["blockNumber"], False)
    whole = make_saved_header(DEV_CHAIN_ID, block, [receipt], 0)
    assert {"withdrawalsRoot", "blobGasUsed", "parentBeaconBlockRoot", "requestsHash"} <= set(block)
    for name in LEFT_OUT:
        del block[name]
        assert make_saved_header(DEV_CHAIN_ID, block, [receipt], 0) == whole
    with pytest.raises(VerifyError, match="do not have the hash"):
        make_saved_header(DEV_CHAIN_ID, {**block, "gasUsed": "0x0"}, [receipt], 0)


def test_zz_a_flag_in_the_contract_is_found(site):
    world, contract = site.sample.world, site.contract
    signed = digest.typed_digest(
        digest.flag_hash(world.log_id, contract.head(world.log_id).nonce, 3, 5, "pump broken"),
        DEV_CHAIN_ID,
        DEV_CONTRACT,
    )
    prepared = contract.prepare_flag(
        KEY,
        world.log_id,
        3,
        5,
        "pump broken",
        signature=digest.sign(signed, KEY),
        nonce=contract.nonce(digest.address(KEY.public_key)),
        fees=contract.fees(1000),
    )
    contract.send(prepared.raw)
    data = format_proof(prove(site.reader, site.sample.message, heads=site.heads))
    report = check_proof(data, chain=RpcChain(site.url))
    assert report[FLAGGED].state is State.YES
    assert report[FLAGGED].reason == "the contract flags entries 3 to 4: 'pump broken'"
    other = format_proof(prove(site.reader, site.sample.unjudged, heads=site.heads))
    assert check_proof(other, chain=RpcChain(site.url))[FLAGGED].state is State.NO
