"""The loudest: changes its mind on every bar.

Comes in: bars, of which only the number counts. Goes out: weight +1, 0, +1, 0 ... State: the weight.
"""

from operators.compiled import kernel
from operators.registry import Strategy, register_strategy
from schemas.batches import Float64s, Int64s


@kernel
def _alternate(
    _prices: Float64s,
    _session: Int64s,
    _minute: Int64s,
    _features: Float64s,
    _parameters: Float64s,
    state: Float64s,
    out: Float64s,
) -> None:
    """+1 first, then the other of 0 and +1 at every bar."""
    for i in range(len(out)):
        state[0] = 1.0 - state[0]
        out[i] = state[0]


ALTERNATE = register_strategy(
    Strategy(
        name="alternate",
        emits="weight",
        parameters=(),
        features=lambda _: (),
        warm_up=lambda _: 1,
        state_size=lambda _: 1,
        kernel=_alternate,
    )
)
