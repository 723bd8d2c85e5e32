"""Allocation: tiers, steps of weight, disagreeing strategies, and the target in lots."""

from decimal import Decimal
from typing import Any

import pytest
from account_fixtures import (
    BASE,
    BULL,
    BULL3,
    MICRO,
    PSQ,
    QQQ,
    SQQQ,
    TQQQ,
    make_config,
    make_sessions,
    money,
    strategy,
)

from operators.account_rules import account_rules, initial_state
from operators.account_state import Rules, State
from operators.allocation import apply_signal, next_tier, outvoted, target
from schemas.codes import Breaker, Verdict

SPY = 4  # an instrument of no family
PASSED, NEUTRAL = int(Verdict.PASSED), int(Verdict.NEUTRAL)


def setup(**changes: Any) -> tuple[State, Rules]:
    config = make_config(**changes)
    rules = account_rules(config, make_sessions(30), paper=True)
    return initial_state(config, rules), rules


def weights(state: State) -> list[int]:
    return [int(p.weight) for p in state.positions]


def signal(state: State, rules: Rules, value: int, sleeve: int = 0) -> None:
    apply_signal(state, rules, sleeve, value, PASSED if value else NEUTRAL)


# coming from, score, tier; entered at 0.60 and 0.75 of probability, left 0.05 below
TIERS = [
    (0, 0, 0),
    (0, 199_999, 0),
    (0, 200_000, 1),
    (0, 499_999, 1),
    (0, 500_000, 2),
    (0, 1_000_000, 2),
    (0, -199_999, 0),
    (0, -200_000, -1),
    (0, -499_999, -1),
    (0, -500_000, -2),
    (0, -1_000_000, -2),
    # from the lower tier
    (1, 199_999, 1),
    (1, 100_000, 1),
    (1, 99_999, 0),
    (1, 400_000, 1),
    (1, 499_999, 1),
    (1, 500_000, 2),
    (-1, -100_000, -1),
    (-1, -99_999, 0),
    (-1, -499_999, -1),
    (-1, -500_000, -2),
    # from the upper tier
    (2, 400_000, 2),
    (2, 399_999, 1),
    (2, 200_000, 1),
    (2, 100_000, 1),
    (2, 99_999, 0),
    (-2, -400_000, -2),
    (-2, -399_999, -1),
    (-2, -100_000, -1),
    (-2, -99_999, 0),
    # from one side to the other, where no hysteresis helps
    (2, -199_999, 0),
    (2, -200_000, -1),
    (2, -500_000, -2),
    (1, -499_999, -1),
    (1, -500_000, -2),
    (-2, 199_999, 0),
    (-2, 200_000, 1),
    (-1, 499_999, 1),
    (-1, 500_000, 2),
]


@pytest.mark.parametrize(("tier", "score", "expected"), TIERS)
def test_tier_of_a_score(tier: int, score: int, expected: int) -> None:
    _, rules = setup()
    assert next_tier(rules, 0, tier, score) == expected


@pytest.mark.parametrize(
    ("tier", "score", "expected"),
    [(0, -MICRO, 0), (1, -MICRO, 0), (0, 200_000, 1), (0, MICRO, 1), (1, 100_000, 1), (1, 99_999, 0)],
)
def test_a_family_may_lack_tiers(tier: int, score: int, expected: int) -> None:
    family = {**BASE["families"][0], "bear": [], "bull": BASE["families"][0]["bull"][:1]}
    _, rules = setup(families=[family])
    assert next_tier(rules, 0, tier, score) == expected


def test_a_family_may_lack_a_bull_side() -> None:
    _, rules = setup(families=[{**BASE["families"][0], "bull": []}])
    assert next_tier(rules, 0, 0, MICRO) == 0
    assert next_tier(rules, 0, 0, -200_000) == -1


def test_without_hysteresis_a_tier_is_left_where_it_was_entered() -> None:
    _, rules = setup(families=[{**BASE["families"][0], "hysteresis": 0}])
    assert [next_tier(rules, 0, 1, score) for score in (200_000, 199_999)] == [1, 0]


def test_each_tier_gives_its_weight_to_its_instrument_alone() -> None:
    state, rules = setup()
    half = 500_000
    for value, expected in [
        (BULL, [half, 0, 0, 0]),
        (BULL3, [0, half, 0, 0]),
        (0, [0, 0, 0, 0]),
        (-BULL, [0, 0, half, 0]),
        (-BULL3, [0, 0, 0, half]),
        (BULL3, [0, half, 0, 0]),
        (-BULL3, [0, 0, 0, half]),
    ]:
        signal(state, rules, value)
        assert weights(state) == expected


def test_the_weight_is_the_share_of_capital_times_the_tiers() -> None:
    state, rules = setup(strategies=[strategy("first", "0.3")])
    signal(state, rules, BULL)
    assert weights(state) == [150_000, 0, 0, 0]


