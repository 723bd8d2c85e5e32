"""Books of the simulation's own, kept from what entered and left the account: journal rows, orders, alerts.

Nothing here is shared with gates, ledger, order life cycle or breakers: only the vocabulary of `schemas` and
the layout of the account's arrays. Every position, sum and order here is what the venue has said so far, and
nothing else.

A *contradiction* is the venue doing what it had denied: a fill of an order that had ended with less, of more
than was ordered, on the other side, of an order that is not ours; a bust; a charge. A breach of principle 1,
2 or 5 that begins with one is the venue's, until the principle holds again: the `excused` fields.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.account_state import BREAKER, PAST, REPORT, Rules, records
from operators.compiled import kernel, routine
from schemas.codes import (
    AlertKind,
    ControlAction,
    ControlRefusal,
    ExecutionKind,
    HaltLevel,
    Intent,
    OrderKind,
    Side,
)
from schemas.config import Config, micro
from schemas.records import MICRO


class Statement(IntEnum):
    """What is asserted. P, O and D are the numbers of the safety rules; the last ones follow from them."""

    P1 = 0
    P2 = 1
    P3 = 2
    P4 = 3
    P5 = 4
    O1 = 5
    O2 = 6
    O3 = 7
    O4 = 8
    O5 = 9
    O6 = 10
    O7 = 11
    O8 = 12
    O9 = 13
    O10 = 14
    O11 = 15
    O12 = 16
    O13 = 17
    D1 = 18
    D2 = 19
    D3 = 20
    D4 = 21
    D5 = 22
    HOLD = 23
    KILL = 24
    FLAT_BY = 25


MEANING = {
    Statement.P1: "no negative cash, also less the worst cost of open buys",
    Statement.P2: "no two sides of a family, counting what could still fill",
    Statement.P3: "nothing held or open at the close",
    Statement.P4: "one opening a bar and instrument",
    Statement.P5: "no short; what the venue states is what the ledger says",
    Statement.O1: "one order open an instrument, an exit not above the position",
    Statement.O2: "positions and cash move by executions alone",
    Statement.O3: "cumulative is the sum of the fills, within what was ordered",
    Statement.O4: "an execution id is applied once; altered, it alerts",
    Statement.O5: "what has ended stays so; late fills are applied and flagged",
    Statement.O6: "order ids are unique; cancels and queries name an order as it was sent",
    Statement.O7: "an unknown outcome blocks the instrument",
    Statement.O8: "every order ends, or alerts when its answer is late",
    Statement.O9: "double entry sums to zero",
    Statement.O10: "every order has one decision of its own",
    Statement.O11: "exits, flatten and kill are never refused",
    Statement.O12: "halt levels go down by a signed resume alone",
    Statement.O13: "breakers stay tripped until their rule or an operator",
    Statement.D1: "orders, distinct ids and approved decisions are one to one",
    Statement.D2: "the journal again, in other cuts and through crashes, gives the same bytes",
    Statement.D3: "the state names its offset; older rows are skipped, a gap stops",
    Statement.D4: "output sequence without gaps",
    Statement.D5: "rows in are rows applied, repeated or late",
    Statement.HOLD: "what is not understood of an instrument opens nothing there",
    Statement.KILL: "a kill stops entries and cancels them in its own step",
    Statement.FLAT_BY: "flat by the configured time where the market let it",
}


def _fields(*names: str, **arrays: int) -> np.dtype[Any]:
    return np.dtype([(n, "<i8") for n in names] + [(n, "<i8", (k,)) for n, k in arrays.items()])


NONE = -1
ENDLESS = 2**62  # `fillable` before a bar has come
BELOW = -2  # a finding about a kind of alert or a switch counts it down from here
UNDONE = -2  # kind of a fill that is undone: its id says nothing more
LIVE = 0  # `ended` of an order that could still fill; else the report that ended it, plus one
PLAIN_ALERTS = (
    AlertKind.LATE_FILL,
    AlertKind.OVERFILL,
    AlertKind.CONTRADICTION,
    AlertKind.WRONG_SIDE,
    AlertKind.EXTERNAL_ORDER,
    AlertKind.EXECUTION_ALTERED,
    AlertKind.EXECUTION_REFUSED,
    AlertKind.BUST,
    AlertKind.RECONCILIATION,
)
"""Alerts that follow from the reports alone, so their number is known."""

BOOK = _fields(
    "initial_cash",
    "cash",
    "charges",  # fees beside fills
    "commission_per_unit",
    "commission_share",
    "faultless",  # 1: the venue has no faults, and no stranger has reported yet
    "time_ns",
    "events",
    "rows",
    "slices",
    "news",  # slices newer than their symbol's newest
    "ticks",
    "reports",
    "commands",
    "sequence",
    "execution_number",
    "session",  # of the account, at the event before
    "in_session",
    "level",
    "command_id",
    "cash_excused",
    "orders",  # rows used of `orders`
    "ids",  # rows used of `executions`
    "last_fill",  # row of `executions`, -1 none
    "strange",  # 1: a report that no venue of the simulation makes has come
    "calendar",  # session in progress, or the next
    "groups",  # events that the account decided on, so far
    # of the event in hand
    "execution_row",  # next row of executions that is not accounted for
    "command_row",  # the same of alerts about commands
    "least_level",
    "resumed",  # 1: a resume may have lowered it
    "released",  # 1: a release was carried out
    "killed",  # 1: a kill was carried out
    "new_orders",
    "cancels",
    # figures
    "repeated",
    "altered",
    "partial_fills",
    "level_changes",
    "quiet_ns",  # longest time without an event, since exits began
    "flat_judged",  # session whose end was judged: flat in time
    "close_judged",  # the same: flat at the close
)

LINE = _fields(  # one an instrument
    "quantity",
    "mark",
    "mark_ns",
    "last_order",  # -1 none
    "entry_ns",  # bar end of the last opening
    "short_excused",
    "side_excused",
    "unsettled",  # 1: nothing may be opened
    "owed_buy",  # lots that ended orders have told of and not filled
    "owed_sell",
    "owed_cost",  # what the bought ones may cost
    "was_flat",  # 1: in the event in hand, at some moment
    "touched",  # 1: an order of it was reported on in the event in hand
    "ordered",  # new orders in the event in hand
    "held",  # most held or still to come since exits began
    "fillable",  # least that a bar since then could fill
)

ASKED = _fields(  # one an order that left
    "instrument",
    "order_ns",
    "intent",
    "attempt",
    "side",
    "quantity",
    "limit_price",
    "expires_ns",
    "strategy",
    "decision",
    "previous",  # order of the instrument, -1 none
    "cumulative",
    "told",
    "busted",
    "ended",
    "owed",
    "over",  # 1: more than ordered
    "asked_ns",  # when the request left that is not answered, 0 none
    "cancel",  # 1: a cancel was asked for
    "alerted",  # since the last request
    "ever_alerted",
    "unknown",
    "absences",
    "absent_ns",
)

FINDING = _fields("statement", "event", "time_ns", "instrument", "observed", "limit")

Records = NDArray[Any]


class Shadow(NamedTuple):
    """`executions` are the fills, busts and charges applied, in order; `places` finds them by id: open
    addressing, 0 is empty, else row + 1. `tested`: by statement. `alerts` and `reports`: by kind. `expected`:
    alerts that the event in hand must make, by kind; `made`: that it made. `first`: rows of each output
    before the event.
    """

    book: Records
    lines: Records
    orders: Records
    executions: Records
    places: NDArray[np.int64]
    finding: Records
    tested: NDArray[np.int64]
    alerts: NDArray[np.int64]
    reports: NDArray[np.int64]
    expected: NDArray[np.int64]
    made: NDArray[np.int64]
    first: NDArray[np.int64]
    breakers: Records  # as the event before left them
    states: NDArray[np.int64]  # of the orders, likewise
    blocks: NDArray[np.int64]  # of the strategies, likewise


def new_shadow(config: Config, rules: Rules, orders: int, executions: int) -> Shadow:
    """Books before the first event, with room for so many orders and executions."""
    instruments, strategies = len(rules.instruments), len(rules.strategies)
    kinds = len(AlertKind)
    switches = len(rules.strategies) * 3 + 3 + instruments + len(rules.holdings)
    size = 1 << (2 * executions).bit_length()
    shadow = Shadow(
        records(BOOK, 1),
        records(LINE, instruments),
        np.empty(orders, ASKED).view(np.recarray),
        np.empty(executions, REPORT).view(np.recarray),
        np.zeros(size, np.int64),
        records(FINDING, 1),
        np.zeros(len(Statement), np.int64),
        np.zeros(kinds, np.int64),
        np.zeros(len(ExecutionKind), np.int64),
        np.zeros(kinds, np.int64),
        np.zeros(kinds, np.int64),
        np.zeros(5, np.int64),
        records(BREAKER, switches),
        np.zeros(instruments, np.int64),
        np.zeros(strategies, np.int64),
    )
    book = shadow.book[0]
    book.initial_cash = book.cash = micro(config.account.cash)
    book.commission_per_unit = micro(config.venue.commission_per_unit)
    book.commission_share = micro(config.venue.commission_share)
    book.faultless = int(config.venue.faults is None)
    book.session = book.last_fill = book.flat_judged = book.close_judged = NONE
    shadow.lines["last_order"] = NONE
    shadow.lines["fillable"] = ENDLESS
    shadow.lines["entry_ns"] = NONE
    shadow.finding[0].statement = NONE
    return shadow


@kernel
def ask(shadow, statement, holds, i, observed, limit):
    """Assert a statement. The first that does not hold is kept."""
    shadow.tested[statement] += 1
    if not holds:
        find(shadow, statement, i, observed, limit)


@kernel
def require(shadow, statement, holds, i, observed, limit):
    """The same where nothing happened that puts it to the test."""
    if not holds:
        find(shadow, statement, i, observed, limit)


@routine
def find(shadow, statement, i, observed, limit):
    finding = shadow.finding[0]
    if finding.statement == NONE:
        finding.statement = statement
        finding.event = shadow.book[0].events
        finding.time_ns = shadow.book[0].time_ns
        finding.instrument = i
        finding.observed = observed
        finding.limit = limit


# --- orders by their id


@kernel
def find_order(shadow, i, order_ns, intent, attempt):
    """Row in `orders`, -1 where an id is not among the newest that the account remembers."""
    k = shadow.lines[i].last_order
    for _ in range(PAST + 1):
        if k == NONE:
            return NONE
        order = shadow.orders[k]
        if order.order_ns == order_ns and order.intent == intent and order.attempt == attempt:
            return k
        k = order.previous
    return NONE


@kernel
def worst_price(book, price):
    """Most that one lot costs under a limit of `price`."""
    return price + book.commission_per_unit - (-price * book.commission_share // MICRO)


@kernel
def missing_of(order):
    """Lots that the venue has told of, and whose fills have not come."""
    return max(order.told - order.cumulative - order.busted, 0)


@kernel
def settle_owed(shadow, order):
    """Keep the sums of what ended orders have told of and not filled."""
    book = shadow.book[0]
    line = shadow.lines[order.instrument]
    owed = missing_of(order) if order.ended != LIVE else 0
    change = owed - order.owed
    if change == 0:
        return
    order.owed = owed
    if order.side == Side.BUY:
        line.owed_buy += change
        line.owed_cost += change * worst_price(book, order.limit_price)
    else:
        line.owed_sell += change


@kernel
def is_missing(shadow, i):
    """Does any order that the account remembers tell of fills that have not come?"""
    k = shadow.lines[i].last_order
    for _ in range(PAST + 1):
        if k == NONE:
            return False
        if missing_of(shadow.orders[k]) > 0:
            return True
        k = shadow.orders[k].previous
    return False


# --- executions by their id


@kernel
def place_of(shadow, execution_id):
    """Place in `places` of an id, or of the hole where it belongs."""
    mask = len(shadow.places) - 1
    k = (execution_id % 2_147_483_647 * 2_654_435_761) & mask
    while shadow.places[k] != 0 and shadow.executions[shadow.places[k] - 1].execution_id != execution_id:
        k = (k + 1) & mask
    return k


@kernel
def is_same(a, b):
    return a.kind == b.kind and a.reference_id == b.reference_id and is_like(a, b)


@kernel
def is_like(a, b):
    """The same lots of the same order."""
    return (
        a.instrument == b.instrument
        and a.order_ns == b.order_ns
        and a.intent == b.intent
        and a.attempt == b.attempt
        and a.side == b.side
        and a.quantity == b.quantity
        and a.price == b.price
        and a.fee == b.fee
    )


@kernel
def is_first(shadow, report):
    """Is this id new? Then it is kept. The same id with other content must alert."""
    book = shadow.book[0]
    k = place_of(shadow, report.execution_id)
    if shadow.places[k] == 0:
        shadow.executions[book.ids] = report
        book.ids += 1
        shadow.places[k] = book.ids
        return True
    book.repeated += 1
    known = shadow.executions[shadow.places[k] - 1]
    if known.kind != UNDONE and not is_same(known, report):
        expect_altered(shadow, report.instrument)
    return False


@kernel
def expect_altered(shadow, i):
    shadow.book[0].altered += 1
    shadow.expected[AlertKind.EXECUTION_ALTERED] += 1
    if 0 <= i < len(shadow.lines):
        shadow.lines[i].unsettled = 1


# --- reports


@routine
def observe_report(shadow, rules, out, report):
    """One report as the account got it."""
    book = shadow.book[0]
    book.reports += 1
    kind = report.kind
    shadow.reports[kind] += 1
    i = report.instrument
    if kind == ExecutionKind.CASH:
        observe_cash(shadow, report)
    elif kind == ExecutionKind.FEE:
        if is_first(shadow, report):
            book.cash -= report.fee
            book.charges += report.fee
            book.cash_excused = 1
            expect_execution(shadow, out, report, 0)
    elif i < 0 or i >= len(shadow.lines):
        shadow.expected[AlertKind.EXECUTION_REFUSED] += 1
    elif kind == ExecutionKind.POSITION:
        observe_position(shadow, report)
    elif kind == ExecutionKind.FILL or kind == ExecutionKind.BUST:
        shadow.lines[i].touched = 1
        if report.quantity <= 0 or report.price <= 0:
            shadow.expected[AlertKind.EXECUTION_REFUSED] += 1
            shadow.lines[i].unsettled = 1
        elif is_first(shadow, report):
            if kind == ExecutionKind.FILL:
                expect_execution(shadow, out, report, observe_fill(shadow, report))
            elif observe_bust(shadow, report):
                expect_execution(shadow, out, report, 1)
    else:
        shadow.lines[i].touched = 1
        observe_status(shadow, rules, out, report)
    if 0 <= i < len(shadow.lines):
        see_flat(shadow, i)


@kernel
def see_flat(shadow, i):
    line = shadow.lines[i]
    if line.quantity == 0 and (line.last_order == NONE or shadow.orders[line.last_order].ended != LIVE):
        line.was_flat = 1


@routine
def expect_execution(shadow, out, report, late):
    """The account must have written this execution next, with the position and cash that it leaves here."""
    book = shadow.book[0]
    i = report.instrument
    k = book.execution_row
    while k < out.counts[1] and not (
        out.executions[k].kind == ExecutionKind.FILL
        or out.executions[k].kind == ExecutionKind.BUST
        or out.executions[k].kind == ExecutionKind.FEE
    ):
        k += 1
    book.execution_row = k + 1
    if k >= out.counts[1]:
        ask(shadow, Statement.O2, False, i, report.execution_id, k)
        return
    row = out.executions[k]
    ask(
        shadow,
        Statement.O4,
        row.execution_id == report.execution_id,
        i,
        row.execution_id,
        report.execution_id,
    )
    ask(shadow, Statement.O2, row.cash == book.cash, i, row.cash, book.cash)
    if 0 <= i < len(shadow.lines):
        position = shadow.lines[i].quantity
        ask(shadow, Statement.O2, row.position == position, i, row.position, position)
        ask(shadow, Statement.O5, row.late == late, i, row.late, late)


@kernel
def contradict(shadow, i, alert):
    """The venue does what it had denied, and the account must say so."""
    excuse(shadow, i)
    shadow.expected[alert] += 1


@kernel
def excuse(shadow, i):
    """What breaks from here is the venue's."""
    shadow.lines[i].short_excused = 1
    shadow.lines[i].side_excused = 1
    shadow.book[0].cash_excused = 1


