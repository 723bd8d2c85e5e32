"""How unusual the volume of a bar is, alone and signed by its return.

Comes in: bars of one symbol. Goes out: one row of z-scores against the last n bars, the bar itself among
them, with the population standard deviation; 0 where all are equal; NaN while pending. State: n values and,
for the flow, one close.
"""

import math

from operators.compiled import kernel
from operators.indicators.windows import LONGEST, MOMENTS_HEAD, is_full, moments_size, push_moments, z_score
from operators.registry import Indicator, Parameter, register_indicator
from schemas.batches import CLOSE, VOLUME, Float64s, Int64s

_PREVIOUS = 0
_FLOW_HEAD = 1


@kernel
def _volume_z(
    prices: Float64s, _session: Int64s, _minute: Int64s, _parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """(volume − mean) / sd."""
    for i in range(prices.shape[1]):
        volume = prices[VOLUME, i]
        push_moments(state, volume)
        out[0, i] = z_score(state, volume) if is_full(state, MOMENTS_HEAD) else math.nan


@kernel
def _order_flow_z(
    prices: Float64s, _session: Int64s, _minute: Int64s, _parameters: Float64s, state: Float64s, out: Float64s
) -> None:
    """z-score of ln(close / previous close) · volume, a stand-in for signed order flow."""
    flows = state[_FLOW_HEAD:]
    for i in range(prices.shape[1]):
        close = prices[CLOSE, i]
        previous = state[_PREVIOUS]
        state[_PREVIOUS] = close
        out[0, i] = math.nan
        if previous > 0.0:  # 0 only before the first bar: prices are positive
            flow = math.log(close / previous) * prices[VOLUME, i]
            push_moments(flows, flow)
            if is_full(flows, MOMENTS_HEAD):
                out[0, i] = z_score(flows, flow)


VOLUME_Z = register_indicator(
    Indicator(
        name="volume_z",
        parameters=(Parameter("n", 2, LONGEST),),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]),
        state_size=lambda p: moments_size(int(p["n"])),
        kernel=_volume_z,
    )
)

ORDER_FLOW_Z = register_indicator(
    Indicator(
        name="order_flow_z",
        parameters=(Parameter("n", 2, LONGEST),),
        outputs=("value",),
        warm_up=lambda p: int(p["n"]) + 1,
        state_size=lambda p: _FLOW_HEAD + moments_size(int(p["n"])),
        kernel=_order_flow_z,
    )
)
