"""The account stage: days worked out by hand, and arbitrary days beside a naive model of what it holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from account_fixtures import (
    BASE,
    BULL,
    BULL3,
    COMPILED,
    MICRO,
    MINUTE,
    NAMES,
    PSQ,
    QQQ,
    SQQQ,
    TQQQ,
    Desk,
    Player,
    Row,
    a_busy_day,
    at,
    command,
    groups,
    make_config,
    make_sessions,
    minutes,
    money,
    report,
    strategy,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.account_state import state_of
from schemas import records
from schemas.codes import (
    AlertKind,
    ControlAction,
    ExecutionKind,
    HaltLevel,
    Intent,
    OrderKind,
    Outcome,
    Reason,
    Side,
    Stage,
    Verdict,
)
from schemas.config import Config
from schemas.sessions import Sessions

BUY, SELL = int(Side.BUY), int(Side.SELL)
REDUCE, HALT, KILL, FLATTEN, RESUME = (
    ControlAction.REDUCE,
    ControlAction.HALT,
    ControlAction.KILL,
    ControlAction.FLATTEN,
    ControlAction.RESUME,
)
ENTRY, EXIT = int(Intent.ENTRY), int(Intent.EXIT)
FULL = range(1, 31)


def played(rows: Sequence[Row], *lengths: int, **changes: Any) -> Player:
    player = Player.of(make_config(**changes), make_sessions(*(lengths or (30,))))
    player.apply(rows)
    return player


def sent(player: Player) -> list[tuple[int, int, int, int]]:
    """(time, instrument, side, quantity) of every order that asks for a trade."""
    return [
        (int(o.time_ns), int(o.instrument), int(o.side), int(o.quantity))
        for o in player.orders
        if o.kind == OrderKind.NEW
    ]


def fills(player: Player) -> list[tuple[int, int, int, int, int]]:
    """(time known, instrument, side, quantity, price)."""
    return [
        (int(e.known_ns), int(e.instrument), int(e.side), int(e.quantity), int(e.price))
        for e in player.executions
        if e.kind == ExecutionKind.FILL
    ]


def refusals(player: Player, stage: Stage) -> list[tuple[int, int, Reason]]:
    return [
        (int(d.time_ns), int(d.instrument), Reason(int(d.reason)))
        for d in player.decisions
        if d.stage == stage and d.outcome == Outcome.REFUSED
    ]


def from_minute(first: int, score: int) -> Callable[[int], int]:
    return lambda minute: score if minute >= first else 0


# --- a plain day


def test_a_constant_signal_makes_one_entry_a_day() -> None:
    player = played(minutes(0, FULL, score=BULL) + minutes(1, FULL, score=BULL), 30, 30)
    assert sent(player) == [
        (at(0, 1), QQQ, BUY, 50),
        (at(0, 25), QQQ, SELL, 50),
        (at(1, 1), QQQ, BUY, 49),  # of 9,999: one commission of 0.50 in and one out
        (at(1, 25), QQQ, SELL, 49),
    ]
    assert fills(player) == [
        (at(0, 2), QQQ, BUY, 50, money(100)),
        (at(0, 26), QQQ, SELL, 50, money(100)),
        (at(1, 2), QQQ, BUY, 49, money(100)),
        (at(1, 26), QQQ, SELL, 49, money(100)),
    ]
    account = player.account
    assert account.cash == money("9998.02")
    assert (account.sessions, account.sessions_not_flat, account.sessions_flat_late) == (2, 0, 0)
    assert account.breaches.tolist() == [0] * 6
    assert account.targets == 1


def test_a_constant_signal_makes_no_order_whatever_the_price_does() -> None:
    def price(_: int, minute: int) -> tuple[int, int]:
        if minute <= 2:
            return money(100), money(100)
        return money(80 + 7 * (minute % 7)), money(80 + 6 * (minute % 9))

    player = played(minutes(0, FULL, score=BULL, price=price))
    assert [t for t, _, side, _ in sent(player) if side == BUY] == [at(0, 1)]
    assert next(t for t, _, side, _ in sent(player) if side == SELL) == at(0, 25)


def test_a_fill_is_at_the_next_bars_open() -> None:
    def price(_: int, minute: int) -> tuple[int, int]:
        return (money("100.25"), money(99)) if minute == 2 else (money(101), money(100))

    player = played(minutes(0, range(1, 3), score=BULL, price=price))
    (execution,) = player.executions
    assert (execution.time_ns, execution.known_ns) == (at(0, 1), at(0, 2))
    assert (execution.quantity, execution.price, execution.fee) == (50, money("100.25"), money("0.5"))
    assert (execution.position, execution.cash) == (50, money(10_000) - 50 * money("100.25") - money("0.5"))
    last = player.table("equity")[-1]
    assert (last.position_value, last.equity) == (50 * money(99), int(execution.cash) + 50 * money(99))


def test_an_entry_and_an_exit_have_their_collars() -> None:
    player = played(minutes(0, FULL, score=BULL))
    entry, leave = player.orders
    assert (entry.limit_price, entry.reference_price) == (money(102), money(100))
    assert (leave.limit_price, leave.reference_price) == (money(98), money(100))
    assert (entry.expires_ns, leave.expires_ns) == (at(0, 4), 0)


@pytest.mark.parametrize(("minute", "limit"), [(24, 98), (25, 98), (26, 98), (27, 96), (28, 0), (29, 0)])
def test_the_later_an_exit_begins_the_less_it_asks_for(minute: int, limit: int) -> None:
    """Neither bars nor ticks come after the entry until shortly before the close, at 30."""
    rows = minutes(0, [1, 2], score=BULL) + minutes(0, [minute])
    player = played(rows)
    assert (player.orders[-1].time_ns, player.orders[-1].limit_price) == (at(0, minute), money(limit))


def test_an_entry_beyond_its_collar_waits() -> None:
    def price(_: int, minute: int) -> tuple[int, int]:
        opened = {2: money("102.01"), 3: money(102)}.get(minute, money(100))
        return opened, money(100)

    player = played(minutes(0, range(1, 5), score=BULL, price=price))
    assert fills(player) == [(at(0, 3), QQQ, BUY, 50, money(102))]


def test_another_tier_of_the_same_side_is_entered_after_the_exit() -> None:
    player = played(minutes(0, range(1, 9), score=lambda m: BULL if m < 4 else BULL3))
    assert sent(player) == [
        (at(0, 1), QQQ, BUY, 50),
        (at(0, 4), QQQ, SELL, 50),
        (at(0, 5), TQQQ, BUY, 99),
    ]
    assert refusals(player, Stage.CONFLICT) == [(at(0, 4), TQQQ, Reason.SAME_SIDE)]


def two_at_once(session: int, span: range) -> list[Row]:
    """Two strategies: one wants QQQ, the other TQQQ."""
    both = {"values": (BULL, BULL3), "verdicts": (Verdict.PASSED, Verdict.PASSED)}
    return [row._replace(**both) if row.instrument == QQQ else row for row in minutes(session, span)]


def test_two_entries_at_once_do_not_spend_the_same_cash() -> None:
    family = BASE["families"][0]
    player = played(
        two_at_once(0, range(1, 3)),
        families=[{**family, "bull": [{**tier, "weight": 1} for tier in family["bull"]]}],
        strategies=[strategy("first", "0.5"), strategy("second", "0.5")],
        gates__conflict__two_of_one_side="allow",
    )
    # 9,500 after the buffer; 50 at 102.02 are reserved, which leaves 4,399 for lots of 51.02
    assert sent(player) == [(at(0, 1), QQQ, BUY, 50), (at(0, 1), TQQQ, BUY, 86)]
    reduced = player.decisions[1]
    assert (reduced.stage, reduced.outcome, reduced.limit) == (Stage.CASH, Outcome.REDUCED, money(4399))


def test_too_many_entries_switch_an_instrument_off_until_the_next_session() -> None:
    def blinking(minute: int) -> int:
        return BULL if minute % 4 in (1, 2) else 0

    player = played(
        minutes(0, FULL, score=blinking) + minutes(1, range(1, 3), score=BULL),
        30,
        30,
        gates__frequency__openings_per_window=2,
        gates__frequency__window_minutes=30,
    )
    entries = [t for t, _, side, _ in sent(player) if side == BUY]
    assert entries == [at(0, 1), at(0, 5), at(1, 1)]
    assert [(t, reason) for t, _, reason in refusals(player, Stage.FREQUENCY)] == [
        (at(0, 9), Reason.TOO_FREQUENT),
        (at(0, 10), Reason.SWITCHED_OFF),
        (at(0, 13), Reason.SWITCHED_OFF),
        (at(0, 14), Reason.SWITCHED_OFF),
    ]


# --- changing sides


def test_a_flip_exits_first_and_enters_when_flat() -> None:
    player = played(minutes(0, range(1, 9), score=lambda m: BULL if m < 4 else -BULL))
    assert sent(player) == [
        (at(0, 1), QQQ, BUY, 50),
        (at(0, 4), QQQ, SELL, 50),
        (at(0, 5), PSQ, BUY, 249),
    ]
    assert refusals(player, Stage.CONFLICT) == [(at(0, 4), PSQ, Reason.OPPOSITE_SIDE)]
    assert fills(player)[-1] == (at(0, 6), PSQ, BUY, 249, money(20))


def test_a_flip_waits_as_long_as_the_exit_is_not_confirmed() -> None:
    player = played(
        minutes(
            0,
            range(1, 12),
            score=lambda m: BULL if m < 4 else -BULL,
            volume=lambda i, m: 0 if i == QQQ and 5 <= m <= 7 else 100_000,
        )
    )
    assert [(t, i) for t, i, side, _ in sent(player) if side == BUY] == [(at(0, 1), QQQ), (at(0, 8), PSQ)]
    assert [t for t, _, _ in refusals(player, Stage.CONFLICT)] == [at(0, m) for m in (4, 5, 6, 7)]


def test_a_flip_waits_for_the_last_lot_of_a_partial_exit() -> None:
    volumes = {5: 400, 6: 90}  # 40 lots, 9 lots, the last one after that
    player = played(
        minutes(
            0,
            range(1, 10),
            score=lambda m: BULL if m < 4 else -BULL,
            volume=lambda i, m: volumes.get(m, 100_000) if i == QQQ else 100_000,
        )
    )
    assert [(t, q) for t, i, side, q, _ in fills(player) if (i, side) == (QQQ, SELL)] == [
        (at(0, 5), 40),
        (at(0, 6), 9),
        (at(0, 7), 1),
    ]
    assert [t for t, i, _, _ in sent(player) if i == PSQ] == [at(0, 7)]


def test_an_entry_that_is_no_longer_wanted_is_cancelled_before_the_other_side_enters() -> None:
    player = played(
        minutes(
            0,
            range(1, 8),
            score=lambda m: BULL if m < 3 else -BULL,
            volume=lambda i, m: 0 if i == QQQ and m in (2, 3) else 100_000,
        ),
        orders__entry_lifetime_bars=20,
    )
    kinds = [(int(o.time_ns), int(o.instrument), OrderKind(int(o.kind))) for o in player.orders]
    assert kinds == [
        (at(0, 1), QQQ, OrderKind.NEW),
        (at(0, 3), QQQ, OrderKind.CANCEL),
        (at(0, 4), PSQ, OrderKind.NEW),
    ]
    assert player.executions[0].kind == ExecutionKind.CANCELLED
    assert player.executions[0].known_ns == at(0, 3)
    assert player.account.cancels == 1


def test_a_partly_filled_entry_is_cancelled_and_what_it_bought_is_sold() -> None:
    player = played(
        minutes(
            0,
            range(1, 9),
            score=lambda m: BULL if m < 3 else 0,
            volume=lambda i, m: 200 if i == QQQ and m in (2, 3) else 100_000,
        ),
        orders__entry_lifetime_bars=20,
    )
    assert fills(player) == [
        (at(0, 2), QQQ, BUY, 20, money(100)),
        (at(0, 3), QQQ, BUY, 20, money(100)),
        (at(0, 5), QQQ, SELL, 40, money(100)),
    ]
    assert sent(player)[-1] == (at(0, 4), QQQ, SELL, 40)


# --- partial fills and the life of an entry


def test_an_entry_fills_in_parts() -> None:
    player = played(minutes(0, range(1, 8), score=BULL, volume=200), orders__entry_lifetime_bars=5)
    assert [(t, q) for t, _, _, q, _ in fills(player)] == [(at(0, 2), 20), (at(0, 3), 20), (at(0, 4), 10)]
    assert player.executions.cumulative.tolist() == [20, 40, 50]
    assert player.executions.leaves.tolist() == [30, 10, 0]
    assert len(player.orders) == 1


def test_an_unfilled_entry_expires_after_its_lifetime_and_is_asked_for_again() -> None:
    player = played(minutes(0, range(1, 7), score=BULL, volume=lambda _, m: 0 if 2 <= m <= 3 else 100_000))
    assert len(sent(player)) == 1  # two empty bars are within a lifetime of three
    player = played(
        minutes(
            0,
            range(1, 8),
            score=BULL,
            missing=lambda _, m: m == 5,
            volume=lambda _, m: 0 if 2 <= m <= 4 else 50_000,
        )
    )
    expired = player.executions[0]
    assert (expired.kind, expired.known_ns, expired.cumulative, expired.leaves) == (
        ExecutionKind.EXPIRED,
        at(0, 4),
        0,
        0,
    )
    # nothing may be bought on the volume of an empty bar, nor on an old bar
    assert sent(player) == [(at(0, 1), QQQ, BUY, 50), (at(0, 6), QQQ, BUY, 50)]


def test_the_rest_of_an_expired_entry_is_ordered_once_more() -> None:
    player = played(
        minutes(0, range(1, 8), score=BULL, volume=lambda _, m: 150 if 2 <= m <= 4 else 100_000),
    )
    assert sent(player) == [(at(0, 1), QQQ, BUY, 50), (at(0, 4), QQQ, BUY, 5)]
    assert player.position(QQQ) == 50


# --- the end of a session


@pytest.mark.parametrize(("minute", "enters"), [(14, True), (15, False), (16, False)])
def test_entry_after_cutoff_is_refused(minute: int, enters: bool) -> None:
    player = played(minutes(0, FULL, score=from_minute(minute, BULL)))
    assert bool(len(sent(player))) == enters
    assert (at(0, 15), QQQ, Reason.ENTRIES_STOPPED) in refusals(player, Stage.SESSION) or minute != 15


@pytest.mark.parametrize(("length", "cutoff"), [(30, 20), (22, 12)])
def test_open_entries_are_cancelled_at_their_minute(length: int, cutoff: int) -> None:
    start = length - 16
    player = played(
        minutes(
            0,
            range(1, length + 1),
            score=from_minute(start, BULL),
            volume=lambda _, m: 100_000 if m <= start else 0,
        ),
        length,
        orders__entry_lifetime_bars=50,
    )
    kinds = [(int(o.time_ns), OrderKind(int(o.kind))) for o in player.orders]
    assert kinds == [(at(0, start), OrderKind.NEW), (at(0, cutoff), OrderKind.CANCEL)]
    (told,) = player.executions
    assert (told.kind, told.known_ns) == (ExecutionKind.CANCELLED, at(0, cutoff))
    assert player.account.sessions_not_flat == 0


def test_on_a_half_day_everything_is_earlier() -> None:
    player = played(minutes(0, FULL, score=BULL) + minutes(1, range(1, 21), score=BULL), 30, 20)
    leaves = [(t, side) for t, _, side, _ in sent(player) if side == SELL]
    assert leaves == [(at(0, 25), SELL), (at(1, 15), SELL)]
    assert player.account.sessions_not_flat == 0


def test_on_a_half_day_entries_stop_earlier() -> None:
    player = played(minutes(1, range(1, 21), score=from_minute(5, BULL)), 30, 20)
    assert sent(player) == []
    assert refusals(player, Stage.SESSION)[0] == (at(1, 5), QQQ, Reason.ENTRIES_STOPPED)


def test_every_position_is_sold_at_the_end() -> None:
    """Two instruments of one side, as two strategies want it."""
    player = played(
        two_at_once(0, FULL),
        30,
        strategies=[strategy("first", "0.5"), strategy("second", "0.5")],
        gates__conflict__two_of_one_side="allow",
    )
    assert sent(player) == [
        (at(0, 1), QQQ, BUY, 25),
        (at(0, 1), TQQQ, BUY, 50),
        (at(0, 25), QQQ, SELL, 25),
        (at(0, 25), TQQQ, SELL, 50),
    ]
    assert player.account.sessions_not_flat == 0


def test_exits_begin_at_a_tick_without_bars() -> None:
    player = played(minutes(0, FULL, score=BULL, missing=lambda _, m: 23 <= m <= 26))
    assert sent(player)[1] == (at(0, 25), QQQ, SELL, 50)
    assert fills(player)[-1] == (at(0, 27), QQQ, SELL, 50, money(100))
    assert player.account.sessions_not_flat == 0


@pytest.mark.parametrize(("last_bar", "late", "not_flat"), [(28, 0, 0), (29, 0, 0), (30, 1, 0), (31, 1, 1)])
def test_flat_too_late_is_counted(last_bar: int, late: int, not_flat: int) -> None:
    """After its exit was sent it shows one bar only, at minute `last_bar`; 60 s before the close is 29."""
    player = played(minutes(0, FULL, score=BULL, missing=lambda _, m: m > 25 and m != last_bar))
    account = player.account
    assert (account.sessions_flat_late, account.sessions_not_flat) == (late, not_flat)


def test_what_could_not_be_sold_is_a_breach_and_is_sold_first_thing_in_the_next_session() -> None:
    player = played(
        minutes(0, FULL, score=BULL, missing=lambda _, m: m > 25) + minutes(1, range(1, 10), score=BULL),
        30,
        30,
    )
    account = player.account
    assert account.breaches.tolist() == [0, 0, 0, 1, 0, 0]
    assert (account.sessions, account.sessions_not_flat) == (1, 1)
    assert [(t, side) for t, _, side, _, _ in fills(player)] == [
        (at(0, 2), BUY),
        (at(1, 2), SELL),
        (at(1, 3), BUY),
    ]
    expired = next(e for e in player.executions if e.kind == ExecutionKind.EXPIRED)
    assert (expired.known_ns, expired.side) == (at(0, 30), SELL)
    assert [(t, side) for t, _, side, _ in sent(player)][-2:] == [(at(1, 1), SELL), (at(1, 2), BUY)]
    last = [d for d in player.decisions if d.reason == Reason.EXIT_RETRIED][-1]
    assert (last.time_ns, last.stage, last.position) == (at(1, 1), Stage.SESSION, 50)
    assert player.orders[-2].limit_price == 0


def test_what_nobody_tried_to_sell_is_sold_first_thing_in_the_next_session() -> None:
    """Neither bars nor ticks came in the last hour."""
    player = played(minutes(0, range(1, 10), score=BULL) + minutes(1, range(1, 4), score=BULL), 30, 30)
    carried = [d for d in player.decisions if d.reason == Reason.CARRIED_OVER]
    assert [(int(d.time_ns), int(d.target), int(d.position)) for d in carried] == [(at(1, 1), 0, 50)]
    assert [(t, side) for t, _, side, _ in sent(player)] == [
        (at(0, 1), BUY),
        (at(1, 1), SELL),
        (at(1, 2), BUY),
    ]
    assert player.orders[1].limit_price == 0
    assert player.account.breaches[3] == 1


def test_an_exit_that_rests_is_replaced_as_the_close_comes_nearer() -> None:
    """Every bar opens below the limit and closes above it: nothing cancels the order because of the mark."""

    def price(instrument: int, minute: int) -> tuple[int, int]:
        plain = money((100, 50, 20, 10)[instrument])
        return (plain * 95 // 100, plain) if minute > 25 else (plain, plain)

    player = played(minutes(0, FULL, score=BULL, price=price))
    limits = [(int(o.time_ns), int(o.limit_price)) for o in player.orders[1:] if o.kind == OrderKind.NEW]
    assert limits == [(at(0, 25), money(98)), (at(0, 26), money(98)), (at(0, 27), money(96)), (at(0, 28), 0)]
    assert fills(player)[-1] == (at(0, 29), QQQ, SELL, 50, money(95))
    account = player.account
    assert (account.sessions_not_flat, account.sessions_flat_late) == (0, 0)


def test_an_exit_that_fills_in_parts_is_forced_when_its_time_comes() -> None:
    def price(instrument: int, minute: int) -> tuple[int, int]:
        plain = money((100, 50, 20, 10)[instrument])
        return (plain * 90 // 100, plain) if minute > 28 else (plain, plain)

    player = played(
        minutes(0, FULL, score=BULL, price=price, volume=lambda _, m: 100_000 if m < 26 or m > 28 else 100)
    )
    assert fills(player)[-1] == (at(0, 29), QQQ, SELL, 20, money(90))
    assert (player.account.sessions_not_flat, player.account.sessions_flat_late) == (0, 0)


def test_an_exit_that_rests_is_replaced_where_it_stands_still_for_too_long() -> None:
    def price(instrument: int, minute: int) -> tuple[int, int]:
        plain = money((100, 50, 20, 10)[instrument])
        return (plain * 95 // 100, plain) if minute > 4 else (plain, plain)

    player = played(minutes(0, range(1, 11), score=lambda m: BULL if m < 4 else 0, price=price))
    assert player.position(QQQ) == 0
    assert fills(player)[-1][-1] == money(95)
    assert player.alerts.kind.tolist() == [AlertKind.BREAKER_TRIPPED, AlertKind.BREAKER_RELEASED]


def test_an_order_still_open_at_the_close_ends_with_the_session() -> None:
    """Without any tick or bar at the close, the session ends with the first row after it."""
    silent = [row for row in minutes(0, FULL, score=BULL) if row.time_ns <= at(0, 25)]
    player = played(silent + minutes(1, range(1, 4)), 30, 30)
    expired = next(e for e in player.executions if e.kind == ExecutionKind.EXPIRED)
    assert (expired.time_ns, expired.known_ns, expired.intent) == (at(0, 30), at(0, 30), EXIT)
    ends = [int(d.time_ns) for d in player.decisions if d.stage == Stage.SESSION_END]
    assert ends == [at(0, 30)]
    assert player.account.breaches[3] == 1


def test_nothing_is_ordered_between_sessions() -> None:
    after = [row._replace(time_ns=row.time_ns + 40 * MINUTE) for row in minutes(0, range(1, 20), score=BULL)]
    player = played(minutes(0, FULL) + after, 30, 30)
    assert sent(player) == []
    assert player.account.sessions == 1


def test_each_session_ends_with_the_hash_of_its_state() -> None:
    rows = minutes(0, FULL, score=BULL) + minutes(1, FULL, score=-BULL)
    hashes = []
    for volume in (100_000, 99_999):
        player = played(
            [r._replace(volume=volume if r.instrument == SQQQ else r.volume) for r in rows], 30, 30
        )
        ends = [d for d in player.decisions if d.stage == Stage.SESSION_END]
        hashes.append([(int(d.observed), int(d.limit)) for d in ends])
    assert [len(h) for h in hashes] == [2, 2]
    assert len({*hashes[0], *hashes[1]}) == 4  # a lot of volume in one instrument is another state


# --- operators and breakers


def told(minute: int, *actions: ControlAction, session: int = 0) -> list[Row]:
    """Commands at the end of a minute, each newer than the one before."""
    time_ns = at(session, minute)
    return [Row(time_ns, -1, command=command(a, time_ns + k)) for k, a in enumerate(actions)]


def by_time(*rows: Row) -> list[Row]:
    return sorted(rows, key=lambda row: row.time_ns)


def test_a_flatten_sells_everything_at_any_price_and_enters_nothing_until_resumed() -> None:
    player = played(by_time(*minutes(0, range(1, 21), score=BULL), *told(5, FLATTEN), *told(9, RESUME)))
    assert sent(player) == [(at(0, 1), QQQ, BUY, 50), (at(0, 5), QQQ, SELL, 50), (at(0, 9), QQQ, BUY, 49)]
    assert player.orders[1].limit_price == 0
    assert (player.account.flattening, player.account.level) == (0, HaltLevel.ACTIVE)
    assert [t for t, _, reason in refusals(player, Stage.HALT_LEVEL)] == [at(0, m) for m in (6, 7, 8)]


def test_a_flatten_cancels_what_is_not_filled() -> None:
    rows = minutes(0, range(1, 9), score=BULL, volume=lambda _, m: 100_000 if m == 1 else 0)
    player = played(by_time(*rows, *told(3, FLATTEN)))
    kinds = [(int(o.time_ns), OrderKind(int(o.kind))) for o in player.orders]
    assert kinds == [(at(0, 1), OrderKind.NEW), (at(0, 3), OrderKind.CANCEL)]
    assert player.decisions[1].reason == Reason.FLATTENING


def test_an_account_that_reduces_cancels_entries_keeps_positions_and_still_exits() -> None:
    player = played(
        by_time(
            *minutes(
                0,
                range(1, 13),
                score=lambda m: BULL if m < 9 else 0,
                volume=lambda _, m: 200 if m == 2 else 10**6 * (m < 2 or m > 5),
            ),
            *told(4, REDUCE),
        ),
        orders__entry_lifetime_bars=20,
    )
    assert player.orders.kind.tolist()[:2] == [OrderKind.NEW, OrderKind.CANCEL]
    assert sent(player) == [(at(0, 1), QQQ, BUY, 50), (at(0, 9), QQQ, SELL, 20)]
    assert player.account.level == HaltLevel.REDUCING


def test_a_halted_account_holds_until_the_end_of_the_day() -> None:
    player = played(
        by_time(*minutes(0, FULL, score=lambda m: BULL if m < 5 else -BULL), *told(4, HALT)),
    )
    assert sent(player) == [(at(0, 1), QQQ, BUY, 50), (at(0, 25), QQQ, SELL, 50)]


def test_a_kill_sells_everything_and_outlives_a_restart_and_the_night() -> None:
    rows = by_time(
        *minutes(0, FULL, score=BULL),
        *minutes(1, FULL, score=BULL),
        *minutes(2, FULL, score=BULL),
        *told(5, KILL),
        *told(2, FLATTEN, session=1),
        *told(3, RESUME, session=2),
    )
    player = Player.of(make_config(), make_sessions(30, 30, 30))
    for group in groups(rows):
        player.apply(group)
        player.dump_and_load()
    assert [(t, side) for t, _, side, _ in sent(player)] == [
        (at(0, 1), BUY),
        (at(0, 5), SELL),
        (at(2, 3), BUY),
        (at(2, 25), SELL),
    ]
    assert player.account.breaches.tolist() == [0] * 6


def test_a_kill_at_night_sells_first_thing_in_the_morning() -> None:
    held = minutes(0, FULL, score=BULL, missing=lambda _, m: m > 25)
    player = played([*held, *told(40, KILL), *minutes(1, range(1, 5), score=BULL)], 30, 30)
    assert [(t, side) for t, _, side, _ in sent(player) if t > at(0, 30)] == [(at(1, 1), SELL)]
    assert player.position(QQQ) == 0


def falling(first: int, share: int) -> Callable[[int, int], tuple[int, int]]:
    """Prices that lose `share` hundredths from minute `first` on."""

    def price(instrument: int, minute: int) -> tuple[int, int]:
        plain = money((100, 50, 20, 10)[instrument])
        now = plain * (100 - share) // 100 if minute >= first else plain
        return now, now

    return price


def test_the_loss_of_a_day_sells_everything_until_the_next_session() -> None:
    player = played(
        minutes(0, FULL, score=BULL, price=falling(5, 10)) + minutes(1, range(1, 4), score=BULL),
        30,
        30,
        breakers__daily_loss__share=Decimal("0.05"),
    )
    assert [(t, side) for t, _, side, _ in sent(player)] == [
        (at(0, 1), BUY),
        (at(0, 5), SELL),
        (at(1, 1), BUY),
    ]
    assert player.orders[1].limit_price == 0
    kinds = [(int(a.time_ns), AlertKind(int(a.kind))) for a in player.alerts]
    assert kinds == [(at(0, 5), AlertKind.BREAKER_TRIPPED), (at(1, 1), AlertKind.BREAKER_RELEASED)]


def test_a_drawdown_halves_what_is_held() -> None:
    player = played(
        minutes(0, range(1, 9), score=BULL, price=falling(5, 10)),
        breakers__drawdown__share=Decimal("0.05"),
        breakers__drawdown__release_share=Decimal("0.01"),
    )
    assert sent(player) == [(at(0, 1), QQQ, BUY, 50), (at(0, 5), QQQ, SELL, 24)]  # a quarter of 9,499.5 at 90
    assert player.position(QQQ) == 26


def test_nothing_refuses_an_exit() -> None:
    """Every breaker but the one that sells everything is tripped, no message is left, no cash, and the
    venue has said what does not fit.
    """
    desk = Desk.of()
    desk.bars(1, BULL)
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    state, account = desk.player.state, desk.player.account
    for breaker in state.breakers[1:]:
        breaker.tripped = 1
    state.limits[0].messages_per_minute = 1
    account.level = HaltLevel.REDUCING
    account.tokens = 0
    account.reserved = account.cash
    state.positions[QQQ].blocked = Reason.BLOCKED
    state.positions[QQQ].opened_ns = at(0, 2)
    desk.bars(2)
    assert (desk.order().side, desk.order().quantity, desk.order().time_ns) == (SELL, 50, at(0, 2))
    assert [d.outcome for d in desk.player.decisions if d.time_ns == at(0, 2)] == [Outcome.APPROVED]


def test_without_messages_left_entries_wait_and_exits_go() -> None:
    desk = Desk.of(
        gates__messages__burst=4, gates__messages__per_minute=1, breakers__exit_failure__attempts=1
    )
    desk.bars(1, BULL)
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    desk.bars(2)
    for _ in range(8):  # at any price from the first on, so without a wait
        desk.hear(report(ExecutionKind.REJECTED, desk.order()))
    assert desk.player.account.tokens == 0
    assert len(desk.sent()) == 10
    desk.hear(desk.fill(desk.order(), 50, cumulative=50))
    entered = {}
    for minute in range(3, 8):
        desk.bars(minute, BULL)
        entered[minute] = desk.order().side == BUY
    assert entered == {3: False, 4: False, 5: False, 6: True, 7: True}  # two of four are kept for exits
    assert refusals(desk.player, Stage.MESSAGES) == [(at(0, m), QQQ, Reason.MESSAGE_LIMIT) for m in (3, 4, 5)]


# --- repetition, order, cuts


COUNTERS = ("offset", "repeated_slices", "late_slices", "ticks")


def all_but_counters(player: Player) -> list[int]:
    """The state without what counts rows of the journal."""
    state = state_of(player.state.words.copy(), player.rules)
    for name in COUNTERS:
        state.account[0][name] = 0
    return state.words.tolist()


def all_but_hashes(player: Player) -> dict[str, list[Any]]:
    """Everything that came out, except the hash of the state, which counters are part of."""
    decisions = player.decisions
    for name in ("observed", "limit"):
        decisions[name][decisions.stage == Stage.SESSION_END] = 0
    return player.rows | {"decisions": decisions.tolist()}


def test_the_same_slices_again_change_nothing() -> None:
    rows = a_busy_day()
    once = played(rows, 30, 30, 30)
    twice = played([row for row in rows for _ in range(2)], 30, 30, 30)
    assert all_but_hashes(once) == all_but_hashes(twice)
    assert all_but_counters(once) == all_but_counters(twice)
    assert twice.account.repeated_slices == once.account.bars
    assert len(once.orders) > 10


def test_a_slice_again_with_other_content_in_its_group_changes_nothing() -> None:
    rows = a_busy_day()
    again = [
        copy
        for row in rows
        for copy in (
            row,
            row._replace(open=row.open - 1, close=row.close * 2, volume=900) if row.instrument >= 0 else row,
        )
    ]
    once, twice = played(rows, 30, 30, 30), played(again, 30, 30, 30)
    assert all_but_hashes(once) == all_but_hashes(twice)
    assert all_but_counters(once) == all_but_counters(twice)


def test_the_closing_slices_again_do_not_open_the_session_again() -> None:
    rows = minutes(0, FULL, score=BULL)
    player = played(rows)
    before = all_but_counters(player)
    player.apply([row for row in rows if row.time_ns == rows[-1].time_ns and row.instrument >= 0])
    assert all_but_counters(player) == before
    assert player.account.repeated_slices == 4


def test_a_late_slice_is_the_newest_of_its_symbol_and_does_not_turn_the_clock_back() -> None:
    rows = minutes(0, range(1, 6), score=BULL)
    late = [row for row in rows if row.instrument == QQQ and row.time_ns == at(0, 3)]
    player = played([row for row in rows if row.instrument != QQQ or row.time_ns < at(0, 3)])
    player.apply(late)
    assert player.state.positions[QQQ].mark_ns == at(0, 3)
    assert (player.account.time_ns, player.account.late_slices) == (at(0, 5), 1)
    assert (np.diff(player.table("equity").time_ns) >= 0).all()
    player.apply(late)
    assert (player.account.late_slices, player.account.repeated_slices) == (1, 1)


def test_slices_again_in_a_group_of_their_own_change_nothing() -> None:
    rows = minutes(0, range(1, 17), score=BULL)
    player = played(rows)
    before = {name: len(table) for name, table in player.rows.items()}
    player.apply([row for row in rows if row.time_ns == at(0, 16)])
    assert {name: len(table) for name, table in player.rows.items()} == before


def test_an_order_sent_within_a_bar_does_not_fill_at_its_open() -> None:
    player = played(minutes(0, range(1, 25), score=BULL))
    player.apply([Row(at(0, 25) + MINUTE // 2, -1)])  # bar 25 is missing; the clock sends the exit
    player.apply(minutes(0, [26], score=BULL))  # it opened half a minute before the exit
    assert player.orders[-1].side == SELL
    assert player.position(QQQ) > 0
    player.apply(minutes(0, [27], score=BULL))
    assert player.position(QQQ) == 0
    assert player.executions[-1].time_ns >= player.orders[-1].time_ns


def test_selling_a_cheap_position_is_paid_from_what_was_reserved_for_it() -> None:
    def price(_instrument: int, minute: int) -> tuple[int, int]:
        now = money(100) if minute < 10 else money(4)
        return now, now

    player = played(
        minutes(0, range(1, 31), score=BULL, price=price, volume=10**9),
        account__cash=1_000,
        venue__commission_per_unit=Decimal(50),
        gates__cash__buffer_share=0,
    )
    assert player.account.fills > 1
    assert player.account.min_free_cash >= 0
    assert player.account.breaches[1] == 0


def test_what_a_thin_bar_allows_stays_the_target() -> None:
    player = played(
        minutes(0, range(1, 14), score=BULL, volume=lambda _, m: 20 if m == 1 else 10**6),
        gates__size__max_volume_share=Decimal("0.1"),
    )
    assert player.position(QQQ) == 2
    assert len(player.orders) == 1


def test_every_close_over_which_something_is_held_is_counted() -> None:
    held = minutes(0, range(1, 31), score=BULL, missing=lambda _, m: m > 25)
    silent = [Row(at(1, m), -1) for m in range(1, 31)]
    player = played([*held, *silent, *minutes(2, range(1, 4), score=0)], 30, 30, 30)
    assert player.account.sessions_not_flat == 2


def test_the_busy_day_is_busy() -> None:
    player = played(a_busy_day(), 30, 30, 30)
    assert player.account.breaches.tolist() == [0, 0, 0, 1, 0, 0]
    assert {int(e.kind) for e in player.executions} >= {int(ExecutionKind.FILL), int(ExecutionKind.EXPIRED)}
    assert (player.orders.kind == OrderKind.CANCEL).any()


def test_orders_decisions_and_alerts_share_one_sequence_without_gaps() -> None:
    player = played(a_busy_day(), 30, 30, 30)
    tables = (player.orders, player.decisions, player.alerts)
    assert min(len(table) for table in tables) > 0
    everything = np.concatenate([table.sequence for table in tables])
    assert sorted(everything.tolist()) == list(range(len(everything))) == list(range(player.account.sequence))
    assert player.executions.number.tolist() == list(range(len(player.executions)))
    for table in (*tables, player.executions):
        assert (np.diff(table.known_ns if "known_ns" in table.dtype.names else table.time_ns) >= 0).all()


def test_every_order_has_exactly_one_decision() -> None:
    player = played(a_busy_day(), 30, 30, 30)
    decisions = {int(d.sequence): d for d in player.decisions}
    asked = player.orders[player.orders.kind == OrderKind.QUERY]
    orders = player.orders[player.orders.kind != OrderKind.QUERY]
    used = [int(o.decision) for o in orders]
    assert len(used) == len(set(used))
    assert len(asked) > 0
    assert set(asked.decision.tolist()) <= set(used)  # of the order they ask for
    for order in orders:
        decision = decisions[int(order.decision)]
        assert decision.sequence == order.sequence - 1
        assert (decision.time_ns, decision.instrument) == (order.time_ns, order.instrument)
        assert decision.outcome in (Outcome.APPROVED, Outcome.REDUCED)
        if order.kind == OrderKind.NEW:
            assert abs(int(decision.approved) - int(decision.position)) == order.quantity
    moved = {int(d.sequence) for d in player.decisions if d.outcome in (Outcome.APPROVED, Outcome.REDUCED)}
    assert moved == set(used)


def test_client_order_ids_are_unique() -> None:
    player = played(a_busy_day(), 30, 30, 30)
    names = records.Names("test", tuple(BASE["instruments"]), ("first",))
    new = player.orders[player.orders.kind == OrderKind.NEW]
    ids = records.order_ids(new, names).to_pylist()
    assert len(ids) == len(set(ids)) > 10
    told = set(records.order_ids(player.executions, names).to_pylist())
    cancelled = set(
        records.order_ids(player.orders[player.orders.kind == OrderKind.CANCEL], names).to_pylist()
    )
    assert told <= set(ids)
    assert cancelled <= set(ids)


def test_the_smallest_buffers_give_the_same_rows() -> None:
    rows = a_busy_day()
    whole = played(rows, 30, 30, 30)
    tiny = Player.of(make_config(), make_sessions(30, 30, 30), tiny=True)
    tiny.apply(rows)
    assert tiny.rows == whole.rows
    assert (tiny.state.words == whole.state.words).all()


def test_a_dump_and_load_between_any_two_times_gives_the_same_rows() -> None:
    rows = a_busy_day()
    whole = played(rows, 30, 30, 30)
    cut = Player.of(make_config(), make_sessions(30, 30, 30))
    for group in groups(rows):
        cut.apply(group)
        cut.dump_and_load()
    assert cut.rows == whole.rows
    assert (cut.state.words == whole.state.words).all()


# --- arbitrary days


@dataclass
class Sent:
    """An order as the model knows it."""

    side: int
    intent: int
    quantity: int
    worst: int  # cash that one lot can cost
    limit: int
    sent_ns: int
    cumulative: int = 0
    live: bool = True

    @property
    def leaves(self) -> int:
        return self.quantity - self.cumulative if self.live else 0


@dataclass
class Model:
    """Positions and cash from orders and executions alone, in Python's integers; no principle may break."""

    config: Config
    cash: int = 0
    positions: list[int] = field(default_factory=lambda: [0] * 4)
    orders: dict[tuple[int, int, int], Sent] = field(default_factory=dict)
    openings: set[tuple[int, int]] = field(default_factory=set)
    executions: int = 0
    sequence: int = 0
    not_flat: int = 0

    def __post_init__(self) -> None:
        self.cash = int(self.config.account.cash * MICRO)

    def live(self, instrument: int) -> list[Sent]:
        return [order for (i, _, _), order in self.orders.items() if i == instrument and order.live]

    def exposure(self, instrument: int) -> int:
        return self.positions[instrument] + sum(o.leaves for o in self.live(instrument) if o.side == BUY)

    def check(self) -> None:
        buys = [o for i in range(4) for o in self.live(i) if o.side == BUY]
        assert self.cash >= 0
        assert self.cash - sum(o.leaves * o.worst for o in buys) >= 0, "principle 1"
        bull, bear = self.exposure(QQQ) + self.exposure(TQQQ), self.exposure(PSQ) + self.exposure(SQQQ)
        assert bull == 0 or bear == 0, "principle 2"
        if self.config.gates.conflict.two_of_one_side == "refuse":
            assert sum(self.exposure(i) > 0 for i in range(4)) <= 1
        for i in range(4):
            live = self.live(i)
            assert len(live) <= 1
            exits = [o for o in live if o.intent == EXIT]
            assert sum(o.leaves for o in live if o.side == SELL) <= self.positions[i], "principle 5"
            assert all(o.side == SELL for o in exits)

    def worst(self, limit: int) -> int:
        venue = self.config.venue
        share = Decimal(limit) * venue.commission_share
        return limit + int(venue.commission_per_unit * MICRO) + int(share.to_integral_value("ROUND_CEILING"))

    def send(self, order: Any, bar_ns: int) -> None:
        key = (int(order.instrument), int(order.order_ns), int(order.attempt))
        if order.kind == OrderKind.CANCEL:
            assert self.orders[key].live
            return
        if order.kind == OrderKind.QUERY:
            assert key in self.orders
            return
        assert key not in self.orders
        assert order.order_ns == bar_ns
        if order.intent == ENTRY:
            opening = (int(order.instrument), bar_ns)
            assert opening not in self.openings, "principle 4"
            self.openings.add(opening)
            assert order.limit_price > 0
        limit = int(order.limit_price)
        self.orders[key] = Sent(
            int(order.side),
            int(order.intent),
            int(order.quantity),
            self.worst(limit),
            limit,
            int(order.time_ns),
        )
        assert order.quantity > 0
        self.check()

    def told(self, execution: Any, slices: dict[int, Row]) -> None:
        assert execution.number == self.executions
        self.executions += 1
        instrument = int(execution.instrument)
        order = self.orders[(instrument, int(execution.order_ns), int(execution.attempt))]
        assert order.live
        if execution.kind == ExecutionKind.FILL:
            quantity, price = int(execution.quantity), int(execution.price)
            row = slices[instrument]
            assert 0 < quantity <= row.volume * self.config.venue.participation
            assert order.sent_ns <= execution.time_ns == row.time_ns - MINUTE
            if order.side == BUY:
                assert row.open <= price <= order.limit
            else:
                assert order.limit <= price <= row.open
            order.cumulative += quantity
            signed = quantity if order.side == BUY else -quantity
            self.positions[instrument] += signed
            self.cash -= signed * price + int(execution.fee)
            order.live = order.cumulative < order.quantity
        else:
            assert execution.quantity == 0
            order.live = False
        assert 0 <= order.cumulative == execution.cumulative <= order.quantity
        assert execution.leaves == order.leaves
        assert execution.position == self.positions[instrument]
        assert execution.cash == self.cash
        self.check()


