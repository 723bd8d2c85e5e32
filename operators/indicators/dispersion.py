"""How widely the close is spread: standard deviation and Bollinger bands.

Comes in: bars of one symbol. Goes out: rows in the currency of the price, NaN while pending. State: the last
n closes.
"""

import math

from operators.compiled import kernel
from operators.indicators.windows import (
    LONGEST,
    MEAN,
    MOMENTS_HEAD,
    deviation,
    is_full,
    moments_size,
    push_moments,
)
from operators.registry import Indicator, Parameter, register_indicator
from schemas.batches import CLOSE, Float64s, Int64s

_UPPER, _MIDDLE, _LOWER, _SD = range(4)


@kernel
def _stddev(
    prices: Float64s, _session: Int64s, _minute: Int64s, _parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """Population standard deviation of the last n closes; exactly 0 where they are equal."""
    for i in range(prices.shape[1]):
        push_moments(state, prices[CLOSE, i])
        out[0, i] = deviation(state) if is_full(state, MOMENTS_HEAD) else math.nan


@kernel
def _bollinger(
    prices: Float64s, _session: Int64s, _minute: Int64s, parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """Mean of the last n closes, and k population standard deviations to either side of it."""
    k = parameters[1]
    for i in range(prices.shape[1]):
        push_moments(state, prices[CLOSE, i])
        middle = math.nan
        sd = math.nan
        if is_full(state, MOMENTS_HEAD):
            middle = state[MEAN]
            sd = deviation(state)
        out[_UPPER, i] = middle + k * sd
        out[_MIDDLE, i] = middle
        out[_LOWER, i] = middle - k * sd
        out[_SD, i] = sd


STDDEV = register_indicator(
    Indicator(
        name="stddev",
        parameters=(Parameter("n", 2, LONGEST),),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]),
        state_size=lambda p: moments_size(int(p["n"])),
        kernel=_stddev,
    )
)

BOLLINGER = register_indicator(
    Indicator(
        name="bollinger",
        parameters=(Parameter("n", 2, LONGEST), Parameter("k", 0, 100, whole=False)),
        outputs=("upper", "middle", "lower", "sd"),
        warm_up=lambda p: int(p["n"]),
        state_size=lambda p: moments_size(int(p["n"])),
        kernel=_bollinger,
    )
)
