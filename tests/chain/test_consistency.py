"""The contract's consistency check against the reference verifier, over many sizes and damaged paths."""

import random

import pytest

from sensorhub.chain.errors import RefusedError
from sensorhub.log.merkle import ProofError, verify_consistency

SIZES = 300
LONGEST = 65  # hashes in a path; the ABI refuses more


def reference(old_size, old_root, new_size, new_root, path):
    """What RFC 9162 says of a path, as the log room checks it."""
    try:
        verify_consistency(old_size, old_root, new_size, new_root, path)
    except ProofError:
        return False
    return True


def damaged(path, chance):
    """The path, and ways to spoil it."""
    path = list(path)
    what = chance.choice(["nothing"] * 4 + ["flip", "drop", "add", "repeat", "swap", "other"])
    place = chance.randrange(len(path)) if path else 0
    if what == "flip" and path:
        path[place] = bytes([path[place][0] ^ 1 << chance.randrange(8)]) + path[place][1:]
    elif what == "drop" and path:
        del path[place]
    elif what == "add":
        path.insert(chance.randrange(len(path) + 1), chance.randbytes(32))
    elif what == "repeat" and path:
        path.insert(place, path[place])
    elif what == "swap" and len(path) > 1:
        other = (place + 1) % len(path)
        path[place], path[other] = path[other], path[place]
    elif what == "other":
        path = [chance.randbytes(32) for _ in path]
    return path


def accepts(gateway, checkpoint, path):
    try:
        gateway.prepare(checkpoint, path)
    except RefusedError as error:
        assert error.reason == "not consistent"
        return False
    return True


def test_agrees_with_the_reference_on_random_sizes(gateway):
    chance = random.Random(1)
    tree, agreed = gateway.tree, {True: 0, False: 0}
    old = 0
    while old < SIZES - 1:
        old = min(SIZES - 1, old + chance.choice([1, 3, 16, 40]))
        gateway.post(old)
        for _ in range(4):
            new = chance.randrange(old + 1, SIZES + 1)
            path = damaged(tree.consistency(old, new), chance)
            # Sometimes a right path for other sizes: it must not fit here.
            if chance.random() < 0.2:
                path = tree.consistency(chance.randrange(1, new), new)
            expected = reference(old, tree.root(old), new, tree.root(new), path)
            assert accepts(gateway, gateway.next(new), path) == expected
            agreed[expected] += 1
    assert min(agreed.values()) > 10


def test_agrees_at_every_pair_of_small_sizes(gateway):
    for old in range(1, 9):
        gateway.post(old)
        for new in range(old + 1, 10):
            gateway.prepare(gateway.next(new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (2**20, 2**20 + 1),
        (2**20 - 1, 2**20),
        (999_999, 1_004_999),
        (2**40 - 1, 2**40 + 1),
        (2**63 - 1, 2**63 + 1),
        (1, 2**64 - 1),
        (2**64 - 2, 2**64 - 1),
    ],
)
def test_agrees_in_large_trees(make_gateway, old, new):
    gateway = make_gateway()
    gateway.open()
    gateway.post(old)
    path = gateway.path(new)
    assert reference(old, gateway.tree.root(old), new, gateway.tree.root(new), path)
    assert accepts(gateway, gateway.next(new), path)
    assert not accepts(gateway, gateway.next(new), [*path[:-1], bytes(32)])
    if len(path) < LONGEST:
        assert not accepts(gateway, gateway.next(new), [*path, bytes(32)])
