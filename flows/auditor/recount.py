"""The recount: books of its own, kept from the rows that left the account, and all statements asked of them.

All kernels and their numbers stand in this one file, since a kernel kept on disk does not notice a change in
another file of this package; a change of the books' types it does notice. State is bounded: the last `LAST`
orders of an instrument, open or ended, the last eight execution ids of each of `BUCKETS`, the last
`APPROVALS` approved decisions.

Order of the rows: orders, decisions and alerts have one sequence. An execution comes at the time the account
learned it, before what has that time too, except that one which ends an order, or names one that is not known
yet, waits for the requests of that time which name its order. Equity comes last.
"""

from flows.auditor.books import Breach
from operators.compiled import kernel, routine
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
    Stage,
)
from schemas.records import MAX_INT, MICRO

LAST = 16  # orders of an instrument
APPROVALS = 64
NOTES = 32  # what one row can break
BUCKETS = 2048  # of eight execution ids each
NONE = -1
NO_TABLE, ORDERS, EXECUTIONS, DECISIONS, ALERTS, EQUITY = range(6)
MOST_VALUE = 10**16  # of one order or execution, millionths; more means nothing, and sums could overflow
MOST_PRICE = 4 * 10**12
OPEN = 0  # of an order's `ended`; else the kind of its end plus one
FILLED = ExecutionKind.FILL + 1
REJECTED = ExecutionKind.REJECTED + 1
ENTRY_BREAKERS = (
    1 << Breaker.DAILY_LOSS
    | 1 << Breaker.RAPID_LOSS
    | 1 << Breaker.CONSECUTIVE_LOSSES
    | 1 << Breaker.STRATEGY_LOSS
    | 1 << Breaker.UNUSUAL_TRADING
    | 1 << Breaker.REPEATED_EXECUTION
)
"""Those that forbid entries, as bits."""


@kernel
def recount(orders, executions, decisions, alerts, equity, ranges, terms, books):
    """Go through all rows in their order. `ranges` (n, 2) int64: low and high of the bar an execution
    happened in, 0 where there was none, -1 where bars are not looked at.
    """
    told = books.tally[0]
    at = books.places[0]
    at.orders = 0
    at.executions = 0
    at.decisions = 0
    at.alerts = 0
    at.equity = 0
    while True:
        table, now = next_row(books, orders, executions, decisions, alerts, equity)
        if table == NO_TABLE:
            break
        if table == EXECUTIONS:
            follow_equity(books, equity, now)
        pass_time(books, terms, now)
        if table == EXECUTIONS:
            apply(books, terms, executions[at.executions], alerts, ranges)
            at.executions += 1
        elif table == ORDERS:
            send(books, terms, orders[at.orders])
            at.orders += 1
        elif table == DECISIONS:
            decide(books, decisions[at.decisions])
            at.decisions += 1
        elif table == ALERTS:
            hear(books, alerts[at.alerts])
            at.alerts += 1
        else:
            value(books, terms, equity[at.equity])
            at.equity += 1
        if told.noted > 0:
            judge(books)
    told.matched = 0


@routine
def close_books(books, has_cash, closing_cash):
    """The rows have ended. `closing_cash`: what the account says, where `has_cash` is 1; else what its last
    equity says.
    """
    told = books.tally[0]
    if told.session >= 0:
        if told.judged == 0:
            judge_flat(books)
        judge_open(books)
    for k in range(APPROVALS):
        end_decision(books, books.decisions[k])
        judge(books)
    settle_command(books)
    if has_cash == 0 and told.valued_ns >= told.known_ns:
        closing_cash = told.valued_cash
    elif has_cash == 0:
        closing_cash = told.cash
    if closing_cash != told.cash:
        breach_of_all(books, Breach.CLOSING_CASH, closing_cash, told.cash)
    judge(books)


# --- the order of the rows


@kernel
def next_row(books, orders, executions, decisions, alerts, equity):
    """(table, time) of the next row of all."""
    at = books.places[0]
    table, now = next_of_sequence(books, orders, decisions, alerts)
    valued_ns = equity[at.equity].time_ns if at.equity < len(equity) else MAX_INT
    if at.executions < len(executions):
        report = executions[at.executions]
        if report.known_ns <= now and report.known_ns <= valued_ns:
            at.named = find(books, report)
            if not waits(books, report, orders):
                return EXECUTIONS, report.known_ns
    if at.equity < len(equity) and (table == NO_TABLE or valued_ns < now):
        return EQUITY, valued_ns
    return table, now


@kernel
def next_of_sequence(books, orders, decisions, alerts):
    """(table, time) of the next row of the sequence; the end of time where none is left."""
    at = books.places[0]
    table = NO_TABLE
    least = MAX_INT
    now = MAX_INT
    if at.orders < len(orders):
        table = ORDERS
        least = orders[at.orders].sequence
        now = orders[at.orders].time_ns
    if at.decisions < len(decisions) and (table == NO_TABLE or decisions[at.decisions].sequence < least):
        table = DECISIONS
        least = decisions[at.decisions].sequence
        now = decisions[at.decisions].time_ns
    if at.alerts < len(alerts) and (table == NO_TABLE or alerts[at.alerts].sequence < least):
        table = ALERTS
        now = alerts[at.alerts].time_ns
    return table, now


