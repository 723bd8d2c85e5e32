"""Volume-weighted average price over the last n bars, and how far the close usually stands from it.

Comes in: bars of one symbol. Goes out: rows in the currency of the price, NaN while pending. State: typical
price times volume, and volume, of the last n bars; for the deviation also the n last squared distances.
"""

import math

from operators.compiled import kernel
from operators.indicators.windows import LONGEST, MEAN, MOMENTS_HEAD, is_full, moments_size, push_moments
from operators.registry import Indicator, Parameter, register_indicator
from schemas.batches import CLOSE, HIGH, LOW, VOLUME, Float64s, Int64s

_ROUNDING = 1e-12
"""Share of the price below which a distance is what dividing two sums leaves, not a move."""


@kernel
def _push_vwap(turnover: Float64s, volumes: Float64s, prices: Float64s, i: int) -> float:
    """Take bar i in; return Σ typical · volume / Σ volume.

    NaN while pending, the close where nothing was traded.
    """
    close = prices[CLOSE, i]
    volume = prices[VOLUME, i]
    typical = (prices[HIGH, i] + prices[LOW, i] + close) / 3.0
    push_moments(turnover, typical * volume)
    push_moments(volumes, volume)
    if not is_full(volumes, MOMENTS_HEAD):
        return math.nan
    if volumes[MEAN] > 0.0:
        return float(turnover[MEAN] / volumes[MEAN])
    return float(close)


@kernel
def _vwap_rolling(
    prices: Float64s, _session: Int64s, _minute: Int64s, parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """VWAP of the last n bars, with typical price (high + low + close) / 3."""
    size = MOMENTS_HEAD + int(parameters[0])
    turnover = state[:size]
    volumes = state[size:]
    for i in range(prices.shape[1]):
        out[0, i] = _push_vwap(turnover, volumes, prices, i)


@kernel
def _vwap_deviation(
    prices: Float64s, _session: Int64s, _minute: Int64s, parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """VWAP(n), and the root mean square over the last n bars of close − VWAP(n) as it stood at each of them.

    The first VWAP stands at bar n and the rms needs n of them, so both rows begin at bar 2n − 1.
    """
    size = MOMENTS_HEAD + int(parameters[0])
    turnover = state[:size]
    volumes = state[size : 2 * size]
    squares = state[2 * size :]
    for i in range(prices.shape[1]):
        vwap = _push_vwap(turnover, volumes, prices, i)
        out[0, i] = math.nan
        out[1, i] = math.nan
        if not math.isnan(vwap):
            close = prices[CLOSE, i]
            distance = close - vwap
            if abs(distance) < _ROUNDING * close:
                distance = 0.0
            push_moments(squares, distance * distance)
            if is_full(squares, MOMENTS_HEAD):
                out[0, i] = vwap
                out[1, i] = math.sqrt(max(squares[MEAN], 0.0))


VWAP_ROLLING = register_indicator(
    Indicator(
        name="vwap_rolling",
        parameters=(Parameter("n", 1, LONGEST),),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]),
        state_size=lambda p: 2 * moments_size(int(p["n"])),
        kernel=_vwap_rolling,
    )
)

VWAP_DEVIATION = register_indicator(
    Indicator(
        name="vwap_deviation",
        parameters=(Parameter("n", 1, LONGEST),),
        outputs=("vwap", "rms"),
        warm_up=lambda p: 2 * int(p["n"]) - 1,
        state_size=lambda p: 3 * moments_size(int(p["n"])),
        kernel=_vwap_deviation,
    )
)
