"""`sluice audit`: what it says of a sound result, of a broken one, and of what is no result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import typer
from audit_fixtures import OPEN, QQQ, SQQQ, Book, at, clean_day, free_config, result_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from connectors.recording import BAR_SCHEMA, TIME, BarRecording, create_recording, write_bars
from flows import audit as audit_module
from flows.audit_bars import BarRanges
from flows.audit_cli import audit
from flows.auditor import AuditAlarm
from schemas.codes import Side

MINUTE = 60_000_000_000
app = typer.Typer()
app.command()(audit)

TABLES = ("orders", "executions", "decisions", "alerts", "equity")


def said(*words: object) -> tuple[int, str, str]:
    ended = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "250"})
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.stdout, " ".join(ended.stderr.split())


def whole_book() -> Book:
    book = clean_day()
    book.close(1)
    return book


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return free_config(tmp_path_factory.mktemp("config") / "free.toml")


@pytest.fixture
def out(config: Path, tmp_path: Path) -> Path:
    return result_folder(whole_book(), tmp_path / "out", config)


def test_a_sound_result_is_clean(out: Path) -> None:
    code, stdout, stderr = said(out, "--json")
    assert (code, stderr) == (0, "")
    assert "no negative cash" in stdout
    figures = json.loads(stdout.splitlines()[-1])
    assert figures["held"] is True
    assert figures["rows"]["orders"] == 10
    assert all(row["held"] and not row["breaches"] for row in figures["findings"].values())
    assert figures["findings"]["D5"]["evidence"] == "2 sessions ended, 5 counts of the summary"


def test_a_breach_is_told_with_its_place(out: Path, config: Path) -> None:
    book = whole_book()
    book.buy(100, QQQ, 250, 500, day=2)
    book.sell(110, QQQ, 250, 500, day=2)
    book.close(2)
    result_folder(book, out, config)
    code, stdout, _ = said(out, "--json")
    assert code == 1
    assert "NO, 3 times" in stdout
    first = json.loads(stdout.splitlines()[-1])["findings"]["P1"]["first"]
    assert (first["time_ns"], first["instrument"]) == (at(100, 2), "QQQ")


def test_what_is_the_venues_is_no_breach_of_ours(out: Path, config: Path) -> None:
    book = whole_book()
    order = book.order(100, QQQ, Side.BUY, 10, limit=500, day=2)
    book.fill(order, 101, 15, 500, day=2, late=1)
    book.sell(110, QQQ, 15, 500, day=2)
    book.close(2)
    result_folder(book, out, config)
    code, stdout, _ = said(out, "--json")
    assert code == 0
    assert json.loads(stdout.splitlines()[-1])["findings"]["O3"]["by_venue"] == 1


def test_a_quiet_run_is_clean(config: Path, tmp_path: Path) -> None:
    book = Book()
    book.close()
    code, _, stderr = said(result_folder(book, tmp_path / "out", config))
    assert (code, stderr) == (0, "")


# --- what cannot be audited


def test_no_folder(tmp_path: Path) -> None:
    code, _, stderr = said(tmp_path / "nothing")
    assert code == 2
    assert stderr.startswith("not audited")


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_table(name: str, out: Path) -> None:
    (out / f"{name}.parquet").unlink()
    code, _, stderr = said(out)
    assert code == 2
    assert f"{name}.parquet is missing" in stderr


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("size", [0, 4, 100, -10])
def test_a_truncated_table(name: str, size: int, out: Path) -> None:
    path = out / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:size])
    code, _, stderr = said(out)
    assert code == 2
    assert f"{name}.parquet is not readable" in stderr


@pytest.mark.parametrize("name", TABLES)
def test_a_table_with_other_columns(name: str, out: Path) -> None:
    path = out / f"{name}.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([table.column_names[-1]]), path)
    code, _, stderr = said(out)
    assert code == 2
    assert f"{name}.parquet has another form: {table.column_names[-1]} is missing" in stderr


def test_a_table_of_another_kind(out: Path) -> None:
    (out / "orders.parquet").write_bytes((out / "equity.parquet").read_bytes())
    code, _, stderr = said(out)
    assert code == 2
    assert "orders.parquet has another form" in stderr


@pytest.mark.parametrize("name", ["executions", "decisions", "equity"])
def test_an_empty_table(name: str, out: Path) -> None:
    path = out / f"{name}.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    code, _, stderr = said(out)
    assert code == 2
    assert f"{name}.parquet is empty" in stderr


def rewrite(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Change a table and keep its form."""
    schema = pq.read_schema(path)
    pq.write_table(change(pl.read_parquet(path)).to_arrow().cast(schema), path, store_decimal_as_integer=True)


