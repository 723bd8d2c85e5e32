"""A venue's reports: what each does to an order, a position and the ledger, also where they come late, twice,
out of order, or make no sense.

Most tests start from an entry of 50 QQQ at 100, ordered at the first minute of a session of an hour.
"""

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from account_fixtures import (
    BULL,
    BULL3,
    COMPILED,
    MICRO,
    PSQ,
    QQQ,
    TQQQ,
    Desk,
    Said,
    at,
    minutes,
    money,
    report,
    strategy,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.account_state import PAST, SEEN
from operators.gates.size import MAX_LOTS
from operators.reports import MOST_LOTS, MOST_MONEY, MOST_VALUE
from schemas.codes import (
    AlertKind,
    Breaker,
    HaltLevel,
    Intent,
    OrderEvent,
    OrderKind,
    OrderState,
    Outcome,
    PositionPhase,
    Reason,
    Side,
    Stage,
    Verdict,
)
from schemas.codes import ExecutionKind as Kind
from schemas.config import NS
from schemas.records import MAX_INT, MAX_MICRO

BUY, SELL = int(Side.BUY), int(Side.SELL)
START = 10_000
MISSING, BLOCKED, SETTLED = Reason.MISSING_FILL, Reason.BLOCKED, Reason.NONE
ENDS = {
    Kind.CANCELLED: OrderState.CANCELLED,
    Kind.EXPIRED: OrderState.EXPIRED,
    Kind.REPLACED: OrderState.REPLACED,
}


def entered(**changes: Any) -> tuple[Desk, Any]:
    """An entry has been sent, and nothing was heard."""
    desk = Desk.of(**changes)
    desk.bars(1, BULL)
    return desk, desk.order()


def working(**changes: Any) -> tuple[Desk, Any]:
    """The venue has it."""
    desk, order = entered(**changes)
    desk.hear(report(Kind.ACCEPTED, order))
    return desk, order


def holding(**changes: Any) -> tuple[Desk, Any]:
    """It has filled."""
    desk, order = working(**changes)
    desk.hear(desk.fill(order, 50, cumulative=50))
    return desk, order


def leaving(**changes: Any) -> tuple[Desk, Any]:
    """An exit has been sent, and nothing was heard."""
    desk, _ = holding(**changes)
    desk.bars(2)
    return desk, desk.order()


def position(desk: Desk, instrument: int = QQQ) -> int:
    return desk.player.position(instrument)


def cash(desk: Desk) -> Decimal:
    return Decimal(int(desk.player.account.cash)) / MICRO


def rows(desk: Desk) -> list[tuple[Kind, int, int, int, int]]:
    """(kind, quantity, cumulative, leaves, late) of every execution."""
    return [
        (Kind(int(e.kind)), int(e.quantity), int(e.cumulative), int(e.leaves), int(e.late))
        for e in desk.player.executions
    ]


def sales(desk: Desk) -> list[tuple[int, int, int]]:
    """(side, quantity, limit) of every exit."""
    return [
        (int(o.side), int(o.quantity), int(o.limit_price)) for o in desk.sent() if o.intent == Intent.EXIT
    ]


def unchanged(desk: Desk, before: Any) -> bool:
    """Is the state as before, but for time and what counts rows?"""
    now = desk.player.state.words.copy()
    names = desk.player.state.account.dtype.names
    for name in (
        "offset",
        "time_ns",
        "tokens",
        "tokens_ns",
        "reports",
        "repeated_reports",
        "groups",
        "capital_use",
        "ticks",
    ):
        now[names.index(name)] = before[names.index(name)]
    return bool((now == before).all())


# --- normal life


def test_an_order_is_acknowledged_and_fills_in_parts() -> None:
    desk, order = entered()
    assert (order.quantity, desk.state()) == (50, OrderState.SUBMITTED)
    desk.hear(report(Kind.ACCEPTED, order))
    assert desk.state() == OrderState.WORKING
    desk.hear(desk.fill(order, 20, "99.5", fee=money("0.2"), cumulative=20))
    assert (desk.state(), position(desk)) == (OrderState.PARTIAL, 20)
    assert cash(desk) == START - 1990 - Decimal("0.2")
    desk.hear(desk.fill(order, 30, cumulative=50))
    assert (desk.state(), position(desk)) == (OrderState.FILLED, 50)
    assert cash(desk) == START - 4990 - Decimal("0.2")
    assert rows(desk) == [(Kind.FILL, 20, 20, 30, 0), (Kind.FILL, 30, 50, 0, 0)]
    assert (desk.alerts, desk.blocked(), desk.asked()) == ([], SETTLED, [])
    assert desk.player.account.fills == 2


def test_an_execution_says_when_it_happened_and_when_it_was_known() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 20, time_ns=desk.now + NS // 2, cumulative=20))
    (row,) = desk.player.executions
    assert (row.time_ns, row.known_ns) == (at(0, 1) + 3 * NS // 2, at(0, 1) + 2 * NS)
    assert (row.execution_id, row.order_ns, row.intent, row.attempt) == (1, at(0, 1), Intent.ENTRY, 0)
    assert (row.position, row.cash) == (20, money(8000))


@pytest.mark.parametrize(("quantity", "state"), [(20, OrderState.PARTIAL), (50, OrderState.FILLED)])
def test_a_fill_may_come_before_the_acknowledgement(quantity: int, state: OrderState) -> None:
    desk, order = entered()
    desk.hear(desk.fill(order, quantity, cumulative=quantity))
    assert (desk.state(), position(desk)) == (state, quantity)
    desk.hear(report(Kind.ACCEPTED, order, cumulative=quantity))
    assert (desk.state(), position(desk)) == (state, quantity)
    assert (desk.alerts, desk.blocked()) == ([], SETTLED)


@pytest.mark.parametrize("kind", [Kind.CANCELLED, Kind.EXPIRED, Kind.REJECTED])
@pytest.mark.parametrize("acknowledged", [False, True])
def test_an_order_ends(kind: Kind, acknowledged: bool) -> None:
    desk, order = working() if acknowledged else entered()
    desk.hear(report(kind, order))
    assert desk.state() == ENDS.get(kind, OrderState.REJECTED)
    assert rows(desk) == [(kind, 0, 0, 0, 0)]
    assert (desk.alerts, position(desk), desk.player.account.reserved) == ([], 0, 0)


def test_what_was_filled_stays_when_the_rest_is_cancelled() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 20, cumulative=20))
    desk.hear(report(Kind.CANCELLED, order, cumulative=20))
    assert (desk.state(), position(desk)) == (OrderState.CANCELLED, 20)
    assert rows(desk)[-1] == (Kind.CANCELLED, 0, 20, 0, 0)
    assert desk.alerts == []


def test_an_order_that_was_suspended_goes_on() -> None:
    desk, order = working()
    desk.hear(report(Kind.SUSPENDED, order))
    assert desk.state() == OrderState.SUSPENDED
    desk.hear(report(Kind.ACCEPTED, order))
    assert desk.state() == OrderState.WORKING
    assert desk.alerts == []


# --- twice


def test_the_same_report_again_changes_nothing() -> None:
    desk, order = working()
    fill = desk.fill(order, 20, cumulative=20)
    desk.hear(fill)
    before = desk.player.state.words.copy()
    desk.hear(fill)
    desk.hear(fill, fill, report(Kind.ACCEPTED, order))
    assert unchanged(desk, before)
    assert len(rows(desk)) == 1
    assert desk.player.account.repeated_reports == 4


def test_the_same_fill_twice_in_one_group_is_one_fill() -> None:
    desk, order = working()
    fill = desk.fill(order, 20, cumulative=20)
    desk.hear(fill, fill)
    assert position(desk) == 20


@pytest.mark.parametrize("kind", [*ENDS, Kind.REJECTED])
def test_the_same_end_again_changes_nothing(kind: Kind) -> None:
    desk, order = working()
    desk.bars(2)
    desk.hear(report(Kind.CANCEL_REFUSED, order))
    desk.hear(report(kind, order))
    before = desk.player.state.words.copy()
    desk.hear(report(kind, order))
    desk.hear(report(Kind.ACCEPTED, order))
    desk.hear(report(Kind.CANCEL_REFUSED, order))
    assert unchanged(desk, before)


