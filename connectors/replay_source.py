"""The one input of a replay: a recording read in time windows, and the clock that goes with it.

Out, keyed: `BarBatch` by symbol and `Ticks` by account. A window is a group of whole days; all symbols of a
window come before the next one, so every symbol is complete up to the window's end. The next window is read
while the graph works, so memory is two windows. State: the place in the recording.
"""

import hashlib
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from threading import Event
from typing import Any

import numpy as np
import polars as pl
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from numpy.typing import NDArray

from connectors.recording import BarRecording, BarRows, RecordingError, Window, WindowRows
from schemas.batches import BarBatch, DeadLetters, Int64s, Ticks
from schemas.codes import DeadLetter
from schemas.sessions import Sessions
from schemas.topics import BARS

DAY_NS = 86_400_000_000_000
END_OF_TIME = 2**63 - 1

Item = tuple[str, BarBatch | Ticks]


@dataclass(slots=True)
class Progress:
    """How far a replay has read, for whoever shows it. `stop` ends the replay at the next batch."""

    stop: Event
    days: int = 0
    days_done: float = 0.0
    rows: int = 0
    started: float = 0.0  # `time.perf_counter` at the first read
    summary: dict[str, Any] | None = None  # of the complete run
    ignored: int = 0  # rows of symbols that are not instruments, where the configuration says to ignore them


class ReplaySource(FixedPartitionedSource[Item, dict[str, Any]]):
    """One partition: a recording is read once and in order, whatever the number of workers."""

    def __init__(
        self,
        recording: BarRecording,
        sessions: Sessions,
        account: str,
        *,
        window_rows: int,
        batch_bars: int,
        ignore_other_symbols: bool,
        progress: Progress,
        commands: tuple[Int64s, NDArray[Any]],
    ):
        """`batch_bars`: most bars in one batch, 0 for a whole window at once; it changes no result.
        `commands`: times (m,) and rows (m,) of operators' commands for the account, in order.
        """
        self.recording = recording
        self.sessions = sessions
        self.account = account
        self.windows = recording.windows(window_rows)
        self.batch_bars = batch_bars
        self.ignore_other_symbols = ignore_other_symbols
        self.progress = progress
        self.commands = commands
        progress.days = len(recording.days)
        self.identity = {
            "recording": recording.identity,
            "windows": hashlib.sha256(repr(self.windows).encode()).hexdigest(),
            "batch_bars": batch_bars,
            "commands": hashlib.sha256(b"".join(part.tobytes() for part in commands)).hexdigest(),
        }

    def list_parts(self) -> list[str]:
        return ["recording"]

    def build_part(
        self,
        step_id: str,  # noqa: ARG002 - the form Bytewax calls
        for_part: str,  # noqa: ARG002
        resume_state: dict[str, Any] | None,
    ) -> "_Partition":
        place = (0, 0)
        if resume_state is not None:
            for key, mine in self.identity.items():
                if resume_state[key] != mine:
                    raise RecordingError(
                        f"the recovery snapshot was written for another recording or other batches "
                        f"({key} {resume_state[key]!r}, now {mine!r}); start anew with an empty recovery "
                        f"directory"
                    )
            place = resume_state["place"]
            self.progress.ignored = resume_state["ignored"]
        return _Partition(self, *place)


