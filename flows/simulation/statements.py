"""The numbered statements, asked after every event of the books in `shadow`.

What is excused, and why:

* P1, P2, P5 and O1, from a contradiction of the venue until the principle holds again (see `shadow`): the
  account cannot refuse a fill that it was told would not come.
* P1, where a short that such a contradiction left is covered: that is bought at any price.
* P3 and FLAT_BY are asked of an instrument whose bars in the minutes of the exits could each have filled all
  of it, with a venue without faults and an event at least each minute: nothing else can make a market buy.
  Where a session ends otherwise, the account must say NOT_FLAT.
* O8: an order that the venue never ended is not terminal at the close; it must have alerted.
* O11: an exit waits for its retry while neither the end of the day nor a flatten forces it, and for fills
  that were announced.
"""

from flows.simulation.shadow import (
    BELOW,
    ENDLESS,
    LIVE,
    NONE,
    PLAIN_ALERTS,
    Statement,
    ask,
    blocks_entries,
    observe_alert,
    observe_command,
    observe_order,
    observe_report,
    require,
    see_flat,
    worst_price,
)
from operators.account_state import exit_breaker, opening_breaker, strategy_breaker
from operators.compiled import kernel, routine
from schemas.codes import (
    AlertKind,
    Breaker,
    EventKind,
    HaltLevel,
    Intent,
    OrderKind,
    OrderState,
    Outcome,
    Side,
)
from schemas.records import MICRO

ORDERS, EXECUTIONS, DECISIONS, ALERTS = 0, 1, 2, 4
MINUTE_NS = 60_000_000_000
DOUBLINGS = 64  # the longest wait between exits, in first waits


# --- before and after the account


@routine
def begin_event(shadow, rules, out, now):
    """Before the account applies a group of rows at `now`."""
    book = shadow.book[0]
    pass_time(shadow, rules, max(book.time_ns, now))
    while (
        book.calendar < len(rules.session_close_ns) and rules.session_close_ns[book.calendar] < book.time_ns
    ):
        judge_close(shadow, rules)
        book.calendar += 1
        book.quiet_ns = 0
        for i in range(len(shadow.lines)):
            shadow.lines[i].held = 0
            shadow.lines[i].fillable = ENDLESS
    for k in range(5):
        shadow.first[k] = out.counts[k]
    book.execution_row = out.counts[EXECUTIONS]
    book.command_row = out.counts[ALERTS]
    book.least_level = book.level
    book.resumed = 0
    book.released = 0
    book.killed = 0
    book.new_orders = 0
    book.cancels = 0
    for kind in range(len(shadow.expected)):
        shadow.expected[kind] = 0
        shadow.made[kind] = 0
    for i in range(len(shadow.lines)):
        line = shadow.lines[i]
        line.was_flat = 0
        line.touched = 0
        line.ordered = 0
        see_flat(shadow, i)


@kernel
def pass_time(shadow, rules, now):
    """Move the clock, and keep the longest time without an event within the minutes of the exits."""
    book = shadow.book[0]
    if book.calendar < len(rules.session_close_ns):
        close_ns = rules.session_close_ns[book.calendar]
        begin_ns = close_ns - rules.limits[0].exits_begin_ns
        book.quiet_ns = max(book.quiet_ns, min(now, close_ns) - max(book.time_ns, begin_ns))
    book.time_ns = now


@routine
def end_event(shadow, state, rules, out, events, reports, commands, first, last):
    """After the account has applied rows `first` to `last`: follow them, then ask."""
    book = shadow.book[0]
    book.events += 1
    for row in range(first, last):
        event = events[row]
        book.rows += 1
        if event.kind == EventKind.SLICE:
            book.slices += 1
            line = shadow.lines[event.instrument]
            if event.time_ns > line.mark_ns:
                line.mark_ns = event.time_ns
                line.mark = event.close
                book.news += 1
        elif event.kind == EventKind.EXECUTION:
            observe_report(shadow, rules, out, reports[event.detail])
        elif event.kind == EventKind.CONTROL:
            observe_command(shadow, out, commands[event.detail])
        else:
            book.ticks += 1
    for row in range(shadow.first[ALERTS], out.counts[ALERTS]):
        observe_alert(shadow, out.alerts[row])
    for row in range(shadow.first[ORDERS], out.counts[ORDERS]):
        check_may_open(shadow, state, rules, out.orders[row])
        observe_order(shadow, out.orders[row])
    decided = state.account[0].groups != book.groups
    check_rows(shadow, state)
    check_outputs(shadow, state, out)
    check_alerts(shadow)
    check_ledger(shadow, state, rules)
    check_cash(shadow)
    check_families(shadow, rules)
    for i in range(len(shadow.lines)):
        check_line(shadow, state, rules, i, decided)
    check_level(shadow, state)
    check_breakers(shadow, state, rules)
    check_end(shadow, rules)
    remember(shadow, state)


