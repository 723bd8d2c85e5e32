"""From a user's CSV to a result: what never became a bar is still there at the end, byte for byte."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from replay_fixtures import replay, sluice

from connectors.calendars import load_sessions
from connectors.synthetic import Family, generate

Configuration = Callable[..., dict[str, Any]]

FIRST = date(2024, 11, 26)
FAMILY = Family("QQQ", (("QQQ", 1.0), ("TQQQ", 3.0), ("PSQ", -1.0), ("SQQQ", -3.0)))
HEAD = "symbol,ts,open,high,low,close,volume"

Row = list[str]

# What is wrong with a row, and the reason it must be counted under.
DIRT: list[tuple[str, Callable[[Row], Row]]] = [
    ("not_finite", lambda r: [*r[:5], "NaN", r[6]]),
    ("not_finite", lambda r: [*r[:5], "1e999", r[6]]),
    ("price_not_positive", lambda r: [*r[:2], "0", *r[3:]]),
    ("negative_volume", lambda r: [*r[:6], "-1"]),
    ("volume_too_large", lambda r: [*r[:6], "1e15"]),
    ("time_out_of_range", lambda r: [r[0], "2099-01-05T15:00:00Z", *r[2:]]),
    ("time_out_of_range", lambda r: [r[0], "1970-01-01T00:01:00Z", *r[2:]]),
    ("wrong_type", lambda r: [*r[:5], "abc", r[6]]),
    ("missing_field", lambda r: [*r[:5], "", r[6]]),
    ("missing_field", lambda r: [r[0], "", *r[2:]]),
    ("duplicate", lambda r: r),
    ("correction", lambda r: [*r[:6], str(float(r[6]) + 100)]),
    ("unknown_symbol", lambda r: ["XXXX", *r[1:]]),
    ("outside_session", lambda r: [r[0], "2024-11-28T15:00:00Z", *r[2:]]),  # Thanksgiving
]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    sessions = load_sessions("XNYS", date(2024, 11, 1), date(2024, 12, 31))
    frame = pl.concat(generate(sessions, [FAMILY], FIRST, 3, 5)).select(
        "symbol",
        pl.col("start_ns").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        pl.col("open", "high", "low", "close", "volume").cast(pl.String),
    )
    return [list(row) for row in frame.iter_rows()]


def imported(rows: list[Row], folder: Path) -> Path:
    folder.mkdir()
    (folder / "bars.csv").write_text("\n".join([HEAD, *(",".join(row) for row in rows)]), encoding="utf-8")
    done = sluice("import", folder / "bars.csv", folder / "recording", "--stamped", "start", "--json")
    assert done.code == 0, done
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == len(rows)
    return folder / "recording"


def test_dirt_in_a_file_changes_nothing_and_is_counted_to_the_last_row(
    rows: list[Row], configuration: Configuration, tmp_path: Path
) -> None:
    dirty: list[Row] = []
    wanted: dict[str, int] = {}
    for k, row in enumerate(rows):
        dirty.append(row)
        if k > 400 and k % 53 == 0:
            reason, spoil = DIRT[k // 53 % len(DIRT)]
            dirty.append(spoil(row))
            wanted[reason] = wanted.get(reason, 0) + 1
    clean = replay(imported(rows, tmp_path / "clean"), configuration(), tmp_path / "out-clean")
    result = replay(imported(dirty, tmp_path / "dirty"), configuration(), tmp_path / "out-dirty")
    assert len(wanted) > 8
    assert result.summary["dead_letters"] == dict(sorted(wanted.items()))
    assert result.summary["digest"] == clean.summary["digest"]
    assert result.summary["bars"] == clean.summary["bars"] == len(rows)
    letters = result.table("dead_letters")
    raw = [json.loads(text) for text in letters.filter(pl.col("reason") == "wrong_type")["raw"]]
    assert [row["close"] for row in raw] == ["abc"] * wanted["wrong_type"]
