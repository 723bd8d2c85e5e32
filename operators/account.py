"""The account stage: one pure function over the journal.

In: groups of journal rows, each group one point of event time, in order: market slices, ticks, a venue's
reports, operators' commands. Out: orders, executions, decisions, equity, alerts. State:
`account_state.State`, by account; its size is fixed by the configuration.

A group is applied in this order, always:

    session begins or ends -> (paper venue trades) -> each row: mark and signals, report, command
    -> measures and breakers -> late answers -> exits -> entries through the gates -> measures

Always true: a position changes only in `reports.apply_report`; an order leaves only from `send_order`, right
after its decision; nothing refuses an exit, except that what is not known to be held is not sold.
"""

from operators import allocation, paper_venue
from operators.account_output import (
    ALERTS,
    DECISIONS,
    EQUITY,
    EXECUTIONS,
    NO_BREAKER,
    ORDERS,
    record_alert,
    record_decision,
    record_equity,
    record_order,
)
from operators.account_state import PAST, rows_per_group
from operators.breakers import bar_passed, check_exits, opening_wanted, record_opening, wants_flat
from operators.breakers import measure as measure_breakers
from operators.breakers import start_session as start_session_of_breakers
from operators.compiled import kernel, routine
from operators.control import apply_command
from operators.end_of_day import pass_time
from operators.gates import frequency, judge_entry, messages
from operators.gates.cash import limit_price, worst_cost
from operators.gates.conflict import exposed
from operators.gates.session import time_to_close
from operators.missing import missing_of, owed, owed_by_ended
from operators.order_lifecycle import advance, is_live
from operators.position import begin_exit, settle
from operators.reports import apply_report
from schemas.codes import (
    AlertKind,
    Breaker,
    DayPhase,
    EventKind,
    HaltLevel,
    Intent,
    OrderEvent,
    OrderKind,
    OrderState,
    Outcome,
    PositionPhase,
    Reason,
    Side,
    Stage,
    Verdict,
)
from schemas.records import MICRO

NO_INSTRUMENT = -1
NO_STRATEGY = -1
HASH_MASK = 0xFFFF_FFFF
HASH_STARTS = (2_166_136_261, 84_696_351)
HASH_PRIMES = (16_777_619, 16_777_639)


@routine
def apply_events(events, values, verdicts, reports, commands, first, state, rules, out, venue, terms, inbox):
    """Apply rows `first`... of the journal; returns the first row not applied, because the output is full or
    the rows ended.

    events (n,) EVENT, values (n, s) int64, verdicts (n, s) uint8, reports and commands as `detail` says; rows
    of one time are one group and never cut. `venue`, `terms`: the paper venue, used where it is inside the
    stage; `inbox` (1,) REPORT is its letter box.
    """
    account = state.account[0]
    paper = state.limits[0].paper == 1
    row = first
    while row < len(events):
        start = row
        last = end_of_group(events, row)
        if not has_room(out, rows_per_group(len(rules.instruments), last - row)):
            break
        row = last
        account.offset += last - start
        if is_repeated(events, start, last, state):
            continue  # nothing that was not applied before: content position, not arrival, decides

        now = max(events[start].time_ns, account.time_ns)  # the clock does not go back
        if account.in_session == 1 and now > rules.session_close_ns[account.session]:
            end_session(state, rules, out, venue, terms, inbox)
        account.time_ns = now
        if account.in_session == 0 and (brings_news(events, start, last, state) or holds_anything(state)):
            begin_session(state, rules, out, now)
        pass_time(state, rules)

        if paper:
            let_venue_trade(events, start, last, state, venue, terms)
            if paper_venue.has_news(venue):
                hear(state, rules, out, venue, terms, inbox)
        for k in range(start, last):
            event = events[k]
            if event.kind == EventKind.SLICE:
                apply_slice(event, values[k], verdicts[k], state, rules, out)
            elif event.kind == EventKind.EXECUTION:
                apply_report(state, rules, out, reports[event.detail])
            elif event.kind == EventKind.CONTROL:
                apply_command(state, rules, out, commands[event.detail])
            else:
                account.ticks += 1
        measure(state, rules, out)
        if account.in_session == 0:
            continue

        judge_breakers(state, rules, out)
        messages.refill(state, now)
        sent = out.counts[ORDERS]
        if holds_anything(state):
            decide_exits(state, rules, out)
        decide_entries(state, rules, out)
        if out.counts[ORDERS] > sent:
            if paper:
                converse(state, rules, out, venue, terms, inbox, sent)
            measure_again(state, rules, out)
        account.groups += 1
        account.capital_use += share_of(account.equity - account.cash, account.equity)
        record_equity(state, out)
        if now >= rules.session_close_ns[account.session]:
            end_session(state, rules, out, venue, terms, inbox)
    return row


