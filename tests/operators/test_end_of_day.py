"""The end of the day: below, at and above each of its times; forward only; driven by ticks alone as well."""

from collections.abc import Sequence
from typing import Any

import pytest
from account_fixtures import (
    BULL,
    MINUTE,
    QQQ,
    Desk,
    Player,
    Row,
    at,
    make_config,
    make_sessions,
    minutes,
    money,
    report,
)
from hypothesis import given
from hypothesis import strategies as st

from operators.account_rules import account_rules, initial_state
from operators.account_state import Rules, State
from operators.end_of_day import pass_time, phase_at
from schemas.codes import DayPhase, ExecutionKind, OrderKind, Reason, Side, Stage
from schemas.config import NS

# Minutes before the close in the tests' configuration: 15, 10, 5, 3 and 2.
BORDERS = [
    (15, DayPhase.TRADING, DayPhase.NO_ENTRIES),
    (10, DayPhase.NO_ENTRIES, DayPhase.CANCEL_ENTRIES),
    (5, DayPhase.CANCEL_ENTRIES, DayPhase.EXITS),
    (3, DayPhase.EXITS, DayPhase.REPRICE),
    (2, DayPhase.REPRICE, DayPhase.FORCE),
]


def session_of(*lengths: int, **changes: Any) -> tuple[State, Rules]:
    """An account in the first session, at its open."""
    config = make_config(**changes)
    rules = account_rules(config, make_sessions(*(lengths or (60, 60))), paper=False)
    state = initial_state(config, rules)
    account = state.account[0]
    account.session, account.in_session, account.day_phase = 0, 1, DayPhase.TRADING
    account.time_ns = at(0, 0)
    return state, rules


def phase_after(state: State, rules: Rules, time_ns: int) -> DayPhase:
    state.account[0].time_ns = time_ns
    pass_time(state, rules)
    return DayPhase(int(state.account[0].day_phase))


@pytest.mark.parametrize(("left", "before", "then"), BORDERS)
def test_each_phase_begins_at_its_time(left: int, before: DayPhase, then: DayPhase) -> None:
    state, _ = session_of()
    limits = state.limits[0]
    assert phase_at(left * MINUTE + 1, limits) == before
    assert phase_at(left * MINUTE, limits) == then
    assert phase_at(left * MINUTE - 1, limits) == then


@pytest.mark.parametrize(
    ("left", "phase"),
    [
        (1000 * MINUTE, DayPhase.TRADING),
        (1, DayPhase.FORCE),
        (0, DayPhase.FORCE),
        (-1, DayPhase.CLOSED),
        (-1000 * MINUTE, DayPhase.CLOSED),
    ],
)
def test_the_day_is_traded_forced_at_its_end_and_then_closed(left: int, phase: DayPhase) -> None:
    state, _ = session_of()
    assert phase_at(left, state.limits[0]) == phase


def test_of_phases_that_begin_together_the_last_one_counts() -> None:
    state, _ = session_of(gates__session__entries_stop_minutes=5, gates__session__cancel_entries_minutes=5)
    assert phase_at(5 * MINUTE + 1, state.limits[0]) == DayPhase.TRADING
    assert phase_at(5 * MINUTE, state.limits[0]) == DayPhase.EXITS


