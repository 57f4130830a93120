"""The C2SP endpoints, read the way a stranger's client reads them: checkpoint, tiles, entry bundles."""

import pytest
from yarl import URL

from sensorhub.log.merkle import (
    TILE_WIDTH,
    Tree,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from sensorhub.log.note import NoteVerifier, open_checkpoint
from sensorhub.log.tiles import index_path, parse_bundle, split_tile

ORIGIN = "beijing.rooftop/sensorhub"


async def fetch(client, path: str) -> bytes:
    answer = await client.get(path)
    assert answer.status == 200, (path, await answer.read())
    return await answer.read()


async def fetch_row(client, kind: str, count: int, split) -> list[bytes]:
    """All items of a tile level or of the entries, full tiles and then the partial one."""
    items: list[bytes] = []
    for index in range(-(-count // TILE_WIDTH)):
        width = min(TILE_WIDTH, count - index * TILE_WIDTH)
        partial = f".p/{width}" if width < TILE_WIDTH else ""
        part = split(await fetch(client, f"/log/tile/{kind}/{index_path(index)}{partial}"))
        assert len(part) == width
        items += part
    return items


async def read_checkpoint(client):
    key = NoteVerifier.parse((await (await client.get("/api/v1/status")).json())["log"]["key"])
    return open_checkpoint(await fetch(client, "/log/checkpoint"), key, origin=ORIGIN)


async def test_the_root_follows_from_the_entry_bundles(client):
    checkpoint = await read_checkpoint(client)
    assert checkpoint.size > TILE_WIDTH, "the sample fills a tile and begins another"
    entries = await fetch_row(client, "entries", checkpoint.size, parse_bundle)
    tree = Tree()
    for entry in entries:
        tree.append(entry)
    assert tree.root() == checkpoint.root


async def test_the_root_follows_from_the_hash_tiles(client):
    checkpoint = await read_checkpoint(client)
    leaves = await fetch_row(client, "0", checkpoint.size, split_tile)
    above = await fetch_row(client, "1", checkpoint.size // TILE_WIDTH, split_tile)

    def hash_of(level: int, index: int) -> bytes:
        if level == 8:
            return above[index]
        if level == 0:
            return leaves[index]
        return node_hash(hash_of(level - 1, 2 * index), hash_of(level - 1, 2 * index + 1))

    assert tree_root(checkpoint.size, hash_of) == checkpoint.root
    entries = await fetch_row(client, "entries", checkpoint.size, parse_bundle)
    assert [leaf_hash(entry) for entry in entries] == leaves


async def test_an_entry_can_be_proven_and_an_older_log_is_a_beginning_of_it(client, beijing):
    checkpoint = await read_checkpoint(client)
    bundle = parse_bundle(await fetch(client, "/log/tile/entries/000"))
    verify_inclusion(leaf_hash(bundle[9]), 9, checkpoint.size, beijing.reader.inclusion(9), checkpoint.root)
    verify_consistency(
        100, beijing.reader.root(100), checkpoint.size, checkpoint.root, beijing.reader.consistency(100)
    )


async def test_types_and_caching_are_those_of_tlog_tiles(client):
    note = await client.get("/log/checkpoint")
    assert note.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert note.headers["Cache-Control"] == "no-cache"
    for path in ("/log/tile/0/000", "/log/tile/entries/000", "/log/tile/0/001.p/5"):
        tile = await client.get(path)
        assert tile.headers["Content-Type"] == "application/octet-stream"
        assert "immutable" in tile.headers["Cache-Control"]


async def test_a_partial_tile_is_the_beginning_of_the_full_one(client):
    full = await fetch(client, "/log/tile/0/000")
    assert len(full) == TILE_WIDTH * 32
    assert await fetch(client, "/log/tile/0/000.p/17") == full[: 17 * 32]


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/x000/000",
        "tile/0/0",
        "tile/00/000",
        "tile/-1/000",
        "tile/64/000",
        "tile/1/000",
        "tile/entries/999",
        "tile/entries/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/" + "x999/" * 900 + "999",
        "tile/0/%D9%A0%D9%A0%D9%A0",
        "tile/%2e%2e/head",
        "tile/..%2f..%2fkeys%2fnote.key",
        "tile/%00",
        "tile/",
        "tile",
        "tile/ct/0/000",
        "head",
        "journal/0",
        "",
    ],
)
async def test_paths_that_name_no_tile_are_not_found(client, path):
    answer = await client.get(URL(f"/log/{path}", encoded=True))
    assert answer.status == 404
    assert len(await answer.read()) < 400


async def test_a_log_without_checkpoint_says_so(site, open_client):
    (site.data_dir / "log" / "checkpoint").unlink()
    client = await open_client(site)
    answer = await client.get("/log/checkpoint")
    assert answer.status == 404
    assert "signed" in (await answer.json())["error"]