# --- groups


@kernel
def end_of_group(events, first):
    """The row after the last one of the same time."""
    last = first + 1
    while last < len(events) and events[last].time_ns == events[first].time_ns:
        last += 1
    return last


@kernel
def has_room(out, rows):
    return (
        out.counts[ORDERS] + rows <= len(out.orders)
        and out.counts[EXECUTIONS] + rows <= len(out.executions)
        and out.counts[DECISIONS] + rows <= len(out.decisions)
        and out.counts[EQUITY] + rows <= len(out.equity)
        and out.counts[ALERTS] + rows <= len(out.alerts)
    )


@kernel
def brings_news(events, first, last, state):
    """Is a slice in the group the newest of its symbol?"""
    for k in range(first, last):
        event = events[k]
        if event.kind == EventKind.SLICE and event.time_ns > state.positions[event.instrument].mark_ns:
            return True
    return False


@kernel
def is_repeated(events, first, last, state):
    """Was all of this group applied before? Counts what is repeated or late: a late slice may still be the
    newest of its own symbol.
    """
    account = state.account[0]
    if events[first].time_ns > account.time_ns:
        return False
    slices = 0
    ticks = 0
    for k in range(first, last):
        if events[k].kind == EventKind.SLICE:
            slices += 1
        elif events[k].kind == EventKind.TICK:
            ticks += 1
    if slices + ticks < last - first or brings_news(events, first, last, state):
        if events[first].time_ns < account.time_ns:
            account.late_slices += slices
        return False
    account.repeated_slices += slices
    account.ticks += ticks
    return True


@kernel
def let_venue_trade(events, first, last, state, venue, terms):
    for k in range(first, last):
        event = events[k]
        i = event.instrument
        if event.kind == EventKind.SLICE and paper_venue.concerns(venue, i):
            if event.time_ns > state.positions[i].mark_ns:
                paper_venue.trade(venue, terms, i, event.time_ns, event.open, event.volume)


@routine
def hear(state, rules, out, venue, terms, inbox):
    """Apply what the paper venue has to say by now."""
    while paper_venue.next_report(venue, terms, state.account[0].time_ns, inbox[0]):
        apply_report(state, rules, out, inbox[0])


@routine
def converse(state, rules, out, venue, terms, inbox, sent):
    """Give the paper venue the requests from row `sent` on, and apply its answers. An exit whose cancel it
    confirms is sent anew at once: a bar is too long to wait near the close.
    """
    for turn in range(2):
        first, sent = sent, out.counts[ORDERS]
        for k in range(first, sent):
            paper_venue.receive(venue, terms, out.orders[k], state.account[0].time_ns)
        hear(state, rules, out, venue, terms, inbox)
        if turn == 0 and waits_to_leave(state):
            decide_exits(state, rules, out)


@kernel
def waits_to_leave(state):
    """Is there an exit that we have cancelled, to send it anew?"""
    for i in range(len(state.positions)):
        order = state.orders[i]
        if order.intent == Intent.EXIT and order.cancel_asked == 1 and not is_live(order):
            if state.positions[i].quantity != 0:
                return True
    return False


# --- sessions


@kernel
def holds_anything(state):
    """Is anything held or live, or to be settled?"""
    if state.account[0].doubts == 1:
        return True
    for i in range(len(state.positions)):
        position = state.positions[i]
        if position.phase != PositionPhase.FLAT or position.blocked != Reason.NONE:
            return True
    return False


@routine
def begin_session(state, rules, out, now):
    """Enter the session that holds the bar end `now`, if there is one."""
    account = state.account[0]
    s = account.session + 1
    while s < len(rules.session_close_ns) and rules.session_close_ns[s] < now:
        s += 1
    if s == len(rules.session_close_ns) or now <= rules.session_open_ns[s]:
        return
    account.session = s
    account.in_session = 1
    account.day_phase = DayPhase.TRADING
    account.flat_late = 0
    account.session_equity = account.equity
    for i in range(len(state.positions)):
        state.positions[i].carried = 1 if state.positions[i].quantity != 0 else 0
    start_session_of_breakers(state, rules, out)
    frequency.start_session(state, rules, out)


