"""Canaries: small histories, each with one seeded breach, that go through the auditor before every audit.

A breach that is not reported, anything of ours that is reported beside it, or a finding in a history without
any, says that the audit itself cannot be trusted.
"""

from collections.abc import Callable
from functools import cache

from flows.auditor.books import Breach
from flows.auditor.machine import AuditBatch, Auditor, recounted
from flows.auditor.shadow import DOWN, LENGTH, NIGHT, UP, Shadow, at, shadow_terms
from flows.auditor.statements import STATEMENTS, words
from schemas.codes import (
    AlertKind,
    Breaker,
    ControlAction,
    ExecutionKind,
    HaltLevel,
    Intent,
    OrderKind,
    Outcome,
    Side,
)
from schemas.records import MICRO, Equity


class AuditAlarm(RuntimeError):  # noqa: N818 - it is one
    """The audit cannot be trusted: it does not find what it should, or finds what is not there."""


# --- a history without a breach, and one in which all breaches are the venue's


def clean() -> Shadow:
    """Two sessions of what an account does when all goes well, and when the venue is merely slow."""
    own = Shadow()
    own.alert(5, AlertKind.COMMAND)
    own.enter(10, UP, 100, 500)
    own.value(11, 50_000 * MICRO)
    part = own.order(20, UP, Side.SELL, 100, 490)
    own.fill(21, part, 60, 499)
    own.ask(22, part, OrderKind.CANCEL)
    own.report(23, part, ExecutionKind.CANCELLED)
    own.leave(24, UP, 40, 498)
    own.value(25)
    own.alert(26, AlertKind.BREAKER_TRIPPED, breaker=Breaker.RAPID_LOSS)
    own.decide(27, DOWN, 10, Outcome.REFUSED, approved=0)
    own.alert(28, AlertKind.BREAKER_RELEASED, breaker=Breaker.RAPID_LOSS)
    lost = own.order(30, DOWN, Side.BUY, 10, 30)
    own.alert(31, AlertKind.NO_ANSWER, DOWN)
    own.ask(31, lost, OrderKind.QUERY)
    own.fill(32, lost, 10, 30)
    own.leave(33, DOWN, 10, 30)
    own.alert(40, AlertKind.HALT_LEVEL, observed=HaltLevel.ACTIVE, limit=HaltLevel.HALTED)
    own.alert(41, AlertKind.HALT_LEVEL, observed=HaltLevel.HALTED, limit=HaltLevel.ACTIVE)
    own.alert(41, AlertKind.COMMAND, limit=ControlAction.RESUME)
    gone = own.order(50, UP, Side.BUY, 10, 500)
    own.report(53, gone, ExecutionKind.EXPIRED)
    own.end_session()
    own.enter(NIGHT + 10, UP, 10, 500)
    own.leave(NIGHT + 12, UP, 10, 500)
    own.end_session(1)
    return own


def contradicted() -> Shadow:
    """A cancelled entry fills after the other side was bought; the account sells it as soon as it can."""
    own = Shadow()
    late = own.order(10, UP, Side.BUY, 100, 500)
    own.ask(11, late, OrderKind.CANCEL)
    own.report(12, late, ExecutionKind.CANCELLED)
    own.enter(13, DOWN, 2_000, 30)
    own.fill(15, late, 100, 500, late=1)
    own.alert(15, AlertKind.LATE_FILL, UP)
    own.leave(16, UP, 100, 500)
    own.leave(18, DOWN, 2_000, 30)
    own.end_session()
    return own


# --- one breach each

Seeded = Callable[[Shadow], object]


def short_of_cash(own: Shadow) -> None:
    own.enter(100, UP, 201, 500)
    own.leave(102, UP, 201, 500)


def opening_without_limit(own: Shadow) -> None:
    own.fill(101, own.order(100, UP, Side.BUY, 10), 10, 500)
    own.leave(102, UP, 10, 500)


