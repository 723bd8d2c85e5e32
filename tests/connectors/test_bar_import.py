import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from connectors.bar_import import BarImportError, ImportReport, import_bars, report_table
from connectors.calendars import load_sessions
from connectors.recording import BarRecording
from operators.quality import QualityLimits, SymbolJudge
from schemas.codes import DeadLetter
from schemas.sessions import Sessions

MINUTE = 60_000_000_000
LIMITS = QualityLimits(MINUTE, jump_limit=0.20, max_gap_bars=30, max_price=1e6, max_volume=1e12)
OPEN = datetime(2025, 7, 2, 13, 30, tzinfo=UTC)
OPEN_NS = int(OPEN.timestamp()) * 1_000_000_000
HEADER = "ts,open,high,low,close,volume"
NUMBERS = "10,11,9,10.5,100"

Import = Callable[..., ImportReport]


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return load_sessions("XNYS", date(2025, 3, 3), date(2025, 11, 28))


@pytest.fixture
def run(tmp_path: Path, sessions: Sessions) -> Import:
    def import_text(text: str | bytes, name: str = "TQQQ.csv", **options: Any) -> ImportReport:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return import_any(path, **options)

    def import_any(source: Path | str, **options: Any) -> ImportReport:
        options = {
            "interval_ns": MINUTE,
            "sessions": sessions,
            "judge": SymbolJudge(LIMITS, sessions),
        } | options
        if isinstance(source, str):
            return import_text(source, **options)
        return import_bars(source, tmp_path / "recording", **options)

    def either(source: Any, *rest: Any, **options: Any) -> ImportReport:
        return (
            import_any(source, **options)
            if isinstance(source, Path)
            else import_text(source, *rest, **options)
        )

    return either


def starts(tmp_path: Path, symbol: str = "TQQQ") -> list[int]:
    recording = BarRecording(tmp_path / "recording", [symbol])
    return [int(ns) for ns in recording.read(recording.days).symbols[0].start_ns]