@routine
def end_session(state, rules, out, venue, terms, inbox):
    """The close: judge principle 3, let the venue's day orders end, and record the hash of the state."""
    account = state.account[0]
    close_ns = rules.session_close_ns[account.session]
    account.time_ns = max(close_ns, account.time_ns)
    open_at_close = 0
    denied = 0
    for i in range(len(state.positions)):
        position = state.positions[i]
        if position.quantity != 0 or is_live(state.orders[i]):
            open_at_close += 1
            denied += position.denied
            leaves = state.orders[i].quantity - state.orders[i].cumulative
            left = leaves if is_live(state.orders[i]) else 0
            kind = AlertKind.NOT_FLAT
            record_alert(state, out, kind, NO_BREAKER, i, position.strategy, position.quantity, left)
    if state.limits[0].paper == 1:
        paper_venue.end_session(venue, terms, close_ns)
        hear(state, rules, out, venue, terms, inbox)
    account.sessions += 1
    if open_at_close > 0:
        account.sessions_not_flat += 1
        if denied == open_at_close:
            account.denied[3] += 1
        else:
            account.breaches[3] += 1
    account.sessions_flat_late += account.flat_late
    account.in_session = 0
    account.day_phase = DayPhase.CLOSED
    one, two = state_hash(state)
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
        one,
        two,
    )


@kernel
def state_hash(state):
    """Two FNV-1a hashes, of 32 bits, of the whole state, by halves of its words: no product overflows."""
    one, two = HASH_STARTS
    for k in range(len(state.words)):
        word = state.words[k]
        low = word & HASH_MASK
        high = (word >> 32) & HASH_MASK
        one = ((one ^ low) * HASH_PRIMES[0]) & HASH_MASK
        two = ((two ^ low) * HASH_PRIMES[1]) & HASH_MASK
        one = ((one ^ high) * HASH_PRIMES[0]) & HASH_MASK
        two = ((two ^ high) * HASH_PRIMES[1]) & HASH_MASK
    return one, two


# --- what the journal says


@kernel
def apply_slice(event, values, verdicts, state, rules, out):
    """One symbol's bar: its close is the mark, its signals count."""
    account = state.account[0]
    i = event.instrument
    position = state.positions[i]
    if event.time_ns <= position.mark_ns:
        account.repeated_slices += 1
        return  # the same slice again: content position, not arrival, decides
    position.mark = event.close
    position.mark_ns = event.time_ns
    position.volume = event.volume
    account.bars += 1
    for s in range(rules.instruments[i].first_sleeve, rules.instruments[i].last_sleeve):
        strategy = rules.sleeves[s].strategy
        verdict = verdicts[strategy]
        if verdict == Verdict.ABSENT or verdict == Verdict.PENDING:
            continue
        bar_passed(state, rules, out, strategy)
        sleeve = state.sleeves[s]
        where, weight = sleeve.instrument, sleeve.weight
        allocation.apply_signal(state, rules, s, values[strategy], verdict)
        if sleeve.weight > (weight if sleeve.instrument == where else 0):
            opening_wanted(state, rules, out, strategy, sleeve.instrument)


# --- decisions


@kernel
def judge_breakers(state, rules, out):
    """Breakers trip and release; a change of the drawdown breaker sets every target anew."""
    before = state.breakers[Breaker.DRAWDOWN].tripped
    measure_breakers(state, rules, out)
    check_exits(state, rules, out)
    if state.breakers[Breaker.DRAWDOWN].tripped != before:
        for i in range(len(state.positions)):
            if state.positions[i].weight != 0:
                state.positions[i].reweighted = 1


@kernel
def expect_answers(state, out, i, doubts):
    """Requests whose answer is late have an unknown outcome, and what is unknown is asked for."""
    account = state.account[0]
    limits = state.limits[0]
    now = account.time_ns
    position = state.positions[i]
    order = state.orders[i]
    if is_live(order):
        late = order.asked_ns > 0 and now - order.asked_ns > limits.answer_ns
        late = late or (order.expires_ns > 0 and now - order.expires_ns > limits.answer_ns)
        if late and order.alerted == 0:
            order.alerted = 1
            advance(order, OrderEvent.LOSE)
            kind = AlertKind.NO_ANSWER
            record_alert(
                state, out, kind, NO_BREAKER, i, order.strategy, now - order.asked_ns, order.order_ns
            )
        stuck = order.intent == Intent.EXIT and now - position.progress_ns > limits.no_progress_ns
        if late or stuck or order.state == OrderState.UNKNOWN:
            query(state, out, i, order)
    if position.blocked != Reason.NONE or doubts:
        settle_order(state, out, i, order)
        for k in range(PAST * i, PAST * (i + 1)):
            settle_order(state, out, i, state.past[k])


