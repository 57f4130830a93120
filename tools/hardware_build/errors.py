"""The one error a maker may see."""


class HardwareError(Exception):
    """Raised when a hardware file is wrong or a program is missing; str() says which, where and what to do."""
