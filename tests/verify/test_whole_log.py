"""A whole log on disk and behind a URL: every file against every other."""

import functools
import http.server
import random
import shutil
import threading

import pytest

from sensorhub.log.entries import ArtefactEntry, MessageEntry, encode_entry
from sensorhub.log.log import Log
from sensorhub.log.reader import LogReader
from sensorhub.verify.answers import ANCHORED, DEVICE_SIGNED, INTACT, LOGGED, State
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.log_files import LogDirectory, LogUrl, tile_path
from sensorhub.verify.trust import Trust
from sensorhub.verify.whole_log import check_log

SEGMENT = 65_536
TAIL = 700
"""Entries after the first journal segment: two full bundles and a partial one."""


def filler(index):
    return encode_entry(ArtefactEntry(index, "report", bytes(32)))


def write_log(path, world, more=0):
    log = Log.open(path, origin=world.signer.name, signer=world.signer, checkpoint_interval=0)
    log.append_many(world.entries_)
    log.append_many([filler(index) for index in range(more)])
    log.commit()
    log.checkpoint()
    assert log.settle(60)
    log.close()


@pytest.fixture(scope="module")
def logs(tmp_path_factory, worlds):
    """A log of more than one segment, and its world (whose entries are the first of the log)."""
    world = worlds.sample().world
    path = tmp_path_factory.mktemp("log") / "log"
    write_log(path, world, SEGMENT + TAIL - len(world.entries_))
    return path, world


@pytest.fixture
def small(tmp_path, worlds):
    """A log of a few entries that is still all journal."""
    world = worlds.sample().world
    write_log(tmp_path / "log", world)
    return tmp_path / "log", world