@routine
def remember(shadow, state):
    """What the next event is compared with."""
    book = shadow.book[0]
    account = state.account[0]
    book.session = account.session
    book.in_session = account.in_session
    book.level = account.level
    book.sequence = account.sequence
    book.execution_number = account.execution_number
    book.groups = account.groups
    for k in range(len(shadow.breakers)):
        shadow.breakers[k] = state.breakers[k]
    for i in range(len(shadow.states)):
        shadow.states[i] = state.orders[i].state
    for s in range(len(shadow.blocks)):
        shadow.blocks[s] = state.strategies[s].blocks


# --- D3, D5: rows


@routine
def check_rows(shadow, state):
    """Each row of the journal counts once, as what it is."""
    book = shadow.book[0]
    account = state.account[0]
    ask(shadow, Statement.D3, account.offset == book.rows, NONE, account.offset, book.rows)
    ask(shadow, Statement.D5, account.bars == book.news, NONE, account.bars, book.news)
    repeated = account.bars + account.repeated_slices
    require(shadow, Statement.D5, repeated == book.slices, NONE, repeated, book.slices)
    require(shadow, Statement.D5, account.ticks == book.ticks, NONE, account.ticks, book.ticks)
    require(shadow, Statement.D5, account.reports == book.reports, NONE, account.reports, book.reports)
    require(shadow, Statement.D5, account.commands == book.commands, NONE, account.commands, book.commands)
    require(shadow, Statement.D3, account.time_ns >= book.time_ns, NONE, account.time_ns, book.time_ns)


# --- O10, O11, D1, D4: what left


@routine
def check_outputs(shadow, state, out):
    """One sequence over orders, decisions and alerts; for every order and cancel one decision of its own."""
    book = shadow.book[0]
    order, decision, alert = shadow.first[ORDERS], shadow.first[DECISIONS], shadow.first[ALERTS]
    for sequence in range(book.sequence, state.account[0].sequence):
        if order < out.counts[ORDERS] and out.orders[order].sequence == sequence:
            order += 1
        elif decision < out.counts[DECISIONS] and out.decisions[decision].sequence == sequence:
            decision += 1
        elif alert < out.counts[ALERTS] and out.alerts[alert].sequence == sequence:
            alert += 1
        else:
            require(shadow, Statement.D4, False, NONE, sequence, state.account[0].sequence)
    left = out.counts[ORDERS] + out.counts[DECISIONS] + out.counts[ALERTS] - order - decision - alert
    ask(shadow, Statement.D4, left == 0, NONE, left, 0)
    for row in range(shadow.first[EXECUTIONS], out.counts[EXECUTIONS]):
        number = book.execution_number + row - shadow.first[EXECUTIONS]
        require(
            shadow,
            Statement.D4,
            out.executions[row].number == number,
            NONE,
            out.executions[row].number,
            number,
        )

    decision = shadow.first[DECISIONS]
    for row in range(shadow.first[ORDERS], out.counts[ORDERS]):
        request = out.orders[row]
        if request.kind == OrderKind.QUERY:
            continue
        decision = next_approval(shadow, out, decision)
        if decision == out.counts[DECISIONS]:
            ask(shadow, Statement.D1, False, request.instrument, request.decision, decision)
            return
        check_decision(shadow, out.decisions[decision], request)
        decision += 1
    decision = next_approval(shadow, out, decision)
    ask(shadow, Statement.D1, decision == out.counts[DECISIONS], NONE, decision, out.counts[DECISIONS])


