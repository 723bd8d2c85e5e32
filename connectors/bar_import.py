"""Turns a user's CSV or Parquet files into a recording.

In: one file, or a folder of files named SYMBOL.csv or SYMBOL.parquet, with a header and one row a bar. Out: a
new recording, and a report of what it holds. State: what is known of each symbol, one batch of rows, one
window of bars.

A row that cannot become a bar (a time or a number that is none, text in a number, no symbol, a local time
that does not exist or exists twice) goes to `topic=dead-letters` of the recording: reason, the row as JSON,
file and row number. A row that is a bar but a wrong one stays in the recording, where the graph refuses it
with the reason reported here.

Always true: nothing is corrected, and every row read is a bar of the recording, a dead letter, or outside the
dates asked for. The recording appears when all is done, or not at all. Where the unit, the columns or the
separator were not said, the report says what was assumed.

Limit: of a CSV row with too many fields the first eight surplus ones are kept, and bytes that are no UTF-8
are kept as U+FFFD; file and row number lead to the original.
"""

import csv
import json
import shutil
import zoneinfo
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import polars as pl
from rich.table import Table

from connectors.recording import (
    BAR_SCHEMA,
    PRICE_COLUMNS,
    TIME,
    BarRecording,
    create_recording,
    write_bars,
)
from schemas.batches import BarBatch, Codes, Int64s
from schemas.codes import DeadLetter
from schemas.sessions import Sessions
from schemas.topics import DEAD_LETTERS

Judge = Callable[[BarBatch], tuple[Codes, Int64s, Int64s]]
"""Reasons, session and minute of the next bars of a symbol; it keeps its state by symbol."""

ROWS_AT_ONCE = 200_000

_GUESSES: Mapping[str, tuple[str, ...]] = {
    "start": ("start", "start_ns", "start_time"),
    "end": ("end", "end_ns", "end_time"),
    "time": ("ts", "timestamp", "time", "datetime", "date", "date_time", "t"),
    "symbol": ("symbol", "ticker", "sym"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "v", "vol"),
}
_UNITS: Mapping[str, int] = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_SURPLUS = tuple(f"surplus field {k}" for k in range(1, 9))
_ROW = "row number"
_LARGEST = 2**63 - 1
_NUMBER = r"^[+-]?\d+(\.\d*)?$"
_MOMENT = r"^(\d{4})-(\d{2})-(\d{2}) \d{1,2}:\d{2}:[0-5]\d(\.\d{1,9})?([+-]\d{2}:?\d{2})?$"
_OFFSET = r"[+-]\d{2}:?\d{2}$"

_DEAD_SCHEMA: Mapping[str, pl.DataType] = {
    "reason": pl.String(),
    "detail": pl.String(),
    "symbol": pl.String(),
    "record": pl.Binary(),
    "file": pl.String(),
    "row": pl.Int64(),
}


class BarImportError(ValueError):
    """Files that cannot be imported as asked; the message says what, where and what to do."""


@dataclass(slots=True)
class SymbolReport:
    """What was found of one symbol. Times and gaps are those of accepted bars; a gap is a run of bars missing
    inside sessions between the first bar and the last.
    """

    symbol: str
    rows: int = 0
    accepted: int = 0
    first: datetime | None = None
    last: datetime | None = None
    gaps: int = 0
    missing_bars: int = 0
    largest_gap: int = 0
    sessions: int = 0
    half_days: list[date] = field(default_factory=list)
    refused: Counter[DeadLetter] = field(default_factory=Counter)

    @property
    def duplicates(self) -> int:
        """Bars seen before with the same content."""
        return self.refused[DeadLetter.DUPLICATE]


