"""Checkpoints of the log on an EVM chain.

`digest` is pure and light; `contract`, `poster` and `devnet` import web3 or a whole EVM, so import them by name.
"""
