"""Indicators of one symbol; importing the package registers all of them.

Comes in: bars of one symbol in order. Goes out: rows of numbers, NaN while pending. State: one float64 vector
per variant and symbol, of the size the variant's parameters fix.
"""

from operators.indicators import (
    averages,
    dispersion,
    opening_range,
    relative_strength,
    returns,
    volume,
    vwap,
)

__all__ = ["averages", "dispersion", "opening_range", "relative_strength", "returns", "volume", "vwap"]
