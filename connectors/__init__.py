"""Where records enter and leave: recordings, imports, generated markets, exchange calendars.

Connectors read and write; they judge nothing and compute no indicator. They import `schemas` only.
"""