def test_a_constant_signal_makes_one_target_change() -> None:
    state, rules = setup()
    for _ in range(50):
        signal(state, rules, BULL)
    assert state.account[0].targets == 1
    for value in (BULL + 1, BULL - 99_999, BULL + 150_000, 100_000):  # within the tier and its hysteresis
        signal(state, rules, value)
    assert state.account[0].targets == 1
    signal(state, rules, 99_999)
    assert state.account[0].targets == 2
    assert weights(state) == [0, 0, 0, 0]


@pytest.mark.parametrize("verdict", [Verdict.ABSENT, Verdict.PENDING])
def test_no_signal_leaves_the_target(verdict: Verdict) -> None:
    state, rules = setup()
    signal(state, rules, BULL)
    apply_signal(state, rules, 0, 0, int(verdict))
    assert weights(state) == [500_000, 0, 0, 0]
    assert state.account[0].signals == 1


@pytest.mark.parametrize(
    ("verdict", "counter"),
    [
        (Verdict.REFUSED_NOISE, "signals_noise"),
        (Verdict.REFUSED_COOLDOWN, "signals_cooldown"),
        (Verdict.INVALID, "signals_invalid"),
    ],
)
def test_a_refused_signal_is_counted_and_ends_the_target(verdict: Verdict, counter: str) -> None:
    state, rules = setup()
    signal(state, rules, BULL)
    apply_signal(state, rules, 0, 0, int(verdict))
    account = state.account[0]
    assert weights(state) == [0, 0, 0, 0]
    assert (account.signals, account.signals_passed, account[counter]) == (2, 1, 1)


# --- a strategy without a family: its signal is its weight


def direct(share: "int | str" = 1) -> tuple[State, Rules]:
    return setup(
        instruments=["QQQ", "TQQQ", "PSQ", "SQQQ", "SPY"],
        strategies=[strategy("first", share, "SPY", family=None)],
    )


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (500_000, 599_999, 500_000),
        (500_000, 600_000, 600_000),
        (500_000, 600_001, 600_001),
        (500_000, 400_001, 500_000),
        (500_000, 400_000, 400_000),
        (500_000, 399_999, 399_999),
        (500_000, 0, 0),
        (50_000, 0, 0),
        (0, 1, 1),  # from nothing and to nothing every step counts
        (500_000, -1, 0),
        (500_000, -MICRO, 0),
        (-MICRO, -1, 0),
    ],
)
def test_a_weight_moves_in_steps(first: int, second: int, expected: int) -> None:
    state, rules = direct()
    signal(state, rules, first)
    signal(state, rules, second)
    assert weights(state) == [0, 0, 0, 0, expected]


def test_a_slow_drift_moves_the_weight_once_it_is_a_step() -> None:
    state, rules = direct()
    for value in range(500_000, 650_001, 10_000):
        signal(state, rules, value)
    assert weights(state)[SPY] == 600_000
    assert state.account[0].targets == 2


def test_a_weight_is_a_part_of_the_strategys_share() -> None:
    state, rules = direct("0.25")
    signal(state, rules, 500_000)
    assert weights(state) == [0, 0, 0, 0, 125_000]


def test_a_share_is_divided_over_what_a_strategy_reads() -> None:
    both = {**strategy("first", 1, family=None), "signals": ["QQQ", "PSQ"]}
    state, rules = setup(strategies=[both])
    signal(state, rules, MICRO, sleeve=0)
    signal(state, rules, MICRO, sleeve=1)
    assert weights(state) == [500_000, 0, 500_000, 0]


# --- two strategies on one family


def two(first: str, second: str) -> tuple[State, Rules]:
    return setup(strategies=[strategy("first", first), strategy("second", second)])


@pytest.mark.parametrize(
    ("first", "second", "standing"),
    [
        ("0.6", "0.4", {QQQ}),
        ("0.4", "0.6", {SQQQ}),
        ("0.5", "0.5", set()),
        ("0.500001", "0.499999", {QQQ}),
        ("0.499999", "0.500001", {SQQQ}),
    ],
)
def test_the_larger_side_of_a_family_stands_and_on_a_tie_neither(
    first: str, second: str, standing: set[int]
) -> None:
    family = BASE["families"][0]
    whole = {
        **family,
        "bull": [{**t, "weight": 1} for t in family["bull"]],
        "bear": [{**t, "weight": 1} for t in family["bear"]],
    }
    state, rules = setup(strategies=[strategy("first", first), strategy("second", second)], families=[whole])
    for position in state.positions:
        position.mark = money(100)
    signal(state, rules, BULL, sleeve=0)
    signal(state, rules, -BULL3, sleeve=1)
    heard = {i for i in (QQQ, SQQQ) if not outvoted(state, rules, i)}
    wanted = {i for i in range(4) if target(state, rules, i, True) > 0}
    assert heard == wanted == standing