@kernel
def settle_order(state, out, i, order):
    """Ask for an order with a missing fill, or one that is doubted."""
    if missing_of(order) > 0 or order.doubted == 1:
        query(state, out, i, order)
    if order.doubted == 1:
        state.account[0].doubts = 1  # it was asked for a moment ago


@routine
def query(state, out, i, order):
    """Ask the venue what it knows of an order, now and then."""
    account = state.account[0]
    if order.query_ns > 0 and account.time_ns - order.query_ns < state.limits[0].query_ns:
        return
    order.query_ns = account.time_ns
    order.doubted = 0
    account.queries += 1
    messages.spend(state)
    record_order(state, out, i, order, OrderKind.QUERY, order.decision)


@kernel
def desired(state, rules, i):
    """(absolute target, the stage and the reason that set it). What protects the account overrules the
    strategy.
    """
    account = state.account[0]
    position = state.positions[i]
    wanted = allocation.target(state, rules, i, not is_live(state.orders[i]))
    if account.flattening == 1 or account.level == HaltLevel.KILLED:
        return 0, Stage.CONTROL, Reason.FLATTENING
    if wants_flat(state):
        return 0, Stage.BREAKERS, Reason.DAILY_LOSS
    if position.quantity < 0:
        return 0, Stage.LIFECYCLE, Reason.OVERSOLD
    if position.carried == 1:
        return 0, Stage.SESSION, Reason.CARRIED_OVER
    if account.day_phase >= DayPhase.EXITS:
        return 0, Stage.SESSION, Reason.END_OF_DAY
    if position.phase == PositionPhase.EXITING:
        return 0, position.exit_stage, position.exit_reason
    if account.level >= HaltLevel.HALTED:
        return position.quantity, Stage.HALT_LEVEL, Reason.HALTED
    return wanted, Stage.ALLOCATION, Reason.TARGET


@routine
def decide_exits(state, rules, out):
    """Reductions, and cancels of what is no longer wanted. Nothing refuses them."""
    doubts = state.account[0].doubts == 1
    state.account[0].doubts = 0
    for i in range(len(state.positions)):
        expect_answers(state, out, i, doubts)
    for i in range(len(state.positions)):
        decide_exit(state, rules, out, i)


@kernel
def decide_exit(state, rules, out, i):
    position = state.positions[i]
    order = state.orders[i]
    if position.quantity == 0 and not is_live(order):
        return
    wanted, stage, reason = desired(state, rules, i)
    if wanted == 0 and position.quantity != 0:
        begin_exit(state, i, stage, reason)
    if is_live(order):
        if order.intent == Intent.ENTRY:
            review_entry(state, out, i, wanted, stage, reason)
        else:
            review_exit(state, out, i, wanted)
        return
    if position.quantity < 0:
        cover = -position.quantity - owed(state, i, Side.BUY)
        leave(state, out, i, Side.BUY, cover, 0, stage, reason)
    elif position.phase == PositionPhase.EXITING or wanted < position.quantity:
        surplus = position.quantity - wanted - owed(state, i, Side.SELL)
        leave(state, out, i, Side.SELL, surplus, wanted, stage, reason)


@routine
def leave(state, out, i, side, quantity, wanted, stage, reason):
    """Send an exit of `quantity` lots, unless a failed one has to wait before it is tried again."""
    account = state.account[0]
    position = state.positions[i]
    urgent = is_forced(state, i)
    if quantity <= 0 or (account.time_ns < position.retry_ns and not urgent):
        return
    decision = record_decision(
        state,
        out,
        i,
        position.strategy,
        stage,
        Outcome.APPROVED,
        Reason.EXIT_RETRIED if position.exit_failures > 0 else reason,
        wanted,
        wanted,
        position.mark,
        position.quantity,
        wanted,
    )
    limit = 0 if urgent or side == Side.BUY else exit_limit(state, i)
    send_order(state, out, i, side, Intent.EXIT, quantity, limit, 0, decision)


