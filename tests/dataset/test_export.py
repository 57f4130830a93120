"""Datasets: what goes in, and that the verifier finds every change."""

import contextlib
import functools
import gc
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sensorhub.dataset.errors import DatasetError
from sensorhub.dataset.export import export
from sensorhub.dataset.heads import SignedHead
from sensorhub.log.entries import REVIEW, MessageEntry, decode_entry, encode_entry
from sensorhub.nodes.dater import Dater
from sensorhub.verify.answers import ANCHORED, DEVICE_SIGNED, FLAGGED, INTACT, JUDGED, LOGGED, ROWS
from sensorhub.verify.dataset import DATASET_ANSWERS, check_dataset, read_evidence
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.files import sha256_file
from sensorhub.verify.manifest import (
    DATA,
    ENTRIES,
    FILES,
    MANIFEST,
    MULTIPROOF,
    NOTE,
    About,
    Listed,
    format_entries,
    format_manifest,
    parse_entries,
    parse_manifest,
    provenance,
)
from sensorhub.verify.rows import COLUMNS, Rows, Selection, derive
from sensorhub.verify.table import compare, schema
from sensorhub.wire import Message, parse_pack, parse_signed

ABOUT = About(
    "Test air", "Readings of a test.", "The testers", "CC-BY-4.0", "Testers 2023", 1_700_000_000_000
)


def anchored(world):
    size = world.size()
    return [SignedHead(size, world.note(size), world.anchors.get(size) or world.anchor(size))]


def write(world, directory, **options):
    options = {"about": ABOUT, "heads": anchored(world), **options}
    return export(world, directory, **options)


@pytest.fixture
def dataset(sample, tmp_path):
    return write(sample.world, tmp_path / "dataset").directory


@pytest.fixture
def chain(sample, worlds):
    return worlds.RecordedChain(sample.world)


def states(report):
    return {answer.name: str(answer.state) for answer in report.answers}


ALL_HOLD = {
    INTACT: "yes",
    ROWS: "yes",
    DEVICE_SIGNED: "yes",
    LOGGED: "yes",
    ANCHORED: "yes",
    JUDGED: "yes",
    FLAGGED: "no",
}


def test_a_dataset_holds_in_every_answer(dataset, chain):
    report = check_dataset(dataset, chain=chain)
    assert states(report) == ALL_HOLD
    assert report.exit_code(DATASET_ANSWERS) == 0
    assert states(check_dataset(dataset)) == {**ALL_HOLD, ANCHORED: "unknown", FLAGGED: "unknown"}


def test_the_rows_are_the_readings(dataset, sample):
    table = pq.read_table(dataset / DATA)
    assert tuple(table.column_names) == COLUMNS
    rows = table.to_pylist()
    assert len(rows) == 24
    first = rows[0]
    assert (first["node"], first["channel"], first["unit"], first["value"]) == (
        "north",
        "pm2_5",
        "ug/m3",
        8.0,
    )
    assert first["time"].timestamp() == 1_700_000_000
    assert (first["score"], first["flags"], first["judge"], first["verdict"]) == (
        1.0,
        0,
        "rules/1",
        sample.verdict,
    )
    assert rows[2]["time"].timestamp() == 1_700_000_010
    suspect = rows[-1]
    assert suspect["score"] == pytest.approx(13 / 255)
    assert suspect["flags"] == 2
    provenance = json.loads(table.schema.metadata[b"sensorhub"])
    assert provenance["licence"] == "CC-BY-4.0"
    assert provenance["log"]["logId"] == "0x" + sample.world.log_id.hex()


def test_a_persons_verdict_goes_out_and_no_later_judges(sample, tmp_path):
    said = sample.world.judge(sample.message, scores=(255, 0), rules=REVIEW)
    sample.world.judge(sample.message, scores=(100, 4), rules="rules/2")
    directory = write(sample.world, tmp_path / "d").directory
    rows = pq.read_table(directory / DATA).to_pylist()
    assert {row["verdict"] for row in rows if row["message"] == sample.message} == {said}
    assert check_dataset(directory)[ROWS].holds


def test_clockless_readings_are_dated_as_the_gateway_dates_them(dataset, sample):
    dater, dates = Dater(), {}
    for index, entry in sample.world.entries(0):
        decoded = decode_entry(entry)
        if isinstance(decoded, MessageEntry):
            signed = parse_signed(decoded.message)
            dates.update(dater.feed(index, Message(signed, parse_pack(signed.payload, tq=signed.tq))))
    assert dates == {sample.clockless: 1_700_000_000}
    rows = pq.read_table(dataset / DATA).to_pylist()
    clockless = [row for row in rows if row["message"] == sample.clockless]
    assert [row["time"].timestamp() for row in clockless] == [1_700_000_000, 1_700_000_000, 1_700_000_010]
    assert {row["time_quality"] for row in clockless} == {0}


