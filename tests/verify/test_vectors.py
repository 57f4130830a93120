"""The corpus of proofs, for this verifier and for those of others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sensorhub.log.merkle import leaf_hash, verify_inclusion
from sensorhub.log.note import NoteVerifier, open_checkpoint
from sensorhub.verify.check import check_proof
from sensorhub.verify.proof import format_proof, parse_proof
from sensorhub.verify.tlog_proof import format_tlog_proof, parse_tlog_proof
from sensorhub.verify.trust import Trust

CORPUS = Path(__file__).parents[1] / "vectors" / "proofs"
EXPECTED = json.loads((CORPUS / "expected.json").read_text())
FILES = sorted(EXPECTED["proofs"])


@pytest.mark.parametrize("file", FILES)
def test_the_verifier_says_what_is_expected(file):
    report = check_proof((CORPUS / file).read_bytes())
    assert {answer.name: str(answer.state) for answer in report.answers} == EXPECTED["proofs"][file]


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("valid/")])
def test_a_valid_file_is_written_again_as_it_was(file):
    data = (CORPUS / file).read_bytes()
    assert format_proof(parse_proof(data)) == data


def test_every_invalid_file_fails_somewhere_and_every_valid_one_is_intact():
    for file, answers in EXPECTED["proofs"].items():
        named = {name for name, state in answers.items() if state == "no"}
        assert (answers["intact"] == "yes" and answers["logged"] == "yes") or file.startswith("invalid/")
        assert named or file.startswith("valid/")


def test_the_log_of_the_corpus_can_be_pinned():
    trust = Trust(log_id=bytes.fromhex(EXPECTED["logId"][2:]), log_key=NoteVerifier.parse(EXPECTED["logKey"]))
    data = (CORPUS / "valid" / "judged-and-anchored.proof.json").read_bytes()
    assert check_proof(data, trust=trust).failed() == ()


def test_the_tlog_proof_holds_by_merkle_alone():
    data = (CORPUS / "valid" / "judged-and-anchored.tlog-proof").read_bytes()
    proof = parse_tlog_proof(data)
    assert format_tlog_proof(proof) == data
    checkpoint = open_checkpoint(proof.checkpoint.encode(), NoteVerifier.parse(EXPECTED["logKey"]))
    verify_inclusion(leaf_hash(proof.extra), proof.index, checkpoint.size, proof.path, checkpoint.root)


def test_the_corpus_is_what_its_script_writes(tmp_path):
    subprocess.run([sys.executable, str(CORPUS / "make.py"), str(tmp_path)], check=True, timeout=300)
    written = {
        path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    kept = {
        path.relative_to(CORPUS): path.read_bytes()
        for path in CORPUS.rglob("*")
        if path.is_file() and path.suffix in (".json", ".tlog-proof")
    }
    assert written == kept
