"""The paper venue: what one bar does to one order."""

from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from account_fixtures import COMPILED, MICRO, make_config, make_sessions, money
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.account_rules import account_rules
from operators.paper_venue import fee_per_unit, fill, fill_price
from schemas.codes import Side

BUY, SELL = int(Side.BUY), int(Side.SELL)
PLENTY = 1_000_000


def limits(**venue: "int | str") -> Any:
    changes = {f"venue__{name}": Decimal(value) for name, value in venue.items()}
    return account_rules(make_config(**changes), make_sessions(30), paper=True).limits[0]


@pytest.mark.parametrize(
    ("side", "expected"), [(BUY, "100.03"), (SELL, "99.97")], ids=["a buy pays more", "a sale gets less"]
)
def test_spread_and_slippage_are_against_the_trader(side: int, expected: str) -> None:
    rules = limits(half_spread="0.0001", slippage="0.0002")
    assert fill_price(side, money(100), rules) == money(expected)


@pytest.mark.parametrize(("side", "expected"), [(BUY, 1_000_003), (SELL, 999_999)])
def test_a_part_of_a_millionth_is_rounded_against_the_trader(side: int, expected: int) -> None:
    # a millionth of 1.000001 is 1.000001 millionths
    assert fill_price(side, 1_000_001, limits(half_spread="0.000001")) == expected


def test_without_spread_the_open_is_paid() -> None:
    assert fill_price(BUY, 123_456_789, limits()) == 123_456_789
    assert fill_price(SELL, 123_456_789, limits()) == 123_456_789


def test_a_sale_never_goes_below_one_millionth() -> None:
    rules = limits(half_spread="0.9", slippage="0.9")
    assert fill_price(SELL, 1, rules) == 1
    assert fill_price(SELL, money(100), rules) == 1


@pytest.mark.parametrize(
    ("per_unit", "share", "expected"),
    [("0", "0", 0), ("0.005", "0", 5000), ("0", "0.001", 100_001), ("0.005", "0.001", 105_001)],
)
def test_commission_is_per_unit_and_by_value_rounded_up(per_unit: str, share: str, expected: int) -> None:
    rules = limits(commission_per_unit=per_unit, commission_share=share)
    assert fee_per_unit(money(100) + 1, rules) == expected
    quantity, _, fee = fill(BUY, 7, 0, money(100) + 1, PLENTY, rules)
    assert (quantity, fee) == (7, 7 * expected)


@pytest.mark.parametrize(
    ("side", "limit", "filled"),
    [
        (BUY, "100.99", 0),
        (BUY, "101", 10),
        (BUY, "101.01", 10),
        (SELL, "99.01", 0),
        (SELL, "99", 10),
        (SELL, "98.99", 10),
        (BUY, "0", 10),
        (SELL, "0", 10),
    ],
)
def test_a_limit_is_never_passed(side: int, limit: str, filled: int) -> None:
    rules = limits(half_spread="0.01")
    quantity, price, fee = fill(side, 10, money(limit), money(100), PLENTY, rules)
    assert quantity == filled
    assert price == money(101 if side == BUY else 99)
    assert (fee > 0) == (filled > 0)


@pytest.mark.parametrize(
    ("volume", "leaves", "filled"),
    [(0, 50, 0), (9, 50, 0), (10, 50, 1), (499, 50, 49), (500, 50, 50), (501, 50, 50), (10**12, 50, 50)],
)
def test_no_more_than_its_share_of_the_volume_fills(volume: int, leaves: int, filled: int) -> None:
    quantity, _, fee = fill(BUY, leaves, 0, money(100), volume, limits())
    assert quantity == filled
    assert fee == filled * money("0.01")


@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_bar_without_volume_fills_nothing(side: int) -> None:
    quantity, _, fee = fill(side, 50, 0, money(100), 0, limits(participation="1"))
    assert (quantity, fee) == (0, 0)


SHARES = st.integers(0, 999_999)


@settings(deadline=None, max_examples=150 if COMPILED else 60)
@given(
    side=st.sampled_from([BUY, SELL]),
    leaves=st.integers(1, 10**6),
    limit=st.one_of(st.just(0), st.integers(1, 10**12)),
    opened=st.integers(1, 10**12),
    volume=st.integers(0, 10**12),
    shares=st.tuples(SHARES, SHARES, st.integers(0, 10**8), SHARES, st.integers(1, MICRO)),
)
def test_any_fill_is_the_exact_one_in_fractions(
    side: int, leaves: int, limit: int, opened: int, volume: int, shares: tuple[int, int, int, int, int]
) -> None:
    rules = limits()
    names = ("half_spread", "slippage", "commission_per_unit", "commission_share", "participation")
    for name, value in zip(names, shares, strict=True):
        setattr(rules, name, value)
    half_spread, slippage, per_unit, by_value, participation = shares
    quantity, price, fee = (int(x) for x in fill(side, leaves, limit, opened, volume, rules))
    worse = ceil(Fraction(opened * (half_spread + slippage), MICRO))
    assert price == (opened + worse if side == BUY else max(opened - worse, 1))
    most = volume * participation // MICRO
    beyond = limit > 0 and (price > limit if side == BUY else price < limit)
    assert quantity == (0 if beyond else min(leaves, most))
    assert fee == quantity * (per_unit + ceil(Fraction(price * by_value, MICRO)))
