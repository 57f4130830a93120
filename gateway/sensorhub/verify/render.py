"""The report as plain text for people."""

from __future__ import annotations

import json
import textwrap
from datetime import UTC, datetime
from typing import Any, Final

from sensorhub.chain.untrusted import printable
from sensorhub.channels import BY_NAME, written
from sensorhub.verify.answers import WANTED, Answer, Report, State

WIDTH: Final = 100
"""Columns that a line of the report takes at most."""
SHOWN_READINGS: Final = 12
"""Readings of one message that are shown; the rest is counted."""

_MARKS: Final = {True: ("✓", "+"), False: ("✗", "x"), None: ("?", "?")}


def render(report: Report, *, details: bool = False, plain: bool = False) -> str:
    """The report, one line an answer and below each what it rests on.

    Names, units and reasons come from the file or from a server, so whatever a terminal would obey is escaped.

    Args:
        report: what to show.
        details: whether to list every single check.
        plain: whether to keep to ASCII.
    """
    lines = [printable(line) for line in (report.subject, *_facts(report.facts, plain), "")]
    width = max(len(answer.name) for answer in report.answers)
    for answer in report.answers:
        lines += _answer(answer, width, details, plain)
    text = "\n".join(lines) + "\n"
    return text.encode("ascii", "replace").decode() if plain else text


def _answer(answer: Answer, width: int, details: bool, plain: bool) -> list[str]:
    held = True if answer.holds else (None if answer.state is State.UNKNOWN else False)
    mark = _MARKS[held][plain]
    head = f" {mark} {answer.name.ljust(width)}  {str(answer.state).ljust(7)}  "
    indent = " " * len(head)
    lines = _wrapped(answer.reason, head, indent) or [head.rstrip()]
    for basis in answer.rests_on:
        lines += _wrapped(f"rests on {basis}", indent, indent + "  ")
    if details:
        for check in answer.checks:
            passed = check.passed if WANTED.get(answer.name) is None or check.passed is not False else False
            lines += _wrapped(f"{_MARKS[passed][plain]} {check.name}: {check.text}", indent, indent + "  ")
    return lines


def _wrapped(text: str, first: str, following: str) -> list[str]:
    return textwrap.wrap(printable(text), WIDTH, initial_indent=first, subsequent_indent=following)


def printable_json(text: str) -> str:
    """JSON text with the same characters written as JSON escapes; no value changes.

    Beyond ASCII, JSON allows characters in strings only, so each of them may be escaped where it stands.
    """
    return "".join(
        char if char == "\n" or printable(char) == char else json.dumps(char)[1:-1] for char in text
    )


def _facts(facts: dict[str, Any], plain: bool) -> list[str]:
    lines = []
    if facts.get("logId"):
        lines.append(f"  log id {facts['logId']}")
    if "node" in facts:
        received = _moment(facts["receivedMs"] / 1000)
        lines.append(
            f"  node {facts['site']}/{facts['node']}, boot {facts['boot']}, message {facts['seq']}, received {received}"
        )
    readings = facts.get("readings") or []
    for reading in readings[:SHOWN_READINGS]:
        when = "undated" if reading["time"] is None else _moment(reading["time"])
        verdict = ""
        if reading["score"] is not None:
            flags = ", ".join(reading["flags"]) or "no flags"
            verdict = f"   score {reading['score']:.2f}, {flags}"
        value = reading["value"]
        if not isinstance(value, str):
            value = written(value, BY_NAME[reading["channel"]], plain=plain)
        lines.append(f"  {when}  {reading['channel']:<16} {value:<22}{verdict}".rstrip())
    if len(readings) > SHOWN_READINGS:
        lines.append(f"  and {len(readings) - SHOWN_READINGS} more readings")
    if "artefact" in facts:
        artefact = facts["artefact"]
        lines.append(f"  {artefact['what']} {artefact['sha256']}: {artefact['description']}")
    if "counts" in facts:
        counts = facts["counts"]
        lines.append(
            f"  {counts['rows']:,} rows from {counts['messages']:,} messages of {counts['nodes']} nodes; "
            f"licence {facts['licence'] or 'not told'}"
        )
    if "messages" in facts and "size" in facts:
        lines.append(f"  {facts['size']:,} entries, {facts['messages']:,} of them messages")
    return lines


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
