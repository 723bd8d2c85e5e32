"""A position's own machine: each transition of its table, and that exiting ends only when confirmed flat."""

from typing import Any

import pytest
from account_fixtures import (
    BULL,
    QQQ,
    Desk,
    at,
    make_config,
    make_output,
    make_sessions,
    money,
    report,
    strategy,
)

from operators.account_rules import account_rules, initial_state
from operators.account_state import exit_breaker
from operators.position import begin_exit, settle
from schemas.codes import (
    AlertKind,
    ExecutionKind,
    Intent,
    OrderKind,
    OrderState,
    PositionPhase,
    Reason,
    Side,
    Stage,
)

FLAT, ENTERING, OPEN, EXITING = PositionPhase
LIVE = [
    OrderState.CREATED,
    OrderState.SUBMITTED,
    OrderState.UNKNOWN,
    OrderState.WORKING,
    OrderState.PARTIAL,
    OrderState.PENDING_CANCEL,
    OrderState.PENDING_REPLACE,
    OrderState.SUSPENDED,
]
OVER = [state for state in OrderState if state not in LIVE]


class Place:
    """One position and its order, in any state."""

    def __init__(
        self,
        phase: PositionPhase,
        quantity: int = 0,
        order: OrderState = OrderState.NONE,
        intent: Intent = Intent.ENTRY,
        blocked: Reason = Reason.NONE,
        missing: int = 0,
    ):
        config = make_config()
        self.rules = account_rules(config, make_sessions(60), paper=False)
        self.state = initial_state(config, self.rules)
        self.out = make_output(4, 1)
        self.row = self.state.positions[QQQ]
        self.row.phase, self.row.quantity, self.row.blocked = phase, quantity, blocked
        self.order = self.state.orders[QQQ]
        self.order.state, self.order.intent, self.order.quantity = order, intent, 10
        self.state.past[0].state, self.state.past[0].told = OrderState.CANCELLED, missing
        self.state.account[0].time_ns = at(0, 7)

    def settled(self) -> PositionPhase:
        settle(self.state, self.rules, self.out, QQQ)
        return PositionPhase(int(self.row.phase))


@pytest.mark.parametrize("phase", [FLAT, OPEN, ENTERING])
@pytest.mark.parametrize("quantity", [0, 5])
@pytest.mark.parametrize("order", LIVE)
def test_entering_while_an_entry_is_live(phase: PositionPhase, quantity: int, order: OrderState) -> None:
    assert Place(phase, quantity, order).settled() == ENTERING


@pytest.mark.parametrize("phase", [FLAT, OPEN, ENTERING])
@pytest.mark.parametrize("quantity", [5, -5])
@pytest.mark.parametrize("order", OVER)
def test_open_when_no_entry_is_live_and_something_is_held(
    phase: PositionPhase, quantity: int, order: OrderState
) -> None:
    assert Place(phase, quantity, order).settled() == OPEN


@pytest.mark.parametrize("order", LIVE)
def test_a_position_that_is_reduced_stays_open(order: OrderState) -> None:
    assert Place(OPEN, 5, order, Intent.EXIT).settled() == OPEN


@pytest.mark.parametrize("phase", list(PositionPhase))
@pytest.mark.parametrize("order", OVER)
@pytest.mark.parametrize("blocked", [Reason.NONE, Reason.BLOCKED])
def test_flat_when_nothing_is_held_and_nothing_is_live(
    phase: PositionPhase, order: OrderState, blocked: Reason
) -> None:
    assert Place(phase, 0, order, blocked=blocked).settled() == FLAT


@pytest.mark.parametrize("phase", [ENTERING, OPEN])
@pytest.mark.parametrize("blocked", [Reason.BLOCKED, Reason.MISSING_FILL])
def test_not_flat_while_a_fill_is_missing(phase: PositionPhase, blocked: Reason) -> None:
    assert Place(phase, 0, OrderState.CANCELLED, blocked=blocked, missing=3).settled() == OPEN


def test_flat_once_somebody_has_settled_the_fill_that_is_missing() -> None:
    assert Place(EXITING, 0, OrderState.CANCELLED, missing=3).settled() == FLAT


@pytest.mark.parametrize("quantity", [0, 5, -5])
@pytest.mark.parametrize("order", list(OrderState))
@pytest.mark.parametrize("intent", list(Intent))
@pytest.mark.parametrize("missing", [0, 3])
def test_exiting_ends_only_when_confirmed_flat(
    quantity: int, order: OrderState, intent: Intent, missing: int
) -> None:
    flat = quantity == 0 and order in OVER and missing == 0
    place = Place(EXITING, quantity, order, intent, Reason.MISSING_FILL if missing else Reason.NONE, missing)
    assert place.settled() == (FLAT if flat else EXITING)


