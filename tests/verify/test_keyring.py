"""The verifier's own rules of enrolment against the registry of the running gateway."""

from hypothesis import given
from hypothesis import strategies as st

from sensorhub.log.entries import NodeEntry, NodeEvent
from sensorhub.nodes.registry import Registry
from sensorhub.verify.keyring import Keyring
from sensorhub.wire import kid

KEYS = [bytes([number]) * 64 for number in range(4)]
NODES = ["north", "south", "west"]
EVENTS = st.builds(
    NodeEntry,
    ms=st.just(0),
    event=st.sampled_from([event.value for event in NodeEvent]),
    node=st.sampled_from(NODES),
    kind=st.just("air"),
    public_key=st.sampled_from(KEYS),
)


@given(st.lists(EVENTS, max_size=12))
def test_the_keyring_agrees_with_the_registry(entries):
    registry, keyring = Registry(), Keyring()
    for index, entry in enumerate(entries, 1):
        registry.apply(index, entry)
        keyring.apply(index, entry)
        for key in KEYS:
            theirs, ours = registry.key(kid(key)), keyring.keys.get(kid(key))
            assert (theirs is None) == (ours is None)
            if theirs is not None and ours is not None:
                assert (theirs.public_key, theirs.node, theirs.enrolled_index, theirs.revoked_index) == (
                    ours.public_key,
                    ours.node,
                    ours.enrolled,
                    ours.ended,
                )
            usable = registry.public_key(kid(key))
            assert (usable is not None) == (not isinstance(keyring.at(kid(key), index + 1), str))


def test_a_key_is_in_force_between_its_entries():
    keyring = Keyring()
    first, second = KEYS[:2]
    assert keyring.apply(2, NodeEntry(0, "enrol", "north", "air", first)) is None
    assert keyring.apply(5, NodeEntry(0, "rotate", "north", "air", second)) is None
    assert keyring.apply(9, NodeEntry(0, "revoke", "north", "air", second)) is None
    in_force = {
        index: [key for key in (first, second) if not isinstance(keyring.at(kid(key), index), str)]
        for index in range(12)
    }
    expected = [[]] * 3 + [[first]] * 3 + [[second]] * 4 + [[]] * 2
    assert in_force == dict(enumerate(expected))
    assert "after the message at 1" in keyring.at(kid(first), 1)
    assert "not enrolled" in keyring.at(kid(KEYS[3]), 6)
