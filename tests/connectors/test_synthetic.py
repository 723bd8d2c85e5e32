from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from connectors.calendars import load_sessions
from connectors.recording import BAR_SCHEMA, BarRecording
from connectors.synthetic import Family, generate, independent_symbols, write_synthetic
from operators.quality import QualityLimits, SymbolJudge
from schemas.batches import BarBatch
from schemas.codes import DeadLetter
from schemas.sessions import Sessions

MINUTE = 60_000_000_000
FIRST = date(2025, 6, 30)
NASDAQ = Family("nasdaq", (("QQQ", 1.0), ("TQQQ", 3.0), ("SQQQ", -3.0)))
THIN = Family("small", (("TNA", 3.0), ("TZA", -3.0)), {"TZA": 0.2})
LIMITS = QualityLimits(MINUTE, jump_limit=0.20, max_gap_bars=30, max_price=1e6, max_volume=1e12)


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return load_sessions("XNYS", date(2025, 6, 2), date(2025, 12, 31))


def whole(
    sessions: Sessions, *families: Family, days: int = 5, seed: int = 7, dirty: bool = False
) -> pl.DataFrame:
    return pl.concat(generate(sessions, families, FIRST, days, seed, dirty))


def test_same_seed_gives_the_same_bars_and_another_seed_others(sessions: Sessions) -> None:
    assert whole(sessions, NASDAQ).equals(whole(sessions, NASDAQ))
    assert not whole(sessions, NASDAQ, seed=8).equals(whole(sessions, NASDAQ))


def test_another_family_changes_no_bar_of_this_one(sessions: Sessions) -> None:
    both = whole(sessions, THIN, NASDAQ).filter(pl.col("symbol").is_in(["QQQ", "TQQQ", "SQQQ"]))
    assert both.equals(whole(sessions, NASDAQ))


def test_sessions_follow_the_calendar_with_its_half_day_and_holiday(sessions: Sessions) -> None:
    counts = [frame.height for frame in generate(sessions, [NASDAQ], FIRST, 5, 7)]
    assert counts == [1170, 1170, 1170, 630, 1170]  # the fourth closes at 13:00; 4 July is absent
    last = list(generate(sessions, [NASDAQ], FIRST, 5, 7))[-1]
    assert str(last["start_ns"][0]) == "2025-07-07 13:30:00+00:00"


def test_bars_are_possible_bars(sessions: Sessions) -> None:
    bars = whole(sessions, NASDAQ, THIN, days=40)
    assert bars.columns == list(BAR_SCHEMA)
    assert bars.select((pl.col("low") > 0).all()).item()
    assert bars.select((pl.col("low") <= pl.min_horizontal("open", "close")).all()).item()
    assert bars.select((pl.col("high") >= pl.max_horizontal("open", "close")).all()).item()
    assert bars.select((pl.col("volume") == pl.col("volume").floor()).all()).item()
    assert bars.select((pl.col("volume") >= 0).all()).item()
    cents = bars["close"] * 100
    assert (cents - cents.round(0)).abs().max() < 1e-6  # type: ignore[operator]
    assert bars["start_ns"].is_sorted()


def test_members_move_by_their_leverage_from_close_to_close(sessions: Sessions) -> None:
    closes = [
        frame.group_by("symbol").agg(pl.col("close").last())
        for frame in generate(sessions, [NASDAQ], FIRST, 30, 7)
    ]
    by_symbol = {
        symbol: np.array([frame.filter(pl.col("symbol") == symbol)["close"].item() for frame in closes])
        for symbol in ("QQQ", "TQQQ", "SQQQ")
    }
    moves = {symbol: np.diff(prices) / prices[:-1] for symbol, prices in by_symbol.items()}
    assert np.abs(moves["TQQQ"] - 3 * moves["QQQ"]).max() < 0.002  # cents and noise
    assert np.abs(moves["SQQQ"] + 3 * moves["QQQ"]).max() < 0.002
    assert 0.002 < moves["QQQ"].std() < 0.05


def test_volume_and_range_are_high_at_both_ends_of_the_session(sessions: Sessions) -> None:
    bars = whole(sessions, NASDAQ, days=60).with_columns(
        minute=(
            pl.col("start_ns") - pl.col("start_ns").min().over(pl.col("start_ns").dt.date())
        ).dt.total_minutes(),
        range=(pl.col("high") - pl.col("low")) / pl.col("close"),
    )
    for name in ("volume", "range"):
        middle = bars.filter(pl.col("minute").is_between(150, 190))[name].mean()
        assert bars.filter(pl.col("minute") < 15)[name].mean() > 1.5 * middle  # type: ignore[operator]
        assert bars.filter(pl.col("minute") >= 375)[name].mean() > 1.2 * middle  # type: ignore[operator]


