"""Columnar items that flow through the graph. One item is one symbol and n >= 0 consecutive records of it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Codes = NDArray[np.uint8]

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)


@dataclass(slots=True)
class BarBatch:
    """Consecutive bars of one symbol in order of arrival.

    `prices` is (5, n) float64, C-contiguous: open, high, low, close in the account's currency, volume in units traded.
    `reason` is (n,) uint8: a `DeadLetter` code given by the decoder, 0 for a bar that decoded cleanly.
    `complete_ns`: no bar of this symbol that ends at or before this time follows (event time, ns UTC).
    `final`: nothing follows at all; set on the last batch of a bounded recording only.
    """

    symbol: str
    start_ns: Int64s
    end_ns: Int64s
    prices: Float64s
    reason: Codes
    complete_ns: int
    final: bool = False

    def __len__(self) -> int:
        return len(self.end_ns)


@dataclass(slots=True)
class DeadLetters:
    """Records of one symbol that the graph refused, in order of arrival. `bytes_` holds each record as it came."""

    source: str  # topic
    symbol: str
    reason: Codes  # (n,) DeadLetter codes
    end_ns: Int64s  # (n,) the time the record claimed, 0 where it had none
    bytes_: list[bytes] = field(default_factory=list)
    final: bool = False


@dataclass(slots=True)
class MarketBatch:
    """Good bars of one symbol with what the market stage computed for them.

    `session` (n,) int64: index into the calendar's sessions. `minute` (n,) int64: bars since the session's open, 0 for
    the first. `features` (k, n) float64: indicator outputs, NaN while pending. `signals` (s, n) float64: one row a
    strategy, NaN while pending. `passed` (s, n) int64: filtered signals in millionths; `verdict` (s, n) uint8.
    """

    symbol: str
    end_ns: Int64s
    prices: Float64s
    session: Int64s
    minute: Int64s
    complete_ns: int
    final: bool
    features: Float64s
    signals: Float64s
    passed: Int64s
    verdict: Codes