def test_a_boot_that_never_had_the_time_stays_undated(worlds, tmp_path):
    sample = worlds.sample()
    device = worlds.Device("south", sample.south.key, boot=9, seq=50)
    index = sample.world.send(device, worlds.readings(1), uptime=5)
    sample.world.judge(index)
    directory = write(sample.world, tmp_path / "d").directory
    rows = [row for row in pq.read_table(directory / DATA).to_pylist() if row["message"] == index]
    assert [row["time"] for row in rows] == [None] * 3
    assert check_dataset(directory)[ROWS].holds
    dated = write(sample.world, tmp_path / "e", selection=Selection(start=0)).directory
    assert index not in pq.read_table(dated / DATA)["message"].to_pylist()
    assert check_dataset(dated)[ROWS].holds


def test_a_date_brings_its_evidence_along(sample, tmp_path, chain):
    # only the clockless message is asked for; the message that dates it lies outside of the span
    made = write(sample.world, tmp_path / "d", selection=Selection(("south",), None, 0, 1_700_000_050))
    rows = pq.read_table(made.directory / DATA).to_pylist()
    assert {row["message"] for row in rows} == {sample.clockless}
    entries = [index for index, _ in parse_entries((made.directory / ENTRIES).read_bytes())]
    assert entries == [0, 1, 2, sample.clockless, sample.synced, sample.verdict]
    assert states(check_dataset(made.directory, chain=chain)) == ALL_HOLD


@pytest.mark.parametrize(
    ("selection", "rows"),
    [
        (Selection(), 24),
        (Selection(judged=False), 27),
        (Selection(nodes=("north",)), 18),
        (Selection(channels=("temperature", "wind_speed")), 16),
        (Selection(start=1_700_000_060, stop=1_700_000_130), 8),
        (Selection(nodes=("south",), channels=("pm2_5",), judged=False), 3),
    ],
)
def test_a_selection_takes_what_it_says(sample, tmp_path, chain, selection, rows):
    made = write(sample.world, tmp_path / "d", selection=selection)
    assert made.manifest.counts.rows == pq.read_table(made.directory / DATA).num_rows == rows
    report = check_dataset(made.directory, chain=chain)
    assert report[ROWS].holds
    assert report[JUDGED].holds == selection.judged


def test_the_same_export_gives_the_same_bytes(sample, tmp_path):
    one, two = (write(sample.world, tmp_path / name) for name in ("one", "two"))
    assert one.sha256 == two.sha256
    for path in (MANIFEST, *FILES):
        assert (one.directory / path).read_bytes() == (two.directory / path).read_bytes()


def test_without_a_chain_the_newest_note_is_taken(sample, tmp_path, chain):
    made = write(sample.world, tmp_path / "d", heads=[])
    assert made.manifest.anchor is None
    assert states(check_dataset(made.directory, chain=chain)) == {
        **ALL_HOLD,
        ANCHORED: "no",
        FLAGGED: "unknown",
    }