SPANS = st.lists(st.integers(18, 28), min_size=2, max_size=3)
LIQUID, DRAWN, DEAD = range(3)  # how a session ends: with volume, as drawn, without bars
CELLS = 3  # bytes that say what one bar is


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """The family with two strategies and random limits."""

    def share(low: int, high: int, unit: int = 1000) -> Decimal:
        return Decimal(draw(st.integers(low, high))) / unit

    first = share(1, 99, 100)
    stop = draw(st.integers(5, 8))
    cancel = draw(st.integers(4, stop))
    family = BASE["families"][0]
    weight = draw(st.sampled_from([Decimal(1), Decimal("0.5")]))
    sides = {side: [{**tier, "weight": weight} for tier in family[side]] for side in ("bull", "bear")}
    return make_config(
        account__cash=draw(st.sampled_from([500, 10_000, 10_000, 1_000_000])),
        families=[{**family, **sides, "hysteresis": share(0, 200)}],
        strategies=[strategy("first", str(first)), strategy("second", str(1 - first))],
        gates__session__entries_stop_minutes=stop,
        gates__session__cancel_entries_minutes=cancel,
        gates__session__exits_begin_minutes=4,
        gates__freshness__max_age_seconds=draw(st.sampled_from([1, 60, 90, 600])),
        gates__conflict__two_of_one_side=draw(st.sampled_from(["allow", "refuse"])),
        gates__frequency__openings_per_window=draw(st.integers(1, 16)),
        gates__frequency__openings_per_day=draw(st.integers(1, 40)),
        gates__frequency__window_minutes=draw(st.integers(1, 30)),
        gates__frequency__release=draw(st.sampled_from(["operator", "next_session"])),
        gates__size__max_position_value=draw(st.sampled_from([300, 5_000, 1_000_000])),
        gates__size__max_position_share=share(50, 1000),
        gates__size__max_positions=draw(st.integers(1, 4)),
        gates__size__max_volume_share=draw(st.sampled_from([share(1, 1000), Decimal(1)])),
        gates__size__min_order_value=draw(st.sampled_from([1, 100])),
        gates__cash__buffer_share=share(0, 100),
        gates__cash__collar=share(1, 200),
        orders__entry_lifetime_bars=draw(st.integers(1, 6)),
        orders__exit_collar=draw(st.sampled_from([Decimal("0.001"), Decimal("0.02"), Decimal("0.2")])),
        venue__half_spread=share(0, 20, 10_000),
        venue__slippage=share(0, 20, 10_000),
        venue__commission_per_unit=share(0, 20),
        venue__commission_share=share(0, 20, 10_000),
        venue__participation=draw(st.sampled_from([share(1, 1000), Decimal("0.1"), Decimal(1)])),
    )


