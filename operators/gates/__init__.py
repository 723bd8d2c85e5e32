"""The gates, one file each, in one fixed order of authority: `schemas.codes.GATES`.

A gate judges an *entry*: an increase of `quantity` lots of instrument `i` at `price`. It answers with the
quantity it allows, a reason, and the two numbers it compared, so that a decision can be read without the
code:

    judge(state, rules, i, quantity, price) -> (allowed, reason, observed, limit)

Exits never come here: no gate can refuse to reduce. Every limit is written so that what is allowed is the
case that must hold, in integers: there is no value that passes by not comparing. A gate changes nothing,
except that the frequency gate trips its breaker.
"""

from operators.compiled import kernel
from operators.gates import (
    breakers,
    cash,
    conflict,
    frequency,
    freshness,
    halt_level,
    kill_switch,
    messages,
    reconciliation,
    session,
    size,
)
from schemas.codes import Outcome, Reason, Stage


@kernel
def judge_entry(state, rules, out, i, quantity, price):
    """All gates in order. Returns (stage that decided, outcome, reason, allowed, observed, limit).

    The first refusal ends the judgement. A reduction goes on to the next gate with what is left, and the last
    gate that reduced is named.
    """
    wanted = quantity
    stage, reason, observed, limit = Stage.ALLOCATION, Reason.TARGET, quantity, quantity

    allowed, why, seen, most = kill_switch.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.KILL_SWITCH, Outcome.REFUSED, why, 0, seen, most

    allowed, why, seen, most = halt_level.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.HALT_LEVEL, Outcome.REFUSED, why, 0, seen, most

    allowed, why, seen, most = breakers.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.BREAKERS, Outcome.REFUSED, why, 0, seen, most

    allowed, why, seen, most = reconciliation.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.RECONCILIATION, Outcome.REFUSED, why, 0, seen, most

    allowed, why, seen, most = session.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.SESSION, Outcome.REFUSED, why, 0, seen, most

    allowed, why, seen, most = freshness.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.FRESHNESS, Outcome.REFUSED, why, 0, seen, most

    allowed, why, seen, most = conflict.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.CONFLICT, Outcome.REFUSED, why, 0, seen, most

    allowed, why, seen, most = frequency.judge(state, rules, out, i, quantity, price)
    if allowed == 0:
        return Stage.FREQUENCY, Outcome.REFUSED, why, 0, seen, most

    allowed, why, seen, most = size.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.SIZE, Outcome.REFUSED, why, 0, seen, most
    if allowed < quantity:
        quantity, stage, reason, observed, limit = allowed, Stage.SIZE, why, seen, most

    allowed, why, seen, most = cash.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.CASH, Outcome.REFUSED, why, 0, seen, most
    if allowed < quantity:
        quantity, stage, reason, observed, limit = allowed, Stage.CASH, why, seen, most

    allowed, why, seen, most = messages.judge(state, rules, i, quantity, price)
    if allowed == 0:
        return Stage.MESSAGES, Outcome.REFUSED, why, 0, seen, most

    outcome = Outcome.APPROVED if quantity == wanted else Outcome.REDUCED
    return stage, outcome, reason, quantity, observed, limit