@pytest.mark.parametrize(
    "other",
    [
        {"quantity": 21},
        {"price": money(101)},
        {"fee": 1},
        {"side": SELL},
        {"attempt": 1},
        {"order_ns": 1},
        {"intent": Intent.EXIT},
        {"kind": Kind.BUST, "reference_id": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_the_same_id_with_other_content_is_not_applied(other: dict[str, int]) -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 20, execution_id=77, cumulative=20))
    altered = desk.fill(order, 20, execution_id=77, cumulative=20)
    for name, value in other.items():
        altered[name] = value
    desk.hear(altered)
    assert (position(desk), len(rows(desk))) == (20, 1)
    assert desk.alerts == [Said(AlertKind.EXECUTION_ALTERED, 77, 0)]
    assert desk.blocked() == BLOCKED


def test_an_altered_report_blocks_the_instrument_that_it_names() -> None:
    desk, order = working()
    fill = desk.fill(order, 20, cumulative=20)
    other = desk.fill(order, 20, execution_id=fill.execution_id, instrument=PSQ)
    desk.hear(fill)
    desk.hear(other)
    assert (desk.blocked(QQQ), desk.blocked(PSQ), position(desk, PSQ)) == (SETTLED, BLOCKED, 0)


def remembered(others: int) -> Desk:
    """A fill, as many charges with ids of their own, and the fill again."""
    desk, order = working()
    fill = desk.fill(order, 20, execution_id=MAX_INT, cumulative=20)
    desk.hear(fill)
    charge(desk, others)
    desk.hear(fill)
    return desk


def charge(desk: Desk, count: int) -> None:
    """So many charges, each with an id of its own."""
    for first in range(0, count, 32):
        part = range(first, min(first + 32, count))
        desk.hear(*[report(Kind.FEE, execution_id=1000 + k, fee=1) for k in part], after=0.001)


def test_the_last_ids_are_remembered() -> None:
    assert position(remembered(SEEN - 1)) == 20


def test_an_id_is_forgotten_when_as_many_others_came_after_it() -> None:
    """The bound of the memory: a report repeated after so many others is booked twice."""
    assert position(remembered(SEEN)) == 40


# --- fills out of order, and missing


def test_fills_may_come_in_any_order() -> None:
    desk, order = working()
    second = desk.fill(order, 10, 102, cumulative=20)
    first = desk.fill(order, 10, 101, cumulative=10)
    desk.hear(second)
    assert (position(desk), desk.state(), desk.blocked()) == (10, OrderState.PARTIAL, MISSING)
    assert desk.alerts == [Said(AlertKind.MISSING_FILL, 20, 10)]
    assert desk.asked() == [(desk.now, QQQ, 0)]
    desk.hear(first)
    assert (position(desk), desk.blocked(), cash(desk)) == (20, SETTLED, START - 2030)
    desk.hear(desk.fill(order, 30, cumulative=50))
    assert (position(desk), desk.state(), desk.blocked()) == (50, OrderState.FILLED, SETTLED)
    assert [late for *_, late in rows(desk)] == [0, 0, 0]
    assert len(desk.alerts) == 1


def test_a_cumulative_below_the_known_is_stale() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 10, cumulative=10), desk.fill(order, 10, cumulative=20))
    desk.hear(report(Kind.ACCEPTED, order, cumulative=0), report(Kind.ACCEPTED, order, cumulative=10))
    desk.hear(desk.fill(order, 5, cumulative=5))  # it names fewer lots than are known
    assert (position(desk), desk.state(), desk.blocked()) == (25, OrderState.PARTIAL, SETTLED)
    assert desk.alerts == []


@pytest.mark.parametrize(
    "kind", [Kind.ACCEPTED, Kind.SUSPENDED, Kind.CANCELLED, Kind.EXPIRED, Kind.REPLACED, Kind.LOST]
)
def test_any_report_can_tell_of_a_missing_fill(kind: Kind) -> None:
    desk, order = entered() if kind == Kind.LOST else working()
    desk.hear(report(kind, order, cumulative=30))
    assert (desk.blocked(), position(desk)) == (MISSING, 0)
    assert Said(AlertKind.MISSING_FILL, 30, 0) in desk.alerts
    desk.hear(desk.fill(order, 30, cumulative=30))
    assert (desk.blocked(), position(desk)) == (SETTLED, 30)


def test_a_missing_fill_is_asked_for_again_and_again() -> None:
    desk, order = working()
    desk.hear(report(Kind.CANCELLED, order, cumulative=20))
    first = desk.now
    desk.wait(9.999999999)
    assert [t for t, *_ in desk.asked()] == [first]
    desk.wait(0.000000001)
    desk.wait(10)
    assert [t - first for t, *_ in desk.asked()] == [0, 10 * NS, 20 * NS]
    assert len(desk.alerts) == 1
    desk.hear(desk.fill(order, 20, cumulative=20))
    desk.wait(20)
    assert len(desk.asked()) == 3
    assert desk.player.account.queries == 3


def test_where_a_fill_is_missing_nothing_is_added() -> None:
    desk, order = working(orders__entry_lifetime_bars=20)
    desk.hear(report(Kind.CANCELLED, order, cumulative=20))
    desk.bars(2, BULL)
    assert len(desk.sent()) == 1
    refused = desk.player.decisions[-1]
    assert (refused.stage, refused.outcome) == (Stage.RECONCILIATION, Outcome.REFUSED)
    desk.hear(desk.fill(order, 20, cumulative=20))
    desk.bars(3, BULL)
    assert desk.order().quantity == 30


def test_what_may_be_sold_already_is_not_sold_again() -> None:
    desk, order = leaving()
    desk.hear(report(Kind.ACCEPTED, order), desk.fill(order, 10, cumulative=10))
    desk.hear(report(Kind.EXPIRED, order, cumulative=30))  # 20 of them have not been told
    desk.wait(20)
    assert position(desk) == 40
    assert sales(desk) == [(SELL, 50, money(98)), (SELL, 20, money(98))]
    desk.hear(desk.fill(order, 20, cumulative=30))
    again = desk.order()
    desk.hear(desk.fill(again, 20, cumulative=20))
    assert (position(desk), desk.blocked()) == (0, SETTLED)
    assert len(desk.sent()) == 3


def test_where_all_of_it_may_be_sold_nothing_is_sold() -> None:
    desk, order = leaving()
    desk.hear(report(Kind.EXPIRED, order, cumulative=50))
    desk.wait(60)
    assert (len(desk.sent()), position(desk)) == (2, 50)
    desk.hear(desk.fill(order, 50, cumulative=50))
    assert (position(desk), desk.blocked(), phase(desk)) == (0, SETTLED, PositionPhase.FLAT)


def phase(desk: Desk, instrument: int = QQQ) -> PositionPhase:
    return PositionPhase(int(desk.player.state.positions[instrument].phase))


def test_a_position_is_not_flat_while_a_fill_is_missing() -> None:
    desk, order = working()
    desk.hear(report(Kind.CANCELLED, order, cumulative=20))
    assert (position(desk), phase(desk)) != (0, PositionPhase.FLAT)


def test_what_may_be_sold_already_is_not_sold_again_where_more_is_wrong() -> None:
    desk, order = leaving()
    desk.hear(desk.fill(order, 1, attempt=9))  # no order of ours: blocked
    desk.hear(report(Kind.EXPIRED, order, cumulative=50))
    desk.wait(20)
    assert (len(desk.sent()), position(desk)) == (2, 49)
    assert desk.asked() != []


def test_fills_missing_of_two_orders_are_both_waited_for() -> None:
    desk, order = leaving()
    entry = desk.sent()[0]
    desk.hear(report(Kind.ACCEPTED, order), report(Kind.ACCEPTED, entry, cumulative=55))
    desk.hear(desk.fill(order, 10, cumulative=20))
    desk.wait(10)
    asked = [o for o in desk.player.orders if o.kind == OrderKind.QUERY and o.time_ns == desk.now]
    assert [int(o.intent) for o in asked] == [Intent.EXIT, Intent.ENTRY]
    desk.hear(desk.fill(order, 10, cumulative=20))
    assert desk.blocked() == MISSING
    desk.hear(desk.fill(entry, 5, cumulative=55))
    assert (desk.blocked(), position(desk)) == (BLOCKED, 35)  # five lots more than were ordered


# --- late fills


@pytest.mark.parametrize("kind", ENDS)
def test_a_late_fill_is_applied_and_flagged(kind: Kind) -> None:
    desk, order = working()
    desk.hear(report(kind, order))
    desk.hear(desk.fill(order, 20, cumulative=20))
    assert (desk.state(), position(desk)) == (ENDS[kind], 20)
    assert desk.alerts == [Said(AlertKind.LATE_FILL, 20, 50)]
    assert rows(desk)[-1] == (Kind.FILL, 20, 20, 0, 1)
    assert (desk.player.account.late_fills, desk.blocked()) == (1, SETTLED)


@pytest.mark.parametrize("kind", ENDS)
def test_a_late_fill_that_was_announced_is_not_flagged(kind: Kind) -> None:
    desk, order = working()
    desk.hear(report(kind, order, cumulative=20))
    desk.hear(desk.fill(order, 15, cumulative=15))
    desk.hear(desk.fill(order, 5, cumulative=20))
    assert [a.kind for a in desk.alerts] == [AlertKind.MISSING_FILL]
    assert [late for *_, late in rows(desk)] == [0, 0, 0]
    desk.hear(desk.fill(order, 1, cumulative=21))  # this one was not
    assert desk.alerts[1:] == [Said(AlertKind.LATE_FILL, 21, 50)]
    assert (position(desk), desk.player.account.late_fills) == (21, 1)


