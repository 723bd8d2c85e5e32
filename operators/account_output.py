"""How the account stage writes its outputs: one row each, from the state as it stands."""

from operators.compiled import kernel
from operators.order_lifecycle import is_live

ORDERS, EXECUTIONS, DECISIONS, EQUITY = range(4)  # places in `Output.counts`


@kernel
def record_decision(
    state, out, i, strategy, stage, outcome, reason, target, approved, price, observed, limit
):
    """Append a decision; returns its sequence."""
    account = state.account[0]
    row = out.decisions[out.counts[DECISIONS]]
    out.counts[DECISIONS] += 1
    row.sequence = account.sequence
    account.sequence += 1
    row.time_ns = account.time_ns
    row.instrument = i
    row.strategy = strategy
    row.stage = stage
    row.outcome = outcome
    row.reason = reason
    row.target = target
    row.approved = approved
    row.position = state.positions[i].quantity if i >= 0 else 0
    row.reference_price = price
    row.observed = observed
    row.limit = limit
    return row.sequence


@kernel
def record_order(state, out, i, kind, decision):
    account = state.account[0]
    order = state.orders[i]
    row = out.orders[out.counts[ORDERS]]
    out.counts[ORDERS] += 1
    row.sequence = account.sequence
    account.sequence += 1
    row.time_ns = account.time_ns
    row.kind = kind
    row.instrument = i
    row.strategy = order.strategy
    row.order_ns = order.order_ns
    row.intent = order.intent
    row.attempt = order.attempt
    row.side = order.side
    row.quantity = order.quantity
    row.limit_price = order.limit_price
    row.reference_price = order.reference_price
    row.decision = decision


@kernel
def record_execution(state, out, i, kind, time_ns, quantity, price, reference_price, fee):
    account = state.account[0]
    order = state.orders[i]
    row = out.executions[out.counts[EXECUTIONS]]
    out.counts[EXECUTIONS] += 1
    row.number = account.execution_number
    account.execution_number += 1
    row.time_ns = time_ns
    row.known_ns = account.time_ns
    row.kind = kind
    row.instrument = i
    row.order_ns = order.order_ns
    row.intent = order.intent
    row.attempt = order.attempt
    row.side = order.side
    row.quantity = quantity
    row.price = price
    row.reference_price = reference_price
    row.fee = fee
    row.cumulative = order.cumulative
    row.leaves = order.quantity - order.cumulative if is_live(order) else 0
    row.position = state.positions[i].quantity
    row.cash = account.cash


@kernel
def record_equity(state, out):
    account = state.account[0]
    row = out.equity[out.counts[EQUITY]]
    out.counts[EQUITY] += 1
    row.time_ns = account.time_ns
    row.cash = account.cash
    row.position_value = account.equity - account.cash
    row.equity = account.equity
    row.realised_pnl = account.realised
    row.fees = account.fees
    row.costs = account.costs