@pytest.fixture
def mirror(logs, tmp_path):
    """The same log as C2SP files, partial tiles and all, and nothing else."""
    path, _ = logs
    target = tmp_path / "mirror"
    shutil.copytree(path / "tile", target / "tile")
    size = SEGMENT + TAIL
    with LogReader(path) as reader:
        wanted = ["checkpoint"]
        for index in range(SEGMENT // 256, size // 256 + 1):
            width = min(256, size - index * 256)
            wanted += [tile_path(None, index, width), tile_path(0, index, width)]
        wanted += [tile_path(1, 1, size // 256 - 256), tile_path(2, 0, 1)]
        for name in wanted:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(reader.tile(name))
    return target


@pytest.fixture
def url(mirror):
    handler = functools.partial(QuietHandler, directory=str(mirror))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def damaged(path, **options):
    return check_log(LogDirectory(path), **options).facts["damaged"]


def flip(path, offset, change=1):
    data = bytearray(path.read_bytes())
    data[offset] ^= change
    path.write_bytes(bytes(data))


def test_a_whole_log_is_intact_and_logged(logs):
    path, world = logs
    report = check_log(LogDirectory(path), signatures=True)
    assert report.failed() == ()
    assert [report[name].state for name in (INTACT, LOGGED, DEVICE_SIGNED)] == [State.YES] * 3
    assert report[ANCHORED].state is State.UNKNOWN
    assert report.facts["size"] == SEGMENT + TAIL
    assert report.facts["messages"] == 9
    assert "9 messages signed by enrolled keys" in report[DEVICE_SIGNED].reason
    pinned = Trust(log_id=world.log_id, log_key=world.signer.verifier)
    assert check_log(LogDirectory(path), trust=pinned).failed() == ()
    assert check_log(LogDirectory(path), trust=Trust(log_id=bytes(32))).failed() == ("logged.log-id-pinned",)


def test_the_same_log_as_static_files_and_behind_a_url(mirror, url):
    for files in (LogDirectory(mirror), LogUrl(url)):
        report = check_log(files, signatures=True)
        assert report.failed() == ()
        assert report[LOGGED].state is State.YES


def files_of(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_a_flipped_byte_in_any_file_of_a_mirror_names_that_file(mirror):
    random.seed(5)
    tiles = [path for path in files_of(mirror) if path.name != "checkpoint"]
    assert len(tiles) > 500
    chosen = random.sample(tiles, 2) + [
        mirror / name
        for name in (
            tile_path(None, 0),
            tile_path(0, 0),
            tile_path(1, 0),
            tile_path(0, 257),
            tile_path(None, 257),
            tile_path(None, 258, 188),
            tile_path(0, 258, 188),
            tile_path(1, 1, 2),
            tile_path(2, 0, 1),
        )
    ]
    for path in chosen:
        whole = path.read_bytes()
        flip(path, random.randrange(len(whole)), random.randrange(1, 256))
        assert damaged(mirror) == [str(path.relative_to(mirror))]
        path.write_bytes(whole)
        assert path.read_bytes() == whole
    assert damaged(mirror) == []


def test_a_flipped_byte_in_the_gateways_own_directory_names_the_file(logs, tmp_path):
    path, _ = logs
    copy = tmp_path / "log"
    shutil.copytree(path, copy)
    journal = next((copy / "journal").glob("*.wal"))
    for file, offset in (
        (journal, 0),
        (journal, 5),
        (journal, journal.stat().st_size - 1),
        (copy / tile_path(0, 3), 100),
        (copy / tile_path(None, 3), 100),
        (copy / tile_path(1, 0), 100),
    ):
        whole = file.read_bytes()
        flip(file, offset)
        assert damaged(copy)[0] == str(file.relative_to(copy))
        file.write_bytes(whole)


def test_every_byte_of_a_checkpoint_is_protected(small):
    path, world = small
    checkpoint = path / "checkpoint"
    whole = checkpoint.read_bytes()
    for offset in range(len(whole)):
        flip(checkpoint, offset)
        for trust in (Trust(), Trust(log_key=world.signer.verifier)):
            report = check_log(LogDirectory(path), trust=trust)
            assert report.failed() == ("intact.checkpoint",), offset
        checkpoint.write_bytes(whole)


def test_no_byte_of_the_journal_is_free_to_change(small):
    path, _ = small
    journal = next((path / "journal").glob("*.wal"))
    whole = journal.read_bytes()
    for offset in range(0, len(whole), 3):
        flip(journal, offset)
        assert damaged(path) == ["journal/000000000000.wal"], offset
        journal.write_bytes(whole)


def test_a_missing_file_is_named(mirror):
    for name in (tile_path(None, 7), tile_path(0, 7), tile_path(1, 0), tile_path(0, 258, 188)):
        file = mirror / name
        file.rename(mirror / "away")
        report = check_log(LogDirectory(mirror))
        assert report.facts["damaged"] == [name]
        assert report[LOGGED].state in (State.YES, State.UNKNOWN)
        (mirror / "away").rename(file)
    (mirror / "checkpoint").unlink()
    with pytest.raises(VerifyError, match="no signed checkpoint"):
        check_log(LogDirectory(mirror))


def test_a_rewritten_entry_with_all_its_hashes_does_not_reach_the_signed_root(worlds, tmp_path):
    true, false = worlds.sample().world, worlds.sample().world
    message = false.entries_[3]
    false.entries_[3] = encode_entry(MessageEntry(5, message[-160:]))
    write_log(tmp_path / "true", true)
    write_log(tmp_path / "false", false)
    shutil.copy(tmp_path / "true" / "checkpoint", tmp_path / "false" / "checkpoint")
    report = check_log(LogDirectory(tmp_path / "false"), signatures=True)
    assert "logged.root" in report.failed()
    assert "entry 3" in report[DEVICE_SIGNED].reason


def test_a_message_of_nobody_is_named(worlds, tmp_path):
    sample = worlds.sample()
    stranger = worlds.Device("north", worlds.secret("stranger"))
    index = sample.world.send(stranger, worlds.readings(1), time=worlds.START)
    write_log(tmp_path / "log", sample.world)
    report = check_log(LogDirectory(tmp_path / "log"), signatures=True)
    assert report.failed() == ("device-signed.signatures",)
    assert f"entry {index}: key {stranger_kid(stranger)} is not enrolled" in report[DEVICE_SIGNED].reason


def stranger_kid(device):
    from sensorhub.wire import kid

    return kid(device.public_key).hex()


def test_checkpoints_in_the_contract_must_be_states_of_this_log(worlds, tmp_path):
    sample = worlds.sample()
    world = sample.world
    world.anchor(5)
    world.anchor(11)
    write_log(tmp_path / "log", world)
    chain = worlds.RecordedChain(world)
    report = check_log(LogDirectory(tmp_path / "log"), chain=chain)
    assert report[ANCHORED].state is State.YES
    assert report[ANCHORED].reason == "all 2 checkpoints in the contract are states of this log"
    other = worlds.World()
    other.send(sample.south, worlds.readings(1), time=worlds.START)
    for entry in world.entries_[2:]:
        other.append(entry)
    other.anchor(11)
    report = check_log(LogDirectory(tmp_path / "log"), chain=worlds.RecordedChain(other))
    assert report.failed() == ("anchored.checkpoint-1",)
    assert "history was rewritten" in report[ANCHORED].reason
    nothing = check_log(LogDirectory(tmp_path / "log"), chain=worlds.RecordedChain(worlds.sample().world))
    assert nothing.failed() == ("anchored.contract-posts",)


@pytest.mark.parametrize("index", [0, 7, 999, 1000, 1_234_067, 999_999_999, 10**9])
def test_tile_paths_are_those_of_the_log(index):
    from sensorhub.log.tiles import ENTRIES, TilePath

    assert tile_path(3, index) == str(TilePath(3, index))
    assert tile_path(None, index, 17) == str(TilePath(ENTRIES, index, 17))
