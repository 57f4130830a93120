"""Checks proofs, datasets and whole logs without trusting the gateway that made them.

The room is pure: functions over bytes, no database, no settings, nothing of the gateway that runs. It may
import `errors`, `channels`, `wire`, `log.merkle`, `log.note`, `log.entries` and `chain.digest`, and the
standard library; `pyarrow` is loaded only when a dataset is opened. `tools/verify` is its command.
"""
