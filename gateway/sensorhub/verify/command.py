"""The command `tools/verify`: arguments in, report and exit code out."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from sensorhub.chain.untrusted import printable
from sensorhub.errors import SensorhubError
from sensorhub.log.note import NoteVerifier
from sensorhub.verify.answers import (
    ANCHORED,
    DEVICE_SIGNED,
    EXIT_CODES,
    EXIT_OK,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    FLAGGED,
    Report,
    State,
)
from sensorhub.verify.chain_view import Chain
from sensorhub.verify.check import PROOF_ANSWERS, TLOG_ANSWERS, check_proof, check_tlog_proof
from sensorhub.verify.dataset import DATASET_ANSWERS, check_dataset
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.log_files import LogDirectory, LogFiles, LogUrl
from sensorhub.verify.manifest import parse_manifest
from sensorhub.verify.proof import parse_proof
from sensorhub.verify.render import printable_json, render
from sensorhub.verify.rpc import RpcChain
from sensorhub.verify.saved_header import SavedChain, format_saved_header, parse_saved_header, read_receipt
from sensorhub.verify.tlog_proof import SUFFIX
from sensorhub.verify.trust import Trust
from sensorhub.verify.whole_log import LOG_ANSWERS, check_log

QUIET_S: Final = 1.0
"""Seconds of work after which a progress line appears on standard error."""
REFRESH_S: Final = 0.2
"""Seconds between changes of the progress line."""
TLOG: Final = "tlog-proof"
"""What a proof is called whose file name ends in `.tlog-proof`."""
ANSWERS: Final = {
    "proof": PROOF_ANSWERS,
    TLOG: TLOG_ANSWERS,
    "dataset": DATASET_ANSWERS,
    "log": LOG_ANSWERS,
}
"""The answers on each kind of file."""
UNPINNED: Final = "Which log: the one named in the file, which nothing pinned. Give --log-id or --log-key to say which you mean."
LEFT_OUT: Final = "A revocation or clone that the file leaves out cannot be seen in it: only the whole log shows all of them."


class UsageError(SensorhubError):
    """Raised when the command line asks for something that makes no sense."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.what == "header":
            return _save_header(options)
        if options.what == "proof" and options.file.endswith(SUFFIX):
            options.what = TLOG
        requested, tolerated = _requested(options)
        trust = _trust(options)
        chain = _chain(options)
        with ProgressLine(sys.stderr) as progress:
            report = _verify(options, trust, chain, progress)
    except (SensorhubError, OSError) as error:
        print(f"verify: {printable(str(error))}", file=sys.stderr)
        return EXIT_USAGE
    code = report.exit_code(requested, tolerate_unknown=tolerated)
    if options.json:
        found = {
            **report.as_json(),
            "requested": requested,
            "pinned": trust.pinned() or None,
            "exitCode": code,
        }
        _say(printable_json(json.dumps(found, indent=2, ensure_ascii=False)) + "\n")
    else:
        plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        told = render(report, details=options.details, plain=plain)
        _say(told + _closing(report, requested, code, trust.pinned()))
    return code