@kernel
def move(shadow, report, sign):
    """Book a fill, or with `sign` -1 its bust."""
    book = shadow.book[0]
    signed = report.quantity if report.side == Side.BUY else -report.quantity
    shadow.lines[report.instrument].quantity += sign * signed
    book.cash -= sign * (signed * report.price + report.fee)


@routine
def observe_fill(shadow, report):
    """Book a fill; 1 if the account must flag it, because nothing had announced it."""
    book = shadow.book[0]
    i = report.instrument
    line = shadow.lines[i]
    book.last_fill = book.ids - 1
    move(shadow, report, 1)
    k = find_order(shadow, i, report.order_ns, report.intent, report.attempt)
    if k == NONE:
        contradict(shadow, i, AlertKind.EXTERNAL_ORDER)
        line.unsettled = 1
        return 1
    order = shadow.orders[k]
    if order.side != report.side:
        contradict(shadow, i, AlertKind.WRONG_SIDE)
        line.unsettled = 1
        return 1
    filled = order.cumulative + report.quantity
    late = 0
    if order.ended == ExecutionKind.REJECTED + 1:
        contradict(shadow, i, AlertKind.CONTRADICTION)
        line.unsettled = 1
        late = 1
    elif filled > order.quantity:
        contradict(shadow, i, AlertKind.OVERFILL)
        line.unsettled = 1
        order.over = 1
        late = 1
    elif order.ended != LIVE and max(filled + order.busted, report.cumulative) > order.told:
        contradict(shadow, i, AlertKind.LATE_FILL)
        late = 1
    if order.side == Side.BUY and order.limit_price == 0:
        book.cash_excused = 1  # it covers a short that a contradiction left, at any price
    order.cumulative = filled
    order.told = max(order.told, report.cumulative)
    order.unknown = 0
    if filled >= order.quantity:
        end_order(order, ExecutionKind.FILL)
    elif order.cancel == 0:
        order.asked_ns = 0
    if filled < order.quantity:
        book.partial_fills += 1
    settle_owed(shadow, order)
    return late


