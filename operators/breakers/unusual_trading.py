"""Unusual trading: what a strategy does beside what it usually does.

Three things are counted over a block of `BLOCK` bars of the instruments a strategy reads: openings, flips
(openings in another instrument than the one before) and costs, in thousand-millionths of its capital. At the
end of a block the profile learns it: the mean, `usual`, and the mean absolute deviation, `spread`, of all
blocks at first, later mostly of the last ones. A block in progress is judged by

    normal = usual + SPREADS * spread + FLOOR openings

| counted, times normal | what happens |
|---|---|
| above `slow_at` | its openings keep the distance of its normal pace, longer by as much as it exceeds |
| above `stop_at` | it opens nothing until the block ends |

So no number has to be chosen for a strategy. What keeps it from oscillating:

* Every block begins afresh, judged by a profile that moves little from block to block.
* The profile learns at most `WINSOR` times normal of a block: one burst does not become normal, and a
  strategy that has changed its habit is believed after a few blocks, of which each lets about twice as much
  through.
* Being slowed teaches nothing. Its orders are counted while they show what a strategy wants; once it is
  slowed, its wishes are, each once, at what its openings have cost so far.
* While something else lets it open nothing, neither bars nor wishes count.

The first block is learned without judgement.
"""

from operators.account_state import MEASURES, strategy_breaker
from operators.breakers.switch import part_of, release, trip
from operators.compiled import kernel, routine
from schemas.codes import Breaker, HaltLevel
from schemas.records import MICRO

OPENINGS, FLIPS, COSTS = range(MEASURES)
NONE = -1
BLOCK = 480
EXPERIENCE = 8  # blocks that the profile remembers
SPREADS = 4
FLOOR = 8  # openings; also their costs
WINSOR = 2
THOUSAND = 1000
MOST_COST = 10**15  # of one execution, millionths
MOST_COSTS = 10**10  # of a block: ten times the capital


# --- what is counted


@kernel
def bar_passed(state, rules, out, s):
    """An instrument that strategy `s` reads has a new bar."""
    if is_stopped_otherwise(state, s):
        return
    strategy = state.strategies[s]
    strategy.bars += 1
    if strategy.bars >= BLOCK:
        end_block(state, out, s)
    else:
        judge_block(state, out, s)


@kernel
def is_stopped_otherwise(state, s):
    """May the strategy open nothing, whatever it does?"""
    return (
        state.account[0].level != HaltLevel.ACTIVE
        or state.breakers[Breaker.DAILY_LOSS].tripped == 1
        or state.breakers[Breaker.RAPID_LOSS].tripped == 1
        or state.breakers[strategy_breaker(Breaker.CONSECUTIVE_LOSSES, s)].tripped == 1
        or state.breakers[strategy_breaker(Breaker.STRATEGY_LOSS, s)].tripped == 1
    )


