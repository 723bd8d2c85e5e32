"""Exchange calendars as sorted arrays.

In: an exchange's name (ISO market code such as XNYS, or 24/7 for a market that never closes) and two dates.
Out: its regular sessions, half days, holidays and daylight saving included. State: none.

Always true: opens ascend, every session closes after it opens and not after the next one opens. Lunch breaks
are not modelled: a session of an exchange that has one is a single span.
"""

import warnings
from datetime import date, timedelta
from difflib import get_close_matches

import exchange_calendars
import numpy as np

from schemas.sessions import Sessions

_MARGIN = timedelta(
    days=10
)  # the library refuses a range of a single day or without a session; this one is never so


def load_sessions(exchange: str, first: date, last: date) -> Sessions:
    """Sessions of `exchange` whose date lies in [first, last].

    Raises ValueError for an unknown exchange, a range that is reversed or that the calendar does not cover,
    and a range without any session.
    """
    names = exchange_calendars.get_calendar_names(include_aliases=True)
    if exchange not in names:
        near = get_close_matches(exchange.upper(), names, n=4, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; use a market code such as XNYS, or 24/7"
        raise ValueError(f"unknown exchange {exchange!r}{hint}")
    if first > last:
        raise ValueError(f"sessions of {exchange}: the first date {first} is after the last date {last}")
    try:
        with warnings.catch_warnings():
            # The library calls what its own dependency deprecates; nothing here could act on that.
            warnings.simplefilter("ignore", DeprecationWarning)
            calendar = exchange_calendars.get_calendar(
                exchange, start=(first - _MARGIN).isoformat(), end=(last + _MARGIN).isoformat()
            )
    except (ValueError, OverflowError) as error:
        raise ValueError(f"sessions of {exchange} from {first} to {last} are not known: {error}") from error
    days = calendar.opens.index.to_numpy().astype("datetime64[D]")
    wanted = (days >= np.datetime64(first)) & (days <= np.datetime64(last))
    if not wanted.any():
        raise ValueError(f"{exchange} has no session from {first} to {last}")
    return Sessions(
        exchange,
        calendar.opens.to_numpy(dtype="datetime64[ns]").astype(np.int64)[wanted],
        calendar.closes.to_numpy(dtype="datetime64[ns]").astype(np.int64)[wanted],
    )