def dead_letters(tmp_path: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(tmp_path / "recording" / "topic=dead-letters" / "*.parquet").to_dicts()


def csv_of(times: Sequence[object]) -> str:
    return "\n".join([HEADER, *(f"{time},{NUMBERS}" for time in times)]) + "\n"


SECONDS = OPEN_NS // 1_000_000_000
SPELLINGS: list[tuple[str, object, dict[str, Any]]] = [
    ("iso with Z", "2025-07-02T13:30:00Z", {}),
    ("iso without seconds", "2025-07-02T13:30Z", {}),
    ("offset", "2025-07-02 09:30:00-04:00", {}),
    ("offset apart, no colon", "2025-07-02 09:30:00 -0400", {}),
    ("UTC in words", "2025-07-02 13:30:00 UTC", {}),
    ("fraction", "2025-07-02T13:30:00.000000Z", {}),
    ("compact date", "20250702 13:30:00Z", {}),
    ("slashes, local", "2025/07/02 09:30", {"zone": "America/New_York"}),
    ("naive UTC", "2025-07-02 13:30:00", {"zone": "UTC"}),
    ("naive Tokyo", "2025-07-02 22:30:00", {"zone": "Asia/Tokyo"}),
    ("blanks around", "  2025-07-02 13:30:00Z ", {}),
    ("seconds", SECONDS, {}),
    ("milliseconds", SECONDS * 10**3, {}),
    ("microseconds", SECONDS * 10**6, {}),
    ("nanoseconds", SECONDS * 10**9, {}),
    ("seconds, said", SECONDS, {"unit": "s"}),
    ("seconds with a fraction", f"{SECONDS}.000", {}),
]


@pytest.mark.parametrize(("time", "options"), [s[1:] for s in SPELLINGS], ids=[s[0] for s in SPELLINGS])
def test_time_is_read_in_any_usual_spelling(
    run: Import, tmp_path: Path, time: object, options: dict[str, Any]
) -> None:
    report = run(csv_of([time]), **options)
    assert starts(tmp_path) == [OPEN_NS]
    assert report.symbols["TQQQ"].accepted == 1


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_parquet_times_are_read_in_any_unit(run: Import, tmp_path: Path, unit: Any, zone: str | None) -> None:
    moment = OPEN.replace(tzinfo=None) if zone is None else OPEN
    frame = pl.DataFrame(
        {"timestamp": [moment], "o": [10], "h": [11], "l": [9], "c": [10.5], "v": [100], "ticker": ["A"]},
        schema_overrides={"timestamp": pl.Datetime(unit, zone)},
    )
    frame.write_parquet(tmp_path / "bars.parquet")
    run(tmp_path / "bars.parquet", zone="UTC" if zone is None else None)
    assert starts(tmp_path, "A") == [OPEN_NS]


@pytest.mark.parametrize(
    ("scale", "kind"), [(1, pl.Int64), (1000, pl.Int64), (1, pl.Float64), (10**9, pl.Int64)]
)
def test_parquet_epoch_numbers_are_read_by_their_size(
    run: Import, tmp_path: Path, scale: int, kind: Any
) -> None:
    frame = pl.DataFrame(
        {"ts": [SECONDS * scale], "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1.0}
    )
    frame.cast({"ts": kind}).write_parquet(tmp_path / "TQQQ.parquet")
    report = run(tmp_path / "TQQQ.parquet")
    assert starts(tmp_path) == [OPEN_NS]
    assert any("since 1970, by their size" in line for line in report.assumptions)


def test_times_stamped_at_the_end_are_moved_to_the_start(run: Import, tmp_path: Path) -> None:
    run(csv_of(["2025-07-02T13:31:00Z"]), stamped="end")
    assert starts(tmp_path) == [OPEN_NS]


def test_columns_said_by_the_user_win(run: Import, tmp_path: Path) -> None:
    text = "when,px,open,high,low,volume,code\n2025-07-02T13:31Z,10.5,10,11,9,100,SPY\n"
    run(text, columns={"when": "end", "px": "close", "code": "symbol"})
    recording = BarRecording(tmp_path / "recording", ["SPY"])
    rows = recording.read(recording.days).symbols[0]
    assert rows.start_ns.tolist() == [OPEN_NS]
    assert rows.prices[:, 0].tolist() == [10, 11, 9, 10.5, 100]


def test_start_and_end_columns_are_both_kept(run: Import) -> None:
    text = f"start,end,open,high,low,close,volume\n2025-07-02T13:30Z,2025-07-02T13:35Z,{NUMBERS}\n"
    report = run(text)
    assert report.refused == {DeadLetter.WRONG_INTERVAL: 1}
    assert report.recorded == 1


def test_date_and_time_may_stand_in_two_columns(run: Import, tmp_path: Path) -> None:
    text = f"Date;Time;Open;High;Low;Close;Volume\n2025-07-02;09:30;{NUMBERS.replace(',', ';')}\n"
    report = run(text, zone="America/New_York")
    assert starts(tmp_path) == [OPEN_NS]
    assert any("two columns" in line for line in report.assumptions)
    assert any("separated by ';'" in line for line in report.assumptions)


def test_local_times_that_exist_twice_or_never_are_refused_not_guessed(run: Import, tmp_path: Path) -> None:
    times = ["2025-03-09 02:30:00", "2025-11-02 01:30:00", "2025-07-02 09:30:00"]
    report = run(csv_of(times), zone="America/New_York")
    assert starts(tmp_path) == [OPEN_NS]
    assert report.dead_letters == 2
    assert [letter["row"] for letter in dead_letters(tmp_path)] == [1, 2]
    assert {letter["detail"] for letter in dead_letters(tmp_path)} == {"no time in America/New_York, or two"}


def test_rows_that_are_no_bars_become_dead_letters_with_their_content(run: Import, tmp_path: Path) -> None:
    rows = [
        f"2025-07-02T13:30:00Z,{NUMBERS}",
        f"yesterday,{NUMBERS}",
        "2025-07-02T13:31:00Z,10,eleven,9,10.5,100",
        '2025-07-02T13:31:00Z,"1,000",11,9,10.5,100',
        f",{NUMBERS}",
        f"2025-07-02T13:31:00Z,{NUMBERS},more,and more",
        f"9999-07-02T13:31:00Z,{NUMBERS}",
        f"2025-13-02T13:31:00Z,{NUMBERS}",
        f"2025-07-02 13:31:00,{NUMBERS}",
        "",
        "2025-07-02T13:31:00Z,10,11,9,true,100",
        f"2025-07-02T13:32:00Z,{NUMBERS}",
    ]
    text = "\n".join([HEADER, *rows]).encode() + b"\n\xff\xfe," + NUMBERS.encode() + b"\n"
    report = run(text)
    assert starts(tmp_path) == [OPEN_NS, OPEN_NS + 2 * MINUTE]
    letters = dead_letters(tmp_path)
    assert [(letter["row"], letter["reason"]) for letter in letters] == [
        (2, "malformed"),
        (3, "wrong_type"),
        (4, "wrong_type"),
        (5, "missing_field"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "malformed"),
        (9, "malformed"),
        (11, "wrong_type"),
        (13, "malformed"),
    ]
    assert json.loads(letters[1]["record"])["high"] == "eleven"
    assert json.loads(letters[4]["record"])["surplus field 2"] == "and more"
    assert {letter["file"] for letter in letters} == {"TQQQ.csv"}
    assert report.rows == report.recorded + report.dead_letters == 12
    assert report.symbols["TQQQ"].refused[DeadLetter.MALFORMED] == 6


def test_wrong_bars_stay_in_the_recording_and_are_reported(run: Import, tmp_path: Path) -> None:
    rows = [
        f"2025-07-02T13:30:00Z,{NUMBERS}",
        f"2025-07-02T13:30:00Z,{NUMBERS}",
        "2025-07-02T13:31:00Z,nan,11,9,10.5,100",
        "2025-07-02T13:31:00Z,1e999,11,9,10.5,100",
        "2025-07-02T13:31:00Z,,11,9,10.5,100",
        "2025-07-02T13:31:00Z,10,11,9,10.5,-1",
        f"2025-07-02T20:00:00Z,{NUMBERS}",
        f"1970-01-01T00:00:01Z,{NUMBERS}",
    ]
    report = run("\n".join([HEADER, *rows]))
    assert report.recorded == 8
    assert report.dead_letters == 0
    assert report.refused == {
        DeadLetter.DUPLICATE: 1,
        DeadLetter.NOT_FINITE: 2,
        DeadLetter.MISSING_FIELD: 1,
        DeadLetter.NEGATIVE_VOLUME: 1,
        DeadLetter.OUTSIDE_SESSION: 1,
        DeadLetter.TIME_OUT_OF_RANGE: 1,
    }
    assert report.symbols["TQQQ"].duplicates == 1
    assert len(starts(tmp_path)) == 8


def test_gaps_are_counted_in_minutes_of_sessions(run: Import, sessions: Sessions) -> None:
    times = [
        "2025-07-02T19:57Z",  # two missing until the close
        "2025-07-03T13:30Z",
        "2025-07-03T16:59Z",  # the last of the half day; 208 missing before it
        "2025-07-07T13:35Z",  # five missing since the open
    ]
    loose = QualityLimits(MINUTE, 0.2, 1000, 1e6, 1e12)
    found = run(csv_of(times), judge=SymbolJudge(loose, sessions)).symbols["TQQQ"]
    assert (found.gaps, found.missing_bars, found.largest_gap) == (3, 2 + 208 + 5, 208)
    assert found.sessions == 3
    assert found.half_days == [date(2025, 7, 3)]
    assert found.first == datetime(2025, 7, 2, 19, 57, tzinfo=UTC)
    assert found.last == datetime(2025, 7, 7, 13, 35, tzinfo=UTC)


def test_dates_bound_what_is_imported_and_the_rest_is_counted(run: Import, tmp_path: Path) -> None:
    times = [f"2025-07-0{day}T13:30:00Z" for day in (1, 2, 3)]
    report = run(csv_of(times), first=date(2025, 7, 2), last=date(2025, 7, 2))
    assert starts(tmp_path) == [OPEN_NS]
    assert (report.rows, report.recorded, report.outside_dates) == (3, 1, 2)


def test_folder_of_files_becomes_one_file_a_day(run: Import, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for symbol in ("A", "B", "C"):
        (folder / f"{symbol}.csv").write_text(csv_of(["2025-07-02T13:30Z", "2025-07-03T13:30Z"]))
    (folder / "notes.txt").write_text("mine")
    report = run(folder)
    assert sorted(report.symbols) == ["A", "B", "C"]
    assert report.files == 3
    assert len(list((tmp_path / "recording").rglob("*.parquet"))) == 2
    assert any("notes.txt" in line for line in report.assumptions)
    assert any(line.startswith("every file: ") for line in report.assumptions)
    assert BarRecording(tmp_path / "recording", ["A"]).origin == "imported from files"


def test_file_sorted_newest_first_is_recognised(run: Import) -> None:
    times = [f"2025-07-02T13:{minute}Z" for minute in range(59, 30, -1)]
    report = run(csv_of(times))
    assert report.refused[DeadLetter.OUT_OF_ORDER] == 28
    assert any("newest first" in line for line in report.assumptions)


REFUSALS: list[tuple[str, str, dict[str, Any], str]] = [
    ("no zone", csv_of(["2025-07-02 13:30:00"]), {}, "carry no zone"),
    ("unknown zone", csv_of([SECONDS]), {"zone": "America/NewYork"}, "America/New_York"),
    ("unit unknown", csv_of([1000]), {}, "could be in any unit"),
    ("unknown unit", csv_of([SECONDS]), {"unit": "minutes"}, "unit: 'minutes'"),
    ("no time", "a,open,high,low,close,volume\n1,1,1,1,1,1\n", {}, "no column for the time; it has a, open"),
    ("no close", f"{HEADER.replace('close', 'x')}\n1,1,1,1,1,1\n", {}, "no column for close"),
    ("no such column", csv_of([SECONDS]), {"columns": {"when": "start"}}, "no column 'when'; it has ts"),
    ("no such part", csv_of([SECONDS]), {"columns": {"ts": "begin"}}, "no such part"),
    ("stamped", csv_of([SECONDS]), {"stamped": "middle"}, "stamped"),
    ("contradiction", csv_of([SECONDS]), {"columns": {"ts": "start"}, "stamped": "end"}, "stamped says end"),
    ("two times", "ts,datetime,open,high,low,close,volume\n", {}, "could be ts or datetime"),
    ("twice", "ts,open,open,high,low,close,volume\n", {}, "names a column twice"),
    ("empty", "", {}, "is empty"),
    ("header only", HEADER + "\n", {}, "holds no rows"),
    ("no bar at all", csv_of(["never"]), {}, "row 1 of TQQQ.csv: not a time"),
    ("outside", csv_of([SECONDS]), {"first": date(2026, 1, 1)}, "none of 1 rows lies from 2026-01-01"),
]


@pytest.mark.parametrize(
    ("text", "options", "message"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_what_cannot_be_imported_is_said_and_leaves_nothing_behind(
    run: Import, tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BarImportError, match=message):
        run(text, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["TQQQ.csv"]


def test_missing_file_other_type_and_used_folder_are_refused(run: Import, tmp_path: Path) -> None:
    with pytest.raises(BarImportError, match="no such file"):
        run(tmp_path / "absent.csv")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(BarImportError, match=r"only \.csv and \.parquet"):
        run(tmp_path / "x.txt")
    (tmp_path / "bad.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(BarImportError, match="not readable"):
        run(tmp_path / "bad.parquet")
    run(csv_of([SECONDS]))
    with pytest.raises(BarImportError, match="not empty"):
        run(csv_of([SECONDS]))


def test_report_is_a_table_of_symbols(run: Import) -> None:
    report = run(csv_of(["2025-07-02T13:30Z", "2025-07-02T13:30Z", "never"]))
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(report_table(report))
    console.file.close()
    text = console.export_text()
    assert "TQQQ" in text
    assert "1 malformed, 1 duplicate" in text
    assert "1 of 3 rows are no bars" in text


# Real bars


def market_data() -> Path:
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("SLUICE_TEST_DATA", default)) / "bars_1m"


@pytest.mark.market_data
@pytest.mark.parametrize(
    ("symbol", "after_close", "jumps"), [("TQQQ", 139, 0), ("SQQQ", 139, 0), ("UVXY", 138, 2)]
)
def test_real_bars_are_accepted_but_for_those_after_the_close(
    run: Import, tmp_path: Path, symbol: str, after_close: int, jumps: int
) -> None:
    path = market_data() / f"{symbol}.parquet"
    if not path.is_file():
        pytest.skip(f"no market data at {path}; set SLUICE_TEST_DATA")
    there = pl.read_parquet(path)
    report = run(path)
    found = report.symbols[symbol]
    assert report.rows == report.recorded == found.rows == there.height
    assert report.dead_letters == 0
    expected = {DeadLetter.OUTSIDE_SESSION: after_close} | ({DeadLetter.PRICE_JUMP: jumps} if jumps else {})
    assert found.refused == expected
    assert found.accepted == there.height - after_close - jumps
    assert found.half_days == [date(2025, 7, 3)]
    assert found.sessions == 138
    assert found.first == datetime(2025, 4, 1, 13, 30, tzinfo=UTC)
    assert found.last == datetime(2025, 10, 16, 19, 59, tzinfo=UTC)
    recording = BarRecording(tmp_path / "recording", [symbol])
    rows = recording.read(recording.days).symbols[0]
    assert rows.prices.tobytes() == np.ascontiguousarray(there.drop("ts").to_numpy().T).tobytes()
