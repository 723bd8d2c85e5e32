"""Bars of a recording beside executions, for the audit."""

from datetime import date
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connectors.recording import BarRecording
from schemas.records import MICRO
from schemas.topics import BARS

DAYS_KEPT = 4
MOST_PRICE = 10**6  # of a bar, far above what any configuration allows
SIDES: tuple[Literal["right", "left"], ...] = ("right", "left")
"""Of a moment: the bar that begins then or before, and the one that begins before."""


def rows_of(recording: BarRecording) -> int:
    """Rows of the recording, of any symbol."""
    paths = [
        path
        for day in recording.days
        for path in (recording.path / f"topic={BARS}" / f"day={day.isoformat()}").glob("part-*.parquet")
    ]
    return int(pl.scan_parquet(paths, hive_partitioning=False, glob=False).select(pl.len()).collect().item())


class BarRanges:
    """The low and high of the bar that each execution happened in. At the moment where one bar ends and the
    next begins, both count. Of several rows for one bar, all that are possible count.
    """

    def __init__(self, recording: BarRecording):
        self.recording = recording
        self.day = lru_cache(DAYS_KEPT)(self._read)

    def __call__(self, executions: NDArray[Any]) -> NDArray[np.int64]:
        """(n, 2) millionths, 0 where there is no bar."""
        ranges = np.zeros((len(executions), 2), np.int64)
        times, instruments = executions["time_ns"], executions["instrument"]
        days = times.view("M8[ns]").astype("M8[D]")
        for day in np.unique(days):
            for i, bars in enumerate(self.day(day.item())):
                mine = np.flatnonzero((days == day) & (instruments == i))
                ranges[mine] = self._within(bars, times[mine])
        return ranges

    def _within(self, bars: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
        """`bars` (3, n): start, low and high, by start."""
        step = self.recording.interval_ns
        least = np.full(len(times), np.iinfo(np.int64).max)
        most = np.zeros(len(times), np.int64)
        for side in SIDES:
            place = np.searchsorted(bars[0], times, side) - 1
            found = place >= 0
            found[found] &= times[found] - bars[0][place[found]] <= step
            least[found] = np.minimum(least[found], bars[1][place[found]])
            most[found] = np.maximum(most[found], bars[2][place[found]])
        return np.column_stack([np.where(most > 0, least, 0), most])

    def _read(self, day: date) -> list[NDArray[np.int64]]:
        """The bars of one day, by instrument."""
        if day not in self.recording.days:
            return [np.zeros((3, 0), np.int64) for _ in self.recording.symbols]
        days = []
        for rows in self.recording.read((day,)).symbols:
            low, high = rows.prices[2], rows.prices[1]
            possible = (rows.reason == 0) & (low > 0) & (low <= high) & (high <= MOST_PRICE)
            starts, places = np.unique(rows.start_ns[possible], return_inverse=True)
            bars = np.zeros((3, len(starts)), np.int64)
            bars[0], bars[1] = starts, MOST_PRICE * MICRO
            np.minimum.at(bars[1], places, np.floor(low[possible] * MICRO).astype(np.int64))
            np.maximum.at(bars[2], places, np.ceil(high[possible] * MICRO).astype(np.int64))
            days.append(bars)
        return days