@kernel
def next_approval(shadow, out, row):
    """The next decision that lets an order leave. Those on the way refuse increases alone."""
    while row < out.counts[DECISIONS]:
        decision = out.decisions[row]
        if decision.outcome == Outcome.APPROVED or decision.outcome == Outcome.REDUCED:
            return row
        if decision.outcome == Outcome.REFUSED:
            increase = decision.target > decision.position
            ask(shadow, Statement.O11, increase, decision.instrument, decision.target, decision.position)
        row += 1
    return row


@kernel
def check_decision(shadow, decision, request):
    """An order says what its decision says."""
    i = request.instrument
    same = (
        decision.sequence == request.decision
        and decision.sequence < request.sequence
        and decision.instrument == i
    )
    ask(shadow, Statement.O10, same, i, decision.sequence, request.decision)
    if request.kind == OrderKind.CANCEL:
        return
    wanted = abs(decision.approved - decision.position)
    if request.intent == Intent.ENTRY:
        ask(shadow, Statement.O10, request.quantity == wanted, i, request.quantity, wanted)
    else:
        ask(shadow, Statement.O10, request.quantity <= wanted, i, request.quantity, wanted)


@routine
def check_may_open(shadow, state, rules, request):
    """Nothing opens what a level, a breaker or something not understood forbids."""
    if request.kind != OrderKind.NEW or request.intent != Intent.ENTRY:
        return
    account = state.account[0]
    i = request.instrument
    ask(shadow, Statement.O12, account.level == HaltLevel.ACTIVE, i, account.level, HaltLevel.ACTIVE)
    ask(shadow, Statement.KILL, account.flattening == 0, i, account.flattening, 0)
    ask(shadow, Statement.HOLD, not blocks_entries(shadow, i), i, request.order_ns, request.quantity)
    check_open_switch(shadow, state, Breaker.DAILY_LOSS, request, True)
    check_open_switch(shadow, state, Breaker.RAPID_LOSS, request, True)
    if request.strategy >= 0:
        s = request.strategy
        losses = strategy_breaker(Breaker.CONSECUTIVE_LOSSES, s)
        check_open_switch(shadow, state, losses, request, True)
        check_open_switch(shadow, state, strategy_breaker(Breaker.STRATEGY_LOSS, s), request, True)
        check_open_switch(shadow, state, strategy_breaker(Breaker.UNUSUAL_TRADING, s), request, False)
        for h in range(rules.instruments[i].first_holding, rules.instruments[i].last_holding):
            if rules.holdings[h].strategy == s:
                check_open_switch(shadow, state, opening_breaker(rules, h), request, False)


@kernel
def check_open_switch(shadow, state, place, request, at_once):
    """No entry under a tripped breaker; some breakers trip by the entry itself."""
    switch = state.breakers[place]
    tripped = switch.tripped == 1 and (at_once or switch.tripped_ns < request.time_ns)
    require(shadow, Statement.O13, not tripped, request.instrument, place, switch.tripped_ns)


@kernel
def check_alerts(shadow):
    """What the reports alone say must be alerted, as often as it happened."""
    if shadow.book[0].strange == 1:
        return
    for kind in PLAIN_ALERTS:
        statement = Statement.O5 if kind == AlertKind.LATE_FILL else Statement.O4
        made, expected = shadow.made[kind], shadow.expected[kind]
        if made + expected > 0:
            ask(shadow, statement, made == expected, BELOW - kind, made, expected)


# --- O2, O9: the ledger


@routine
def check_ledger(shadow, state, rules):
    """Cash and positions are what the executions say, and each entry sums to zero."""
    book = shadow.book[0]
    account = state.account[0]
    require(shadow, Statement.O2, account.cash == book.cash, NONE, account.cash, book.cash)
    total_book, realised, fees = 0, 0, 0
    for i in range(len(shadow.lines)):
        position = state.positions[i]
        require(
            shadow,
            Statement.O2,
            position.quantity == shadow.lines[i].quantity,
            i,
            position.quantity,
            shadow.lines[i].quantity,
        )
        quantity, cost = 0, 0
        for h in range(rules.instruments[i].first_holding, rules.instruments[i].last_holding):
            quantity += state.holdings[h].quantity
            cost += state.holdings[h].book
            realised += state.holdings[h].realised
            fees += state.holdings[h].fees
        require(shadow, Statement.O9, quantity == position.quantity, i, quantity, position.quantity)
        require(shadow, Statement.O9, cost == position.book, i, cost, position.book)
        total_book += cost
    sum_ = account.cash + total_book - account.realised + account.fees
    ask(shadow, Statement.O9, sum_ == book.initial_cash, NONE, sum_, book.initial_cash)
    require(shadow, Statement.O9, realised == account.realised, NONE, realised, account.realised)
    require(shadow, Statement.O9, fees + book.charges == account.fees, NONE, fees, account.fees)


