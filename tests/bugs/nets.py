"""What the nets say of the account that is imported here.

    python nets.py STATEMENT SEED...

All days below go through the account, then simulated sessions, until one breaks the statement. What leaves a
day or a session goes through the audit as well. Printed is JSON: what was told, a list of [net, statement,
where, text].
"""

import json
import sys
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
    groups,
    journal,
    make_config,
    make_sessions,
    money,
    report,
    strategy,
)

from flows.auditor import AuditBatch, Auditor, Counts
from flows.auditor.machine import recounted
from flows.simulation.again import replay
from flows.simulation.run import Simulator
from flows.simulation.scenario import make_scenario
from operators.account_machine import Account, JournalError
from operators.account_rules import account_rules
from operators.account_state import COMMAND, records
from schemas.batches import AccountBatch, JournalBatch
from schemas.codes import ControlAction, ControlRefusal, ExecutionKind, Verdict
from schemas.records import MAX_INT

SIMULATION, AUDIT, MACHINE = "simulation", "audit", "machine"

Told = list[tuple[str, str, str, str]]


def failed(auditor: Auditor, batch: AuditBatch, where: str, *, whole: bool) -> Told:
    """What the audit finds; of rows that stop somewhere only what they break themselves."""
    findings = recounted(auditor, batch)
    if not whole:
        auditor = Auditor(auditor.terms, auditor.names)
        auditor.step(batch)
        findings = auditor.findings()
    return [(AUDIT, key, where, str(found.first)) for key, found in findings.items() if not found.held]


# --- simulated sessions


def told_by_seed(seed: int) -> Told:
    """A simulated session, its journal again, and the audit of what left it."""
    scenario = make_scenario(seed)
    played = Simulator().play(scenario)
    where = f"seed {seed}"
    found = played.finding or replay(played)
    orders, executions, decisions, equity, alerts = played.outputs()
    auditor = Auditor.of(scenario.config, scenario.sessions)
    batch = AuditBatch(orders, executions, decisions, alerts, equity)
    told = failed(auditor, batch, where, whole=played.finding is None)
    return [*([(SIMULATION, found.statement.name, where, str(found))] if found else []), *told]


# --- days through the machine, with the paper venue inside it


def bars(session: int, minute: int, *scores: int, instruments: Sequence[int] = range(4)) -> list[Row]:
    """A bar of each instrument, and a tick; a score a strategy, on the bar of QQQ."""
    rows = []
    for i in instruments:
        price = money(PLAIN_PRICES[i])
        told = tuple(Verdict.PASSED if score else Verdict.NEUTRAL for score in scores)
        signals = {"values": scores, "verdicts": told} if i == QQQ else {}
        rows.append(Row(at(session, minute), i, price, price, 100_000, **signals))
    return [*rows, Row(at(session, minute), -1)]


def tick(session: int, minute: int) -> Row:
    return Row(at(session, minute), -1)


def flips() -> tuple[Any, list[Row]]:
    """Two strategies enter one side at once, change to the other side, and leave it. Capital is all used."""
    config = make_config(
        strategies=[strategy("first", "0.5"), strategy("second", "0.5")],
        gates__conflict__two_of_one_side="allow",
        gates__cash__buffer_share=0,
        **{f"families__0__{side}__{k}__weight": 1 for side in ("bull", "bear") for k in (0, 1)},
    )
    plan = {2: (BULL, BULL3), 6: (-BULL, -BULL3), 12: (0, 0)}
    scores = (0, 0)
    rows = []
    for minute in range(1, 31):
        scores = plan.get(minute, scores)
        rows += bars(0, minute, *scores)
    return config, rows


def feed_dies() -> tuple[Any, list[Row]]:
    """The last bars before the close are missing, except one that comes after the exits have begun."""
    rows = [row for minute in range(1, 24) for row in bars(0, minute, BULL)]
    rows += [tick(0, minute) for minute in range(24, 28)]
    rows += bars(0, 28, BULL)
    return make_config(), rows + [tick(0, minute) for minute in (29, 30)]


def feed_is_slow() -> tuple[Any, list[Row]]:
    """Bars of one instrument come after those of the others; some bars come again."""
    rows: list[Row] = []
    for minute in range(1, 31):
        rows += bars(0, minute, BULL if minute < 10 else 0, instruments=(0, 1, 2))
        if minute > 1:
            rows += bars(0, minute - 1, 0, instruments=(3,))[:1]
        if minute % 5 == 0:
            rows += bars(0, minute - 2, BULL, instruments=(1, 2))
    return make_config(), rows


