"""The account stage: one pure function over the journal.

In: groups of journal rows, each group one point of event time, in order. Out: orders, executions (from the
paper venue, where it is inside), decisions, equity. State: `account_state.State`, by account; its size is
fixed by the configuration.

A group is applied in this order, always:

    session begins or ends -> venue answers -> marks and signals -> exits -> entries through the gates ->
    measures

Always true: a position changes only in `apply_report`; an order leaves only from `send_order`, right after
its decision; nothing refuses an exit.
"""

from operators import allocation, ledger, paper_venue
from operators.account_output import (
    DECISIONS,
    EQUITY,
    EXECUTIONS,
    ORDERS,
    record_decision,
    record_equity,
    record_execution,
    record_order,
)
from operators.account_state import rows_per_group
from operators.compiled import kernel
from operators.gates import judge_entry
from operators.gates.cash import limit_price, worst_cost
from operators.gates.conflict import exposed
from operators.gates.frequency import record_opening, start_session
from operators.gates.session import time_to_close
from operators.order_lifecycle import advance, is_live
from schemas.codes import (
    EventKind,
    ExecutionKind,
    Intent,
    OrderEvent,
    OrderKind,
    OrderState,
    Outcome,
    Reason,
    Side,
    Stage,
)
from schemas.records import MICRO

NO_INSTRUMENT = -1
NO_STRATEGY = -1
HASH_PRIMES = (2_147_483_647, 2_147_483_629)


@kernel
def apply_events(events, values, verdicts, first, state, rules, out):
    """Apply rows `first`... of the journal; returns the first row not applied, because the output is full or
    the rows ended.

    events (n,) EVENT, values (n, s) int64, verdicts (n, s) uint8; rows of one time are one group and never
    cut.
    """
    n = len(events)
    row = first
    room = rows_per_group(len(rules.instruments))
    while row < n:
        if (
            out.counts[ORDERS] + room > len(out.orders)
            or out.counts[EXECUTIONS] + room > len(out.executions)
            or out.counts[DECISIONS] + room > len(out.decisions)
            or out.counts[EQUITY] + room > len(out.equity)
        ):
            break
        last = row + 1
        while last < n and events[last].time_ns == events[row].time_ns:
            last += 1
        apply_group(events, values, verdicts, row, last, state, rules, out)
        row = last
    return row


@kernel
def apply_group(events, values, verdicts, first, last, state, rules, out):
    account = state.account[0]
    now = events[first].time_ns
    slices = 0
    news = 0
    for row in range(first, last):
        if events[row].kind == EventKind.SLICE:
            slices += 1
            if events[row].time_ns > state.positions[events[row].instrument].mark_ns:
                news += 1
    if now <= account.time_ns and news == 0:
        return  # nothing that was not applied before: content position, not arrival, decides
    if now < account.time_ns:
        # A late slice may still be the newest of its own symbol, but the clock does not go back.
        account.late_slices += slices
        now = account.time_ns

    if account.in_session == 1 and now > rules.session_close_ns[account.session]:
        end_session(state, rules, out)
    account.time_ns = now
    if account.in_session == 0 and (news > 0 or holds_anything(state)):
        begin_session(state, rules, now)

    for row in range(first, last):
        if events[row].kind == EventKind.SLICE:
            apply_slice(events[row], values[row], verdicts[row], state, rules, out)

    measure(state, rules)
    if account.in_session == 0:
        return
    decide_exits(state, rules, out)
    decide_entries(state, rules, out)
    measure(state, rules)
    account.groups += 1
    account.capital_use += share_of(account.equity - account.cash, account.equity)
    record_equity(state, out)
    if now >= rules.session_close_ns[account.session]:
        end_session(state, rules, out)


# --- sessions


@kernel
def holds_anything(state):
    """Is any position not flat?"""
    for i in range(len(state.positions)):
        if state.positions[i].quantity != 0:
            return True
    return False


@kernel
def begin_session(state, rules, now):
    """Enter the session that holds the bar end `now`, if there is one."""
    account = state.account[0]
    s = account.session + 1
    while s < len(rules.session_close_ns) and rules.session_close_ns[s] < now:
        s += 1
    if s == len(rules.session_close_ns) or now <= rules.session_open_ns[s]:
        return
    account.session = s
    account.in_session = 1
    account.flat_late = 0
    for i in range(len(state.positions)):
        position = state.positions[i]
        position.carried = 1 if position.quantity != 0 else 0
        start_session(position, state.limits[0])


@kernel
def end_session(state, rules, out):
    """The close: judge principle 3, let the venue's day orders end, and record the hash of the state."""
    account = state.account[0]
    flat = True
    for i in range(len(state.positions)):
        if state.positions[i].quantity != 0 or is_live(state.orders[i]):
            flat = False
    close_ns = rules.session_close_ns[account.session]
    account.time_ns = max(close_ns, account.time_ns)
    if state.limits[0].paper == 1:
        for i in range(len(state.orders)):
            if is_live(state.orders[i]):
                advance(state.orders[i], OrderEvent.EXPIRE)
                record_execution(state, out, i, ExecutionKind.EXPIRED, close_ns, 0, 0, 0, 0)
    account.sessions += 1
    if not flat:
        account.sessions_not_flat += 1
        account.breaches[3] += 1
    account.sessions_flat_late += account.flat_late
    account.in_session = 0
    record_decision(
        state,
        out,
        NO_INSTRUMENT,
        NO_STRATEGY,
        Stage.SESSION_END,
        Outcome.RECORDED,
        Reason.STATE_HASH,
        0,
        0,
        0,
        state_hash(state, HASH_PRIMES[0]),
        state_hash(state, HASH_PRIMES[1]),
    )