# --- P1


@kernel
def check_cash(shadow):
    book = shadow.book[0]
    reserved = 0
    for i in range(len(shadow.lines)):
        line = shadow.lines[i]
        reserved += line.owed_cost
        if line.last_order != NONE:
            order = shadow.orders[line.last_order]
            if order.ended == LIVE and order.side == Side.BUY and order.limit_price > 0:
                reserved += (order.quantity - order.cumulative) * worst_price(book, order.limit_price)
    holds = book.cash >= 0 and book.cash >= reserved
    if holds:
        book.cash_excused = 0
    if reserved > 0:
        ask(shadow, Statement.P1, holds or book.cash_excused == 1, NONE, book.cash, reserved)
    else:
        require(shadow, Statement.P1, holds or book.cash_excused == 1, NONE, book.cash, reserved)


# --- one instrument


@kernel
def exposure(shadow, i):
    """Lots held, still to come of open buys, and told of and not here yet. What covers a short is none."""
    line = shadow.lines[i]
    lots = line.quantity + line.owed_buy
    if line.last_order != NONE:
        order = shadow.orders[line.last_order]
        if order.ended == LIVE and order.side == Side.BUY:
            lots += max(order.quantity - order.cumulative, 0)
    return max(lots, 0)


@routine
def check_line(shadow, state, rules, i, decided):
    line = shadow.lines[i]
    check_short(shadow, i)
    if line.last_order == NONE:
        return
    order = shadow.orders[line.last_order]
    kept = state.orders[i]
    named = kept.order_ns == order.order_ns and kept.attempt == order.attempt and kept.intent == order.intent
    require(shadow, Statement.O6, named, i, kept.order_ns, order.order_ns)
    require(shadow, Statement.O3, kept.cumulative == order.cumulative, i, kept.cumulative, order.cumulative)
    if line.touched == 1:
        within = order.cumulative >= 0 and (order.cumulative <= order.quantity or order.over == 1)
        ask(shadow, Statement.O3, within, i, order.cumulative, order.quantity)
    if shadow.states[i] >= OrderState.FILLED and line.ordered == 0 and line.touched == 1:
        ask(shadow, Statement.O5, kept.state == shadow.states[i], i, kept.state, shadow.states[i])
    if order.unknown == 1:
        ask(shadow, Statement.O7, line.ordered == 0, i, line.ordered, 0)
    if shadow.book[0].strange == 0:
        over = kept.state >= OrderState.FILLED
        require(shadow, Statement.O8, over == (order.ended != LIVE), i, kept.state, order.ended)
    if decided:
        check_answer(shadow, rules, i, order)
    check_exit(shadow, state, rules, i, order, decided)


@kernel
def check_families(shadow, rules):
    """P2: the two sides of each family."""
    for f in range(len(rules.families)):
        conflict = False
        for i in range(len(shadow.lines)):
            me = rules.instruments[i]
            if me.family == f and me.side > 0:
                for m in range(me.first_member, me.last_member):
                    if rules.instruments[rules.members[m]].side < 0:
                        conflict |= check_sides(shadow, i, rules.members[m])
        if not conflict:
            for i in range(len(shadow.lines)):
                if rules.instruments[i].family == f:
                    shadow.lines[i].side_excused = 0


@kernel
def check_sides(shadow, bull, bear):
    """Are both held, or could they be?"""
    first, second = exposure(shadow, bull), exposure(shadow, bear)
    if first + second == 0:
        return False
    excused = shadow.lines[bull].side_excused + shadow.lines[bear].side_excused > 0
    alone = first == 0 or second == 0
    ask(shadow, Statement.P2, alone or excused, bull, first, second)
    return not alone


