"""Expected times are written by hand from the exchanges' published hours, never computed by the code under
test.
"""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from connectors.calendars import load_sessions


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        (date(2025, 7, 3), "2025-07-03T13:30", "2025-07-03T17:00"),  # 13:00 New York, summer
        (date(2025, 11, 28), "2025-11-28T14:30", "2025-11-28T18:00"),  # 13:00 New York, winter
        (date(2024, 12, 24), "2024-12-24T14:30", "2024-12-24T18:00"),
        (date(2025, 3, 7), "2025-03-07T14:30", "2025-03-07T21:00"),  # the last session before summer time
        (date(2025, 3, 10), "2025-03-10T13:30", "2025-03-10T20:00"),  # the first of summer time
        (date(2025, 10, 31), "2025-10-31T13:30", "2025-10-31T20:00"),
        (date(2025, 11, 3), "2025-11-03T14:30", "2025-11-03T21:00"),
    ],
)
def test_new_york_session_opens_and_closes_at_the_published_times(day: date, opens: str, closes: str) -> None:
    sessions = load_sessions("XNYS", day, day)
    assert len(sessions) == 1
    assert sessions.open_ns[0] == instant(opens)
    assert sessions.close_ns[0] == instant(closes)


@pytest.mark.parametrize(
    "holiday",
    [
        date(2025, 1, 1),
        date(2025, 1, 9),  # day of mourning
        date(2025, 1, 20),
        date(2025, 2, 17),
        date(2025, 4, 18),  # Good Friday
        date(2025, 5, 26),
        date(2025, 6, 19),
        date(2025, 7, 4),
        date(2025, 9, 1),
        date(2025, 11, 27),
        date(2025, 12, 25),
    ],
)
def test_holiday_has_no_session(holiday: date) -> None:
    with pytest.raises(ValueError, match="has no session"):
        load_sessions("XNYS", holiday, holiday)


def test_year_2025_has_250_sorted_sessions_of_which_three_are_short() -> None:
    sessions = load_sessions("XNYS", date(2025, 1, 1), date(2025, 12, 31))
    assert len(sessions) == 250
    assert sessions.open_ns.dtype == sessions.close_ns.dtype == np.int64
    assert (sessions.close_ns > sessions.open_ns).all()
    assert (sessions.open_ns[1:] >= sessions.close_ns[:-1]).all()
    hours = (sessions.close_ns - sessions.open_ns) / 3.6e12
    assert sorted(set(hours.tolist())) == [3.5, 6.5]
    assert (hours == 3.5).sum() == 3  # 3 July, 28 November, 24 December


def test_both_dates_of_the_range_are_included() -> None:
    sessions = load_sessions("XNYS", date(2025, 7, 1), date(2025, 7, 7))
    days = [datetime.fromtimestamp(ns / 1e9, UTC).day for ns in sessions.open_ns]
    assert days == [1, 2, 3, 7]


def test_market_that_never_closes_has_contiguous_days() -> None:
    sessions = load_sessions("24/7", date(2025, 7, 4), date(2025, 7, 6))
    assert sessions.open_ns[0] == instant("2025-07-04T00:00")
    assert sessions.close_ns[-1] == instant("2025-07-07T00:00")
    assert sessions.open_ns[1:].tolist() == sessions.close_ns[:-1].tolist()


def test_unknown_exchange_is_refused_with_near_matches() -> None:
    with pytest.raises(ValueError, match=r"unknown exchange 'XNYSE'.*XNYS"):
        load_sessions("XNYSE", date(2025, 1, 1), date(2025, 1, 31))
    with pytest.raises(ValueError, match=r"unknown exchange 'moon'"):
        load_sessions("moon", date(2025, 1, 1), date(2025, 1, 31))


def test_reversed_or_unknown_range_is_refused() -> None:
    with pytest.raises(ValueError, match="2025-02-01 is after the last date 2025-01-01"):
        load_sessions("XNYS", date(2025, 2, 1), date(2025, 1, 1))
    with pytest.raises(ValueError, match="XKRX from 1950-01-01"):
        load_sessions("XKRX", date(1950, 1, 1), date(1950, 12, 31))
