"""The one input of a replay: bars in time windows, of a recording or of a topic, and the clock that goes with
them.

Out, keyed: `BarBatch` by symbol and `Ticks` by account. A window is a group of whole days; all symbols of a
window come before the next one, so every symbol is complete up to the window's end. The next window is read
while the graph works, so memory is two windows. State: the place in the recording or the topic.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from datetime import date
from threading import Event
from typing import Any, Protocol

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


@dataclass(slots=True)
class LoadedWindow:
    """One window, read. `symbols`: rows of every instrument, in the configured order; `refused`: what is no
    bar of one; `ignored`: rows of other symbols that do not count.

    `days` are those that have bars; the clock ticks in their sessions. `complete_ns`: no bar of a later
    window ends at or before it. `place`, `next_place`: plain data, where this window and the next one begin.
    `done`: how much of the whole lies before `next_place`.
    """

    symbols: list[BarRows]
    refused: tuple[DeadLetters, ...]
    ignored: int
    days: Window
    complete_ns: int
    final: bool
    place: Any
    next_place: Any
    done: float


class WindowReader(Protocol):
    """Reads windows, one after the other, in a thread of its own."""

    def read(self) -> LoadedWindow | None:
        """The next window; None where reading was stopped before it was there."""

    def stop(self) -> None:
        """End a `read` that waits. Called from another thread."""

    def close(self) -> None:
        """Nothing is read any more."""


class Windows(Protocol):
    """Bars of which windows are made."""

    @property
    def wait_seconds(self) -> float | None:
        """How long a replay waits for a window before it looks whether it is to stop; None: until the window
        is there.
        """

    @property
    def identity(self) -> Mapping[str, Any]:
        """What was read, as plain data for snapshots."""

    @property
    def total(self) -> int:
        """How much there is: days of a recording, offsets of a topic."""

    def take_up(self, saved: Mapping[str, Any]) -> None:
        """Continue what a snapshot has the identity of. Raises an error for people where this is another."""

    def reader(self, place: Any) -> WindowReader:
        """Reads from a place on, None for the beginning."""


class RecordedWindows:
    """The windows of a recording. A place is the number of a window."""

    wait_seconds = None

    def __init__(self, recording: BarRecording, window_rows: int, *, ignore_other_symbols: bool):
        self.recording = recording
        self.windows = recording.windows(window_rows)
        self.ignore_other_symbols = ignore_other_symbols
        self.total = len(recording.days)
        self.identity = {
            "recording": recording.identity,
            "windows": hashlib.sha256(repr(self.windows).encode()).hexdigest(),
        }

    def take_up(self, saved: Mapping[str, Any]) -> None:
        _refuse_another(saved, self.identity)

    def reader(self, place: int | None) -> "_RecordingReader":
        return _RecordingReader(self, place or 0)


class _RecordingReader:
    def __init__(self, of: RecordedWindows, window: int):
        self.of = of
        self.window = window

    def read(self) -> LoadedWindow:
        of, window = self.of, self.window
        self.window += 1
        rows = of.recording.read(of.windows[window], with_other_rows=not of.ignore_other_symbols)
        refused = _refused(rows)
        if window == 0:
            refused += _recorded_dead_letters(of.recording)
        final = self.window == len(of.windows)
        return LoadedWindow(
            rows.symbols,
            refused,
            sum(rows.other_counts.values()) if of.ignore_other_symbols else 0,
            of.windows[window],
            END_OF_TIME if final else _midnight_ns(of.windows[self.window][0]),
            final,
            window,
            self.window,
            sum(len(days) for days in of.windows[: self.window]),
        )

    def stop(self) -> None:
        """A read does not wait."""

    def close(self) -> None:
        """Files are open while they are read, and no longer."""


def _refuse_another(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    for key, value in mine.items():
        if saved.get(key) != value:
            raise RecordingError(
                f"the recovery snapshot was written for another recording or other batches "
                f"({key} {saved.get(key)!r}, now {value!r}); start anew with an empty recovery "
                f"directory"
            )


class WindowSource(FixedPartitionedSource[Item, dict[str, Any]]):
    """One partition: bars are read once and in order, whatever the number of workers."""

    def __init__(
        self,
        bars: Windows,
        sessions: Sessions,
        account: str,
        *,
        interval_ns: int,
        batch_bars: int,
        progress: Progress,
        commands: tuple[Int64s, NDArray[Any]],
    ):
        """`batch_bars`: most bars in one batch, 0 for a whole window at once; it changes no result.
        `commands`: times (m,) and rows (m,) of operators' commands for the account, in order.
        """
        self.bars = bars
        self.sessions = sessions
        self.account = account
        self.interval_ns = interval_ns
        self.batch_bars = batch_bars
        self.progress = progress
        self.commands = commands
        progress.days = bars.total
        self.identity = {
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
        if resume_state is None:
            return _Partition(self, None, 0, 0.0, ended=False)
        self.bars.take_up(resume_state)
        _refuse_another(resume_state, self.identity)
        progress = self.progress
        progress.days, progress.ignored = self.bars.total, resume_state["ignored"]
        place, cut = resume_state["place"]
        return _Partition(self, place, cut, resume_state["done"], ended=resume_state["ended"])


class ReplaySource(WindowSource):
    """The same, of a recording."""

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
        windows = RecordedWindows(recording, window_rows, ignore_other_symbols=ignore_other_symbols)
        self.windows = windows.windows
        super().__init__(
            windows,
            sessions,
            account,
            interval_ns=recording.interval_ns,
            batch_bars=batch_bars,
            progress=progress,
            commands=commands,
        )


class _Partition(StatefulSourcePartition[Item, dict[str, Any]]):
    def __init__(self, source: WindowSource, place: Any, cut: int, done: float, *, ended: bool):
        self.source = source
        self.place = place
        self.cut = cut
        self.done = done
        self.ended = ended
        self.first_window = place is None
        self.window: LoadedWindow | None = None
        source.progress.started = time.perf_counter()
        source.progress.days_done = done
        self.reader = source.bars.reader(place)
        self.thread = ThreadPoolExecutor(1, "reader")
        self.ahead: Future[LoadedWindow | None] | None = None
        if not ended:
            self.ahead = self.thread.submit(self.reader.read)

    def _load(self) -> LoadedWindow | None:
        """The window in hand; while it is made, the one after it is read."""
        if self.window is None:
            assert self.ahead is not None
            try:
                self.window = self.ahead.result(self.source.bars.wait_seconds)
            except NotYet:
                return None
            if self.window is not None and not self.window.final:
                self.ahead = self.thread.submit(self.reader.read)
        return self.window

    def next_batch(self) -> Iterable[Item]:
        source, progress = self.source, self.source.progress
        if self.ended or progress.stop.is_set():
            raise StopIteration
        window = self._load()
        if window is None:
            return []
        longest = max(len(bars) for bars in window.symbols)
        size = source.batch_bars or max(longest, 1)
        cuts = max(-(-longest // size), 1)
        first = self.cut * size
        last_cut = self.cut == cuts - 1
        complete_ns = window.complete_ns if last_cut else -1
        refused = window.refused if self.cut == 0 else ()
        items: list[Item] = [
            (
                bars.symbol,
                _batch(
                    bars,
                    first,
                    first + size,
                    complete_ns,
                    last_cut and window.final,
                    refused if k == 0 else (),
                ),
            )
            for k, bars in enumerate(window.symbols)
        ]
        if self.cut == 0:
            times, commands = source.commands if self.first_window else (None, None)
            clock = Ticks(self._tick_times(window.days), window.complete_ns, window.final, times, commands)
            items.append((source.account, clock))
        progress.rows += sum(len(batch) for _, batch in items if isinstance(batch, BarBatch))
        self.cut += 1
        progress.days_done = self.done + (window.done - self.done) * self.cut / cuts
        self.place = window.place
        if last_cut:
            progress.ignored += window.ignored
            self.place, self.cut, self.done = window.next_place, 0, window.done
            self.ended, self.first_window, self.window = window.final, False, None
        return items

    def _tick_times(self, days: Window) -> Int64s:
        """Bar ends of the sessions of the window's days."""
        sessions, step = self.source.sessions, self.source.interval_ns
        wanted = {_midnight_ns(day) for day in days}
        if not wanted:
            return np.zeros(0, np.int64)
        start, stop = np.searchsorted(sessions.open_ns, [min(wanted), max(wanted) + DAY_NS])
        times = [
            np.arange(open_ns + step, close_ns + 1, step)
            for open_ns, close_ns in zip(
                sessions.open_ns[start:stop], sessions.close_ns[start:stop], strict=True
            )
            if open_ns // DAY_NS * DAY_NS in wanted
        ]
        return np.concatenate(times) if times else np.zeros(0, np.int64)

    def close(self) -> None:
        self.reader.stop()
        self.thread.shutdown(wait=True, cancel_futures=True)
        self.reader.close()

    def snapshot(self) -> dict[str, Any]:
        return {
            **self.source.bars.identity,
            **self.source.identity,
            "place": (self.place, self.cut),
            "done": self.done,
            "ended": self.ended,
            "ignored": self.source.progress.ignored,
        }


def _refused(rows: WindowRows) -> tuple[DeadLetters, ...]:
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


def _recorded_dead_letters(recording: BarRecording) -> tuple[DeadLetters, ...]:
    """What never became a bar when the recording was made."""
    rows = recording.dead_letters()
    if not rows.height:
        return ()
    reasons = [DeadLetter[name.upper()] for name in rows["reason"]]
    symbols, records = rows["symbol"].fill_null("").to_list(), rows["record"].to_list()
    return (DeadLetters.of_bytes(BARS, symbols, reasons, records),)


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
