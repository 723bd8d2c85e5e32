"""The loud extreme: changes its mind on three of every four bars.

Comes in: bars, of which only the number counts. Goes out: weight +1 or 0, from the first bar on. State: bars
seen modulo 4, and the weight.

| bar modulo 4 | 0 | 1 | 2 | 3 |
|---|---|---|---|---|
| weight | flips | flips | flips | stays |
"""

from operators.compiled import kernel
from operators.registry import Strategy, register_strategy
from schemas.batches import Float64s, Int64s

_PHASE, _WEIGHT = range(2)


@kernel
def _toggle(
    _prices: Float64s,
    _session: Int64s,
    _minute: Int64s,
    _features: Float64s,
    _parameters: Float64s,
    state: Float64s,
    out: Float64s,
) -> None:
    """+1 first; then the other of 0 and +1, but on every fourth bar the same again."""
    for i in range(len(out)):
        if state[_PHASE] == 3.0:
            state[_PHASE] = 0.0
        else:
            state[_PHASE] += 1.0
            state[_WEIGHT] = 1.0 - state[_WEIGHT]
        out[i] = state[_WEIGHT]


TOGGLE = register_strategy(
    Strategy(
        name="toggle",
        emits="weight",
        parameters=(),
        features=lambda _: (),
        warm_up=lambda _: 1,
        state_size=lambda _: 2,
        kernel=_toggle,
    )
)
