"""The paper venue: a pure machine of its own. Requests, bars and the closes of sessions go in, reports come
out; of an account it knows nothing but its orders. After the events of one time the caller takes all reports
that are due.

An order fills at the open of a bar of its instrument that opened when the venue had it or later: half the
spread and the slippage worse than that open, never beyond its limit, and all orders together never more than
`participation` of the bar's volume; the rest waits for the next bar. A bar without volume fills nothing.
Prices in millionths; all roundings are against the trader. The venue lends: a buy may take cash below zero, a
sale holdings.

| request | answer |
|---|---|
| NEW | ACCEPTED, then a FILL for each bar that fills some of it; at last EXPIRED, if some is left |
| NEW, id known | where that order stands; REJECTED if it says something else. It never trades twice |
| NEW that means nothing, or when all slots of the instrument are live | REJECTED |
| CANCEL | CANCELLED, before the next bar; CANCEL_REFUSED where the order has ended |
| QUERY | its fills and busts again, with their ids; then where it stands, unless its fills say it is done |
| CANCEL or QUERY, id unknown | ABSENT |

At the close orders expire, and the venue states its cash, and what it holds of every instrument that is held
or was ordered.

Faults on purpose (`schemas.config.Faults`) come from a generator in the state; what has no probability draws
nothing from it. Statements are never faulty.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.compiled import kernel, routine
from schemas.codes import ExecutionKind, OrderKind, OrderState, Side
from schemas.config import NS, Config, Faults, micro
from schemas.records import MAX_MICRO, MICRO, Report, dtype_of

SLOTS = 4  # orders of an instrument the venue remembers
FILLS = 512  # fills and busts it remembers
BACKLOG = 256  # reports that may wait for their time
MAX_LOTS = 1_000_000_000  # of an order
MAX_CASH = MAX_MICRO // 2  # in millionths: what the books and any fill stay below, so that no sum overflows
FACTOR, MODULUS = 48_271, 2**31 - 1  # of the generator: each number is the one before it times the factor


def _fields(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, "<i8") for name in names])


REPORT = dtype_of(Report)
# What is added to a report comes first: behind it, numba would take these for reports.
FILL = np.dtype([("doomed", "<i8"), *REPORT.descr])  # 1: it will be undone
WAITING = np.dtype([("due_ns", "<i8"), *REPORT.descr])
BOOK = _fields(
    "cash",
    "execution_id",  # of the next fill or bust
    "random",
    "head",  # place of the first report that waits
    "waiting",  # reports that wait, from there on
    "statement",  # instrument whose statement comes next; behind the last is cash, then none
    "close_ns",  # of the session the statements are about
    "ignored",  # requests for no instrument, or of no kind
    "overflow",  # reports without room: the caller does not take them
)
ORDER = _fields(
    "state",  # PENDING_CANCEL: cancelled, it says, and yet the next bar fills it
    "instrument",
    "order_ns",
    "intent",
    "attempt",
    "side",
    "quantity",
    "cumulative",
    "limit_price",
    "expires_ns",
    "received_ns",
)
HOLDING = _fields(
    "quantity",
    "live",  # orders that could still fill
    "doomed",  # fills that will be undone
    "ordered",  # 1: something was ordered this session
    "bar_ns",  # end of the last bar that traded
    "forgotten_ns",  # the newest order that is no longer remembered: its time and attempt
    "forgotten_attempt",
)
TERMS = _fields(
    "interval_ns", "half_spread", "slippage", "commission_per_unit", "commission_share", "participation"
)
FAULTS = _fields(
    "reject",
    "partial",
    "delay",
    "delay_ns",
    "lose",
    "duplicate",
    "fill_after_cancel",
    "unknown",
    "vanish",
    "bust",
)
"""Probabilities in millionths, beside the longest delay."""

Records = NDArray[Any]


class Venue(NamedTuple):
    """`words` is the whole state as (n,) int64; the others are views of it."""

    words: NDArray[np.int64]
    book: Records
    orders: Records  # SLOTS an instrument, in order of arrival
    holdings: Records  # one an instrument
    fills: Records  # a ring: execution `id` at `id % FILLS`
    queue: Records  # a ring in the order in which reports are due
    draft: Records  # the report that is being written


class VenueRules(NamedTuple):
    """What the configuration says. Nothing in it changes during a run."""

    terms: Records
    faults: Records


def _layout(instruments: int) -> tuple[tuple[np.dtype[Any], int], ...]:
    """Beyond the backlog the queue has room for all that can happen at one time: every remembered fill again,
    and a fill and the end of every order.
    """
    return (
        (BOOK, 1),
        (ORDER, SLOTS * instruments),
        (HOLDING, instruments),
        (FILL, FILLS),
        (WAITING, BACKLOG + FILLS + 2 * SLOTS * (instruments + 1)),
        (FILL, 1),
    )


def venue_words(instruments: int) -> int:
    """Elements of the venue's int64 vector."""
    return sum(dtype.itemsize // 8 * rows for dtype, rows in _layout(instruments))


def venue_of(words: NDArray[np.int64], instruments: int) -> Venue:
    """The venue held in `words`, which must have `venue_words(instruments)` elements."""
    if len(words) != venue_words(instruments):
        raise ValueError(
            f"a venue of {len(words)} words does not fit {instruments} instruments, "
            f"which need {venue_words(instruments)}"
        )
    views: list[Any] = []
    start = 0
    for dtype, rows in _layout(instruments):
        end = start + dtype.itemsize // 8 * rows
        views.append(words[start:end].view(dtype).view(np.recarray))
        start = end
    return Venue(words, *views)


def new_venue(config: Config) -> Venue:
    """The venue before its first event: it holds the account's cash and nothing else."""
    instruments = len(config.instruments)
    venue = venue_of(np.zeros(venue_words(instruments), np.int64), instruments)
    seed = config.venue.faults.seed if config.venue.faults else 0
    book = venue.book[0]
    book.cash = micro(config.account.cash)
    book.execution_id = 1
    book.random = pow(FACTOR, 8, MODULUS) * (seed % (MODULUS - 1) + 1) % MODULUS  # small seeds soon differ
    book.statement = instruments + 1
    venue.holdings["forgotten_ns"] = -1
    return venue


def venue_rules(config: Config) -> VenueRules:
    """The configuration as the arrays that the venue's kernels read; without `venue.faults` it has none."""
    rules = VenueRules(np.zeros(1, TERMS).view(np.recarray), np.zeros(1, FAULTS).view(np.recarray))
    terms = rules.terms[0]
    terms.interval_ns = config.interval_ns
    assert TERMS.names is not None
    for name in TERMS.names[1:]:
        setattr(terms, name, micro(getattr(config.venue, name)))
    if config.venue.faults is not None:
        _set_faults(rules.faults[0], config.venue.faults)
    return rules


def _set_faults(row: Any, faults: Faults) -> None:
    assert FAULTS.names is not None
    for name in FAULTS.names:
        if name == "delay_ns":
            row.delay_ns = faults.delay_seconds * NS
        else:
            setattr(row, name, micro(getattr(faults, name)))


# --- prices


@kernel
def fill_price(side, price, terms):
    """`price` worsened by half the spread and the slippage."""
    worse = -(-price * (terms.half_spread + terms.slippage) // MICRO)
    if side == Side.BUY:
        return max(price + worse, 1)
    return max(price - worse, 1)


@kernel
def fee_per_unit(price, terms):
    """Commission on one unit at `price`."""
    return terms.commission_per_unit - (-price * terms.commission_share // MICRO)


# --- events


@routine
def receive(venue, rules, order, now):
    """A request, a row of dtype Order, reaches the venue at `now`."""
    book = venue.book[0]
    faults = rules.faults[0]
    known_kind = OrderKind.NEW <= order.kind <= OrderKind.QUERY
    if not known_kind or order.instrument < 0 or order.instrument >= len(venue.holdings):
        book.ignored += 1
        return
    if order.kind == OrderKind.QUERY:
        query(venue, rules, order, now)
        return
    if order.kind == OrderKind.NEW and chance(book, faults.vanish):
        return
    lost = chance(book, faults.unknown)
    kind, cumulative = ExecutionKind.LOST, 0
    if not lost or heads(book):
        if order.kind == OrderKind.NEW:
            kind, cumulative = take(venue, rules, order, now)
        else:
            kind, cumulative = cancel(venue, rules, order)
    if lost:
        kind, cumulative = ExecutionKind.LOST, 0
    tell(venue, rules, order, kind, cumulative, now, now)


@kernel
def concerns(venue, instrument):
    """Could a bar of this instrument change anything?"""
    holding = venue.holdings[instrument]
    return holding.live > 0 or holding.doomed > 0


@kernel
def has_news(venue):
    """Does a report wait?"""
    return venue.book[0].waiting > 0


@routine
def trade(venue, rules, instrument, time_ns, open_price, volume):
    """A good bar of `instrument` ends at `time_ns`: it fills orders, lets them expire, may undo an earlier
    fill.
    """
    holding = venue.holdings[instrument]
    if time_ns <= holding.bar_ns:
        return  # the same bar again
    holding.bar_ns = time_ns
    terms = rules.terms[0]
    opened_ns = time_ns - terms.interval_ns
    if holding.doomed > 0:
        undo_one(venue, rules, instrument, opened_ns, time_ns)
    if holding.live == 0:
        return
    left = volume * terms.participation // MICRO
    for k in range(SLOTS * instrument, SLOTS * (instrument + 1)):
        order = venue.orders[k]
        if is_live(order) and opened_ns >= order.received_ns:
            if order.expires_ns == 0 or opened_ns < order.expires_ns:
                left -= fill(venue, rules, order, opened_ns, time_ns, open_price, left)
            if order.state == OrderState.PENDING_CANCEL:
                end(venue, order, OrderState.CANCELLED)
        if order.state == OrderState.WORKING and 0 < order.expires_ns <= time_ns:
            end(venue, order, OrderState.EXPIRED)
            tell(venue, rules, order, ExecutionKind.EXPIRED, order.cumulative, opened_ns, time_ns)


@routine
def end_session(venue, rules, close_ns):
    """The close: day orders expire, and the statements come next."""
    book = venue.book[0]
    doomed = 0
    for i in range(len(venue.holdings)):
        holding = venue.holdings[i]
        doomed += holding.doomed
        holding.doomed = 0
        if holding.live > 0:
            expire_all(venue, rules, i, close_ns)
    if doomed > 0:
        for k in range(FILLS):
            venue.fills[k].doomed = 0
    book.statement = 0
    book.close_ns = close_ns


@kernel
def expire_all(venue, rules, instrument, close_ns):
    for k in range(SLOTS * instrument, SLOTS * (instrument + 1)):
        order = venue.orders[k]
        if order.state == OrderState.PENDING_CANCEL:
            end(venue, order, OrderState.CANCELLED)
        elif order.state == OrderState.WORKING:
            end(venue, order, OrderState.EXPIRED)
            tell(venue, rules, order, ExecutionKind.EXPIRED, order.cumulative, close_ns, close_ns)


@kernel
def next_report(venue, rules, now, report):  # noqa: ARG001 - every event has this form
    """Move the earliest report that is due at `now` into `report`, a row of dtype Report; those of one time
    come in the order in which they were made, statements last. False: none is due. Where more wait than the
    backlog holds, the earliest is due at once.
    """
    book = venue.book[0]
    if book.waiting > 0:
        first = venue.queue[book.head]
        if first.due_ns <= now or book.waiting > BACKLOG:
            copy_report(report, first)
            book.head = after(venue, book.head)
            book.waiting -= 1
            return True
    if book.statement > len(venue.holdings) or book.close_ns > now:
        return False
    return state_next(venue, report)


@routine
def take_reports(venue, rules, now, room):
    """Move what is due into `room`, rows of dtype Report; returns how many."""
    n = 0
    while n < len(room) and next_report(venue, rules, now, room[n]):
        n += 1
    return n


# --- requests


@routine
def take(venue, rules, order, now):
    """(answer, cumulative) to a NEW."""
    known = find(venue, order)
    if known >= 0:
        mine = venue.orders[known]
        if is_same(mine, order):
            return standing(mine), mine.cumulative
        return ExecutionKind.REJECTED, mine.cumulative
    holding = venue.holdings[order.instrument]
    holding.ordered = 1
    if is_forgotten(holding, order):
        return ExecutionKind.REJECTED, 0
    if holding.live == SLOTS:
        forget(holding, order)
        return ExecutionKind.REJECTED, 0
    mine = venue.orders[make_room(venue, order.instrument)]
    mine.instrument = order.instrument
    mine.order_ns = order.order_ns
    mine.intent = order.intent
    mine.attempt = order.attempt
    mine.side = order.side
    mine.quantity = order.quantity
    mine.cumulative = 0
    mine.limit_price = order.limit_price
    mine.expires_ns = order.expires_ns
    mine.received_ns = now
    if not is_possible(order) or chance(venue.book[0], rules.faults[0].reject):
        mine.state = OrderState.REJECTED
        return ExecutionKind.REJECTED, 0
    mine.state = OrderState.WORKING
    holding.live += 1
    return ExecutionKind.ACCEPTED, 0


@routine
def cancel(venue, rules, order):
    """(answer, cumulative) to a CANCEL."""
    known = find(venue, order)
    if known < 0:
        return ExecutionKind.ABSENT, 0
    mine = venue.orders[known]
    if mine.state != OrderState.WORKING:
        return ExecutionKind.CANCEL_REFUSED, mine.cumulative
    if chance(venue.book[0], rules.faults[0].fill_after_cancel):
        mine.state = OrderState.PENDING_CANCEL
    else:
        end(venue, mine, OrderState.CANCELLED)
    return ExecutionKind.CANCELLED, mine.cumulative


@routine
def query(venue, rules, order, now):
    """Tell all that is remembered of an order. One that is done, and whose fills are all forgotten, is still
    told with its cumulative: a query never stays without an answer.
    """
    book = venue.book[0]
    told = 0
    for execution_id in range(max(book.execution_id - FILLS, 1), book.execution_id):
        execution = venue.fills[execution_id % FILLS]
        if is_named(execution, order):
            deliver(venue, rules, execution, now)
            told += 1
    kind, cumulative = ExecutionKind.ABSENT, 0
    known = find(venue, order)
    if known >= 0:
        mine = venue.orders[known]
        kind, cumulative = standing(mine), mine.cumulative
        done = mine.state == OrderState.FILLED and mine.cumulative == mine.quantity
    else:
        done = True  # and forgotten
    if told == 0 or not done:
        tell(venue, rules, order, kind, cumulative, now, now)


# --- orders


@kernel
def is_live(order):
    """Could this order still fill?"""
    return order.state == OrderState.WORKING or order.state == OrderState.PENDING_CANCEL


@kernel
def is_named(row, order):
    """Is `row` this order, or an execution of it?"""
    return (
        row.order_ns == order.order_ns
        and row.attempt == order.attempt
        and row.intent == order.intent
        and row.instrument == order.instrument
    )


@kernel
def is_same(mine, order):
    return (
        mine.side == order.side
        and mine.quantity == order.quantity
        and mine.limit_price == order.limit_price
        and mine.expires_ns == order.expires_ns
    )


@kernel
def is_possible(order):
    return (
        0 < order.quantity <= MAX_LOTS
        and order.limit_price >= 0
        and (order.side == Side.BUY or order.side == Side.SELL)
    )


@kernel
def standing(mine):
    """The report that says where an order stands."""
    if mine.state == OrderState.REJECTED:
        return ExecutionKind.REJECTED
    if mine.state == OrderState.EXPIRED:
        return ExecutionKind.EXPIRED
    if mine.state == OrderState.CANCELLED or mine.state == OrderState.PENDING_CANCEL:
        return ExecutionKind.CANCELLED
    if mine.state == OrderState.FILLED and mine.cumulative < mine.quantity:
        return ExecutionKind.CANCELLED  # done, and a bust has undone some of it
    return ExecutionKind.ACCEPTED


@kernel
def find(venue, order):
    """Place in `orders` of the order that `order` names, -1 where it is not there."""
    for k in range(SLOTS * order.instrument, SLOTS * (order.instrument + 1)):
        if venue.orders[k].state != OrderState.NONE and is_named(venue.orders[k], order):
            return k
    return -1


@kernel
def make_room(venue, instrument):
    """The last slot of `instrument`, free because the oldest order that is not live is forgotten; there must
    be one. Those after it move up, so the slots stay in order of arrival.
    """
    last = SLOTS * (instrument + 1) - 1
    k = SLOTS * instrument
    while is_live(venue.orders[k]):
        k += 1
    if venue.orders[k].state != OrderState.NONE:
        forget(venue.holdings[instrument], venue.orders[k])
    while k < last:
        venue.orders[k] = venue.orders[k + 1]
        k += 1
    return last


@kernel
def is_forgotten(holding, order):
    """Could this order be one that is no longer remembered? Ids of an instrument rise with time and attempt,
    so nothing at or before the newest forgotten one is taken: it could trade twice.
    """
    return order.order_ns < holding.forgotten_ns or (
        order.order_ns == holding.forgotten_ns and order.attempt <= holding.forgotten_attempt
    )


@kernel
def forget(holding, order):
    if not is_forgotten(holding, order):
        holding.forgotten_ns = order.order_ns
        holding.forgotten_attempt = order.attempt


@kernel
def end(venue, order, state):
    """A live order ends in `state`."""
    order.state = state
    venue.holdings[order.instrument].live -= 1


# --- executions


@kernel
def fill(venue, rules, order, opened_ns, time_ns, open_price, most):
    """Fill up to `most` of a live order at the open of a bar; returns the quantity."""
    book = venue.book[0]
    terms = rules.terms[0]
    faults = rules.faults[0]
    price = fill_price(order.side, open_price, terms)
    if order.limit_price > 0:
        if order.side == Side.BUY and price > order.limit_price:
            return 0
        if order.side == Side.SELL and price < order.limit_price:
            return 0
    fee = fee_per_unit(price, terms)
    quantity = min(most, order.quantity - order.cumulative, (MAX_CASH - abs(book.cash)) // (price + fee))
    if quantity <= 0:
        return 0
    if quantity > 1 and chance(book, faults.partial):
        quantity = draw(book) % (quantity - 1) + 1
    holding = venue.holdings[order.instrument]
    settle(book, holding, order.side, quantity, price, quantity * fee)
    order.cumulative += quantity
    if order.cumulative == order.quantity:
        end(venue, order, OrderState.FILLED)

    row = venue.fills[next_execution(venue)]
    row.kind = ExecutionKind.FILL
    row.time_ns = opened_ns
    row.reference_id = 0
    row.instrument = order.instrument
    row.order_ns = order.order_ns
    row.intent = order.intent
    row.attempt = order.attempt
    row.side = order.side
    row.quantity = quantity
    row.price = price
    row.reference_price = open_price
    row.fee = quantity * fee
    row.cumulative = order.cumulative
    if chance(book, faults.bust):
        row.doomed = 1
        holding.doomed += 1
    deliver(venue, rules, row, time_ns)
    return quantity


@kernel
def settle(book, holding, side, quantity, price, fee):
    """Move the books by a fill; by a bust, where quantity and fee are negative."""
    signed = quantity if side == Side.BUY else -quantity
    book.cash -= signed * price + fee
    holding.quantity += signed


@kernel
def next_execution(venue):
    """The place in `fills` of the next execution, with its id; the oldest there is overwritten."""
    book = venue.book[0]
    k = book.execution_id % FILLS
    row = venue.fills[k]
    if row.doomed == 1:
        venue.holdings[row.instrument].doomed -= 1
        row.doomed = 0
    row.execution_id = book.execution_id
    book.execution_id += 1
    return k


@kernel
def undo_one(venue, rules, instrument, opened_ns, time_ns):
    """Each doomed fill of `instrument` is undone with even chances; one a bar at most."""
    book = venue.book[0]
    for execution_id in range(max(book.execution_id - FILLS, 1), book.execution_id):
        row = venue.fills[execution_id % FILLS]
        if row.doomed == 1 and row.instrument == instrument and heads(book):
            row.doomed = 0
            venue.holdings[instrument].doomed -= 1
            known = find(venue, row)
            if known >= 0 and abs(book.cash) + row.quantity * row.price < MAX_CASH:
                undo(venue, rules, row, venue.orders[known], opened_ns, time_ns)
            return


@kernel
def undo(venue, rules, row, order, opened_ns, time_ns):
    """Bust the fill `row` of `order`."""
    settle(venue.book[0], venue.holdings[order.instrument], row.side, -row.quantity, row.price, -row.fee)
    order.cumulative -= row.quantity
    reference_id = row.execution_id
    bust = venue.fills[next_execution(venue)]
    execution_id = bust.execution_id
    copy_report(bust, row)
    bust.kind = ExecutionKind.BUST
    bust.time_ns = opened_ns
    bust.execution_id = execution_id
    bust.reference_id = reference_id
    bust.cumulative = order.cumulative
    deliver(venue, rules, bust, time_ns)


# --- reports


@kernel
def tell(venue, rules, order, kind, cumulative, time_ns, due_ns):
    """Report that `order` has come to `kind`."""
    draft = venue.draft[0]
    write_plain(draft, kind, time_ns, order.instrument)
    draft.order_ns = order.order_ns
    draft.intent = order.intent
    draft.attempt = order.attempt
    draft.side = order.side
    draft.cumulative = cumulative
    deliver(venue, rules, draft, due_ns)


@kernel
def state_next(venue, report):
    """The next statement: a position, at last cash."""
    book = venue.book[0]
    while book.statement < len(venue.holdings):
        i = book.statement
        holding = venue.holdings[i]
        book.statement += 1
        if holding.quantity != 0 or holding.ordered == 1:
            holding.ordered = 0
            write_plain(report, ExecutionKind.POSITION, book.close_ns, i)
            report.quantity = holding.quantity
            return True
    book.statement += 1
    write_plain(report, ExecutionKind.CASH, book.close_ns, -1)
    report.price = book.cash
    return True


@kernel
def write_plain(report, kind, time_ns, instrument):
    """A report that says nothing more."""
    report.kind = kind
    report.time_ns = time_ns
    report.execution_id = 0
    report.reference_id = 0
    report.instrument = instrument
    report.order_ns = 0
    report.intent = 0
    report.attempt = 0
    report.side = 0
    report.quantity = 0
    report.price = 0
    report.reference_price = 0
    report.fee = 0
    report.cumulative = 0


@kernel
def copy_report(target, source):
    target.kind = source.kind
    target.time_ns = source.time_ns
    target.execution_id = source.execution_id
    target.reference_id = source.reference_id
    target.instrument = source.instrument
    target.order_ns = source.order_ns
    target.intent = source.intent
    target.attempt = source.attempt
    target.side = source.side
    target.quantity = source.quantity
    target.price = source.price
    target.reference_price = source.reference_price
    target.fee = source.fee
    target.cumulative = source.cumulative


@kernel
def deliver(venue, rules, report, due_ns):
    """Queue a report for `due_ns`; or, where faults are set, never, later or twice."""
    book = venue.book[0]
    faults = rules.faults[0]
    if chance(book, faults.lose):
        return
    copies = 1
    if book.waiting < BACKLOG and chance(book, faults.duplicate):
        copies = 2
    for _ in range(copies):
        due = due_ns
        if chance(book, faults.delay):
            due += faults.delay_ns // MICRO * (draw(book) * MICRO // MODULUS + 1)
        k = place(venue, due)
        if k >= 0:
            copy_report(venue.queue[k], report)
            venue.queue[k].due_ns = due


@kernel
def place(venue, due_ns):
    """Open a place in the queue behind all that is due by `due_ns`; -1 where it is full."""
    book = venue.book[0]
    rows = len(venue.queue)
    if book.waiting == rows:
        book.overflow += 1
        return -1
    k = book.head + book.waiting
    k = k - rows if k >= rows else k
    book.waiting += 1
    while k != book.head:
        before = k - 1 if k > 0 else rows - 1
        if venue.queue[before].due_ns <= due_ns:
            break
        venue.queue[k] = venue.queue[before]
        k = before
    return k


@kernel
def after(venue, k):
    """The place in the queue after `k`."""
    return k + 1 if k + 1 < len(venue.queue) else 0


# --- chance


@kernel
def draw(book):
    """The next number of the generator, from 1 to MODULUS - 1."""
    book.random = book.random * FACTOR % MODULUS
    return book.random


@kernel
def chance(book, probability):
    """True with `probability` in millionths."""
    if probability == 0:
        return False
    return draw(book) * MICRO < probability * MODULUS


@kernel
def heads(book):
    return draw(book) % 2 == 0
