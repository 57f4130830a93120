"""The root of every error that a user may see."""


class SensorhubError(Exception):
    """Raised when something a person can act on went wrong.

    The text says what was tried, with which file, key or host, why it failed and what to do. It never
    holds a secret.
    """
