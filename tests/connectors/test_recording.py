import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.recording import (
    BAR_SCHEMA,
    BarRecording,
    RecordingError,
    create_recording,
    read_description,
    write_bars,
)
from schemas.codes import DeadLetter

MINUTE = 60_000_000_000
DAY_1 = int(datetime(2025, 7, 1, 13, 30, tzinfo=UTC).timestamp()) * 1_000_000_000
DAY_2 = DAY_1 + 24 * 60 * MINUTE

Row = tuple[str, int, int | None, float | None, float | None, float | None, float | None, float | None, str]


def bar(symbol: str, start_ns: int, close: float | None = 10.0) -> Row:
    return (symbol, start_ns, start_ns + MINUTE, 10.0, 11.0, 9.0, close, 100.0, "test")


def frame(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    schema = {name: pl.Int64 if name.endswith("_ns") else kind for name, kind in BAR_SCHEMA.items()}
    schema |= {"symbol": pl.String, "source": pl.String}
    plain = pl.DataFrame(list(rows), schema=schema, orient="row")
    return plain.with_columns(pl.col("start_ns", "end_ns").cast(pl.Datetime("ns", "UTC")))


def recording_of(folder: Path, *groups: Sequence[tuple[Any, ...]]) -> Path:
    create_recording(folder, MINUTE, "test")
    for rows in groups:
        write_bars(folder, frame(rows))
    return folder


def test_bars_come_back_by_symbol_in_the_order_asked_for(tmp_path: Path) -> None:
    rows = [bar("B", DAY_1, 1.0), bar("A", DAY_1, 2.0), bar("B", DAY_1 + MINUTE, 3.0), bar("A", DAY_2, 4.0)]
    recording = BarRecording(recording_of(tmp_path / "r", rows), ["A", "B"])
    assert recording.days == (date(2025, 7, 1), date(2025, 7, 2))
    a, b = recording.read(recording.days).symbols
    assert (a.symbol, b.symbol) == ("A", "B")
    assert a.start_ns.tolist() == [DAY_1, DAY_2]
    assert b.end_ns.tolist() == [DAY_1 + MINUTE, DAY_1 + 2 * MINUTE]
    assert a.prices.tolist() == [[10, 10], [11, 11], [9, 9], [2, 4], [100, 100]]
    assert b.prices[3].tolist() == [1, 3]
    for group in (a, b):
        assert group.start_ns.dtype == group.end_ns.dtype == np.int64
        assert group.prices.flags.c_contiguous
        assert group.prices.dtype == np.float64
        assert group.reason.tolist() == [0, 0]


def test_symbol_without_rows_in_a_window_is_there_and_empty(tmp_path: Path) -> None:
    recording = BarRecording(recording_of(tmp_path / "r", [bar("A", DAY_1), bar("B", DAY_2)]), ["B", "A"])
    b, a = recording.read((date(2025, 7, 1),)).symbols
    assert (len(b), len(a)) == (0, 1)
    assert b.prices.shape == (5, 0)


def test_arrival_order_inside_a_day_stays_even_when_times_go_back(tmp_path: Path) -> None:
    first = [bar("A", DAY_1 + 2 * MINUTE, 1.0), bar("A", DAY_1, 2.0)]
    second = [bar("A", DAY_1 + MINUTE, 3.0)]
    recording = BarRecording(recording_of(tmp_path / "r", first, second), ["A"])
    (a,) = recording.read(recording.days).symbols
    assert a.prices[3].tolist() == [1, 2, 3]
    assert len(list((tmp_path / "r").glob("topic=bars/day=2025-07-01/part-*.parquet"))) == 2


def test_dirty_bars_survive_unchanged(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("A", DAY_1, None, 10.0, 11.0, 9.0, 10.0, 1.0, "test"),
        ("A", DAY_1, DAY_1 + 7, math.nan, math.inf, -0.0, -math.inf, None, "test"),
        ("A", DAY_1, DAY_1 - 1, 1e308, 5e-324, 9.0, 0.1 + 0.2, -1.0, "test"),
        (
            "A",
            1_751_376_600_000,
            1_751_376_660_000,
            10.0,
            11.0,
            9.0,
            10.0,
            1.0,
            "test",
        ),  # ms taken for ns: 1970
    ]
    recording = BarRecording(recording_of(tmp_path / "r", rows), ["A"])
    assert recording.days == (date(1970, 1, 1), date(2025, 7, 1))
    (a,) = recording.read(recording.days).symbols
    assert a.reason.tolist() == [0, DeadLetter.MISSING_FIELD, DeadLetter.MISSING_FIELD, 0]
    assert a.start_ns.tolist() == [1_751_376_600_000, DAY_1, DAY_1, DAY_1]
    assert a.end_ns.tolist() == [1_751_376_660_000, 0, DAY_1 + 7, DAY_1 - 1]
    assert np.isnan(a.prices[4, 2])
    assert a.prices[1, 2] == math.inf
    assert math.copysign(1, a.prices[2, 2]) == -1
    assert a.prices[:4, 3].tolist() == [1e308, 5e-324, 9.0, 0.30000000000000004]


def test_unconfigured_symbols_are_counted_and_returned_when_asked(tmp_path: Path) -> None:
    rows = [bar("XXXX", DAY_1, 1.0), bar("A", DAY_1), bar("YY", DAY_1), bar("XXXX", DAY_1, 2.0)]
    recording = BarRecording(recording_of(tmp_path / "r", rows), ["A"])
    window = recording.read(recording.days)
    assert window.other_counts == {"XXXX": 2, "YY": 1}
    assert window.other_rows is None
    assert len(window.symbols[0]) == 1
    asked = recording.read(recording.days, with_other_rows=True)
    assert asked.other_rows is not None
    assert asked.other_rows["symbol"].cast(pl.String).to_list() == ["XXXX", "YY", "XXXX"]
    assert asked.other_rows["close"].to_list() == [1.0, 10.0, 2.0]
    assert asked.other_rows.columns == list(BAR_SCHEMA)


def test_first_and_last_day_bound_what_is_read(tmp_path: Path) -> None:
    folder = recording_of(tmp_path / "r", [bar("A", DAY_1), bar("A", DAY_2)])
    assert BarRecording(folder, ["A"], first=date(2025, 7, 2)).days == (date(2025, 7, 2),)
    assert BarRecording(folder, ["A"], last=date(2025, 7, 1)).days == (date(2025, 7, 1),)
    with pytest.raises(RecordingError, match="within reach"):
        BarRecording(folder, ["A"], last=date(2025, 7, 1)).read((date(2025, 7, 2),))


def test_identity_is_stable_and_changes_when_a_day_in_reach_grows(tmp_path: Path) -> None:
    folder = recording_of(tmp_path / "r", [bar("A", DAY_1)])
    before = BarRecording(folder, ["A"]).identity
    assert BarRecording(folder, ["A"]).identity == before
    write_bars(folder, frame([bar("A", DAY_2)]))
    assert BarRecording(folder, ["A"], last=date(2025, 7, 1)).identity == before
    assert BarRecording(folder, ["A"]).identity != before
    write_bars(folder, frame([bar("A", DAY_1 + MINUTE)]))
    assert BarRecording(folder, ["A"], last=date(2025, 7, 1)).identity != before


def many_days(folder: Path, days: int, rows: int) -> Path:
    return recording_of(
        folder,
        [bar("A", DAY_1 + d * 24 * 60 * MINUTE + m * MINUTE) for d in range(days) for m in range(rows)],
    )


@pytest.mark.parametrize(("window_rows", "sizes"), [(1, [1] * 7), (250, [2, 2, 2, 1]), (10_000, [7])])
def test_windows_are_whole_days_of_about_the_rows_asked_for(
    tmp_path: Path, window_rows: int, sizes: list[int]
) -> None:
    recording = BarRecording(many_days(tmp_path / "r", 7, 100), ["A"])
    windows = recording.windows(window_rows)
    assert [len(window) for window in windows] == sizes
    assert tuple(day for window in windows for day in window) == recording.days
    assert windows == BarRecording(tmp_path / "r", ["A"]).windows(window_rows)


def test_cutting_windows_elsewhere_changes_no_bit(tmp_path: Path) -> None:
    recording = BarRecording(many_days(tmp_path / "r", 5, 30), ["A"])
    whole = recording.read(recording.days).symbols[0]
    pieces = [recording.read(window).symbols[0] for window in recording.windows(1)]
    assert np.concatenate([p.prices for p in pieces], axis=1).tobytes() == whole.prices.tobytes()
    assert np.concatenate([p.end_ns for p in pieces]).tobytes() == whole.end_ns.tobytes()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B", "Ω", ""]),
            st.integers(0, 3 * 24 * 60),
            st.one_of(st.none(), st.floats(width=64)),
            st.one_of(st.none(), st.integers(-(2**62), 2**62)),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_every_value_of_any_bar_survives(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, float | None, int | None]]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "r"
    written: list[Row] = [
        (symbol, DAY_1 + minute * MINUTE, end, 1.0, 2.0, 0.5, close, 0.0, "test")
        for symbol, minute, close, end in rows
    ]
    half = len(written) // 2
    recording_of(folder, written[:half], written[half:])
    symbols = sorted({row[0] for row in written})
    recording = BarRecording(folder, symbols)
    for group in recording.read(recording.days).symbols:
        mine = [row for row in written if row[0] == group.symbol]
        mine.sort(key=lambda row: row[1] // (24 * 60 * MINUTE))  # days in order; inside a day as they came
        assert group.start_ns.tolist() == [row[1] for row in mine]
        assert group.end_ns.tolist() == [row[2] or 0 for row in mine]
        expected = np.array([math.nan if row[6] is None else row[6] for row in mine])
        np.testing.assert_array_equal(group.prices[3], expected)
        missing = [row[2] is None or row[6] is None for row in mine]
        assert (group.reason == DeadLetter.MISSING_FIELD).tolist() == missing


def test_files_are_dictionary_encoded_with_nanosecond_utc_times(tmp_path: Path) -> None:
    folder = recording_of(tmp_path / "r", [bar("A", DAY_1)])
    (path,) = folder.glob("topic=bars/day=2025-07-01/*")
    schema = pq.read_schema(path)
    assert schema.names == list(BAR_SCHEMA)
    assert pa.types.is_dictionary(schema.field("symbol").type)
    assert schema.field("start_ns").type == pa.timestamp("ns", "UTC")
    assert schema.field("end_ns").type == pa.timestamp("ns", "UTC")
    assert schema.field("volume").type == pa.float64()


def test_description_says_where_the_bars_come_from(tmp_path: Path) -> None:
    create_recording(tmp_path / "r", MINUTE, "synthetic, seed 7", {"seed": 7})
    write_bars(tmp_path / "r", frame([bar("A", DAY_1)]))
    recording = BarRecording(tmp_path / "r", ["A"])
    assert (recording.origin, recording.interval_ns) == ("synthetic, seed 7", MINUTE)
    assert read_description(tmp_path / "r").parameters == {"seed": 7}


def test_folder_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecordingError, match="not empty"):
        create_recording(tmp_path, MINUTE, "test")
    with pytest.raises(RecordingError, match="no recording"):
        write_bars(tmp_path, frame([bar("A", DAY_1)]))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(RecordingError, match="no such folder"):
        BarRecording(tmp_path / "absent", ["A"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable"),
        ("[]", "format version None"),
        ('{"interval_ns": 1}', "format version None"),
        (json.dumps({"format_version": 2}), "format version 2"),
        (json.dumps({"format_version": True}), "format version True"),
        (json.dumps({"format_version": 1, "interval_ns": 0}), "interval_ns is 0"),
        (json.dumps({"format_version": 1, "interval_ns": 1, "parameters": {}}), "origin must be a text"),
    ],
)
def test_description_of_unknown_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    recording_of(tmp_path / "r", [bar("A", DAY_1)])
    (tmp_path / "r" / "recording.json").write_text(content)
    with pytest.raises(RecordingError, match=message):
        BarRecording(tmp_path / "r", ["A"])


