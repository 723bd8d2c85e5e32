"""Relative strength index of the close, in two variants.

Comes in: bars of one symbol. Goes out: one row from 0 to 100, NaN while pending. State: `rsi` holds four
numbers, `rsi_simple` the gains and losses of the last n bars.

Where no price has moved the index has no definition. `rsi` says 0 then, as TA-Lib does, with which it agrees
on every bar; `rsi_simple` says 50, so that a flat market is not taken for an oversold one.
"""

import math

from operators.compiled import kernel
from operators.indicators.windows import LONGEST, MEAN, MOMENTS_HEAD, is_full, moments_size, push_moments
from operators.registry import Indicator, Parameter, register_indicator
from schemas.batches import CLOSE, Float64s, Int64s

_COUNT, _PREVIOUS, _GAIN, _LOSS = range(4)
_SIMPLE_HEAD = 2


@kernel
def _rsi(
    prices: Float64s, _session: Int64s, _minute: Int64s, parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """100 · gain / (gain + loss), each averaged by Wilder (New Concepts in Technical Trading Systems, 1978).

    The first averages are plain means of n changes, after which a = (a · (n − 1) + change) / n.
    """
    n = int(parameters[0])
    for i in range(prices.shape[1]):
        close = prices[CLOSE, i]
        change = close - state[_PREVIOUS]
        state[_PREVIOUS] = close
        if state[_COUNT] == 0.0:  # the first close is no change
            state[_COUNT] = 1.0
            out[0, i] = math.nan
            continue
        gain = max(change, 0.0)
        loss = max(-change, 0.0)
        if state[_COUNT] <= n:
            state[_COUNT] += 1.0
            state[_GAIN] += gain
            state[_LOSS] += loss
            if state[_COUNT] <= n:
                out[0, i] = math.nan
                continue
            state[_GAIN] /= n
            state[_LOSS] /= n
        else:
            state[_GAIN] = (state[_GAIN] * (n - 1.0) + gain) / n
            state[_LOSS] = (state[_LOSS] * (n - 1.0) + loss) / n
        moves = state[_GAIN] + state[_LOSS]
        out[0, i] = 100.0 * (state[_GAIN] / moves) if moves > 0.0 else 0.0


@kernel
def _rsi_simple(
    prices: Float64s, _session: Int64s, _minute: Int64s, parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """100 · gain / (gain + loss), each the plain mean over the last n changes (Cutler's variant)."""
    size = MOMENTS_HEAD + int(parameters[0])
    gains = state[_SIMPLE_HEAD : _SIMPLE_HEAD + size]
    losses = state[_SIMPLE_HEAD + size : _SIMPLE_HEAD + 2 * size]
    for i in range(prices.shape[1]):
        close = prices[CLOSE, i]
        change = close - state[_PREVIOUS]
        state[_PREVIOUS] = close
        out[0, i] = math.nan
        if state[_COUNT] == 0.0:
            state[_COUNT] = 1.0
            continue
        push_moments(gains, max(change, 0.0))
        push_moments(losses, max(-change, 0.0))
        if is_full(gains, MOMENTS_HEAD):
            moves = gains[MEAN] + losses[MEAN]
            out[0, i] = 100.0 * (gains[MEAN] / moves) if moves > 0.0 else 50.0


RSI = register_indicator(
    Indicator(
        name="rsi",
        parameters=(Parameter("n", 2, LONGEST),),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]) + 1,
        state_size=lambda _: 4,
        kernel=_rsi,
    )
)

RSI_SIMPLE = register_indicator(
    Indicator(
        name="rsi_simple",
        parameters=(Parameter("n", 2, LONGEST),),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]) + 1,
        state_size=lambda p: _SIMPLE_HEAD + 2 * moments_size(int(p["n"])),
        kernel=_rsi_simple,
    )
)