SCORES = (0, BULL, BULL3, -BULL, -BULL3, MICRO, -MICRO, 100_000, -100_000, 1)
VERDICTS = (Verdict.PASSED, Verdict.PASSED, Verdict.PENDING, Verdict.REFUSED_NOISE, Verdict.INVALID)


class Days:
    """Sessions, their rows by time, and how each session ends. Its text leaves the rows out: they are
    hundreds, and a failure is replayed by its blob.
    """

    def __init__(self, sessions: Sessions, times: list[list[Row]], ends: list[int]):
        self.sessions, self.times, self.ends = sessions, times, ends

    def __repr__(self) -> str:
        return f"{len(self.times)} times of sessions that end {self.ends}"


@st.composite
def days(draw: st.DrawFn) -> Days:
    """One byte of a cell says presence and volume, one moves the open, one the close; zeros are a plain
    bar.
    """
    spans = draw(SPANS)
    sessions = make_sessions(*spans)
    ends = draw(st.lists(st.sampled_from([LIQUID, DRAWN, DEAD]), min_size=len(spans), max_size=len(spans)))
    ticks = draw(st.booleans())
    found: list[list[Row]] = []
    marks = [money(p) for p in (100, 50, 20, 10)]
    for session, span in enumerate(spans):
        cells = draw(st.binary(min_size=span * 4 * CELLS, max_size=span * 4 * CELLS))
        said = draw(st.binary(min_size=span * 2, max_size=span * 2))
        for minute in range(1, span + 1):
            group = []
            closing = minute >= span - 5
            assured = closing and ends[session] == LIQUID
            for i in range(4):
                offset = ((minute - 1) * 4 + i) * CELLS
                presence, jump, drift = cells[offset : offset + CELLS]
                if (presence > 215 and not assured) or (closing and ends[session] == DEAD):
                    continue
                volume = (100_000, 10**9, 3_000, 100, 0)[presence % 5]
                if assured:
                    volume = 10**12
                opened = max(marks[i] + marks[i] * (jump if jump < 128 else jump - 256) // 640, MICRO // 10)
                marks[i] = max(opened + opened * (drift if drift < 128 else drift - 256) // 1280, MICRO // 10)
                signal: dict[str, Any] = {}
                if i == QQQ:
                    pair = said[2 * minute - 2 : 2 * minute]
                    verdicts = tuple(VERDICTS[b // 10 % 5] for b in pair)
                    scores = tuple(
                        SCORES[b % 10] if v == Verdict.PASSED else 0
                        for b, v in zip(pair, verdicts, strict=True)
                    )
                    signal = {"values": scores, "verdicts": verdicts}
                group.append(Row(at(session, minute), i, opened, marks[i], volume, **signal))
            if ticks and not group:
                group.append(Row(at(session, minute), -1))
            if group:
                found.append(group)
    return Days(sessions, found, ends)


@settings(deadline=None, max_examples=200 if COMPILED else 50)
@given(configs(), days())
def test_the_principles_hold_on_any_day(config: Config, day: Days) -> None:
    sessions, times, closing = day.sessions, day.times, day.ends
    player = Player.of(config, sessions)
    model = Model(config)
    seen: dict[str, int] = dict.fromkeys(NAMES, 0)
    bars = [0] * 4
    start = model.cash
    for group in times:
        player.apply(group)
        now = group[0].time_ns
        slices = {row.instrument: row for row in group if row.instrument >= 0}
        for i in slices:
            bars[i] = now
        fresh = {name: player.table(name)[seen[name] :] for name in NAMES}
        seen = {name: len(player.rows[name]) for name in NAMES}
        closes = {int(c) for c in sessions.close_ns}
        ends = [d for d in fresh["decisions"] if d.stage == Stage.SESSION_END]
        ended = [e for e in fresh["executions"] if e.kind == ExecutionKind.EXPIRED and e.time_ns in closes]
        earlier = [e for e in ended if e.known_ns < now]  # of a session that ended before these rows
        late = [e for e in ended if e.known_ns == now]
        answers = [e for e in fresh["executions"] if e.kind == ExecutionKind.CANCELLED]  # to these orders
        apart = {int(e.number) for e in (*ended, *answers)}
        usual = [e for e in fresh["executions"] if int(e.number) not in apart]
        for end in ends:
            if end.time_ns < now:
                model.not_flat += any(model.positions) or bool(earlier)
        for execution in [*earlier, *usual]:
            model.told(execution, slices)
        for order in fresh["orders"]:
            cancelled = any(e.instrument == order.instrument for e in answers)
            if cancelled and order.kind == OrderKind.NEW:  # the venue has answered in between
                for execution in answers:
                    model.told(execution, slices)
                answers = []
            model.send(order, bars[int(order.instrument)])
        for execution in answers:
            model.told(execution, slices)
        for end in ends:
            if end.time_ns == now:
                model.not_flat += any(model.positions) or bool(late)
        for execution in late:
            model.told(execution, slices)
        account, positions = player.account, player.state.positions
        assert account.cash == model.cash
        assert [int(p.quantity) for p in positions] == model.positions
        assert (
            model.cash + sum(int(p.book) for p in positions) - int(account.realised) + int(account.fees)
            == start
        )
        assert [int(account.breaches[k]) for k in (1, 2, 4, 5)] == [0, 0, 0, 0]
        assert account.breaches[3] == account.sessions_not_flat == model.not_flat
        assert account.illegal_transitions == 0
        session = int(np.searchsorted(sessions.close_ns, now))
        left = int(sessions.close_ns[session]) - now
        if closing[session] == LIQUID and left <= MINUTE:
            assert model.positions == [0] * 4, "principle 3"
            assert not any(model.live(i) for i in range(4))
        numbers = [n for name in ("orders", "decisions", "alerts") for n in fresh[name].sequence.tolist()]
        assert sorted(numbers) == list(range(model.sequence, model.sequence + len(numbers)))
        model.sequence += len(numbers)


@settings(deadline=None, max_examples=60 if COMPILED else 15)
@given(configs(), days(), st.integers(1, 30))
def test_any_day_is_the_same_however_it_is_cut(config: Config, day: Days, size: int) -> None:
    sessions, times = day.sessions, day.times
    whole, cut = Player.of(config, sessions), Player.of(config, sessions, tiny=True)
    whole.apply([row for group in times for row in group])
    for first in range(0, len(times), size):
        cut.apply([row for group in times[first : first + size] for row in group])
        cut.dump_and_load()
    assert cut.rows == whole.rows
    assert (cut.state.words == whole.state.words).all()
