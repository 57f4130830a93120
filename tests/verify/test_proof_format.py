import json
from dataclasses import replace

import pytest

from sensorhub.verify import canonical
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.proof import format_proof, parse_proof
from sensorhub.verify.tlog_proof import TlogProof, format_tlog_proof, parse_tlog_proof


@pytest.fixture
def proof(sample):
    return sample.world.proof(
        sample.message, node=sample.enrolled_north, verdict=sample.verdict, events=[sample.enrolled_south]
    )


@pytest.fixture
def members(proof):
    return json.loads(format_proof(proof))


def sealed(members):
    return canonical.dump(canonical.seal(members))


def paths(value, where=()):
    """Every member and array item of a JSON value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*where, key)
            yield from paths(item, (*where, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield (*where, position)
            yield from paths(item, (*where, position))


def parent_of(value, path):
    for step in path[:-1]:
        value = value[step]
    return value


def written(path):
    """How messages name a path."""
    text = str(path[0])
    for step in path[1:]:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text


def test_a_proof_is_read_as_it_was_written(proof, sample):
    assert parse_proof(format_proof(proof)) == proof
    bare = sample.world.proof(sample.message, anchored=False)
    assert parse_proof(format_proof(bare)) == bare
    waiting = replace(proof, anchor=replace(proof.anchor, tx=None, block=None))
    assert parse_proof(format_proof(waiting)) == waiting


def test_every_member_is_needed(members):
    for path in paths(members):
        if isinstance(path[-1], int):
            continue
        copy = json.loads(json.dumps(members))
        del parent_of(copy, path)[path[-1]]
        data = canonical.dump(copy) if path == ("digest",) else sealed(copy)
        with pytest.raises(VerifyError) as raised:
            parse_proof(data)
        assert raised.value.where == written(path)
        assert raised.value.problem == "the member is missing"


def test_every_member_has_one_type(members):
    for path in paths(members):
        for wrong in ([], {}, True, -1, "?", 1.5):
            copy = json.loads(json.dumps(members))
            if isinstance(wrong, list) and isinstance(parent_of(copy, path)[path[-1]], list):
                continue
            parent_of(copy, path)[path[-1]] = wrong
            if path in (("note",), ("index",), ("size",)) and isinstance(wrong, str) and path == ("note",):
                continue
            with pytest.raises(VerifyError) as raised:
                parse_proof(canonical.dump(copy) if path == ("digest",) else sealed(copy))
            if wrong == 1.5:
                assert raised.value.problem == "1.5 is not an integer"
            elif wrong != {}:
                assert raised.value.where == written(path)
            else:
                assert raised.value.where.startswith(written(path))


def test_no_member_may_be_added(members):
    objects = [()] + [path for path in paths(members) if isinstance(parent_of(members, path)[path[-1]], dict)]
    for path in objects:
        copy = json.loads(json.dumps(members))
        target = copy
        for step in path:
            target = target[step]
        target["extra"] = 1
        with pytest.raises(VerifyError) as raised:
            parse_proof(sealed(copy))
        assert raised.value.where == written((*path, "extra"))


def test_the_order_of_members_is_fixed(members):
    for path in paths(members):
        copy = json.loads(json.dumps(members))
        parent = parent_of(copy, path)
        if (
            isinstance(parent, dict)
            and path not in (("block",), ("digest",))
            and path[-1] != list(parent)[-1]
        ):
            parent[path[-1]] = parent.pop(path[-1])
            with pytest.raises(VerifyError, match="not in its place") as raised:
                parse_proof(sealed(copy))
            assert raised.value.where.startswith(written(path[:-1])) if path[:-1] else True


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"chainId": None}, "chainId"),
        ({"contract": None}, "contract"),
        ({"checkpoint": None}, "chainId"),
        ({"tx": None}, "block"),
        ({"block": None}, "block"),
        ({"checkpoint": None, "chainId": None, "contract": None}, "tx"),
        ({"format": "sensorhub-proof/2"}, "format"),
    ],
)
def test_members_that_contradict_each_other_are_refused(members, change, where):
    with pytest.raises(VerifyError) as raised:
        parse_proof(sealed({**members, **change}))
    assert raised.value.where == where


def test_a_tlog_proof_has_the_text_of_the_specification():
    path = (bytes(range(32)), b"\xff" * 32)
    note = "example.com/log\n3\nAAAA\n\n— example.com/log AAAAAA==\n"
    text = format_tlog_proof(TlogProof(2, path, note, b"entry"))
    assert text.decode() == (
        "c2sp.org/tlog-proof@v1\n"
        "extra ZW50cnk=\n"
        "index 2\n"
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
        "//////////////////////////////////////////8=\n"
        "\n" + note
    )
    assert parse_tlog_proof(text) == TlogProof(2, path, note, b"entry")
    alone = TlogProof(0, (), note)
    assert parse_tlog_proof(format_tlog_proof(alone)) == alone


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"c2sp.org/tlog-proof@v2\nindex 0\n\nnote\n", "line 1"),
        (b"c2sp.org/tlog-proof@v1\n\nnote\n", "line 2"),
        (b"c2sp.org/tlog-proof@v1\nindex 00\n\nnote\n", "line 2"),
        (b"c2sp.org/tlog-proof@v1\nindex -1\n\nnote\n", "line 2"),
        (b"c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nnote\n", "line 3"),
        (b"c2sp.org/tlog-proof@v1\nextra !\nindex 1\n\nnote\n", "line 2"),
        (b"c2sp.org/tlog-proof@v1\nextra QQ==\n\nnote\n", "line 3"),
        (b"c2sp.org/tlog-proof@v1\nindex 1\n", ""),
        (b"\xff\n\n", ""),
    ],
)
def test_other_tlog_proofs_are_refused(text, where):
    with pytest.raises(VerifyError) as raised:
        parse_tlog_proof(text)
    assert raised.value.where == where
