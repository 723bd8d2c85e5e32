"""Recorded bars on their way into their topic."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from connectors.calendars import load_sessions
from connectors.recording import BarRecording
from flows.publish import bar_bytes, moments, moments_in
from schemas.codecs import Refused, decode, encode
from schemas.records import Bar

SYMBOLS = ("QQQ", "TQQQ", "PSQ", "SQQQ")
SESSIONS = load_sessions("XNYS", date(2005, 1, 3), date(2027, 12, 31))
MINUTE = 60_000_000_000


def rows(path: Path) -> pl.DataFrame:
    recording = BarRecording(path, SYMBOLS)
    return pl.concat([recording.read_frame((day,)) for day in recording.days])


def test_every_row_is_published_once(dirty_recording: Path) -> None:
    told = [
        bar for moment in moments(BarRecording(dirty_recording, SYMBOLS), SESSIONS) for bar in moment.bars
    ]
    assert len(told) == rows(dirty_recording).height
    refused = [value for _, value in told if isinstance(decode(Bar, value), Refused)]
    assert 0 < len(refused) < len(told) / 10


def test_a_clean_row_is_the_wire_form_of_its_bar(clean_recording: Path) -> None:
    for moment in moments(BarRecording(clean_recording, SYMBOLS), SESSIONS):
        for symbol, value in moment.bars:
            bar = decode(Bar, value)
            assert isinstance(bar, Bar)
            assert (bar.symbol, encode(bar)) == (symbol, value)
            assert bar.end_ns == moment.time_ns


def test_times_rise_and_the_clock_ticks_in_sessions_that_have_bars(dirty_recording: Path) -> None:
    """A bar whose time is in another unit neither stops the clock nor makes it tick through years."""
    told = list(moments(BarRecording(dirty_recording, SYMBOLS), SESSIONS))
    ticks = np.array([moment.time_ns for moment in told if moment.ticks])
    assert np.diff([moment.time_ns for moment in told]).min() > 0
    times = rows(dirty_recording)["end_ns"].to_physical().drop_nulls().to_numpy()
    sessions = sum(
        bool(((open_ns < times) & (times <= close_ns)).any())
        for open_ns, close_ns in zip(SESSIONS.open_ns, SESSIONS.close_ns, strict=True)
    )
    ends = [t for t in ticks.tolist() if t - MINUTE in set(SESSIONS.close_ns.tolist())]
    assert len(ends) == sessions > 0
    assert len(ticks) == moments_in(BarRecording(dirty_recording, SYMBOLS), SESSIONS)


@pytest.mark.parametrize("wrong", [None, float("nan")])
def test_a_row_that_is_no_bar_is_published_and_refused_by_its_reader(wrong: float | None) -> None:
    row = dict.fromkeys(("open", "high", "low", "volume"), 1.0)
    value = bar_bytes({"symbol": "QQQ", "start_ns": 0, "end_ns": 60, **row, "close": wrong, "source": None})
    assert isinstance(decode(Bar, value), Refused)
