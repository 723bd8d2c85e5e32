"""Cash, book cost, realised result and fees: double entry, exact, by strategy and instrument.

Every fill moves four accounts whose changes add up to zero: cash, book (what holdings cost), realised
(credit) and fees (debit):

    d cash + d book - d realised + d fees = 0

So `cash + sum(book) - realised + fees` is the initial cash, after every event, to the last millionth. A
position is the sum of its holdings: one for each strategy that can hold the instrument, and the last one for
no strategy, where an execution that nobody asked for is kept.

What is bought belongs to the strategy whose change of target made the order; what is sold is taken from that
strategy first, then from the others in order. More than is held can only be sold by a venue that contradicts
itself: the rest is a negative holding of no strategy.
"""

from operators.breakers import costs_paid, round_trip
from operators.compiled import kernel, routine
from schemas.codes import Side


@kernel
def book_of(quantity, book, part):
    """The cost of `part` > 0 lots out of a holding at its average cost, towards zero; the rest stays with the
    rest. `quantity` and `book` may both be negative.
    """
    sign = 1 if quantity > 0 else -1
    quantity, book = sign * quantity, sign * book
    if part == quantity:
        return sign * book
    each = book // quantity
    rest = book % quantity
    return sign * (each * part + rest * part // quantity)


@kernel
def move(state, i, h, signed, price, fee):
    """Holding `h` of instrument `i` changes by `signed` lots at `price`, opening or closing but not both, for
    a `fee`.
    """
    account = state.account[0]
    position = state.positions[i]
    holding = state.holdings[h]
    if holding.quantity == 0 or (holding.quantity > 0) == (signed > 0):
        book = signed * price
        realised = 0
    else:
        book = -book_of(holding.quantity, holding.book, abs(signed))
        realised = -signed * price + book
    holding.quantity += signed
    position.quantity += signed
    holding.book += book
    position.book += book
    holding.realised += realised
    account.realised += realised
    holding.fees += fee
    account.fees += fee
    account.cash -= signed * price + fee
    holding.trade += realised - fee


@routine
def apply_fill(state, rules, out, i, strategy, side, quantity, price, reference_price, fee):
    """Book a fill of `quantity` lots > 0 at `price` millionths a lot, `fee` millionths in all, for an order
    of `strategy` (-1: none). A bust is booked as the opposite fill with the fee negative.
    """
    account = state.account[0]
    me = rules.instruments[i]
    sign = 1 if side == Side.BUY else -1
    if reference_price > 0:
        cost = sign * quantity * (price - reference_price)
        account.costs += cost
        if strategy >= 0:
            costs_paid(state, rules, strategy, cost + fee)
    own = me.last_holding - 1  # of no strategy
    for h in range(me.first_holding, me.last_holding):
        if rules.holdings[h].strategy == strategy:
            own = h
    left = close(state, rules, out, i, own, sign, quantity, quantity, price, fee)
    for h in range(me.first_holding, me.last_holding):
        left = close(state, rules, out, i, h, sign, left, quantity, price, fee)
    if left > 0:
        opened = own if side == Side.BUY else me.last_holding - 1
        move(state, i, opened, sign * left, price, fee - fee_of(fee, quantity - left, quantity))


@kernel
def fee_of(fee, part, quantity):
    """The fee on the first `part` lots of `quantity`: parts add up to all of it."""
    return fee // quantity * part + fee % quantity * part // quantity


@kernel
def close(state, rules, out, i, h, sign, left, quantity, price, fee):
    """Take from `left` lots what closes holding `h`; returns what is left then."""
    holding = state.holdings[h]
    if left == 0 or holding.quantity * sign >= 0:
        return left
    part = min(left, abs(holding.quantity))
    after = left - part
    share = fee_of(fee, quantity - after, quantity) - fee_of(fee, quantity - left, quantity)
    move(state, i, h, sign * part, price, share)
    if holding.quantity == 0:
        if rules.holdings[h].strategy >= 0:
            round_trip(state, rules, out, rules.holdings[h].strategy, holding.trade)
        holding.trade = 0
    return after