def test_a_late_fill_that_nobody_wants_any_more_is_sold() -> None:
    desk, order = working()
    desk.bars(2)
    assert desk.asked(OrderKind.CANCEL) == [(at(0, 2), QQQ, 0)]
    desk.hear(report(Kind.CANCELLED, order))
    desk.hear(desk.fill(order, 20, cumulative=20))
    assert sales(desk) == [(SELL, 20, money(98))]


def test_a_late_fill_of_an_order_before_the_last_one_is_applied() -> None:
    desk, order = working()
    desk.hear(report(Kind.CANCELLED, order))
    desk.bars(2, BULL)
    again = desk.order()
    assert (again.order_ns, again.quantity) == (at(0, 2), 50)
    desk.hear(desk.fill(order, 20, cumulative=20))
    assert (position(desk), desk.state()) == (20, OrderState.SUBMITTED)
    assert desk.alerts == [Said(AlertKind.LATE_FILL, 20, 50)]
    assert desk.player.state.past[0].cumulative == 20


def rejected_exits(count: int) -> Desk:
    """An entry that was cancelled, another that filled, and so many exits that the venue refused."""
    desk, order = working(
        orders__retry_seconds=0,
        breakers__exit_failure__attempts=100,
        breakers__exit_failure__no_progress_seconds=3600,
    )
    desk.hear(report(Kind.CANCELLED, order))
    desk.bars(2, BULL)
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    desk.bars(3)
    for _ in range(count):
        desk.hear(report(Kind.REJECTED, desk.order()))
    assert len(desk.sent()) == 3 + count
    return desk


def test_the_orders_before_the_last_one_are_remembered() -> None:
    desk = rejected_exits(PAST - 2)
    desk.hear(desk.fill(desk.sent()[0], 7, cumulative=7))
    assert desk.alerts == [Said(AlertKind.LATE_FILL, 7, 50)]
    assert position(desk) == 57


def test_an_order_that_is_no_longer_remembered_is_not_ours() -> None:
    """The bound of the memory: its fill is booked, and somebody has to look at it."""
    desk = rejected_exits(PAST - 1)
    desk.hear(desk.fill(desk.sent()[0], 7, cumulative=7))
    assert desk.alerts == [Said(AlertKind.EXTERNAL_ORDER, 7, 0)]
    assert (position(desk), desk.blocked()) == (57, BLOCKED)


# --- what contradicts what the venue said before


def test_a_fill_of_a_rejected_order_is_applied_and_blocks() -> None:
    desk, order = entered()
    desk.hear(report(Kind.REJECTED, order))
    desk.hear(desk.fill(order, 20, cumulative=20))
    assert (desk.state(), position(desk), desk.blocked()) == (OrderState.REJECTED, 20, BLOCKED)
    assert desk.alerts == [Said(AlertKind.CONTRADICTION, 20, 50)]
    assert rows(desk)[-1] == (Kind.FILL, 20, 20, 0, 1)
    desk.bars(2, BULL)
    assert len(desk.sent()) == 1
    assert desk.player.decisions[-1].stage == Stage.RECONCILIATION
    desk.bars(3)
    assert sales(desk) == [(SELL, 20, money(98))]  # reducing stays possible


def test_a_buy_above_its_quantity_is_booked_as_the_venue_says() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 60, cumulative=60))
    assert (desk.player.state.past[0].state, position(desk), desk.blocked()) == (
        OrderState.FILLED,
        60,
        BLOCKED,
    )
    assert desk.alerts == [Said(AlertKind.OVERFILL, 60, 50)]
    assert rows(desk) == [(Kind.FILL, 60, 60, 0, 1)]
    assert sales(desk) == [(SELL, 10, money(98))]  # what is above the target is sold


def test_a_fill_above_what_is_left_is_an_overfill() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 20, cumulative=20), desk.fill(order, 31, cumulative=51))
    assert desk.alerts == [Said(AlertKind.OVERFILL, 51, 50)]
    assert position(desk) == 51


def test_what_the_venue_sells_above_an_exit_is_bought_back_at_any_price() -> None:
    desk, order = leaving()
    desk.hear(desk.fill(order, 60, cumulative=60))
    assert (position(desk), desk.blocked(), phase(desk)) == (-10, BLOCKED, PositionPhase.EXITING)
    cover = desk.order()
    assert (cover.side, cover.intent, cover.quantity, cover.limit_price) == (BUY, Intent.EXIT, 10, 0)
    decision = next(d for d in desk.player.decisions if d.sequence == cover.decision)
    assert (decision.stage, decision.reason) == (Stage.LIFECYCLE, Reason.OVERSOLD)
    account = desk.player.account
    assert (account.breaches[5], account.denied[5] > 0) == (0, True)
    desk.hear(desk.fill(cover, 10, cumulative=10))
    assert (position(desk), phase(desk), desk.state()) == (0, PositionPhase.FLAT, OrderState.FILLED)
    assert desk.player.account.breaches.tolist() == [0] * 6
    desk.bars(3, BULL)
    assert desk.order().intent == Intent.EXIT, "nothing is added until it is settled"


def test_a_fill_on_the_other_side_is_booked_as_the_venue_says() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 20, side=SELL, cumulative=20))
    assert (position(desk), desk.blocked()) == (-20, BLOCKED)
    assert desk.alerts == [Said(AlertKind.WRONG_SIDE, 20, 50)]
    assert desk.state() == OrderState.PENDING_CANCEL
    assert rows(desk) == [(Kind.FILL, 20, 0, 0, 1)]
    desk.hear(report(Kind.CANCELLED, order))
    assert sales(desk) == [(BUY, 20, 0)]
    desk.hear(desk.fill(desk.order(), 20, cumulative=20))
    assert position(desk) == 0
    assert desk.player.account.breaches.tolist() == [0] * 6


FOREIGN = {"instrument": TQQQ, "order_ns": 12345, "attempt": 3}


def test_a_fill_of_no_order_of_ours_is_booked_for_nobody_and_sold() -> None:
    desk, order = holding()
    desk.hear(desk.fill(order, 30, 50, **FOREIGN))
    assert (position(desk, TQQQ), desk.blocked(TQQQ), desk.blocked(QQQ)) == (30, BLOCKED, SETTLED)
    assert desk.alerts == [Said(AlertKind.EXTERNAL_ORDER, 30, 0)]
    assert rows(desk)[-1] == (Kind.FILL, 30, 0, 0, 1)
    nobody = desk.player.rules.instruments[TQQQ].last_holding - 1
    assert desk.player.state.holdings[nobody].quantity == 30
    cover = desk.order(TQQQ)
    assert (cover.side, cover.quantity, cover.strategy) == (
        SELL,
        30,
        desk.player.state.positions[TQQQ].strategy,
    )
    assert desk.player.account.breaches.tolist() == [0] * 6


@pytest.mark.parametrize(
    "kind", [Kind.ACCEPTED, Kind.CANCELLED, Kind.REJECTED, Kind.LOST, Kind.CANCEL_REFUSED]
)
def test_word_of_no_order_of_ours_blocks(kind: Kind) -> None:
    desk, order = holding()
    desk.hear(report(kind, order, cumulative=4, **FOREIGN))
    assert desk.alerts == [Said(AlertKind.EXTERNAL_ORDER, kind, 4)]
    assert (desk.blocked(TQQQ), position(desk, TQQQ), len(rows(desk))) == (BLOCKED, 0, 1)


def test_the_absence_of_an_order_that_is_not_ours_says_nothing() -> None:
    desk, order = holding()
    desk.hear(report(Kind.ABSENT, order, **FOREIGN))
    assert (desk.alerts, desk.blocked(TQQQ)) == ([], SETTLED)


@pytest.mark.parametrize("field", ["order_ns", "attempt", "intent"])
def test_an_order_is_known_by_all_parts_of_its_id(field: str) -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 1, **{field: int(order[field]) + 1}))
    assert [a.kind for a in desk.alerts] == [AlertKind.EXTERNAL_ORDER]
    assert desk.player.state.orders[QQQ].cumulative == 0


def test_an_entry_is_cancelled_where_its_instrument_is_blocked() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 1, attempt=9))
    assert desk.asked(OrderKind.CANCEL) == [(desk.now, QQQ, 0)]


# --- what means nothing