def test_a_name_that_the_configuration_does_not_know(out: Path) -> None:
    rewrite(
        out / "orders.parquet",
        lambda frame: frame.with_columns(instrument=pl.lit("XYZ").cast(pl.Categorical)),
    )
    code, _, stderr = said(out)
    assert code == 2
    assert "orders.parquet: instrument is 'XYZ', which the configuration does not know" in stderr


def test_an_order_id_that_does_not_fit_its_fields(out: Path) -> None:
    rewrite(
        out / "executions.parquet",
        lambda frame: frame.with_columns(client_order_id=pl.col("client_order_id").str.replace("QQQ", "SPY")),
    )
    code, _, stderr = said(out)
    assert code == 2
    assert "client_order_id of row 0 is" in stderr


@pytest.mark.parametrize("text", ["", "[]", "{", '{"config_hash": 1}', "{}"])
def test_a_summary_that_is_none(text: str, out: Path) -> None:
    (out / "summary.json").write_text(text, encoding="utf-8")
    code, _, stderr = said(out)
    assert code == 2
    assert "summary.json" in stderr


def test_a_summary_without_its_counts(out: Path) -> None:
    path = out / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    del summary["fills"]
    path.write_text(json.dumps(summary), encoding="utf-8")
    code, _, stderr = said(out)
    assert code == 2
    assert "does not count the fills" in stderr


def test_another_configuration_must_be_asked_for(out: Path, config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    text = config.read_text(encoding="utf-8")
    other.write_text(text.replace("cash = 100_000", "cash = 100_001"), encoding="utf-8")
    code, _, stderr = said(out, "--config", other)
    assert code == 2
    assert "is not the configuration of this run" in stderr
    assert "--other-config" in stderr
    code, stdout, _ = said(out, "--config", other, "--other-config")
    assert code == 1
    assert "cash differs" in stdout


def test_a_configuration_that_is_gone(out: Path, config: Path) -> None:
    path = out / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(summary | {"config": "gone.toml"}), encoding="utf-8")
    code, _, stderr = said(out)
    assert code == 2
    assert "gone.toml: cannot be read" in stderr
    assert said(out, "--config", config)[0] == 0