@kernel
def check_short(shadow, i):
    """P5: what open sells and announced sales leave; O1: an exit within the position."""
    line = shadow.lines[i]
    open_sells = 0
    if line.last_order != NONE:
        order = shadow.orders[line.last_order]
        if order.ended == LIVE and order.side == Side.SELL:
            open_sells = max(order.quantity - order.cumulative, 0)
    left = line.quantity - open_sells - line.owed_sell
    if left >= 0:
        line.short_excused = 0
    if open_sells > 0:
        ask(
            shadow,
            Statement.O1,
            open_sells <= line.quantity or line.short_excused == 1,
            i,
            open_sells,
            line.quantity,
        )
    if line.quantity != 0 or open_sells > 0:
        ask(
            shadow,
            Statement.P5,
            left >= 0 or line.short_excused == 1,
            i,
            line.quantity,
            open_sells + line.owed_sell,
        )


@kernel
def check_answer(shadow, rules, i, order):
    """O8: an answer that is late has alerted."""
    if order.ended != LIVE:
        return
    limits = rules.limits[0]
    now = shadow.book[0].time_ns
    if order.asked_ns > 0 and now - order.asked_ns > limits.answer_ns:
        ask(shadow, Statement.O8, order.alerted == 1, i, now - order.asked_ns, limits.answer_ns)
    if order.expires_ns > 0 and now - order.expires_ns > limits.answer_ns:
        ask(shadow, Statement.O8, order.ever_alerted == 1, i, now - order.expires_ns, limits.answer_ns)


@routine
def check_exit(shadow, state, rules, i, order, decided):
    """O11 and KILL: what must be sold is being sold, and no entry stays open beside it."""
    book = shadow.book[0]
    line = shadow.lines[i]
    limits = rules.limits[0]
    account = state.account[0]
    if not decided or book.calendar == len(rules.session_close_ns) or book.strange == 1:
        return
    left_ns = rules.session_close_ns[book.calendar] - book.time_ns
    flatten = account.level == HaltLevel.KILLED or account.flattening == 1
    statement = Statement.KILL if flatten else Statement.O11
    if order.ended == LIVE and order.intent == Intent.ENTRY:
        if flatten or left_ns <= limits.cancel_entries_ns:
            ask(shadow, statement, order.cancel == 1, i, order.order_ns, order.cancel)
        return
    if line.quantity == 0 or order.ended == LIVE or not (flatten or left_ns <= limits.exits_begin_ns):
        return
    forced = flatten or left_ns <= limits.force_ns
    wait_ns = state.positions[i].retry_ns - book.time_ns
    waits = not forced and 0 < wait_ns <= DOUBLINGS * limits.retry_ns
    announced = line.owed_sell >= line.quantity if line.quantity > 0 else line.owed_buy >= -line.quantity
    ask(shadow, statement, waits or announced, i, line.quantity, wait_ns)


# --- O12, O13


@kernel
def check_level(shadow, state):
    """Levels go up by themselves and say so; down by a resume alone."""
    book = shadow.book[0]
    account = state.account[0]
    level = account.level
    require(shadow, Statement.O12, 0 <= level <= HaltLevel.KILLED, NONE, level, HaltLevel.KILLED)
    require(shadow, Statement.O12, level >= book.least_level, NONE, level, book.least_level)
    require(
        shadow,
        Statement.O12,
        account.command_id == book.command_id,
        NONE,
        account.command_id,
        book.command_id,
    )
    if level != book.level or book.resumed == 1:
        book.level_changes += 1
        said = shadow.made[AlertKind.HALT_LEVEL] > 0
        ask(shadow, Statement.O12, said, NONE, level, book.level)
    if level < book.level:
        ask(shadow, Statement.O12, book.resumed == 1, NONE, level, book.level)
    if book.killed == 1:
        ask(shadow, Statement.KILL, level == HaltLevel.KILLED, NONE, level, HaltLevel.KILLED)


