"""Days written by hand. On each, an account with some bug breaks a statement; one without breaks none.

A day is played through the account's machine, with the paper venue inside it, or at a desk, where the venue
is this file.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from account_fixtures import (
    BULL,
    BULL3,
    NAMES,
    PLAIN_PRICES,
    QQQ,
    Desk,
    Row,
    at,
    command,
    groups,
    journal,
    make_config,
    make_sessions,
    money,
    report,
    strategy,
)

from flows.auditor import AuditBatch, Auditor, Counts
from operators.account_machine import Account
from operators.account_rules import account_rules
from schemas.batches import AccountBatch, JournalBatch
from schemas.codes import ControlAction, ControlRefusal, ExecutionKind, Verdict
from schemas.config import NS

Left = tuple[Auditor, AuditBatch]
"""What left the account on a whole day, and who is to judge it."""

ALL_CAPITAL: dict[str, Any] = {
    "strategies": [strategy("first", "0.5"), strategy("second", "0.5")],
    "gates__conflict__two_of_one_side": "allow",
    "gates__cash__buffer_share": 0,
    **{f"families__0__{side}__{k}__weight": 1 for side in ("bull", "bear") for k in (0, 1)},
}
"""Two strategies that use all of it, on any instruments of one side."""

# --- through the machine


def bars(minute: int, *scores: int, instruments: Sequence[int] = range(4)) -> list[Row]:
    """A bar of each instrument and a tick; a score for each strategy, on the bar of QQQ."""
    rows = []
    for i in instruments:
        price = money(PLAIN_PRICES[i])
        told = tuple(Verdict.PASSED if score else Verdict.NEUTRAL for score in scores)
        signals = {"values": scores, "verdicts": told} if i == QQQ else {}
        rows.append(Row(at(0, minute), i, price, price, 100_000, **signals))
    return [*rows, Row(at(0, minute), -1)]


def flips() -> tuple[Any, list[Row]]:
    """Two strategies enter one side at once, change to the other side, and leave it."""
    plan = {2: (BULL, BULL3), 6: (-BULL, -BULL3), 12: (0, 0)}
    scores = (0, 0)
    rows = []
    for minute in range(1, 31):
        scores = plan.get(minute, scores)
        rows += bars(minute, *scores)
    return make_config(**ALL_CAPITAL), rows


def feed_dies() -> tuple[Any, list[Row]]:
    """The last bars before the close are missing, except one that comes after the exits have begun."""
    rows = [row for minute in range(1, 24) for row in bars(minute, BULL)]
    rows += [Row(at(0, minute), -1) for minute in range(24, 28)]
    rows += bars(28, BULL)
    return make_config(), rows + [Row(at(0, minute), -1) for minute in (29, 30)]


def feed_is_slow() -> tuple[Any, list[Row]]:
    """Bars of one instrument come after those of the others; some bars come again."""
    rows: list[Row] = []
    for minute in range(1, 31):
        rows += bars(minute, BULL if minute < 10 else 0, instruments=(0, 1, 2))
        if minute > 1:
            rows += bars(minute - 1, instruments=(3,))[:1]
        if minute % 5 == 0:
            rows += bars(minute - 2, instruments=(1, 2))
    return make_config(), rows


MACHINE_DAYS = (flips, feed_dies, feed_is_slow)


def through_machine(day: Callable[[], tuple[Any, list[Row]]]) -> Left:
    """The day in three pieces. After each, another process has the state of the one before. The second begins
    to read where the day does, the third where the second has ended. Raises `JournalError`.
    """
    config, rows = day()
    sessions = make_sessions(30)
    rules = account_rules(config, sessions, paper=True)
    events, values, verdicts, reports, commands = journal(rows, len(config.strategies))
    times = groups(rows)
    starts = [0, *np.cumsum([len(group) for group in times]).tolist()]
    marks = [starts[len(times) * k // 3] for k in range(4)]
    machine = Account(config, rules)
    parts: list[AccountBatch] = []
    for k, begin in enumerate((0, 0, 2)):
        first, last = marks[begin], marks[k + 1]
        piece = (events[first:last], values[first:last], verdicts[first:last], reports, commands)
        parts += machine.step(JournalBatch(first, *piece, k == 2))
        snapshot = machine.dump()
        machine = Account(config, rules)
        machine.load(snapshot)
    tables = {name: np.concatenate([getattr(part, name) for part in parts]) for name in NAMES}
    account = machine.state.account[0]
    slices = len({(row.time_ns, row.instrument) for row in rows if row.instrument >= 0})
    counts = Counts(
        {"orders": account.orders, "fills": account.fills, "bar_ends": account.groups},
        {"bars": (int(account.bars), slices)},
    )
    return Auditor.of(config, sessions, counts, int(account.cash)), AuditBatch(**tables)


# --- at a desk


class Venue(Desk):
    """A desk whose account is judged by the nets alone."""

    def check(self) -> None:
        pass

    def hear_operator(self, action: ControlAction, refusal: ControlRefusal = ControlRefusal.NONE) -> None:
        """A command, a second later."""
        self.now += NS
        said = command(action, self.now, refusal=refusal)
        self.apply([Row(self.now, -1, command=said)])

    def fill_all(self) -> None:
        """The last order fills at once."""
        order = self.order()
        self.hear(self.fill(order, order.quantity, cumulative=order.quantity))

    def enter(self, minute: int = 1) -> None:
        self.bars(minute, BULL)
        self.fill_all()

    def leave(self, minute: int) -> None:
        self.bars(minute)
        self.fill_all()


def rejected(desk: Venue) -> None:
    """An entry is rejected between two bars, then an exit."""
    desk.bars(1, BULL)
    desk.hear(report(ExecutionKind.REJECTED, desk.order()))
    desk.wait(10)
    desk.enter(2)
    desk.bars(5)
    desk.hear(report(ExecutionKind.REJECTED, desk.order()))
    desk.wait(10)
    desk.fill_all()


def lost(desk: Venue) -> None:
    """Nobody knows what has become of an entry."""
    desk.bars(1, BULL)
    entry = desk.order()
    desk.hear(report(ExecutionKind.LOST, entry))
    desk.bars(2, BULL)
    desk.wait(15)
    desk.hear(desk.fill(entry, entry.quantity, cumulative=entry.quantity))
    desk.leave(5)


def told_twice(desk: Venue) -> None:
    """A part of an entry is told twice."""
    desk.bars(1, BULL)
    part = desk.fill(desk.order(), 20, cumulative=20)
    desk.hear(part)
    desk.hear(part)
    desk.hear(desk.fill(desk.order(), 30, cumulative=50))
    desk.leave(5)


def out_of_order(desk: Venue) -> None:
    """The second part of an entry is told before the first."""
    desk.bars(1, BULL)
    desk.hear(desk.fill(desk.order(), 20, cumulative=50))
    desk.hear(desk.fill(desk.order(), 30, cumulative=30))
    desk.leave(5)


def filled_late(desk: Venue) -> None:
    """An entry fills after it was cancelled."""
    desk.bars(1, BULL)
    entry = desk.order()
    desk.hear(report(ExecutionKind.ACCEPTED, entry))
    desk.bars(2)
    desk.hear(report(ExecutionKind.CANCELLED, entry))
    desk.hear(desk.fill(entry, 20, cumulative=20))
    desk.wait(1)
    desk.fill_all()


def fill_missing(desk: Venue) -> None:
    """An exit is cancelled by the venue after some of it has filled, and that fill comes last."""
    desk.enter()
    desk.bars(5)
    exit_ = desk.order()
    desk.hear(report(ExecutionKind.CANCELLED, exit_, cumulative=30))
    desk.wait(10)
    desk.fill_all()
    desk.hear(desk.fill(exit_, 30, cumulative=30))


def killed(desk: Venue) -> None:
    """A kill, then a command that nobody has signed."""
    desk.enter()
    desk.hear_operator(ControlAction.KILL)
    desk.hear_operator(ControlAction.RESUME, ControlRefusal.FORGED)
    desk.fill_all()


def many_messages(desk: Venue) -> None:
    """A flatten when all messages of the minute are used."""
    desk.enter()
    desk.hear_operator(ControlAction.FLATTEN)
    desk.wait(60)
    desk.fill_all()


def loses(desk: Venue) -> None:
    """A position loses more than the day may."""
    desk.enter()
    for minute in range(2, 6):
        prices = (money(100 - 5 * minute),) * 2
        desk.bars(minute, BULL, price=lambda *_, prices=prices: prices)
    desk.fill_all()


DESK_DAYS: dict[Callable[[Venue], None], dict[str, Any]] = {
    rejected: {},
    lost: {},
    told_twice: {},
    out_of_order: {},
    filled_late: {},
    fill_missing: {},
    killed: {},
    many_messages: {"gates__messages__burst": 1, "gates__messages__per_minute": 1},
    loses: {"breakers__daily_loss__share": Decimal("0.02")},
}
"""And what is special in its configuration."""


def at_desk(day: Callable[[Venue], None], **changes: Any) -> Left:
    """The day, to its close."""
    desk = Venue.of(60, **changes)
    day(desk)
    desk.apply([Row(at(0, 60), -1)])
    player = desk.player
    auditor = Auditor.of(player.config, make_sessions(60), closing_cash=int(player.account.cash))
    return auditor, AuditBatch(**{name: player.table(name) for name in NAMES})
