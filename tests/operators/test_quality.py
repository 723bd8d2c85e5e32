import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.quality import (
    STATE,
    QualityLimits,
    SymbolJudge,
    initial_state,
    judge,
    load_state,
)
from schemas.batches import BarBatch
from schemas.codes import DeadLetter
from schemas.sessions import Sessions

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LIMITS = QualityLimits(MINUTE, jump_limit=0.20, max_gap_bars=30, max_price=1e6, max_volume=1e12)


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


# A Wednesday, a half day before a holiday, and the Monday and Tuesday after.
OPENS = [instant(f"2025-07-0{day}T13:30") for day in (2, 3, 7, 8)]
CLOSES = [
    instant(t) for t in ("2025-07-02T20:00", "2025-07-03T17:00", "2025-07-07T20:00", "2025-07-08T20:00")
]
SESSIONS = Sessions("XNYS", np.array(OPENS, dtype=np.int64), np.array(CLOSES, dtype=np.int64))
WED, THU, MON, TUE = OPENS
WED_CLOSE, THU_CLOSE, MON_CLOSE, TUE_CLOSE = CLOSES


@dataclass(frozen=True)
class Bar:
    start: int
    end: int
    open: float = 100.0
    high: float = 101.0
    low: float = 99.0
    close: float = 100.0
    volume: float = 1000.0
    reason: int = 0


def at(start: int, price: float = 100.0) -> Bar:
    return Bar(start, start + MINUTE, price, price * 1.01, price * 0.99, price)


def batch(bars: Sequence[Bar]) -> BarBatch:
    prices = [(b.open, b.high, b.low, b.close, b.volume) for b in bars]
    return BarBatch(
        "TQQQ",
        np.array([b.start for b in bars], dtype=np.int64),
        np.array([b.end for b in bars], dtype=np.int64),
        np.ascontiguousarray(np.array(prices, dtype=np.float64).reshape(-1, 5).T),
        np.array([b.reason for b in bars], dtype=np.uint8),
        0,
    )


def reasons_of(bars: Sequence[Bar], limits: QualityLimits = LIMITS) -> list[DeadLetter]:
    reasons, session, minute = judge(batch(bars), initial_state(), limits, SESSIONS)
    assert ((reasons == 0) == (session >= 0)).all()
    assert ((reasons == 0) == (minute >= 0)).all()
    return [DeadLetter(code) for code in reasons]


GOOD = at(WED + MINUTE)

