"""The paper venue: what a bar does to an open order. Pure; the account stage runs it in a replay.

An order that was sent at the end of one bar fills at the open of the next bar of its instrument, half the
spread and the slippage worse than that open, never beyond its limit, and never more than `participation` of
the bar's volume: the rest waits for the following bar. A bar without volume fills nothing. Prices in
millionths; all roundings are against the trader.
"""

from operators.compiled import kernel
from schemas.codes import Side
from schemas.records import MICRO


@kernel
def fill_price(side, price, limits):
    """`price` worsened by half the spread and the slippage."""
    worse = -(-price * (limits.half_spread + limits.slippage) // MICRO)
    if side == Side.BUY:
        return max(price + worse, 1)
    return max(price - worse, 1)


@kernel
def fee_per_unit(price, limits):
    """Commission on one unit at `price`."""
    return limits.commission_per_unit - (-price * limits.commission_share // MICRO)


@kernel
def fill(side, leaves, limit_price, open_price, volume, limits):
    """(quantity, price, fee) of the fill of an order at the open of a bar; quantity 0 is no fill."""
    quantity = min(leaves, volume * limits.participation // MICRO)
    price = fill_price(side, open_price, limits)
    if limit_price > 0:
        if side == Side.BUY and price > limit_price:
            quantity = 0
        if side == Side.SELL and price < limit_price:
            quantity = 0
    return quantity, price, quantity * fee_per_unit(price, limits)