class _Partition(StatefulSourcePartition[Item, dict[str, Any]]):
    def __init__(self, source: ReplaySource, window: int, cut: int):
        self.source = source
        self.window = window
        self.cut = cut
        self.rows: WindowRows | None = None
        done = source.windows[:window]
        source.progress.started = time.perf_counter()
        self.reader = ThreadPoolExecutor(1, "reader")
        self.ahead = self._read_ahead(window)
        source.progress.days_done = sum(len(days) for days in done)

    def _read_ahead(self, window: int) -> Future[WindowRows] | None:
        """Start to read a window while the graph is busy with the one before it."""
        source = self.source
        if window == len(source.windows):
            return None
        ask = not source.ignore_other_symbols
        return self.reader.submit(source.recording.read, source.windows[window], with_other_rows=ask)

    def next_batch(self) -> Iterable[Item]:
        source, progress = self.source, self.source.progress
        if self.window == len(source.windows) or progress.stop.is_set():
            raise StopIteration
        days = source.windows[self.window]
        if self.rows is None:
            assert self.ahead is not None
            self.rows = self.ahead.result()
            self.ahead = self._read_ahead(self.window + 1)
        rows = self.rows
        longest = max(len(bars) for bars in rows.symbols)
        size = source.batch_bars or max(longest, 1)
        cuts = max(-(-longest // size), 1)
        first = self.cut * size
        last_cut = self.cut == cuts - 1
        final = last_cut and self.window == len(source.windows) - 1
        complete_ns = self._complete_ns() if last_cut else -1
        refused = self._refused(rows) if self.cut == 0 else ()
        if self.cut == self.window == 0:
            refused += _recorded_dead_letters(source.recording)
        items: list[Item] = [
            (
                bars.symbol,
                _batch(bars, first, first + size, complete_ns, final, refused if k == 0 else ()),
            )
            for k, bars in enumerate(rows.symbols)
        ]
        if self.cut == 0:
            times, commands = source.commands if self.window == 0 else (None, None)
            end_ns, last_window = self._complete_ns(), self.window == len(source.windows) - 1
            clock = Ticks(self._tick_times(days), end_ns, last_window, times, commands)
            items.append((source.account, clock))
        progress.rows += sum(len(batch) for _, batch in items if isinstance(batch, BarBatch))
        self.cut += 1
        progress.days_done += len(days) / cuts
        if last_cut:
            progress.ignored += sum(rows.other_counts.values()) if source.ignore_other_symbols else 0
            self.window, self.cut, self.rows = self.window + 1, 0, None
        return items

    def _complete_ns(self) -> int:
        """The end of this window: no bar of a later window ends at or before it."""
        windows = self.source.windows
        if self.window == len(windows) - 1:
            return END_OF_TIME
        return _midnight_ns(windows[self.window + 1][0])

    def _tick_times(self, days: Window) -> Int64s:
        """Bar ends of the sessions of the window's days."""
        sessions, step = self.source.sessions, self.source.recording.interval_ns
        wanted = {_midnight_ns(day) for day in days}
        start, stop = np.searchsorted(sessions.open_ns, [min(wanted), max(wanted) + DAY_NS])
        times = [
            np.arange(open_ns + step, close_ns + 1, step)
            for open_ns, close_ns in zip(
                sessions.open_ns[start:stop], sessions.close_ns[start:stop], strict=True
            )
            if open_ns // DAY_NS * DAY_NS in wanted
        ]
        return np.concatenate(times) if times else np.zeros(0, np.int64)

    def _refused(self, rows: WindowRows) -> tuple[DeadLetters, ...]:
        """Rows of symbols that are not instruments."""
        others = rows.other_rows
        if others is None or not others.height:
            return ()
        prices = np.ascontiguousarray(
            others.select("open", "high", "low", "close", "volume").fill_null(np.nan).to_numpy().T
        )
        times = others.select(pl.col("start_ns", "end_ns").to_physical().fill_null(0))
        return (
            DeadLetters(
                BARS,
                others["symbol"].cast(pl.String).to_list(),
                np.full(others.height, DeadLetter.UNKNOWN_SYMBOL, np.uint8),
                times["start_ns"].to_numpy(),
                times["end_ns"].to_numpy(),
                prices,
                [b""] * others.height,
            ),
        )

    def close(self) -> None:
        self.reader.shutdown(wait=True, cancel_futures=True)

    def snapshot(self) -> dict[str, Any]:
        return {
            **self.source.identity,
            "place": (self.window, self.cut),
            "ignored": self.source.progress.ignored,
        }


def _recorded_dead_letters(recording: BarRecording) -> tuple[DeadLetters, ...]:
    """What never became a bar when the recording was made."""
    rows = recording.dead_letters()
    n = rows.height
    if not n:
        return ()
    nothing = np.zeros(n, np.int64)
    return (
        DeadLetters(
            BARS,
            rows["symbol"].fill_null("").to_list(),
            np.array([DeadLetter[name.upper()] for name in rows["reason"]], np.uint8),
            nothing,
            nothing,
            np.full((5, n), np.nan),
            rows["record"].to_list(),
        ),
    )


def _midnight_ns(day: date) -> int:
    return int(np.datetime64(day, "ns").astype(np.int64))


def _batch(
    bars: BarRows, first: int, last: int, complete_ns: int, final: bool, refused: tuple[DeadLetters, ...]
) -> BarBatch:
    return BarBatch(
        bars.symbol,
        bars.start_ns[first:last],
        bars.end_ns[first:last],
        np.ascontiguousarray(bars.prices[:, first:last]),
        bars.reason[first:last],
        complete_ns,
        final,
        refused,
    )
