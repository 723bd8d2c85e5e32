"""The quiet extreme: one weight on every bar.

Comes in: bars. Goes out: the configured weight, from the first bar on. State: none.
"""

from operators.compiled import kernel
from operators.registry import Parameter, Strategy, register_strategy
from schemas.batches import Float64s, Int64s


@kernel
def _constant(
    _prices: Float64s,
    _session: Int64s,
    _minute: Int64s,
    _features: Float64s,
    parameters: Float64s,
    _state: Float64s,
    out: Float64s,
) -> None:
    """The same weight whatever the market does."""
    for i in range(len(out)):
        out[i] = parameters[0]


CONSTANT = register_strategy(
    Strategy(
        name="constant",
        emits="weight",
        parameters=(Parameter("weight", -1, 1, whole=False),),
        features=lambda _: (),
        warm_up=lambda _: 1,
        state_size=lambda _: 0,
        kernel=_constant,
    )
)