@routine
def check_breakers(shadow, state, rules):
    """A tripped breaker stays tripped, with its time, until its rule or an operator releases it; each change
    makes an alert.
    """
    trips, releases = 0, 0
    for k in range(len(shadow.breakers)):
        before = shadow.breakers[k]
        switch = state.breakers[k]
        trips += switch.trips - before.trips
        releases += before.tripped + switch.trips - before.trips - switch.tripped
        if before.tripped == 0:
            continue
        if switch.tripped == 1 and switch.trips == before.trips:
            kept = switch.until_ns == before.until_ns and switch.tripped_ns == before.tripped_ns
            ask(shadow, Statement.O13, kept, BELOW - k, switch.until_ns, before.until_ns)
        else:
            allowed = may_release(shadow, state, rules, k, before)
            ask(shadow, Statement.O13, allowed, BELOW - k, shadow.book[0].time_ns, before.until_ns)
    made = shadow.made[AlertKind.BREAKER_TRIPPED]
    require(shadow, Statement.O13, made == trips, NONE, made, trips)
    made = shadow.made[AlertKind.BREAKER_RELEASED]
    require(shadow, Statement.O13, made == releases, NONE, made, releases)


@kernel
def may_release(shadow, state, rules, k, before):
    """Has the rule of the breaker at `k`, or an operator, released it?"""
    book = shadow.book[0]
    account = state.account[0]
    limits = state.limits[0]
    new_session = account.session != book.session
    if book.released == 1:
        return True
    if k == Breaker.DAILY_LOSS:
        return new_session and limits.daily_loss_next_session == 1
    if k == Breaker.DRAWDOWN:
        fall = account.drawdown_peak - account.equity
        peak = account.drawdown_peak
        return (
            fall <= peak // MICRO * limits.drawdown_release + peak % MICRO * limits.drawdown_release // MICRO
        )
    if k >= exit_breaker(rules, 0):
        if k < opening_breaker(rules, 0):
            return shadow.lines[k - exit_breaker(rules, 0)].was_flat == 1
        return new_session and limits.release_next_session == 1
    for s in range(len(shadow.blocks)):
        if k == strategy_breaker(Breaker.UNUSUAL_TRADING, s):
            return state.strategies[s].blocks != shadow.blocks[s]
    return 0 < before.until_ns <= book.time_ns


# --- P3: the end of the day


@kernel
def see_bar(shadow, rules, i, now, lots):
    """A minute ends in which the venue could fill `lots` of instrument `i`."""
    book = shadow.book[0]
    if book.calendar == len(rules.session_close_ns):
        return
    close_ns = rules.session_close_ns[book.calendar]
    limits = rules.limits[0]
    if close_ns - limits.exits_begin_ns < now <= close_ns - limits.flat_by_ns:
        shadow.lines[i].fillable = min(shadow.lines[i].fillable, lots)


@routine
def check_end(shadow, rules):
    """Flat in time, and at the close."""
    book = shadow.book[0]
    if book.calendar == len(rules.session_close_ns):
        return
    limits = rules.limits[0]
    close_ns = rules.session_close_ns[book.calendar]
    if book.time_ns >= close_ns - limits.exits_begin_ns and book.time_ns < close_ns - limits.flat_by_ns:
        for i in range(len(shadow.lines)):
            line = shadow.lines[i]
            line.held = max(line.held, exposure(shadow, i))
    if book.time_ns >= close_ns - limits.flat_by_ns and book.flat_judged != book.calendar:
        book.flat_judged = book.calendar
        judge_flat(shadow, Statement.FLAT_BY)
    if book.time_ns == close_ns:
        judge_close(shadow, rules)


@kernel
def judge_close(shadow, rules):
    book = shadow.book[0]
    if book.close_judged != book.calendar:
        book.close_judged = book.calendar
        judge_flat(shadow, Statement.P3)


@routine
def judge_flat(shadow, statement):
    """Ask it of every instrument that the market let out."""
    book = shadow.book[0]
    if book.faultless == 0 or book.quiet_ns > MINUTE_NS:
        return
    for i in range(len(shadow.lines)):
        line = shadow.lines[i]
        if line.held == 0 or line.fillable < line.held:
            continue
        live = line.last_order != NONE and shadow.orders[line.last_order].ended == LIVE
        ask(shadow, statement, line.quantity == 0 and not live, i, line.quantity, live)
