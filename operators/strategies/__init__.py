"""Strategies of one symbol; importing the package registers all of them, and the indicators they are made of.

Comes in: bars of one symbol and rows of indicator outputs. Goes out: one signal a bar, a probability or a
weight, NaN while pending. State: one float64 vector per variant and symbol, of the size the variant's
parameters fix.
"""

import operators.indicators  # noqa: F401  the features of a strategy are looked up by name
from operators.strategies import alternate, constant, dice, ema_cross, sigor, toggle

__all__ = ["alternate", "constant", "dice", "ema_cross", "sigor", "toggle"]