IMPOSSIBLE = [
    {"quantity": 0},
    {"quantity": -5},
    {"quantity": MAX_LOTS + 1},
    {"quantity": MAX_INT},
    {"price": 0},
    {"price": -money(100)},
    {"price": MAX_MICRO},
    {"price": MAX_INT},
    {"price": -MAX_INT},
    {"quantity": MAX_LOTS, "price": MAX_MICRO // MAX_LOTS},
    {"fee": MAX_MICRO},
    {"fee": -MAX_MICRO},
    {"fee": MAX_INT},
    {"side": 2},
    {"side": -1},
    {"execution_id": -1},
]


@pytest.mark.parametrize("kind", [Kind.FILL, Kind.BUST])
@pytest.mark.parametrize("fields", IMPOSSIBLE, ids=str)
def test_an_impossible_execution_is_refused_and_blocks(fields: dict[str, int], kind: Kind) -> None:
    desk, order = working()
    wrong = desk.fill(order, 20)
    wrong.kind = kind
    for name, value in fields.items():
        wrong[name] = value
    desk.hear(wrong)
    assert desk.alerts == [Said(AlertKind.EXECUTION_REFUSED, int(wrong.quantity), int(wrong.price))]
    assert (position(desk), cash(desk), desk.blocked(), rows(desk)) == (0, START, BLOCKED, [])
    assert (desk.player.account.refused_reports, desk.player.account.level) == (1, HaltLevel.ACTIVE)


def test_the_largest_execution_that_is_possible_is_booked() -> None:
    desk, order = working()
    most = MOST_VALUE // money(100)
    desk.hear(desk.fill(order, 1, execution_id=MAX_INT))
    largest = MOST_MONEY - money(START - 100) - 1
    desk.hear(desk.fill(order, most), desk.fill(order, most - 1, fee=largest + 1))
    assert (position(desk), desk.alerts[-1].kind) == (1, AlertKind.EXECUTION_REFUSED)
    desk.hear(desk.fill(order, most - 1, fee=largest))
    assert position(desk) == most
    assert cash(desk) == START - Decimal(most * money(100) + largest) / MICRO


def test_so_many_lots_that_their_square_would_not_fit_are_refused() -> None:
    desk = Desk.of()
    for price in (1, 2, 3):
        cheap = desk.fill(None, MAX_LOTS, instrument=PSQ)
        cheap.price = price
        desk.hear(cheap)
    assert position(desk, PSQ) == MOST_LOTS
    assert cash(desk) == START - Decimal(3 * MAX_LOTS) / MICRO


@pytest.mark.parametrize("name", ["price", "reference_price"])
def test_lots_are_valued_at_each_price_that_a_fill_names(name: str) -> None:
    desk, order = working()
    dear = desk.fill(order, 20)
    dear[name] = MOST_VALUE // 20 + 1
    desk.hear(dear)
    assert (position(desk), desk.alerts[0].kind) == (0, AlertKind.EXECUTION_REFUSED)
    dear[name] -= 1
    desk.hear(dear)
    assert position(desk) == 20


def test_a_position_of_all_the_money_there_may_be_is_entered_and_left() -> None:
    desk, order = dear()
    desk.hear(desk.fill(order, 450, DEAR // MICRO, cumulative=450))
    desk.bars(2, price=lambda *_: (2 * DEAR, 2 * DEAR))
    desk.hear(desk.fill(desk.order(), 450, 2 * DEAR // MICRO, cumulative=450))
    assert (position(desk), cash(desk), desk.alerts) == (0, 1_350_000_000, [])


@pytest.mark.parametrize("instrument", [-1, -2, 4, 10**9, -(10**9)])
@pytest.mark.parametrize(
    "kind", [Kind.FILL, Kind.BUST, Kind.ACCEPTED, Kind.LOST, Kind.ABSENT, Kind.POSITION, Kind.FEE]
)
def test_a_report_of_no_instrument_halts_the_account(instrument: int, kind: Kind) -> None:
    desk, order = holding()
    wrong = desk.fill(order, 20, instrument=instrument)
    wrong.kind = kind
    desk.hear(wrong)
    if (kind, instrument) == (Kind.FEE, -1):  # a charge is of the account
        assert desk.alerts == []
        return
    assert desk.alerts == [
        Said(AlertKind.EXECUTION_REFUSED, 20, money(100)),
        Said(AlertKind.HALT_LEVEL, HaltLevel.ACTIVE, HaltLevel.HALTED),
    ]
    assert desk.player.alerts.instrument.tolist() == [-1, -1]
    assert (position(desk), desk.player.account.level) == (50, HaltLevel.HALTED)


@pytest.mark.parametrize("fields", [{"fee": MAX_INT}, {"fee": -MAX_INT}, {"execution_id": -1}], ids=str)
def test_an_impossible_charge_is_refused(fields: dict[str, int]) -> None:
    desk, _ = holding()
    before = cash(desk)
    for number in (9, 10, 11):
        desk.hear(report(Kind.FEE, **({"execution_id": number, "fee": 1} | fields)))
    assert cash(desk) == before
    assert desk.alerts[0].kind == AlertKind.EXECUTION_REFUSED


def test_an_impossible_statement_of_cash_differs_and_nothing_else() -> None:
    desk, _ = holding()
    desk.hear(report(Kind.CASH, price=-MAX_INT))
    assert desk.alerts == [Said(AlertKind.RECONCILIATION, -MAX_INT, money(5000))]


@pytest.mark.parametrize("fee", [0, money(9_000_000_000), -money(9_000_000_000)])
@pytest.mark.parametrize(("bought", "sold"), [(100, 1), (1, 100), (100, 100)])
def test_no_number_of_large_executions_overflows_the_ledger(bought: int, sold: int, fee: int) -> None:
    desk, order = working()
    lots = MOST_VALUE // money(100)
    for _ in range(40):
        for side, price in ((BUY, bought), (SELL, sold)):
            desk.hear(desk.fill(order, lots, price, attempt=9, side=side, fee=fee, reference_price=1))
    assert AlertKind.EXECUTION_REFUSED in [a.kind for a in desk.alerts]
    account = desk.player.account
    for name in ("cash", "fees", "realised", "costs", "equity", "peak_equity", "max_drawdown"):
        assert abs(int(account[name])) < MAX_MICRO


DEAR = money(1_000_000)  # the highest price of the tests' configuration


def dear() -> tuple[Desk, Any]:
    """An entry of 450 lots of an instrument as dear as can be."""
    most = {"account__cash": 900_000_000, "gates__size__max_position_value": 900_000_000}
    desk = Desk.of(**most)
    desk.bars(1, BULL, price=lambda *_: (DEAR, DEAR))
    assert desk.order().quantity == 450
    return desk, desk.order()


def test_no_lots_are_too_many_to_be_valued() -> None:
    desk, order = dear()
    absurd = desk.fill(order, MAX_LOTS, attempt=9)
    absurd.price = 1
    desk.hear(absurd)
    assert [a.kind for a in desk.alerts] == [AlertKind.EXECUTION_REFUSED]


def test_no_lots_that_are_missing_are_too_many_to_be_valued() -> None:
    desk, order = dear()
    desk.hear(report(Kind.CANCELLED, order, cumulative=MAX_LOTS))
    desk.wait(60)
    assert AlertKind.EXECUTION_REFUSED in [a.kind for a in desk.alerts]


def test_fees_that_pay_for_large_executions_do_not_overflow() -> None:
    desk, order = working()
    for _ in range(20):
        large = desk.fill(order, MAX_LOTS, attempt=9, fee=1 - MAX_MICRO)
        large.price = MAX_MICRO // MAX_LOTS - 1
        desk.hear(large)
    assert {a.kind for a in desk.alerts} == {AlertKind.EXECUTION_REFUSED}
    assert (position(desk), cash(desk)) == (0, START)


@pytest.mark.parametrize("cumulative", [MAX_INT, MAX_LOTS + 1, -1, -MAX_INT])
@pytest.mark.parametrize("kind", [Kind.ACCEPTED, Kind.CANCELLED, Kind.FILL])
def test_an_impossible_cumulative_is_refused(kind: Kind, cumulative: int) -> None:
    desk, order = working()
    wrong = desk.fill(order, 20, cumulative=cumulative)
    wrong.kind = kind
    desk.hear(wrong)
    assert [a.kind for a in desk.alerts] == [AlertKind.EXECUTION_REFUSED]
    assert (desk.blocked(), position(desk)) == (BLOCKED, 0)


def test_impossible_cumulatives_of_several_orders_are_refused() -> None:
    desk, first = working()
    desk.hear(report(Kind.CANCELLED, first))
    desk.bars(2, BULL)
    entry = desk.order()
    desk.hear(desk.fill(entry, 50, cumulative=50))
    desk.bars(3)
    desk.hear(report(Kind.REJECTED, desk.order(), cumulative=MAX_INT))
    desk.hear(report(Kind.ACCEPTED, entry, cumulative=MAX_INT))
    desk.hear(report(Kind.ACCEPTED, first))
    assert [a.kind for a in desk.alerts] == [AlertKind.EXECUTION_REFUSED] * 2


# --- busts


def test_a_bust_undoes_its_fill() -> None:
    desk, order = working()
    fill = desk.fill(order, 20, 99, fee=money(3), cumulative=20)
    desk.hear(fill, desk.fill(order, 10, 100, fee=money(1), cumulative=30))
    desk.hear(desk.bust(fill, cumulative=10))
    assert (position(desk), cash(desk)) == (10, START - 1001)
    assert desk.player.account.fees == money(1)
    assert desk.alerts == [Said(AlertKind.BUST, 20, 1)]
    assert rows(desk)[-1] == (Kind.BUST, 20, 10, 40, 1)
    assert (desk.blocked(), desk.player.account.busts, desk.player.account.fills) == (SETTLED, 1, 2)
    assert desk.player.state.orders[QQQ].cumulative == 10


def test_a_bust_may_come_before_its_fill() -> None:
    desk, order = working()
    fill = desk.fill(order, 20, fee=money(3), cumulative=20)
    desk.hear(desk.bust(fill))
    assert (position(desk), cash(desk), rows(desk)) == (0, START, [])
    assert desk.alerts == [Said(AlertKind.BUST, 20, 1)]
    desk.hear(fill)
    assert (position(desk), cash(desk), rows(desk)) == (0, START, [])
    desk.hear(report(Kind.CANCELLED, order, cumulative=0))
    assert (desk.blocked(), len(desk.alerts)) == (SETTLED, 1)


def test_the_same_bust_again_changes_nothing() -> None:
    desk, order = working()
    fill = desk.fill(order, 20, cumulative=20)
    bust = desk.bust(fill)
    desk.hear(fill, bust)
    before = desk.player.state.words.copy()
    desk.hear(bust)
    assert unchanged(desk, before)


def test_the_sale_of_a_filled_order_is_undone() -> None:
    desk, order = leaving()
    fill = desk.fill(order, 50, 101, cumulative=50)
    desk.hear(fill)
    assert (position(desk), phase(desk), cash(desk)) == (0, PositionPhase.FLAT, START + 50)
    desk.hear(desk.bust(fill))
    assert (position(desk), cash(desk)) == (50, START - 50 * 101 + 50)
    assert desk.player.state.orders[QQQ].state == OrderState.SUBMITTED, "it is sold again"
    assert desk.player.state.past[1].state == OrderState.FILLED
    assert sales(desk) == [(SELL, 50, money(98))] * 2


def test_a_purchase_that_is_undone_when_it_was_sold_is_bought_back() -> None:
    desk, order = leaving()
    entry = desk.sent()[0]
    bought = report(Kind.FILL, entry, execution_id=1, quantity=50, price=money(100))
    desk.hear(desk.fill(order, 50, cumulative=50))
    desk.hear(desk.bust(bought))
    assert position(desk) == -50
    assert sales(desk)[1:] == [(BUY, 50, 0)]
    account = desk.player.account
    assert (account.breaches[5], account.denied[5] > 0) == (0, True)


def test_a_fill_of_no_order_of_ours_is_undone() -> None:
    desk, order = holding()
    foreign = desk.fill(order, 30, 50, **FOREIGN)
    desk.hear(foreign)
    desk.hear(desk.bust(foreign))
    assert position(desk, TQQQ) == 0
    assert cash(desk) == START - 5000


def test_a_bust_of_what_never_came_and_is_not_ours_changes_nothing() -> None:
    desk, order = holding()
    foreign = desk.fill(order, 30, 50, **FOREIGN)
    desk.hear(desk.bust(foreign))
    desk.hear(foreign)
    assert (position(desk, TQQQ), len(rows(desk))) == (0, 1)


def test_a_fill_is_undone_once() -> None:
    desk, order = working()
    fill = desk.fill(order, 20, cumulative=20)
    desk.hear(fill)
    desk.hear(desk.bust(fill), desk.bust(fill))
    assert (position(desk), cash(desk)) == (0, START)


@pytest.mark.parametrize(
    "other", [{"quantity": 30}, {"price": money(90)}, {"fee": 5}, {"side": SELL}], ids=str
)
def test_a_bust_that_does_not_fit_its_fill_is_not_applied(other: dict[str, int]) -> None:
    desk, order = working()
    fill = desk.fill(order, 20, cumulative=20)
    desk.hear(fill)
    desk.hear(desk.bust(fill, **other))
    assert (position(desk), desk.blocked()) == (20, BLOCKED)


def test_a_bust_of_a_fill_that_is_no_longer_remembered_is_noticed() -> None:
    desk, order = working()
    fill = desk.fill(order, 20, cumulative=20)
    desk.hear(fill)
    charge(desk, SEEN)
    desk.hear(desk.bust(fill))
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=0))
    assert [a.kind for a in desk.alerts] == [AlertKind.BUST, AlertKind.RECONCILIATION]
    assert desk.blocked() == BLOCKED


# --- cancels that are refused


@pytest.mark.parametrize(("filled", "state"), [(0, OrderState.WORKING), (20, OrderState.PARTIAL)])
def test_an_order_whose_cancel_is_refused_is_what_it_was(filled: int, state: OrderState) -> None:
    desk, order = working()
    if filled:
        desk.hear(desk.fill(order, filled, cumulative=filled))
    desk.bars(2)
    assert desk.state() == OrderState.PENDING_CANCEL
    desk.hear(report(Kind.CANCEL_REFUSED, order, cumulative=filled))
    assert (desk.state(), desk.alerts) == (state, [])


def test_a_refused_cancel_is_asked_for_again_when_the_venue_had_time() -> None:
    desk, order = working()
    desk.bars(2)
    desk.hear(report(Kind.CANCEL_REFUSED, order))
    desk.wait(8.999999999)
    assert len(desk.asked(OrderKind.CANCEL)) == 1
    desk.wait(0.000000001)
    assert [t - at(0, 2) for t, *_ in desk.asked(OrderKind.CANCEL)] == [0, 10 * NS]


def test_a_cancel_that_crosses_the_last_fill_is_stale() -> None:
    desk, order = working()
    desk.bars(2)
    desk.hear(desk.fill(order, 50, cumulative=50))
    desk.hear(report(Kind.CANCEL_REFUSED, order, cumulative=50))
    assert (desk.player.state.past[0].state, desk.alerts) == (OrderState.FILLED, [])
    assert position(desk) == 50


def test_a_fill_while_a_cancel_is_asked_for_keeps_it_asked() -> None:
    desk, order = working()
    desk.bars(2)
    desk.hear(desk.fill(order, 20, cumulative=20))
    assert (desk.state(), position(desk)) == (OrderState.PENDING_CANCEL, 20)
    desk.hear(report(Kind.CANCELLED, order, cumulative=20))
    assert sales(desk) == [(SELL, 20, money(98))]


# --- no answer, lost, absent


def test_without_an_answer_the_outcome_is_unknown() -> None:
    desk, order = entered()
    desk.wait(30)
    assert (desk.state(), desk.alerts) == (OrderState.SUBMITTED, [])
    desk.wait(0.000000001)
    assert desk.state() == OrderState.UNKNOWN
    assert desk.alerts == [Said(AlertKind.NO_ANSWER, 30 * NS + 1, int(order.order_ns))]
    first = desk.now
    desk.wait(10)
    desk.wait(9)
    assert [t - first for t, *_ in desk.asked()] == [0, 10 * NS]
    assert len(desk.alerts) == 1


def test_without_an_answer_to_a_cancel_the_outcome_is_unknown() -> None:
    desk, order = working()
    desk.bars(2)
    desk.wait(30.000000001)
    assert (desk.state(), desk.alerts[0].kind) == (OrderState.UNKNOWN, AlertKind.NO_ANSWER)
    desk.hear(report(Kind.ACCEPTED, order))
    assert desk.state() == OrderState.WORKING
    desk.wait(10)
    assert desk.state() == OrderState.PENDING_CANCEL, "it is asked for again"


def test_an_order_that_should_have_expired_is_asked_for() -> None:
    desk, order = working(orders__entry_lifetime_bars=1)
    assert order.expires_ns == at(0, 2)
    desk.bars(2, BULL)
    desk.wait(30)
    assert desk.asked() == []
    desk.wait(1)
    assert [a.kind for a in desk.alerts] == [AlertKind.NO_ANSWER]
    assert desk.asked() == [(desk.now, QQQ, 0)]
    desk.hear(report(Kind.EXPIRED, order))
    desk.hear(report(Kind.ACCEPTED, desk.order()))
    desk.wait(20)
    assert len(desk.asked()) == 1


def test_what_is_lost_is_asked_for_until_it_is_known() -> None:
    desk, order = entered()
    desk.hear(report(Kind.LOST, order))
    first = desk.now
    assert desk.state() == OrderState.UNKNOWN
    assert desk.alerts == [Said(AlertKind.UNKNOWN_OUTCOME, 0, int(order.order_ns))]
    for _ in range(25):
        desk.wait(1)
    assert [t - first for t, *_ in desk.asked()] == [10 * NS, 20 * NS]
    desk.hear(report(Kind.LOST, order))
    assert len(desk.alerts) == 1


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (Kind.ACCEPTED, OrderState.WORKING),
        (Kind.CANCELLED, OrderState.CANCELLED),
        (Kind.EXPIRED, OrderState.EXPIRED),
        (Kind.REJECTED, OrderState.REJECTED),
        (Kind.SUSPENDED, OrderState.SUSPENDED),
        (Kind.REPLACED, OrderState.REPLACED),
        (Kind.CANCEL_REFUSED, OrderState.WORKING),
        (Kind.REPLACE_REFUSED, OrderState.WORKING),
        (Kind.LOST, OrderState.UNKNOWN),
        (Kind.ABSENT, OrderState.UNKNOWN),
    ],
)
def test_each_answer_says_what_an_unknown_order_is(kind: Kind, state: OrderState) -> None:
    desk, order = entered()
    desk.hear(report(Kind.LOST, order))
    desk.hear(report(kind, order))
    assert desk.state() == state
    assert [a.kind for a in desk.alerts] == [AlertKind.UNKNOWN_OUTCOME]
    asked = len(desk.asked())
    desk.wait(25)
    assert (len(desk.asked()) > asked) == (state == OrderState.UNKNOWN)


@pytest.mark.parametrize(("quantity", "state"), [(20, OrderState.PARTIAL), (50, OrderState.FILLED)])
def test_a_fill_says_what_an_unknown_order_is(quantity: int, state: OrderState) -> None:
    desk, order = entered()
    desk.hear(report(Kind.LOST, order))
    desk.hear(desk.fill(order, quantity, cumulative=quantity))
    assert (desk.state(), position(desk)) == (state, quantity)


@pytest.mark.parametrize(
    ("seconds", "proven"),
    [
        ([0, 30, 60], True),
        ([0, 30, 59.999999999], False),
        ([0, 30, 60.000000001], True),
        ([0, 60], False),
        ([0, 1, 2], False),
        ([0, 1, 2, 60], True),
        ([0, 1, 2, 59.999999999], False),
        ([0, 1000], False),
    ],
    ids=str,
)
def test_absence_is_proven_by_several_answers_over_a_time(seconds: list[float], proven: bool) -> None:
    desk, order = entered()
    desk.hear(report(Kind.LOST, order))
    first = desk.now + NS
    for second in seconds:
        desk.hear(report(Kind.ABSENT, order), after=(first + round(second * NS) - desk.now) / NS)
    assert desk.state() == (OrderState.REJECTED if proven else OrderState.UNKNOWN)
    proofs = [a for a in desk.alerts if a.kind == AlertKind.ABSENCE_PROVEN]
    assert proofs == [Said(AlertKind.ABSENCE_PROVEN, len(seconds), int(order.order_ns))] * proven
    if proven:
        assert rows(desk) == [(Kind.ABSENT, 0, 0, 0, 0)]


def test_an_answer_between_them_begins_the_proof_anew() -> None:
    desk, order = entered()
    desk.hear(report(Kind.LOST, order))
    desk.hear(report(Kind.ABSENT, order))
    desk.hear(report(Kind.ABSENT, order), after=59)
    desk.hear(report(Kind.LOST, order), report(Kind.ABSENT, order))
    assert desk.state() == OrderState.UNKNOWN
    desk.hear(report(Kind.ABSENT, order), after=30)
    desk.hear(report(Kind.ABSENT, order), after=30)
    assert desk.state() == OrderState.REJECTED


def test_the_absence_of_an_order_that_was_never_answered_makes_it_unknown() -> None:
    desk, order = entered()
    desk.hear(report(Kind.ABSENT, order))
    assert desk.state() == OrderState.UNKNOWN


def test_an_order_that_has_filled_is_never_proven_absent() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 20, cumulative=20))
    desk.bars(2)
    desk.hear(report(Kind.LOST, order))
    for _ in range(5):
        desk.hear(report(Kind.ABSENT, order), after=30)
    assert (desk.state() == OrderState.REJECTED, position(desk)) == (False, 20)
    assert AlertKind.ABSENCE_PROVEN not in [a.kind for a in desk.alerts]