def test_what_cannot_be_exported_says_why(sample, tmp_path):
    world = sample.world
    (tmp_path / "there").mkdir()
    with pytest.raises(DatasetError, match="exists"):
        write(world, tmp_path / "there")
    with pytest.raises(DatasetError, match="no channel 'smell'"):
        write(world, tmp_path / "d", selection=Selection(channels=("smell",)))
    with pytest.raises(DatasetError, match="no judged reading"):
        write(world, tmp_path / "d", selection=Selection(nodes=("nowhere",)))
    with pytest.raises(DatasetError, match="cannot write"):
        write(world, Path("/proc/nowhere/dataset"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_an_export_before_the_next_post_says_for_how_long_to_wait(sample, tmp_path):
    world = sample.world
    now = time.time_ns() // 1_000_000

    def said(made_ms, **options):
        heads = [SignedHead(1, world.note(1), world.anchor(1), made_ms)]
        with pytest.raises(
            DatasetError, match="no judged reading of the 1 entry under the newest anchored"
        ) as error:
            write(world, tmp_path / "d", heads=heads, **options)
        return str(error.value).partition("or wait ")[2]

    by_now = (
        f"for the next: the log has {world.size()} entries by now, and a checkpoint is posted every 60 min "
    )
    assert said(now, interval_s=3600.0) == by_now + "(chain.interval_s), the next in 60 min"
    assert said(now - 3_000_000, interval_s=3600.0) == by_now + "(chain.interval_s), the next in 10 min"
    assert said(now - 7_200_000, interval_s=3600.0).endswith(
        "the next now; `sensorhub status` says how it goes"
    )
    assert said(now) == said(None, interval_s=3600.0) == "until the readings are judged and anchored"


def test_a_dataset_can_become_part_of_the_log(sample, tmp_path):
    made = write(sample.world, tmp_path / "d")
    index = made.enter(lambda entries: sample.world.append(entries[0]))
    artefact = decode_entry(sample.world.entry(index))
    assert (artefact.what, artefact.description) == ("dataset", "Test air")
    assert artefact.sha256 == sha256_file(made.directory / MANIFEST)[1]


# changes


def relist(directory, manifest=None, **changes):
    """Writes sums that fit the files, as whoever means to deceive would."""
    manifest = manifest or parse_manifest((directory / MANIFEST).read_bytes())
    files = tuple(Listed(path, *sha256_file(directory / path)) for path in FILES)
    (directory / MANIFEST).write_bytes(format_manifest(replace(manifest, files=files, **changes)))


def rewrite(directory, change):
    """Changes the table and writes it back with sums that fit."""
    table = pq.read_table(directory / DATA)
    pq.write_table(change(table), directory / DATA, compression="zstd")
    relist(directory)


def with_value(table, row, column, value):
    field = table.schema.field(column)
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(column), field, pa.array(values, field.type))


def test_a_change_of_any_cell_names_row_and_column(dataset, tmp_path):
    table = pq.read_table(dataset / DATA)
    for number, column in enumerate(COLUMNS):
        copy = tmp_path / f"copy {number}"
        shutil.copytree(dataset, copy)
        old = table[column][number].as_py()
        new = {str: "other", int: 7, float: 0.5}.get(type(old))
        if column == "data":
            new = b"x"
        if column in ("received",):
            new = 0
        rewrite(copy, functools.partial(with_value, row=number, column=column, value=new))
        report = check_dataset(copy)
        assert set(report.failed()) == {"rows.values"}, column
        assert report[ROWS].reason.startswith(f"row {number}, {column}: "), column
        assert report.exit_code(DATASET_ANSWERS) == 10


def test_added_missing_and_moved_rows_are_named(dataset, tmp_path):
    for name, change, reason in (
        (
            "added",
            lambda table: pa.concat_tables([table, table.slice(0, 1)]),
            "row 24 and 0 more follow from no",
        ),
        ("missing", lambda table: table.slice(0, 23), "row 23 and all that should follow are missing"),
        ("empty", lambda table: table.slice(0, 0), "row 0 and all that should follow are missing"),
        ("moved", lambda table: pa.concat_tables([table.slice(1), table.slice(0, 1)]), "row 2, node"),
        ("dropped", lambda table: table.drop_columns(["flags"]), "columns are"),
        ("retyped", lambda table: retyped(table), "column score is double"),
        ("bare", lambda table: table.replace_schema_metadata({}), "the provenance in the schema metadata"),
    ):
        copy = tmp_path / name
        shutil.copytree(dataset, copy)
        rewrite(copy, change)
        report = check_dataset(copy)
        assert "rows.values" in report.failed(), name
        assert reason in report[ROWS].reason, name


def retyped(table):
    score = pc.cast(table["score"], pa.float64())
    return table.set_column(table.column_names.index("score"), "score", score)


def test_every_byte_of_the_small_files_is_protected(dataset):
    for path in (MANIFEST, ENTRIES, MULTIPROOF, NOTE):
        file = dataset / path
        whole = file.read_bytes()
        step = max(1, len(whole) // 120)
        for offset in range(0, len(whole), step):
            changed = bytearray(whole)
            changed[offset] ^= 1 << offset % 8
            file.write_bytes(bytes(changed))
            report = check_dataset(dataset, threads=1)
            assert report[INTACT].refuted, (path, offset)
            assert report.exit_code(DATASET_ANSWERS) == 3
            if path == MANIFEST:
                assert MANIFEST in report[INTACT].reason or "manifest" in report[INTACT].reason
            else:
                assert report[INTACT].failed() == (path,)
        file.write_bytes(whole)


def test_every_byte_of_the_large_files_is_protected(dataset):
    for path in (DATA, "README.md", "croissant.json"):
        file = dataset / path
        whole = file.read_bytes()
        for offset in range(0, len(whole), max(1, len(whole) // 40)):
            changed = bytearray(whole)
            changed[offset] ^= 1 << offset % 8
            file.write_bytes(bytes(changed))
            report = check_dataset(dataset, threads=1)
            assert report[INTACT].failed() == (path,), (path, offset)
        file.write_bytes(whole)


def test_a_changed_byte_of_the_evidence_is_found_even_with_new_sums(dataset):
    file = dataset / ENTRIES
    whole = file.read_bytes()
    for offset in range(0, len(whole), max(1, len(whole) // 150)):
        changed = bytearray(whole)
        changed[offset] ^= 1 << offset % 8
        file.write_bytes(bytes(changed))
        relist(dataset)
        report = check_dataset(dataset, threads=1)
        assert report[INTACT].holds
        assert report[LOGGED].refuted, offset
        assert report.exit_code(DATASET_ANSWERS) in (4, 5, 10)


def test_a_forged_message_is_named(dataset, sample):
    entries = parse_entries((dataset / ENTRIES).read_bytes())
    forged = []
    for index, entry in entries:
        if index == sample.message:
            message = decode_entry(entry)
            entry = encode_entry(MessageEntry(message.received_ms, message.message[:-1] + b"\x00"))
        forged.append((index, entry))
    (dataset / ENTRIES).write_bytes(b"".join(format_entries(forged)))
    relist(dataset)
    report = check_dataset(dataset)
    assert set(report.failed()) == {"device-signed.signatures", "logged.entries-in-tree"}
    assert report[DEVICE_SIGNED].reason.startswith(f"entry {sample.message}: not signed by key")


def test_evidence_that_is_left_out_is_missed(dataset, sample):
    entries = parse_entries((dataset / ENTRIES).read_bytes())
    for missing, failing in (
        (sample.enrolled_north, "device-signed.signatures"),
        (sample.message, "rows.values"),
        (sample.verdict, "rows.values"),
        (sample.synced, "rows.values"),
        (0, "logged.genesis-entry"),
    ):
        left = [(index, entry) for index, entry in entries if index != missing]
        (dataset / ENTRIES).write_bytes(b"".join(format_entries(left)))
        relist(dataset)
        report = check_dataset(dataset)
        assert {failing, "logged.entries-in-tree"} <= set(report.failed()), missing


def test_claims_of_the_manifest_are_checked(dataset, chain):
    manifest = parse_manifest((dataset / MANIFEST).read_bytes())
    whole = (dataset / MANIFEST).read_bytes()
    anchor = manifest.anchor
    for changes, failing in (
        ({"log_id": bytes(32)}, "logged.log-id"),
        ({"size": 13}, "logged.note-size"),
        ({"root": bytes(32)}, "logged.manifest-log"),
        ({"origin": "elsewhere"}, "logged.manifest-log"),
        ({"counts": replace(manifest.counts, rows=25)}, "rows.counts"),
        ({"counts": replace(manifest.counts, nodes=3)}, "rows.counts"),
        ({"selection": Selection(nodes=("north",))}, "rows.values"),
        ({"about": replace(manifest.about, licence="CC0-1.0")}, "rows.values"),
        ({"anchor": replace(anchor, block=1)}, "anchored.block"),
        ({"anchor": None}, "anchored.anchor-present"),
    ):
        relist(dataset, manifest, **changes)
        assert failing in check_dataset(dataset, chain=chain).failed(), changes
    (dataset / MANIFEST).write_bytes(whole)
    assert check_dataset(dataset, chain=chain).failed() == ()


def test_files_that_are_missing_or_too_many_are_named(dataset):
    (dataset / "more.parquet").write_bytes(b"")
    assert check_dataset(dataset)[INTACT].failed() == ("no-other-files",)
    assert "more.parquet" in check_dataset(dataset)[INTACT].reason
    (dataset / "more.parquet").unlink()
    for path in FILES:
        whole = (dataset / path).read_bytes()
        (dataset / path).unlink()
        assert check_dataset(dataset)[INTACT].failed() == (path,)
        (dataset / path).write_bytes(whole)


def test_the_chain_can_flag_a_message_of_the_dataset(dataset, chain, sample):
    from sensorhub.verify.chain_view import FlaggedRange

    chain.flagged = (FlaggedRange(0, 3, "before"), FlaggedRange(sample.unjudged, 99, "after"))
    assert check_dataset(dataset, chain=chain)[FLAGGED].holds
    chain.flagged = (FlaggedRange(sample.message, sample.message + 1, "smoke test"),)
    report = check_dataset(dataset, chain=chain)
    assert "smoke test" in report[FLAGGED].reason
    assert report.exit_code(DATASET_ANSWERS) == 8


def test_the_papers_describe_the_data(dataset):
    sheet = (dataset / "README.md").read_text()
    assert "CC-BY-4.0" in sheet
    assert "- Rows: 24 from 8 signed messages of 2 nodes" in sheet
    croissant = json.loads((dataset / "croissant.json").read_text())
    assert croissant["distribution"][0]["sha256"] == sha256_file(dataset / DATA)[1].hex()
    assert [field["name"] for field in croissant["recordSet"][0]["field"]] == list(COLUMNS)


def forged(path, columns):
    """A data file of the right schema whose texts are dictionaries, with pages of any size."""
    rows = len(next(iter(columns.values())))
    target = schema(b"x")
    arrays = []
    for field in target:
        if field.name in columns:
            arrays.append(columns[field.name])
        elif field.type in (pa.string(), pa.binary()):
            arrays.append(pa.array([""] * rows).cast(field.type))
        else:
            arrays.append(pa.array([0] * rows, pa.int64()).cast(field.type))
    fields = [pa.field(f.name, a.type, f.nullable) for f, a in zip(target, arrays, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=target.metadata))
    with pq.ParquetWriter(
        path,
        table.schema,
        compression="zstd",
        use_dictionary=["node"],
        store_schema=False,
        dictionary_pagesize_limit=1 << 30,
    ) as writer:
        writer.write_table(table)


def one_row():
    rows = Rows()
    for field in schema(b"x"):
        rows.columns[field.name] = [{pa.string(): "", pa.binary(): b""}.get(field.type, 0)]
    return rows


def test_a_long_text_in_every_row_is_refused_before_it_is_unfolded(tmp_path):
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 600, pa.int32()), pa.array(["A" * (3 << 20)]))
    file = tmp_path / DATA
    forged(file, {"node": long})
    assert file.stat().st_size < 4096
    gc.collect()  # what other tests left would go in between
    before = pa.total_allocated_bytes()
    with pytest.raises(VerifyError, match="column node holds 3145728 bytes in 1 rows, the evidence gives 0"):
        compare(file, [one_row()], b"x")
    gc.collect()
    assert pa.total_allocated_bytes() == before
    rows = Rows()
    for name, values in one_row().columns.items():
        rows.columns[name] = values * 600
    with pytest.raises(VerifyError, match="column node holds 1887436800 bytes in 600 rows"):
        compare(file, [rows], b"x")


def test_a_page_that_unfolds_to_too_much_is_refused(tmp_path):
    file = tmp_path / DATA
    forged(file, {"node": pa.array(["A" * (64 << 20)]).dictionary_encode()})
    assert file.stat().st_size < 16384
    with pytest.raises(VerifyError, match="a page of column node unfolds to 6710.* bytes; at most 4194304"):
        compare(file, [one_row()], b"x")


def test_a_damaged_byte_of_a_data_file_is_a_named_error_or_a_difference(dataset):
    whole = (dataset / DATA).read_bytes()
    manifest = parse_manifest((dataset / MANIFEST).read_bytes())
    leaves = parse_entries((dataset / ENTRIES).read_bytes())
    evidence = read_evidence(leaves, lambda *_: None)
    derived = list(
        derive(evidence.messages, evidence.judgements.get, evidence.epochs, manifest.selection, chunk=100)
    )
    copy = dataset / "copy.parquet"
    for offset in range(0, len(whole), max(1, len(whole) // 400)):
        changed = bytearray(whole)
        changed[offset] ^= 0xFF
        copy.write_bytes(changed)
        with contextlib.suppress(VerifyError):
            compare(copy, derived, provenance(manifest))


def test_a_time_that_no_calendar_has_is_named(tmp_path):
    file = tmp_path / DATA
    forged(file, {"time": pa.array([2**62], pa.timestamp("us", tz="UTC"))})
    _, differences = compare(file, [one_row()], b"x")
    assert any("time: 4611686018427387904 us after 1970" in text for text in differences), differences
    rows = one_row()
    rows.columns["time"] = [2**70]
    with pytest.raises(VerifyError, match="column time cannot hold what the evidence gives"):
        compare(file, [rows], b"x")
