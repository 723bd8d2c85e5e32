"""What a venue's report does to an order, a position and the ledger.

Two parts that do not depend on each other: *quantity*, which only executions move, each id once; and the
*life cycle*, which the table in `order_lifecycle` moves. A report that does not fit is never repaired in
silence: the quantity is booked as the venue says, the instrument is blocked for entries until it is settled,
and an alert says why.

| report | quantity | life cycle | alert |
|---|---|---|---|
| id known, same content | - | - | - |
| id known, other content | - | - | EXECUTION_ALTERED, blocked |
| fill that names fewer lots so far than are known | applied | as the table says | - |
| a cumulative above the sum of the fills | - | as the table says | MISSING_FILL, blocked, asked for |
| fill of a cancelled, expired or replaced order | applied | - | LATE_FILL, unless it was announced |
| fill of a rejected order | applied | - | CONTRADICTION, blocked |
| fill above the order's quantity | applied | - | OVERFILL, blocked |
| fill on the other side, or of no order of ours | applied | - | WRONG_SIDE or EXTERNAL_ORDER, blocked |
| bust | undone | - | BUST |
| no lots, no price, more than could be valued | - | - | EXECUTION_REFUSED, blocked |
| no instrument | - | - | EXECUTION_REFUSED, halted |
| bust of another content than its fill, or again | - | - | EXECUTION_ALTERED, blocked |
| a transition that the table does not have | - | - | ILLEGAL_TRANSITION, asked for |
"""

from operators import ledger
from operators.account_output import NO_BREAKER, record_alert, record_execution
from operators.account_state import PAST, SEEN
from operators.breakers import exit_failed
from operators.compiled import kernel, routine
from operators.gates.size import MAX_LOTS
from operators.halt import raise_level
from operators.missing import missing_of, owed
from operators.order_lifecycle import REPORT_EVENT, STALE, advance, is_live
from operators.position import settle
from schemas.codes import (
    AlertKind,
    ExecutionKind,
    HaltLevel,
    Intent,
    OrderEvent,
    OrderState,
    Reason,
    Side,
)
from schemas.records import MAX_MICRO

NO_STRATEGY = -1
CASH_TOLERANCE = 10_000  # a hundredth of the currency
HASH_FACTOR, HASH_PRIME = 1_000_003, 2_147_483_647
MOST_MONEY = MAX_MICRO // 4  # millionths: cash, fees or costs; what is made of them still has 18 digits
MOST_VALUE = MAX_MICRO // 125  # of a position: nine times the most that one may cost; of 1,000 the sum fits
MOST_LOTS = 2 * MAX_LOTS  # a position and an order that sells all of it
UNDONE = -1  # in the place of its content: a bust has undone this execution, perhaps before it came


@routine
def apply_report(state, rules, out, report):
    """Apply one row of dtype REPORT: the only place where positions and cash change."""
    account = state.account[0]
    account.reports += 1
    kind = report.kind
    if kind == ExecutionKind.CASH:
        reconcile_cash(state, out, report)
        return
    i = report.instrument
    if i < -1 or i >= len(state.positions) or (i < 0 and kind != ExecutionKind.FEE):
        refuse(state, out, report)
        raise_level(state, out, HaltLevel.HALTED)
        return
    if kind == ExecutionKind.FEE:
        if report.execution_id < 0 or not is_payable(account, report.fee):
            refuse(state, out, report)
        elif is_new(state, out, report):
            account.cash -= report.fee
            account.fees += report.fee
            record_execution(state, out, report, 0, 0, 0)
        return
    if kind == ExecutionKind.POSITION:
        reconcile_position(state, out, report)
    elif not can_be_valued(state, i, report.cumulative, 0):
        refuse(state, out, report)
        block(state, i, Reason.BLOCKED)
    elif kind == ExecutionKind.FILL or kind == ExecutionKind.BUST:
        if not is_possible(state, report):
            refuse(state, out, report)
            block(state, i, Reason.BLOCKED)
        elif is_new(state, out, report):
            if kind == ExecutionKind.FILL:
                apply_fill(state, rules, out, report)
            else:
                apply_bust(state, rules, out, report)
    else:
        apply_status(state, rules, out, report)
    settle(state, rules, out, i)