def test_what_an_absent_order_has_bought_can_be_sold() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 20, cumulative=20))
    desk.bars(2)
    desk.hear(report(Kind.LOST, order))
    for _ in range(20):
        desk.hear(report(Kind.ABSENT, order), after=30)
    assert sales(desk) == [(SELL, 20, money(98))]


def test_the_absence_of_a_working_order_is_illegal() -> None:
    desk, order = leaving()
    desk.hear(report(Kind.ACCEPTED, order))
    desk.hear(report(Kind.ABSENT, order))
    assert desk.state() == OrderState.WORKING
    assert desk.alerts == [Said(AlertKind.ILLEGAL_TRANSITION, OrderState.WORKING, OrderEvent.LOSE)]


def test_an_unknown_entry_blocks_its_instrument_but_not_its_cancel() -> None:
    desk, order = entered()
    desk.hear(report(Kind.LOST, order))
    desk.bars(2, BULL)
    assert len(desk.sent()) == 1
    desk.bars(3, BULL3)
    assert len(desk.sent()) == 1
    assert desk.asked(OrderKind.CANCEL) == [(at(0, 3), QQQ, 0)]
    refused = desk.player.decisions[-1]
    assert (refused.instrument, refused.stage, refused.reason) == (TQQQ, Stage.CONFLICT, Reason.SAME_SIDE)