FIRST_BAR_CASES: list[tuple[str, Bar, DeadLetter]] = [
    ("clean", GOOD, DeadLetter.NONE),
    ("zero volume", replace(GOOD, volume=0.0), DeadLetter.NONE),
    ("flat", replace(GOOD, open=100.0, high=100.0, low=100.0, close=100.0), DeadLetter.NONE),
    ("at the largest price", Bar(WED, WED + MINUTE, 1e6, 1e6, 1e6, 1e6, 1e12), DeadLetter.NONE),
    ("preset", replace(GOOD, reason=DeadLetter.MISSING_FIELD), DeadLetter.MISSING_FIELD),
    ("preset before content", replace(GOOD, low=-1.0, reason=9), DeadLetter.UNKNOWN_SYMBOL),
    *[(f"nan {f}", replace(GOOD, **{f: math.nan}), DeadLetter.NOT_FINITE) for f in ("open", "high", "low")],
    *[(f"nan {f}", replace(GOOD, **{f: math.nan}), DeadLetter.NOT_FINITE) for f in ("close", "volume")],
    ("infinite high", replace(GOOD, high=math.inf), DeadLetter.NOT_FINITE),
    ("infinite volume", replace(GOOD, volume=math.inf), DeadLetter.NOT_FINITE),
    ("nan before zero price", replace(GOOD, low=0.0, close=math.nan), DeadLetter.NOT_FINITE),
    ("zero low", replace(GOOD, low=0.0), DeadLetter.PRICE_NOT_POSITIVE),
    ("negative close", replace(GOOD, close=-5.0), DeadLetter.PRICE_NOT_POSITIVE),
    ("negative zero", replace(GOOD, open=-0.0), DeadLetter.PRICE_NOT_POSITIVE),
    ("too large", replace(GOOD, high=1_000_000.1), DeadLetter.PRICE_TOO_LARGE),
    ("high below low", replace(GOOD, high=98.0), DeadLetter.HIGH_BELOW_LOW),
    ("close above high", replace(GOOD, close=101.5), DeadLetter.OUTSIDE_RANGE),
    ("open below low", replace(GOOD, open=98.5), DeadLetter.OUTSIDE_RANGE),
    ("negative volume", replace(GOOD, volume=-1.0), DeadLetter.NEGATIVE_VOLUME),
    ("absurd volume", replace(GOOD, volume=2e12), DeadLetter.VOLUME_TOO_LARGE),
    ("1970", at(1_751_463_000), DeadLetter.TIME_OUT_OF_RANGE),
    ("no time", Bar(0, 0), DeadLetter.TIME_OUT_OF_RANGE),
    ("before the first session", at(WED - MINUTE), DeadLetter.TIME_OUT_OF_RANGE),
    ("after the last session", at(TUE_CLOSE), DeadLetter.TIME_OUT_OF_RANGE),
    ("far future", at(2**63 - 1 - MINUTE), DeadLetter.TIME_OUT_OF_RANGE),
    (
        "start after the calendar, end wrapped",
        Bar(2**63 - 1, -(2**63) + MINUTE - 1),
        DeadLetter.TIME_OUT_OF_RANGE,
    ),
    ("end before start", Bar(WED + HOUR, WED), DeadLetter.WRONG_INTERVAL),
    ("no length", Bar(WED, WED), DeadLetter.WRONG_INTERVAL),
    ("five minutes", Bar(WED, WED + 5 * MINUTE), DeadLetter.WRONG_INTERVAL),
    ("whole session", Bar(WED, WED_CLOSE), DeadLetter.WRONG_INTERVAL),
    ("stray bar at the close", at(WED_CLOSE), DeadLetter.OUTSIDE_SESSION),
    ("stray bar hours after a half day", at(THU + 390 * MINUTE), DeadLetter.OUTSIDE_SESSION),
    ("across the close", at(WED_CLOSE - MINUTE // 2), DeadLetter.OUTSIDE_SESSION),
    ("before the open", at(THU - 30 * MINUTE), DeadLetter.OUTSIDE_SESSION),
    ("holiday", at(THU + DAY), DeadLetter.OUTSIDE_SESSION),
    ("off the grid", at(WED + 90 * 1_000_000_000), DeadLetter.OFF_GRID),
    ("a nanosecond off", at(WED + 1), DeadLetter.OFF_GRID),
]


@pytest.mark.parametrize(
    ("bar", "expected"), [c[1:] for c in FIRST_BAR_CASES], ids=[c[0] for c in FIRST_BAR_CASES]
)
def test_first_bar_is_judged_by_content_and_time(bar: Bar, expected: DeadLetter) -> None:
    assert reasons_of([bar]) == [expected]


SEQUENCES: list[tuple[str, list[Bar], list[DeadLetter]]] = [
    ("duplicate", [GOOD, GOOD], [DeadLetter.NONE, DeadLetter.DUPLICATE]),
    ("correction", [GOOD, replace(GOOD, close=100.5)], [DeadLetter.NONE, DeadLetter.CORRECTION]),
    ("correction by volume", [GOOD, replace(GOOD, volume=1.0)], [DeadLetter.NONE, DeadLetter.CORRECTION]),
    ("correction by a jump", [GOOD, at(GOOD.start, 150.0)], [DeadLetter.NONE, DeadLetter.CORRECTION]),
    (
        "older",
        [at(WED), at(WED + 2 * MINUTE), at(WED + MINUTE)],
        [DeadLetter.NONE, DeadLetter.NONE, DeadLetter.OUT_OF_ORDER],
    ),
    (
        "an older bar is out of order even where it is known",
        [at(WED), at(WED + MINUTE), at(WED)],
        [DeadLetter.NONE, DeadLetter.NONE, DeadLetter.OUT_OF_ORDER],
    ),
    ("30 bars missing", [at(WED), at(WED + 31 * MINUTE)], [DeadLetter.NONE, DeadLetter.NONE]),
    ("31 bars missing", [at(WED), at(WED + 32 * MINUTE)], [DeadLetter.NONE, DeadLetter.TIME_JUMP]),
    ("a night costs nothing", [at(WED_CLOSE - MINUTE), at(THU)], [DeadLetter.NONE, DeadLetter.NONE]),
    (
        "a night and 30 bars",
        [at(WED_CLOSE - 21 * MINUTE), at(THU + 10 * MINUTE)],
        [DeadLetter.NONE, DeadLetter.NONE],
    ),
    (
        "a night and 31 bars",
        [at(WED_CLOSE - 21 * MINUTE), at(THU + 11 * MINUTE)],
        [DeadLetter.NONE, DeadLetter.TIME_JUMP],
    ),
    ("a long weekend", [at(THU_CLOSE - MINUTE), at(MON)], [DeadLetter.NONE, DeadLetter.NONE]),
    ("a session missing", [at(WED_CLOSE - MINUTE), at(MON)], [DeadLetter.NONE, DeadLetter.TIME_JUMP]),
    ("up 20 %", [GOOD, replace(at(WED + 2 * MINUTE), high=120.0)], [DeadLetter.NONE, DeadLetter.NONE]),
    ("up more", [GOOD, replace(at(WED + 2 * MINUTE), high=120.1)], [DeadLetter.NONE, DeadLetter.PRICE_JUMP]),
    ("down 20 %", [GOOD, replace(at(WED + 2 * MINUTE), low=80.0)], [DeadLetter.NONE, DeadLetter.NONE]),
    ("down more", [GOOD, replace(at(WED + 2 * MINUTE), low=79.9)], [DeadLetter.NONE, DeadLetter.PRICE_JUMP]),
    (
        "time before price",
        [at(WED), at(WED + 40 * MINUTE, 200.0)],
        [DeadLetter.NONE, DeadLetter.TIME_JUMP],
    ),
]


@pytest.mark.parametrize(("bars", "expected"), [c[1:] for c in SEQUENCES], ids=[c[0] for c in SEQUENCES])
def test_later_bar_is_judged_against_the_last_good_one(bars: list[Bar], expected: list[DeadLetter]) -> None:
    assert reasons_of(bars) == expected


OK, JUMP, TIME = DeadLetter.NONE, DeadLetter.PRICE_JUMP, DeadLetter.TIME_JUMP
QUARANTINES: list[tuple[str, list[Bar], list[DeadLetter]]] = [
    ("third agreeing bar is believed", [at(WED + m * MINUTE, 100 + 50 * (m > 0)) for m in range(5)],
     [OK, JUMP, JUMP, OK, OK]),
    ("normal bar clears the quarantine",
     [at(WED), at(WED + MINUTE, 150), at(WED + 2 * MINUTE, 150), at(WED + 3 * MINUTE),
      at(WED + 4 * MINUTE, 150)],
     [OK, JUMP, JUMP, OK, JUMP]),
    ("disagreeing suspect starts the count anew",
     [at(WED), at(WED + MINUTE, 150), at(WED + 2 * MINUTE, 300), at(WED + 3 * MINUTE, 300),
      at(WED + 4 * MINUTE, 300)],
     [OK, JUMP, JUMP, JUMP, OK]),
    ("repeated suspect is not counted",
     [at(WED), *[at(WED + MINUTE, 150)] * 4, at(WED + 2 * MINUTE, 150), at(WED + 3 * MINUTE, 150)],
     [OK, JUMP, JUMP, JUMP, JUMP, JUMP, OK]),
    ("refused bars between suspects do not matter",
     [at(WED), at(WED + MINUTE, 150), at(WED), at(5), at(WED + 2 * MINUTE, 150), at(WED + 3 * MINUTE, 150)],
     [OK, JUMP, DeadLetter.DUPLICATE, DeadLetter.TIME_OUT_OF_RANGE, JUMP, OK]),
    ("three bars after a halt",
     [at(WED), *[at(WED + m * MINUTE) for m in (60, 61, 62, 63)]],
     [OK, TIME, TIME, OK, OK]),
    ("suspects too far apart disagree",
     [at(WED), *[at(WED + m * MINUTE) for m in (60, 120, 180, 181, 182)]],
     [OK, TIME, TIME, TIME, TIME, OK]),
    ("suspect that is older than the quarantined one disagrees",
     [at(WED), *[at(WED + m * MINUTE) for m in (60, 61, 50, 51, 52)]],
     [OK, TIME, TIME, TIME, TIME, OK]),
]  # fmt: skip


@pytest.mark.parametrize(("bars", "expected"), [c[1:] for c in QUARANTINES], ids=[c[0] for c in QUARANTINES])
def test_quarantine_loses_two_bars_and_holds_none_back(bars: list[Bar], expected: list[DeadLetter]) -> None:
    assert reasons_of(bars) == expected


def test_session_and_minute_of_accepted_bars() -> None:
    bars = [at(WED), at(WED + MINUTE), at(WED_CLOSE), at(WED_CLOSE - MINUTE), at(THU_CLOSE - MINUTE)]
    loose = replace(LIMITS, max_gap_bars=1000)
    reasons, session, minute = judge(batch(bars), initial_state(), loose, SESSIONS)
    assert reasons.tolist() == [0, 0, DeadLetter.OUTSIDE_SESSION, 0, 0]
    assert session.tolist() == [0, 0, -1, 0, 1]
    assert minute.tolist() == [0, 1, -1, 389, 209]


def test_every_session_is_found_from_any_other() -> None:
    count = 40
    opens = np.arange(count, dtype=np.int64) * DAY
    sessions = Sessions("test", opens, opens + 6 * HOUR)
    order = np.random.default_rng(3).permutation(count)
    for index in order:
        for first in (0, count - 1, int(order[0])):
            bars = [at(int(opens[first]) - 1), at(int(opens[index]) + 5 * MINUTE)]
            reasons, session, minute = judge(batch(bars), initial_state(), LIMITS, sessions)
            assert (reasons[1], session[1], minute[1]) == (0, index, 5)


def test_market_that_never_closes_counts_its_minutes_by_day() -> None:
    opens = instant("2025-07-04T00:00") + np.arange(3, dtype=np.int64) * DAY
    sessions = Sessions("24/7", opens, opens + DAY)
    midnight = int(opens[1])
    bars = [at(midnight - MINUTE), at(midnight), at(midnight + 32 * MINUTE), at(midnight - 30_000_000_000)]
    reasons, session, minute = judge(batch(bars), initial_state(), LIMITS, sessions)
    assert reasons.tolist() == [0, 0, DeadLetter.TIME_JUMP, DeadLetter.OUTSIDE_SESSION]
    assert session.tolist() == [0, 1, -1, -1]
    assert minute.tolist() == [1439, 0, -1, -1]


def test_calendar_without_sessions_is_refused() -> None:
    none = np.empty(0, dtype=np.int64)
    with pytest.raises(ValueError, match="no session"):
        judge(batch([GOOD]), initial_state(), LIMITS, Sessions("XNYS", none, none))


def test_empty_batch_changes_nothing() -> None:
    state = initial_state()
    reasons, session, minute = judge(batch([]), state, LIMITS, SESSIONS)
    assert len(reasons) == len(session) == len(minute) == 0
    assert state.tobytes() == initial_state().tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"interval_ns": 0},
        {"interval_ns": 2 * DAY},
        {"jump_limit": 0.0},
        {"jump_limit": math.nan},
        {"jump_limit": 1.5},
        {"max_gap_bars": -1},
        {"max_gap_bars": 10**9},
        {"max_price": math.inf},
        {"max_price": math.nan},
        {"max_volume": 0.0},
    ],
)
def test_limit_that_refuses_nothing_is_not_allowed(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(LIMITS, **change)  # type: ignore[arg-type]


def test_snapshot_of_another_layout_is_refused() -> None:
    state = initial_state()
    assert load_state(state.tobytes()).tobytes() == state.tobytes()
    with pytest.raises(ValueError, match="bytes"):
        load_state(state.tobytes()[:-1])
    state["version"] = 2
    with pytest.raises(ValueError, match="version 2"):
        load_state(state.tobytes())
    assert STATE.itemsize == 88


# Clean bars: every session, thin, a random walk that stays within the limits.


def clean_bars(seed: int) -> list[Bar]:
    random = np.random.default_rng(seed)
    bars: list[Bar] = []
    price = 100.0
    for opens, closes in zip(OPENS, CLOSES, strict=True):
        length = (closes - opens) // MINUTE
        minutes = np.cumsum(random.integers(1, 15, size=length)) - 1
        for minute in minutes[minutes < length]:
            price *= float(np.exp(random.normal(0, 0.01)))
            bars.append(at(opens + int(minute) * MINUTE, round(price, 2)))
    return bars


def shifted(bar: Bar, by: int) -> Bar:
    return replace(bar, start=bar.start + by, end=bar.end + by)


def scaled(bar: Bar, times: int, over: int) -> Bar:
    largest = 2**63 - 1  # what does not fit is the largest time there is
    return replace(
        bar, start=min(bar.start * times // over, largest), end=min(bar.end * times // over, largest)
    )


# Dirt made from the last clean bar and the next one.
Dirt = Callable[[Bar, Bar], Bar]
STATIC: dict[str, Dirt] = {
    "nan": lambda _, b: replace(b, close=math.nan),
    "infinite": lambda _, b: replace(b, volume=math.inf),
    "zero price": lambda _, b: replace(b, low=0.0),
    "negative": lambda _, b: replace(b, open=-b.open),
    "too large": lambda _, b: replace(b, high=1e300),
    "high below low": lambda _, b: replace(b, high=b.low, low=b.high),
    "close outside": lambda _, b: replace(b, close=b.high * 1.01),
    "negative volume": lambda _, b: replace(b, volume=-1.0),
    "absurd volume": lambda _, b: replace(b, volume=1e13),
    "seconds": lambda _, b: scaled(b, 1, 1_000_000_000),
    "milliseconds": lambda _, b: scaled(b, 1, 1_000_000),
    "microseconds": lambda _, b: scaled(b, 1, 1_000),
    "times a thousand": lambda _, b: scaled(b, 1_000, 1),
    "1970": lambda _, b: shifted(b, -b.start),
    "ten years on": lambda _, b: shifted(b, 3653 * DAY),
    "ten years ago": lambda _, b: shifted(b, -3653 * DAY),
    "off grid": lambda _, b: shifted(b, 17_000_000_000),
    "other interval": lambda _, b: replace(b, end=b.end + MINUTE),
    "stray at the close": lambda _, b: at(next(c for c in CLOSES if c > b.start), b.close),
    "refused by the decoder": lambda _, b: replace(b, reason=DeadLetter.MISSING_FIELD),
}
AGAINST_THE_LAST: dict[str, Dirt] = {
    "duplicate": lambda a, _: a,
    "correction": lambda a, _: replace(a, volume=a.volume + 1),
    "corrected to a jump": lambda a, _: at(a.start, a.close * 1.4),
    "older": lambda a, _: at(WED, a.close) if a.start > WED else a,
    "local time, behind": lambda _, b: shifted(b, -4 * HOUR),
}
SUSPECT: dict[str, Dirt] = {
    "spike up": lambda a, b: at(b.start, round(a.close * 1.3, 2)),
    "spike down": lambda a, b: at(b.start, round(a.close * 0.7, 2)),
    "local time, ahead": lambda _, b: shifted(b, 4 * HOUR),
    "last day": lambda _, b: at(TUE_CLOSE - MINUTE, b.close),
}
ALL = STATIC | AGAINST_THE_LAST | SUSPECT


@given(
    seed=st.integers(0, 5),
    dirt=st.lists(st.tuples(st.integers(0, 60), st.sampled_from(sorted(ALL))), max_size=60),
)
@settings(max_examples=300, deadline=None)
def test_dirt_between_clean_bars_is_refused_and_changes_none_of_them(
    seed: int, dirt: list[tuple[int, str]]
) -> None:
    clean = clean_bars(seed)
    alone = judge(batch(clean), initial_state(), LIMITS, SESSIONS)
    assert not alone[0].any()
    bars: list[Bar] = []
    is_clean: list[bool] = []
    for position, bar in enumerate(clean):
        suspects = 0
        for at_position, kind in dirt:
            if at_position != position or (position == 0 and kind not in STATIC):
                continue  # the first bar of a symbol has no reference
            suspects += kind in SUSPECT
            if kind in SUSPECT and (suspects > 2 or bar.start > MON_CLOSE):
                continue  # three that agree are believed; on the last day the time ahead is no longer far
            bars.append(ALL[kind](clean[position - 1], bar))
            is_clean.append(False)
        bars.append(bar)
        is_clean.append(True)
    reasons, session, minute = judge(batch(bars), initial_state(), LIMITS, SESSIONS)
    mask = np.array(is_clean)
    assert not reasons[mask].any()
    assert reasons[~mask].all()
    assert session[mask].tolist() == alone[1].tolist()
    assert minute[mask].tolist() == alone[2].tolist()


@given(
    seed=st.integers(0, 5),
    dirt=st.lists(st.tuples(st.integers(1, 60), st.sampled_from(sorted(ALL))), max_size=40),
    cuts=st.lists(st.integers(0, 120), max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_cutting_batches_anywhere_changes_no_bit(
    seed: int, dirt: list[tuple[int, str]], cuts: list[int]
) -> None:
    clean = clean_bars(seed)
    bars: list[Bar] = []
    for position, bar in enumerate(clean):
        bars += [ALL[kind](clean[position - 1], bar) for p, kind in dirt if p == position]
        bars.append(bar)
    state = initial_state()
    whole = judge(batch(bars), state, LIMITS, SESSIONS)
    borders = [0, *sorted(min(cut, len(bars)) for cut in cuts), len(bars)]
    snapshot = initial_state().tobytes()
    pieces = []
    for begin, end in pairwise(borders):
        resumed = load_state(snapshot)
        pieces.append(judge(batch(bars[begin:end]), resumed, LIMITS, SESSIONS))
        snapshot = resumed.tobytes()
    for k in range(3):
        assert np.concatenate([piece[k] for piece in pieces]).tobytes() == whole[k].tobytes()
    assert snapshot == state.tobytes()


def test_symbols_are_judged_apart() -> None:
    judge_symbols = SymbolJudge(LIMITS, SESSIONS)
    cheap, dear = batch([at(WED, 1.0)]), batch([at(WED, 500.0)])
    dear.symbol = "SPY"
    assert judge_symbols(cheap)[0].tolist() == [0]
    assert judge_symbols(dear)[0].tolist() == [0]
    assert judge_symbols(cheap)[0].tolist() == [DeadLetter.DUPLICATE]