def _say(text: str) -> None:
    """Writes to the standard output; whoever stopped reading (`| head`) has read enough."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # what is left in the buffer would raise again at the end of the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _verify(options: argparse.Namespace, trust: Trust, chain: Chain | None, progress: ProgressLine) -> Report:
    if options.what == "proof":
        return check_proof(_bytes(options.file), trust=trust, chain=chain)
    if options.what == TLOG:
        if chain is not None:
            raise UsageError(
                f"{options.file}: this format says nothing of a chain; leave out --rpc and --header"
            )
        return check_tlog_proof(_bytes(options.file), trust=trust)
    if options.what == "dataset":
        return check_dataset(
            Path(options.directory), trust=trust, chain=chain, progress=progress, threads=options.threads
        )
    files: LogFiles = LogUrl(options.log) if "://" in options.log else LogDirectory(Path(options.log))
    return check_log(
        files,
        trust=trust,
        chain=chain,
        signatures=options.signatures,
        progress=progress,
        threads=options.threads,
    )


def _requested(options: argparse.Namespace) -> tuple[list[str], set[str]]:
    """The answers that the exit code depends on, and those of them for which unknown will do.

    What is known to be wrong is never left out: `--offline` is content with an anchor that nobody could look
    up, and not with one that contradicts itself.
    """
    known = ANSWERS[options.what]
    if options.require is not None:
        requested = [name.strip() for name in options.require.split(",")]
        for name in requested:
            if name not in known:
                raise UsageError(f"--require {name!r}: answers here are {', '.join(known)}")
        return requested, set()
    requested = list(known)
    tolerated: set[str] = set()
    if options.offline or (options.what == "log" and options.rpc is None):
        tolerated = {ANCHORED, FLAGGED}
    elif options.header is not None:
        tolerated = {FLAGGED}  # they come later than any saved block
    if options.what == "log" and not options.signatures:
        requested = [name for name in requested if name != DEVICE_SIGNED]
    return requested, tolerated


def _closing(report: Report, requested: Sequence[str], code: int, pinned: str) -> str:
    """The last lines of the report: no more than the answers say.

    Args:
        report: what was found.
        requested: answers that were asked for.
        code: the exit code that follows from them.
        pinned: what says which log it is; empty when nothing does.
    """
    unknown = [name for name in requested if report[name].state is State.UNKNOWN]
    wrong = [name for name in requested if report[name].refuted]
    if wrong:
        return f"\nDoes not hold: {', '.join(wrong)}. Exit code {code}.\n"
    if code == EXIT_UNKNOWN:
        return f"\nNot everything could be checked: {', '.join(unknown)}. Exit code {code}.\n"
    held = ", ".join(name for name in requested if report[name].holds)
    whose = f"Which log: pinned by {pinned}." if pinned else UNPINNED
    lines = [f"All that was asked for holds ({held}).", whose]
    if unknown:
        lines.append(f"Not checked, and not insisted on: {', '.join(unknown)}.")
    if any(answer.name == FLAGGED for answer in report.answers):
        lines.append(LEFT_OUT)
    return "\n" + "\n".join(lines) + "\n"


def _trust(options: argparse.Namespace) -> Trust:
    return Trust(
        log_id=None if options.log_id is None else _hex("--log-id", options.log_id, 32),
        log_key=None if options.log_key is None else _log_key(options.log_key),
        chain_id=options.chain_id,
        contract=None if options.contract is None else _hex("--contract", options.contract, 20),
    )


def _log_key(given: str) -> NoteVerifier:
    """A verifier key, or the file that holds one."""
    if "+" in given:
        return NoteVerifier.parse(given)
    try:
        return NoteVerifier.parse(Path(given).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--log-key {given}: neither a key (name+id+key) nor a file that can be read"
        ) from error


def _hex(option: str, given: str, length: int) -> bytes:
    digits = given.lower().removeprefix("0x")
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        data = b""
    if len(data) != length or len(digits) != 2 * length:
        raise UsageError(f"{option}: {2 * length} hex digits are needed")
    return data


def _chain(options: argparse.Namespace) -> Chain | None:
    given = [
        name
        for name, value in (
            ("--offline", options.offline),
            ("--rpc", options.rpc),
            ("--header", options.header),
        )
        if value
    ]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} exclude each other")
    if options.rpc is not None:
        return RpcChain(options.rpc)
    if options.block_hash is not None and options.header is None:
        raise UsageError("--block-hash says which block --header must be of: give both")
    if options.header is None:
        return None
    trusted = None if options.block_hash is None else _hex("--block-hash", options.block_hash, 32)
    try:
        return SavedChain(parse_saved_header(_bytes(options.header)), trusted)
    except VerifyError as error:
        raise UsageError(f"{options.header}: {error}") from error


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error


def _save_header(options: argparse.Namespace) -> int:
    """Fetches the header and receipt that a proof's or manifest's anchor needs, and writes them."""
    data = _bytes(options.file)
    try:
        anchor = parse_proof(data).anchor
    except VerifyError:
        anchor = parse_manifest(data).anchor
    if anchor is None or anchor.tx is None:
        raise UsageError(f"{options.file} names no transaction: it was made before its size was anchored")
    saved = RpcChain(options.rpc).saved_header(anchor.tx)
    read_receipt(saved)
    Path(options.output).write_bytes(format_saved_header(saved))
    print(f"block {anchor.block} of chain {saved.chain_id} has the hash 0x{saved.block_hash.hex()}")
    print(
        f"written to {options.output}; whoever believes that hash can check the anchor offline with --header"
    )
    return EXIT_OK


class ProgressLine:
    """One line on standard error, once the work takes longer than QUIET_S; nothing when it is no terminal
    that shows it, except a line a while."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = time.monotonic()
        self._next = self._started + QUIET_S
        self._terminal = stream.isatty()
        self._shown = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._shown = True
        share = f"{100 * done // total} %" if total > 1 else "..."
        if self._terminal:
            self._stream.write(f"\r\x1b[K{what} {share}")
            self._next = now + REFRESH_S
        else:
            self._stream.write(f"{what} {share}\n")
            self._next = now + 10 * QUIET_S
        self._stream.flush()