@kernel
def state_hash(state, prime):
    """Polynomial hash of the whole state modulo a prime below 2**31, so that no product overflows."""
    total = 0
    for k in range(len(state.words)):
        total = (total * 1_000_003 + state.words[k] % prime) % prime
    return total


# --- what the journal says


@kernel
def apply_slice(event, values, verdicts, state, rules, out):
    """One symbol's bar: the venue answers at its open, then its close is the mark, then its signals count."""
    account = state.account[0]
    i = event.instrument
    position = state.positions[i]
    if event.time_ns <= position.mark_ns:
        return  # the same slice again: content position, not arrival, decides
    if state.limits[0].paper == 1:
        match(event, state, rules, out)
    position.mark = event.close
    position.mark_ns = event.time_ns
    position.volume = event.volume
    account.bars += 1
    for s in range(rules.instruments[i].first_sleeve, rules.instruments[i].last_sleeve):
        strategy = rules.sleeves[s].strategy
        allocation.apply_signal(state, rules, s, values[strategy], verdicts[strategy])


@kernel
def match(event, state, rules, out):
    """The paper venue's answers to the live order of this instrument; an asked-for cancel comes first."""
    i = event.instrument
    order = state.orders[i]
    if not is_live(order):
        return
    limits = state.limits[0]
    opened_ns = event.time_ns - limits.interval_ns
    if order.state == OrderState.PENDING_CANCEL:
        advance(order, OrderEvent.CANCEL)
        record_execution(state, out, i, ExecutionKind.CANCELLED, opened_ns, 0, 0, 0, 0)
        return
    if opened_ns < order.order_ns:
        return  # sent after this bar had opened: it waits for the next
    if order.state == OrderState.SUBMITTED:
        advance(order, OrderEvent.ACCEPT)
    order.bars += 1
    leaves = order.quantity - order.cumulative
    quantity, price, fee = paper_venue.fill(
        order.side, leaves, order.limit_price, event.open, event.volume, limits
    )
    if quantity > 0:
        apply_report(state, out, i, opened_ns, quantity, price, event.open, fee)
    if is_live(order) and order.intent == Intent.ENTRY and order.bars >= limits.entry_lifetime_bars:
        advance(order, OrderEvent.EXPIRE)
        record_execution(state, out, i, ExecutionKind.EXPIRED, opened_ns, 0, 0, 0, 0)


@kernel
def apply_report(state, out, i, time_ns, quantity, price, reference_price, fee):
    """A fill of the order of instrument `i`: the only place where a position changes."""
    account = state.account[0]
    order = state.orders[i]
    order.cumulative += quantity
    done = order.cumulative == order.quantity
    if not advance(order, OrderEvent.FILL_LAST if done else OrderEvent.FILL):
        account.illegal_transitions += 1
    ledger.apply_fill(account, state.positions[i], order.side, quantity, price, reference_price, fee)
    account.fills += 1
    record_execution(state, out, i, ExecutionKind.FILL, time_ns, quantity, price, reference_price, fee)


# --- decisions


@kernel
def desired(state, rules, i):
    """(absolute target, the stage and the reason that set it). The session overrules the strategy."""
    position = state.positions[i]
    idle = not is_live(state.orders[i])
    wanted = allocation.target(state, rules, i, idle)
    if position.carried == 1:
        if position.quantity == 0:
            position.carried = 0
        else:
            return 0, Stage.SESSION, Reason.CARRIED_OVER
    if time_to_close(state, rules) <= state.limits[0].exits_begin_ns and position.quantity > 0:
        return 0, Stage.SESSION, Reason.END_OF_DAY
    return wanted, Stage.ALLOCATION, Reason.TARGET


@kernel
def decide_exits(state, rules, out):
    """Reductions, and cancels of entries that are no longer wanted. Nothing refuses them."""
    for i in range(len(state.positions)):
        position = state.positions[i]
        order = state.orders[i]
        if position.quantity == 0 and not is_live(order):
            continue
        wanted, stage, reason = desired(state, rules, i)
        if is_live(order):
            if order.intent == Intent.ENTRY and order.state != OrderState.PENDING_CANCEL:
                left = time_to_close(state, rules)
                if left <= state.limits[0].cancel_entries_ns:
                    send_cancel(state, out, i, Stage.SESSION, Reason.ENTRIES_STOPPED, wanted)
                elif wanted <= position.quantity:
                    send_cancel(state, out, i, stage, Reason.TARGET_WITHDRAWN, wanted)
            continue
        if wanted < position.quantity:
            decision = record_decision(
                state,
                out,
                i,
                position.strategy,
                stage,
                Outcome.APPROVED,
                reason,
                wanted,
                wanted,
                position.mark,
                position.quantity,
                wanted,
            )
            send_order(state, out, i, Side.SELL, Intent.EXIT, position.quantity - wanted, 0, decision)