@routine
def observe_bust(shadow, report):
    """Undo a fill. False where it had not come: it never counts, and its id is taken. One that is undone
    already, or was another, must alert.
    """
    book = shadow.book[0]
    i = report.instrument
    place = place_of(shadow, report.reference_id)
    came = shadow.places[place] != 0
    if came:
        fill = shadow.executions[shadow.places[place] - 1]
        if fill.kind != ExecutionKind.FILL or not is_like(fill, report):
            expect_altered(shadow, i)
            return False
        fill.kind = UNDONE
        move(shadow, report, -1)
    else:
        undone = shadow.executions[book.ids]
        undone.execution_id = report.reference_id
        undone.kind = UNDONE
        book.ids += 1
        shadow.places[place] = book.ids
    contradict(shadow, i, AlertKind.BUST)
    k = find_order(shadow, i, report.order_ns, report.intent, report.attempt)
    if k != NONE:
        order = shadow.orders[k]
        order.busted += report.quantity
        if came:
            order.cumulative -= report.quantity
        settle_owed(shadow, order)
    return came


@kernel
def end_order(order, kind):
    """An order ends; only the first end counts."""
    order.asked_ns = 0
    order.unknown = 0
    if order.ended == LIVE:
        order.ended = kind + 1


@routine
def observe_status(shadow, rules, out, report):
    """A report that says where an order stands."""
    book = shadow.book[0]
    i = report.instrument
    kind = report.kind
    k = find_order(shadow, i, report.order_ns, report.intent, report.attempt)
    if k == NONE:
        if kind != ExecutionKind.ABSENT:
            shadow.expected[AlertKind.EXTERNAL_ORDER] += 1
            shadow.lines[i].unsettled = 1
        return
    order = shadow.orders[k]
    if order.ended != LIVE and report.cumulative > order.told:
        excuse(shadow, i)  # it had ended with less
    order.told = max(order.told, report.cumulative)
    if kind == ExecutionKind.ABSENT:
        if order.absences == 0:
            order.absent_ns = book.time_ns
        order.absences += 1
        prove_absence(shadow, rules, out, order)
        settle_owed(shadow, order)
        return
    order.absences = 0
    if kind == ExecutionKind.LOST:
        if order.ended == LIVE and order.asked_ns > 0:
            order.unknown = 1
    elif (
        kind == ExecutionKind.CANCELLED
        or kind == ExecutionKind.EXPIRED
        or kind == ExecutionKind.REJECTED
        or kind == ExecutionKind.REPLACED
    ):
        end_order(order, kind)
    elif order.ended == LIVE and (order.cancel == 0 or kind != ExecutionKind.ACCEPTED or order.unknown == 1):
        order.asked_ns = 0
        order.unknown = 0
    settle_owed(shadow, order)