def test_an_audit_that_misses_a_canary_says_so(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def alarm() -> None:
        raise AuditAlarm("the audit cannot be trusted: it missed, in the history 'short': P5")

    monkeypatch.setattr(audit_module, "check_canaries", alarm)
    code, stdout, stderr = said(out)
    assert (code, stdout) == (2, "")
    assert "the audit cannot be trusted: it missed" in stderr


# --- rows that are not what was written


Spoiled = dict[str, Callable[[pl.DataFrame], pl.DataFrame]]
SPOILED: Spoiled = {
    "in another order": lambda frame: pl.concat([frame[:1], frame[2:3], frame[1:2], frame[3:]]),
    "backwards": lambda frame: frame[::-1],
    "first removed": lambda frame: frame[1:],
    "one removed": lambda frame: pl.concat([frame[:3], frame[4:]]),
    "last removed": lambda frame: frame[:-1],
    "half removed": lambda frame: frame[: len(frame) // 2],
    "one doubled": lambda frame: pl.concat([frame[:3], frame[2:]]),
    "last doubled": lambda frame: pl.concat([frame, frame[-1:]]),
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("name", [name for name in TABLES if name != "alerts"])
def test_rows_that_are_not_what_was_written_are_found(name: str, how: str, out: Path) -> None:
    rewrite(out / f"{name}.parquet", SPOILED[how])
    code, stdout, stderr = said(out)
    assert code == 1, stdout + stderr


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), bits=st.integers(1, 255), name=st.sampled_from(TABLES))
def test_a_byte_that_changes_never_crashes_the_audit(place: float, bits: int, name: str, out: Path) -> None:
    path = out / f"{name}.parquet"
    before = path.read_bytes()
    content = bytearray(before)
    content[int(place * (len(content) - 1))] ^= bits
    path.write_bytes(content)
    code, _, stderr = said(out)
    path.write_bytes(before)
    assert code in (0, 1, 2)  # 0: a byte that nothing reads, as of statistics
    assert (code == 2) == bool(stderr)


# --- bars


def recording(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
    """Rows: symbol, minute, low, high."""
    create_recording(folder, MINUTE, "by hand")
    frame = pl.DataFrame(
        {
            "symbol": [row[0] for row in rows],
            "start_ns": pl.Series([OPEN + row[1] * MINUTE for row in rows]).cast(TIME),
            "end_ns": pl.Series([OPEN + (row[1] + 1) * MINUTE for row in rows]).cast(TIME),
            **{
                name: [float(row[k]) for row in rows]
                for name, k in zip(("open", "high", "low", "close"), (2, 3, 2, 3), strict=True)
            },
            "volume": [1000.0] * len(rows),
            "source": ["by hand"] * len(rows),
        }
    )
    write_bars(folder, frame.select(list(BAR_SCHEMA)))
    return folder


def of_the_book(book: Book) -> list[tuple[Any, ...]]:
    """Bars in which all fills of the book happened."""
    symbols = ("QQQ", "TQQQ", "PSQ", "SQQQ")
    return [
        (
            symbols[row["instrument"]],
            (row["time_ns"] - OPEN) // MINUTE,
            row["price"] / 10**6,
            row["price"] / 10**6,
        )
        for row in book.executions
        if row["quantity"]
    ]


def counted(rows: int) -> dict[str, Any]:
    return {"bars": rows, "dead_letters": {}, "ignored_rows": 0, "first": None, "last": None}


def test_fills_within_their_bars_are_clean(out: Path, config: Path, tmp_path: Path) -> None:
    bars = of_the_book(whole_book())
    result_folder(whole_book(), out, config, **counted(len(bars)))
    code, stdout, stderr = said(out, "--bars", recording(tmp_path / "bars", bars), "--json")
    assert (code, stderr) == (0, "")
    found = json.loads(stdout.splitlines()[-1])["findings"]
    assert found["fills"]["evidence"] == "9 fills, 9 beside their bar"
    assert found["D5"]["evidence"] == "2 sessions ended, 6 counts of the summary"


def test_a_fill_without_a_bar_and_one_outside_it_are_found(
    out: Path,
    config: Path,
    tmp_path: Path,
) -> None:
    bars = of_the_book(whole_book())
    del bars[0]
    bars[0] = (*bars[0][:2], 400, 450)
    result_folder(whole_book(), out, config, **counted(len(bars)))
    code, stdout, _ = said(out, "--bars", recording(tmp_path / "bars", bars), "--json")
    assert code == 1
    found = json.loads(stdout.splitlines()[-1])["findings"]
    assert [key for key, finding in found.items() if not finding["held"]] == ["fills"]
    assert found["fills"]["breaches"] == 2


def test_a_row_of_the_recording_that_is_nowhere_is_found(
    out: Path,
    config: Path,
    tmp_path: Path,
) -> None:
    bars = of_the_book(whole_book())
    result_folder(whole_book(), out, config, **counted(len(bars) - 1))
    code, stdout, _ = said(out, "--bars", recording(tmp_path / "bars", bars), "--json")
    assert code == 1
    found = json.loads(stdout.splitlines()[-1])["findings"]["D5"]
    assert "bars, dead letters and ignored rows of the recording: 8 told, 9 counted" in found["evidence"]


def test_a_recording_that_is_none(out: Path, config: Path, tmp_path: Path) -> None:
    result_folder(whole_book(), out, config, **counted(9))
    code, _, stderr = said(out, "--bars", tmp_path / "nothing")
    assert code == 2
    assert "no recording at" in stderr


def test_the_bar_of_a_moment(tmp_path: Path) -> None:
    bars = [
        ("QQQ", 10, 100, 110),
        ("QQQ", 11, 200, 210),
        ("QQQ", 11, 190, 205),  # the same bar again, corrected
        ("QQQ", 11, 220, 0),  # impossible
        ("SQQQ", 10, 5, 6),
    ]
    ranges = BarRanges(BarRecording(recording(tmp_path / "bars", bars), ("QQQ", "SQQQ")))
    asked = [(0, 10.0), (0, 10.5), (0, 11.0), (0, 11.5), (0, 12.0), (0, 12.5), (0, 9.5), (1, 10.5), (1, 11.5)]
    asked.append((0, 10.5 + 1440))
    rows = np.zeros(len(asked), [("time_ns", "<i8"), ("instrument", "<i8")])
    rows["instrument"] = [row[0] for row in asked]
    rows["time_ns"] = [OPEN + int(row[1] * MINUTE) for row in asked]
    assert (ranges(rows) // 10**6).tolist() == [
        [100, 110],
        [100, 110],
        [100, 210],  # where one ends and the next begins, both count
        [190, 210],
        [190, 210],
        [0, 0],
        [0, 0],
        [5, 6],
        [0, 0],
        [0, 0],
    ]


def test_a_short_is_seen_through_the_tables(out: Path, config: Path) -> None:
    book = whole_book()
    book.sell(100, SQQQ, 10, 30, day=2)
    book.buy(110, SQQQ, 10, 30, day=2)
    book.close(2)
    result_folder(book, out, config)
    code, stdout, _ = said(out, "--json")
    assert code == 1
    found = json.loads(stdout.splitlines()[-1])["findings"]
    assert [key for key, finding in found.items() if not finding["held"]] == ["P5", "O1"]
