"""A recording with every kind of impossible bar in it gives the result of the recording without them."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from replay_fixtures import MINUTE, Result, assert_same, replay

from connectors.recording import BAR_SCHEMA, TIME, BarRecording, create_recording, write_bars

Configuration = Callable[..., dict[str, Any]]
Row = dict[str, Any]

HOUR = 60 * MINUTE
TIMES = ("start_ns", "end_ns")
PRICES = ("open", "high", "low", "close")
SYMBOLS = ["QQQ", "TQQQ", "PSQ", "SQQQ"]
EACH = 4
"""Bad bars of each kind, one a symbol."""
NAN, INFINITY = float("nan"), float("1e999")


def _sets(**values: Any) -> Callable[[Row], Row]:
    return lambda row: row | values


def _shifts(by_ns: int) -> Callable[[Row], Row]:
    return lambda row: row | {name: row[name] + by_ns for name in TIMES}


def _divides(by: int) -> Callable[[Row], Row]:
    return lambda row: row | {name: row[name] // by for name in TIMES}


def _lifts(by_ns: int) -> Callable[[Row], Row]:
    return lambda row: row | {"end_ns": row["end_ns"] + by_ns}


def _scales(by: float) -> Callable[[Row], Row]:
    return lambda row: row | {name: round(row[name] * by, 2) for name in PRICES}


# kind: what it does to a good bar, and the reason it is refused for
ANYWHERE: dict[str, tuple[Callable[[Row], Row], str]] = {
    **{f"{name} is NaN": (_sets(**{name: NAN}), "not_finite") for name in (*PRICES, "volume")},
    **{f"{name} is infinite": (_sets(**{name: INFINITY}), "not_finite") for name in (*PRICES, "volume")},
    "volume is minus infinity": (_sets(volume=-INFINITY), "not_finite"),
    "1e308 times ten": (_sets(high=1e308 * 10), "not_finite"),
    **{f"{name} is zero": (_sets(**{name: 0.0}), "price_not_positive") for name in PRICES},
    **{f"{name} is negative": (_sets(**{name: -1.0}), "price_not_positive") for name in PRICES},
    "a price of 1e308": (_sets(high=1e308), "price_too_large"),
    "a price of two million": (_sets(high=2e6, open=2e6), "price_too_large"),
    "high below low": (lambda row: row | {"high": row["low"] - 0.01}, "high_below_low"),
    "high and low exchanged": (
        lambda row: row | {"high": row["low"] - 0.01, "low": row["high"]},
        "high_below_low",
    ),
    "close above high": (lambda row: row | {"close": row["high"] + 0.01}, "outside_range"),
    "close below low": (lambda row: row | {"close": row["low"] - 0.01}, "outside_range"),
    "open above high": (lambda row: row | {"open": row["high"] + 0.01}, "outside_range"),
    "negative volume": (_sets(volume=-1.0), "negative_volume"),
    "absurd volume": (_sets(volume=1e15), "volume_too_large"),
    "the year 2100": (
        _sets(start_ns=4_102_497_000 * 10**9, end_ns=4_102_497_060 * 10**9),
        "time_out_of_range",
    ),
    "the last nanosecond of 64 bits": (
        _sets(start_ns=2**63 - 1 - MINUTE, end_ns=2**63 - 1),
        "time_out_of_range",
    ),
    "the first minute of 1970": (_sets(start_ns=0, end_ns=MINUTE), "time_out_of_range"),
    "before 1970": (_sets(start_ns=-MINUTE, end_ns=0), "time_out_of_range"),
    "seconds taken for nanoseconds": (_divides(10**9), "time_out_of_range"),
    "milliseconds taken for nanoseconds": (_divides(10**6), "time_out_of_range"),
    "microseconds taken for nanoseconds": (_divides(10**3), "time_out_of_range"),
    "only the end in another unit": (
        lambda row: row | {"end_ns": row["end_ns"] // 1000},
        "time_out_of_range",
    ),
    "ends before it starts": (_lifts(-2 * MINUTE), "wrong_interval"),
    "no length": (_lifts(-MINUTE), "wrong_interval"),
    "two minutes long": (_lifts(MINUTE), "wrong_interval"),
    "one nanosecond too long": (_lifts(1), "wrong_interval"),
    "local time to the east": (_shifts(7 * HOUR), "outside_session"),
    "local time to the west": (_shifts(-7 * HOUR), "outside_session"),
    "a week end": (
        _sets(start_ns=1_732_976_400 * 10**9, end_ns=1_732_976_460 * 10**9),  # Saturday, 14:20 UTC
        "outside_session",
    ),
    "off its grid": (_shifts(30 * 10**9), "off_grid"),
    "a nanosecond off its grid": (_shifts(1), "off_grid"),
    "an unknown symbol": (_sets(symbol="XXXX"), "unknown_symbol"),
    "an empty symbol": (_sets(symbol=""), "unknown_symbol"),
    "a symbol in lower case": (lambda row: row | {"symbol": row["symbol"].lower()}, "unknown_symbol"),
    **{f"{name} is null": (_sets(**{name: None}), "missing_field") for name in ("end_ns", *PRICES, "volume")},
}
BEFORE: dict[str, tuple[Callable[[Row], Row], str]] = {  # stands before a good bar, in its place in time
    "30 % up": (_scales(1.3), "price_jump"),
    "30 % down": (_scales(0.7), "price_jump"),
    "a hundred times the price": (_scales(100.0), "price_jump"),
}
AFTER: dict[str, tuple[Callable[[Row], Row], str]] = {  # stands right after a good bar
    "the same again": (_sets(), "duplicate"),
    "the same with another volume": (lambda row: row | {"volume": row["volume"] + 100}, "correction"),
    "the same with another close": (lambda row: row | {"close": row["low"], "volume": 1.0}, "correction"),
}
LATER: dict[str, tuple[Callable[[Row], Row], str]] = {  # stands at least one bar of its symbol later
    "out of order": (_sets(), "out_of_order"),
    "out of order with other content": (_scales(1.01), "out_of_order"),
}
AT_THE_END: dict[str, tuple[Callable[[Row], Row], str]] = {
    "the bar after the close": (_shifts(MINUTE), "outside_session"),
    "next month": (_shifts(28 * 24 * HOUR - HOUR), "time_jump"),
}


def _rows(recording: Path) -> list[Row]:
    bars = BarRecording(recording, SYMBOLS)
    frame = bars.read_frame(bars.days)
    return frame.with_columns(
        pl.col(*TIMES).to_physical(), pl.col("symbol", "source").cast(pl.String)
    ).to_dicts()


def _write(recording: Path, rows: list[Row]) -> Path:
    schema = {name: pl.Int64 if name in TIMES else kind for name, kind in BAR_SCHEMA.items()}
    frame = pl.DataFrame(rows, schema=schema | {"symbol": pl.String, "source": pl.String}, orient="row")
    create_recording(recording, MINUTE, "written by hand")
    write_bars(recording, frame.with_columns(pl.col(*TIMES).cast(TIME)))
    return recording


def _soiled(clean: list[Row], random: random.Random) -> tuple[list[Row], list[tuple[str, Row]]]:
    """The rows with bad ones between them, and the bad ones with their reasons.

    A bad bar is made of a row that has two good ones of its symbol before it and some after it on its day.
    """
    by_symbol: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    for k, row in enumerate(clean):
        by_symbol[row["symbol"]].append(k)
    last_of_session = {
        at[k]
        for at in by_symbol.values()
        for k in range(len(at))
        if k + 1 == len(at) or clean[at[k + 1]]["start_ns"] != clean[at[k]]["end_ns"]
    }
    placed: list[tuple[float, Row]] = [(float(k), row) for k, row in enumerate(clean)]
    bad: list[tuple[str, Row]] = []

    def put(place: float, row: Row, reason: str, kind: str) -> None:
        made = row | {"source": kind}
        placed.append((place + random.uniform(0.01, 0.02), made))
        bad.append((reason, made))

    def choices(symbol: str) -> Iterator[int]:
        """Each row once, so that what needs its neighbours keeps them."""
        at = by_symbol[symbol][2:-40]
        random.shuffle(at)
        return iter([k for k in at if k not in last_of_session])

    for symbol in SYMBOLS:
        rows = choices(symbol)
        for kind, (change, reason) in ANYWHERE.items():
            put(random.uniform(0, len(clean)), change(clean[next(rows)]), reason, kind)
        for kind, (change, reason) in BEFORE.items():
            at = next(rows)
            put(at - 0.5, change(clean[at]), reason, kind)
        for kind, (change, reason) in AFTER.items():
            at = next(rows)
            put(at + 0.5, change(clean[at]), reason, kind)
        for kind, (change, reason) in LATER.items():
            at = next(rows)
            put(
                by_symbol[symbol][by_symbol[symbol].index(at) + random.randint(1, 30)],
                change(clean[at]),
                reason,
                kind,
            )
        for kind, (change, reason) in AT_THE_END.items():
            at = by_symbol[symbol][-1]
            put(at, change(clean[at]), reason, kind)
    placed.sort(key=lambda item: item[0])
    return [row for _, row in placed], bad


def _content(row: Row, reason: str) -> tuple[Any, ...]:
    """A bar as its dead letter shows it: null times are 0, null prices NaN."""
    times = [row[name] or 0 for name in TIMES]
    numbers = [repr(NAN if row[name] is None else float(row[name])) for name in (*PRICES, "volume")]
    return (reason, row["symbol"], *times, *numbers)


@pytest.fixture(scope="module")
def clean(
    clean_recording: Path, configuration: Configuration, tmp_path_factory: pytest.TempPathFactory
) -> Result:
    return replay(clean_recording, configuration(), tmp_path_factory.mktemp("clean") / "out")


@pytest.mark.parametrize(("seed", "batch_bars", "window_rows"), [(1, 0, 1 << 30), (2, 50, 1000), (3, 7, 1)])
def test_bad_bars_change_nothing_and_are_kept_with_their_reason(
    seed: int,
    batch_bars: int,
    window_rows: int,
    clean: Result,
    clean_recording: Path,
    configuration: Configuration,
    tmp_path: Path,
) -> None:
    rows, bad = _soiled(_rows(clean_recording), random.Random(seed))
    recording = _write(tmp_path / "recording", rows)
    result = replay(
        recording, configuration(), tmp_path / "out", batch_bars=batch_bars, window_rows=window_rows
    )
    expected = Counter(reason for reason, _ in bad)
    assert result.summary["dead_letters"] == dict(expected), f"seed {seed}"
    assert_same(clean, result)
    assert result.summary["bars"] == clean.summary["bars"] == len(rows) - len(bad)
    assert len(bad) == EACH * sum(map(len, (ANYWHERE, BEFORE, AFTER, LATER, AT_THE_END)))

    letters = [_content(row, row["reason"]) for row in result.table("dead_letters").to_dicts()]
    assert Counter(letters) == Counter(_content(row, reason) for reason, row in bad), f"seed {seed}"


@pytest.mark.parametrize("strategy", ["ema_cross", "toggle", "constant"])
def test_bad_bars_change_no_other_strategy(
    strategy: str, clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    rows, _ = _soiled(_rows(clean_recording), random.Random(4))
    recording = _write(tmp_path / "recording", rows)
    assert_same(
        replay(clean_recording, configuration(strategy), tmp_path / "clean"),
        replay(recording, configuration(strategy), tmp_path / "out", workers=2),
    )


def test_zero_volume_is_accepted_and_nothing_fills_on_it(
    clean: Result, clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    fills = clean.table("executions").filter(pl.col("kind") == "fill")
    wanted = set(
        fills.gather_every(2)
        .select(pl.col("instrument").cast(pl.String), pl.col("time_ns").to_physical())
        .rows()
    )
    rows = _rows(clean_recording)
    dry = [row | {"volume": 0.0} if (row["symbol"], row["start_ns"]) in wanted else row for row in rows]
    assert sum(row["volume"] == 0.0 for row in dry) == len(wanted) > 20
    result = replay(_write(tmp_path / "recording", dry), configuration(), tmp_path / "out")

    assert result.summary["bars"] == len(rows)
    assert result.summary["dead_letters"] == {}
    volume = {(row["symbol"], row["start_ns"]): row["volume"] for row in dry}
    after = result.table("executions").filter(pl.col("kind") == "fill")
    assert after.height > 20
    for row in after.with_columns(pl.col("time_ns").to_physical()).iter_rows(named=True):
        assert 0 < row["quantity"] <= volume[row["instrument"], row["time_ns"]] * 0.1
    assert len(result.held) == 5


def test_a_recording_of_bad_bars_alone_trades_nothing(
    clean_recording: Path, configuration: Configuration, tmp_path: Path
) -> None:
    rows = [row | {"close": NAN} for row in _rows(clean_recording)]
    result = replay(_write(tmp_path / "recording", rows), configuration(), tmp_path / "out")
    assert result.summary["dead_letters"] == {"not_finite": len(rows)}
    assert (result.summary["bars"], result.summary["orders"], result.summary["pnl"]) == (0, 0, 0.0)
    assert result.summary["principles"] == {}  # nothing was judged, so nothing is said to hold


def test_other_symbols_are_ignored_and_counted_where_the_configuration_says_so(
    clean_recording: Path, configuration: Configuration, clean: Result, tmp_path: Path
) -> None:
    rows = _rows(clean_recording)
    others = [row | {"symbol": "XXXX"} for row in rows[::10]]
    recording = _write(tmp_path / "recording", [*others, *rows])
    result = replay(recording, configuration(bars__other_symbols="ignore"), tmp_path / "out")
    assert result.summary["dead_letters"] == {}
    assert result.summary["ignored_rows"] == len(others)
    assert result.summary["digest"] == clean.summary["digest"]