def test_error_names_the_symbols_and_days_there_are(tmp_path: Path) -> None:
    folder = recording_of(tmp_path / "r", [bar("A", DAY_1), bar("B", DAY_2)])
    assert BarRecording(folder, ["B"]).days[0] == date(2025, 7, 1)
    with pytest.raises(RecordingError, match=r"no bars of TQQQ .* it has A, B"):
        BarRecording(folder, ["A", "TQQQ"])
    with pytest.raises(RecordingError, match="covers 2025-07-01 to 2025-07-02"):
        BarRecording(folder, ["A"], first=date(2026, 1, 1))
    with pytest.raises(RecordingError, match="is after the last day"):
        BarRecording(folder, ["A"], first=date(2026, 1, 1), last=date(2025, 1, 1))
    with pytest.raises(RecordingError, match="distinct"):
        BarRecording(folder, ["A", "A"])
    create_recording(tmp_path / "empty", MINUTE, "test")
    with pytest.raises(RecordingError, match="holds no bars"):
        BarRecording(tmp_path / "empty", ["A"])


def test_rows_that_are_no_bars_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    create_recording(folder, MINUTE, "test")
    with pytest.raises(RecordingError, match="no start_ns"):
        write_bars(folder, frame([bar("A", DAY_1), ("A", None, 1, 1.0, 1.0, 1.0, 1.0, 1.0, "test")]))
    with pytest.raises(RecordingError, match="no symbol"):
        write_bars(folder, frame([(None, DAY_1, 1, 1.0, 1.0, 1.0, 1.0, 1.0, "test")]))
    with pytest.raises(RecordingError, match="column close is Int64"):
        write_bars(folder, frame([bar("A", DAY_1)]).cast({"close": pl.Int64}))
    with pytest.raises(RecordingError, match="bars have the columns"):
        write_bars(folder, frame([bar("A", DAY_1)]).drop("source"))
    assert not (folder / "topic=bars").exists()


def test_damaged_file_is_reported_and_an_unfinished_one_is_not_seen(tmp_path: Path) -> None:
    folder = recording_of(tmp_path / "r", [bar("A", DAY_1)])
    day = folder / "topic=bars" / "day=2025-07-01"
    (day / ".part-000001.tmp").write_bytes(b"PAR1 half a fi")
    recording = BarRecording(folder, ["A"])
    assert len(recording.read(recording.days).symbols[0]) == 1
    (day / "part-000002.parquet").write_bytes(b"x" * 5000)
    with pytest.raises(RecordingError, match="not readable"):
        BarRecording(folder, ["A"])
