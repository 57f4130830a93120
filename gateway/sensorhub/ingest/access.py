"""Who may write and read what at the embedded broker; whatever is not granted is denied.

One table for both brokers: mosquitto gets it as its access list, amqtt asks `permitted`. `gateway/mosquitto/acl`
is the same for a broker of one's own, and a test holds it against this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sensorhub.ingest.users import CONTROL, GATEWAY, HOME
from sensorhub.wire.topics import PREFIX

NODE: Final = ""
"""Every user that is not named in the table: a node, whose user name is its node name."""
UP: Final = ("announce", "data", "status", "snapshot")
DOWN: Final = ("receipt", "config", "update")


class Grant(NamedTuple):
    """One line of the table.

    Attributes:
        user: who; `NODE` for any node.
        writes: whether it is for writing, otherwise for reading.
        topic: an MQTT topic filter in which the level `%u` stands for the user's name.
    """

    user: str
    writes: bool
    topic: str


def grants(home_prefix: str = "homeassistant") -> list[Grant]:
    """The table; `home_prefix` is where Home Assistant's discovery topics begin."""
    any_node = f"{PREFIX}/+/+"
    birth = f"{home_prefix}/status"
    return [
        Grant(GATEWAY, False, f"{PREFIX}/#"),
        Grant(GATEWAY, False, "$SYS/broker/#"),
        Grant(GATEWAY, True, f"{any_node}/receipt"),
        Grant(CONTROL, False, f"{any_node}/status"),
        Grant(CONTROL, False, f"{any_node}/snapshot"),
        Grant(CONTROL, False, birth),
        Grant(CONTROL, True, f"{any_node}/config"),
        Grant(CONTROL, True, f"{any_node}/update"),
        Grant(CONTROL, True, f"{any_node}/state"),
        Grant(CONTROL, True, f"{home_prefix}/#"),
        # and whatever it told under another prefix, of up to four levels, which it takes back
        *(Grant(CONTROL, True, f"{'+/' * levels}device/+/config") for levels in range(1, 5)),
        Grant(HOME, False, f"{home_prefix}/#"),
        Grant(HOME, False, f"{any_node}/state"),
        Grant(HOME, False, f"{any_node}/status"),
        Grant(HOME, True, birth),
        *(Grant(NODE, True, f"{PREFIX}/+/%u/{leaf}") for leaf in UP),
        *(Grant(NODE, False, f"{PREFIX}/+/%u/{leaf}") for leaf in DOWN),
    ]


def acl(table: Iterable[Grant]) -> str:
    """The table as mosquitto's access list (mosquitto.conf(5), acl_file)."""
    lines = ["# generated; default is deny"]
    user = NODE
    for grant in sorted(table, key=lambda grant: grant.user):
        if grant.user != user:
            user = grant.user
            lines.append(f"user {user}")
        lines.append(
            f"{'pattern' if grant.user == NODE else 'topic'} {'write' if grant.writes else 'read'} {grant.topic}"
        )
    return "\n".join(lines) + "\n"


def permitted(table: Iterable[Grant], user: str, topic: str, *, writes: bool) -> bool:
    """Whether `user` may publish to a topic, or receive it or subscribe to it, wildcards and all."""
    levels = topic.split("/")
    if writes and {"+", "#"} & set(levels):
        return False
    named = any(grant.user == user for grant in table)
    return any(
        _covers([user if level == "%u" else level for level in grant.topic.split("/")], levels)
        for grant in table
        if grant.writes == writes and grant.user == (user if named else NODE)
    )


def _covers(granted: list[str], asked: list[str]) -> bool:
    """Whether every topic that `asked` matches is one that `granted` matches (MQTT 3.1.1, section 4.7)."""
    for at, level in enumerate(granted):
        if level == "#":
            # wildcards at the first level do not match topics that begin with $
            return at > 0 or not asked[0].startswith("$")
        if at >= len(asked) or asked[at] == "#" or (level != "+" and level != asked[at]):
            return False
    return len(granted) == len(asked)
