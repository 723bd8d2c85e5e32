"""Recordings: bars on disk as they came in, clean or not.

A recording is a folder: `recording.json` (format version, interval, where the bars come from) and
`topic=bars/day=YYYY-MM-DD/part-NNNNNN.parquet`, where the day is the UTC date of the bar's start. Rows inside
a day, part after part, keep their order of arrival. A recording judges nothing: null, NaN, an impossible
range and an unknown symbol stay as they came, every value survives.

In: frames of bars, `write_bars`. Out: windows of whole days, one group of columns a symbol, `BarRecording`.
State: the list of files, read once; memory is bounded by one window.

Always true: a file appears complete or not at all; the same files give the same windows and the same
identity.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.batches import Codes, Float64s, Int64s
from schemas.codes import DeadLetter
from schemas.topics import BARS, DEAD_LETTERS

FORMAT_VERSION = 1
DESCRIPTION = "recording.json"
PRICE_COLUMNS = ("open", "high", "low", "close", "volume")
TIME = pl.Datetime("ns", "UTC")
BAR_SCHEMA: Mapping[str, pl.DataType] = {
    "symbol": pl.Categorical(),  # dictionary in Parquet
    "start_ns": TIME,
    "end_ns": TIME,
    **{name: pl.Float64() for name in PRICE_COLUMNS},
    "source": pl.Categorical(),
}
"""Columns of a frame of bars, in order. Only `symbol` and `start_ns` are never null."""

_COLUMNS_READ = [name for name in BAR_SCHEMA if name != "source"]


class RecordingError(ValueError):
    """A folder that cannot be read or written as a recording; the message says what, where and what to do."""


@dataclass(frozen=True, slots=True)
class Description:
    """What `recording.json` says. `origin` is a label for people, such as "synthetic, seed 7"."""

    interval_ns: int
    origin: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def create_recording(
    recording: Path, interval_ns: int, origin: str, parameters: Mapping[str, Any] | None = None
) -> None:
    """Make an empty recording. Raises RecordingError when the folder exists and is not empty."""
    if recording.is_file() or (recording.is_dir() and any(recording.iterdir())):
        raise RecordingError(f"{recording} exists and is not empty; choose a new folder")
    if interval_ns <= 0:
        raise RecordingError(f"{recording}: an interval of {interval_ns} ns is not possible")
    recording.mkdir(parents=True, exist_ok=True)
    content = {
        "format_version": FORMAT_VERSION,
        "interval_ns": interval_ns,
        "origin": origin,
        "parameters": dict(parameters or {}),
    }
    unfinished = recording / f".{DESCRIPTION}.tmp"
    unfinished.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    unfinished.replace(recording / DESCRIPTION)


def read_description(recording: Path) -> Description:
    """What the recording says of itself. Raises RecordingError for nothing or an unknown version."""
    if not recording.is_dir():
        raise RecordingError(
            f"no recording at {recording}: no such folder; check the path or import bars first"
        )
    path = recording / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordingError(
            f"{recording} is no recording: it has no {DESCRIPTION}; name the folder that an import created"
        ) from None
    except ValueError as error:  # syntax and encoding
        raise RecordingError(f"{path} is not readable: {error}; create the recording again") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise RecordingError(
            f"{path}: format version {version!r} is not known, this program reads {FORMAT_VERSION}; "
            f"create the recording again"
        )
    interval = content.get("interval_ns")
    origin = content.get("origin")
    parameters = content.get("parameters")
    if type(interval) is not int or interval <= 0:
        raise RecordingError(f"{path}: interval_ns is {interval!r}, expected a positive whole number")
    if not isinstance(origin, str) or not isinstance(parameters, dict):
        raise RecordingError(
            f"{path}: origin must be a text and parameters an object; create the recording again"
        )
    return Description(interval, origin, parameters)


def write_bars(recording: Path, frame: pl.DataFrame) -> None:
    """Append bars, in order of arrival, one new part for every day among them.

    `frame` has the columns of `BAR_SCHEMA`; text may be plain strings. Raises RecordingError for a folder
    that is no recording, other columns or types, and a null symbol or start: such a row is no bar, its caller
    refuses it.
    """
    read_description(recording)
    if frame.columns != list(BAR_SCHEMA):
        raise RecordingError(f"bars have the columns {', '.join(BAR_SCHEMA)}; got {', '.join(frame.columns)}")
    for name, expected in BAR_SCHEMA.items():
        given = frame.schema[name]
        text = expected == pl.Categorical and given in (pl.String, pl.Categorical, pl.Enum)
        if given != expected and not text:
            raise RecordingError(f"column {name} is {given}, expected {expected}")
    for name in ("symbol", "start_ns"):
        nulls = frame[name].null_count()
        if nulls:
            raise RecordingError(
                f"{nulls} rows have no {name}: they are no bars, refuse them before recording"
            )
    dated = frame.with_columns(pl.col("start_ns").dt.date().alias("day"))
    for (day,), rows in dated.partition_by(
        "day", as_dict=True, include_key=False, maintain_order=True
    ).items():
        assert isinstance(day, date)
        folder = recording / f"topic={BARS}" / f"day={day.isoformat()}"
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(path.stem[5:]) for path in folder.glob("part-*.parquet")), default=-1)
        unfinished = folder / f".part-{number:06d}.tmp"
        rows.cast({"symbol": pl.Categorical, "source": pl.Categorical}).write_parquet(
            unfinished, compression="lz4", statistics=False
        )
        unfinished.replace(folder / f"part-{number:06d}.parquet")


@dataclass(slots=True)
class BarRows:
    """Rows of one symbol in order of arrival, n >= 0.

    `start_ns` and `end_ns` (n,) int64, 0 where null; `prices` (5, n) float64, C-contiguous, NaN where null;
    `reason` (n,) uint8: MISSING_FIELD where any field is null, else 0.
    """

    symbol: str
    start_ns: Int64s
    end_ns: Int64s
    prices: Float64s
    reason: Codes

    def __len__(self) -> int:
        return len(self.end_ns)


@dataclass(slots=True)
class WindowRows:
    """One window: every configured symbol in the configured order, and how many rows of other symbols it
    holds.

    `other_rows` has those rows with all columns in order of arrival, when they were asked for.
    """

    symbols: list[BarRows]
    other_counts: dict[str, int]
    other_rows: pl.DataFrame | None = None


Window = tuple[date, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    day: date
    path: str
    size: int


class BarRecording:
    """Reads one recording, for given symbols and days.

    `days`: UTC dates that have bars, ascending. `identity`: a hash over names and sizes of the files within
    reach; it changes when a day in range is added, removed or appended to.
    """

    def __init__(
        self, path: Path, symbols: Sequence[str], first: date | None = None, last: date | None = None
    ) -> None:
        """Raises RecordingError for no recording, no bars, no day in [first, last] and a symbol without any
        bar.
        """
        description = read_description(path)
        self.path = path
        self.symbols = tuple(symbols)
        self.interval_ns = description.interval_ns
        self.origin = description.origin
        if len(set(self.symbols)) != len(self.symbols) or not self.symbols:
            raise RecordingError(f"symbols to read must be at least one and distinct; got {list(symbols)}")
        if first is not None and last is not None and first > last:
            raise RecordingError(f"{path}: the first day {first} is after the last day {last}")
        parts = _parts(path)
        if not parts:
            raise RecordingError(f"{path} holds no bars; import or record some first")
        self._parts = [
            part
            for part in parts
            if (first is None or part.day >= first) and (last is None or part.day <= last)
        ]
        if not self._parts:
            raise RecordingError(
                f"{path} has no bars from {first or 'the start'} to {last or 'the end'}; "
                f"it covers {parts[0].day} to {parts[-1].day}"
            )
        self._by_day: dict[date, list[_Part]] = {}
        for part in self._parts:
            self._by_day.setdefault(part.day, []).append(part)
        self.days: tuple[date, ...] = tuple(self._by_day)
        digest = hashlib.sha256()
        for part in self._parts:
            digest.update(f"{part.day} {os.path.basename(part.path)} {part.size}\n".encode())
        self.identity = digest.hexdigest()
        # Opening files is the main cost of reading: one stands for all, the largest has the most symbols.
        self._sample = max(self._parts, key=lambda part: part.size)
        self._refuse_absent_symbols()

    def _refuse_absent_symbols(self) -> None:
        missing = set(self.symbols) - _symbols_of([self._sample.path])
        if not missing:
            return
        found = _symbols_of([part.path for part in self._parts])
        missing -= found
        if missing:
            raise RecordingError(
                f"{self.path} has no bars of {', '.join(sorted(missing))} "
                f"from {self.days[0]} to {self.days[-1]}; it has {', '.join(sorted(found))}"
            )

    def windows(self, window_rows: int) -> list[Window]:
        """Consecutive groups of whole days, at least one day each, of about `window_rows` rows at most.

        Rows a day are estimated from file sizes.
        """
        if window_rows <= 0:
            raise RecordingError(f"a window of {window_rows} rows is not possible; at least 1")
        rows_a_byte = pq.read_metadata(self._sample.path).num_rows / self._sample.size
        windows: list[Window] = []
        group: list[date] = []
        rows = 0
        for day, parts in self._by_day.items():
            estimate = max(1, round(sum(part.size for part in parts) * rows_a_byte))
            if group and rows + estimate > window_rows:
                windows.append(tuple(group))
                group, rows = [], 0
            group.append(day)
            rows += estimate
        windows.append(tuple(group))
        return windows

    def dead_letters(self) -> pl.DataFrame:
        """Rows that never became bars when the recording was made, with reason, record, file and row."""
        paths = sorted((self.path / f"topic={DEAD_LETTERS}").glob("*.parquet"))
        if not paths:
            return pl.DataFrame()
        try:
            return pl.concat([pl.read_parquet(path) for path in paths])
        except (pl.exceptions.PolarsError, OSError) as error:
            raise RecordingError(f"{self.path}: its dead letters are not readable: {error}") from error

    def read(self, window: Window, with_other_rows: bool = False) -> WindowRows:
        """All rows of the window's days. Raises RecordingError for a day outside reach and an unreadable
        file.
        """
        frame = self._read(window, list(BAR_SCHEMA) if with_other_rows else _COLUMNS_READ)
        known = frame["symbol"].cast(pl.Enum(self.symbols), strict=False)
        codes: NDArray[np.int16] = known.to_physical().cast(pl.Int16).fill_null(-1).to_numpy()
        counts = np.bincount(codes.astype(np.int64) + 1, minlength=len(self.symbols) + 1)
        others = frame.filter(known.is_null()) if counts[0] else frame.clear()
        names = others["symbol"].cast(pl.String).value_counts().sort("symbol")
        other_counts: dict[str, int] = dict(names.iter_rows())
        columns = _Columns(frame)
        if len(self.symbols) == 1 and counts[0] == 0:
            rows = [columns.take(self.symbols[0], None)]
        else:
            order = np.argsort(codes, kind="stable")  # a radix sort for 16 bits; stable: arrival order stays
            ends = np.cumsum(counts)
            rows = [
                columns.take(symbol, order[ends[k] : ends[k + 1]]) for k, symbol in enumerate(self.symbols)
            ]
        return WindowRows(rows, other_counts, others if with_other_rows else None)

    def read_frame(self, window: Window) -> pl.DataFrame:
        """All rows of the window's days, of any symbol, as they were written."""
        return self._read(window, list(BAR_SCHEMA))

    def _read(self, window: Window, columns: list[str]) -> pl.DataFrame:
        for day in window:
            if day not in self._by_day:
                raise RecordingError(f"{self.path} has no bars on {day} within reach")
        return _read_parts([part.path for day in window for part in self._by_day[day]], columns)


