"""What nodes say of themselves that somebody must do something about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

#: Names that a warning lists; of more it gives the number.
_NAMED: Final = 5


class Trouble(NamedTuple):
    """One of them.

    Attributes:
        field: of the node's status message, and `value` what it says there then.
        name: short, for a list of nodes.
        advice: what it means and what to do, for people.
    """

    field: str
    value: object
    name: str
    advice: str


TROUBLES: Final = (
    Trouble(
        "spool",
        "memory",
        "messages in RAM",
        "the spool on flash cannot be read, so only the newest 2 to 4 KB of messages are kept, and a power cut or a longer "
        "time without connection loses readings. Start the node again, it tries the flash first; if it stays so, write "
        "its flash anew with `tools/flash --erase`, or replace the board",
    ),
    Trouble(
        "safe",
        True,
        "safe mode",
        "five starts in a row have failed, so nothing is measured; a normal start is tried every half hour. Send settings "
        "(`sensorhub nodes configure`) or an application (`sensorhub nodes update`) that work, or renew it by cable with "
        "`tools/flash --keep`",
    ),
)


def troubles(said: Mapping[str, Any]) -> list[str]:
    """Names of what a node says is wrong."""
    return [each.name for each in TROUBLES if said.get(each.field) == each.value]


def advice(nodes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A warning for each trouble that nodes have, however many they are.

    Args:
        nodes: what each node last said of itself, by name.
    """
    for each in TROUBLES:
        names = sorted(name for name, said in nodes.items() if said.get(each.field) == each.value)
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"{', '.join(names[:_NAMED])}{more}: {each.name}: {each.advice}"
