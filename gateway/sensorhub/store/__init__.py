"""The store: a projection of the log that answers questions about readings (see README.md beside this file)."""

from sensorhub.store.protocol import Store
from sensorhub.store.reader import ResolutionError, SqliteReader
from sensorhub.store.rebuild import rebuild
from sensorhub.store.schema import StoreError, StoreNotBegunError
from sensorhub.store.sqlite import SqliteStore

__all__ = [
    "ResolutionError",
    "SqliteReader",
    "SqliteStore",
    "Store",
    "StoreError",
    "StoreNotBegunError",
    "rebuild",
]