def test_thin_member_misses_its_share_of_minutes(sessions: Sessions) -> None:
    counts = dict(whole(sessions, THIN, days=20)["symbol"].value_counts().iter_rows())
    assert counts["TNA"] == 19 * 390 + 210
    assert 0.75 < counts["TZA"] / counts["TNA"] < 0.85


def judged(frame: pl.DataFrame, sessions: Sessions) -> pl.DataFrame:
    """The frame with the reason of each row; rows of an unknown symbol have that reason."""
    judge = SymbolJudge(LIMITS, sessions)
    pieces = []
    for (symbol,), rows in frame.with_row_index("row").group_by(["symbol"], maintain_order=True):
        prices = rows.select("open", "high", "low", "close", "volume").to_numpy().T
        start, end = (rows[name].to_physical().to_numpy() for name in ("start_ns", "end_ns"))
        preset = np.full(len(start), DeadLetter.UNKNOWN_SYMBOL if symbol == "XXXX" else 0, dtype=np.uint8)
        batch = BarBatch(str(symbol), start, end, np.ascontiguousarray(prices), preset, 0)
        pieces.append(rows.with_columns(reason=pl.Series(judge(batch)[0])))
    return pl.concat(pieces).sort("row")


def test_clean_bars_pass_the_quality_check(sessions: Sessions) -> None:
    assert judged(whole(sessions, NASDAQ, THIN, days=60), sessions)["reason"].sum() == 0


def test_dirt_changes_no_clean_row_and_every_dirty_row_is_refused_for_what_it_is(sessions: Sessions) -> None:
    dirty = whole(sessions, NASDAQ, THIN, days=60, dirty=True)
    clean = dirty.filter(pl.col("source") == "synthetic")
    assert clean.equals(whole(sessions, NASDAQ, THIN, days=60))
    rows = judged(dirty, sessions)
    assert rows.filter(pl.col("source") == "synthetic")["reason"].sum() == 0
    refused = rows.filter(pl.col("source") != "synthetic")
    found = {
        source: (reason, count)
        for source, reason, count in refused.group_by("source", "reason").len().iter_rows()
    }
    assert found == {
        "synthetic, nan": (DeadLetter.NOT_FINITE, 60),
        "synthetic, high below low": (DeadLetter.HIGH_BELOW_LOW, 60),
        "synthetic, zero price": (DeadLetter.PRICE_NOT_POSITIVE, 60),
        "synthetic, duplicate": (DeadLetter.DUPLICATE, 60),
        "synthetic, correction": (DeadLetter.CORRECTION, 60),
        "synthetic, after the close": (DeadLetter.OUTSIDE_SESSION, 60),
        "synthetic, spike": (DeadLetter.PRICE_JUMP, 60),
        "synthetic, unknown symbol": (DeadLetter.UNKNOWN_SYMBOL, 60),
        "synthetic, wrong unit": (DeadLetter.TIME_OUT_OF_RANGE, 60),
    }


def test_recording_is_labelled_synthetic_and_holds_every_row(tmp_path: Path, sessions: Sessions) -> None:
    rows = write_synthetic(tmp_path / "r", sessions, [NASDAQ], FIRST, 3, seed=11, dirty=True)
    recording = BarRecording(tmp_path / "r", ["QQQ", "TQQQ", "SQQQ"])
    assert recording.origin == "synthetic, seed 11"
    window = recording.read(recording.days)
    assert window.other_counts == {"XXXX": 3}
    assert sum(len(group) for group in window.symbols) + 3 == rows == 3 * (1170 + 9)
    write_synthetic(tmp_path / "again", sessions, [NASDAQ], FIRST, 3, seed=11, dirty=True)
    for path in (tmp_path / "r").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "r")).read_bytes()


def test_independent_symbols_are_named_and_do_not_move_together(sessions: Sessions) -> None:
    families = independent_symbols(20)
    assert [family.members[0][0] for family in families][::19] == ["SYM001", "SYM020"]
    bars = whole(sessions, *families, days=2)
    moves = [
        np.diff(np.log(bars.filter(pl.col("symbol") == family.name)["close"].to_numpy()))
        for family in families[:2]
    ]
    assert abs(np.corrcoef(moves)[0, 1]) < 0.2


def test_what_cannot_be_generated_is_said_at_the_call(sessions: Sessions, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sessions from"):
        generate(sessions, [NASDAQ], FIRST, 500, 7)
    with pytest.raises(ValueError, match="distinct"):
        generate(sessions, [NASDAQ, NASDAQ], FIRST, 1, 7)
    with pytest.raises(ValueError, match="no family"):
        write_synthetic(tmp_path / "r", sessions, [], FIRST, 1, 7)
    with pytest.raises(ValueError, match="days"):
        generate(sessions, [NASDAQ], FIRST, 0, 7)
    with pytest.raises(ValueError, match="leverage"):
        Family("x", (("A", 0.0),))
    with pytest.raises(ValueError, match="no member"):
        Family("x", (("A", 1.0),), {"B": 0.1})
    assert not (tmp_path / "r").exists()
