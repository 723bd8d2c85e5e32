"""A position's own machine, above its orders: flat, entering, open, exiting, flat.

| from | to | when |
|---|---|---|
| flat, open | entering | an entry is live |
| entering | open | no entry is live, something is held |
| any | exiting | all of it is to be sold: `begin_exit` |
| entering, open, exiting | flat | nothing held, nothing live, no fill missing |

So exiting ends only when confirmed flat: whatever strategies ask for meanwhile, what failed is retried.
"""

from operators.breakers import exit_settled
from operators.compiled import kernel
from operators.missing import owed
from operators.order_lifecycle import is_live
from schemas.codes import Intent, PositionPhase, Side


@kernel
def begin_exit(state, i, stage, reason):
    """All of it is to be sold."""
    position = state.positions[i]
    if position.phase == PositionPhase.EXITING:
        return
    position.phase = PositionPhase.EXITING
    position.exit_stage = stage
    position.exit_reason = reason
    position.progress_ns = state.account[0].time_ns
    position.exit_failures = 0
    position.retry_ns = 0


@kernel
def settle(state, rules, out, i):
    """Follow what has just happened to the position or its order."""
    position = state.positions[i]
    order = state.orders[i]
    live = is_live(order)
    missing = owed(state, i, Side.BUY) + owed(state, i, Side.SELL)
    if position.quantity == 0 and not live and missing == 0:
        if position.phase == PositionPhase.EXITING:
            exit_settled(state, rules, out, i)
        position.phase = PositionPhase.FLAT
        position.carried = 0
        position.denied = 0
    elif position.phase != PositionPhase.EXITING:
        if live and order.intent == Intent.ENTRY:
            position.phase = PositionPhase.ENTERING
        else:
            position.phase = PositionPhase.OPEN