# --- which order, and is it new


@kernel
def past_order(state, report):
    """Place in `past` of the order a report names, -1 where it is not there."""
    for k in range(PAST * report.instrument, PAST * (report.instrument + 1)):
        if is_named(state.past[k], report):
            return k
    return -1


@kernel
def is_named(order, report):
    return (
        order.state != OrderState.NONE
        and order.order_ns == report.order_ns
        and order.attempt == report.attempt
        and order.intent == report.intent
    )


@kernel
def fill_hash(report):
    """Of everything a fill says, modulo a prime below 2**31, so that no product overflows; of a bust, that of
    the fill it undoes.
    """
    total = 0
    for word in (
        report.instrument,
        report.order_ns,
        report.intent,
        report.attempt,
        report.side,
        report.quantity,
        report.price,
        report.fee,
    ):
        total = (total * HASH_FACTOR + word % HASH_PRIME) % HASH_PRIME
    return total


@kernel
def content_hash(report):
    """Of everything an execution says."""
    total = fill_hash(report)
    if report.kind != ExecutionKind.FILL:
        total = (total * HASH_FACTOR + report.kind) % HASH_PRIME
        total = (total * HASH_FACTOR + report.reference_id % HASH_PRIME) % HASH_PRIME
    return total


@kernel
def place_of(state, execution_id):
    """Where an execution id is remembered, -1 where it is not."""
    if execution_id > state.account[0].newest_execution:
        return -1  # most venues count, so there is nothing to search for
    found = -1
    for k in range(SEEN):
        found = k if state.seen[k] == execution_id else found
    return found


@kernel
def remember(state, execution_id, content):
    account = state.account[0]
    state.seen[account.seen_next] = execution_id
    state.seen_hash[account.seen_next] = content
    account.seen_next = (account.seen_next + 1) % SEEN
    account.newest_execution = max(account.newest_execution, execution_id)


@kernel
def is_new(state, out, report):
    """Has this execution id not been applied? Then it is remembered. The same id with other content is not
    applied, and alerts.
    """
    found = place_of(state, report.execution_id)
    hashed = content_hash(report)
    if found < 0:
        remember(state, report.execution_id, hashed)
        return True
    state.account[0].repeated_reports += 1
    if state.seen_hash[found] != hashed and state.seen_hash[found] != UNDONE:
        alter(state, out, report)
    return False


@kernel
def alter(state, out, report):
    """An execution says something else than before: it is not applied."""
    i = report.instrument
    altered = AlertKind.EXECUTION_ALTERED
    record_alert(state, out, altered, NO_BREAKER, i, NO_STRATEGY, report.execution_id, 0)
    if i >= 0:
        block(state, i, Reason.BLOCKED)


@kernel
def is_payable(account, amount):
    """Does the ledger hold `amount` millionths more, or less?"""
    room = MOST_MONEY - max(abs(account.cash), abs(account.fees), abs(account.costs))
    return -room < amount < room


