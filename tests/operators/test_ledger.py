"""The ledger beside a naive recomputation in Python's own integers and fractions."""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from account_fixtures import (
    COMPILED,
    MICRO,
    make_config,
    make_output,
    make_sessions,
    money,
    strategy,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import account_state
from operators.account_rules import account_rules, initial_state
from operators.account_state import State
from operators.breakers.unusual_trading import COSTS
from operators.ledger import apply_fill, book_of, fee_of
from schemas.codes import Side

START = 900_000_000 * MICRO  # the largest account
TWO = make_config(account__cash=900_000_000, strategies=[strategy("a", "0.5"), strategy("b", "0.5")])
RULES = account_rules(TWO, make_sessions(30), paper=False)
OUT = make_output(4, 1)


@dataclass(frozen=True)
class Fill:
    instrument: int
    side: Side
    quantity: int
    price: int
    reference_price: int
    fee: int
    strategy: int = 0


def book(state: State, fill: Fill) -> None:
    """Apply one fill; double entry must hold after it, by account and by holding."""
    apply_fill(
        state,
        RULES,
        OUT,
        fill.instrument,
        fill.strategy,
        int(fill.side),
        fill.quantity,
        fill.price,
        fill.reference_price,
        fill.fee,
    )
    row = state.account[0]
    books = sum(int(p.book) for p in state.positions)
    assert int(row.cash) + books - int(row.realised) + int(row.fees) == START
    holdings = state.holdings
    assert sum(int(h.realised) for h in holdings) == int(row.realised)
    assert sum(int(h.fees) for h in holdings) == int(row.fees)
    for i, position in enumerate(state.positions):
        mine = [h for h, rule in zip(holdings, RULES.holdings, strict=True) if rule.instrument == i]
        assert sum(int(h.quantity) for h in mine) == int(position.quantity)
        assert sum(int(h.book) for h in mine) == int(position.book)


def booked(fills: list[Fill], instruments: int = 3) -> tuple[dict[str, int], list[dict[str, int]]]:
    """Account and positions after the fills, as plain numbers."""
    state = initial_state(TWO, RULES)
    for fill in fills:
        book(state, fill)
    return (
        {name: int(state.account[0][name]) for name in ("cash", "realised", "fees", "costs")},
        [{"quantity": int(p.quantity), "book": int(p.book)} for p in state.positions[:instruments]],
    )


def held(state: State, instrument: int) -> dict[int, tuple[int, int]]:
    """(quantity, book) by strategy, -1 for none."""
    pairs = zip(state.holdings, RULES.holdings, strict=True)
    return {
        int(rule.strategy): (int(h.quantity), int(h.book))
        for h, rule in pairs
        if rule.instrument == instrument and (h.quantity or h.book)
    }


def test_a_buy_moves_cash_into_the_book() -> None:
    account, positions = booked([Fill(0, Side.BUY, 50, money(100), money("99.5"), money("0.5"))])
    assert positions[0] == {"quantity": 50, "book": money(5000)}
    assert account == {
        "cash": START - money("5000.5"),
        "realised": 0,
        "fees": money("0.5"),
        "costs": money(25),
    }


def test_a_sale_realises_the_difference_to_the_average_cost() -> None:
    account, positions = booked(
        [
            Fill(0, Side.BUY, 10, money(100), money(100), 0),
            Fill(0, Side.BUY, 30, money(104), money(104), 0),
            Fill(0, Side.SELL, 20, money(110), money(111), money(1)),
        ]
    )
    # average cost 103
    assert positions[0] == {"quantity": 20, "book": money(2060)}
    assert account["realised"] == money(140)
    assert account["costs"] == money(20)
    assert account["cash"] == START - money(1000) - money(3120) + money(2200) - money(1)


def test_a_loss_is_negative() -> None:
    account, _ = booked(
        [Fill(1, Side.BUY, 3, money(10), money(10), 0), Fill(1, Side.SELL, 3, money(4), money(4), 0)]
    )
    assert account["realised"] == -money(18)
    assert account["cash"] == START - money(18)


@pytest.mark.parametrize(
    ("book", "held", "sold", "leaves"),
    [
        (10, 3, 1, 3),
        (10, 3, 2, 6),
        (10, 3, 3, 10),
        (11, 3, 2, 7),
        (2, 3, 1, 0),
        (0, 5, 4, 0),
        (999_999_999_999, 1000, 999, 998_999_999_999),
    ],
)
def test_the_cost_of_a_part_is_rounded_down(book: int, held: int, sold: int, leaves: int) -> None:
    assert book_of(held, book, sold) == leaves
    assert book_of(-held, -book, sold) == -leaves


def test_what_is_sold_is_taken_from_the_strategy_that_sells_first() -> None:
    state = initial_state(TWO, RULES)
    book(state, Fill(0, Side.BUY, 10, money(100), money(100), 0, strategy=0))
    book(state, Fill(0, Side.BUY, 10, money(110), money(110), 0, strategy=1))
    assert held(state, 0) == {0: (10, money(1000)), 1: (10, money(1100))}
    book(state, Fill(0, Side.SELL, 4, money(120), money(120), 0, strategy=1))
    assert held(state, 0) == {0: (10, money(1000)), 1: (6, money(660))}
    book(state, Fill(0, Side.SELL, 12, money(120), money(120), 9, strategy=1))
    assert held(state, 0) == {0: (4, money(400))}
    pairs = zip(state.holdings[:3], RULES.holdings[:3], strict=True)
    by_strategy = {int(rule.strategy): int(h.fees) for h, rule in pairs}
    assert by_strategy == {0: 5, 1: 4, -1: 0}  # 6 of 12 lots each, the fee's odd millionth to the last


def test_what_the_venue_sells_beyond_the_position_is_a_debt_of_no_strategy() -> None:
    state = initial_state(TWO, RULES)
    book(state, Fill(0, Side.BUY, 10, money(100), money(100), 0))
    book(state, Fill(0, Side.SELL, 15, money(110), money(110), 0))
    assert held(state, 0) == {-1: (-5, -money(550))}
    assert int(state.account[0].realised) == money(100)
    book(state, Fill(0, Side.BUY, 7, money(120), money(120), 0))
    assert held(state, 0) == {0: (2, money(240))}
    assert int(state.account[0].realised) == money(50)


def test_a_bust_takes_back_what_its_fill_did() -> None:
    state = initial_state(TWO, RULES)
    before = state.words.copy()
    book(state, Fill(0, Side.BUY, 10, money(100), 0, money(1)))
    book(state, Fill(0, Side.SELL, 10, money(100), 0, -money(1)))
    state.strategies.losses = 0
    assert (state.words == before).all()


def test_a_round_trip_counts_when_the_strategy_holds_nothing_more() -> None:
    state = initial_state(TWO, RULES)
    book(state, Fill(0, Side.BUY, 10, money(100), 0, money(1)))
    book(state, Fill(0, Side.SELL, 9, money(90), 0, money(1)))
    assert int(state.strategies[0].losses) == 0
    book(state, Fill(0, Side.SELL, 1, money(90), 0, 0))
    assert int(state.strategies[0].losses) == 1
    assert int(state.strategies[1].losses) == 0


def test_a_full_close_leaves_nothing_in_the_book() -> None:
    fills = [Fill(0, Side.BUY, 3, 33_333_333, 1, 1), Fill(0, Side.BUY, 4, 14_285_714, 1, 1)]
    fills += [Fill(0, Side.SELL, 2, 7, 7, 1), Fill(0, Side.SELL, 1, 7, 7, 1), Fill(0, Side.SELL, 4, 7, 7, 1)]
    _, positions = booked(fills)
    assert positions[0] == {"quantity": 0, "book": 0}


@st.composite
def fill_sequences(draw: st.DrawFn) -> list[Fill]:
    """Buys and sales over three instruments, never more sold than held."""
    held = [0, 0, 0]
    fills = []
    steps = st.tuples(
        st.integers(0, 2),
        st.booleans(),
        st.integers(1, 1_000_000),
        st.integers(1, 10_000 * MICRO),
        st.integers(-5, 5),
        st.integers(0, 100 * MICRO),
    )
    for i, buys, size, price, off, fee in draw(st.lists(steps, max_size=40)):
        quantity = size if buys else min(size, held[i])
        if quantity == 0:
            continue
        held[i] += quantity if buys else -quantity
        fills.append(Fill(i, Side.BUY if buys else Side.SELL, quantity, price, max(price + off, 1), fee))
    fills += [
        Fill(i, Side.SELL, quantity, 7, 7, 0)
        for i, quantity in enumerate(held)
        if quantity and draw(st.booleans())
    ]
    return fills


@settings(deadline=None, max_examples=150 if COMPILED else 40)
@given(fill_sequences())
def test_any_sequence_of_fills_is_booked_exactly(fills: list[Fill]) -> None:
    account, positions = booked(fills)
    cash, fees, costs = START, 0, 0
    quantity, sales = [0, 0, 0], [0, 0, 0]
    cost = [Fraction(0)] * 3  # at the exact average
    for fill in fills:
        i, value = fill.instrument, fill.quantity * fill.price
        fees += fill.fee
        if fill.side == Side.BUY:
            cash -= value + fill.fee
            costs += fill.quantity * (fill.price - fill.reference_price)
            cost[i] += value
            quantity[i] += fill.quantity
        else:
            cash += value - fill.fee
            costs += fill.quantity * (fill.reference_price - fill.price)
            cost[i] -= cost[i] * Fraction(fill.quantity, quantity[i])
            quantity[i] -= fill.quantity
            sales[i] += 1
    assert (account["cash"], account["fees"], account["costs"]) == (cash, fees, costs)
    for i, position in enumerate(positions):
        assert position["quantity"] == quantity[i]
        if quantity[i] == 0:
            assert position["book"] == 0
        else:
            # never below the exact cost, and above it by less than a millionth a sale
            assert 0 <= position["book"] - cost[i] <= sales[i]
    assert account["realised"] == cash + sum(p["book"] for p in positions) + fees - START


# --- several strategies, and a venue that contradicts itself


@pytest.mark.parametrize(("fee", "quantity"), [(0, 3), (1, 3), (100, 7), (-100, 7), (10**18 - 1, 10**9)])
def test_parts_of_a_fee_add_up_to_all_of_it(fee: int, quantity: int) -> None:
    cuts = sorted({0, 1, quantity // 3, quantity // 2, quantity - 1, quantity})
    shares = [fee_of(fee, b, quantity) - fee_of(fee, a, quantity) for a, b in pairwise(cuts)]
    assert sum(shares) == fee
    for share, (a, b) in zip(shares, pairwise(cuts), strict=True):
        assert abs(share - Fraction(fee * (b - a), quantity)) <= 1


def test_an_execution_that_nobody_asked_for_is_of_no_strategy() -> None:
    state = initial_state(TWO, RULES)
    book(state, Fill(0, Side.BUY, 10, money(100), 0, 3, strategy=-1))
    assert held(state, 0) == {-1: (10, money(1000))}
    book(state, Fill(0, Side.SELL, 4, money(110), 0, 0, strategy=1))
    assert held(state, 0) == {-1: (6, money(600))}  # strategy 1 has none of its own
    assert [int(s.losses) for s in state.strategies] == [0, 0]


def test_a_debt_of_no_strategy_is_paid_before_anybody_holds_more() -> None:
    state = initial_state(TWO, RULES)
    book(state, Fill(0, Side.SELL, 5, money(100), 0, 0, strategy=1))
    assert held(state, 0) == {-1: (-5, -money(500))}
    book(state, Fill(0, Side.BUY, 3, money(90), 0, 0, strategy=1))
    assert held(state, 0) == {-1: (-2, -money(200))}
    assert int(state.account[0].realised) == money(30)
    book(state, Fill(0, Side.BUY, 3, money(90), 0, 0, strategy=1))
    assert held(state, 0) == {1: (1, money(90))}


def test_only_what_a_strategy_trades_counts_as_its_costs() -> None:
    state = initial_state(TWO, RULES)
    book(state, Fill(0, Side.BUY, 10, money(101), money(100), money(1), strategy=1))
    book(state, Fill(0, Side.BUY, 10, money(101), money(100), money(1), strategy=-1))
    book(state, Fill(0, Side.BUY, 10, money(101), 0, money(1), strategy=0))  # the venue knows no reference
    assert int(state.account[0].costs) == money(20)
    assert [int(s["count"][COSTS]) > 0 for s in state.strategies] == [False, True]


ANY_FILLS = st.lists(
    st.builds(
        Fill,
        st.integers(0, 1),
        st.sampled_from(Side),
        st.integers(1, 100),
        st.integers(1, 1000 * MICRO),
        st.just(0),
        st.integers(-MICRO, MICRO),
        st.integers(-1, 1),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=150 if COMPILED else 60)
@given(ANY_FILLS)
def test_any_fills_of_anybody_are_booked_exactly(fills: list[Fill]) -> None:
    """A buy pays debts first and is then its strategy's; a sale takes from its strategy, then from the
    others in order, and what is left is a debt of nobody.
    """
    state = initial_state(TWO, RULES)
    cash = START
    lots = {(i, s): 0 for i in range(2) for s in (0, 1, -1)}
    for fill in fills:
        book(state, fill)
        i, own, left = fill.instrument, (fill.instrument, fill.strategy), fill.quantity
        sign = 1 if fill.side == Side.BUY else -1
        cash -= sign * fill.quantity * fill.price + fill.fee
        for place in (own, (i, 0), (i, 1), (i, -1)):
            if lots[place] * sign < 0:
                part = min(left, abs(lots[place]))
                lots[place] += sign * part
                left -= part
        lots[own if sign > 0 else (i, -1)] += sign * left
        for s in (0, 1, -1):
            assert held(state, i).get(s, (0, 0))[0] == lots[i, s]
            assert lots[i, s] >= 0 or s == -1
        assert int(state.account[0].cash) == cash
    assert int(state.account[0].fees) == sum(fill.fee for fill in fills)
    for i in range(2):
        for quantity, cost in held(state, i).values():
            assert quantity != 0, "an empty holding costs nothing"
            assert (cost > 0) == (quantity > 0)


@settings(deadline=None, max_examples=100 if COMPILED else 40)
@given(ANY_FILLS)
def test_everything_undone_in_reverse_leaves_all_cash_and_no_lots(fills: list[Fill]) -> None:
    state = initial_state(TWO, RULES)
    for fill in fills:
        book(state, fill)
    for fill in reversed(fills):
        side = Side.SELL if fill.side == Side.BUY else Side.BUY
        book(state, replace(fill, side=side, fee=-fill.fee))
    assert int(state.account[0].cash) == START
    assert int(state.account[0].fees) == 0
    assert [int(p.quantity) for p in state.positions] == [0] * 4


def test_no_field_of_a_record_hides_a_method_of_numpy() -> None:
    dtypes = [value for value in vars(account_state).values() if isinstance(value, np.dtype)]
    assert len(dtypes) > 10
    for dtype in dtypes:
        assert set(dtype.names or ()) & set(dir(np.record)) == set()
