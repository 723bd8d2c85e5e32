"""Cash, book cost, realised result and fees: double entry, exact.

Every fill moves four accounts whose changes add up to zero: cash, book (what positions cost), realised
(credit) and fees (debit):

    d cash + d book - d realised + d fees = 0

So `cash + sum(book) - realised + fees` is the initial cash, after every event, to the last millionth.
"""

from operators.compiled import kernel
from schemas.codes import Side


@kernel
def book_of(position, quantity):
    """The cost of `quantity` out of the position at its average cost, rounded down; the rest stays with
    the rest.
    """
    if quantity == position.quantity:
        return position.book
    each = position.book // position.quantity
    rest = position.book % position.quantity
    return each * quantity + rest * quantity // position.quantity


@kernel
def apply_fill(account, position, side, quantity, price, reference_price, fee):
    """Book one fill: `quantity` lots > 0 at `price` millionths a lot, `fee` millionths in all."""
    value = quantity * price
    if side == Side.BUY:
        account.cash -= value
        position.book += value
        position.quantity += quantity
        account.costs += quantity * (price - reference_price)
    else:
        book = book_of(position, quantity)
        account.cash += value
        position.book -= book
        position.quantity -= quantity
        account.realised += value - book
        account.costs += quantity * (reference_price - price)
    account.cash -= fee
    account.fees += fee
