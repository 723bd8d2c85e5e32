"""High and low of the first m minutes of the session.

Comes in: bars of one symbol with their session and minute. Goes out: rows `high` and `low` in the currency of
the price, NaN until minute m of the session, when the range is complete. State: five numbers.

| bar | range |
|---|---|
| first of a session, symbol seen before or minute 0 | begins anew, trusted |
| first ever, after minute 0 | not trusted: pending until the next session |
| minute < m | widens |
| minute >= m, trusted, some bar had minute < m | given out |
| minute >= m otherwise | pending for this session |

A minute without a bar is a minute without a trade and does not spoil the range.
"""

import math

from operators.compiled import kernel
from operators.indicators.windows import LONGEST
from operators.registry import Indicator, Parameter, register_indicator
from schemas.batches import HIGH, LOW, Float64s, Int64s

_SEEN, _SESSION, _TRUSTED, _HIGH, _LOW = range(5)


@kernel
def _opening_range(
    prices: Float64s, session: Int64s, minute: Int64s, parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """Highest high and lowest low of the bars with minute < m of the current session."""
    m = int(parameters[0])
    for i in range(prices.shape[1]):
        if state[_SEEN] == 0.0 or session[i] != state[_SESSION]:
            state[_TRUSTED] = 1.0 if state[_SEEN] == 1.0 or minute[i] == 0 else 0.0
            state[_SEEN] = 1.0
            state[_SESSION] = session[i]
            state[_HIGH] = 0.0  # no bar yet: prices are positive
            state[_LOW] = math.inf
        out[0, i] = math.nan
        out[1, i] = math.nan
        if minute[i] < m:
            state[_HIGH] = max(state[_HIGH], prices[HIGH, i])
            state[_LOW] = min(state[_LOW], prices[LOW, i])
        elif state[_TRUSTED] == 1.0 and state[_HIGH] > 0.0:
            out[0, i] = state[_HIGH]
            out[1, i] = state[_LOW]


OPENING_RANGE = register_indicator(
    Indicator(
        name="opening_range",
        parameters=(Parameter("m", 1, LONGEST),),
        outputs=("high", "low"),
        warm_up=lambda p: int(p["m"]) + 1,
        state_size=lambda _: 5,
        kernel=_opening_range,
    )
)
