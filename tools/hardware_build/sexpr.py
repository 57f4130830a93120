"""KiCad's file format: nested lists of words, numbers and quoted texts."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Node: TypeAlias = "str | Quoted | list[Node]"
_TOKEN: Final = re.compile(r'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|([^\s()"]+))')


class Quoted(str):
    """A text in quotes."""

    __slots__ = ()


def parse(text: str) -> Node:
    """The first list of a text. Raises ValueError."""
    stack: list[list[Node]] = [[]]
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if not found:
            raise ValueError(f"no token at character {at}")
        at = found.end()
        if found[1]:
            stack.append([])
        elif found[2]:
            done = stack.pop()
            if not stack:
                raise ValueError(f"a bracket too many at character {at}")
            stack[-1].append(done)
        elif found[3] is not None:
            stack[-1].append(Quoted(found[3].replace('\\"', '"').replace("\\\\", "\\")))
        else:
            stack[-1].append(found[4])
    if len(stack) != 1 or not stack[0]:
        raise ValueError("a bracket is open")
    return stack[0][0]


def write(node: Node, indent: int = 0) -> str:
    """Text of a node: short lists on a line, long ones a line for each item."""
    if isinstance(node, Quoted):
        return '"' + node.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(node, str):
        return node
    line = "(" + " ".join(write(item) for item in node) + ")"
    if len(line) + 2 * indent <= 100:
        return line
    pad = "\n" + "  " * (indent + 1)
    first, rest = node[0], node[1:]
    return "(" + write(first) + "".join(pad + write(item, indent + 1) for item in rest) + ")"


def find(node: Node, name: str) -> list[list[Node]]:
    """The lists within a node that begin with a word."""
    if isinstance(node, str):
        return []
    return [item for item in node if isinstance(item, list) and item and item[0] == name]


def value(node: list[Node], index: int = 1) -> str:
    """An item that must be a word or text. Raises ValueError."""
    item = node[index]
    if not isinstance(item, str):
        raise ValueError(f"{node[0]} has a list where a value should be")
    return item