class _Columns:
    """A frame's columns as arrays, nulls apart."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.length = frame.height
        self.missing: NDArray[np.bool_] | None = None
        nulls = frame.select(_COLUMNS_READ).null_count().row(0)
        if any(nulls):
            self.missing = frame.select(pl.any_horizontal(pl.col(_COLUMNS_READ).is_null()).alias("missing"))[
                "missing"
            ].to_numpy()
            frame = frame.with_columns(
                pl.col("start_ns", "end_ns").to_physical().fill_null(0),
                pl.col(PRICE_COLUMNS).fill_null(np.nan),
            )
        self.start_ns: Int64s = frame["start_ns"].to_physical().to_numpy()
        self.end_ns: Int64s = frame["end_ns"].to_physical().to_numpy()
        self.prices: list[Float64s] = [frame[name].to_numpy() for name in PRICE_COLUMNS]

    def take(self, symbol: str, at: NDArray[np.intp] | None) -> BarRows:
        """The rows `at`, or all."""
        n = self.length if at is None else len(at)
        prices = np.empty((len(PRICE_COLUMNS), n), dtype=np.float64)
        reason = np.zeros(n, dtype=np.uint8)
        if at is None:
            for k, column in enumerate(self.prices):
                prices[k] = column
            start_ns, end_ns = self.start_ns.copy(), self.end_ns.copy()
            if self.missing is not None:
                reason[self.missing] = DeadLetter.MISSING_FIELD
        else:
            for k, column in enumerate(self.prices):
                np.take(column, at, out=prices[k], mode="clip")  # "raise" would go through a buffer
            start_ns, end_ns = self.start_ns[at], self.end_ns[at]
            if self.missing is not None:
                reason[self.missing[at]] = DeadLetter.MISSING_FIELD
        return BarRows(symbol, start_ns, end_ns, prices, reason)


def _parts(recording: Path) -> list[_Part]:
    """All parts of the bars, by day, then in the order they were written."""
    topic = recording / f"topic={BARS}"
    found: list[_Part] = []
    if not topic.is_dir():
        return found
    with os.scandir(topic) as folders:
        for folder in folders:
            if not folder.is_dir():
                continue
            try:
                day = date.fromisoformat(folder.name.removeprefix("day="))
            except ValueError:
                raise RecordingError(f"{folder.path}: expected a folder named day=YYYY-MM-DD") from None
            with os.scandir(folder.path) as files:
                found.extend(
                    _Part(day, file.path, file.stat().st_size)
                    for file in files
                    if file.name.endswith(".parquet") and not file.name.startswith(".")
                )
    found.sort(key=lambda part: (part.day, part.path))
    return found


def _read_parts(paths: list[str], columns: list[str]) -> pl.DataFrame:
    try:
        return pl.scan_parquet(paths, hive_partitioning=False, glob=False).select(columns).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecordingError(f"bars are not readable, from {paths[0]} on: {error}") from error


def _symbols_of(paths: list[str]) -> set[str]:
    return set(_read_parts(paths, ["symbol"])["symbol"].unique().cast(pl.String).to_list())
