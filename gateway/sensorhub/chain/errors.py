"""What can go wrong between the gateway and its chain."""

from __future__ import annotations

from sensorhub.errors import SensorhubError


class ChainError(SensorhubError):
    """Raised when the chain could not be asked or did not do what it was asked; trying again may help."""


class UnreachableError(ChainError):
    """Raised when an RPC server gave no usable answer."""


class MissingContractError(ChainError):
    """Raised when there is no GatewayLog at the configured address of the chain that answers."""


class FeeError(ChainError):
    """Raised when the chain asks for more per gas than the settings allow."""


class RefusedError(ChainError):
    """Raised when the contract or the node refuses a transaction.

    Attributes:
        reason: the contract's revert reason or the node's words.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class ForkError(ChainError):
    """Raised when going on could tell two stories of one log; a person has to look first."""
