"""Every limit of every gate: below it, at it, above it; and the order of authority."""

from collections.abc import Callable
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
from account_fixtures import (
    BASE,
    MINUTE,
    PSQ,
    QQQ,
    SQQQ,
    TQQQ,
    at,
    make_config,
    make_sessions,
    money,
    strategy,
)

from operators.account_rules import account_rules, initial_state
from operators.account_state import (
    exit_breaker,
    new_output,
    opening_breaker,
    state_of,
    strategy_breaker,
)
from operators.breakers import release_by_operator
from operators.gates import (
    breakers,
    cash,
    conflict,
    frequency,
    freshness,
    halt_level,
    judge_entry,
    kill_switch,
    messages,
    reconciliation,
    session,
    size,
)
from schemas.codes import GATES, AlertKind, Breaker, HaltLevel, OrderState, Outcome, Reason, Side, Stage

PRICE = money(100)
LONE = 4  # an instrument of no family
TWO = [strategy("first", "0.5"), strategy("second", "0.5")]


class Desk:
    """An account in mid-session, with every instrument's last bar just ended."""

    def __init__(self, *, minute: int = 10, length: int = 60, **changes: Any):
        changes = {"instruments": [*BASE["instruments"], "SPY", "GLD"], **changes}
        config = make_config(**changes)
        self.rules = account_rules(config, make_sessions(length), paper=True)
        self.state = initial_state(config, self.rules)
        self.out = new_output(len(config.instruments), 1000)
        self.account = self.state.account[0]
        self.account.session = 0
        self.account.in_session = 1
        self.now(at(0, minute))
        for position in self.state.positions:
            position.mark = PRICE
            position.mark_ns = at(0, minute)
            position.volume = 1_000_000

    def now(self, time_ns: int) -> None:
        self.account.time_ns = time_ns

    def hold(self, instrument: int, quantity: int) -> None:
        self.state.positions[instrument].quantity = quantity

    def open_order(
        self,
        instrument: int,
        side: Side,
        quantity: int,
        cumulative: int = 0,
        state: OrderState = OrderState.SUBMITTED,
    ) -> None:
        order = self.state.orders[instrument]
        order.side = side
        order.quantity = quantity
        order.cumulative = cumulative
        order.state = state

    def ask(
        self, gate: Any, instrument: int = QQQ, quantity: int = 10, price: int = PRICE
    ) -> tuple[int, Reason, int, int]:
        where = (self.rules, self.out) if gate is frequency else (self.rules,)
        allowed, reason, observed, limit = gate.judge(self.state, *where, instrument, quantity, price)
        return int(allowed), Reason(int(reason)), int(observed), int(limit)

    def opening(self, instrument: int = QQQ) -> None:
        """An opening order leaves now."""
        frequency.record_opening(self.state, self.rules, instrument, self.account.time_ns)

    def switch(self, instrument: int = QQQ, strategy: int = 0) -> Any:
        """The breaker of a strategy's openings in an instrument."""
        holdings = self.rules.holdings
        (h,) = [
            k
            for k in range(len(holdings))
            if holdings[k].instrument == instrument and holdings[k].strategy == strategy
        ]
        return self.state.breakers[opening_breaker(self.rules, h)]

    def alerts(self) -> list[tuple[AlertKind, Breaker, int, int, int, int]]:
        """Kind, breaker, instrument, strategy, observed and limit of each so far."""
        return [
            (
                AlertKind(a.kind),
                Breaker(a.breaker),
                int(a.instrument),
                int(a.strategy),
                int(a.observed),
                int(a.limit),
            )
            for a in self.out.alerts[: self.out.counts[4]]
        ]


# --- session


@pytest.mark.parametrize(
    ("left_ns", "allowed", "reason"),
    [
        (15 * MINUTE + 1, 10, Reason.NONE),
        (15 * MINUTE, 0, Reason.ENTRIES_STOPPED),
        (15 * MINUTE - 1, 0, Reason.ENTRIES_STOPPED),
        (0, 0, Reason.ENTRIES_STOPPED),
        (59 * MINUTE, 10, Reason.NONE),
    ],
    ids=["before the cutoff", "at the cutoff", "after the cutoff", "at the close", "early"],
)
def test_entry_after_cutoff_is_refused(left_ns: int, allowed: int, reason: Reason) -> None:
    desk = Desk()
    desk.now(at(0, 60) - left_ns)
    assert desk.ask(session) == (allowed, reason, left_ns, 15 * MINUTE)


def test_entry_outside_a_session_is_refused() -> None:
    desk = Desk()
    desk.account.in_session = 0
    assert desk.ask(session)[:2] == (0, Reason.OUTSIDE_SESSION)


# --- freshness