@pytest.mark.parametrize("phase", [FLAT, ENTERING, OPEN])
def test_an_exit_begins_from_any_phase(phase: PositionPhase) -> None:
    place = Place(phase, 5)
    place.row.exit_failures, place.row.retry_ns = 2, at(0, 50)
    begin_exit(place.state, QQQ, Stage.SESSION, Reason.END_OF_DAY)
    row = place.row
    assert (row.phase, row.exit_stage, row.exit_reason) == (EXITING, Stage.SESSION, Reason.END_OF_DAY)
    assert (row.progress_ns, row.exit_failures, row.retry_ns) == (at(0, 7), 0, 0)


def test_an_exit_that_has_begun_does_not_begin_again() -> None:
    place = Place(OPEN, 5)
    begin_exit(place.state, QQQ, Stage.ALLOCATION, Reason.TARGET)
    place.row.exit_failures, place.row.retry_ns = 2, at(0, 50)
    place.state.account[0].time_ns = at(0, 9)
    before = place.row.copy()
    begin_exit(place.state, QQQ, Stage.SESSION, Reason.END_OF_DAY)
    assert place.row == before


def test_what_is_flat_has_nothing_left_of_its_exit() -> None:
    place = Place(EXITING)
    row = place.row
    row.carried = row.denied = row.urgency = 1
    row.exit_failures, row.retry_ns = 3, at(0, 50)
    place.state.breakers[exit_breaker(place.rules, QQQ)].tripped = 1
    assert place.settled() == FLAT
    assert (row.carried, row.denied, row.urgency, row.exit_failures, row.retry_ns) == (0, 0, 0, 0, 0)
    assert place.state.breakers[exit_breaker(place.rules, QQQ)].tripped == 0
    assert place.out.alerts[: place.out.counts[4]].kind.tolist() == [AlertKind.BREAKER_RELEASED]


def test_what_is_not_flat_keeps_what_it_carries() -> None:
    place = Place(EXITING, 1)
    place.row.carried = place.row.denied = 1
    place.settled()
    assert (place.row.carried, place.row.denied) == (1, 1)


# --- in the account


def phase(desk: Desk) -> PositionPhase:
    return PositionPhase(int(desk.player.state.positions[QQQ].phase))


def holding(**changes: Any) -> Desk:
    desk = Desk.of(**changes)
    assert phase(desk) == FLAT
    desk.bars(1, BULL)
    assert phase(desk) == ENTERING
    desk.hear(desk.fill(desk.order(), 20, cumulative=20))
    assert phase(desk) == ENTERING
    desk.hear(desk.fill(desk.order(), 30, cumulative=50))
    assert phase(desk) == OPEN
    return desk


def test_a_position_goes_once_around() -> None:
    desk = holding()
    desk.bars(2)
    assert phase(desk) == EXITING
    desk.hear(desk.fill(desk.order(), 20, cumulative=20))
    assert phase(desk) == EXITING
    desk.hear(desk.fill(desk.order(), 30, cumulative=50))
    assert phase(desk) == FLAT


def test_an_entry_that_never_filled_leaves_a_flat_position() -> None:
    desk = Desk.of()
    desk.bars(1, BULL)
    desk.hear(report(ExecutionKind.REJECTED, desk.order()))
    assert phase(desk) == FLAT


def test_an_exit_goes_on_whatever_strategies_ask_for_meanwhile() -> None:
    desk = holding()
    desk.bars(2)
    desk.hear(report(ExecutionKind.REJECTED, desk.order()))
    for minute in range(3, 6):
        desk.bars(minute, BULL)
        assert (phase(desk), desk.order().side) == (EXITING, Side.SELL)
        desk.hear(report(ExecutionKind.EXPIRED, desk.order()))
    desk.bars(6, BULL)
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    assert phase(desk) == ENTERING
    assert (desk.order().intent, desk.order().time_ns) == (Intent.ENTRY, desk.now)


def test_an_exit_keeps_the_reason_it_began_with() -> None:
    desk = holding()
    desk.bars(2)
    desk.hear(desk.fill(desk.order(), 20, cumulative=20))
    desk.bars(3, BULL, price=lambda *_: (money(90), money(90)))  # below the limit: replaced
    desk.hear(report(ExecutionKind.CANCELLED, desk.order(), cumulative=20))
    decisions = [d for d in desk.player.decisions if d.reason == Reason.TARGET]
    assert [(int(d.target), int(d.position)) for d in decisions] == [(50, 0), (0, 50), (0, 30)]
    assert desk.player.orders.kind.tolist() == [
        OrderKind.NEW,
        OrderKind.NEW,
        OrderKind.CANCEL,
        OrderKind.NEW,
    ]


def test_a_position_that_only_shrinks_stays_open() -> None:
    """Its strategy wants less of it, not nothing."""
    desk = Desk.of(families=[], strategies=[strategy("first", 1, family=None)])
    desk.bars(1, 500_000)
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    desk.bars(2, 200_000)
    assert (desk.order().intent, desk.order().quantity, phase(desk)) == (Intent.EXIT, 30, OPEN)
    desk.hear(desk.fill(desk.order(), 30, cumulative=30))
    assert (phase(desk), desk.player.position(QQQ)) == (OPEN, 20)