@dataclass(slots=True)
class ImportReport:
    """`rows` read = `recorded` + `dead_letters` + `outside_dates`. `refused` counts dead letters and refused
    bars.
    """

    recording: Path
    files: int = 0
    rows: int = 0
    recorded: int = 0
    dead_letters: int = 0
    outside_dates: int = 0
    symbols: dict[str, SymbolReport] = field(default_factory=dict)
    refused: Counter[DeadLetter] = field(default_factory=Counter)
    assumptions: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column of a file plays which part."""

    times: tuple[str, ...]  # one column, or date and time of day
    stamped: str
    end: str | None  # a second time column: the bar's end beside its start
    symbol: str | None
    numbers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Instants:
    """`ns` null where the time is absent or wrong; `fault` says what is wrong."""

    ns: pl.Series
    fault: pl.Series


def import_bars(
    source: Path,
    recording: Path,
    *,
    interval_ns: int,
    sessions: Sessions,
    judge: Judge,
    columns: Mapping[str, str] | None = None,
    stamped: str | None = None,
    zone: str | None = None,
    unit: str | None = None,
    symbol: str | None = None,
    first: date | None = None,
    last: date | None = None,
    origin: str | None = None,
) -> ImportReport:
    """Import `source` into the new recording `recording`.

    `columns` maps a column of the file to start, end, time, symbol, open, high, low, close or volume; usual
    names need no mapping. `stamped` says whether times are a bar's "start" or its "end". `zone` (IANA) is
    that of times without one. `unit` (s, ms, us, ns) is that of epoch numbers. `symbol` names the bars of a
    file without such a column, otherwise its file name does. `first` and `last` bound the UTC date of a bar's
    start.

    Raises BarImportError; then `recording` does not exist.
    """
    _refuse_options(recording, interval_ns, stamped, zone, unit, columns)
    files = _files(source)
    if symbol is not None and len(files) > 1:
        raise BarImportError(
            f"{source} holds {len(files)} files: they cannot all be {symbol}; leave symbol out"
        )
    report = ImportReport(recording)
    if source.is_dir():
        ignored = sorted(p.name for p in source.iterdir() if p not in files and not p.name.startswith("."))
        if ignored:
            report.assumptions.append(f"ignored, neither CSV nor Parquet: {', '.join(ignored)}")
    origin = origin or f"imported from {source.name}"
    parameters = {"columns": dict(columns or {}), "stamped": stamped, "zone": zone, "unit": unit}
    work = recording.parent / f".{recording.name}.importing"
    shutil.rmtree(work, ignore_errors=True)  # what an import that was killed left behind
    staged, finished = work / "staged", work / "finished"
    try:
        create_recording(staged, interval_ns, origin)
        create_recording(finished, interval_ns, origin, parameters)
        dead_parts = 0
        assumed: dict[str, list[str]] = {}
        for path in files:
            reader = _FileReader(path, columns or {}, stamped, zone, unit, symbol, interval_ns, assumed)
            for bars, dead in reader.batches():
                report.rows += bars.height + dead.height
                day = pl.col("start_ns").dt.date()
                inside = bars.filter(day >= (first or date.min), day <= (last or date.max))
                report.outside_dates += bars.height - inside.height
                report.recorded += inside.height
                if inside.height:
                    write_bars(staged, inside)
                _count(report, inside, dead)
                if dead.height:
                    folder = finished / f"topic={DEAD_LETTERS}"
                    folder.mkdir(exist_ok=True)
                    dead.write_parquet(folder / f"part-{dead_parts:06d}.parquet", compression="zstd")
                    dead_parts += 1
            report.files += 1
        for what, names in assumed.items():
            where = "every file" if len(names) == len(files) > 1 else ", ".join(names)
            report.assumptions.append(f"{where}: {what}")
        if report.recorded == 0:
            raise BarImportError(_why_nothing(source, report, first, last, finished))
        symbols = sorted(s.symbol for s in report.symbols.values() if s.rows > sum(s.refused.values()))
        _merge_days(staged, finished, symbols)
        _judge(finished, symbols, sessions, judge, report)
        if recording.is_dir():
            recording.rmdir()  # it is empty, or this would have been refused
        finished.rename(recording)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


def _refuse_options(
    recording: Path,
    interval_ns: int,
    stamped: str | None,
    zone: str | None,
    unit: str | None,
    columns: Mapping[str, str] | None,
) -> None:
    if recording.exists() and not (recording.is_dir() and not any(recording.iterdir())):
        raise BarImportError(f"{recording} exists and is not empty; import into a new folder")
    if interval_ns <= 0:
        raise BarImportError(f"an interval of {interval_ns} ns is not possible")
    if stamped not in (None, "start", "end"):
        raise BarImportError(f"stamped: {stamped!r} is not known; start or end")
    if unit is not None and unit not in _UNITS:
        raise BarImportError(f"unit: {unit!r} is not known; one of {', '.join(_UNITS)}")
    for name, part in (columns or {}).items():
        if part not in _GUESSES:
            raise BarImportError(
                f"columns: {name}={part}: no such part of a bar; one of {', '.join(_GUESSES)}"
            )
    if zone is not None:
        zones = zoneinfo.available_timezones()
        if zone not in zones:
            near = get_close_matches(zone, zones, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; use a name such as America/New_York"
            raise BarImportError(f"zone: {zone!r} is not known{hint}")


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        files = sorted(
            p for p in source.iterdir() if p.suffix.lower() in (".csv", ".parquet") and p.is_file()
        )
        if not files:
            raise BarImportError(f"{source} holds no .csv or .parquet file")
        return files
    if not source.is_file():
        raise BarImportError(f"no such file or folder: {source}")
    if source.suffix.lower() not in (".csv", ".parquet"):
        raise BarImportError(f"{source}: only .csv and .parquet files can be imported")
    return [source]


class _FileReader:
    """One file, batch by batch: rows that are bars, and rows that cannot become one."""

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str],
        stamped: str | None,
        zone: str | None,
        unit: str | None,
        symbol: str | None,
        interval_ns: int,
        assumed: dict[str, list[str]],
    ) -> None:
        self.path = path
        self.zone = zone
        self.unit = unit
        self.interval_ns = interval_ns
        self.assumed = assumed
        self.zone_was_checked = False
        self.names, self.frame = self._open()
        self.columns = self._parts(columns, stamped)
        if self.columns.symbol is not None and symbol is not None:
            raise BarImportError(
                f"{path} has its own symbols in column {self.columns.symbol}; leave symbol {symbol!r} out"
            )
        self.symbol = symbol or path.stem
        if self.columns.symbol is None and symbol is None:
            self._assume("the symbol is the file's name")

    def _assume(self, what: str) -> None:
        self.assumed.setdefault(what, []).append(self.path.name)

    def _open(self) -> tuple[list[str], pl.LazyFrame]:
        try:
            if self.path.suffix.lower() == ".parquet":
                scan = pl.scan_parquet(self.path, hive_partitioning=False, glob=False)
                names = scan.collect_schema().names()
                return names, scan.with_row_index(_ROW, offset=1)
            with self.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                line = file.readline()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise BarImportError(f"{self.path} is not readable: {error}") from error
        separator = max(",;\t|", key=line.count)
        if separator != ",":
            self._assume(f"fields are separated by {separator!r}")
        names = [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
        if not any(names):
            raise BarImportError(f"{self.path} is empty; its first line must name the columns")
        if len(set(names)) != len(names):
            raise BarImportError(f"{self.path} names a column twice: {', '.join(names)}")
        scan = pl.scan_csv(
            self.path,
            has_header=False,
            skip_rows=1,
            separator=separator,
            schema=dict.fromkeys((*names, *_SURPLUS), pl.String),
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
            missing_columns="insert",
            raise_if_empty=False,
            glob=False,
            row_index_name=_ROW,
            row_index_offset=1,
        )
        return names, scan

    def _parts(self, given: Mapping[str, str], stamped: str | None) -> _Columns:
        """Which column is what: as said, otherwise by the usual names."""
        for name in given:
            if name not in self.names:
                raise BarImportError(f"{self.path} has no column {name!r}; it has {', '.join(self.names)}")
        found: dict[str, str] = {}
        for name, part in given.items():
            if part in found:
                raise BarImportError(f"columns: both {found[part]} and {name} are said to be {part}")
            found[part] = name
        time_is_said = bool({"start", "end", "time"} & set(found))
        for part, usual in _GUESSES.items():
            if part in found or (time_is_said and part in ("start", "end", "time")):
                continue
            near = [n for n in self.names if n.lower() in usual and n not in given]
            if part == "time" and {"start", "end"} & set(found):
                continue
            if part == "time" and sorted(n.lower() for n in near) == ["date", "time"]:
                found[part] = "date and time"
                continue
            if len(near) > 1:
                raise BarImportError(f"{self.path}: {part} could be {' or '.join(near)}; say which")
            if near:
                found[part] = near[0]
        times = [part for part in ("start", "end", "time") if part in found]
        if not times:
            raise BarImportError(f"{self.path} has no column for the time; it has {', '.join(self.names)}")
        for part in PRICE_COLUMNS:
            if part not in found:
                raise BarImportError(f"{self.path} has no column for {part}; it has {', '.join(self.names)}")
        if "time" in times and len(times) > 1:
            raise BarImportError(
                f"{self.path}: both {found[times[0]]} and {found['time']} are said to be times"
            )
        said = times[0] if times[0] != "time" else None
        if len(times) == 1 and said and stamped and said != stamped:
            raise BarImportError(
                f"{self.path}: column {found[said]} is the {said} of a bar, stamped says {stamped}"
            )
        if said is None and stamped is None:
            self._assume(f"times in {found['time']} are the start of a bar")
        if found[times[0]] == "date and time":
            self._assume("date and time stand in two columns")
            by_name = {name.lower(): name for name in self.names}
            stamps: tuple[str, ...] = (by_name["date"], by_name["time"])
        else:
            stamps = (found[times[0]],)
        return _Columns(
            stamps,
            said or stamped or "start",
            found["end"] if len(times) == 2 else None,
            found.get("symbol"),
            {part: found[part] for part in PRICE_COLUMNS},
        )

    def batches(self) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Bars in the columns of a recording, and dead letters; together all rows that are not empty."""
        try:
            for frame in self.frame.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
                yield self._convert(frame)
        except pl.exceptions.PolarsError as error:
            raise BarImportError(f"{self.path} is not readable: {error}") from error

    def _convert(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        text = self.path.suffix.lower() == ".csv"
        if text:  # an empty line is no record
            frame = frame.filter(~pl.all_horizontal(pl.exclude(_ROW).is_null()))
        n = frame.height
        reason = pl.Series("reason", [None] * n, dtype=pl.String)
        detail = pl.Series("detail", [None] * n, dtype=pl.String)

        def refuse(rows: pl.Series, code: DeadLetter, why: pl.Series | str) -> None:
            nonlocal reason, detail
            rows = rows.fill_null(False) & reason.is_null()
            if rows.any():
                name = pl.Series([code.name.lower()], dtype=pl.String)
                words = pl.Series([why], dtype=pl.String) if isinstance(why, str) else why
                reason = name.new_from_index(0, n).zip_with(rows, reason)
                detail = (words.new_from_index(0, n) if len(words) == 1 else words).zip_with(rows, detail)

        if text:
            refuse(frame[_SURPLUS[0]].is_not_null(), DeadLetter.MALFORMED, "too many fields")
            broken = frame.select(pl.any_horizontal(pl.col(self.names).str.contains("�", literal=True)))
            refuse(broken.to_series(), DeadLetter.MALFORMED, "not UTF-8")
        if self.columns.symbol is None:
            symbols = pl.Series("symbol", [self.symbol]).new_from_index(0, n)
        else:
            symbols = frame[self.columns.symbol].cast(pl.String).rename("symbol")
            refuse(symbols.is_null() | (symbols == ""), DeadLetter.MISSING_FIELD, "no symbol")

        stamps = frame[self.columns.times[0]]
        if len(self.columns.times) == 2:
            day, time = (frame[name].cast(pl.String).str.strip_chars() for name in self.columns.times)
            stamps = day + " " + time
        stamp = self._instants(stamps)
        refuse(stamp.ns.is_null() & stamps.is_null(), DeadLetter.MISSING_FIELD, "no time")
        refuse(stamp.ns.is_null(), DeadLetter.MALFORMED, stamp.fault)
        # A time so close to the largest that its interval does not fit cannot be represented either.
        span = self.interval_ns
        fits = stamp.ns.is_between(-_LARGEST + span, _LARGEST - span)
        refuse(~fits, DeadLetter.TIME_OUT_OF_RANGE, "time does not fit")
        times = stamp.ns.zip_with(fits, pl.Series([None], dtype=pl.Int64).new_from_index(0, n))
        start = times if self.columns.stamped == "start" else times - span
        end = start + span
        if self.columns.end is not None:
            given = frame[self.columns.end]
            ends = self._instants(given)
            refuse(ends.ns.is_null() & given.is_not_null(), DeadLetter.MALFORMED, ends.fault)
            end = ends.ns
        numbers: list[pl.Series] = []
        for part, name in self.columns.numbers.items():
            given = frame[name]
            number = self._number(given, name)
            why = pl.Series([f"{name} is not a number"], dtype=pl.String)
            absent = given.is_null()
            if given.dtype == pl.String:
                absent = absent | (given.str.strip_chars() == "")
            refuse(number.is_null() & ~absent, DeadLetter.WRONG_TYPE, why)
            numbers.append(number.rename(part))

        good = reason.is_null()
        bars = pl.DataFrame(
            [
                symbols.rename("symbol"),
                start.cast(TIME).rename("start_ns"),
                end.cast(TIME).rename("end_ns"),
                *numbers,
                pl.Series("source", [self.path.name]).new_from_index(0, n),
            ]
        ).filter(good)
        wrong = frame.filter(~good)
        records = [
            json.dumps(
                {k: v for k, v in row.items() if v is not None or k in self.names}, default=str
            ).encode()
            for row in wrong.drop(_ROW).iter_rows(named=True)
        ]
        dead = pl.DataFrame(
            {
                "reason": reason.filter(~good),
                "detail": detail.filter(~good),
                "symbol": symbols.filter(~good),
                "record": records,
                "file": [self.path.name] * len(records),
                "row": wrong[_ROW].cast(pl.Int64),
            },
            schema=_DEAD_SCHEMA,
        )
        return bars.select(list(BAR_SCHEMA)), dead

    def _number(self, given: pl.Series, name: str) -> pl.Series:
        if given.dtype == pl.String:
            return given.str.strip_chars().cast(pl.Float64, strict=False)
        if given.dtype.is_numeric() or given.dtype == pl.Null:
            return given.cast(pl.Float64)
        raise BarImportError(f"{self.path}: column {name} holds {given.dtype}, expected numbers")

    def _instants(self, given: pl.Series) -> _Instants:
        """Times as ns since the epoch."""
        if given.dtype == pl.Date:
            given = given.cast(pl.Datetime("us"))
        if isinstance(given.dtype, pl.Datetime):
            ticks = given.to_physical()
            scale = _UNITS[given.dtype.time_unit]
            ns = _scaled(ticks, scale)
            fault = "time does not fit"
            if given.dtype.time_zone is None:
                self._refuse_missing_zone(given, given.is_not_null())
                fault = f"no time in {self.zone}, or two"
                ns = self._localised(ns)
            return _Instants(ns, pl.Series([fault]))
        if given.dtype.is_integer():
            return _Instants(
                _scaled(given.cast(pl.Int64, strict=False), _UNITS[self._unit_of(given)]),
                pl.Series(["time does not fit"]),
            )
        if given.dtype.is_float():
            return _Instants(self._from_float(given.cast(pl.Float64)), pl.Series(["not a time"]))
        if given.dtype == pl.Null:
            return _Instants(given.cast(pl.Int64), pl.Series(["no time"]))
        if given.dtype != pl.String:
            raise BarImportError(f"{self.path}: column {given.name} holds {given.dtype}, expected times")
        return self._from_text(given)

    def _from_float(self, given: pl.Series) -> pl.Series:
        finite = given.set(~given.is_finite().fill_null(False), None)
        scale = _UNITS[self._unit_of(finite)]
        whole = finite.floor()
        rest = ((finite - whole) * scale).round(0).cast(pl.Int64, strict=False)
        return _scaled(whole.cast(pl.Int64, strict=False), scale) + rest

    def _from_text(self, given: pl.Series) -> _Instants:
        words = given.str.strip_chars()
        frame = pl.DataFrame({"words": words})
        is_number = words.str.contains(_NUMBER).fill_null(False)
        # 2025-07-03T09:30Z, 2025/07/03 09:30 +00:00 and 20250703 09:30Z all become 2025-07-03 09:30:00+0000.
        frame = frame.with_columns(
            moment=pl.col("words")
            .str.replace(r"^(\d{4})[-/]?(\d{2})[-/]?(\d{2})", "${1}-${2}-${3}")
            .str.replace(r"^(\S{10})[T ]\s*", "${1} ")
            .str.replace(r"\s*(Z|UTC)$", "+0000")
            .str.replace(r"\s+([+-]\d{2}:?\d{2})$", "${1}")
            .str.replace(r"^(\S{10})$", "${1} 00:00:00")
            .str.replace(r"^(\S{10} \d{1,2}:\d{2})([+-]|$)", "${1}:00${2}")
        )
        well_formed = frame["moment"].str.contains(_MOMENT).fill_null(False)
        # Parsing to nanoseconds wraps around silently outside these years.
        year = frame["moment"].str.slice(0, 4).cast(pl.Int32, strict=False)
        well_formed = well_formed & year.is_between(1678, 2261).fill_null(False) & ~is_number
        aware = well_formed & frame["moment"].str.contains(_OFFSET).fill_null(False)
        naive = well_formed & ~aware
        fault = pl.Series(["not a time"]).new_from_index(0, len(given))
        parsed = frame.select(
            with_offset=pl.col("moment")
            .str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="ns", time_zone="UTC", strict=False)
            .to_physical(),
            without=pl.col("moment")
            .str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns", strict=False)
            .to_physical(),
        )
        none = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(given))
        ns = parsed["with_offset"].zip_with(aware, none)
        if naive.any():
            self._refuse_missing_zone(given, naive)
            here = parsed["without"].zip_with(naive, none)
            if self.zone is None:
                fault = (
                    pl.Series(["a time without a zone"]).new_from_index(0, len(given)).zip_with(naive, fault)
                )
            else:
                twice = f"no time in {self.zone}, or two"
                lost = pl.Series([twice]).new_from_index(0, len(given))
                fault = lost.zip_with(naive & here.is_not_null(), fault)
                ns = ns.zip_with(~naive, self._localised(here))
        if is_number.any():
            digits = words.zip_with(
                is_number, pl.Series([None], dtype=pl.String).new_from_index(0, len(given))
            )
            integers = digits.cast(pl.Int64, strict=False)
            if integers.null_count() == digits.null_count():
                epoch = _scaled(integers, _UNITS[self._unit_of(integers)])
            else:
                epoch = self._from_float(digits.cast(pl.Float64, strict=False))
            ns = ns.zip_with(~is_number, epoch)
        return _Instants(ns, fault)

    def _localised(self, naive_ns: pl.Series) -> pl.Series:
        """Local times of the zone as UTC; null where the clock showed that time twice or never."""
        if self.zone is None:
            return naive_ns.set(naive_ns.is_not_null(), None)
        return (
            naive_ns.cast(pl.Datetime("ns"))
            .dt.replace_time_zone(self.zone, ambiguous="null", non_existent="null")
            .dt.convert_time_zone("UTC")
            .to_physical()
        )

    def _refuse_missing_zone(self, given: pl.Series, naive: pl.Series) -> None:
        """A file of times without a zone needs one; a single such row among others is that row's fault."""
        if (
            self.zone is None
            and not self.zone_was_checked
            and 2 * int(naive.sum()) >= given.drop_nulls().len() > 0
        ):
            example = given.filter(naive)[0]
            raise BarImportError(
                f"{self.path}: times such as {example} carry no zone; say which, "
                f"for example UTC or America/New_York"
            )
        self.zone_was_checked = True

    def _unit_of(self, numbers: pl.Series) -> str:
        """The unit said, or the one in which the file's middle time lies between 1973 and 5138."""
        if self.unit is None:
            middle = numbers.abs().median()
            if not isinstance(middle, (int, float)):
                return "ns"  # no number at all: any unit will do
            for unit, low in (("ns", 1e17), ("us", 1e14), ("ms", 1e11), ("s", 1e8)):
                if middle >= low:
                    self.unit = unit
                    break
            else:
                raise BarImportError(
                    f"{self.path}: times such as {numbers.drop_nulls()[0]} could be in any unit; "
                    f"say s, ms, us or ns"
                )
            self._assume(f"times are in {self.unit} since 1970, by their size")
        return self.unit


