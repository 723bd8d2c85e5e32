"""Dice: a weight at random on every bar, the same for the same seed.

Comes in: bars, of which only the number counts. Goes out: weight -1, 0 or +1, each as likely. State: the
number of Lehmer's generator, x' = 48,271 x modulo 2^31 - 1 (Park and Miller, 1993), which a float64 holds
exactly.
"""

from operators.compiled import kernel
from operators.registry import Parameter, Strategy, register_strategy
from schemas.batches import Float64s, Int64s

_FACTOR, _PRIME = 48_271.0, 2_147_483_647.0


@kernel
def _dice(
    _prices: Float64s,
    _session: Int64s,
    _minute: Int64s,
    _features: Float64s,
    parameters: Float64s,
    state: Float64s,
    out: Float64s,
) -> None:
    """One throw a bar."""
    if state[0] == 0.0:
        state[0] = parameters[0]
    for i in range(len(out)):
        state[0] = state[0] * _FACTOR % _PRIME
        out[i] = state[0] // 7.0 % 3.0 - 1.0


DICE = register_strategy(
    Strategy(
        name="dice",
        emits="weight",
        parameters=(Parameter("seed", 1, 1_000_000_000),),
        features=lambda _: (),
        warm_up=lambda _: 1,
        state_size=lambda _: 1,
        kernel=_dice,
    )
)