@kernel
def decide_entries(state, rules, out):
    """Increases, one after the other, each through all gates on the state that the one before it left."""
    account = state.account[0]
    limits = state.limits[0]
    for i in range(len(state.positions)):
        position = state.positions[i]
        order = state.orders[i]
        if position.weight == 0 or is_live(order):
            continue
        wanted, stage, reason = desired(state, rules, i)
        increase = wanted - position.quantity
        if increase <= 0:
            continue
        price = position.mark
        stage, outcome, reason, allowed, observed, limit = judge_entry(state, rules, i, increase, price)
        decision = record_decision(
            state,
            out,
            i,
            position.strategy,
            stage,
            outcome,
            reason,
            wanted,
            position.quantity + allowed,
            price,
            observed,
            limit,
        )
        if outcome == Outcome.REFUSED:
            account.refused[stage] += 1
        if allowed < increase and (stage == Stage.SIZE or stage == Stage.CASH):
            # What is held must be sold again within minutes, so a limit met at entry stays the target: adding
            # bar by bar would build what the market cannot take back.
            position.goal = position.quantity + allowed
        if allowed > 0:
            collar = limit_price(price, limits)
            send_order(state, out, i, Side.BUY, Intent.ENTRY, allowed, collar, decision)
            account.reserved += worst_cost(allowed, collar, limits)
            record_opening(position, account.time_ns)


@kernel
def send_order(state, out, i, side, intent, quantity, limit, decision):
    """An order leaves for its decision. Its id is a pure function of instrument, time, intent and attempt."""
    account = state.account[0]
    order = state.orders[i]
    order.attempt = order.attempt + 1 if order.order_ns == account.time_ns else 0
    order.order_ns = account.time_ns
    order.side = side
    order.intent = intent
    order.quantity = quantity
    order.cumulative = 0
    order.limit_price = limit
    order.reference_price = state.positions[i].mark
    order.strategy = state.positions[i].strategy
    order.bars = 0
    order.decision = decision
    order.state = OrderState.CREATED
    advance(order, OrderEvent.SUBMIT)
    account.orders += 1
    record_order(state, out, i, OrderKind.NEW, decision)


@kernel
def send_cancel(state, out, i, stage, reason, wanted):
    """Ask the venue to cancel the live order of instrument `i`; until it confirms, the order can still
    fill.
    """
    account = state.account[0]
    position = state.positions[i]
    order = state.orders[i]
    decision = record_decision(
        state,
        out,
        i,
        order.strategy,
        stage,
        Outcome.APPROVED,
        reason,
        wanted,
        position.quantity,
        position.mark,
        order.quantity - order.cumulative,
        0,
    )
    if not advance(order, OrderEvent.CANCEL_REQUEST):
        account.illegal_transitions += 1
        return
    account.cancels += 1
    record_order(state, out, i, OrderKind.CANCEL, decision)


# --- measures


@kernel
def share_of(part, whole):
    """`part / whole` in millionths; their product by a million would not fit 63 bits."""
    return part // max(whole // MICRO, 1)


@kernel
def measure(state, rules):
    """Equity, drawdown, reserved cash, and the principles as the account itself sees them after the event."""
    account = state.account[0]
    limits = state.limits[0]
    value = 0
    reserved = 0
    flat = True
    for i in range(len(state.positions)):
        position = state.positions[i]
        order = state.orders[i]
        live = is_live(order)
        if position.quantity == 0 and not live:
            continue
        flat = False
        value += position.quantity * position.mark
        reserved += position.quantity * limits.commission_per_unit
        if live:
            leaves = order.quantity - order.cumulative
            if order.side == Side.BUY:
                reserved += worst_cost(leaves, order.limit_price, limits)
            elif position.quantity < leaves:
                account.breaches[5] += 1
        if position.quantity < 0:
            account.breaches[5] += 1
        me = rules.instruments[i]
        for m in range(me.first_member, me.last_member):
            other = rules.members[m]
            if (
                rules.instruments[other].side > me.side
                and exposed(state, i) > 0
                and exposed(state, other) > 0
            ):
                account.breaches[2] += 1
    account.reserved = reserved
    account.equity = account.cash + value
    account.peak_equity = max(account.peak_equity, account.equity)
    drawdown = account.peak_equity - account.equity
    account.max_drawdown = max(account.max_drawdown, drawdown)
    account.max_drawdown_share = max(account.max_drawdown_share, share_of(drawdown, account.peak_equity))
    free = account.cash - reserved
    account.min_free_cash = min(account.min_free_cash, free)
    if free < 0:
        account.breaches[1] += 1
    if not flat and account.in_session == 1 and time_to_close(state, rules) <= limits.flat_by_ns:
        account.flat_late = 1
