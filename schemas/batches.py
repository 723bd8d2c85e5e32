"""Columnar items that flow through the graph. One item is one symbol and n >= 0 consecutive records of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.codes import HaltLevel

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Codes = NDArray[np.uint8]

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)


@dataclass(slots=True)
class DeadLetters:
    """Records that were refused, in order of arrival; n >= 0. Fields a record did not have are 0, NaN or
    empty.

    `reason` (n,) uint8 `DeadLetter` codes; `start_ns`, `end_ns` (n,) int64; `prices` (5, n) float64; `raw`
    the bytes of each record that could not be decoded, empty where the columns say it all. `places`:
    (partition, offset) of each, where they came from a topic and are known.
    """

    topic: str
    symbol: list[str]
    reason: Codes
    start_ns: Int64s
    end_ns: Int64s
    prices: Float64s
    raw: list[bytes]
    final: bool = False
    places: list[tuple[int, int]] | None = None

    @classmethod
    def of_bytes(
        cls,
        topic: str,
        symbol: list[str],
        reason: Sequence[int],
        raw: list[bytes],
        places: list[tuple[int, int]] | None = None,
    ) -> "DeadLetters":
        """Records that never had fields."""
        n = len(reason)
        nothing = np.zeros(n, np.int64)
        codes = np.array(reason, np.uint8)
        return cls(topic, symbol, codes, nothing, nothing, np.full((5, n), np.nan), raw, places=places)

    def __len__(self) -> int:
        return len(self.reason)


@dataclass(slots=True)
class BarBatch:
    """Consecutive bars of one symbol in order of arrival; n >= 0.

    `prices` is (5, n) float64, C-contiguous: open, high, low, close in the account's currency, volume in
    units traded. `reason` is (n,) uint8: a `DeadLetter` code given by the decoder, 0 for a bar that decoded
    cleanly. `complete_ns`: every bar of this symbol that ends at or before this time has been sent (event
    time, ns UTC). `final`: nothing follows at all; set on the last batch of a bounded recording only.
    `refused`: records that arrived with this batch and never became bars.
    """

    symbol: str
    start_ns: Int64s
    end_ns: Int64s
    prices: Float64s
    reason: Codes
    complete_ns: int
    final: bool = False
    refused: tuple[DeadLetters, ...] = ()

    def __len__(self) -> int:
        return len(self.end_ns)


@dataclass(slots=True)
class MarketBatch:
    """Good bars of one symbol with what the market stage computed for them; each step fills its own fields.

    `session` (n,) int64: index into the calendar's sessions. `minute` (n,) int64: bars since the session's
    open, 0 for the first. `features` (k, n) float64: indicator outputs, NaN while pending. `signals` (s, n)
    float64: one row a strategy, NaN while pending. `passed` (s, n) int64: filtered signals in millionths;
    `verdict` (s, n) uint8.
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


@dataclass(slots=True)
class SliceBatch:
    """Market slices of one symbol for the journal: `events` (n,) rows of the journal in time order, `values`
    (n, s) int64
    signals in millionths, `verdicts` (n, s) uint8. `complete_ns` and `final` as in `BarBatch`."""

    instrument: int
    events: NDArray[Any]
    values: Int64s
    verdicts: Codes
    complete_ns: int
    final: bool


@dataclass(slots=True)
class Ticks:
    """The clock: event times (n,) int64, rising; and operators' commands, with the times (m,) int64 at which
    they reached the journal, in order. `complete_ns` and `final` as in `BarBatch`.
    """

    times_ns: Int64s
    complete_ns: int
    final: bool = False
    command_times_ns: Int64s | None = None
    commands: NDArray[Any] | None = None


@dataclass(slots=True)
class JournalRows:
    """Consecutive records of one account's journal, as they stand there; n >= 1.

    `offsets` (n,) int64: their places in the journal, rising. The other fields as in `JournalBatch`.
    """

    offsets: Int64s
    events: NDArray[Any]
    values: Int64s
    verdicts: Codes
    reports: NDArray[Any]
    commands: NDArray[Any]


@dataclass(slots=True)
class VenueInput:
    """What a venue has to know: records of the journal, and requests of the account, (m,) rows of
    `dtype_of(Order)`. A request comes before the journal records that were written after it, if not sooner.
    """

    journal: JournalRows | None
    orders: NDArray[Any]


@dataclass(slots=True)
class VenueBatch:
    """A venue's reports, rows (n,) of `dtype_of(Report)`; `number` counts all before them."""

    number: int
    reports: NDArray[Any]


@dataclass(slots=True)
class JournalBatch:
    """Aligned rows of one account's journal, in order; fields as in `SliceBatch`.

    `offset`: rows of the journal before these, without a gap. `reports` and `commands`: what the rows that
    are executions and control point to with `detail`.
    """

    offset: int
    events: NDArray[Any]
    values: Int64s
    verdicts: Codes
    reports: NDArray[Any]
    commands: NDArray[Any]
    final: bool


@dataclass(slots=True)
class AccountBatch:
    """What the account stage made of one batch of its journal: rows of each output, the halt level then and,
    at the end of a bounded recording, the account's own figures.
    """

    orders: NDArray[Any]
    executions: NDArray[Any]
    decisions: NDArray[Any]
    equity: NDArray[Any]
    alerts: NDArray[Any]
    level: HaltLevel
    final: bool
    account: dict[str, Any] | None
