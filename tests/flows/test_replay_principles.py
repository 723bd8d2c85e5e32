"""The five principles, recounted from the tables alone and with close times written by hand."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from replay_fixtures import UNLIMITED, Result, replay

Configuration = Callable[..., dict[str, Any]]

ALL_FIVE = ["P1", "P2", "P3", "P4", "P5"]
EARLY_CLOSES = {date(2025, 7, 3): time(17, 0), date(2024, 11, 29): time(18, 0)}  # 13:00 in New York
SUMMER_CLOSE, WINTER_CLOSE = time(20, 0), time(21, 0)  # 16:00 in New York
BULL, BEAR = {"QQQ", "TQQQ"}, {"PSQ", "SQQQ"}

PAIR: dict[str, Any] = {
    "instruments": ["TQQQ", "SQQQ"],
    "families__0__bull": [{"probability": Decimal("0.60"), "instrument": "TQQQ", "weight": 1}],
    "families__0__bear": [{"probability": Decimal("0.60"), "instrument": "SQQQ", "weight": 1}],
    "strategies__0__signals": ["TQQQ"],
}
OPEN_FILTER: dict[str, Any] = {
    "strategies__0__filter": {"cooldown": 0, "noise_factor": 0, "noise_window": 10, "min_score": 0}
}
ALONE: dict[str, Any] = {  # the strategy trades the four instruments it reads, each for itself
    "strategies__0__family": None,
    "strategies__0__signals": ["QQQ", "TQQQ", "PSQ", "SQQQ"],
}
ONE_SIDE = ALONE | {"strategies__0__signals": ["QQQ", "TQQQ"]}


def close_of(day: date) -> datetime:
    summer = date(2025, 3, 9) <= day < date(2025, 11, 2)
    return datetime.combine(day, EARLY_CLOSES.get(day, SUMMER_CLOSE if summer else WINTER_CLOSE), UTC)


def assert_flat_every_day(result: Result) -> set[date]:
    """Positions added up fill by fill; returns the days with fills."""
    executions = result.table("executions")
    orders = result.table("orders")
    position: dict[str, int] = defaultdict(int)
    days: set[date] = set()
    fills = executions.filter(pl.col("kind") == "fill").sort("number")
    for (day,), of_day in fills.group_by(pl.col("known_ns").dt.date(), maintain_order=True):
        assert isinstance(day, date)
        assert set(position.values()) <= {0}, f"held into {day}: {dict(position)}"
        days.add(day)
        last = close_of(day) - timedelta(seconds=60)
        for row in of_day.iter_rows(named=True):
            assert row["known_ns"] <= last, f"{row['client_order_id']} was filled in the last minute of {day}"
            position[row["instrument"]] += row["quantity"] if row["side"] == "buy" else -row["quantity"]
            assert position[row["instrument"]] == row["position"] >= 0
    assert set(position.values()) <= {0}, f"held at the end: {dict(position)}"

    ended = executions.filter(pl.col("leaves") == 0).group_by("client_order_id").agg(pl.col("known_ns").max())
    sent = orders.filter(pl.col("kind") == "new").join(ended, on="client_order_id", how="left")
    open_at_close = [
        row["client_order_id"]
        for row in sent.iter_rows(named=True)
        if row["known_ns"] is None or row["known_ns"] >= close_of(row["time_ns"].date())
    ]
    assert open_at_close == []
    return days


def assert_principles(result: Result) -> None:
    summary = result.summary
    shown = f"{summary['fills_per_480_bars']} fills per 480 bars, {summary['principles']}"
    assert result.held == ALL_FIVE, shown
    assert summary["sessions_flat"] == summary["sessions"], shown

    executions = result.table("executions").filter(pl.col("kind") == "fill").sort("number")
    cash = start = Decimal(100_000)
    position: dict[str, int] = defaultdict(int)
    for row in executions.iter_rows(named=True):
        signed = row["quantity"] if row["side"] == "buy" else -row["quantity"]
        cash -= signed * row["price"] + row["fee"]
        position[row["instrument"]] += signed
        assert cash == row["cash"] >= 0, shown
        held = {symbol for symbol, quantity in position.items() if quantity}
        assert not (held & BULL and held & BEAR), f"{row['known_ns']}: {held}"
    assert summary["pnl"] == float(cash - start), shown
    assert summary["fills"] == executions.height

    entries = result.table("orders").filter((pl.col("kind") == "new") & (pl.col("side") == "buy"))
    assert not entries.select("instrument", "time_ns").is_duplicated().any(), shown


@pytest.mark.market_data
@pytest.mark.parametrize(
    ("strategy", "changes", "fewest", "most"),
    [
        pytest.param("sigor", {}, 20, 500, id="sigor"),
        pytest.param("sigor", OPEN_FILTER, 20, 500, id="sigor with the filter open"),
        pytest.param("sigor", OPEN_FILTER | UNLIMITED, 20, 500, id="sigor without limits"),
        pytest.param("ema_cross", {}, 5, 200, id="EMA cross"),
        pytest.param("toggle", OPEN_FILTER | UNLIMITED, 150, 480, id="toggle"),
        pytest.param("toggle", OPEN_FILTER | UNLIMITED | ALONE, 100, 2000, id="toggle on four"),
        pytest.param("constant", OPEN_FILTER | UNLIMITED, 2, 20, id="constant"),
        pytest.param("constant", OPEN_FILTER | UNLIMITED | ONE_SIDE, 2, 20, id="constant on one side"),
    ],
)
def test_all_principles_hold_on_the_real_family(
    strategy: str,
    changes: dict[str, Any],
    fewest: int,
    most: int,
    real_family: Path,
    configuration: Configuration,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = replay(real_family, configuration(strategy, **changes), tmp_path / "out")
    rate = result.summary["fills_per_480_bars"]
    with capsys.disabled():
        print(f" {rate} fills per 480 bars, P&L {result.summary['pnl']:.2f}", end="")
    assert_principles(result)
    assert len(assert_flat_every_day(result)) == 25
    assert fewest <= rate <= most


def test_nothing_is_held_where_both_sides_are_wanted_equally(
    clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    result = replay(clean_recording, configuration("constant", **OPEN_FILTER, **ALONE), tmp_path / "out")
    assert result.held == ALL_FIVE
    assert result.summary["orders"] == 0


@pytest.mark.market_data
@pytest.mark.parametrize("strategy", ["sigor", "ema_cross", "toggle", "constant"])
def test_all_principles_hold_on_two_instruments_over_half_a_year(
    strategy: str, real_pair: Path, configuration: Configuration, tmp_path: Path
) -> None:
    result = replay(real_pair, configuration(strategy, **PAIR), tmp_path / "out")
    assert_principles(result)
    days = assert_flat_every_day(result)
    assert result.summary["sessions"] == 138  # weekdays from 1 April to 16 October less five holidays
    assert date(2025, 7, 3) in days
    assert len(days) > 130


@pytest.mark.market_data
def test_no_entry_is_sent_in_the_last_quarter_of_an_hour_of_an_early_close(
    real_pair: Path, configuration: Configuration, tmp_path: Path
) -> None:
    loud = configuration("toggle", **PAIR, **OPEN_FILTER, **UNLIMITED)
    orders = replay(real_pair, loud, tmp_path / "out").table("orders")
    on_the_day = orders.filter(pl.col("time_ns").dt.date() == date(2025, 7, 3))
    entries = on_the_day.filter(pl.col("intent") == "entry")["time_ns"].max()
    exits = on_the_day.filter(pl.col("intent") == "exit")["time_ns"].max()
    assert isinstance(entries, datetime)
    assert isinstance(exits, datetime)
    assert datetime(2025, 7, 3, 16, 30, tzinfo=UTC) < entries < datetime(2025, 7, 3, 16, 45, tzinfo=UTC)
    assert exits < datetime(2025, 7, 3, 16, 59, tzinfo=UTC)


@pytest.mark.parametrize("strategy", ["sigor", "ema_cross", "toggle", "constant"])
def test_all_principles_hold_on_dirty_bars_with_a_half_day(
    strategy: str, dirty_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    result = replay(dirty_recording, configuration(strategy), tmp_path / "out")
    assert_principles(result)
    assert date(2024, 11, 29) in assert_flat_every_day(result)