@kernel
def is_forced(state, i):
    """Must the exit get done at any price? At the end of a day also where the last price is too old to set
    a limit by.
    """
    position = state.positions[i]
    account = state.account[0]
    limits = state.limits[0]
    return (
        position.urgency == 1
        or position.carried == 1
        or position.mark <= 0
        or account.day_phase == DayPhase.FORCE
        or (account.day_phase >= DayPhase.EXITS and account.time_ns - position.mark_ns > limits.max_age_ns)
        or wants_flat(state)
    )


@kernel
def exit_limit(state, i):
    """The lowest price an exit accepts that need not get done at any price."""
    limits = state.limits[0]
    mark = state.positions[i].mark
    collar = mark * limits.exit_collar // MICRO
    if state.account[0].day_phase == DayPhase.REPRICE:
        collar *= 2
    return max(mark - collar, 1)


@kernel
def review_entry(state, out, i, wanted, stage, reason):
    """Cancel a live entry that is no longer wanted, or no longer allowed."""
    account = state.account[0]
    position = state.positions[i]
    if account.level >= HaltLevel.REDUCING and wanted > position.quantity:
        send_cancel(state, out, i, Stage.HALT_LEVEL, Reason.REDUCING, position.quantity)
    elif account.day_phase >= DayPhase.CANCEL_ENTRIES:
        send_cancel(state, out, i, Stage.SESSION, Reason.ENTRIES_STOPPED, wanted)
    elif position.blocked == Reason.BLOCKED:
        send_cancel(state, out, i, Stage.RECONCILIATION, Reason.BLOCKED, wanted)
    elif wanted <= position.quantity:
        withdrawn = Reason.TARGET_WITHDRAWN if stage == Stage.ALLOCATION else reason
        send_cancel(state, out, i, stage, withdrawn, wanted)


@kernel
def review_exit(state, out, i, wanted):
    """Cancel a live exit that could sell what is not held, or whose limit the market has left behind: it lies
    above the last close, or a whole bar has not filled it.
    """
    position = state.positions[i]
    order = state.orders[i]
    held = position.quantity if order.side == Side.SELL else -position.quantity
    now, interval_ns = state.account[0].time_ns, state.limits[0].interval_ns
    since_ns = max(order.sent_ns, position.progress_ns)
    if order.quantity - order.cumulative > held:
        send_cancel(state, out, i, Stage.LIFECYCLE, Reason.OVERSOLD, wanted)
    elif order.limit_price > 0 and (
        0 < position.mark < order.limit_price
        or now - since_ns >= interval_ns + -since_ns % interval_ns
        or is_forced(state, i)
    ):
        send_cancel(state, out, i, Stage.LIFECYCLE, Reason.REPRICE, wanted)


@kernel
def decide_entries(state, rules, out):
    """Increases, one after the other, each through all gates on the state that the one before it left."""
    for i in range(len(state.positions)):
        position = state.positions[i]
        order = state.orders[i]
        if position.weight == 0 or is_live(order) or position.quantity < 0:
            continue
        wanted, _, _ = desired(state, rules, i)
        increase = wanted - position.quantity
        if increase <= 0:
            continue
        enter(state, rules, out, i, wanted, increase)


@routine
def enter(state, rules, out, i, wanted, increase):
    """Ask the gates for an increase, and send what they allow."""
    account = state.account[0]
    limits = state.limits[0]
    position = state.positions[i]
    price = position.mark
    stage, outcome, reason, allowed, observed, limit = judge_entry(state, rules, out, i, increase, price)
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
        expires_ns = account.time_ns + limits.entry_lifetime_bars * limits.interval_ns
        send_order(state, out, i, Side.BUY, Intent.ENTRY, allowed, collar, expires_ns, decision)
        account.reserved += worst_cost(allowed, collar, limits)
        frequency.record_opening(state, rules, i, account.time_ns)
        record_opening(state, rules, out, position.strategy, i)


@routine
def send_order(state, out, i, side, intent, quantity, limit, expires_ns, decision):
    """An order leaves for its decision. Its id is a pure function of instrument, bar end, intent and
    attempt.
    """
    account = state.account[0]
    position = state.positions[i]
    order = state.orders[i]
    if order.state != OrderState.NONE:
        state.past[PAST * i + position.past_next] = order
        position.past_next = (position.past_next + 1) % PAST
    position.attempt = position.attempt + 1 if position.attempt_ns == position.mark_ns else 0
    position.attempt_ns = position.mark_ns
    order.attempt = position.attempt
    order.order_ns = position.mark_ns
    order.side = side
    order.intent = intent
    order.quantity = quantity
    order.cumulative = 0
    order.told = 0
    order.busted = 0
    order.limit_price = limit
    order.reference_price = position.mark
    order.expires_ns = expires_ns
    order.strategy = position.strategy
    order.decision = decision
    order.sent_ns = account.time_ns
    order.asked_ns = account.time_ns
    order.query_ns = 0
    order.doubted = 0
    order.alerted = 0
    order.absences = 0
    order.absent_ns = 0
    order.cancel_asked = 0
    order.state = OrderState.CREATED
    advance(order, OrderEvent.SUBMIT)
    account.orders += 1
    messages.spend(state)
    record_order(state, out, i, order, OrderKind.NEW, decision)


