"""Every limit of every gate: below it, at it, above it."""

from decimal import Decimal
from typing import Any

import pytest
from account_fixtures import BASE, MINUTE, PSQ, QQQ, SQQQ, TQQQ, at, make_config, make_sessions, money

from operators.account_rules import account_rules, initial_state
from operators.gates import cash, conflict, frequency, freshness, judge_entry, session, size
from schemas.codes import OrderState, Outcome, Reason, Side, Stage

PRICE = money(100)
LONE = 4  # an instrument of no family


class Desk:
    """An account in mid-session, with every instrument's last bar just ended."""

    def __init__(self, *, minute: int = 10, length: int = 60, **changes: Any):
        changes = {"instruments": [*BASE["instruments"], "SPY", "GLD"], **changes}
        config = make_config(**changes)
        self.rules = account_rules(config, make_sessions(length), paper=True)
        self.state = initial_state(config, self.rules)
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
        allowed, reason, observed, limit = gate.judge(self.state, self.rules, instrument, quantity, price)
        return int(allowed), Reason(int(reason)), int(observed), int(limit)


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
        frequency.record_opening(desk.state.positions[instrument], time)
    desk.state.positions[instrument].mark_ns = mark_ns
    desk.now(now)


def test_a_second_opening_on_one_bar_is_refused() -> None:
    desk = Desk()
    assert desk.ask(frequency)[0] == 10
    frequency.record_opening(desk.state.positions[QQQ], desk.account.time_ns)
    assert desk.ask(frequency) == (0, Reason.ONE_OPENING_A_BAR, 1, 1)
    desk.now(at(0, 10) + MINUTE // 2)  # a tick between the bars
    assert desk.ask(frequency)[:2] == (0, Reason.ONE_OPENING_A_BAR)
    assert desk.ask(frequency, TQQQ)[0] == 10
    assert desk.state.positions[QQQ].switched_off == 0


def test_the_next_bar_may_open_again() -> None:
    desk = Desk()
    frequency.record_opening(desk.state.positions[QQQ], desk.account.time_ns)
    desk.state.positions[QQQ].mark_ns = at(0, 11)
    desk.now(at(0, 11))
    assert desk.ask(frequency)[0] == 10


@pytest.mark.parametrize(("count", "allowed"), [(4, 10), (5, 0), (6, 0)], ids=["below", "at", "above"])
def test_openings_in_the_window(count: int, allowed: int) -> None:
    desk = Desk(minute=20)
    opened(desk, *[at(0, 19 - k) for k in range(count)])
    reason = Reason.NONE if allowed else Reason.TOO_FREQUENT
    assert desk.ask(frequency) == (allowed, reason, count, 5)
    assert desk.state.positions[QQQ].switched_off == (0 if allowed else 1)


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
    assert desk.state.positions[QQQ].switched_off == (0 if allowed else 1)


def test_what_is_switched_off_stays_off_after_the_window() -> None:
    desk = Desk(minute=20)
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    assert desk.ask(frequency)[1] == Reason.TOO_FREQUENT
    desk.now(at(0, 40))
    desk.state.positions[QQQ].mark_ns = at(0, 40)
    assert desk.ask(frequency)[:2] == (0, Reason.SWITCHED_OFF)
    assert desk.ask(frequency, TQQQ)[0] == 10


@pytest.mark.parametrize(
    ("release", "allowed", "reason"),
    [("next_session", 10, Reason.NONE), ("operator", 0, Reason.SWITCHED_OFF)],
)
def test_the_next_session_releases_where_the_rule_says_so(release: str, allowed: int, reason: Reason) -> None:
    desk = Desk(minute=20, gates__frequency__release=release)
    opened(desk, *[at(0, 15 + k) for k in range(5)])
    desk.ask(frequency)
    desk.now(at(0, 40))
    frequency.start_session(desk.state.positions[QQQ], desk.rules.limits[0])
    assert desk.ask(frequency)[:2] == (allowed, reason)


def test_a_new_session_counts_the_day_anew() -> None:
    desk = Desk(minute=40, gates__frequency__window_minutes=1, gates__frequency__openings_per_day=3)
    opened(desk, *[at(0, 2 * k + 1) for k in range(3)])
    frequency.start_session(desk.state.positions[QQQ], desk.rules.limits[0])
    assert desk.ask(frequency)[0] == 10


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


# --- all of them


def judged(desk: Desk, quantity: int = 10) -> tuple[Stage, Outcome, Reason, int]:
    stage, outcome, reason, allowed, _, _ = judge_entry(desk.state, desk.rules, QQQ, quantity, PRICE)
    return Stage(int(stage)), Outcome(int(outcome)), Reason(int(reason)), int(allowed)


def test_an_entry_that_no_gate_minds_is_approved_whole() -> None:
    assert judged(Desk()) == (Stage.ALLOCATION, Outcome.APPROVED, Reason.TARGET, 10)


def test_the_first_refusal_in_order_of_authority_is_named() -> None:
    desk = Desk(gates__size__max_positions=1, minute=50)
    desk.account.cash = 0
    desk.hold(PSQ, 1)
    frequency.record_opening(desk.state.positions[QQQ], desk.account.time_ns)
    desk.now(at(0, 52))
    expected = [
        (Stage.SESSION, Reason.ENTRIES_STOPPED),
        (Stage.FRESHNESS, Reason.STALE_DATA),
        (Stage.CONFLICT, Reason.OPPOSITE_SIDE),
        (Stage.FREQUENCY, Reason.ONE_OPENING_A_BAR),
        (Stage.SIZE, Reason.COUNT_LIMIT),
        (Stage.CASH, Reason.CASH),
    ]
    repairs = [
        lambda: (
            setattr(desk.account, "time_ns", at(0, 30)),
            setattr(desk.state.positions[QQQ], "mark_ns", at(0, 20)),
        ),
        lambda: setattr(desk.state.positions[QQQ], "mark_ns", at(0, 30)),
        lambda: (
            desk.hold(PSQ, 0),
            desk.hold(LONE, 1),
            setattr(desk.state.positions[QQQ], "opened_ns", at(0, 30)),
        ),
        lambda: setattr(desk.state.positions[QQQ], "opened_ns", 0),
        lambda: desk.hold(LONE, 0),
        lambda: setattr(desk.account, "cash", money(10_000)),
    ]
    for (stage, reason), repair in zip(expected, repairs, strict=True):
        assert judged(desk) == (stage, Outcome.REFUSED, reason, 0)
        repair()
    assert judged(desk)[1] == Outcome.APPROVED


def test_the_last_gate_that_reduces_is_named() -> None:
    desk = Desk(gates__size__max_position_value=800, gates__cash__buffer_share=0)
    assert judged(desk) == (Stage.SIZE, Outcome.REDUCED, Reason.POSITION_LIMIT, 8)
    desk.account.cash = 8 * EACH - 1
    assert judged(desk) == (Stage.CASH, Outcome.REDUCED, Reason.CASH, 7)