def _scaled(ticks: pl.Series, scale: int) -> pl.Series:
    """`ticks` × `scale`, null where that does not fit; the product itself would wrap around."""
    return ticks.set(ticks.abs() > _LARGEST // scale, None) * scale


def _count(report: ImportReport, bars: pl.DataFrame, dead: pl.DataFrame) -> None:
    for symbol, rows in bars["symbol"].value_counts().iter_rows():
        report.symbols.setdefault(symbol, SymbolReport(symbol)).rows += rows
    report.dead_letters += dead.height
    for symbol, reason, rows in dead.group_by("symbol", "reason").len().iter_rows():
        code = DeadLetter[reason.upper()]
        report.refused[code] += rows
        if symbol:
            of_symbol = report.symbols.setdefault(symbol, SymbolReport(symbol))
            of_symbol.rows += rows
            of_symbol.refused[code] += rows


def _why_nothing(
    source: Path, report: ImportReport, first: date | None, last: date | None, finished: Path
) -> str:
    if report.rows == 0:
        return f"{source} holds no rows"
    if report.outside_dates:
        return f"{source}: none of {report.rows} rows lies from {first or 'the start'} to {last or 'the end'}"
    dead = pl.read_parquet(finished / f"topic={DEAD_LETTERS}" / "part-000000.parquet", n_rows=1).row(
        0, named=True
    )
    record = dead["record"].decode()
    return (
        f"{source}: none of {report.rows} rows is a bar; the first, row {dead['row']} of {dead['file']}: "
        f"{dead['detail']} in {record[:200]}"
    )


def _merge_days(staged: Path, finished: Path, symbols: list[str]) -> None:
    """One file a day: opening files is the main cost of reading."""
    reader = BarRecording(staged, symbols)
    for day in reader.days:
        write_bars(finished, reader.read_frame((day,)))


def _judge(
    recording: Path, symbols: list[str], sessions: Sessions, judge: Judge, report: ImportReport
) -> None:
    """Judge the bars in the order in which a replay reads them, so that the graph refuses the same ones."""
    reader = BarRecording(recording, symbols)
    lengths = sessions.close_ns - sessions.open_ns
    bars_of = lengths // reader.interval_ns
    before = np.cumsum(bars_of) - bars_of  # bars of all earlier sessions
    middle = sessions.open_ns + lengths // 2  # a session's date is unambiguous at its middle
    usual = int(np.bincount(bars_of).argmax())
    last_index: dict[str, int] = {}
    seen: dict[str, set[int]] = {symbol: set() for symbol in symbols}
    for window in reader.windows(5 * ROWS_AT_ONCE):
        for rows in reader.read(window).symbols:
            if len(rows) == 0:
                continue
            found = report.symbols[rows.symbol]
            reasons, session, minute = judge(
                BarBatch(
                    rows.symbol, rows.start_ns, rows.end_ns, rows.prices, rows.reason, int(rows.end_ns.max())
                )
            )
            for code, count in enumerate(np.bincount(reasons)):
                if code and count:
                    found.refused[DeadLetter(code)] += int(count)
                    report.refused[DeadLetter(code)] += int(count)
            good = reasons == DeadLetter.NONE
            if not good.any():
                continue
            found.accepted += int(good.sum())
            start_ns = rows.start_ns[good]
            found.first = found.first or _moment(int(start_ns[0]))
            found.last = _moment(int(start_ns[-1]))
            index = before[session[good]] + minute[good]
            previous = last_index.get(rows.symbol, int(index[0]) - 1)
            missing = np.diff(index, prepend=previous) - 1
            found.gaps += int((missing > 0).sum())
            found.missing_bars += int(missing.sum())
            found.largest_gap = max(found.largest_gap, int(missing.max()))
            last_index[rows.symbol] = int(index[-1])
            seen[rows.symbol].update(np.unique(session[good]).tolist())
    for symbol, indices in seen.items():
        found = report.symbols[symbol]
        found.sessions = len(indices)
        found.half_days = [_moment(int(middle[k])).date() for k in sorted(indices) if bars_of[k] < usual]
        if 2 * found.refused[DeadLetter.OUT_OF_ORDER] > found.rows:
            report.assumptions.append(
                f"{symbol}: most bars are older than the one before; is the file sorted newest first?"
            )


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC)