def test_an_unknown_exit_blocks_its_instrument_up_to_the_close() -> None:
    desk, order = leaving()
    desk.hear(report(Kind.LOST, order))
    for minute in (30, 50, 56, 58, 59):
        desk.bars(minute)
    assert len(desk.sent()) == 2
    assert desk.asked() != []
    desk.hear(report(Kind.REJECTED, order))
    assert [q for _, q, _ in sales(desk)] == [50, 50]


# --- illegal transitions


ILLEGAL = [
    (Kind.REPLACE_REFUSED, OrderState.WORKING),
    (Kind.SUSPENDED, OrderState.SUBMITTED),
    (Kind.REPLACED, OrderState.SUBMITTED),
    (Kind.CANCEL_REFUSED, OrderState.SUBMITTED),
    (Kind.EXPIRED, OrderState.FILLED),
    (Kind.CANCELLED, OrderState.FILLED),
    (Kind.REJECTED, OrderState.PARTIAL),
    (Kind.EXPIRED, OrderState.CANCELLED),
    (Kind.SUSPENDED, OrderState.REJECTED),
]


def in_state(state: OrderState) -> tuple[Desk, Any]:
    """An exit that has come so far."""
    desk, order = leaving()
    if state in (OrderState.WORKING, OrderState.CANCELLED):
        desk.hear(report(Kind.ACCEPTED, order))
    if state in (OrderState.PARTIAL, OrderState.FILLED):
        quantity = 50 if state == OrderState.FILLED else 20
        desk.hear(desk.fill(order, quantity, cumulative=quantity))
    elif state == OrderState.CANCELLED:
        desk.hear(report(Kind.CANCELLED, order))
    elif state == OrderState.REJECTED:
        desk.hear(report(Kind.REJECTED, order))
    assert desk.state() == state
    return desk, order


@pytest.mark.parametrize(("kind", "state"), ILLEGAL)
def test_an_illegal_report_moves_nothing_and_alerts(kind: Kind, state: OrderState) -> None:
    desk, order = in_state(state)
    before = (desk.player.state.orders[QQQ].cumulative, position(desk), len(rows(desk)))
    desk.hear(report(kind, order))
    assert (desk.state(), desk.blocked()) == (state, SETTLED)
    assert (desk.player.state.orders[QQQ].cumulative, position(desk), len(rows(desk))) == before
    assert [(a.kind, a.observed) for a in desk.alerts] == [(AlertKind.ILLEGAL_TRANSITION, state)]
    assert desk.player.account.illegal_transitions == 1


@pytest.mark.parametrize(("kind", "state"), ILLEGAL)
def test_an_illegal_report_asks_for_the_order_once(kind: Kind, state: OrderState) -> None:
    desk, order = in_state(state)
    desk.hear(report(kind, order))
    assert desk.asked() == [(desk.now, QQQ, int(order.attempt))]
    desk.wait(11)
    assert len(desk.asked()) == 1


def test_an_order_that_keeps_its_illegal_answer_is_asked_for_now_and_then() -> None:
    desk, order = in_state(OrderState.FILLED)
    for _ in range(30):
        desk.hear(report(Kind.EXPIRED, order))
    assert [t - at(0, 2) for t, *_ in desk.asked()] == [2 * NS, 12 * NS, 22 * NS]


# --- exits that fail


