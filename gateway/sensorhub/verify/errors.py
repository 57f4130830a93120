"""The one error of the verifier."""

from __future__ import annotations

from sensorhub.errors import SensorhubError


class VerifyError(SensorhubError):
    """Raised when something handed to the verifier is not what its format says.

    A claim that is well formed but false is never an error: it is an answer of the report.

    Attributes:
        where: the field or file, as `node.path[3]` or `evidence/entries.bin`; empty for the whole.
        problem: what is wrong with it.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}" if where else problem)
        self.where = where
        self.problem = problem