def test_both_instruments_of_a_side_add_up_against_the_other() -> None:
    state, rules = setup(strategies=[strategy("a", "0.3"), strategy("b", "0.3"), strategy("c", "0.4")])
    signal(state, rules, BULL, sleeve=0)
    signal(state, rules, BULL3, sleeve=1)
    signal(state, rules, -BULL, sleeve=2)
    assert [bool(outvoted(state, rules, i)) for i in (QQQ, TQQQ, PSQ, SQQQ)] == [False, False, True, True]


def test_strategies_that_agree_add_up() -> None:
    state, rules = two("0.6", "0.4")
    signal(state, rules, BULL, sleeve=0)
    signal(state, rules, BULL, sleeve=1)
    assert weights(state) == [500_000, 0, 0, 0]
    signal(state, rules, 0, sleeve=0)
    assert weights(state) == [200_000, 0, 0, 0]


def test_nobody_is_outvoted_by_nobody() -> None:
    state, rules = two("0.6", "0.4")
    assert not any(outvoted(state, rules, i) for i in range(4))


# --- the target in lots


def wanting(weight: int = 500_000, price: int = 100) -> tuple[State, Rules]:
    state, rules = setup()
    signal(state, rules, BULL)
    state.positions[QQQ].weight = weight
    state.positions[QQQ].mark = money(price)
    return state, rules


@pytest.mark.parametrize(("price", "lots"), [(100, 50), (99, 50), (101, 49), (5000, 1), (5001, 0)])
def test_a_target_is_whole_lots_of_equity(price: int, lots: int) -> None:
    state, rules = wanting(price=price)
    assert target(state, rules, QQQ, True) == lots


def test_without_a_price_there_is_no_target() -> None:
    state, rules = wanting(price=0)
    assert target(state, rules, QQQ, True) == 0


def test_a_held_target_ignores_the_price() -> None:
    state, rules = wanting()
    assert target(state, rules, QQQ, True) == 50
    state.positions[QQQ].quantity = 50
    for price in (50, 200, 1000):
        state.positions[QQQ].mark = money(price)
        state.account[0].equity = money(10_000) + 50 * money(price - 100)
        assert target(state, rules, QQQ, True) == 50


def test_while_nothing_is_held_the_target_follows_the_price() -> None:
    state, rules = wanting()
    assert target(state, rules, QQQ, True) == 50
    state.positions[QQQ].mark = money(200)
    assert target(state, rules, QQQ, True) == 25


def test_a_live_order_keeps_its_target() -> None:
    state, rules = wanting()
    assert target(state, rules, QQQ, True) == 50
    state.positions[QQQ].mark = money(200)
    assert target(state, rules, QQQ, False) == 50


def test_a_new_weight_sets_the_target_anew_once_no_order_is_live() -> None:
    state, rules = direct()
    position = state.positions[SPY]
    position.mark = money(100)
    signal(state, rules, 500_000)
    assert target(state, rules, SPY, True) == 50
    position.quantity = 50
    signal(state, rules, 400_000)
    assert target(state, rules, SPY, False) == 50
    assert target(state, rules, SPY, True) == 40
    position.mark = money(50)
    assert target(state, rules, SPY, True) == 40


@pytest.mark.parametrize(("factor", "lots"), [("0.5", 25), ("0.25", 12), ("0.999999", 49), ("0", 0)])
def test_a_target_is_smaller_while_the_drawdown_breaker_is_tripped(factor: str, lots: int) -> None:
    state, rules = setup(breakers__drawdown__factor=Decimal(factor))
    signal(state, rules, BULL)
    state.positions[QQQ].mark = money(100)
    state.breakers[Breaker.DRAWDOWN].tripped = 1
    assert target(state, rules, QQQ, True) == lots
    state.breakers[Breaker.DRAWDOWN].tripped = 0
    assert target(state, rules, QQQ, True) == 50


def test_what_is_held_follows_the_drawdown_breaker_only_when_it_is_weighed_again() -> None:
    state, rules = wanting()
    assert target(state, rules, QQQ, True) == 50
    position = state.positions[QQQ]
    position.quantity = 50
    state.breakers[Breaker.DRAWDOWN].tripped = 1
    assert target(state, rules, QQQ, True) == 50
    position.reweighted = 1
    assert target(state, rules, QQQ, False) == 50  # not while an order is live
    assert target(state, rules, QQQ, True) == 25


def test_a_position_belongs_to_the_strategy_that_changed_its_weight_last() -> None:
    state, rules = two("0.6", "0.4")
    signal(state, rules, BULL, sleeve=1)
    assert state.positions[QQQ].strategy == 1
    signal(state, rules, BULL, sleeve=0)
    assert state.positions[QQQ].strategy == 0
    signal(state, rules, -BULL, sleeve=1)
    assert [int(state.positions[i].strategy) for i in (QQQ, PSQ)] == [1, 1]


def test_shares_must_not_add_up_to_more_than_one() -> None:
    with pytest.raises(ValueError, match="adds up to"):
        make_config(strategies=[strategy("a", "0.6"), strategy("b", str(Decimal("0.400001")))])


def test_an_unread_side_has_no_target() -> None:
    state, rules = wanting()
    assert target(state, rules, PSQ, True) == 0