@kernel
def prove_absence(shadow, rules, out, order):
    """Does the account take this answer as proof that the order never arrived? Then it must be one."""
    book = shadow.book[0]
    limits = rules.limits[0]
    proof = (
        order.ended == LIVE
        and order.absences >= limits.absence_answers
        and book.time_ns - order.absent_ns >= limits.absence_ns
        and order.cumulative == 0
    )
    if not proof:
        return
    for k in range(shadow.first[4], out.counts[4]):
        alert = out.alerts[k]
        if alert.kind == AlertKind.ABSENCE_PROVEN and alert.instrument == order.instrument:
            end_order(order, ExecutionKind.REJECTED)


@kernel
def settle_told(shadow, i):
    """A statement agrees with the ledger: what was told of beyond the fills was a mistake."""
    k = shadow.lines[i].last_order
    for _ in range(PAST + 1):
        if k == NONE:
            return
        order = shadow.orders[k]
        order.told = order.cumulative + order.busted
        settle_owed(shadow, order)
        k = order.previous


@kernel
def observe_position(shadow, report):
    """The venue's statement of one instrument."""
    book = shadow.book[0]
    i = report.instrument
    line = shadow.lines[i]
    if report.quantity != line.quantity:
        shadow.expected[AlertKind.RECONCILIATION] += 1
        line.unsettled = 1
        if book.faultless == 1:
            ask(shadow, Statement.P5, False, i, report.quantity, line.quantity)
    elif line.last_order == NONE or shadow.orders[line.last_order].ended != LIVE:
        if line.unsettled == 1 or is_missing(shadow, i):
            settle_told(shadow, i)
        line.unsettled = 0
    else:
        ask(shadow, Statement.P5, True, i, report.quantity, line.quantity)