MACHINE_DAYS = (flips, feed_dies, feed_is_slow)


def told_by_machine(day: Callable[[], tuple[Any, list[Row]]]) -> Told:
    """The day in three pieces. After each the process is another one with the state of that before; the 2nd
    begins to read where the day does, the third where the second has ended.
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
        try:
            parts += machine.step(JournalBatch(first, *piece, k == 2))
        except JournalError as error:
            return [(MACHINE, "D3", day.__name__, str(error))]
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
    auditor = Auditor.of(config, sessions, counts, int(account.cash))
    return failed(auditor, AuditBatch(**tables), day.__name__, whole=True)


# --- days whose venue is this file


class Venue(Desk):
    """A desk whose account is judged by the nets alone."""

    def check(self) -> None:
        pass

    def command(self, action: ControlAction, refusal: int = ControlRefusal.NONE) -> None:
        """An operator's command, signed by one, a second later."""
        self.now += 10**9
        row = records(COMMAND, 1)[0]
        row.action, row.command_id, row.expires_ns = action, self.now, MAX_INT
        row.keys, row.refusal = 1, refusal
        row.breaker = row.strategy = row.instrument = row.limit = -1
        self.apply([Row(self.now, -1, command=row)])

    def fill_all(self, price: int = 100) -> None:
        """The last order fills at once."""
        order = self.order()
        self.hear(self.fill(order, order.quantity, price, cumulative=order.quantity))

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


def not_filled(desk: Venue) -> None:
    """An exit waits for a bar."""
    desk.enter()
    desk.bars(5)
    desk.hear(report(ExecutionKind.ACCEPTED, desk.order()))
    desk.bars(6)
    desk.fill_all()


def lost(desk: Venue) -> None:
    """Nobody knows what has become of an entry."""
    desk.bars(1, BULL)
    first = desk.order()
    desk.hear(report(ExecutionKind.LOST, first))
    desk.bars(2, BULL)
    desk.wait(15)
    desk.hear(desk.fill(first, first.quantity, cumulative=first.quantity))
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
    first = desk.order()
    desk.hear(report(ExecutionKind.CANCELLED, first, cumulative=30))
    desk.wait(10)
    desk.fill_all()
    desk.hear(desk.fill(first, 30, cumulative=30))


def killed(desk: Venue) -> None:
    """A kill, then a command that nobody has signed."""
    desk.enter()
    desk.command(ControlAction.KILL)
    desk.command(ControlAction.RESUME, ControlRefusal.FORGED)
    desk.fill_all()


def many_messages(desk: Venue) -> None:
    """A flatten when all messages of the minute are used."""
    desk.enter()
    desk.command(ControlAction.FLATTEN)
    desk.wait(60)
    desk.fill_all()


def loses(desk: Venue) -> None:
    """A position loses more than the day may."""
    desk.enter()
    for minute in range(2, 6):
        prices = (money(100 - 5 * minute),) * 2
        desk.bars(minute, BULL, price=lambda *_, prices=prices: prices)
    desk.fill_all()


DESK_DAYS: dict[Any, dict[str, Any]] = {
    rejected: {},
    not_filled: {},
    lost: {},
    told_twice: {},
    out_of_order: {},
    filled_late: {},
    fill_missing: {},
    killed: {},
    many_messages: {"gates__messages__burst": 1, "gates__messages__per_minute": 1},
    loses: {"breakers__daily_loss__share": Decimal("0.02")},
}


def told_by_desk(day: Callable[[Venue], None], **changes: Any) -> Told:
    """The day, to its close."""
    desk = Venue.of(60, **changes)
    day(desk)
    desk.apply([tick(0, 60)])
    player = desk.player
    tables = {name: player.table(name) for name in NAMES}
    auditor = Auditor.of(player.config, make_sessions(60), closing_cash=int(player.account.cash))
    return failed(auditor, AuditBatch(**tables), day.__name__, whole=True)


# --- all of them


def told_by_days() -> Told:
    told = [row for day in MACHINE_DAYS for row in told_by_machine(day)]
    return told + [row for day, changes in DESK_DAYS.items() for row in told_by_desk(day, **changes)]


def main(statement: str, seeds: Sequence[str]) -> None:
    told = told_by_days()
    for seed in seeds:
        told += told_by_seed(int(seed))
        if any(net == SIMULATION and key == statement for net, key, _, _ in told):
            break
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