@routine
def send_cancel(state, out, i, stage, reason, wanted):
    """Ask the venue to cancel the live order of instrument `i`; until it confirms, the order can still
    fill. Not asked twice at once, and after a refusal not before the venue has had time to say why.
    """
    account = state.account[0]
    position = state.positions[i]
    order = state.orders[i]
    waits = order.cancel_asked == 1 and account.time_ns - order.query_ns < state.limits[0].query_ns
    if order.state == OrderState.PENDING_CANCEL or waits or not advance(order, OrderEvent.CANCEL_REQUEST):
        return
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
    order.cancel_asked = 1
    order.asked_ns = account.time_ns
    order.query_ns = account.time_ns
    order.alerted = 0
    account.cancels += 1
    messages.spend(state)
    record_order(state, out, i, order, OrderKind.CANCEL, decision)


# --- measures


@kernel
def share_of(part, whole):
    """`part / whole` in millionths; their product by a million would not fit 63 bits."""
    return part // max(whole // MICRO, 1)


@kernel
def measure(state, rules, out):
    """Equity, drawdown, reserved cash, results of strategies, and the principles as the account itself sees
    them after the event. What a contradiction of the venue causes is counted apart, in `denied`.
    """
    account = state.account[0]
    limits = state.limits[0]
    value = 0
    reserved = 0
    flat = True
    for s in range(len(state.strategies)):
        state.strategies[s].result = 0
    for i in range(len(state.positions)):
        settle(state, rules, out, i)
        position = state.positions[i]
        order = state.orders[i]
        live = is_live(order)
        me = rules.instruments[i]
        for h in range(me.first_holding, me.last_holding - 1):
            holding = state.holdings[h]
            unrealised = holding.quantity * position.mark - holding.book
            state.strategies[rules.holdings[h].strategy].result += (
                holding.realised - holding.fees + unrealised
            )
        if position.blocked != Reason.NONE:
            missing = owed_by_ended(state, i, Side.BUY)
            reserved += worst_cost(missing, limit_price(position.mark, limits), limits)
        if position.quantity == 0 and not live:
            continue
        flat = False
        value += position.quantity * position.mark
        reserved += position.quantity * limits.commission_per_unit
        short = position.quantity < 0
        if live:
            leaves = order.quantity - order.cumulative
            if order.side == Side.BUY and order.limit_price > 0:
                reserved += worst_cost(leaves, order.limit_price, limits)
            elif order.side == Side.SELL and position.quantity < leaves:
                short = True
        if short:
            breach(state, 5, position.denied == 1)
        for m in range(me.first_member, me.last_member):
            other = rules.members[m]
            if (
                rules.instruments[other].side > me.side
                and exposed(state, i) > 0
                and exposed(state, other) > 0
            ):
                breach(state, 2, position.denied + state.positions[other].denied > 0)
    account.reserved = reserved
    account.equity = account.cash + value
    account.peak_equity = max(account.peak_equity, account.equity)
    drawdown = account.peak_equity - account.equity
    account.max_drawdown = max(account.max_drawdown, drawdown)
    account.max_drawdown_share = max(account.max_drawdown_share, share_of(drawdown, account.peak_equity))
    free = account.cash - reserved
    account.min_free_cash = min(account.min_free_cash, free)
    if free < 0:
        breach(state, 1, account.cash_denied == 1)
    else:
        account.cash_denied = 0
    if flat:
        account.flattening = 0
    elif account.in_session == 1 and time_to_close(state, rules) <= limits.flat_by_ns:
        account.flat_late = 1


@routine
def measure_again(state, rules, out):
    """After orders have left."""
    measure(state, rules, out)


@kernel
def breach(state, principle, by_venue):
    """Count a principle that does not hold after this event."""
    if by_venue:
        state.account[0].denied[principle] += 1
    else:
        state.account[0].breaches[principle] += 1