@kernel
def waits(books, report, orders):
    """Is there a request of this time, still to come, without which this execution could not be? A NEW for an
    order that is not known; a CANCEL or QUERY for one that it ends, since nobody asks after an order that has
    ended.
    """
    at = books.places[0]
    if at.named != NONE:
        order = books.orders[at.named]
        full = report.kind == ExecutionKind.FILL and order.filled + report.quantity >= order.quantity
        if order.ended != OPEN or not (full or is_end(report.kind)):
            return False
    k = at.orders
    while k < len(orders) and orders[k].time_ns == report.known_ns:
        if orders[k].instrument == report.instrument and is_named(orders[k], report):
            return True
        k += 1
    return False


@kernel
def count_row(books, sequence):
    told = books.tally[0]
    if sequence != told.sequence:
        breach_of_all(books, Breach.SEQUENCE_BREAKS, sequence, told.sequence)
    told.sequence = sequence + 1


@kernel
def pass_time(books, terms, now):
    """Time moves on, perhaps into another session, perhaps to the close."""
    told = books.tally[0]
    if now < told.time_ns:
        breach_of_all(books, Breach.TIME_GOES_BACK, now, told.time_ns)
        return
    told.time_ns = now
    s = max(told.session, 0)
    while s < len(terms.close_ns) - 1 and terms.close_ns[s] < now:
        s += 1
    if s != told.session:
        if told.session >= 0:
            leave_session(books)
        told.session = s
        told.judged = 0
        told.late = 0
        told.ended = 0
        told.valued = 0
        told.touched = 0
    if now >= terms.close_ns[s] and told.judged == 0:
        judge_flat(books)  # what is told at the close was not so before it


@kernel
def touch_session(told):
    if told.touched == 0:
        told.touched = 1
        told.sessions += 1


@routine
def leave_session(books):
    told = books.tally[0]
    if told.judged == 0:
        judge_flat(books)
    judge_open(books)
    if told.valued == 1 and told.ended == 0:
        breach_of_all(books, Breach.SESSION_WITHOUT_END, told.bar_ends, told.session_ends)


@routine
def judge_flat(books):
    """Principle 3 at the close: nothing held, nothing open. What the venue caused in an earlier session there
    was time to sell.
    """
    told = books.tally[0]
    told.judged = 1
    if told.holding == 0 and told.open == 0:
        return
    told.judged = 2
    first = NONE
    by_venue = True
    for i in range(len(books.instruments)):
        mine = books.instruments[i]
        if (mine.held != 0 or mine.buying + mine.selling > 0) and (first == NONE or by_venue):
            first = i
            by_venue = mine.denied == 1 and mine.denied_in == told.session
    mine = books.instruments[first]
    blame(books, Breach.NOT_FLAT, by_venue, first, mine.held, mine.buying + mine.selling)