@kernel
def can_be_valued(state, i, lots, price):
    """Could `lots` be added to instrument `i` and still be valued: at `price` millionths, at its mark, and at
    what it costs to sell them? Nothing is multiplied here, so nothing overflows.
    """
    position = state.positions[i]
    each = max(price, position.mark, state.limits[0].commission_per_unit, 1)
    return 0 <= lots <= MAX_LOTS and abs(position.quantity) + lots <= min(MOST_LOTS, MOST_VALUE // each)


@kernel
def is_possible(state, report):
    """Could this fill be one? Its lots, prices and fee within what the ledger can hold."""
    dearest = max(report.price, report.reference_price)
    return (
        report.execution_id >= 0
        and report.quantity > 0
        and report.price > 0
        and can_be_valued(state, report.instrument, report.quantity, dearest)
        and is_payable(state.account[0], report.fee)
        and (report.side == Side.BUY or report.side == Side.SELL)
    )


@kernel
def refuse(state, out, report):
    state.account[0].refused_reports += 1
    kind = AlertKind.EXECUTION_REFUSED
    i = report.instrument if 0 <= report.instrument < len(state.positions) else -1
    record_alert(state, out, kind, NO_BREAKER, i, NO_STRATEGY, report.quantity, report.price)


@kernel
def block(state, i, reason):
    """Nothing is added to this instrument until it is settled. A missing fill gives way to graver reasons."""
    position = state.positions[i]
    if position.blocked != Reason.BLOCKED:
        position.blocked = reason


# --- quantity


@kernel
def apply_fill(state, rules, out, report):
    i = report.instrument
    if is_named(state.orders[i], report):
        fill_order(state, rules, out, report, state.orders[i])
        return
    k = past_order(state, report)
    if k >= 0:
        fill_order(state, rules, out, report, state.past[k])
    else:
        contradict(state, out, i, AlertKind.EXTERNAL_ORDER, report.quantity, 0)
        block(state, i, Reason.BLOCKED)
        book(state, rules, out, report, NO_STRATEGY, 0, 0, 1)


@routine
def fill_order(state, rules, out, report, order):
    """A fill of an order of ours, live or past."""
    account = state.account[0]
    i = report.instrument
    if report.side != order.side:
        contradict(state, out, i, AlertKind.WRONG_SIDE, report.quantity, order.quantity)
        block(state, i, Reason.BLOCKED)
        book(state, rules, out, report, NO_STRATEGY, order.cumulative, 0, 1)
        return
    filled = order.cumulative + report.quantity
    late = 0
    if order.state == OrderState.REJECTED or order.state == OrderState.DENIED:
        late = 1
        contradict(state, out, i, AlertKind.CONTRADICTION, report.quantity, order.quantity)
        block(state, i, Reason.BLOCKED)
    elif filled > order.quantity:
        late = 1
        contradict(state, out, i, AlertKind.OVERFILL, filled, order.quantity)
        block(state, i, Reason.BLOCKED)
    elif not is_live(order) and max(filled + order.busted, report.cumulative) > order.told:
        late = 1
        contradict(state, out, i, AlertKind.LATE_FILL, filled, order.quantity)
    order.cumulative = filled
    order.told = max(order.told, report.cumulative)
    advance(order, OrderEvent.FILL_LAST if filled >= order.quantity else OrderEvent.FILL)
    answered(order)
    account.late_fills += late
    leaves = order.quantity - filled if is_live(order) else 0
    if order.intent == Intent.EXIT:
        state.positions[i].progress_ns = account.time_ns
    book(state, rules, out, report, order.strategy, filled, leaves, late)
    follow_told(state, out, i, order)


@kernel
def book(state, rules, out, report, strategy, cumulative, leaves, late):
    state.account[0].fills += 1
    ledger.apply_fill(
        state,
        rules,
        out,
        report.instrument,
        strategy,
        report.side,
        report.quantity,
        report.price,
        report.reference_price,
        report.fee,
    )
    record_execution(state, out, report, cumulative, leaves, late)


@routine
def apply_bust(state, rules, out, report):
    """An earlier fill is undone, once: the opposite is booked at the same price, its fee comes back. A fill
    that has not come yet is not booked at all, now or when it comes. A bust that does not fit its fill is not
    applied.
    """
    i = report.instrument
    fill = place_of(state, report.reference_id)
    came = fill >= 0
    if came:
        if state.seen_hash[fill] != fill_hash(report):
            alter(state, out, report)
            return
        state.seen_hash[fill] = UNDONE
    else:
        remember(state, report.reference_id, UNDONE)
    state.account[0].busts += 1
    contradict(state, out, i, AlertKind.BUST, report.quantity, report.reference_id)
    if is_named(state.orders[i], report):
        undo(state, rules, out, report, state.orders[i], came)
        return
    k = past_order(state, report)
    if k >= 0:
        undo(state, rules, out, report, state.past[k], came)
    elif came:
        unbook(state, rules, out, report, NO_STRATEGY, 0, 0)


@kernel
def undo(state, rules, out, report, order, came):
    """Take a bust back from its order."""
    order.busted += report.quantity
    if came:
        order.cumulative -= report.quantity
        leaves = order.quantity - order.cumulative if is_live(order) else 0
        unbook(state, rules, out, report, order.strategy, order.cumulative, leaves)
    follow_told(state, out, report.instrument, order)


@kernel
def unbook(state, rules, out, report, strategy, cumulative, leaves):
    i = report.instrument
    side = Side.SELL if report.side == Side.BUY else Side.BUY
    ledger.apply_fill(state, rules, out, i, strategy, side, report.quantity, report.price, 0, -report.fee)
    record_execution(state, out, report, cumulative, leaves, 1)


@routine
def contradict(state, out, i, kind, observed, limit):
    """The venue does what it had denied. Until the instrument is flat, and cash is not below zero, what this
    breaks counts as the venue's.
    """
    state.positions[i].denied = 1
    state.account[0].cash_denied = 1
    record_alert(state, out, kind, NO_BREAKER, i, NO_STRATEGY, observed, limit)


# --- life cycle


@kernel
def apply_status(state, rules, out, report):
    """A report that says where an order stands."""
    i = report.instrument
    order = state.orders[i]
    if not is_named(order, report):
        k = past_order(state, report)
        if k >= 0:
            move_on(state, rules, out, report, state.past[k])
        elif report.kind != ExecutionKind.ABSENT:
            contradict(state, out, i, AlertKind.EXTERNAL_ORDER, report.kind, report.cumulative)
            block(state, i, Reason.BLOCKED)
        return
    move_on(state, rules, out, report, order)


@routine
def move_on(state, rules, out, report, order):
    account = state.account[0]
    i = report.instrument
    kind = report.kind
    was_live = is_live(order)
    event = REPORT_EVENT[kind]
    if kind == ExecutionKind.ABSENT:
        prove_absence(state, out, i, order)
    elif STALE[order.state, kind] or (order.state == OrderState.FILLED and order.busted > 0):
        account.repeated_reports += 1
    elif not advance(order, event):
        record_illegal(state, out, i, order, event)
    elif kind == ExecutionKind.LOST:
        order.query_ns = account.time_ns
        unknown = AlertKind.UNKNOWN_OUTCOME
        record_alert(state, out, unknown, NO_BREAKER, i, order.strategy, order.attempt, order.order_ns)
    if kind != ExecutionKind.ABSENT:
        order.absences = 0
    order.told = max(order.told, report.cumulative)
    answered(order)
    if was_live and not is_live(order):
        leaves = order.quantity - order.cumulative - missing_of(order)
        record_execution(state, out, report, order.cumulative, 0, 0)
        if order.intent == Intent.EXIT and order.cancel_asked == 0 and leaves > 0:
            exit_failed(state, rules, out, i)
    follow_told(state, out, i, order)


@routine
def record_illegal(state, out, i, order, event):
    """A report that the table has no transition for: the life does not move, the order is asked for."""
    state.account[0].illegal_transitions += 1
    order.doubted = 1
    state.account[0].doubts = 1
    alert = AlertKind.ILLEGAL_TRANSITION
    record_alert(state, out, alert, NO_BREAKER, i, order.strategy, order.state, event)


@kernel
def answered(order):
    """A report came: is the venue still expected to answer?"""
    waits = (
        order.state == OrderState.SUBMITTED
        or order.state == OrderState.PENDING_CANCEL
        or order.state == OrderState.PENDING_REPLACE
        or order.state == OrderState.UNKNOWN
    )
    if not waits:
        order.asked_ns = 0
        order.alerted = 0


@kernel
def prove_absence(state, out, i, order):
    """The venue does not know the order. One such answer may be early; several over a time, with no fill,
    prove that it never arrived.
    """
    account = state.account[0]
    limits = state.limits[0]
    if order.state == OrderState.SUBMITTED or order.state == OrderState.PENDING_CANCEL:
        advance(order, OrderEvent.LOSE)
    if order.state != OrderState.UNKNOWN:
        if is_live(order):
            record_illegal(state, out, i, order, OrderEvent.LOSE)
        return
    if order.absences == 0:
        order.absent_ns = account.time_ns
    order.absences += 1
    long_enough = account.time_ns - order.absent_ns >= limits.absence_ns
    if order.absences < limits.absence_answers or not long_enough:
        return
    if order.cumulative == 0:
        advance(order, OrderEvent.REJECT)
        proven = AlertKind.ABSENCE_PROVEN
        record_alert(state, out, proven, NO_BREAKER, i, order.strategy, order.absences, order.order_ns)
    else:
        advance(order, OrderEvent.CANCEL)
        contradict(state, out, i, AlertKind.CONTRADICTION, order.cumulative, order.quantity)
        block(state, i, Reason.BLOCKED)


@kernel
def follow_told(state, out, i, order):
    """Has the venue told of more than its fills add up to? Then a fill is missing."""
    position = state.positions[i]
    if missing_of(order) > 0:
        if position.blocked == Reason.NONE:
            missing = AlertKind.MISSING_FILL
            told, known = order.told, order.cumulative
            record_alert(state, out, missing, NO_BREAKER, i, order.strategy, told, known)
            order.query_ns = 0
        block(state, i, Reason.MISSING_FILL)
    elif position.blocked == Reason.MISSING_FILL:
        if owed(state, i, Side.BUY) + owed(state, i, Side.SELL) == 0:
            position.blocked = Reason.NONE


# --- statements


@routine
def reconcile_position(state, out, report):
    """The venue's statement of one instrument beside the ledger. Where they agree, what was contradictory is
    settled; where they do not, an order that is not settled yet may be the cause, otherwise principle 5 is
    broken.
    """
    i = report.instrument
    position = state.positions[i]
    order = state.orders[i]
    if report.quantity == position.quantity:
        if not is_live(order) and position.blocked != Reason.NONE:
            settle_told(state, i)
            position.blocked = Reason.NONE
        return
    differs(state, out, i, report.quantity, position.quantity)
    block(state, i, Reason.BLOCKED)
    state.account[0].doubts = 1
    order.doubted = 1 if order.state != OrderState.NONE else 0
    for k in range(PAST * i, PAST * (i + 1)):
        state.past[k].doubted = 1 if state.past[k].state != OrderState.NONE else 0


@kernel
def settle_told(state, i):
    """What the venue has told of beyond the fills was a mistake: nothing is missing."""
    state.orders[i].told = state.orders[i].cumulative + state.orders[i].busted
    for k in range(PAST * i, PAST * (i + 1)):
        state.past[k].told = state.past[k].cumulative + state.past[k].busted


@routine
def reconcile_cash(state, out, report):
    account = state.account[0]
    if not account.cash - CASH_TOLERANCE <= report.price <= account.cash + CASH_TOLERANCE:
        differs(state, out, -1, report.price, account.cash)


@kernel
def differs(state, out, i, told, known):
    account = state.account[0]
    unsettled = account.cash_denied
    for k in range(len(state.orders)):
        if is_live(state.orders[k]) or state.positions[k].blocked != Reason.NONE:
            unsettled = 1
    if unsettled == 0:
        account.breaches[5] += 1
    else:
        account.denied[5] += 1
    record_alert(state, out, AlertKind.RECONCILIATION, NO_BREAKER, i, NO_STRATEGY, told, known)
