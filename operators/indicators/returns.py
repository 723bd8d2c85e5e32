"""Logarithmic return of the close.

Comes in: bars of one symbol. Goes out: one row, a pure number, NaN while pending. State: the last n closes.
"""

import math

from operators.compiled import kernel
from operators.indicators.windows import LONGEST, push_ring, ring_size
from operators.registry import Indicator, Parameter, register_indicator
from schemas.batches import CLOSE, Float64s, Int64s


@kernel
def _log_return(
    prices: Float64s, _session: Int64s, _minute: Int64s, _parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """ln(close / close n bars ago)."""
    for i in range(prices.shape[1]):
        close = prices[CLOSE, i]
        earlier = push_ring(state, close)
        out[0, i] = math.nan if math.isnan(earlier) else math.log(close / earlier)


LOG_RETURN = register_indicator(
    Indicator(
        name="log_return",
        parameters=(Parameter("n", 1, LONGEST),),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]) + 1,
        state_size=lambda p: ring_size(int(p["n"])),
        kernel=_log_return,
    )
)
