"""RLP and the receipts trie against py-evm's libraries."""

import random

import pytest
import rlp
import trie as reference
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorhub.verify import trie
from sensorhub.verify.errors import VerifyError

ITEMS = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=4), max_leaves=20)


@given(ITEMS)
def test_rlp_is_that_of_the_reference(item):
    data = trie.encode(item)
    assert data == rlp.encode(item)
    assert trie.decode(data) == item


@given(st.binary(max_size=60))
def test_rlp_accepts_what_the_reference_accepts(data):
    try:
        expected = rlp.decode(data)
    except rlp.exceptions.DecodingError:
        with pytest.raises(VerifyError):
            trie.decode(data)
        return
    assert rlp.encode(trie.decode(data)) == rlp.encode(expected)
    assert trie.encode(trie.decode(data)) == data


def test_rlp_refuses_endless_nesting():
    data = b""
    for _ in range(20):
        data = rlp.encode([]) if not data else trie.encode([rlp.decode(data)])
    with pytest.raises(VerifyError, match="nested deeper"):
        trie.decode(data)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 120), st.randoms(use_true_random=False))
def test_a_trie_of_receipts_has_the_reference_root_and_proves_each_value(count, length, source):
    values = {trie.encode(trie.integer(index)): source.randbytes(length) for index in range(count)}
    expected = reference.HexaryTrie({})
    for key, value in values.items():
        expected[key] = value
    for key in source.sample(sorted(values), min(5, count)):
        root, path = trie.build(values, key)
        assert root == expected.root_hash
        assert trie.prove(root, key, path) == values[key]
        with pytest.raises(VerifyError):
            trie.prove(root, key, path[:-1])
        with pytest.raises(VerifyError):
            trie.prove(root, key, [*path, b"\x80"])
        with pytest.raises(VerifyError):
            trie.prove(root, trie.encode(trie.integer(count)), path)


def test_a_changed_node_proves_nothing():
    random.seed(1)
    values = {trie.encode(trie.integer(index)): random.randbytes(80) for index in range(40)}
    key = trie.encode(trie.integer(17))
    root, path = trie.build(values, key)
    for position, node in enumerate(path):
        for offset in range(len(node)):
            changed = bytearray(node)
            changed[offset] ^= 1
            with pytest.raises(VerifyError):
                trie.prove(root, key, [*path[:position], bytes(changed), *path[position + 1 :]])
    assert keccak(path[0]) == root