def report_table(report: ImportReport) -> Table:
    """The report as a table, one row a symbol."""
    table = Table(title=f"{report.recorded:,} bars in {report.recording.name}")
    for heading in ("symbol", "first", "last"):
        table.add_column(heading)
    for heading in (
        "rows",
        "accepted",
        "duplicates",
        "gaps",
        "missing",
        "largest gap",
        "sessions",
        "half days",
    ):
        table.add_column(heading, justify="right")
    table.add_column("refused")
    for symbol in sorted(report.symbols):
        found = report.symbols[symbol]
        table.add_row(
            symbol,
            *(f"{moment:%Y-%m-%d %H:%M}" if moment else "" for moment in (found.first, found.last)),
            *(
                f"{count:,}"
                for count in (
                    found.rows,
                    found.accepted,
                    found.duplicates,
                    found.gaps,
                    found.missing_bars,
                    found.largest_gap,
                    found.sessions,
                    len(found.half_days),
                )
            ),
            _words(found.refused),
        )
    if report.dead_letters or report.outside_dates or report.assumptions:
        notes = list(report.assumptions)
        if report.dead_letters:
            notes.insert(
                0, f"{report.dead_letters:,} of {report.rows:,} rows are no bars: see {DEAD_LETTERS}"
            )
        if report.outside_dates:
            notes.insert(0, f"{report.outside_dates:,} rows lie outside the dates asked for")
        table.caption = "\n".join(notes)
    return table


def _words(refused: Mapping[DeadLetter, int]) -> str:
    return ", ".join(f"{count:,} {code.name.lower()}" for code, count in sorted(refused.items()) if count)
