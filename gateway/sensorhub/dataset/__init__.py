"""Proofs of single readings and datasets with their evidence, made from a gateway's log.

`prove` and `export` write what the `verify` room checks. pyarrow is loaded only by `export`.
"""