PATIENT = {
    "breakers__exit_failure__attempts": 100,
    "breakers__exit_failure__no_progress_seconds": 3600,
}


@pytest.mark.parametrize("kind", [Kind.REJECTED, Kind.CANCELLED, Kind.EXPIRED])
def test_a_failed_exit_is_tried_again_with_longer_and_longer_waits(kind: Kind) -> None:
    desk, _ = leaving(**PATIENT)
    for wait in (5, 10, 20, 40, 80, 160, 320, 320):
        desk.hear(report(kind, desk.order()))
        attempts = len(desk.sent())
        desk.wait(wait - 0.000000001)
        assert len(desk.sent()) == attempts
        desk.wait(0.000000001)
        assert len(desk.sent()) == attempts + 1
        assert desk.player.decisions[-1].reason == Reason.EXIT_RETRIED
    assert [int(o.attempt) for o in desk.sent()[1:]] == list(range(9))
    assert desk.alerts == []


def test_an_exit_that_we_cancelled_has_not_failed() -> None:
    desk, order = leaving()
    falling = minutes(0, [3], price=lambda *_: (money(90), money(90)))
    desk.apply(falling)
    assert desk.asked(OrderKind.CANCEL) == [(at(0, 3), QQQ, 0)]
    desk.hear(report(Kind.CANCELLED, order))
    assert desk.player.state.positions[QQQ].exit_failures == 0
    assert sales(desk) == [(SELL, 50, money(98)), (SELL, 50, money("88.2"))]


def test_an_exit_that_has_filled_but_for_a_fill_that_is_missing_has_not_failed() -> None:
    desk, order = leaving()
    desk.hear(report(Kind.CANCELLED, order, cumulative=50))
    assert desk.player.state.positions[QQQ].exit_failures == 0


def test_an_exit_that_fails_too_often_is_sold_at_any_price() -> None:
    desk, order = leaving()
    desk.hear(report(Kind.REJECTED, order))
    desk.wait(5)
    desk.hear(report(Kind.REJECTED, desk.order()))
    desk.wait(10)
    assert desk.alerts == []
    desk.hear(report(Kind.REJECTED, desk.order()))
    assert desk.alerts == [Said(AlertKind.BREAKER_TRIPPED, 3, 3)]
    assert desk.player.alerts[0].breaker == Breaker.EXIT_FAILURE
    assert sales(desk) == [(SELL, 50, money(98))] * 3 + [(SELL, 50, 0)]
    assert desk.order().time_ns == desk.now
    desk.hear(report(Kind.REJECTED, desk.order()))
    assert desk.order().time_ns == desk.now, "no more waiting"
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    assert desk.alerts[-1].kind == AlertKind.BREAKER_RELEASED
    assert desk.player.account.level == HaltLevel.ACTIVE


def test_an_exit_that_no_bar_has_filled_is_sent_anew() -> None:
    desk, order = leaving()
    desk.hear(report(Kind.ACCEPTED, order))
    desk.hear(desk.fill(order, 10, cumulative=10), after=30)
    desk.wait(88.999999999)  # the bar in hand, and a whole one
    assert desk.asked(OrderKind.CANCEL) == []
    desk.wait(0.000000001)
    assert desk.asked(OrderKind.CANCEL) == [(desk.now, QQQ, 0)]
    desk.hear(report(Kind.CANCELLED, order, cumulative=10))
    assert sales(desk) == [(SELL, 50, money(98)), (SELL, 40, money(98))]
    assert (desk.player.state.positions[QQQ].exit_failures, desk.alerts) == (0, [])


def test_an_exit_that_stands_still_is_sold_at_any_price() -> None:
    desk, order = leaving()
    desk.hear(desk.fill(order, 10, cumulative=10), after=30)
    desk.wait(60)
    desk.hear(report(Kind.CANCELLED, order, cumulative=10))
    desk.hear(report(Kind.ACCEPTED, desk.order()))
    desk.wait(58)
    assert desk.alerts == []
    desk.wait(0.000000001)
    assert desk.alerts == [Said(AlertKind.BREAKER_TRIPPED, 120 * NS + 1, 120 * NS)]
    desk.wait(1)
    desk.hear(report(Kind.CANCELLED, desk.order()))
    assert sales(desk) == [(SELL, 50, money(98)), (SELL, 40, money(98)), (SELL, 40, 0)]


def two_held(**changes: Any) -> Desk:
    """Two strategies that hold QQQ and TQQQ, and want to leave both."""
    both = [strategy("first", "0.5", "QQQ", None), strategy("second", "0.5", "TQQQ", None)]
    desk = Desk.of(families=[], strategies=both, **changes)

    def bars(minute: int, value: int) -> None:
        verdict = Verdict.PASSED if value else Verdict.NEUTRAL
        signal = {"values": (value, value), "verdicts": (verdict, verdict)}
        written = minutes(0, [minute])
        desk.apply([row._replace(**signal) if row.instrument in (QQQ, TQQQ) else row for row in written])

    bars(1, MICRO)
    filled = [(order, int(order.quantity)) for order in desk.sent()]
    desk.hear(*[desk.fill(o, q, (100, 50)[o.instrument], cumulative=q) for o, q in filled])
    bars(2, 0)
    assert len(sales(desk)) == 2
    return desk


def test_two_exits_that_fail_kill_the_account() -> None:
    desk = two_held()
    for wait in (5, 10):
        desk.hear(*[report(Kind.REJECTED, desk.order(i)) for i in (QQQ, TQQQ)])
        desk.wait(wait)
    desk.hear(report(Kind.REJECTED, desk.order(QQQ)))
    assert desk.player.account.level == HaltLevel.ACTIVE
    desk.hear(report(Kind.REJECTED, desk.order(TQQQ)))
    assert (desk.player.account.level, desk.player.account.flattening) == (HaltLevel.KILLED, 1)
    assert [a.kind for a in desk.alerts] == [
        AlertKind.BREAKER_TRIPPED,
        AlertKind.BREAKER_TRIPPED,
        AlertKind.HALT_LEVEL,
    ]
    assert [int(o.limit_price) for o in (desk.order(QQQ), desk.order(TQQQ))] == [0, 0]


# --- statements


def test_a_statement_that_agrees_changes_nothing() -> None:
    desk, _ = holding()
    before = desk.player.state.words.copy()
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=50), report(Kind.CASH, price=money(5000)))
    assert unchanged(desk, before)


@pytest.mark.parametrize("quantity", [49, 51, 0, -50])
def test_a_statement_of_another_position_breaks_principle_five(quantity: int) -> None:
    desk, _ = holding()
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=quantity))
    assert desk.alerts == [Said(AlertKind.RECONCILIATION, quantity, 50)]
    assert desk.player.account.breaches.tolist() == [0, 0, 0, 0, 0, 1]
    assert (position(desk), desk.blocked()) == (50, BLOCKED), "the ledger is not repaired in silence"
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=50))
    assert desk.blocked() == SETTLED


@pytest.mark.parametrize(
    ("off", "differs"), [(0, False), (10_000, False), (10_001, True), (-10_000, False), (-10_001, True)]
)
def test_a_statement_of_cash_may_differ_by_a_hundredth(off: int, differs: bool) -> None:
    desk, _ = holding()
    told = money(5000) + off
    desk.hear(report(Kind.CASH, price=told))
    assert desk.alerts == [Said(AlertKind.RECONCILIATION, told, money(5000))] * differs
    assert desk.player.account.breaches[5] == differs
    assert desk.blocked() == SETTLED


def test_a_statement_while_an_order_is_live_is_not_yet_a_breach() -> None:
    desk, _ = working()
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=50), report(Kind.CASH, price=money(5000)))
    account = desk.player.account
    assert (account.breaches[5], account.denied[5]) == (0, 2)
    assert desk.blocked() == BLOCKED


def test_a_statement_settles_what_was_contradictory() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 60, cumulative=60))
    desk.hear(desk.fill(desk.order(), 10, cumulative=10))
    assert (position(desk), desk.blocked()) == (50, BLOCKED)
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=50))
    assert desk.blocked() == SETTLED


def test_a_statement_settles_nothing_while_an_order_is_live() -> None:
    desk, order = working()
    desk.hear(desk.fill(order, 60, cumulative=60))
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=60))
    assert desk.blocked() == BLOCKED  # the excess is being sold


def test_a_statement_that_agrees_settles_a_missing_fill() -> None:
    desk, order = working()
    desk.hear(report(Kind.CANCELLED, order, cumulative=20))
    assert desk.blocked() == MISSING
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=0))
    assert desk.blocked() == SETTLED


def test_a_statement_that_differs_asks_for_the_live_order() -> None:
    desk, order = entered()
    desk.hear(report(Kind.LOST, order))
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=50))
    assert desk.asked(OrderKind.CANCEL) == [(desk.now, QQQ, 0)]
    desk.wait(9.999999999)
    assert desk.asked() == []
    desk.wait(0.000000001)
    assert desk.asked() == [(desk.now, QQQ, 0)]


