"""Thousands of arbitrary sessions in one process, each judged after every event by books of its own.

`scenario` makes a session from a seed, `run` puts account, venue and journal through it, `shadow` keeps books
from what the venue said, `statements` asks the numbered statements of those books, `shrink` makes a failure
small, `command` is `sluice simulate`.
"""
