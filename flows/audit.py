"""Recounts the five integrity principles from what left the system: orders and executions, and nothing else.

Shares no code with gates, ledger or order life cycle. In: the two tables, the configuration and the
calendar. Out: per principle whether it held and on what evidence. `recount` goes through both tables as the
account saw them, at one event time executions before orders, with books of its own, and asks every question
after every event.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.compiled import kernel
from schemas.codes import ExecutionKind, OrderKind, Side
from schemas.config import NS, Config, micro
from schemas.records import MICRO
from schemas.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Finding:
    """One principle: how many breaches, and what was looked at."""

    breaches: int
    evidence: str

    @property
    def held(self) -> bool:
        return self.breaches == 0


TALLY = np.dtype(
    [
        (name, "<i8")
        for name in (
            "events",
            "cash",  # now, from the fills alone
            "worst",  # what open buys could take
            "low",  # least of cash, also less the worst
            "negative_cash",
            "conflicts",
            "changes_of_side",
            "sessions",  # with orders or executions
            "not_flat",
            "late",
            "session",  # in progress
            "session_late",
            "openings",
            "second_openings",
            "shorts",
            "wrong_reports",
        )
    ]
)


def audit(
    orders: NDArray[Any], executions: NDArray[Any], closing_cash: int, config: Config, sessions: Sessions
) -> dict[str, Finding]:
    """Findings `P1` to `P5`. `closing_cash`: the cash the account says it ends with, millionths."""
    n = len(config.instruments)
    family, side = np.full(n, -1), np.zeros(n, np.int64)
    for f, each in enumerate(config.families):
        for sign, tiers in ((1, each.bull), (-1, each.bear)):
            for tier in tiers:
                i = config.instruments.index(tier.instrument)
                family[i], side[i] = f, sign
    books = np.zeros((n, 5), np.int64)
    books[:, LAST] = -1
    tally = np.zeros(1, TALLY).view(np.recarray)
    tally[0].cash = tally[0].low = micro(config.account.cash)
    tally[0].session = -1
    recount(
        _in_time(orders, "time_ns"),
        _in_time(executions, "known_ns"),
        family,
        side,
        np.zeros((len(config.families), 2), np.int64),
        np.zeros(len(config.families), np.int64),
        sessions.close_ns,
        config.gates.session.flat_by_seconds * NS,
        micro(config.venue.commission_per_unit),
        micro(config.venue.commission_share),
        books,
        np.zeros((len(orders), 3), np.int64),
        tally,
    )
    told = tally[0]
    return {
        "P1": Finding(
            int(told.negative_cash),
            f"lowest cash less open buys at their worst: {told.low / MICRO:,.2f} over {told.events:,} events",
        ),
        "P2": Finding(
            int(told.conflicts),
            f"{len(config.families)} families, {told.changes_of_side:,} changes of side, "
            f"both sides at once {told.conflicts:,} times",
        ),
        "P3": Finding(
            int(told.not_flat + told.late),
            f"{told.sessions:,} sessions with orders: {told.not_flat} not flat at the close, "
            f"{told.late} with a fill in the last {config.gates.session.flat_by_seconds} s",
        ),
        "P4": Finding(
            int(told.second_openings),
            f"{told.openings:,} openings, {told.second_openings} more than one in a bar and instrument",
        ),
        "P5": Finding(
            int(told.shorts + told.wrong_reports + (told.cash != closing_cash)),
            f"{told.shorts} events short, {told.wrong_reports} reports that differ, cash recounted "
            f"{told.cash / MICRO:,.2f}, account {closing_cash / MICRO:,.2f}",
        ),
    }


def _in_time(rows: NDArray[Any], time: str) -> Any:
    """Rows in order of time, since an audit trusts no order; rows of one time keep theirs."""
    times = rows[time]
    if (times[1:] < times[:-1]).any():
        rows = rows[np.argsort(times, kind="stable")]
    return rows.view(np.recarray)


# Columns of `books`, a row an instrument: lots held, open to buy, open to sell; its last opening and order.
HELD, BUYING, SELLING, OPENED_NS, LAST = range(5)
# Columns of `state`, a row an order: lots filled, 1 when it ended, the order of its instrument before it.
FILLED, DONE, BEFORE = range(3)


@kernel
def recount(
    orders,
    executions,
    family,
    side,
    exposed,
    facing,
    close_ns,
    early_ns,
    fee_each,
    fee_share,
    books,
    state,
    tally,
):
    """Go through both tables; everything found stands in `tally`."""
    a = 0
    b = 0
    while a < len(orders) or b < len(executions):
        if b < len(executions) and (a == len(orders) or executions[b].known_ns <= orders[a].time_ns):
            report = executions[b]
            b += 1
            now, i = report.known_ns, report.instrument
            enter_session(now, close_ns, books, tally[0])
            if now > close_ns[tally[0].session] - early_ns and report.quantity != 0:
                tally[0].session_late = 1
            if now == close_ns[tally[0].session]:
                end_session(books, tally[0])  # what is told at the close was not so before it
            apply(report, orders, fee_each, fee_share, books, state, tally[0])
        else:
            order = orders[a]
            now, i = order.time_ns, order.instrument
            enter_session(now, close_ns, books, tally[0])
            if order.kind == OrderKind.NEW:
                state[a, BEFORE] = books[i, LAST]
                books[i, LAST] = a
                send(order, fee_each, fee_share, books, tally[0])
            a += 1
        ask(i, family, side, exposed, facing, books, tally[0])
    if tally[0].session >= 0:
        end_session(books, tally[0])


@kernel
def worst_each(order, fee_each, fee_share):
    """Most that one lot of a buy can cost."""
    return order.limit_price + fee_each - (-order.limit_price * fee_share // MICRO)


@kernel
def send(order, fee_each, fee_share, books, told):
    """An order leaves. Every buy opens or adds, whatever it is said to be for."""
    i = order.instrument
    if order.side == Side.BUY:
        books[i, BUYING] += order.quantity
        told.worst += order.quantity * worst_each(order, fee_each, fee_share)
        told.openings += 1
        if books[i, OPENED_NS] == order.time_ns:
            told.second_openings += 1
        books[i, OPENED_NS] = order.time_ns
    else:
        books[i, SELLING] += order.quantity


@kernel
def apply(report, orders, fee_each, fee_share, books, state, told):
    """A fill, or the end of an order, against the order it names."""
    i = report.instrument
    k = books[i, LAST]
    while k >= 0 and (orders[k].order_ns != report.order_ns or orders[k].attempt != report.attempt):
        k = state[k, BEFORE]
    buys = report.side == Side.BUY
    ended = 0
    if report.kind == ExecutionKind.FILL:
        signed = report.quantity if buys else -report.quantity
        books[i, HELD] += signed
        told.cash -= signed * report.price + report.fee
        ended = report.quantity
    if k < 0 or state[k, DONE] == 1 or orders[k].side != report.side:
        told.wrong_reports += 1
    else:
        order = orders[k]
        state[k, FILLED] += ended
        limit = order.limit_price
        beyond = limit > 0 and ended > 0 and (report.price > limit if buys else report.price < limit)
        if beyond or state[k, FILLED] > order.quantity or state[k, FILLED] != report.cumulative:
            told.wrong_reports += 1
        if report.kind != ExecutionKind.FILL:
            ended = order.quantity - state[k, FILLED]  # the rest of it ends unfilled
            state[k, DONE] = 1
        if buys:
            books[i, BUYING] -= ended
            told.worst -= ended * worst_each(order, fee_each, fee_share)
        else:
            books[i, SELLING] -= ended
    if report.position != books[i, HELD] or report.cash != told.cash:
        told.wrong_reports += 1


@kernel
def ask(i, family, side, exposed, facing, books, told):
    """After an event of instrument `i`: principles 1, 2 and 5. An open sell does not count as sold."""
    told.events += 1
    free = min(told.cash, told.cash - told.worst)
    told.low = min(told.low, free)
    if free < 0:
        told.negative_cash += 1
    if books[i, HELD] < books[i, SELLING]:
        told.shorts += 1
    f = family[i]
    if f < 0:
        return
    exposed[f, 0] = 0
    exposed[f, 1] = 0
    for k in range(len(family)):
        if family[k] == f:
            exposed[f, 0 if side[k] > 0 else 1] += max(books[k, HELD] + books[k, BUYING], 0)
    if exposed[f, 0] > 0 and exposed[f, 1] > 0:
        told.conflicts += 1
    now = (1 if exposed[f, 0] > 0 else 0) - (1 if exposed[f, 1] > 0 else 0)
    if now != 0 and now != facing[f]:
        if facing[f] != 0:
            told.changes_of_side += 1
        facing[f] = now


@kernel
def enter_session(now, close_ns, books, told):
    """The session that `now` belongs to; the one before it has ended."""
    s = max(told.session, 0)
    while s < len(close_ns) - 1 and close_ns[s] < now:
        s += 1
    if s == told.session:
        return
    if told.session >= 0:
        end_session(books, told)
    told.session = s
    told.sessions += 1
    told.session_late = 0


@kernel
def end_session(books, told):
    """Principle 3, judged once a session: nothing held, nothing open, and the last fill in time."""
    if told.session_late < 0:
        return
    flat = True
    for i in range(len(books)):
        if books[i, HELD] != 0 or books[i, BUYING] != 0 or books[i, SELLING] != 0:
            flat = False
    told.not_flat += 0 if flat else 1
    told.late += told.session_late
    told.session_late = -1  # judged
