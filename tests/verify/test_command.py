"""The separate command: what it loads, what it says, how it ends."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sensorhub.log.note import NoteSigner
from sensorhub.verify import trie
from sensorhub.verify.answers import EXIT_CODES
from sensorhub.verify.chain_view import POSTED
from sensorhub.verify.command import main
from sensorhub.verify.proof import format_proof
from sensorhub.verify.saved_header import SavedHeader, format_saved_header

CORPUS = Path(__file__).parents[1] / "vectors" / "proofs"
TOOL = Path(__file__).parents[2] / "tools" / "verify"
ROOMS = {"addresses", "errors", "channels", "flags", "wire", "log", "chain", "verify"}
LOG_PARTS = {"merkle", "note", "entries"}
CHAIN_PARTS = {"digest", "untrusted"}
HEAVY = {
    "aiohttp",
    "amqtt",
    "eth",
    "eth_account",
    "msgspec",
    "numpy",
    "paho",
    "rich",
    "sqlite3",
    "typer",
    "web3",
}
DUMP = """
import runpy, sys
sys.argv = sys.argv[1:]
code = 0
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code
print("\\n".join(sys.modules), file=sys.stderr)
sys.exit(code)
"""


def verify(*arguments, **options):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


@pytest.fixture
def proof(sample):
    return sample.world.proof(sample.message, node=sample.enrolled_north, verdict=sample.verdict)


@pytest.fixture
def file(proof, tmp_path):
    path = tmp_path / "reading.proof.json"
    path.write_bytes(format_proof(proof))
    return path


def loaded(*arguments):
    run = subprocess.run(
        [sys.executable, "-c", DUMP, str(TOOL), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[:2000] + run.stdout
    return set(run.stderr.split())


def assert_pure(modules, *, allowed=frozenset()):
    ours = {tuple(name.split(".")) for name in modules if name.startswith("sensorhub.")}
    assert {name[1] for name in ours} <= ROOMS
    assert {name[2] for name in ours if name[1] == "log" and len(name) > 2} <= LOG_PARTS
    assert {name[2] for name in ours if name[1] == "chain" and len(name) > 2} <= CHAIN_PARTS
    assert {name.split(".")[0] for name in modules} & HEAVY <= allowed


def test_a_missing_package_is_named_with_the_remedy(file):
    run = subprocess.run(
        [sys.executable, "-S", str(TOOL), "proof", str(file)],  # without the packages
        capture_output=True,
        text=True,
        env={**os.environ, "SENSORHUB_VERIFY_PYTHON": "this one"},
    )
    assert run.returncode == 90
    assert "a package is missing: " in run.stderr
    assert "tools/setup run" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_command_loads_only_the_verifier_and_its_pure_parts(file):
    modules = loaded("proof", file, "--offline")
    assert "sensorhub.verify.check" in modules
    assert_pure(modules)
    assert "pyarrow" not in modules


def test_the_report_is_for_people(file):
    run = verify("proof", file, "--offline", "--details", env={"PYTHONIOENCODING": "utf-8"})
    assert run.returncode == 0
    assert "node alpha/north, boot 1, message 1" in run.stdout
    assert "pm2_5            8.0 µg/m³" in run.stdout
    assert " ✓ device-signed  yes      signed by node north" in run.stdout
    assert " ? anchored       unknown  not checked: no chain was asked (give --rpc or --header)" in run.stdout
    assert "✓ enrolment-in-tree: the enrolment is entry 1 of 14" in run.stdout
    assert "All that was asked for holds" in run.stdout
    plain = verify("proof", file, "--offline", env={"PYTHONIOENCODING": "ascii"})
    assert " + device-signed" in plain.stdout
    assert "pm2_5            8.0 ug/m3" in plain.stdout


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_whoever_stops_reading_gets_no_traceback(file, form):
    with subprocess.Popen(
        [sys.executable, str(TOOL), "proof", str(file), *form], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        run.stdout.close()  # as `| head -0` does
        said = run.stderr.read()
        assert run.wait(300) == verify("proof", file, *form).returncode
    assert said == b""


def test_the_report_is_for_machines_too(file, sample):
    run = verify("proof", file, "--json")
    report = json.loads(run.stdout)
    assert run.returncode == report["exitCode"] == 9
    assert report["answers"]["logged"]["state"] == "yes"
    assert report["answers"]["anchored"] == {
        **report["answers"]["anchored"],
        "state": "unknown",
        "holds": False,
    }
    assert report["answers"]["flagged"]["holds"] is False
    assert report["facts"]["logId"] == "0x" + sample.world.log_id.hex()
    assert [check["name"] for check in report["answers"]["intact"]["checks"]] == ["digest"]


def test_each_answer_has_its_exit_code(proof, tmp_path):
    path = tmp_path / "p"

    def code(changed, *arguments):
        path.write_bytes(changed if isinstance(changed, bytes) else format_proof(changed))
        return main(["proof", str(path), *arguments])

    assert code(proof, "--offline") == 0
    assert code(proof) == 9
    assert code(proof, "--require", "logged,device-signed") == 0
    assert code(proof, "--require", "anchored") == 9
    assert code(format_proof(proof) + b"\n") == EXIT_CODES["intact"] == 3
    assert code(replace(proof, node=None), "--offline") == EXIT_CODES["device-signed"] == 4
    assert code(replace(proof, note="x"), "--offline") == EXIT_CODES["logged"] == 5
    assert code(replace(proof, anchor=None)) == EXIT_CODES["anchored"] == 6
    assert code(replace(proof, anchor=None), "--offline") == 6
    assert code(replace(proof, verdict=None), "--offline") == EXIT_CODES["judged"] == 7
    assert code(replace(proof, verdict=None), "--require", "logged") == 0


def test_a_pinned_log_and_key_are_taken_from_the_command_line(file, sample, tmp_path, capsys):
    key = sample.world.signer.verifier_key
    (tmp_path / "key").write_text(key + "\n")
    for given in (key, tmp_path / "key"):
        assert main(["proof", str(file), "--offline", "--log-key", str(given)]) == 0
    assert main(["proof", str(file), "--offline", "--log-id", "0x" + sample.world.log_id.hex()]) == 0
    capsys.readouterr()
    assert main(["proof", str(file), "--offline", "--log-id", "0x" + "00" * 32]) == 5
    assert "not the one you named" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["proof", "nowhere"], "cannot read nowhere"),
        (["dataset", "nowhere"], "nowhere/manifest.json: cannot be read"),
        (["log", "nowhere"], "nowhere: no such directory"),
        (["proof", "FILE", "--rpc", "ftp://x"], "begins with http"),
        (["proof", "FILE", "--rpc", "http://x", "--offline"], "exclude each other"),
        (["proof", "FILE", "--log-id", "12"], "64 hex digits"),
        (["proof", "FILE", "--log-key", "nowhere"], "neither a key"),
        (["proof", "FILE", "--log-key", "a+b+c"], "verifier key"),
        (["proof", "FILE", "--require", "truth"], "answers here are intact, device-signed"),
        (["proof", "FILE", "--require", ""], "answers here are intact, device-signed"),
        (["proof", "FILE", "--require", " "], "answers here are intact, device-signed"),
        (["proof", "FILE", "--require", ","], "answers here are intact, device-signed"),
        (["proof", "FILE", "--require", "intact,,logged"], "answers here are intact, device-signed"),
        (["proof", "FILE", "--block-hash", "0x" + "11" * 32], "give both"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(arguments, problem, file, capsys):
    assert main([str(file) if argument == "FILE" else argument for argument in arguments]) == 2
    assert problem in capsys.readouterr().err


def test_an_unreachable_server_is_named_without_its_secret(file):
    run = verify("proof", file, "--rpc", "http://user:secret@127.0.0.1:9/key", "--require", "anchored")
    assert run.returncode == 9
    assert "127.0.0.1:9" in run.stdout
    assert "secret" not in run.stdout + run.stderr


def test_help_lists_every_exit_code():
    text = " ".join(verify("--help").stdout.split())
    for name, code in EXIT_CODES.items():
        assert f"{code} {name}" in text


def test_nothing_passes_offline_that_contradicts_itself(capsys):
    expected = json.loads((CORPUS / "expected.json").read_text())["proofs"]
    refuted = [name for name, answers in expected.items() if answers["anchored"] == "no"]
    assert any(name.startswith("invalid/") for name in refuted)
    for name in refuted:
        assert main(["proof", str(CORPUS / name), "--offline"]) != 0, name
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("Does not hold: "), name
        assert "anchored" in last, name


def test_the_closing_lines_claim_no_more_than_was_found(file, sample, capsys):
    def closing(*arguments):
        assert main(["proof", str(file), *arguments]) == 0
        return " ".join(capsys.readouterr().out.split("All that was asked for holds")[1].split())

    unpinned = closing("--offline")
    assert unpinned.startswith("(intact, device-signed, logged, judged).")
    assert "the one named in the file, which nothing pinned. Give --log-id or --log-key" in unpinned
    assert "Not checked, and not insisted on: anchored, flagged." in unpinned
    assert "only the whole log shows all of them" in unpinned
    pinned = closing("--offline", "--log-id", sample.world.log_id.hex())
    assert "Which log: pinned by the log id you gave" in pinned
    assert "nothing pinned" not in pinned


def test_a_header_that_the_gateway_made_itself_anchors_nothing(file, proof, sample, worlds, tmp_path, capsys):
    signed = proof.anchor.checkpoint
    words = (signed.size, signed.root, signed.prev, signed.start, signed.end)
    data = b"".join(word if isinstance(word, bytes) else word.to_bytes(32, "big") for word in words)
    event = [worlds.CONTRACT, [POSTED, sample.world.log_id, signed.seq.to_bytes(32, "big")], data]
    receipt = b"\x02" + trie.encode([b"\x01", trie.integer(60_000), bytes(256), [event]])
    key = trie.encode(trie.integer(0))
    root, path = trie.build({key: receipt}, key)
    block = trie.integer(proof.anchor.block)
    header = trie.encode([*[bytes(32)] * 5, root, bytes(256), b"", block, *[b""] * 6])
    forged = SavedHeader(worlds.CHAIN_ID, header, 0, tuple(path))
    saved = tmp_path / "header.json"
    saved.write_bytes(format_saved_header(forged))
    assert main(["proof", str(file), "--header", str(saved)]) == 9
    assert "Not everything could be checked: anchored" in capsys.readouterr().out
    # whoever names its hash believes it
    named = ["--block-hash", forged.block_hash.hex()]
    assert main(["proof", str(file), "--header", str(saved), *named]) == 0


def test_nothing_in_a_file_reaches_the_terminal_as_a_command(worlds, sample, tmp_path):
    world = sample.world
    nasty = "\x1b[2J\x1b[H\u202ereversed\x9b2J\x7f All that was asked for holds"
    verdict = world.judge(sample.message, rules=f"rules/1{nasty}")
    proofs = [
        world.proof(sample.message, node=sample.enrolled_north, verdict=verdict),
        world.proof(world.artefact(nasty, bytes(32))),
    ]
    for number, proof in enumerate(proofs):
        file = tmp_path / f"{number}.json"
        file.write_bytes(format_proof(proof))
        for options in (["--details"], ["--json"]):
            run = verify("proof", file, "--offline", *options, env={"PYTHONIOENCODING": "utf-8"})
            assert "reversed" in run.stdout
            assert not set(run.stdout) & set("\x1b\u202e\x9b\x7f"), run.stdout
            if options == ["--json"]:
                assert nasty in _texts(json.loads(run.stdout))
    run = verify("proof", tmp_path / "no\x1b[2Jwhere")
    assert run.returncode == 2
    assert "no\\x1b[2Jwhere" in run.stderr


def _texts(value):
    if isinstance(value, dict):
        return "".join(map(_texts, value.values()))
    if isinstance(value, list):
        return "".join(map(_texts, value))
    return str(value)


def test_a_tlog_proof_is_checked_with_the_key_of_its_log(tmp_path, capsys):
    expected = json.loads((CORPUS / "expected.json").read_text())
    file = CORPUS / "valid" / "judged-and-anchored.tlog-proof"
    key = ["--log-key", expected["logKey"]]
    assert main(["proof", str(file), *key]) == 0
    out = capsys.readouterr().out
    assert "All that was asked for holds (intact, logged)." in out
    assert "revocation" not in out
    assert main(["proof", str(file)]) == 9
    assert main(["proof", str(file), "--log-key", NoteSigner.generate("a.b/sensorhub").verifier_key]) == 5
    assert main(["proof", str(file), *key, "--rpc", "http://127.0.0.1:9"]) == 2
    whole = file.read_bytes()
    changed = tmp_path / "changed.tlog-proof"
    for offset in range(0, len(whole), 11):
        changed.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        assert main(["proof", str(changed), *key]) in (3, 5), offset