@kernel
def observe_cash(shadow, report):
    book = shadow.book[0]
    if abs(report.price - book.cash) > 10_000:
        shadow.expected[AlertKind.RECONCILIATION] += 1
        if book.faultless == 1:
            ask(shadow, Statement.P5, False, NONE, report.price, book.cash)


# --- commands


@routine
def observe_command(shadow, out, command):
    """One command, and what the account says of it."""
    book = shadow.book[0]
    book.commands += 1
    k = book.command_row
    while k < out.counts[4] and not (
        out.alerts[k].kind == AlertKind.COMMAND or out.alerts[k].kind == AlertKind.COMMAND_REFUSED
    ):
        k += 1
    book.command_row = k + 1
    if k >= out.counts[4]:
        ask(shadow, Statement.O12, False, NONE, command.action, command.command_id)
        return
    told = out.alerts[k].limit if out.alerts[k].kind == AlertKind.COMMAND_REFUSED else 0
    right = refusal_of(book, command)
    holds = told == right
    if right == ControlRefusal.NONE and command.action >= ControlAction.LOWER_LIMIT:
        holds = told == ControlRefusal.NONE or told == ControlRefusal.NOT_APPLICABLE
    ask(shadow, Statement.O12, holds, NONE, told, right)
    if told == ControlRefusal.MALFORMED or told == ControlRefusal.FORGED:
        raise_least(book, HaltLevel.HALTED)
    elif told == ControlRefusal.NONE:
        observe_applied(shadow, command)


