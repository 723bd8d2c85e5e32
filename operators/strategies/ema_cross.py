"""Trend by two exponential averages.

Comes in: the fast and the slow EMA of the close, both seeded by the SMA. Goes out: weight +1 while the fast
one is above, 0 (or −1 where `short` is 1) while it is below, 0 while they are equal, NaN while the slow one
is pending. State: none.
"""

import math

from operators.compiled import kernel
from operators.indicators.averages import SIMPLE_MEAN
from operators.indicators.windows import LONGEST
from operators.registry import Feature, Parameter, Parameters, Strategy, register_strategy
from schemas.batches import Float64s, Int64s

_FAST, _SLOW = range(2)
_SHORT = 2  # its place among the parameters


@kernel
def _ema_cross(
    _prices: Float64s,
    _session: Int64s,
    _minute: Int64s,
    features: Float64s,
    parameters: Float64s,
    _state: Float64s,
    out: Float64s,
) -> None:
    """Sign of fast − slow, its negative side only where short positions are wanted."""
    below = -1.0 if parameters[_SHORT] == 1.0 else 0.0
    for i in range(len(out)):
        distance = features[_FAST, i] - features[_SLOW, i]
        if math.isnan(distance):
            out[i] = math.nan
        elif distance > 0.0:
            out[i] = 1.0
        elif distance < 0.0:
            out[i] = below
        else:  # a price that never moved has no trend
            out[i] = 0.0


def _features(parameters: Parameters) -> tuple[Feature, ...]:
    return tuple(Feature.of("ema", n=parameters[n], seed=SIMPLE_MEAN) for n in ("fast", "slow"))


def _check(parameters: Parameters) -> str | None:
    if parameters["fast"] < parameters["slow"]:
        return None
    return f"fast: {parameters['fast']:g} is not below slow, {parameters['slow']:g}"


EMA_CROSS = register_strategy(
    Strategy(
        name="ema_cross",
        emits="weight",
        parameters=(Parameter("fast", 1, LONGEST), Parameter("slow", 2, LONGEST), Parameter("short", 0, 1)),
        features=_features,
        warm_up=lambda p: int(p["slow"]),
        state_size=lambda _: 0,
        kernel=_ema_cross,
        check=_check,
    )
)