@kernel
def judge_open(books):
    """The end of a session: an order that is open still must have had its alert."""
    if books.tally[0].open == 0:
        return
    silent = 0
    first = 0
    for k in range(len(books.orders)):
        order = books.orders[k]
        if order.used == 1 and order.ended == OPEN and order.alerted == 0:
            first = k if silent == 0 else first
            silent += 1
    if silent > 0:
        left = books.orders[first].quantity - books.orders[first].filled
        breach(books, Breach.OPEN_AFTER_SESSION, first // LAST, left, silent)


# --- what is found


@kernel
def blame(books, kind, by_venue, i, seen, due):
    """Note what does not hold; `judge` counts it after the row. It is short, since it stands in many."""
    told = books.tally[0]
    note = books.notes[min(told.noted, NOTES - 1)]
    told.noted += 1
    note.kind = kind
    note.by_venue = by_venue
    note.instrument = i
    note.seen = seen
    note.due = due


@kernel
def breach(books, kind, i, seen, due):
    """The same, of ours."""
    blame(books, kind, False, i, seen, due)


@kernel
def breach_of_all(books, kind, seen, due):
    """The same, of no instrument."""
    blame(books, kind, False, NONE, seen, due)


@routine
def judge(books):
    """Count what was noted. The first of ours is kept; until there is one, the first of the venue's."""
    told = books.tally[0]
    for k in range(min(told.noted, NOTES)):
        note = books.notes[k]
        found = books.found[note.kind]
        if found.breaches == 0 and (found.by_venue == 0 or note.by_venue == 0):
            found.time_ns = told.time_ns
            found.instrument = note.instrument
            found.seen = note.seen
            found.due = note.due
        if note.by_venue == 1:
            found.by_venue += 1
        else:
            found.breaches += 1
    told.noted = 0


@kernel
def contradict(books, terms, i):
    """The venue does what it had denied. Until the instrument is flat, and cash covers all open buys again,
    what follows is the venue's.
    """
    told = books.tally[0]
    told.contradictions += 1
    told.cash_denied = 1
    books.instruments[i].denied_in = told.session
    if books.instruments[i].denied == 0:
        books.instruments[i].denied = 1
        told.denied += 1
        if terms.family[i] >= 0:
            books.families[terms.family[i]].denied += 1


@kernel
def ask(books, terms, i, side, opens):
    """After an event of instrument `i`: principles 1, 2 and 5, and the size of exits. `side`: of the order
    that has just left, or NONE; what our own order breaks is never the venue's. `opens`: it adds exposure.
    """
    mine = books.instruments[i]
    ask_cash(books, i, mine.denied == 1, opens)
    if mine.held < mine.selling:
        by_venue = mine.denied == 1 and side != Side.SELL
        blame(books, Breach.SHORT, by_venue, i, mine.held, mine.selling)
    by_venue = mine.denied == 1 and side == NONE
    if mine.exit_selling > max(mine.held, 0):
        blame(books, Breach.EXIT_BEYOND_POSITION, by_venue, i, mine.exit_selling, mine.held)
    if mine.exit_buying > max(-mine.held, 0):
        blame(books, Breach.EXIT_BEYOND_POSITION, by_venue, i, mine.exit_buying, mine.held)
    if terms.family[i] >= 0:
        ask_family(books, terms, i, opens)
    flat = mine.held == 0 and mine.buying + mine.selling == 0
    mine.flat_ns = books.tally[0].time_ns if flat else NONE


@kernel
def forgive(books, terms, i):
    """Before an event of instrument `i`: since an earlier time it has been flat, and no fill is missing, so
    what the venue contradicted is over.
    """
    mine = books.instruments[i]
    told = books.tally[0]
    if mine.denied == 1 and NONE < mine.flat_ns < told.time_ns and mine.missing == 0:
        mine.denied = 0
        told.denied -= 1
        if terms.family[i] >= 0:
            books.families[terms.family[i]].denied -= 1


@kernel
def ask_cash(books, i, denied, opens):
    """Principle 1."""
    told = books.tally[0]
    told.events += 1
    free = min(told.cash, told.cash - told.worst)
    told.low = min(told.low, free)
    if free < 0:
        by_venue = (told.cash_denied == 1 or denied) and not opens
        blame(books, Breach.NEGATIVE_CASH, by_venue, i, free, told.worst)
    else:
        told.cash_denied = 0


@kernel
def ask_family(books, terms, i, opens):
    """Principle 2: an open sell does not count as sold."""
    told = books.tally[0]
    mine = books.instruments[i]
    family = books.families[terms.family[i]]
    exposed = 1 if mine.held + mine.buying > 0 else 0
    if exposed != mine.exposed:
        if terms.side[i] > 0:
            family.bulls += exposed - mine.exposed
        else:
            family.bears += exposed - mine.exposed
        mine.exposed = exposed
    if family.bulls > 0 and family.bears > 0:
        by_venue = family.denied > 0 and not opens
        blame(books, Breach.BOTH_SIDES, by_venue, i, family.bulls, family.bears)
    now = (1 if family.bulls > 0 else 0) - (1 if family.bears > 0 else 0)
    if now != 0 and now != family.facing:
        if family.facing != 0:
            told.changes_of_side += 1
        family.facing = now


# --- orders


@kernel
def is_named(order, row):
    return order.order_ns == row.order_ns and order.attempt == row.attempt and order.intent == row.intent


@kernel
def is_instrument(books, i):
    return 0 <= i < len(books.instruments)


@kernel
def is_possible(quantity, price):
    """Lots and a price that mean something."""
    return quantity > 0 and 0 < price <= MOST_PRICE and quantity <= MOST_VALUE // price


@kernel
def find(books, row):
    """Place of the order that a row names among the last of its instrument, NONE where it is not there."""
    i = row.instrument
    if not is_instrument(books, i):
        return NONE
    following = books.instruments[i].next
    for back in range(1, LAST + 1):
        k = LAST * i + (following - back) % LAST
        if books.orders[k].used == 1 and is_named(books.orders[k], row):
            return k
    return NONE


@kernel
def add_open(books, i, order, lots):
    """`lots` more, or less, of an order could fill."""
    mine = books.instruments[i]
    leaves = order.intent == Intent.EXIT
    if order.side == Side.BUY:
        mine.buying += lots
        mine.exit_buying += lots if leaves else 0
        books.tally[0].worst += lots * order.worst_each
    else:
        mine.selling += lots
        mine.exit_selling += lots if leaves else 0


@kernel
def end_order(books, i, order, ended):
    """An open order ends; what was left of it cannot fill."""
    add_open(books, i, order, -max(order.quantity - order.filled, 0))
    order.ended = ended
    books.tally[0].open -= 1
    if order.intent == Intent.EXIT:
        books.instruments[i].exits -= 1


@kernel
def send(books, terms, order):
    """A request leaves."""
    told = books.tally[0]
    count_row(books, order.sequence)
    touch_session(told)
    if not is_instrument(books, order.instrument) or not is_possible(order.quantity, order.limit_price + 1):
        breach(books, Breach.MEANINGLESS, order.instrument, order.kind, order.sequence)
    elif order.kind == OrderKind.NEW:
        told.orders += 1
        send_new(books, terms, order)
    else:
        if order.kind == OrderKind.CANCEL:
            told.cancels += 1
            check_decision(books, order)
        else:
            told.queries += 1
        check_name(books, order)


@kernel
def check_name(books, order):
    """A CANCEL or QUERY says of its order what the order said of itself."""
    place = find(books, order)
    if place == NONE:
        breach(books, Breach.NAMES_NO_ORDER, order.instrument, order.order_ns, order.attempt)
        return
    named = books.orders[place]
    if named.side != order.side or named.quantity != order.quantity or named.limit_price != order.limit_price:
        breach(books, Breach.NAMES_ANOTHER_ORDER, order.instrument, order.quantity, named.quantity)


@routine
def send_new(books, terms, order):
    told = books.tally[0]
    i = order.instrument
    mine = books.instruments[i]
    forgive(books, terms, i)
    covers = (
        order.intent == Intent.EXIT
        and order.side == Side.BUY
        and 0 < order.quantity <= -mine.held - mine.buying
    )
    opens = order.intent == Intent.ENTRY or (order.side == Side.BUY and not covers)
    check_id(books, order)
    check_decision(books, order)
    if told.judged == 1:
        told.judged = 2
        breach(books, Breach.NOT_FLAT, i, mine.held, order.quantity)
    check_unknown(books, i)
    if opens:
        check_opening(books, order)
    keep(books, terms, order)
    if order.intent == Intent.EXIT:
        told.exits += 1
        if mine.exits > 1:
            breach(books, Breach.SECOND_EXIT, i, mine.exits, order.attempt)
    ask(books, terms, i, order.side, opens)


@kernel
def keep(books, terms, order):
    """The order is one of the last of its instrument."""
    told = books.tally[0]
    i = order.instrument
    mine = books.instruments[i]
    row = books.orders[LAST * i + mine.next]
    mine.next = (mine.next + 1) % LAST
    if row.used == 1 and row.ended == OPEN:
        breach(books, Breach.FORGOTTEN_OPEN, i, row.quantity - row.filled, row.attempt)
        end_order(books, i, row, REJECTED)
    row.used = 1
    row.order_ns = order.order_ns
    row.intent = order.intent
    row.attempt = order.attempt
    row.side = order.side
    row.quantity = order.quantity
    row.limit_price = order.limit_price
    row.filled = 0
    row.ended = OPEN
    row.unknown = 0
    row.alerted = 0
    row.worst_each = 0
    if order.limit_price > 0:
        fee = terms.term[0].fee_each - (-order.limit_price * terms.term[0].fee_share // MICRO)
        row.worst_each = order.limit_price + fee
    told.open += 1
    if order.intent == Intent.EXIT:
        mine.exits += 1
    add_open(books, i, row, order.quantity)


@kernel
def check_id(books, order):
    """Ids of an instrument rise with bar end and attempt, entries and exits apart, so none is used again."""
    mine = books.instruments[order.instrument]
    newest_ns, newest = mine.exit_ns, mine.exit_attempt
    if order.intent == Intent.ENTRY:
        newest_ns, newest = mine.entry_ns, mine.entry_attempt
    if order.order_ns < newest_ns or (order.order_ns == newest_ns and order.attempt <= newest):
        breach(books, Breach.ID_USED_AGAIN, order.instrument, order.order_ns, newest_ns)
    elif order.intent == Intent.ENTRY:
        mine.entry_ns = order.order_ns
        mine.entry_attempt = order.attempt
    else:
        mine.exit_ns = order.order_ns
        mine.exit_attempt = order.attempt


@kernel
def check_unknown(books, i):
    """No other order while the outcome of one is unknown."""
    for k in range(LAST * i, LAST * (i + 1)):
        order = books.orders[k]
        if order.used == 1 and order.ended == OPEN and order.unknown == 1:
            breach(books, Breach.NEW_WHILE_UNKNOWN, i, order.order_ns, order.attempt)
            break


@routine
def check_opening(books, order):
    """What an order that adds exposure must not do, whatever it is said to be for."""
    told = books.tally[0]
    i = order.instrument
    mine = books.instruments[i]
    told.openings += 1
    if order.order_ns == mine.opened_ns:
        breach(books, Breach.SECOND_OPENING, i, order.order_ns, order.attempt)
    mine.opened_ns = order.order_ns
    if order.side == Side.BUY and order.limit_price <= 0:
        breach(books, Breach.OPENING_WITHOUT_LIMIT, i, order.limit_price, order.quantity)
    if told.level >= HaltLevel.REDUCING:
        breach(books, Breach.ENTRY_WHILE_HALTED, i, told.level, order.quantity)
    columns = len(books.instruments) + 1
    strategy = order.strategy if 0 <= order.strategy < len(books.tripped) // columns - 1 else NONE
    row = columns * (strategy + 1)
    bits = (
        books.tripped[0].bits
        | books.tripped[i + 1].bits
        | books.tripped[row].bits
        | books.tripped[row + i + 1].bits
    ) & ENTRY_BREAKERS
    if bits != 0:
        breach(books, Breach.ENTRY_WHILE_TRIPPED, i, bits, order.quantity)


# --- decisions


@kernel
def decide(books, decision):
    told = books.tally[0]
    count_row(books, decision.sequence)
    told.decisions += 1
    if decision.stage == Stage.SESSION_END:
        touch_session(told)
        told.ended = 1
        told.session_ends += 1
    held, target = decision.position, decision.target
    if decision.outcome == Outcome.REFUSED or decision.outcome == Outcome.REDUCED:
        told.refused += 1
        if 0 <= target < held or held < target <= 0:
            breach(books, Breach.REDUCTION_REFUSED, decision.instrument, target, held)
    if decision.outcome != Outcome.APPROVED and decision.outcome != Outcome.REDUCED:
        return
    if decision.instrument == NONE:
        return
    told.approved += 1
    row = books.decisions[decision.sequence % APPROVALS]
    end_decision(books, row)
    row.sequence = decision.sequence
    row.time_ns = decision.time_ns
    row.instrument = decision.instrument
    row.approved = decision.approved
    row.position = decision.position
    row.used = 0


@kernel
def end_decision(books, row):
    """An approval that is forgotten must have had its order."""
    if row.sequence >= 0 and row.used == 0:
        row.used = 1
        breach(books, Breach.DECISION_WITHOUT_ORDER, row.instrument, row.sequence, row.approved)


@kernel
def check_decision(books, order):
    """A NEW or CANCEL has one decision, for itself alone."""
    i = order.instrument
    row = books.decisions[order.decision % APPROVALS]
    if row.sequence != order.decision or not 0 <= order.decision < order.sequence:
        breach(books, Breach.NO_DECISION, i, order.decision, order.sequence)
        return
    if row.used == 1:
        breach(books, Breach.DECISION_USED_TWICE, i, order.decision, order.sequence)
        return
    row.used = 1
    if row.time_ns != order.time_ns or row.instrument != i:
        breach(books, Breach.ANOTHER_DECISION, i, row.time_ns, order.time_ns)
    elif order.kind == OrderKind.NEW and order.intent == Intent.ENTRY:
        signed = order.quantity if order.side == Side.BUY else -order.quantity
        if row.approved - row.position != signed:
            breach(books, Breach.NOT_AS_APPROVED, i, signed, row.approved - row.position)


# --- alerts


@routine
def hear(books, alert):
    """What the account tells its owner, as far as it changes what may follow."""
    told = books.tally[0]
    count_row(books, alert.sequence)
    told.alerts += 1
    kind = alert.kind
    if kind == AlertKind.COMMAND and alert.limit == ControlAction.RESUME:
        if told.lowered_ns == alert.time_ns:
            told.lowered_ns = NONE
        settle_command(books)
        told.commanded_ns = alert.time_ns
        return
    settle_command(books)
    if kind == AlertKind.HALT_LEVEL:
        hear_level(books, alert)
    elif kind == AlertKind.BREAKER_TRIPPED or kind == AlertKind.BREAKER_RELEASED:
        hear_breaker(books, alert)
    elif kind == AlertKind.RECONCILIATION:
        hear_reconciliation(books, alert)
    if is_instrument(books, alert.instrument):
        hear_instrument(books, alert)
    told.commanded_ns = NONE


@kernel
def settle_command(books):
    """A level that was lowered, and the next alert is no resume of that time."""
    told = books.tally[0]
    if told.lowered_ns != NONE:
        told.lowered_ns = NONE
        breach_of_all(books, Breach.LEVEL_LOWERED, told.lowered_to, told.lowered_from)


@kernel
def hear_level(books, alert):
    """The level only rises, except by a resume, whose alert stands right before it or right after it."""
    told = books.tally[0]
    told.levels += 1
    if alert.observed != told.level:
        breach_of_all(books, Breach.LEVEL_JUMPS, alert.observed, told.level)
    if alert.limit <= told.level and told.commanded_ns != alert.time_ns:
        told.lowered_ns = alert.time_ns
        told.lowered_from = told.level
        told.lowered_to = alert.limit
    told.level = alert.limit


@kernel
def hear_breaker(books, alert):
    """A breaker trips and is released by turns."""
    told = books.tally[0]
    told.breakers += 1
    columns = len(books.instruments) + 1
    place = columns * (alert.strategy + 1) + alert.instrument + 1
    if not (NONE <= alert.instrument < columns - 1 and 0 <= place < len(books.tripped)):
        breach_of_all(books, Breach.MEANINGLESS, alert.kind, alert.sequence)
        return
    row = books.tripped[place]
    bit = 1 << alert.breaker
    tripped = row.bits & bit != 0
    if alert.kind == AlertKind.BREAKER_TRIPPED:
        if tripped:
            breach(books, Breach.TRIPPED_TWICE, alert.instrument, alert.breaker, alert.strategy)
        row.bits |= bit
    else:
        if not tripped:
            breach(books, Breach.RELEASED_UNTRIPPED, alert.instrument, alert.breaker, alert.strategy)
        row.bits &= ~bit


@kernel
def unsettles(kind):
    """Does this alert say that the venue's word on an instrument does not fit?"""
    return (
        kind == AlertKind.MISSING_FILL
        or kind == AlertKind.LATE_FILL
        or kind == AlertKind.OVERFILL
        or kind == AlertKind.CONTRADICTION
        or kind == AlertKind.WRONG_SIDE
        or kind == AlertKind.EXTERNAL_ORDER
        or kind == AlertKind.EXECUTION_ALTERED
        or kind == AlertKind.EXECUTION_REFUSED
        or kind == AlertKind.BUST
        or kind == AlertKind.RECONCILIATION
    )


@kernel
def hear_instrument(books, alert):
    told = books.tally[0]
    i = alert.instrument
    kind = alert.kind
    if unsettles(kind):
        books.instruments[i].unsettled = told.session + 1
    if kind == AlertKind.MISSING_FILL:
        books.instruments[i].missing = max(alert.observed - alert.limit, 0)
    lost = kind == AlertKind.NO_ANSWER or kind == AlertKind.UNKNOWN_OUTCOME
    if lost or kind == AlertKind.ABSENCE_PROVEN:
        newest = newest_open(books, i)
        if newest != NONE and lost:
            told.unknown += 1
            books.orders[newest].unknown = 1
            books.orders[newest].alerted = 1
        elif newest != NONE:
            end_order(books, i, books.orders[newest], REJECTED)
    elif kind == AlertKind.MISSING_FILL or kind == AlertKind.NOT_FLAT or kind == AlertKind.RECONCILIATION:
        for k in range(LAST * i, LAST * (i + 1)):
            books.orders[k].alerted = 1


@kernel
def newest_open(books, i):
    following = books.instruments[i].next
    for back in range(1, LAST + 1):
        k = LAST * i + (following - back) % LAST
        if books.orders[k].used == 1 and books.orders[k].ended == OPEN:
            return k
    return NONE


@kernel
def hear_reconciliation(books, alert):
    """The venue's statement differs from the ledger: the venue's where something is not settled."""
    told = books.tally[0]
    unsettled = told.open > 0 or told.denied > 0 or told.cash_denied == 1
    for i in range(len(books.instruments)):
        if books.instruments[i].unsettled >= max(told.session, 1):  # in this session or the one before
            unsettled = True
    blame(books, Breach.RECONCILIATION, unsettled, alert.instrument, alert.observed, alert.limit)


# --- executions


@kernel
def moves(kind):
    return kind == ExecutionKind.FILL or kind == ExecutionKind.BUST


@kernel
def is_end(kind):
    return (
        kind == ExecutionKind.CANCELLED
        or kind == ExecutionKind.EXPIRED
        or kind == ExecutionKind.REJECTED
        or kind == ExecutionKind.REPLACED
        or kind == ExecutionKind.ABSENT
    )


@routine
def apply(books, terms, report, alerts, ranges):
    """An execution that the account applied, against the order it names."""
    told = books.tally[0]
    at = books.places[0]
    place = at.named
    touch_session(told)
    told.known_ns = report.known_ns
    if report.number != told.number:
        breach(books, Breach.NUMBER_BREAKS, report.instrument, report.number, told.number)
    told.number = report.number + 1
    i = report.instrument
    kind = report.kind
    if is_instrument(books, i):
        forgive(books, terms, i)
    if kind == ExecutionKind.FEE:
        told.charges += 1
        remember(books, report)
        pay(told, report.fee)
    elif not is_instrument(books, i) or (moves(kind) and not is_possible(report.quantity, report.price)):
        breach(books, Breach.MEANINGLESS, i, kind, report.number)
        return
    elif kind == ExecutionKind.FILL:
        fill(books, terms, report, place, alerts)
        if place != NONE:
            low, high = ranges[at.executions, 0], ranges[at.executions, 1]
            check_price(books, terms, report, books.orders[place], low, high)
    elif kind == ExecutionKind.BUST:
        undo(books, terms, report, place)
    elif is_end(kind):
        told.ends += 1
        end(books, report, place)
    else:
        breach(books, Breach.MEANINGLESS, i, kind, report.number)
    if report.cash != told.cash:
        breach(books, Breach.CASH_DIFFERS, i, report.cash, told.cash)
    if is_instrument(books, i):
        if report.position != books.instruments[i].held:
            breach(books, Breach.POSITION_DIFFERS, i, report.position, books.instruments[i].held)
        ask(books, terms, i, NONE, False)
    else:
        ask_cash(books, NONE, False, False)


@kernel
def pay(told, fee):
    told.cash -= fee
    told.fees += fee


@kernel
def move(books, i, signed, price, fee):
    """Lots against cash."""
    told = books.tally[0]
    mine = books.instruments[i]
    told.holding -= 1 if mine.held != 0 else 0
    mine.held += signed
    told.holding += 1 if mine.held != 0 else 0
    told.cash -= signed * price
    pay(told, fee)


@kernel
def remember(books, report):
    """Is this execution id new? Its bucket forgets its oldest."""
    mark = report.execution_id
    bucket = books.ids[mark % BUCKETS]
    if (
        bucket.way_0 == mark
        or bucket.way_1 == mark
        or bucket.way_2 == mark
        or bucket.way_3 == mark
        or bucket.way_4 == mark
        or bucket.way_5 == mark
        or bucket.way_6 == mark
        or bucket.way_7 == mark
    ):
        breach(books, Breach.APPLIED_TWICE, report.instrument, mark, report.number)
        return False
    bucket.way_7 = bucket.way_6
    bucket.way_6 = bucket.way_5
    bucket.way_5 = bucket.way_4
    bucket.way_4 = bucket.way_3
    bucket.way_3 = bucket.way_2
    bucket.way_2 = bucket.way_1
    bucket.way_1 = bucket.way_0
    bucket.way_0 = mark
    return True


@kernel
def fill(books, terms, report, place, alerts):
    told = books.tally[0]
    i = report.instrument
    told.fills += 1
    books.instruments[i].missing = max(books.instruments[i].missing - report.quantity, 0)
    move(books, i, report.quantity if report.side == Side.BUY else -report.quantity, report.price, report.fee)
    new = remember(books, report)
    check_time(books, terms, report)
    if place == NONE or books.orders[place].side != report.side:
        # Not ours, or not what we ordered: it moves what we hold and no order of ours.
        expect_late(books, terms, report)
        if place != NONE and report.cumulative != books.orders[place].filled:
            breach(
                books,
                Breach.CUMULATIVE_DIFFERS,
                i,
                report.cumulative,
                books.orders[place].filled,
            )
        return
    order = books.orders[place]
    if report.late == 1 and order.ended != OPEN and report.cumulative == 0:
        contradict(books, terms, i)  # so long ago that the account no longer knows the order
        return
    before = max(order.quantity - order.filled, 0)
    order.filled += report.quantity if new else 0
    order.unknown = 0
    judge_late(books, terms, report, order, alerts)
    if report.cumulative != order.filled:
        breach(books, Breach.CUMULATIVE_DIFFERS, i, report.cumulative, order.filled)
    if order.ended == OPEN:
        left = max(order.quantity - order.filled, 0)
        add_open(books, i, order, left - before)
        if left == 0:
            end_order(books, i, order, FILLED)


@kernel
def judge_late(books, terms, report, order, alerts):
    """Was this fill of one of our orders still possible, and does the account see that as we do?"""
    i = report.instrument
    final = order.ended == FILLED or order.ended == REJECTED
    by_venue = report.late == 1
    if final or order.filled > order.quantity:
        if final:
            blame(books, Breach.FILL_AFTER_FINAL, by_venue, i, report.quantity, order.filled)
        if order.filled > order.quantity:
            blame(books, Breach.OVERFILLED, by_venue, i, order.filled, order.quantity)
        if by_venue:
            contradict(books, terms, i)
    elif order.ended != OPEN:
        if by_venue or not is_announced(books, alerts, report):
            expect_late(books, terms, report)
    elif by_venue:
        breach(books, Breach.LATE_TOLD_WRONGLY, i, report.number, order.filled)


@kernel
def check_time(books, terms, report):
    """Principle 3: flat some time before the close. Judged once a session for the venue and once for us."""
    told = books.tally[0]
    if report.known_ns <= terms.close_ns[told.session] - terms.term[0].flat_by_ns:
        return
    by_venue = books.instruments[report.instrument].denied == 1
    bit = 1 if by_venue else 2
    if told.late & bit == 0:
        told.late |= bit
        left_ns = terms.close_ns[told.session] - report.known_ns
        blame(books, Breach.FLAT_TOO_LATE, by_venue, report.instrument, left_ns, terms.term[0].flat_by_ns)


@kernel
def expect_late(books, terms, report):
    """The account must have seen that the venue contradicts itself, and said so."""
    if report.late == 1:
        contradict(books, terms, report.instrument)
    else:
        breach(books, Breach.LATE_NOT_TOLD, report.instrument, report.number, report.quantity)


@kernel
def is_announced(books, alerts, report):
    """Has the account said that something of this instrument does not fit, or does it at this time?"""
    if books.instruments[report.instrument].unsettled > 0:
        return True
    k = books.places[0].alerts
    while k < len(alerts) and alerts[k].time_ns == report.known_ns:
        if alerts[k].instrument == report.instrument and unsettles(alerts[k].kind):
            return True
        k += 1
    return False


@kernel
def check_price(books, terms, report, order, low, high):
    """Never beyond the limit; within the bar it happened in, but for the costs of trading."""
    told = books.tally[0]
    i = report.instrument
    limit = order.limit_price
    buys = report.side == Side.BUY
    if limit > 0 and order.side == report.side and (report.price > limit if buys else report.price < limit):
        breach(books, Breach.BEYOND_LIMIT, i, report.price, limit)
    if low < 0:
        return
    told.priced += 1
    tolerance = terms.term[0].tolerance
    if low == 0:
        breach(books, Breach.NO_BAR, i, report.time_ns, report.price)
    elif report.price < low - low * tolerance // MICRO - 1:
        breach(books, Breach.OUTSIDE_BAR, i, report.price, low)
    elif report.price > high + high * tolerance // MICRO + 1:
        breach(books, Breach.OUTSIDE_BAR, i, report.price, high)


@routine
def undo(books, terms, report, place):
    """A bust: the opposite of the fill it names, at its price; the fee comes back."""
    told = books.tally[0]
    i = report.instrument
    told.busts += 1
    contradict(books, terms, i)
    move(
        books, i, -report.quantity if report.side == Side.BUY else report.quantity, report.price, -report.fee
    )
    new = remember(books, report)
    if place == NONE:
        return
    order = books.orders[place]
    left = max(order.filled - (report.quantity if new else 0), 0)
    forgotten = order.ended != OPEN and report.cumulative == 0 and left > 0
    if order.side != report.side or forgotten:
        return
    before = max(order.quantity - order.filled, 0)
    order.filled = left
    if report.cumulative != order.filled:
        breach(books, Breach.CUMULATIVE_DIFFERS, i, report.cumulative, order.filled)
    if order.ended == OPEN:
        add_open(books, i, order, max(order.quantity - order.filled, 0) - before)


@kernel
def end(books, report, place):
    """An order ends with what has filled of it."""
    i = report.instrument
    if place == NONE:
        breach(books, Breach.END_OF_NO_ORDER, i, report.kind, report.number)
        return
    order = books.orders[place]
    if report.cumulative != order.filled:
        breach(books, Breach.CUMULATIVE_DIFFERS, i, report.cumulative, order.filled)
    if order.ended != OPEN:
        breach(books, Breach.ENDED_TWICE, i, report.kind, order.ended - 1)
        return
    order.unknown = 0
    end_order(books, i, order, REJECTED if report.kind == ExecutionKind.ABSENT else report.kind + 1)


# --- equity


@kernel
def is_right(books, row):
    told = books.tally[0]
    return row.cash == told.cash and row.fees == told.fees


@kernel
def follow_equity(books, equity, now):
    """Before an execution of time `now`: rows of equity of this time that were written before it."""
    told = books.tally[0]
    at = books.places[0]
    while at.equity < len(equity) and equity[at.equity].time_ns == now and is_right(books, equity[at.equity]):
        told.matched = 1
        if at.equity + 1 == len(equity) or equity[at.equity + 1].time_ns != now:
            break
        value_row(books, equity[at.equity])
        at.equity += 1


@kernel
def value(books, terms, row):
    """The account at a bar end, beside the recount."""
    told = books.tally[0]
    right = is_right(books, row)
    if not right and told.matched == 0:
        if row.cash != told.cash:
            breach_of_all(books, Breach.CASH_AT_BAR_END, row.cash, told.cash)
        else:
            breach_of_all(books, Breach.FEES_AT_BAR_END, row.fees, told.fees)
    if right and told.holding == 0:
        told.bar_ends_flat += 1
        result = row.cash - terms.term[0].cash
        if row.position_value != 0 or row.realised_pnl - row.fees != result:
            breach_of_all(books, Breach.DOUBLE_ENTRY, row.realised_pnl - row.fees, result)
    value_row(books, row)


@kernel
def value_row(books, row):
    told = books.tally[0]
    told.bar_ends += 1
    told.valued = 1
    told.matched = 0
    told.valued_ns = row.time_ns
    told.valued_cash = row.cash
    if row.equity != row.cash + row.position_value:
        breach_of_all(books, Breach.EQUITY_NOT_THE_SUM, row.equity, row.cash + row.position_value)
