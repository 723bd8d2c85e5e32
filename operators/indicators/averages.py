"""Moving averages of the close.

Comes in: bars of one symbol. Goes out: one row of averages in the currency of the price, NaN while pending.
State: `sma` holds its n closes, `ema` two numbers.
"""

import math

from operators.compiled import kernel
from operators.indicators.windows import LONGEST, MEAN, MOMENTS_HEAD, is_full, moments_size, push_moments
from operators.registry import Indicator, Parameter, register_indicator
from schemas.batches import CLOSE, Float64s, Int64s

FIRST_VALUE, SIMPLE_MEAN = range(2)
"""Seeds of the exponential average."""

_COUNT, _VALUE = range(2)


@kernel
def _sma(
    prices: Float64s, _session: Int64s, _minute: Int64s, _parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """Mean of the last n closes."""
    for i in range(prices.shape[1]):
        push_moments(state, prices[CLOSE, i])
        out[0, i] = state[MEAN] if is_full(state, MOMENTS_HEAD) else math.nan


@kernel
def _ema(
    prices: Float64s, _session: Int64s, _minute: Int64s, parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """e += 2/(n+1) · (close − e). Pending until bar n with either seed."""
    n = int(parameters[0])
    simple_mean = parameters[1] == SIMPLE_MEAN
    alpha = 2.0 / (n + 1.0)
    for i in range(prices.shape[1]):
        close = prices[CLOSE, i]
        if state[_COUNT] == n:
            state[_VALUE] += (close - state[_VALUE]) * alpha
        else:
            state[_COUNT] += 1.0
            if simple_mean:  # the sum of the first n closes, until it becomes their mean
                state[_VALUE] += close
                if state[_COUNT] == n:
                    state[_VALUE] /= n
            elif state[_COUNT] == 1.0:
                state[_VALUE] = close
            else:
                state[_VALUE] += (close - state[_VALUE]) * alpha
        out[0, i] = state[_VALUE] if state[_COUNT] == n else math.nan


SMA = register_indicator(
    Indicator(
        name="sma",
        parameters=(Parameter("n", 1, LONGEST),),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]),
        state_size=lambda p: moments_size(int(p["n"])),
        kernel=_sma,
    )
)

EMA = register_indicator(
    Indicator(
        name="ema",
        parameters=(Parameter("n", 1, LONGEST), Parameter("seed", FIRST_VALUE, SIMPLE_MEAN)),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]),
        state_size=lambda _: 2,
        kernel=_ema,
    )
)