@pytest.mark.parametrize(
    ("age_ns", "allowed"),
    [(0, 10), (90_000_000_000 - 1, 10), (90_000_000_000, 10), (90_000_000_000 + 1, 0), (-1, 0)],
    ids=["new", "below the limit", "at the limit", "above the limit", "from the future"],
)
def test_entry_on_an_old_bar_is_refused(age_ns: int, allowed: int) -> None:
    desk = Desk()
    desk.state.positions[QQQ].mark_ns = desk.account.time_ns - age_ns
    reason = Reason.NONE if allowed else Reason.STALE_DATA
    assert desk.ask(freshness) == (allowed, reason, age_ns, 90_000_000_000)


def test_another_instruments_old_bar_does_not_matter() -> None:
    desk = Desk()
    desk.state.positions[TQQQ].mark_ns = 0
    assert desk.ask(freshness)[0] == 10


def test_entry_in_an_instrument_without_a_bar_is_refused() -> None:
    desk = Desk()
    desk.state.positions[QQQ].mark_ns = 0
    assert desk.ask(freshness)[:2] == (0, Reason.STALE_DATA)


@pytest.mark.parametrize(("price", "allowed"), [(1, 10), (0, 0), (-1, 0)])
def test_entry_without_a_price_is_refused(price: int, allowed: int) -> None:
    assert Desk().ask(freshness, price=price)[0] == allowed


# --- conflict


@pytest.mark.parametrize("two", ["allow", "refuse"])
@pytest.mark.parametrize(("mine", "others"), [(QQQ, PSQ), (QQQ, SQQQ), (TQQQ, PSQ), (PSQ, QQQ), (SQQQ, TQQQ)])
def test_entry_is_refused_while_the_opposite_side_is_held(two: str, mine: int, others: int) -> None:
    desk = Desk(gates__conflict__two_of_one_side=two)
    assert desk.ask(conflict, mine) == (10, Reason.NONE, 0, 0)
    desk.hold(others, 1)
    assert desk.ask(conflict, mine) == (0, Reason.OPPOSITE_SIDE, 1, 0)


@pytest.mark.parametrize(
    ("state", "cumulative", "allowed"),
    [
        (OrderState.SUBMITTED, 0, 0),
        (OrderState.UNKNOWN, 0, 0),
        (OrderState.PARTIAL, 4, 0),
        (OrderState.PENDING_CANCEL, 4, 0),
        (OrderState.SUSPENDED, 0, 0),
        (OrderState.CANCELLED, 0, 10),
        (OrderState.EXPIRED, 0, 10),
        (OrderState.NONE, 0, 10),
    ],
)
def test_entry_is_refused_while_a_buy_of_the_opposite_side_could_fill(
    state: OrderState, cumulative: int, allowed: int
) -> None:
    desk = Desk()
    desk.open_order(PSQ, Side.BUY, 5, cumulative, state)
    reason = Reason.NONE if allowed else Reason.OPPOSITE_SIDE
    assert desk.ask(conflict, QQQ) == (allowed, reason, 0 if allowed else 5 - cumulative, 0)


def test_an_open_sale_of_the_opposite_side_is_not_yet_a_sale() -> None:
    desk = Desk()
    desk.hold(PSQ, 7)
    desk.open_order(PSQ, Side.SELL, 7)
    assert desk.ask(conflict, QQQ) == (0, Reason.OPPOSITE_SIDE, 7, 0)


@pytest.mark.parametrize(
    ("two", "allowed", "reason"), [("allow", 10, Reason.NONE), ("refuse", 0, Reason.SAME_SIDE)]
)
@pytest.mark.parametrize(("mine", "others"), [(QQQ, TQQQ), (TQQQ, QQQ), (PSQ, SQQQ), (SQQQ, PSQ)])
def test_two_of_one_side_as_configured(
    two: str, allowed: int, reason: Reason, mine: int, others: int
) -> None:
    desk = Desk(gates__conflict__two_of_one_side=two)
    desk.hold(others, 3)
    assert desk.ask(conflict, mine)[:2] == (allowed, reason)


def test_more_of_the_same_instrument_is_no_conflict() -> None:
    desk = Desk()
    desk.hold(QQQ, 3)
    assert desk.ask(conflict, QQQ)[0] == 10


def test_what_was_sold_beyond_the_position_is_no_exposure() -> None:
    desk = Desk()
    desk.hold(PSQ, -3)
    assert desk.ask(conflict, QQQ) == (10, Reason.NONE, 0, 0)
    desk.open_order(PSQ, Side.BUY, 5)  # nor does it hide what a buy could add
    assert desk.ask(conflict, QQQ) == (0, Reason.OPPOSITE_SIDE, 5, 0)


def test_an_instrument_without_a_family_has_no_conflict() -> None:
    desk = Desk()
    for i in (QQQ, PSQ, LONE + 1):
        desk.hold(i, 3)
    assert desk.ask(conflict, LONE)[0] == 10


# --- frequency