def _parser() -> argparse.ArgumentParser:
    codes = ", ".join(f"{code} {name}" for name, code in EXIT_CODES.items())
    parser = argparse.ArgumentParser(
        prog="verify",
        description="Checks a proof, a dataset or a whole log without trusting the gateway that made it.",
        epilog=f"Exit code: {EXIT_OK} all that was asked for holds; {EXIT_USAGE} wrong use or unreadable input; "
        f"{EXIT_UNKNOWN} something could not be checked; otherwise the first answer that does not hold: {codes}.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--rpc", metavar="URL", help="Ethereum JSON-RPC server to ask about the chain (it is believed)"
    )
    common.add_argument(
        "--header", metavar="FILE", help="saved block header (see `verify header`) instead of --rpc"
    )
    common.add_argument("--block-hash", metavar="HEX", help="hash of that block, from a source you trust")
    common.add_argument("--offline", action="store_true", help="do not ask for what needs a chain")
    common.add_argument(
        "--log-key", metavar="KEY", help="verifier key of the log (name+id+key), or a file with it"
    )
    common.add_argument(
        "--log-id", metavar="HEX", help="id of the log you mean: leaf hash of its genesis entry"
    )
    common.add_argument("--contract", metavar="ADDRESS", help="address of the GatewayLog contract you mean")
    common.add_argument("--chain-id", metavar="N", type=int, help="id of the chain you mean")
    common.add_argument(
        "--require",
        metavar="NAMES",
        help="answers the exit code depends on, with commas between (default: all)",
    )
    common.add_argument("--json", action="store_true", help="the report as JSON")
    common.add_argument("--details", action="store_true", help="every single check")
    commands = parser.add_subparsers(dest="what", required=True, metavar="proof|dataset|log|header")
    proof = commands.add_parser(
        "proof", parents=[common], help="one proof file (sensorhub-proof/1, or C2SP .tlog-proof)"
    )
    proof.add_argument("file")
    dataset = commands.add_parser(
        "dataset", parents=[common], help="a dataset directory (sensorhub-dataset/1)"
    )
    dataset.add_argument("directory")
    log = commands.add_parser("log", parents=[common], help="a whole log (C2SP tlog-tiles)")
    log.add_argument("log", metavar="directory-or-URL")
    log.add_argument("--signatures", action="store_true", help="check the signature of every message too")
    header = commands.add_parser("header", help="save a block header, to check an anchor without a network")
    header.add_argument("file", help="proof, or manifest.json of a dataset")
    header.add_argument("--rpc", metavar="URL", required=True, help="Ethereum JSON-RPC server to ask")
    header.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write it")
    for command in (dataset, log):
        command.add_argument(
            "--threads", metavar="N", type=int, help="threads for signatures (default: one a core)"
        )
    return parser