@kernel
def refusal_of(book, command):
    """What forbids a command whatever the account holds."""
    if command.refusal == ControlRefusal.MALFORMED or command.refusal == ControlRefusal.FORGED:
        return command.refusal
    if book.time_ns > command.expires_ns:
        return ControlRefusal.EXPIRED
    if command.command_id <= book.command_id:
        return ControlRefusal.REPLAYED
    if command.action >= ControlAction.RESUME and command.keys < 2:
        return ControlRefusal.TOO_FEW_KEYS
    if command.keys < 1:
        return ControlRefusal.TOO_FEW_KEYS
    return command.refusal


@kernel
def raise_least(book, level):
    """From here the halt level is at least this."""
    if book.least_level < level:
        book.least_level = level


@kernel
def observe_applied(shadow, command):
    book = shadow.book[0]
    book.command_id = command.command_id
    if command.action == ControlAction.REDUCE:
        raise_least(book, HaltLevel.REDUCING)
    elif command.action == ControlAction.HALT:
        raise_least(book, HaltLevel.HALTED)
    elif command.action == ControlAction.KILL:
        book.least_level = HaltLevel.KILLED
        book.killed = 1
    elif command.action == ControlAction.RESUME:
        book.least_level = HaltLevel.ACTIVE
        book.resumed = 1
        book.killed = 0
    elif command.action == ControlAction.RELEASE:
        if command.breaker < 0:
            shadow.lines[command.instrument].unsettled = 0
        else:
            book.released = 1