@kernel
def opening_wanted(state, rules, out, s, i):
    """A signal has raised what strategy `s` wants of instrument `i`. To be called once a wish: one that has
    to wait is not another one.
    """
    if s < 0 or state.strategies[s].spacing_ns == 0 or is_stopped_otherwise(state, s):
        return  # until the strategy is slowed, its orders are counted
    strategy = state.strategies[s]
    count_costs(strategy, strategy.count[COSTS] // max(strategy.count[OPENINGS], 1))
    count_opening(strategy, i)
    judge_block(state, out, s)


@routine
def record_opening(state, rules, out, s, i):
    """An opening order of strategy `s` in instrument `i` leaves."""
    if s < 0:
        return
    strategy = state.strategies[s]
    if strategy.spacing_ns == 0:
        count_opening(strategy, i)
    excess = excess_of(strategy, state.limits[0].slow_at)
    if excess > 0:
        strategy.spacing_ns = state.account[0].time_ns + distance(state, rules, s, excess)
    judge_block(state, out, s)


@kernel
def count_opening(strategy, i):
    strategy.count[OPENINGS] += 1
    if strategy.facing != NONE and strategy.facing != i:
        strategy.count[FLIPS] += 1
    strategy.facing = i


@kernel
def costs_paid(state, rules, s, cost):
    """An execution of strategy `s` cost it `cost` millionths in fees, spread and slippage; a negative cost is
    one that came back.
    """
    if s < 0 or state.strategies[s].spacing_ns != 0:
        return  # once the strategy is slowed, its wishes are counted, at what its openings have cost so far
    strategy = state.strategies[s]
    capital = part_of(state.account[0].equity, rules.strategies[s].share)
    paid = min(max(cost, -MOST_COST), MOST_COST) * THOUSAND // max(capital // MICRO, 1)
    count_costs(strategy, paid)


@kernel
def count_costs(strategy, paid):
    strategy.count[COSTS] = min(max(strategy.count[COSTS] + paid, 0), MOST_COSTS)


# --- what is normal


@kernel
def normal(strategy, measure):
    """What a block of `measure` may come to, in thousandths."""
    most = strategy.usual[measure] + SPREADS * strategy.spread[measure]
    if measure != COSTS:
        return most + FLOOR * THOUSAND
    # The floor of the costs is what so many openings cost, by the profile and the block in progress.
    blocks = min(strategy.blocks, EXPERIENCE)
    paid = blocks * strategy.usual[COSTS] + THOUSAND * strategy.count[COSTS]
    opened = blocks * strategy.usual[OPENINGS] + THOUSAND * strategy.count[OPENINGS]
    return most + FLOOR * THOUSAND * paid // max(opened, THOUSAND)


@kernel
def learn(strategy, measure):
    """The block that ends becomes part of the profile."""
    seen = strategy.count[measure] * THOUSAND
    if strategy.blocks > 0:
        seen = min(seen, WINSOR * normal(strategy, measure))
    weight = min(strategy.blocks + 1, EXPERIENCE)
    deviation = abs(seen - strategy.usual[measure])
    strategy.usual[measure] += (seen - strategy.usual[measure]) // weight
    strategy.spread[measure] += (deviation - strategy.spread[measure]) // weight


@routine
def end_block(state, out, s):
    strategy = state.strategies[s]
    learn(strategy, COSTS)  # first: what costs are normal depends on the openings that were
    learn(strategy, FLIPS)
    learn(strategy, OPENINGS)
    for measure in range(MEASURES):
        strategy.count[measure] = 0
    strategy.blocks += 1
    strategy.bars = 0
    strategy.spacing_ns = 0
    place = strategy_breaker(Breaker.UNUSUAL_TRADING, s)
    release(state, out, place, Breaker.UNUSUAL_TRADING, NONE, s)


# --- judgement


@routine
def judge_block(state, out, s):
    """Trip where the block in progress is above `stop_at` times normal."""
    strategy = state.strategies[s]
    if strategy.blocks == 0:
        return
    for measure in range(MEASURES):
        count = strategy.count[measure]
        if count * THOUSAND <= strategy.usual[measure]:
            continue  # normal is never less
        limit = part_of(normal(strategy, measure), state.limits[0].stop_at)
        if count * THOUSAND > limit:
            place = strategy_breaker(Breaker.UNUSUAL_TRADING, s)
            trip(state, out, place, Breaker.UNUSUAL_TRADING, NONE, s, count, limit // THOUSAND, 0)


@kernel
def excess_of(strategy, share):
    """The largest count above `share` of its normal, as thousandths of that; 0 where none is above."""
    excess = 0
    if strategy.blocks == 0:
        return excess
    for measure in range(MEASURES):
        count = strategy.count[measure]
        limit = max(part_of(normal(strategy, measure), share), 1)
        if count * THOUSAND > limit:
            excess = max(excess, count * THOUSAND * THOUSAND // limit)
    return excess


@kernel
def distance(state, rules, s, excess):
    """Nanoseconds from one opening to the next, at most a block, while the strategy exceeds by `excess`
    thousandths: the pace of its normal, slower by as much.
    """
    pace = BLOCK * THOUSAND * THOUSAND // normal(state.strategies[s], OPENINGS)  # thousandths of a bar
    bars = min(pace * excess // THOUSAND, BLOCK * THOUSAND)
    reads = 0
    for k in range(len(rules.sleeves)):
        if rules.sleeves[k].strategy == s:
            reads += 1
    return state.limits[0].interval_ns // THOUSAND * bars // max(reads, 1)


@kernel
def release_by_operator(state, out, s):
    """What the strategy does is accepted: the block ends here, and is learned."""
    if state.breakers[strategy_breaker(Breaker.UNUSUAL_TRADING, s)].tripped == 0:
        return False
    end_block(state, out, s)
    return True
