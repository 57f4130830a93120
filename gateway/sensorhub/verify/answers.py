"""Answers: what the verifier says, each apart, never merged into one verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class State(StrEnum):
    """What an answer can be. UNKNOWN means that it was not, or could not be, checked."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


INTACT: Final = "intact"
ROWS: Final = "rows"
DEVICE_SIGNED: Final = "device-signed"
LOGGED: Final = "logged"
ANCHORED: Final = "anchored"
JUDGED: Final = "judged"
FLAGGED: Final = "flagged"

EXIT_OK: Final = 0
"""Every requested answer holds."""
EXIT_USAGE: Final = 2
"""The command line is wrong, or a file or address could not be read."""
EXIT_UNKNOWN: Final = 9
"""No requested answer is wrong, but at least one could not be checked."""
EXIT_CODES: Final = {INTACT: 3, ROWS: 10, DEVICE_SIGNED: 4, LOGGED: 5, ANCHORED: 6, JUDGED: 7, FLAGGED: 8}
"""Exit code of each requested answer that does not hold; of several the first in this order counts."""

WANTED: Final = {FLAGGED: State.NO}
"""The state in which an answer holds, where that is not YES: not being flagged is what one hopes for."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at for an answer.

    Attributes:
        name: stable name, such as `entry-in-tree`; unique within the answer.
        passed: True held, False did not hold, None was not or could not be checked.
        text: for people: what was found.
    """

    name: str
    passed: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the report.

    Attributes:
        name: one of the names above.
        state: yes, no or unknown.
        reason: one sentence, the first failed check or the summary.
        rests_on: what one must believe for the answer to mean anything.
        checks: everything that was looked at, in order.
    """

    name: str
    state: State
    reason: str
    rests_on: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def holds(self) -> bool:
        return self.state is WANTED.get(self.name, State.YES)

    @property
    def refuted(self) -> bool:
        return not self.holds and self.state is not State.UNKNOWN

    def failed(self) -> tuple[str, ...]:
        """Names of the checks that did not hold."""
        return tuple(check.name for check in self.checks if check.passed is False)


def conclude(name: str, checks: Iterable[Check], *, summary: str, rests_on: Sequence[str] = ()) -> Answer:
    """An answer that is yes when every check held, no when one failed, unknown otherwise."""
    done = tuple(checks)
    failed = [check for check in done if check.passed is False]
    skipped = [check for check in done if check.passed is None]
    if failed:
        state, reason = State.NO, failed[0].text
    elif skipped or not done:
        state, reason = State.UNKNOWN, skipped[0].text if skipped else "nothing to check"
    else:
        state, reason = State.YES, summary
    return Answer(name, state, reason, tuple(rests_on), done)


def unknown(name: str, reason: str) -> Answer:
    """An answer that could not be given."""
    return Answer(name, State.UNKNOWN, reason)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the verifier found.

    Attributes:
        subject: what was verified, one line.
        answers: in the order in which they are shown.
        facts: what the verified bytes say (node, readings, log id ...), JSON types only. They are worth
            no more than the answers.
    """

    subject: str
    answers: tuple[Answer, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Answer:
        for answer in self.answers:
            if answer.name == name:
                return answer
        raise KeyError(name)

    def failed(self) -> tuple[str, ...]:
        """Every failed check as `answer.check`."""
        return tuple(f"{answer.name}.{check}" for answer in self.answers for check in answer.failed())

    def exit_code(self, requested: Iterable[str], *, tolerate_unknown: Iterable[str] = ()) -> int:
        """The documented exit code for a set of requested answers.

        Args:
            requested: answer names; one that the report does not have counts as unknown.
            tolerate_unknown: requested answers for which unknown is good enough.
        """
        wanted = set(requested)
        have = {answer.name: answer for answer in self.answers}
        for name, code in EXIT_CODES.items():
            if name in wanted and name in have and have[name].refuted:
                return code
        for name in wanted - set(tolerate_unknown):
            if name not in have or have[name].state is State.UNKNOWN:
                return EXIT_UNKNOWN
        return EXIT_OK

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {
            "subject": self.subject,
            "facts": self.facts,
            "answers": {
                answer.name: {
                    "state": str(answer.state),
                    "holds": answer.holds,
                    "reason": answer.reason,
                    "restsOn": list(answer.rests_on),
                    "checks": [
                        {"name": check.name, "passed": check.passed, "text": check.text}
                        for check in answer.checks
                    ],
                }
                for answer in self.answers
            },
        }