# --- orders and alerts


@routine
def observe_order(shadow, row):
    """One order, cancel or query as it left."""
    book = shadow.book[0]
    i = row.instrument
    known = find_order(shadow, i, row.order_ns, row.intent, row.attempt)
    if row.kind != OrderKind.NEW:
        ask(shadow, Statement.O6, known != NONE, i, row.order_ns, row.attempt)
        if known != NONE:
            observe_request(shadow, shadow.orders[known], row)
        return
    line = shadow.lines[i]
    ask(shadow, Statement.O6, known == NONE and row.order_ns == line.mark_ns, i, row.order_ns, line.mark_ns)
    if line.last_order != NONE:
        before = shadow.orders[line.last_order]
        ask(shadow, Statement.O7, before.unknown == 0, i, row.order_ns, before.order_ns)
        ask(shadow, Statement.O1, before.ended != LIVE, i, row.order_ns, before.order_ns)
    book.new_orders += 1
    line.ordered += 1
    if row.intent == Intent.ENTRY:
        ask(shadow, Statement.P4, row.order_ns > line.entry_ns, i, row.order_ns, line.entry_ns)
        line.entry_ns = row.order_ns
    order = shadow.orders[book.orders]
    order.instrument = i
    order.order_ns = row.order_ns
    order.intent = row.intent
    order.attempt = row.attempt
    order.side = row.side
    order.quantity = row.quantity
    order.limit_price = row.limit_price
    order.expires_ns = row.expires_ns
    order.strategy = row.strategy
    order.decision = row.decision
    order.previous = line.last_order
    order.cumulative = 0
    order.told = 0
    order.busted = 0
    order.ended = LIVE
    order.owed = 0
    order.over = 0
    order.asked_ns = row.time_ns
    order.cancel = 0
    order.alerted = 0
    order.ever_alerted = 0
    order.unknown = 0
    order.absences = 0
    order.absent_ns = 0
    line.last_order = book.orders
    book.orders += 1


@kernel
def observe_request(shadow, order, row):
    """A cancel or a query: it must say what was sent."""
    same = (
        order.side == row.side
        and order.quantity == row.quantity
        and order.limit_price == row.limit_price
        and order.expires_ns == row.expires_ns
    )
    ask(shadow, Statement.O6, same, row.instrument, row.quantity, order.quantity)
    if row.kind == OrderKind.CANCEL:
        shadow.book[0].cancels += 1
        order.cancel = 1
        order.alerted = 0
        order.asked_ns = row.time_ns


@routine
def observe_alert(shadow, alert):
    """One alert as it left."""
    shadow.made[alert.kind] += 1
    shadow.alerts[alert.kind] += 1
    if alert.instrument < 0 or alert.instrument >= len(shadow.lines):
        return
    k = shadow.lines[alert.instrument].last_order
    if k == NONE:
        return
    order = shadow.orders[k]
    if alert.kind == AlertKind.NO_ANSWER or alert.kind == AlertKind.UNKNOWN_OUTCOME:
        order.alerted = 1
        order.ever_alerted = 1
    elif alert.kind == AlertKind.ABSENCE_PROVEN:
        ask(shadow, Statement.O5, order.ended != LIVE, alert.instrument, order.absences, alert.observed)


@kernel
def blocks_entries(shadow, i):
    """Is there something of this instrument that is not understood?"""
    return shadow.lines[i].unsettled == 1 or is_missing(shadow, i)