def test_a_statement_that_differs_asks_for_every_order_that_is_remembered() -> None:
    desk = rejected_exits(2)
    desk.wait(100)
    desk.hear(report(Kind.POSITION, instrument=QQQ, quantity=0))
    asked = [(int(o.order_ns), int(o.attempt)) for o in desk.player.orders if o.kind == OrderKind.QUERY]
    assert sorted(asked) == sorted((int(o.order_ns), int(o.attempt)) for o in desk.sent())


# --- charges


def test_a_charge_takes_cash_and_nothing_else() -> None:
    desk, _ = holding()
    charge = report(Kind.FEE, execution_id=9, fee=money("1.25"))
    desk.hear(charge)
    desk.hear(charge)
    assert (cash(desk), desk.player.account.fees) == (Decimal("4998.75"), money("1.25"))
    assert rows(desk)[-1] == (Kind.FEE, 0, 0, 0, 0)
    row = desk.player.executions[-1]
    assert (row.instrument, row.position, row.fee, row.cash) == (-1, 0, money("1.25"), money("4998.75"))
    assert (len(rows(desk)), desk.alerts) == (2, [])


def test_the_same_charge_with_another_amount_is_not_applied() -> None:
    desk, _ = holding()
    desk.hear(report(Kind.FEE, execution_id=9, fee=100))
    desk.hear(report(Kind.FEE, execution_id=9, fee=200))
    assert desk.player.account.fees == 100
    assert desk.alerts == [Said(AlertKind.EXECUTION_ALTERED, 9, 0)]


# --- after the session


def test_a_fill_that_comes_after_the_session_is_applied_and_nothing_is_sent() -> None:
    desk, order = leaving()
    desk.hear(report(Kind.ACCEPTED, order))
    desk.bars(60)
    assert desk.player.account.in_session == 0
    sent = len(desk.player.orders)
    desk.hear(desk.fill(order, 20, cumulative=20), after=600)
    desk.hear(report(Kind.EXPIRED, order, cumulative=30))
    assert (position(desk), desk.state(), desk.blocked()) == (30, OrderState.EXPIRED, MISSING)
    desk.hear(desk.fill(order, 10, cumulative=30))
    assert (position(desk), desk.blocked()) == (20, SETTLED)
    assert len(desk.player.orders) == sent
    assert desk.player.account.breaches[3] == 1


def test_what_came_after_the_session_is_sold_in_the_next_one() -> None:
    desk, order = working(orders__entry_lifetime_bars=100)
    desk.bars(60)
    desk.hear(report(Kind.EXPIRED, order))
    desk.hear(desk.fill(order, 20, cumulative=20))
    assert [a.kind for a in desk.alerts[-2:]] == [AlertKind.NOT_FLAT, AlertKind.LATE_FILL]
    desk.bars(1, BULL, session=1)
    assert sales(desk) == [(SELL, 20, 0)]
    assert desk.player.decisions[-1].reason == Reason.CARRIED_OVER


def test_what_the_venue_holds_before_the_first_session_is_sold_in_it() -> None:
    desk = Desk.of()
    desk.now -= 3600 * NS
    desk.hear(desk.fill(None, 30, instrument=PSQ))
    assert (position(desk, PSQ), len(desk.player.orders)) == (30, 0)
    desk.now = at(0, 0)
    desk.wait(1)
    assert [(int(o.instrument), int(o.side), int(o.quantity)) for o in desk.sent()] == [(PSQ, SELL, 30)]


# --- any order of true reports


SHARES = ("0.3", "0.3", "0.4")
TRADED = (QQQ, TQQQ, PSQ)


def three() -> Desk:
    """Three strategies, each with an instrument of its own, and an entry of each on its way."""
    mine = [
        strategy(f"s{k}", share, symbol, None)
        for k, (share, symbol) in enumerate(zip(SHARES, ("QQQ", "TQQQ", "PSQ"), strict=True))
    ]
    desk = Desk.of(families=[], strategies=mine, **PATIENT)
    signal(desk, 1, MICRO)
    return desk


def signal(desk: Desk, minute: int, value: int) -> None:
    """A bar that says the same to every strategy."""
    verdict = Verdict.PASSED if value else Verdict.NEUTRAL
    said = {"values": (value,) * 3, "verdicts": (verdict,) * 3}
    desk.apply([row._replace(**said) if row.instrument in TRADED else row for row in minutes(0, [minute])])


def true_reports(draw: st.DrawFn, desk: Desk, order: Any, whole: bool) -> list[Any]:
    """What happens to an order at the venue, in order: it fills in parts, some of them are undone, and the
    rest ends. `whole`: all of it fills and stays.
    """
    told = [report(Kind.ACCEPTED, order)]
    left, cumulative = int(order.quantity), 0
    parts = draw(st.integers(1, 4))
    for k in range(parts):
        quantity = left if whole and k == parts - 1 else draw(st.integers(0, left))
        if quantity == 0:
            continue
        left -= quantity
        cumulative += quantity
        price = draw(st.integers(1, 200))
        fill = desk.fill(order, quantity, price, fee=draw(st.integers(-5, 500)), cumulative=cumulative)
        told.append(fill)
        if not whole and draw(st.integers(0, 3)) == 0:
            cumulative -= quantity
            told.append(desk.bust(fill, cumulative=cumulative))
    if left:
        kind = draw(st.sampled_from([Kind.CANCELLED, Kind.EXPIRED]))
        told.append(report(kind, order, cumulative=cumulative))
    return told


class Story:
    """Two accounts with the same orders on their way; the true reports of these in order; and the same mixed
    up, with copies, in groups. Its text is short: a failure is replayed by its blob.
    """

    def __init__(self, desks: tuple[Desk, Desk], told: list[Any], groups: list[list[Any]]):
        self.desks, self.told, self.groups = desks, told, groups

    def __repr__(self) -> str:
        names = [
            [(Kind(int(r.kind)).name, int(r.instrument), int(r.quantity)) for r in g] for g in self.groups
        ]
        return f"{len(self.told)} reports as {names}"


@st.composite
def stories(draw: st.DrawFn) -> Story:
    one, other = three(), three()
    leaves = draw(st.booleans())
    if leaves:  # entries fill in order first, and what is told of them comes again among the exits
        told = [row for order in one.sent() for row in true_reports(draw, one, order, True)]
        for desk in (one, other):
            desk.hear(*told)
            signal(desk, 2, 0)
        assert [o.intent for o in one.sent()] == [Intent.ENTRY] * 3 + [Intent.EXIT] * 3
        told += [
            row for order in one.sent()[3:] for row in true_reports(draw, one, order, draw(st.booleans()))
        ]
    else:
        told = [row for order in one.sent() for row in true_reports(draw, one, order, False)]
    copies = draw(st.lists(st.sampled_from(range(len(told))), max_size=6))
    mixed = draw(st.permutations([*told, *(told[k] for k in copies)]))
    cuts = sorted(draw(st.sets(st.integers(0, len(mixed)), max_size=8)))
    borders = [0, *cuts, len(mixed)]
    groups = [mixed[a:b] for a, b in pairwise(borders) if a < b]
    return Story((one, other), told, groups)


@settings(deadline=None, max_examples=150 if COMPILED else 60)
@given(stories())
def test_true_reports_give_the_same_account_in_any_order(story: Story) -> None:
    straight, crooked = story.desks
    start = Decimal(START)
    held, paid = dict.fromkeys(range(4), 0), Decimal(0)
    seen = set()
    for row in story.told:
        if row.kind in (Kind.FILL, Kind.BUST) and row.execution_id not in seen:
            seen.add(int(row.execution_id))
            sign = (1 if row.side == BUY else -1) * (1 if row.kind == Kind.FILL else -1)
            held[int(row.instrument)] += sign * int(row.quantity)
            back = 1 if row.kind == Kind.FILL else -1
            paid += Decimal(sign * int(row.quantity) * int(row.price) + back * int(row.fee)) / MICRO
    for row in story.told:
        straight.hear(row, after=0.001)
    for group in story.groups:
        crooked.hear(*group, after=0.001)
    for desk in (straight, crooked):
        assert [position(desk, i) for i in range(4)] == [held[i] for i in range(4)]
        assert cash(desk) == start - paid
        for i in TRADED:
            assert desk.blocked(i) != MISSING
            if desk.state(i) != OrderState.SUBMITTED:  # a try again, of which nobody tells
                desk.hear(report(Kind.POSITION, instrument=i, quantity=held[i]))
                assert desk.blocked(i) == SETTLED
        assert desk.player.account.breaches[5] == 0
        assert AlertKind.EXTERNAL_ORDER not in [a.kind for a in desk.alerts]
        assert AlertKind.EXECUTION_ALTERED not in [a.kind for a in desk.alerts]
