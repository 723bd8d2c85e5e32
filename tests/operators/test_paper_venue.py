"""The paper venue: its prices, its answers, its books, and its faults on purpose."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.paper_venue import (
    BACKLOG,
    FILLS,
    MAX_CASH,
    MAX_LOTS,
    REPORT,
    SLOTS,
    concerns,
    end_session,
    fee_per_unit,
    fill_price,
    has_news,
    new_venue,
    next_report,
    receive,
    trade,
    venue_of,
    venue_rules,
    venue_words,
)
from schemas.codes import ExecutionKind, OrderKind, OrderState, Side
from schemas.config import Account, Bars, Config, Faults, PaperVenue
from schemas.records import MICRO, Order, dtype_of

COMPILED = not numba.config.DISABLE_JIT
BUY, SELL = int(Side.BUY), int(Side.SELL)
NEW, CANCEL, QUERY = int(OrderKind.NEW), int(OrderKind.CANCEL), int(OrderKind.QUERY)
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
PLENTY = 1_000_000
LATE = 10**18  # all delays have passed
ALWAYS = Decimal("0.999999")
K = ExecutionKind


def money(value: "int | str") -> int:
    """Currency as millionths."""
    return int(Decimal(value) * MICRO)


def make_config(instruments: int = 2, faults: Faults | None = None, **terms: "int | str") -> Config:
    """The sections that the venue reads. No spread, a commission of 0.01, a tenth of the volume."""
    plain: dict[str, Any] = {
        "half_spread": 0,
        "slippage": 0,
        "commission_per_unit": "0.01",
        "commission_share": 0,
        "participation": "0.1",
    }
    return Config.model_construct(
        instruments=tuple(f"S{i}" for i in range(instruments)),
        account=Account(id="test", currency="USD", cash=Decimal(10_000)),
        bars=Bars(
            interval_seconds=60,
            jump_limit=Decimal("0.2"),
            max_gap_bars=60,
            max_price=Decimal(1_000_000),
            max_volume=Decimal(10**12),
            other_symbols="refuse",
        ),
        venue=PaperVenue(faults=faults, **{name: Decimal(value) for name, value in (plain | terms).items()}),
    )


class Told(NamedTuple):
    """A report."""

    kind: ExecutionKind
    time_ns: int
    execution_id: int
    reference_id: int
    instrument: int
    order_ns: int
    intent: int
    attempt: int
    side: int
    quantity: int
    price: int
    reference_price: int
    fee: int
    cumulative: int

    @property
    def order(self) -> tuple[int, int, int, int]:
        return self.instrument, self.order_ns, self.intent, self.attempt


class Desk:
    """A venue and all it has told. Time is in minutes; the bar of minute m opens at m - 1 and ends at m."""

    def __init__(self, instruments: int = 2, faults: Faults | None = None, **terms: "int | str"):
        config = make_config(instruments, faults, **terms)
        self.instruments = instruments
        self.venue: Any = new_venue(config)
        self.rules: Any = venue_rules(config)
        self.told: list[Told] = []

    def send(self, kind: int, order: Any, now: float) -> list[Told]:
        row = order.copy()
        row.kind = kind
        receive(self.venue, self.rules, row[0], int(now * MINUTE))
        return self.hear(now)

    def bar(self, minute: int, price: "int | str" = 100, volume: int = PLENTY, i: int = 0) -> list[Told]:
        trade(self.venue, self.rules, i, minute * MINUTE, money(price), volume)
        return self.hear(minute)

    def close(self, minute: int) -> list[Told]:
        end_session(self.venue, self.rules, minute * MINUTE)
        return self.hear(minute)

    def hear(self, now: float) -> list[Told]:
        """Take all reports that are due."""
        heard = []
        report: Any = np.full(len(REPORT), -7_777, np.int64).view(REPORT).view(np.recarray)
        while next_report(self.venue, self.rules, int(now * MINUTE), report[0]):
            kind, *rest = report[0].tolist()
            heard.append(Told(K(kind), *rest))
            assert -7_777 not in heard[-1], "a report must be written in full"
            report.view(np.int64)[:] = -7_777
        self.told += heard
        return heard

    def hear_the_rest(self) -> list[Told]:
        return self.hear(LATE // MINUTE)

    def dump_and_load(self) -> None:
        """Go on with a copy of the bytes."""
        words = np.frombuffer(self.venue.words.tobytes(), np.int64).copy()
        self.venue = venue_of(words, self.instruments)

    @property
    def cash(self) -> int:
        return int(self.venue.book[0].cash)

    def holding(self, i: int = 0) -> int:
        return int(self.venue.holdings[i].quantity)


def order(minute: float = 0, **fields: int) -> Any:
    """A buy of ten lots at the market that was decided at `minute`, with other fields where given."""
    row: Any = np.zeros(1, dtype_of(Order)).view(np.recarray)
    row.order_ns = int(minute * MINUTE)
    row.side = BUY
    row.quantity = 10
    for name, value in fields.items():
        row[name] = value
    return row


def check_counts(desk: Desk) -> None:
    """The counts that spare the venue a search agree with what they count."""
    for i in range(desk.instruments):
        holding = desk.venue.holdings[i]
        orders = desk.venue.orders[SLOTS * i : SLOTS * (i + 1)]
        live = np.isin(orders.state, [OrderState.WORKING, OrderState.PENDING_CANCEL])
        doomed = desk.venue.fills[desk.venue.fills.instrument == i].doomed
        assert (holding.live, holding.doomed) == (live.sum(), doomed.sum())
    assert desk.venue.book[0].overflow == 0


def kinds(told: Iterable[Told]) -> list[ExecutionKind]:
    return [report.kind for report in told]


def faulty(**faults: "Decimal | int | str") -> Faults:
    seed = {"seed": int(faults.pop("seed", 7)), "delay_seconds": int(faults.pop("delay_seconds", 90))}
    return Faults(**{name: Decimal(value) for name, value in faults.items()}, **seed)


# --- prices


def terms(**changed: "int | str") -> Any:
    return venue_rules(make_config(**changed)).terms[0]


@pytest.mark.parametrize(
    ("side", "expected"), [(BUY, "100.03"), (SELL, "99.97")], ids=["a buy pays more", "a sale gets less"]
)
def test_spread_and_slippage_are_against_the_trader(side: int, expected: str) -> None:
    rules = terms(half_spread="0.0001", slippage="0.0002")
    assert fill_price(side, money(100), rules) == money(expected)


@pytest.mark.parametrize(("side", "expected"), [(BUY, 1_000_003), (SELL, 999_999)])
def test_a_part_of_a_millionth_is_rounded_against_the_trader(side: int, expected: int) -> None:
    # a millionth of 1.000001 is 1.000001 millionths
    assert fill_price(side, 1_000_001, terms(half_spread="0.000001")) == expected


def test_without_spread_the_open_is_paid() -> None:
    assert fill_price(BUY, 123_456_789, terms()) == 123_456_789
    assert fill_price(SELL, 123_456_789, terms()) == 123_456_789


def test_a_sale_never_goes_below_one_millionth() -> None:
    rules = terms(half_spread="0.9", slippage="0.9")
    assert fill_price(SELL, 1, rules) == 1
    assert fill_price(SELL, money(100), rules) == 1


@pytest.mark.parametrize(
    ("per_unit", "share", "expected"),
    [("0", "0", 0), ("0.005", "0", 5000), ("0", "0.001", 100_001), ("0.005", "0.001", 105_001)],
)
def test_commission_is_per_unit_and_by_value_rounded_up(per_unit: str, share: str, expected: int) -> None:
    desk = Desk(commission_per_unit=per_unit, commission_share=share)
    assert fee_per_unit(money(100) + 1, desk.rules.terms[0]) == expected
    desk.send(NEW, order(quantity=7), 0)
    (fill,) = desk.bar(1, "100.000001")
    assert (fill.quantity, fill.fee) == (7, 7 * expected)


@pytest.mark.parametrize(
    ("side", "limit", "filled"),
    [
        (BUY, "100.99", False),
        (BUY, "101", True),
        (BUY, "101.01", True),
        (SELL, "99.01", False),
        (SELL, "99", True),
        (SELL, "98.99", True),
        (BUY, "0", True),
        (SELL, "0", True),
    ],
)
def test_a_limit_is_never_passed(side: int, limit: str, filled: bool) -> None:
    desk = Desk(half_spread="0.01")
    desk.send(NEW, order(side=side, limit_price=money(limit)), 0)
    told = desk.bar(1)
    assert [(fill.quantity, fill.price) for fill in told] == (
        [(10, money(101 if side == BUY else 99))] if filled else []
    )


@pytest.mark.parametrize(
    ("volume", "filled"),
    [(0, 0), (9, 0), (10, 1), (499, 49), (500, 50), (501, 50), (10**12, 50)],
)
def test_no_more_than_its_share_of_the_volume_fills(volume: int, filled: int) -> None:
    desk = Desk()
    desk.send(NEW, order(quantity=50), 0)
    told = desk.bar(1, volume=volume)
    assert [(fill.quantity, fill.fee) for fill in told] == (
        [(filled, filled * money("0.01"))] if filled else []
    )


@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_bar_without_volume_fills_nothing(side: int) -> None:
    desk = Desk(participation=1)
    desk.send(NEW, order(side=side), 0)
    assert desk.bar(1, volume=0) == []
    assert (desk.cash, desk.holding()) == (money(10_000), 0)


def test_orders_of_one_instrument_share_its_volume_in_order_of_arrival() -> None:
    desk = Desk()
    for attempt, quantity in enumerate((7, 5, 4)):
        desk.send(NEW, order(attempt=attempt, quantity=quantity), 0)
    assert [(fill.attempt, fill.quantity) for fill in desk.bar(1, volume=100)] == [(0, 7), (1, 3)]
    assert [(fill.attempt, fill.quantity) for fill in desk.bar(2, volume=100)] == [(1, 2), (2, 4)]


SHARES = st.integers(0, 999_999)


@settings(deadline=None, max_examples=150 if COMPILED else 60)
@given(
    side=st.sampled_from([BUY, SELL]),
    leaves=st.integers(1, 10**4),
    limit=st.one_of(st.just(0), st.integers(1, 10**12)),
    opened=st.integers(1, 10**12),
    volume=st.integers(0, 10**12),
    shares=st.tuples(SHARES, SHARES, st.integers(0, 10**8), SHARES, st.integers(1, MICRO)),
)
def test_any_fill_is_the_exact_one_in_fractions(
    side: int, leaves: int, limit: int, opened: int, volume: int, shares: tuple[int, int, int, int, int]
) -> None:
    desk = Desk()
    names = ("half_spread", "slippage", "commission_per_unit", "commission_share", "participation")
    for name, value in zip(names, shares, strict=True):
        setattr(desk.rules.terms[0], name, value)
    half_spread, slippage, per_unit, by_value, participation = shares
    desk.send(NEW, order(side=side, quantity=leaves, limit_price=limit), 0)
    told = desk.bar(1, str(Decimal(opened) / MICRO), volume)

    worse = ceil(Fraction(opened * (half_spread + slippage), MICRO))
    price = opened + worse if side == BUY else max(opened - worse, 1)
    beyond = limit > 0 and (price > limit if side == BUY else price < limit)
    quantity = 0 if beyond else min(leaves, volume * participation // MICRO)
    fee = quantity * (per_unit + ceil(Fraction(price * by_value, MICRO)))
    assert [(fill.quantity, fill.price, fill.reference_price, fill.fee) for fill in told] == (
        [(quantity, price, opened, fee)] if quantity else []
    )
    signed = quantity if side == BUY else -quantity
    assert desk.holding() == signed
    assert desk.cash == money(10_000) - signed * price - fee


# --- orders without faults


def test_an_order_is_accepted_and_fills_at_the_next_open() -> None:
    desk = Desk(half_spread="0.01")
    request = order(3, intent=1, attempt=2, instrument=1, reference_price=money(99))
    assert desk.send(NEW, request, 3) == [
        Told(K.ACCEPTED, 3 * MINUTE, 0, 0, 1, 3 * MINUTE, 1, 2, BUY, 0, 0, 0, 0, 0)
    ]
    assert desk.bar(4, i=1) == [
        Told(
            kind=K.FILL,
            time_ns=3 * MINUTE,
            execution_id=1,
            reference_id=0,
            instrument=1,
            order_ns=3 * MINUTE,
            intent=1,
            attempt=2,
            side=BUY,
            quantity=10,
            price=money(101),
            reference_price=money(100),
            fee=money("0.1"),
            cumulative=10,
        )
    ]
    assert desk.cash == money(10_000) - money(1010) - money("0.1")
    assert (desk.holding(0), desk.holding(1)) == (0, 10)
    assert desk.bar(5, i=1) == []


def test_a_bar_that_had_opened_before_the_order_came_does_not_fill_it() -> None:
    desk = Desk()
    desk.send(NEW, order(), 0.5)
    assert desk.bar(1) == []
    assert kinds(desk.bar(2)) == [K.FILL]


def test_a_bar_of_another_instrument_fills_nothing() -> None:
    desk = Desk()
    desk.send(NEW, order(), 0)
    assert desk.bar(1, i=1) == []


def test_fills_count_up_to_the_order_and_their_ids_over_all_orders() -> None:
    desk = Desk()
    desk.send(NEW, order(quantity=25), 0)
    desk.send(NEW, order(quantity=1, instrument=1), 0)
    told = desk.bar(1, volume=100) + desk.bar(1, i=1) + desk.bar(2, volume=100) + desk.bar(3)
    assert [(fill.execution_id, fill.instrument, fill.quantity, fill.cumulative) for fill in told] == [
        (1, 0, 10, 10),
        (2, 1, 1, 1),
        (3, 0, 10, 20),
        (4, 0, 5, 25),
    ]


def test_an_order_expires_after_the_bar_that_ends_at_its_time() -> None:
    desk = Desk()
    desk.send(NEW, order(quantity=25, expires_ns=2 * MINUTE), 0)
    assert kinds(desk.bar(1, volume=100)) == [K.FILL]
    fill, expired = desk.bar(2, volume=100)
    assert (fill.kind, fill.cumulative) == (K.FILL, 20)
    assert (expired.kind, expired.time_ns, expired.cumulative) == (K.EXPIRED, 1 * MINUTE, 20)
    assert desk.bar(3) == []


def test_an_order_that_fills_on_its_last_bar_does_not_expire() -> None:
    desk = Desk()
    desk.send(NEW, order(expires_ns=MINUTE), 0)
    assert kinds(desk.bar(1)) == [K.FILL]


def test_a_bar_that_opens_when_an_order_has_expired_does_not_fill_it() -> None:
    desk = Desk()
    desk.send(NEW, order(expires_ns=2 * MINUTE), 0)
    assert kinds(desk.bar(3)) == [K.EXPIRED]
    assert desk.holding() == 0


def test_a_cancel_comes_before_the_next_bar() -> None:
    desk = Desk()
    desk.send(NEW, order(quantity=25), 0)
    desk.bar(1, volume=100)
    (told,) = desk.send(CANCEL, order(quantity=25), 1)
    assert (told.kind, told.time_ns, told.cumulative) == (K.CANCELLED, MINUTE, 10)
    assert desk.bar(2) == []
    assert desk.holding() == 10


def test_the_cancel_of_an_order_that_has_ended_is_refused() -> None:
    desk = Desk()
    desk.send(NEW, order(), 0)
    desk.bar(1)
    (told,) = desk.send(CANCEL, order(), 1)
    assert (told.kind, told.cumulative) == (K.CANCEL_REFUSED, 10)
    desk.send(NEW, order(2), 2)
    assert kinds(desk.send(CANCEL, order(2), 2)) == [K.CANCELLED]
    assert kinds(desk.send(CANCEL, order(2), 2)) == [K.CANCEL_REFUSED]


@pytest.mark.parametrize("kind", [CANCEL, QUERY])
@pytest.mark.parametrize(
    "other", [{"order_ns": 1}, {"intent": 1}, {"attempt": 1}, {"instrument": 1}], ids=str
)
def test_an_unknown_order_is_absent(kind: int, other: dict[str, int]) -> None:
    desk = Desk()
    desk.send(NEW, order(), 0)
    (told,) = desk.send(kind, order(**other), 1)
    assert (told.kind, told.time_ns, told.cumulative) == (K.ABSENT, MINUTE, 0)
    assert told.order == (other.get("instrument", 0), *(other.get(n, 0) for n in Told._fields[5:8]))
    assert kinds(desk.bar(2)) == [K.FILL], "the order that is known is untouched"


# --- queries


def test_a_query_brings_all_fills_again_and_says_where_the_order_stands() -> None:
    desk = Desk()
    desk.send(NEW, order(quantity=25), 0)
    fills = desk.bar(1, volume=100) + desk.bar(2, volume=100)
    *again, standing = desk.send(QUERY, order(quantity=25), 3)
    assert again == fills
    assert (standing.kind, standing.time_ns, standing.cumulative) == (K.ACCEPTED, 3 * MINUTE, 20)


def test_the_fills_of_an_order_that_is_filled_say_it() -> None:
    desk = Desk()
    desk.send(NEW, order(), 0)
    desk.send(NEW, order(instrument=1), 0)
    fills = desk.bar(1)
    desk.bar(1, i=1)
    assert desk.send(QUERY, order(), 2) == fills


def test_a_query_tells_how_an_order_ended() -> None:
    desk = Desk()
    desk.send(NEW, order(0), 0)
    desk.send(CANCEL, order(0), 0)
    desk.send(NEW, order(1, quantity=25, expires_ns=2 * MINUTE), 1)
    desk.bar(2, volume=100)
    desk.send(NEW, order(3, quantity=0), 3)
    assert kinds(desk.send(QUERY, order(0), 4)) == [K.CANCELLED]
    assert kinds(desk.send(QUERY, order(1), 4)) == [K.FILL, K.EXPIRED]
    assert desk.told[-1].cumulative == 10
    assert kinds(desk.send(QUERY, order(3), 4)) == [K.REJECTED]


def test_a_query_moves_nothing() -> None:
    desk = Desk()
    desk.send(NEW, order(quantity=25), 0)
    desk.bar(1, volume=100)
    before = desk.cash, desk.holding()
    desk.send(QUERY, order(quantity=25), 1)
    assert (desk.cash, desk.holding()) == before
    assert [fill.execution_id for fill in desk.bar(2)] == [2]


def test_fills_are_told_although_their_order_is_forgotten() -> None:
    desk = Desk()
    for minute in range(SLOTS + 1):
        desk.send(NEW, order(minute), minute)
        desk.bar(minute + 1)
    assert kinds(desk.send(QUERY, order(0), 9)) == [K.FILL]


def test_an_order_whose_fills_are_forgotten_is_told_by_its_cumulative() -> None:
    desk = Desk()
    desk.send(NEW, order(quantity=1), 0)
    desk.bar(1)
    desk.send(NEW, order(1, instrument=1, quantity=FILLS), 1)
    for minute in range(2, FILLS + 2):
        desk.bar(minute, volume=10, i=1)
    (told,) = desk.send(QUERY, order(quantity=1), FILLS + 2)
    assert (told.kind, told.cumulative) == (K.ACCEPTED, 1)
    again = desk.send(QUERY, order(1, instrument=1), FILLS + 2)
    assert [fill.cumulative for fill in again] == list(range(1, FILLS + 1)), (
        "none is dropped for lack of room"
    )


# --- the same request again


def test_an_order_sent_again_trades_once() -> None:
    desk = Desk()
    assert kinds(desk.send(NEW, order(), 0)) == [K.ACCEPTED]
    assert kinds(desk.send(NEW, order(), 0)) == [K.ACCEPTED]
    assert kinds(desk.bar(1)) == [K.FILL]
    (told,) = desk.send(NEW, order(), 1)
    assert (told.kind, told.cumulative) == (K.ACCEPTED, 10)
    assert desk.bar(2) == []
    assert desk.holding() == 10


def test_an_order_that_was_cancelled_is_not_revived_by_its_request() -> None:
    desk = Desk()
    desk.send(NEW, order(), 0)
    desk.send(CANCEL, order(), 0)
    assert kinds(desk.send(NEW, order(), 0)) == [K.CANCELLED]
    assert desk.bar(1) == []


@pytest.mark.parametrize(
    "other", [{"side": SELL}, {"quantity": 11}, {"limit_price": 1}, {"expires_ns": 1}], ids=str
)
def test_the_id_of_an_order_with_other_content_is_rejected(other: dict[str, int]) -> None:
    desk = Desk()
    desk.send(NEW, order(), 0)
    assert kinds(desk.send(NEW, order(**other), 0)) == [K.REJECTED]
    (fill,) = desk.bar(1)
    assert (fill.side, fill.quantity) == (BUY, 10)


def test_a_rejected_order_stays_rejected() -> None:
    desk = Desk(faults=faulty(reject=ALWAYS))
    assert kinds(desk.send(NEW, order(), 0)) == [K.REJECTED]
    desk.rules.faults[0].reject = 0
    assert kinds(desk.send(NEW, order(), 0)) == [K.REJECTED]
    assert desk.bar(1) == []


def test_an_order_that_is_forgotten_is_not_taken_again() -> None:
    desk = Desk()
    for attempt in range(SLOTS + 1):
        desk.send(NEW, order(attempt=attempt), 0)
        desk.bar(attempt + 1)
    held = desk.holding()
    assert kinds(desk.send(NEW, order(attempt=0), 9)) == [K.REJECTED]
    assert desk.bar(10) == []
    assert desk.holding() == held == 10 * (SLOTS + 1)
    assert kinds(desk.send(NEW, order(attempt=SLOTS + 1), 10)) == [K.ACCEPTED]


def test_the_newest_forgotten_order_counts_also_where_ids_did_not_rise() -> None:
    desk = Desk()
    for attempt in (9, 8, 7, 6, 5, 10):
        desk.send(NEW, order(attempt=attempt), 0)
        desk.bar(1)
    assert kinds(desk.send(NEW, order(attempt=9), 1)) == [K.REJECTED]
    assert kinds(desk.send(QUERY, order(attempt=9), 1)) == [K.FILL]


# --- slots


def test_a_live_order_is_never_forgotten() -> None:
    desk = Desk()
    first = order(0, limit_price=1)
    desk.send(NEW, first, 0)
    for minute in range(1, 3 * SLOTS):
        assert kinds(desk.send(NEW, order(minute), minute)) == [K.ACCEPTED]
        desk.bar(minute + 1)
    assert kinds(desk.send(QUERY, first, 40)) == [K.ACCEPTED]
    assert [kinds(desk.send(QUERY, order(minute), 40)) for minute in (3 * SLOTS - 2, 3 * SLOTS - 1)] == [
        [K.FILL],
        [K.FILL],
    ]


def test_an_order_that_finds_no_slot_is_rejected_for_good() -> None:
    desk = Desk()
    for attempt in range(SLOTS):
        desk.send(NEW, order(attempt=attempt), 0)
    assert kinds(desk.send(NEW, order(attempt=SLOTS), 0)) == [K.REJECTED]
    assert kinds(desk.send(NEW, order(instrument=1), 0)) == [K.ACCEPTED], "another instrument has its own"
    assert kinds(desk.bar(1)) == [K.FILL] * SLOTS
    assert kinds(desk.send(NEW, order(attempt=SLOTS), 1)) == [K.REJECTED]
    assert desk.bar(2) == []


# --- what means nothing


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": 0},
        {"quantity": -1},
        {"quantity": MAX_LOTS + 1},
        {"quantity": 2**63 - 1},
        {"side": 2},
        {"side": -1},
        {"limit_price": -1},
    ],
    ids=str,
)
def test_an_order_that_means_nothing_is_rejected(wrong: dict[str, int]) -> None:
    desk = Desk()
    assert kinds(desk.send(NEW, order(**wrong), 0)) == [K.REJECTED]
    assert desk.bar(1) == []
    assert (desk.cash, desk.holding()) == (money(10_000), 0)


@pytest.mark.parametrize("kind", [NEW, CANCEL, QUERY])
@pytest.mark.parametrize("instrument", [-1, 2, -(2**63), 2**63 - 1])
def test_a_request_for_no_instrument_is_ignored(kind: int, instrument: int) -> None:
    desk = Desk()
    before = desk.venue.words.copy()
    assert desk.send(kind, order(instrument=instrument), 0) == []
    assert desk.venue.book[0].ignored == 1
    assert (desk.venue.words != before).sum() == 1


@pytest.mark.parametrize("kind", [-1, 3])
def test_a_request_of_no_kind_is_ignored(kind: int) -> None:
    desk = Desk()
    assert desk.send(kind, order(), 0) == []
    assert desk.venue.book[0].ignored == 1


def test_the_books_never_hold_more_than_fits() -> None:
    desk = Desk(participation=1, commission_share="0.9")
    for minute in range(8):
        side = BUY if minute % 2 else SELL
        desk.send(NEW, order(minute, quantity=MAX_LOTS, side=side), minute)
        desk.bar(minute + 1, 1_000_000, volume=10**12)
        assert abs(desk.cash) <= MAX_CASH
    assert desk.holding() != 0
    assert all(fill.quantity * fill.price <= MAX_CASH for fill in desk.told if fill.kind == K.FILL)


# --- the close


def test_at_the_close_orders_expire_and_the_venue_states_what_it_holds() -> None:
    desk = Desk(3)
    desk.send(NEW, order(quantity=25), 0)
    desk.bar(1, volume=100)
    desk.send(NEW, order(instrument=2, side=SELL), 1)
    expired, other, first, third, cash = desk.close(5)
    assert (expired.kind, expired.instrument, expired.cumulative) == (K.EXPIRED, 0, 10)
    assert (other.kind, other.instrument, other.cumulative) == (K.EXPIRED, 2, 0)
    assert first == Told(K.POSITION, 5 * MINUTE, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0)
    assert (third.kind, third.instrument, third.quantity) == (K.POSITION, 2, 0)
    assert cash == Told(K.CASH, 5 * MINUTE, 0, 0, -1, 0, 0, 0, 0, 0, desk.cash, 0, 0, 0)
    assert {report.time_ns for report in desk.told[-5:]} == {5 * MINUTE}
    assert desk.bar(6) == []
    assert desk.hear(7) == []


def test_statements_are_due_at_the_close() -> None:
    desk = Desk()
    end_session(desk.venue, desk.rules, 5 * MINUTE)
    assert desk.hear(4.5) == []
    assert kinds(desk.hear(5)) == [K.CASH]


def test_what_was_ordered_in_an_earlier_session_is_stated_only_while_it_is_held() -> None:
    desk = Desk(3)
    desk.send(NEW, order(), 0)
    desk.send(NEW, order(instrument=1), 0)
    desk.bar(1)
    desk.close(2)
    assert [(report.kind, report.instrument) for report in desk.close(4)] == [(K.POSITION, 0), (K.CASH, -1)]


def test_more_than_is_held_can_be_sold() -> None:
    desk = Desk()
    desk.send(NEW, order(side=SELL), 0)
    assert kinds(desk.bar(1)) == [K.FILL]
    position, _ = desk.close(2)
    assert (desk.holding(), position.quantity) == (-10, -10)
    assert desk.cash == money(10_000) + money(1000) - money("0.1")


def test_every_order_and_statement_of_many_instruments_is_told_at_the_close() -> None:
    many = 240
    desk = Desk(many)
    for i in range(many):
        for attempt in range(SLOTS):
            desk.send(NEW, order(instrument=i, attempt=attempt), 0)
    told = desk.close(1)
    assert kinds(told) == [K.EXPIRED] * (SLOTS * many) + [K.POSITION] * many + [K.CASH]
    assert desk.venue.book[0].overflow == 0


# --- the state


def test_words_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 3 instruments"):
        venue_of(np.zeros(venue_words(2), np.int64), 3)


def test_the_words_are_the_whole_state() -> None:
    desk = Desk()
    desk.send(NEW, order(), 0)
    desk.dump_and_load()
    assert kinds(desk.bar(1)) == [K.FILL]
    assert desk.venue.words.tobytes() == b"".join(view.tobytes() for view in desk.venue[1:])


def test_a_bar_concerns_the_venue_where_an_order_could_fill_or_a_fill_be_undone() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS))
    assert not concerns(desk.venue, 0)
    desk.send(NEW, order(), 0)
    assert concerns(desk.venue, 0)
    assert not concerns(desk.venue, 1)
    desk.bar(1)
    assert desk.venue.holdings[0].live == 0
    assert concerns(desk.venue, 0), "its fill will be undone"
    desk.close(2)
    assert not concerns(desk.venue, 0)


def test_there_is_news_while_a_report_waits() -> None:
    desk = Desk(faults=faulty(delay=ALWAYS))
    assert not has_news(desk.venue)
    desk.send(NEW, order(), 0)
    assert has_news(desk.venue)
    desk.hear_the_rest()
    assert not has_news(desk.venue)


def test_the_configuration_becomes_rules() -> None:
    desk = Desk(
        faults=faulty(partial="0.25", delay_seconds=30),
        half_spread="0.0001",
        slippage="0.0002",
        commission_share="0.003",
    )
    assert desk.rules.terms[0].tolist() == (MINUTE, 100, 200, 10_000, 3_000, 100_000)
    faults = desk.rules.faults[0]
    assert dict(zip(faults.dtype.names, faults.tolist(), strict=True)) == {
        **dict.fromkeys(faults.dtype.names, 0),
        "partial": 250_000,
        "delay_ns": 30 * SECOND,
    }
    assert not any(venue_rules(make_config()).faults[0].tolist())


# --- each fault alone


def test_reject() -> None:
    desk = Desk(faults=faulty(reject=ALWAYS))
    (told,) = desk.send(NEW, order(), 0)
    assert (told.kind, told.cumulative) == (K.REJECTED, 0)
    assert desk.bar(1) == []


def test_partial_cuts_a_fill_and_the_rest_still_comes() -> None:
    desk = Desk(faults=faulty(partial=ALWAYS))
    desk.send(NEW, order(quantity=1000), 0)
    fills = [fill for minute in range(1, 200) for fill in desk.bar(minute)]
    assert 0 < fills[0].quantity < 1000
    assert len(fills) > 2
    assert sum(fill.quantity for fill in fills) == fills[-1].cumulative == 1000


def test_a_delayed_report_comes_within_the_delay_and_the_books_do_not_wait() -> None:
    desk = Desk(faults=faulty(delay=ALWAYS, delay_seconds=120))
    assert desk.send(NEW, order(), 0) == []
    assert desk.bar(1) == []
    assert desk.holding() == 10
    assert sorted(kinds(desk.hear(3))) == [K.FILL, K.ACCEPTED]
    assert desk.hear_the_rest() == []


def test_delays_change_the_order_of_reports() -> None:
    desk = Desk(faults=faulty(delay="0.5", delay_seconds=600))
    desk.send(NEW, order(quantity=300), 0)
    for minute in range(1, 31):
        desk.bar(minute, volume=100)
    desk.hear_the_rest()
    ids = [report.execution_id for report in desk.told if report.kind == K.FILL]
    assert ids != sorted(ids) == list(range(1, 31))


def test_reports_never_wait_beyond_the_backlog_and_none_is_dropped() -> None:
    desk = Desk(faults=faulty(delay=ALWAYS, delay_seconds=36_000))
    lots = 3 * BACKLOG
    desk.send(NEW, order(quantity=lots), 0)
    for minute in range(1, lots + 1):
        desk.bar(minute, volume=10)
        assert desk.venue.book[0].waiting <= BACKLOG
    desk.hear_the_rest()
    fills = [report.execution_id for report in desk.told if report.kind == K.FILL]
    assert sorted(fills) == list(range(1, lots + 1))
    assert desk.venue.book[0].overflow == 0


def test_where_nobody_takes_reports_those_without_room_are_counted() -> None:
    desk = Desk()
    row = order(quantity=10**6)
    row.kind = NEW
    receive(desk.venue, desk.rules, row[0], 0)
    room = len(desk.venue.queue)
    for minute in range(1, room + 10):
        trade(desk.venue, desk.rules, 0, minute * MINUTE, money(1), 10)
    assert desk.venue.book[0].overflow == 10
    assert len(desk.hear(10**6)) == room


def test_a_lost_report_is_brought_back_by_a_query() -> None:
    desk = Desk(faults=faulty(lose=ALWAYS))
    desk.send(NEW, order(), 0)
    desk.bar(1)
    desk.hear_the_rest()
    assert desk.told == []
    assert desk.holding() == 10
    desk.rules.faults[0].lose = 0
    (fill,) = desk.send(QUERY, order(), 2)
    assert (fill.kind, fill.execution_id, fill.quantity, fill.time_ns) == (K.FILL, 1, 10, 0)


def test_a_duplicate_is_the_same_report() -> None:
    desk = Desk(faults=faulty(duplicate=ALWAYS))
    first, second = desk.send(NEW, order(), 0)
    assert first == second
    assert first.kind == K.ACCEPTED
    first, second = desk.bar(1)
    assert first == second
    assert first.kind == K.FILL
    assert desk.holding() == 10


def test_duplicates_take_no_room_that_reports_need() -> None:
    desk = Desk(faults=faulty(duplicate=ALWAYS))
    desk.send(NEW, order(quantity=FILLS), 0)
    for minute in range(1, FILLS + 1):
        desk.bar(minute, volume=10)
    told = desk.send(QUERY, order(quantity=FILLS), FILLS)
    assert {fill.execution_id for fill in told} == set(range(1, FILLS + 1))
    assert FILLS < len(told) < 2 * FILLS
    assert desk.venue.book[0].overflow == 0


def test_a_duplicate_may_be_late() -> None:
    desk = Desk(faults=faulty(duplicate=ALWAYS, delay="0.5"))
    halves = [
        (len(desk.send(NEW, order(minute), minute)), len(desk.hear(minute + 2))) for minute in range(0, 60, 3)
    ]
    assert set(halves) == {(2, 0), (1, 1), (0, 2)}


def test_the_answer_to_a_new_order_is_lost_and_half_of_them_arrive() -> None:
    desk = Desk(1, faults=faulty(unknown=ALWAYS))
    arrived = 0
    for minute in range(100):
        (told,) = desk.send(NEW, order(minute), minute)
        assert (told.kind, told.cumulative) == (K.LOST, 0)
        answer = kinds(desk.send(QUERY, order(minute), minute))
        fills = kinds(desk.bar(minute + 1))
        assert (answer, fills) in (([K.ACCEPTED], [K.FILL]), ([K.ABSENT], []))
        arrived += len(fills)
    assert 30 < arrived < 70


def test_the_answer_to_a_cancel_is_lost_and_half_of_them_arrive() -> None:
    desk = Desk(1, faults=faulty())
    arrived = 0
    for minute in range(100):
        desk.rules.faults[0].unknown = 0
        desk.send(NEW, order(minute), minute)
        desk.rules.faults[0].unknown = 999_999
        assert kinds(desk.send(CANCEL, order(minute), minute)) == [K.LOST]
        answer = kinds(desk.send(QUERY, order(minute), minute))
        fills = kinds(desk.bar(minute + 1))
        assert (answer, fills) in (([K.ACCEPTED], [K.FILL]), ([K.CANCELLED], []))
        arrived += 1 - len(fills)
    assert 30 < arrived < 70


def test_an_order_that_vanishes_is_absent() -> None:
    desk = Desk(faults=faulty(vanish=ALWAYS))
    assert desk.send(NEW, order(), 0) == []
    assert desk.bar(1) == []
    assert kinds(desk.send(QUERY, order(), 1)) == [K.ABSENT]
    assert kinds(desk.close(2)) == [K.CASH], "it was never ordered"


def test_only_new_orders_vanish() -> None:
    desk = Desk(faults=faulty())
    desk.send(NEW, order(), 0)
    desk.rules.faults[0].vanish = 999_999
    assert kinds(desk.send(CANCEL, order(), 0)) == [K.CANCELLED]


def test_a_cancelled_order_fills_once_more() -> None:
    desk = Desk(faults=faulty(fill_after_cancel=ALWAYS))
    desk.send(NEW, order(quantity=25), 0)
    desk.bar(1, volume=100)
    (told,) = desk.send(CANCEL, order(quantity=25), 1)
    assert (told.kind, told.cumulative) == (K.CANCELLED, 10)
    assert kinds(desk.send(CANCEL, order(quantity=25), 1)) == [K.CANCEL_REFUSED]
    (late,) = desk.bar(2, volume=100)
    assert (late.kind, late.quantity, late.cumulative) == (K.FILL, 10, 20)
    assert desk.bar(3) == []
    told = desk.send(QUERY, order(quantity=25), 3)[-1]
    assert (told.kind, told.cumulative) == (K.CANCELLED, 20)
    assert desk.holding() == 20


def test_a_fill_after_a_cancel_waits_for_a_bar_the_order_may_trade_on() -> None:
    desk = Desk(faults=faulty(fill_after_cancel=ALWAYS))
    desk.send(NEW, order(), 0.25)
    desk.send(CANCEL, order(), 0.5)
    assert desk.bar(1) == []
    assert kinds(desk.bar(2)) == [K.FILL]


def test_a_cancelled_order_does_not_fill_after_the_close() -> None:
    desk = Desk(faults=faulty(fill_after_cancel=ALWAYS))
    desk.send(NEW, order(), 0)
    desk.send(CANCEL, order(), 0)
    assert kinds(desk.close(1)) == [K.POSITION, K.CASH], "it does not expire, it was cancelled"
    assert kinds(desk.send(QUERY, order(), 1)) == [K.CANCELLED]
    assert desk.bar(2) == []


def test_a_bust_undoes_a_fill_once() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS))
    desk.send(NEW, order(), 0)
    (fill,) = desk.bar(1)
    assert (desk.cash, desk.holding()) == (money(10_000) - money(1000) - money("0.1"), 10)
    told = [(minute, report) for minute in range(2, 40) for report in desk.bar(minute)]
    ((minute, bust),) = told
    assert bust == fill._replace(
        kind=K.BUST, time_ns=(minute - 1) * MINUTE, execution_id=2, reference_id=1, cumulative=0
    )
    assert (desk.cash, desk.holding()) == (money(10_000), 0)
    *both, end = desk.send(QUERY, order(), 40)
    assert both == [fill, bust], "a query brings both back"
    assert (end.kind, end.cumulative) == (K.CANCELLED, 0), "and says that it is over, with nothing filled"


def test_a_bar_trades_once() -> None:
    desk = Desk()
    desk.send(NEW, order(), 0)
    assert kinds(desk.bar(1, volume=50)) == [K.FILL]
    assert desk.bar(1, volume=50) == []
    assert kinds(desk.bar(2, volume=50)) == [K.FILL]


def test_a_working_order_fills_again_what_was_undone() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS))
    desk.send(NEW, order(quantity=25), 0)
    desk.bar(1, volume=100)
    desk.rules.faults[0].bust = 0
    told = [report for minute in range(2, 40) for report in desk.bar(minute, volume=10)]
    (bust,) = (k for k, report in enumerate(told) if report.kind == K.BUST)
    before = told[bust - 1].cumulative if bust > 0 else 10
    assert told[bust].cumulative == before - 10
    assert told[-1].cumulative == desk.holding() == 25


def test_a_fill_is_not_undone_in_another_session() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS))
    desk.send(NEW, order(), 0)
    desk.bar(1)
    desk.close(2)
    check_counts(desk)
    assert [report for minute in range(3, 40) for report in desk.bar(minute)] == []
    assert desk.holding() == 10


def test_only_a_fill_that_is_doomed_is_undone() -> None:
    desk = Desk(faults=faulty())
    desk.send(NEW, order(quantity=25), 0)
    for minute in range(1, 20):
        desk.bar(minute, volume=10)
    desk.rules.faults[0].bust = 999_999
    desk.bar(20, volume=10)
    desk.rules.faults[0].bust = 0
    told = [report for minute in range(21, 60) for report in desk.bar(minute)]
    assert [report.reference_id for report in told if report.kind == K.BUST] == [20]


def test_a_fill_of_a_forgotten_order_is_not_undone() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS))
    desk.send(NEW, order(), 0)
    desk.bar(1)
    for attempt in range(1, SLOTS + 1):
        desk.send(NEW, order(attempt=attempt), 1)
        desk.send(CANCEL, order(attempt=attempt), 1)
    assert [report for minute in range(2, 40) for report in desk.bar(minute)] == []
    assert desk.holding() == 10
    check_counts(desk)


def test_a_fill_is_undone_at_a_bar_of_its_own_instrument() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS))
    for i in (0, 1):
        desk.send(NEW, order(instrument=i), 0)
        desk.bar(1, i=i)
    told = [report for minute in range(2, 40) for report in desk.bar(minute, i=1)]
    assert [(report.kind, report.instrument) for report in told] == [(K.BUST, 1)]
    assert (desk.holding(0), desk.holding(1)) == (10, 0)


def test_a_fill_that_is_forgotten_is_not_undone() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS))
    desk.send(NEW, order(), 0)
    desk.bar(1)
    desk.rules.faults[0].bust = 0
    desk.send(NEW, order(1, instrument=1, quantity=FILLS), 1)
    for minute in range(2, FILLS + 2):
        desk.bar(minute, volume=10, i=1)
        check_counts(desk)
    assert desk.venue.holdings[0].doomed == 0
    assert desk.bar(FILLS + 3) == []
    assert desk.holding() == 10


def test_a_bust_that_the_books_could_not_hold_does_not_happen() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS), participation=1)
    lots = MAX_CASH // money(1_000_000) * 4 // 5
    desk.send(NEW, order(quantity=lots), 0)
    desk.bar(1, 1_000_000, volume=lots)
    desk.rules.faults[0].bust = 0
    desk.send(NEW, order(instrument=1, side=SELL, quantity=2 * lots), 0)
    for minute in range(1, 9):
        desk.bar(minute, 1_000_000, volume=lots, i=1)
    assert (desk.holding(0), desk.holding(1)) == (lots, -2 * lots)
    assert [report for minute in range(2, 40) for report in desk.bar(minute)] == []
    check_counts(desk)


def test_the_bust_of_a_sale_gives_back_what_was_sold() -> None:
    desk = Desk(faults=faulty(bust=ALWAYS), commission_share="0.001")
    desk.send(NEW, order(side=SELL), 0)
    desk.bar(1)
    for minute in range(2, 40):
        desk.bar(minute)
    assert (desk.cash, desk.holding()) == (money(10_000), 0)


def test_statements_are_never_faulty() -> None:
    everything = dict.fromkeys(("lose", "delay", "duplicate", "unknown"), ALWAYS)
    desk = Desk(1, faults=faulty(**everything))
    desk.venue.holdings[0].quantity = 3
    assert [(report.kind, report.quantity) for report in desk.close(1)] == [(K.POSITION, 3), (K.CASH, 0)]


def test_without_a_probability_nothing_is_drawn() -> None:
    desk = Desk(faults=faulty(seed=5))
    plain = Desk()
    before = int(desk.venue.book[0].random)
    for one in (desk, plain):
        one.send(NEW, order(quantity=25), 0)
        one.bar(1, volume=100)
        one.send(QUERY, order(quantity=25), 1)
        one.send(CANCEL, order(quantity=25), 1)
        one.close(2)
    assert desk.venue.book[0].random == before
    assert desk.told == plain.told


@pytest.mark.parametrize("probability", ["0.1", "0.5", "0.9"])
@pytest.mark.parametrize("seed", [0, 1, 2, 2**31 - 2, 2**62])
def test_faults_are_as_frequent_as_configured(seed: int, probability: str) -> None:
    desk = Desk(1, faults=faulty(seed=seed, reject=probability))
    for minute in range(400):
        desk.send(NEW, order(minute), minute)
        desk.bar(minute + 1)
    rejected = kinds(desk.told).count(K.REJECTED) / 400
    assert abs(rejected - float(probability)) < 0.1


def test_seeds_beside_each_other_give_other_faults() -> None:
    def run(seed: int) -> tuple[ExecutionKind, ...]:
        desk = Desk(1, faults=faulty(seed=seed, reject="0.5"))
        for minute in range(30):
            desk.send(NEW, order(minute), minute)
            desk.send(CANCEL, order(minute), minute)
        return tuple(kinds(desk.told))

    assert len({run(seed) for seed in range(20)}) == 20
    assert run(3) == run(3)


# --- all faults together

PROBABILITIES = st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("0.5"), ALWAYS])
FAULTS = st.builds(
    Faults,
    seed=st.integers(0, 2**62),
    delay_seconds=st.sampled_from([1, 90, 36_000]),
    **dict.fromkeys(
        (
            "reject",
            "partial",
            "delay",
            "lose",
            "duplicate",
            "fill_after_cancel",
            "unknown",
            "vanish",
            "bust",
        ),
        PROBABILITIES,
    ),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("new"),
            st.integers(0, 1),  # instrument
            st.sampled_from([BUY, SELL]),
            st.integers(-1, 60),  # quantity
            st.sampled_from([0, 99, 100, 101]),  # limit
            st.integers(0, 4),  # lifetime in bars
        ),
        st.tuples(st.sampled_from(["new again", "cancel", "query"]), st.integers(0, 60)),
        st.tuples(st.just("bar"), st.integers(0, 1), st.integers(98, 102), st.integers(0, 400)),
        st.tuples(st.just("bar"), st.integers(0, 1), st.integers(98, 102), st.integers(0, 400)),
        st.tuples(st.just("close")),
    ),
    max_size=60,
)


class Course(NamedTuple):
    """A desk after some steps, and the orders that were sent."""

    desk: Desk
    sent: list[Any]


def follow(steps: list[Any], faults: Faults | None, *, reload: bool) -> Course:
    desk = Desk(faults=faults, half_spread="0.001", commission_share="0.0001")
    sent: list[Any] = []
    minute = 0
    for step in steps:
        match step:
            case ("new", i, side, quantity, limit, bars):
                expires = (minute + bars) * MINUTE if bars else 0
                sent.append(
                    order(
                        minute,
                        instrument=i,
                        side=side,
                        quantity=quantity,
                        limit_price=money(limit),
                        expires_ns=expires,
                        attempt=len(sent),
                    )
                )
                desk.send(NEW, sent[-1], minute)
            case ("bar", i, price, volume):
                minute += 1
                desk.bar(minute, price, volume, i)
            case ("close",):
                desk.close(minute)
            case (request, k) if sent:
                kind = {"new again": NEW, "cancel": CANCEL, "query": QUERY}[request]
                desk.send(kind, sent[k % len(sent)], minute)
        check_counts(desk)
        if reload:
            desk.dump_and_load()
    return Course(desk, sent)


@settings(deadline=None, max_examples=400 if COMPILED else 60)
@given(steps=STEPS, faults=st.one_of(st.none(), FAULTS))
def test_whatever_happens_fills_less_busts_are_the_venues_books(
    steps: list[Any], faults: Faults | None
) -> None:
    desk, sent = follow(steps, faults, reload=False)
    desk.hear_the_rest()
    desk.rules.faults[0].lose = 0
    for request in sent:
        desk.send(QUERY, request, LATE // MINUTE)
    desk.hear(2 * LATE // MINUTE)

    executions: dict[int, Told] = {}
    for report in desk.told:
        if report.kind in (K.FILL, K.BUST):
            assert executions.setdefault(report.execution_id, report) == report, "one id, one content"
    assert sorted(executions) == list(range(1, len(executions) + 1)), "every execution was told"

    cash, held = money(10_000), [0, 0]
    filled = {
        (int(o.instrument[0]), int(o.order_ns[0]), int(o.intent[0]), int(o.attempt[0])): 0 for o in sent
    }
    asked = dict(zip(filled, sent, strict=True))
    busted = set()
    for report in executions.values():
        sign = 1 if report.kind == K.FILL else -1
        lots = sign * report.quantity
        signed = lots if report.side == BUY else -lots
        cash -= signed * report.price + sign * report.fee
        held[report.instrument] += signed
        filled[report.order] += lots
        assert filled[report.order] == report.cumulative
        request = asked[report.order]
        assert 0 <= report.cumulative <= request.quantity[0]
        assert report.side == request.side[0]
        if sign < 0:
            fill = executions[report.reference_id]
            assert report.reference_id not in busted
            busted.add(report.reference_id)
            assert (fill.kind, fill.order) == (K.FILL, report.order)
            assert (fill.quantity, fill.price, fill.fee) == (report.quantity, report.price, report.fee)
            assert fill.execution_id < report.execution_id
            assert fill.time_ns < report.time_ns
        elif request.limit_price[0] > 0:
            beyond = report.price - int(request.limit_price[0])
            assert beyond <= 0 if report.side == BUY else beyond >= 0
    assert desk.cash == cash
    assert [desk.holding(0), desk.holding(1)] == held
    for mine in desk.venue.orders:
        if mine.quantity > 0:
            order_id = (int(mine.instrument), int(mine.order_ns), int(mine.intent), int(mine.attempt))
            assert filled[order_id] == mine.cumulative


@settings(deadline=None, max_examples=100 if COMPILED else 30)
@given(steps=STEPS, faults=FAULTS)
def test_the_same_seed_gives_the_same_reports_wherever_the_state_is_dumped_and_loaded(
    steps: list[Any], faults: Faults
) -> None:
    one = follow(steps, faults, reload=False).desk
    other = follow(steps, faults, reload=True).desk
    assert one.hear_the_rest() == other.hear_the_rest()
    assert one.told == other.told
    assert one.venue.words.tobytes() == other.venue.words.tobytes()