def opened(desk: Desk, *times: int, instrument: int = QQQ) -> None:
    """Openings on earlier bars."""
    now, mark_ns = int(desk.account.time_ns), int(desk.state.positions[instrument].mark_ns)
    for time in times:
        desk.state.positions[instrument].mark_ns = time
        desk.now(time)
        desk.opening(instrument)
    desk.state.positions[instrument].mark_ns = mark_ns
    desk.now(now)


def test_a_second_opening_on_one_bar_is_refused() -> None:
    desk = Desk()
    assert desk.ask(frequency)[0] == 10
    desk.opening()
    assert desk.ask(frequency) == (0, Reason.ONE_OPENING_A_BAR, 1, 1)
    desk.now(at(0, 10) + MINUTE // 2)  # a tick between the bars
    assert desk.ask(frequency)[:2] == (0, Reason.ONE_OPENING_A_BAR)
    assert desk.ask(frequency, TQQQ)[0] == 10
    assert desk.switch().tripped == 0


def test_the_next_bar_may_open_again() -> None:
    desk = Desk()
    desk.opening()
    desk.state.positions[QQQ].mark_ns = at(0, 11)
    desk.now(at(0, 11))
    assert desk.ask(frequency)[0] == 10


@pytest.mark.parametrize(("count", "allowed"), [(4, 10), (5, 0), (6, 0)], ids=["below", "at", "above"])
def test_openings_in_the_window(count: int, allowed: int) -> None:
    desk = Desk(minute=20)
    opened(desk, *[at(0, 19 - k) for k in range(count)])
    reason = Reason.NONE if allowed else Reason.TOO_FREQUENT
    assert desk.ask(frequency) == (allowed, reason, count, 5)
    assert desk.switch().tripped == (0 if allowed else 1)
    tripped = (AlertKind.BREAKER_TRIPPED, Breaker.REPEATED_EXECUTION, QQQ, 0, count, 5)
    assert desk.alerts() == ([] if allowed else [tripped])


@pytest.mark.parametrize(
    ("oldest", "allowed"),
    [(at(0, 10) - 1, 10), (at(0, 10), 10), (at(0, 10) + 1, 0)],
    ids=["outside the window", "at its border", "inside"],
)
def test_an_opening_leaves_the_window(oldest: int, allowed: int) -> None:
    desk = Desk(minute=20)
    opened(desk, oldest, *[at(0, 11 + k) for k in range(4)])
    assert desk.ask(frequency)[0] == allowed


@pytest.mark.parametrize("most", [1, 16])
def test_the_window_counts_up_to_the_largest_limit(most: int) -> None:
    desk = Desk(minute=40, gates__frequency__openings_per_window=most, gates__frequency__window_minutes=1440)
    opened(desk, *[at(0, 1 + k) for k in range(most - 1)])
    assert desk.ask(frequency)[0] == 10
    opened(desk, at(0, 30))
    assert desk.ask(frequency) == (0, Reason.TOO_FREQUENT, most, most)


@pytest.mark.parametrize(("count", "allowed"), [(2, 10), (3, 0), (4, 0)], ids=["below", "at", "above"])
def test_openings_in_the_day(count: int, allowed: int) -> None:
    desk = Desk(minute=40, gates__frequency__window_minutes=1, gates__frequency__openings_per_day=3)
    opened(desk, *[at(0, 2 * k + 1) for k in range(count)])
    reason = Reason.NONE if allowed else Reason.TOO_FREQUENT
    assert desk.ask(frequency)[:2] == (allowed, reason)
    assert desk.switch().tripped == (0 if allowed else 1)


def test_what_is_switched_off_stays_off_after_the_window() -> None:
    desk = Desk(minute=20)
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    assert desk.ask(frequency)[1] == Reason.TOO_FREQUENT
    desk.now(at(0, 40))
    desk.state.positions[QQQ].mark_ns = at(0, 40)
    assert desk.ask(frequency) == (0, Reason.SWITCHED_OFF, 5, 5)
    assert desk.ask(frequency, TQQQ)[0] == 10
    assert desk.switch().trips == len(desk.alerts()) == 1


@pytest.mark.parametrize(
    ("release", "allowed", "reason"),
    [("next_session", 10, Reason.NONE), ("operator", 0, Reason.SWITCHED_OFF)],
)
def test_the_next_session_releases_where_the_rule_says_so(release: str, allowed: int, reason: Reason) -> None:
    desk = Desk(minute=20, gates__frequency__release=release)
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    desk.ask(frequency)
    desk.now(at(0, 40))
    frequency.start_session(desk.state, desk.rules, desk.out)
    assert desk.ask(frequency)[:2] == (allowed, reason)
    kinds = [alert[0] for alert in desk.alerts()]
    assert kinds == [AlertKind.BREAKER_TRIPPED] + [AlertKind.BREAKER_RELEASED] * (allowed > 0)


def test_a_new_session_counts_the_day_anew() -> None:
    desk = Desk(minute=40, gates__frequency__window_minutes=1, gates__frequency__openings_per_day=3)
    opened(desk, *[at(0, 2 * k + 1) for k in range(3)])
    frequency.start_session(desk.state, desk.rules, desk.out)
    assert desk.ask(frequency)[0] == 10


def test_what_is_released_counts_its_window_anew() -> None:
    desk = Desk(minute=20, gates__frequency__window_minutes=1440)
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    desk.ask(frequency)
    frequency.start_session(desk.state, desk.rules, desk.out)
    assert desk.ask(frequency)[0] == 10
    opened(desk, *[at(0, 15 + k) for k in range(4)])
    assert desk.ask(frequency) == (10, Reason.NONE, 4, 5)


def test_a_new_session_keeps_the_window_of_what_is_not_switched_off() -> None:
    desk = Desk(minute=20, gates__frequency__window_minutes=1440)
    opened(desk, *[at(0, 15 + k) for k in range(4)])
    frequency.start_session(desk.state, desk.rules, desk.out)
    assert desk.ask(frequency) == (10, Reason.NONE, 4, 5)


def test_one_strategys_openings_do_not_count_for_another() -> None:
    desk = Desk(minute=20, strategies=TWO)
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    assert desk.ask(frequency)[1] == Reason.TOO_FREQUENT
    desk.state.positions[QQQ].strategy = 1
    assert desk.ask(frequency) == (10, Reason.NONE, 0, 5)
    assert (desk.switch(QQQ, 0).tripped, desk.switch(QQQ, 1).tripped) == (1, 0)


def test_one_opening_a_bar_is_one_of_all_strategies() -> None:
    desk = Desk(strategies=TWO)
    desk.opening()
    desk.state.positions[QQQ].strategy = 1
    assert desk.ask(frequency) == (0, Reason.ONE_OPENING_A_BAR, 1, 1)


@pytest.mark.parametrize(
    ("strategy", "instrument", "released"),
    [(-1, -1, True), (0, QQQ, True), (-1, QQQ, True), (0, -1, True), (1, QQQ, False), (0, TQQQ, False)],
)
def test_an_operator_releases_what_is_switched_off(strategy: int, instrument: int, released: bool) -> None:
    desk = Desk(minute=20, strategies=TWO, gates__frequency__release="operator")
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    desk.ask(frequency)
    breaker = Breaker.REPEATED_EXECUTION
    assert release_by_operator(desk.state, desk.rules, desk.out, breaker, strategy, instrument) == released
    assert desk.ask(frequency)[1] == (Reason.NONE if released else Reason.SWITCHED_OFF)
    assert not release_by_operator(desk.state, desk.rules, desk.out, breaker, 1, -1)


def test_what_an_operator_releases_counts_its_day_anew() -> None:
    desk = Desk(minute=40, gates__frequency__window_minutes=1, gates__frequency__openings_per_day=3)
    opened(desk, *[at(0, 2 * k + 1) for k in range(3)])
    assert desk.ask(frequency)[1] == Reason.TOO_FREQUENT
    assert release_by_operator(desk.state, desk.rules, desk.out, Breaker.REPEATED_EXECUTION, 0, QQQ)
    opened(desk, *[at(0, 30 + 2 * k) for k in range(2)])
    assert desk.ask(frequency)[0] == 10
    opened(desk, at(0, 38))
    assert desk.ask(frequency)[1] == Reason.TOO_FREQUENT


def test_what_is_switched_off_stays_off_after_a_restart() -> None:
    desk = Desk(minute=20)
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    desk.ask(frequency)
    desk.state = state_of(desk.state.words.copy(), desk.rules)
    assert desk.ask(frequency) == (0, Reason.SWITCHED_OFF, 5, 5)


# --- size


@pytest.mark.parametrize(
    ("quantity", "allowed", "reason"),
    [(9, 9, Reason.NONE), (10, 10, Reason.NONE), (11, 10, Reason.POSITION_LIMIT)],
    ids=["below", "at", "above"],
)
def test_value_of_a_position(quantity: int, allowed: int, reason: Reason) -> None:
    desk = Desk(gates__size__max_position_value=1000)
    assert desk.ask(size, quantity=quantity)[:2] == (allowed, reason)


def test_value_of_a_position_counts_what_is_held() -> None:
    desk = Desk(gates__size__max_position_value=1000)
    desk.hold(QQQ, 7)
    assert desk.ask(size, quantity=3)[:2] == (3, Reason.NONE)
    assert desk.ask(size, quantity=4) == (3, Reason.POSITION_LIMIT, 4, 3)
    desk.hold(QQQ, 12)
    assert desk.ask(size, quantity=1) == (0, Reason.POSITION_LIMIT, 1, 0)


@pytest.mark.parametrize(
    ("price", "allowed"),
    [(money("99.99"), 10), (money(100), 10), (money("100.01"), 9)],
    ids=["below", "at", "above"],
)
def test_value_of_a_position_is_at_the_price_of_the_entry(price: int, allowed: int) -> None:
    assert Desk(gates__size__max_position_value=1000).ask(size, quantity=10, price=price)[0] == allowed


@pytest.mark.parametrize(
    ("quantity", "allowed", "reason"),
    [(24, 24, Reason.NONE), (25, 25, Reason.NONE), (26, 25, Reason.POSITION_LIMIT)],
    ids=["below", "at", "above"],
)
def test_share_of_equity(quantity: int, allowed: int, reason: Reason) -> None:
    desk = Desk(gates__size__max_position_share=Decimal("0.25"))
    assert desk.ask(size, quantity=quantity)[:2] == (allowed, reason)


@pytest.mark.parametrize(
    ("held", "allowed", "reason"),
    [(1, 10, Reason.NONE), (2, 0, Reason.COUNT_LIMIT), (3, 0, Reason.COUNT_LIMIT)],
)
def test_number_of_positions(held: int, allowed: int, reason: Reason) -> None:
    desk = Desk(gates__size__max_positions=2)
    for i in (TQQQ, LONE, LONE + 1)[:held]:
        desk.hold(i, 1)
    assert desk.ask(size)[:2] == (allowed, reason)


def test_an_open_buy_counts_as_a_position_and_an_ended_one_does_not() -> None:
    desk = Desk(gates__size__max_positions=1)
    desk.open_order(LONE, Side.BUY, 5)
    assert desk.ask(size) == (0, Reason.COUNT_LIMIT, 1, 1)
    desk.open_order(LONE, Side.BUY, 5, 0, OrderState.EXPIRED)
    assert desk.ask(size)[0] == 10


def test_an_oversold_position_is_one_more_when_it_is_bought() -> None:
    desk = Desk(gates__size__max_positions=1)
    desk.hold(LONE, 1)
    desk.hold(QQQ, -1)
    assert desk.ask(size) == (0, Reason.COUNT_LIMIT, 1, 1)


def test_more_of_a_held_position_is_not_one_more() -> None:
    desk = Desk(gates__size__max_positions=1)
    desk.hold(QQQ, 5)
    assert desk.ask(size)[0] == 10


@pytest.mark.parametrize(
    ("quantity", "allowed", "reason"),
    [(19, 19, Reason.NONE), (20, 20, Reason.NONE), (21, 20, Reason.VOLUME_LIMIT)],
    ids=["below", "at", "above"],
)
def test_share_of_the_last_bars_volume(quantity: int, allowed: int, reason: Reason) -> None:
    desk = Desk(gates__size__max_volume_share=Decimal("0.05"))
    desk.state.positions[QQQ].volume = 419  # 20.95
    assert desk.ask(size, quantity=quantity)[:2] == (allowed, reason)


def test_entry_after_a_bar_without_volume_is_refused() -> None:
    desk = Desk()
    desk.state.positions[QQQ].volume = 0
    assert desk.ask(size) == (0, Reason.VOLUME_LIMIT, 10, 0)


@pytest.mark.parametrize(
    ("quantity", "allowed", "reason"),
    [(4, 0, Reason.TOO_SMALL), (5, 5, Reason.NONE), (6, 6, Reason.NONE)],
    ids=["below", "at", "above"],
)
def test_least_order(quantity: int, allowed: int, reason: Reason) -> None:
    desk = Desk(gates__size__min_order_value=500)
    assert desk.ask(size, quantity=quantity)[:2] == (allowed, reason)


def test_what_a_limit_leaves_must_still_be_worth_an_order() -> None:
    desk = Desk(gates__size__min_order_value=500, gates__size__max_position_value=499)
    assert desk.ask(size) == (0, Reason.POSITION_LIMIT, 10, 4)


# --- cash

EACH = money("102.02")  # collar of 2 % and a commission of 0.01, now and when it is sold again


@pytest.mark.parametrize(
    ("missing", "allowed", "reason"),
    [(-1, 10, Reason.NONE), (0, 10, Reason.NONE), (1, 9, Reason.CASH)],
    ids=["more than enough", "exactly enough", "a millionth short"],
)
def test_cash_must_cover_collar_and_fees(missing: int, allowed: int, reason: Reason) -> None:
    desk = Desk(gates__cash__buffer_share=0)
    desk.account.cash = 10 * EACH - missing
    assert desk.ask(cash) == (allowed, reason, 10 * EACH, 10 * EACH - missing)


@pytest.mark.parametrize(
    ("missing", "allowed", "reason"),
    [(-1, 10, Reason.NONE), (0, 10, Reason.NONE), (1, 9, Reason.CASH)],
    ids=["more than enough", "exactly enough", "a millionth short"],
)
def test_reserved_cash_is_not_spent_twice(missing: int, allowed: int, reason: Reason) -> None:
    desk = Desk(gates__cash__buffer_share=0)
    desk.account.reserved = desk.account.cash - 10 * EACH + missing
    assert desk.ask(cash)[:2] == (allowed, reason)


@pytest.mark.parametrize(
    ("buffer", "allowed", "reason"),
    [("0.8", 10, Reason.NONE), ("0.979596", 2, Reason.NONE), ("0.979597", 1, Reason.CASH)],
    ids=["ample", "just enough for two", "not enough for two"],
)
def test_the_buffer_stays(buffer: str, allowed: int, reason: Reason) -> None:
    # two cost 204.04, which is what a buffer of 0.979596 leaves of 10,000
    desk = Desk(gates__cash__buffer_share=Decimal(buffer), gates__size__min_order_value=1)
    desk.account.cash = money(10_000)
    assert desk.ask(cash, quantity=10 if buffer == "0.8" else 2)[:2] == (allowed, reason)


def test_no_free_cash_refuses() -> None:
    desk = Desk()
    desk.account.reserved = desk.account.cash
    allowed, reason, _, free = desk.ask(cash)
    assert (allowed, reason, free) == (0, Reason.CASH, -money(500))


@pytest.mark.parametrize(("lots", "allowed"), [(4, 0), (5, 5), (6, 6)], ids=["below", "at", "above"])
def test_what_cash_leaves_must_still_be_worth_an_order(lots: int, allowed: int) -> None:
    desk = Desk(gates__cash__buffer_share=0, gates__size__min_order_value=500)
    desk.account.cash = lots * EACH
    assert desk.ask(cash)[:2] == (allowed, Reason.CASH)


def test_equity_is_not_cash() -> None:
    desk = Desk(gates__cash__buffer_share=0)
    desk.account.cash = 0
    desk.account.equity = money(1_000_000)
    assert desk.ask(cash)[:2] == (0, Reason.CASH)


# --- kill switch and halt level


@pytest.mark.parametrize(
    ("level", "killed", "halted"),
    [
        (HaltLevel.ACTIVE, Reason.NONE, Reason.NONE),
        (HaltLevel.REDUCING, Reason.NONE, Reason.REDUCING),
        (HaltLevel.HALTED, Reason.NONE, Reason.HALTED),
        (HaltLevel.KILLED, Reason.KILLED, Reason.HALTED),
        (99, Reason.KILLED, Reason.HALTED),
        (-1, Reason.NONE, Reason.HALTED),
    ],
)
def test_only_an_active_account_opens(level: int, killed: Reason, halted: Reason) -> None:
    desk = Desk()
    desk.account.level = level
    assert desk.ask(kill_switch)[:3] == (0 if killed else 10, killed, level)
    assert desk.ask(halt_level) == (0 if halted else 10, halted, level, HaltLevel.ACTIVE)


@pytest.mark.parametrize("flattening", [0, 1, -1, 2])
def test_an_account_that_sells_everything_opens_nothing(flattening: int) -> None:
    desk = Desk()
    desk.account.flattening = flattening
    reason = Reason.FLATTENING if flattening else Reason.NONE
    assert desk.ask(kill_switch)[:2] == (0 if flattening else 10, reason)


# --- breakers

REFUSALS = {
    Breaker.DAILY_LOSS: Reason.DAILY_LOSS,
    Breaker.RAPID_LOSS: Reason.RAPID_LOSS,
    Breaker.CONSECUTIVE_LOSSES: Reason.CONSECUTIVE_LOSSES,
    Breaker.STRATEGY_LOSS: Reason.STRATEGY_LOSS,
    Breaker.UNUSUAL_TRADING: Reason.UNUSUAL_TRADING,
}


def place_of(desk: Desk, breaker: Breaker) -> int:
    """In the account's breakers: of its first strategy, or of QQQ."""
    if breaker == Breaker.EXIT_FAILURE:
        return int(exit_breaker(desk.rules, QQQ))
    if breaker == Breaker.REPEATED_EXECUTION:
        return int(opening_breaker(desk.rules, 0))
    return int(strategy_breaker(breaker, 0))


@pytest.mark.parametrize("breaker", Breaker)
def test_which_tripped_breakers_refuse_entries(breaker: Breaker) -> None:
    desk = Desk(strategies=TWO)
    switch = desk.state.breakers[place_of(desk, breaker)]
    switch.tripped, switch.observed, switch.limit = 1, 7, 6
    if breaker in REFUSALS:
        assert desk.ask(breakers) == (0, REFUSALS[breaker], 7, 6)
    else:
        assert desk.ask(breakers)[:2] == (10, Reason.NONE)


@pytest.mark.parametrize("breaker", REFUSALS)
def test_a_strategys_breaker_refuses_only_its_own_entries(breaker: Breaker) -> None:
    desk = Desk(strategies=TWO)
    desk.state.breakers[place_of(desk, breaker)].tripped = 1
    desk.state.positions[QQQ].strategy = 1
    of_account = breaker in (Breaker.DAILY_LOSS, Breaker.RAPID_LOSS)
    assert desk.ask(breakers)[1] == (REFUSALS[breaker] if of_account else Reason.NONE)


def test_the_first_of_several_breakers_is_named() -> None:
    desk = Desk()
    for breaker in reversed(REFUSALS):
        desk.state.breakers[place_of(desk, breaker)].tripped = 1
        assert desk.ask(breakers)[1] == REFUSALS[breaker]


@pytest.mark.parametrize(
    ("wait_ns", "allowed"), [(1, 0), (0, 10), (-1, 10)], ids=["before", "at its time", "after"]
)
def test_a_strategy_that_is_slowed_keeps_its_distance(wait_ns: int, allowed: int) -> None:
    desk = Desk(strategies=TWO)
    time_ns = int(desk.account.time_ns)
    desk.state.strategies[0].spacing_ns = time_ns + wait_ns
    reason = Reason.NONE if allowed else Reason.UNUSUAL_TRADING
    assert desk.ask(breakers) == (allowed, reason, time_ns, time_ns + wait_ns)
    desk.state.positions[QQQ].strategy = 1
    assert desk.ask(breakers)[0] == 10


# --- reconciliation


@pytest.mark.parametrize("blocked", [Reason.NONE, Reason.BLOCKED, Reason.MISSING_FILL, -1])
def test_a_blocked_instrument_takes_no_entries(blocked: int) -> None:
    desk = Desk()
    desk.state.positions[QQQ].blocked = blocked
    reason = Reason.BLOCKED if blocked else Reason.NONE
    assert desk.ask(reconciliation) == (0 if blocked else 10, reason, blocked, 0)
    assert desk.ask(reconciliation, TQQQ)[0] == 10


# --- messages


def bucket(**changes: Any) -> Desk:
    """A bucket of ten messages, one more a second, five reserved; full."""
    sizes = {"burst": 10, "per_minute": 60, "reserved_share": Decimal("0.5"), **changes}
    return Desk(**{f"gates__messages__{key}": value for key, value in sizes.items()})


@pytest.mark.parametrize(
    ("missing", "allowed", "left"),
    [(-1, 10, 6), (0, 10, 6), (1, 0, 5)],
    ids=["more than the reserve and one", "just as much", "less"],
)
def test_an_entry_leaves_the_reserve(missing: int, allowed: int, left: int) -> None:
    desk = bucket()
    desk.account.tokens = 6 * MINUTE - missing
    reason = Reason.NONE if allowed else Reason.MESSAGE_LIMIT
    assert desk.ask(messages) == (allowed, reason, left, 6)


def test_a_full_bucket_holds_its_burst() -> None:
    desk = bucket()
    for left in range(10, 0, -1):
        assert desk.ask(messages)[2] == left
        messages.spend(desk.state)
    assert desk.account.tokens == 0


def test_a_message_is_never_refused_and_owes_nothing() -> None:
    desk = bucket()
    desk.account.tokens = MINUTE - 1
    messages.spend(desk.state)
    messages.spend(desk.state)
    assert desk.account.tokens == 0


@pytest.mark.parametrize(
    ("seconds", "left"), [(0, 0), (1, 1), (5, 5), (10, 10), (11, 10), (3600, 10)], ids=str
)
def test_the_bucket_fills_with_time(seconds: int, left: int) -> None:
    desk = bucket()
    messages.refill(desk.state, at(0, 10))
    desk.account.tokens = 0
    messages.refill(desk.state, at(0, 10) + seconds * MINUTE // 60)
    assert desk.account.tokens == left * MINUTE


def test_time_in_small_steps_is_worth_as_much() -> None:
    desk = bucket(per_minute=7)
    messages.refill(desk.state, at(0, 10))
    desk.account.tokens = 0
    for step in range(1, 101):
        messages.refill(desk.state, at(0, 10) + step * 123_456_789)
    assert desk.account.tokens == 7 * 100 * 123_456_789


def test_time_that_goes_back_is_not_counted_twice() -> None:
    desk = bucket()
    messages.refill(desk.state, at(0, 10))
    desk.account.tokens = 0
    for minute in (9, 10):
        messages.refill(desk.state, at(0, minute))
    assert desk.account.tokens == 0


@pytest.mark.parametrize("per_minute", [1, 7, 1_000_000])
@pytest.mark.parametrize("burst", [1, 999_983, 1_000_000])
def test_the_longest_time_fills_the_largest_bucket_and_no_more(burst: int, per_minute: int) -> None:
    desk = bucket(burst=burst, per_minute=per_minute, reserved_share=0)
    desk.account.tokens = 0
    messages.refill(desk.state, 2**63 - 1)
    assert desk.account.tokens == burst * MINUTE


def test_a_bucket_that_an_operator_made_smaller_loses_the_rest() -> None:
    desk = bucket()
    desk.state.limits[0].message_burst = 3
    messages.refill(desk.state, at(0, 10))
    assert desk.account.tokens == 3 * MINUTE


# --- all of them


def judged(desk: Desk, quantity: int = 10) -> tuple[Stage, Outcome, Reason, int]:
    stage, outcome, reason, allowed, _, _ = judge_entry(
        desk.state, desk.rules, desk.out, QQQ, quantity, PRICE
    )
    return Stage(int(stage)), Outcome(int(outcome)), Reason(int(reason)), int(allowed)


def put(record: str, **values: int) -> Callable[[Desk], None]:
    """Sets fields of the account, or of QQQ's position."""

    def change(desk: Desk) -> None:
        row = desk.account if record == "account" else desk.state.positions[QQQ]
        for name, value in values.items():
            setattr(row, name, value)

    return change


# What makes each gate refuse, and no other.
OBSTACLES: dict[Stage, tuple[Callable[[Desk], None], Reason]] = {
    Stage.KILL_SWITCH: (put("account", flattening=1), Reason.FLATTENING),
    Stage.HALT_LEVEL: (put("account", level=HaltLevel.REDUCING), Reason.REDUCING),
    Stage.BREAKERS: (
        lambda desk: setattr(desk.state.breakers[Breaker.RAPID_LOSS], "tripped", 1),
        Reason.RAPID_LOSS,
    ),
    Stage.RECONCILIATION: (put("position", blocked=Reason.MISSING_FILL), Reason.BLOCKED),
    Stage.SESSION: (put("account", in_session=0), Reason.OUTSIDE_SESSION),
    Stage.FRESHNESS: (put("position", mark_ns=at(0, 5)), Reason.STALE_DATA),
    Stage.CONFLICT: (lambda desk: desk.hold(PSQ, 1), Reason.OPPOSITE_SIDE),
    Stage.FREQUENCY: (lambda desk: setattr(desk.switch(), "tripped", 1), Reason.SWITCHED_OFF),
    Stage.SIZE: (put("position", volume=0), Reason.VOLUME_LIMIT),
    Stage.CASH: (put("account", cash=0), Reason.CASH),
    Stage.MESSAGES: (put("account", tokens=0), Reason.MESSAGE_LIMIT),
}


def test_an_entry_that_no_gate_minds_is_approved_whole() -> None:
    assert judged(Desk()) == (Stage.ALLOCATION, Outcome.APPROVED, Reason.TARGET, 10)


@pytest.mark.parametrize("stage", GATES, ids=lambda stage: stage.name)
def test_each_gate_alone_refuses(stage: Stage) -> None:
    desk = Desk()
    put_there, reason = OBSTACLES[stage]
    put_there(desk)
    assert judged(desk) == (stage, Outcome.REFUSED, reason, 0)


@pytest.mark.parametrize(
    ("higher", "lower"),
    [pytest.param(*pair, id=f"{pair[0].name}-{pair[1].name}") for pair in combinations(GATES, 2)],
)
def test_of_two_refusals_the_higher_authority_is_named(higher: Stage, lower: Stage) -> None:
    desk = Desk()
    OBSTACLES[lower][0](desk)
    OBSTACLES[higher][0](desk)
    assert judged(desk) == (higher, Outcome.REFUSED, OBSTACLES[higher][1], 0)


@pytest.mark.parametrize("stage", GATES, ids=lambda stage: stage.name)
def test_judgement_changes_nothing(stage: Stage) -> None:
    desk = Desk()
    OBSTACLES[stage][0](desk)
    before = desk.state.words.tobytes()
    judged(desk)
    assert desk.state.words.tobytes() == before
    assert not desk.out.counts.any()


def test_only_the_frequency_gate_trips_its_breaker_when_it_is_asked() -> None:
    desk = Desk(minute=20)
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    desk.account.level = HaltLevel.REDUCING  # a higher authority refuses: it is not asked
    assert judged(desk)[0] == Stage.HALT_LEVEL
    assert desk.switch().tripped == 0
    desk.account.level = HaltLevel.ACTIVE
    assert judged(desk)[:3] == (Stage.FREQUENCY, Outcome.REFUSED, Reason.TOO_FREQUENT)
    assert desk.switch().tripped == 1
    assert len(desk.alerts()) == 1


def test_the_last_gate_that_reduces_is_named() -> None:
    desk = Desk(gates__size__max_position_value=800, gates__cash__buffer_share=0)
    assert judged(desk) == (Stage.SIZE, Outcome.REDUCED, Reason.POSITION_LIMIT, 8)
    desk.account.cash = 8 * EACH - 1
    assert judged(desk) == (Stage.CASH, Outcome.REDUCED, Reason.CASH, 7)
    desk.account.tokens = 0
    assert judged(desk) == (Stage.MESSAGES, Outcome.REFUSED, Reason.MESSAGE_LIMIT, 0)