@given(st.lists(st.integers(0, 60 * 60), min_size=1, max_size=30))
def test_a_phase_is_never_left_backwards(seconds: list[int]) -> None:
    """Whatever the clock does: the phase is that of the latest time there has been."""
    state, rules = session_of()
    latest = 0
    for second in seconds:
        latest = max(latest, second)
        expected = phase_at(at(0, 60) - (at(0, 0) + latest * MINUTE // 60), state.limits[0])
        assert phase_after(state, rules, at(0, 0) + second * MINUTE // 60) == expected


def test_a_limit_that_is_lowered_does_not_open_the_day_again() -> None:
    state, rules = session_of()
    assert phase_after(state, rules, at(0, 56)) == DayPhase.EXITS
    state.limits[0].exits_begin_ns = 3 * MINUTE
    assert phase_after(state, rules, at(0, 56)) == DayPhase.EXITS
    state.limits[0].force_ns = 4 * MINUTE
    assert phase_after(state, rules, at(0, 56)) == DayPhase.FORCE


def test_outside_a_session_the_day_is_closed() -> None:
    state, rules = session_of()
    assert phase_after(state, rules, at(0, 59)) == DayPhase.FORCE
    state.account[0].in_session = 0
    assert phase_after(state, rules, at(0, 59)) == DayPhase.CLOSED


@pytest.mark.parametrize(("session", "length"), [(0, 60), (1, 30), (2, 17)])
def test_a_half_day_has_all_its_phases_earlier(session: int, length: int) -> None:
    state, rules = session_of(60, 30, 17)
    state.account[0].session = session
    for left, before, then in BORDERS:
        assert phase_after(state, rules, at(session, length - left) - 1) == before
        assert phase_after(state, rules, at(session, length - left)) == then


# --- in the account


def phases(player: Player, rows: Sequence[Row]) -> list[DayPhase]:
    """After each row, a group of its own."""
    found = []
    for row in rows:
        player.apply([row])
        found.append(DayPhase(int(player.account.day_phase)))
    return found


def silence(session: int, *times: float) -> list[Row]:
    """Ticks at these minutes, and no bars."""
    return [Row(at(session, 0) + round(minute * MINUTE), -1) for minute in times]


def test_ticks_alone_take_the_day_to_its_end() -> None:
    player = Player.of(make_config(), make_sessions(60, 60))
    player.apply(minutes(0, [1, 2], score=BULL))
    assert phases(player, silence(0, 44.99, 45, 50, 55, 57, 58, 59.99, 60, 61)) == [
        DayPhase.TRADING,
        DayPhase.NO_ENTRIES,
        DayPhase.CANCEL_ENTRIES,
        DayPhase.EXITS,
        DayPhase.REPRICE,
        DayPhase.FORCE,
        DayPhase.FORCE,
        DayPhase.CLOSED,
        DayPhase.CLOSED,
    ]
    leave = next(o for o in player.orders if o.side == Side.SELL)
    assert (leave.kind, leave.time_ns) == (OrderKind.NEW, at(0, 55))


def test_a_new_session_begins_anew() -> None:
    player = Player.of(make_config(), make_sessions(60, 60))
    player.apply(minutes(0, [1, 2], score=BULL))
    assert phases(player, silence(0, 59, 60))[-1] == DayPhase.CLOSED
    player.apply(minutes(1, [1]))
    assert player.account.day_phase == DayPhase.TRADING


def test_an_open_entry_is_cancelled_by_a_tick() -> None:
    desk = Desk.of(orders__entry_lifetime_bars=1000)
    desk.bars(40, BULL)
    desk.hear(report(ExecutionKind.ACCEPTED, desk.order()))
    desk.apply(silence(0, 50 - 1e-9))
    assert desk.asked(OrderKind.CANCEL) == []
    desk.apply(silence(0, 50))
    assert desk.asked(OrderKind.CANCEL) == [(at(0, 50), QQQ, 0)]
    decision = desk.player.decisions[-1]
    assert (decision.stage, decision.reason) == (Stage.SESSION, Reason.ENTRIES_STOPPED)


@pytest.mark.parametrize(
    ("minute", "limit"), [(55, 98), (56.999, 98), (57, 96), (57.999, 96), (58, 0), (59.999, 0), (60, 0)]
)
@pytest.mark.parametrize("fresh", [True, False])
def test_what_an_exit_asks_for_is_what_the_phase_says(minute: float, limit: int, fresh: bool) -> None:
    """The first tick in a phase. Where the feed has been dead, its last price is no limit."""
    desk = Desk.of()
    desk.bars(1, BULL)
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    if fresh:
        desk.player.state.positions.mark_ns[QQQ] = at(0, 0) + round(minute * MINUTE) - 90 * NS
    desk.apply(silence(0, minute))
    wanted = money(limit) if fresh else 0
    assert (desk.order().side, desk.order().limit_price) == (Side.SELL, wanted)
    decision = desk.player.decisions[-1] if minute < 60 else desk.player.decisions[-2]
    assert (decision.stage, decision.reason) == (Stage.SESSION, Reason.END_OF_DAY)


def test_a_rejected_exit_is_tried_again_at_each_tick_once_it_is_forced() -> None:
    desk = Desk.of(breakers__exit_failure__attempts=100)
    desk.bars(1, BULL)
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    desk.apply(silence(0, 58))
    for _ in range(4):
        desk.hear(report(ExecutionKind.REJECTED, desk.order()))
        assert desk.order().time_ns == desk.now
    assert [int(o.attempt) for o in desk.sent()] == [0, 1, 2, 3, 4, 5]
    assert {int(o.limit_price) for o in desk.sent()[1:]} == {0}
