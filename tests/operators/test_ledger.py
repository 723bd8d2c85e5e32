"""The ledger beside a naive recomputation in Python's own integers and fractions."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from account_fixtures import COMPILED, MICRO, money
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.account_state import ACCOUNT, LIMITS, ORDER, POSITION, SLEEVE, records
from operators.ledger import apply_fill, book_of
from schemas.codes import Side

START = 900_000_000 * MICRO  # the largest account


@dataclass(frozen=True)
class Fill:
    instrument: int
    side: Side
    quantity: int
    price: int
    reference_price: int
    fee: int


def booked(fills: list[Fill], instruments: int = 3) -> tuple[dict[str, int], list[dict[str, int]]]:
    """Account and positions after the fills, as plain numbers; double entry is checked after each."""
    account, positions = records(ACCOUNT, 1), records(POSITION, instruments)
    account[0].cash = START
    for fill in fills:
        apply_fill(
            account[0],
            positions[fill.instrument],
            int(fill.side),
            fill.quantity,
            fill.price,
            fill.reference_price,
            fill.fee,
        )
        row = account[0]
        book = sum(int(p.book) for p in positions)
        assert int(row.cash) + book - int(row.realised) + int(row.fees) == START
    return (
        {name: int(account[0][name]) for name in ("cash", "realised", "fees", "costs")},
        [{"quantity": int(p.quantity), "book": int(p.book)} for p in positions],
    )


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
    positions = records(POSITION, 1)
    positions[0].book = book
    positions[0].quantity = held
    assert book_of(positions[0], sold) == leaves


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


def test_no_field_of_a_record_hides_a_method_of_numpy() -> None:
    for dtype in (ACCOUNT, POSITION, ORDER, SLEEVE, LIMITS):
        assert set(dtype.names or ()) & set(dir(np.record)) == set()