def both_sides(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    own.report(103, own.order(102, DOWN, Side.BUY, 10, 30), ExecutionKind.EXPIRED)
    own.leave(104, UP, 10, 500)


def held_over_the_close(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    own.end_session()
    own.leave(NIGHT + 10, UP, 10, 500)


def sold_too_late(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    order = own.order(388, UP, Side.SELL, 10)
    own.fill(389, order, 10, 500, known_ns=at(389) + 1)


def two_openings(own: Shadow) -> None:
    for attempt in (0, 1):
        order = own.order(100, UP, Side.BUY, 10, 500, attempt=attempt)
        own.report(101, order, ExecutionKind.EXPIRED)


def short_entry(own: Shadow) -> None:
    own.report(101, own.order(100, UP, Side.SELL, 10, 500, intent=Intent.ENTRY), ExecutionKind.EXPIRED)


def closing_cash_differs(own: Shadow) -> None:
    own.more_cash = 1


def statement_differs(own: Shadow) -> None:
    own.alert(100, AlertKind.RECONCILIATION, UP, observed=10, limit=0)


def two_exits(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    exits = [own.order(102, UP, Side.SELL, 5, attempt=attempt) for attempt in (0, 1)]
    for order in exits:
        own.fill(103, order, 5, 500)


def exit_beyond_position(own: Shadow) -> None:
    own.report(101, own.order(100, UP, Side.BUY, 10, 500, intent=Intent.EXIT), ExecutionKind.EXPIRED)


def position_differs(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.fill(101, order, 10, 500, position=11)
    own.leave(102, UP, 10, 500)


def cash_differs(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.fill(101, order, 10, 500, cash=own.cash - 5_000 * MICRO - 11)
    own.leave(102, UP, 10, 500)


def cumulative_differs(own: Shadow) -> None:
    own.fill(101, own.order(100, UP, Side.BUY, 10, 500), 10, 500, cumulative=9)
    own.leave(102, UP, 10, 500)


def overfilled(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.fill(101, order, 11, 500, late=0)
    own.leave(102, UP, 11, 500)


def applied_twice(own: Shadow) -> None:
    order = own.enter(100, UP, 10, 500)
    for minute in (102, 103):
        own.report(minute, order, ExecutionKind.FEE, fee=7, execution_id=77)
    own.leave(104, UP, 10, 500)


def late_not_told(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.report(101, order, ExecutionKind.EXPIRED)
    own.fill(102, order, 10, 500)
    own.leave(103, UP, 10, 500)


def late_told_wrongly(own: Shadow) -> None:
    own.fill(101, own.order(100, UP, Side.BUY, 10, 500), 10, 500, late=1)
    own.leave(102, UP, 10, 500)


def filled_after_rejection(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.report(101, order, ExecutionKind.REJECTED)
    own.fill(102, order, 10, 500)
    own.leave(103, UP, 10, 500)


def ended_twice(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.report(101, order, ExecutionKind.CANCELLED)
    own.report(102, order, ExecutionKind.EXPIRED)


def end_of_no_order(own: Shadow) -> None:
    order = own.enter(100, UP, 10, 500)
    own.report(102, order | {"attempt": 5}, ExecutionKind.EXPIRED)
    own.leave(103, UP, 10, 500)


def meaningless(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.report(101, order, ExecutionKind.ACCEPTED)
    own.report(102, order, ExecutionKind.EXPIRED)


def id_used_again(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    own.leave(102, UP, 5, 500)
    own.fill(105, own.order(104, UP, Side.SELL, 5, order_ns=at(90)), 5, 500)


def names_no_order(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.ask(101, order, OrderKind.QUERY, attempt=1)
    own.report(102, order, ExecutionKind.EXPIRED)


def names_another_order(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.ask(101, order, OrderKind.CANCEL, quantity=11)
    own.report(102, order, ExecutionKind.CANCELLED)


def new_while_unknown(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    lost = own.order(102, UP, Side.BUY, 10, 500)
    own.alert(103, AlertKind.UNKNOWN_OUTCOME, UP)
    own.leave(104, UP, 10, 500)
    own.report(106, lost, ExecutionKind.EXPIRED)


def open_after_session(own: Shadow) -> None:
    """The venue left the account with lots it could not have expected, so that it holds them is the venue's;
    that the exit's end never came, and nobody was told, is not.
    """
    late = own.order(100, UP, Side.BUY, 10, 500)
    own.report(101, late, ExecutionKind.EXPIRED)
    own.fill(102, late, 10, 500, late=1)
    order = own.order(103, UP, Side.SELL, 10)
    own.end_session()
    own.fill(NIGHT + 10, order, 10, 500)


def cash_at_bar_end(own: Shadow) -> None:
    own.value(100)["cash"] += 1
    own.tables[Equity][-1]["equity"] += 1


def fees_at_bar_end(own: Shadow) -> None:
    own.value(100)["fees"] += 1


def equity_not_the_sum(own: Shadow) -> None:
    own.value(100)["equity"] += 1


def double_entry(own: Shadow) -> None:
    own.value(100)["realised_pnl"] += 1


def no_decision(own: Shadow) -> None:
    refused = own.decide(100, UP, 10, Outcome.REFUSED, approved=0)
    order = own.send(100, UP, Side.BUY, 10, 500, decision=refused["sequence"])
    own.report(101, order, ExecutionKind.EXPIRED)


def decision_used_twice(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.repeat(100, order, kind=OrderKind.CANCEL)
    own.report(101, order, ExecutionKind.CANCELLED)


def another_decision(own: Shadow) -> None:
    decision = own.decide(100, DOWN, 10)
    order = own.send(100, UP, Side.BUY, 10, 500, decision=decision["sequence"])
    own.report(101, order, ExecutionKind.EXPIRED)


def not_as_approved(own: Shadow) -> None:
    decision = own.decide(100, UP, 10)
    order = own.send(100, UP, Side.BUY, 11, 500, decision=decision["sequence"])
    own.report(101, order, ExecutionKind.EXPIRED)


def reduction_refused(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    own.decide(102, UP, 0, Outcome.REFUSED, approved=10)
    own.leave(103, UP, 10, 500)


def level_lowered(own: Shadow) -> None:
    own.alert(100, AlertKind.HALT_LEVEL, observed=HaltLevel.ACTIVE, limit=HaltLevel.KILLED)
    own.alert(101, AlertKind.HALT_LEVEL, observed=HaltLevel.KILLED, limit=HaltLevel.HALTED)
    own.alert(102, AlertKind.COMMAND, limit=ControlAction.RESUME)


def level_jumps(own: Shadow) -> None:
    own.alert(100, AlertKind.HALT_LEVEL, observed=HaltLevel.REDUCING, limit=HaltLevel.HALTED)


def entry_while_halted(own: Shadow) -> None:
    own.alert(100, AlertKind.HALT_LEVEL, observed=HaltLevel.ACTIVE, limit=HaltLevel.REDUCING)
    own.report(102, own.order(101, UP, Side.BUY, 10, 500), ExecutionKind.EXPIRED)


def tripped_twice(own: Shadow) -> None:
    for minute in (100, 101):
        own.alert(minute, AlertKind.BREAKER_TRIPPED, strategy=0, breaker=Breaker.STRATEGY_LOSS)


def released_untripped(own: Shadow) -> None:
    own.alert(100, AlertKind.BREAKER_RELEASED, UP, breaker=Breaker.EXIT_FAILURE)


def entry_while_tripped(own: Shadow) -> None:
    own.alert(100, AlertKind.BREAKER_TRIPPED, strategy=0, breaker=Breaker.UNUSUAL_TRADING)
    own.report(102, own.order(101, UP, Side.BUY, 10, 500), ExecutionKind.EXPIRED)


def decision_without_order(own: Shadow) -> None:
    own.decide(100, UP, 10)


def sequence_breaks(own: Shadow) -> None:
    own.sequence += 1
    own.decide(100, UP, 10, Outcome.REFUSED, approved=0)


def number_breaks(own: Shadow) -> None:
    order = own.order(100, UP, Side.BUY, 10, 500)
    own.report(101, order, ExecutionKind.EXPIRED)["number"] += 1


def time_goes_back(own: Shadow) -> None:
    own.decide(100, UP, 10, Outcome.REFUSED, approved=0)
    own.decide(99, UP, 10, Outcome.REFUSED, approved=0)


def session_without_end(own: Shadow) -> None:
    own.value(LENGTH)
    own.value(NIGHT + LENGTH)


def beyond_limit(own: Shadow) -> None:
    own.fill(101, own.order(100, UP, Side.BUY, 10, 499), 10, 500)
    own.leave(102, UP, 10, 500)


def no_bar(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    own.ranges[-1] = (0, 0)
    own.leave(102, UP, 10, 500)


def outside_bar(own: Shadow) -> None:
    own.enter(100, UP, 10, 500)
    own.ranges[-1] = (400 * MICRO, 490 * MICRO)
    own.leave(102, UP, 10, 500)


def forgotten_open(own: Shadow) -> None:
    for minute in range(100, 117):
        order = own.order(minute, UP, Side.BUY, 1, 500)
        if minute > 100:
            own.report(minute, order, ExecutionKind.EXPIRED)


CANARIES: dict[Breach, Seeded] = {
    Breach.NEGATIVE_CASH: short_of_cash,
    Breach.OPENING_WITHOUT_LIMIT: opening_without_limit,
    Breach.BOTH_SIDES: both_sides,
    Breach.NOT_FLAT: held_over_the_close,
    Breach.FLAT_TOO_LATE: sold_too_late,
    Breach.SECOND_OPENING: two_openings,
    Breach.SHORT: short_entry,
    Breach.CLOSING_CASH: closing_cash_differs,
    Breach.RECONCILIATION: statement_differs,
    Breach.SECOND_EXIT: two_exits,
    Breach.EXIT_BEYOND_POSITION: exit_beyond_position,
    Breach.POSITION_DIFFERS: position_differs,
    Breach.CASH_DIFFERS: cash_differs,
    Breach.CUMULATIVE_DIFFERS: cumulative_differs,
    Breach.OVERFILLED: overfilled,
    Breach.APPLIED_TWICE: applied_twice,
    Breach.LATE_NOT_TOLD: late_not_told,
    Breach.LATE_TOLD_WRONGLY: late_told_wrongly,
    Breach.FILL_AFTER_FINAL: filled_after_rejection,
    Breach.ENDED_TWICE: ended_twice,
    Breach.END_OF_NO_ORDER: end_of_no_order,
    Breach.MEANINGLESS: meaningless,
    Breach.ID_USED_AGAIN: id_used_again,
    Breach.NAMES_NO_ORDER: names_no_order,
    Breach.NAMES_ANOTHER_ORDER: names_another_order,
    Breach.NEW_WHILE_UNKNOWN: new_while_unknown,
    Breach.OPEN_AFTER_SESSION: open_after_session,
    Breach.FORGOTTEN_OPEN: forgotten_open,
    Breach.CASH_AT_BAR_END: cash_at_bar_end,
    Breach.FEES_AT_BAR_END: fees_at_bar_end,
    Breach.EQUITY_NOT_THE_SUM: equity_not_the_sum,
    Breach.DOUBLE_ENTRY: double_entry,
    Breach.NO_DECISION: no_decision,
    Breach.DECISION_USED_TWICE: decision_used_twice,
    Breach.ANOTHER_DECISION: another_decision,
    Breach.NOT_AS_APPROVED: not_as_approved,
    Breach.REDUCTION_REFUSED: reduction_refused,
    Breach.LEVEL_LOWERED: level_lowered,
    Breach.LEVEL_JUMPS: level_jumps,
    Breach.ENTRY_WHILE_HALTED: entry_while_halted,
    Breach.TRIPPED_TWICE: tripped_twice,
    Breach.RELEASED_UNTRIPPED: released_untripped,
    Breach.ENTRY_WHILE_TRIPPED: entry_while_tripped,
    Breach.DECISION_WITHOUT_ORDER: decision_without_order,
    Breach.SEQUENCE_BREAKS: sequence_breaks,
    Breach.NUMBER_BREAKS: number_breaks,
    Breach.TIME_GOES_BACK: time_goes_back,
    Breach.SESSION_WITHOUT_END: session_without_end,
    Breach.BEYOND_LIMIT: beyond_limit,
    Breach.NO_BAR: no_bar,
    Breach.OUTSIDE_BAR: outside_bar,
}
"""What must be found, and the history in which it, and of ours nothing else, must be found."""

BY_VENUE = {Breach.NEGATIVE_CASH, Breach.BOTH_SIDES}
"""What the venue alone breaks in `contradicted`."""


History = tuple[str, AuditBatch, int, set[Breach], set[Breach]]


@cache
def _histories() -> tuple[History, ...]:
    """What each is called, its rows, its closing cash, and what is in it: breaches of ours, of the venue."""
    histories: list[tuple[str, Shadow, set[Breach], set[Breach]]] = [
        ("clean", clean(), set(), set()),
        ("contradicted", contradicted(), set(), BY_VENUE),
    ]
    for kind, seed in CANARIES.items():
        own = Shadow()
        seed(own)
        histories.append((words(kind), own, {kind}, set()))
    return tuple(
        (name, own.batch(), own.cash + own.more_cash, ours, venue) for name, own, ours, venue in histories
    )


def check_canaries() -> None:
    """Put every canary through the auditor. Raises `AuditAlarm` where one is missed, or more is found."""
    wrong = []
    for name, batch, cash, ours, venue in _histories():
        auditor = Auditor(*shadow_terms(), closing_cash=cash)
        findings = recounted(auditor, batch)
        found = auditor.found()
        seen = {kind for kind, row in found.items() if row.breaches}
        broken = {key for key, statement in STATEMENTS.items() if ours & set(statement.breaches)}
        missed = [words(kind) for kind in sorted(ours - seen)]
        missed += [key for key in sorted(broken) if findings[key].held]
        if venue and {kind for kind, row in found.items() if row.by_venue} != venue:
            missed.append("that the venue contradicted itself")
        more = [words(kind) for kind in sorted(seen - ours)]
        more += [key for key, finding in findings.items() if not finding.held and key not in broken]
        if missed:
            wrong.append(f"it missed, in the history {name!r}: {', '.join(missed)}")
        if more:
            wrong.append(f"it found, in the history {name!r}, what is not there: {', '.join(more)}")
    if wrong:
        raise AuditAlarm(f"the audit cannot be trusted: {'; '.join(wrong)}")
