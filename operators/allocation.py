"""Allocation: signals become target weights, and weights become absolute targets in lots.

A *sleeve* is one strategy on one instrument it reads. On a family, its signal chooses a tier, with
hysteresis; alone, its weight is the signal, in steps. A target in lots is fixed when its weight changes, or
while nothing of it is held, and then stays: a constant signal makes one order, whatever the price does.
"""

from operators.compiled import kernel, routine
from schemas.codes import Breaker, Verdict
from schemas.records import MICRO


@kernel
def next_tier(rules, family, tier, score):
    """The tier of a family for `score` in millionths (-1,000,000 bear to 1,000,000 bull), coming from `tier`.

    Tiers count 1, 2, ... on the bull side and -1, -2, ... on the bear side; 0 is cash. A tier is entered at
    its score and left only when the score falls `hysteresis` below it.
    """
    rule = rules.families[family]
    best = 0
    for k in range(rule.first_tier, rule.last_tier):
        level = rules.tiers[k].level
        strength = score if level > 0 else -score
        threshold = rules.tiers[k].score
        if tier * level > 0 and abs(level) <= abs(tier):
            threshold -= rule.hysteresis
        if strength >= threshold and abs(level) > abs(best):
            best = level
    return best


@routine
def move_weight(state, sleeve, instrument, weight, strategy):
    """Give the sleeve's weight to `instrument`; take it from where it was."""
    if sleeve.weight != 0:
        left = state.positions[sleeve.instrument]
        left.weight -= sleeve.weight
        left.reweighted = 1
        left.strategy = strategy
    sleeve.instrument = instrument
    sleeve.weight = weight
    if weight != 0:
        joined = state.positions[instrument]
        joined.weight += weight
        joined.reweighted = 1
        joined.strategy = strategy
    state.account[0].targets += 1


@kernel
def apply_signal(state, rules, s, value, verdict):
    """A new signal of sleeve `s`: count it and move the sleeve's target where it changes."""
    account = state.account[0]
    if verdict == Verdict.ABSENT or verdict == Verdict.PENDING:
        return
    if verdict != Verdict.NEUTRAL:
        account.signals += 1
        if verdict == Verdict.PASSED:
            account.signals_passed += 1
        elif verdict == Verdict.REFUSED_NOISE:
            account.signals_noise += 1
        elif verdict == Verdict.REFUSED_COOLDOWN:
            account.signals_cooldown += 1
        else:
            account.signals_invalid += 1
    sleeve = state.sleeves[s]
    if value == sleeve.value:
        return
    sleeve.value = value
    rule = rules.sleeves[s]
    if rule.family >= 0:
        tier = next_tier(rules, rule.family, sleeve.tier, value)
        if tier == sleeve.tier:
            return
        sleeve.tier = tier
        weight = 0
        instrument = sleeve.instrument
        for k in range(rules.families[rule.family].first_tier, rules.families[rule.family].last_tier):
            if rules.tiers[k].level == tier:
                instrument = rules.tiers[k].instrument
                weight = rule.share * rules.tiers[k].weight // MICRO
    else:
        instrument = rule.signal
        held = sleeve.weight * MICRO // rule.share
        wanted = max(value, 0)
        if wanted != 0 and held != 0 and abs(wanted - held) < state.limits[0].min_weight_change:
            return
        weight = rule.share * wanted // MICRO
    if instrument != sleeve.instrument or weight != sleeve.weight:
        move_weight(state, sleeve, instrument, weight, rule.strategy)


@kernel
def outvoted(state, rules, i):
    """Strategies disagree within a family: the side with the larger sum of weights stands, and on a tie
    neither does.
    """
    me = rules.instruments[i]
    ours = 0
    theirs = 0
    for m in range(me.first_member, me.last_member):
        other = rules.members[m]
        if rules.instruments[other].side == me.side:
            ours += state.positions[other].weight
        else:
            theirs += state.positions[other].weight
    return theirs > 0 and theirs >= ours


@kernel
def target(state, rules, i, idle):
    """The absolute target of instrument `i` in lots. `idle`: it has no live order, so its goal may be set
    anew.
    """
    position = state.positions[i]
    if position.weight <= 0 or position.mark <= 0 or outvoted(state, rules, i):
        return 0
    if idle and (position.reweighted == 1 or position.quantity == 0):
        weight = position.weight
        if state.breakers[Breaker.DRAWDOWN].tripped == 1:
            weight = weight * state.limits[0].drawdown_factor // MICRO
        position.goal = state.account[0].equity // MICRO * weight // position.mark
        position.reweighted = 0
    return position.goal
